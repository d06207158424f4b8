/* gguf: every check of the reader, on files built for it; and that nothing else is refused. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/err.h"
#include "core/gguf.h"
#include "tests/golden/gguf_build.h"
#include "tests/t.h"

static const float four[4] = {1, -2, 3.5f, 0};
static const uint8_t q8[2 * 34] = {0x00, 0x3c, 1, 2, 3}; /* d = 1 */

static void add_tensors(struct gb *g) {
    gb_tensor(g, "a", GGUF_T_F32, (uint64_t[]){4}, 1, four, sizeof(four));
    gb_tensor(g, "b", GGUF_T_Q8_0, (uint64_t[]){32, 2}, 2, q8, sizeof(q8));
}

/* A file with a value of every type and two tensors. */
static uint8_t *sample(size_t *ret_n) {
    struct gb g = {0};
    const char *strs[] = {"one", "", "three"};
    const int32_t ints[] = {1, -2, 3};
    gb_str(&g, "k.str", "text");
    gb_strs(&g, "k.strs", strs, 3);
    gb_i32s(&g, "k.ints", ints, 3);
    gb_u32(&g, "k.u32", 4000000000u);
    gb_f32(&g, "k.f32", 0.5f);
    gb_bool(&g, "k.bool", 1);
    gb_raw(&g, "k.u8", GGUF_U8, "\xff", 1);
    gb_raw(&g, "k.i8", GGUF_I8, "\xff", 1);
    gb_raw(&g, "k.u16", GGUF_U16, "\xff\xff", 2);
    gb_raw(&g, "k.i16", GGUF_I16, "\xfe\xff", 2);
    gb_raw(&g, "k.i32", GGUF_I32, "\xfd\xff\xff\xff", 4);
    gb_raw(&g, "k.u64", GGUF_U64, "\1\0\0\0\1\0\0\0", 8);
    gb_raw(&g, "k.i64", GGUF_I64, "\2\0\0\0\0\0\0\0", 8);
    gb_raw(&g, "k.f64", GGUF_F64, &(double){0.25}, 8);
    add_tensors(&g);
    return gb_finish(&g, ret_n);
}

/* Takes the file. */
static void refuse(uint8_t *p, size_t n, int code, const char *text) {
    struct gguf *g = NULL;
    struct err e = {0};
    int r = gguf_parse(p, n, n, &g, &e);
    CHECK_EQ(r, code);
    if (r == code && !strstr(e.msg, text))
        t_fail(__FILE__, __LINE__, "'%s' lacks '%s'", e.msg, text);
    if (r == 0) gguf_close(g);
    r = gguf_parse(p, n, n, &g, NULL); /* the message is optional */
    CHECK_EQ(r, code);
    if (r == 0) gguf_close(g);
    free(p);
}

static void refuse_built(struct gb *g, int code, const char *text) {
    size_t n;
    uint8_t *p = gb_finish(g, &n);
    refuse(p, n, code, text);
}

/* Offset of the first byte after `name` in the file. */
static size_t after(const uint8_t *p, size_t n, const char *name) {
    const uint8_t *at = memmem(p, n, name, strlen(name));
    REQUIRE(at);
    return (size_t)(at - p) + strlen(name);
}

