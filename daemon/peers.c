#include "daemon/peers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/err.h"

enum {
    MAGIC = 0x50454245, /* "EBEP" */
    VERSION = 1,
    RISING = 1, /* the one flag */
    /* A record: magic, version, id, weight, flags, held, most, name, zeros, sum. */
    AT_NAME = 40,
    AT_SUM = PEERS_RECORD_BYTES - 8,
    FILE_BYTES = SHARE_MAX * PEERS_RECORD_BYTES,
    TURN_AT = FILE_BYTES, /* the byte whose lock is the turn */
};

struct place {
    struct peers_other last; /* as last read whole */
    uint64_t good_us;        /* when that was */
    uint64_t probed_us;      /* when its lock was looked at */
    bool has, is_alive;
};

struct peers {
    char *path; /* owned */
    int fd;
    uint32_t own; /* place */
    struct peers_other self;
    uint8_t written[PEERS_RECORD_BYTES]; /* as last put into the file; zeros at first */
    struct place places[SHARE_MAX];
    struct peers_other others[SHARE_MAX];
    uint32_t n_others;
    bool has_looked, is_over_limit;
    uint64_t looked_us, checked_us; /* at the others; whether the file still has its name */
    uint64_t share_bytes;

    bool has_turn;
    uint64_t turn_us, busy_us; /* since when, and its last step */
    uint64_t rest_until_us;
    bool is_refused;
    uint64_t refused_us; /* since when, if is_refused */
};

/* ---- records ---- */

/* FNV-1a: against torn and foreign records, not against forgers, who may write any record. */
static uint64_t sum_of(const uint8_t *p, size_t n) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

void peers_encode(const struct peers_other *o, uint8_t ret[PEERS_RECORD_BYTES]) {
    memset(ret, 0, PEERS_RECORD_BYTES);
    bytes_put_u32(ret, MAGIC);
    bytes_put_u32(ret + 4, VERSION);
    bytes_put_u64(ret + 8, o->id);
    bytes_put_u32(ret + 16, o->claim.weight);
    bytes_put_u32(ret + 20, o->is_rising ? RISING : 0);
    bytes_put_u64(ret + 24, o->claim.held_bytes);
    bytes_put_u64(ret + 32, o->claim.most_bytes);
    memcpy(ret + AT_NAME, o->name, strnlen(o->name, PEERS_MAX_NAME - 1));
    bytes_put_u64(ret + AT_SUM, sum_of(ret, AT_SUM));
}

static bool is_name(const uint8_t *p) {
    size_t n = strnlen((const char *)p, PEERS_MAX_NAME);
    for (size_t i = 0; i < n; i++)
        if (p[i] < 0x20 || p[i] > 0x7e) return false;
    return n < PEERS_MAX_NAME;
}

bool peers_decode(const uint8_t record[PEERS_RECORD_BYTES], struct peers_other *ret) {
    struct bytes b;
    bytes_init(&b, record, PEERS_RECORD_BYTES);
    if (bytes_u32(&b) != MAGIC || bytes_u32(&b) != VERSION) return false;
    *ret = (struct peers_other){.id = bytes_u64(&b)};
    ret->claim.weight = bytes_u32(&b);
    ret->is_rising = (bytes_u32(&b) & RISING) != 0;
    ret->claim.held_bytes = bytes_u64(&b);
    ret->claim.most_bytes = bytes_u64(&b);
    const uint8_t *name = bytes_span(&b, PEERS_MAX_NAME);
    bytes_span(&b, AT_SUM - AT_NAME - PEERS_MAX_NAME);
    if (bytes_u64(&b) != sum_of(record, AT_SUM) || b.bad || !is_name(name)) return false;
    memcpy(ret->name, name, strnlen((const char *)name, PEERS_MAX_NAME));
    return true;
}

/* ---- the file ---- */

static struct flock lock_at(short type, uint32_t at) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)at, .l_len = 1};
}

