/*
 * Locks of files, which their shards keep. One that has to wait stands in a list, and is asked for
 * again when some client tells that it has given one of this file back (a notify of the object
 * "super"), and from time to time, since whoever has it may have died.
 *
 * K1  Locks of a client that is no longer known are removed only after it was blocked.
 * K2  Of an inode's locks the OSD has no more for a client than its owners have, but for what is on
 *     its way to be given back: after a loss the client tells what it has (fs.keeplocks), and its
 *     own requests for locks of that inode wait.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/lease.h"
#include "common/planted.h"

enum { NOTIFY_MS = 3000 };

struct held_key {
    uint64_t ino, owner;
};

/* Who may have a lock. */
struct fs_held {
    struct held_key key;
    UT_hash_handle hh;
};

/* What the OSD has to be told of: the locks of an inode as they were when something was lost. */
struct fs_unkept {
    uint64_t ino;
    void *locks; /* A record; NULL: there are none. */
    size_t len;
    bool asked, again; /* It is on its way; what it says is not the last word. */
    struct fs_asks parked;
    UT_hash_handle hh;
};

static void lock_ask(struct fs_call *call);

/* ---- Who has locks here ---- */

static struct held_key key_of(const struct fs_call *call)
{
    return (struct held_key){call->rq.ino, call->rq.owner};
}

static int held_add(struct limpet_fs *fs, struct held_key key)
{
    struct fs_held *held;
    pthread_mutex_lock(&fs->lock);
    HASH_FIND(hh, fs->held, &key, sizeof key, held);
    if (held == NULL && (held = calloc(1, sizeof *held)) != NULL) {
        held->key = key;
        HASH_ADD(hh, fs->held, key, sizeof held->key, held);
    }
    pthread_mutex_unlock(&fs->lock);
    return held != NULL ? 0 : -ENOMEM;
}

static bool held_take(struct limpet_fs *fs, struct held_key key)
{
    struct fs_held *held;
    pthread_mutex_lock(&fs->lock);
    HASH_FIND(hh, fs->held, &key, sizeof key, held);
    if (held != NULL)
        HASH_DEL(fs->held, held);
    pthread_mutex_unlock(&fs->lock);
    free(held);
    return held != NULL;
}

void lock_free_all(struct limpet_fs *fs)
{
    struct fs_held *held, *next;
    struct fs_unkept *unkept, *later;
    HASH_ITER(hh, fs->unkept, unkept, later)
    {
        assert(STAILQ_EMPTY(&unkept->parked));
        HASH_DEL(fs->unkept, unkept);
        free(unkept->locks);
        free(unkept);
    }
    HASH_ITER(hh, fs->held, held, next)
    {
        HASH_DEL(fs->held, held);
        free(held);
    }
}

/* ---- Asking ---- */

static struct fs_request request_of(const struct fs_call *call)
{
    unsigned flags = call->rq.flags;
    return (struct fs_request){.ino = call->rq.ino,
                               .offset = call->rq.offset,
                               .len = call->rq.len,
                               .expect = call->rq.owner,
                               .expect_to = call->rq.pid,
                               .type = flags & LIMPET_FS_LOCK_EXCLUSIVE ? FS_LOCK_EXCLUSIVE
                                       : flags & LIMPET_FS_LOCK_SHARED  ? FS_LOCK_SHARED
                                                                        : 0,
                               .flags = (flags & LIMPET_FS_WHOLE ? FS_WHOLE : 0) |
                                        (flags & LIMPET_FS_WAITS ? FS_WAITS : 0)};
}

static void lock_end(struct fs_call *call, int rc)
{
    pthread_mutex_lock(&call->fs->lock);
    TAILQ_REMOVE(&call->fs->locks, call, lock_link);
    pthread_mutex_unlock(&call->fs->lock);
    call_end(call, rc);
}

int lock_holder(struct limpet_fs *fs, const struct fs_request *rq, struct fs_lock *out)
{
    struct fs_locks *found = malloc(sizeof *found);
    void *raw = NULL;
    size_t len = 0;
    int rc = -ENOMEM;
    *out = (struct fs_lock){0};
    if (found != NULL)
        rc = fs_method_raw(fs, fs_home(rq->ino), "fs.getlock", rq, NULL, 0, &raw, &len);
    if (rc == 0 && fs_locks_decode(raw, len, found) != 0)
        rc = -EIO;
    if (rc == 0 && found->n > 0)
        *out = found->list[0];
    limpet_free(raw);
    free(found);
    return rc;
}

