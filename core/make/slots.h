/* Scratch for pool work: one equal buffer a thread, claimed when a piece of work begins.
 *
 * The pool does not tell a piece of work which thread it runs on, and need not: a claim finds a
 * free buffer without waiting, as there are as many buffers as threads. Contents are undefined. */
#ifndef EBB_CORE_MAKE_SLOTS_H
#define EBB_CORE_MAKE_SLOTS_H

#include "core/defs.h"

struct mem;
struct slots;

/* n buffers of `bytes` (64-byte aligned) in MEM_PACKER. 0 or -ENOMEM. */
int slots_create(struct mem *m, unsigned n, size_t bytes, struct slots **ret) MUST_CHECK;
void slots_destroy(struct slots *s); /* accepts NULL */

/* Thread: any of the n; never NULL. */
void *slots_claim(struct slots *s);
void slots_release(struct slots *s, void *p);

#endif
