/* A frame of text for a terminal: a grid of cells that is laid out from the top and then drawn in
 * one piece. Pure: it touches no terminal.
 *
 * A cell is one ASCII character. In text from elsewhere control characters are left out and each
 * other character that is not ASCII becomes one '?': so the width of what is shown is known, and
 * nothing that a daemon or a model file says can move the cursor or reverse a line. What does not
 * fit is cut, and the last cell is then '~': a number that lost digits must not pass for another.
 * One thread; the caller owns the struct, ctl_screen_init() makes it and ctl_screen_fini() ends it.
 */
#ifndef EBB_DAEMON_CTL_SCREEN_H
#define EBB_DAEMON_CTL_SCREEN_H

#include "core/defs.h"

/* Larger terminals are drawn up to here. */
enum { CTL_COLS_MAX = 512, CTL_ROWS_MAX = 256 };

enum ctl_style {
    CTL_STYLE_PLAIN,
    CTL_STYLE_LABEL,
    CTL_STYLE_TITLE,
    CTL_STYLE_GOOD,
    CTL_STYLE_WARN,
    CTL_STYLE_BAD,
    CTL_STYLE_FULL, /* the rungs, as backgrounds */
    CTL_STYLE_HIGH,
    CTL_STYLE_SWSC,
    CTL_STYLE_PAGED,
};
enum { CTL_STYLE_COUNT = CTL_STYLE_PAGED + 1 };

struct ctl_screen {
    unsigned n_cols, n_rows; /* at least 1 */
    unsigned row, col;       /* where text goes next; row == n_rows: full, text is dropped */
    unsigned indent;         /* column that items of this section begin at */
    bool has_item;           /* the section's row has an item: the next one keeps its distance */
    char *cells;             /* owned; n_rows x n_cols; '\0' = never written */
    uint8_t *styles;         /* owned; the same */
    char *out;               /* owned; what ctl_screen_draw() wrote */
};

/* Sizes of 0 count as 1, larger ones as the limits. 0 or -ENOMEM; on failure the screen is as it
 * was, so that an old frame may go on. A zeroed struct is made, another is resized and emptied. */
int ctl_screen_init(struct ctl_screen *s, unsigned n_cols, unsigned n_rows) MUST_CHECK;
void ctl_screen_fini(struct ctl_screen *s); /* accepts a zeroed one */
void ctl_screen_clear(struct ctl_screen *s);
/* Nothing more will be seen: lists of the daemon may be of any length. */
bool ctl_screen_is_full(const struct ctl_screen *s);

/* Begins a row (the first: row 0) with a label; its items stand beside it, and under each other
 * where they wrap. On a narrow screen the label is an item among them. */
void ctl_screen_section(struct ctl_screen *s, const char *label);
/* One item, whole if the width allows: it goes to the next row before it is cut. Two blanks keep
 * it from the one before. */
void ctl_screen_item(struct ctl_screen *s, enum ctl_style style, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* A sentence, wrapped between its words. */
void ctl_screen_words(struct ctl_screen *s, enum ctl_style style, const char *text);
/* Single cells in a chain, which wraps anywhere. `c` must be printable ASCII. */
void ctl_screen_cell(struct ctl_screen *s, enum ctl_style style, char c);

/* The escape sequences that draw it over the last frame; *ret_n bytes, owned by the screen until
 * the next draw or init. is_fresh: clear the terminal before, as its contents are unknown. */
const char *ctl_screen_draw(struct ctl_screen *s, bool has_colour, bool is_fresh, size_t *ret_n);
/* Row `row` as text without the blanks at its end, in buf. */
void ctl_screen_text(const struct ctl_screen *s, unsigned row, char buf[CTL_COLS_MAX + 1]);

#endif