static void reads_every_type(void) {
    struct gguf *g;
    struct err e = {0};
    size_t n;
    uint8_t *p = sample(&n);
    REQUIRE_OK(gguf_parse(p, n, n, &g, &e), &e);
    struct gguf_str s, list[3];
    const struct gguf_value *v;
    uint32_t u;
    uint64_t w;
    float f;
    bool b;
    REQUIRE_OK(gguf_get_str(g, "k.str", &s, &e), &e);
    CHECK(s.n == 4 && memcmp(s.p, "text", 4) == 0);
    REQUIRE_OK(gguf_get_array(g, "k.strs", GGUF_STRING, &v, &e), &e);
    gguf_strings(v, list);
    CHECK(v->n == 3 && list[0].n == 3 && list[1].n == 0 && memcmp(list[2].p, "three", 5) == 0);
    REQUIRE_OK(gguf_get_array(g, "k.ints", GGUF_I32, &v, &e), &e);
    CHECK(gguf_elem_f64(v, 1) == -2 && gguf_elem_u64(v, 2) == 3);
    REQUIRE_OK(gguf_get_u32(g, "k.u32", &u, &e), &e);
    CHECK_EQU(u, 4000000000u);
    REQUIRE_OK(gguf_get_u32(g, "k.u8", &u, &e), &e);
    CHECK_EQU(u, 255);
    REQUIRE_OK(gguf_get_u32(g, "k.u16", &u, &e), &e);
    CHECK_EQU(u, 65535);
    REQUIRE_OK(gguf_get_u64(g, "k.u64", &w, &e), &e);
    CHECK_EQU(w, 0x100000001u);
    REQUIRE_OK(gguf_get_u32(g, "k.i64", &u, &e), &e);
    CHECK_EQU(u, 2);
    REQUIRE_OK(gguf_get_f32(g, "k.f32", &f, &e), &e);
    CHECK(f == 0.5f);
    REQUIRE_OK(gguf_get_f32(g, "k.f64", &f, &e), &e);
    CHECK(f == 0.25f);
    REQUIRE_OK(gguf_get_bool(g, "k.bool", &b, &e), &e);
    CHECK(b);
    CHECK_EQU(gguf_n_values(g), 14);
    CHECK_EQU(gguf_n_tensors(g), 2);
    const struct gguf_tensor *t = gguf_find_tensor(g, "b");
    REQUIRE(t);
    CHECK(t->n_dims == 2 && t->dims[0] == 32 && t->dims[1] == 2 && t->dims[2] == 1);
    CHECK_EQU(t->bytes, sizeof(q8));
    CHECK_EQU(t->n_elems, 64);
    CHECK_MEM(p + t->offset, q8, sizeof(q8));
    CHECK(!gguf_find_tensor(g, "c") && !gguf_find(g, "k") && !gguf_find(g, "k.u"));
    CHECK_EQU(gguf_alignment(g), 32);
    CHECK(gguf_header(g) == p && gguf_fd(g) == -1 && gguf_file_bytes(g) == n);
    CHECK_EQ(gguf_read(g, t, 0, list, 1, &e), -EINVAL); /* no file behind it */
    gguf_close(g);
    free(p);
}

static void getters_refuse_other_types(void) {
    struct gguf *g;
    struct err e = {0};
    size_t n;
    uint8_t *p = sample(&n);
    struct gguf_str s;
    const struct gguf_value *v;
    uint32_t u = 7;
    uint64_t w;
    float f;
    bool b;
    REQUIRE_OK(gguf_parse(p, n, n, &g, &e), &e);
    CHECK_EQ(gguf_get_u32(g, "absent", &u, &e), -ENOENT);
    CHECK_EQ(gguf_get_u64(g, "absent", &w, NULL), -ENOENT);
    CHECK_EQ(gguf_get_f32(g, "absent", &f, &e), -ENOENT);
    CHECK_EQ(gguf_get_bool(g, "absent", &b, &e), -ENOENT);
    CHECK_EQ(gguf_get_str(g, "absent", &s, &e), -ENOENT);
    CHECK_EQ(gguf_get_array(g, "absent", GGUF_I32, &v, &e), -ENOENT);
    CHECK_EQ(gguf_get_u32(g, "k.i8", &u, &e), -EBADMSG); /* negative */
    CHECK_EQ(gguf_get_u32(g, "k.i16", &u, &e), -EBADMSG);
    CHECK_EQ(gguf_get_u32(g, "k.i32", &u, &e), -EBADMSG);
    CHECK_EQ(gguf_get_u32(g, "k.u64", &u, &e), -EBADMSG); /* too large */
    CHECK_EQ(gguf_get_u32(g, "k.f32", &u, &e), -EBADMSG);
    CHECK_EQ(gguf_get_u32(g, "k.bool", &u, &e), -EBADMSG);
    CHECK_EQ(gguf_get_u32(g, "k.ints", &u, &e), -EBADMSG);
    CHECK_EQ(gguf_get_f32(g, "k.u32", &f, &e), -EBADMSG);
    CHECK_EQ(gguf_get_bool(g, "k.u8", &b, &e), -EBADMSG);
    CHECK_EQ(gguf_get_str(g, "k.strs", &s, &e), -EBADMSG);
    CHECK_EQ(gguf_get_array(g, "k.strs", GGUF_I32, &v, &e), -EBADMSG);
    CHECK(strstr(e.msg, "array of string, not array of i32"));
    CHECK_EQ(gguf_get_array(g, "k.str", GGUF_STRING, &v, &e), -EBADMSG);
    CHECK_EQU(u, 7); /* untouched by failures */
    gguf_close(g);
    free(p);
}

