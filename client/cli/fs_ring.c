/*
 * The kernel's requests by io_uring, where it offers that: each processor has a queue, and a thread
 * of ours that stays there and takes what callers on that processor ask for. An answer and the wait
 * for the next request are one system call. What the kernel sends another way, most FORGETs and
 * INTERRUPT, and what we tell it unasked, goes through /dev/fuse as ever.
 *
 * R1  An entry is the kernel's (registered, or committed and not back yet), or has one request of
 *     which the answer is owed. Which one has which request is found by the request's number
 *     (`under_way`), from any thread.
 *
 * R2  Only the thread of a queue enters its ring: where an entry was committed is where its next
 *     request comes in. Answers of other threads are handed to it (`answered`).
 *
 * R3  Requests may wait for each other, for a lock, or for what another mount gives back. So a
 *     queue never runs out of entries for long: when few are left, more are registered.
 *
 * R4  The memory of entries stays until nobody can answer any more: fs_ring_destroy().
 *
 * R5  A burst may have taken all entries, and left requests in the kernel's own list, from which
 *     only a commit takes them. How many were taken when more are registered cannot be told, as
 *     they come to us in portions. So until a commit that goes after the new ones shows that the
 *     list is empty (`owes`), a thread makes requests of its own on that processor (nudge()).
 */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <liburing.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/fs.h"
#include "client/cli/fuse_uring.h"
#include "client/fs/cond.h"

enum {
    HEAD_ROOM = 4096,   /* Before the payload: the header, and where a request becomes whole. */
    PAYLOAD = 1 << 20,  /* The largest contents of one request. */
    ENTRIES = 16,       /* Of a queue, at first, */
    ENTRIES_SPARE = 8,  /* as long as so many are left, */
    ENTRIES_MAX = 1024, /* and at most. Untouched payloads have no memory. */
    QUEUES_MAX = 256,   /* Machines with more processors do without. */
    LARGE = 64 << 10,   /* Payloads that were larger keep their memory */
    LARGE_KEPT = 16,    /* in so many entries. */
    SUBMISSIONS = 64,   /* Of a ring; more are submitted in between. */
    COMPLETIONS = 4096, /* More than entries. */
    BATCH = 16,         /* Requests that are taken before the answers leave. */
    BUCKETS = 256,      /* Of requests under way. */
    NUDGE_MS = 10,
};

struct entry {
    LIST_ENTRY(entry) under_way_link;
    STAILQ_ENTRY(entry) answered_link;
    LIST_ENTRY(entry) all_link;
    struct queue *queue;
    struct uring_header *header;
    uint8_t *payload;
    struct iovec places[2];
    uint64_t unique, commit_id;
    bool large, just_committed;
};

STAILQ_HEAD(answers, entry);
LIST_HEAD(entries, entry);

struct queue {
    struct fs_ring *ring;
    unsigned number;
    pthread_t thread;
    bool has_thread;
    int wake_fd;
    pthread_mutex_t lock; /* Of: */
    struct answers answered;
    bool asleep, stopping;

    /* The thread's. */
    struct io_uring io;
    struct fs_receiver *receiver;
    struct answers ready; /* Its own answers. */
    struct entries all;
    unsigned n_entries, n_taken;
    uint64_t wakes;
    bool wake_asked, gives_up, is_over;
    _Atomic bool owes;
};

struct fs_ring {
    struct fuse_session *session;
    char *path;
    bool follows;
    fs_ring_take take;
    void *arg;
    unsigned n_queues;
    struct queue *queues;
    _Atomic unsigned n_large;

    pthread_mutex_t under_way_lock; /* Of: */
    struct entries under_way[BUCKETS];

    pthread_mutex_t lock; /* Of: */
    pthread_cond_t changed;
    unsigned n_prepared;
    int error;
    bool begun, ending;
    pthread_t nudger;
    bool has_nudger;
};

static _Thread_local struct queue *serving;

/* ---- Entries ---- */

