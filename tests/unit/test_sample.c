/* sample: limits respected, frequencies right, hostile logits, determinism. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/sample.h"
#include "tests/t.h"

enum { N = 3000 };

static float noise(uint64_t *rng) {
    return (float)(t_rand(rng) % 100000) / 10000.0f - 5.0f;
}

static void fill(float *logits, uint32_t n, uint64_t *rng) {
    for (uint32_t i = 0; i < n; i++) logits[i] = noise(rng);
}

/* How many logits beat the one picked: the reference for every top-k claim. */
static uint32_t rank_of(const float *logits, uint32_t n, uint32_t id) {
    uint32_t rank = 0;
    for (uint32_t i = 0; i < n; i++)
        rank += logits[i] > logits[id] || (logits[i] == logits[id] && i < id);
    return rank;
}

static void greedy_takes_the_first_best(void) {
    float logits[6] = {1, 7, -2, 7, NAN, 3};
    struct sampler s;
    sample_init(&s, &(struct sample_params){.top_p = 1});
    CHECK_EQU(sample_pick(&s, logits, 6), 1);
    logits[1] = NAN;
    CHECK_EQU(sample_pick(&s, logits, 6), 3);
    logits[0] = INFINITY;
    CHECK_EQU(sample_pick(&s, logits, 6), 0);
}

static void hostile_logits_are_safe(void) {
    float logits[40];
    for (int t = 0; t < 2; t++) {
        struct sampler s;
        sample_init(&s,
                    &(struct sample_params){.temperature = (float)t, .top_p = 0.9f, .top_k = 8});
        for (int i = 0; i < 40; i++) logits[i] = NAN;
        CHECK_EQU(sample_pick(&s, logits, 40), 0);
        logits[17] = -INFINITY;
        CHECK_EQU(sample_pick(&s, logits, 40), 17);
        logits[23] = INFINITY;
        CHECK_EQU(sample_pick(&s, logits, 40), 23);
        for (int i = 0; i < 40; i++) logits[i] = i % 3 ? NAN : -INFINITY;
        for (int i = 0; i < 50; i++) CHECK_EQU(sample_pick(&s, logits, 40) % 3, 0);
        for (int i = 0; i < 40; i++) logits[i] = i % 2 ? NAN : 3e38f;
        for (int i = 0; i < 50; i++) CHECK_EQU(sample_pick(&s, logits, 40) % 2, 0);
    }
}

static void nan_temperature_is_greedy(void) {
    float logits[4] = {0, 1, 2, 1};
    struct sampler s;
    sample_init(&s, &(struct sample_params){.temperature = NAN, .top_p = 1});
    for (int i = 0; i < 20; i++) CHECK_EQU(sample_pick(&s, logits, 4), 2);
}

static void top_k_is_a_limit(void) {
    static float logits[N];
    uint64_t rng = t_seed();
    static const uint32_t ks[] = {1, 2, 3, 7, 40, 1000, 1024, 5000, 0};
    static const float scales[] = {1, 30, 1e-3f, 1e30f};
    for (size_t i = 0; i < 4 * sizeof(ks) / sizeof(ks[0]); i++) {
        /* Spread so that the histogram of the search sees all, a part or one bin of them. */
        fill(logits, N, &rng);
        for (int j = 0; j < N; j++) logits[j] *= scales[i % 4];
        uint32_t top_k = ks[i / 4];
        uint32_t limit = top_k && top_k < SAMPLE_MAX_TOP_K ? top_k : SAMPLE_MAX_TOP_K;
        struct sampler s;
        /* So hot that every candidate is likely: the limit alone holds the worst ones back. */
        sample_init(
            &s, &(struct sample_params){
                    .temperature = 1000 * scales[i % 4], .top_p = 1, .top_k = top_k, .seed = i});
        uint32_t worst = 0;
        for (int n = 0; n < 1000; n++) {
            uint32_t rank = rank_of(logits, N, sample_pick(&s, logits, N));
            worst = rank > worst ? rank : worst;
        }
        CHECK(worst < limit);
        CHECK(worst >= limit / 2);
    }
}

static void equal_logits_go_by_id(void) {
    static float logits[N];
    for (int i = 0; i < N; i++) logits[i] = i % 2 ? 1 : 0;
    struct sampler s;
    sample_init(&s, &(struct sample_params){.temperature = 1, .top_p = 1, .top_k = 10});
    for (int i = 0; i < 300; i++) {
        uint32_t id = sample_pick(&s, logits, N);
        CHECK(id % 2 == 1 && id < 20);
    }
}

