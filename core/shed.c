#include "core/shed.h"

static uint64_t saturated(uint64_t a, uint64_t b) {
    uint64_t ret;
    return __builtin_add_overflow(a, b, &ret) ? UINT64_MAX : ret;
}

struct shed_choice shed_choose(const struct ladder *l, uint32_t position, uint64_t kept_bytes,
                               uint64_t over_bytes) {
    uint64_t need = saturated(over_bytes, over_bytes / SHED_MARGIN_PART + SHED_MARGIN_BYTES);
    struct shed_choice c = {.kept_bytes = MIN(need, kept_bytes), .position = position};
    uint64_t left = need - c.kept_bytes, held = ladder_bytes(l, position);
    uint32_t last = ladder_n_steps(l);
    while (c.position < last && held - ladder_bytes(l, c.position) < left) c.position++;
    c.is_enough = held - ladder_bytes(l, c.position) >= left;
    return c;
}
