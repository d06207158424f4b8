/* The routes, and errors in OpenAI's words. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/api_body.h"
#include "daemon/buf.h"
#include "daemon/conn.h"
#include "daemon/http.h"
#include "daemon/json.h"
#include "daemon/log.h"
#include "daemon/server_internal.h"

/* ---- errors ---- */

/* The one table errno -> HTTP status. What is not here is our own fault: 500. */
static const struct {
    int code;
    int status;
} status_of[] = {
    {EINVAL, 400}, {E2BIG, 400},     {ENOTSUP, 400}, {ENOENT, 404}, {ENOMEM, 503},    {ENOSPC, 503},
    {EAGAIN, 503}, {ECANCELED, 503}, {EBUSY, 503},   {EACCES, 403}, {ETIMEDOUT, 504},
};

static const char *type_of(int status) {
    switch (status) {
    case 404: return "not_found_error";
    case 403: return "permission_error";
    case 503: return "unavailable_error";
    case 501: return "not_supported_error";
    default: return status < 500 ? "invalid_request_error" : "server_error";
    }
}

void api_fault_set(struct api_fault *f, int code, const char *fmt, ...) {
    va_list ap;
    *f = (struct api_fault){.status = 500};
    for (size_t i = 0; i < ARRAY_LEN(status_of); i++)
        if (status_of[i].code == -code) f->status = status_of[i].status;
    f->type = type_of(f->status);
    f->e.code = code;
    va_start(ap, fmt);
    vsnprintf(f->e.msg, sizeof(f->e.msg), fmt, ap);
    va_end(ap);
}

void api_put_error(struct buf *b, const struct api_fault *f) {
    buf_str(b, "{\"error\":{\"message\":");
    json_put_cstr(b, f->e.msg);
    buf_printf(b, ",\"type\":\"%s\",\"param\":", f->type);
    if (f->param[0])
        json_put_cstr(b, f->param);
    else
        buf_str(b, "null");
    if (f->code)
        buf_printf(b, ",\"code\":\"%s\"", f->code);
    else
        buf_printf(b, ",\"code\":%d", f->status);
    if (f->n_ctx) buf_printf(b, ",\"n_prompt_tokens\":%u,\"n_ctx\":%u", f->n_prompt, f->n_ctx);
    buf_str(b, "}}");
}

void api_error(struct conn *c, const struct api_fault *f, const char *headers) {
    struct buf b = {0};
    api_put_error(&b, f);
    if (b.failed)
        conn_abort(c);
    else
        conn_reply(c, f->status, "application/json", headers, b.p, b.n);
    buf_fini(&b);
}

/* ---- routes ---- */

static void post_chat(struct server *s, struct conn *c, char *body, size_t n) {
    call_start(s, c, /* is_chat= */ true, body, n);
}

static void post_completions(struct server *s, struct conn *c, char *body, size_t n) {
    call_start(s, c, /* is_chat= */ false, body, n);
}

static void post_limit(struct server *s, struct conn *c, char *body, size_t n) {
    api_info_limit(s, c, body, n);
    free(body);
}

static const struct route_entry {
    const char *path;
    enum http_verb verb;
    enum route route;
    bool is_admin; /* on the admin socket alone */
    void (*get)(struct server *s, struct conn *c);
    void (*post)(struct server *s, struct conn *c, char *body, size_t n); /* takes the body */
} routes[] = {
    {"/v1/chat/completions", HTTP_VERB_POST, ROUTE_CHAT, false, NULL, post_chat},
    {"/v1/completions", HTTP_VERB_POST, ROUTE_COMPLETIONS, false, NULL, post_completions},
    {"/v1/models", HTTP_VERB_GET, ROUTE_MODELS, false, api_info_models, NULL},
    {"/health", HTTP_VERB_GET, ROUTE_HEALTH, false, api_info_health, NULL},
    {"/metrics", HTTP_VERB_GET, ROUTE_METRICS, false, api_info_metrics, NULL},
    {"/ebb/status", HTTP_VERB_GET, ROUTE_STATUS, false, api_info_status, NULL},
    {"/ebb/ladder", HTTP_VERB_GET, ROUTE_LADDER, false, api_info_ladder, NULL},
    {"/ebb/events", HTTP_VERB_GET, ROUTE_EVENTS, false, api_info_events, NULL},
    {"/ebb/limit", HTTP_VERB_POST, ROUTE_LIMIT, true, NULL, post_limit},
};

static void refuse(struct conn *c, int status, const char *headers, const char *text) {
    struct api_fault f = {.status = status, .type = type_of(status)};
    snprintf(f.e.msg, sizeof(f.e.msg), "%s", text);
    api_error(c, &f, headers);
}

void api_request(void *ud, struct conn *c, const struct http_request *rq, char *body, size_t n) {
    struct server *s = ud;
    relief_pause(s);
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const struct route_entry *r = &routes[i];
        if (strcmp(r->path, rq->path) != 0) continue;
        conn_set_route(c, r->route);
        if (r->verb != rq->verb) {
            free(body);
            refuse(c, 405, r->verb == HTTP_VERB_GET ? "Allow: GET\r\n" : "Allow: POST\r\n",
                   r->verb == HTTP_VERB_GET ? "Use GET here." : "Use POST here.");
        } else if (r->is_admin && !conn_is_admin(c)) {
            free(body);
            refuse(c, 403, "", "Only on the admin socket (socket.admin_path).");
        } else if (r->post) {
            r->post(s, c, body, n);
        } else {
            free(body);
            r->get(s, c);
        }
        return;
    }
    free(body);
    refuse(c, 404, "", "There is nothing at this path.");
}

void api_fault(void *ud, struct conn *c, int status, const char *text) {
    (void)ud;
    refuse(c, status, status == 503 ? "Retry-After: 2\r\n" : "", text);
}

void api_answered(void *ud, struct conn *c, int status) {
    struct server *s = ud;
    metrics_answer(&s->metrics, (enum route)conn_route(c), status);
    log_event(s->log, LOG_DEBUG, "%s: %d", conn_request_id(c), status);
}
