/* main() of `ebb`, the client: reads the command line and the environment, and calls a command. */
#include "daemon/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "config/config.h"

static const char help[] =
    "ebb " EBB_VERSION ": talks to ebbd, the resident language model daemon\n"
    "\n"
    "usage: ebb [OPTIONS] COMMAND\n"
    "\n"
    "commands\n"
    "  status              what the daemon holds, at which precision, and why\n"
    "  chat [--once TEXT]  converse; with --once: one message, the answer on standard output\n"
    "  complete TEXT       continue TEXT (no chat format)\n"
    "  ladder              every step of precision, its bytes and its cost, and which are taken\n"
    "  limit [SIZE|auto]   show the memory limit, or set it (96MiB, 1.5GiB; auto: no fixed limit)\n"
    "  top                 a live view of the daemon; q ends. Without a terminal, or with --json:\n"
    "                      a line for each look\n"
    "  events              follow what changes; Ctrl-C ends\n"
    "  doctor              look for what is wrong, and say what to do\n"
    "\n"
    "options (before or after the command)\n"
    "  -s, --socket PATH   the daemon's socket; default $EBB_SOCKET, else /run/ebb/ebb.sock\n"
    "      --admin PATH    its admin socket, for limit; default admin.sock beside the socket\n"
    "  -j, --json          print the daemon's JSON (events, top: one line an event or a look; "
    "chat:\n"
    "                      with --once)\n"
    "  -v, --verbose, --show-swaps\n"
    "                      chat, complete: show swaps and speed on standard error\n"
    "  -n, --max-tokens N  chat, complete: length of an answer\n"
    "  -t, --temperature T, --top-p P, --top-k K, --seed N\n"
    "                      chat, complete: sampling; temperature 0 is greedy\n"
    "      --system TEXT   chat: the system message\n"
    "      --count N       events, top: end after N events or looks\n"
    "      --interval S    top: seconds between two looks, 0.2 to 60, default 1\n"
    "      --root DIR      doctor: folder that holds proc/ and sys/, default /\n"
    "  -h, --help          this text\n"
    "      --version       the version\n"
    "\n"
    "In a chat on a terminal Ctrl-C stops the answer, Ctrl-D ends the program, and /new forgets\n"
    "the conversation. Without a terminal each line of standard input is a message. `top` uses no\n"
    "colour if NO_COLOR is set, and no screen if TERM is dumb.\n"
    "\n"
    "exit status\n"
    "  0   done               1   doctor found a problem   2   wrong command line\n"
    "  65  request refused    69  no daemon, or it left    70  the daemon failed\n"
    "  75  busy, try later    77  no permission            130 interrupted\n";

enum {
    OPT_ADMIN = 256,
    OPT_ONCE,
    OPT_TOP_P,
    OPT_TOP_K,
    OPT_SEED,
    OPT_SYSTEM,
    OPT_COUNT,
    OPT_INTERVAL,
    OPT_ROOT,
    OPT_VERSION
};

