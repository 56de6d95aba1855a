#include "client/cli/rados_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAGE_PAIRS = 1000,
    /* Of one operation: steps; changes of attributes and map, which must fit 2 MiB. */
    STEPS_MAX = LIMPET_OP_STEPS_MAX - 4,
    PAIR_OVERHEAD = 64,
    META_BYTES_MAX = LIMPET_OMAP_VALUE_MAX + LIMPET_OMAP_KEY_MAX + PAIR_OVERHEAD,
};

/* ---- Reading ---- */

struct walk {
    struct limpet_pool *pool;
    const char *object;
    const struct image_sink *sink;
    struct limpet_object_version version;
    uint8_t *chunk;
    uint64_t size;
    char *after; /* Last key of the map that was given. */
    size_t after_len;
    bool more;
};

static int give_pairs(struct limpet_pairs *pairs, void *ctx,
                      int (*give)(void *ctx, const struct limpet_pair *pair))
{
    struct limpet_pair pair;
    int rc = 0;
    while (rc == 0 && pairs != NULL && limpet_pairs_next(pairs, &pair) == 0)
        rc = give(ctx, &pair);
    return rc;
}

static int give_page(struct walk *w, struct limpet_pairs *pairs)
{
    struct limpet_pair pair;
    int rc = 0;
    bool any = false;
    while (rc == 0 && limpet_pairs_next(pairs, &pair) == 0) {
        rc = w->sink->pair(w->sink->ctx, &pair);
        any = true;
        memcpy(w->after, pair.key, pair.key_len);
        w->after_len = pair.key_len;
    }
    return rc == 0 && w->more && !any ? -EPROTO : rc;
}

static int give_chunk(struct walk *w, uint64_t offset, size_t got)
{
    uint64_t want = w->size - offset < IMAGE_CHUNK ? w->size - offset : IMAGE_CHUNK;
    if (got != want)
        return -EPROTO;
    return got > 0 ? w->sink->data(w->sink->ctx, offset, w->chunk, got) : 0;
}

/* The first operation gives most objects as a whole. */
static int walk_first(struct walk *w)
{
    struct limpet_op *op = rados_op();
    struct limpet_stat stat = {0};
    struct limpet_pairs *attrs = NULL, *page = NULL;
    void *header = NULL;
    size_t got = 0, header_len = 0;
    int rc = limpet_op_stat(op, &stat, NULL);
    if (rc == 0)
        rc = limpet_op_read(op, w->chunk, IMAGE_CHUNK, 0, &got, NULL);
    if (rc == 0)
        rc = limpet_op_attr_list(op, &attrs, NULL);
    if (rc == 0)
        rc = limpet_op_omap_get_header(op, &header, &header_len, NULL);
    if (rc == 0)
        rc = limpet_op_omap_list(op, NULL, 0, NULL, 0, PAGE_PAIRS, &page, &w->more, NULL);
    rc = rados_run(w->pool, w->object, op, rc, &w->version);
    w->size = stat.size;
    if (rc == 0)
        rc = w->sink->begin(w->sink->ctx, stat.size, stat.mtime_ns);
    if (rc == 0)
        rc = give_pairs(attrs, w->sink->ctx, w->sink->attr);
    if (rc == 0 && header_len > 0)
        rc = w->sink->header(w->sink->ctx, header, header_len);
    if (rc == 0)
        rc = give_chunk(w, 0, got);
    if (rc == 0)
        rc = give_page(w, page);
    limpet_pairs_destroy(attrs);
    limpet_pairs_destroy(page);
    limpet_free(header);
    return rc;
}

/* Of the same version; an object that was removed, or made anew, is another one. */
static int run_guarded(struct walk *w, struct limpet_op *op, int rc)
{
    rc = rados_run(w->pool, w->object, op, rc, NULL);
    return rc == -ERANGE || rc == -EOVERFLOW || rc == -ENOENT ? -ESTALE : rc;
}

