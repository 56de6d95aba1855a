/*
 * Objects between files and the cluster.
 *
 * put reads the whole file before it sends anything, and then sends it as one write: readers see
 * the old object or the new one, never a mixture, whatever happens to the file, to this program or
 * to the connection meanwhile. The limit of an object bounds the memory that this takes.
 *
 * get fetches the pieces of one version of the object (and starts again when the object changes
 * meanwhile), writes them to a file without a name, and gives it the name at the end: there is
 * never half a file under the target's name, and a file that was there stays until then.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/cli.h"

enum { READ_CHUNK = 1024 * 1024, GET_DEPTH = 8, GET_TRIES = 10 };

/* ---- Reading files ---- */

struct source {
    const char *name; /* For messages. */
    int fd;
    bool regular;
    uint64_t size; /* Of a regular file when it was opened. */
};

static void source_open(struct source *s, const char *path)
{
    struct stat info;
    bool is_stdin = strcmp(path, "-") == 0;
    s->name = is_stdin ? "standard input" : path;
    s->fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0)
        fail(errno, "%s: %s", s->name, error_phrase(errno));
    if (fstat(s->fd, &info) != 0)
        fail(errno, "%s: %s", s->name, error_phrase(errno));
    if (S_ISDIR(info.st_mode))
        fail(EISDIR, "%s: %s", s->name, error_phrase(EISDIR));
    s->regular = S_ISREG(info.st_mode);
    off_t at = s->regular ? lseek(s->fd, 0, SEEK_CUR) : 0;
    at = at > 0 && at < info.st_size ? at : 0;
    s->size = s->regular ? (uint64_t)(info.st_size - at) : 0;
}

_Noreturn static void too_large(const struct source *s, uint64_t size, uint64_t offset)
{
    char has[64], where[64] = "";
    /* In bytes: one too many would be the same number of MiB. */
    if (size > 0)
        snprintf(has, sizeof has, "%llu bytes", (unsigned long long)size);
    else
        snprintf(has, sizeof has, "more than that");
    if (offset > 0)
        snprintf(where, sizeof where, " at offset %llu", (unsigned long long)offset);
    fail(EFBIG,
         "%s: an object may have 128 MiB (134217728 bytes) at most, and this is %s%s; nothing was "
         "written",
         s->name, has, where);
}

/* Reads to the end of the file, but not more than `limit` + 1 bytes. */
static uint64_t source_read(struct source *s, uint8_t *data, uint64_t limit,
                            struct progress *progress)
{
    uint64_t n = 0;
    while (n <= limit) {
        size_t want = limit + 1 - n < READ_CHUNK ? (size_t)(limit + 1 - n) : READ_CHUNK;
        ssize_t got = read(s->fd, data + n, want);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            fail(errno, "%s: %s; nothing was written", s->name, error_phrase(errno));
        if (got == 0)
            break;
        n += (uint64_t)got;
        progress_update(progress, n);
    }
    return n;
}

/* All of the file, for an object that will hold it from `offset` on. */
static struct limpet_buffer *load(struct cli *cli, const char *path, uint64_t offset)
{
    (void)cli;
    struct source s = {0};
    source_open(&s, path);
    uint64_t limit = LIMPET_OBJECT_SIZE_MAX - offset;
    if (s.size > limit)
        too_large(&s, s.size, offset);
    /* One byte more than may come shows that there is too much. Untouched pages cost nothing. */
    struct limpet_buffer *buffer = limpet_buffer_create(limit + 1);
    if (buffer == NULL)
        fail(ENOMEM, "no memory for %s", s.name);
    struct progress progress;
    progress_begin(&progress, "reading", s.name, s.size);
    uint64_t n = source_read(&s, limpet_buffer_data(buffer), limit, &progress);
    progress_end(&progress);
    if (n > limit)
        too_large(&s, 0, offset);
    if (n < s.size)
        fail(EIO, "%s: shrank from %llu to %llu bytes while it was read; nothing was written",
             s.name, (unsigned long long)s.size, (unsigned long long)n);
    if (s.fd != STDIN_FILENO)
        close(s.fd);
    limpet_buffer_trim(buffer, n);
    return buffer;
}

/* ---- Sending ---- */

struct sending {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
};

static void sent(struct limpet_completion *completion, void *arg)
{
    struct sending *sending = arg;
    (void)completion;
    pthread_mutex_lock(&sending->lock);
    sending->done = true;
    pthread_cond_signal(&sending->ended);
    pthread_mutex_unlock(&sending->lock);
}

