#include "tests/golden/tiny.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/golden/gguf_build.h"
#include "tests/t.h"

enum { N_SPECIAL = 3, MAX_TOKENS = 512, MAX_TOKEN_BYTES = 24 };

/* Written with a space for the blank that GPT-2's byte alphabet shows as U+0120. */
static const char *const merges[] = {
    " |t", " |a",  "i|n",    "h|e",   "r|e",     "o|n",  "e|r",   " t|he",  "a|t",     " |s",
    " |o", "e|n",  " |c",    "e|s",   " |w",     "n|d",  "i|t",   "o|r",    "i|s",     "a|n",
    " |b", "e|d",  " |f",    "in|g",  " |p",     " o|f", " a|nd", "a|l",    "a|r",     " t|o",
    " |m", " |in", " |h",    " |d",   "l|e",     "i|c",  "a|s",   "l|l",    "o|u",     "he|r",
    "l|o", "he|l", "hel|lo", " |hel", " hel|lo", "w|or", "l|d",   "wor|ld", " |world",
};

static const char chat_template[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

/* GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others, in order, for the
 * code points from 256 on. */
static int byte_code(int byte) {
    int next = 256;
    for (int b = 0; b < 256; b++) {
        bool is_self = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte) return is_self ? b : next;
        if (!is_self) next++;
    }
    return next;
}

static char *put_code(char *p, int code) {
    if (code < 128) {
        *p++ = (char)code;
    } else {
        *p++ = (char)(0xc0 | code >> 6);
        *p++ = (char)(0x80 | (code & 63));
    }
    return p;
}

struct vocab {
    char tokens[MAX_TOKENS][MAX_TOKEN_BYTES];
    char merges[MAX_TOKENS][MAX_TOKEN_BYTES];
    const char *token_p[MAX_TOKENS], *merge_p[MAX_TOKENS];
    int32_t types[MAX_TOKENS];
    size_t n, n_merges;
};

static void add_token(struct vocab *v, const char *s, int32_t type) {
    for (size_t i = 0; i < v->n; i++)
        if (strcmp(v->tokens[i], s) == 0) return; /* two merges may lead to one token */
    snprintf(v->tokens[v->n], MAX_TOKEN_BYTES, "%s", s);
    v->token_p[v->n] = v->tokens[v->n];
    v->types[v->n++] = type;
}

static void make_vocab(struct vocab *v) {
    enum { NORMAL = 1, CONTROL = 3 };
    char text[MAX_TOKEN_BYTES];
    memset(v, 0, sizeof(*v));
    add_token(v, "<|endoftext|>", CONTROL);
    add_token(v, "<|im_start|>", CONTROL);
    add_token(v, "<|im_end|>", CONTROL);
    for (int b = 0; b < 256; b++) {
        *put_code(text, byte_code(b)) = '\0';
        add_token(v, text, NORMAL);
    }
    for (size_t i = 0; i < sizeof(merges) / sizeof(merges[0]); i++) {
        char *p = text, *m = v->merges[v->n_merges];
        for (const char *s = merges[i]; *s; s++) {
            if (*s == '|') {
                *m++ = ' ';
                continue;
            }
            p = put_code(p, byte_code((uint8_t)*s));
            m = put_code(m, byte_code((uint8_t)*s));
        }
        *p = '\0';
        v->merge_p[v->n_merges] = v->merges[v->n_merges];
        v->n_merges++;
        add_token(v, text, NORMAL);
    }
}

uint32_t tiny_n_vocab(void) {
    struct vocab *v = malloc(sizeof(*v));
    if (!v) abort();
    make_vocab(v);
    uint32_t n = (uint32_t)v->n;
    free(v);
    return n;
}

/* --- Weights ---------------------------------------------------------------------------------- */

/* Close to normal, mean 0, standard deviation 1: a sum of 12 uniforms. */
static float gauss(uint64_t *seed) {
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += (double)(t_rand(seed) >> 11) * 0x1p-53;
    return (float)sum;
}

