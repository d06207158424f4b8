/* Whether a folder of the kernel's has other names than before, without opening anything.
 *
 * To look through /sys/class/thermal is a hundred opens, each of which sleeps where a cgroup is
 * above its memory.high (sense_file.h). Its names tell whether that is worth it: a kept descriptor
 * is read from its start, and that is not charged. What names do not tell, such as a trip point
 * that somebody set, is found by the whole look that is due once in SENSE_FOLDER_LOOKS.
 *
 * A folder that is not the kernel's, as in a root that a test made, is never taken for the same.
 * No function allocates. One thread at a time. */
#ifndef EBB_DAEMON_SENSE_FOLDER_H
#define EBB_DAEMON_SENSE_FOLDER_H

#include "core/defs.h"

enum { SENSE_FOLDER_LOOKS = 60 };

/* Of the owner's memory; its fields are this module's. */
struct sense_folder {
    int fd; /* -1 = not open */
    bool is_known;
    uint64_t names;   /* a hash over them, 0 where there is no folder */
    unsigned n_looks; /* since the last whole one */
};

void sense_folder_init(struct sense_folder *f);
/* Accepts one that is not open. */
void sense_folder_close(struct sense_folder *f);

/* True if the names are those of the call before, or if the folder is still not there. `path` is
 * the same at each call. Opens the folder if it is not open. */
bool sense_folder_is_same(struct sense_folder *f, const char *path);

#endif
