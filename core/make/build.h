/* GGUF in, pack out: reads the source, calibrates, quantises unit by unit, writes.
 *
 * Layers are done in order, each as soon as all windows went through it, and written at once; the
 * head last, in blocks of rows. Then the third rung, which goes through the layers once more
 * (third.h), in the forms that a gate has chosen before anything was written (gate.h). Then what is
 * written is scored by the engine that will serve it (distortion.h), a part of the same text being
 * what it is scored on. In memory at a time: the gate's sample of layers; then the
 * windows' hidden states, one layer as floats, its moments and its planes. The same source, text
 * and options give the same bytes on one kind of CPU, whatever the thread count, interrupted or
 * not.
 *
 * A build that ends with an error leaves nothing under the output's name or beside it. One that is
 * killed leaves its temporary file and its state (resume.h), for a build with is_resumed to go on
 * with; any other build of the same output removes them. */
#ifndef EBB_CORE_MAKE_BUILD_H
#define EBB_CORE_MAKE_BUILD_H

#include "core/defs.h"
#include "core/model.h"

struct err;
struct tools;

enum {
    BUILD_WINDOW = 512,
    BUILD_WINDOWS = 128, /* of a given text */
    /* Of a text that the model writes: a token costs three times what reading one does, and scales
     * need no more than this. */
    BUILD_SELF_WINDOWS = 64,
    BUILD_MIXED_WINDOWS = 96, /* of half of each */
    /* For energies alone short texts do; many short windows are sampled faster than few long ones.
     */
    BUILD_FAST_WINDOW = 128,
    BUILD_FAST_WINDOWS = 16,
};

struct build_opts {
    const char *source;
    const char *out;
    const char *calib;    /* a text, or NULL: the model writes one itself */
    bool is_mixed;        /* with a text: half of the windows are of it, half the model's own */
    bool is_fast;         /* clip search only, on few windows */
    bool is_without_swsc; /* leave out the third rung, as is_fast does, too */
    bool is_without_gate; /* compare no forms, take the default ones for the third rung */
    const char *form;     /* nor that: this one of rival.h for every kind, at the gate's target */
    bool is_resumed; /* go on where a killed build of the same pack was; from the start if none */
    uint32_t n_windows;   /* 1 .. TEXT_MAX_WINDOWS (2 .. if mixed); 0: the default */
    uint32_t save_layers; /* layers between two saves; 0: by the model's width */
};

struct build_report {
    uint32_t n_windows, n_own;     /* that there really were; n_own of them by the model itself */
    uint32_t n_asked, window;      /* windows wanted; tokens of each */
    uint32_t n_scored;             /* positions that the units' losses were measured at */
    uint32_t n_resumed;            /* layers that an interrupted build had done */
    uint64_t n_weights, n_clipped; /* clipped: the low plane does not reach them */
    uint64_t full_bytes, high_bytes;
    /* The layers at the rung swsc, books included, on n_fitted windows; 0 without it. */
    uint64_t swsc_bytes, n_layer_weights;
    uint32_t n_fitted;
    /* Per unit: the matrices that got no error feedback as their inputs' moments are singular, as
     * pack_fallback(). Nothing in a fast build, which never tries. */
    uint32_t n_fallbacks, fallback[MODEL_MAX_LAYERS + 1];
    struct model_hparams hparams; /* for the units' names */
};

/* 0, -EINVAL (also: what is to be resumed was another build; the message says what differs), or
 * what source, text or pack_writer gave. */
int build_run(struct tools *t, const struct build_opts *o, struct build_report *ret,
              struct err *e) MUST_CHECK;

#endif
