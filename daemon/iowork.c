#include "daemon/iowork.h"

#include <errno.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/pack.h"
#include "core/slab.h"

struct work {
    uv_work_t req;
    struct mem *mem;
    const struct pack *pack;
    const struct pack_extent *x;
    iowork_done_fn done;
    void *ud;
    struct slab *slab;
    int result;
    struct err e;
};

static void on_work(uv_work_t *req) {
    struct work *w = req->data;
    w->result = slab_load(w->mem, w->pack, w->x, &w->slab, &w->e);
}

static void on_after(uv_work_t *req, int status) {
    struct work *w = req->data;
    if (status < 0) w->result = err_set(&w->e, status, "%s: read cancelled", w->x->name);
    w->done(w->ud, w->x, w->result < 0 ? NULL : w->slab, &w->e);
    free(w);
}

int iowork_read(uv_loop_t *loop, struct mem *m, const struct pack *p, const struct pack_extent *x,
                iowork_done_fn done, void *ud) {
    struct work *w = calloc(1, sizeof(*w));
    if (!w) return -ENOMEM;
    w->req.data = w;
    w->mem = m;
    w->pack = p;
    w->x = x;
    w->done = done;
    w->ud = ud;
    int r = uv_queue_work(loop, &w->req, on_work, on_after);
    if (r < 0) free(w);
    return r;
}
