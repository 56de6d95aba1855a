#include "client/ublk/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <unistd.h>

#include "client/ublk/plan.h"

enum {
    DEPTH = 128,              /* Requests of the kernel, at a time. */
    BUFFER = 512 << 10,       /* Bytes of one. */
    DISCARD_MAX = 32 << 20,   /* Bytes that are discarded or zeroed by one. */
    DISCARD_UNIT = 64 << 10,  /* What the image gives space back in. */
    RUNNING_PIECES_MAX = 768, /* What objects are asked: less than what makes the library wait. */
    PIECES_MAX = 64,          /* Of one request, at a time; the library's IMAGE_PIECES_MAX. */
    RECOVERY_MS = 10000,      /* For the kernel to see that a server has died; */
    RECOVERY_LOOK_MS = 20,    /* it tells nobody when it has. */
    AGAIN_MS = 10,            /* After a submission that the kernel had no memory for. */
    COMPLAINTS_MAX = 1000,
    PASSES_MAX = 16, /* Of a round. */
    BLOCK = 4096,    /* What the image writes best. */
};

struct slot {
    struct ublk_server *server;
    uint16_t tag;
    struct ublk_plan plan;
    ssize_t result;
    STAILQ_ENTRY(slot) link; /* Of `waiting` or of `elsewhere`. */
};
STAILQ_HEAD(slots, slot);

struct watch {
    void (*ready)(void *arg);
    void *arg;
};

enum { FD_RING, FD_CONTROL, FD_WAKE, FD_WATCHES };

struct ublk_server {
    struct ublk_server_options options;
    struct ublk_control control;
    struct ublksrv_ctrl_dev_info info;
    pthread_t thread;
    int device; /* /dev/ublkcN */
    struct io_uring ring;
    bool has_ring;
    const struct ublksrv_io_desc *descs; /* The kernel's. */
    size_t descs_len;
    uint8_t *buffers;
    size_t buffers_len;
    struct slot *slots;
    unsigned served; /* Tags that the kernel has not taken back. */
    uint64_t unit;   /* Bytes of the image that are in one object, one after the other. */
    unsigned running_pieces;
    struct slots waiting;
    unsigned complaints;
    bool sends_again; /* The last submission failed. */
    int error;        /* It cannot go on. */

    /* What the control device was asked last. */
    unsigned asked;       /* A command, or 0. */
    bool lives;           /* The device has begun. */
    uint64_t size, wants; /* That the device has, and shall have. */

    struct pollfd fds[FD_WATCHES + UBLK_WATCHES_MAX];
    struct watch watches[UBLK_WATCHES_MAX];
    unsigned n_watches;

    pthread_mutex_t lock; /* Of: */
    struct slots elsewhere;
};

static void complain_of(struct ublk_server *s, const char *what, int error)
{
    if (s->complaints == COMPLAINTS_MAX)
        return;
    s->complaints++;
    fprintf(stderr, "limpet: %s: %s%s\n", what, limpet_error_text(error),
            s->complaints == COMPLAINTS_MAX ? "; further failures are not shown" : "");
}

/* ---- Requests ---- */

static uint8_t *buffer_of(const struct slot *slot)
{
    return slot->server->buffers + (size_t)slot->tag * slot->server->info.max_io_buf_bytes;
}

/* Into the ring, from where it leaves with the next submission (U2). */
static void hand_over(struct slot *slot, unsigned op, int32_t result)
{
    struct ublk_server *s = slot->server;
    const struct ublksrv_io_cmd command = {
        .tag = slot->tag, .result = result, .addr = (uintptr_t)buffer_of(slot)};
    struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);
    assert(sqe != NULL);
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, s->device, NULL, 0, 0);
    sqe->cmd_op = op;
    memcpy(sqe->cmd, &command, sizeof command);
    io_uring_sqe_set_data64(sqe, slot->tag);
}

static const char *name_of(enum ublk_action action)
{
    static const char *const names[] = {
        [UBLK_READS] = "read",          [UBLK_WRITES] = "write",
        [UBLK_FLUSHES] = "flush",       [UBLK_DISCARDS] = "discard",
        [UBLK_ZEROES] = "write zeroes", [UBLK_ZEROES_WRITTEN] = "write zeroes"};
    return names[action];
}

