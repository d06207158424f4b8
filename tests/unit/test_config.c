/* The settings: values, the YAML subset, messages with their place, printing and reading back. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "config/schema.h"
#include "config/value.h"
#include "core/err.h"
#include "tests/t.h"

#define MODEL "model:\n  path: a.ebb\n"

static int parse(const char *text, struct config *c, struct err *e) {
    return config_parse("f", text, strlen(text), c, e);
}

static void defaults_are_as_documented(void) {
    struct config c;
    struct err e = {0};
    REQUIRE_OK(parse(MODEL, &c, &e), &e);
    CHECK_STR(c.model_path, "a.ebb");
    CHECK_STR(c.socket_path, "/run/ebb/ebb.sock");
    CHECK_STR(c.socket_admin_path, "/run/ebb/admin.sock");
    CHECK_STR(c.socket_group, "");
    CHECK_EQU(c.socket_mode, 0660);
    CHECK_EQU(c.serve_slots, 4);
    CHECK_EQU(c.serve_queue, 64);
    CHECK_EQU(c.serve_ctx, 2048);
    CHECK_EQU(c.serve_max_tokens, 512);
    CHECK_EQU(c.serve_threads, 0);
    CHECK_EQU(c.serve_prompt_chunk, 32);
    CHECK_EQU(c.serve_connections, 128);
    CHECK_EQU(c.serve_body_bytes, 1 << 20);
    CHECK_EQU(c.serve_buffer_bytes, 256 << 10);
    CHECK_EQU(c.serve_header_us, 10000000);
    CHECK_EQU(c.serve_body_us, 30000000);
    CHECK_EQU(c.serve_idle_us, 60000000);
    CHECK_EQU(c.serve_stall_us, 30000000);
    CHECK_EQU(c.serve_drain_us, 20000000);
    CHECK_STR(c.precision_ladder, "jaccard");
    CHECK_EQU(c.memory_limit_bytes, CONFIG_AUTO_BYTES);
    CHECK_EQU(c.memory_reserve_bytes, 256 << 20);
    CHECK_EQU(c.memory_margin_bytes, 16 << 20);
    CHECK_EQU(c.memory_hold_us, 30000000);
    CHECK_EQU(c.memory_step_us, 1000000);
    CHECK_STR(c.sense_root, "/");
    CHECK_EQU(c.sense_interval_us, 100000);
    CHECK_EQU(c.sense_stale_us, 5000000);
    CHECK_EQU(c.sense_rescan_us, 10000000);
    CHECK_EQU(c.sense_report_us, 30000000);
    CHECK_EQ(c.log_level, LOG_INFO);
}

static void values_are_read(void) {
    struct config c;
    struct err e = {0};
    REQUIRE_OK(parse("# a comment\n---\nmodel: {path: \"/m/a b.ebb\"}\n"
                     "serve:\n  slots: \"8\"\n  drain_timeout: 1.5s\n  idle_timeout: 2 min\n"
                     "memory:\n  limit: 1.5GiB\n  reserve: 4096\n"
                     "socket: {mode: '0600', group: ebb}\n"
                     "sense:\nlog:\n  level: debug\n",
                     &c, &e),
               &e);
    CHECK_STR(c.model_path, "/m/a b.ebb");
    CHECK_EQU(c.serve_slots, 8);
    CHECK_EQU(c.serve_drain_us, 1500000);
    CHECK_EQU(c.serve_idle_us, 120000000);
    CHECK_EQU(c.memory_limit_bytes, UINT64_C(3) << 29);
    CHECK_EQU(c.memory_reserve_bytes, 4096);
    CHECK_EQU(c.socket_mode, 0600);
    CHECK_STR(c.socket_group, "ebb");
    CHECK_EQ(c.log_level, LOG_DEBUG);
}

struct bad {
    const char *text, *message;
};

/* clang-format off */
static const struct bad bad_files[] = {
    {"", "f:1:1: model.path is missing; it must be given"},
    {"\n# nothing\n", "f:1:1: model.path is missing; it must be given"},
    {"--- \n", "f:1:1: model.path is missing; it must be given"},
    {MODEL "serve:\n  slot: 4\n", "f:4:3: unknown key 'serve.slot'; did you mean serve.slots?"},
    {MODEL "serve:\n  qqqqqqqqqqqqqqqqqqqqq: 4\n", "f:4:3: unknown key 'serve.qqqqqqqqqqqqqqqqqqqqq'"},
    {MODEL "server:\n  slots: 4\n", "f:3:1: unknown section 'server'; did you mean serve?"},
    {MODEL "slots: 4\n", "f:3:1: unknown section 'slots'; did you mean serve.slots?"},
    {MODEL "memory: {slots: 4}\n", "f:3:10: unknown key 'memory.slots'; did you mean serve.slots?"},
    {MODEL "serve.slots: 4\n",
     "f:3:1: unknown section 'serve.slots'; write 'section:' and the key below it"},
    {MODEL "serve:\n  slots: 4\n  slots: 5\n", "f:5:3: serve.slots is given twice, first in line 4"},
    {MODEL "serve:\n  slots: 4\nserve:\n  queue: 5\n", "f:5:1: serve is given twice, first in line 3"},
    {MODEL "serve: 4\n", "f:3:8: a section's keys are wanted here, on lines of their own"},
    {MODEL "serve: [4]\n", "f:3:8: lists are not supported"},
    {MODEL "serve: {slots: {a: 4}}\n", "f:3:16: a value is wanted here, not a map"},
    {MODEL "serve: {{a: b}: 4}\n", "f:3:9: a key must be plain text"},
    {MODEL "? {a: b}\n: 4\n", "f:3:3: a key must be plain text"},
    {"[a]\n", "f:1:1: lists are not supported"},
    {"text\n", "f:1:1: sections are wanted here, such as 'serve:'"},
    {MODEL "---\nserve: {}\n", "f:3:1: a second document is not supported"},
    {"%YAML 1.1\n---\n" MODEL, "f:1:1: directives (%) are not supported"},
    {"%TAG ! tag:x,2000:\n---\n" MODEL, "f:1:1: directives (%) are not supported"},
    {MODEL "serve: &a {slots: 4}\n", "f:3:8: anchors (&name) are not supported"},
    {MODEL "serve: {slots: &a 4}\n", "f:3:16: anchors (&name) are not supported"},
    {MODEL "serve: {slots: *a}\n", "f:3:16: aliases (*name) are not supported"},
    {MODEL "serve: {slots: !!int 4}\n", "f:3:16: tags (!name) are not supported"},
    {MODEL "serve: !x {slots: 4}\n", "f:3:8: tags (!name) are not supported"},
    {MODEL "serve: {slots: 0}\n", "f:3:16: serve.slots: 0 is out of range: 1 to 64"},
    {MODEL "serve: {slots: 65}\n", "f:3:16: serve.slots: 65 is out of range: 1 to 64"},
    {MODEL "serve: {slots: }\n", "f:3:16: serve.slots: '' is not a whole number, such as 4"},
    {MODEL "serve: {slots: -1}\n", "f:3:16: serve.slots: '-1' is not a whole number, such as 4"},
    {MODEL "serve: {slots: 4.0}\n", "f:3:16: serve.slots: '4.0' is not a whole number, such as 4"},
    {MODEL "serve: {slots: 010}\n", "f:3:16: serve.slots: '010' is not a whole number, such as 4"},
    {MODEL "serve: {slots: 18446744073709551617}\n",
     "f:3:16: serve.slots: '18446744073709551617' is not a whole number, such as 4"},
    {MODEL "serve: {slots: \"4\\n\"}\n", "f:3:16: serve.slots: '4?' is not a whole number, such as 4"},
    {MODEL "serve: {slots: \"4\\0\"}\n", "f:3:16: serve.slots: '4?' is not a whole number, such as 4"},
    {MODEL "memory: {limit: 4MB}\n",
     "f:3:17: memory.limit: '4MB' is not a size, such as 512MiB (units: B KiB MiB GiB TiB)"},
    {MODEL "memory: {limit: 4KiB}\n",
     "f:3:17: memory.limit: 4KiB is out of range: 1MiB to 1024TiB, or auto"},
    {MODEL "memory: {reserve: auto}\n",
     "f:3:19: memory.reserve: 'auto' is not a size, such as 512MiB (units: B KiB MiB GiB TiB)"},
    {MODEL "memory: {hold: 30}\n",
     "f:3:16: memory.hold: '30' is not a time, such as 30s (units: ms s min)"},
    {MODEL "heat: {margin: 8}\n", "f:3:16: heat.margin: '8' is not a temperature, such as 80C"},
    {MODEL "heat: {margin: -8C}\n",
     "f:3:16: heat.margin: '-8C' is not a temperature, such as 80C"},
    {MODEL "heat: {margin: 61C}\n", "f:3:16: heat.margin: 61C is out of range: 1C to 60C"},
    {MODEL "socket: {mode: 0680}\n",
     "f:3:16: socket.mode: '0680' is not an octal file mode, such as 0660"},
    {MODEL "socket: {mode: 1777}\n", "f:3:16: socket.mode: 1777 is out of range: 0600 to 0777"},
    {MODEL "socket: {group: a/b}\n",
     "f:3:17: socket.group: a name may hold letters, digits, '.', '_' and '-' only"},
    {MODEL "socket: {path: \"a\\u0007b\"}\n",
     "f:3:16: socket.path: control characters and invalid UTF-8 are not allowed"},
    {MODEL "socket: {path: \"a\\u2028b\"}\n",
     "f:3:16: socket.path: control characters and invalid UTF-8 are not allowed"},
    {MODEL "socket: {path: /run/ebb/admin.sock}\n",
     "f:3:16: socket.path and socket.admin_path are the same"},
    {MODEL "socket: {admin_path: /run/ebb/ebb.sock}\n",
     "f:3:22: socket.path and socket.admin_path are the same"},
    {"model: {path: ''}\n", "f:1:15: model.path: it must not be empty"},
    {MODEL "log: {level: loud}\n", "f:3:14: log.level: 'loud' is none of error, warn, info, debug"},
    {MODEL "precision: {ladder: ''}\n", "f:3:21: precision.ladder: it must not be empty"},
    {MODEL "serve: {slots: 4\n", "f:4:1: not valid YAML: did not find expected ',' or '}'"},
    {MODEL "serve:\n\tslots: 4\n",
     "f:4:1: not valid YAML: found character that cannot start any token"},
    {MODEL "serve: \x01\n", "f:3:8: not valid YAML: control characters are not allowed"},
    {MODEL "serve: \xc3(\n", "f:3:9: not valid YAML: invalid trailing UTF-8 octet"},
};
/* clang-format on */

