/* `ebb top` from any bytes: a status, a ladder and an event, each ended by a NUL, behind two bytes
 * of size. Whatever they are, every row fits the screen, only printable ASCII and the sequences
 * that draw reach the terminal, and a line of fields is one line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl_screen.h"
#include "daemon/ctl_view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next text, as a copy; NULL behind the last. */
static char *take(const uint8_t **data, size_t *size) {
    if (*size == 0) return NULL;
    const uint8_t *nul = memchr(*data, 0, *size);
    size_t n = nul ? (size_t)(nul - *data) : *size;
    char *text = malloc(n + 1);
    if (!text) abort();
    memcpy(text, *data, n);
    text[n] = '\0';
    *data += n + (nul != NULL);
    *size -= n + (nul != NULL);
    return text;
}

static void check_screen(const struct ctl_view *v, unsigned n_cols, unsigned n_rows) {
    struct ctl_screen s = {0};
    char row[CTL_COLS_MAX + 1];
    size_t n;
    if (ctl_screen_init(&s, n_cols, n_rows) < 0) abort();
    ctl_view_screen(v, &s);
    for (unsigned i = 0; i < s.n_rows; i++) {
        ctl_screen_text(&s, i, row);
        if (strlen(row) > s.n_cols) abort();
        for (const char *p = row; *p; p++)
            if (*p < 0x20 || *p > 0x7e) abort();
    }
    const char *out = ctl_screen_draw(&s, true, true, &n);
    for (size_t i = 0; i < n; i++)
        if (out[i] != '\33' && (out[i] < 0x20 || out[i] > 0x7e)) abort();
    ctl_screen_fini(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ctl_view v = {.now = 1000, .answered = 990};
    if (size < 2) return 0;
    unsigned n_cols = data[0], n_rows = data[1] % 64;
    data += 2;
    size -= 2;
    char *status = take(&data, &size), *ladder = take(&data, &size), *event = take(&data, &size);
    v.status = status ? cJSON_Parse(status) : NULL;
    v.ladder = ladder ? cJSON_Parse(ladder) : NULL;
    if (status) ctl_view_event(&v, 1000, "state", status);
    if (event) ctl_view_event(&v, 1000, "position", event);
    if (event) ctl_view_event(&v, 1000, event, ladder);
    check_screen(&v, n_cols, n_rows);

    char *line = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&line, &n);
    if (!f) abort();
    ctl_view_line(&v, f);
    fclose(f);
    if (n == 0 || memchr(line, '\n', n) != line + n - 1) abort();
    for (size_t i = 0; i + 1 < n; i++)
        if (line[i] < 0x20 || line[i] > 0x7e) abort();
    free(line);
    line = NULL;
    f = open_memstream(&line, &n);
    if (!f) abort();
    if (!ctl_view_json(&v, f)) abort();
    fclose(f);
    cJSON *again = cJSON_ParseWithLength(line, n);
    if (!again) abort();
    cJSON_Delete(again);
    free(line);
    ctl_view_fini(&v);
    free(status);
    free(ladder);
    free(event);
    return 0;
}
