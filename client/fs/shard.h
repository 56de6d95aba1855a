/*
 * The records of a shard that is delegated to this client, in memory: methods run on them as they
 * do at an OSD, and what has changed is taken in batches (write_back.c). Nothing here waits or
 * locks; the caller has the file system's lock.
 */
#ifndef LIMPET_CLIENT_FS_SHARD_H
#define LIMPET_CLIENT_FS_SHARD_H

#include <sys/queue.h>

#include <bsd/sys/tree.h>

#include "common/fs_layout.h"

struct shard_record;
RB_HEAD(shard_records, shard_record);
TAILQ_HEAD(shard_dirty, shard_record);

struct fs_shard_cache {
    uint64_t home;
    struct shard_records records; /* In the order of the store. */
    /* The same by hashes of their keys: in a large tree each step down waits for memory. NULL: they
     * are few, or memory was short. */
    struct shard_record **buckets;
    size_t n, n_buckets;
    size_t n_told;            /* Inodes. */
    struct shard_dirty dirty; /* Changed since they were taken last. */
    size_t n_dirty, dirty_bytes, bytes;
    bool exists; /* False: the shard was removed. */
    bool stored; /* Something of it has been taken: its object may be there. */
};

/* NULL: memory is short. `stored`: it was loaded, and its object is there. */
struct fs_shard_cache *shard_create(uint64_t home, bool stored);
void shard_free(struct fs_shard_cache *shard);
/* A record that was loaded. -ENOMEM, -EIO: no key of a shard. */
int shard_load(struct fs_shard_cache *shard, const void *key, size_t key_len, const void *value,
               size_t len) MUST_CHECK;

/*
 * Runs a method, all of it or nothing; `caller` is the client's instance. Its answer is added to
 * *out. Whether it has changed anything stands in *changed.
 */
int shard_run(struct fs_shard_cache *shard, const char *method, uint64_t caller, int64_t now_ns,
              const void *input, size_t len, struct encoder *out, bool *changed) MUST_CHECK;

/* The first key that is not less than `from`, of those that begin with the same letter; false:
 * there is none. It is valid until the shard changes. */
bool shard_next(const struct fs_shard_cache *shard, const void *from, size_t len, const void **key,
                size_t *key_len, const void **value, size_t *value_len);

/* The record with this key, likewise. */
bool shard_look(const struct fs_shard_cache *shard, const void *key, size_t len, const void **value,
                size_t *value_len);

/* Somebody is told of an inode, and may keep that. False: it is not there. */
bool shard_tell(struct fs_shard_cache *shard, uint64_t ino);
bool shard_is_told(const struct fs_shard_cache *shard, uint64_t ino);
/* All that were told, and are there: nobody keeps anything of them any more. */
void shard_untell(struct fs_shard_cache *shard, void (*each)(void *arg, uint64_t ino), void *arg);

/* Whether an inode, or any other record, was ever taken: others may know of it. */
bool shard_has_stored(const struct fs_shard_cache *shard, const void *key, size_t len);

/* All changes since the last time, as fs.apply has them. -ENOMEM: nothing was taken. */
int shard_take(struct fs_shard_cache *shard, struct encoder *out) MUST_CHECK;

#endif