/* K1 */
static int remove_dead(struct limpet_fs *fs, uint64_t ino, uint64_t instance)
{
    struct fs_request rq = {.ino = ino, .flags = FS_UNDO, .tx = {instance, 1}};
    int rc = move_block(fs, instance);
    return rc == 0 ? fs_method(fs, fs_home(ino), "fs.lock", &rq, NULL) : rc;
}

void lock_refused(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_lock holder;
    const struct fs_request rq = request_of(call);
    int rc = lock_holder(fs, &rq, &holder);
    bool again = rc == 0 && holder.instance == 0;
    if (rc == 0 && !again && !move_client_lives(fs, holder.instance)) {
        rc = remove_dead(fs, call->rq.ino, holder.instance);
        again = rc == 0;
    }
    if (rc == 0 && !again && !(call->rq.flags & LIMPET_FS_WAITS))
        rc = -EAGAIN;
    if (rc == 0 && !again && deadlock_found(call, holder.instance, holder.owner))
        rc = -EDEADLK;
    pthread_mutex_lock(&fs->lock);
    if (rc == 0 && call->cancelled)
        rc = -EINTR;
    if (rc == 0 && fs->lost)
        rc = -EIO;
    again |= call->woken;
    call->waiting = rc == 0 && !again;
    pthread_mutex_unlock(&fs->lock);
    if (rc != 0)
        lock_end(call, rc);
    else if (again)
        lock_ask(call);
}

struct tell {
    struct limpet_op *op;
    struct limpet_answers *answers;
};

static void tell_free(struct tell *tell)
{
    limpet_answers_destroy(tell->answers);
    if (tell->op != NULL)
        limpet_op_destroy(tell->op);
    free(tell);
}

static void others_told(struct limpet_completion *completion, void *arg)
{
    limpet_completion_release(completion);
    tell_free(arg);
}

static int tell_submit(struct limpet_fs *fs, struct tell *tell, const struct encoder *message)
{
    struct limpet_completion *completion;
    tell->op = limpet_op_create();
    if (tell->op == NULL || message->failed)
        return -ENOMEM;
    int rc =
        limpet_op_notify(tell->op, message->data, message->len, NOTIFY_MS, &tell->answers, NULL);
    if (rc == 0)
        rc = limpet_completion_create(others_told, tell, &completion);
    if (rc != 0)
        return rc;
    rc = limpet_aio_operate(fs->pool, FS_SUPER, completion, tell->op);
    if (rc != 0)
        limpet_completion_release(completion);
    return rc;
}

/* Something was given back for which somebody waits. Who does not hear of it asks again later. */
static void tell_others(struct limpet_fs *fs, uint64_t ino)
{
    struct encoder e;
    struct tell *tell = calloc(1, sizeof *tell);
    encoder_init(&e);
    encode_u8(&e, FS_NOTIFY_UNLOCKED);
    encode_u64(&e, ino);
    if (tell != NULL && tell_submit(fs, tell, &e) != 0)
        tell_free(tell);
    encoder_fini(&e);
    lock_unlocked(fs, ino);
}

/* Others may have it, too. */
static bool is_worthless(const struct fs_call *call)
{
    pthread_mutex_lock(&call->fs->lock);
    bool lost = call->fs->lost;
    pthread_mutex_unlock(&call->fs->lock);
    return lost && call->rq.flags & (LIMPET_FS_LOCK_SHARED | LIMPET_FS_LOCK_EXCLUSIVE);
}

static void lock_answered(struct fs_call *call, int rc, const struct fs_answer *answer,
                          const void *raw, size_t len)
{
    (void)raw, (void)len;
    if (rc == 0 && answer->flags & FS_EXISTED) {
        call_work(call);
        return;
    }
    if (rc == 0 && answer->flags & FS_DROPPED)
        tell_others(call->fs, call->rq.ino);
    lock_end(call, rc == -ENOENT ? -ESTALE : rc == 0 && is_worthless(call) ? -EIO : rc);
}

static void lock_ask(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_request rq = request_of(call);
    pthread_mutex_lock(&fs->lock);
    call->woken = false;
    pthread_mutex_unlock(&fs->lock);
    fs_ask(call, fs_home(rq.ino), "fs.lock", &rq, NULL, 0, lock_answered);
}

static void lock_begin(struct fs_call *call)
{
    pthread_mutex_lock(&call->fs->lock);
    TAILQ_INSERT_TAIL(&call->fs->locks, call, lock_link);
    pthread_mutex_unlock(&call->fs->lock);
    lock_ask(call);
}

