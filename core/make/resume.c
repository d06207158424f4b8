/* The file, little endian: 8 bytes "EBBSTATE", u32 format, u32 0, u64 bytes of the head, u64 XXH3
 * of the head, u64 bytes of the body, u64 XXH3 of the body; then head and body. The head: u32
 * fields, for each two strings of u32 length; u64 own ids, the ids as u32; u32 units, for each the
 * numbers of struct resume_unit in order. The body: the hidden states as they lie in memory. */
#include "core/make/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "core/bytes.h"
#include "core/err.h"
#include "core/model.h"
#include "core/pack_temp.h"

enum { FORMAT = 1, PREAMBLE = 48, UNIT_BYTES = 7 * 8 + 4 };
static const char magic[8] = "EBBSTATE", suffix[] = ".state";

struct resume {
    char *path; /* owned, as is everything below */
    int fd;
    uint8_t *head;
    struct resume_field fields[RESUME_MAX_FIELDS];
    char names[RESUME_MAX_FIELDS][32];
    uint32_t *own;
    struct resume_unit *units;
    struct resume_state state;
    uint64_t head_bytes, body_bytes, body_xxh3;
};

static char *state_path(const char *out) {
    size_t n = strlen(out) + sizeof(suffix);
    char *p = malloc(n);
    if (p) snprintf(p, n, "%s%s", out, suffix);
    return p;
}

/* ---- saving ---------------------------------------------------------------------------------- */

static uint64_t double_bits(double v) {
    uint64_t u;
    memcpy(&u, &v, sizeof(u));
    return u;
}

static uint8_t *put_u32(uint8_t *p, uint32_t v) {
    bytes_put_u32(p, v);
    return p + 4;
}

static uint8_t *put_u64(uint8_t *p, uint64_t v) {
    bytes_put_u64(p, v);
    return p + 8;
}

static uint8_t *put_text(uint8_t *p, const char *s) {
    size_t n = strlen(s);
    p = put_u32(p, (uint32_t)n);
    memcpy(p, s, n);
    return p + n;
}

static uint8_t *put_unit(uint8_t *p, const struct resume_unit *u) {
    p = put_u64(p, u->stats.n_weights);
    p = put_u64(p, u->stats.n_clipped);
    p = put_u64(p, double_bits(u->stats.high_error));
    p = put_u64(p, double_bits(u->stats.full_error));
    p = put_u64(p, double_bits(u->stats.output));
    p = put_u32(p, u->fallback);
    p = put_u64(p, u->high);
    return put_u64(p, u->low);
}

static int make_head(const struct resume_state *s, uint8_t **ret, size_t *ret_n, struct err *e) {
    size_t n = 4 + 8 + s->n_own * 4 + 4 + (size_t)s->n_done * UNIT_BYTES;
    for (size_t i = 0; i < s->n_fields; i++)
        n += 8 + strlen(s->fields[i].what) + strlen(s->fields[i].value);
    uint8_t *head = malloc(n);
    if (!head) return err_set(e, -ENOMEM, "no memory to save the build's state");
    uint8_t *p = put_u32(head, (uint32_t)s->n_fields);
    for (size_t i = 0; i < s->n_fields; i++) {
        p = put_text(p, s->fields[i].what);
        p = put_text(p, s->fields[i].value);
    }
    p = put_u64(p, s->n_own);
    for (size_t i = 0; i < s->n_own; i++) p = put_u32(p, s->own[i]);
    p = put_u32(p, s->n_done);
    for (uint32_t i = 0; i < s->n_done; i++) p = put_unit(p, &s->units[i]);
    ASSERT((size_t)(p - head) == n);
    *ret = head;
    *ret_n = n;
    return 0;
}

static int write_all(struct pack_temp *t, const uint8_t *head, size_t head_n,
                     const struct calib_part *parts, size_t n_parts, struct err *e) {
    XXH3_state_t *x = XXH3_createState();
    if (!x) return err_set(e, -ENOMEM, "no memory to save the build's state");
    uint8_t pre[PREAMBLE] = {0};
    uint64_t at = PREAMBLE + head_n;
    XXH3_64bits_reset(x);
    int r = pack_temp_write(t, PREAMBLE, head, head_n, e);
    for (size_t i = 0; r == 0 && i < n_parts; i++) {
        r = pack_temp_write(t, at, parts[i].data, parts[i].bytes, e);
        XXH3_64bits_update(x, parts[i].data, parts[i].bytes);
        at += parts[i].bytes;
    }
    memcpy(pre, magic, sizeof(magic));
    bytes_put_u32(pre + 8, FORMAT);
    bytes_put_u64(pre + 16, head_n);
    bytes_put_u64(pre + 24, XXH3_64bits(head, head_n));
    bytes_put_u64(pre + 32, at - PREAMBLE - head_n);
    bytes_put_u64(pre + 40, XXH3_64bits_digest(x));
    XXH3_freeState(x);
    if (r == 0) r = pack_temp_write(t, 0, pre, sizeof(pre), e);
    if (r == 0) r = pack_temp_sync(t, e);
    return r;
}

