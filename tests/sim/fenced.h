/*
 * Clients that take fenced leases, and while they have one read and write another object, which
 * knows nothing of leases; and the verdicts on that:
 *
 *   fenced-late    once a holder has read the object, nothing changes it that an earlier holder has
 *                  sent, whenever that arrives
 *   fenced-given   when faults are over whoever wants a fenced lease gets it
 *
 * A client that is blocked ends, and another one starts.
 */
#ifndef LIMPET_TESTS_SIM_FENCED_H
#define LIMPET_TESTS_SIM_FENCED_H

#include "tests/sim/cluster.h"
#include "tests/sim/scenario.h"

struct fenced;

/* The scenario's choice may be that there are none. Objects are made by the administrator. */
struct fenced *fenced_create(struct cluster *cluster, const struct scenario *scenario,
                             uint64_t pool);
void fenced_destroy(struct fenced *fenced);
/* The last leases. False after a failure. */
bool fenced_finish(struct fenced *fenced, uint64_t answer_ns);
uint32_t fenced_count(const struct fenced *fenced); /* What was answered. */

#endif
