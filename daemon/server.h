/* The daemon: opens the pack, loads it in the background, serves, drains, stops. One struct server
 * is made in main() and passed down; there is no global. Thread: loop. */
#ifndef EBB_DAEMON_SERVER_H
#define EBB_DAEMON_SERVER_H

#include <signal.h>

#include "core/defs.h"
#include "daemon/listen.h"

struct config;
struct err;
struct log;
struct notify;
struct server;

struct server_opts {
    const struct config *config; /* copied */
    const char *config_path;     /* borrowed; read again on SIGHUP */
    const char *cpu;             /* limit of kernels, "" = none */
    struct log *log;             /* borrowed */
    struct notify *notify;       /* borrowed */
    uint64_t watchdog_us;        /* the service manager's, 0 = none */
    const char *pressure_watch;  /* MEMORY_PRESSURE_WATCH and _WRITE, or NULL; borrowed until */
    const char *pressure_write;  /* server_create() returns */
    /* Sockets that the service manager has bound, or -1; taken over. */
    int given_fds[LISTEN_COUNT];
};

/* What went wrong at the start, by the exit status it leads to. */
enum server_fail {
    SERVER_FAIL_NONE,
    SERVER_FAIL_PACK,
    SERVER_FAIL_NO_PACK,
    SERVER_FAIL_MEMORY,
    SERVER_FAIL_SOCKET,
    SERVER_FAIL_RUNNING,
    SERVER_FAIL_CONFIG
};

/* The signals that server_run() handles. main() blocks them first, so that one which comes during
 * server_create() waits and ends the daemon in order, with its sockets removed. */
void server_signals(sigset_t *ret);

/* Locks the sockets, binds those not given, opens and checks the pack, makes the engine. 0 or a
 * negative errno with *ret_fail. */
int server_create(const struct server_opts *o, struct server **ret, enum server_fail *ret_fail,
                  struct err *e) MUST_CHECK;
/* Serves until a signal ends it; logs by itself. SERVER_FAIL_NONE: an orderly end. */
enum server_fail server_run(struct server *s);
/* False if the inference thread still runs: then the process must end without more ado. */
bool server_destroy(struct server *s); /* accepts NULL */

#endif
