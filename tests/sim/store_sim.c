/*
 * The store's engine against power cuts, in the simulated world.
 *
 *     limpet-store-sim --seeds 1-1000 [--cuts 5] [--trace]
 *
 * A seed decides a sequence of transactions on a small disk, and points at which the power fails:
 * the disk then keeps any part of what was not flushed, the index what it flushed last. After each
 * cut the store is mounted again and compared with a model: it must hold exactly the first k
 * transactions, k being at least the number acknowledged, and every byte must be right.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "osd/store/engine.h"
#include "osd/store/engine_fsck.h"
#include "placement/hash.h"
#include "tests/sim/disk_sim.h"
#include "tests/sim/env_sim.h"

enum {
    OBJECTS = 12,
    OBJECT_BYTES_MAX = 600 * 1024,
    POOL = 7,
    IN_FLIGHT = 24,
    OMAP_KEYS = 40,
    DISK_BYTES = 64 * 1024 * 1024,
    JOURNAL_BYTES = 4 * 1024 * 1024,
};

/* ---- The model ---- */

struct model_object {
    bool exists;
    uint64_t size;
    uint64_t info;
    uint64_t omap[OMAP_KEYS]; /* 0: no such key. */
    uint8_t *data;            /* OBJECT_BYTES_MAX */
};

enum step_code {
    STEP_WRITE,
    STEP_FULL,
    STEP_ZERO,
    STEP_TRUNCATE,
    STEP_REMOVE,
    STEP_RENAME,
    STEP_CLONE,
    STEP_OMAP_SET,
    STEP_OMAP_REMOVE,
};

struct step {
    enum step_code code;
    uint32_t object, other;
    uint64_t offset, len;
    uint64_t fill; /* Seed of the data. */
};

/* What one transaction does: recorded, so that the model can be taken to any point. */
struct plan {
    struct step step;
    uint64_t number;
    struct store_txn txn;
    bool done;
    struct run *run;
};

struct run {
    struct sim *sim;
    struct sim_node *node;
    struct random_stream random;
    struct disk_image *image;
    struct index_memory_disk *index_disk;
    struct disk *disk;
    struct index *index;
    struct store *store;
    struct model_object base[OBJECTS]; /* After `base_number` transactions. */
    uint64_t base_number;
    struct plan **plans; /* base_number + 1 .. next - 1 */
    uint32_t n_plans;
    uint64_t next;
    uint64_t acknowledged;
    uint32_t in_flight;
    bool failed;
    bool closed;
    uint64_t txns, cuts, reads;
};

static void fill_data(uint64_t seed, uint8_t *out, size_t len)
{
    struct random_stream r;
    random_seed(&r, seed);
    random_fill(&r, out, len);
}

static void model_apply(struct model_object *objects, const struct step *s, uint64_t number)
{
    struct model_object *o = &objects[s->object];
    if (s->code == STEP_REMOVE) {
        o->exists = false;
        o->size = 0;
        o->info = 0;
        memset(o->data, 0, OBJECT_BYTES_MAX);
        memset(o->omap, 0, sizeof o->omap);
        return;
    }
    if (s->code == STEP_CLONE) {
        struct model_object *to = &objects[s->other];
        uint8_t *data = to->data;
        if (!o->exists)
            return;
        memcpy(data, o->data, OBJECT_BYTES_MAX);
        *to = *o;
        to->data = data;
        return;
    }
    if (s->code == STEP_RENAME) {
        struct model_object *to = &objects[s->other];
        if (!o->exists || o == to)
            return;
        uint8_t *spare = to->data;
        *to = *o;
        memset(spare, 0, OBJECT_BYTES_MAX);
        *o = (struct model_object){.data = spare};
        return;
    }
    if (s->code == STEP_OMAP_REMOVE && !o->exists)
        return;
    o->exists = true;
    if (s->code == STEP_OMAP_SET || s->code == STEP_OMAP_REMOVE) {
        for (uint64_t i = s->offset; i < s->offset + s->len; i++)
            o->omap[i] = s->code == STEP_OMAP_SET ? s->fill + i : 0;
        return;
    }
    o->info = number;
    if (s->code == STEP_TRUNCATE || s->code == STEP_FULL) {
        uint64_t keep = s->code == STEP_FULL ? 0 : s->offset;
        memset(o->data + keep, 0, OBJECT_BYTES_MAX - keep);
        o->size = keep;
    }
    if (s->code == STEP_WRITE || s->code == STEP_FULL)
        fill_data(s->fill, o->data + s->offset, s->len);
    if (s->code == STEP_ZERO)
        memset(o->data + s->offset, 0, s->len);
    if (s->code != STEP_TRUNCATE && s->len > 0 && s->offset + s->len > o->size)
        o->size = s->offset + s->len;
}

