/*
 * Entries and attributes. What needs one look or one change is asked for at once, and the answer
 * ends the call; whatever does not go so easily is a worker's, which begins anew and may wait.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "client/fs/fs.h"
#include "common/posix_acl.h"

enum { TRIES_MAX = 100000 };

int name_getinode(struct limpet_fs *fs, uint64_t ino, struct fs_inode *out)
{
    struct fs_request rq = {.ino = ino};
    struct fs_answer answer;
    int rc = fs_method(fs, fs_home(ino), "fs.getattr", &rq, &answer);
    if (rc == 0)
        *out = answer.inode;
    /* The shard went with its directory. */
    return rc == -ENOENT ? -ESTALE : rc;
}

static int stale(int rc)
{
    return rc == -ENOENT ? -ESTALE : rc;
}

/* ---- Looking ---- */

static void got_attr(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                     size_t len)
{
    (void)raw, (void)len;
    struct fs_inode inode = answer->inode;
    bool sets = call->rq.verb == LIMPET_FS_SETATTR; /* Of the parts, too, then. */
    if (rc == 0 && inode.parts != 0 && (sets || !parts_merge_known(call->fs, &inode))) {
        call_work(call);
        return;
    }
    call->result.brief = rc == 0 && inode.parts != 0;
    if (rc == 0)
        call_give_inode(call, &inode);
    if (rc == 0 && answer->inode.target.len > 0) {
        call->result.len = answer->inode.target.len;
        call->result.data = malloc(call->result.len);
        if (call->result.data != NULL)
            memcpy(call->result.data, answer->inode.target.data, call->result.len);
        else
            rc = -ENOMEM;
    }
    call_end(call, stale(rc));
}

void name_getattr(struct fs_call *call)
{
    struct fs_request rq = {.ino = call->rq.ino};
    struct fs_inode inode;
    /* Where a link leads is not remembered, nor what changes of entries do to their directory. */
    if (lease_known(call, &inode) && S_ISREG(inode.mode)) {
        call_give_inode(call, &inode);
        call_end(call, 0);
        return;
    }
    /* One of several shards has only what is made there no more, and what its parts add. */
    if (call->grant != 0 && parts_known(call->fs, call->rq.ino) != 0 && lease_known(call, &inode) &&
        parts_merge_known(call->fs, &inode)) {
        call->result.brief = true;
        call_give_inode(call, &inode);
        call_end(call, 0);
        return;
    }
    fs_ask(call, fs_home(call->rq.ino), "fs.getattr", &rq, NULL, 0, got_attr);
}

/* Where a method that said -FS_SPLIT is to be asked now; 0: that is a worker's, who will learn it.
 */
static uint64_t elsewhere(struct fs_call *call)
{
    uint64_t at = call->at == call->rq.ino ? part_second(call->fs, call->at, call->name) : 0;
    call->at = at;
    return at;
}

static void look_at(struct fs_call *call, uint64_t at);

static void looked_up(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                      size_t len)
{
    (void)raw, (void)len;
    call->name_grant = call->grant;
    call->name_home = fs_home(call->at);
    if (rc == -FS_SPLIT && elsewhere(call) != 0) {
        look_at(call, call->at);
    } else if (rc == -FS_MOVING || rc == -FS_SPLIT) {
        call->name_grant = 0;
        call_work(call);
    } else if (rc != 0) {
        call_end(call, rc);
    } else if (answer->flags & FS_HAS_INODE) {
        call_give_inode(call, &answer->inode);
        call_end(call, 0);
    } else {
        struct fs_request rq = {.ino = answer->ino};
        unfound_met(call->fs, answer->ino, call->gones);
        fs_ask(call, fs_home(answer->ino), "fs.getattr", &rq, NULL, 0, got_attr);
    }
}

static void look_at(struct fs_call *call, uint64_t at)
{
    struct fs_request rq = {.ino = at, .name = bytes_of(call->name)};
    call->at = at;
    call->gones = call->fs->gones;
    fs_ask(call, fs_home(at), "fs.lookup", &rq, NULL, 0, looked_up);
}

void name_lookup(struct fs_call *call)
{
    look_at(call, part_first(call->fs, call->rq.ino, call->name));
}

/* ---- Changing ---- */

