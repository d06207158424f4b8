#include "core/share.h"

static uint64_t weight_of(const struct share_claim *c) {
    return MAX(1u, MIN(c->weight, (uint32_t)SHARE_MAX_WEIGHT));
}

uint64_t share_total(const struct share_claim *all, uint32_t n, uint64_t available_bytes,
                     uint64_t reserve_bytes) {
    uint64_t sum = available_bytes;
    for (uint32_t i = 0; i < n; i++)
        if (__builtin_add_overflow(sum, all[i].held_bytes, &sum)) return UINT64_MAX;
    return sum > reserve_bytes ? sum - reserve_bytes : 0;
}

/* rest * weight / weights, whose product may need more than 64 bits: all weights together are at
 * most SHARE_MAX * SHARE_MAX_WEIGHT, so what is cut from the first part fits. */
static uint64_t part_of(uint64_t rest, uint64_t weight, uint64_t weights) {
    return rest / weights * weight + rest % weights * weight / weights;
}

void share_split(const struct share_claim *all, uint32_t n, uint64_t total_bytes, uint64_t *ret) {
    bool is_full[SHARE_MAX] = {false};
    uint64_t rest = total_bytes, weights = 0;
    ASSERT(n <= SHARE_MAX);
    for (uint32_t i = 0; i < n; i++) weights += weight_of(&all[i]);
    /* Whoever has enough leaves more for each of the others, so one more round may fill them. */
    for (bool again = true; again;) {
        again = false;
        for (uint32_t i = 0; i < n; i++) {
            uint64_t weight = weight_of(&all[i]);
            if (is_full[i] || all[i].most_bytes > part_of(rest, weight, weights)) continue;
            is_full[i] = again = true;
            ret[i] = all[i].most_bytes;
            rest -= all[i].most_bytes;
            weights -= weight;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        if (!is_full[i]) ret[i] = part_of(rest, weight_of(&all[i]), weights);
}
