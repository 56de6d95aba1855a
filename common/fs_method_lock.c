/*
 * Locks of files, of ranges (fcntl) and of whole ones (flock): a record beside the inode has those
 * that are held. Whoever has to wait is told so, and asks again when it hears that one was given
 * back; that somebody waits is remembered in the record. Locks of a client that died are removed by
 * whoever meets them, and has made sure of that; one that lives says what it has (fs.keeplocks).
 */
#include "common/fs_method.h"

#include <errno.h>
#include <string.h>

static bool overlap(const struct fs_lock *a, const struct fs_lock *b)
{
    return a->start <= b->end && b->start <= a->end;
}

static bool same_owner(const struct fs_lock *a, const struct fs_lock *b)
{
    return a->instance == b->instance && a->owner == b->owner && a->whole == b->whole;
}

static const struct fs_lock *find_conflict(const struct fs_locks *locks, const struct fs_lock *want)
{
    for (uint32_t i = 0; i < locks->n; i++) {
        const struct fs_lock *held = &locks->list[i];
        if (held->whole == want->whole && !same_owner(held, want) && overlap(held, want) &&
            (held->exclusive || want->exclusive))
            return held;
    }
    return NULL;
}

static int look_locks(struct fs_job *job, struct fs_locks **out)
{
    uint8_t key[FS_KEY_MAX] = {0};
    struct fs_span value;
    *out = fs_alloc(job->call, sizeof **out);
    if (!*out)
        return -ENOMEM;
    size_t len = fs_index_key(key, FS_KEY_LOCKS, fs_index(job->rq.ino));
    int error = fs_look(job->call, key, (uint16_t)len, &value);
    if (error == -ENODATA) {
        (*out)->n = 0;
        (*out)->waited_for = false;
        return 0;
    }
    if (error)
        return error;
    return fs_locks_decode(value.data, value.len, *out) ? -EIO : 0;
}

static int begin(struct fs_method_call *call, struct fs_job *job, struct fs_locks **locks,
                 struct fs_lock *want)
{
    struct fs_inode inode;
    int error = fs_begin_unseen(call, job);
    if (!error && fs_index(job->rq.ino) == 0)
        error = -EINVAL;
    if (error)
        return error;
    uint64_t len = job->rq.len;
    *want = (struct fs_lock){
        .instance = call->caller,
        .owner = job->rq.expect,
        .pid = (uint32_t)job->rq.expect_to,
        .start = job->rq.offset,
        .end =
            len == 0 || len > FS_SIZE_MAX - job->rq.offset ? FS_SIZE_MAX : job->rq.offset + len - 1,
        .exclusive = job->rq.type == FS_LOCK_EXCLUSIVE,
        .whole = job->rq.flags & FS_WHOLE,
    };
    error = fs_look_inode(job, job->rq.ino, &inode);
    int other = look_locks(job, locks);
    return error ? error : other;
}

static int add(struct fs_locks *locks, const struct fs_lock *lock)
{
    if (locks->n == FS_LOCKS_MAX)
        return -ENOLCK;
    locks->list[locks->n++] = *lock;
    return 0;
}

/* The owner has nothing in this range any more: what reaches out of it stays. */
static int cut(struct fs_locks *locks, const struct fs_lock *range)
{
    uint32_t n = locks->n;
    int error = 0;
    for (uint32_t i = 0; i < n && !error; i++) {
        struct fs_lock left = locks->list[i], right = left;
        if (!same_owner(&left, range) || !overlap(&left, range))
            continue;
        bool has_left = left.start<range->start, has_right = right.end> range->end;
        left.end = range->start - 1;
        right.start = range->end + 1;
        if (has_left)
            locks->list[i] = left;
        else
            locks->list[i].end = 0, locks->list[i].start = 1; /* Goes below. */
        if (has_right)
            error = add(locks, &right);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < locks->n; i++) {
        if (locks->list[i].start <= locks->list[i].end)
            locks->list[kept++] = locks->list[i];
    }
    locks->n = kept;
    return error;
}

/* Ranges of one owner and kind that touch are one, as they are for who asks for them; it is taken
 * out of the list. */
static void join(struct fs_locks *locks, struct fs_lock *lock)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < locks->n; i++) {
        const struct fs_lock *own = &locks->list[i];
        if (!same_owner(own, lock) || own->exclusive != lock->exclusive ||
            own->start > lock->end + 1 || lock->start > own->end + 1) {
            locks->list[kept++] = *own;
            continue;
        }
        lock->start = own->start < lock->start ? own->start : lock->start;
        lock->end = own->end > lock->end ? own->end : lock->end;
    }
    locks->n = kept;
}

static void forget_client(struct fs_locks *locks, uint64_t instance)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < locks->n; i++) {
        if (locks->list[i].instance != instance)
            locks->list[kept++] = locks->list[i];
    }
    locks->n = kept;
}

