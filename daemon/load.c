/* From a pack's path to an engine with its weights: what can be checked at once in load_open(), the
 * extents then in the background, so that the daemon answers /health and signals meanwhile. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/cpu.h"
#include "core/engine.h"
#include "core/gguf.h"
#include "core/ladder.h"
#include "core/mem.h"
#include "core/pool.h"
#include "core/prefix.h"
#include "core/session.h"
#include "core/slab.h"
#include "core/store.h"
#include "daemon/log.h"
#include "daemon/server_internal.h"

/* Some tens of milliseconds of a disk, and little to have brought for nothing. */
enum { ANNOUNCE_BYTES = 16 << 20 };

/* Words for the message when the ladder of the configuration does not exist. */
static void list_ladders(const struct pack *p, char *ret, size_t cap) {
    size_t k = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < pack_n_ladders(p) && k < cap; i++) {
        int n = snprintf(ret + k, cap - k, "%s%s", i ? ", " : "",
                         ladder_name(pack_ladder_at(p, i)));
        if (n > 0) k += (size_t)n;
    }
}

/* With paging switched off the ladder ends where it would begin. */
static int cut_ladder(struct server *s, struct err *e) {
    struct server_model *m = &s->model;
    uint32_t n = 0, all = ladder_n_steps(m->ladder);
    if (s->config.paging_is_enabled) return 0;
    while (n < all && ladder_step_at(m->ladder, n)->to != RUNG_PAGED) n++;
    if (n == all) return 0;
    struct ladder_step *steps = calloc((size_t)n + 1, sizeof(*steps));
    if (!steps) return err_set(e, -ENOMEM, "no memory to start");
    for (uint32_t i = 0; i < n; i++) steps[i] = *ladder_step_at(m->ladder, i);
    int r = ladder_create(ladder_name(m->ladder), m->n_units, ladder_bytes(m->ladder, 0), steps, n,
                          &m->cut, e);
    if (r == 0) m->ladder = m->cut;
    free(steps);
    return r;
}

static uint64_t part_slack(const struct server_model *m, enum pack_part part, uint32_t unit) {
    const struct pack_extent *x = pack_find(m->pack, part, unit);
    return x ? mem_slack(m->mem, x->bytes) : 0;
}

/* Of a unit's slabs: both planes, or the third form. */
static uint64_t unit_slack(const struct server_model *m, uint32_t unit) {
    uint64_t planes = part_slack(m, PACK_HIGH, unit) + part_slack(m, PACK_LOW, unit);
    return MAX(planes, part_slack(m, PACK_SWSC, unit));
}

static int open_pack(struct server *s, struct err *e) {
    struct server_model *m = &s->model;
    struct stat st;
    uint64_t hash = 0;
    char names[160];
    int r = pack_open(s->config.model_path, &m->pack, e);
    if (r < 0) return r;
    m->h = pack_hparams(m->pack);
    m->n_units = model_n_units(m->h);
    snprintf(m->name, sizeof(m->name), "%s", pack_model_name(m->pack));
    if (stat(s->config.model_path, &st) == 0) m->created = st.st_mtime;
    r = gguf_get_u64(pack_gguf(m->pack), "ebb.header.xxh3", &hash, e);
    if (r < 0) return r;
    snprintf(m->hash, sizeof(m->hash), "%08" PRIx32, (uint32_t)(hash >> 32));

    m->ladder = pack_ladder(m->pack, s->config.precision_ladder);
    if (!m->ladder) {
        list_ladders(m->pack, names, sizeof(names));
        return err_set(e, -ENOENT, "the pack has no ladder '%s' (precision.ladder); it has: %s",
                       s->config.precision_ladder, names);
    }
    r = cut_ladder(s, e);
    if (r < 0) return r;
    for (uint32_t u = 0; u < m->n_units; u++) {
        bool is_head = u + 1 == m->n_units;
        for (unsigned mat = is_head ? MODEL_HEAD : MODEL_Q;
             mat < (is_head ? MODEL_MAT_COUNT : MODEL_LAYER_MATS); mat++) {
            uint32_t n_out, n_in;
            model_mat_shape(m->h, (enum model_mat)mat, &n_out, &n_in);
            m->n_weights += (uint64_t)n_out * n_in;
        }
    }
    for (uint32_t u = 0; u < m->n_units; u++) m->slack_bytes += unit_slack(m, u);
    m->n_ctx = MIN(s->config.serve_ctx, m->h->n_ctx_train);
    return 0;
}

