/* The map state machine: each rule by example, and its invariants under random events. */
#include "tests/lib/test.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mon/machine.h"

/* ---- A map, and one change at a time ---- */

struct fixture {
    struct machine *machine;
    struct cluster_map *map;
    struct change *change;
};

static void begin(struct fixture *f)
{
    assert_int_equal(change_begin(f->machine, f->map, 1000 + f->map->epoch, &f->change), 0);
}

/* Applies the change as everybody would, from its bytes. */
static void commit(struct fixture *f)
{
    struct encoder e;
    struct encoder draft;
    struct encoder real;
    struct map_increment *inc;

    if (change_empty(f->change)) {
        change_end(f->change);
        return;
    }
    encoder_init(&e);
    encoder_init(&draft);
    encoder_init(&real);
    assert_int_equal(change_encode(f->change, &e), 0);
    assert_int_equal(map_increment_decode(e.data, e.len, &inc), 0);
    assert_int_equal(map_apply(f->map, inc), 0);
    map_increment_destroy(inc);
    /* What the leader looked at while it staged is what became true; the time is set at the end. */
    struct cluster_map *copy = map_clone(change_map(f->change));
    assert_non_null(copy);
    copy->created_ns = f->map->created_ns;
    copy->modified_ns = f->map->modified_ns;
    assert_int_equal(map_encode(copy, &draft), 0);
    assert_int_equal(map_encode(f->map, &real), 0);
    assert_int_equal(draft.len, real.len);
    assert_memory_equal(draft.data, real.data, real.len);
    map_destroy(copy);
    encoder_fini(&e);
    encoder_fini(&draft);
    encoder_fini(&real);
    change_end(f->change);
}

static void setup(struct fixture *f)
{
    struct map_mon mon = {.id = 1, .name = "a", .address = {.family = 4, .port = 3300}};
    struct machine_initial initial = {.n_mons = 1, .mons = &mon};

    memset(initial.fsid.bytes, 1, sizeof initial.fsid.bytes);
    f->machine = machine_create();
    f->map = map_create();
    assert_non_null(f->machine);
    assert_non_null(f->map);
    begin(f);
    assert_int_equal(machine_initial(f->change, &initial), 0);
    commit(f);
    assert_int_equal(f->map->epoch, 1);
}

static void teardown(struct fixture *f)
{
    machine_destroy(f->machine);
    map_destroy(f->map);
}

static struct machine_boot boot_of(const struct cluster_map *map, int32_t id, uint64_t instance)
{
    static const char *const hosts[] = {"h0", "h1", "h2"};
    struct machine_boot boot = {.id = id,
                                .address = {.family = 4, .port = (uint16_t)(7000 + id)},
                                .instance = instance,
                                .epoch = map->epoch,
                                .bytes_total = UINT64_C(1) << 40,
                                .host = hosts[id % 3]};

    memset(boot.uuid.bytes, id + 1, sizeof boot.uuid.bytes);
    return boot;
}

static void do_boot(struct fixture *f, int32_t id, uint64_t instance)
{
    struct machine_boot boot = boot_of(f->map, id, instance);

    begin(f);
    assert_int_equal(machine_osd_boot(f->change, &boot), 0);
    commit(f);
}

static void do_down(struct fixture *f, int32_t id)
{
    begin(f);
    assert_int_equal(machine_osd_down(f->change, id, false), 0);
    commit(f);
}

static uint64_t do_pool(struct fixture *f, const char *name, uint32_t pg_num, uint32_t size,
                        uint32_t min_size)
{
    struct machine_pool_create create = {
        .name = name, .pg_num = pg_num, .size = size, .min_size = min_size};
    char why[MACHINE_WHY_MAX] = "";

    begin(f);
    assert_int_equal(machine_pool_create(f->change, &create, why), 0);
    commit(f);
    return map_pool_by_name(f->map, name)->id;
}

static struct pg_view view_of(const struct fixture *f, uint64_t pool, uint32_t seed)
{
    struct pg_view view;

    assert_int_equal(map_pg_view(f->map, (struct pg_id){.pool = pool, .seed = seed}, &view), 0);
    return view;
}

static bool has(const int32_t *list, uint8_t n, int32_t osd)
{
    for (uint8_t i = 0; i < n; i++) {
        if (list[i] == osd)
            return true;
    }
    return false;
}

static int try_add(struct fixture *f, uint64_t pool, uint32_t seed, uint64_t config, int32_t osd,
                   int32_t from)
{
    const struct map_osd *info = map_osd(f->map, osd);
    struct machine_add_member add = {.pg = {.pool = pool, .seed = seed},
                                     .config = config,
                                     .osd = osd,
                                     .osd_instance = info != NULL ? info->instance : 0,
                                     .from = from};

    begin(f);
    int rc = machine_pg_add_member(f->change, &add);
    commit(f);
    return rc;
}

/* ---- The rules by example ---- */

