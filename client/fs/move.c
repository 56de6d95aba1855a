/*
 * Operations over two shards, each by one thread, in an order in which every beginning is harmless
 * or can be told from what stands in the shards:
 *
 * M1  Only one client works on an operation: who began it, until it is known to be dead and
 *     blocked, so that nothing late arrives of it. From then on whoever meets its intent, which he
 *     looks at once more when it is blocked: one that stands then was not ended.
 * M2  Of an operation whose intent stands, each part may be done again: its mark at the target
 *     tells whether it was done. Who completes a link or a move of which the mark does not say so
 *     takes it back: it may have been refused, which its caller was told, and what stood in its way
 *     may be gone.
 * M3  A mark goes after the intent that it belongs to, by who began the operation. Who completes it
 *     leaves the mark: several may be doing so at once, and one that is late must find that its
 * part was done. A check takes it away. M4  Of a client that lives, what it has lost the end of
 * (the lease of a shard was lost) is cleared by itself: whoever meets it tells, and the client
 * knows what is not under way.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/fs.h"
#include "client/object/inside.h"
#include "common/planted.h"
#include "common/posix_acl.h"

enum { ADD = 1, DROP = 2 };                  /* fs.links */
enum { SETTLE_INTENT = 1, SETTLE_MARK = 2 }; /* fs.settle */
/* Whose operation it is (M2, M3). */
enum whose { OWN, COMPLETED };
/* The inode of no entry: with it nothing is entered that has no mark. */
#define NO_INODE UINT64_MAX
enum {
    DEPTH_MAX = 4096,
    PATIENT_TRIES = 16, /* Before it is looked at whether an owner lives. */
    TELL_TRIES = 256,   /* Before an owner that lives is told. */
    TELL_MS = 1000,
    LEASE_MS = 10000,
    PATIENCE_MS = 120000, /* By then one that is deaf has been blocked. */
    BLOCK_SECONDS = 7 * 24 * 3600,
};

static const uint8_t type_dir = S_IFDIR >> 12;

/* ---- Parts ---- */

/* *at: the shard where the name is, or would be. */
static int look(struct limpet_fs *fs, uint64_t dir, const char *name, struct fs_answer *out,
                uint64_t *at)
{
    struct fs_request rq = {.ino = part_first(fs, dir, name), .name = bytes_of(name)};
    uint64_t gones = fs->gones;
    int rc = fs_method(fs, fs_home(rq.ino), "fs.lookup", &rq, out);
    uint64_t second = rc == -FS_SPLIT ? part_second(fs, dir, name) : 0;
    if (second != 0) {
        rq.ino = second;
        rc = fs_method(fs, fs_home(second), "fs.lookup", &rq, out);
    }
    *at = rq.ino;
    if (rc == 0)
        unfound_met(fs, out->ino, gones);
    return rc;
}

static void settle(struct limpet_fs *fs, uint64_t ino, struct fs_txid tx, uint8_t what)
{
    struct fs_request rq = {.ino = ino, .tx = tx, .type = what};
    fs_method_hopefully(fs, fs_home(ino), "fs.settle", &rq);
}

/* M3 */
static void settle_mark(struct limpet_fs *fs, uint64_t ino, struct fs_txid tx, enum whose whose)
{
    if (whose == OWN || planted(PLANTED_FS_MARK_EARLY))
        settle(fs, ino, tx, SETTLE_MARK);
}

static int shard_dying(struct limpet_fs *fs, uint64_t at, struct fs_txid tx, bool undo,
                       uint64_t *parts)
{
    struct fs_request rq = {.ino = at, .tx = tx, .flags = undo ? FS_UNDO : 0};
    struct fs_answer answer;
    int rc = fs_method(fs, fs_home(at), "fs.dying", &rq, &answer);
    if (rc == 0 && parts != NULL)
        *parts = answer.inode.parts;
    return rc == -ENOENT ? -FS_CHANGED : rc;
}

/* Its first `n` parts, if it has any, and then it is as before. */
static int dying_undo(struct limpet_fs *fs, uint64_t dir, struct fs_txid tx, uint64_t parts,
                      unsigned n)
{
    int rc = 0;
    for (unsigned i = 0; parts != 0 && i < n && rc == 0; i++)
        rc = shard_dying(fs, part_ino(parts, i), tx, true, NULL);
    return rc == 0 ? shard_dying(fs, dir, tx, true, NULL) : rc;
}

/* All of its shards are empty for good, the first one first. *parts: what it has of them. */
static int dying(struct limpet_fs *fs, uint64_t dir, struct fs_txid tx, uint64_t *parts)
{
    *parts = 0;
    int rc = shard_dying(fs, dir, tx, false, parts);
    for (unsigned i = 0; rc == 0 && *parts != 0 && i < FS_PARTS; i++) {
        rc = shard_dying(fs, part_ino(*parts, i), tx, false, NULL);
        if (rc != 0 && dying_undo(fs, dir, tx, *parts, i) != 0)
            rc = -EIO;
    }
    return rc;
}