static int walk_data(struct walk *w, uint64_t offset)
{
    struct limpet_op *op = rados_op();
    size_t got = 0;
    int rc = limpet_op_assert_version(op, w->version.sequence);
    if (rc == 0)
        rc = limpet_op_read(op, w->chunk, IMAGE_CHUNK, offset, &got, NULL);
    rc = run_guarded(w, op, rc);
    return rc == 0 ? give_chunk(w, offset, got) : rc;
}

static int walk_map(struct walk *w)
{
    struct limpet_op *op = rados_op();
    struct limpet_pairs *page = NULL;
    int rc = limpet_op_assert_version(op, w->version.sequence);
    if (rc == 0)
        rc = limpet_op_omap_list(op, w->after, w->after_len, NULL, 0, PAGE_PAIRS, &page, &w->more,
                                 NULL);
    rc = run_guarded(w, op, rc);
    if (rc == 0)
        rc = give_page(w, page);
    limpet_pairs_destroy(page);
    return rc;
}

static int walk_object(struct walk *w)
{
    int rc = walk_first(w);
    for (uint64_t at = IMAGE_CHUNK; rc == 0 && at < w->size; at += IMAGE_CHUNK)
        rc = walk_data(w, at);
    while (rc == 0 && w->more)
        rc = walk_map(w);
    return rc;
}

int image_read(struct limpet_pool *pool, const char *object, const struct image_sink *sink)
{
    struct walk w = {.pool = pool, .object = object, .sink = sink};
    int rc = -ESTALE;
    w.chunk = malloc(IMAGE_CHUNK);
    w.after = malloc(LIMPET_OMAP_KEY_MAX);
    if (w.chunk == NULL || w.after == NULL)
        fail(ENOMEM, "out of memory");
    for (int i = 0; i < IMAGE_TRIES && rc == -ESTALE; i++) {
        w.after_len = 0;
        rc = walk_object(&w);
    }
    free(w.chunk);
    free(w.after);
    return rc == -ESTALE ? -EBUSY : rc;
}

/* ---- Writing ---- */

void image_writer_init(struct image_writer *w, struct limpet_pool *pool, const char *object)
{
    *w = (struct image_writer){.pool = pool, .object = strdup(object)};
    w->strings = malloc(META_BYTES_MAX);
    w->pairs = calloc(IMAGE_PAIRS_MAX, sizeof *w->pairs);
    if (w->object == NULL || w->strings == NULL || w->pairs == NULL)
        fail(ENOMEM, "out of memory");
}

void image_writer_fini(struct image_writer *w)
{
    limpet_op_destroy(w->op);
    free(w->object);
    free(w->strings);
    free(w->pairs);
}

static void start_op(struct image_writer *w)
{
    limpet_op_destroy(w->op);
    w->op = rados_op();
    limpet_op_set_mtime(w->op, w->mtime_ns);
    w->n_steps = 0;
    w->data_bytes = w->meta_bytes = 0;
    w->n_pairs = w->strings_len = 0;
}

static int flush(struct image_writer *w)
{
    struct limpet_op *op = w->op;
    w->op = NULL;
    int rc = w->n_pairs > 0 ? limpet_op_omap_set(op, w->pairs, w->n_pairs) : 0;
    rc = rados_run(w->pool, w->object, op, rc, NULL);
    w->written |= rc == 0;
    start_op(w);
    return rc;
}

/* Before a step is added. */
static int make_room(struct image_writer *w, size_t data, size_t meta)
{
    bool full = w->n_steps >= STEPS_MAX || w->data_bytes + data > LIMPET_OBJECT_SIZE_MAX ||
                (meta > 0 && w->meta_bytes > 0 && w->meta_bytes + meta > META_BYTES_MAX);
    int rc = full ? flush(w) : 0;
    w->n_steps++;
    w->data_bytes += data;
    w->meta_bytes += meta;
    return rc;
}

