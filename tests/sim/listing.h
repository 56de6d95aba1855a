/*
 * Whether a listing of the pools names exactly the objects that exist.
 */
#ifndef LIMPET_TESTS_SIM_LISTING_H
#define LIMPET_TESTS_SIM_LISTING_H

#include "tests/sim/workload.h"

/* By the administrator, page by page, when all is quiet and all was read. Fails the cluster. */
bool listing_check(struct cluster *cluster, const struct workload *workload);

/*
 * Listings while clients work and things go wrong: each names everything that existed throughout
 * exactly once, in order. The administrator makes them, of one group after the other.
 */
struct lister;
struct lister *lister_create(struct cluster *cluster, const struct workload *workload) MUST_CHECK;
void lister_destroy(struct lister *lister);
void lister_stop(struct lister *lister);
bool lister_quiet(const struct lister *lister);
/* Groups that were listed from beginning to end. */
uint32_t lister_count(const struct lister *lister);

#endif
