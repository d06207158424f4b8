/* The file that daemons of one machine share: records, who lives, whose turn it is. Two of them in
 * one process are as good as in two, as their locks belong to descriptors. */
#include "daemon/peers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"
#include "tests/t.h"
#include "tests/unit/root.h"

#define SEC UINT64_C(1000000)

static struct peers *open_one(const char *path, const char *name) {
    struct peers *p = NULL;
    struct err e = {0};
    REQUIRE_OK(peers_open(path, name, &p, &e), &e);
    return p;
}

struct seen {
    uint64_t share_bytes;
    bool is_other_rising;
};

/* One decision with so much held, at most, and left, and the answer to it. */
static struct seen decide(struct peers *p, uint64_t held, uint64_t most, uint64_t left,
                          uint32_t position, enum gov_reason reason, uint64_t now_us) {
    struct gov_input in = {.position = 5, .has_mem = true, .mem_available_bytes = left + 3};
    const struct gov_output out = {.position = position, .reason = reason};
    const struct peers_self self = {.claim = {100, held, most}, .reserve_bytes = 3};
    peers_before(p, &self, now_us, &in);
    peers_after(p, &in, &out, 0, now_us);
    return (struct seen){in.share_bytes, in.is_other_rising};
}

/* One that leaves all as it is. */
static struct seen stay(struct peers *p, uint64_t held, uint64_t most, uint64_t left,
                        uint64_t now_us) {
    return decide(p, held, most, left, 5, GOV_STEADY, now_us);
}

/* Only the turn matters. */
static void after(struct peers *p, uint32_t position, enum gov_reason reason, uint64_t now_us) {
    decide(p, 1, 9, 9, position, reason, now_us);
}

static uint32_t n_others(const struct peers *p) {
    uint32_t n;
    peers_others(p, &n);
    return n;
}

static void records_are_read_as_written(void) {
    uint64_t rng = t_seed();
    for (int i = 0; i < 1000; i++) {
        struct peers_other o = {.name = "one", .id = t_rand(&rng), .is_rising = t_rand(&rng) % 2},
                           got;
        uint8_t record[PEERS_RECORD_BYTES];
        o.claim = (struct share_claim){(uint32_t)t_rand(&rng), t_rand(&rng), t_rand(&rng)};
        peers_encode(&o, record);
        REQUIRE(peers_decode(record, &got));
        CHECK(got.id == o.id && got.is_rising == o.is_rising && strcmp(got.name, "one") == 0);
        CHECK(got.claim.weight == o.claim.weight && got.claim.held_bytes == o.claim.held_bytes &&
              got.claim.most_bytes == o.claim.most_bytes);
        record[t_rand(&rng) % sizeof(record)] ^= (uint8_t)(1 + t_rand(&rng) % 255);
        CHECK(!peers_decode(record, &got)); /* torn, or not ours */
    }
}

static void a_name_is_plain(void) {
    struct peers_other o = {.name = "bad\x1b[2J"}, got;
    uint8_t record[PEERS_RECORD_BYTES];
    peers_encode(&o, record);
    CHECK(!peers_decode(record, &got));
    memset(o.name, 'x', sizeof(o.name)); /* without an end: cut */
    peers_encode(&o, record);
    REQUIRE(peers_decode(record, &got));
    CHECK_EQU(strlen(got.name), PEERS_MAX_NAME - 1);
}

static void two_share(void) {
    root_make();
    const char *path = root_path("peers");
    struct peers *a = open_one(path, "a"), *b = open_one(path, "b");
    struct seen in = stay(a, 400, 500, 200, SEC);
    CHECK_EQU(in.share_bytes, 0); /* the other has said nothing yet */
    CHECK(!in.is_other_rising);
    in = stay(b, 0, 500, 200, SEC);
    CHECK_EQU(in.share_bytes, 300);
    CHECK(in.is_other_rising); /* it is not our turn */
    CHECK_EQU(stay(a, 400, 500, 200, SEC + SEC / 2).share_bytes,
              0); /* none known: a look each second */
    CHECK_EQU(stay(a, 400, 500, 200, 2 * SEC).share_bytes, 300);
    stay(b, 100, 500, 100, 2 * SEC);
    CHECK_EQU(stay(a, 400, 500, 100, 2 * SEC + 1).share_bytes, 300); /* some known: at each call */
    uint32_t n;
    const struct peers_other *o = peers_others(a, &n);
    CHECK_EQU(n, 1);
    CHECK(strcmp(o->name, "b") == 0 && o->id == (uint64_t)getpid());
    CHECK_EQU(o->claim.held_bytes, 100);
    peers_close(b);
    CHECK_EQU(stay(a, 400, 500, 100, 2 * SEC + 2).share_bytes, 300); /* not seen yet */
    in = stay(a, 400, 500, 100, 4 * SEC);
    CHECK_EQU(in.share_bytes, 0);
    CHECK(!in.is_other_rising);
    peers_close(a);
}

