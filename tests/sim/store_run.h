/*
 * One store in the simulated world, its model, and its life: transactions, power cuts, mounts,
 * comparison.
 */
#ifndef LIMPET_TESTS_SIM_STORE_RUN_H
#define LIMPET_TESTS_SIM_STORE_RUN_H

#include "osd/store/engine.h"
#include "tests/sim/disk_sim.h"
#include "tests/sim/env_sim.h"
#include "tests/sim/store_model.h"

enum plan_state {
    PLAN_UNDER_WAY,
    PLAN_DONE,
    PLAN_REFUSED, /* As if it had never been. */
    PLAN_LOST,    /* The store failed: it may be there or not. */
};

struct plan {
    struct model_txn txn;
    struct store_txn store_txn;
    enum plan_state state;
    bool reads_fail; /* While it was executed. */
    struct run *run;
};

struct store_totals {
    uint64_t seeds, failed, transactions, cuts, refused, failures;
    uint64_t reads, ring_reads, placed; /* Blocks: read from the ring, and put in place. */
    uint64_t rotten, rotten_told, rotten_healed, rotten_mount;
    uint64_t flips, flips_read, flips_fsck, flips_mount, flips_harmless, flips_last_group;
    uint64_t unsteady, unsteady_refused;
};

/* While transactions are under way somebody reads. */
struct side_read {
    struct store_read read;
    struct run *run;
    bool busy;
};

enum { SIDE_READS = 4 };

struct run {
    struct sim *sim;
    struct sim_node *node;
    struct random_stream random;
    struct model_shape shape;
    uint64_t memory, cache_bytes, unsaved_bytes;
    uint32_t in_flight_max;
    uint64_t disk_bytes, journal_bytes;
    struct disk_image *image;
    struct index_memory_disk *index_disk;
    struct disk *disk;
    struct index *index;
    struct store *store;
    struct disk_sim_faults faults; /* Of the next mount on. */
    struct model base;             /* After `base_number` transactions. */
    uint64_t base_number;
    struct plan **plans; /* base_number + 1 .. next - 1 */
    uint32_t n_plans, plan_capacity;
    uint64_t next;
    uint64_t acknowledged; /* The highest. */
    uint32_t in_flight;
    bool wrong;        /* Something that must never happen. */
    bool may_fail;     /* The disk fails: so may the store. */
    bool may_refuse;   /* For want of space, or since a read fails. */
    bool store_failed; /* It said so. */
    bool closed;
    uint64_t sequence; /* Of the journal, after the last mount. */
    struct side_read side_reads[SIDE_READS];
    bool unreadable; /* Blocks may have become so: side reads may fail. */
    bool rotten;     /* One was damaged on purpose: what is written over it may leave damage. */
    bool rests;      /* Now and then nothing is wanted for a while. */
    struct store_totals *totals;
};

/*
 * FULL: more is written than fits. COVERING: small writes go over large ones that were written just
 * before, are put in place soon, and then nothing more is written.
 */
enum run_kind { RUN_ANY, RUN_FULL, RUN_COVERING };
void run_init(struct run *r, uint64_t seed, enum run_kind kind, bool trace,
              struct store_totals *totals);
void run_fini(struct run *r);

/* Mounts. False: it cannot be, said unless quiet. */
bool run_open(struct run *r, bool quiet);
void run_cut(struct run *r);
/* Closes in order. */
bool run_close(struct run *r);
/* Begins to close, and cuts the power in the middle. */
void run_close_and_cut(struct run *r);
/* Deep check, which must find nothing. With quiet it may: errors tells, -1 when it gave up. */
bool run_check(struct run *r, bool quiet, int64_t *errors);

/* A random transaction; or this one, whose number is set. */
void run_submit(struct run *r);
void run_submit_txn(struct run *r, const struct model_txn *txn);
/* Submits up to that transaction; ends when the store fails, if it may. */
bool run_work(struct run *r, uint64_t until_number);
/* Submits until a superblock has moved the journal's tail, or up to that transaction. */
bool run_to_checkpoint(struct run *r, uint64_t until_number);
/* Lets everything come to an end. */
bool run_settle(struct run *r);
bool run_wait(struct run *r, const bool *flag);
/* Lets time pass in which nobody wants anything. */
void run_rest(struct run *r, uint64_t ns);

/* Takes the model to a number. */
void run_model_at(const struct run *r, uint64_t number, struct model *out);
/* How many transactions the store holds. */
bool run_number(struct run *r, uint64_t *number);

enum verdict { EQUAL, UNREADABLE, DIFFERENT };
/*
 * Reads everything. UNREADABLE: some read failed with -EIO, and the rest was right. Blocks of an
 * object that the model knows to be damaged may fail.
 */
enum verdict run_read_all(struct run *r, const struct model *want, bool quiet);

/* After a mount: the store must hold all that was acknowledged and a prefix of the rest. */
bool run_compare(struct run *r);

#endif
