/*
 * Writes on their way (behind.c, whose inner functions are its thread's steps): the rest of the
 * client is played here, so requests arrive when a test says so, and the thread works when it is
 * told to.
 */
#include <time.h>

static int look_at_clock(clockid_t clock, struct timespec *out);
#define clock_gettime look_at_clock
#include "client/fs/behind.c"
#undef clock_gettime

#include "tests/lib/test.h"

#include <malloc.h>
#include <stdio.h>

#include "client/fs/shard.h"

enum { HOME = 3, CALLER = 77, PIECE = 4096, OBJECT = 16 * PIECE, SENT_LIST = 2048 };

static struct limpet_fs fs;
static struct fs_shard_cache *shard; /* The records. */
static struct fs_file *file;
static uint64_t grant;
static int64_t now = 1000;

struct limpet_buffer {
    size_t len;
    uint8_t *data;
};

struct limpet_op {
    struct limpet_buffer *buffer;
    uint64_t offset;
};

struct limpet_completion {
    limpet_callback callback;
    void *arg;
    ssize_t result;
};

/* What was sent, in this order. */
static struct {
    char name[FS_OBJECT_NAME_MAX];
    struct limpet_completion *completion; /* NULL: it has arrived. */
    uint64_t offset;
    size_t len;
    uint8_t first, last; /* Its bytes. */
} sent[SENT_LIST];
static unsigned n_sent, n_written_back, n_synced;
static size_t n_revoked;
static uint64_t valid_ns;
static bool ends_while_sending;
static int write_back_error;
static bool cut_meanwhile;
static time_t ahead_s; /* The clock of the machine, until somebody puts it right. */

/* ---- The rest of the client ---- */

static int look_at_clock(clockid_t clock, struct timespec *out)
{
    int rc = clock_gettime(clock, out);
    if (clock == CLOCK_REALTIME)
        out->tv_sec += ahead_s;
    return rc;
}

size_t buffer_memory(const struct limpet_buffer *buffer)
{
    return sizeof *buffer + buffer->len;
}

size_t write_memory(void)
{
    return sizeof(struct limpet_op) + sizeof(struct limpet_completion);
}

struct limpet_buffer *limpet_buffer_create(size_t len)
{
    struct limpet_buffer *buffer = calloc(1, sizeof *buffer);
    assert_non_null(buffer);
    buffer->data = malloc(len);
    buffer->len = len;
    return buffer;
}

void *limpet_buffer_data(struct limpet_buffer *buffer)
{
    return buffer->data;
}

size_t limpet_buffer_len(const struct limpet_buffer *buffer)
{
    return buffer->len;
}

void limpet_buffer_trim(struct limpet_buffer *buffer, size_t len)
{
    buffer->len = len < buffer->len ? len : buffer->len;
}

void limpet_buffer_destroy(struct limpet_buffer *buffer)
{
    if (buffer != NULL)
        free(buffer->data);
    free(buffer);
}

struct limpet_op *limpet_op_create(void)
{
    if (ends_while_sending)
        valid_ns = 0;
    return calloc(1, sizeof(struct limpet_op));
}

void limpet_op_destroy(struct limpet_op *op)
{
    limpet_buffer_destroy(op->buffer);
    free(op);
}

int limpet_op_write_buffer(struct limpet_op *op, struct limpet_buffer *buffer, uint64_t offset)
{
    op->buffer = buffer;
    op->offset = offset;
    return 0;
}

int limpet_op_write(struct limpet_op *op, const void *data, size_t len, uint64_t offset)
{
    op->buffer = limpet_buffer_create(len);
    memcpy(op->buffer->data, data, len);
    op->offset = offset;
    return 0;
}

int limpet_completion_create(limpet_callback callback, void *arg, struct limpet_completion **out)
{
    struct limpet_completion *completion = calloc(1, sizeof *completion);
    completion->callback = callback;
    completion->arg = arg;
    *out = completion;
    return 0;
}

ssize_t limpet_completion_result(const struct limpet_completion *completion)
{
    return completion->result;
}

void limpet_completion_release(struct limpet_completion *completion)
{
    free(completion);
}

void completions_revoke(struct limpet_completion *const *list, size_t n)
{
    (void)list;
    n_revoked += n;
}

