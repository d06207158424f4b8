/* The packer's methods on tiny models: the f32 forward against a plain one in doubles, texts,
 * and whole builds: the same bytes for any thread count, nothing left on failure. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/dequant.h"
#include "core/err.h"
#include "core/gemm.h"
#include "core/gguf.h"
#include "core/make/build.h"
#include "core/make/calib.h"
#include "core/make/eval.h"
#include "core/make/fexp.h"
#include "core/make/order.h"
#include "core/make/selftext.h"
#include "core/make/source.h"
#include "core/make/text.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pool.h"
#include "core/tok.h"
#include "tests/golden/tiny.h"
#include "tests/golden/tiny_pack.h"
#include "tests/t.h"

static char path_buf[4][512];

static const char *path_of(int i, const char *name) {
    snprintf(path_buf[i], sizeof(path_buf[i]), "%s/%s", t_tmpdir(), name);
    return path_buf[i];
}

static void tools_make(struct tools *t, unsigned n_threads) {
    struct err e = {0};
    *t = (struct tools){0};
    gemm_init();
    kern_init(&t->ops, kern_cpu_flags());
    REQUIRE_OK(mem_create(&t->mem), &e);
    REQUIRE_OK(pool_create(n_threads, &t->pool, &e), &e);
}

static void tools_free(struct tools *t) {
    pool_destroy(t->pool);
    mem_destroy(t->mem); /* asserts that nothing is left */
}

static void write_file(const char *path, const char *data, size_t n) {
    FILE *f = fopen(path, "wb");
    REQUIRE(f);
    REQUIRE(fwrite(data, 1, n, f) == n);
    REQUIRE(fclose(f) == 0);
}

static uint8_t *read_file(const char *path, size_t *ret_n) {
    FILE *f = fopen(path, "rb");
    REQUIRE(f);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    uint8_t *p = malloc((size_t)n + 1);
    REQUIRE(p && fread(p, 1, (size_t)n, f) == (size_t)n);
    fclose(f);
    *ret_n = (size_t)n;
    return p;
}

static void test_fexp(void) {
    for (double x = -86.9; x < 87.9; x += 0.0137)
        CHECK_NEAR(fexp((float)x) / exp((double)(float)x), 1.0, 3e-7);
    CHECK(fexp(0.0f) == 1.0f);
    CHECK(fexp(-1e30f) >= 0.0f && fexp(-1e30f) < 1e-37f);
    CHECK(fexp(1e30f) > 1e38f);
}

static void test_gemm(void) {
    enum { M = 7, N = 203, K = 33 };
    static float a[M * K], b[N * K], bt[K * N], c[M * N], d[M * N], f[M * N];
    struct tools t;
    uint64_t s = t_seed();
    tools_make(&t, 2);
    for (int i = 0; i < M * K; i++) a[i] = (float)(t_rand(&s) % 17) - 8;
    for (int i = 0; i < N * K; i++) b[i] = (float)(t_rand(&s) % 13) - 6;
    for (int i = 0; i < N; i++)
        for (int k = 0; k < K; k++) bt[k * N + i] = b[i * K + k];
    gemm_nt(M, N, K, a, K, b, K, c, N);
    gemm_nn(M, N, K, a, K, bt, N, d, N);
    gemm_nt_pool(t.pool, M, N, K, a, K, b, K, f, N);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            float sum = 0; /* small integers: exact */
            for (int k = 0; k < K; k++) sum += a[i * K + k] * b[j * K + k];
            CHECK(c[i * N + j] == sum);
            CHECK(d[i * N + j] == sum);
            CHECK(f[i * N + j] == sum);
        }
    tools_free(&t);
}

/* ---- a plain forward in doubles
 * ------------------------------------------------------------------ */

enum { ROWS = 70 }; /* more than one block of queries */

static double *mat(const struct gguf *g, const char *name) {
    struct err e = {0};
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    REQUIRE(t);
    float *f = malloc(t->n_elems * sizeof(float));
    double *d = malloc(t->n_elems * sizeof(double));
    REQUIRE(f && d);
    REQUIRE_OK(dequant_rows(g, t, 0, t->n_elems / t->dims[0], f, &e), &e);
    for (uint64_t i = 0; i < t->n_elems; i++) d[i] = f[i];
    free(f);
    return d;
}

static double *layer_mat(const struct gguf *g, uint32_t l, const char *name) {
    char full[64];
    snprintf(full, sizeof(full), "blk.%u.%s.weight", l, name);
    return mat(g, full);
}

static void plain_mul(const double *x, const double *w, size_t n, size_t n_in, size_t n_out,
                      double *y) {
    for (size_t i = 0; i < n; i++)
        for (size_t o = 0; o < n_out; o++) {
            y[i * n_out + o] = 0;
            for (size_t k = 0; k < n_in; k++) y[i * n_out + o] += x[i * n_in + k] * w[o * n_in + k];
        }
}

static void plain_norm(const double *x, const double *gain, size_t n, size_t d, double eps,
                       double *y) {
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k < d; k++) sum += x[i * d + k] * x[i * d + k];
        for (size_t k = 0; k < d; k++)
            y[i * d + k] = x[i * d + k] / sqrt(sum / (double)d + eps) * gain[k];
    }
}

