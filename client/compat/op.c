/* Operations of several steps. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/compat/compat.h"

enum { FLAG_EXCLUSIVE = 1, FLAG_FAIL_OK = 2 };

static struct compat_op *create(bool reads)
{
    struct compat_op *op = calloc(1, sizeof *op);
    if (op == NULL)
        return NULL;
    op->refs = 1;
    op->reads = reads;
    op->last = &op->first;
    op->op = limpet_op_create();
    op->error = op->op == NULL ? -ENOMEM : 0;
    return op;
}

void compat_op_unref(struct compat_op *op)
{
    if (op == NULL || atomic_fetch_sub(&op->refs, 1) > 1)
        return;
    while (op->first != NULL) {
        struct compat_result *result = op->first;
        op->first = result->next;
        limpet_free(result->data);
        free(result);
    }
    limpet_op_destroy(op->op);
    free(op);
}

/* The first error stays. */
#define CHANGE(handle, step)                                                                       \
    do {                                                                                           \
        struct compat_op *made = (handle);                                                         \
        struct limpet_op *op = made->op;                                                           \
        made->steps++;                                                                             \
        made->comparing = NULL;                                                                    \
        if (made->error == 0)                                                                      \
            made->error = (step);                                                                  \
    } while (0)
/* A step that changes nothing. */
#define LOOK(handle, step)                                                                         \
    do {                                                                                           \
        ((struct compat_op *)(handle))->looks++;                                                   \
        CHANGE(handle, step);                                                                      \
    } while (0)

/* ---- Results of steps ---- */

/* The step that is about to be added tells its result there. NULL: no memory, which is noted. */
static struct compat_result *add_result(struct compat_op *op, int *told, int untold)
{
    struct compat_result *result = calloc(1, sizeof *result);
    if (result == NULL) {
        op->error = -ENOMEM;
        return NULL;
    }
    *result = (struct compat_result){.status = -ECANCELED, .told = told, .untold = untold};
    *op->last = result;
    op->last = &result->next;
    return result;
}

/* For steps that give nothing but a result. */
static int *add_status(struct compat_op *op, int *told)
{
    struct compat_result *result = add_result(op, told, 0);
    return result != NULL ? &result->status : NULL;
}

/* Hands bytes over, or copies them. -ERANGE: there is no room for them. */
static int tell_data(struct compat_result *result)
{
    size_t len = result->data != NULL ? result->len : 0;
    if (result->given != NULL) {
        *result->given = result->data;
        result->data = NULL;
    } else if (len > result->room) {
        return -ERANGE;
    } else if (len > 0) {
        memcpy(result->buf, result->data, len);
    }
    if (result->given_len != NULL)
        *result->given_len = len;
    return 0;
}

static void tell(struct compat_result *result, int status)
{
    if (status == 0)
        status = tell_data(result);
    if (result->told != NULL)
        *result->told = status;
    if (status != 0)
        return;
    if (result->size != NULL)
        *result->size = result->stat.size;
    if (result->mtime != NULL)
        *result->mtime = (time_t)(result->stat.mtime_ns / 1000000000);
    if (result->told_more != NULL)
        *result->told_more = result->more;
}

/*
 * Callers of librados see 0, or -EIO where there is nothing to be decoded, of steps after the one
 * that failed, and of all when there is no object to be read.
 */
int compat_op_finish(struct compat_op *op, int rc)
{
    bool failed = op->steps == op->looks && rc == -ENOENT;
    for (struct compat_result *result = op->first; result != NULL; result = result->next) {
        if (rc < 0 && (failed || (result->status == -ECANCELED && rc != -ECANCELED)))
            tell(result, result->untold);
        else
            tell(result, result->status);
        failed |= rc < 0 && result->status == rc;
    }
    /* A comparison that holds gives 1, which is seen when it comes last and nothing was changed. */
    bool holds = op->comparing != NULL && op->comparing->status == 0 && op->steps == op->looks;
    return rc == 0 && holds ? 1 : rc;
}

static void set_flags(struct compat_op *op, int flags)
{
    if (flags & FLAG_FAIL_OK && op->error == 0)
        op->error = limpet_op_allow_failure(op->op);
}

/* ---- Writing ---- */

EXPORT void *rados_create_write_op(void)
{
    return create(false);
}

EXPORT void rados_release_write_op(void *op)
{
    compat_op_unref(op);
}

EXPORT void rados_write_op_set_flags(void *op, int flags)
{
    set_flags(op, flags);
}

