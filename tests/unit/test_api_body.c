/* Bodies of generation requests: every numeric field at its bounds, every refusal with the field's
 * name, and prompts up to the context. */
#include "daemon/api_body.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "core/chat.h"
#include "core/defs.h"
#include "core/gguf.h"
#include "tests/golden/tiny.h"
#include "tests/t.h"

enum { N_CTX = 256 };

static struct tok *tok;
static struct chat chat;

static void set_up(void) {
    struct tiny_opts o = tiny_defaults();
    struct gguf *g;
    struct err e = {0};
    size_t n;
    if (tok) return;
    uint8_t *data = tiny_build(&o, &n);
    REQUIRE(data);
    REQUIRE_OK(gguf_parse(data, n, n, &g, &e), &e);
    REQUIRE_OK(tok_create(g, &tok, &e), &e);
    REQUIRE_OK(chat_detect(g, tok, &chat, &e), &e);
    gguf_close(g);
    free(data);
}

static int parse_n(bool is_chat, const char *text, size_t n, struct api_body *b,
                   struct api_fault *f) {
    struct api_body_opts o = {
        .tok = tok, .chat = &chat, .n_ctx = N_CTX, .max_tokens = 64, .seed = 77};
    *b = (struct api_body){0};
    return api_body_parse(is_chat, text, n, &o, b, f);
}

static int parse(const char *text, struct api_body *b, struct api_fault *f) {
    return parse_n(strstr(text, "\"messages\"") != NULL, text, strlen(text), b, f);
}

/* A completion with these further members. */
static int parse_with(const char *members, struct api_body *b, struct api_fault *f) {
    char text[1024];
    snprintf(text, sizeof(text), "{\"prompt\":\"hi\"%s%s}", members[0] ? "," : "", members);
    return parse(text, b, f);
}

static void check_ok(const char *text) {
    struct api_body b;
    struct api_fault f;
    if (parse(text, &b, &f) < 0) t_fail(__FILE__, __LINE__, "%s: %s", text, f.e.msg);
    api_body_fini(&b);
}

static void check_bad(const char *text, const char *param) {
    struct api_body b;
    struct api_fault f;
    int r = parse(text, &b, &f);
    if (r >= 0) {
        t_fail(__FILE__, __LINE__, "accepted: %s", text);
        api_body_fini(&b);
        return;
    }
    CHECK_EQ(f.status, 400);
    CHECK_STR(f.type, "invalid_request_error");
    CHECK(f.e.msg[0] != '\0');
    if (strcmp(f.param, param) != 0)
        t_fail(__FILE__, __LINE__, "%s: param is %s, not %s", text, f.param, param);
}

static void defaults(void) {
    struct api_body b;
    struct api_fault f;
    set_up();
    REQUIRE_OK(parse_with("", &b, &f), &f.e);
    CHECK(!b.is_stream && !b.include_usage && !b.ignore_end);
    CHECK_EQ(b.max_tokens, 64);
    CHECK_EQU(b.sample.seed, 77);
    CHECK_EQ(b.sample.top_k, 40);
    CHECK(b.prompt.n > 0);
    api_body_fini(&b);

    REQUIRE_OK(parse_with("\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                          "\"ignore_eos\":true,\"seed\":5,\"temperature\":0,\"top_p\":0.5,"
                          "\"top_k\":7,\"max_tokens\":3,\"stop\":[\"a\",\"bc\"],\"unknown\":{}",
                          &b, &f),
               &f.e);
    CHECK(b.is_stream && b.include_usage && b.ignore_end);
    CHECK_EQ(b.max_tokens, 3);
    CHECK_EQU(b.sample.seed, 5);
    CHECK_EQ(b.sample.top_k, 7);
    CHECK_NEAR(b.sample.temperature, 0, 0);
    CHECK_NEAR(b.sample.top_p, 0.5, 1e-6);
    CHECK_EQ(b.stops.n_stops, 2);
    api_body_fini(&b);
}

