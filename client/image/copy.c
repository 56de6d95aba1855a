/*
 * Copies: what an image shows, or all that it has ever shown.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/crypt.h"
#include "client/image/extents.h"
#include "client/image/manage.h"
#include "client/image/snap.h"

enum { PIECE_BYTES = 4 * 1024 * 1024, PARTS_MAX = 1 << 16 };

/* From one open image to another: what differs in it from a snapshot. */
struct copying {
    struct limpet_image *from, *to;
    const char *since;
    bool include_parent;
    struct extents parts; /* To be done; at most PARTS_MAX. */
    limpet_image_progress progress;
    void *arg;
    uint64_t size;
};

/* ---- One part ---- */

static void was_written(ssize_t result, void *arg)
{
    swept_end(arg, result < 0 ? (int)result : 0);
}

static bool is_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

static bool lies_beyond(struct limpet_image *image, uint64_t offset)
{
    pthread_mutex_lock(&image->lock);
    bool beyond = offset >= crypt_shown_size(image);
    pthread_mutex_unlock(&image->lock);
    return beyond;
}

static void was_read(ssize_t result, void *arg)
{
    struct swept *swept = arg;
    struct copying *c = swept->arg;
    const struct extent *part = &c->parts.list[swept->object];
    int rc = result < 0 ? (int)result : 0;
    /* The source may have shrunk meanwhile. */
    if (rc == 0 && (uint64_t)result < part->len)
        memset((uint8_t *)swept->memory + result, 0, part->len - (uint64_t)result);
    if (rc == 0 && is_zero(swept->memory, part->len))
        rc = limpet_image_aio_discard(c->to, part->len, part->offset, was_written, swept);
    else if (rc == 0)
        rc = limpet_image_aio_write(c->to, swept->memory, part->len, part->offset, 0, was_written,
                                    swept);
    if (rc != 0)
        swept_end(swept, rc);
}

static int start_part(struct swept *swept)
{
    struct copying *c = swept->arg;
    const struct extent *part = &c->parts.list[swept->object];
    if (!part->exists)
        return limpet_image_aio_discard(c->to, part->len, part->offset, was_written, swept);
    swept->memory = malloc(part->len);
    if (swept->memory == NULL)
        return -ENOMEM;
    int rc =
        limpet_image_aio_read(c->from, swept->memory, part->len, part->offset, 0, was_read, swept);
    if (rc != -EINVAL || !lies_beyond(c->from, part->offset))
        return rc;
    was_read(0, swept);
    return 0;
}

/* ---- The parts ---- */

static int part_progress(uint64_t done, uint64_t total, void *arg)
{
    const struct copying *c = arg;
    const struct extent *part = &c->parts.list[done - 1];
    (void)total;
    return c->progress(part->offset + part->len, c->size, c->arg);
}

static int do_parts(struct copying *c)
{
    struct sweep s = {.end = c->parts.n,
                      .start = start_part,
                      .arg = c,
                      .progress = c->progress != NULL ? part_progress : NULL,
                      .progress_arg = c};
    int rc = sweep(&s);
    c->parts.n = 0;
    return rc;
}

/* An image that is full has 25 million of 100 TiB: they are done in between. */
static int add_part(struct copying *c, uint64_t offset, uint64_t len, bool exists)
{
    int rc = extents_add(&c->parts, offset, len, exists);
    return rc == 0 && c->parts.n == PARTS_MAX ? do_parts(c) : rc;
}

static int add_discard(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    return exists ? add_part(arg, offset, len, false) : 0;
}

static int add_extent(struct copying *c, uint64_t offset, uint64_t len, bool exists)
{
    int rc = exists ? 0 : image_discard_extents(c->to, offset, len, add_discard, c);
    for (uint64_t at = 0; at < len && exists && rc == 0;) {
        /* Pieces end where objects of most images do. */
        uint64_t n = PIECE_BYTES - (offset + at) % PIECE_BYTES;
        n = n < len - at ? n : len - at;
        rc = add_part(c, offset + at, n, true);
        at += n;
    }
    return rc;
}

