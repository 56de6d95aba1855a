/*
 * Clients that watch objects, notify each other, and take leases; and the verdicts on that:
 *
 *   watch-named    who watches from before a notify to its end has answered, or is named as missing
 *   watch-told     who is said to have answered was told; and who is missing was told, too, when
 *                  nothing has gone wrong for a while
 *   lease-alone    no two clients take themselves for holders of leases that do not agree, at the
 *                  same moment of real time
 *   lease-given    when faults are over whoever wants a lease gets it
 *   watch-lost     who watches an object that is removed is told so
 */
#ifndef LIMPET_TESTS_SIM_WATCHERS_H
#define LIMPET_TESTS_SIM_WATCHERS_H

#include "tests/sim/cluster.h"
#include "tests/sim/scenario.h"

struct watchers;

/* The scenario's choice may be that there are none. Objects are made by the administrator. */
struct watchers *watchers_create(struct cluster *cluster, const struct scenario *scenario,
                                 uint64_t pool);
void watchers_destroy(struct watchers *watchers);
/* Faults are over. */
void watchers_calm(struct watchers *watchers);
/* The last notifies and leases, and the end of all objects. False after a failure. */
bool watchers_finish(struct watchers *watchers, uint64_t answer_ns);
uint32_t watchers_count(const struct watchers *watchers); /* What was answered. */

#endif
