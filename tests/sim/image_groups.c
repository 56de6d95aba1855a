/*
 * What clients do with several images at once, and with the trash; and what dead ones have left
 * that is no image of the model: groups, and images made of streams. Whoever comes by removes it.
 */
#include "tests/sim/images_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- What may be left ---- */

struct image_leaving *images_leave(struct image_client *client, bool is_group, uint64_t serial)
{
    struct images *images = client->images;
    /* Others may run, and take a place, in here. */
    uint64_t instance = limpet_cluster_instance(client->cluster);
    for (size_t i = 0; i < IMAGE_LEAVINGS_MAX; i++) {
        struct image_leaving *leaving = &images->leavings[i];
        if (leaving->used)
            continue;
        *leaving = (struct image_leaving){
            .used = true, .is_group = is_group, .breaker = instance, .client = client};
        snprintf(leaving->name, sizeof leaving->name, "%s%" PRIu64, is_group ? "group" : "copy",
                 serial);
        return leaving;
    }
    return NULL;
}

void images_leavings_lost(struct image_client *client)
{
    for (size_t i = 0; i < IMAGE_LEAVINGS_MAX; i++) {
        if (client->images->leavings[i].client == client)
            client->images->leavings[i].client = NULL;
    }
}

bool images_have_groups(const struct images *images)
{
    for (size_t i = 0; i < IMAGE_LEAVINGS_MAX; i++) {
        if (images->leavings[i].used && images->leavings[i].is_group)
            return true;
    }
    return false;
}

static int remove_snaps(struct image_client *client, const char *name)
{
    struct limpet_image *handle;
    struct limpet_image_snap *list;
    size_t n;
    int rc = limpet_image_open(client->pool, name, NULL, 0, &handle);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    rc = limpet_image_snap_list(handle, &list, &n);
    if (rc == 0) {
        for (size_t i = 0; i < n && rc == 0; i++)
            rc = limpet_image_snap_remove_id(handle, list[i].id);
        limpet_free(list);
    }
    int closed = limpet_image_close(handle);
    return rc != 0 ? rc : closed;
}

/* Like 'rbd rm', of one that may be half made. */
static int remove_copy(struct image_client *client, const char *name)
{
    int rc = remove_snaps(client, name);
    if (rc == 0)
        rc = limpet_image_remove(client->pool, name, NULL, NULL);
    return rc == -ENOENT ? 0 : rc;
}

/* Another process has begun it: nothing of that one's may be on its way any more. */
static int mend_leaving(struct image_client *client, struct image_leaving *leaving)
{
    int rc = 0;
    if (leaving->breaker != limpet_cluster_instance(client->cluster))
        rc = limpet_block(client->cluster, leaving->breaker, 7 * 24 * 3600);
    if (rc == 0 && leaving->is_group)
        rc = limpet_group_remove(client->pool, leaving->name);
    else if (rc == 0)
        rc = remove_copy(client, leaving->name);
    return rc == -ENOENT ? 0 : rc;
}

bool images_mend_leavings(struct image_client *client, bool all)
{
    struct images *images = client->images;
    for (size_t i = 0; i < IMAGE_LEAVINGS_MAX; i++) {
        struct image_leaving *leaving = &images->leavings[i];
        if (!leaving->used || (leaving->client != NULL && !all))
            continue;
        leaving->client = client;
        int rc = mend_leaving(client, leaving);
        leaving->client = NULL;
        sim_log(images->cluster->sim, leaving->name, "is removed: %d", rc);
        leaving->used = rc != 0;
        if (rc == -ESHUTDOWN)
            image_client_blocked(client);
        /* It counts as open for a while, or its owner is still waited for. */
        if (rc != 0 && rc != -EBUSY && rc != -ETIMEDOUT && rc != -EIO)
            images_fail(images, NULL, "image-left: %s cannot be removed: %d", leaving->name, rc);
        if (rc != 0)
            fiber_sleep(SEC_NS);
        return true;
    }
    return false;
}

