/*
 * The seam between client/object, client/image, client/fs and the simulator: included before
 * everything else in its build of these, it gives the functions of pthread and the system that they
 * use other names. What it does not name would be a thread, a clock or a random number of the real
 * world.
 */
#ifndef LIMPET_TESTS_SIM_FIBER_PTHREAD_H
#define LIMPET_TESTS_SIM_FIBER_PTHREAD_H

#include <pthread.h>
#include <sys/random.h>
#include <time.h>

#include "tests/sim/fibers.h"

#define pthread_create         fiber_create
#define pthread_join           fiber_join
#define pthread_self           fiber_self
#define pthread_key_create     fiber_key_create
#define pthread_getspecific    fiber_getspecific
#define pthread_setspecific    fiber_setspecific
#define pthread_mutex_init     fiber_mutex_init
#define pthread_mutex_destroy  fiber_mutex_destroy
#define pthread_mutex_lock     fiber_mutex_lock
#define pthread_mutex_unlock   fiber_mutex_unlock
#define pthread_cond_init      fiber_cond_init
#define pthread_cond_destroy   fiber_cond_destroy
#define pthread_cond_wait      fiber_cond_wait
#define pthread_cond_clockwait fiber_cond_clockwait
#define pthread_cond_signal    fiber_cond_signal
#define pthread_cond_broadcast fiber_cond_broadcast
#define clock_gettime          fiber_clock_gettime
#define nanosleep              fiber_nanosleep
#define getrandom              fiber_getrandom

/* It waits by the clock that people set: see client/fs/cond.h. */
#pragma GCC poison pthread_cond_timedwait

/* The simulator has a function of this name, too. */
#define cluster_fail client_cluster_fail

#endif
