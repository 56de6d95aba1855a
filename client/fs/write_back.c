/*
 * What was changed in delegated shards becomes durable, in batches: each is one operation on one
 * shard, or a request that nobody waits for. A batch has those that go after it, and the number of
 * those that it waits for.
 *
 *   open --closed: its changes are taken--> closed --wanted, waits for none--> ready --> sent -->
 * gone
 *
 * A shard that is born has a batch for that alone, closed at once; what is made in it is another
 * one's, that goes after the batch with its name (B9).
 *
 * B1 to B9 of README.md hold here.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/fs/cond.h"
#include "client/fs/lease.h"
#include "common/planted.h"

enum {
    SENDING_MAX = 64,
    SENDING_SHARE = 4,    /* Of the memory of records. */
    SEARCH_MAX = 256,     /* Batches that are looked at for a circle. */
    RECORDS_MAX = 4096,   /* Of a batch. */
    BYTES_MAX = 1 << 20,  /* Of one. */
    CHANGES_MAX = 100000, /* Before everything is written back at once. */
    CHAIN_MAX = 256,      /* Batches that go one after the other, */
    CHAIN_MS = 2500,      /* and how long they may take, by those that have gone. */
    AGE_MS = 3500,        /* Of the oldest one, before no more go after it. */
};

/* What is older than 5 s is durable, as long as the OSDs take it. */
static_assert(FS_DELAY_MS + CHAIN_MS <= 5000, "batches are begun too late, or take too long");

struct fs_batch {
    TAILQ_ENTRY(fs_batch) link, ready_link;
    struct limpet_fs *fs;
    struct fs_lease *lease; /* NULL: it is a request. */
    struct fs_ask *ask;
    uint64_t number;
    uint64_t since_ns, ready_ns;
    uint64_t first; /* Numbers of operations with steps in it are not less. */
    unsigned waiting, refs;
    uint64_t level; /* Higher than those of the batches that it goes after. */
    struct fs_batch **after;
    size_t n_after, capacity;
    bool closed, wanted, queued, ended;
    bool named; /* B9: it goes after its shard's name. */
    int error;  /* Something that it depends on was lost. */
    bool born, gone;
    struct encoder changes;
    uint64_t counted; /* Of their bytes. */
    struct limpet_op *op;
    void *out;
    size_t out_len;
};

/* The operation of each thread. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t orders;

static void make_key(void)
{
    int rc = pthread_key_create(&orders, NULL);
    assert(rc == 0);
}

static struct fs_order *order_now(void)
{
    pthread_once(&once, make_key);
    return pthread_getspecific(orders);
}

static void order_set(const struct fs_order *order)
{
    pthread_once(&once, make_key);
    int rc = pthread_setspecific(orders, order);
    assert(rc == 0);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- Batches ---- */

static void unref(struct fs_batch *batch)
{
    if (batch == NULL || --batch->refs > 0)
        return;
    lease_count(batch->fs, 0, batch->counted);
    encoder_fini(&batch->changes);
    free(batch->after);
    free(batch);
}

static void enqueue_if_ready(struct fs_batch *batch)
{
    bool waits = batch->waiting > 0 && !planted(PLANTED_FS_OUT_OF_ORDER);
    if (!batch->closed || !batch->wanted || waits || batch->queued || batch->ended)
        return;
    batch->queued = true;
    batch->ready_ns = now_ns();
    TAILQ_INSERT_TAIL(&batch->fs->ready, batch, ready_link);
}

static bool reaches(const struct fs_batch *from, const struct fs_batch *to, unsigned *left)
{
    for (size_t i = 0; i < from->n_after; i++) {
        if (from->after[i] == to || *left == 0)
            return true;
        --*left;
        if (reaches(from->after[i], to, left))
            return true;
    }
    return false;
}

/* Whether `second` cannot go after `first`. Too many to look at count as a circle. */
static bool makes_circle(const struct fs_batch *first, const struct fs_batch *second)
{
    unsigned left = SEARCH_MAX;
    return second->n_after > 0 && first->waiting > 0 && reaches(second, first, &left);
}

