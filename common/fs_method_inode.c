/* Inodes: their attributes, size, and their end. */
#include "common/fs_method.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

int fs_method_getattr(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_inode inode;
    int error = fs_begin(call, &job);
    if (!error)
        error = fs_look_inode(&job, job.rq.ino, &inode);
    return error ? error : fs_end_with(&job, &inode);
}

/* ---- Attributes ---- */

/* Where data lie beyond a size, somebody must remove them before the file grows again. */
static bool has_data_beyond(const struct fs_inode *inode, uint64_t size)
{
    if (inode->n_ranges == 0)
        return false;
    uint64_t sets = inode->ranges[inode->n_ranges - 1].last / inode->layout.stripes + 1;
    return sets * fs_set_bytes(&inode->layout) > size;
}

static int set_size(struct fs_job *job, struct fs_inode *inode)
{
    uint64_t size = job->rq.inode.size;
    if (!S_ISREG(inode->mode))
        return S_ISDIR(inode->mode) ? -EISDIR : -EINVAL;
    if (inode->busy.instance != 0 && !fs_txid_equal(inode->busy, job->rq.tx))
        return -FS_MOVING;
    if (size < inode->size && has_data_beyond(inode, size)) {
        if (job->rq.tx.instance == 0)
            return -EINVAL;
        inode->busy = job->rq.tx;
    }
    inode->size = size;
    inode->mtime_ns = job->now_ns;
    return 0;
}

static void trimmed(const struct fs_job *job, struct fs_inode *inode)
{
    if (!fs_txid_equal(inode->busy, job->rq.tx))
        return;
    fs_ranges_cut(inode, fs_objects_end(&inode->layout, inode->size));
    inode->busy = (struct fs_txid){0, 0};
}

static void set_times(const struct fs_job *job, struct fs_inode *inode)
{
    const struct fs_request *rq = &job->rq;
    if (rq->set & FS_SET_ATIME)
        inode->atime_ns = rq->inode.atime_ns;
    if (rq->set & FS_SET_ATIME_NOW)
        inode->atime_ns = job->now_ns;
    if (rq->set & FS_SET_MTIME)
        inode->mtime_ns = rq->inode.mtime_ns;
    if (rq->set & FS_SET_MTIME_NOW)
        inode->mtime_ns = job->now_ns;
}

static void set_owner_and_mode(const struct fs_job *job, struct fs_inode *inode)
{
    const struct fs_request *rq = &job->rq;
    if (rq->set & FS_SET_MODE)
        inode->mode = (inode->mode & S_IFMT) | (rq->inode.mode & 07777);
    if (rq->set & FS_SET_UID)
        inode->uid = rq->inode.uid;
    if (rq->set & FS_SET_GID)
        inode->gid = rq->inode.gid;
    if (rq->set & FS_SET_PARENT)
        inode->parent = rq->inode.parent;
}

int fs_method_setattr(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_inode inode;
    int error = fs_begin(call, &job);
    if (!error && job.rq.set & ~(unsigned)(FS_SET_TRIMMED | FS_SET_CTIME) &&
        job.rq.inode.layout.order == 0)
        error = -EINVAL;
    if (!error)
        error = fs_look_inode(&job, job.rq.ino, &inode);
    if (!error && job.rq.set & FS_SET_SIZE)
        error = set_size(&job, &inode);
    if (error)
        return error;
    bool grows = job.call->grows;
    set_owner_and_mode(&job, &inode);
    error = job.rq.set & FS_SET_MODE ? fs_follow_mode(&job, &inode) : 0;
    if (error)
        return error;
    set_times(&job, &inode);
    if (job.rq.set == FS_SET_TRIMMED)
        trimmed(&job, &inode);
    else
        fs_touch(&job, &inode);
    fs_put_inode(&job, fs_index(inode.ino), &inode);
    job.call->grows = grows; /* It takes no more room than it took before. */
    return fs_end_with(&job, &inode);
}

