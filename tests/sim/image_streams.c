/*
 * Streams: what is exported from an image becomes another one, which must be equal; and what of
 * that one a dead client has left can be removed (image_groups.c).
 */
#include "tests/sim/images_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* In the memory of the simulator: on a fiber's stack, which ends with its process. */
struct stream {
    uint8_t *data;
    size_t len, room, at;
};

static int put(void *arg, const void *data, size_t len)
{
    struct stream *s = arg;
    if (s->len + len > s->room) {
        s->room = 2 * (s->len + len);
        s->data = realloc(s->data, s->room);
        if (!s->data)
            abort();
    }
    if (len > 0)
        memcpy(s->data + s->len, data, len);
    s->len += len;
    return 0;
}

static ssize_t get(void *arg, void *data, size_t len)
{
    struct stream *s = arg;
    size_t n = s->len - s->at < len ? s->len - s->at : len;
    if (n > 0)
        memcpy(data, s->data + s->at, n);
    s->at += n;
    return (ssize_t)n;
}

static void fill_granule(uint8_t *data, uint64_t value)
{
    for (size_t i = 0; i < GRANULE; i += sizeof value)
        memcpy(data + i, &value, sizeof value);
}

/* At the snapshot of this name (NULL: at the head) the copy has what the snapshot has. */
static int compare_copy(struct image_op *op, const char *name, const char *at,
                        const struct image_snap_model *snap)
{
    struct images *images = op->images;
    struct limpet_image *handle;
    struct limpet_image_info info;
    uint8_t *data = op->data;
    int rc = limpet_image_open(op->client->pool, name, at, LIMPET_IMAGE_READ_ONLY, &handle);
    if (rc == -ENOENT)
        images_fail(images, op->image, "image-stream: %s has no %s", name, at ? at : "image");
    if (rc != 0)
        return rc;
    rc = limpet_image_info(handle, &info);
    if (rc == 0 && info.size != (uint64_t)snap->n * GRANULE)
        images_fail(images, op->image, "image-stream: %s of %s has %" PRIu64 " bytes, not %u KiB",
                    name, snap->name, info.size, snap->n);
    ssize_t got = rc == 0 && !images->cluster->failed && info.size > 0
                      ? limpet_image_read(handle, data, info.size, 0, 0)
                      : 0;
    for (uint32_t i = 0; got > 0 && i < snap->n && !images->cluster->failed; i++) {
        uint64_t value;
        if (!image_value_of(data + (size_t)i * GRANULE, &value) || value != snap->values[i])
            images_fail(images, op->image,
                        "image-stream: granule %u of %s is %" PRIu64 ", in %s it was %" PRIu64, i,
                        name, value, snap->name, snap->values[i]);
    }
    int closed = limpet_image_close(handle);
    return rc != 0 ? rc : got < 0 ? (int)got : closed;
}

/* An image that has the contents and the name of a snapshot; NULL: of none. */
static int make_base(struct image_op *op, const char *name, const struct image_snap_model *from,
                     struct limpet_image **out)
{
    struct limpet_image_options options = {.features = LIMPET_IMAGE_FEATURES_DEFAULT, .order = 12};
    uint64_t size = from ? (uint64_t)from->n * GRANULE : 0;
    int rc = limpet_image_create(op->client->pool, name, size, &options);
    if (rc == 0)
        rc = limpet_image_open(op->client->pool, name, NULL, 0, out);
    if (rc != 0 || !from)
        return rc;
    for (uint32_t i = 0; i < from->n; i++)
        fill_granule(op->data + (size_t)i * GRANULE, from->values[i]);
    ssize_t done = size > 0 ? limpet_image_write(*out, op->data, size, 0, 0) : 0;
    rc = done < 0 ? (int)done : limpet_image_snap_create(*out, from->name);
    if (rc != 0)
        (void)!limpet_image_close(*out);
    return rc;
}

