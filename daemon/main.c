/* ebbd's main(): options, wiring, exit codes. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "core/err.h"
#include "daemon/listen.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/server.h"

/* sysexits.h, by name. */
enum {
    EXIT_OK = 0,
    EXIT_USAGE = 64,
    EXIT_DATA = 65,
    EXIT_NO_INPUT = 66,
    EXIT_UNAVAILABLE = 69,
    EXIT_IO = 74,
    EXIT_RUNNING = 75,
    EXIT_CONFIG = 78,
};

static const char help[] =
    "usage: ebbd --config FILE [--cpu=NAME]\n"
    "       ebbd [--config FILE] --check-config | --print-config\n"
    "\n"
    "Serves one language model on a Unix socket, and lowers and raises the precision of its\n"
    "layers as memory comes and goes.\n"
    "\n"
    "  --config FILE    settings; see --print-config\n"
    "  --check-config   read the settings, say what is wrong, end\n"
    "  --print-config   print all settings in force, with a comment each, and end\n"
    "  --cpu=NAME       use no better kernels than these: ref, avx2, avxvnni, avx512vnni, neon,\n"
    "                   dotprod, i8mm\n"
    "  --version, --help\n"
    "\n"
    "Signals: SIGTERM and SIGINT finish what runs (serve.drain_timeout) and end; a second one "
    "ends\n"
    "at once. SIGHUP reads the settings again; a bad file changes nothing.\n"
    "\n"
    "Sockets of a service manager (LISTEN_FDS) called api and admin are used as they are; one "
    "that\n"
    "is not handed over is made from the settings.\n"
    "\n"
    "Exit status: 0 ended as asked; 64 wrong options; 65 the pack is damaged or not supported;\n"
    "66 the pack cannot be opened; 69 not enough memory; 74 a socket or file cannot be made;\n"
    "75 another ebbd serves this socket; 78 wrong settings.\n";

struct options {
    const char *config_path;
    const char *cpu;
    bool checks;
    bool prints;
};