static void plain_rope(const struct model_hparams *h, const double *freqs, size_t n, size_t heads,
                       double *x) {
    for (size_t i = 0; i < n; i++)
        for (size_t q = 0; q < heads; q++)
            for (size_t k = 0; k < h->rope_dim / 2; k++) {
                double *p = x + (i * heads + q) * h->head_dim + 2 * k;
                double a = (double)i * pow((double)h->rope_base, -2.0 * (double)k / h->rope_dim) /
                           (freqs ? freqs[k] : 1.0);
                double x0 = p[0], x1 = p[1];
                p[0] = x0 * cos(a) - x1 * sin(a);
                p[1] = x0 * sin(a) + x1 * cos(a);
            }
}

static void plain_attn(const struct model_hparams *h, size_t n, const double *q, const double *k,
                       const double *v, double *o) {
    size_t hd = h->head_dim, nq = h->n_heads, nkv = h->n_kv_heads;
    for (size_t i = 0; i < n; i++)
        for (size_t a = 0; a < nq; a++) {
            double p[ROWS], sum = 0;
            size_t b = a * nkv / nq;
            for (size_t j = 0; j <= i; j++) {
                double dot = 0;
                for (size_t c = 0; c < hd; c++)
                    dot += q[(i * nq + a) * hd + c] * k[(j * nkv + b) * hd + c];
                p[j] = exp(dot / sqrt((double)hd));
                sum += p[j];
            }
            for (size_t c = 0; c < hd; c++) {
                double out = 0;
                for (size_t j = 0; j <= i; j++) out += p[j] / sum * v[(j * nkv + b) * hd + c];
                o[(i * nq + a) * hd + c] = out;
            }
        }
}

/* Final normed hidden states [ROWS][n_embd]; and at `last`, if not NULL, the residual stream of
 * the last row before each layer and after the last: [n_layers + 1][n_embd]. */
static double *plain_forward(const struct gguf *g, const struct model_hparams *h,
                             const uint32_t *ids, double *last) {
    enum { WIDE = 256 };
    size_t d = h->n_embd, nq = h->n_heads * h->head_dim, nkv = h->n_kv_heads * h->head_dim;
    double *x = calloc(ROWS * d, sizeof(double)), *n = calloc(ROWS * WIDE, sizeof(double));
    double *b[5];
    for (int i = 0; i < 5; i++) b[i] = calloc(ROWS * WIDE, sizeof(double));
    REQUIRE(x && n && b[0] && b[1] && b[2] && b[3] && b[4] && h->n_ff <= WIDE);
    double *emb = mat(g, "token_embd.weight");
    double *freqs = gguf_find_tensor(g, "rope_freqs.weight") ? mat(g, "rope_freqs.weight") : NULL;
    for (size_t i = 0; i < ROWS; i++) memcpy(x + i * d, emb + ids[i] * d, d * sizeof(double));
    for (uint32_t l = 0; l < h->n_layers; l++) {
        static const char *const names[9] = {"attn_norm", "attn_q",      "attn_k",
                                             "attn_v",    "attn_output", "ffn_norm",
                                             "ffn_gate",  "ffn_up",      "ffn_down"};
        double *w[9];
        for (int i = 0; i < 9; i++) w[i] = layer_mat(g, l, names[i]);
        if (last) memcpy(last + l * d, x + (ROWS - 1) * d, d * sizeof(double));
        plain_norm(x, w[0], ROWS, d, (double)h->norm_eps, n);
        plain_mul(n, w[1], ROWS, d, nq, b[0]);
        plain_mul(n, w[2], ROWS, d, nkv, b[1]);
        plain_mul(n, w[3], ROWS, d, nkv, b[2]);
        plain_rope(h, freqs, ROWS, h->n_heads, b[0]);
        plain_rope(h, freqs, ROWS, h->n_kv_heads, b[1]);
        plain_attn(h, ROWS, b[0], b[1], b[2], b[3]);
        plain_mul(b[3], w[4], ROWS, nq, d, b[4]);
        for (size_t i = 0; i < ROWS * d; i++) x[i] += b[4][i];
        plain_norm(x, w[5], ROWS, d, (double)h->norm_eps, n);
        plain_mul(n, w[6], ROWS, d, h->n_ff, b[0]);
        plain_mul(n, w[7], ROWS, d, h->n_ff, b[1]);
        for (size_t i = 0; i < ROWS * h->n_ff; i++) b[0][i] *= b[1][i] / (1 + exp(-b[0][i]));
        plain_mul(b[0], w[8], ROWS, h->n_ff, d, b[4]);
        for (size_t i = 0; i < ROWS * d; i++) x[i] += b[4][i];
        for (int i = 0; i < 9; i++) free(w[i]);
    }
    if (last) memcpy(last + h->n_layers * d, x + (ROWS - 1) * d, d * sizeof(double));
    double *gain = mat(g, "output_norm.weight");
    plain_norm(x, gain, ROWS, d, (double)h->norm_eps, n);
    memcpy(x, n, ROWS * d * sizeof(double));
    free(gain);
    free(emb);
    free(freqs);
    free(n);
    for (int i = 0; i < 5; i++) free(b[i]);
    return x;
}

/* ---- source and calibration
 * ---------------------------------------------------------------------- */