/* ---- Transactions ---- */

static struct object_id object_id(uint32_t n, char name[24])
{
    snprintf(name, 24, "object-%u", n / 2 * 2);
    uint32_t hash = hash_object("", 0, name, strlen(name));
    snprintf(name, 24, "object-%u", n); /* Pairs share a hash, so that they can be renamed. */
    return (struct object_id){.pool = POOL,
                              .hash = hash,
                              .space = (const uint8_t *)"",
                              .name = (const uint8_t *)name,
                              .name_len = (uint16_t)strlen(name),
                              .snap = OBJECT_HEAD};
}

static void choose_range(struct run *r, struct step *s)
{
    uint64_t kind = random_below(&r->random, 10);
    if (kind < 4) { /* Whole blocks, few. */
        s->offset = random_below(&r->random, OBJECT_BYTES_MAX / 4096 - 4) * 4096;
        s->len = (1 + random_below(&r->random, 4)) * 4096;
    } else if (kind < 7) { /* Small and anywhere. */
        s->offset = random_below(&r->random, OBJECT_BYTES_MAX - 9000);
        s->len = 1 + random_below(&r->random, 9000);
    } else { /* Large enough for a new place, often not aligned. */
        s->len = 65536 + random_below(&r->random, 300000);
        s->offset = random_below(&r->random, OBJECT_BYTES_MAX - s->len);
        if (kind == 9) {
            s->offset = s->offset / 4096 * 4096;
            s->len = s->len / 4096 * 4096;
        }
    }
}

static void choose_step(struct run *r, struct step *s)
{
    uint64_t kind = random_below(&r->random, 100);
    memset(s, 0, sizeof *s);
    s->object = (uint32_t)random_below(&r->random, OBJECTS);
    s->fill = random_next(&r->random);
    choose_range(r, s);
    if (kind < 8) {
        s->code = kind < 5 ? STEP_OMAP_SET : STEP_OMAP_REMOVE;
        s->offset = random_below(&r->random, OMAP_KEYS);
        s->len = 1 + random_below(&r->random, OMAP_KEYS - s->offset);
    } else if (kind < 65) {
        s->code = STEP_WRITE;
    } else if (kind < 75) {
        s->code = STEP_FULL;
        s->offset = 0;
    } else if (kind < 83) {
        s->code = STEP_ZERO;
    } else if (kind < 91) {
        s->code = STEP_TRUNCATE;
        s->offset = random_below(&r->random, OBJECT_BYTES_MAX);
    } else if (kind < 96) {
        s->code = STEP_REMOVE;
    } else {
        s->code = kind < 98 ? STEP_RENAME : STEP_CLONE;
        s->other = s->object ^ 1;
    }
}

static void plan_done(struct store_txn *txn, int error)
{
    struct plan *p = container_of(txn, struct plan, txn);
    struct run *r = p->run;
    if (error) {
        fprintf(stderr, "transaction %llu failed: %s\n", (unsigned long long)p->number,
                error_text(error));
        r->failed = true;
    }
    if (p->number != r->acknowledged + 1) {
        fprintf(stderr, "transaction %llu acknowledged after %llu\n", (unsigned long long)p->number,
                (unsigned long long)r->acknowledged);
        r->failed = true;
    }
    p->done = true;
    r->acknowledged = p->number;
    r->in_flight--;
}

