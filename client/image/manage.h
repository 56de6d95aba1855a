/* Parts of making and removing images, for clones, copies and the trash. */
#ifndef LIMPET_CLIENT_IMAGE_MANAGE_H
#define LIMPET_CLIENT_IMAGE_MANAGE_H

#include "client/image/image.h"

enum {
    IMAGE_SECTOR = 512,        /* Stripe units are multiples of it. */
    IMAGE_STRIPES_MAX = 65536, /* Objects that are filled together. */
};

/* With both of object-map and fast-diff, if one of them is among them. */
uint64_t image_paired_features(uint64_t features);
/* Options of an image that is made from another one, with what they leave to that one. */
struct limpet_image_options image_options_from(const struct image_core *core,
                                               const struct limpet_image_options *options);
/* -ENOSYS: unknown ones; -EINVAL: one needs another. */
int image_check_features(uint64_t features) MUST_CHECK;
/* What a new image's header says. */
int image_new_core(struct limpet_pool *pool, uint64_t size,
                   const struct limpet_image_options *options, struct image_core *core) MUST_CHECK;
int image_write_header(struct limpet_pool *pool, const char *id,
                       const struct image_core *core) MUST_CHECK;
/* -ENOENT: the handle's namespace is none of images. */
int image_check_space(struct limpet_pool *pool) MUST_CHECK;
/* -EBUSY: somebody watches the header. */
int image_check_closed(struct limpet_pool *pool, const char *id) MUST_CHECK;
/* All but its name; what is gone already is no error. */
int image_remove_id(struct limpet_pool *pool, const char *id, limpet_image_progress progress,
                    void *arg) MUST_CHECK;

#endif
