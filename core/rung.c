/* Names of the rungs, as the ladder, the pack and every output spell them. */
#include <errno.h>
#include <string.h>

#include "core/ladder.h"

static const char *const names[RUNG_COUNT] = {
    [RUNG_FULL] = "full",
    [RUNG_HIGH] = "high",
    [RUNG_SWSC] = "swsc",
    [RUNG_PAGED] = "paged",
};

const char *rung_name(enum rung r) {
    return names[r];
}

int rung_parse(const char *s, size_t n, enum rung *ret) {
    for (int r = 0; r < RUNG_COUNT; r++)
        if (strlen(names[r]) == n && memcmp(names[r], s, n) == 0) {
            *ret = (enum rung)r;
            return 0;
        }
    return -EINVAL;
}
