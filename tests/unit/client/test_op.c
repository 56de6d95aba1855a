/* Operations: order, sending again, waiting, budgets, failures. */
#include "tests/unit/client/fake_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/limpet.pb-c.h"

static struct fake_world w;
static struct client *c;

static int setup(void **state)
{
    (void)state;
    fake_world_init(&w);
    c = fake_connected_client(&w, &(struct client_options){0});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    client_destroy(c);
    fake_world_fini(&w);
    return 0;
}

/* The group of pool 1 lies on OSDs 0 and 1; these are submitted and have arrived at OSD 0. */
static void send_writes(struct fake_op *ops, uint32_t n, uint64_t *tids)
{
    for (uint32_t i = 0; i < n; i++) {
        fake_op_write(&ops[i], 1, "object", "data");
        client_submit(c, &ops[i].op);
    }
    fake_osd_accept(&w, 0);
    for (uint32_t i = 0; i < n; i++)
        tids[i] = fake_request(&w, 0).head.tid;
}

static void sends_operations_of_one_object_in_order_without_waiting(void **state)
{
    (void)state;
    static struct fake_op ops[3];
    uint64_t tids[3];
    send_writes(ops, 3, tids);
    assert_true(tids[0] < tids[1] && tids[1] < tids[2]);
    for (uint32_t i = 0; i < 3; i++)
        fake_reply(&w, 0, tids[i], 0, 1, "");
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(ops[i].done);
        assert_int_equal(ops[i].order, i + 1);
        assert_int_equal(ops[i].op.result, 0);
        assert_int_equal(ops[i].op.version.sequence, tids[i]);
    }
}

static void request_says_what_the_caller_asked(void **state)
{
    (void)state;
    static struct fake_op o;
    fake_op_write(&o, 1, "object", "some data");
    o.op.object.space = (const uint8_t *)"room";
    o.op.object.space_len = 4;
    client_submit(c, &o.op);
    fake_osd_accept(&w, 0);
    struct fake_session *s = fake_osd(&w, 0);
    struct fake_request r = fake_request(&w, 0);
    assert_int_equal(r.head.pool, 1);
    assert_int_equal(r.head.pg_seed, 0);
    assert_int_equal(r.head.flags, WIRE_OP_WRITE);
    assert_int_equal(r.head.attempt, 0);
    assert_int_equal(r.head.epoch, w.map->epoch);
    assert_int_equal(r.first_code, WIRE_OP_CODE_WRITE_FULL);
    assert_int_equal(r.object.snap, OBJECT_HEAD);
    assert_memory_equal(r.object.name, "object", 6);
    assert_memory_equal(r.object.space, "room", 4);
    struct message *m = s->sent[s->n_taken - 1];
    assert_int_equal(m->payload.len, 9);
    assert_memory_equal(m->payload.data, "some data", 9);
    fake_reply(&w, 0, r.head.tid, 0, 1, "");
    assert_true(o.done);
}

static void gives_the_data_of_each_step(void **state)
{
    (void)state;
    static struct fake_op o;
    fake_op_read(&o, 1, "object", 10);
    client_submit(c, &o.op);
    fake_osd_accept(&w, 0);
    fake_reply(&w, 0, fake_request(&w, 0).head.tid, 0, 1, "contents");
    assert_true(o.done);
    assert_int_equal(o.op.steps[0].data.len, 8);
    assert_memory_equal(o.op.steps[0].data.data, "contents", 8);
    buf_slice_drop(&o.op.steps[0].data);
}

/* The head of a reply has come from this OSD, and a payload of this length follows. */
static struct buf_slice reply_begins(int32_t osd, uint64_t tid, size_t len)
{
    struct wire_osd_op_reply head = {.tid = tid, .n_ops = 1};
    struct net_arrival arrival = {
        .type = MSG_OSD_OP_REPLY, .body = &head, .body_len = sizeof head, .payload_len = len};
    return w.handlers->place(w.ctx, &fake_osd(&w, osd)->base, &arrival);
}

static void lends_the_callers_memory_to_the_reply(void **state)
{
    (void)state;
    static struct fake_op o;
    uint8_t memory[10];
    fake_op_read(&o, 1, "object", 10);
    o.op.into = memory;
    o.op.into_len = sizeof memory;
    client_submit(c, &o.op);
    fake_osd_accept(&w, 0);
    uint64_t tid = fake_request(&w, 0).head.tid;
    assert_null(reply_begins(0, tid + 1, 8).buf);
    assert_null(reply_begins(0, tid, 11).buf);
    struct buf_slice slice = reply_begins(0, tid, 8);
    assert_ptr_equal(slice.data, memory);
    assert_int_equal(slice.len, 8);
    /* Not to two at the same time; again when the first has given up. */
    assert_null(reply_begins(0, tid, 8).buf);
    buf_slice_drop(&slice);
    slice = reply_begins(0, tid, 10);
    assert_ptr_equal(slice.data, memory);
    assert_false(slice.buf->revoked);
    fake_reply(&w, 0, tid, 0, 1, "contents");
    assert_true(o.done);
    assert_true(slice.buf->revoked);
    buf_slice_drop(&slice);
    buf_slice_drop(&o.op.steps[0].data);
    assert_null(reply_begins(0, tid, 8).buf);
}

