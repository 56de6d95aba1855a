#include <errno.h>
#include <isa-l.h>
#include <stdlib.h>
#include <string.h>

#include "common/frame_reader.h"
#include "tests/lib/test.h"

/* The four ways in which frames can be protected. */
static const struct {
    enum auth_cipher cipher;
    enum auth_mode mode;
} kinds[] = {
    {AUTH_CIPHER_XCHACHA20_POLY1305, AUTH_MODE_INTEGRITY},
    {AUTH_CIPHER_XCHACHA20_POLY1305, AUTH_MODE_ENCRYPTED},
    {AUTH_CIPHER_AES256_GCM, AUTH_MODE_INTEGRITY},
    {AUTH_CIPHER_AES256_GCM, AUTH_MODE_ENCRYPTED},
};
enum { KINDS = 4 };

static bool kind_usable(int kind)
{
    return kinds[kind].cipher != AUTH_CIPHER_AES256_GCM || crypto_aead_aes256gcm_is_available();
}

static void make_key(struct frame_key *key, int kind)
{
    uint8_t secret[32];
    for (size_t i = 0; i < sizeof secret; i++)
        secret[i] = (uint8_t)i;
    frame_key_init(key, kinds[kind].cipher, kinds[kind].mode, secret);
}

static void fill(uint8_t *data, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}

/* Payloads of such frames get a key of their own, where they can. */
static bool own_key(const struct frame_key *key, uint32_t payload_len)
{
    return payload_len > 0 && payload_len % 2 == 1 && frame_may_have_own_key(key);
}

/* A whole frame in malloc'd memory, as it goes over the wire. */
static uint8_t *seal(struct frame_key *key, uint64_t sequence, uint32_t body_len,
                     uint32_t payload_len, size_t *len)
{
    uint8_t *body = malloc(body_len + 1), *payload = malloc(payload_len + 1);
    struct buf_seal with;
    bool own = own_key(key, payload_len);
    size_t head_len = frame_prefix_len(key, own ? FRAME_OWN_KEY : 0) + body_len;
    uint8_t *frame = malloc(head_len + payload_len);
    if (body == NULL || payload == NULL || frame == NULL)
        abort();
    fill(body, body_len, (unsigned)sequence);
    fill(payload, payload_len, (unsigned)sequence + 1);
    struct frame_parts parts = {.type = MSG_PING,
                                .sequence = sequence,
                                .received = 5,
                                .body = body,
                                .body_len = body_len,
                                .payload = payload,
                                .payload_len = payload_len};
    if (own) {
        frame_seal_payload(payload, payload_len, &with);
        parts.seal = &with;
    }
    memcpy(frame + head_len, payload, payload_len);
    frame_seal(key, &parts, frame, frame + head_len);
    free(body);
    free(payload);
    *len = head_len + payload_len;
    return frame;
}

static int open_frame(struct frame_key *key, uint8_t *frame, struct wire_frame *header)
{
    struct buf_seal with;
    int rc = frame_header_parse(frame, header);
    if (rc < 0)
        return rc;
    size_t head_len = frame_prefix_len(key, header->flags) + header->body_len;
    return frame_open(key, header, frame, frame + head_len, &with);
}

static void opens_what_was_sealed(void **state)
{
    (void)state;
    static const uint32_t lens[][2] = {
        {0, 0}, {1, 0}, {0, 1}, {200, 4096}, {MESSAGE_BODY_MAX, 7}, {9, 70001}, {3, 70000}};
    for (int kind = 0; kind < KINDS; kind++) {
        if (!kind_usable(kind))
            continue;
        struct frame_key out, in;
        make_key(&out, kind);
        make_key(&in, kind);
        for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
            size_t len;
            uint8_t *frame = seal(&out, i + 1, lens[i][0], lens[i][1], &len);
            struct wire_frame header;
            assert_int_equal(open_frame(&in, frame, &header), 0);
            assert_int_equal(header.sequence, i + 1);
            assert_int_equal(header.received, 5);
            uint8_t *body = frame + frame_prefix_len(&in, header.flags);
            uint8_t *expected = malloc(lens[i][0] + lens[i][1] + 1);
            assert_non_null(expected);
            fill(expected, lens[i][0], (unsigned)i + 1);
            fill(expected + lens[i][0], lens[i][1], (unsigned)i + 2);
            assert_memory_equal(body, expected, lens[i][0] + lens[i][1]);
            free(expected);
            free(frame);
        }
    }
}

