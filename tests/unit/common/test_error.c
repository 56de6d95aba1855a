#include "tests/lib/test.h"

#include <errno.h>
#include <limits.h>

#include "common/error.h"

static void has_words_for_errno_and_for_our_own(void **state)
{
    (void)state;
    assert_string_equal(error_text(-ENOENT), "No such file or directory");
    assert_string_equal(error_text(ENOENT), "No such file or directory");
    assert_string_equal(error_text(-ELIMPET_RESET), "the peer has restarted");
    for (int error = LIMPET_ERROR_BASE + 1; error < LIMPET_ERROR_END; error++)
        assert_string_not_equal(error_text(error), "unknown error");
}

static void survives_numbers_that_mean_nothing(void **state)
{
    (void)state;
    static const int odd[] = {INT_MIN, INT_MAX, -LIMPET_ERROR_END, 4000, -500};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        assert_string_equal(error_text(odd[i]), "unknown error");
        assert_int_equal(error_exit_code(odd[i]), EIO);
    }
}

static void exit_codes_are_errno_values(void **state)
{
    (void)state;
    assert_int_equal(error_exit_code(0), 0);
    assert_int_equal(error_exit_code(-ETIMEDOUT), ETIMEDOUT);
    assert_int_equal(error_exit_code(EACCES), EACCES);
    assert_int_equal(error_exit_code(-ELIMPET_CORRUPT), EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_words_for_errno_and_for_our_own),
        cmocka_unit_test(survives_numbers_that_mean_nothing),
        cmocka_unit_test(exit_codes_are_errno_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
