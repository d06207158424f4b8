/* `ebb doctor`, the sensors: each source that the governor could go by, what it says or why it says
 * nothing, and how to switch it on.
 *
 * The daemon's own list is used if it has one: only the daemon knows what its sandbox lets it see.
 * Otherwise the same code reads the sources from here. Why a kernel has no stalls or no memory
 * controller is told by its command line, which is what one has to change. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/err.h"
#include "daemon/ctl.h"
#include "daemon/ctl_doctor.h"
#include "daemon/ctl_field.h"
#include "daemon/sense.h"

/* /sys answers in milliseconds, or a driver hangs. */
enum { SYS_WAIT_US = 2000000 };

/* --- the kernel's command line --- */

struct kernel {
    bool has_cmdline;
    bool is_pi;
    bool is_psi_off;    /* psi=0 */
    bool is_psi_on;     /* psi=1 */
    bool is_cgroup_off; /* cgroup_disable=memory, and no cgroup_enable=memory behind it */
    const char *file;   /* where the command line is kept */
};

/* Is "memory" one of the words of list[n], which has commas between? */
static bool lists_memory(const char *list, size_t n) {
    while (n > 0) {
        const char *comma = memchr(list, ',', n);
        size_t len = comma ? (size_t)(comma - list) : n;
        if (len == 6 && memcmp(list, "memory", 6) == 0) return true;
        list += len + (comma != NULL);
        n -= len + (comma != NULL);
    }
    return false;
}

static void take_word(struct kernel *k, const char *word, size_t n) {
    static const char off[] = "cgroup_disable=", on[] = "cgroup_enable=", psi[] = "psi=";
    const size_t n_off = sizeof(off) - 1, n_on = sizeof(on) - 1, n_psi = sizeof(psi) - 1;
    if (n > n_off && memcmp(word, off, n_off) == 0) {
        if (lists_memory(word + n_off, n - n_off)) k->is_cgroup_off = true;
    } else if (n > n_on && memcmp(word, on, n_on) == 0) {
        if (lists_memory(word + n_on, n - n_on)) k->is_cgroup_off = false;
    } else if (n > n_psi && memcmp(word, psi, n_psi) == 0) {
        /* The kernel takes 1, y and on for yes; the last word counts. */
        k->is_psi_on = strchr("1yYtT", word[n_psi]) || (n - n_psi >= 2 && word[n_psi + 1] == 'n');
        k->is_psi_off = !k->is_psi_on;
    }
}

static struct kernel look_at_kernel(const struct ctl_doctor *d) {
    static const char *const files[] = {"/boot/firmware/cmdline.txt", "/boot/cmdline.txt"};
    struct kernel k = {.file = "the kernel's command line (/etc/default/grub, or extlinux.conf)"};
    char text[4096], model[128];
    k.has_cmdline = ctl_doctor_word(d, "/proc/cmdline", text, sizeof(text));
    k.is_pi = ctl_doctor_word(d, "/proc/device-tree/model", model, sizeof(model)) &&
              strstr(model, "Raspberry Pi") != NULL;
    if (k.is_pi) k.file = "the one line of /boot/firmware/cmdline.txt";
    for (size_t i = ARRAY_LEN(files); i-- > 0;) {
        char line[4096];
        if (ctl_doctor_word(d, files[i], line, sizeof(line)))
            k.file = i == 0 ? "the one line of /boot/firmware/cmdline.txt"
                            : "the one line of /boot/cmdline.txt";
    }
    for (const char *p = k.has_cmdline ? text : ""; *p;) {
        size_t n = strcspn(p, " \t\n");
        take_word(&k, p, n);
        p += n;
        p += strspn(p, " \t\n");
    }
    return k;
}

/* --- what to do about a source that says nothing --- */

static const char *psi_advice(const struct kernel *k, char *buf, size_t n) {
    if (k->is_psi_off)
        snprintf(buf, n, "change psi=0 to psi=1 in %s, and reboot", k->file);
    else if (k->is_psi_on)
        snprintf(buf, n,
                 "psi=1 is set already: this kernel is built without CONFIG_PSI, another "
                 "one is needed");
    else
        snprintf(buf, n, "add psi=1 to %s, and reboot%s", k->file,
                 k->is_pi ? " (the stock kernel has it built in, and off)" : "");
    return buf;
}

static const char *cgroup_advice(const struct kernel *k, char *buf, size_t n) {
    if (k->is_cgroup_off)
        snprintf(buf, n,
                 "the kernel was started with cgroup_disable=memory%s: add cgroup_enable=memory to "
                 "%s, and reboot",
                 k->is_pi ? " (the firmware adds it on a Raspberry Pi)" : "", k->file);
    else
        snprintf(buf, n,
                 "limits of the unit do nothing without it; add cgroup_enable=memory to %s, and "
                 "reboot",
                 k->file);
    return buf;
}

/* What is unknown, as opposed to absent, is a place that is not found or a file that says nothing.
 */
static const char hidden_cgroup_advice[] =
    "nothing grows while a limit may be near and is not seen: in a container use a cgroup "
    "namespace "
    "of its own (docker run --cgroupns=private), or mount /sys/fs/cgroup of the same one";

/* --- the sources --- */

