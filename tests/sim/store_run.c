/* One store in the simulated world: see store_run.h. */
#include "tests/sim/store_run.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/engine_fsck.h"

enum { LATENCY_NS = 100000 };

/* ---- Transactions ---- */

static const struct plan *plan_of(const struct run *r, uint64_t number)
{
    return r->plans[number - r->base_number - 1];
}

/* What must always be possible. */
static bool frees(const struct model_step *s)
{
    return s->code == STEP_REMOVE || s->code == STEP_TRUNCATE || s->code == STEP_OMAP_REMOVE ||
           s->code == STEP_ATTR_REMOVE || s->code == STEP_PG_REMOVE;
}

static void plan_done(struct store_txn *txn, int error)
{
    struct plan *p = container_of(txn, struct plan, store_txn);
    struct run *r = p->run;
    r->in_flight--;
    if (error == 0) {
        p->state = PLAN_DONE;
        if (p->txn.number < r->acknowledged || r->store_failed) {
            fprintf(stderr, "transaction %llu acknowledged after %s\n",
                    (unsigned long long)p->txn.number,
                    r->store_failed ? "the store failed" : "a later one");
            r->wrong = true;
        }
        r->acknowledged = p->txn.number;
    } else if (r->store_failed) {
        p->state = PLAN_LOST;
    } else if (r->may_refuse) {
        p->state = PLAN_REFUSED;
        r->totals->refused++;
        if (error == -ENOSPC && p->txn.n_steps == 1 && frees(&p->txn.steps[0])) {
            fprintf(stderr, "a full store refuses to remove\n");
            r->wrong = true;
        }
    } else {
        fprintf(stderr, "transaction %llu failed: %s\n", (unsigned long long)p->txn.number,
                error_text(error));
        r->wrong = true;
    }
}

static void submit_plan(struct run *r, struct plan *p)
{
    p->run = r;
    p->reads_fail = r->faults.fail_reads > 0 || r->rotten;
    p->txn.number = r->next++;
    txn_init(&p->store_txn);
    p->store_txn.done = plan_done;
    p->store_txn.uses_reserve = p->txn.uses_reserve;
    model_encode(&r->shape, &p->txn, &p->store_txn);
    if (r->n_plans == r->plan_capacity) {
        r->plan_capacity = r->plan_capacity ? 2 * r->plan_capacity : 256;
        r->plans = realloc(r->plans, r->plan_capacity * sizeof(struct plan *));
        assert(r->plans);
    }
    r->plans[r->n_plans++] = p;
    r->in_flight++;
    r->totals->transactions++;
    store_submit(r->store, &p->store_txn);
}

void run_submit(struct run *r)
{
    struct plan *p = calloc(1, sizeof *p);
    assert(p);
    /*
     * One half of the objects is written during every checkpoint, and before every second one; the
     * other half before the rest. So there are objects that a checkpoint saved and that were then
     * left alone until the next one runs.
     */
    const struct engine *e = engine_of(r->store);
    r->shape.hot = e->checkpoint.step != CHECKPOINT_NONE || e->counters.checkpoints % 2 == 0;
    model_choose(&r->shape, &r->random, &p->txn);
    submit_plan(r, p);
}

void run_submit_txn(struct run *r, const struct model_txn *txn)
{
    struct plan *p = calloc(1, sizeof *p);
    assert(p);
    p->txn = *txn;
    submit_plan(r, p);
}

static void drop_plans(struct run *r)
{
    for (uint32_t i = 0; i < r->n_plans; i++) {
        txn_fini(&r->plans[i]->store_txn);
        free(r->plans[i]);
    }
    r->n_plans = 0;
    r->in_flight = 0;
}

bool run_wait(struct run *r, const bool *flag)
{
    uint64_t deadline = sim_now(r->sim) + 600 * SEC_NS;
    while (!*flag && sim_now(r->sim) < deadline)
        sim_step(r->sim, deadline);
    return *flag;
}

bool run_settle(struct run *r)
{
    uint64_t deadline = sim_now(r->sim) + 600 * SEC_NS;
    while (r->in_flight > 0) {
        if (!sim_step(r->sim, deadline)) {
            fprintf(stderr, "the store hangs with %u transactions under way\n", r->in_flight);
            return false;
        }
    }
    return !r->wrong;
}

