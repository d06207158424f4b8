/* The daemons of one machine that share its memory: a file with a record for each, what each may
 * use of the whole (core/share.h), and whose turn it is to rise.
 *
 * A daemon writes its own record alone and keeps a lock (F_OFD) on its place for as long as it
 * lives, so that what a dead one left is known as that. Records have a checksum, as they are read
 * while others write; what does not hold together is left out after a second, like a record
 * without its lock. The file is opened once, as opening charges memory: above the own cgroup's
 * limit nothing here touches it.
 *
 * One daemon rises at a time, so that no two grow into the same room: it holds a lock on a byte
 * behind the records, and its record says so by name. A turn ends a little after the last step, so
 * that what was taken shows in the readings, and after ten seconds in any case. Who is refused for
 * a minute without a break rises all the same: nobody can block the others for ever. Falling needs
 * no turn. Thread: one; the clock is the caller's. */
#ifndef EBB_DAEMON_PEERS_H
#define EBB_DAEMON_PEERS_H

#include "core/gov.h"
#include "core/share.h"

struct err;
struct peers;

enum {
    PEERS_MAX_NAME = 48,
    PEERS_RECORD_BYTES = 128,
    PEERS_LOOK_US = 1000000,      /* between two looks for others while there is none, and between
                                   * two looks whether those that are known live */
    PEERS_SETTLE_US = 2000000,    /* from the last step of a turn to its end */
    PEERS_TURN_US = 10000000,     /* a turn's greatest length */
    PEERS_REST_US = 1000000,      /* after a turn that was cut short */
    PEERS_PATIENCE_US = 60000000, /* of refusals, until one rises all the same */
    PEERS_START_US = 3000000,     /* for the others to make way for one that starts: a look, two
                                   * readings and the bytes' way back are half of it */
};

struct peers_other {
    char name[PEERS_MAX_NAME]; /* printable ASCII */
    uint64_t id;               /* its process */
    struct share_claim claim;
    bool is_rising;
};

/* A record as bytes and back. Pure. decode: false if it is none, of another version, or damaged. */
void peers_encode(const struct peers_other *o, uint8_t ret[PEERS_RECORD_BYTES]);
bool peers_decode(const uint8_t record[PEERS_RECORD_BYTES], struct peers_other *ret);

/* Opens or makes the file and takes a place in it. `name` is shown to people, and copied as far as
 * it fits. 0; -EBUSY (all places are taken), -EINVAL (no regular file), -ENOMEM or the system's
 * errors. *ret is owned by the caller. */
int peers_open(const char *path, const char *name, struct peers **ret, struct err *e) MUST_CHECK;
void peers_close(struct peers *p); /* accepts NULL, as do all below */

/* What the caller says of itself before each decision. */
struct peers_self {
    struct share_claim claim; /* held: caches that give way at once included */
    uint64_t reserve_bytes;   /* of what the system has available */
    bool is_over_limit;       /* its cgroup is: the file is left alone */
};

/* Before the first decision: makes oneself known, and says whether the own share is free, so that
 * one starts in it rather than in what the others have left. True where nothing is shared. To be
 * asked again soon, for PEERS_START_US at most. *in as below. */
bool peers_is_free(struct peers *p, const struct peers_self *self, uint64_t now_us,
                   struct gov_input *in);

/* Before gov_step(): reads the others' records if *in has a reading of the system's memory, and
 * sets share_bytes and is_other_rising of *in. */
void peers_before(struct peers *p, const struct peers_self *self, uint64_t now_us,
                  struct gov_input *in);
/* After it: asks for the turn where that is all that was missing, or ends it, and writes the own
 * record if it changed. What is coming counts as held (coming_bytes, if that is more), so that the
 * others do not take what we are about to use for a lack of memory. */
void peers_after(struct peers *p, const struct gov_input *in, const struct gov_output *out,
                 uint64_t coming_bytes, uint64_t now_us);

uint64_t peers_share_bytes(const struct peers *p); /* 0: no other daemon is known */
bool peers_has_turn(const struct peers *p);
/* Those that live, by place; valid until the next peers_before(). */
const struct peers_other *peers_others(const struct peers *p, uint32_t *ret_n);

#endif
