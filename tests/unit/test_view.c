/* The screen of `ebb top`: layout and drawing at every width, the facts of a status on it, what
 * hostile and missing answers become, and the lines for programs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl_field.h"
#include "daemon/ctl_screen.h"
#include "daemon/ctl_view.h"
#include "tests/t.h"

static const char status_text[] =
    "{\"state\":\"ready\",\"level\":1,\"model\":\"smollm2-135m\",\"hash\":\"a1\",\"position\":3,"
    "\"positions\":9,\"target\":5,\"bits\":5.84,\"budget_bytes\":100663296,"
    "\"resident_bytes\":94371840,\"kv_bytes\":4194304,\"scratch_bytes\":2097152,"
    "\"rss_bytes\":104857600,\"units\":{\"full\":2,\"high\":1,\"swsc\":1,\"paged\":0},"
    "\"duty\":75,\"threads\":3,\"threads_max\":4,"
    "\"thermal\":[{\"type\":\"cpu-thermal\",\"zone\":0,\"celsius\":78.5,\"passive_celsius\":80},"
    "{\"type\":\"gpu-thermal\",\"zone\":1,\"celsius\":null,\"passive_celsius\":null,"
    "\"hot_celsius\":null}],"
    "\"heat\":{\"stage\":2,\"headroom_celsius\":1.5,\"cooling\":true,\"clock_ratio\":0.625,"
    "\"throttled\":[\"under_voltage\",\"soft_limit\"]},"
    "\"memory\":{\"source\":\"watch\",\"available_bytes\":851443712,\"reserve_bytes\":268435456,"
    "\"operator_limit_bytes\":null,\"stall_some_ratio\":0.125,\"stall_full_ratio\":0.01,"
    "\"cgroup_left_bytes\":50331648,\"reason\":\"steady\"},"
    "\"speed\":{\"decode_tps\":23.15,\"prefill_tps\":210},"
    "\"requests\":{\"active\":1,\"queued\":2,\"completed\":30},"
    "\"paging\":{\"state\":\"on\",\"units\":0,\"bytes_per_token\":0,\"reads\":4,"
    "\"failed_reads\":0,\"wait_s\":1.25},\"uptime_s\":11520,\"version\":\"0.1.0\"}";

static const char ladder_text[] =
    "{\"steps\":[{\"unit\":\"layer 1\",\"index\":1,\"from\":\"full\",\"to\":\"high\"},"
    "{\"unit\":\"head\",\"index\":3,\"from\":\"full\",\"to\":\"high\"},"
    "{\"unit\":\"layer 1\",\"index\":1,\"from\":\"high\",\"to\":\"swsc\"},"
    "{\"unit\":\"layer 0\",\"index\":0,\"from\":\"full\",\"to\":\"high\"}]}";

static struct ctl_view make_view(const char *status, const char *ladder) {
    struct ctl_view v = {.now = 1000000, .answered = 999988};
    v.status = status ? cJSON_Parse(status) : NULL;
    v.ladder = ladder ? cJSON_Parse(ladder) : NULL;
    if (status) REQUIRE(v.status);
    return v;
}

/* The whole screen as text, rows ended by newlines; free() it. */
static char *text_of(const struct ctl_screen *s) {
    char row[CTL_COLS_MAX + 1];
    char *all = calloc(s->n_rows, CTL_COLS_MAX + 2);
    REQUIRE(all);
    for (unsigned i = 0; i < s->n_rows; i++) {
        ctl_screen_text(s, i, row);
        CHECK(strlen(row) <= s->n_cols);
        strcat(strcat(all, row), "\n");
    }
    return all;
}

static char *show(const struct ctl_view *v, unsigned cols, unsigned rows) {
    struct ctl_screen s = {0};
    REQUIRE(ctl_screen_init(&s, cols, rows) == 0);
    ctl_view_screen(v, &s);
    char *text = text_of(&s);
    ctl_screen_fini(&s);
    return text;
}

