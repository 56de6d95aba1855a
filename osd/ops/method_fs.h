/*
 * Methods of file systems, "fs.*": each is one atomic change, or one look, at one shard of a
 * directory. common/fs_layout.h has records and requests, client/fs/README.md the protocol between
 * shards.
 *
 *   method_fs.c         what they share: looking and changing records
 *   method_fs_name.c    entries: lookup, create, enter, unlink, rename, list
 *   method_fs_move.c    parts of operations over two shards
 *   method_fs_lock.c    locks of files
 *   method_fs_inode.c   inodes: getattr, setattr, wrote, links, attributes, purge
 *
 * Input: u32 length, a struct fs_request, then bytes of the method's own. Output: a struct
 * fs_answer, but for listings and values of attributes.
 */
#ifndef LIMPET_OSD_OPS_METHOD_FS_H
#define LIMPET_OSD_OPS_METHOD_FS_H

#include "common/fs_layout.h"
#include "osd/ops/method.h"

struct fs_job {
    struct method_call *call;
    struct object_view *view;
    struct fs_request rq;
    struct view_bytes data; /* After the request. */
    uint64_t home;          /* Of this shard. */
    int64_t now_ns;
    struct fs_shard shard;
    struct fs_inode dir; /* Of the directory whose shard this is. */
    struct fs_answer answer;
};

/*
 * Decodes the input: -EINVAL. -FS_LEASED: somebody else has a lease of the shard, and what the
 * method does would not be seen there, or what it looks at may not be what it seems.
 */
int fs_begin(struct method_call *call, struct fs_job *job) MUST_CHECK;
/* The same for what no holder of a lease can see. */
int fs_begin_unseen(struct method_call *call, struct fs_job *job) MUST_CHECK;
/* Encodes the answer; returns 0. */
int fs_end(struct fs_job *job);

/* ---- Looking: VIEW_MISS, -EIO (a record is malformed), or what is said ---- */

/* The shard and its directory: -ENOENT. */
int fs_look_dir(struct fs_job *job) MUST_CHECK;
/* -ENODATA */
int fs_look_entry(struct fs_job *job, struct fs_bytes name, struct fs_entry *out) MUST_CHECK;
/* -ESTALE: there is no such inode here. */
int fs_look_inode(struct fs_job *job, uint64_t ino, struct fs_inode *out) MUST_CHECK;
/* -ENODATA */
int fs_look_intent(struct fs_job *job, struct fs_txid tx, struct fs_intent *out) MUST_CHECK;
/* -ENODATA: there is no such key. */
int fs_look_mark(struct fs_job *job, struct fs_txid tx) MUST_CHECK;
/* Whether any key begins with this letter: 0, or -ENODATA. From an index, of inodes. */
int fs_look_any(struct fs_job *job, enum fs_key kind, uint32_t from) MUST_CHECK;
bool fs_bytes_equal(struct fs_bytes a, struct fs_bytes b);
bool fs_is_local(const struct fs_job *job, uint64_t ino);

/* ---- Changing ---- */

void fs_put_shard(struct fs_job *job);
void fs_put_entry(struct fs_job *job, struct fs_bytes name, const struct fs_entry *entry);
void fs_remove_entry(struct fs_job *job, struct fs_bytes name);
void fs_put_inode(struct fs_job *job, uint32_t index, const struct fs_inode *inode);
void fs_put_intent(struct fs_job *job, struct fs_txid tx, const struct fs_intent *intent);
/* None: the record goes. */
void fs_put_locks(struct fs_job *job, const struct fs_locks *locks);
void fs_put_mark(struct fs_job *job, struct fs_txid tx);
void fs_put_key(struct fs_job *job, enum fs_key kind, uint32_t index);
void fs_remove_tx(struct fs_job *job, enum fs_key kind, struct fs_txid tx);
void fs_remove_index(struct fs_job *job, enum fs_key kind, uint32_t index);
/* The directory has changed now. */
void fs_put_dir(struct fs_job *job);
/* The inode has changed now, but not its contents. */
void fs_touch(struct fs_job *job, struct fs_inode *inode);

/* ---- Entries that go ---- */

struct fs_victim {
    struct fs_entry entry;
    bool local;
    struct fs_inode inode; /* When it is local. */
};

int fs_look_victim(struct fs_job *job, const struct fs_entry *entry,
                   struct fs_victim *out) MUST_CHECK;
/* What the entry named has a link less: at once, or by an intent. */
void fs_drop_victim(struct fs_job *job, struct fs_victim *victim);

int method_fs_init(struct method_call *call) MUST_CHECK;
int method_fs_reserve(struct method_call *call) MUST_CHECK;
int method_fs_lookup(struct method_call *call) MUST_CHECK;
int method_fs_create(struct method_call *call) MUST_CHECK;
int method_fs_enter(struct method_call *call) MUST_CHECK;
int method_fs_unlink(struct method_call *call) MUST_CHECK;
int method_fs_rename(struct method_call *call) MUST_CHECK;
int method_fs_list(struct method_call *call) MUST_CHECK;
int method_fs_leave(struct method_call *call) MUST_CHECK;
int method_fs_moved(struct method_call *call) MUST_CHECK;
int method_fs_links(struct method_call *call) MUST_CHECK;
int method_fs_settle(struct method_call *call) MUST_CHECK;
int method_fs_dying(struct method_call *call) MUST_CHECK;
int method_fs_vanish(struct method_call *call) MUST_CHECK;
int method_fs_getattr(struct method_call *call) MUST_CHECK;
int method_fs_setattr(struct method_call *call) MUST_CHECK;
int method_fs_wrote(struct method_call *call) MUST_CHECK;
int method_fs_purge(struct method_call *call) MUST_CHECK;
int method_fs_lock(struct method_call *call) MUST_CHECK;
int method_fs_getlock(struct method_call *call) MUST_CHECK;
int method_fs_xget(struct method_call *call) MUST_CHECK;
int method_fs_xset(struct method_call *call) MUST_CHECK;
int method_fs_xremove(struct method_call *call) MUST_CHECK;
int method_fs_xlist(struct method_call *call) MUST_CHECK;

#endif