static void check_forward(const struct tiny_opts *o, unsigned n_threads) {
    enum { WINDOWS = 3 };
    struct tools t;
    struct err e = {0};
    uint64_t seed = t_seed();
    tools_make(&t, n_threads);
    const char *path = path_of(0, "forward.gguf");
    REQUIRE(tiny_write(o, path) == 0);
    struct gguf *g;
    struct source *s;
    struct calib *c;
    REQUIRE_OK(gguf_open(path, &g, &e), &e);
    REQUIRE_OK(source_create(t.mem, t.pool, &t.ops, g, 0, &s, &e), &e);
    const struct model_hparams *h = source_hparams(s);
    uint32_t ids[WINDOWS * ROWS];
    for (int i = 0; i < WINDOWS * ROWS; i++) ids[i] = (uint32_t)(t_rand(&seed) % h->n_vocab);
    REQUIRE_OK(calib_create(t.mem, s, ids, WINDOWS, ROWS, false, &c, &e), &e);
    for (uint32_t l = 0; l < h->n_layers; l++) {
        const struct source_layer *w;
        REQUIRE_OK(calib_next_layer(c, &w, &e), &e);
    }
    calib_finish(c);

    size_t d = h->n_embd;
    double *moments = calloc(d * d, sizeof(double));
    double *last = calloc((h->n_layers + 1) * d, sizeof(double));
    for (size_t w = 0; w < WINDOWS; w++) {
        double *x = plain_forward(g, h, ids + w * ROWS, last);
        for (size_t r = 0; r < ROWS; r++)
            for (size_t i = 0; i < d * d; i++)
                moments[i] += x[r * d + i / d] * x[r * d + i % d] / (WINDOWS * ROWS);
        for (uint32_t b = 0; b <= h->n_layers; b++)
            for (size_t i = 0; i < d; i++)
                CHECK_NEAR(calib_last_hidden(c, b)[w * d + i], last[b * d + i],
                           1e-4 * (1 + fabs(last[b * d + i])));
        if (w == 0) { /* and the logits of two positions */
            float in[2 * 256], *logits = calloc(2 * (size_t)h->n_vocab + 16, sizeof(float));
            double *head = mat(g, h->is_tied ? "token_embd.weight" : "output.weight");
            for (size_t i = 0; i < 2 * d; i++) in[i] = (float)x[(ROWS - 2) * d + i];
            REQUIRE_OK(source_logits(s, in, 2, logits, h->n_vocab + 8, &e), &e);
            for (size_t v = 0; v < h->n_vocab; v++) {
                double dot = 0;
                for (size_t i = 0; i < d; i++) dot += head[v * d + i] * x[(ROWS - 1) * d + i];
                CHECK_NEAR(logits[h->n_vocab + 8 + v], dot, 1e-4 * (1 + fabs(dot)));
            }
            free(logits);
            free(head);
        }
        free(x);
    }
    for (size_t i = 0; i < d * d; i++)
        CHECK_NEAR(calib_head_moments(c)[i], moments[i],
                   1e-4 * sqrt(moments[i / d * (d + 1)] * moments[i % d * (d + 1)]) + 1e-9);
    free(moments);
    free(last);
    calib_destroy(c);
    source_destroy(s);
    gguf_close(g);
    tools_free(&t);
}

static void test_forward(void) {
    struct tiny_opts o = tiny_defaults();
    o.type = GGUF_T_F32;
    check_forward(&o, 1);
    o = tiny_defaults();
    o.is_untied = o.has_rope_freqs = true;
    o.seed = 7;
    check_forward(&o, 2);
}

/* The same floats, bit for bit, for any thread count and company; layers kept or not. */
static void test_forward_alone(void) {
    enum { N = 40, WINDOWS = 5 };
    const char *path = path_of(0, "alone.gguf");
    struct tiny_opts o = tiny_defaults();
    REQUIRE(tiny_write(&o, path) == 0);
    float *out[2];
    for (int run = 0; run < 2; run++) {
        struct tools t;
        struct err e = {0};
        struct gguf *g;
        struct source *s;
        tools_make(&t, run ? 3 : 1);
        REQUIRE_OK(gguf_open(path, &g, &e), &e);
        REQUIRE_OK(source_create(t.mem, t.pool, &t.ops, g, run ? 1 << 20 : 0, &s, &e), &e);
        const struct model_hparams *h = source_hparams(s);
        uint64_t seed = 5;
        uint32_t ids[WINDOWS * N];
        for (int i = 0; i < WINDOWS * N; i++) ids[i] = (uint32_t)(t_rand(&seed) % h->n_vocab);
        out[run] = calloc(WINDOWS * N * h->n_embd, sizeof(float));
        REQUIRE_OK(source_embed(s, ids, WINDOWS * N, out[run], &e), &e);
        for (int pass = 0; pass < 2; pass++) /* twice: the second time from what was kept */
            for (uint32_t l = 0; l < h->n_layers; l++) {
                const struct source_layer *w;
                REQUIRE_OK(source_load_layer(s, l, &w, &e), &e);
                for (uint32_t i = 0; i < WINDOWS; i += run ? WINDOWS : 1)
                    source_block(s, l, w, out[run] + i * N * h->n_embd, run ? WINDOWS : 1, N, NULL,
                                 NULL);
            }
        if (run) CHECK_MEM(out[0], out[1], WINDOWS * N * h->n_embd * sizeof(float));
        source_destroy(s);
        gguf_close(g);
        tools_free(&t);
    }
    free(out[0]);
    free(out[1]);
}

/* ---- texts
 * --------------------------------------------------------------------------------------- */

