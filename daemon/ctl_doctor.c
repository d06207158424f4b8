/* `ebb doctor`: looks from the outside at what most often stands in the way. Each finding that is
 * not good comes with what to do about it. It changes nothing, and runs nothing. */
#include "daemon/ctl_doctor.h"

#include <errno.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "daemon/ctl.h"
#include "daemon/ctl_tty.h"
#include "daemon/sense_text.h"

/* Columns before a finding, and before its continued lines. */
enum { INDENT = 21, MIN_TEXT_COLS = 20 };

/* Characters, not bytes, of text[n]. */
static unsigned n_chars(const char *text, size_t n) {
    unsigned n_seen = 0;
    for (size_t i = 0; i < n; i++) n_seen += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n_seen;
}

/* `text` from column INDENT on, to the end of the line; on a terminal wrapped between words. */
static void print_wrapped(const struct ctl_doctor *d, const char *text) {
    unsigned room = d->n_cols > INDENT ? d->n_cols - INDENT : 0, col = 0;
    char word[640];
    if (room < MIN_TEXT_COLS) {
        ctl_print(stdout, text);
        putchar('\n');
        return;
    }
    while (*text) {
        size_t n = strcspn(text, " ");
        unsigned width = n_chars(text, n);
        if (col > 0 && col + 1 + width > room) {
            printf("\n%*s", INDENT, "");
            col = 0;
        } else if (col > 0) {
            putchar(' ');
            col++;
        }
        snprintf(word, sizeof(word), "%.*s", (int)MIN(n, sizeof(word) - 1), text);
        ctl_print(stdout, word);
        col += width;
        text += n;
        while (*text == ' ') text++;
    }
    putchar('\n');
}

void ctl_doctor_say(struct ctl_doctor *d, enum ctl_verdict v, const char *check, const char *advice,
                    const char *fmt, ...) {
    static const char *const words[] = {"ok", "note", "BAD"};
    char text[640];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    d->n_bad += v == CTL_BAD;
    d->n_note += v == CTL_NOTE;
    if (v == CTL_GOOD) advice = NULL;
    if (d->c->is_json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "check", check);
        cJSON_AddStringToObject(o, "verdict", words[v]);
        cJSON_AddStringToObject(o, "finding", text);
        if (advice) cJSON_AddStringToObject(o, "advice", advice);
        cJSON_AddItemToArray(d->findings, o);
        return;
    }
    /* The daemon names its sources, and what it says may be hostile. */
    printf("%-5s ", words[v]);
    ctl_print(stdout, check);
    printf("%*s ", (int)(14 - MIN(strlen(check), (size_t)14)), "");
    print_wrapped(d, text);
    if (!advice) return;
    char arrow[640];
    snprintf(arrow, sizeof(arrow), "-> %s", advice);
    printf("%*s", INDENT, "");
    print_wrapped(d, arrow);
}

int ctl_doctor_read(const struct ctl_doctor *d, const char *rel, char *buf, size_t n) {
    char path[SENSE_MAX_PATH];
    size_t got;
    int r = sense_text_path(path, NULL, d->c->root, "%s", rel);
    if (r == 0) r = sense_text_read(path, buf, n - 1, &got, NULL);
    if (r < 0) return r;
    buf[got] = '\0';
    return (int)got;
}

int ctl_doctor_read_pid(const struct ctl_doctor *d, const char *name, char *buf, size_t n) {
    char rel[64];
    if (d->pid <= 0) return -ESRCH;
    snprintf(rel, sizeof(rel), "/proc/%d/%s", (int)d->pid, name);
    return ctl_doctor_read(d, rel, buf, n);
}

bool ctl_doctor_word(const struct ctl_doctor *d, const char *rel, char *buf, size_t n) {
    int got = ctl_doctor_read(d, rel, buf, n);
    while (got > 0 && strchr(" \t\n", buf[got - 1])) buf[--got] = '\0';
    return got > 0;
}

unsigned ctl_doctor_systemd(const struct ctl_doctor *d) {
    /* Its library carries the version in its name, on Debian and elsewhere. */
    static const char *const patterns[] = {"/usr/lib/systemd/libsystemd-shared-*.so",
                                           "/usr/lib/*/systemd/libsystemd-shared-*.so",
                                           "/lib/systemd/libsystemd-shared-*.so"};
    unsigned version = 0;
    for (size_t i = 0; i < ARRAY_LEN(patterns) && version == 0; i++) {
        char pattern[SENSE_MAX_PATH];
        glob_t g;
        if (sense_text_path(pattern, NULL, d->c->root, "%s", patterns[i]) < 0) return 0;
        if (glob(pattern, 0, NULL, &g) != 0) continue;
        const char *last = strstr(g.gl_pathv[g.gl_pathc - 1], "libsystemd-shared-");
        if (!last || sscanf(last, "libsystemd-shared-%4u", &version) != 1) version = 0;
        globfree(&g);
    }
    return version;
}

int ctl_doctor(const struct ctl *c) {
    struct ctl_doctor d = {.c = c, .findings = cJSON_CreateArray()};
    if (isatty(STDOUT_FILENO)) {
        const struct ctl_tty tty = {.out_fd = STDOUT_FILENO};
        unsigned n_rows;
        ctl_tty_size(&tty, &d.n_cols, &n_rows);
    }
    ctl_doctor_daemon(&d);
    ctl_doctor_place(&d);
    ctl_doctor_sensors(&d);
    ctl_doctor_machine(&d);
    if (c->is_json) {
        char *text = cJSON_Print(d.findings);
        if (text) ctl_print(stdout, text);
        putchar('\n');
        cJSON_free(text);
    } else if (d.n_bad || d.n_note) {
        printf("%u bad, %u to note\n", d.n_bad, d.n_note);
    } else {
        puts("all well");
    }
    cJSON_Delete(d.findings);
    cJSON_Delete(d.status);
    return d.n_bad ? CTL_PROBLEM : CTL_OK;
}
