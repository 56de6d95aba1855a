#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/daemon.h"
#include "common/log.h"

#define KEY "AQAAAAAAAAAAABAAMDEyMzQ1Njc4OWFiY2RlZg=="

static char folder[300];
static char conf[400];
static char output[16384]; /* What the last program wrote to standard output and error. */

static const struct daemon_program osd_program = {
    .name = "limpet-osd",
    .type = ENTITY_OSD,
    .data_option = "osd_data",
    .description = "Keeps objects.",
};

static void write_file(const char *name, const char *text)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int folder_setup(void **state)
{
    (void)state;
    char text[2000];
    snprintf(folder, sizeof folder, "%s", test_folder_create());
    snprintf(conf, sizeof conf, "%s/limpet.conf", folder);
    snprintf(text, sizeof text,
             "[global]\nkeyring = %s/keyring\nosd data = %s/$name\nlog file = %s/$name.log\n"
             "pid file = %s/$name.pid\n",
             folder, folder, folder, folder);
    write_file("limpet.conf", text);
    write_file("keyring", "[osd.3]\nkey = " KEY "\n[mon.]\nkey = " KEY "\n");
    snprintf(text, sizeof text, "%s/osd.3", folder);
    assert_int_equal(mkdir(text, 0700), 0);
    return 0;
}

static int folder_teardown(void **state)
{
    (void)state;
    test_folder_remove(folder);
    return 0;
}

/* ---- The daemon under test ---- */

static void end_loop(void *ctx)
{
    uv_stop(ctx);
}

/* A daemon that serves nobody: it ends with 0 after an orderly stop. */
static int daemon_main(int argc, char **argv)
{
    static struct daemon d;
    uv_loop_t loop;
    daemon_start(&d, &osd_program, argc, argv);
    if (getenv("TEST_FAIL_LATE") != NULL)
        die(ENOSPC, "the store");
    if (getenv("TEST_CRASH") != NULL) {
        signal(SIGTERM, SIG_DFL);
        raise(SIGTERM);
    }
    if (d.mkfs) {
        daemon_finish(&d);
        return 0;
    }
    uv_loop_init(&loop);
    daemon_run_signals(&d, &loop, end_loop, &loop);
    log_sink_line(LOG_LEVEL_INFO, "serving");
    daemon_ready(&d);
    /* Keeps the loop alive: the signals do not. */
    uv_async_t nothing;
    uv_async_init(&loop, &nothing, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    log_sink_line(LOG_LEVEL_INFO, "stopped");
    uv_close((uv_handle_t *)&nothing, NULL);
    daemon_end_signals(&d);
    int rc = uv_loop_close(&loop);
    daemon_finish(&d);
    return rc == 0 ? 0 : 99;
}

enum { ARGS_MAX = 12 };

/* Starts the program with its output in a pipe; *out_fd is the pipe's reading end. */
static pid_t launch(const char *const args[], int *out_fd)
{
    char *argv[ARGS_MAX + 1] = {"limpet-osd"};
    int argc = 1;
    for (; args[argc - 1] != NULL; argc++)
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        exit(daemon_main(argc, argv));
    }
    close(fds[1]);
    *out_fd = fds[0];
    return pid;
}