static unsigned pieces_of(const struct slot *slot)
{
    return ublk_pieces(&slot->plan, slot->server->unit, PIECES_MAX);
}

static void end(struct slot *slot)
{
    struct ublk_server *s = slot->server;
    unsigned pieces = pieces_of(slot);
    assert(s->running_pieces >= pieces);
    s->running_pieces -= pieces;
    int32_t result = ublk_result(&slot->plan, slot->result);
    if (result < 0)
        complain_of(s, name_of(slot->plan.action), slot->result < 0 ? (int)slot->result : result);
    hand_over(slot, UBLK_OP_COMMIT_AND_FETCH_REQ, result);
}

static void wake(struct ublk_server *s)
{
    (void)!eventfd_write(s->fds[FD_WAKE].fd, 1);
}

/* On the server's thread, also inside of the submission; or on another one (U1). */
static void ended(ssize_t result, void *arg)
{
    struct slot *slot = arg;
    struct ublk_server *s = slot->server;
    slot->result = result;
    if (pthread_equal(pthread_self(), s->thread)) {
        end(slot);
        return;
    }
    pthread_mutex_lock(&s->lock);
    bool first = STAILQ_EMPTY(&s->elsewhere);
    STAILQ_INSERT_TAIL(&s->elsewhere, slot, link);
    pthread_mutex_unlock(&s->lock);
    if (first)
        wake(s);
}

static void gather(struct ublk_server *s)
{
    struct slots list = STAILQ_HEAD_INITIALIZER(list);
    struct slot *slot;
    pthread_mutex_lock(&s->lock);
    STAILQ_CONCAT(&list, &s->elsewhere);
    pthread_mutex_unlock(&s->lock);
    while ((slot = STAILQ_FIRST(&list)) != NULL) {
        STAILQ_REMOVE_HEAD(&list, link);
        end(slot);
    }
}

static int submit(struct slot *slot)
{
    struct limpet_image *image = slot->server->options.image;
    const struct ublk_plan *p = &slot->plan;
    switch (p->action) {
    case UBLK_READS:
        return limpet_image_aio_read(image, buffer_of(slot), p->len, p->offset, 0, ended, slot);
    case UBLK_WRITES:
        return limpet_image_aio_write(image, buffer_of(slot), p->len, p->offset, 0, ended, slot);
    case UBLK_FLUSHES:
        return limpet_image_aio_flush(image, ended, slot);
    case UBLK_DISCARDS:
        return limpet_image_aio_discard(image, p->len, p->offset, ended, slot);
    default:
        return limpet_image_aio_write_zeroes(
            image, p->len, p->offset,
            p->action == UBLK_ZEROES_WRITTEN ? LIMPET_IMAGE_ZEROES_WRITTEN : 0, ended, slot);
    }
}

/* Those that the limit lets go, in the order of their coming. */
static void go_on(struct ublk_server *s)
{
    struct slot *slot;
    while ((slot = STAILQ_FIRST(&s->waiting)) != NULL) {
        unsigned pieces = pieces_of(slot);
        if (s->running_pieces > 0 && s->running_pieces + pieces > RUNNING_PIECES_MAX)
            return;
        STAILQ_REMOVE_HEAD(&s->waiting, link);
        s->running_pieces += pieces;
        int rc = submit(slot);
        if (rc != 0)
            ended(rc, slot);
    }
}

static void take_request(struct slot *slot)
{
    struct ublk_server *s = slot->server;
    const struct ublksrv_io_desc desc = s->descs[slot->tag];
    int rc = ublk_plan(&desc, s->options.read_only, s->info.max_io_buf_bytes, &slot->plan);
    if (rc == 0)
        STAILQ_INSERT_TAIL(&s->waiting, slot, link);
    else
        hand_over(slot, UBLK_OP_COMMIT_AND_FETCH_REQ, rc);
}

/* Of the ring: requests, and tags that come back because the device was stopped. */
static bool take_completions(struct ublk_server *s)
{
    struct io_uring_cqe *cqe;
    bool any = false;
    while (io_uring_peek_cqe(&s->ring, &cqe) == 0) {
        uint64_t tag = io_uring_cqe_get_data64(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&s->ring, cqe);
        any = true;
        assert(tag < s->info.queue_depth);
        if (result == UBLK_IO_RES_OK) {
            take_request(&s->slots[tag]);
            continue;
        }
        assert(s->served > 0);
        s->served--;
        if (result != UBLK_IO_RES_ABORT && s->error == 0)
            s->error = result < 0 ? result : -EIO;
    }
    return any;
}