static void encode_step(struct plan *p, const struct step *s)
{
    char name[24], other[24];
    struct object_id id = object_id(s->object, name), to = object_id(s->other, other);
    struct store_txn *txn = &p->txn;
    if (s->code == STEP_WRITE || s->code == STEP_FULL) {
        int error = buf_slice_alloc(s->len + (s->fill & 1), &txn->data);
        assert(error == 0);
        fill_data(s->fill, txn->data.data + (s->fill & 1), s->len);
    }
    txn_object(txn, &id);
    if (s->code == STEP_FULL || s->code == STEP_TRUNCATE)
        txn_truncate(txn, s->code == STEP_FULL ? 0 : s->offset);
    if (s->code == STEP_WRITE || s->code == STEP_FULL)
        txn_write(txn, s->offset, s->len, s->fill & 1);
    if (s->code == STEP_ZERO)
        txn_zero(txn, s->offset, s->len);
    for (uint64_t i = s->offset; s->code == STEP_OMAP_SET && i < s->offset + s->len; i++) {
        char key[16];
        uint64_t value = s->fill + i;
        int n = snprintf(key, sizeof key, "key-%02u", (unsigned)i);
        txn_omap_set(txn, key, (uint16_t)n, &value, sizeof value);
    }
    if (s->code == STEP_OMAP_REMOVE) {
        char from[16], end[16];
        int n = snprintf(from, sizeof from, "key-%02u", (unsigned)s->offset);
        int m = snprintf(end, sizeof end, "key-%02u", (unsigned)(s->offset + s->len));
        txn_omap_remove_range(txn, from, (uint16_t)n, end, (uint16_t)m);
    } else if (s->code == STEP_REMOVE)
        txn_remove(txn);
    else if (s->code == STEP_CLONE)
        txn_clone(txn, &to);
    else if (s->code == STEP_RENAME)
        txn_rename(txn, &to);
    else if (s->code != STEP_OMAP_SET)
        txn_set_info(txn, &p->number, sizeof p->number);
    txn_pg_set(txn, (struct pg_id){.pool = POOL}, "number", 6, &p->number, sizeof p->number);
}

static void submit_one(struct run *r)
{
    struct plan *p = calloc(1, sizeof *p);
    assert(p);
    p->run = r;
    p->number = r->next++;
    choose_step(r, &p->step);
    txn_init(&p->txn);
    p->txn.done = plan_done;
    encode_step(p, &p->step);
    r->plans = realloc(r->plans, (r->n_plans + 1) * sizeof(struct plan *));
    assert(r->plans);
    r->plans[r->n_plans++] = p;
    r->in_flight++;
    r->txns++;
    store_submit(r->store, &p->txn);
}

/* ---- Comparing ---- */

struct checked_read {
    struct store_read read;
    bool done;
};

static void read_done(struct store_read *read)
{
    container_of(read, struct checked_read, read)->done = true;
}

static bool wait_for(struct run *r, const bool *flag)
{
    uint64_t deadline = sim_now(r->sim) + 600 * SEC_NS;
    while (!*flag && sim_now(r->sim) < deadline)
        sim_step(r->sim, deadline);
    return *flag;
}

static bool object_equal(struct run *r, const struct model_object *o, uint32_t n)
{
    char name[24];
    struct checked_read c = {
        .read = {.object = object_id(n, name), .len = OBJECT_BYTES_MAX, .done = read_done}};
    store_read(r->store, &c.read);
    if (!wait_for(r, &c.done)) {
        fprintf(stderr, "object %u: the read never ends\n", n);
        return false;
    }
    r->reads++;
    bool equal;
    uint64_t info = 0;
    memcpy(&info, c.read.stat.info, sizeof info);
    if (!o->exists)
        equal = c.read.error == -ENOENT;
    else
        equal = c.read.error == 0 && c.read.stat.size == o->size && c.read.data.len == o->size &&
                info == o->info &&
                (o->size == 0 || memcmp(c.read.data.data, o->data, o->size) == 0);
    if (!equal) {
        fprintf(stderr,
                "object %u differs: error %s, size %llu, info %llu; the model: %s, size %llu, info "
                "%llu\n",
                n, error_text(c.read.error), (unsigned long long)c.read.stat.size,
                (unsigned long long)info, o->exists ? "exists" : "does not",
                (unsigned long long)o->size, (unsigned long long)o->info);
        for (uint64_t i = 0; c.read.error == 0 && o->exists && i < o->size && i < c.read.data.len;
             i++)
            if (c.read.data.data[i] != o->data[i]) {
                fprintf(stderr, "first difference at byte %llu\n", (unsigned long long)i);
                break;
            }
    }
    buf_slice_drop(&c.read.data);
    encoder_fini(&c.read.attrs);
    return equal;
}

struct checked_omap_read {
    struct store_omap_read read;
    bool done;
};

static void omap_read_done(struct store_omap_read *read)
{
    container_of(read, struct checked_omap_read, read)->done = true;
}

