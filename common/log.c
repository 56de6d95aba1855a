#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 1024, LOG_NAME_MAX = 64, LOG_PREFIX_MAX = 160 };

/*
 * Where the real world's lines go. A process has one log. Lines are written with one write(2) to a
 * descriptor opened for appending, so lines of helper threads do not mix.
 */
static struct {
    int fd;
    char *path; /* NULL: stderr. */
    char name[LOG_NAME_MAX];
} sink = {.fd = STDERR_FILENO};

/* A name that came from a peer must not be able to start a new line or steer a terminal. */
static void make_printable(char *line)
{
    for (char *c = line; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    }
}

void log_write(struct env *env, enum log_level level, const char *event, const char *format, ...)
{
    char line[LOG_LINE_MAX];
    int n = snprintf(line, sizeof line, "%s ", event);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
    va_list args;
    va_start(args, format);
    n = vsnprintf(line + len, sizeof line - len, format, args);
    va_end(args);
    size_t room = sizeof line - len;
    if (n >= 0)
        len += (size_t)n < room ? (size_t)n : room - 1;
    while (len > 0 && line[len - 1] == ' ')
        len--;
    line[len] = '\0';
    make_printable(line);
    env->ops->log(env, (int)level, line);
}

static int open_for_append(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    return fd < 0 ? -errno : fd;
}

static void replace_fd(int fd)
{
    if (sink.fd != STDERR_FILENO)
        close(sink.fd);
    sink.fd = fd;
}

int log_open(const char *path)
{
    if (path == NULL) {
        replace_fd(STDERR_FILENO);
        free(sink.path);
        sink.path = NULL;
        return 0;
    }
    char *copy = strdup(path);
    if (copy == NULL)
        return -ENOMEM;
    int fd = open_for_append(path);
    if (fd < 0) {
        free(copy);
        return fd;
    }
    replace_fd(fd);
    free(sink.path);
    sink.path = copy;
    return 0;
}

int log_reopen(void)
{
    if (sink.path == NULL)
        return 0;
    int fd = open_for_append(sink.path);
    if (fd < 0)
        return fd;
    replace_fd(fd);
    return 0;
}

void log_set_name(const char *name)
{
    snprintf(sink.name, sizeof sink.name, "%s", name);
}

void log_sink_line(int level, const char *line)
{
    static const char *const level_names[] = {"error", "warn", "info", "debug"};
    int saved_errno = errno;
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char text[LOG_PREFIX_MAX + LOG_LINE_MAX];
    size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    const char *level_name = level >= 0 && level <= LOG_LEVEL_DEBUG ? level_names[level] : "?";
    int n = snprintf(text + len, sizeof text - len, ".%03ldZ %s%s%s %s\n", now.tv_nsec / 1000000,
                     sink.name, sink.name[0] != '\0' ? " " : "", level_name, line);
    if (n > 0) {
        len += (size_t)n;
        if (len >= sizeof text) {
            len = sizeof text - 1;
            text[len - 1] = '\n';
        }
        /* A full disk must not stop the daemon, and there is nowhere to complain. */
        ssize_t written = write(sink.fd, text, len);
        (void)written;
    }
    errno = saved_errno;
}
