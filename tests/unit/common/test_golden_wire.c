/*
 * The bytes of everything that common/ puts on the wire: a difference here is a change of the
 * protocol, which old peers would not understand.
 */
#include "tests/lib/test.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/auth.h"
#include "common/auth_layout.h"
#include "common/codec.h"
#include "common/object.h"
#include "common/wire_layout.h"

/* Figures in which every byte differs, so that no two fields can be exchanged unnoticed. */
static uint8_t next_byte;

static uint64_t figure(unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)next_byte++ << (8 * i);
    return value;
}

static uint16_t figure16(void)
{
    return (uint16_t)figure(2);
}

static uint32_t figure32(void)
{
    return (uint32_t)figure(4);
}

static uint64_t figure64(void)
{
    return figure(8);
}

static int start_figures(void **state)
{
    (void)state;
    next_byte = 1;
    return 0;
}

static void frame_header(void **state)
{
    (void)state;
    struct wire_frame frame = {.magic = WIRE_FRAME_MAGIC};
    frame.type = figure16();
    frame.flags = figure16();
    frame.body_len = figure32();
    frame.payload_len = figure32();
    frame.sequence = figure64();
    frame.received = figure64();
    frame.header_crc = figure32();
    test_golden("wire_frame.hex", &frame, sizeof frame);
}

static void ping(void **state)
{
    (void)state;
    struct wire_ping ping;
    ping.stamp_ns = figure64();
    ping.epoch = figure64();
    ping.lease_ns = figure64();
    test_golden("wire_ping.hex", &ping, sizeof ping);
}

static void watch_messages(void **state)
{
    (void)state;
    struct {
        struct wire_watch watch;
        struct wire_recall recall;
        struct wire_notify_ack ack;
        struct wire_watch_event event;
    } all = {0};
    all.watch.timeout_ms = figure32();
    all.watch.mode = figure32();
    all.recall.cookie = figure64();
    all.recall.mode = figure32();
    all.ack.notifier = figure64();
    all.ack.notify_id = figure64();
    all.ack.cookie = figure64();
    all.event.cookie = figure64();
    all.event.notifier = figure64();
    all.event.notify_id = figure64();
    all.event.kind = figure32();
    all.event.mode = figure32();
    test_golden("wire_watch.hex", &all, sizeof all);
}

static void client_operation(void **state)
{
    (void)state;
    struct wire_osd_op op;
    op.client = figure64();
    op.tid = figure64();
    op.oldest = figure64();
    op.epoch = figure64();
    op.pool = figure64();
    op.pg_seed = figure32();
    op.flags = figure32();
    op.attempt = figure32();
    op.n_ops = figure16();
    op.n_snaps = figure16();
    op.age_ns = figure64();
    op.mtime_ns = figure64();
    op.snap = figure64();
    struct wire_op step;
    step.code = figure16();
    step.flags = figure16();
    step.data_len = figure32();
    step.offset = figure64();
    step.length = figure64();
    uint8_t bytes[sizeof op + sizeof step];
    memcpy(bytes, &op, sizeof op);
    memcpy(bytes + sizeof op, &step, sizeof step);
    test_golden("wire_osd_op.hex", bytes, sizeof bytes);
}

static void client_operation_reply(void **state)
{
    (void)state;
    struct wire_osd_op_reply reply;
    reply.tid = figure64();
    reply.epoch = figure64();
    reply.version.config = figure64();
    reply.version.sequence = figure64();
    reply.result = -2;
    reply.n_ops = figure16();
    reply.flags = 0;
    struct wire_op_result result = {.result = -17};
    result.data_len = figure32();
    struct wire_stat stat;
    stat.size = figure64();
    stat.mtime_ns = figure64();
    uint8_t bytes[sizeof reply + sizeof result + sizeof stat];
    memcpy(bytes, &reply, sizeof reply);
    memcpy(bytes + sizeof reply, &result, sizeof result);
    memcpy(bytes + sizeof reply + sizeof result, &stat, sizeof stat);
    test_golden("wire_osd_op_reply.hex", bytes, sizeof bytes);
}

