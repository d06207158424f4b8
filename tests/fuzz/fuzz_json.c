/* JSON from any bytes: what the check accepts the parser must understand, and any bytes come out of
 * the escaper as JSON. */
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/buf.h"
#include "daemon/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    if (json_check(text, size, NULL) == 0) {
        cJSON *j = cJSON_ParseWithLength(text, size);
        if (!j) abort();
        cJSON_Delete(j);
    }
    struct buf b = {0};
    json_put_string(&b, text, size);
    if (!b.failed && !memchr(text, 0, size) && json_check(b.p, b.n, NULL) != 0) abort();
    buf_fini(&b);
    return 0;
}
