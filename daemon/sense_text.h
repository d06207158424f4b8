/* Small kernel files: read whole without ever blocking on what is no file, and numbers taken out of
 * them exactly or not at all. Shared by the sensors; none of these knows what a file means. */
#ifndef EBB_DAEMON_SENSE_TEXT_H
#define EBB_DAEMON_SENSE_TEXT_H

#include "core/defs.h"

struct err;

/* Longest path that a sensor makes. */
enum { SENSE_MAX_PATH = 1024 };

/* root + what `fmt` gives (which begins with '/') into ret[SENSE_MAX_PATH]; the root "/" counts as
 * nothing. 0 or -ENAMETOOLONG. */
int sense_text_path(char *ret, struct err *e, const char *root, const char *fmt, ...)
    PRINTF_LIKE(4, 5) MUST_CHECK;

/* Reads at most `cap` bytes of a regular file; what lies beyond is not looked at. 0 with *ret_n,
 * -EISDIR, -ENOTSUP (a FIFO, a device, a socket) or the system's errors, with the path in front.
 * Never blocks on a FIFO; a driver's own file may block for as long as the driver likes. */
int sense_text_read(const char *path, char *ret, size_t cap, size_t *ret_n,
                    struct err *e) MUST_CHECK;

/* s[n] is one decimal number and nothing else. 0 or -EBADMSG with a reason ("no number", ...). */
int sense_text_number(const char *s, size_t n, uint64_t *ret, struct err *e) MUST_CHECK;

/* The file of one value: a number and a newline, as every such file of the kernel is. Without its
 * newline the number may have been cut. The second takes a sign. 0 or -EBADMSG. */
int sense_text_value(const char *text, size_t n, uint64_t *ret, struct err *e) MUST_CHECK;
int sense_text_signed(const char *text, size_t n, int64_t *ret, struct err *e) MUST_CHECK;

/* The first line, from *at on, that begins with `key`: its rest without the newline into
 * *ret_rest[*ret_n], and *at moves behind it. 0, -ENODATA (none) or -EBADMSG (it is cut). */
int sense_text_line(const char *text, size_t n, size_t *at, const char *key, const char **ret_rest,
                    size_t *ret_n, struct err *e) MUST_CHECK;

/* The number on the first line "<key> <number>". 0, -ENODATA (no such line) or -EBADMSG. */
int sense_text_key(const char *text, size_t n, const char *key, uint64_t *ret,
                   struct err *e) MUST_CHECK;

/* Numbers of the entries "<prefix><number>" of a folder, rising: at most `cap` into ret[], how many
 * there are beyond those into *ret_n_beyond. 0 or the system's errors. */
int sense_text_numbered(const char *path, const char *prefix, uint32_t *ret, size_t cap,
                        size_t *ret_n, size_t *ret_n_beyond, struct err *e) MUST_CHECK;

/* The text of a file of one line without its newline, as a string that can be printed: other bytes
 * than ASCII's visible ones and the blank are refused. 0 or -EBADMSG. */
int sense_text_word(const char *text, size_t n, char *ret, size_t cap, struct err *e) MUST_CHECK;

#endif