static void a_down_osd_leaves_its_groups_in_one_increment(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    for (int32_t i = 0; i < 3; i++)
        do_boot(&f, i, 10 + (uint64_t)i);
    uint64_t pool = do_pool(&f, "p", 32, 3, 2);
    uint64_t created = f.map->epoch;
    for (uint32_t seed = 0; seed < 32; seed++) {
        struct pg_view view = view_of(&f, pool, seed);
        assert_true(view.clean);
        assert_int_equal(view.config, created);
    }
    assert_int_equal(f.map->n_pgs, 0);
    do_down(&f, 1);
    for (uint32_t seed = 0; seed < 32; seed++) {
        struct pg_view view = view_of(&f, pool, seed);
        assert_int_equal(view.n_members, 2);
        assert_false(has(view.members, 2, 1));
        assert_int_equal(view.config, f.map->epoch);
        assert_true(view.active);
    }
    /* Two of three are left; min_size keeps the second one. */
    do_down(&f, 2);
    for (uint32_t seed = 0; seed < 32; seed++) {
        struct pg_view view = view_of(&f, pool, seed);
        assert_int_equal(view.n_members, 2);
        assert_int_equal(view.primary, 0);
        assert_int_equal(view.config, f.map->epoch);
        assert_false(view.active);
    }
    /* It returns with a new process: the groups go on with the two. */
    do_boot(&f, 2, 99);
    struct pg_view view = view_of(&f, pool, 0);
    assert_true(view.active);
    assert_int_equal(view.n_members, 2);
    assert_int_equal(view.config, f.map->epoch);
    /* The third is a learner until the primary asks for it. */
    do_boot(&f, 1, 98);
    view = view_of(&f, pool, 0);
    assert_int_equal(view.n_members, 2);
    assert_int_equal(view.n_learners, 1);
    assert_int_equal(view.learners[0], 1);
    assert_int_equal(try_add(&f, pool, 0, view.config - 1, 1, view.primary), -ESTALE);
    assert_int_equal(try_add(&f, pool, 0, view.config, 1, 1), -EPERM);
    assert_int_equal(try_add(&f, pool, 0, view.config, 2, view.primary), -EINVAL);
    assert_int_equal(try_add(&f, pool, 0, view.config, 1, view.primary), 0);
    view = view_of(&f, pool, 0);
    assert_true(view.clean);
    assert_int_equal(view.config, f.map->epoch);
    teardown(&f);
}

static int try_force(struct fixture *f, uint64_t pool, uint32_t seed)
{
    begin(f);
    int rc = machine_pg_force_activate(f->change, (struct pg_id){.pool = pool, .seed = seed});
    commit(f);
    return rc;
}

static void force_gives_up_members_that_are_down(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    for (int32_t i = 0; i < 3; i++)
        do_boot(&f, i, 10 + (uint64_t)i);
    uint64_t pool = do_pool(&f, "p", 8, 3, 2);
    assert_int_equal(try_force(&f, pool, 0), -EALREADY);
    assert_int_equal(try_force(&f, pool, 8), -ENOENT);
    do_down(&f, 1);
    do_down(&f, 2);
    uint64_t config = view_of(&f, pool, 0).config;
    assert_int_equal(view_of(&f, pool, 0).n_members, 2);
    assert_int_equal(try_force(&f, pool, 0), 0);
    struct pg_view view = view_of(&f, pool, 0);
    assert_int_equal(view.n_members, 1);
    assert_int_equal(view.members[0], 0);
    assert_true(view.config > config);
    /* Only this group; and it serves when it has min_size copies. */
    assert_int_equal(view_of(&f, pool, 1).n_members, 2);
    assert_false(view.active);
    /* Who was given up comes back as a learner, not as a member. */
    do_boot(&f, 2, 77);
    view = view_of(&f, pool, 0);
    assert_int_equal(view.n_members, 1);
    assert_int_equal(view.n_learners, 1);
    assert_int_equal(try_add(&f, pool, 0, view.config, 2, 0), 0);
    assert_true(view_of(&f, pool, 0).active);
    /* Nobody is left who could go on. */
    do_down(&f, 2);
    do_down(&f, 0);
    assert_int_equal(try_force(&f, pool, 0), -EHOSTDOWN);
    teardown(&f);
}

static void moving_data_adds_before_it_drops(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    for (int32_t i = 0; i < 4; i++)
        do_boot(&f, i, 10 + (uint64_t)i);
    uint64_t pool = do_pool(&f, "p", 32, 3, 2);
    uint64_t base = f.map->epoch;
    begin(&f);
    assert_int_equal(machine_osd_out(f.change, 0, false), 0);
    commit(&f);
    uint32_t moved = 0;
    for (uint32_t seed = 0; seed < 32; seed++) {
        struct pg_view view = view_of(&f, pool, seed);
        assert_int_equal(view.n_members, 3);
        /* Nothing that matters to the members has changed: no new configuration. */
        assert_int_equal(view.config, base);
        assert_true(view.active);
        if (!has(view.members, 3, 0)) {
            assert_true(view.clean);
            continue;
        }
        moved++;
        assert_int_equal(view.n_learners, 1);
        assert_int_equal(try_add(&f, pool, seed, base, view.learners[0], view.primary), 0);
        view = view_of(&f, pool, seed);
        assert_true(view.clean);
        assert_false(has(view.members, view.n_members, 0));
        assert_int_equal(view.config, f.map->epoch);
    }
    assert_true(moved > 5);
    assert_int_equal(f.map->n_pgs, moved);
    /* All is as CRUSH says: one increment forgets the entries. */
    assert_true(machine_pool_settled(f.machine, f.map, map_pool(f.map, pool)));
    begin(&f);
    assert_int_equal(machine_pool_compact(f.change, pool), 0);
    commit(&f);
    assert_int_equal(f.map->n_pgs, 0);
    assert_int_equal(view_of(&f, pool, 0).config, f.map->epoch);
    teardown(&f);
}

