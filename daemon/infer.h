/* The inference thread: runs the batch, adopts new plans between steps, and writes what comes out
 * into the jobs' rings. It touches no socket and no log. */
#ifndef EBB_DAEMON_INFER_H
#define EBB_DAEMON_INFER_H

#include "core/defs.h"

struct batch;
struct err;
struct infer;
struct jobs;
struct pool;
struct store;

/* The four are borrowed until infer_join(); the thread runs on the pool's CPUs. `slots`: as the
 * batch's. 0 or -ENOMEM, or the system's error. Thread: loop, as all here. */
int infer_start(struct jobs *js, struct batch *b, struct store *st, const struct pool *pool,
                uint32_t slots, struct infer **ret, struct err *e) MUST_CHECK;
/* After jobs_stop(): true once the thread has ended its jobs; it will return at once. */
bool infer_has_ended(const struct infer *in);
/* Waits for the thread and frees it. Accepts NULL. */
void infer_join(struct infer *in);

#endif
