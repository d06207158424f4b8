/* `ebb doctor`: looks at what most often stands in the way, from the outside: the sockets and their
 * permissions, the daemon's health, and which signals of memory and heat this machine offers. Each
 * finding that is not good comes with what to do about it. It changes nothing. */
#include "daemon/ctl.h"

#include <errno.h>
#include <glob.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"
#include "daemon/ctl_http.h"

enum verdict { GOOD, NOTE, BAD };

struct doctor {
    const struct ctl *c;
    cJSON *findings; /* owned */
    unsigned n_bad, n_note;
    pid_t pid; /* of the daemon; 0 = unknown */
};

PRINTF_LIKE(5, 6)
static void say(struct doctor *d, enum verdict v, const char *check, const char *advice,
                const char *fmt, ...) {
    static const char *const words[] = {"ok", "note", "BAD"};
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    d->n_bad += v == BAD;
    d->n_note += v == NOTE;
    if (d->c->is_json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "check", check);
        cJSON_AddStringToObject(o, "verdict", words[v]);
        cJSON_AddStringToObject(o, "finding", text);
        if (v != GOOD && advice) cJSON_AddStringToObject(o, "advice", advice);
        cJSON_AddItemToArray(d->findings, o);
        return;
    }
    printf("%-5s %-14s ", words[v], check);
    ctl_print(stdout, text);
    putchar('\n');
    if (v != GOOD && advice) printf("      %-14s -> %s\n", "", advice);
}

/* First `n - 1` bytes of a file under the root; -1 if it cannot be read. */
static ssize_t read_under(const struct doctor *d, const char *rel, char *buf, size_t n) {
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", strcmp(d->c->root, "/") == 0 ? "" : d->c->root, rel);
    FILE *f = fopen(path, "re");
    if (!f) return -1;
    size_t got = fread(buf, 1, n - 1, f);
    bool is_bad = ferror(f) != 0;
    fclose(f);
    buf[got] = '\0';
    return is_bad ? -1 : (ssize_t)got;
}

/* --- the daemon --- */

static void check_socket(struct doctor *d) {
    const char *path = d->c->socket_path;
    struct stat st;
    struct err e = {0};
    if (stat(path, &st) < 0) {
        say(d, BAD, "socket",
            errno == EACCES ? "a folder on the way is closed to you: join the daemon's group"
                            : "start ebbd (systemctl start ebbd), or give --socket PATH",
            "%s: %s", path, strerror(errno));
        return;
    }
    if (!S_ISSOCK(st.st_mode)) {
        say(d, BAD, "socket", "give the path of ebbd's socket with --socket", "%s is not a socket",
            path);
        return;
    }
    int fd = ctl_connect(path, &e);
    if (fd < 0) {
        say(d, BAD, "socket",
            e.code == -EACCES ? "join the group that owns it: usermod -aG GROUP USER, log in again"
                              : "the daemon is gone and left its socket behind: start ebbd",
            "%s (mode %04o, uid %u, gid %u)", e.msg, (unsigned)(st.st_mode & 07777),
            (unsigned)st.st_uid, (unsigned)st.st_gid);
        return;
    }
    struct ucred peer;
    socklen_t n = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0) d->pid = peer.pid;
    close(fd);
    say(d, st.st_mode & 0002 ? NOTE : GOOD, "socket",
        "anyone on this machine may use it: set socket.mode to 0660", "%s, mode %04o, daemon %d",
        path, (unsigned)(st.st_mode & 07777), (int)d->pid);
}

static void check_admin(struct doctor *d) {
    struct err e = {0};
    int fd = ctl_connect(d->c->admin_path, &e);
    if (fd >= 0) {
        close(fd);
        say(d, GOOD, "admin socket", NULL, "%s", d->c->admin_path);
        return;
    }
    say(d, NOTE, "admin socket",
        e.code == -EACCES ? "`ebb limit SIZE` needs the daemon's user or root"
                          : "`ebb limit SIZE` needs it: give --admin PATH",
        "%s", e.msg);
}

static void check_health(struct doctor *d) {
    struct err e = {0};
    struct ctl_http *h = NULL;
    if (d->pid == 0) return; /* check_socket() said why */
    if (ctl_http_open(d->c->socket_path, "GET", "/health", NULL, -1, 5000, &h, &e) < 0) {
        say(d, BAD, "health", "look at its log: journalctl -u ebbd", "%s", e.msg);
        return;
    }
    int status = ctl_http_head(h)->status;
    ctl_http_close(h);
    if (status == 200)
        say(d, GOOD, "health", NULL, "the daemon answers and is ready");
    else if (status == 503)
        say(d, NOTE, "health", "wait, or look at `journalctl -u ebbd`",
            "the daemon is loading or stopping");
    else
        say(d, BAD, "health", "is this ebbd's socket?", "GET /health answers %d", status);
}

static void check_limits(struct doctor *d) {
    char rel[64], text[4096];
    unsigned long soft;
    if (d->pid == 0) return;
    snprintf(rel, sizeof(rel), "proc/%d/limits", (int)d->pid);
    if (strcmp(d->c->root, "/") != 0 || read_under(d, rel, text, sizeof(text)) < 0) {
        say(d, NOTE, "limits", "run doctor as the daemon's user or root",
            "cannot read the daemon's limits");
        return;
    }
    const char *line = strstr(text, "Max open files");
    if (!line || sscanf(line, "Max open files %lu", &soft) != 1) return;
    say(d, soft < 256 ? NOTE : GOOD, "limits", "raise LimitNOFILE= in the unit: each client is one",
        "the daemon may open %lu files", soft);
}

