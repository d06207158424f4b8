/* A text file as windows of tokens, for calibration and for judging.
 *
 * The first n windows of consecutive tokens; what is left of the text is not read. Where the model
 * begins its sequences with a BOS token, that token takes the first place of every window. */
#ifndef EBB_CORE_MAKE_TEXT_H
#define EBB_CORE_MAKE_TEXT_H

#include "core/defs.h"

struct err;
struct tok;

enum { TEXT_MAX_WINDOWS = 65536 };

struct text {
    uint32_t *ids; /* owned: [n_windows][window] */
    uint32_t n_windows, window;
    uint64_t xxh3; /* XXH3-64 of ids, as little-endian u32 */
};

/* At most n_windows (1 .. TEXT_MAX_WINDOWS) of `window` tokens each; fewer if the text is shorter,
 * but at least one. 0, -EINVAL (not a regular file; empty, binary or too short: the message says
 * which), -ENOMEM or the system's error. */
int text_read(const struct tok *t, const char *path, uint32_t n_windows, uint32_t window,
              struct text *ret, struct err *e) MUST_CHECK;

/* Takes over ids[n_windows][window], from malloc(). */
void text_adopt(struct text *t, uint32_t *ids, uint32_t n_windows, uint32_t window);
void text_fini(struct text *t); /* accepts zeroed */

/* Length of the UTF-8 character at p[n], n >= 1; 0 if there is none. */
size_t text_utf8_len(const uint8_t *p, size_t n);

/* Whether the bytes look like no text: a NUL, or more than one byte in twenty that is not UTF-8.
 * A character cut off at the end is forgiven. */
bool text_is_binary(const uint8_t *p, size_t n);

#endif
