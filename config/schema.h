/* The one table of all settings. Parsing, checking, printing and the README's table walk it. */
#ifndef EBB_CONFIG_SCHEMA_H
#define EBB_CONFIG_SCHEMA_H

#include "core/defs.h"

struct config;
struct err;

enum schema_type {
    SCHEMA_PATH,      /* char[]: min and max count bytes */
    SCHEMA_NAME,      /* char[]: letters, digits, '.', '_' and '-' */
    SCHEMA_COUNT,     /* uint32_t */
    SCHEMA_MODE,      /* uint32_t, octal */
    SCHEMA_BYTES,     /* uint64_t */
    SCHEMA_TIME,      /* uint64_t, microseconds */
    SCHEMA_TEMP,      /* uint64_t, thousandths of a degree Celsius */
    SCHEMA_LOG_LEVEL, /* enum log_level */
    SCHEMA_KV_TYPE,   /* enum config_kv */
    SCHEMA_SWITCH,    /* bool: on, off */
};

struct schema_key {
    const char *name; /* "section.key" */
    enum schema_type type;
    bool is_reloadable;
    bool has_auto; /* SCHEMA_BYTES, SCHEMA_TEMP: `auto` is CONFIG_AUTO */
    size_t offset; /* into struct config */
    uint64_t min;  /* of the value, inclusive */
    uint64_t max;
    const char *def; /* as it would be written; "" in a path with min > 0: must be given */
    const char *help;
};

struct schema_section {
    const char *name;
    const char *help;
};

enum { SCHEMA_MAX_KEYS = 64, SCHEMA_MAX_SECTIONS = 16, SCHEMA_MAX_VALUE = 600 };

/* Keys of one section lie together, in the order of the sections. */
size_t schema_n_keys(void);
const struct schema_key *schema_key_at(size_t i);
size_t schema_n_sections(void);
const struct schema_section *schema_section_at(size_t i);
/* Index, or -1. */
int schema_find_key(const char *section, const char *key, size_t n_key);
int schema_find_section(const char *name, size_t n);
/* True if the key is one of that section. */
bool schema_in_section(const struct schema_key *k, const char *section);
const char *schema_short_name(const struct schema_key *k); /* without the section */

/* Parses and checks text[n] and stores it. 0 or -EINVAL; the message lacks key and place. */
int schema_set(const struct schema_key *k, const char *text, size_t n, struct config *c,
               struct err *e) MUST_CHECK;
/* The value as YAML that schema_set() reads back to the same. buf holds SCHEMA_MAX_VALUE. */
void schema_format(const struct schema_key *k, const struct config *c, char *buf);
/* "1 to 64", "512MiB to 1TiB or auto", ... in the same size of buffer. */
void schema_range(const struct schema_key *k, char *buf);
void schema_copy(const struct schema_key *k, const struct config *from, struct config *to);
bool schema_equal(const struct schema_key *k, const struct config *a, const struct config *b);

/* The known name nearest to what was written, or NULL if none is near. section NULL: among the
 * sections. */
const char *schema_near(const char *section, const char *text, size_t n);

#endif