bool run_to_checkpoint(struct run *r, uint64_t until_number)
{
    const struct engine *e = engine_of(r->store);
    uint64_t before = e->counters.checkpoints;
    uint64_t deadline = sim_now(r->sim) + 3600 * SEC_NS;
    while (r->next <= until_number && e->counters.checkpoints == before && !r->wrong &&
           !r->store_failed) {
        while (r->in_flight < r->in_flight_max && !r->store_failed)
            run_submit(r);
        if (!sim_step(r->sim, deadline)) {
            fprintf(stderr, "the store hangs with %u transactions under way\n", r->in_flight);
            return false;
        }
    }
    return !r->wrong;
}

void run_rest(struct run *r, uint64_t ns)
{
    uint64_t until = sim_now(r->sim) + ns;
    while (sim_step(r->sim, until))
        ;
}

/*
 * What is read while it changes has some content or other; that it can be read is what counts: the
 * checksum says that it is right.
 */
static void side_read_done(struct store_read *read)
{
    struct side_read *s = container_of(read, struct side_read, read);
    struct run *r = s->run;
    s->busy = false;
    if (read->error && read->error != -ENOENT && !r->unreadable && !r->store_failed && !r->closed) {
        fprintf(stderr, "a read fails beside writes: %s\n", error_text(read->error));
        r->wrong = true;
    }
    buf_slice_drop(&read->data);
    encoder_fini(&read->attrs);
    encoder_fini(&read->extents);
}

static void read_beside(struct run *r)
{
    struct side_read *s = &r->side_reads[random_below(&r->random, SIDE_READS)];
    if (s->busy)
        return;
    uint32_t n = (uint32_t)random_below(&r->random, r->shape.objects);
    *s = (struct side_read){.run = r,
                            .busy = true,
                            .read = {.object = model_object_id(&r->shape, n),
                                     .offset = random_below(&r->random, r->shape.object_bytes),
                                     .len = 1 + random_below(&r->random, 100000),
                                     .may_be_remembered = random_below(&r->random, 2) == 0,
                                     .done = side_read_done}};
    r->totals->reads++;
    store_read(r->store, &s->read);
}

bool run_work(struct run *r, uint64_t until_number)
{
    uint64_t deadline = sim_now(r->sim) + 3600 * SEC_NS;
    while (r->next <= until_number && !r->wrong && !r->store_failed) {
        while (r->in_flight < r->in_flight_max && r->next <= until_number && !r->store_failed)
            run_submit(r);
        if (random_below(&r->random, 4) == 0 && !r->store_failed)
            read_beside(r);
        if (r->rests && random_below(&r->random, 200) == 0) {
            run_rest(r, random_below(&r->random, 600) * MSEC_NS);
            continue;
        }
        if (!sim_step(r->sim, deadline)) {
            fprintf(stderr, "the store hangs with %u transactions under way\n", r->in_flight);
            return false;
        }
    }
    if (r->store_failed || random_below(&r->random, 4) == 0)
        return run_settle(r); /* Every request must end, in a store that has failed too. */
    for (uint64_t n = random_below(&r->random, 200); n > 0; n--)
        sim_step(r->sim, deadline);
    return !r->wrong;
}

/* ---- Reading ---- */

struct object_read {
    struct store_read read;
    bool done;
};

static void object_read_done(struct store_read *read)
{
    container_of(read, struct object_read, read)->done = true;
}

static bool attrs_equal(const struct model_object *o, const struct encoder *attrs)
{
    struct decoder d;
    uint8_t want[20000];
    decoder_init(&d, attrs->data, attrs->len);
    for (uint32_t i = 0; i < MODEL_ATTRS; i++) {
        uint16_t name_len;
        uint32_t len;
        if (!o->attrs[i].set)
            continue;
        const uint8_t *name = decode_string16(&d, &name_len);
        const void *value = decode_string32(&d, &len);
        model_fill(o->attrs[i].fill, want, o->attrs[i].len);
        if (!name || !value || name_len != 1 || name[0] != 'a' + i || len != o->attrs[i].len ||
            memcmp(value, want, len) != 0)
            return false;
    }
    return decoder_end(&d) == 0;
}