static void bad_files_are_refused_with_their_place(void) {
    for (size_t i = 0; i < ARRAY_LEN(bad_files); i++) {
        struct config c;
        memset(&c, 0x5a, sizeof(c));
        struct config before = c;
        struct err e = {0};
        CHECK_EQ(parse(bad_files[i].text, &c, &e), -EINVAL);
        CHECK_STR(e.msg, bad_files[i].message);
        CHECK_EQ(e.code, -EINVAL);
        CHECK_MEM(&c, &before, sizeof(c));
        CHECK_EQ(parse(bad_files[i].text, &c, NULL), -EINVAL);
    }
}

static void every_key_checks_both_ends_of_its_range(void) {
    for (size_t i = 0; i < schema_n_keys(); i++) {
        const struct schema_key *k = schema_key_at(i);
        if (k->type == SCHEMA_PATH || k->type == SCHEMA_NAME || k->type == SCHEMA_LOG_LEVEL ||
            k->type == SCHEMA_KV_TYPE || k->type == SCHEMA_SWITCH)
            continue;
        for (int end = 0; end < 4; end++) {
            uint64_t v = end < 2 ? k->min - (end == 0) : k->max + (end == 3);
            if (end == 0 && k->min == 0) continue;
            char text[VALUE_MAX_TEXT];
            if (k->type == SCHEMA_MODE)
                snprintf(text, sizeof(text), "%llo", (unsigned long long)v);
            else if (k->type == SCHEMA_TIME)
                value_format_time(v, text);
            else if (k->type == SCHEMA_TEMP)
                value_format_temp(v, text);
            else
                snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
            struct config c;
            struct err e = {0};
            config_defaults(&c);
            int r = schema_set(k, text, strlen(text), &c, &e);
            CHECK_EQ(r, end == 0 || end == 3 ? -EINVAL : 0);
            if ((r < 0) != (end == 0 || end == 3)) printf("    %s: %s\n", k->name, text);
        }
    }
}

