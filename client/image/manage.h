/* Parts of making and removing images, for clones, copies and the trash. */
#ifndef LIMPET_CLIENT_IMAGE_MANAGE_H
#define LIMPET_CLIENT_IMAGE_MANAGE_H

#include "client/image/image.h"

enum { IMAGE_SECTOR = 512 /* Stripe units are multiples of it. */ };

/* With both of object-map and fast-diff, if one of them is among them. */
/*
 * -EEXIST, if rc is an error and there is an image of this name: that matters more than what is
 * wrong with what was to be made.
 */
int image_exists_or(struct limpet_pool *pool, const char *name, int rc) MUST_CHECK;
uint64_t image_paired_features(uint64_t features);
/* Options of an image that is made from another one, with what they leave to that one. */
struct limpet_image_options image_options_from(const struct image_core *core,
                                               const struct limpet_image_options *options);
/* -ENOSYS: unknown ones; -EINVAL: one needs another. */
int image_check_features(uint64_t features) MUST_CHECK;
/* What a new image's header says. */
int image_new_core(struct limpet_pool *pool, uint64_t size,
                   const struct limpet_image_options *options, struct image_core *core) MUST_CHECK;
/*
 * A new image: its name, then its header. -EEXIST. When it fails nothing is left, or what
 * limpet_image_remove() removes.
 */
int image_make(struct limpet_pool *pool, const char *name, const char *id,
               const struct image_core *core) MUST_CHECK;
/* Removes what there is of an image that could not be made as a whole, as far as that can be. */
void image_unmake(struct limpet_pool *pool, const char *name, const char *id);
/* limpet_image_create(), but that it is IMAGE_CREATING; fills in the id. */
int image_create_unfinished(struct limpet_pool *pool, const char *name, uint64_t size,
                            const struct limpet_image_options *options,
                            char id[LIMPET_IMAGE_ID_MAX + 1]) MUST_CHECK;
/* limpet_image_clone() likewise. */
int image_clone_unfinished(struct limpet_pool *parent_pool, const char *parent, const char *snap,
                           struct limpet_pool *pool, const char *name,
                           const struct limpet_image_options *options,
                           char id[LIMPET_IMAGE_ID_MAX + 1]) MUST_CHECK;
/* It is whole from now on. */
int image_finish(struct limpet_pool *pool, const char *id) MUST_CHECK;
/* -ENOENT: the handle's namespace is none of images. */
int image_check_space(struct limpet_pool *pool) MUST_CHECK;
/* -EBUSY: somebody watches the header. */
int image_check_closed(struct limpet_pool *pool, const char *id) MUST_CHECK;
/* All but its name; what is gone already is no error. */
int image_remove_id(struct limpet_pool *pool, const char *id, limpet_image_progress progress,
                    void *arg) MUST_CHECK;

#endif
