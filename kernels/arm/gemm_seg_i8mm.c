/* A batch of tokens times shared segments, smmla: what was looked up is kept as smmla takes it and
 * meets 4 tokens at once. By llvm-mca 8 need spills that cost more than they save on every core
 * with i8mm, and 2 load too often for a small one (Cortex-A510). */
#include "kernels/arm/variants.h"

#include "kernels/arm/i8mm.h"
#include "kernels/arm/seg_neon.h"

enum { MAX_PAIRS = 2, OCT_BYTES = 16 * PAIR_REGS };

/* 8 inputs of 8 rows: two segment columns of 4, or one of 8, whose entries are as they should be.
 */
KERN_INLINE void look_up(const uint8_t *column, const int8_t *book, unsigned len, unsigned bits,
                         uint8x16_t *ret) {
    if (len == 8) {
        uint64_t half0, half4; /* indices of rows 0..3 and of rows 4..7 */
        memcpy(&half0, column, sizeof(half0));
        memcpy(&half4, column + bits / 2, sizeof(half4));
        ret[0] = vreinterpretq_u8_s32(two_entries8(book, half0, bits, 0));
        ret[1] = vreinterpretq_u8_s32(two_entries8(book, half0, bits, 2));
        ret[2] = vreinterpretq_u8_s32(two_entries8(book, half4, bits, 0));
        ret[3] = vreinterpretq_u8_s32(two_entries8(book, half4, bits, 2));
        return;
    }
    struct quad a, b;
    column_quads(column, book, 4, bits, &a);
    column_quads(column + bits, book, 4, bits, &b);
    uint8x16_t a0 = vreinterpretq_u8_s8(a.rows0), a4 = vreinterpretq_u8_s8(a.rows4);
    uint8x16_t b0 = vreinterpretq_u8_s8(b.rows0), b4 = vreinterpretq_u8_s8(b.rows4);
    ret[0] = zip_low(a0, b0);
    ret[1] = zip_high(a0, b0);
    ret[2] = zip_low(a4, b4);
    ret[3] = zip_high(a4, b4);
}

/* A seg_look_up_fn: a tile's 32 inputs, 8 after 8. */
KERN_INLINE void tile_octs(const uint8_t *column, const int8_t *book, unsigned len, unsigned bits,
                           int8_t *ret) {
#pragma GCC unroll 4
    for (unsigned i = 0; i < PLANE_GROUP / 8; i++, column += 8 / len * bits) {
        uint8x16_t w[PAIR_REGS];
        look_up(column, book, len, bits, w);
        for (unsigned k = 0; k < PAIR_REGS; k++)
            vst1q_s8(ret + i * OCT_BYTES + 16 * k, vreinterpretq_s8_u8(w[k]));
    }
}

/* Converting to float takes four times as long as other operations on the cores with i8mm, so sums
 * begin with the bits of 1.5 * 2^23: seen as a float they are that much more than the sum, exactly
 * for |sum| < 2^22 (at most 127 * 121 * 32), and one subtraction makes the float of the sum. */
enum { FLOAT_BITS = 0x4b400000 };

KERN_INLINE void pair_begin(int32x4_t *s) {
    for (unsigned k = 0; k < PAIR_REGS; k++) s[k] = vdupq_n_s32(FLOAT_BITS);
}

KERN_INLINE float32x4_t pair_end(int32x4_t s) {
    return vsubq_f32(vreinterpretq_f32_s32(s), vdupq_n_f32(0x1.8p23f));
}

KERN_INLINE void add_oct(const int8_t *tile, unsigned i, int8x16_t (*acts)[4], unsigned n_pairs,
                         int32x4_t (*s)[PAIR_REGS]) {
    int8x16_t w[PAIR_REGS];
    for (unsigned k = 0; k < PAIR_REGS; k++) w[k] = vld1q_s8(tile + i * OCT_BYTES + 16 * k);
    for (unsigned p = 0; p < n_pairs; p++) pair_add(s[p], acts[p][i], w);
}