static bool content_equal(const struct model_object *o, const struct store_read *read)
{
    uint64_t info = 0;
    memcpy(&info, read->stat.info, sizeof info);
    return read->error == 0 && o->exists && read->stat.size == o->size &&
           read->data.len == o->size && info == o->info && attrs_equal(o, &read->attrs) &&
           (o->size == 0 || memcmp(read->data.data, o->data, o->size) == 0);
}

static void tell_difference(const struct model_object *o, const struct store_read *read, uint32_t n)
{
    uint64_t at = 0;
    while (read->error == 0 && at < o->size && at < read->data.len &&
           read->data.data[at] == o->data[at])
        at++;
    fprintf(stderr,
            "object %u differs: error %s, size %llu; the model: %s, size %llu; equal to byte "
            "%llu\n",
            n, error_text(read->error), (unsigned long long)read->stat.size,
            o->exists ? "exists" : "does not", (unsigned long long)o->size, (unsigned long long)at);
}

static enum verdict object_verdict(struct run *r, const struct model_object *o, uint32_t n,
                                   bool quiet)
{
    struct object_read c = {.read = {.object = model_object_id(&r->shape, n),
                                     .len = r->shape.object_bytes,
                                     .want_attrs = true,
                                     .may_be_remembered = n % 2 == 0,
                                     .done = object_read_done}};
    store_read(r->store, &c.read);
    if (!run_wait(r, &c.done)) {
        fprintf(stderr, "object %u: the read never ends\n", n);
        return DIFFERENT;
    }
    enum verdict verdict = DIFFERENT;
    if (c.read.error == -EIO)
        verdict = UNREADABLE;
    else if (c.read.error == -ENOENT ? !o->exists : content_equal(o, &c.read))
        verdict = EQUAL;
    if (verdict == DIFFERENT && !quiet)
        tell_difference(o, &c.read, n);
    buf_slice_drop(&c.read.data);
    encoder_fini(&c.read.attrs);
    return verdict;
}

/* Each block of a damaged object is what it should be, or cannot be read. */
static bool blocks_right(struct run *r, const struct model_object *o, uint32_t n)
{
    bool right = true;
    for (uint64_t at = 0; right && at < o->size; at += BLOCK_BYTES) {
        struct object_read c = {.read = {.object = model_object_id(&r->shape, n),
                                         .offset = at,
                                         .len = BLOCK_BYTES,
                                         .may_be_remembered = n % 2 == 0,
                                         .done = object_read_done}};
        store_read(r->store, &c.read);
        uint64_t len = o->size - at < BLOCK_BYTES ? o->size - at : BLOCK_BYTES;
        right = run_wait(r, &c.done) &&
                (c.read.error == -EIO ||
                 (c.read.error == 0 && c.read.data.len == len && c.read.stat.size == o->size &&
                  memcmp(c.read.data.data, o->data + at, len) == 0));
        if (!right)
            fprintf(stderr, "object %u, which is damaged, differs at byte %llu (%s)\n", n,
                    (unsigned long long)at, error_text(c.read.error));
        buf_slice_drop(&c.read.data);
        encoder_fini(&c.read.attrs);
    }
    return right;
}

struct omap_read {
    struct store_omap_read read;
    bool done;
};

static void omap_read_done(struct store_omap_read *read)
{
    container_of(read, struct omap_read, read)->done = true;
}

/* Compares pairs "key-NNNNNN" -> u64 with an array in which 0 stands for none. */
static bool pairs_equal(const struct encoder *pairs, const uint64_t *want, uint32_t n)
{
    struct decoder d;
    decoder_init(&d, pairs->data, pairs->len);
    for (uint32_t i = 0; i < n; i++) {
        char key[MODEL_KEY_BYTES];
        uint16_t key_len;
        uint32_t len;
        if (want[i] == 0)
            continue;
        const void *name = decode_string16(&d, &key_len);
        const void *value = decode_string32(&d, &len);
        if (!name || !value || key_len != model_key(i, key) || memcmp(name, key, key_len) != 0 ||
            len != sizeof want[i] || memcmp(value, &want[i], len) != 0)
            return false;
    }
    return decoder_end(&d) == 0;
}

