/* The firmware's bits from any bytes: what is printed again is read again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "daemon/sense_rpi.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint32_t bits = 77, again = 0;
    struct err e = {0};
    char text[16];
    int r = sense_rpi_parse((const char *)data, size, &bits, &e);
    if (r < 0) {
        if (bits != 77 || e.code != r) abort();
        return 0;
    }
    snprintf(text, sizeof(text), "%x\n", (unsigned)bits);
    if (sense_rpi_parse(text, strlen(text), &again, NULL) < 0 || again != bits) abort();
    return 0;
}