static void inode_of_attr(const struct fs_call *call, struct fs_inode *out)
{
    const struct limpet_fs_attr *attr = &call->rq.attr;
    *out = (struct fs_inode){
        .mode = attr->mode,
        .uid = attr->uid,
        .gid = attr->gid,
        .rdev = attr->rdev,
        .size = attr->size,
        .atime_ns = attr->atime_ns,
        .mtime_ns = attr->mtime_ns,
        .layout = layout_default(call->fs),
    };
}

static int set_request(const struct fs_call *call, struct fs_request *rq)
{
    *rq = (struct fs_request){.ino = call->rq.ino, .set = call->rq.set};
    if (call->rq.set >= FS_SET_PARENT)
        return -EINVAL;
    inode_of_attr(call, &rq->inode);
    if (!(rq->set & LIMPET_FS_SET_SIZE))
        rq->inode.size = 0;
    return rq->inode.size <= FS_SIZE_MAX ? 0 : -EFBIG;
}

void name_setattr(struct fs_call *call)
{
    struct fs_request rq;
    int rc = set_request(call, &rq);
    if (rc != 0)
        call_end(call, rc);
    if (rc == 0 && rq.set & (FS_SET_MTIME | FS_SET_MTIME_NOW))
        behind_set_mtime(call->fs, rq.ino);
    if (rc == 0 && rq.set & FS_SET_SIZE)
        call_work(call);
    else if (rc == 0)
        fs_ask(call, fs_home(rq.ino), "fs.setattr", &rq, NULL, 0, got_attr);
}

static int create_request(const struct fs_call *call, struct fs_request *rq)
{
    *rq = (struct fs_request){.ino = call->rq.ino,
                              .name = bytes_of(call->name),
                              .flags = call->rq.flags & LIMPET_FS_EXCLUSIVE ? FS_EXCLUSIVE : 0};
    if (call->rq.flags & LIMPET_FS_OPENED)
        rq->flags |= FS_WRITES;
    if (call->rq.flags & LIMPET_FS_NAMELESS)
        rq->flags |= FS_UNNAMED;
    rq->full_mode = call->rq.full_mode;
    inode_of_attr(call, &rq->inode);
    rq->inode.size = 0;
    if (!S_ISLNK(rq->inode.mode))
        return 0;
    if (call->rq.len == 0)
        return -ENOENT;
    if (call->rq.len > FS_TARGET_MAX)
        return -ENAMETOOLONG;
    rq->inode.target = (struct fs_bytes){call->rq.data, (uint16_t)call->rq.len};
    return 0;
}

static void open_made(struct fs_call *call, const struct fs_inode *inode)
{
    call->rq.ino = call->result.attr.ino;
    if (call->rq.flags & LIMPET_FS_NAMELESS)
        orphan_made(call);
    else if (call->result.existed)
        orphan_open(call);
    else
        orphan_open_made(call, inode);
}

static void create_at(struct fs_call *call, uint64_t at);

static void created(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                    size_t len)
{
    (void)raw, (void)len;
    bool there = rc == 0 && answer->flags & FS_HAS_INODE;
    if (rc == -FS_SPLIT && elsewhere(call) != 0) {
        create_at(call, call->at);
        return;
    }
    /* What exists already may have its inode elsewhere; and a directory may be on its way out. */
    if (rc == -FS_MOVING || rc == -FS_SPLIT || rc == -ENOENT || (rc == 0 && !there)) {
        call_work(call);
        return;
    }
    if (there) {
        call->name_grant = call->grant;
        call->name_home = fs_home(call->at);
        call_give_inode(call, &answer->inode);
        call->result.existed = answer->flags & FS_EXISTED;
        if (call->at == call->rq.ino && !call->result.existed)
            part_grew(call->fs, call->at, call->name);
    }
    if (rc == 0 && call->rq.flags & LIMPET_FS_OPENED)
        open_made(call, &answer->inode);
    else
        call_end(call, rc);
}

/* What is made in a part inherits from the directory, which the part does not know. */
static void inherit(const struct fs_inode *dir, struct fs_request *rq)
{
    rq->inode.layout = dir->layout;
    if (dir->mode & S_ISGID)
        rq->inode.gid = dir->gid;
}