int limpet_aio_operate(struct limpet_pool *pool, const char *name,
                       struct limpet_completion *completion, struct limpet_op *op)
{
    (void)pool;
    assert_true(n_sent < SENT_LIST);
    snprintf(sent[n_sent].name, sizeof sent[n_sent].name, "%s", name);
    sent[n_sent].completion = completion;
    sent[n_sent].offset = op->offset;
    sent[n_sent].len = op->buffer->len;
    sent[n_sent].first = op->buffer->data[0];
    sent[n_sent++].last = op->buffer->data[op->buffer->len - 1];
    return 0;
}

struct limpet_pool *data_pool(struct limpet_fs *of, const struct fs_inode *inode)
{
    (void)of, (void)inode;
    return NULL;
}

bool data_covers(const struct fs_inode *inode, uint64_t offset, uint64_t len)
{
    uint64_t first, last;
    fs_objects_of(&inode->layout, offset, len, &first, &last);
    for (uint16_t i = 0; i < inode->n_ranges; i++) {
        if (inode->ranges[i].first <= first && last <= inode->ranges[i].last)
            return true;
    }
    return false;
}

void data_write(struct fs_call *call)
{
    assert_true(behind_write(call));
}

struct fs_file *file_find(struct limpet_fs *of, uint64_t ino, bool make)
{
    (void)of, (void)make;
    return ino == file->ino ? file : NULL;
}

void file_drop(struct limpet_fs *of, struct fs_file *which)
{
    (void)of, (void)which;
}

uint64_t lease_current(struct limpet_fs *of, uint64_t home)
{
    (void)of, (void)home;
    return grant;
}

uint64_t lease_valid_ns(struct limpet_fs *of, uint64_t home)
{
    (void)of, (void)home;
    return valid_ns;
}

static int run(const char *method, const void *input, size_t len, struct fs_answer *answer)
{
    struct encoder out;
    bool changed;
    encoder_init(&out);
    int rc = shard_run(shard, method, CALLER, ++now, input, len, &out, &changed);
    if (rc == 0 && answer != NULL)
        assert_int_equal(fs_answer_decode(out.data, out.len, answer), 0);
    encoder_fini(&out);
    return rc;
}

int call_encode(struct encoder *input, const struct fs_request *rq, const void *data, size_t len)
{
    struct encoder request;
    (void)data, (void)len;
    encoder_init(&request);
    encoder_init(input);
    fs_request_encode(&request, rq);
    encode_string32(input, request.data, request.len);
    encoder_fini(&request);
    return 0;
}

static int method(const char *name, const struct fs_request *rq, struct fs_answer *answer)
{
    struct encoder input;
    assert_int_equal(call_encode(&input, rq, NULL, 0), 0);
    int rc = run(name, input.data, input.len, answer);
    encoder_fini(&input);
    return rc;
}

bool lease_record(struct limpet_fs *of, uint64_t ino, struct fs_inode *out)
{
    static struct fs_answer answer;
    (void)of;
    if (method("fs.getattr", &(struct fs_request){.ino = ino}, &answer) != 0)
        return false;
    *out = answer.inode;
    return true;
}

bool lease_inode(struct limpet_fs *of, uint64_t ino, struct fs_inode *out)
{
    return lease_record(of, ino, out);
}

enum lease_route lease_route(struct limpet_fs *of, uint64_t home, bool writes,
                             struct fs_lease **out)
{
    (void)of, (void)home, (void)writes;
    *out = NULL;
    return LEASE_LOCAL;
}

void lease_returned(struct limpet_fs *of, uint64_t home)
{
    (void)of, (void)home;
}

int lease_run(struct fs_lease *lease, const char *name, const struct encoder *input,
              struct encoder *out)
{
    (void)lease, (void)out;
    return run(name, input->data, input->len, NULL);
}

bool shard_delegated(struct limpet_fs *of, uint64_t home)
{
    (void)of, (void)home;
    return true;
}

bool shard_buffers(struct limpet_fs *of, uint64_t home)
{
    (void)of, (void)home;
    return true;
}

int shard_write_back(struct limpet_fs *of, uint64_t home)
{
    (void)of, (void)home;
    n_written_back++;
    if (cut_meanwhile)
        behind_lose_room(file);
    cut_meanwhile = false;
    return write_back_error;
}

void write_back_all(struct limpet_fs *of)
{
    (void)of;
}

void sync_begin(struct fs_call *call)
{
    (void)call;
    n_synced++;
}

