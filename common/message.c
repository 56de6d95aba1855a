#include "common/message.h"

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>

/* The body follows the struct in the same block, aligned for any scalar. */
#define MESSAGE_BODY_OFFSET                                                                        \
    ((sizeof(struct message) + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1))

struct message *message_create(uint16_t type, size_t body_len)
{
    if (body_len > MESSAGE_BODY_MAX)
        return NULL;
    struct message *m = calloc(1, MESSAGE_BODY_OFFSET + body_len);
    if (m == NULL)
        return NULL;
    m->refs = 1;
    m->type = type;
    m->body_len = (uint32_t)body_len;
    m->body = (uint8_t *)m + MESSAGE_BODY_OFFSET;
    return m;
}

struct message *message_pack(uint16_t type, const ProtobufCMessage *proto)
{
    size_t len = protobuf_c_message_get_packed_size(proto);
    struct message *m = message_create(type, len);
    if (m == NULL)
        return NULL;
    size_t packed = protobuf_c_message_pack(proto, m->body);
    assert(packed == len);
    return m;
}

ProtobufCMessage *message_unpack(const struct message *m, const ProtobufCMessageDescriptor *type)
{
    return protobuf_c_message_unpack(type, NULL, m->body_len, m->body);
}

struct message *message_ref(struct message *m)
{
    assert(m->refs > 0 && m->refs < UINT32_MAX);
    m->refs++;
    return m;
}

void message_unref(struct message *m)
{
    if (m == NULL)
        return;
    assert(m->refs > 0);
    if (--m->refs > 0)
        return;
    buf_slice_drop(&m->payload);
    free(m);
}
