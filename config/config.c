/* Reads the settings from YAML by libyaml's events.
 *
 * The language accepted is a small part of YAML: one document, a map of sections, each a map of
 * keys to scalars. Everything else (lists, deeper maps, aliases, anchors, tags, directives) is
 * refused where it starts, so neither the depth nor the number of events can grow with a hostile
 * file; libyaml itself looks ahead at most 1024 bytes for a key. */
#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <yaml.h>

#include "config/schema.h"
#include "config/value.h"
#include "core/err.h"

struct place {
    size_t line, column; /* from 1; 0 = not seen */
};

struct reader {
    yaml_parser_t yaml;
    const char *name; /* borrowed: for messages */
    struct err *e;    /* borrowed; may be NULL */
    struct config cfg;
    struct place keys[SCHEMA_MAX_KEYS];
    struct place sections[SCHEMA_MAX_SECTIONS];
};

enum { MAX_SHOWN = 48 };

static int at_place(struct reader *rd, struct place p) {
    err_prefix(rd->e, "%s:%zu:%zu", rd->name, p.line, p.column);
    return -EINVAL;
}

static struct place place_of(const yaml_event_t *ev) {
    return (struct place){ev->start_mark.line + 1, ev->start_mark.column + 1};
}

/* libyaml gives reader errors (bad UTF-8, control characters) as a byte offset. */
static struct place place_of_offset(const char *text, size_t n, size_t offset) {
    struct place p = {1, 1};
    for (size_t i = 0; i < n && i < offset; i++) {
        p.column++;
        if (text[i] == '\n') p = (struct place){p.line + 1, 1};
    }
    return p;
}

static int refuse(struct reader *rd, yaml_event_t *ev, const char *why) {
    struct place p = place_of(ev);
    yaml_event_delete(ev);
    err_set(rd->e, -EINVAL, "%s", why);
    return at_place(rd, p);
}

/* The next event, which the caller deletes. -EINVAL or -ENOMEM; then there is none. */
static int next_event(struct reader *rd, yaml_event_t *ev) {
    if (!yaml_parser_parse(&rd->yaml, ev)) {
        const yaml_parser_t *y = &rd->yaml;
        if (y->error == YAML_MEMORY_ERROR)
            return err_set(rd->e, -ENOMEM, "%s: no memory to read it", rd->name);
        struct place p = {y->problem_mark.line + 1, y->problem_mark.column + 1};
        if (y->error == YAML_READER_ERROR)
            p = place_of_offset((const char *)y->input.string.start,
                                (size_t)(y->input.string.end - y->input.string.start),
                                y->problem_offset);
        err_set(rd->e, -EINVAL, "not valid YAML: %s", y->problem ? y->problem : "unknown fault");
        return at_place(rd, p);
    }
    bool has_anchor = false, has_tag = false;
    if (ev->type == YAML_ALIAS_EVENT) return refuse(rd, ev, "aliases (*name) are not supported");
    if (ev->type == YAML_SCALAR_EVENT) {
        has_anchor = ev->data.scalar.anchor != NULL;
        has_tag = ev->data.scalar.tag != NULL;
    } else if (ev->type == YAML_MAPPING_START_EVENT) {
        has_anchor = ev->data.mapping_start.anchor != NULL;
        has_tag = ev->data.mapping_start.tag != NULL;
    } else if (ev->type == YAML_SEQUENCE_START_EVENT) {
        return refuse(rd, ev, "lists are not supported");
    }
    if (has_anchor) return refuse(rd, ev, "anchors (&name) are not supported");
    if (has_tag) return refuse(rd, ev, "tags (!name) are not supported");
    return 0;
}

/* An unknown section (`section` NULL) or key, with what was probably meant. */
static int refuse_unknown(struct reader *rd, yaml_event_t *ev, const char *section) {
    char shown[MAX_SHOWN];
    const char *text = (const char *)ev->data.scalar.value;
    size_t n = ev->data.scalar.length;
    struct place p = place_of(ev);
    const char *near = schema_near(section, text, n);
    value_shown(text, n, shown, sizeof(shown));
    if (!section && memchr(text, '.', n))
        err_set(rd->e, -EINVAL, "unknown section '%s'; write 'section:' and the key below it",
                shown);
    else
        err_set(rd->e, -EINVAL, "unknown %s '%s%s%s'%s%s%s", section ? "key" : "section",
                section ? section : "", section ? "." : "", shown, near ? "; did you mean " : "",
                near ? near : "", near ? "?" : "");
    yaml_event_delete(ev);
    return at_place(rd, p);
}

