/*
 * Walks over the objects of a pool, group by group, in the order of reversed hashes: that order
 * stays the same when groups are split, so that a cursor - the last object seen - stays valid.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/library_private.h"
#include "placement/hash.h"

enum { LIST_BATCH = 1000 };

struct limpet_list {
    struct limpet_pool *pool;
    bool all_namespaces;
    char space[LIMPET_OBJECT_SPACE_MAX + 1];

    uint32_t position; /* Reversed hash from which the next group is found. */
    bool end;          /* No group follows. */
    uint8_t *after;    /* Encoded object_id of the last one fetched from this group; or NULL. */
    size_t after_len;

    struct buf_slice batch;
    struct decoder decoder;
    uint32_t left;  /* Objects in the batch that were not looked at. */
    bool batch_end; /* The group has no more after this batch. */

    struct object_id last; /* The last one given to the caller: strings in `strings`. */
    bool has_last;
    char *strings; /* Name and namespace, each with a zero after it. */
};

int limpet_list_open(struct limpet_pool *pool, bool all_namespaces, struct limpet_list **out)
{
    struct limpet_list *list = calloc(1, sizeof *list);
    if (list == NULL)
        return -ENOMEM;
    list->pool = pool;
    list->all_namespaces = all_namespaces;
    memcpy(list->space, pool->space, sizeof list->space);
    list->strings = malloc(OBJECT_NAME_MAX + OBJECT_NAMESPACE_MAX + 2);
    if (list->strings == NULL) {
        free(list);
        return -ENOMEM;
    }
    *out = list;
    return 0;
}

/* ---- Fetching ---- */

static int pool_pg_num(struct limpet_list *list, uint32_t *pg_num)
{
    struct limpet_cluster *c = list->pool->cluster;
    int rc = -ENOTCONN;
    pthread_mutex_lock(&c->lock);
    if (c->client != NULL) {
        const struct map_pool *pool = map_pool(client_map(c->client), list->pool->id);
        rc = pool != NULL ? 0 : -ENOENT;
        if (pool != NULL)
            *pg_num = pool->pg_num;
    }
    pthread_mutex_unlock(&c->lock);
    return rc == -ENOENT ? -ESTALE : rc;
}

static void drop_batch(struct limpet_list *list)
{
    struct limpet_cluster *c = list->pool->cluster;
    if (list->batch.buf == NULL)
        return;
    /* The memory belongs to the loop, whose counts are not atomic. */
    pthread_mutex_lock(&c->lock);
    buf_slice_drop(&list->batch);
    pthread_mutex_unlock(&c->lock);
    list->left = 0;
}

static int remember(struct limpet_list *list, const struct object_id *id)
{
    struct encoder e;
    encoder_init(&e);
    encode_object_id(&e, id);
    free(list->after);
    list->after = encoder_take(&e, &list->after_len);
    return list->after != NULL ? 0 : -ENOMEM;
}

static void forget(struct limpet_list *list)
{
    free(list->after);
    list->after = NULL;
    list->after_len = 0;
}

/* The batch is checked to its end before anything of it is used. */
static int check_batch(struct limpet_list *list)
{
    struct decoder d;
    decoder_init(&d, list->batch.data, list->batch.len);
    uint32_t n = decode_u32(&d);
    struct object_id id = {0};
    for (uint32_t i = 0; i < n && !d.failed; i++)
        decode_object_id(&d, &id);
    uint8_t end = decode_u8(&d);
    if (decoder_end(&d) != 0 || (n == 0 && end == 0))
        return -EPROTO;
    decoder_init(&list->decoder, list->batch.data, list->batch.len);
    list->left = decode_u32(&list->decoder);
    list->batch_end = end != 0;
    return n > 0 ? remember(list, &id) : 0;
}

static int fetch(struct limpet_list *list, uint32_t seed)
{
    struct request r;
    request_init(&r);
    r.op.pg_op = true;
    r.op.pg_seed = seed;
    r.op.object = (struct object_id){
        .pool = list->pool->id,
        .hash = object_hash_reverse(list->position),
        .snap = OBJECT_HEAD,
    };
    int rc = request_add_data(&r, WIRE_OP_CODE_LIST, 0, list->after, list->after_len);
    if (rc != 0)
        return rc;
    r.op.steps[0].length = LIST_BATCH;
    rc = (int)request_run(&r, list->pool->cluster);
    list->batch = r.op.steps[0].data;
    if (rc == 0)
        rc = check_batch(list);
    if (rc != 0)
        drop_batch(list);
    return rc;
}

