/* pack_write and pack_temp: whole or not at all, one writer a name, the same bytes for the same
 * calls, and every misuse refused before it reaches the file. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/pack_temp.h"
#include "core/pack_write.h"
#include "tests/golden/tiny_pack.h"
#include "tests/t.h"

/* A folder of its own for each test. */
static const char *folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", t_tmpdir(), name);
    REQUIRE(mkdir(path, 0700) == 0);
    return path;
}

static const char *in(const char *dir, const char *name) {
    static char path[4][768];
    static unsigned turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
    return p;
}

static unsigned n_files(const char *dir) {
    DIR *d = opendir(dir);
    unsigned n = 0;
    REQUIRE(d);
    for (struct dirent *x; (x = readdir(d));) n += x->d_name[0] != '.';
    closedir(d);
    return n;
}

static uint8_t *slurp(const char *path, size_t *ret_n) {
    FILE *f = fopen(path, "rb");
    REQUIRE(f && fseek(f, 0, SEEK_END) == 0);
    size_t n = (size_t)ftell(f);
    uint8_t *p = malloc(n + 1);
    rewind(f);
    REQUIRE(p && fread(p, 1, n, f) == n);
    fclose(f);
    *ret_n = n;
    return p;
}

static void put_text(const char *path, const char *s) {
    FILE *f = fopen(path, "wb");
    REQUIRE(f && fwrite(s, 1, strlen(s), f) == strlen(s) && fclose(f) == 0);
}

static void put_extent(struct pack_writer *w, const struct tiny_source *s, enum pack_part part,
                       uint32_t unit) {
    struct err e = {0};
    uint64_t n;
    uint8_t *p = tiny_pack_extent(s, part, unit, 1, &n);
    REQUIRE_OK(pack_writer_extent(w, part, unit, p, n, &e), &e);
    free(p);
}

static void same_calls_give_the_same_bytes(void) {
    const char *dir = folder("same");
    struct tiny_opts o = tiny_defaults();
    struct tiny_source s;
    struct pack_writer *w;
    struct err e = {0};
    size_t n, n2;
    o.is_untied = true;
    const char *a = in(dir, "a.ebb"), *b = in(dir, "b.ebb");
    REQUIRE_OK(tiny_pack_write(&o, a, &e), &e);
    CHECK_EQU(n_files(dir), 1);
    /* Another order of the extents is the same pack. */
    tiny_source_init(&s, &o);
    REQUIRE_OK(pack_writer_create(b, s.g, &s.h, &w, &e), &e);
    for (uint32_t u = model_n_units(&s.h); u-- > 0;) {
        put_extent(w, &s, PACK_LOW, u);
        put_extent(w, &s, PACK_HIGH, u);
    }
    put_extent(w, &s, PACK_EMBD, 0);
    put_extent(w, &s, PACK_CORE, 0);
    CHECK(access(b, F_OK) < 0); /* nothing under the name before the end */
    REQUIRE_OK(tiny_pack_finish(w, &s, &e), &e);
    pack_writer_destroy(w);
    CHECK_EQU(n_files(dir), 2);
    uint8_t *p = slurp(a, &n), *q = slurp(b, &n2);
    CHECK_EQU(n, n2);
    if (n == n2) CHECK_MEM(p, q, n);
    free(p);
    free(q);
    tiny_source_fini(&s);
}

