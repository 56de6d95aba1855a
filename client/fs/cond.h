/*
 * Waiting for a condition with a limit of time, by the clock that nobody sets: a thread whose task
 * is to be in time must not sleep because somebody has put the clock of the machine back.
 */
#ifndef LIMPET_CLIENT_FS_COND_H
#define LIMPET_CLIENT_FS_COND_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t cond_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The condition needs no attributes. Returns 0, or ETIMEDOUT when cond_now_ns() is past that. */
static inline int cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000),
                             .tv_nsec = (long)(until_ns % 1000000000)};
    return pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &until);
}

#endif