static void top_p_is_a_limit(void) {
    static float logits[N];
    uint64_t rng = t_seed();
    for (int round = 0; round < 20; round++) {
        uint32_t n = 2 + (uint32_t)(t_rand(&rng) % 900);
        fill(logits, n, &rng);
        float top_p = (float)(1 + t_rand(&rng) % 99) / 100;
        struct sampler s;
        sample_init(&s, &(struct sample_params){
                            .temperature = 1.5f, .top_p = top_p, .seed = (uint64_t)round});
        double total = 0;
        for (uint32_t i = 0; i < n; i++) total += exp(logits[i] / 1.5);
        for (int k = 0; k < 100; k++) {
            uint32_t id = sample_pick(&s, logits, n);
            double before = 0; /* probability of everything that comes before the pick */
            for (uint32_t i = 0; i < n; i++)
                if (logits[i] > logits[id] || (logits[i] == logits[id] && i < id))
                    before += exp(logits[i] / 1.5) / total;
            CHECK(before < (double)top_p + 1e-9);
        }
    }
}

static void tiny_top_p_is_greedy(void) {
    static float logits[N];
    uint64_t rng = t_seed();
    fill(logits, N, &rng);
    struct sampler s, greedy;
    sample_init(&s, &(struct sample_params){.temperature = 2, .top_p = 1e-6f, .seed = 3});
    sample_init(&greedy, &(struct sample_params){.top_p = 1});
    for (int i = 0; i < 20; i++)
        CHECK_EQU(sample_pick(&s, logits, N), sample_pick(&greedy, logits, N));
}

static void frequencies_follow_the_softmax(void) {
    enum { DRAWS = 40000, IDS = 8 };
    float logits[IDS] = {0, 1, 2, -1, 0.5f, 1.5f, -3, 2};
    for (int round = 0; round < 3; round++) {
        float t = 0.5f + (float)round * 0.75f;
        struct sampler s;
        sample_init(&s, &(struct sample_params){
                            .temperature = t, .top_p = 1, .seed = 1000 + (uint64_t)round});
        unsigned count[IDS] = {0};
        for (int i = 0; i < DRAWS; i++) count[sample_pick(&s, logits, IDS)]++;
        double total = 0, chi2 = 0;
        for (int i = 0; i < IDS; i++) total += exp((double)logits[i] / (double)t);
        for (int i = 0; i < IDS; i++) {
            double want = DRAWS * exp((double)logits[i] / (double)t) / total;
            chi2 += (count[i] - want) * (count[i] - want) / want;
        }
        /* 7 degrees of freedom: 29.9 is the 1e-4 quantile; the seeds are fixed. */
        CHECK(chi2 < 29.9);
    }
}

static void same_seed_same_tokens(void) {
    static float logits[N];
    uint64_t rng = t_seed();
    struct sample_params p = {.temperature = 1, .top_p = 0.95f, .top_k = 50, .seed = 42};
    struct sampler a, b, c;
    sample_init(&a, &p);
    sample_init(&b, &p);
    p.seed = 43;
    sample_init(&c, &p);
    unsigned n_other = 0;
    for (int i = 0; i < 200; i++) {
        fill(logits, N, &rng);
        uint32_t id = sample_pick(&a, logits, N);
        CHECK_EQU(sample_pick(&b, logits, N), id);
        n_other += sample_pick(&c, logits, N) != id;
    }
    CHECK(n_other > 50);
}

static const struct t_case cases[] = {
    {"greedy_takes_the_first_best", greedy_takes_the_first_best},
    {"hostile_logits_are_safe", hostile_logits_are_safe},
    {"nan_temperature_is_greedy", nan_temperature_is_greedy},
    {"top_k_is_a_limit", top_k_is_a_limit},
    {"equal_logits_go_by_id", equal_logits_go_by_id},
    {"top_p_is_a_limit", top_p_is_a_limit},
    {"tiny_top_p_is_greedy", tiny_top_p_is_greedy},
    {"frequencies_follow_the_softmax", frequencies_follow_the_softmax},
    {"same_seed_same_tokens", same_seed_same_tokens},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
