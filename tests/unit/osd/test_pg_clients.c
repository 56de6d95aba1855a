/* What is remembered of clients when their entries have left the log. */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "osd/pg/pg_clients.h"

static struct pg_clients clients;
static uint64_t next_sequence;

static int set_up(void **state)
{
    (void)state;
    pg_clients_init(&clients);
    next_sequence = 1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pg_clients_fini(&clients);
    return 0;
}

static void store_all(struct pg_clients *c)
{
    struct pg_client *client;
    while ((client = pg_clients_changed(c)))
        pg_client_stored(c, client);
}

static struct pg_entry_layout entry_of(uint64_t client, uint64_t tid, uint64_t oldest)
{
    return (struct pg_entry_layout){
        .layout = PG_LAYOUT_VERSION,
        .kind = PG_ENTRY_FAILED,
        .result = -EEXIST,
        .failed_step = 3,
        .version = {.config = 5, .sequence = next_sequence++},
        .client = client,
        .tid = tid,
        .oldest = oldest,
    };
}

/* An entry that enters the log and leaves it. */
static void pass(uint64_t client, uint64_t tid, uint64_t oldest, uint64_t stamp_ns)
{
    struct pg_entry_layout entry = entry_of(client, tid, oldest);
    entry.stamp_ns = stamp_ns;
    assert_int_equal(pg_clients_add(&clients, &entry), 0);
    assert_int_equal(pg_clients_retire(&clients, &entry), 0);
}

static bool has(uint64_t client, uint64_t tid)
{
    const struct pg_client *found = pg_clients_find(&clients, client);
    return found && pg_client_result(found, tid);
}

static void results_outlive_their_entries(void **state)
{
    (void)state;
    pass(7, 10, 10, 1);
    pass(7, 12, 10, 1);
    pass(7, 11, 10, 1); /* Of another object; entries are in no order of numbers. */
    assert_true(has(7, 10) && has(7, 11) && has(7, 12));
    assert_false(has(7, 9) || has(7, 13) || has(8, 10));
    const struct pg_result *result = pg_client_result(pg_clients_find(&clients, 7), 12);
    assert_int_equal(result->head.version.sequence, 2);
    assert_int_equal(result->head.result, -EEXIST);
    assert_int_equal(result->head.failed_step, 3);
    assert_int_equal(clients.n_units, 3);
    assert_int_equal(clients.n_kept, 1);
}

static void what_a_client_waits_for_no_more_is_forgotten(void **state)
{
    (void)state;
    pass(7, 10, 10, 1);
    pass(7, 11, 10, 1);
    pass(7, 12, 12, 1);
    assert_false(has(7, 10) || has(7, 11));
    assert_true(has(7, 12));
    assert_int_equal(clients.n_units, 1);
    assert_int_equal(pg_clients_find(&clients, 7)->known, 12);
}

/* What a client says is known from the time when its entry enters the log; results go later. */
static void oldest_is_known_at_once(void **state)
{
    (void)state;
    pass(7, 10, 10, 1);
    struct pg_entry_layout entry = entry_of(7, 20, 20);
    assert_int_equal(pg_clients_add(&clients, &entry), 0);
    assert_int_equal(pg_clients_find(&clients, 7)->known, 20);
    assert_true(has(7, 10));
    pg_clients_take_back(&clients, &entry);
    assert_int_equal(pg_clients_find(&clients, 7)->known, 20);
}

static void a_client_with_nothing_left_is_freed(void **state)
{
    (void)state;
    struct pg_entry_layout entry = entry_of(7, 20, 20);
    assert_int_equal(pg_clients_add(&clients, &entry), 0);
    assert_non_null(pg_clients_find(&clients, 7));
    pg_clients_take_back(&clients, &entry);
    assert_null(pg_clients_find(&clients, 7));
    entry.client = 0; /* Nobody asks again. */
    assert_int_equal(pg_clients_add(&clients, &entry), 0);
    assert_int_equal(pg_clients_retire(&clients, &entry), 0);
    assert_null(clients.by_id);
}

static void silent_clients_expire(void **state)
{
    (void)state;
    pass(7, 10, 10, 1);
    pass(8, 10, 10, PG_CLIENT_AGE_NS);
    pass(9, 10, 10, PG_CLIENT_AGE_NS + 1);
    assert_true(has(7, 10));
    store_all(&clients);
    pass(9, 11, 11, PG_CLIENT_AGE_NS + 2);
    assert_false(has(7, 10));
    assert_true(has(8, 10) && has(9, 11));
    /* The store is told of both, and then there is nothing left of the first. */
    assert_non_null(pg_clients_find(&clients, 7));
    assert_false(pg_clients_find(&clients, 7)->kept);
    store_all(&clients);
    assert_null(pg_clients_find(&clients, 7));
    assert_int_equal(clients.n_kept, 2);
    assert_int_equal(clients.dropped, 0);
}

