#include "daemon/sense_rpi.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "core/err.h"

enum { MAX_TEXT = 64, RESCANS_A_SEARCH = 3 };

int sense_rpi_parse(const char *text, size_t n, uint32_t *ret_bits, struct err *e) {
    uint32_t v = 0;
    if (n == 0) return err_set(e, -EBADMSG, "the file is empty");
    if (text[n - 1] != '\n') return err_set(e, -EBADMSG, "the number is cut");
    size_t i = n > 2 && text[0] == '0' && text[1] == 'x' ? 2 : 0;
    if (n - 1 - i < 1 || n - 1 - i > 8) return err_set(e, -EBADMSG, "no 32 bits in hexadecimal");
    for (; i < n - 1; i++) {
        char c = text[i];
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            digit = (uint32_t)(c - 'A' + 10);
        else
            return err_set(e, -EBADMSG, "no 32 bits in hexadecimal");
        v = v << 4 | digit;
    }
    *ret_bits = v;
    return 0;
}

/* The root stands in patterns as it is: what glob() reads as a sign there is escaped. */
static int escape(const char *root, char *ret, struct err *e) {
    size_t n = 0;
    for (const char *p = strcmp(root, "/") == 0 ? "" : root; *p; p++) {
        if (n + 3 > SENSE_MAX_PATH)
            return err_set(e, -ENAMETOOLONG, "the path of a sensor is too long");
        if (strchr("*?[\\", *p)) ret[n++] = '\\';
        ret[n++] = *p;
    }
    ret[n] = '\0';
    return 0;
}

/* First file that one of the patterns finds; *ret is "" if none does. */
static int find_throttled(const char *root, char *ret, struct err *e) {
    static const char *const patterns[] = {
        /* Pi 0 to 4: soc/soc:firmware; Pi 5: soc@107c000000/... and axi/..., by kernel. */
        "/sys/devices/platform/*firmware*/get_throttled",
        "/sys/devices/platform/*/*firmware*/get_throttled",
        "/sys/devices/platform/*/*/*firmware*/get_throttled",
    };
    ret[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(patterns) && !ret[0]; i++) {
        char pattern[SENSE_MAX_PATH];
        glob_t found;
        int r = sense_text_path(pattern, e, root, "%s", patterns[i]);
        if (r < 0) return r;
        r = glob(pattern, GLOB_NOSORT, NULL, &found);
        if (r == 0 && found.gl_pathc > 0 && strlen(found.gl_pathv[0]) < SENSE_MAX_PATH)
            strcpy(ret, found.gl_pathv[0]);
        globfree(&found);
        if (r == GLOB_NOSPACE) return err_set(e, -ENOMEM, "no memory to look for get_throttled");
    }
    return 0;
}

static int find_alarm(const char *root, char *ret, struct err *e) {
    char folder[SENSE_MAX_PATH];
    uint32_t numbers[64];
    size_t n, n_beyond;
    ret[0] = '\0';
    int r = sense_text_path(folder, e, root, "/sys/class/hwmon");
    if (r < 0) return r;
    if (sense_text_numbered(folder, "hwmon", numbers, ARRAY_LEN(numbers), &n, &n_beyond, NULL) < 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        char path[SENSE_MAX_PATH], text[MAX_TEXT];
        size_t n_text;
        r = sense_text_path(path, e, root, "/sys/class/hwmon/hwmon%u/name", numbers[i]);
        if (r < 0) return r;
        if (sense_text_read(path, text, sizeof(text), &n_text, NULL) < 0) continue;
        if (n_text != 9 || memcmp(text, "rpi_volt\n", 9) != 0) continue;
        return sense_text_path(ret, e, root, "/sys/class/hwmon/hwmon%u/in0_lcrit_alarm",
                               numbers[i]);
    }
    return 0;
}

void sense_rpi_init(struct sense_rpi *at) {
    *at = (struct sense_rpi){0};
    sense_file_init(&at->throttled_file);
    sense_file_init(&at->alarm_file);
    sense_folder_init(&at->platform);
    sense_folder_init(&at->hwmon);
}

void sense_rpi_close(struct sense_rpi *at) {
    sense_file_close(&at->throttled_file);
    sense_file_close(&at->alarm_file);
    sense_folder_close(&at->platform);
    sense_folder_close(&at->hwmon);
}

