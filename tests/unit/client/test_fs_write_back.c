/* Batches that go one after the other (write_back.c): how many there may be. The clock is played.
 */
#include <pthread.h>
#include <time.h>

static int played_time(clockid_t clock, struct timespec *out);
#undef clock_gettime
#define clock_gettime played_time

#include "client/fs/write_back.c"

#include "tests/lib/test.h"

static struct limpet_fs fs;
static uint64_t played_ns;
static unsigned n_begun;
static struct fs_lease *found;

static int played_time(clockid_t clock, struct timespec *out)
{
    (void)clock;
    *out = (struct timespec){.tv_sec = (time_t)(played_ns / 1000000000),
                             .tv_nsec = (long)(played_ns % 1000000000)};
    return 0;
}

/* ---- The rest of the client ---- */

void ask_begin(struct fs_ask *ask)
{
    (void)ask;
    n_begun++;
}

void ask_free(struct fs_ask *ask)
{
    (void)ask;
}

struct fs_ask *ask_create(struct limpet_fs *of, uint64_t home, const char *method,
                          const struct fs_request *rq, const void *data, size_t len,
                          fs_answered answered)
{
    (void)of, (void)home, (void)method, (void)rq, (void)data, (void)len, (void)answered;
    return NULL;
}

static uint64_t met;

void move_met(struct limpet_fs *of, uint64_t ino)
{
    (void)of;
    met = ino;
}

int behind_take_error(struct fs_file *file)
{
    (void)file;
    return 0;
}

void call_end(struct fs_call *call, ssize_t rc)
{
    (void)call, (void)rc;
}

int call_op_add(struct limpet_op *op, const char *method, const struct fs_request *rq,
                const void *data, size_t len, void **out, size_t *out_len)
{
    (void)op, (void)method, (void)rq, (void)data, (void)len, (void)out, (void)out_len;
    return 0;
}

struct fs_file *file_find(struct limpet_fs *of, uint64_t ino, bool make)
{
    (void)of, (void)ino, (void)make;
    return NULL;
}

void file_drop(struct limpet_fs *of, struct fs_file *file)
{
    (void)of, (void)file;
}

void file_lost(struct limpet_fs *of, uint64_t ino, int error)
{
    (void)of, (void)ino, (void)error;
}

void lease_count(struct limpet_fs *of, uint64_t more, uint64_t less)
{
    (void)of, (void)more, (void)less;
}

struct fs_lease *lease_find(struct limpet_fs *of, uint64_t home)
{
    (void)of, (void)home;
    return found;
}

bool lease_is_covered(const struct fs_lease *lease, uint64_t home)
{
    (void)lease, (void)home;
    return false;
}

void lease_settle(struct fs_lease *lease)
{
    (void)lease;
}

bool shard_buffers(struct limpet_fs *of, uint64_t home)
{
    (void)of, (void)home;
    return false;
}

int shard_take(struct fs_shard_cache *shard, struct encoder *out)
{
    (void)shard, (void)out;
    return 0;
}

/* ---- Batches of a shard, of which there are none here ---- */

struct limpet_op *limpet_op_create(void)
{
    return NULL;
}

void limpet_op_destroy(struct limpet_op *op)
{
    (void)op;
}

static const struct limpet_watch *asserted_lease;
static uint64_t asserted_version;

int limpet_op_assert_lease(struct limpet_op *op, const struct limpet_watch *watch,
                           enum limpet_lease_mode mode)
{
    (void)op;
    assert_int_equal(mode, LIMPET_LEASE_EXCLUSIVE);
    asserted_lease = watch;
    return 0;
}

int limpet_op_assert_version(struct limpet_op *op, uint64_t version)
{
    (void)op;
    asserted_version = version;
    return 0;
}

int limpet_aio_operate(struct limpet_pool *pool, const char *name,
                       struct limpet_completion *completion, struct limpet_op *op)
{
    (void)pool, (void)name, (void)completion, (void)op;
    return -EIO;
}

int limpet_completion_create(limpet_callback callback, void *arg, struct limpet_completion **out)
{
    (void)callback, (void)arg, (void)out;
    return -ENOMEM;
}