static void paths_have_their_limits(void) {
    struct config c;
    struct err e = {0};
    char text[700], longest[300];
    memset(longest, 'x', sizeof(longest));
    for (size_t n = CONFIG_SUN_PATH_MAX; n <= CONFIG_SUN_PATH_MAX + 1; n++) {
        snprintf(text, sizeof(text), MODEL "socket:\n  path: %.*s\n", (int)n, longest);
        CHECK_EQ(parse(text, &c, &e), n > CONFIG_SUN_PATH_MAX ? -EINVAL : 0);
    }
    CHECK_STR(e.msg, "f:4:9: socket.path: 108 bytes are too long; at most 107 fit");
    for (size_t n = CONFIG_MAX_STR - 1; n <= CONFIG_MAX_STR; n++) {
        snprintf(text, sizeof(text), "model:\n  path: %.*s\n", (int)n, longest);
        CHECK_EQ(parse(text, &c, &e), n >= CONFIG_MAX_STR ? -EINVAL : 0);
    }
}

/* A file of 64 KiB that only nests must be refused as fast as any other. */
static void hostile_files_end_early(void) {
    enum { N = CONFIG_MAX_FILE_BYTES };
    static char text[N + 1];
    static const char *const fills[] = {"[", "{", "a: ", "- ", "&a ", "? ", "{a: "};
    struct config c;
    struct err e = {0};
    for (size_t f = 0; f < ARRAY_LEN(fills); f++) {
        size_t len = strlen(fills[f]);
        for (size_t i = 0; i < N; i++) text[i] = fills[f][i % len];
        CHECK_EQ(config_parse("f", text, N, &c, &e), -EINVAL);
    }
    memset(text, '#', sizeof(text));
    CHECK_EQ(config_parse("f", text, N, &c, &e), -EINVAL); /* no model */
    CHECK_EQ(config_parse("f", text, N + 1, &c, &e), -EFBIG);
    CHECK_STR(e.msg, "f: larger than 64 KiB");
}