/*
 * A primary gives a learner up that CRUSH does not want any more. What it asked before must not add
 * the learner when it is wanted again: writes were acknowledged without it.
 */
static void what_was_asked_before_crush_changed_is_void(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    for (int32_t i = 0; i < 4; i++)
        do_boot(&f, i, 10 + (uint64_t)i);
    uint64_t pool = do_pool(&f, "p", 32, 3, 2);
    uint64_t asked_at = 0;
    for (int round = 0; round < 2; round++) {
        begin(&f);
        assert_int_equal(machine_osd_out(f.change, 0, false), 0);
        commit(&f);
        asked_at = asked_at != 0 ? asked_at : f.map->epoch;
        if (round == 0) {
            begin(&f);
            assert_int_equal(machine_osd_in(f.change, 0), 0);
            commit(&f);
        }
    }
    uint32_t seed = 0;
    while (view_of(&f, pool, seed).n_learners == 0)
        seed++;
    struct pg_view view = view_of(&f, pool, seed);
    struct machine_add_member add = {.pg = {.pool = pool, .seed = seed},
                                     .config = view.config,
                                     .osd = view.learners[0],
                                     .osd_instance = 10 + (uint64_t)view.learners[0],
                                     .epoch = asked_at,
                                     .from = view.primary};
    begin(&f);
    assert_int_equal(machine_pg_add_member(f.change, &add), -ESTALE);
    add.epoch = f.map->epoch;
    assert_int_equal(machine_pg_add_member(f.change, &add), 0);
    commit(&f);
    assert_true(has(view_of(&f, pool, seed).members, 3, add.osd));
    teardown(&f);
}

static void do_add_all(struct fixture *f, uint64_t pool)
{
    for (uint32_t seed = 0; seed < map_pool(f->map, pool)->pg_num; seed++) {
        struct pg_view view = view_of(f, pool, seed);
        while (view.n_learners > 0) {
            assert_int_equal(try_add(f, pool, seed, view.config, view.learners[0], view.primary),
                             0);
            view = view_of(f, pool, seed);
        }
    }
}

static void copies_stay_while_there_is_no_other_place(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    for (int32_t i = 0; i < 3; i++)
        do_boot(&f, i, 10 + (uint64_t)i);
    uint64_t pool = do_pool(&f, "p", 16, 3, 2);
    begin(&f);
    assert_int_equal(machine_osd_out(f.change, 0, false), 0);
    commit(&f);
    for (uint32_t seed = 0; seed < 16; seed++) {
        struct pg_view view = view_of(&f, pool, seed);
        assert_int_equal(view.n_wanted, 2);
        assert_int_equal(view.n_members, 3);
        assert_true(view.active);
        assert_int_not_equal(view.primary, 0);
    }
    /* Another OSD makes room: now it leaves. */
    do_boot(&f, 3, 13);
    do_add_all(&f, pool);
    for (uint32_t seed = 0; seed < 16; seed++) {
        struct pg_view view = view_of(&f, pool, seed);
        assert_true(view.clean);
        assert_false(has(view.members, view.n_members, 0));
    }
    teardown(&f);
}

/* Each that joins lets one leave, the primary last: there is always room for one more. */
static void a_large_set_moves_one_by_one(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    for (int32_t i = 0; i < 16; i++)
        do_boot(&f, i, 10 + (uint64_t)i);
    uint64_t pool = do_pool(&f, "p", 1, 16, 9);
    for (int32_t i = 16; i < 32; i++)
        do_boot(&f, i, 10 + (uint64_t)i);
    for (int32_t i = 0; i < 16; i++) {
        begin(&f);
        assert_int_equal(machine_osd_out(f.change, i, false), 0);
        commit(&f);
    }
    struct pg_view view = view_of(&f, pool, 0);
    int32_t primary = view.primary;
    while (view.n_learners > 0) {
        assert_int_equal(view.n_members, 16);
        assert_int_equal(view.primary, primary);
        assert_int_equal(try_add(&f, pool, 0, view.config, view.learners[0], primary), 0);
        view = view_of(&f, pool, 0);
    }
    /* CRUSH may not find 16 of 16 in its tries: what it found is there, and nothing was lost. */
    assert_true(view.n_wanted >= 8);
    assert_int_equal(view.n_members, 16);
    for (uint8_t i = 0; i < view.n_wanted; i++)
        assert_int_equal(view.members[i], view.wanted[i]);
    teardown(&f);
}

