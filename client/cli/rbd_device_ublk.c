/*
 * limpet rbd device: the mapper of a ublk device. It makes the device, serves it (client/ublk/),
 * and removes it when somebody has stopped it: 'unmap', or a child of the mapper after SIGTERM, as
 * soon as nobody uses the device any more. A mapper that dies leaves the device behind: what is
 * asked of it waits, until the same image is mapped in the same way and the new mapper takes it
 * over.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/cli/rbd_device.h"
#include "client/ublk/control.h"
#include "client/ublk/server.h"

/* How often somebody who has the device open without a mount is looked for. */
enum { LOOK_AGAIN_MS = 1000, FIRST_INHERITED = 3 };

struct ublk_mapper {
    struct device_entry *entry;
    struct limpet_image *image;
    struct ublk_server *server;
    char device[DEVICE_NAME_MAX];
    int channel, resized, signals;
    pid_t stopper;
    bool lives, unwanted;
};

bool ublk_is_there(const char **why)
{
    struct ublk_control control;
    int rc = ublk_control_open(&control);
    if (rc == 0)
        ublk_control_close(&control);
    *why = rc == -ENOENT ? "there is no " UBLK_CONTROL_PATH "; 'modprobe ublk_drv' makes it, where "
                           "the kernel has that module"
           : rc == -EOPNOTSUPP ? "this kernel's ublk is older than Linux 6.5"
           : rc == -EPERM      ? UBLK_CONTROL_PATH
               " or io_uring is forbidden to us; see sysctl kernel.io_uring_disabled"
                          : error_phrase(rc);
    return rc == 0;
}

/* ---- Stopping ---- */

/* Nobody has it mounted, or open for himself; and nobody can meanwhile. */
static int claim(const char *device)
{
    int fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

/*
 * The descriptor must go before the device can. While it is open the number is that device's, which
 * may be another one by now (U5).
 */
static int stop_and_close(unsigned number, uint64_t mark, int fd)
{
    struct ublk_control control;
    struct ublksrv_ctrl_dev_info info;
    int rc = ublk_control_open(&control);
    if (rc == 0) {
        rc = ublk_control_info(&control, number, &info);
        if (rc == 0)
            rc = info.ublksrv_flags == mark ? ublk_control_stop(&control, number) : -ENODEV;
        ublk_control_close(&control);
    }
    close(fd);
    return rc;
}

/* In a child, which has none of the mapper's descriptors, and nothing of the library. */
_Noreturn static void stop_when_unused(const struct ublk_mapper *m, unsigned number, pid_t mapper)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != mapper)
        _exit(1); /* It died before that. */
    close_range(FIRST_INHERITED, ~0U, 0);
    struct pollfd mounts = {.fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC),
                            .events = POLLPRI};
    int fd;
    while ((fd = claim(m->device)) == -EBUSY)
        poll(&mounts, 1, LOOK_AGAIN_MS);
    _exit(fd >= 0 && stop_and_close(number, m->entry->mark, fd) != 0);
}

static void start_stopping(struct ublk_mapper *m)
{
    if (m->stopper > 0)
        return;
    pid_t mapper = getpid();
    m->stopper = fork();
    if (m->stopper == 0)
        stop_when_unused(m, ublk_server_number(m->server), mapper);
    if (m->stopper < 0)
        complain(EAGAIN, "no process that stops the device: %s", error_phrase(EAGAIN));
}

/* ---- Events ---- */

static void device_started(void *arg, int rc, unsigned number)
{
    struct ublk_mapper *m = arg;
    struct device_entry entry = *m->entry;
    if (rc != 0)
        return;
    m->lives = true;
    snprintf(m->device, sizeof m->device, "/dev/ublkb%u", number);
    snprintf(entry.device, sizeof entry.device, "%s", m->device);
    entry.pid = getpid();
    device_entry_save(&entry);
    if (m->unwanted)
        start_stopping(m);
    else
        (void)!send(m->channel, m->device, strlen(m->device) + 1, MSG_NOSIGNAL);
}

/* The parent has heard the name; or it has ended before. */
static void channel_is_ready(void *arg)
{
    struct ublk_mapper *m = arg;
    char name[DEVICE_NAME_MAX];
    if (recv(m->channel, name, sizeof name, 0) > 0) {
        mapper_leave_terminal(m->entry);
        (void)!send(m->channel, "", 1, MSG_NOSIGNAL);
    } else {
        m->unwanted = true;
        if (m->lives)
            start_stopping(m);
    }
    ublk_server_unwatch(m->server, m->channel);
    close(m->channel);
    m->channel = -1;
}