/*
 * Bytes are being written: size and times, and where data may be. FS_APPEND: at the end, which is
 * told. The size stays as it is when `expect` is 1. FS_SET_MTIME: they were written at the times
 * that are given. FS_BEHIND: who has the shard's exclusive lease says, by `tx`, that bytes of its
 * may lie beyond the size, or with `expect_to` 1 that none do any more. Should it die, what does is
 * cut off like what a truncation has left.
 */
int fs_method_wrote(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_inode inode;
    int error = fs_begin(call, &job);
    if (!error)
        error = fs_look_inode(&job, job.rq.ino, &inode);
    if (error)
        return error;
    if (!S_ISREG(inode.mode))
        return -EINVAL;
    uint64_t at = job.rq.flags & FS_APPEND ? inode.size : job.rq.offset;
    uint64_t end = at + job.rq.len;
    if (end > FS_SIZE_MAX)
        return -EFBIG;
    bool keeps = job.rq.expect == 1, behind = job.rq.flags & FS_BEHIND;
    if (behind && inode.busy.instance != 0 && !fs_txid_equal(inode.busy, job.rq.tx))
        return -FS_MOVING;
    if (!behind && inode.busy.instance != 0 &&
        ((!keeps && end > inode.size) || job.rq.flags & FS_APPEND))
        return -FS_MOVING;
    if (job.rq.len > 0 && !(job.rq.set & FS_SET_SIZE)) {
        uint64_t first, last;
        fs_objects_of(&inode.layout, at, job.rq.len, &first, &last);
        fs_ranges_add(&inode, first, last);
    }
    if (!keeps && end > inode.size)
        inode.size = end;
    if (behind)
        inode.busy = job.rq.expect_to == 1 ? (struct fs_txid){0, 0} : job.rq.tx;
    if (job.rq.flags & FS_KILL_PRIV)
        inode.mode &= ~(unsigned)(S_ISUID | (inode.mode & S_IXGRP ? S_ISGID : 0));
    int64_t ctime_ns = inode.ctime_ns;
    if (!behind)
        inode.mtime_ns = job.now_ns;
    fs_touch(&job, &inode);
    if (behind)
        inode.ctime_ns = ctime_ns; /* Making room is no write. */
    if (job.rq.set & FS_SET_MTIME) {
        inode.mtime_ns = job.rq.inode.mtime_ns;
        inode.ctime_ns = job.rq.inode.ctime_ns;
    }
    fs_put_inode(&job, fs_index(inode.ino), &inode);
    job.answer.offset = at;
    return fs_end_with(&job, &inode);
}

/*
 * How contents are cut into objects: of a directory, those of what is made in it from now on; of a
 * file as long as it is empty (-ENOTEMPTY). What is on its way to the file, and does not know of
 * this yet, goes to objects of other names.
 */
int fs_method_layout(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_inode inode;
    int error = fs_begin(call, &job);
    if (!error && job.rq.inode.layout.order == 0)
        error = -EINVAL;
    if (!error)
        error = fs_look_inode(&job, job.rq.ino, &inode);
    if (error)
        return error;
    if (!S_ISREG(inode.mode) && !S_ISDIR(inode.mode))
        return -EINVAL;
    if (S_ISREG(inode.mode) && inode.busy.instance != 0)
        return -FS_MOVING;
    if (S_ISREG(inode.mode) && inode.size > 0)
        return -ENOTEMPTY;
    if (S_ISREG(inode.mode) && inode.relaid == FS_RELAID_MAX)
        return -EMLINK;
    inode.layout = job.rq.inode.layout;
    if (S_ISREG(inode.mode))
        inode.relaid++;
    inode.n_ranges = 0;
    fs_touch(&job, &inode);
    fs_put_inode(&job, fs_index(inode.ino), &inode);
    return fs_end_with(&job, &inode);
}

/* ---- The end ---- */

