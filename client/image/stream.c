/*
 * Export and import of differences, and one stream from two.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/crypt.h"
#include "client/image/stream_format.h"

enum { PIECE_BYTES = 4 * 1024 * 1024 };

/* ---- Export ---- */

struct exporting {
    struct limpet_image *image;
    const struct limpet_image_sink *sink;
    uint64_t size;
    uint8_t *buffer; /* PIECE_BYTES */
    limpet_image_progress progress;
    void *arg;
};

static bool is_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

static int export_piece(struct exporting *e, uint64_t offset, uint64_t len)
{
    struct diff_record record = {.kind = 'w', .offset = offset, .len = len};
    ssize_t got = limpet_image_read(e->image, e->buffer, len, offset, 0);
    if (got != (ssize_t)len)
        return got < 0 ? (int)got : -EIO;
    if (is_zero(e->buffer, len))
        record.kind = 'z';
    int rc = diff_write_record(e->sink, &record);
    return rc == 0 && record.kind == 'w' ? e->sink->write(e->sink->arg, e->buffer, len) : rc;
}

static int export_extent(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    struct exporting *e = arg;
    struct diff_record zeroes = {.kind = 'z', .offset = offset, .len = len};
    int rc = exists ? 0 : diff_write_record(e->sink, &zeroes);
    for (uint64_t at = 0; at < len && exists && rc == 0; at += PIECE_BYTES) {
        uint64_t n = len - at < PIECE_BYTES ? len - at : PIECE_BYTES;
        rc = export_piece(e, offset + at, n);
        if (rc == 0 && e->progress != NULL)
            rc = e->progress(offset + at + n, e->size, e->arg);
    }
    return rc;
}

static void set_name(struct diff_record *record, const char *name)
{
    snprintf(record->name, sizeof record->name, "%.255s", name);
}

static int export_head(struct exporting *e, const char *from, const char *to)
{
    struct diff_record record = {.kind = 'f'};
    int rc = diff_write_begin(e->sink);
    if (rc == 0 && from != NULL) {
        set_name(&record, from);
        rc = diff_write_record(e->sink, &record);
    }
    if (rc == 0 && to[0] != 0) {
        record.kind = 't';
        set_name(&record, to);
        rc = diff_write_record(e->sink, &record);
    }
    record.kind = 's';
    record.size = e->size;
    return rc == 0 ? diff_write_record(e->sink, &record) : rc;
}

int limpet_image_export_diff(struct limpet_image *image, const char *from, bool whole_object,
                             const struct limpet_image_sink *sink, limpet_image_progress progress,
                             void *arg)
{
    const struct diff_record end = {.kind = 'e'};
    char to[LIMPET_IMAGE_NAME_MAX + 1] = "";
    struct exporting e = {
        .image = image, .sink = sink, .progress = progress, .arg = arg, .buffer = NULL};
    pthread_mutex_lock(&image->lock);
    size_t at = header_snap(&image->header, image->snap);
    if (image->snap != 0 && at < image->header.n_snaps)
        memcpy(to, image->header.snaps[at].name, sizeof to);
    e.size = crypt_shown_size(image);
    pthread_mutex_unlock(&image->lock);
    e.buffer = malloc(PIECE_BYTES);
    int rc = e.buffer != NULL ? export_head(&e, from, to) : -ENOMEM;
    if (rc == 0)
        rc = limpet_image_diff(image, from, 0, UINT64_MAX, true, whole_object, export_extent, &e);
    if (rc == 0)
        rc = diff_write_record(sink, &end);
    free(e.buffer);
    return rc;
}

/* ---- Import ---- */

struct importing {
    struct limpet_image *image;
    struct diff_reader reader;
    char to[LIMPET_IMAGE_NAME_MAX + 1];
    uint64_t size;
    uint8_t *buffer;
    limpet_image_progress progress;
    void *arg;
};