static void takes_its_memory_back_when_it_ends_otherwise(void **state)
{
    (void)state;
    static struct fake_op o;
    uint8_t memory[10];
    fake_op_read(&o, 1, "object", 10);
    o.op.into = memory;
    o.op.into_len = sizeof memory;
    client_submit(c, &o.op);
    fake_osd_accept(&w, 0);
    struct buf_slice slice = reply_begins(0, fake_request(&w, 0).head.tid, 10);
    assert_ptr_equal(slice.data, memory);
    client_cancel(c, &o.op);
    assert_true(slice.buf->revoked);
    fake_settle(&w);
    assert_int_equal(o.op.result, -ECANCELED);
    buf_slice_drop(&slice);
}

static void joins_the_data_of_several_steps(void **state)
{
    (void)state;
    static struct fake_op o;
    fake_op_write(&o, 1, "object", "first");
    o.op.n_steps = 3;
    o.op.steps[1].code = WIRE_OP_CODE_APPEND;
    assert_int_equal(buf_slice_copy("second", 6, &o.op.steps[1].data), 0);
    o.op.steps[2].code = WIRE_OP_CODE_APPEND;
    assert_int_equal(buf_slice_copy("", 0, &o.op.steps[2].data), 0);
    client_submit(c, &o.op);
    fake_osd_accept(&w, 0);
    struct fake_session *s = fake_osd(&w, 0);
    struct fake_request r = fake_request(&w, 0);
    struct message *m = s->sent[s->n_taken - 1];
    assert_int_equal(r.head.n_ops, 3);
    assert_int_equal(m->payload.len, 11);
    assert_memory_equal(m->payload.data, "firstsecond", 11);
    client_cancel(c, &o.op);
    fake_settle(&w);
    assert_int_equal(o.op.result, -ECANCELED);
}

static void sends_all_again_in_order_after_a_lost_session(void **state)
{
    (void)state;
    static struct fake_op ops[4];
    uint64_t tids[4];
    send_writes(ops, 4, tids);
    fake_reply(&w, 0, tids[0], 0, 1, "");
    fake_advance(&w, SEC_NS);
    fake_session_close(&w, fake_osd(&w, 0), -ECONNRESET);
    fake_osd_accept(&w, 0);
    for (uint32_t i = 1; i < 4; i++) {
        struct fake_request r = fake_request(&w, 0);
        assert_int_equal(r.head.tid, tids[i]);
        assert_int_equal(r.head.attempt, 1);
    }
    assert_true(fake_no_request(&w, 0));
    for (uint32_t i = 1; i < 4; i++)
        fake_reply(&w, 0, tids[i], 0, 1, "");
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(ops[i].order, i + 1);
}

static void drops_a_session_whose_path_is_cut(void **state)
{
    (void)state;
    static struct fake_op ops[2];
    uint64_t tids[2];
    send_writes(ops, 2, tids);
    struct fake_session *cut = fake_osd(&w, 0);
    fake_advance(&w, 1900 * MSEC_NS);
    assert_null(fake_take_type(cut, MSG_PING));
    fake_advance(&w, 200 * MSEC_NS);
    assert_non_null(fake_take_type(cut, MSG_PING));
    assert_false(cut->over);
    fake_advance(&w, 2 * SEC_NS);
    assert_true(cut->over);
    assert_true(cut->dropped); /* What it has sent is not to overtake what comes. */
    assert_int_equal(client_counters(c)->osds_silent, 1);
    /* Over a new one, at once and in order. */
    fake_osd_accept(&w, 0);
    for (uint32_t i = 0; i < 2; i++) {
        struct fake_request r = fake_request(&w, 0);
        assert_int_equal(r.head.tid, tids[i]);
        assert_int_equal(r.head.attempt, 1);
        fake_reply(&w, 0, tids[i], 0, 1, "");
        assert_int_equal(ops[i].op.result, 0);
    }
}

static void what_is_revoked_goes_with_its_session(void **state)
{
    (void)state;
    static struct fake_op ops[4];
    uint64_t tids[4];
    send_writes(ops, 4, tids);
    struct fake_session *old = fake_osd(&w, 0);
    client_cancel(c, &ops[0].op);
    fake_settle(&w);
    assert_false(old->over);
    client_revoke(c, &ops[1].op);
    client_revoke(c, &ops[2].op);
    fake_settle(&w);
    assert_true(old->dropped);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(ops[i].op.result, -ECANCELED);
    /* The others go again. */
    fake_osd_accept(&w, 0);
    struct fake_session *new = fake_osd(&w, 0);
    assert_int_equal(fake_request(&w, 0).head.tid, tids[3]);
    assert_true(fake_no_request(&w, 0));
    fake_settle(&w);
    assert_false(new->over);
    fake_reply(&w, 0, tids[3], 0, 1, "");
    assert_int_equal(ops[3].op.result, 0);
}

