/*
 * Inside of client/fs; README.md has the protocol.
 *
 *   super.c    file systems of a pool; opening and closing one
 *   call.c     requests, and methods of shards: waiting, or with a callback
 *   work.c     the threads for what takes several steps
 *   name.c     entries; operations over one shard
 *   list.c     listings
 *   move.c     operations over two shards, and what the dead have left
 *   parts.c    directories of several shards
 *   data.c     contents
 *   layout.c   how they are cut into objects
 *   copy.c     from one file to another
 *   behind.c   writes that are acknowledged before they have arrived
 *   cache.c    contents that are kept
 *   orphan.c   open files, and files without names
 *   registry.c who answers for those, also after a death
 *   lock.c     locks of fcntl and flock
 *   deadlock.c locks that wait for each other
 *   lease.c    leases of shards, and what may be kept under them
 *   shard.c    records of a delegated shard, and methods on them
 *   write_back.c  their changes, in batches
 */
#ifndef LIMPET_CLIENT_FS_FS_H
#define LIMPET_CLIENT_FS_FS_H

#include <pthread.h>
#include <sys/queue.h>
#include <uthash.h>

#include "client/limpet/fs.h"
#include "common/fs_layout.h"

enum {
    FS_WORKERS = 4,
    /* Of orphans, the keeper of leases, who asks for them, who writes back records, and contents,
     * who makes requests anew, who splits directories: workers may wait for those. */
    FS_THREADS = FS_WORKERS + 8,
    FS_HOMES_AT_ONCE = 1024, /* Numbers of shards that a client reserves. */
    FS_DELAY_MS = 2000,      /* Before changes of delegated shards are written back. */
    FS_ERRORS_MAX = 64,      /* Shards whose lost changes nobody has been told of. */
    FS_UNTOLD_MAX = 1024,    /* Closed files, the same. */
    FS_UNFOUND_MAX = 256,    /* Shards whose names were lost, that are remembered. */
    FS_OPEN_BUCKETS = 1024,
    FS_TOUCHED = 64,    /* Counters of changes, for shards by their homes. */
    FS_PIECES_MAX = 16, /* Data objects that one request works on at a time. */
    FS_CACHE_PAGE = 4096,
    FS_CACHED_READ_MAX = 64 << 10, /* Larger ones are not kept here. */
    FS_ROOMS_AT_ONCE = 128,
    FS_WATCH_MS = 10000,
    FS_MET_MAX = 64,
    FS_GROWN_MAX = 64, /* Directories that may have grown large. */
    FS_LEFT_MAX = 64,  /* Shards that others have met something of this client in. */
};

struct fs_dir;
struct fs_file;
struct fs_call;
struct fs_orphan;
LIST_HEAD(fs_files, fs_file);
STAILQ_HEAD(fs_calls, fs_call);
LIST_HEAD(fs_ahead_list, fs_file);
TAILQ_HEAD(fs_room_list, fs_file);
struct fs_part;
LIST_HEAD(fs_parts, fs_part);
struct fs_write;
TAILQ_HEAD(fs_writes, fs_write);
TAILQ_HEAD(fs_unsent, fs_write);
STAILQ_HEAD(fs_orphans, fs_orphan);
struct fs_lease;
STAILQ_HEAD(fs_leases, fs_lease);
struct fs_ask;
STAILQ_HEAD(fs_asks, fs_ask);
TAILQ_HEAD(fs_locked_list, fs_call);
struct fs_held;
struct fs_unkept;
struct fs_batch;
TAILQ_HEAD(fs_batches, fs_batch);
struct fs_order;
LIST_HEAD(fs_orders, fs_order);

/* Our own word: a step would be a request, and the operation must not wait. */
#define FS_REMOTE EREMOTE

/* What was lost of a shard, until fsync has told. */
struct fs_error {
    uint64_t home;
    int error;
    bool any; /* Not of this shard alone: of others that there was no room for. */
};

struct fs_answered_for;

struct fs_met {
    uint64_t dir;
    time_t when_s;
};

/* What a notify of the object "super" is about: its first byte. */
enum fs_notify {
    FS_NOTIFY_OPEN = 1,
    FS_NOTIFY_UNLOCKED = 2,
    FS_NOTIFY_WAITS = 3,
    FS_NOTIFY_LEFT = 4
};

/* A shard of which nobody may find the name (B10). */
struct fs_unfound {
    uint64_t home;
    struct fs_batch *name; /* On its way, when its lease ended; NULL: it was lost. */
    bool gone;             /* It was removed: nothing is in it, and nothing comes into it. */
};

struct limpet_fs {
    struct limpet_cluster *cluster;
    struct limpet_pool *pool, *data, *root; /* `root`: without the namespace. */
    struct fs_super super;
    char name[LIMPET_FS_NAME_MAX + 1];
    uint64_t instance;
    struct limpet_watch *watch;

