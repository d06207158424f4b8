#include "daemon/api_body.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "config/config.h"
#include "core/chat.h"
#include "daemon/buf.h"
#include "daemon/json.h"

/* Integers up to here survive the parser's doubles. */
#define MAX_EXACT 9007199254740991.0

/* ---- the numeric fields: one table ---- */

enum number {
    NUM_TEMPERATURE,
    NUM_TOP_P,
    NUM_TOP_K,
    NUM_SEED,
    NUM_MAX_TOKENS,
    NUM_MAX_COMPLETION_TOKENS,
    NUM_N,
    NUM_BEST_OF,
    NUM_PRESENCE,
    NUM_FREQUENCY,
    NUM_TOP_LOGPROBS
};
enum { NUM_COUNT = NUM_TOP_LOGPROBS + 1 };

static const struct {
    const char *name;
    double min, max, def; /* NAN: none given */
    bool is_integer;
    bool is_above_min; /* the minimum itself is out */
} numbers[NUM_COUNT] = {
    [NUM_TEMPERATURE] = {"temperature", 0, 2, 0.8, false, false},
    [NUM_TOP_P] = {"top_p", 0, 1, 0.95, false, true},
    [NUM_TOP_K] = {"top_k", 0, SAMPLE_MAX_TOP_K, 40, true, false},
    [NUM_SEED] = {"seed", -1, MAX_EXACT, -1, true, false}, /* -1: any */
    [NUM_MAX_TOKENS] = {"max_tokens", 1, 1 << 30, NAN, true, false},
    [NUM_MAX_COMPLETION_TOKENS] = {"max_completion_tokens", 1, 1 << 30, NAN, true, false},
    /* Known, and only their neutral value is supported. */
    [NUM_N] = {"n", 1, 1, 1, true, false},
    [NUM_BEST_OF] = {"best_of", 1, 1, 1, true, false},
    [NUM_PRESENCE] = {"presence_penalty", 0, 0, 0, false, false},
    [NUM_FREQUENCY] = {"frequency_penalty", 0, 0, 0, false, false},
    [NUM_TOP_LOGPROBS] = {"top_logprobs", 0, 0, 0, true, false},
};

enum flag { FLAG_STREAM, FLAG_IGNORE_EOS, FLAG_ECHO, FLAG_INCLUDE_USAGE };
enum { FLAG_COUNT = FLAG_INCLUDE_USAGE + 1 };

struct parse {
    const struct api_body_opts *o;
    struct api_fault *fault;
    double num[NUM_COUNT];
    bool flag[FLAG_COUNT];
    struct stream stops;
    struct chat_message *messages; /* owned; texts borrowed from the tree or from `joined` */
    char **joined;                 /* [n_messages], owned; NULL where the tree's text is used */
    size_t n_messages;
    const char *prompt; /* borrowed from the tree */
};

static int fail(struct parse *p, int code, int status, const char *param, const char *fmt, ...)
    PRINTF_LIKE(5, 6);

static int fail(struct parse *p, int code, int status, const char *param, const char *fmt, ...) {
    struct api_fault *f = p->fault;
    va_list ap;
    f->status = status;
    f->type = status >= 500 ? "server_error" : "invalid_request_error";
    snprintf(f->param, sizeof(f->param), "%s", param);
    va_start(ap, fmt);
    vsnprintf(f->e.msg, sizeof(f->e.msg), fmt, ap);
    va_end(ap);
    f->e.code = code;
    return code;
}

static int no_memory(struct parse *p) {
    return fail(p, -ENOMEM, 503, "", "No memory for the request; try again later.");
}

/* ---- fields ---- */

struct field;
typedef int (*take_fn)(struct parse *p, const struct field *f, const cJSON *v);

struct field {
    const char *name;
    take_fn take;
    unsigned index; /* enum number or enum flag */
};