/* The disk need not rest while the tokenizer is built: what is read first whatever the position,
 * but where memory is too short for it. */
static void announce_first(const struct server_model *m) {
    uint64_t n_bytes = 0;
    for (uint32_t u = 0; u < m->n_units; u++) {
        const struct pack_extent *x = pack_find(m->pack, PACK_HIGH, u);
        if (!x || n_bytes + x->bytes > ANNOUNCE_BYTES) return;
        pack_announce(m->pack, x);
        n_bytes += x->bytes;
    }
}

static int open_text(struct server *s, struct err *e) {
    struct server_model *m = &s->model;
    int r = tok_create(pack_gguf(m->pack), &m->tok, e);
    if (r < 0) {
        err_prefix(e, "%s", s->config.model_path);
        return r;
    }
    if (tok_n_vocab(m->tok) > m->h->n_vocab)
        return err_set(e, -EBADMSG, "the tokenizer knows %u tokens, the model only %u",
                       tok_n_vocab(m->tok), m->h->n_vocab);
    struct err chat_e = {0};
    r = chat_detect(pack_gguf(m->pack), m->tok, &m->chat, &chat_e);
    m->has_chat = r == 0;
    if (r == -EBADMSG) {
        *e = chat_e;
        return r;
    }
    if (r < 0) {
        /* The model still completes text. */
        snprintf(m->chat_missing, sizeof(m->chat_missing),
                 "This model has no chat format that we know: %s. Use /v1/completions.",
                 chat_e.msg);
        log_event(s->log, LOG_WARN, "no chat: %s", chat_e.msg);
    }
    return 0;
}

static int open_engine(struct server *s, const char *cpu, struct err *e) {
    struct server_model *m = &s->model;
    const struct pack_extent *core = pack_find(m->pack, PACK_CORE, 0);
    const struct pack_extent *books = pack_find(m->pack, PACK_BOOKS, 0);
    if (!core) return err_set(e, -EBADMSG, "the pack has no core extent");
    int r = slab_load(m->mem, m->pack, core, &m->core, e);
    if (r == 0 && books) r = slab_load(m->mem, m->pack, books, &m->books, e);
    if (r == 0) r = cpu_ops_create(cpu, &m->ops, e);
    if (r == 0) r = pool_create_below(s->config.sense_root, s->config.serve_threads, &m->pool, e);
    if (r < 0) return r;
    r = paging_create(s, e);
    if (r < 0) return r;
    struct engine_opts eo = {
        .pages = m->pages,
        .max_rows = MAX(s->config.serve_prompt_chunk, s->config.serve_slots),
        .max_ctx = m->n_ctx,
    };
    r = engine_create(m->mem, m->pool, m->ops, m->pack, m->core->data, &eo, &m->engine, e);
    if (r == 0)
        r = batch_create(m->engine, m->tok, s->config.serve_slots, s->config.serve_prompt_chunk,
                         &m->batch, e);
    if (r == 0) r = store_create(m->h, &m->store, e);
    m->kv_type = s->config.kv_type == CONFIG_KV_F16 ? KV_F16 : KV_Q8;
    if (r == 0 && (r = prefix_create(&m->prefix)) < 0) err_set(e, r, "no memory to start");
    if (r == 0) prefix_set_limit(m->prefix, s->config.kv_prefix_bytes);
    if (r == 0 && pack_has_swsc(m->pack)) store_set_swsc(m->store, pack_swsc(m->pack), m->books);
    return r;
}

/* Where on the ladder the memory of this moment allows to start. */
static int choose_position(struct server *s, uint32_t *ret, struct err *e) {
    struct server_model *m = &s->model;
    govern_await_share(s);
    govern_sense(s);
    govern_step(s, /* is_fresh= */ true, server_now_us());
    uint64_t least = ladder_bytes(m->ladder, ladder_n_steps(m->ladder));
    if (s->swap.out.is_over && s->swap.reading.has_mem)
        return err_set(e, -ENOSPC,
                       "the smallest form of the weights needs %" PRIu64 " MiB beside %" PRIu64
                       " MiB of scratch, and the budget is %" PRIu64
                       " MiB (memory.limit, memory.reserve, MemAvailable)",
                       least >> 20, govern_other_bytes(s) >> 20, s->swap.out.budget_bytes >> 20);
    *ret = s->swap.out.position;
    return 0;
}