/* D3: what was dropped is refused afterwards, not executed. */
static void a_client_with_too_many_results_loses_the_first(void **state)
{
    (void)state;
    for (uint64_t tid = 1; tid <= PG_CLIENT_RESULTS_MAX + 2; tid++)
        pass(7, tid, 1, 1);
    assert_false(has(7, 1) || has(7, 2));
    assert_true(has(7, 3) && has(7, PG_CLIENT_RESULTS_MAX + 2));
    assert_int_equal(pg_clients_find(&clients, 7)->known, 3);
    assert_int_equal(clients.n_units, PG_CLIENT_RESULTS_MAX);
    assert_int_equal(clients.dropped, 2);
}

static void the_longest_silent_loses_when_there_are_too_many(void **state)
{
    (void)state;
    enum { EACH = 1000 };
    for (uint64_t client = 1; client <= 4; client++)
        for (uint64_t tid = 1; tid <= EACH; tid++)
            pass(client, tid, 1, 1);
    pass(1, EACH + 1, 1, 1); /* Now the second is the longest silent. */
    for (uint64_t tid = 1; tid <= PG_RESULTS_MAX - 4 * EACH; tid++)
        pass(5, tid, 1, 1);
    assert_int_equal(clients.n_units, PG_RESULTS_MAX);
    assert_true(has(1, 1) && has(3, 1));
    assert_false(has(2, 1));
    assert_true(has(2, 2));
    assert_int_equal(pg_clients_find(&clients, 2)->known, 2);
    pg_clients_fini(&clients);
    next_sequence = 1;
    for (uint64_t client = 1; client <= PG_CLIENTS_MAX + 1; client++)
        pass(client, 1, 1, 1);
    assert_int_equal(clients.n_kept, PG_CLIENTS_MAX);
    assert_false(has(1, 1));
    assert_true(has(2, 1));
}

/* D4. */
static void what_a_forgotten_client_may_have_asked_is_known_by_its_age(void **state)
{
    (void)state;
    const uint64_t second = UINT64_C(1000000000);
    for (uint64_t client = 1; client <= PG_CLIENTS_MAX; client++)
        pass(client, 1, 1, 100 * second + client);
    assert_false(pg_clients_may_lack(&clients, 200 * second, 1, UINT64_MAX));
    pass(PG_CLIENTS_MAX + 1, 1, 1, 150 * second);
    assert_int_equal(clients.dropped, 1);
    assert_int_equal(clients.forgotten_ns, 100 * second + 2);
    /* New ones are never refused, nor those that cannot be so old. */
    assert_false(pg_clients_may_lack(&clients, 150 * second, 0, 0));
    assert_false(pg_clients_may_lack(&clients, 150 * second, 1, 40 * second));
    assert_true(pg_clients_may_lack(&clients, 150 * second, 1, 50 * second));
    assert_true(pg_clients_may_lack(&clients, 150 * second, 1, UINT64_MAX));
    assert_true(pg_clients_may_lack(&clients, 400 * second, 1, 290 * second));
    assert_false(pg_clients_may_lack(&clients, 4000 * second, 1, 600 * second));
}

/* ---- Records ---- */

static void load(struct pg_clients *to, const struct pg_client *client)
{
    struct encoder e;
    struct pg_client_layout head;
    encoder_init(&e);
    pg_client_encode(client, &e);
    assert_false(e.failed);
    assert_int_equal(pg_client_parse(e.data, e.len, &head), 0);
    assert_int_equal(head.client, client->client);
    assert_int_equal(pg_clients_load(to, e.data, e.len), 0);
    encoder_fini(&e);
}

static void encode_all(const struct pg_clients *c, struct encoder *e)
{
    const struct pg_client *client;
    encoder_init(e);
    TAILQ_FOREACH(client, &c->kept, kept_link)
    {
        pg_client_encode(client, e);
    }
    assert_false(e->failed);
}

static void assert_same(const struct pg_clients *a, const struct pg_clients *b)
{
    struct encoder x, y;
    encode_all(a, &x);
    encode_all(b, &y);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
    assert_int_equal(a->n_kept, b->n_kept);
    assert_int_equal(a->n_units, b->n_units);
    assert_int_equal(a->stamp_ns, b->stamp_ns);
    assert_int_equal(a->forgotten_ns, b->forgotten_ns);
    encoder_fini(&x);
    encoder_fini(&y);
}

/* A store lists records by client, another copy sends them by silence: the same comes out. */
static void a_restart_finds_the_same(void **state)
{
    (void)state;
    struct pg_clients again;
    pass(9, 10, 10, 5);
    pass(7, 20, 20, 6);
    pass(8, 30, 30, 7);
    pass(7, 21, 20, 8);
    pg_clients_init(&again);
    for (uint64_t client = 7; client <= 9; client++)
        load(&again, pg_clients_find(&clients, client));
    assert_same(&clients, &again);
    assert_int_equal(pg_clients_find(&again, 7)->known, 20);
    assert_null(pg_clients_changed(&again));
    /* And they go on equally. */
    struct pg_entry_layout entry = entry_of(8, 31, 31);
    entry.stamp_ns = PG_CLIENT_AGE_NS + 6;
    assert_int_equal(pg_clients_add(&again, &entry), 0);
    assert_int_equal(pg_clients_retire(&again, &entry), 0);
    assert_int_equal(pg_clients_add(&clients, &entry), 0);
    assert_int_equal(pg_clients_retire(&clients, &entry), 0);
    assert_same(&clients, &again);
    assert_int_equal(again.n_kept, 2);
    pg_clients_fini(&again);
}

