/* model: sizes of the tiny model, and one refusal for everything that is not it. The files are the
 * tiny model's with keys and tensors left out, replaced or added. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/gguf.h"
#include "core/model.h"
#include "tests/golden/gguf_build.h"
#include "tests/golden/tiny.h"
#include "tests/t.h"

typedef void add_fn(struct gb *g, const void *arg);

static bool is(const struct gguf_str *s, const char *want) {
    return want && s->n == strlen(want) && memcmp(s->p, want, s->n) == 0;
}

/* The model's file without the key or tensor `drop`, with what add() adds. */
static uint8_t *rebuild(const struct tiny_opts *o, const char *drop, add_fn *add, const void *arg,
                        size_t *ret_n) {
    struct gguf *g;
    struct gb b = {0};
    struct err e = {0};
    size_t n;
    char name[128];
    uint8_t *p = tiny_build(o, &n);
    REQUIRE_OK(gguf_parse(p, n, n, &g, &e), &e);
    for (size_t i = 0; i < gguf_n_values(g); i++) {
        const struct gguf_value *v = gguf_value_at(g, i);
        if (is(&v->key, drop)) continue;
        snprintf(name, sizeof(name), "%.*s", (int)v->key.n, v->key.p);
        size_t head = v->type == GGUF_ARRAY ? 12 : 0; /* element type and count */
        gb_raw(&b, name, v->type, v->data - head, v->data_bytes + head);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (is(&t->name, drop)) continue;
        snprintf(name, sizeof(name), "%.*s", (int)t->name.n, t->name.p);
        gb_tensor(&b, name, t->type, t->dims, t->n_dims, p + t->offset, t->bytes);
    }
    if (add) add(&b, arg);
    gguf_close(g);
    free(p);
    return gb_finish(&b, ret_n);
}

static int read_file(const uint8_t *p, size_t n, bool is_source, struct model_hparams *h,
                     struct err *e) {
    struct gguf *g;
    REQUIRE_OK(gguf_parse(p, n, n, &g, e), e);
    int r = model_read_hparams(g, is_source, h, e);
    gguf_close(g);
    return r;
}

static void refuse(const struct tiny_opts *o, const char *drop, add_fn *add, const void *arg,
                   int code, const char *text) {
    struct model_hparams h = {.n_layers = 77};
    struct err e = {0};
    size_t n;
    uint8_t *p = rebuild(o, drop, add, arg, &n);
    int r = read_file(p, n, true, &h, &e);
    CHECK_EQ(r, code);
    if (r == code && !strstr(e.msg, text))
        t_fail(__FILE__, __LINE__, "'%s' lacks '%s'", e.msg, text);
    CHECK_EQU(h.n_layers, 77); /* untouched */
    free(p);
}

static void reads_sizes(void) {
    for (int k = 0; k < 4; k++) {
        struct tiny_opts o = tiny_defaults();
        struct model_hparams h;
        struct err e = {0};
        size_t n;
        o.is_untied = k & 1;
        o.has_rope_freqs = k >> 1;
        uint8_t *p = tiny_build(&o, &n);
        REQUIRE_OK(read_file(p, n, true, &h, &e), &e);
        CHECK(h.n_layers == 3 && h.n_embd == 64 && h.n_ff == 96 && h.n_heads == 4);
        CHECK(h.n_kv_heads == 2 && h.head_dim == 16 && h.rope_dim == 16 && h.n_ctx_train == 2048);
        CHECK(h.n_vocab == tiny_n_vocab() && h.is_tied == !o.is_untied);
        CHECK(h.rope_base == 10000 && h.norm_eps == 1e-5f);
        CHECK_EQU(model_n_units(&h), 4);
        CHECK_EQU(model_core_floats(&h), 3 * 64 * 2 + 64 + 8);
        free(p);
    }
}

static void falls_back_where_it_may(void) {
    static const char *const optional[] = {
        "llama.attention.head_count_kv", "llama.attention.key_length", "llama.vocab_size",
        "llama.attention.value_length",  "llama.rope.freq_base",       "llama.rope.dimension_count",
    };
    for (size_t i = 0; i < sizeof(optional) / sizeof(optional[0]); i++) {
        struct tiny_opts o = tiny_defaults();
        struct model_hparams h;
        struct err e = {0};
        size_t n;
        o.n_kv_heads = o.n_heads;
        uint8_t *p = rebuild(&o, optional[i], NULL, NULL, &n);
        REQUIRE_OK(read_file(p, n, true, &h, &e), &e);
        CHECK(h.n_kv_heads == 4 && h.head_dim == 16 && h.rope_dim == 16 && h.rope_base == 10000);
        free(p);
    }
}

