/* Watches of a client: what it writes, connects and pings, and how long it takes them for alive. */
#include "tests/unit/client/fake_world.h"

#include <errno.h>
#include <string.h>

#include "client/core/watch.h"

/* Of the service of a group: eight bytes each. */
#define LIFE       "life one"
#define OTHER_LIFE "life two"

enum { TIMEOUT_MS = 8000 };
/* So long is a watch valid: less a margin for clocks that differ. */
#define SPAN_NS (TIMEOUT_MS * MSEC_NS - TIMEOUT_MS * MSEC_NS / 20)

static struct fake_world w;
static struct client *c;

static struct told {
    struct client_watch watch;
    uint32_t n_began, n_events, n_lost, n_ended;
    int began, lost, ended;
    struct client_watch_event event;
    char data[16];
} told;

static struct told *of(struct client_watch *watch)
{
    return container_of(watch, struct told, watch);
}

static void began(struct client_watch *watch, int error)
{
    of(watch)->n_began++;
    of(watch)->began = error;
}

static void event(struct client_watch *watch, const struct client_watch_event *event)
{
    struct told *to = of(watch);
    to->n_events++;
    to->event = *event;
    assert_true(event->len < sizeof to->data);
    memset(to->data, 0, sizeof to->data);
    if (event->len > 0)
        memcpy(to->data, event->data, event->len);
}

static void lost(struct client_watch *watch, int error)
{
    of(watch)->n_lost++;
    of(watch)->lost = error;
}

static void ended(struct client_watch *watch, int error)
{
    of(watch)->n_ended++;
    of(watch)->ended = error;
}

static struct told prepared(uint32_t timeout_ms, uint32_t mode)
{
    return (struct told){.watch = {.object = {.pool = 1,
                                              .snap = OBJECT_HEAD,
                                              .space = (const uint8_t *)"",
                                              .name = (const uint8_t *)"object",
                                              .name_len = 6},
                                   .timeout_ms = timeout_ms,
                                   .mode = mode,
                                   .began = began,
                                   .event = event,
                                   .lost = lost,
                                   .ended = ended}};
}

static void prepare(uint32_t timeout_ms, uint32_t mode)
{
    told = prepared(timeout_ms, mode);
}

static int setup(void **state)
{
    (void)state;
    fake_world_init(&w);
    c = fake_connected_client(&w, &(struct client_options){0});
    prepare(TIMEOUT_MS, WIRE_LEASE_NONE);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    client_destroy(c);
    fake_world_fini(&w);
    return 0;
}

/* The next request at this OSD is of this kind, and about the watch; its number. */
static uint64_t expect(int32_t osd, uint16_t code)
{
    fake_osd_accept(&w, osd);
    struct fake_request request = fake_request(&w, osd);
    assert_int_equal(request.first_code, code);
    if (code != WIRE_OP_CODE_WATCH_PING && code != WIRE_OP_CODE_NOTIFY)
        assert_int_equal(request.first.length, told.watch.cookie);
    return request.head.tid;
}

static void answer(int32_t osd, uint16_t code, int result, const char *data)
{
    fake_reply(&w, osd, expect(osd, code), result, w.map->epoch, data);
}

static void begin(void)
{
    client_watch(c, &told.watch);
    answer(0, WIRE_OP_CODE_WATCH, 0, "");
    assert_int_equal(told.n_began, 0);
    answer(0, WIRE_OP_CODE_WATCH_CONNECT, 0, LIFE);
    assert_int_equal(told.n_began, 1);
    assert_int_equal(told.began, 0);
    assert_true(client_watch_valid(&told.watch));
}

static void tell(int32_t osd, struct wire_watch_event wire, const char *data)
{
    struct message *m = message_create(MSG_WATCH_EVENT, sizeof wire);
    assert_non_null(m);
    memcpy(m->body, &wire, sizeof wire);
    assert_int_equal(buf_slice_copy(data, strlen(data), &m->payload), 0);
    fake_deliver(&w, fake_osd(&w, osd), m);
    fake_settle(&w);
}

/* ---- The beginning ---- */

static void begins_with_a_write_and_a_connection(void **state)
{
    (void)state;
    uint64_t before = w.now_ns;
    client_watch(c, &told.watch);
    assert_true(told.watch.cookie != 0);
    uint64_t tid = expect(0, WIRE_OP_CODE_WATCH);
    fake_advance(&w, 100 * MSEC_NS);
    fake_reply(&w, 0, tid, 0, w.map->epoch, "");
    assert_false(client_watch_valid(&told.watch));
    uint64_t connected = w.now_ns;
    tid = expect(0, WIRE_OP_CODE_WATCH_CONNECT);
    fake_advance(&w, 100 * MSEC_NS);
    fake_reply(&w, 0, tid, 0, w.map->epoch, LIFE);
    assert_int_equal(told.n_began, 1);
    assert_true(connected > before);
    /* From when it was asked, not from when it was answered. */
    assert_int_equal(client_watch_until(&told.watch), connected + SPAN_NS);
    assert_int_equal(client_watch_age(&told.watch), 100 * MSEC_NS);
}

