/*
 * Operations of histories as requests: the steps of each kind, and what their answers say.
 */
#ifndef LIMPET_TESTS_SIM_STEPS_H
#define LIMPET_TESTS_SIM_STEPS_H

#include "client/core/client.h"
#include "tests/sim/history.h"

enum { STEPS_WHY_MAX = 200 };

/* Fills in the steps of an empty request, and whether it writes. */
void steps_fill(struct client_op *op, const struct history_op *choice);

/* Whether the result says what became of the operation. */
bool steps_result_is_known(const struct history_op *call, const struct client_op *op);

/*
 * What an operation with a known result has found becomes part of the call. False, and why: the
 * answer contradicts itself.
 */
bool steps_take(struct history_op *call, const struct client_op *op, char why[STEPS_WHY_MAX]);

#endif
