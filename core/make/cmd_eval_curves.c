/* ebb-pack eval --ladder: what was measured, as numbers, text, JSON, CSV and a picture. */
#include "core/make/cmd_eval.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/curve.h"
#include "core/make/plot.h"
#include "core/pack.h"
#include "core/pack_temp.h"

/* ---- areas and shares --------------------------------------------------------------------------
 */

/* Windows of a part. */
static uint32_t n_of_part(const struct cmd_eval_ladders *ls, uint32_t part) {
    return (ls->result.n_windows + EVAL_PARTS - 1 - part) / EVAL_PARTS;
}

/* The area of all windows or, with `part` below EVAL_PARTS, of all but that part's. */
static double area(const struct cmd_eval_ladders *ls, const struct cmd_eval_curve *c,
                   uint32_t part) {
    struct curve_point p[CMD_EVAL_POINTS];
    for (uint32_t i = 0; i < c->n_points; i++) {
        p[i].bytes = ladder_bytes(c->ladder, c->positions[i]);
        p[i].loss = c->scores[i].kl;
        if (part < EVAL_PARTS) {
            double n = ls->result.n_windows;
            p[i].loss = (p[i].loss - c->scores[i].kl_parts[part]) * n / (n - n_of_part(ls, part));
        }
    }
    return curve_area(p, c->n_points, ls->top_bytes, ls->bottom_bytes);
}

/* Mean area of the random orders, and the oracle's; false if one of them is not there. */
static bool ends(const struct cmd_eval_ladders *ls, uint32_t part, double *ret_random,
                 double *ret_oracle) {
    double sum = 0.0, oracle = (double)NAN;
    for (uint32_t i = 0; i < ls->n_curves; i++) {
        if (ls->curves[i].is_random) sum += area(ls, &ls->curves[i], part);
        if (ls->curves[i].is_oracle) oracle = area(ls, &ls->curves[i], part);
    }
    *ret_random = ls->n_randoms > 0 ? sum / ls->n_randoms : (double)NAN;
    *ret_oracle = oracle;
    return !isnan(*ret_random) && !isnan(oracle);
}

static double share_error(const struct cmd_eval_ladders *ls, const struct cmd_eval_curve *c) {
    double without[EVAL_PARTS];
    uint32_t n = 0;
    if (ls->result.n_windows < 2) return (double)NAN;
    for (uint32_t part = 0; part < EVAL_PARTS; part++) {
        double random, oracle;
        if (n_of_part(ls, part) == 0) continue;
        ends(ls, part, &random, &oracle);
        without[n++] = curve_share(random, oracle, area(ls, c, part));
    }
    return curve_jackknife(without, n);
}

void cmd_eval_sum_up(struct cmd_eval_ladders *ls) {
    double oracle;
    ls->n_randoms = 0;
    for (uint32_t i = 0; i < ls->n_curves; i++) ls->n_randoms += ls->curves[i].is_random;
    bool has_ends = ends(ls, EVAL_PARTS, &ls->random_area, &oracle);
    for (uint32_t i = 0; i < ls->n_curves; i++) {
        struct cmd_eval_curve *c = &ls->curves[i];
        c->area = area(ls, c, EVAL_PARTS);
        c->share = c->share_error = (double)NAN;
        if (!has_ends || c->is_random) continue;
        c->share = curve_share(ls->random_area, oracle, c->area);
        if (!c->is_oracle) c->share_error = share_error(ls, c);
    }
}

/* ---- standard output ---------------------------------------------------------------------------
 */

static const char *reference_name(const struct cmd_eval_opts *o) {
    return o->source ? "source" : "position 0";
}

static void json_point(const struct cmd_eval_curve *c, uint32_t i) {
    const struct eval_score *s = &c->scores[i];
    uint32_t n[RUNG_COUNT] = {0};
    for (uint32_t u = 0; u < ladder_n_units(c->ladder); u++)
        n[ladder_rung(c->ladder, c->positions[i], u)]++;
    printf("%s{\"position\":%u,\"bytes\":%" PRIu64, i ? "," : "", c->positions[i], s->bytes);
    cmd_eval_json("bits_per_weight", s->bits_per_weight, true);
    cmd_eval_json("ppl", s->ppl, true);
    cmd_eval_json("kl", s->kl, true);
    cmd_eval_json("top1", s->top1, true);
    cmd_eval_json("jaccard", s->jaccard, true);
    printf(",\"units\":{");
    for (int r = 0; r < RUNG_COUNT; r++)
        printf("%s\"%s\":%u", r ? "," : "", rung_name((enum rung)r), n[r]);
    printf("}}");
}

