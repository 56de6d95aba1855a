/*
 * The offline check: see engine_fsck.h.
 *
 * It trusts nothing that is derived: mappings are counted block by block, and the counts compared
 * with what the shared extents, the allocator's stored state and the pools' sums say.
 */
#include "osd/store/engine_fsck.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/engine_mount.h"

struct fsck_object {
    UT_hash_handle hh;
    uint64_t nid;
    uint64_t pool;
    uint64_t size;
    uint8_t flags;
    bool has_map; /* Entries were met though its flags deny it. */
};

struct fsck {
    struct engine *e;
    struct mount_io io;
    const struct fsck_options *options;
    struct fsck_report *report;
    struct fsck_object *objects; /* By nid. */
    uint16_t *mapped;            /* Times each block is mapped, saturating. */
    struct pool_stat *pools;     /* Counted. */
    uint64_t next_nid;
    struct encoder fixes; /* Index changes of a repair. */
    bool fix_shared;      /* Counts of references are wrong: all are written anew. */
    bool fix_objects;     /* Records of objects or chunks lack a flag. */
    bool fix_state;       /* The next object number is too low. */
    bool fixing;          /* The second walk, which corrects records. */
    bool lacks_name;      /* The stored filter of names is wrong. */
    bool unreadable;      /* Some object record is damaged: what belongs to it is no orphan. */
    bool short_of_memory; /* Something was not counted. */
    uint64_t work, total; /* Of blocks when deep, else of objects. */
};

