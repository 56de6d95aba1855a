/*
 * One lock of an object that several may hold, each for a time: a part of the model of the object.
 *
 * A holder's end is reckoned from when the OSD executed the request, which is known to lie between
 * call and return. Before the earliest end it holds the lock, after the latest it does not; in
 * between either is right, and the answer tells.
 */
#ifndef LIMPET_TESTS_SIM_MODEL_TEAM_H
#define LIMPET_TESTS_SIM_MODEL_TEAM_H

#include "tests/sim/history.h"

enum { MODEL_TEAM_MAX = 16 };

struct model_member {
    uint64_t instance;
    uint64_t cookie;
    uint64_t ends_low, ends_high; /* HISTORY_NEVER: it does not end, or nobody knows when. */
};

struct model_team {
    bool noted; /* There may be something of it on the object. */
    bool wild;  /* More than the model holds: nothing is known any more. */
    uint32_t type;
    uint32_t n;
    struct model_member members[MODEL_TEAM_MAX]; /* By instance and cookie. */
};

/* A hash of all of it. */
uint64_t model_team_key(const struct model_team *team);
/* The result of a change, or of HISTORY_HELD, on an object that there is. */
int model_team_run(const struct history_op *op, struct model_team *team);
/* Whether HISTORY_TEAM found what there may be. `holder`: of the other lock. */
bool model_team_explain(const struct history_op *op, const struct model_team *team,
                        uint64_t holder);

#endif