static void one_rises_at_a_time(void) {
    root_make();
    const char *path = root_path("peers");
    struct peers *a = open_one(path, "a"), *b = open_one(path, "b");
    stay(a, 1, 9, 9, SEC);
    stay(b, 1, 9, 9, SEC);
    stay(a, 1, 9, 9, 2 * SEC);
    after(a, 5, GOV_STEADY, 2 * SEC);
    CHECK(!peers_has_turn(a)); /* not wanted */
    after(a, 5, GOV_TURN, 2 * SEC);
    CHECK(peers_has_turn(a));
    CHECK(!stay(a, 1, 9, 9, 2 * SEC).is_other_rising);
    CHECK(stay(b, 1, 9, 9, 2 * SEC).is_other_rising);
    uint32_t n;
    CHECK(peers_others(b, &n)->is_rising);
    after(b, 5, GOV_TURN, 2 * SEC);
    CHECK(!peers_has_turn(b));
    after(a, 4, GOV_ROOM, 3 * SEC);
    after(a, 5, GOV_STEADY, 5 * SEC - 1);
    CHECK(peers_has_turn(a)); /* what was taken is to show first */
    after(a, 5, GOV_STEADY, 5 * SEC);
    CHECK(!peers_has_turn(a));
    after(b, 5, GOV_TURN, 5 * SEC);
    CHECK(peers_has_turn(b));
    peers_close(b); /* it dies in its turn */
    after(a, 5, GOV_TURN, 5 * SEC);
    CHECK(peers_has_turn(a));
    peers_close(a);
}

static void a_turn_has_an_end(void) {
    root_make();
    const char *path = root_path("peers");
    struct peers *a = open_one(path, "a"), *b = open_one(path, "b");
    stay(a, 1, 9, 9, SEC);
    stay(b, 1, 9, 9, SEC);
    stay(a, 1, 9, 9, 2 * SEC);
    after(a, 5, GOV_TURN, 2 * SEC);
    uint64_t now_us = 2 * SEC;
    while (peers_has_turn(a) && now_us < 60 * SEC) {
        now_us += SEC / 10;
        after(a, 4, GOV_ROOM, now_us); /* step after step */
    }
    CHECK_EQU(now_us, 12 * SEC);
    after(a, 5, GOV_TURN, now_us);
    CHECK(!peers_has_turn(a)); /* now the other may */
    after(b, 5, GOV_TURN, now_us + SEC / 2);
    CHECK(peers_has_turn(b));
    peers_close(a);
    peers_close(b);
}

/* Whoever holds the lock for ever, of whatever user, keeps nobody down for ever. */
static void a_stuck_turn_is_passed_over(void) {
    root_make();
    const char *path = root_path("peers");
    struct peers *a = open_one(path, "a"), *b = open_one(path, "b");
    stay(a, 1, 9, 9, SEC);
    stay(b, 1, 9, 9, SEC);
    stay(a, 1, 9, 9, 2 * SEC);
    after(a, 5, GOV_TURN, 2 * SEC); /* and then it hangs */
    for (uint64_t s = 3; s < 63; s++) {
        after(b, 5, GOV_TURN, s * SEC);
        CHECK(!peers_has_turn(b));
    }
    after(b, 5, GOV_TURN, 63 * SEC);
    CHECK(peers_has_turn(b));
    after(b, 5, GOV_STEADY, 66 * SEC);
    CHECK(!peers_has_turn(b));
    after(b, 5, GOV_TURN, 67 * SEC);
    CHECK(!peers_has_turn(b)); /* patience begins anew */
    peers_close(a);
    peers_close(b);
}

static bool is_free(struct peers *p, uint64_t left, uint64_t now_us) {
    struct gov_input in = {.has_mem = true, .mem_available_bytes = left};
    const struct peers_self self = {.claim = {100, 0, 300}};
    return peers_is_free(p, &self, now_us, &in);
}

/* Who starts says so first, and takes its share when the others have left it. */
static void a_start_waits_for_its_share(void) {
    root_make();
    const char *path = root_path("peers");
    struct peers *a = open_one(path, "a"), *b;
    stay(a, 400, 500, 0, SEC);
    b = open_one(path, "b");
    CHECK(!is_free(b, 0, SEC));
    CHECK_EQU(stay(a, 400, 500, 0, 3 * SEC).share_bytes,
              200); /* it is known before it holds a byte */
    CHECK(!is_free(b, 199, 3 * SEC));
    CHECK(!is_free(b, 200, 3 * SEC)); /* it may be for something else that this is there */
    stay(a, 200, 500, 200, 3 * SEC);
    CHECK(is_free(b, 200, 4 * SEC));
    peers_close(a);
    CHECK(is_free(b, 0, 6 * SEC)); /* alone */
    CHECK(is_free(NULL, 0, SEC));
    peers_close(b);
}