    pthread_mutex_t lock;                   /* Of what follows. */
    pthread_cond_t changed, idle, orphaned; /* For workers; no call is left; for their thread. */
    uint64_t sequence;                      /* Of the last operation over several objects. */
    uint64_t first; /* Numbers of this opening's are higher, and those of earlier ones lower. */
    uint64_t next_home, end_home;
    uint64_t calls; /* That have not ended. */
    struct fs_files files[FS_OPEN_BUCKETS];
    struct fs_calls work;
    struct fs_orphans orphans, orphans_later;
    size_t n_orphans; /* In `orphans`, the first one of which has come, at: */
    uint64_t orphaned_ns;
    struct fs_answered_for *answered_for; /* Shards, by home: registry.c */
    bool registering;
    time_t look_s;
    uint64_t left[FS_LEFT_MAX]; /* Inodes; M4 */
    unsigned n_left;
    unsigned nameless;             /* Requests under way that make files without names. */
    uint64_t questions;            /* By others, whether files are open that were not. */
    struct fs_met met[FS_MET_MAX]; /* Shards whose files without names were asked about. */
    unsigned next_met;
    bool stopping;
    bool ended; /* All threads but the one that makes requests anew. */
    bool lost;  /* Others may take this client for dead. */
    unsigned n_workers;
    pthread_t workers[FS_THREADS];
    struct fs_asks refused; /* A worker's: somebody else's lease is in the way. */

    struct fs_locked_list locks; /* Requests for locks. */
    struct fs_held *held;
    struct fs_unkept *unkept; /* Inodes of whose locks the OSD may have too many: K2. */
    uint64_t last_blocked;

    struct limpet_fs_cache_calls cache_calls;
    void *cache_arg;
    pthread_cond_t lease_changed;
    struct fs_lease *leases; /* By home. */
    struct fs_leases leases_wanted, leases_over;
    bool lease_asking;
    uint64_t last_grant;
    size_t n_kept, n_born;
    uint64_t record_bytes, record_max; /* Of delegated shards, and batches of theirs. */
    uint64_t uses;                     /* Of leases, so often. */
    uint64_t touched[FS_TOUCHED];      /* What shards have told has changed here, so often. */
    unsigned shrinking;                /* Leases that are given back for lack of memory. */
    size_t kept_max;

    /* parts.c */
    struct fs_dir *dirs; /* That are known to have parts. */
    pthread_cond_t grew;
    uint64_t grown[FS_GROWN_MAX];
    unsigned n_grown;

    struct fs_cache *cache;
    uint64_t contents_changed; /* So often, by this client. */

    pthread_cond_t written; /* A batch has ended, or one is due. */
    struct fs_batches batches, ready;
    struct fs_orders orders; /* Operations of several steps, under way. */
    uint64_t last_batch;     /* Its number. */
    uint64_t last_level;     /* The highest one of a batch, since there was none. */
    uint64_t batch_ns;       /* What one takes, about. */
    unsigned n_sending;
    uint64_t sending_bytes;
    size_t n_changes; /* Since the oldest batch began. */
    uint64_t dirty_since_ns;
    struct fs_calls syncing; /* Requests that wait for batches. */
    struct fs_unfound unfound[FS_UNFOUND_MAX];
    unsigned n_unfound;
    _Atomic uint64_t gones; /* How many have become `gone`. */
    struct fs_error errors[FS_ERRORS_MAX];
    unsigned n_errors, n_untold;
    uint64_t losses;

    /* behind.c */
    pthread_cond_t behind_changed, behind_wanted; /* The second one is for the thread, */
    pthread_cond_t behind_begun;                  /* this one for its guard. */
    struct fs_ahead_list ahead;                   /* Files whose records are behind. */
    struct fs_parts parts;         /* Requests for contents that are being written. */
    struct fs_room_list want_room; /* Urgent ones first; all, at: */
    int64_t room_due_ns;
    struct fs_room_list want_drain;    /* Files of which the thread is to send more. */
    struct fs_calls throttled;         /* Writes that wait for memory. */
    uint64_t behind_bytes, behind_max; /* Of memory: what writes cost, and may. */
};