/* The last step of a removal; its parts go first. */
static void vanish(struct limpet_fs *fs, uint64_t dir, struct fs_txid tx, uint64_t parts)
{
    for (unsigned i = 0; parts != 0 && i < FS_PARTS; i++)
        vanish(fs, part_ino(parts, i), tx, 0);
    struct fs_request rq = {.ino = dir, .tx = tx};
    fs_method_hopefully(fs, fs_home(dir), "fs.vanish", &rq);
}

/* The second half of what takes a name from an inode elsewhere; `dir` has the intent. Nobody sees
 * that the name is gone before its inode has a link less: what is told agrees with some order. */
static int drop_elsewhere(struct limpet_fs *fs, uint64_t dir, uint64_t ino, struct fs_txid tx,
                          enum whose whose)
{
    struct fs_request rq = {.ino = ino, .tx = tx, .type = DROP};
    struct fs_answer answer;
    int rc = fs_method(fs, fs_home(ino), "fs.links", &rq, &answer);
    if (rc != 0 && rc != -ESTALE && rc != -ENOENT)
        return rc;
    struct fs_request moved = {.ino = dir, .tx = tx};
    int ended = fs_method(fs, fs_home(dir), "fs.moved", &moved, NULL);
    if (ended != 0 && ended != -ENOENT)
        return ended;
    if (rc == 0)
        settle_mark(fs, ino, tx, whose);
    if (rc == 0 && answer.flags & FS_ORPHANED)
        orphan_add(fs, ino);
    return 0;
}

/* What an entry has left that went. */
static int after_drop(struct limpet_fs *fs, uint64_t dir, const struct fs_answer *answer,
                      struct fs_txid tx, enum whose whose)
{
    if (answer->flags & FS_ORPHANED)
        orphan_add(fs, answer->inode.ino);
    return answer->flags & FS_DROPPED ? drop_elsewhere(fs, dir, answer->ino, tx, whose) : 0;
}

/* Who looks at it next sees that: it is not put off until batches before it are written back. */
static void touch(struct limpet_fs *fs, uint64_t ino)
{
    struct fs_request rq = {.ino = ino, .set = FS_SET_CTIME};
    int rc = fs_method(fs, fs_home(ino), "fs.setattr", &rq, NULL);
    if (rc == -FS_REMOTE)
        fs_method_hopefully(fs, fs_home(ino), "fs.setattr", &rq);
}

/* Whether a step may have been done, or may be still: nothing is taken back then. */
static bool is_unknown(int rc)
{
    return rc == -EIO || rc == -ETIMEDOUT || rc == -ESHUTDOWN;
}

/* ---- Links ---- */

static int enter_link(struct limpet_fs *fs, uint64_t dir, struct fs_bytes name, uint64_t ino,
                      uint8_t type, struct fs_txid tx, enum whose whose, struct fs_answer *out)
{
    struct fs_request rq = {.ino = dir,
                            .name = name,
                            .tx = tx,
                            .flags = FS_NO_REPLACE | (tx.instance == 0 ? FS_COUNT : 0),
                            .expect = whose == COMPLETED ? NO_INODE : 0,
                            .intent = {.kind = FS_INTENT_LINK, .ino = ino, .type = type}};
    return fs_method(fs, fs_home(dir), "fs.enter", &rq, out);
}

/* From the intent on; either the entry is there in the end, or nothing has changed, or (an error
 * that says neither) the intent stands for whoever meets it. */
static int finish_link(struct limpet_fs *fs, uint64_t ino, struct fs_txid tx,
                       const struct fs_intent *intent, enum whose whose)
{
    int rc = enter_link(fs, intent->to_dir, intent->to, ino, intent->type, tx, whose, NULL);
    if (rc == 0) {
        settle(fs, ino, tx, SETTLE_INTENT);
        settle_mark(fs, intent->to_dir, tx, whose);
        return 0;
    }
    if (is_unknown(rc))
        return rc;
    struct fs_request undo = {.ino = ino, .tx = tx, .type = ADD, .flags = FS_INTENT | FS_UNDO};
    struct fs_answer answer;
    int undone = fs_method(fs, fs_home(ino), "fs.links", &undo, &answer);
    if (undone == 0 && answer.flags & FS_ORPHANED)
        orphan_add(fs, ino);
    return rc;
}

/* A name is there that was not there before, perhaps. */
static void entered(const struct fs_call *call, uint64_t at, uint64_t dir, const char *name)
{
    if (at == dir)
        part_grew(call->fs, at, name);
}

