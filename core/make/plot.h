/* A line chart as SVG: one self-contained text, no scripts, no fonts and no files beside it.
 *
 * White background and dark ink of its own, so that it reads the same on any page. Lines differ in
 * colour and in the shape of their markers, so that it can also be read without colours; faint ones
 * (many of a kind, to compare with) are thin and grey and share one entry of the legend. Numbers on
 * the axes are round. The y axis begins at 0 unless a value is negative. */
#ifndef EBB_CORE_MAKE_PLOT_H
#define EBB_CORE_MAKE_PLOT_H

#include <stdio.h>

#include "core/defs.h"

struct plot_line {
    const char *name;
    const double *x, *y; /* [n], n >= 1, in order of x; numbers */
    uint32_t n;
    bool is_faint;
    bool is_stair; /* a value holds until the next x: drawn as stairs, and without markers */
};

struct plot { /* all borrowed; texts in UTF-8, whatever is none comes out as U+FFFD */
    const char *title;
    const char *x_title, *y_title;
    const char *faint_name; /* what the legend calls the faint lines; not used if there are none */
    const struct plot_line *lines;
    uint32_t n_lines;
};

/* Writes the chart to `f`. 0, -EINVAL (no line, an empty one, or a value that is not a number) or
 * -EIO. */
int plot_svg(const struct plot *p, FILE *f) MUST_CHECK;

#endif