static int change_source(uint64_t offset, uint64_t len, window_take take, void *take_arg, void *arg)
{
    const struct copying *c = arg;
    return limpet_image_diff(c->from, c->since, offset, len, c->include_parent, c->since == NULL,
                             take, take_arg);
}

static int copy_window(struct copying *c, struct window *w, uint64_t offset)
{
    int rc = window_move(w, offset, 1);
    c->parts.n = 0;
    for (size_t i = 0; i < w->extents.n && rc == 0; i++) {
        const struct extent *extent = &w->extents.list[i];
        rc = add_extent(c, extent->offset, extent->len, extent->exists);
    }
    return rc == 0 ? do_parts(c) : rc;
}

static int copy_windows(struct copying *c, struct window *w)
{
    struct limpet_image *from = c->from;
    int rc = 0;
    while (rc == 0 && w->end < w->limit) {
        uint64_t offset = w->end;
        pthread_mutex_lock(&from->lock);
        uint64_t overlap = from->overlap;
        pthread_mutex_unlock(&from->lock);
        rc = copy_window(c, w, offset);
        if (rc == -ENOENT && image_was_flattened(from, overlap)) {
            /* What could not be read of its parent is its own now. */
            w->end = offset;
            rc = 0;
        } else if (rc == 0 && c->progress != NULL) {
            rc = c->progress(w->end, c->size, c->arg);
        }
    }
    return rc;
}

/* What differs in `from`, as it looks, from its snapshot `since` is done to `to`. */
static int copy_changes(struct limpet_image *from, const struct image_snap *since,
                        bool include_parent, struct limpet_image *to,
                        limpet_image_progress progress, void *arg)
{
    struct copying c = {.from = from,
                        .to = to,
                        .since = since != NULL ? since->name : NULL,
                        .include_parent = include_parent,
                        .progress = progress,
                        .arg = arg};
    pthread_mutex_lock(&from->lock);
    c.size = crypt_shown_size(from);
    pthread_mutex_unlock(&from->lock);
    struct window w = {.source = change_source, .arg = &c, .limit = c.size};
    int rc = since != NULL ? image_check_same(from, since) : 0;
    if (rc == 0)
        rc = copy_windows(&c, &w);
    window_fini(&w);
    extents_fini(&c.parts);
    return rc == 0 ? image_check_shown(from, since != NULL ? since->id : 0) : rc;
}

/* ---- What it shows ---- */

static struct limpet_image_options options_of(struct limpet_image *image,
                                              const struct limpet_image_options *options)
{
    return image_options_from(&image->header.core, options);
}

/* Closes it; without an error it is whole. */
static int finish_copy(struct limpet_pool *pool, struct limpet_image *to, const char *id, int rc)
{
    int closed = limpet_image_close(to);
    rc = rc != 0 ? rc : closed;
    return rc != 0 ? rc : image_finish(pool, id);
}

int limpet_image_copy(struct limpet_image *image, struct limpet_pool *pool, const char *name,
                      const struct limpet_image_options *options, limpet_image_progress progress,
                      void *arg)
{
    struct limpet_image_options o = options_of(image, options);
    struct limpet_image *to;
    char id[LIMPET_IMAGE_ID_MAX + 1];
    int rc = (o.features & ~(uint64_t)LIMPET_IMAGE_FEATURES_ALL) != 0 ? -ENOSYS : 0;
    early_settle(image);
    pthread_mutex_lock(&image->lock);
    uint64_t size = crypt_shown_size(image);
    pthread_mutex_unlock(&image->lock);
    if (rc == 0)
        rc = image_create_unfinished(pool, name, size, &o, id);
    if (rc != 0)
        return rc;
    rc = image_open_unfinished(pool, id, &to);
    if (rc == 0) {
        rc = copy_changes(image, NULL, true, to, progress, arg);
        rc = finish_copy(pool, to, id, rc);
    }
    if (rc != 0)
        image_unmake(pool, name, id);
    return rc;
}

