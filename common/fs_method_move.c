/*
 * Parts of operations over two shards. An intent stands at the source until all has been done; a
 * mark at the target tells whoever completes it that the target's part was done.
 */
#include "common/fs_method.h"

#include <errno.h>
#include <sys/stat.h>

enum { ADD = 1, DROP = 2 };                  /* links: `type` */
enum { SETTLE_INTENT = 1, SETTLE_MARK = 2 }; /* settle: `type` */

static bool is_dir_type(uint8_t type)
{
    return type == S_IFDIR >> 12;
}

/* The entry `name` is about to move: the intent is written, and nobody else touches it. */
int fs_method_leave(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_entry entry;
    int error = fs_begin(call, &job);
    if (error)
        return error;
    const struct fs_intent *intent = &job.rq.intent;
    if (job.rq.tx.instance == 0 || !fs_bytes_equal(intent->name, job.rq.name) ||
        (intent->kind != FS_INTENT_MOVE && intent->kind != FS_INTENT_SWAP))
        return -EINVAL;
    error = fs_look_entry(&job, job.rq.name, &entry);
    if (error)
        return error == -ENODATA ? -ENOENT : error;
    if (entry.moving.instance != 0)
        return fs_txid_equal(entry.moving, job.rq.tx) ? fs_end(&job) : -FS_MOVING;
    if (entry.ino != intent->ino)
        return -FS_CHANGED;
    entry.moving = job.rq.tx;
    fs_put_entry(&job, job.rq.name, &entry);
    fs_put_intent(&job, job.rq.tx, intent);
    return fs_end(&job);
}

static void leave_entry(struct fs_job *job, const struct fs_intent *intent)
{
    struct fs_entry entry = {.ino = intent->ino, .type = intent->type};
    if (job->rq.flags & FS_UNDO) {
        fs_put_entry(job, intent->name, &entry);
        return;
    }
    if (intent->kind == FS_INTENT_SWAP) {
        entry = (struct fs_entry){.ino = intent->to_ino, .type = intent->to_type};
        fs_put_entry(job, intent->name, &entry);
    } else {
        fs_remove_entry(job, intent->name);
    }
    if (is_dir_type(intent->type) && job->dir.links > 2)
        job->dir.links--;
    if (intent->kind == FS_INTENT_SWAP && is_dir_type(intent->to_type))
        job->dir.links++;
    fs_put_dir(job);
}

/* The inode elsewhere has a link less: nothing waits for the entries any more. */
static int end_drop(struct fs_job *job, const struct fs_intent *intent)
{
    struct fs_entry entry = {0}, other = {0};
    struct fs_inode inode;
    int found = fs_look_entry(job, intent->name, &entry);
    int second = intent->to.len > 0 ? fs_look_entry(job, intent->to, &other) : -ENODATA;
    if ((found && found != -ENODATA) || (second && second != -ENODATA))
        return found && found != -ENODATA ? found : second;
    bool ours = !found && fs_txid_equal(entry.moving, job->rq.tx);
    bool moves = !second && fs_txid_equal(other.moving, job->rq.tx);
    int touched =
        moves && fs_is_local(job, other.ino) ? fs_look_inode(job, other.ino, &inode) : -ESTALE;
    if (touched && touched != -ESTALE)
        return touched;
    entry.moving = other.moving = (struct fs_txid){0, 0};
    if (moves) {
        fs_remove_entry(job, intent->to);
        fs_put_entry(job, intent->name, &other);
    } else if (ours && entry.ino == intent->ino) {
        fs_remove_entry(job, intent->name);
    } else if (ours) {
        fs_put_entry(job, intent->name, &entry);
    }
    if (!touched) {
        fs_touch(job, &inode);
        fs_put_inode(job, fs_index(inode.ino), &inode);
    }
    if (ours || moves)
        fs_put_dir(job);
    return 0;
}

/* The end of a move, or of a drop, at its source; with FS_UNDO all is as it was before the move. */
int fs_method_moved(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_intent intent;
    struct fs_entry entry;
    struct fs_inode inode;
    int error = fs_begin(call, &job);
    if (!error)
        error = fs_look_dir(&job);
    if (error)
        return error;
    error = fs_look_intent(&job, job.rq.tx, &intent);
    if (error)
        return error == -ENODATA ? fs_end(&job) : error;
    bool grows = job.call->grows, undo = job.rq.flags & FS_UNDO;
    if (intent.kind == FS_INTENT_DROP) {
        error = undo ? -EINVAL : end_drop(&job, &intent);
        fs_remove_tx(&job, FS_KEY_INTENT, job.rq.tx);
        job.call->grows = grows;
        return error ? error : fs_end(&job);
    }
    error = fs_look_entry(&job, intent.name, &entry);
    if (error && error != -ENODATA)
        return error;
    bool ours = !error && fs_txid_equal(entry.moving, job.rq.tx);
    bool local = fs_is_local(&job, intent.ino) && !undo;
    if (local) {
        error = fs_look_inode(&job, intent.ino, &inode);
        if (error && error != -ESTALE)
            return error;
        local = !error;
    }
    if (ours)
        leave_entry(&job, &intent);
    if (local) {
        fs_touch(&job, &inode);
        fs_put_inode(&job, fs_index(inode.ino), &inode);
    }
    fs_remove_tx(&job, FS_KEY_INTENT, job.rq.tx);
    job.call->grows = grows;
    return fs_end(&job);
}

/* ---- Links of an inode whose entry is elsewhere ---- */

