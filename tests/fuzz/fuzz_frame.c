/*
 * The bytes of a connection after its handshake.
 *
 * The first byte chooses. Even: the rest is the stream as a stranger would send it, only that
 * headers get the right magic and checksum, so that their other fields are looked at. Odd: the rest
 * says which right frames are made and which of their bytes are damaged; then no message may come
 * out that was not put in.
 */
#include <stdlib.h>
#include <string.h>

#include <isa-l.h>

#include "common/frame_reader.h"

enum { PAYLOAD_LIMIT = 1 << 20, STREAM_LIMIT = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static void make_key(struct frame_key *key, uint8_t choice)
{
    static const uint8_t secret[32] = {7};
    /* Only with AES can payloads have keys of their own. */
    check(sodium_init() >= 0);
    bool aes = (choice & 4) != 0 && crypto_aead_aes256gcm_is_available() == 1;
    frame_key_init(key, aes ? AUTH_CIPHER_AES256_GCM : AUTH_CIPHER_XCHACHA20_POLY1305,
                   (choice & 2) != 0 ? AUTH_MODE_ENCRYPTED : AUTH_MODE_INTEGRITY, secret);
}

/* Takes whole frames; returns false when the stream has ended. */
static bool take(struct frame_reader *r, uint64_t *taken)
{
    for (;;) {
        int rc = frame_reader_next(r);
        if (rc == FRAME_WANTS_PAYLOAD) {
            struct buf_slice payload;
            check(r->header.payload_len <= MESSAGE_PAYLOAD_MAX);
            if (r->header.payload_len > PAYLOAD_LIMIT ||
                buf_slice_alloc(r->header.payload_len, &payload) < 0)
                return false;
            frame_reader_payload(r, payload);
        } else if (rc == FRAME_READY) {
            struct message *m = r->message;
            r->message = NULL;
            ++*taken;
            check(r->header.sequence == *taken);
            check(m != NULL && m->body_len == r->header.body_len);
            check(m->payload.len == r->header.payload_len);
            message_unref(m);
        } else {
            return rc == FRAME_MORE;
        }
    }
}

static uint64_t read_stream(struct frame_key *key, const uint8_t *stream, size_t len, size_t piece)
{
    struct frame_reader r;
    uint64_t taken = 0;
    frame_reader_init(&r, key);
    frame_reader_lend(&r, malloc(FRAME_READER_BUFFER), FRAME_READER_BUFFER);
    size_t at = 0;
    bool goes_on = true;
    while (at < len && goes_on) {
        struct iovec iov[2];
        int n = frame_reader_targets(&r, iov);
        check(n > 0);
        size_t left = len - at < piece ? len - at : piece, done = 0;
        for (int i = 0; i < n && left > 0; i++) {
            size_t part = left < iov[i].iov_len ? left : iov[i].iov_len;
            memcpy(iov[i].iov_base, stream + at + done, part);
            done += part;
            left -= part;
        }
        at += done;
        frame_reader_advance(&r, done);
        goes_on = take(&r, &taken);
    }
    size_t capacity;
    free(frame_reader_take_back(&r, &capacity));
    frame_reader_fini(&r);
    return taken;
}

static void strange_stream(struct frame_key *key, const uint8_t *data, size_t size, size_t piece)
{
    uint8_t *copy = malloc(size + 1);
    check(copy != NULL);
    memcpy(copy, data, size);
    for (size_t at = 0; at + FRAME_HEADER_BYTES <= size; at += FRAME_HEADER_BYTES) {
        struct wire_frame header;
        memcpy(&header, copy + at, sizeof header);
        header.magic = WIRE_FRAME_MAGIC;
        header.header_crc = ~crc32_iscsi((unsigned char *)&header,
                                         (int)offsetof(struct wire_frame, header_crc), UINT32_MAX);
        memcpy(copy + at, &header, sizeof header);
    }
    check(read_stream(key, copy, size, piece) == 0);
    free(copy);
}

/* Five bytes make a frame: lengths of body and payload, then where it is damaged and how. */
static void damaged_stream(struct frame_key *key, uint8_t choice, const uint8_t *data, size_t size,
                           size_t piece)
{
    static uint8_t bytes[65536];
    uint8_t *stream = malloc(STREAM_LIMIT);
    check(stream != NULL);
    size_t len = 0;
    uint64_t made = 0, whole = UINT64_MAX;
    for (; size >= 5; data += 5, size -= 5) {
        struct frame_parts parts = {.type = MSG_PING,
                                    .sequence = made + 1,
                                    .body = bytes,
                                    .body_len = data[0] * 250u,
                                    .payload = bytes,
                                    .payload_len = data[1] * 257u};
        struct buf_seal seal;
        if (data[1] % 2 == 1 && frame_may_have_own_key(key)) {
            frame_seal_payload(bytes, parts.payload_len, &seal);
            parts.seal = &seal;
        }
        size_t head_len = frame_prefix_len(key, frame_flags_of(&parts)) + parts.body_len;
        if (len + head_len + parts.payload_len > STREAM_LIMIT)
            break;
        memcpy(stream + len + head_len, bytes, parts.payload_len);
        frame_seal(key, &parts, stream + len, stream + len + head_len);
        size_t at = ((size_t)data[2] << 8 | data[3]) % (head_len + parts.payload_len);
        stream[len + at] ^= data[4];
        if (data[4] != 0 && whole == UINT64_MAX)
            whole = made;
        made++;
        len += head_len + parts.payload_len;
    }
    struct frame_key fresh;
    make_key(&fresh, choice);
    uint64_t taken = read_stream(&fresh, stream, len, piece);
    check(taken == (whole < made ? whole : made));
    free(stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    struct frame_key key;
    make_key(&key, data[0]);
    size_t piece = 1 + ((size_t)data[1] << 8 | data[2]);
    if ((data[0] & 1) == 0)
        strange_stream(&key, data + 3, size - 3, piece);
    else
        damaged_stream(&key, data[0], data + 3, size - 3, piece);
    return 0;
}