static void replication(void **state)
{
    (void)state;
    struct wire_rep_txn txn;
    txn.pool = figure64();
    txn.pg_seed = figure32();
    txn.flags = figure32();
    txn.config = figure64();
    txn.version.config = figure64();
    txn.version.sequence = figure64();
    txn.epoch = figure64();
    txn.committed = figure64();
    txn.log_len = figure32();
    txn.txn_len = figure32();
    struct wire_rep_ack ack;
    ack.pool = figure64();
    ack.pg_seed = figure32();
    ack.result = -4097;
    ack.config = figure64();
    ack.sequence = figure64();
    ack.epoch = figure64();
    ack.flags = figure32();
    ack.reserved = figure32();
    ack.damaged = figure64();
    uint8_t bytes[sizeof txn + sizeof ack];
    memcpy(bytes, &txn, sizeof txn);
    memcpy(bytes + sizeof txn, &ack, sizeof ack);
    test_golden("wire_rep.hex", bytes, sizeof bytes);
}

static void object_identity(void **state)
{
    (void)state;
    struct object_id id = {
        .pool = UINT64_C(0x0807060504030201),
        .hash = 0x0c0b0a09,
        .snap = OBJECT_HEAD,
        .space = (const uint8_t *)"space",
        .space_len = 5,
        .locator = (const uint8_t *)"near",
        .locator_len = 4,
        .name = (const uint8_t *)"name\0\xff",
        .name_len = 6,
    };
    uint8_t bytes[64];
    struct encoder e;
    encoder_init_fixed(&e, bytes, sizeof bytes);
    encode_object_id(&e, &id);
    test_golden("object_id.hex", bytes, e.len);

    struct decoder d;
    struct object_id again;
    size_t len;
    uint8_t *stored = test_golden_read("object_id.hex", &len);
    decoder_init(&d, stored, len);
    decode_object_id(&d, &again);
    assert_int_equal(decoder_end(&d), 0);
    assert_int_equal(object_compare(&id, &again), 0);
    free(stored);
}

/* ---- With chance made predictable ---- */

__attribute__((visibility("default"))) int crypto_aead_aes256gcm_is_available(void)
{
    return 1;
}

static uint8_t next_random;

static const char *random_name(void)
{
    return "predictable";
}

static void random_bytes(void *const out, const size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)out)[i] = next_random++;
}

static uint32_t random_u32(void)
{
    uint32_t value;
    random_bytes(&value, sizeof value);
    return value;
}

static randombytes_implementation predictable = {
    .implementation_name = random_name,
    .random = random_u32,
    .buf = random_bytes,
};

static const uint8_t service_key[32] = {0xa0, 0xa1, 0xa2};

static void ticket(void **state)
{
    (void)state;
    next_random = 0;
    struct entity_name holder;
    struct auth_ticket made;
    assert_int_equal(entity_parse("client.admin", &holder), 0);
    assert_int_equal(auth_ticket_seal(5, service_key, &holder, "allow *", 1000, &made), 0);
    test_golden("auth_ticket.hex", made.blob, made.len);

    struct auth_ticket_contents contents;
    size_t len;
    uint8_t *stored = test_golden_read("auth_ticket.hex", &len);
    assert_int_equal(auth_ticket_open(stored, len, service_key, 0, &contents), 0);
    assert_memory_equal(&contents.secret, &made.secret, sizeof made.secret);
    free(stored);
}

