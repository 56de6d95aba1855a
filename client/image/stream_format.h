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
 * In v2 a u64 with the length of the rest follows each byte but that of the end, there is one
 * record more, and those of other kinds are passed over:
 *
 *         p  u8                   whether the snapshot at which it ends is protected; its length is
 *                                 said to be 8
 *
 * An image with its snapshots, and what belongs to it (export format 2):
 *
 *     "rbd image v2\n", then records: a byte, a u64 with the length of the rest, and
 *         O  u64                  order
 *         T  u64                  features
 *         U  u64                  stripe unit
 *         C  u64                  stripe count
 *         M  u32 length, key, u32 length, value    metadata
 *         E                       the end, without a length
 *     "rbd image diffs v2\n", u64 number of streams of differences (v2), which follow: from nothing
 *     to the first snapshot, from there to the next one ... to the head, which ends at no snapshot
 */
#ifndef LIMPET_CLIENT_IMAGE_STREAM_FORMAT_H
#define LIMPET_CLIENT_IMAGE_STREAM_FORMAT_H

#include "client/limpet/image.h"
#include "common/error.h"

struct diff_record {
    char kind; /* One of "ftpswze". */
    bool is_protected;
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

int diff_write_begin(const struct limpet_image_sink *sink, int version) MUST_CHECK;
/* Of `w`, its data follow, by the caller. */
int diff_write_record(const struct limpet_image_sink *sink, int version,
                      const struct diff_record *record) MUST_CHECK;

/* Of an image with its snapshots. */
struct image_record {
    char kind;       /* One of "OTUCME", or another, which is to be passed over. */
    uint64_t number; /* Of those of 8 bytes. */
    char *key;       /* Of M, each with a zero after it; released by image_record_fini(). */
    char *value;
    size_t value_len;
};

void image_record_fini(struct image_record *record);
/* Errors as of diff_read_begin(). */
int image_read_begin(const struct limpet_image_source *source) MUST_CHECK;
int image_read_next(const struct limpet_image_source *source, struct image_record *out) MUST_CHECK;
/* After the record E: how many streams of differences follow. */
int image_read_diffs(const struct limpet_image_source *source, uint64_t *n) MUST_CHECK;

int image_write_begin(const struct limpet_image_sink *sink) MUST_CHECK;
int image_write_record(const struct limpet_image_sink *sink,
                       const struct image_record *record) MUST_CHECK;
int image_write_diffs(const struct limpet_image_sink *sink, uint64_t n) MUST_CHECK;

#endif
