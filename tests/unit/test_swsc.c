/* swsc: forms from hostile numbers, where their arrays lie, what they cost, and binding. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/pack.h"
#include "core/swsc.h"
#include "tests/golden/swsc_draw.h"
#include "tests/t.h"

static const struct model_hparams small = {
    .n_layers = 3,
    .n_embd = 64,
    .n_ff = 96,
    .n_heads = 8,
    .n_kv_heads = 1,
    .head_dim = 20, /* so that heights are no multiples of 8 */
    .rope_dim = 16,
    .n_vocab = 40,
    .n_ctx_train = 64,
    .rope_base = 10000,
    .norm_eps = 1e-5f,
    .is_tied = true,
};

static void refuse(struct swsc_form f, const char *text) {
    struct swsc_form forms[MODEL_LAYER_MATS];
    struct err e = {0};
    swsc_draw_forms(&small, 0, forms);
    forms[MODEL_K] = f; /* 20 x 64 */
    int r = swsc_check(&small, forms, &e);
    CHECK_EQ(r, text ? -EBADMSG : 0);
    if (text && r < 0 && (!strstr(e.msg, text) || !strstr(e.msg, "attn_k")))
        t_fail(__FILE__, __LINE__, "'%s' lacks '%s'", e.msg, text);
}

static void forms_are_checked(void) {
    const struct swsc_form seg = {.base = SWSC_SEGMENTS, .len = 4, .bits = 8, .k = 256};
    const struct swsc_form chan = {.base = SWSC_CHANNELS, .k = 20, .factor_bits = 4};
    const struct swsc_form pair = {.rank = 32, .factor_bits = 8};
    struct swsc_form f;
    refuse(seg, NULL);
    refuse(chan, NULL);
    refuse(pair, NULL);
    refuse((f = seg, f.len = 5, f), "not 4 or 8 long");
    refuse((f = seg, f.bits = 9, f.k = 512, f), "8, 10 or 12 bits");
    refuse((f = seg, f.bits = 255, f), "8, 10 or 12 bits");
    refuse((f = seg, f.k = 255, f), "as long as its indices");
    refuse((f = seg, f.factor_bits = 4, f), "4 or 8 bits");
    refuse((f = seg, f.is_basis_shared = true, f), "without a rank");
    refuse((f = seg, f.rank = 32, f), "4 or 8 bits");
    refuse((f = chan, f.k = 21, f), "more than it has rows");
    refuse((f = chan, f.k = 0, f), "no channels");
    refuse((f = chan, f.len = 4, f), "sizes of segments");
    refuse((f = chan, f.is_shared = true, f), "sizes of segments");
    refuse((f = chan, f.factor_bits = 0, f), "4 or 8 bits");
    refuse((f = pair, f.rank = 33, f), "multiple of 32");
    refuse((f = pair, f.rank = 64, f), "beyond its smaller side");
    refuse((f = pair, f.rank = 0xffffffe0, f), "beyond its smaller side");
    refuse((f = pair, f.rank = 0, f), "neither a base nor a pair");
    refuse((f = pair, f.k = 1, f), "no base, but sizes");
    refuse((f = pair, f.base = (enum swsc_base)3, f), "not known");
    for (unsigned v = 0; v < SWSC_DRAW_VARIANTS; v++) {
        struct swsc_form forms[MODEL_LAYER_MATS];
        struct err e = {0};
        swsc_draw_forms(&small, v, forms);
        CHECK_EQ(swsc_check(&small, forms, &e), 0);
    }
    CHECK_STR(swsc_base_name(SWSC_SEGMENTS), "segments");
}

/* Arrays must lie one after the other and aligned; `*at` is the end of the last one. */
static void check_array(uint64_t offset, uint64_t bytes, uint64_t *at) {
    CHECK(offset >= *at && offset < *at + SWSC_ALIGN && offset % SWSC_ALIGN == 0);
    *at = offset + bytes;
}

static void check_planes(const struct swsc_planes_at *x, uint32_t n_out, uint32_t n_in,
                         uint8_t bits, uint64_t *at) {
    uint64_t tiles = (uint64_t)planes_row_tiles(n_out) * (n_in / 32);
    check_array(x->rows, 32u * planes_row_tiles(n_out), at);
    check_array(x->groups, 16 * tiles, at);
    check_array(x->high, 128 * tiles, at);
    if (bits == 8) check_array(x->low, 128 * tiles, at);
    if (bits != 8) CHECK_EQU(x->low, 0);
}

