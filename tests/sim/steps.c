#include "tests/sim/steps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Of one step ---- */

static const uint16_t codes[HISTORY_KINDS_END] = {
    [HISTORY_READ] = WIRE_OP_CODE_READ,
    [HISTORY_STAT] = WIRE_OP_CODE_STAT,
    [HISTORY_WRITE_FULL] = WIRE_OP_CODE_WRITE_FULL,
    [HISTORY_WRITE_AT] = WIRE_OP_CODE_WRITE_AT,
    [HISTORY_APPEND] = WIRE_OP_CODE_APPEND,
    [HISTORY_TRUNCATE] = WIRE_OP_CODE_TRUNCATE,
    [HISTORY_REMOVE] = WIRE_OP_CODE_REMOVE,
    [HISTORY_CREATE] = WIRE_OP_CODE_CREATE,
    [HISTORY_READ_SNAP] = WIRE_OP_CODE_READ,
    [HISTORY_ROLLBACK] = WIRE_OP_CODE_ROLLBACK,
    [HISTORY_ZERO] = WIRE_OP_CODE_ZERO,
    [HISTORY_WRITE_SAME] = WIRE_OP_CODE_WRITE_SAME,
    [HISTORY_CHECKSUM] = WIRE_OP_CODE_CHECKSUM,
    [HISTORY_HINT] = WIRE_OP_CODE_HINT,
};

static struct client_step *add_step(struct client_op *op, uint16_t code)
{
    struct client_step *step = &op->steps[op->n_steps++];
    *step = (struct client_step){.code = code};
    return step;
}

static void give_data(struct client_step *step, struct encoder *e)
{
    if (e->failed || buf_slice_copy(e->data, e->len, &step->data))
        abort();
    encoder_fini(e);
}

static void give_serial(struct client_step *step, uint64_t serial, uint64_t from, uint64_t len)
{
    if (len == 0)
        return;
    if (buf_slice_alloc(len, &step->data) < 0)
        abort();
    serial_fill(serial, from, step->data.data, len);
}

static void give_checksum(struct client_step *step)
{
    struct wire_checksum wanted = {.type = WIRE_CHECKSUM_CRC32C, .init = UINT32_MAX};
    if (buf_slice_copy(&wanted, sizeof wanted, &step->data))
        abort();
}

static void fill_one(struct client_op *op, const struct history_op *choice)
{
    struct client_step *step = add_step(op, codes[choice->kind]);
    step->offset = choice->kind == HISTORY_READ_SNAP ? 0 : choice->offset;
    switch (choice->kind) {
    case HISTORY_CREATE:
        step->length = 1;
        break;
    case HISTORY_ZERO:
    case HISTORY_HINT:
        step->length = choice->len;
        break;
    case HISTORY_WRITE_SAME:
        step->length = choice->len;
        give_serial(step, choice->serial, 0, choice->period);
        break;
    case HISTORY_CHECKSUM:
        give_checksum(step);
        break;
    case HISTORY_WRITE_FULL:
    case HISTORY_WRITE_AT:
    case HISTORY_APPEND:
        give_serial(step, choice->serial, 0, choice->len);
        break;
    default:
        break;
    }
}

static void fill_write_if(struct client_op *op, const struct history_op *choice)
{
    struct client_step *guard = add_step(op, WIRE_OP_CODE_COMPARE_EXTENT);
    guard->offset = choice->offset;
    give_serial(guard, choice->expected, choice->expected_from, choice->len);
    struct client_step *write = add_step(op, WIRE_OP_CODE_WRITE_AT);
    write->offset = choice->offset;
    give_serial(write, choice->serial, 0, choice->len);
}

static void take_read(struct history_op *call, const struct client_step *step)
{
    call->size = step->data.len;
    call->hash = content_hash(step->data.data, step->data.len);
}

static void take_stat(struct history_op *call, const struct client_step *step)
{
    struct wire_stat stat = {0};
    if (step->data.len >= sizeof stat)
        memcpy(&stat, step->data.data, sizeof stat);
    call->size = stat.size;
}

static bool take_checksum(struct history_op *call, const struct client_step *step, char *why)
{
    struct decoder d;
    decoder_init(&d, step->data.data, step->data.len);
    call->size = decode_u32(&d);
    call->hash = call->size == 1 ? decode_u32(&d) : 0;
    if (decoder_end(&d) == 0 && call->size <= 1)
        return true;
    snprintf(why, STEPS_WHY_MAX, "gives %zu bytes for one checksum", step->data.len);
    return false;
}

/* ---- Tags ---- */

