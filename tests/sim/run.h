/*
 * One run of the simulation: a seed, from making a cluster to the verdict.
 */
#ifndef LIMPET_TESTS_SIM_RUN_H
#define LIMPET_TESTS_SIM_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/scenario.h"

struct run_options {
    const struct scenario *scenario;
    uint64_t seed;
    uint64_t seconds; /* Virtual, of work with faults; 0: as the scenario says. */
    bool trace;
    bool debug; /* Debug lines of the daemons as well. */
    bool no_faults;
    bool no_reads;   /* Only changes, until the end. */
    uint32_t n_mons; /* 0: the scenario says. */
    uint32_t n_osds;
    uint32_t n_clients;
};

struct run_result {
    bool failed;
    uint64_t hash; /* Of everything that happened. */
    uint64_t events;
    uint64_t virtual_ns;
    uint32_t operations; /* Answered. */
    uint32_t unknown;    /* Whose outcome nobody knows. */
    uint32_t undecided;  /* Objects whose history has too many orders to be checked. */
    uint32_t faults;
    uint64_t longest_ns; /* Of an operation. */
    uint64_t settle_ns;  /* From the end of faults until every copy was equal. */
    uint64_t epoch;
    char why[512];
};

/* After a failure the last log lines have been printed to stderr. */
void run_seed(const struct run_options *options, struct run_result *result);

#endif