static int add_edge(struct fs_batch *first, struct fs_batch *second)
{
    if (first->ended || first == second ||
        (first->n_after > 0 && first->after[first->n_after - 1] == second))
        return 0;
    if (first->n_after == first->capacity) {
        size_t capacity = first->capacity > 0 ? 2 * first->capacity : 2;
        struct fs_batch **after = realloc(first->after, capacity * sizeof(struct fs_batch *));
        if (after == NULL)
            return -ENOMEM;
        first->after = after;
        first->capacity = capacity;
    }
    first->after[first->n_after++] = second;
    if (second->level <= first->level)
        second->level = first->level + 1;
    if (second->level > second->fs->last_level)
        second->fs->last_level = second->level;
    second->refs++;
    second->waiting++;
    return 0;
}

/* Of the operations under way, and of all that come. */
static uint64_t first_operation(const struct limpet_fs *fs)
{
    uint64_t first = fs->sequence + 1;
    const struct fs_order *order;
    LIST_FOREACH(order, &fs->orders, link)
    {
        /* cppcheck-suppress uninitvar */
        first = order->first < first ? order->first : first;
    }
    return first;
}

static struct fs_batch *batch_create(struct limpet_fs *fs)
{
    struct fs_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL)
        return NULL;
    encoder_init(&batch->changes);
    batch->fs = fs;
    batch->refs = 1;
    batch->number = ++fs->last_batch;
    batch->since_ns = now_ns();
    batch->first = first_operation(fs);
    if (TAILQ_EMPTY(&fs->batches))
        fs->last_level = 0;
    else
        batch->level = TAILQ_FIRST(&fs->batches)->level;
    if (fs->dirty_since_ns == 0) {
        fs->dirty_since_ns = batch->since_ns;
        pthread_cond_broadcast(&fs->written);
    }
    TAILQ_INSERT_TAIL(&fs->batches, batch, link);
    return batch;
}

void write_back_note_error(struct limpet_fs *fs, uint64_t home, int error)
{
    unsigned i = 0;
    while (i < fs->n_errors && fs->errors[i].home != home)
        i++;
    if (i == FS_ERRORS_MAX)
        fs->errors[i - 1].any = true;
    else if (i == fs->n_errors)
        fs->errors[fs->n_errors++] = (struct fs_error){.home = home, .error = error};
}

/* For whoever has a file open, and for the shard's directory. */
static void note_error(struct limpet_fs *fs, uint64_t home, int error)
{
    struct fs_file *file;
    fs->losses++;
    if (planted(PLANTED_FS_LOSS_UNTOLD))
        return;
    for (unsigned bucket = 0; bucket < FS_OPEN_BUCKETS; bucket++) {
        for (file = LIST_FIRST(&fs->files[bucket]); file != NULL; file = LIST_NEXT(file, link)) {
            if (fs_home(file->ino) == home && file->error == 0)
                file->error = error;
        }
    }
    write_back_note_error(fs, home, error);
}

/* What was lost may have been the name of a directory: then also all that is below it. */
static void fail(struct fs_lease *lease, int error)
{
    struct limpet_fs *fs = lease->fs;
    const struct fs_lease *below, *next;
    note_error(fs, lease->home, error);
    HASH_ITER(hh, fs->leases, below, next)
    {
        if (below != lease && lease_is_covered(below, lease->home))
            note_error(fs, below->home, error);
    }
    lease->failed = error;
    lease->recalled = true;
    pthread_cond_broadcast(&fs->lease_changed);
}

/* ---- Shards that nobody finds (B10) ---- */

static void unfound_drop(struct limpet_fs *fs, unsigned i)
{
    unref(fs->unfound[i].name);
    fs->n_unfound--;
    memmove(fs->unfound + i, fs->unfound + i + 1, (fs->n_unfound - i) * sizeof fs->unfound[0]);
}

static void unfound_add(struct limpet_fs *fs, uint64_t home, struct fs_batch *name)
{
    if (fs->n_unfound == FS_UNFOUND_MAX)
        unfound_drop(fs, 0);
    if (name != NULL)
        name->refs++;
    fs->unfound[fs->n_unfound++] = (struct fs_unfound){.home = home, .name = name};
}

void unfound_note(struct fs_lease *lease)
{
    if (write_back_has_no_name(lease))
        unfound_add(lease->fs, lease->home, lease->name->ended ? NULL : lease->name);
}

static unsigned unfound_find(const struct limpet_fs *fs, uint64_t home)
{
    unsigned i = 0;
    while (i < fs->n_unfound && fs->unfound[i].home != home)
        i++;
    return i;
}

bool unfound_is_gone(const struct limpet_fs *fs, uint64_t home)
{
    unsigned i = unfound_find(fs, home);
    return i < fs->n_unfound && fs->unfound[i].gone;
}

