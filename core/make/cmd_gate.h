/* The gate's table as ebb-pack inspect shows it. */
#ifndef EBB_CORE_MAKE_CMD_GATE_H
#define EBB_CORE_MAKE_CMD_GATE_H

#include "core/defs.h"

struct pack;

/* "gate":[{"kind":..,"winner":..,"margin":..,"candidates":[..]},..], with a comma after it; nothing
 * without a table. */
void cmd_gate_json(const struct pack *p);
/* One line a kind: who won, and by how much. The pack has a table, as for the next. */
void cmd_gate_winners(const struct pack *p);
/* That, then errors and bits of all forms. */
void cmd_gate_text(const struct pack *p);

#endif
