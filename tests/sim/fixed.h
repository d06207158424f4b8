/* Decimal numbers as people write them, "0.25" or "-3", to integers: so many digits behind the
 * point are kept, the rest is cut. There is no way to write NaN, infinity or an exponent. Pure. */
#ifndef EBB_TESTS_SIM_FIXED_H
#define EBB_TESTS_SIM_FIXED_H

#include "core/defs.h"

/* s[n] need not be terminated: [-]D[.D]. *ret is the number times
 * 10^digits. 0; -EINVAL: not a number; -ERANGE: not within min .. max, both times 10^digits. */
int fixed_parse(const char *s, size_t n, unsigned digits, int64_t min, int64_t max,
                int64_t *ret) MUST_CHECK;

#endif
