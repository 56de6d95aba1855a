/*
 * liblimpet: all that can be done to an object, as steps of a struct limpet_op. Part of limpet.h,
 * which says what holds for errors, order, threads and memory, and has the steps on contents.
 *
 *     struct limpet_op *op = limpet_op_create();
 *     limpet_op_attr_compare(op, "owner", LIMPET_EQUAL, "me", 2, NULL);
 *     limpet_op_omap_set(op, pairs, n);
 *     rc = limpet_operate(pool, "name", op, &version);     -- or limpet_aio_operate()
 *     limpet_op_destroy(op);
 *
 * An operation is executed as a whole or not at all. One with a step that writes is a write, and
 * may hold steps of every kind; each step sees what the steps before it have done. A write gives at
 * most 1,024 bytes for all of its steps, results included: -EOVERFLOW. A reading operation on an
 * object that does not exist fails with -ENOENT.
 *
 * All functions that add a step return 0, -E2BIG beyond LIMPET_OP_STEPS_MAX, -ENOMEM, or what is
 * said. Names, keys and values that are given are copied. Places for results stay valid until the
 * operation's end; they are written to when the step succeeds, and `result` in any case, and may be
 * NULL.
 */
#ifndef LIMPET_OBJECT_H
#define LIMPET_OBJECT_H

#include <sys/uio.h>

#include "../limpet.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes: what can be a name and a value of an attribute, a key and a value of the map. */
#define LIMPET_ATTR_NAME_MAX  254
#define LIMPET_ATTR_VALUE_MAX 65536
#define LIMPET_OMAP_KEY_MAX   4096
#define LIMPET_OMAP_VALUE_MAX 1048576

/*
 * limpet_op_compare() found another byte at `at` of its data: the result is
 * -LIMPET_MISMATCH - at.
 */
#define LIMPET_MISMATCH 4095

/* The error of the step that was added last is told in its result, and the operation goes on. */
LIMPET_API int limpet_op_allow_failure(struct limpet_op *op);

/* Of an operation that writes: the object's time of change, instead of when it is executed. */
LIMPET_API void limpet_op_set_mtime(struct limpet_op *op, uint64_t mtime_ns);

/* ---- Vectors of memory, and buffers ---- */

/*
 * As limpet_write() and limpet_read() with one piece of memory: n pieces one after the other.
 * Vectors that are read into stay valid until the request's end, like their memory.
 */
LIMPET_API int limpet_writev(struct limpet_pool *pool, const char *name, const struct iovec *iov,
                             int n, uint64_t offset);
LIMPET_API ssize_t limpet_readv(struct limpet_pool *pool, const char *name, const struct iovec *iov,
                                int n, uint64_t offset);
LIMPET_API int limpet_aio_writev(struct limpet_pool *pool, const char *name,
                                 struct limpet_completion *completion, const struct iovec *iov,
                                 int n, uint64_t offset);
LIMPET_API int limpet_aio_readv(struct limpet_pool *pool, const char *name,
                                struct limpet_completion *completion, const struct iovec *iov,
                                int n, uint64_t offset);
LIMPET_API int limpet_op_writev(struct limpet_op *op, const struct iovec *iov, int n,
                                uint64_t offset);
LIMPET_API int limpet_op_readv(struct limpet_op *op, const struct iovec *iov, int n,
                               uint64_t offset, size_t *got, int *result);

/*
 * Nothing is copied: *out is the memory into which it came over the network; NULL unless the step
 * succeeds. Release it with limpet_buffer_destroy(), before the cluster.
 */
LIMPET_API int limpet_op_read_buffer(struct limpet_op *op, size_t len, uint64_t offset,
                                     struct limpet_buffer **out, int *result);

/* ---- Contents and existence ---- */

/* `total` bytes at offset, of `len` bytes of data again and again: -EINVAL if they do not fit. */
LIMPET_API int limpet_op_write_same(struct limpet_op *op, const void *data, size_t len,
                                    uint64_t total, uint64_t offset);
/* Never makes an object larger; what reaches to its end is cut off. */
LIMPET_API int limpet_op_zero(struct limpet_op *op, uint64_t offset, uint64_t len);
/* What size is expected. It makes the object. */
LIMPET_API int limpet_op_hint(struct limpet_op *op, uint64_t size, uint64_t write_size);
/*
 * It keeps account of who looks at the object, or of what is being removed: OSDs that are full take
 * it from their reserve, as far as it is small (64 KiB) and makes no object, nor one longer.
 */