/* A request. */
struct fs_call {
    STAILQ_ENTRY(fs_call) link;
    struct limpet_fs *fs;
    limpet_fs_callback done;
    void *arg;
    struct limpet_fs_request rq; /* Names and data are the call's. */
    struct limpet_fs_result result;
    char name[FS_NAME_BYTES_MAX + 1], to_name[FS_NAME_BYTES_MAX + 1];
    void *data;                   /* Of a request that needs it beyond its submission. */
    struct limpet_buffer *buffer; /* What is to be written. */
    struct fs_file *file;
    /* What is read, which may be more than was asked for, and to be kept. */
    uint64_t span_offset;
    size_t span_len;
    bool keeps, to_end;
    uint64_t seen_changes;
    /* lease_grant() of when was asked for what has been answered: of a name, and of an inode. */
    uint64_t grant, name_grant, name_home;
    /* What was asked last, of a directory of several shards: itself or a part. And its parts. */
    uint64_t at, parts;
    uint64_t gones; /* Of the file system, then. */
    /* A listing (list.c): it goes on in the next shard; entries get attributes that are known; the
     * place in the shard; the shard whose lease was asked for. */
    bool goes_on, joins;
    uint64_t list_after, prepared;
    TAILQ_ENTRY(fs_call) lock_link;
    bool waiting, woken, cancelled; /* A lock: lock.c */
    uint64_t blocked;               /* Its number among those that had to wait: deadlock.c */
    uint64_t blocker_instance, blocker_owner;
    uint64_t until_batch;     /* fsync: which is the last one that it waits for. */
    bool verify;              /* A write: that nobody has cut the file meanwhile. */
    uint64_t questions;       /* An open, creation: the client's before it was asked for (O3). */
    uint16_t relaid;          /* A write: of the layout that it goes by. */
    _Atomic unsigned pending; /* Steps under way, of those at a time. */
    /* behind.c */
    uint64_t until_write; /* fsync: the last one of the file that it waits for. */
    size_t written;       /* A write that is an fsync by now: what it ends with. */
    int close_error;
    bool resumed; /* A write that has waited for memory. */
    _Atomic int error;
};

/* Several writes of a file tell its inode of themselves together. */
struct fs_tell {
    struct fs_call carrier; /* Must come first. */
    struct fs_file *file;
    struct fs_calls calls;
};

/* A file that is open here, or has writes on their way. */
struct fs_file {
    LIST_ENTRY(fs_file) link;
    uint64_t ino;
    uint64_t opens;
    unsigned holds; /* By functions that let go of the lock meanwhile. */
    bool orphan;    /* When it is closed, it is to be collected. */
    /* behind.c */
    struct fs_writes writes; /* That have not arrived, oldest first. */
    struct fs_unsent unsent; /* Those of them that wait to be sent. */
    struct fs_calls syncs;   /* That wait for writes. */
    uint64_t last_write;     /* Its number. */
    uint64_t unsent_bytes;
    unsigned n_sent; /* That were sent and have not arrived; where the last one of these ended: */
    uint64_t sent_bytes, sent_end;
    unsigned waiters; /* For writes to be sent, or to have arrived. */
    bool sending, wants_room, wants_drain, ahead, mtime_seen;
    uint64_t ahead_size, arrived_end;
    uint64_t settled_end;     /* How far those reach that have arrived with all before them. */
    int64_t ahead_mtime_ns;   /* 0: as in the record. */
    struct fs_txid behind_tx; /* By which the record says that contents may lie beyond its size. */
    int error;                /* Of a write, until somebody was told. */
    bool untold;              /* It was closed, and stays until then, */
    bool close_told;          /* unless a close has told. */
    LIST_ENTRY(fs_file) ahead_link;
    TAILQ_ENTRY(fs_file) room_link, drain_link;
    uint64_t changes; /* The client's contents_changed at the last one of this file. */
    bool known;
    struct fs_inode durable; /* Where a buffered inode is known to have room for data, */
    uint64_t durable_grant;  /* while this is the grant of its shard. */
    uint64_t rooms_lost;     /* So often: what was read of the record before is no room. */
    struct fs_inode inode;   /* As it was seen last; what never changes may be relied on. */
    bool telling;            /* `tell`, a `wrote`, is on its way. */
    struct fs_tell tell;
    struct fs_calls told_next; /* Those that the next one is for. */
};

/* A method that was asked for, with a callback. */
struct fs_ask {
    STAILQ_ENTRY(fs_ask) link;
    struct fs_call *call;
    void (*answered)(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                     size_t len);
    uint64_t home;
    const char *method;
    struct encoder input;
    struct limpet_op *op;
    void *out;
    size_t out_len;
    bool raw;
    bool parked;   /* To be begun anew, once what it waits for is over. */
    bool unfound;  /* And a shard that nobody finds is to go before (B10). */
    bool deferred; /* It is a batch: others wait for it. */
};

/* ---- call.c ---- */

/* Ends the call; it is gone afterwards. */
void call_end(struct fs_call *call, ssize_t rc);
/* A worker goes on with it, from the beginning. */
void call_work(struct fs_call *call);
void call_give_inode(struct fs_call *call, const struct fs_inode *inode);
/* Its data: a copy of these. */
int call_give_bytes(struct fs_call *call, const void *bytes, size_t len) MUST_CHECK;
void attr_of_inode(const struct fs_inode *inode, struct limpet_fs_attr *out);
struct fs_bytes bytes_of(const char *text);
/* What a method is called with. Whoever gets it releases it, also after an error. */
int call_encode(struct encoder *input, const struct fs_request *rq, const void *data,
                size_t len) MUST_CHECK;

/* An operation of one step, the method; NULL: memory is short. Release *out with limpet_free(). */
struct limpet_op *call_op(const char *method, const struct fs_request *rq, const void *data,
                          size_t len, void **out, size_t *out_len);
/* The same as a step of an operation. */
int call_op_add(struct limpet_op *op, const char *method, const struct fs_request *rq,
                const void *data, size_t len, void **out, size_t *out_len) MUST_CHECK;