static void a_refused_watch_is_its_owners_again(void **state)
{
    (void)state;
    client_watch(c, &told.watch);
    answer(0, WIRE_OP_CODE_WATCH, -ENOENT, "");
    assert_int_equal(told.n_began, 1);
    assert_int_equal(told.began, -ENOENT);
    assert_int_equal(client_watch_until(&told.watch), 0);
    uint64_t cookie = told.watch.cookie;
    prepare(TIMEOUT_MS, WIRE_LEASE_NONE);
    begin();
    assert_true(told.watch.cookie != cookie);
    assert_int_equal(told.n_lost, 0);
}

static void times_out_within_limits(void **state)
{
    (void)state;
    static const struct {
        uint32_t asked_ms;
        uint64_t gets_ms;
    } cases[] = {{0, WIRE_WATCH_TIMEOUT_MS},
                 {1, WIRE_WATCH_TIMEOUT_MIN_MS},
                 {UINT32_MAX, WIRE_WATCH_TIMEOUT_MAX_MS}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        prepare(cases[i].asked_ms, WIRE_LEASE_NONE);
        begin();
        uint64_t span = cases[i].gets_ms * MSEC_NS;
        assert_int_equal(client_watch_until(&told.watch), w.now_ns + span - span / 20);
        client_unwatch(c, &told.watch);
        answer(0, WIRE_OP_CODE_UNWATCH, 0, "");
        assert_int_equal(told.n_ended, 1);
    }
}

/* It was evicted before its first connection. */
static void is_written_again_when_it_is_gone_before_it_began(void **state)
{
    (void)state;
    client_watch(c, &told.watch);
    answer(0, WIRE_OP_CODE_WATCH, 0, "");
    answer(0, WIRE_OP_CODE_WATCH_CONNECT, -ENOTCONN, "");
    assert_int_equal(told.n_began, 0);
    answer(0, WIRE_OP_CODE_WATCH, 0, "");
    answer(0, WIRE_OP_CODE_WATCH_CONNECT, 0, LIFE);
    assert_int_equal(told.began, 0);
    assert_int_equal(told.n_began, 1);
}

static void a_first_connection_that_fails_is_a_failed_beginning(void **state)
{
    (void)state;
    client_watch(c, &told.watch);
    answer(0, WIRE_OP_CODE_WATCH, 0, "");
    answer(0, WIRE_OP_CODE_WATCH_CONNECT, -EACCES, "");
    assert_int_equal(told.n_began, 1);
    assert_int_equal(told.began, -EACCES);
    assert_int_equal(told.n_lost, 0);
    assert_false(client_watch_valid(&told.watch));
}

/* A life of another length than eight bytes comes from no OSD of ours. */
static void a_connection_without_a_life_is_none(void **state)
{
    (void)state;
    client_watch(c, &told.watch);
    answer(0, WIRE_OP_CODE_WATCH, 0, "");
    answer(0, WIRE_OP_CODE_WATCH_CONNECT, 0, "short");
    assert_int_equal(told.n_began, 1);
    assert_int_equal(told.began, -EPROTO);
}

/* ---- Signs of life ---- */

static void signs_of_life_prolong_it(void **state)
{
    (void)state;
    begin();
    fake_advance(&w, TIMEOUT_MS * MSEC_NS / 4);
    uint64_t pinged = w.now_ns;
    uint64_t tid = expect(0, WIRE_OP_CODE_WATCH_PING);
    fake_advance(&w, 50 * MSEC_NS);
    assert_true(client_watch_until(&told.watch) < pinged + SPAN_NS);
    fake_reply(&w, 0, tid, 0, w.map->epoch, LIFE);
    assert_int_equal(client_watch_until(&told.watch), pinged + SPAN_NS);
}

static void another_life_of_the_service_prolongs_nothing(void **state)
{
    (void)state;
    begin();
    uint64_t until = client_watch_until(&told.watch);
    fake_advance(&w, TIMEOUT_MS * MSEC_NS / 4);
    answer(0, WIRE_OP_CODE_WATCH_PING, 0, OTHER_LIFE);
    assert_int_equal(client_watch_until(&told.watch), until);
    uint64_t asked = w.now_ns;
    answer(0, WIRE_OP_CODE_WATCH_CONNECT, 0, OTHER_LIFE);
    assert_int_equal(client_watch_until(&told.watch), asked + SPAN_NS);
    assert_int_equal(told.n_began, 1);
}

static void an_answer_that_is_none_prolongs_nothing(void **state)
{
    (void)state;
    begin();
    uint64_t until = client_watch_until(&told.watch);
    fake_advance(&w, TIMEOUT_MS * MSEC_NS / 4);
    answer(0, WIRE_OP_CODE_WATCH_PING, -EIO, "");
    fake_advance(&w, TIMEOUT_MS * MSEC_NS / 4);
    answer(0, WIRE_OP_CODE_WATCH_PING, 0, "seven b");
    assert_int_equal(client_watch_until(&told.watch), until);
    assert_true(client_watch_valid(&told.watch));
}