/* A look at what is written, before its scores are known, leaves no trace in the pack. */
static void a_preview_changes_nothing(void) {
    const char *dir = folder("preview");
    struct tiny_opts o = tiny_defaults();
    struct tiny_source s;
    struct pack_writer *w;
    struct err e = {0};
    size_t n, n2;
    struct pack *p = NULL;
    struct pack_score_in no_such = {.key = "wrong", .v = NULL};
    struct pack_meta meta = {
        .source_sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        .source_name = "tiny.gguf",
        .calibration = "none",
        .scores = &no_such, /* it takes neither these nor ladders */
        .n_scores = 1};
    const char *a = in(dir, "a.ebb"), *b = in(dir, "b.ebb");
    REQUIRE_OK(tiny_pack_write(&o, a, &e), &e);
    tiny_source_init(&s, &o);
    REQUIRE_OK(pack_writer_create(b, s.g, &s.h, &w, &e), &e);
    CHECK_EQ(pack_writer_preview(w, &meta, &p, &e), -EINVAL);
    CHECK(strstr(e.msg, "was not written") && !p);
    REQUIRE_OK(tiny_pack_extents(w, &s, 1, &e), &e);
    for (int round = 0; round < 2; round++) {
        REQUIRE_OK(pack_writer_preview(w, &meta, &p, &e), &e);
        CHECK_EQU(pack_n_ladders(p), 0);
        CHECK(isnan(pack_score(p, "ebb.importance.jaccard", 0)));
        for (size_t i = 0; i < pack_n_extents(p); i++) {
            const struct pack_extent *x = pack_extent_at(p, i);
            void *data = malloc(x->bytes);
            REQUIRE_OK(pack_read_extent(p, x, data, &e), &e);
            free(data);
        }
        pack_close(p);
    }
    CHECK(access(b, F_OK) < 0);
    REQUIRE_OK(tiny_pack_finish(w, &s, &e), &e);
    CHECK_EQ(pack_writer_preview(w, &meta, &p, &e), -EINVAL);
    pack_writer_destroy(w);
    uint8_t *x = slurp(a, &n), *y = slurp(b, &n2);
    CHECK_EQU(n, n2);
    if (n == n2) CHECK_MEM(x, y, n);
    free(x);
    free(y);
    tiny_source_fini(&s);
}

static void misuse_is_refused(void) {
    const char *dir = folder("misuse");
    struct tiny_opts o = tiny_defaults();
    struct tiny_source s;
    struct pack_writer *w;
    struct err e = {0};
    uint64_t n;
    tiny_source_init(&s, &o);
    REQUIRE_OK(pack_writer_create(in(dir, "x.ebb"), s.g, &s.h, &w, &e), &e);
    uint8_t *p = tiny_pack_extent(&s, PACK_HIGH, 1, 1, &n);
    CHECK_EQ(pack_writer_extent(w, PACK_EMBD, 0, p, n, &e), -EINVAL); /* tied: there is none */
    CHECK_EQ(pack_writer_extent(w, PACK_HIGH, 4, p, n, &e), -EINVAL);
    CHECK_EQ(pack_writer_extent(w, PACK_HIGH, 1, p, n - 1, &e), -EINVAL);
    CHECK_EQ(pack_writer_extent(w, PACK_CORE, 0, p, n, &e), -EINVAL);
    p[9] ^= 1;
    CHECK_EQ(pack_writer_extent(w, PACK_HIGH, 1, p, n, &e), -EINVAL);
    CHECK_STR(e.msg, "unit.001.high: does not begin with its directory");
    p[9] ^= 1;
    REQUIRE_OK(pack_writer_extent(w, PACK_HIGH, 1, p, n, &e), &e);
    CHECK_EQ(pack_writer_extent(w, PACK_HIGH, 1, p, n, &e), -EINVAL);
    CHECK_STR(e.msg, "unit.001.high: written twice");
    CHECK_EQ(tiny_pack_finish(w, &s, &e), -EINVAL);
    CHECK_STR(e.msg, "extent core was not written");
    CHECK_EQ(tiny_pack_finish(w, &s, &e), -EINVAL); /* used up */
    CHECK_EQ(pack_writer_extent(w, PACK_HIGH, 0, p, n, &e), -EINVAL);
    pack_writer_destroy(w);
    CHECK_EQU(n_files(dir), 0);
    free(p);
    tiny_source_fini(&s);
    pack_writer_destroy(NULL);
}

