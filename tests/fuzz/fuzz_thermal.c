/* A temperature, and the choice of a zone by its type, from any bytes. */
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "daemon/sense_text.h"
#include "daemon/sense_thermal.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    int32_t mc = 1234567;
    char type[SENSE_MAX_TYPE] = "-";
    struct err e = {0};
    int r = sense_thermal_parse_mc(text, size, &mc, &e);
    if (r < 0 && (mc != 1234567 || e.code != r)) abort();
    if (r == 0 && (mc < SENSE_MIN_MC || mc > SENSE_MAX_MC)) abort();
    /* A type is a string that can be printed, and a list of it alone names it. */
    const char *newline = size > 0 ? memchr(text, '\n', size) : NULL;
    size_t n = newline ? (size_t)(newline - text) + 1 : size;
    if (sense_text_word(text, n, type, sizeof(type), NULL) < 0) {
        if (strcmp(type, "-") != 0) abort();
        return 0;
    }
    if (strlen(type) != n - 1) abort();
    if (!strchr(type, ',') && type[0] != ' ' && type[n - 2] != ' ' &&
        !sense_zone_is_listed(type, type))
        abort();
    struct sense_zone z = {0};
    memcpy(z.type, type, sizeof(z.type));
    if (sense_zone_is_chip(&z) && sense_zone_why_never(type)) abort();
    sense_zone_add_trip(&z, "critical", mc);
    struct sense_trip trip = sense_zone_trip(&z);
    if (trip.mc < SENSE_LEAST_TRIP_MC || trip.mc > 80000) abort();
    (void)sense_thermal_is_cpu_cooling(type);
    /* The rest is a list. */
    char *list = calloc(1, size - n + 1);
    if (!list) abort();
    memcpy(list, text + n, size - n);
    if (sense_zone_is_listed(list, type) && !strcasestr(list, type)) abort();
    free(list);
    return 0;
}