/* What is being read or loaded is as good as held: others see no lack where there is none. */
static void what_is_coming_is_held(void) {
    root_make();
    const char *path = root_path("peers");
    struct peers *a = open_one(path, "a"), *b = open_one(path, "b");
    struct gov_input in = {.position = 5, .has_mem = true, .mem_available_bytes = 100};
    const struct gov_output out = {.position = 4};
    const struct peers_self self = {.claim = {100, 50, 900}};
    peers_before(a, &self, SEC, &in);
    peers_after(a, &in, &out, 80, SEC);
    stay(b, 1, 9, 9, SEC);
    uint32_t n;
    CHECK_EQU(peers_others(b, &n)->claim.held_bytes, 80);
    peers_before(a, &self, 2 * SEC, &in);
    peers_after(a, &in, &out, 40, 2 * SEC);
    stay(b, 1, 9, 9, 2 * SEC);
    CHECK_EQU(peers_others(b, &n)->claim.held_bytes, 50);
    peers_close(a);
    peers_close(b);
}

static void nothing_is_touched_above_the_limit(void) {
    root_make();
    const char *path = root_path("peers");
    struct peers *a = open_one(path, "a"), *b = open_one(path, "b");
    stay(a, 1, 9, 9, SEC);
    stay(b, 7, 9, 9, SEC);
    CHECK_EQU(stay(a, 1, 9, 9, 2 * SEC).share_bytes, 8); /* of 17 */
    struct gov_input in = {.position = 5, .has_mem = true, .mem_available_bytes = 2};
    const struct peers_self self = {.claim = {100, 3, 9}, .is_over_limit = true};
    const struct gov_output out = {.position = 5, .reason = GOV_TURN};
    peers_before(a, &self, 3 * SEC, &in);
    CHECK_EQU(in.share_bytes, 6); /* of 3 + 7 + 2, by what was known of the other */
    peers_after(a, &in, &out, 0, 3 * SEC);
    CHECK(!peers_has_turn(a));
    stay(b, 7, 9, 9, 3 * SEC);
    uint32_t n;
    CHECK_EQU(peers_others(b, &n)->claim.held_bytes, 1);
    peers_close(a);
    peers_close(b);
}

/* Whatever others write there: no share but that of what lives and makes sense. */
static void a_hostile_file_changes_nothing(void) {
    root_make();
    const char *path = root_path("peers");
    uint64_t rng = t_seed();
    struct peers *a = open_one(path, "a");
    int fd = open(path, O_RDWR);
    REQUIRE(fd >= 0);
    for (uint64_t i = 1; i < 2000; i++) {
        uint8_t noise[64];
        for (size_t k = 0; k < sizeof(noise); k++) noise[k] = (uint8_t)t_rand(&rng);
        if (i % 7 == 0) REQUIRE(ftruncate(fd, (off_t)(t_rand(&rng) % 5000)) == 0);
        REQUIRE(pwrite(fd, noise, sizeof(noise), (off_t)(t_rand(&rng) % 5000)) == sizeof(noise));
        CHECK_EQU(stay(a, 1, 9, 9, i * SEC).share_bytes, 0);
        CHECK_EQU(n_others(a), 0);
    }
    /* A record that is right, but nobody's. */
    struct peers_other o = {.name = "ghost", .id = 7, .claim = {1000, UINT64_MAX, UINT64_MAX}};
    uint8_t record[PEERS_RECORD_BYTES];
    peers_encode(&o, record);
    REQUIRE(pwrite(fd, record, sizeof(record), 3 * PEERS_RECORD_BYTES) == sizeof(record));
    CHECK_EQU(stay(a, 1, 9, 9, 3000 * SEC).share_bytes, 0);
    /* And somebody's with absurd numbers: no more than a share by weight is lost to it. */
    struct flock l = {.l_type = F_WRLCK, .l_start = 3 * PEERS_RECORD_BYTES, .l_len = 1};
    REQUIRE(fcntl(fd, F_OFD_SETLK, &l) == 0);
    CHECK_EQU(stay(a, 1100, 2200, 0, 3002 * SEC).share_bytes, 2200);
    o.claim.held_bytes = 0;
    peers_encode(&o, record);
    REQUIRE(pwrite(fd, record, sizeof(record), 3 * PEERS_RECORD_BYTES) == sizeof(record));
    CHECK_EQU(stay(a, 1100, 2200, 0, 3003 * SEC).share_bytes, 100);
    close(fd);
    peers_close(a);
}

