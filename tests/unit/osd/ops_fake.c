#include "tests/unit/osd/ops_fake.h"

#include "tests/lib/test.h"

#include <stdlib.h>
#include <string.h>

#include "osd/store/txn.h"
#include "placement/hash.h"

/* ---- Tables ---- */

static uint32_t place_of(const struct fake_table *table, const void *name, size_t len)
{
    uint32_t at = 0;
    while (at < table->n &&
           view_compare(table->entries[at].name, table->entries[at].name_len, name, len) < 0)
        at++;
    return at;
}

static bool is_at(const struct fake_table *table, uint32_t at, const void *name, size_t len)
{
    return at < table->n && table->entries[at].name_len == len &&
           memcmp(table->entries[at].name, name, len) == 0;
}

static void table_remove(struct fake_table *table, uint32_t at)
{
    free(table->entries[at].name);
    free(table->entries[at].value);
    table->n--;
    memmove(&table->entries[at], &table->entries[at + 1],
            (table->n - at) * sizeof table->entries[0]);
}

static void table_clear(struct fake_table *table)
{
    while (table->n > 0)
        table_remove(table, table->n - 1);
}

static uint8_t *copy(const void *data, size_t len)
{
    uint8_t *memory = malloc(len + 1);
    assert_non_null(memory);
    if (len > 0)
        memcpy(memory, data, len);
    return memory;
}

static void table_set(struct fake_table *table, const void *name, uint16_t name_len,
                      const void *value, uint32_t len)
{
    uint32_t at = place_of(table, name, name_len);
    if (is_at(table, at, name, name_len))
        table_remove(table, at);
    assert_true(table->n < FAKE_ENTRIES_MAX);
    memmove(&table->entries[at + 1], &table->entries[at],
            (table->n - at) * sizeof table->entries[0]);
    table->entries[at] = (struct fake_entry){copy(name, name_len), copy(value, len), name_len, len};
    table->n++;
}

static bool entries_equal(const struct fake_entry *a, const struct fake_entry *b)
{
    return a->name_len == b->name_len && a->value_len == b->value_len &&
           (a->name_len == 0 || memcmp(a->name, b->name, a->name_len) == 0) &&
           (a->value_len == 0 || memcmp(a->value, b->value, a->value_len) == 0);
}

static bool tables_equal(const struct fake_table *a, const struct fake_table *b)
{
    bool equal = a->n == b->n;
    for (uint32_t i = 0; equal && i < a->n; i++)
        equal = entries_equal(&a->entries[i], &b->entries[i]);
    return equal;
}

/* ---- The object ---- */

void fake_init(struct fake_object *object)
{
    memset(object, 0, sizeof *object);
}

static void empty(struct fake_object *object)
{
    table_clear(&object->attrs);
    table_clear(&object->pairs);
    free(object->header.value);
    object->header = (struct fake_entry){0};
    memset(object->data, 0, sizeof object->data);
}

void fake_fini(struct fake_object *object)
{
    empty(object);
}

bool fake_equal(const struct fake_object *a, const struct fake_object *b)
{
    return a->state.exists == b->state.exists && a->state.size == b->state.size &&
           memcmp(a->data, b->data, sizeof a->data) == 0 && tables_equal(&a->attrs, &b->attrs) &&
           tables_equal(&a->pairs, &b->pairs) && entries_equal(&a->header, &b->header);
}

static void truncate_to(struct fake_object *object, uint64_t size)
{
    assert_true(size <= sizeof object->data);
    memset(object->data + size, 0, sizeof object->data - size);
}

static void remove_range(struct fake_table *table, const struct txn_op *op)
{
    uint32_t at = place_of(table, op->name, op->name_len);
    while (at < table->n &&
           (op->value_len == 0 || view_compare(table->entries[at].name, table->entries[at].name_len,
                                               op->value, op->value_len) < 0))
        table_remove(table, at);
}

static void apply_op(struct fake_object *object, const struct txn_op *op, struct buf_slice data)
{
    uint32_t at;
    switch (op->code) {
    case TXN_TOUCH:
        break;
    case TXN_WRITE:
        assert_true(op->offset + op->len <= sizeof object->data);
        memcpy(object->data + op->offset, data.data + op->data_offset, op->len);
        break;
    case TXN_ZERO:
        memset(object->data + op->offset, 0, op->len);
        break;
    case TXN_TRUNCATE:
        truncate_to(object, op->offset);
        break;
    case TXN_REMOVE:
        empty(object);
        break;
    case TXN_SET_ATTR:
        table_set(&object->attrs, op->name, op->name_len, op->value, op->value_len);
        break;
    case TXN_REMOVE_ATTR:
        at = place_of(&object->attrs, op->name, op->name_len);
        if (is_at(&object->attrs, at, op->name, op->name_len))
            table_remove(&object->attrs, at);
        break;
    case TXN_OMAP_SET:
        table_set(&object->pairs, op->name, op->name_len, op->value, op->value_len);
        break;
    case TXN_OMAP_REMOVE_RANGE:
        remove_range(&object->pairs, op);
        break;
    case TXN_OMAP_HEADER:
        free(object->header.value);
        object->header.value = copy(op->value, op->value_len);
        object->header.value_len = op->value_len;
        break;
    default:
        fail_msg("a request made operation %d", op->code);
    }
}

