#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/standard_files.h"

/* In a process of its own, with these closed; returns how it ended. */
static int with_closed(const int *closed, int n, int (*check)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        for (int i = 0; i < n; i++)
            close(closed[i]);
        standard_files_fill();
        _exit(check());
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int next_is_after_all_three(void)
{
    return open("/dev/null", O_RDWR) > STDERR_FILENO ? 0 : 1;
}

static int use_is_refused(void)
{
    char byte = 0;
    if (read(STDIN_FILENO, &byte, 1) != -1 || errno != EBADF)
        return 1;
    if (write(STDOUT_FILENO, &byte, 1) != -1 || errno != EBADF)
        return 2;
    return write(STDERR_FILENO, &byte, 1) == -1 && errno == EBADF ? 0 : 3;
}

static void closed_ones_are_not_taken_by_others(void **state)
{
    (void)state;
    const int all[] = {0, 1, 2}, output[] = {1}, ends[] = {0, 2};
    assert_int_equal(with_closed(all, 3, next_is_after_all_three), 0);
    assert_int_equal(with_closed(output, 1, next_is_after_all_three), 0);
    assert_int_equal(with_closed(ends, 2, next_is_after_all_three), 0);
    assert_int_equal(with_closed(all, 3, use_is_refused), 0);
}

static int output_still_goes_to_its_pipe(void)
{
    return write(STDOUT_FILENO, "x", 1) == 1 ? 0 : 1;
}

static void open_ones_stay(void **state)
{
    (void)state;
    int pipe_fds[2], kept = dup(STDOUT_FILENO);
    const int input[] = {0};
    assert_true(kept >= 0);
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(dup2(pipe_fds[1], STDOUT_FILENO), STDOUT_FILENO);
    int code = with_closed(input, 1, output_still_goes_to_its_pipe);
    assert_int_equal(dup2(kept, STDOUT_FILENO), STDOUT_FILENO);
    char byte;
    assert_int_equal(code, 0);
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    close(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_ones_are_not_taken_by_others),
        cmocka_unit_test(open_ones_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