static void show_waiting(const char *object, uint64_t bytes, double begun)
{
    fprintf(stderr, "\r\033[K%.40s: waiting for %s to be stored, %.1f s", object, size_text(bytes),
            monotonic_seconds() - begun);
    fflush(stderr);
}

/* For somebody who looks on: the same, with a line that moves. */
static int operate_watched(struct limpet_pool *pool, const char *object, struct limpet_op *op,
                           uint64_t bytes)
{
    struct sending sending = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    struct limpet_completion *completion;
    int rc = limpet_completion_create(sent, &sending, &completion);
    if (rc != 0)
        return rc;
    rc = limpet_aio_operate(pool, object, completion, op);
    double begun = monotonic_seconds();
    bool shown = false;
    pthread_mutex_lock(&sending.lock);
    while (rc == 0 && !sending.done) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 500000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (pthread_cond_timedwait(&sending.ended, &sending.lock, &until) == ETIMEDOUT) {
            show_waiting(object, bytes, begun);
            shown = true;
        }
    }
    pthread_mutex_unlock(&sending.lock);
    if (shown)
        fprintf(stderr, "\r\033[K");
    if (rc == 0)
        rc = (int)limpet_completion_result(completion);
    limpet_completion_release(completion);
    return rc;
}

static int operate(struct limpet_pool *pool, const char *object, struct limpet_op *op,
                   uint64_t bytes)
{
    int rc = isatty(STDERR_FILENO) == 1 ? operate_watched(pool, object, op, bytes)
                                        : limpet_operate(pool, object, op, NULL);
    limpet_op_destroy(op);
    return rc;
}

static struct limpet_op *new_op(void)
{
    struct limpet_op *op = limpet_op_create();
    if (op == NULL)
        fail(ENOMEM, "out of memory");
    return op;
}

int transfer_put(struct cli *cli, struct limpet_pool *pool, const char *object, const char *path,
                 bool has_offset, uint64_t offset)
{
    struct limpet_buffer *buffer = load(cli, path, has_offset ? offset : 0);
    uint64_t bytes = limpet_buffer_len(buffer);
    struct limpet_op *op = new_op();
    int rc = has_offset ? limpet_op_write_buffer(op, buffer, offset)
                        : limpet_op_write_full_buffer(op, buffer);
    if (rc == 0)
        rc = operate(pool, object, op, bytes);
    if (rc != 0)
        return complain(rc, "error putting %s/%s: %s", limpet_pool_name(pool), object,
                        error_phrase(rc));
    return 0;
}

int transfer_append(struct cli *cli, struct limpet_pool *pool, const char *object, const char *path)
{
    struct limpet_buffer *buffer = load(cli, path, 0);
    uint64_t bytes = limpet_buffer_len(buffer);
    struct limpet_op *op = new_op();
    int rc = limpet_op_append_buffer(op, buffer);
    if (rc == 0)
        rc = operate(pool, object, op, bytes);
    if (rc == -EFBIG)
        return complain(rc,
                        "error appending to %s/%s: the object would exceed the limit of an "
                        "object, 128 MiB; nothing was written",
                        limpet_pool_name(pool), object);
    if (rc != 0)
        return complain(rc, "error appending to %s/%s: %s", limpet_pool_name(pool), object,
                        error_phrase(rc));
    return 0;
}

/* ---- Fetching ---- */

struct fetch {
    struct limpet_pool *pool;
    const char *object;
    uint64_t block;
    uint8_t *data;
    uint64_t size;
    struct limpet_object_version version;
    struct progress progress;
};

struct piece {
    struct limpet_completion *completion;
    uint64_t len;
};

static bool same_version(struct limpet_object_version a, struct limpet_object_version b)
{
    return a.config == b.config && a.sequence == b.sequence;
}

