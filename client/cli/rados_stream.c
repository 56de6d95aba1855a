#include "client/cli/rados_stream.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <isa-l.h>

struct __attribute__((packed)) head {
    uint8_t type;
    uint32_t len;
};

static uint32_t sum(uint32_t crc, const void *data, size_t len)
{
    return crc32_iscsi((unsigned char *)(uintptr_t)data, (int)len, crc);
}

/* ---- Writing ---- */

static int put(struct stream_writer *w, const void *data, size_t len)
{
    errno = 0;
    if (len > 0 && fwrite(data, 1, len, w->file) != len)
        return errno != 0 ? -errno : -EIO;
    w->bytes += len;
    return 0;
}

int stream_begin(struct stream_writer *w)
{
    return put(w, STREAM_MAGIC, strlen(STREAM_MAGIC));
}

int stream_put(struct stream_writer *w, enum stream_type type, const struct encoder *head,
               const void *data, size_t len)
{
    size_t head_len = head != NULL ? head->len : 0;
    if (head != NULL && head->failed)
        return -ENOMEM;
    struct head begin = {.type = (uint8_t)type, .len = htole32((uint32_t)(head_len + len))};
    uint32_t crc = sum(UINT32_MAX, &begin, sizeof begin);
    int rc = put(w, &begin, sizeof begin);
    if (rc == 0 && head_len > 0) {
        crc = sum(crc, head->data, head_len);
        rc = put(w, head->data, head_len);
    }
    if (rc == 0 && len > 0) {
        crc = sum(crc, data, len);
        rc = put(w, data, len);
    }
    crc = htole32(~crc);
    return rc == 0 ? put(w, &crc, sizeof crc) : rc;
}

/* ---- Reading ---- */

/* -EPIPE at the end of the file, -EBADMSG in the middle. */
static int get(struct stream_reader *r, void *data, size_t len, bool may_end)
{
    errno = 0;
    size_t got = len > 0 ? fread(data, 1, len, r->file) : 0;
    r->bytes += got;
    if (got == len)
        return 0;
    if (ferror(r->file))
        return errno != 0 ? -errno : -EIO;
    return got == 0 && may_end ? -EPIPE : -EBADMSG;
}

int stream_reader_init(struct stream_reader *r, FILE *file)
{
    char magic[sizeof STREAM_MAGIC - 1];
    *r = (struct stream_reader){.file = file, .memory = malloc(STREAM_RECORD_MAX)};
    if (r->memory == NULL)
        return -ENOMEM;
    int rc = get(r, magic, sizeof magic, false);
    if (rc == 0 && memcmp(magic, STREAM_MAGIC, sizeof magic) != 0)
        rc = -EBADMSG;
    return rc;
}

void stream_reader_fini(struct stream_reader *r)
{
    free(r->memory);
    r->memory = NULL;
}

int stream_next(struct stream_reader *r, uint8_t *type, struct decoder *out)
{
    struct head begin;
    uint32_t crc;
    int rc = get(r, &begin, sizeof begin, true);
    if (rc != 0)
        return rc;
    uint32_t len = le32toh(begin.len);
    if (len > STREAM_RECORD_MAX)
        return -EBADMSG;
    rc = get(r, r->memory, len, false);
    if (rc == 0)
        rc = get(r, &crc, sizeof crc, false);
    if (rc != 0)
        return rc;
    if (le32toh(crc) != (uint32_t)~sum(sum(UINT32_MAX, &begin, sizeof begin), r->memory, len))
        return -EBADMSG;
    *type = begin.type;
    decoder_init(out, r->memory, len);
    return 0;
}
