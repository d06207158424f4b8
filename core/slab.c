/* Slabs: the only weight memory there is. */
#include "core/slab.h"

#include <errno.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/mem.h"

int slab_alloc(struct mem *m, const struct pack_extent *x, struct slab **ret, struct err *e) {
    struct slab *s = calloc(1, sizeof(*s));
    if (!s) return err_set(e, -ENOMEM, "%s: no memory for its slab", x->name);
    s->mem = m;
    s->part = x->part;
    s->unit = x->unit;
    s->bytes = x->bytes;
    s->data = mem_alloc(m, MEM_SLAB, x->bytes);
    if (!s->data) {
        slab_destroy(s);
        return err_set(e, -ENOMEM, "%s: no memory for its %llu bytes", x->name,
                       (unsigned long long)x->bytes);
    }
    *ret = s;
    return 0;
}

int slab_load(struct mem *m, const struct pack *p, const struct pack_extent *x, struct slab **ret,
              struct err *e) {
    struct slab *s = NULL;
    int r = slab_alloc(m, x, &s, e);
    if (r < 0) return r;
    r = pack_read_extent(p, x, s->data, e);
    if (r < 0) {
        slab_destroy(s);
        return r;
    }
    *ret = s;
    return 0;
}

int slab_bind_swsc(struct slab *s, const struct model_hparams *h,
                   const struct swsc_form forms[MODEL_LAYER_MATS], const struct slab *books,
                   struct err *e) {
    if (s->part != PACK_SWSC || s->unit >= h->n_layers)
        return err_set(e, -EINVAL, "part %d of unit %u is no swsc extent of a layer", (int)s->part,
                       s->unit);
    struct swsc_mat *mats = calloc(MODEL_LAYER_MATS, sizeof(*mats));
    if (!mats) return err_set(e, -ENOMEM, "unit %u: no memory to bind its forms", s->unit);
    int r = pack_bind_swsc(h, forms, s->unit, books ? books->data : NULL, books ? books->bytes : 0,
                           s->data, s->bytes, mats, e);
    if (r < 0) {
        free(mats);
        return r;
    }
    free(s->forms);
    s->forms = mats;
    return 0;
}

uint64_t slab_give_back(struct slab *s) {
    if (atomic_exchange_explicit(&s->is_given_back, true, memory_order_relaxed)) return 0;
    mem_give_back(s->mem, MEM_SLAB, s->data, s->bytes);
    return s->bytes;
}

void slab_destroy(struct slab *s) {
    if (!s) return;
    free(s->forms);
    if (s->data) {
        slab_give_back(s);
        mem_release(s->mem, MEM_SLAB, s->data, s->bytes);
    }
    free(s);
}
