/* Accounted memory: everything that scales with the model comes from here, by kind.
 *
 * The blocks are anonymous mappings, so that mem_free() returns the bytes to the system at once
 * (free() may keep them). The counters per kind feed the governor and the metrics. Small
 * control-plane memory is plain malloc.
 *
 * Bytes and addresses are returned apart. In a cgroup above its memory.high every charge puts the
 * calling thread to sleep for up to two seconds, and munmap() of a part of a mapping charges (the
 * kernel splits it), while MADV_DONTNEED does not. So bytes always go by MADV_DONTNEED, and the
 * address range afterwards: at once, or while mem_hold() is on in mem_settle(). Measured on Linux
 * 6.1: 60 slabs of 1 MiB took 6 s by munmap() alone, 0.1 s this way.
 *
 * KV cache and scratch are populated when they are allocated, so that no thread faults, and so is
 * charged, within a step. Slabs are populated by what reads them from disk.
 *
 * Weights are read from end to end for every token, and the processor then spends much on finding
 * 4 KiB pages; so slabs lie in the system's 2 MiB pages, where it gives them. No huge page holds
 * parts of two blocks: it could not be returned with one of them. The last one of a block is taken
 * whole only if less than a sixteenth of it is lost; what is lost counts as MEM_SLACK, so that a
 * slab's bytes stay the pack's.
 *
 * A `struct mem` is made once in a main and passed down: there is no global. It is safe to use
 * from any thread. mem_forbid() marks the calling thread: an allocation while it is set is a
 * programming error (it would put page faults into the token loop). */
#ifndef EBB_CORE_MEM_H
#define EBB_CORE_MEM_H

#include "core/defs.h"

enum mem_kind {
    MEM_SLAB,    /* weights; in huge pages */
    MEM_KV,      /* KV cache */
    MEM_SCRATCH, /* activations, logits, staging */
    MEM_PACKER,  /* source weights, moments: ebb-pack only */
    MEM_SLACK,   /* lost at the ends of MEM_SLAB; not to be allocated */
};
enum { MEM_KIND_COUNT = MEM_SLACK + 1 };

struct mem;

/* 0 or -ENOMEM. */
int mem_create(struct mem **ret) MUST_CHECK;
/* Every block must have been freed. Accepts NULL. */
void mem_destroy(struct mem *m);

/* Zeroed, page-aligned (so also 64-byte aligned) block; NULL if there is no memory or bytes is 0.
 * Owned by the caller until mem_free() with the same kind and size. */
void *mem_alloc(struct mem *m, enum mem_kind kind, size_t bytes) MUST_CHECK;
/* mem_give_back() and mem_release(). Accepts NULL. */
void mem_free(struct mem *m, enum mem_kind kind, void *p, size_t bytes);

/* Returns the bytes of a block to the system; they read as zeros, are there again once they are
 * written, and stay counted. Neither charges nor allocates. */
void mem_discard(struct mem *m, enum mem_kind kind, void *p, size_t bytes);
/* mem_discard() for good: they are not counted any more, and mem_release() must follow. Once for a
 * block. */
void mem_give_back(struct mem *m, enum mem_kind kind, void *p, size_t bytes);
/* Returns the addresses of a block that was given back. */
void mem_release(struct mem *m, enum mem_kind kind, void *p, size_t bytes);
/* While on, mem_release() keeps the ranges for mem_settle(). */
void mem_hold(struct mem *m, bool on);
/* Unmaps the ranges kept; no-op while mem_hold() is on. */
void mem_settle(struct mem *m);

/* What a block of MEM_SLAB of this size adds to MEM_SLACK; 0 where there are no huge pages. */
uint64_t mem_slack(const struct mem *m, uint64_t bytes);
/* Bytes held now, rounded up to pages, of one kind. */
uint64_t mem_bytes(const struct mem *m, enum mem_kind kind);
const char *mem_kind_name(enum mem_kind kind);

/* Touches the calling thread's stack as deep as its work goes, so that it faults now and not later,
 * when its cgroup may be above its limit. */
void mem_touch_stack(void);

/* Tests: the n-th mem_alloc() from now fails (n >= 1), and with `forever` all later ones too;
 * 0 switches it off. */
void mem_fail_at(struct mem *m, unsigned n, bool forever);

/* Between the two calls mem_alloc() on this thread aborts, naming `what` (a string literal). */
void mem_forbid(const char *what);
void mem_permit(void);

#endif