int move_link(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_inode inode;
    struct fs_answer answer;
    uint64_t ino = call->rq.ino, dir;
    if (fs_is_dir(ino))
        return -EPERM;
    int rc = part_of_name(fs, call->rq.to_ino, call->to_name, &dir);
    if (rc == 0)
        rc = name_getinode(fs, ino, &inode);
    if (rc != 0)
        return rc;
    uint8_t type = (uint8_t)(inode.mode >> 12 & 15);
    if (fs_home(ino) == fs_home(dir)) {
        rc = enter_link(fs, dir, bytes_of(call->to_name), ino, type, (struct fs_txid){0, 0}, OWN,
                        &answer);
        if (rc == 0)
            entered(call, dir, call->rq.to_ino, call->to_name);
        if (rc == 0)
            call_give_inode(call, &answer.inode);
        return rc;
    }
    lease_uncover(fs, fs_home(ino)); /* Others may come to it by another way from now on. */
    struct fs_txid tx = fs_new_tx(fs);
    struct fs_request rq = {.ino = ino,
                            .tx = tx,
                            .type = ADD,
                            .flags = FS_INTENT,
                            .intent = {.kind = FS_INTENT_LINK,
                                       .ino = ino,
                                       .type = type,
                                       .to_dir = dir,
                                       .to = bytes_of(call->to_name)}};
    rc = order_follow_name(fs, fs_home(dir));
    if (rc == 0)
        rc = fs_method(fs, fs_home(ino), "fs.links", &rq, &answer);
    if (rc == 0)
        rc = finish_link(fs, ino, tx, &rq.intent, OWN);
    if (rc == 0)
        entered(call, dir, call->rq.to_ino, call->to_name);
    if (rc == 0)
        call_give_inode(call, &answer.inode);
    return rc;
}

int move_unlink(struct fs_call *call)
{
    struct fs_txid tx = fs_new_tx(call->fs);
    struct fs_request rq = {.name = bytes_of(call->name), .tx = tx};
    struct fs_answer answer;
    int rc = part_of_name(call->fs, call->rq.ino, call->name, &rq.ino);
    if (rc == 0)
        rc = fs_method(call->fs, fs_home(rq.ino), "fs.unlink", &rq, &answer);
    return rc == 0 ? after_drop(call->fs, rq.ino, &answer, tx, OWN) : rc;
}

/* ---- Directories ---- */

/* FS_HOMES_AT_ONCE numbers of shards that nobody has had, from *first on. */
static int reserve_homes(struct limpet_fs *fs, uint64_t *first)
{
    void *raw = NULL;
    size_t len = 0;
    struct fs_request rq = {.len = FS_HOMES_AT_ONCE};
    struct fs_answer answer = {0};
    struct limpet_op *op = call_op("fs.reserve", &rq, NULL, 0, &raw, &len);
    if (op == NULL)
        return -ENOMEM;
    int rc = limpet_operate(fs->pool, FS_SUPER, op, NULL);
    if (rc == 0)
        rc = fs_answer_decode(raw, len, &answer) == 0 ? 0 : -EIO;
    limpet_op_destroy(op);
    limpet_free(raw);
    *first = answer.offset;
    return rc;
}

