/* Directories, and other maps of objects. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/header.h"

enum { WALK_MAX = 1024 };

static struct limpet_pair pair_of(const char *key, const char *value)
{
    return (struct limpet_pair){
        .key = key, .key_len = strlen(key), .value = value, .value_len = strlen(value)};
}

static void name_key(const char *name, char out[IMAGE_KEY_MAX])
{
    snprintf(out, IMAGE_KEY_MAX, IMAGE_KEY_NAME "%.255s", name);
}

static void id_key(const char *id, char out[IMAGE_KEY_MAX])
{
    snprintf(out, IMAGE_KEY_MAX, IMAGE_KEY_ID "%.32s", id);
}

/* Runs it and destroys it. */
static int run(struct limpet_pool *pool, const char *object, struct limpet_op *op, int rc)
{
    if (op == NULL)
        return -ENOMEM;
    if (rc == 0)
        rc = limpet_operate(pool, object, op, NULL);
    limpet_op_destroy(op);
    return rc;
}

/* ---- Maps ---- */

int omap_get(struct limpet_pool *pool, const char *object, const char *key, char **value,
             size_t *len)
{
    struct limpet_pair pair = pair_of(key, "");
    struct limpet_pairs *pairs = NULL;
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_omap_get(op, &pair, 1, &pairs, NULL) : 0;
    rc = run(pool, object, op, rc);
    if (rc == 0)
        rc = limpet_pairs_next(pairs, &pair);
    if (rc == 0) {
        *value = malloc(pair.value_len + 1);
        rc = *value != NULL ? 0 : -ENOMEM;
    }
    if (rc == 0) {
        if (pair.value_len > 0)
            memcpy(*value, pair.value, pair.value_len);
        (*value)[pair.value_len] = 0;
        *len = pair.value_len;
    }
    limpet_pairs_destroy(pairs);
    return rc;
}

int omap_remove(struct limpet_pool *pool, const char *object, const void *key, size_t key_len)
{
    struct limpet_pair pair = {.key = key, .key_len = key_len};
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_omap_remove(op, &pair, 1) : 0;
    return run(pool, object, op, rc);
}

int omap_walk(struct limpet_pool *pool, const char *object, const char *prefix, omap_visitor visit,
              void *arg)
{
    uint8_t after[LIMPET_OMAP_KEY_MAX];
    size_t after_len = 0;
    bool more = true;
    int rc = 0;
    while (more && rc == 0) {
        struct limpet_pair pair = {0};
        struct limpet_pairs *pairs = NULL;
        struct limpet_op *op = limpet_op_create();
        if (op != NULL)
            rc = limpet_op_omap_list(op, after, after_len, prefix, strlen(prefix), WALK_MAX, &pairs,
                                     &more, NULL);
        rc = run(pool, object, op, rc);
        if (rc == -ENOENT)
            return 0;
        while (rc == 0 && limpet_pairs_next(pairs, &pair) == 0) {
            after_len = pair.key_len;
            memcpy(after, pair.key, pair.key_len);
            rc = visit(&pair, arg);
        }
        limpet_pairs_destroy(pairs);
    }
    return rc;
}

/* ---- Directories ---- */

/* Nothing is what a missing key is equal to. */
static int add_compare(struct limpet_op *op, const char *key, const char *value)
{
    struct limpet_pair pair = pair_of(key, value);
    return limpet_op_omap_compare(op, &pair, LIMPET_EQUAL, NULL);
}

static int add_set(struct limpet_op *op, const char *name, const char *id)
{
    char keys[2][IMAGE_KEY_MAX];
    name_key(name, keys[0]);
    id_key(id, keys[1]);
    struct limpet_pair pairs[] = {pair_of(keys[0], id), pair_of(keys[1], name)};
    return limpet_op_omap_set(op, pairs, 2);
}

int directory_add(struct limpet_pool *pool, const char *object, const char *name, const char *id)
{
    char key[IMAGE_KEY_MAX];
    struct limpet_op *op = limpet_op_create();
    name_key(name, key);
    int rc = op != NULL ? limpet_op_create_object(op, false) : 0;
    if (op != NULL && rc == 0)
        rc = add_compare(op, key, "");
    if (op != NULL && rc == 0)
        rc = add_set(op, name, id);
    rc = run(pool, object, op, rc);
    return rc == -ECANCELED ? -EEXIST : rc;
}

