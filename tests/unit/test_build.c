/* Whole builds that are interrupted, go on, are refused, or have nothing to calibrate on. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/err.h"
#include "core/gemm.h"
#include "core/gguf.h"
#include "core/make/build.h"
#include "core/make/gate.h"
#include "core/make/resume.h"
#include "core/make/score.h"
#include "core/make/tools.h"
#include "core/mem.h"
#include "core/pack.h"
#include "core/pool.h"
#include "tests/golden/tiny.h"
#include "tests/t.h"

static char src[512], out[512], calib[512], whole[512];

static void set_paths(void) {
    const char *dir = t_tmpdir();
    snprintf(src, sizeof(src), "%s/src.gguf", dir);
    snprintf(out, sizeof(out), "%s/out.ebb", dir);
    snprintf(calib, sizeof(calib), "%s/calib.txt", dir);
    snprintf(whole, sizeof(whole), "%s/whole.ebb", dir);
}

static void write_file(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    REQUIRE(f && fwrite(data, 1, n, f) == n && fclose(f) == 0);
}

static uint8_t *read_file(const char *path, size_t *ret_n) {
    FILE *f = fopen(path, "rb");
    REQUIRE(f && fseek(f, 0, SEEK_END) == 0);
    long n = ftell(f);
    rewind(f);
    uint8_t *p = malloc((size_t)n + 1);
    REQUIRE(p && fread(p, 1, (size_t)n, f) == (size_t)n);
    fclose(f);
    *ret_n = (size_t)n;
    return p;
}

static void check_equal(const char *a, const char *b) {
    size_t n, m;
    uint8_t *p = read_file(a, &n), *q = read_file(b, &m);
    CHECK_EQU(n, m);
    CHECK_MEM(p, q, MIN(n, m));
    free(p);
    free(q);
}

static void write_calib(uint64_t seed) {
    enum { N = 8000 };
    char buf[N];
    for (int i = 0; i < N; i++) buf[i] = (char)(t_rand(&seed) % 6 ? 'a' + t_rand(&seed) % 26 : ' ');
    write_file(calib, buf, N);
}

static void write_source(const struct tiny_opts *o) {
    REQUIRE(tiny_write(o, src) == 0);
}

/* Files whose names begin so, in the folder of the tests. */
static unsigned n_files(const char *prefix) {
    unsigned n = 0;
    DIR *d = opendir(t_tmpdir());
    REQUIRE(d);
    for (struct dirent *x; (x = readdir(d));) n += strncmp(x->d_name, prefix, strlen(prefix)) == 0;
    closedir(d);
    return n;
}

/* Where a build ends itself by SIGKILL: at the first report of a phase that is so far. */
struct killer {
    const char *what;
    uint64_t done;
};

static void kill_there(void *ud, const char *what, uint64_t done, uint64_t total,
                       const char *unit) {
    const struct killer *k = ud;
    (void)total;
    (void)unit;
    if (strcmp(what, k->what) == 0 && done >= k->done) raise(SIGKILL);
}

static int build_with(struct mem *m, const struct build_opts *o, unsigned n_threads,
                      struct killer *k, struct build_report *ret, struct err *e) {
    struct tools t = {.mem = m};
    gemm_init();
    kern_init(&t.ops, kern_cpu_flags());
    REQUIRE_OK(pool_create(n_threads, &t.pool, e), e);
    if (k) t.progress = (struct progress){kill_there, k};
    int r = build_run(&t, o, ret, e);
    pool_destroy(t.pool);
    return r;
}

static int build(const struct build_opts *o, unsigned n_threads, struct build_report *ret,
                 struct err *e) {
    struct mem *m;
    *e = (struct err){0};
    REQUIRE_OK(mem_create(&m), e);
    int r = build_with(m, o, n_threads, NULL, ret, e);
    mem_destroy(m); /* asserts that nothing is left */
    return r;
}

static void build_killed(const struct build_opts *o, struct killer k) {
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        struct err e = {0};
        struct mem *m;
        struct build_report r;
        if (mem_create(&m) < 0) _exit(3);
        _exit(build_with(m, o, 1, &k, &r, &e) < 0 ? 4 : 5);
    }
    int status;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    if (!WIFSIGNALED(status))
        t_fail(__FILE__, __LINE__, "%s %d: exit code %d", k.what, (int)k.done, WEXITSTATUS(status));
    CHECK_EQU(n_files("out.ebb.tmp."), 1);
}

