/*
 * Whether a listing of the pools names exactly the objects that exist.
 */
#ifndef LIMPET_TESTS_SIM_LISTING_H
#define LIMPET_TESTS_SIM_LISTING_H

#include "tests/sim/workload.h"

/* By the administrator, page by page, when all is quiet and all was read. Fails the cluster. */
bool listing_check(struct cluster *cluster, const struct workload *workload);

#endif
