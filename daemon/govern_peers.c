/* What the daemon says to the others of its machine, and takes from them: see peers.h. */
#include <string.h>

#include "core/ladder.h"
#include "core/prefix.h"
#include "daemon/log.h"
#include "daemon/peers.h"
#include "daemon/server_internal.h"

enum { LOOK_AGAIN_MS = 50 };

/* "two" of /etc/ebb/two.yaml: as the units' instances are called. */
static void put_name(const char *config_path, char *ret, size_t cap) {
    const char *slash = config_path ? strrchr(config_path, '/') : NULL;
    const char *base = slash ? slash + 1 : config_path ? config_path : "";
    const char *dot = strrchr(base, '.');
    size_t n = dot && dot > base ? (size_t)(dot - base) : strlen(base);
    n = MIN(n, cap - 1);
    memcpy(ret, base, n);
    ret[n] = '\0';
}

void govern_open_peers(struct server *s) {
    struct err e = {0};
    char name[PEERS_MAX_NAME];
    if (!s->config.memory_peers[0]) return;
    put_name(s->config_path, name, sizeof(name));
    if (peers_open(s->config.memory_peers, name, &s->peers, &e) < 0)
        log_event(s->log, LOG_INFO, "memory.peers: %s; memory is not shared with other daemons",
                  e.msg);
}

void govern_close_peers(struct server *s) {
    peers_close(s->peers);
    s->peers = NULL;
}

static uint64_t add(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* What it could use. Below the top it wants the margin of the next step; its own limits bound it.
 */
static uint64_t most_bytes(const struct server *s, const struct gov_settings *set,
                           const struct gov_input *in) {
    const struct server_swap *w = &s->swap;
    bool is_at_top = w->pager && in->position == 0;
    uint64_t most = add(add(ladder_bytes(s->model.ladder, 0), in->other_bytes), in->wanted_bytes);
    if (!is_at_top) most = add(most, set->margin_bytes / 2);
    most = MIN(most, MIN(set->limit_bytes, in->operator_limit_bytes));
    if (w->reading.has_cgroup)
        most = MIN(most, add(add(in->weight_bytes, in->other_bytes), in->cgroup_left_bytes));
    return most;
}

static struct peers_self self_of(const struct server *s, const struct gov_settings *set,
                                 const struct gov_input *in) {
    const struct sense_reading *r = &s->swap.reading;
    uint64_t kept = s->model.prefix ? prefix_bytes(s->model.prefix) : 0;
    return (struct peers_self){
        .claim = {.weight = s->config.memory_weight,
                  .held_bytes = add(add(in->weight_bytes, in->other_bytes), kept),
                  .most_bytes = most_bytes(s, set, in)},
        .reserve_bytes = set->reserve_bytes,
        .is_over_limit = in->is_over_limit || (r->has_cgroup && r->cgroup_over_bytes > 0),
    };
}

void govern_await_share(struct server *s) {
    uint64_t start_us = server_now_us(), now_us = start_us;
    struct gov_settings set;
    govern_settings(s, &set);
    while (s->peers && now_us - start_us < PEERS_START_US) {
        govern_sense(s);
        struct gov_input in = {
            .operator_limit_bytes = s->swap.operator_limit_bytes,
            .has_mem = s->swap.reading.has_mem,
            .mem_available_bytes = s->swap.reading.mem_available_bytes,
            .cgroup_left_bytes = s->swap.reading.cgroup_left_bytes,
            .other_bytes = govern_other_bytes(s),
        };
        const struct peers_self self = self_of(s, &set, &in);
        if (peers_is_free(s->peers, &self, now_us, &in)) return;
        uv_sleep(LOOK_AGAIN_MS);
        now_us = server_now_us();
    }
}

void govern_ask_peers(struct server *s, const struct gov_settings *set, uint64_t now_us,
                      struct gov_input *in) {
    const struct peers_self self = self_of(s, set, in);
    peers_before(s->peers, &self, now_us, in);
}

void govern_tell_peers(struct server *s, const struct gov_input *in, uint64_t now_us) {
    uint64_t coming = add(ladder_bytes(s->model.ladder, s->swap.out.position), in->other_bytes);
    peers_after(s->peers, in, &s->swap.out, coming, now_us);
}