static void a_pool_without_osds_gets_them_as_they_come(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    uint64_t pool = do_pool(&f, "p", 8, 3, 2);
    assert_int_equal(view_of(&f, pool, 0).n_members, 0);
    do_boot(&f, 0, 10);
    struct pg_view view = view_of(&f, pool, 0);
    assert_int_equal(view.n_members, 1);
    assert_false(view.active);
    assert_false(view.recovers);
    assert_int_equal(view.config, map_pool(f.map, pool)->created);
    /* It goes and another one comes: nobody has missed anything. */
    do_down(&f, 0);
    begin(&f);
    assert_int_equal(machine_osd_out(f.change, 0, false), 0);
    commit(&f);
    do_boot(&f, 1, 11);
    view = view_of(&f, pool, 0);
    assert_int_equal(view.n_members, 1);
    assert_int_equal(view.members[0], 1);
    do_boot(&f, 2, 12);
    view = view_of(&f, pool, 0);
    assert_int_equal(view.n_members, 2);
    assert_true(view.active);
    assert_int_equal(view.config, f.map->epoch);
    /* From here on there may be data: who comes has to be filled. */
    do_boot(&f, 3, 13);
    view = view_of(&f, pool, 0);
    assert_int_equal(view.n_members, 2);
    assert_int_equal(view.n_learners, 1);
    teardown(&f);
}

static void do_resize(struct fixture *f, uint64_t pool, uint8_t size, uint8_t min_size)
{
    begin(f);
    assert_int_equal(machine_pool_resize(f->change, pool, size, min_size), 0);
    commit(f);
}

static void another_min_size_is_another_configuration(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    for (int32_t i = 0; i < 3; i++)
        do_boot(&f, i, 10 + (uint64_t)i);
    uint64_t pool = do_pool(&f, "p", 8, 2, 2);
    /* More is asked for than is there: served again once a third copy was added. */
    do_resize(&f, pool, 3, 3);
    struct pg_view view = view_of(&f, pool, 0);
    assert_int_equal(view.config, f.map->epoch);
    assert_false(view.active);
    assert_true(view.recovers);
    assert_int_equal(view.n_learners, 1);
    do_resize(&f, pool, 3, 2);
    view = view_of(&f, pool, 0);
    assert_int_equal(view.config, f.map->epoch);
    assert_true(view.active);
    do_resize(&f, pool, 3, 3);
    do_add_all(&f, pool);
    for (uint32_t seed = 0; seed < 8; seed++)
        assert_true(view_of(&f, pool, seed).clean);
    /* Where it makes no difference nothing happens. */
    uint64_t config = view_of(&f, pool, 0).config;
    do_resize(&f, pool, 3, 1);
    assert_int_equal(view_of(&f, pool, 0).config, config);
    /* Fewer copies: the others leave at once. */
    do_resize(&f, pool, 1, 1);
    for (uint32_t seed = 0; seed < 8; seed++)
        assert_true(view_of(&f, pool, seed).clean);
    teardown(&f);
}

static void out_and_in_again_leaves_no_trace(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    for (int32_t i = 0; i < 5; i++)
        do_boot(&f, i, 10 + (uint64_t)i);
    (void)do_pool(&f, "p", 64, 3, 2);
    begin(&f);
    assert_int_equal(machine_osd_out(f.change, 2, false), 0);
    commit(&f);
    assert_true(f.map->n_pgs > 0);
    begin(&f);
    assert_int_equal(machine_osd_in(f.change, 2), 0);
    commit(&f);
    assert_int_equal(f.map->n_pgs, 0);
    teardown(&f);
}

static void boots_are_checked(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    do_boot(&f, 0, 10);
    struct machine_boot boot = boot_of(f.map, 0, 11);
    boot.uuid.bytes[0] ^= 1;
    begin(&f);
    assert_int_equal(machine_osd_boot(f.change, &boot), -EEXIST);
    assert_true(change_empty(f.change));
    boot = boot_of(f.map, 0, 0);
    assert_int_equal(machine_osd_boot(f.change, &boot), -EINVAL);
    boot = boot_of(f.map, MAP_OSDS_MAX, 5);
    assert_int_equal(machine_osd_boot(f.change, &boot), -EINVAL);
    /* The same process again: nothing happens. */
    boot = boot_of(f.map, 0, 10);
    assert_int_equal(machine_osd_boot(f.change, &boot), 0);
    assert_true(change_empty(f.change));
    commit(&f);
    /* A message from before it went down does not bring it up. */
    boot = boot_of(f.map, 0, 10);
    do_down(&f, 0);
    begin(&f);
    assert_int_equal(machine_osd_boot(f.change, &boot), 0);
    assert_true(change_empty(f.change));
    boot.epoch = f.map->epoch;
    assert_int_equal(machine_osd_boot(f.change, &boot), 0);
    commit(&f);
    assert_true(map_osd_up(f.map, 0));
    begin(&f);
    assert_int_equal(machine_flags(f.change, MAP_NOUP, 0), 0);
    boot = boot_of(f.map, 1, 12);
    assert_int_equal(machine_osd_boot(f.change, &boot), -EAGAIN);
    commit(&f);
    teardown(&f);
}

