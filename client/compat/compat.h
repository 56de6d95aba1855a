/*
 * librados.so.2 on liblimpet: what its files share. The functions are those of Ceph's librados.h,
 * whose manual tells what they mean; README.md tells which are missing, and what is different.
 *
 * Layers are thin: a handle holds liblimpet's handle, and each call becomes an operation of it.
 */
#ifndef LIMPET_CLIENT_COMPAT_COMPAT_H
#define LIMPET_CLIENT_COMPAT_COMPAT_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "client/limpet.h"
#include "client/limpet/object.h"

#define EXPORT __attribute__((visibility("default")))

/* As a namespace: all of them. */
#define ALL_NAMESPACES "\001"

struct compat_cluster {
    struct limpet_cluster *cluster;
    bool connected;
    atomic_bool is_service; /* rados_service_register() */

    pthread_mutex_t lock;
    pthread_cond_t idle;
    unsigned tasks; /* Under way: compat_submit_task(). */
};

TAILQ_HEAD(completion_queue, completion);

struct compat_ioctx {
    atomic_uint refs; /* The user's, and one for each asynchronous request. */
    struct compat_cluster *cluster;
    struct limpet_pool *pool;
    bool all_namespaces;
    /* Of the last setting of each kind, when it cannot be; requests give it: ioctx_error(). */
    int space_error, locator_error, snap_error;
    bool at_snapshot;
    atomic_ullong last_version;

    pthread_mutex_t lock;
    pthread_cond_t flushed;
    struct completion_queue writes; /* Asynchronous ones under way, as they were begun. */
    uint64_t n_begun;               /* The number of the last one. */
};

void ioctx_unref(struct compat_ioctx *io);

static inline bool is_too_long(size_t len)
{
    return len > UINT32_MAX / 2;
}

/* The initial value of a checksum, from memory with its lowest byte first. -EINVAL: it is too
 * short. */
int compat_checksum_begin(int type, const char *init, size_t len, uint64_t *value);

static inline int ioctx_error(const struct compat_ioctx *io)
{
    int error = io->space_error != 0 ? io->space_error : io->locator_error;
    return error != 0 ? error : io->snap_error;
}

/* What a step tells its caller after the end, in librados' terms. */
struct compat_result {
    struct compat_result *next;
    int status; /* Of the step. */
    int *told;  /* The user's, as all pointers here; or NULL. */
    int untold; /* What is told of a step that was not executed. */
    /* Of rados_read_op_stat(). */
    struct limpet_stat stat;
    uint64_t *size;
    time_t *mtime;
    /* Of a list. */
    bool more;
    unsigned char *told_more;
    /* Bytes, which are copied to the user's memory, or handed over. */
    void *data;
    size_t len;
    char *buf;
    size_t room;
    char **given;
    size_t *given_len;
};

/*
 * The operation of a write or a read: what went wrong while it was made is told when it runs. Its
 * user may release it as soon as it was submitted.
 */
struct compat_op {
    atomic_uint refs; /* The user's, and that of an asynchronous request. */
    struct limpet_op *op;
    int error;
    bool reads;
    unsigned steps, looks;           /* How many; and how many of them change nothing. */
    struct compat_result *comparing; /* The last step, if it compares an attribute. */
    struct compat_result *first, **last;
};

struct compat_attr_iter {
    struct limpet_pairs *pairs; /* NULL: it gave nothing. */
    char name[LIMPET_ATTR_NAME_MAX + 1];
};

struct compat_omap_iter {
    struct limpet_pairs *pairs; /* NULL: it gave nothing. */
    bool keys_only;
    char *key; /* The last one, with a zero after it. */
};

/*
 * admin.c: runs a command of the monitors, which is taken over. Its output is JSON; NULL with the
 * error in *error.
 */
json_t *compat_ask(struct compat_cluster *cluster, json_t *command, int *error);

/* watch.c: takes a cluster's watches out of the table, so that no callback of theirs begins; */
struct compat_watch;
struct compat_watch *compat_watches_take(struct compat_cluster *cluster);
/* and releases them when the cluster does not exist any more. */
void compat_watches_release(struct compat_watch *watches);

/* notify.c: the result of a notify, and its answers, which are taken over, for the caller. */
int compat_give_answers(struct limpet_answers *answers, int result, char **reply, size_t *len);

/* aio.c: where the request of a completion puts answers, and where callers want them. */
struct limpet_answers **compat_answers_of(void *completion, char **reply, size_t *len);
/* Takes over the operation in any case; `error` is what went wrong while it was made. */
int compat_submit(void *completion, struct compat_ioctx *io, const char *object,
                  struct limpet_op *op, int error, bool writes);

/*
 * Runs a task that waits, on a thread of its own; its result is the completion's. It gets `arg`,
 * which is released with free() at the end. io is NULL for what is the cluster's. What cannot begin
 * ends with an error: 0, unless the completion has served already.
 */
int compat_submit_task(void *completion, struct compat_cluster *cluster, struct compat_ioctx *io,
                       int (*task)(void *arg), void *arg, bool writes);
/* Waits for all tasks of the cluster. */
void compat_tasks_wait(struct compat_cluster *cluster);

/* Runs an operation on an object, and notes its version. Destroys it. */
int compat_run(struct compat_ioctx *io, const char *object, struct limpet_op *op, int error);
/* After its end, with its result; returns the one that callers expect. */
int compat_op_finish(struct compat_op *op, int result);
void compat_op_unref(struct compat_op *op);

#endif
