/*
 * Any bytes as a full map: refused, or a map that can be asked, changed and encoded again.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "placement/map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void ask(const struct cluster_map *map)
{
    for (uint32_t i = 0; i < map->n_pools; i++) {
        const struct map_pool *pool = &map->pools[i];
        assert(map_pool(map, pool->id) == pool);
        struct pg_view view;
        int error = map_pg_view(map, map_object_pg(pool, 0x12345678), &view);
        assert(error == 0 && view.n_members <= PG_SIZE_MAX && view.n_up <= view.n_members);
    }
    for (uint32_t i = 0; i < map->n_pgs; i++) {
        assert(map_pg_entry(map, map->pgs[i].pg) == &map->pgs[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct cluster_map *map, *again;
    if (map_decode(data, len, &map) != 0) {
        return 0;
    }
    ask(map);
    struct encoder first, second;
    encoder_init(&first);
    encoder_init(&second);
    int error = map_encode(map, &first);
    assert(error == 0);
    error = map_decode(first.data, first.len, &again);
    assert(error == 0);
    error = map_encode(again, &second);
    assert(error == 0 && first.len == second.len);
    assert(memcmp(first.data, second.data, first.len) == 0);
    encoder_fini(&first);
    encoder_fini(&second);
    map_destroy(again);
    map_destroy(map);
    return 0;
}