/* ---- Loading ---- */

static void encode_entry(struct encoder *e, const struct fake_entry *entry)
{
    encode_string16(e, entry->name, entry->name_len);
    encode_string32(e, entry->value, entry->value_len);
}

static void load_pairs(struct fake_object *object, struct object_view *view,
                       const struct view_need *need)
{
    struct encoder pairs, header;
    encoder_init(&pairs);
    encoder_init(&header);
    uint32_t at = place_of(&object->pairs, need->from, need->from_len), n = 0;
    bool end = true;
    for (; at < object->pairs.n; at++, n++) {
        const struct fake_entry *entry = &object->pairs.entries[at];
        if (need->to_len > 0 &&
            view_compare(entry->name, entry->name_len, need->to, need->to_len) >= 0)
            break;
        end = n < need->max;
        if (!end)
            break;
        encode_entry(&pairs, entry);
    }
    if (object->header.value_len > 0)
        encode_bytes(&header, object->header.value, object->header.value_len);
    assert_int_equal(view_give_omap(view, need, &pairs, end, &header), 0);
    encoder_fini(&pairs);
    encoder_fini(&header);
}

static void load(struct fake_object *object, struct object_view *view, const struct view_need *need)
{
    struct buf_slice data;
    struct encoder e;
    object->loads++;
    switch (need->kind) {
    case VIEW_NEEDS_DATA:
        assert_true(need->offset + need->len <= object->state.size);
        assert_int_equal(buf_slice_copy(object->data + need->offset, need->len, &data), 0);
        assert_int_equal(view_give_data(view, need->offset, need->len, data), 0);
        return;
    case VIEW_NEEDS_EXTENTS:
        encoder_init(&e);
        for (uint64_t at = need->offset / 4096 * 4096; at < need->offset + need->len; at += 4096) {
            bool zero = object->data[at] == 0 &&
                        memcmp(object->data + at, object->data + at + 1, 4095) == 0;
            if (zero)
                continue;
            encode_u64(&e, at);
            encode_u64(&e, 4096);
        }
        assert_int_equal(view_give_extents(view, need, &e), 0);
        return;
    case VIEW_NEEDS_SAME:
        fail(); /* No object of these has clones: test_pg_snap.c. */
        return;
    case VIEW_NEEDS_ATTRS:
        encoder_init(&e);
        for (uint32_t i = object->attrs.n; i-- > 0;)
            encode_entry(&e, &object->attrs.entries[i]);
        assert_int_equal(view_give_attrs(view, &e), 0);
        return;
    case VIEW_NEEDS_OMAP:
        load_pairs(object, view, need);
        return;
    }
}

/* ---- Requests ---- */

void fake_request_init(struct fake_request *request, bool write)
{
    memset(request, 0, sizeof *request);
    request->write = write;
    request->caller = (struct ops_caller){.instance = 7, .address = "there:1"};
    encoder_init(&request->payload);
}

static void end_step(struct fake_request *request)
{
    size_t before = 0;
    if (request->n == 0)
        return;
    for (uint16_t i = 0; i + 1 < request->n; i++)
        before += request->steps[i].data_len;
    request->steps[request->n - 1].data_len = (uint32_t)(request->payload.len - before);
}

struct wire_op *fake_step(struct fake_request *request, uint16_t code, uint64_t offset,
                          uint64_t length)
{
    end_step(request);
    struct wire_op *step = &request->steps[request->n++];
    *step = (struct wire_op){.code = code, .offset = offset, .length = length};
    return step;
}

struct wire_op *fake_step_data(struct fake_request *request, uint16_t code, uint64_t offset,
                               uint64_t length, const void *data, size_t len)
{
    struct wire_op *step = fake_step(request, code, offset, length);
    if (len > 0)
        encode_bytes(&request->payload, data, len);
    return step;
}

