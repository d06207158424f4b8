/* The text a build calibrates on: a file's, the model's own samples, or half of each.
 *
 * A mixed text has the file's windows first. Calibrated on it, a pack is nearly as good on texts
 * of the file's kind as one calibrated on the file alone, and much better on what the model itself
 * says. Own samples take long, so an interrupted build may bring those that it had. */
#ifndef EBB_CORE_MAKE_CALIBTEXT_H
#define EBB_CORE_MAKE_CALIBTEXT_H

#include "core/defs.h"
#include "core/make/text.h"

struct err;
struct gguf;
struct tok;
struct tools;

struct calibtext {
    struct text text;      /* all windows */
    uint32_t n_own;        /* of them, the last: the model's own samples */
    uint64_t file_xxh3;    /* XXH3-64 of the file's windows; 0 without a file */
    char description[256]; /* one line: names, sizes, checksum */
};

struct calibtext_opts {
    const char *path;   /* a text file, or NULL: own samples only */
    bool is_mixed;      /* with a file: its windows are the one half, own samples the other */
    uint32_t n_windows; /* of both together; at least 2 if mixed */
    uint32_t window;
};

/* The file's part. 0, or what text_read() gives. */
int calibtext_read(const struct calibtext_opts *o, const struct tok *tok, struct calibtext *ret,
                   struct err *e) MUST_CHECK;
/* Adds own samples, if any are wanted: those in own[n_own ids] if there are as many, else new
 * ones. Then the text is complete. 0, -ENOMEM or what selftext_write() gives. */
int calibtext_complete(const struct calibtext_opts *o, struct tools *t, const struct gguf *g,
                       const struct tok *tok, const uint32_t *own, size_t n_own,
                       struct calibtext *c, struct err *e) MUST_CHECK;
void calibtext_fini(struct calibtext *c); /* accepts zeroed */

#endif
