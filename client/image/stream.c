/*
 * Export and import of differences, and one stream from two.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/crypt.h"
#include "client/image/manage.h"
#include "client/image/stream_format.h"

enum { PIECE_BYTES = 4 * 1024 * 1024, META_MAX = 65536 /* Pairs of a stream. */ };

/* ---- Export ---- */

struct exporting {
    struct limpet_image *image;
    int version;
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
    pthread_mutex_lock(&e->image->lock);
    uint64_t overlap = e->image->overlap;
    pthread_mutex_unlock(&e->image->lock);
    ssize_t got = limpet_image_read(e->image, e->buffer, len, offset, 0);
    if (got == -ENOENT && image_was_flattened(e->image, overlap))
        got = limpet_image_read(e->image, e->buffer, len, offset, 0);
    if (got != (ssize_t)len)
        return got < 0 ? (int)got : -EIO;
    if (is_zero(e->buffer, len))
        record.kind = 'z';
    int rc = diff_write_record(e->sink, e->version, &record);
    return rc == 0 && record.kind == 'w' ? e->sink->write(e->sink->arg, e->buffer, len) : rc;
}

static int export_extent(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    struct exporting *e = arg;
    struct diff_record zeroes = {.kind = 'z', .offset = offset, .len = len};
    int rc = exists ? 0 : diff_write_record(e->sink, e->version, &zeroes);
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

static int export_name(struct exporting *e, char kind, const char *name)
{
    struct diff_record record = {.kind = kind};
    if (name == NULL || name[0] == 0)
        return 0;
    set_name(&record, name);
    return diff_write_record(e->sink, e->version, &record);
}

static int export_head(struct exporting *e, const char *from, const struct image_snap *to)
{
    struct diff_record record = {.kind = 'p'};
    int rc = diff_write_begin(e->sink, e->version);
    if (rc == 0)
        rc = export_name(e, 'f', from);
    if (rc == 0 && to != NULL)
        rc = export_name(e, 't', to->name);
    if (rc == 0 && to != NULL && e->version > 1) {
        record.is_protected = to->is_protected;
        rc = diff_write_record(e->sink, e->version, &record);
    }
    record.kind = 's';
    record.size = e->size;
    return rc == 0 ? diff_write_record(e->sink, e->version, &record) : rc;
}

static int export_changes(struct exporting *e, const char *from, bool whole_object)
{
    struct limpet_image *image = e->image;
    const struct diff_record end = {.kind = 'e'};
    struct image_snap to = {0};
    pthread_mutex_lock(&image->lock);
    size_t at = header_snap(&image->header, image->snap);
    if (image->snap != 0 && at < image->header.n_snaps)
        to = image->header.snaps[at];
    e->size = crypt_shown_size(image);
    pthread_mutex_unlock(&image->lock);
    e->buffer = malloc(PIECE_BYTES);
    int rc = e->buffer != NULL ? export_head(e, from, to.id != 0 ? &to : NULL) : -ENOMEM;
    if (rc == 0)
        rc = limpet_image_diff(image, from, 0, UINT64_MAX, true, whole_object, export_extent, e);
    if (rc == 0)
        rc = image_check_shown(image, 0);
    if (rc == 0)
        rc = diff_write_record(e->sink, e->version, &end);
    free(e->buffer);
    return rc;
}

int limpet_image_export_diff(struct limpet_image *image, const char *from, bool whole_object,
                             const struct limpet_image_sink *sink, limpet_image_progress progress,
                             void *arg)
{
    struct exporting e = {
        .image = image, .version = 1, .sink = sink, .progress = progress, .arg = arg};
    return export_changes(&e, from, whole_object);
}

/* ---- All of an image ---- */

static int export_number(const struct limpet_image_sink *sink, char kind, uint64_t number)
{
    const struct image_record record = {.kind = kind, .number = number};
    return image_write_record(sink, &record);
}

struct meta_export {
    const struct limpet_image_sink *sink;
};

static int export_pair(const struct limpet_pair *pair, void *arg)
{
    const struct meta_export *m = arg;
    struct image_record record = {.kind = 'M', .value_len = pair->value_len};
    size_t prefix = strlen(IMAGE_KEY_META);
    record.key = strndup((const char *)pair->key + prefix, pair->key_len - prefix);
    record.value = malloc(pair->value_len + 1);
    int rc = record.key != NULL && record.value != NULL ? 0 : -ENOMEM;
    if (rc == 0 && pair->value_len > 0)
        memcpy(record.value, pair->value, pair->value_len);
    if (rc == 0)
        rc = image_write_record(m->sink, &record);
    image_record_fini(&record);
    return rc;
}

static int export_image_head(struct limpet_image *image, const struct header *header,
                             const struct limpet_image_sink *sink)
{
    const struct image_core *core = &header->core;
    const struct image_record end = {.kind = 'E'};
    struct meta_export m = {sink};
    int rc = image_write_begin(sink);
    if (rc == 0)
        rc = export_number(sink, 'O', core->order);
    if (rc == 0)
        rc = export_number(sink, 'T', core->features & ~(uint64_t)LIMPET_IMAGE_DATA_POOL);
    if (rc == 0)
        rc = export_number(sink, 'U', core->stripe_unit);
    if (rc == 0)
        rc = export_number(sink, 'C', core->stripe_count);
    if (rc == 0)
        rc = omap_walk(image->meta, image->header_name, IMAGE_KEY_META, export_pair, &m);
    return rc == 0 ? image_write_record(sink, &end) : rc;
}

/* At one of its snapshots (NULL: the head), from another one (NULL: from nothing). */
static int export_state(struct limpet_image *image, const struct image_snap *from,
                        const struct image_snap *to, const struct limpet_image_sink *sink,
                        limpet_image_progress progress, void *arg)
{
    struct exporting e = {.version = 2, .sink = sink, .progress = progress, .arg = arg};
    int rc = image_open_id(image->cluster, limpet_pool_id(image->meta),
                           limpet_pool_namespace(image->meta), image->id, to != NULL ? to->id : 0,
                           true, &e.image);
    if (rc != 0)
        return rc;
    rc = from != NULL ? image_check_same(e.image, from) : 0;
    if (rc == 0)
        rc = export_changes(&e, from != NULL ? from->name : NULL, false);
    int closed = limpet_image_close(e.image);
    return rc != 0 ? rc : closed;
}

int limpet_image_export(struct limpet_image *image, const struct limpet_image_sink *sink,
                        limpet_image_progress progress, void *arg)
{
    struct header header;
    const struct image_snap *from = NULL;
    uint64_t n = 1;
    pthread_mutex_lock(&image->lock);
    int rc = header_copy(&image->header, &header);
    pthread_mutex_unlock(&image->lock);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < header.n_snaps; i++)
        n += header.snaps[i].kind == LIMPET_IMAGE_SNAP_USER;
    rc = export_image_head(image, &header, sink);
    if (rc == 0)
        rc = image_write_diffs(sink, n);
    for (size_t i = 0; i <= header.n_snaps && rc == 0; i++) {
        const struct image_snap *to = i < header.n_snaps ? &header.snaps[i] : NULL;
        if (to != NULL && to->kind != LIMPET_IMAGE_SNAP_USER)
            continue;
        rc = export_state(image, from, to, sink, progress, arg);
        from = to;
    }
    header_fini(&header);
    return rc;
}