static int stream_difference(struct image_op *op, const char *name, struct stream *s)
{
    struct images *images = op->images;
    const struct image_snap_model *from = image_snap_choose(images, op->image, image_snap_is_read);
    const struct image_snap_model *to = image_snap_choose(images, op->image, image_snap_is_read);
    struct limpet_image_sink sink = {put, s};
    struct limpet_image_source source = {get, s};
    struct limpet_image *handle;
    if (!to)
        return 0;
    if (from == to || from->end >= to->call)
        from = NULL;
    int rc = image_snap_open(op, to, &handle);
    if (rc != 0)
        return rc;
    rc = limpet_image_export_diff(handle, from ? from->name : NULL, images_below(images, 2) == 0,
                                  &sink, NULL, NULL);
    int closed = limpet_image_close(handle);
    if (rc != 0 || closed != 0)
        return rc != 0 ? rc : closed;
    rc = make_base(op, name, from, &handle);
    if (rc != 0)
        return rc;
    rc = limpet_image_import_diff(handle, &source, NULL, NULL);
    closed = limpet_image_close(handle);
    if (rc != 0 || closed != 0)
        return rc != 0 ? rc : closed;
    rc = compare_copy(op, name, NULL, to);
    return rc == 0 ? compare_copy(op, name, to->name, to) : rc;
}

/* With all its snapshots. */
static int stream_all(struct image_op *op, const char *name, struct stream *s)
{
    struct limpet_image_sink sink = {put, s};
    struct limpet_image_source source = {get, s};
    struct limpet_image_options options = {.features = LIMPET_IMAGE_FEATURES_SOURCE};
    int error;
    struct limpet_image *handle = image_handle_take(op->client, op->image, &error);
    if (!handle)
        return error;
    /* A handle of a client that stood still may not know the latest ones. */
    int rc = limpet_image_refresh(handle);
    if (rc == 0)
        rc = limpet_image_export(handle, &sink, NULL, NULL);
    image_handle_give(op->client, op->image);
    if (rc == 0)
        rc = limpet_image_import(op->client->pool, name, &options, &source, NULL, NULL);
    for (uint32_t i = 0; i < IMAGE_SNAPS_MAX && rc == 0; i++) {
        const struct image_snap_model *snap = &op->image->snaps[i];
        if (image_snap_is_read(snap))
            rc = compare_copy(op, name, snap->name, snap);
    }
    return rc;
}

static int remove_copy(struct image_op *op, const char *name)
{
    struct limpet_image *handle;
    struct limpet_image_snap *list;
    size_t n;
    int rc = limpet_image_open(op->client->pool, name, NULL, 0, &handle);
    if (rc == -ENOENT)
        return 0; /* Nothing was exported. */
    if (rc == 0)
        rc = limpet_image_snap_list(handle, &list, &n);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = limpet_image_snap_remove_id(handle, list[i].id);
    if (rc == 0)
        rc = limpet_image_close(handle);
    return rc == 0 ? limpet_image_remove(op->client->pool, name, NULL, NULL) : rc;
}

int image_stream(struct image_op *op)
{
    struct images *images = op->images;
    struct stream s = {0};
    struct image_leaving *copy = images_leave(op->client, false, op->serial);
    if (!copy)
        return 0;
    op->data = calloc(GRANULES_MAX, GRANULE);
    if (!op->data)
        abort();
    /* All of an encrypted image is exported as it is. */
    bool difference = op->image->encrypted > 0 || images_below(images, 3) > 0;
    int rc = difference ? stream_difference(op, copy->name, &s) : stream_all(op, copy->name, &s);
    free(s.data);
    if (rc == 0)
        rc = remove_copy(op, copy->name);
    if (rc == 0)
        copy->used = false;
    else
        copy->client = NULL;
    /* An image that was there once more than a client thinks counts as open for a while. */
    return rc == -EBUSY ? 0 : rc;
}