void call_work(struct fs_call *call)
{
    (void)call;
    n_synced++;
}

void call_end(struct fs_call *call, ssize_t rc)
{
    (void)rc;
    free(call);
}

/* ---- What a test does ---- */

static int begin(void **state)
{
    (void)state;
    static struct fs_answer answer;
    const uint64_t dir = (uint64_t)HOME << FS_INDEX_BITS | FS_INDEX_DIR;
    struct fs_layout layout = {16, 16, 1, 0};
    fs = (struct limpet_fs){.behind_max = 1 << 30, .instance = CALLER};
    TAILQ_INIT(&fs.want_room);
    TAILQ_INIT(&fs.want_drain);
    STAILQ_INIT(&fs.throttled);
    STAILQ_INIT(&fs.work);
    pthread_mutex_init(&fs.lock, NULL);
    pthread_cond_init(&fs.changed, NULL);
    pthread_cond_init(&fs.behind_changed, NULL);
    pthread_cond_init(&fs.behind_wanted, NULL);
    pthread_cond_init(&fs.behind_begun, NULL);
    assert_int_equal(cache_create(64 << 20, &fs.cache), 0);
    shard = shard_create(HOME, false);
    grant = 1;
    n_sent = n_written_back = n_synced = 0;
    n_revoked = 0;
    valid_ns = UINT64_MAX;
    ends_while_sending = false;
    write_back_error = 0;
    assert_int_equal(
        method("fs.init",
               &(struct fs_request){
                   .ino = dir, .inode = {.mode = S_IFDIR | 0755, .layout = layout, .parent = 1}},
               NULL),
        0);
    assert_int_equal(
        method("fs.create",
               &(struct fs_request){.ino = dir,
                                    .name = {(const uint8_t *)"a", 1},
                                    .flags = FS_EXCLUSIVE,
                                    .inode = {.mode = S_IFREG | 0644, .layout = layout}},
               &answer),
        0);
    file = calloc(1, sizeof *file);
    file->ino = answer.ino;
    file->opens = 1;
    TAILQ_INIT(&file->writes);
    TAILQ_INIT(&file->unsent);
    STAILQ_INIT(&file->syncs);
    LIST_INSERT_HEAD(&fs.files[0], file, link);
    return 0;
}

static void arrive(unsigned i, int rc)
{
    struct limpet_completion *completion = sent[i].completion;
    assert_non_null(completion);
    sent[i].completion = NULL;
    completion->result = rc;
    completion->callback(completion, completion->arg);
}

static void arrive_all(void)
{
    for (unsigned i = 0; i < n_sent; i++) {
        if (sent[i].completion != NULL)
            arrive(i, 0);
    }
}

/* One round of the thread. */
static void thread_works(void)
{
    pthread_mutex_lock(&fs.lock);
    while (!TAILQ_EMPTY(&fs.want_drain))
        drain_first(&fs);
    if (!TAILQ_EMPTY(&fs.want_room))
        make_rooms(&fs);
    pthread_mutex_unlock(&fs.lock);
}

static int end(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 100; round++) {
        arrive_all();
        thread_works();
    }
    assert_true(TAILQ_EMPTY(&file->writes));
    assert_int_equal(fs.behind_bytes, 0);
    assert_int_equal(file->sent_bytes, 0);
    assert_int_equal(file->n_sent, 0);
    cache_destroy(fs.cache);
    shard_free(shard);
    free(file);
    return 0;
}

static struct fs_call *call_new(void)
{
    struct fs_call *call = calloc(1, sizeof *call);
    assert_non_null(call);
    call->fs = &fs;
    call->rq.ino = file->ino;
    return call;
}

/* A piece whose bytes are its number. */
static void write_piece(unsigned number, size_t len)
{
    struct fs_call *call = call_new();
    call->rq.verb = LIMPET_FS_WRITE;
    call->rq.offset = (uint64_t)number * len;
    call->rq.len = len;
    call->buffer = limpet_buffer_create(len);
    memset(call->buffer->data, (int)number, len);
    data_write(call);
}

static void write_pieces(unsigned first, unsigned end_before)
{
    for (unsigned i = first; i < end_before; i++)
        write_piece(i, PIECE);
}

