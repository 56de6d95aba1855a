#include <errno.h>
#include <string.h>

#include "common/session.h"
#include "tests/lib/test.h"

static struct message *make(uint16_t type)
{
    struct message *m = message_create(type, 10);
    assert_non_null(m);
    return m;
}

static void queue(struct session_state *s, uint16_t type)
{
    assert_int_equal(session_queue(s, make(type)), 0);
}

/* Sends the next message, which must have this type and sequence. */
static void sends(struct session_state *s, uint16_t type, uint64_t sequence)
{
    uint64_t got;
    struct message *m = session_unsent(s, &got);
    assert_non_null(m);
    assert_int_equal(m->type, type);
    assert_int_equal(got, sequence);
    session_sent(s);
}

static void numbers_messages_from_one(void **state)
{
    (void)state;
    struct session_state s;
    session_init(&s);
    for (uint16_t i = 1; i <= 100; i++)
        queue(&s, i);
    for (uint16_t i = 1; i <= 100; i++)
        sends(&s, i, i);
    assert_false(session_has_unsent(&s));
    session_fini(&s);
}

static void keeps_messages_until_they_are_acknowledged(void **state)
{
    (void)state;
    struct session_state s;
    session_init(&s);
    struct message *m = make(1);
    size_t each = session_message_bytes(m);
    assert_int_equal(session_queue(&s, message_ref(m)), 0);
    queue(&s, 2);
    assert_int_equal(s.queued_bytes, 2 * each);
    sends(&s, 1, 1);
    sends(&s, 2, 2);
    assert_int_equal(m->refs, 2);
    assert_int_equal(session_acknowledge(&s, 1), 0);
    assert_int_equal(m->refs, 1);
    assert_int_equal(s.queued_bytes, each);
    assert_int_equal(session_acknowledge(&s, 1), 0);
    assert_int_equal(session_acknowledge(&s, 0), 0);
    assert_int_equal(session_acknowledge(&s, 2), 0);
    assert_int_equal(s.queued_bytes, 0);
    message_unref(m);
    session_fini(&s);
}

static void refuses_acknowledgement_of_what_was_not_sent(void **state)
{
    (void)state;
    struct session_state s;
    session_init(&s);
    assert_int_equal(session_acknowledge(&s, 1), -EPROTO);
    queue(&s, 1);
    assert_int_equal(session_acknowledge(&s, 1), -EPROTO);
    sends(&s, 1, 1);
    assert_int_equal(session_acknowledge(&s, UINT64_MAX), -EPROTO);
    assert_int_equal(session_acknowledge(&s, 1), 0);
    session_fini(&s);
}

static void replays_what_the_peer_has_not_received(void **state)
{
    (void)state;
    struct session_state s;
    session_init(&s);
    for (uint16_t i = 1; i <= 5; i++)
        queue(&s, i);
    for (uint16_t i = 1; i <= 4; i++)
        sends(&s, i, i);
    assert_int_equal(session_resume(&s, 2), 0);
    for (uint16_t i = 3; i <= 5; i++)
        sends(&s, i, i);
    assert_false(session_has_unsent(&s));
    /* And again, after a connection on which nothing got through. */
    assert_int_equal(session_resume(&s, 2), 0);
    sends(&s, 3, 3);
    session_fini(&s);
}

static void a_peer_that_forgot_or_invented_messages_cannot_resume(void **state)
{
    (void)state;
    struct session_state s;
    session_init(&s);
    for (uint16_t i = 1; i <= 5; i++)
        queue(&s, i);
    for (uint16_t i = 1; i <= 4; i++)
        sends(&s, i, i);
    assert_int_equal(session_acknowledge(&s, 3), 0);
    assert_int_equal(session_resume(&s, 2), -ELIMPET_RESET);
    assert_int_equal(session_resume(&s, 5), -ELIMPET_RESET);
    assert_int_equal(session_resume(&s, UINT64_MAX), -ELIMPET_RESET);
    assert_int_equal(session_resume(&s, 4), 0);
    session_fini(&s);
}