/* What the owner has of `lock` here, into `out`: the ranges of both, shared where one of them is.
 */
static int keep_of(const struct fs_locks *held, const struct fs_lock *lock, struct fs_locks *out)
{
    int error = 0;
    for (uint32_t i = 0; i < held->n && !error; i++) {
        const struct fs_lock *own = &held->list[i];
        struct fs_lock both = *lock;
        if (!same_owner(own, lock) || !overlap(own, lock))
            continue;
        both.start = own->start > lock->start ? own->start : lock->start;
        both.end = own->end < lock->end ? own->end : lock->end;
        both.exclusive &= own->exclusive;
        error = add(out, &both);
    }
    return error;
}

/* The caller has what stands in both lists; others have what they had. -ENOLCK: too many. */
static int keep(const struct fs_locks *locks, const struct fs_locks *held, uint64_t instance,
                struct fs_locks *out)
{
    int error = 0;
    out->n = 0;
    out->waited_for = locks->waited_for;
    for (uint32_t i = 0; i < locks->n && !error; i++) {
        const struct fs_lock *lock = &locks->list[i];
        error = lock->instance == instance ? keep_of(held, lock, out) : add(out, lock);
    }
    return error;
}

static bool same_locks(const struct fs_locks *a, const struct fs_locks *b)
{
    bool same = a->n == b->n;
    for (uint32_t i = 0; same && i < a->n; i++) {
        const struct fs_lock *x = &a->list[i], *y = &b->list[i];
        same = same_owner(x, y) && x->start == y->start && x->end == y->end &&
               x->exclusive == y->exclusive;
    }
    return same;
}

/*
 * Sets a lock, or (type 0) gives it back. FS_EXISTED in the answer: somebody has one that does not
 * agree; with FS_WAITS that is remembered. FS_DROPPED: somebody waits for what was given back.
 * FS_UNDO: all locks of the client `tx.instance` go, which is dead and blocked.
 */
int fs_method_lock(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_locks *locks;
    struct fs_lock want;
    int error = begin(call, &job, &locks, &want);
    if (error)
        return error;
    bool gives = job.rq.type == 0 || job.rq.flags & FS_UNDO, grows = job.call->grows;
    if (!gives && find_conflict(locks, &want)) {
        job.answer.flags = FS_EXISTED;
        if (!(job.rq.flags & FS_WAITS) || locks->waited_for)
            return fs_end(&job);
        locks->waited_for = true;
        fs_put_locks(&job, locks);
        return fs_end(&job);
    }
    if (job.rq.flags & FS_UNDO)
        forget_client(locks, job.rq.tx.instance);
    else
        error = cut(locks, &want);
    if (!error && !gives) {
        join(locks, &want);
        error = add(locks, &want);
    }
    if (error)
        return error;
    /* A lock that has become a shared one may be what somebody waits for, too. */
    if (locks->waited_for && (gives || !want.exclusive)) {
        job.answer.flags |= FS_DROPPED;
        locks->waited_for = false;
    }
    fs_put_locks(&job, locks);
    if (gives)
        job.call->grows = grows;
    return fs_end(&job);
}

/*
 * Data: a record of locks. What the caller has beyond those that stand there goes, and what is a
 * shared one there becomes that; none is added. FS_DROPPED: somebody waits for that.
 */
int fs_method_keeplocks(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_locks *locks;
    struct fs_lock want;
    int error = begin(call, &job, &locks, &want);
    if (error)
        return error;
    bool grows = job.call->grows;
    struct fs_locks *held = fs_alloc(call, sizeof *held), *kept = fs_alloc(call, sizeof *kept);
    if (!held || !kept)
        return -ENOMEM;
    held->n = 0;
    if (job.data.len > 0 && fs_locks_decode(job.data.data, job.data.len, held))
        return -EINVAL;
    error = keep(locks, held, call->caller, kept);
    if (error)
        return error;
    if (same_locks(locks, kept))
        return fs_end(&job);
    if (kept->waited_for) {
        job.answer.flags |= FS_DROPPED;
        kept->waited_for = false;
    }
    fs_put_locks(&job, kept);
    job.call->grows = grows;
    return fs_end(&job);
}

/* Raw: a list with the first lock that does not agree, or none; with that of the client `tx`. */
int fs_method_getlock(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_locks *locks;
    struct fs_lock want;
    int error = begin(call, &job, &locks, &want);
    if (error)
        return error;
    if (job.rq.tx.instance != 0)
        want.instance = job.rq.tx.instance;
    const struct fs_lock *held = find_conflict(locks, &want);
    struct fs_locks *found = fs_alloc(job.call, sizeof *found);
    if (!found)
        return -ENOMEM;
    found->n = 0;
    found->waited_for = false;
    if (held)
        found->list[found->n++] = *held;
    fs_locks_encode(&call->output, found);
    return call->output.failed ? -ENOMEM : 0;
}
