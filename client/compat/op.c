/* Operations of several steps. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/compat/compat.h"

enum { FLAG_EXCLUSIVE = 1, FLAG_FAIL_OK = 2 };

static struct compat_op *create(void)
{
    struct compat_op *op = calloc(1, sizeof *op);
    if (op == NULL)
        return NULL;
    op->op = limpet_op_create();
    op->error = op->op == NULL ? -ENOMEM : 0;
    return op;
}

static void release(struct compat_op *op)
{
    if (op == NULL)
        return;
    limpet_op_destroy(op->op);
    free(op->iters);
    free(op);
}

/* The first error stays. */
#define ADD(handle, step)                                                                          \
    do {                                                                                           \
        struct compat_op *made = (handle);                                                         \
        struct limpet_op *op = made->op;                                                           \
        if (made->error == 0)                                                                      \
            made->error = (step);                                                                  \
    } while (0)

static void set_flags(struct compat_op *op, int flags)
{
    if (flags & FLAG_FAIL_OK && op->error == 0)
        op->error = limpet_op_allow_failure(op->op);
}

/* ---- Writing ---- */

EXPORT void *rados_create_write_op(void)
{
    return create();
}

EXPORT void rados_release_write_op(void *op)
{
    release(op);
}

EXPORT void rados_write_op_set_flags(void *op, int flags)
{
    set_flags(op, flags);
}

EXPORT void rados_write_op_assert_exists(void *handle)
{
    ADD(handle, limpet_op_assert_exists(op));
}

EXPORT void rados_write_op_assert_version(void *handle, uint64_t version)
{
    ADD(handle, limpet_op_assert_version(op, version));
}

EXPORT void rados_write_op_cmpext(void *handle, const char *buf, size_t len, uint64_t offset,
                                  int *result)
{
    ADD(handle, limpet_op_compare(op, buf, len, offset, result));
}

EXPORT void rados_write_op_create(void *handle, int exclusive, const char *category)
{
    (void)category;
    ADD(handle, limpet_op_create_object(op, exclusive & FLAG_EXCLUSIVE));
}

EXPORT void rados_write_op_write(void *handle, const char *buf, size_t len, uint64_t offset)
{
    ADD(handle, limpet_op_write(op, buf, len, offset));
}

EXPORT void rados_write_op_write_full(void *handle, const char *buf, size_t len)
{
    ADD(handle, limpet_op_write_full(op, buf, len));
}

EXPORT void rados_write_op_writesame(void *handle, const char *buf, size_t data_len, size_t len,
                                     uint64_t offset)
{
    ADD(handle, limpet_op_write_same(op, buf, data_len, len, offset));
}

EXPORT void rados_write_op_append(void *handle, const char *buf, size_t len)
{
    ADD(handle, limpet_op_append(op, buf, len));
}

EXPORT void rados_write_op_remove(void *handle)
{
    ADD(handle, limpet_op_remove(op));
}

EXPORT void rados_write_op_truncate(void *handle, uint64_t size)
{
    ADD(handle, limpet_op_truncate(op, size));
}

EXPORT void rados_write_op_zero(void *handle, uint64_t offset, uint64_t len)
{
    ADD(handle, limpet_op_zero(op, offset, len));
}

EXPORT void rados_write_op_setxattr(void *handle, const char *name, const char *value, size_t len)
{
    ADD(handle, limpet_op_attr_set(op, name, value, len));
}

EXPORT void rados_write_op_rmxattr(void *handle, const char *name)
{
    ADD(handle, limpet_op_attr_remove(op, name));
}

EXPORT void rados_write_op_exec(void *handle, const char *class, const char *method,
                                const char *input, size_t len, int *result)
{
    char name[256];
    snprintf(name, sizeof name, "%s.%s", class, method);
    ADD(handle, limpet_op_call(op, name, input, len, NULL, NULL, result));
}

EXPORT void rados_write_op_omap_clear(void *handle)
{
    ADD(handle, limpet_op_omap_clear(op));
}

/* Pairs of keys that end with a zero; without values if `values` is NULL. */
static struct limpet_pair *make_pairs(char const *const *keys, char const *const *values,
                                      const size_t *lens, size_t n)
{
    struct limpet_pair *pairs = calloc(n + 1, sizeof *pairs);
    for (size_t i = 0; pairs != NULL && i < n; i++) {
        pairs[i].key = keys[i];
        pairs[i].key_len = strlen(keys[i]);
        pairs[i].value = values != NULL ? values[i] : NULL;
        pairs[i].value_len = values != NULL ? lens[i] : 0;
    }
    return pairs;
}

EXPORT void rados_write_op_omap_set(void *handle, char const *const *keys,
                                    char const *const *values, const size_t *lens, size_t n)
{
    struct limpet_pair *pairs = make_pairs(keys, values, lens, n);
    ADD(handle, pairs != NULL ? limpet_op_omap_set(op, pairs, n) : -ENOMEM);
    free(pairs);
}

EXPORT void rados_write_op_omap_rm_keys(void *handle, char const *const *keys, size_t n)
{
    struct limpet_pair *pairs = make_pairs(keys, NULL, NULL, n);
    ADD(handle, pairs != NULL ? limpet_op_omap_remove(op, pairs, n) : -ENOMEM);
    free(pairs);
}

EXPORT void rados_write_op_omap_rm_range2(void *handle, const char *from, size_t from_len,
                                          const char *to, size_t to_len)
{
    ADD(handle, limpet_op_omap_remove_range(op, from, from_len, to, to_len));
}