void lock_set(struct fs_call *call)
{
    unsigned type = call->rq.flags & (LIMPET_FS_LOCK_SHARED | LIMPET_FS_LOCK_EXCLUSIVE);
    int rc = call->rq.offset > FS_SIZE_MAX ? -EINVAL : 0;
    if (rc == 0 && type != 0)
        rc = held_add(call->fs, key_of(call));
    if (rc != 0)
        call_end(call, rc);
    else
        lock_begin(call);
}

void lock_unset_all(struct fs_call *call)
{
    if (!held_take(call->fs, key_of(call))) {
        call_end(call, 0);
        return;
    }
    call->rq.offset = call->rq.len = 0;
    call->rq.flags &= LIMPET_FS_WHOLE;
    lock_begin(call);
}

static void got_lock(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                     size_t len)
{
    struct fs_locks *found = malloc(sizeof *found);
    (void)answer;
    if (rc == 0 && found == NULL)
        rc = -ENOMEM;
    if (rc == 0 && fs_locks_decode(raw, len, found) != 0)
        rc = -EIO;
    if (rc == 0 && found->n == 0)
        rc = -ENOENT;
    if (rc == 0) {
        const struct fs_lock *lock = &found->list[0];
        call->result.lock = (struct limpet_fs_lock){
            .start = lock->start,
            .len = lock->end == FS_SIZE_MAX ? 0 : lock->end - lock->start + 1,
            .exclusive = lock->exclusive,
            .pid = lock->pid,
        };
    }
    free(found);
    call_end(call, rc);
}

void lock_get(struct fs_call *call)
{
    struct fs_request rq = request_of(call);
    fs_ask(call, fs_home(rq.ino), "fs.getlock", &rq, NULL, 0, got_lock);
}

/* ---- After a loss: K2 ---- */

static struct fs_unkept *find_unkept(const struct limpet_fs *fs, uint64_t ino)
{
    struct fs_unkept *unkept;
    HASH_FIND(hh, fs->unkept, &ino, sizeof ino, unkept);
    return unkept;
}

static void kept(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                 size_t len);

/* With the lock. If there is no memory for it now, there is later. */
static void keep_ask(struct limpet_fs *fs, struct fs_unkept *unkept)
{
    const struct fs_request rq = {.ino = unkept->ino};
    /* At the end of a client its locks are those of a dead one, and nobody waits for an answer. */
    if (fs->stopping)
        return;
    struct fs_ask *ask =
        ask_create(fs, fs_home(unkept->ino), "fs.keeplocks", &rq, unkept->locks, unkept->len, kept);
    if (ask == NULL)
        return;
    ask->call->rq.ino = unkept->ino;
    ask->parked = true; /* A worker begins it. */
    unkept->asked = true;
    unkept->again = false;
    fs->calls++;
    STAILQ_INSERT_TAIL(&fs->refused, ask, link);
    pthread_cond_broadcast(&fs->changed);
}

/* With the lock. Those that have waited for it go on. */
static void keep_end(struct limpet_fs *fs, struct fs_unkept *unkept)
{
    HASH_DEL(fs->unkept, unkept);
    STAILQ_CONCAT(&fs->refused, &unkept->parked);
    pthread_cond_broadcast(&fs->changed);
    free(unkept->locks);
    free(unkept);
}

/* What an OSD cannot do, now or ever, is no reason to wait on: locks of the dead are K1's. */
static bool may_be_repeated(int rc)
{
    return rc == -ETIMEDOUT || rc == -ENOMEM || rc == -FS_LEASED;
}

static void kept(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                 size_t len)
{
    struct limpet_fs *fs = call->fs;
    uint64_t ino = call->rq.ino;
    (void)raw, (void)len;
    free(call);
    if (rc == 0 && answer->flags & FS_DROPPED)
        tell_others(fs, ino);
    pthread_mutex_lock(&fs->lock);
    struct fs_unkept *unkept = find_unkept(fs, ino);
    unkept->asked = false;
    if (unkept->again)
        keep_ask(fs, unkept);
    else if (!may_be_repeated(rc))
        keep_end(fs, unkept);
    if (--fs->calls == 0)
        pthread_cond_broadcast(&fs->idle);
    pthread_mutex_unlock(&fs->lock);
}