static void write_file(const char *path, const char *text, size_t n) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, text, n) == (ssize_t)n);
    close(fd);
}

static void files_are_read(void) {
    struct config c;
    struct err e = {0};
    char path[400], message[500];
    snprintf(path, sizeof(path), "%s/ebb.yaml", t_tmpdir());
    CHECK_EQ(config_read(path, &c, &e), -ENOENT);
    snprintf(message, sizeof(message), "%s: cannot open it: No such file or directory", path);
    CHECK_STR(e.msg, message);
    write_file(path, MODEL, strlen(MODEL));
    REQUIRE_OK(config_read(path, &c, &e), &e);
    CHECK_STR(c.model_path, "a.ebb");

    static char large[CONFIG_MAX_FILE_BYTES + 1];
    memset(large, '\n', sizeof(large));
    write_file(path, large, sizeof(large));
    CHECK_EQ(config_read(path, &c, &e), -EFBIG);
    CHECK_EQ(config_read(t_tmpdir(), &c, &e), -EINVAL);
    snprintf(path, sizeof(path), "%s/fifo", t_tmpdir());
    REQUIRE(mkfifo(path, 0600) == 0);
    CHECK_EQ(config_read(path, &c, &e), -EINVAL);
    snprintf(message, sizeof(message), "%s: not a regular file", path);
    CHECK_STR(e.msg, message);
}