static void put_q8_0(struct gb_buf *b, const float *x) {
    float amax = 0;
    for (int i = 0; i < 32; i++) amax = fmaxf(amax, fabsf(x[i]));
    uint16_t d = gb_half(amax / 127);
    gb_put(b, &d, sizeof(d));
    for (int i = 0; i < 32; i++) {
        int8_t q = amax > 0 ? (int8_t)lrintf(x[i] * 127 / amax) : 0;
        gb_put(b, &q, 1);
    }
}

static void add_matrix(struct gb *g, const char *name, enum gguf_tensor_type type, const float *x,
                       uint32_t n_out, uint32_t n_in) {
    struct gb_buf b = {0};
    size_t n = (size_t)n_out * n_in;
    for (size_t i = 0; i < n; i++) {
        if (type == GGUF_T_Q8_0) {
            if (i % 32 == 0) put_q8_0(&b, x + i);
        } else if (type == GGUF_T_F16) {
            uint16_t h = gb_half(x[i]);
            gb_put(&b, &h, sizeof(h));
        } else {
            gb_put(&b, &x[i], sizeof(float));
        }
    }
    gb_tensor(g, name, type, (uint64_t[]){n_in, n_out}, 2, b.p, b.n);
    free(b.p);
}

static void add_random(struct gb *g, const struct tiny_opts *o, uint64_t *seed, uint32_t layer,
                       const char *what, uint32_t n_out, uint32_t n_in) {
    char name[64];
    size_t n = (size_t)n_out * n_in;
    float *x = malloc(n * sizeof(*x)), scale = 1.5f / sqrtf((float)n_in);
    if (!x) abort();
    for (size_t i = 0; i < n; i++) x[i] = scale * gauss(seed);
    snprintf(name, sizeof(name), "blk.%u.%s.weight", (unsigned)layer, what);
    add_matrix(g, name, o->type, x, n_out, n_in);
    free(x);
}

/* Rows of bytes that are not printable ASCII, and of the special tokens, are short. */
static void add_vocab_matrix(struct gb *g, const struct tiny_opts *o, uint64_t *seed,
                             const char *name, uint32_t n_vocab) {
    float *x = malloc((size_t)n_vocab * o->n_embd * sizeof(*x));
    float scale = 4 / sqrtf((float)o->n_embd);
    if (!x) abort();
    for (uint32_t r = 0; r < n_vocab; r++) {
        bool is_byte = r >= N_SPECIAL && r < N_SPECIAL + 256;
        bool is_shown = r >= N_SPECIAL &&
                        (!is_byte || (r - N_SPECIAL >= 32 && r - N_SPECIAL < 127));
        for (uint32_t i = 0; i < o->n_embd; i++)
            x[(size_t)r * o->n_embd + i] = gauss(seed) * (is_shown ? scale : scale / 10);
    }
    add_matrix(g, name, o->type, x, n_vocab, o->n_embd);
    free(x);
}

static void add_vector(struct gb *g, const char *name, uint32_t n, float spread, uint64_t *seed) {
    float *x = malloc(n * sizeof(*x));
    if (!x) abort();
    for (uint32_t i = 0; i < n; i++) x[i] = 1 + spread * (float)(t_rand(seed) >> 40) * 0x1p-24f;
    gb_tensor(g, name, GGUF_T_F32, (uint64_t[]){n}, 1, x, n * sizeof(*x));
    free(x);
}

static void add_layer(struct gb *g, const struct tiny_opts *o, uint64_t *seed, uint32_t i) {
    char name[64];
    uint32_t n_q = o->n_heads * o->head_dim, n_kv = o->n_kv_heads * o->head_dim;
    snprintf(name, sizeof(name), "blk.%u.attn_norm.weight", (unsigned)i);
    add_vector(g, name, o->n_embd, 0.3f, seed);
    snprintf(name, sizeof(name), "blk.%u.ffn_norm.weight", (unsigned)i);
    add_vector(g, name, o->n_embd, 0.3f, seed);
    add_random(g, o, seed, i, "attn_q", n_q, o->n_embd);
    add_random(g, o, seed, i, "attn_k", n_kv, o->n_embd);
    add_random(g, o, seed, i, "attn_v", n_kv, o->n_embd);
    add_random(g, o, seed, i, "attn_output", o->n_embd, n_q);
    add_random(g, o, seed, i, "ffn_gate", o->n_ff, o->n_embd);
    add_random(g, o, seed, i, "ffn_up", o->n_ff, o->n_embd);
    add_random(g, o, seed, i, "ffn_down", o->n_embd, o->n_ff);
}