static void hosts_appear_as_osds_boot(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    struct machine_boot boot = boot_of(f.map, 0, 10);
    boot.host = "default"; /* The name of the root. */
    begin(&f);
    assert_int_equal(machine_osd_boot(f.change, &boot), 0);
    commit(&f);
    assert_non_null(crush_bucket_by_name(f.map->crush, "default-host"));
    boot = boot_of(f.map, 1, 11);
    boot.host = "weird name\\with\"all";
    begin(&f);
    assert_int_equal(machine_osd_boot(f.change, &boot), 0);
    commit(&f);
    assert_non_null(crush_bucket_by_name(f.map->crush, "weird-name-with-all"));
    boot = boot_of(f.map, 2, 12);
    boot.host = NULL;
    boot.bytes_total = 1;
    begin(&f);
    assert_int_equal(machine_osd_boot(f.change, &boot), 0);
    commit(&f);
    const struct crush_bucket *host = crush_parent(f.map->crush, 2);
    assert_int_equal(host->weights[0], MACHINE_OSD_WEIGHT_MIN);
    const struct crush_bucket *root = crush_bucket_by_name(f.map->crush, "default");
    assert_int_equal(root->n_items, 3);
    /* It moves when it boots on another host. */
    boot = boot_of(f.map, 2, 13);
    boot.host = "elsewhere";
    begin(&f);
    assert_int_equal(machine_osd_boot(f.change, &boot), 0);
    commit(&f);
    assert_string_equal(crush_parent(f.map->crush, 2)->name, "elsewhere");
    teardown(&f);
}

static void removal_needs_force_while_data_count(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    for (int32_t i = 0; i < 2; i++)
        do_boot(&f, i, 10 + (uint64_t)i);
    uint64_t pool = do_pool(&f, "p", 16, 2, 2);
    begin(&f);
    assert_int_equal(machine_osd_remove(f.change, 1, false), -EBUSY);
    commit(&f);
    do_down(&f, 1);
    begin(&f);
    assert_int_equal(machine_osd_remove(f.change, 1, false), -ENOTEMPTY);
    commit(&f);
    begin(&f);
    assert_int_equal(machine_flags(f.change, MAP_NOOUT, 0), 0);
    assert_int_equal(machine_osd_remove(f.change, 1, true), -EINPROGRESS);
    commit(&f);
    begin(&f);
    assert_int_equal(machine_osd_remove(f.change, 1, true), 0);
    commit(&f);
    assert_null(map_osd(f.map, 1));
    for (uint32_t seed = 0; seed < 16; seed++) {
        struct pg_view view = view_of(&f, pool, seed);
        assert_int_equal(view.n_members, 1);
        assert_int_equal(view.members[0], 0);
    }
    /* The map tells that another store has the number now. */
    do_boot(&f, 1, 12);
    assert_int_equal(map_osd(f.map, 1)->created, f.map->epoch);
    assert_true(map_osd(f.map, 0)->created < map_osd(f.map, 1)->created);
    teardown(&f);
}

static void a_boot_from_before_the_removal_takes_no_number(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    do_boot(&f, 0, 10);
    do_boot(&f, 1, 11);
    do_down(&f, 1);
    struct machine_boot late = boot_of(f.map, 1, 12);
    begin(&f);
    assert_int_equal(machine_osd_remove(f.change, 1, true), 0);
    /* Also in the very change that removes it. */
    assert_int_equal(machine_osd_boot(f.change, &late), -ESTALE);
    commit(&f);
    assert_int_equal(map_osd_removed_at(f.map, 1), f.map->epoch);
    assert_int_equal(map_osd_removed_at(f.map, 0), 0);
    assert_int_equal(map_osd_removed_at(f.map, 7), 0);
    begin(&f);
    assert_int_equal(machine_osd_boot(f.change, &late), -ESTALE);
    assert_true(change_empty(f.change));
    /* A number that was never removed is anybody's. */
    struct machine_boot first = boot_of(f.map, 2, 13);
    first.epoch = 0;
    assert_int_equal(machine_osd_boot(f.change, &first), 0);
    commit(&f);
    /* Another store, which knows that the number is free, has it at once; the old one no more. */
    struct machine_boot other = boot_of(f.map, 1, 14);
    memset(other.uuid.bytes, 0x55, sizeof other.uuid.bytes);
    begin(&f);
    assert_int_equal(machine_osd_boot(f.change, &other), 0);
    commit(&f);
    assert_true(map_osd_up(f.map, 1));
    assert_int_equal(map_osd_removed_at(f.map, 1), 0);
    late.epoch = f.map->epoch;
    begin(&f);
    assert_int_equal(machine_osd_boot(f.change, &late), -EEXIST);
    commit(&f);
    teardown(&f);
}

static void a_removed_store_that_knows_of_it_may_come_back(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    do_boot(&f, 0, 10);
    do_down(&f, 0);
    begin(&f);
    assert_int_equal(machine_osd_remove(f.change, 0, true), 0);
    commit(&f);
    do_boot(&f, 0, 11);
    assert_true(map_osd_up(f.map, 0));
    assert_int_equal(map_osd(f.map, 0)->created, f.map->epoch);
    teardown(&f);
}

