/* Settings from any bytes: refused with a place, or printed and read back to the same. */
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/schema.h"
#include "core/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct config c, again;
    struct err e = {0};
    int r = config_parse("f", (const char *)data, size, &c, &e);
    if (r < 0) {
        if (strncmp(e.msg, "f:", 2) != 0) abort();
        return 0;
    }
    char *text = config_print(&c);
    if (!text) return 0;
    if (config_parse("f", text, strlen(text), &again, NULL) != 0) abort();
    for (size_t i = 0; i < schema_n_keys(); i++)
        if (!schema_equal(schema_key_at(i), &c, &again)) abort();
    free(text);
    return 0;
}
