/* Pressure events of each kind of source, and sources that end. */
#include "daemon/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/err.h"
#include "tests/t.h"

/* "some 200000 2000000" and a NUL. */
#define TRIGGER "c29tZSAyMDAwMDAgMjAwMDAwMAA="

struct seen {
    unsigned n_events, n_gone;
    int code;
    char text[300];
};

static void on_pressure(void *ud) {
    struct seen *s = ud;
    s->n_events++;
}

static void on_gone(void *ud, const struct err *why) {
    struct seen *s = ud;
    s->n_gone++;
    s->code = why->code;
    snprintf(s->text, sizeof(s->text), "%s", why->msg);
}

static uv_loop_t loop;

/* Whatever is there to be handled now. */
static void turn(void) {
    for (int i = 0; i < 5; i++) uv_run(&loop, UV_RUN_NOWAIT);
}

static int open_watch(const char *path, const char *text, struct seen *seen, struct watch **ret,
                      struct err *e) {
    const struct watch_opts o = {.loop = &loop,
                                 .path = path,
                                 .write = text,
                                 .on_pressure = on_pressure,
                                 .on_gone = on_gone,
                                 .ud = seen};
    return watch_open(&o, ret, e);
}

static void begin(void) {
    REQUIRE(uv_loop_init(&loop) == 0);
}

static void end(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&loop), 0);
}

