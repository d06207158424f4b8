/* ebb-pack inspect: a pack's header, for people and as JSON. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/ladder.h"
#include "core/make/cmd.h"
#include "core/make/cmd_gate.h"
#include "core/make/cmd_importance.h"
#include "core/pack.h"

/* The rungs that hold bytes; a unit may be without the last one. */
static const enum rung rungs[] = {RUNG_FULL, RUNG_HIGH, RUNG_SWSC};

static double distortion(const struct pack *p, enum rung rung, const char *score, uint32_t unit) {
    char key[64];
    snprintf(key, sizeof(key), "ebb.distortion.%s.%s", rung_name(rung), score);
    return pack_score(p, key, unit);
}

static struct gguf_str text_of(const struct pack *p, const char *key) {
    struct gguf_str s;
    if (gguf_get_str(pack_gguf(p), key, &s, NULL) < 0) return (struct gguf_str){"", 0};
    return s;
}

/* ---- JSON
 * ---------------------------------------------------------------------------------------- */

static void json_key_str(const char *key, struct gguf_str s) {
    printf("\"%s\":", key);
    cmd_json_str(stdout, s.p, s.n);
}

static void json_name(const struct pack *p, uint32_t unit) {
    char name[32];
    model_unit_name(pack_hparams(p), unit, name, sizeof(name));
    cmd_json_str(stdout, name, strlen(name));
}

static void json_unit(const struct pack *p, const struct cmd_importance *im, uint32_t unit) {
    printf("%s{\"name\":", unit ? "," : "");
    json_name(p, unit);
    printf(",\"rungs\":{");
    for (size_t i = 0; i < ARRAY_LEN(rungs); i++) {
        if (!pack_has_rung(p, unit, rungs[i])) continue;
        printf("%s\"%s\":{\"bytes\":%" PRIu64 ",\"kl\":", i ? "," : "", rung_name(rungs[i]),
               pack_unit_bytes(p, unit, rungs[i]));
        cmd_json_num(stdout, distortion(p, rungs[i], "kl", unit));
        printf(",\"jaccard\":");
        cmd_json_num(stdout, distortion(p, rungs[i], "jaccard", unit));
        printf(",\"error\":");
        cmd_json_num(stdout, distortion(p, rungs[i], "error", unit));
        putchar('}');
    }
    printf("},");
    cmd_importance_json_unit(im, unit);
    putchar('}');
}

static void json_fallbacks(const struct pack *p) {
    bool is_first = true;
    for (uint32_t u = 0; u < model_n_units(pack_hparams(p)); u++)
        for (uint32_t m = 0; m < MODEL_MAT_COUNT; m++) {
            if (!(pack_fallback(p, u) >> m & 1)) continue;
            printf("%s{\"unit\":", is_first ? "" : ",");
            json_name(p, u);
            printf(",\"matrix\":\"%s\"}", model_mat_name((enum model_mat)m));
            is_first = false;
        }
}

static void json_forms(const struct pack *p) {
    const struct model_hparams *h = pack_hparams(p);
    const struct swsc_form *f = pack_swsc(p);
    const struct pack_extent *books = pack_find(p, PACK_BOOKS, 0);
    printf("\"swsc\":{\"books_bytes\":%" PRIu64 ",\"forms\":[", books ? books->bytes : 0);
    for (int m = 0; m < MODEL_LAYER_MATS; m++) {
        uint32_t n_out, n_in;
        model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
        printf("%s{\"matrix\":\"%s\",\"base\":\"%s\",\"len\":%u,\"bits\":%u,\"k\":%" PRIu32
               ",\"shared\":%s,\"rank\":%" PRIu32 ",\"factor_bits\":%u,\"basis_shared\":%s,"
               "\"bits_per_weight\":",
               m ? "," : "", model_mat_name((enum model_mat)m), swsc_base_name(f[m].base), f[m].len,
               f[m].bits, f[m].k, f[m].is_shared ? "true" : "false", f[m].rank, f[m].factor_bits,
               f[m].is_basis_shared ? "true" : "false");
        cmd_json_num(stdout, swsc_form_bits(&f[m], n_out, n_in, h->n_layers));
        putchar('}');
    }
    printf("]},");
}

static void json_ladder(const struct pack *p, const struct ladder *l) {
    cmd_json_str(stdout, ladder_name(l), strlen(ladder_name(l)));
    printf(":[");
    for (uint32_t i = 0; i < ladder_n_steps(l); i++) {
        const struct ladder_step *s = ladder_step_at(l, i);
        printf("%s{\"unit\":", i ? "," : "");
        json_name(p, s->unit);
        printf(",\"from\":\"%s\",\"to\":\"%s\",\"bytes\":%" PRIu64 ",\"cost\":", rung_name(s->from),
               rung_name(s->to), s->bytes);
        cmd_json_num(stdout, (double)s->cost);
        putchar('}');
    }
    putchar(']');
}

