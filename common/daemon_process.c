/*
 * Being a process: background, lock, pid file, signals, dying.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/daemon_private.h"
#include "common/log.h"

enum { PID_TEXT_MAX = 24, DIE_TEXT_MAX = 1024, EXIT_SIGNAL_BASE = 128 };

/* Of die() and of the process's end, which have no struct daemon at hand. */
static struct {
    const char *program;
    bool log_is_file;
    pid_t pid_file_of; /* The process that wrote the pid file; 0: none. */
    char pid_file[DAEMON_PATH_MAX];
} self;

/* ---- Dying ---- */

static void complain_line(const char *text)
{
    const char *program = self.program != NULL ? self.program : program_invocation_short_name;
    fprintf(stderr, "%s: %s\n", program, text);
    fflush(stderr);
    if (self.log_is_file)
        log_sink_line(LOG_LEVEL_ERROR, text);
}

void complain(const char *format, ...)
{
    char text[DIE_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    complain_line(text);
}

static _Noreturn void die_line(int error, const char *text)
{
    complain_line(text);
    int status = error_exit_code(error);
    exit(status != 0 ? status : 1);
}

void die(int error, const char *format, ...)
{
    char text[DIE_TEXT_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof text && error != 0)
        snprintf(text + n, sizeof text - (size_t)n, ": %s", error_text(error));
    die_line(error, text);
}

void die_because(int error, const char *format, ...)
{
    char text[DIE_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    die_line(error, text);
}

void daemon_process_name(const char *program)
{
    self.program = program;
}

/* ---- Background ---- */

static _Noreturn void wait_for_child(pid_t child, int ready_fd)
{
    char byte;
    ssize_t n;
    do
        n = read(ready_fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        _exit(0);
    /* It ended, or is about to, and has said why on our common standard error. */
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            die(errno, "waiting for the daemon");
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "%s: ended by signal %d before it was ready\n", self.program,
                WTERMSIG(status));
        _exit(EXIT_SIGNAL_BASE + WTERMSIG(status));
    }
    /* An orderly stop before it was ready is no success of the start either. */
    _exit(WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : ECANCELED);
}

void daemon_process_fork(struct daemon *daemon)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        die(errno, "going to the background");
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        die(errno, "going to the background");
    if (child > 0) {
        close(fds[1]);
        wait_for_child(child, fds[0]);
    }
    close(fds[0]);
    daemon->ready_fd = fds[1];
    if (setsid() < 0 || chdir("/") != 0)
        die(errno, "going to the background");
}

static void detach_standard_files(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    /* Without this, whoever reads our output through a pipe would wait for its end for ever. */
    for (int standard = 0; standard <= 2; standard++)
        dup2(fd, standard);
    if (fd > 2)
        close(fd);
}

void daemon_ready(struct daemon *daemon)
{
    if (daemon->ready_fd < 0)
        return;
    fflush(NULL);
    detach_standard_files();
    ssize_t n;
    do
        n = write(daemon->ready_fd, "r", 1);
    while (n < 0 && errno == EINTR);
    close(daemon->ready_fd);
    daemon->ready_fd = -1;
}

/* ---- One process a data folder ---- */

/* Path of a file in a folder; dies when it is too long. */
static void join_path(char out[DAEMON_PATH_MAX], const char *folder, const char *file)
{
    int n = snprintf(out, DAEMON_PATH_MAX, "%s/%s", folder, file);
    if (n < 0 || n >= DAEMON_PATH_MAX)
        die(ENAMETOOLONG, "%.200s...", folder);
}

static _Noreturn void die_in_use(const struct daemon *daemon, int fd)
{
    char text[PID_TEXT_MAX] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    long pid = n > 0 ? strtol(text, NULL, 10) : 0;
    if (pid > 0)
        die_because(EBUSY, "another process (pid %ld) uses %s", pid, daemon->data_dir);
    die_because(EBUSY, "another process uses %s", daemon->data_dir);
}

static int write_pid(int fd)
{
    char text[PID_TEXT_MAX];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n)
        return -EIO;
    return 0;
}

