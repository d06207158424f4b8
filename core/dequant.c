/* Block formats of ggml as floats. Each unpacker states its block: fields in file order, and the
 * formula. Reads bytes only, so blocks may lie at any address. Pure but for dequant_rows(), which
 * reads the file through a buffer of a few rows. Thread: any. */
#include "core/dequant.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"

enum { BUFFER_BYTES = 1 << 20 };

static uint16_t le16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t le32(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

static float half(const uint8_t *p) {
    uint32_t h = le16(p), sign = (h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 0x3ff;
    if (exp == 31) return from_bits(sign | 0x7f800000 | man << 13);
    if (exp != 0) return from_bits(sign | (exp + 112) << 23 | man << 13);
    float f = (float)man * 0x1p-24f; /* subnormal, exact */
    return sign ? -f : f;
}

/* Q4_0: f16 d, 16 bytes of nibbles; w = d * (q - 8). The low nibbles are the first 16 weights. */
static void q4_0(const uint8_t *b, float *y) {
    float d = half(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[2 + i] & 15) - 8);
        y[i + 16] = d * (float)((b[2 + i] >> 4) - 8);
    }
}

/* Q4_1: f16 d, f16 m, 16 bytes of nibbles; w = d * q + m. */
static void q4_1(const uint8_t *b, float *y) {
    float d = half(b), m = half(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(b[4 + i] & 15) + m;
        y[i + 16] = d * (float)(b[4 + i] >> 4) + m;
    }
}

/* The fifth bits of a Q5 block: bit i of a u32 belongs to weight i. */
static int fifth(uint32_t bits, int i) {
    return (int)(bits >> i & 1) << 4;
}

/* Q5_0: f16 d, u32 fifth bits, 16 bytes of nibbles; w = d * (q - 16). */
static void q5_0(const uint8_t *b, float *y) {
    float d = half(b);
    uint32_t h = le32(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[6 + i] & 15) + fifth(h, i) - 16);
        y[i + 16] = d * (float)((b[6 + i] >> 4) + fifth(h, i + 16) - 16);
    }
}

/* Q5_1: f16 d, f16 m, u32 fifth bits, 16 bytes of nibbles; w = d * q + m. */
static void q5_1(const uint8_t *b, float *y) {
    float d = half(b), m = half(b + 2);
    uint32_t h = le32(b + 4);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[8 + i] & 15) + fifth(h, i)) + m;
        y[i + 16] = d * (float)((b[8 + i] >> 4) + fifth(h, i + 16)) + m;
    }
}

/* Q8_0: f16 d, 32 x i8; w = d * q. */
static void q8_0(const uint8_t *b, float *y) {
    float d = half(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(int8_t)b[2 + i];
}

/* IQ4_NL: f16 d, 16 bytes of nibbles as in Q4_0; w = d * level[q]. The levels are denser near zero,
 * where most weights are. */
static void iq4_nl(const uint8_t *b, float *y) {
    static const int8_t level[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};
    float d = half(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)level[b[2 + i] & 15];
        y[i + 16] = d * (float)level[b[2 + i] >> 4];
    }
}

/* The 12 bytes that hold eight 6-bit scales and eight 6-bit mins of a K block: the first four of
 * each are the low 6 bits of bytes 0..3 and 4..7; the others have their low nibbles in bytes 8..11
 * (scale low, min high) and their top two bits above the first four. */
static void k_scale(const uint8_t *s, int j, int *ret_scale, int *ret_min) {
    if (j < 4) {
        *ret_scale = s[j] & 63;
        *ret_min = s[j + 4] & 63;
    } else {
        *ret_scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *ret_min = s[j + 4] >> 4 | (s[j] >> 6) << 4;
    }
}

/* Q4_K and Q5_K: f16 d, f16 dmin, 12 bytes of scales, [32 bytes of fifth bits], 128 bytes of
 * nibbles. Eight groups of 32: groups 2c and 2c + 1 are the low and the high nibbles of bytes
 * 32c .. 32c + 31, and bit g of fifth-bit byte i belongs to weight i of group g.
 * w = d * scale * q - dmin * min. */
static void q45_k(const uint8_t *b, const uint8_t *fifths, const uint8_t *nibbles, float *y) {
    float d = half(b), dmin = half(b + 2);
    for (int g = 0; g < 8; g++) {
        int scale, min;
        k_scale(b + 4, g, &scale, &min);
        float ds = d * (float)scale, m = dmin * (float)min;
        const uint8_t *q = nibbles + g / 2 * 32;
        for (int i = 0; i < 32; i++) {
            int v = g % 2 ? q[i] >> 4 : q[i] & 15;
            if (fifths) v += (fifths[i] >> g & 1) << 4;
            y[g * 32 + i] = ds * (float)v - m;
        }
    }
}

/* Q6_K: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 x i8 scales, f16 d. Two halves of
 * 128 weights; in a half, run r (0..3) of 32 weights takes nibble r / 2 of bytes 32 * (r % 2) + i
 * and bit pair r of byte i. Scales go by 16 weights. w = d * scale * (q - 32). */