LIMPET_API void limpet_op_full_try(struct limpet_op *op);
/* -ENOENT. */
LIMPET_API int limpet_op_assert_exists(struct limpet_op *op);
/*
 * By sequence: -ERANGE if the object is newer, -EOVERFLOW if it is older or there is none, -EINVAL
 * for 0.
 */
LIMPET_API int limpet_op_assert_version(struct limpet_op *op, uint64_t sequence);
/* The object has these bytes there; behind its end there are zeroes. LIMPET_MISMATCH. */
LIMPET_API int limpet_op_compare(struct limpet_op *op, const void *data, size_t len,
                                 uint64_t offset, int *result);

enum limpet_checksum { LIMPET_XXHASH32 = 0, LIMPET_XXHASH64 = 1, LIMPET_CRC32C = 2 };
/*
 * Sums of len bytes, one for each `chunk` of them (0: one for all), each begun with `init`; as a
 * u32 of their number, then u32 or u64 numbers. -EINVAL: the object has not got so many bytes, or
 * they are no multiple of chunk. -E2BIG: more than 262,144 sums, or the steps of a request sum more
 * bytes than the largest object has. Release *out with limpet_free().
 */
LIMPET_API int limpet_op_checksum(struct limpet_op *op, enum limpet_checksum type, uint64_t init,
                                  uint64_t offset, uint64_t len, uint32_t chunk, void **out,
                                  size_t *out_len, int *result);

struct limpet_extent {
    uint64_t offset, len;
};

/* Parts of an object, ascending and apart. */
struct limpet_extents {
    size_t n;
    const struct limpet_extent *extents;
    const void *data; /* Of limpet_op_sparse_read(): theirs, one after the other. */
    size_t data_len;
};

/*
 * Where in the range (len 0: to the end) there may be anything but zeroes; as the OSD keeps the
 * object, in blocks of 4 KiB. Release *out with limpet_free().
 */
LIMPET_API int limpet_op_extents(struct limpet_op *op, uint64_t offset, uint64_t len,
                                 struct limpet_extents **out, int *result);
/* The same and what is there. Holes of less than 64 KiB are read, too. */
LIMPET_API int limpet_op_sparse_read(struct limpet_op *op, uint64_t offset, uint64_t len,
                                     struct limpet_extents **out, int *result);

/* ---- Attributes ---- */

enum limpet_compare {
    LIMPET_EQUAL = 1,
    LIMPET_NOT_EQUAL = 2,
    LIMPET_GREATER = 3,
    LIMPET_GREATER_EQUAL = 4,
    LIMPET_LESS = 5,
    LIMPET_LESS_EQUAL = 6,
};

/* -ENAMETOOLONG, -EFBIG; -E2BIG: all attributes of the object together are too large. */
LIMPET_API int limpet_op_attr_set(struct limpet_op *op, const char *name, const void *value,
                                  size_t len);
/* One that is not there is no error. */
LIMPET_API int limpet_op_attr_remove(struct limpet_op *op, const char *name);
/* What is given is equal to (greater than, ...) what there is: -ECANCELED; -ENOENT: no object. */
LIMPET_API int limpet_op_attr_compare(struct limpet_op *op, const char *name,
                                      enum limpet_compare comparison, const void *value, size_t len,
                                      int *result);
/* -ENODATA. Release *out with limpet_free(). */
LIMPET_API int limpet_op_attr_get(struct limpet_op *op, const char *name, void **out,
                                  size_t *out_len, int *result);

/* ---- Lists of pairs ---- */

struct limpet_pair {
    const void *key; /* An attribute's name. */
    size_t key_len;
    const void *value;
    size_t value_len;
};

struct limpet_pairs; /* What an operation has given, in order of keys. */
/* The next one, valid as long as the list; -ENOENT at the end. */
LIMPET_API int limpet_pairs_next(struct limpet_pairs *pairs, struct limpet_pair *out);
/* How many there are, also of those that limpet_pairs_next() has given. */
LIMPET_API size_t limpet_pairs_count(const struct limpet_pairs *pairs);
/* NULL is allowed. */
LIMPET_API void limpet_pairs_destroy(struct limpet_pairs *pairs);