static void layouts_hold(void) {
    uint64_t seed = t_seed();
    for (int round = 0; round < 300; round++) {
        struct model_hparams h = {.n_layers = (uint32_t)(1 + t_rand(&seed) % 512),
                                  .n_embd = (uint32_t)(32 * (1 + t_rand(&seed) % 2048)),
                                  .n_ff = (uint32_t)(32 * (1 + t_rand(&seed) % 8192)),
                                  .n_heads = (uint32_t)(1 + t_rand(&seed) % 1024),
                                  .n_kv_heads = 1,
                                  .head_dim = 32,
                                  .rope_dim = 32,
                                  .n_vocab = 100};
        struct swsc_form forms[MODEL_LAYER_MATS];
        struct swsc_layout own[MODEL_LAYER_MATS];
        struct swsc_books_layout shared[MODEL_LAYER_MATS];
        swsc_draw_forms(&h, (unsigned)(t_rand(&seed) % SWSC_DRAW_VARIANTS), forms);
        CHECK_EQ(swsc_check(&h, forms, NULL), 0);
        uint64_t n = swsc_unit_layout(&h, forms, own),
                 n_books = swsc_books_layout(&h, forms, shared);
        uint64_t at = 16 + 7 * 192, at_books = 16 + 7 * 64;
        for (int m = 0; m < MODEL_LAYER_MATS; m++) {
            const struct swsc_form *f = &forms[m];
            const struct swsc_layout *x = &own[m];
            const struct swsc_books_layout *y = &shared[m];
            uint64_t tiles = planes_row_tiles(x->n_out), in_basis = 0;
            if (f->base != SWSC_NONE) check_array(x->gains, 16 * tiles, &at);
            if (f->base == SWSC_SEGMENTS) {
                if (!f->is_shared) check_array(x->book, f->k * f->len, &at);
                if (f->is_shared) check_array(y->book, f->k * f->len, &at_books);
                check_array(x->index, tiles * (x->n_in / f->len) * f->bits + 16, &at);
            } else if (f->base == SWSC_CHANNELS) {
                check_array(x->labels, 16 * tiles, &at);
                check_planes(&x->c, f->k, x->n_in, f->factor_bits, &at);
            }
            if (f->rank == 0) continue;
            check_planes(&x->a, x->n_out, f->rank, f->factor_bits, &at);
            if (!f->is_basis_shared) {
                check_planes(&x->b, f->rank, x->n_in, f->factor_bits, &at);
                continue;
            }
            CHECK_EQU(y->n_bases, (h.n_layers + 1) / 2);
            check_planes(&y->basis_at, f->rank, x->n_in, f->factor_bits, &in_basis);
            CHECK(y->basis_stride >= in_basis && y->basis_stride % SWSC_ALIGN == 0);
            check_array(y->basis, y->basis_stride * y->n_bases, &at_books);
        }
        CHECK(n >= at && n - at < SWSC_ALIGN);
        CHECK(n_books >= at_books && n_books - at_books < SWSC_ALIGN);
        CHECK(pack_swsc_bytes(&h, forms) % PACK_ALIGN == 0 && pack_swsc_bytes(&h, forms) >= n);
        CHECK(pack_books_bytes(&h, forms) >= n_books);
    }
}

/* SWSC's formula; planes take 4.5 or 8.5 bits and 32 a row, which the second side adds to. */
static double formula(double b, double k, double r, double n_out, double n_in, double label) {
    double c = b * k * n_in + 32 * k, pair = b * r * (n_in + n_out) + 32 * (n_out + r);
    return ((k > 0 ? c + n_out * (label + 16) : 0) + (r > 0 ? pair : 0)) / (n_out * n_in);
}