static void what_was_not_sent_is_revoked_alone(void **state)
{
    (void)state;
    static struct fake_op ops[2];
    uint64_t tid;
    send_writes(ops, 1, &tid);
    struct fake_session *old = fake_osd(&w, 0);
    fake_map_flags(&w, MAP_PAUSE);
    fake_settle(&w);
    fake_op_write(&ops[1], 1, "object", "data");
    client_submit(c, &ops[1].op);
    fake_settle(&w);
    client_revoke(c, &ops[1].op);
    fake_settle(&w);
    assert_int_equal(ops[1].op.result, -ECANCELED);
    assert_false(old->over);
    fake_reply(&w, 0, tid, 0, 1, "");
    assert_int_equal(ops[0].op.result, 0);
}

static void pong(struct fake_session *s, const struct message *ping)
{
    struct message *m = message_create(MSG_PING_REPLY, ping->body_len);
    assert_non_null(m);
    memcpy(m->body, ping->body, ping->body_len);
    fake_deliver(&w, s, m);
}

/* A disk that hangs for minutes: the OSD answers pings, and nothing else. */
static void keeps_a_slow_osd_that_answers_pings(void **state)
{
    (void)state;
    static struct fake_op op;
    uint64_t tid;
    send_writes(&op, 1, &tid);
    struct fake_session *slow = fake_osd(&w, 0);
    uint32_t pings = 0;
    for (uint32_t i = 0; i < 1200; i++) {
        fake_advance(&w, 100 * MSEC_NS);
        const struct message *ping = fake_take_type(slow, MSG_PING);
        if (ping != NULL) {
            pings++;
            pong(slow, ping);
        }
    }
    assert_false(slow->over);
    assert_in_range(pings, 50, 60);
    fake_reply(&w, 0, tid, 0, 1, "");
    assert_int_equal(op.op.result, 0);
    assert_int_equal(op.op.attempt, 0);
}

/* A long message is under way, or it takes nothing for now: no ping comes through, but signs of
 * life do. */
static void keeps_an_osd_whose_machine_shows_signs_of_life(void **state)
{
    (void)state;
    static struct fake_op op;
    uint64_t tid;
    send_writes(&op, 1, &tid);
    struct fake_session *busy = fake_osd(&w, 0);
    for (uint32_t i = 0; i < 120; i++) {
        busy->heard_ns = w.now_ns;
        fake_advance(&w, SEC_NS);
    }
    assert_false(busy->over);
    /* And then they end. */
    fake_advance(&w, 5 * SEC_NS);
    assert_true(busy->over);
}

static void an_idle_session_is_not_asked(void **state)
{
    (void)state;
    static struct fake_op op;
    uint64_t tid;
    send_writes(&op, 1, &tid);
    struct fake_session *s = fake_osd(&w, 0);
    fake_reply(&w, 0, tid, 0, 1, "");
    fake_advance(&w, 600 * SEC_NS);
    assert_null(fake_take_type(s, MSG_PING));
    assert_false(s->over);
    /* Its long silence does not count against it when it is asked for something again. */
    static struct fake_op again;
    fake_op_write(&again, 1, "object", "data");
    client_submit(c, &again.op);
    fake_advance(&w, 1900 * MSEC_NS);
    assert_null(fake_take_type(s, MSG_PING));
    assert_false(s->over);
}

static void goes_to_the_new_primary_when_the_map_says_so(void **state)
{
    (void)state;
    static struct fake_op ops[2];
    uint64_t tids[2];
    send_writes(ops, 2, tids);
    fake_map_pg(&w, 1, 0, 1, (int32_t[]){1});
    fake_osd_accept(&w, 1);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(fake_request(&w, 1).head.tid, tids[i]);
    /* What the old primary says now does not count. */
    fake_reply(&w, 0, tids[0], -EIO, 1, "");
    assert_false(ops[0].done);
    fake_reply(&w, 1, tids[0], 0, 1, "");
    fake_reply(&w, 1, tids[1], 0, 1, "");
    assert_int_equal(ops[0].op.result, 0);
    assert_int_equal(ops[1].order, 2);
}

static void goes_to_the_survivor_when_an_osd_dies(void **state)
{
    (void)state;
    static struct fake_op ops[2];
    uint64_t tids[2];
    send_writes(ops, 2, tids);
    fake_session_close(&w, fake_osd(&w, 0), -ECONNREFUSED);
    fake_settle(&w);
    fake_map_osd(&w, 0, false, 1000);
    /* Down, but still a member: nobody may serve until the set is cut. */
    fake_settle(&w);
    assert_null(fake_osd(&w, 1));
    fake_map_pg(&w, 1, 0, 1, (int32_t[]){1});
    fake_osd_accept(&w, 1);
    assert_int_equal(fake_request(&w, 1).head.tid, tids[0]);
    assert_int_equal(fake_request(&w, 1).head.tid, tids[1]);
}

static void sends_again_when_a_member_has_restarted(void **state)
{
    (void)state;
    static struct fake_op ops[1];
    uint64_t tids[1];
    send_writes(ops, 1, tids);
    fake_map_osd(&w, 1, true, 2001);
    fake_settle(&w);
    struct fake_request r = fake_request(&w, 0);
    assert_int_equal(r.head.tid, tids[0]);
    assert_int_equal(r.head.epoch, w.map->epoch);
}