static void add_keys(struct gb *g, const struct tiny_opts *o, const struct vocab *v) {
    gb_str(g, "general.architecture", "llama");
    gb_str(g, "general.name", "tiny test model");
    gb_u32(g, "llama.block_count", o->n_layers);
    gb_u32(g, "llama.context_length", o->n_ctx);
    gb_u32(g, "llama.embedding_length", o->n_embd);
    gb_u32(g, "llama.feed_forward_length", o->n_ff);
    gb_u32(g, "llama.attention.head_count", o->n_heads);
    gb_u32(g, "llama.attention.head_count_kv", o->n_kv_heads);
    gb_u32(g, "llama.attention.key_length", o->head_dim);
    gb_u32(g, "llama.attention.value_length", o->head_dim);
    gb_f32(g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gb_f32(g, "llama.rope.freq_base", 10000);
    gb_u32(g, "llama.rope.dimension_count", o->head_dim);
    gb_u32(g, "llama.vocab_size", (uint32_t)v->n);
    gb_str(g, "tokenizer.ggml.model", "gpt2");
    gb_str(g, "tokenizer.ggml.pre", "smollm");
    gb_strs(g, "tokenizer.ggml.tokens", v->token_p, v->n);
    gb_i32s(g, "tokenizer.ggml.token_type", v->types, v->n);
    gb_strs(g, "tokenizer.ggml.merges", v->merge_p, v->n_merges);
    gb_u32(g, "tokenizer.ggml.bos_token_id", TINY_BOS);
    gb_u32(g, "tokenizer.ggml.eos_token_id", TINY_EOS);
    gb_u32(g, "tokenizer.ggml.unknown_token_id", 0);
    gb_bool(g, "tokenizer.ggml.add_bos_token", 0);
    gb_str(g, "tokenizer.chat_template", chat_template);
}

struct tiny_opts tiny_defaults(void) {
    return (struct tiny_opts){.n_layers = 3,
                              .n_embd = 64,
                              .n_ff = 96,
                              .n_heads = 4,
                              .n_kv_heads = 2,
                              .head_dim = 16,
                              .n_ctx = 2048,
                              .type = GGUF_T_Q8_0,
                              .seed = 1};
}

uint8_t *tiny_build(const struct tiny_opts *o, size_t *ret_n) {
    struct gb g = {0};
    struct vocab *v = malloc(sizeof(*v));
    uint64_t seed = o->seed;
    if (!v) abort();
    make_vocab(v);
    add_keys(&g, o, v);
    add_vocab_matrix(&g, o, &seed, "token_embd.weight", (uint32_t)v->n);
    for (uint32_t i = 0; i < o->n_layers; i++) add_layer(&g, o, &seed, i);
    add_vector(&g, "output_norm.weight", o->n_embd, 0.3f, &seed);
    if (o->is_untied) add_vocab_matrix(&g, o, &seed, "output.weight", (uint32_t)v->n);
    if (o->has_rope_freqs) add_vector(&g, "rope_freqs.weight", o->head_dim / 2, 7, &seed);
    free(v);
    return gb_finish(&g, ret_n);
}

int tiny_write(const struct tiny_opts *o, const char *path) {
    size_t n;
    uint8_t *p = tiny_build(o, &n);
    FILE *f = fopen(path, "wb");
    int r = f ? 0 : -errno;
    if (f && fwrite(p, 1, n, f) != n) r = -EIO;
    if (f && fclose(f) != 0 && r == 0) r = -errno;
    free(p);
    return r;
}
