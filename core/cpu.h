/* The kernels for this machine, as a table that the engine takes. It lets the daemon choose and
 * name them without knowing kernels/. */
#ifndef EBB_CORE_CPU_H
#define EBB_CORE_CPU_H

#include "core/defs.h"

struct err;
struct kern_ops;

/* `limit`: "" = the best this CPU can run; "ref", "avx2", ... = that variant and those below it.
 * 0, -EINVAL (no such variant), -ENOTSUP (not on this CPU) or -ENOMEM. Free with cpu_ops_destroy().
 */
int cpu_ops_create(const char *limit, struct kern_ops **ret, struct err *e) MUST_CHECK;
void cpu_ops_destroy(struct kern_ops *ops); /* accepts NULL */
const char *cpu_ops_name(const struct kern_ops *ops);

#endif
