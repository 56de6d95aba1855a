#include "tests/lib/test.h"
#include "tests/unit/placement/made_map.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY_HOSTS = 900, OSDS_PER_HOST = 12, FULL_MAP_MAX = 2 << 20, ONE_OSD_MAX = 1024 };

static struct map_pg made_pg(uint32_t seed, uint64_t config, uint8_t n, const int32_t *members)
{
    struct map_pg pg = {.pg = {1, seed}, .config = config, .n = n};
    memcpy(pg.members, members, n * sizeof *members);
    return pg;
}

static struct pg_view view_of(const struct cluster_map *map, uint32_t seed)
{
    struct pg_view view;
    assert_int_equal(map_pg_view(map, (struct pg_id){1, seed}, &view), 0);
    return view;
}

/* ---- Views ---- */

static void clean_group_is_what_crush_says(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(5, 2, 32);
    for (uint32_t seed = 0; seed < 32; seed++) {
        struct pg_view view = view_of(map, seed);
        assert_int_equal(view.n_members, 3);
        assert_memory_equal(view.members, view.wanted, 3 * sizeof(int32_t));
        assert_int_equal(view.primary, view.members[0]);
        assert_int_equal(view.config, 1);
        assert_int_equal(view.n_up, 3);
        assert_int_equal(view.n_learners, 0);
        assert_true(view.active && view.clean);
    }
    struct pg_view view;
    assert_int_equal(map_pg_view(map, (struct pg_id){1, 32}, &view), -ENOENT);
    assert_int_equal(map_pg_view(map, (struct pg_id){2, 0}, &view), -ENOENT);
    map_destroy(map);
}

static void primary_is_the_first_member_that_is_up(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(5, 2, 32);
    struct pg_view before = view_of(map, 7);
    struct map_increment *inc = made_increment(map);
    struct map_osd osd = *map_osd(map, before.members[0]);
    osd.up = false;
    assert_int_equal(map_increment_set_osd(inc, before.members[0], &osd), 0);
    apply(map, inc);
    struct pg_view view = view_of(map, 7);
    assert_int_equal(view.n_members, 3);
    assert_int_equal(view.n_up, 2);
    assert_int_equal(view.primary, before.members[1]);
    assert_false(view.active);
    assert_false(view.clean);
    assert_int_equal(view.n_wanted, 3); /* It is down, not out. */
    map_destroy(map);
}

static void shrunken_group_serves_down_to_min_size(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(5, 2, 32);
    struct pg_view before = view_of(map, 7);
    struct map_increment *inc = made_increment(map);
    struct map_pg two = made_pg(7, 2, 2, before.members + 1);
    struct map_pg one = made_pg(8, 2, 1, before.members + 1);
    assert_int_equal(map_increment_set_pg(inc, &two), 0);
    assert_int_equal(map_increment_set_pg(inc, &one), 0);
    apply(map, inc);
    struct pg_view view = view_of(map, 7);
    assert_int_equal(view.config, 2);
    assert_int_equal(view.primary, before.members[1]);
    assert_true(view.active);
    assert_false(view.clean);
    assert_int_equal(view.n_learners, 1);
    assert_int_equal(view.learners[0], before.members[0]);
    assert_false(view_of(map, 8).active);
    map_destroy(map);
}

static void entry_with_the_set_of_crush_is_clean(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(5, 2, 32);
    struct pg_view before = view_of(map, 3);
    struct map_increment *inc = made_increment(map);
    struct map_pg pg = made_pg(3, 2, 3, before.members);
    assert_int_equal(map_increment_set_pg(inc, &pg), 0);
    apply(map, inc);
    assert_true(view_of(map, 3).clean);
    assert_int_equal(view_of(map, 3).config, 2);

    int32_t swapped[3] = {before.members[1], before.members[0], before.members[2]};
    pg = made_pg(3, 3, 3, swapped);
    inc = made_increment(map);
    assert_int_equal(map_increment_set_pg(inc, &pg), 0);
    apply(map, inc);
    assert_true(view_of(map, 3).active);
    assert_false(view_of(map, 3).clean);
    map_destroy(map);
}

static void group_without_osds_is_inactive(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(0, 0, 4);
    struct pg_view view = view_of(map, 0);
    assert_int_equal(view.n_members, 0);
    assert_int_equal(view.primary, -1);
    assert_false(view.active || view.clean);
    map_destroy(map);
}

