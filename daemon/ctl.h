/* What the files of the client `ebb` share: its options, its exit codes, and the calls that turn a
 * daemon's answer into a JSON tree or a line on standard error. One thread. */
#ifndef EBB_DAEMON_CTL_H
#define EBB_DAEMON_CTL_H

#include <stdio.h>

#include <cjson/cJSON.h>

#include "core/defs.h"

struct err;

/* Exit codes of `ebb`, documented in its help. 64 and up are those of sysexits.h. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_PROBLEM = 1,      /* doctor found a problem */
    CTL_USAGE = 2,        /* the command line is wrong */
    CTL_REFUSED = 65,     /* the daemon refused the request (4xx) */
    CTL_UNREACHABLE = 69, /* no daemon behind the socket, or it went away */
    CTL_SERVER = 70,      /* the daemon failed (5xx), or its answer makes no sense */
    CTL_BUSY = 75,        /* the daemon is busy or loading (503, 429): try again later */
    CTL_FORBIDDEN = 77,   /* no permission to use the socket */
    CTL_INTERRUPTED = 130,
};

struct ctl {
    const char *socket_path; /* borrowed, as all strings here, from main() */
    const char *admin_path;
    bool is_json;
    bool is_verbose; /* chat and complete: show swaps and speed on standard error */
    int signal_fd;   /* readable once SIGINT came; -1: SIGINT ends the program */
    /* chat, complete */
    const char *system_text;   /* NULL: none */
    const char *once;          /* chat: the one message; NULL: converse */
    const char *text;          /* complete: the prompt; limit: the size; NULL: none */
    double temperature, top_p; /* < 0: the daemon's default, as the next three */
    long top_k, max_tokens;
    int64_t seed;
    long n_events;    /* events, top: stop after so many; 0 = never */
    const char *root; /* doctor: folder that holds proc/ and sys/ */
    /* top */
    unsigned interval_ms;
    bool has_screen; /* the terminal can move its cursor */
    bool has_colour; /* it has colours, and they are wanted */
};

/* The commands; each returns an enum ctl_exit. */
int ctl_status(const struct ctl *c);
int ctl_ladder(const struct ctl *c);
int ctl_limit(const struct ctl *c);
int ctl_events(const struct ctl *c);
int ctl_chat(const struct ctl *c);
int ctl_complete(const struct ctl *c);
int ctl_doctor(const struct ctl *c);
int ctl_top(const struct ctl *c);

/* Sends a request on `socket_path` and reads the whole answer as JSON. On failure a line is on
 * standard error and the exit code is returned; else CTL_OK, and *ret is owned by the caller
 * (cJSON_Delete). `body` may be NULL. */
int ctl_call(const struct ctl *c, const char *socket_path, const char *method, const char *target,
             const cJSON *body, cJSON **ret);

/* GET without a word on standard error: 0 and *ret as above, or a negative errno with its sentence
 * in e: what ctl_http_open() gives; -EAGAIN for 503 and 429, -EACCES for 401 and 403, -EBADMSG for
 * any other answer that is not 200 with an object in it. cancel_fd: -EINTR as soon as it is
 * readable; -1: none. wait_ms: the longest silence. */
int ctl_get(const char *socket_path, const char *target, int cancel_fd, int wait_ms, cJSON **ret,
            struct err *e) MUST_CHECK;

/* The enum ctl_exit for an error. */
int ctl_exit_code(int negative_errno);
/* Says on standard error why a call failed, and gives its exit code. */
int ctl_fail(const struct err *e);
/* The same for an answer that is an error: its message, from the error object in body[n] if there
 * is one. `type`, if not NULL, gets the error's type. */
int ctl_refused(int status, const char *retry_after, const char *body, size_t n, char type[64]);

/* "1.5 GiB", in a buffer of the caller's. */
const char *ctl_bytes(double n, char buf[32]);
/* Prints text from the daemon. On a terminal, control characters are left out: what a model says
 * must not be able to move the cursor or retitle the window. */
void ctl_print(FILE *f, const char *text);

#endif