static void bits_follow_the_formula(void) {
    struct swsc_form f = {.base = SWSC_CHANNELS, .k = 256, .factor_bits = 4};
    CHECK_NEAR(swsc_form_bits(&f, 4096, 4096, 30), formula(4.5, 256, 0, 4096, 4096, 16), 2e-3);
    f = (struct swsc_form){.base = SWSC_CHANNELS, .k = 128, .rank = 64, .factor_bits = 8};
    CHECK_NEAR(swsc_form_bits(&f, 4096, 4096, 30), formula(8.5, 128, 64, 4096, 4096, 16), 2e-3);
    f = (struct swsc_form){.rank = 96, .factor_bits = 4};
    CHECK_NEAR(swsc_form_bits(&f, 576, 1536, 30), formula(4.5, 0, 96, 576, 1536, 0), 1e-2);
    double own = swsc_form_bits(&f, 576, 1536, 30);
    f.is_basis_shared = true;
    CHECK_NEAR(own - swsc_form_bits(&f, 576, 1536, 30),
               (4.5 * 96 * 1536 + 32 * 96) / 2 / 576 / 1536, 1e-2);
    CHECK_NEAR(swsc_form_bits(&f, 576, 1536, 1), own, 1e-9); /* none to share with */
    f = (struct swsc_form){
        .base = SWSC_SEGMENTS, .len = 4, .bits = 12, .k = 4096, .is_shared = true};
    CHECK_NEAR(swsc_form_bits(&f, 576, 576, 30), 3 + 16 / 576.0 + 8 * 16384.0 / 30 / 576 / 576,
               2e-3);
    f.is_shared = false;
    CHECK_NEAR(swsc_form_bits(&f, 576, 576, 30), 3 + 16 / 576.0 + 8 * 16384.0 / 576 / 576, 2e-3);
    f = (struct swsc_form){.base = SWSC_SEGMENTS, .len = 8, .bits = 8, .k = 256};
    CHECK_NEAR(swsc_form_bits(&f, 1536, 576, 30), 1 + 16 / 576.0 + 8 * 2048.0 / 576 / 1536, 2e-3);
}

struct extents {
    struct swsc_form forms[MODEL_LAYER_MATS];
    uint8_t *unit, *books;
    uint64_t n_unit, n_books;
};

static void extents_init(struct extents *x, unsigned variant, uint32_t layer) {
    swsc_draw_forms(&small, variant, x->forms);
    x->unit = swsc_draw_unit(&small, x->forms, layer, 5, &x->n_unit);
    x->books = swsc_draw_books(&small, x->forms, 5, &x->n_books);
}

static void extents_fini(struct extents *x) {
    free(x->unit);
    free(x->books);
}

static bool in(const void *p, const uint8_t *from, uint64_t n) {
    const uint8_t *q = p;
    return q >= from && q < from + n && (uintptr_t)p % SWSC_ALIGN == 0;
}

static void binds_what_was_drawn(void) {
    for (unsigned v = 0; v < SWSC_DRAW_VARIANTS; v++) {
        const uint8_t *basis[3][MODEL_LAYER_MATS] = {{NULL}};
        for (uint32_t layer = 0; layer < 3; layer++) {
            struct extents x;
            struct swsc_mat w[MODEL_LAYER_MATS];
            struct err e = {0};
            extents_init(&x, v, layer);
            REQUIRE_OK(
                pack_bind_swsc(&small, x.forms, layer, x.books, x.n_books, x.unit, x.n_unit, w, &e),
                &e);
            for (int m = 0; m < MODEL_LAYER_MATS; m++) {
                const struct swsc_form *f = &x.forms[m];
                CHECK(w[m].base == f->base && w[m].rank == f->rank);
                if (f->base == SWSC_SEGMENTS) {
                    const uint8_t *from = f->is_shared ? x.books : x.unit;
                    CHECK(in(w[m].seg.book, from, f->is_shared ? x.n_books : x.n_unit));
                    CHECK(in(w[m].seg.index, x.unit, x.n_unit));
                    CHECK(in(w[m].seg.gains, x.unit, x.n_unit));
                    CHECK(w[m].seg.n_out == w[m].n_out && w[m].seg.n_in == w[m].n_in);
                    CHECK(w[m].seg.len == f->len && w[m].seg.bits == f->bits);
                } else if (f->base == SWSC_CHANNELS) {
                    CHECK(in(w[m].labels, x.unit, x.n_unit) && in(w[m].gains, x.unit, x.n_unit));
                    CHECK(w[m].c.n_out == f->k && w[m].c.n_in == w[m].n_in);
                    CHECK_EQ(w[m].c.low != NULL, f->factor_bits == 8);
                }
                if (f->rank == 0) continue;
                CHECK(w[m].a.n_out == w[m].n_out && w[m].a.n_in == f->rank);
                CHECK(w[m].b.n_out == f->rank && w[m].b.n_in == w[m].n_in);
                CHECK(w[m].a.low == NULL || f->factor_bits == 8);
                CHECK(in(w[m].b.high, f->is_basis_shared ? x.books : x.unit,
                         f->is_basis_shared ? x.n_books : x.n_unit));
                if (f->is_basis_shared) basis[layer][m] = w[m].b.rows - (uintptr_t)x.books;
            }
            extents_fini(&x);
        }
        for (int m = 0; m < MODEL_LAYER_MATS; m++) {
            CHECK(basis[0][m] == basis[1][m]); /* of layers 0 and 1, and 2 alone */
            CHECK(!basis[0][m] || basis[2][m] > basis[1][m]);
        }
    }
}