static void print_json(const struct pack *p, const struct cmd_importance *im) {
    const char *name = pack_model_name(p);
    printf("{\"model\":");
    cmd_json_str(stdout, name, strlen(name));
    printf(",\"units\":[");
    for (uint32_t u = 0; u < model_n_units(pack_hparams(p)); u++) json_unit(p, im, u);
    printf("],");
    cmd_importance_json(im);
    putchar(',');
    if (pack_has_swsc(p)) json_forms(p);
    cmd_gate_json(p);
    printf("\"ladders\":{");
    for (size_t i = 0; i < pack_n_ladders(p); i++) {
        if (i) putchar(',');
        json_ladder(p, pack_ladder_at(p, i));
    }
    printf("},\"source\":{");
    json_key_str("name", text_of(p, "ebb.source.name"));
    putchar(',');
    json_key_str("sha256", text_of(p, "ebb.source.sha256"));
    printf("},");
    json_key_str("calibration", text_of(p, "ebb.calibration"));
    putchar(',');
    json_key_str("method", text_of(p, "ebb.method"));
    printf(",\"fallback\":[");
    json_fallbacks(p);
    printf("],");
    json_key_str("packer", text_of(p, "ebb.packer"));
    printf("}\n");
}

/* ---- for people
 * ---------------------------------------------------------------------------------- */

