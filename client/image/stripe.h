/*
 * Which bytes of an image lie where. Stripe units of the image go in turn to `count` objects, until
 * these are full; then to the next ones. With a unit as large as an object, and a count of 1, an
 * object is just a piece of the image.
 *
 *     image    | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | ...      units; count 2, two units an object
 *     objects  0: | 0 | 2 |   1: | 1 | 3 |   2: | 4 | 6 |   3: | 5 | 7 |   ...
 *
 * Pure functions. Offsets and lengths never exceed LIMPET_IMAGE_SIZE_MAX together.
 */
#ifndef LIMPET_CLIENT_IMAGE_STRIPE_H
#define LIMPET_CLIENT_IMAGE_STRIPE_H

#include <stdint.h>

struct stripe {
    unsigned order; /* Objects of 1 << order bytes. */
    uint64_t unit, count;
};

struct stripe_piece {
    uint64_t object;
    uint64_t offset; /* In the object. */
    uint64_t len;    /* Of the image's range; it does not cross a unit. */
};

/* The first piece of a range of len > 0 bytes. */
struct stripe_piece stripe_first(const struct stripe *stripe, uint64_t offset, uint64_t len);
/* Where in the image a byte of an object lies. *run: bytes from there that follow each other. */
uint64_t stripe_image_offset(const struct stripe *stripe, uint64_t object, uint64_t offset,
                             uint64_t *run);
/* Objects that hold the first `size` bytes. */
uint64_t stripe_objects(const struct stripe *stripe, uint64_t size);
/* How much of an object the first `size` bytes of the image fill. */
uint64_t stripe_object_bytes(const struct stripe *stripe, uint64_t object, uint64_t size);

#endif