/* A method of a shard; waits. data, out may be NULL; release *out with limpet_free(). */
int fs_method_raw(struct limpet_fs *fs, uint64_t home, const char *method,
                  const struct fs_request *rq, const void *data, size_t len, void **out,
                  size_t *out_len) MUST_CHECK;
/* What `out` points to in its inode is not there: inodes with targets are read by raw. */
int fs_method(struct limpet_fs *fs, uint64_t home, const char *method, const struct fs_request *rq,
              struct fs_answer *out) MUST_CHECK;
/* One that may fail without harm: somebody else, or `check`, does it later. */
void fs_method_hopefully(struct limpet_fs *fs, uint64_t home, const char *method,
                         const struct fs_request *rq);

/* On the library's thread; the answer's memory is gone when it returns. */
typedef void (*fs_answered)(struct fs_call *call, int rc, const struct fs_answer *answer,
                            const void *raw, size_t len);
/* With a callback, which is made in any case. */
void fs_ask(struct fs_call *call, uint64_t home, const char *method, const struct fs_request *rq,
            const void *data, size_t len, fs_answered answered);
struct fs_txid fs_new_tx(struct limpet_fs *fs);

/* One to begin later, with a call of its own, which `answered` releases; NULL: memory is short. */
struct fs_ask *ask_create(struct limpet_fs *fs, uint64_t home, const char *method,
                          const struct fs_request *rq, const void *data, size_t len,
                          fs_answered answered);
/* One that was not begun, and its call. */
void ask_free(struct fs_ask *ask);
/* Begins, or begins anew. */
void ask_begin(struct fs_ask *ask);
/* A worker's: takes the exclusive lease, and asks again. */
void ask_again(struct fs_ask *ask);

/* ---- lease.c ---- */

/* Counts as a use. What is asked for after this may be kept under this grant; 0: it may not. */
uint64_t lease_grant(struct limpet_fs *fs, uint64_t home);
/* All of these with the lock. */
/* An inode as it was in answer to something asked for under this grant, or as we have made it. */
void lease_saw(struct limpet_fs *fs, const struct fs_inode *inode, uint64_t grant);
/* As it is, if that is known for certain. */
bool lease_inode(struct limpet_fs *fs, uint64_t ino, struct fs_inode *out);
/* As we have it, perhaps under a lease that is over: for what is to be written back. */
bool lease_record(struct limpet_fs *fs, uint64_t ino, struct fs_inode *out);
/* 0: nothing may be kept now. */
uint64_t lease_current(struct limpet_fs *fs, uint64_t home);
/* Contents that were asked for under this grant, or none, have been given. */
void lease_read(struct limpet_fs *fs, uint64_t ino, uint64_t grant);
/* Before something is told that may be kept: NULL, it may not. Then lease_replied(). */
struct fs_lease *lease_reply(struct limpet_fs *fs, uint64_t home, uint64_t grant);
/* Whether it would be dropped with the lease. */
bool lease_keeps(const struct fs_lease *lease, uint64_t ino);
void lease_replied(struct limpet_fs *fs, struct fs_lease *lease);
/* These without the lock. lease_inode() of the call's inode, whose answer may then be kept. */
bool lease_known(struct fs_call *call, struct fs_inode *out);
/* Whether it was had all the time. */
bool lease_held(struct limpet_fs *fs, uint64_t home, uint64_t grant);
/* Something was refused for the sake of others' leases: waits until they have given them back.
 * -ETIMEDOUT: some did not. */
int lease_recall_others(struct limpet_fs *fs, uint64_t home, bool writes) MUST_CHECK;
/* What a method of ours has done to the shard's directory, if anything (L6). */
void lease_saw_change(struct limpet_fs *fs, uint64_t home, const struct fs_answer *answer);
/* With the lock. Whether several clients have been changing this directory for a while. */
bool lease_is_shared_by_many(struct limpet_fs *fs, uint64_t home);
/*
 * An operation of several steps at once: none of them is to wait. Not while the shard is not
 * delegated: false. Ends with lease_unpin().
 */
bool lease_pin(struct limpet_fs *fs, uint64_t home);
void lease_unpin(struct limpet_fs *fs, uint64_t home);
/*
 * For listings, without the lock: whether the shared lease may be taken, and all inodes of the
 * shard be read and kept under it; does so, as far as it can be done, and waits; whether they are.
 */
bool lease_may_know_all(struct limpet_fs *fs, uint64_t home);
void lease_know_all(struct limpet_fs *fs, uint64_t home);
bool lease_knows_all(struct limpet_fs *fs, uint64_t home);
/* A directory was made at once: its name and attributes may be kept. */
void lease_made(struct fs_call *call, const struct fs_inode *inode);
/* A new directory of a delegated one is delegated, too. */
bool lease_birth(struct limpet_fs *fs, uint64_t home, uint64_t cover);
/* A directory, or an inode of it, is about to be seen from elsewhere: its shard is given back if it
 * has no lease of its own. Waits. */
