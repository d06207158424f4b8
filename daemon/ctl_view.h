/* What `ebb top` shows of a daemon, as a screen, as a line of fields, or as JSON. Pure: answers of
 * the daemon in, text out.
 *
 * The daemon's words are hostile and its numbers may be missing: what is not there is shown as "-",
 * never as zero. A daemon that does not answer is shown as that, and nothing of its last answer
 * beside the time it came. One thread. */
#ifndef EBB_DAEMON_CTL_VIEW_H
#define EBB_DAEMON_CTL_VIEW_H

#include <stdio.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "core/err.h"

struct ctl_screen;

enum { CTL_UNITS_MAX = 4096, CTL_EVENTS_KEPT = 64 };

/* The rung of each unit, from the ladder and a position. */
struct ctl_units {
    unsigned n;                  /* layers and head; 0 = unknown */
    char letters[CTL_UNITS_MAX]; /* the head, then layer 0, 1, ...: F full, H high, S swsc, P paged,
                                  * ? a rung that this client does not know */
};

/* Reads the answer to GET /ebb/ladder. Anything that makes no sense gives n = 0. */
void ctl_units_read(const cJSON *ladder, const cJSON *status, struct ctl_units *ret);

struct ctl_event {
    char clock[9];  /* "14:05:59", local */
    char text[200]; /* cut if longer; still the daemon's words */
};

struct ctl_view {
    cJSON *status;   /* owned; the last answer, NULL if the last call failed */
    cJSON *ladder;   /* owned; NULL = unknown */
    struct err why;  /* why there is no status */
    time_t now;      /* of the last call */
    time_t answered; /* of the last answer; 0 = never */
    struct ctl_events {
        struct ctl_event all[CTL_EVENTS_KEPT]; /* a ring */
        unsigned long n;                       /* that came, ever */
    } events;
    char events_why[240]; /* why no events are followed; "" = they are */
};
void ctl_view_fini(struct ctl_view *v);

/* Keeps an event; data: its JSON. Without a "time" of its own it happened at `now`. */
void ctl_view_event(struct ctl_view *v, time_t now, const char *name, const char *data);
/* The same for what this client saw itself. */
void ctl_view_say(struct ctl_view *v, time_t now, const char *text);

/* Fills a screen, which is cleared before. */
void ctl_view_screen(const struct ctl_view *v, struct ctl_screen *s);
/* One line of key=value fields, always the same ones in the same order: "-" unknown, "none" for a
 * limit that is not set; values hold no blanks. */
void ctl_view_line(const struct ctl_view *v, FILE *f);
/* One line of JSON: the status with "time" and "rungs" {"head": "full", "0": "high", ...}
 * added, or
 * {"time","state":"unreachable","error"}. False without memory. */
bool ctl_view_json(const struct ctl_view *v, FILE *f);

#endif