static void pools_are_checked(void **state)
{
    struct fixture f;
    char why[MACHINE_WHY_MAX];
    static const char *const bad[] = {"", "a b", "a/b", "-a", "a\"b", "a\\b", "a@b", "\x7f"};

    (void)state;
    setup(&f);
    do_boot(&f, 0, 10);
    begin(&f);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct machine_pool_create create = {.name = bad[i]};
        assert_int_equal(machine_pool_create(f.change, &create, why), -EINVAL);
    }
    struct machine_pool_create create = {.name = "p", .size = 17};
    assert_int_equal(machine_pool_create(f.change, &create, why), -EINVAL);
    create = (struct machine_pool_create){.name = "p", .size = 2, .min_size = 3};
    assert_int_equal(machine_pool_create(f.change, &create, why), -EINVAL);
    create = (struct machine_pool_create){.name = "p", .rule = "nonsense"};
    assert_int_equal(machine_pool_create(f.change, &create, why), -ENOENT);
    create = (struct machine_pool_create){.name = "p", .pg_num = MAP_PG_NUM_MAX + 1};
    assert_int_equal(machine_pool_create(f.change, &create, why), -ERANGE);
    assert_true(change_empty(f.change));
    commit(&f);
    (void)do_pool(&f, "p", 0, 0, 0);
    begin(&f);
    create = (struct machine_pool_create){.name = "p"};
    assert_int_equal(machine_pool_create(f.change, &create, why), -EEXIST);
    commit(&f);
    teardown(&f);
}

static void groups_are_as_many_as_osds_need(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    for (int32_t i = 0; i < 3; i++)
        do_boot(&f, i, 10 + (uint64_t)i);
    uint64_t first = do_pool(&f, "p", 0, 3, 0);
    assert_int_equal(map_pool(f.map, first)->pg_num, 64);
    assert_int_equal(map_pool(f.map, first)->min_size, 2);
    for (int i = 0; i < 10; i++) {
        char name[8];
        snprintf(name, sizeof name, "q%d", i);
        uint64_t pool = do_pool(&f, name, 0, 3, 0);
        uint32_t pg_num = map_pool(f.map, pool)->pg_num;
        assert_true(pg_num >= MACHINE_PG_NUM_MIN && pg_num <= 64);
        assert_int_equal(pg_num & (pg_num - 1), 0);
    }
    teardown(&f);
}

/* ---- Invariants under random events ---- */

enum { OSDS = 9, POOLS = 4, POOL_PGS = 16 };

struct random {
    uint64_t state;
};

static uint32_t below(struct random *r, uint32_t n)
{
    r->state ^= r->state << 13;
    r->state ^= r->state >> 7;
    r->state ^= r->state << 17;
    return (uint32_t)((r->state >> 11) % n);
}

/* What a change did, as far as the checks need to know. */
struct did {
    uint32_t n_events;
    uint8_t min_size[UINT8_MAX + 1]; /* By pool: the lowest that was set; 0: none was. */
    bool touched[OSDS];              /* Its liveness changed, perhaps and back. */
    bool removed[OSDS];
    bool compacted[UINT8_MAX + 1]; /* By pool. */
    bool fenced[UINT8_MAX + 1];
    uint32_t n_added;
    struct {
        struct pg_id pg;
        int32_t osd;
    } added[64];
};

static void event_add(struct fixture *f, struct random *r, struct did *did)
{
    const struct cluster_map *map = change_map(f->change);

    if (map->n_pools == 0)
        return;
    const struct map_pool *pool = &map->pools[below(r, map->n_pools)];
    struct pg_id pg = {.pool = pool->id, .seed = below(r, pool->pg_num)};
    struct pg_view view;
    assert_int_equal(map_pg_view(map, pg, &view), 0);
    if (view.n_learners == 0 || view.primary < 0)
        return;
    int32_t osd = view.learners[below(r, view.n_learners)];
    struct machine_add_member add = {.pg = pg,
                                     .config = view.config,
                                     .osd = osd,
                                     .osd_instance = map_osd(map, osd)->instance,
                                     .from = view.primary};
    assert_int_equal(machine_pg_add_member(f->change, &add), 0);
    assert_true(did->n_added < 64);
    did->added[did->n_added].pg = pg;
    did->added[did->n_added++].osd = osd;
}

