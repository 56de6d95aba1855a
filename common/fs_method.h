/*
 * Methods of file systems, "fs.*": each is one atomic change, or one look, at one shard of a
 * directory. fs_layout.h has records and requests, client/fs/README.md the protocol between shards.
 *
 * They stand here since two run them: an OSD, on the map of the shard's object
 * (osd/ops/method_fs.c), and a client that has the exclusive lease of a shard, on the records that
 * it keeps (client/fs/shard.c). What differs is behind struct fs_records.
 *
 *   fs_method.c         what they share: looking and changing records
 *   fs_method_name.c    entries: lookup, create, enter, unlink, rename, list; shards: init, split
 *   fs_method_move.c    parts of operations over two shards
 *   fs_method_lock.c    locks of files: lock, getlock, keeplocks
 *   fs_method_inode.c   inodes: getattr, setattr, wrote, purge, reap
 *   fs_method_xattr.c   extended attributes, among them access control lists
 *   fs_method_apply.c   what a client has changed by itself
 *
 * Input: u32 length, a struct fs_request, then bytes of the method's own. Output: a struct
 * fs_answer, but for listings and values of attributes.
 */
#ifndef LIMPET_COMMON_FS_METHOD_H
#define LIMPET_COMMON_FS_METHOD_H

#include <string.h>

#include "common/fs_layout.h"

struct fs_span {
    const uint8_t *data;
    uint32_t len;
};