static struct tok *tiny_tok(void) {
    struct err e = {0};
    struct tiny_opts o = tiny_defaults();
    const char *path = path_of(3, "tok.gguf");
    REQUIRE(tiny_write(&o, path) == 0);
    struct gguf *g;
    struct tok *t;
    REQUIRE_OK(gguf_open(path, &g, &e), &e);
    REQUIRE_OK(tok_create(g, &t, &e), &e);
    gguf_close(g);
    return t;
}

static void test_text(void) {
    struct tok *t = tiny_tok();
    struct text x = {0};
    struct err e = {0};
    const char *p = path_of(0, "text.txt");
    CHECK_EQ(text_read(t, path_of(1, "absent.txt"), 1, 8, &x, &e), -ENOENT);
    CHECK_EQ(text_read(t, t_tmpdir(), 1, 8, &x, &e), -EINVAL);
    CHECK(strstr(e.msg, "regular"));
    REQUIRE(mkfifo(path_of(1, "pipe"), 0600) == 0);
    CHECK_EQ(text_read(t, path_of(1, "pipe"), 1, 8, &x, &e), -EINVAL);
    write_file(p, "", 0);
    CHECK_EQ(text_read(t, p, 1, 8, &x, &e), -EINVAL);
    CHECK(strstr(e.msg, "empty"));
    write_file(p, "abc\0def, and so on and on", 25);
    CHECK_EQ(text_read(t, p, 1, 8, &x, &e), -EINVAL);
    CHECK(strstr(e.msg, "no UTF-8 text"));
    write_file(p, "two", 3);
    CHECK_EQ(text_read(t, p, 1, 8, &x, &e), -EINVAL);
    CHECK(strstr(e.msg, "one window takes 8"));

    /* Fewer windows than asked for; and a text so long that only its head is read gives what the
     * whole text begins with, wherever the cut falls. */
    enum { BIG = 60000 };
    char *big = malloc(BIG + 1);
    uint64_t s = t_seed();
    for (int i = 0; i < BIG; i += 3) memcpy(big + i, t_rand(&s) % 3 ? "\xe2\x82\xac" : " ab", 3);
    write_file(p, big, BIG);
    struct tok_ids ids = {0};
    REQUIRE(tok_encode(t, big, BIG, false, 0, &ids) == 0);
    for (uint32_t n = 1; n < 9; n++) {
        REQUIRE_OK(text_read(t, p, n, 64, &x, &e), &e);
        CHECK_EQU(x.n_windows, n);
        CHECK_MEM(x.ids, ids.v, n * 64 * sizeof(uint32_t));
        text_fini(&x);
    }
    write_file(p, big, 300);
    REQUIRE_OK(text_read(t, p, 50, 64, &x, &e), &e);
    CHECK(x.n_windows >= 1 && x.n_windows < 50);
    text_fini(&x);
    tok_ids_fini(&ids);
    free(big);
    tok_destroy(t);
}

static void test_binary(void) {
    static const uint8_t cut[] = "a text that ends in \xe2\x82";
    static const uint8_t latin[] = "h\xe9 \xe0 \xe8 \xf4 \xfb \xe7 p\xe8re";
    CHECK(!text_is_binary(cut, sizeof(cut) - 1));
    CHECK(text_is_binary(latin, sizeof(latin) - 1));
    CHECK(text_is_binary((const uint8_t *)"a\0b", 3));
    CHECK(!text_is_binary((const uint8_t *)"", 0));
    CHECK_EQU(text_utf8_len((const uint8_t *)"\xed\xa0\x80", 3), 0); /* a surrogate */
    CHECK_EQU(text_utf8_len((const uint8_t *)"\xc0\x80", 2), 0);     /* overlong */
    CHECK_EQU(text_utf8_len((const uint8_t *)"\xf0\x9f\x98\x80", 4), 4);
    CHECK_EQU(text_utf8_len((const uint8_t *)"\xf4\x90\x80\x80", 4), 0); /* beyond U+10FFFF */
}

static void test_selftext(void) {
    struct tok *tok = tiny_tok();
    struct err e = {0};
    struct gguf *g;
    struct text x[3];
    REQUIRE_OK(gguf_open(path_of(3, "tok.gguf"), &g, &e), &e);
    for (int i = 0; i < 3; i++) {
        struct tools t;
        tools_make(&t, i == 1 ? 2 : 1);
        REQUIRE_OK(selftext_write(&t, g, tok, 5, 48, i == 2 ? 9 : 1, &x[i], &e), &e);
        tools_free(&t);
    }
    CHECK_MEM(x[0].ids, x[1].ids, 5 * 48 * sizeof(uint32_t));
    CHECK(x[0].xxh3 == x[1].xxh3 && x[0].xxh3 != x[2].xxh3);
    /* Sequences differ, and are not one word over and over. */
    CHECK(memcmp(x[0].ids, x[0].ids + 48, 48 * sizeof(uint32_t)) != 0);
    for (int i = 0; i < 5 * 48; i++) CHECK(x[0].ids[i] < tiny_n_vocab());
    for (int i = 0; i < 3; i++) text_fini(&x[i]);
    gguf_close(g);
    tok_destroy(tok);
}

/* ---- builds
 * -------------------------------------------------------------------------------------- */

static void write_calib(const char *path, size_t n) {
    uint64_t s = 3;
    char *buf = malloc(n);
    REQUIRE(buf);
    for (size_t i = 0; i < n; i++) buf[i] = (char)(t_rand(&s) % 6 ? 'a' + t_rand(&s) % 26 : ' ');
    write_file(path, buf, n);
    free(buf);
}

