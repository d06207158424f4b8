/* `ebb doctor`, the daemon as its clients meet it: sockets and their permissions, health, and what
 * its status says is not as it should be. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"
#include "daemon/ctl.h"
#include "daemon/ctl_doctor.h"
#include "daemon/ctl_field.h"
#include "daemon/ctl_http.h"

static void check_socket(struct ctl_doctor *d) {
    const char *path = d->c->socket_path;
    struct stat st;
    struct err e = {0};
    if (stat(path, &st) < 0) {
        ctl_doctor_say(d, CTL_BAD, "socket",
                       errno == EACCES
                           ? "a folder on the way is closed to you: join the daemon's group"
                           : "start ebbd (systemctl start ebbd), or give --socket PATH",
                       "%s: %s", path, strerror(errno));
        return;
    }
    if (!S_ISSOCK(st.st_mode)) {
        ctl_doctor_say(d, CTL_BAD, "socket", "give the path of ebbd's socket with --socket",
                       "%s is not a socket", path);
        return;
    }
    int fd = ctl_connect(path, &e);
    if (fd < 0) {
        ctl_doctor_say(d, CTL_BAD, "socket",
                       e.code == -EACCES
                           ? "join the group that owns it: usermod -aG GROUP USER, log in again"
                           : "the daemon is gone and left its socket behind: start ebbd",
                       "%s (mode %04o, uid %u, gid %u)", e.msg, (unsigned)(st.st_mode & 07777),
                       (unsigned)st.st_uid, (unsigned)st.st_gid);
        return;
    }
    struct ucred peer;
    socklen_t n = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0) d->pid = peer.pid;
    close(fd);
    ctl_doctor_say(d, st.st_mode & 0002 ? CTL_NOTE : CTL_GOOD, "socket",
                   "anyone on this machine may use it: set socket.mode to 0660",
                   "%s, mode %04o, daemon %d", path, (unsigned)(st.st_mode & 07777), (int)d->pid);
}

static void check_admin(struct ctl_doctor *d) {
    struct err e = {0};
    int fd = ctl_connect(d->c->admin_path, &e);
    if (fd >= 0) {
        close(fd);
        ctl_doctor_say(d, CTL_GOOD, "admin socket", NULL, "%s", d->c->admin_path);
        return;
    }
    ctl_doctor_say(d, CTL_NOTE, "admin socket",
                   e.code == -EACCES ? "`ebb limit SIZE` needs the daemon's user or root"
                                     : "`ebb limit SIZE` needs it: give --admin PATH",
                   "%s", e.msg);
}

static void check_health(struct ctl_doctor *d) {
    struct err e = {0};
    struct ctl_http *h = NULL;
    if (d->pid == 0) return; /* check_socket() said why */
    if (ctl_http_open(d->c->socket_path, "GET", "/health", NULL, -1, 5000, &h, &e) < 0) {
        ctl_doctor_say(d, CTL_BAD, "health", "look at its log: journalctl -u ebbd", "%s", e.msg);
        return;
    }
    int status = ctl_http_head(h)->status;
    ctl_http_close(h);
    if (status == 200)
        ctl_doctor_say(d, CTL_GOOD, "health", NULL, "the daemon answers and is ready");
    else if (status == 503)
        ctl_doctor_say(d, CTL_NOTE, "health", "wait, or look at `journalctl -u ebbd`",
                       "the daemon is loading or stopping");
    else
        ctl_doctor_say(d, CTL_BAD, "health", "is this ebbd's socket?", "GET /health answers %d",
                       status);
}

/* --- what its status says --- */

static void check_precision(struct ctl_doctor *d) {
    double at = 0, of = 0, level = 0;
    ctl_field_number(d->status, "position", &at);
    ctl_field_number(d->status, "positions", &of);
    ctl_field_number(d->status, "level", &level);
    const char *reason = ctl_field_string(ctl_field(d->status, "memory"), "reason");
    if (level >= 3)
        ctl_doctor_say(d, CTL_BAD, "precision",
                       "memory is too short even for the lowest rungs: end other programs, lower "
                       "serve.ctx or serve.slots, or take a smaller model",
                       "position %.0f of %.0f and over the budget (%s)", at, of, reason);
    else
        ctl_doctor_say(d, of > 0 && at >= of ? CTL_NOTE : CTL_GOOD, "precision",
                       "memory is short: everything is at its lowest rung; see `ebb status`",
                       "position %.0f of %.0f", at, of);
}

