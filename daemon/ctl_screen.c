/* Layout and drawing of a frame, see ctl_screen.h. */
#include "daemon/ctl_screen.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Width of the label column, and the screen width from which there is one. */
enum { LABEL_COLS = 10, LABEL_MIN_COLS = 40 };
/* The longest thing between two cells is a style ("\33[0;30;42m"), between two rows "\33[256;1H",
 * a style and "\33[K"; a frame has a few words before and after. */
enum { STYLE_BYTES = 12, ROW_BYTES = 32, FRAME_BYTES = 64 };

static const char *const style_codes[CTL_STYLE_COUNT] = {
    [CTL_STYLE_PLAIN] = "\33[0m",      [CTL_STYLE_LABEL] = "\33[0;36m",
    [CTL_STYLE_TITLE] = "\33[0;1m",    [CTL_STYLE_GOOD] = "\33[0;32m",
    [CTL_STYLE_WARN] = "\33[0;33m",    [CTL_STYLE_BAD] = "\33[0;1;31m",
    [CTL_STYLE_FULL] = "\33[0;30;42m", [CTL_STYLE_HIGH] = "\33[0;30;46m",
    [CTL_STYLE_SWSC] = "\33[0;30;43m", [CTL_STYLE_PAGED] = "\33[0;37;41m",
};

int ctl_screen_init(struct ctl_screen *s, unsigned n_cols, unsigned n_rows) {
    n_cols = MIN(MAX(n_cols, 1U), (unsigned)CTL_COLS_MAX);
    n_rows = MIN(MAX(n_rows, 1U), (unsigned)CTL_ROWS_MAX);
    size_t n = (size_t)n_cols * n_rows;
    struct ctl_screen made = {.n_cols = n_cols, .n_rows = n_rows};
    made.cells = calloc(n, 1);
    made.styles = calloc(n, 1);
    made.out = malloc(n * (1 + STYLE_BYTES) + (size_t)n_rows * ROW_BYTES + FRAME_BYTES);
    if (!made.cells || !made.styles || !made.out) {
        ctl_screen_fini(&made);
        return -ENOMEM;
    }
    ctl_screen_fini(s);
    *s = made;
    ctl_screen_clear(s);
    return 0;
}

void ctl_screen_fini(struct ctl_screen *s) {
    free(s->cells);
    free(s->styles);
    free(s->out);
    *s = (struct ctl_screen){0};
}

void ctl_screen_clear(struct ctl_screen *s) {
    size_t n = (size_t)s->n_cols * s->n_rows;
    memset(s->cells, 0, n);
    memset(s->styles, 0, n);
    s->row = s->col = s->indent = 0;
    s->has_item = false;
}

/* --- layout --- */

bool ctl_screen_is_full(const struct ctl_screen *s) {
    return s->row >= s->n_rows;
}

static void next_row(struct ctl_screen *s) {
    if (s->row < s->n_rows) s->row++;
    s->col = s->indent;
    s->has_item = false;
}

static void set_cell(struct ctl_screen *s, enum ctl_style style, char c) {
    size_t at = (size_t)s->row * s->n_cols + s->col;
    s->cells[at] = c;
    s->styles[at] = (uint8_t)style;
    s->col++;
}

/* `text` in this row from s->col on, as far as there is room. */
static void put(struct ctl_screen *s, enum ctl_style style, const char *text) {
    if (s->row >= s->n_rows) return;
    for (; *text && s->col < s->n_cols; text++) set_cell(s, style, *text);
    if (*text) s->cells[(size_t)(s->row + 1) * s->n_cols - 1] = '~';
}

/* Makes text ASCII, in place: see the head of ctl_screen.h. */
static void make_plain(char *text) {
    char *to = text;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p >= 0x20 && *p < 0x7f) {
            *to++ = (char)*p;
        } else if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f) {
            p++; /* a control character of two bytes */
        } else if (*p >= 0x80) {
            *to++ = '?';
            while ((p[1] & 0xc0) == 0x80) p++; /* the rest of the character */
        }
    }
    *to = '\0';
}

