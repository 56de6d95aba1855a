/*
 * librados.so.2 on liblimpet: what its files share. The functions are those of Ceph's librados.h,
 * whose manual tells what they mean; README.md tells which are missing, and what is different.
 *
 * Layers are thin: a handle holds liblimpet's handle, and each call becomes an operation of it.
 */
#ifndef LIMPET_CLIENT_COMPAT_COMPAT_H
#define LIMPET_CLIENT_COMPAT_COMPAT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/limpet.h"
#include "client/limpet/object.h"

#define EXPORT __attribute__((visibility("default")))

/* As a namespace: all of them. */
#define ALL_NAMESPACES "\001"

struct compat_cluster {
    struct limpet_cluster *cluster;
    bool connected;
};

struct compat_ioctx {
    atomic_uint refs; /* The user's, and one for each asynchronous request. */
    struct compat_cluster *cluster;
    struct limpet_pool *pool;
    bool all_namespaces;
    int error; /* Of the last setting that cannot be; requests give it. */
    atomic_ullong last_version;

    pthread_mutex_t lock;
    pthread_cond_t flushed;
    uint64_t writes; /* Asynchronous ones under way. */
};

void ioctx_unref(struct compat_ioctx *io);

/* The operation of a write or a read: what went wrong while it was made is told when it runs. */
struct compat_op {
    struct limpet_op *op;
    int error;
    struct compat_omap_iter **iters; /* To be told whether there is more. */
    size_t n_iters;
};

struct compat_omap_iter {
    struct limpet_pairs *pairs;
    bool more;
    unsigned char *told_more; /* The user's; or NULL. */
    char *key;                /* The last one, with a zero after it. */
};

/* Runs an operation on an object, and notes its version. Destroys it. */
int compat_run(struct compat_ioctx *io, const char *object, struct limpet_op *op, int error);
/* After its end. */
void compat_op_finish(struct compat_op *op);

#endif
