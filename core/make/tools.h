/* What every method of the packer works with; made once in a command, borrowed by the rest. */
#ifndef EBB_CORE_MAKE_TOOLS_H
#define EBB_CORE_MAKE_TOOLS_H

#include "core/make/progress.h"
#include "kernels/kernels.h"

struct mem;
struct pool;

struct tools {
    struct mem *mem;   /* owned by the command */
    struct pool *pool; /* owned by the command */
    struct kern_ops ops;
    struct progress progress;
};

#endif
