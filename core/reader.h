/* Reads whole extents of a pack at a bounded rate and in pieces, so that a read can be cancelled
 * and shows that it goes on; if so wanted, beside the page cache.
 *
 * What is streamed each pass must not push other programs' files out of the page cache, nor count
 * as ours: the pack is opened once more with O_DIRECT. Where the file system has none of that, each
 * piece is read as usual and given back at once (POSIX_FADV_DONTNEED). Measured on a virtual disk
 * (ext4, 12 turns of 128 MiB, medians): direct 0.63 GB/s and 0.09 s of CPU a GB, advice 1.17 GB/s
 * and 0.11 s, as the kernel then reads ahead; nothing left in the cache by either. Direct it is all
 * the same, with two reads under way (pages.h): this happens when memory is short, and then it is
 * better not to want pages for each byte read. The second descriptor is
 * made from the first, so it is the file that was checked, whatever its name means by now. */
#ifndef EBB_CORE_READER_H
#define EBB_CORE_READER_H

#include <stdatomic.h>

#include "core/defs.h"

struct err;
struct pack;
struct pack_extent;
struct reader;

/* Both by any thread, relaxed: nothing else is ordered by them. */
struct reader_watch {
    atomic_bool is_cancelled; /* set it: the read ends within a piece, or 20 ms of pacing */
    _Atomic uint64_t n_bytes; /* read so far, over all reads that were given this */
};

/* `p` is borrowed for the reader's life. 0 or -ENOMEM. */
int reader_create(const struct pack *p, struct reader **ret, struct err *e) MUST_CHECK;
void reader_destroy(struct reader *r); /* accepts NULL */

/* While on, reads through the page cache end with -ECANCELED, as each of their pages would be
 * charged to a cgroup above its limit. Thread: any. */
void reader_hold(struct reader *r, bool on);
/* All reads together, from the next piece on; 0: no bound. Thread: any. */
void reader_set_rate(struct reader *r, uint64_t bytes_per_s);
/* False once the page cache had to be used. Thread: any. */
bool reader_is_direct(const struct reader *r);

/* Reads extent `x` of the reader's pack into dst[x->bytes], aligned to 4096, and verifies its
 * checksum. `is_cached`: through the page cache, as is right for what is read once and stays; it
 * leaves the cache when the read ends, as what is cached counts as ours. Never sooner than the rate
 * allows. 0, -EBADMSG (checksum, or the file got shorter), -ECANCELED or the system's error; on
 * failure the bytes in dst must not be used. Blocks on the disk. Thread: any, several at once. */
int reader_read(struct reader *r, const struct pack_extent *x, bool is_cached, void *dst,
                struct reader_watch *w, struct err *e) MUST_CHECK;

#endif