static void send_all(struct ublk_server *s)
{
    int rc = io_uring_sq_ready(&s->ring) > 0 ? io_uring_submit(&s->ring) : 0;
    bool later = rc == -EAGAIN || rc == -EBUSY || rc == -EINTR || rc == -ENOMEM;
    s->sends_again = rc < 0 && later;
    if (rc < 0 && !later && s->error == 0)
        s->error = rc;
}

/* Requests that are over at once could go on for ever: the network is looked at in between. */
static void go_round(struct ublk_server *s)
{
    unsigned passes = 0;
    bool more;
    do {
        more = take_completions(s);
        gather(s);
        go_on(s);
        send_all(s);
        /* What the library has ended at once lets others go on. */
        more |= io_uring_cq_ready(&s->ring) > 0;
    } while (more && s->error == 0 && ++passes < PASSES_MAX);
}

/* ---- The device ---- */

static void ask(struct ublk_server *s, unsigned op, uint64_t data)
{
    int rc = ublk_control_begin(&s->control, op, s->info.dev_id, data, NULL, 0);
    if (rc == 0)
        s->asked = op;
    else if (op == UBLK_OP_UPDATE_SIZE)
        complain_of(s, "the size of the device", rc);
    else
        s->error = rc;
}

static void follow_size(struct ublk_server *s)
{
    bool same = s->wants / UBLK_SECTOR == s->size / UBLK_SECTOR;
    if (s->asked != 0 || !s->lives || same || (s->control.features & UBLK_HAS_UPDATE_SIZE) == 0)
        return;
    s->size = s->wants;
    ask(s, UBLK_OP_UPDATE_SIZE, s->size / UBLK_SECTOR);
}

int ublk_server_resize(struct ublk_server *s, uint64_t size)
{
    if (size / UBLK_SECTOR == s->size / UBLK_SECTOR)
        return 0;
    if ((s->control.features & UBLK_HAS_UPDATE_SIZE) == 0)
        return -EOPNOTSUPP;
    s->wants = size;
    follow_size(s);
    return 0;
}

static void take_answer(struct ublk_server *s)
{
    int rc = ublk_control_wait(&s->control);
    unsigned op = s->asked;
    s->asked = 0;
    if (op == UBLK_OP_UPDATE_SIZE) {
        if (rc != 0)
            complain_of(s, "the size of the device", rc);
    } else {
        s->lives = rc == 0;
        if (rc != 0 && s->error == 0)
            s->error = rc;
        s->options.started(s->options.arg, rc, s->info.dev_id);
    }
    follow_size(s);
}

static unsigned shift_of(unsigned size)
{
    return (unsigned)__builtin_ctz(size);
}

static int set_params(struct ublk_server *s)
{
    const struct ublk_server_options *o = &s->options;
    struct ublk_params params = {.len = sizeof params,
                                 .types = UBLK_PARAM_TYPE_BASIC |
                                          (o->read_only ? 0 : UBLK_PARAM_TYPE_DISCARD),
                                 /* U3: neither a volatile cache nor FUA. */
                                 .basic = {.attrs = o->read_only ? UBLK_ATTR_READ_ONLY : 0,
                                           .logical_bs_shift = (uint8_t)shift_of(o->block_size),
                                           .physical_bs_shift = (uint8_t)shift_of(BLOCK),
                                           .io_opt_shift = (uint8_t)shift_of(DISCARD_UNIT),
                                           .io_min_shift = (uint8_t)shift_of(BLOCK),
                                           .max_sectors = s->info.max_io_buf_bytes / UBLK_SECTOR,
                                           .dev_sectors = s->size / UBLK_SECTOR},
                                 .discard = {.discard_granularity = DISCARD_UNIT,
                                             .max_discard_sectors = DISCARD_MAX / UBLK_SECTOR,
                                             .max_write_zeroes_sectors = DISCARD_MAX / UBLK_SECTOR,
                                             .max_discard_segments = 1}};
    return ublk_control_do(&s->control, UBLK_OP_SET_PARAMS, s->info.dev_id, 0, &params,
                           sizeof params);
}

