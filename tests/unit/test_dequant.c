/* dequant: every block format against a second implementation that answers for one weight at a
 * time, straight from the format's description; some blocks by hand; and what must be refused. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/dequant.h"
#include "core/err.h"
#include "tests/golden/gguf_build.h"
#include "tests/t.h"

static float half_ref(const uint8_t *p) {
    int h = p[0] + 256 * p[1], man = h % 1024, exp = h / 1024 % 32;
    double v = exp == 31 ? (man ? (double)NAN : (double)INFINITY)
               : exp     ? ldexp(1024 + man, exp - 25)
                         : ldexp(man, -24);
    return (float)(h >= 32768 ? -v : v);
}

static int bit(const uint8_t *p, int i) {
    return p[i / 8] >> i % 8 & 1;
}

static int nibble(const uint8_t *p, int i, int half) { /* first `half` weights: low nibbles */
    return i < half ? p[i] % 16 : p[i - half] / 16;
}

/* Scale (or min) j of a K block as a 6-bit number, put together bit by bit. */
static int k6(const uint8_t *s, int j, int is_min) {
    if (j < 4) return s[j + 4 * is_min] % 64;
    int low = is_min ? s[j + 4] / 16 : s[j + 4] % 16;
    int high = is_min ? s[j] / 64 : s[j - 4] / 64;
    return low + 16 * high;
}

static float k_ref(const uint8_t *b, int i, int q) {
    int g = i / 32;
    float d = half_ref(b), m = half_ref(b + 2);
    float step = d * (float)k6(b + 4, g, 0), off = m * (float)k6(b + 4, g, 1);
    return step * (float)q - off;
}

static float q6_ref(const uint8_t *b, int i) {
    int h = i / 128, k = i % 128, run = k / 32, c = k % 32;
    int byte = b[h * 64 + (run % 2) * 32 + c];
    int low = run < 2 ? byte % 16 : byte / 16;
    int high = b[128 + h * 32 + c] / (1 << 2 * run) % 4;
    int scale = (int8_t)b[192 + i / 16];
    return half_ref(b + 208) * (float)scale * (float)(low + 16 * high - 32);
}

/* The published levels as steps from one to the next. */
static int nl_ref(int code) {
    static const int step[15] = {23, 21, 18, 16, 14, 13, 12, 11, 12, 12, 13, 15, 16, 20, 24};
    int v = -127;
    for (int i = 0; i < code; i++) v += step[i];
    return v;
}

static float ref(enum gguf_tensor_type type, const uint8_t *b, int i) {
    float f;
    switch (type) {
    case GGUF_T_F32: memcpy(&f, b, 4); return f;
    case GGUF_T_F16: return half_ref(b);
    case GGUF_T_BF16: {
        uint8_t wide[4] = {0, 0, b[0], b[1]};
        memcpy(&f, wide, 4);
        return f;
    }
    case GGUF_T_Q4_0: return half_ref(b) * (float)(nibble(b + 2, i, 16) - 8);
    case GGUF_T_Q4_1: return half_ref(b) * (float)nibble(b + 4, i, 16) + half_ref(b + 2);
    case GGUF_T_Q5_0: return half_ref(b) * (float)(nibble(b + 6, i, 16) + 16 * bit(b + 2, i) - 16);
    case GGUF_T_Q5_1:
        return half_ref(b) * (float)(nibble(b + 8, i, 16) + 16 * bit(b + 4, i)) + half_ref(b + 2);
    case GGUF_T_Q8_0: return half_ref(b) * (float)(int8_t)b[2 + i];
    case GGUF_T_IQ4_NL: return half_ref(b) * (float)nl_ref(nibble(b + 2, i, 16));
    case GGUF_T_Q4_K: return k_ref(b, i, nibble(b + 16 + i / 64 * 32, i % 64, 32));
    case GGUF_T_Q5_K:
        return k_ref(
            b, i, nibble(b + 48 + i / 64 * 32, i % 64, 32) + 16 * (b[16 + i % 32] >> i / 32 & 1));
    case GGUF_T_Q6_K: return q6_ref(b, i);
    case GGUF_T_I8: break;
    }
    return 0;
}

static const enum gguf_tensor_type types[] = {
    GGUF_T_F32,  GGUF_T_F16,  GGUF_T_BF16,   GGUF_T_Q4_0, GGUF_T_Q4_1, GGUF_T_Q5_0,
    GGUF_T_Q5_1, GGUF_T_Q8_0, GGUF_T_IQ4_NL, GGUF_T_Q4_K, GGUF_T_Q5_K, GGUF_T_Q6_K,
};

/* Random bytes make random blocks, but for the half floats: exponent 31 is not finite. */
static void tame(enum gguf_tensor_type type, uint8_t *b) {
    size_t at[2] = {0, 0};
    if (type == GGUF_T_F32) b[3] &= 0xbf;
    if (type == GGUF_T_BF16) b[1] &= 0xbf;
    if (type == GGUF_T_Q6_K) at[0] = at[1] = 208;
    if (type == GGUF_T_Q4_1 || type == GGUF_T_Q5_1 || type == GGUF_T_Q4_K || type == GGUF_T_Q5_K)
        at[1] = 2;
    if (type != GGUF_T_F32 && type != GGUF_T_BF16)
        for (int k = 0; k < 2; k++) b[at[k] + 1] &= 0xbf;
}