/* The first piece, with the size and the version of the whole. */
static int fetch_first(struct fetch *f)
{
    struct limpet_op *op = new_op();
    struct limpet_stat stat = {0};
    size_t got = 0;
    f->data = malloc(f->block);
    if (f->data == NULL)
        fail(ENOMEM, "out of memory");
    int rc = limpet_op_read(op, f->data, f->block, 0, &got, NULL);
    if (rc == 0)
        rc = limpet_op_stat(op, &stat, NULL);
    if (rc == 0)
        rc = limpet_operate(f->pool, f->object, op, &f->version);
    limpet_op_destroy(op);
    if (rc != 0)
        return rc;
    if (stat.size > LIMPET_OBJECT_SIZE_MAX || got != (stat.size < f->block ? stat.size : f->block))
        return -EPROTO;
    f->size = stat.size;
    if (stat.size > f->block) {
        uint8_t *all = realloc(f->data, stat.size);
        if (all == NULL)
            fail(ENOMEM, "no memory for %s", size_text(stat.size));
        f->data = all;
    }
    return 0;
}

static int start_piece(struct fetch *f, struct piece *piece, uint64_t offset)
{
    piece->len = f->size - offset < f->block ? f->size - offset : f->block;
    int rc = limpet_completion_create(NULL, NULL, &piece->completion);
    if (rc != 0)
        return rc;
    rc = limpet_aio_read(f->pool, f->object, piece->completion, f->data + offset, piece->len,
                         offset);
    if (rc != 0) {
        limpet_completion_release(piece->completion);
        piece->completion = NULL;
    }
    return rc;
}

/* -ESTALE: the piece is of another version. */
static int end_piece(struct fetch *f, struct piece *piece)
{
    ssize_t got = limpet_completion_wait(piece->completion);
    struct limpet_object_version version = limpet_completion_version(piece->completion);
    limpet_completion_release(piece->completion);
    piece->completion = NULL;
    if (got == -ENOENT || (got >= 0 && !same_version(version, f->version)))
        return -ESTALE;
    if (got >= 0 && (uint64_t)got != piece->len)
        return -EPROTO;
    return got < 0 ? (int)got : 0;
}

/* The rest, several pieces at a time. */
static int fetch_rest(struct fetch *f)
{
    struct piece pieces[GET_DEPTH] = {0};
    uint64_t next = f->block, fetched = f->block;
    size_t first = 0, n = 0;
    int rc = 0;
    while (n > 0 || (rc == 0 && next < f->size)) {
        if (rc == 0 && n < GET_DEPTH && next < f->size) {
            rc = start_piece(f, &pieces[(first + n) % GET_DEPTH], next);
            next += f->block;
            n += rc == 0;
            continue;
        }
        /* After a failure the others are waited for too: they write into our memory. */
        int error = end_piece(f, &pieces[first]);
        rc = rc == 0 ? error : rc;
        fetched += pieces[first].len;
        first = (first + 1) % GET_DEPTH;
        n--;
        progress_update(&f->progress, fetched);
    }
    return rc;
}

static int fetch_object(struct fetch *f)
{
    int rc = -ESTALE;
    for (int tries = 0; tries < GET_TRIES && rc == -ESTALE; tries++) {
        free(f->data);
        f->data = NULL;
        rc = fetch_first(f);
        progress_begin(&f->progress, "getting", f->object, f->size);
        if (rc == 0 && f->size > f->block)
            rc = fetch_rest(f);
        progress_end(&f->progress);
    }
    return rc;
}

/* ---- Writing files ---- */

/* A file that gets its name when it is complete. */
struct target {
    const char *path;    /* As the user wrote it. */
    char real[PATH_MAX]; /* Where it is: links are followed. */
    char temporary[PATH_MAX];
    int fd;
    bool nameless; /* O_TMPFILE: nothing is left behind, not even by SIGKILL. */
    mode_t mode;
};

static char interrupted_path[PATH_MAX];

static void interrupted(int number)
{
    unlink(interrupted_path);
    signal(number, SIG_DFL);
    raise(number);
}

