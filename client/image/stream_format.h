/*
 * Streams of differences, as rbd writes them ("rbd diff v1" and "v2", doc/dev/rbd-diff of Ceph).
 * All numbers are little-endian.
 *
 *     "rbd diff v1\n", then records: a byte and
 *         f  u32 length, name     the snapshot it begins at; none: from nothing
 *         t  u32 length, name     the snapshot it ends at
 *         s  u64                  size of the image there
 *         w  u64 offset, u64 length, data
 *         z  u64 offset, u64 length       zeroes
 *         e                       the end
 *
 * In v2 a u64 with the length of the rest follows each byte but that of the end; records of other
 * kinds are passed over, p (whether the snapshot is protected) among them.
 */
#ifndef LIMPET_CLIENT_IMAGE_STREAM_FORMAT_H
#define LIMPET_CLIENT_IMAGE_STREAM_FORMAT_H

#include "client/limpet/image.h"
#include "common/error.h"

struct diff_record {
    char kind; /* One of "ftswze". */
    char name[LIMPET_IMAGE_NAME_MAX + 1];
    uint64_t size;
    uint64_t offset, len;
};

struct diff_reader {
    const struct limpet_image_source *source;
    int version;
    uint64_t data; /* Of the last record: bytes that were not read yet. */
};

/* -EBADMSG: it is no such stream, or ends too early; or what the source says. */
int diff_read_begin(struct diff_reader *reader,
                    const struct limpet_image_source *source) MUST_CHECK;
/* Data of the record before it that were not read are passed over. */
int diff_read_next(struct diff_reader *reader, struct diff_record *out) MUST_CHECK;
/* The next bytes of a record `w`: len must not be more than are left. */
int diff_read_data(struct diff_reader *reader, void *data, size_t len) MUST_CHECK;

/* Version 1. */
int diff_write_begin(const struct limpet_image_sink *sink) MUST_CHECK;
/* Of `w`, its data follow, by the caller. */
int diff_write_record(const struct limpet_image_sink *sink,
                      const struct diff_record *record) MUST_CHECK;

#endif
