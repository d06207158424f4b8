/* The governor's calls as text, one a line, so that what it decided can be computed again
 * (tests/sim: ebb-sim). Lines of comma-separated numbers, each kind with its letter first:
 *   L,full bytes,then for each step: unit:rung to:bytes freed     the ladder
 *   S,settings in the order of struct gov_settings                 whenever they change
 *   C,now in us,the input in the order of struct gov_input,position,stage,reason
 *   G,now in us,bytes over the limit,bytes kept of prefixes,position,position after
 *                                                                   what the guard did (shed.h)
 * Others, and those that begin with #, are left out. Pure. */
#ifndef EBB_CORE_GOV_TRACE_H
#define EBB_CORE_GOV_TRACE_H

#include "core/gov.h"

struct err;

enum { GOV_TRACE_MAX = 16384 }; /* room for any line */

/* Write a line and its newline, and return its length; 0 if it does not fit. */
size_t gov_trace_put_ladder(const struct ladder *l, char *ret, size_t cap);
size_t gov_trace_put_settings(const struct gov_settings *set, char *ret, size_t cap);
size_t gov_trace_put_call(uint64_t now_us, const struct gov_input *in, const struct gov_output *out,
                          char *ret, size_t cap);

/* A decision of the guard. */
struct gov_trace_guard {
    uint64_t now_us, over_bytes, kept_bytes;
    uint32_t position_from, position;
};
size_t gov_trace_put_guard(const struct gov_trace_guard *g, char *ret, size_t cap);

/* What a call came to. */
struct gov_trace_answer {
    uint32_t position, stage;
    enum gov_reason reason;
};

/* Parse a line without its newline, which may be anything. 0, -EBADMSG, or for a ladder as
 * ladder_create(). Strict: what is accepted is written back to the same line. */
int gov_trace_get_ladder(const char *line, struct ladder **ret, struct err *e) MUST_CHECK;
int gov_trace_get_settings(const char *line, struct gov_settings *ret, struct err *e) MUST_CHECK;
int gov_trace_get_call(const char *line, uint64_t *ret_us, struct gov_input *ret,
                       struct gov_trace_answer *ret_answer, struct err *e) MUST_CHECK;
int gov_trace_get_guard(const char *line, struct gov_trace_guard *ret, struct err *e) MUST_CHECK;

#endif