/* A temporary file with a name must not outlive an interrupted program. */
static void remove_on_signals(const char *path)
{
    snprintf(interrupted_path, sizeof interrupted_path, "%s", path);
    struct sigaction action = {.sa_handler = interrupted, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    cli_cleanup_set(interrupted_path);
}

_Noreturn static void target_fail(const struct target *t, int error)
{
    fail(error, "%s: %s; nothing was written under this name", t->path, error_phrase(error));
}

static mode_t new_file_mode(void)
{
    mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

/* Returns false for what is no regular file: a pipe, a terminal, /dev/null. */
static bool target_locate(struct target *t, const char *path)
{
    struct stat info;
    t->path = path;
    t->mode = new_file_mode();
    if (realpath(path, t->real) != NULL && stat(t->real, &info) == 0) {
        if (S_ISDIR(info.st_mode))
            target_fail(t, EISDIR);
        if (!S_ISREG(info.st_mode))
            return false;
        t->mode = info.st_mode & 07777;
        return true;
    }
    int len = snprintf(t->real, sizeof t->real, "%s", path);
    if (len < 0 || (size_t)len >= sizeof t->real)
        target_fail(t, ENAMETOOLONG);
    return true;
}

static void target_create(struct target *t)
{
    char folder[PATH_MAX];
    int len = snprintf(t->temporary, sizeof t->temporary, "%s.limpet-XXXXXX", t->real);
    if (len < 0 || (size_t)len >= sizeof t->temporary)
        target_fail(t, ENAMETOOLONG);
    snprintf(folder, sizeof folder, "%s", t->real);
    t->fd = open(dirname(folder), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    t->nameless = t->fd >= 0;
    if (!t->nameless) {
        t->fd = mkostemp(t->temporary, O_CLOEXEC);
        if (t->fd < 0)
            target_fail(t, errno);
        remove_on_signals(t->temporary);
    }
    if (fchmod(t->fd, t->mode) != 0)
        target_fail(t, errno);
}

static int write_all(int fd, const uint8_t *data, uint64_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len < READ_CHUNK ? (size_t)len : READ_CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        len -= (uint64_t)n;
    }
    return 0;
}

/* A nameless file can only get a name that is free: first a temporary one, then the target's. */
static int name_it(struct target *t)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", t->fd);
    if (linkat(AT_FDCWD, link, AT_FDCWD, t->real, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    if (errno != EEXIST)
        return -errno;
    int fd = mkostemp(t->temporary, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    close(fd);
    remove_on_signals(t->temporary);
    unlink(t->temporary);
    if (linkat(AT_FDCWD, link, AT_FDCWD, t->temporary, AT_SYMLINK_FOLLOW) != 0)
        return -errno;
    return rename(t->temporary, t->real) == 0 ? 0 : -errno;
}

static void target_finish(struct target *t)
{
    int rc = 0;
    if (t->nameless)
        rc = name_it(t);
    else if (rename(t->temporary, t->real) != 0)
        rc = -errno;
    /* Some file systems tell only now that the disk is full. */
    if (close(t->fd) != 0 && rc == 0)
        rc = -errno;
    if (rc != 0)
        target_fail(t, rc);
    cli_cleanup_set(NULL);
}

static void write_file(const char *path, const uint8_t *data, uint64_t size)
{
    struct target t = {0};
    if (!target_locate(&t, path)) {
        t.fd = open(path, O_WRONLY | O_CLOEXEC);
        int rc = t.fd < 0 ? -errno : write_all(t.fd, data, size);
        if (rc != 0)
            fail(rc, "%s: %s", path, error_phrase(rc));
        close(t.fd);
        return;
    }
    target_create(&t);
    int rc = write_all(t.fd, data, size);
    if (rc != 0)
        target_fail(&t, rc);
    target_finish(&t);
}

/* A target that cannot be written is reported before the object is fetched. */
static void check_target(const char *path)
{
    struct target t = {0};
    if (target_locate(&t, path)) {
        target_create(&t);
        close(t.fd);
        if (!t.nameless)
            unlink(t.temporary);
        cli_cleanup_set(NULL);
    }
}

int transfer_get(struct cli *cli, struct limpet_pool *pool, const char *object, const char *path,
                 uint64_t block_size)
{
    (void)cli;
    bool to_stdout = strcmp(path, "-") == 0;
    struct fetch f = {.pool = pool, .object = object, .block = block_size};
    if (!to_stdout)
        check_target(path);
    int rc = fetch_object(&f);
    if (rc == -ESTALE) {
        free(f.data);
        return complain(EAGAIN,
                        "error getting %s/%s: it changes faster than it can be read; try again",
                        limpet_pool_name(pool), object);
    }
    if (rc != 0) {
        free(f.data);
        return complain(rc, "error getting %s/%s: %s", limpet_pool_name(pool), object,
                        error_phrase(rc));
    }
    if (!to_stdout) {
        write_file(path, f.data, f.size);
    } else {
        rc = write_all(STDOUT_FILENO, f.data, f.size);
        if (rc == -EPIPE)
            _exit(EPIPE);
        if (rc != 0)
            fail(rc, "standard output: %s", error_phrase(rc));
    }
    free(f.data);
    return 0;
}