/* A torn record is the last whole one for a moment. */
static void a_torn_record_is_not_a_death(void) {
    root_make();
    const char *path = root_path("peers");
    struct peers *a = open_one(path, "a"), *b = open_one(path, "b");
    stay(b, 7, 9, 9, SEC);
    CHECK_EQU(stay(a, 1, 9, 2, SEC).share_bytes, 5);
    int fd = open(path, O_RDWR);
    REQUIRE(fd >= 0 && pwrite(fd, "x", 1, PEERS_RECORD_BYTES + 30) == 1);
    CHECK_EQU(stay(a, 1, 9, 2, SEC + SEC / 10).share_bytes, 5);
    CHECK_EQU(stay(a, 1, 9, 2, 3 * SEC).share_bytes, 0);
    stay(b, 6, 9, 9, 3 * SEC);
    CHECK_EQU(stay(a, 1, 9, 3, 4 * SEC).share_bytes, 5);
    close(fd);
    peers_close(a);
    peers_close(b);
}

static void a_removed_file_is_made_again(void) {
    root_make();
    const char *path = root_path("peers");
    struct peers *a = open_one(path, "a");
    stay(a, 1, 9, 9, SEC);
    REQUIRE(unlink(path) == 0);
    struct peers *b = open_one(path, "b");
    stay(b, 7, 9, 9, 2 * SEC);
    CHECK_EQU(stay(a, 1, 9, 2, 3 * SEC).share_bytes, 5);
    CHECK_EQU(stay(b, 7, 9, 2, 4 * SEC).share_bytes, 5);
    peers_close(a);
    peers_close(b);
}

static void what_is_no_file_is_refused(void) {
    struct err e = {0};
    struct peers *p;
    root_make();
    CHECK_EQ(peers_open("/proc/nowhere/peers", "a", &p, &e), -ENOENT);
    root_put_folder("folder");
    CHECK_EQ(peers_open(root_path("folder"), "a", &p, &e), -EISDIR);
    root_put_fifo("fifo");
    CHECK_EQ(peers_open(root_path("fifo"), "a", &p, &e), -EINVAL);
    REQUIRE(symlink("fifo", root_path("link")) == 0);
    CHECK_EQ(peers_open(root_path("link"), "a", &p, &e), -ELOOP);
    const char *path = root_path("full");
    struct peers *all[SHARE_MAX];
    for (unsigned i = 0; i < SHARE_MAX; i++) all[i] = open_one(path, "x");
    CHECK_EQ(peers_open(path, "a", &p, &e), -EBUSY);
    for (unsigned i = 0; i < SHARE_MAX; i++) stay(all[i], 1, 9, 9, SEC);
    stay(all[0], 1, 9, 9, 2 * SEC);
    CHECK_EQU(n_others(all[0]), SHARE_MAX - 1);
    for (unsigned i = 0; i < SHARE_MAX; i++) peers_close(all[i]);
}

static void none_is_fine(void) {
    struct gov_input in = {.share_bytes = 7, .is_other_rising = true};
    const struct peers_self self = {.reserve_bytes = 1};
    peers_before(NULL, &self, SEC, &in);
    peers_after(NULL, &in, &(struct gov_output){.reason = GOV_TURN}, 0, SEC);
    CHECK_EQU(peers_share_bytes(NULL), 0);
    CHECK(!peers_has_turn(NULL));
    CHECK_EQU(n_others(NULL), 0);
    peers_close(NULL);
}

static const struct t_case cases[] = {
    {"records_are_read_as_written", records_are_read_as_written},
    {"a_name_is_plain", a_name_is_plain},
    {"two_share", two_share},
    {"one_rises_at_a_time", one_rises_at_a_time},
    {"a_turn_has_an_end", a_turn_has_an_end},
    {"a_stuck_turn_is_passed_over", a_stuck_turn_is_passed_over},
    {"a_start_waits_for_its_share", a_start_waits_for_its_share},
    {"what_is_coming_is_held", what_is_coming_is_held},
    {"nothing_is_touched_above_the_limit", nothing_is_touched_above_the_limit},
    {"a_hostile_file_changes_nothing", a_hostile_file_changes_nothing},
    {"a_torn_record_is_not_a_death", a_torn_record_is_not_a_death},
    {"a_removed_file_is_made_again", a_removed_file_is_made_again},
    {"what_is_no_file_is_refused", what_is_no_file_is_refused},
    {"none_is_fine", none_is_fine},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