static int take_number(struct parse *p, const struct field *f, const cJSON *v) {
    const char *name = numbers[f->index].name;
    double min = numbers[f->index].min, max = numbers[f->index].max, d = v->valuedouble;
    if (cJSON_IsNull(v)) return 0;
    if (!cJSON_IsNumber(v)) return fail(p, -EINVAL, 400, name, "%s must be a number.", name);
    if (numbers[f->index].is_integer && d != floor(d))
        return fail(p, -EINVAL, 400, name, "%s must be a whole number.", name);
    if (d < min || d > max || (numbers[f->index].is_above_min && d <= min)) {
        if (min >= max)
            return fail(p, -EINVAL, 400, name, "%s other than %.15g is not supported.", name, min);
        return fail(p, -EINVAL, 400, name, "%s must be %s%.15g and at most %.15g.", name,
                    numbers[f->index].is_above_min ? "above " : "at least ", min, max);
    }
    p->num[f->index] = d;
    return 0;
}

static int take_flag(struct parse *p, const struct field *f, const cJSON *v) {
    if (cJSON_IsNull(v)) return 0;
    if (!cJSON_IsBool(v))
        return fail(p, -EINVAL, 400, f->name, "%s must be true or false.", f->name);
    p->flag[f->index] = cJSON_IsTrue(v);
    return 0;
}

/* Known features that we lack: absent, null, false, 0, "", [] and {} ask for nothing. */
static int take_unsupported(struct parse *p, const struct field *f, const cJSON *v) {
    bool is_empty = cJSON_IsNull(v) || cJSON_IsFalse(v) ||
                    (cJSON_IsNumber(v) && v->valuedouble == 0) ||
                    (cJSON_IsString(v) && !v->valuestring[0]) ||
                    ((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child);
    if (is_empty) return 0;
    return fail(p, -ENOTSUP, 400, f->name, "%s is not supported by this server.", f->name);
}

static int take_tool_choice(struct parse *p, const struct field *f, const cJSON *v) {
    if (cJSON_IsString(v) &&
        (strcmp(v->valuestring, "none") == 0 || strcmp(v->valuestring, "auto") == 0))
        return 0;
    return take_unsupported(p, f, v);
}

static int take_model(struct parse *p, const struct field *f, const cJSON *v) {
    /* One model is served, whatever it is called; the answer names it. */
    if (cJSON_IsNull(v) || cJSON_IsString(v)) return 0;
    return fail(p, -EINVAL, 400, f->name, "model must be a string.");
}

/* Goes through an object's members: each known field at most once, unknown ones are ignored. */
static int take_fields(struct parse *p, const char *where, const cJSON *o,
                       const struct field *fields, size_t n) {
    uint64_t seen = 0;
    ASSERT(n <= 64);
    for (const cJSON *v = o->child; v; v = v->next) {
        for (size_t i = 0; i < n; i++) {
            if (strcmp(v->string, fields[i].name) != 0) continue;
            if (seen & UINT64_C(1) << i)
                return fail(p, -EINVAL, 400, fields[i].name, "%s%s is given twice.", where,
                            fields[i].name);
            seen |= UINT64_C(1) << i;
            int r = fields[i].take(p, &fields[i], v);
            if (r < 0) return r;
            break;
        }
    }
    return 0;
}

static int take_stream_options(struct parse *p, const struct field *f, const cJSON *v) {
    static const struct field fields[] = {{"include_usage", take_flag, FLAG_INCLUDE_USAGE}};
    if (cJSON_IsNull(v)) return 0;
    if (!cJSON_IsObject(v)) return fail(p, -EINVAL, 400, f->name, "%s must be an object.", f->name);
    return take_fields(p, "stream_options.", v, fields, ARRAY_LEN(fields));
}

static int take_response_format(struct parse *p, const struct field *f, const cJSON *v) {
    if (cJSON_IsNull(v)) return 0;
    if (!cJSON_IsObject(v)) return fail(p, -EINVAL, 400, f->name, "%s must be an object.", f->name);
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(v, "type"));
    if (type && strcmp(type, "text") == 0) return 0;
    return fail(p, -ENOTSUP, 400, f->name,
                "response_format other than {\"type\":\"text\"} is not supported by this server.");
}

