/*
 * Walks over the objects of a pool, group by group, in the order of reversed hashes: that order
 * stays the same when groups are split, so that a cursor - the last object seen - stays valid.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/object/private.h"
#include "common/object_page.h"
#include "placement/hash.h"

enum { LIST_BATCH = 1000 };

struct limpet_list {
    struct limpet_pool *pool;
    bool all_namespaces, kept;
    char space[LIMPET_OBJECT_SPACE_MAX + 1];

    uint32_t first, last_hash; /* The slice: reversed hashes, both included. */

    uint32_t position;       /* Reversed hash from which the next group is found. */
    bool end;                /* No group of the slice follows. */
    struct object_id *after; /* Where the next page of this group goes on; NULL: its beginning. */

    struct buf_slice batch;
    struct object_page page; /* Points into the batch. */
    bool page_end;           /* The group has no more after this page. */

    struct object_id last; /* The last one given to the caller: strings in `strings`. */
    bool has_last;
    char *strings; /* Of the last one. */
};

int limpet_list_open(struct limpet_pool *pool, bool all_namespaces, struct limpet_list **out)
{
    struct limpet_list *list = calloc(1, sizeof *list);
    if (list == NULL)
        return -ENOMEM;
    list->pool = pool;
    list->all_namespaces = all_namespaces;
    memcpy(list->space, pool->space, sizeof list->space);
    list->last_hash = UINT32_MAX;
    list->strings = malloc(NAMES_BYTES);
    if (list->strings == NULL) {
        free(list);
        return -ENOMEM;
    }
    *out = list;
    return 0;
}

void limpet_list_kept(struct limpet_list *list)
{
    list->kept = true;
}

/* ---- Fetching ---- */

static int pool_pg_num(const struct limpet_pool *of, uint32_t *pg_num)
{
    struct limpet_cluster *c = of->cluster;
    int rc = -ENOTCONN;
    cluster_lock(c);
    if (c->client != NULL) {
        const struct map_pool *pool = map_pool(client_map(c->client), of->id);
        rc = pool != NULL ? 0 : -ENOENT;
        if (pool != NULL)
            *pg_num = pool->pg_num;
    }
    cluster_unlock(c);
    return rc == -ENOENT ? -ESTALE : rc;
}

static void drop_batch(struct limpet_list *list)
{
    struct limpet_cluster *c = list->pool->cluster;
    if (list->batch.buf == NULL)
        return;
    /* The memory belongs to the loop, whose counts are not atomic. */
    cluster_lock(c);
    buf_slice_drop(&list->batch);
    cluster_unlock(c);
    list->page = (struct object_page){0};
}

static int remember(struct limpet_list *list, const struct object_id *id)
{
    free(list->after);
    list->after = object_id_copy(id);
    return list->after != NULL ? 0 : -ENOMEM;
}

static void forget(struct limpet_list *list)
{
    free(list->after);
    list->after = NULL;
}

/* A slice may begin inside of a group. */
static struct object_id begin_of(const struct limpet_list *list)
{
    return (struct object_id){
        .pool = list->pool->id,
        .hash = object_hash_reverse(list->position),
        .snap = 0,
    };
}

static int add_request(struct request *r, const struct limpet_list *list)
{
    struct encoder e;
    struct object_page_ask ask = {
        .one_space = !list->all_namespaces,
        .space = (const uint8_t *)list->space,
        .space_len = (uint16_t)strlen(list->space),
        .has_after = true,
        .after = list->after != NULL ? *list->after : begin_of(list),
    };
    encoder_init(&e);
    object_page_ask_encode(&e, &ask);
    int rc = e.failed ? -ENOMEM : request_add_data(r, WIRE_OP_CODE_LIST, 0, e.data, e.len);
    encoder_fini(&e);
    if (rc == 0) {
        r->op.steps[0].offset =
            (list->all_namespaces ? 0 : WIRE_LIST_ONE_SPACE) | (list->kept ? WIRE_LIST_KEPT : 0);
        r->op.steps[0].length = LIST_BATCH;
    }
    return rc;
}