static void sends_again_when_the_number_changed(void **state)
{
    (void)state;
    static struct fake_op ops[1];
    uint64_t tids[1];
    send_writes(ops, 1, tids);
    fake_map_pg(&w, 1, 0, 2, (int32_t[]){0, 1});
    fake_settle(&w);
    /* Maps between, which nobody showed us, may have had another primary, who refused it. */
    struct fake_request r = fake_request(&w, 0);
    assert_int_equal(r.head.tid, tids[0]);
    assert_int_equal(r.head.epoch, w.map->epoch);
    fake_reply(&w, 0, tids[0], 0, 1, "");
    assert_true(ops[0].done);
}

static void opens_a_new_session_to_a_restarted_osd(void **state)
{
    (void)state;
    static struct fake_op ops[1];
    uint64_t tids[1];
    send_writes(ops, 1, tids);
    struct fake_session *before = fake_osd(&w, 0);
    fake_map_osd(&w, 0, true, 3000);
    fake_osd_accept(&w, 0);
    assert_true(before->over);
    assert_int_equal(fake_osd(&w, 0)->expect.instance, 3000);
    assert_int_equal(fake_request(&w, 0).head.tid, tids[0]);
}

static void tries_an_unreachable_osd_again_slowly(void **state)
{
    (void)state;
    static struct fake_op o;
    fake_op_write(&o, 1, "object", "data");
    client_submit(c, &o.op);
    fake_settle(&w);
    uint64_t before = client_counters(c)->osd_sessions;
    for (uint32_t i = 0; i < 100; i++) {
        if (fake_osd(&w, 0) != NULL)
            fake_session_close(&w, fake_osd(&w, 0), -ECONNREFUSED);
        fake_advance(&w, 100 * MSEC_NS);
    }
    uint64_t attempts = client_counters(c)->osd_sessions - before;
    assert_in_range(attempts, 5, 45);
    fake_advance(&w, SEC_NS);
    fake_osd_accept(&w, 0);
    fake_reply(&w, 0, fake_request(&w, 0).head.tid, 0, 1, "");
    assert_true(o.done);
}

static void waits_for_the_map_that_a_refusal_names(void **state)
{
    (void)state;
    static struct fake_op ops[2];
    uint64_t tids[2];
    send_writes(ops, 2, tids);
    uint64_t next = w.map->epoch + 2;
    fake_reply(&w, 0, tids[0], -ELIMPET_NOT_PRIMARY, next, "");
    fake_reply(&w, 0, tids[1], -ELIMPET_NOT_PRIMARY, next, "");
    fake_map_touch(&w);
    fake_settle(&w);
    assert_true(fake_no_request(&w, 0));
    fake_map_touch(&w);
    fake_settle(&w);
    assert_int_equal(fake_request(&w, 0).head.tid, tids[0]);
    assert_int_equal(fake_request(&w, 0).head.tid, tids[1]);
    assert_false(ops[0].done);
}

static void holds_later_operations_back_behind_a_refused_one(void **state)
{
    (void)state;
    static struct fake_op ops[2];
    uint64_t tids[1];
    send_writes(ops, 1, tids);
    fake_reply(&w, 0, tids[0], -ELIMPET_NEWER_MAP, w.map->epoch + 1, "");
    fake_op_write(&ops[1], 1, "object", "later");
    client_submit(c, &ops[1].op);
    fake_settle(&w);
    assert_true(fake_no_request(&w, 0));
    fake_map_touch(&w);
    fake_settle(&w);
    assert_int_equal(fake_request(&w, 0).head.tid, tids[0]);
    assert_true(fake_request(&w, 0).head.tid > tids[0]);
}

static void asks_again_after_a_moment_when_the_osd_lags_behind(void **state)
{
    (void)state;
    static struct fake_op ops[1];
    uint64_t tids[1];
    send_writes(ops, 1, tids);
    for (uint32_t i = 0; i < 5; i++) {
        fake_reply(&w, 0, tids[0], -ELIMPET_NOT_PRIMARY, 1, "");
        assert_true(fake_no_request(&w, 0));
        fake_advance(&w, SEC_NS);
        assert_int_equal(fake_request(&w, 0).head.tid, tids[0]);
        assert_true(fake_no_request(&w, 0));
    }
}

static void does_not_wait_for_ever_for_a_map_that_does_not_exist(void **state)
{
    (void)state;
    static struct fake_op ops[1];
    uint64_t tids[1];
    send_writes(ops, 1, tids);
    fake_reply(&w, 0, tids[0], -ELIMPET_NEWER_MAP, UINT64_MAX, "");
    fake_advance(&w, 2 * SEC_NS);
    assert_int_equal(fake_request(&w, 0).head.tid, tids[0]);
}

static void waits_while_nobody_may_serve(void **state)
{
    (void)state;
    fake_map_osd(&w, 1, false, 1001);
    static struct fake_op o;
    fake_op_write(&o, 1, "object", "data");
    client_submit(c, &o.op);
    fake_advance(&w, 60 * SEC_NS);
    assert_null(fake_osd(&w, 0));
    assert_false(o.done);
    fake_map_osd(&w, 1, true, 1002);
    fake_osd_accept(&w, 0);
    assert_int_equal(fake_request(&w, 0).object.name_len, 6);
}

