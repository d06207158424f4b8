/* One mover for every state machine: a table says which moves exist, fsm_move() is the only place
 * where a state is assigned. A move that the table lacks is a programming error. */
#ifndef EBB_CORE_FSM_H
#define EBB_CORE_FSM_H

#include "core/defs.h"

#define FSM_TO(state) (UINT32_C(1) << (state))

struct fsm_table {
    const char *name;         /* of the machine, for the assertion's message */
    const uint32_t *next;     /* [n_states], sets of FSM_TO() */
    const char *const *names; /* [n_states] */
    unsigned n_states;        /* <= 32 */
};

struct fsm {
    const struct fsm_table *table; /* borrowed, static */
    unsigned state;                /* read freely; written by fsm_move() alone */
};

void fsm_init(struct fsm *f, const struct fsm_table *t, unsigned state);
bool fsm_can(const struct fsm *f, unsigned to);
void fsm_move(struct fsm *f, unsigned to);
const char *fsm_name(const struct fsm *f);

#endif