static int refuse_twice(struct reader *rd, yaml_event_t *ev, const char *name, struct place first) {
    struct place p = place_of(ev);
    yaml_event_delete(ev);
    err_set(rd->e, -EINVAL, "%s is given twice, first in line %zu", name, first.line);
    return at_place(rd, p);
}

static int read_value(struct reader *rd, size_t key) {
    const struct schema_key *k = schema_key_at(key);
    yaml_event_t ev;
    int r = next_event(rd, &ev);
    if (r < 0) return r;
    if (ev.type != YAML_SCALAR_EVENT) return refuse(rd, &ev, "a value is wanted here, not a map");
    rd->keys[key] = place_of(&ev);
    r = schema_set(k, (const char *)ev.data.scalar.value, ev.data.scalar.length, &rd->cfg, rd->e);
    yaml_event_delete(&ev);
    if (r == 0) return 0;
    err_prefix(rd->e, "%s", k->name);
    return at_place(rd, rd->keys[key]);
}

/* From after a section's MAPPING-START to its MAPPING-END. */
static int read_section(struct reader *rd, const char *section) {
    for (;;) {
        yaml_event_t ev;
        int r = next_event(rd, &ev);
        if (r < 0) return r;
        if (ev.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&ev);
            return 0;
        }
        if (ev.type != YAML_SCALAR_EVENT) return refuse(rd, &ev, "a key must be plain text");
        int i = schema_find_key(section, (const char *)ev.data.scalar.value, ev.data.scalar.length);
        if (i < 0) return refuse_unknown(rd, &ev, section);
        if (rd->keys[i].line)
            return refuse_twice(rd, &ev, schema_key_at((size_t)i)->name, rd->keys[i]);
        yaml_event_delete(&ev);
        r = read_value(rd, (size_t)i);
        if (r < 0) return r;
    }
}

static bool is_empty_scalar(const yaml_event_t *ev) {
    return ev->type == YAML_SCALAR_EVENT && ev->data.scalar.length == 0 &&
           ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* From after the root's MAPPING-START to its MAPPING-END. */
static int read_root(struct reader *rd) {
    for (;;) {
        yaml_event_t ev;
        int r = next_event(rd, &ev);
        if (r < 0) return r;
        if (ev.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&ev);
            return 0;
        }
        if (ev.type != YAML_SCALAR_EVENT) return refuse(rd, &ev, "a key must be plain text");
        int i = schema_find_section((const char *)ev.data.scalar.value, ev.data.scalar.length);
        if (i < 0) return refuse_unknown(rd, &ev, NULL);
        const char *section = schema_section_at((size_t)i)->name;
        if (rd->sections[i].line) return refuse_twice(rd, &ev, section, rd->sections[i]);
        rd->sections[i] = place_of(&ev);
        yaml_event_delete(&ev);

        r = next_event(rd, &ev);
        if (r < 0) return r;
        /* `serve:` with all its keys commented out is an empty section. */
        bool is_empty = is_empty_scalar(&ev);
        if (!is_empty && ev.type != YAML_MAPPING_START_EVENT)
            return refuse(rd, &ev, "a section's keys are wanted here, on lines of their own");
        yaml_event_delete(&ev);
        if (is_empty) continue;
        r = read_section(rd, section);
        if (r < 0) return r;
    }
}