static const struct option options[] = {
    {"socket", required_argument, NULL, 's'},
    {"admin", required_argument, NULL, OPT_ADMIN},
    {"json", no_argument, NULL, 'j'},
    {"verbose", no_argument, NULL, 'v'},
    {"show-swaps", no_argument, NULL, 'v'},
    {"once", required_argument, NULL, OPT_ONCE},
    {"max-tokens", required_argument, NULL, 'n'},
    {"temperature", required_argument, NULL, 't'},
    {"top-p", required_argument, NULL, OPT_TOP_P},
    {"top-k", required_argument, NULL, OPT_TOP_K},
    {"seed", required_argument, NULL, OPT_SEED},
    {"system", required_argument, NULL, OPT_SYSTEM},
    {"count", required_argument, NULL, OPT_COUNT},
    {"interval", required_argument, NULL, OPT_INTERVAL},
    {"root", required_argument, NULL, OPT_ROOT},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

static int usage(const char *why, const char *what) {
    fprintf(stderr, "ebb: %s%s%s\n     `ebb --help` lists commands and options.\n", why,
            what ? ": " : "", what ? what : "");
    return CTL_USAGE;
}

/* A whole number from `min` up; false if `s` is none. */
static bool take_whole(const char *s, int64_t min, int64_t *ret) {
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (errno || end == s || *end || v < min) return false;
    *ret = v;
    return true;
}

static bool take_real(const char *s, double max, double *ret) {
    char *end;
    errno = 0;
    double v = strtod(s, &end);
    if (errno || end == s || *end || !(v >= 0 && v <= max)) return false;
    *ret = v;
    return true;
}

/* Sets one option. False if its value is wrong. */
static bool take_option(struct ctl *c, int opt, const char *arg) {
    int64_t n;
    double x;
    switch (opt) {
    case 's': c->socket_path = arg; return true;
    case OPT_ADMIN: c->admin_path = arg; return true;
    case 'j': c->is_json = true; return true;
    case 'v': c->is_verbose = true; return true;
    case OPT_ONCE: c->once = arg; return true;
    case OPT_SYSTEM: c->system_text = arg; return true;
    case OPT_ROOT: c->root = arg; return true;
    case 't': return take_real(arg, 100, &c->temperature);
    case OPT_TOP_P: return take_real(arg, 1, &c->top_p);
    case OPT_SEED: return take_whole(arg, 0, &c->seed);
    case 'n':
        if (!take_whole(arg, 1, &n)) return false;
        c->max_tokens = (long)n;
        return true;
    case OPT_TOP_K:
        if (!take_whole(arg, 0, &n)) return false;
        c->top_k = (long)n;
        return true;
    case OPT_INTERVAL:
        if (!take_real(arg, 60, &x) || x < 0.2) return false;
        c->interval_ms = (unsigned)(x * 1000 + 0.5);
        return true;
    default: /* OPT_COUNT */
        if (!take_whole(arg, 1, &n)) return false;
        c->n_events = (long)n;
        return true;
    }
}

/* SIGINT becomes readable on a descriptor, so that a wait for the daemon can end without a
 * handler and without a race. */
static int signal_open(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* What a terminal is able to do, by its name: TERM=dumb cannot move its cursor, and those of the
 * vt family (a serial console is a vt220) and names that end in -m have no colours. */
static void look_at_terminal(struct ctl *c) {
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    size_t n = term ? strlen(term) : 0;
    c->has_screen = n > 0 && strcmp(term, "dumb") != 0;
    c->has_colour = c->has_screen && strncmp(term, "vt", 2) != 0 &&
                    !(n > 2 && strcmp(term + n - 2, "-m") == 0) && !(no_colour && no_colour[0]);
}

struct command {
    const char *name;
    int (*run)(const struct ctl *c);
    int min_args, max_args;
    bool takes_signals;
};

static const struct command commands[] = {
    {"status", ctl_status, 0, 0, false},    {"chat", ctl_chat, 0, 0, true},
    {"complete", ctl_complete, 1, 1, true}, {"ladder", ctl_ladder, 0, 0, false},
    {"limit", ctl_limit, 0, 1, false},      {"events", ctl_events, 0, 0, true},
    {"top", ctl_top, 0, 0, false},          {"doctor", ctl_doctor, 0, 0, false},
};

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

/* admin.sock in the folder of the socket. */
static void admin_beside(const char *socket_path, char *ret, size_t n) {
    const char *slash = strrchr(socket_path, '/');
    int n_dir = slash ? (int)(slash - socket_path) + 1 : 0;
    snprintf(ret, n, "%.*sadmin.sock", n_dir, socket_path);
}

int main(int argc, char **argv) {
    struct config defaults;
    char admin[CONFIG_MAX_STR + 16];
    config_defaults(&defaults);
    struct ctl c = {.socket_path = getenv("EBB_SOCKET"),
                    .signal_fd = -1,
                    .temperature = -1,
                    .top_p = -1,
                    .top_k = -1,
                    .seed = -1,
                    .root = "/",
                    .interval_ms = 1000};
    look_at_terminal(&c);
    if (!c.socket_path || !c.socket_path[0]) c.socket_path = defaults.socket_path;

    for (int opt; (opt = getopt_long(argc, argv, "s:jvn:t:h", options, NULL)) != -1;) {
        if (opt == 'h') {
            fputs(help, stdout);
            return CTL_OK;
        }
        if (opt == OPT_VERSION) {
            puts("ebb " EBB_VERSION);
            return CTL_OK;
        }
        if (opt == '?') return usage("the command line is wrong", NULL);
        if (!take_option(&c, opt, optarg)) return usage("this value is out of range", optarg);
    }
    if (optind == argc) return usage("which command?", NULL);
    const struct command *cmd = find_command(argv[optind]);
    if (!cmd) return usage("no such command", argv[optind]);
    int n_args = argc - optind - 1;
    if (n_args < cmd->min_args) return usage("an argument is missing after", cmd->name);
    if (n_args > cmd->max_args)
        return usage("one argument too many", argv[optind + 1 + cmd->max_args]);
    if (n_args > 0) c.text = argv[optind + 1];
    if (c.is_json && cmd->run == ctl_chat && !c.once)
        return usage("chat --json also needs --once TEXT", NULL);
    if (!c.admin_path) {
        admin_beside(c.socket_path, admin, sizeof(admin));
        c.admin_path = admin;
    }
    /* A reader that goes away (ebb events | head) ends us quietly; sockets use MSG_NOSIGNAL. */
    if (cmd->takes_signals) c.signal_fd = signal_open();
    int code = cmd->run(&c);
    if (fflush(stdout) != 0 && code == CTL_OK) {
        fprintf(stderr, "ebb: cannot write the answer: %s\n", strerror(errno));
        code = CTL_SERVER;
    }
    return code;
}
