/* The units' scores as ebb-pack inspect shows them: three measures of the same thing, their ranks,
 * and how far they agree. */
#ifndef EBB_CORE_MAKE_CMD_IMPORTANCE_H
#define EBB_CORE_MAKE_CMD_IMPORTANCE_H

#include "core/defs.h"

struct err;
struct pack;

struct cmd_importance;

/* 0 or -ENOMEM. *ret is owned by the caller. `p` is borrowed for its life. */
int cmd_importance_create(const struct pack *p, struct cmd_importance **ret,
                          struct err *e) MUST_CHECK;
void cmd_importance_destroy(struct cmd_importance *im); /* accepts NULL */
/* Whether the pack has any of the scores. */
bool cmd_importance_has_any(const struct cmd_importance *im);

/* "importance":{"lsaq":..,"jaccard":..,"kl":..},"rank":{..} of a unit. */
void cmd_importance_json_unit(const struct cmd_importance *im, uint32_t unit);
/* "agreement":[{"scores":["lsaq","jaccard"],"tau":..},..] */
void cmd_importance_json(const struct cmd_importance *im);
void cmd_importance_text(const struct cmd_importance *im);

#endif
