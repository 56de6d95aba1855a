/*
 * The disk on io_uring: O_DIRECT, registered files, few system calls for all requests of a loop
 * turn. Reads that may be of what the system remembers go through its page cache, which uses the
 * memory that nobody else wants; they bring in what was asked for and no more.
 *
 * Requests collect in the submission queue and are handed to the kernel once, after the turn's
 * messages have left; or some reads at once, so that the disk does not rest while a turn is long.
 * The ring's descriptor is readable when something has completed, so the loop polls it like a
 * socket. What does not fit in the ring waits in a list.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/env_real.h"
#include "osd/store/disk.h"

/* Registered files. */
enum { FILE_DIRECT, FILE_CACHED, FILES };

enum { RING_ENTRIES = 512, REAP_MAX = 64, SUBMIT_AT = 4, SUBMIT_BYTES = 256 * 1024 };

struct disk_uring {
    struct disk disk;
    struct env *env;
    int fds[FILES];
    struct io_uring ring;
    uv_poll_t poll;
    struct env_task task;
    uint32_t in_flight;
    STAILQ_HEAD(, disk_io) waiting;
};

static int write_piece(int fd, const uint8_t *data, size_t len, uint64_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        data += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/*
 * The rest of a write of which the kernel took `taken` bytes: it says why it took no more only when
 * asked to take more, and it may take them, as after a signal. It blocks, and is rare.
 */
static int write_rest(const struct disk_uring *d, const struct disk_io *io, uint64_t taken)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < io->n_iov; i++) {
        size_t len = io->iov[i].iov_len;
        uint64_t skip = taken > at ? taken - at : 0;
        if (skip < len) {
            const uint8_t *data = io->iov[i].iov_base;
            int error =
                write_piece(d->fds[FILE_DIRECT], data + skip, len - skip, io->offset + at + skip);
            if (error)
                return error;
        }
        at += len;
    }
    return io->op == DISK_WRITE_DURABLE && fdatasync(d->fds[FILE_DIRECT]) < 0 ? -errno : 0;
}

static int result_error(const struct disk_uring *d, const struct disk_io *io, int result)
{
    if (result < 0 || io->op == DISK_FLUSH)
        return result < 0 ? result : 0;
    if ((uint64_t)result == io->len)
        return 0;
    return io->op == DISK_READ ? -EIO : write_rest(d, io, (uint64_t)result);
}

static bool prepare(struct disk_uring *d, struct disk_io *io)
{
    struct io_uring_sqe *sqe;
    if (d->in_flight == RING_ENTRIES || (sqe = io_uring_get_sqe(&d->ring)) == NULL)
        return false;
    switch (io->op) {
    case DISK_READ:
        io_uring_prep_readv(sqe, io->remembered ? FILE_CACHED : FILE_DIRECT, io->iov, io->n_iov,
                            io->offset);
        d->disk.bytes_read += io->len;
        break;
    case DISK_WRITE:
        io_uring_prep_writev(sqe, FILE_DIRECT, io->iov, io->n_iov, io->offset);
        d->disk.bytes_written += io->len;
        break;
    case DISK_WRITE_DURABLE:
        io_uring_prep_writev2(sqe, FILE_DIRECT, io->iov, io->n_iov, io->offset, RWF_DSYNC);
        d->disk.bytes_written += io->len;
        d->disk.flushes++;
        break;
    case DISK_FLUSH:
        io_uring_prep_fsync(sqe, FILE_DIRECT, IORING_FSYNC_DATASYNC);
        d->disk.flushes++;
        break;
    }
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, io);
    d->in_flight++;
    return true;
}

static void fill(struct disk_uring *d)
{
    while (!STAILQ_EMPTY(&d->waiting)) {
        struct disk_io *io = STAILQ_FIRST(&d->waiting);
        if (!prepare(d, io))
            return;
        STAILQ_REMOVE_HEAD(&d->waiting, link);
    }
}

static void reap(struct disk_uring *d)
{
    struct io_uring_cqe *cqes[REAP_MAX];
    unsigned n;
    while ((n = io_uring_peek_batch_cqe(&d->ring, cqes, REAP_MAX)) > 0) {
        struct disk_io *done[REAP_MAX];
        for (unsigned i = 0; i < n; i++) {
            done[i] = io_uring_cqe_get_data(cqes[i]);
            done[i]->error = result_error(d, done[i], cqes[i]->res);
        }
        io_uring_cq_advance(&d->ring, n);
        d->in_flight -= n;
        for (unsigned i = 0; i < n; i++)
            done[i]->done(done[i]);
    }
    if (!STAILQ_EMPTY(&d->waiting))
        env_defer(d->env, &d->task);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    reap(poll->data);
}

static void hand_over(struct disk_uring *d)
{
    int n;
    do
        n = io_uring_submit(&d->ring);
    while (n == -EINTR);
    if (n == -EAGAIN || n == -EBUSY)
        env_defer(d->env, &d->task);
}

