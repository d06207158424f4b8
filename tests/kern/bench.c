/* Speeds of the kernels on this machine, one thread. Weights do not fit any cache, as in a real
 * decode step; figures are the best and the median pass, since a shared machine only ever makes
 * a pass slower. */
#include "tests/kern/kern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    N_PASSES = 9,
    PLANE_SET_BYTES = 96 << 20, /* of one plane, all matrices together */
    N_PROMPT = 128,             /* tokens of a batched product */
};

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of the passes, sorted. */
static void sort_passes(double *s) {
    qsort(s, N_PASSES, sizeof(*s), by_value);
}

static void *get(size_t n) {
    void *p = aligned_alloc(64, (n + 63) / 64 * 64);
    if (!p) {
        perror("bench");
        exit(1);
    }
    return p;
}

/* A stack of equal matrices, one after the other in each array, and a batch for them. */
struct stack {
    uint32_t n_out, n_in, n_mat;
    uint8_t *rows, *groups, *high, *low;
    struct kern_acts x;
    float *y;
};

static struct stack stack_make(uint32_t n_out, uint32_t n_in, uint64_t *rng) {
    size_t tiles = (size_t)planes_row_tiles(n_out) * (n_in / PLANE_GROUP);
    size_t n_mat = PLANE_SET_BYTES / (tiles * PLANE_TILE_BYTES);
    if (n_mat == 0) n_mat = 1;
    struct stack s = {.n_out = n_out, .n_in = n_in, .n_mat = (uint32_t)n_mat};
    size_t n_rows = n_mat * planes_row_tiles(n_out) * 16, n_tiles = n_mat * tiles;
    s.rows = get(n_rows * 2);
    s.groups = get(n_tiles * PLANE_SCALE_BYTES);
    s.high = get(n_tiles * PLANE_TILE_BYTES);
    s.low = get(n_tiles * PLANE_TILE_BYTES);
    fill_f16((uint16_t *)(void *)s.rows, n_rows, FILL_RANDOM, 0.01f, rng);
    fill_bytes(s.groups, n_tiles * PLANE_SCALE_BYTES, FILL_RANDOM, 0, 255, rng);
    for (size_t i = 0; i < n_tiles * PLANE_TILE_BYTES; i += 8) {
        uint64_t h = t_rand(rng), l = t_rand(rng);
        memcpy(s.high + i, &h, 8);
        memcpy(s.low + i, &l, 8);
    }
    size_t n_groups = (size_t)N_PROMPT * (n_in / PLANE_GROUP);
    s.x = (struct kern_acts){get(n_groups * PLANE_GROUP), get(n_groups * 4), get(n_groups * 4),
                             get(n_groups * 4)};
    float *x = get((size_t)N_PROMPT * n_in * 4);
    fill_floats(x, (size_t)N_PROMPT * n_in, FILL_RANDOM, 1, rng);
    struct kern_ops ref;
    kern_init(&ref, 0);
    ref.quant_acts(x, n_in, n_in, N_PROMPT, &s.x);
    free(x);
    s.y = get((size_t)N_PROMPT * planes_row_tiles(n_out) * PLANE_ROWS * 4);
    return s;
}

static void stack_free(struct stack *s) {
    free(s->rows);
    free(s->groups);
    free(s->high);
    free(s->low);
    free(s->x.q);
    free(s->x.scale);
    free(s->x.qsum);
    free(s->x.psum);
    free(s->y);
}

static struct kern_planes stack_matrix(const struct stack *s, size_t i) {
    size_t n_rt = planes_row_tiles(s->n_out), tiles = n_rt * (s->n_in / PLANE_GROUP);
    return (struct kern_planes){.rows = s->rows + i * n_rt * PLANE_ROW_BYTES,
                                .groups = s->groups + i * tiles * PLANE_SCALE_BYTES,
                                .high = s->high + i * tiles * PLANE_TILE_BYTES,
                                .low = s->low + i * tiles * PLANE_TILE_BYTES,
                                .n_out = s->n_out,
                                .n_in = s->n_in};
}

