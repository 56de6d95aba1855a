/*
 * A message between two processes: a type, a small body and an optional payload.
 *
 * The body is one of the fixed structs of common/wire_layout.h or a protobuf of
 * common/limpet.proto. The payload is bulk data in a buffer of its own and is never copied between
 * the socket and its last user. Messages are reference counted and belong to one event loop.
 */
#ifndef LIMPET_COMMON_MESSAGE_H
#define LIMPET_COMMON_MESSAGE_H

#include <protobuf-c/protobuf-c.h>

#include "common/buf.h"

enum {
    MESSAGE_BODY_MAX = 256 * 1024,
    /* An object of 128 MiB in one write, and room for what travels with it: */
    MESSAGE_PAYLOAD_MAX = 136 * 1024 * 1024,
    /* Of a client's request less, since an OSD may have to add to it. */
    REQUEST_PAYLOAD_MAX = 128 * 1024 * 1024 + 65536,
};

/* Numbers are the wire's: never reuse one. */
enum message_type {
    MSG_NONE = 0,
    /* Any daemon. */
    MSG_PING = 1,       /* wire_ping */
    MSG_PING_REPLY = 2, /* wire_ping */
    /* To and from monitors; protobuf. */
    MSG_MON_SUBSCRIBE = 16,     /* MonSubscribe */
    MSG_MON_MAP = 17,           /* MonMap; the payload holds a full map when full is set */
    MSG_MON_COMMAND = 18,       /* MonCommand; input in the payload */
    MSG_MON_COMMAND_REPLY = 19, /* MonCommandReply; output in the payload */
    MSG_MON_GET_TICKET = 20,    /* MonGetTicket */
    MSG_MON_TICKET = 21,        /* MonTicket */
    MSG_OSD_BOOT = 24,          /* OsdBoot */
    MSG_OSD_FAILURE = 25,       /* OsdFailure */
    MSG_OSD_STATS = 26,         /* OsdStats */
    MSG_PG_ADD_MEMBER = 27,     /* PgAddMember */
    MSG_OSD_FENCE = 28,         /* OsdFence */
    MSG_PG_SCRUB_ORDER = 30,    /* PgScrubOrder: to an OSD */
    /* Between monitors; protobuf. */
    MSG_RAFT = 32,          /* RaftMessage; entries or snapshot in the payload */
    MSG_FORWARD = 33,       /* Forward; the wrapped message's payload is the payload */
    MSG_FORWARD_REPLY = 34, /* ForwardReply; likewise */
    MSG_MON_ABOUT = 35,     /* MonAbout */
    /* Client and primary OSD. */
    MSG_OSD_OP = 48,       /* wire_osd_op */
    MSG_OSD_OP_REPLY = 49, /* wire_osd_op_reply */
    MSG_WATCH_EVENT = 50,  /* wire_watch_event: primary to client */
    /* Between OSDs. */
    MSG_REP_TXN = 64,     /* wire_rep_txn: primary to member */
    MSG_REP_ACK = 65,     /* wire_rep_ack: it is durable, or refused */
    MSG_PG_ACTIVATE = 66, /* PgActivate; protobuf from here on */
    MSG_PG_INFO = 67,     /* PgInfo */
    MSG_PG_SCAN = 68,     /* PgScan */
    MSG_PG_SCAN_REPLY = 69,
    MSG_PG_PUSH = 70, /* PgPush; object data in the payload */
    MSG_PG_PUSH_REPLY = 71,
    MSG_PG_SCRUB = 80,       /* PgScrub */
    MSG_PG_SCRUB_REPLY = 81, /* PgScrubReply */
    MSG_PG_PULL = 82,        /* PgPull */
    MSG_PG_PULL_REPLY = 83,  /* PgPullReply; object data in the payload */
};

struct message {
    uint32_t refs;
    uint16_t type;
    uint32_t body_len;
    uint8_t *body; /* Writable by the creator until it is sent. */
    struct buf_slice payload;
};

/* A message with body_len zeroed bytes of body. NULL when memory is short or body_len too long. */
struct message *message_create(uint16_t type, size_t body_len) MUST_CHECK;
/* A message whose body is the packed protobuf. */
struct message *message_pack(uint16_t type, const ProtobufCMessage *proto) MUST_CHECK;
/*
 * Unpacks the body; free the result with protobuf_c_message_free_unpacked(result, NULL). NULL when
 * the body is no such message.
 */
ProtobufCMessage *message_unpack(const struct message *m,
                                 const ProtobufCMessageDescriptor *type) MUST_CHECK;
struct message *message_ref(struct message *m);
void message_unref(struct message *m);

#endif