static bool inherits_known(struct fs_call *call, struct fs_request *rq)
{
    struct fs_inode dir = {0};
    pthread_mutex_lock(&call->fs->lock);
    bool known =
        lease_inode(call->fs, call->rq.ino, &dir) && !(dir.attributes & FS_ATTRIBUTES_DEFAULT);
    pthread_mutex_unlock(&call->fs->lock);
    if (known)
        inherit(&dir, rq);
    return known;
}

static void create_at(struct fs_call *call, uint64_t at)
{
    struct fs_request rq;
    call->at = at;
    int rc = create_request(call, &rq);
    if (rc != 0) {
        call_end(call, rc);
    } else if (at != rq.ino && !inherits_known(call, &rq)) {
        call_work(call);
    } else {
        rq.ino = at;
        fs_ask(call, fs_home(at), "fs.create", &rq, NULL, 0, created);
    }
}

void name_create(struct fs_call *call)
{
    orphan_expect(call);
    if (S_ISDIR(call->rq.attr.mode))
        name_at_once(call);
    else
        create_at(call, call->rq.flags & LIMPET_FS_NAMELESS
                            ? call->rq.ino
                            : part_first(call->fs, call->rq.ino, call->name));
}

static void unlink_at(struct fs_call *call, uint64_t at);

static void unlinked(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                     size_t len)
{
    (void)raw, (void)len;
    if (rc == 0 && answer->flags & FS_ORPHANED)
        orphan_add(call->fs, answer->inode.ino);
    /* Without a number of an operation, an inode elsewhere is not touched: -EINVAL. */
    if (rc == -FS_SPLIT && elsewhere(call) != 0)
        unlink_at(call, call->at);
    else if (rc == -FS_MOVING || rc == -FS_SPLIT || rc == -EINVAL)
        call_work(call);
    else
        call_end(call, rc);
}

static void unlink_at(struct fs_call *call, uint64_t at)
{
    struct fs_request rq = {.ino = at, .name = bytes_of(call->name)};
    call->at = at;
    fs_ask(call, fs_home(at), "fs.unlink", &rq, NULL, 0, unlinked);
}

void name_unlink(struct fs_call *call)
{
    unlink_at(call, part_first(call->fs, call->rq.ino, call->name));
}

/* ---- Extended attributes ---- */

static void got_bytes(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                      size_t len)
{
    (void)answer;
    rc = rc == 0 ? call_give_bytes(call, raw, len) : stale(rc);
    call_end(call, rc == 0 ? (ssize_t)len : rc);
}

static void set_xattr(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                      size_t len)
{
    (void)answer, (void)raw, (void)len;
    call_end(call, stale(rc));
}

/* Those that look and find nothing: nobody need be asked. */
static bool has_no_xattr(struct fs_call *call)
{
    struct fs_inode inode;
    bool looks = call->rq.verb == LIMPET_FS_XATTR_GET || call->rq.verb == LIMPET_FS_XATTR_LIST;
    return looks && lease_known(call, &inode) && inode.attributes == 0;
}

void name_xattr(struct fs_call *call)
{
    struct fs_request rq = {.ino = call->rq.ino, .name = bytes_of(call->name)};
    uint64_t home = fs_home(rq.ino);
    if (layout_xattr(call))
        return;
    if (has_no_xattr(call)) {
        call_end(call, call->rq.verb == LIMPET_FS_XATTR_GET ? -ENODATA : 0);
        return;
    }
    switch (call->rq.verb) {
    case LIMPET_FS_XATTR_GET:
        fs_ask(call, home, "fs.xget", &rq, NULL, 0, got_bytes);
        break;
    case LIMPET_FS_XATTR_LIST:
        rq.name.len = 0;
        fs_ask(call, home, "fs.xlist", &rq, NULL, 0, got_bytes);
        break;
    case LIMPET_FS_XATTR_REMOVE:
        fs_ask(call, home, "fs.xremove", &rq, NULL, 0, set_xattr);
        break;
    default:
        if (call->rq.flags & XATTR_CREATE)
            rq.flags |= FS_EXCLUSIVE;
        if (call->rq.flags & XATTR_REPLACE)
            rq.flags |= FS_REPLACE;
        if (call->rq.flags & LIMPET_FS_KILL_GROUP)
            rq.flags |= FS_KILL_GROUP;
        fs_ask(call, home, "fs.xset", &rq, call->rq.data, call->rq.len, set_xattr);
        break;
    }
}