static struct build_opts text_opts(void) {
    return (struct build_opts){.source = src,
                               .out = out,
                               .calib = calib,
                               .is_without_gate = true, /* it takes long; see test_gate() */
                               .n_windows = 2,
                               .save_layers = 1};
}

static void prepare(struct build_opts o) {
    struct build_report r;
    struct err e;
    struct tiny_opts t = tiny_defaults();
    set_paths();
    write_source(&t);
    write_calib(3);
    o.out = whole;
    REQUIRE_OK(build(&o, 2, &r, &e), &e);
    CHECK_EQU(r.n_resumed, 0);
    CHECK_EQU(n_files("whole.ebb"), 1);
}

/* Killed there and there, and gone on with each time: the same bytes. */
static void check_resumed(struct build_opts o, const struct killer *k, size_t n, uint32_t n_done) {
    struct build_report r;
    struct err e;
    prepare(o);
    ignore_result(unlink(out));
    for (size_t i = 0; i < n; i++) {
        build_killed(&o, k[i]);
        o.is_resumed = true;
    }
    REQUIRE_OK(build(&o, 2, &r, &e), &e);
    CHECK_EQU(r.n_resumed, n_done);
    check_equal(out, whole);
    CHECK_EQU(n_files("out.ebb"), 1);
}

static const char packing[] = "calibrating and packing", head[] = "packing the head",
                  writing[] = "writing a text", scoring[] = "scoring full>high",
                  books[] = "making code books", comparing[] = "comparing forms",
                  fitting[] = "fitting below four bits";

static void test_resume(void) {
    struct build_opts o = text_opts();
    check_resumed(o, (struct killer[]){{"hashing the source", 1}}, 1, 0);
    check_resumed(o, (struct killer[]){{packing, 1}}, 1, 1);
    check_resumed(o, (struct killer[]){{packing, 3}}, 1, 3);
    check_resumed(o, (struct killer[]){{fitting, 3}, {books, 7}, {fitting, 1}}, 3, 3);
    check_resumed(o, (struct killer[]){{scoring, 1}, {scoring, 20}}, 2, 3);
    check_resumed(o, (struct killer[]){{packing, 1}, {packing, 2}, {head, 1}, {scoring, 5}}, 4, 3);
    o.save_layers = 2; /* what was done after the last save is done again */
    check_resumed(o, (struct killer[]){{packing, 1}}, 1, 0);
    check_resumed(o, (struct killer[]){{packing, 3}}, 1, 3);
}

static void test_resume_own(void) {
    struct build_opts o = text_opts();
    o.is_mixed = true;
    check_resumed(o, (struct killer[]){{writing, 300}}, 1, 0);
    check_resumed(o, (struct killer[]){{packing, 1}, {packing, 3}}, 2, 3);
    o.is_mixed = false;
    o.calib = NULL;
    check_resumed(o, (struct killer[]){{packing, 2}}, 1, 2);
    o.is_fast = true;
    check_resumed(o, (struct killer[]){{packing, 2}}, 1, 2);
}

/* Own samples are saved as soon as they are there. */
static void test_resume_samples(void) {
    struct build_opts o = text_opts();
    struct build_report r;
    struct err e;
    o.calib = NULL;
    o.save_layers = 9;
    prepare(o);
    build_killed(&o, (struct killer){packing, 1});
    struct resume *s;
    REQUIRE_OK(resume_open(out, &s, &e), &e);
    CHECK_EQU(resume_get(s)->n_own, 2 * BUILD_WINDOW);
    CHECK_EQU(resume_get(s)->n_done, 0);
    resume_close(s);
    o.is_resumed = true;
    REQUIRE_OK(build(&o, 1, &r, &e), &e);
    check_equal(out, whole);
}

static void check_refused(const struct build_opts *o, int code, const char *words) {
    struct build_report r;
    struct err e;
    CHECK_EQ(build(o, 1, &r, &e), code);
    if (!strstr(e.msg, words)) t_fail(__FILE__, __LINE__, "'%s' is not in '%s'", words, e.msg);
    CHECK_EQU(n_files("out.ebb.tmp."), 1);
    CHECK_EQU(n_files("out.ebb.state"), 1);
}

