#include "core/make/cmd_importance.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "core/err.h"
#include "core/make/cmd.h"
#include "core/make/ranks.h"
#include "core/pack.h"

static const char *const names[] = {"lsaq", "jaccard", "kl"};
enum { SCORES = ARRAY_LEN(names) };

struct cmd_importance {
    const struct pack *pack; /* borrowed */
    uint32_t n_units;
    double *v[SCORES];      /* owned, as the next: [n_units] each */
    uint32_t *rank[SCORES]; /* 1: matters most; 0: not measured */
};

int cmd_importance_create(const struct pack *p, struct cmd_importance **ret, struct err *e) {
    struct cmd_importance *im = calloc(1, sizeof(*im));
    if (!im) return err_set(e, -ENOMEM, "no memory for the scores");
    im->pack = p;
    im->n_units = model_n_units(pack_hparams(p));
    for (size_t k = 0; k < SCORES; k++) {
        char key[64];
        im->v[k] = calloc(im->n_units, sizeof(*im->v[k]));
        im->rank[k] = calloc(im->n_units, sizeof(*im->rank[k]));
        if (!im->v[k] || !im->rank[k]) {
            cmd_importance_destroy(im);
            return err_set(e, -ENOMEM, "no memory for the scores");
        }
        snprintf(key, sizeof(key), "ebb.importance.%s", names[k]);
        for (uint32_t u = 0; u < im->n_units; u++) im->v[k][u] = pack_score(p, key, u);
        ranks_of(im->v[k], im->n_units, im->rank[k]);
    }
    *ret = im;
    return 0;
}

void cmd_importance_destroy(struct cmd_importance *im) {
    if (!im) return;
    for (size_t k = 0; k < SCORES; k++) {
        free(im->v[k]);
        free(im->rank[k]);
    }
    free(im);
}

bool cmd_importance_has_any(const struct cmd_importance *im) {
    for (size_t k = 0; k < SCORES; k++)
        for (uint32_t u = 0; u < im->n_units; u++)
            if (im->rank[k][u]) return true;
    return false;
}

void cmd_importance_json_unit(const struct cmd_importance *im, uint32_t unit) {
    printf("\"importance\":{");
    for (size_t k = 0; k < SCORES; k++) {
        printf("%s\"%s\":", k ? "," : "", names[k]);
        cmd_json_num(stdout, im->v[k][unit]);
    }
    printf("},\"rank\":{");
    for (size_t k = 0; k < SCORES; k++) {
        printf("%s\"%s\":", k ? "," : "", names[k]);
        if (im->rank[k][unit])
            printf("%" PRIu32, im->rank[k][unit]);
        else
            printf("null");
    }
    putchar('}');
}

void cmd_importance_json(const struct cmd_importance *im) {
    printf("\"agreement\":[");
    for (size_t a = 0; a < SCORES; a++)
        for (size_t b = a + 1; b < SCORES; b++) {
            printf("%s{\"scores\":[\"%s\",\"%s\"],\"tau\":", a + b > 1 ? "," : "", names[a],
                   names[b]);
            cmd_json_num(stdout, ranks_tau(im->v[a], im->v[b], im->n_units));
            putchar('}');
        }
    putchar(']');
}

static double distortion(const struct cmd_importance *im, uint32_t unit, enum rung rung,
                         const char *metric) {
    char key[64];
    snprintf(key, sizeof(key), "ebb.distortion.%s.%s", rung_name(rung), metric);
    return pack_score(im->pack, key, unit);
}

/* What the rung swsc adds to what high has lost; of Jaccard losses the squares add up. */
static void print_swsc(const struct cmd_importance *im) {
    if (!pack_has_swsc(im->pack)) return;
    printf("\n%-10s %11s %16s\n", "high>swsc", "jaccard", "kl");
    for (uint32_t u = 0; u < im->n_units; u++) {
        char name[16];
        if (!pack_has_rung(im->pack, u, RUNG_SWSC)) continue;
        double high = distortion(im, u, RUNG_HIGH, "jaccard");
        double swsc = distortion(im, u, RUNG_SWSC, "jaccard");
        double kl = distortion(im, u, RUNG_SWSC, "kl") - distortion(im, u, RUNG_HIGH, "kl");
        printf("%-10s", model_unit_name(pack_hparams(im->pack), u, name, sizeof(name)));
        if (isnan(swsc) || isnan(kl))
            printf(" %11s %16s\n", "-", "-");
        else
            printf(" %11.6f %16.6f\n", sqrt(fmax(swsc * swsc - high * high, 0.0)), kl);
    }
}

void cmd_importance_text(const struct cmd_importance *im) {
    printf("%-10s", "unit");
    for (size_t k = 0; k < SCORES; k++) printf(" %11s rank", names[k]);
    putchar('\n');
    for (uint32_t u = 0; u < im->n_units; u++) {
        char name[16];
        printf("%-10s", model_unit_name(pack_hparams(im->pack), u, name, sizeof(name)));
        for (size_t k = 0; k < SCORES; k++)
            if (im->rank[k][u])
                printf(" %11.6f %4" PRIu32, im->v[k][u], im->rank[k][u]);
            else
                printf(" %11s %4s", "-", "-");
        putchar('\n');
    }
    print_swsc(im);
    printf("\nRank 1 matters most. lsaq: what the layer does to the hidden state's words; jaccard, "
           "kl: "
           "what\nthe model's own words lose with the unit alone at high.\n");
    printf("Agreement of the orders (Kendall's tau: 1 the same, 0 unrelated, -1 the reverse):\n");
    for (size_t a = 0; a < SCORES; a++)
        for (size_t b = a + 1; b < SCORES; b++) {
            double tau = ranks_tau(im->v[a], im->v[b], im->n_units);
            if (isnan(tau))
                printf("  %-8s %-8s %7s\n", names[a], names[b], "-");
            else
                printf("  %-8s %-8s %7.3f\n", names[a], names[b], tau);
        }
}
