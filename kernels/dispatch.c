/* Fills the table of kernels: the reference first, then the ladder of this CPU's family. An ISA
 * without a variant of some kernel so keeps the one below it. Compiled for the baseline CPU. */
#include "kernels/kernels.h"

#include "kernels/ref/ref.h"
#include "kernels/variants.h"

void kern_init(struct kern_ops *ops, unsigned flags) {
    *ops = (struct kern_ops){
        .name = "ref",
        .quant_acts = kern_quant_acts_ref,
        .gemv_high = kern_gemv_high_ref,
        .gemv_full = kern_gemv_full_ref,
        .gemm_high = kern_gemm_high_ref,
        .gemm_full = kern_gemm_full_ref,
        .gemv_seg = kern_gemv_seg_ref,
        .gemm_seg = kern_gemm_seg_ref,
        .gather = kern_gather_ref,
        .row = kern_row_ref,
        .rmsnorm = kern_rmsnorm_ref,
        .rope = kern_rope_ref,
        .quant_kv = kern_quant_kv_ref,
        .attn_scores = kern_attn_scores_ref,
        .attn_scores_f16 = kern_attn_scores_f16_ref,
        .attn_exp = kern_attn_exp_ref,
        .attn_mix = kern_attn_mix_ref,
        .attn_mix_f16 = kern_attn_mix_f16_ref,
        .silu_mul = kern_silu_mul_ref,
        .to_f16 = kern_to_f16_ref,
        .log_softmax = kern_log_softmax_ref,
        .group_cost = kern_group_cost_ref,
        .nearest = kern_nearest_ref,
    };
#if defined(__x86_64__)
    kern_init_x86(ops, flags);
#elif defined(__aarch64__)
    kern_init_arm(ops, flags);
#else
    (void)flags;
#endif
}