static bool omap_equal(struct run *r, const struct model_object *o, uint32_t n)
{
    char name[24];
    struct checked_omap_read c = {
        .read = {.object = object_id(n, name), .max = OMAP_KEYS + 1, .done = omap_read_done}};
    store_omap_read(r->store, &c.read);
    if (!wait_for(r, &c.done))
        return false;
    bool equal = c.read.error == (o->exists ? 0 : -ENOENT);
    struct decoder d;
    decoder_init(&d, c.read.pairs.data, c.read.pairs.len);
    for (uint32_t i = 0; equal && i < OMAP_KEYS; i++) {
        char key[16];
        uint16_t key_len;
        uint32_t len;
        int want = snprintf(key, sizeof key, "key-%02u", i);
        if (!o->exists || o->omap[i] == 0)
            continue;
        const void *name_read = decode_string16(&d, &key_len);
        const void *value = decode_string32(&d, &len);
        equal = name_read && key_len == want && memcmp(name_read, key, key_len) == 0 && value &&
                len == 8 && memcmp(value, &o->omap[i], 8) == 0;
    }
    equal &= decoder_end(&d) == 0;
    if (!equal)
        fprintf(stderr, "object %u: its omap differs (%s, %u pairs)\n", n, error_text(c.read.error),
                c.read.n);
    encoder_fini(&c.read.pairs);
    encoder_fini(&c.read.header);
    return equal;
}

struct checked_pg_read {
    struct store_pg_read read;
    bool done;
};

static void pg_read_done(struct store_pg_read *read)
{
    container_of(read, struct checked_pg_read, read)->done = true;
}

