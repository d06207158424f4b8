/* `ebb status`, `ladder`, `limit` and `events`: what the daemon says of itself, for people or, with
 * --json, as it came. Keys this client does not know are shown too, under their own names, so that
 * a newer daemon loses nothing here. */
#include "daemon/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config/config.h"
#include "core/err.h"
#include "daemon/ctl_http.h"

static const cJSON *item(const cJSON *o, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static double number(const cJSON *o, const char *key) {
    const cJSON *v = item(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static const char *string(const cJSON *o, const char *key) {
    const char *s = cJSON_GetStringValue(item(o, key));
    return s ? s : "";
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static int print_json(const cJSON *tree) {
    char *text = cJSON_Print(tree);
    if (!text) return CTL_SERVER;
    ctl_print(stdout, text);
    putchar('\n');
    cJSON_free(text);
    return CTL_OK;
}

static bool is_bytes(const char *key) {
    return ends_with(key, "_bytes") || strncmp(key, "bytes_", 6) == 0;
}

/* One value on its line; the key's ending tells the unit. */
static void print_value(const char *key, const cJSON *v) {
    char buf[32];
    if (cJSON_IsNumber(v) && is_bytes(key)) {
        fputs(ctl_bytes(v->valuedouble, buf), stdout);
    } else if (cJSON_IsNumber(v) && ends_with(key, "_mc")) {
        printf("%.1f C", v->valuedouble / 1000);
    } else if (cJSON_IsNumber(v)) {
        printf("%.10g", v->valuedouble);
    } else if (cJSON_IsString(v)) {
        ctl_print(stdout, v->valuestring);
    } else if (cJSON_IsBool(v)) {
        fputs(cJSON_IsTrue(v) ? "yes" : "no", stdout);
    } else if (cJSON_IsNull(v)) {
        bool is_none = strstr(key, "limit") || strcmp(key, "share_bytes") == 0;
        fputs(is_none ? "none" : "unknown", stdout);
    } else {
        char *text = cJSON_PrintUnformatted(v);
        ctl_print(stdout, text ? text : "?");
        cJSON_free(text);
    }
}

/* "key value, key value" of an object. */
static void print_members(const cJSON *o) {
    const cJSON *v;
    bool is_first = true;
    cJSON_ArrayForEach(v, o) {
        if (!is_first) fputs(", ", stdout);
        is_first = false;
        const char *key = v->string ? v->string : "";
        size_t n = strlen(key);
        if (ends_with(key, "_bytes")) n -= 6;
        if (ends_with(key, "_mc")) n -= 3;
        for (size_t i = 0; i < n; i++) putchar(key[i] == '_' ? ' ' : key[i]);
        putchar(' ');
        print_value(key, v);
    }
    putchar('\n');
}

/* The keys that have a place of their own in the text of `ebb status`. */
static const char *const status_known[] = {
    "state",    "level",    "position",  "positions",   "budget_bytes", "resident_bytes", "units",
    "memory",   "kv_bytes", "rss_bytes", "duty",        "threads",      "model",          "thermal",
    "requests", "cpus",     "sources",   "threads_max", "peers",
};

static bool is_known(const char *key) {
    for (size_t i = 0; i < ARRAY_LEN(status_known); i++)
        if (strcmp(key, status_known[i]) == 0) return true;
    return false;
}

/* Sensors that give no value; `ebb doctor` says why. */
static void print_missing(const cJSON *sources) {
    const cJSON *x;
    bool is_first = true;
    cJSON_ArrayForEach(x, sources) {
        if (strcmp(string(x, "state"), "known") == 0) continue;
        fputs(is_first ? "no value  " : ", ", stdout);
        ctl_print(stdout, string(x, "name"));
        is_first = false;
    }
    if (!is_first) puts(" (see ebb doctor)");
}

static void print_status(const cJSON *s) {
    static const char *const levels[] = {"normal", "guarded", "tight", "emergency"};
    char a[32], b[32], k[32], r[32];
    double level = number(s, "level");
    fputs("state     ", stdout);
    ctl_print(stdout, string(s, "state"));
    printf(", level %.0f%s%s\n", level, level >= 0 && level < 4 ? " " : "",
           level >= 0 && level < 4 ? levels[(int)level] : "");
    if (item(s, "model")) {
        fputs("model     ", stdout);
        print_value("model", item(s, "model"));
        putchar('\n');
    }
    printf("position  %.0f of %.0f: ", number(s, "position"), number(s, "positions"));
    const cJSON *u;
    bool is_first = true;
    cJSON_ArrayForEach(u, item(s, "units")) {
        if (!cJSON_IsNumber(u) || u->valuedouble <= 0) continue;
        printf("%s%.0f ", is_first ? "" : ", ", u->valuedouble);
        ctl_print(stdout, u->string ? u->string : "");
        is_first = false;
    }
    printf("\nbytes     budget %s, resident %s, kv %s, rss %s\n",
           cJSON_IsNumber(item(s, "budget_bytes")) ? ctl_bytes(number(s, "budget_bytes"), a)
                                                   : "unlimited",
           ctl_bytes(number(s, "resident_bytes"), b), ctl_bytes(number(s, "kv_bytes"), k),
           ctl_bytes(number(s, "rss_bytes"), r));
    printf("compute   %.0f threads, ", number(s, "threads"));
    if (item(s, "cpus")) {
        fputs("CPUs ", stdout);
        print_value("cpus", item(s, "cpus"));
        fputs(", ", stdout);
    }
    printf("duty %.0f %%\nmemory    ", number(s, "duty"));
    print_members(item(s, "memory"));
    const cJSON *zone, *peer;
    cJSON_ArrayForEach(peer, item(s, "peers")) {
        fputs("peer      ", stdout);
        print_members(peer);
    }
    cJSON_ArrayForEach(zone, item(s, "thermal")) {
        fputs("thermal   ", stdout);
        print_members(zone);
    }
    print_missing(item(s, "sources"));
    fputs("requests  ", stdout);
    print_members(item(s, "requests"));
    const cJSON *v;
    cJSON_ArrayForEach(v, s) {
        if (!v->string || is_known(v->string)) continue;
        printf("%-9s ", v->string);
        if (cJSON_IsObject(v))
            print_members(v);
        else {
            print_value(v->string, v);
            putchar('\n');
        }
    }
}

int ctl_status(const struct ctl *c) {
    cJSON *s;
    int code = ctl_call(c, c->socket_path, "GET", "/ebb/status", NULL, &s);
    if (code != CTL_OK) return code;
    if (c->is_json)
        code = print_json(s);
    else
        print_status(s);
    cJSON_Delete(s);
    return code;
}

static void print_ladder(const cJSON *l) {
    char buf[32];
    const cJSON *steps = item(l, "steps"), *step;
    double position = number(l, "position"), freed = 0;
    int i = 0;
    fputs("ladder ", stdout);
    ctl_print(stdout, string(l, "name"));
    printf(", position %.0f of %d\n", position, cJSON_GetArraySize(steps));
    printf("%5s  %-6s %-14s %12s %12s %12s  %s\n", "step", "unit", "rungs", "frees", "in all",
           "cost", "taken");
    cJSON_ArrayForEach(step, steps) {
        const cJSON *unit = item(step, "unit");
        char name[32], rungs[48];
        if (cJSON_IsString(unit))
            snprintf(name, sizeof(name), "%s", unit->valuestring);
        else
            snprintf(name, sizeof(name), "%.0f", number(step, "unit"));
        snprintf(rungs, sizeof(rungs), "%s > %s", string(step, "from"), string(step, "to"));
        freed += number(step, "bytes");
        printf("%5d  ", ++i);
        ctl_print(stdout, name);
        printf("%*s ", (int)(6 - MIN(strlen(name), (size_t)6)), "");
        ctl_print(stdout, rungs);
        printf("%*s", (int)(14 - MIN(strlen(rungs), (size_t)14)), "");
        printf(" %12s", ctl_bytes(number(step, "bytes"), buf));
        printf(" %12s", ctl_bytes(freed, buf));
        printf(" %12.6g  %s\n", number(step, "cost"),
               cJSON_IsTrue(item(step, "taken")) ? "yes" : "-");
    }
}

int ctl_ladder(const struct ctl *c) {
    cJSON *l;
    int code = ctl_call(c, c->socket_path, "GET", "/ebb/ladder", NULL, &l);
    if (code != CTL_OK) return code;
    if (c->is_json)
        code = print_json(l);
    else
        print_ladder(l);
    cJSON_Delete(l);
    return code;
}

int ctl_limit(const struct ctl *c) {
    cJSON *answer;
    int code;
    if (!c->text) {
        code = ctl_call(c, c->socket_path, "GET", "/ebb/status", NULL, &answer);
        if (code != CTL_OK) return code;
        if (c->is_json) {
            code = print_json(item(answer, "memory"));
        } else {
            char a[32];
            fputs("memory    ", stdout);
            print_members(item(answer, "memory"));
            printf("budget    %s\n", cJSON_IsNumber(item(answer, "budget_bytes"))
                                         ? ctl_bytes(number(answer, "budget_bytes"), a)
                                         : "unlimited");
        }
        cJSON_Delete(answer);
        return code;
    }

    uint64_t bytes;
    struct err e = {0};
    if (config_parse_bytes(c->text, &bytes) < 0) {
        err_set(&e, -EINVAL, "limit \"%s\": want a size such as 96MiB or 1.5GiB, or auto", c->text);
        return ctl_fail(&e);
    }
    cJSON *body = cJSON_CreateObject();
    if (bytes == CONFIG_AUTO_BYTES)
        cJSON_AddStringToObject(body, "bytes", "auto");
    else
        cJSON_AddNumberToObject(body, "bytes", (double)bytes);
    code = ctl_call(c, c->admin_path, "POST", "/ebb/limit", body, &answer);
    cJSON_Delete(body);
    if (code != CTL_OK) return code;
    if (c->is_json)
        code = print_json(answer);
    else
        print_members(answer);
    cJSON_Delete(answer);
    return code;
}

/* --- events --- */

struct event_view {
    const struct ctl *c;
    long n_seen;
};

static bool show_event(void *ud, const char *event, const char *data) {
    struct event_view *v = ud;
    cJSON *tree = cJSON_Parse(data);
    if (v->c->is_json) {
        /* One line an event: {"event": name, ...the daemon's keys}. */
        if (cJSON_IsObject(tree) && !item(tree, "event"))
            cJSON_AddStringToObject(tree, "event", event);
        char *text = tree ? cJSON_PrintUnformatted(tree) : NULL;
        if (text) ctl_print(stdout, text);
        putchar('\n');
        cJSON_free(text);
    } else {
        /* The daemon says when it happened; if it does not, now will do. */
        char clock[16];
        const cJSON *at = item(tree, "time");
        time_t when = cJSON_IsNumber(at) ? (time_t)at->valuedouble : time(NULL);
        struct tm tm;
        cJSON_DeleteItemFromObjectCaseSensitive(tree, "time");
        if (!localtime_r(&when, &tm)) tm = (struct tm){0};
        strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
        printf("%s  ", clock);
        ctl_print(stdout, event);
        fputs("  ", stdout);
        if (cJSON_IsObject(tree)) {
            print_members(tree);
        } else {
            ctl_print(stdout, data);
            putchar('\n');
        }
    }
    fflush(stdout);
    cJSON_Delete(tree);
    v->n_seen++;
    return v->c->n_events == 0 || v->n_seen < v->c->n_events;
}

int ctl_events(const struct ctl *c) {
    struct err e = {0};
    struct ctl_http *h = NULL;
    struct ctl_sse sse = {0};
    struct event_view view = {.c = c};
    char buf[4096];
    int code = CTL_OK;
    int r = ctl_http_open(c->socket_path, "GET", "/ebb/events", NULL, c->signal_fd, -1, &h, &e);
    if (r < 0) return ctl_fail(&e);
    const struct ctl_head *head = ctl_http_head(h);
    if (head->status != 200) {
        char *answer = NULL;
        size_t n = 0;
        ignore_result(ctl_http_read_all(h, &answer, &n, &e)); /* the status says enough */
        code = ctl_refused(head->status, head->retry_after, answer, n, NULL);
        free(answer);
        goto out;
    }
    for (;;) {
        int64_t n = ctl_http_read(h, buf, sizeof(buf), &e);
        if (n == 0) {
            fputs("ebb: the daemon ended the stream\n", stderr);
            code = CTL_UNREACHABLE;
            break;
        }
        if (n == -EINTR) break; /* Ctrl-C is how one stops looking */
        if (n < 0) {
            code = ctl_fail(&e);
            break;
        }
        r = ctl_sse_feed(&sse, buf, (size_t)n, show_event, &view);
        if (r == 1) break;
        if (r < 0) {
            err_set(&e, r, "an event is too long");
            code = ctl_fail(&e);
            break;
        }
    }
out:
    ctl_sse_fini(&sse);
    ctl_http_close(h);
    return code;
}