static void out_and_removed_osds_are_not_wanted(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(6, 2, 64);
    struct map_increment *inc = made_increment(map);
    struct map_osd out = made_osd(0), gone = {0};
    out.weight = 0;
    assert_int_equal(map_increment_set_osd(inc, 0, &out), 0);
    assert_int_equal(map_increment_set_osd(inc, 1, &gone), 0);
    apply(map, inc);
    assert_null(map_osd(map, 1));
    for (uint32_t seed = 0; seed < 64; seed++) {
        struct pg_view view = view_of(map, seed);
        assert_int_equal(view.n_wanted, 3);
        for (uint8_t i = 0; i < 3; i++) {
            assert_true(view.wanted[i] > 1);
        }
    }
    map_destroy(map);
}

/* ---- Applying ---- */

static void pool_numbers_are_never_reused(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(3, 1, 8);
    struct map_increment *inc = made_increment(map);
    struct map_pool pool = made_pool(2, "two", 8);
    assert_int_equal(map_increment_set_pool(inc, &pool), 0);
    apply(map, inc);
    assert_non_null(map_pool_by_name(map, "two"));
    inc = made_increment(map);
    assert_int_equal(map_increment_remove_pool(inc, 2), 0);
    apply(map, inc);
    assert_null(map_pool(map, 2));
    assert_int_equal(map->next_pool_id, 3);
    inc = made_increment(map);
    assert_int_equal(map_increment_set_pool(inc, &pool), 0);
    assert_int_equal(map_apply(map, inc), -EBADMSG);
    map_increment_destroy(inc);
    map_destroy(map);
}

static void removing_a_pool_removes_its_entries(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(5, 1, 8);
    struct map_increment *inc = made_increment(map);
    struct map_pool pool = made_pool(2, "two", 8);
    const int32_t members[] = {0, 1};
    struct map_pg a = made_pg(1, 2, 2, members), b = made_pg(5, 2, 2, members);
    b.pg.pool = 2;
    assert_int_equal(map_increment_set_pool(inc, &pool), 0);
    assert_int_equal(map_increment_set_pg(inc, &b), 0);
    assert_int_equal(map_increment_set_pg(inc, &a), 0);
    apply(map, inc);
    assert_int_equal(map->n_pgs, 2);
    inc = made_increment(map);
    assert_int_equal(map_increment_remove_pool(inc, 1), 0);
    apply(map, inc);
    assert_int_equal(map->n_pgs, 1);
    assert_null(map_pg_entry(map, a.pg));
    assert_non_null(map_pg_entry(map, b.pg));
    map_destroy(map);
}

static void last_value_of_an_increment_wins(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(5, 1, 8);
    struct map_increment *inc = made_increment(map);
    assert_true(map_increment_empty(inc));
    const int32_t members[] = {0, 1, 2};
    struct map_pg pg = made_pg(1, 2, 2, members);
    struct map_osd osd = made_osd(2);
    struct map_pool pool = *map_pool(map, 1);
    assert_int_equal(map_increment_set_pg(inc, &pg), 0);
    assert_int_equal(map_increment_remove_pg(inc, pg.pg), 0);
    pg = made_pg(1, 2, 3, members);
    assert_int_equal(map_increment_set_pg(inc, &pg), 0);
    osd.weight = 5;
    assert_int_equal(map_increment_set_osd(inc, 2, &osd), 0);
    osd.weight = 6;
    assert_int_equal(map_increment_set_osd(inc, 2, &osd), 0);
    assert_int_equal(map_increment_remove_pool(inc, 1), 0);
    strcpy(pool.name, "renamed");
    assert_int_equal(map_increment_set_pool(inc, &pool), 0);
    assert_false(map_increment_empty(inc));
    apply(map, inc);
    assert_int_equal(map_pg_entry(map, pg.pg)->n, 3);
    assert_int_equal(map_osd(map, 2)->weight, 6);
    assert_string_equal(map_pool(map, 1)->name, "renamed");
    map_destroy(map);
}

/* Each puts one contradiction into an increment. */
typedef void (*contradiction)(struct map_increment *inc, const struct cluster_map *map);

