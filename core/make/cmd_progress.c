#include "core/make/cmd_progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BAR_CELLS = 24 };
#define REDRAW_S 0.1  /* a terminal need not be written to more often */
#define LINE_S   15.0 /* plain lines: one in a while, so that logs stay short */
#define QUIET_S  1.0  /* a rate over less than this says nothing */

struct cmd_progress {
    bool is_terminal, has_colour;
    bool is_open;       /* a bar stands on the current line */
    char what[64];      /* the phase; "" = none */
    double start, last; /* of the phase; last drawing */
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct cmd_progress *cmd_progress_create(bool is_terminal, bool has_colour) {
    struct cmd_progress *p = calloc(1, sizeof(*p));
    if (!p) return NULL;
    p->is_terminal = is_terminal;
    p->has_colour = has_colour;
    return p;
}

void cmd_progress_destroy(struct cmd_progress *p) {
    if (p && p->is_open) fputc('\n', stderr);
    free(p);
}

const char *cmd_progress_clock(double seconds, char *buf, size_t n) {
    unsigned s = seconds > 0 && seconds < 1e6 ? (unsigned)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(buf, n, "%u:%02u:%02u", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(buf, n, "%u:%02u", s / 60, s % 60);
    return buf;
}

/* ", 3.2 layers/s, 0:07 left", or nothing while it is too early to tell. */
static void add_rate(char *buf, size_t n, double elapsed, uint64_t done, uint64_t total,
                     const char *unit) {
    buf[0] = '\0';
    if (elapsed < QUIET_S || done == 0) return;
    double rate = (double)done / elapsed;
    char left[16];
    if (done < total)
        snprintf(buf, n, ", %.3g %s/s, %s left", rate, unit,
                 cmd_progress_clock((double)(total - done) / rate, left, sizeof(left)));
    else
        snprintf(buf, n, ", %.3g %s/s", rate, unit);
}

static void draw_bar(struct cmd_progress *p, uint64_t done, uint64_t total, const char *rate) {
    unsigned cells = total ? (unsigned)((double)done / (double)total * BAR_CELLS) : BAR_CELLS;
    char bar[BAR_CELLS + 1];
    for (unsigned i = 0; i < BAR_CELLS; i++) bar[i] = i < cells ? '#' : '.';
    bar[BAR_CELLS] = '\0';
    fprintf(stderr, "\r\033[K%s %s[%s]%s %3u %%%s", p->what, p->has_colour ? "\033[36m" : "", bar,
            p->has_colour ? "\033[0m" : "", total ? (unsigned)(done * 100 / total) : 100, rate);
    p->is_open = true;
}

static void tell(void *ud, const char *what, uint64_t done, uint64_t total, const char *unit) {
    struct cmd_progress *p = ud;
    double t = now();
    if (strcmp(p->what, what) != 0) {
        snprintf(p->what, sizeof(p->what), "%s", what);
        /* The first report comes after some work: what is done by then is not in the rate. */
        p->start = t;
        p->last = 0;
        if (p->is_terminal)
            draw_bar(p, done, total, "");
        else
            p->last = t;
    }
    bool is_done = done >= total;
    if (!is_done && t - p->last < (p->is_terminal ? REDRAW_S : LINE_S)) return;
    p->last = t;
    char rate[80];
    add_rate(rate, sizeof(rate), t - p->start, done, total, unit);
    if (p->is_terminal) {
        draw_bar(p, done, total, rate);
    } else {
        fprintf(stderr, "%s: %llu of %llu %s%s\n", p->what, (unsigned long long)done,
                (unsigned long long)total, unit, rate);
    }
    if (!is_done) return;
    if (p->is_open) fputc('\n', stderr);
    p->is_open = false;
    p->what[0] = '\0';
}

struct progress cmd_progress_listener(struct cmd_progress *p) {
    return (struct progress){.fn = tell, .ud = p};
}
