/*
 * limpet rbd: what its files share, and its verbs. Specs, defaults, messages and layouts are those
 * of Ceph's rbd.
 *
 *   rbd_spec.c     specs, pools, images; progress; sizes, times, tables
 *   rbd_image.c    create, info, ls, rm ...
 *   rbd_clone.c    clones, copies
 *   rbd_usage.c    status, du, pool stats
 *   rbd_snap.c     snapshots
 *   rbd_queue.c    requests under way, for export, import and bench
 *   rbd_stream.c   export, import, differences
 *   rbd_bench.c    bench
 *   rbd_meta.c     features, object maps, metadata, options
 *   rbd_encryption.c  encrypted images; passphrase.h reads their passphrases
 *   rbd_lock.c     locks, watch
 *   rbd_pool.c     trash, namespaces
 *   rbd_group.c    groups
 *   rbd_nbd.c      an image for NBD clients, by client/nbd/
 *   rbd_device*.c  images as devices of the kernel: rbd_device.h
 *   rbd_absent.c   verbs for what is not there
 */
#ifndef LIMPET_CLIENT_CLI_RBD_H
#define LIMPET_CLIENT_CLI_RBD_H

#include "client/cli/cli.h"
#include "client/cli/passphrase.h"
#include "client/limpet/image.h"

/* [POOL/[NAMESPACE/]]NAME[@SNAP] */
struct rbd_spec {
    char pool[LIMPET_POOL_NAME_MAX + 1];
    char space[LIMPET_OBJECT_SPACE_MAX + 1];
    char name[LIMPET_IMAGE_NAME_MAX + 1];
    char snap[LIMPET_IMAGE_NAME_MAX + 1];
};

/* What a spec must have: a name; a snapshot; may have a snapshot. */
enum rbd_spec_kind { RBD_IMAGE, RBD_IMAGE_OR_SNAP, RBD_SNAP };

/* Which options stand for the parts of a spec: --pool, --dest-pool, --group-pool ... */
enum rbd_side { RBD_SOURCE, RBD_DEST, RBD_GROUP, RBD_DEST_GROUP, RBD_GROUP_IMAGE };

/*
 * From the word of this index, if there is one, and from --pool, --namespace, --image and --snap.
 * Exits with a message.
 */
void rbd_spec_read(struct cli *cli, int word, enum rbd_side side, enum rbd_spec_kind kind,
                   struct rbd_spec *out);
/* [POOL[/NAMESPACE]] */
void rbd_pool_spec_read(struct cli *cli, int word, struct rbd_spec *out);
/* "[POOL/[NAMESPACE/]]NAME", as messages show it: static memory. */
const char *rbd_spec_text(const struct rbd_spec *spec);
/* An error as words, with what to do where that is the same whatever was tried: static memory. */
const char *rbd_phrase(int rc);
/* The same of what makes an image: what its options may be. */
const char *rbd_making_phrase(int rc, const struct limpet_image_options *options);

/* Connects, and opens the pool of a spec, with its namespace; exits with a message. */
struct limpet_pool *rbd_pool(struct cli *cli, const struct rbd_spec *spec);
/* The image of a spec, at its snapshot if it has one; exits with a message. */
struct limpet_image *rbd_image(struct limpet_pool *pool, const struct rbd_spec *spec, bool write);
/* The usual beginning: the spec of the first word, its pool and its image. */
struct rbd_run {
    struct rbd_spec spec;
    struct limpet_pool *pool;
    struct limpet_image *image;
};
void rbd_begin(struct cli *cli, enum rbd_spec_kind kind, bool write, struct rbd_run *run);
/* Returns the exit status. */
int rbd_end(struct rbd_run *run, int code);
void rbd_info(struct limpet_image *image, struct limpet_image_info *out);
/*
 * After reading all of an image that is open only to be read, which hears of no changes: -ENOENT if
 * it, or the snapshot that it looks at, has gone meanwhile.
 */
int rbd_check_shown(struct limpet_image *image);
/*
 * An error of what reads an image, or its changes since a snapshot (NULL: none): whether one of
 * these has gone meanwhile. Static memory.
 */
const char *rbd_reading_phrase(const struct rbd_run *run, const char *from, int rc);
/* From now on it shows what --encryption-format and its passphrase decrypt; exits with a message.
 */