/* A page is checked to its end before anything of it is used. */
static int fetch(struct limpet_list *list, uint32_t seed)
{
    struct request r;
    request_init(&r);
    r.op.pg_op = true;
    r.op.pg_seed = seed;
    r.op.object = begin_of(list);
    r.op.object.snap = OBJECT_HEAD;
    int rc = add_request(&r, list);
    if (rc != 0)
        return rc;
    rc = (int)request_run(&r, list->pool->cluster);
    list->batch = r.op.steps[0].data;
    if (rc == 0 && object_page_decode(list->batch.data, list->batch.len, &list->page) != 0)
        rc = -EPROTO;
    if (rc == 0 && !list->page.end)
        rc = remember(list, &list->page.upto);
    if (rc != 0)
        drop_batch(list);
    else
        list->page_end = list->page.end;
    return rc;
}

/* Fetches from the group at the position; goes on to the next one when it has no more. */
static int advance(struct limpet_list *list)
{
    drop_batch(list);
    uint32_t pg_num, first, last;
    int rc = pool_pg_num(list->pool, &pg_num);
    if (rc != 0)
        return rc;
    uint32_t seed = stable_mod(object_hash_reverse(list->position), pg_num);
    if (list->page_end) {
        pg_hash_range(seed, pg_num, &first, &last);
        forget(list);
        list->page_end = false;
        list->end = last >= list->last_hash;
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

static const uint8_t *terminate(char **at, const uint8_t *from, size_t len)
{
    char *copy = *at;
    if (len > 0)
        memcpy(copy, from, len);
    copy[len] = 0;
    *at += len + 1;
    return (const uint8_t *)copy;
}

void names_terminate(struct object_id *id, char *memory)
{
    id->name = terminate(&memory, id->name, id->name_len);
    id->space = terminate(&memory, id->space, id->space_len);
    id->locator = terminate(&memory, id->locator, id->locator_len);
}

static void give(struct limpet_list *list, const struct object_id *id,
                 struct limpet_list_entry *out)
{
    list->last = *id;
    names_terminate(&list->last, list->strings);
    list->has_last = true;
    *out = (struct limpet_list_entry){
        .name = (const char *)list->last.name,
        .name_len = id->name_len,
        .space = (const char *)list->last.space,
        .space_len = id->space_len,
        .locator = (const char *)list->last.locator,
        .locator_len = id->locator_len,
    };
}

int limpet_list_next(struct limpet_list *list, struct limpet_list_entry *out)
{
    while (!list->end || list->page.n > 0) {
        if (list->page.n == 0) {
            int rc = advance(list);
            if (rc != 0)
                return rc;
            continue;
        }
        struct object_id id = object_page_take(&list->page);
        if (object_hash_reverse(id.hash) > list->last_hash) {
            drop_batch(list);
            list->end = true;
        } else if (wanted(list, &id)) {
            give(list, &id, out);
            return 0;
        }
    }
    return -ENOENT;
}

static void rewind_list(struct limpet_list *list)
{
    drop_batch(list);
    forget(list);
    list->page_end = false;
    list->position = list->first;
    list->end = false;
    list->has_last = false;
}

int limpet_list_slice(struct limpet_list *list, uint32_t index, uint32_t count)
{
    if (index >= count)
        return -EINVAL;
    const uint64_t hashes = UINT64_C(1) << 32;
    list->first = (uint32_t)(hashes * index / count);
    list->last_hash = (uint32_t)(hashes * (index + 1) / count - 1);
    rewind_list(list);
    return 0;
}

int limpet_list_group(struct limpet_list *list, uint32_t group)
{
    uint32_t pg_num;
    int rc = pool_pg_num(list->pool, &pg_num);
    if (rc == 0 && group >= pg_num)
        rc = -ENOENT;
    if (rc != 0)
        return rc;
    pg_hash_range(group, pg_num, &list->first, &list->last_hash);
    rewind_list(list);
    return 0;
}

/*
 * ---- Cursors: "begin", "end", or an encoded object in hexadecimal ----
 *
 * The place after an object is the object itself; the place before it is what it was at snapshot 0,
 * which never is, and the place before a hash an object of this hash without a name.
 */

static char *hex_of(const uint8_t *bytes, size_t len)
{
    char *text = malloc(2 * len + 1);
    for (size_t i = 0; text != NULL && i < len; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return text;
}

static int give_cursor(const struct object_id *id, char **cursor)
{
    struct encoder e;
    encoder_init(&e);
    encode_object_id(&e, id);
    *cursor = e.failed ? NULL : hex_of(e.data, e.len);
    encoder_fini(&e);
    return *cursor != NULL ? 0 : -ENOMEM;
}

static int give_text(const char *text, char **cursor)
{
    *cursor = strdup(text);
    return *cursor != NULL ? 0 : -ENOMEM;
}

int limpet_list_cursor(struct limpet_list *list, char **cursor)
{
    return list->has_last ? give_cursor(&list->last, cursor)
                          : give_text(list->end ? "end" : "begin", cursor);
}

int limpet_list_cursor_before(struct limpet_list *list, char **cursor)
{
    struct object_id id = list->last;
    if (!list->has_last)
        return limpet_list_cursor(list, cursor);
    id.snap = 0;
    return give_cursor(&id, cursor);
}

int limpet_cursor_at(const struct limpet_pool *pool, uint64_t position, char **cursor)
{
    if (position >= LIMPET_LIST_END)
        return give_text("end", cursor);
    struct object_id id = {.pool = pool->id, .hash = object_hash_reverse((uint32_t)position)};
    return give_cursor(&id, cursor);
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

/* Where a walk is to go on. */
struct place {
    bool end;
    struct object_id id; /* Points into `bytes`. */
    uint8_t bytes[OBJECT_ID_ENCODED_MAX];
};

static int read_place(const struct limpet_pool *pool, const char *cursor, struct place *place)
{
    size_t len;
    struct decoder d;
    place->end = strcmp(cursor, "end") == 0;
    place->id = (struct object_id){.pool = pool->id};
    if (place->end || strcmp(cursor, "begin") == 0)
        return 0;
    if (bytes_of(cursor, place->bytes, sizeof place->bytes, &len) != 0)
        return -EINVAL;
    decoder_init(&d, place->bytes, len);
    decode_object_id(&d, &place->id);
    if (decoder_end(&d) != 0 || place->id.pool != pool->id)
        return -EINVAL;
    bool nameless = place->id.name_len == 0 && place->id.locator_len == 0;
    return nameless || place->id.hash == hash_object_id(&place->id) ? 0 : -EINVAL;
}

int limpet_list_seek(struct limpet_list *list, const char *cursor)
{
    struct place place;
    struct limpet_list_entry entry;
    int rc = read_place(list->pool, cursor, &place);
    if (rc != 0)
        return rc;
    rewind_list(list);
    list->end = place.end;
    if (place.end || strcmp(cursor, "begin") == 0)
        return 0;
    list->position = object_hash_reverse(place.id.hash);
    give(list, &place.id, &entry);
    return remember(list, &place.id);
}

int limpet_cursor_position(struct limpet_pool *pool, const char *cursor, uint64_t *position,
                           uint32_t *group)
{
    struct place place;
    uint32_t pg_num;
    int rc = read_place(pool, cursor, &place);
    if (rc == 0)
        rc = pool_pg_num(pool, &pg_num);
    if (rc != 0)
        return rc;
    *position = place.end ? LIMPET_LIST_END : object_hash_reverse(place.id.hash);
    *group = place.end ? 0 : stable_mod(place.id.hash, pg_num);
    return 0;
}

int limpet_cursor_compare(const struct limpet_pool *pool, const char *a, const char *b, int *order)
{
    struct place left, right;
    int rc = read_place(pool, a, &left);
    if (rc == 0)
        rc = read_place(pool, b, &right);
    if (rc != 0)
        return rc;
    *order = left.end || right.end ? (int)left.end - (int)right.end
                                   : object_compare(&left.id, &right.id);
    return 0;
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