/* All attributes. */
LIMPET_API int limpet_op_attr_list(struct limpet_op *op, struct limpet_pairs **out, int *result);

/* ---- The map: ordered pairs that an object has beside its contents, and a header ---- */

/* Keys of 1 to LIMPET_OMAP_KEY_MAX bytes: -EINVAL, -ENAMETOOLONG; -EFBIG: a value is too large. */
LIMPET_API int limpet_op_omap_set(struct limpet_op *op, const struct limpet_pair *pairs, size_t n);
LIMPET_API int limpet_op_omap_set_header(struct limpet_op *op, const void *value, size_t len);
/* Of the pairs only the keys count. Keys that are not there are no error. */
LIMPET_API int limpet_op_omap_remove(struct limpet_op *op, const struct limpet_pair *keys,
                                     size_t n);
/* Keys from `from` up to, not including, `to`. */
LIMPET_API int limpet_op_omap_remove_range(struct limpet_op *op, const void *from, size_t from_len,
                                           const void *to, size_t to_len);
/* All pairs, and the header. */
LIMPET_API int limpet_op_omap_clear(struct limpet_op *op);
/* What there is is equal to, greater or less than what is given: -ECANCELED. */
LIMPET_API int limpet_op_omap_compare(struct limpet_op *op, const struct limpet_pair *pair,
                                      enum limpet_compare comparison, int *result);
/*
 * At most max pairs after a key (NULL: from the beginning) whose keys begin with a prefix. *more:
 * there are others.
 */
LIMPET_API int limpet_op_omap_list(struct limpet_op *op, const void *after, size_t after_len,
                                   const void *prefix, size_t prefix_len, uint64_t max,
                                   struct limpet_pairs **out, bool *more, int *result);
/* Those of the keys that there are. */
LIMPET_API int limpet_op_omap_get(struct limpet_op *op, const struct limpet_pair *keys, size_t n,
                                  struct limpet_pairs **out, int *result);
/* Release *out with limpet_free(). */
LIMPET_API int limpet_op_omap_get_header(struct limpet_op *op, void **out, size_t *out_len,
                                         int *result);

/* ---- Built-in methods ---- */

/*
 * Runs a method of the object's OSD as a step: "class.method". -EPERM: there is no such class,
 * -EOPNOTSUPP: nor such a method of it. Its result is the step's. Release *out with limpet_free().
 */
LIMPET_API int limpet_op_call(struct limpet_op *op, const char *method, const void *input,
                              size_t len, void **out, size_t *out_len, int *result);

/* ---- Snapshots ---- */

/*
 * A pool has snapshots of its own, which have names, or numbers that its users manage (images): the
 * first one that is made decides. -EINVAL: it has the other kind.
 *
 * An object's first write after a snapshot keeps the object as it was, at no cost of its size. What
 * was kept goes, in the background, when all snapshots that show it were removed.
 */
#define LIMPET_SNAP_NAME_MAX 127
#define LIMPET_SNAPS_MAX     512 /* Of a pool's own; and in a snap context. */

struct limpet_snap {
    uint64_t id;
    uint64_t stamp_ns; /* Since 1970 UTC. */
    char name[LIMPET_SNAP_NAME_MAX + 1];
};

/* Of all objects of the pool, from now on. -EEXIST, -EINVAL, -ENAMETOOLONG; -EMFILE: too many. */
LIMPET_API int limpet_snap_create(struct limpet_pool *pool, const char *name);
/* -ENOENT. */
LIMPET_API int limpet_snap_remove(struct limpet_pool *pool, const char *name);
/* The pool's own, oldest first, as this process knows them. Release *out with limpet_free(). */
LIMPET_API int limpet_snap_list(struct limpet_pool *pool, struct limpet_snap **out, size_t *n);

/* A number, newer than all before. Writers must know it: limpet_pool_set_snap_context(). */
LIMPET_API int limpet_self_snap_create(struct limpet_pool *pool, uint64_t *snap);
/* -ENOENT: there is none, or it was removed. */
LIMPET_API int limpet_self_snap_remove(struct limpet_pool *pool, uint64_t snap);

/*
 * Following writes of the handle know of these self-managed snapshots: the newest that was made,
 * and all that are alive, newest first. -EINVAL: they are not in that order; -E2BIG.
 */
LIMPET_API int limpet_pool_set_snap_context(struct limpet_pool *pool, uint64_t seq,
                                            const uint64_t *snaps, size_t n);