/* n_mat: how many matrices of the stack one pass takes. */
static void bench_mul(const struct stack *s, const char *op, const char *variant, kern_mul_fn *fn,
                      uint32_t n_tok, uint32_t n_mat, size_t tile_bytes) {
    double pass[N_PASSES];
    uint32_t n_rt = planes_row_tiles(s->n_out);
    for (int k = 0; k < N_PASSES; k++) {
        double start = now_s();
        for (uint32_t i = 0; i < n_mat; i++) {
            struct kern_planes w = stack_matrix(s, i);
            fn(&w, &s->x, n_tok, s->y, (size_t)n_rt * PLANE_ROWS, 0, n_rt);
        }
        pass[k] = now_s() - start;
    }
    sort_passes(pass);
    double weights = (double)n_mat * s->n_out * s->n_in;
    double bytes = weights / (PLANE_ROWS * PLANE_GROUP) * (double)tile_bytes;
    double best = pass[0], median = pass[N_PASSES / 2];
    if (n_tok == 1)
        printf("%-10s %-10s %5u x %-5u %7.1f Gweights/s (median %.1f) %6.1f GB/s (median %.1f)\n",
               op, variant, s->n_out, s->n_in, weights / best / 1e9, weights / median / 1e9,
               bytes / best / 1e9, bytes / median / 1e9);
    else
        printf("%-10s %-10s %5u x %-5u %4u tokens %7.1f GMAC/s (median %.1f)\n", op, variant,
               s->n_out, s->n_in, n_tok, weights * n_tok / best / 1e9,
               weights * n_tok / median / 1e9);
}

/* What a loop that only reads gets: the limit for one token. */
static void bench_read(const struct stack *s) {
    size_t n = (size_t)s->n_mat * planes_row_tiles(s->n_out) * (s->n_in / PLANE_GROUP) *
               PLANE_TILE_BYTES;
    double pass[N_PASSES];
    volatile uint64_t sink = 0;
    for (int k = 0; k < N_PASSES; k++) {
        uint64_t sum[8] = {0};
        double start = now_s();
        for (size_t i = 0; i < n; i += 64) {
            uint64_t v[8];
            memcpy(v, s->high + i, 64);
            for (int j = 0; j < 8; j++) sum[j] += v[j];
        }
        pass[k] = now_s() - start;
        for (int j = 0; j < 8; j++) sink += sum[j];
    }
    (void)sink;
    sort_passes(pass);
    printf("plain read of %zu MiB: %.1f GB/s (median %.1f)\n", n >> 20, (double)n / pass[0] / 1e9,
           (double)n / pass[N_PASSES / 2] / 1e9);
}

static void bench_variant(const struct stack *s, const struct kern_ops *ops) {
    size_t high = PLANE_TILE_BYTES + PLANE_SCALE_BYTES, full = high + PLANE_TILE_BYTES;
    uint32_t few = 1 + (uint32_t)((4u << 20) / ((size_t)s->n_out * s->n_in));
    bench_mul(s, "gemv_high", ops->name, ops->gemv_high, 1, s->n_mat, high);
    bench_mul(s, "gemv_full", ops->name, ops->gemv_full, 1, s->n_mat, full);
    for (uint32_t n_tok = 2; n_tok <= 8; n_tok *= 2) {
        bench_mul(s, "gemm_high", ops->name, ops->gemm_high, n_tok, few * 4, high);
        bench_mul(s, "gemm_full", ops->name, ops->gemm_full, n_tok, few * 4, full);
    }
    bench_mul(s, "gemm_high", ops->name, ops->gemm_high, N_PROMPT, few, high);
    bench_mul(s, "gemm_full", ops->name, ops->gemm_full, N_PROMPT, few, full);
}

/* A stack of equal matrices of segments under one book. */
struct seg_stack {
    struct kern_seg w; /* the first one */
    uint32_t n_mat;
    uint8_t *gains, *index;
    int8_t *book;
};