static int remove_attributes(struct fs_job *job, uint32_t index)
{
    uint8_t *from = fs_alloc(job->call, FS_KEY_MAX), *to = fs_alloc(job->call, FS_KEY_MAX);
    if (!from || !to)
        return -ENOMEM;
    size_t len = fs_xattr_key(from, index, NULL, 0);
    fs_xattr_key(to, index, NULL, 0);
    /* 24 bits, of which the last key of all is never in use: births stay below. */
    for (int i = 3; ++to[i] == 0 && i > 0; i--)
        continue;
    fs_remove(job->call, from, (uint16_t)len, to, (uint16_t)len);
    return 0;
}

/* All that there is of an inode. */
static int remove_records(struct fs_job *job, const struct fs_inode *inode)
{
    uint32_t index = fs_index(inode->ino);
    int error = inode->attributes != 0 ? remove_attributes(job, index) : 0;
    if (error)
        return error;
    fs_remove_index(job, FS_KEY_INODE, index);
    fs_remove_index(job, FS_KEY_ORPHAN, index);
    fs_remove_index(job, FS_KEY_LOCKS, index);
    return 0;
}

/* An inode without links whose data are gone. */
int fs_method_purge(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_inode inode;
    int error = fs_begin_unseen(call, &job);
    if (!error)
        error = fs_look_dir(&job);
    if (!error)
        error = fs_look_inode(&job, job.rq.ino, &inode);
    if (error)
        return error == -ESTALE || error == -ENOENT ? fs_end(&job) : error;
    if (job.dir.dying)
        job.answer.flags = FS_EXISTED;
    if (inode.links > 0 || fs_is_dir(job.rq.ino))
        return -FS_CHANGED;
    error = remove_records(&job, &inode);
    return error ? error : fs_end(&job);
}

enum fate { DONE, GOES, STAYS };

/* What is to become of an inode that nobody has open. */
static int look_fate(struct fs_job *job, uint64_t ino, struct fs_inode *inode, enum fate *out)
{
    int error = fs_look_inode(job, ino, inode);
    *out = DONE;
    if (error)
        return error == -ESTALE ? 0 : error;
    bool has_contents = inode->n_ranges > 0 && !(job->rq.flags & FS_EMPTIED);
    if (inode->links == 0 && !fs_is_dir(ino))
        *out = has_contents ? STAYS : GOES;
    return 0;
}

/*
 * Purges many at once, of the shard that `ino` is of: the bytes behind the request are their
 * indexes, u32 each. `offset` of the answer says which of them, by their places in the list, stay:
 * those that still have contents, unless FS_EMPTIED says that these are gone. What is gone already,
 * or has links, is let alone.
 */
int fs_method_reap(struct fs_method_call *call)
{
    struct fs_job job;
    enum fate fates[FS_REAP_MAX];
    bool missed = false;
    int error = fs_begin_unseen(call, &job);
    if (error)
        return error;
    uint32_t n = job.data.len / 4;
    struct fs_inode *inodes = fs_alloc(call, (n + 1) * sizeof *inodes);
    if (job.data.len % 4 != 0 || n == 0 || n > FS_REAP_MAX)
        return -EINVAL;
    if (!inodes)
        return -ENOMEM;
    error = fs_look_dir(&job);
    if (error)
        return error == -ESTALE || error == -ENOENT ? fs_end(&job) : error;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t index;
        memcpy(&index, job.data.data + 4 * (size_t)i, sizeof index);
        if (index >= 1u << FS_INDEX_BITS)
            return -EINVAL;
        error = look_fate(&job, fs_ino(job.home, index), &inodes[i], &fates[i]);
        missed |= error == FS_MISS;
        if (error && error != FS_MISS)
            return error;
    }
    if (missed)
        return FS_MISS;
    job.answer.flags = job.dir.dying ? FS_EXISTED : 0;
    for (uint32_t i = 0; i < n && !error; i++) {
        if (fates[i] == GOES)
            error = remove_records(&job, &inodes[i]);
        else if (fates[i] == STAYS)
            job.answer.offset |= UINT64_C(1) << i;
    }
    return error ? error : fs_end(&job);
}