/* What the system remembered is there at once. */
static void submit_run(struct env_task *task)
{
    struct disk_uring *d = container_of(task, struct disk_uring, task);
    fill(d);
    hand_over(d);
    reap(d);
}

static void uring_submit(struct disk *disk, struct disk_io *io)
{
    struct disk_uring *d = container_of(disk, struct disk_uring, disk);
    assert(io->offset % DISK_BLOCK == 0 && io->len % DISK_BLOCK == 0);
    io->error = 0;
    if (!STAILQ_EMPTY(&d->waiting) || !prepare(d, io))
        STAILQ_INSERT_TAIL(&d->waiting, io, link);
    if ((io->op == DISK_READ && io_uring_sq_ready(&d->ring) >= SUBMIT_AT) ||
        (io->op == DISK_WRITE && io->len >= SUBMIT_BYTES))
        hand_over(d);
    else
        env_defer(d->env, &d->task);
}

static void uring_push(struct disk *disk)
{
    hand_over(container_of(disk, struct disk_uring, disk));
}

static int uring_sync_io(struct disk *disk, enum disk_op op, uint64_t offset, void *data,
                         size_t len)
{
    struct disk_uring *d = container_of(disk, struct disk_uring, disk);
    if (op == DISK_FLUSH)
        return fdatasync(d->fds[FILE_DIRECT]) < 0 ? -errno : 0;
    uint8_t *at = data;
    if (op != DISK_READ)
        return write_piece(d->fds[FILE_DIRECT], at, len, offset);
    while (len > 0) {
        ssize_t n = pread(d->fds[FILE_DIRECT], at, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static void close_files(struct disk_uring *d)
{
    for (int i = 0; i < FILES; i++) {
        if (d->fds[i] >= 0)
            close(d->fds[i]);
    }
}

static void poll_closed(uv_handle_t *handle)
{
    struct disk_uring *d = handle->data;
    io_uring_queue_exit(&d->ring);
    close_files(d);
    free(d);
}

static void uring_close(struct disk *disk)
{
    struct disk_uring *d = container_of(disk, struct disk_uring, disk);
    assert(d->in_flight == 0 && STAILQ_EMPTY(&d->waiting));
    uv_poll_stop(&d->poll);
    uv_close((uv_handle_t *)&d->poll, poll_closed);
}

static const struct disk_ops uring_ops = {
    .submit = uring_submit,
    .push = uring_push,
    .sync_io = uring_sync_io,
    .close = uring_close,
};

static int size_of(int fd, uint64_t *size)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISBLK(st.st_mode))
        return ioctl(fd, BLKGETSIZE64, size) < 0 ? -errno : 0;
    *size = (uint64_t)st.st_size;
    return S_ISREG(st.st_mode) ? 0 : -EINVAL;
}

static int open_files(struct disk_uring *d, const char *path)
{
    d->fds[FILE_CACHED] = -1;
    d->fds[FILE_DIRECT] = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (d->fds[FILE_DIRECT] < 0)
        return -errno;
    d->fds[FILE_CACHED] = open(path, O_RDONLY | O_CLOEXEC);
    if (d->fds[FILE_CACHED] < 0)
        return -errno;
    int error = posix_fadvise(d->fds[FILE_CACHED], 0, 0, POSIX_FADV_RANDOM);
    return error ? -error : size_of(d->fds[FILE_DIRECT], &d->disk.size);
}

static int open_ring(struct disk_uring *d)
{
    int error = io_uring_queue_init(RING_ENTRIES, &d->ring, IORING_SETUP_COOP_TASKRUN);
    if (error < 0)
        return error;
    error = io_uring_register_files(&d->ring, d->fds, FILES);
    if (error == 0)
        error = uv_poll_init(env_real_loop(d->env), &d->poll, d->ring.ring_fd);
    if (error < 0)
        io_uring_queue_exit(&d->ring);
    return error;
}

int disk_uring_open(struct env *env, const char *path, struct disk **out)
{
    struct disk_uring *d = calloc(1, sizeof *d);
    if (!d)
        return -ENOMEM;
    d->disk.ops = &uring_ops;
    d->env = env;
    d->task.run = submit_run;
    STAILQ_INIT(&d->waiting);
    int error = open_files(d, path);
    d->disk.size -= d->disk.size % DISK_BLOCK;
    if (error == 0)
        error = open_ring(d);
    if (error < 0) {
        close_files(d);
        free(d);
        return error;
    }
    d->poll.data = d;
    uv_poll_start(&d->poll, UV_READABLE, on_readable);
    *out = &d->disk;
    return 0;
}

int disk_file_create(const char *path, uint64_t size, bool allocate)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int error = allocate ? posix_fallocate(fd, 0, (off_t)size) : 0;
    if (!allocate && ftruncate(fd, (off_t)size) < 0)
        error = errno;
    if (error == 0 && fsync(fd) < 0)
        error = errno;
    close(fd);
    if (error)
        unlink(path);
    return -error;
}
