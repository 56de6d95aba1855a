/*
 * What other parts of the library use of objects beyond limpet/object.h.
 */
#ifndef LIMPET_CLIENT_OBJECT_INSIDE_H
#define LIMPET_CLIENT_OBJECT_INSIDE_H

#include "client/limpet.h"
#include "common/error.h"

/*
 * Has the library's thread make this callback, after all that are due already. The completion is
 * there for no other use. -ENOTCONN, or why there is no thread.
 */
int cluster_call(struct limpet_cluster *cluster, limpet_callback callback, void *arg) MUST_CHECK;
/* Whether the caller is a callback. */
bool cluster_calls_back(struct limpet_cluster *cluster);
/* An option of the type duration, in nanoseconds. */
int cluster_duration(struct limpet_cluster *cluster, const char *option, uint64_t *ns) MUST_CHECK;

#endif
