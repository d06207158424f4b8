/* `ebb top`: one daemon, live. Asks for its status at a fixed pace, follows its events between, and
 * shows both: as a screen on a terminal, else as a line for each answer.
 *
 * A daemon that goes away is waited for, and the screen says so; only a first call that finds
 * nobody ends the program, as a wrong path would. On a terminal every signal that would end us is
 * read from a descriptor, so that there is one way out and the terminal is given back on it. */
#include "daemon/ctl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/err.h"
#include "daemon/ctl_field.h"
#include "daemon/ctl_http.h"
#include "daemon/ctl_screen.h"
#include "daemon/ctl_tty.h"
#include "daemon/ctl_view.h"

/* The daemon answers in a millisecond; one that is silent for this long is stuck, and shown so. */
enum { WAIT_MS = 5000 };
/* A stream of events that could not be had is asked for again after this. */
static const int64_t retry_us = 5000000;
/* Between samples, a storm of events draws no more often than this. */
static const int64_t draw_us = 100000;
/* Reads of events before other things have their turn. */
enum { EVENT_READS = 8 };

struct top {
    const struct ctl *c;
    struct ctl_view view;
    struct ctl_screen screen;
    struct ctl_tty tty;
    struct ctl_wake wake;
    struct ctl_http *events; /* owned; NULL: not followed now */
    struct ctl_sse sse;
    int64_t next_us;        /* of the next sample */
    int64_t drawn_us;       /* of the last frame */
    int64_t events_next_us; /* of the next try to follow events */
    double uptime_s;        /* of the last answer */
    long n_samples;
    bool is_screen;
    bool is_dirty;   /* what is shown is not what is known */
    bool is_fresh;   /* what the terminal shows is unknown */
    bool is_greeted; /* an event has come on this stream */
    bool is_over;
    int write_error; /* of standard output: a negative errno */
    int end_signal;  /* that ends us, to be raised when the terminal is restored; 0 = none */
};

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* --- events --- */

static bool take_event(void *ud, const char *event, const char *data) {
    struct top *t = ud;
    /* The daemon begins each stream with its state, which is on the screen already. */
    bool is_greeting = !t->is_greeted && strcmp(event, "state") == 0;
    t->is_greeted = true;
    if (is_greeting) return true;
    ctl_view_event(&t->view, time(NULL), event, data);
    t->is_dirty = true;
    return true;
}

static void events_leave(struct top *t, const char *why) {
    ctl_http_close(t->events);
    t->events = NULL;
    ctl_sse_fini(&t->sse);
    snprintf(t->view.events_why, sizeof(t->view.events_why), "%s", why);
    t->events_next_us = now_us() + retry_us;
}

static void events_read(struct top *t) {
    char buf[4096];
    struct err e = {0};
    for (int i = 0; t->events && i < EVENT_READS; i++) {
        int64_t n = ctl_http_read(t->events, buf, sizeof(buf), &e);
        if (n == -ETIMEDOUT || n == -EINTR) return; /* nothing more now, or a key first */
        if (n <= 0)
            events_leave(t, n == 0 ? "the daemon ended the stream" : e.msg);
        else if (ctl_sse_feed(&t->sse, buf, (size_t)n, take_event, t) < 0)
            events_leave(t, "an event is too long");
    }
}

static void events_follow(struct top *t) {
    struct err e = {0};
    if (ctl_http_open(t->c->socket_path, "GET", "/ebb/events", NULL, t->wake.fd, WAIT_MS,
                      &t->events, &e) < 0) {
        if (e.code != -EINTR) events_leave(t, e.msg);
        return;
    }
    if (ctl_http_head(t->events)->status != 200) {
        events_leave(t, "the daemon does not let us follow them now");
        return;
    }
    t->view.events_why[0] = '\0';
    ctl_http_set_wait(t->events, 0);
    t->is_greeted = false;
    events_read(t); /* what came with the head does not make the descriptor readable */
}

/* --- samples --- */