/* With the lock: a copy of the record as it is in memory, if there is one. */
static int copy_locks(const struct fs_shard_cache *shard, uint32_t index, void **out,
                      size_t *out_len)
{
    uint8_t from[FS_KEY_MAX];
    const void *key, *value;
    size_t key_len, len, size = fs_index_key(from, FS_KEY_LOCKS, index);
    *out = NULL;
    *out_len = 0;
    if (!shard_next(shard, from, size, &key, &key_len, &value, &len) || key_len != size ||
        memcmp(key, from, size) != 0)
        return 0;
    *out = malloc(len);
    if (*out == NULL)
        return -ENOMEM;
    memcpy(*out, value, len);
    *out_len = len;
    return 0;
}

/* With the lock. Without memory for it, they stay at the OSD as long as this client is there. */
static void keep(struct fs_lease *lease, uint32_t index)
{
    struct limpet_fs *fs = lease->fs;
    uint64_t ino = fs_ino(lease->home, index);
    struct fs_unkept *unkept = find_unkept(fs, ino), *added = NULL;
    void *locks;
    size_t len;
    if (unkept == NULL)
        unkept = added = calloc(1, sizeof *unkept);
    if (unkept == NULL || copy_locks(lease->shard, index, &locks, &len) != 0) {
        free(added);
        return;
    }
    if (added != NULL) {
        added->ino = ino;
        STAILQ_INIT(&added->parked);
        HASH_ADD(hh, fs->unkept, ino, sizeof added->ino, added);
    }
    free(unkept->locks);
    unkept->locks = locks;
    unkept->len = len;
    unkept->again = true;
    if (!unkept->asked)
        keep_ask(fs, unkept);
}

void lock_lost(struct fs_lease *lease)
{
    size_t n = lease->n_lost_locks;
    lease->n_lost_locks = 0;
    if (lease->fs->stopping || planted(PLANTED_FS_LOCKS_LEFT))
        return;
    for (size_t i = 0; i < n; i++)
        keep(lease, lease->lost_locks[i]);
}

bool lock_is_unkept(const struct limpet_fs *fs, uint64_t ino)
{
    return find_unkept(fs, ino) != NULL;
}

bool lock_park(struct fs_ask *ask)
{
    struct fs_unkept *unkept;
    struct limpet_fs *fs = ask->call->fs;
    if (fs->unkept == NULL ||
        (strcmp(ask->method, "fs.lock") != 0 && strcmp(ask->method, "fs.getlock") != 0))
        return false;
    unkept = find_unkept(fs, ask->call->rq.ino);
    if (unkept == NULL)
        return false;
    ask->parked = true;
    STAILQ_INSERT_TAIL(&unkept->parked, ask, link);
    return true;
}

bool lock_is_uncertain(struct limpet_fs *fs)
{
    return fs->unkept != NULL || lease_any_is_lost(fs);
}

/* With the lock. */
static void keep_again(struct limpet_fs *fs)
{
    struct fs_unkept *unkept, *next;
    HASH_ITER(hh, fs->unkept, unkept, next)
    {
        if (!unkept->asked)
            keep_ask(fs, unkept);
    }
}

/* ---- Waking ---- */

/* Those that wait for this file, or all of them (0), are asked for again. */
static void wake(struct limpet_fs *fs, uint64_t ino)
{
    struct fs_calls woken;
    struct fs_call *call;
    STAILQ_INIT(&woken);
    pthread_mutex_lock(&fs->lock);
    for (call = TAILQ_FIRST(&fs->locks); call != NULL; call = TAILQ_NEXT(call, lock_link)) {
        if (ino != 0 && call->rq.ino != ino)
            continue;
        if (call->waiting)
            STAILQ_INSERT_TAIL(&woken, call, link);
        call->woken = true;
        call->waiting = false;
    }
    pthread_mutex_unlock(&fs->lock);
    while ((call = STAILQ_FIRST(&woken)) != NULL) {
        STAILQ_REMOVE_HEAD(&woken, link);
        lock_ask(call);
    }
}

void lock_unlocked(struct limpet_fs *fs, uint64_t ino)
{
    wake(fs, ino);
}

void lock_tick(struct limpet_fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    keep_again(fs);
    pthread_mutex_unlock(&fs->lock);
    wake(fs, 0);
}

void limpet_fs_cancel(struct limpet_fs *fs, void *arg)
{
    struct fs_call *call;
    pthread_mutex_lock(&fs->lock);
    for (call = TAILQ_FIRST(&fs->locks); call != NULL; call = TAILQ_NEXT(call, lock_link)) {
        if (call->arg == arg)
            break;
    }
    bool waits = call != NULL && call->waiting;
    if (call != NULL)
        call->cancelled = true;
    if (waits)
        call->waiting = false;
    pthread_mutex_unlock(&fs->lock);
    if (waits)
        lock_end(call, -EINTR);
}