/*
 * A tag is kept twice, as an attribute and as a pair of the map beside pairs that are there for
 * company: both must always be the same.
 */
static const char tag_name[] = "tag";

static void add_attr(struct client_op *op, uint16_t code, uint64_t tag, bool has_value)
{
    struct encoder e;
    struct client_step *step = add_step(op, code);
    encoder_init(&e);
    encode_bytes(&e, tag_name, strlen(tag_name));
    if (has_value)
        encode_u64(&e, tag);
    step->length = strlen(tag_name);
    step->offset = WIRE_COMPARE_EQUAL;
    give_data(step, &e);
}

static void add_pair(struct client_op *op, uint64_t tag)
{
    struct encoder e;
    char company[16];
    struct client_step *step = add_step(op, WIRE_OP_CODE_OMAP_SET);
    snprintf(company, sizeof company, "n%" PRIu64, tag % 7);
    encoder_init(&e);
    encode_string16(&e, company, strlen(company));
    encode_string32(&e, &tag, sizeof tag);
    encode_string16(&e, tag_name, strlen(tag_name));
    encode_string32(&e, &tag, sizeof tag);
    give_data(step, &e);
}

static void add_key(struct client_op *op)
{
    struct encoder e;
    struct client_step *step = add_step(op, WIRE_OP_CODE_OMAP_GET);
    encoder_init(&e);
    encode_string16(&e, tag_name, strlen(tag_name));
    give_data(step, &e);
}

static void fill_tag(struct client_op *op, const struct history_op *choice)
{
    /*
     * An object without a tag has no such attribute, which compares like an empty one. Where there
     * is no object, there is nothing to compare.
     */
    if (choice->kind == HISTORY_EXCHANGE_IF)
        add_attr(op, WIRE_OP_CODE_ATTR_COMPARE, choice->offset, choice->offset != 0);
    if (choice->kind != HISTORY_EXCHANGE_IF) {
        add_attr(op, WIRE_OP_CODE_ATTR_GET, 0, false);
        op->steps[op->n_steps - 1].flags = WIRE_STEP_FAIL_OK;
        add_key(op);
    }
    if (choice->kind != HISTORY_LOOK) {
        add_attr(op, WIRE_OP_CODE_ATTR_SET, choice->serial, true);
        add_pair(op, choice->serial);
    }
}

/* What an exchange or a look has found: twice the same. */
static bool take_tag(struct history_op *call, const struct client_op *op, char *why)
{
    const struct client_step *attr = &op->steps[0], *pair = &op->steps[1];
    uint64_t tag = 0, other = 0;
    if (attr->result == 0 && attr->data.len == sizeof tag)
        memcpy(&tag, attr->data.data, sizeof tag);
    if (pair->data.len > 0)
        memcpy(&other, pair->data.data + pair->data.len - sizeof other, sizeof other);
    call->hash = tag;
    if ((attr->result == 0 || attr->result == -ENODATA) && tag == other)
        return true;
    snprintf(why, STEPS_WHY_MAX, "has tag %" PRIu64 " (%d) as an attribute, %" PRIu64 " in its map",
             tag, attr->result, other);
    return false;
}

/* ---- Keys ---- */

/* In the order of their numbers; those of a group begin with the same five bytes. */
enum { KEY_BYTES = 6, KEY_GROUP_BYTES = 5, KEYS_PREFIX_BYTES = 4 };

static void key_name(uint64_t i, char out[KEY_BYTES + 1])
{
    snprintf(out, KEY_BYTES + 1, "key.%c%c", (char)('a' + i / HISTORY_KEYS_OF_GROUP % 26),
             (char)('a' + i % HISTORY_KEYS_OF_GROUP));
}

static void encode_key(struct encoder *e, uint64_t i)
{
    char name[KEY_BYTES + 1];
    key_name(i, name);
    encode_string16(e, name, KEY_BYTES);
}

static void fill_keys(struct client_op *op, const struct history_op *choice)
{
    struct encoder e;
    encoder_init(&e);
    if (choice->kind == HISTORY_KEYS_CUT) {
        encode_key(&e, choice->offset);
        encode_key(&e, choice->offset + choice->len);
        give_data(add_step(op, WIRE_OP_CODE_OMAP_REMOVE_RANGE), &e);
    } else if (choice->kind == HISTORY_KEYS_SET) {
        for (uint64_t i = 0; i < HISTORY_KEYS; i++) {
            if (!(choice->offset >> i & 1))
                continue;
            encode_key(&e, i);
            encode_string32(&e, &i, sizeof i);
        }
        give_data(add_step(op, WIRE_OP_CODE_OMAP_SET), &e);
    } else {
        bool all = choice->offset >= HISTORY_KEY_GROUPS;
        char prefix[KEY_BYTES + 1];
        key_name(all ? 0 : choice->offset * HISTORY_KEYS_OF_GROUP, prefix);
        encode_string16(&e, "", 0);
        encode_string16(&e, prefix, all ? KEYS_PREFIX_BYTES : KEY_GROUP_BYTES);
        struct client_step *step = add_step(op, WIRE_OP_CODE_OMAP_LIST);
        step->length = choice->len;
        give_data(step, &e);
    }
}

