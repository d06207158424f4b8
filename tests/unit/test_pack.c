/* pack: every byte of a pack is under a checksum, every length but the right one is refused, and a
 * header that is signed but wrong is refused by what is wrong with it. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "core/bytes.h"
#include "core/err.h"
#include "core/gguf.h"
#include "core/pack.h"
#include "tests/golden/gguf_build.h"
#include "tests/golden/tiny_pack.h"
#include "tests/t.h"

static struct tiny_opts smallest(bool is_untied) {
    struct tiny_opts o = tiny_defaults();
    o.n_layers = 1;
    o.n_embd = o.n_ff = 32;
    o.n_heads = 2;
    o.n_kv_heads = 1;
    o.is_untied = is_untied;
    return o;
}

static const char *path_of(const char *name) {
    static char path[2][512];
    static unsigned turn;
    char *p = path[turn++ % 2];
    snprintf(p, sizeof(path[0]), "%s/%s", t_tmpdir(), name);
    return p;
}

static const char *make(const char *name, bool is_untied) {
    struct tiny_opts o = smallest(is_untied);
    struct err e = {0};
    const char *path = path_of(name);
    REQUIRE_OK(tiny_pack_write(&o, path, &e), &e);
    return path;
}

/* With the rung swsc. */
static const char *make_swsc(const char *name, bool is_untied, unsigned variant) {
    struct tiny_opts o = smallest(is_untied);
    struct err e = {0};
    const char *path = path_of(name);
    REQUIRE_OK(tiny_pack_write_swsc(&o, variant, path, &e), &e);
    return path;
}

static uint8_t *slurp(const char *path, size_t *ret_n) {
    FILE *f = fopen(path, "rb");
    REQUIRE(f && fseek(f, 0, SEEK_END) == 0);
    size_t n = (size_t)ftell(f);
    uint8_t *p = malloc(n);
    rewind(f);
    REQUIRE(p && fread(p, 1, n, f) == n);
    fclose(f);
    *ret_n = n;
    return p;
}