static void waits_while_the_cluster_is_paused(void **state)
{
    (void)state;
    fake_map_flags(&w, MAP_PAUSE);
    static struct fake_op o;
    fake_op_write(&o, 1, "object", "data");
    client_submit(c, &o.op);
    fake_advance(&w, SEC_NS);
    assert_null(fake_osd(&w, 0));
    fake_map_flags(&w, 0);
    fake_osd_accept(&w, 0);
    fake_reply(&w, 0, fake_request(&w, 0).head.tid, 0, 1, "");
    assert_true(o.done);
}

static void fails_operations_of_a_pool_that_is_gone(void **state)
{
    (void)state;
    static struct fake_op ops[1];
    uint64_t tids[1];
    send_writes(ops, 1, tids);
    fake_map_remove_pool(&w, 1);
    fake_settle(&w);
    assert_true(ops[0].done);
    assert_int_equal(ops[0].op.result, -ENOENT);
    static struct fake_op o;
    fake_op_read(&o, 1, "object", 1);
    client_submit(c, &o.op);
    assert_false(o.done);
    fake_settle(&w);
    assert_true(o.done);
    assert_int_equal(o.op.result, -ENOENT);
}

/* Answers the next command, with a map of this epoch. */
static void answer_command(uint64_t epoch)
{
    struct fake_session *s = fake_mon(&w);
    struct message *m = fake_take_type(s, MSG_MON_COMMAND);
    assert_non_null(m);
    Limpet__Wire__MonCommand *body =
        (Limpet__Wire__MonCommand *)message_unpack(m, &limpet__wire__mon_command__descriptor);
    assert_non_null(body);
    Limpet__Wire__MonCommandReply reply = LIMPET__WIRE__MON_COMMAND_REPLY__INIT;
    reply.tid = body->tid;
    reply.has_epoch = true;
    reply.epoch = epoch;
    protobuf_c_message_free_unpacked(&body->base, NULL);
    fake_deliver(&w, s, message_pack(MSG_MON_COMMAND_REPLY, &reply.base));
    fake_settle(&w);
}

static void asks_the_leader_before_it_denies_a_pool(void **state)
{
    (void)state;
    static struct fake_op ops[2];
    fake_op_read(&ops[0], 9, "object", 1);
    fake_op_read(&ops[1], 9, "object", 1);
    client_submit(c, &ops[0].op);
    fake_settle(&w);
    client_submit(c, &ops[1].op);
    fake_settle(&w);
    assert_false(ops[0].done || ops[1].done);
    /* The answer to a question from before the second one was submitted says nothing about it. */
    answer_command(client_map(c)->epoch);
    assert_true(ops[0].done);
    assert_int_equal(ops[0].op.result, -ENOENT);
    assert_false(ops[1].done);
    answer_command(client_map(c)->epoch);
    assert_true(ops[1].done);
    assert_int_equal(ops[1].op.result, -ENOENT);
}

static void finds_a_pool_that_is_newer_than_its_map(void **state)
{
    (void)state;
    static struct fake_op ops[3];
    for (uint32_t i = 0; i < 3; i++)
        fake_op_write(&ops[i], 3, "object", "data");
    client_submit(c, &ops[0].op);
    client_submit(c, &ops[1].op);
    fake_settle(&w);
    fake_map_add_pool(&w, 3);
    client_submit(c, &ops[2].op);
    answer_command(client_map(c)->epoch);
    int32_t primary = -1;
    for (int32_t id = 0; id < FAKE_OSDS; id++) {
        if (fake_osd(&w, id))
            primary = id;
    }
    assert_true(primary >= 0);
    fake_osd_accept(&w, primary);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(fake_request(&w, primary).head.tid, ops[i].op.tid);
    client_cancel(c, &ops[0].op);
    client_cancel(c, &ops[1].op);
    client_cancel(c, &ops[2].op);
    fake_settle(&w);
}

static void doubtful_operations_can_be_cancelled(void **state)
{
    (void)state;
    static struct fake_op o;
    fake_op_read(&o, 9, "object", 1);
    client_submit(c, &o.op);
    fake_settle(&w);
    client_cancel(c, &o.op);
    fake_settle(&w);
    assert_true(o.done);
    assert_int_equal(o.op.result, -ECANCELED);
}

static void finds_new_groups_when_a_pool_is_split(void **state)
{
    (void)state;
    enum { N = 64 };
    static struct fake_op ops[N];
    for (uint32_t i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "o%u", i);
        fake_op_write(&ops[i], 2, name, "x");
        client_submit(c, &ops[i].op);
    }
    for (int32_t osd = 0; osd < FAKE_OSDS; osd++) {
        fake_osd_accept(&w, osd);
        while (!fake_no_request(&w, osd))
            continue;
    }
    fake_map_pg_num(&w, 2, 16);
    uint32_t found = 0, in_new_half = 0;
    for (int32_t osd = 0; osd < FAKE_OSDS; osd++) {
        fake_osd_accept(&w, osd);
        struct fake_session *s = fake_osd(&w, osd);
        struct message *m;
        while (s != NULL && (m = fake_take_type(s, MSG_OSD_OP)) != NULL) {
            struct wire_osd_op head;
            memcpy(&head, m->body, sizeof head);
            assert_true(head.pg_seed < 16);
            in_new_half += head.pg_seed >= 8;
            found++;
            fake_reply(&w, osd, head.tid, 0, 1, "");
        }
    }
    assert_in_range(found, 1, N);
    assert_true(in_new_half > 0);
    for (int32_t osd = 0; osd < FAKE_OSDS; osd++)
        assert_true(fake_no_request(&w, osd));
}

