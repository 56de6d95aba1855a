/*
 * limpet rbd device: the mapper, which shows an image as a file that a loop device can lie on.
 *
 * The file is the whole of a FUSE file system, mounted over an empty file. The main thread takes
 * the kernel's requests and makes them requests of the image, as many as there are at a time; they
 * are answered by the library's thread. A write that is answered is durable, so that fsync, which a
 * flush of the device becomes, is a barrier. Discards and zeroes come as fallocate().
 *
 * A second thread follows the image's size, the parent and SIGTERM. What it does to the device is
 * done by children: a thread of the mapper that waits for the device would wait for the mapper, and
 * when the mapper is killed then, it could never end, nor the device.
 *
 * The mapper ends when the file is unmounted. SIGTERM makes that happen as soon as nobody uses the
 * device any more.
 */
#define FUSE_USE_VERSION 35
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/falloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/cli/rbd_device.h"

enum {
    REQUESTS_MAX = 256,    /* Of the kernel, at a time. */
    BLOCK = 4096,          /* That stat() tells. */
    DISCARD_UNIT = 65536,  /* What the image gives space back in. */
    COMPLAINTS_MAX = 1000, /* Lines in the log. */
};

struct mapper {
    const struct device_entry *entry;
    struct limpet_image *image;
    bool read_only;
    struct fuse_session *session;
    char file[DEVICE_PATH_MAX];
    char device[DEVICE_NAME_MAX]; /* "" until the parent has told. */
    int channel, resized, stop;   /* Sockets and events that the second thread waits for. */
    int signals;
    uint64_t size; /* That the device has. */
    pthread_t follower;
};

/* libfuse has no argument for its own messages. */
static char fuse_message[256];

/* ---- Requests ---- */

struct request {
    fuse_req_t fuse;
    bool reads;
    char data[];
};

static void complain_of(const char *what, ssize_t rc)
{
    static _Atomic unsigned complaints;
    if (complaints++ < COMPLAINTS_MAX)
        complain((int)rc, "%s: %s", what, error_phrase((int)rc));
}

/* What a file system on the device is told. */
static int error_of(ssize_t rc)
{
    if (rc == -ENOSPC || rc == -EDQUOT)
        return ENOSPC;
    return rc == -ENOMEM || rc == -EOPNOTSUPP ? (int)-rc : EIO;
}

/* On the library's thread. */
static void ended(ssize_t rc, void *arg)
{
    struct request *r = arg;
    if (rc < 0) {
        complain_of(r->reads ? "read" : "write", rc);
        fuse_reply_err(r->fuse, error_of(rc));
    } else if (r->reads) {
        fuse_reply_buf(r->fuse, r->data, (size_t)rc);
    } else {
        fuse_reply_err(r->fuse, 0);
    }
    free(r);
}

static void written(ssize_t rc, void *arg)
{
    struct request *r = arg;
    if (rc < 0) {
        ended(rc, r);
        return;
    }
    fuse_reply_write(r->fuse, (size_t)rc);
    free(r);
}

static struct request *request_create(fuse_req_t fuse, bool reads, size_t size)
{
    struct request *r = malloc(sizeof *r + size);
    if (r == NULL) {
        fuse_reply_err(fuse, ENOMEM);
        return NULL;
    }
    r->fuse = fuse;
    r->reads = reads;
    return r;
}

static void started(int rc, struct request *r)
{
    if (rc != 0)
        ended(rc, r);
}

static void do_read(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    const struct mapper *m = fuse_req_userdata(fuse);
    struct request *r = request_create(fuse, true, size);
    (void)ino, (void)info;
    if (r != NULL)
        started(limpet_image_aio_read(m->image, r->data, size, (uint64_t)offset, 0, ended, r), r);
}

static void do_write(fuse_req_t fuse, fuse_ino_t ino, const char *data, size_t size, off_t offset,
                     struct fuse_file_info *info)
{
    const struct mapper *m = fuse_req_userdata(fuse);
    struct request *r = request_create(fuse, false, 0);
    (void)ino, (void)info;
    if (r != NULL)
        started(limpet_image_aio_write(m->image, data, size, (uint64_t)offset, 0, written, r), r);
}

static void do_fsync(fuse_req_t fuse, fuse_ino_t ino, int data_only, struct fuse_file_info *info)
{
    const struct mapper *m = fuse_req_userdata(fuse);
    struct request *r = request_create(fuse, false, 0);
    (void)ino, (void)data_only, (void)info;
    if (r != NULL)
        started(limpet_image_aio_flush(m->image, ended, r), r);
}