EXPORT void rados_write_op_assert_exists(void *handle)
{
    LOOK(handle, limpet_op_assert_exists(op));
}

EXPORT void rados_write_op_assert_version(void *handle, uint64_t version)
{
    LOOK(handle, limpet_op_assert_version(op, version));
}

EXPORT void rados_write_op_cmpext(void *handle, const char *buf, size_t len, uint64_t offset,
                                  int *result)
{
    LOOK(handle, limpet_op_compare(op, buf, len, offset, add_status(made, result)));
}

EXPORT void rados_write_op_create(void *handle, int exclusive, const char *category)
{
    (void)category;
    CHANGE(handle, limpet_op_create_object(op, exclusive & FLAG_EXCLUSIVE));
}

EXPORT void rados_write_op_write(void *handle, const char *buf, size_t len, uint64_t offset)
{
    CHANGE(handle, limpet_op_write(op, buf, len, offset));
}

EXPORT void rados_write_op_write_full(void *handle, const char *buf, size_t len)
{
    CHANGE(handle, limpet_op_write_full(op, buf, len));
}

EXPORT void rados_write_op_writesame(void *handle, const char *buf, size_t data_len, size_t len,
                                     uint64_t offset)
{
    CHANGE(handle, limpet_op_write_same(op, buf, data_len, len, offset));
}

EXPORT void rados_write_op_append(void *handle, const char *buf, size_t len)
{
    CHANGE(handle, limpet_op_append(op, buf, len));
}

EXPORT void rados_write_op_remove(void *handle)
{
    CHANGE(handle, limpet_op_remove(op));
}

EXPORT void rados_write_op_truncate(void *handle, uint64_t size)
{
    CHANGE(handle, limpet_op_truncate(op, size));
}

EXPORT void rados_write_op_zero(void *handle, uint64_t offset, uint64_t len)
{
    CHANGE(handle, limpet_op_zero(op, offset, len));
}

EXPORT void rados_write_op_setxattr(void *handle, const char *name, const char *value, size_t len)
{
    CHANGE(handle, limpet_op_attr_set(op, name, value, len));
}

static void compare_attr(struct compat_op *handle, const char *name, uint8_t comparison,
                         const char *value, size_t len)
{
    struct compat_result *result = add_result(handle, NULL, 0);
    if (result == NULL)
        return;
    LOOK(handle, limpet_op_attr_compare(op, name, (enum limpet_compare)comparison, value, len,
                                        &result->status));
    handle->comparing = result;
}

EXPORT void rados_write_op_cmpxattr(void *handle, const char *name, uint8_t comparison,
                                    const char *value, size_t len)
{
    compare_attr(handle, name, comparison, value, len);
}

EXPORT void rados_write_op_rmxattr(void *handle, const char *name)
{
    CHANGE(handle, limpet_op_attr_remove(op, name));
}

EXPORT void rados_write_op_exec(void *handle, const char *class, const char *method,
                                const char *input, size_t len, int *result)
{
    char name[256];
    snprintf(name, sizeof name, "%s.%s", class, method);
    CHANGE(handle, limpet_op_call(op, name, input, len, NULL, NULL, add_status(made, result)));
}

EXPORT void rados_write_op_set_alloc_hint2(void *handle, uint64_t size, uint64_t write_size,
                                           uint32_t flags)
{
    (void)flags; /* Of how it will be used, which changes nothing. */
    CHANGE(handle, limpet_op_hint(op, size, write_size));
}

EXPORT void rados_write_op_set_alloc_hint(void *handle, uint64_t size, uint64_t write_size)
{
    rados_write_op_set_alloc_hint2(handle, size, write_size, 0);
}

EXPORT void rados_write_op_omap_clear(void *handle)
{
    CHANGE(handle, limpet_op_omap_clear(op));
}

/* Pairs of keys, which end with a zero if `key_lens` is NULL; without values if `values` is. */
static struct limpet_pair *make_pairs(char const *const *keys, const size_t *key_lens,
                                      char const *const *values, const size_t *lens, size_t n)
{
    struct limpet_pair *pairs = calloc(n + 1, sizeof *pairs);
    for (size_t i = 0; pairs != NULL && i < n; i++) {
        pairs[i].key = keys[i];
        pairs[i].key_len = key_lens != NULL ? key_lens[i] : strlen(keys[i]);
        pairs[i].value = values != NULL ? values[i] : NULL;
        pairs[i].value_len = values != NULL ? lens[i] : 0;
    }
    return pairs;
}