static int change_links(struct fs_job *job, bool more, bool links)
{
    struct fs_inode inode;
    uint32_t index = fs_index(job->rq.ino);
    int error = fs_look_inode(job, job->rq.ino, &inode);
    if (error)
        return error;
    /* nameless stays: the link may be taken back. */
    if (links && (error = fs_may_link(&inode)) != 0)
        return error;
    if (more && inode.links++ == 0)
        fs_remove_index(job, FS_KEY_ORPHAN, index);
    if (!more && inode.links > 0 && --inode.links == 0) {
        fs_put_key(job, FS_KEY_ORPHAN, index);
        job->answer.flags |= FS_ORPHANED;
    }
    fs_touch(job, &inode);
    fs_put_inode(job, index, &inode);
    job->answer.flags |= FS_HAS_INODE;
    job->answer.inode = inode;
    return 0;
}

/*
 * One link more or less. With FS_INTENT as the first part of a link, whose entry comes later; that
 * and FS_UNDO takes it back. Without, as the second part of something.
 */
int fs_method_links(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_intent intent;
    int error = fs_begin(call, &job);
    if (error)
        return error;
    bool first = job.rq.flags & FS_INTENT, undo = job.rq.flags & FS_UNDO;
    bool more = job.rq.type == ADD;
    if (fs_is_dir(job.rq.ino) || job.rq.tx.instance == 0 ||
        (job.rq.type != ADD && job.rq.type != DROP) ||
        (first && (!more || (!undo && job.rq.intent.kind != FS_INTENT_LINK))))
        return -EINVAL;
    int known = first ? fs_look_intent(&job, job.rq.tx, &intent) : fs_look_mark(&job, job.rq.tx);
    if (known && known != -ENODATA)
        return known;
    if ((known == 0) != (first && undo))
        return fs_end(&job); /* It was done before. */
    bool grows = job.call->grows;
    error = change_links(&job, more != undo, first && !undo);
    if (error)
        return error;
    if (!first)
        fs_put_mark(&job, job.rq.tx);
    else if (undo)
        fs_remove_tx(&job, FS_KEY_INTENT, job.rq.tx);
    else
        fs_put_intent(&job, job.rq.tx, &job.rq.intent);
    if (!more || undo)
        job.call->grows = grows;
    return fs_end(&job);
}

int fs_method_settle(struct fs_method_call *call)
{
    struct fs_job job;
    int error = fs_begin_unseen(call, &job);
    if (error)
        return error;
    /* Whose shard may be gone by now. */
    if (!job.call->exists)
        return fs_end(&job);
    if (job.rq.type & SETTLE_INTENT)
        fs_remove_tx(&job, FS_KEY_INTENT, job.rq.tx);
    if (job.rq.type & SETTLE_MARK)
        fs_remove_tx(&job, FS_KEY_MARK, job.rq.tx);
    return fs_end(&job);
}

/* ---- Directories that go ---- */

/* From now on nothing can be made in it: -ENOTEMPTY, -FS_MOVING. FS_UNDO: it lives on. */
int fs_method_dying(struct fs_method_call *call)
{
    struct fs_job job;
    int error = fs_begin(call, &job);
    if (!error && (!fs_is_dir(job.rq.ino) || job.rq.tx.instance == 0))
        error = -EINVAL;
    if (!error)
        error = fs_look_dir(&job);
    if (error)
        return error;
    bool undo = job.rq.flags & FS_UNDO, ours = fs_txid_equal(job.dir.busy, job.rq.tx);
    if (job.dir.dying && !ours)
        return undo ? fs_end_with(&job, &job.dir) : -FS_MOVING;
    if (job.dir.dying == !undo)
        return fs_end_with(&job, &job.dir);
    error = undo ? -ENODATA : fs_look_any(&job, FS_KEY_ENTRY, 0);
    if (error != -ENODATA)
        return error ? error : -ENOTEMPTY;
    bool grows = job.call->grows;
    job.dir.dying = !undo;
    job.dir.busy = undo ? (struct fs_txid){0, 0} : job.rq.tx;
    fs_put_inode(&job, FS_INDEX_DIR, &job.dir);
    job.call->grows = grows;
    return fs_end_with(&job, &job.dir);
}

/*
 * The end of a directory that was dying and has no entry anywhere. The object stays for as long as
 * inodes live that were born here (FS_EXISTED).
 */
int fs_method_vanish(struct fs_method_call *call)
{
    struct fs_job job;
    int error = fs_begin(call, &job);
    if (!error)
        error = fs_look_dir(&job);
    if (error)
        return error == -ENOENT ? fs_end(&job) : error;
    if (!job.dir.dying)
        return -FS_CHANGED;
    if (job.rq.tx.instance != 0 && !fs_txid_equal(job.dir.busy, job.rq.tx))
        return -FS_CHANGED;
    /* Without a number: whatever was last removed here asks. */
    if (job.rq.tx.instance == 0 && job.dir.links > 0)
        return -FS_CHANGED;
    int inodes = fs_look_any(&job, FS_KEY_INODE, FS_INDEX_FIRST);
    int intents = fs_look_any(&job, FS_KEY_INTENT, 0);
    if (inodes == FS_MISS || intents == FS_MISS)
        return FS_MISS;
    if ((inodes && inodes != -ENODATA) || (intents && intents != -ENODATA))
        return -EIO;
    bool grows = job.call->grows;
    if (inodes == 0 || intents == 0) {
        job.answer.flags = FS_EXISTED;
        job.dir.links = 0;
        fs_put_dir(&job);
    } else {
        job.call->records->remove_all(job.call);
    }
    job.call->grows = grows;
    return fs_end(&job);
}