static void without_answers_it_is_lost_once_at_its_time(void **state)
{
    (void)state;
    begin();
    fake_advance(&w, SPAN_NS - 1);
    assert_true(client_watch_valid(&told.watch));
    assert_int_equal(told.n_lost, 0);
    fake_advance(&w, MSEC_NS);
    assert_false(client_watch_valid(&told.watch));
    assert_int_equal(told.n_lost, 1);
    assert_int_equal(told.lost, -ENOTCONN);
    fake_advance(&w, 10 * SPAN_NS);
    assert_int_equal(told.n_lost, 1);
    /* What is told to it now is not for it. */
    uint64_t cookie = told.watch.cookie;
    fake_osd_accept(&w, 0);
    tell(0, (struct wire_watch_event){.cookie = cookie, .kind = WIRE_WATCH_NOTIFIED}, "late");
    assert_int_equal(told.n_events, 0);
    client_unwatch(c, &told.watch);
    while (told.n_ended == 0) {
        struct fake_request request = fake_request(&w, 0);
        fake_reply(&w, 0, request.head.tid, 0, w.map->epoch, LIFE);
    }
    assert_int_equal(told.n_ended, 1);
    assert_int_equal(told.n_lost, 1);
}

/* Answers what is asked until it has begun; how many signs of life that were. */
static uint32_t begin_other(struct told *other)
{
    uint32_t pings = 0;
    *other = prepared(TIMEOUT_MS, WIRE_LEASE_NONE);
    client_watch(c, &other->watch);
    while (other->n_began == 0) {
        fake_osd_accept(&w, 0);
        struct fake_request request = fake_request(&w, 0);
        pings += request.first_code == WIRE_OP_CODE_WATCH_PING;
        fake_reply(&w, 0, request.head.tid, 0, w.map->epoch,
                   request.first_code == WIRE_OP_CODE_WATCH ? "" : LIFE);
    }
    return pings;
}

static void others_that_begin_do_not_put_signs_of_life_off(void **state)
{
    static struct told others[12];
    uint32_t pings = 0;
    (void)state;
    begin();
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        fake_advance(&w, TIMEOUT_MS * MSEC_NS / 6);
        pings += begin_other(&others[i]);
    }
    assert_true(pings >= 4);
    assert_true(client_watch_valid(&told.watch));
    assert_int_equal(told.n_lost, 0);
}

/* ---- The connection ---- */

static void connects_again_over_another_session(void **state)
{
    (void)state;
    begin();
    fake_session_close(&w, fake_osd(&w, 0), -ECONNRESET);
    fake_advance(&w, SEC_NS);
    assert_true(client_watch_valid(&told.watch));
    answer(0, WIRE_OP_CODE_WATCH_CONNECT, 0, LIFE);
    assert_int_equal(told.n_began, 1);
    assert_int_equal(told.n_lost, 0);
    assert_true(client_watch_until(&told.watch) > w.now_ns);
}

static void connects_to_another_primary(void **state)
{
    (void)state;
    begin();
    uint64_t until = client_watch_until(&told.watch);
    fake_advance(&w, SEC_NS);
    fake_map_pg(&w, 1, 0, 2, (int32_t[]){1, 0});
    answer(1, WIRE_OP_CODE_WATCH_CONNECT, 0, OTHER_LIFE);
    assert_int_equal(client_watch_until(&told.watch), until + SEC_NS);
    fake_advance(&w, TIMEOUT_MS * MSEC_NS / 4);
    answer(1, WIRE_OP_CODE_WATCH_PING, 0, OTHER_LIFE);
    assert_true(client_watch_until(&told.watch) > until + SEC_NS);
}

static void a_connection_that_fails_for_now_is_tried_again(void **state)
{
    (void)state;
    begin();
    uint64_t until = client_watch_until(&told.watch);
    fake_session_close(&w, fake_osd(&w, 0), -ECONNRESET);
    fake_advance(&w, 500 * MSEC_NS);
    answer(0, WIRE_OP_CODE_WATCH_CONNECT, -EIO, "");
    assert_int_equal(told.n_lost, 0);
    assert_true(client_watch_until(&told.watch) < until);
    fake_advance(&w, SEC_NS / 2);
    answer(0, WIRE_OP_CODE_WATCH_CONNECT, 0, LIFE);
    assert_true(client_watch_until(&told.watch) > until);
}