static int set_lock(int fd, short type, uint32_t at) {
    struct flock l = lock_at(type, at);
    return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

static uint32_t place_at(uint32_t i) {
    return i * PEERS_RECORD_BYTES;
}

/* What a dead daemon left there must not look alive by our lock. */
static int clear_place(int fd, uint32_t own) {
    static const uint8_t none[PEERS_RECORD_BYTES];
    ssize_t n = pwrite(fd, none, sizeof(none), (off_t)place_at(own));
    if (n < 0) return -errno;
    return n == (ssize_t)sizeof(none) ? 0 : -ENOSPC;
}

static int take_place(int fd, uint32_t *ret_own, const char *path, struct err *e) {
    for (uint32_t i = 0; i < SHARE_MAX; i++) {
        int r = set_lock(fd, F_WRLCK, place_at(i));
        if (r == -EAGAIN || r == -EACCES) continue;
        if (r == 0) r = clear_place(fd, i);
        if (r < 0) return err_sys(e, r, "%s", path);
        *ret_own = i;
        return 0;
    }
    return err_set(e, -EBUSY, "%s: all %d places are taken", path, SHARE_MAX);
}

/* A descriptor with a place; the caller's. */
static int open_file(const char *path, uint32_t *ret_own, struct err *e) {
    struct stat st;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0660);
    int r = fd < 0 ? -errno : 0;
    if (r == 0 && fstat(fd, &st) < 0) r = -errno;
    if (r < 0)
        err_sys(e, r, "%s", path);
    else if (!S_ISREG(st.st_mode))
        r = err_set(e, -EINVAL, "%s is no regular file", path);
    else
        r = take_place(fd, ret_own, path, e);
    if (r == 0) return fd;
    if (fd >= 0) close(fd);
    return r;
}

static void copy_name(char ret[PEERS_MAX_NAME], const char *name) {
    size_t n = strnlen(name, PEERS_MAX_NAME - 1);
    for (size_t i = 0; i < n; i++) ret[i] = name[i] < 0x20 || name[i] > 0x7e ? '?' : name[i];
}

int peers_open(const char *path, const char *name, struct peers **ret, struct err *e) {
    struct peers *p = calloc(1, sizeof(*p));
    if (!p) return err_set(e, -ENOMEM, "no memory to start");
    p->self.id = (uint64_t)getpid();
    copy_name(p->self.name, name);
    p->path = strdup(path);
    p->fd = p->path ? open_file(path, &p->own, e) : err_set(e, -ENOMEM, "no memory to start");
    if (p->fd < 0) {
        int r = p->fd;
        peers_close(p);
        return r;
    }
    *ret = p;
    return 0;
}

void peers_close(struct peers *p) {
    if (!p) return;
    if (p->fd >= 0) close(p->fd); /* the locks go with it */
    free(p->path);
    free(p);
}

static void put_self(struct peers *p) {
    uint8_t record[PEERS_RECORD_BYTES];
    peers_encode(&p->self, record);
    if (memcmp(record, p->written, sizeof(record)) == 0) return;
    ssize_t n = pwrite(p->fd, record, sizeof(record), (off_t)place_at(p->own));
    /* What was cut short is no record, and is written again the next time. */
    if (n == (ssize_t)sizeof(record)) memcpy(p->written, record, sizeof(record));
}