static void connect_with_time_out(uint64_t op_timeout_ns)
{
    client_destroy(c);
    c = NULL;
    fake_world_fini(&w);
    fake_world_init(&w);
    c = fake_connected_client(&w, &(struct client_options){.op_timeout_ns = op_timeout_ns});
}

static void gives_up_after_the_time_out(void **state)
{
    (void)state;
    connect_with_time_out(5 * SEC_NS);
    static struct fake_op o;
    fake_op_read(&o, 1, "object", 4);
    client_submit(c, &o.op);
    fake_osd_accept(&w, 0);
    uint64_t tid = fake_request(&w, 0).head.tid;
    fake_advance(&w, 4 * SEC_NS);
    assert_false(o.done);
    fake_advance(&w, 1 * SEC_NS);
    assert_true(o.done);
    assert_int_equal(o.op.result, -ETIMEDOUT);
    /* A late reply finds nobody. */
    fake_reply(&w, 0, tid, 0, 1, "late");
}

/* Whoever was told lets others change the same bytes. */
static void a_write_that_took_too_long_does_not_arrive_later(void **state)
{
    (void)state;
    connect_with_time_out(5 * SEC_NS);
    static struct fake_op ops[2];
    uint64_t tid;
    send_writes(ops, 1, &tid);
    ops[0].op.revoke_late = true;
    struct fake_session *old = fake_osd(&w, 0);
    fake_advance(&w, 3 * SEC_NS);
    old->heard_ns = w.now_ns; /* Its machine lives. */
    fake_op_write(&ops[1], 1, "object", "later");
    client_submit(c, &ops[1].op);
    uint64_t later = fake_request(&w, 0).head.tid;
    /* When it is told, the session is over. */
    while (!ops[0].done) {
        assert_false(old->over);
        fake_advance(&w, 100 * MSEC_NS);
    }
    assert_int_equal(ops[0].op.result, -ETIMEDOUT);
    assert_true(old->dropped);
    /* The other one goes again. */
    fake_osd_accept(&w, 0);
    assert_int_equal(fake_request(&w, 0).head.tid, later);
    assert_true(fake_no_request(&w, 0));
    fake_reply(&w, 0, later, 0, 1, "");
    assert_int_equal(ops[1].op.result, 0);
}

/* A read does no harm when it arrives. */
static void a_read_that_took_too_long_leaves_the_session_alone(void **state)
{
    (void)state;
    connect_with_time_out(3 * SEC_NS);
    static struct fake_op o;
    fake_op_read(&o, 1, "object", 4);
    client_submit(c, &o.op);
    fake_osd_accept(&w, 0);
    struct fake_session *session = fake_osd(&w, 0);
    fake_advance(&w, 3 * SEC_NS);
    assert_int_equal(o.op.result, -ETIMEDOUT);
    fake_settle(&w);
    assert_false(session->over);
}

/* Of most writes nobody minds, and others are under way over the same session. */
static void other_late_writes_leave_the_session_alone(void **state)
{
    (void)state;
    connect_with_time_out(3 * SEC_NS);
    static struct fake_op ops[1];
    uint64_t tid;
    send_writes(ops, 1, &tid);
    struct fake_session *session = fake_osd(&w, 0);
    fake_advance(&w, 3 * SEC_NS);
    assert_int_equal(ops[0].op.result, -ETIMEDOUT);
    fake_settle(&w);
    assert_false(session->over);
}

static void a_read_waits_for_ever_without_a_time_out(void **state)
{
    (void)state;
    static struct fake_op o;
    fake_op_read(&o, 1, "object", 4);
    client_submit(c, &o.op);
    fake_osd_accept(&w, 0);
    fake_advance(&w, 3600 * SEC_NS);
    assert_false(o.done);
}

static void a_write_is_given_up_after_ten_minutes(void **state)
{
    (void)state;
    static struct fake_op ops[1];
    uint64_t tids[1];
    send_writes(ops, 1, tids);
    struct fake_session *old = NULL;
    fake_advance(&w, CLIENT_WRITE_LIMIT_NS - SEC_NS);
    /* It was sent again and again. */
    fake_osd_accept(&w, 0);
    old = fake_osd(&w, 0);
    ops[0].op.revoke_late = true;
    assert_false(ops[0].done);
    fake_advance(&w, 10 * SEC_NS);
    assert_true(ops[0].done);
    assert_int_equal(ops[0].op.result, -ETIMEDOUT);
    assert_true(old->dropped);
}

