/* Namespaces: keys of an object in a pool's default one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/header.h"

/* A handle of the pool's default namespace. */
static int open_default(struct limpet_pool *pool, struct limpet_pool **out)
{
    return limpet_pool_open_id(limpet_pool_cluster(pool), limpet_pool_id(pool), out);
}

/* "n/" and the name; -EINVAL, -ENAMETOOLONG. */
static int space_key(const char *space, char key[IMAGE_KEY_MAX])
{
    int rc = image_check_name(space);
    if (rc == 0)
        snprintf(key, IMAGE_KEY_MAX, "%s%s", IMAGE_KEY_NAME, space);
    return rc;
}

/* Compares with what must be there, and sets what comes after it; NULL: nothing. */
static int change(struct limpet_pool *pool, const char *key, const char *before, const char *after)
{
    struct limpet_pool *here = NULL;
    struct limpet_pair old = {
        .key = key, .key_len = strlen(key), .value = before, .value_len = strlen(before)};
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? open_default(pool, &here) : -ENOMEM;
    if (rc == 0)
        rc = limpet_op_create_object(op, false);
    if (rc == 0)
        rc = limpet_op_omap_compare(op, &old, LIMPET_EQUAL, NULL);
    if (rc == 0 && after != NULL) {
        struct limpet_pair new = {
            .key = key, .key_len = strlen(key), .value = after, .value_len = strlen(after)};
        rc = limpet_op_omap_set(op, &new, 1);
    } else if (rc == 0) {
        rc = limpet_op_omap_remove(op, &old, 1);
    }
    if (rc == 0)
        rc = limpet_operate(here, IMAGE_SPACES, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    limpet_pool_close(here);
    return rc;
}

int limpet_image_space_create(struct limpet_pool *pool, const char *space)
{
    char key[IMAGE_KEY_MAX];
    int rc = space_key(space, key);
    if (rc == 0)
        rc = change(pool, key, "", "1");
    return rc == -ECANCELED ? -EEXIST : rc;
}

int limpet_image_space_exists(struct limpet_pool *pool, const char *space, bool *exists)
{
    char key[IMAGE_KEY_MAX], *value = NULL;
    size_t len;
    struct limpet_pool *here;
    *exists = false;
    int rc = space_key(space, key);
    if (rc == 0)
        rc = open_default(pool, &here);
    if (rc != 0)
        return rc;
    rc = omap_get(here, IMAGE_SPACES, key, &value, &len);
    limpet_pool_close(here);
    free(value);
    *exists = rc == 0;
    return rc == -ENOENT ? 0 : rc;
}

static int is_something(const struct limpet_pair *pair, void *arg)
{
    (void)pair;
    (void)arg;
    return -EBUSY;
}

int limpet_image_space_remove(struct limpet_pool *pool, const char *space)
{
    char key[IMAGE_KEY_MAX];
    struct limpet_pool *inside;
    int rc = space_key(space, key);
    if (rc == 0)
        rc = open_default(pool, &inside);
    if (rc != 0)
        return rc;
    rc = limpet_pool_set_namespace(inside, space);
    if (rc == 0)
        rc = omap_walk(inside, IMAGE_DIRECTORY, IMAGE_KEY_NAME, is_something, NULL);
    if (rc == 0)
        rc = omap_walk(inside, IMAGE_TRASH, IMAGE_KEY_ID, is_something, NULL);
    if (rc == 0)
        rc = omap_walk(inside, IMAGE_GROUP_DIRECTORY, IMAGE_KEY_NAME, is_something, NULL);
    limpet_pool_close(inside);
    if (rc == 0)
        rc = change(pool, key, "1", NULL);
    return rc == -ECANCELED ? -ENOENT : rc;
}

struct names {
    char **list; /* Then the names themselves, in the same memory, when it is complete. */
    size_t n, bytes;
    char *text;
};

static int add_name(const struct limpet_pair *pair, void *arg)
{
    struct names *names = arg;
    size_t len = pair->key_len - 2;
    char *text = realloc(names->text, names->bytes + len + 1);
    if (text == NULL)
        return -ENOMEM;
    memcpy(text + names->bytes, (const char *)pair->key + 2, len);
    text[names->bytes + len] = 0;
    names->text = text;
    names->bytes += len + 1;
    names->n++;
    return 0;
}

int limpet_image_space_list(struct limpet_pool *pool, char ***out)
{
    struct limpet_pool *here;
    struct names names = {0};
    int rc = open_default(pool, &here);
    if (rc != 0)
        return rc;
    rc = omap_walk(here, IMAGE_SPACES, IMAGE_KEY_NAME, add_name, &names);
    limpet_pool_close(here);
    char **list = rc == 0 ? malloc((names.n + 1) * sizeof *list + names.bytes) : NULL;
    if (rc == 0 && list == NULL)
        rc = -ENOMEM;
    if (rc == 0) {
        char *at = (char *)(list + names.n + 1);
        if (names.bytes > 0)
            memcpy(at, names.text, names.bytes);
        for (size_t i = 0; i < names.n; i++) {
            list[i] = at;
            at += strlen(at) + 1;
        }
        list[names.n] = NULL;
        *out = list;
    }
    free(names.text);
    return rc;
}