/* A string from the file; control bytes must not reach a terminal. */
static void print_str(const char *label, struct gguf_str s) {
    printf("%-12s ", label);
    for (size_t i = 0; i < s.n; i++)
        putchar((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f ? '?' : s.p[i]);
    putchar('\n');
}

/* The word, and for those that we know what it means. */
static void print_method(struct gguf_str s) {
    static const struct {
        const char *name, *meaning;
    } methods[] = {{"feedback", "clip search and error feedback"},
                   {"fast", "clip search only: quickly made, coarser than it could be"}};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (s.n == strlen(methods[i].name) && memcmp(s.p, methods[i].name, s.n) == 0) {
            printf("%-12s %s (%s)\n", "method", methods[i].name, methods[i].meaning);
            return;
        }
    print_str("method", s);
}

static void print_fallbacks(const struct pack *p) {
    for (uint32_t u = 0; u < model_n_units(pack_hparams(p)); u++)
        for (uint32_t m = 0; m < MODEL_MAT_COUNT; m++) {
            char name[32];
            if (pack_fallback(p, u) >> m & 1)
                printf("%-12s %s, %s: no error feedback, the calibration text shows nothing of its "
                       "inputs\n",
                       "fallback", model_unit_name(pack_hparams(p), u, name, sizeof(name)),
                       model_mat_name((enum model_mat)m));
        }
}

static void print_score(double v, double scale, const char *unit) {
    if (isfinite(v))
        printf(" %11.4f%s", scale * v, unit);
    else
        printf(" %11s%*s", "-", (int)strlen(unit), "");
}

/* One form in words: "segments of 4, k 4096, one book for all layers". */
static void print_form(const struct pack *p, int m) {
    const struct model_hparams *h = pack_hparams(p);
    const struct swsc_form *f = &pack_swsc(p)[m];
    uint32_t n_out, n_in;
    model_mat_shape(h, (enum model_mat)m, &n_out, &n_in);
    printf("%-12s %6.3f bits, ", model_mat_name((enum model_mat)m),
           swsc_form_bits(f, n_out, n_in, h->n_layers));
    if (f->base == SWSC_SEGMENTS)
        printf("segments of %u, k %" PRIu32 ", %s", f->len, f->k,
               f->is_shared ? "one book for all layers" : "a book for each layer");
    else if (f->base == SWSC_CHANNELS)
        printf("whole channels, k %" PRIu32 " in %u bits", f->k, f->factor_bits);
    else
        printf("no base");
    if (f->rank > 0)
        printf(", pair of rank %" PRIu32 " in %u bits%s", f->rank, f->factor_bits,
               f->is_basis_shared ? ", one basis for two layers" : "");
    putchar('\n');
}

static void print_forms(const struct pack *p) {
    const struct pack_extent *books = pack_find(p, PACK_BOOKS, 0);
    if (!pack_has_swsc(p)) return;
    printf("\nrung swsc: %" PRIu64 " bytes shared by all layers\n", books ? books->bytes : 0);
    for (int m = 0; m < MODEL_LAYER_MATS; m++) print_form(p, m);
}

static void print_units(const struct pack *p) {
    const struct model_hparams *h = pack_hparams(p);
    size_t n = pack_has_swsc(p) ? ARRAY_LEN(rungs) : ARRAY_LEN(rungs) - 1;
    uint64_t sum[ARRAY_LEN(rungs)] = {0};
    printf("\n%-10s", "unit");
    for (size_t i = 0; i < n; i++) printf(" %6s bytes", rung_name(rungs[i]));
    for (size_t i = 0; i < n; i++) printf(" %7s error", rung_name(rungs[i]));
    printf(" %11s\n", "importance");
    for (uint32_t u = 0; u < model_n_units(h); u++) {
        char name[32];
        printf("%-10s", model_unit_name(h, u, name, sizeof(name)));
        for (size_t i = 0; i < n; i++) {
            uint64_t bytes = pack_unit_bytes(p, u, rungs[i]);
            sum[i] += bytes;
            printf(" %12" PRIu64, bytes);
        }
        for (size_t i = 0; i < n; i++)
            print_score(distortion(p, rungs[i], "error", u), 100.0, " %");
        print_score(pack_score(p, "ebb.importance.jaccard", u), 1.0, "");
        putchar('\n');
    }
    printf("%-10s", "all");
    for (size_t i = 0; i < n; i++) printf(" %12" PRIu64, sum[i]);
    putchar('\n');
}

static void print_ladder(const struct pack *p, const struct ladder *l) {
    printf("\nladder %s\n%8s  %-10s %-12s %14s %10s\n", ladder_name(l), "position", "unit", "step",
           "bytes left", "cost");
    printf("%8u  %-10s %-12s %14" PRIu64 "\n", 0u, "-", "-", ladder_bytes(l, 0));
    for (uint32_t i = 0; i < ladder_n_steps(l); i++) {
        const struct ladder_step *s = ladder_step_at(l, i);
        char name[32], step[32];
        snprintf(step, sizeof(step), "%s>%s", rung_name(s->from), rung_name(s->to));
        printf("%8u  %-10s %-12s %14" PRIu64 " %10.6f\n", i + 1,
               model_unit_name(pack_hparams(p), s->unit, name, sizeof(name)), step,
               ladder_bytes(l, i + 1), (double)s->cost);
    }
}

static void print_text(const struct pack *p) {
    const struct model_hparams *h = pack_hparams(p);
    const char *name = pack_model_name(p);
    print_str("model", (struct gguf_str){name, strlen(name)});
    printf("%-12s %u layers, width %u, feed-forward %u, %u heads, %u kv heads, %u words, %s head\n",
           "sizes", h->n_layers, h->n_embd, h->n_ff, h->n_heads, h->n_kv_heads, h->n_vocab,
           h->is_tied ? "tied" : "untied");
    print_str("source", text_of(p, "ebb.source.name"));
    print_str("sha256", text_of(p, "ebb.source.sha256"));
    print_str("calibration", text_of(p, "ebb.calibration"));
    print_method(text_of(p, "ebb.method"));
    print_fallbacks(p);
    print_str("packer", text_of(p, "ebb.packer"));
    print_units(p);
    print_forms(p);
    if (pack_gate_n(p) > 0) cmd_gate_winners(p);
    for (size_t i = 0; i < pack_n_ladders(p); i++) print_ladder(p, pack_ladder_at(p, i));
}

/* What of it. */
struct shown {
    bool is_json, is_importance, is_gate;
};

/* Opened and shown. 0 or the error of what is missing. */
static int inspect(const char *path, const struct shown *o, struct err *e) {
    struct pack *p;
    struct cmd_importance *im = NULL;
    int r = pack_open(path, &p, e);
    if (r < 0) return r;
    r = cmd_importance_create(p, &im, e);
    if (r == 0 && o->is_importance && !cmd_importance_has_any(im))
        r = err_set(e, -ENOTSUP, "%s: no score of its units is known; build it again", path);
    if (r == 0 && o->is_gate && pack_gate_n(p) == 0)
        r = err_set(e, -ENOTSUP, "%s: no forms were compared when it was built", path);
    if (r == 0 && o->is_json)
        print_json(p, im);
    else if (r == 0 && o->is_importance)
        cmd_importance_text(im);
    else if (r == 0 && o->is_gate)
        cmd_gate_text(p);
    else if (r == 0)
        print_text(p);
    cmd_importance_destroy(im);
    pack_close(p);
    return r;
}

int cmd_inspect(const struct cmd_env *env, int argc, char **argv) {
    const char *path = NULL;
    struct shown o = {0};
    struct cmd_arg args[] = {
        {.what = "PACK", .kind = CMD_TEXT, .ret = &path},
        {.name = "--importance", .kind = CMD_FLAG, .ret = &o.is_importance},
        {.name = "--gate", .kind = CMD_FLAG, .ret = &o.is_gate},
        {.name = "--json", .kind = CMD_FLAG, .ret = &o.is_json},
    };
    int r = cmd_parse(env, argc, argv, args, ARRAY_LEN(args));
    if (r != CMD_OK) return r;
    struct err e = {0};
    if (o.is_gate && o.is_importance)
        return cmd_usage(env, "inspect: --gate or --importance, one at a time");
    r = inspect(path, &o, &e);
    return r < 0 ? cmd_fail(env, &e) : CMD_OK;
}