static void who_is_gone_there_is_lost(void **state)
{
    (void)state;
    static const int errors[] = {-ENOTCONN, -ENOENT, -ESHUTDOWN};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        prepare(TIMEOUT_MS, WIRE_LEASE_NONE);
        begin();
        tell(0, (struct wire_watch_event){.cookie = told.watch.cookie, .kind = WIRE_WATCH_DOUBTFUL},
             "");
        answer(0, WIRE_OP_CODE_WATCH_CONNECT, errors[i], "");
        assert_int_equal(told.n_lost, 1);
        assert_int_equal(told.lost, errors[i]);
        assert_false(client_watch_valid(&told.watch));
        client_unwatch(c, &told.watch);
        answer(0, WIRE_OP_CODE_UNWATCH, -ENOENT, "");
        assert_int_equal(told.n_ended, 1);
        assert_int_equal(told.ended, -ENOENT);
    }
}

/* V3: a connection that was asked for in time and answered too late. */
static void a_late_connection_does_not_bring_it_back(void **state)
{
    (void)state;
    begin();
    tell(0, (struct wire_watch_event){.cookie = told.watch.cookie, .kind = WIRE_WATCH_DOUBTFUL},
         "");
    uint64_t tid = expect(0, WIRE_OP_CODE_WATCH_CONNECT);
    w.now_ns += 2 * SPAN_NS; /* It slept: no timer came. */
    struct fake_session *session = fake_osd(&w, 0);
    assert_non_null(session);
    fake_reply(&w, 0, tid, 0, w.map->epoch, LIFE);
    assert_int_equal(told.n_lost, 1);
    assert_int_equal(told.lost, -ENOTCONN);
    assert_false(client_watch_valid(&told.watch));
}

/* ---- Events ---- */

static void events_are_told(void **state)
{
    (void)state;
    begin();
    tell(0,
         (struct wire_watch_event){.cookie = told.watch.cookie,
                                   .notifier = 7,
                                   .notify_id = 8,
                                   .kind = WIRE_WATCH_NOTIFIED},
         "hello");
    assert_int_equal(told.n_events, 1);
    assert_false(told.event.recall);
    assert_int_equal(told.event.notifier, 7);
    assert_int_equal(told.event.notify_id, 8);
    assert_string_equal(told.data, "hello");
    tell(0,
         (struct wire_watch_event){.cookie = told.watch.cookie,
                                   .kind = WIRE_WATCH_RECALLED,
                                   .mode = WIRE_LEASE_EXCLUSIVE},
         "");
    assert_int_equal(told.n_events, 2);
    assert_true(told.event.recall);
    assert_int_equal(told.event.mode, WIRE_LEASE_EXCLUSIVE);
}

static void events_that_cannot_be_are_dropped(void **state)
{
    (void)state;
    begin();
    uint64_t cookie = told.watch.cookie;
    tell(0, (struct wire_watch_event){.cookie = cookie + 1, .kind = WIRE_WATCH_NOTIFIED}, "other");
    tell(0, (struct wire_watch_event){.cookie = cookie, .kind = 200}, "unknown");
    struct message *m = message_create(MSG_WATCH_EVENT, sizeof(struct wire_watch_event) - 1);
    assert_non_null(m);
    memset(m->body, 0, m->body_len);
    fake_deliver(&w, fake_osd(&w, 0), m);
    assert_int_equal(told.n_events, 0);
    assert_true(client_watch_valid(&told.watch));
    assert_true(fake_no_request(&w, 0));
}

static void who_slept_is_lost_and_hears_nothing(void **state)
{
    (void)state;
    begin();
    w.now_ns += 2 * SPAN_NS;
    tell(0, (struct wire_watch_event){.cookie = told.watch.cookie, .kind = WIRE_WATCH_NOTIFIED},
         "old");
    assert_int_equal(told.n_events, 0);
    assert_int_equal(told.n_lost, 1);
}

/* ---- Leases ---- */

static void what_is_in_the_way_is_recalled_until_patience_ends(void **state)
{
    (void)state;
    prepare(TIMEOUT_MS, WIRE_LEASE_EXCLUSIVE);
    told.watch.patience_ns = SEC_NS;
    client_watch(c, &told.watch);
    answer(0, WIRE_OP_CODE_WATCH, -EBUSY, "");
    answer(0, WIRE_OP_CODE_NOTIFY, 0, "");
    answer(0, WIRE_OP_CODE_WATCH, -EBUSY, "");
    uint64_t tid = expect(0, WIRE_OP_CODE_NOTIFY);
    fake_advance(&w, SEC_NS);
    fake_reply(&w, 0, tid, 0, w.map->epoch, "");
    assert_int_equal(told.n_began, 0);
    answer(0, WIRE_OP_CODE_WATCH, -EBUSY, "");
    assert_int_equal(told.n_began, 1);
    assert_int_equal(told.began, -EBUSY);
}

static void without_patience_nobody_is_asked(void **state)
{
    (void)state;
    prepare(TIMEOUT_MS, WIRE_LEASE_EXCLUSIVE);
    client_watch(c, &told.watch);
    answer(0, WIRE_OP_CODE_WATCH, -EBUSY, "");
    assert_int_equal(told.began, -EBUSY);
    assert_true(fake_no_request(&w, 0));
}