/*
 * Following reads of the handle see the objects as they were at this snapshot; 0: as they are.
 * Writes fail with -EROFS meanwhile.
 */
LIMPET_API int limpet_pool_set_snap_read(struct limpet_pool *pool, uint64_t snap);

/* The object becomes what it was at the snapshot; if it did not exist then, it is removed. */
LIMPET_API int limpet_rollback(struct limpet_pool *pool, const char *name, uint64_t snap);
/* The same as the last step of an operation, after none that changes the object: -EINVAL. */
LIMPET_API int limpet_op_rollback(struct limpet_op *op, uint64_t snap);

/* What is kept of an object for some snapshots. */
struct limpet_clone {
    uint64_t id;
    uint64_t size;
    size_t n_snaps;
    uint64_t *snaps; /* Ascending. */
    /* Where it has what the next one, or the object itself, has as well, as far as known. */
    size_t n_overlap;
    struct limpet_extent *overlap;
};

struct limpet_snapset {
    uint64_t seq; /* The newest snapshot that a writer of the object knew of. */
    bool head_exists;
    uint64_t head_size;
    size_t n_clones;
    struct limpet_clone *clones; /* The oldest first. */
};

/* What is kept of an object, also of one that was removed. -ENOENT: there is nothing. */
LIMPET_API int limpet_list_snaps(struct limpet_pool *pool, const char *name,
                                 struct limpet_snapset **out);
/* NULL is allowed. */
LIMPET_API void limpet_snapset_destroy(struct limpet_snapset *set);

/* ---- What pools are used for ---- */

/*
 * A note in the map: names of applications, and for each some keys with values. Nothing in the
 * cluster depends on it. Texts of 1 to 128 bytes (a value may be empty), 4 applications of a pool,
 * 64 keys of each.
 */
#define LIMPET_APP_TEXT_MAX 128

struct limpet_app_line {
    char app[LIMPET_APP_TEXT_MAX + 1];
    char key[LIMPET_APP_TEXT_MAX + 1]; /* "": the application itself. */
    char value[LIMPET_APP_TEXT_MAX + 1];
};

/* Applications, each followed by its keys, in order. Release *out with limpet_free(). */
LIMPET_API int limpet_app_list(struct limpet_pool *pool, struct limpet_app_line **out, size_t *n);
/* -EPERM: there is another one, and `force` was not said; -EINVAL. */
LIMPET_API int limpet_app_enable(struct limpet_pool *pool, const char *app, bool force);
/* -ENOENT: there is no such application; -EINVAL. */
LIMPET_API int limpet_app_set(struct limpet_pool *pool, const char *app, const char *key,
                              const char *value);
/* -ENOENT: there is no such application. A key that is not there is no error. */
LIMPET_API int limpet_app_remove(struct limpet_pool *pool, const char *app, const char *key);

/* ---- Advisory locks ---- */

enum limpet_lock_type { LIMPET_LOCK_EXCLUSIVE = 1, LIMPET_LOCK_SHARED = 2 };
enum limpet_lock_flags {
    LIMPET_LOCK_MAY_RENEW = 1,  /* Who holds it already, holds it anew. */
    LIMPET_LOCK_MUST_RENEW = 2, /* And nobody else gets it: -ENOENT. */
};

/*
 * Takes a lock for this process and a cookie of its choice, for so long (0: for ever). Shared locks
 * are shared by those who give the same tag. Makes the object. -EBUSY: somebody else has it;
 * -EEXIST: this process has it, with this cookie.
 */
LIMPET_API int limpet_lock(struct limpet_pool *pool, const char *name, const char *lock,
                           enum limpet_lock_type type, const char *cookie, const char *tag,
                           const char *description, uint64_t duration_ns, unsigned flags);
/* -ENOENT: it is not held. */
LIMPET_API int limpet_unlock(struct limpet_pool *pool, const char *name, const char *lock,
                             const char *cookie);
/* Somebody else's, by the instance of its process. */
LIMPET_API int limpet_lock_break(struct limpet_pool *pool, const char *name, const char *lock,
                                 uint64_t instance, const char *cookie);

struct limpet_lock_holder {
    uint64_t instance; /* Of its process. */
    const char *cookie;
    uint64_t ends_ns; /* When it ends by itself, since 1970 UTC; 0: never. */
    const char *address;
    const char *description;
};