static void event_pool(struct fixture *f, struct random *r, struct did *did)
{
    const struct cluster_map *map = change_map(f->change);
    char why[MACHINE_WHY_MAX];
    char name[16];
    int rc = 0;

    if (map->n_pools < POOLS && map->next_pool_id < UINT8_MAX) {
        uint32_t size = 1 + below(r, 4);
        snprintf(name, sizeof name, "p%u", below(r, 1000));
        struct machine_pool_create create = {.name = name,
                                             .pg_num = 1 + below(r, POOL_PGS),
                                             .size = size,
                                             .min_size = 1 + below(r, size)};
        rc = machine_pool_create(f->change, &create, why);
        assert_true(rc == 0 || rc == -EEXIST);
        return;
    }
    const struct map_pool *pool = &map->pools[below(r, map->n_pools)];
    uint32_t size = 1 + below(r, 4);
    uint32_t min_size = 1 + below(r, size);
    uint64_t id = pool->id;
    switch (below(r, 4)) {
    case 0:
        rc = machine_pool_remove(f->change, id);
        assert_true(rc == 0 || rc == -EINPROGRESS);
        break;
    case 1:
        did->fenced[id] = did->fenced[id] || min_size != pool->min_size;
        assert_int_equal(machine_pool_resize(f->change, id, (uint8_t)size, (uint8_t)min_size), 0);
        if (did->min_size[id] == 0 || min_size < did->min_size[id])
            did->min_size[id] = (uint8_t)min_size;
        break;
    default:
        rc = machine_pool_compact(f->change, id);
        assert_true(rc == 0 || rc == -EAGAIN);
        did->compacted[id] = did->compacted[id] || rc == 0;
        break;
    }
}

static void event_osd(struct fixture *f, struct random *r, struct did *did)
{
    int32_t id = (int32_t)below(r, OSDS);
    const struct map_osd *known = map_osd(change_map(f->change), id);
    struct machine_boot boot;
    int rc = 0;

    switch (below(r, 8)) {
    case 0:
    case 1:
    case 2:
        boot = boot_of(change_map(f->change), id, 1 + below(r, 1000000));
        if (known != NULL && below(r, 3) == 0)
            boot.instance = known->instance;
        if (known == NULL || !known->up || known->instance != boot.instance)
            did->touched[id] = true;
        rc = machine_osd_boot(f->change, &boot);
        break;
    case 3:
    case 4:
        did->touched[id] = did->touched[id] || (known != NULL && known->up);
        rc = machine_osd_down(f->change, id, false);
        break;
    case 5:
        rc = machine_osd_out(f->change, id, below(r, 2) == 0);
        break;
    case 6:
        rc = below(r, 2) == 0 ? machine_osd_in(f->change, id)
                              : machine_osd_reweight(f->change, id, below(r, MAP_WEIGHT_ONE));
        break;
    default:
        if (below(r, 4) != 0)
            break;
        rc = machine_osd_remove(f->change, id, below(r, 2) == 0);
        did->removed[id] = did->removed[id] || rc == 0;
        break;
    }
    assert_true(rc == 0 || rc == -ENOENT || rc == -EBUSY || rc == -ENOTEMPTY || rc == -EINPROGRESS);
}

struct check {
    const struct fixture *f;
    const struct did *did;
    const struct map_pool *pool; /* After. */
    const struct map_pool *old_pool;
    struct pg_id pg;
    struct pg_view before;
    struct pg_view after;
    uint64_t seed;
};

#define CHECK(c, condition)                                                                        \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("seed %" PRIu64 " epoch %" PRIu64 " pg %" PRIu64 ".%x: %s", (c)->seed,        \
                     (c)->f->map->epoch, (c)->pg.pool, (c)->pg.seed, #condition);                  \
    } while (0)

static bool any_of(const bool *marks, const int32_t *list, uint8_t n)
{
    for (uint8_t i = 0; i < n; i++) {
        if (marks[list[i]])
            return true;
    }
    return false;
}

static bool was_added(const struct check *c, int32_t osd)
{
    for (uint32_t i = 0; i < c->did->n_added; i++) {
        if (pg_id_equal(c->did->added[i].pg, c->pg) && c->did->added[i].osd == osd)
            return true;
    }
    return false;
}

static bool sets_equal(const struct pg_view *a, const struct pg_view *b)
{
    return a->n_members == b->n_members &&
           memcmp(a->members, b->members, a->n_members * sizeof a->members[0]) == 0;
}

/* M1 */
static void check_config(const struct check *c)
{
    bool same_set = sets_equal(&c->before, &c->after);
    bool touched = any_of(c->did->touched, c->before.members, c->before.n_members);
    bool pool_wide = c->did->compacted[c->pg.pool] || c->did->fenced[c->pg.pool];

    CHECK(c, c->after.config >= c->before.config);
    CHECK(c, c->after.config <= c->f->map->epoch);
    /* A group that could not serve yet needs no new number before it can. */
    bool virgin = c->after.config == c->pool->created && c->after.n_up < c->pool->min_size;
    if ((!same_set || touched) && !virgin)
        CHECK(c, c->after.config == c->f->map->epoch);
    /* Of several events, one may have undone what another did. */
    else if (!pool_wide && c->did->n_events == 1)
        CHECK(c, c->after.config == c->before.config);
}

