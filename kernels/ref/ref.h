/* The readable reference: the functions behind kern_init(ops, 0), and the truth for every variant.
 *
 * Shapes are in comments, operations in the order that kernels.h promises. Portable C, compiled
 * for the baseline CPU, so fmaf() may be a slow call: nobody serves from these in earnest. */
#ifndef EBB_KERNELS_REF_REF_H
#define EBB_KERNELS_REF_REF_H

#include "kernels/kernels.h"

kern_quant_acts_fn kern_quant_acts_ref;
kern_mul_fn kern_gemv_high_ref;
kern_mul_fn kern_gemv_full_ref;
kern_mul_fn kern_gemm_high_ref;
kern_mul_fn kern_gemm_full_ref;
kern_seg_mul_fn kern_gemv_seg_ref;
kern_seg_mul_fn kern_gemm_seg_ref;
kern_gather_fn kern_gather_ref;
kern_row_fn kern_row_ref;
kern_rmsnorm_fn kern_rmsnorm_ref;
kern_rope_fn kern_rope_ref;
kern_quant_kv_fn kern_quant_kv_ref;
kern_attn_scores_fn kern_attn_scores_ref;
kern_attn_scores_fn kern_attn_scores_f16_ref;
kern_attn_exp_fn kern_attn_exp_ref;
kern_attn_mix_fn kern_attn_mix_ref;
kern_attn_mix_fn kern_attn_mix_f16_ref;
kern_silu_mul_fn kern_silu_mul_ref;
kern_to_f16_fn kern_to_f16_ref;
kern_log_softmax_fn kern_log_softmax_ref;
kern_group_cost_fn kern_group_cost_ref;
kern_nearest_fn kern_nearest_ref;

/* One tile of a matrix, found in the four arrays of its planes. */
struct tile {
    const uint8_t *sc;   /* [8] group scale codes */
    const uint8_t *mn;   /* [8] group min codes */
    const uint8_t *high; /* [128] codes t */
    const uint8_t *low;  /* [128] codes l, NULL if the low plane is not resident */
};

static inline struct tile tile_at(const struct kern_planes *w, uint32_t rt, uint32_t g) {
    size_t i = (size_t)rt * (w->n_in / PLANE_GROUP) + g;
    return (struct tile){
        .sc = w->groups + i * PLANE_SCALE_BYTES,
        .mn = w->groups + i * PLANE_SCALE_BYTES + PLANE_ROWS,
        .high = w->high + i * PLANE_TILE_BYTES,
        .low = w->low ? w->low + i * PLANE_TILE_BYTES : NULL,
    };
}

/* Code of row r and input i of a tile: t alone, or 8t + l - 8 when the tile has its low plane. */
static inline int32_t tile_code(const struct tile *t, uint32_t r, uint32_t i) {
    uint32_t byte = planes_code_byte(r, i), shift = planes_code_shift(i);
    int32_t high = t->high[byte] >> shift & 15;
    if (!t->low) return high;
    return 8 * high + (t->low[byte] >> shift & 15) - 8;
}

/* Scale D and min M of row r of a row tile, as stored. */
static inline float row_scale(const struct kern_planes *w, uint32_t rt, uint32_t r) {
    const uint8_t *p = w->rows + (size_t)rt * PLANE_ROW_BYTES + 2 * r;
    return kern_from_f16((uint16_t)(p[0] | p[1] << 8));
}

static inline float row_min(const struct kern_planes *w, uint32_t rt, uint32_t r) {
    const uint8_t *p = w->rows + (size_t)rt * PLANE_ROW_BYTES + 2 * (PLANE_ROWS + r);
    return kern_from_f16((uint16_t)(p[0] | p[1] << 8));
}

#endif