static enum verdict omap_verdict(struct run *r, const struct model_object *o, uint32_t n)
{
    struct omap_read c = {.read = {.object = model_object_id(&r->shape, n),
                                   .max = r->shape.omap_keys + 1,
                                   .done = omap_read_done}};
    store_omap_read(r->store, &c.read);
    if (!run_wait(r, &c.done))
        return DIFFERENT;
    bool equal = c.read.error == (o->exists ? 0 : -ENOENT) &&
                 (!o->exists || pairs_equal(&c.read.pairs, o->omap, r->shape.omap_keys));
    enum verdict verdict = c.read.error == -EIO ? UNREADABLE : equal ? EQUAL : DIFFERENT;
    if (verdict == DIFFERENT)
        fprintf(stderr, "object %u: its omap differs (%s, %u pairs)\n", n, error_text(c.read.error),
                c.read.n);
    encoder_fini(&c.read.pairs);
    encoder_fini(&c.read.header);
    return verdict;
}

struct pg_read {
    struct store_pg_read read;
    bool done;
};

static void pg_read_done(struct store_pg_read *read)
{
    container_of(read, struct pg_read, read)->done = true;
}

static bool pg_equal(struct run *r, const struct model *want, uint32_t pg)
{
    struct pg_read c = {.read = {.pg = model_pg(pg),
                                 .from = "k",
                                 .from_len = 1,
                                 .to = "l",
                                 .to_len = 1,
                                 .done = pg_read_done}};
    store_pg_read(r->store, &c.read);
    bool equal = run_wait(r, &c.done) && c.read.error == 0 &&
                 pairs_equal(&c.read.pairs, want->pairs[pg], MODEL_PG_KEYS);
    if (!equal)
        fprintf(stderr, "pairs of placement group %u differ (%s)\n", pg, error_text(c.read.error));
    encoder_fini(&c.read.pairs);
    return equal;
}

bool run_number(struct run *r, uint64_t *number)
{
    struct pg_read c = {.read = {.pg = model_pg(MODEL_PGS),
                                 .from = "n",
                                 .from_len = 1,
                                 .to = "o",
                                 .to_len = 1,
                                 .done = pg_read_done}};
    store_pg_read(r->store, &c.read);
    if (!run_wait(r, &c.done) || c.read.error)
        return false;
    struct decoder d;
    uint16_t key_len;
    uint32_t len;
    *number = 0;
    decoder_init(&d, c.read.pairs.data, c.read.pairs.len);
    if (c.read.n > 0) {
        (void)decode_string16(&d, &key_len);
        const void *value = decode_string32(&d, &len);
        if (value && len == sizeof *number)
            memcpy(number, value, sizeof *number);
    }
    encoder_fini(&c.read.pairs);
    return true;
}

struct listing {
    struct store_list list;
    bool done;
};

static void list_done(struct store_list *list)
{
    container_of(list, struct listing, list)->done = true;
}

static int by_order(const void *a, const void *b)
{
    return object_compare(a, b);
}

/* The listing of a pool, in pages of any size, is what the model has, in order. */
static bool listing_equal(struct run *r, const struct model *want, uint64_t pool)
{
    struct object_id ids[MODEL_OBJECTS_MAX];
    uint32_t n = 0, at = 0;
    for (uint32_t i = 0; i < r->shape.objects; i++)
        if (want->objects[i].exists && model_object_id(&r->shape, i).pool == pool)
            ids[n++] = model_object_id(&r->shape, i);
    qsort(ids, n, sizeof ids[0], by_order);
    struct listing l = {.list = {.pool = pool, .last = UINT32_MAX, .done = list_done}};
    bool equal = true;
    do {
        l.done = false;
        l.list.max = 1 + (uint32_t)random_below(&r->random, 5);
        l.list.after = at > 0 ? &ids[at - 1] : NULL;
        store_list(r->store, &l.list);
        equal = run_wait(r, &l.done) && l.list.error == 0 && at + l.list.n <= n;
        for (uint32_t i = 0; equal && i < l.list.n; i++)
            equal = object_compare(&l.list.entries[i].id, &ids[at++]) == 0;
        list_fini(&l.list);
    } while (equal && !l.list.end);
    if (!equal || at != n)
        fprintf(stderr, "the listing of pool %llu differs at %u of %u\n", (unsigned long long)pool,
                at, n);
    return equal && at == n;
}

