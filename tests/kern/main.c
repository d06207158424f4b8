/* Program of the kernel tests. Beside what t_main() takes (--list, --seed=N, names of tests):
 *   --cpu=NAME     only this variant (--list names them)
 *   --expect=NAME  fail unless dispatch chooses this variant on this machine
 *   --bench        print speeds instead of testing
 *   --bench-seg    only those of shared segments */
#include "tests/kern/kern.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const struct variant variants[] = {
    {"ref", 0},
    {"avx2", KERN_AVX2},
    {"avxvnni", KERN_AVX2 | KERN_AVXVNNI},
    {"avx512vnni", KERN_AVX2 | KERN_AVX512VNNI},
    {"neon", KERN_NEON},
    {"dotprod", KERN_NEON | KERN_DOTPROD},
    {"i8mm", KERN_NEON | KERN_DOTPROD | KERN_I8MM},
};
const unsigned n_variants = sizeof(variants) / sizeof(*variants);

static const char *only;     /* --cpu= */
static const char *expected; /* --expect= */

bool variant_can_run(const struct variant *v) {
    return (v->flags & ~kern_cpu_flags()) == 0;
}

bool variant_next(unsigned *i, struct kern_ops *ret) {
    while (*i < n_variants) {
        const struct variant *v = &variants[(*i)++];
        if (v->flags == 0 && !(only && strcmp(only, v->name) == 0)) continue;
        if (!variant_can_run(v) || (only && strcmp(only, v->name) != 0)) continue;
        kern_init(ret, v->flags);
        return true;
    }
    return false;
}

/* Says what is not tested here, so that a green run is not taken for more than it is. */
static void test_dispatch(void) {
    struct kern_ops ops;
    printf("     seed %" PRIu64 "\n", t_seed());
    for (unsigned i = 0; i < n_variants; i++) {
        if (!variant_can_run(&variants[i])) {
            printf("     not run: %s (this machine cannot run it)\n", variants[i].name);
            continue;
        }
        kern_init(&ops, variants[i].flags);
        CHECK_STR(ops.name, variants[i].name);
    }
    kern_init(&ops, kern_cpu_flags());
    printf("     dispatch chooses %s\n", ops.name);
    if (expected) CHECK_STR(ops.name, expected);

    CHECK_STR(kern_cpu_flag_name(KERN_AVX2), "avx2");
    CHECK_STR(kern_cpu_flag_name(KERN_AVXVNNI), "avxvnni");
    CHECK_STR(kern_cpu_flag_name(KERN_AVX512VNNI), "avx512vnni");
    CHECK_STR(kern_cpu_flag_name(KERN_NEON), "neon");
    CHECK_STR(kern_cpu_flag_name(KERN_DOTPROD), "dotprod");
    CHECK_STR(kern_cpu_flag_name(KERN_I8MM), "i8mm");
    CHECK(!kern_cpu_flag_name(0) && !kern_cpu_flag_name(1u << 30));

    /* A flag without the one it stands on changes nothing. */
    kern_init(&ops, KERN_AVXVNNI | KERN_AVX512VNNI | KERN_DOTPROD | KERN_I8MM);
    CHECK_STR(ops.name, "ref");
    kern_init(&ops, KERN_NEON | KERN_I8MM);
    CHECK(strcmp(ops.name, "i8mm") != 0);
}

static int take_cpu(const char *name) {
    for (unsigned i = 0; i < n_variants; i++) {
        if (strcmp(name, variants[i].name) != 0) continue;
        only = variants[i].name;
        if (variant_can_run(&variants[i])) return 0;
        printf("%s not run: this machine cannot run it\n", name);
        return 77;
    }
    fprintf(stderr, "no variant is called '%s'; --list names them\n", name);
    return 2;
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"dispatch", test_dispatch},
        {"mul_reference", test_mul_reference},
        {"mul_catches_bad", test_mul_catches_bad},
        {"mul_variants", test_mul_variants},
        {"row", test_row},
        {"seg_layout", test_seg_layout},
        {"seg_reference", test_seg_reference},
        {"seg_catches_bad", test_seg_catches_bad},
        {"seg_variants", test_seg_variants},
        {"gather", test_gather},
        {"quant_acts", test_quant_acts},
        {"rmsnorm", test_rmsnorm},
        {"group_cost", test_group_cost},
        {"nearest", test_nearest},
        {"rope", test_rope},
        {"quant_kv", test_quant_kv},
        {"attn", test_attn},
        {"attn_exp", test_attn_exp},
        {"silu_mul", test_silu_mul},
        {"f16", test_f16},
        {"log_softmax", test_log_softmax},
    };
    bool is_bench = false, is_segs = false;
    int n = 1; /* arguments left for t_main() */
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--cpu=", 6) == 0) {
            int r = take_cpu(argv[i] + 6);
            if (r) return r;
        } else if (strncmp(argv[i], "--expect=", 9) == 0) {
            expected = argv[i] + 9;
        } else if (strcmp(argv[i], "--bench") == 0) {
            is_bench = true;
        } else if (strcmp(argv[i], "--bench-seg") == 0) {
            is_bench = is_segs = true;
        } else {
            if (strcmp(argv[i], "--list") == 0)
                for (unsigned v = 0; v < n_variants; v++)
                    printf("--cpu=%s%s\n", variants[v].name,
                           variant_can_run(&variants[v]) ? "" : " (not run here)");
            argv[n++] = argv[i];
        }
    }
    if (is_bench) {
        bench(is_segs);
        return 0;
    }
    return t_main(n, argv, cases, sizeof(cases) / sizeof(*cases));
}