static void check_shows(int line, const char *text, const char *part) {
    if (!text || !strstr(text, part))
        t_fail(__FILE__, line, "\"%s\" is not on the screen:\n%s", part, text ? text : "(none)");
}

#define CHECK_SHOWS(text, part) check_shows(__LINE__, text, part)

/* --- the screen alone --- */

static void items_wrap(void) {
    struct ctl_screen s = {0};
    char row[CTL_COLS_MAX + 1];
    REQUIRE(ctl_screen_init(&s, 40, 5) == 0);
    ctl_screen_section(&s, "label");
    ctl_screen_item(&s, CTL_STYLE_PLAIN, "%s", "twelve chars");
    ctl_screen_item(&s, CTL_STYLE_PLAIN, "%s", "sixteen chars ok");
    ctl_screen_item(&s, CTL_STYLE_PLAIN, "x");
    ctl_screen_text(&s, 0, row);
    CHECK_STR(row, "label     twelve chars  sixteen chars ok"); /* 40 to the last cell */
    ctl_screen_text(&s, 1, row);
    CHECK_STR(row, "          x");
    ctl_screen_section(&s, "long");
    ctl_screen_item(&s, CTL_STYLE_PLAIN, "%s", "0123456789012345678901234567890");
    ctl_screen_text(&s, 2, row);
    CHECK_STR(row, "long      01234567890123456789012345678~"); /* cut, and it shows */
    ctl_screen_section(&s, "words");
    ctl_screen_words(&s, CTL_STYLE_PLAIN, "a sentence that  is wrapped between words");
    ctl_screen_text(&s, 3, row);
    CHECK_STR(row, "words     a sentence that is wrapped");
    ctl_screen_text(&s, 4, row);
    CHECK_STR(row, "          between words");
    for (int i = 0; i < 9; i++) {
        ctl_screen_section(&s, "below");
        ctl_screen_item(&s, CTL_STYLE_PLAIN, "the edge");
        ctl_screen_cell(&s, CTL_STYLE_FULL, 'F');
    }
    ctl_screen_text(&s, 4, row);
    CHECK_STR(row, "          between words");
    ctl_screen_fini(&s);
}

static void foreign_text_is_tamed(void) {
    struct ctl_screen s = {0};
    char row[CTL_COLS_MAX + 1];
    REQUIRE(ctl_screen_init(&s, 80, 1) == 0);
    ctl_screen_section(&s, "");
    ctl_screen_item(&s, CTL_STYLE_PLAIN, "%s", "a\33[31mb\a\r\n\tc\x7f");
    ctl_screen_item(&s, CTL_STYLE_PLAIN, "%s",
                    "\xc2\x9b"
                    "31m"); /* CSI in two bytes */
    ctl_screen_item(&s, CTL_STYLE_PLAIN, "%s", "\xe6\xa8\xa1\xe5\x9e\x8b \xc3\xa9");
    ctl_screen_item(&s, CTL_STYLE_PLAIN, "%s", "\xff\x80\xc2"); /* not even UTF-8 */
    ctl_screen_text(&s, 0, row);
    CHECK_STR(row, "          a[31mbc  31m  ?? ?  ??");
    ctl_screen_fini(&s);
}

static void sizes_are_bounded(void) {
    struct ctl_screen s = {0};
    REQUIRE(ctl_screen_init(&s, 0, 0) == 0);
    CHECK_EQ(s.n_cols, 1);
    CHECK_EQ(s.n_rows, 1);
    REQUIRE(ctl_screen_init(&s, 65535, 65535) == 0);
    CHECK_EQ(s.n_cols, CTL_COLS_MAX);
    CHECK_EQ(s.n_rows, CTL_ROWS_MAX);
    ctl_screen_fini(&s);
    ctl_screen_fini(&s);
}

/* --- the view at every size --- */