/* What the store takes for the same in two objects is the same. */
static bool same_right(struct run *r, const struct model *want, uint32_t n, uint32_t m)
{
    const struct model_object *a = &want->objects[n], *b = &want->objects[m];
    struct object_id other = model_object_id(&r->shape, m);
    struct object_read c = {.read = {.object = model_object_id(&r->shape, n),
                                     .len = r->shape.object_bytes,
                                     .want_extents = true,
                                     .same_in = &other,
                                     .done = object_read_done}};
    struct decoder d;
    store_read(r->store, &c.read);
    bool right = run_wait(r, &c.done);
    decoder_init(&d, c.read.extents.data, c.read.extents.len);
    while (right && c.read.error == 0 && decoder_left(&d) > 0) {
        uint64_t at = decode_u64(&d), len = decode_u64(&d), end = at + len;
        right = !d.failed && len > 0 && end <= a->size && b->exists && end <= b->size &&
                memcmp(a->data + at, b->data + at, len) == 0;
        if (!right)
            fprintf(stderr, "objects %u and %u are not the same from byte %llu to %llu\n", n, m,
                    (unsigned long long)at, (unsigned long long)end);
    }
    encoder_fini(&c.read.attrs);
    encoder_fini(&c.read.extents);
    return right;
}

enum verdict run_read_all(struct run *r, const struct model *want, bool quiet)
{
    enum verdict verdict = EQUAL;
    for (uint32_t n = 0; n < r->shape.objects; n++) {
        enum verdict one = object_verdict(r, &want->objects[n], n, quiet);
        /* A read that fails with -EIO is only that: another has the right bytes. */
        for (uint32_t i = 0; one == UNREADABLE && r->faults.fail_reads > 0 && i < 1000; i++)
            one = object_verdict(r, &want->objects[n], n, quiet);
        if (one == UNREADABLE && want->objects[n].damaged)
            one = blocks_right(r, &want->objects[n], n) ? EQUAL : DIFFERENT;
        enum verdict omap = omap_verdict(r, &want->objects[n], n);
        verdict = one > verdict ? one : verdict;
        verdict = omap > verdict ? omap : verdict;
        /* Those that are cloned to each other. */
        if (verdict == EQUAL && (n ^ 1) < r->shape.objects && !same_right(r, want, n, n ^ 1))
            return DIFFERENT;
    }
    for (uint32_t pg = 0; pg < MODEL_PGS; pg++)
        if (!pg_equal(r, want, pg))
            return DIFFERENT;
    for (uint64_t pool = 0; pool < MODEL_POOLS; pool++)
        if (!listing_equal(r, want, MODEL_FIRST_POOL + pool))
            return DIFFERENT;
    return verdict;
}

/* Damage comes from reads that fail, and from damage. */
static bool apply_plan(struct model *m, const struct plan *p)
{
    bool explained = p->reads_fail || model_is_damaged(m, &p->txn);
    if (p->state == PLAN_REFUSED)
        return true;
    model_apply(m, &p->txn);
    if (p->store_txn.damaged)
        model_damage(m, &p->txn);
    if (p->store_txn.damaged && !explained)
        fprintf(stderr, "transaction %llu left damage although it could read everything\n",
                (unsigned long long)p->txn.number);
    return explained || !p->store_txn.damaged;
}

void run_model_at(const struct run *r, uint64_t number, struct model *out)
{
    model_copy(out, &r->base);
    for (uint32_t i = 0; i < r->n_plans && r->plans[i]->txn.number <= number; i++)
        (void)apply_plan(out, r->plans[i]);
}

bool run_compare(struct run *r)
{
    uint64_t number;
    if (!run_number(r, &number)) {
        fprintf(stderr, "the number of transactions cannot be read\n");
        return false;
    }
    if (number < r->acknowledged || number >= r->next ||
        (number > r->base_number && plan_of(r, number)->state == PLAN_REFUSED)) {
        fprintf(stderr, "the store holds %llu transactions, %llu were acknowledged, %llu made\n",
                (unsigned long long)number, (unsigned long long)r->acknowledged,
                (unsigned long long)r->next - 1);
        return false;
    }
    for (uint32_t i = 0; i < r->n_plans && r->plans[i]->txn.number <= number; i++)
        if (!apply_plan(&r->base, r->plans[i]))
            return false;
    drop_plans(r);
    r->base_number = r->acknowledged = number;
    r->next = number + 1;
    enum verdict verdict = run_read_all(r, &r->base, false);
    if (verdict == UNREADABLE)
        fprintf(stderr, "something cannot be read\n");
    return verdict == EQUAL;
}

