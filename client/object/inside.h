/*
 * What other parts of the library use of objects beyond limpet/object.h.
 */
#ifndef LIMPET_CLIENT_OBJECT_INSIDE_H
#define LIMPET_CLIENT_OBJECT_INSIDE_H

#include <stdatomic.h>

#include "client/limpet.h"
#include "common/error.h"

/*
 * Has the library's thread make this callback, after all that are due already. The completion is
 * there for no other use. -ENOTCONN, or why there is no thread.
 */
int cluster_call(struct limpet_cluster *cluster, limpet_callback callback, void *arg) MUST_CHECK;
/* Whether the caller is a callback. */
bool cluster_calls_back(struct limpet_cluster *cluster);
/* Whether it is one on the library's thread, where users' callbacks are made. */
bool cluster_calls_users_back(struct limpet_cluster *cluster);

/* Something that a thread waits for. Zero before the wait. */
struct waiter {
    atomic_bool done;
};

/*
 * Waiting for what callbacks of completions end, without the library's thread in between:
 *
 *     if (cluster_may_poll(cluster)) {
 *         submit with completions that are marked by limpet_completion_call_by_waiters(), or others
 *         cluster_wait(cluster, &waiter);
 *     }
 *
 * and in a callback cluster_wake(cluster, &waiter). Callbacks of such completions are made by
 * whichever thread waits and polls, so they must not wait, and not call what is the user's.
 */
bool cluster_may_poll(struct limpet_cluster *cluster);
void cluster_wait(struct limpet_cluster *cluster, struct waiter *waiter);
/* Afterwards the waiter may be gone. */
void cluster_wake(struct limpet_cluster *cluster, struct waiter *waiter);

/*
 * As limpet_completion_cancel(), for several of one cluster; and what was sent of them does not
 * arrive later, but for what the OSDs' machines have by then.
 */
void completions_revoke(struct limpet_completion *const *list, size_t n);

/*
 * As limpet_unwatch(), but does not wait for what was revoked and may still be executed: the lease
 * ends by itself as soon as nothing is, or with the cluster.
 */
void watch_end_lease(struct limpet_watch *lease);

/*
 * Writes by this handle that end by their time-outs do not arrive later, either. It costs the
 * session to their OSD, so it is for those who let others write then.
 */
void pool_revoke_late(struct limpet_pool *pool);

/* What it takes, with the memory behind it that its bytes leave free. */
size_t buffer_memory(const struct limpet_buffer *buffer) MUST_CHECK;
/* What a write of one step takes while it is under way, without its bytes. */
size_t write_memory(void) MUST_CHECK;

/* An option of the type duration, in nanoseconds. */
int cluster_duration(struct limpet_cluster *cluster, const char *option, uint64_t *ns) MUST_CHECK;
/* Of the types number and size; bool. */
int cluster_u64(struct limpet_cluster *cluster, const char *option, uint64_t *out) MUST_CHECK;
int cluster_bool(struct limpet_cluster *cluster, const char *option, bool *out) MUST_CHECK;

#endif