static struct entry *entry_create(struct queue *queue)
{
    struct entry *entry = calloc(1, sizeof *entry);
    uint8_t *memory = entry != NULL ? mmap(NULL, HEAD_ROOM + PAYLOAD, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                                    : MAP_FAILED;
    if (memory == MAP_FAILED) {
        free(entry);
        return NULL;
    }
    entry->queue = queue;
    entry->header = (struct uring_header *)(void *)memory;
    entry->payload = memory + HEAD_ROOM;
    entry->places[0] = (struct iovec){entry->header, sizeof *entry->header};
    entry->places[1] = (struct iovec){entry->payload, PAYLOAD};
    LIST_INSERT_HEAD(&queue->all, entry, all_link);
    return entry;
}

static void entry_free(struct entry *entry)
{
    LIST_REMOVE(entry, all_link);
    munmap(entry->header, HEAD_ROOM + PAYLOAD);
    free(entry);
}

static void note_payload(struct entry *entry, size_t len)
{
    if (len <= LARGE || entry->large)
        return;
    entry->large = true;
    atomic_fetch_add(&entry->queue->ring->n_large, 1);
}

/* Nothing of the payload beyond LARGE is wanted now. */
static void give_memory_back(struct entry *entry)
{
    struct fs_ring *ring = entry->queue->ring;
    if (!entry->large || atomic_load(&ring->n_large) <= LARGE_KEPT)
        return;
    madvise(entry->payload + LARGE, PAYLOAD - LARGE, MADV_DONTNEED);
    entry->large = false;
    atomic_fetch_sub(&ring->n_large, 1);
}

static struct entries *bucket_of(struct fs_ring *ring, uint64_t unique)
{
    return &ring->under_way[unique / 2 % BUCKETS]; /* The kernel's numbers are even. */
}

static void begin_request(struct entry *entry)
{
    struct fs_ring *ring = entry->queue->ring;
    pthread_mutex_lock(&ring->under_way_lock);
    LIST_INSERT_HEAD(bucket_of(ring, entry->unique), entry, under_way_link);
    pthread_mutex_unlock(&ring->under_way_lock);
}

/* Whose answer it is; NULL: of a request that came through /dev/fuse. */
static struct entry *end_request(struct fs_ring *ring, uint64_t unique)
{
    pthread_mutex_lock(&ring->under_way_lock);
    struct entry *entry = LIST_FIRST(bucket_of(ring, unique));
    while (entry != NULL && entry->unique != unique)
        entry = LIST_NEXT(entry, under_way_link);
    if (entry != NULL)
        LIST_REMOVE(entry, under_way_link);
    pthread_mutex_unlock(&ring->under_way_lock);
    return entry;
}

/* ---- Answers ---- */

static void wake(const struct queue *queue)
{
    const uint64_t one = 1;
    ssize_t n = write(queue->wake_fd, &one, sizeof one);
    (void)n; /* It counts to more than there are writers. */
}

static void hand_over(struct entry *entry)
{
    struct queue *queue = entry->queue;
    if (serving == queue) {
        STAILQ_INSERT_TAIL(&queue->ready, entry, answered_link);
        return;
    }
    pthread_mutex_lock(&queue->lock);
    bool asleep = queue->asleep;
    queue->asleep = false;
    STAILQ_INSERT_TAIL(&queue->answered, entry, answered_link);
    pthread_mutex_unlock(&queue->lock);
    if (asleep)
        wake(queue);
}

bool fs_ring_answer(struct fs_ring *ring, const struct iovec *iov, int count, ssize_t *result)
{
    struct fuse_out_header head;
    size_t len = 0;
    memcpy(&head, iov[0].iov_base, sizeof head);
    struct entry *entry = head.unique != 0 ? end_request(ring, head.unique) : NULL;
    if (entry == NULL)
        return false;
    for (int i = 1; i < count && head.error == 0; i++) {
        if (iov[i].iov_len > PAYLOAD - len) {
            head.error = -EIO;
            len = 0;
            break;
        }
        memcpy(entry->payload + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    note_payload(entry, len);
    if (len <= LARGE)
        give_memory_back(entry);
    head.len = (uint32_t)(sizeof head + len);
    memcpy(entry->header->head, &head, sizeof head);
    entry->header->payload_bytes = (uint32_t)len;
    *result = (ssize_t)head.len;
    hand_over(entry);
    return true;
}

/* ---- A queue: what goes to the kernel ---- */

static struct io_uring_sqe *submission(struct queue *queue)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&queue->io);
    while (sqe == NULL) {
        int rc = io_uring_submit(&queue->io);
        if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
            return NULL;
        sqe = io_uring_get_sqe(&queue->io);
    }
    return sqe;
}

static bool send_command(struct queue *queue, struct entry *entry, unsigned command)
{
    struct io_uring_sqe *sqe = submission(queue);
    const struct uring_command own = {.commit_id = entry->commit_id,
                                      .queue = (uint16_t)queue->number};
    if (sqe == NULL)
        return false;
    memset(sqe, 0, 2 * sizeof *sqe);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = fuse_session_fd(queue->ring->session);
    sqe->cmd_op = command;
    if (command == URING_REGISTER) {
        sqe->addr = (uintptr_t)entry->places;
        sqe->len = 2;
    }
    io_uring_sqe_set_data(sqe, entry);
    memcpy((uint8_t *)sqe + URING_COMMAND_AT, &own, sizeof own);
    return true;
}

static bool add_entries(struct queue *queue, unsigned n)
{
    for (unsigned i = 0; i < n && queue->n_entries < ENTRIES_MAX; i++) {
        struct entry *entry = entry_create(queue);
        if (entry == NULL || !send_command(queue, entry, URING_REGISTER))
            return false;
        queue->n_entries++;
    }
    return true;
}

/* What was answered goes, with the next entry into the ring. Who answers after this wakes us. */
static unsigned send_answers(struct queue *queue)
{
    struct entry *entry;
    unsigned n = 0;
    pthread_mutex_lock(&queue->lock);
    STAILQ_CONCAT(&queue->ready, &queue->answered);
    queue->asleep = true;
    queue->is_over = queue->is_over || queue->stopping;
    pthread_mutex_unlock(&queue->lock);
    while ((entry = STAILQ_FIRST(&queue->ready)) != NULL) {
        STAILQ_REMOVE_HEAD(&queue->ready, answered_link);
        entry->just_committed = true;
        queue->n_taken--;
        n++;
        queue->is_over = queue->is_over || !send_command(queue, entry, URING_COMMIT_AND_FETCH);
    }
    return n;
}

static void ask_to_be_woken(struct queue *queue)
{
    struct io_uring_sqe *sqe = queue->wake_asked ? NULL : submission(queue);
    if (sqe == NULL)
        return;
    memset(sqe, 0, 2 * sizeof *sqe);
    io_uring_prep_read(sqe, queue->wake_fd, &queue->wakes, sizeof queue->wakes, 0);
    io_uring_sqe_set_data(sqe, NULL);
    queue->wake_asked = true;
}

/* ---- A queue: what comes ---- */

static void refuse(struct entry *entry, uint64_t unique)
{
    const struct fuse_out_header head = {.len = sizeof head, .error = -EIO, .unique = unique};
    memcpy(entry->header->head, &head, sizeof head);
    entry->header->payload_bytes = 0;
    hand_over(entry);
}

/* What has no answer ends here when it has one: the kernel sends FORGET this way, too, of what it
 * cannot take in, and its caller waits. */
static void end_forget(struct fs_ring *ring, uint64_t unique)
{
    const struct fuse_out_header head = {.len = sizeof head, .unique = unique};
    const struct iovec iov = {(void *)&head, sizeof head};
    ssize_t n;
    bool answered = fs_ring_answer(ring, &iov, 1, &n);
    (void)answered;
}

/* Makes it whole before its payload: libfuse wants it in one piece. */
static void take_request(struct queue *queue, struct entry *entry)
{
    struct fuse_in_header head;
    const struct uring_header *header = entry->header;
    memcpy(&head, header->head, sizeof head);
    entry->unique = head.unique;
    entry->commit_id = header->commit_id;
    queue->n_taken++;
    size_t rest = sizeof head + header->payload_bytes;
    if (header->payload_bytes > PAYLOAD || head.len < rest ||
        head.len - rest > URING_OPERATION_BYTES) {
        refuse(entry, head.unique);
        return;
    }
    size_t own = head.len - rest;
    uint8_t *at = entry->payload - own - sizeof head;
    memcpy(at, &head, sizeof head);
    memcpy(at + sizeof head, header->operation, own);
    if (header->payload_bytes <= LARGE)
        give_memory_back(entry);
    note_payload(entry, header->payload_bytes);
    begin_request(entry);
    fs_receiver_took(queue->receiver, at);
    struct fuse_buf request = {.mem = at, .size = head.len};
    queue->ring->take(queue->ring->arg, &request);
    if (head.opcode == FUSE_FORGET)
        end_forget(queue->ring, head.unique);
}

/*
 * An entry that the kernel has given up: the mount has ended, or was never served this way. When it
 * has ended, others would come back at once, again and again while requests are under way.
 */
static void lose_entry(struct queue *queue, int error)
{
    queue->n_entries--;
    queue->gives_up |= error == -ENOTCONN || error == -ECONNABORTED || error == -ENODEV;
    queue->is_over = queue->is_over || queue->n_entries == 0;
}

static void owe(struct queue *queue)
{
    struct fs_ring *ring = queue->ring;
    pthread_mutex_lock(&ring->lock);
    queue->owes = true;
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
}

/* R3, R5 */
static void keep_spare(struct queue *queue)
{
    if (queue->gives_up || queue->n_entries >= queue->n_taken + ENTRIES_SPARE)
        return;
    (void)add_entries(queue, ENTRIES);
    if (!queue->owes)
        owe(queue);
}

/* Takes what has come; returns whether an entry came back that was only just committed. */
static bool take_some(struct queue *queue)
{
    struct io_uring_cqe *cqes[BATCH];
    struct {
        struct entry *entry;
        int error;
    } came[BATCH] = {{NULL, 0}};
    bool came_back = false;
    unsigned n = io_uring_peek_batch_cqe(&queue->io, cqes, BATCH);
    for (unsigned i = 0; i < n; i++) {
        came[i].entry = io_uring_cqe_get_data(cqes[i]);
        came[i].error = cqes[i]->res;
    }
    io_uring_cq_advance(&queue->io, n);
    for (unsigned i = 0; i < n; i++) {
        struct entry *entry = came[i].entry;
        if (entry == NULL) {
            queue->wake_asked = false;
            continue;
        }
        came_back = came_back || entry->just_committed;
        entry->just_committed = false;
        if (came[i].error < 0)
            lose_entry(queue, came[i].error);
        else
            take_request(queue, entry);
    }
    return came_back;
}

static void serve_queue(struct queue *queue)
{
    (void)add_entries(queue, ENTRIES);
    while (!queue->is_over) {
        unsigned sent = send_answers(queue);
        ask_to_be_woken(queue);
        if (queue->is_over)
            break;
        fs_receiver_waits(queue->receiver);
        /* What has come back without waiting was in the kernel's list. */
        bool looks = queue->owes && sent > 0;
        int rc = looks ? io_uring_submit(&queue->io) : io_uring_submit_and_wait(&queue->io, 1);
        if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
            break;
        pthread_mutex_lock(&queue->lock);
        queue->asleep = false;
        pthread_mutex_unlock(&queue->lock);
        bool came_back = take_some(queue);
        while (looks && !came_back && io_uring_cq_ready(&queue->io) > 0)
            came_back = take_some(queue);
        if (looks && !came_back)
            queue->owes = false;
        keep_spare(queue);
    }
}

static bool stay_on(unsigned processor)
{
    cpu_set_t one;
    if (processor >= CPU_SETSIZE)
        return false;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    return sched_setaffinity(0, sizeof one, &one) == 0;
}

static int prepare(struct queue *queue)
{
    char name[16];
    struct io_uring_params params = {.flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE |
                                              IORING_SETUP_SUBMIT_ALL,
                                     .cq_entries = COMPLETIONS};
    int rc = fs_receiver_create(queue->ring->session, queue->ring->follows, (int)queue->number,
                                &queue->receiver);
    if (rc != 0)
        return rc;
    snprintf(name, sizeof name, "fuse-ring-%u", queue->number);
    pthread_setname_np(pthread_self(), name);
    rc = io_uring_queue_init_params(SUBMISSIONS, &queue->io, &params);
    if (rc != 0)
        fs_receiver_destroy(queue->receiver);
    else
        (void)io_uring_register_ring_fd(&queue->io); /* Otherwise by its number. */
    return rc;
}

static bool may_begin(struct fs_ring *ring, int rc)
{
    pthread_mutex_lock(&ring->lock);
    ring->error = ring->error != 0 ? ring->error : rc;
    ring->n_prepared++;
    pthread_cond_broadcast(&ring->changed);
    while (!ring->begun && !ring->ending)
        pthread_cond_wait(&ring->changed, &ring->lock);
    bool begun = ring->begun;
    pthread_mutex_unlock(&ring->lock);
    return begun;
}

static void *queue_thread(void *arg)
{
    struct queue *queue = arg;
    serving = queue;
    int rc = prepare(queue);
    bool begun = may_begin(queue->ring, rc);
    if (rc != 0)
        return NULL;
    if (begun)
        serve_queue(queue);
    io_uring_queue_exit(&queue->io);
    fs_receiver_destroy(queue->receiver);
    return NULL;
}

/* ---- Requests of our own (R5) ---- */

static struct queue *find_owing(struct fs_ring *ring)
{
    for (unsigned i = 0; i < ring->n_queues; i++)
        if (ring->queues[i].owes)
            return &ring->queues[i];
    return NULL;
}

/* With the lock, which is released meanwhile. */
static void nudge(struct fs_ring *ring, const struct queue *queue)
{
    struct statx st;
    pthread_mutex_unlock(&ring->lock);
    if (stay_on(queue->number))
        (void)statx(AT_FDCWD, ring->path, AT_STATX_FORCE_SYNC, STATX_MODE, &st);
    const uint64_t until_ns = cond_now_ns() + NUDGE_MS * UINT64_C(1000000);
    pthread_mutex_lock(&ring->lock);
    if (!ring->ending)
        (void)cond_wait_until(&ring->changed, &ring->lock, until_ns);
}

static void *nudge_thread(void *arg)
{
    struct fs_ring *ring = arg;
    pthread_mutex_lock(&ring->lock);
    while (!ring->ending) {
        const struct queue *queue = find_owing(ring);
        if (queue != NULL)
            nudge(ring, queue);
        else
            pthread_cond_wait(&ring->changed, &ring->lock);
    }
    pthread_mutex_unlock(&ring->lock);
    return NULL;
}

/* ---- All of it ---- */

static int start_queue(struct fs_ring *ring, unsigned number)
{
    struct queue *queue = &ring->queues[number];
    queue->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (queue->wake_fd < 0)
        return -errno;
    int error = pthread_create(&queue->thread, NULL, queue_thread, queue);
    queue->has_thread = error == 0;
    return -error;
}

static int start(struct fs_ring *ring)
{
    unsigned started = 0;
    int rc = 0;
    while (rc == 0 && started < ring->n_queues)
        if ((rc = start_queue(ring, started)) == 0)
            started++;
    pthread_mutex_lock(&ring->lock);
    while (ring->n_prepared < started)
        pthread_cond_wait(&ring->changed, &ring->lock);
    rc = rc != 0 ? rc : ring->error;
    pthread_mutex_unlock(&ring->lock);
    if (rc == 0)
        rc = -pthread_create(&ring->nudger, NULL, nudge_thread, ring);
    ring->has_nudger = rc == 0;
    return rc;
}

int fs_ring_create(struct fuse_session *session, const char *path, bool follows, fs_ring_take take,
                   void *arg, struct fs_ring **out)
{
    long n = sysconf(_SC_NPROCESSORS_CONF);
    if (n <= 0 || n > QUEUES_MAX)
        return -EOPNOTSUPP;
    struct fs_ring *ring = calloc(1, sizeof *ring);
    if (ring == NULL)
        return -ENOMEM;
    *ring = (struct fs_ring){.session = session,
                             .path = strdup(path),
                             .follows = follows,
                             .take = take,
                             .arg = arg,
                             .n_queues = (unsigned)n,
                             .queues = calloc((size_t)n, sizeof *ring->queues),
                             .under_way_lock = PTHREAD_MUTEX_INITIALIZER,
                             .lock = PTHREAD_MUTEX_INITIALIZER,
                             .changed = PTHREAD_COND_INITIALIZER};
    for (unsigned i = 0; ring->queues != NULL && i < ring->n_queues; i++) {
        struct queue *queue = &ring->queues[i];
        *queue = (struct queue){.ring = ring, .number = i, .wake_fd = -1};
        pthread_mutex_init(&queue->lock, NULL);
        STAILQ_INIT(&queue->answered);
        STAILQ_INIT(&queue->ready);
        LIST_INIT(&queue->all);
    }
    int rc = ring->queues == NULL || ring->path == NULL ? -ENOMEM : start(ring);
    if (rc != 0) {
        fs_ring_destroy(ring);
        return rc;
    }
    *out = ring;
    return 0;
}

void fs_ring_begin(struct fs_ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    ring->begun = true;
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
}

void fs_ring_stop(struct fs_ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    ring->ending = true;
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
    for (unsigned i = 0; ring->queues != NULL && i < ring->n_queues; i++) {
        struct queue *queue = &ring->queues[i];
        if (!queue->has_thread)
            continue;
        pthread_mutex_lock(&queue->lock);
        queue->stopping = true;
        pthread_mutex_unlock(&queue->lock);
        wake(queue);
        pthread_join(queue->thread, NULL);
        queue->has_thread = false;
    }
}

void fs_ring_destroy(struct fs_ring *ring)
{
    struct entry *entry;
    fs_ring_stop(ring);
    if (ring->has_nudger)
        pthread_join(ring->nudger, NULL);
    for (unsigned i = 0; ring->queues != NULL && i < ring->n_queues; i++) {
        struct queue *queue = &ring->queues[i];
        while ((entry = LIST_FIRST(&queue->all)) != NULL)
            entry_free(entry);
        if (queue->wake_fd >= 0)
            close(queue->wake_fd);
        pthread_mutex_destroy(&queue->lock);
    }
    free(ring->queues);
    free(ring->path);
    free(ring);
}
