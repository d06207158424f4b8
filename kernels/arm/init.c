/* Ladder of the 64-bit ARM variants: each step needs the one before it. */
#include "kernels/variants.h"

#include "kernels/arm/variants.h"
#include "kernels/kernels.h"

void kern_init_arm(struct kern_ops *ops, unsigned flags) {
    if (!(flags & KERN_NEON)) return;
    ops->name = "neon";
    ops->quant_acts = kern_quant_acts_neon;
    ops->gemv_high = kern_gemv_high_neon;
    ops->gemv_full = kern_gemv_full_neon;
    ops->gemm_high = kern_gemm_high_neon;
    ops->gemm_full = kern_gemm_full_neon;
    ops->gemv_seg = kern_gemv_seg_neon;
    ops->gemm_seg = kern_gemm_seg_neon;
    ops->gather = kern_gather_neon;
    ops->row = kern_row_neon;
    ops->rmsnorm = kern_rmsnorm_neon;
    ops->rope = kern_rope_neon;
    ops->quant_kv = kern_quant_kv_neon;
    ops->attn_scores = kern_attn_scores_neon;
    ops->attn_scores_f16 = kern_attn_scores_f16_neon;
    ops->attn_exp = kern_attn_exp_neon;
    ops->attn_mix = kern_attn_mix_neon;
    ops->attn_mix_f16 = kern_attn_mix_f16_neon;
    ops->silu_mul = kern_silu_mul_neon;
    ops->to_f16 = kern_to_f16_neon;
    ops->log_softmax = kern_log_softmax_neon;

    if (!(flags & KERN_DOTPROD)) return;
    ops->name = "dotprod";
    ops->gemv_high = kern_gemv_high_dotprod;
    ops->gemv_full = kern_gemv_full_dotprod;
    ops->gemm_high = kern_gemm_high_dotprod;
    ops->gemm_full = kern_gemm_full_dotprod;
    ops->gemv_seg = kern_gemv_seg_dotprod;
    ops->gemm_seg = kern_gemm_seg_dotprod;

    if (!(flags & KERN_I8MM)) return;
    ops->name = "i8mm";
    ops->gemm_high = kern_gemm_high_i8mm;
    ops->gemm_full = kern_gemm_full_i8mm;
    ops->gemm_seg = kern_gemm_seg_i8mm;
}
