#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

static char last_line[2000];
static int last_level;
static int lines;

static void keep_line(struct env *env, int level, const char *line)
{
    (void)env;
    last_level = level;
    snprintf(last_line, sizeof last_line, "%s", line);
    lines++;
}

static const struct env_ops ops = {.log = keep_line};
static struct env env = {.ops = &ops, .log_mask = LOG_MASK_DEFAULT};

static void lines_are_an_event_and_its_figures(void **state)
{
    (void)state;
    log_warn(&env, "osd booted", "osd=%d epoch=%d", 3, 17);
    assert_string_equal(last_line, "osd booted osd=3 epoch=17");
    assert_int_equal(last_level, LOG_LEVEL_WARN);
    log_info(&env, "alone", "%s", "");
    assert_string_equal(last_line, "alone");
}

static void masked_levels_cost_and_write_nothing(void **state)
{
    (void)state;
    int before = lines;
    int evaluated = 0;
    log_debug(&env, "quiet", "x=%d", ++evaluated);
    assert_int_equal(lines, before);
    assert_int_equal(evaluated, 0);
}

static void peers_cannot_start_a_line(void **state)
{
    (void)state;
    log_error(&env, "refused", "name=%s", "a\nfake line\x1b[31m\x7f");
    assert_string_equal(last_line, "refused name=a?fake line?[31m?");
}

static void lines_are_bounded(void **state)
{
    (void)state;
    static char large[5000];
    memset(large, 'x', sizeof large - 1);
    log_error(&env, "long", "%s", large);
    assert_int_equal(strlen(last_line), 1023);
    log_error(&env, large, "%s", "y");
    assert_int_equal(strlen(last_line), 1023);
}

static char *contents(const char *path)
{
    size_t len;
    return test_file_read(path, &len);
}

static void the_sink_writes_time_name_and_level(void **state)
{
    (void)state;
    const char *folder = test_folder_create();
    char path[300];
    snprintf(path, sizeof path, "%s/log", folder);
    assert_int_equal(log_open(path), 0);
    log_set_name("osd.3");
    log_sink_line(LOG_LEVEL_INFO, "hello x=1");
    char *text = contents(path);
    /* 2026-01-01T00:00:00.000Z */
    assert_string_equal(text + 24, " osd.3 info hello x=1\n");
    assert_int_equal(text[10], 'T');
    assert_int_equal(text[23], 'Z');
    free(text);
    assert_int_equal(log_open(NULL), 0);
    test_folder_remove(folder);
}

static void reopening_follows_a_rotation(void **state)
{
    (void)state;
    const char *folder = test_folder_create();
    char path[300];
    char rotated[300];
    snprintf(path, sizeof path, "%s/log", folder);
    snprintf(rotated, sizeof rotated, "%s/log.1", folder);
    assert_int_equal(log_open(path), 0);
    log_sink_line(LOG_LEVEL_INFO, "first");
    assert_int_equal(rename(path, rotated), 0);
    log_sink_line(LOG_LEVEL_INFO, "second");
    assert_int_equal(log_reopen(), 0);
    log_sink_line(LOG_LEVEL_INFO, "third");
    char *old = contents(rotated);
    char *new = contents(path);
    assert_non_null(strstr(old, "second"));
    assert_null(strstr(old, "third"));
    assert_non_null(strstr(new, "third"));
    free(old);
    free(new);
    assert_int_equal(log_open(NULL), 0);
    assert_int_equal(log_reopen(), 0);
    test_folder_remove(folder);
}

static void a_file_that_cannot_be_opened_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(log_open("/nonexistent/folder/log"), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_an_event_and_its_figures),
        cmocka_unit_test(masked_levels_cost_and_write_nothing),
        cmocka_unit_test(peers_cannot_start_a_line),
        cmocka_unit_test(lines_are_bounded),
        cmocka_unit_test(the_sink_writes_time_name_and_level),
        cmocka_unit_test(reopening_follows_a_rotation),
        cmocka_unit_test(a_file_that_cannot_be_opened_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