/* How many transactions the store holds. */
static bool read_number(struct run *r, uint64_t *number)
{
    struct checked_pg_read c = {.read = {.pg = {.pool = POOL},
                                         .from = "n",
                                         .from_len = 1,
                                         .to = "o",
                                         .to_len = 1,
                                         .done = pg_read_done}};
    store_pg_read(r->store, &c.read);
    if (!wait_for(r, &c.done) || c.read.error)
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

static void drop_plans(struct run *r)
{
    for (uint32_t i = 0; i < r->n_plans; i++) {
        txn_fini(&r->plans[i]->txn);
        free(r->plans[i]);
    }
    r->n_plans = 0;
    r->in_flight = 0;
}

static bool compare(struct run *r)
{
    uint64_t number;
    if (!read_number(r, &number)) {
        fprintf(stderr, "the number of transactions cannot be read\n");
        return false;
    }
    if (number < r->acknowledged || number >= r->next) {
        fprintf(stderr, "the store holds %llu transactions, %llu were acknowledged, %llu made\n",
                (unsigned long long)number, (unsigned long long)r->acknowledged,
                (unsigned long long)r->next - 1);
        return false;
    }
    for (uint32_t i = 0; i < r->n_plans && r->plans[i]->number <= number; i++)
        model_apply(r->base, &r->plans[i]->step, r->plans[i]->number);
    drop_plans(r);
    r->base_number = number;
    r->acknowledged = number;
    r->next = number + 1;
    bool equal = true;
    for (uint32_t n = 0; n < OBJECTS; n++)
        equal &= object_equal(r, &r->base[n], n) && omap_equal(r, &r->base[n], n);
    return equal;
}

/* ---- Life of the store ---- */

static void store_failed(void *ctx, int error, const char *why)
{
    struct run *r = ctx;
    fprintf(stderr, "the store failed: %s: %s\n", why, error_text(error));
    r->failed = true;
}

static bool open_store(struct run *r)
{
    struct engine_options options = {.memory_target = 16 * 1024 * 1024};
    char why[256];
    struct env *env = sim_process_start(r->node);
    int error = disk_sim_open(env, r->image, 100000, &r->disk);
    assert(error == 0);
    error = index_memory_open(r->index_disk, &r->index);
    assert(error == 0);
    error = engine_open(env, r->disk, r->index, &options, &r->store, why);
    if (error < 0) {
        fprintf(stderr, "the store cannot be mounted: %s\n", why);
        return false;
    }
    r->store->failed = store_failed;
    r->store->failed_ctx = r;
    return true;
}

static void power_cut(struct run *r)
{
    sim_process_freeze(r->node);
    engine_abandon(r->store);
    disk_sim_power_cut(r->disk, &r->random);
    r->index->ops->close(r->index);
    sim_process_end(r->node, SIM_POWER_CUT);
    r->cuts++;
}

static void on_closed(void *ctx)
{
    ((struct run *)ctx)->closed = true;
}

static bool close_store(struct run *r)
{
    r->closed = false;
    r->store->ops->close(r->store, on_closed, r);
    if (!wait_for(r, &r->closed)) {
        fprintf(stderr, "the store does not close\n");
        return false;
    }
    sim_process_freeze(r->node);
    sim_process_end(r->node, SIM_EXIT);
    return true;
}

static void on_finding(void *ctx, const char *line)
{
    (void)ctx;
    fprintf(stderr, "fsck: %s\n", line);
}

/* A deep check, which finds nothing. */
static bool check_store(struct run *r)
{
    struct fsck_options options = {.deep = true, .finding = on_finding};
    struct fsck_report report;
    char why[256];
    struct env *env = sim_process_start(r->node);
    int error = disk_sim_open(env, r->image, 100000, &r->disk);
    assert(error == 0);
    error = index_memory_open(r->index_disk, &r->index);
    assert(error == 0);
    error = engine_fsck(env, r->disk, r->index, &options, &report, why);
    if (error < 0)
        fprintf(stderr, "fsck: %s\n", why);
    sim_process_freeze(r->node);
    disk_close(r->disk);
    r->index->ops->close(r->index);
    sim_process_end(r->node, SIM_EXIT);
    return error == 0 && report.errors == 0;
}

static bool work(struct run *r, uint64_t until_number)
{
    uint64_t deadline = sim_now(r->sim) + 3600 * SEC_NS;
    while (r->next <= until_number && !r->failed) {
        while (r->in_flight < IN_FLIGHT && r->next <= until_number)
            submit_one(r);
        if (!sim_step(r->sim, deadline)) {
            fprintf(stderr, "the store hangs with %u transactions under way\n", r->in_flight);
            return false;
        }
    }
    for (uint64_t n = random_below(&r->random, 200); n > 0; n--)
        sim_step(r->sim, deadline);
    return !r->failed;
}

static bool run_seed(uint64_t seed, uint32_t cuts, bool trace)
{
    struct run r = {.next = 1};
    struct sim_options options = {.seed = seed, .trace = trace};
    struct entity_name name = entity_osd(0);
    struct uuid uuid = {.bytes = {1}};
    random_seed(&r.random, seed ^ 0x5704e);
    r.sim = sim_create(&options);
    r.node = sim_node_create(r.sim, "osd.0", &name);
    r.image = disk_image_create(DISK_BYTES);
    r.index_disk = index_memory_disk_create();
    for (uint32_t n = 0; n < OBJECTS; n++)
        r.base[n].data = calloc(1, OBJECT_BYTES_MAX);
    struct env *env = sim_process_start(r.node);
    int error = disk_sim_open(env, r.image, 100000, &r.disk);
    if (error == 0)
        error = index_memory_open(r.index_disk, &r.index);
    if (error == 0)
        error = engine_format(r.disk, r.index, &uuid, JOURNAL_BYTES);
    assert(error == 0);
    disk_close(r.disk);
    r.index->ops->close(r.index);
    sim_process_end(r.node, SIM_EXIT);
    bool ok = open_store(&r);
    for (uint32_t cut = 0; ok && cut < cuts; cut++) {
        ok = work(&r, r.next + random_below(&r.random, 300));
        if (!ok)
            break;
        if (random_below(&r.random, 6) == 0)
            ok = close_store(&r);
        else
            power_cut(&r);
        if (ok && random_below(&r.random, 3) == 0)
            ok = check_store(&r);
        ok = ok && open_store(&r) && compare(&r);
    }
    if (ok)
        ok = close_store(&r) && check_store(&r);
    if (ok) {
        drop_plans(&r);
        free(r.plans);
        disk_image_destroy(r.image);
        index_memory_disk_destroy(r.index_disk);
        for (uint32_t n = 0; n < OBJECTS; n++)
            free(r.base[n].data);
        sim_destroy(r.sim);
    } else {
        sim_log_dump(r.sim);
    }
    printf("seed %llu %s: %llu transactions, %llu power cuts\n", (unsigned long long)seed,
           ok ? "ok" : "FAILED", (unsigned long long)r.txns, (unsigned long long)r.cuts);
    return ok;
}

int main(int argc, char **argv)
{
    uint64_t first = 1, last = 20, failed = 0;
    uint32_t cuts = 5;
    bool trace = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
            char *end;
            first = last = strtoull(argv[++i], &end, 10);
            if (*end == '-')
                last = strtoull(end + 1, NULL, 10);
        } else if (strcmp(argv[i], "--cuts") == 0 && i + 1 < argc) {
            cuts = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else {
            fprintf(stderr, "usage: limpet-store-sim [--seeds A-B] [--cuts N] [--trace]\n");
            return EINVAL;
        }
    }
    for (uint64_t seed = first; seed <= last; seed++) {
        if (run_seed(seed, cuts, trace))
            continue;
        fprintf(stderr, "repeat: limpet-store-sim --seeds %llu --cuts %u --trace\n",
                (unsigned long long)seed, cuts);
        failed++;
        break;
    }
    return failed > 0;
}