static void refuses_missing_parts(void) {
    static const char *const required[] = {
        "general.architecture",
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.tokens",
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.attn_norm.weight",
        "blk.1.ffn_norm.weight",
        "blk.2.attn_q.weight",
        "blk.2.attn_k.weight",
        "blk.2.attn_v.weight",
        "blk.2.attn_output.weight",
        "blk.2.ffn_gate.weight",
        "blk.2.ffn_up.weight",
        "blk.2.ffn_down.weight",
    };
    struct tiny_opts o = tiny_defaults();
    for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
        refuse(&o, required[i], NULL, NULL, -EBADMSG, required[i]);
        refuse(&o, required[i], NULL, NULL, -EBADMSG, "is missing");
    }
}

struct value {
    const char *key;
    enum gguf_type type;
    uint32_t u;
    float f;
    const char *s;
};

static void add_value(struct gb *g, const void *arg) {
    const struct value *v = arg;
    if (v->type == GGUF_STRING) gb_str(g, v->key, v->s);
    if (v->type == GGUF_U32) gb_u32(g, v->key, v->u);
    if (v->type == GGUF_F32) gb_f32(g, v->key, v->f);
}

static void refuse_value(struct value v, int code, const char *text) {
    struct tiny_opts o = tiny_defaults();
    refuse(&o, v.key, add_value, &v, code, text);
}

static void refuse_u32(const char *key, uint32_t u, int code, const char *text) {
    refuse_value((struct value){.key = key, .type = GGUF_U32, .u = u}, code, text);
}

static void refuse_f32(const char *key, float f, int code, const char *text) {
    refuse_value((struct value){.key = key, .type = GGUF_F32, .f = f}, code, text);
}

static void refuse_str(const char *key, const char *s, int code, const char *text) {
    refuse_value((struct value){.key = key, .type = GGUF_STRING, .s = s}, code, text);
}

static void refuses_sizes_out_of_range(void) {
    refuse_u32("llama.block_count", 0, -EBADMSG, "0 is not in 1 .. 512");
    refuse_u32("llama.block_count", 513, -EBADMSG, "513 is not in 1 .. 512");
    refuse_u32("llama.block_count", UINT32_MAX, -EBADMSG, "is not in 1 .. 512");
    refuse_u32("llama.block_count", 4, -EBADMSG, "blk.3");
    refuse_u32("llama.block_count", 2, -ENOTSUP, "blk.2");
    refuse_u32("llama.embedding_length", 0, -EBADMSG, "is not in");
    refuse_u32("llama.embedding_length", 65, -ENOTSUP, "multiples of 32");
    refuse_u32("llama.embedding_length", 96, -EBADMSG, "the model needs");
    refuse_u32("llama.embedding_length", MODEL_MAX_EMBD + 32, -EBADMSG, "is not in");
    refuse_u32("llama.feed_forward_length", 0, -EBADMSG, "is not in");
    refuse_u32("llama.feed_forward_length", 100, -ENOTSUP, "multiples of 32");
    refuse_u32("llama.feed_forward_length", 128, -EBADMSG, "the model needs");
    refuse_u32("llama.context_length", 0, -EBADMSG, "is not in");
    refuse_u32("llama.context_length", MODEL_MAX_CTX + 1, -EBADMSG, "is not in");
    refuse_u32("llama.attention.head_count", 0, -EBADMSG, "is not in");
    refuse_u32("llama.attention.head_count", 3, -EBADMSG, "evenly");
    refuse_u32("llama.attention.head_count_kv", 0, -EBADMSG, "is not in");
    refuse_u32("llama.attention.head_count_kv", 3, -EBADMSG, "evenly");
    refuse_u32("llama.attention.head_count_kv", 8, -EBADMSG, "evenly");
    refuse_u32("llama.attention.key_length", 0, -EBADMSG, "is not in");
    refuse_u32("llama.attention.key_length", 264, -EBADMSG, "is not in");
    refuse_u32("llama.attention.key_length", 24, -ENOTSUP, "only equal lengths");
    refuse_u32("llama.attention.value_length", 8, -ENOTSUP, "only equal lengths");
    refuse_u32("llama.rope.dimension_count", 15, -EBADMSG, "odd or above");
    refuse_u32("llama.rope.dimension_count", 18, -EBADMSG, "odd or above");
    refuse_u32("llama.vocab_size", 5, -EBADMSG, "tokens");
    refuse_f32("llama.attention.layer_norm_rms_epsilon", 0, -EBADMSG, "is not in");
    refuse_f32("llama.attention.layer_norm_rms_epsilon", -1, -EBADMSG, "is not in");
    refuse_f32("llama.rope.freq_base", 0.5f, -EBADMSG, "is not in");
    refuse_str("llama.block_count", "3", -EBADMSG, "is of type string");
    refuse_str("llama.rope.freq_base", "3", -EBADMSG, "is of type string");
    refuse_str("tokenizer.ggml.tokens", "a", -EBADMSG, "is of type string");
    refuse_u32("general.architecture", 1, -EBADMSG, "is of type u32");
}