void images_check_rest(struct image_client *client)
{
    struct limpet_image_entry *groups;
    struct limpet_image_trash *trash;
    size_t n;
    if (limpet_group_list(client->pool, &groups, &n) == 0) {
        if (n != 0)
            images_fail(client->images, NULL, "image-leaves-nothing: %zu groups are left", n);
        limpet_free(groups);
    }
    if (limpet_image_trash_list(client->pool, &trash, &n) == 0) {
        if (n != 0)
            images_fail(client->images, NULL, "image-leaves-nothing: the trash has %zu", n);
        limpet_free(trash);
    }
}

/* ---- The trash ---- */

int image_trash(struct image_op *op)
{
    struct image_client *client = op->client;
    struct image_model *image = op->image;
    image_have_closed(op);
    image->state = IMAGE_HALF;
    image->trashed = true;
    image_note_breaker(client, image);
    int rc = limpet_image_trash_move(client->pool, image->name, 0);
    if (rc == 0) {
        fiber_sleep(images_below(op->images, SEC_NS));
        rc = limpet_image_trash_restore(client->pool, image->id, NULL);
    }
    bool in_group = images_have_groups(op->images) && rc == -EMLINK;
    if (rc != 0 && rc != -EBUSY && !in_group)
        return rc;
    image->trashed = false;
    return image_is_there(client, image);
}

int image_trash_mend(struct image_op *op)
{
    int rc = limpet_image_trash_restore(op->client->pool, op->image->id, NULL);
    return rc == -ENOENT ? 0 : rc;
}

/* ---- Groups ---- */

struct together {
    struct image_client *client;
    struct image_op *ops[IMAGES_MAX]; /* One of each image. */
    uint32_t n;
    uint8_t *data[IMAGES_MAX];
    uint32_t granules[IMAGES_MAX];
    uint64_t call, end;
};

static const struct cell_write *write_of(const struct cell *cell, uint64_t value)
{
    const struct cell_write *found = NULL;
    for (uint32_t i = 0; i < cell->n; i++) {
        if (cell->writes[i].value == value && found != NULL)
            return NULL; /* Which one, nobody knows. */
        if (cell->writes[i].value == value)
            found = &cell->writes[i];
    }
    return found;
}

/* Without an exclusive lock others write on. */
static uint32_t still_granules(const struct together *t, uint32_t k)
{
    return t->ops[k]->image->exclusive ? t->granules[k] : 0;
}

/* The moment of the snapshot was after all that it shows was asked for. */
static uint64_t latest_call(const struct together *t)
{
    uint64_t latest = t->call;
    for (uint32_t k = 0; k < t->n; k++) {
        for (uint32_t i = 0; i < still_granules(t, k); i++) {
            uint64_t value;
            if (!image_value_of(t->data[k] + (size_t)i * GRANULE, &value))
                continue;
            const struct cell_write *w = write_of(&t->ops[k]->image->cells[i], value);
            if (w != NULL && w->call > latest)
                latest = w->call;
        }
    }
    return latest;
}

/* What it does not show was not answered before that moment, in whichever image. */
static void judge_together(const struct together *t, const char *name)
{
    struct images *images = t->client->images;
    uint64_t moment = latest_call(t);
    for (uint32_t k = 0; k < t->n; k++) {
        for (uint32_t i = 0; i < still_granules(t, k) && !images->cluster->failed; i++) {
            const struct cell *cell = &t->ops[k]->image->cells[i];
            uint64_t value;
            (void)image_value_of(t->data[k] + (size_t)i * GRANULE, &value);
            const struct cell_write *shown = write_of(cell, value);
            for (uint32_t j = 0; j < cell->n && shown != NULL; j++) {
                const struct cell_write *other = &cell->writes[j];
                if (other != shown && other->first < moment && shown->first < other->call)
                    images_fail(images, t->ops[k]->image,
                                "image-together: %s shows %" PRIu64 " in granule %u, and "
                                "something of %.6f elsewhere",
                                name, value, i, (double)moment / 1e9);
            }
        }
    }
}

