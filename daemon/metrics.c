#include "daemon/metrics.h"

#include <stdio.h>
#include <string.h>

#include "daemon/buf.h"

static const char *const route_name[ROUTE_COUNT] = {
    [ROUTE_OTHER] = "other",   [ROUTE_CHAT] = "chat",     [ROUTE_COMPLETIONS] = "completions",
    [ROUTE_MODELS] = "models", [ROUTE_HEALTH] = "health", [ROUTE_METRICS] = "metrics",
    [ROUTE_STATUS] = "status", [ROUTE_LADDER] = "ladder", [ROUTE_EVENTS] = "events",
    [ROUTE_LIMIT] = "limit",
};

/* Every status we send; the last stands for any other. */
static const int statuses[METRICS_STATUSES] = {200, 400, 403, 404, 405, 408, 413, 414, 415,
                                               417, 429, 431, 500, 501, 503, 504, 505, 0};

void metrics_answer(struct metrics *m, enum route r, int status) {
    size_t i = 0;
    while (statuses[i] != status && statuses[i] != 0) i++;
    m->answers[(unsigned)r < ROUTE_COUNT ? r : ROUTE_OTHER][i]++;
}

/* Seconds. From a fast memory access pattern to a long generation on a slow board. */
static const double bounds[METRICS_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                               0.25,  0.5,    1,     2.5,  10,    30,   120};

void metrics_observe(struct metrics_histogram *h, double seconds) {
    size_t i = 0;
    while (i < METRICS_BUCKETS && seconds > bounds[i]) i++;
    h->count[i]++;
    h->n++;
    h->sum += seconds;
}

static void put_family(struct buf *b, const char *name, const char *type, const char *help) {
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_put(struct buf *b, const char *name, const char *type, const char *help,
                 const char *labels, double v) {
    put_family(b, name, type, help);
    buf_printf(b, "%s%s %.17g\n", name, labels, v);
}

static void put_histogram(struct buf *b, const char *name, const char *help,
                          const struct metrics_histogram *h) {
    uint64_t n = 0;
    put_family(b, name, "histogram", help);
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        n += h->count[i];
        buf_printf(b, "%s_bucket{le=\"%g\"} %llu\n", name, bounds[i], (unsigned long long)n);
    }
    buf_printf(b, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9g\n%s_count %llu\n", name,
               (unsigned long long)h->n, name, h->sum, name, (unsigned long long)h->n);
}

void metrics_label(const char *s, char *ret, size_t cap) {
    size_t k = 0;
    for (; *s && k + 3 < cap; s++) {
        if (*s == '\n') {
            ret[k++] = '\\';
            ret[k++] = 'n';
            continue;
        }
        if (*s == '\\' || *s == '"') ret[k++] = '\\';
        ret[k++] = *s;
    }
    ret[k] = '\0';
}

static void put_answers(struct buf *b, const struct metrics *m) {
    put_family(b, "ebb_requests_total", "counter", "Answers given, by endpoint and status.");
    for (size_t r = 0; r < ROUTE_COUNT; r++)
        for (size_t i = 0; i < METRICS_STATUSES; i++)
            if (m->answers[r][i] > 0)
                buf_printf(b, "ebb_requests_total{endpoint=\"%s\",code=\"%d\"} %llu\n",
                           route_name[r], statuses[i], (unsigned long long)m->answers[r][i]);
}

void metrics_put_counters(struct buf *b, const struct metrics *m) {
    const struct {
        const char *name, *help;
        double v;
    } counters[] = {
        {"ebb_generations_accepted_total", "Generation requests that arrived.",
         (double)m->accepted},
        {"ebb_generations_completed_total", "Answered to the end.", (double)m->completed},
        {"ebb_generations_refused_total", "Answered with an error before any compute.",
         (double)m->refused},
        {"ebb_generations_cancelled_total", "The client left, or the daemon stopped.",
         (double)m->cancelled},
        {"ebb_generations_failed_total", "Ended by an error of ours.", (double)m->failed},
        {"ebb_prompt_tokens_total", "Prompt tokens computed.", (double)m->prompt_tokens},
        {"ebb_prompt_tokens_kept_total", "Prompt tokens whose KV an ended request had left.",
         (double)m->kept_tokens},
        {"ebb_generated_tokens_total", "Tokens generated.", (double)m->generated_tokens},
        {"ebb_prompt_seconds_total", "Time in prompt steps.", m->prompt_seconds},
        {"ebb_decode_seconds_total", "Time in decode steps.", m->decode_seconds},
        {"ebb_read_total", "Extents read back to memory.", (double)m->reads},
        {"ebb_read_failed_total", "Such reads that failed.", (double)m->reads_failed},
        {"ebb_read_bytes_total", "Bytes read back to memory.", (double)m->bytes_read},
        {"ebb_dropped_bytes_total", "Bytes of weights dropped.", (double)m->bytes_dropped},
    };
    put_answers(b, m);
    for (size_t i = 0; i < ARRAY_LEN(counters); i++)
        metrics_put(b, counters[i].name, "counter", counters[i].help, "", counters[i].v);

    put_family(b, "ebb_precision_swaps_total", "counter", "Changes of position.");
    buf_printf(b, "ebb_precision_swaps_total{direction=\"down\"} %llu\n",
               (unsigned long long)m->swaps_down);
    buf_printf(b, "ebb_precision_swaps_total{direction=\"up\"} %llu\n",
               (unsigned long long)m->swaps_up);
    put_family(b, "ebb_config_reloads_total", "counter", "Reloads of the configuration.");
    buf_printf(b, "ebb_config_reloads_total{result=\"ok\"} %llu\n",
               (unsigned long long)m->reloads_ok);
    buf_printf(b, "ebb_config_reloads_total{result=\"failed\"} %llu\n",
               (unsigned long long)m->reloads_failed);

    put_histogram(b, "ebb_request_duration_seconds", "Generation requests, arrival to end.",
                  &m->request_seconds);
    put_histogram(b, "ebb_time_to_first_token_seconds", "Arrival to the first token.",
                  &m->first_token_seconds);
    put_histogram(b, "ebb_swap_duration_seconds",
                  "From the reading to the bytes returned, or to the read bytes in use.",
                  &m->swap_seconds);
}