static int add_device(struct ublk_server *s)
{
    uint64_t flags = UBLK_HAS_CMD_IOCTL_ENCODE | UBLK_HAS_USER_RECOVERY |
                     (s->options.reissues ? UBLK_HAS_USER_RECOVERY_REISSUE : 0);
    s->info = (struct ublksrv_ctrl_dev_info){.nr_hw_queues = 1,
                                             .queue_depth = DEPTH,
                                             .max_io_buf_bytes = BUFFER,
                                             .dev_id = UINT32_MAX,
                                             .flags = flags & s->control.features,
                                             .ublksrv_flags = s->options.mark};
    int rc = ublk_control_do(&s->control, UBLK_OP_ADD_DEV, UINT32_MAX, 0, &s->info, sizeof s->info);
    if (rc != 0)
        return rc;
    rc = set_params(s);
    if (rc != 0) {
        int ignored = ublk_control_delete(&s->control, s->info.dev_id);
        (void)ignored;
    }
    return rc;
}

/* The image may have got another size while nobody served the device. */
static void read_size(struct ublk_server *s)
{
    char path[64], line[32];
    snprintf(path, sizeof path, "/sys/block/ublkb%u/size", s->info.dev_id);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    if (fgets(line, sizeof line, file) != NULL)
        s->size = strtoull(line, NULL, 10) * UBLK_SECTOR;
    fclose(file);
}

/* The kernel answers EBUSY until it has taken back all that the dead server had. */
static int take_over_device(struct ublk_server *s)
{
    int rc = ublk_control_find(&s->control, s->options.mark, &s->info);
    for (int waited = 0; rc == 0; waited += RECOVERY_LOOK_MS) {
        rc = ublk_control_do(&s->control, UBLK_OP_START_USER_RECOVERY, s->info.dev_id, 0, NULL, 0);
        if (rc != -EBUSY || waited >= RECOVERY_MS)
            break;
        poll(NULL, 0, RECOVERY_LOOK_MS);
        rc = 0;
    }
    /* Said before, by one who died before it had fetched anything. */
    if (rc == -EINVAL && s->info.state == UBLK_S_DEV_QUIESCED)
        rc = 0;
    read_size(s);
    return rc != 0 || s->info.nr_hw_queues == 1 ? rc : -EINVAL;
}

static int open_device(struct ublk_server *s)
{
    char path[32];
    snprintf(path, sizeof path, "/dev/ublkc%u", s->info.dev_id);
    s->device = open(path, O_RDWR | O_CLOEXEC);
    if (s->device < 0)
        return -errno;
    /* The kernel wants exactly that. */
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    s->descs_len = (s->info.queue_depth * sizeof *s->descs + page - 1) / page * page;
    void *descs = mmap(NULL, s->descs_len, PROT_READ, MAP_SHARED | MAP_POPULATE, s->device,
                       UBLKSRV_CMD_BUF_OFFSET);
    if (descs == MAP_FAILED)
        return -errno;
    s->descs = descs;
    s->buffers_len = (size_t)s->info.queue_depth * s->info.max_io_buf_bytes;
    void *buffers = mmap(NULL, s->buffers_len, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (buffers == MAP_FAILED)
        return -errno;
    s->buffers = buffers;
    s->slots = calloc(s->info.queue_depth, sizeof *s->slots);
    if (s->slots == NULL)
        return -ENOMEM;
    int rc = io_uring_queue_init(s->info.queue_depth, &s->ring, 0);
    s->has_ring = rc == 0;
    return rc;
}

static void fetch_all(struct ublk_server *s)
{
    s->served = s->info.queue_depth;
    for (uint16_t tag = 0; tag < s->info.queue_depth; tag++) {
        s->slots[tag] = (struct slot){.server = s, .tag = tag};
        hand_over(&s->slots[tag], UBLK_OP_FETCH_REQ, -1);
    }
}

/* ---- Beginning, running, ending ---- */

int ublk_server_create(const struct ublk_server_options *options, struct ublk_server **out)
{
    struct limpet_image_info image;
    struct ublk_server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return -ENOMEM;
    s->options = *options;
    s->device = -1;
    STAILQ_INIT(&s->waiting);
    STAILQ_INIT(&s->elsewhere);
    int rc = limpet_image_info(options->image, &image);
    if (rc == 0)
        rc = -pthread_mutex_init(&s->lock, NULL);
    if (rc != 0)
        goto fail;
    s->unit = image.stripe_unit;
    s->size = s->wants = image.size;
    int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fd < 0) {
        rc = -errno;
        goto fail_lock;
    }
    rc = ublk_control_open(&s->control);
    if (rc != 0)
        goto fail_wake;
    rc = options->recovers ? take_over_device(s) : add_device(s);
    if (rc != 0)
        goto fail_control;
    s->fds[FD_WAKE] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
    rc = open_device(s);
    if (rc != 0) {
        ublk_server_destroy(s);
        return rc;
    }
    s->fds[FD_RING] = (struct pollfd){.fd = s->ring.ring_fd, .events = POLLIN};
    s->fds[FD_CONTROL] = (struct pollfd){.fd = s->control.ring.ring_fd, .events = POLLIN};
    limpet_image_call_by_waiters(options->image);
    *out = s;
    return 0;
fail_control:
    ublk_control_close(&s->control);
fail_wake:
    close(wake_fd);
fail_lock:
    pthread_mutex_destroy(&s->lock);
fail:
    free(s);
    return rc;
}