static void encrypted_frames_do_not_show_their_contents(void **state)
{
    (void)state;
    struct frame_key key;
    struct frame_parts parts = {.type = 1,
                                .sequence = 1,
                                .body = "attack at dawn, this is the body",
                                .body_len = 32,
                                .payload = "attack at dawn, this is payload.",
                                .payload_len = 32};
    make_key(&key, 1);
    uint8_t head[FRAME_PREFIX_MAX + 32], payload[32];
    frame_seal(&key, &parts, head, payload);
    assert_null(memmem(head, sizeof head, "attack", 6));
    assert_null(memmem(payload, sizeof payload, "attack", 6));
}

/* Every single byte counts: header, tags, body and payload. */
static void refuses_any_changed_byte(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        if (!kind_usable(kind))
            continue;
        struct frame_key out;
        make_key(&out, kind);
        size_t len;
        uint8_t *frame = seal(&out, 1, 20, 33, &len);
        bool own = frame_may_have_own_key(&out);
        size_t plain_len = frame_prefix_len(&out, 0) + 20 + 33;
        uint8_t *copy = malloc(len);
        assert_non_null(copy);
        for (size_t i = 0; i < len; i++) {
            struct frame_key in;
            struct wire_frame header;
            make_key(&in, kind);
            memcpy(copy, frame, len);
            copy[i] ^= 0x40;
            int rc = open_frame(&in, copy, &header);
            assert_int_equal(rc, i < FRAME_HEADER_BYTES ? -EPROTO : -EBADMSG);
            assert_true(own == (len == plain_len + FRAME_SEALED_KEY_BYTES));
        }
        free(copy);
        free(frame);
    }
}

static void refuses_repeated_and_reordered_frames(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        if (!kind_usable(kind))
            continue;
        struct frame_key out, in;
        struct wire_frame header;
        size_t len;
        make_key(&out, kind);
        make_key(&in, kind);
        uint8_t *first = seal(&out, 1, 20, 30, &len);
        uint8_t *second = seal(&out, 2, 20, 30, &len);
        uint8_t *again = malloc(len);
        assert_non_null(again);
        memcpy(again, first, len);
        assert_int_equal(open_frame(&in, first, &header), 0);
        assert_int_equal(open_frame(&in, again, &header), -EBADMSG);
        make_key(&in, kind);
        assert_int_equal(open_frame(&in, second, &header), -EBADMSG);
        free(first);
        free(second);
        free(again);
    }
}

static void refuses_a_header_with_impossible_fields(void **state)
{
    (void)state;
    struct frame_key key;
    make_key(&key, 0);
    struct frame_parts control = {.type = FRAME_ACK, .received = 1};
    uint8_t frame[FRAME_PREFIX_MAX];
    struct wire_frame header, changed;
    frame_seal(&key, &control, frame, NULL);
    assert_int_equal(frame_header_parse(frame, &header), 0);
    for (int i = 0; i < 6; i++) {
        changed = header;
        switch (i) {
        case 0:
            changed.body_len = MESSAGE_BODY_MAX + 1;
            break;
        case 1:
            changed.payload_len = UINT32_MAX;
            break;
        case 2:
            changed.flags = 2;
            break;
        case 3:
            changed.reserved = 1;
            break;
        case 4:
            changed.sequence = 1;
            break;
        default:
            changed.type = 0xffff;
            break;
        }
        changed.header_crc = ~crc32_iscsi((unsigned char *)&changed, 36, UINT32_MAX);
        assert_int_equal(frame_header_parse((uint8_t *)&changed, &header), -EPROTO);
    }
}

