/*
 * Whether the operations on one object could have happened one after the other, each at some
 * instant between its call and its return: linearizability (M. Herlihy and J. Wing, 1990).
 *
 * The search is that of J. Wing and C. Gong (1993) with the memory of G. Lowe (2017): a depth-first
 * search for an order, which never visits a set of operations done and a state of the object twice.
 */
#ifndef LIMPET_TESTS_SIM_LINEAR_H
#define LIMPET_TESTS_SIM_LINEAR_H

#include "tests/sim/history.h"

enum linear_verdict { LINEAR_OK, LINEAR_VIOLATED, LINEAR_UNDECIDED };

/*
 * Checks the operations on an object. Gives up (LINEAR_UNDECIDED) after max_steps steps of the
 * search. Unless all is well `why` (malloc'd, to be freed; may be NULL) tells how far the search
 * came, and what could not be explained.
 */
enum linear_verdict linear_check(const struct history *history, uint32_t object, uint64_t max_steps,
                                 char **why);

/*
 * Versions of acknowledged changes must grow with real time. Returns true when they do; otherwise
 * *a and *b are two operations that contradict it.
 */
bool versions_check(const struct history *history, uint32_t object, const struct history_op **a,
                    const struct history_op **b);

#endif
