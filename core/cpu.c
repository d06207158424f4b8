#include "core/cpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "kernels/kernels.h"

/* The flags of one family come in rising order, so a variant and all below it are a mask. */
static int flags_up_to(const char *name, unsigned *ret, struct err *e) {
    unsigned can = kern_cpu_flags();
    if (strcmp(name, "ref") == 0) {
        *ret = 0;
        return 0;
    }
    for (unsigned flag = 1; flag != 0 && kern_cpu_flag_name(flag); flag <<= 1) {
        if (strcmp(kern_cpu_flag_name(flag), name) != 0) continue;
        if (!(can & flag)) return err_set(e, -ENOTSUP, "this CPU cannot run %s", name);
        *ret = can & ((flag << 1) - 1);
        return 0;
    }
    return err_set(e, -EINVAL,
                   "there is no kernel variant '%.32s' (ref, avx2, avxvnni, avx512vnni, "
                   "neon, dotprod, i8mm)",
                   name);
}

int cpu_ops_create(const char *limit, struct kern_ops **ret, struct err *e) {
    unsigned flags = kern_cpu_flags();
    if (limit[0]) {
        int r = flags_up_to(limit, &flags, e);
        if (r < 0) return r;
    }
    struct kern_ops *ops = calloc(1, sizeof(*ops));
    if (!ops) return err_set(e, -ENOMEM, "no memory for the table of kernels");
    kern_init(ops, flags);
    *ret = ops;
    return 0;
}

void cpu_ops_destroy(struct kern_ops *ops) {
    free(ops);
}

const char *cpu_ops_name(const struct kern_ops *ops) {
    return ops->name;
}