EXPORT void rados_write_op_omap_set2(void *handle, char const *const *keys,
                                     char const *const *values, const size_t *key_lens,
                                     const size_t *lens, size_t n)
{
    struct limpet_pair *pairs = make_pairs(keys, key_lens, values, lens, n);
    CHANGE(handle, pairs != NULL ? limpet_op_omap_set(op, pairs, n) : -ENOMEM);
    free(pairs);
}

EXPORT void rados_write_op_omap_set(void *handle, char const *const *keys,
                                    char const *const *values, const size_t *lens, size_t n)
{
    rados_write_op_omap_set2(handle, keys, values, NULL, lens, n);
}

EXPORT void rados_write_op_omap_rm_keys2(void *handle, char const *const *keys,
                                         const size_t *key_lens, size_t n)
{
    struct limpet_pair *pairs = make_pairs(keys, key_lens, NULL, NULL, n);
    CHANGE(handle, pairs != NULL ? limpet_op_omap_remove(op, pairs, n) : -ENOMEM);
    free(pairs);
}

EXPORT void rados_write_op_omap_rm_keys(void *handle, char const *const *keys, size_t n)
{
    rados_write_op_omap_rm_keys2(handle, keys, NULL, n);
}

EXPORT void rados_write_op_omap_rm_range2(void *handle, const char *from, size_t from_len,
                                          const char *to, size_t to_len)
{
    CHANGE(handle, limpet_op_omap_remove_range(op, from, from_len, to, to_len));
}

static void compare_pair(struct compat_op *handle, const char *key, size_t key_len,
                         uint8_t comparison, const char *value, size_t len, int *result)
{
    struct limpet_pair pair = {key, key_len, value, len};
    LOOK(handle, limpet_op_omap_compare(op, &pair, (enum limpet_compare)comparison,
                                        add_status(made, result)));
}

EXPORT void rados_write_op_omap_cmp2(void *handle, const char *key, uint8_t comparison,
                                     const char *value, size_t key_len, size_t len, int *result)
{
    compare_pair(handle, key, key_len, comparison, value, len, result);
}

EXPORT void rados_write_op_omap_cmp(void *handle, const char *key, uint8_t comparison,
                                    const char *value, size_t len, int *result)
{
    compare_pair(handle, key, strlen(key), comparison, value, len, result);
}

static void set_time(struct compat_op *op, const time_t *mtime)
{
    if (mtime != NULL && op->error == 0)
        limpet_op_set_mtime(op->op, (uint64_t)*mtime * 1000000000);
}

/* One without steps is done at once, whatever the object. */
static int operate(struct compat_op *op, struct compat_ioctx *io, const char *object)
{
    if (op->steps == 0 && op->error == 0)
        return 0;
    struct limpet_op *steps = op->op;
    op->op = NULL;
    int rc = compat_op_finish(op, compat_run(io, object, steps, op->error));
    op->error = -EINVAL; /* An operation is run once. */
    return rc;
}

EXPORT int rados_write_op_operate(void *handle, void *io, const char *object, time_t *mtime,
                                  int flags)
{
    (void)flags;
    set_time(handle, mtime);
    return operate(handle, io, object);
}

EXPORT int rados_write_op_operate2(void *handle, void *io, const char *object,
                                   struct timespec *mtime, int flags)
{
    struct compat_op *op = handle;
    (void)flags;
    if (mtime != NULL && op->error == 0)
        limpet_op_set_mtime(op->op,
                            (uint64_t)mtime->tv_sec * 1000000000 + (uint64_t)mtime->tv_nsec);
    return operate(op, io, object);
}

/* ---- Reading ---- */

EXPORT void *rados_create_read_op(void)
{
    return create(true);
}

EXPORT void rados_release_read_op(void *op)
{
    compat_op_unref(op);
}

EXPORT void rados_read_op_set_flags(void *op, int flags)
{
    set_flags(op, flags);
}

EXPORT void rados_read_op_assert_exists(void *handle)
{
    LOOK(handle, limpet_op_assert_exists(op));
}

EXPORT void rados_read_op_assert_version(void *handle, uint64_t version)
{
    LOOK(handle, limpet_op_assert_version(op, version));
}

EXPORT void rados_read_op_cmpxattr(void *handle, const char *name, uint8_t comparison,
                                   const char *value, size_t len)
{
    compare_attr(handle, name, comparison, value, len);
}

EXPORT void rados_read_op_omap_cmp2(void *handle, const char *key, uint8_t comparison,
                                    const char *value, size_t key_len, size_t len, int *result)
{
    compare_pair(handle, key, key_len, comparison, value, len, result);
}