static void says_which_writes_it_waits_for(void **state)
{
    (void)state;
    static struct fake_op o[4];
    fake_osd_accept(&w, 0);
    for (int i = 0; i < 3; i++) {
        fake_op_write(&o[i], 1, "object", "data");
        client_submit(c, &o[i].op);
    }
    fake_osd_accept(&w, 0);
    uint64_t tids[3];
    for (int i = 0; i < 3; i++) {
        struct fake_request request = fake_request(&w, 0);
        tids[i] = request.head.tid;
        assert_int_equal(request.head.oldest, tids[0]);
    }
    /* The second has its answer, but the first has not. */
    fake_reply(&w, 0, tids[1], 0, 1, "");
    fake_op_read(&o[3], 1, "object", 4);
    client_submit(c, &o[3].op);
    assert_int_equal(fake_request(&w, 0).head.oldest, 0);
    fake_op_write(&o[1], 1, "object", "data");
    client_submit(c, &o[1].op);
    assert_int_equal(fake_request(&w, 0).head.oldest, tids[0]);
    fake_reply(&w, 0, tids[0], 0, 1, "");
    fake_op_write(&o[0], 1, "object", "data");
    client_submit(c, &o[0].op);
    assert_int_equal(fake_request(&w, 0).head.oldest, tids[2]);
}

static void cancels_once(void **state)
{
    (void)state;
    static struct fake_op ops[2];
    uint64_t tids[2];
    send_writes(ops, 2, tids);
    client_cancel(c, &ops[0].op);
    client_cancel(c, &ops[0].op);
    assert_false(ops[0].done);
    fake_settle(&w);
    assert_int_equal(ops[0].op.result, -ECANCELED);
    client_cancel(c, &ops[0].op);
    fake_reply(&w, 0, tids[1], 0, 1, "");
    assert_int_equal(ops[1].op.result, 0);
}

static void keeps_bytes_in_flight_within_the_budget(void **state)
{
    (void)state;
    client_destroy(c);
    fake_world_fini(&w);
    fake_world_init(&w);
    c = fake_connected_client(&w, &(struct client_options){.max_bytes_in_flight = 10});
    static struct fake_op ops[4];
    const char *const data[4] = {"12345678", "12", "1", "much more than the whole budget"};
    for (uint32_t i = 0; i < 4; i++) {
        fake_op_write(&ops[i], 1, "object", data[i]);
        client_submit(c, &ops[i].op);
    }
    fake_osd_accept(&w, 0);
    uint64_t first = fake_request(&w, 0).head.tid;
    uint64_t second = fake_request(&w, 0).head.tid;
    assert_true(fake_no_request(&w, 0));
    fake_reply(&w, 0, first, 0, 1, "");
    uint64_t third = fake_request(&w, 0).head.tid;
    assert_true(fake_no_request(&w, 0));
    fake_reply(&w, 0, second, 0, 1, "");
    assert_true(fake_no_request(&w, 0));
    fake_reply(&w, 0, third, 0, 1, "");
    fake_reply(&w, 0, fake_request(&w, 0).head.tid, 0, 1, "");
    assert_int_equal(ops[3].order, 4);
}

static void holds_back_what_a_session_cannot_carry(void **state)
{
    (void)state;
    static struct fake_op ops[2];
    uint64_t tids[1];
    send_writes(ops, 1, tids);
    struct fake_session *s = fake_osd(&w, 0);
    s->base.queued_bytes = NET_QUEUE_LIMIT + 1;
    fake_op_write(&ops[1], 1, "object", "data");
    client_submit(c, &ops[1].op);
    fake_settle(&w);
    assert_true(fake_no_request(&w, 0));
    s->base.queued_bytes = 0;
    w.handlers->drained(w.ctx, &s->base);
    fake_settle(&w);
    assert_true(fake_request(&w, 0).head.tid > tids[0]);
}

static void refuses_more_data_than_a_message_holds(void **state)
{
    (void)state;
    static struct fake_op o;
    fake_op_write(&o, 1, "object", "");
    buf_slice_drop(&o.op.steps[0].data);
    assert_int_equal(buf_slice_alloc(REQUEST_PAYLOAD_MAX + 1, &o.op.steps[0].data), 0);
    client_submit(c, &o.op);
    assert_false(o.done);
    fake_settle(&w);
    assert_true(o.done);
    assert_int_equal(o.op.result, -EFBIG);
    assert_null(o.op.steps[0].data.buf);
}

static void fails_on_a_reply_that_does_not_fit(void **state)
{
    (void)state;
    static struct fake_op o;
    fake_op_read(&o, 1, "object", 4);
    client_submit(c, &o.op);
    fake_osd_accept(&w, 0);
    struct message *m = message_create(MSG_OSD_OP_REPLY, sizeof(struct wire_osd_op_reply));
    struct wire_osd_op_reply head = {.tid = fake_request(&w, 0).head.tid, .n_ops = 0};
    memcpy(m->body, &head, sizeof head);
    fake_deliver(&w, fake_osd(&w, 0), m);
    assert_true(o.done);
    assert_int_equal(o.op.result, -EPROTO);
}

