/* The client's calls: a request out, a JSON tree or an explained failure back. */
#include "daemon/ctl.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "daemon/ctl_http.h"

/* Answers that are not streams come at once; a daemon silent for this long is stuck. */
enum { CALL_WAIT_MS = 30000 };

const char *ctl_bytes(double n, char buf[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;
    while (fabs(n) >= 1024 && u + 1 < ARRAY_LEN(units)) {
        n /= 1024;
        u++;
    }
    snprintf(buf, 32, u == 0 ? "%.0f %s" : "%.1f %s", n, units[u]);
    return buf;
}

void ctl_print(FILE *f, const char *text) {
    if (!isatty(fileno(f))) {
        fputs(text, f);
        return;
    }
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if ((*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7f) continue;
        /* U+0080 to U+009F, control characters too */
        if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f) {
            p++;
            continue;
        }
        putc(*p, f);
    }
}

int ctl_exit_code(int negative_errno) {
    switch (-negative_errno) {
    case EINTR: return CTL_INTERRUPTED;
    case EACCES:
    case EPERM: return CTL_FORBIDDEN;
    case ENAMETOOLONG:
    case EINVAL: return CTL_USAGE;
    case EAGAIN: return CTL_BUSY;
    case EBADMSG:
    case EFBIG:
    case ENOMEM: return CTL_SERVER;
    default: return CTL_UNREACHABLE;
    }
}

int ctl_fail(const struct err *e) {
    int code = ctl_exit_code(e->code);
    if (code == CTL_INTERRUPTED) return code;
    fputs("ebb: ", stderr);
    ctl_print(stderr, e->msg);
    fputc('\n', stderr);
    if (code == CTL_FORBIDDEN)
        fputs("     The socket belongs to another user or group: see `ebb doctor`.\n", stderr);
    if (e->code == -ENOENT || e->code == -ECONNREFUSED)
        fputs("     No daemon listens there. Start ebbd, or name its socket with --socket PATH.\n",
              stderr);
    return code;
}

/* The sentence of an error object, or NULL. Borrowed from the tree. */
static const char *error_text(const cJSON *tree) {
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "message"));
}

int ctl_refused(int status, const char *retry_after, const char *body, size_t n, char type[64]) {
    cJSON *tree = n ? cJSON_ParseWithLength(body, n) : NULL;
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
    const char *text = error_text(tree);
    const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "type"));
    if (type) snprintf(type, 64, "%s", kind ? kind : "");
    fprintf(stderr, "ebb: the daemon answers %d: ", status);
    ctl_print(stderr, text ? text : "(it gives no reason)");
    fputc('\n', stderr);
    if (retry_after && retry_after[0]) {
        fputs("     Try again in ", stderr);
        ctl_print(stderr, retry_after);
        fputs(" s.\n", stderr);
    }
    cJSON_Delete(tree);
    if (status == 503 || status == 429) return CTL_BUSY;
    if (status == 401 || status == 403) return CTL_FORBIDDEN;
    return status >= 500 || status < 400 ? CTL_SERVER : CTL_REFUSED;
}

int ctl_call(const struct ctl *c, const char *socket_path, const char *method, const char *target,
             const cJSON *body, cJSON **ret) {
    struct err e = {0};
    struct ctl_http *h = NULL;
    char *request = NULL, *answer = NULL;
    size_t n_answer;
    int code;
    if (body) {
        request = cJSON_PrintUnformatted(body);
        if (!request) {
            err_set(&e, -ENOMEM, "no memory");
            return ctl_fail(&e);
        }
    }
    /* A plain answer of the model takes as long as it takes. */
    int wait_ms = strncmp(target, "/v1/", 4) == 0 ? -1 : CALL_WAIT_MS;
    if (ctl_http_open(socket_path, method, target, request, c->signal_fd, wait_ms, &h, &e) < 0 ||
        ctl_http_read_all(h, &answer, &n_answer, &e) < 0) {
        code = ctl_fail(&e);
        goto out;
    }
    const struct ctl_head *head = ctl_http_head(h);
    if (head->status != 200) {
        code = ctl_refused(head->status, head->retry_after, answer, n_answer, NULL);
        goto out;
    }
    cJSON *tree = cJSON_ParseWithLength(answer, n_answer);
    if (!tree) {
        err_set(&e, -EBADMSG, "the answer to %s %s is not JSON", method, target);
        code = ctl_fail(&e);
        goto out;
    }
    *ret = tree;
    code = CTL_OK;
out:
    ctl_http_close(h);
    free(answer);
    cJSON_free(request);
    return code;
}

int ctl_get(const char *socket_path, const char *target, int cancel_fd, int wait_ms, cJSON **ret,
            struct err *e) {
    struct ctl_http *h = NULL;
    char *answer = NULL;
    size_t n_answer;
    cJSON *tree = NULL;
    int r = ctl_http_open(socket_path, "GET", target, NULL, cancel_fd, wait_ms, &h, e);
    if (r < 0) goto out;
    r = ctl_http_read_all(h, &answer, &n_answer, e);
    if (r < 0) goto out;
    tree = cJSON_ParseWithLength(answer, n_answer);
    int status = ctl_http_head(h)->status;
    if (status != 200) {
        const char *text = error_text(tree);
        int code = status == 503 || status == 429   ? -EAGAIN
                   : status == 401 || status == 403 ? -EACCES
                                                    : -EBADMSG;
        r = err_set(e, code, "the daemon answers %d: %s", status,
                    text ? text : "(it gives no reason)");
        goto out;
    }
    if (!cJSON_IsObject(tree)) {
        r = err_set(e, -EBADMSG, "the answer to GET %s is not a JSON object", target);
        goto out;
    }
    *ret = tree;
    tree = NULL; /* passed to the caller */
out:
    cJSON_Delete(tree);
    ctl_http_close(h);
    free(answer);
    return r;
}