static void a_recall_that_is_refused_for_good_ends_it(void **state)
{
    (void)state;
    prepare(TIMEOUT_MS, WIRE_LEASE_SHARED);
    told.watch.patience_ns = SEC_NS;
    client_watch(c, &told.watch);
    answer(0, WIRE_OP_CODE_WATCH, -EBUSY, "");
    answer(0, WIRE_OP_CODE_NOTIFY, -ENOENT, "");
    assert_int_equal(told.n_began, 1);
    assert_int_equal(told.began, -ENOENT);
}

static void holds_the_lesser_of_two_while_one_becomes_the_other(void **state)
{
    (void)state;
    prepare(TIMEOUT_MS, WIRE_LEASE_EXCLUSIVE);
    begin();
    client_watch_change(c, &told.watch, WIRE_LEASE_SHARED);
    assert_int_equal(told.watch.mode, WIRE_LEASE_SHARED);
    answer(0, WIRE_OP_CODE_WATCH, 0, "");
    assert_int_equal(told.n_began, 2);
    client_watch_change(c, &told.watch, WIRE_LEASE_EXCLUSIVE);
    assert_int_equal(told.watch.mode, WIRE_LEASE_SHARED);
    answer(0, WIRE_OP_CODE_WATCH, -EBUSY, "");
    assert_int_equal(told.n_began, 3);
    assert_int_equal(told.began, -EBUSY);
    assert_int_equal(told.watch.mode, WIRE_LEASE_SHARED);
    assert_true(client_watch_valid(&told.watch));
    client_watch_change(c, &told.watch, WIRE_LEASE_EXCLUSIVE);
    answer(0, WIRE_OP_CODE_WATCH, 0, "");
    assert_int_equal(told.watch.mode, WIRE_LEASE_EXCLUSIVE);
}

/* ---- Fenced leases ---- */

static void pong(struct fake_session *session)
{
    const struct message *ping = fake_take_type(session, MSG_PING);
    assert_non_null(ping);
    struct message *m = message_create(MSG_PING_REPLY, ping->body_len);
    assert_non_null(m);
    memcpy(m->body, ping->body, ping->body_len);
    fake_deliver(&w, session, m);
    fake_settle(&w);
}

/* Answers the next end of a watch, whatever was sent before; its cookie. */
static uint64_t answer_end(int32_t osd, int result)
{
    struct fake_request request;
    fake_osd_accept(&w, osd);
    do {
        request = fake_request(&w, osd);
    } while (request.first_code != WIRE_OP_CODE_UNWATCH);
    fake_reply(&w, osd, request.head.tid, result, w.map->epoch, "");
    return request.first.length;
}

/* A write that its OSD has, and that is revoked. */
static void revoke_one(void)
{
    static struct fake_op write;
    fake_op_write(&write, 1, "other", "data");
    client_submit(c, &write.op);
    fake_settle(&w);
    assert_int_equal(fake_request(&w, 0).first_code, WIRE_OP_CODE_WRITE_FULL);
    client_revoke(c, &write.op);
    assert_true(client_is_late(c));
}

static void a_fenced_lease_ends_when_nothing_is_late(void **state)
{
    (void)state;
    prepare(TIMEOUT_MS, WIRE_LEASE_FENCED);
    begin();
    revoke_one();
    client_unwatch(c, &told.watch);
    fake_settle(&w);
    fake_advance(&w, SEC_NS);
    fake_osd_accept(&w, 0);
    fake_advance(&w, SEC_NS);
    /* The session is there, and the OSD has not said that it knows. */
    assert_true(client_is_late(c));
    assert_int_equal(told.n_ended, 0);
    pong(fake_osd(&w, 0));
    assert_false(client_is_late(c));
    answer(0, WIRE_OP_CODE_UNWATCH, 0, "");
    assert_int_equal(told.n_ended, 1);
}

static void other_leases_end_at_once(void **state)
{
    (void)state;
    prepare(TIMEOUT_MS, WIRE_LEASE_EXCLUSIVE);
    begin();
    revoke_one();
    client_unwatch(c, &told.watch);
    fake_settle(&w);
    answer(0, WIRE_OP_CODE_UNWATCH, 0, "");
    assert_int_equal(told.n_ended, 1);
}

static void an_osd_that_is_another_one_is_not_late(void **state)
{
    (void)state;
    prepare(TIMEOUT_MS, WIRE_LEASE_FENCED);
    begin();
    revoke_one();
    client_unwatch(c, &told.watch);
    fake_settle(&w);
    fake_map_osd(&w, 0, true, 4711);
    fake_settle(&w);
    assert_false(client_is_late(c));
    answer_end(0, 0);
    assert_int_equal(told.n_ended, 1);
}

