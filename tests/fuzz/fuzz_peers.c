/* A record of the daemons' shared file from any bytes: refused, or one that is written back to the
 * same bytes, with a name that can be shown. */
#include <stdlib.h>
#include <string.h>

#include "daemon/peers.h"
#include "tests/fuzz/fuzz.h"

/* A sum that fits is beyond guessing, so every second input gets one by its own writing. */
static void from_fields(const uint8_t *data, size_t size, uint8_t ret[PEERS_RECORD_BYTES]) {
    struct peers_other o = {0};
    size_t n = size < sizeof(o.name) ? size : sizeof(o.name);
    memcpy(o.name, data, n);
    memcpy(&o.claim.held_bytes, data, size < 8 ? size : 8);
    o.claim.weight = (uint32_t)size;
    o.is_rising = size & 2;
    peers_encode(&o, ret);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t record[PEERS_RECORD_BYTES] = {0}, back[PEERS_RECORD_BYTES];
    struct peers_other o, again;
    if (size & 1)
        from_fields(data, size, record);
    else
        memcpy(record, data, size < sizeof(record) ? size : sizeof(record));
    if (!peers_decode(record, &o)) return 0;
    if (memchr(o.name, 0, sizeof(o.name)) == NULL) abort();
    for (const char *s = o.name; *s; s++)
        if (*s < 0x20 || *s > 0x7e) abort();
    peers_encode(&o, back);
    if (!peers_decode(back, &again) || strcmp(again.name, o.name) != 0 || again.id != o.id ||
        again.claim.held_bytes != o.claim.held_bytes || again.is_rising != o.is_rising)
        abort();
    return 0;
}

/* Records as daemons write them: damage to one is what a torn read looks like. */
uint8_t *fuzz_seed(unsigned i, size_t *ret_n) {
    static const char *const names[] = {"ebb", "two", ""};
    if (i >= sizeof(names) / sizeof(names[0])) return NULL;
    struct peers_other o = {.id = 1000 + i, .claim = {100, UINT64_C(1) << 30, UINT64_MAX}};
    uint8_t *ret = malloc(PEERS_RECORD_BYTES);
    if (!ret) abort();
    strcpy(o.name, names[i]);
    peers_encode(&o, ret);
    *ret_n = PEERS_RECORD_BYTES;
    return ret;
}