EXPORT void rados_write_op_omap_cmp(void *handle, const char *key, uint8_t comparison,
                                    const char *value, size_t len, int *result)
{
    struct limpet_pair pair = {key, strlen(key), value, len};
    /* What it gives is known as soon as the operation ends; a place of its own it has not. */
    if (result != NULL)
        *result = 0;
    ADD(handle, limpet_op_omap_compare(op, &pair, (enum limpet_compare)comparison));
}

static void set_time(struct compat_op *op, const time_t *mtime)
{
    if (mtime != NULL && op->error == 0)
        limpet_op_set_mtime(op->op, (uint64_t)*mtime * 1000000000);
}

EXPORT int rados_write_op_operate(void *handle, void *io, const char *object, time_t *mtime,
                                  int flags)
{
    struct compat_op *op = handle;
    (void)flags;
    set_time(op, mtime);
    struct limpet_op *steps = op->op;
    op->op = NULL;
    int rc = compat_run(io, object, steps, op->error);
    op->error = -EINVAL; /* An operation is run once. */
    return rc;
}

/* ---- Reading ---- */

EXPORT void *rados_create_read_op(void)
{
    return create();
}

EXPORT void rados_release_read_op(void *op)
{
    release(op);
}

EXPORT void rados_read_op_set_flags(void *op, int flags)
{
    set_flags(op, flags);
}

EXPORT void rados_read_op_assert_exists(void *handle)
{
    ADD(handle, limpet_op_assert_exists(op));
}

EXPORT void rados_read_op_cmpext(void *handle, const char *buf, size_t len, uint64_t offset,
                                 int *result)
{
    ADD(handle, limpet_op_compare(op, buf, len, offset, result));
}

EXPORT void rados_read_op_read(void *handle, uint64_t offset, size_t len, char *buf, size_t *got,
                               int *result)
{
    ADD(handle, limpet_op_read(op, buf, len, offset, got, result));
}

/* The operation and the user both know it. */
static struct compat_omap_iter *add_iter(struct compat_op *op, void **out, unsigned char *more)
{
    struct compat_omap_iter *iter = calloc(1, sizeof *iter);
    struct compat_omap_iter **iters =
        reallocarray(op->iters, op->n_iters + 1, sizeof(struct compat_omap_iter *));
    *out = iter;
    if (iters != NULL)
        op->iters = iters;
    if (iter == NULL || iters == NULL) {
        op->error = -ENOMEM;
        return NULL;
    }
    iter->told_more = more;
    op->iters[op->n_iters++] = iter;
    return iter;
}

void compat_op_finish(struct compat_op *op)
{
    for (size_t i = 0; i < op->n_iters; i++) {
        if (op->iters[i]->told_more != NULL)
            *op->iters[i]->told_more = op->iters[i]->more;
    }
    op->n_iters = 0;
}

EXPORT void rados_read_op_omap_get_vals2(void *handle, const char *after, const char *prefix,
                                         uint64_t max, void **out, unsigned char *more, int *result)
{
    struct compat_omap_iter *iter = add_iter(handle, out, more);
    const char *from = after != NULL ? after : "", *with = prefix != NULL ? prefix : "";
    if (iter != NULL)
        ADD(handle, limpet_op_omap_list(op, from, strlen(from), with, strlen(with), max,
                                        &iter->pairs, &iter->more, result));
}

EXPORT void rados_read_op_omap_get_keys2(void *handle, const char *after, uint64_t max, void **out,
                                         unsigned char *more, int *result)
{
    rados_read_op_omap_get_vals2(handle, after, "", max, out, more, result);
}

EXPORT void rados_read_op_omap_get_vals_by_keys(void *handle, char const *const *keys, size_t n,
                                                void **out, int *result)
{
    struct compat_omap_iter *iter = add_iter(handle, out, NULL);
    struct limpet_pair *pairs = make_pairs(keys, NULL, NULL, n);
    if (iter != NULL)
        ADD(handle,
            pairs != NULL ? limpet_op_omap_get(op, pairs, n, &iter->pairs, result) : -ENOMEM);
    free(pairs);
}

EXPORT int rados_read_op_operate(void *handle, void *io, const char *object, int flags)
{
    struct compat_op *op = handle;
    (void)flags;
    struct limpet_op *steps = op->op;
    op->op = NULL;
    int rc = compat_run(io, object, steps, op->error);
    compat_op_finish(op);
    op->error = -EINVAL;
    return rc;
}

/* ---- What a reading operation gave ---- */

EXPORT int rados_omap_get_next(void *iterator, char **key, char **value, size_t *len)
{
    struct compat_omap_iter *iter = iterator;
    struct limpet_pair pair;
    if (key != NULL)
        *key = NULL;
    if (value != NULL)
        *value = NULL;
    if (len != NULL)
        *len = 0;
    if (iter->pairs == NULL || limpet_pairs_next(iter->pairs, &pair) != 0)
        return 0;
    free(iter->key);
    iter->key = strndup(pair.key, pair.key_len);
    if (iter->key == NULL)
        return -ENOMEM;
    if (key != NULL)
        *key = iter->key;
    if (value != NULL)
        *value = (char *)(uintptr_t)pair.value;
    if (len != NULL)
        *len = pair.value_len;
    return 0;
}

EXPORT void rados_omap_get_end(void *iterator)
{
    struct compat_omap_iter *iter = iterator;
    if (iter == NULL)
        return;
    limpet_pairs_destroy(iter->pairs);
    free(iter->key);
    free(iter);
}
