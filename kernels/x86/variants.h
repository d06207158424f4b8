/* The x86 variants, named kern_<op>_<isa>; contracts in kernels.h. */
#ifndef EBB_KERNELS_X86_VARIANTS_H
#define EBB_KERNELS_X86_VARIANTS_H

#include "kernels/kernels.h"

kern_attn_fn kern_attn_avx2;
kern_gather_fn kern_gather_avx2;
kern_group_cost_fn kern_group_cost_avx2;
kern_log_softmax_fn kern_log_softmax_avx2;
kern_mul_fn kern_gemm_full_avx2;
kern_mul_fn kern_gemm_high_avx2;
kern_mul_fn kern_gemv_full_avx2;
kern_mul_fn kern_gemv_high_avx2;
kern_nearest_fn kern_nearest_avx2;
kern_quant_acts_fn kern_quant_acts_avx2;
kern_rmsnorm_fn kern_rmsnorm_avx2;
kern_rope_fn kern_rope_avx2;
kern_row_fn kern_row_avx2;
kern_seg_mul_fn kern_gemm_seg_avx2;
kern_seg_mul_fn kern_gemv_seg_avx2;
kern_silu_mul_fn kern_silu_mul_avx2;
kern_to_f16_fn kern_to_f16_avx2;

kern_mul_fn kern_gemm_full_avxvnni;
kern_mul_fn kern_gemm_high_avxvnni;
kern_mul_fn kern_gemv_full_avxvnni;
kern_mul_fn kern_gemv_high_avxvnni;
kern_seg_mul_fn kern_gemm_seg_avxvnni;
kern_seg_mul_fn kern_gemv_seg_avxvnni;

kern_mul_fn kern_gemm_full_avx512vnni;
kern_mul_fn kern_gemm_high_avx512vnni;
kern_mul_fn kern_gemv_full_avx512vnni;
kern_mul_fn kern_gemv_high_avx512vnni;
kern_seg_mul_fn kern_gemm_seg_avx512vnni;
kern_seg_mul_fn kern_gemv_seg_avx512vnni;

#endif