static void sealed_secret(void **state)
{
    (void)state;
    next_random = 0;
    struct auth_secret key = {16, "0123456789abcdef"};
    uint8_t sealed[72];
    char plain[32];
    assert_int_equal(auth_seal(&key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef", 32, sealed, 72), 72);
    test_golden("auth_seal.hex", sealed, sizeof sealed);
    size_t len;
    uint8_t *stored = test_golden_read("auth_seal.hex", &len);
    assert_int_equal(auth_unseal(&key, stored, len, plain, sizeof plain), 32);
    assert_memory_equal(plain, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef", 32);
    free(stored);
}

static int give_credential(void *ctx, const struct entity_name *peer, struct auth_ticket *out)
{
    (void)peer;
    *out = *(const struct auth_ticket *)ctx;
    return 0;
}

static int find_service_key(void *ctx, uint64_t key_id, uint8_t key[32])
{
    (void)ctx;
    assert_int_equal(key_id, 5);
    memcpy(key, service_key, 32);
    return 0;
}

struct record {
    size_t len;
    uint8_t bytes[4 * AUTH_MESSAGE_MAX + 64];
};

static void carry(struct record *record, struct auth_handshake *from, struct auth_handshake *to)
{
    size_t used;
    memcpy(record->bytes + record->len, from->out, from->out_len);
    record->len += from->out_len;
    assert_int_equal(auth_handshake_feed(to, from->out, from->out_len, &used), 0);
    assert_int_equal(used, from->out_len);
    from->out_len = 0;
}

/* All four messages of a handshake by ticket, and the two frame keys. */
static void handshake(void **state)
{
    (void)state;
    next_random = 0;
    static const struct uuid fsid = {{0xf0, 0xf1, 0xf2, 0xf3}};
    static struct auth_ticket made;
    static struct auth_handshake i;
    static struct auth_handshake r;
    static struct record record;
    struct auth_provider client = {.ctx = &made, .fsid = &fsid, .credential = give_credential};
    struct auth_provider osd = {.fsid = &fsid, .service_key = find_service_key};
    assert_int_equal(entity_parse("client.admin", &client.self), 0);
    assert_int_equal(entity_parse("osd.3", &osd.self), 0);
    assert_int_equal(auth_ticket_seal(5, service_key, &client.self, "allow rwx", 1000, &made), 0);
    struct auth_handshake_params from = {
        .provider = &client,
        .mode = AUTH_MODE_ENCRYPTED,
        .instance = 0x1112131415161718,
        .features = 7,
        .features_required = 1,
        .expect = osd.self,
        .blob = "from initiator",
        .blob_len = 14,
    };
    struct auth_handshake_params to = {
        .provider = &osd,
        .mode = AUTH_MODE_INTEGRITY,
        .instance = 0x2122232425262728,
        .features = 5,
    };
    assert_int_equal(auth_handshake_initiate(&i, &from), 0);
    assert_int_equal(auth_handshake_respond(&r, &to), 0);
    carry(&record, &i, &r);
    carry(&record, &r, &i);
    carry(&record, &i, &r);
    auth_handshake_accept(&r, "from responder", 14);
    carry(&record, &r, &i);
    assert_int_equal(i.state, AUTH_HANDSHAKE_DONE);
    memcpy(record.bytes + record.len, i.send_key, 32);
    memcpy(record.bytes + record.len + 32, i.receive_key, 32);
    test_golden("auth_handshake.hex", record.bytes, record.len + 64);
}

static void refusal(void **state)
{
    (void)state;
    static struct auth_handshake i;
    static struct auth_handshake r;
    static struct auth_ticket secret = {.secret = {16, "0123456789abcdef"}};
    struct auth_provider client = {.ctx = &secret, .credential = give_credential};
    struct auth_provider osd = {.service_key = find_service_key};
    assert_int_equal(entity_parse("client.admin", &client.self), 0);
    assert_int_equal(entity_parse("osd.3", &osd.self), 0);
    struct auth_handshake_params from = {.provider = &client, .mode = AUTH_MODE_INTEGRITY};
    struct auth_handshake_params to = {.provider = &osd, .mode = AUTH_MODE_INTEGRITY};
    assert_int_equal(auth_handshake_initiate(&i, &from), 0);
    assert_int_equal(auth_handshake_respond(&r, &to), 0);
    size_t used;
    assert_int_not_equal(auth_handshake_feed(&r, i.out, i.out_len, &used), 0);
    test_golden("auth_refusal.hex", r.out, r.out_len);
}

int main(void)
{
    if (randombytes_set_implementation(&predictable) != 0 || sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(frame_header, start_figures),
        cmocka_unit_test_setup(ping, start_figures),
        cmocka_unit_test_setup(watch_messages, start_figures),
        cmocka_unit_test_setup(client_operation, start_figures),
        cmocka_unit_test_setup(client_operation_reply, start_figures),
        cmocka_unit_test_setup(replication, start_figures),
        cmocka_unit_test(object_identity),
        cmocka_unit_test(ticket),
        cmocka_unit_test(sealed_secret),
        cmocka_unit_test(handshake),
        cmocka_unit_test(refusal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
