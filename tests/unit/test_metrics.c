/* Prometheus text: every family described once and in one piece, labels escaped, buckets add up. */
#include "daemon/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/buf.h"
#include "tests/t.h"

static char *text_of(const struct metrics *m) {
    struct buf b = {0};
    metrics_put_counters(&b, m);
    buf_add(&b, "", 1);
    REQUIRE(!b.failed);
    return b.p;
}

/* Samples belong to the family announced last, and no family is announced twice. */
static void families(void) {
    struct metrics m = {0};
    char seen[64][64], family[64] = "";
    size_t n_seen = 0;
    metrics_answer(&m, ROUTE_CHAT, 200);
    metrics_answer(&m, ROUTE_CHAT, 503);
    metrics_answer(&m, ROUTE_HEALTH, 299); /* a status we never send */
    char *text = text_of(&m), *save = NULL;
    CHECK(text[strlen(text) - 1] == '\n');
    CHECK(strstr(text, "ebb_requests_total{endpoint=\"chat\",code=\"503\"} 1\n"));
    CHECK(strstr(text, "ebb_requests_total{endpoint=\"health\",code=\"0\"} 1\n"));
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (sscanf(line, "# HELP %63s", family) == 1) {
            for (size_t i = 0; i < n_seen; i++) CHECK(strcmp(seen[i], family) != 0);
            REQUIRE(n_seen < 64);
            strcpy(seen[n_seen++], family);
            CHECK(strncmp(family, "ebb_", 4) == 0);
            continue;
        }
        char typed[64];
        if (sscanf(line, "# TYPE %63s", typed) == 1) {
            CHECK_STR(typed, family);
            bool is_counter = strstr(line, " counter") != NULL;
            size_t n = strlen(family);
            CHECK(is_counter == (n > 6 && strcmp(family + n - 6, "_total") == 0));
            continue;
        }
        CHECK(strncmp(line, family, strlen(family)) == 0);
        CHECK(strrchr(line, ' ') && strlen(strrchr(line, ' ')) > 1);
    }
    CHECK(n_seen > 10);
    free(text);
}

static void histograms(void) {
    struct metrics m = {0};
    metrics_observe(&m.swap_seconds, 0.0005);
    metrics_observe(&m.swap_seconds, 0.001); /* a bound belongs to its bucket */
    metrics_observe(&m.swap_seconds, 0.3);
    metrics_observe(&m.swap_seconds, 1e6);
    char *text = text_of(&m);
    CHECK(strstr(text, "ebb_swap_duration_seconds_bucket{le=\"0.001\"} 2\n"));
    CHECK(strstr(text, "ebb_swap_duration_seconds_bucket{le=\"0.25\"} 2\n"));
    CHECK(strstr(text, "ebb_swap_duration_seconds_bucket{le=\"0.5\"} 3\n"));
    CHECK(strstr(text, "ebb_swap_duration_seconds_bucket{le=\"120\"} 3\n"));
    CHECK(strstr(text, "ebb_swap_duration_seconds_bucket{le=\"+Inf\"} 4\n"));
    CHECK(strstr(text, "ebb_swap_duration_seconds_count 4\n"));
    free(text);
}

static void labels(void) {
    char s[16];
    metrics_label("a\"b\\c\nd", s, sizeof(s));
    CHECK_STR(s, "a\\\"b\\\\c\\nd");
    metrics_label("0123456789abcdefgh", s, 8); /* cut, and closed */
    CHECK(strlen(s) < 8);
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"families", families}, {"histograms", histograms}, {"labels", labels}};
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