/* Another build is told what differs, and takes nothing away. */
static void test_resume_mismatch(void) {
    struct build_opts o = text_opts();
    struct build_report r;
    struct err e;
    prepare(o);
    build_killed(&o, (struct killer){packing, 2});
    o.is_resumed = true;
    struct build_opts other = o;
    other.n_windows = 1;
    check_refused(&other, -EINVAL, "--windows was '2' in the interrupted build and is '1' now");
    other = o;
    other.is_mixed = true;
    check_refused(&other, -EINVAL, "--calib was");
    other = o;
    other.is_fast = true;
    check_refused(&other, -EINVAL, "--fast was 'off'");
    other = o;
    other.is_without_swsc = true;
    check_refused(&other, -EINVAL, "--no-swsc was 'off'");
    other = o;
    other.is_without_gate = false;
    check_refused(&other, -EINVAL, "--form was 'default' in the interrupted build and is 'by the");
    write_calib(4);
    check_refused(&o, -EINVAL, "the calibration text's hash");
    write_calib(3);
    struct tiny_opts t = tiny_defaults();
    t.seed = 5;
    write_source(&t);
    check_refused(&o, -EINVAL, "SHA-256");
    t.seed = 1;
    write_source(&t);
    REQUIRE_OK(build(&o, 2, &r, &e), &e);
    CHECK_EQU(r.n_resumed, 2);
    check_equal(out, whole);
}

/* Without the wish to resume everything that was left goes; with it and nothing there, a build is
 * a build. */
static void test_resume_not_wanted(void) {
    struct build_opts o = text_opts();
    struct build_report r;
    struct err e;
    prepare(o);
    build_killed(&o, (struct killer){packing, 2});
    REQUIRE_OK(build(&o, 1, &r, &e), &e);
    CHECK_EQU(r.n_resumed, 0);
    CHECK_EQU(n_files("out.ebb"), 1);
    o.is_resumed = true;
    REQUIRE_OK(build(&o, 1, &r, &e), &e);
    CHECK_EQU(r.n_resumed, 0);
    check_equal(out, whole);
    /* A state whose temporary file is gone is of no use. */
    build_killed(&o, (struct killer){packing, 2});
    char name[600];
    DIR *d = opendir(t_tmpdir());
    for (struct dirent *x; (x = readdir(d));)
        if (strncmp(x->d_name, "out.ebb.tmp.", 12) == 0) {
            snprintf(name, sizeof(name), "%s/%s", t_tmpdir(), x->d_name);
            CHECK(unlink(name) == 0);
        }
    closedir(d);
    REQUIRE_OK(build(&o, 1, &r, &e), &e);
    CHECK_EQU(r.n_resumed, 0);
    check_equal(out, whole);
    CHECK_EQU(n_files("out.ebb"), 1);
}

static void find_temp(char *ret, size_t n) {
    DIR *d = opendir(t_tmpdir());
    REQUIRE(d);
    *ret = '\0';
    for (struct dirent *x; (x = readdir(d));)
        if (strncmp(x->d_name, "out.ebb.tmp.", 12) == 0)
            snprintf(ret, n, "%s/%s", t_tmpdir(), x->d_name);
    closedir(d);
    REQUIRE(*ret);
}

