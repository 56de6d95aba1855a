/*
 * The stream of rados export: records, each checked. docs/export.md describes it for others.
 *
 * All integers are little-endian. It begins with STREAM_MAGIC. A record is a u8 of its type, a u32
 * of its length, so many bytes, and a u32: the crc32c of all before it in the record.
 */
#ifndef LIMPET_CLIENT_CLI_RADOS_STREAM_H
#define LIMPET_CLIENT_CLI_RADOS_STREAM_H

#include <stdio.h>

#include "common/codec.h"
#include "common/error.h"

#define STREAM_MAGIC "limpet export 1\n"

/* Numbers stand in files: never reuse one. */
enum stream_type {
    /* u64 size, u64 mtime_ns, string16 namespace, string16 locator, string16 name. An object
     * whose record comes again before its end begins anew: what was said of it does not hold. */
    STREAM_OBJECT = 1,
    STREAM_DATA = 2,   /* u64 offset, bytes; what no record has is zeroes */
    STREAM_ATTR = 3,   /* string16 name, string32 value */
    STREAM_HEADER = 4, /* bytes */
    STREAM_PAIR = 5,   /* string16 key, string32 value */
    STREAM_OBJECT_END = 6,
    STREAM_END = 7, /* u64 objects: the stream is complete */
};

enum { STREAM_RECORD_MAX = 4 * 1024 * 1024 + 64 * 1024 };

struct stream_writer {
    FILE *file;
    uint64_t bytes; /* That were written. */
};

/* -errno of the file. */
int stream_begin(struct stream_writer *w) MUST_CHECK;
/* A record of what the encoder holds (NULL: nothing), and of `len` more bytes. */
int stream_put(struct stream_writer *w, enum stream_type type, const struct encoder *head,
               const void *data, size_t len) MUST_CHECK;

struct stream_reader {
    FILE *file;
    uint64_t bytes;
    uint8_t *memory; /* Of a record; released by stream_reader_fini(). */
};

/* -EBADMSG: it is no such stream; -ENOMEM; -errno of the file. */
int stream_reader_init(struct stream_reader *r, FILE *file) MUST_CHECK;
void stream_reader_fini(struct stream_reader *r);
/*
 * The next record, whose bytes are valid until the next call. -EPIPE: the stream ends; -EBADMSG: it
 * is damaged; -errno of the file.
 */
int stream_next(struct stream_reader *r, uint8_t *type, struct decoder *out) MUST_CHECK;

#endif