static void floats_must_be_finite(void) {
    const double bad[] = {(double)INFINITY, (double)NAN, 1e39};
    for (size_t i = 0; i < 3; i++) {
        struct gb b = {0};
        struct gguf *g;
        struct err e = {0};
        size_t n;
        float f;
        gb_raw(&b, "k", GGUF_F64, &bad[i], 8);
        uint8_t *p = gb_finish(&b, &n);
        REQUIRE_OK(gguf_parse(p, n, n, &g, &e), &e);
        CHECK_EQ(gguf_get_f32(g, "k", &f, &e), -EBADMSG);
        gguf_close(g);
        free(p);
    }
}

/* Patches `width` bytes at an offset of the sample and expects a refusal. */
static void refuse_patched(const char *name, size_t skip, uint64_t v, size_t width, int code,
                           const char *text) {
    size_t n;
    uint8_t *p = sample(&n), le[8];
    size_t at = name ? after(p, n, name) + skip : skip;
    bytes_put_u64(le, v);
    REQUIRE(at + width <= n);
    memcpy(p + at, le, width);
    refuse(p, n, code, text);
}

static void refuses_bad_fixed_parts(void) {
    size_t n;
    for (size_t k = 0; k < 24; k++) {
        uint8_t *p = sample(&n);
        refuse(p, k, -EBADMSG, "too short");
    }
    refuse_patched(NULL, 0, 0x12345678, 4, -EBADMSG, "at byte 0: not a GGUF file");
    refuse_patched(NULL, 4, 2, 4, -ENOTSUP, "version 2");
    refuse_patched(NULL, 4, 4, 4, -ENOTSUP, "version 4");
    refuse_patched(NULL, 4, 0x03000000, 4, -ENOTSUP, "big-endian");
    refuse_patched(NULL, 8, UINT64_MAX, 8, -EBADMSG, "tensors, limit");
    refuse_patched(NULL, 8, GGUF_MAX_TENSORS + 1, 8, -EBADMSG, "tensors, limit");
    refuse_patched(NULL, 8, GGUF_MAX_TENSORS, 8, -EBADMSG, "tensors cannot be in a file");
    refuse_patched(NULL, 16, UINT64_MAX, 8, -EBADMSG, "keys, limit");
    refuse_patched(NULL, 16, GGUF_MAX_KEYS + 1, 8, -EBADMSG, "keys, limit");
    refuse_patched(NULL, 16, GGUF_MAX_KEYS, 8, -EBADMSG, "keys cannot be in a file");
}

static void refuses_bad_names(void) {
    char longest[GGUF_MAX_KEY_BYTES + 2];
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    struct gb g = {0};
    gb_u32(&g, longest, 1);
    refuse_built(&g, -EBADMSG, "a key has length 257, limit 256");
    gb_u32(&g, "", 1);
    refuse_built(&g, -EBADMSG, "at byte 32: a key is empty");
    gb_u32(&g, "a key", 1);
    refuse_built(&g, -EBADMSG, "at byte 33: byte 0x20 in a key");
    gb_u32(&g, "k\x80", 1);
    refuse_built(&g, -EBADMSG, "byte 0x80");
    gb_u32(&g, "twice", 1);
    gb_u32(&g, "once", 1);
    gb_f32(&g, "twice", 1);
    refuse_built(&g, -EBADMSG, "key twice is there twice");
    add_tensors(&g);
    gb_tensor(&g, "a", GGUF_T_F32, (uint64_t[]){4}, 1, four, sizeof(four));
    refuse_built(&g, -EBADMSG, "tensor a is there twice");
    longest[65] = '\0';
    gb_tensor(&g, longest, GGUF_T_F32, (uint64_t[]){4}, 1, four, sizeof(four));
    refuse_built(&g, -EBADMSG, "limit 64");
    gb_tensor(&g, "", GGUF_T_F32, (uint64_t[]){4}, 1, four, sizeof(four));
    refuse_built(&g, -EBADMSG, "a tensor's name is empty");
    refuse_patched(NULL, 24, UINT64_MAX, 8, -EBADMSG, "at byte 24: a key has length");
}