static bool is_locked(const struct peers *p, uint32_t at) {
    struct flock l = lock_at(F_WRLCK, at);
    return fcntl(p->fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

static void look_at_place(struct peers *p, uint32_t i, const uint8_t *record, uint64_t now_us) {
    struct place *at = &p->places[i];
    struct peers_other o;
    bool is_good = record && peers_decode(record, &o);
    bool is_new = is_good && (!at->has || o.id != at->last.id);
    if (is_good) {
        at->last = o;
        at->good_us = now_us;
        at->has = true;
    } else if (at->has && now_us - at->good_us >= PEERS_LOOK_US) {
        at->has = false;
    }
    if (!at->has || (!is_new && now_us - at->probed_us < PEERS_LOOK_US)) return;
    at->is_alive = is_locked(p, place_at(i));
    at->probed_us = now_us;
}

/* A file that was removed is shared with nobody who comes later: on to the new one. */
static void follow_name(struct peers *p, uint64_t now_us) {
    struct stat st;
    uint32_t own;
    if (now_us - p->checked_us < PEERS_LOOK_US) return;
    p->checked_us = now_us;
    if (fstat(p->fd, &st) == 0 && st.st_nlink > 0) return;
    int fd = open_file(p->path, &own, NULL);
    if (fd < 0) return;
    close(p->fd);
    p->fd = fd;
    p->own = own;
    p->has_turn = p->self.is_rising = false;
    memset(p->written, 0, sizeof(p->written));
    memset(p->places, 0, sizeof(p->places));
}

static void look(struct peers *p, uint64_t now_us) {
    uint8_t text[FILE_BYTES];
    if (p->n_others == 0 && p->has_looked && now_us - p->looked_us < PEERS_LOOK_US) return;
    follow_name(p, now_us);
    p->has_looked = true;
    p->looked_us = now_us;
    ssize_t n = pread(p->fd, text, sizeof(text), 0);
    p->n_others = 0;
    for (uint32_t i = 0; i < SHARE_MAX; i++) {
        bool is_there = n >= (ssize_t)(place_at(i) + PEERS_RECORD_BYTES);
        if (i == p->own) continue;
        look_at_place(p, i, is_there ? text + place_at(i) : NULL, now_us);
        if (p->places[i].has && p->places[i].is_alive) p->others[p->n_others++] = p->places[i].last;
    }
}

/* ---- shares ---- */

static uint64_t own_share(const struct peers *p, const struct peers_self *self,
                          uint64_t available_bytes) {
    struct share_claim all[SHARE_MAX] = {self->claim};
    uint64_t shares[SHARE_MAX];
    for (uint32_t i = 0; i < p->n_others; i++) all[i + 1] = p->others[i].claim;
    uint64_t total = share_total(all, p->n_others + 1, available_bytes, self->reserve_bytes);
    share_split(all, p->n_others + 1, total, shares);
    return MAX(shares[0], UINT64_C(1));
}

void peers_before(struct peers *p, const struct peers_self *self, uint64_t now_us,
                  struct gov_input *in) {
    if (!p) return;
    p->is_over_limit = self->is_over_limit;
    p->self.claim = self->claim;
    if (!p->is_over_limit && in->has_mem) look(p, now_us);
    if (p->n_others == 0)
        p->share_bytes = 0;
    else if (in->has_mem)
        p->share_bytes = own_share(p, self, in->mem_available_bytes);
    in->share_bytes = p->share_bytes;
    in->is_other_rising = p->n_others > 0 && !p->has_turn;
}

bool peers_is_free(struct peers *p, const struct peers_self *self, uint64_t now_us,
                   struct gov_input *in) {
    if (!p) return true;
    peers_before(p, self, now_us, in);
    if (!p->is_over_limit) put_self(p);
    if (p->share_bytes == 0 || !in->has_mem) return true;
    uint64_t left = in->mem_available_bytes > self->reserve_bytes
                        ? in->mem_available_bytes - self->reserve_bytes
                        : 0;
    return left >= p->share_bytes;
}

/* ---- turns ---- */

static void begin_turn(struct peers *p, uint64_t now_us) {
    p->has_turn = p->self.is_rising = true;
    p->is_refused = false;
    p->turn_us = p->busy_us = now_us;
}

static void end_turn(struct peers *p, uint64_t now_us) {
    if (now_us - p->busy_us < PEERS_SETTLE_US) p->rest_until_us = now_us + PEERS_REST_US;
    p->has_turn = p->self.is_rising = false;
    ignore_result(set_lock(p->fd, F_UNLCK, TURN_AT)); /* it may not even be ours: see ask() */
}

static void ask(struct peers *p, uint64_t now_us) {
    if (now_us < p->rest_until_us) return;
    if (set_lock(p->fd, F_WRLCK, TURN_AT) == 0) {
        begin_turn(p, now_us);
        return;
    }
    if (!p->is_refused) p->refused_us = now_us;
    p->is_refused = true;
    if (now_us - p->refused_us >= PEERS_PATIENCE_US) begin_turn(p, now_us);
}

static void step_turn(struct peers *p, const struct gov_input *in, const struct gov_output *out,
                      uint64_t now_us) {
    if (out->reason != GOV_TURN) p->is_refused = false;
    if (out->position < in->position) p->busy_us = now_us;
    if (!p->has_turn) {
        if (out->reason == GOV_TURN) ask(p, now_us);
        return;
    }
    bool is_over = now_us - p->busy_us >= PEERS_SETTLE_US || now_us - p->turn_us >= PEERS_TURN_US;
    if (is_over || p->n_others == 0) end_turn(p, now_us);
}

void peers_after(struct peers *p, const struct gov_input *in, const struct gov_output *out,
                 uint64_t coming_bytes, uint64_t now_us) {
    if (!p || p->is_over_limit) return;
    step_turn(p, in, out, now_us);
    p->self.claim.held_bytes = MAX(p->self.claim.held_bytes, coming_bytes);
    put_self(p);
}

/* ---- for people ---- */

uint64_t peers_share_bytes(const struct peers *p) {
    return p ? p->share_bytes : 0;
}

bool peers_has_turn(const struct peers *p) {
    return p && p->has_turn;
}

const struct peers_other *peers_others(const struct peers *p, uint32_t *ret_n) {
    *ret_n = p ? p->n_others : 0;
    return p ? p->others : NULL;
}
