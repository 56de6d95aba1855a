/*
 * Decoding of replies. The OSD is authenticated, but its bytes are checked like anybody's.
 */
#include "client/core/private.h"

#include <errno.h>
#include <string.h>

int reply_decode(const struct message *message, struct op_reply *out)
{
    struct decoder d;
    decoder_init(&d, message->body, message->body_len);
    struct wire_osd_op_reply head = {0};
    const void *bytes = decode_bytes(&d, sizeof head);
    if (bytes == NULL)
        return -EBADMSG;
    memcpy(&head, bytes, sizeof head);
    if (head.n_ops > WIRE_OPS_MAX)
        return -EBADMSG;
    *out = (struct op_reply){
        .tid = head.tid,
        .epoch = head.epoch,
        .version = head.version,
        .result = head.result < 0 ? head.result : 0,
        .n_ops = head.n_ops,
        .fenced = (head.flags & WIRE_REPLY_FENCED) != 0,
    };
    uint64_t data_len = 0;
    for (uint16_t i = 0; i < head.n_ops; i++) {
        struct wire_op_result result = {0};
        bytes = decode_bytes(&d, sizeof result);
        if (bytes == NULL)
            return -EBADMSG;
        memcpy(&result, bytes, sizeof result);
        data_len += result.data_len;
    }
    if (data_len != message->payload.len)
        return -EBADMSG;
    return decoder_end(&d);
}

int reply_take_results(const struct message *message, const struct op_reply *reply,
                       struct client_op *op)
{
    /* A failed request may have ended before its later steps; one that went well has them all. */
    if (reply->n_ops > op->n_steps || (reply->result == 0 && reply->n_ops != op->n_steps))
        return -EPROTO;
    const uint8_t *at = message->body + sizeof(struct wire_osd_op_reply);
    size_t offset = 0;
    op->n_results = reply->n_ops;
    for (uint16_t i = 0; i < reply->n_ops; i++) {
        struct wire_op_result result;
        memcpy(&result, at + i * sizeof result, sizeof result);
        struct client_step *step = client_step(op, i);
        step->result = result.result;
        if (result.data_len > 0)
            step->data = buf_slice_sub(message->payload, offset, result.data_len);
        offset += result.data_len;
    }
    return 0;
}