void lease_uncover(struct limpet_fs *fs, uint64_t home);
/* Where a method is to be run. With the lock. */
/* Something that was told of this shard's names or inodes may not be true any more. With the lock.
 */
void lease_touch(struct limpet_fs *fs, uint64_t home);
/* Another number after that. */
uint64_t lease_touched(struct limpet_fs *fs, uint64_t home);
enum lease_route { LEASE_LOCAL, LEASE_AT_OSD, LEASE_WAIT };
enum lease_route lease_route(struct limpet_fs *fs, uint64_t home, bool writes,
                             struct fs_lease **out);
/* A request has come back from the OSD; with the lock. */
void lease_returned(struct limpet_fs *fs, uint64_t home);
/* B10, with the lock: whether nobody finds the shard, since its name was lost. */
bool unfound_has(struct limpet_fs *fs, uint64_t home);
bool unfound_is_gone(const struct limpet_fs *fs, uint64_t home);
/* It has been removed. */
void unfound_end(struct limpet_fs *fs, uint64_t home);
/*
 * Without the lock: an entry that was looked up when there were `gones` leads to the inode. If it
 * counted as gone then, its removal is taken back. What has become so since may have been found in
 * memory, by a name that was lost meanwhile.
 */
void unfound_met(struct limpet_fs *fs, uint64_t ino, uint64_t gones);
/* It is found after all. */
void unfound_forget(struct limpet_fs *fs, uint64_t home);
/* Forgets all. */
void unfound_clear(struct limpet_fs *fs);
/* With the lock: memory of records was taken, or given back. */
void lease_count(struct limpet_fs *fs, uint64_t more, uint64_t less);
/* With the lock. Whether the lease of a shard is over in which something is not durable. */
bool lease_any_is_lost(struct limpet_fs *fs);
/* How much memory records may take. */
void lease_memory(struct limpet_fs *fs, uint64_t bytes);
/* Runs a method here; with the lock. */
int lease_run(struct fs_lease *lease, const char *method, const struct encoder *input,
              struct encoder *out) MUST_CHECK;
void lease_park(struct fs_lease *lease, struct fs_ask *ask);
void *lease_keeper(void *arg);
void *lease_asker(void *arg);
void lease_free_all(struct limpet_fs *fs);

/* ---- Delegated shards: lease.c, write_back.c ---- */

/* Whether records and contents of inodes born there may be buffered; with the lock. */
bool shard_delegated(struct limpet_fs *fs, uint64_t home);
/* Whether answers of its methods may not be durable yet; with the lock. */
bool shard_buffers(struct limpet_fs *fs, uint64_t home);
/* Whether somebody else may have seen this inode, or will after our death. With the lock. */
bool shard_inode_stored(struct limpet_fs *fs, uint64_t ino);
/* Waits until what has changed so far is durable. Nothing when the shard is not delegated. */
int shard_write_back(struct limpet_fs *fs, uint64_t home) MUST_CHECK;
/* Keys of one kind, until the callback returns false. Waits. */
int shard_list(struct limpet_fs *fs, uint64_t home, enum fs_key kind,
               bool (*found)(void *arg, const void *key, size_t key_len, const void *value,
                             size_t len),
               void *arg) MUST_CHECK;

/*
 * Between these two, steps of this thread over several shards become durable in their order.
 * `at_once`: what would have to wait fails with -FS_REMOTE instead.
 */
struct fs_order {
    LIST_ENTRY(fs_order) link;
    uint64_t first; /* Numbers of its operations are not less. */
    struct fs_batch *last;
    bool at_once;
    bool dies; /* `last` has made a directory `dying`. */
};
void order_begin(struct limpet_fs *fs, struct fs_order *order, bool at_once);
/* More is to be written back, one after the other, than goes soon: steps should not begin. */
bool write_back_is_late(struct limpet_fs *fs);
/* Waits until it is not, if it is; with nothing in hand that batches may wait for (B8). */
void write_back_catch_up(struct limpet_fs *fs);
void order_end(struct limpet_fs *fs);
bool order_at_once(void);
/* Whether this thread is between them. */
bool order_is_begun(void);
/* Of this client: all its steps are durable, or lost, and nobody works on it. With the lock. */
bool order_is_over(const struct limpet_fs *fs, struct fs_txid tx);
/* Whether a step before this one is not durable yet; with the lock. */
bool order_is_pending(void);
/* Before a step that is a request: what went before is durable. */
int order_wait(struct limpet_fs *fs) MUST_CHECK;
/* Before the first step, which names this shard: it goes after the shard's name (B9). */
int order_follow_name(struct limpet_fs *fs, uint64_t home) MUST_CHECK;
/* A step that nobody waits for is made after those before it; false: it may be made now. */
bool order_defer(struct limpet_fs *fs, uint64_t home, const char *method,
                 const struct fs_request *rq);