static void random_blocks_match(void) {
    uint64_t seed = t_seed();
    for (size_t k = 0; k < sizeof(types) / sizeof(types[0]); k++) {
        uint32_t elems, bytes;
        REQUIRE(dequant_block(types[k], &elems, &bytes));
        for (int round = 0; round < 500; round++) {
            enum { BLOCKS = 3 };
            uint8_t *b = malloc(BLOCKS * bytes); /* exact size: ASan sees a read past it */
            float *y = malloc(BLOCKS * elems * sizeof(*y));
            for (uint32_t i = 0; i < BLOCKS * bytes; i++) b[i] = (uint8_t)t_rand(&seed);
            for (uint32_t i = 0; i < BLOCKS; i++) tame(types[k], b + i * bytes);
            dequant_blocks(types[k], b, BLOCKS * elems, y);
            for (uint32_t i = 0; i < BLOCKS * elems; i++) {
                float want = ref(types[k], b + i / elems * bytes, (int)(i % elems));
                if (memcmp(&y[i], &want, sizeof(want)) != 0 && !(y[i] == 0 && want == 0))
                    t_fail(__FILE__, __LINE__, "%s: weight %u is %a, not %a",
                           gguf_type_name(types[k]), (unsigned)i, (double)y[i], (double)want);
            }
            free(b);
            free(y);
        }
    }
}

static void every_half(void) {
    for (unsigned h = 0; h < 65536; h++) {
        uint8_t b[2] = {(uint8_t)h, (uint8_t)(h >> 8)};
        float y, want = half_ref(b);
        dequant_blocks(GGUF_T_F16, b, 1, &y);
        if (isnan(want))
            CHECK(isnan(y));
        else
            CHECK_MEM(&y, &want, sizeof(y));
        if (isfinite(want)) CHECK_EQU(gb_half(want), h); /* the builder's way back */
    }
}

/* Blocks written down by hand, so that both implementations are held to something outside. */
static void blocks_by_hand(void) {
    float y[256];
    uint8_t q4[18] = {0x00, 0x40, 0x0f}; /* d = 2; weight 0: 15, weight 16: 0 */
    dequant_blocks(GGUF_T_Q4_0, q4, 32, y);
    CHECK(y[0] == 14 && y[16] == -16 && y[1] == -16);
    uint8_t q41[20] = {0x00, 0x38, 0x00, 0xbc, [4] = 0x31}; /* d = 0.5, m = -1 */
    dequant_blocks(GGUF_T_Q4_1, q41, 32, y);
    CHECK(y[0] == -0.5f && y[16] == 0.5f && y[31] == -1);
    uint8_t q50[22] = {0x00, 0x3c, 0x01, 0x00, 0x00, 0x80, [6] = 0x02, [21] = 0x70};
    dequant_blocks(GGUF_T_Q5_0, q50, 32, y);
    CHECK(y[0] == 2 && y[31] == 7 && y[1] == -16);
    uint8_t q51[24] = {0x00, 0x3c, 0x00, 0x3c, 0x02, 0x00, 0x01, 0x00, [8] = 0x43, [9] = 0x05};
    dequant_blocks(GGUF_T_Q5_1, q51, 32, y);
    CHECK(y[0] == 4 && y[1] == 22 && y[16] == 21 && y[17] == 1);
    uint8_t q8[34] = {0x00, 0x3c, 0x7f, 0x80};
    dequant_blocks(GGUF_T_Q8_0, q8, 32, y);
    CHECK(y[0] == 127 && y[1] == -128 && y[2] == 0);
    uint8_t nl[18] = {0x00, 0x38, 0x80, 0x7f}; /* d = 0.5 */
    dequant_blocks(GGUF_T_IQ4_NL, nl, 32, y);
    CHECK(y[0] == -63.5f && y[16] == 0.5f && y[1] == 56.5f && y[17] == -5.0f && y[2] == -63.5f);
    uint8_t q4k[144] = {0x00, 0x3c, 0x00, 0x3c}; /* d = dmin = 1 */
    q4k[4] = 0xc3;                               /* scale 0 = 3, top bits of scale 4 = 3 */
    q4k[8] = 0x42;                               /* min 0 = 2, top bits of min 4 = 1 */
    q4k[12] = 0x51;                              /* scale 4 = 1 + 48, min 4 = 5 + 16 */
    q4k[16] = 0x07;                              /* weight 0 = 7 */
    q4k[16 + 64] = 0x02;                         /* weight 128 (group 4) = 2 */
    dequant_blocks(GGUF_T_Q4_K, q4k, 256, y);
    CHECK(y[0] == 3 * 7 - 2 && y[1] == -2 && y[128] == 49 * 2 - 21 && y[129] == -21);
    uint8_t q6k[210] = {[208] = 0x00, [209] = 0x3c, [192] = 2, [192 + 15] = 0xff};
    q6k[0] = 0x05;        /* weight 0: low 5 */
    q6k[128] = 0x01;      /* high 1: 21 - 32 = -11 */
    q6k[127] = 0xf0;      /* weight 255: low 15 */
    q6k[128 + 63] = 0xc0; /* high 3: 63 - 32 = 31 */
    dequant_blocks(GGUF_T_Q6_K, q6k, 256, y);
    CHECK(y[0] == -22 && y[1] == -64 && y[255] == -31);
}

