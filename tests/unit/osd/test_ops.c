/* Requests: reading them, and turning them into transactions. */
#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "osd/ops/run.h"
#include "osd/store/txn.h"
#include "placement/hash.h"

struct made {
    struct wire_osd_op head;
    struct object_id object;
    uint16_t n;
    struct wire_op steps[WIRE_OPS_MAX + 1];
    size_t payload_len;
};

static struct made make(uint16_t code)
{
    struct made made = {.n = 1};
    made.object = (struct object_id){
        .pool = 4,
        .hash = hash_object("", 0, "name", 4),
        .space = (const uint8_t *)"",
        .name_len = 4,
        .name = (const uint8_t *)"name",
        .snap = OBJECT_HEAD,
    };
    made.head.pool = 4;
    made.head.client = 1;
    made.head.tid = 2;
    made.steps[0].code = code;
    if (code >= WIRE_OP_CODE_WRITE_AT && code <= WIRE_OP_CODE_CREATE)
        made.head.flags = WIRE_OP_WRITE;
    if (code == WIRE_OP_CODE_LIST)
        made.head.flags = WIRE_OP_PG;
    return made;
}

static struct made make_data(uint16_t code, uint64_t offset, uint32_t len)
{
    struct made made = make(code);
    made.steps[0].offset = offset;
    made.steps[0].data_len = len;
    made.payload_len = len;
    return made;
}

static struct message *pack(struct made *made)
{
    struct encoder e;
    made->head.n_ops = made->n;
    encoder_init(&e);
    encode_bytes(&e, &made->head, sizeof made->head);
    encode_object_id(&e, &made->object);
    encode_bytes(&e, made->steps, made->n * sizeof made->steps[0]);
    struct message *message = message_create(MSG_OSD_OP, e.len);
    assert_non_null(message);
    memcpy(message->body, e.data, e.len);
    if (made->payload_len > 0)
        assert_int_equal(buf_slice_alloc(made->payload_len, &message->payload), 0);
    encoder_fini(&e);
    return message;
}

static int decode(struct made made)
{
    struct ops_request request;
    struct message *message = pack(&made);
    int error = ops_decode(message, &request);
    message_unref(message);
    return error;
}

/* ---- Reading ---- */

static void reads_a_request(void **state)
{
    (void)state;
    struct made made = make_data(WIRE_OP_CODE_WRITE_AT, 5, 3);
    struct ops_request request;
    struct message *message = pack(&made);
    assert_int_equal(ops_decode(message, &request), 0);
    assert_true(request.write);
    assert_false(request.list);
    assert_int_equal(request.head.tid, 2);
    assert_int_equal(object_compare(&request.object, &made.object), 0);
    assert_int_equal(ops_step(&request, 0).offset, 5);
    message_unref(message);
}

static void refuses_every_truncation(void **state)
{
    (void)state;
    struct made made = make_data(WIRE_OP_CODE_WRITE_AT, 5, 3);
    struct ops_request request;
    struct message *message = pack(&made);
    uint32_t len = message->body_len;
    for (message->body_len = 0; message->body_len < len; message->body_len++)
        assert_int_equal(ops_decode(message, &request), -EBADMSG);
    message_unref(message);
}

static void refuses_wrong_objects(void **state)
{
    (void)state;
    struct made made = make(WIRE_OP_CODE_STAT);
    assert_int_equal(decode(made), 0);
    made.object.hash++;
    assert_int_equal(decode(made), -EINVAL);
    made = make(WIRE_OP_CODE_STAT);
    made.object.pool++;
    assert_int_equal(decode(made), -EINVAL);
    made = make(WIRE_OP_CODE_STAT);
    made.object.snap = OBJECT_HEAD - 1;
    assert_int_equal(decode(made), -EINVAL);
    made = make(WIRE_OP_CODE_STAT);
    made.object.name_len = 0;
    made.object.hash = hash_object("", 0, "", 0);
    assert_int_equal(decode(made), -EINVAL);
}