EXPORT void rados_read_op_omap_cmp(void *handle, const char *key, uint8_t comparison,
                                   const char *value, size_t len, int *result)
{
    compare_pair(handle, key, strlen(key), comparison, value, len, result);
}

EXPORT void rados_read_op_stat(void *handle, uint64_t *size, time_t *mtime, int *told)
{
    struct compat_result *result = add_result(handle, told, -EIO);
    if (result == NULL)
        return;
    result->size = size;
    result->mtime = mtime;
    LOOK(handle, limpet_op_stat(op, &result->stat, &result->status));
}

/* The iterator is the user's from now on. */
EXPORT void rados_read_op_getxattrs(void *handle, void **out, int *told)
{
    struct compat_attr_iter *iter = calloc(1, sizeof *iter);
    struct compat_result *result = add_result(handle, told, -EIO);
    *out = iter;
    if (iter == NULL)
        ((struct compat_op *)handle)->error = -ENOMEM;
    else if (result != NULL)
        LOOK(handle, limpet_op_attr_list(op, &iter->pairs, &result->status));
}

EXPORT void rados_read_op_cmpext(void *handle, const char *buf, size_t len, uint64_t offset,
                                 int *result)
{
    LOOK(handle, limpet_op_compare(op, buf, len, offset, add_status(made, result)));
}

EXPORT void rados_read_op_read(void *handle, uint64_t offset, size_t len, char *buf, size_t *got,
                               int *result)
{
    LOOK(handle, limpet_op_read(op, buf, len, offset, got, add_status(made, result)));
}

EXPORT void rados_read_op_checksum(void *handle, int type, const char *init, size_t init_len,
                                   uint64_t offset, size_t len, size_t chunk, char *buf,
                                   size_t room, int *told)
{
    struct compat_result *result = add_result(handle, told, 0);
    uint64_t value = 0;
    int rc = compat_checksum_begin(type, init, init_len, &value);
    if (result == NULL)
        return;
    result->buf = buf;
    result->room = room;
    LOOK(handle,
         rc != 0 || chunk > UINT32_MAX
             ? -EINVAL
             : limpet_op_checksum(op, (enum limpet_checksum)type, value, offset, len,
                                  (uint32_t)chunk, &result->data, &result->len, &result->status));
}

static void add_call(struct compat_op *handle, const char *class, const char *method,
                     const char *input, size_t len, struct compat_result *result)
{
    char name[256];
    snprintf(name, sizeof name, "%s.%s", class, method);
    if (result->given != NULL)
        *result->given = NULL;
    if (result->given_len != NULL)
        *result->given_len = 0;
    LOOK(handle,
         limpet_op_call(op, name, input, len, &result->data, &result->len, &result->status));
}

/* What it gives is released with rados_buffer_free(). */
EXPORT void rados_read_op_exec(void *handle, const char *class, const char *method,
                               const char *input, size_t len, char **out, size_t *out_len,
                               int *told)
{
    struct compat_result *result = add_result(handle, told, 0);
    if (result == NULL)
        return;
    result->given = out;
    result->given_len = out_len;
    add_call(handle, class, method, input, len, result);
}

EXPORT void rados_read_op_exec_user_buf(void *handle, const char *class, const char *method,
                                        const char *input, size_t len, char *buf, size_t room,
                                        size_t *used, int *told)
{
    struct compat_result *result = add_result(handle, told, 0);
    if (result == NULL)
        return;
    result->buf = buf;
    result->room = room;
    result->given_len = used;
    add_call(handle, class, method, input, len, result);
}

/* The iterator is the user's from now on. NULL: no memory, which is noted. */
static struct compat_omap_iter *add_iter(struct compat_op *op, void **out)
{
    struct compat_omap_iter *iter = calloc(1, sizeof *iter);
    if (iter == NULL)
        op->error = -ENOMEM;
    *out = iter;
    return iter;
}

static void list_pairs(struct compat_op *handle, const char *after, const char *prefix,
                       uint64_t max, bool keys_only, void **out, unsigned char *more, int *told)
{
    struct compat_omap_iter *iter = add_iter(handle, out);
    struct compat_result *result = add_result(handle, told, -EIO);
    const char *from = after != NULL ? after : "", *with = prefix != NULL ? prefix : "";
    if (iter == NULL || result == NULL)
        return;
    iter->keys_only = keys_only;
    result->told_more = more;
    LOOK(handle, limpet_op_omap_list(op, from, strlen(from), with, strlen(with), max, &iter->pairs,
                                     &result->more, &result->status));
}

