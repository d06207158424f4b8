/* Fields of the daemon's JSON as text. What is missing, null or of another type is "-", never zero:
 * unknown must not pass for nothing. Pure. */
#ifndef EBB_DAEMON_CTL_FIELD_H
#define EBB_DAEMON_CTL_FIELD_H

#include <cjson/cJSON.h>

#include "core/defs.h"

/* A short text by value: good to the end of the expression that it stands in. */
struct ctl_text {
    char s[40];
};

const cJSON *ctl_field(const cJSON *o, const char *key); /* NULL if there is none; accepts NULL */
/* False unless it is a finite number. */
bool ctl_field_number(const cJSON *o, const char *key, double *ret);
/* Borrowed from the tree; "-" unless it is a string. */
const char *ctl_field_string(const cJSON *o, const char *key);
/* A number times `scale`, with so many decimals. */
struct ctl_text ctl_field_value(const cJSON *v, double scale, int n_decimals);
/* The same of a key's value. */
struct ctl_text ctl_field_text(const cJSON *o, const char *key, double scale, int n_decimals);
/* The same with a unit behind it, if it is known. */
struct ctl_text ctl_field_unit(const cJSON *o, const char *key, double scale, int n_decimals,
                               const char *unit);
/* "96.0 MiB" */
struct ctl_text ctl_field_bytes(const cJSON *o, const char *key);

#endif