/* The one document, or nothing at all. */
static int read_document(struct reader *rd) {
    yaml_event_t ev;
    int r = next_event(rd, &ev); /* STREAM-START */
    if (r < 0) return r;
    yaml_event_delete(&ev);
    r = next_event(rd, &ev);
    if (r < 0) return r;
    bool is_end = ev.type == YAML_STREAM_END_EVENT;
    if (!is_end &&
        (ev.data.document_start.version_directive ||
         ev.data.document_start.tag_directives.start != ev.data.document_start.tag_directives.end))
        return refuse(rd, &ev, "directives (%) are not supported");
    yaml_event_delete(&ev);
    if (is_end) return 0;

    r = next_event(rd, &ev);
    if (r < 0) return r;
    bool is_empty = is_empty_scalar(&ev);
    if (!is_empty && ev.type != YAML_MAPPING_START_EVENT)
        return refuse(rd, &ev, "sections are wanted here, such as 'serve:'");
    yaml_event_delete(&ev);
    if (!is_empty) {
        r = read_root(rd);
        if (r < 0) return r;
    }
    r = next_event(rd, &ev); /* DOCUMENT-END */
    if (r < 0) return r;
    yaml_event_delete(&ev);
    r = next_event(rd, &ev);
    if (r < 0) return r;
    if (ev.type != YAML_STREAM_END_EVENT)
        return refuse(rd, &ev, "a second document is not supported");
    yaml_event_delete(&ev);
    return 0;
}

/* What no single value can show. */
static int check_together(struct reader *rd) {
    for (size_t i = 0; i < schema_n_keys(); i++) {
        const struct schema_key *k = schema_key_at(i);
        bool is_required = k->type == SCHEMA_PATH && k->min > 0 && k->def[0] == '\0';
        if (!is_required || rd->keys[i].line) continue;
        err_set(rd->e, -EINVAL, "%s is missing; it must be given", k->name);
        return at_place(rd, (struct place){1, 1});
    }
    if (strcmp(rd->cfg.socket_path, rd->cfg.socket_admin_path) == 0) {
        int i = schema_find_key("socket", "admin_path", strlen("admin_path"));
        struct place p = rd->keys[i].line ? rd->keys[i] : rd->keys[i - 1];
        err_set(rd->e, -EINVAL, "socket.path and socket.admin_path are the same");
        return at_place(rd, p);
    }
    return 0;
}

void config_defaults(struct config *ret) {
    *ret = (struct config){0};
    for (size_t i = 0; i < schema_n_keys(); i++) {
        const struct schema_key *k = schema_key_at(i);
        if (k->def[0] == '\0') continue; /* an empty text is what zeroing left */
        int r = schema_set(k, k->def, strlen(k->def), ret, NULL);
        ASSERT(r == 0);
    }
}

int config_parse(const char *name, const char *text, size_t n, struct config *ret, struct err *e) {
    if (n > CONFIG_MAX_FILE_BYTES)
        return err_set(e, -EFBIG, "%s: larger than %d KiB", name, CONFIG_MAX_FILE_BYTES >> 10);
    struct reader rd = {.name = name, .e = e};
    config_defaults(&rd.cfg);
    if (!yaml_parser_initialize(&rd.yaml))
        return err_set(e, -ENOMEM, "%s: no memory to read it", name);
    yaml_parser_set_encoding(&rd.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&rd.yaml, (const unsigned char *)text, n);
    int r = read_document(&rd);
    yaml_parser_delete(&rd.yaml);
    if (r == 0) r = check_together(&rd);
    if (r == 0) *ret = rd.cfg;
    return r;
}

int config_read(const char *path, struct config *ret, struct err *e) {
    /* O_NONBLOCK: a FIFO must not hold the daemon up before it is found out. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return err_sys(e, -errno, "%s: cannot open it", path);
    int r = 0;
    size_t n = 0;
    struct stat st;
    char *text = NULL;
    if (fstat(fd, &st) < 0) {
        r = err_sys(e, -errno, "%s", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        r = err_set(e, -EINVAL, "%s: not a regular file", path);
        goto out;
    }
    text = malloc(CONFIG_MAX_FILE_BYTES + 1); /* one more byte shows that it is too large */
    if (!text) {
        r = err_set(e, -ENOMEM, "%s: no memory to read it", path);
        goto out;
    }
    while (n <= CONFIG_MAX_FILE_BYTES) {
        ssize_t got = read(fd, text + n, CONFIG_MAX_FILE_BYTES + 1 - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            r = err_sys(e, -errno, "%s: cannot read it", path);
            goto out;
        }
        if (got == 0) break;
        n += (size_t)got;
    }
    r = config_parse(path, text, n, ret, e);
out:
    free(text);
    close(fd);
    return r;
}

int config_parse_bytes(const char *s, uint64_t *ret) {
    if (strcmp(s, "auto") == 0) {
        *ret = CONFIG_AUTO_BYTES;
        return 0;
    }
    return value_parse_bytes(s, strlen(s), ret, NULL);
}