static bool has_snap(struct limpet_image *image, const char *name)
{
    pthread_mutex_lock(&image->lock);
    bool has = header_snap_named(&image->header, name) < image->header.n_snaps;
    pthread_mutex_unlock(&image->lock);
    return has;
}

static int import_data(struct importing *i, const struct diff_record *record)
{
    int rc = 0;
    for (uint64_t at = 0; at < record->len && rc == 0; at += PIECE_BYTES) {
        uint64_t n = record->len - at < PIECE_BYTES ? record->len - at : PIECE_BYTES;
        rc = diff_read_data(&i->reader, i->buffer, n);
        if (rc != 0)
            return rc;
        ssize_t done = limpet_image_write(i->image, i->buffer, n, record->offset + at, 0);
        if (done != (ssize_t)n)
            return done < 0 ? (int)done : -EBADMSG;
        if (i->progress != NULL)
            rc = i->progress(record->offset + at + n, i->size, i->arg);
    }
    return rc;
}

static int import_record(struct importing *i, const struct diff_record *record)
{
    switch (record->kind) {
    case 'f':
        return has_snap(i->image, record->name) ? 0 : -EINVAL;
    case 't':
        memcpy(i->to, record->name, sizeof i->to);
        return has_snap(i->image, record->name) ? -EEXIST : 0;
    case 's':
        i->size = record->size;
        return limpet_image_resize(i->image, record->size + crypt_data_offset(i->image->crypt),
                                   true, NULL, NULL);
    case 'w':
        return import_data(i, record);
    default: {
        ssize_t done =
            record->len > 0 ? limpet_image_discard(i->image, record->len, record->offset) : 0;
        return done < 0 ? (int)done : 0;
    }
    }
}

int limpet_image_import_diff(struct limpet_image *image, const struct limpet_image_source *source,
                             limpet_image_progress progress, void *arg)
{
    struct importing i = {.image = image, .progress = progress, .arg = arg};
    struct diff_record record;
    i.buffer = malloc(PIECE_BYTES);
    int rc = i.buffer != NULL ? diff_read_begin(&i.reader, source) : -ENOMEM;
    while (rc == 0) {
        rc = diff_read_next(&i.reader, &record);
        if (rc != 0 || record.kind == 'e')
            break;
        rc = import_record(&i, &record);
    }
    free(i.buffer);
    return rc == 0 && i.to[0] != 0 ? limpet_image_snap_create(image, i.to) : rc;
}

/* ---- One from two ---- */

/* A stream in a merge: its head, and the record that it is at, cut as needed. */
struct side {
    struct diff_reader reader;
    char from[LIMPET_IMAGE_NAME_MAX + 1], to[LIMPET_IMAGE_NAME_MAX + 1];
    uint64_t size;
    struct diff_record at; /* 'w', 'z', or 'e'. */
};

/* The next record of contents; they must come in order. */
static int side_next(struct side *side)
{
    uint64_t end = side->at.offset + side->at.len;
    int rc = diff_read_next(&side->reader, &side->at);
    if (rc != 0 || side->at.kind == 'e')
        return rc;
    return (side->at.kind != 'w' && side->at.kind != 'z') || side->at.offset < end ? -EBADMSG : 0;
}

static int side_begin(struct side *side, const struct limpet_image_source *source)
{
    memset(side, 0, sizeof *side);
    int rc = diff_read_begin(&side->reader, source);
    while (rc == 0) {
        rc = diff_read_next(&side->reader, &side->at);
        if (rc != 0)
            return rc;
        if (side->at.kind == 'f')
            memcpy(side->from, side->at.name, sizeof side->from);
        else if (side->at.kind == 't')
            memcpy(side->to, side->at.name, sizeof side->to);
        else if (side->at.kind == 's')
            side->size = side->at.size;
        else
            break;
    }
    return rc;
}