void rbd_decrypt(struct cli *cli, struct limpet_image *image);
/* The same in two steps, for who opens the image later, or lets another program do it. */
struct rbd_encryption {
    const char *format; /* NULL: it is not encrypted. */
    const char *path;   /* Of the passphrase's file. */
    char passphrase[PASSPHRASE_MAX];
    size_t len; /* 0: it was not read yet. */
};
/* What the options say; both or neither of `format` and `path`: exits with a message. */
void rbd_encryption_options(struct cli *cli, struct rbd_encryption *out);
void rbd_encryption_check(const struct rbd_encryption *encryption);
enum limpet_image_encryption rbd_encryption_of(const struct rbd_encryption *encryption);
/* Reads the passphrase; exits with a message. */
void rbd_encryption_load(struct rbd_encryption *encryption);
/* Forgets the passphrase, which is read if it was not yet. */
void rbd_encryption_use(struct rbd_encryption *encryption, struct limpet_image *image);
/* All clones of a snapshot, so that nothing needs it any more; 0 or a negative errno. */
int rbd_flatten_children(struct cli *cli, struct limpet_image *parent, const char *snap);
char *rbd_pool_text(struct cli *cli, uint64_t id);
/* A clone's parent, as lists of images show it: "POOL/[NAMESPACE/]IMAGE@SNAP". */
json_t *rbd_parent_json(struct cli *cli, const struct limpet_image_spec *parent);
void rbd_parent_text(struct cli *cli, const struct limpet_image_spec *parent, char *text,
                     size_t size);

/* "10M": bytes, megabytes without a suffix; exits with a message. */
uint64_t rbd_size(const char *option, const char *text, uint64_t unit);
/* --size; exits when it is not given. */
uint64_t rbd_size_option(struct cli *cli);
/* --order, --object-size, --image-feature ... as they are given. */
void rbd_image_options(struct cli *cli, struct limpet_image_options *out);
/* Names of features, separated by commas; exits with a message. */
uint64_t rbd_features(const char *text);

/* ---- Output ---- */

enum { RBD_TIME_MAX = 32 };
void rbd_time(uint64_t ns, char text[RBD_TIME_MAX]);
/* "4.8 MiB", as rbd rounds: static memory, four in turn. */
const char *rbd_size_text(uint64_t bytes);
/* Prints JSON if it is wanted; --pretty-format too. Takes over the value. */
bool rbd_wants_json(struct cli *cli);
void rbd_print_json(struct cli *cli, json_t *value);
json_t *rbd_time_json(uint64_t ns);

/* "Resizing image: 10% complete...", on standard error, unless --no-progress is given. */
struct rbd_progress {
    const char *what;
    bool quiet;
    int shown; /* Percents; -1: nothing yet. */
};
struct rbd_progress rbd_progress_begin(struct cli *cli, const char *what);
/* Of limpet/image.h; the argument is a struct rbd_progress. */
int rbd_progress_step(uint64_t done, uint64_t total, void *arg);
void rbd_progress_end(struct rbd_progress *progress, int rc);

/* ---- Requests under way (rbd_queue.c) ---- */

struct rbd_queue;

struct rbd_slot {
    struct rbd_queue *queue;
    void *data;
    uint64_t offset;
    size_t len;
    ssize_t result;
    bool busy;
};

/* With so many slots, each with memory for `size` bytes; exits when memory is short. */
struct rbd_queue *rbd_queue_create(struct limpet_image *image, unsigned slots, size_t size);
/* Waits for all; 0, or the first error. */
int rbd_queue_destroy(struct rbd_queue *queue);
/* A slot that is free, or becomes free; NULL: something has failed. */
struct rbd_slot *rbd_queue_free_slot(struct rbd_queue *queue);
/* By their number, in order: waits until the slot is free. */
struct rbd_slot *rbd_queue_slot(struct rbd_queue *queue, uint64_t number);
int rbd_slot_read(struct rbd_slot *slot, uint64_t offset, size_t len);
int rbd_slot_write(struct rbd_slot *slot, uint64_t offset, size_t len);
/* How many have ended. */
uint64_t rbd_queue_ended(struct rbd_queue *queue);

/* ---- Verbs ---- */