static void refuses_other_models_by_name(void) {
    refuse_str("general.architecture", "qwen2", -ENOTSUP, "architecture 'qwen2'");
    refuse_u32("llama.expert_count", 8, -ENOTSUP, "mixture of experts");
    refuse_u32("llama.attention.sliding_window", 4096, -ENOTSUP, "sliding-window");
    refuse_f32("llama.logit_scale", 0.5f, -ENOTSUP, "scaled logits");
    refuse_f32("llama.rope.scaling.factor", 8, -ENOTSUP, "RoPE scaling");
    refuse_str("llama.rope.scaling.type", "yarn", -ENOTSUP, "RoPE scaling 'yarn'");
    refuse_str("llama.rope.scaling.type", "linear", -ENOTSUP, "RoPE scaling 'linear'");
    refuse_u32("llama.rope.scaling.type", 1, -EBADMSG, "is of type u32");
    refuse_str("llama.rope.scaling.factor", "x", -ENOTSUP, "RoPE scaling");
}

static void takes_harmless_keys(void) {
    static const struct value fine[] = {
        {.key = "llama.rope.scaling.type", .type = GGUF_STRING, .s = "none"},
        {.key = "llama.rope.scaling.factor", .type = GGUF_F32, .f = 1},
        {.key = "llama.expert_count", .type = GGUF_U32, .u = 0},
        {.key = "llama.something.else", .type = GGUF_U32, .u = 3},
    };
    for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
        struct tiny_opts o = tiny_defaults();
        struct model_hparams h;
        struct err e = {0};
        size_t n;
        uint8_t *p = rebuild(&o, NULL, add_value, &fine[i], &n);
        REQUIRE_OK(read_file(p, n, true, &h, &e), &e);
        free(p);
    }
}

struct tensor {
    const char *name;
    enum gguf_tensor_type type;
    uint64_t dims[4];
    uint32_t n_dims;
};

static void add_tensor(struct gb *g, const void *arg) {
    static const uint8_t zeros[64 * 96 * 4];
    const struct tensor *t = arg;
    uint64_t n = t->type == GGUF_T_I8 ? 1 : 4;
    for (uint32_t i = 0; i < t->n_dims; i++) n *= t->dims[i];
    REQUIRE(n <= sizeof(zeros));
    gb_tensor(g, t->name, t->type, t->dims, t->n_dims, zeros, n);
}

static void refuse_tensor(struct tensor t, int code, const char *text) {
    struct tiny_opts o = tiny_defaults();
    refuse(&o, t.name, add_tensor, &t, code, text);
}

static void refuses_other_tensors(void) {
    refuse_tensor((struct tensor){"blk.0.attn_q.bias", GGUF_T_F32, {64}, 1}, -ENOTSUP,
                  "tensor blk.0.attn_q.bias: biases");
    refuse_tensor((struct tensor){"blk.0.ffn_gate_inp.weight", GGUF_T_F32, {64}, 1}, -ENOTSUP,
                  "tensor blk.0.ffn_gate_inp.weight: this architecture");
    refuse_tensor((struct tensor){"blk.00.attn_q.weight", GGUF_T_F32, {64}, 1}, -ENOTSUP,
                  "tensor blk.00.attn_q.weight: this architecture");
    refuse_tensor((struct tensor){"blk.3.attn_q.weight", GGUF_T_F32, {64}, 1}, -ENOTSUP,
                  "tensor blk.3.attn_q.weight: this architecture");
    refuse_tensor((struct tensor){"surprise", GGUF_T_F32, {64}, 1}, -ENOTSUP, "tensor surprise");
    refuse_tensor((struct tensor){"blk.0.attn_k.weight", GGUF_T_F32, {64, 64}, 2}, -EBADMSG,
                  "is 64 x 64 x 1 x 1, the model needs 64 x 32");
    refuse_tensor((struct tensor){"blk.0.attn_k.weight", GGUF_T_F32, {64, 32, 2}, 3}, -EBADMSG,
                  "the model needs");
    refuse_tensor((struct tensor){"blk.0.attn_k.weight", GGUF_T_I8, {64, 32}, 2}, -ENOTSUP,
                  "type I8 cannot be imported");
    refuse_tensor((struct tensor){"output_norm.weight", GGUF_T_F32, {32}, 1}, -EBADMSG,
                  "the model needs");
    refuse_tensor((struct tensor){"rope_freqs.weight", GGUF_T_F32, {16}, 1}, -EBADMSG,
                  "the model needs 8");
    refuse_tensor((struct tensor){"output.weight", GGUF_T_F32, {64, 1}, 2}, -EBADMSG,
                  "the model needs 64 x 308");
}