static void put_pool(struct map_increment *inc, const struct map_pool *pool)
{
    assert_int_equal(map_increment_set_pool(inc, pool), 0);
}
static void other_fsid(struct map_increment *inc, const struct cluster_map *map)
{
    (void)map;
    const struct uuid fsid = {.bytes = {9}};
    assert_int_equal(map_increment_set_fsid(inc, &fsid), 0);
}
static void taken_name(struct map_increment *inc, const struct cluster_map *map)
{
    (void)map;
    struct map_pool pool = made_pool(2, "data", 8);
    put_pool(inc, &pool);
}
static void fewer_groups(struct map_increment *inc, const struct cluster_map *map)
{
    struct map_pool pool = *map_pool(map, 1);
    pool.pg_num--;
    put_pool(inc, &pool);
}
static void other_type(struct map_increment *inc, const struct cluster_map *map)
{
    struct map_pool pool = *map_pool(map, 1);
    pool.type = POOL_ERASURE;
    put_pool(inc, &pool);
}
static void unknown_rule(struct map_increment *inc, const struct cluster_map *map)
{
    struct map_pool pool = *map_pool(map, 1);
    pool.crush_rule = 7;
    put_pool(inc, &pool);
}
static void min_size_above_size(struct map_increment *inc, const struct cluster_map *map)
{
    struct map_pool pool = *map_pool(map, 1);
    pool.min_size = 4;
    put_pool(inc, &pool);
}
static void too_large(struct map_increment *inc, const struct cluster_map *map)
{
    struct map_pool pool = *map_pool(map, 1);
    pool.size = PG_SIZE_MAX + 1;
    put_pool(inc, &pool);
}
static void too_many_groups(struct map_increment *inc, const struct cluster_map *map)
{
    struct map_pool pool = *map_pool(map, 1);
    pool.pg_num = MAP_PG_NUM_MAX + 1;
    put_pool(inc, &pool);
}
static void unprintable_name(struct map_increment *inc, const struct cluster_map *map)
{
    (void)map;
    struct map_pool pool = made_pool(2, "a\nb", 8);
    put_pool(inc, &pool);
}
static void future_config(struct map_increment *inc, const struct cluster_map *map)
{
    struct map_pool pool = *map_pool(map, 1);
    pool.config_base = map->epoch + 2;
    put_pool(inc, &pool);
}
static void no_such_pool(struct map_increment *inc, const struct cluster_map *map)
{
    (void)map;
    assert_int_equal(map_increment_remove_pool(inc, 5), 0);
}
static void put_pg(struct map_increment *inc, struct map_pg pg)
{
    assert_int_equal(map_increment_set_pg(inc, &pg), 0);
}
static void seed_out_of_range(struct map_increment *inc, const struct cluster_map *map)
{
    (void)map;
    put_pg(inc, made_pg(8, 1, 2, (int32_t[]){0, 1}));
}
static void member_twice(struct map_increment *inc, const struct cluster_map *map)
{
    (void)map;
    put_pg(inc, made_pg(1, 1, 2, (int32_t[]){1, 1}));
}
static void unknown_member(struct map_increment *inc, const struct cluster_map *map)
{
    (void)map;
    put_pg(inc, made_pg(1, 1, 2, (int32_t[]){1, 99}));
}
static void empty_set(struct map_increment *inc, const struct cluster_map *map)
{
    (void)map;
    put_pg(inc, made_pg(1, 1, 0, (int32_t[]){0}));
}
static void group_of_removed_pool(struct map_increment *inc, const struct cluster_map *map)
{
    assert_int_equal(map_increment_remove_pool(inc, 1), 0);
    seed_out_of_range(inc, map);
}
static void heavy_osd(struct map_increment *inc, const struct cluster_map *map)
{
    (void)map;
    struct map_osd osd = made_osd(1);
    osd.weight = MAP_WEIGHT_ONE + 1;
    assert_int_equal(map_increment_set_osd(inc, 1, &osd), 0);
}
static void huge_osd(struct map_increment *inc, const struct cluster_map *map)
{
    (void)map;
    struct map_osd osd = made_osd(1);
    assert_int_equal(map_increment_set_osd(inc, MAP_OSDS_MAX, &osd), 0);
}
static void remove_unknown_osd(struct map_increment *inc, const struct cluster_map *map)
{
    (void)map;
    struct map_osd osd = {0};
    assert_int_equal(map_increment_set_osd(inc, 50, &osd), 0);
}
static void remove_osd_in_the_future(struct map_increment *inc, const struct cluster_map *map)
{
    struct map_osd osd = {.removed_at = map->epoch + 2};
    assert_int_equal(map_increment_set_osd(inc, 0, &osd), 0);
}
static void crush_without_the_rule(struct map_increment *inc, const struct cluster_map *map)
{
    (void)map;
    struct crush_map *crush = crush_create();
    assert_int_equal(map_increment_set_crush(inc, crush), 0);
    crush_destroy(crush);
}
static void broken_crush(struct map_increment *inc, const struct cluster_map *map)
{
    struct crush_map *crush = crush_clone(map->crush);
    crush->buckets[1]->items[0] = -1;
    assert_int_equal(map_increment_set_crush(inc, crush), 0);
    crush_destroy(crush);
}
static void same_monitor_twice(struct map_increment *inc, const struct cluster_map *map)
{
    struct map_mon mons[2] = {map->mons[0], map->mons[0]};
    mons[1].id = 9;
    assert_int_equal(map_increment_set_mons(inc, mons, 2), 0);
}

