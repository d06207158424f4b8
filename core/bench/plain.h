/* Plain reading: how fast the threads of a pool get bytes out of memory when they do nothing else.
 *
 * The yardstick for decoding, which reads every resident weight once a token. The buffer is as
 * large as the weights are, within bounds: from 64 MiB on it is beyond the caches of the machines
 * that this is for, and more than 256 MiB would say the same and might not fit beside a model.
 * Parts are handed out as the engine hands out rows, so that a thread that loses its core costs its
 * share. */
#ifndef EBB_CORE_BENCH_PLAIN_H
#define EBB_CORE_BENCH_PLAIN_H

#include "core/defs.h"

struct err;
struct mem;
struct plain;
struct pool;

/* `mem` and `pool` are borrowed for its life. 0 or -ENOMEM. */
int plain_create(struct mem *mem, struct pool *pool, uint64_t weight_bytes, struct plain **ret,
                 struct err *e) MUST_CHECK;
void plain_destroy(struct plain *p); /* accepts NULL */
uint64_t plain_bytes(const struct plain *p);

/* Reads all of it, again and again, for a tenth of a second at least; gigabytes a second. Thread:
 * the pool's caller. */
double plain_run(struct plain *p);

#endif