/* What a terminal of that width would make of the drawn bytes: no row is longer than the width, no
 * unknown sequence, and the cells are those of the screen. */
static void check_drawn(struct ctl_screen *s, bool has_colour) {
    size_t n, col = 0;
    unsigned row = 0;
    const char *drawn = ctl_screen_draw(s, has_colour, false, &n); /* no text: it has no NUL */
    char *copy = malloc(n + 1);
    REQUIRE(copy);
    memcpy(copy, drawn, n);
    copy[n] = '\0';
    const char *p = copy, *end = p + n;
    char want[CTL_COLS_MAX + 1] = "";
    while (p < end) {
        unsigned at;
        int n_seq = 0;
        if (*p != '\33') {
            if (col >= s->n_cols || *p < 0x20 || *p > 0x7e)
                t_fail(__FILE__, __LINE__, "column %zu of %u: %#x", col, s->n_cols, *p);
            char have = s->cells[(size_t)row * s->n_cols + MIN(col, s->n_cols - 1)];
            CHECK_EQ(*p, have ? have : ' ');
            col++;
            p++;
        } else if (sscanf(p, "\33[%u;1H%n", &at, &n_seq) == 1 && n_seq) {
            row = at - 1;
            col = 0;
            REQUIRE(row < s->n_rows);
            p += n_seq;
        } else {
            size_t k = strcspn(p, "hlKm");
            REQUIRE(p + k < end && k < 12);
            CHECK(has_colour || p[k] != 'm');
            if (p[k] == 'K') {
                ctl_screen_text(s, row, want);
                CHECK(strlen(want) <= col && col < s->n_cols);
            }
            p += k + 1;
        }
    }
    CHECK_EQ(row, s->n_rows - 1);
    free(copy);
}

static void every_width(void) {
    static const unsigned heights[] = {1, 2, 5, 24, 256};
    struct ctl_view views[] = {make_view(status_text, ladder_text), make_view("{}", NULL),
                               make_view(NULL, NULL)};
    err_set(&views[2].why, -ECONNREFUSED, "cannot connect to /run/ebb/ebb.sock: refused");
    for (int i = 0; i < 70; i++)
        ctl_view_event(&views[0], 5, "position", "{\"from\":1,\"to\":2,\"reason\":\"limit\"}");
    struct ctl_screen s = {0};
    for (size_t k = 0; k < ARRAY_LEN(views); k++)
        for (unsigned cols = 1; cols <= 300; cols++)
            for (size_t h = 0; h < ARRAY_LEN(heights); h++) {
                REQUIRE(ctl_screen_init(&s, cols, heights[h]) == 0);
                ctl_view_screen(&views[k], &s);
                check_drawn(&s, cols % 2 == 0);
            }
    ctl_screen_fini(&s);
    for (size_t k = 0; k < ARRAY_LEN(views); k++) ctl_view_fini(&views[k]);
}