/* 0: go on; otherwise the exit status plus one, as 0 is one. */
static int parse_options(int argc, char **argv, struct options *ret) {
    enum { OPT_CONFIG = 1000, OPT_CHECK, OPT_PRINT, OPT_CPU, OPT_VERSION, OPT_HELP };
    static const struct option longs[] = {
        {"config", required_argument, NULL, OPT_CONFIG},
        {"check-config", no_argument, NULL, OPT_CHECK},
        {"print-config", no_argument, NULL, OPT_PRINT},
        {"cpu", required_argument, NULL, OPT_CPU},
        {"version", no_argument, NULL, OPT_VERSION},
        {"help", no_argument, NULL, OPT_HELP},
        {NULL, 0, NULL, 0},
    };
    int o;
    while ((o = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        switch (o) {
        case OPT_CONFIG: ret->config_path = optarg; break;
        case OPT_CHECK: ret->checks = true; break;
        case OPT_PRINT: ret->prints = true; break;
        case OPT_CPU: ret->cpu = optarg; break;
        case OPT_VERSION: puts("ebbd " EBB_VERSION); return EXIT_OK + 1;
        case 'h':
        case OPT_HELP: fputs(help, stdout); return EXIT_OK + 1;
        default: fputs("ebbd: try ebbd --help\n", stderr); return EXIT_USAGE + 1;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "ebbd: what is '%s'? Try ebbd --help\n", argv[optind]);
        return EXIT_USAGE + 1;
    }
    if (!ret->config_path && !ret->prints) {
        fputs("ebbd: --config FILE is missing; try ebbd --help\n", stderr);
        return EXIT_USAGE + 1;
    }
    return 0;
}

static int print_config(const struct config *c) {
    char *text = config_print(c);
    if (!text) {
        fputs("ebbd: no memory\n", stderr);
        return EXIT_UNAVAILABLE;
    }
    fputs(text, stdout);
    free(text);
    return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_OK : EXIT_IO;
}

static int exit_status(enum server_fail f) {
    switch (f) {
    case SERVER_FAIL_NONE: return EXIT_OK;
    case SERVER_FAIL_PACK: return EXIT_DATA;
    case SERVER_FAIL_NO_PACK: return EXIT_NO_INPUT;
    case SERVER_FAIL_MEMORY: return EXIT_UNAVAILABLE;
    case SERVER_FAIL_SOCKET: return EXIT_IO;
    case SERVER_FAIL_RUNNING: return EXIT_RUNNING;
    case SERVER_FAIL_CONFIG: return EXIT_CONFIG;
    }
    return EXIT_UNAVAILABLE;
}

static uint64_t watchdog_us(void) {
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (!usec || (pid && strtol(pid, NULL, 10) != (long)getpid())) return 0;
    return strtoull(usec, NULL, 10);
}

/* What the service manager tells us, once; no child of ours is meant by it. */
static int take_given(int ret_fds[LISTEN_COUNT], struct err *e) {
    int r = listen_parse_given(getenv("LISTEN_PID"), getenv("LISTEN_FDS"), getenv("LISTEN_FDNAMES"),
                               (long)getpid(), ret_fds, e);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return r;
}

static int serve(const struct config *c, const struct options *o) {
    struct log log;
    struct notify notify;
    struct server *s = NULL;
    struct err e = {0};
    enum server_fail why = SERVER_FAIL_NONE;

    log_init(&log, STDERR_FILENO, c->log_level);
    if (!notify_init(&notify, getenv("NOTIFY_SOCKET")))
        log_event(&log, LOG_WARN,
                  "NOTIFY_SOCKET cannot be used; the service manager hears nothing");
    struct server_opts so = {
        .config = c,
        .config_path = o->config_path,
        .cpu = o->cpu ? o->cpu : "",
        .log = &log,
        .notify = &notify,
        .watchdog_us = watchdog_us(),
        .pressure_watch = getenv("MEMORY_PRESSURE_WATCH"),
        .pressure_write = getenv("MEMORY_PRESSURE_WRITE"),
    };
    if (take_given(so.given_fds, &e) < 0) {
        log_event(&log, LOG_ERROR, "%s", e.msg);
        return EXIT_CONFIG;
    }
    log_event(&log, LOG_INFO, "ebbd " EBB_VERSION " starts with %s", c->model_path);
    if (server_create(&so, &s, &why, &e) < 0) {
        log_event(&log, LOG_ERROR, "%s", e.msg);
        _exit(exit_status(why)); /* what server_create() leaves is the kernel's to take back */
    }
    why = server_run(s);
    log_event(&log, LOG_INFO, "ended");
    /* With the inference thread still in a step nothing of its may be taken away. */
    if (!server_destroy(s)) _exit(exit_status(why));
    notify_fini(&notify);
    return exit_status(why);
}

/* To whoever asked; or, of a daemon that cannot start, to the journal as the error that it is. */
static void tell_config(const struct options *o, const struct err *e) {
    struct log log;
    if (o->checks || o->prints) {
        fprintf(stderr, "ebbd: %s\n", e->msg);
        return;
    }
    log_init(&log, STDERR_FILENO, LOG_ERROR);
    log_event(&log, LOG_ERROR, "%s", e->msg);
}

int main(int argc, char **argv) {
    struct options o = {0};
    struct config c;
    struct err e = {0};

    int r = parse_options(argc, argv, &o);
    if (r != 0) return r - 1;
    signal(SIGPIPE, SIG_IGN); /* a client that left is an error of its write() */
    signal(SIGXFSZ, SIG_IGN); /* so is a trace or a log that may not grow */
    sigset_t later;
    server_signals(&later);
    sigprocmask(SIG_BLOCK, &later, NULL);
    if (o.config_path) {
        r = config_read(o.config_path, &c, &e);
        if (r < 0) {
            tell_config(&o, &e);
            return r == -ENOMEM ? EXIT_UNAVAILABLE : EXIT_CONFIG;
        }
    } else {
        config_defaults(&c);
    }
    if (o.prints) return print_config(&c);
    if (o.checks) {
        printf("%s: ok\n", o.config_path);
        return EXIT_OK;
    }
    return serve(&c, &o);
}
