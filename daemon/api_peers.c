/* The other daemons of the machine, in the answers to GET /ebb/status and /metrics. */
#include <inttypes.h>

#include "daemon/buf.h"
#include "daemon/json.h"
#include "daemon/metrics.h"
#include "daemon/peers.h"
#include "daemon/server_internal.h"

void api_peers_put_share(struct buf *b, const struct server *s) {
    uint64_t share = peers_share_bytes(s->peers);
    buf_str(b, "\"share_bytes\":");
    api_info_put_bytes(b, share ? share : UINT64_MAX);
    buf_printf(b, ",\"rising\":%s", peers_has_turn(s->peers) ? "true" : "false");
}

void api_peers_put(struct buf *b, const struct server *s) {
    uint32_t n;
    const struct peers_other *o = peers_others(s->peers, &n);
    buf_str(b, "\"peers\":[");
    for (uint32_t i = 0; i < n; i++) {
        buf_str(b, i ? ",{\"name\":" : "{\"name\":");
        json_put_cstr(b, o[i].name);
        buf_printf(b, ",\"pid\":%" PRIu64 ",\"weight\":%" PRIu32 ",\"held_bytes\":%" PRIu64,
                   o[i].id, o[i].claim.weight, o[i].claim.held_bytes);
        buf_printf(b, ",\"rising\":%s}", o[i].is_rising ? "true" : "false");
    }
    buf_str(b, "]");
}

void api_peers_put_metrics(struct buf *b, const struct server *s) {
    uint64_t share = peers_share_bytes(s->peers);
    uint32_t n;
    peers_others(s->peers, &n);
    metrics_put(b, "ebb_peers", "gauge", "Other daemons that share the machine's memory.", "", n);
    if (share > 0)
        metrics_put(b, "ebb_share_bytes", "gauge",
                    "Of the machine's memory, while other daemons share it.", "", (double)share);
}
