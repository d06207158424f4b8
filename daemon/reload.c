/* What became of the last reload, told until the next good one: in the manager's status, in GET
 * /ebb/status, in /metrics and as an event. server.c does the reload itself. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/buf.h"
#include "daemon/events.h"
#include "daemon/json.h"
#include "daemon/server_internal.h"

int reload_check(const struct server *s, const struct config *next, struct err *e) {
    if (strcmp(s->config.model_path, next->model_path) == 0) return 0;
    /* It is the next start that will open it, and that may be at night. */
    int fd = open(next->model_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_sys(e, -errno, "%s: model.path: cannot open %s", s->config_path,
                       next->model_path);
    close(fd);
    return 0;
}

static void put_fields(const struct server *s, struct buf *b) {
    const struct server_reload *l = &s->reload;
    buf_printf(b, "\"result\":\"%s\",\"error\":", l->error[0] ? "failed" : "ok");
    if (l->error[0])
        json_put_cstr(b, l->error);
    else
        buf_str(b, "null");
    buf_str(b, ",\"needs_restart\":");
    if (l->needs_restart[0])
        json_put_cstr(b, l->needs_restart);
    else
        buf_str(b, "null");
}

void reload_note(struct server *s, const char *error, const char *needs_restart) {
    struct server_reload *l = &s->reload;
    struct buf b = {0};
    l->has_been = true;
    l->at_us = server_now_us();
    snprintf(l->error, sizeof(l->error), "%s", error);
    snprintf(l->needs_restart, sizeof(l->needs_restart), "%s", needs_restart);
    buf_str(&b, "{");
    put_fields(s, &b);
    buf_add(&b, "}", 2); /* with its NUL */
    if (!b.failed) events_send(s->events, s->config.serve_buffer_bytes, "reload", b.p);
    buf_fini(&b);
}

void reload_put_json(const struct server *s, struct buf *b) {
    buf_str(b, "\"reload\":");
    if (!s->reload.has_been) {
        buf_str(b, "null");
        return;
    }
    buf_str(b, "{");
    put_fields(s, b);
    buf_printf(b, ",\"age_s\":%.1f}", (double)(server_now_us() - s->reload.at_us) / 1e6);
}

void reload_put_metrics(const struct server *s, struct buf *b) {
    const struct server_reload *l = &s->reload;
    char text[2 * sizeof(l->error) + 4], labels[sizeof(text) + 64];
    if (!l->has_been) return;
    metrics_label(l->error, text, sizeof(text));
    snprintf(labels, sizeof(labels), "{result=\"%s\",error=\"%s\"}", l->error[0] ? "failed" : "ok",
             text);
    metrics_put(b, "ebb_config_last_reload_info", "gauge", "What became of the last reload.",
                labels, 1);
    metrics_put(b, "ebb_config_last_reload_successful", "gauge", "1 if the settings were good.", "",
                l->error[0] ? 0 : 1);
    metrics_put(b, "ebb_config_last_reload_age_seconds", "gauge", "Since the last reload.", "",
                (double)(server_now_us() - l->at_us) / 1e6);
}
