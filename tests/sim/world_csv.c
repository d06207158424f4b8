/* A world from a file. It may be anything: every field is bounded, time must go on, and a mistake
 * is refused with its line rather than guessed at. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "tests/sim/fixed.h"
#include "tests/sim/world_internal.h"

#define SEC INT64_C(1000000)

static const char header[] = "time_s,left_mib,stall_percent,celsius";

enum { FIELDS = 4, MAX_LINE = 200, MAX_MIB = 1 << 24 };

struct rows {
    struct world_row *v; /* owned */
    size_t n, cap;
};

static int append(struct rows *to, const struct world_row *row, struct err *e) {
    if (to->n == WORLD_MAX_ROWS)
        return err_set(e, -EINVAL, "there are more than %d rows", WORLD_MAX_ROWS);
    if (to->n == to->cap) {
        size_t cap = to->cap ? 2 * to->cap : 256;
        struct world_row *v = realloc(to->v, cap * sizeof(*v));
        if (!v) return err_set(e, -ENOMEM, "no memory for %zu rows", cap);
        to->v = v;
        to->cap = cap;
    }
    to->v[to->n++] = *row;
    return 0;
}

struct field {
    const char *s;
    size_t n;
};

/* Cuts a line at its commas; false if they are not three. */
static bool cut(const char *s, size_t n, struct field ret[FIELDS]) {
    for (size_t k = 0; k < FIELDS; k++) {
        const char *comma = memchr(s, ',', n);
        if ((comma != NULL) != (k + 1 < FIELDS)) return false;
        ret[k] = (struct field){s, comma ? (size_t)(comma - s) : n};
        s += ret[k].n + (comma != NULL);
        n -= ret[k].n + (comma != NULL);
    }
    return true;
}

/* A field that may be empty. */
static int get(const struct field *f, const char *name, unsigned digits, int64_t min, int64_t max,
               bool *ret_has, int64_t *ret, struct err *e) {
    *ret = 0;
    *ret_has = f->n > 0;
    if (f->n == 0) return 0;
    int r = fixed_parse(f->s, f->n, digits, min, max, ret);
    if (r == -ERANGE) return err_set(e, -EINVAL, "%s is too small or too large", name);
    return r < 0 ? err_set(e, -EINVAL, "%s is not a number", name) : 0;
}

static int get_row(const char *s, size_t n, struct world_row *ret, struct err *e) {
    struct field f[FIELDS];
    struct world_sample *to = &ret->sample;
    bool has_time;
    int64_t at_us, left_milli, permille, temp_mc;
    *ret = (struct world_row){0};
    if (!cut(s, n, f)) return err_set(e, -EINVAL, "a row has four fields: %s", header);
    int r = get(&f[0], "time_s", 6, 0, WORLD_MAX_DAYS * 86400 * SEC, &has_time, &at_us, e);
    if (r == 0 && !has_time) r = err_set(e, -EINVAL, "time_s is empty");
    if (r == 0)
        r = get(&f[1], "left_mib", 3, 0, MAX_MIB * INT64_C(1000), &to->has_left, &left_milli, e);
    if (r == 0) r = get(&f[2], "stall_percent", 1, 0, 1000, &to->has_stall, &permille, e);
    if (r == 0) r = get(&f[3], "celsius", 3, -273150, 1000000, &to->has_temp, &temp_mc, e);
    if (r < 0) return r;
    ret->at_us = (uint64_t)at_us;
    to->left_bytes = (uint64_t)left_milli * (1 << 20) / 1000;
    to->stall_permille = (uint32_t)permille;
    to->temp_mc = (int32_t)temp_mc;
    return 0;
}

/* One line, without its end. */
static int take_line(struct rows *to, bool *has_header, const char *s, size_t n, struct err *e) {
    struct world_row row;
    if (n > 0 && s[n - 1] == '\r') n--;
    if (n > MAX_LINE) return err_set(e, -EINVAL, "the line is longer than %d bytes", MAX_LINE);
    if (n > 0 && s[0] == '#') return 0;
    if (!*has_header) {
        *has_header = true;
        if (n == strlen(header) && memcmp(s, header, n) == 0) return 0;
        return err_set(e, -EINVAL, "the first line must be %s", header);
    }
    int r = get_row(s, n, &row, e);
    if (r < 0) return r;
    if (to->n > 0 && row.at_us <= to->v[to->n - 1].at_us)
        return err_set(e, -EINVAL, "time_s does not go on");
    return append(to, &row, e);
}

int world_parse(const char *name, const char *text, size_t n, struct world **ret, struct err *e) {
    struct rows rows = {0};
    bool has_header = false;
    size_t line = 0;
    int r = 0;
    while (n > 0) {
        const char *nl = memchr(text, '\n', n);
        line++;
        r = nl ? take_line(&rows, &has_header, text, (size_t)(nl - text), e)
               : err_set(e, -EINVAL, "the last line has no end: the file is cut off");
        if (r < 0) goto out;
        n -= (size_t)(nl + 1 - text);
        text = nl + 1;
    }
    if (rows.n < 2) {
        r = err_set(e, -EINVAL, "there are no two rows, and the last one ends the run");
        goto out;
    }
    r = world_take_rows(rows.v, rows.n, ret, e);
    if (r == 0) rows.v = NULL;
out:
    free(rows.v);
    if (r < 0) err_prefix(e, "%s:%zu", name, line);
    return r;
}
