/*
 * librbd.so.1 on limpet/image.h: what its files share. The functions and structures are those of
 * Ceph's rbd/librbd.h, whose manual tells what they mean; README.md of the folder above tells which
 * are missing, and what is different. A rados_ioctx_t is that of our librados.so.2.
 *
 * The conventions of lists, for all of them: the caller says how many entries or bytes it has room
 * for; when there are more, the call says how many there are, and -ERANGE.
 */
#ifndef LIMPET_CLIENT_COMPAT_LIBRBD_H
#define LIMPET_CLIENT_COMPAT_LIBRBD_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/compat/compat.h"
#include "client/limpet/image.h"

struct rbd_events; /* Where ends of requests are told; io.c. */

/* An rbd_image_t. */
struct rbd_handle {
    struct limpet_image *image;
    struct limpet_pool *pool; /* Its own handle, of the image's namespace. */
    struct limpet_cluster *cluster;
    struct rbd_events *events; /* NULL: nobody wants them. */
};

/* ---- Structures of rbd/librbd.h ---- */

typedef struct {
    char *id;
    char *name;
} rbd_image_spec_t;

typedef struct {
    int64_t pool_id;
    char *pool_name;
    char *pool_namespace;
    char *image_id;
    char *image_name;
    bool trash;
} rbd_linked_image_spec_t;

typedef struct {
    uint64_t id;
    int namespace_type;
    char *name;
} rbd_snap_spec_t;

typedef struct {
    uint64_t id;
    uint64_t size;
    const char *name;
} rbd_snap_info_t;

enum { RBD_MAX_IMAGE_NAME_SIZE = 96, RBD_MAX_BLOCK_NAME_SIZE = 24 };

typedef struct {
    uint64_t size;
    uint64_t obj_size;
    uint64_t num_objs;
    int order;
    char block_name_prefix[RBD_MAX_BLOCK_NAME_SIZE];
    int64_t parent_pool;
    char parent_name[RBD_MAX_IMAGE_NAME_SIZE];
} rbd_image_info_t;

typedef struct {
    char *name;
    int64_t pool;
    int state;
} rbd_group_image_info_t;

typedef struct {
    char *name;
    int64_t pool;
} rbd_group_info_t;

typedef struct {
    char *name;
    int state;
} rbd_group_snap_info_t;

typedef struct {
    int64_t group_pool;
    char *group_name;
    char *group_snap_name;
} rbd_snap_group_namespace_t;

typedef struct {
    char *id;
    char *name;
    int source;
    time_t deletion_time;
    time_t deferment_end_time;
} rbd_trash_image_info_t;

typedef struct {
    char *addr;
    int64_t id;
    uint64_t cookie;
} rbd_image_watcher_t;

typedef struct {
    char *name;
    char *value;
    int source;
} rbd_config_option_t;

typedef struct {
    int alg;
    const char *passphrase;
    size_t passphrase_size;
} rbd_encryption_luks_format_options_t;

typedef int (*librbd_progress_fn_t)(uint64_t offset, uint64_t total, void *arg);

/* ---- Handles (image.c) ---- */

/* The pool of a context, or what is wrong with it: NULL, -EINVAL. */
int rbd_pool_of(void *ioctx, struct limpet_pool **pool);
/* Begins and ends handles whose image is opened by somebody else. */
int rbd_handle_create(void *ioctx, struct rbd_handle **out);
void rbd_handle_destroy(struct rbd_handle *handle);
/* A handle of the image's pool that its caller closes. */
int rbd_pool_like(const struct limpet_pool *pool, struct limpet_pool **out);
int rbd_header_name(struct rbd_handle *handle, char name[64]);

/* ---- Answers ---- */

/* Text into a buffer of *len bytes; *len becomes how many it takes. -ERANGE: there were less. */
int rbd_give_text(const char *text, char *buf, size_t *len);
/* The same where the caller does not want to know how many. */
int rbd_put_text(const char *text, char *buf, size_t len);
/* "" is the head to Ceph's librbd, as NULL is. */
static inline const char *rbd_snap_or_head(const char *snap)
{
    return snap != NULL && snap[0] != 0 ? snap : NULL;
}
/* The name of a pool, to be freed; NULL when there is none, or no memory. */
char *rbd_pool_name(struct limpet_cluster *cluster, uint64_t id);
int rbd_give_spec(struct limpet_cluster *cluster, const struct limpet_image_spec *spec,
                  rbd_linked_image_spec_t *out);
void rbd_linked_image_spec_cleanup(rbd_linked_image_spec_t *spec);
void rbd_image_spec_list_cleanup(rbd_image_spec_t *specs, size_t n);

/* ---- Options of images (create.c) ---- */

enum {
    RBD_IMAGE_OPTION_FORMAT = 0,
    RBD_IMAGE_OPTION_FEATURES = 1,
    RBD_IMAGE_OPTION_ORDER = 2,
    RBD_IMAGE_OPTION_STRIPE_UNIT = 3,
    RBD_IMAGE_OPTION_STRIPE_COUNT = 4,
    RBD_IMAGE_OPTION_JOURNAL_ORDER = 5,
    RBD_IMAGE_OPTION_JOURNAL_SPLAY_WIDTH = 6,
    RBD_IMAGE_OPTION_JOURNAL_POOL = 7,
    RBD_IMAGE_OPTION_FEATURES_SET = 8,
    RBD_IMAGE_OPTION_FEATURES_CLEAR = 9,
    RBD_IMAGE_OPTION_DATA_POOL = 10,
    RBD_IMAGE_OPTION_FLATTEN = 11,
    RBD_IMAGE_OPTION_CLONE_FORMAT = 12,
    RBD_IMAGE_OPTION_MIRROR_IMAGE_MODE = 13,
    RBD_IMAGE_OPTIONS = 14,
};

struct rbd_options {
    uint64_t numbers[RBD_IMAGE_OPTIONS];
    char *texts[RBD_IMAGE_OPTIONS];
    bool is_set[RBD_IMAGE_OPTIONS];
};

/* As liblimpet takes them; NULL: the defaults. Pointers are those of the options. */
int rbd_options_read(const struct rbd_options *options, struct limpet_image_options *out);

/* ---- Completions (io.c) ---- */

struct rbd_completion;

/* An opening that has ended: the handle goes to where its caller wanted it, or away. */
void rbd_completion_opens(struct rbd_completion *c, struct rbd_handle *handle, void **out);
/* Around the submission of a request: the callback is rbd_completion_ended. */
int rbd_completion_begin(struct rbd_completion *c, struct rbd_handle *handle, bool reads);
int rbd_completion_submitted(struct rbd_completion *c, int rc);
void rbd_completion_ended(ssize_t result, void *arg);
void rbd_events_destroy(struct rbd_events *events);

#endif
