/* The encoding of index batches: see index.h. */
#include <errno.h>
#include <string.h>

#include "osd/store/index.h"

void index_batch_put(struct encoder *batch, const void *key, size_t key_len, const void *value,
                     size_t len)
{
    encode_u8(batch, INDEX_PUT);
    encode_string16(batch, key, key_len);
    encode_string32(batch, value, len);
}

void index_batch_remove(struct encoder *batch, const void *key, size_t key_len)
{
    encode_u8(batch, INDEX_REMOVE);
    encode_string16(batch, key, key_len);
}

void index_batch_remove_range(struct encoder *batch, const void *from, size_t from_len,
                              const void *to, size_t to_len)
{
    encode_u8(batch, INDEX_REMOVE_RANGE);
    encode_string16(batch, from, from_len);
    encode_string16(batch, to, to_len);
}

int index_batch_next(struct decoder *batch, struct index_change *out)
{
    uint16_t end_len;
    if (decoder_left(batch) == 0)
        return batch->failed ? -EBADMSG : 0;
    memset(out, 0, sizeof *out);
    out->op = decode_u8(batch);
    out->key = decode_string16(batch, &out->key_len);
    switch (out->op) {
    case INDEX_PUT:
        out->value = decode_string32(batch, &out->len);
        break;
    case INDEX_REMOVE:
        break;
    case INDEX_REMOVE_RANGE:
        out->value = decode_string16(batch, &end_len);
        out->len = end_len;
        break;
    default:
        return -EBADMSG;
    }
    return batch->failed ? -EBADMSG : 1;
}