/* Once the planes are written, and before anything is: the same pack. */
static void the_rung_swsc_is_said_late_or_early(void) {
    const char *dir = folder("swsc"), *a = in(dir, "a.ebb"), *b = in(dir, "b.ebb");
    struct tiny_opts o = tiny_defaults();
    struct tiny_source s;
    struct pack_writer *w;
    struct err e = {0};
    size_t n, n2;
    o.n_embd = 320; /* extents of several blocks, and moves that overlap */
    tiny_source_init(&s, &o);
    tiny_source_swsc(&s, 1);
    REQUIRE_OK(tiny_pack_write_swsc(&o, 1, a, &e), &e);
    REQUIRE_OK(pack_writer_create(b, s.g, &s.h, &w, &e), &e);
    for (uint32_t u = 0; u < model_n_units(&s.h); u++) {
        put_extent(w, &s, PACK_HIGH, u);
        if (u != 1) put_extent(w, &s, PACK_LOW, u);
    }
    put_extent(w, &s, PACK_CORE, 0);
    uint64_t sum = pack_writer_xxh3(w, PACK_HIGH, 2);
    struct swsc_form bad[MODEL_LAYER_MATS];
    memcpy(bad, s.forms, sizeof(bad));
    bad[3].rank = 31;
    CHECK_EQ(pack_writer_swsc(w, bad, &e), -EBADMSG);
    REQUIRE_OK(pack_writer_swsc(w, s.forms, &e), &e);
    CHECK_EQ(pack_writer_swsc(w, s.forms, &e), -EINVAL);
    CHECK_EQU(pack_writer_xxh3(w, PACK_HIGH, 2), sum);
    put_extent(w, &s, PACK_LOW, 1);
    for (uint32_t u = s.h.n_layers; u-- > 0;) put_extent(w, &s, PACK_SWSC, u);
    put_extent(w, &s, PACK_BOOKS, 0);
    REQUIRE_OK(tiny_pack_finish(w, &s, &e), &e);
    pack_writer_destroy(w);
    uint8_t *p = slurp(a, &n), *q = slurp(b, &n2);
    CHECK_EQU(n, n2);
    if (n == n2) CHECK_MEM(p, q, n);
    free(p);
    free(q);
    tiny_source_fini(&s);
}

static void what_swsc_lacks_is_refused(void) {
    const char *dir = folder("lacks");
    struct tiny_opts o = tiny_defaults();
    struct tiny_source s;
    struct pack_writer *w;
    struct err e = {0};
    uint64_t n;
    tiny_source_init(&s, &o);
    tiny_source_swsc(&s, 0);
    uint8_t *p = tiny_pack_extent(&s, PACK_SWSC, 1, 1, &n);
    REQUIRE_OK(pack_writer_create(in(dir, "x.ebb"), s.g, &s.h, &w, &e), &e);
    CHECK_EQ(pack_writer_extent(w, PACK_SWSC, 1, p, n, &e), -EINVAL); /* not said yet */
    REQUIRE_OK(pack_writer_swsc(w, s.forms, &e), &e);
    CHECK_EQ(pack_writer_extent(w, PACK_SWSC, 3, p, n, &e), -EINVAL); /* the head */
    CHECK_EQ(pack_writer_extent(w, PACK_SWSC, 1, p, n - 1, &e), -EINVAL);
    struct swsc_layout at[MODEL_LAYER_MATS];
    swsc_unit_layout(&s.h, s.forms, at);
    p[at[MODEL_V].labels] = 255; /* of 17 channels */
    CHECK_EQ(pack_writer_extent(w, PACK_SWSC, 1, p, n, &e), -EBADMSG);
    CHECK_STR(e.msg, "unit.001.swsc: attn_v: row 0 names channel 255 of 17");
    p[at[MODEL_V].labels] = 16;
    p[9]++;
    CHECK_EQ(pack_writer_extent(w, PACK_SWSC, 1, p, n, &e), -EBADMSG);
    p[9]--;
    REQUIRE_OK(pack_writer_extent(w, PACK_SWSC, 1, p, n, &e), &e);
    put_extent(w, &s, PACK_CORE, 0);
    for (uint32_t u = 0; u < model_n_units(&s.h); u++) {
        put_extent(w, &s, PACK_HIGH, u);
        put_extent(w, &s, PACK_LOW, u);
    }
    CHECK_EQ(tiny_pack_finish(w, &s, &e), -EINVAL);
    CHECK_STR(e.msg, "extent books was not written");
    pack_writer_destroy(w);
    free(p);
    tiny_source_fini(&s);
}