/* Others would have us blocked. */
static void one_that_ends_late_is_kept_alive(void **state)
{
    static struct fake_op write;
    (void)state;
    fake_map_add_pool(&w, 3);
    for (uint32_t i = 0; i < map_pool(w.map, 3)->pg_num; i++)
        fake_map_pg(&w, 3, i, 1, (const int32_t[]){2});
    fake_settle(&w);
    prepare(TIMEOUT_MS, WIRE_LEASE_FENCED);
    begin();
    fake_op_write(&write, 3, "elsewhere", "data");
    client_submit(c, &write.op);
    fake_settle(&w);
    fake_osd_accept(&w, 2);
    assert_int_equal(fake_request(&w, 2).first_code, WIRE_OP_CODE_WRITE_FULL);
    client_revoke(c, &write.op);
    client_unwatch(c, &told.watch);
    for (uint32_t i = 0; i < 20; i++) {
        fake_advance(&w, TIMEOUT_MS * MSEC_NS / 4);
        answer(0, WIRE_OP_CODE_WATCH_PING, 0, LIFE);
    }
    tell(0, (struct wire_watch_event){.cookie = told.watch.cookie, .kind = WIRE_WATCH_RECALLED},
         "");
    assert_int_equal(told.n_events + told.n_lost + told.n_ended, 0);
    fake_map_osd(&w, 2, false, 1002);
    fake_settle(&w);
    answer_end(0, 0);
    assert_int_equal(told.n_ended, 1);
    fake_advance(&w, TIMEOUT_MS * MSEC_NS);
    assert_true(fake_no_request(&w, 0));
}

/* A write that OSD 2 has been sent, or its path has, while a fenced lease is had at OSD 0. */
static void write_elsewhere(struct fake_op *write)
{
    fake_map_add_pool(&w, 3);
    for (uint32_t i = 0; i < map_pool(w.map, 3)->pg_num; i++)
        fake_map_pg(&w, 3, i, 1, (const int32_t[]){2});
    fake_settle(&w);
    prepare(TIMEOUT_MS, WIRE_LEASE_FENCED);
    begin();
    fake_op_write(write, 3, "elsewhere", "data");
    client_submit(c, &write->op);
    fake_settle(&w);
    fake_osd_accept(&w, 2);
    assert_int_equal(fake_request(&w, 2).first_code, WIRE_OP_CODE_WRITE_FULL);
    assert_int_equal(write->op.state, CLIENT_OP_SENT);
}

static void add_member(void)
{
    for (uint32_t i = 0; i < map_pool(w.map, 3)->pg_num; i++)
        fake_map_pg(&w, 3, i, 2, (const int32_t[]){2, 1});
    fake_settle(&w);
}

/* The primary is the one that it was, and takes what is under way to it. */
static void what_waits_to_be_sent_again_is_late_when_revoked(void **state)
{
    static struct fake_op write;
    (void)state;
    write_elsewhere(&write);
    struct fake_session *path = fake_osd(&w, 2);
    path->base.queued_bytes = NET_QUEUE_LIMIT + 1; /* It does not take it. */
    add_member();
    assert_int_equal(write.op.state, CLIENT_OP_UNSENT);
    client_revoke(c, &write.op);
    fake_settle(&w);
    client_unwatch(c, &told.watch);
    fake_settle(&w);
    bool gone = path->over || path->dropped;
    path->base.queued_bytes = 0;
    assert_true(client_is_late(c));
    assert_true(gone);
}

/* As when it is paused, or a group has too few members for a while. */
static void what_was_sent_to_a_group_that_does_not_serve_is_late(void **state)
{
    static struct fake_op write;
    (void)state;
    write_elsewhere(&write);
    struct fake_session *path = fake_osd(&w, 2);
    fake_map_flags(&w, MAP_PAUSE);
    fake_settle(&w);
    assert_int_equal(write.op.state, CLIENT_OP_UNSENT);
    client_revoke(c, &write.op);
    fake_settle(&w);
    fake_map_flags(&w, 0);
    fake_settle(&w);
    client_unwatch(c, &told.watch);
    fake_settle(&w);
    assert_true(client_is_late(c));
    assert_true(path->over || path->dropped);
}

/* The session ends while it waits to be sent again over it. */
static void what_was_to_be_sent_again_is_late_when_its_session_ends(void **state)
{
    static struct fake_op write;
    (void)state;
    write_elsewhere(&write);
    struct fake_session *path = fake_osd(&w, 2);
    path->base.queued_bytes = NET_QUEUE_LIMIT + 1;
    add_member();
    fake_session_close(&w, path, -ECONNRESET);
    fake_settle(&w);
    client_cancel(c, &write.op);
    fake_settle(&w);
    assert_true(client_is_late(c));
}

static void connect_with_time_out(uint64_t op_timeout_ns)
{
    client_destroy(c);
    c = fake_connected_client(&w, &(struct client_options){.op_timeout_ns = op_timeout_ns});
    prepare(TIMEOUT_MS, WIRE_LEASE_FENCED);
}

