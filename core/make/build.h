/* GGUF in, pack out: reads the source, calibrates, quantises unit by unit, writes.
 *
 * Layers are done in order, each as soon as all windows went through it, and written at once; the
 * head last, in blocks of rows. In memory at a time: the windows' hidden states, one layer as
 * floats and as planes. The same source, text and options give the same bytes on one kind of CPU,
 * whatever the thread count. A build that ends early leaves nothing under the output's name. */
#ifndef EBB_CORE_MAKE_BUILD_H
#define EBB_CORE_MAKE_BUILD_H

#include "core/defs.h"

struct err;
struct tools;

enum {
    BUILD_WINDOW = 512,
    BUILD_WINDOWS = 128, /* of a given text */
    /* Of a text that the model writes: a token costs three times what reading one does, and scales
     * need no more than this. */
    BUILD_SELF_WINDOWS = 64,
};

struct build_opts {
    const char *source;
    const char *out;
    const char *calib;  /* a text, or NULL: the model writes one itself */
    uint32_t n_windows; /* 1 .. TEXT_MAX_WINDOWS */
};

struct build_report {
    uint32_t n_windows;            /* that the text really gave */
    uint64_t n_weights, n_clipped; /* clipped: the low plane does not reach them */
    uint64_t full_bytes, high_bytes;
};

/* 0, or what source, text or pack_writer gave. */
int build_run(struct tools *t, const struct build_opts *o, struct build_report *ret,
              struct err *e) MUST_CHECK;

#endif