EXPORT void rados_read_op_omap_get_vals2(void *handle, const char *after, const char *prefix,
                                         uint64_t max, void **out, unsigned char *more, int *result)
{
    list_pairs(handle, after, prefix, max, false, out, more, result);
}

EXPORT void rados_read_op_omap_get_keys2(void *handle, const char *after, uint64_t max, void **out,
                                         unsigned char *more, int *result)
{
    list_pairs(handle, after, "", max, true, out, more, result);
}

EXPORT void rados_read_op_omap_get_vals(void *handle, const char *after, const char *prefix,
                                        uint64_t max, void **out, int *result)
{
    list_pairs(handle, after, prefix, max, false, out, NULL, result);
}

EXPORT void rados_read_op_omap_get_keys(void *handle, const char *after, uint64_t max, void **out,
                                        int *result)
{
    list_pairs(handle, after, "", max, true, out, NULL, result);
}

static int compare_keys(const void *a, const void *b)
{
    const struct limpet_pair *left = a, *right = b;
    size_t len = left->key_len < right->key_len ? left->key_len : right->key_len;
    int order = len > 0 ? memcmp(left->key, right->key, len) : 0;
    if (order != 0)
        return order;
    return (left->key_len > right->key_len) - (left->key_len < right->key_len);
}

/* In order, and each of them once. Returns how many are left. */
static size_t make_set(struct limpet_pair *pairs, size_t n)
{
    size_t left = 0;
    if (n > 0)
        qsort(pairs, n, sizeof *pairs, compare_keys);
    for (size_t i = 0; i < n; i++) {
        if (left == 0 || compare_keys(&pairs[left - 1], &pairs[i]) != 0)
            pairs[left++] = pairs[i];
    }
    return left;
}

EXPORT void rados_read_op_omap_get_vals_by_keys2(void *handle, char const *const *keys, size_t n,
                                                 const size_t *key_lens, void **out, int *told)
{
    struct compat_omap_iter *iter = add_iter(handle, out);
    struct compat_result *result = add_result(handle, told, -EIO);
    struct limpet_pair *pairs = make_pairs(keys, key_lens, NULL, NULL, n);
    n = pairs != NULL ? make_set(pairs, n) : 0;
    if (iter != NULL && result != NULL)
        LOOK(handle, pairs != NULL ? limpet_op_omap_get(op, pairs, n, &iter->pairs, &result->status)
                                   : -ENOMEM);
    free(pairs);
}

EXPORT void rados_read_op_omap_get_vals_by_keys(void *handle, char const *const *keys, size_t n,
                                                void **out, int *told)
{
    rados_read_op_omap_get_vals_by_keys2(handle, keys, n, NULL, out, told);
}

EXPORT int rados_read_op_operate(void *handle, void *io, const char *object, int flags)
{
    (void)flags;
    return operate(handle, io, object);
}

/* ---- What a reading operation gave ---- */

EXPORT int rados_omap_get_next2(void *iterator, char **key, char **value, size_t *key_len,
                                size_t *len)
{
    struct compat_omap_iter *iter = iterator;
    struct limpet_pair pair;
    if (key != NULL)
        *key = NULL;
    if (value != NULL)
        *value = NULL;
    if (key_len != NULL)
        *key_len = 0;
    if (len != NULL)
        *len = 0;
    if (iter->pairs == NULL || limpet_pairs_next(iter->pairs, &pair) != 0)
        return 0;
    free(iter->key);
    iter->key = malloc(pair.key_len + 1);
    if (iter->key == NULL)
        return -ENOMEM;
    memcpy(iter->key, pair.key, pair.key_len);
    iter->key[pair.key_len] = 0;
    if (key_len != NULL)
        *key_len = pair.key_len;
    if (key != NULL)
        *key = iter->key;
    if (value != NULL)
        *value = (char *)(uintptr_t)pair.value;
    if (len != NULL)
        *len = iter->keys_only ? 0 : pair.value_len;
    return 0;
}

EXPORT int rados_omap_get_next(void *iterator, char **key, char **value, size_t *len)
{
    return rados_omap_get_next2(iterator, key, value, NULL, len);
}

/* Of all that it was made with. */
EXPORT unsigned rados_omap_iter_size(void *iterator)
{
    const struct compat_omap_iter *iter = iterator;
    return iter->pairs != NULL ? (unsigned)limpet_pairs_count(iter->pairs) : 0;
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