void unfound_end(struct limpet_fs *fs, uint64_t home)
{
    unsigned i = unfound_find(fs, home);
    if (i < fs->n_unfound) {
        fs->unfound[i].gone = true;
        fs->gones++;
    }
}

void unfound_met(struct limpet_fs *fs, uint64_t ino, uint64_t gones)
{
    if (gones == 0)
        return;
    pthread_mutex_lock(&fs->lock);
    if (gones == fs->gones && ino == fs_ino(fs_home(ino), FS_INDEX_DIR) &&
        unfound_is_gone(fs, fs_home(ino)))
        move_met(fs, ino);
    pthread_mutex_unlock(&fs->lock);
}

bool unfound_has(struct limpet_fs *fs, uint64_t home)
{
    unsigned i = unfound_find(fs, home);
    if (i == fs->n_unfound)
        return false;
    const struct fs_batch *name = fs->unfound[i].name;
    bool lost = name == NULL || (name->ended && name->error != 0);
    if (!lost && name->ended)
        unfound_drop(fs, i); /* It is durable. */
    return lost && !planted(PLANTED_FS_UNFOUND_USED);
}

void unfound_forget(struct limpet_fs *fs, uint64_t home)
{
    for (unsigned i = fs->n_unfound; i-- > 0;) {
        if (fs->unfound[i].home == home)
            unfound_drop(fs, i);
    }
}

void unfound_clear(struct limpet_fs *fs)
{
    while (fs->n_unfound > 0)
        unfound_drop(fs, fs->n_unfound - 1);
}

/* Its changes are its own: what comes now is another one's. */
static void batch_close(struct fs_batch *batch)
{
    struct fs_lease *lease = batch->lease;
    if (batch->closed)
        return;
    batch->closed = true;
    if (lease == NULL)
        return;
    lease->open = NULL;
    batch->born = !lease->shard->stored;
    batch->gone = !lease->shard->exists;
    if (!batch->gone && shard_take(lease->shard, &batch->changes) != 0) {
        batch->error = -ENOMEM;
        fail(lease, -ENOMEM);
    }
    batch->counted = batch->changes.len;
    lease_count(batch->fs, batch->counted, 0);
}

