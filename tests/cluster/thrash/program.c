#include "program.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/sim/random.h"

void give_up(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    /* Other threads may be anywhere in the library. */
    _Exit(1);
}

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void think(uint64_t *random, uint32_t most_ms)
{
    uint64_t ns = random_split(random) % ((uint64_t)most_ms * 1000000 + 1);
    struct timespec pause = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    nanosleep(&pause, NULL);
}

uint64_t parse_number(const char *text)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end)
        give_up("'%s' is no number", text);
    return number;
}

void block_ends(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, set, NULL);
}

struct limpet_cluster *connect_to_cluster(void)
{
    struct limpet_cluster *cluster = NULL;
    int error = limpet_cluster_create(&cluster, NULL);
    if (error == 0)
        error = limpet_cluster_config_file(cluster, NULL);
    if (error == 0)
        error = limpet_cluster_connect(cluster);
    if (error < 0)
        give_up("%s: %s", limpet_error_text(error), cluster ? limpet_cluster_error(cluster) : "");
    return cluster;
}

struct limpet_pool *open_pool(struct limpet_cluster *cluster, const char *name)
{
    struct limpet_pool *pool;
    int error = limpet_pool_open(cluster, name, &pool);
    if (error < 0)
        give_up("pool %s: %s", name, limpet_error_text(error));
    return pool;
}