/* Whatever is wrong with the state is found, or (in what nothing depends on) does no harm. */
static void test_resume_damaged(void) {
    struct build_opts o = text_opts();
    struct build_report r;
    struct err e;
    char state[600], temp[800];
    prepare(o);
    snprintf(state, sizeof(state), "%s.state", out);
    build_killed(&o, (struct killer){packing, 2});
    o.is_resumed = true;
    size_t n, n_temp;
    uint8_t *good = read_file(state, &n), *bad = malloc(n + 1);
    find_temp(temp, sizeof(temp));
    uint8_t *good_temp = read_file(temp, &n_temp);
    uint64_t seed = t_seed();
    for (int i = 0; i < 60; i++) {
        memcpy(bad, good, n);
        size_t at = i < 40 ? (size_t)(t_rand(&seed) % 600) : (size_t)(t_rand(&seed) % n);
        bad[at] ^= (uint8_t)(1u << t_rand(&seed) % 8);
        write_file(state, bad, i % 10 == 9 ? (size_t)(t_rand(&seed) % n) : n);
        write_file(temp, good_temp, n_temp);
        int code = build(&o, 1, &r, &e);
        if (code == 0)
            CHECK(at >= 12 && at < 16); /* the preamble's spare bytes */
        else
            CHECK_EQ(code, -EBADMSG);
    }
    memcpy(bad, good, n);
    write_file(state, good, n);
    good_temp[n_temp / 2] ^= 1;
    write_file(temp, good_temp, n_temp);
    int code = build(&o, 1, &r, &e);
    CHECK(code == -EBADMSG && strstr(e.msg, "unfinished pack"));
    CHECK_EQU(n_files("out.ebb.tmp."), 0);
    write_file(state, good, n);
    write_file(temp, good_temp, n_temp / 3);
    CHECK_EQ(build(&o, 1, &r, &e), -EBADMSG);
    free(good);
    free(bad);
    free(good_temp);
    CHECK(unlink(state) == 0 || errno == ENOENT);
    REQUIRE(mkdir(state, 0700) == 0);
    CHECK_EQ(build(&o, 1, &r, &e), -EBADMSG);
    REQUIRE(rmdir(state) == 0);
}

/* ---- sources and texts that are not as they should be ---------------------------------------- */

static void patch(const char *tensor, uint64_t first, uint64_t n, float v) {
    struct gguf *g;
    struct err e = {0};
    REQUIRE_OK(gguf_open(src, &g, &e), &e);
    const struct gguf_tensor *t = gguf_find_tensor(g, tensor);
    REQUIRE(t && t->type == GGUF_T_F32 && first + n <= t->n_elems);
    FILE *f = fopen(src, "r+b");
    REQUIRE(f && fseek(f, (long)(t->offset + first * sizeof(v)), SEEK_SET) == 0);
    for (uint64_t i = 0; i < n; i++) REQUIRE(fwrite(&v, sizeof(v), 1, f) == 1);
    fclose(f);
    gguf_close(g);
}

static void test_not_finite(void) {
    static const struct {
        const char *tensor, *words;
        uint64_t at;
        float v;
    } cases[] = {
        {"blk.1.ffn_up.weight", "tensor blk.1.ffn_up.weight: row 3, column 5", 3 * 64 + 5, NAN},
        {"blk.2.attn_q.weight", "tensor blk.2.attn_q.weight: row 0, column 63", 63, INFINITY},
        {"token_embd.weight", "tensor token_embd.weight: row 300, column 1", 300 * 64 + 1,
         -INFINITY},
        {"blk.0.attn_norm.weight", "tensor blk.0.attn_norm.weight: row 0, column 7", 7, NAN},
    };
    struct tiny_opts t = tiny_defaults();
    struct build_opts o = text_opts();
    struct build_report r;
    struct err e;
    set_paths();
    write_calib(3);
    t.type = GGUF_T_F32;
    ignore_result(unlink(out));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        write_source(&t);
        patch(cases[i].tensor, cases[i].at, 1, cases[i].v);
        CHECK_EQ(build(&o, 1, &r, &e), -EBADMSG);
        if (!strstr(e.msg, cases[i].words)) t_fail(__FILE__, __LINE__, "%s", e.msg);
        CHECK_EQU(n_files("out.ebb"), 0);
    }
}

/* A layer whose norm is zero feeds its matrices nothing: they get no feedback, and say so. */
static void test_singular(void) {
    struct tiny_opts t = tiny_defaults();
    struct build_opts o = text_opts();
    struct build_report r;
    struct err e;
    struct pack *p;
    set_paths();
    write_calib(3);
    t.type = GGUF_T_F32;
    write_source(&t);
    patch("blk.1.attn_norm.weight", 0, 64, 0.0f);
    for (unsigned n_threads = 1; n_threads <= 2; n_threads++) {
        o.out = n_threads == 1 ? whole : out;
        REQUIRE_OK(build(&o, n_threads, &r, &e), &e);
    }
    check_equal(out, whole);
    CHECK_EQU(r.n_fallbacks, 4);
    CHECK_EQU(r.fallback[1], 1u << MODEL_Q | 1u << MODEL_K | 1u << MODEL_V | 1u << MODEL_OUT);
    REQUIRE_OK(pack_open(out, &p, &e), &e);
    for (uint32_t u = 0; u < model_n_units(pack_hparams(p)); u++) {
        CHECK_EQU(pack_fallback(p, u), r.fallback[u]);
        double error = pack_score(p, "ebb.distortion.high.error", u);
        CHECK(error > 0.0 && error < 0.1);
    }
    CHECK_EQU(pack_fallback(p, 99), 0);
    pack_close(p);

    /* The output norm: a head that sees nothing. Its error is none. */
    patch("output_norm.weight", 0, 64, 0.0f);
    REQUIRE_OK(build(&o, 1, &r, &e), &e);
    CHECK_EQU(r.n_fallbacks, 5);
    CHECK_EQU(r.fallback[3], 1u << MODEL_HEAD);
    REQUIRE_OK(pack_open(out, &p, &e), &e);
    CHECK(pack_score(p, "ebb.distortion.full.error", 3) == 0.0);
    pack_close(p);
}