static void q6_k(const uint8_t *b, float *y) {
    float d = half(b + 208);
    for (int h = 0; h < 2; h++) {
        const uint8_t *low = b + h * 64, *high = b + 128 + h * 32, *scales = b + 192 + h * 8;
        for (int k = 0; k < 128; k++) {
            int r = k / 32, i = k % 32;
            int q = low[r % 2 * 32 + i] >> (r / 2 * 4) & 15;
            q |= (high[i] >> (2 * r) & 3) << 4;
            y[h * 128 + k] = d * (float)(int8_t)scales[k / 16] * (float)(q - 32);
        }
    }
}

bool dequant_block(enum gguf_tensor_type type, uint32_t *ret_elems, uint32_t *ret_bytes) {
    uint32_t elems = 0, bytes = 0;
    switch (type) {
    case GGUF_T_F32: elems = 1, bytes = 4; break;
    case GGUF_T_F16:
    case GGUF_T_BF16: elems = 1, bytes = 2; break;
    case GGUF_T_Q4_0: elems = 32, bytes = 18; break;
    case GGUF_T_Q4_1: elems = 32, bytes = 20; break;
    case GGUF_T_Q5_0: elems = 32, bytes = 22; break;
    case GGUF_T_Q5_1: elems = 32, bytes = 24; break;
    case GGUF_T_Q8_0: elems = 32, bytes = 34; break;
    case GGUF_T_IQ4_NL: elems = 32, bytes = 18; break;
    case GGUF_T_Q4_K: elems = 256, bytes = 144; break;
    case GGUF_T_Q5_K: elems = 256, bytes = 176; break;
    case GGUF_T_Q6_K: elems = 256, bytes = 210; break;
    case GGUF_T_I8: break;
    }
    if (elems == 0) return false;
    *ret_elems = elems;
    *ret_bytes = bytes;
    return true;
}

static void one_block(enum gguf_tensor_type type, const uint8_t *b, float *y) {
    switch (type) {
    case GGUF_T_F32: y[0] = from_bits(le32(b)); break;
    case GGUF_T_F16: y[0] = half(b); break;
    case GGUF_T_BF16: y[0] = from_bits((uint32_t)le16(b) << 16); break;
    case GGUF_T_Q4_0: q4_0(b, y); break;
    case GGUF_T_Q4_1: q4_1(b, y); break;
    case GGUF_T_Q5_0: q5_0(b, y); break;
    case GGUF_T_Q5_1: q5_1(b, y); break;
    case GGUF_T_Q8_0: q8_0(b, y); break;
    case GGUF_T_IQ4_NL: iq4_nl(b, y); break;
    case GGUF_T_Q4_K: q45_k(b, NULL, b + 16, y); break;
    case GGUF_T_Q5_K: q45_k(b, b + 16, b + 48, y); break;
    case GGUF_T_Q6_K: q6_k(b, y); break;
    case GGUF_T_I8: break;
    }
}

void dequant_blocks(enum gguf_tensor_type type, const void *src, size_t n, float *ret) {
    uint32_t elems, bytes;
    bool ok = dequant_block(type, &elems, &bytes);
    ASSERT(ok && n % elems == 0);
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += elems, b += bytes) one_block(type, b, ret + i);
}

static int check_finite(const struct gguf_tensor *t, uint64_t row0, const float *y, size_t n,
                        struct err *e) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(y[i]))
            return err_set(e, -EBADMSG,
                           "tensor %.*s: row %" PRIu64 ", column %" PRIu64
                           " is not a finite number",
                           (int)t->name.n, t->name.p, row0 + i / t->dims[0], i % t->dims[0]);
    return 0;
}

int dequant_rows(const struct gguf *g, const struct gguf_tensor *t, uint64_t row0, uint64_t n_rows,
                 float *ret, struct err *e) {
    uint32_t elems, bytes;
    if (!dequant_block(t->type, &elems, &bytes))
        return err_set(e, -ENOTSUP, "tensor %.*s: type %s holds no weights", (int)t->name.n,
                       t->name.p, gguf_type_name(t->type));
    uint64_t rows = t->dims[1], width = t->dims[0];
    if (t->n_dims > 2 || row0 > rows || n_rows > rows - row0)
        return err_set(e, -EINVAL, "tensor %.*s: rows %" PRIu64 " + %" PRIu64 " of %" PRIu64,
                       (int)t->name.n, t->name.p, row0, n_rows, rows);
    uint64_t row_bytes = width / elems * bytes; /* the reader has checked rows * row_bytes */
    uint64_t step = MAX(BUFFER_BYTES / row_bytes, (uint64_t)1);
    step = MIN(step, n_rows);
    if (step == 0) return 0;
    uint8_t *buf = malloc((size_t)(step * row_bytes));
    if (!buf)
        return err_set(e, -ENOMEM, "tensor %.*s: no memory for %" PRIu64 " rows", (int)t->name.n,
                       t->name.p, step);
    int r = 0;
    for (uint64_t i = 0; i < n_rows && r == 0; i += step) {
        uint64_t n = MIN(step, n_rows - i);
        r = gguf_read(g, t, (row0 + i) * row_bytes, buf, (size_t)(n * row_bytes), e);
        if (r < 0) break;
        dequant_blocks(t->type, buf, (size_t)(n * width), ret + i * width);
        r = check_finite(t, row0 + i, ret + i * width, (size_t)(n * width), e);
    }
    free(buf);
    return r;
}