/* Each numeric field at its bounds and beyond, and as what is no number. */
static void numbers(void) {
    static const struct {
        const char *name;
        bool is_chat;
        const char *good[6], *bad[8];
    } fields[] = {
        {"temperature", false, {"0", "1", "2", "0.7"}, {"-0.1", "2.1", "-1", "1e300"}},
        {"top_p", false, {"1", "0.01"}, {"0", "-0.1", "1.01"}},
        {"top_k", false, {"0", "1", "1024", "40.0"}, {"-1", "1025", "1.5"}},
        {"seed",
         false,
         {"-1", "0", "9007199254740991"},
         {"-2", "9007199254740992", "1.5", "9223372036854775808"}},
        {"max_tokens", false, {"1", "1073741824"}, {"0", "-1", "1073741825", "1.5"}},
        {"max_completion_tokens", true, {"1", "1073741824"}, {"0", "-1", "1073741825", "1.5"}},
        {"n", false, {"1"}, {"0", "2", "-1", "1.5"}},
        {"best_of", false, {"1"}, {"0", "2"}},
        {"presence_penalty", false, {"0", "-0"}, {"0.1", "-0.1", "2"}},
        {"frequency_penalty", false, {"0"}, {"0.1", "-0.1"}},
        {"top_logprobs", true, {"0"}, {"1", "-1"}},
    };
    static const char *const no_numbers[] = {"\"1\"", "true", "[1]", "{}"};
    set_up();
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        const char *rest = fields[i].is_chat
                               ? "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"
                               : "\"prompt\":\"x\"";
        char text[256];
        for (size_t k = 0; k < ARRAY_LEN(fields[i].good) && fields[i].good[k]; k++) {
            snprintf(text, sizeof(text), "{\"%s\":%s,%s}", fields[i].name, fields[i].good[k], rest);
            check_ok(text);
        }
        snprintf(text, sizeof(text), "{\"%s\":null,%s}", fields[i].name, rest);
        check_ok(text);
        for (size_t k = 0; k < ARRAY_LEN(fields[i].bad) && fields[i].bad[k]; k++) {
            snprintf(text, sizeof(text), "{\"%s\":%s,%s}", fields[i].name, fields[i].bad[k], rest);
            check_bad(text, fields[i].name);
        }
        for (size_t k = 0; k < ARRAY_LEN(no_numbers); k++) {
            snprintf(text, sizeof(text), "{%s,\"%s\":%s}", rest, fields[i].name, no_numbers[k]);
            check_bad(text, fields[i].name);
        }
        snprintf(text, sizeof(text), "{\"%s\":%s,%s,\"%s\":%s}", fields[i].name, fields[i].good[0],
                 rest, fields[i].name, fields[i].good[0]);
        check_bad(text, fields[i].name); /* twice */
    }
}

static void fields(void) {
    set_up();
    static const struct {
        const char *members, *param; /* param NULL: accepted */
    } cases[] = {
        {"\"stream\":1", "stream"},
        {"\"stream\":\"true\"", "stream"},
        {"\"stream\":null", NULL},
        {"\"stream_options\":true", "stream_options"},
        {"\"stream_options\":{\"include_usage\":1}", "include_usage"},
        {"\"stream_options\":null", NULL},
        {"\"stop\":\"x\"", NULL},
        {"\"stop\":[]", NULL},
        {"\"stop\":null", NULL},
        {"\"stop\":[\"a\",\"b\",\"c\",\"d\"]", NULL},
        {"\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]", "stop"},
        {"\"stop\":\"\"", "stop"},
        {"\"stop\":[1]", "stop"},
        {"\"stop\":{}", "stop"},
        {"\"model\":\"gpt-4\"", NULL},
        {"\"model\":7", "model"},
        {"\"logprobs\":false", NULL},
        {"\"logprobs\":true", "logprobs"},
        {"\"logprobs\":3", "logprobs"},
        {"\"logit_bias\":{}", NULL},
        {"\"logit_bias\":{\"5\":1}", "logit_bias"},
        {"\"echo\":false", NULL},
        {"\"echo\":true", "echo"},
        {"\"suffix\":\"x\"", "suffix"},
        {"\"tools\":[1]", NULL}, /* not a field of completions */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[512];
        snprintf(text, sizeof(text), "{\"prompt\":\"x\",%s}", cases[i].members);
        if (cases[i].param)
            check_bad(text, cases[i].param);
        else
            check_ok(text);
    }
    check_ok("{\"prompt\":[\"one\"]}");
    check_bad("{\"prompt\":[\"one\",\"two\"]}", "prompt");
    check_bad("{\"prompt\":[1,2]}", "prompt");
    check_bad("{\"prompt\":5}", "prompt");
    check_bad("{}", "prompt");
    check_bad("[]", "");
    check_bad("\"x\"", "");
    check_bad("", "");
    check_bad("{\"prompt\":\"x\"", "");
    check_bad("{\"prompt\":\"\\ud800\"}", "");
}

