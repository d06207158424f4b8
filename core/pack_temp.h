/* A file that appears under its name whole or not at all. It is written as NAME.tmp.PID beside the
 * final name, locked with flock() while its writer lives, and renamed at the end.
 *
 * One writer a name: while a temporary file of that name is locked, another writer is refused;
 * an unlocked one was left by a dead writer and is removed, or taken over by who asks for it. The
 * look-round and the making of the new file happen under a lock on the folder, so two writers that
 * start together cannot miss each other. Thread: one at a time. */
#ifndef EBB_CORE_PACK_TEMP_H
#define EBB_CORE_PACK_TEMP_H

#include "core/defs.h"

struct err;
struct pack_temp;

/* 0, -EBUSY (another writer), -EINVAL (the name is a folder or a device) or the system's error. */
int pack_temp_create(const char *path, struct pack_temp **ret, struct err *e) MUST_CHECK;
/* As above, but goes on with the file that a dead writer left, contents and all, instead of making
 * one. -ENOENT if there is none. */
int pack_temp_adopt(const char *path, struct pack_temp **ret, struct err *e) MUST_CHECK;
/* Removes the file unless it was published. Accepts NULL. */
void pack_temp_destroy(struct pack_temp *t);

int pack_temp_write(struct pack_temp *t, uint64_t at, const void *data, size_t n,
                    struct err *e) MUST_CHECK;
/* 0, -EBADMSG (the file ends before) or the system's error. */
int pack_temp_read(struct pack_temp *t, uint64_t at, void *data, size_t n,
                   struct err *e) MUST_CHECK;
/* Path of the file as it is now, for reading it back; borrowed. */
const char *pack_temp_path(const struct pack_temp *t);
/* Contents to the disk. */
int pack_temp_sync(struct pack_temp *t, struct err *e) MUST_CHECK;
/* Renames to the final name, then the folder to the disk. */
int pack_temp_publish(struct pack_temp *t, struct err *e) MUST_CHECK;

#endif
