/* A folder that holds proc/ and sys/ as a test wants them: files are put in place in one step. */
#ifndef EBB_TESTS_UNIT_ROOT_H
#define EBB_TESTS_UNIT_ROOT_H

#include <stddef.h>

/* A new empty one in the test's temporary folder, removed at the end. Lives until the next call. */
const char *root_make(void);
/* Path of `rel` below the newest root, with folders made as needed. Lives until the next call. */
const char *root_path(const char *rel);
/* Puts a file there by rename, in place of whatever it was. */
void root_put(const char *rel, const char *text);
void root_put_n(const char *rel, const char *text, size_t n);
/* Removes a file or an empty folder. */
void root_remove(const char *rel);
void root_put_fifo(const char *rel);
void root_put_folder(const char *rel);

/* sys/class/thermal/thermal_zone<number>: type and millidegrees ("45000"), without trip points. */
void root_put_zone(unsigned number, const char *type, const char *temp);
void root_put_trip(unsigned number, unsigned trip, const char *type, const char *temp);
void root_remove_zone(unsigned number); /* one without trip points */

/* The files of one cgroup below sys/fs/cgroup<path>, with a memory.stat of those bytes. */
void root_put_cgroup(const char *path, const char *current, const char *high, const char *max,
                     unsigned long inactive_file, unsigned long active_file);

#endif
