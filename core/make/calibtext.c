#include "core/make/calibtext.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/make/selftext.h"

static uint32_t n_own_wanted(const struct calibtext_opts *o) {
    return !o->path ? o->n_windows : o->is_mixed ? o->n_windows / 2 : 0;
}

int calibtext_read(const struct calibtext_opts *o, const struct tok *tok, struct calibtext *ret,
                   struct err *e) {
    *ret = (struct calibtext){0};
    if (!o->path) return 0;
    int r = text_read(tok, o->path, o->n_windows - n_own_wanted(o), o->window, &ret->text, e);
    if (r < 0) {
        err_prefix(e, "calibration text");
        return r;
    }
    ret->file_xxh3 = ret->text.xxh3;
    return 0;
}

/* Appends the windows of `own`, which is used up. */
static int append(struct text *t, struct text *own, struct err *e) {
    if (!t->ids) {
        *t = *own;
        *own = (struct text){0};
        return 0;
    }
    size_t n = (size_t)t->n_windows * t->window, m = (size_t)own->n_windows * own->window;
    uint32_t *ids = realloc(t->ids, (n + m) * sizeof(*ids));
    if (!ids) return err_set(e, -ENOMEM, "no memory for the calibration text");
    memcpy(ids + n, own->ids, m * sizeof(*ids));
    text_adopt(t, ids, t->n_windows + own->n_windows, t->window);
    return 0;
}

static int get_own(const struct calibtext_opts *o, struct tools *t, const struct gguf *g,
                   const struct tok *tok, const uint32_t *own, size_t n_own, struct text *ret,
                   struct err *e) {
    uint32_t n = n_own_wanted(o);
    size_t n_ids = (size_t)n * o->window;
    if (n_own != n_ids) return selftext_write(t, g, tok, n, o->window, SELFTEXT_SEED, ret, e);
    uint32_t *ids = malloc(n_ids * sizeof(*ids));
    if (!ids) return err_set(e, -ENOMEM, "no memory for the calibration text");
    memcpy(ids, own, n_ids * sizeof(*ids));
    text_adopt(ret, ids, n, o->window);
    return 0;
}

static void describe(const struct calibtext_opts *o, struct calibtext *c) {
    const char *slash = o->path ? strrchr(o->path, '/') : NULL;
    const char *name = !o->path ? "self" : slash ? slash + 1 : o->path;
    char own[32] = "";
    if (o->is_mixed) snprintf(own, sizeof(own), " own=%" PRIu32, c->n_own);
    snprintf(c->description, sizeof(c->description),
             "text=%.100s%s windows=%" PRIu32 "%s window=%" PRIu32 " ids-xxh3=%016" PRIx64, name,
             o->is_mixed ? ",self" : "", c->text.n_windows, own, c->text.window, c->text.xxh3);
    /* The line is read by people and by line-based tools: a strange file name must not break it. */
    for (char *p = c->description; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f) *p = '?';
}

int calibtext_complete(const struct calibtext_opts *o, struct tools *t, const struct gguf *g,
                       const struct tok *tok, const uint32_t *own, size_t n_own,
                       struct calibtext *c, struct err *e) {
    c->n_own = n_own_wanted(o);
    if (c->n_own > 0) {
        struct text text = {0};
        int r = get_own(o, t, g, tok, own, n_own, &text, e);
        if (r == 0) r = append(&c->text, &text, e);
        text_fini(&text);
        if (r < 0) return r;
    }
    describe(o, c);
    return 0;
}

void calibtext_fini(struct calibtext *c) {
    text_fini(&c->text);
    *c = (struct calibtext){0};
}
