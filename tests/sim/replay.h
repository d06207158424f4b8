/* A recorded trace (core/gov_trace.h), computed again: the governor is a pure function, so each
 * call must come to the position, the stage and the reason that were recorded, and each decision of
 * the guard (core/shed.h) to its position. */
#ifndef EBB_TESTS_SIM_REPLAY_H
#define EBB_TESTS_SIM_REPLAY_H

#include "core/gov_trace.h"

/* A call and both answers. */
struct replay_call {
    uint64_t now_us;
    const struct ladder *ladder;
    const struct gov_settings *set;
    const struct gov_input *in;
    const struct gov_output *out; /* computed now */
    const struct gov_trace_answer *recorded;
    bool is_same;
};
/* The call is borrowed until it returns. */
typedef void (*replay_fn)(void *ud, const struct replay_call *c);

struct replay_result {
    uint64_t n_calls, n_same;
    uint64_t n_guard, n_guard_other; /* decisions of the guard, and those that differ */
    uint64_t first_line;             /* with the first that differs; 0 = none */
    char first[240];                 /* both answers to it, as text */
};

/* All calls of text[n]. `name` stands in messages. 0 even if some differ; -EBADMSG ("NAME:LINE:
 * ...") at a line that is no line of a trace, a call before ladder and settings, a position that
 * the ladder has not, time that goes back, or a cut end; -ENOMEM. `fn` may be NULL. */
int replay_run(const char *name, const char *text, size_t n, replay_fn fn, void *ud,
               struct replay_result *ret, struct err *e) MUST_CHECK;

#endif