/* Planes alone, so that all ladders end with everything at `high`; test_build.c has the rest. */
static int build(unsigned n_threads, const char *src, const char *out, const char *calib,
                 struct build_report *report, struct err *e) {
    struct tools t;
    tools_make(&t, n_threads);
    struct build_opts o = {
        .source = src, .out = out, .calib = calib, .n_windows = 2, .is_without_swsc = true};
    int r = build_run(&t, &o, report, e);
    tools_free(&t);
    return r;
}

/* Each ladder takes every unit from full to high, the measured ones by loss per byte, LSAQ's by
 * importance, the head last; and then in the same order to paged. */
static void check_ladders(const struct pack *p) {
    static const char *const names[] = {"jaccard", "lsaq", "kl"};
    uint32_t n_units = model_n_units(pack_hparams(p));
    REQUIRE(pack_n_ladders(p) == ARRAY_LEN(names));
    for (size_t k = 0; k < ARRAY_LEN(names); k++) {
        const struct ladder *l = pack_ladder_at(p, k);
        char key[64];
        double last = 0.0;
        CHECK_STR(ladder_name(l), names[k]);
        REQUIRE(ladder_n_steps(l) == 2 * n_units);
        for (uint32_t i = 0; i < n_units; i++) {
            const struct ladder_step *s = ladder_step_at(l, n_units + i);
            CHECK(s->unit == ladder_step_at(l, i)->unit && s->to == RUNG_PAGED && s->cost == 0);
        }
        CHECK_EQU(ladder_all_at(l, RUNG_HIGH), n_units);
        if (k == 0) /* what of a Jaccard loss adds up */
            snprintf(key, sizeof(key), "ebb.distortion.high.pairs");
        else
            snprintf(key, sizeof(key), "ebb.importance.%s", names[k]);
        for (uint32_t i = 0; i < n_units; i++) {
            const struct ladder_step *s = ladder_step_at(l, i);
            double price = k == 1 ? (double)s->cost : (double)s->cost / (double)s->bytes;
            CHECK_NEAR(s->cost, pack_score(p, key, s->unit), 1e-5 * (double)s->cost);
            CHECK(price >= last * (1 - 1e-6));
            last = price;
        }
    }
    CHECK_EQU(ladder_step_at(pack_ladder(p, "lsaq"), n_units - 1)->unit, n_units - 1);
}

static void check_pack(const char *path) {
    struct err e = {0};
    struct pack *p;
    REQUIRE_OK(pack_open(path, &p, &e), &e);
    if (!pack_has_swsc(p)) check_ladders(p);
    for (uint32_t u = 0; u < model_n_units(pack_hparams(p)); u++) {
        double full = pack_score(p, "ebb.distortion.full.error", u);
        double high = pack_score(p, "ebb.distortion.high.error", u);
        CHECK(full > 0 && high > 10 * full && high < 0.1);
        double kl = pack_score(p, "ebb.distortion.high.kl", u);
        double jaccard = pack_score(p, "ebb.distortion.high.jaccard", u);
        CHECK(kl > 0 && jaccard > 0 && jaccard < 1);
        CHECK(pack_score(p, "ebb.importance.kl", u) == kl);
        CHECK(pack_score(p, "ebb.importance.jaccard", u) == jaccard);
        CHECK(pack_score(p, "ebb.distortion.full.kl", u) == 0.0);
        CHECK(pack_score(p, "ebb.distortion.full.jaccard", u) == 0.0);
        CHECK(isnan(pack_score(p, "ebb.distortion.swsc.kl", u)) == !pack_has_rung(p, u, RUNG_SWSC));
    }
    for (size_t i = 0; i < pack_n_extents(p); i++) {
        const struct pack_extent *x = pack_extent_at(p, i);
        void *buf = malloc(x->bytes);
        REQUIRE_OK(pack_read_extent(p, x, buf, &e), &e);
        free(buf);
    }
    pack_close(p);
}

static void check_same(const struct tiny_opts *o, const char *calib) {
    struct err e = {0};
    struct build_report r;
    const char *src = path_of(0, "same.gguf");
    REQUIRE(tiny_write(o, src) == 0);
    REQUIRE_OK(build(1, src, path_of(1, "one.ebb"), calib, &r, &e), &e);
    CHECK_EQU(r.n_windows, 2);
    CHECK(r.full_bytes > r.high_bytes && r.n_weights > 0);
    REQUIRE_OK(build(2, src, path_of(2, "two.ebb"), calib, &r, &e), &e);
    check_pack(path_of(1, "one.ebb"));
    size_t n1, n2;
    uint8_t *a = read_file(path_of(1, "one.ebb"), &n1), *b = read_file(path_of(2, "two.ebb"), &n2);
    CHECK_EQU(n1, n2);
    CHECK_MEM(a, b, MIN(n1, n2));
    free(a);
    free(b);
}

static void test_build(void) {
    struct tiny_opts o = tiny_defaults();
    write_calib(path_of(3, "calib.txt"), 8000);
    check_same(&o, path_of(3, "calib.txt"));
    o.is_untied = o.has_rope_freqs = true;
    o.type = GGUF_T_F16;
    check_same(&o, NULL);
}

static unsigned count_files(const char *with) {
    unsigned n = 0;
    DIR *d = opendir(t_tmpdir());
    REQUIRE(d);
    for (struct dirent *f; (f = readdir(d));) n += strstr(f->d_name, with) != NULL;
    closedir(d);
    return n;
}