static struct seg_stack seg_stack_make(uint32_t n_out, uint32_t n_in, unsigned len, unsigned bits,
                                       uint64_t *rng) {
    size_t n_index = seg_index_bytes(n_out, n_in, len, bits), n_book = ((size_t)1 << bits) * len;
    size_t n_gains = (size_t)planes_row_tiles(n_out) * PLANE_ROWS;
    size_t n_mat = PLANE_SET_BYTES / n_index + 1;
    struct seg_stack s = {.n_mat = (uint32_t)n_mat,
                          .gains = get(n_gains * 2),
                          .index = get(n_mat * n_index + SEG_INDEX_SLACK + 8),
                          .book = get(n_book)};
    fill_f16((uint16_t *)(void *)s.gains, n_gains, FILL_RANDOM, 0.01f, rng);
    fill_bytes((uint8_t *)s.book, n_book, FILL_RANDOM, -127, 127, rng);
    for (size_t i = 0; i < n_mat * n_index; i += 8) {
        uint64_t v = t_rand(rng);
        memcpy(s.index + i, &v, 8);
    }
    s.w = (struct kern_seg){.gains = s.gains,
                            .index = s.index,
                            .book = s.book,
                            .n_out = n_out,
                            .n_in = n_in,
                            .len = (uint8_t)len,
                            .bits = (uint8_t)bits};
    return s;
}

static void seg_stack_free(struct seg_stack *s) {
    free(s->gains);
    free(s->index);
    free(s->book);
}

/* Laps of a few matrices, planes and segments in turn, so that both meet the same disturbances;
 * prints the best lap of each. The laps go round through the stacks. */
static void bench_seg(const struct stack *s, const struct seg_stack *seg, const struct kern_ops *o,
                      uint32_t n_tok) {
    enum { N_LAPS = 200, LAP_MACS = 4 << 20 };
    double best[2] = {1e9, 1e9};
    uint32_t n_rt = planes_row_tiles(s->n_out), at[2] = {0, 0};
    size_t ldy = (size_t)n_rt * PLANE_ROWS;
    double macs = (double)s->n_out * s->n_in * n_tok;
    uint32_t n_lap = 1 + (uint32_t)(LAP_MACS / macs);
    for (int k = 0; k < N_LAPS; k++) {
        double start = now_s();
        for (uint32_t i = 0; i < n_lap; i++) {
            struct kern_planes w = stack_matrix(s, at[0]++ % s->n_mat);
            (n_tok == 1 ? o->gemv_high : o->gemm_high)(&w, &s->x, n_tok, s->y, ldy, 0, n_rt);
        }
        double middle = now_s();
        for (uint32_t i = 0; i < n_lap; i++) {
            struct kern_seg w = seg->w;
            w.index += at[1]++ % seg->n_mat * seg_index_bytes(w.n_out, w.n_in, w.len, w.bits);
            (n_tok == 1 ? o->gemv_seg : o->gemm_seg)(&w, &s->x, n_tok, s->y, ldy, 0, n_rt);
        }
        double end = now_s();
        if (middle - start < best[0]) best[0] = middle - start;
        if (end - middle < best[1]) best[1] = end - middle;
    }
    double high = n_lap * macs / best[0] / 1e9, ours = n_lap * macs / best[1] / 1e9;
    printf("%s %-10s %5u x %-5u len %d, bits %-2d %4u tokens %6.1f G%s/s, %s %6.1f: %.2f of it\n",
           n_tok == 1 ? "gemv_seg" : "gemm_seg", o->name, s->n_out, s->n_in, seg->w.len,
           seg->w.bits, n_tok, ours, n_tok == 1 ? "weights" : "MAC",
           n_tok == 1 ? "gemv_high" : "gemm_high", high, ours / high);
}

static void bench_segs(const struct stack *s, uint64_t *rng) {
    static const unsigned forms[][2] = {{4, 12}, {4, 10}, {4, 8}, {8, 12}, {8, 10}, {8, 8}};
    struct kern_ops ops;
    for (size_t f = 0; f < sizeof(forms) / sizeof(*forms); f++) {
        struct seg_stack seg = seg_stack_make(s->n_out, s->n_in, forms[f][0], forms[f][1], rng);
        for (unsigned i = 0; variant_next(&i, &ops);)
            for (uint32_t n_tok = 1; n_tok <= N_PROMPT; n_tok *= n_tok < 8 ? 2 : 16)
                if (f == 0 || n_tok == 1 || n_tok == N_PROMPT) bench_seg(s, &seg, &ops, n_tok);
        seg_stack_free(&seg);
    }
}

