/* Orders of units by a score, and how far two of them agree. Pure; NaN means not measured. */
#ifndef EBB_CORE_MAKE_RANKS_H
#define EBB_CORE_MAKE_RANKS_H

#include <stdint.h>

/* ret[n]: 1 for the largest score, and so on, equal ones in order of their index; 0 for NaN. */
void ranks_of(const double *v, uint32_t n, uint32_t *ret);

/* Kendall's tau-b of two scores over the indices that both know: 1 the same order, -1 the reverse,
 * about 0 unrelated; pairs that one side ties are left out of its count. NaN if a side orders no
 * pair. */
double ranks_tau(const double *a, const double *b, uint32_t n);

#endif