int image_write_begin(struct image_writer *w, uint64_t size, uint64_t mtime_ns)
{
    w->size = size;
    w->mtime_ns = mtime_ns;
    start_op(w);
    int rc = 0;
    /* What a walk that was given up has left goes, too. */
    bool fresh = w->exclusive && !w->written;
    if (!fresh) {
        rc = limpet_op_remove(w->op);
        if (rc == 0)
            rc = limpet_op_allow_failure(w->op);
    }
    if (rc == 0)
        rc = limpet_op_create_object(w->op, fresh);
    if (rc == 0 && size > 0)
        rc = limpet_op_truncate(w->op, size);
    w->n_steps = 3;
    return rc;
}

static bool is_zero(const uint8_t *data, size_t len)
{
    return len > 0 && data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

int image_write_data(struct image_writer *w, uint64_t offset, const void *data, size_t len)
{
    if (is_zero(data, len))
        return 0; /* The object has its size already, and holes are zeroes. */
    int rc = make_room(w, len, 0);
    return rc == 0 ? limpet_op_write(w->op, data, len, offset) : rc;
}

int image_write_attr(struct image_writer *w, const struct limpet_pair *attr)
{
    char name[LIMPET_ATTR_NAME_MAX + 1];
    if (attr->key_len > LIMPET_ATTR_NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(name, attr->key, attr->key_len);
    name[attr->key_len] = 0;
    int rc = make_room(w, 0, attr->key_len + attr->value_len + PAIR_OVERHEAD);
    return rc == 0 ? limpet_op_attr_set(w->op, name, attr->value, attr->value_len) : rc;
}

int image_write_header(struct image_writer *w, const void *header, size_t len)
{
    int rc = make_room(w, 0, len + PAIR_OVERHEAD);
    return rc == 0 ? limpet_op_omap_set_header(w->op, header, len) : rc;
}

static const void *keep(struct image_writer *w, const void *data, size_t len)
{
    uint8_t *copy = w->strings + w->strings_len;
    if (len > 0)
        memcpy(copy, data, len);
    w->strings_len += len;
    return copy;
}

/* All pairs of an operation become one step, at its end. */
int image_write_pair(struct image_writer *w, const struct limpet_pair *pair)
{
    size_t bytes = pair->key_len + pair->value_len + PAIR_OVERHEAD;
    if (bytes > META_BYTES_MAX)
        return -EFBIG;
    bool full = w->n_pairs == IMAGE_PAIRS_MAX ||
                (w->meta_bytes > 0 && w->meta_bytes + bytes > META_BYTES_MAX);
    int rc = full ? flush(w) : 0;
    if (rc != 0)
        return rc;
    w->meta_bytes += bytes;
    const void *key = keep(w, pair->key, pair->key_len);
    const void *value = keep(w, pair->value, pair->value_len);
    w->pairs[w->n_pairs++] = (struct limpet_pair){key, pair->key_len, value, pair->value_len};
    return 0;
}

int image_write_end(struct image_writer *w)
{
    return flush(w);
}

/* ---- Copying ---- */

static int copy_begin(void *ctx, uint64_t size, uint64_t mtime_ns)
{
    return image_write_begin(ctx, size, mtime_ns);
}

static int copy_data(void *ctx, uint64_t offset, const void *data, size_t len)
{
    return image_write_data(ctx, offset, data, len);
}

static int copy_attr(void *ctx, const struct limpet_pair *attr)
{
    return image_write_attr(ctx, attr);
}

static int copy_header(void *ctx, const void *header, size_t len)
{
    return image_write_header(ctx, header, len);
}

static int copy_pair(void *ctx, const struct limpet_pair *pair)
{
    return image_write_pair(ctx, pair);
}

int image_copy(struct limpet_pool *from, const char *object, struct limpet_pool *to,
               const char *copy)
{
    struct image_writer w;
    image_writer_init(&w, to, copy);
    struct image_sink sink = {.ctx = &w,
                              .begin = copy_begin,
                              .data = copy_data,
                              .attr = copy_attr,
                              .header = copy_header,
                              .pair = copy_pair};
    int rc = image_read(from, object, &sink);
    if (rc == 0)
        rc = image_write_end(&w);
    image_writer_fini(&w);
    return rc;
}
