/*
 * Listings. A directory is listed page by page, through its first shard and then its parts. When
 * attributes are wanted of many entries, the lease of the shard comes first, so that what the
 * listing tells may be kept and nobody asks for it one by one; and the inodes of the shard are read
 * all together, in the order in which the OSD has them: that costs it a tenth of looking for each.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/lease.h"

enum {
    MANY = 64,     /* Entries of one shard, for which a lease is worth its price. */
    JOINED_BY = 4, /* So much longer is an entry with its attributes. */
};

/* Attributes of a listing may be kept like those that were asked for one by one: whether all are.
 */
static bool keep_listed(struct fs_call *call, const void *raw, size_t len)
{
    struct limpet_fs *fs = call->fs;
    struct decoder d;
    struct fs_listed found;
    bool all = true;
    decoder_init(&d, raw, len);
    (void)fs_list_head_decode(&d);
    pthread_mutex_lock(&fs->lock);
    const struct fs_lease *lease = lease_find(fs, fs_home(call->at));
    /* Of records that are here nothing is remembered but that they were told. */
    bool here = lease != NULL && lease->shard != NULL;
    while ((here ? fs_listed_skim(&d, &found) : fs_listed_next(&d, &found)) == 0) {
        if (!found.has_inode)
            continue;
        found.inode.ino = found.ino;
        lease_saw(fs, &found.inode, call->grant);
        all = all && lease != NULL && (lease->shard != NULL || lease_keeps(lease, found.ino));
    }
    pthread_mutex_unlock(&fs->lock);
    return all;
}

/* That comes after the one that was asked last; 0: that was the last one. */
static uint64_t next_shard(const struct fs_call *call)
{
    if (call->parts == 0)
        return 0;
    uint64_t next = call->at == call->rq.ino ? call->parts : fs_home(call->at) + 1;
    return next < call->parts + FS_PARTS ? fs_ino(next, FS_INDEX_DIR) : 0;
}

static bool is_many(const void *raw, size_t len)
{
    struct decoder d;
    struct fs_listed found;
    unsigned n = 0;
    decoder_init(&d, raw, len);
    bool more = fs_list_head_decode(&d).flags & FS_LIST_MORE;
    while (n < MANY && fs_listed_skim(&d, &found) == 0)
        n++;
    return more || n == MANY;
}

/* Whether a worker is to take the lease of the shard, and to read its inodes, before it is listed.
 */
static bool must_prepare(const struct fs_call *call, uint64_t at)
{
    return call->rq.flags & LIMPET_FS_ATTRS && call->prepared != at &&
           lease_may_know_all(call->fs, fs_home(at));
}

/* A page of entries gets the attributes that are known of them. */
static bool join(struct fs_call *call, const void *raw, size_t len, struct encoder *out)
{
    struct limpet_fs *fs = call->fs;
    struct fs_listed found;
    struct decoder d;
    uint64_t home = fs_home(call->at);
    decoder_init(&d, raw, len);
    fs_list_head_put(out, fs_list_head_decode(&d));
    pthread_mutex_lock(&fs->lock);
    bool known = call->grant != 0 && lease_current(fs, home) == call->grant;
    while (fs_listed_next(&d, &found) == 0) {
        found.has_inode =
            known && fs_home(found.ino) == home && lease_record(fs, found.ino, &found.inode);
        if (found.has_inode)
            behind_show(fs, &found.inode);
        fs_listed_encode(out, &found);
    }
    pthread_mutex_unlock(&fs->lock);
    return !out->failed;
}

/* Where it ends. */
static void note_end(struct fs_call *call)
{
    struct decoder d;
    struct fs_listed found;
    decoder_init(&d, call->result.data, call->result.len);
    call->result.more = fs_list_head_decode(&d).flags & FS_LIST_MORE;
    while (fs_listed_skim(&d, &found) == 0)
        call->result.offset = found.cookie;
}