/* Whatever fails, the old pack stays as it was and nothing is left beside it. */
static void test_build_fails(void) {
    struct err e = {0};
    struct build_report r;
    struct tiny_opts o = tiny_defaults();
    const char *src = path_of(0, "fails.gguf"), *out = path_of(1, "fails.ebb");
    const char *calib = path_of(2, "fails.txt");
    REQUIRE(tiny_write(&o, src) == 0);
    write_file(out, "old", 3);
    write_file(calib, "too short", 9);
    CHECK_EQ(build(1, src, out, calib, &r, &e), -EINVAL);
    CHECK(strstr(e.msg, "calibration text"));
    CHECK_EQ(build(1, path_of(3, "absent.gguf"), out, calib, &r, &e), -ENOENT);
    CHECK_EQ(build(1, calib, out, calib, &r, &e), -EBADMSG);
    CHECK(build(1, src, path_of(3, "no/such/folder.ebb"), calib, &r, &e) < 0);

    write_calib(calib, 4000);
    struct tools t;
    tools_make(&t, 2);
    struct build_opts b = {.source = src, .out = out, .calib = calib, .n_windows = 1};
    int code = -ENOMEM;
    unsigned n = 1;
    /* Each of the first allocations, and later ones farther and farther apart. */
    for (; n < 4000 && code < 0; n += 1 + n / 20) {
        mem_fail_at(t.mem, n, n % 2);
        code = build_run(&t, &b, &r, &e);
        mem_fail_at(t.mem, 0, false);
        if (code == 0) break;
        CHECK_EQ(code, -ENOMEM);
        CHECK(e.msg[0]);
        size_t size;
        uint8_t *old = read_file(out, &size);
        CHECK(size == 3 && memcmp(old, "old", 3) == 0);
        free(old);
        CHECK_EQU(count_files("fails.ebb"), 1);
    }
    CHECK_EQ(code, 0);
    CHECK(n > 10);
    check_pack(out);
    CHECK_EQU(count_files("fails.ebb"), 1);
    tools_free(&t);
}

/* ---- evaluation
 * ---------------------------------------------------------------------------------- */

static void open_gguf(int slot, const char *name, const struct tiny_opts *o, struct gguf **ret) {
    struct err e = {0};
    REQUIRE(tiny_write(o, path_of(slot, name)) == 0);
    REQUIRE_OK(gguf_open(path_of(slot, name), ret, &e), &e);
}

/* A pack of a tiny model, its source, and a text. */
struct judged {
    struct pack *pack;
    struct gguf *source;
    struct tok *tok;
    struct text text;
    struct build_report report;
};

static void judged_make(struct judged *j, const struct tiny_opts *o) {
    struct err e = {0};
    open_gguf(0, "eval.gguf", o, &j->source);
    write_calib(path_of(2, "eval.txt"), 8000);
    REQUIRE_OK(build(2, path_of(0, "eval.gguf"), path_of(1, "eval.ebb"), path_of(2, "eval.txt"),
                     &j->report, &e),
               &e);
    REQUIRE_OK(pack_open(path_of(1, "eval.ebb"), &j->pack, &e), &e);
    REQUIRE_OK(tok_create(j->source, &j->tok, &e), &e);
    REQUIRE_OK(text_read(j->tok, path_of(2, "eval.txt"), 3, 64, &j->text, &e), &e);
}

static void judged_free(struct judged *j) {
    text_fini(&j->text);
    tok_destroy(j->tok);
    pack_close(j->pack);
    gguf_close(j->source);
}

static void test_eval(void) {
    struct err e = {0};
    struct judged j;
    struct tiny_opts o = tiny_defaults();
    judged_make(&j, &o);
    const struct ladder *l = pack_ladder_at(j.pack, 0);
    struct eval_place at[2] = {{l, 0}, {l, ladder_all_at(l, RUNG_HIGH)}};
    struct eval_score s[3][2];
    struct eval_result r[3];
    for (int i = 0; i < 3; i++) {
        struct tools t;
        struct eval_task task = {.pack = j.pack,
                                 .places = at,
                                 .n_places = i == 2 ? 1 : 2,
                                 .source = i == 2 ? NULL : j.source,
                                 .text = &j.text};
        tools_make(&t, i == 1 ? 2 : 1);
        REQUIRE_OK(eval_run(&t, &task, s[i], &r[i], &e), &e);
        tools_free(&t);
    }
    const struct eval_score *full = &s[0][0], *high = &s[0][1];
    CHECK_EQU(r[0].n_windows, 3);
    CHECK_EQU(r[0].n_scored, 3 * 32);
    /* An untrained model with lively logits: every reading is much farther off than a real one's
     * (0.004 and 0.07), but the two readings are as far from each other. */
    CHECK(full->kl > 0 && full->kl < 0.3);
    CHECK(high->kl > 5 * full->kl && high->kl < 5);
    CHECK(full->top1 > 0.7 && full->top1 <= 1.0 && high->top1 < full->top1);
    CHECK_NEAR(log(full->ppl), log(r[0].source_ppl), 0.3);
    CHECK(full->bits_per_weight > high->bits_per_weight);
    CHECK_EQU(full->bytes - high->bytes, j.report.full_bytes - j.report.high_bytes);
    /* Neither the thread count nor company nor the source's presence changes anything. */
    for (int i = 0; i < 2; i++) CHECK_MEM(&s[0][i], &s[1][i], sizeof(s[0][i]));
    CHECK(s[2][0].ppl == full->ppl && r[1].source_ppl == r[0].source_ppl);
    struct tools t;
    struct eval_task alone = {
        .pack = j.pack, .places = at + 1, .n_places = 1, .source = j.source, .text = &j.text};
    tools_make(&t, 1);
    REQUIRE_OK(eval_run(&t, &alone, s[2], &r[2], &e), &e);
    CHECK_MEM(&s[2][0], high, sizeof(*high));
    tools_free(&t);
    judged_free(&j);
}

