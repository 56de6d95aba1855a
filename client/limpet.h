/*
 * liblimpet: objects of a Limpet cluster.
 *
 *     struct limpet_cluster *cluster;
 *     struct limpet_pool *pool;
 *     limpet_cluster_create(&cluster, NULL);           -- as client.admin
 *     limpet_cluster_config_file(cluster, NULL);       -- $LIMPET_CONF, /etc/limpet/limpet.conf ...
 *     limpet_cluster_connect(cluster);
 *     limpet_pool_open(cluster, "data", &pool);
 *     limpet_write_full(pool, "name", data, len);
 *     limpet_read(pool, "name", buffer, sizeof buffer, 0);
 *     limpet_pool_close(pool);
 *     limpet_cluster_destroy(cluster);
 *
 * Errors. Functions return 0 (or a count) or a negative errno, with the meaning that it has for
 * files: -ENOENT no such object or pool, -EACCES the entity may not, -EFBIG beyond the largest
 * object, -ENOSPC the cluster is full, -ETIMEDOUT a time-out of the configuration has passed,
 * or a change had no answer for ten minutes, -ESTALE a change was repeated and the OSDs had too
 * much to remember to know whether it had happened, -EIO for what errno has no word for. Failures
 * of OSDs and monitors are no errors: requests wait, are sent to whoever is responsible now, and
 * are executed once.
 *
 * Order. Changes of one object are executed in the order in which they were submitted, from
 * whichever threads of this process, as long as one call returned before the next began; a read
 * sees all changes that were submitted before it. Requests on different objects have no order.
 *
 * Threads. Every function may be called from any thread at any time, except that a handle must not
 * be destroyed, closed or configured while another call uses it. A thread that waits (all
 * functions but the limpet_aio_ ones) drives the network itself when nobody else does. The first
 * asynchronous request starts a thread of the library; callbacks are made on that thread, one
 * after the other, in the order of completion. A callback may call every function but
 * limpet_cluster_destroy(); while it runs, other callbacks wait, and what it or another thread
 * submits may leave only when it returns, or when somebody waits. The library uses no signals and
 * does not survive fork() in the child.
 *
 * Memory. Names and data passed in may be reused when the function returns; where data is handed
 * over or must stay, the function says so. What the library allocates for the caller is released
 * with limpet_free(), or by the function that is named.
 */
#ifndef LIMPET_H
#define LIMPET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pollfd; /* Of poll.h. */

