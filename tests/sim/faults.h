/*
 * What goes wrong in the simulation, and when: a scenario says how often, the seed decides.
 */
#ifndef LIMPET_TESTS_SIM_FAULTS_H
#define LIMPET_TESTS_SIM_FAULTS_H

#include "tests/sim/cluster.h"
#include "tests/sim/scenario.h"

struct faults;

struct faults *faults_create(struct cluster *cluster, const struct scenario *scenario);
/* No more faults; everything is healed, and whatever is down starts within a second. */
void faults_end(struct faults *faults);
void faults_destroy(struct faults *faults);
uint32_t faults_count(const struct faults *faults);

/* The kinds of faults, for scenarios: 0 .. fault_count() - 1. */
int fault_count(void);
/* Negative when there is none of this name. */
int fault_by_name(const char *name);
const char *fault_name(int number);
const char *fault_meaning(int number);

#endif