static void names_and_shapes(void) {
    struct model_hparams h = {.n_layers = 2,
                              .n_embd = 64,
                              .n_ff = 96,
                              .n_heads = 4,
                              .n_kv_heads = 2,
                              .head_dim = 24,
                              .rope_dim = 24,
                              .n_vocab = 300,
                              .is_tied = true};
    static const struct {
        enum model_mat mat;
        const char *name, *tensor;
        uint32_t n_out, n_in;
    } want[] = {
        {MODEL_Q, "attn_q", "blk.7.attn_q.weight", 96, 64},
        {MODEL_K, "attn_k", "blk.7.attn_k.weight", 48, 64},
        {MODEL_V, "attn_v", "blk.7.attn_v.weight", 48, 64},
        {MODEL_OUT, "attn_output", "blk.7.attn_output.weight", 64, 96},
        {MODEL_GATE, "ffn_gate", "blk.7.ffn_gate.weight", 96, 64},
        {MODEL_UP, "ffn_up", "blk.7.ffn_up.weight", 96, 64},
        {MODEL_DOWN, "ffn_down", "blk.7.ffn_down.weight", 64, 96},
        {MODEL_HEAD, "head", "token_embd.weight", 300, 64},
    };
    char buf[64];
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        uint32_t n_out, n_in;
        model_mat_shape(&h, want[i].mat, &n_out, &n_in);
        CHECK_EQU(n_out, want[i].n_out);
        CHECK_EQU(n_in, want[i].n_in);
        CHECK_STR(model_mat_name(want[i].mat), want[i].name);
        CHECK_STR(model_tensor_name(&h, 7, want[i].mat, buf, sizeof(buf)), want[i].tensor);
    }
    h.is_tied = false;
    CHECK_STR(model_tensor_name(&h, 0, MODEL_HEAD, buf, sizeof(buf)), "output.weight");
    CHECK_STR(model_unit_name(&h, 1, buf, sizeof(buf)), "layer 1");
    CHECK_STR(model_unit_name(&h, 2, buf, sizeof(buf)), "head");
    float core[400];
    struct model_core c;
    model_core_bind(&h, core, &c);
    CHECK(c.attn_norm == core && c.ffn_norm == core + 128 && c.output_norm == core + 256);
    CHECK(c.rope_freqs == core + 320 && model_core_floats(&h) == 332);
}

static void reads_the_real_model(void) {
    struct gguf *g;
    struct model_hparams h;
    struct err e = {0};
    REQUIRE_OK(gguf_open(t_shared("models/smollm2-135m-offgrid-q8_0.gguf"), &g, &e), &e);
    REQUIRE_OK(model_read_hparams(g, true, &h, &e), &e);
    CHECK(h.n_layers == 30 && h.n_embd == 576 && h.n_ff == 1536 && h.n_heads == 9);
    CHECK(h.n_kv_heads == 3 && h.head_dim == 64 && h.n_vocab == 49152 && h.is_tied);
    gguf_close(g);
}

static const struct t_case cases[] = {
    {"reads_sizes", reads_sizes},
    {"falls_back_where_it_may", falls_back_where_it_may},
    {"refuses_missing_parts", refuses_missing_parts},
    {"refuses_sizes_out_of_range", refuses_sizes_out_of_range},
    {"refuses_other_models_by_name", refuses_other_models_by_name},
    {"takes_harmless_keys", takes_harmless_keys},
    {"refuses_other_tensors", refuses_other_tensors},
    {"names_and_shapes", names_and_shapes},
    {"reads_the_real_model", reads_the_real_model},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