/* A writer dies, before or after it said that there is the rung swsc; the next one goes on. */
static void resumes_with_the_rung_swsc(void) {
    const char *dir = folder("again"), *path = in(dir, "x.ebb");
    struct tiny_opts o = tiny_defaults();
    struct tiny_source s;
    struct err e = {0};
    size_t n, n2;
    tiny_source_init(&s, &o);
    tiny_source_swsc(&s, 3);
    REQUIRE_OK(tiny_pack_write_swsc(&o, 3, in(dir, "y.ebb"), &e), &e);
    for (int is_late = 0; is_late < 2; is_late++) {
        struct pack_writer *w;
        int pipes[2];
        uint64_t sums[4];
        REQUIRE(pipe(pipes) == 0);
        pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            if (pack_writer_create(path, s.g, &s.h, &w, NULL) < 0) _exit(1);
            if (is_late && pack_writer_swsc(w, s.forms, NULL) < 0) _exit(2);
            put_extent(w, &s, PACK_HIGH, 0);
            put_extent(w, &s, PACK_HIGH, 1);
            put_extent(w, &s, PACK_LOW, 1);
            if (is_late) put_extent(w, &s, PACK_SWSC, 1);
            sums[0] = pack_writer_xxh3(w, PACK_HIGH, 0);
            sums[1] = pack_writer_xxh3(w, PACK_HIGH, 1);
            sums[2] = pack_writer_xxh3(w, PACK_LOW, 1);
            sums[3] = is_late ? pack_writer_xxh3(w, PACK_SWSC, 1) : 0;
            _exit(write(pipes[1], sums, sizeof(sums)) == sizeof(sums) ? 0 : 3);
        }
        int status;
        REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
        REQUIRE(read(pipes[0], sums, sizeof(sums)) == sizeof(sums));
        close(pipes[0]);
        close(pipes[1]);
        REQUIRE_OK(pack_writer_resume(path, s.g, &s.h, &w, &e), &e);
        if (is_late) REQUIRE_OK(pack_writer_swsc(w, s.forms, &e), &e);
        REQUIRE_OK(pack_writer_keep(w, PACK_HIGH, 0, sums[0], &e), &e);
        REQUIRE_OK(pack_writer_keep(w, PACK_HIGH, 1, sums[1], &e), &e);
        CHECK_EQ(pack_writer_keep(w, PACK_LOW, 1, sums[2] + 1, &e), -EBADMSG);
        REQUIRE_OK(pack_writer_keep(w, PACK_LOW, 1, sums[2], &e), &e);
        if (is_late) REQUIRE_OK(pack_writer_keep(w, PACK_SWSC, 1, sums[3], &e), &e);
        if (!is_late) REQUIRE_OK(pack_writer_swsc(w, s.forms, &e), &e);
        put_extent(w, &s, PACK_CORE, 0);
        put_extent(w, &s, PACK_BOOKS, 0);
        for (uint32_t u = 0; u < model_n_units(&s.h); u++) {
            if (u > 1) put_extent(w, &s, PACK_HIGH, u);
            if (u != 1) put_extent(w, &s, PACK_LOW, u);
            if (u < s.h.n_layers && !(is_late && u == 1)) put_extent(w, &s, PACK_SWSC, u);
        }
        REQUIRE_OK(tiny_pack_finish(w, &s, &e), &e);
        pack_writer_destroy(w);
        uint8_t *p = slurp(path, &n), *q = slurp(in(dir, "y.ebb"), &n2);
        CHECK_EQU(n, n2);
        if (n == n2) CHECK_MEM(p, q, n);
        free(p);
        free(q);
        unlink(path);
    }
    tiny_source_fini(&s);
}