int load_open(struct server *s, const char *cpu, enum server_fail *ret_fail, struct err *e) {
    int r = mem_create(&s->model.mem);
    *ret_fail = SERVER_FAIL_MEMORY;
    if (r < 0) return err_set(e, r, "no memory to start");
    *ret_fail = SERVER_FAIL_PACK;
    r = open_pack(s, e);
    if (r == -ENOENT || r == -EACCES || r == -EISDIR) *ret_fail = SERVER_FAIL_NO_PACK;
    if (r < 0 && s->model.pack && !s->model.ladder) *ret_fail = SERVER_FAIL_CONFIG;
    if (r == 0) announce_first(&s->model);
    if (r == 0) r = open_text(s, e);
    if (r == 0) {
        r = open_engine(s, cpu, e);
        if (r == -EINVAL || r == -ENOTSUP) *ret_fail = SERVER_FAIL_CONFIG;
    }
    /* Whatever it was for: the pack is good, and another start may succeed. -EAGAIN: a thread. */
    if (r == -ENOMEM || r == -EAGAIN) *ret_fail = SERVER_FAIL_MEMORY;
    if (r == 0) {
        *ret_fail = SERVER_FAIL_MEMORY;
        r = choose_position(s, &s->loading.position, e);
    }
    if (r == 0) r = swap_create(s, s->loading.position, e);
    return r;
}

/* ---- the extents ---- */

static void next_reads(struct server *s);

static void on_read(void *ud, const struct pack_extent *x, struct slab *slab, const struct err *e) {
    struct server *s = ud;
    struct err add_e = {0};
    s->loading.n_reading--;
    s->loading.n_read++;
    if (server_state(s) != SERVER_LOADING) {
        slab_destroy(slab);
        server_check_ended(s);
        return;
    }
    if (!slab) {
        log_event(s->log, LOG_ERROR, "%s: %s", s->config.model_path, e->msg);
        server_give_up(s, e->code == -ENOMEM ? SERVER_FAIL_MEMORY : SERVER_FAIL_PACK);
        return;
    }
    if (store_add(s->model.store, slab, &add_e) < 0) {
        log_event(s->log, LOG_ERROR, "%s: %s: %s", s->config.model_path, x->name, add_e.msg);
        slab_destroy(slab);
        server_give_up(s, SERVER_FAIL_PACK);
        return;
    }
    next_reads(s);
}

static bool wants(const struct server *s, uint32_t unit) {
    enum rung r = ladder_rung(s->model.ladder, s->loading.position, unit);
    return pager_rung_parts(r) >> s->loading.part & 1;
}

/* High planes first: a unit's low plane has its place beside one. */
static void next_reads(struct server *s) {
    struct server_loading *l = &s->loading;
    const struct server_model *m = &s->model;
    struct iowork *w; /* what is being loaded is never cancelled */
    while (l->n_reading < IOWORK_FIRST_READS && l->unit < m->n_units) {
        uint32_t unit = l->unit++;
        if (!wants(s, unit)) continue;
        const struct pack_extent *x = pack_find(m->pack, swap_pack_part(l->part), unit);
        int r = x ? iowork_read(&s->loop, m->mem, m->reader, x, on_read, s, &w) : -EBADMSG;
        if (r < 0) {
            log_event(s->log, LOG_ERROR, "%s: unit %u cannot be read: %s", s->config.model_path,
                      unit, x ? uv_strerror(r) : "it has no extent");
            server_give_up(s, x ? SERVER_FAIL_MEMORY : SERVER_FAIL_PACK);
            return;
        }
        l->n_reading++;
    }
    if (l->n_reading > 0) return;
    if (++l->part < PAGER_PARTS) {
        l->unit = 0;
        next_reads(s);
        return;
    }
    store_publish(m->store, l->position);
    paging_published(s);
    server_ready(s);
}

void load_begin(struct server *s) {
    s->loading.started_us = server_now_us();
    next_reads(s);
}

bool load_has_moved(struct server *s) {
    bool r = s->loading.n_read != s->loading.n_seen;
    s->loading.n_seen = s->loading.n_read;
    return r;
}

void load_close(struct server *s) {
    struct server_model *m = &s->model;
    swap_destroy(s);
    batch_destroy(m->batch);
    prefix_destroy(m->prefix);
    engine_destroy(m->engine);
    paging_destroy(s);
    store_destroy(m->store);
    pool_destroy(m->pool);
    cpu_ops_destroy(m->ops);
    slab_destroy(m->books);
    slab_destroy(m->core);
    tok_destroy(m->tok);
    ladder_destroy(m->cut);
    pack_close(m->pack);
    mem_destroy(m->mem);
    *m = (struct server_model){0};
}