/* ---- A worker's ---- */

static int give_merged(struct fs_call *call, struct fs_inode *inode)
{
    int rc = parts_merge(call->fs, inode);
    call->result.brief = inode->parts != 0;
    if (rc == 0)
        call_give_inode(call, inode);
    return rc;
}

static int work_lookup(struct fs_call *call)
{
    struct fs_request rq = {.name = bytes_of(call->name)};
    struct fs_answer answer = {0};
    int rc = part_of_name(call->fs, call->rq.ino, call->name, &rq.ino);
    if (rc == 0)
        rc = fs_method(call->fs, fs_home(rq.ino), "fs.lookup", &rq, &answer);
    if (rc == 0 && !(answer.flags & FS_HAS_INODE))
        rc = name_getinode(call->fs, answer.ino, &answer.inode);
    return rc == 0 ? give_merged(call, &answer.inode) : rc;
}

/* A directory of several shards. */
static int work_getattr(struct fs_call *call)
{
    struct fs_inode inode;
    int rc = name_getinode(call->fs, call->rq.ino, &inode);
    return rc == 0 ? give_merged(call, &inode) : rc;
}

/* With what the directory lets inherit, when `at` is a part of it. */
static int create_in(struct fs_call *call, uint64_t at, struct fs_request *rq,
                     struct fs_answer *out)
{
    struct limpet_fs *fs = call->fs;
    struct fs_request get = {.ino = rq->ino, .name = bytes_of(POSIX_ACL_DEFAULT)};
    struct fs_inode dir = {0};
    void *list = NULL, *raw = NULL;
    size_t list_len = 0, len = 0;
    if (at == rq->ino)
        return fs_method(fs, fs_home(at), "fs.create", rq, out);
    int rc = name_getinode(fs, rq->ino, &dir);
    if (rc == 0 && dir.attributes & FS_ATTRIBUTES_DEFAULT)
        rc = fs_method_raw(fs, fs_home(get.ino), "fs.xget", &get, NULL, 0, &list, &list_len);
    if (rc == 0 || rc == -ENODATA) {
        inherit(&dir, rq);
        rq->ino = at;
        rc = fs_method_raw(fs, fs_home(at), "fs.create", rq, list, list_len, &raw, &len);
    }
    if (rc == 0 && fs_answer_decode(raw, len, out) != 0)
        rc = -EIO;
    if (rc == 0)
        out->inode.target = (struct fs_bytes){NULL, 0};
    if (rc == 0 && out->flags & FS_HAS_INODE)
        file_saw(fs, &out->inode, 0);
    if (rc == 0)
        lease_saw_change(fs, fs_home(at), out);
    limpet_free(list);
    limpet_free(raw);
    return rc == -ESTALE ? -ENOENT : rc;
}

/* A directory that is going lets nothing be made in it; if who removes it has died, it stays. */
static int work_create(struct fs_call *call)
{
    struct fs_request rq;
    struct fs_answer answer = {0};
    struct fs_inode dir;
    uint64_t at = call->rq.ino;
    int rc = create_request(call, &rq);
    if (rc == 0 && !(rq.flags & FS_UNNAMED))
        rc = part_of_name(call->fs, call->rq.ino, call->name, &at);
    if (rc == 0)
        rc = create_in(call, at, &rq, &answer);
    if (rc == -ENOENT && name_getinode(call->fs, at, &dir) == 0 && dir.dying && dir.links > 0)
        return -FS_MOVING;
    if (rc != 0)
        return rc;
    if (!(answer.flags & FS_HAS_INODE))
        rc = name_getinode(call->fs, answer.ino, &answer.inode);
    if (rc == 0) {
        call_give_inode(call, &answer.inode);
        call->result.existed = answer.flags & FS_EXISTED;
    }
    return rc;
}

static int work_setattr(struct fs_call *call)
{
    struct fs_request rq;
    struct fs_answer answer = {0};
    int rc = set_request(call, &rq);
    if (rc == 0 && rq.set & FS_SET_SIZE)
        rc = data_setsize(call, &rq, &answer);
    else if (rc == 0)
        rc = fs_method(call->fs, fs_home(rq.ino), "fs.setattr", &rq, &answer);
    if (rc == 0 && rq.set & FS_SET_MTIME)
        rc = parts_set_mtime(call->fs, &answer.inode);
    if (rc == 0)
        rc = give_merged(call, &answer.inode);
    return stale(rc);
}