static void found(struct fsck *f, bool fixable, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void found(struct fsck *f, bool fixable, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    f->report->errors++;
    if (fixable && f->options->repair)
        f->report->repaired++;
    if (f->options->finding)
        f->options->finding(f->options->ctx, line);
}

static struct pool_stat *counted_pool(struct fsck *f, uint64_t pool)
{
    struct pool_stat *p;
    HASH_FIND(hh, f->pools, &pool, sizeof pool, p);
    if (p)
        return p;
    p = calloc(1, sizeof *p);
    if (p) {
        p->pool = pool;
        HASH_ADD(hh, f->pools, pool, sizeof p->pool, p);
        if (TABLE_TOOK(p))
            return p;
        free(p);
    }
    f->short_of_memory = true;
    return NULL;
}

static void advance(struct fsck *f)
{
    if (++f->work % 4096 == 0 && f->options->progress)
        f->options->progress(f->options->ctx, f->work, f->total);
}

/* ---- Mappings ---- */

static void check_block(struct fsck *f, uint64_t nid, uint64_t index, uint32_t block, uint32_t crc)
{
    if (!f->options->deep)
        return;
    int error = mount_read(&f->io, (uint64_t)block << BLOCK_SHIFT, BLOCK_BYTES);
    uint32_t have = error < 0 ? 0 : block_crc(f->io.data);
    advance(f);
    if (error == 0 && have == crc)
        return;
    f->report->damaged++;
    if (error < 0)
        found(f, false, "object number %llu: block %u of the disk cannot be read: %s",
              (unsigned long long)nid, block, error_text(error));
    else
        found(f, false,
              "object number %llu, block %llu: checksum of disk block %u is %08x instead of %08x",
              (unsigned long long)nid, (unsigned long long)index, block, have, crc);
}

static void check_chunk(struct fsck *f, uint64_t nid, uint64_t pool, uint64_t size, uint32_t number,
                        const struct chunk *c)
{
    struct pool_stat *sum = counted_pool(f, pool);
    for (uint32_t i = 0; i < CHUNK_BLOCKS; i++) {
        uint32_t block = c->block[i];
        uint64_t index = (uint64_t)number * CHUNK_BLOCKS + i;
        if (block == BLOCK_NONE)
            continue;
        f->report->blocks++;
        if (i == 0 || c->block[i - 1] == BLOCK_NONE || c->block[i - 1] + 1 != block)
            f->report->extents++;
        if (sum)
            sum->value.blocks++;
        if (block < f->e->allocator.first) {
            found(f, false, "object number %llu maps block %u, which belongs to the journal",
                  (unsigned long long)nid, block);
            continue;
        }
        if (index * BLOCK_BYTES >= size)
            found(f, false, "object number %llu maps block %llu beyond its size %llu",
                  (unsigned long long)nid, (unsigned long long)index, (unsigned long long)size);
        if (f->mapped[block] > 0 && !((c->shared >> i) & 1)) {
            /* Who has the wrong one finds out by its checksum; neither may overwrite it in place.
             */
            found(f, true, "block %u is mapped twice and not shared (object number %llu)", block,
                  (unsigned long long)nid);
            f->fix_shared = f->fix_objects = true;
        }
        if (f->mapped[block] < UINT16_MAX)
            f->mapped[block]++;
        check_block(f, nid, index, block, c->crc[i]);
    }
}

/* Of an object that the stored filter lacks, a mount would not know. */
static void check_name(struct fsck *f, const uint8_t *key, size_t key_len)
{
    if (f->lacks_name || !names_lack(f->e, key, key_len))
        return;
    found(f, true, "the stored filter of names lacks an object");
    f->lacks_name = true; /* One says it all: it is made anew after a repair. */
}

static int check_object(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                        size_t len)
{
    struct object_id id;
    uint8_t strings[OBJECT_STRINGS_MAX];
    struct onode o = {0};
    encoder_init(&o.attrs);
    f->report->objects++;
    advance(f);
    check_name(f, key, key_len);
    int error = object_key_parse(key, key_len, &id, strings);
    if (error == 0)
        error = object_decode(value, len, f->e->allocator.n_blocks, &o);
    if (error < 0) {
        found(f, false, "an object record of %zu bytes is damaged", len);
        f->unreadable = true;
    } else {
        struct fsck_object *same, *object = calloc(1, sizeof *object);
        struct pool_stat *sum = counted_pool(f, id.pool);
        if (!object || !sum) {
            free(object);
            error = -ENOMEM;
        } else {
            HASH_FIND(hh, f->objects, &o.nid, sizeof o.nid, same);
            if (same)
                found(f, false, "object number %llu is used twice", (unsigned long long)o.nid);
            if (o.nid >= f->next_nid) {
                found(f, true, "object number %llu was never given", (unsigned long long)o.nid);
                f->next_nid = o.nid + 1;
                f->fix_state = true;
            }
            object->nid = o.nid;
            object->pool = id.pool;
            object->size = o.size;
            object->flags = o.flags;
            if (!same)
                HASH_ADD(hh, f->objects, nid, sizeof object->nid, object);
            if (!TABLE_TOOK(object)) {
                free(object);
                error = same ? error : -ENOMEM;
            }
            sum->value.objects++;
            sum->value.bytes += o.size;
            if (o.n_chunks > 0)
                check_chunk(f, o.nid, id.pool, o.size, 0, o.chunks[0]);
        }
    }
    for (uint32_t i = 0; i < o.n_chunks; i++)
        free(o.chunks[i]);
    free(o.chunks);
    encoder_fini(&o.attrs);
    return error == -ENOMEM ? error : 0;
}

static struct fsck_object *object_of(struct fsck *f, const uint8_t *key, size_t key_len)
{
    uint64_t nid;
    struct fsck_object *object;
    if (key_len < 9)
        return NULL;
    memcpy(&nid, key + 1, 8);
    nid = be64toh(nid);
    HASH_FIND(hh, f->objects, &nid, sizeof nid, object);
    return object;
}

static void orphan(struct fsck *f, const uint8_t *key, size_t key_len, const char *what)
{
    uint64_t nid = 0;
    if (key_len >= 9)
        memcpy(&nid, key + 1, 8);
    found(f, !f->unreadable, "%s of object number %llu, which does not exist", what,
          (unsigned long long)be64toh(nid));
    if (!f->unreadable)
        index_batch_remove(&f->fixes, key, key_len);
}

static int check_chunk_record(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                              size_t len)
{
    struct fsck_object *object = object_of(f, key, key_len);
    struct chunk chunk;
    struct decoder d;
    uint32_t number;
    f->report->chunks++;
    if (!object || key_len != 13) {
        orphan(f, key, key_len, "a chunk");
        return 0;
    }
    memcpy(&number, key + 9, 4);
    decoder_init(&d, value, len);
    if (chunk_decode(&d, f->e->allocator.n_blocks, &chunk) < 0 || decoder_end(&d) < 0)
        found(f, false, "chunk %u of object number %llu is damaged", be32toh(number),
              (unsigned long long)object->nid);
    else
        check_chunk(f, object->nid, object->pool, object->size, be32toh(number), &chunk);
    return 0;
}

static int check_omap(struct fsck *f, const uint8_t *key, size_t key_len)
{
    struct fsck_object *object = object_of(f, key, key_len);
    f->report->omap_pairs++;
    if (!object)
        orphan(f, key, key_len, "a map entry");
    else if (!(object->flags & OBJECT_HAS_OMAP) && !object->has_map) {
        found(f, true, "object number %llu has map entries and does not know",
              (unsigned long long)object->nid);
        object->has_map = f->fix_objects = true;
    }
    return 0;
}

static int check_shared(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                        size_t len)
{
    struct shared_layout shared;
    uint32_t block;
    if (key_len != 5 || len != sizeof shared) {
        found(f, true, "a record of shared blocks is damaged");
        f->fix_shared = true;
        return 0;
    }
    memcpy(&block, key + 1, 4);
    memcpy(&shared, value, sizeof shared);
    block = be32toh(block);
    if (shared_load(f->e, block, &shared) < 0) {
        found(f, true, "shared blocks at %u overlap others, or are none", block);
        f->fix_shared = true;
    }
    return 0;
}

static int check_pool(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                      size_t len)
{
    uint64_t pool;
    if (key_len != 9 || len != sizeof(struct pool_layout)) {
        found(f, true, "the sums of a pool are damaged");
        index_batch_remove(&f->fixes, key, key_len);
        return 0;
    }
    memcpy(&pool, key + 1, 8);
    memcpy(&engine_pool(f->e, be64toh(pool))->value, value, len);
    return 0;
}

static void fix_object(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                       size_t len);
static void fix_chunk(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                      size_t len);

/* ---- The walk ---- */

static int check_pair(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                      size_t len)
{
    if (f->fixing) {
        if (key[0] == KEY_OBJECT)
            fix_object(f, key, key_len, value, len);
        else
            fix_chunk(f, key, key_len, value, len);
        return 0;
    }
    switch (key[0]) {
    case KEY_OBJECT:
        return check_object(f, key, key_len, value, len);
    case KEY_CHUNK:
        return check_chunk_record(f, key, key_len, value, len);
    case KEY_OMAP:
    case KEY_OMAP_HEADER:
        return check_omap(f, key, key_len);
    case KEY_SHARED:
        return check_shared(f, key, key_len, value, len);
    case KEY_POOL:
        return check_pool(f, key, key_len, value, len);
    case KEY_PG:
        f->report->pg_pairs++;
        return 0;
    default:
        return 0;
    }
}

static int walk_kind(struct fsck *f, enum index_key kind)
{
    uint8_t from = (uint8_t)kind, to = (uint8_t)(kind + 1);
    struct index_iter *iter;
    const void *key, *value;
    size_t key_len, len;
    int error = index_iterate(f->e->index, &from, 1, &to, 1, false, true, &iter);
    if (error < 0)
        return error;
    while ((error = index_next(f->e->index, iter, &key, &key_len, &value, &len)) > 0) {
        error = check_pair(f, key, key_len, value, len);
        if (error < 0)
            break;
    }
    f->e->index->ops->iter_free(iter);
    return error;
}

/* ---- Comparing the counts ---- */

static void compare_shared(struct fsck *f)
{
    const struct shared *s = RB_MIN(shared_tree, &f->e->shared);
    for (uint32_t b = f->e->allocator.first; b < f->e->allocator.n_blocks; b++) {
        while (s && s->block + s->count <= b)
            s = RB_NEXT(shared_tree, &f->e->shared, (struct shared *)(uintptr_t)s);
        bool said = s && s->block <= b;
        f->report->shared_blocks += said;
        if (said && f->mapped[b] != s->refs)
            found(f, true, "block %u is said to have %u references and has %u", b, s->refs,
                  f->mapped[b]);
        else if (!said && f->mapped[b] > 1)
            found(f, true, "block %u has %u references and is not recorded as shared", b,
                  f->mapped[b]);
        else
            continue;
        f->fix_shared = true;
    }
}

/* ---- Repair ---- */

/* All records of shared blocks anew, from what was counted. */
static void rebuild_shared(struct fsck *f)
{
    const uint8_t from = KEY_SHARED, to = KEY_SHARED + 1;
    uint32_t n, end = f->e->allocator.n_blocks;
    index_batch_remove_range(&f->fixes, &from, 1, &to, 1);
    for (uint32_t b = f->e->allocator.first; b < end; b += n) {
        n = 1;
        if (f->mapped[b] < 2)
            continue;
        while (b + n < end && f->mapped[b + n] == f->mapped[b])
            n++;
        struct shared_layout value = {.count = n, .refs = f->mapped[b]};
        uint8_t key[5] = {KEY_SHARED};
        uint32_t be = htobe32(b);
        memcpy(key + 1, &be, sizeof be);
        index_batch_put(&f->fixes, key, sizeof key, &value, sizeof value);
    }
}

/* True when the chunk did not know of all that it shares. */
static bool mark_shared(const struct fsck *f, struct chunk *c)
{
    uint32_t before = c->shared;
    for (uint32_t i = 0; i < CHUNK_BLOCKS; i++)
        if (c->block[i] != BLOCK_NONE && f->mapped[c->block[i]] > 1)
            c->shared |= UINT32_C(1) << i;
    return c->shared != before;
}

static void fix_object(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                       size_t len)
{
    struct onode o = {0};
    struct fsck_object *object;
    struct encoder fixed;
    encoder_init(&o.attrs);
    encoder_init(&fixed);
    if (object_decode(value, len, f->e->allocator.n_blocks, &o) == 0) {
        HASH_FIND(hh, f->objects, &o.nid, sizeof o.nid, object);
        bool changed = o.n_chunks > 0 && mark_shared(f, o.chunks[0]);
        if (object && object->has_map) {
            o.flags |= OBJECT_HAS_OMAP;
            changed = true;
        }
        onode_encode(&o, &fixed);
        if (changed)
            index_batch_put(&f->fixes, key, key_len, fixed.data, fixed.len);
        f->fixes.failed |= fixed.failed;
    }
    for (uint32_t i = 0; i < o.n_chunks; i++)
        free(o.chunks[i]);
    free(o.chunks);
    encoder_fini(&o.attrs);
    encoder_fini(&fixed);
}

static void fix_chunk(struct fsck *f, const uint8_t *key, size_t key_len, const void *value,
                      size_t len)
{
    struct chunk chunk;
    struct decoder d;
    struct encoder fixed;
    decoder_init(&d, value, len);
    if (!object_of(f, key, key_len) || chunk_decode(&d, f->e->allocator.n_blocks, &chunk) < 0 ||
        !mark_shared(f, &chunk))
        return;
    encoder_init(&fixed);
    chunk_encode(&chunk, &fixed);
    index_batch_put(&f->fixes, key, key_len, fixed.data, fixed.len);
    f->fixes.failed |= fixed.failed;
    encoder_fini(&fixed);
}

static void fix_state(struct fsck *f)
{
    uint8_t key = KEY_STATE;
    f->e->next_nid = f->next_nid;
    struct state_layout state = {.record = f->e->record - 1, .next_nid = f->next_nid};
    index_batch_put(&f->fixes, &key, 1, &state, sizeof state);
}

static void compare_pools(struct fsck *f)
{
    struct pool_stat *counted, *said, *next;
    HASH_ITER(hh, f->e->pools, said, next)
    (void)counted_pool(f, said->pool);
    HASH_ITER(hh, f->pools, counted, next)
    {
        said = engine_pool(f->e, counted->pool);
        if (said->value.objects == counted->value.objects &&
            said->value.bytes == counted->value.bytes &&
            said->value.blocks == counted->value.blocks)
            continue;
        found(f, true, "pool %llu is said to hold %llu objects, %llu bytes; it holds %llu, %llu",
              (unsigned long long)counted->pool, (unsigned long long)said->value.objects,
              (unsigned long long)said->value.bytes, (unsigned long long)counted->value.objects,
              (unsigned long long)counted->value.bytes);
        uint8_t key[9] = {KEY_POOL};
        uint64_t pool = htobe64(counted->pool);
        memcpy(key + 1, &pool, 8);
        index_batch_put(&f->fixes, key, sizeof key, &counted->value, sizeof counted->value);
    }
}

/* How scattered the free space is. */
static void count_free(struct fsck *f)
{
    uint64_t run = 0;
    for (uint32_t b = f->e->allocator.first; b < f->e->allocator.n_blocks; b++) {
        if (f->mapped[b] > 0) {
            run = 0;
            continue;
        }
        f->report->free_blocks++;
        if (run == 0)
            f->report->free_runs++;
        if (++run > f->report->free_longest)
            f->report->free_longest = run;
    }
}

static void compare_allocator(struct fsck *f)
{
    if (!(f->e->super.flags & SUPER_CLEAN))
        return;
    if (engine_load_allocator(f->e) < 0)
        found(f, true, "the stored allocator is damaged");
    for (uint32_t b = f->e->allocator.first; b < f->e->allocator.n_blocks; b++)
        if (allocator_is_used(&f->e->allocator, b) != (f->mapped[b] > 0)) {
            found(f, true, "block %u is %s and the stored allocator says otherwise", b,
                  f->mapped[b] > 0 ? "mapped" : "free");
            return; /* One says it all: the state is derived anew after a repair. */
        }
}

static int load_names(struct fsck *f)
{
    int error = f->e->super.flags & SUPER_CLEAN ? names_load_any(f->e) : 0;
    if (error != -ELIMPET_CORRUPT)
        return error;
    found(f, true, "the stored filter of names is damaged");
    return 0;
}

static int repair(struct fsck *f)
{
    int error = 0;
    if (!f->options->repair)
        return 0;
    if (f->fix_shared)
        rebuild_shared(f);
    if (f->fix_state)
        fix_state(f);
    f->fixing = true;
    if (f->fix_objects)
        error = walk_kind(f, KEY_OBJECT);
    if (f->fix_objects && error == 0)
        error = walk_kind(f, KEY_CHUNK);
    if (error < 0)
        return error;
    error = f->fixes.failed ? -ENOMEM : index_apply(f->e->index, &f->fixes);
    if (error == 0)
        error = f->e->index->ops->flush(f->e->index);
    return error;
}

static void fsck_fini(struct fsck *f)
{
    struct fsck_object *object, *next_object;
    struct pool_stat *pool, *next_pool;
    HASH_ITER(hh, f->objects, object, next_object)
    {
        HASH_DEL(f->objects, object);
        free(object);
    }
    HASH_ITER(hh, f->pools, pool, next_pool)
    {
        HASH_DEL(f->pools, pool);
        free(pool);
    }
    free(f->mapped);
    encoder_fini(&f->fixes);
    mount_io_fini(&f->io);
}

int engine_fsck(struct env *env, struct disk *disk, struct index *index,
                const struct fsck_options *options, struct fsck_report *report, char why[256])
{
    static const enum index_key order[] = {KEY_SHARED, KEY_POOL,        KEY_OBJECT, KEY_CHUNK,
                                           KEY_OMAP,   KEY_OMAP_HEADER, KEY_PG};
    struct fsck f = {.options = options, .report = report};
    memset(report, 0, sizeof *report);
    why[0] = 0;
    f.e = engine_prepare(env, disk, index, &(struct engine_options){0});
    if (!f.e)
        return -ENOMEM;
    encoder_init(&f.fixes);
    int error = mount_io_init(&f.io, disk);
    if (error == 0)
        error = engine_mount_journal(f.e, &f.io, why);
    if (error == 0) {
        f.next_nid = f.e->next_nid;
        f.mapped = calloc(f.e->allocator.n_blocks, sizeof *f.mapped);
        error = f.mapped ? 0 : -ENOMEM;
    }
    if (error == 0)
        error = load_names(&f);
    for (size_t i = 0; error == 0 && i < sizeof order / sizeof order[0]; i++)
        error = walk_kind(&f, order[i]);
    if (error == 0) {
        compare_shared(&f);
        compare_pools(&f);
        compare_allocator(&f);
        count_free(&f);
        error = f.short_of_memory || f.e->failed ? -ENOMEM : repair(&f);
    }
    if (error == 0)
        error = engine_mount_begin(f.e, &f.io, options->repair);
    if (error < 0 && why[0] == 0)
        snprintf(why, 256, "the check could not be finished: %s", error_text(error));
    fsck_fini(&f);
    engine_abandon(&f.e->store);
    return error;
}