/* Of what passes a payload on, each connection has a key, and the payload one of its own. */
static void passes_a_payload_on_without_reading_it(void **state)
{
    (void)state;
    if (!kind_usable(2))
        return;
    enum { LEN = FRAME_OWN_KEY_MIN + 5, HEAD = FRAME_PREFIX_MAX };
    uint8_t *payload = malloc(LEN), head[HEAD];
    assert_non_null(payload);
    fill(payload, LEN, 3);
    struct buf_seal first, passed;
    frame_seal_payload(payload, LEN, &first);
    for (int changed = 0; changed < 2; changed++) {
        struct frame_key out, in;
        struct wire_frame header;
        make_key(&out, 2);
        make_key(&in, 2);
        out.counter = in.counter = 77;
        struct frame_parts parts = {.type = MSG_PING,
                                    .sequence = 1,
                                    .payload = payload,
                                    .payload_len = LEN,
                                    .seal = changed ? &passed : &first};
        payload[LEN - 1] ^= (uint8_t)changed;
        frame_seal(&out, &parts, head, NULL);
        assert_null(memmem(head, HEAD, first.key, sizeof first.key));
        assert_int_equal(frame_header_parse(head, &header), 0);
        assert_int_equal(header.flags, FRAME_OWN_KEY);
        int rc = frame_open(&in, &header, head, payload, &passed);
        assert_int_equal(rc, changed ? -EBADMSG : 0);
        if (!changed) {
            assert_memory_equal(passed.key, first.key, sizeof first.key);
            assert_memory_equal(passed.tag, first.tag, sizeof first.tag);
        }
    }
    free(payload);
}

/* Another key each time: two payloads under one key and nonce would give the key away. */
static void own_keys_are_used_once(void **state)
{
    (void)state;
    struct buf_seal a, b;
    if (!kind_usable(2))
        return;
    frame_seal_payload("same", 4, &a);
    frame_seal_payload("same", 4, &b);
    assert_memory_not_equal(a.key, b.key, sizeof a.key);
    assert_memory_not_equal(a.tag, b.tag, sizeof a.tag);
}

static void refuses_own_keys_where_they_cannot_be(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        if (kind == 2 || !kind_usable(kind))
            continue;
        struct frame_key out, in;
        struct wire_frame header;
        size_t len;
        make_key(&out, kind);
        make_key(&in, kind);
        uint8_t *frame = seal(&out, 1, 200, 33, &len);
        memcpy(&header, frame, sizeof header);
        header.flags = FRAME_OWN_KEY;
        header.header_crc = ~crc32_iscsi((unsigned char *)&header, 36, UINT32_MAX);
        memcpy(frame, &header, sizeof header);
        assert_int_equal(open_frame(&in, frame, &header), -EPROTO);
        free(frame);
    }
}

/* Large tags are made by another library. */
static void large_tags_are_those_of_small_ones(void **state)
{
    (void)state;
    if (!kind_usable(2))
        return;
    enum { LEN = FRAME_OWN_KEY_MIN };
    uint8_t *data = malloc(LEN), tag[WIRE_TAG_BYTES], nonce[12] = {0};
    assert_non_null(data);
    fill(data, LEN, 5);
    struct buf_seal seal;
    frame_seal_payload(data, LEN, &seal);
    crypto_aead_aes256gcm_encrypt_detached(nonce, tag, NULL, NULL, 0, data, LEN, NULL, nonce,
                                           seal.key);
    assert_memory_equal(tag, seal.tag, sizeof tag);
    free(data);
}