static int work_once(struct fs_call *call)
{
    switch (call->rq.verb) {
    case LIMPET_FS_LOOKUP:
        return work_lookup(call);
    case LIMPET_FS_GETATTR:
        return stale(work_getattr(call));
    case LIMPET_FS_SETATTR:
        return work_setattr(call);
    case LIMPET_FS_CREATE:
        return S_ISDIR(call->rq.attr.mode) ? move_mkdir(call) : work_create(call);
    case LIMPET_FS_LINK:
        return move_link(call);
    case LIMPET_FS_UNLINK:
        return move_unlink(call);
    case LIMPET_FS_RMDIR:
        return move_rmdir(call);
    case LIMPET_FS_RENAME:
        return move_rename(call);
    case LIMPET_FS_WRITE:
        return data_write_slowly(call);
    case LIMPET_FS_ALLOCATE:
        return data_allocate(call);
    case LIMPET_FS_SEEK:
        return data_seek(call, &call->result.offset);
    case LIMPET_FS_XATTR_SET:
    case LIMPET_FS_XATTR_REMOVE:
        return layout_change(call);
    default:
        return -EINVAL;
    }
}

/* What is left to do of a call whose steps are over. */
static void work_end(struct fs_call *call, int rc)
{
    if (rc == 0 && call->rq.verb == LIMPET_FS_CREATE && call->rq.flags & LIMPET_FS_OPENED)
        open_made(call, NULL);
    else
        call_end(call, rc);
}

/* All steps in a delegated shard, and in those that were born under its cover: nothing waits. */
void name_at_once(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_order order;
    uint64_t home = fs_home(call->rq.ino);
    if (parts_known(fs, call->rq.ino) != 0 || write_back_is_late(fs) || !lease_pin(fs, home)) {
        call_work(call);
        return;
    }
    order_begin(fs, &order, true);
    int rc = work_once(call);
    order_end(fs);
    lease_unpin(fs, home);
    if (rc == -FS_REMOTE || rc == -FS_MOVING || rc == -FS_CHANGED || rc == -FS_SPLIT)
        call_work(call);
    else
        work_end(call, rc);
}

static int work_in_order(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_order order;
    write_back_catch_up(fs);
    order_begin(fs, &order, false);
    int rc = work_once(call);
    order_end(fs);
    return rc;
}

int name_learn(struct fs_call *call)
{
    const uint64_t inos[] = {call->rq.ino, call->rq.to_ino};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < 2; i++) {
        if (inos[i] == 0 || !fs_is_dir(inos[i]) || parts_known(call->fs, inos[i]) != 0)
            continue;
        rc = parts_learn(call->fs, inos[i]);
        if (rc == -FS_CHANGED)
            rc = 0;
    }
    return rc;
}

void name_work(struct fs_call *call)
{
    int rc = 0;
    if (call->rq.verb == LIMPET_FS_LOCK || call->rq.verb == LIMPET_FS_UNLOCK_ALL) {
        lock_refused(call);
        return;
    }
    if (call->rq.verb == LIMPET_FS_READ || call->rq.verb == LIMPET_FS_SYNC) {
        (call->rq.verb == LIMPET_FS_READ ? data_read_slowly : behind_sync_slowly)(call);
        return;
    }
    if (call->rq.verb == LIMPET_FS_LIST) {
        name_list_slowly(call);
        return;
    }
    for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
        rc = work_in_order(call);
        if (rc != -FS_MOVING && rc != -FS_CHANGED && rc != -FS_SPLIT)
            break;
        int error = rc == -FS_SPLIT    ? name_learn(call)
                    : rc == -FS_MOVING ? move_clear(call->fs, call->rq.ino, tries)
                                       : 0;
        if (error == 0 && rc == -FS_MOVING && call->rq.to_ino != 0)
            error = move_clear(call->fs, call->rq.to_ino, tries);
        if (error != 0) {
            rc = error;
            break;
        }
    }
    /* The contents go as those of all writes, and end the call. */
    if (rc == 1)
        return;
    work_end(call, rc);
}
