/*
 * How long placement takes: ns for each mapping of a PG, by size of the cluster.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "placement/map.h"

enum { TYPE_HOST = 1, TYPE_RACK = 3, TYPE_ROOT = 11, HOSTS_PER_RACK = 30, PG_NUM = 4096 };

static void check(int result)
{
    if (result < 0) {
        fprintf(stderr, "bench_placement: error %d\n", result);
        exit(1);
    }
}

static struct crush_map *build_crush(uint32_t hosts, uint32_t osds_per_host)
{
    struct crush_map *crush = crush_create();
    check(crush != NULL ? 0 : -1);
    int32_t root, rack = 0, osd = 0;
    char name[32];
    uint32_t rule;
    check(crush_add_bucket(crush, TYPE_ROOT, "default", &root));
    for (uint32_t h = 0; h < hosts; h++) {
        int32_t host;
        if (h % HOSTS_PER_RACK == 0) {
            (void)snprintf(name, sizeof name, "rack%u", h / HOSTS_PER_RACK);
            check(crush_add_bucket(crush, TYPE_RACK, name, &rack));
            check(crush_insert(crush, root, rack, 0));
        }
        (void)snprintf(name, sizeof name, "host%u", h);
        check(crush_add_bucket(crush, TYPE_HOST, name, &host));
        for (uint32_t i = 0; i < osds_per_host; i++) {
            check(crush_insert(crush, host, osd++, MAP_WEIGHT_ONE));
        }
        check(crush_insert(crush, rack, host, osds_per_host * MAP_WEIGHT_ONE));
    }
    check(crush_add_simple_rule(crush, "replicated", "default", "host", false, &rule));
    return crush;
}

static struct cluster_map *build_map(uint32_t hosts, uint32_t osds_per_host)
{
    struct cluster_map *map = map_create();
    struct map_increment *inc = map_increment_create(1);
    struct crush_map *crush = build_crush(hosts, osds_per_host);
    struct map_osd osd = {.exists = true, .up = true, .weight = MAP_WEIGHT_ONE};
    struct map_pool pool = {.id = 1,
                            .name = "data",
                            .type = POOL_REPLICATED,
                            .size = 3,
                            .min_size = 2,
                            .pg_num = PG_NUM};
    check(map != NULL && inc != NULL ? 0 : -1);
    check(map_increment_set_crush(inc, crush));
    check(map_increment_set_pool(inc, &pool));
    for (uint32_t i = 0; i < hosts * osds_per_host; i++) {
        check(map_increment_set_osd(inc, (int32_t)i, &osd));
    }
    check(map_apply(map, inc));
    map_increment_destroy(inc);
    crush_destroy(crush);
    return map;
}

static double now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void measure(uint32_t hosts, uint32_t osds_per_host)
{
    enum { ROUNDS = 20 };
    struct cluster_map *map = build_map(hosts, osds_per_host);
    uint64_t sum = 0;
    double start = now_ns();
    for (uint32_t i = 0; i < ROUNDS * PG_NUM; i++) {
        struct pg_view view;
        check(map_pg_view(map, (struct pg_id){1, i % PG_NUM}, &view));
        sum += (uint64_t)view.primary;
    }
    double each = (now_ns() - start) / (ROUNDS * PG_NUM);
    struct encoder e;
    encoder_init(&e);
    start = now_ns();
    check(map_encode(map, &e));
    double encode_ms = (now_ns() - start) / 1e6;
    struct cluster_map *decoded;
    start = now_ns();
    check(map_decode(e.data, e.len, &decoded));
    printf("{\"osds\": %u, \"ns_per_view\": %.0f, \"map_bytes\": %zu, \"encode_ms\": %.2f, "
           "\"decode_ms\": %.2f, \"checksum\": %llu}\n",
           hosts * osds_per_host, each, e.len, encode_ms, (now_ns() - start) / 1e6,
           (unsigned long long)sum);
    map_destroy(decoded);
    encoder_fini(&e);
    map_destroy(map);
}

int main(void)
{
    measure(3, 1);
    measure(30, 12);
    measure(900, 12);
    return 0;
}
