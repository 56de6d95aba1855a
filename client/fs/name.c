/*
 * Entries and attributes. What needs one look or one change is asked for at once, and the answer
 * ends the call; whatever does not go so easily is a worker's, which begins anew and may wait.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "client/fs/fs.h"

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
    if (rc == 0)
        call_give_inode(call, &answer->inode);
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
    fs_ask(call, fs_home(call->rq.ino), "fs.getattr", &rq, NULL, 0, got_attr);
}

static void looked_up(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                      size_t len)
{
    (void)raw, (void)len;
    call->name_grant = call->grant;
    call->name_home = fs_home(call->rq.ino);
    if (rc == -FS_MOVING) {
        call->name_grant = 0;
        call_work(call);
    } else if (rc != 0) {
        call_end(call, rc);
    } else if (answer->flags & FS_HAS_INODE) {
        call_give_inode(call, &answer->inode);
        call_end(call, 0);
    } else {
        struct fs_request rq = {.ino = answer->ino};
        fs_ask(call, fs_home(answer->ino), "fs.getattr", &rq, NULL, 0, got_attr);
    }
}

void name_lookup(struct fs_call *call)
{
    struct fs_request rq = {.ino = call->rq.ino, .name = bytes_of(call->name)};
    fs_ask(call, fs_home(call->rq.ino), "fs.lookup", &rq, NULL, 0, looked_up);
}

static void listed(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                   size_t len)
{
    (void)answer;
    if (rc == 0) {
        call->result.data = malloc(len + 1);
        call->result.len = len;
        if (call->result.data == NULL)
            rc = -ENOMEM;
        else if (len > 0)
            memcpy(call->result.data, raw, len);
    }
    call_end(call, rc == 0 ? (ssize_t)len : rc);
}

/* Attributes of a listing may be kept like those that were asked for one by one. */
static void keep_listed(struct fs_call *call, const void *raw, size_t len)
{
    struct limpet_fs *fs = call->fs;
    struct decoder d;
    struct fs_listed found;
    decoder_init(&d, raw, len);
    (void)decode_u8(&d);
    pthread_mutex_lock(&fs->lock);
    while (fs_listed_next(&d, &found) == 0) {
        if (found.has_inode)
            lease_saw(fs, &found.inode, call->grant);
    }
    pthread_mutex_unlock(&fs->lock);
    call->result.grant = call->grant;
}

static void listed_entries(struct fs_call *call, int rc, const struct fs_answer *answer,
                           const void *raw, size_t len)
{
    if (rc == 0 && call->grant != 0)
        keep_listed(call, raw, len);
    if (rc == 0 && len > 0 && *(const uint8_t *)raw & FS_LIST_NAMELESS)
        orphan_met(call->fs, call->rq.ino);
    struct encoder merged;
    encoder_init(&merged);
    if (rc == 0 && len > 0 && behind_merge_list(call->fs, raw, len, &merged))
        listed(call, rc, answer, merged.data, merged.len);
    else
        listed(call, rc, answer, raw, len);
    encoder_fini(&merged);
}

void name_list(struct fs_call *call)
{
    struct fs_request rq = {.ino = call->rq.ino,
                            .offset = call->rq.offset > LIMPET_FS_COOKIE_UP ? call->rq.offset
                                                                            : LIMPET_FS_COOKIE_UP,
                            .len = call->rq.len,
                            .flags = call->rq.flags & LIMPET_FS_ATTRS ? FS_PLUS : 0};
    fs_ask(call, fs_home(call->rq.ino), "fs.list", &rq, NULL, 0, listed_entries);
}

