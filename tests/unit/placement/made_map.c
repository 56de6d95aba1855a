#include "tests/unit/placement/made_map.h"

#include "tests/lib/test.h"

#include <stdio.h>
#include <string.h>

enum { HOSTS_PER_RACK = 30, TYPE_HOST = 1, TYPE_RACK = 3, TYPE_ROOT = 11 };

struct crush_map *made_crush(uint32_t hosts, uint32_t osds_per_host)
{
    struct crush_map *crush = crush_create();
    assert_non_null(crush);
    int32_t root, rack = 0, osd = 0;
    char name[32];
    assert_int_equal(crush_add_bucket(crush, TYPE_ROOT, "default", &root), 0);
    for (uint32_t h = 0; h < hosts; h++) {
        int32_t host, above = root;
        if (hosts > HOSTS_PER_RACK) {
            if (h % HOSTS_PER_RACK == 0) {
                (void)snprintf(name, sizeof name, "rack%u", h / HOSTS_PER_RACK);
                assert_int_equal(crush_add_bucket(crush, TYPE_RACK, name, &rack), 0);
                assert_int_equal(crush_insert(crush, root, rack, 0), 0);
            }
            above = rack;
        }
        (void)snprintf(name, sizeof name, "host%u", h);
        assert_int_equal(crush_add_bucket(crush, TYPE_HOST, name, &host), 0);
        for (uint32_t i = 0; i < osds_per_host; i++) {
            assert_int_equal(crush_insert(crush, host, osd++, MAP_WEIGHT_ONE), 0);
        }
        assert_int_equal(crush_insert(crush, above, host, osds_per_host * MAP_WEIGHT_ONE), 0);
    }
    uint32_t rule;
    assert_int_equal(crush_add_simple_rule(crush, "replicated", "default", "host", false, &rule),
                     0);
    return crush;
}

struct map_osd made_osd(int32_t id)
{
    struct map_osd osd = {
        .exists = true,
        .up = true,
        .weight = MAP_WEIGHT_ONE,
        .instance = UINT64_C(0x9e3779b97f4a7c15) * ((uint64_t)id + 1),
        .up_from = 1,
        .bytes_total = UINT64_C(10) << 40,
        .address = {.family = 4, .ip = {10, 1}, .port = 6800},
    };
    for (uint32_t i = 0; i < 16; i++) {
        osd.uuid.bytes[i] = (uint8_t)(osd.instance >> i);
    }
    osd.address.ip[2] = (uint8_t)(id >> 8);
    osd.address.ip[3] = (uint8_t)id;
    (void)snprintf(osd.host, sizeof osd.host, "host%d", id / 12);
    return osd;
}

struct map_pool made_pool(uint64_t id, const char *name, uint32_t pg_num)
{
    struct map_pool pool = {
        .id = id, .type = POOL_REPLICATED, .size = 3, .min_size = 2, .pg_num = pg_num};
    (void)snprintf(pool.name, sizeof pool.name, "%s", name);
    return pool;
}

struct map_increment *made_increment(const struct cluster_map *map)
{
    struct map_increment *inc = map_increment_create(map->epoch + 1);
    assert_non_null(inc);
    return inc;
}

void apply(struct cluster_map *map, struct map_increment *inc)
{
    assert_int_equal(map_apply(map, inc), 0);
    map_increment_destroy(inc);
}

struct cluster_map *made_map(uint32_t hosts, uint32_t osds_per_host, uint32_t pg_num)
{
    struct cluster_map *map = map_create();
    assert_non_null(map);
    struct map_increment *inc = made_increment(map);
    struct crush_map *crush = made_crush(hosts, osds_per_host);
    const struct uuid fsid = {.bytes = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
    struct map_mon mons[3] = {
        {.id = 1, .name = "a", .address = {.family = 4, .ip = {10, 0, 0, 1}, .port = 3300}},
        {.id = 2, .name = "b", .address = {.family = 4, .ip = {10, 0, 0, 2}, .port = 3300}},
        {.id = 3, .name = "c", .address = {.family = 6, .ip = {0xfd, [15] = 3}, .port = 3300}},
    };
    struct map_pool pool = made_pool(1, "data", pg_num);
    pool.created = pool.config_base = 1;
    assert_int_equal(map_increment_set_fsid(inc, &fsid), 0);
    assert_int_equal(map_increment_set_mons(inc, mons, 3), 0);
    assert_int_equal(map_increment_set_crush(inc, crush), 0);
    assert_int_equal(map_increment_set_pool(inc, &pool), 0);
    map_increment_set_time(inc, UINT64_C(1790000000000000000));
    for (uint32_t i = 0; i < hosts * osds_per_host; i++) {
        struct map_osd osd = made_osd((int32_t)i);
        assert_int_equal(map_increment_set_osd(inc, (int32_t)i, &osd), 0);
    }
    apply(map, inc);
    crush_destroy(crush);
    return map;
}

void assert_maps_equal(const struct cluster_map *a, const struct cluster_map *b)
{
    struct encoder x, y;
    encoder_init(&x);
    encoder_init(&y);
    assert_int_equal(map_encode(a, &x), 0);
    assert_int_equal(map_encode(b, &y), 0);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
    encoder_fini(&x);
    encoder_fini(&y);
}