static void takes_objects_placed_by_a_locator(void **state)
{
    (void)state;
    struct made made = make(WIRE_OP_CODE_STAT);
    made.object.locator = (const uint8_t *)"near";
    made.object.locator_len = 4;
    assert_int_equal(decode(made), -EINVAL); /* The hash is that of the name. */
    made.object.hash = hash_object("", 0, "near", 4);
    assert_int_equal(decode(made), 0);
    made.object.locator = made.object.name;
    made.object.hash = hash_object("", 0, "name", 4);
    assert_int_equal(decode(made), -EBADMSG);
}

static void refuses_wrong_steps(void **state)
{
    (void)state;
    struct made made = make(WIRE_OP_CODE_STAT);
    made.n = 0;
    assert_int_equal(decode(made), -EINVAL);
    made = make(WIRE_OP_CODE_STAT);
    made.n = WIRE_OPS_MAX + 1;
    assert_int_equal(decode(made), -EINVAL);
    made = make(999);
    assert_int_equal(decode(made), -EOPNOTSUPP);
    made = make(WIRE_OP_CODE_REMOVE);
    made.head.flags = 0;
    assert_int_equal(decode(made), -EINVAL);
    made = make(WIRE_OP_CODE_LIST);
    assert_int_equal(decode(made), 0);
    made.steps[0].offset = WIRE_LIST_ONE_SPACE;
    assert_int_equal(decode(made), 0);
    made.steps[0].offset = WIRE_LIST_ONE_SPACE | WIRE_LIST_KEPT;
    assert_int_equal(decode(made), 0);
    made.steps[0].offset = WIRE_LIST_KEPT << 1;
    assert_int_equal(decode(made), -EINVAL);
    made.steps[0].offset = 0;
    made.head.flags |= WIRE_OP_WRITE;
    assert_int_equal(decode(made), -EINVAL);
}

static void refuses_data_that_do_not_add_up(void **state)
{
    (void)state;
    struct made made = make_data(WIRE_OP_CODE_APPEND, 0, 10);
    made.payload_len = 9;
    assert_int_equal(decode(made), -EINVAL);
    made = make_data(WIRE_OP_CODE_REMOVE, 0, 10);
    assert_int_equal(decode(made), -EINVAL);
    made = make_data(WIRE_OP_CODE_READ, 0, 10);
    assert_int_equal(decode(made), -EINVAL);
}

/* ---- Executing ---- */

struct executed {
    int error;
    uint16_t failed_step;
    struct object_state state;
    struct txn_op ops[8];
    size_t n;
    struct store_txn txn;
};

static void execute(struct made made, struct object_state state, struct executed *out)
{
    struct ops_request request;
    struct message *message = pack(&made);
    struct txn_iterator it;
    memset(out, 0, sizeof *out);
    assert_int_equal(ops_decode(message, &request), 0);
    struct ops_run run;
    struct ops_caller caller = {.address = ""};
    txn_init(&out->txn);
    run_init(&run, &request, message->payload, &state, &out->txn, &caller, NULL, 0);
    out->error = ops_run(&run);
    out->state = run.view.state;
    out->failed_step = run.step;
    run_fini(&run);
    txn_iterate(&it, out->txn.ops.data, out->txn.ops.len, made.payload_len);
    while (out->n < 8 && txn_next(&it, &out->ops[out->n]) > 0)
        out->n++;
    message_unref(message);
}

static const struct object_state absent = {0};
static const struct object_state ten = {.exists = true, .size = 10};

static void append_knows_the_size(void **state)
{
    (void)state;
    struct executed e;
    execute(make_data(WIRE_OP_CODE_APPEND, 0, 3), ten, &e);
    assert_int_equal(e.error, 0);
    assert_int_equal(e.state.size, 13);
    assert_int_equal(e.ops[0].code, TXN_WRITE);
    assert_int_equal(e.ops[0].offset, 10);
    txn_fini(&e.txn);
}

static void steps_see_what_earlier_ones_did(void **state)
{
    (void)state;
    struct made made = make_data(WIRE_OP_CODE_WRITE_FULL, 0, 4);
    struct executed e;
    made.n = 3;
    made.steps[1].code = WIRE_OP_CODE_APPEND;
    made.steps[1].data_len = 2;
    made.steps[2].code = WIRE_OP_CODE_TRUNCATE;
    made.steps[2].offset = 5;
    made.payload_len = 6;
    execute(made, ten, &e);
    assert_int_equal(e.error, 0);
    assert_int_equal(e.state.size, 5);
    assert_int_equal(e.n, 4);
    assert_int_equal(e.ops[0].code, TXN_TRUNCATE);
    assert_int_equal(e.ops[1].code, TXN_WRITE);
    assert_int_equal(e.ops[2].code, TXN_WRITE);
    assert_int_equal(e.ops[2].offset, 4);
    assert_int_equal(e.ops[2].data_offset, 4);
    assert_int_equal(e.ops[3].code, TXN_TRUNCATE);
    txn_fini(&e.txn);
}

