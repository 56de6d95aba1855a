/* A lease of a shard, and what is kept under it: lease.c, write_back.c. */
#ifndef LIMPET_CLIENT_FS_LEASE_H
#define LIMPET_CLIENT_FS_LEASE_H

#include "client/fs/fs.h"
#include "client/fs/shard.h"

/*
 *   IDLE -> WANTED -> ASKED -> HELD -> DROPPING -> IDLE          shared
 *                     ASKED -> LOADING -> HELD -> DROPPING       exclusive: with `shard`
 *                              HELD                              born: under the lease of `cover`
 *
 * While LOADING or DROPPING, requests of the shard wait.
 */
enum lease_state {
    LEASE_IDLE,
    LEASE_WANTED,
    LEASE_ASKED,
    LEASE_LOADING,
    LEASE_HELD,
    LEASE_DROPPING
};

enum { LEASE_STALE_MAX = 16 };

struct lease_inode;

struct fs_lease {
    uint64_t home;
    struct limpet_fs *fs;
    enum lease_state state;
    bool recalled, foreign, closing; /* foreign: somebody else wants it. */
    unsigned uses, changes;
    uint64_t used;    /* When, by fs->uses. */
    unsigned replies; /* That are being handed over. */
    unsigned pins;    /* Operations of several steps that count on it. */
    unsigned remote;  /* Requests at the OSD. */
    uint64_t grant;   /* Not 0: answers to later requests may be kept. */
    uint64_t granted_ns, not_before_ns, backoff_ns;
    /* L6: changes of the directory, one that was seen and our own since then. */
    uint64_t seen_change, own_changes, changed_ns, foreign_changes;
    struct limpet_watch *watch;
    struct lease_inode *inodes; /* What was given to be kept. */
    /* Contents that were asked for before the lease were given after it. */
    uint64_t stale[LEASE_STALE_MAX];
    size_t n_stale;
    UT_hash_handle hh;
    STAILQ_ENTRY(fs_lease) link;   /* Of those that are wanted. */
    STAILQ_ENTRY(fs_lease) family; /* Of those that are given back together. */
    bool watched;                  /* Late callbacks may name it. */
    /* For listings: taken for one; no other one before; inodes are being read; all of them were,
     * under this grant. */
    bool for_list, reading;
    uint64_t list_after_ns, all_known;

    /* Of a delegated shard. */
    struct fs_shard_cache *shard;
    bool wants_exclusive, too_large;
    bool born;        /* Under the cover of another one: nobody else has seen its number. */
    uint64_t cover;   /* The home of that one. */
    uint64_t version; /* Of a born shard's object, as we have left it. */
    struct fs_batch *open, *last;
    struct fs_batch *birth; /* Of a born shard, until it is durable. */
    struct fs_batch *name;  /* Has its name, if that was made under its cover; counted. */
    unsigned batches;       /* That are not durable. */
    int failed;             /* Something was lost: it is to be given back. */
    uint32_t *lost_locks;   /* Indexes of inodes whose locks were among that, some twice. */
    size_t n_lost_locks, max_lost_locks;
    uint64_t counted; /* Bytes of its records, as the file system has them. */
    bool shrinks;     /* It is given back for lack of memory. */
    bool written;     /* All is written back: nothing may change here any more. */
    struct fs_asks parked;
};

/* With the lock: forgets it when its shard has gone and nobody needs it. */
void lease_settle(struct fs_lease *lease);
struct fs_lease *lease_find(struct limpet_fs *fs, uint64_t home);
/* Whether it was born under the other one's cover, or under that of one that was. With the lock. */
/* For how long its lease, or that under which it was born, is good; 0: it is over. With the lock.
 */
uint64_t lease_valid_ns(struct limpet_fs *fs, uint64_t home);
bool lease_is_covered(const struct fs_lease *lease, uint64_t home);

/* ---- write_back.c: all with the lock, which some release for a while ---- */

/* Why the last step of the operation under way was lost, if it was: nothing may follow it (B2). */
int order_broken(void) MUST_CHECK;
/* Before a method that may change the shard; after it has. */
void order_before(struct fs_lease *lease, const char *method);
void order_after(struct fs_lease *lease, const char *method);
/* Its shard's name is nothing to wait for any more. */
void write_back_unname(struct fs_lease *lease);
/* B10, with the lock: whether it was born, and its name is not durable. */
bool write_back_has_no_name(const struct fs_lease *lease) MUST_CHECK;
/* The lease ends: what becomes of its shard's name is of interest from now on. */
void unfound_note(struct fs_lease *lease);
/* Wishes all that is not durable to become so, and sees to it. */
void write_back_all(struct limpet_fs *fs);
/* The same, and waits for it; what could not be written back is remembered (write_back_error). */
void write_back_wait(struct limpet_fs *fs);

#endif