/* With room for the object that a file begins with. */
static void has_written_one(void)
{
    write_pieces(0, 1);
    thread_works();
    assert_int_equal(n_sent, 1);
    assert_int_equal(n_written_back, 1);
}

static void what_follows_waits_for_two_and_goes_as_one(void **state)
{
    (void)state;
    has_written_one();
    write_pieces(1, 10);
    assert_int_equal(n_sent, 2);
    assert_int_equal(sent[1].len, PIECE);
    thread_works();
    assert_int_equal(n_sent, 2);
    arrive(0, 0);
    assert_int_equal(n_sent, 2); /* Not in the callback. */
    thread_works();
    assert_int_equal(n_sent, 3);
    assert_int_equal(sent[2].offset, 2 * PIECE);
    assert_int_equal(sent[2].len, 8 * PIECE);
    assert_int_equal(sent[2].first, 2);
    assert_int_equal(sent[2].last, 9);
}

static void what_fills_its_object_goes_at_once(void **state)
{
    (void)state;
    has_written_one();
    write_pieces(1, 16);
    assert_int_equal(n_sent, 3);
    assert_int_equal(sent[2].offset + sent[2].len, OBJECT);
    /* The next object is another write. */
    write_pieces(16, 17);
    thread_works();
    write_pieces(17, 18);
    assert_int_equal(n_sent, 3);
    arrive(0, 0);
    arrive(1, 0);
    thread_works();
    assert_int_equal(n_sent, 4);
    assert_int_equal(sent[3].offset, 0);
    assert_int_equal(sent[3].len, 2 * PIECE);
    assert_string_not_equal(sent[3].name, sent[2].name);
}

static void what_lies_elsewhere_goes_at_once(void **state)
{
    (void)state;
    has_written_one();
    for (unsigned i = 0; i < 5; i++)
        write_piece(3 + 2 * i, PIECE);
    assert_int_equal(n_sent, 6);
}

static void who_waits_makes_it_go(void **state)
{
    (void)state;
    has_written_one();
    write_pieces(1, 5);
    assert_int_equal(n_sent, 2);
    struct fs_call *sync = call_new();
    sync->rq.verb = LIMPET_FS_SYNC;
    behind_sync(sync);
    assert_int_equal(n_sent, 3);
    write_pieces(5, 6);
    arrive(0, 0);
    arrive(1, 0);
    assert_int_equal(n_synced, 0);
    arrive(2, 0);
    assert_int_equal(n_synced, 1);
    free(sync);
}

/* It counts as the first of its writes: none of them has arrived before all have. */
static void a_sync_waits_for_all_that_has_become_one(void **state)
{
    (void)state;
    has_written_one();
    write_pieces(1, 3);
    struct fs_call *sync = call_new();
    sync->rq.verb = LIMPET_FS_SYNC;
    file->sending = true; /* Somebody else is about to send. */
    behind_sync(sync);
    write_pieces(3, 5);
    file->sending = false;
    arrive(0, 0);
    arrive(1, 0);
    assert_int_equal(n_synced, 0);
    thread_works();
    assert_int_equal(sent[2].len, 3 * PIECE);
    arrive(2, 0);
    assert_int_equal(n_synced, 1);
    free(sync);
}

static void at_most_so_much_is_on_its_way(void **state)
{
    uint64_t most = 0;
    (void)state;
    write_piece(0, OBJECT);
    for (unsigned i = 1; i < 2 * SENT_BYTES_MAX / OBJECT && n_sent < SENT_LIST - 1; i++) {
        thread_works();
        write_piece(i, OBJECT);
        most = file->sent_bytes > most ? file->sent_bytes : most;
    }
    assert_true(most <= SENT_BYTES_MAX);
}

/* While what was sent keeps the next from being sent, all of it gets room, in few rounds. */
static uint64_t memory_used(void)
{
    return mallinfo2().uordblks;
}

