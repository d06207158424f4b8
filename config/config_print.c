/* The settings and their table as text, and what a reload cannot change. */
#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/schema.h"

/* Closes the stream; the text, or NULL if anything failed on the way. */
static char *finish(FILE *f, char **text) {
    bool is_bad = ferror(f) != 0;
    is_bad |= fclose(f) != 0;
    if (!is_bad) return *text;
    free(*text);
    return NULL;
}

char *config_print(const struct config *c) {
    char *text = NULL, value[SCHEMA_MAX_VALUE], range[SCHEMA_MAX_VALUE];
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    fprintf(f, "# Settings of ebbd. Sizes take B KiB MiB GiB TiB, times ms s min, temperatures C.\n"
               "# SIGHUP reads the file again; keys marked * take effect at the next start.\n");
    for (size_t s = 0; s < schema_n_sections(); s++) {
        const struct schema_section *sec = schema_section_at(s);
        fprintf(f, "\n# %s\n%s:\n", sec->help, sec->name);
        for (size_t i = 0; i < schema_n_keys(); i++) {
            const struct schema_key *k = schema_key_at(i);
            if (!schema_in_section(k, sec->name)) continue;
            schema_range(k, range);
            schema_format(k, c, value);
            fprintf(f, "  # %s (%s)%s\n", k->help, range, k->is_reloadable ? "" : " *");
            fprintf(f, "  %s: %s\n", schema_short_name(k), value);
        }
    }
    return finish(f, &text);
}

char *config_table(void) {
    char *text = NULL, range[SCHEMA_MAX_VALUE];
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    fprintf(f, "| key | default | range | reload | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < schema_n_keys(); i++) {
        const struct schema_key *k = schema_key_at(i);
        schema_range(k, range);
        fprintf(f, "| `%s` | %s%s%s | %s | %s | %s |\n", k->name, k->def[0] ? "`" : "", k->def,
                k->def[0] ? "`" : "", range, k->is_reloadable ? "yes" : "restart", k->help);
    }
    return finish(f, &text);
}

unsigned config_needs_restart(const struct config *now, const struct config *next, char *buf,
                              size_t n) {
    unsigned count = 0;
    size_t len = 0;
    if (n > 0) buf[0] = '\0';
    for (size_t i = 0; i < schema_n_keys(); i++) {
        const struct schema_key *k = schema_key_at(i);
        if (k->is_reloadable || schema_equal(k, now, next)) continue;
        size_t need = strlen(k->name) + (count ? 2 : 0);
        count++;
        /* A name is shown whole or not at all. */
        if (len + need >= n) continue;
        len += (size_t)snprintf(buf + len, n - len, "%s%s", len ? ", " : "", k->name);
    }
    return count;
}

void config_take_reloadable(struct config *now, const struct config *next) {
    for (size_t i = 0; i < schema_n_keys(); i++) {
        const struct schema_key *k = schema_key_at(i);
        if (k->is_reloadable) schema_copy(k, next, now);
    }
}