/* M2, M3, M4 */
static void check_set(const struct check *c)
{
    bool virgin =
        c->before.n_up < c->old_pool->min_size && c->before.config == c->old_pool->created;
    bool lost = any_of(c->did->removed, c->before.members, c->before.n_members);

    for (uint8_t i = 0; i < c->after.n_members; i++) {
        int32_t osd = c->after.members[i];
        CHECK(c, !has(c->after.members, i, osd));
        if (!has(c->before.members, c->before.n_members, osd))
            CHECK(c, virgin || lost || c->before.n_members == 0 || was_added(c, osd));
    }
    if (c->before.n_members > 0)
        CHECK(c, c->after.n_members > 0);
    /* As many as there are, and never many more than asked for. */
    if (c->did->n_events == 1 && c->after.n_up == c->after.n_members && c->after.n_wanted > 0 &&
        c->after.n_members > c->pool->size)
        fail_msg("seed %" PRIu64 " epoch %" PRIu64 ": %u members of %u", c->seed, c->f->map->epoch,
                 c->after.n_members, c->pool->size);
    for (uint8_t i = 0; i < c->before.n_members && !virgin; i++) {
        int32_t osd = c->before.members[i];
        if (has(c->after.members, c->after.n_members, osd) || c->did->removed[osd])
            continue;
        uint8_t min_size = c->old_pool->min_size;
        if (c->did->min_size[c->pg.pool] != 0 && c->did->min_size[c->pg.pool] < min_size)
            min_size = c->did->min_size[c->pg.pool];
        CHECK(c, lost || c->after.n_members >= min_size);
        /* Of several events, an earlier one may have been about another size. */
        CHECK(c, c->did->n_events > 1 || lost || c->after.n_up >= c->pool->size ||
                     !map_osd_up(c->f->map, osd) || c->did->touched[osd]);
    }
}

/* M5 */
static void check_entry(const struct check *c)
{
    const struct map_pg *entry = map_pg_entry(c->f->map, c->pg);
    bool plain = c->after.n_members == c->after.n_wanted &&
                 memcmp(c->after.members, c->after.wanted,
                        c->after.n_wanted * sizeof c->after.wanted[0]) == 0 &&
                 c->after.config == c->pool->config_base;

    CHECK(c, (entry == NULL) == plain);
}

static void check_all(const struct fixture *f, const struct cluster_map *before,
                      const struct did *did, uint64_t seed)
{
    for (uint32_t i = 0; i < f->map->n_pools; i++) {
        const struct map_pool *pool = &f->map->pools[i];
        const struct map_pool *old_pool = map_pool(before, pool->id);
        for (uint32_t s = 0; s < pool->pg_num; s++) {
            struct check c = {.f = f,
                              .did = did,
                              .pool = pool,
                              .old_pool = old_pool,
                              .pg = {.pool = pool->id, .seed = s},
                              .seed = seed};
            assert_int_equal(map_pg_view(f->map, c.pg, &c.after), 0);
            check_entry(&c);
            if (old_pool == NULL)
                continue;
            assert_int_equal(map_pg_view(before, c.pg, &c.before), 0);
            check_config(&c);
            check_set(&c);
        }
    }
}

static void run_random(uint64_t seed, uint32_t steps)
{
    struct fixture f;
    struct random r = {.state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1};

    setup(&f);
    for (uint32_t step = 0; step < steps; step++) {
        struct did did = {0};
        struct cluster_map *before = map_clone(f.map);
        assert_non_null(before);
        begin(&f);
        did.n_events = below(&r, 3) == 0 ? 1 + below(&r, 5) : 1;
        for (uint32_t i = 0; i < did.n_events; i++) {
            uint32_t what = below(&r, 10);
            if (what < 5)
                event_osd(&f, &r, &did);
            else if (what < 9)
                event_add(&f, &r, &did);
            else
                event_pool(&f, &r, &did);
        }
        /* Sometimes the change comes to nothing: its leader was replaced. */
        if (below(&r, 20) == 0) {
            change_end(f.change);
            machine_forget(f.machine);
        } else {
            commit(&f);
            check_all(&f, before, &did, seed);
        }
        map_destroy(before);
    }
    teardown(&f);
}

static void invariants_hold_under_random_events(void **state)
{
    (void)state;
    const char *text = getenv("LIMPET_TEST_SEEDS");
    uint64_t seeds = text != NULL ? strtoull(text, NULL, 10) : 60;

    for (uint64_t seed = 1; seed <= seeds; seed++)
        run_random(seed, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_down_osd_leaves_its_groups_in_one_increment),
        cmocka_unit_test(force_gives_up_members_that_are_down),
        cmocka_unit_test(moving_data_adds_before_it_drops),
        cmocka_unit_test(what_was_asked_before_crush_changed_is_void),
        cmocka_unit_test(copies_stay_while_there_is_no_other_place),
        cmocka_unit_test(a_large_set_moves_one_by_one),
        cmocka_unit_test(a_pool_without_osds_gets_them_as_they_come),
        cmocka_unit_test(another_min_size_is_another_configuration),
        cmocka_unit_test(out_and_in_again_leaves_no_trace),
        cmocka_unit_test(boots_are_checked),
        cmocka_unit_test(hosts_appear_as_osds_boot),
        cmocka_unit_test(removal_needs_force_while_data_count),
        cmocka_unit_test(a_boot_from_before_the_removal_takes_no_number),
        cmocka_unit_test(a_removed_store_that_knows_of_it_may_come_back),
        cmocka_unit_test(pools_are_checked),
        cmocka_unit_test(groups_are_as_many_as_osds_need),
        cmocka_unit_test(invariants_hold_under_random_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