static void give(struct fs_call *call, const void *raw, size_t len)
{
    struct encoder own;
    int rc = 0;
    encoder_init(&own);
    if (call->joins && len > 0) {
        rc = join(call, raw, len, &own) ? call_give_bytes(call, own.data, own.len) : -ENOMEM;
        call->result.grant = call->grant;
    } else {
        if (call->grant != 0 && keep_listed(call, raw, len))
            call->result.grant = call->grant;
        bool touched = !limpet_fs_untouched(call->fs, &call->result);
        bool merged = len > 0 && behind_merge_list(call->fs, raw, len, touched, &own);
        rc = merged ? call_give_bytes(call, own.data, own.len) : call_give_bytes(call, raw, len);
    }
    encoder_fini(&own);
    if (rc == 0 && call->result.len > 0 && call->goes_on)
        *(uint8_t *)call->result.data |= FS_LIST_MORE;
    if (rc == 0)
        note_end(call);
    call_end(call, rc == 0 ? (ssize_t)call->result.len : rc);
}

static void list_at(struct fs_call *call, uint64_t at, uint64_t after, bool many);

static void listed(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                   size_t len)
{
    struct decoder d;
    (void)answer;
    if (rc != 0) {
        call_end(call, rc);
        return;
    }
    if (call->grant == 0 && is_many(raw, len) && must_prepare(call, call->at)) {
        list_at(call, call->at, call->list_after, true);
        return;
    }
    decoder_init(&d, raw, len);
    struct fs_list_head head = fs_list_head_decode(&d);
    if (head.flags & FS_LIST_NAMELESS)
        orphan_met(call->fs, call->at);
    call->parts = call->at == call->rq.ino ? head.parts : call->parts;
    uint64_t next = head.flags & FS_LIST_MORE ? 0 : next_shard(call);
    if (next != 0 && decoder_left(&d) == 0) {
        list_at(call, next, 0, true);
        return;
    }
    call->goes_on = next != 0;
    give(call, raw, len);
}

/* many: so many are to be expected that the shard's lease is worth its price. */
static void list_at(struct fs_call *call, uint64_t at, uint64_t after, bool many)
{
    call->at = call->result.shard = at;
    call->result.touched = lease_touched(call->fs, fs_home(at));
    call->list_after = after;
    if (many && must_prepare(call, at)) {
        call->prepared = at;
        call_work(call);
        return;
    }
    bool attrs = call->rq.flags & LIMPET_FS_ATTRS;
    call->joins = attrs && lease_knows_all(call->fs, fs_home(at));
    struct fs_request rq = {.ino = at,
                            .offset = after > LIMPET_FS_COOKIE_UP ? after : LIMPET_FS_COOKIE_UP,
                            .len = call->joins ? call->rq.len / JOINED_BY : call->rq.len,
                            .flags = attrs && !call->joins ? FS_PLUS : 0};
    fs_ask(call, fs_home(at), "fs.list", &rq, NULL, 0, listed);
}

/* Parts are large, and so is what a first page has not shown as a whole. */
void name_list(struct fs_call *call)
{
    uint64_t after = call->rq.offset;
    if (after < FS_COOKIE_PARTS) {
        list_at(call, call->rq.ino, after, after > LIMPET_FS_COOKIE_UP);
        return;
    }
    call->parts = parts_known(call->fs, call->rq.ino);
    if (call->parts == 0)
        call_work(call);
    else
        list_at(call, part_ino(call->parts, fs_part_of(after)), after & (FS_COOKIE_PARTS - 1),
                true);
}

/* A worker's: the shard is prepared, or the parts of the directory are to be found out. */
void name_list_slowly(struct fs_call *call)
{
    if (call->prepared != 0) {
        lease_know_all(call->fs, fs_home(call->prepared));
        list_at(call, call->at, call->list_after, true);
        return;
    }
    int rc = name_learn(call);
    if (rc == 0 && parts_known(call->fs, call->rq.ino) == 0)
        rc = -EINVAL; /* There is no such place. */
    if (rc != 0)
        call_end(call, rc);
    else
        name_list(call);
}

int limpet_fs_entry_next(const void *data, size_t len, size_t *at, struct limpet_fs_entry *out,
                         bool *more)
{
    struct decoder d;
    struct fs_listed found;
    decoder_init(&d, data, len);
    bool has_more = fs_list_head_decode(&d).flags & FS_LIST_MORE;
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