static void everything_is_shown(void) {
    static const char *const facts[] = {
        "smollm2-135m",
        "ready",
        "level 1 guarded",
        "up 3 h 12 min",
        "3 of 9",
        "on its way to 5",
        "5.84 bits a weight",
        "full 2",
        "swsc 1",
        "units     HFSF",
        "resident 90.0 MiB",
        "KV 4.0 MiB",
        "scratch 2.0 MiB",
        "RSS 100.0 MiB",
        "budget 96.0 MiB",
        "available 812.0 MiB",
        "reserve 256.0 MiB",
        "left in cgroup 48.0 MiB",
        "stalled some 12.5%, full 1.0%",
        "source watch",
        "reason steady",
        "cpu-thermal 78.5 of 80.0 C",
        "gpu-thermal -",
        "stage 2",
        "headroom 1.5 C",
        "the kernel slows the CPU",
        "clock 62%",
        "throttled: under_voltage",
        "throttled: soft_limit",
        "duty 75%",
        "threads 3 of 4",
        "decode 23.1 tokens/s",
        "prompt 210.0 tokens/s",
        "active 1",
        "queued 2",
        "completed 30",
        "reads 4",
        "waited 1.2 s",
        "position 3 -> 7, limit: returned 12.0 MiB in 3.1",
        "paging: state failing, error bad disk",
        "it answers again",
    };
    struct ctl_view v = make_view(status_text, ladder_text);
    ctl_view_event(&v, 7, "paging", "{\"state\":\"failing\",\"error\":\"bad disk\"}");
    ctl_view_say(&v, 8, "it answers again");
    ctl_view_event(&v, 9, "position",
                   "{\"time\":5.5,\"from\":3,\"to\":7,\"bytes\":12582912,\"reason\":\"limit\","
                   "\"ms\":3.14}");
    for (unsigned cols = 70; cols <= 300; cols += 46) {
        char *text = show(&v, cols, 60);
        for (size_t i = 0; i < ARRAY_LEN(facts); i++) CHECK_SHOWS(text, facts[i]);
        CHECK(strstr(text, "3 -> 7") < strstr(text, "it answers again")); /* newest first */
        free(text);
    }
    char *small = show(&v, 20, 5);
    CHECK_SHOWS(small, "ready");
    CHECK_SHOWS(small, "3 of 9");
    CHECK_SHOWS(small, "HFSF");
    free(small);
    ctl_view_fini(&v);
}

static void unknown_is_not_zero(void) {
    static const char *const statuses[] = {
        "{}",
        ("{\"memory\":null,\"thermal\":null,\"units\":[],\"heat\":7,\"speed\":\"x\","
         "\"requests\":{},\"paging\":[1],\"position\":null,\"level\":\"1\",\"duty\":{}}"),
        "{\"thermal\":[],\"heat\":{\"throttled\":null},\"bits\":1e400,\"level\":-1e300}",
    };
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        struct ctl_view v = make_view(statuses[i], NULL);
        char *text = show(&v, 100, 40);
        CHECK_SHOWS(text, "- of -");
        CHECK_SHOWS(text, "- bits");
        CHECK_SHOWS(text, "units     -\n");
        CHECK_SHOWS(text, "resident -");
        CHECK_SHOWS(text, "budget -");
        CHECK_SHOWS(text, "available unknown");
        CHECK_SHOWS(text, "stalled some -, full -");
        CHECK_SHOWS(text, "stage -");
        CHECK_SHOWS(text, "clock -");
        CHECK_SHOWS(text, "throttled -");
        CHECK_SHOWS(text, "duty -");
        CHECK_SHOWS(text, "threads - of -");
        CHECK_SHOWS(text, "decode -");
        CHECK(!strstr(text, "0.0") && !strstr(text, " 0 "));
        free(text);
        ctl_view_fini(&v);
    }
    struct ctl_view none = make_view("{\"budget_bytes\":null,\"thermal\":[]}", NULL);
    char *text = show(&none, 100, 40);
    CHECK_SHOWS(text, "budget none"); /* not set is known */
    CHECK_SHOWS(text, "zones none");
    free(text);
    ctl_view_fini(&none);
}

static void no_answer(void) {
    struct ctl_view v = make_view(NULL, ladder_text);
    err_set(&v.why, -ECONNREFUSED, "cannot connect to /run/ebb/ebb.sock");
    ctl_view_say(&v, 3, "the daemon does not answer");
    char *text = show(&v, 80, 24);
    CHECK_SHOWS(text, "no answer, trying again");
    CHECK_SHOWS(text, "the last came 12 s ago");
    CHECK_SHOWS(text, "cannot connect to /run/ebb/ebb.sock");
    CHECK_SHOWS(text, "the daemon does not answer");
    CHECK(!strstr(text, "position")); /* nothing stale */
    free(text);
    ctl_view_fini(&v);
}

/* --- units --- */

