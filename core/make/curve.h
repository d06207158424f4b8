/* A ladder as a curve of loss over bytes: where to measure it, and one number for all of it.
 *
 * Ladders are compared at the same bytes, not at the same number of steps, as steps differ in size.
 * Between two measured positions the loss is taken as linear in the bytes. Pure; any thread. */
#ifndef EBB_CORE_MAKE_CURVE_H
#define EBB_CORE_MAKE_CURVE_H

#include "core/defs.h"

struct ladder;

enum { CURVE_AREA_POINTS = 9 };

struct curve_point {
    uint64_t bytes;
    double loss;
};

/* Positions of `l` that come nearest to n >= 2 amounts of bytes, spread evenly from `top` down to
 * `bottom`, both included; the higher of two equally near. Rising, each once: ret[n]. Returns how
 * many. */
uint32_t curve_positions(const struct ladder *l, uint64_t top, uint64_t bottom, uint32_t n,
                         uint32_t *ret);

/* Loss at `bytes`; p[n], n >= 1, by bytes falling. Beyond either end the end's. */
double curve_at(const struct curve_point *p, uint32_t n, uint64_t bytes);

/* Mean loss at CURVE_AREA_POINTS even amounts of bytes inside (bottom, top): the area under the
 * curve, as a loss. */
double curve_area(const struct curve_point *p, uint32_t n, uint64_t top, uint64_t bottom);

/* How far x is on the way from `zero` to `one`: 0 at the first, 1 at the second. NaN if they are
 * the same. */
double curve_share(double zero, double one, double x);

/* Standard error of a number, from what it comes to with each of n parts of the data left out
 * (jackknife). NaN for n < 2. */
double curve_jackknife(const double *without, uint32_t n);

#endif
