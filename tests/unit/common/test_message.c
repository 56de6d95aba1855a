#include "tests/lib/test.h"

#include <string.h>

#include "common/limpet.pb-c.h"
#include "common/message.h"

static void packs_and_unpacks_protobuf(void **state)
{
    (void)state;
    Limpet__Wire__MonCommand out = LIMPET__WIRE__MON_COMMAND__INIT;
    out.tid = 42;
    out.json = "{\"prefix\": \"status\"}";
    struct message *m = message_pack(MSG_MON_COMMAND, &out.base);
    assert_non_null(m);
    assert_int_equal(m->type, MSG_MON_COMMAND);
    ProtobufCMessage *proto = message_unpack(m, &limpet__wire__mon_command__descriptor);
    assert_non_null(proto);
    const Limpet__Wire__MonCommand *in = (const Limpet__Wire__MonCommand *)proto;
    assert_int_equal(in->tid, 42);
    assert_string_equal(in->json, out.json);
    protobuf_c_message_free_unpacked(proto, NULL);
    message_unref(m);
}

static void refuses_to_pack_more_than_a_body_holds(void **state)
{
    (void)state;
    static uint8_t large[MESSAGE_BODY_MAX];
    Limpet__Wire__ServiceKey key = LIMPET__WIRE__SERVICE_KEY__INIT;
    key.sealed.data = large;
    key.sealed.len = sizeof large;
    assert_null(message_pack(MSG_MON_TICKET, &key.base));
}

static void refuses_bodies_that_are_no_such_message(void **state)
{
    (void)state;
    static const char *const bodies[] = {"", "\x08", "\xff\xff\xff\xff\xff",
                                         ("\x12\x7f"
                                          "abc")};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct message *m = message_create(MSG_MON_COMMAND, strlen(bodies[i]));
        assert_non_null(m);
        memcpy(m->body, bodies[i], strlen(bodies[i]));
        assert_null(message_unpack(m, &limpet__wire__mon_command__descriptor));
        message_unref(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_and_unpacks_protobuf),
        cmocka_unit_test(refuses_to_pack_more_than_a_body_holds),
        cmocka_unit_test(refuses_bodies_that_are_no_such_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
