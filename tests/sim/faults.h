/*
 * What goes wrong in the simulation, and when: the seed decides.
 */
#ifndef LIMPET_TESTS_SIM_FAULTS_H
#define LIMPET_TESTS_SIM_FAULTS_H

#include "tests/sim/cluster.h"

struct faults_options {
    uint64_t every_ns; /* Between two faults, on average. */
    /*
     * Also what makes the others take an OSD for dead that lives: it is cut off, sleeps, or is
     * marked down. Its clients may read what is no longer true until there are read leases.
     */
    bool isolate_osds;
};

struct faults;

struct faults *faults_create(struct cluster *cluster, const struct faults_options *options);
/* No more faults; everything is healed, and whatever is down starts within a second. */
void faults_end(struct faults *faults);
void faults_destroy(struct faults *faults);
uint32_t faults_count(const struct faults *faults);

#endif