static void test_fast(void) {
    struct tiny_opts t = tiny_defaults();
    struct build_opts o = text_opts();
    struct build_report r;
    struct err e;
    struct pack *p;
    struct gguf_str s;
    set_paths();
    write_calib(3);
    write_source(&t);
    o.is_fast = true;
    o.n_windows = 0;
    for (unsigned n_threads = 1; n_threads <= 2; n_threads++) {
        o.out = n_threads == 1 ? whole : out;
        REQUIRE_OK(build(&o, n_threads, &r, &e), &e);
    }
    check_equal(out, whole);
    CHECK_EQU(r.window, BUILD_FAST_WINDOW);
    CHECK_EQU(r.n_asked, BUILD_FAST_WINDOWS);
    CHECK_EQU(r.n_fallbacks, 0);
    REQUIRE_OK(pack_open(out, &p, &e), &e);
    REQUIRE_OK(gguf_get_str(pack_gguf(p), "ebb.method", &s, &e), &e);
    CHECK(s.n == 4 && memcmp(s.p, "fast", 4) == 0);
    CHECK(isnan(pack_score(p, "ebb.distortion.high.error", 0)));
    CHECK(pack_score(p, "ebb.importance.lsaq", 0) >= 0.0);
    CHECK(pack_score(p, "ebb.importance.jaccard", 0) > 0.0);
    CHECK_EQU(r.n_scored, SCORE_FAST_WINDOWS * BUILD_FAST_WINDOW * 3 / 4);
    pack_close(p);
}

static void test_swsc(void) {
    struct build_opts o = text_opts();
    struct build_report r;
    struct err e;
    struct pack *p;
    prepare(o);
    REQUIRE_OK(pack_open(whole, &p, &e), &e);
    const struct swsc_form *forms = pack_swsc(p);
    REQUIRE(forms);
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        CHECK_EQ(forms[m].base, SWSC_SEGMENTS);
        CHECK(forms[m].is_shared && forms[m].rank == 0);
    }
    for (uint32_t u = 0; u < model_n_units(pack_hparams(p)); u++) {
        bool is_layer = u < pack_hparams(p)->n_layers;
        double error = pack_score(p, "ebb.distortion.swsc.error", u);
        CHECK_EQ(pack_has_rung(p, u, RUNG_SWSC), is_layer);
        CHECK(is_layer ? error > 0.0 && error < 0.2 : isnan(error));
        if (is_layer) {
            CHECK(error > pack_score(p, "ebb.distortion.high.error", u));
            CHECK(pack_score(p, "ebb.distortion.swsc.kl", u) >
                  pack_score(p, "ebb.distortion.high.kl", u));
        }
    }
    pack_close(p);
    o.is_without_swsc = true;
    REQUIRE_OK(build(&o, 1, &r, &e), &e);
    CHECK_EQU(r.swsc_bytes, 0);
    REQUIRE_OK(pack_open(out, &p, &e), &e);
    CHECK(!pack_has_swsc(p));
    CHECK(isnan(pack_score(p, "ebb.distortion.swsc.error", 0)));
    pack_close(p);
}

/* What was compared is in the pack, and what was taken is what the layers have; interrupted while
 * it is compared or later, all is the same. */
