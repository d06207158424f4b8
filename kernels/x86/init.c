/* Ladder of the x86 variants: each step but AVX-VNNI needs the one before it. */
#include "kernels/variants.h"

#include "kernels/kernels.h"
#include "kernels/x86/variants.h"

void kern_init_x86(struct kern_ops *ops, unsigned flags) {
    if (!(flags & KERN_AVX2)) return;
    ops->name = "avx2";
    ops->quant_acts = kern_quant_acts_avx2;
    ops->gemv_high = kern_gemv_high_avx2;
    ops->gemv_full = kern_gemv_full_avx2;
    ops->gemm_high = kern_gemm_high_avx2;
    ops->gemm_full = kern_gemm_full_avx2;
    ops->gemv_seg = kern_gemv_seg_avx2;
    ops->gemm_seg = kern_gemm_seg_avx2;
    ops->gather = kern_gather_avx2;
    ops->row = kern_row_avx2;
    ops->rmsnorm = kern_rmsnorm_avx2;
    ops->rope = kern_rope_avx2;
    ops->quant_kv = kern_quant_kv_avx2;
    ops->attn_scores = kern_attn_scores_avx2;
    ops->attn_scores_f16 = kern_attn_scores_f16_avx2;
    ops->attn_exp = kern_attn_exp_avx2;
    ops->attn_mix = kern_attn_mix_avx2;
    ops->attn_mix_f16 = kern_attn_mix_f16_avx2;
    ops->silu_mul = kern_silu_mul_avx2;
    ops->to_f16 = kern_to_f16_avx2;
    ops->log_softmax = kern_log_softmax_avx2;
    ops->group_cost = kern_group_cost_avx2;
    ops->nearest = kern_nearest_avx2;

    if (flags & KERN_AVXVNNI) {
        ops->name = "avxvnni";
        ops->gemv_high = kern_gemv_high_avxvnni;
        ops->gemv_full = kern_gemv_full_avxvnni;
        ops->gemm_high = kern_gemm_high_avxvnni;
        ops->gemm_full = kern_gemm_full_avxvnni;
        ops->gemv_seg = kern_gemv_seg_avxvnni;
        ops->gemm_seg = kern_gemm_seg_avxvnni;
    }

    /* A CPU may have this without the one above. */
    if (!(flags & KERN_AVX512VNNI)) return;
    ops->name = "avx512vnni";
    ops->gemv_high = kern_gemv_high_avx512vnni;
    ops->gemv_full = kern_gemv_full_avx512vnni;
    ops->gemm_high = kern_gemm_high_avx512vnni;
    ops->gemm_full = kern_gemm_full_avx512vnni;
    ops->gemv_seg = kern_gemv_seg_avx512vnni;
    ops->gemm_seg = kern_gemm_seg_avx512vnni;
}
