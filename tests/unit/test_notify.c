/* sd_notify: what arrives at the manager's socket, and silence without one. */
#include "daemon/notify.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/t.h"

static void told(const char *name) {
    struct notify n;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char buf[1024];
    size_t len = strlen(name);
    memcpy(sa.sun_path, name, len);
    if (name[0] == '@') sa.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    REQUIRE(bind(fd, (struct sockaddr *)&sa,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) == 0);
    CHECK(notify_init(&n, name));
    notify_send(&n, "READY=1\nSTATUS=%s", "here");
    ssize_t r = recv(fd, buf, sizeof(buf), 0);
    CHECK_EQ(r, 19);
    CHECK_MEM(buf, "READY=1\nSTATUS=here", 19);
    for (int i = 0; i < 10000; i++) notify_send(&n, "STATUS=nobody reads"); /* never blocks */
    close(fd);
    notify_send(&n, "STATUS=nobody there");
    notify_fini(&n);
    notify_fini(&n);
}

static void sockets(void) {
    char path[300];
    snprintf(path, sizeof(path), "%s/n.sock", t_tmpdir());
    told(path);
    snprintf(path, sizeof(path), "@ebb-test-notify-%d", (int)getpid());
    told(path);
}

static void none(void) {
    struct notify n;
    char longer[300];
    CHECK(notify_init(&n, NULL));
    notify_send(&n, "READY=1");
    CHECK(notify_init(&n, ""));
    notify_send(&n, "READY=1");
    CHECK(!notify_init(&n, "relative"));
    memset(longer, 'x', sizeof(longer) - 1);
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    CHECK(!notify_init(&n, longer));
    CHECK(!notify_init(&n, "/nowhere/at/all"));
    notify_send(&n, "READY=1");
    notify_fini(&n);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {{"sockets", sockets}, {"none", none}};
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