static void refuses_bad_values(void) {
    refuse_patched("k.str", 0, 13, 4, -EBADMSG, "a value type is 13");
    refuse_patched("k.str", 4, UINT64_MAX, 8, -EBADMSG, "a string has length");
    refuse_patched("k.str", 4, GGUF_MAX_STRING_BYTES, 8, -EBADMSG, "past the end of the file");
    refuse_patched("k.strs", 4, GGUF_ARRAY, 4, -EBADMSG, "an array of arrays");
    refuse_patched("k.strs", 4, 99, 4, -EBADMSG, "an element type is 99");
    refuse_patched("k.strs", 8, UINT64_MAX, 8, -EBADMSG, "an array of");
    refuse_patched("k.strs", 8, GGUF_MAX_ARRAY, 8, -EBADMSG, "a string has length");
    refuse_patched("k.ints", 8, GGUF_MAX_ARRAY + 1, 8, -EBADMSG, "elements, limit");
    refuse_patched("k.ints", 8, GGUF_MAX_ARRAY, 8, -EBADMSG, "past the end of the file");
    refuse_patched("k.ints", 8, (UINT64_C(1) << 62) + 1, 8, -EBADMSG, "elements, limit");
    refuse_patched("k.bool", 4, 2, 1, -EBADMSG, "a bool is 2");
    struct gb g = {0};
    gb_raw(&g, "bools", GGUF_ARRAY, "\7\0\0\0\3\0\0\0\0\0\0\0\0\1\3", 15);
    refuse_built(&g, -EBADMSG, "a bool is 3");
    size_t n = GGUF_MAX_STRING_BYTES + 1;
    char *big = malloc(n + 1);
    memset(big, 'y', n);
    big[n] = '\0';
    gb_str(&g, "big", big);
    refuse_built(&g, -EBADMSG, "a string has length 1048577, limit 1048576");
    free(big);
}

static void refuses_bad_alignments(void) {
    const uint32_t bad[] = {1, 4, 7, 24, 131072, 0x80000000};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct gb g = {.alignment = bad[i]};
        refuse_built(&g, -EBADMSG, "general.alignment must be");
    }
    struct gb g = {0};
    gb_u32(&g, "general.alignment", 0);
    refuse_built(&g, -EBADMSG, "general.alignment must be");
    gb_raw(&g, "general.alignment", GGUF_U64, "\40\0\0\0\0\0\0\0", 8);
    refuse_built(&g, -EBADMSG, "general.alignment must be");
    gb_str(&g, "general.alignment", "32");
    refuse_built(&g, -EBADMSG, "general.alignment must be");
    struct gb twice = {.alignment = 64};
    gb_u32(&twice, "general.alignment", 32);
    refuse_built(&twice, -EBADMSG, "there twice");
}

/* Offset of a tensor's entry in the sample, after its name. */
static size_t after_name(char name) {
    const uint8_t key[9] = {1, [8] = (uint8_t)name};
    size_t n;
    uint8_t *p = sample(&n);
    const uint8_t *at = memmem(p, n, key, sizeof(key));
    REQUIRE(at);
    size_t r = (size_t)(at - p) + sizeof(key);
    free(p);
    return r;
}

/* In the table: name "b" (1 byte), u32 n_dims, 2 x u64, u32 type, u64 offset. */
static void refuses_bad_tensors(void) {
    enum { B_DIMS = 0, B_DIM0 = 4, B_TYPE = 20, B_OFFSET = 24 };
    size_t table = after_name('b'), table_a = after_name('a');
    refuse_patched(NULL, table_a + B_DIM0, UINT64_C(1) << 62, 8, -EBADMSG, "too many bytes");
    refuse_patched(NULL, table + B_DIMS, 0, 4, -EBADMSG, "a tensor of 0 dimensions");
    refuse_patched(NULL, table + B_DIMS, 5, 4, -EBADMSG, "a tensor of 5 dimensions");
    refuse_patched(NULL, table + B_DIM0, 0, 8, -EBADMSG, "dimension is 0");
    refuse_patched(NULL, table + B_DIM0, 33, 8, -EBADMSG, "not a multiple of the 32 of a Q8_0");
    refuse_patched(NULL, table + B_DIM0, UINT64_C(1) << 63, 8, -EBADMSG, "too many elements");
    refuse_patched(NULL, table + B_DIM0, UINT64_C(1) << 62, 8, -EBADMSG, "too many elements");
    refuse_patched(NULL, table + B_DIM0, UINT64_C(1) << 61, 8, -EBADMSG, "past the end");
    refuse_patched(NULL, table + B_TYPE, 10, 4, -ENOTSUP, "tensor b has type Q2_K (10)");
    refuse_patched(NULL, table + B_TYPE, 4, 4, -ENOTSUP, "type unknown (4)");
    refuse_patched(NULL, table + B_TYPE, UINT32_MAX, 4, -ENOTSUP, "type unknown (4294967295)");
    refuse_patched(NULL, table + B_OFFSET, 33, 8, -EBADMSG, "not a multiple of the alignment 32");
    refuse_patched(NULL, table + B_OFFSET, 64, 8, -EBADMSG, "past the end of the file");
    refuse_patched(NULL, table + B_OFFSET, UINT64_MAX - 31, 8, -EBADMSG, "past the end");
    refuse_patched(NULL, table + B_OFFSET, 0, 8, -EBADMSG, "overlap at byte");
}