static void check_paging(struct ctl_doctor *d) {
    const cJSON *paging = ctl_field(d->status, "paging");
    const char *state = ctl_field_string(paging, "state");
    if (strcmp(state, "failing") == 0)
        ctl_doctor_say(d, CTL_BAD, "paging",
                       "requests that need paged units fail: look at the disk that holds the pack "
                       "(dmesg) and at `journalctl -u ebbd`",
                       "paged units cannot be read");
    else if (cJSON_IsObject(paging))
        ctl_doctor_say(d, CTL_GOOD, "paging", NULL, "%s, %s units", state,
                       ctl_field_text(paging, "units", 1, 0).s);
}

static void check_heat(struct ctl_doctor *d) {
    const cJSON *heat = ctl_field(d->status, "heat");
    double stage;
    if (!ctl_field_number(heat, "stage", &stage)) return;
    ctl_doctor_say(
        d, stage > 0 ? CTL_NOTE : CTL_GOOD, "heat",
        "it is slowed down to stay cool: a heat sink or a fan gives the speed back",
        "stage %.0f, duty %s, headroom %s%s", stage, ctl_field_unit(d->status, "duty", 1, 0, "%").s,
        ctl_field_unit(heat, "headroom_celsius", 1, 1, " C").s,
        cJSON_IsTrue(ctl_field(heat, "cooling")) ? ", the clock is throttled for heat" : "");
}

/* Those that share the machine's memory with it: nothing is wrong with that. */
static void check_peers(struct ctl_doctor *d) {
    const cJSON *peer;
    cJSON_ArrayForEach(peer, ctl_field(d->status, "peers")) {
        bool is_rising = cJSON_IsTrue(ctl_field(peer, "rising"));
        ctl_doctor_say(
            d, CTL_GOOD, "peer", NULL, "%.40s (pid %s) shares memory: weight %s, holds %s%s",
            ctl_field_string(peer, "name"), ctl_field_text(peer, "pid", 1, 0).s,
            ctl_field_text(peer, "weight", 1, 0).s, ctl_field_bytes(peer, "held_bytes").s,
            is_rising ? "; it rises, and the others wait" : "");
    }
}

static void check_reload(struct ctl_doctor *d) {
    const cJSON *reload = ctl_field(d->status, "reload");
    const char *result = ctl_field_string(reload, "result"),
               *error = ctl_field_string(reload, "error");
    bool has_failed = strcmp(result, "failed") == 0;
    if (!cJSON_IsObject(reload)) return;
    ctl_doctor_say(d, has_failed ? CTL_NOTE : CTL_GOOD, "reload",
                   "it goes on with the settings it had: correct the file, then `ebbd "
                   "--check-config` and `systemctl reload ebbd`",
                   "the last one: %.20s%s%.300s", result, has_failed ? ", " : "",
                   has_failed ? error : "");
}

/* Best first. */
static void check_source(struct ctl_doctor *d) {
    static const struct {
        const char *name;
        enum ctl_verdict verdict;
        const char *finding;
    } sources[] = {
        {"watch", CTL_GOOD, "the service manager's pressure file: told at once when memory stalls"},
        {"cgroup", CTL_GOOD, "stalls of its own cgroup"},
        {"system", CTL_GOOD, "stalls of the whole system (PSI)"},
        {"vmstat", CTL_NOTE, "page faults of the whole system, as the kernel accounts no stalls"},
        {"meminfo", CTL_NOTE, "MemAvailable alone: it cannot see that memory stalls"},
    };
    const char *name = ctl_field_string(ctl_field(d->status, "memory"), "source");
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        if (strcmp(name, sources[i].name) != 0) continue;
        ctl_doctor_say(d, sources[i].verdict, "source",
                       "the findings `pressure` and `watch` below say how to give it a better one",
                       "the governor goes by %s (%s)", sources[i].finding, name);
        return;
    }
    ctl_doctor_say(d, CTL_BAD, "source",
                   "nothing grows while memory is unknown: see the sensors below",
                   "the governor has no reading of memory (%.40s)", name);
}

static void check_status(struct ctl_doctor *d) {
    struct err e = {0};
    if (d->pid == 0) return;
    if (ctl_get(d->c->socket_path, "/ebb/status", -1, 5000, &d->status, &e) < 0) {
        ctl_doctor_say(d, CTL_BAD, "status",
                       "is the daemon older than this client? See `journalctl -u ebbd`", "%s",
                       e.msg);
        return;
    }
    check_precision(d);
    check_source(d);
    check_paging(d);
    check_heat(d);
    check_peers(d);
    check_reload(d);
}

void ctl_doctor_daemon(struct ctl_doctor *d) {
    check_socket(d);
    check_admin(d);
    check_health(d);
    check_status(d);
}
