/* Messages about placement groups, read and checked as far as they can be without the group. */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <string.h>

static int decode_rep_txn(const struct message *message, struct pg_incoming *out)
{
    if (message->body_len < sizeof out->rep)
        return -EBADMSG;
    memcpy(&out->rep, message->body, sizeof out->rep);
    out->pg = (struct pg_id){.pool = out->rep.pool, .seed = out->rep.pg_seed};
    out->config = out->rep.config;
    out->epoch = out->rep.epoch;
    return 0;
}

static int decode_rep_ack(const struct message *message, struct pg_incoming *out)
{
    if (message->body_len != sizeof out->ack)
        return -EBADMSG;
    memcpy(&out->ack, message->body, sizeof out->ack);
    out->pg = (struct pg_id){.pool = out->ack.pool, .seed = out->ack.pg_seed};
    out->config = out->ack.config;
    out->epoch = out->ack.epoch;
    return 0;
}

/* They all begin alike, but for the types. */
#define TAKE_HEAD(out, from)                                                                       \
    do {                                                                                           \
        (out)->pg = (struct pg_id){.pool = (from)->pool, .seed = (from)->seed};                    \
        (out)->config = (from)->config;                                                            \
    } while (0)

static int decode_proto(const struct message *message, struct pg_incoming *out,
                        const ProtobufCMessageDescriptor *type)
{
    out->proto = message_unpack(message, type);
    if (!out->proto)
        return -EBADMSG;
    switch (message->type) {
    case MSG_PG_ACTIVATE:
        TAKE_HEAD(out, out->activate);
        out->epoch = out->activate->epoch;
        break;
    case MSG_PG_INFO:
        TAKE_HEAD(out, out->info);
        out->epoch = out->info->epoch;
        break;
    case MSG_PG_SCAN:
        TAKE_HEAD(out, out->scan);
        break;
    case MSG_PG_SCAN_REPLY:
        TAKE_HEAD(out, out->scan_reply);
        break;
    case MSG_PG_PUSH:
        TAKE_HEAD(out, out->push);
        break;
    case MSG_PG_SCRUB:
        TAKE_HEAD(out, out->scrub);
        break;
    case MSG_PG_SCRUB_REPLY:
        TAKE_HEAD(out, out->scrub_reply);
        break;
    case MSG_PG_PULL:
        TAKE_HEAD(out, out->pull);
        break;
    case MSG_PG_PULL_REPLY:
        TAKE_HEAD(out, out->pull_reply);
        break;
    default:
        TAKE_HEAD(out, out->push_reply);
    }
    return 0;
}

int pg_incoming_decode(struct message *message, struct pg_incoming *out)
{
    memset(out, 0, sizeof *out);
    out->message = message;
    switch (message->type) {
    case MSG_REP_TXN:
        return decode_rep_txn(message, out);
    case MSG_REP_ACK:
        return decode_rep_ack(message, out);
    case MSG_PG_ACTIVATE:
        return decode_proto(message, out, &limpet__wire__pg_activate__descriptor);
    case MSG_PG_INFO:
        return decode_proto(message, out, &limpet__wire__pg_info__descriptor);
    case MSG_PG_SCAN:
        return decode_proto(message, out, &limpet__wire__pg_scan__descriptor);
    case MSG_PG_SCAN_REPLY:
        return decode_proto(message, out, &limpet__wire__pg_scan_reply__descriptor);
    case MSG_PG_PUSH:
        return decode_proto(message, out, &limpet__wire__pg_push__descriptor);
    case MSG_PG_PUSH_REPLY:
        return decode_proto(message, out, &limpet__wire__pg_push_reply__descriptor);
    case MSG_PG_SCRUB:
        return decode_proto(message, out, &limpet__wire__pg_scrub__descriptor);
    case MSG_PG_SCRUB_REPLY:
        return decode_proto(message, out, &limpet__wire__pg_scrub_reply__descriptor);
    case MSG_PG_PULL:
        return decode_proto(message, out, &limpet__wire__pg_pull__descriptor);
    case MSG_PG_PULL_REPLY:
        return decode_proto(message, out, &limpet__wire__pg_pull_reply__descriptor);
    default:
        return -EBADMSG;
    }
}

void pg_incoming_fini(struct pg_incoming *in)
{
    if (in->proto)
        protobuf_c_message_free_unpacked(in->proto, NULL);
    in->proto = NULL;
}

/* Only what a primary waits for is answered: the first step of activation, and the filling's. */
struct message *pg_refusal(const struct pg_incoming *in, uint64_t epoch)
{
    if (in->message->type != MSG_PG_ACTIVATE)
        return NULL;
    Limpet__Wire__PgInfo info = LIMPET__WIRE__PG_INFO__INIT;
    Limpet__Wire__Version none = LIMPET__WIRE__VERSION__INIT;
    info.pool = in->pg.pool;
    info.seed = in->pg.seed;
    info.config = in->config;
    info.epoch = epoch;
    info.result = -ELIMPET_STALE_CONFIG;
    info.head = &none;
    info.tail = &none;
    info.has_attempt = true;
    info.attempt = in->activate->attempt;
    return message_pack(MSG_PG_INFO, &info.base);
}