static void refuses_every_truncation(void) {
    size_t n;
    uint8_t *p = sample(&n);
    for (size_t k = 0; k < n; k++) {
        /* A copy of its own, so that ASan sees a read past the end. */
        uint8_t *copy = malloc(k + 1);
        memcpy(copy, p, k);
        copy = realloc(copy, k ? k : 1);
        refuse(copy, k, -EBADMSG, "");
    }
    free(p);
}

/* Any result will do; sanitizers watch. Single changes first, then several at once. */
static void survives_changed_bytes(void) {
    size_t n;
    uint8_t *p = sample(&n), *copy = malloc(n);
    uint64_t seed = t_seed();
    for (size_t i = 0; i < n + 20000; i++) {
        struct gguf *g;
        memcpy(copy, p, n);
        if (i < n)
            copy[i] ^= (uint8_t)(1 + t_rand(&seed) % 255);
        else
            for (int k = 0; k < 4; k++) copy[t_rand(&seed) % n] = (uint8_t)t_rand(&seed);
        if (gguf_parse(copy, n, n, &g, NULL) == 0) gguf_close(g);
    }
    free(copy);
    free(p);
}

static const char *put_file(const char *name, const void *data, size_t n) {
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", t_tmpdir(), name);
    FILE *f = fopen(path, "wb");
    REQUIRE(f && fwrite(data, 1, n, f) == n && fclose(f) == 0);
    return path;
}

static void opens_only_regular_files(void) {
    struct gguf *g;
    struct err e = {0};
    char path[512];
    CHECK_EQ(gguf_open(t_tmpdir(), &g, &e), -EISDIR);
    CHECK_EQ(gguf_open("/dev/null", &g, &e), -EINVAL);
    snprintf(path, sizeof(path), "%s/fifo", t_tmpdir());
    REQUIRE(mkfifo(path, 0600) == 0);
    CHECK_EQ(gguf_open(path, &g, &e), -EINVAL); /* and does not hang */
    snprintf(path, sizeof(path), "%s/missing", t_tmpdir());
    CHECK_EQ(gguf_open(path, &g, &e), -ENOENT);
    CHECK(strstr(e.msg, "missing: cannot open it: No such file"));
    CHECK_EQ(gguf_open(put_file("empty", "", 0), &g, &e), -EBADMSG);
    CHECK_EQ(gguf_open(put_file("magic", "GGUF", 4), &g, &e), -EBADMSG);
    CHECK_EQ(gguf_open(path, &g, NULL), -ENOENT);
}