static void signal_is_ready(void *arg)
{
    struct ublk_mapper *m = arg;
    struct signalfd_siginfo info;
    if (read(m->signals, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    if (info.ssi_signo == SIGTERM && m->lives)
        start_stopping(m);
    if (info.ssi_signo == SIGCHLD && m->stopper > 0 &&
        waitpid(m->stopper, NULL, WNOHANG) == m->stopper)
        m->stopper = 0;
}

static void follow_size(void *arg)
{
    struct ublk_mapper *m = arg;
    struct limpet_image_info info;
    eventfd_t times;
    if (eventfd_read(m->resized, &times) != 0 || limpet_image_info(m->image, &info) != 0)
        return;
    int rc = ublk_server_resize(m->server, info.size);
    if (rc != 0)
        complain(rc,
                 "the image has %llu bytes now; before Linux 6.16 a ublk device keeps its size "
                 "until the image is unmapped and mapped again",
                 (unsigned long long)info.size);
}

/* On the library's thread. */
static void header_changed(void *arg)
{
    const struct ublk_mapper *m = arg;
    (void)!eventfd_write(m->resized, 1);
}

static void follow_events(struct ublk_mapper *m, sigset_t *signals)
{
    uint64_t cookie;
    sigaddset(signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, signals, NULL);
    m->signals = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
    m->resized = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->signals < 0 || m->resized < 0)
        fail(errno, "map failed: %s", error_phrase(errno));
    ublk_server_watch(m->server, m->channel, channel_is_ready, m);
    ublk_server_watch(m->server, m->signals, signal_is_ready, m);
    ublk_server_watch(m->server, m->resized, follow_size, m);
    if (m->entry->read_only)
        return;
    int rc = limpet_image_watch(m->image, header_changed, m, &cookie);
    if (rc != 0)
        fail(rc, "map failed: watching the header: %s", error_phrase(rc));
    (void)!eventfd_write(m->resized, 1);
}

/* ---- The process ---- */

/*
 * What a dead mapper had under way may be done again by the next one if the dead one cannot come in
 * between any more: the exclusive lock, which is taken from it first, sees to that.
 */
static bool fences(struct limpet_image *image, bool read_only)
{
    struct limpet_image_info info;
    rbd_info(image, &info);
    return read_only || (info.features & LIMPET_IMAGE_EXCLUSIVE_LOCK) != 0;
}

static int serve(struct ublk_mapper *m, struct cli *cli, const struct device_options *options,
                 sigset_t *signals)
{
    const struct ublk_server_options server = {
        .cluster = cli->cluster,
        .image = m->image,
        .read_only = options->read_only,
        .block_size = options->block_size,
        .mark = m->entry->mark,
        .reissues = fences(m->image, options->read_only),
        .recovers = m->entry->recovers,
        .started = device_started,
        .arg = m,
    };
    int rc = ublk_server_create(&server, &m->server);
    if (rc != 0)
        fail(rc, "map failed: ublk: %s", error_phrase(rc));
    follow_events(m, signals);
    if (chdir("/") != 0)
        return -errno;
    return ublk_server_run(m->server);
}

int ublk_mapper_run(struct cli *cli, struct device_entry *entry, struct device_options *options,
                    int channel)
{
    struct ublk_mapper m = {.entry = entry, .channel = channel};
    sigset_t signals;
    mapper_begin(&signals);
    struct limpet_pool *pool = rbd_pool(cli, &entry->spec);
    m.image = rbd_image(pool, &entry->spec, !options->read_only);
    rbd_encryption_use(&options->encryption, m.image);
    mapper_take_lock(m.image, entry, options);
    int rc = serve(&m, cli, options, &signals);
    /* One that lives, and cannot be served any more, waits for another mapper. */
    if (m.lives)
        entry->recovers = rc != 0;
    if (rc != 0)
        complain(rc, "%sublk: %s", m.lives ? "" : "map failed: ", error_phrase(rc));
    int closing = limpet_image_close(m.image);
    if (closing != 0)
        complain(closing, "closing the image: %s", error_phrase(closing));
    ublk_server_destroy(m.server);
    limpet_pool_close(pool);
    return rc != 0 ? -rc : -closing;
}

/* ---- From outside ---- */

static bool find(struct ublk_control *control, const struct device_entry *entry,
                 struct ublksrv_ctrl_dev_info *info)
{
    if (entry->mark == 0 || ublk_control_open(control) != 0)
        return false;
    bool found = ublk_control_find(control, entry->mark, info) == 0;
    if (!found)
        ublk_control_close(control);
    return found;
}

bool ublk_is_orphan(const struct device_entry *entry)
{
    struct ublk_control control;
    struct ublksrv_ctrl_dev_info info;
    char text[DEVICE_TEXT_MAX];
    if (entry->device[0] == 0 || !find(&control, entry, &info))
        return false;
    ublk_control_close(&control);
    if (info.state == UBLK_S_DEV_DEAD || (info.flags & UBLK_HAS_USER_RECOVERY) == 0)
        return false;
    if (device_used(entry->device, text))
        return true;
    int fd = claim(entry->device);
    if (fd >= 0)
        close(fd);
    return fd == -EBUSY;
}

void ublk_remove(const struct device_entry *entry)
{
    struct ublk_control control;
    struct ublksrv_ctrl_dev_info info;
    if (!find(&control, entry, &info))
        return;
    int rc = ublk_control_stop(&control, info.dev_id);
    if (rc == 0)
        rc = ublk_control_delete(&control, info.dev_id);
    ublk_control_close(&control);
    if (rc != 0 && rc != -ENODEV)
        complain(rc, "/dev/ublkc%u is left from a mapper that died: %s", info.dev_id,
                 error_phrase(rc));
}

int ublk_detach(const struct device_entry *entry, bool force)
{
    uint32_t number;
    if (force) {
        /* It may wait for a cluster that does not answer; the device would wait for it. */
        if (!entry->orphan && kill(entry->pid, SIGKILL) == 0)
            device_entry_wait(entry, -1);
        ublk_remove(entry);
        return 0;
    }
    int fd = claim(entry->device);
    if (fd < 0)
        return fd;
    if (entry->orphan || !ublk_number_of(entry->device, "/dev/ublkb", &number)) {
        close(fd);
        ublk_remove(entry);
        return 0;
    }
    return stop_and_close(number, entry->mark, fd);
}