void ctl_screen_section(struct ctl_screen *s, const char *label) {
    bool is_first = s->row == 0 && s->col == 0;
    bool has_column = s->n_cols >= LABEL_MIN_COLS;
    s->indent = 0;
    if (!is_first) next_row(s);
    s->has_item = false;
    put(s, CTL_STYLE_LABEL, label);
    if (has_column) {
        s->indent = LABEL_COLS;
        s->col = LABEL_COLS;
    } else {
        s->indent = s->n_cols >= 8 ? 2 : 0;
        s->col = MIN(s->col + (label[0] ? 2 : s->indent), s->n_cols);
    }
}

/* `text` is ASCII; `gap` blanks keep it from what stands before it in the row. */
static void put_item(struct ctl_screen *s, enum ctl_style style, const char *text, unsigned gap) {
    if (!s->has_item) gap = 0;
    if (s->col > s->indent && s->col + gap + strlen(text) > s->n_cols) {
        next_row(s);
        gap = 0;
    }
    s->col += gap;
    put(s, style, text);
    s->has_item = true;
}

void ctl_screen_item(struct ctl_screen *s, enum ctl_style style, const char *fmt, ...) {
    char text[CTL_COLS_MAX + 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    make_plain(text);
    put_item(s, style, text, 2);
}

void ctl_screen_words(struct ctl_screen *s, enum ctl_style style, const char *text) {
    char word[CTL_COLS_MAX + 2];
    unsigned gap = 2;
    while (*text) {
        size_t n = strcspn(text, " ");
        snprintf(word, sizeof(word), "%.*s", (int)MIN(n, sizeof(word) - 1), text);
        make_plain(word);
        if (n > 0) put_item(s, style, word, gap);
        text += n + (text[n] == ' ');
        gap = 1;
    }
}

void ctl_screen_cell(struct ctl_screen *s, enum ctl_style style, char c) {
    if (s->col >= s->n_cols) next_row(s);
    if (s->row >= s->n_rows) return;
    set_cell(s, style, c);
    s->has_item = true;
}

/* --- drawing --- */

static char *append(char *to, const char *text) {
    size_t n = strlen(text);
    memcpy(to, text, n);
    return to + n;
}

/* Cells of a row up to the last that was written. */
static unsigned row_cols(const struct ctl_screen *s, unsigned row) {
    const char *cells = s->cells + (size_t)row * s->n_cols;
    unsigned n = s->n_cols;
    while (n > 0 && cells[n - 1] == '\0') n--;
    return n;
}

const char *ctl_screen_draw(struct ctl_screen *s, bool has_colour, bool is_fresh, size_t *ret_n) {
    /* 2026: terminals that know it show the frame when it is whole; others ignore it. */
    char *to = append(s->out, "\33[?2026h");
    unsigned style = CTL_STYLE_PLAIN;
    if (has_colour) to = append(to, style_codes[CTL_STYLE_PLAIN]);
    if (is_fresh) to = append(to, "\33[2J");
    for (unsigned row = 0; row < s->n_rows; row++) {
        unsigned n = row_cols(s, row);
        to += sprintf(to, "\33[%u;1H", row + 1);
        for (unsigned col = 0; col < n; col++) {
            size_t at = (size_t)row * s->n_cols + col;
            if (has_colour && s->styles[at] != style) {
                style = s->styles[at];
                to = append(to, style_codes[style]);
            }
            *to++ = s->cells[at] ? s->cells[at] : ' ';
        }
        /* What is erased takes the background of the style; and after a full row the cursor still
         * stands on its last cell, which erasing would take away. */
        if (has_colour && style != CTL_STYLE_PLAIN) {
            style = CTL_STYLE_PLAIN;
            to = append(to, style_codes[style]);
        }
        if (n < s->n_cols) to = append(to, "\33[K");
    }
    to = append(to, "\33[?2026l");
    *ret_n = (size_t)(to - s->out);
    return s->out;
}

void ctl_screen_text(const struct ctl_screen *s, unsigned row, char buf[CTL_COLS_MAX + 1]) {
    unsigned n = row < s->n_rows ? row_cols(s, row) : 0;
    for (unsigned col = 0; col < n; col++) {
        char c = s->cells[(size_t)row * s->n_cols + col];
        buf[col] = c ? c : ' ';
    }
    buf[n] = '\0';
}
