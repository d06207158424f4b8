#include "daemon/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/conn.h"
#include "daemon/sse.h"

struct listener {
    struct conn *c; /* borrowed until it is gone; NULL = free place */
    uint64_t n_missed;
};

struct events {
    struct listener listeners[EVENTS_MAX_LISTENERS];
};

int events_create(struct events **ret) {
    struct events *ev = calloc(1, sizeof(*ev));
    if (!ev) return -ENOMEM;
    *ret = ev;
    return 0;
}

void events_destroy(struct events *ev) {
    free(ev);
}

static void on_gone(void *ud) {
    struct listener *l = ud;
    *l = (struct listener){0};
}

bool events_join(struct events *ev, struct conn *c, const char *name, const char *json) {
    static const struct conn_owner owner = {.gone = on_gone};
    for (size_t i = 0; i < ARRAY_LEN(ev->listeners); i++) {
        struct listener *l = &ev->listeners[i];
        if (l->c) continue;
        *l = (struct listener){.c = c};
        conn_own(c, &owner, l);
        sse_begin(c);
        if (l->c) sse_event(l->c, name, json, strlen(json));
        return true;
    }
    return false;
}

static void tell_missed(struct listener *l) {
    char json[64];
    if (l->n_missed == 0) return;
    int n = snprintf(json, sizeof(json), "{\"missed\":%llu}", (unsigned long long)l->n_missed);
    l->n_missed = 0;
    sse_event(l->c, "missed", json, (size_t)n);
}

void events_send(struct events *ev, uint64_t buffer_limit, const char *name, const char *json) {
    for (size_t i = 0; i < ARRAY_LEN(ev->listeners); i++) {
        struct listener *l = &ev->listeners[i];
        if (!l->c) continue;
        if (conn_unsent(l->c) > buffer_limit) {
            l->n_missed++;
            continue;
        }
        tell_missed(l);
        if (l->c) sse_event(l->c, name, json, strlen(json)); /* it may have gone just now */
    }
}

void events_ping(struct events *ev) {
    for (size_t i = 0; i < ARRAY_LEN(ev->listeners); i++) {
        struct listener *l = &ev->listeners[i];
        if (l->c && conn_unsent(l->c) == 0) sse_comment(l->c, "ping");
    }
}

void events_end(struct events *ev) {
    for (size_t i = 0; i < ARRAY_LEN(ev->listeners); i++) {
        struct listener *l = &ev->listeners[i];
        struct conn *c = l->c;
        *l = (struct listener){0};
        if (c) sse_end(c);
    }
}

unsigned events_n(const struct events *ev) {
    unsigned n = 0;
    for (size_t i = 0; i < ARRAY_LEN(ev->listeners); i++) n += ev->listeners[i].c != NULL;
    return n;
}