#ifdef __cplusplus
extern "C" {
#endif

#define LIMPET_API __attribute__((visibility("default")))

/* Bytes: the largest object, the longest names of objects, locators and namespaces. */
#define LIMPET_OBJECT_SIZE_MAX    (UINT64_C(128) * 1024 * 1024)
#define LIMPET_OBJECT_NAME_MAX    2048
#define LIMPET_OBJECT_SPACE_MAX   255
#define LIMPET_OBJECT_LOCATOR_MAX 2048
#define LIMPET_POOL_NAME_MAX      127
#define LIMPET_OP_STEPS_MAX       64

struct limpet_cluster;    /* A connection to a cluster. */
struct limpet_pool;       /* An open pool, with a namespace and a locator. */
struct limpet_completion; /* One asynchronous request. */
struct limpet_op;         /* Several steps on one object, to be executed as a whole. */
struct limpet_buffer;     /* Memory for data that goes to the network without a copy. */
struct limpet_list;       /* A walk over the objects of a pool. */

/* "0.1.0". Static memory. */
LIMPET_API const char *limpet_version(void);

/* A short phrase for an error, negative or positive. Static memory; never NULL. */
LIMPET_API const char *limpet_error_text(int error);

/* Releases what a function has allocated for the caller. NULL is allowed. */
LIMPET_API void limpet_free(void *memory);

/* ---- Clusters ---- */

/*
 * A handle that is not connected yet. name: "client.admin" and the like; NULL: $LIMPET_NAME, else
 * client.admin. -EINVAL: it is no such name.
 */
LIMPET_API int limpet_cluster_create(struct limpet_cluster **out, const char *name);

/*
 * Reads a configuration file (Ceph's INI syntax). path NULL: the first that exists of $LIMPET_CONF,
 * $CEPH_CONF, /etc/limpet/limpet.conf, ./limpet.conf. -ENOENT, -EINVAL.
 */
LIMPET_API int limpet_cluster_config_file(struct limpet_cluster *cluster, const char *path);

/* Overrides an option of the file: "mon_host", "keyring", ... -ENOENT: there is none of this name.
 */
LIMPET_API int limpet_cluster_config_set(struct limpet_cluster *cluster, const char *option,
                                         const char *value);

/*
 * Copies an option's value, with its terminating zero, to `value`. -ENOENT: not set; -ERANGE: it
 * needs more than size bytes.
 */
LIMPET_API int limpet_cluster_config_get(struct limpet_cluster *cluster, const char *option,
                                         char *value, size_t size);

/*
 * Finds a monitor and gets the cluster's map. May be repeated after a failure.
 * -ENOENT: no keyring, or it has no key for this entity; -EINVAL: the configuration is not usable,
 * or is another cluster's; -EACCES: the key is not the one that the cluster knows; -ETIMEDOUT: no
 * monitor answered within the option connect_timeout.
 */
LIMPET_API int limpet_cluster_connect(struct limpet_cluster *cluster);

/*
 * For programs that have a loop of their own, servers for instance: waits as poll() does for their
 * descriptors, and drives the network meanwhile, so that at depth 1 no other thread takes part:
 *
 *     for (;;) {
 *         n = limpet_cluster_poll(cluster, fds, count, -1);
 *         ... what is ready is read, requests are submitted, what callbacks have left is sent
 *     }
 *
 * Returns how many descriptors are ready; 0 when the time is over (timeout_ms -1: never), and also
 * as soon as callbacks were made; a negative errno, -EINTR among them. Callbacks of completions
 * that are marked by limpet_completion_call_by_waiters(), or belong to an image that is marked by
 * limpet_image_call_by_waiters(), are made by this thread inside of the call; or by another one
 * that waits at that moment. What this thread submits leaves with the next call: it is to come
 * soon. Not from a callback: -EDEADLK; n is at most LIMPET_POLL_MAX: -EINVAL.
 *
 * When it does not call any more, limpet_cluster_poll_end() of the same thread says so.
 */
#define LIMPET_POLL_MAX 4096
LIMPET_API int limpet_cluster_poll(struct limpet_cluster *cluster, struct pollfd *fds, unsigned n,
                                   int timeout_ms);
LIMPET_API void limpet_cluster_poll_end(struct limpet_cluster *cluster);

/*
 * One line for a person on why the last limpet_cluster_ function or limpet_command() of this handle
 * failed. Valid until the next such call; "" when nothing is known beyond the error number.
 */
LIMPET_API const char *limpet_cluster_error(const struct limpet_cluster *cluster);

/*
 * Ends the connection and frees the handle. Requests under way end with -ECANCELED, and their
 * callbacks are made, before this returns. Lists are closed before; pools and completions may be
 * closed and released afterwards, and used for nothing else. NULL is allowed.
 */
LIMPET_API void limpet_cluster_destroy(struct limpet_cluster *cluster);

/* The cluster's UUID, as text of 36 characters and a zero. -ENOTCONN before it is connected. */
LIMPET_API int limpet_cluster_fsid(struct limpet_cluster *cluster, char text[37]);

/* The number that names this process in the cluster; 0 before it is connected. */
LIMPET_API uint64_t limpet_cluster_instance(struct limpet_cluster *cluster);

/* The epoch of the map that this process knows; 0 before it is connected. */
LIMPET_API uint64_t limpet_cluster_epoch(struct limpet_cluster *cluster);

struct limpet_cluster_stat {
    uint64_t bytes_total;
    uint64_t bytes_used;
    uint64_t bytes_available;
    uint64_t objects;
};

/* Asks the monitors how full the cluster is. */
LIMPET_API int limpet_cluster_stat(struct limpet_cluster *cluster, struct limpet_cluster_stat *out);

/*
 * Sends a command, JSON such as {"prefix": "osd tree", "format": "json"}, with input_len bytes of
 * input (NULL for none) to the monitors. On return - also with an error of the command itself -
 * *output holds output_len bytes and a zero after them, and *status a line for a person; either
 * may be NULL when there is none, or when the caller passed NULL. Release both with limpet_free().
 * timeout_ms 0: the option rados_mon_op_timeout. -ETIMEDOUT: no leader of the monitors answered.
 */
LIMPET_API int limpet_command(struct limpet_cluster *cluster, const char *json, const void *input,
                              size_t input_len, uint32_t timeout_ms, char **output,
                              size_t *output_len, char **status);

/* ---- Pools ---- */

struct limpet_pool_entry {
    uint64_t id;
    char name[LIMPET_POOL_NAME_MAX + 1];
};

/* All pools, by number. Release *out with limpet_free(). */
LIMPET_API int limpet_pool_list(struct limpet_cluster *cluster, struct limpet_pool_entry **out,
                                size_t *n);

/* -ENOENT: there is no such pool. The cluster must outlive all requests on the pool. */
LIMPET_API int limpet_pool_open(struct limpet_cluster *cluster, const char *name,
                                struct limpet_pool **out);
LIMPET_API int limpet_pool_open_id(struct limpet_cluster *cluster, uint64_t id,
                                   struct limpet_pool **out);
/* Requests under way go on. NULL is allowed. */
LIMPET_API void limpet_pool_close(struct limpet_pool *pool);

LIMPET_API uint64_t limpet_pool_id(const struct limpet_pool *pool);
/* Valid as long as the handle. */
LIMPET_API const char *limpet_pool_name(const struct limpet_pool *pool);

LIMPET_API struct limpet_cluster *limpet_pool_cluster(const struct limpet_pool *pool);

/* Following requests of the handle are about this namespace; "" is the default one. -ENAMETOOLONG
 */
LIMPET_API int limpet_pool_set_namespace(struct limpet_pool *pool, const char *space);
/* Valid until it is set anew. */
LIMPET_API const char *limpet_pool_namespace(const struct limpet_pool *pool);
/*
 * Following requests of the handle are about objects that are placed by this string instead of
 * their name, so that they lie together; "" or NULL: by their name. It is part of an object's
 * identity: without it the object is not found. -ENAMETOOLONG.
 */
LIMPET_API int limpet_pool_set_locator(struct limpet_pool *pool, const char *locator);

struct limpet_pool_stat {
    uint64_t objects;
    uint64_t bytes;           /* Of the objects, one copy. */
    uint64_t bytes_used;      /* Of all copies. */
    uint64_t bytes_available; /* For objects, one copy. */
    uint64_t clones;          /* Among the objects: what snapshots keep. */
    uint64_t copies;          /* That there should be of all objects, */
    uint64_t degraded;        /* and that are missing. */
    /* Requests of clients since the pool was made. Reads may be missing that came shortly before
     * an OSD ended. */
    uint64_t reads, bytes_read, writes, bytes_written;
};

/* Asks the monitors; the figures are some seconds old. */
LIMPET_API int limpet_pool_stat(struct limpet_pool *pool, struct limpet_pool_stat *out);

/* ---- Objects, waiting for the result ---- */

/* Grows with every change of an object. */
struct limpet_object_version {
    uint64_t config;
    uint64_t sequence;
};

struct limpet_stat {
    uint64_t size;     /* Bytes. */
    uint64_t mtime_ns; /* Of the last change; since 1970 UTC, by the clock of the object's OSD. */
};

/*
 * Writes len bytes at offset. The object is made if there is none; a hole reads as zeroes.
 * -EFBIG: it would end beyond LIMPET_OBJECT_SIZE_MAX.
 */
LIMPET_API int limpet_write(struct limpet_pool *pool, const char *name, const void *data,
                            size_t len, uint64_t offset);
/* Replaces the object by len bytes, at once: readers see all of it or nothing. */
LIMPET_API int limpet_write_full(struct limpet_pool *pool, const char *name, const void *data,
                                 size_t len);
LIMPET_API int limpet_append(struct limpet_pool *pool, const char *name, const void *data,
                             size_t len);
/* Returns the bytes read: fewer than len where the object ends, 0 behind its end. */
LIMPET_API ssize_t limpet_read(struct limpet_pool *pool, const char *name, void *data, size_t len,
                               uint64_t offset);
LIMPET_API int limpet_stat(struct limpet_pool *pool, const char *name, struct limpet_stat *out);
/* Cuts, or extends with zeroes. */
LIMPET_API int limpet_truncate(struct limpet_pool *pool, const char *name, uint64_t size);
LIMPET_API int limpet_remove(struct limpet_pool *pool, const char *name);
/* exclusive: -EEXIST when there is one. */
LIMPET_API int limpet_create(struct limpet_pool *pool, const char *name, bool exclusive);

/* ---- Buffers ---- */

/*
 * Memory of len bytes for data that is handed to the library instead of copied. NULL when memory
 * is short.
 */
LIMPET_API struct limpet_buffer *limpet_buffer_create(size_t len);
LIMPET_API void *limpet_buffer_data(struct limpet_buffer *buffer);
LIMPET_API size_t limpet_buffer_len(const struct limpet_buffer *buffer);
/* Only the first len bytes count from now on; a larger number changes nothing. */
LIMPET_API void limpet_buffer_trim(struct limpet_buffer *buffer, size_t len);
/* The first len bytes do not count any more, or as many as there are. */
LIMPET_API void limpet_buffer_skip(struct limpet_buffer *buffer, size_t len);
/* For one that was not handed over. NULL is allowed. */
LIMPET_API void limpet_buffer_destroy(struct limpet_buffer *buffer);

/* ---- Operations of several steps ---- */

/*
 * Steps are executed in order, all or none; limpet/object.h has more of them. An op is used once,
 * by limpet_operate() or limpet_aio_operate(), and destroyed by the caller after the request's end;
 * results are then in the places that the steps named. A step's result, where asked for, is 0 or
 * its negative errno. When the operation fails, steps before the one that failed say 0, though
 * nothing of them counts, and those after it -ECANCELED. Adding a step returns -E2BIG beyond
 * LIMPET_OP_STEPS_MAX, -ENOMEM, -EFBIG.
 */
LIMPET_API struct limpet_op *limpet_op_create(void);
LIMPET_API void limpet_op_destroy(struct limpet_op *op);
LIMPET_API int limpet_op_write(struct limpet_op *op, const void *data, size_t len, uint64_t offset);
LIMPET_API int limpet_op_write_full(struct limpet_op *op, const void *data, size_t len);
LIMPET_API int limpet_op_append(struct limpet_op *op, const void *data, size_t len);
/* The same with a buffer, which is handed over in any case. */
LIMPET_API int limpet_op_write_buffer(struct limpet_op *op, struct limpet_buffer *buffer,
                                      uint64_t offset);
LIMPET_API int limpet_op_write_full_buffer(struct limpet_op *op, struct limpet_buffer *buffer);
LIMPET_API int limpet_op_append_buffer(struct limpet_op *op, struct limpet_buffer *buffer);
LIMPET_API int limpet_op_truncate(struct limpet_op *op, uint64_t size);
LIMPET_API int limpet_op_remove(struct limpet_op *op);
LIMPET_API int limpet_op_create_object(struct limpet_op *op, bool exclusive);
/* data, got and out stay valid until the request's end. got and result may be NULL. */
LIMPET_API int limpet_op_read(struct limpet_op *op, void *data, size_t len, uint64_t offset,
                              size_t *got, int *result);
LIMPET_API int limpet_op_stat(struct limpet_op *op, struct limpet_stat *out, int *result);

/* Returns 0, or the error of the first step that failed. version may be NULL. */
LIMPET_API int limpet_operate(struct limpet_pool *pool, const char *name, struct limpet_op *op,
                              struct limpet_object_version *version);

/* ---- Objects, asynchronously ---- */

typedef void (*limpet_callback)(struct limpet_completion *completion, void *arg);

/*
 * callback may be NULL. A completion serves one request. The caller holds it until
 * limpet_completion_release(), which may be called at any time, also before the request's end.
 */
LIMPET_API int limpet_completion_create(limpet_callback callback, void *arg,
                                        struct limpet_completion **out);
/* Waits for the request's end (not for its callback); returns its result. */
LIMPET_API ssize_t limpet_completion_wait(struct limpet_completion *completion);
/* Waits until its callback has returned, too. */
LIMPET_API ssize_t limpet_completion_wait_called(struct limpet_completion *completion);
/*
 * Before the completion is used: its callback may be made by any thread that waits for some
 * request, so that none has to be woken. It must be short, must not wait for anything of the
 * library, and runs at the same time as other callbacks.
 */
LIMPET_API void limpet_completion_call_by_waiters(struct limpet_completion *completion);
LIMPET_API bool limpet_completion_is_done(const struct limpet_completion *completion);
/* After its end: what the waiting function would have returned. */
LIMPET_API ssize_t limpet_completion_result(const struct limpet_completion *completion);
/* After its end: the object's version. */
LIMPET_API struct limpet_object_version
limpet_completion_version(const struct limpet_completion *completion);
LIMPET_API void limpet_completion_release(struct limpet_completion *completion);
/* The request ends with -ECANCELED soon, unless it ended before; a write may have happened. */
LIMPET_API void limpet_completion_cancel(struct limpet_completion *completion);

/*
 * Return 0 when the request is under way (its end comes by the completion), or a negative errno
 * when it could not be submitted (the completion is then unused). Data to be written is copied;
 * memory that is read into, and `out`, stay valid until the end.
 */
LIMPET_API int limpet_aio_write(struct limpet_pool *pool, const char *name,
                                struct limpet_completion *completion, const void *data, size_t len,
                                uint64_t offset);
LIMPET_API int limpet_aio_write_full(struct limpet_pool *pool, const char *name,
                                     struct limpet_completion *completion, const void *data,
                                     size_t len);
LIMPET_API int limpet_aio_append(struct limpet_pool *pool, const char *name,
                                 struct limpet_completion *completion, const void *data,
                                 size_t len);
LIMPET_API int limpet_aio_read(struct limpet_pool *pool, const char *name,
                               struct limpet_completion *completion, void *data, size_t len,
                               uint64_t offset);
LIMPET_API int limpet_aio_stat(struct limpet_pool *pool, const char *name,
                               struct limpet_completion *completion, struct limpet_stat *out);
LIMPET_API int limpet_aio_truncate(struct limpet_pool *pool, const char *name,
                                   struct limpet_completion *completion, uint64_t size);
LIMPET_API int limpet_aio_remove(struct limpet_pool *pool, const char *name,
                                 struct limpet_completion *completion);
/* op is destroyed by the caller after the request's end. */
LIMPET_API int limpet_aio_operate(struct limpet_pool *pool, const char *name,
                                  struct limpet_completion *completion, struct limpet_op *op);

/* ---- Listing ---- */

/*
 * A walk over all objects of the handle's namespace, or of all, in an order of their hashes; the
 * handle's locator does not matter.
 * Objects that exist during the whole walk appear once. The list is used by one thread at a time,
 * and closed before its pool.
 */
LIMPET_API int limpet_list_open(struct limpet_pool *pool, bool all_namespaces,
                                struct limpet_list **out);

struct limpet_list_entry {
    const char *name; /* Terminated by a zero; may hold any other byte, also zeroes. */
    size_t name_len;
    const char *space;
    size_t space_len;
    const char *locator; /* "": it is placed by its name. */
    size_t locator_len;
};

/*
 * Only slice `index` of `count`, parts of about the same size that together are the pool: several
 * walks, of threads or processes, share the work. Before the first limpet_list_next(). -EINVAL.
 */
LIMPET_API int limpet_list_slice(struct limpet_list *list, uint32_t index, uint32_t count);
/* Only the objects of a placement group. Before the first limpet_list_next(). -ENOENT: no such. */
LIMPET_API int limpet_list_group(struct limpet_list *list, uint32_t group);
/* Objects too that are gone, and that snapshots still show. Before the first limpet_list_next(). */
LIMPET_API void limpet_list_kept(struct limpet_list *list);

/* The next object; its strings are valid until the next call. -ENOENT: there are no more. */
LIMPET_API int limpet_list_next(struct limpet_list *list, struct limpet_list_entry *out);

/*
 * The place after the last object that limpet_list_next() returned, as printable text; release it
 * with limpet_free(). A walk may go on from it later, in another process too.
 */
LIMPET_API int limpet_list_cursor(struct limpet_list *list, char **cursor);
/* The place before that object, which comes again after limpet_list_seek(). */
LIMPET_API int limpet_list_cursor_before(struct limpet_list *list, char **cursor);
/* -EINVAL: that is no cursor of this pool. */
LIMPET_API int limpet_list_seek(struct limpet_list *list, const char *cursor);

/*
 * Places of a walk over all of a pool, in the order of hashes of 32 bits whose bits are reversed.
 * LIMPET_LIST_END is the place after everything.
 */
#define LIMPET_LIST_END (UINT64_C(1) << 32)
/* The place before all objects from there on; release it with limpet_free(). */
LIMPET_API int limpet_cursor_at(const struct limpet_pool *pool, uint64_t position, char **cursor);
/* Where a place lies; its *group is 0 for the end. -EINVAL: that is no cursor of this pool. */
LIMPET_API int limpet_cursor_position(struct limpet_pool *pool, const char *cursor,
                                      uint64_t *position, uint32_t *group);
/* *order is below, equal to or above 0, as a is to b. -EINVAL: one is no cursor of this pool. */
LIMPET_API int limpet_cursor_compare(const struct limpet_pool *pool, const char *a, const char *b,
                                     int *order);
LIMPET_API void limpet_list_close(struct limpet_list *list);

/* ---- What scrubs found ---- */

/* What is wrong with an object, or with one copy of it: bits. */
enum limpet_scrub_error {
    LIMPET_SCRUB_MISSING = 1,
    LIMPET_SCRUB_UNEXPECTED = 2, /* It is there, and should not be. */
    LIMPET_SCRUB_READ = 4,       /* The disk fails, or a checksum does. */
    LIMPET_SCRUB_VERSION = 8,
    LIMPET_SCRUB_SIZE = 16,
    LIMPET_SCRUB_ATTRIBUTES = 32,
    LIMPET_SCRUB_OMAP = 64,
    LIMPET_SCRUB_DATA = 128,
};

enum { LIMPET_COPIES_MAX = 16 };

struct limpet_copy {
    int osd;
    unsigned errors;
    uint64_t size;
    uint32_t omap_digest, data_digest; /* crc32c */
};

#define LIMPET_HEAD UINT64_MAX

struct limpet_inconsistent {
    const char *name; /* As in struct limpet_list_entry. */
    size_t name_len;
    const char *space;
    size_t space_len;
    const char *locator;
    size_t locator_len;
    uint64_t snap; /* Of what is kept for snapshots; LIMPET_HEAD: the object itself. */
    uint64_t version;
    unsigned errors;      /* In what its copies differ. */
    unsigned copy_errors; /* Of all copies together. */
    int good;             /* The OSD whose copy is good; -1: none is. */
    bool repaired;        /* It was wrong, and is right again. */
    unsigned n_copies;
    struct limpet_copy copies[LIMPET_COPIES_MAX];
};

struct limpet_inconsistents; /* A walk over them. */

/*
 * What the primary of a placement group (of the handle's pool, by number) knows from its last
 * scrub, and from reads since. -ENODATA: nothing, since no scrub has ended there since it became
 * the primary. -ENOENT: there is no such group. Used by one thread at a time, and closed before
 * its pool.
 */
LIMPET_API int limpet_inconsistents_open(struct limpet_pool *pool, uint32_t group,
                                         struct limpet_inconsistents **out);
/* The epoch of the map since when the group's OSDs have been the same. */
LIMPET_API uint64_t limpet_inconsistents_epoch(const struct limpet_inconsistents *walk);
/* How many more there are than the primary has noted. */
LIMPET_API uint64_t limpet_inconsistents_unlisted(const struct limpet_inconsistents *walk);
/* The next one; its strings are valid until the next call. -ENOENT: there are no more. */
LIMPET_API int limpet_inconsistents_next(struct limpet_inconsistents *walk,
                                         struct limpet_inconsistent *out);
LIMPET_API void limpet_inconsistents_close(struct limpet_inconsistents *walk);

#ifdef __cplusplus
}
#endif

#include "limpet/object.h"

#endif