/* The ladder is fixed for a model; it is read again when it may be another one's. */
static int read_ladder(struct top *t, const cJSON *before) {
    const cJSON *now = t->view.status;
    struct err e = {0};
    bool is_same = before &&
                   strcmp(ctl_field_string(before, "hash"), ctl_field_string(now, "hash")) == 0;
    if (t->view.ladder && is_same) return 0;
    cJSON_Delete(t->view.ladder);
    t->view.ladder = NULL;
    int r = ctl_get(t->c->socket_path, "/ebb/ladder", t->wake.fd, WAIT_MS, &t->view.ladder, &e);
    return r == -EINTR ? r : 0; /* without it the units are shown as unknown */
}

static void tell_change(struct top *t, bool had_answer) {
    struct ctl_view *v = &t->view;
    double up = 0;
    if (!v->status) {
        if (had_answer) ctl_view_say(v, v->now, "the daemon does not answer");
        return;
    }
    bool has_up = ctl_field_number(v->status, "uptime_s", &up);
    if (has_up && v->answered && up < t->uptime_s)
        ctl_view_say(v, v->now, "the daemon has started again");
    else if (v->answered && !had_answer)
        ctl_view_say(v, v->now, "the daemon answers again");
    if (!had_answer) t->events_next_us = 0; /* the stream ended with the old one */
    t->uptime_s = has_up ? up : 0;
}

/* One look at the daemon. 0, also when it does not answer, or -EINTR: not finished. */
static int sample(struct top *t) {
    struct ctl_view *v = &t->view;
    cJSON *before = v->status, *status = NULL;
    struct err e = {0};
    int r = ctl_get(t->c->socket_path, "/ebb/status", t->wake.fd, WAIT_MS, &status, &e);
    if (r == -EINTR) return r;
    v->now = time(NULL);
    v->status = status;
    v->why = e;
    r = status ? read_ladder(t, before) : 0;
    tell_change(t, before != NULL);
    if (status) v->answered = v->now;
    cJSON_Delete(before);
    if (r == -EINTR) return 0; /* the status is there; the next look reads the ladder */
    if (status && t->is_screen && !t->events && now_us() >= t->events_next_us) events_follow(t);
    return 0;
}

/* --- showing --- */

static void resize(struct top *t) {
    unsigned n_cols, n_rows;
    ctl_tty_size(&t->tty, &n_cols, &n_rows);
    t->is_fresh = t->is_dirty = true;
    if (ctl_screen_init(&t->screen, n_cols, n_rows) < 0 && !t->screen.cells) t->is_over = true;
}

static void draw(struct top *t) {
    size_t n;
    ctl_view_screen(&t->view, &t->screen);
    const char *frame = ctl_screen_draw(&t->screen, t->c->has_colour, t->is_fresh, &n);
    int r = ctl_tty_write(&t->tty, frame, n);
    t->drawn_us = now_us();
    if (r == 0) t->is_fresh = t->is_dirty = false;
    if (r < 0 && r != -EAGAIN) t->is_over = true; /* the terminal is gone */
}

static void show_sample(struct top *t) {
    t->n_samples++;
    t->is_dirty = true;
    if (t->c->n_events && t->n_samples >= t->c->n_events) t->is_over = true;
    if (t->is_screen) {
        draw(t);
        return;
    }
    if (!t->c->is_json)
        ctl_view_line(&t->view, stdout);
    else if (!ctl_view_json(&t->view, stdout))
        fputs("ebb: no memory for a line\n", stderr);
    if (fflush(stdout) != 0) {
        t->write_error = -errno;
        t->is_over = true;
    }
}

/* --- signals and keys --- */

static const int screen_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT};
static const int line_signals[] = {SIGINT};

static int enter(struct top *t) {
    int r = ctl_tty_enter(&t->tty);
    if (r == 0) resize(t);
    return r;
}

/* Ctrl-Z: the shell gets its terminal, and we ours when it lets us go on. */
static void pause_here(struct top *t) {
    bool is_entered = t->tty.is_entered;
    ctl_tty_leave(&t->tty);
    ignore_result(raise(SIGSTOP));
    if (is_entered && enter(t) < 0) t->is_over = true;
}

/* Stopped by another than Ctrl-Z: who had the terminal since may have left it otherwise. */
static void take_back(struct top *t) {
    if (!t->tty.is_entered) return;
    ctl_tty_leave(&t->tty);
    if (enter(t) < 0) t->is_over = true;
}