int rbd_create(struct cli *cli);
int rbd_encryption_format(struct cli *cli);
int rbd_ls(struct cli *cli);
int rbd_show(struct cli *cli);
int rbd_rm(struct cli *cli);
int rbd_mv(struct cli *cli);
int rbd_resize(struct cli *cli);
int rbd_sparsify(struct cli *cli);
int rbd_clone(struct cli *cli);
int rbd_cp(struct cli *cli);
int rbd_deep_cp(struct cli *cli);
int rbd_children(struct cli *cli);
int rbd_flatten(struct cli *cli);
int rbd_status(struct cli *cli);
int rbd_du(struct cli *cli);
int rbd_pool_init(struct cli *cli);
int rbd_pool_stats(struct cli *cli);
int rbd_snap_create(struct cli *cli);
int rbd_snap_ls(struct cli *cli);
int rbd_snap_rm(struct cli *cli);
int rbd_snap_purge(struct cli *cli);
int rbd_snap_rollback(struct cli *cli);
int rbd_snap_protect(struct cli *cli);
int rbd_snap_unprotect(struct cli *cli);
int rbd_snap_rename(struct cli *cli);
int rbd_snap_limit_set(struct cli *cli);
int rbd_snap_limit_clear(struct cli *cli);
int rbd_export(struct cli *cli);
int rbd_import(struct cli *cli);
int rbd_diff(struct cli *cli);
int rbd_export_diff(struct cli *cli);
int rbd_import_diff(struct cli *cli);
int rbd_merge_diff(struct cli *cli);
int rbd_bench(struct cli *cli);
int rbd_feature_enable(struct cli *cli);
int rbd_feature_disable(struct cli *cli);
int rbd_object_map_check(struct cli *cli);
int rbd_object_map_rebuild(struct cli *cli);
int rbd_image_meta_set(struct cli *cli);
int rbd_image_meta_get(struct cli *cli);
int rbd_image_meta_ls(struct cli *cli);
int rbd_image_meta_rm(struct cli *cli);
int rbd_config_image_set(struct cli *cli);
int rbd_config_image_get(struct cli *cli);
int rbd_config_image_ls(struct cli *cli);
int rbd_config_image_rm(struct cli *cli);
int rbd_config_pool_set(struct cli *cli);
int rbd_config_pool_get(struct cli *cli);
int rbd_config_pool_ls(struct cli *cli);
int rbd_config_pool_rm(struct cli *cli);
int rbd_lock_add(struct cli *cli);
int rbd_lock_ls(struct cli *cli);
int rbd_lock_rm(struct cli *cli);
int rbd_watch(struct cli *cli);
int rbd_nbd(struct cli *cli);
int rbd_device_map(struct cli *cli);
int rbd_device_unmap(struct cli *cli);
int rbd_device_list(struct cli *cli);
int rbd_trash_mv(struct cli *cli);
int rbd_trash_ls(struct cli *cli);
int rbd_trash_rm(struct cli *cli);
int rbd_trash_restore(struct cli *cli);
int rbd_trash_purge(struct cli *cli);
int rbd_namespace_create(struct cli *cli);
int rbd_namespace_ls(struct cli *cli);
int rbd_namespace_rm(struct cli *cli);
int rbd_absent(struct cli *cli);
int rbd_group_create(struct cli *cli);
int rbd_group_ls(struct cli *cli);
int rbd_group_rm(struct cli *cli);
int rbd_group_rename(struct cli *cli);
int rbd_group_image_add(struct cli *cli);
int rbd_group_image_ls(struct cli *cli);
int rbd_group_image_rm(struct cli *cli);
int rbd_group_snap_create(struct cli *cli);
int rbd_group_snap_ls(struct cli *cli);
int rbd_group_snap_rm(struct cli *cli);
int rbd_group_snap_rename(struct cli *cli);
int rbd_group_snap_rollback(struct cli *cli);

/* Of as many objects rbd keeps no map, and makes no image that shall have one. */
bool rbd_map_is_too_large(uint64_t features, uint64_t objects);
#define RBD_NO_MAP                                                                                 \
    "image size not compatible with object map; larger objects (--object-size), or an image "      \
    "without the features object-map and fast-diff, allow more"

/* For ls -l: "excl", "shr" or "" (rbd_lock.c). */
const char *rbd_lock_kind(struct limpet_pool *pool, struct limpet_image *image);
/*
 * -EROFS: somebody has locked it by `lock add`. Rbd has but one lock on an image with
 * exclusive-lock, so that such a one keeps all others from changing it; here verbs that change the
 * image look first.
 */
int rbd_check_unlocked(const struct rbd_run *run);
/* The same by name. */
bool rbd_is_locked(struct limpet_pool *pool, const char *name);

#endif
