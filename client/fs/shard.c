#include "client/fs/shard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "common/fs_method.h"
#include "common/method_names.h"

enum {
    BUCKETS_FROM = 32, /* Records: fewer are found as fast without. */
    BUCKETS_FIRST = 64,
};

struct shard_record {
    RB_ENTRY(shard_record) tree;
    TAILQ_ENTRY(shard_record) link; /* Of those that are dirty. */
    bool dirty;
    bool stored;  /* A batch has had it. */
    bool removed; /* And one has to remove it. */
    bool grows;
    bool told; /* Of an inode: somebody may keep what it says. */
    uint16_t key_len;
    uint32_t len;
    uint32_t hash;
    struct shard_record *same; /* The next one in its bucket. */
    const uint8_t *key;
    uint8_t bytes[]; /* Key, value. */
};

static int compare(const struct shard_record *a, const struct shard_record *b)
{
    size_t len = a->key_len < b->key_len ? a->key_len : b->key_len;
    int order = memcmp(a->key, b->key, len);
    return order != 0 ? order : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

/* As RB_GENERATE_STATIC, which needs a name that libbsd leaves to its users to define. */
RB_GENERATE_INTERNAL(shard_records, shard_record, tree, compare, static __attribute__((unused)))

struct fs_shard_cache *shard_create(uint64_t home, bool stored)
{
    struct fs_shard_cache *shard = calloc(1, sizeof *shard);
    if (shard == NULL)
        return NULL;
    shard->home = home;
    shard->exists = shard->stored = stored;
    RB_INIT(&shard->records);
    TAILQ_INIT(&shard->dirty);
    return shard;
}

/* ---- Records ---- */

static struct shard_record *record_create(const void *key, size_t key_len, const void *value,
                                          size_t len)
{
    struct shard_record *record = malloc(sizeof *record + key_len + len);
    if (record == NULL)
        return NULL;
    *record = (struct shard_record){.key_len = (uint16_t)key_len, .len = (uint32_t)len};
    record->key = record->bytes;
    memcpy(record->bytes, key, key_len);
    if (len > 0)
        memcpy(record->bytes + key_len, value, len);
    return record;
}

static size_t size_of(const struct shard_record *record)
{
    return sizeof *record + record->key_len + record->len;
}

static void clean(struct fs_shard_cache *shard, struct shard_record *record)
{
    if (!record->dirty)
        return;
    TAILQ_REMOVE(&shard->dirty, record, link);
    record->dirty = false;
    shard->n_dirty--;
    shard->dirty_bytes -= size_of(record);
}

static void soil(struct fs_shard_cache *shard, struct shard_record *record)
{
    if (record->dirty)
        return;
    TAILQ_INSERT_TAIL(&shard->dirty, record, link);
    record->dirty = true;
    shard->n_dirty++;
    shard->dirty_bytes += size_of(record);
}

static uint32_t hash_of(const void *key, size_t len)
{
    uint32_t hash;
    HASH_VALUE(key, len, hash);
    return hash;
}

static struct shard_record **bucket_of(const struct fs_shard_cache *shard, uint32_t hash)
{
    return &shard->buckets[hash & (shard->n_buckets - 1)];
}

static void put_in_bucket(struct fs_shard_cache *shard, struct shard_record *record)
{
    struct shard_record **bucket = bucket_of(shard, record->hash);
    record->same = *bucket;
    *bucket = record;
}

static void take_from_bucket(struct fs_shard_cache *shard, const struct shard_record *record)
{
    struct shard_record **at = bucket_of(shard, record->hash);
    while (*at != record)
        at = &(*at)->same;
    *at = record->same;
}

/* As many buckets as records; without memory for them it goes on with what it has. */
static void grow_buckets(struct fs_shard_cache *shard)
{
    size_t n = shard->n_buckets > 0 ? 2 * shard->n_buckets : BUCKETS_FIRST;
    struct shard_record **buckets = calloc(n, sizeof(struct shard_record *));
    struct shard_record *record;
    if (buckets == NULL)
        return;
    free(shard->buckets);
    shard->bytes += (n - shard->n_buckets) * sizeof(struct shard_record *);
    shard->buckets = buckets;
    shard->n_buckets = n;
    RB_FOREACH(record, shard_records, &shard->records)
    put_in_bucket(shard, record);
}

static void insert(struct fs_shard_cache *shard, struct shard_record *record)
{
    RB_INSERT(shard_records, &shard->records, record);
    record->hash = hash_of(record->key, record->key_len);
    if (shard->buckets != NULL)
        put_in_bucket(shard, record);
    shard->bytes += size_of(record);
    shard->n_told += record->told;
    if (++shard->n >= (shard->n_buckets > 0 ? shard->n_buckets : BUCKETS_FROM))
        grow_buckets(shard);
}

static void forget(struct fs_shard_cache *shard, struct shard_record *record)
{
    clean(shard, record);
    RB_REMOVE(shard_records, &shard->records, record);
    if (shard->buckets != NULL)
        take_from_bucket(shard, record);
    shard->bytes -= size_of(record);
    shard->n_told -= record->told;
    shard->n--;
    free(record);
}

void shard_free(struct fs_shard_cache *shard)
{
    struct shard_record *record;
    if (shard == NULL)
        return;
    while ((record = RB_MIN(shard_records, &shard->records)) != NULL)
        forget(shard, record);
    free(shard->buckets);
    free(shard);
}

/* The first one from a key on that is there. */
static struct shard_record *find_from(const struct fs_shard_cache *shard, const void *key,
                                      size_t len)
{
    struct shard_record probe = {.key = key, .key_len = (uint16_t)len};
    struct shard_records *records = (struct shard_records *)&shard->records;
    struct shard_record *record = RB_NFIND(shard_records, records, &probe);
    while (record != NULL && record->removed)
        record = RB_NEXT(shard_records, records, record);
    return record;
}

static struct shard_record *find(const struct fs_shard_cache *shard, const void *key, size_t len)
{
    struct shard_record probe = {.key = key, .key_len = (uint16_t)len};
    if (shard->buckets == NULL)
        return RB_FIND(shard_records, (struct shard_records *)&shard->records, &probe);
    uint32_t hash = hash_of(key, len);
    struct shard_record *record = *bucket_of(shard, hash);
    while (record != NULL && (record->hash != hash || compare(record, &probe) != 0))
        record = record->same;
    return record;
}

int shard_load(struct fs_shard_cache *shard, const void *key, size_t key_len, const void *value,
               size_t len)
{
    if (key_len == 0 || key_len > FS_KEY_MAX)
        return -EIO;
    struct shard_record *record = record_create(key, key_len, value, len);
    if (record == NULL)
        return -ENOMEM;
    record->stored = true;
    if (find(shard, key, key_len) != NULL) {
        free(record);
        return -EIO;
    }
    insert(shard, record);
    return 0;
}

static const uint8_t *value_of(const struct shard_record *record)
{
    return record->bytes + record->key_len;
}

bool shard_next(const struct fs_shard_cache *shard, const void *from, size_t len, const void **key,
                size_t *key_len, const void **value, size_t *value_len)
{
    const struct shard_record *record = find_from(shard, from, len);
    if (record == NULL || record->key[0] != *(const uint8_t *)from)
        return false;
    *key = record->key;
    *key_len = record->key_len;
    *value = value_of(record);
    *value_len = record->len;
    return true;
}

static struct shard_record *find_present(const struct fs_shard_cache *shard, const void *key,
                                         size_t len)
{
    struct shard_record *record = find(shard, key, len);
    return record != NULL && !record->removed ? record : NULL;
}

bool shard_look(const struct fs_shard_cache *shard, const void *key, size_t len, const void **value,
                size_t *value_len)
{
    const struct shard_record *record = find_present(shard, key, len);
    if (record == NULL)
        return false;
    *value = value_of(record);
    *value_len = record->len;
    return true;
}

/* ---- What others keep ---- */

static struct shard_record *find_inode(const struct fs_shard_cache *shard, uint64_t ino)
{
    uint8_t key[FS_KEY_MAX];
    return find_present(shard, key, fs_index_key(key, FS_KEY_INODE, fs_index(ino)));
}

bool shard_tell(struct fs_shard_cache *shard, uint64_t ino)
{
    struct shard_record *record = find_inode(shard, ino);
    if (record == NULL)
        return false;
    shard->n_told += !record->told;
    record->told = true;
    return true;
}

bool shard_is_told(const struct fs_shard_cache *shard, uint64_t ino)
{
    const struct shard_record *record = find_inode(shard, ino);
    return record != NULL && record->told;
}

void shard_untell(struct fs_shard_cache *shard, void (*each)(void *arg, uint64_t ino), void *arg)
{
    const uint8_t first = FS_KEY_INODE;
    struct shard_record *record = shard->n_told > 0 ? find_from(shard, &first, 1) : NULL;
    uint32_t index;
    for (; record != NULL && record->key[0] == FS_KEY_INODE;
         record = RB_NEXT(shard_records, &shard->records, record)) {
        if (record->told && !record->removed &&
            fs_index_key_decode(record->key, record->key_len, FS_KEY_INODE, &index) == 0)
            each(arg, fs_ino(shard->home, index));
        shard->n_told -= record->told;
        record->told = false;
    }
}

bool shard_has_stored(const struct fs_shard_cache *shard, const void *key, size_t len)
{
    const struct shard_record *record = find(shard, key, len);
    return record != NULL && record->stored;
}

/* ---- A method's run ---- */

/* What it changes is done at its end, when nothing can fail any more. */
struct change {
    STAILQ_ENTRY(change) link;
    struct shard_record *set; /* NULL: keys from `from` to `to` go; without any, everything. */
    const uint8_t *from, *to;
    size_t from_len, to_len;
};

struct memory {
    STAILQ_ENTRY(memory) link;
    max_align_t bytes[];
};

STAILQ_HEAD(changes, change);
STAILQ_HEAD(memories, memory);

struct run {
    struct fs_shard_cache *shard;
    struct shard_record *last; /* That run_next() has found. */
    struct changes changes;
    struct memories memory;
};

static struct run *run_of(struct fs_method_call *call)
{
    return call->shard;
}

static void *run_alloc(struct fs_method_call *call, size_t len)
{
    struct memory *memory = malloc(sizeof *memory + (len > 0 ? len : 1));
    if (memory == NULL) {
        call->failed = -ENOMEM;
        return NULL;
    }
    STAILQ_INSERT_HEAD(&run_of(call)->memory, memory, link);
    return memory->bytes;
}

/* It is ours alone. */
static int run_may(struct fs_method_call *call, bool unseen)
{
    (void)call, (void)unseen;
    return 0;
}

static int run_look(struct fs_method_call *call, const void *key, size_t len, struct fs_span *out)
{
    const struct shard_record *record = find_present(run_of(call)->shard, key, len);
    if (record == NULL)
        return -ENODATA;
    *out = fs_span_of(value_of(record), record->len);
    return 0;
}

/* From the key on that comes right after the last one, in order. */
static bool follows_last(const struct run *run, const uint8_t *from, size_t len)
{
    const struct shard_record *last = run->last;
    return last != NULL && len == last->key_len + 1u && from[len - 1] == 0 &&
           memcmp(from, last->key, last->key_len) == 0;
}

static int run_next(struct fs_method_call *call, const void *from, size_t len, uint32_t max,
                    struct fs_span *key, struct fs_span *value)
{
    struct run *run = run_of(call);
    struct shard_record *record = run->last;
    (void)max;
    if (follows_last(run, from, len)) {
        do
            record = RB_NEXT(shard_records, &run->shard->records, record);
        while (record != NULL && record->removed);
    } else {
        record = find_from(run->shard, from, len);
    }
    run->last = record;
    if (record == NULL)
        return -ENODATA;
    *key = fs_span_of(record->key, record->key_len);
    *value = fs_span_of(value_of(record), record->len);
    return 0;
}

static struct change *add_change(struct fs_method_call *call)
{
    struct change *change = run_alloc(call, sizeof *change);
    if (change == NULL)
        return NULL;
    memset(change, 0, sizeof *change);
    STAILQ_INSERT_TAIL(&run_of(call)->changes, change, link);
    return change;
}

static void run_set(struct fs_method_call *call, const void *key, size_t key_len, const void *value,
                    size_t len)
{
    struct change *change = add_change(call);
    if (change == NULL)
        return;
    change->set = record_create(key, key_len, value, len);
    if (change->set == NULL)
        call->failed = -ENOMEM;
}

static void run_remove(struct fs_method_call *call, const void *from, size_t from_len,
                       const void *to, size_t to_len)
{
    struct change *change = add_change(call);
    if (change == NULL)
        return;
    change->from = from;
    change->from_len = from_len;
    change->to = to;
    change->to_len = to_len;
}

static void run_remove_all(struct fs_method_call *call)
{
    (void)add_change(call);
}

static void put_record(struct fs_shard_cache *shard, struct shard_record *record, bool grows)
{
    struct shard_record *old = find(shard, record->key, record->key_len);
    record->grows = grows;
    if (old != NULL) {
        record->stored = old->stored;
        record->told = old->told && !old->removed;
        record->grows |= old->dirty && !old->removed && old->grows;
        forget(shard, old);
    }
    insert(shard, record);
    soil(shard, record);
}

static void drop_record(struct fs_shard_cache *shard, struct shard_record *record)
{
    if (!record->stored) {
        forget(shard, record);
        return;
    }
    soil(shard, record);
    record->removed = true;
    record->grows = false;
}

static bool is_before(const struct shard_record *record, const uint8_t *key, size_t len)
{
    struct shard_record probe = {.key = key, .key_len = (uint16_t)len};
    return compare(record, &probe) < 0;
}

static void drop_range(struct fs_shard_cache *shard, const struct change *change)
{
    struct shard_record *record = find_from(shard, change->from, change->from_len);
    while (record != NULL && is_before(record, change->to, change->to_len)) {
        struct shard_record *next = RB_NEXT(shard_records, &shard->records, record);
        if (!record->removed)
            drop_record(shard, record);
        record = next;
    }
}

static void drop_all(struct fs_shard_cache *shard)
{
    struct shard_record *record;
    while ((record = RB_MIN(shard_records, &shard->records)) != NULL)
        forget(shard, record);
    shard->exists = false;
}

static void do_changes(struct run *run, bool grows)
{
    const struct change *change;
    for (change = STAILQ_FIRST(&run->changes); change != NULL; change = STAILQ_NEXT(change, link)) {
        if (change->set != NULL)
            put_record(run->shard, change->set, grows);
        else if (change->from != NULL)
            drop_range(run->shard, change);
        else
            drop_all(run->shard);
        if (change->set != NULL)
            run->shard->exists = true;
    }
}

static void run_end(struct run *run, bool done)
{
    const struct change *change;
    struct memory *memory;
    for (change = STAILQ_FIRST(&run->changes); change != NULL; change = STAILQ_NEXT(change, link)) {
        if (!done)
            free(change->set);
    }
    while ((memory = STAILQ_FIRST(&run->memory)) != NULL) {
        STAILQ_REMOVE_HEAD(&run->memory, link);
        free(memory);
    }
}

int shard_run(struct fs_shard_cache *shard, const char *method, uint64_t caller, int64_t now_ns,
              const void *input, size_t len, struct encoder *out, bool *changed)
{
    static const struct fs_records records = {run_may,    run_look,       run_next, run_set,
                                              run_remove, run_remove_all, run_alloc};
    struct run run = {.shard = shard};
    struct fs_method_call call = {
        .records = &records,
        .shard = &run,
        .caller = caller,
        .now_ns = now_ns,
        .writes = method_writes(method, strlen(method)),
        .exists = shard->exists,
    };
    fs_method_run run_method = fs_method_find(method);
    *changed = false;
    if (run_method == NULL)
        return -EOPNOTSUPP;
    STAILQ_INIT(&run.changes);
    STAILQ_INIT(&run.memory);
    decoder_init(&call.input, input, len);
    call.output = *out;
    int error = run_method(&call);
    *out = call.output;
    if (error == 0 && (call.failed != 0 || out->failed))
        error = -ENOMEM;
    if (error == 0) {
        do_changes(&run, call.grows);
        *changed = !STAILQ_EMPTY(&run.changes);
    }
    run_end(&run, error == 0);
    return error;
}

/* ---- Batches ---- */

int shard_take(struct fs_shard_cache *shard, struct encoder *out)
{
    struct shard_record *record;
    for (record = TAILQ_FIRST(&shard->dirty); record != NULL; record = TAILQ_NEXT(record, link)) {
        struct fs_change change = {.removed = record->removed,
                                   .grows = record->grows,
                                   .key = record->key,
                                   .key_len = record->key_len,
                                   .value = value_of(record),
                                   .len = record->len};
        fs_change_encode(out, &change);
    }
    if (out->failed)
        return -ENOMEM;
    while ((record = TAILQ_FIRST(&shard->dirty)) != NULL) {
        clean(shard, record);
        record->stored = true;
        record->grows = false;
        if (record->removed)
            forget(shard, record);
    }
    shard->stored = true;
    return 0;
}
