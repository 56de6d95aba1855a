/* The session with the monitors: hunting, maps, tickets, commands. */
#include "tests/unit/client/fake_world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/limpet.pb-c.h"

static struct fake_world w;
static struct client *c;
static int connect_result;

static void on_connected(void *ctx, int error)
{
    (void)ctx;
    assert_int_equal(connect_result, 1);
    connect_result = error;
}

static int setup(void **state)
{
    (void)state;
    fake_world_init(&w);
    connect_result = 1;
    c = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    client_destroy(c);
    fake_world_fini(&w);
    return 0;
}

static void start(const struct client_options *options)
{
    c = fake_client(&w, options);
    client_connect(c, on_connected, NULL);
}

static void connects_to_any_monitor(void **state)
{
    (void)state;
    start(&(struct client_options){0});
    fake_settle(&w);
    assert_int_equal(connect_result, 0);
    assert_int_equal(client_map(c)->epoch, w.map->epoch);
    assert_true(uuid_equal(&client_map(c)->fsid, &w.map->fsid));
}

static void goes_on_to_the_next_monitor(void **state)
{
    (void)state;
    w.mons_serve = false;
    start(&(struct client_options){0});
    struct net_address first = fake_mon(&w)->to;
    fake_session_close(&w, fake_mon(&w), -ECONNREFUSED);
    struct net_address second = fake_mon(&w)->to;
    assert_false(net_address_equal(&first, &second));
    fake_session_close(&w, fake_mon(&w), -ECONNREFUSED);
    w.mons_serve = true;
    fake_settle(&w);
    assert_int_equal(connect_result, 0);
}

static void gives_up_on_a_monitor_that_does_not_answer(void **state)
{
    (void)state;
    w.mons_serve = false;
    start(&(struct client_options){0});
    struct fake_session *first = fake_mon(&w);
    fake_session_open(&w, first);
    fake_advance(&w, 4 * SEC_NS);
    assert_true(first->over);
    w.mons_serve = true;
    fake_settle(&w);
    assert_int_equal(connect_result, 0);
}

static void times_out_and_names_every_monitor(void **state)
{
    (void)state;
    w.mons_serve = false;
    start(&(struct client_options){.connect_timeout_ns = 10 * SEC_NS});
    for (uint32_t i = 0; i < 99; i++) {
        struct fake_session *s = fake_mon(&w);
        if (s != NULL)
            fake_session_close(&w, s, -ECONNREFUSED);
        fake_advance(&w, 100 * MSEC_NS);
        assert_int_equal(connect_result, 1);
    }
    fake_advance(&w, 200 * MSEC_NS);
    assert_int_equal(connect_result, -ETIMEDOUT);
    const char *why = client_connect_error(c);
    assert_memory_equal(why, "monclient: ", 11);
    assert_non_null(strstr(why, "127.0.0.1:6789: "));
    assert_non_null(strstr(why, "127.0.0.1:6790: "));
    assert_non_null(strstr(why, "127.0.0.1:6791: "));
    assert_null(fake_mon(&w));
    /* It is not in a hurry: a few dozen attempts at most. */
    assert_in_range(w.n_sessions, 9, 60);
}

static void may_be_asked_again_after_a_failure(void **state)
{
    (void)state;
    w.mons_serve = false;
    start(&(struct client_options){.connect_timeout_ns = SEC_NS});
    fake_advance(&w, SEC_NS);
    assert_int_equal(connect_result, -ETIMEDOUT);
    connect_result = 1;
    w.mons_serve = true;
    client_connect(c, on_connected, NULL);
    fake_settle(&w);
    assert_int_equal(connect_result, 0);
}

static void a_wrong_key_fails_at_once(void **state)
{
    (void)state;
    w.mons_serve = false;
    start(&(struct client_options){0});
    fake_session_close(&w, fake_mon(&w), -EACCES);
    fake_session_close(&w, fake_mon(&w), -ECONNREFUSED);
    assert_int_equal(connect_result, 1);
    fake_session_close(&w, fake_mon(&w), -ECONNREFUSED);
    assert_int_equal(connect_result, -EACCES);
}

/* The key is right, but gives no access to monitors. */
static void a_refused_subscription_fails_at_once(void **state)
{
    (void)state;
    w.mons_serve = false;
    struct client_options options = {.n_mons = 1};
    options.mons[0] = fake_mon_address(0);
    start(&options);
    struct fake_session *s = fake_mon(&w);
    fake_session_open(&w, s);
    Limpet__Wire__MonCommandReply reply = LIMPET__WIRE__MON_COMMAND_REPLY__INIT;
    reply.result = -EACCES;
    fake_deliver(&w, s, message_pack(MSG_MON_COMMAND_REPLY, &reply.base));
    assert_int_equal(connect_result, -EACCES);
}