/* ---- Import ---- */

struct importing {
    struct limpet_image *image;
    struct diff_reader reader;
    char to[LIMPET_IMAGE_NAME_MAX + 1];
    bool is_protected; /* That snapshot. */
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

static int discard_extent(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    ssize_t done = exists ? limpet_image_discard(arg, len, offset) : 0;
    return done < 0 ? (int)done : 0;
}

static int import_record(struct importing *i, const struct diff_record *record)
{
    switch (record->kind) {
    case 'f':
        return has_snap(i->image, record->name) ? 0 : -EINVAL;
    case 't':
        memcpy(i->to, record->name, sizeof i->to);
        return has_snap(i->image, record->name) ? -EEXIST : 0;
    case 'p':
        i->is_protected = record->is_protected;
        return 0;
    case 's':
        i->size = record->size;
        return limpet_image_resize(i->image, record->size + crypt_data_offset(i->image->crypt),
                                   true, NULL, NULL);
    case 'w':
        return import_data(i, record);
    default:
        return image_discard_extents(i->image, record->offset, record->len, discard_extent,
                                     i->image);
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
    if (rc == 0 && i.to[0] != 0)
        rc = limpet_image_snap_create(image, i.to);
    return rc == 0 && i.to[0] != 0 && i.is_protected ? limpet_image_snap_protect(image, i.to) : rc;
}

/* ---- All of an image ---- */

struct image_import {
    struct limpet_pool *pool;
    const char *name;
    struct limpet_image_options options;
    struct pairs {
        struct image_record *list;
        size_t n;
    } meta;
};

/* Options that were given count; others are those of the stream. */
static int take_head(struct image_import *i, const struct limpet_image_source *source)
{
    struct limpet_image_options *o = &i->options, given = i->options;
    struct image_record record;
    int rc = image_read_begin(source);
    while (rc == 0) {
        rc = image_read_next(source, &record);
        if (rc != 0 || record.kind == 'E')
            return rc;
        if (record.kind == 'O' && given.order == 0)
            o->order = record.number < UINT8_MAX ? (unsigned)record.number : UINT8_MAX;
        if (record.kind == 'T' && given.features == LIMPET_IMAGE_FEATURES_SOURCE)
            o->features = record.number & LIMPET_IMAGE_FEATURES_ALL;
        if (record.kind == 'U' && given.order == 0 && given.stripe_unit == 0)
            o->stripe_unit = record.number;
        if (record.kind == 'C' && given.order == 0 && given.stripe_count == 0)
            o->stripe_count = record.number;
        if (record.kind != 'M')
            continue;
        struct image_record *more = realloc(i->meta.list, (i->meta.n + 1) * sizeof *i->meta.list);
        if (more == NULL || i->meta.n == META_MAX) {
            image_record_fini(&record);
            rc = more == NULL ? -ENOMEM : -EBADMSG;
        }
        i->meta.list = more != NULL ? more : i->meta.list;
        if (rc == 0)
            more[i->meta.n++] = record;
    }
    return rc;
}

static int import_states(struct image_import *i, struct limpet_image *image,
                         const struct limpet_image_source *source, limpet_image_progress progress,
                         void *arg)
{
    uint64_t n = 0;
    int rc = 0;
    for (size_t at = 0; at < i->meta.n && rc == 0; at++)
        rc = limpet_image_meta_set(image, i->meta.list[at].key, i->meta.list[at].value,
                                   i->meta.list[at].value_len);
    if (rc == 0)
        rc = image_read_diffs(source, &n);
    for (; n > 0 && rc == 0; n--)
        rc = limpet_image_import_diff(image, source, progress, arg);
    return rc;
}

/* Nobody sees it before it is whole. */
static int import_image(struct image_import *i, const struct limpet_image_source *source,
                        limpet_image_progress progress, void *arg)
{
    char id[LIMPET_IMAGE_ID_MAX + 1];
    struct limpet_image *image;
    int rc = image_create_unfinished(i->pool, i->name, 0, &i->options, id);
    if (rc != 0)
        return rc;
    rc = image_open_unfinished(i->pool, id, &image);
    if (rc == 0) {
        rc = import_states(i, image, source, progress, arg);
        int closed = limpet_image_close(image);
        rc = rc != 0 ? rc : closed;
    }
    if (rc == 0)
        rc = image_finish(i->pool, id);
    if (rc != 0)
        image_unmake(i->pool, i->name, id);
    return rc;
}

int limpet_image_import(struct limpet_pool *pool, const char *name,
                        const struct limpet_image_options *options,
                        const struct limpet_image_source *source, limpet_image_progress progress,
                        void *arg)
{
    struct image_import i = {.pool = pool, .name = name, .options = *options};
    int rc = take_head(&i, source);
    if (rc == 0 && i.options.features == LIMPET_IMAGE_FEATURES_SOURCE)
        i.options.features = LIMPET_IMAGE_FEATURES_DEFAULT;
    if (rc == 0)
        rc = import_image(&i, source, progress, arg);
    for (size_t at = 0; at < i.meta.n; at++)
        image_record_fini(&i.meta.list[at]);
    free(i.meta.list);
    return rc;
}

/* ---- One from two ---- */

/* A stream in a merge: its head, and the record that it is at, cut as needed. */
struct side {
    struct diff_reader reader;
    char from[LIMPET_IMAGE_NAME_MAX + 1], to[LIMPET_IMAGE_NAME_MAX + 1];
    uint64_t size;
    struct diff_record at; /* 'w', 'z', or 'e'. */
    uint64_t grows_to;     /* Of the first: zeroes from its size to there stand at its end. */
    bool ended;
};

static void side_end(struct side *side)
{
    side->ended = true;
    if (side->grows_to > side->size)
        side->at = (struct diff_record){
            .kind = 'z', .offset = side->size, .len = side->grows_to - side->size};
}

/* The next record of contents; they must come in order. */
static int side_next(struct side *side)
{
    uint64_t end = side->at.offset + side->at.len;
    if (side->ended) {
        side->at = (struct diff_record){.kind = 'e'};
        return 0;
    }
    int rc = diff_read_next(&side->reader, &side->at);
    if (rc == 0 && side->at.kind == 'e')
        side_end(side);
    if (rc != 0 || side->ended)
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
    int rc = diff_write_record(sink, 1, &record);
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
    int rc = diff_write_begin(sink, 1);
    if (rc == 0 && first->from[0] != 0) {
        set_name(&record, first->from);
        rc = diff_write_record(sink, 1, &record);
    }
    record.kind = 't';
    set_name(&record, second->to);
    if (rc == 0 && second->to[0] != 0)
        rc = diff_write_record(sink, 1, &record);
    record.kind = 's';
    record.size = second->size;
    return rc == 0 ? diff_write_record(sink, 1, &record) : rc;
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
    if (rc == 0) {
        sides[0].grows_to = sides[1].size;
        for (int i = 0; i < 2; i++) {
            if (sides[i].at.kind == 'e')
                side_end(&sides[i]);
        }
        rc = merge_heads(&sides[0], &sides[1], sink);
    }
    if (rc == 0)
        rc = merge_bodies(&sides[0], &sides[1], sink, buffer);
    if (rc == 0)
        rc = diff_write_record(sink, 1, &end);
    free(buffer);
    return rc;
}