int resume_save(const char *out, const struct resume_state *s, const struct calib_part *parts,
                size_t n_parts, struct err *e) {
    struct pack_temp *t = NULL;
    uint8_t *head = NULL;
    size_t head_n = 0;
    ASSERT(s->n_fields <= RESUME_MAX_FIELDS);
    char *path = state_path(out);
    int r = path ? make_head(s, &head, &head_n, e) : err_set(e, -ENOMEM, "no memory for a path");
    if (r == 0) r = pack_temp_create(path, &t, e);
    if (r == 0) r = write_all(t, head, head_n, parts, n_parts, e);
    if (r == 0) r = pack_temp_publish(t, e);
    pack_temp_destroy(t);
    free(head);
    free(path);
    return r;
}

int resume_clear(const char *out, struct err *e) {
    struct pack_temp *t = NULL;
    char *path = state_path(out);
    if (!path) return err_set(e, -ENOMEM, "no memory for a path");
    /* Making a temporary file removes those of dead savers. */
    int r = pack_temp_create(path, &t, e);
    if (r == 0 && unlink(path) < 0 && errno != ENOENT)
        r = err_sys(e, -errno, "%s: cannot remove it", path);
    pack_temp_destroy(t);
    free(path);
    return r;
}

/* ---- loading --------------------------------------------------------------------------------- */

static int damaged(const struct resume *r, const char *what, struct err *e) {
    return err_set(e, -EBADMSG, "%s: %s; build without --resume", r->path, what);
}