bool sense_rpi_is_hot(uint32_t bits) {
    if (bits & SENSE_RPI_SOFT_LIMIT) return true;
    return bits & (SENSE_RPI_CAPPED | SENSE_RPI_THROTTLED) && !(bits & SENSE_RPI_UNDER_VOLTAGE);
}

static bool is_same(struct sense_folder *f, const char *root, const char *rel) {
    char path[SENSE_MAX_PATH];
    return sense_text_path(path, NULL, root, "%s", rel) == 0 && sense_folder_is_same(f, path);
}

static bool has_same_folders(struct sense_rpi *at, const char *root) {
    bool has_same_platform = is_same(&at->platform, root, "/sys/devices/platform");
    return is_same(&at->hwmon, root, "/sys/class/hwmon") && has_same_platform;
}

static int search(struct sense_rpi *at, const char *root, struct err *e) {
    char escaped[SENSE_MAX_PATH], throttled[SENSE_MAX_PATH], alarm[SENSE_MAX_PATH];
    int r = escape(root, escaped, e);
    if (r == 0) r = find_throttled(escaped, throttled, e);
    if (r == 0) r = find_alarm(root, alarm, e);
    if (r < 0) {
        sense_folder_close(&at->platform); /* the next look is a whole one */
        return r;
    }
    if (strcmp(throttled, at->throttled) != 0) sense_file_close(&at->throttled_file);
    if (strcmp(alarm, at->alarm) != 0) sense_file_close(&at->alarm_file);
    strcpy(at->throttled, throttled);
    strcpy(at->alarm, alarm);
    return 0;
}

/* What was found is kept while it answers. */
static bool is_due(const struct sense_rpi *at, const struct sense_when *w) {
    if (!at->has_searched || w->now_us < at->searched_us) return true;
    if (at->throttled[0] && sense_file_is_open(&at->throttled_file)) return false;
    return w->now_us - at->searched_us >= RESCANS_A_SEARCH * w->rescan_us;
}

static int read_alarm(struct sense_rpi *at, const struct sense_when *w, uint32_t *ret_bits,
                      struct err *e) {
    char text[MAX_TEXT];
    size_t n;
    uint64_t v;
    int r = sense_file_read(&at->alarm_file, at->alarm, w, text, sizeof(text), &n, e);
    if (r < 0) return r;
    r = sense_text_value(text, n, &v, e);
    if (r == 0 && v > 1) r = err_set(e, -EBADMSG, "an alarm is 0 or 1");
    if (r < 0) {
        err_prefix(e, "%s", at->alarm);
        return r;
    }
    *ret_bits = v ? SENSE_RPI_UNDER_VOLTAGE : 0;
    return 0;
}

static int read_throttled(struct sense_rpi *at, const struct sense_when *w, uint32_t *ret_bits,
                          struct err *e) {
    char text[MAX_TEXT];
    size_t n;
    int r = sense_file_read(&at->throttled_file, at->throttled, w, text, sizeof(text), &n, e);
    if (r < 0) return r;
    r = sense_rpi_parse(text, n, ret_bits, e);
    if (r < 0) err_prefix(e, "%s", at->throttled);
    return r;
}

int sense_rpi_read(struct sense_rpi *at, const char *root, const struct sense_when *w,
                   uint32_t *ret_bits, uint32_t *ret_mask, struct err *e) {
    if (sense_may_open(w) && is_due(at, w)) {
        int r = has_same_folders(at, root) ? 0 : search(at, root, e);
        if (r < 0) return r;
        at->has_searched = true;
        at->searched_us = w->now_us;
    }
    if (!at->has_searched)
        return err_set(e, -EAGAIN, "the firmware was not looked for before the limit");
    int r = err_set(e, -ENODATA, "there is no firmware of a Raspberry Pi");
    if (at->throttled[0]) {
        r = read_throttled(at, w, ret_bits, e);
        if (r == 0) *ret_mask = SENSE_RPI_NOW | SENSE_RPI_SINCE_BOOT;
    }
    if (r < 0 && at->alarm[0]) {
        r = read_alarm(at, w, ret_bits, e);
        if (r == 0) *ret_mask = SENSE_RPI_UNDER_VOLTAGE;
    }
    if (r == 0 && e) *e = (struct err){0};
    return r;
}
