#include "daemon/ctl_field.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "daemon/ctl.h"

static const struct ctl_text unknown = {"-"};

const cJSON *ctl_field(const cJSON *o, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static bool is_number(const cJSON *v, double *ret) {
    if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble)) return false;
    *ret = v->valuedouble;
    return true;
}

bool ctl_field_number(const cJSON *o, const char *key, double *ret) {
    return is_number(ctl_field(o, key), ret);
}

const char *ctl_field_string(const cJSON *o, const char *key) {
    const char *s = cJSON_GetStringValue(ctl_field(o, key));
    return s ? s : "-";
}

struct ctl_text ctl_field_value(const cJSON *v, double scale, int n_decimals) {
    struct ctl_text t;
    double x;
    if (!is_number(v, &x)) return unknown;
    x *= scale;
    /* Digits that do not fit would be another number. */
    if (fabs(x) < 1e18)
        snprintf(t.s, sizeof(t.s), "%.*f", n_decimals, x);
    else
        snprintf(t.s, sizeof(t.s), "%.3g", x);
    return t;
}

struct ctl_text ctl_field_text(const cJSON *o, const char *key, double scale, int n_decimals) {
    return ctl_field_value(ctl_field(o, key), scale, n_decimals);
}

struct ctl_text ctl_field_unit(const cJSON *o, const char *key, double scale, int n_decimals,
                               const char *unit) {
    struct ctl_text t = ctl_field_text(o, key, scale, n_decimals);
    size_t n = strlen(t.s);
    if (strcmp(t.s, unknown.s) != 0) snprintf(t.s + n, sizeof(t.s) - n, "%s", unit);
    return t;
}

struct ctl_text ctl_field_bytes(const cJSON *o, const char *key) {
    struct ctl_text t;
    char buf[32];
    double x;
    if (!ctl_field_number(o, key, &x)) return unknown;
    snprintf(t.s, sizeof(t.s), "%s", fabs(x) < 1e18 ? ctl_bytes(x, buf) : "absurd");
    return t;
}