/* With the lock. Something of the shard is lost: its directory is told. */
void write_back_note_error(struct limpet_fs *fs, uint64_t home, int error);
/* What was not written back is lost, and told by fsync of another client; with both locks. */
void write_back_abandon(struct limpet_fs *fs, struct limpet_fs *heir);
void sync_begin(struct fs_call *call);
void *write_back_thread(void *arg);

/* ---- work.c ---- */

int work_start(struct limpet_fs *fs) MUST_CHECK;
void work_stop(struct limpet_fs *fs);

/* ---- name.c: a worker's, or at once; they end the call ---- */

void name_lookup(struct fs_call *call);
void name_getattr(struct fs_call *call);
void name_setattr(struct fs_call *call);
void name_create(struct fs_call *call);
void name_unlink(struct fs_call *call);
void name_xattr(struct fs_call *call);
/* A directory is made or removed, an entry renamed: at once if it can be, else by a worker. */
void name_at_once(struct fs_call *call);
void name_work(struct fs_call *call);
/* A worker's: a directory of the call has said that it was split. */
int name_learn(struct fs_call *call) MUST_CHECK;
int name_getinode(struct limpet_fs *fs, uint64_t ino, struct fs_inode *out) MUST_CHECK;

/* ---- list.c ---- */

void name_list(struct fs_call *call);
/* A worker's. */
void name_list_slowly(struct fs_call *call);

/* ---- move.c ---- */

int move_link(struct fs_call *call) MUST_CHECK;
int move_unlink(struct fs_call *call) MUST_CHECK;
int move_rmdir(struct fs_call *call) MUST_CHECK;
int move_rename(struct fs_call *call) MUST_CHECK;
int move_mkdir(struct fs_call *call) MUST_CHECK;
/*
 * Something is in the way in the shard of this inode: 0 when it is worth trying again. Waits a
 * moment for those who live, and completes what the dead have left.
 */
int move_clear(struct limpet_fs *fs, uint64_t ino, unsigned tries) MUST_CHECK;
/* Others have met something of this client in the shard of this inode. With the lock. */
void move_met(struct limpet_fs *fs, uint64_t ino);
/* With the lock, which is released for a while: clears what was met. */
void move_clear_met(struct limpet_fs *fs);

bool move_client_lives(struct limpet_fs *fs, uint64_t instance);
/* None of its requests is executed any more. */
int move_block(struct limpet_fs *fs, uint64_t instance) MUST_CHECK;

/* `n` numbers of shards that nobody has had, one after the other. */
int move_new_homes(struct limpet_fs *fs, unsigned n, uint64_t *first) MUST_CHECK;

/* ---- parts.c ---- */

/* The inode of a part, as methods take that of a directory. */
uint64_t part_ino(uint64_t parts, unsigned number);
/* The home of the first part; 0: none is known. */
uint64_t parts_known(struct limpet_fs *fs, uint64_t ino);
/* Where a name is to be looked for first. When that is the directory and it says -FS_SPLIT: */
uint64_t part_first(struct limpet_fs *fs, uint64_t ino, const char *name);
/* Where then; 0: the directory is not known to have parts. */
uint64_t part_second(struct limpet_fs *fs, uint64_t ino, const char *name);
/* The directory has said -FS_SPLIT. Waits. -FS_CHANGED: it has no parts after all. */
int parts_learn(struct limpet_fs *fs, uint64_t ino) MUST_CHECK;
/* The shard where a name is, or is to be made. Waits. */
int part_of_name(struct limpet_fs *fs, uint64_t ino, const char *name, uint64_t *at) MUST_CHECK;
/* The directory that a shard is of. Waits. */
int part_main(struct limpet_fs *fs, uint64_t at, uint64_t *ino) MUST_CHECK;
/* What its parts add to the inode of a directory. Waits. */
int parts_merge(struct limpet_fs *fs, struct fs_inode *inode) MUST_CHECK;
/* The same, if it is known as it was a moment ago, or as we have made it; does not wait. */
bool parts_merge_known(struct limpet_fs *fs, struct fs_inode *inode);
/* With the lock. What a method of ours has done to the inode of a part. */
void parts_saw_change(struct limpet_fs *fs, uint64_t home, const struct fs_answer *answer);
int parts_set_mtime(struct limpet_fs *fs, const struct fs_inode *inode) MUST_CHECK;
int part_make(struct limpet_fs *fs, const struct fs_inode *dir, uint64_t parts,
              unsigned number) MUST_CHECK;
/* An entry was made there: it may have grown large. */
void part_grew(struct limpet_fs *fs, uint64_t at, const char *name);
/* With the lock. It may be large enough for several clients to go out of each other's way. */
void part_is_shared(struct limpet_fs *fs, uint64_t home);
/* With the lock. Whether it is the shard of a part that this client knows of. */
bool part_is_known(struct limpet_fs *fs, uint64_t home);
/* With the lock. Who has lost the lease of a part to somebody else asks for none of its directory's
 * parts for a while, twice as long each time. */