/* Its owner has its memory again, and whoever wants the object does not have to wait for us. */
static void what_is_left_of_a_fenced_lease_is_ended(void **state)
{
    (void)state;
    connect_with_time_out(3 * SEC_NS);
    begin();
    uint64_t cookie = told.watch.cookie;
    client_unwatch(c, &told.watch);
    expect(0, WIRE_OP_CODE_UNWATCH);
    fake_advance(&w, 3 * SEC_NS);
    assert_int_equal(told.n_ended, 1);
    assert_int_equal(told.ended, -ETIMEDOUT);
    memset(&told.watch, 0xa5, sizeof told.watch);
    for (uint32_t i = 0; i < 3; i++) {
        fake_osd(&w, 0)->heard_ns = w.now_ns;
        assert_int_equal(fake_request(&w, 0).first_code, WIRE_OP_CODE_UNWATCH);
        fake_advance(&w, 3 * SEC_NS);
    }
    assert_int_equal(answer_end(0, 0), cookie);
    fake_advance(&w, 4 * SEC_NS);
    assert_true(fake_no_request(&w, 0));
}

static void so_is_one_that_may_have_begun(void **state)
{
    (void)state;
    connect_with_time_out(3 * SEC_NS);
    client_watch(c, &told.watch);
    uint64_t cookie = told.watch.cookie;
    expect(0, WIRE_OP_CODE_WATCH);
    fake_advance(&w, 4 * SEC_NS);
    assert_int_equal(told.n_began, 1);
    assert_int_equal(told.began, -ETIMEDOUT);
    memset(&told.watch, 0xa5, sizeof told.watch);
    assert_int_equal(answer_end(0, 0), cookie);
    /* One that was refused is not there. */
    prepare(TIMEOUT_MS, WIRE_LEASE_FENCED);
    client_watch(c, &told.watch);
    answer(0, WIRE_OP_CODE_WATCH, -EBUSY, "");
    assert_int_equal(told.began, -EBUSY);
    fake_advance(&w, SEC_NS);
    assert_true(fake_no_request(&w, 0));
    /* Nor does one outlive the client. */
    prepare(TIMEOUT_MS, WIRE_LEASE_FENCED);
    client_watch(c, &told.watch);
    fake_advance(&w, 4 * SEC_NS);
    assert_int_equal(told.began, -ETIMEDOUT);
    client_destroy(c);
    c = fake_connected_client(&w, &(struct client_options){0});
}

static void a_client_goes_with_a_lease_that_ends_late(void **state)
{
    (void)state;
    prepare(TIMEOUT_MS, WIRE_LEASE_FENCED);
    begin();
    revoke_one();
    client_unwatch(c, &told.watch);
    fake_settle(&w);
    client_destroy(c);
    assert_int_equal(told.n_ended, 0);
    c = fake_connected_client(&w, &(struct client_options){0});
}

/* What another client has sent may be executed by OSDs that know no newer map than ours. */
static void what_an_answer_relies_on_is_known_first(void **state)
{
    (void)state;
    static struct fake_op first, second;
    fake_op_read(&first, 1, "object", 4);
    client_submit(c, &first.op);
    fake_settle(&w);
    fake_osd_accept(&w, 0);
    uint64_t tid = fake_request(&w, 0).head.tid, epoch = w.map->epoch;
    w.reply_flags = WIRE_REPLY_FENCED;
    fake_reply(&w, 0, tid, 0, epoch + 1, "data");
    w.reply_flags = 0;
    assert_int_equal(first.op.result, 0);
    fake_op_read(&second, 1, "object", 4);
    client_submit(c, &second.op);
    fake_settle(&w);
    assert_true(fake_no_request(&w, 0));
    fake_map_touch(&w);
    fake_settle(&w);
    struct fake_request request = fake_request(&w, 0);
    assert_int_equal(request.head.epoch, epoch + 1);
    fake_reply(&w, 0, request.head.tid, 0, epoch + 1, "data");
    assert_int_equal(second.op.result, 0);
}

/* ---- The end ---- */

static void ends_with_a_write(void **state)
{
    (void)state;
    begin();
    client_unwatch(c, &told.watch);
    assert_false(client_watch_valid(&told.watch));
    answer(0, WIRE_OP_CODE_UNWATCH, 0, "");
    assert_int_equal(told.n_ended, 1);
    assert_int_equal(told.ended, 0);
    assert_int_equal(told.n_lost, 0);
    /* Nobody is left to give signs of life for. */
    fake_advance(&w, SPAN_NS);
    assert_true(fake_no_request(&w, 0));
}