struct limpet_lock_info {
    int type; /* enum limpet_lock_type; 0: there is no such lock, or nobody has ever held it. */
    const char *tag;
    size_t n_holders;
    struct limpet_lock_holder holders[];
};

/* Release *out with limpet_free(). -ENOENT: there is no such object. */
LIMPET_API int limpet_lock_info(struct limpet_pool *pool, const char *name, const char *lock,
                                struct limpet_lock_info **out);
/* The names of an object's locks, then NULL. Release *names with limpet_free(). */
LIMPET_API int limpet_lock_list(struct limpet_pool *pool, const char *name, char ***names);

/* ---- Watches and notifies ---- */

/*
 * Who watches an object is told of notifies of it, until it ends its watch, or is not heard of for
 * the watch's time-out. Lost connections and failovers of OSDs are not noticed: a notify waits for
 * those that are on their way back. A watcher may be told of one notify several times, always with
 * the same notifier and id, and takes part in every notify that begins after limpet_watch() has
 * returned, as long as it is not lost.
 */
struct limpet_watch;

/* Any may be NULL. Made on the library's thread, like all callbacks. */
struct limpet_watch_calls {
    /* limpet_notify_ack() ends the notifier's waiting, during the call or later. */
    void (*notified)(struct limpet_watch *watch, void *arg, uint64_t notifier, uint64_t id,
                     const void *data, size_t len);
    /* Of a lease: somebody wants one of this mode. Give yours back, or change it. */
    void (*recalled)(struct limpet_watch *watch, void *arg, unsigned mode);
    /*
     * The watch does not exist any more: -ENOTCONN (the time-out has passed, or the object was
     * removed), -ESHUTDOWN (this client is blocked). limpet_unwatch() is still to be
     * called.
     */
    void (*lost)(struct limpet_watch *watch, void *arg, int error);
};

/*
 * timeout_ms 0: 30 s; it is made to fit 1 s to 10 minutes. -ENOENT: no such object; -EUSERS: it
 * has too many watchers. End all watches before limpet_cluster_destroy().
 */
LIMPET_API int limpet_watch(struct limpet_pool *pool, const char *name, uint32_t timeout_ms,
                            const struct limpet_watch_calls *calls, void *arg,
                            struct limpet_watch **out);
/*
 * Ends it, and releases the handle. No callback begins afterwards; one that runs may still run,
 * unless this is called by it. An error says that the object may keep the watch until its time-out.
 */
LIMPET_API int limpet_unwatch(struct limpet_watch *watch);
/* After limpet_cluster_destroy() instead: releases the handle. The watch ends by its time-out. */
LIMPET_API void limpet_watch_release(struct limpet_watch *watch);
/* Milliseconds since it was known to exist, or why it does not. */
LIMPET_API int64_t limpet_watch_check(struct limpet_watch *watch);
/* With the instance of the process it names the watch. */
LIMPET_API uint64_t limpet_watch_cookie(const struct limpet_watch *watch);
/* Waits until the callbacks of what has arrived so far were made. Not to be called by one. */
LIMPET_API int limpet_watch_flush(struct limpet_cluster *cluster);

struct limpet_answers; /* To a notify. */
struct limpet_answer {
    uint64_t watcher; /* Instance of its process. */
    uint64_t cookie;
    bool missed; /* It has not answered: its time was over, or it was lost. */
    const void *data;
    size_t len;
};

/*
 * Tells all watchers, waits for their answers for timeout_ms (0: 10 s), and gives them; *out may be
 * NULL, else release it. -ETIMEDOUT: some have not answered, *out says which; -EFBIG: more than
 * 1 MiB; -ENOENT: no such object.
 */
LIMPET_API int limpet_notify(struct limpet_pool *pool, const char *name, const void *data,
                             size_t len, uint32_t timeout_ms, struct limpet_answers **out);
/*
 * The same as the only step of an operation, which succeeds also when some have not answered. *out
 * is NULL before its end, and when it fails.
 */
LIMPET_API int limpet_op_notify(struct limpet_op *op, const void *data, size_t len,
                                uint32_t timeout_ms, struct limpet_answers **out, int *result);