/* Fetches from the group at the position; goes on to the next one when it has no more. */
static int advance(struct limpet_list *list)
{
    drop_batch(list);
    uint32_t pg_num, first, last;
    int rc = pool_pg_num(list, &pg_num);
    if (rc != 0)
        return rc;
    uint32_t seed = stable_mod(object_hash_reverse(list->position), pg_num);
    if (list->batch_end) {
        pg_hash_range(seed, pg_num, &first, &last);
        forget(list);
        list->batch_end = false;
        list->end = last == UINT32_MAX;
        if (list->end)
            return 0;
        list->position = last + 1;
        seed = stable_mod(object_hash_reverse(list->position), pg_num);
    }
    rc = fetch(list, seed);
    /* Only a pool that is gone has no such group. */
    return rc == -ENOENT ? -ESTALE : rc;
}

static bool wanted(const struct limpet_list *list, const struct object_id *id)
{
    if (id->snap != OBJECT_HEAD)
        return false;
    if (list->all_namespaces)
        return true;
    size_t len = strlen(list->space);
    return id->space_len == len && memcmp(id->space, list->space, len) == 0;
}

static void give(struct limpet_list *list, const struct object_id *id,
                 struct limpet_list_entry *out)
{
    char *name = list->strings, *space = list->strings + id->name_len + 1;
    memcpy(name, id->name, id->name_len);
    name[id->name_len] = 0;
    if (id->space_len > 0)
        memcpy(space, id->space, id->space_len);
    space[id->space_len] = 0;
    list->last = *id;
    list->last.name = (const uint8_t *)name;
    list->last.space = (const uint8_t *)space;
    list->has_last = true;
    *out = (struct limpet_list_entry){
        .name = name, .name_len = id->name_len, .space = space, .space_len = id->space_len};
}

int limpet_list_next(struct limpet_list *list, struct limpet_list_entry *out)
{
    while (!list->end || list->left > 0) {
        if (list->left == 0) {
            int rc = advance(list);
            if (rc != 0)
                return rc;
            continue;
        }
        struct object_id id;
        list->left--;
        decode_object_id(&list->decoder, &id);
        if (wanted(list, &id)) {
            give(list, &id, out);
            return 0;
        }
    }
    return -ENOENT;
}

/* ---- Cursors: "begin", "end", or the encoded object in hexadecimal ---- */

static char *hex_of(const uint8_t *bytes, size_t len)
{
    char *text = malloc(2 * len + 1);
    for (size_t i = 0; text != NULL && i < len; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return text;
}

int limpet_list_cursor(struct limpet_list *list, char **cursor)
{
    if (list->has_last) {
        struct encoder e;
        encoder_init(&e);
        encode_object_id(&e, &list->last);
        *cursor = e.failed ? NULL : hex_of(e.data, e.len);
        encoder_fini(&e);
    } else {
        *cursor = strdup(list->end ? "end" : "begin");
    }
    return *cursor != NULL ? 0 : -ENOMEM;
}

static void rewind_list(struct limpet_list *list)
{
    drop_batch(list);
    forget(list);
    list->batch_end = false;
    list->position = 0;
    list->end = false;
    list->has_last = false;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int bytes_of(const char *text, uint8_t *bytes, size_t size, size_t *len)
{
    size_t n = strlen(text);
    if (n % 2 != 0 || n / 2 > size)
        return -EINVAL;
    for (size_t i = 0; i < n; i += 2) {
        int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0)
            return -EINVAL;
        bytes[i / 2] = (uint8_t)(high << 4 | low);
    }
    *len = n / 2;
    return 0;
}

int limpet_list_seek(struct limpet_list *list, const char *cursor)
{
    if (strcmp(cursor, "begin") == 0 || strcmp(cursor, "end") == 0) {
        rewind_list(list);
        list->end = strcmp(cursor, "end") == 0;
        return 0;
    }
    uint8_t bytes[OBJECT_NAME_MAX + OBJECT_NAMESPACE_MAX + 64];
    size_t len;
    if (bytes_of(cursor, bytes, sizeof bytes, &len) != 0)
        return -EINVAL;
    struct decoder d;
    struct object_id id;
    decoder_init(&d, bytes, len);
    decode_object_id(&d, &id);
    uint32_t hash = hash_object(id.space, id.space_len, id.name, id.name_len);
    if (decoder_end(&d) != 0 || id.pool != list->pool->id || id.hash != hash)
        return -EINVAL;
    rewind_list(list);
    list->position = object_hash_reverse(id.hash);
    struct limpet_list_entry entry;
    give(list, &id, &entry);
    return remember(list, &id);
}

void limpet_list_close(struct limpet_list *list)
{
    if (list == NULL)
        return;
    drop_batch(list);
    forget(list);
    free(list->strings);
    free(list);
}