static const char sha[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/* Finishes a pack with this header; the code and part of the message. */
static void finish_with(const char *dir, struct pack_meta meta, int code, const char *text) {
    struct tiny_opts o = tiny_defaults();
    struct tiny_source s;
    struct pack_writer *w;
    struct err e = {0};
    if (!meta.source_sha256) meta.source_sha256 = sha;
    if (!meta.source_name) meta.source_name = "x.gguf";
    if (!meta.calibration) meta.calibration = "none";
    tiny_source_init(&s, &o);
    REQUIRE_OK(pack_writer_create(in(dir, "m.ebb"), s.g, &s.h, &w, &e), &e);
    REQUIRE_OK(tiny_pack_extents(w, &s, 1, &e), &e);
    int r = pack_writer_finish(w, &meta, &e);
    CHECK_EQ(r, code);
    if (code && !strstr(e.msg, text)) t_fail(__FILE__, __LINE__, "'%s' lacks '%s'", e.msg, text);
    pack_writer_destroy(w);
    CHECK_EQU(n_files(dir), code ? 0 : 1);
    unlink(in(dir, "m.ebb"));
    tiny_source_fini(&s);
}

static void bad_headers_are_refused(void) {
    const char *dir = folder("meta");
    static const float scores[4];
    char text[4098];
    memset(text, 'x', sizeof(text));
    text[4097] = '\0';
    finish_with(dir, (struct pack_meta){.source_sha256 = "12"}, -EINVAL, "64 hex digits");
    finish_with(dir, (struct pack_meta){.calibration = "two\nlines"}, -EINVAL, "one line");
    finish_with(dir, (struct pack_meta){.source_name = text}, -EINVAL, "longer than 4096");
    struct pack_score_in bad = {.key = "importance", .v = scores};
    finish_with(dir, (struct pack_meta){.scores = &bad, .n_scores = 1}, -EINVAL, "begin with ebb.");
    struct pack_score_in twice[2] = {{"ebb.importance.x", scores}, {"ebb.importance.x", scores}};
    finish_with(dir, (struct pack_meta){.scores = twice, .n_scores = 2}, -EBADMSG,
                "the new pack does not read back");
    struct ladder_step step = {.unit = 0, .from = RUNG_FULL, .to = RUNG_HIGH, .bytes = 1};
    struct pack_ladder_in ladder = {.name = "x", .steps = &step, .n_steps = 1};
    finish_with(dir, (struct pack_meta){.ladders = &ladder, .n_ladders = 1}, -EBADMSG,
                "bytes, its extents have");
    ladder.name = "a name";
    ladder.n_steps = 0;
    finish_with(dir, (struct pack_meta){.ladders = &ladder, .n_ladders = 1}, -EBADMSG, "");
}

/* What the header is planned for must fit, and more must be refused, not cut. */
static void header_room_is_as_planned(void) {
    const char *dir = folder("room");
    enum { MANY = 600 };
    static const float v[4];
    static char keys[MANY][64];
    static struct pack_score_in scores[MANY];
    char text[4097];
    memset(text, 'x', sizeof(text));
    text[4096] = '\0';
    for (int i = 0; i < MANY; i++) {
        snprintf(keys[i], sizeof(keys[i]), "ebb.distortion.rung.of.some.length.%03d", i);
        scores[i] = (struct pack_score_in){.key = keys[i], .v = v};
    }
    struct ladder_step steps[4];
    struct tiny_opts o = tiny_defaults();
    struct tiny_source s;
    tiny_source_init(&s, &o);
    for (uint32_t u = 0; u < 4; u++)
        steps[u] = (struct ladder_step){.unit = u,
                                        .from = RUNG_FULL,
                                        .to = RUNG_HIGH,
                                        .bytes = pack_extent_bytes(&s.h, PACK_LOW, u)};
    tiny_source_fini(&s);
    struct pack_ladder_in l[6];
    static const char *const names[] = {"jaccard", "lsaq", "kl", "oracle", "random", "reverse"};
    for (int i = 0; i < 6; i++)
        l[i] = (struct pack_ladder_in){.name = names[i], .steps = steps, .n_steps = 4};
    struct pack_meta m = {.source_name = text,
                          .calibration = text,
                          .scores = scores,
                          .n_scores = 24,
                          .ladders = l,
                          .n_ladders = 6};
    finish_with(dir, m, 0, "");
    m.n_scores = MANY;
    finish_with(dir, m, -ENOSPC, "scores and ladders need");
}

static void second_writer_is_refused(void) {
    const char *dir = folder("busy"), *path = in(dir, "x.ebb");
    struct tiny_opts o = tiny_defaults();
    struct tiny_source s;
    struct pack_writer *w, *w2;
    struct err e = {0};
    tiny_source_init(&s, &o);
    REQUIRE_OK(pack_writer_create(path, s.g, &s.h, &w, &e), &e);
    CHECK_EQ(pack_writer_create(path, s.g, &s.h, &w2, &e), -EBUSY);
    CHECK(strstr(e.msg, "x.ebb: another writer is at work on it"));
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) _exit(pack_writer_create(path, s.g, &s.h, &w2, NULL) == -EBUSY ? 0 : 1);
    int status;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    /* Another name in the same folder is another matter. */
    REQUIRE_OK(pack_writer_create(in(dir, "x.ebb2"), s.g, &s.h, &w2, &e), &e);
    pack_writer_destroy(w2);
    pack_writer_destroy(w);
    REQUIRE_OK(pack_writer_create(path, s.g, &s.h, &w, &e), &e);
    pack_writer_destroy(w);
    CHECK_EQU(n_files(dir), 0);
    tiny_source_fini(&s);
}

