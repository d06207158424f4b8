/* Merging one word.
 *
 * Symbols form a linked list in an array, so that a merge is O(1). What may merge next is kept in
 * a queue ordered by (rank, position). Candidates of one rank mostly turn up from left to right,
 * so they are chained into runs, and the heap holds one entry per run, its head: a long run of
 * one character, the classic hostile prompt, then needs a heap of a few entries, and the worst
 * case stays O(n log n). Candidates whose pair has changed since are left in the queue and skipped
 * when they come up. */
#include "core/tok_bpe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_PROBES = 4096, /* far beyond chance at this load: only a crafted file gets there */
    N_OPEN = 1024,     /* runs that can still be lengthened, found by rank modulo this */
};

#define NONE UINT32_MAX

struct sym {
    uint32_t id;
    uint32_t prev, next; /* neighbours, or NONE */
    uint32_t rank;       /* of the pair that begins here, or TOK_BPE_NO_RANK */
};

struct node { /* a candidate: the pair at symbol `at`; its rank is that of its run */
    uint32_t at;
    uint32_t next; /* in the run, or in the list of free nodes */
};

struct run {
    uint64_t key;  /* rank << 32 | position of the head */
    uint32_t head; /* node */
};

struct open_run {
    uint32_t word; /* stamp of the word it belongs to: saves clearing the table for each */
    uint32_t rank;
    uint32_t tail; /* node */
};

struct tok_bpe_work {
    struct sym *syms; /* owned */
    size_t cap_syms;
    struct node *nodes; /* owned */
    size_t n_nodes, cap_nodes;
    uint32_t free_node;
    struct run *heap; /* owned; least key first */
    size_t n_heap, cap_heap;
    uint32_t word;
    struct open_run open[N_OPEN];
};

static size_t slot_of(const struct tok_bpe *b, uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9u;
    return (size_t)(h >> 32) & (b->n_slots - 1);
}

int tok_bpe_init(struct tok_bpe *b, uint32_t max_rules) {
    size_t n_slots = 16;
    while (n_slots / 2 < max_rules) n_slots *= 2;
    *b = (struct tok_bpe){.max_rules = max_rules, .n_slots = n_slots};
    b->slots = calloc(n_slots, sizeof(*b->slots));
    b->merged = calloc((size_t)max_rules + 1, sizeof(*b->merged));
    if (!b->slots || !b->merged) {
        tok_bpe_fini(b);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n_slots; i++) b->slots[i].rank = TOK_BPE_NO_RANK;
    return 0;
}

void tok_bpe_fini(struct tok_bpe *b) {
    free(b->slots);
    free(b->merged);
    *b = (struct tok_bpe){0};
}

int tok_bpe_add(struct tok_bpe *b, uint32_t left, uint32_t right, uint32_t merged) {
    ASSERT(b->n_rules < b->max_rules);
    uint32_t rank = b->n_rules;
    size_t at = slot_of(b, left, right);
    for (unsigned probe = 0; probe < MAX_PROBES; probe++, at = (at + 1) & (b->n_slots - 1)) {
        struct tok_bpe_rule *r = &b->slots[at];
        bool is_same = r->rank != TOK_BPE_NO_RANK && r->left == left && r->right == right;
        if (r->rank != TOK_BPE_NO_RANK && !is_same) continue;
        if (!is_same) *r = (struct tok_bpe_rule){.left = left, .right = right, .rank = rank};
        b->merged[rank] = merged;
        b->n_rules++;
        return 0;
    }
    return -EBADMSG;
}

static uint32_t rank_of(const struct tok_bpe *b, uint32_t left, uint32_t right) {
    for (size_t at = slot_of(b, left, right);; at = (at + 1) & (b->n_slots - 1)) {
        const struct tok_bpe_rule *r = &b->slots[at];
        if (r->rank == TOK_BPE_NO_RANK || (r->left == left && r->right == right)) return r->rank;
    }
}

struct tok_bpe_work *tok_bpe_work_create(void) {
    return calloc(1, sizeof(struct tok_bpe_work));
}

void tok_bpe_work_destroy(struct tok_bpe_work *w) {
    if (!w) return;
    free(w->syms);
    free(w->nodes);
    free(w->heap);
    free(w);
}

/* Makes room for one more element of `size` bytes in *v, by doubling. */
static int grow(void **v, size_t *cap, size_t n, size_t size) {
    if (n < *cap) return 0;
    size_t new_cap = *cap ? *cap : 64, bytes;
    while (new_cap <= n)
        if (!size_mul(new_cap, 2, &new_cap)) return -ENOMEM;
    if (!size_mul(new_cap, size, &bytes)) return -ENOMEM;
    void *p = realloc(*v, bytes);
    if (!p) return -ENOMEM;
    *v = p;
    *cap = new_cap;
    return 0;
}

static void heap_up(struct run *h, size_t i) {
    struct run x = h[i];
    for (; i > 0 && x.key < h[(i - 1) / 2].key; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = x;
}

static void heap_down(struct run *h, size_t n) {
    if (n == 0) return;
    struct run x = h[0];
    size_t i = 0;
    for (size_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && h[child + 1].key < h[child].key) child++;
        if (h[child].key >= x.key) break;
        h[i] = h[child];
        i = child;
    }
    h[i] = x;
}

