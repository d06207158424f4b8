/* Gathers the sources into one reading. What to make of it is the governor's business. */
#include "daemon/sense.h"

#include "daemon/sense_meminfo.h"

void sense_read(const char *root, struct sense_reading *ret) {
    *ret = (struct sense_reading){0};
    ret->has_mem = sense_meminfo_read(root, &ret->mem_available_bytes, &ret->mem_err) == 0;
}

bool sense_changed(const struct sense_reading *before, const struct sense_reading *now) {
    return before->has_mem != now->has_mem;
}
