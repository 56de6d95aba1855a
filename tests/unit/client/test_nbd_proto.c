#include "tests/lib/test.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "client/nbd/proto.h"

/* A client that speaks to a peer, and looks at what it answers. */
struct talker {
    struct nbd_peer peer;
    struct nbd_export export;
    uint8_t said[65536];
    size_t len;
    uint8_t heard_data[2 * NBD_TALK_MAX];
    struct nbd_talk heard;
};

enum { SIZE = 1 << 20 };

static void begin(struct talker *t, bool tls_required)
{
    memset(t, 0, sizeof *t);
    strcpy(t->export.name, "disk");
    strcpy(t->export.other_name, "disk@snap");
    t->export.size = SIZE;
    t->heard = (struct nbd_talk){.data = t->heard_data, .room = sizeof t->heard_data};
    nbd_peer_init(&t->peer, tls_required, tls_required);
}

static void say(struct talker *t, const void *data, size_t len)
{
    memcpy(t->said + t->len, data, len);
    t->len += len;
}

static void say32(struct talker *t, uint32_t value)
{
    value = htobe32(value);
    say(t, &value, sizeof value);
}

static void say16(struct talker *t, uint16_t value)
{
    value = htobe16(value);
    say(t, &value, sizeof value);
}

static void say_name(struct talker *t, const char *name)
{
    say32(t, (uint32_t)strlen(name));
    say(t, name, strlen(name));
}

static void say_option(struct talker *t, uint32_t option, size_t len)
{
    say(t, "IHAVEOPT", 8);
    say32(t, option);
    say32(t, (uint32_t)len);
}

/* What was said, byte by byte, as the slowest socket gives it. */
static void listen_to(struct talker *t)
{
    size_t from = 0;
    t->heard.len = 0;
    for (size_t have = 1; have <= t->len; have++) {
        size_t taken;
        while ((taken = nbd_negotiate(&t->peer, &t->export, t->said + from, have - from,
                                      &t->heard)) > 0)
            from += taken;
    }
    memmove(t->said, t->said + from, t->len - from);
    t->len -= from;
}

static uint32_t heard32(const struct talker *t, size_t at)
{
    uint32_t value;
    assert_true(at + sizeof value <= t->heard.len);
    memcpy(&value, t->heard_data + at, sizeof value);
    return be32toh(value);
}

/* The kind of the answer that begins there; moves behind it. */
static uint32_t next_answer(const struct talker *t, size_t *at)
{
    uint32_t reply = heard32(t, *at + 12);
    *at += sizeof(struct nbd_option_reply_head) + heard32(t, *at + 16);
    return reply;
}

static void agree(struct talker *t)
{
    say32(t, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
    say_option(t, NBD_OPT_STRUCTURED_REPLY, 0);
    say_option(t, NBD_OPT_SET_META_CONTEXT, 4 + 4 + 4 + 15);
    say_name(t, "");
    say32(t, 1);
    say_name(t, "base:allocation");
    say_option(t, NBD_OPT_GO, 4 + 4 + 2);
    say_name(t, "disk");
    say16(t, 0);
    listen_to(t);
}

static void begins_with_structured_replies_and_contexts(void **state)
{
    static struct talker t;
    size_t at = 0;
    (void)state;
    begin(&t, false);
    agree(&t);
    assert_int_equal(next_answer(&t, &at), NBD_REP_ACK);
    assert_int_equal(next_answer(&t, &at), NBD_REP_META_CONTEXT);
    assert_int_equal(next_answer(&t, &at), NBD_REP_ACK);
    assert_int_equal(next_answer(&t, &at), NBD_REP_INFO);
    assert_int_equal(next_answer(&t, &at), NBD_REP_INFO);
    assert_int_equal(next_answer(&t, &at), NBD_REP_ACK);
    assert_int_equal(at, t.heard.len);
    assert_int_equal(t.peer.phase, NBD_TRANSMISSION);
    assert_int_equal(t.peer.size, SIZE);
    assert_true(t.peer.structured && t.peer.contexts);
}

static void knows_its_names_and_no_others(void **state)
{
    static const struct {
        const char *name;
        uint32_t answer;
    } names[] = {{"", NBD_REP_INFO},
                 {"disk", NBD_REP_INFO},
                 {"disk@snap", NBD_REP_INFO},
                 {"dis", NBD_REP_ERR_UNKNOWN},
                 {"disks", NBD_REP_ERR_UNKNOWN}};
    static struct talker t;
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t at = 0;
        begin(&t, false);
        say32(&t, NBD_FIXED_NEWSTYLE);
        say_option(&t, NBD_OPT_INFO, 4 + strlen(names[i].name) + 2);
        say_name(&t, names[i].name);
        say16(&t, 0);
        listen_to(&t);
        assert_int_equal(next_answer(&t, &at), names[i].answer);
        assert_int_equal(t.peer.phase, NBD_OPTIONS);
    }
}