static struct gguf *open_file(struct gb *b) {
    static char path[512];
    struct gguf *g;
    struct err e = {0};
    size_t n;
    uint8_t *p = gb_finish(b, &n);
    snprintf(path, sizeof(path), "%s/d.gguf", t_tmpdir());
    FILE *f = fopen(path, "wb");
    REQUIRE(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
    free(p);
    REQUIRE_OK(gguf_open(path, &g, &e), &e);
    return g;
}

static void rows_through_the_buffer(void) {
    enum { WIDTH = 96, ROWS = 6000 }; /* more than two buffers */
    struct gb b = {0};
    struct err e = {0};
    float *x = malloc(WIDTH * ROWS * sizeof(*x)), *y = malloc(WIDTH * ROWS * sizeof(*y));
    for (int i = 0; i < WIDTH * ROWS; i++) x[i] = (float)i;
    gb_tensor(&b, "t", GGUF_T_F32, (uint64_t[]){WIDTH, ROWS}, 2, x, WIDTH * ROWS * sizeof(*x));
    gb_tensor(&b, "v", GGUF_T_F32, (uint64_t[]){WIDTH}, 1, x, WIDTH * sizeof(*x));
    gb_tensor(&b, "i", GGUF_T_I8, (uint64_t[]){WIDTH}, 1, x, WIDTH);
    gb_tensor(&b, "c", GGUF_T_F32, (uint64_t[]){2, 2, 2}, 3, x, 32);
    struct gguf *g = open_file(&b);
    const struct gguf_tensor *t = gguf_find_tensor(g, "t");
    REQUIRE_OK(dequant_rows(g, t, 0, ROWS, y, &e), &e);
    CHECK_MEM(x, y, WIDTH * ROWS * sizeof(*x));
    REQUIRE_OK(dequant_rows(g, t, 5, 4000, y, &e), &e);
    CHECK_MEM(x + 5 * WIDTH, y, WIDTH * 4000 * sizeof(*x));
    REQUIRE_OK(dequant_rows(g, t, ROWS, 0, y, &e), &e);
    CHECK_EQ(dequant_rows(g, t, 1, ROWS, y, &e), -EINVAL);
    CHECK_EQ(dequant_rows(g, t, ROWS + 1, 0, y, &e), -EINVAL);
    CHECK_EQ(dequant_rows(g, t, 1, UINT64_MAX, y, &e), -EINVAL);
    REQUIRE_OK(dequant_rows(g, gguf_find_tensor(g, "v"), 0, 1, y, &e), &e);
    CHECK_MEM(x, y, WIDTH * sizeof(*x));
    CHECK_EQ(dequant_rows(g, gguf_find_tensor(g, "i"), 0, 1, y, &e), -ENOTSUP);
    CHECK_EQ(dequant_rows(g, gguf_find_tensor(g, "c"), 0, 1, y, &e), -EINVAL);
    gguf_close(g);
    free(x);
    free(y);
}

static void refuses_what_is_not_finite(void) {
    struct gb b = {0};
    struct err e = {0};
    float x[8] = {0}, y[64];
    uint8_t q8[68] = {[34] = 0x00, [35] = 0x7c, [36] = 1}; /* second row: d = infinity */
    x[5] = NAN;
    gb_tensor(&b, "nan", GGUF_T_F32, (uint64_t[]){4, 2}, 2, x, sizeof(x));
    gb_tensor(&b, "inf", GGUF_T_Q8_0, (uint64_t[]){32, 2}, 2, q8, sizeof(q8));
    struct gguf *g = open_file(&b);
    CHECK_EQ(dequant_rows(g, gguf_find_tensor(g, "nan"), 0, 2, y, &e), -EBADMSG);
    CHECK(strstr(e.msg, "tensor nan: row 1, column 1 is not a finite"));
    REQUIRE_OK(dequant_rows(g, gguf_find_tensor(g, "nan"), 0, 1, y, &e), &e);
    CHECK_EQ(dequant_rows(g, gguf_find_tensor(g, "inf"), 1, 1, y, &e), -EBADMSG);
    CHECK(strstr(e.msg, "row 1, column 0"));
    gguf_close(g);
}

static const struct t_case cases[] = {
    {"random_blocks_match", random_blocks_match},
    {"every_half", every_half},
    {"blocks_by_hand", blocks_by_hand},
    {"rows_through_the_buffer", rows_through_the_buffer},
    {"refuses_what_is_not_finite", refuses_what_is_not_finite},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