static void the_first_failing_step_decides(void **state)
{
    (void)state;
    struct made made = make(WIRE_OP_CODE_REMOVE);
    struct executed e;
    made.n = 3;
    made.steps[1].code = WIRE_OP_CODE_REMOVE;
    made.steps[2].code = WIRE_OP_CODE_CREATE;
    execute(made, ten, &e);
    assert_int_equal(e.error, -ENOENT);
    assert_int_equal(e.failed_step, 1);
    txn_fini(&e.txn);
}

static void create_is_exclusive_when_asked(void **state)
{
    (void)state;
    struct made made = make(WIRE_OP_CODE_CREATE);
    struct executed e;
    execute(made, ten, &e);
    assert_int_equal(e.error, 0);
    txn_fini(&e.txn);
    made.steps[0].length = 1;
    execute(made, ten, &e);
    assert_int_equal(e.error, -EEXIST);
    txn_fini(&e.txn);
    execute(made, absent, &e);
    assert_int_equal(e.error, 0);
    assert_true(e.state.exists);
    txn_fini(&e.txn);
}

static void truncating_nothing_does_nothing(void **state)
{
    (void)state;
    struct executed e;
    execute(make_data(WIRE_OP_CODE_TRUNCATE, 100, 0), absent, &e);
    assert_int_equal(e.error, 0);
    assert_false(e.state.exists);
    assert_int_equal(e.n, 0);
    txn_fini(&e.txn);
}

static bool grows(const struct object_state *before, const struct object_state *after)
{
    struct object_view view = {.base = *before, .state = *after};
    return ops_grows(&view);
}

static void growth_is_what_needs_space(void **state)
{
    (void)state;
    struct object_state smaller = ten, larger = ten, empty = {.exists = true};
    smaller.size = 9;
    larger.size = 11;
    assert_false(grows(&ten, &ten));
    assert_false(grows(&ten, &smaller));
    assert_false(grows(&ten, &absent));
    assert_true(grows(&ten, &larger));
    assert_true(grows(&absent, &empty));
}

/* ---- Replies ---- */

static void replies_say_which_step_failed(void **state)
{
    (void)state;
    struct wire_osd_op head = {.tid = 9, .n_ops = 3};
    struct ops_result result = {.epoch = 5, .result = -ENOENT, .failed_step = 1};
    struct message *reply = ops_reply(&head, &result, NULL, BUF_SLICE_EMPTY);
    struct wire_osd_op_reply out;
    struct wire_op_result steps[3];
    assert_non_null(reply);
    assert_int_equal(reply->body_len, sizeof out + sizeof steps);
    memcpy(&out, reply->body, sizeof out);
    memcpy(steps, reply->body + sizeof out, sizeof steps);
    assert_int_equal(out.tid, 9);
    assert_int_equal(out.epoch, 5);
    assert_int_equal(out.result, -ENOENT);
    assert_int_equal(steps[0].result, 0);
    assert_int_equal(steps[1].result, -ENOENT);
    assert_int_equal(steps[2].result, -ECANCELED);
    message_unref(reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_request),
        cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(refuses_wrong_objects),
        cmocka_unit_test(takes_objects_placed_by_a_locator),
        cmocka_unit_test(refuses_wrong_steps),
        cmocka_unit_test(refuses_data_that_do_not_add_up),
        cmocka_unit_test(append_knows_the_size),
        cmocka_unit_test(steps_see_what_earlier_ones_did),
        cmocka_unit_test(the_first_failing_step_decides),
        cmocka_unit_test(create_is_exclusive_when_asked),
        cmocka_unit_test(truncating_nothing_does_nothing),
        cmocka_unit_test(growth_is_what_needs_space),
        cmocka_unit_test(replies_say_which_step_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
