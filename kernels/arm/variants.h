/* The 64-bit ARM variants, named kern_<op>_<isa>; contracts in kernels.h. */
#ifndef EBB_KERNELS_ARM_VARIANTS_H
#define EBB_KERNELS_ARM_VARIANTS_H

#include "kernels/kernels.h"

kern_quant_kv_fn kern_quant_kv_neon;
kern_attn_scores_fn kern_attn_scores_neon;
kern_attn_scores_fn kern_attn_scores_f16_neon;
kern_attn_exp_fn kern_attn_exp_neon;
kern_attn_mix_fn kern_attn_mix_neon;
kern_attn_mix_fn kern_attn_mix_f16_neon;
kern_gather_fn kern_gather_neon;
kern_log_softmax_fn kern_log_softmax_neon;
kern_mul_fn kern_gemm_full_neon;
kern_mul_fn kern_gemm_high_neon;
kern_mul_fn kern_gemv_full_neon;
kern_mul_fn kern_gemv_high_neon;
kern_quant_acts_fn kern_quant_acts_neon;
kern_rmsnorm_fn kern_rmsnorm_neon;
kern_rope_fn kern_rope_neon;
kern_row_fn kern_row_neon;
kern_seg_mul_fn kern_gemm_seg_neon;
kern_seg_mul_fn kern_gemv_seg_neon;
kern_silu_mul_fn kern_silu_mul_neon;
kern_to_f16_fn kern_to_f16_neon;

kern_mul_fn kern_gemm_full_dotprod;
kern_mul_fn kern_gemm_high_dotprod;
kern_mul_fn kern_gemv_full_dotprod;
kern_mul_fn kern_gemv_high_dotprod;
kern_seg_mul_fn kern_gemm_seg_dotprod;
kern_seg_mul_fn kern_gemv_seg_dotprod;

kern_mul_fn kern_gemm_full_i8mm;
kern_mul_fn kern_gemm_high_i8mm;
kern_seg_mul_fn kern_gemm_seg_i8mm;

#endif