static void ignores_malformed_replies(void **state)
{
    (void)state;
    static struct fake_op o;
    fake_op_read(&o, 1, "object", 4);
    client_submit(c, &o.op);
    fake_osd_accept(&w, 0);
    uint64_t tid = fake_request(&w, 0).head.tid;
    for (size_t len = 0; len < sizeof(struct wire_osd_op_reply) + 20; len++) {
        struct message *m = message_create(MSG_OSD_OP_REPLY, len);
        struct wire_osd_op_reply head = {.tid = tid, .n_ops = 2};
        memcpy(m->body, &head, len < sizeof head ? len : sizeof head);
        if (len == sizeof head + 16)
            assert_int_equal(buf_slice_copy("x", 1, &m->payload), 0);
        fake_deliver(&w, fake_osd(&w, 0), m);
        assert_false(o.done);
    }
    fake_reply(&w, 0, tid, 0, 1, "good");
    assert_true(o.done);
    buf_slice_drop(&o.op.steps[0].data);
}

static void lists_groups_by_number(void **state)
{
    (void)state;
    static struct fake_op o;
    fake_op_read(&o, 2, "", 0);
    o.op.pg_op = true;
    o.op.pg_seed = 5;
    o.op.steps[0].code = WIRE_OP_CODE_LIST;
    o.op.steps[0].length = 10;
    client_submit(c, &o.op);
    struct pg_view view;
    assert_int_equal(map_pg_view(w.map, (struct pg_id){.pool = 2, .seed = 5}, &view), 0);
    fake_osd_accept(&w, view.primary);
    struct fake_request r = fake_request(&w, view.primary);
    assert_int_equal(r.head.flags, WIRE_OP_PG);
    assert_int_equal(r.head.pg_seed, 5);
    /* One that does not exist. */
    static struct fake_op wrong;
    fake_op_read(&wrong, 2, "", 0);
    wrong.op.pg_op = true;
    wrong.op.pg_seed = 8;
    client_submit(c, &wrong.op);
    fake_settle(&w);
    assert_int_equal(wrong.op.result, -ENOENT);
}

static void operations_before_the_first_map_wait(void **state)
{
    (void)state;
    client_destroy(c);
    fake_world_fini(&w);
    fake_world_init(&w);
    c = fake_client(&w, &(struct client_options){0});
    static struct fake_op o;
    fake_op_write(&o, 1, "object", "data");
    client_submit(c, &o.op);
    fake_settle(&w);
    assert_false(o.done);
}

static void destruction_cancels_everything(void **state)
{
    (void)state;
    static struct fake_op ops[3];
    uint64_t tids[2];
    send_writes(ops, 2, tids);
    fake_op_read(&ops[2], 1, "other", 1);
    client_submit(c, &ops[2].op);
    client_destroy(c);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(ops[i].done);
        assert_int_equal(ops[i].op.result, -ECANCELED);
    }
    c = fake_client(&w, &(struct client_options){0});
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(sends_operations_of_one_object_in_order_without_waiting),
        CASE(request_says_what_the_caller_asked),
        CASE(gives_the_data_of_each_step),
        CASE(lends_the_callers_memory_to_the_reply),
        CASE(takes_its_memory_back_when_it_ends_otherwise),
        CASE(joins_the_data_of_several_steps),
        CASE(sends_all_again_in_order_after_a_lost_session),
        CASE(drops_a_session_whose_path_is_cut),
        CASE(what_is_revoked_goes_with_its_session),
        CASE(what_was_not_sent_is_revoked_alone),
        CASE(keeps_a_slow_osd_that_answers_pings),
        CASE(keeps_an_osd_whose_machine_shows_signs_of_life),
        CASE(an_idle_session_is_not_asked),
        CASE(goes_to_the_new_primary_when_the_map_says_so),
        CASE(goes_to_the_survivor_when_an_osd_dies),
        CASE(sends_again_when_a_member_has_restarted),
        CASE(sends_again_when_the_number_changed),
        CASE(opens_a_new_session_to_a_restarted_osd),
        CASE(tries_an_unreachable_osd_again_slowly),
        CASE(waits_for_the_map_that_a_refusal_names),
        CASE(holds_later_operations_back_behind_a_refused_one),
        CASE(asks_again_after_a_moment_when_the_osd_lags_behind),
        CASE(does_not_wait_for_ever_for_a_map_that_does_not_exist),
        CASE(waits_while_nobody_may_serve),
        CASE(waits_while_the_cluster_is_paused),
        CASE(fails_operations_of_a_pool_that_is_gone),
        CASE(asks_the_leader_before_it_denies_a_pool),
        CASE(finds_a_pool_that_is_newer_than_its_map),
        CASE(doubtful_operations_can_be_cancelled),
        CASE(finds_new_groups_when_a_pool_is_split),
        CASE(gives_up_after_the_time_out),
        CASE(a_write_that_took_too_long_does_not_arrive_later),
        CASE(other_late_writes_leave_the_session_alone),
        CASE(a_read_that_took_too_long_leaves_the_session_alone),
        CASE(a_read_waits_for_ever_without_a_time_out),
        CASE(a_write_is_given_up_after_ten_minutes),
        CASE(says_which_writes_it_waits_for),
        CASE(cancels_once),
        CASE(keeps_bytes_in_flight_within_the_budget),
        CASE(holds_back_what_a_session_cannot_carry),
        CASE(refuses_more_data_than_a_message_holds),
        CASE(fails_on_a_reply_that_does_not_fit),
        CASE(ignores_malformed_replies),
        CASE(lists_groups_by_number),
        CASE(operations_before_the_first_map_wait),
        CASE(destruction_cancels_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
