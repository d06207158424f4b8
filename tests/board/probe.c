/* probe trial CGROUP PID SECONDS EVERY_MS COMMAND...   a limit is lowered, and what follows is
 * timed probe control CGROUP MIB                             gives way as fast as anything can
 * probe noise PER_SECOND                               a neighbour that forks
 * probe hog MIB SECONDS                                takes memory, 32 MiB at a time, and holds it
 *
 * Runs in the guest, linked statically. While a trial runs the probe opens, allocates and prints
 * nothing, so that it sees the kernel's numbers whatever the cgroup beside it goes through.
 * COMMAND is what lowers the limit; the time starts when the probe sees memory.high of CGROUP
 * change.
 *
 * A trial's result is one JSON object on one line. Times are in milliseconds, sizes in bytes. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SAMPLES = 40000, PIECE = 1 << 20, MAX_PIECES = 4096, NOTICE = 256 << 10 };

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void sleep_us(uint64_t us) {
    struct timespec t = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static void die(const char *what) {
    fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_in(const char *folder, const char *name, int flags) {
    char path[600];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) die(path);
    return fd;
}

/* The file's text from its beginning; "" if it cannot be read, as when its process has ended. */
static void read_text(int fd, char *buf, size_t size) {
    ssize_t n = pread(fd, buf, size - 1, 0);
    buf[n > 0 ? n : 0] = '\0';
}

/* A number, or UINT64_MAX for "max" and for what cannot be read. */
static uint64_t read_number(int fd) {
    char buf[64];
    read_text(fd, buf, sizeof(buf));
    return buf[0] < '0' || buf[0] > '9' ? UINT64_MAX : strtoull(buf, NULL, 10);
}

/* The number that follows `key` in the n-th line that has it (from 0); 0 if there is none. */
static uint64_t read_key(int fd, const char *key, int n) {
    char buf[1024];
    read_text(fd, buf, sizeof(buf));
    const char *p = buf;
    for (int i = 0; (p = strstr(p, key)) != NULL; i++) {
        p += strlen(key);
        if (i == n) return strtoull(p, NULL, 10);
    }
    return 0;
}

struct watched {
    int current, high, events, pressure, statm, stat;
};

/* What a process holds of its own: resident without what is shared. */
static uint64_t read_own(int statm) {
    char buf[128];
    read_text(statm, buf, sizeof(buf));
    char *p = buf;
    (void)strtoull(p, &p, 10);
    uint64_t resident = strtoull(p, &p, 10), shared = strtoull(p, &p, 10);
    return (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Time on a CPU, in ticks of 10 ms. */
static uint64_t read_ticks(int stat) {
    char buf[512];
    read_text(stat, buf, sizeof(buf));
    char *p = strrchr(buf, ')');
    if (p == NULL) return 0;
    for (int i = 0; i < 12 && p != NULL; i++) p = strchr(p + 1, ' ');
    if (p == NULL) return 0;
    uint64_t user = strtoull(p, &p, 10);
    return user + strtoull(p, NULL, 10);
}

struct counts {
    uint64_t high, max, oom_kill, some_us, full_us, ticks;
};

static struct counts take_counts(const struct watched *w) {
    return (struct counts){
        .high = read_key(w->events, "\nhigh ", 0),
        .max = read_key(w->events, "\nmax ", 0),
        .oom_kill = read_key(w->events, "oom_kill ", 0),
        .some_us = read_key(w->pressure, "total=", 0),
        .full_us = read_key(w->pressure, "total=", 1),
        .ticks = read_ticks(w->stat),
    };
}

struct sample {
    uint64_t t, current, own;
};

struct trial {
    struct watched w;
    struct sample *samples;
    size_t n;
    uint64_t start, limit;      /* when the limit changed, and to what */
    uint64_t first, below;      /* after `start`; UINT64_MAX if it never came */
    uint64_t gap, current, own; /* before it */
};

static void start_trial(struct trial *t, const char *cgroup, const char *pid) {
    char proc[64];
    snprintf(proc, sizeof(proc), "/proc/%s", pid);
    t->w = (struct watched){
        .current = open_in(cgroup, "memory.current", O_RDONLY),
        .high = open_in(cgroup, "memory.high", O_RDONLY),
        .events = open_in(cgroup, "memory.events", O_RDONLY),
        .pressure = open_in(cgroup, "memory.pressure", O_RDONLY),
        .statm = open_in(proc, "statm", O_RDONLY),
        .stat = open_in(proc, "stat", O_RDONLY),
    };
    t->samples = calloc(MAX_SAMPLES, sizeof(*t->samples));
    if (t->samples == NULL) die("calloc");
    t->first = t->below = UINT64_MAX;
    t->current = read_number(t->w.current);
    t->own = read_own(t->w.statm);
    if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0) die("mlockall");
}

static pid_t spawn(char **command) {
    pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid > 0) return pid;
    execvp(command[0], command);
    _exit(127);
}

static void take_sample(struct trial *t, uint64_t before) {
    uint64_t at = now_us();
    if (t->start == 0) {
        uint64_t high = read_number(t->w.high);
        if (high != before) {
            t->start = at;
            t->limit = high;
        }
    }
    struct sample *s = &t->samples[t->n];
    *s = (struct sample){at, read_number(t->w.current), read_own(t->w.statm)};
    if (t->n > 0 && at - s[-1].t > t->gap) t->gap = at - s[-1].t;
    t->n++;
    if (t->start == 0) return;
    if (t->first == UINT64_MAX && s->own + NOTICE < t->own) t->first = at - t->start;
    if (t->below == UINT64_MAX && s->current <= t->limit) t->below = at - t->start;
}