static void spit(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    REQUIRE(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

static void check_extents(const struct pack *p, const struct tiny_source *s, uint64_t seed) {
    struct err e = {0};
    uint64_t end = gguf_data_offset(pack_gguf(p));
    for (size_t i = 0; i < pack_n_extents(p); i++) {
        const struct pack_extent *x = pack_extent_at(p, i);
        uint64_t n;
        uint8_t *got = malloc(x->bytes), *want = tiny_pack_extent(s, x->part, x->unit, seed, &n);
        REQUIRE_OK(pack_read_extent(p, x, got, &e), &e);
        CHECK_MEM(got, want, n);
        for (uint64_t k = n; k < x->bytes; k++) CHECK_EQ(got[k], 0);
        CHECK(x->offset == end && x->bytes % PACK_ALIGN == 0);
        CHECK(pack_find(p, x->part, x->unit) == x);
        end += x->bytes;
        free(got);
        free(want);
    }
    CHECK_EQU(end, gguf_file_bytes(pack_gguf(p)));
}

static void reads_what_was_written(void) {
    for (int untied = 0; untied < 2; untied++) {
        struct tiny_opts o = smallest(untied);
        struct tiny_source s;
        struct pack *p;
        struct err e = {0};
        tiny_source_init(&s, &o);
        REQUIRE_OK(pack_open(make("a.ebb", untied), &p, &e), &e);
        CHECK_MEM(pack_hparams(p), &s.h, sizeof(s.h));
        CHECK_STR(pack_model_name(p), "tiny-test-model");
        CHECK_EQU(pack_n_extents(p), untied ? 6 : 5);
        CHECK(gguf_find(pack_gguf(p), "tokenizer.ggml.merges"));
        check_extents(p, &s, o.seed);
        CHECK(!pack_has_swsc(p) && !pack_swsc(p) && !pack_has_rung(p, 0, RUNG_SWSC));
        CHECK(!pack_find(p, PACK_BOOKS, 0) && !pack_find(p, PACK_SWSC, 0));
        CHECK(untied || !pack_find(p, PACK_EMBD, 0));
        CHECK(!pack_find(p, PACK_LOW, 2));
        CHECK_STR(pack_extent_at(p, untied ? 3 : 2)->name, "unit.000.low");
        CHECK_STR(pack_extent_at(p, untied ? 4 : 3)->name, "unit.head.high");
        const struct ladder *l = pack_ladder(p, "jaccard");
        REQUIRE(l);
        CHECK(pack_n_ladders(p) == 2 && pack_ladder_at(p, 0) == l && !pack_ladder(p, "kl"));
        uint64_t full = pack_unit_bytes(p, 0, RUNG_FULL) + pack_unit_bytes(p, 1, RUNG_FULL);
        uint64_t high = pack_unit_bytes(p, 0, RUNG_HIGH) + pack_unit_bytes(p, 1, RUNG_HIGH);
        CHECK_EQU(ladder_bytes(l, 0), full);
        CHECK_EQU(ladder_bytes(l, 2), high);
        CHECK_EQU(ladder_all_at(l, RUNG_HIGH), 2);
        pack_close(p);
        tiny_source_fini(&s);
    }
    pack_close(NULL);
}

static void reads_the_rung_swsc(void) {
    for (unsigned v = 0; v < MODEL_LAYER_MATS; v++) {
        struct tiny_opts o = tiny_defaults();
        struct tiny_source s;
        struct pack *p;
        struct err e = {0};
        o.is_untied = v % 2;
        o.n_embd = 256, o.n_ff = 512; /* so that a high plane takes more than the form */
        tiny_source_init(&s, &o);
        tiny_source_swsc(&s, v);
        const char *path = path_of("s.ebb");
        REQUIRE_OK(tiny_pack_write_swsc(&o, v, path, &e), &e);
        REQUIRE_OK(pack_open(path, &p, &e), &e);
        REQUIRE(pack_has_swsc(p));
        for (int m = 0; m < MODEL_LAYER_MATS; m++) {
            const struct swsc_form *a = &pack_swsc(p)[m], *b = &s.forms[m];
            CHECK(a->base == b->base && a->len == b->len && a->bits == b->bits && a->k == b->k);
            CHECK(a->is_shared == b->is_shared && a->rank == b->rank);
            CHECK(a->factor_bits == b->factor_bits && a->is_basis_shared == b->is_basis_shared);
        }
        CHECK_EQU(pack_n_extents(p), (o.is_untied ? 3 : 2) + 3 * 3 + 2);
        CHECK_STR(pack_extent_at(p, 1)->name, o.is_untied ? "embd" : "books");
        CHECK_STR(pack_extent_at(p, o.is_untied ? 5 : 4)->name, "unit.000.swsc");
        CHECK_STR(pack_extent_at(p, pack_n_extents(p) - 3)->name, "unit.002.swsc");
        check_extents(p, &s, o.seed);
        CHECK(!pack_find(p, PACK_SWSC, 3) && !pack_find(p, PACK_SWSC, 4));
        CHECK(pack_has_rung(p, 2, RUNG_SWSC) && !pack_has_rung(p, 3, RUNG_SWSC));
        CHECK(pack_has_rung(p, 3, RUNG_PAGED) && !pack_has_rung(p, 4, RUNG_HIGH));
        CHECK_EQU(pack_unit_bytes(p, 1, RUNG_SWSC), pack_swsc_bytes(&s.h, s.forms));
        CHECK_EQU(pack_unit_bytes(p, 3, RUNG_SWSC), 0);
        CHECK_EQU(pack_unit_bytes(p, 1, RUNG_PAGED), 0);
        const struct ladder *l = pack_ladder(p, "deep");
        REQUIRE(l);
        uint64_t swsc = pack_unit_bytes(p, 3, RUNG_HIGH);
        for (uint32_t u = 0; u < 3; u++) swsc += pack_unit_bytes(p, u, RUNG_SWSC);
        CHECK_EQU(ladder_n_steps(l), 4 + 3 + 4);
        CHECK_EQU(ladder_bytes(l, 7), swsc);
        CHECK_EQU(ladder_bytes(l, 11), 0);
        pack_close(p);
        tiny_source_fini(&s);
    }
}

/* The extent that holds a byte of the file; NULL in the header. */
static const struct pack_extent *extent_of(const struct pack *p, uint64_t at) {
    for (size_t i = 0; i < pack_n_extents(p); i++) {
        const struct pack_extent *x = pack_extent_at(p, i);
        if (at >= x->offset && at < x->offset + x->bytes) return x;
    }
    return NULL;
}

/* One bit of each byte in turn, N of N detected: by pack_open() in the header, by the read of its
 * extent (and, inside an embedding row, of that row) in the data. */
static void reads_the_gate(void) {
    struct pack *p;
    struct err e = {0};
    double margin;
    REQUIRE_OK(pack_open(make("plain.ebb", false), &p, &e), &e);
    CHECK_EQU(pack_gate_n(p), 0);
    CHECK(isnan(pack_gate_target(p)));
    pack_close(p);
    REQUIRE_OK(pack_open(make_swsc("gate.ebb", false, 0), &p, &e), &e);
    REQUIRE(pack_gate_n(p) == 2);
    CHECK_NEAR(pack_gate_target(p), 3.0, 1e-9);
    for (uint32_t m = 0; m + 1 < MODEL_LAYER_MATS; m++) {
        struct pack_gate_form f = pack_gate_form(p, (enum model_mat)m, 0);
        CHECK_EQU(f.name_bytes, 14);
        CHECK_MEM(f.name, "segments-4-256", 14);
        CHECK_NEAR(f.bits, 2.25, 1e-9);
        CHECK_NEAR(f.error, (m + 1) / 100.0, 1e-6);
        CHECK(f.can_win && !pack_gate_form(p, (enum model_mat)m, 1).can_win);
        CHECK_EQU(pack_gate_winner(p, (enum model_mat)m, &margin), 0);
        CHECK_NEAR(margin, 0.25, 1e-9);
    }
    CHECK(isnan(pack_gate_form(p, MODEL_DOWN, 0).error));
    CHECK_EQU(pack_gate_winner(p, MODEL_DOWN, &margin), 2);
    CHECK(isnan(margin));
    pack_close(p);
}

static void every_flipped_byte_is_detected(void) {
    const char *path = make_swsc("flip.ebb", true, 0);
    struct pack *whole;
    struct err e = {0};
    size_t n, n_open = 0, n_read = 0, n_row = 0, n_missed = 0;
    uint8_t *bytes = slurp(path, &n), *buf = malloc(n);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    REQUIRE(fd >= 0);
    REQUIRE_OK(pack_open(path, &whole, &e), &e);
    const struct model_hparams *h = pack_hparams(whole);
    size_t record = h->n_embd * sizeof(uint16_t) + sizeof(uint64_t);
    for (size_t i = 0; i < n; i++) {
        uint8_t bad = bytes[i] ^ (uint8_t)(1u << i % 8);
        const struct pack_extent *x = extent_of(whole, i);
        REQUIRE(pwrite(fd, &bad, 1, (off_t)i) == 1);
        if (!x) {
            struct pack *p;
            int r = pack_open(path, &p, NULL);
            if (r == 0) pack_close(p);
            if (r == 0) n_missed++;
            n_open++;
        } else {
            if (pack_read_extent(whole, x, buf, &e) != -EBADMSG) n_missed++;
            n_read++;
            uint32_t row = (uint32_t)((i - x->offset) / record);
            if (x->part == PACK_EMBD && row < h->n_vocab) {
                if (pack_read_embd(whole, row, (float *)buf, &e) != -EBADMSG) n_missed++;
                n_row++;
            }
        }
        REQUIRE(pwrite(fd, &bytes[i], 1, (off_t)i) == 1);
    }
    CHECK_EQU(n_missed, 0);
    CHECK_EQU(n_open + n_read, n);
    CHECK_EQU(n_row, h->n_vocab * record);
    pack_close(whole);
    close(fd);
    free(bytes);
    free(buf);
}

static void errors_name_the_place(void) {
    const char *path = make("place.ebb", false);
    struct pack *p;
    struct err e = {0};
    REQUIRE_OK(pack_open(path, &p, &e), &e);
    const struct pack_extent *x = pack_find(p, PACK_LOW, 0);
    uint8_t *buf = malloc(x->bytes);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    REQUIRE(fd >= 0 && pwrite(fd, "bad", 3, (off_t)x->offset + 700) == 3);
    CHECK_EQ(pack_read_extent(p, x, buf, &e), -EBADMSG);
    CHECK(strstr(e.msg, "unit.000.low: checksum differs (at byte "));
    CHECK(strstr(e.msg, "changed after it was opened"));
    REQUIRE(ftruncate(fd, (off_t)x->offset + 100) == 0);
    CHECK_EQ(pack_read_extent(p, x, buf, &e), -EBADMSG);
    CHECK(strstr(e.msg, "unit.000.low: at byte") && strstr(e.msg, "shorter"));
    free(buf);
    close(fd);
    pack_close(p);
}

static void refuse_file(const char *path, int code, const char *text) {
    struct pack *p = NULL;
    struct err e = {0};
    int r = pack_open(path, &p, &e);
    CHECK_EQ(r, code);
    if (r == 0) pack_close(p);
    if (r == code && !strstr(e.msg, text))
        t_fail(__FILE__, __LINE__, "'%s' lacks '%s'", e.msg, text);
}

static void every_other_length_is_refused(void) {
    const char *path = make_swsc("cut.ebb", false, 2);
    struct pack *p;
    struct err e = {0};
    size_t n, n_refused = 0, n_tried = 0;
    uint64_t seed = t_seed(), ends[16] = {0, 4, 24};
    REQUIRE_OK(pack_open(path, &p, &e), &e);
    size_t n_ends = 3;
    for (size_t i = 0; i < pack_n_extents(p); i++) ends[n_ends++] = pack_extent_at(p, i)->offset;
    pack_close(p);
    uint8_t *bytes = slurp(path, &n);
    REQUIRE(truncate(path, (off_t)n + 1) == 0);
    refuse_file(path, -EBADMSG, "its extents end at");
    REQUIRE(truncate(path, (off_t)n + PACK_ALIGN) == 0);
    refuse_file(path, -EBADMSG, "its extents end at");
    for (size_t i = 0; i < n_ends * 3 + 1000 + 1; i++) {
        int64_t len = i < n_ends * 3 ? (int64_t)ends[i / 3] + (int64_t)(i % 3) - 1
                                     : (int64_t)(t_rand(&seed) % n);
        if (i == n_ends * 3 + 1000) len = (int64_t)n - 1;
        if (len < 0) continue;
        spit(path, bytes, (size_t)len);
        n_tried++;
        int r = pack_open(path, &p, &e);
        if (r == 0) pack_close(p);
        n_refused += r == -EBADMSG;
    }
    CHECK_EQU(n_refused, n_tried);
    free(bytes);
}

/* --- Headers that are signed but wrong -------------------------------------------------------- */

static size_t at_key(const uint8_t *p, size_t n, const char *key) {
    const uint8_t *at = memmem(p, n, key, strlen(key));
    REQUIRE(at);
    return (size_t)(at - p) + strlen(key);
}

static void sign(uint8_t *p, size_t n) {
    size_t at = at_key(p, n, "ebb.header.xxh3") + 4;
    struct gguf *g;
    struct err e = {0};
    bytes_put_u64(p + at, 0);
    REQUIRE_OK(gguf_parse(p, n, n, &g, &e), &e);
    bytes_put_u64(p + at, XXH3_64bits(p, (size_t)gguf_data_offset(g)));
    gguf_close(g);
}

static void refuse_changed(const char *path, const char *key, size_t skip, const void *data,
                           size_t n_data, int code, const char *text) {
    size_t n;
    uint8_t *p = slurp(path, &n);
    size_t at = at_key(p, n, key) + skip;
    memcpy(p + at, data, n_data);
    sign(p, n);
    spit(path, p, n);
    refuse_file(path, code, text);
    free(p);
}

static void refuse_signed(const char *key, size_t skip, const void *data, size_t n_data, int code,
                          const char *text) {
    refuse_changed(make("signed.ebb", false), key, skip, data, n_data, code, text);
}

static void refuse_form(const char *key, size_t skip, const void *data, size_t n_data, int code,
                        const char *text) {
    refuse_changed(make_swsc("signed.ebb", false, 0), key, skip, data, n_data, code, text);
}

static void wrong_forms_are_refused(void) {
    enum { TYPE = 4, ARRAY_N = 8, ARRAY = 16 };
    refuse_form("ebb.swsc.len", ARRAY, "\4", 1, 0, "");
    refuse_form("ebb.swsc.base", ARRAY, "\3", 1, -EBADMSG, "form of attn_q has a base or a mark");
    refuse_form("ebb.swsc.base", ARRAY, "\2", 1, -EBADMSG, "attn_q has whole channels, but");
    refuse_form("ebb.swsc.base", TYPE, "\1", 1, -EBADMSG, "");
    refuse_form("ebb.swsc.bas", 0, "E", 1, -EBADMSG, "7 extents");
    refuse_form("ebb.swsc.len", ARRAY, "\6", 1, -EBADMSG, "attn_q has segments that are not");
    refuse_form("ebb.swsc.le", 0, "N", 1, -EBADMSG, "key ebb.swsc.len is missing");
    refuse_form("ebb.swsc.bits", ARRAY + 1, "\15", 1, -EBADMSG, "attn_k has indices");
    refuse_form("ebb.swsc.k", ARRAY, "\1", 1, -EBADMSG, "attn_q has a book");
    refuse_form("ebb.swsc.k", ARRAY + 8, "\377\377\377\377", 4, -EBADMSG, "attn_v has no channels");
    refuse_form("ebb.swsc.k", ARRAY + 8, "\377\377\0\0", 4, -EBADMSG, "attn_v has no channels");
    refuse_form("ebb.swsc.shared", ARRAY, "\2", 1, -EBADMSG, "attn_q has a base or a mark");
    refuse_form("ebb.swsc.shared", ARRAY + 2, "\1", 1, -EBADMSG, "attn_v has whole channels, but");
    refuse_form("ebb.swsc.rank", ARRAY + 12, "\41", 1, -EBADMSG, "attn_output has a rank");
    refuse_form("ebb.swsc.rank", ARRAY + 12, "\340\377\377\377", 4, -EBADMSG, "has a rank");
    refuse_form("ebb.swsc.rank", ARRAY + 16, "\0", 1, -EBADMSG, "ffn_gate has neither a base nor");
    refuse_form("ebb.swsc.factor_bits", ARRAY + 3, "\5", 1, -EBADMSG, "attn_output has factors");
    refuse_form("ebb.swsc.basis_shared", ARRAY, "\1", 1, -EBADMSG, "attn_q has a shared basis");
    refuse_form("ebb.gate.winner", ARRAY + 4, "\3", 1, -EBADMSG, "gate.winner names no form");
    refuse_form("ebb.gate.winne", 0, "R", 1, -EBADMSG, "not one number a kind");
    refuse_form("ebb.gate.bit", 0, "S", 1, -EBADMSG, "not one number a kind and form");
    refuse_form("ebb.gate.error", 4, "\5", 1, -EBADMSG, "not one number a kind and form");
    refuse_form("ebb.gate.targe", 0, "T", 1, -EBADMSG, "gate.target is not one f32");
    refuse_form("ebb.gate.name", 0, "S", 1, 0, ""); /* without names there is no gate */
    refuse_form("ebb.ladder.deep.to", ARRAY + 3, "\2", 1, -EBADMSG, "but its unit has no swsc");
    refuse_form("ebb.ladder.deep.bytes", ARRAY + 16, "\1", 1, -EBADMSG, "0 after");
    refuse_form("unit.000.sws", 0, "d", 1, -EBADMSG, "extent unit.000.swsc is expected");
}

static void signed_but_wrong_is_refused(void) {
    enum { SCALAR = 4, ARRAY_N = 8, ARRAY = 16 }; /* past the types, past the count */
    refuse_signed("ebb.version", SCALAR, "\1", 1, -ENOTSUP,
                  "pack version 1 is not supported, only 2; build it again");
    refuse_signed("ebb.version", SCALAR, "\3", 1, -ENOTSUP, "pack version 3 is not supported");
    refuse_signed("ebb.version", SCALAR, "\0", 1, -ENOTSUP, "pack version 0");
    refuse_signed("ebb.versio", 0, "N", 1, -EBADMSG, "not an ebb pack");
    refuse_signed("general.alignment", SCALAR, "\0\100\0\0", 2, 0, "");
    refuse_signed("general.alignment", SCALAR, "\0\20\0\0", 2, -EBADMSG, "alignment is 4096");
    refuse_signed("general.architecture", 12, "lLama", 5, -ENOTSUP, "architecture 'lLama'");
    refuse_signed("ebb.units", SCALAR, "\3", 1, -EBADMSG, "ebb.units is 3, the model has 2");
    refuse_signed("ebb.unit", 0, "S", 1, -EBADMSG, "key ebb.units is missing");
    refuse_signed("llama.block_count", SCALAR, "\2", 1, -EBADMSG, "the model has 3");
    refuse_signed("llama.feed_forward_length", SCALAR, "\0\20", 2, -EBADMSG, "unit.000.");
    refuse_signed("llama.embedding_length", SCALAR, "\41", 1, -ENOTSUP, "multiples of 32");
    refuse_signed("unit.000.hig", 0, "H", 1, -EBADMSG, "extent unit.000.high is expected");
    refuse_signed("unit.000.lo", 0, "\\", 1, -EBADMSG, "extent unit.000.low is expected");
    refuse_signed("ebb.extents.xxh", 0, "4", 1, -EBADMSG, "key ebb.extents.xxh3 is missing");
    refuse_signed("ebb.importance.jaccard", 4, "\5", 1, -EBADMSG, "is not one f32 a unit");
    refuse_signed("ebb.ladder", 0, "S", 1, -EBADMSG, "");
    refuse_signed("ebb.ladder.jaccard.uni", 0, "T", 1, -EBADMSG, "jaccard.unit is missing");
    refuse_signed("ebb.ladder.jaccard.unit", ARRAY, "\7", 1, -EBADMSG, "names no unit");
    refuse_signed("ebb.ladder.jaccard.unit", ARRAY, "\1", 1, -EBADMSG, "ladder jaccard: step");
    refuse_signed("ebb.ladder.jaccard.from", ARRAY, "\1", 1, -EBADMSG, "ladder jaccard: step 0");
    refuse_signed("ebb.ladder.jaccard.to", ARRAY, "\0", 1, -EBADMSG, "does not go down");
    refuse_signed("ebb.ladder.jaccard.to", ARRAY, "\2", 1, -EBADMSG, "its unit has no swsc");
    refuse_signed("ebb.ladder.jaccard.to", ARRAY, "\11", 1, -EBADMSG, "names no unit or no rung");
    refuse_signed("ebb.ladder.jaccard.bytes", ARRAY, "\1", 1, -EBADMSG, "bytes, its extents have");
    refuse_signed("ebb.ladder.jaccard.cost", ARRAY, "\0\0\xc0\x7f", 4, -EBADMSG, "not a number");
    refuse_signed("ebb.header.xxh3", 12 + 8, "X", 1, -EBADMSG, ""); /* the first extent's name */
}

static void model_names_are_safe(void) {
    static const struct {
        const char *in, *out;
    } names[] = {
        {"tiny test model", "tiny-test-model"}, {"../../etc/passwd", "..-..-etc-passwd"},
        {"...............", "model"},           {"  \r\n\033[31m    ", "31m"},
        {"a/b\\c:d e__f.g ", "a-b-c-d-e__f.g"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *path = make("name.ebb", false);
        struct pack *pack;
        struct err e = {0};
        size_t n, len = strlen(names[i].in);
        char text[16];
        uint8_t *p = slurp(path, &n);
        /* The field holds 15 bytes, as the default name does. */
        memset(text, ' ', sizeof(text));
        memcpy(text, names[i].in, len < 15 ? len : 15);
        memcpy(p + at_key(p, n, "general.name") + 12, text, 15);
        sign(p, n);
        spit(path, p, n);
        REQUIRE_OK(pack_open(path, &pack, &e), &e);
        char want[32];
        snprintf(want, sizeof(want), "%s", names[i].out);
        if (i == 1) want[15] = '\0'; /* cut with its source */
        CHECK_STR(pack_model_name(pack), want);
        pack_close(pack);
        free(p);
    }
}

/* --- Embedding rows and binding --------------------------------------------------------------- */

static void embedding_rows(void) {
    struct tiny_opts o = smallest(true);
    struct tiny_source s;
    struct pack *p;
    struct err e = {0};
    uint64_t n;
    float row[32];
    tiny_source_init(&s, &o);
    REQUIRE_OK(pack_open(make("embd.ebb", true), &p, &e), &e);
    uint8_t *want = tiny_pack_extent(&s, PACK_EMBD, 0, o.seed, &n);
    for (uint32_t r = 0; r < s.h.n_vocab; r++) {
        REQUIRE_OK(pack_read_embd(p, r, row, &e), &e);
        for (int i = 0; i < 32; i++) {
            const uint8_t *b = want + r * 72 + 2 * (size_t)i;
            CHECK_EQ(gb_half(row[i]), b[0] | b[1] << 8);
        }
    }
    CHECK_EQ(pack_read_embd(p, s.h.n_vocab, row, &e), -EINVAL);
    pack_close(p);
    REQUIRE_OK(pack_open(make("tied.ebb", false), &p, &e), &e);
    CHECK_EQ(pack_read_embd(p, 0, row, &e), -EINVAL);
    pack_close(p);
    free(want);
    tiny_source_fini(&s);
}

/* Arrays lie one after the other, aligned, inside the extent, and of the size the kernels read. */
static void layouts_hold(void) {
    uint64_t seed = t_seed();
    for (int round = 0; round < 500; round++) {
        struct model_hparams h = {.n_layers = (uint32_t)(1 + t_rand(&seed) % 512),
                                  .n_embd = (uint32_t)(32 * (1 + t_rand(&seed) % 2048)),
                                  .n_ff = (uint32_t)(32 * (1 + t_rand(&seed) % 8192)),
                                  .n_heads = (uint32_t)(1 + t_rand(&seed) % 1024),
                                  .n_kv_heads = 1,
                                  .head_dim = 32,
                                  .rope_dim = 32,
                                  .n_vocab = (uint32_t)(1 + t_rand(&seed) % (1 << 20))};
        struct pack_mat_layout mats[MODEL_MAT_COUNT];
        uint32_t unit = (uint32_t)(t_rand(&seed) % 2) * h.n_layers;
        enum pack_part part = t_rand(&seed) % 2 ? PACK_HIGH : PACK_LOW;
        uint64_t n = pack_unit_layout(&h, unit, part, mats);
        uint64_t at = PACK_DIR_BYTES + PACK_DIR_ENTRY_BYTES * (unit ? 1u : 7u);
        for (int m = unit ? MODEL_HEAD : MODEL_Q; m < (unit ? MODEL_MAT_COUNT : MODEL_HEAD); m++) {
            uint64_t tiles = (uint64_t)planes_row_tiles(mats[m].n_out) * (mats[m].n_in / 32);
            if (part == PACK_HIGH) {
                CHECK(mats[m].rows >= at && mats[m].rows % PACK_ARRAY_ALIGN == 0);
                CHECK_EQU(mats[m].rows_bytes, 32u * planes_row_tiles(mats[m].n_out));
                CHECK(mats[m].groups >= mats[m].rows + mats[m].rows_bytes);
                CHECK(mats[m].groups % PACK_ARRAY_ALIGN == 0);
                CHECK_EQU(mats[m].groups_bytes, 16 * tiles);
                at = mats[m].groups + mats[m].groups_bytes;
            } else {
                CHECK(mats[m].rows == 0 && mats[m].groups == 0);
            }
            CHECK(mats[m].codes >= at && mats[m].codes % PACK_ARRAY_ALIGN == 0);
            CHECK_EQU(mats[m].codes_bytes, 128 * tiles);
            at = mats[m].codes + mats[m].codes_bytes;
        }
        CHECK(n >= at && n - at < PACK_ALIGN + PACK_ARRAY_ALIGN && n % PACK_ALIGN == 0);
        CHECK_EQU(n, pack_extent_bytes(&h, part, unit));
    }
}

static uint8_t *aligned_copy(const uint8_t *p, uint64_t n) {
    uint8_t *a = aligned_alloc(64, n);
    REQUIRE(a);
    memcpy(a, p, n);
    return a;
}

static void binds_and_refuses_other_directories(void) {
    struct tiny_opts o = smallest(false);
    struct tiny_source s;
    struct err e = {0};
    tiny_source_init(&s, &o);
    for (uint32_t unit = 0; unit < 2; unit++) {
        struct kern_planes w[MODEL_MAT_COUNT] = {0};
        struct pack_mat_layout hi[MODEL_MAT_COUNT], lo[MODEL_MAT_COUNT];
        uint64_t n_high, n_low;
        uint8_t *a = tiny_pack_extent(&s, PACK_HIGH, unit, 1, &n_high);
        uint8_t *b = tiny_pack_extent(&s, PACK_LOW, unit, 1, &n_low);
        uint8_t *high = aligned_copy(a, n_high), *low = aligned_copy(b, n_low);
        free(a);
        free(b);
        pack_unit_layout(&s.h, unit, PACK_HIGH, hi);
        pack_unit_layout(&s.h, unit, PACK_LOW, lo);
        REQUIRE_OK(pack_bind_unit(&s.h, unit, high, n_high, low, n_low, w, &e), &e);
        int first = unit ? MODEL_HEAD : MODEL_Q, last = unit ? MODEL_HEAD : MODEL_DOWN;
        for (int m = first; m <= last; m++) {
            CHECK(w[m].rows == high + hi[m].rows && w[m].groups == high + hi[m].groups);
            CHECK(w[m].high == high + hi[m].codes && w[m].low == low + lo[m].codes);
            CHECK(w[m].n_out == hi[m].n_out && w[m].n_in == hi[m].n_in);
        }
        REQUIRE_OK(pack_bind_unit(&s.h, unit, high, n_high, NULL, 0, w, &e), &e);
        CHECK(!w[first].low);
        CHECK_EQ(pack_bind_unit(&s.h, unit, high, n_high - 1, low, n_low, w, &e), -EBADMSG);
        CHECK_EQ(pack_bind_unit(&s.h, unit, high, n_high, low, n_low + 1, w, &e), -EBADMSG);
        CHECK_EQ(pack_bind_unit(&s.h, unit, low, n_low, NULL, 0, w, &e), -EBADMSG);
        size_t dir = PACK_DIR_BYTES + PACK_DIR_ENTRY_BYTES * (unit ? 1u : 7u);
        for (size_t i = 0; i < dir; i++) {
            high[i] ^= 1;
            CHECK_EQ(pack_bind_unit(&s.h, unit, high, n_high, low, n_low, w, &e), -EBADMSG);
            high[i] ^= 1;
            low[i] ^= 1;
            CHECK_EQ(pack_bind_unit(&s.h, unit, high, n_high, low, n_low, w, &e), -EBADMSG);
            low[i] ^= 1;
        }
        free(high);
        free(low);
    }
    tiny_source_fini(&s);
}

static void refuses_what_is_no_pack(void) {
    struct tiny_opts o = smallest(false);
    const char *path = path_of("source.gguf");
    REQUIRE(tiny_write(&o, path) == 0);
    refuse_file(path, -EBADMSG, "not an ebb pack");
    refuse_file(t_tmpdir(), -EISDIR, "not a regular file");
    refuse_file(path_of("nothing.ebb"), -ENOENT, "nothing.ebb: cannot open it");
}

static const struct t_case cases[] = {
    {"reads_what_was_written", reads_what_was_written},
    {"reads_the_rung_swsc", reads_the_rung_swsc},
    {"reads_the_gate", reads_the_gate},
    {"every_flipped_byte_is_detected", every_flipped_byte_is_detected},
    {"errors_name_the_place", errors_name_the_place},
    {"every_other_length_is_refused", every_other_length_is_refused},
    {"signed_but_wrong_is_refused", signed_but_wrong_is_refused},
    {"wrong_forms_are_refused", wrong_forms_are_refused},
    {"model_names_are_safe", model_names_are_safe},
    {"embedding_rows", embedding_rows},
    {"layouts_hold", layouts_hold},
    {"binds_and_refuses_other_directories", binds_and_refuses_other_directories},
    {"refuses_what_is_no_pack", refuses_what_is_no_pack},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
