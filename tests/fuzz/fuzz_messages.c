/*
 * Every protobuf of common/limpet.proto: whatever unpacks can be packed and freed again. The first
 * byte chooses the type.
 */
#include <assert.h>
#include <string.h>

#include "common/limpet.pb-c.h"
#include "common/message.h"

static const ProtobufCMessageDescriptor *const types[] = {
    &limpet__wire__mon_subscribe__descriptor,  &limpet__wire__mon_map__descriptor,
    &limpet__wire__mon_command__descriptor,    &limpet__wire__mon_command_reply__descriptor,
    &limpet__wire__mon_get_ticket__descriptor, &limpet__wire__mon_ticket__descriptor,
    &limpet__wire__osd_boot__descriptor,       &limpet__wire__osd_failure__descriptor,
    &limpet__wire__osd_stats__descriptor,      &limpet__wire__pg_add_member__descriptor,
    &limpet__wire__raft_message__descriptor,   &limpet__wire__mon_about__descriptor,
    &limpet__wire__forward__descriptor,        &limpet__wire__forward_reply__descriptor,
    &limpet__wire__pg_activate__descriptor,    &limpet__wire__pg_info__descriptor,
    &limpet__wire__pg_scan__descriptor,        &limpet__wire__pg_scan_reply__descriptor,
    &limpet__wire__pg_push__descriptor,        &limpet__wire__pg_push_reply__descriptor,
    &limpet__wire__pg_scrub_order__descriptor, &limpet__wire__pg_scrub__descriptor,
    &limpet__wire__pg_scrub_reply__descriptor, &limpet__wire__pg_pull__descriptor,
    &limpet__wire__pg_pull_reply__descriptor,  &limpet__wire__pg_inconsistent_list__descriptor,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size - 1 > MESSAGE_BODY_MAX)
        return -1;
    struct message *m = message_create(MSG_PING, size - 1);
    assert(m != NULL);
    memcpy(m->body, data + 1, size - 1);
    ProtobufCMessage *proto = message_unpack(m, types[data[0] % (sizeof types / sizeof types[0])]);
    if (proto != NULL) {
        struct message *again = message_pack(MSG_PING, proto);
        /*
         * It may have become longer than a body, since numbers can come in fewer bytes than we
         * write; and unknown fields numbered 0, which protobuf-c passes on, are no second time
         * read.
         */
        ProtobufCMessage *second = again != NULL ? message_unpack(again, proto->descriptor) : NULL;
        if (second != NULL)
            protobuf_c_message_free_unpacked(second, NULL);
        message_unref(again);
        protobuf_c_message_free_unpacked(proto, NULL);
    }
    message_unref(m);
    return 0;
}