/* ---- Life ---- */

static void on_failed(void *ctx, int error, const char *why)
{
    struct run *r = ctx;
    if (r->store_failed || !r->may_fail) {
        fprintf(stderr, "the store failed: %s: %s\n", why, error_text(error));
        r->wrong = true;
    }
    r->store_failed = true;
    r->totals->failures++;
}

static struct env *open_parts(struct run *r)
{
    struct env *env = sim_process_start(r->node);
    int error = disk_sim_open(env, r->image, LATENCY_NS, &r->disk);
    assert(error == 0);
    error = index_memory_open(r->index_disk, &r->index);
    assert(error == 0);
    return env;
}

/* The index keeps what it was asked to flush, and sometimes more, which it flushed by itself. */
static void cut_index(struct run *r)
{
    uint32_t n = index_memory_unflushed(r->index);
    uint64_t keep = random_below(&r->random, 2) ? random_below(&r->random, n + UINT64_C(1)) : 0;
    index_memory_crash(r->index, (uint32_t)keep);
}

static void drop_parts(struct run *r)
{
    sim_process_freeze(r->node);
    disk_sim_power_cut(r->disk, &r->random);
    cut_index(r);
    sim_process_end(r->node, SIM_POWER_CUT);
}

bool run_open(struct run *r, bool quiet)
{
    /* Few transactions are under way here: journal groups of few go beside others. */
    struct engine_options options = {.memory_target = r->memory,
                                     .group_worth =
                                         r->shape.deferring ? 0 : 1 + r->in_flight_max / 4,
                                     .cache_bytes = r->cache_bytes,
                                     .unsaved_bytes = r->unsaved_bytes};
    char why[256];
    struct env *env = open_parts(r);
    struct disk_sim_faults mounting = {.sync_left = r->faults.sync_left,
                                       .unsteady = r->faults.unsteady};
    disk_sim_faults(r->disk, &mounting);
    int error = engine_open(env, r->disk, r->index, &options, &r->store, why);
    r->store_failed = r->closed = false;
    r->unreadable |= r->faults.fail_reads > 0;
    if (error < 0) {
        if (!quiet)
            fprintf(stderr, "the store cannot be mounted: %s\n", why);
        drop_parts(r);
        return false;
    }
    r->faults.sync_left = r->faults.unsteady = 0;
    disk_sim_faults(r->disk, &r->faults);
    r->sequence = engine_of(r->store)->journal.sequence;
    r->store->failed = on_failed;
    r->store->failed_ctx = r;
    return true;
}

static void count(struct run *r)
{
    const struct engine *e = engine_of(r->store);
    r->totals->ring_reads += e->counters.ring_reads;
    r->totals->placed += e->counters.placed_blocks;
}

void run_cut(struct run *r)
{
    count(r);
    for (size_t i = 0; i < SIDE_READS; i++)
        r->side_reads[i].busy = false; /* Their memory goes with the store. */
    sim_process_freeze(r->node);
    engine_abandon(r->store);
    disk_sim_power_cut(r->disk, &r->random);
    cut_index(r);
    sim_process_end(r->node, SIM_POWER_CUT);
    r->totals->cuts++;
}

static void on_closed(void *ctx)
{
    ((struct run *)ctx)->closed = true;
}

bool run_close(struct run *r)
{
    r->closed = false;
    count(r);
    r->store->ops->close(r->store, on_closed, r);
    if (!run_wait(r, &r->closed)) {
        fprintf(stderr, "the store does not close\n");
        return false;
    }
    sim_process_freeze(r->node);
    sim_process_end(r->node, SIM_EXIT);
    return true;
}

void run_close_and_cut(struct run *r)
{
    uint64_t deadline = sim_now(r->sim) + 3600 * SEC_NS;
    r->closed = false;
    r->store->ops->close(r->store, on_closed, r);
    for (uint64_t n = random_below(&r->random, 40); n > 0 && !r->closed; n--)
        sim_step(r->sim, deadline);
    if (!r->closed) {
        run_cut(r);
        return;
    }
    sim_process_freeze(r->node);
    sim_process_end(r->node, SIM_EXIT);
}