struct source {
    const char *name, *value, *why;
    bool is_known, is_absent;
};

static void say_source(struct ctl_doctor *d, const struct source *s, enum ctl_verdict if_unknown,
                       enum ctl_verdict if_absent, const char *check, const char *advice) {
    if (s->is_known)
        ctl_doctor_say(d, CTL_GOOD, check, NULL, "%.200s", s->value);
    else
        ctl_doctor_say(d, s->is_absent ? if_absent : if_unknown, check, advice, "%s: %.300s",
                       s->is_absent ? "not there" : "unknown", s->why);
}

/* The bits that are set now are a fault to look at; those of the past, a thing to know. */
static void say_throttle(struct ctl_doctor *d, const struct source *s) {
    bool is_now = strstr(s->value, " now") != NULL, was = strstr(s->value, "since boot") != NULL;
    const char *advice = strstr(s->value, "under-voltage")
                             ? "the supply or its cable is too weak, which is not heat: use the "
                               "official supply, and no hub between"
                             : "it is too warm: a heat sink or a fan";
    if (!s->is_known || !(is_now || was))
        say_source(d, s, CTL_NOTE, CTL_GOOD, "throttle", "look at dmesg for the firmware driver");
    else
        ctl_doctor_say(d, is_now ? CTL_BAD : CTL_NOTE, "throttle", advice, "%.200s", s->value);
}

static void say_any(struct ctl_doctor *d, const struct kernel *k, const struct source *s) {
    char buf[320];
    if (strcmp(s->name, "mem_available") == 0)
        say_source(d, s, CTL_BAD, CTL_BAD, "meminfo",
                   "nothing grows without it: the unit must not set ProcSubset=pid; a kernel from "
                   "3.14 on has it");
    else if (strcmp(s->name, "stall") == 0)
        say_source(d, s, CTL_NOTE, CTL_NOTE, "pressure", psi_advice(k, buf, sizeof(buf)));
    else if (strcmp(s->name, "cgroup") == 0)
        say_source(d, s, CTL_BAD, CTL_NOTE, "cgroup",
                   s->is_absent ? cgroup_advice(k, buf, sizeof(buf)) : hidden_cgroup_advice);
    else if (strcmp(s->name, "refaults") == 0)
        say_source(d, s, CTL_NOTE, CTL_NOTE, "vmstat",
                   "thrashing goes unseen without it: the unit must not set ProcSubset=pid");
    else if (strcmp(s->name, "heat") == 0)
        say_source(d, s, CTL_NOTE, CTL_NOTE, "thermal",
                   "nothing to do on a virtual machine; on a board its thermal driver is missing, "
                   "and ebbd cannot know that it is hot");
    else if (strcmp(s->name, "throttle") == 0)
        say_throttle(d, s);
    else
        say_source(d, s, CTL_NOTE, CTL_GOOD, s->name, "see `journalctl -u ebbd`");
}

/* The daemon's own list; false if it gives none. */
static bool say_theirs(struct ctl_doctor *d, const struct kernel *k) {
    const cJSON *all = ctl_field(d->status, "sources"), *item;
    if (!cJSON_IsArray(all) || cJSON_GetArraySize(all) == 0) return false;
    cJSON_ArrayForEach(item, all) {
        const char *state = ctl_field_string(item, "state");
        const struct source s = {
            .name = ctl_field_string(item, "name"),
            .value = ctl_field_string(item, "value"),
            .why = ctl_field_string(item, "why"),
            .is_known = strcmp(state, "known") == 0,
            .is_absent = strcmp(state, "absent") == 0,
        };
        say_any(d, k, &s);
    }
    return true;
}

static void say_ours(struct ctl_doctor *d, const struct kernel *k, const struct sense_reading *r) {
    struct sense_status all[SENSE_N_SOURCES];
    sense_list(r, all);
    for (size_t i = 0; i < SENSE_N_SOURCES; i++) {
        const struct source s = {
            .name = all[i].name,
            .value = all[i].value,
            .why = all[i].why,
            .is_known = all[i].state == SENSE_KNOWN,
            .is_absent = all[i].state == SENSE_ABSENT,
        };
        /* Page faults of this program tell nothing of the daemon's. */
        if (i != SENSE_OWN_FAULTS) say_any(d, k, &s);
    }
}

void ctl_doctor_sensors(struct ctl_doctor *d) {
    struct err e = {0};
    struct sense *s = NULL;
    struct kernel k = look_at_kernel(d);
    struct timespec now;
    const struct sense_opts o = {.root = d->c->root};
    if (sense_create(&o, &s, &e) < 0) {
        ctl_doctor_say(d, CTL_BAD, "sensors", "give a shorter --root", "%s", e.msg);
        return;
    }
    struct sense_reading r;
    ignore_result(sense_wait(s, SYS_WAIT_US)); /* if not, the reading says so of each source */
    clock_gettime(CLOCK_MONOTONIC, &now);
    sense_read(s, (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000, &r);
    ignore_result(sense_destroy(s)); /* one that hangs is left to the end of this program */

    if (!say_theirs(d, &k)) say_ours(d, &k, &r);
    ctl_doctor_zones(d, &r);
    ctl_doctor_cpus(d, &r);
}
