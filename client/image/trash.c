/*
 * The trash: images without a name, which can be had back. Moving there is: entry in the trash,
 * then the name goes. An image that has both is one that was interrupted; each step can be
 * repeated.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/manage.h"

static size_t trash_key(const char *id, char key[IMAGE_KEY_MAX])
{
    return (size_t)snprintf(key, IMAGE_KEY_MAX, IMAGE_KEY_ID "%.32s", id);
}

static int put(struct limpet_pool *pool, const char *id, const struct image_trash *trash)
{
    char key[IMAGE_KEY_MAX];
    struct encoder e;
    struct limpet_op *op = limpet_op_create();
    encoder_init(&e);
    image_trash_encode(&e, trash);
    size_t len = trash_key(id, key);
    struct limpet_pair pair = {.key = key, .key_len = len, .value = e.data, .value_len = e.len};
    int rc = op == NULL || e.failed ? -ENOMEM : limpet_op_omap_set(op, &pair, 1);
    if (op != NULL)
        limpet_op_full_try(op);
    if (rc == 0)
        rc = limpet_operate(pool, IMAGE_TRASH, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    encoder_fini(&e);
    return rc;
}

static int check_group(struct limpet_pool *pool, const char *id)
{
    struct header header;
    int rc = header_read(pool, id, &header);
    if (rc == 0 && header.core.has_group)
        rc = -EMLINK;
    header_fini(&header);
    return rc;
}

int limpet_image_trash_move(struct limpet_pool *pool, const char *name, uint64_t delay_s)
{
    char id[LIMPET_IMAGE_ID_MAX + 1];
    struct image_trash trash = {.deleted_ns = image_now_ns()};
    int rc = directory_id(pool, IMAGE_DIRECTORY, name, id);
    if (rc == 0)
        rc = check_group(pool, id);
    if (rc == 0)
        rc = image_check_closed(pool, id);
    if (rc != 0)
        return rc;
    uint64_t most = (UINT64_MAX - trash.deleted_ns) / 1000000000u;
    trash.deferred_until_ns =
        trash.deleted_ns + (delay_s < most ? delay_s : most) * UINT64_C(1000000000);
    snprintf(trash.name, sizeof trash.name, "%.255s", name);
    rc = put(pool, id, &trash);
    return rc == 0 ? directory_remove(pool, IMAGE_DIRECTORY, name, id) : rc;
}

static void describe(const char *id, const struct image_trash *trash,
                     struct limpet_image_trash *out)
{
    memset(out, 0, sizeof *out);
    snprintf(out->id, sizeof out->id, "%.32s", id);
    memcpy(out->name, trash->name, sizeof out->name);
    out->deleted_ns = trash->deleted_ns;
    out->deferred_until_ns = trash->deferred_until_ns;
}

int limpet_image_trash_get(struct limpet_pool *pool, const char *id, struct limpet_image_trash *out)
{
    char key[IMAGE_KEY_MAX], *value;
    size_t len;
    struct image_trash trash;
    trash_key(id, key);
    int rc = omap_get(pool, IMAGE_TRASH, key, &value, &len);
    if (rc != 0)
        return rc;
    rc = image_trash_decode(value, len, &trash);
    free(value);
    if (rc == 0)
        describe(id, &trash, out);
    return rc;
}

struct trash_list {
    struct limpet_image_trash *list;
    size_t n;
};

static int add_entry(const struct limpet_pair *pair, void *arg)
{
    struct trash_list *list = arg;
    struct image_trash trash;
    char id[LIMPET_IMAGE_ID_MAX + 1] = "";
    size_t len = pair->key_len - 2;
    int rc = len <= LIMPET_IMAGE_ID_MAX ? image_trash_decode(pair->value, pair->value_len, &trash)
                                        : -EBADMSG;
    if (rc != 0)
        return rc;
    struct limpet_image_trash *more = realloc(list->list, (list->n + 1) * sizeof *more);
    if (more == NULL)
        return -ENOMEM;
    list->list = more;
    memcpy(id, (const char *)pair->key + 2, len);
    describe(id, &trash, &more[list->n++]);
    return 0;
}

int limpet_image_trash_list(struct limpet_pool *pool, struct limpet_image_trash **out, size_t *n)
{
    struct trash_list list = {0};
    int rc = omap_walk(pool, IMAGE_TRASH, IMAGE_KEY_ID, add_entry, &list);
    if (rc != 0) {
        free(list.list);
        return rc;
    }
    *out = list.list;
    *n = list.n;
    return 0;
}

static int forget(struct limpet_pool *pool, const char *id)
{
    char key[IMAGE_KEY_MAX];
    size_t len = trash_key(id, key);
    return omap_remove(pool, IMAGE_TRASH, key, len);
}

int limpet_image_trash_restore(struct limpet_pool *pool, const char *id, const char *name)
{
    struct limpet_image_trash trash;
    char there[LIMPET_IMAGE_ID_MAX + 1];
    int rc = limpet_image_trash_get(pool, id, &trash);
    if (name == NULL)
        name = trash.name;
    if (rc == 0)
        rc = image_check_name(name);
    if (rc == 0)
        rc = directory_add(pool, IMAGE_DIRECTORY, name, id);
    /* It was interrupted here before. */
    if (rc == -EEXIST && directory_id(pool, IMAGE_DIRECTORY, name, there) == 0 &&
        strcmp(there, id) == 0)
        rc = 0;
    return rc == 0 ? forget(pool, id) : rc;
}

int limpet_image_trash_remove(struct limpet_pool *pool, const char *id, bool force,
                              limpet_image_progress progress, void *arg)
{
    struct limpet_image_trash trash;
    char name[LIMPET_IMAGE_NAME_MAX + 1];
    int rc = limpet_image_trash_get(pool, id, &trash);
    if (rc == 0 && !force && trash.deferred_until_ns > image_now_ns())
        rc = -EPERM;
    if (rc == 0)
        rc = image_remove_id(pool, id, progress, arg);
    /* Moving it there was interrupted. */
    if (rc == 0 && directory_name(pool, IMAGE_DIRECTORY, id, name) == 0)
        rc = directory_remove(pool, IMAGE_DIRECTORY, name, id);
    return rc == 0 ? forget(pool, id) : rc;
}

/* Removes those that can be; 0, or why one could not be: those that are in use do not stop it. */
static int purge_once(struct limpet_pool *pool, struct limpet_image_trash *list, size_t *n)
{
    int in_the_way = 0;
    size_t left = 0;
    for (size_t i = 0; i < *n; i++) {
        int rc = limpet_image_trash_remove(pool, list[i].id, true, NULL, NULL);
        if (rc == -EBUSY || rc == -ENOTEMPTY || rc == -EMLINK) {
            in_the_way = rc;
            list[left++] = list[i];
        } else if (rc != 0 && rc != -ENOENT) {
            return rc;
        }
    }
    *n = left;
    return in_the_way;
}

int limpet_image_trash_purge(struct limpet_pool *pool, uint64_t until_ns)
{
    struct limpet_image_trash *list;
    size_t n, due = 0, before;
    int rc = limpet_image_trash_list(pool, &list, &n);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < n; i++) {
        if (list[i].deferred_until_ns <= until_ns)
            list[due++] = list[i];
    }
    /* A clone that goes lets its parent go. */
    do {
        before = due;
        rc = purge_once(pool, list, &due);
    } while (due > 0 && due < before);
    limpet_free(list);
    return rc;
}