/* Of the k-th image, its part of the group's only snapshot. */
static int read_part(struct together *t, uint32_t k)
{
    struct image_op *op = t->ops[k];
    struct images *images = op->images;
    struct limpet_image_info info = {0};
    struct limpet_image_snap *list;
    struct limpet_image *handle;
    size_t n;
    uint64_t id = 0;
    int rc =
        limpet_image_open(op->client->pool, op->image->name, NULL, LIMPET_IMAGE_READ_ONLY, &handle);
    if (rc != 0)
        return rc;
    rc = limpet_image_snap_list(handle, &list, &n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (list[i].kind == LIMPET_IMAGE_SNAP_GROUP)
            id = list[i].id;
    }
    if (rc == 0)
        limpet_free(list);
    if (rc == 0 && id == 0)
        images_fail(images, op->image, "image-group: it has no part of the snapshot");
    if (rc == 0)
        rc = limpet_image_set_snap_id(handle, id);
    if (rc == 0 && op->image->encrypted > 0)
        image_decrypt_inside(handle, op->image->encrypted, image_hidden(op->image));
    if (rc == 0)
        rc = limpet_image_info(handle, &info);
    ssize_t got =
        rc == 0 && info.size > 0 ? limpet_image_read(handle, t->data[k], info.size, 0, 0) : 0;
    int closed = limpet_image_close(handle);
    if (rc != 0 || got < 0 || closed != 0)
        return rc != 0 ? rc : got < 0 ? (int)got : closed;
    t->granules[k] = (uint32_t)((uint64_t)got / GRANULE);
    image_judge_size(images, op->image, t->granules[k], t->call, t->end, "a group's snapshot");
    for (uint32_t i = 0; i < t->granules[k]; i++)
        image_judge(images, op->image, i, t->data[k] + (size_t)i * GRANULE, t->call, t->end,
                    "a group's snapshot");
    return 0;
}

static int group_steps(struct together *t, const char *name)
{
    struct image_client *client = t->client;
    struct images *images = client->images;
    int rc = limpet_group_create(client->pool, name);
    for (uint32_t k = 0; k < t->n && rc == 0; k++)
        rc = limpet_group_add(client->pool, name, client->pool, t->ops[k]->image->name);
    t->call = images_now(images);
    if (rc == 0)
        rc = limpet_group_snap_create(client->pool, name, "together");
    t->end = images_now(images);
    for (uint32_t k = 0; k < t->n && rc == 0; k++)
        rc = read_part(t, k);
    if (rc == 0)
        judge_together(t, name);
    if (rc == 0 && images_below(images, 2) == 0)
        rc = limpet_group_snap_remove(client->pool, name, "together");
    for (uint32_t k = 0; k < t->n && rc == 0 && images_below(images, 2) == 0; k++)
        rc = limpet_group_take_out(client->pool, name, client->pool, t->ops[k]->image->name);
    return rc == 0 ? limpet_group_remove(client->pool, name) : rc;
}

void image_group_run(struct image_client *client)
{
    struct images *images = client->images;
    struct together t = {.client = client};
    if (images_have_groups(images))
        return;
    for (uint32_t i = 0; i < images->n_images; i++) {
        struct image_model *image = &images->models[i];
        if (image->state == IMAGE_THERE && !image->busy && !image->maintained)
            t.ops[t.n++] = image_op_begin(client, IMAGE_OP_GROUP, image);
    }
    if (t.n == 0)
        return;
    struct image_leaving *group = images_leave(client, true, t.ops[0]->serial);
    for (uint32_t k = 0; k < t.n; k++) {
        t.data[k] = t.ops[k]->data = calloc(GRANULES_MAX, GRANULE);
        if (!t.data[k])
            abort();
    }
    int rc = group != NULL ? group_steps(&t, group->name) : 0;
    if (group != NULL && rc == 0)
        group->used = false;
    else if (group != NULL)
        group->client = NULL;
    for (uint32_t k = 1; k < t.n; k++)
        image_op_end(t.ops[k], rc);
    if (rc != 0)
        image_op_failed(t.ops[0], rc);
    else
        image_op_end(t.ops[0], rc);
}