static void print_json(const struct cmd_eval_opts *o, const struct cmd_eval_ladders *ls) {
    printf("{\"windows\":%u,\"tokens\":%u,\"reference\":\"%s\"", ls->result.n_windows,
           ls->result.n_scored, reference_name(o));
    cmd_eval_json("reference_ppl", ls->result.source_ppl, true);
    printf(",\"section\":{\"from\":\"%s\",\"to\":\"%s\",\"top_bytes\":%" PRIu64
           ",\"bottom_bytes\":%" PRIu64 "},\"random\":{\"orders\":%u",
           rung_name(ls->from), rung_name(ls->to), ls->top_bytes + ls->core_bytes,
           ls->bottom_bytes + ls->core_bytes, ls->n_randoms);
    cmd_eval_json("area", ls->random_area, true);
    printf("},\"ladders\":[");
    for (uint32_t i = 0; i < ls->n_curves; i++) {
        const struct cmd_eval_curve *c = &ls->curves[i];
        printf("%s{\"name\":", i ? "," : "");
        cmd_json_str(stdout, c->name, strlen(c->name));
        cmd_eval_json("area", c->area, true);
        cmd_eval_json("share", c->share, true);
        cmd_eval_json("share_error", c->share_error, true);
        printf(",\"points\":[");
        for (uint32_t k = 0; k < c->n_points; k++) json_point(c, k);
        printf("]}");
    }
    printf("]}\n");
}

static void print_area(const char *name, double kl, double share, double error) {
    printf("%-32s %9.5f", name, kl);
    if (isfinite(share)) printf(" %8.1f %%", 100.0 * share);
    if (isfinite(error)) printf(" +- %.1f", 100.0 * error);
    putchar('\n');
}

static void print_text(const struct cmd_eval_opts *o, const struct cmd_eval_ladders *ls) {
    printf("%u windows, %u tokens scored; KL, top-1 and Jaccard loss are against the %s, whose "
           "perplexity is %.4f\n",
           ls->result.n_windows, ls->result.n_scored, o->source ? "source" : "pack at position 0",
           ls->result.source_ppl);
    printf("every unit from %s to %s, %.1f to %.1f MB; mean KL at %d even sizes between, and the "
           "share of the way\nfrom the random orders to the oracle\n\n%-32s %9s %10s\n",
           rung_name(ls->from), rung_name(ls->to), (double)(ls->top_bytes + ls->core_bytes) / 1e6,
           (double)(ls->bottom_bytes + ls->core_bytes) / 1e6, CURVE_AREA_POINTS, "ladder",
           "mean KL", "share");
    for (uint32_t i = 0; i < ls->n_curves; i++)
        print_area(ls->curves[i].name, ls->curves[i].area, ls->curves[i].share,
                   ls->curves[i].share_error);
    if (ls->n_randoms > 0) {
        char name[40];
        snprintf(name, sizeof(name), "mean of %u random", ls->n_randoms);
        print_area(name, ls->random_area, (double)NAN, (double)NAN);
    }
    for (uint32_t i = 0; i < ls->n_curves; i++) {
        const struct cmd_eval_curve *c = &ls->curves[i];
        printf("\nladder %s\n%8s %13s %12s %11s %10s %7s %8s\n", c->name, "position", "bytes",
               "bits/weight", "perplexity", "KL", "top-1", "Jaccard");
        for (uint32_t k = 0; k < c->n_points; k++) {
            const struct eval_score *s = &c->scores[k];
            printf("%8u %13" PRIu64 " %12.3f %11.4f %10.5f %7.4f %8.4f\n", c->positions[k],
                   s->bytes, s->bits_per_weight, s->ppl, s->kl, s->top1, s->jaccard);
        }
    }
}