void daemon_process_lock_data(struct daemon *daemon)
{
    char path[DAEMON_PATH_MAX];
    join_path(path, daemon->data_dir, "lock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        die(errno, "%s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            die_in_use(daemon, fd);
        die(errno, "locking %s", path);
    }
    if (write_pid(fd) != 0)
        die(EIO, "%s", path);
    daemon->data_lock_fd = fd;
}

/* However the process ends, short of a crash; but not when a child of it does. */
static void remove_pid_file(void)
{
    if (self.pid_file_of == getpid())
        unlink(self.pid_file);
    self.pid_file_of = 0;
}

void daemon_process_write_pid(struct daemon *daemon)
{
    if (daemon->pid_file[0] == '\0')
        return;
    int fd = open(daemon->pid_file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        die(errno, "%s", daemon->pid_file);
    if (write_pid(fd) != 0)
        die(EIO, "%s", daemon->pid_file);
    close(fd);
    memcpy(self.pid_file, daemon->pid_file, sizeof self.pid_file);
    self.pid_file_of = getpid();
    /* If it cannot be registered, the file stays behind after a failure, and no harm is done. */
    (void)atexit(remove_pid_file);
}

void daemon_process_raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        /* It only makes fewer sessions possible if this fails. */
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* ---- Signals ---- */

static void on_stop_signal(uv_signal_t *handle, int number)
{
    struct daemon *daemon = handle->data;
    if (daemon->stopping)
        _exit(EXIT_SIGNAL_BASE + number);
    daemon->stopping = true;
    daemon->stop(daemon->stop_ctx);
}

static void on_hangup(uv_signal_t *handle, int number)
{
    (void)handle;
    (void)number;
    int rc = log_reopen();
    if (rc != 0) {
        char line[128];
        snprintf(line, sizeof line, "the log cannot be opened again error=\"%s\"", error_text(rc));
        log_sink_line(LOG_LEVEL_ERROR, line);
    }
}

void daemon_run_signals(struct daemon *daemon, uv_loop_t *loop, void (*stop)(void *ctx), void *ctx)
{
    static const struct {
        int number;
        uv_signal_cb handler;
    } wanted[] = {{SIGTERM, on_stop_signal}, {SIGINT, on_stop_signal}, {SIGHUP, on_hangup}};
    static_assert(sizeof wanted / sizeof wanted[0] == sizeof daemon->signals / sizeof(uv_signal_t),
                  "a handle for each");
    daemon->stop = stop;
    daemon->stop_ctx = ctx;
    for (uint32_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        uv_signal_t *handle = &daemon->signals[i];
        int rc = uv_signal_init(loop, handle);
        if (rc != 0)
            die(rc, "watching for signals");
        daemon->n_signals = i + 1;
        handle->data = daemon;
        rc = uv_signal_start(handle, wanted[i].handler, wanted[i].number);
        if (rc != 0)
            die(rc, "watching for signals");
        uv_unref((uv_handle_t *)handle);
    }
}

void daemon_end_signals(struct daemon *daemon)
{
    uv_loop_t *loop = daemon->n_signals > 0 ? daemon->signals[0].loop : NULL;
    for (uint32_t i = 0; i < daemon->n_signals; i++) {
        uv_ref((uv_handle_t *)&daemon->signals[i]);
        uv_close((uv_handle_t *)&daemon->signals[i], NULL);
    }
    daemon->n_signals = 0;
    /* Handles are closed by the loop's next turn, after which their memory is ours again. */
    if (loop != NULL)
        uv_run(loop, UV_RUN_NOWAIT);
}

/* ---- Log and end ---- */

void daemon_process_open_log(struct daemon *daemon)
{
    if (daemon->log_file[0] == '\0')
        return;
    int rc = log_open(daemon->log_file);
    if (rc != 0)
        die(rc, "%s", daemon->log_file);
    self.log_is_file = true;
}

void daemon_finish(struct daemon *daemon)
{
    assert(daemon->n_signals == 0);
    remove_pid_file();
    config_destroy(daemon->config);
    daemon->config = NULL;
    keyring_fini(&daemon->keyring);
    if (daemon->data_lock_fd >= 0)
        close(daemon->data_lock_fd);
    daemon->data_lock_fd = -1;
    if (daemon->ready_fd >= 0)
        close(daemon->ready_fd);
    daemon->ready_fd = -1;
}