static void the_old_way_of_beginning_has_zeroes_unless_both_want_none(void **state)
{
    static struct talker t;
    (void)state;
    for (uint32_t none = 0; none <= 1; none++) {
        begin(&t, false);
        say32(&t, none ? NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES : NBD_FIXED_NEWSTYLE);
        say_option(&t, NBD_OPT_EXPORT_NAME, 4);
        say(&t, "disk", 4);
        listen_to(&t);
        assert_int_equal(t.heard.len, none ? 10 : 134);
        assert_int_equal(t.peer.phase, NBD_TRANSMISSION);
    }
}

static void lets_nobody_pass_without_tls(void **state)
{
    static const uint32_t options[] = {NBD_OPT_LIST, NBD_OPT_STRUCTURED_REPLY, NBD_OPT_GO};
    static struct talker t;
    size_t at = 0;
    (void)state;
    begin(&t, true);
    say32(&t, NBD_FIXED_NEWSTYLE);
    for (size_t i = 0; i < 3; i++)
        say_option(&t, options[i], 0);
    listen_to(&t);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(next_answer(&t, &at), NBD_REP_ERR_TLS_REQD);
    say_option(&t, NBD_OPT_STARTTLS, 0);
    listen_to(&t);
    at = 0;
    assert_int_equal(next_answer(&t, &at), NBD_REP_ACK);
    assert_int_equal(t.peer.phase, NBD_HANDSHAKE);
    nbd_tls_begun(&t.peer);
    say_option(&t, NBD_OPT_STARTTLS, 0);
    say_option(&t, NBD_OPT_GO, 4 + 2);
    say_name(&t, "");
    say16(&t, 0);
    listen_to(&t);
    at = 0;
    assert_int_equal(next_answer(&t, &at), NBD_REP_ERR_INVALID);
    assert_int_equal(t.peer.phase, NBD_TRANSMISSION);
    begin(&t, true);
    say32(&t, NBD_FIXED_NEWSTYLE);
    say_option(&t, NBD_OPT_EXPORT_NAME, 4);
    say(&t, "disk", 4);
    listen_to(&t);
    assert_int_equal(t.peer.phase, NBD_ENDED);
    assert_int_equal(t.heard.len, 0);
}

static void ends_with_who_talks_nonsense_or_too_much(void **state)
{
    static struct talker t;
    (void)state;
    begin(&t, false);
    say32(&t, 4); /* A flag that nobody offered. */
    listen_to(&t);
    assert_int_equal(t.peer.phase, NBD_ENDED);
    begin(&t, false);
    say32(&t, 1);
    say(&t, "IHAVEOPS\0\0\0\3\0\0\0\0", 16);
    listen_to(&t);
    assert_int_equal(t.peer.phase, NBD_ENDED);
    begin(&t, false);
    say32(&t, 1);
    say_option(&t, NBD_OPT_INFO, NBD_OPTION_LEN_MAX + 1);
    listen_to(&t);
    assert_int_equal(t.peer.phase, NBD_ENDED);
    begin(&t, false);
    say32(&t, 1);
    for (int i = 0; i < NBD_OPTIONS_MAX + 1; i++)
        say_option(&t, NBD_OPT_STRUCTURED_REPLY, 0);
    listen_to(&t);
    assert_int_equal(t.peer.phase, NBD_ENDED);
}

static void refuses_lengths_that_do_not_agree(void **state)
{
    static const uint32_t options[] = {NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_SET_META_CONTEXT,
                                       NBD_OPT_LIST_META_CONTEXT};
    static struct talker t;
    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        size_t at = 0;
        begin(&t, false);
        t.peer.structured = true;
        say32(&t, 1);
        say_option(&t, options[i], 8);
        say32(&t, UINT32_MAX - 2); /* Of a name in 8 bytes. */
        say32(&t, 0);
        say_option(&t, options[i], 4 + 4);
        say_name(&t, "");
        say32(&t, UINT32_MAX);
        listen_to(&t);
        assert_int_equal(next_answer(&t, &at), NBD_REP_ERR_INVALID);
        assert_int_equal(next_answer(&t, &at), NBD_REP_ERR_INVALID);
        assert_int_equal(at, t.heard.len);
        assert_int_equal(t.peer.phase, NBD_OPTIONS);
    }
}

/* ---- Requests ---- */

static enum nbd_verdict ask(const struct talker *t, uint16_t command, uint16_t flags,
                            uint64_t offset, uint32_t len, enum nbd_error *error)
{
    const struct nbd_request_head head = {.magic = htobe32(NBD_REQUEST_MAGIC),
                                          .flags = htobe16(flags),
                                          .command = htobe16(command),
                                          .cookie = 1,
                                          .offset = htobe64(offset),
                                          .len = htobe32(len)};
    struct nbd_request_line line;
    *error = NBD_EIO;
    return nbd_read_request(&t->peer, &t->export, (const uint8_t *)&head, &line, error);
}