/* Layers in the form swsc; a paged unit counts no bytes and is computed in its smallest form. */
static void test_eval_swsc(void) {
    struct err e = {0};
    struct judged j = {0};
    struct tiny_opts o = tiny_defaults();
    o.n_embd = 256, o.n_ff = 512; /* so that the forms are smaller than the planes */
    open_gguf(0, "forms.gguf", &o, &j.source);
    write_calib(path_of(2, "forms.txt"), 8000);
    REQUIRE_OK(tiny_pack_write_swsc(&o, 2, path_of(1, "forms.ebb"), &e), &e);
    REQUIRE_OK(pack_open(path_of(1, "forms.ebb"), &j.pack, &e), &e);
    REQUIRE_OK(tok_create(j.source, &j.tok, &e), &e);
    REQUIRE_OK(text_read(j.tok, path_of(2, "forms.txt"), 2, 64, &j.text, &e), &e);
    const struct ladder *l = pack_ladder(j.pack, "deep");
    REQUIRE(l);
    uint32_t all_high = ladder_all_at(l, RUNG_HIGH), n = ladder_n_steps(l);
    /* All high, one layer down, all layers down, all paged. */
    struct eval_place at[] = {{l, all_high}, {l, all_high + 1}, {l, all_high + 3}, {l, n}};
    struct eval_score s[2][4];
    struct eval_result r;
    for (unsigned i = 0; i < 2; i++) {
        struct tools t;
        struct eval_task task = {.pack = j.pack, .places = at, .n_places = 4, .text = &j.text};
        tools_make(&t, 1 + i);
        REQUIRE_OK(eval_run(&t, &task, s[i], &r, &e), &e);
        tools_free(&t);
        for (int k = 0; k < 4; k++) CHECK(s[i][k].ppl == s[0][k].ppl);
    }
    CHECK(s[0][0].ppl != s[0][1].ppl && s[0][1].ppl != s[0][2].ppl);
    CHECK(s[0][3].ppl == s[0][2].ppl);
    const struct model_hparams *h = pack_hparams(j.pack);
    uint64_t books = pack_find(j.pack, PACK_BOOKS, 0)->bytes;
    uint64_t core = pack_find(j.pack, PACK_CORE, 0)->bytes;
    uint64_t layers = 3 * pack_unit_bytes(j.pack, 0, RUNG_SWSC);
    uint64_t head = pack_unit_bytes(j.pack, 3, RUNG_HIGH);
    double n_layer = 3.0 * (256 * 64 * 2 + 256 * 32 * 2 + 3 * 256 * 512);
    double n_all = n_layer + 256.0 * h->n_vocab;
    CHECK_NEAR(s[0][2].layer_bits_per_weight, 8.0 * (double)(layers + books) / n_layer, 1e-9);
    CHECK_NEAR(s[0][2].bits_per_weight, 8.0 * (double)(layers + books + head) / n_all, 1e-9);
    CHECK_EQU(s[0][2].bytes, layers + books + head + core);
    CHECK_EQU(s[0][3].bytes, books + core);
    CHECK_NEAR(s[0][0].layer_bits_per_weight,
               8.0 * 3 * (double)pack_unit_bytes(j.pack, 0, RUNG_HIGH) / n_layer, 1e-9);
    judged_free(&j);
}

/* Other files: the source itself is at no distance, the same weights in another type at nearly
 * none, and other weights far off. */
static void test_eval_others(void) {
    struct err e = {0};
    struct judged j;
    struct tiny_opts o = tiny_defaults();
    judged_make(&j, &o);
    struct gguf *half, *stranger;
    o.type = GGUF_T_F16;
    open_gguf(3, "half.gguf", &o, &half);
    o.seed = 99;
    open_gguf(3, "stranger.gguf", &o, &stranger);
    struct eval_other others[] = {{"same", j.source}, {"half", half}, {"stranger", stranger}};
    struct eval_place at = {pack_ladder_at(j.pack, 0), 0};
    struct eval_task task = {.pack = j.pack,
                             .places = &at,
                             .n_places = 1,
                             .others = others,
                             .n_others = 3,
                             .source = j.source,
                             .text = &j.text};
    struct eval_score s[4];
    struct eval_result r;
    struct tools t;
    tools_make(&t, 2);
    REQUIRE_OK(eval_run(&t, &task, s, &r, &e), &e);
    CHECK(s[1].kl == 0 && s[1].top1 == 1 && s[1].ppl == r.source_ppl);
    CHECK_NEAR(s[1].bits_per_weight, 8.5, 1e-9);
    CHECK(s[2].kl > 0 && s[2].kl < s[0].kl);
    CHECK_NEAR(s[2].bits_per_weight, 16.0, 1e-9);
    CHECK(s[3].kl > 10 * s[0].kl && s[3].top1 < s[0].top1);
    uint64_t bytes = 0;
    for (size_t i = 0; i < gguf_n_tensors(half); i++) bytes += gguf_tensor_at(half, i)->bytes;
    CHECK_EQU(s[2].bytes, bytes);

    task.source = NULL; /* perplexity alone needs none */
    struct eval_score blind[4];
    REQUIRE_OK(eval_run(&t, &task, blind, &r, &e), &e);
    for (int i = 0; i < 4; i++) CHECK(blind[i].ppl == s[i].ppl && blind[i].kl == 0);
    tools_free(&t);
    gguf_close(half);
    gguf_close(stranger);
    judged_free(&j);
}

