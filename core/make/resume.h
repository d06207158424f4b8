/* What an interrupted build leaves so that another one can go on: OUT.state beside the pack.
 *
 * A build saves now and then: who it is (source, options, text, versions: fields that must be the
 * same for the bytes to be the same), its own samples, what is known of the units done, and the
 * hidden states at the layer boundary. The finished planes are in the writer's temporary file and
 * are synced before; the state appears whole or not at all (pack_temp.h). So a kill or a power cut
 * at any moment leaves a pair that fits, or one that is refused by a checksum. A build that ends,
 * well or with an error, removes its state. Thread: one at a time; who has the pack's writer owns
 * the state. */
#ifndef EBB_CORE_MAKE_RESUME_H
#define EBB_CORE_MAKE_RESUME_H

#include "core/defs.h"
#include "core/make/calib.h"
#include "core/make/planes.h"

struct err;
struct resume;

enum { RESUME_MAX_FIELDS = 10, RESUME_MAX_VALUE = 300 };

/* "--windows", "96" */
struct resume_field {
    const char *what;
    char value[RESUME_MAX_VALUE];
};

struct resume_unit {
    struct planes_stats stats;
    uint32_t fallback;  /* as pack_fallback() */
    uint64_t high, low; /* XXH3-64 of its extents */
};

struct resume_state {
    const struct resume_field *fields;
    size_t n_fields;
    const uint32_t *own; /* ids of the model's own samples, [n_own] */
    size_t n_own;
    const struct resume_unit *units; /* [n_done] */
    uint32_t n_done;                 /* layers */
};

/* `parts`: the hidden states; none while n_done is 0. 0 or the system's error. */
int resume_save(const char *out, const struct resume_state *s, const struct calib_part *parts,
                size_t n_parts, struct err *e) MUST_CHECK;
/* Removes the state of `out`, and what a killed save left. */
int resume_clear(const char *out, struct err *e) MUST_CHECK;

/* Opens the state of `out` and checks its form. 0, -ENOENT (there is none), -EBADMSG, -ENOMEM or
 * the system's error. */
int resume_open(const char *out, struct resume **ret, struct err *e) MUST_CHECK;
void resume_close(struct resume *r); /* accepts NULL */
/* Borrowed until resume_close(). */
const struct resume_state *resume_get(const struct resume *r);
/* 0, or -EINVAL: the message says which field differs and how. Fields that only one side has
 * differ. */
int resume_check(const struct resume *r, const struct resume_field *fields, size_t n_fields,
                 struct err *e) MUST_CHECK;
/* Fills the parts as they were saved. 0, -EBADMSG or the system's error. */
int resume_read(const struct resume *r, const struct calib_part *parts, size_t n_parts,
                struct err *e) MUST_CHECK;

#endif
