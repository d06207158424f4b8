#include "core/make/plot.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "core/make/text.h"

/* All in SVG's user units. */
enum {
    WIDTH = 860,
    HEIGHT = 520,
    LEFT = 84, /* of the area of the curves, to the edges */
    RIGHT = 24,
    TOP = 52,
    BOTTOM = 66,
    LEGEND_LINE = 18,
    TICKS = 7 /* about as many on an axis */
};

/* Okabe and Ito's colours, told apart by people who see fewer of them; the yellow is left out, as
 * it is too light on white. */
static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                      "#000000", "#e69f00", "#56b4e9"};
enum { SHAPES = 5 };

struct axis {
    double from, to, step;
    int digits;        /* after the point, in its numbers */
    double at, length; /* where `from` is drawn, and how far away `to` */
};

static double place(const struct axis *a, double v) {
    return a->at + (v - a->from) / (a->to - a->from) * a->length;
}

/* Round numbers that enclose lo .. hi. */
static struct axis make_axis(double lo, double hi, double at, double length) {
    if (!(hi > lo)) {
        double room = lo != 0.0 ? fabs(lo) * 0.05 : 1.0;
        lo -= room;
        hi += room;
    }
    double rough = (hi - lo) / TICKS, unit = pow(10.0, floor(log10(rough)));
    double step = rough / unit <= 1.0   ? 1.0
                  : rough / unit <= 2.0 ? 2.0
                  : rough / unit <= 5.0 ? 5.0
                                        : 10.0;
    step *= unit;
    struct axis a = {.from = floor(lo / step + 1e-9) * step,
                     .to = ceil(hi / step - 1e-9) * step,
                     .step = step,
                     .at = at,
                     .length = length};
    a.digits = step < 1.0 ? (int)ceil(-log10(step) - 1e-9) : 0;
    return a;
}

static uint32_t n_ticks(const struct axis *a) {
    return (uint32_t)((a->to - a->from) / a->step + 1.5);
}

/* A tick's value; what rounding has left of a zero is one. */
static double tick_value(const struct axis *a, uint32_t i) {
    double v = a->from + i * a->step;
    return fabs(v) < a->step * 1e-6 ? 0.0 : v;
}

/* As character data or an attribute's value. Control bytes, which XML has no way to write, are
 * blanks. */
static void put_text(FILE *f, const char *s) {
    size_t n = strlen(s);
    for (size_t i = 0; i < n;) {
        const uint8_t *p = (const uint8_t *)s + i;
        size_t len = text_utf8_len(p, n - i);
        bool is_char = len > 0 && !(len == 3 && p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe);
        if (!is_char)
            fputs("\xef\xbf\xbd", f);
        else if (*p == '&')
            fputs("&amp;", f);
        else if (*p == '<')
            fputs("&lt;", f);
        else if (*p == '>')
            fputs("&gt;", f);
        else if (*p == '"')
            fputs("&quot;", f);
        else if (*p < ' ' || *p == 0x7f)
            fputc(' ', f);
        else
            fwrite(p, 1, len, f);
        i += MAX(len, (size_t)1);
    }
}

/* ---- axes --------------------------------------------------------------------------------------
 */

static void put_x_axis(FILE *f, const struct axis *x, const char *title) {
    const int bottom = HEIGHT - BOTTOM;
    fprintf(f, "<g text-anchor=\"middle\">\n");
    for (uint32_t i = 0; i < n_ticks(x); i++) {
        double v = tick_value(x, i), at = place(x, v);
        fprintf(f,
                "<path d=\"M%.1f %dV%d\" stroke=\"#e4e4e4\"/><path d=\"M%.1f %dv5\" "
                "stroke=\"#444\"/><text x=\"%.1f\" y=\"%d\">%.*f</text>\n",
                at, TOP, bottom, at, bottom, at, bottom + 20, x->digits, v);
    }
    fprintf(f, "<text x=\"%d\" y=\"%d\" font-size=\"14\">", (LEFT + WIDTH - RIGHT) / 2,
            HEIGHT - 18);
    put_text(f, title);
    fprintf(f, "</text>\n</g>\n");
}

