#include "core/fsm.h"

void fsm_init(struct fsm *f, const struct fsm_table *t, unsigned state) {
    ASSERT(t->n_states <= 32 && state < t->n_states);
    *f = (struct fsm){.table = t, .state = state};
}

bool fsm_can(const struct fsm *f, unsigned to) {
    return to < f->table->n_states && (f->table->next[f->state] & FSM_TO(to)) != 0;
}

void fsm_move(struct fsm *f, unsigned to) {
    ASSERT(fsm_can(f, to));
    f->state = to;
}

const char *fsm_name(const struct fsm *f) {
    return f->table->names[f->state];
}
