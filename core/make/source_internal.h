/* What the files of the source share: source.c de-quantises, source_block.c computes. */
#ifndef EBB_CORE_MAKE_SOURCE_INTERNAL_H
#define EBB_CORE_MAKE_SOURCE_INTERNAL_H

#include "core/make/source.h"

struct source {
    struct mem *mem; /* all borrowed */
    struct pool *pool;
    const struct kern_ops *ops;
    const struct gguf *gguf;
    struct model_hparams h;
    const struct gguf_tensor *embd, *head;
    float *core;                 /* owned: [model_core_floats()] */
    struct model_core vectors;   /* into core */
    float *rope;                 /* owned: [SOURCE_WINDOW][rope_dim] */
    struct slots *slots;         /* owned: scratch of a window, or of a block of the head */
    size_t layer_floats;         /* of all matrices of a layer */
    float **kept;                /* owned: [n_layers], NULL = not kept */
    float *once;                 /* owned: the layer that is not kept, or NULL */
    uint64_t keep_bytes;         /* what may still be kept */
    struct source_layer current; /* handed out by source_load_layer() */
};

/* Floats of scratch that a window of n_rows takes through a layer: what a slot holds. */
size_t source_scratch_floats(const struct model_hparams *h, size_t n_rows);

#endif