int directory_remove(struct limpet_pool *pool, const char *object, const char *name, const char *id)
{
    char keys[2][IMAGE_KEY_MAX];
    name_key(name, keys[0]);
    id_key(id, keys[1]);
    struct limpet_pair pairs[] = {pair_of(keys[0], ""), pair_of(keys[1], "")};
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? add_compare(op, keys[0], id) : 0;
    if (op != NULL && rc == 0)
        rc = limpet_op_omap_remove(op, pairs, 2);
    rc = run(pool, object, op, rc);
    return rc == -ECANCELED ? -ENOENT : rc;
}

int directory_rename(struct limpet_pool *pool, const char *object, const char *name, const char *to,
                     const char *id)
{
    char keys[2][IMAGE_KEY_MAX];
    int taken = 0;
    name_key(name, keys[0]);
    name_key(to, keys[1]);
    struct limpet_pair old = pair_of(keys[0], ""), new = pair_of(keys[1], "");
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_omap_compare(op, &new, LIMPET_EQUAL, &taken) : 0;
    if (op != NULL && rc == 0)
        rc = add_compare(op, keys[0], id);
    if (op != NULL && rc == 0)
        rc = limpet_op_omap_remove(op, &old, 1);
    if (op != NULL && rc == 0)
        rc = add_set(op, to, id);
    rc = run(pool, object, op, rc);
    if (rc == -ECANCELED)
        rc = taken == -ECANCELED ? -EEXIST : -ENOENT;
    return rc;
}

static int get_text(struct limpet_pool *pool, const char *object, const char *key, char *out,
                    size_t size)
{
    char *value;
    size_t len;
    int rc = omap_get(pool, object, key, &value, &len);
    if (rc != 0)
        return rc;
    rc = len < size && memchr(value, 0, len) == NULL ? 0 : -EBADMSG;
    if (rc == 0)
        memcpy(out, value, len + 1);
    free(value);
    return rc;
}

int directory_id(struct limpet_pool *pool, const char *object, const char *name,
                 char out[LIMPET_IMAGE_ID_MAX + 1])
{
    char key[IMAGE_KEY_MAX];
    /* Its beginning may be another one's. */
    if (strnlen(name, LIMPET_IMAGE_NAME_MAX + 1) > LIMPET_IMAGE_NAME_MAX)
        return -ENOENT;
    name_key(name, key);
    return get_text(pool, object, key, out, LIMPET_IMAGE_ID_MAX + 1);
}

int directory_name(struct limpet_pool *pool, const char *object, const char *id,
                   char out[LIMPET_IMAGE_NAME_MAX + 1])
{
    char key[IMAGE_KEY_MAX];
    if (strnlen(id, LIMPET_IMAGE_ID_MAX + 1) > LIMPET_IMAGE_ID_MAX)
        return -ENOENT;
    id_key(id, key);
    return get_text(pool, object, key, out, LIMPET_IMAGE_NAME_MAX + 1);
}

struct listing {
    struct limpet_image_entry *list;
    size_t n;
};

static int add_entry(const struct limpet_pair *pair, void *arg)
{
    struct listing *listing = arg;
    size_t name_len = pair->key_len - strlen(IMAGE_KEY_NAME);
    if (name_len > LIMPET_IMAGE_NAME_MAX || pair->value_len > LIMPET_IMAGE_ID_MAX)
        return -EBADMSG;
    /* Grows by doubling: its length is a power of two whenever it is full. */
    if ((listing->n & (listing->n - 1)) == 0) {
        size_t room = listing->n == 0 ? 1 : 2 * listing->n;
        struct limpet_image_entry *more = realloc(listing->list, room * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        listing->list = more;
    }
    struct limpet_image_entry *entry = &listing->list[listing->n++];
    memset(entry, 0, sizeof *entry);
    memcpy(entry->name, (const char *)pair->key + strlen(IMAGE_KEY_NAME), name_len);
    memcpy(entry->id, pair->value, pair->value_len);
    return 0;
}

int directory_list(struct limpet_pool *pool, const char *object, struct limpet_image_entry **out,
                   size_t *n)
{
    struct listing listing = {0};
    int rc = omap_walk(pool, object, IMAGE_KEY_NAME, add_entry, &listing);
    if (rc != 0) {
        free(listing.list);
        return rc;
    }
    *out = listing.list;
    *n = listing.n;
    return 0;
}