/* Ascending keys of ours, each with the value that it always has. */
static bool take_keys(struct history_op *call, const struct client_step *step, char *why)
{
    struct decoder d;
    bool right = true;
    decoder_init(&d, step->data.data, step->data.len);
    call->size = decode_u8(&d);
    for (uint64_t next = 0; decoder_left(&d) > 0 && !d.failed && right; next++) {
        char wanted[KEY_BYTES + 1] = "";
        uint16_t key_len;
        uint32_t value_len;
        const void *key = decode_string16(&d, &key_len);
        const void *value = decode_string32(&d, &value_len);
        right = key_len == KEY_BYTES && value_len == sizeof next;
        if (!right)
            break;
        memcpy(&next, value, sizeof next);
        right = next < HISTORY_KEYS && call->hash >> next == 0;
        if (!right)
            break;
        key_name(next, wanted);
        right = memcmp(key, wanted, KEY_BYTES) == 0;
        call->hash |= UINT64_C(1) << next;
    }
    if (right && !decoder_end(&d))
        return true;
    snprintf(why, STEPS_WHY_MAX, "lists keys that nobody has set (after %" PRIx64 ")", call->hash);
    return false;
}

/* ---- Locks ---- */

static const char lock_name[] = "lock", lock_cookie[] = "cookie";

static void encode_text(struct encoder *e, const char *text)
{
    encode_string16(e, text, strlen(text));
}

/* Inputs and outputs of the methods: osd/ops/method_lock.c. */
static void fill_lock(struct client_op *op, const struct history_op *choice)
{
    static const char *const methods[HISTORY_KINDS_END] = {
        [HISTORY_LOCK] = "lock.lock",
        [HISTORY_UNLOCK] = "lock.unlock",
        [HISTORY_BREAK_LOCK] = "lock.break_lock",
        [HISTORY_HOLDER] = "lock.get_info",
    };
    struct encoder e;
    encoder_init(&e);
    encode_text(&e, methods[choice->kind]);
    encode_text(&e, lock_name);
    if (choice->kind == HISTORY_LOCK)
        encode_u8(&e, 1); /* Exclusive. */
    if (choice->kind == HISTORY_BREAK_LOCK)
        encode_u64(&e, choice->offset);
    if (choice->kind != HISTORY_HOLDER)
        encode_text(&e, lock_cookie);
    if (choice->kind == HISTORY_LOCK) {
        encode_text(&e, ""); /* Tag, */
        encode_text(&e, ""); /* and description. */
        encode_u64(&e, 0);   /* Without an end. */
        encode_u8(&e, 0);
    }
    give_data(add_step(op, WIRE_OP_CODE_CALL), &e);
}

static bool take_holder(struct history_op *call, const struct client_step *step, char *why)
{
    struct decoder d;
    uint16_t len;
    decoder_init(&d, step->data.data, step->data.len);
    decode_u8(&d);
    decode_string16(&d, &len);
    uint32_t n = decode_u32(&d);
    call->hash = n > 0 ? decode_u64(&d) : 0;
    if (n <= 1 && !d.failed)
        return true;
    snprintf(why, STEPS_WHY_MAX, "has %" PRIu32 " holders of an exclusive lock", n);
    return false;
}

/* ---- Methods that greet ---- */

static void fill_greeting(struct client_op *op, const struct history_op *choice)
{
    struct encoder e;
    encoder_init(&e);
    encode_text(&e, choice->kind == HISTORY_GREET ? "hello.record_hello" : "hello.say_hello");
    if (choice->kind == HISTORY_SAY) {
        char name[24];
        int len = snprintf(name, sizeof name, "%" PRIu64, choice->offset);
        encode_bytes(&e, name, (size_t)len);
    }
    give_data(add_step(op, WIRE_OP_CODE_CALL), &e);
}

