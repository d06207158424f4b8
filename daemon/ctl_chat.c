/* `ebb chat` and `ebb complete`: sends a conversation or a prompt and prints the answer as it
 * comes.
 *
 * The conversation lives here; every turn sends the whole of it, as the API wants. When it no
 * longer fits the model's context, the oldest turn is forgotten, with a word on standard error.
 * Ctrl-C (read from signal_fd, so that no handler is needed) stops the answer by closing the
 * connection; what was said so far stays in the conversation. */
#include "daemon/ctl.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/err.h"
#include "daemon/ctl_http.h"

enum { LINE_MAX_BYTES = 256 << 10 };

/* One answer as it comes in. */
struct answer {
    const struct ctl *c;
    bool is_chat;
    char *text; /* owned; all of it */
    size_t n, cap;
    bool has_text;
    bool is_done;   /* [DONE] seen */
    bool is_broken; /* an error event, or memory ran out */
    int error_code; /* its HTTP code */
    char fingerprint[128];
    unsigned n_swaps;
};

static const cJSON *item(const cJSON *o, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static bool answer_add(struct answer *a, const char *text) {
    size_t n = strlen(text);
    if (a->n + n + 1 > a->cap) {
        size_t cap = MAX(a->cap * 2, a->n + n + 1);
        char *grown = realloc(a->text, cap);
        if (!grown) return false;
        a->text = grown;
        a->cap = cap;
    }
    memcpy(a->text + a->n, text, n + 1);
    a->n += n;
    return true;
}

/* The fingerprint names model and position: a new one in the middle of an answer is a swap. */
static void note_fingerprint(struct answer *a, const char *now) {
    if (!now || strcmp(now, a->fingerprint) == 0) return;
    if (a->fingerprint[0]) a->n_swaps++;
    if (a->c->is_verbose && a->fingerprint[0]) {
        fputs("[swap: ", stderr);
        ctl_print(stderr, a->fingerprint);
        fputs(" -> ", stderr);
        ctl_print(stderr, now);
        fputs("]", stderr);
    }
    snprintf(a->fingerprint, sizeof(a->fingerprint), "%s", now);
}

static void note_end(const struct answer *a, const cJSON *chunk) {
    const cJSON *t = item(chunk, "timings"), *ebb = item(chunk, "ebb");
    if (!a->c->is_verbose || !t) return;
    const cJSON *n = item(t, "predicted_n"), *speed = item(t, "predicted_per_second");
    const cJSON *prompt = item(t, "prompt_n"), *position = item(ebb, "position");
    fprintf(stderr, "\n[%.0f prompt tokens, %.0f tokens, %.1f tokens/s, %u swaps, position %.0f]",
            cJSON_IsNumber(prompt) ? prompt->valuedouble : 0,
            cJSON_IsNumber(n) ? n->valuedouble : 0, cJSON_IsNumber(speed) ? speed->valuedouble : 0,
            a->n_swaps, cJSON_IsNumber(position) ? position->valuedouble : 0);
}

static bool take_chunk(void *ud, const char *event, const char *data) {
    struct answer *a = ud;
    (void)event;
    if (strcmp(data, "[DONE]") == 0) {
        a->is_done = true;
        return false;
    }
    cJSON *chunk = cJSON_Parse(data);
    const cJSON *error = item(chunk, "error");
    if (cJSON_IsObject(error)) {
        const char *message = cJSON_GetStringValue(item(error, "message"));
        const cJSON *code = item(error, "code");
        fputs("\nebb: the daemon ends the answer: ", stderr);
        ctl_print(stderr, message ? message : "(it gives no reason)");
        fputc('\n', stderr);
        a->is_broken = true;
        a->error_code = cJSON_IsNumber(code) ? (int)code->valuedouble : 500;
        cJSON_Delete(chunk);
        return true; /* [DONE] may follow */
    }
    note_fingerprint(a, cJSON_GetStringValue(item(chunk, "system_fingerprint")));
    const cJSON *choice = cJSON_GetArrayItem(item(chunk, "choices"), 0);
    const cJSON *text = a->is_chat ? item(item(choice, "delta"), "content") : item(choice, "text");
    if (cJSON_IsString(text) && text->valuestring[0]) {
        ctl_print(stdout, text->valuestring);
        fflush(stdout);
        a->has_text = true;
        if (!answer_add(a, text->valuestring)) {
            fputs("\nebb: no memory for the answer\n", stderr);
            a->is_broken = true;
            a->error_code = 500;
        }
    }
    note_end(a, chunk);
    cJSON_Delete(chunk);
    return true;
}

static cJSON *request_create(const struct ctl *c, bool is_stream) {
    cJSON *o = cJSON_CreateObject();
    if (is_stream) cJSON_AddTrueToObject(o, "stream");
    if (c->max_tokens > 0) cJSON_AddNumberToObject(o, "max_tokens", (double)c->max_tokens);
    if (c->temperature >= 0) cJSON_AddNumberToObject(o, "temperature", c->temperature);
    if (c->top_p >= 0) cJSON_AddNumberToObject(o, "top_p", c->top_p);
    if (c->top_k >= 0) cJSON_AddNumberToObject(o, "top_k", (double)c->top_k);
    if (c->seed >= 0) cJSON_AddNumberToObject(o, "seed", (double)c->seed);
    return o;
}

/* Takes the pending SIGINT, so that the next wait is not cut short by it. */
static void drop_signal(const struct ctl *c) {
    struct signalfd_siginfo info;
    struct pollfd p = {.fd = c->signal_fd, .events = POLLIN};
    if (c->signal_fd < 0) return;
    while (poll(&p, 1, 0) > 0 && read(c->signal_fd, &info, sizeof(info)) > 0) {
    }
}

/* Sends `request` and prints the answer into `a`. CTL_INTERRUPTED: Ctrl-C. `type` gets the kind of
 * a refusal, whose message is then already said. */
static int stream_answer(const struct ctl *c, const char *target, const cJSON *request,
                         struct answer *a, char type[64]) {
    struct err e = {0};
    struct ctl_http *h = NULL;
    struct ctl_sse sse = {0};
    char buf[4096];
    int code = CTL_OK;
    type[0] = '\0';
    char *body = cJSON_PrintUnformatted(request);
    if (!body) {
        err_set(&e, -ENOMEM, "no memory");
        return ctl_fail(&e);
    }
    if (ctl_http_open(c->socket_path, "POST", target, body, c->signal_fd, -1, &h, &e) < 0) {
        code = ctl_fail(&e);
        goto out;
    }
    const struct ctl_head *head = ctl_http_head(h);
    if (head->status != 200 || !head->is_event_stream) {
        char *text = NULL;
        size_t n = 0;
        ignore_result(ctl_http_read_all(h, &text, &n, &e)); /* the status says enough */
        code = ctl_refused(head->status, head->retry_after, text, n, type);
        free(text);
        goto out;
    }
    while (!a->is_done) {
        int64_t n = ctl_http_read(h, buf, sizeof(buf), &e);
        if (n == 0 && !a->is_broken)
            n = err_set(&e, -ECONNRESET, "the answer ends too early: the daemon went away");
        if (n == 0) break;
        if (n < 0) {
            if (n != -EINTR && a->has_text) fputc('\n', stdout);
            code = ctl_fail(&e);
            goto out;
        }
        if (ctl_sse_feed(&sse, buf, (size_t)n, take_chunk, a) < 0) {
            err_set(&e, -EFBIG, "an event is too long");
            code = ctl_fail(&e);
            goto out;
        }
    }
    if (a->is_broken) code = a->error_code == 503 ? CTL_BUSY : CTL_SERVER;
out:
    cJSON_free(body);
    ctl_sse_fini(&sse);
    ctl_http_close(h);
    return code;
}

/* --- complete, chat --once --- */

static void print_answer_json(const cJSON *answer) {
    char *text = cJSON_Print(answer);
    if (text) ctl_print(stdout, text);
    putchar('\n');
    cJSON_free(text);
}

/* With --json: the daemon's plain answer as it is. */
static int plain_answer(const struct ctl *c, const char *target, const cJSON *request) {
    cJSON *answer;
    int code = ctl_call(c, c->socket_path, "POST", target, request, &answer);
    if (code != CTL_OK) return code;
    print_answer_json(answer);
    cJSON_Delete(answer);
    return CTL_OK;
}

static int one_answer(const struct ctl *c, const char *target, const cJSON *request, bool is_chat) {
    struct answer a = {.c = c, .is_chat = is_chat};
    char type[64];
    int code = stream_answer(c, target, request, &a, type);
    if (a.has_text || code == CTL_OK) putchar('\n');
    if (c->is_verbose) fputc('\n', stderr);
    free(a.text);
    return code;
}

int ctl_complete(const struct ctl *c) {
    cJSON *request = request_create(c, !c->is_json);
    cJSON_AddStringToObject(request, "prompt", c->text);
    int code = c->is_json ? plain_answer(c, "/v1/completions", request)
                          : one_answer(c, "/v1/completions", request, false);
    cJSON_Delete(request);
    return code;
}

static void add_message(cJSON *messages, const char *role, const char *text) {
    cJSON *m = cJSON_CreateObject();
    cJSON_AddStringToObject(m, "role", role);
    cJSON_AddStringToObject(m, "content", text);
    cJSON_AddItemToArray(messages, m);
}

/* --- the conversation --- */

struct talk {
    const struct ctl *c;
    cJSON *messages; /* owned */
    bool is_terminal;
    char *line; /* owned; bytes read and not yet used */
    size_t n_line;
    bool is_ended; /* standard input has ended */
};

/* Next line without its end, owned by the caller; NULL at the end of input. Ctrl-C throws away
 * what was typed. */
static char *next_line(struct talk *t) {
    if (t->is_terminal) fputs("> ", stdout);
    fflush(stdout);
    for (;;) {
        char *nl = memchr(t->line, '\n', t->n_line);
        if (nl || (t->is_ended && t->n_line > 0)) {
            size_t n = nl ? (size_t)(nl - t->line) : t->n_line;
            size_t used = nl ? n + 1 : n;
            char *line = strndup(t->line, n);
            t->n_line -= used;
            memmove(t->line, t->line + used, t->n_line);
            return line;
        }
        if (t->is_ended) return NULL;
        struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                              {.fd = t->c->signal_fd, .events = POLLIN}};
        if (poll(p, 2, -1) < 0) continue;
        if (p[1].revents) {
            drop_signal(t->c);
            t->n_line = 0;
            fputs("\n(Ctrl-D ends the conversation)\n> ", stdout);
            fflush(stdout);
            continue;
        }
        if (t->n_line == LINE_MAX_BYTES) {
            fputs("ebb: the line is too long\n", stderr);
            t->n_line = 0;
        }
        ssize_t n = read(STDIN_FILENO, t->line + t->n_line, LINE_MAX_BYTES - t->n_line);
        if (n <= 0) t->is_ended = true;
        if (n > 0) t->n_line += (size_t)n;
    }
}