int limpet_fs_entry_next(const void *data, size_t len, size_t *at, struct limpet_fs_entry *out,
                         bool *more)
{
    struct decoder d;
    struct fs_listed found;
    decoder_init(&d, data, len);
    bool has_more = decode_u8(&d) & FS_LIST_MORE;
    if (d.failed)
        return -EIO;
    if (*at > 0)
        d.at = *at;
    int rc = fs_listed_next(&d, &found);
    if (rc == -ENOENT && more != NULL)
        *more = has_more;
    if (rc != 0)
        return rc == -ENOENT ? rc : -EIO;
    *at = d.at;
    memset(out, 0, sizeof *out);
    out->cookie = found.cookie;
    out->ino = found.ino;
    out->type = found.type;
    out->has_attr = found.has_inode;
    if (found.has_inode)
        attr_of_inode(&found.inode, &out->attr);
    memcpy(out->name, found.name.data, found.name.len);
    return 0;
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
        .order = call->fs->super.order,
        .pool = call->fs->super.data_pool,
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

static void open_made(struct fs_call *call)
{
    call->rq.ino = call->result.attr.ino;
    if (call->rq.flags & LIMPET_FS_NAMELESS)
        orphan_made(call);
    else
        orphan_open(call);
}

static void created(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                    size_t len)
{
    (void)raw, (void)len;
    bool there = rc == 0 && answer->flags & FS_HAS_INODE;
    /* What exists already may have its inode elsewhere; and a directory may be on its way out. */
    if (rc == -FS_MOVING || rc == -ENOENT || (rc == 0 && !there)) {
        call_work(call);
        return;
    }
    if (there) {
        call->name_grant = call->grant;
        call->name_home = fs_home(call->rq.ino);
        call_give_inode(call, &answer->inode);
        call->result.existed = answer->flags & FS_EXISTED;
    }
    if (rc == 0 && call->rq.flags & LIMPET_FS_OPENED)
        open_made(call);
    else
        call_end(call, rc);
}

void name_create(struct fs_call *call)
{
    struct fs_request rq;
    orphan_expect(call);
    if (S_ISDIR(call->rq.attr.mode)) {
        name_at_once(call);
        return;
    }
    int rc = create_request(call, &rq);
    if (rc != 0)
        call_end(call, rc);
    else
        fs_ask(call, fs_home(rq.ino), "fs.create", &rq, NULL, 0, created);
}

static void unlinked(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                     size_t len)
{
    (void)raw, (void)len;
    if (rc == 0 && answer->flags & FS_ORPHANED)
        orphan_add(call->fs, answer->inode.ino);
    /* Without a number of an operation, an inode elsewhere is not touched: -EINVAL. */
    if (rc == -FS_MOVING || rc == -EINVAL)
        call_work(call);
    else
        call_end(call, rc);
}

void name_unlink(struct fs_call *call)
{
    struct fs_request rq = {.ino = call->rq.ino, .name = bytes_of(call->name)};
    fs_ask(call, fs_home(rq.ino), "fs.unlink", &rq, NULL, 0, unlinked);
}

/* ---- Extended attributes ---- */

static void got_bytes(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                      size_t len)
{
    listed(call, stale(rc), answer, raw, len);
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

static int work_lookup(struct fs_call *call)
{
    struct fs_request rq = {.ino = call->rq.ino, .name = bytes_of(call->name)};
    struct fs_answer answer;
    int rc = fs_method(call->fs, fs_home(rq.ino), "fs.lookup", &rq, &answer);
    if (rc == 0 && !(answer.flags & FS_HAS_INODE))
        rc = name_getinode(call->fs, answer.ino, &answer.inode);
    if (rc == 0)
        call_give_inode(call, &answer.inode);
    return rc;
}

/* A directory that is going lets nothing be made in it; if who removes it has died, it stays. */
static int work_create(struct fs_call *call)
{
    struct fs_request rq;
    struct fs_answer answer;
    struct fs_inode dir;
    int rc = create_request(call, &rq);
    if (rc == 0)
        rc = fs_method(call->fs, fs_home(rq.ino), "fs.create", &rq, &answer);
    if (rc == -ENOENT && name_getinode(call->fs, rq.ino, &dir) == 0 && dir.dying && dir.links > 0)
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
    struct fs_answer answer;
    int rc = set_request(call, &rq);
    if (rc == 0)
        rc = data_setsize(call, &rq, &answer);
    if (rc == 0)
        call_give_inode(call, &answer.inode);
    return stale(rc);
}

static int work_once(struct fs_call *call)
{
    switch (call->rq.verb) {
    case LIMPET_FS_LOOKUP:
        return work_lookup(call);
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
    default:
        return -EINVAL;
    }
}

/* What is left to do of a call whose steps are over. */
static void work_end(struct fs_call *call, int rc)
{
    if (rc == 0 && call->rq.verb == LIMPET_FS_CREATE && call->rq.flags & LIMPET_FS_OPENED)
        open_made(call);
    else
        call_end(call, rc);
}

/* All steps in a delegated shard, and in those that were born under its cover: nothing waits. */
void name_at_once(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_order order;
    uint64_t home = fs_home(call->rq.ino);
    if (!lease_pin(fs, home)) {
        call_work(call);
        return;
    }
    order_begin(fs, &order, true);
    int rc = work_once(call);
    order_end(fs);
    lease_unpin(fs, home);
    if (rc == -FS_REMOTE || rc == -FS_MOVING || rc == -FS_CHANGED)
        call_work(call);
    else
        work_end(call, rc);
}

static int work_in_order(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_order order;
    order_begin(fs, &order, false);
    int rc = work_once(call);
    order_end(fs);
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
    for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
        rc = work_in_order(call);
        if (rc != -FS_MOVING && rc != -FS_CHANGED)
            break;
        int error = rc == -FS_MOVING ? move_clear(call->fs, call->rq.ino, tries) : 0;
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