static struct message *pack(struct fake_request *request)
{
    struct object_id id = {
        .pool = 4,
        .hash = hash_object("", 0, "name", 4),
        .space = (const uint8_t *)"",
        .name_len = 4,
        .name = (const uint8_t *)"name",
        .snap = OBJECT_HEAD,
    };
    struct wire_osd_op head = {
        .client = 1,
        .tid = 2,
        .pool = 4,
        .flags = request->write ? WIRE_OP_WRITE : 0,
        .n_ops = request->n,
    };
    struct encoder e;
    encoder_init(&e);
    encode_bytes(&e, &head, sizeof head);
    encode_object_id(&e, &id);
    encode_bytes(&e, request->steps, request->n * sizeof request->steps[0]);
    struct message *message = message_create(MSG_OSD_OP, e.len);
    assert_non_null(message);
    memcpy(message->body, e.data, e.len);
    if (request->payload.len > 0)
        assert_int_equal(
            buf_slice_copy(request->payload.data, request->payload.len, &message->payload), 0);
    encoder_fini(&e);
    return message;
}

static void take_results(const struct ops_run *run, struct fake_outcome *out)
{
    for (uint16_t i = 0; i < run->request->head.n_ops; i++) {
        out->results[i] = run->results[i].result;
        out->lens[i] = (uint32_t)run->results[i].data.len;
        out->data[i] = copy(run->results[i].data.data, out->lens[i]);
    }
}

/* The way of a repeated request. */
static void take_answer(const struct ops_run *run, struct fake_outcome *out)
{
    struct encoder answer;
    struct wire_op_result steps[WIRE_OPS_MAX];
    struct buf_slice data;
    struct ops_result result = {0};
    size_t at = 0;
    encoder_init(&answer);
    run_answer(run, &answer);
    assert_true(answer.len <= OPS_ANSWER_MAX);
    assert_int_equal(
        ops_answer_parse(answer.data, answer.len, run->request->head.n_ops, &result, steps, &data),
        0);
    assert_int_equal(result.unchanged, !run->changed);
    for (uint16_t i = 0; i < run->request->head.n_ops; i++) {
        out->results[i] = steps[i].result;
        out->lens[i] = steps[i].data_len;
        out->data[i] = copy(data.data + at, steps[i].data_len);
        at += steps[i].data_len;
    }
    buf_slice_drop(&data);
    encoder_fini(&answer);
}

static void apply(struct fake_object *object, struct ops_run *run, struct store_txn *txn)
{
    struct txn_iterator it;
    struct txn_op op;
    struct buf_slice data;
    uint64_t pool = 4;
    int more;
    assert_int_equal(view_take_data(&run->view, &data), 0);
    assert_int_equal(txn_check(txn->ops.data, txn->ops.len, data.len, &pool), 0);
    txn_iterate(&it, txn->ops.data, txn->ops.len, data.len);
    while ((more = txn_next(&it, &op)) > 0)
        apply_op(object, &op, data);
    assert_int_equal(more, 0);
    buf_slice_drop(&data);
    object->state = run->view.state;
}

static void run_on(struct fake_object *object, struct fake_request *request,
                   const struct ops_request *ops, struct buf_slice payload,
                   struct fake_outcome *out)
{
    struct ops_run run;
    struct store_txn txn;
    txn_init(&txn);
    run_init(&run, ops, payload, &object->state, &txn, &request->caller, NULL, request->wall_ns);
    while ((out->result = ops_run(&run)) == VIEW_MISS) {
        assert_true(run.view.n_needs > 0 && out->runs < 1000);
        for (uint32_t i = 0; i < run.view.n_needs; i++)
            load(object, &run.view, &run.view.needs[i]);
        out->runs++;
    }
    out->failed_step = out->result ? run.step : 0;
    out->grows = out->result == 0 && ops_grows(&run.view);
    if (out->result == 0 && ops->write) {
        take_answer(&run, out);
        apply(object, &run, &txn);
    } else if (out->result == 0) {
        take_results(&run, out);
        assert_int_equal(txn.ops.len, 0);
    } else {
        assert_int_equal(txn.ops.len, 0);
    }
    run_fini(&run);
    txn_fini(&txn);
}

void fake_send(struct fake_object *object, struct fake_request *request, struct fake_outcome *out)
{
    struct ops_request ops;
    memset(out, 0, sizeof *out);
    end_step(request);
    struct message *message = pack(request);
    out->result = ops_decode(message, &ops);
    if (out->result == 0)
        run_on(object, request, &ops, message->payload, out);
    message_unref(message);
    encoder_fini(&request->payload);
}

void fake_outcome_fini(struct fake_outcome *outcome)
{
    for (int i = 0; i < WIRE_OPS_MAX; i++)
        free(outcome->data[i]);
}
