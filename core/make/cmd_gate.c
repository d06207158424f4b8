#include "core/make/cmd_gate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/make/cmd.h"
#include "core/pack.h"

enum { NAME_WIDTH = 28, KIND_WIDTH = 12 };

/* ---- JSON --------------------------------------------------------------------------------------
 */

static void json_kind(const struct pack *p, enum model_mat mat) {
    uint32_t n = pack_gate_n(p);
    double margin;
    uint32_t winner = pack_gate_winner(p, mat, &margin);
    printf("%s{\"kind\":\"%s\",\"winner\":", mat ? "," : "", model_mat_name(mat));
    if (winner < n) {
        struct pack_gate_form f = pack_gate_form(p, mat, winner);
        cmd_json_str(stdout, f.name, f.name_bytes);
    } else {
        printf("null");
    }
    printf(",\"margin\":");
    cmd_json_num(stdout, margin);
    printf(",\"candidates\":[");
    for (uint32_t i = 0; i < n; i++) {
        struct pack_gate_form f = pack_gate_form(p, mat, i);
        printf("%s{\"name\":", i ? "," : "");
        cmd_json_str(stdout, f.name, f.name_bytes);
        printf(",\"bits\":");
        cmd_json_num(stdout, f.bits);
        printf(",\"error\":");
        cmd_json_num(stdout, f.error);
        printf(",\"can_win\":%s}", f.can_win ? "true" : "false");
    }
    printf("]}");
}

void cmd_gate_json(const struct pack *p) {
    if (pack_gate_n(p) == 0) return;
    printf("\"gate_target\":");
    cmd_json_num(stdout, pack_gate_target(p));
    printf(",\"gate\":[");
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) json_kind(p, (enum model_mat)m);
    printf("],");
}

/* ---- for people ------------------------------------------------------------------------------ */

/* A name from the file; control bytes must not reach a terminal. */
static void print_name(const struct pack_gate_form *f, int width) {
    int n = 0;
    for (size_t i = 0; i < f->name_bytes && n < NAME_WIDTH; i++, n++)
        putchar((unsigned char)f->name[i] < ' ' || f->name[i] == 0x7f ? '?' : f->name[i]);
    if (n < width) printf("%*s", width - n, "");
}

void cmd_gate_winners(const struct pack *p) {
    uint32_t n = pack_gate_n(p);
    printf(
        "\ngate: forms compared at %.2f bits a weight by the error of the output that they leave\n",
        pack_gate_target(p));
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++) {
        double margin;
        uint32_t winner = pack_gate_winner(p, (enum model_mat)m, &margin);
        printf("%-*s ", KIND_WIDTH, model_mat_name((enum model_mat)m));
        if (winner == n) {
            printf("nothing keeps to the target\n");
            continue;
        }
        struct pack_gate_form f = pack_gate_form(p, (enum model_mat)m, winner);
        print_name(&f, NAME_WIDTH);
        printf(" %8.4f %%, %6.3f bits", 100.0 * f.error, f.bits);
        if (isfinite(margin)) printf("; the next leaves %.0f %% more", 100.0 * margin);
        putchar('\n');
    }
}

static void print_head(const char *what) {
    printf("\n%-*s", NAME_WIDTH, what);
    for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++)
        printf(" %*s", KIND_WIDTH, model_mat_name((enum model_mat)m));
    putchar('\n');
}

/* A number and what is to be known of it: * the winner, ! cannot win. */
static void print_cell(const struct pack *p, enum model_mat mat, uint32_t i, bool is_error) {
    double unused;
    struct pack_gate_form f = pack_gate_form(p, mat, i);
    const char *mark = i == pack_gate_winner(p, mat, &unused) ? "*" : f.can_win ? " " : "!";
    if (!is_error)
        printf(" %*.3f%s", KIND_WIDTH - 1, f.bits, mark);
    else if (isfinite(f.error))
        printf(" %*.4f%s", KIND_WIDTH - 1, 100.0 * f.error, mark);
    else
        printf(" %*s%s", KIND_WIDTH - 1, "-", mark);
}

void cmd_gate_text(const struct pack *p) {
    cmd_gate_winners(p);
    for (int is_error = 1; is_error >= 0; is_error--) {
        print_head(is_error ? "error, %" : "bits a weight");
        for (uint32_t i = 0; i < pack_gate_n(p); i++) {
            struct pack_gate_form f = pack_gate_form(p, MODEL_Q, i);
            print_name(&f, NAME_WIDTH);
            for (uint32_t m = 0; m < MODEL_LAYER_MATS; m++)
                print_cell(p, (enum model_mat)m, i, is_error);
            putchar('\n');
        }
    }
    printf(
        "\n* is taken; ! cannot be: beyond the target, or the runtime does not multiply it; - was "
        "not measured\n");
}
