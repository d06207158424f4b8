#include "tests/unit/root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/t.h"

static char root[512];

const char *root_make(void) {
    static unsigned n;
    snprintf(root, sizeof(root), "%s/root-%u", t_tmpdir(), n++);
    REQUIRE(mkdir(root, 0700) == 0);
    return root;
}

const char *root_path(const char *rel) {
    static char path[1024];
    snprintf(path, sizeof(path), "%s/%s", root, rel);
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        REQUIRE(mkdir(path, 0700) == 0 || errno == EEXIST);
        *p = '/';
    }
    return path;
}

void root_put_n(const char *rel, const char *text, size_t n) {
    const char *path = root_path(rel);
    char part[1100];
    struct stat st;
    snprintf(part, sizeof(part), "%s.new", path);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, text, n) == (ssize_t)n);
    close(fd);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) REQUIRE(rmdir(path) == 0);
    REQUIRE(rename(part, path) == 0);
}

void root_put(const char *rel, const char *text) {
    root_put_n(rel, text, strlen(text));
}

void root_remove(const char *rel) {
    REQUIRE(remove(root_path(rel)) == 0);
}

void root_put_fifo(const char *rel) {
    remove(root_path(rel));
    REQUIRE(mkfifo(root_path(rel), 0600) == 0);
}

void root_put_folder(const char *rel) {
    remove(root_path(rel));
    REQUIRE(mkdir(root_path(rel), 0700) == 0);
}

static void put_line(const char *folder, const char *name, const char *text) {
    char rel[300], line[400];
    snprintf(rel, sizeof(rel), "%s/%s", folder, name);
    snprintf(line, sizeof(line), "%s\n", text);
    root_put(rel, line);
}

static void zone_folder(char *ret, size_t cap, unsigned number) {
    snprintf(ret, cap, "sys/class/thermal/thermal_zone%u", number);
}

void root_put_zone(unsigned number, const char *type, const char *temp) {
    char folder[100];
    zone_folder(folder, sizeof(folder), number);
    put_line(folder, "type", type);
    put_line(folder, "temp", temp);
}

void root_put_trip(unsigned number, unsigned trip, const char *type, const char *temp) {
    char folder[100], name[60];
    zone_folder(folder, sizeof(folder), number);
    snprintf(name, sizeof(name), "trip_point_%u_type", trip);
    put_line(folder, name, type);
    snprintf(name, sizeof(name), "trip_point_%u_temp", trip);
    put_line(folder, name, temp);
}

void root_remove_zone(unsigned number) {
    static const char *const parts[] = {"/type", "/temp", ""};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        char folder[100], rel[200];
        zone_folder(folder, sizeof(folder), number);
        snprintf(rel, sizeof(rel), "%s%s", folder, parts[i]);
        root_remove(rel);
    }
}

void root_put_cgroup(const char *path, const char *current, const char *high, const char *max,
                     unsigned long inactive_file, unsigned long active_file) {
    char folder[200], stat[300];
    snprintf(folder, sizeof(folder), "sys/fs/cgroup%s", path);
    put_line(folder, "memory.current", current);
    put_line(folder, "memory.high", high);
    put_line(folder, "memory.max", max);
    snprintf(stat, sizeof(stat),
             "anon 1\nfile 2\ninactive_anon 3\nactive_anon 4\ninactive_file %lu\nactive_file %lu\n"
             "workingset_refault_anon 5\nworkingset_refault_file 6\npgmajfault 7",
             inactive_file, active_file);
    put_line(folder, "memory.stat", stat);
}