static void put_y_axis(FILE *f, const struct axis *y, const char *title) {
    fprintf(f, "<g text-anchor=\"end\">\n");
    for (uint32_t i = 0; i < n_ticks(y); i++) {
        double v = tick_value(y, i), at = place(y, v);
        fprintf(f,
                "<path d=\"M%d %.1fH%d\" stroke=\"#e4e4e4\"/><path d=\"M%d %.1fh-5\" "
                "stroke=\"#444\"/><text x=\"%d\" y=\"%.1f\">%.*f</text>\n",
                LEFT, at, WIDTH - RIGHT, LEFT, at, LEFT - 9, at + 4, y->digits, v);
    }
    fprintf(f,
            "</g>\n<text transform=\"translate(24 %d) rotate(-90)\" text-anchor=\"middle\" "
            "font-size=\"14\">",
            (TOP + HEIGHT - BOTTOM) / 2);
    put_text(f, title);
    fprintf(f, "</text>\n");
}

/* ---- lines -------------------------------------------------------------------------------------
 */

static void put_marker(FILE *f, uint32_t shape, double x, double y) {
    switch (shape % SHAPES) {
    case 0: fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.6\"/>", x, y); break;
    case 1: fprintf(f, "<path d=\"M%.1f %.1fh7v7h-7z\"/>", x - 3.5, y - 3.5); break;
    case 2: fprintf(f, "<path d=\"M%.1f %.1fl4.4 7.6h-8.8z\"/>", x, y - 4.8); break;
    case 3: fprintf(f, "<path d=\"M%.1f %.1fl4.6 4.6-4.6 4.6-4.6-4.6z\"/>", x, y - 4.6); break;
    case 4: fprintf(f, "<path d=\"M%.1f %.1fl4.4-7.6h-8.8z\"/>", x, y + 4.8); break;
    }
}

static void put_path(FILE *f, const struct axis *x, const struct axis *y,
                     const struct plot_line *l) {
    fprintf(f, "<path fill=\"none\" d=\"");
    for (uint32_t i = 0; i < l->n; i++) {
        if (i > 0 && l->is_stair)
            fprintf(f, "H%.1fV%.1f", place(x, l->x[i]), place(y, l->y[i]));
        else
            fprintf(f, "%c%.1f %.1f", i ? 'L' : 'M', place(x, l->x[i]), place(y, l->y[i]));
    }
    fprintf(f, "\"/>\n");
}

static void put_faint(FILE *f, const struct axis *x, const struct axis *y,
                      const struct plot_line *l) {
    fprintf(f, "<g stroke=\"#a0a0a0\" stroke-width=\"1.2\"><title>");
    put_text(f, l->name);
    fprintf(f, "</title>");
    put_path(f, x, y, l);
    fprintf(f, "</g>\n");
}

static void put_line(FILE *f, const struct axis *x, const struct axis *y, const struct plot_line *l,
                     uint32_t style) {
    const char *colour = colours[style % ARRAY_LEN(colours)];
    fprintf(f, "<g stroke=\"%s\" stroke-width=\"2\" fill=\"%s\"><title>", colour, colour);
    put_text(f, l->name);
    fprintf(f, "</title>");
    put_path(f, x, y, l);
    fprintf(f, "<g stroke=\"#fff\" stroke-width=\"0.8\">");
    for (uint32_t i = 0; i < l->n && !l->is_stair; i++)
        put_marker(f, style, place(x, l->x[i]), place(y, l->y[i]));
    fprintf(f, "</g></g>\n");
}

static void put_entry(FILE *f, int row, int width, const char *name, bool is_faint,
                      uint32_t style) {
    const char *colour = is_faint ? "#a0a0a0" : colours[style % ARRAY_LEN(colours)];
    int x = WIDTH - RIGHT - 10 - width, y = TOP + 22 + row * LEGEND_LINE;
    fprintf(f, "<g stroke=\"%s\" stroke-width=\"%s\" fill=\"%s\"><path d=\"M%d %dh26\"/>", colour,
            is_faint ? "1.2" : "2", colour, x + 10, y);
    if (!is_faint) {
        fprintf(f, "<g stroke=\"#fff\" stroke-width=\"0.8\">");
        put_marker(f, style, x + 23, y);
        fprintf(f, "</g>");
    }
    fprintf(f, "</g><text x=\"%d\" y=\"%d\">", x + 44, y + 4);
    put_text(f, name);
    fprintf(f, "</text>\n");
}