static bool take_greeting(const struct history_op *call, const struct client_step *step, char *why)
{
    char wanted[48];
    int len = snprintf(wanted, sizeof wanted, "Hello, %" PRIu64 "!", call->offset);
    if (step->data.len == (size_t)len && memcmp(step->data.data, wanted, step->data.len) == 0)
        return true;
    snprintf(why, STEPS_WHY_MAX, "greets with %zu bytes, not with '%s'", step->data.len, wanted);
    return false;
}

/* ---- The lock that several may have ---- */

static const char team_name[] = "team";
static const char *const cookies[] = {"one", "two"};
enum { N_COOKIES = 2, LOCK_MAY_RENEW = 1, LOCK_MUST_RENEW = 2 };

static void begin_team(const char *method, struct encoder *e)
{
    encoder_init(e);
    encode_text(e, method);
    encode_text(e, team_name);
}

static void fill_join(struct client_op *op, const struct history_op *choice)
{
    struct encoder e;
    begin_team("lock.lock", &e);
    encode_u8(&e, choice->kind == HISTORY_SEIZE ? HISTORY_TEAM_EXCLUSIVE : HISTORY_TEAM_SHARED);
    encode_text(&e, cookies[choice->expected]);
    encode_text(&e, ""); /* Tag, */
    encode_text(&e, ""); /* and description. */
    encode_u64(&e, choice->len);
    encode_u8(&e, choice->period ? LOCK_MUST_RENEW : LOCK_MAY_RENEW);
    give_data(add_step(op, WIRE_OP_CODE_CALL), &e);
}

static void fill_leave(struct client_op *op, const struct history_op *choice)
{
    struct encoder e;
    bool evicts = choice->kind == HISTORY_EVICT;
    begin_team(evicts ? "lock.break_lock" : "lock.unlock", &e);
    if (evicts)
        encode_u64(&e, choice->offset);
    encode_text(&e, cookies[choice->expected]);
    give_data(add_step(op, WIRE_OP_CODE_CALL), &e);
}

static void fill_held(struct client_op *op, const struct history_op *choice)
{
    struct encoder e;
    bool renames = choice->kind == HISTORY_RENAME;
    begin_team(renames ? "lock.set_cookie" : "lock.assert_locked", &e);
    encode_u8(&e, (uint8_t)choice->period);
    encode_text(&e, cookies[choice->expected]);
    encode_text(&e, "");
    if (renames)
        encode_text(&e, cookies[1 - choice->expected]);
    give_data(add_step(op, WIRE_OP_CODE_CALL), &e);
}

/* Who has it, and which locks there are, at one moment. */
static void fill_team(struct client_op *op)
{
    struct encoder e;
    begin_team("lock.get_info", &e);
    give_data(add_step(op, WIRE_OP_CODE_CALL), &e);
    encoder_init(&e);
    encode_text(&e, "lock.list_locks");
    give_data(add_step(op, WIRE_OP_CODE_CALL), &e);
}

static bool is_text(const void *bytes, size_t len, const char *text)
{
    return bytes && len == strlen(text) && memcmp(bytes, text, len) == 0;
}

/* False: one with a cookie that nobody uses. */
static bool take_member(struct history_op *call, struct decoder *d)
{
    uint16_t len;
    uint64_t cookie = 0;
    uint64_t instance = decode_u64(d);
    const void *bytes = decode_string16(d, &len);
    while (cookie < N_COOKIES && !is_text(bytes, len, cookies[cookie]))
        cookie++;
    decode_u64(d); /* Its end, */
    decode_string16(d, &len);
    decode_string16(d, &len); /* address and description. */
    call->hash += history_member_hash(instance, cookie);
    call->expected_from = instance;
    call->expected = cookie;
    return cookie < N_COOKIES && !d->failed;
}

static bool take_names(struct history_op *call, const struct client_step *step)
{
    struct decoder d;
    bool right = true;
    decoder_init(&d, step->data.data, step->data.len);
    for (uint32_t n = decode_u32(&d); n > 0 && right; n--) {
        uint16_t len;
        const void *name = decode_string16(&d, &len);
        uint64_t listed = is_text(name, len, lock_name)   ? HISTORY_LOCK_LISTED
                          : is_text(name, len, team_name) ? HISTORY_TEAM_LISTED
                                                          : 0;
        right = listed && !(call->size & listed);
        call->size |= listed;
    }
    return right && !decoder_end(&d);
}