/* W3: those that lie apart, each a write of its own. */
static void many_small_ones_take_no_more_memory_than_large_ones(void **state)
{
    (void)state;
    enum { MANY = SENT_LIST - 1 };
    unsigned n = 0;
    has_written_one();
    arrive(0, 0);
    fs.behind_max = 1 << 20;
    struct fs_call *calls[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        calls[i] = call_new();
        calls[i]->rq.verb = LIMPET_FS_WRITE;
        calls[i]->rq.offset = 2 * i;
        calls[i]->rq.len = 1;
        calls[i]->buffer = limpet_buffer_create(1);
    }
    uint64_t before = memory_used();
    while (n < MANY && STAILQ_EMPTY(&fs.throttled))
        data_write(calls[n++]);
    assert_in_range(n, 100, MANY - 1);
    /* What is allocated costs a little more. */
    assert_true(memory_used() < before + fs.behind_max + fs.behind_max / 4);
    assert_in_range(fs.behind_bytes, fs.behind_max / 4 * 3, fs.behind_max);
    while (n < MANY)
        data_write(calls[n++]);
}

/* What follows the last one costs its bytes, and not another write. */
static void what_becomes_part_of_a_write_costs_less(void **state)
{
    (void)state;
    has_written_one();
    write_pieces(1, 3);
    uint64_t first = fs.behind_bytes;
    write_pieces(3, 4);
    assert_in_range(fs.behind_bytes - first, PIECE, PIECE + 100);
}

static void room_is_made_before_it_is_missed(void **state)
{
    enum { PIECES = 128 };
    const struct fs_write *write;
    (void)state;
    file->sent_bytes = SENT_BYTES_MAX;
    file->n_sent = SENT_MIN;
    for (unsigned i = 0; i < PIECES; i++) {
        write_piece(i, OBJECT);
        thread_works();
    }
    assert_int_equal(n_sent, 0);
    TAILQ_FOREACH(write, &file->unsent, unsent_link)
    {
        assert_true(has_room(&fs, file, write));
    }
    assert_in_range(n_written_back, 2, PIECES / ROOM_AHEAD_MAX + 6);
    file->sent_bytes = 0;
    file->n_sent = 0;
    pthread_mutex_lock(&fs.lock);
    drain(&fs, file);
    pthread_mutex_unlock(&fs.lock);
}

static void what_got_no_room_is_told_once(void **state)
{
    (void)state;
    has_written_one();
    write_back_error = -ENOSPC;
    write_piece(8, OBJECT);
    thread_works();
    write_back_error = 0;
    assert_int_equal(n_sent, 1);
    assert_int_equal(behind_error(&fs, file->ino), -ENOSPC);
    arrive(0, 0);
    assert_int_equal(behind_take_error(file), -ENOSPC);
    assert_int_equal(behind_error(&fs, file->ino), 0);
}

static void room_that_was_read_before_a_cut_is_none(void **state)
{
    (void)state;
    has_written_one();
    arrive(0, 0);
    behind_lose_room(file);
    write_pieces(1, 2);
    assert_int_equal(n_sent, 1);
    cut_meanwhile = true;
    pthread_mutex_lock(&fs.lock);
    make_rooms(&fs);
    pthread_mutex_unlock(&fs.lock);
    assert_int_equal(n_sent, 1);
    thread_works();
    assert_int_equal(n_sent, 2);
    assert_int_equal(n_written_back, 3);
}

static void who_needs_no_room_writes_nothing_back(void **state)
{
    (void)state;
    has_written_one();
    pthread_mutex_lock(&fs.lock);
    want_room(&fs, file);
    make_rooms(&fs);
    pthread_mutex_unlock(&fs.lock);
    assert_int_equal(n_written_back, 1);
    write_pieces(1, 2);
    assert_int_equal(n_sent, 2); /* What is known of its room still stands. */
}

/* Of what arrives in another order the size covers what has no gap before it. */
static void the_size_follows_what_has_arrived(void **state)
{
    struct fs_inode inode;
    (void)state;
    has_written_one();
    write_pieces(1, 9);
    arrive(1, 0);
    thread_works();
    pthread_mutex_lock(&fs.lock);
    assert_int_equal(note(&fs, file, false), 0);
    pthread_mutex_unlock(&fs.lock);
    assert_true(lease_record(&fs, file->ino, &inode));
    assert_int_equal(inode.size, 0);
    arrive(0, 0);
    pthread_mutex_lock(&fs.lock);
    assert_int_equal(note(&fs, file, false), 0);
    pthread_mutex_unlock(&fs.lock);
    assert_true(lease_record(&fs, file->ino, &inode));
    assert_int_equal(inode.size, 2 * PIECE);
}