static void do_fallocate(fuse_req_t fuse, fuse_ino_t ino, int mode, off_t offset, off_t len,
                         struct fuse_file_info *info)
{
    const struct mapper *m = fuse_req_userdata(fuse);
    bool discards = mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    bool zeroes = (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE;
    (void)ino, (void)info;
    if (!discards && !zeroes) {
        fuse_reply_err(fuse, EOPNOTSUPP);
        return;
    }
    struct request *r = request_create(fuse, false, 0);
    if (r == NULL)
        return;
    uint64_t at = (uint64_t)offset, n = (uint64_t)len;
    started(discards ? limpet_image_aio_discard(m->image, n, at, ended, r)
                     : limpet_image_aio_write_zeroes(m->image, n, at, LIMPET_IMAGE_ZEROES_WRITTEN,
                                                     ended, r),
            r);
}

/* ---- The file ---- */

static void do_init(void *userdata, struct fuse_conn_info *connection)
{
    (void)userdata;
    connection->max_background = connection->congestion_threshold = REQUESTS_MAX;
}

static void do_getattr(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info)
{
    const struct mapper *m = fuse_req_userdata(fuse);
    struct limpet_image_info image;
    (void)ino, (void)info;
    int rc = limpet_image_info(m->image, &image);
    if (rc != 0) {
        fuse_reply_err(fuse, EIO);
        return;
    }
    struct stat st = {.st_ino = FUSE_ROOT_ID,
                      .st_mode = S_IFREG | (m->read_only ? 0400 : 0600),
                      .st_nlink = 1,
                      .st_size = (off_t)image.size,
                      .st_blksize = BLOCK};
    /* Not to be remembered: the size changes. */
    fuse_reply_attr(fuse, &st, 0);
}

static void do_open(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info)
{
    const struct mapper *m = fuse_req_userdata(fuse);
    (void)ino;
    if (m->read_only && (info->flags & O_ACCMODE) != O_RDONLY) {
        fuse_reply_err(fuse, EROFS);
        return;
    }
    /* The device has a cache, which others do not see behind: one is enough. */
    info->direct_io = 1;
    fuse_reply_open(fuse, info);
}

/* From it the loop device has the granularity of discards. */
static void do_statfs(fuse_req_t fuse, fuse_ino_t ino)
{
    struct statvfs st = {.f_bsize = DISCARD_UNIT, .f_frsize = DISCARD_UNIT, .f_namemax = 255};
    (void)ino;
    fuse_reply_statfs(fuse, &st);
}

static const struct fuse_lowlevel_ops operations = {
    .init = do_init,
    .getattr = do_getattr,
    .open = do_open,
    .read = do_read,
    .write = do_write,
    .fsync = do_fsync,
    .fallocate = do_fallocate,
    .statfs = do_statfs,
};

static void take_fuse_message(enum fuse_log_level level, const char *format, va_list args)
{
    (void)level;
    vsnprintf(fuse_message, sizeof fuse_message, format, args);
    fuse_message[strcspn(fuse_message, "\n")] = 0;
}

static void mount_file(struct mapper *m)
{
    char *arguments[] = {"limpet", "-o", "fsname=limpet,subtype=limpet,nosuid,nodev", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, arguments);
    int fd = open(m->file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        fail(errno, "%s: %s", m->file, error_phrase(errno));
    close(fd);
    fuse_set_log_func(take_fuse_message);
    m->session = fuse_session_new(&args, &operations, sizeof operations, m);
    if (m->session == NULL || fuse_session_mount(m->session, m->file) != 0)
        fail(ENODEV, "map failed: no FUSE mount: %s",
             fuse_message[0] != 0 ? fuse_message : "unknown reason");
    fuse_opt_free_args(&args);
}

/* ---- The second thread ---- */

/* In a process of its own, which has none of this one's descriptors. */
static void run_apart(struct mapper *m, void (*function)(struct mapper *m))
{
    pid_t pid = fork();
    if (pid == 0) {
        close_range(3, ~0U, 0);
        function(m);
        _exit(0);
    }
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

/* stat() makes the kernel ask for the file's size. */
static void set_capacity(struct mapper *m)
{
    struct stat st;
    if (stat(m->file, &st) == 0)
        (void)!loop_set_capacity(m->device);
}

static void follow_size(struct mapper *m)
{
    struct limpet_image_info info;
    if (m->device[0] == 0 || limpet_image_info(m->image, &info) != 0 || info.size == m->size)
        return;
    m->size = info.size;
    run_apart(m, set_capacity);
}

static void let_go(struct mapper *m)
{
    loop_detach_all(m->file);
    umount2(m->file, MNT_DETACH);
}

void mapper_leave_terminal(const struct device_entry *entry)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log =
        open(device_entry_path(entry, "log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(log >= 0 ? log : null, STDERR_FILENO);
        close(null);
    }
    if (log >= 0)
        close(log);
}

/* The name of the device; or the end of the parent, which has not got one. */
static void read_channel(struct mapper *m)
{
    ssize_t n = recv(m->channel, m->device, sizeof m->device - 1, 0);
    if (n > 0 && m->device[n - 1] == 0) {
        mapper_leave_terminal(m->entry);
        (void)!send(m->channel, "", 1, MSG_NOSIGNAL);
        follow_size(m);
    } else {
        m->device[0] = 0;
        run_apart(m, let_go);
    }
    close(m->channel);
    m->channel = -1;
}

static void *follow(void *arg)
{
    struct mapper *m = arg;
    struct pollfd fds[] = {{.fd = m->channel, .events = POLLIN},
                           {.fd = m->resized, .events = POLLIN},
                           {.fd = m->signals, .events = POLLIN},
                           {.fd = m->stop, .events = POLLIN}};
    for (;;) {
        uint64_t count;
        struct signalfd_siginfo signal;
        fds[0].fd = m->channel;
        if (poll(fds, sizeof fds / sizeof fds[0], -1) < 0)
            continue;
        if (fds[3].revents != 0)
            return NULL;
        if (fds[0].revents != 0)
            read_channel(m);
        if (fds[1].revents != 0 && read(m->resized, &count, sizeof count) > 0)
            follow_size(m);
        if (fds[2].revents != 0 && read(m->signals, &signal, sizeof signal) > 0)
            run_apart(m, let_go);
    }
}

/* On the library's thread. */
static void header_changed(void *arg)
{
    const struct mapper *m = arg;
    (void)!eventfd_write(m->resized, 1);
}

static void start_following(struct mapper *m, const sigset_t *signals)
{
    m->resized = eventfd(0, EFD_CLOEXEC);
    m->stop = eventfd(0, EFD_CLOEXEC);
    m->signals = signalfd(-1, signals, SFD_CLOEXEC);
    if (m->resized < 0 || m->stop < 0 || m->signals < 0 ||
        pthread_create(&m->follower, NULL, follow, m) != 0)
        fail(EAGAIN, "map failed: no thread: %s", error_phrase(EAGAIN));
    if (m->read_only)
        return;
    uint64_t cookie;
    int rc = limpet_image_watch(m->image, header_changed, m, &cookie);
    if (rc != 0)
        fail(rc, "map failed: watching the header: %s", error_phrase(rc));
}

static void stop_following(struct mapper *m)
{
    (void)!eventfd_write(m->stop, 1);
    pthread_join(m->follower, NULL);
}

/* ---- The process ---- */

/* The parent's interrupts are not its own; SIGTERM waits until there is something to end. */
void mapper_begin(sigset_t *signals)
{
    sigset_t others;
    setsid();
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    others = *signals;
    sigaddset(&others, SIGINT);
    sigaddset(&others, SIGHUP);
    sigprocmask(SIG_BLOCK, &others, NULL);
    /* Memory that is short must neither wait for the device nor be taken from the mapper. */
    prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    FILE *file = fopen("/proc/self/oom_score_adj", "we");
    if (file != NULL) {
        fputs("-1000", file);
        fclose(file);
    }
}

/*
 * Whoever has the image and keeps it is not disturbed, as the kernel's rbd has it: the lock is
 * taken once, to see that it can be had.
 */
void mapper_take_lock(struct limpet_image *image, const struct device_entry *entry,
                      const struct device_options *options)
{
    struct limpet_image_info info;
    rbd_info(image, &info);
    bool has_lock = info.features & LIMPET_IMAGE_EXCLUSIVE_LOCK;
    if (options->exclusive && !has_lock)
        fail(EINVAL,
             "map failed: the image has no exclusive lock; 'limpet rbd feature enable %s "
             "exclusive-lock' gives it one",
             entry->spec.name);
    if (options->read_only || !has_lock)
        return;
    int rc = limpet_image_lock_acquire(image);
    if (rc == 0 && !options->exclusive)
        rc = limpet_image_lock_release(image);
    if (rc == -EBUSY || rc == -EROFS)
        fail(EROFS,
             "map failed: %s: another client keeps the exclusive lock; 'limpet rbd lock ls %s' "
             "shows who",
             error_phrase(EROFS), rbd_spec_text(&entry->spec));
    if (rc != 0)
        fail(rc, "map failed: the exclusive lock: %s", error_phrase(rc));
}

int mapper_run(struct cli *cli, const struct device_entry *entry, struct device_options *options,
               int channel)
{
    struct mapper m = {.entry = entry, .read_only = options->read_only, .channel = channel};
    sigset_t signals;
    mapper_begin(&signals);
    snprintf(m.file, sizeof m.file, "%s", device_entry_path(entry, "image"));
    struct limpet_pool *pool = rbd_pool(cli, &entry->spec);
    m.image = rbd_image(pool, &entry->spec, !m.read_only);
    rbd_encryption_use(&options->encryption, m.image);
    mapper_take_lock(m.image, entry, options);
    struct limpet_image_info info;
    rbd_info(m.image, &info);
    m.size = info.size;
    mount_file(&m);
    start_following(&m, &signals);
    if (chdir("/") != 0 || send(channel, "", 1, MSG_NOSIGNAL) != 1)
        run_apart(&m, let_go);
    fuse_session_loop(m.session);
    stop_following(&m);
    fuse_session_unmount(m.session);
    fuse_session_destroy(m.session);
    int rc = limpet_image_close(m.image);
    if (rc != 0)
        complain(rc, "closing the image: %s", error_phrase(rc));
    limpet_pool_close(pool);
    return -rc;
}