static int take_stop(struct parse *p, const struct field *f, const cJSON *v) {
    if (cJSON_IsNull(v)) return 0;
    const cJSON *s = cJSON_IsArray(v) ? v->child : v;
    for (unsigned n = 0; s; s = cJSON_IsArray(v) ? s->next : NULL) {
        if (!cJSON_IsString(s))
            return fail(p, -EINVAL, 400, f->name, "stop must be a string or a list of strings.");
        if (n++ == STREAM_MAX_STOPS)
            return fail(p, -EINVAL, 400, f->name, "stop takes %d strings at most.",
                        STREAM_MAX_STOPS);
        if (stream_add_stop(&p->stops, s->valuestring, strlen(s->valuestring)) < 0)
            return fail(p, -EINVAL, 400, f->name, "A stop string must have 1 to %d bytes.",
                        STREAM_MAX_STOP_BYTES);
    }
    return 0;
}

static int take_prompt(struct parse *p, const struct field *f, const cJSON *v) {
    if (cJSON_IsArray(v) && v->child && !v->child->next) v = v->child;
    if (!cJSON_IsString(v))
        return fail(p, -EINVAL, 400, f->name,
                    "prompt must be a string, or a list with one string (token lists and several "
                    "prompts are not supported).");
    p->prompt = v->valuestring;
    return 0;
}

/* ---- messages ---- */

static int take_role(struct parse *p, const char *param, const cJSON *v, enum chat_role *ret) {
    static const struct {
        const char *name;
        enum chat_role role;
    } roles[] = {{"system", CHAT_SYSTEM},
                 {"developer", CHAT_SYSTEM},
                 {"user", CHAT_USER},
                 {"assistant", CHAT_ASSISTANT}};
    const char *s = cJSON_GetStringValue(v);
    for (size_t i = 0; s && i < ARRAY_LEN(roles); i++) {
        if (strcmp(roles[i].name, s) != 0) continue;
        *ret = roles[i].role;
        return 0;
    }
    return fail(p, -EINVAL, 400, param,
                "A message's role must be system, developer, user or assistant.");
}

/* A list of {"type":"text","text":...}: their texts one after the other. */
static int join_parts(struct parse *p, const char *param, const cJSON *list, size_t i) {
    struct buf b = {0};
    int r = 0;
    for (const cJSON *v = list->child; v && r == 0; v = v->next) {
        const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(v, "type"));
        const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(v, "text"));
        if (type && strcmp(type, "text") != 0)
            r = fail(p, -ENOTSUP, 400, param, "Only text content is supported by this server.");
        else if (!type || !text)
            r = fail(p, -EINVAL, 400, param,
                     "A content part must be {\"type\":\"text\",\"text\":...}.");
        else
            buf_str(&b, text);
    }
    buf_add(&b, "", 1);
    if (r == 0 && b.failed) r = no_memory(p);
    if (r < 0) {
        buf_fini(&b);
        return r;
    }
    p->joined[i] = b.p;
    p->messages[i].text = b.p;
    p->messages[i].n = b.n - 1;
    return 0;
}

static int take_message(struct parse *p, const cJSON *v, size_t i) {
    char param[64];
    const cJSON *role = NULL, *content = NULL;
    snprintf(param, sizeof(param), "messages[%zu]", i);
    if (!cJSON_IsObject(v)) return fail(p, -EINVAL, 400, param, "A message must be an object.");
    for (const cJSON *m = v->child; m; m = m->next) {
        const cJSON **slot = strcmp(m->string, "role") == 0      ? &role
                             : strcmp(m->string, "content") == 0 ? &content
                                                                 : NULL;
        if (!slot) continue;
        if (*slot) return fail(p, -EINVAL, 400, param, "A message gives %s twice.", m->string);
        *slot = m;
    }
    int r = take_role(p, param, role, &p->messages[i].role);
    if (r < 0) return r;
    if (cJSON_IsArray(content)) return join_parts(p, param, content, i);
    if (cJSON_IsString(content)) {
        p->messages[i].text = content->valuestring;
        p->messages[i].n = strlen(content->valuestring);
        return 0;
    }
    /* An assistant's turn may be empty. */
    if (cJSON_IsNull(content) && p->messages[i].role == CHAT_ASSISTANT) {
        p->messages[i].text = "";
        return 0;
    }
    return fail(p, -EINVAL, 400, param,
                "A message's content must be a string or a list of text parts.");
}