static void check_units(const char *ladder, const char *status, const char *want) {
    struct ctl_view v = make_view(status, ladder);
    struct ctl_units units;
    memset(&units, 'x', sizeof(units));
    ctl_units_read(v.ladder, v.status, &units);
    CHECK_EQ(units.n, strlen(want));
    CHECK_MEM(units.letters, want, MIN(units.n, strlen(want)));
    ctl_view_fini(&v);
}

static void units_from_the_ladder(void) {
    static const char *const want[] = {"FFFF", "FFHF", "HFHF", "HFSF", "HHSF", "HHSF"};
    for (unsigned i = 0; i < ARRAY_LEN(want); i++) {
        char status[100];
        snprintf(status, sizeof(status), "{\"position\":%u,\"units\":{\"full\":3,\"high\":1}}", i);
        check_units(ladder_text, status, want[i]);
    }
    static const char four[] = "{\"position\":1,\"units\":{\"full\":4}}";
    check_units("{\"steps\":[{\"unit\":\"layer 2\",\"index\":2,\"to\":\"paged\"}]}", four, "FFFP");
    check_units("{\"steps\":[{\"unit\":\"layer 2\",\"index\":2,\"to\":\"new\"}]}", four, "FFF?");
    /* What makes no sense is unknown. */
    check_units(NULL, four, "");
    check_units("{}", four, "");
    check_units("{\"steps\":[{\"unit\":\"layer 3\",\"index\":3,\"to\":\"high\"}]}", four, "");
    check_units("{\"steps\":[{\"unit\":\"layer 9\",\"index\":-1,\"to\":\"high\"}]}", four, "");
    check_units("{\"steps\":[{\"index\":1e300,\"to\":\"high\"}]}", four, "");
    check_units("{\"steps\":[1]}", four, "");
    check_units(ladder_text, "{}", "");
    check_units(ladder_text, "{\"position\":1,\"units\":{\"full\":1e9}}", "");
    check_units(ladder_text, "{\"position\":1,\"units\":{\"full\":-4}}", "");
    check_units(ladder_text, "{\"units\":{\"full\":4}}", "");
}

/* --- lines --- */

static char *line_of(const struct ctl_view *v, bool is_json) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    REQUIRE(f);
    if (is_json)
        CHECK(ctl_view_json(v, f));
    else
        ctl_view_line(v, f);
    fclose(f);
    CHECK(n > 0 && text[n - 1] == '\n' && !memchr(text, '\n', n - 1));
    return text;
}

/* The keys of a line, joined. Fields are `key=value`, with no blank in either. */
static void keys_of(char *line, char ret[2000]) {
    ret[0] = '\0';
    char *save, *word = strtok_r(line, " \n", &save);
    for (; word; word = strtok_r(NULL, " \n", &save)) {
        char *eq = strchr(word, '=');
        REQUIRE(eq && eq > word && eq[1] && !strchr(eq + 1, '='));
        eq[1] = '\0';
        strcat(ret, word);
    }
}