static inline bool fs_span_equal(struct fs_span a, struct fs_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline struct fs_span fs_span_of(const void *data, size_t len)
{
    return (struct fs_span){data, (uint32_t)len};
}

struct fs_method_call;

/* Not an error: the method is run again, once something has been loaded. Methods pass it on. */
#define FS_MISS (-EINPROGRESS)

/*
 * The records of a shard. Bytes that are found live until the end of the run; what is given must
 * live as long. Changes cannot fail by themselves: whoever runs the method learns that one has.
 */
struct fs_records {
    /* 0, or -FS_LEASED: somebody else's lease is in the way. unseen: of what no holder of a shared
     * one can see. */
    int (*may)(struct fs_method_call *call, bool unseen);
    /* -ENODATA: there is no such key; FS_MISS. */
    int (*look)(struct fs_method_call *call, const void *key, size_t len, struct fs_span *out);
    /* The first pair whose key is not less; -ENODATA. `max` are loaded at a time. */
    int (*next)(struct fs_method_call *call, const void *from, size_t len, uint32_t max,
                struct fs_span *key, struct fs_span *value);
    void (*set)(struct fs_method_call *call, const void *key, size_t key_len, const void *value,
                size_t len);
    /* Keys from `from` up to, not including, `to`. */
    void (*remove)(struct fs_method_call *call, const void *from, size_t from_len, const void *to,
                   size_t to_len);
    /* The shard itself goes. */
    void (*remove_all)(struct fs_method_call *call);
    /* Memory until the end of the run; NULL, and the run fails. */
    void *(*alloc)(struct fs_method_call *call, size_t len);
};

struct fs_method_call {
    const struct fs_records *records;
    void *shard;     /* Of `records`. */
    uint64_t caller; /* Its instance. */
    int64_t now_ns;
    bool writes; /* The request may change something. */
    bool exists; /* The shard's object. */
    bool grows;  /* Set by changes that need room; a method may take that back. */
    int failed;  /* -ENOMEM: the run cannot succeed. */
    struct decoder input;
    struct encoder output;
};

typedef int (*fs_method_run)(struct fs_method_call *call);
/* By its whole name, "fs.create"; NULL: there is none. */
fs_method_run fs_method_find(const char *name) MUST_CHECK;

struct fs_job {
    struct fs_method_call *call;
    struct fs_request rq;
    struct fs_span data; /* After the request. */
    uint64_t home;       /* Of this shard. */
    int64_t now_ns;
    struct fs_shard shard;
    struct fs_inode dir; /* Of the directory whose shard this is. */
    struct fs_answer answer;
};

/*
 * Decodes the input: -EINVAL. -FS_LEASED: somebody else has a lease of the shard, and what the
 * method does would not be seen there, or what it looks at may not be what it seems.
 */
int fs_begin(struct fs_method_call *call, struct fs_job *job) MUST_CHECK;
/* The same for what no holder of a shared lease can see. */
int fs_begin_unseen(struct fs_method_call *call, struct fs_job *job) MUST_CHECK;
/* Encodes the answer; returns 0. */
int fs_end(struct fs_job *job);
/* With an inode. */
int fs_end_with(struct fs_job *job, const struct fs_inode *inode);

/* ---- Records as they are: struct fs_records ---- */

static inline int fs_look(struct fs_method_call *call, const void *key, size_t len,
                          struct fs_span *out)
{
    return call->records->look(call, key, len, out);
}

static inline int fs_next(struct fs_method_call *call, const void *from, size_t len, uint32_t max,
                          struct fs_span *key, struct fs_span *value)
{
    return call->records->next(call, from, len, max, key, value);
}

static inline void fs_set(struct fs_method_call *call, const void *key, size_t key_len,
                          const void *value, size_t len)
{
    call->grows = true;
    call->records->set(call, key, key_len, value, len);
}

static inline void fs_remove(struct fs_method_call *call, const void *from, size_t from_len,
                             const void *to, size_t to_len)
{
    call->records->remove(call, from, from_len, to, to_len);
}

static inline void *fs_alloc(struct fs_method_call *call, size_t len)
{
    return call->records->alloc(call, len);
}

/* ---- Looking: FS_MISS, -EIO (a record is malformed), or what is said ---- */

/* The shard and its directory: -ENOENT. */
int fs_look_dir(struct fs_job *job) MUST_CHECK;
/* -ENODATA */
int fs_look_entry(struct fs_job *job, struct fs_bytes name, struct fs_entry *out) MUST_CHECK;
/* -ESTALE: there is no such inode here. */
int fs_look_inode(struct fs_job *job, uint64_t ino, struct fs_inode *out) MUST_CHECK;
/* Of one that was born here, as it is stored. */
int fs_look_inode_record(struct fs_job *job, uint64_t ino, struct fs_span *out) MUST_CHECK;
/* -ENODATA */
int fs_look_intent(struct fs_job *job, struct fs_txid tx, struct fs_intent *out) MUST_CHECK;
/* -ENODATA: there is no such key. */
int fs_look_mark(struct fs_job *job, struct fs_txid tx) MUST_CHECK;
/* Whether any key begins with this letter: 0, or -ENODATA. From an index, of inodes. */
int fs_look_any(struct fs_job *job, enum fs_key kind, uint32_t from) MUST_CHECK;
bool fs_bytes_equal(struct fs_bytes a, struct fs_bytes b);
bool fs_is_local(const struct fs_job *job, uint64_t ino);

/* ---- Changing ---- */

/* One key, of whatever kind. */
void fs_remove_key(struct fs_job *job, const void *key, size_t len);
void fs_put_shard(struct fs_job *job);
void fs_put_entry(struct fs_job *job, struct fs_bytes name, const struct fs_entry *entry);
/* Nobody sees it until the operation of the request has ended. */
void fs_put_moving(struct fs_job *job, struct fs_bytes name, const struct fs_entry *entry);
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
/* -EMLINK; -ENOENT: its last name is gone, and its contents go, too. */
int fs_may_link(const struct fs_inode *inode) MUST_CHECK;

/* ---- Extended attributes, access control lists ---- */

/* What an inode with an attribute of this name has to say: enum fs_attributes. */
uint8_t fs_attributes_of(const void *name, size_t len);

/* What is made in this directory inherits, if anything: len 0. */
int fs_look_default(struct fs_job *job, struct fs_span *out) MUST_CHECK;
/* A new inode gets the list: its mode, and its attributes. `full_mode`: without the umask. */
void fs_inherit(struct fs_job *job, struct fs_span list, uint32_t full_mode,
                struct fs_inode *inode);
/* The list follows the mode of the inode, which has changed. */
int fs_follow_mode(struct fs_job *job, const struct fs_inode *inode) MUST_CHECK;

/* ---- Entries that go ---- */

struct fs_victim {
    struct fs_entry entry;
    bool local;
    struct fs_inode inode; /* When it is local. */
};

int fs_look_victim(struct fs_job *job, const struct fs_entry *entry,
                   struct fs_victim *out) MUST_CHECK;
/* It loses its link before anybody sees that the entry is gone. */
bool fs_is_elsewhere(const struct fs_victim *victim);
/* What the entry `name` led to has a link less; where that is elsewhere by an intent, whose end
 * puts the entry `to` in its place, if there is one. */
void fs_drop_victim(struct fs_job *job, struct fs_victim *victim, struct fs_bytes name,
                    struct fs_bytes to);

int fs_method_init(struct fs_method_call *call) MUST_CHECK;
int fs_method_layout(struct fs_method_call *call) MUST_CHECK;
int fs_method_split(struct fs_method_call *call) MUST_CHECK;
int fs_method_reserve(struct fs_method_call *call) MUST_CHECK;
int fs_method_lookup(struct fs_method_call *call) MUST_CHECK;
int fs_method_create(struct fs_method_call *call) MUST_CHECK;
int fs_method_enter(struct fs_method_call *call) MUST_CHECK;
int fs_method_unlink(struct fs_method_call *call) MUST_CHECK;
int fs_method_rename(struct fs_method_call *call) MUST_CHECK;
int fs_method_list(struct fs_method_call *call) MUST_CHECK;
int fs_method_leave(struct fs_method_call *call) MUST_CHECK;
int fs_method_moved(struct fs_method_call *call) MUST_CHECK;
int fs_method_links(struct fs_method_call *call) MUST_CHECK;
int fs_method_settle(struct fs_method_call *call) MUST_CHECK;
int fs_method_dying(struct fs_method_call *call) MUST_CHECK;
int fs_method_vanish(struct fs_method_call *call) MUST_CHECK;
int fs_method_getattr(struct fs_method_call *call) MUST_CHECK;
int fs_method_setattr(struct fs_method_call *call) MUST_CHECK;
int fs_method_wrote(struct fs_method_call *call) MUST_CHECK;
int fs_method_purge(struct fs_method_call *call) MUST_CHECK;
int fs_method_reap(struct fs_method_call *call) MUST_CHECK;
int fs_method_lock(struct fs_method_call *call) MUST_CHECK;
int fs_method_getlock(struct fs_method_call *call) MUST_CHECK;
int fs_method_keeplocks(struct fs_method_call *call) MUST_CHECK;
int fs_method_xget(struct fs_method_call *call) MUST_CHECK;
int fs_method_xset(struct fs_method_call *call) MUST_CHECK;
int fs_method_xremove(struct fs_method_call *call) MUST_CHECK;
int fs_method_xlist(struct fs_method_call *call) MUST_CHECK;
int fs_method_apply(struct fs_method_call *call) MUST_CHECK;

#endif