void limpet_completion_release(struct limpet_completion *completion)
{
    (void)completion;
}

ssize_t limpet_completion_result(const struct limpet_completion *completion)
{
    (void)completion;
    return 0;
}

struct limpet_object_version limpet_completion_version(const struct limpet_completion *completion)
{
    (void)completion;
    return (struct limpet_object_version){0};
}

void limpet_free(void *memory)
{
    (void)memory;
}

/* ---- What a test does ---- */

static int begin(void **state)
{
    (void)state;
    fs = (struct limpet_fs){.record_max = 1 << 20};
    played_ns = UINT64_C(1000000000000);
    n_begun = 0;
    pthread_mutex_init(&fs.lock, NULL);
    pthread_cond_init(&fs.written, NULL);
    TAILQ_INIT(&fs.batches);
    TAILQ_INIT(&fs.ready);
    LIST_INIT(&fs.orders);
    STAILQ_INIT(&fs.syncing);
    return 0;
}

static void pass(uint64_t ms)
{
    played_ns += ms * 1000000;
}

/* A request in line, after the one before. */
static void step(void)
{
    struct fs_batch *before = TAILQ_LAST(&fs.batches, fs_batches), *batch = batch_create(&fs);
    batch->ask = (struct fs_ask *)&fs; /* Something: nothing looks at it. */
    batch->closed = true;
    if (before != NULL)
        assert_int_equal(add_edge(before, batch), 0);
}

static void steps(unsigned n)
{
    while (n-- > 0)
        step();
}

static void write_back(void)
{
    pthread_mutex_lock(&fs.lock);
    write_back_all(&fs);
    pthread_mutex_unlock(&fs.lock);
}

/* The first ones become durable, each in so long. */
static void arrive(unsigned n, uint64_t ms)
{
    while (n-- > 0) {
        pass(ms);
        batch_came(TAILQ_FIRST(&fs.batches), 0);
    }
}

static int end(void **state)
{
    (void)state;
    write_back();
    while (!TAILQ_EMPTY(&fs.batches))
        arrive(1, 0);
    return 0;
}

/* Batches have taken so long for a while. */
static void have_taken(uint64_t ms)
{
    steps(60);
    write_back();
    arrive(60, ms);
}

static void as_many_may_wait_as_go_in_time(void **state)
{
    (void)state;
    have_taken(100);
    steps(21); /* 2 s. */
    assert_false(write_back_is_late(&fs));
    steps(10);
    assert_true(write_back_is_late(&fs));
    write_back();
    arrive(12, 100);
    assert_false(write_back_is_late(&fs));
}

static void they_are_bounded_however_fast_they_go(void **state)
{
    (void)state;
    have_taken(1);
    steps(CHAIN_MAX);
    assert_false(write_back_is_late(&fs));
    steps(2);
    assert_true(write_back_is_late(&fs));
}

static void slow_ones_are_believed_at_once(void **state)
{
    (void)state;
    have_taken(1);
    steps(100);
    write_back();
    assert_false(write_back_is_late(&fs));
    arrive(2, 200);
    assert_true(write_back_is_late(&fs));
}

static void none_goes_after_old_ones(void **state)
{
    (void)state;
    have_taken(1);
    steps(1);
    write_back();
    pass(AGE_MS + 100);
    assert_false(write_back_is_late(&fs)); /* Alone, it is no chain. */
    steps(1);
    assert_true(write_back_is_late(&fs));
    arrive(1, 0);
    assert_false(write_back_is_late(&fs));
}

/* Nothing of the shard is on its way any more when its turn comes. */
static void what_was_lost_while_others_were_waited_for_is_told(void **state)
{
    struct fs_lease lease = {.fs = &fs};
    (void)state;
    found = &lease;
    assert_int_equal(shard_write_back(&fs, 1), 0);
    lease.failed = -ENOTCONN;
    int rc = shard_write_back(&fs, 1);
    found = NULL;
    assert_int_equal(rc, -ENOTCONN);
}

