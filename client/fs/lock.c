/*
 * Locks of files, which their shards keep. One that has to wait stands in a list, and is asked for
 * again when some client tells that it has given one of this file back (a notify of the object
 * "super"), and from time to time, since whoever has it may have died.
 *
 * K1  Locks of a client that is no longer known are removed only after it was blocked.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/fs.h"

enum { NOTIFY_MS = 3000 };

struct held_key {
    uint64_t ino, owner;
};

/* Who may have a lock. */
struct fs_held {
    struct held_key key;
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