static void frames_keep_their_bytes(void **state)
{
    (void)state;
    struct frame_key with_own;
    struct buf_seal fixed = {.data = (const uint8_t *)"payload", .len = 7};
    struct frame_parts parts = {.type = MSG_PING,
                                .sequence = 7,
                                .received = 5,
                                .body = "body",
                                .body_len = 4,
                                .payload = fixed.data,
                                .payload_len = 7,
                                .seal = &fixed};
    if (kind_usable(2)) {
        uint8_t head[FRAME_PREFIX_MAX + 4];
        make_key(&with_own, 2);
        fill(fixed.key, sizeof fixed.key, 9);
        fill(fixed.tag, sizeof fixed.tag, 10);
        frame_seal(&with_own, &parts, head, NULL);
        test_golden("frame_own_key.hex", head, sizeof head);
    }
    for (int mode = 0; mode < 2; mode++) {
        struct frame_key key;
        size_t len;
        make_key(&key, mode);
        uint8_t *frame = seal(&key, 7, 10, 6, &len);
        test_golden(mode == 0 ? "frame_integrity.hex" : "frame_encrypted.hex", frame, len);
        free(frame);
    }
}

/* ---- The reader ---- */

struct stream {
    uint8_t *data;
    size_t len;
};

static void append(struct stream *s, const uint8_t *data, size_t len)
{
    s->data = realloc(s->data, s->len + len);
    assert_non_null(s->data);
    memcpy(s->data + s->len, data, len);
    s->len += len;
}

static const uint32_t stream_lens[][2] = {
    {0, 0},     {64, 0}, {100, 4096},  {MESSAGE_BODY_MAX, 0}, {10, 200000}, {0, 1},
    {3000, 70}, {1, 0},  {64, 130000}, {MESSAGE_BODY_MAX, 5}, {60000, 60},  {9, 9},
};
enum { STREAM_FRAMES = sizeof stream_lens / sizeof stream_lens[0] };

static void check_message(const struct message *m, unsigned sequence)
{
    uint32_t body_len = stream_lens[sequence - 1][0], payload_len = stream_lens[sequence - 1][1];
    assert_int_equal(m->body_len, body_len);
    assert_int_equal(m->payload.len, payload_len);
    uint8_t *expected = malloc(body_len + payload_len + 1);
    assert_non_null(expected);
    fill(expected, body_len, sequence);
    assert_memory_equal(m->body, expected, body_len);
    fill(expected, payload_len, sequence + 1);
    if (payload_len > 0)
        assert_memory_equal(m->payload.data, expected, payload_len);
    free(expected);
}

/* Takes all whole frames; returns 0 or the error. */
static int take(struct frame_reader *r, unsigned *taken)
{
    for (;;) {
        int rc = frame_reader_next(r);
        if (rc == FRAME_WANTS_PAYLOAD) {
            struct buf_slice payload;
            assert_int_equal(buf_slice_alloc(r->header.payload_len, &payload), 0);
            frame_reader_payload(r, payload);
        } else if (rc == FRAME_READY) {
            check_message(r->message, ++*taken);
            message_unref(r->message);
            r->message = NULL;
        } else {
            return rc;
        }
    }
}

/* Feeds a stream in pieces of at most `piece` bytes, filling both targets as readv() does. */
static int feed(struct frame_reader *r, const struct stream *s, size_t piece, unsigned *taken)
{
    for (size_t at = 0; at < s->len;) {
        struct iovec iov[2];
        int n = frame_reader_targets(r, iov);
        assert_true(n > 0);
        size_t left = s->len - at < piece ? s->len - at : piece, done = 0;
        for (int i = 0; i < n && left > 0; i++) {
            assert_true(iov[i].iov_len > 0);
            size_t part = left < iov[i].iov_len ? left : iov[i].iov_len;
            memcpy(iov[i].iov_base, s->data + at + done, part);
            done += part;
            left -= part;
        }
        at += done;
        frame_reader_advance(r, done);
        int rc = take(r, taken);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static struct stream make_stream(int kind)
{
    struct stream s = {0};
    struct frame_key key;
    make_key(&key, kind);
    for (unsigned i = 0; i < STREAM_FRAMES; i++) {
        size_t len;
        uint8_t *frame = seal(&key, i + 1, stream_lens[i][0], stream_lens[i][1], &len);
        append(&s, frame, len);
        free(frame);
    }
    return s;
}

static void reader_begin(struct frame_reader *r, struct frame_key *key, int kind)
{
    make_key(key, kind);
    frame_reader_init(r, key);
    frame_reader_lend(r, malloc(FRAME_READER_BUFFER), FRAME_READER_BUFFER);
    assert_non_null(r->buffer);
}

static void reader_end(struct frame_reader *r)
{
    size_t capacity;
    free(frame_reader_take_back(r, &capacity));
    frame_reader_fini(r);
}

static void cuts_a_stream_into_frames_however_it_arrives(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 39, 57, 1000, 4096, 65536, 100000, 1 << 20};
    for (int kind = 0; kind < 2; kind++) {
        struct stream s = make_stream(kind);
        for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
            struct frame_key key;
            struct frame_reader r;
            unsigned taken = 0;
            reader_begin(&r, &key, kind);
            assert_int_equal(feed(&r, &s, pieces[i], &taken), 0);
            assert_int_equal(taken, STREAM_FRAMES);
            assert_true(frame_reader_idle(&r));
            reader_end(&r);
        }
        free(s.data);
    }
}