static void base64_is_strict(void) {
    static const struct {
        const char *text;
        int code;
        const char *bytes;
        size_t n;
    } cases[] = {
        {TRIGGER, 0, "some 200000 2000000", 20},
        {"", 0, "", 0},
        {"AA==", 0, "\0", 1},
        {"AAA=", 0, "\0\0", 2},
        {"////", 0, "\377\377\377", 3},
        {"+/+/", 0, "\373\377\277", 3},
        {"A", -EBADMSG, "", 0},
        {"AA", -EBADMSG, "", 0},
        {"AA=", -EBADMSG, "", 0},
        {"A===", -EBADMSG, "", 0},
        {"====", -EBADMSG, "", 0},
        {"AB==", -EBADMSG, "", 0}, /* bits that no byte takes */
        {"AAB=", -EBADMSG, "", 0},
        {"AA==AAAA", -EBADMSG, "", 0},
        {"AAA=\n", -EBADMSG, "", 0},
        {"AA A", -EBADMSG, "", 0},
        {"AA-_", -EBADMSG, "", 0},
        {"AA\303\244", -EBADMSG, "", 0},
        {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", -EFBIG, "", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t out[20];
        size_t n = 77;
        memset(out, 0x5a, sizeof(out));
        CHECK_EQ(watch_decode(cases[i].text, out, sizeof(out), &n, NULL), cases[i].code);
        if (cases[i].code == 0) {
            CHECK_EQU(n, cases[i].n);
            CHECK_MEM(out, cases[i].bytes, cases[i].n);
        } else {
            CHECK_EQU(n, 77);
            CHECK_EQ(out[0], 0x5a);
        }
    }
}

static void nothing_to_watch(void) {
    struct seen seen = {0};
    struct watch *w = (struct watch *)&seen;
    struct err e = {0};
    static const char *const off[] = {NULL, "", "/dev/null"};
    begin();
    for (size_t i = 0; i < ARRAY_LEN(off); i++) {
        REQUIRE_OK(open_watch(off[i], "not base64", &seen, &w, &e), &e);
        CHECK(!w);
    }
    CHECK(!watch_owns_file(NULL));
    watch_close(NULL);
    end();
}

static void bad_sources_are_refused(void) {
    struct seen seen = {0};
    struct watch *w;
    struct err e = {0};
    char path[400], text[20] = {0};
    begin();
    CHECK_EQ(open_watch("relative", NULL, &seen, &w, &e), -EINVAL);
    CHECK_EQ(open_watch("/nowhere/at/all", NULL, &seen, &w, &e), -ENOENT);
    CHECK_EQ(open_watch("/dev/zero", NULL, &seen, &w, &e), -ENOTSUP);
    CHECK_EQ(open_watch(t_tmpdir(), NULL, &seen, &w, &e), -ENOTSUP);
    snprintf(path, sizeof(path), "%s/plain", t_tmpdir());
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    REQUIRE(fd >= 0 && write(fd, "precious", 8) == 8);
    CHECK_EQ(open_watch(path, "garbage!", &seen, &w, &e), -EBADMSG);
    CHECK_EQ(open_watch(path, TRIGGER, &seen, &w, &e), -ENOTSUP);
    CHECK(strstr(e.msg, "plain cannot be polled"));
    CHECK_EQ(pread(fd, text, sizeof(text), 0), 8); /* nothing was written into it */
    CHECK_STR(text, "precious");
    close(fd);
    char *large = malloc(3 * WATCH_MAX_WRITE);
    REQUIRE(large);
    memset(large, 'A', 3 * WATCH_MAX_WRITE);
    large[3 * WATCH_MAX_WRITE - 4] = '\0';
    CHECK_EQ(open_watch(path, large, &seen, &w, &e), -EFBIG);
    large[0] = '/';
    CHECK_EQ(open_watch(large, NULL, &seen, &w, &e), -EINVAL);
    free(large);
    CHECK(!w);
    end();
    CHECK(seen.n_events == 0 && seen.n_gone == 0);
}

static void a_fifo_tells(void) {
    struct seen seen = {0};
    struct watch *w;
    struct err e = {0};
    char path[400];
    snprintf(path, sizeof(path), "%s/fifo", t_tmpdir());
    REQUIRE(mkfifo(path, 0600) == 0);
    begin();
    REQUIRE_OK(open_watch(path, TRIGGER, &seen, &w, &e), &e);
    CHECK(!watch_owns_file(w));
    turn();
    CHECK_EQU(seen.n_events, 0); /* what we wrote comes back, and is no event */
    for (unsigned i = 1; i <= 3; i++) {
        int fd = open(path, O_WRONLY | O_NONBLOCK);
        REQUIRE(fd >= 0 && write(fd, "pressure\n", 9) == 9);
        close(fd); /* the last writer leaves, and that is not the end */
        turn();
        CHECK_EQU(seen.n_events, i);
    }
    CHECK_EQU(seen.n_gone, 0);
    watch_close(w);
    end();
    CHECK_EQU(seen.n_events, 3);
}

static void a_socket_tells_and_ends(void) {
    struct seen seen = {0};
    struct watch *w;
    struct err e = {0};
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char text[100];
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/s", t_tmpdir());
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(bind(listener, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    begin();
    CHECK_EQ(open_watch(sa.sun_path, TRIGGER, &seen, &w, &e), -ECONNREFUSED);
    REQUIRE(listen(listener, 1) == 0);
    REQUIRE_OK(open_watch(sa.sun_path, TRIGGER, &seen, &w, &e), &e);
    int fd = accept(listener, NULL, NULL);
    REQUIRE(fd >= 0);
    CHECK_EQ(read(fd, text, sizeof(text)), 20);
    CHECK_MEM(text, "some 200000 2000000", 20);
    turn();
    CHECK_EQU(seen.n_events, 0);
    REQUIRE(write(fd, "x", 1) == 1);
    turn();
    CHECK_EQU(seen.n_events, 1);
    close(fd);
    turn();
    CHECK(seen.n_events == 1 && seen.n_gone == 1 && seen.code == -EPIPE);
    CHECK(strstr(seen.text, "/s: the other side has closed it"));
    /* Told once, and nothing is left that could keep the loop alive or busy. */
    CHECK_EQ(uv_run(&loop, UV_RUN_NOWAIT), 0);
    CHECK_EQU(seen.n_gone, 1);
    watch_close(w);
    close(listener);
    end();
}

static void close_in_callback(void *ud, const struct err *why) {
    struct watch **w = ud;
    (void)why;
    watch_close(*w);
    *w = NULL;
}

static void it_may_be_closed_when_it_tells(void) {
    struct watch *w;
    struct err e = {0};
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/s", t_tmpdir());
    unlink(sa.sun_path);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(bind(listener, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(listener, 1) == 0);
    begin();
    const struct watch_opts o = {.loop = &loop,
                                 .path = sa.sun_path,
                                 .on_pressure = on_pressure,
                                 .on_gone = close_in_callback,
                                 .ud = &w};
    REQUIRE_OK(watch_open(&o, &w, &e), &e);
    close(accept(listener, NULL, NULL));
    turn();
    CHECK(!w);
    close(listener);
    end();
}

/* The kernel's own file. A trigger is taken; a removed cgroup is told once and not for ever. */
static void a_removed_cgroup_is_gone(void) {
    static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    struct seen seen = {0};
    struct watch *w;
    struct err e = {0};
    char folder[200], path[300];
    for (size_t i = 0;; i++) {
        if (i == ARRAY_LEN(mounts)) t_skip("no cgroup of version 2 can be made here");
        snprintf(path, sizeof(path), "%s/cgroup.controllers", mounts[i]);
        snprintf(folder, sizeof(folder), "%s/ebb-test-watch-%d", mounts[i], (int)getpid());
        if (access(path, F_OK) == 0 && mkdir(folder, 0700) == 0) break;
    }
    snprintf(path, sizeof(path), "%s/memory.pressure", folder);
    begin();
    int r = open_watch(path, TRIGGER, &seen, &w, &e);
    if (r < 0) {
        rmdir(folder);
        if (r == -ENOENT || r == -EOPNOTSUPP) t_skip("the kernel does not account pressure");
    }
    REQUIRE_OK(r, &e);
    CHECK(watch_owns_file(w));
    turn();
    CHECK(seen.n_events == 0 && seen.n_gone == 0);
    REQUIRE(rmdir(folder) == 0);
    turn();
    CHECK(seen.n_events == 0 && seen.n_gone == 1 && seen.code == -ENODEV);
    CHECK(!watch_owns_file(w));
    CHECK_EQ(uv_run(&loop, UV_RUN_NOWAIT), 0);
    watch_close(w);
    end();
}

static void a_bad_trigger_is_refused(void) {
    struct seen seen = {0};
    struct watch *w;
    struct err e = {0};
    if (access("/proc/pressure/memory", W_OK) != 0) t_skip("no /proc/pressure/memory to write to");
    begin();
    int r = open_watch("/proc/pressure/memory", "Z2FyYmFnZQA=", &seen, &w, &e);
    if (r == -EOPNOTSUPP) t_skip("the kernel does not account pressure");
    CHECK_EQ(r, -EINVAL);
    CHECK(strstr(e.msg, "cannot write the trigger"));
    /* Without a trigger the file is always in error: told once, not for ever. */
    REQUIRE_OK(open_watch("/proc/pressure/memory", NULL, &seen, &w, &e), &e);
    turn();
    CHECK(seen.n_events == 0 && seen.n_gone == 1);
    CHECK_EQ(uv_run(&loop, UV_RUN_NOWAIT), 0);
    watch_close(w);
    end();
}

static const struct t_case cases[] = {
    {"base64_is_strict", base64_is_strict},
    {"nothing_to_watch", nothing_to_watch},
    {"bad_sources_are_refused", bad_sources_are_refused},
    {"a_fifo_tells", a_fifo_tells},
    {"a_socket_tells_and_ends", a_socket_tells_and_ends},
    {"it_may_be_closed_when_it_tells", it_may_be_closed_when_it_tells},
    {"a_removed_cgroup_is_gone", a_removed_cgroup_is_gone},
    {"a_bad_trigger_is_refused", a_bad_trigger_is_refused},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