static void test_gate(void) {
    struct build_opts o = text_opts();
    struct err e;
    struct pack *p;
    o.is_without_gate = false;
    check_resumed(o, (struct killer[]){{comparing, 30}, {packing, 2}}, 2, 2);
    REQUIRE_OK(pack_open(whole, &p, &e), &e);
    REQUIRE(pack_gate_n(p) == RIVAL_COUNT && pack_has_swsc(p));
    CHECK_NEAR(pack_gate_target(p), GATE_TARGET, 1e-6);
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        double margin;
        uint32_t n_out, n_in, winner = pack_gate_winner(p, (enum model_mat)m, &margin);
        model_mat_shape(pack_hparams(p), (enum model_mat)m, &n_out, &n_in);
        for (uint32_t i = 0; i < RIVAL_COUNT; i++) {
            struct pack_gate_form f = pack_gate_form(p, (enum model_mat)m, i);
            CHECK(f.bits > 1.0);
            CHECK(f.error > 0.0 || isnan(f.error));
            if (f.can_win) CHECK(winner < RIVAL_COUNT && f.bits < GATE_TARGET + GATE_SLACK);
        }
        if (winner < RIVAL_COUNT)
            CHECK_NEAR(swsc_form_bits(&pack_swsc(p)[m], n_out, n_in, pack_hparams(p)->n_layers),
                       pack_gate_form(p, (enum model_mat)m, winner).bits, 1e-4);
    }
    pack_close(p);
}

/* One form for all kinds; killed and gone on with. What two layers share is made before they are,
 * so after a kill it is made again. */
static void test_form(void) {
    struct build_opts o = text_opts();
    struct build_report r;
    struct err e;
    struct pack *p;
    o.form = "basis-8";
    check_resumed(o, (struct killer[]){{books, 4}, {fitting, 2}}, 2, 3);
    REQUIRE_OK(pack_open(whole, &p, &e), &e);
    REQUIRE(pack_has_swsc(p));
    CHECK_EQU(pack_gate_n(p), 0);
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        const struct swsc_form *f = &pack_swsc(p)[m];
        CHECK(f->base == SWSC_NONE && f->factor_bits == 8 && f->is_basis_shared);
    }
    pack_close(p);
    ignore_result(unlink(out));
    static const char *const others[] = {"groups-3", "no-such", ""};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        o.form = others[i];
        CHECK_EQ(build(&o, 1, &r, &e), -EINVAL);
        CHECK(strstr(e.msg, "is no form that layers can take"));
        CHECK_EQU(n_files("out.ebb"), 0);
    }
}

static void test_mixed(void) {
    struct build_opts o = text_opts();
    struct build_report r;
    struct err e;
    struct pack *p;
    struct gguf_str s;
    o.is_mixed = true;
    o.n_windows = 5; /* the odd one is the text's */
    prepare(o);
    REQUIRE_OK(build(&o, 1, &r, &e), &e);
    check_equal(out, whole);
    CHECK_EQU(r.n_windows, 5);
    CHECK_EQU(r.n_own, 2);
    REQUIRE_OK(pack_open(out, &p, &e), &e);
    REQUIRE_OK(gguf_get_str(pack_gguf(p), "ebb.calibration", &s, &e), &e);
    static const char want[] = "text=calib.txt,self windows=5 own=2 window=512 ids-xxh3=";
    CHECK(s.n == sizeof(want) - 1 + 16 && memcmp(s.p, want, sizeof(want) - 1) == 0);
    REQUIRE_OK(gguf_get_str(pack_gguf(p), "ebb.method", &s, &e), &e);
    CHECK(s.n == 8 && memcmp(s.p, "feedback", 8) == 0);
    pack_close(p);
    /* A text that is too short for its half leaves the other as it is. */
    o.n_windows = 40;
    REQUIRE_OK(build(&o, 1, &r, &e), &e);
    CHECK_EQU(r.n_own, 20);
    CHECK(r.n_windows > 20 && r.n_windows < 40);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"resume", test_resume},
        {"resume_own", test_resume_own},
        {"resume_samples", test_resume_samples},
        {"resume_mismatch", test_resume_mismatch},
        {"resume_not_wanted", test_resume_not_wanted},
        {"resume_damaged", test_resume_damaged},
        {"not_finite", test_not_finite},
        {"singular", test_singular},
        {"fast", test_fast},
        {"swsc", test_swsc},
        {"gate", test_gate},
        {"form", test_form},
        {"mixed", test_mixed},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