/* B1: the OSD refuses what is sent under a lease that is over, or after somebody else's change. */
static void what_is_sent_asks_for_the_lease(void **state)
{
    struct limpet_watch *watch = (struct limpet_watch *)&fs; /* Something: nothing looks at it. */
    struct limpet_op *op = (struct limpet_op *)&fs;
    struct fs_lease lease = {.fs = &fs, .version = 12};
    struct fs_batch batch = {.lease = &lease};
    (void)state;
    asserted_lease = NULL;
    asserted_version = 0;
    assert_int_equal(guard(op, &batch), 0);
    assert_int_equal(asserted_version, 12);
    assert_null(asserted_lease);
    lease.watch = watch;
    assert_int_equal(guard(op, &batch), 0);
    assert_ptr_equal(asserted_lease, watch);
}

/* B6: once whoever has a file of the shard open, and once who syncs its directory or everything. */
static void who_syncs_is_told_of_a_loss(void **state)
{
    struct fs_lease lease = {.fs = &fs, .home = 7, .batches = 1};
    struct fs_file near = {.ino = fs_ino(7, 3)}, far = {.ino = fs_ino(8, 3)};
    (void)state;
    LIST_INSERT_HEAD(&fs.files[0], &near, link);
    LIST_INSERT_HEAD(&fs.files[1], &far, link);
    struct fs_batch *batch = batch_create(&fs);
    assert_non_null(batch);
    batch->lease = &lease;
    batch->closed = true;
    batch_came(batch, -ENOSPC);
    pthread_mutex_lock(&fs.lock);
    int of_other = take_error(&fs, fs_ino(8, FS_INDEX_DIR));
    int of_dir = take_error(&fs, fs_ino(7, FS_INDEX_DIR)), again = take_error(&fs, 0);
    pthread_mutex_unlock(&fs.lock);
    LIST_REMOVE(&near, link);
    LIST_REMOVE(&far, link);
    assert_int_equal(near.error, -ENOSPC);
    assert_int_equal(far.error, 0);
    assert_int_equal(of_other, 0);
    assert_int_equal(of_dir, -ENOSPC);
    assert_int_equal(again, 0);
    assert_int_equal(lease.failed, -ENOSPC);
}

/* B9: an intent may be written when its directory's name is durable, and not before. */
static void an_intent_waits_for_the_name_it_leads_to(void **state)
{
    struct fs_lease lease = {.fs = &fs};
    struct fs_order order;
    (void)state;
    found = &lease;
    steps(1);
    lease.name = TAILQ_FIRST(&fs.batches);
    order_begin(&fs, &order, false);
    int rc = order_follow_name(&fs, 1);
    const struct fs_batch *waits_for = order.last;
    order_end(&fs);
    found = NULL;
    assert_int_equal(rc, 0);
    assert_ptr_equal(waits_for, TAILQ_FIRST(&fs.batches));
}

/* B10: of a shard that was born, from when its name counts as lost, or may be. */
static void a_shard_has_no_name_until_that_is_durable(void **state)
{
    struct fs_lease lease = {.fs = &fs, .born = true};
    (void)state;
    assert_false(write_back_has_no_name(&lease)); /* It was not told of. */
    steps(1);
    struct fs_batch *name = TAILQ_FIRST(&fs.batches);
    lease.name = name;
    assert_true(write_back_has_no_name(&lease));
    name->ended = true;
    assert_false(write_back_has_no_name(&lease));
    name->error = -ENOTCONN;
    assert_true(write_back_has_no_name(&lease));
    lease.born = false;
    assert_false(write_back_has_no_name(&lease));
    name->ended = false;
    name->error = 0;
}

/* B10: who goes on as another client does not know what has become of names on their way. */
static void an_heir_knows_which_shards_have_no_name(void **state)
{
    static struct limpet_fs heir;
    struct fs_lease lease = {.fs = &fs, .home = 7, .born = true};
    (void)state;
    fs.unfound[0].home = 5;
    fs.n_unfound = 1;
    steps(1);
    lease.name = TAILQ_FIRST(&fs.batches);
    HASH_ADD(hh, fs.leases, home, sizeof lease.home, &lease);
    write_back_abandon(&fs, &heir);
    HASH_DEL(fs.leases, &lease);
    fs.n_unfound = 0;
    assert_int_equal(heir.n_unfound, 2);
    assert_int_equal(heir.unfound[0].home, 7);
    assert_int_equal(heir.unfound[1].home, 5);
}