static uint64_t key_of(uint32_t rank, uint32_t at) {
    return (uint64_t)rank << 32 | at;
}

static int take_node(struct tok_bpe_work *w, uint32_t *ret) {
    if (w->free_node != NONE) {
        *ret = w->free_node;
        w->free_node = w->nodes[*ret].next;
        return 0;
    }
    if (w->n_nodes >= NONE) return -E2BIG;
    void *v = w->nodes;
    int r = grow(&v, &w->cap_nodes, w->n_nodes, sizeof(*w->nodes));
    w->nodes = v;
    if (r < 0) return r;
    *ret = (uint32_t)w->n_nodes++;
    return 0;
}

/* Queues the pair at `at`, if a rule joins it. */
static int push(struct tok_bpe_work *w, uint32_t at) {
    uint32_t rank = w->syms[at].rank, node = 0;
    if (rank == TOK_BPE_NO_RANK) return 0;
    int r = take_node(w, &node);
    if (r < 0) return r;
    w->nodes[node] = (struct node){.at = at, .next = NONE};

    struct open_run *o = &w->open[rank % N_OPEN];
    if (o->word == w->word && o->rank == rank && w->nodes[o->tail].at <= at) {
        w->nodes[o->tail].next = node;
        o->tail = node;
        return 0;
    }
    void *v = w->heap;
    r = grow(&v, &w->cap_heap, w->n_heap, sizeof(*w->heap));
    w->heap = v;
    if (r < 0) return r;
    w->heap[w->n_heap] = (struct run){.key = key_of(rank, at), .head = node};
    heap_up(w->heap, w->n_heap++);
    *o = (struct open_run){.word = w->word, .rank = rank, .tail = node};
    return 0;
}

/* Takes the first candidate; the queue must not be empty. */
static void pop(struct tok_bpe_work *w, uint32_t *ret_rank, uint32_t *ret_at) {
    struct run *top = &w->heap[0];
    uint32_t node = top->head, next = w->nodes[node].next;
    *ret_rank = (uint32_t)(top->key >> 32);
    *ret_at = w->nodes[node].at;
    if (next != NONE) {
        *top = (struct run){.key = key_of(*ret_rank, w->nodes[next].at), .head = next};
    } else {
        struct open_run *o = &w->open[*ret_rank % N_OPEN];
        if (o->word == w->word && o->tail == node) o->word = 0; /* nothing left to lengthen */
        *top = w->heap[--w->n_heap];
    }
    heap_down(w->heap, w->n_heap);
    w->nodes[node].next = w->free_node;
    w->free_node = node;
}

static uint32_t pair_rank(const struct tok_bpe *b, const struct tok_bpe_work *w, uint32_t at) {
    uint32_t next = w->syms[at].next;
    return next == NONE ? TOK_BPE_NO_RANK : rank_of(b, w->syms[at].id, w->syms[next].id);
}

static int start(const struct tok_bpe *b, struct tok_bpe_work *w, const uint32_t *ids, size_t n) {
    if (n >= NONE / 4) return -E2BIG;
    void *v = w->syms;
    int r = grow(&v, &w->cap_syms, n, sizeof(*w->syms));
    w->syms = v;
    if (r < 0) return r;

    w->n_nodes = w->n_heap = 0;
    w->free_node = NONE;
    if (++w->word == 0) { /* the stamps have come round */
        memset(w->open, 0, sizeof(w->open));
        w->word = 1;
    }
    for (size_t i = 0; i < n; i++) {
        w->syms[i] = (struct sym){
            .id = ids[i],
            .prev = i > 0 ? (uint32_t)i - 1 : NONE,
            .next = i + 1 < n ? (uint32_t)i + 1 : NONE,
            .rank = i + 1 < n ? rank_of(b, ids[i], ids[i + 1]) : TOK_BPE_NO_RANK,
        };
        r = push(w, (uint32_t)i);
        if (r < 0) return r;
    }
    return 0;
}

/* Joins the symbol `at` with the next one by the rule of this rank. */
static int join(const struct tok_bpe *b, struct tok_bpe_work *w, uint32_t at, uint32_t rank) {
    struct sym *s = &w->syms[at];
    struct sym *right = &w->syms[s->next];
    s->id = b->merged[rank];
    right->rank = TOK_BPE_NO_RANK; /* gone: its candidates no longer match */
    s->next = right->next;
    if (s->next != NONE) w->syms[s->next].prev = at;

    if (s->prev != NONE) {
        w->syms[s->prev].rank = pair_rank(b, w, s->prev);
        int r = push(w, s->prev);
        if (r < 0) return r;
    }
    s->rank = pair_rank(b, w, at);
    return push(w, at);
}

int tok_bpe_merge(const struct tok_bpe *b, struct tok_bpe_work *w, uint32_t *ids, size_t *n) {
    if (*n < 2 || b->n_rules == 0) return 0;
    int r = start(b, w, ids, *n);
    while (r == 0 && w->n_heap > 0) {
        uint32_t rank, at;
        pop(w, &rank, &at);
        if (w->syms[at].rank == rank) r = join(b, w, at, rank);
    }
    if (r < 0) return r;

    size_t n_left = 0; /* the first symbol is never joined to one before it: it heads the list */
    for (uint32_t at = 0; at != NONE; at = w->syms[at].next) ids[n_left++] = w->syms[at].id;
    *n = n_left;
    return 0;
}
