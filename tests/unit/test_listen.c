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

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"opens_and_goes", opens_and_goes},
        {"one_at_a_time", one_at_a_time},
        {"stale", stale},
        {"not_sockets", not_sockets},
        {"unknown_group", unknown_group},
        {"replaced", replaced},
    };
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
