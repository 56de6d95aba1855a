/*
 * Whole objects, for copies of them: contents, attributes, header and map.
 *
 * A reader walks through one version of an object: whatever it gives belongs together. It ends with
 * -ESTALE when the object has changed meanwhile, and the walk begins anew. A writer makes an object
 * anew, in one operation if all of it fits, else in several.
 */
#ifndef LIMPET_CLIENT_CLI_RADOS_IMAGE_H
#define LIMPET_CLIENT_CLI_RADOS_IMAGE_H

#include "client/cli/rados.h"

enum {
    IMAGE_CHUNK = 4 * 1024 * 1024, /* Bytes of contents in one piece. */
    IMAGE_TRIES = 10,              /* Walks before it is given up. */
    IMAGE_PAIRS_MAX = 4096,        /* Of one step that is written. */
};

/* Where the pieces of an object go. Each returns 0 or a negative errno, which ends the walk. */
struct image_sink {
    void *ctx;
    /* The object is there, or a walk through it begins anew. */
    int (*begin)(void *ctx, uint64_t size, uint64_t mtime_ns);
    int (*data)(void *ctx, uint64_t offset, const void *data, size_t len);
    int (*attr)(void *ctx, const struct limpet_pair *attr);
    int (*header)(void *ctx, const void *header, size_t len); /* Unless it is empty. */
    int (*pair)(void *ctx, const struct limpet_pair *pair);
};

/*
 * Walks through an object, several times if it must; `end` is for the caller to do. -EBUSY: it
 * changes all the time.
 */
int image_read(struct limpet_pool *pool, const char *object, const struct image_sink *sink);

struct image_writer {
    struct limpet_pool *pool;
    char *object;
    bool exclusive; /* -EEXIST when there is one. */
    uint64_t size, mtime_ns;
    struct limpet_op *op; /* What is gathered. */
    uint32_t n_steps;
    size_t data_bytes, meta_bytes;
    uint8_t *strings; /* Of pairs that wait to become one step. */
    size_t strings_len;
    struct limpet_pair *pairs;
    size_t n_pairs;
    bool written; /* A part of it is there. */
};

/* The strings are copied. */
void image_writer_init(struct image_writer *w, struct limpet_pool *pool, const char *object);
void image_writer_fini(struct image_writer *w);
int image_write_begin(struct image_writer *w, uint64_t size, uint64_t mtime_ns);
int image_write_data(struct image_writer *w, uint64_t offset, const void *data, size_t len);
int image_write_attr(struct image_writer *w, const struct limpet_pair *attr);
int image_write_header(struct image_writer *w, const void *header, size_t len);
int image_write_pair(struct image_writer *w, const struct limpet_pair *pair);
int image_write_end(struct image_writer *w);

/* From one to the other. */
int image_copy(struct limpet_pool *from, const char *object, struct limpet_pool *to,
               const char *copy);

#endif