static void put_legend(FILE *f, const struct plot *p) {
    bool has_faint = false;
    uint32_t n = 0;
    size_t longest = 0;
    for (uint32_t i = 0; i < p->n_lines; i++) {
        bool is_new = !p->lines[i].is_faint || !has_faint;
        has_faint |= p->lines[i].is_faint;
        n += is_new;
        const char *name = p->lines[i].is_faint ? p->faint_name : p->lines[i].name;
        longest = MAX(longest, strlen(name));
    }
    /* Fonts differ: 7.5 units a letter are enough for most. */
    int width = 60 + (int)(7.5 * (double)MIN(longest, (size_t)60));
    fprintf(f,
            "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%u\" rx=\"4\" fill=\"#fff\" "
            "fill-opacity=\"0.9\" stroke=\"#ccc\"/>\n",
            WIDTH - RIGHT - 10 - width, TOP + 10, width, n * LEGEND_LINE + 8);
    int row = 0;
    uint32_t style = 0;
    for (uint32_t i = 0; i < p->n_lines; i++)
        if (!p->lines[i].is_faint) put_entry(f, row++, width, p->lines[i].name, false, style++);
    if (has_faint) put_entry(f, row, width, p->faint_name, true, 0);
}

static int check(const struct plot *p) {
    if (p->n_lines == 0) return -EINVAL;
    for (uint32_t i = 0; i < p->n_lines; i++) {
        const struct plot_line *l = &p->lines[i];
        if (l->n == 0) return -EINVAL;
        for (uint32_t k = 0; k < l->n; k++)
            if (!isfinite(l->x[k]) || !isfinite(l->y[k])) return -EINVAL;
    }
    return 0;
}

int plot_svg(const struct plot *p, FILE *f) {
    int r = check(p);
    if (r < 0) return r;
    double x0 = INFINITY, x1 = -INFINITY, y0 = 0.0, y1 = -INFINITY;
    for (uint32_t i = 0; i < p->n_lines; i++)
        for (uint32_t k = 0; k < p->lines[i].n; k++) {
            x0 = fmin(x0, p->lines[i].x[k]);
            x1 = fmax(x1, p->lines[i].x[k]);
            y0 = fmin(y0, p->lines[i].y[k]);
            y1 = fmax(y1, p->lines[i].y[k]);
        }
    struct axis x = make_axis(x0, x1, LEFT, WIDTH - LEFT - RIGHT);
    struct axis y = make_axis(y0, y1, HEIGHT - BOTTOM, -(HEIGHT - TOP - BOTTOM));
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
            "height=\"%d\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\" "
            "stroke-linejoin=\"round\" stroke-linecap=\"round\" role=\"img\">\n<title>",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    put_text(f, p->title);
    fprintf(f,
            "</title>\n<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n<text x=\"%d\" "
            "y=\"30\" font-size=\"16\">",
            WIDTH, HEIGHT, LEFT);
    put_text(f, p->title);
    fprintf(f, "</text>\n");
    put_x_axis(f, &x, p->x_title);
    put_y_axis(f, &y, p->y_title);
    fprintf(f, "<path d=\"M%d %dV%dH%d\" fill=\"none\" stroke=\"#444\"/>\n", LEFT, TOP,
            HEIGHT - BOTTOM, WIDTH - RIGHT);
    for (uint32_t i = 0; i < p->n_lines; i++)
        if (p->lines[i].is_faint) put_faint(f, &x, &y, &p->lines[i]);
    uint32_t style = 0;
    for (uint32_t i = 0; i < p->n_lines; i++)
        if (!p->lines[i].is_faint) put_line(f, &x, &y, &p->lines[i], style++);
    put_legend(f, p);
    fprintf(f, "</svg>\n");
    return ferror(f) ? -EIO : 0;
}