static bool take_team(struct history_op *call, const struct client_op *op, char *why)
{
    struct decoder d;
    uint16_t len;
    bool right = true;
    decoder_init(&d, op->steps[0].data.data, op->steps[0].data.len);
    call->period = decode_u8(&d);
    decode_string16(&d, &len);
    uint32_t n = decode_u32(&d);
    for (uint32_t i = 0; i < n && right; i++)
        right = take_member(call, &d);
    right = right && !decoder_end(&d) && (n <= 1 || call->period == HISTORY_TEAM_SHARED);
    if (right && take_names(call, &op->steps[1]))
        return true;
    snprintf(why, STEPS_WHY_MAX,
             "tells of a lock that nobody makes so: type %" PRIu64 ", %" PRIu32 " holders",
             call->period, n);
    return false;
}

/* ---- All kinds ---- */

void steps_fill(struct client_op *op, const struct history_op *choice)
{
    op->write = !history_reads(choice->kind);
    op->n_steps = 0;
    switch (choice->kind) {
    case HISTORY_EXCHANGE:
    case HISTORY_EXCHANGE_IF:
    case HISTORY_LOOK:
        fill_tag(op, choice);
        break;
    case HISTORY_WRITE_IF:
        fill_write_if(op, choice);
        break;
    case HISTORY_KEYS_SET:
    case HISTORY_KEYS_CUT:
    case HISTORY_KEYS_LIST:
        fill_keys(op, choice);
        break;
    case HISTORY_LOCK:
    case HISTORY_UNLOCK:
    case HISTORY_BREAK_LOCK:
    case HISTORY_HOLDER:
        fill_lock(op, choice);
        break;
    case HISTORY_GREET:
    case HISTORY_SAY:
        fill_greeting(op, choice);
        break;
    case HISTORY_SHARE:
    case HISTORY_SEIZE:
        fill_join(op, choice);
        break;
    case HISTORY_LEAVE:
    case HISTORY_EVICT:
        fill_leave(op, choice);
        break;
    case HISTORY_RENAME:
    case HISTORY_HELD:
        fill_held(op, choice);
        break;
    case HISTORY_TEAM:
        fill_team(op);
        break;
    default:
        fill_one(op, choice);
        break;
    }
}

static bool may_be_busy(enum history_kind kind)
{
    return kind == HISTORY_LOCK || kind == HISTORY_SHARE || kind == HISTORY_SEIZE ||
           kind == HISTORY_RENAME || kind == HISTORY_HELD;
}

static bool may_lack(enum history_kind kind)
{
    return kind == HISTORY_SHARE || kind == HISTORY_SEIZE || kind == HISTORY_LEAVE ||
           kind == HISTORY_EVICT || kind == HISTORY_REMOVE || kind == HISTORY_EXCHANGE_IF ||
           kind == HISTORY_KEYS_CUT || kind == HISTORY_UNLOCK || kind == HISTORY_BREAK_LOCK ||
           history_reads(kind);
}

/* -ECANCELED is also what becomes of requests that are given up. */
bool steps_result_is_known(const struct history_op *call, const struct client_op *op)
{
    /* What is removed may be seen, or not. */
    if (call->kind == HISTORY_READ_SNAP && call->snaps->removed[call->offset])
        return false;
    if (op->result <= -WIRE_MISMATCH)
        return call->kind == HISTORY_WRITE_IF;
    switch (op->result) {
    case 0:
        return true;
    case -ENOENT:
        return may_lack(call->kind);
    case -EEXIST:
        return call->kind == HISTORY_CREATE || call->kind == HISTORY_LOCK ||
               call->kind == HISTORY_GREET;
    case -EBUSY:
        return may_be_busy(call->kind);
    case -ENOSPC:
        return !history_reads(call->kind);
    case -ECANCELED:
        return call->kind == HISTORY_EXCHANGE_IF && op->n_results > 0;
    default:
        return false;
    }
}

bool steps_take(struct history_op *call, const struct client_op *op, char why[STEPS_WHY_MAX])
{
    const struct client_step *step = &op->steps[0];
    if (op->result != 0)
        return true;
    switch (call->kind) {
    case HISTORY_READ:
    case HISTORY_READ_SNAP:
        take_read(call, step);
        return true;
    case HISTORY_STAT:
        take_stat(call, step);
        return true;
    case HISTORY_CHECKSUM:
        return take_checksum(call, step, why);
    case HISTORY_EXCHANGE:
    case HISTORY_LOOK:
        return take_tag(call, op, why);
    case HISTORY_KEYS_LIST:
        return take_keys(call, step, why);
    case HISTORY_HOLDER:
        return take_holder(call, step, why);
    case HISTORY_SAY:
        return take_greeting(call, step, why);
    case HISTORY_TEAM:
        return take_team(call, op, why);
    default:
        return true;
    }
}