bool part_is_fought_for(struct limpet_fs *fs, uint64_t home, uint64_t now_ns);
void part_fought_for(struct limpet_fs *fs, uint64_t home, uint64_t now_ns);
void *parts_thread(void *arg);
void parts_free_all(struct limpet_fs *fs);

/* ---- registry.c ---- */

/* With the lock: this client answers for files without names in this shard. Then, without it: */
void registry_note(struct limpet_fs *fs, uint64_t home);
void registry_send(struct limpet_fs *fs);
/*
 * The thread's, with the lock, which is released for a while: what was idle is taken back; the dead
 * are looked for, when it is time. True: something was done, and the queue may have changed.
 */
bool registry_tidy(struct limpet_fs *fs);
bool registry_look(struct limpet_fs *fs);
void registry_free(struct limpet_fs *fs);

/* ---- lock.c ---- */

void lock_set(struct fs_call *call);
void lock_get(struct fs_call *call);
void lock_unset_all(struct fs_call *call);
/* A worker's: waits, is asked for again, or ends. */
void lock_refused(struct fs_call *call);
/* A lock of this file was given back. */
void lock_unlocked(struct limpet_fs *fs, uint64_t ino);
/* Now and then: who has what others wait for may have died. */
void lock_tick(struct limpet_fs *fs);
void lock_free_all(struct limpet_fs *fs);
/* With the lock. K2: before the records of a shard of which something was lost are forgotten. */
void lock_lost(struct fs_lease *lease);
/* With the lock. Whether it has to wait, and is kept, until its inode's locks are certain. */
bool lock_park(struct fs_ask *ask);
/* With the lock. Whether the OSD may have locks of this inode that owners here have given back. */
bool lock_is_unkept(const struct limpet_fs *fs, uint64_t ino);
/* With the lock. Whether the OSDs may have locks that owners here have given back. */
bool lock_is_uncertain(struct limpet_fs *fs);
/* The first lock that is in the way of this one; instance 0: none is. */
int lock_holder(struct limpet_fs *fs, const struct fs_request *rq, struct fs_lock *out) MUST_CHECK;

/* ---- deadlock.c ---- */

/* A worker's. The call has to wait for this owner: would it wait for itself? */
bool deadlock_found(struct fs_call *call, uint64_t instance, uint64_t owner);
/* Another client asks what an owner waits for. */
void deadlock_asked(struct limpet_fs *fs, struct decoder *question, struct encoder *answer);

/* ---- data.c ---- */

void data_read(struct fs_call *call);
void data_read_slowly(struct fs_call *call);
void data_write(struct fs_call *call);
int data_write_slowly(struct fs_call *call) MUST_CHECK;
int data_allocate(struct fs_call *call) MUST_CHECK;
int data_seek(struct fs_call *call, uint64_t *out) MUST_CHECK;
int data_setsize(struct fs_call *call, const struct fs_request *rq,
                 struct fs_answer *out) MUST_CHECK;
/* What lies beyond the size goes; then tx's truncation is over. */
int data_trim(struct limpet_fs *fs, const struct fs_inode *inode) MUST_CHECK;
/* All objects of these files; after an error, some of them. */
int data_remove(struct limpet_fs *fs, const struct fs_inode *inodes, size_t n) MUST_CHECK;
struct limpet_pool *data_pool(struct limpet_fs *fs, const struct fs_inode *inode);
/* Whether its record has room for these bytes. */
bool data_covers(const struct fs_inode *inode, uint64_t offset, uint64_t len);
void data_close(struct fs_call *call);
/* What is known of room that its record has is of no use. */
void data_forget_room(struct limpet_fs *fs, uint64_t ino);
/* Bytes are about to be changed, or were: nothing is kept of them. */
void data_changes(struct limpet_fs *fs, uint64_t ino, uint64_t offset, uint64_t len);

/* ---- layout.c ---- */

/* Of what has got no other one. */
struct fs_layout layout_default(const struct limpet_fs *fs);
/* True: the attribute is a layout, and the call has been taken care of. */
bool layout_xattr(struct fs_call *call);
/* A worker's: sets it, or takes it away from a directory. */
int layout_change(struct fs_call *call) MUST_CHECK;

/* ---- copy.c ---- */

void copy_begin(struct fs_call *call);

/* ---- behind.c ---- */

/* False: it is to go another way. Otherwise the call ends, or waits for memory and then ends. */
bool behind_write(struct fs_call *call);
/* With the lock: what this client has written counts. */
void behind_merge(struct limpet_fs *fs, struct fs_inode *inode);
/* The same, and somebody is told of it. */
void behind_show(struct limpet_fs *fs, struct fs_inode *inode);
/* The same for a listing, in `out`; false: there is nothing to be changed. touched: the shard was,
 * since it was asked for. */
bool behind_merge_list(struct limpet_fs *fs, const void *raw, size_t len, bool touched,
                       struct encoder *out);
/* Somebody sets the time of change, which no write before shall change. */
void behind_set_mtime(struct limpet_fs *fs, uint64_t ino);
/*
 * Waits: what was written of the file has arrived, and its record says so; final: and that there is
 * no more.
 */
