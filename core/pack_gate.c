/* The gate's table in a pack's header, see pack.h. */
#include <errno.h>
#include <math.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/pack.h"

static const struct gguf_value *names_of(const struct gguf *g) {
    return gguf_find(g, "ebb.gate.names");
}

static bool is_array(const struct gguf *g, const char *key, enum gguf_type elem, uint64_t n) {
    const struct gguf_value *v = gguf_find(g, key);
    return v && v->type == GGUF_ARRAY && v->elem == elem && v->n == n;
}

int pack_check_gate(const struct gguf *g, struct err *e) {
    const struct gguf_value *names = names_of(g), *winner;
    float target;
    if (!names) return 0;
    if (names->type != GGUF_ARRAY || names->elem != GGUF_STRING || names->n == 0 ||
        names->n > PACK_GATE_MAX)
        return err_set(e, -EBADMSG, "key ebb.gate.names is not 1 to %d strings", PACK_GATE_MAX);
    uint64_t n = names->n * MODEL_LAYER_MATS;
    if (!is_array(g, "ebb.gate.bits", GGUF_F32, n) || !is_array(g, "ebb.gate.error", GGUF_F32, n) ||
        !is_array(g, "ebb.gate.can_win", GGUF_U8, n))
        return err_set(e, -EBADMSG, "a key of ebb.gate is not one number a kind and form");
    if (!is_array(g, "ebb.gate.winner", GGUF_U32, MODEL_LAYER_MATS) ||
        !is_array(g, "ebb.gate.margin", GGUF_F32, MODEL_LAYER_MATS))
        return err_set(e, -EBADMSG, "a key of ebb.gate is not one number a kind");
    winner = gguf_find(g, "ebb.gate.winner");
    for (uint64_t m = 0; m < MODEL_LAYER_MATS; m++)
        if (gguf_elem_u64(winner, m) > names->n)
            return err_set(e, -EBADMSG, "key ebb.gate.winner names no form");
    return gguf_get_f32(g, "ebb.gate.target", &target, e) < 0
               ? err_set(e, -EBADMSG, "key ebb.gate.target is not one f32")
               : 0;
}

uint32_t pack_gate_n(const struct pack *p) {
    const struct gguf_value *v = names_of(pack_gguf(p));
    return v ? (uint32_t)v->n : 0; /* within bounds: checked by pack_open() */
}

struct pack_gate_form pack_gate_form(const struct pack *p, enum model_mat mat, uint32_t i) {
    const struct gguf *g = pack_gguf(p);
    struct gguf_str names[PACK_GATE_MAX];
    uint64_t n = pack_gate_n(p), at = (uint64_t)mat * n + i;
    ASSERT(i < n && (int)mat < MODEL_LAYER_MATS);
    gguf_strings(names_of(g), names);
    return (struct pack_gate_form){
        .name = names[i].p,
        .name_bytes = names[i].n,
        .bits = gguf_elem_f64(gguf_find(g, "ebb.gate.bits"), at),
        .error = gguf_elem_f64(gguf_find(g, "ebb.gate.error"), at),
        .can_win = gguf_elem_u64(gguf_find(g, "ebb.gate.can_win"), at) != 0,
    };
}

uint32_t pack_gate_winner(const struct pack *p, enum model_mat mat, double *ret_margin) {
    const struct gguf *g = pack_gguf(p);
    ASSERT(pack_gate_n(p) > 0 && (int)mat < MODEL_LAYER_MATS);
    *ret_margin = gguf_elem_f64(gguf_find(g, "ebb.gate.margin"), (uint64_t)mat);
    return (uint32_t)gguf_elem_u64(gguf_find(g, "ebb.gate.winner"), (uint64_t)mat);
}

double pack_gate_target(const struct pack *p) {
    float target;
    if (pack_gate_n(p) == 0 || gguf_get_f32(pack_gguf(p), "ebb.gate.target", &target, NULL) < 0)
        return (double)NAN;
    return (double)target;
}