int move_new_homes(struct limpet_fs *fs, unsigned n, uint64_t *out)
{
    int rc = 0;
    pthread_mutex_lock(&fs->lock);
    while (rc == 0 && fs->end_home - fs->next_home < n) {
        uint64_t first;
        if (order_at_once()) {
            rc = -FS_REMOTE;
            break;
        }
        pthread_mutex_unlock(&fs->lock);
        rc = reserve_homes(fs, &first);
        pthread_mutex_lock(&fs->lock);
        /* Of several who asked at a time, the last one's count: numbers are plenty. */
        if (rc == 0) {
            fs->next_home = first;
            fs->end_home = first + FS_HOMES_AT_ONCE;
        }
    }
    if (rc == 0) {
        *out = fs->next_home;
        fs->next_home += n;
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

/* What of a directory changes only by what we would know of: mode, group, where its data go. */
static int known_dir(struct limpet_fs *fs, uint64_t ino, struct fs_inode *out)
{
    pthread_mutex_lock(&fs->lock);
    bool known = lease_inode(fs, ino, out) && !out->dying;
    pthread_mutex_unlock(&fs->lock);
    return known ? 0 : name_getinode(fs, ino, out);
}

/* An empty shard, which inherits the default list of `parent`. */
static int init_shard(struct limpet_fs *fs, const struct fs_inode *parent,
                      const struct fs_request *rq, struct fs_answer *out)
{
    struct fs_request get = {.ino = parent->ino, .name = bytes_of(POSIX_ACL_DEFAULT)};
    void *list = NULL, *raw = NULL;
    size_t list_len = 0, len = 0;
    int rc = 0;
    if (parent->attributes & FS_ATTRIBUTES_DEFAULT)
        rc = fs_method_raw(fs, fs_home(get.ino), "fs.xget", &get, NULL, 0, &list, &list_len);
    if (rc == -ENODATA)
        rc = 0;
    if (rc == 0)
        rc = fs_method_raw(fs, fs_home(rq->ino), "fs.init", rq, list, list_len, &raw, &len);
    if (rc == 0 && fs_answer_decode(raw, len, out) != 0)
        rc = -EIO;
    limpet_free(list);
    limpet_free(raw);
    return rc;
}

/* The shard first, then the entry: who dies between leaves a shard that nobody finds. */
int move_mkdir(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    const struct limpet_fs_attr *attr = &call->rq.attr;
    struct fs_inode dir;
    struct fs_answer answer, made;
    uint64_t home, at, parts;
    int rc = known_dir(fs, call->rq.ino, &dir);
    if (rc == 0 && dir.dying)
        return dir.links > 0 ? -FS_MOVING : -ENOENT;
    /* A name that is taken, and too many links, are noticed last: whoever asks has most often
     * looked before. */
    if (rc == 0)
        rc = part_of_name(fs, call->rq.ino, call->name, &at);
    if (rc == 0)
        rc = move_new_homes(fs, 1, &home);
    if (rc != 0)
        return rc == -ESTALE ? -ENOENT : rc;
    bool inherits = dir.mode & S_ISGID;
    uint64_t ino = fs_ino(home, FS_INDEX_DIR);
    struct fs_request rq = {.ino = ino,
                            .full_mode = call->rq.full_mode,
                            .inode = {.mode = attr->mode | (inherits ? S_ISGID : 0),
                                      .uid = attr->uid,
                                      .gid = inherits ? dir.gid : attr->gid,
                                      .layout = dir.layout,
                                      .realm = dir.realm,
                                      .parent = call->rq.ino}};
    bool born = lease_birth(fs, home, fs_home(at));
    if (!born && order_at_once())
        return -FS_REMOTE;
    rc = init_shard(fs, &dir, &rq, &made);
    if (rc != 0)
        return rc;
    struct fs_request enter = {.ino = at,
                               .name = bytes_of(call->name),
                               .flags = FS_NO_REPLACE,
                               .intent = {.kind = FS_INTENT_LINK, .ino = ino, .type = type_dir}};
    rc = fs_method(fs, fs_home(at), "fs.enter", &enter, &answer);
    if (rc == -ENOENT && name_getinode(fs, at, &dir) == 0 && dir.dying && dir.links > 0)
        rc = -FS_MOVING;
    if (rc == 0) {
        /* B9: the shard is there for all; its name may be in a shard that is delegated by now. */
        rc = born ? 0 : order_wait(fs);
        if (rc != 0)
            return rc;
        entered(call, at, call->rq.ino, call->name);
        call->at = at;
        call_give_inode(call, &made.inode);
        if (order_at_once())
            lease_made(call, &made.inode);
        return 0;
    }
    struct fs_txid tx = fs_new_tx(fs);
    if (dying(fs, ino, tx, &parts) == 0)
        vanish(fs, ino, tx, parts);
    return rc;
}

static int remove_dir(struct fs_call *call, uint64_t at, uint64_t dir)
{
    struct limpet_fs *fs = call->fs;
    struct fs_txid tx = fs_new_tx(fs);
    uint64_t parts;
    int rc = dying(fs, dir, tx, &parts);
    if (rc == -FS_MOVING && !order_at_once())
        rc = move_clear(fs, dir, 0) == 0 ? -FS_CHANGED : -EIO;
    if (rc != 0)
        return rc;
    struct fs_request rq = {
        .ino = at, .name = bytes_of(call->name), .flags = FS_DIRECTORY_IS, .expect = dir, .tx = tx};
    rc = fs_method(fs, fs_home(rq.ino), "fs.unlink", &rq, NULL);
    if (rc == 0)
        vanish(fs, dir, tx, parts);
    else if (dying_undo(fs, dir, tx, parts, FS_PARTS) != 0)
        rc = -EIO;
    return rc;
}

int move_rmdir(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_answer answer;
    uint64_t at;
    int rc = look(fs, call->rq.ino, call->name, &answer, &at);
    if (rc != 0)
        return rc;
    if (!fs_is_dir(answer.ino))
        return -ENOTDIR;
    if (!order_at_once())
        return remove_dir(call, at, answer.ino);
    if (!lease_pin(fs, fs_home(answer.ino)))
        return -FS_REMOTE;
    rc = remove_dir(call, at, answer.ino);
    lease_unpin(fs, fs_home(answer.ino));
    return rc;
}

/* ---- Renaming ---- */

enum { NO_REPLACE = 1, EXCHANGE = 2 }; /* RENAME_NOREPLACE, RENAME_EXCHANGE of renameat2(2). */

static unsigned flags_of(const struct fs_call *call)
{
    return (call->rq.flags & NO_REPLACE ? FS_NO_REPLACE : 0) |
           (call->rq.flags & EXCHANGE ? FS_SWAP : 0);
}

/* Whether what is renamed has its times in a shard that this client does not change in memory. */
static bool touches_elsewhere(struct fs_call *call, uint64_t at)
{
    struct limpet_fs *fs = call->fs;
    struct fs_answer answer;
    uint64_t shard;
    if (look(fs, call->rq.ino, call->name, &answer, &shard) != 0)
        return false;
    if (!fs_is_dir(answer.ino) && fs_home(answer.ino) == fs_home(at))
        return false;
    pthread_mutex_lock(&fs->lock);
    bool elsewhere = !shard_buffers(fs, fs_home(answer.ino));
    pthread_mutex_unlock(&fs->lock);
    return elsewhere;
}

/* Inside of one shard. `over`: a directory that is dying and shall be replaced. */
static int rename_inside(struct fs_call *call, uint64_t at, uint64_t over, struct fs_txid tx)
{
    struct limpet_fs *fs = call->fs;
    struct fs_request rq = {.ino = at,
                            .name = bytes_of(call->name),
                            .to = bytes_of(call->to_name),
                            .flags = flags_of(call),
                            .expect_to = over,
                            .tx = tx};
    struct fs_answer answer;
    /* Without a number of an operation, an inode elsewhere is not touched: -EINVAL. */
    if (order_at_once()) {
        if (touches_elsewhere(call, at))
            return -FS_REMOTE;
        rq.tx = (struct fs_txid){0, 0};
    }
    int rc = fs_method(fs, fs_home(rq.ino), "fs.rename", &rq, &answer);
    if (rc != 0)
        return rc == -EINVAL && order_at_once() ? -FS_REMOTE : rc;
    if (!(answer.flags & FS_DROPPED) && answer.ino != 0 &&
        (fs_is_dir(answer.ino) || fs_home(answer.ino) != fs_home(rq.ino)))
        touch(fs, answer.ino);
    return after_drop(fs, rq.ino, &answer, tx, OWN);
}

static int rename_here(struct fs_call *call, uint64_t at)
{
    struct limpet_fs *fs = call->fs;
    struct fs_txid tx = fs_new_tx(fs);
    struct fs_answer answer;
    uint64_t over, parts;
    int rc = rename_inside(call, at, 0, tx);
    if (rc != -FS_CHANGED || order_at_once())
        return rc;
    rc = look(fs, call->rq.ino, call->to_name, &answer, &over);
    if (rc == 0 && over != at)
        rc = -FS_CHANGED;
    if (rc != 0 || !fs_is_dir(answer.ino))
        return rc == -ENOENT || rc == 0 ? -FS_CHANGED : rc;
    rc = dying(fs, answer.ino, tx, &parts);
    if (rc == -FS_MOVING)
        return move_clear(fs, answer.ino, 0) == 0 ? -FS_CHANGED : -EIO;
    if (rc != 0)
        return rc;
    rc = rename_inside(call, at, answer.ino, tx);
    if (rc == 0)
        vanish(fs, answer.ino, tx, parts);
    else if (dying_undo(fs, answer.ino, tx, parts, FS_PARTS) != 0)
        return -EIO;
    return rc;
}

/* Moves of directories need this: whether `dir` is below (or is) `top`. */
static int check_not_below(struct limpet_fs *fs, uint64_t dir, uint64_t top)
{
    struct fs_inode inode;
    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        if (dir == top)
            return -EINVAL;
        if (dir == FS_ROOT)
            return 0;
        int rc = name_getinode(fs, dir, &inode);
        if (rc != 0)
            return rc == -ESTALE ? -ENOENT : rc;
        dir = inode.parent;
    }
    return -ELOOP;
}

/* Its entry is in the shard `at` from now on. */
static int set_parent(struct limpet_fs *fs, uint64_t dir, uint64_t at)
{
    uint64_t parent;
    int rc = part_main(fs, at, &parent);
    if (rc != 0)
        return rc == -ESTALE ? 0 : rc;
    struct fs_request rq = {.ino = dir,
                            .set = FS_SET_PARENT,
                            .inode = {.layout = layout_default(fs), .parent = parent}};
    rc = fs_method(fs, fs_home(dir), "fs.setattr", &rq, NULL);
    return rc == -ESTALE || rc == -ENOENT ? 0 : rc;
}

static int move_back(struct limpet_fs *fs, uint64_t from, struct fs_txid tx, uint64_t over,
                     uint64_t parts)
{
    struct fs_request undo = {.ino = from, .tx = tx, .flags = FS_UNDO};
    int rc = fs_method(fs, fs_home(from), "fs.moved", &undo, NULL);
    if (rc == 0 && over != 0)
        rc = dying_undo(fs, over, tx, parts, FS_PARTS);
    return rc;
}

/*
 * From the intent on, also for the dead: either all of the move is done, or nothing (and the error
 * says why). A directory that is replaced is dying by the same operation.
 */
static int finish_move(struct limpet_fs *fs, uint64_t from, struct fs_txid tx,
                       const struct fs_intent *intent, unsigned flags, uint64_t over_parts,
                       enum whose whose)
{
    bool swap = intent->kind == FS_INTENT_SWAP;
    uint64_t over = !swap && fs_is_dir(intent->to_ino) ? intent->to_ino : 0;
    struct fs_request rq = {.ino = intent->to_dir,
                            .name = intent->to,
                            .tx = tx,
                            .flags = flags,
                            .expect = whose == COMPLETED ? NO_INODE : intent->to_ino,
                            .intent = *intent};
    struct fs_answer answer;
    int rc = fs_method(fs, fs_home(intent->to_dir), "fs.enter", &rq, &answer);
    if (is_unknown(rc))
        return rc;
    if (rc != 0) {
        int back = move_back(fs, from, tx, over, over_parts);
        return back != 0 ? back : rc;
    }
    rc = after_drop(fs, intent->to_dir, &answer, tx, whose);
    if (rc == 0 && fs_is_dir(intent->ino))
        rc = set_parent(fs, intent->ino, intent->to_dir);
    if (rc == 0 && swap && fs_is_dir(intent->to_ino))
        rc = set_parent(fs, intent->to_ino, from);
    struct fs_request moved = {.ino = from, .tx = tx};
    if (rc == 0)
        rc = fs_method(fs, fs_home(from), "fs.moved", &moved, NULL);
    if (rc != 0)
        return rc;
    if (!fs_is_dir(intent->ino) && fs_home(intent->ino) != fs_home(from))
        touch(fs, intent->ino);
    settle_mark(fs, intent->to_dir, tx, whose);
    if (over != 0)
        vanish(fs, over, tx, over_parts);
    return 0;
}

static int check_types(const struct fs_answer *a, const struct fs_answer *b)
{
    if (a->type == type_dir && b->type != type_dir)
        return -ENOTDIR;
    return a->type != type_dir && b->type == type_dir ? -EISDIR : 0;
}

static int move_across(struct fs_call *call, uint64_t from, uint64_t to, const struct fs_answer *a,
                       const struct fs_answer *b)
{
    struct limpet_fs *fs = call->fs;
    struct fs_txid tx = fs_new_tx(fs);
    bool swap = call->rq.flags & EXCHANGE;
    struct fs_request rq = {.ino = from,
                            .name = bytes_of(call->name),
                            .tx = tx,
                            .intent = {.kind = swap ? FS_INTENT_SWAP : FS_INTENT_MOVE,
                                       .type = a->type,
                                       .ino = a->ino,
                                       .to_dir = to,
                                       .to_ino = b->ino,
                                       .to_type = b->type,
                                       .name = bytes_of(call->name),
                                       .to = bytes_of(call->to_name)}};
    uint64_t over = !swap && fs_is_dir(b->ino) ? b->ino : 0, parts = 0;
    int rc = order_follow_name(fs, fs_home(to));
    if (rc == 0 && over != 0)
        rc = dying(fs, over, tx, &parts);
    if (rc == -FS_MOVING)
        return move_clear(fs, over, 0) == 0 ? -FS_CHANGED : -EIO;
    if (rc != 0)
        return rc;
    rc = fs_method(fs, fs_home(rq.ino), "fs.leave", &rq, NULL);
    if (rc != 0) {
        if (over != 0 && dying_undo(fs, over, tx, parts, FS_PARTS) != 0)
            rc = -EIO;
        return rc;
    }
    rc = finish_move(fs, rq.ino, tx, &rq.intent, flags_of(call), parts, OWN);
    if (rc == 0)
        entered(call, to, call->rq.to_ino, call->to_name);
    return rc;
}

static int rename_across(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_answer a = {0}, b = {0};
    bool swap = call->rq.flags & EXCHANGE;
    uint64_t from, to = call->rq.to_ino;
    int rc = look(fs, call->rq.ino, call->name, &a, &from);
    if (rc == 0)
        rc = look(fs, call->rq.to_ino, call->to_name, &b, &to);
    bool there = rc == 0;
    if (from == to && a.ino != 0)
        return -FS_CHANGED;
    if (rc == -ENOENT && a.ino != 0 && !swap)
        rc = 0;
    if (rc != 0)
        return rc;
    if (there && (call->rq.flags & NO_REPLACE || a.ino == b.ino)) {
        /* Is it still where it was, or has somebody else just made this very move? */
        uint64_t ino = a.ino;
        rc = look(fs, call->rq.ino, call->name, &a, &from);
        if (rc != 0 || a.ino != ino)
            return rc != 0 ? rc : -FS_CHANGED;
        /* Two links to one file: nothing happens. */
        return call->rq.flags & NO_REPLACE ? -EEXIST : 0;
    }
    rc = there && !swap ? check_types(&a, &b) : 0;
    /* Others may come to them by other ways from now on. */
    lease_uncover(fs, fs_home(a.ino));
    if (swap)
        lease_uncover(fs, fs_home(b.ino));
    if (rc == 0 && fs_is_dir(a.ino))
        rc = check_not_below(fs, call->rq.to_ino, a.ino);
    if (rc == 0 && swap && fs_is_dir(b.ino))
        rc = check_not_below(fs, call->rq.ino, b.ino);
    return rc == 0 ? move_across(call, from, to, &a, &b) : rc;
}

/* Two moves of directories could make a loop that neither would make alone. */
static int rename_alone(struct fs_call *call)
{
    static const struct limpet_watch_calls none;
    struct limpet_fs *fs = call->fs;
    struct limpet_watch *lease;
    int rc = limpet_create(fs->pool, "rename", false);
    if (rc == 0)
        rc = limpet_lease(fs->pool, "rename", LIMPET_LEASE_FENCED, LEASE_MS, PATIENCE_MS, &none,
                          NULL, &lease);
    if (rc != 0)
        return rc;
    rc = rename_across(call);
    watch_end_lease(lease);
    return rc;
}

int move_rename(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_answer a, b;
    uint64_t from, to;
    unsigned flags = call->rq.flags;
    if (flags & ~(unsigned)(NO_REPLACE | EXCHANGE) || flags == (NO_REPLACE | EXCHANGE))
        return -EINVAL;
    bool same = call->rq.ino == call->rq.to_ino;
    if (same && parts_known(fs, call->rq.ino) == 0)
        return rename_here(call, call->rq.ino);
    if (order_at_once())
        return -FS_REMOTE;
    int rc = look(fs, call->rq.ino, call->name, &a, &from);
    if (rc != 0)
        return rc;
    int other = look(fs, call->rq.to_ino, call->to_name, &b, &to);
    if (other == -FS_SPLIT)
        return other;
    if (from == to)
        return rename_here(call, from);
    bool dirs = fs_is_dir(a.ino) || (flags & EXCHANGE && other == 0 && fs_is_dir(b.ino));
    return dirs && !same ? rename_alone(call) : rename_across(call);
}

/* ---- What others have left ---- */

bool move_client_lives(struct limpet_fs *fs, uint64_t instance)
{
    struct limpet_watcher *watchers;
    size_t n;
    bool found = instance == fs->instance;
    if (found || limpet_watchers(fs->pool, FS_SUPER, &watchers, &n) != 0)
        return true;
    for (size_t i = 0; i < n; i++)
        found |= watchers[i].instance == instance;
    limpet_free(watchers);
    return found;
}

int move_block(struct limpet_fs *fs, uint64_t instance)
{
    return planted(PLANTED_FS_UNFENCED) ? 0 : limpet_block(fs->cluster, instance, BLOCK_SECONDS);
}

/* Of a directory, if it is one and has any. */
static uint64_t parts_of(struct limpet_fs *fs, uint64_t ino)
{
    struct fs_inode inode;
    return fs_is_dir(ino) && name_getinode(fs, ino, &inode) == 0 ? inode.parts : 0;
}

static int complete(struct limpet_fs *fs, uint64_t ino, struct fs_txid tx,
                    const struct fs_intent *intent)
{
    int rc = 0;
    if (planted(PLANTED_FS_INTENT_DROPPED)) {
        settle(fs, ino, tx, SETTLE_INTENT);
        return 0;
    }
    switch (intent->kind) {
    case FS_INTENT_DROP:
        rc = drop_elsewhere(fs, ino, intent->ino, tx, COMPLETED);
        break;
    case FS_INTENT_LINK:
        rc = finish_link(fs, intent->ino, tx, intent, COMPLETED);
        break;
    case FS_INTENT_MOVE:
    case FS_INTENT_SWAP:
        rc = finish_move(fs, ino, tx, intent, intent->kind == FS_INTENT_SWAP ? FS_SWAP : 0,
                         intent->kind == FS_INTENT_SWAP ? 0 : parts_of(fs, intent->to_ino),
                         COMPLETED);
        break;
    default:
        rc = -EIO;
        break;
    }
    /* An operation that turned out to be impossible was taken back: that is an end, too. */
    return rc == -ETIMEDOUT || rc == -ESHUTDOWN ? rc : 0;
}

enum { INTENTS_AT_ONCE = 64 };

/* Those of an inode's shard, with names of their own. */
struct intents {
    size_t n;
    struct {
        struct fs_txid tx;
        struct fs_intent intent;
        uint8_t name[FS_NAME_BYTES_MAX], to[FS_NAME_BYTES_MAX];
    } list[INTENTS_AT_ONCE];
    bool damaged;
};

static struct fs_bytes keep_name(uint8_t *own, struct fs_bytes name)
{
    if (name.len > 0)
        memcpy(own, name.data, name.len);
    return (struct fs_bytes){own, name.len};
}

static bool take_intent(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
    struct intents *found = arg;
    struct fs_intent intent;
    if (fs_txid_key_decode(key, key_len, &found->list[found->n].tx) != 0 ||
        fs_intent_decode(value, len, &intent) != 0) {
        found->damaged = true;
        return false;
    }
    intent.name = keep_name(found->list[found->n].name, intent.name);
    intent.to = keep_name(found->list[found->n].to, intent.to);
    found->list[found->n++].intent = intent;
    return found->n < INTENTS_AT_ONCE;
}

/* M4. The owner lives, and may have forgotten it. */
static void tell(struct limpet_fs *fs, uint64_t ino)
{
    struct encoder e;
    struct limpet_answers *answers = NULL;
    encoder_init(&e);
    encode_u8(&e, FS_NOTIFY_LEFT);
    encode_u64(&e, ino);
    int rc =
        e.failed ? -ENOMEM : limpet_notify(fs->pool, FS_SUPER, e.data, e.len, TELL_MS, &answers);
    (void)rc; /* It is told again. */
    encoder_fini(&e);
    limpet_answers_destroy(answers);
}

/* Whether this client has the file system open another time, too. */
static bool has_sibling(struct limpet_fs *fs)
{
    struct limpet_watcher *watchers;
    size_t n, own = 0;
    if (limpet_watchers(fs->pool, FS_SUPER, &watchers, &n) != 0)
        return true;
    for (size_t i = 0; i < n; i++)
        own += watchers[i].instance == fs->instance;
    limpet_free(watchers);
    return own > 1;
}

/* 1: nobody works on it, nor ever will; 0: its client does. *lives: that can be told. */
static int is_left(struct limpet_fs *fs, uint64_t ino, struct fs_txid tx, bool *lives)
{
    bool same = tx.instance == fs->instance;
    pthread_mutex_lock(&fs->lock);
    bool own = same && tx.sequence > fs->first && tx.sequence <= fs->sequence;
    bool over = own && order_is_over(fs, tx) && !behind_needs(fs, ino, tx) &&
                !planted(PLANTED_FS_LEFT_FORGOTTEN);
    pthread_mutex_unlock(&fs->lock);
    if (own)
        return over;
    if (same ? has_sibling(fs) : move_client_lives(fs, tx.instance)) {
        *lives = true;
        return 0;
    }
    int rc = same ? 0 : move_block(fs, tx.instance);
    return rc == 0 ? 1 : rc;
}

static int list_intents(struct limpet_fs *fs, uint64_t ino, struct intents *found)
{
    found->n = 0;
    int rc = shard_list(fs, fs_home(ino), FS_KEY_INTENT, take_intent, found);
    return rc == 0 && found->damaged ? -EIO : rc;
}

static bool is_among(const struct fs_txid *list, size_t n, struct fs_txid tx)
{
    for (size_t i = 0; i < n; i++) {
        if (fs_txid_equal(list[i], tx))
            return true;
    }
    return false;
}

static int clear_intents(struct limpet_fs *fs, uint64_t ino, bool *lives)
{
    struct fs_txid left[INTENTS_AT_ONCE];
    size_t n_left = 0;
    struct intents *found = calloc(1, sizeof *found);
    uint64_t dir = fs_ino(fs_home(ino), FS_INDEX_DIR);
    int rc = found != NULL ? list_intents(fs, ino, found) : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < found->n; i++) {
        int is = is_left(fs, dir, found->list[i].tx, lives);
        rc = is < 0 ? is : 0;
        if (is > 0)
            left[n_left++] = found->list[i].tx;
    }
    /* Who began it may have ended it before he was blocked (M1). */
    if (rc == 0 && n_left > 0)
        rc = list_intents(fs, ino, found);
    for (size_t i = 0; rc == 0 && n_left > 0 && i < found->n; i++) {
        if (is_among(left, n_left, found->list[i].tx))
            rc = complete(fs, dir, found->list[i].tx, &found->list[i].intent);
    }
    free(found);
    return rc == -ENOENT ? 0 : rc;
}