/* Index of the first message that is no system text. */
static int first_turn(const struct talk *t) {
    return t->c->system_text ? 1 : 0;
}

/* Forgets the oldest question and its answer. False if only the last question is left. */
static bool forget_oldest(struct talk *t) {
    int at = first_turn(t);
    if (cJSON_GetArraySize(t->messages) - at < 3) return false;
    cJSON_DeleteItemFromArray(t->messages, at);
    cJSON_DeleteItemFromArray(t->messages, at);
    return true;
}

static int say(struct talk *t, const char *text) {
    char type[64];
    int code;
    add_message(t->messages, "user", text);
    struct answer a;
    for (;;) {
        a = (struct answer){.c = t->c, .is_chat = true};
        cJSON *request = request_create(t->c, true);
        cJSON_AddItemReferenceToObject(request, "messages", t->messages);
        code = stream_answer(t->c, "/v1/chat/completions", request, &a, type);
        cJSON_Delete(request);
        if (code != CTL_REFUSED || strcmp(type, "exceed_context_size_error") != 0) break;
        free(a.text);
        a.text = NULL;
        if (!forget_oldest(t)) break;
        fputs("     Forgetting the oldest turn of the conversation.\n", stderr);
    }
    if (code == CTL_INTERRUPTED) {
        drop_signal(t->c);
        fputs(t->is_terminal ? " [stopped]" : "", stdout);
    }
    if (a.has_text || code == CTL_INTERRUPTED) putchar('\n');
    if (t->c->is_verbose) fputc('\n', stderr);
    if (a.has_text)
        add_message(t->messages, "assistant", a.text);
    else
        cJSON_DeleteItemFromArray(t->messages, cJSON_GetArraySize(t->messages) - 1);
    free(a.text);
    return code;
}