static void without_a_connection_it_is_valid_for_a_short_time(void **state)
{
    (void)state;
    uint64_t span = WIRE_WATCH_HUNG_UP_MS * MSEC_NS;
    begin();
    struct fake_session *session = fake_session_to(&w, fake_osd_address(0));
    w.handlers->disconnected(w.ctx, &session->base);
    fake_settle(&w);
    /* A sign of life at once; while it is not answered, the time goes by. */
    uint64_t tid = expect(0, WIRE_OP_CODE_WATCH_PING);
    assert_true(client_watch_valid(&told.watch));
    fake_advance(&w, span - span / 20 - MSEC_NS);
    assert_true(client_watch_valid(&told.watch));
    fake_reply(&w, 0, tid, 0, w.map->epoch, LIFE);
    fake_advance(&w, span);
    assert_true(client_watch_valid(&told.watch));
    w.handlers->disconnected(w.ctx, &session->base);
    fake_advance(&w, span - span / 20 + MSEC_NS);
    assert_false(client_watch_valid(&told.watch));
    assert_int_equal(told.n_lost, 1);
}

static void ends_while_it_connects(void **state)
{
    (void)state;
    begin();
    tell(0, (struct wire_watch_event){.cookie = told.watch.cookie, .kind = WIRE_WATCH_DOUBTFUL},
         "");
    uint64_t tid = expect(0, WIRE_OP_CODE_WATCH_CONNECT);
    client_unwatch(c, &told.watch);
    fake_settle(&w);
    answer(0, WIRE_OP_CODE_UNWATCH, 0, "");
    assert_int_equal(told.n_ended, 1);
    /* Its answer comes when the watch is its owner's again. */
    memset(&told.watch, 0xa5, sizeof told.watch);
    fake_reply(&w, 0, tid, 0, w.map->epoch, LIFE);
    assert_int_equal(told.n_ended, 1);
}

static void a_client_goes_with_its_watches(void **state)
{
    (void)state;
    begin();
    tell(0, (struct wire_watch_event){.cookie = told.watch.cookie, .kind = WIRE_WATCH_DOUBTFUL},
         "");
    client_destroy(c);
    assert_int_equal(told.n_lost + told.n_ended, 0);
    c = fake_connected_client(&w, &(struct client_options){0});
}

/* ---- Notifies ---- */

static void answers_to_notifies_have_a_limit(void **state)
{
    (void)state;
    static const uint8_t answer_bytes[WIRE_NOTIFY_ANSWER_MAX + 1];
    struct client_op op = {0};
    struct wire_notify_ack ack;
    assert_int_equal(client_ack_op(&op, 1, 2, 3, answer_bytes, sizeof answer_bytes), -EFBIG);
    assert_int_equal(client_ack_op(&op, 1, 2, 3, NULL, 0), 0);
    assert_int_equal(op.n_steps, 1);
    assert_int_equal(op.steps[0].data.len, sizeof ack);
    memcpy(&ack, op.steps[0].data.data, sizeof ack);
    assert_int_equal(ack.notifier, 1);
    assert_int_equal(ack.notify_id, 2);
    assert_int_equal(ack.cookie, 3);
    buf_slice_drop(&op.steps[0].data);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(begins_with_a_write_and_a_connection),
        TEST(a_refused_watch_is_its_owners_again),
        TEST(times_out_within_limits),
        TEST(is_written_again_when_it_is_gone_before_it_began),
        TEST(a_first_connection_that_fails_is_a_failed_beginning),
        TEST(a_connection_without_a_life_is_none),
        TEST(signs_of_life_prolong_it),
        TEST(another_life_of_the_service_prolongs_nothing),
        TEST(others_that_begin_do_not_put_signs_of_life_off),
        TEST(an_answer_that_is_none_prolongs_nothing),
        TEST(without_answers_it_is_lost_once_at_its_time),
        TEST(connects_again_over_another_session),
        TEST(connects_to_another_primary),
        TEST(a_connection_that_fails_for_now_is_tried_again),
        TEST(who_is_gone_there_is_lost),
        TEST(a_late_connection_does_not_bring_it_back),
        TEST(events_are_told),
        TEST(events_that_cannot_be_are_dropped),
        TEST(who_slept_is_lost_and_hears_nothing),
        TEST(what_is_in_the_way_is_recalled_until_patience_ends),
        TEST(without_patience_nobody_is_asked),
        TEST(a_recall_that_is_refused_for_good_ends_it),
        TEST(holds_the_lesser_of_two_while_one_becomes_the_other),
        TEST(a_fenced_lease_ends_when_nothing_is_late),
        TEST(other_leases_end_at_once),
        TEST(an_osd_that_is_another_one_is_not_late),
        TEST(one_that_ends_late_is_kept_alive),
        TEST(what_waits_to_be_sent_again_is_late_when_revoked),
        TEST(what_was_sent_to_a_group_that_does_not_serve_is_late),
        TEST(what_was_to_be_sent_again_is_late_when_its_session_ends),
        TEST(what_is_left_of_a_fenced_lease_is_ended),
        TEST(so_is_one_that_may_have_begun),
        TEST(a_client_goes_with_a_lease_that_ends_late),
        TEST(what_an_answer_relies_on_is_known_first),
        TEST(ends_with_a_write),
        TEST(without_a_connection_it_is_valid_for_a_short_time),
        TEST(ends_while_it_connects),
        TEST(a_client_goes_with_its_watches),
        TEST(answers_to_notifies_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