static void contradiction_leaves_the_map_unchanged(void **state)
{
    (void)state;
    const contradiction all[] = {other_fsid,
                                 taken_name,
                                 fewer_groups,
                                 other_type,
                                 unknown_rule,
                                 min_size_above_size,
                                 too_large,
                                 too_many_groups,
                                 unprintable_name,
                                 future_config,
                                 no_such_pool,
                                 seed_out_of_range,
                                 member_twice,
                                 unknown_member,
                                 empty_set,
                                 group_of_removed_pool,
                                 heavy_osd,
                                 huge_osd,
                                 remove_unknown_osd,
                                 remove_osd_in_the_future,
                                 crush_without_the_rule,
                                 broken_crush,
                                 same_monitor_twice};
    struct cluster_map *map = made_map(5, 1, 8), *before = map_clone(map);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct map_increment *inc = made_increment(map);
        /* Good changes beside the bad one, which must not happen either. */
        struct map_osd osd = made_osd(20);
        assert_int_equal(map_increment_set_osd(inc, 20, &osd), 0);
        assert_int_equal(map_increment_set_flags(inc, MAP_NOOUT), 0);
        put_pg(inc, made_pg(0, 1, 2, (int32_t[]){0, 1}));
        all[i](inc, map);
        if (map_apply(map, inc) != -EBADMSG) {
            fail_msg("contradiction %zu was accepted", i);
        }
        map_increment_destroy(inc);
        assert_maps_equal(map, before);
    }
    map_destroy(map);
    map_destroy(before);
}

static void refuses_another_epoch(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(3, 1, 8);
    const uint64_t epochs[] = {0, 1, 3};
    for (int i = 0; i < 3; i++) {
        struct map_increment *inc = map_increment_create(epochs[i]);
        assert_int_equal(map_apply(map, inc), -ESTALE);
        map_increment_destroy(inc);
    }
    map_destroy(map);
}

/* ---- Encodings ---- */

static struct cluster_map *recoded(const struct cluster_map *map)
{
    struct encoder e;
    struct cluster_map *out = NULL;
    encoder_init(&e);
    assert_int_equal(map_encode(map, &e), 0);
    assert_int_equal(map_decode(e.data, e.len, &out), 0);
    encoder_fini(&e);
    return out;
}

static void golden_bytes_of_a_map(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(3, 2, 8);
    struct map_increment *inc = made_increment(map);
    struct map_osd down = made_osd(4), gone = {.removed_at = 2};
    down.up = false;
    down.down_at = 2;
    down.auto_out = true;
    down.weight = 0;
    assert_int_equal(map_increment_set_osd(inc, 4, &down), 0);
    assert_int_equal(map_increment_set_osd(inc, 5, &gone), 0);
    assert_int_equal(map_increment_set_flags(inc, MAP_NOOUT | MAP_FULL), 0);
    put_pg(inc, made_pg(6, 2, 2, (int32_t[]){3, 0}));
    apply(map, inc);
    struct encoder e;
    encoder_init(&e);
    assert_int_equal(map_encode(map, &e), 0);
    test_golden("placement_map.hex", e.data, e.len);
    encoder_fini(&e);
    map_destroy(map);
}