/* Passes n bytes of the record by. */
static int side_skip(struct side *side, uint64_t n, uint8_t *buffer)
{
    int rc = 0;
    for (uint64_t left = n; side->at.kind == 'w' && left > 0 && rc == 0;) {
        size_t piece = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        rc = diff_read_data(&side->reader, buffer, piece);
        left -= piece;
    }
    side->at.offset += n;
    side->at.len -= n;
    return rc == 0 && side->at.len == 0 ? side_next(side) : rc;
}

static int side_copy(struct side *side, uint64_t n, const struct limpet_image_sink *sink,
                     uint8_t *buffer)
{
    struct diff_record record = side->at;
    record.len = n;
    int rc = diff_write_record(sink, &record);
    if (record.kind == 'z')
        return rc == 0 ? side_skip(side, n, buffer) : rc;
    for (uint64_t left = n; left > 0 && rc == 0;) {
        size_t piece = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        rc = diff_read_data(&side->reader, buffer, piece);
        if (rc == 0)
            rc = sink->write(sink->arg, buffer, piece);
        left -= piece;
    }
    side->at.offset += n;
    side->at.len -= n;
    return rc == 0 && side->at.len == 0 ? side_next(side) : rc;
}

/* What the first says counts where the second says nothing, and the image has not become smaller.
 */
static int merge_bodies(struct side *first, struct side *second,
                        const struct limpet_image_sink *sink, uint8_t *buffer)
{
    int rc = 0;
    while (rc == 0 && (first->at.kind != 'e' || second->at.kind != 'e')) {
        bool has_first = first->at.kind != 'e', has_second = second->at.kind != 'e';
        uint64_t begin = first->at.offset, end = begin + first->at.len;
        uint64_t other = has_second ? second->at.offset : UINT64_MAX;
        uint64_t other_end = has_second ? other + second->at.len : UINT64_MAX;
        if (has_first && first->at.len == 0)
            rc = side_next(first);
        else if (has_second && second->at.len == 0)
            rc = side_next(second);
        else if (has_first && begin >= second->size)
            rc = side_skip(first, first->at.len, buffer);
        else if (has_first && begin < other) {
            uint64_t n = (end < other ? end : other) - begin;
            n = begin + n > second->size ? second->size - begin : n;
            rc = side_copy(first, n, sink, buffer);
        } else if (has_first && begin < other_end)
            rc = side_skip(first, (end < other_end ? end : other_end) - begin, buffer);
        else
            rc = side_copy(second, second->at.len, sink, buffer);
    }
    return rc;
}

static int merge_heads(const struct side *first, const struct side *second,
                       const struct limpet_image_sink *sink)
{
    struct diff_record record = {.kind = 'f'};
    int rc = diff_write_begin(sink);
    if (rc == 0 && first->from[0] != 0) {
        set_name(&record, first->from);
        rc = diff_write_record(sink, &record);
    }
    record.kind = 't';
    set_name(&record, second->to);
    if (rc == 0 && second->to[0] != 0)
        rc = diff_write_record(sink, &record);
    record.kind = 's';
    record.size = second->size;
    return rc == 0 ? diff_write_record(sink, &record) : rc;
}

int limpet_image_merge_diff(const struct limpet_image_source *first,
                            const struct limpet_image_source *second,
                            const struct limpet_image_sink *sink)
{
    const struct diff_record end = {.kind = 'e'};
    struct side sides[2];
    uint8_t *buffer = malloc(PIECE_BYTES);
    int rc = buffer != NULL ? side_begin(&sides[0], first) : -ENOMEM;
    if (rc == 0)
        rc = side_begin(&sides[1], second);
    if (rc == 0 && (sides[0].to[0] == 0 || strcmp(sides[0].to, sides[1].from) != 0))
        rc = -EINVAL;
    if (rc == 0)
        rc = merge_heads(&sides[0], &sides[1], sink);
    if (rc == 0)
        rc = merge_bodies(&sides[0], &sides[1], sink, buffer);
    if (rc == 0)
        rc = diff_write_record(sink, &end);
    free(buffer);
    return rc;
}