static void a_payload_can_wait_for_memory(void **state)
{
    (void)state;
    struct frame_key out, in;
    struct frame_reader r;
    size_t len;
    make_key(&out, 0);
    uint8_t *frame = seal(&out, 3, 100, 4096, &len);
    reader_begin(&r, &in, 0);
    assert_int_equal(frame_reader_put(&r, frame, len), len);
    assert_int_equal(frame_reader_next(&r), FRAME_WANTS_PAYLOAD);
    assert_int_equal(frame_reader_next(&r), FRAME_WANTS_PAYLOAD);
    assert_false(frame_reader_idle(&r));
    struct buf_slice payload;
    assert_int_equal(buf_slice_alloc(r.header.payload_len, &payload), 0);
    frame_reader_payload(&r, payload);
    assert_int_equal(frame_reader_next(&r), FRAME_READY);
    check_message(r.message, 3);
    reader_end(&r);
    free(frame);
}

static void forgets_a_frame_that_stays_incomplete(void **state)
{
    (void)state;
    struct stream s = make_stream(0);
    for (size_t cut = 1; cut < s.len; cut += 777) {
        struct frame_key key;
        struct frame_reader r;
        unsigned taken = 0;
        struct stream part = {.data = s.data, .len = cut};
        reader_begin(&r, &key, 0);
        assert_int_equal(feed(&r, &part, 3000, &taken), 0);
        assert_true(taken < STREAM_FRAMES);
        reader_end(&r);
    }
    free(s.data);
}

static void stops_at_a_damaged_frame(void **state)
{
    (void)state;
    struct stream s = make_stream(0);
    for (size_t at = 5; at < s.len; at += 9973) {
        struct frame_key key;
        struct frame_reader r;
        unsigned taken = 0;
        s.data[at] ^= 1;
        reader_begin(&r, &key, 0);
        int rc = feed(&r, &s, 5000, &taken);
        assert_true(rc == -EPROTO || rc == -EBADMSG);
        reader_end(&r);
        s.data[at] ^= 1;
    }
    free(s.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_what_was_sealed),
        cmocka_unit_test(encrypted_frames_do_not_show_their_contents),
        cmocka_unit_test(refuses_any_changed_byte),
        cmocka_unit_test(refuses_repeated_and_reordered_frames),
        cmocka_unit_test(refuses_a_header_with_impossible_fields),
        cmocka_unit_test(passes_a_payload_on_without_reading_it),
        cmocka_unit_test(own_keys_are_used_once),
        cmocka_unit_test(refuses_own_keys_where_they_cannot_be),
        cmocka_unit_test(large_tags_are_those_of_small_ones),
        cmocka_unit_test(frames_keep_their_bytes),
        cmocka_unit_test(cuts_a_stream_into_frames_however_it_arrives),
        cmocka_unit_test(a_payload_can_wait_for_memory),
        cmocka_unit_test(forgets_a_frame_that_stays_incomplete),
        cmocka_unit_test(stops_at_a_damaged_frame),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