int behind_settle(struct limpet_fs *fs, uint64_t ino, bool final) MUST_CHECK;
/* The same for all inodes of a shard; 0: for all. */
int behind_write_back(struct limpet_fs *fs, uint64_t home) MUST_CHECK;
/* With the lock: whether a read would overtake a write. */
bool behind_has_unsent(const struct fs_file *file);
/* Waits until it would not. */
void behind_wait_sent(struct limpet_fs *fs, uint64_t ino);
/* With the lock: whether the file's writes still need what its record says by this `busy`. */
bool behind_needs(struct limpet_fs *fs, uint64_t ino, struct fs_txid busy);
/* With the lock. The record is durable as it was read when rooms had been lost so often. */
void behind_has_room(struct fs_file *file, const struct fs_inode *inode, uint64_t grant,
                     uint64_t rooms_lost);
/* With the lock. What is known of its room is so no more. */
void behind_lose_room(struct fs_file *file);
/* With the lock: what was not sent never will be. */
void behind_cancel(struct limpet_fs *fs, struct fs_file *file, int error);
/* With the lock. A watch may be lost: of what was written under it nothing is to arrive any more.
 */
void behind_lost(struct limpet_fs *fs);
/* fsync; ino 0: of everything. It ends the call. */
void behind_sync(struct fs_call *call);
/* A worker's part of it. */
void behind_sync_slowly(struct fs_call *call);
/* What has failed since somebody was told. */
int behind_error(struct limpet_fs *fs, uint64_t ino) MUST_CHECK;
/* With the lock: what has failed of the file before, once. */
int behind_take_error(struct fs_file *file) MUST_CHECK;
void *behind_thread(void *arg);
void *behind_guard(void *arg);

/* ---- cache.c: all of these with the lock ---- */

struct fs_cache;
int cache_create(uint64_t bytes_max, struct fs_cache **out) MUST_CHECK;
void cache_destroy(struct fs_cache *cache);
/* Whether all of it is kept; then it is copied. */
bool cache_read(struct fs_cache *cache, uint64_t ino, uint64_t offset, size_t len, uint8_t *out);
/*
 * What has been read, from the beginning of a page on; what is kept already is newer. to_end: the
 * file ends there.
 */
void cache_keep(struct fs_cache *cache, uint64_t ino, uint64_t offset, const uint8_t *data,
                size_t len, bool to_end);
/* What is being written to a file that had this size. */
void cache_write(struct fs_cache *cache, uint64_t ino, uint64_t offset, const uint8_t *data,
                 size_t len, uint64_t size);
void cache_forget(struct fs_cache *cache, uint64_t ino, uint64_t offset, uint64_t len);
void cache_forget_home(struct fs_cache *cache, uint64_t home);
/* Whether a file of this size can be kept as a whole, or nothing else has to go for more of it. */
bool cache_has_room(const struct fs_cache *cache, uint64_t size);
/* Memory of writes, which pages have to make room for. */
void cache_reserve(struct fs_cache *cache, uint64_t bytes);
void cache_release(struct fs_cache *cache, uint64_t bytes);

/* ---- orphan.c ---- */

/* With the lock. NULL: it is not open, and `make` is false, or memory is short. */
struct fs_file *file_find(struct limpet_fs *fs, uint64_t ino, bool make);
/* With the lock: forgets it if nobody needs it. */
void file_drop(struct limpet_fs *fs, struct fs_file *file);
/* With the lock. What was changed of a file is lost: who has it open is told, or opens it next. */
void file_lost(struct limpet_fs *fs, uint64_t ino, int error);
/* An answer told of it; grant: what may be kept of that. */
void file_saw(struct limpet_fs *fs, const struct fs_inode *inode, uint64_t grant);
void orphan_open(struct fs_call *call);
/* The same for a file that this call has made; its result tells of it already. inode: as it was
 * made, or NULL. */
void orphan_open_made(struct fs_call *call, const struct fs_inode *inode);
void orphan_release(struct fs_call *call);
/* Before and after a file without a name is made; once in between or afterwards, its end. */
void orphan_expect(struct fs_call *call);
void orphan_made(struct fs_call *call);
void orphan_over(struct fs_call *call);
/* A file has lost its last name. */
void orphan_add(struct limpet_fs *fs, uint64_t ino);
/* The shard of this directory has files without names: whose owner died, perhaps. */
void orphan_met(struct limpet_fs *fs, uint64_t dir);
/* With the lock: whether files without names of this shard wait for another try. */
bool orphan_waits(const struct limpet_fs *fs, uint64_t home);
/* Its files without names are looked for. */
void orphan_look(struct limpet_fs *fs, uint64_t home);
void orphan_free_all(struct limpet_fs *fs);
void *orphan_thread(void *arg);
void orphan_notified(struct limpet_watch *watch, void *arg, uint64_t notifier, uint64_t id,
                     const void *data, size_t len);

#endif
