/* A run as a picture: position, stage of heat, and the position that the memory of the moment would
 * allow, over time. Of a line with more changes than a picture can show, every second one is left
 * out as often as needed. */
#ifndef EBB_TESTS_SIM_CHART_H
#define EBB_TESTS_SIM_CHART_H

#include <stdio.h>

#include "core/defs.h"

enum { CHART_POSITION, CHART_STAGE, CHART_ALLOWED };
enum { CHART_LINES = CHART_ALLOWED + 1, CHART_MAX = 8192 };

struct chart_line {
    double x[CHART_MAX + 2], y[CHART_MAX + 2];
    uint32_t n, n_skipped, stride; /* one in `stride` changes is kept; 0 = all */
    double last;
};

/* Zero it to start. */
struct chart {
    struct chart_line lines[CHART_LINES];
    double end_s;
};

/* A value from this time on; not a number: there is none. */
void chart_add(struct chart *c, unsigned line, double at_s, double v);
/* Writes it as SVG. 0, -EINVAL (nothing was added), -ENOMEM or -EIO. */
int chart_write(const struct chart *c, const char *title, FILE *f) MUST_CHECK;

#endif