/* Places of several orders share what they have in common: the same scores, to the bit, as each
 * alone, whatever the order in which they come; two alike are the same. */
static void check_places(bool is_untied) {
    struct err e = {0};
    struct judged j;
    struct tiny_opts o = tiny_defaults();
    o.n_layers = 5;
    o.is_untied = is_untied;
    judged_make(&j, &o);
    enum { LADDERS = 5, PLACES = 5 * 7 };
    struct ladder *l[LADDERS];
    struct eval_place places[PLACES], best;
    struct eval_score s[PLACES], alone;
    struct eval_result r;
    uint32_t n = model_n_units(pack_hparams(j.pack)), units[8], n_places = 0;
    for (uint32_t i = 0; i < LADDERS; i++) {
        order_random(n, i, units);
        if (i % 2) { /* the head is somewhere in the middle */
            units[n - 1] = units[i % 3];
            units[i % 3] = n - 1;
        }
        REQUIRE_OK(order_ladder(j.pack, "test", RUNG_FULL, RUNG_HIGH, units, NULL, &l[i], &e), &e);
        for (uint32_t at = 0; at <= n; at++) places[n_places++] = (struct eval_place){l[i], at};
    }
    REQUIRE(n_places == PLACES);
    best = places[0];
    for (int with_source = 0; with_source < 2; with_source++) {
        struct tools t;
        struct eval_task task = {.pack = j.pack,
                                 .places = places,
                                 .n_places = PLACES,
                                 .source = with_source ? j.source : NULL,
                                 .reference = with_source ? NULL : &best,
                                 .text = &j.text};
        tools_make(&t, 2);
        REQUIRE_OK(eval_run(&t, &task, s, &r, &e), &e);
        task.n_places = 1;
        for (uint32_t i = 0; i < PLACES; i++) {
            task.places = &places[i];
            REQUIRE_OK(eval_run(&t, &task, &alone, &r, &e), &e);
            CHECK_MEM(&s[i], &alone, sizeof(alone));
            double sum = 0.0;
            for (int k = 0; k < EVAL_PARTS; k++) sum += s[i].kl_parts[k];
            CHECK_NEAR(sum, s[i].kl, 1e-9);
            if (places[i].position > 0) continue;
            CHECK_MEM(&s[i], &s[0], sizeof(s[0]));
            if (!with_source) CHECK(s[i].kl == 0 && s[i].top1 == 1 && s[i].jaccard == 0);
            if (!with_source) CHECK(s[i].ppl == r.source_ppl);
        }
        tools_free(&t);
    }
    for (uint32_t i = 0; i < LADDERS; i++) ladder_destroy(l[i]);
    judged_free(&j);
}

static void test_eval_places(void) {
    check_places(false);
    check_places(true);
}

static void test_eval_fails(void) {
    struct err e = {0};
    struct judged j;
    struct tiny_opts o = tiny_defaults();
    judged_make(&j, &o);
    struct gguf *large;
    o.n_layers++;
    open_gguf(3, "large.gguf", &o, &large);
    struct eval_other other = {"large.gguf", large};
    struct eval_place at[2] = {{pack_ladder_at(j.pack, 0), 0}, {pack_ladder_at(j.pack, 0), 1}};
    struct eval_task task = {
        .pack = j.pack, .places = at, .n_places = 2, .source = large, .text = &j.text};
    struct eval_score s[3];
    struct eval_result r;
    struct tools t;
    tools_make(&t, 1);
    CHECK_EQ(eval_run(&t, &task, s, &r, &e), -EINVAL);
    CHECK(strstr(e.msg, "the source: another model"));
    task.source = j.source;
    task.others = &other;
    task.n_others = 1;
    CHECK_EQ(eval_run(&t, &task, s, &r, &e), -EINVAL);
    CHECK(strstr(e.msg, "large.gguf: another model"));
    other.gguf = j.source;
    int code = -ENOMEM;
    unsigned n = 1;
    for (; n < 200 && code < 0; n++) {
        mem_fail_at(t.mem, n, n % 2);
        code = eval_run(&t, &task, s, &r, &e);
        mem_fail_at(t.mem, 0, false);
        if (code < 0) CHECK_EQ(code, -ENOMEM);
    }
    CHECK_EQ(code, 0);
    CHECK(n > 20);
    tools_free(&t);
    gguf_close(large);
    judged_free(&j);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"fexp", test_fexp},
        {"gemm", test_gemm},
        {"forward", test_forward},
        {"forward_alone", test_forward_alone},
        {"text", test_text},
        {"binary", test_binary},
        {"selftext", test_selftext},
        {"build", test_build},
        {"build_fails", test_build_fails},
        {"eval", test_eval},
        {"eval_swsc", test_eval_swsc},
        {"eval_others", test_eval_others},
        {"eval_places", test_eval_places},
        {"eval_fails", test_eval_fails},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