static void another_cluster_is_refused(void **state)
{
    (void)state;
    w.mons_serve = false;
    struct client_options options = {.n_mons = 1, .fsid = {.bytes = {9}}};
    options.mons[0] = fake_mon_address(0);
    start(&options);
    struct fake_session *s = fake_mon(&w);
    fake_session_open(&w, s);
    fake_push_full_map(&w, s, NULL);
    assert_int_equal(connect_result, -EINVAL);
    assert_null(client_map(c));
}

static void follows_increments(void **state)
{
    (void)state;
    start(&(struct client_options){0});
    fake_settle(&w);
    fake_map_touch(&w);
    fake_map_touch(&w);
    assert_int_equal(client_map(c)->epoch, w.map->epoch);
}

static void asks_for_what_is_missing(void **state)
{
    (void)state;
    start(&(struct client_options){0});
    fake_settle(&w);
    uint64_t had = client_map(c)->epoch;
    w.mons_serve = false;
    fake_map_touch(&w);
    w.mons_serve = true;
    fake_map_touch(&w);
    assert_int_equal(client_map(c)->epoch, had);
    fake_settle(&w);
    assert_int_equal(client_map(c)->epoch, w.map->epoch);
}

static void leaves_a_monitor_that_sends_garbage(void **state)
{
    (void)state;
    start(&(struct client_options){0});
    fake_settle(&w);
    uint64_t epoch = client_map(c)->epoch;
    struct fake_session *s = fake_mon(&w);
    struct message *m = message_create(MSG_MON_MAP, 5);
    memset(m->body, 0xff, 5);
    fake_deliver(&w, s, m);
    assert_true(s->over);
    fake_settle(&w);
    assert_non_null(fake_mon(&w));
    assert_int_equal(client_map(c)->epoch, epoch);
}

static void reconnects_for_ever(void **state)
{
    (void)state;
    start(&(struct client_options){0});
    fake_settle(&w);
    w.mons_serve = false;
    for (uint32_t i = 0; i < 600; i++) {
        if (fake_mon(&w) != NULL)
            fake_session_close(&w, fake_mon(&w), -ECONNREFUSED);
        fake_advance(&w, SEC_NS);
        /* The world has room for a limited number of sessions. */
        if (w.n_sessions > FAKE_SESSIONS_MAX - 20)
            break;
    }
    fake_map_touch(&w);
    w.mons_serve = true;
    fake_advance(&w, 5 * SEC_NS);
    assert_int_equal(client_map(c)->epoch, w.map->epoch);
}

static void leaves_a_silent_monitor(void **state)
{
    (void)state;
    start(&(struct client_options){0});
    fake_settle(&w);
    struct fake_session *silent = fake_mon(&w);
    w.mons_serve = false;
    fake_advance(&w, 20 * SEC_NS);
    assert_true(silent->over);
    w.mons_serve = true;
    fake_advance(&w, 5 * SEC_NS);
    assert_non_null(fake_mon(&w));
}

static void leaves_a_monitor_that_does_not_move_while_operations_wait(void **state)
{
    (void)state;
    start(&(struct client_options){0});
    fake_settle(&w);
    struct fake_session *s = fake_mon(&w);
    fake_advance(&w, 120 * SEC_NS);
    assert_false(s->over);
    static struct fake_op o;
    fake_op_write(&o, 1, "object", "data");
    client_submit(c, &o.op);
    fake_settle(&w);
    /* Our OSD is dead, and this monitor has not heard of it. */
    for (uint32_t i = 0; i < 200; i++) {
        if (fake_osd(&w, 0) != NULL)
            fake_session_close(&w, fake_osd(&w, 0), -ECONNREFUSED);
        fake_advance(&w, 100 * MSEC_NS);
    }
    assert_true(s->over);
    assert_non_null(fake_mon(&w));
}

struct waiter {
    struct client_wait wait;
    uint32_t called;
};

static void waited(struct client_wait *wait)
{
    container_of(wait, struct waiter, wait)->called++;
}

static void wakes_whoever_waits_for_a_map(void **state)
{
    (void)state;
    start(&(struct client_options){0});
    fake_settle(&w);
    struct waiter now = {.wait = {.epoch = w.map->epoch, .done = waited}};
    struct waiter later = {.wait = {.epoch = w.map->epoch + 2, .done = waited}};
    client_wait_map(c, &now.wait);
    client_wait_map(c, &later.wait);
    assert_int_equal(now.called, 0);
    fake_settle(&w);
    assert_int_equal(now.called, 1);
    fake_map_touch(&w);
    fake_settle(&w);
    assert_int_equal(later.called, 0);
    fake_map_touch(&w);
    fake_settle(&w);
    assert_int_equal(later.called, 1);
}