/* D1: copies may shorten their logs at different times, by different steps. */
static void records_do_not_depend_on_when_logs_were_cut(void **state)
{
    (void)state;
    enum { N = 500 };
    static struct pg_entry_layout entries[N];
    struct pg_clients late;
    pg_clients_init(&late);
    for (uint64_t i = 0; i < N; i++) {
        entries[i] = entry_of(1 + i % 7, i + 1, i < 40 ? 1 : i - 39);
        entries[i].stamp_ns = i * (PG_CLIENT_AGE_NS / 6);
        assert_int_equal(pg_clients_add(&clients, &entries[i]), 0);
        assert_int_equal(pg_clients_retire(&clients, &entries[i]), 0);
        assert_int_equal(pg_clients_add(&late, &entries[i]), 0);
    }
    for (uint64_t i = 0; i < N; i++)
        assert_int_equal(pg_clients_retire(&late, &entries[i]), 0);
    assert_same(&clients, &late);
    pg_clients_fini(&late);
}

static void refuses_malformed_records(void **state)
{
    (void)state;
    struct encoder e;
    struct pg_client_layout head;
    pass(7, 10, 10, 1);
    pass(7, 11, 10, 1);
    encoder_init(&e);
    pg_client_encode(pg_clients_find(&clients, 7), &e);
    uint8_t broken[sizeof(struct pg_client_layout) + 2 * sizeof(struct pg_result_layout)];
    assert_int_equal(e.len, sizeof broken);
    for (size_t cut = 0; cut < e.len; cut++)
        assert_int_equal(pg_client_parse(e.data, cut, &head), -EBADMSG);
    const size_t first = sizeof head, second = first + sizeof(struct pg_result_layout);
    const struct {
        size_t at;
        uint8_t value;
    } mistakes[] = {
        {0, PG_LAYOUT_VERSION + 1},                            /* Another layout. */
        {offsetof(struct pg_client_layout, client), 0},        /* Nobody's. */
        {offsetof(struct pg_client_layout, n_results), 3},     /* Not that many. */
        {offsetof(struct pg_client_layout, oldest), 11},       /* Above the first result. */
        {offsetof(struct pg_client_layout, sequence), 1},      /* Before the second result. */
        {second + offsetof(struct pg_result_layout, tid), 10}, /* Twice. */
        {first + offsetof(struct pg_result_layout, version) +
             offsetof(struct wire_version, sequence),
         0},
        {first + offsetof(struct pg_result_layout, result) + 3, 0}, /* No error, no success. */
    };
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        memcpy(broken, e.data, e.len);
        broken[mistakes[i].at] = mistakes[i].value;
        assert_int_equal(pg_client_parse(broken, sizeof broken, &head), -EBADMSG);
    }
    encoder_fini(&e);
}

static void refuses_answers_that_do_not_end_in_zeroes(void **state)
{
    (void)state;
    struct {
        struct pg_client_layout head;
        struct pg_result_layout result;
        uint8_t answer[PG_RESULT_UNIT];
    } record = {
        .head = {.layout = PG_LAYOUT_VERSION, .n_results = 1, .client = 7, .sequence = 1},
        .result = {.tid = 10, .version = {.config = 1, .sequence = 1}, .answer_len = 3},
        .answer = {'y', 'e', 's'},
    };
    struct pg_client_layout head;
    static_assert(sizeof record == sizeof record.head + 2 * PG_RESULT_UNIT, "no gaps");
    assert_int_equal(pg_client_parse(&record, sizeof record, &head), 0);
    for (size_t i = 3; i < sizeof record.answer; i++) {
        record.answer[i] = 1;
        assert_int_equal(pg_client_parse(&record, sizeof record, &head), -EBADMSG);
        record.answer[i] = 0;
    }
    assert_int_equal(pg_client_parse(&record, sizeof record, &head), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(results_outlive_their_entries),
        TEST(what_a_client_waits_for_no_more_is_forgotten),
        TEST(oldest_is_known_at_once),
        TEST(a_client_with_nothing_left_is_freed),
        TEST(silent_clients_expire),
        TEST(a_client_with_too_many_results_loses_the_first),
        TEST(the_longest_silent_loses_when_there_are_too_many),
        TEST(what_a_forgotten_client_may_have_asked_is_known_by_its_age),
        TEST(a_restart_finds_the_same),
        TEST(records_do_not_depend_on_when_logs_were_cut),
        TEST(refuses_malformed_records),
        TEST(refuses_answers_that_do_not_end_in_zeroes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
