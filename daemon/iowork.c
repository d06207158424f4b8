#include "daemon/iowork.h"

#include <errno.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/pack.h"
#include "core/reader.h"
#include "core/slab.h"

struct iowork {
    uv_work_t req;
    struct mem *mem;
    struct reader *reader;
    const struct pack_extent *x;
    iowork_done_fn done;
    void *ud;
    struct reader_watch watch;
    struct slab *slab;
    int result;
    struct err e;
};

static void on_work(uv_work_t *req) {
    struct iowork *w = req->data;
    w->result = slab_alloc(w->mem, w->x, &w->slab, &w->e);
    if (w->result < 0) return;
    w->result = reader_read(w->reader, w->x, /* is_cached= */ true, w->slab->data, &w->watch,
                            &w->e);
    if (w->result == 0) return;
    slab_destroy(w->slab);
    w->slab = NULL;
}

static void on_after(uv_work_t *req, int status) {
    struct iowork *w = req->data;
    if (status < 0) w->result = err_set(&w->e, status, "%s: read cancelled", w->x->name);
    w->e.code = w->result;
    w->done(w->ud, w->x, w->result < 0 ? NULL : w->slab, &w->e);
    free(w);
}

int iowork_read(uv_loop_t *loop, struct mem *m, struct reader *reader, const struct pack_extent *x,
                iowork_done_fn done, void *ud, struct iowork **ret) {
    struct iowork *w = calloc(1, sizeof(*w));
    if (!w) return -ENOMEM;
    w->req.data = w;
    w->mem = m;
    w->reader = reader;
    w->x = x;
    w->done = done;
    w->ud = ud;
    atomic_init(&w->watch.is_cancelled, false);
    atomic_init(&w->watch.n_bytes, 0);
    int r = uv_queue_work(loop, &w->req, on_work, on_after);
    if (r < 0) {
        free(w);
        return r;
    }
    *ret = w;
    return 0;
}

void iowork_cancel(struct iowork *w) {
    atomic_store_explicit(&w->watch.is_cancelled, true, memory_order_relaxed);
}