static int wait_for(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Reads until the other end is closed by everybody. */
static void read_output(int fd)
{
    size_t len = 0;
    ssize_t n;
    while ((n = read(fd, output + len, sizeof output - 1 - len)) > 0)
        len += (size_t)n;
    output[len] = '\0';
    close(fd);
}

static int run(const char *const args[])
{
    int fd;
    pid_t pid = launch(args, &fd);
    read_output(fd);
    return wait_for(pid);
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

static char *read_file(const char *name)
{
    char path[400];
    size_t len;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return test_file_read(path, &len);
}

static pid_t pid_in_file(void)
{
    char *text = read_file("osd.3.pid");
    pid_t pid = (pid_t)strtol(text, NULL, 10);
    free(text);
    assert_true(pid > 1);
    return pid;
}

static bool exists(const char *name)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

/* ---- Command line ---- */

static void bad_command_lines_are_one_line_and_einval(void **state)
{
    (void)state;
    assert_int_equal(RUN("--conf", conf), EINVAL);
    assert_string_equal(output,
                        "limpet-osd: --id is missing: say which one this is, such as --id 0\n");
    assert_int_equal(RUN("--conf", conf, "--id", "x"), EINVAL);
    assert_string_equal(output, "limpet-osd: the ID of an OSD is a number, not \"x\"\n");
    assert_int_equal(RUN("--id", "3 4"), EINVAL);
    assert_string_equal(output, "limpet-osd: \"3 4\" does not name an OSD\n");
    assert_int_equal(RUN("--name", "mon.a"), EINVAL);
    assert_int_equal(RUN("--nonsense"), EINVAL);
    assert_string_equal(output,
                        "limpet-osd: unknown option --nonsense; --help lists the options\n");
    assert_int_equal(RUN("3"), EINVAL);
    assert_int_equal(RUN("--id"), EINVAL);
    assert_string_equal(output,
                        "limpet-osd: a value is missing after --id; --help lists the options\n");
    assert_int_equal(RUN("--mkfs=yes", "--id", "3"), EINVAL);
    assert_int_equal(RUN("--mkfs", "--daemonize", "--id", "3"), EINVAL);
    assert_int_equal(RUN("--id", "3", "--conf", conf, "--osd-memory-target", "1"), EINVAL);
    assert_string_equal(output,
                        "limpet-osd: osd_memory_target: 1 is too small: at least 67108864\n");
}

static void help_and_version_are_successes(void **state)
{
    (void)state;
    assert_int_equal(RUN("--help"), 0);
    assert_non_null(strstr(output, "usage: limpet-osd --id ID"));
    assert_non_null(strstr(output, "--daemonize"));
    assert_int_equal(RUN("--options"), 0);
    assert_non_null(strstr(output, "| `osd_data` | text |"));
    assert_int_equal(RUN("-V"), 0);
    assert_memory_equal(output, "limpet-osd ", 11);
}

static void missing_files_are_named(void **state)
{
    (void)state;
    assert_int_equal(RUN("-i", "3", "-c", "/none/limpet.conf"), ENOENT);
    assert_string_equal(output, "limpet-osd: /none/limpet.conf: No such file or directory\n");
    assert_int_equal(RUN("-i", "3", "-c", conf, "--keyring", "/none/keyring"), ENOENT);
    assert_string_equal(output, "limpet-osd: no keyring found; looked for /none/keyring\n");
    assert_int_equal(RUN("-i", "4", "-c", conf), ENOENT);
    assert_non_null(strstr(output, "has no key for osd.4"));
    assert_int_equal(RUN("-i", "3", "-c", conf, "--data", "/none/data"), ENOENT);
    assert_string_equal(
        output, "limpet-osd: the data folder /none/data does not exist; --mkfs makes one\n");
    assert_int_equal(RUN("-i", "3", "-c", conf, "--data", conf), ENOTDIR);
    assert_int_equal(RUN("-i", "3", "-c", conf, "--log-file", "/none/log"), ENOENT);
    assert_int_equal(RUN("-i", "3", "-c", conf, "--pid-file=/none/pid"), ENOENT);
}

static void mkfs_makes_the_folder_and_needs_no_key(void **state)
{
    (void)state;
    assert_int_equal(RUN("-i", "5", "-c", conf, "--mkfs"), 0);
    assert_string_equal(output, "");
    assert_true(exists("osd.5"));
    assert_false(exists("osd.5.pid"));
}

/* ---- Life ---- */

/* Waits for the event itself: the daemon writes this line when its handlers are in place. */
static void wait_until_it_serves(int fd)
{
    FILE *in = fdopen(dup(fd), "r");
    char line[500];
    assert_non_null(in);
    while (fgets(line, sizeof line, in) != NULL) {
        if (strstr(line, "serving") != NULL) {
            fclose(in);
            return;
        }
    }
    fail_msg("the daemon ended before it served");
}

static void a_second_process_on_the_folder_is_refused(void **state)
{
    (void)state;
    int fd;
    pid_t pid = launch((const char *const[]){"-i", "3", "-c", conf, "--log-file", "", NULL}, &fd);
    wait_until_it_serves(fd);
    char expected[500];
    snprintf(expected, sizeof expected, "limpet-osd: another process (pid %ld) uses %s/osd.3\n",
             (long)pid, folder);
    assert_int_equal(RUN("-i", "3", "-c", conf), EBUSY);
    assert_string_equal(output, expected);
    assert_int_equal(RUN("-i", "3", "-c", conf, "--daemonize"), EBUSY);
    assert_string_equal(output, expected);
    assert_int_equal(pid_in_file(), pid);
    kill(pid, SIGTERM);
    assert_int_equal(wait_for(pid), 0);
    close(fd);
    assert_false(exists("osd.3.pid"));
}

static void killed_processes_leave_no_lock(void **state)
{
    (void)state;
    int fd;
    pid_t pid = launch((const char *const[]){"-i", "3", "-c", conf, "--log-file", "", NULL}, &fd);
    wait_until_it_serves(fd);
    kill(pid, SIGKILL);
    assert_int_equal(wait_for(pid), -SIGKILL);
    close(fd);
    pid = launch((const char *const[]){"-i", "3", "-c", conf, "--log-file", "", NULL}, &fd);
    wait_until_it_serves(fd);
    assert_int_equal(pid_in_file(), pid);
    kill(pid, SIGINT);
    assert_int_equal(wait_for(pid), 0);
    close(fd);
}

static void going_to_the_background_returns_when_it_serves(void **state)
{
    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    /* run() reads the output to its end: the daemon must have let go of the pipe. */
    assert_int_equal(RUN("-i", "3", "-c", conf, "--daemonize"), 0);
    assert_string_equal(output, "");
    pid_t pid = pid_in_file();
    char *log = read_file("osd.3.log");
    assert_non_null(strstr(log, "osd.3 info serving"));
    free(log);
    kill(pid, SIGTERM);
    assert_int_equal(wait_for(pid), 0);
    log = read_file("osd.3.log");
    assert_non_null(strstr(log, "osd.3 info stopped"));
    free(log);
    assert_false(exists("osd.3.pid"));
}

static void failing_in_the_background_is_the_starters_failure(void **state)
{
    (void)state;
    setenv("TEST_FAIL_LATE", "1", 1);
    assert_int_equal(RUN("-i", "3", "-c", conf, "--daemonize"), ENOSPC);
    assert_string_equal(output, "limpet-osd: the store: No space left on device\n");
    unsetenv("TEST_FAIL_LATE");
    char *log = read_file("osd.3.log");
    assert_non_null(strstr(log, "osd.3 error the store: No space left on device"));
    free(log);
    assert_false(exists("osd.3.pid"));
    setenv("TEST_CRASH", "1", 1);
    assert_int_equal(RUN("-i", "3", "-c", conf, "--daemonize"), 128 + SIGTERM);
    assert_string_equal(output, "limpet-osd: ended by signal 15 before it was ready\n");
    unsetenv("TEST_CRASH");
}

static void hangup_follows_a_rotated_log(void **state)
{
    (void)state;
    char path[400];
    char rotated[400];
    assert_int_equal(RUN("-i", "3", "-c", conf, "--daemonize"), 0);
    pid_t pid = pid_in_file();
    snprintf(path, sizeof path, "%s/osd.3.log", folder);
    snprintf(rotated, sizeof rotated, "%s/osd.3.log.1", folder);
    assert_int_equal(rename(path, rotated), 0);
    int watch = inotify_init1(IN_CLOEXEC);
    assert_true(watch >= 0 && inotify_add_watch(watch, folder, IN_CREATE) >= 0);
    kill(pid, SIGHUP);
    char event[sizeof(struct inotify_event) + NAME_MAX + 1];
    assert_true(read(watch, event, sizeof event) > 0);
    close(watch);
    assert_true(exists("osd.3.log"));
    kill(pid, SIGTERM);
    assert_int_equal(wait_for(pid), 0);
    char *log = read_file("osd.3.log");
    assert_non_null(strstr(log, "stopped"));
    free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_command_lines_are_one_line_and_einval),
        cmocka_unit_test(help_and_version_are_successes),
        cmocka_unit_test(missing_files_are_named),
        cmocka_unit_test(mkfs_makes_the_folder_and_needs_no_key),
        cmocka_unit_test(a_second_process_on_the_folder_is_refused),
        cmocka_unit_test(killed_processes_leave_no_lock),
        cmocka_unit_test(going_to_the_background_returns_when_it_serves),
        cmocka_unit_test(failing_in_the_background_is_the_starters_failure),
        cmocka_unit_test(hangup_follows_a_rotated_log),
    };
    return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