static void check_status(struct doctor *d) {
    cJSON *s = NULL;
    if (d->pid == 0) return;
    if (ctl_call(d->c, d->c->socket_path, "GET", "/ebb/status", NULL, &s) != CTL_OK) {
        say(d, BAD, "status", "is the daemon older than this client?", "no status to be had");
        return;
    }
    const cJSON *position = cJSON_GetObjectItemCaseSensitive(s, "position");
    const cJSON *positions = cJSON_GetObjectItemCaseSensitive(s, "positions");
    char *memory = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(s, "memory"));
    double at = cJSON_IsNumber(position) ? position->valuedouble : 0;
    double of = cJSON_IsNumber(positions) ? positions->valuedouble : 0;
    say(d, of > 0 && at >= of ? NOTE : GOOD, "precision",
        "memory is short: everything is at its lowest rung; see `ebb status`",
        "position %.0f of %.0f", at, of);
    say(d, GOOD, "sees", NULL, "memory %s", memory ? memory : "unknown");
    cJSON_free(memory);
    cJSON_Delete(s);
}

/* --- the machine --- */

static void check_meminfo(struct doctor *d) {
    char text[8192], a[32], b[32];
    unsigned long available, total;
    const char *line;
    if (read_under(d, "proc/meminfo", text, sizeof(text)) < 0) {
        say(d, BAD, "meminfo", "the unit must not set ProcSubset=pid",
            "proc/meminfo cannot be read: %s", strerror(errno));
        return;
    }
    line = strstr(text, "MemTotal:");
    if (!line || sscanf(line, "MemTotal: %lu", &total) != 1) total = 0;
    line = strstr(text, "MemAvailable:");
    if (!line || sscanf(line, "MemAvailable: %lu", &available) != 1) {
        say(d, BAD, "meminfo", "a kernel from 3.14 on has it", "no MemAvailable in proc/meminfo");
        return;
    }
    say(d, total && available < total / 10 ? NOTE : GOOD, "meminfo",
        "little is left: ebbd will keep to low precision", "%s of %s available",
        ctl_bytes((double)available * 1024, a), ctl_bytes((double)total * 1024, b));
}

static void check_pressure(struct doctor *d) {
    char text[512];
    if (read_under(d, "proc/pressure/memory", text, sizeof(text)) > 0)
        say(d, GOOD, "pressure", NULL, "the kernel reports memory stalls (PSI)");
    else
        say(d, NOTE, "pressure",
            "add psi=1 to the kernel's command line (Raspberry Pi: cmdline.txt), and reboot",
            "no PSI: ebbd goes by MemAvailable alone");
    if (read_under(d, "sys/fs/cgroup/cgroup.controllers", text, sizeof(text)) > 0 &&
        strstr(text, "memory"))
        say(d, GOOD, "cgroup", NULL, "version 2 with the memory controller");
    else
        say(d, NOTE, "cgroup",
            "add cgroup_enable=memory to the kernel's command line, after any cgroup_disable",
            "no memory controller: MemoryHigh= and MemoryMax= of the unit do nothing");
}

static void check_thermal(struct doctor *d) {
    char pattern[512];
    glob_t g;
    snprintf(pattern, sizeof(pattern), "%s/sys/class/thermal/thermal_zone*/temp",
             strcmp(d->c->root, "/") == 0 ? "" : d->c->root);
    size_t n = glob(pattern, 0, NULL, &g) == 0 ? g.gl_pathc : 0;
    if (n) globfree(&g);
    say(d, n ? GOOD : NOTE, "thermal", "nothing to do on a virtual machine", "%zu zones", n);
}

static void check_pages(struct doctor *d) {
    long page = sysconf(_SC_PAGESIZE);
    say(d, page <= 65536 ? GOOD : NOTE, "pages", "larger pages waste memory", "%ld bytes", page);
    struct rlimit as;
    if (getrlimit(RLIMIT_AS, &as) == 0 && as.rlim_cur != RLIM_INFINITY)
        say(d, NOTE, "address space", "a model needs room: ulimit -v unlimited",
            "limited to %llu bytes in this shell", (unsigned long long)as.rlim_cur);
}

int ctl_doctor(const struct ctl *c) {
    struct doctor d = {.c = c, .findings = cJSON_CreateArray()};
    check_socket(&d);
    check_admin(&d);
    check_health(&d);
    check_status(&d);
    check_limits(&d);
    check_meminfo(&d);
    check_pressure(&d);
    check_thermal(&d);
    check_pages(&d);
    if (c->is_json) {
        char *text = cJSON_Print(d.findings);
        if (text) ctl_print(stdout, text);
        putchar('\n');
        cJSON_free(text);
    } else if (d.n_bad || d.n_note) {
        printf("%u bad, %u to note\n", d.n_bad, d.n_note);
    } else {
        puts("all well");
    }
    cJSON_Delete(d.findings);
    return d.n_bad ? CTL_PROBLEM : CTL_OK;
}