#define USER "{\"role\":\"user\",\"content\":\"hello\"}"

static void messages(void) {
    set_up();
    check_ok("{\"messages\":[" USER "]}");
    check_ok("{\"messages\":[{\"role\":\"developer\",\"content\":\"a\"}," USER "]}");
    check_ok("{\"messages\":[" USER ",{\"role\":\"assistant\",\"content\":null}," USER "]}");
    check_ok("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
             "{\"type\":\"text\",\"text\":\"b\"}]}]}");
    check_bad("{\"messages\":[]}", "messages");
    check_bad("{\"messages\":{}}", "messages");
    check_bad("{\"messages\":[1]}", "messages[0]");
    check_bad("{\"messages\":[" USER ",{\"role\":\"tool\",\"content\":\"x\"}]}", "messages[1]");
    check_bad("{\"messages\":[{\"content\":\"x\"}]}", "messages[0]");
    check_bad("{\"messages\":[{\"role\":\"user\"}]}", "messages[0]");
    check_bad("{\"messages\":[{\"role\":\"user\",\"content\":null}]}", "messages[0]");
    check_bad("{\"messages\":[{\"role\":\"user\",\"content\":5}]}", "messages[0]");
    check_bad("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
              "messages[0]");
    check_bad("{\"messages\":[{\"role\":\"user\",\"content\":[5]}]}", "messages[0]");
    check_bad("{\"messages\":[{\"role\":\"user\",\"role\":\"user\",\"content\":\"x\"}]}",
              "messages[0]");
    check_bad("{\"messages\":[" USER "],\"messages\":[" USER "]}", "messages");
    check_bad("{\"messages\":[" USER "],\"tools\":[{}]}", "tools");
    check_ok("{\"messages\":[" USER "],\"tools\":[],\"tool_choice\":\"none\"}");
    check_bad("{\"messages\":[" USER "],\"tool_choice\":\"required\"}", "tool_choice");
    check_ok("{\"messages\":[" USER "],\"response_format\":{\"type\":\"text\"}}");
    check_bad("{\"messages\":[" USER "],\"response_format\":{\"type\":\"json_object\"}}",
              "response_format");
}

/* Parts are one text, so they give the ids of that text. */
static void parts_join(void) {
    struct api_body a, b;
    struct api_fault f;
    set_up();
    REQUIRE_OK(parse("{\"messages\":[{\"role\":\"user\",\"content\":\"one two\"}]}", &a, &f), &f.e);
    REQUIRE_OK(parse("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                     "\"one \"},{\"type\":\"text\",\"text\":\"two\"}]}]}",
                     &b, &f),
               &f.e);
    REQUIRE(a.prompt.n == b.prompt.n);
    CHECK_MEM(a.prompt.v, b.prompt.v, a.prompt.n * sizeof(a.prompt.v[0]));
    api_body_fini(&a);
    api_body_fini(&b);
}

