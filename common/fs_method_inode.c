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
    uint32_t index = fs_index(inode.ino);
    uint8_t *from = fs_alloc(job.call, FS_KEY_MAX), *to = fs_alloc(job.call, FS_KEY_MAX);
    if (!from || !to)
        return -ENOMEM;
    size_t len = fs_xattr_key(from, index, NULL, 0);
    fs_xattr_key(to, index, NULL, 0);
    /* 24 bits, of which the last key of all is never in use: births stay below. */
    for (int i = 3; ++to[i] == 0 && i > 0; i--)
        continue;
    fs_remove(job.call, from, (uint16_t)len, to, (uint16_t)len);
    fs_remove_index(&job, FS_KEY_INODE, index);
    fs_remove_index(&job, FS_KEY_ORPHAN, index);
    fs_remove_index(&job, FS_KEY_LOCKS, index);
    return fs_end(&job);
}
