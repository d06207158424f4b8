/* A hostile pack header. The input is the header; its checksum is made right, so that the checks
 * behind it are reached, and the file gets the length that its tensors ask for (sparse). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xxhash.h>

#include "core/bytes.h"
#include "core/err.h"
#include "core/gguf.h"
#include "core/pack.h"
#include "tests/fuzz/fuzz.h"
#include "tests/golden/tiny_pack.h"

enum { MAX_FILE = 64 << 20, MAX_EXTENT = 1 << 20 };

static void sign(uint8_t *p, size_t n, uint64_t *ret_end) {
    struct gguf *g;
    if (gguf_parse(p, n, MAX_FILE, &g, NULL) < 0) return;
    uint64_t end = gguf_data_offset(g);
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (t->offset + t->bytes > end) end = t->offset + t->bytes;
    }
    size_t n_values = gguf_n_values(g);
    const struct gguf_value *v = n_values ? gguf_value_at(g, n_values - 1) : NULL;
    if (v && v->type == GGUF_U64) {
        uint64_t at = v->file_offset, head = gguf_data_offset(g);
        bytes_put_u64(p + at, 0);
        bytes_put_u64(p + at, XXH3_64bits(p, head < n ? head : n));
    }
    gguf_close(g);
    *ret_end = end;
}

static volatile uint64_t sink; /* keeps the reads from being left out */

/* With the directories that the forms ask for, so that binding goes through to its end. */
static void use_swsc(const struct pack *p, const struct pack_extent *x, uint8_t *data) {
    const struct model_hparams *h = pack_hparams(p);
    const struct swsc_form *forms = pack_swsc(p);
    struct swsc_mat w[MODEL_LAYER_MATS];
    struct err e = {0};
    uint64_t n = pack_books_bytes(h, forms), sum = 0;
    uint8_t *books = n > 0 && n <= MAX_EXTENT ? aligned_alloc(64, n) : NULL;
    if (n == 0 || books) {
        if (books) memset(books, 0, n);
        if (books) pack_books_dir(h, forms, books);
        ignore_result(pack_bind_swsc(h, forms, x->unit, books, n, data, x->bytes, w, &e));
        memset(data, 0, x->bytes);
        pack_swsc_dir(h, forms, data);
        if (pack_bind_swsc(h, forms, x->unit, books, n, data, x->bytes, w, &e) < 0) abort();
        for (int m = 0; m < MODEL_LAYER_MATS; m++) {
            const struct kern_seg *g = &w[m].seg;
            if (w[m].base == SWSC_SEGMENTS)
                sum += g->index[seg_index_bytes(g->n_out, g->n_in, g->len, g->bits) +
                                SEG_INDEX_SLACK - 1];
            if (w[m].base == SWSC_CHANNELS) sum += w[m].labels[w[m].n_out - 1];
            if (w[m].rank > 0) sum += w[m].a.rows[0] + w[m].b.rows[0];
        }
    }
    sink = sum;
    free(books);
}

static void use(const struct pack *p) {
    uint64_t sum = 0;
    struct err e = {0};
    const struct model_hparams *h = pack_hparams(p);
    float *row = malloc(h->n_embd * sizeof(*row));
    for (size_t i = 0; i < pack_n_extents(p); i++) {
        const struct pack_extent *x = pack_extent_at(p, i);
        if (x->bytes > MAX_EXTENT) continue;
        uint8_t *data = aligned_alloc(64, x->bytes);
        struct kern_planes w[MODEL_MAT_COUNT];
        if (!data) continue;
        ignore_result(pack_read_extent(p, x, data, &e)); /* any answer will do */
        if (x->part == PACK_SWSC) use_swsc(p, x, data);
        if (x->part == PACK_HIGH)
            ignore_result(pack_bind_unit(h, x->unit, data, x->bytes, NULL, 0, w, &e));
        free(data);
    }
    if (row && !h->is_tied) ignore_result(pack_read_embd(p, 0, row, &e));
    for (size_t i = 0; i < pack_n_ladders(p); i++) {
        const struct ladder *l = pack_ladder_at(p, i);
        bool fits;
        for (uint32_t k = 0; k <= ladder_n_steps(l); k++) {
            sum += ladder_bytes(l, k) + ladder_fit(l, ladder_bytes(l, k), &fits);
            if (!fits) abort();
        }
        sum += ladder_all_at(l, RUNG_HIGH);
    }
    free(row);
    sink = sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    struct pack *p;
    struct err e = {0};
    uint64_t end = size;
    uint8_t *copy = malloc(size + 1);
    int fd = memfd_create("pack", MFD_CLOEXEC);
    if (!copy || fd < 0) abort();
    memcpy(copy, data, size);
    sign(copy, size, &end);
    if (write(fd, copy, size) != (ssize_t)size || ftruncate(fd, (off_t)end) < 0) abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (pack_open(path, &p, &e) == 0) {
        use(p);
        pack_close(p);
    }
    close(fd);
    free(copy);
    return 0;
}

uint8_t *fuzz_seed(unsigned i, size_t *ret_n) {
    struct tiny_opts o = tiny_defaults();
    char path[] = "/tmp/ebb-fuzz-XXXXXX";
    struct err e = {0};
    struct pack *p;
    if (i > 3) return NULL;
    o.is_untied = i == 1;
    int fd = mkstemp(path);
    int made = i < 2 ? tiny_pack_write(&o, path, &e) : tiny_pack_write_swsc(&o, i, path, &e);
    if (fd < 0 || made < 0 || pack_open(path, &p, &e) < 0) abort();
    *ret_n = gguf_data_offset(pack_gguf(p));
    uint8_t *r = malloc(*ret_n);
    if (!r) abort();
    memcpy(r, gguf_header(pack_gguf(p)), *ret_n);
    pack_close(p);
    close(fd);
    unlink(path);
    return r;
}
