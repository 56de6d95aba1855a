/* What the clients of the thrash test have in common: how they begin, and how they give up. */
#ifndef LIMPET_TESTS_THRASH_PROGRAM_H
#define LIMPET_TESTS_THRASH_PROGRAM_H

#include <signal.h>
#include <stdint.h>

#include "client/limpet.h"

/* Says what is wrong, after the program's name, and ends the process with 1. */
__attribute__((noreturn, format(printf, 1, 2))) void give_up(const char *format, ...);

/* The clock that all processes of a machine share, whatever their network. */
uint64_t now_ns(void);

/* Up to the given number of milliseconds. */
void think(uint64_t *random, uint32_t most_ms);

uint64_t parse_number(const char *text);

/*
 * SIGTERM, SIGINT and SIGUSR1 reach nothing but sigwait() with the set. To be called before there
 * is any other thread.
 */
void block_ends(sigset_t *set);

/* Of the configuration that the environment names. */
struct limpet_cluster *connect_to_cluster(void);
struct limpet_pool *open_pool(struct limpet_cluster *cluster, const char *name);

#endif
