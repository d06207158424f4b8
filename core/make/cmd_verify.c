/* ebb-pack verify: every byte of a pack, and where its matrices lie. */
#include <errno.h>
#include <inttypes.h>

#include "core/err.h"
#include "core/make/cmd.h"
#include "core/mem.h"
#include "core/pack.h"

/* A pack's extents one at a time, but for the two planes of a unit, which are bound together, and
 * `books`, which stays as all forms are bound to it. */
struct buf {
    void *data;
    uint64_t bytes;
};

static int read_extent(struct tools *t, const struct pack *p, const struct pack_extent *x,
                       struct buf *b, struct err *e) {
    b->bytes = x->bytes;
    b->data = mem_alloc(t->mem, MEM_PACKER, x->bytes);
    if (!b->data)
        return err_set(e, -ENOMEM, "%s: no memory for %" PRIu64 " bytes", x->name, x->bytes);
    return pack_read_extent(p, x, b->data, e);
}

static void release(struct tools *t, struct buf *b) {
    mem_free(t->mem, MEM_PACKER, b->data, b->bytes);
    *b = (struct buf){0};
}

static int verify_unit(struct tools *t, const struct pack *p, uint32_t unit, struct err *e) {
    const struct pack_extent *high = pack_find(p, PACK_HIGH, unit);
    const struct pack_extent *low = pack_find(p, PACK_LOW, unit);
    struct buf h = {0}, l = {0};
    struct kern_planes mats[MODEL_MAT_COUNT];
    int r = read_extent(t, p, high, &h, e);
    if (r == 0) r = read_extent(t, p, low, &l, e);
    if (r == 0)
        r = pack_bind_unit(pack_hparams(p), unit, h.data, h.bytes, l.data, l.bytes, mats, e);
    release(t, &h);
    release(t, &l);
    return r;
}

static int verify_swsc(struct tools *t, const struct pack *p, uint32_t unit,
                       const struct buf *books, struct err *e) {
    const struct pack_extent *x = pack_find(p, PACK_SWSC, unit);
    struct swsc_mat mats[MODEL_LAYER_MATS];
    struct buf b = {0};
    if (!x) return 0;
    int r = read_extent(t, p, x, &b, e);
    if (r == 0)
        r = pack_bind_swsc(pack_hparams(p), pack_swsc(p), unit, books->data, books->bytes, b.data,
                           b.bytes, mats, e);
    release(t, &b);
    return r;
}

static int verify(struct tools *t, const struct pack *p, uint64_t *ret_bytes, struct err *e) {
    uint32_t n_units = model_n_units(pack_hparams(p)), done = 0;
    size_t n = pack_n_extents(p);
    struct buf books = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct pack_extent *x = pack_extent_at(p, i);
        *ret_bytes += x->bytes;
        if (x->part != PACK_CORE && x->part != PACK_EMBD && x->part != PACK_BOOKS) continue;
        struct buf b = {0};
        r = read_extent(t, p, x, x->part == PACK_BOOKS ? &books : &b, e);
        release(t, &b);
    }
    if (r == 0 && books.data)
        r = pack_check_books(pack_hparams(p), pack_swsc(p), books.data, books.bytes, e);
    for (uint32_t u = 0; r == 0 && u < n_units; u++) {
        r = verify_unit(t, p, u, e);
        if (r == 0) r = verify_swsc(t, p, u, &books, e);
        progress_tell(&t->progress, "verifying", ++done, n_units, "units");
    }
    release(t, &books);
    return r;
}

int cmd_verify(const struct cmd_env *env, int argc, char **argv) {
    const char *path = NULL;
    struct cmd_arg args[] = {{.what = "PACK", .kind = CMD_TEXT, .ret = &path}};
    int r = cmd_parse(env, argc, argv, args, ARRAY_LEN(args));
    if (r != CMD_OK) return r;

    struct err e = {0};
    struct tools t;
    struct pack *p = NULL;
    uint64_t bytes = 0;
    r = cmd_tools_init(env, 1, &t, &e);
    if (r < 0) return cmd_fail(env, &e);
    r = pack_open(path, &p, &e);
    if (r == 0) {
        r = verify(&t, p, &bytes, &e);
        if (r < 0) err_prefix(&e, "%s", path);
    }
    size_t n = r == 0 ? pack_n_extents(p) : 0;
    pack_close(p);
    cmd_tools_fini(&t);
    if (r < 0) return cmd_fail(env, &e);
    printf("%s: whole: header and %zu extents, %" PRIu64 " bytes\n", path, n, bytes);
    return CMD_OK;
}