void ublk_server_watch(struct ublk_server *s, int fd, void (*ready)(void *arg), void *arg)
{
    assert(s->n_watches < UBLK_WATCHES_MAX);
    s->watches[s->n_watches] = (struct watch){.ready = ready, .arg = arg};
    s->fds[FD_WATCHES + s->n_watches++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

void ublk_server_unwatch(struct ublk_server *s, int fd)
{
    for (unsigned i = 0; i < s->n_watches; i++) {
        if (s->fds[FD_WATCHES + i].fd == fd)
            s->fds[FD_WATCHES + i].fd = -1;
    }
}

unsigned ublk_server_number(const struct ublk_server *s)
{
    return s->info.dev_id;
}

static void look_at_fds(struct ublk_server *s)
{
    eventfd_t times;
    if (s->fds[FD_WAKE].revents != 0)
        (void)!eventfd_read(s->fds[FD_WAKE].fd, &times);
    if (s->fds[FD_CONTROL].revents != 0 && s->asked != 0)
        take_answer(s);
    for (unsigned i = 0; i < s->n_watches; i++) {
        if (s->fds[FD_WATCHES + i].fd >= 0 && s->fds[FD_WATCHES + i].revents != 0)
            s->watches[i].ready(s->watches[i].arg);
    }
}

int ublk_server_run(struct ublk_server *s)
{
    s->thread = pthread_self();
    fetch_all(s);
    send_all(s);
    /* It waits until all are fetched, and reads partitions through us. */
    ask(s, s->options.recovers ? UBLK_OP_END_USER_RECOVERY : UBLK_OP_START_DEV, (uint64_t)getpid());
    for (go_round(s); s->error == 0 && s->served > 0; go_round(s)) {
        int n = limpet_cluster_poll(s->options.cluster, s->fds, FD_WATCHES + s->n_watches,
                                    s->sends_again ? AGAIN_MS : -1);
        if (n > 0)
            look_at_fds(s);
        else if (n < 0 && n != -EINTR)
            s->error = n;
    }
    limpet_cluster_poll_end(s->options.cluster);
    return s->error;
}

/*
 * The kernel takes back all that is left when the ring goes. Requests of the image that are under
 * way use the buffers: the caller has closed the image before, if any can be. A device that lives,
 * and that we cannot serve any more, waits for another server, as after our death.
 */
void ublk_server_destroy(struct ublk_server *s)
{
    bool goes = s->lives ? s->error == 0 : !s->options.recovers;
    if (s->has_ring)
        io_uring_queue_exit(&s->ring);
    if (s->buffers != NULL)
        munmap(s->buffers, s->buffers_len);
    if (s->descs != NULL)
        munmap((void *)(uintptr_t)s->descs, s->descs_len);
    if (s->device >= 0)
        close(s->device);
    int rc = goes ? ublk_control_delete(&s->control, s->info.dev_id) : 0;
    if (rc != 0 && rc != -ENODEV)
        complain_of(s, "removing the device", rc);
    ublk_control_close(&s->control);
    close(s->fds[FD_WAKE].fd);
    pthread_mutex_destroy(&s->lock);
    free(s->slots);
    free(s);
}
