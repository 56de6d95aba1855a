/*
 * What a snapshot costs the writes behind it: of objects of 4 MiB, the median time of a write of
 * 4 KiB as it is, of the first one after a snapshot, and of the first one after a second and each
 * further one, which keeps more than one clone. And of taking a snapshot.
 *
 *     bench_snap CONFIG POOL [OBJECTS]
 *
 * tests/bench/snapshots runs it on a cluster.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/limpet/object.h"

enum { OBJECT_BYTES = 4 << 20, WRITE_BYTES = 4096, OBJECTS_MAX = 1000, FURTHER = 3 };

/* In the order in which they are printed. */
enum row { PLAIN, CREATE, FIRST, SECOND, LATER, ROWS };
static const char *const names[ROWS] = {"plain", "create", "first", "second", "later"};
static uint64_t samples[ROWS][OBJECTS_MAX * 8];
static size_t counts[ROWS];

static struct limpet_pool *pool;
static uint64_t snaps[FURTHER + 2]; /* Of an object, newest first. */
static size_t n_snaps;

static void must(const char *what, int error)
{
    if (error >= 0)
        return;
    fprintf(stderr, "bench_snap: %s: %s\n", what, strerror(-error));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void sample(enum row row, uint64_t since_ns)
{
    samples[row][counts[row]++] = now_ns() - since_ns;
}

static void write_one(enum row row, const char *name, uint64_t block)
{
    static char data[WRITE_BYTES];
    memset(data, (int)(1 + row), sizeof data);
    uint64_t since = now_ns();
    must("write", (int)limpet_write(pool, name, data, sizeof data, block * WRITE_BYTES));
    sample(row, since);
}

static void take_snapshot(void)
{
    uint64_t since = now_ns(), snap;
    must("limpet_self_snap_create", limpet_self_snap_create(pool, &snap));
    sample(CREATE, since);
    memmove(snaps + 1, snaps, n_snaps * sizeof snaps[0]);
    snaps[0] = snap;
    n_snaps++;
    must("context", limpet_pool_set_snap_context(pool, snap, snaps, n_snaps));
}

/* Plain writes between the others, so that all see the same machine. */
static void measure(unsigned i)
{
    char name[32];
    snprintf(name, sizeof name, "object-%u", i);
    n_snaps = 0;
    must("context", limpet_pool_set_snap_context(pool, 0, NULL, 0));
    char *data = malloc(OBJECT_BYTES);
    if (data == NULL)
        exit(1);
    memset(data, 'd', OBJECT_BYTES);
    must("write", (int)limpet_write_full(pool, name, data, OBJECT_BYTES));
    free(data);
    write_one(PLAIN, name, 1);
    for (unsigned k = 0; k < 2 + FURTHER; k++) {
        take_snapshot();
        write_one(k == 0 ? FIRST : k == 1 ? SECOND : LATER, name, 7 + 100 * k);
        write_one(PLAIN, name, 7 + 100 * k);
    }
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static uint64_t median_of(int row)
{
    size_t middle = counts[row] / 2;
    return samples[row][middle];
}

int main(int argc, char **argv)
{
    struct limpet_cluster *cluster;
    unsigned objects = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 30;
    if (argc < 3 || objects == 0 || objects > OBJECTS_MAX) {
        fprintf(stderr, "usage: bench_snap CONFIG POOL [OBJECTS]\n");
        return 2;
    }
    must("cluster", limpet_cluster_create(&cluster, NULL));
    must(argv[1], limpet_cluster_config_file(cluster, argv[1]));
    must("connect", limpet_cluster_connect(cluster));
    must(argv[2], limpet_pool_open(cluster, argv[2], &pool));
    for (unsigned i = 0; i < objects; i++)
        measure(i);
    printf("{");
    for (int row = 0; row < ROWS; row++) {
        qsort(samples[row], counts[row], sizeof samples[row][0], by_value);
        printf("%s\"%s\": %.1f", row > 0 ? ", " : "", names[row], (double)median_of(row) / 1000);
    }
    printf("}\n");
    limpet_pool_close(pool);
    limpet_cluster_destroy(cluster);
    return 0;
}