/* ---- Tickets ---- */

static void asks_for_a_ticket_before_the_first_osd(void **state)
{
    (void)state;
    start(&(struct client_options){0});
    fake_settle(&w);
    assert_int_equal(w.tickets_given, 0);
    struct auth_ticket ticket;
    struct entity_name osd = entity_osd(0);
    const struct auth_provider *auth = client_auth(c);
    assert_int_equal(auth->credential(auth->ctx, &osd, &ticket), -ENOENT);
    static struct fake_op o;
    fake_op_read(&o, 1, "object", 1);
    client_submit(c, &o.op);
    assert_null(fake_osd(&w, 0));
    fake_settle(&w);
    assert_int_equal(w.tickets_given, 1);
    assert_non_null(fake_osd(&w, 0));
    assert_int_equal(auth->credential(auth->ctx, &osd, &ticket), 0);
    assert_int_equal(ticket.len, 16);
    assert_int_equal(ticket.secret.len, 32);
    assert_int_equal(ticket.secret.bytes[0], 1);
    struct entity_name mon = {.type = ENTITY_MON, .id = "a"};
    assert_int_equal(auth->credential(auth->ctx, &mon, &ticket), 0);
    assert_int_equal(ticket.len, 0);
    assert_memory_equal(ticket.secret.bytes, w.secret.bytes, 16);
}

static void renews_tickets_before_they_expire(void **state)
{
    (void)state;
    w.ticket_seconds = 100;
    start(&(struct client_options){0});
    static struct fake_op o;
    fake_op_read(&o, 1, "object", 1);
    client_submit(c, &o.op);
    fake_settle(&w);
    assert_int_equal(w.tickets_given, 1);
    fake_advance(&w, 74 * SEC_NS);
    assert_int_equal(w.tickets_given, 1);
    fake_advance(&w, 2 * SEC_NS);
    assert_int_equal(w.tickets_given, 2);
}

static void gets_another_ticket_when_one_is_refused(void **state)
{
    (void)state;
    start(&(struct client_options){0});
    static struct fake_op o;
    fake_op_read(&o, 1, "object", 1);
    client_submit(c, &o.op);
    fake_settle(&w);
    for (uint32_t i = 0; i < 20; i++) {
        if (fake_osd(&w, 0) != NULL)
            fake_session_close(&w, fake_osd(&w, 0), -EKEYEXPIRED);
        fake_advance(&w, 500 * MSEC_NS);
    }
    /* Again and again, but not as fast as the OSD refuses. */
    assert_in_range(w.tickets_given, 5, 12);
    fake_advance(&w, 2 * SEC_NS);
    fake_osd_accept(&w, 0);
    fake_reply(&w, 0, fake_request(&w, 0).head.tid, 0, 1, "");
    assert_int_equal(o.op.result, 0);
}

static void fails_operations_of_an_entity_without_osd_capabilities(void **state)
{
    (void)state;
    w.ticket_result = -EACCES;
    start(&(struct client_options){0});
    static struct fake_op o;
    fake_op_read(&o, 1, "object", 1);
    client_submit(c, &o.op);
    fake_settle(&w);
    assert_true(o.done);
    assert_int_equal(o.op.result, -EACCES);
    w.ticket_result = 0;
    fake_op_read(&o, 1, "object", 1);
    client_submit(c, &o.op);
    fake_settle(&w);
    assert_non_null(fake_osd(&w, 0));
}

/* ---- Commands ---- */

static uint32_t commands_done;

static void command_done(struct client_command *command)
{
    (void)command;
    commands_done++;
}

static uint64_t take_command(struct fake_session *s, const char *json)
{
    struct message *m = fake_take_type(s, MSG_MON_COMMAND);
    assert_non_null(m);
    Limpet__Wire__MonCommand *body =
        (Limpet__Wire__MonCommand *)message_unpack(m, &limpet__wire__mon_command__descriptor);
    assert_non_null(body);
    assert_string_equal(body->json, json);
    uint64_t tid = body->tid;
    protobuf_c_message_free_unpacked(&body->base, NULL);
    return tid;
}

static void answer_command(struct fake_session *s, uint64_t tid, int result, uint64_t epoch)
{
    Limpet__Wire__MonCommandReply reply = LIMPET__WIRE__MON_COMMAND_REPLY__INIT;
    char status[] = "that is how it went";
    reply.tid = tid;
    reply.result = result;
    reply.status = status;
    reply.has_epoch = true;
    reply.epoch = epoch;
    struct message *m = message_pack(MSG_MON_COMMAND_REPLY, &reply.base);
    assert_non_null(m);
    assert_int_equal(buf_slice_copy("output", 6, &m->payload), 0);
    fake_deliver(&w, s, m);
    fake_settle(&w);
}

