/* The terminal of `ebb top`: taken for a full screen, and given back as it was. Whatever ends the
 * program must go through ctl_tty_leave(); that is why the signals that end it are read from a
 * descriptor and not delivered. One thread. */
#ifndef EBB_DAEMON_CTL_TTY_H
#define EBB_DAEMON_CTL_TTY_H

#include <signal.h>
#include <termios.h>

#include "core/defs.h"

struct ctl_tty {
    int out_fd;           /* the terminal */
    bool is_entered;      /* the next is good, and the screen is ours */
    struct termios saved; /* the modes that it had */
};

/* Turns to the alternate screen, hides the cursor, turns off echo and line input. 0 or the system's
 * error (-ENOTTY, -EIO); on failure the terminal is as it was. */
int ctl_tty_enter(struct ctl_tty *t) MUST_CHECK;
/* Gives the terminal back. Does nothing if it is not entered. */
void ctl_tty_leave(struct ctl_tty *t);
/* Its size; 80 x 24 if it does not know (a serial line says 0 x 0). */
void ctl_tty_size(const struct ctl_tty *t, unsigned *ret_cols, unsigned *ret_rows);
/* One frame. 0, -EAGAIN if the terminal takes nothing now (Ctrl-S: the frame is dropped), or the
 * system's error. */
int ctl_tty_write(const struct ctl_tty *t, const char *data, size_t n) MUST_CHECK;

/* What wakes a wait: the signals of `set`, which are blocked from now on, and keys. */
struct ctl_wake {
    int fd;        /* readable when there is something; -1: not open */
    int signal_fd; /* -1 */
    int key_fd;    /* -1: no keys */
};
/* key_fd: a terminal to read keys from, or -1. 0 or the system's error. ctl_wake_close() ends it in
 * either case. */
int ctl_wake_open(struct ctl_wake *w, const sigset_t *set, int key_fd) MUST_CHECK;
void ctl_wake_close(struct ctl_wake *w);
/* The next signal, 0 if none waits. Never blocks. */
int ctl_wake_signal(const struct ctl_wake *w);
/* The next key; 0 if none waits; -1 if there will be none, and they are not waited for again. Never
 * blocks. */
int ctl_wake_key(struct ctl_wake *w);

#endif