static int take_messages(struct parse *p, const struct field *f, const cJSON *v) {
    if (!cJSON_IsArray(v) || !v->child)
        return fail(p, -EINVAL, 400, f->name, "messages must be a list with one message or more.");
    size_t n = 0;
    for (const cJSON *m = v->child; m; m = m->next) n++;
    if (n > API_MAX_MESSAGES)
        return fail(p, -EINVAL, 400, f->name, "messages takes %d at most.", API_MAX_MESSAGES);
    p->messages = calloc(n, sizeof(p->messages[0]));
    p->joined = calloc(n, sizeof(p->joined[0]));
    if (!p->messages || !p->joined) return no_memory(p);
    p->n_messages = n;
    size_t i = 0;
    for (const cJSON *m = v->child; m; m = m->next) {
        int r = take_message(p, m, i++);
        if (r < 0) return r;
    }
    return 0;
}

/* ---- the whole body ---- */

/* clang-format off */
#define COMMON_FIELDS                                                                              \
    {"temperature", take_number, NUM_TEMPERATURE}, {"top_p", take_number, NUM_TOP_P},              \
    {"top_k", take_number, NUM_TOP_K}, {"seed", take_number, NUM_SEED},                            \
    {"max_tokens", take_number, NUM_MAX_TOKENS}, {"n", take_number, NUM_N},                        \
    {"presence_penalty", take_number, NUM_PRESENCE},                                               \
    {"frequency_penalty", take_number, NUM_FREQUENCY},                                             \
    {"stream", take_flag, FLAG_STREAM}, {"ignore_eos", take_flag, FLAG_IGNORE_EOS},                \
    {"stream_options", take_stream_options, 0}, {"stop", take_stop, 0}, {"model", take_model, 0},  \
    {"logprobs", take_unsupported, 0}, {"logit_bias", take_unsupported, 0}

static const struct field chat_fields[] = {
    COMMON_FIELDS,
    {"messages", take_messages, 0},
    {"max_completion_tokens", take_number, NUM_MAX_COMPLETION_TOKENS},
    {"top_logprobs", take_number, NUM_TOP_LOGPROBS},
    {"response_format", take_response_format, 0},
    {"tools", take_unsupported, 0}, {"tool_choice", take_tool_choice, 0},
    {"functions", take_unsupported, 0}, {"function_call", take_tool_choice, 0},
    {"audio", take_unsupported, 0},
};

static const struct field completion_fields[] = {
    COMMON_FIELDS,
    {"prompt", take_prompt, 0},
    {"best_of", take_number, NUM_BEST_OF},
    {"echo", take_unsupported, 0}, {"suffix", take_unsupported, 0},
};
/* clang-format on */

/* Text to ids. */
static int encode(struct parse *p, bool is_chat, struct tok_ids *ids) {
    const struct api_body_opts *o = p->o;
    int r;
    if (is_chat) {
        if (!p->n_messages) return fail(p, -EINVAL, 400, "messages", "messages is missing.");
        if (!o->chat) return fail(p, -ENOTSUP, 400, "messages", "%s", o->chat_missing);
        struct err e = {0};
        r = chat_encode(o->chat, o->tok, p->messages, p->n_messages, /* max_ids= */ 0, ids, &e);
        if (r < 0 && r != -ENOMEM) return fail(p, r, 400, "messages", "%s.", e.msg);
    } else {
        if (!p->prompt) return fail(p, -EINVAL, 400, "prompt", "prompt is missing.");
        int64_t bos = tok_adds_bos(o->tok) ? tok_bos(o->tok) : -1;
        r = bos >= 0 ? tok_ids_push(ids, (uint32_t)bos) : 0;
        if (r == 0)
            r = tok_encode(o->tok, p->prompt, strlen(p->prompt), /* parse_special= */ false,
                           /* max_ids= */ 0, ids);
        if (r == 0 && ids->n == 0)
            return fail(p, -EINVAL, 400, "prompt",
                        "prompt is empty, and this model has no token to begin with.");
    }
    return r < 0 ? no_memory(p) : 0;
}