void cmd_eval_print(const struct cmd_eval_opts *o, const struct cmd_eval_ladders *ls) {
    if (o->is_json)
        print_json(o, ls);
    else
        print_text(o, ls);
}

/* ---- files -------------------------------------------------------------------------------------
 */

static void put_number(FILE *f, double v) {
    fputc(',', f);
    if (isfinite(v)) fprintf(f, "%.9g", v);
}

static int put_csv(const struct cmd_eval_ladders *ls, FILE *f) {
    fprintf(f, "ladder,position,bytes,bits_per_weight,ppl,kl,top1,jaccard\n");
    for (uint32_t i = 0; i < ls->n_curves; i++) {
        const struct cmd_eval_curve *c = &ls->curves[i];
        for (uint32_t k = 0; k < c->n_points; k++) {
            const struct eval_score *s = &c->scores[k];
            fprintf(f, "%s,%u,%" PRIu64, c->name, c->positions[k], s->bytes);
            put_number(f, s->bits_per_weight);
            put_number(f, s->ppl);
            put_number(f, s->kl);
            put_number(f, s->top1);
            put_number(f, s->jaccard);
            fputc('\n', f);
        }
    }
    return ferror(f) ? -EIO : 0;
}

static int put_svg(const struct cmd_eval_opts *o, const struct pack *p,
                   const struct cmd_eval_ladders *ls, FILE *f) {
    size_t n = (size_t)ls->n_curves * CMD_EVAL_POINTS, at = 0;
    double *x = calloc(n, sizeof(*x)), *y = calloc(n, sizeof(*y));
    struct plot_line *lines = calloc(ls->n_curves, sizeof(*lines));
    char title[160], random[40];
    int r = x && y && lines ? 0 : -ENOMEM;
    for (uint32_t i = 0; r == 0 && i < ls->n_curves; i++) {
        const struct cmd_eval_curve *c = &ls->curves[i];
        lines[i] = (struct plot_line){
            .name = c->name, .x = x + at, .y = y + at, .n = c->n_points, .is_faint = c->is_random};
        for (uint32_t k = c->n_points; k > 0; k--) { /* from few bytes to many */
            x[at] = (double)c->scores[k - 1].bytes / 1e6;
            y[at++] = c->scores[k - 1].kl;
        }
    }
    if (r == 0) {
        snprintf(title, sizeof(title), "%s: what a ladder's order is worth", pack_model_name(p));
        snprintf(random, sizeof(random), "random (%u)", ls->n_randoms);
        struct plot plot = {.title = title,
                            .x_title = "resident weights and core vectors, MB",
                            .y_title = o->source ? "KL divergence from the source, nats a token"
                                                 : "KL divergence from position 0, nats a token",
                            .faint_name = random,
                            .lines = lines,
                            .n_lines = ls->n_curves};
        r = plot_svg(&plot, f);
    }
    free(lines);
    free(x);
    free(y);
    return r;
}

/* What is in memory to its file, which appears whole. */
static int publish(struct pack_temp *t, const char *path, const char *data, size_t n,
                   struct err *e) {
    int r = pack_temp_write(t, 0, data, n, e);
    if (r == 0) r = pack_temp_sync(t, e);
    if (r == 0) r = pack_temp_publish(t, e);
    if (r < 0) err_prefix(e, "%s", path);
    return r;
}

int cmd_eval_write(const struct cmd_eval_opts *o, const struct pack *p,
                   const struct cmd_eval_ladders *ls, struct err *e) {
    struct pack_temp *files[] = {ls->csv, ls->svg};
    const char *paths[] = {o->csv, o->svg};
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(files); i++) {
        char *data = NULL;
        size_t n = 0;
        if (!files[i]) continue;
        FILE *f = open_memstream(&data, &n);
        if (!f) return err_set(e, -ENOMEM, "%s: no memory to write it", paths[i]);
        r = i == 0 ? put_csv(ls, f) : put_svg(o, p, ls, f);
        if (fclose(f) != 0 && r == 0) r = -ENOMEM;
        if (r < 0)
            err_sys(e, r, "%s: cannot be made", paths[i]);
        else
            r = publish(files[i], paths[i], data, n, e);
        free(data);
    }
    return r;
}