/* What a sync has promised. */
static void a_later_write_takes_no_size_back(void **state)
{
    struct fs_inode inode;
    (void)state;
    has_written_one();
    write_pieces(1, 2);
    arrive_all();
    thread_works();
    write_pieces(0, 1); /* Over what has arrived. */
    pthread_mutex_lock(&fs.lock);
    int rc = note(&fs, file, false);
    pthread_mutex_unlock(&fs.lock);
    assert_int_equal(rc, 0);
    assert_true(lease_record(&fs, file->ino, &inode));
    assert_int_equal(inode.size, 2 * PIECE);
}

/* W6. */
static void nothing_is_sent_when_the_lease_may_soon_be_over(void **state)
{
    (void)state;
    has_written_one();
    write_pieces(1, 4);
    assert_int_equal(n_sent, 2);
    valid_ns = LOST_BEFORE_NS - 1;
    arrive(0, 0);
    thread_works();
    thread_works();
    assert_int_equal(n_sent, 2);
    pthread_mutex_lock(&fs.lock);
    behind_lost(&fs);
    pthread_mutex_unlock(&fs.lock);
    assert_true(TAILQ_EMPTY(&file->unsent));
    assert_int_equal(n_revoked, 1);
    assert_int_equal(behind_error(&fs, file->ino), -EIO);
}

/* W6: a thread may have stood still between its look and this. */
static void nothing_is_sent_that_was_begun_before(void **state)
{
    (void)state;
    has_written_one();
    arrive(0, 0);
    ends_while_sending = true;
    write_pieces(1, 2);
    thread_works();
    assert_int_equal(n_sent, 1);
    assert_int_equal(behind_error(&fs, file->ino), -EIO);
}

/*
 * W6: who looks every LOOK_MS is told the time by a clock that nobody sets. Here the other one is
 * put back by an hour as soon as it has been looked at.
 */
static void a_clock_that_is_put_back_does_not_let_the_guard_sleep(void **state)
{
    (void)state;
    pthread_t guard;
    int error = 0;
    has_written_one();
    valid_ns = LOST_BEFORE_NS - 1;
    ahead_s = 3600;
    assert_int_equal(pthread_create(&guard, NULL, behind_guard, &fs), 0);
    uint64_t until_ns = cond_now_ns() + 20 * UINT64_C(1000000000);
    while ((error = behind_error(&fs, file->ino)) == 0 && cond_now_ns() < until_ns)
        sched_yield();
    ahead_s = 0;
    pthread_mutex_lock(&fs.lock);
    fs.stopping = true;
    pthread_mutex_unlock(&fs.lock);
    arrive(0, 0);
    assert_int_equal(error, -EIO);
    assert_int_equal(pthread_join(guard, NULL), 0);
}

/* ---- Something of the file has failed, and the rest is on its way still ---- */

struct patient {
    pthread_t thread;
    int (*function)(void);
};

static void *wait_there(void *arg)
{
    struct patient *patient = arg;
    assert_int_equal(patient->function(), 0);
    return NULL;
}

static int settle(void)
{
    return behind_settle(&fs, file->ino, true);
}

static int write_back_shard(void)
{
    return behind_write_back(&fs, HOME);
}

static void waits_for_what_is_on_its_way(int (*function)(void))
{
    struct patient patient = {.function = function};
    struct timespec until;
    has_written_one();
    pthread_mutex_lock(&fs.lock);
    behind_cancel(&fs, file, -ENOSPC);
    pthread_mutex_unlock(&fs.lock);
    assert_false(TAILQ_EMPTY(&file->writes));
    assert_int_equal(pthread_create(&patient.thread, NULL, wait_there, &patient), 0);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    assert_int_equal(pthread_timedjoin_np(patient.thread, NULL, &until), ETIMEDOUT);
    arrive(0, 0);
    assert_int_equal(pthread_join(patient.thread, NULL), 0);
}

/* Its bytes may arrive, and its size does not follow: a sync must not say that all is well. */
static void what_is_given_up_is_told_also_when_all_was_sent(void **state)
{
    (void)state;
    has_written_one();
    arrive(0, 0);
    assert_true(TAILQ_EMPTY(&file->writes) && file->ahead);
    pthread_mutex_lock(&fs.lock);
    behind_cancel(&fs, file, -EIO);
    int told = behind_take_error(file);
    behind_cancel(&fs, file, -EIO);
    int again = behind_take_error(file);
    pthread_mutex_unlock(&fs.lock);
    assert_int_equal(told, -EIO);
    assert_int_equal(again, 0);
}

