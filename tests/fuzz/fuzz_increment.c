/*
 * Any bytes as an increment: refused, or applied to a map, or refused by it and the map unchanged.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "placement/map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The map that increments are applied to: a pool, an entry, a few OSDs, at the epoch before. */
static struct cluster_map *base_map(uint64_t epoch)
{
    struct cluster_map *map = map_create();
    struct crush_map *crush = crush_create();
    struct map_increment *inc = map_increment_create(1);
    assert(map != NULL && crush != NULL && inc != NULL);
    struct map_osd osd = {.exists = true, .up = true, .weight = MAP_WEIGHT_ONE};
    struct map_pool pool = {
        .id = 1, .name = "a", .type = POOL_REPLICATED, .size = 3, .min_size = 1, .pg_num = 8};
    struct map_pg pg = {.pg = {1, 3}, .n = 2, .members = {0, 1}};
    int32_t root;
    uint32_t rule;
    int error = crush_add_bucket(crush, 11, "default", &root);
    for (int32_t i = 0; error == 0 && i < 4; i++) {
        error = crush_insert(crush, root, i, MAP_WEIGHT_ONE);
        error = error != 0 ? error : map_increment_set_osd(inc, i, &osd);
    }
    error = error != 0 ? error : crush_add_simple_rule(crush, "r", "default", "osd", false, &rule);
    error = error != 0 ? error : map_increment_set_crush(inc, crush);
    error = error != 0 ? error : map_increment_set_pool(inc, &pool);
    error = error != 0 ? error : map_increment_set_pg(inc, &pg);
    error = error != 0 ? error : map_apply(map, inc);
    assert(error == 0);
    map->epoch = epoch;
    map_increment_destroy(inc);
    crush_destroy(crush);
    return map;
}

static void encode(const struct cluster_map *map, struct encoder *e)
{
    encoder_init(e);
    int error = map_encode(map, e);
    assert(error == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct map_increment *inc;
    if (map_increment_decode(data, len, &inc) != 0) {
        return 0;
    }
    struct cluster_map *map = base_map(map_increment_epoch(inc) - 1);
    struct encoder before, after;
    encode(map, &before);
    int error = map_apply(map, inc);
    encode(map, &after);
    if (error != 0) {
        assert(before.len == after.len && memcmp(before.data, after.data, before.len) == 0);
    } else {
        struct cluster_map *again;
        error = map_decode(after.data, after.len, &again);
        assert(error == 0);
        map_destroy(again);
    }
    encoder_fini(&before);
    encoder_fini(&after);
    map_destroy(map);
    map_increment_destroy(inc);
    return 0;
}