/* Two processes start at once, N times: exactly one gets the name. */
static void of_two_that_race_one_wins(void) {
    const char *dir = folder("race"), *path = in(dir, "x.ebb");
    for (int round = 0; round < 50; round++) {
        int go[2], done[2], n_won = 0;
        pid_t pid[2];
        REQUIRE(pipe(go) == 0 && pipe(done) == 0);
        for (int k = 0; k < 2; k++) {
            pid[k] = fork();
            REQUIRE(pid[k] >= 0);
            if (pid[k] != 0) continue;
            struct pack_temp *t = NULL;
            char c;
            close(go[1]);
            ignore_result((int)read(go[0], &c, 1)); /* the end of the pipe is the start signal */
            int r = pack_temp_create(path, &t, NULL);
            c = r == 0 ? 'w' : r == -EBUSY ? 'b' : '?';
            if (write(done[1], &c, 1) != 1) _exit(1);
            /* A winner keeps the name until both have answered and the parent ends it. */
            pause();
            _exit(0);
        }
        close(go[0]);
        close(go[1]);
        char c[2] = {0};
        for (int k = 0; k < 2; k++) REQUIRE(read(done[0], &c[k], 1) == 1);
        for (int k = 0; k < 2; k++) n_won += c[k] == 'w';
        CHECK_EQ(n_won, 1);
        CHECK_EQ(c[0] == 'b' || c[1] == 'b', 1);
        for (int k = 0; k < 2; k++) {
            kill(pid[k], SIGKILL);
            waitpid(pid[k], NULL, 0);
        }
        close(done[0]);
        close(done[1]);
    }
}

static void killed_writer_leaves_nothing(void) {
    const char *dir = folder("killed"), *path = in(dir, "x.ebb");
    struct tiny_opts o = tiny_defaults();
    struct tiny_source s;
    struct err e = {0};
    size_t n, n2;
    tiny_source_init(&s, &o);
    put_text(in(dir, "x.ebb.tmp.notes"), "not ours");
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        struct pack_writer *w;
        if (pack_writer_create(path, s.g, &s.h, &w, NULL) < 0) _exit(1);
        if (tiny_pack_extents(w, &s, 1, NULL) < 0) _exit(2);
        _exit(0); /* as a crash would: nothing is cleaned up */
    }
    int status;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    REQUIRE(status == 0);
    CHECK(access(path, F_OK) < 0);
    CHECK_EQU(n_files(dir), 2);
    REQUIRE_OK(tiny_pack_write(&o, path, &e), &e);
    CHECK_EQU(n_files(dir), 2); /* the pack, and the file that only looks like a temporary one */
    REQUIRE_OK(tiny_pack_write(&o, in(dir, "y.ebb"), &e), &e);
    uint8_t *p = slurp(path, &n), *q = slurp(in(dir, "y.ebb"), &n2);
    CHECK(n == n2 && memcmp(p, q, n) == 0);
    free(p);
    free(q);
    tiny_source_fini(&s);
}