/* A truncation or a removal that nobody works on: the one is completed, the other taken back. */
static int clear_busy(struct limpet_fs *fs, uint64_t ino, bool *lives)
{
    struct fs_inode inode;
    int rc = name_getinode(fs, ino, &inode);
    if (rc != 0 || inode.busy.instance == 0)
        return rc == -ESTALE ? 0 : rc;
    int left = is_left(fs, ino, inode.busy, lives);
    if (left <= 0)
        return left;
    return fs_is_dir(ino) ? dying_undo(fs, ino, inode.busy, inode.parts, FS_PARTS)
                          : data_trim(fs, &inode);
}

static int clear(struct limpet_fs *fs, uint64_t ino, bool *lives)
{
    int rc = clear_intents(fs, ino, lives);
    return rc == 0 ? clear_busy(fs, ino, lives) : rc;
}

static int clear_all(struct limpet_fs *fs, uint64_t ino, bool *lives)
{
    uint64_t parts = parts_of(fs, ino);
    int rc = clear(fs, ino, lives);
    for (unsigned i = 0; rc == 0 && parts != 0 && i < FS_PARTS; i++)
        rc = clear(fs, part_ino(parts, i), lives);
    return rc;
}

int move_clear(struct limpet_fs *fs, uint64_t ino, unsigned tries)
{
    struct fs_order order;
    bool begun = order_is_begun(), lives = false;
    if (tries % PATIENT_TRIES != 0)
        return 0;
    if (!begun)
        order_begin(fs, &order, false);
    int rc = clear_all(fs, ino, &lives);
    if (!begun)
        order_end(fs);
    if (rc == 0 && lives && tries % TELL_TRIES == TELL_TRIES - PATIENT_TRIES)
        tell(fs, ino);
    return rc;
}

void move_met(struct limpet_fs *fs, uint64_t ino)
{
    bool known = false;
    for (unsigned i = 0; i < fs->n_left; i++)
        known |= fs->left[i] == ino;
    if (known || fs->n_left == FS_LEFT_MAX)
        return; /* It is told again. */
    fs->left[fs->n_left++] = ino;
    pthread_cond_signal(&fs->orphaned);
}

void move_clear_met(struct limpet_fs *fs)
{
    while (fs->n_left > 0) {
        uint64_t ino = fs->left[--fs->n_left];
        unfound_forget(fs, fs_home(ino)); /* Somebody has found it by its name. */
        pthread_mutex_unlock(&fs->lock);
        int rc = move_clear(fs, ino, 0);
        (void)rc; /* It is met again. */
        pthread_mutex_lock(&fs->lock);
    }
}