static uint64_t random_between(uint64_t *rng, uint64_t lo, uint64_t hi) {
    uint64_t span = hi - lo + 1;
    uint64_t v = t_rand(rng);
    /* Few bits now and then, so that round values with their units are met too. */
    if (v % 3 == 0) v &= UINT64_C(0xfff) << (v >> 58);
    return span ? lo + v % span : v;
}

static void random_config(uint64_t *rng, struct config *c) {
    static const char *const pieces[] = {
        "a",  "\"", "\\", " ",  "'", ":",  "#", "\xc3\xa9", "\xf0\x9f\x8c\x8a",
        "- ", "{",  "%",  "no", "~", "\\n"};
    config_defaults(c);
    for (size_t i = 0; i < schema_n_keys(); i++) {
        const struct schema_key *k = schema_key_at(i);
        char text[SCHEMA_MAX_VALUE] = "";
        size_t n = 0;
        uint64_t v = random_between(rng, k->min, k->max);
        switch (k->type) {
        case SCHEMA_NAME: snprintf(text, sizeof(text), "n-%u.x", (unsigned)(v % 1000)); break;
        case SCHEMA_PATH:
            snprintf(text, sizeof(text), "%zu", i); /* keeps the two sockets apart */
            while ((n = strlen(text)) + 4 < k->max && t_rand(rng) % 16)
                strcat(text, pieces[t_rand(rng) % ARRAY_LEN(pieces)]);
            break;
        case SCHEMA_COUNT: snprintf(text, sizeof(text), "%u", (unsigned)v); break;
        case SCHEMA_MODE: snprintf(text, sizeof(text), "%o", (unsigned)v); break;
        case SCHEMA_BYTES:
            value_format_bytes(v, text);
            if (k->has_auto && v % 2) strcpy(text, "auto");
            break;
        case SCHEMA_TIME: value_format_time(v, text); break;
        case SCHEMA_TEMP:
            value_format_temp(v, text);
            if (k->has_auto && v % 2) strcpy(text, "auto");
            break;
        case SCHEMA_LOG_LEVEL:
            strcpy(text, (const char *[]){"error", "warn", "info", "debug"}[v]);
            break;
        case SCHEMA_KV_TYPE: strcpy(text, v ? "f16" : "q8"); break;
        case SCHEMA_SWITCH: strcpy(text, v ? "on" : "off"); break;
        }
        struct err e = {0};
        REQUIRE_OK(schema_set(k, text, strlen(text), c, &e), &e);
    }
}

static void printing_reads_back_to_the_same(void) {
    uint64_t rng = t_seed();
    for (int round = 0; round < 3000; round++) {
        struct config a, b;
        struct err e = {0};
        random_config(&rng, &a);
        char *text = config_print(&a);
        REQUIRE(text);
        REQUIRE_OK(parse(text, &b, &e), &e);
        for (size_t i = 0; i < schema_n_keys(); i++)
            if (!schema_equal(schema_key_at(i), &a, &b))
                t_fail(__FILE__, __LINE__, "%s differs:\n%s", schema_key_at(i)->name, text);
        char *again = config_print(&b);
        CHECK_STR(again, text);
        free(again);
        free(text);
    }
}