static void golden_bytes_of_an_increment(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(2, 1, 8);
    struct map_increment *inc = map_increment_create(77);
    struct map_osd osd = made_osd(3), gone = {.removed_at = 77};
    struct map_pool pool = made_pool(2, "two", 16);
    assert_int_equal(map_increment_set_fsid(inc, &map->fsid), 0);
    assert_int_equal(map_increment_set_mons(inc, map->mons, map->n_mons), 0);
    assert_int_equal(map_increment_set_osd(inc, 3, &osd), 0);
    assert_int_equal(map_increment_set_osd(inc, 1, &gone), 0);
    assert_int_equal(map_increment_set_crush(inc, map->crush), 0);
    assert_int_equal(map_increment_set_pool(inc, &pool), 0);
    assert_int_equal(map_increment_remove_pool(inc, 1), 0);
    put_pg(inc, made_pg(6, 77, 2, (int32_t[]){3, 0}));
    assert_int_equal(map_increment_remove_pg(inc, (struct pg_id){2, 1}), 0);
    assert_int_equal(map_increment_set_flags(inc, 0), 0);
    map_increment_set_time(inc, UINT64_C(1790000000000000000));
    struct encoder e, again;
    encoder_init(&e);
    encoder_init(&again);
    assert_int_equal(map_increment_encode(inc, &e), 0);
    test_golden("placement_increment.hex", e.data, e.len);
    struct map_increment *decoded;
    assert_int_equal(map_increment_decode(e.data, e.len, &decoded), 0);
    assert_int_equal(map_increment_encode(decoded, &again), 0);
    assert_int_equal(again.len, e.len);
    assert_memory_equal(again.data, e.data, e.len);
    encoder_fini(&e);
    encoder_fini(&again);
    map_increment_destroy(decoded);
    map_increment_destroy(inc);
    map_destroy(map);
}

static void sizes_of_a_large_cluster(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(MANY_HOSTS, OSDS_PER_HOST, 65536);
    struct encoder e;
    encoder_init(&e);
    assert_int_equal(map_encode(map, &e), 0);
    print_message("full map of %d OSDs: %zu bytes\n", map->max_osd, e.len);
    assert_true(e.len <= FULL_MAP_MAX);
    struct cluster_map *again;
    assert_int_equal(map_decode(e.data, e.len, &again), 0);
    assert_maps_equal(map, again);
    encoder_reset(&e);
    struct map_increment *inc = made_increment(map);
    struct map_osd osd = *map_osd(map, 10799);
    osd.up = false;
    osd.down_at = 2;
    assert_int_equal(map_increment_set_osd(inc, 10799, &osd), 0);
    map_increment_set_time(inc, UINT64_C(1790000000000000000));
    assert_int_equal(map_increment_encode(inc, &e), 0);
    print_message("increment of one OSD: %zu bytes\n", e.len);
    assert_true(e.len < ONE_OSD_MAX);
    encoder_fini(&e);
    map_increment_destroy(inc);
    map_destroy(again);
    map_destroy(map);
}

/* ---- Random histories ---- */

struct random {
    uint64_t state;
};

static uint32_t next(struct random *random, uint32_t n)
{
    assert(n > 0);
    random->state = random->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random->state >> 33) % n;
}

static void random_pgs(struct random *random, const struct cluster_map *map,
                       struct map_increment *inc)
{
    if (map->n_pools == 0 || map->max_osd < 8) {
        return;
    }
    const struct map_pool *pool = &map->pools[next(random, map->n_pools)];
    for (uint32_t n = next(random, 6); n > 0; n--) {
        struct map_pg pg = {.pg = {pool->id, next(random, pool->pg_num)}, .config = map->epoch};
        if (next(random, 3) == 0) {
            assert_int_equal(map_increment_remove_pg(inc, pg.pg), 0);
            continue;
        }
        int32_t first = (int32_t)next(random, 4);
        for (pg.n = 0; pg.n <= next(random, 4); pg.n++) {
            pg.members[pg.n] = first + pg.n;
        }
        put_pg(inc, pg);
    }
}

static void random_pool(struct random *random, const struct cluster_map *map,
                        struct map_increment *inc)
{
    if (map->n_pools > 1 && next(random, 2) == 0) {
        struct map_pool pool = map->pools[next(random, map->n_pools)];
        if (next(random, 3) == 0) {
            assert_int_equal(map_increment_remove_pool(inc, pool.id), 0);
            return;
        }
        pool.pg_num += next(random, 3);
        pool.config_base = map->epoch;
        put_pool(inc, &pool);
    } else {
        char name[32];
        (void)snprintf(name, sizeof name, "pool-%u", (uint32_t)map->next_pool_id);
        struct map_pool pool = made_pool(map->next_pool_id, name, 1 + next(random, 40));
        put_pool(inc, &pool);
    }
}

static void random_osd(struct random *random, const struct cluster_map *map,
                       struct map_increment *inc)
{
    int32_t id = (int32_t)next(random, 30);
    struct map_osd osd = made_osd(id);
    osd.up = next(random, 2);
    osd.weight = next(random, MAP_WEIGHT_ONE + 1);
    osd.exists = map_osd(map, id) == NULL || next(random, 5) > 0;
    osd.down_at = osd.up ? 0 : map->epoch;
    assert_int_equal(map_increment_set_osd(inc, id, &osd), 0);
}