/* B10: what was removed stays so, also for an heir, until somebody has found it. */
static void a_shard_that_was_removed_is_gone(void **state)
{
    static struct limpet_fs heir;
    struct fs_lease lease = {.fs = &fs, .home = 7, .born = true};
    (void)state;
    steps(1);
    struct fs_batch *name = TAILQ_FIRST(&fs.batches);
    lease.name = name;
    name->ended = true;
    name->error = -ENOTCONN;
    unfound_note(&lease);
    name->ended = false;
    name->error = 0;
    assert_true(unfound_has(&fs, 7));
    assert_false(unfound_is_gone(&fs, 7));
    met = 0;
    uint64_t before = fs.gones;
    unfound_met(&fs, fs_ino(7, FS_INDEX_DIR), before);
    assert_int_equal(met, 0);
    unfound_end(&fs, 7);
    assert_true(unfound_has(&fs, 7));
    assert_true(unfound_is_gone(&fs, 7));
    unfound_met(&fs, fs_ino(8, FS_INDEX_DIR), fs.gones);
    /* What was looked up before may be a name that was lost meanwhile. */
    unfound_met(&fs, fs_ino(7, FS_INDEX_DIR), before);
    assert_int_equal(met, 0);
    before = fs.gones;
    unfound_end(&fs, 7);
    unfound_met(&fs, fs_ino(7, FS_INDEX_DIR), before);
    assert_int_equal(met, 0);
    /* It has a name after all. */
    unfound_met(&fs, fs_ino(7, FS_INDEX_DIR), fs.gones);
    assert_int_equal(met, fs_ino(7, FS_INDEX_DIR));
    write_back_abandon(&fs, &heir);
    assert_true(unfound_is_gone(&heir, 7));
    unfound_forget(&fs, 7);
    assert_false(unfound_has(&fs, 7));
    assert_false(unfound_is_gone(&fs, 7));
}

/* A lease may end, and be given to others, while its shard's name is on its way. */
static void a_name_that_arrives_later_is_found(void **state)
{
    struct fs_lease lease = {.fs = &fs, .home = 7, .born = true};
    (void)state;
    steps(1);
    struct fs_batch *name = TAILQ_FIRST(&fs.batches);
    lease.name = name;
    unfound_note(&lease);
    bool before = unfound_has(&fs, 7);
    name->ended = true;
    name->error = -ENOTCONN;
    bool when_lost = unfound_has(&fs, 7);
    name->error = 0;
    bool when_durable = unfound_has(&fs, 7);
    name->ended = false;
    assert_false(before);
    assert_true(when_lost);
    assert_false(when_durable);
    assert_int_equal(fs.n_unfound, 0);
    assert_false(unfound_has(&fs, 7));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(as_many_may_wait_as_go_in_time, begin, end),
        cmocka_unit_test_setup_teardown(they_are_bounded_however_fast_they_go, begin, end),
        cmocka_unit_test_setup_teardown(slow_ones_are_believed_at_once, begin, end),
        cmocka_unit_test_setup_teardown(none_goes_after_old_ones, begin, end),
        cmocka_unit_test_setup_teardown(what_was_lost_while_others_were_waited_for_is_told, begin,
                                        end),
        cmocka_unit_test_setup_teardown(what_is_sent_asks_for_the_lease, begin, end),
        cmocka_unit_test_setup_teardown(who_syncs_is_told_of_a_loss, begin, end),
        cmocka_unit_test_setup_teardown(an_intent_waits_for_the_name_it_leads_to, begin, end),
        cmocka_unit_test_setup_teardown(a_shard_has_no_name_until_that_is_durable, begin, end),
        cmocka_unit_test_setup_teardown(a_name_that_arrives_later_is_found, begin, end),
        cmocka_unit_test_setup_teardown(a_shard_that_was_removed_is_gone, begin, end),
        cmocka_unit_test_setup_teardown(an_heir_knows_which_shards_have_no_name, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
