#include "tests/sim/chart.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "core/make/plot.h"

static void halve(struct chart_line *l) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n; i += 2, n++) {
        l->x[n] = l->x[i];
        l->y[n] = l->y[i];
    }
    l->n = n;
    l->stride = l->stride ? 2 * l->stride : 2;
}

void chart_add(struct chart *c, unsigned line, double at_s, double v) {
    struct chart_line *l = &c->lines[line];
    c->end_s = fmax(c->end_s, at_s);
    if (!isfinite(v) || (l->n > 0 && v == l->last)) return;
    l->last = v;
    if (l->n > 0 && ++l->n_skipped < l->stride) return;
    l->n_skipped = 0;
    if (l->n == CHART_MAX) halve(l);
    l->x[l->n] = at_s;
    l->y[l->n++] = v;
}

int chart_write(const struct chart *c, const char *title, FILE *f) {
    static const char *const names[CHART_LINES] = {"position", "heat stage",
                                                   "position that memory allows"};
    struct plot_line lines[CHART_LINES];
    struct chart *whole = malloc(sizeof(*whole));
    uint32_t n = 0;
    if (!whole) return -ENOMEM;
    *whole = *c;
    for (unsigned i = CHART_LINES; i-- > 0;) { /* what is decided lies on top */
        struct chart_line *l = &whole->lines[i];
        if (l->n == 0) continue;
        l->x[l->n] = c->end_s;
        l->y[l->n++] = l->last;
        lines[n++] = (struct plot_line){.name = names[i],
                                        .x = l->x,
                                        .y = l->y,
                                        .n = l->n,
                                        .is_faint = i == CHART_ALLOWED,
                                        .is_stair = true};
    }
    const struct plot p = {.title = title,
                           .x_title = "time, s",
                           .y_title = "position, stage",
                           .faint_name = names[CHART_ALLOWED],
                           .lines = lines,
                           .n_lines = n};
    int r = plot_svg(&p, f);
    free(whole);
    return r;
}