static int finish(struct parse *p, struct api_body *b) {
    uint32_t n_ctx = p->o->n_ctx;
    if (b->prompt.n >= n_ctx) {
        struct api_fault *f = p->fault;
        int r = fail(p, -E2BIG, 400, "messages",
                     "The prompt has %zu tokens, and prompt and answer together may use %u "
                     "(serve.ctx, or what the model was trained for).",
                     b->prompt.n, n_ctx);
        f->type = "exceed_context_size_error";
        f->code = "context_length_exceeded";
        f->n_prompt = (uint32_t)MIN(b->prompt.n, UINT32_MAX);
        f->n_ctx = n_ctx;
        return r;
    }
    double max = p->num[NUM_MAX_COMPLETION_TOKENS];
    if (isnan(max)) max = p->num[NUM_MAX_TOKENS];
    if (isnan(max)) max = p->o->max_tokens;
    b->max_tokens = (uint32_t)MIN(max, (double)(n_ctx - b->prompt.n));
    b->is_stream = p->flag[FLAG_STREAM];
    b->include_usage = p->flag[FLAG_INCLUDE_USAGE];
    b->ignore_end = p->flag[FLAG_IGNORE_EOS];
    b->stops = p->stops;
    b->sample = (struct sample_params){
        .temperature = (float)p->num[NUM_TEMPERATURE],
        .top_p = (float)p->num[NUM_TOP_P],
        .top_k = (uint32_t)p->num[NUM_TOP_K],
        .seed = p->num[NUM_SEED] < 0 ? p->o->seed : (uint64_t)p->num[NUM_SEED],
    };
    return 0;
}

/* Text to a tree; the caller deletes it. */
static int parse_tree(struct parse *p, const char *text, size_t n, cJSON **ret) {
    struct err e = {0};
    if (n == 0) return fail(p, -EINVAL, 400, "", "The body is empty.");
    if (json_check(text, n, &e) < 0) return fail(p, -EINVAL, 400, "", "%s.", e.msg);
    cJSON *tree = cJSON_ParseWithLength(text, n);
    if (!tree) return no_memory(p); /* valid by the check above */
    if (!cJSON_IsObject(tree)) {
        cJSON_Delete(tree);
        return fail(p, -EINVAL, 400, "", "The body must be a JSON object.");
    }
    *ret = tree;
    return 0;
}

int api_body_parse(bool is_chat, const char *text, size_t n, const struct api_body_opts *o,
                   struct api_body *ret, struct api_fault *fault) {
    struct parse p = {.o = o, .fault = fault};
    struct api_body b = {0};
    cJSON *tree = NULL;
    *fault = (struct api_fault){0};
    for (size_t i = 0; i < NUM_COUNT; i++) p.num[i] = numbers[i].def;

    int r = parse_tree(&p, text, n, &tree);
    if (r == 0)
        r = is_chat ? take_fields(&p, "", tree, chat_fields, ARRAY_LEN(chat_fields))
                    : take_fields(&p, "", tree, completion_fields, ARRAY_LEN(completion_fields));
    if (r == 0) r = encode(&p, is_chat, &b.prompt);
    if (r == 0) r = finish(&p, &b);
    if (r == -E2BIG && !is_chat) snprintf(fault->param, sizeof(fault->param), "prompt");
    for (size_t i = 0; i < p.n_messages; i++) free(p.joined[i]);
    free(p.joined);
    free(p.messages);
    cJSON_Delete(tree);
    if (r < 0) {
        api_body_fini(&b);
        return r;
    }
    *ret = b;
    return 0;
}

void api_body_fini(struct api_body *b) {
    tok_ids_fini(&b->prompt);
}

int api_body_limit(const char *text, size_t n, uint64_t *ret, struct api_fault *fault) {
    struct parse p = {.fault = fault};
    cJSON *tree = NULL;
    *fault = (struct api_fault){0};
    int r = parse_tree(&p, text, n, &tree);
    if (r < 0) return r;
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(tree, "bytes");
    if (cJSON_IsString(v) && strcmp(v->valuestring, "auto") == 0) {
        *ret = CONFIG_AUTO_BYTES;
    } else if (cJSON_IsNumber(v) && v->valuedouble >= 1 && v->valuedouble <= MAX_EXACT &&
               v->valuedouble == floor(v->valuedouble)) {
        *ret = (uint64_t)v->valuedouble;
    } else {
        r = fail(&p, -EINVAL, 400, "bytes", "bytes must be a whole number of bytes, or \"auto\".");
    }
    cJSON_Delete(tree);
    return r;
}
