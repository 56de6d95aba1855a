/*
 * One object as the checker of histories has it: a value, and what each operation does to it.
 */
#ifndef LIMPET_TESTS_SIM_LINEAR_MODEL_H
#define LIMPET_TESTS_SIM_LINEAR_MODEL_H

#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/history.h"
#include "tests/sim/model_team.h"
#include "tests/sim/random.h"

struct model_extent {
    uint64_t at;
    uint64_t len;
    uint64_t serial;
    uint64_t from;   /* Position in the serial's data; */
    uint64_t period; /* which begins anew after so many bytes. 0: never. */
};

/*
 * The object as it was at some snapshots. `vague`: whether the object has kept it depends on when a
 * trimmer came by, so anything is right.
 */
struct model_record {
    uint64_t first, last;
    bool vague;
    uint64_t size;
    uint32_t n;
    struct model_extent *extents;
};

struct model {
    bool exists;
    bool hashed;
    uint64_t size;
    uint64_t hash; /* Of the contents; valid when hashed. */
    uint64_t tag;
    uint64_t keys;   /* HISTORY_KEYS_SET: those that there are. */
    uint64_t holder; /* HISTORY_LOCK: who has it. */
    struct model_team team;
    uint32_t n;
    struct model_extent *extents; /* By position; what they leave out is zero. */
    /*
     * The newest snapshot that a writer knew of. The object forgets it when it is removed with no
     * clone left; where that depends on a trimmer it is one of both.
     */
    uint64_t snap_low, snap_high;
    bool wild; /* Rolled back to what may not be there: nothing is known any more. */
    uint32_t n_records;
    struct model_record *records; /* In the order in which they came into being. */
};

static inline void *model_must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static inline uint64_t model_mix(uint64_t a, uint64_t b)
{
    uint64_t z = random_split(&a) + b;
    return random_split(&z);
}

void model_fini(struct model *model);
/* A hash of all of it. */
uint64_t model_key(const struct model *model);
/* Whether the operation changes objects. */
bool model_changes(const struct history_op *op);
/* Whether the operation, run now, returns what it returned; then *new is the object after it. */
bool model_explain(const struct history_op *op, struct model *old, struct model *new);
/* One line for a person. */
void model_describe(FILE *out, struct model *model);

#endif
