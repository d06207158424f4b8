/* Fork-join over chunks of work: the only file that creates compute threads.
 *
 * pool_run() hands out chunk numbers from a shared counter to the caller and the workers, so a
 * thread that loses its core costs its share and no more. Idle workers, and a caller that waits
 * for the last chunks, spin for a bounded time and then wait on a futex. */
#ifndef EBB_CORE_POOL_H
#define EBB_CORE_POOL_H

#include "core/defs.h"

struct err;
struct pool;

/* Thread: one of the pool's or the caller's. Writes only what belongs to `chunk`. */
typedef void (*pool_fn)(void *ud, uint32_t chunk);

enum { POOL_MAX_THREADS = 64 };

/* n_threads counts the caller: n_threads - 1 workers are made; 1 makes none. 0 = one for each big
 * core this process may use (topology.h; at most POOL_MAX_THREADS); then, or with fewer, workers
 * keep to these cores. 0, -EINVAL, -ENOMEM or the system's error. */
int pool_create(unsigned n_threads, struct pool **ret, struct err *e) MUST_CHECK;
/* With the CPUs as the files below `root` have them, instead of those below "/". */
int pool_create_below(const char *root, unsigned n_threads, struct pool **ret,
                      struct err *e) MUST_CHECK;
/* Gives the calling thread the CPUs of the workers: for the one that will call pool_run(). */
void pool_enter(const struct pool *p);
/* The CPUs the threads keep to, as in "0-3,6", or "all". Borrowed from p. */
const char *pool_cpus(const struct pool *p);
/* Joins the workers. Accepts NULL. */
void pool_destroy(struct pool *p);
unsigned pool_threads(const struct pool *p);
/* From the next job on so many threads work, the caller among them: at least 1, at most all. The
 * others sleep. Any thread may call it; results do not depend on it. */
void pool_set_active(struct pool *p, unsigned n);
unsigned pool_active(const struct pool *p);
/* Calls of pool_run() so far: a sign of life. Thread: any. */
uint64_t pool_runs(const struct pool *p);

/* Runs fn(ud, 0 .. n_chunks-1), each exactly once, and returns when all are done. What the caller
 * wrote before is seen by the workers, what they wrote by the caller after. n_chunks < 2^31. Not
 * reentrant; one thread at a time. */
void pool_run(struct pool *p, pool_fn fn, void *ud, uint32_t n_chunks);

#endif