/* Until the limit has been reached for a second, or the time is over. */
static void sample(struct trial *t, uint64_t before, uint64_t seconds, uint64_t every_us) {
    uint64_t end = now_us() + seconds * 1000000;
    while (t->n < MAX_SAMPLES && now_us() < end) {
        take_sample(t, before);
        if (t->below != UINT64_MAX && now_us() > t->start + t->below + 1000000) break;
        sleep_us(every_us);
    }
}

static void print_time(const char *name, uint64_t us) {
    if (us == UINT64_MAX)
        printf("\"%s\": null, ", name);
    else
        printf("\"%s\": %.1f, ", name, (double)us / 1000);
}

/* Where what the process holds moved by more than 2 MiB. */
static void print_series(const struct trial *t) {
    uint64_t last = UINT64_MAX / 2;
    const char *comma = "";
    printf("\"series\": [");
    for (size_t i = 0; i < t->n; i++) {
        const struct sample *s = &t->samples[i];
        uint64_t moved = s->current > last ? s->current - last : last - s->current;
        if (moved < 2 << 20 || s->t < t->start) continue;
        printf("%s[%.0f, %.1f, %.1f]", comma, (double)(s->t - t->start) / 1000,
               (double)s->current / PIECE, (double)s->own / PIECE);
        last = s->current;
        comma = ", ";
    }
    printf("]");
}

static void print_trial(const struct trial *t, const struct counts *a, const struct counts *b) {
    const struct sample *last = &t->samples[t->n - 1];
    printf("{\"held\": %" PRIu64 ", \"own\": %" PRIu64 ", \"limit\": %" PRIu64 ", ", t->current,
           t->own, t->limit);
    print_time("first_ms", t->first);
    print_time("below_ms", t->below);
    print_time("gap_ms", t->gap);
    print_time("start_ms", t->start);
    print_time("some_ms", b->some_us - a->some_us);
    print_time("full_ms", b->full_us - a->full_us);
    print_time("cpu_ms", (b->ticks - a->ticks) * 10000);
    printf("\"high\": %" PRIu64 ", \"max\": %" PRIu64 ", \"oom_kill\": %" PRIu64 ", ",
           b->high - a->high, b->max - a->max, b->oom_kill - a->oom_kill);
    printf("\"end\": %" PRIu64 ", \"own_end\": %" PRIu64 ", ", last->current, last->own);
    print_series(t);
    printf("}\n");
}

static int run_trial(char **argv) {
    struct trial t = {0};
    start_trial(&t, argv[0], argv[1]);
    uint64_t before = read_number(t.w.high);
    struct counts a = take_counts(&t.w);
    pid_t child = spawn(argv + 4);
    sample(&t, before, strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10) * 1000);
    struct counts b = take_counts(&t.w);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    print_trial(&t, &a, &b);
    return t.start != 0 ? 0 : 1;
}

static void join(const char *cgroup) {
    int fd = open_in(cgroup, "cgroup.procs", O_WRONLY);
    if (write(fd, "0", 1) != 1) die("cgroup.procs");
    close(fd);
}

/* Gives back one piece after the other while the limit is exceeded; takes all again without one. */
static _Noreturn void run_control(char **argv) {
    join(argv[0]);
    int current = open_in(argv[0], "memory.current", O_RDONLY);
    int high = open_in(argv[0], "memory.high", O_RDONLY);
    size_t n = strtoull(argv[1], NULL, 10), n_given = 0;
    if (n > MAX_PIECES) n = MAX_PIECES;
    char *pieces = mmap(NULL, n * PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                        0);
    if (pieces == MAP_FAILED) die("mmap");
    memset(pieces, 1, n * PIECE);
    for (;;) {
        uint64_t limit = read_number(high);
        for (; n_given < n && read_number(current) > limit; n_given++)
            madvise(pieces + n_given * PIECE, PIECE, MADV_DONTNEED);
        if (limit == UINT64_MAX && n_given > 0) {
            memset(pieces, 1, n_given * PIECE);
            n_given = 0;
        }
        sleep_us(20000);
    }
}

static _Noreturn void run_noise(char **argv) {
    char *command[] = {"/proc/self/exe", "nothing", NULL};
    uint64_t rate = strtoull(argv[0], NULL, 10);
    if (rate == 0) die("noise");
    for (uint64_t next = now_us();; next += 1000000 / rate) {
        waitpid(spawn(command), NULL, 0);
        uint64_t t = now_us();
        if (t < next) sleep_us(next - t);
    }
}

static int run_hog(char **argv) {
    size_t n = strtoull(argv[0], NULL, 10) / 32;
    for (size_t i = 0; i < n; i++) {
        void *p = mmap(NULL, 32 << 20, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (p == MAP_FAILED) die("mmap");
        sleep_us(20000);
    }
    sleep_us(strtoull(argv[1], NULL, 10) * 1000000);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "nothing") == 0) return 0;
    if (argc >= 7 && strcmp(argv[1], "trial") == 0) return run_trial(argv + 2);
    if (argc == 4 && strcmp(argv[1], "control") == 0) run_control(argv + 2);
    if (argc == 3 && strcmp(argv[1], "noise") == 0) run_noise(argv + 2);
    if (argc == 4 && strcmp(argv[1], "hog") == 0) return run_hog(argv + 2);
    fprintf(stderr, "usage: see probe.c\n");
    return 2;
}