/* Answers lines until the input ends; on a terminal a failed turn does not end the talk. */
static int converse(struct talk *t) {
    int code = CTL_OK;
    if (t->is_terminal) puts("Ctrl-C stops an answer, Ctrl-D ends, /new forgets the conversation.");
    for (char *line; (line = next_line(t)); free(line)) {
        if (strspn(line, " \t\r") == strlen(line)) continue;
        if (t->is_terminal && strcmp(line, "/new") == 0) {
            while (cJSON_GetArraySize(t->messages) > first_turn(t))
                cJSON_DeleteItemFromArray(t->messages, first_turn(t));
            continue;
        }
        code = say(t, line);
        if (t->is_terminal) code = CTL_OK;
        if (code != CTL_OK) {
            free(line);
            break;
        }
    }
    if (t->is_terminal) putchar('\n');
    return code;
}

int ctl_chat(const struct ctl *c) {
    struct talk t = {.c = c, .messages = cJSON_CreateArray(), .is_terminal = isatty(STDIN_FILENO)};
    int code;
    if (c->system_text) add_message(t.messages, "system", c->system_text);
    if (c->once) {
        cJSON *request = request_create(c, !c->is_json);
        add_message(t.messages, "user", c->once);
        cJSON_AddItemReferenceToObject(request, "messages", t.messages);
        code = c->is_json ? plain_answer(c, "/v1/chat/completions", request)
                          : one_answer(c, "/v1/chat/completions", request, true);
        cJSON_Delete(request);
    } else {
        t.line = malloc(LINE_MAX_BYTES);
        code = t.line ? converse(&t) : CTL_SERVER;
        free(t.line);
    }
    cJSON_Delete(t.messages);
    return code;
}