static void take_signal(struct top *t, int signal) {
    switch (signal) {
    case SIGINT: t->is_over = true; return; /* how one stops looking */
    case SIGWINCH: resize(t); return;
    case SIGTSTP: pause_here(t); return;
    case SIGCONT: take_back(t); return;
    default: t->is_over = true; t->end_signal = signal;
    }
}

static void take_wakes(struct top *t) {
    int signal, key;
    while ((signal = ctl_wake_signal(&t->wake)) != 0) take_signal(t, signal);
    while ((key = ctl_wake_key(&t->wake)) > 0) {
        if (key == 'q' || key == 'Q') t->is_over = true;
        if (key == 'L' - '@') t->is_fresh = t->is_dirty = true; /* Ctrl-L */
    }
}

static int open_wake(struct top *t) {
    const int *all = t->is_screen ? screen_signals : line_signals;
    size_t n = t->is_screen ? ARRAY_LEN(screen_signals) : ARRAY_LEN(line_signals);
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < n; i++) sigaddset(&set, all[i]);
    return ctl_wake_open(&t->wake, &set, t->is_screen && isatty(STDIN_FILENO) ? STDIN_FILENO : -1);
}

/* --- the loop --- */

static void wait_for_something(struct top *t) {
    struct pollfd p[2] = {{.fd = t->wake.fd, .events = POLLIN},
                          {.fd = t->events ? ctl_http_fd(t->events) : -1, .events = POLLIN}};
    int64_t until = t->next_us, now = now_us();
    if (t->is_screen && t->is_dirty) until = MIN(until, t->drawn_us + draw_us);
    int wait_ms = until > now ? (int)((until - now + 999) / 1000) : 0;
    ignore_result(poll(p, 2, wait_ms)); /* whatever woke us, everything is looked at */
    if (p[1].revents) events_read(t);
}

static void run(struct top *t) {
    while (!t->is_over) {
        if (now_us() >= t->next_us && sample(t) == 0) {
            /* A pace, not a pause; but what was missed is not made up for. */
            t->next_us = MAX(t->next_us, now_us() - (int64_t)t->c->interval_ms * 1000) +
                         (int64_t)t->c->interval_ms * 1000;
            show_sample(t);
        } else if (t->is_screen && t->is_dirty && now_us() >= t->drawn_us + draw_us) {
            draw(t);
        }
        if (!t->is_over) wait_for_something(t);
        take_wakes(t);
    }
}

/* Ends as the signal would have ended us, for those who ask how we ended. */
static void end_by(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    ignore_result(raise(signal));
    ignore_result(sigprocmask(SIG_UNBLOCK, &set, NULL));
}

int ctl_top(const struct ctl *c) {
    struct top t = {.c = c, .tty = {.out_fd = STDOUT_FILENO}};
    struct err e = {0};
    int code = CTL_OK;
    t.is_screen = !c->is_json && c->has_screen && isatty(STDOUT_FILENO);
    int r = open_wake(&t);
    if (r < 0) {
        err_sys(&e, r, "cannot wait for signals");
        code = ctl_fail(&e);
        goto out;
    }
    do {
        r = sample(&t);
        take_wakes(&t);
    } while (r == -EINTR && !t.is_over);
    if (t.is_over) goto out;
    /* A daemon that is busy or loading answers, and is worth waiting for. */
    if (!t.view.status && t.view.why.code != -EAGAIN) {
        code = ctl_fail(&t.view.why);
        goto out;
    }
    t.next_us = now_us() + (int64_t)c->interval_ms * 1000;
    r = t.is_screen ? enter(&t) : 0;
    if (r < 0) {
        err_sys(&e, r, "cannot use this terminal");
        code = ctl_fail(&e);
        goto out;
    }
    show_sample(&t);
    run(&t);
    if (!t.is_screen && !t.view.status) code = ctl_exit_code(t.view.why.code);
    if (t.write_error) {
        fprintf(stderr, "ebb: cannot write a line: %s\n", strerror(-t.write_error));
        code = CTL_SERVER;
    }
out:
    ctl_tty_leave(&t.tty);
    events_leave(&t, "");
    ctl_view_fini(&t.view);
    ctl_screen_fini(&t.screen);
    ctl_wake_close(&t.wake);
    if (t.end_signal) end_by(t.end_signal);
    return code;
}
