#include "core/bench/report.h"

#include <inttypes.h>
#include <stdio.h>

static void line(const char *what, const struct spread *s, const char *unit) {
    if (s->n) printf("%-28s %10.1f %10.1f %10.1f  %s\n", what, s->median, s->min, s->max, unit);
}

void report_print(const struct report *r) {
    char what[48];
    printf("%s, ", r->model);
    if (r->is_on_ladder) printf("position %u%s", r->position, r->rung ? ", " : "");
    if (r->rung) printf("all %s", r->rung);
    printf(": %.1f MB read for a token\n%s, threads: %u, repetitions: %u\n\n",
           (double)r->bytes_per_token * 1e-6, r->cpu, r->n_threads, r->n_reps);
    printf("%-28s %10s %10s %10s\n", "", "median", "min", "max");
    snprintf(what, sizeof(what), "prompt of %u", r->n_prompt);
    line(what, &r->prefill_tps, "tokens/s");
    snprintf(what, sizeof(what), "decode of %u", r->n_gen);
    line(what, &r->decode_tps, "tokens/s");
    snprintf(what, sizeof(what), "%u requests together", r->n_batch);
    line(what, &r->batch_tps, "tokens/s");
    line("time of a token", &r->gap_ms, "ms");
    line("decode reads", &r->read_gbps, "GB/s");
    line("plain read", &r->plain_gbps, "GB/s");
    if (r->ratio.n)
        printf("%-28s %10.2f %10.2f %10.2f\n", "decode reads / plain read", r->ratio.median,
               r->ratio.min, r->ratio.max);
}

/* "NAME":median,"NAME_min":..,"NAME_max":.. or null */
static void json_spread(const char *name, const struct spread *s) {
    if (!s->n) {
        printf(",\"%s\":null,\"%s_min\":null,\"%s_max\":null", name, name, name);
        return;
    }
    printf(",\"%s\":%.6g,\"%s_min\":%.6g,\"%s_max\":%.6g", name, s->median, name, s->min, name,
           s->max);
}

void report_print_json(const struct report *r) {
    /* The model's name is made of letters that need no quoting (pack_model_name()). */
    printf("{\"model\":\"%s\",\"kernels\":\"%s\",\"threads\":%u,\"position\":", r->model, r->cpu,
           r->n_threads);
    r->is_on_ladder ? printf("%u", r->position) : printf("null");
    r->rung ? printf(",\"rung\":\"%s\"", r->rung) : printf(",\"rung\":null");
    printf(",\"bytes_per_token\":%" PRIu64 ",\"prompt\":%u,\"gen\":%u,\"batch\":%u,\"reps\":%u",
           r->bytes_per_token, r->n_prompt, r->n_gen, r->n_batch, r->n_reps);
    json_spread("prefill_tps", &r->prefill_tps);
    json_spread("decode_tps", &r->decode_tps);
    if (r->n_batch > 1) json_spread("batch_tps", &r->batch_tps);
    json_spread("read_gbps", &r->read_gbps);
    json_spread("plain_read_gbps", &r->plain_gbps);
    json_spread("read_ratio", &r->ratio);
    if (r->gap_ms.n)
        printf(",\"gap_median_ms\":%.6g,\"gap_p99_ms\":%.6g,\"gap_max_ms\":%.6g}\n",
               r->gap_ms.median, r->gap_p99_ms, r->gap_ms.max);
    else
        printf(",\"gap_median_ms\":null,\"gap_p99_ms\":null,\"gap_max_ms\":null}\n");
}