static void random_crush(struct random *random, const struct cluster_map *map,
                         struct map_increment *inc)
{
    struct crush_map *crush = crush_clone(map->crush);
    int32_t osd = (int32_t)next(random, 30);
    if (crush_reweight(crush, osd, next(random, 3 * MAP_WEIGHT_ONE)) == 0) {
        assert_int_equal(map_increment_set_crush(inc, crush), 0);
    }
    crush_destroy(crush);
}

/* What another process makes of the increment's bytes. */
static void apply_encoded(struct cluster_map *map, const struct map_increment *inc)
{
    struct encoder e;
    struct map_increment *decoded;
    encoder_init(&e);
    assert_int_equal(map_increment_encode(inc, &e), 0);
    assert_int_equal(map_increment_decode(e.data, e.len, &decoded), 0);
    encoder_fini(&e);
    apply(map, decoded);
}

static void increments_and_full_maps_agree(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct random random = {seed};
        struct cluster_map *map = made_map(10, 3, 16), *follower = recoded(map);
        for (int step = 0; step < 60; step++) {
            struct map_increment *inc = made_increment(map);
            random_pgs(&random, map, inc);
            if (next(&random, 4) == 0) {
                random_pool(&random, map, inc);
            }
            if (next(&random, 2) == 0) {
                random_osd(&random, map, inc);
            }
            if (next(&random, 5) == 0) {
                random_crush(&random, map, inc);
            }
            map_increment_set_time(inc, map->epoch * 1000);
            if (map_apply(map, inc) == 0) {
                apply_encoded(follower, inc);
            }
            map_increment_destroy(inc);
            assert_maps_equal(map, follower);
            struct cluster_map *decoded = recoded(map), *clone = map_clone(map);
            assert_maps_equal(map, decoded);
            assert_maps_equal(map, clone);
            map_destroy(decoded);
            map_destroy(clone);
        }
        assert_true(map->epoch > 20);
        map_destroy(map);
        map_destroy(follower);
    }
}

/* Every cut and many a changed byte: an error, or a map that can be used. */
static void damaged_bytes_are_refused_or_harmless(void **state)
{
    (void)state;
    struct cluster_map *map = made_map(4, 2, 8), *out;
    struct encoder e;
    encoder_init(&e);
    assert_int_equal(map_encode(map, &e), 0);
    for (size_t len = 0; len < e.len; len++) {
        uint8_t *cut = malloc(len + 1);
        memcpy(cut, e.data, len);
        if (map_decode(cut, len, &out) == 0) {
            map_destroy(out);
        }
        free(cut);
    }
    struct random random = {5};
    for (int i = 0; i < 20000; i++) {
        size_t at = next(&random, (uint32_t)e.len);
        uint8_t old = e.data[at];
        e.data[at] = (uint8_t)next(&random, 256);
        if (map_decode(e.data, e.len, &out) == 0) {
            struct pg_view view;
            assert_int_equal(crush_check(out->crush), 0);
            (void)!map_pg_view(out, (struct pg_id){1, 3}, &view);
            map_destroy(out);
        }
        e.data[at] = old;
    }
    encoder_fini(&e);
    map_destroy(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_group_is_what_crush_says),
        cmocka_unit_test(primary_is_the_first_member_that_is_up),
        cmocka_unit_test(shrunken_group_serves_down_to_min_size),
        cmocka_unit_test(entry_with_the_set_of_crush_is_clean),
        cmocka_unit_test(group_without_osds_is_inactive),
        cmocka_unit_test(out_and_removed_osds_are_not_wanted),
        cmocka_unit_test(pool_numbers_are_never_reused),
        cmocka_unit_test(removing_a_pool_removes_its_entries),
        cmocka_unit_test(last_value_of_an_increment_wins),
        cmocka_unit_test(contradiction_leaves_the_map_unchanged),
        cmocka_unit_test(refuses_another_epoch),
        cmocka_unit_test(golden_bytes_of_a_map),
        cmocka_unit_test(golden_bytes_of_an_increment),
        cmocka_unit_test(sizes_of_a_large_cluster),
        cmocka_unit_test(increments_and_full_maps_agree),
        cmocka_unit_test(damaged_bytes_are_refused_or_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