static void context(void) {
    struct api_body b;
    struct api_fault f;
    char text[2 * N_CTX + 64];
    set_up();
    size_t n_ids = 0;
    for (size_t n = 1; n <= N_CTX + 8; n++) {
        size_t k = (size_t)sprintf(text, "{\"max_tokens\":1000,\"prompt\":\"");
        for (size_t i = 0; i < n; i++) text[k++] = "!1"[i % 2]; /* no merges between these */
        k += (size_t)sprintf(text + k, "\"}");
        if (parse_n(false, text, k, &b, &f) == 0) {
            CHECK(b.prompt.n < N_CTX);
            CHECK_EQ(b.prompt.n + b.max_tokens, N_CTX);
            n_ids = b.prompt.n;
            api_body_fini(&b);
            continue;
        }
        CHECK_EQ(f.status, 400);
        CHECK_STR(f.code, "context_length_exceeded");
        CHECK_STR(f.type, "exceed_context_size_error");
        CHECK_STR(f.param, "prompt");
        CHECK(f.n_prompt >= N_CTX);
        CHECK_EQ(f.n_ctx, N_CTX);
    }
    CHECK_EQ(n_ids, N_CTX - 1);
}

static void no_chat(void) {
    static const char text[] = "{\"messages\":[" USER "]}";
    struct api_body b = {0};
    struct api_fault f;
    set_up();
    struct api_body_opts o = {
        .tok = tok, .chat_missing = "No template.", .n_ctx = N_CTX, .max_tokens = 4};
    CHECK_EQ(api_body_parse(true, text, strlen(text), &o, &b, &f), -ENOTSUP);
    CHECK_EQ(f.status, 400);
    CHECK_STR(f.e.msg, "No template.");
}

static void limit(void) {
    uint64_t v = 0;
    struct api_fault f;
    static const char *const bad[] = {"{}",
                                      "{\"bytes\":0}",
                                      "{\"bytes\":-1}",
                                      "{\"bytes\":1.5}",
                                      "{\"bytes\":\"5\"}",
                                      "{\"bytes\":null}",
                                      "5",
                                      "",
                                      "{\"bytes\":1e300}"};
    CHECK_EQ(api_body_limit("{\"bytes\":4096}", 14, &v, &f), 0);
    CHECK_EQU(v, 4096);
    CHECK_EQ(api_body_limit("{\"bytes\":\"auto\"}", 16, &v, &f), 0);
    CHECK_EQU(v, CONFIG_AUTO_BYTES);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK_EQ(api_body_limit(bad[i], strlen(bad[i]), &v, &f), -EINVAL);
        CHECK_EQ(f.status, 400);
    }
}

/* Random edits of a good body: an answer or a refusal, never a crash. */
static void mutations(void) {
    static const char seed_text[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\\u00e9\"}]}"
        "],"
        "\"stop\":[\"x\"],\"temperature\":0.5,\"max_tokens\":5,\"stream_options\":{}}";
    uint64_t st = t_seed();
    unsigned n_good = 0;
    set_up();
    for (int i = 0; i < 20000; i++) {
        char s[sizeof(seed_text)];
        size_t n = sizeof(s) - 1;
        struct api_body b;
        struct api_fault f;
        memcpy(s, seed_text, sizeof(s));
        for (unsigned k = 0; k <= t_rand(&st) % 3; k++)
            s[t_rand(&st) % n] = t_rand(&st) % 2 ? (char)t_rand(&st) : s[t_rand(&st) % n];
        if (parse_n(true, s, n, &b, &f) == 0)
            n_good++;
        else
            CHECK(f.status >= 400 && f.e.msg[0]);
        api_body_fini(&b);
    }
    CHECK(n_good > 0 && n_good < 20000);
    tok_destroy(tok);
    tok = NULL;
}

int main(int argc, char **argv) {
    static const struct t_case cases[] = {
        {"defaults", defaults}, {"numbers", numbers},       {"fields", fields},
        {"messages", messages}, {"parts_join", parts_join}, {"context", context},
        {"no_chat", no_chat},   {"limit", limit},           {"mutations", mutations},
    };
    return t_main(argc, argv, cases, ARRAY_LEN(cases));
}