/* A limit on file size stands for a full disk: at every length it may strike, the old pack stays.
 */
static void failed_writes_keep_the_old_pack(void) {
    const char *dir = folder("full"), *path = in(dir, "x.ebb");
    struct tiny_opts o = tiny_defaults();
    struct err e = {0};
    struct rlimit old, cut;
    size_t n, n2;
    uint64_t seed = t_seed();
    REQUIRE_OK(tiny_pack_write(&o, path, &e), &e);
    uint8_t *before = slurp(path, &n);
    signal(SIGXFSZ, SIG_IGN);
    REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
    for (int i = 0; i < 30; i++) {
        cut = old;
        cut.rlim_cur = i == 0 ? 0 : i == 1 ? n - 1 : t_rand(&seed) % n;
        REQUIRE(setrlimit(RLIMIT_FSIZE, &cut) == 0);
        int r = tiny_pack_write(&o, path, &e);
        REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
        CHECK_EQ(r, -EFBIG);
        CHECK(strstr(e.msg, "cannot write at byte"));
        CHECK_EQU(n_files(dir), 1);
    }
    uint8_t *after = slurp(path, &n2);
    CHECK(n == n2 && memcmp(before, after, n) == 0);
    REQUIRE_OK(tiny_pack_write(&o, path, &e), &e);
    free(before);
    free(after);
}

static void bad_names_are_refused(void) {
    const char *dir = folder("names");
    struct pack_temp *t;
    struct err e = {0};
    CHECK_EQ(pack_temp_create(dir, &t, &e), -EINVAL);
    CHECK(strstr(e.msg, "not a regular file"));
    CHECK_EQ(pack_temp_create("/dev/null", &t, &e), -EINVAL);
    CHECK_EQ(pack_temp_create(in(dir, ""), &t, &e), -EINVAL);
    CHECK_EQ(pack_temp_create("", &t, &e), -EINVAL);
    CHECK_EQ(pack_temp_create(in(dir, "none/x.ebb"), &t, &e), -ENOENT);
    CHECK(strstr(e.msg, "cannot open its folder"));
    char longest[256];
    memset(longest, 'n', sizeof(longest));
    longest[255] = '\0'; /* fits a name, but not with .tmp.PID behind it */
    CHECK_EQ(pack_temp_create(in(dir, longest), &t, &e), -ENAMETOOLONG);
    REQUIRE_OK(pack_temp_create(in(dir, "ok"), &t, &e), &e);
    CHECK_EQ(pack_temp_write(t, UINT64_MAX, "x", 1, &e), -EINVAL);
    pack_temp_destroy(t);
    CHECK_EQU(n_files(dir), 0);
    pack_temp_destroy(NULL);
}

static const struct t_case cases[] = {
    {"same_calls_give_the_same_bytes", same_calls_give_the_same_bytes},
    {"a_preview_changes_nothing", a_preview_changes_nothing},
    {"misuse_is_refused", misuse_is_refused},
    {"the_rung_swsc_is_said_late_or_early", the_rung_swsc_is_said_late_or_early},
    {"what_swsc_lacks_is_refused", what_swsc_lacks_is_refused},
    {"resumes_with_the_rung_swsc", resumes_with_the_rung_swsc},
    {"bad_headers_are_refused", bad_headers_are_refused},
    {"header_room_is_as_planned", header_room_is_as_planned},
    {"second_writer_is_refused", second_writer_is_refused},
    {"of_two_that_race_one_wins", of_two_that_race_one_wins},
    {"killed_writer_leaves_nothing", killed_writer_leaves_nothing},
    {"failed_writes_keep_the_old_pack", failed_writes_keep_the_old_pack},
    {"bad_names_are_refused", bad_names_are_refused},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
