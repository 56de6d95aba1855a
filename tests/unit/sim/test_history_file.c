/* Histories as text: what is read, what is refused, and what the checker says of them. */
#include "tests/lib/test.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/history_file.h"
#include "tests/sim/linear.h"

enum { STEPS = 1000000, LEN = 64 };

static uint64_t hash_of(uint64_t serial)
{
    uint8_t data[LEN];
    serial_fill(serial, 0, data, sizeof data);
    return content_hash(data, sizeof data);
}

/* The line number at which a text is refused, 0 for none. */
static uint64_t parse(const char *text, struct history *history)
{
    FILE *file = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    assert_non_null(file);
    uint64_t line = 0;
    int result = history_read(file, history, &line);
    fclose(file);
    return result < 0 ? line : 0;
}

/* Two writes one after the other, then a read that finds the data of `found`, or nothing for 0. */
static enum linear_verdict verdict_of_read(uint64_t found)
{
    char text[512];
    snprintf(text, sizeof text,
             "call 0 1 7 write_full 10 0 64 100\nreturn 0 0 0 0 200\n"
             "call 1 1 7 write_full 11 0 64 300\nreturn 1 0 0 0 400\n"
             "call 2 2 7 read 0 0 0 500\nreturn 2 %d %d %" PRIx64 " 600\n",
             found ? 0 : -ENOENT, found ? LEN : 0, found ? hash_of(found) : 0);
    struct history history = {0};
    assert_int_equal(parse(text, &history), 0);
    char *why = NULL;
    enum linear_verdict verdict = linear_check(&history, 7, STEPS, &why);
    free(why);
    history_fini(&history);
    return verdict;
}

static void accepts_the_last_write(void **state)
{
    (void)state;
    assert_int_equal(verdict_of_read(11), LINEAR_OK);
}

static void refuses_a_stale_read(void **state)
{
    (void)state;
    assert_int_equal(verdict_of_read(10), LINEAR_VIOLATED);
}

static void refuses_a_lost_write(void **state)
{
    (void)state;
    assert_int_equal(verdict_of_read(0), LINEAR_VIOLATED);
}

static void takes_the_version_where_it_is_told(void **state)
{
    (void)state;
    struct history history = {0};
    assert_int_equal(parse("call 0 1 7 append 5 0 9 100\nreturn 0 0 0 0 200 3 44\n"
                           "call 1 1 7 read 0 0 0 300\nreturn 1 -2 0 0 400\n",
                           &history),
                     0);
    assert_int_equal(history.ops[0].version.config, 3);
    assert_int_equal(history.ops[0].version.sequence, 44);
    assert_int_equal(history.ops[1].version.sequence, 0);
    history_fini(&history);
}

static void refuses_lines_that_are_no_events(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "call 1 1 7 read 0 0 0 500\n",   "call 0 1 7 reed 0 0 0 500\n",
        "call 0 1 7 read 0 0 0 500 9\n", "call 0 1 7 read 0 0 0 50",
        "return 0 0 0 0 600\n",          "\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct history history = {0};
        assert_int_equal(parse(bad[i], &history), 1);
        history_fini(&history);
    }
    struct history history = {0};
    assert_int_equal(parse("call 0 1 7 read 0 0 0 500\nreturn 0 0 0 0 499\n", &history), 2);
    history_fini(&history);
    assert_int_equal(parse("call 0 1 7 read 0 0 0 500\nreturn 0 0 0 0 600 1\n", &history), 2);
    history_fini(&history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_the_last_write),
        cmocka_unit_test(refuses_a_stale_read),
        cmocka_unit_test(refuses_a_lost_write),
        cmocka_unit_test(takes_the_version_where_it_is_told),
        cmocka_unit_test(refuses_lines_that_are_no_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
