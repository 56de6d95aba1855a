/* Snapshots of a pool as a value: placement/snaps.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "placement/snaps.h"
#include "tests/lib/test.h"

/* The value takes the place of the old one. */
static void take(const struct map_snaps **snaps, int error, const struct map_snaps *next)
{
    assert_int_equal(error, 0);
    snaps_unref(*snaps);
    *snaps = next;
    assert_true(snaps_valid(*snaps, 1000));
}

static void add_self(const struct map_snaps **snaps)
{
    const struct map_snaps *next = NULL;
    int error = snaps_add_self(*snaps, &next);
    take(snaps, error, next);
}

static void remove_at(const struct map_snaps **snaps, uint64_t id, uint64_t epoch)
{
    const struct map_snaps *next = NULL;
    int error = snaps_remove(*snaps, id, epoch, &next);
    take(snaps, error, next);
}

static void names_are_unique_and_limited(void **state)
{
    (void)state;
    const struct map_snaps *snaps = NULL, *next = NULL;
    char name[SNAPS_NAME_MAX + 2];
    int error = snaps_add_named(snaps, "one", 5, &next);
    take(&snaps, error, next);
    assert_int_equal(snaps_add_named(snaps, "one", 6, &next), -EEXIST);
    assert_int_equal(snaps_add_named(snaps, "", 6, &next), -EINVAL);
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(snaps_add_named(snaps, name, 6, &next), -ENAMETOOLONG);
    assert_int_equal(snaps_by_name(snaps, "one")->id, 1);
    for (int i = 2; i <= SNAPS_NAMED_MAX; i++) {
        snprintf(name, sizeof name, "s%d", i);
        error = snaps_add_named(snaps, name, 7, &next);
        take(&snaps, error, next);
    }
    assert_int_equal(snaps_add_named(snaps, "more", 7, &next), -EMFILE);
    remove_at(&snaps, 1, 9);
    assert_null(snaps_by_name(snaps, "one"));
    assert_null(snaps_by_id(snaps, 1));
    error = snaps_add_named(snaps, "one", 8, &next);
    take(&snaps, error, next);
    assert_int_equal(snaps_by_name(snaps, "one")->id, SNAPS_NAMED_MAX + 1);
    snaps_unref(snaps);
}

static void a_pool_has_one_kind(void **state)
{
    (void)state;
    const struct map_snaps *snaps = NULL, *next = NULL;
    add_self(&snaps);
    assert_int_equal(snaps_add_named(snaps, "one", 0, &next), -EINVAL);
    snaps_unref(snaps);
    snaps = NULL;
    int error = snaps_add_named(snaps, "one", 0, &next);
    take(&snaps, error, next);
    assert_int_equal(snaps_add_self(snaps, &next), -EINVAL);
    snaps_unref(snaps);
}

static void only_what_is_there_can_be_removed(void **state)
{
    (void)state;
    const struct map_snaps *snaps = NULL, *next = NULL;
    assert_int_equal(snaps_remove(NULL, 1, 1, &next), -ENOENT);
    add_self(&snaps);
    assert_int_equal(snaps_remove(snaps, 0, 1, &next), -ENOENT);
    assert_int_equal(snaps_remove(snaps, 2, 1, &next), -ENOENT);
    remove_at(&snaps, 1, 1);
    assert_int_equal(snaps_remove(snaps, 1, 2, &next), -ENOENT);
    snaps_unref(snaps);
}

static void ranges_grow_together(void **state)
{
    (void)state;
    const struct map_snaps *snaps = NULL;
    for (int i = 0; i < 9; i++)
        add_self(&snaps);
    remove_at(&snaps, 2, 10);
    remove_at(&snaps, 4, 11);
    remove_at(&snaps, 9, 12);
    assert_int_equal(snaps->n_removed, 3);
    remove_at(&snaps, 3, 13);
    assert_int_equal(snaps->n_removed, 2);
    assert_int_equal(snaps->removed[0].first, 2);
    assert_int_equal(snaps->removed[0].last, 4);
    remove_at(&snaps, 1, 14);
    remove_at(&snaps, 5, 15);
    assert_int_equal(snaps->removed[0].first, 1);
    assert_int_equal(snaps->removed[0].last, 5);
    for (uint64_t id = 1; id <= 9; id++)
        assert_int_equal(snaps_removed(snaps, id), id <= 5 || id == 9);
    assert_false(snaps_removed(snaps, 10));
    snaps_unref(snaps);
}

static void what_is_purged_stays_removed(void **state)
{
    (void)state;
    const struct map_snaps *snaps = NULL, *next = NULL;
    for (int i = 0; i < 6; i++)
        add_self(&snaps);
    remove_at(&snaps, 1, 10);
    remove_at(&snaps, 4, 20);
    int error = snaps_purge(snaps, 9, &next);
    take(&snaps, error, next);
    assert_int_equal(snaps->n_trims, 2);
    /* A range is as new as the newest in it. */
    remove_at(&snaps, 2, 30);
    error = snaps_purge(snaps, 20, &next);
    take(&snaps, error, next);
    assert_int_equal(snaps->n_trims, 1);
    assert_int_equal(snaps->trims[0].last, 2);
    error = snaps_purge(snaps, 30, &next);
    take(&snaps, error, next);
    assert_int_equal(snaps->n_trims, 0);
    assert_true(snaps_removed(snaps, 1) && snaps_removed(snaps, 2) && snaps_removed(snaps, 4));
    assert_false(snaps_removed(snaps, 3));
    snaps_unref(snaps);
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    struct map_snaps *snaps = snaps_create(0, 2, 1);
    snaps->mode = SNAPS_SELF;
    snaps->seq = 9;
    snaps->removed[0] = (struct snap_range){2, 3};
    snaps->removed[1] = (struct snap_range){5, 9};
    snaps->trims[0] = (struct snap_trim){2, 3, 7};
    assert_true(snaps_valid(snaps, 7));
    assert_false(snaps_valid(snaps, 6));
    snaps->removed[1].first = 3;
    assert_false(snaps_valid(snaps, 7));
    snaps->removed[1] = (struct snap_range){5, 10};
    assert_false(snaps_valid(snaps, 7));
    snaps->removed[1] = (struct snap_range){9, 5};
    assert_false(snaps_valid(snaps, 7));
    snaps->removed[1] = (struct snap_range){5, 9};
    snaps->mode = 3;
    assert_false(snaps_valid(snaps, 7));
    snaps_unref(snaps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_unique_and_limited),
        cmocka_unit_test(a_pool_has_one_kind),
        cmocka_unit_test(only_what_is_there_can_be_removed),
        cmocka_unit_test(ranges_grow_together),
        cmocka_unit_test(what_is_purged_stays_removed),
        cmocka_unit_test(contradictions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