static int read_at(const struct resume *r, uint64_t at, void *data, size_t n, struct err *e) {
    uint8_t *p = data;
    while (n > 0) {
        ssize_t got = pread(r->fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_sys(e, -errno, "%s: cannot read", r->path);
        if (got == 0) return damaged(r, "it is cut off", e);
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

static int read_preamble(struct resume *r, uint64_t *ret_head_xxh3, struct err *e) {
    struct stat st;
    uint8_t pre[PREAMBLE];
    struct bytes b;
    if (fstat(r->fd, &st) < 0) return err_sys(e, -errno, "%s: cannot look at it", r->path);
    if (!S_ISREG(st.st_mode)) return damaged(r, "not a regular file", e);
    int code = read_at(r, 0, pre, sizeof(pre), e);
    if (code < 0) return code;
    bytes_init(&b, pre, sizeof(pre));
    if (memcmp(bytes_span(&b, sizeof(magic)), magic, sizeof(magic)) != 0)
        return damaged(r, "not the state of a build", e);
    if (bytes_u32(&b) != FORMAT) return damaged(r, "saved by another version of ebb-pack", e);
    (void)bytes_u32(&b);
    r->head_bytes = bytes_u64(&b);
    *ret_head_xxh3 = bytes_u64(&b);
    r->body_bytes = bytes_u64(&b);
    r->body_xxh3 = bytes_u64(&b);
    uint64_t left = (uint64_t)st.st_size - PREAMBLE;
    if (r->head_bytes > left || r->body_bytes != left - r->head_bytes)
        return damaged(r, "its parts do not fill it", e);
    return 0;
}

static bool get_text(struct bytes *b, char *ret, size_t room) {
    uint32_t n = bytes_u32(b);
    const uint8_t *p = bytes_span(b, n);
    if (!p || n >= room || memchr(p, 0, n)) return false;
    memcpy(ret, p, n);
    ret[n] = '\0';
    return true;
}

static void get_unit(struct bytes *b, struct resume_unit *u) {
    u->stats.n_weights = bytes_u64(b);
    u->stats.n_clipped = bytes_u64(b);
    u->stats.high_error = bytes_f64(b);
    u->stats.full_error = bytes_f64(b);
    u->stats.output = bytes_f64(b);
    u->fallback = bytes_u32(b);
    u->high = bytes_u64(b);
    u->low = bytes_u64(b);
}

/* The counts are bounded by the bytes that are there before anything is made for them. */
static int parse_head(struct resume *r, struct err *e) {
    struct bytes b;
    bytes_init(&b, r->head, (size_t)r->head_bytes);
    size_t n_fields = bytes_u32(&b);
    bool ok = n_fields <= RESUME_MAX_FIELDS;
    for (size_t i = 0; ok && i < n_fields; i++) {
        ok = get_text(&b, r->names[i], sizeof(r->names[i])) &&
             get_text(&b, r->fields[i].value, RESUME_MAX_VALUE);
        r->fields[i].what = r->names[i];
    }
    uint64_t n_own = bytes_u64(&b);
    if (!ok || n_own > bytes_left(&b) / 4) return damaged(r, "damaged", e);
    r->own = malloc(((size_t)n_own + 1) * sizeof(*r->own));
    for (uint64_t i = 0; r->own && i < n_own; i++) r->own[i] = bytes_u32(&b);
    uint32_t n_done = bytes_u32(&b);
    if (r->own &&
        (b.bad || n_done > MODEL_MAX_LAYERS || bytes_left(&b) != (size_t)n_done * UNIT_BYTES))
        return damaged(r, "damaged", e);
    r->units = calloc(n_done + 1u, sizeof(*r->units));
    if (!r->own || !r->units) return err_set(e, -ENOMEM, "%s: no memory to read it", r->path);
    for (uint32_t i = 0; i < n_done; i++) get_unit(&b, &r->units[i]);
    r->state = (struct resume_state){.fields = r->fields,
                                     .n_fields = n_fields,
                                     .own = r->own,
                                     .n_own = (size_t)n_own,
                                     .units = r->units,
                                     .n_done = n_done};
    return 0;
}

int resume_open(const char *out, struct resume **ret, struct err *e) {
    struct resume *s = calloc(1, sizeof(*s));
    uint64_t head_xxh3 = 0;
    int r = 0;
    if (!s) return err_set(e, -ENOMEM, "no memory for the build's state");
    s->fd = -1;
    s->path = state_path(out);
    if (!s->path) {
        r = err_set(e, -ENOMEM, "no memory for a path");
        goto out;
    }
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (s->fd < 0)
        r = err_sys(e, -errno, "%s: cannot open it", s->path);
    else
        r = read_preamble(s, &head_xxh3, e);
    if (r < 0) goto out;
    s->head = malloc((size_t)s->head_bytes + 1);
    r = s->head ? read_at(s, PREAMBLE, s->head, (size_t)s->head_bytes, e)
                : err_set(e, -ENOMEM, "%s: no memory to read it", s->path);
    if (r == 0 && XXH3_64bits(s->head, (size_t)s->head_bytes) != head_xxh3)
        r = damaged(s, "its checksum differs", e);
    if (r == 0) r = parse_head(s, e);
    if (r < 0) goto out;
    *ret = s;
    s = NULL;
out:
    resume_close(s);
    return r;
}

void resume_close(struct resume *r) {
    if (!r) return;
    if (r->fd >= 0) close(r->fd);
    free(r->path);
    free(r->head);
    free(r->own);
    free(r->units);
    free(r);
}

const struct resume_state *resume_get(const struct resume *r) {
    return &r->state;
}

static const struct resume_field *find(const struct resume_field *fields, size_t n,
                                       const char *what) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(fields[i].what, what) == 0) return &fields[i];
    return NULL;
}

int resume_check(const struct resume *r, const struct resume_field *fields, size_t n_fields,
                 struct err *e) {
    for (size_t i = 0; i < n_fields; i++) {
        const struct resume_field *old = find(r->fields, r->state.n_fields, fields[i].what);
        if (old && strcmp(old->value, fields[i].value) == 0) continue;
        return err_set(e, -EINVAL,
                       "cannot resume: %s was '%.64s' in the interrupted build and is '%.64s' now; "
                       "build without --resume",
                       fields[i].what, old ? old->value : "not told", fields[i].value);
    }
    return 0;
}

int resume_read(const struct resume *r, const struct calib_part *parts, size_t n_parts,
                struct err *e) {
    uint64_t total = 0, at = PREAMBLE + r->head_bytes;
    for (size_t i = 0; i < n_parts; i++) total += parts[i].bytes;
    if (total != r->body_bytes) return damaged(r, "its hidden states have another size", e);
    XXH3_state_t *x = XXH3_createState();
    if (!x) return err_set(e, -ENOMEM, "no memory to read the build's state");
    XXH3_64bits_reset(x);
    int code = 0;
    for (size_t i = 0; code == 0 && i < n_parts; i++) {
        code = read_at(r, at, parts[i].data, parts[i].bytes, e);
        if (code == 0) XXH3_64bits_update(x, parts[i].data, parts[i].bytes);
        at += parts[i].bytes;
    }
    if (code == 0 && XXH3_64bits_digest(x) != r->body_xxh3)
        code = damaged(r, "its checksum differs", e);
    XXH3_freeState(x);
    return code;
}
