/*
 * What an NBD client says, from its first byte: a peer is fed with the input in portions, as a
 * socket gives them. The first byte says whether TLS is required and how long portions are. What is
 * taken was there, answers stay inside of their limit, and what is accepted lies inside of the
 * export.
 */
#include <assert.h>
#include <string.h>

#include "client/nbd/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t talk_data[NBD_TALK_MAX];

static void try_request(const struct nbd_peer *peer, const struct nbd_export *export,
                        const uint8_t *data)
{
    struct nbd_request_line line;
    enum nbd_error error = NBD_EINVAL;
    uint8_t head[NBD_REPLY_HEAD_MAX];
    enum nbd_verdict verdict = nbd_read_request(peer, export, data, &line, &error);
    if (verdict == NBD_ACCEPTED && line.command != NBD_CMD_FLUSH && line.command != NBD_CMD_DISC) {
        assert(line.len > 0 && line.offset < peer->size && line.len <= peer->size - line.offset);
        assert(!export->read_only || line.command == NBD_CMD_READ ||
               line.command == NBD_CMD_BLOCK_STATUS);
    }
    if (verdict != NBD_NONSENSE)
        assert(line.command != NBD_CMD_WRITE || line.len <= NBD_PAYLOAD_MAX);
    assert(nbd_reply_head(peer, &line, error, 0, head) <= sizeof head);
    assert(nbd_reply_head(peer, &line, 0, 8, head) <= sizeof head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nbd_export export = {.name = "disk", .other_name = "disk@snap", .size = 1 << 20};
    struct nbd_peer peer;
    if (size == 0)
        return 0;
    size_t portion = (size_t)(data[0] >> 3) + 1, have = 0;
    export.read_only = (data[0] & 2) != 0;
    nbd_peer_init(&peer, (data[0] & 1) != 0, (data[0] & 4) != 0);
    data++;
    size--;
    while (size > 0 && peer.phase != NBD_ENDED && peer.phase != NBD_TRANSMISSION) {
        struct nbd_talk talk = {.data = talk_data, .room = sizeof talk_data};
        size_t taken = nbd_negotiate(&peer, &export, data, have, &talk);
        assert(taken <= have && talk.len <= NBD_TALK_MAX);
        if (peer.phase == NBD_HANDSHAKE)
            nbd_tls_begun(&peer);
        data += taken;
        size -= taken;
        have -= taken;
        if (taken > 0)
            continue;
        if (have == size || have >= sizeof(struct nbd_option_head) + NBD_OPTION_LEN_MAX)
            break;
        have = have + portion < size ? have + portion : size;
    }
    assert(peer.phase != NBD_TRANSMISSION || !peer.tls_required || peer.tls);
    while (peer.phase == NBD_TRANSMISSION && size >= sizeof(struct nbd_request_head)) {
        try_request(&peer, &export, data);
        data += sizeof(struct nbd_request_head);
        size -= sizeof(struct nbd_request_head);
    }
    return 0;
}