/* Three query heads over n_pos positions, whose keys and values lie one after the other. */
static void bench_attn(const struct kern_ops *ops, const float *q, const int8_t *kv,
                       const float *ks, uint32_t n_pos, uint32_t dim, float *y) {
    float *out = y + 3 * n_pos;
    for (uint32_t p = 0; p < n_pos; p += KERN_ATTN_BLOCK)
        ops->attn_scores(q, 3, kv + p * dim, ks + p, KERN_ATTN_BLOCK, dim, 0.125f, y + p, n_pos);
    for (uint32_t i = 0; i < 3; i++) ops->attn_exp(y + i * n_pos, n_pos);
    for (uint32_t p = 0; p < n_pos; p += KERN_ATTN_BLOCK)
        ops->attn_mix(y + p, n_pos, 3, kv + (n_pos + p) * dim, ks + p, KERN_ATTN_BLOCK, dim, out);
}

/* Time of the small kernels on the real model's shapes; all data in cache. */
static void bench_small(const struct kern_ops *ops, uint64_t *rng) {
    enum { N = 49152, N_POS = 1024, DIM = 64, N_FF = 1536, REPEAT = 20 };
    float *x = get(N * 4), *y = get(N * 4);
    int8_t *kv = get(2 * N_POS * DIM);
    float *ks = get(N_POS * 4);
    struct kern_acts a = {get(N_FF), get(N_FF), get(N_FF), get(N_FF)};
    double best[5] = {1, 1, 1, 1, 1};
    fill_bytes((uint8_t *)kv, 2 * N_POS * DIM, FILL_RANDOM, -127, 127, rng);
    fill_floats(ks, N_POS, FILL_RANDOM, 0.01f, rng);
    for (int k = 0; k < N_PASSES * REPEAT; k++) {
        fill_floats(x, N_FF, FILL_RANDOM, 4, rng);
        double t[6];
        t[0] = now_s();
        ops->quant_acts(x, N_FF, N_FF, 1, &a);
        t[1] = now_s();
        ops->rmsnorm(x, x, N_FF, 1e-5f, y);
        t[2] = now_s();
        ops->silu_mul(x, y, N_FF, y);
        t[3] = now_s();
        bench_attn(ops, x, kv, ks, N_POS, DIM, y);
        t[4] = now_s();
        if (k % REPEAT == 0) {
            fill_floats(y, N, FILL_RANDOM, 20, rng);
            t[4] = now_s();
            ops->log_softmax(y, N);
        }
        t[5] = now_s();
        if (k % REPEAT == 0 && t[5] - t[4] < best[4]) best[4] = t[5] - t[4];
        for (int i = 0; i < 3; i++)
            if (t[i + 1] - t[i] < best[i]) best[i] = t[i + 1] - t[i];
        if (k % REPEAT && t[4] - t[3] < best[3]) best[3] = t[4] - t[3];
    }
    printf("%-10s us: quant_acts(1536) %.2f, rmsnorm(1536) %.2f, silu_mul(1536) %.2f, "
           "attn(3 x 64 x 1024) %.1f, log_softmax(49152) %.1f\n",
           ops->name, 1e6 * best[0], 1e6 * best[1], 1e6 * best[2], 1e6 * best[3], 1e6 * best[4]);
    free(x);
    free(y);
    free(kv);
    free(ks);
    free(a.q);
    free(a.scale);
    free(a.qsum);
    free(a.psum);
}

void bench(bool is_segs) {
    static const uint32_t shapes[][2] = {{1536, 576}, {576, 1536}, {49152, 576}};
    uint64_t rng = t_seed();
    struct kern_ops ops;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t k = 0; k < sizeof(shapes) / sizeof(*shapes); k++) {
        if (is_segs && k == 2) break; /* the head is never segments */
        struct stack s = stack_make(shapes[k][0], shapes[k][1], &rng);
        if (k == 0) bench_read(&s);
        for (unsigned i = 0; !is_segs && variant_next(&i, &ops);) bench_variant(&s, &ops);
        if (k < 2) bench_segs(&s, &rng);
        stack_free(&s);
    }
    for (unsigned i = 0; !is_segs && variant_next(&i, &ops);) bench_small(&ops, &rng);
}