/* -ENOENT at the end. Data are valid as long as the answers. */
LIMPET_API int limpet_answers_next(struct limpet_answers *answers, struct limpet_answer *out);
LIMPET_API void limpet_answers_destroy(struct limpet_answers *answers);
/* Does not wait. At most 64 KiB: -EFBIG. */
LIMPET_API int limpet_notify_ack(struct limpet_watch *watch, uint64_t notifier, uint64_t id,
                                 const void *data, size_t len);

struct limpet_watcher {
    uint64_t instance;
    uint64_t cookie;
    uint32_t timeout_ms;
    unsigned mode;    /* enum limpet_lease_mode; 0: a watch. */
    char address[64]; /* Where it was when it began. */
};
/* Release *out with limpet_free(). */
LIMPET_API int limpet_watchers(struct limpet_pool *pool, const char *name,
                               struct limpet_watcher **out, size_t *n);

/* ---- Leases ---- */

/*
 * A lease is a watch with a mode: any number of processes may hold a shared one of an object, or
 * one process an exclusive one. Whoever wants one that does not agree has those who are in its way
 * asked to give theirs back; who does not do so within the time-out of its lease loses it within
 * another one.
 *
 * A holder may do what the lease allows only while limpet_lease_valid(). What it has sent to other
 * objects before may still arrive later: where that matters, whoever takes over first has the old
 * holder blocked (limpet_block()), or writes assert the lease in the same operation
 * (limpet_op_assert_lease()), on the object of the lease.
 */
enum limpet_lease_mode {
    LIMPET_LEASE_NONE = 0,
    LIMPET_LEASE_SHARED = 1,
    LIMPET_LEASE_EXCLUSIVE = 2,
    /*
     * As exclusive, and others get it from a holder that does not give it back only when that has
     * been blocked: nothing that it has sent, to any object, arrives later. Only for leases that
     * their holder ends: one that is left behind has all of its process blocked when somebody wants
     * the object.
     */
    LIMPET_LEASE_FENCED = 3
};

/*
 * Waits for others for at most patience_ms: -EBUSY. timeout_ms as of limpet_watch(): within that
 * time, and about twice of it when the holder lives and does not answer, others get it.
 */
LIMPET_API int limpet_lease(struct limpet_pool *pool, const char *name, enum limpet_lease_mode mode,
                            uint32_t timeout_ms, uint32_t patience_ms,
                            const struct limpet_watch_calls *calls, void *arg,
                            struct limpet_watch **out);
/* For how many nanoseconds from now the lease is good for certain; 0: it is not. */
LIMPET_API uint64_t limpet_lease_valid(const struct limpet_watch *lease);
/*
 * Another mode: less at once, more when nobody is in the way (-EBUSY: it is as it was). None makes
 * it a watch, and any watch can become a lease.
 */
LIMPET_API int limpet_lease_change(struct limpet_watch *lease, enum limpet_lease_mode mode,
                                   uint32_t patience_ms);
/*
 * Asks all who hold leases that do not agree with this mode to give them back, and waits until they
 * have; for whoever wants no lease itself, but that nobody has one for the moment. This process's
 * own lease with the cookie `own` is left alone; 0: there is none. -ETIMEDOUT: after timeout_ms
 * some still hold theirs; -ENOENT: no such object.
 */
LIMPET_API int limpet_recall(struct limpet_pool *pool, const char *name,
                             enum limpet_lease_mode mode, uint64_t own, uint32_t timeout_ms);
/* Fails the operation, with -ENOTCONN, unless its object has the lease, in this mode or more. */
LIMPET_API int limpet_op_assert_lease(struct limpet_op *op, const struct limpet_watch *lease,
                                      enum limpet_lease_mode mode);

/* ---- Blocking clients ---- */

/*
 * This process as others know it: "IP:0/INSTANCE". The address is the one from which its monitors
 * are reached. -ENOTCONN.
 */
LIMPET_API int limpet_cluster_address(struct limpet_cluster *cluster, char text[80]);
/* The same of a process, or of all processes at an address ("IP"); -EINVAL: it is neither. */
LIMPET_API int limpet_block_address(struct limpet_cluster *cluster, const char *address,
                                    uint32_t seconds);
/*
 * From the return of this no request of that process, by its instance, is executed by any OSD that
 * executes a later request of this one. For so many seconds (0: an hour). It loses its watches.
 */
LIMPET_API int limpet_block(struct limpet_cluster *cluster, uint64_t instance, uint32_t seconds);

#ifdef __cplusplus
}
#endif

#endif