/* ---- All that it has ever shown ---- */

/* One of its snapshots (NULL: the head), after `since` was done. */
static int copy_state(struct limpet_image *image, const struct image_snap *since,
                      const struct image_snap *snap, bool include_parent, struct limpet_image *to)
{
    struct limpet_image *from;
    int rc = image_open_id(image->cluster, limpet_pool_id(image->meta),
                           limpet_pool_namespace(image->meta), image->id,
                           snap != NULL ? snap->id : 0, true, &from);
    if (rc != 0)
        return rc;
    rc = limpet_image_resize(to, from->size, true, NULL, NULL);
    if (rc == 0)
        rc = copy_changes(from, since, include_parent, to, NULL, NULL);
    if (rc == 0 && snap != NULL)
        rc = limpet_image_snap_create(to, snap->name);
    if (rc == 0 && snap != NULL && snap->is_protected)
        rc = limpet_image_snap_protect(to, snap->name);
    int closed = limpet_image_close(from);
    return rc != 0 ? rc : closed;
}

static int copy_states(struct limpet_image *image, const struct header *header, bool include_parent,
                       struct limpet_image *to, limpet_image_progress progress, void *arg)
{
    const struct image_snap *since = NULL;
    int rc = 0;
    for (size_t i = 0; i <= header->n_snaps && rc == 0; i++) {
        const struct image_snap *snap = i < header->n_snaps ? &header->snaps[i] : NULL;
        if (snap != NULL && snap->kind != LIMPET_IMAGE_SNAP_USER)
            continue;
        rc = copy_state(image, since, snap, include_parent, to);
        since = snap;
        if (rc == 0 && progress != NULL)
            rc = progress(i + 1, header->n_snaps + 1, arg);
    }
    return rc;
}

static int make_copy(struct limpet_image *image, const struct header *header, bool share,
                     struct limpet_pool *pool, const char *name,
                     const struct limpet_image_options *options, char id[LIMPET_IMAGE_ID_MAX + 1])
{
    struct limpet_image_options o = options_of(image, options);
    if (!share)
        return image_create_unfinished(pool, name, header->core.size, &o, id);
    struct limpet_image_spec parent;
    struct limpet_pool *parent_pool;
    int rc = limpet_image_parent(image, &parent);
    if (rc == 0)
        rc = pool_of_link(image->cluster, &header->core.parent, &parent_pool);
    if (rc != 0)
        return rc;
    rc = image_clone_unfinished(parent_pool, parent.name, parent.snap_name, pool, name, &o, id);
    limpet_pool_close(parent_pool);
    return rc;
}

int limpet_image_deep_copy(struct limpet_image *image, struct limpet_pool *pool, const char *name,
                           const struct limpet_image_options *options, bool flatten,
                           limpet_image_progress progress, void *arg)
{
    struct header header;
    struct limpet_image *to;
    char id[LIMPET_IMAGE_ID_MAX + 1];
    early_settle(image);
    pthread_mutex_lock(&image->lock);
    int rc = header_copy(&image->header, &header);
    bool share = image->header.core.has_parent && image->overlap > 0 && !flatten;
    pthread_mutex_unlock(&image->lock);
    if (rc != 0)
        return rc;
    bool known = (options_of(image, options).features & ~(uint64_t)LIMPET_IMAGE_FEATURES_ALL) == 0;
    rc = !known ? -ENOSYS : make_copy(image, &header, share, pool, name, options, id);
    bool made = rc == 0;
    if (rc == 0)
        rc = image_open_unfinished(pool, id, &to);
    if (rc == 0) {
        rc = copy_states(image, &header, !share, to, progress, arg);
        rc = finish_copy(pool, to, id, rc);
    }
    if (rc != 0 && made)
        image_unmake(pool, name, id);
    header_fini(&header);
    return rc;
}
