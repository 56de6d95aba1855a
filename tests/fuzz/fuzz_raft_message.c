/*
 * What another monitor sends for consensus. The first two bytes are the length of the body; the
 * rest is the payload. A message that is accepted is sound, and survives being encoded again.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/limpet.pb-c.h"
#include "mon/raft_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct uuid fsid = {.bytes = "0123456789abcdef"};

static void check_entries(const struct raft_append_entries *args)
{
    raft_term term = args->prev_log_term;

    for (unsigned i = 0; i < args->n_entries; i++) {
        const struct raft_entry *entry = &args->entries[i];
        if (entry->term < term || entry->term > args->term || entry->batch == NULL)
            abort();
        term = entry->term;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct raft_message message;
    struct raft_message again;

    if (size < 2)
        return 0;
    size_t body_len = (size_t)data[0] | (size_t)data[1] << 8;
    body_len = body_len < size - 2 ? body_len : size - 2;
    struct message *in = message_create(MSG_RAFT, body_len);
    assert(in != NULL);
    if (body_len > 0)
        memcpy(in->body, data + 2, body_len);
    if (size - 2 > body_len) {
        int rc = buf_slice_copy(data + 2 + body_len, size - 2 - body_len, &in->payload);
        assert(rc == 0);
    }
    if (raft_codec_decode(in, 2, &fsid, &message) == 0) {
        if (message.type == RAFT_IO_APPEND_ENTRIES)
            check_entries(&message.append_entries);
        struct message *out = raft_codec_encode(&message, 2, &fsid);
        assert(out != NULL);
        if (raft_codec_decode(out, 2, &fsid, &again) != 0)
            abort();
        raft_codec_free(&again);
        message_unref(out);
        raft_codec_free(&message);
    }
    message_unref(in);
    return 0;
}