static void a_command_is_done_when_our_map_shows_it(void **state)
{
    (void)state;
    commands_done = 0;
    start(&(struct client_options){0});
    fake_settle(&w);
    struct client_command command = {.json = "{\"prefix\": \"x\"}", .done = command_done};
    assert_int_equal(buf_slice_copy("input", 5, &command.input), 0);
    client_command(c, &command);
    struct fake_session *s = fake_mon(&w);
    uint64_t tid = take_command(s, command.json);
    assert_memory_equal(s->sent[s->n_taken - 1]->payload.data, "input", 5);
    answer_command(s, tid, -EEXIST, w.map->epoch + 1);
    assert_int_equal(commands_done, 0);
    fake_map_touch(&w);
    fake_settle(&w);
    assert_int_equal(commands_done, 1);
    assert_int_equal(command.result, -EEXIST);
    assert_string_equal(command.status, "that is how it went");
    assert_int_equal(command.output.len, 6);
    client_command_fini(&command);
}

static void a_command_goes_to_another_monitor_when_its_session_breaks(void **state)
{
    (void)state;
    commands_done = 0;
    start(&(struct client_options){0});
    fake_settle(&w);
    struct client_command command = {.json = "{}", .done = command_done};
    client_command(c, &command);
    struct fake_session *first = fake_mon(&w);
    take_command(first, "{}");
    fake_session_close(&w, first, -ECONNRESET);
    fake_settle(&w);
    struct fake_session *second = fake_mon(&w);
    assert_false(net_address_equal(&first->to, &second->to));
    answer_command(second, take_command(second, "{}"), 0, 0);
    assert_int_equal(commands_done, 1);
    assert_int_equal(command.result, 0);
    client_command_fini(&command);
}

static void a_command_is_repeated_while_there_is_no_leader(void **state)
{
    (void)state;
    commands_done = 0;
    start(&(struct client_options){0});
    fake_settle(&w);
    struct client_command command = {.json = "{}", .done = command_done};
    client_command(c, &command);
    struct fake_session *first = fake_mon(&w);
    for (uint32_t i = 0; i < 4; i++) {
        struct fake_session *s = fake_mon(&w);
        assert_ptr_equal(s, first);
        answer_command(s, take_command(s, "{}"), -ELIMPET_NOT_LEADER, 0);
        assert_int_equal(commands_done, 0);
        fake_advance(&w, SEC_NS);
    }
    /* Perhaps this one alone sees no leader. */
    assert_true(first->over);
    struct fake_session *s = fake_mon(&w);
    answer_command(s, take_command(s, "{}"), 0, 0);
    assert_int_equal(commands_done, 1);
    client_command_fini(&command);
}

static void a_command_times_out(void **state)
{
    (void)state;
    commands_done = 0;
    start(&(struct client_options){0});
    fake_settle(&w);
    struct client_command command = {.json = "{}", .timeout_ns = 7 * SEC_NS, .done = command_done};
    client_command(c, &command);
    take_command(fake_mon(&w), "{}");
    fake_advance(&w, 6 * SEC_NS);
    assert_int_equal(commands_done, 0);
    fake_advance(&w, 1 * SEC_NS);
    assert_int_equal(commands_done, 1);
    assert_int_equal(command.result, -ETIMEDOUT);
    client_command_fini(&command);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(connects_to_any_monitor),
        CASE(goes_on_to_the_next_monitor),
        CASE(gives_up_on_a_monitor_that_does_not_answer),
        CASE(times_out_and_names_every_monitor),
        CASE(may_be_asked_again_after_a_failure),
        CASE(a_wrong_key_fails_at_once),
        CASE(a_refused_subscription_fails_at_once),
        CASE(another_cluster_is_refused),
        CASE(follows_increments),
        CASE(asks_for_what_is_missing),
        CASE(leaves_a_monitor_that_sends_garbage),
        CASE(wakes_whoever_waits_for_a_map),
        CASE(reconnects_for_ever),
        CASE(leaves_a_silent_monitor),
        CASE(leaves_a_monitor_that_does_not_move_while_operations_wait),
        CASE(asks_for_a_ticket_before_the_first_osd),
        CASE(renews_tickets_before_they_expire),
        CASE(gets_another_ticket_when_one_is_refused),
        CASE(fails_operations_of_an_entity_without_osd_capabilities),
        CASE(a_command_is_done_when_our_map_shows_it),
        CASE(a_command_goes_to_another_monitor_when_its_session_breaks),
        CASE(a_command_is_repeated_while_there_is_no_leader),
        CASE(a_command_times_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