static void takes_each_message_once_and_in_order(void **state)
{
    (void)state;
    struct session_state s;
    session_init(&s);
    assert_int_equal(session_receive(&s, 1, 10), 1);
    assert_int_equal(session_receive(&s, 1, 10), 0);
    assert_int_equal(session_receive(&s, 3, 10), -EPROTO);
    assert_int_equal(session_receive(&s, 2, 10), 1);
    assert_int_equal(s.received, 2);
    session_fini(&s);
}

static void owes_an_acknowledgement_by_count_and_by_bytes(void **state)
{
    (void)state;
    struct session_state s;
    session_init(&s);
    assert_false(session_owes(&s));
    for (uint64_t i = 1; i <= SESSION_ACK_MESSAGES; i++) {
        assert_false(session_owes_much(&s));
        assert_int_equal(session_receive(&s, i, 1), 1);
        assert_true(session_owes(&s));
    }
    assert_true(session_owes_much(&s));
    session_tell(&s);
    assert_false(session_owes(&s));
    assert_int_equal(session_receive(&s, s.received + 1, SESSION_ACK_BYTES), 1);
    assert_true(session_owes_much(&s));
    session_fini(&s);
}

static void refuses_more_than_its_limit(void **state)
{
    (void)state;
    struct session_state s;
    struct buf_slice payload;
    session_init(&s);
    assert_int_equal(buf_slice_alloc(64 * 1024 * 1024, &payload), 0);
    int rc = 0;
    int queued = 0;
    while (queued < 10) {
        struct message *m = make(1);
        m->payload = buf_slice_ref(payload);
        rc = session_queue(&s, m);
        if (rc < 0) {
            message_unref(m);
            break;
        }
        queued++;
    }
    assert_int_equal(rc, -ENOBUFS);
    assert_int_equal(queued, 3);
    assert_true(s.queued_bytes <= SESSION_QUEUE_BYTES_MAX);
    session_fini(&s);
    buf_slice_drop(&payload);
}

static void offers_and_answers_keep_their_bytes(void **state)
{
    (void)state;
    struct session_offer offer = {.id = UINT64_C(0x0102030405060708),
                                  .attempt = 3,
                                  .received = UINT64_C(0x1122334455667788),
                                  .flags = SESSION_OFFER_RESUME};
    struct session_answer answer = {.received = UINT64_C(0x99aabbccddeeff00),
                                    .result = -ELIMPET_RESET};
    test_golden("session_offer.hex", &offer, sizeof offer);
    test_golden("session_answer.hex", &answer, sizeof answer);
    struct session_offer offer_read;
    struct session_answer answer_read;
    assert_int_equal(session_offer_parse(&offer, sizeof offer, &offer_read), 0);
    assert_memory_equal(&offer, &offer_read, sizeof offer);
    assert_int_equal(session_answer_parse(&answer, sizeof answer, &answer_read), 0);
    assert_memory_equal(&answer, &answer_read, sizeof answer);
}

static void refuses_damaged_offers_and_answers(void **state)
{
    (void)state;
    struct session_offer offer = {0}, offer_read;
    struct session_answer answer = {0}, answer_read;
    assert_int_equal(session_offer_parse(&offer, sizeof offer - 1, &offer_read), -EPROTO);
    assert_int_equal(session_offer_parse(NULL, 0, &offer_read), -EPROTO);
    offer.flags = 2;
    assert_int_equal(session_offer_parse(&offer, sizeof offer, &offer_read), -EPROTO);
    assert_int_equal(session_answer_parse(&answer, sizeof answer - 1, &answer_read), -EPROTO);
    answer.result = 1;
    assert_int_equal(session_answer_parse(&answer, sizeof answer, &answer_read), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_messages_from_one),
        cmocka_unit_test(keeps_messages_until_they_are_acknowledged),
        cmocka_unit_test(refuses_acknowledgement_of_what_was_not_sent),
        cmocka_unit_test(replays_what_the_peer_has_not_received),
        cmocka_unit_test(a_peer_that_forgot_or_invented_messages_cannot_resume),
        cmocka_unit_test(takes_each_message_once_and_in_order),
        cmocka_unit_test(owes_an_acknowledgement_by_count_and_by_bytes),
        cmocka_unit_test(refuses_more_than_its_limit),
        cmocka_unit_test(offers_and_answers_keep_their_bytes),
        cmocka_unit_test(refuses_damaged_offers_and_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