static int bind(const struct extents *x, struct err *e) {
    struct swsc_mat w[MODEL_LAYER_MATS];
    return pack_bind_swsc(&small, x->forms, 1, x->books, x->n_books, x->unit, x->n_unit, w, e);
}

static void what_does_not_fit_is_refused(void) {
    for (unsigned v = 0; v < SWSC_DRAW_VARIANTS; v++) {
        struct extents x;
        struct err e = {0};
        extents_init(&x, v, 1);
        for (size_t i = 0; i < 16 + 7 * 192; i++) {
            x.unit[i] ^= 1;
            CHECK_EQ(bind(&x, &e), -EBADMSG);
            x.unit[i] ^= 1;
        }
        for (size_t i = 0; i < 16 + 7 * 64; i++) {
            x.books[i] ^= 1;
            CHECK_EQ(bind(&x, &e), -EBADMSG);
            x.books[i] ^= 1;
        }
        CHECK(strstr(e.msg, "books: byte 463 of its directory"));
        x.n_unit -= PACK_ALIGN;
        CHECK_EQ(bind(&x, &e), -EBADMSG);
        x.n_unit += PACK_ALIGN;
        x.n_books += PACK_ALIGN;
        CHECK_EQ(bind(&x, &e), -EBADMSG);
        x.n_books -= PACK_ALIGN;

        /* The last label of each kind that has them; its rows are padded to 8. */
        struct swsc_layout at[MODEL_LAYER_MATS];
        swsc_unit_layout(&small, x.forms, at);
        for (int m = 0; m < MODEL_LAYER_MATS; m++) {
            if (x.forms[m].base != SWSC_CHANNELS) continue;
            uint32_t row = planes_row_tiles(at[m].n_out) * 8 - 1;
            uint8_t *label = x.unit + at[m].labels + 2 * row, old = *label;
            *label = (uint8_t)x.forms[m].k;
            CHECK_EQ(bind(&x, &e), -EBADMSG);
            CHECK(strstr(e.msg, "unit.001.swsc") && strstr(e.msg, "names channel"));
            *label = (uint8_t)(x.forms[m].k - 1);
            CHECK_EQ(bind(&x, &e), 0);
            *label = old;
        }
        struct swsc_books_layout shared[MODEL_LAYER_MATS];
        swsc_books_layout(&small, x.forms, shared);
        for (int m = 0; m < MODEL_LAYER_MATS; m++) {
            if (x.forms[m].base != SWSC_SEGMENTS) continue;
            uint8_t *book = x.forms[m].is_shared ? x.books + shared[m].book : x.unit + at[m].book;
            uint8_t *last = book + x.forms[m].k * x.forms[m].len - 1, old = *last;
            *last = 0x80;
            CHECK_EQ(bind(&x, &e), -EBADMSG);
            CHECK(strstr(e.msg, x.forms[m].is_shared ? "books: " : "unit.001.swsc: "));
            CHECK(strstr(e.msg, "of its book holds -128"));
            *last = old;
        }
        CHECK_EQ(bind(&x, &e), 0);
        /* Any other byte may be anything: what it means is in range. */
        uint64_t seed = t_seed();
        for (uint64_t i = 16 + 7 * 192; i < x.n_unit; i++) {
            bool is_label = false;
            for (int m = 0; m < MODEL_LAYER_MATS; m++)
                is_label |= at[m].labels && i >= at[m].labels && i < at[m].labels + 2 * 160;
            if (!is_label) x.unit[i] = (uint8_t)(t_rand(&seed) % 255 + 129); /* not 128 */
        }
        CHECK_EQ(bind(&x, &e), 0);
        extents_fini(&x);
    }
}

static const struct t_case cases[] = {
    {"forms_are_checked", forms_are_checked},
    {"layouts_hold", layouts_hold},
    {"bits_follow_the_formula", bits_follow_the_formula},
    {"binds_what_was_drawn", binds_what_was_drawn},
    {"what_does_not_fit_is_refused", what_does_not_fit_is_refused},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
