/* The inference thread: runs the batch, adopts new plans between steps, and writes what comes out
 * into the jobs' rings. It touches no socket and no log. */
#ifndef EBB_DAEMON_INFER_H
#define EBB_DAEMON_INFER_H

#include "core/defs.h"

enum { INFER_MAX_PAUSE_US = 2000000 };

struct batch;
struct err;
struct infer;
struct jobs;
struct pool;
struct store;

/* The four are borrowed until infer_join(); the thread runs on the pool's CPUs. `slots`: as the
 * batch's. 0 or -ENOMEM, or the system's error. Thread: loop, as all here. */
int infer_start(struct jobs *js, struct batch *b, struct store *st, struct pool *pool,
                uint32_t slots, struct infer **ret, struct err *e) MUST_CHECK;
/* From the next step on: the share of time that is computed, 1 to 1000, and the pool's threads that
 * do. Between two steps of one request the pause is at most INFER_MAX_PAUSE_US. */
void infer_set_pace(struct infer *in, uint32_t duty_permille, uint32_t threads);
/* The kernel's number of the thread, 0 until it runs. */
int infer_tid(const struct infer *in);
/* After jobs_stop(): true once the thread has ended its jobs; it will return at once. */
bool infer_has_ended(const struct infer *in);
/* Waits for the thread and frees it. Accepts NULL. */
void infer_join(struct infer *in);

#endif