/* Otherwise it would cut what arrives afterwards. */
static void a_truncation_waits_for_what_is_on_its_way(void **state)
{
    (void)state;
    waits_for_what_is_on_its_way(settle);
}

/* W5 */
static void a_lease_is_kept_until_all_has_arrived(void **state)
{
    (void)state;
    waits_for_what_is_on_its_way(write_back_shard);
}

/* ---- Listings ---- */

static uint64_t size_in(const void *raw, size_t len)
{
    struct fs_listed found;
    struct decoder d;
    decoder_init(&d, raw, len);
    (void)fs_list_head_decode(&d);
    assert_int_equal(fs_listed_next(&d, &found), 0);
    assert_true(found.has_inode);
    return found.inode.size;
}

/* It was read before that, and is told afterwards. */
static void a_listing_tells_what_was_noted_meanwhile(void **state)
{
    struct fs_request rq = {.ino = (uint64_t)HOME << FS_INDEX_BITS | FS_INDEX_DIR,
                            .offset = LIMPET_FS_COOKIE_UP,
                            .len = 1 << 16,
                            .flags = FS_PLUS};
    struct encoder input, raw, merged;
    bool changed;
    (void)state;
    has_written_one();
    encoder_init(&raw);
    encoder_init(&merged);
    assert_int_equal(call_encode(&input, &rq, NULL, 0), 0);
    assert_int_equal(
        shard_run(shard, "fs.list", CALLER, ++now, input.data, input.len, &raw, &changed), 0);
    encoder_fini(&input);
    assert_int_equal(size_in(raw.data, raw.len), 0);
    arrive(0, 0);
    pthread_mutex_lock(&fs.lock);
    assert_int_equal(note(&fs, file, true), 0);
    pthread_mutex_unlock(&fs.lock);
    assert_false(file->ahead);
    assert_true(behind_merge_list(&fs, raw.data, raw.len, true, &merged));
    assert_int_equal(size_in(merged.data, merged.len), PIECE);
    encoder_fini(&raw);
    encoder_fini(&merged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_follows_waits_for_two_and_goes_as_one, begin, end),
        cmocka_unit_test_setup_teardown(what_fills_its_object_goes_at_once, begin, end),
        cmocka_unit_test_setup_teardown(what_lies_elsewhere_goes_at_once, begin, end),
        cmocka_unit_test_setup_teardown(who_waits_makes_it_go, begin, end),
        cmocka_unit_test_setup_teardown(a_sync_waits_for_all_that_has_become_one, begin, end),
        cmocka_unit_test_setup_teardown(at_most_so_much_is_on_its_way, begin, end),
        cmocka_unit_test_setup_teardown(many_small_ones_take_no_more_memory_than_large_ones, begin,
                                        end),
        cmocka_unit_test_setup_teardown(what_becomes_part_of_a_write_costs_less, begin, end),
        cmocka_unit_test_setup_teardown(room_is_made_before_it_is_missed, begin, end),
        cmocka_unit_test_setup_teardown(what_got_no_room_is_told_once, begin, end),
        cmocka_unit_test_setup_teardown(room_that_was_read_before_a_cut_is_none, begin, end),
        cmocka_unit_test_setup_teardown(who_needs_no_room_writes_nothing_back, begin, end),
        cmocka_unit_test_setup_teardown(the_size_follows_what_has_arrived, begin, end),
        cmocka_unit_test_setup_teardown(a_later_write_takes_no_size_back, begin, end),
        cmocka_unit_test_setup_teardown(nothing_is_sent_when_the_lease_may_soon_be_over, begin,
                                        end),
        cmocka_unit_test_setup_teardown(nothing_is_sent_that_was_begun_before, begin, end),
        cmocka_unit_test_setup_teardown(a_clock_that_is_put_back_does_not_let_the_guard_sleep,
                                        begin, end),
        cmocka_unit_test_setup_teardown(what_is_given_up_is_told_also_when_all_was_sent, begin,
                                        end),
        cmocka_unit_test_setup_teardown(a_truncation_waits_for_what_is_on_its_way, begin, end),
        cmocka_unit_test_setup_teardown(a_lease_is_kept_until_all_has_arrived, begin, end),
        cmocka_unit_test_setup_teardown(a_listing_tells_what_was_noted_meanwhile, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
