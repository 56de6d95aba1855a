/*
 * Threads of simulated processes.
 *
 * What the library does with threads, the simulator does with fibers: stacks of their own in the
 * one thread that there is, switched where a thread would wait. Each belongs to a process of the
 * world and runs in its turns, by a timer: it does not run while the process is paused, and never
 * again when the process has ended.
 *
 *  F1  A fiber gives way when it waits, and sometimes before it takes a lock: as if another thread
 *      had been faster. Never while it holds a lock of a cluster handle (client/object's L1), so
 *      that what the world calls finds these free.
 *  F2  When a waiting fiber goes on, and where one gives way, is decided by the seed.
 *
 * fiber_pthread.h gives this the names of pthread's functions.
 */
#ifndef LIMPET_TESTS_SIM_FIBERS_H
#define LIMPET_TESTS_SIM_FIBERS_H

#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "tests/sim/env_sim.h"

struct fibers; /* Of a process. */
struct fiber;

/* The process runs on this node. */
struct fibers *fibers_create(struct sim *sim, struct sim_node *node);
/*
 * Before the end of the process: none of them runs any more. What they had allocated stays: it is
 * the memory of a process that is gone.
 */
void fibers_destroy(struct fibers *fibers);
/* At the n-th lock that one of them takes from now on, the process stands still for so long. */
void fibers_hang(struct fibers *fibers, uint32_t n, uint64_t ns);
uint32_t fibers_count(const struct fibers *fibers);

struct fiber *fiber_start(struct fibers *fibers, void *(*run)(void *arg), void *arg);
/* NULL: the world itself runs. */
struct fiber *fiber_current(void);
/* Its number, as a thread has one: never given twice. */
pthread_t fiber_self(void);
/* The process of the current one. */
struct env *fiber_env(void);
struct sim_node *fiber_node(void);

/* Until somebody wakes those who wait for this address. */
void fiber_wait(const void *key);
void fiber_wake(const void *key, bool all);
void fiber_sleep(uint64_t ns);

/* ---- In place of pthread and the system ---- */

int fiber_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int fiber_join(pthread_t thread, void **out);
/* What each fiber has for itself. */
int fiber_key_create(pthread_key_t *key, void (*destroy)(void *));
void *fiber_getspecific(pthread_key_t key);
int fiber_setspecific(pthread_key_t key, const void *value);
int fiber_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr);
int fiber_mutex_destroy(pthread_mutex_t *mutex);
int fiber_mutex_lock(pthread_mutex_t *mutex);
int fiber_mutex_unlock(pthread_mutex_t *mutex);
bool fiber_mutex_is_free(const pthread_mutex_t *mutex);
int fiber_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr);
int fiber_cond_destroy(pthread_cond_t *cond);
int fiber_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int fiber_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                         const struct timespec *until);
int fiber_cond_signal(pthread_cond_t *cond);
int fiber_cond_broadcast(pthread_cond_t *cond);
int fiber_clock_gettime(clockid_t clock, struct timespec *out);
int fiber_nanosleep(const struct timespec *ts, struct timespec *left);
ssize_t fiber_getrandom(void *out, size_t len, unsigned flags);

#endif
