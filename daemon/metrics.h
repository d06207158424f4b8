/* Counters of the daemon and their Prometheus text. Counters live here; gauges are read from their
 * owners when the text is made. Accounting: accepted = completed + refused + cancelled + failed +
 * those queued or running now. Thread: loop. */
#ifndef EBB_DAEMON_METRICS_H
#define EBB_DAEMON_METRICS_H

#include "core/defs.h"

struct buf;

/* Routes, as labels of counters. */
enum route {
    ROUTE_OTHER,
    ROUTE_CHAT,
    ROUTE_COMPLETIONS,
    ROUTE_MODELS,
    ROUTE_HEALTH,
    ROUTE_METRICS,
    ROUTE_STATUS,
    ROUTE_LADDER,
    ROUTE_EVENTS,
    ROUTE_LIMIT,
};
enum { ROUTE_COUNT = ROUTE_LIMIT + 1 };

enum { METRICS_BUCKETS = 14, METRICS_STATUSES = 20 };

struct metrics_histogram {
    uint64_t count[METRICS_BUCKETS + 1]; /* the last: above all bounds */
    uint64_t n;
    double sum;
};

struct metrics {
    uint64_t answers[ROUTE_COUNT][METRICS_STATUSES]; /* by status, see metrics_answer() */
    uint64_t accepted, completed, refused, cancelled, failed;
    uint64_t prompt_tokens, kept_tokens, generated_tokens;
    double prompt_seconds, decode_seconds;
    uint64_t swaps_down, swaps_up;
    uint64_t bytes_dropped, bytes_read;
    uint64_t reads, reads_failed;
    uint64_t reloads_ok, reloads_failed;
    struct metrics_histogram request_seconds, first_token_seconds, swap_seconds;
};

void metrics_answer(struct metrics *m, enum route r, int status);
void metrics_observe(struct metrics_histogram *h, double seconds);

/* One family with one sample. `labels`: "" or `{a="b"}`, already escaped. */
void metrics_put(struct buf *b, const char *name, const char *type, const char *help,
                 const char *labels, double v);
/* The counters above. */
void metrics_put_counters(struct buf *b, const struct metrics *m);
/* Escapes a label's value into ret[cap]. */
void metrics_label(const char *s, char *ret, size_t cap);

#endif