static void requests_are_refused_as_the_protocol_says(void **state)
{
    static const struct {
        uint16_t command, flags;
        uint64_t offset;
        uint32_t len;
        enum nbd_error error; /* 0: accepted. */
    } asked[] = {
        {NBD_CMD_READ, 0, SIZE - 1, 1, 0},
        {NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, SIZE, 0},
        {NBD_CMD_READ, 0, SIZE, 1, NBD_EINVAL},
        {NBD_CMD_READ, 0, UINT64_MAX, 2, NBD_EINVAL},
        {NBD_CMD_READ, 0, 0, 0, NBD_EINVAL},
        {NBD_CMD_READ, 0, 0, NBD_PAYLOAD_MAX + 1, NBD_EINVAL},
        {NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, 0, 1, NBD_EINVAL},
        {NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 1, 0},
        {NBD_CMD_WRITE, 0, SIZE - 1, 2, NBD_ENOSPC},
        {NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0, SIZE, 0},
        {NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 0, SIZE, 0},
        {NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, 0, 1, NBD_ENOTSUP},
        {NBD_CMD_WRITE_ZEROES, 0, 1, SIZE, NBD_ENOSPC},
        {NBD_CMD_TRIM, 0, 0, SIZE, 0},
        {NBD_CMD_TRIM, 0, 0, SIZE + 1, NBD_EINVAL},
        {NBD_CMD_FLUSH, 0, 0, 0, 0},
        {NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 0, SIZE, 0},
        {5, 0, 0, 1, NBD_EINVAL},
        {77, 0, 0, 1, NBD_EINVAL},
    };
    static struct talker t;
    enum nbd_error error;
    (void)state;
    begin(&t, false);
    agree(&t);
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        enum nbd_verdict verdict =
            ask(&t, asked[i].command, asked[i].flags, asked[i].offset, asked[i].len, &error);
        assert_int_equal(verdict, asked[i].error == 0 ? NBD_ACCEPTED : NBD_REFUSED);
        if (asked[i].error != 0)
            assert_int_equal(error, asked[i].error);
    }
    assert_int_equal(ask(&t, NBD_CMD_WRITE, 0, 0, NBD_PAYLOAD_MAX + 1, &error), NBD_NONSENSE);
    t.export.read_only = true;
    assert_int_equal(ask(&t, NBD_CMD_WRITE, 0, 0, 1, &error), NBD_REFUSED);
    assert_int_equal(error, NBD_EPERM);
    t.peer.contexts = t.peer.structured = false;
    assert_int_equal(ask(&t, NBD_CMD_BLOCK_STATUS, 0, 0, 1, &error), NBD_REFUSED);
    assert_int_equal(ask(&t, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 1, &error), NBD_REFUSED);
}

static void answers_have_the_bytes_of_the_protocol(void **state)
{
    static const uint8_t simple[] = {0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t data[] = {0x66, 0x8e, 0x33, 0xef, 0, 1,  0, 1, 1, 2, 3, 4, 5,  6,
                                   7,    8,    0,    0,    0, 12, 0, 0, 0, 0, 0, 0, 16, 0};
    static const uint8_t failed[] = {0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1, 1, 2, 3, 4, 5,
                                     6,    7,    8,    0,    0, 0, 6,    0, 0, 0, 5, 0, 0};
    struct nbd_request_line line = {.command = NBD_CMD_WRITE, .offset = 4096, .len = 4};
    struct nbd_peer peer = {.structured = true};
    uint8_t out[NBD_REPLY_HEAD_MAX];
    (void)state;
    memcpy(&line.cookie, "\1\2\3\4\5\6\7\10", 8);
    assert_int_equal(nbd_reply_head(&peer, &line, NBD_ENOSPC, 0, out), sizeof simple);
    assert_memory_equal(out, simple, sizeof simple);
    line.command = NBD_CMD_READ;
    assert_int_equal(nbd_reply_head(&peer, &line, 0, 4, out), sizeof data);
    assert_memory_equal(out, data, sizeof data);
    assert_int_equal(nbd_reply_head(&peer, &line, NBD_EIO, 0, out), sizeof failed);
    assert_memory_equal(out, failed, sizeof failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_with_structured_replies_and_contexts),
        cmocka_unit_test(knows_its_names_and_no_others),
        cmocka_unit_test(the_old_way_of_beginning_has_zeroes_unless_both_want_none),
        cmocka_unit_test(lets_nobody_pass_without_tls),
        cmocka_unit_test(ends_with_who_talks_nonsense_or_too_much),
        cmocka_unit_test(refuses_lengths_that_do_not_agree),
        cmocka_unit_test(requests_are_refused_as_the_protocol_says),
        cmocka_unit_test(answers_have_the_bytes_of_the_protocol),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