/* A file of the source tree. */
static const char *source_text(const char *rel, char *path, size_t n_path) {
    static char have[CONFIG_MAX_FILE_BYTES];
    const char *source = getenv("EBB_SOURCE");
    snprintf(path, n_path, "%s/%s", source ? source : ".", rel);
    FILE *f = fopen(path, "r");
    REQUIRE(f);
    size_t n = fread(have, 1, sizeof(have) - 1, f);
    fclose(f);
    have[n] = '\0';
    return have;
}

/* The file in the tree is what --print-config says about it, so it cannot go stale. */
static void the_example_file_is_the_printed_one(void) {
    struct config c;
    struct err e = {0};
    char path[1024];
    const char *have = source_text("config/ebb.yaml", path, sizeof(path));
    REQUIRE_OK(config_read(path, &c, &e), &e);
    char *text = config_print(&c);
    REQUIRE(text);
    CHECK_STR(have, text);
    free(text);
}

static void the_readme_has_the_table(void) {
    char path[1024];
    char *text = config_table();
    REQUIRE(text);
    if (!strstr(source_text("README.md", path, sizeof(path)), text))
        t_fail(__FILE__, __LINE__, "%s does not hold this table:\n%s", path, text);
    free(text);
}

/* Any bytes: a message with a place or a valid file, never a crash. Mutations of a good file reach
 * deeper than noise. */
static void random_bytes_do_not_crash(void) {
    uint64_t rng = t_seed();
    struct config c;
    config_defaults(&c);
    strcpy(c.model_path, "a.ebb");
    char *good = config_print(&c);
    REQUIRE(good);
    size_t n = strlen(good);
    char *text = malloc(n);
    REQUIRE(text);
    unsigned n_ok = 0;
    for (int round = 0; round < 3000; round++) {
        memcpy(text, good, n);
        unsigned n_edits = 1 + t_rand(&rng) % 4;
        for (unsigned i = 0; i < n_edits; i++) {
            static const char set[] = "{}[]:,&*!#|>'\"%@`-?\n\t ~0a\x80\xff\0";
            text[t_rand(&rng) % n] = set[t_rand(&rng) % sizeof(set)];
        }
        size_t len = round % 2 ? n : t_rand(&rng) % n;
        struct err e = {0};
        int r = config_parse("f", text, len, &c, &e);
        CHECK(r == 0 || r == -EINVAL);
        n_ok += r == 0;
        if (r < 0 && strncmp(e.msg, "f:", 2) != 0)
            t_fail(__FILE__, __LINE__, "no place: %s", e.msg);
    }
    CHECK(n_ok > 0);
    free(text);
    free(good);
}

static void sizes_and_times(void) {
    uint64_t v;
    CHECK_EQ(config_parse_bytes("64MiB", &v), 0);
    CHECK_EQU(v, 64 << 20);
    CHECK_EQ(config_parse_bytes("1.5GiB", &v), 0);
    CHECK_EQU(v, UINT64_C(3) << 29);
    CHECK_EQ(config_parse_bytes("4096", &v), 0);
    CHECK_EQU(v, 4096);
    CHECK_EQ(config_parse_bytes("auto", &v), 0);
    CHECK_EQU(v, CONFIG_AUTO_BYTES);
    CHECK_EQ(config_parse_bytes("0", &v), 0);
    CHECK_EQU(v, 0);
    CHECK_EQ(config_parse_bytes("0.000001TiB", &v), 0);
    CHECK_EQU(v, 1099511);
    static const char *const bad[] = {
        "",      " ",    "-1",   "1.5",          "1.MiB",
        "1..5B", ".5B",  "1mib", "16777216TiB",  "1e3",
        "1 ",    "0x10", "1  B", "1.0000001MiB", "99999999999999999999"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        v = 7;
        if (config_parse_bytes(bad[i], &v) != -EINVAL)
            t_fail(__FILE__, __LINE__, "'%s' was taken as %llu", bad[i], (unsigned long long)v);
        CHECK_EQU(v, 7);
    }
    char buf[VALUE_MAX_TEXT];
    value_format_bytes(0, buf);
    CHECK_STR(buf, "0B");
    value_format_bytes(1536 << 10, buf);
    CHECK_STR(buf, "1536KiB");
    value_format_time(0, buf);
    CHECK_STR(buf, "0s");
    value_format_time(1500, buf);
    CHECK_STR(buf, "1.500ms");
    value_format_temp(72500, buf);
    CHECK_STR(buf, "72.500C");
    value_format_temp(80000, buf);
    CHECK_STR(buf, "80C");
}