static void on_finding(void *ctx, const char *line)
{
    if (!*(bool *)ctx)
        fprintf(stderr, "fsck: %s\n", line);
}

bool run_check(struct run *r, bool quiet, int64_t *errors)
{
    struct fsck_options options = {.deep = true, .finding = on_finding, .ctx = &quiet};
    struct fsck_report report;
    char why[256];
    struct env *env = open_parts(r);
    int error = engine_fsck(env, r->disk, r->index, &options, &report, why);
    if (error < 0 && !quiet)
        fprintf(stderr, "fsck: %s\n", why);
    sim_process_freeze(r->node);
    disk_close(r->disk);
    r->index->ops->close(r->index);
    sim_process_end(r->node, SIM_EXIT);
    if (errors)
        *errors = error < 0 ? -1 : (int64_t)report.errors;
    return error == 0 && report.errors == 0;
}

void run_init(struct run *r, uint64_t seed, enum run_kind kind, bool trace,
              struct store_totals *totals)
{
    bool full = kind == RUN_FULL;
    struct sim_options options = {.seed = seed, .trace = trace};
    struct entity_name name = entity_osd(0);
    struct uuid uuid = {.bytes = {1}};
    memset(r, 0, sizeof *r);
    random_seed(&r->random, seed ^ 0x5704e);
    r->totals = totals;
    r->next = 1;
    bool large = !full && random_below(&r->random, 4) == 0;
    r->shape = (struct model_shape){
        .seed = seed,
        .objects = full    ? 16
                   : large ? 6
                           : 12,
        .object_bytes = full    ? 6 << 20
                        : large ? 4 << 20
                                : 600 * 1024,
        .growing = full,
        .deferring = !full && random_below(&r->random, 4) == 0,
        .omap_keys = random_below(&r->random, 4) == 0 ? 3000 : 40,
        .steps = MODEL_STEPS_MAX,
        .long_names = random_below(&r->random, 2) == 0,
    };
    r->memory = UINT64_C(1) << (21 + random_below(&r->random, 5)); /* 2 to 32 MiB */
    r->in_flight_max = 1 + (uint32_t)random_below(&r->random, 32);
    r->journal_bytes = UINT64_C(4) << (20 + random_below(&r->random, 3)); /* 4 to 16 MiB */
    if (r->shape.deferring) { /* The journal turns fast, and objects rest between two turns. */
        r->shape.objects = MODEL_OBJECTS_MAX;
        r->journal_bytes = UINT64_C(4) << 20;
        r->memory = UINT64_C(128) << 20; /* Much may be under way. */
    }
    if (kind == RUN_COVERING) {
        r->shape.covering = true;
        r->shape.deferring = false;
        r->shape.objects = 2;
        r->memory = UINT64_C(2) << 20;
        r->journal_bytes = UINT64_C(4) << 20; /* A few blocks, and they are put in place. */
        r->in_flight_max = 2 + (uint32_t)random_below(&r->random, 6);
    }
    r->disk_bytes = UINT64_C(64) << 20 << large;
    r->rests = random_below(&r->random, 2) == 0;
    /* Mostly so little that only the ring has what it has. */
    r->cache_bytes = random_below(&r->random, 3) ? 1 + random_below(&r->random, 512 * 1024) : 0;
    /* Mostly so little that checkpoints are for room in memory, and the index is ahead of what is
     * in place. */
    r->unsaved_bytes = random_below(&r->random, 3) ? 4096 + random_below(&r->random, 65536) : 0;
    r->sim = sim_create(&options);
    r->node = sim_node_create(r->sim, "osd.0", &name);
    r->image = disk_image_create(r->disk_bytes);
    r->index_disk = index_memory_disk_create();
    model_init(&r->base, &r->shape);
    (void)open_parts(r);
    int error = engine_format(r->disk, r->index, &uuid, r->journal_bytes);
    assert(error == 0);
    disk_close(r->disk);
    r->index->ops->close(r->index);
    sim_process_end(r->node, SIM_EXIT);
}

void run_fini(struct run *r)
{
    drop_plans(r);
    free(r->plans);
    disk_image_destroy(r->image);
    index_memory_disk_destroy(r->index_disk);
    model_fini(&r->base);
    sim_destroy(r->sim);
}