/* A header longer than the first read: the buffer moves while entries point into it. */
static void reads_long_headers(void) {
    enum { N = 30000 };
    struct gb b = {.alignment = 16384};
    struct gguf *g;
    struct err e = {0};
    size_t n;
    const char **strs = malloc(N * sizeof(*strs));
    for (int i = 0; i < N; i++) strs[i] = i % 2 ? "odd" : "even";
    gb_str(&b, "first", "1");
    gb_strs(&b, "strs", strs, N);
    gb_str(&b, "last", "2");
    add_tensors(&b);
    uint8_t *p = gb_finish(&b, &n);
    const char *path = put_file("long.gguf", p, n);
    REQUIRE_OK(gguf_open(path, &g, &e), &e);
    const struct gguf_value *v;
    struct gguf_str s, *list = malloc(N * sizeof(*list));
    REQUIRE_OK(gguf_get_array(g, "strs", GGUF_STRING, &v, &e), &e);
    gguf_strings(v, list);
    CHECK(list[N - 1].n == 3 && memcmp(list[N - 1].p, "odd", 3) == 0);
    REQUIRE_OK(gguf_get_str(g, "first", &s, &e), &e);
    CHECK(s.n == 1 && *s.p == '1');
    CHECK_MEM(gguf_header(g), p, gguf_data_offset(g));
    const struct gguf_tensor *t = gguf_find_tensor(g, "a");
    float got[4];
    REQUIRE_OK(gguf_read(g, t, 0, got, sizeof(got), &e), &e);
    CHECK_MEM(got, four, sizeof(four));
    REQUIRE_OK(gguf_read(g, t, 4, got, 4, &e), &e);
    CHECK(got[0] == four[1]);
    CHECK_EQ(gguf_read(g, t, 17, got, 0, &e), -EINVAL);
    CHECK_EQ(gguf_read(g, t, 13, got, 4, &e), -EINVAL);
    CHECK_EQ(gguf_read(g, t, UINT64_MAX, got, 4, &e), -EINVAL);
    REQUIRE(truncate(path, (off_t)t->offset + 8) == 0);
    CHECK_EQ(gguf_read(g, t, 0, got, 16, &e), -EBADMSG);
    CHECK(strstr(e.msg, "tensor a: at byte") && strstr(e.msg, "got shorter"));
    gguf_close(g);
    free(strs);
    free(list);
    free(p);
}

static void takes_files_without_tensors(void) {
    struct gb b = {0};
    struct gguf *g;
    struct err e = {0};
    size_t n;
    gb_u32(&b, "k", 1);
    uint8_t *p = gb_finish(&b, &n);
    REQUIRE_OK(gguf_parse(p, n, n, &g, &e), &e);
    CHECK_EQU(gguf_n_tensors(g), 0);
    gguf_close(g);
    CHECK_EQ(gguf_parse(p, n, n - 1, &g, &e), -EINVAL);
    /* A header that goes on beyond the bytes given, in a file that would hold it. */
    CHECK_EQ(gguf_parse(p, n - 1, n + 100, &g, &e), -EBADMSG);
    CHECK(strstr(e.msg, "past the bytes given"));
    free(p);
    gguf_close(NULL);
}

static void names_types(void) {
    CHECK_STR(gguf_type_name(GGUF_T_Q8_0), "Q8_0");
    CHECK_STR(gguf_type_name(GGUF_T_BF16), "BF16");
    CHECK(!gguf_type_name(10) && !gguf_type_name(4) && !gguf_type_name(1000));
}

static void opens_the_real_files(void) {
    static const char *const files[] = {"models/smollm2-135m-offgrid-q8_0.gguf",
                                        "tokenizers/ggml-vocab-gpt-2.gguf",
                                        "tokenizers/ggml-vocab-llama-spm.gguf"};
    for (size_t i = 0; i < 3; i++) {
        struct gguf *g;
        struct err e = {0};
        REQUIRE_OK(gguf_open(t_shared(files[i]), &g, &e), &e);
        CHECK(gguf_find(g, "tokenizer.ggml.tokens"));
        gguf_close(g);
    }
}

static const struct t_case cases[] = {
    {"reads_every_type", reads_every_type},
    {"getters_refuse_other_types", getters_refuse_other_types},
    {"floats_must_be_finite", floats_must_be_finite},
    {"refuses_bad_fixed_parts", refuses_bad_fixed_parts},
    {"refuses_bad_names", refuses_bad_names},
    {"refuses_bad_values", refuses_bad_values},
    {"refuses_bad_alignments", refuses_bad_alignments},
    {"refuses_bad_tensors", refuses_bad_tensors},
    {"refuses_every_truncation", refuses_every_truncation},
    {"survives_changed_bytes", survives_changed_bytes},
    {"opens_only_regular_files", opens_only_regular_files},
    {"reads_long_headers", reads_long_headers},
    {"takes_files_without_tensors", takes_files_without_tensors},
    {"names_types", names_types},
    {"opens_the_real_files", opens_the_real_files},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
