/* The sockets' locks: one daemon at a time, and nothing is removed that is not ours. */
#include "daemon/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/err.h"
#include "tests/t.h"

static const char *path_of(const char *name) {
    static char path[300];
    snprintf(path, sizeof(path), "%s/%s", t_tmpdir(), name);
    return path;
}

static int open_it(struct listen_socket *l, const char *path) {
    struct err e = {0};
    int r = listen_open(l, path, 0640, "", &e);
    if (r < 0) CHECK(e.msg[0] != '\0');
    return r;
}

static void opens_and_goes(void) {
    struct listen_socket l;
    struct stat st;
    const char *path = path_of("a.sock");
    REQUIRE(open_it(&l, path) == 0);
    REQUIRE(lstat(path, &st) == 0);
    CHECK(S_ISSOCK(st.st_mode));
    CHECK_EQ(st.st_mode & 0777, 0640);
    listen_close(&l);
    CHECK(lstat(path, &st) < 0);
    listen_close(&l); /* again: nothing */
}

static void one_at_a_time(void) {
    struct listen_socket a, b;
    struct stat st;
    const char *path = path_of("b.sock");
    REQUIRE(open_it(&a, path) == 0);
    CHECK_EQ(open_it(&b, path), -EALREADY);
    CHECK(lstat(path, &st) == 0); /* the loser removes nothing */
    listen_close(&a);
    CHECK_EQ(open_it(&b, path), 0);
    listen_close(&b);
}

/* What a killed daemon leaves: the socket, without the lock. */
static void stale(void) {
    struct listen_socket a;
    const char *path = path_of("c.sock");
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    strcpy(sa.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    close(fd);
    CHECK_EQ(open_it(&a, path), 0);
    listen_close(&a);

    /* Somebody else's, and alive. */
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(fd, 1) == 0);
    CHECK_EQ(open_it(&a, path), -EALREADY);
    struct stat st;
    CHECK(lstat(path, &st) == 0);
    close(fd);
    unlink(path);
}

static void not_sockets(void) {
    struct listen_socket a;
    struct stat st;
    char target[300];
    const char *path = path_of("d.sock");
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    REQUIRE(fd >= 0);
    close(fd);
    CHECK_EQ(open_it(&a, path), -EEXIST);
    CHECK(lstat(path, &st) == 0);
    unlink(path);

    snprintf(target, sizeof(target), "%s", path_of("target.sock"));
    REQUIRE(symlink(target, path_of("d.sock")) == 0);
    CHECK_EQ(open_it(&a, path_of("d.sock")), -EEXIST);
    CHECK(lstat(path_of("d.sock"), &st) == 0 && S_ISLNK(st.st_mode));
    unlink(path_of("d.sock"));

    CHECK_EQ(open_it(&a, path_of("missing/x.sock")), -ENOENT);
    char longer[200];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    CHECK_EQ(open_it(&a, longer), -ENAMETOOLONG);
}

static void unknown_group(void) {
    struct listen_socket a;
    struct err e = {0};
    struct stat st;
    const char *path = path_of("e.sock");
    CHECK_EQ(listen_open(&a, path, 0660, "no-such-group-here", &e), -EINVAL);
    CHECK(strstr(e.msg, "no-such-group-here") != NULL);
    CHECK(lstat(path, &st) < 0);
}

/* A socket that replaced ours is not ours to remove. */
static void replaced(void) {
    struct listen_socket a;
    struct stat st;
    const char *path = path_of("f.sock");
    REQUIRE(open_it(&a, path) == 0);
    REQUIRE(unlink(path) == 0);
    REQUIRE(mkdir(path, 0700) == 0);
    listen_close(&a);
    CHECK(lstat(path, &st) == 0);
    rmdir(path);
}

static int parse(const char *pid, const char *fds, const char *names, int ret[LISTEN_COUNT]) {
    struct err e = {0};
    int r = listen_parse_given(pid, fds, names, 42, ret, &e);
    if (r < 0) CHECK(e.msg[0] != '\0');
    return r;
}