static int compare_inos(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Numbers of those that have got a name there, in their order. NULL: there are none. */
static uint64_t *named_in(const struct encoder *changes, size_t *n)
{
    uint64_t *inos = NULL;
    size_t max = 0;
    struct decoder d;
    struct fs_change change;
    struct fs_entry entry;
    *n = 0;
    decoder_init(&d, changes->data, changes->len);
    while (fs_change_next(&d, &change) == 0) {
        if (change.removed || change.key_len == 0 || change.key[0] != FS_KEY_ENTRY ||
            fs_entry_decode(change.value, change.len, &entry) != 0)
            continue;
        if (*n == max) {
            max = 2 * max + 16;
            uint64_t *more = realloc(inos, max * sizeof *inos);
            if (more == NULL)
                break;
            inos = more;
        }
        inos[(*n)++] = entry.ino;
    }
    if (inos != NULL)
        qsort(inos, *n, sizeof *inos, compare_inos);
    return inos;
}

/*
 * B6: of closed files, those whose records are in a batch that was lost. If a name was lost as
 * well, it is likely that there is no such file: its directory is told.
 */
static void note_files(struct limpet_fs *fs, const struct fs_batch *batch, int error)
{
    size_t n;
    struct decoder d;
    struct fs_change change;
    uint32_t index;
    if (batch->lease == NULL)
        return;
    uint64_t *named = named_in(&batch->changes, &n);
    decoder_init(&d, batch->changes.data, batch->changes.len);
    while (fs_change_next(&d, &change) == 0) {
        if (change.removed ||
            fs_index_key_decode(change.key, change.key_len, FS_KEY_INODE, &index) != 0 ||
            index == FS_INDEX_DIR)
            continue;
        uint64_t ino = fs_ino(batch->lease->home, index);
        if (named == NULL || bsearch(&ino, named, n, sizeof ino, compare_inos) == NULL)
            file_lost(fs, ino, error);
    }
    free(named);
}

void write_back_abandon(struct limpet_fs *fs, struct limpet_fs *heir)
{
    struct fs_lease *lease, *next;
    struct fs_batch *batch;
    HASH_ITER(hh, fs->leases, lease, next)
    {
        if (lease->batches > 0)
            fail(lease, -EIO);
        if (write_back_has_no_name(lease))
            unfound_add(heir, lease->home, NULL);
    }
    TAILQ_FOREACH(batch, &fs->batches, link)
    {
        /* cppcheck-suppress uninitvar */
        batch_close(batch);
        note_files(heir, batch, -EIO);
    }
    for (unsigned i = 0; i < fs->n_unfound; i++) {
        const struct fs_batch *name = fs->unfound[i].name;
        if (name == NULL || !name->ended || name->error != 0)
            unfound_add(heir, fs->unfound[i].home, NULL);
        if (fs->unfound[i].gone)
            unfound_end(heir, fs->unfound[i].home);
    }
    memcpy(heir->errors, fs->errors, sizeof heir->errors);
    heir->n_errors = fs->n_errors;
}

static struct fs_batch *batch_open(struct fs_lease *lease)
{
    if (lease->open != NULL)
        return lease->open;
    struct fs_batch *batch = batch_create(lease->fs);
    if (batch == NULL)
        return NULL;
    batch->lease = lease;
    batch->error = lease->failed;
    if (lease->last != NULL && add_edge(lease->last, batch) != 0) {
        batch->error = -ENOMEM;
        fail(lease, -ENOMEM);
    }
    lease->open = lease->last = batch;
    lease->batches++;
    return batch;
}

/* K2: whose locks are in a batch that was lost. */
static void note_locks(struct fs_lease *lease, const struct encoder *changes)
{
    struct decoder d;
    struct fs_change change;
    uint32_t index;
    decoder_init(&d, changes->data, changes->len);
    while (fs_change_next(&d, &change) == 0) {
        if (fs_index_key_decode(change.key, change.key_len, FS_KEY_LOCKS, &index) != 0)
            continue;
        if (lease->n_lost_locks == lease->max_lost_locks) {
            size_t max = 2 * lease->max_lost_locks + 4;
            uint32_t *list = realloc(lease->lost_locks, max * sizeof *list);
            if (list == NULL)
                return; /* They stay at the OSD as long as this client is there. */
            lease->lost_locks = list;
            lease->max_lost_locks = max;
        }
        lease->lost_locks[lease->n_lost_locks++] = index;
    }
}

static void end_syncs(struct limpet_fs *fs);

/* It is durable, or lost. Those after it go on. */
static void batch_end(struct fs_batch *batch, int error)
{
    struct limpet_fs *fs = batch->fs;
    struct fs_lease *lease = batch->lease;
    batch->ended = true;
    batch->error = error;
    TAILQ_REMOVE(&fs->batches, batch, link);
    if (lease != NULL && lease->birth == batch)
        lease->birth = NULL;
    if (error != 0 && lease != NULL) {
        note_locks(lease, &batch->changes);
        fail(lease, error);
        note_files(fs, batch, error);
    }
    if (lease != NULL) {
        lease->batches--;
        if (lease->last == batch)
            lease->last = NULL;
        if (lease->open == batch)
            lease->open = NULL;
        lease_settle(lease);
    }
    for (size_t i = 0; i < batch->n_after; i++) {
        struct fs_batch *next = batch->after[i];
        next->waiting--;
        if (error != 0 && next->error == 0) {
            next->error = error;
            if (next->lease != NULL)
                fail(next->lease, error);
        }
        enqueue_if_ready(next);
        unref(next);
    }
    batch->n_after = 0;
    pthread_cond_broadcast(&fs->written);
    unref(batch);
}

/* ---- Sending ---- */

static void pump(struct limpet_fs *fs);

/* With the lock. How long one takes: that they are slower is believed sooner than the contrary. */
static void learn_time(struct limpet_fs *fs, uint64_t taken_ns)
{
    if (taken_ns > fs->batch_ns)
        fs->batch_ns += (taken_ns - fs->batch_ns) / 2;
    else
        fs->batch_ns -= (fs->batch_ns - taken_ns) / 8;
}

static void batch_came(struct fs_batch *batch, int rc)
{
    struct limpet_fs *fs = batch->fs;
    pthread_mutex_lock(&fs->lock);
    learn_time(fs, now_ns() - batch->ready_ns);
    fs->n_sending--;
    fs->sending_bytes -= batch->counted;
    batch_end(batch, rc);
    pump(fs);
    pthread_mutex_unlock(&fs->lock);
    end_syncs(fs);
}

static void applied(struct limpet_completion *completion, void *arg)
{
    struct fs_batch *batch = arg;
    int rc = (int)limpet_completion_result(completion);
    if (rc == 0)
        batch->lease->version = limpet_completion_version(completion).sequence;
    limpet_completion_release(completion);
    limpet_op_destroy(batch->op);
    limpet_free(batch->out);
    batch_came(batch, rc);
}

/* B1: a shard with a lease asserts it; nobody else has touched the object of one without. */
static int guard(struct limpet_op *op, const struct fs_batch *batch)
{
    const struct fs_lease *lease = batch->lease;
    if (planted(PLANTED_FS_UNGUARDED))
        return 0;
    if (lease->watch != NULL)
        return limpet_op_assert_lease(op, lease->watch, LIMPET_LEASE_EXCLUSIVE);
    return batch->born ? 0 : limpet_op_assert_version(op, lease->version);
}

static struct limpet_op *batch_op(struct fs_batch *batch)
{
    struct fs_request rq = {.ino = fs_ino(batch->lease->home, FS_INDEX_DIR),
                            .flags =
                                (batch->born ? FS_EXCLUSIVE : 0) | (batch->gone ? FS_UNNAMED : 0)};
    struct limpet_op *op = limpet_op_create();
    if (op == NULL)
        return NULL;
    if (guard(op, batch) != 0 ||
        call_op_add(op, "fs.apply", &rq, batch->changes.data, batch->changes.len, &batch->out,
                    &batch->out_len) != 0) {
        limpet_op_destroy(op);
        return NULL;
    }
    return op;
}

/* Without the lock. */
static void batch_send(struct fs_batch *batch)
{
    char name[FS_OBJECT_NAME_MAX];
    struct limpet_completion *completion = NULL;
    if (batch->ask != NULL) {
        ask_begin(batch->ask);
        return;
    }
    fs_shard_object(batch->lease->home, name);
    batch->op = batch_op(batch);
    int rc = batch->op != NULL ? limpet_completion_create(applied, batch, &completion) : -ENOMEM;
    if (rc == 0)
        rc = limpet_aio_operate(batch->fs->pool, name, completion, batch->op);
    if (rc == 0)
        return;
    if (completion != NULL)
        limpet_completion_release(completion);
    if (batch->op != NULL)
        limpet_op_destroy(batch->op);
    batch_came(batch, rc);
}

/* Nothing is left of a shard that was born and has gone. */
static bool is_empty(const struct fs_batch *batch)
{
    return batch->ask == NULL &&
           (batch->gone ? batch->born : batch->changes.len == 0 && !batch->born);
}

/* What is being sent takes memory more than once. */
static bool may_send(const struct limpet_fs *fs)
{
    return fs->n_sending == 0 ||
           (fs->n_sending < SENDING_MAX && fs->sending_bytes < fs->record_max / SENDING_SHARE);
}

/* With the lock, which is released for a while. */
static void pump(struct limpet_fs *fs)
{
    struct fs_batch *batch;
    while (may_send(fs) && (batch = TAILQ_FIRST(&fs->ready)) != NULL) {
        TAILQ_REMOVE(&fs->ready, batch, ready_link);
        if (batch->error != 0 || is_empty(batch)) {
            if (batch->ask != NULL)
                ask_free(batch->ask);
            batch_end(batch, batch->error);
            continue;
        }
        fs->n_sending++;
        fs->sending_bytes += batch->counted;
        pthread_mutex_unlock(&fs->lock);
        batch_send(batch);
        pthread_mutex_lock(&fs->lock);
    }
}

void write_back_all(struct limpet_fs *fs)
{
    struct fs_batch *batch;
    fs->dirty_since_ns = 0;
    fs->n_changes = 0;
    for (batch = TAILQ_FIRST(&fs->batches); batch != NULL; batch = TAILQ_NEXT(batch, link)) {
        batch_close(batch);
        batch->wanted = true;
        enqueue_if_ready(batch);
    }
    pump(fs);
}

static bool is_written(const struct limpet_fs *fs, uint64_t number)
{
    const struct fs_batch *first = TAILQ_FIRST(&fs->batches);
    return first == NULL || first->number > number;
}

void write_back_wait(struct limpet_fs *fs)
{
    uint64_t number = fs->last_batch;
    write_back_all(fs);
    while (!is_written(fs, number))
        pthread_cond_wait(&fs->written, &fs->lock);
}

/*
 * Batches that must go one after the other take a round trip each. Steps over several shards can
 * make them faster than that: whoever begins such steps waits, lest what is not durable grow old.
 */
static bool is_late(const struct limpet_fs *fs)
{
    const struct fs_batch *first = TAILQ_FIRST(&fs->batches);
    if (first == NULL || fs->last_level <= first->level)
        return false;
    uint64_t chain = fs->last_level - first->level;
    return chain > CHAIN_MAX || chain * fs->batch_ns > CHAIN_MS * UINT64_C(1000000) ||
           now_ns() - first->since_ns > AGE_MS * UINT64_C(1000000);
}

bool write_back_is_late(struct limpet_fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    bool late = is_late(fs);
    pthread_mutex_unlock(&fs->lock);
    return late;
}

void write_back_catch_up(struct limpet_fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    while (is_late(fs)) {
        write_back_all(fs);
        if (is_late(fs))
            pthread_cond_wait(&fs->written, &fs->lock);
    }
    pthread_mutex_unlock(&fs->lock);
}

/* ---- Order ---- */

void order_begin(struct limpet_fs *fs, struct fs_order *order, bool at_once)
{
    *order = (struct fs_order){.at_once = at_once};
    pthread_mutex_lock(&fs->lock);
    order->first = fs->sequence + 1;
    LIST_INSERT_HEAD(&fs->orders, order, link);
    pthread_mutex_unlock(&fs->lock);
    order_set(order);
}

void order_end(struct limpet_fs *fs)
{
    struct fs_order *order = order_now();
    pthread_mutex_lock(&fs->lock);
    unref(order->last);
    LIST_REMOVE(order, link);
    pthread_mutex_unlock(&fs->lock);
    order_set(NULL);
}

bool order_is_begun(void)
{
    return order_now() != NULL;
}

bool order_is_over(const struct limpet_fs *fs, struct fs_txid tx)
{
    const struct fs_batch *batch;
    bool over = tx.sequence < first_operation(fs);
    TAILQ_FOREACH(batch, &fs->batches, link)
    {
        /* cppcheck-suppress uninitvar */
        over = over && tx.sequence < batch->first;
    }
    return over;
}

bool order_at_once(void)
{
    const struct fs_order *current = order_now();
    return current != NULL && current->at_once;
}

static struct fs_batch *last_step(void)
{
    const struct fs_order *current = order_now();
    return current != NULL && current->last != NULL && !current->last->ended ? current->last : NULL;
}

int order_broken(void)
{
    const struct fs_order *current = order_now();
    const struct fs_batch *last = current != NULL ? current->last : NULL;
    return last != NULL && last->ended ? last->error : 0;
}

bool order_is_pending(void)
{
    return last_step() != NULL;
}

static bool any_is_closed(const struct fs_batch *batch)
{
    for (size_t i = 0; batch != NULL && i < batch->n_after; i++) {
        if (batch->after[i]->closed)
            return true;
    }
    return false;
}

/* A born shard of which nothing was taken, nor of what names it. */
static bool is_unseen(const struct fs_lease *lease)
{
    return lease->birth != NULL && !lease->birth->wanted && !any_is_closed(lease->birth) &&
           !any_is_closed(lease->open);
}

static bool vanishes_unseen(const struct fs_lease *lease, const char *method)
{
    return strcmp(method, "fs.vanish") == 0 && is_unseen(lease);
}

/* B9: whether this makes more of a shard than an empty one that nobody finds. */
static bool needs_name(const struct fs_lease *lease, const char *method)
{
    return lease->name != NULL && strcmp(method, "fs.dying") != 0 &&
           strcmp(method, "fs.vanish") != 0;
}

/*
 * The step that one in this shard goes after. Of a directory that nobody can have seen it does not
 * matter whether it dies before its name goes: that was never there.
 */
static struct fs_batch *step_before(const struct fs_lease *lease)
{
    const struct fs_order *current = order_now();
    struct fs_batch *last = last_step();
    bool unseen = last != NULL && current->dies && last->lease != NULL && lease->open != NULL &&
                  last->lease->name == lease->open && is_unseen(last->lease);
    return unseen ? NULL : last;
}

void order_before(struct fs_lease *lease, const char *method)
{
    const struct fs_batch *last = step_before(lease);
    struct fs_batch *open = lease->open;
    if (open == NULL)
        return;
    bool full = lease->shard->n_dirty >= RECORDS_MAX || lease->shard->dirty_bytes >= BYTES_MAX;
    bool circle =
        last != NULL && last != open && makes_circle(last, open) && !vanishes_unseen(lease, method);
    if (!open->named && needs_name(lease, method))
        circle |= makes_circle(lease->name, open);
    if (full || circle)
        batch_close(open);
}

/* Its birth, and what has come since. The lease may be gone afterwards. */
static void end_unseen(struct fs_lease *lease)
{
    struct fs_batch *open = lease->open;
    batch_end(lease->birth, 0);
    if (open == NULL)
        return;
    open->closed = true;
    batch_end(open, 0);
}

/* B9 */
static int follow_name(struct fs_lease *lease, struct fs_batch *batch, const char *method)
{
    if (batch->named || !needs_name(lease, method) || planted(PLANTED_FS_NAME_LATE))
        return 0;
    batch->named = true;
    if (!lease->name->ended)
        return add_edge(lease->name, batch);
    if (lease->name->error != 0) {
        batch->error = lease->name->error;
        fail(lease, batch->error);
    }
    return 0;
}

bool write_back_has_no_name(const struct fs_lease *lease)
{
    const struct fs_batch *name = lease->name;
    return lease->born && name != NULL && (!name->ended || name->error != 0);
}

void write_back_unname(struct fs_lease *lease)
{
    unref(lease->name);
    lease->name = NULL;
}

int order_follow_name(struct limpet_fs *fs, uint64_t home)
{
    int rc = 0;
    pthread_mutex_lock(&fs->lock);
    struct fs_order *current = order_now();
    const struct fs_lease *lease = lease_find(fs, home);
    struct fs_batch *name = lease != NULL ? lease->name : NULL;
    if (name != NULL && name->ended)
        rc = name->error;
    if (name != NULL && !name->ended && current != NULL && !planted(PLANTED_FS_INTENT_EARLY)) {
        assert(last_step() == NULL);
        unref(current->last);
        current->last = name;
        name->refs++;
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

/* What is in the order's next batch names what was born in the one before. */
static void note_name(const struct fs_lease *lease, const struct fs_batch *last,
                      struct fs_batch *batch)
{
    struct fs_lease *born = last != NULL ? last->lease : NULL;
    if (born == NULL || born == lease || born->birth != last || born->name != NULL)
        return;
    born->name = batch;
    batch->refs++;
}

void order_after(struct fs_lease *lease, const char *method)
{
    struct limpet_fs *fs = lease->fs;
    struct fs_order *current = order_now();
    struct fs_batch *last = step_before(lease);
    if (!lease->shard->exists && vanishes_unseen(lease, method)) {
        end_unseen(lease);
        return;
    }
    struct fs_batch *batch = batch_open(lease);
    if (batch == NULL || (last != NULL && add_edge(last, batch) != 0) ||
        follow_name(lease, batch, method) != 0) {
        fail(lease, -ENOMEM);
        return;
    }
    note_name(lease, last, batch);
    if (current != NULL && current->last != batch) {
        unref(current->last);
        current->last = batch;
        batch->refs++;
    }
    if (current != NULL)
        current->dies = strcmp(method, "fs.dying") == 0;
    if (lease->born && !lease->shard->stored) {
        lease->birth = batch;
        batch_close(batch);
    }
    if (++fs->n_changes == CHANGES_MAX)
        pthread_cond_broadcast(&fs->written);
}

int order_wait(struct limpet_fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    int rc = order_broken();
    struct fs_batch *last = last_step();
    if (last != NULL && order_at_once())
        rc = -FS_REMOTE;
    else if (last != NULL) {
        write_back_wait(fs);
        rc = last->error;
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

static void deferred_ended(struct fs_call *call, int rc, const struct fs_answer *answer,
                           const void *raw, size_t len)
{
    struct fs_batch *batch = call->arg;
    bool unknown = rc == -ESHUTDOWN || rc == -ETIMEDOUT || rc == -EIO;
    (void)answer, (void)raw, (void)len;
    free(call);
    /* Somebody else, or a check, does it later if it cannot be done now. */
    batch_came(batch, unknown ? rc : 0);
}

bool order_defer(struct limpet_fs *fs, uint64_t home, const char *method,
                 const struct fs_request *rq)
{
    bool deferred = false;
    struct fs_ask *ask = NULL;
    pthread_mutex_lock(&fs->lock);
    struct fs_order *current = order_now();
    struct fs_batch *last = last_step(), *batch = NULL;
    if (last != NULL && !shard_buffers(fs, home))
        ask = ask_create(fs, home, method, rq, NULL, 0, deferred_ended);
    if (ask != NULL)
        batch = batch_create(fs);
    if (batch != NULL) {
        batch->ask = ask;
        batch->closed = true;
        ask->call->arg = batch;
        ask->deferred = true;
        deferred = true;
        if (add_edge(last, batch) != 0)
            batch->error = -ENOMEM;
        /* What comes next in the operation goes after it. */
        unref(current->last);
        current->last = batch;
        batch->refs++;
    } else if (ask != NULL) {
        ask_free(ask);
    }
    pthread_mutex_unlock(&fs->lock);
    return deferred;
}

/* ---- fsync ---- */

/* What was lost, once to each open file and once to the directory; 0: of anything. With the lock.
 */
static int take_error(struct limpet_fs *fs, uint64_t ino)
{
    struct fs_file *file = ino != 0 ? file_find(fs, ino, false) : NULL;
    if (file != NULL) {
        int error = behind_take_error(file);
        file_drop(fs, file);
        return error;
    }
    for (unsigned i = 0; i < fs->n_errors; i++) {
        if (ino == 0 || fs->errors[i].home == fs_home(ino) || fs->errors[i].any) {
            int error = fs->errors[i].error;
            fs->errors[i] = fs->errors[--fs->n_errors];
            return error == -ENOSPC || error == -EDQUOT || error == -ENOMEM ? error : -EIO;
        }
    }
    return 0;
}

/* Those whose batches have ended. */
static void end_syncs(struct limpet_fs *fs)
{
    struct fs_calls ended = STAILQ_HEAD_INITIALIZER(ended);
    struct fs_call *call;
    pthread_mutex_lock(&fs->lock);
    while ((call = STAILQ_FIRST(&fs->syncing)) != NULL && is_written(fs, call->until_batch)) {
        STAILQ_REMOVE_HEAD(&fs->syncing, link);
        STAILQ_INSERT_TAIL(&ended, call, link);
        call->error = take_error(fs, call->rq.ino);
    }
    pthread_mutex_unlock(&fs->lock);
    while ((call = STAILQ_FIRST(&ended)) != NULL) {
        STAILQ_REMOVE_HEAD(&ended, link);
        call_end(call, call->error);
    }
}

void sync_begin(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    pthread_mutex_lock(&fs->lock);
    call->until_batch = fs->last_batch;
    STAILQ_INSERT_TAIL(&fs->syncing, call, link);
    write_back_all(fs);
    pthread_mutex_unlock(&fs->lock);
    end_syncs(fs);
}

int shard_write_back(struct limpet_fs *fs, uint64_t home)
{
    int rc = 0;
    pthread_mutex_lock(&fs->lock);
    const struct fs_lease *lease = lease_find(fs, home);
    if (lease != NULL && lease->shard != NULL && lease->batches > 0) {
        write_back_wait(fs);
        for (unsigned i = 0; i < fs->n_errors; i++)
            rc = fs->errors[i].home == home ? fs->errors[i].error : rc;
        lease = lease_find(fs, home);
    }
    /* What was lost may have been lost while somebody else waited for it. */
    if (rc == 0 && lease != NULL)
        rc = lease->failed;
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

/* ---- The thread ---- */

static bool is_due(const struct limpet_fs *fs)
{
    return fs->dirty_since_ns != 0 &&
           (now_ns() - fs->dirty_since_ns >= (uint64_t)FS_DELAY_MS * 1000000 ||
            fs->n_changes >= CHANGES_MAX || fs->stopping);
}

static void wait_until(struct limpet_fs *fs, uint64_t since_ns)
{
    (void)cond_wait_until(&fs->written, &fs->lock,
                          since_ns + (uint64_t)FS_DELAY_MS * UINT64_C(1000000));
}

void *write_back_thread(void *arg)
{
    struct limpet_fs *fs = arg;
    pthread_mutex_lock(&fs->lock);
    for (;;) {
        if (is_due(fs))
            write_back_all(fs);
        else if (fs->stopping && TAILQ_EMPTY(&fs->batches))
            break;
        else if (fs->dirty_since_ns == 0)
            pthread_cond_wait(&fs->written, &fs->lock);
        else
            wait_until(fs, fs->dirty_since_ns);
    }
    pthread_mutex_unlock(&fs->lock);
    return NULL;
}