static void restarts_are_named(void) {
    struct config a, b;
    char buf[64];
    config_defaults(&a);
    b = a;
    CHECK_EQU(config_needs_restart(&a, &b, buf, sizeof(buf)), 0);
    CHECK_STR(buf, "");
    b.memory_limit_bytes = 1 << 30;
    b.log_level = LOG_DEBUG;
    CHECK_EQU(config_needs_restart(&a, &b, buf, sizeof(buf)), 0);
    strcpy(b.sense_root, "/tmp");
    b.serve_slots = 9;
    CHECK_EQU(config_needs_restart(&a, &b, buf, sizeof(buf)), 2);
    CHECK_STR(buf, "serve.slots, sense.root");
    CHECK_EQU(config_needs_restart(&a, &b, buf, 12), 2);
    CHECK_STR(buf, "serve.slots");
    CHECK_EQU(config_needs_restart(&a, &b, buf, 11), 2);
    CHECK_STR(buf, "");
    CHECK_EQU(config_needs_restart(&a, &b, NULL, 0), 2);
}

static void a_reload_takes_only_what_it_may(void) {
    uint64_t rng = t_seed();
    for (int round = 0; round < 200; round++) {
        struct config now, next;
        random_config(&rng, &now);
        random_config(&rng, &next);
        struct config got = now;
        config_take_reloadable(&got, &next);
        for (size_t i = 0; i < schema_n_keys(); i++) {
            const struct schema_key *k = schema_key_at(i);
            CHECK(schema_equal(k, &got, k->is_reloadable ? &next : &now));
        }
        for (size_t i = 0; i < schema_n_keys(); i++) schema_copy(schema_key_at(i), &next, &got);
        for (size_t i = 0; i < schema_n_keys(); i++)
            CHECK(schema_equal(schema_key_at(i), &got, &next));
    }
}

static void the_table_has_a_row_for_each_key(void) {
    char *text = config_table();
    REQUIRE(text);
    size_t lines = 0;
    for (const char *s = text; *s; s++) lines += *s == '\n';
    CHECK_EQU(lines, schema_n_keys() + 2);
    CHECK(strstr(text, "| `serve.slots` | `4` | 1 to 64 | restart | Requests that"));
    free(text);
}

static const struct t_case cases[] = {
    {"defaults_are_as_documented", defaults_are_as_documented},
    {"values_are_read", values_are_read},
    {"bad_files_are_refused_with_their_place", bad_files_are_refused_with_their_place},
    {"every_key_checks_both_ends_of_its_range", every_key_checks_both_ends_of_its_range},
    {"paths_have_their_limits", paths_have_their_limits},
    {"hostile_files_end_early", hostile_files_end_early},
    {"files_are_read", files_are_read},
    {"printing_reads_back_to_the_same", printing_reads_back_to_the_same},
    {"the_example_file_is_the_printed_one", the_example_file_is_the_printed_one},
    {"random_bytes_do_not_crash", random_bytes_do_not_crash},
    {"sizes_and_times", sizes_and_times},
    {"restarts_are_named", restarts_are_named},
    {"a_reload_takes_only_what_it_may", a_reload_takes_only_what_it_may},
    {"the_table_has_a_row_for_each_key", the_table_has_a_row_for_each_key},
    {"the_readme_has_the_table", the_readme_has_the_table},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
