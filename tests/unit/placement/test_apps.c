/* What a pool is used for, as a value: placement/apps.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "placement/apps.h"
#include "tests/lib/test.h"

/* The value takes the place of the old one. */
static void take(const struct map_apps **apps, int error, const struct map_apps *next)
{
    assert_int_equal(error, 0);
    apps_unref(*apps);
    *apps = next;
    assert_true(apps_valid(*apps));
}

static void set(const struct map_apps **apps, const char *app, const char *key, const char *value)
{
    const struct map_apps *next = NULL;
    int error = apps_set(*apps, app, key, value, &next);
    take(apps, error, next);
}

static void drop(const struct map_apps **apps, const char *app, const char *key)
{
    const struct map_apps *next = NULL;
    int error = apps_remove(*apps, app, key, &next);
    take(apps, error, next);
}

static void keys_belong_to_an_application(void **state)
{
    (void)state;
    const struct map_apps *apps = NULL, *next = NULL;
    assert_int_equal(apps_set(apps, "rbd", "k", "v", &next), -ENOENT);
    assert_int_equal(apps_remove(apps, "rbd", "", &next), -ENOENT);
    set(&apps, "rbd", "", "");
    set(&apps, "rbd", "k", "v");
    set(&apps, "a", "", "");
    set(&apps, "rbd", "k", "w");
    assert_int_equal(apps_count(apps), 2);
    assert_int_equal(apps->n, 3);
    assert_string_equal(apps_find(apps, "rbd", "k")->value, "w");
    drop(&apps, "rbd", "none");
    assert_int_equal(apps->n, 3);
    drop(&apps, "rbd", "");
    assert_null(apps_find(apps, "rbd", "k"));
    drop(&apps, "a", "");
    assert_null(apps);
}

static void texts_and_numbers_have_limits(void **state)
{
    (void)state;
    const struct map_apps *apps = NULL, *next = NULL;
    char text[APPS_TEXT_MAX + 2];
    memset(text, 'x', sizeof text);
    text[APPS_TEXT_MAX + 1] = 0;
    assert_int_equal(apps_set(apps, text, "", "", &next), -EINVAL);
    assert_int_equal(apps_set(apps, "", "", "", &next), -EINVAL);
    assert_int_equal(apps_set(apps, "a", "", "value", &next), -EINVAL);
    set(&apps, text + 1, "", "");
    assert_int_equal(apps_set(apps, text + 1, text, "", &next), -EINVAL);
    assert_int_equal(apps_set(apps, text + 1, "k", text, &next), -EINVAL);
    for (int i = 0; i < APPS_KEYS_MAX; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        set(&apps, text + 1, key, text + 1);
    }
    assert_int_equal(apps_set(apps, text + 1, "more", "", &next), -E2BIG);
    set(&apps, "2", "", "");
    set(&apps, "3", "", "");
    set(&apps, "4", "", "");
    assert_int_equal(apps_set(apps, "5", "", "", &next), -E2BIG);
    set(&apps, "4", "", "");
    apps_unref(apps);
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    struct map_apps *apps = apps_create(2);
    assert_non_null(apps);
    assert_false(apps_valid(apps));
    strcpy(apps->lines[0].app, "a");
    strcpy(apps->lines[1].app, "b");
    assert_true(apps_valid(apps));
    strcpy(apps->lines[1].key, "k");
    assert_false(apps_valid(apps)); /* A key of no application. */
    strcpy(apps->lines[1].app, "a");
    assert_true(apps_valid(apps));
    strcpy(apps->lines[0].value, "v");
    assert_false(apps_valid(apps));
    apps->lines[0].value[0] = 0;
    strcpy(apps->lines[0].key, "k");
    assert_false(apps_valid(apps)); /* The same one twice. */
    apps_unref(apps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_belong_to_an_application),
        cmocka_unit_test(texts_and_numbers_have_limits),
        cmocka_unit_test(contradictions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
