/* One row of a matrix as floats, NEON. A row's codes of one group are 4 bytes in each of the
 * tile's 4 vectors; side by side, their low nibbles are inputs 0..15, their high ones 16..31. */
#include "kernels/arm/variants.h"

#include "kernels/arm/neon.h"

KERN_INLINE uint8x16_t row_codes(const uint8_t *tile, uint32_t r) {
    uint32_t c[4];
    for (unsigned v = 0; v < 4; v++) memcpy(&c[v], tile + 32 * v + 4 * r, sizeof(c[v]));
    return vreinterpretq_u8_u32(vld1q_u32(c));
}

/* 16 codes to floats fma(s, code, off). */
KERN_INLINE void put16(int8x16_t codes, float s, float off, float *ret) {
    int16x8_t half[2] = {vmovl_s8(vget_low_s8(codes)), vmovl_high_s8(codes)};
    float32x4_t o = vdupq_n_f32(off);
    for (unsigned i = 0; i < 2; i++) {
        float32x4_t a = vcvtq_f32_s32(vmovl_s16(vget_low_s16(half[i])));
        float32x4_t b = vcvtq_f32_s32(vmovl_high_s16(half[i]));
        vst1q_f32(ret + 8 * i, vfmaq_n_f32(o, a, s));
        vst1q_f32(ret + 8 * i + 4, vfmaq_n_f32(o, b, s));
    }
}

void kern_row_neon(const struct kern_planes *w, uint32_t row, float *ret) {
    uint32_t rt = row / PLANE_ROWS, r = row % PLANE_ROWS, n_groups = w->n_in / PLANE_GROUP;
    size_t tile = (size_t)rt * n_groups;
    float rows[16]; /* D of the 8 rows, then M */
    for (unsigned i = 0; i < 4; i++)
        vst1q_f32(rows + 4 * i, load_f16(w->rows + (size_t)rt * PLANE_ROW_BYTES + 8 * i));
    float d = w->low ? rows[r] / 8 : rows[r], m = rows[8 + r];

    for (uint32_t g = 0; g < n_groups; g++, tile++, ret += PLANE_GROUP) {
        const uint8_t *group = w->groups + tile * PLANE_SCALE_BYTES;
        float s = d * group[r], off = -m * group[PLANE_ROWS + r];
        uint8x16_t h = row_codes(w->high + tile * PLANE_TILE_BYTES, r);
        if (w->low) {
            uint8x16_t l = row_codes(w->low + tile * PLANE_TILE_BYTES, r);
            put16(full_low_nibbles(h, l), s, off, ret);
            put16(full_high_nibbles(h, l), s, off, ret + 16);
        } else {
            put16(low_nibbles(h), s, off, ret);
            put16(high_nibbles(h), s, off, ret + 16);
        }
    }
}