static void given(void) {
    static const struct {
        const char *pid, *fds, *names;
        int r, api, admin;
    } cases[] = {
        {NULL, NULL, NULL, 0, -1, -1},
        {"42", NULL, NULL, 0, -1, -1},
        {NULL, "2", "api:admin", 0, -1, -1},
        {"41", "2", "api:admin", 0, -1, -1},
        {"42", "0", "", 0, -1, -1},
        {"42", "0", NULL, 0, -1, -1},
        {"42", "2", "api:admin", 0, 3, 4},
        {"42", "2", "admin:api", 0, 4, 3},
        {"42", "1", "api", 0, 3, -1},
        {"42", "1", "admin", 0, -1, 3},
        {"", "1", "api", -EINVAL, 0, 0},
        {"4x", "1", "api", -EINVAL, 0, 0},
        {" 42", "1", "api", -EINVAL, 0, 0},
        {"99999999999999999999", "1", "api", -EINVAL, 0, 0},
        {"42", "", "api", -EINVAL, 0, 0},
        {"42", "-1", "api", -EINVAL, 0, 0},
        {"42", "1x", "api", -EINVAL, 0, 0},
        {"42", "65", "api", -EINVAL, 0, 0},
        {"42", "1", NULL, -EINVAL, 0, 0},
        {"42", "1", "", -EINVAL, 0, 0},
        {"42", "1", "ap", -EINVAL, 0, 0},
        {"42", "1", "apis", -EINVAL, 0, 0},
        {"42", "1", "unknown", -EINVAL, 0, 0},
        {"42", "1", "api:admin", -EINVAL, 0, 0},
        {"42", "1", "api:", -EINVAL, 0, 0},
        {"42", "2", "api", -EINVAL, 0, 0},
        {"42", "2", "api:", -EINVAL, 0, 0},
        {"42", "2", "api:api", -EINVAL, 0, 0},
        {"42", "3", "api:admin:api", -EINVAL, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int fds[LISTEN_COUNT] = {7, 7};
        /* The hundreds tell the case. */
        int at = (int)i * 100, r = parse(cases[i].pid, cases[i].fds, cases[i].names, fds);
        CHECK_EQ(at - r, at - cases[i].r);
        CHECK_EQ(at + fds[LISTEN_API], at + (r < 0 ? 7 : cases[i].api));
        CHECK_EQ(at + fds[LISTEN_ADMIN], at + (r < 0 ? 7 : cases[i].admin));
    }
}

static int bound(const char *path, int type, bool listens) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    strcpy(sa.sun_path, path);
    int fd = socket(AF_UNIX, type, 0);
    REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    if (listens) REQUIRE(listen(fd, 8) == 0);
    return fd;
}

/* A given socket is locked like one of our own, and stays when we go. */
static void adopts(void) {
    struct listen_socket a, b;
    struct err e = {0};
    struct stat st;
    char path[300];
    snprintf(path, sizeof(path), "%s", path_of("g.sock"));
    int fd = bound(path, SOCK_STREAM, true), again = dup(fd);
    REQUIRE(again >= 0 && listen_adopt(&a, fd, "/elsewhere", &e) == 0);
    CHECK(strcmp(a.path, path) == 0);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(listen_adopt(&b, again, "/elsewhere", &e), -EALREADY);
    CHECK(fcntl(again, F_GETFD) >= 0); /* not taken over */
    CHECK_EQ(open_it(&b, path), -EALREADY);
    listen_close(&a);
    CHECK(fcntl(fd, F_GETFD) < 0);
    CHECK(lstat(path, &st) == 0);
    CHECK_EQ(listen_adopt(&a, again, "/elsewhere", &e), 0);
    CHECK_EQ(listen_take_fd(&a), again);
    listen_close(&a);
    CHECK(lstat(path, &st) == 0);
    close(again);
    unlink(path);
}

static void adopts_abstract(void) {
    struct listen_socket a, b;
    struct err e = {0};
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char path[300];
    snprintf(path, sizeof(path), "%s", path_of("h.sock"));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    /* Without a name of its own: the kernel chooses one. */
    REQUIRE(bind(fd, (struct sockaddr *)&sa, sizeof(sa.sun_family)) == 0 && listen(fd, 1) == 0);
    REQUIRE(listen_adopt(&a, fd, path, &e) == 0);
    CHECK(strcmp(a.path, path) == 0);
    CHECK_EQ(open_it(&b, path), -EALREADY);
    listen_close(&a);
}

static void adopts_nothing_else(void) {
    struct listen_socket a;
    struct err e = {0};
    int fds[5], ends[2];
    fds[0] = bound(path_of("i.sock"), SOCK_STREAM, false);
    fds[1] = bound(path_of("j.sock"), SOCK_SEQPACKET, true);
    fds[2] = bound(path_of("k.sock"), SOCK_DGRAM, false);
    fds[3] = open("/dev/null", O_RDONLY);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    fds[4] = ends[0];
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        e = (struct err){0};
        CHECK_EQ(listen_adopt(&a, fds[i], path_of("l.sock"), &e), -EINVAL);
        CHECK(strstr(e.msg, "Unix stream socket") != NULL);
        close(fds[i]);
    }
    CHECK_EQ(listen_adopt(&a, 9999, path_of("l.sock"), &e), -EINVAL);
    close(ends[1]);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"opens_and_goes", opens_and_goes},
        {"one_at_a_time", one_at_a_time},
        {"stale", stale},
        {"not_sockets", not_sockets},
        {"unknown_group", unknown_group},
        {"replaced", replaced},
        {"given", given},
        {"adopts", adopts},
        {"adopts_abstract", adopts_abstract},
        {"adopts_nothing_else", adopts_nothing_else},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