static void lines_have_the_same_fields(void) {
    static const char *const hostile =
        "{\"state\":\"a b=c\\u001b[1m\\n\",\"model\":\"\",\"position\":1e300,"
        "\"heat\":{\"throttled\":[\"x y\",7,\""
        "0123456789012345678901234567890123456789"
        "0123456789012345678901234567890123456789012345678901234567890123456789"
        "01234567890123456789012345678901234567890123456789012345678901234567890\"]}}";
    struct ctl_view views[] = {make_view(status_text, NULL), make_view("{}", NULL),
                               make_view(NULL, NULL), make_view(hostile, NULL)};
    char keys[2000], first[2000] = "";
    err_set(&views[2].why, -ECONNREFUSED, "cannot connect: no=one");
    for (size_t i = 0; i < ARRAY_LEN(views); i++) {
        char *line = line_of(&views[i], false);
        if (i == 0) {
            CHECK_SHOWS(line, "time=1970-01-12T13:46:40Z answer=yes state=ready level=1 ");
            CHECK_SHOWS(line, " position=3 positions=9 target=5 bits=5.840 full=2 high=1 ");
            CHECK_SHOWS(line, " budget_bytes=100663296 available_bytes=851443712 ");
            CHECK_SHOWS(line, " operator_limit_bytes=none ");
            CHECK_SHOWS(line, " stage=2 ");
            CHECK_SHOWS(line, " zone=cpu-thermal celsius=78.5 throttled=under_voltage,soft_limit ");
        }
        if (i == 1) CHECK_SHOWS(line, " position=- positions=- ");
        if (i == 2) CHECK_SHOWS(line, " answer=no state=- ");
        if (i == 2) CHECK_SHOWS(line, " error=cannot_connect:_no_one\n");
        if (i == 3) CHECK_SHOWS(line, " state=a_b_c__1m_ ");
        keys_of(line, keys);
        if (i == 0) strcpy(first, keys);
        CHECK_STR(keys, first);
        free(line);
        ctl_view_fini(&views[i]);
    }
}

static void json_lines(void) {
    struct ctl_view v = make_view(status_text, ladder_text);
    char *line = line_of(&v, true);
    cJSON *tree = cJSON_Parse(line);
    REQUIRE(tree);
    CHECK_STR(ctl_field_string(tree, "time"), "1970-01-12T13:46:40Z");
    CHECK_STR(ctl_field_string(tree, "model"), "smollm2-135m");
    CHECK_STR(ctl_field_string(ctl_field(tree, "rungs"), "head"), "high");
    CHECK_STR(ctl_field_string(ctl_field(tree, "rungs"), "1"), "swsc");
    CHECK_STR(ctl_field_string(ctl_field(tree, "rungs"), "2"), "full");
    cJSON_Delete(tree);
    free(line);
    ctl_view_fini(&v);

    err_set(&v.why, -ECONNREFUSED, "refused");
    line = line_of(&v, true);
    CHECK_STR(line, "{\"time\":\"1970-01-12T13:46:40Z\",\"state\":\"unreachable\","
                    "\"error\":\"refused\"}\n");
    free(line);
}

static void fields(void) {
    cJSON *o = cJSON_Parse("{\"a\":1.25,\"n\":null,\"s\":\"x\",\"big\":1e300,\"b\":1536}");
    REQUIRE(o);
    CHECK_STR(ctl_field_text(o, "a", 100, 0).s, "125");
    CHECK_STR(ctl_field_unit(o, "a", 1, 1, " C").s, "1.2 C");
    CHECK_STR(ctl_field_unit(o, "n", 1, 1, " C").s, "-");
    CHECK_STR(ctl_field_text(o, "s", 1, 1).s, "-");
    CHECK_STR(ctl_field_text(o, "none", 1, 1).s, "-");
    CHECK_STR(ctl_field_text(NULL, "none", 1, 1).s, "-");
    CHECK_STR(ctl_field_text(o, "big", 1, 3).s, "1e+300");
    CHECK_STR(ctl_field_bytes(o, "big").s, "absurd");
    CHECK_STR(ctl_field_bytes(o, "b").s, "1.5 KiB");
    CHECK_STR(ctl_field_string(o, "a"), "-");
    cJSON_Delete(o);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"items_wrap", items_wrap},
        {"foreign_text_is_tamed", foreign_text_is_tamed},
        {"sizes_are_bounded", sizes_are_bounded},
        {"every_width", every_width},
        {"everything_is_shown", everything_is_shown},
        {"unknown_is_not_zero", unknown_is_not_zero},
        {"no_answer", no_answer},
        {"units_from_the_ladder", units_from_the_ladder},
        {"lines_have_the_same_fields", lines_have_the_same_fields},
        {"json_lines", json_lines},
        {"fields", fields},
    };
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