/* ret[p] = sum of weight * q over the group for tokens 2p and 2p + second. */
KERN_INLINE void pair_sums(const int8_t *tile, const int8_t *q, size_t n_in, unsigned n_pairs,
                           unsigned second, int32x4_t (*ret)[PAIR_REGS]) {
    int8x16_t acts[MAX_PAIRS][4];
    for (unsigned p = 0; p < n_pairs; p++) {
        const int8_t *q0 = q + 2 * p * n_in;
        pair_acts(q0, q0 + second * n_in, acts[p]);
        pair_begin(ret[p]);
    }
    add_oct(tile, 0, acts, n_pairs, ret);
    add_oct(tile, 1, acts, n_pairs, ret);
    add_oct(tile, 2, acts, n_pairs, ret);
    add_oct(tile, 3, acts, n_pairs, ret);
}

/* n is 1 (then both tokens of the pair are that one), 2 or 4. */
KERN_INLINE void step(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                      size_t ldy, unsigned n) {
    uint32_t n_in = c->n_in, n_all = n_in / PLANE_GROUP;
    unsigned n_pairs = (n + 1) / 2, second = n > 1; /* token 2p + second of pair p */
    const int8_t *q = x->q + (size_t)t * n_in + (size_t)c->g0 * PLANE_GROUP;
    const float *scale = x->scale + (size_t)t * n_all + c->g0;
    float32x4_t acc[MAX_PAIRS][PAIR_REGS];
    for (unsigned p = 0; p < n_pairs; p++) {
        const float *y0 = y + 2 * p * ldy;
        if (c->g0)
            pair_join(load_sums(y0), load_sums(y0 + second * ldy), acc[p]);
        else
            pair_join(f32x8_zero(), f32x8_zero(), acc[p]);
    }
    for (uint32_t g = 0; g < c->n_groups; g++) {
        int32x4_t sum[MAX_PAIRS][PAIR_REGS];
        pair_sums(c->tiles + (size_t)g * SEG_TILE_BYTES, q + (size_t)g * PLANE_GROUP, n_in, n_pairs,
                  second, sum);
        for (unsigned p = 0; p < n_pairs; p++) {
            const float *s0 = scale + (size_t)(2 * p) * n_all + g;
            float32x4_t s = pair_floats(s0, s0 + second * n_all);
            for (unsigned k = 0; k < PAIR_REGS; k++)
                acc[p][k] = vfmaq_f32(acc[p][k], pair_end(sum[p][k]), s);
        }
    }
    for (unsigned p = 0; p < n_pairs; p++) {
        struct f32x8 rows[2];
        pair_split(acc[p], &rows[0], &rows[1]);
        for (unsigned i = 0; i <= second; i++) {
            if (c->gains) rows[i] = times_gains(c->gains, rows[i]);
            store_sums(y + (2 * p + i) * ldy, rows[i]);
        }
    }
}

static void step4(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy) {
    step(c, x, t, y, ldy, 4);
}

static void step2(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy) {
    step(c, x, t, y, ldy, 2);
}

static void step1(const struct seg_chunk *c, const struct kern_acts *x, uint32_t t, float *y,
                  size_t ldy) {
    step(c, x, t, y, ldy, 1);
}

KERN_INLINE void gemm(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok, float *y,
                      size_t ldy, uint32_t rt0, uint32_t rt1, unsigned len, unsigned bits) {
    static const struct seg_step steps[] = {{4, step4}, {2, step2}, {1, step1}};
    seg_walk(tile_octs, steps, w, x, n_tok, y, ldy, rt0, rt1, len, bits);
}

void kern_gemm_seg_i8mm(const struct kern_seg *w, const struct kern_acts *x, uint32_t n_tok,
                        float *y, size_t ldy, uint32_t rt0, uint32_t rt1) {
    seg_by_form(gemm, w, x, n_tok, y, ldy, rt0, rt1);
}
