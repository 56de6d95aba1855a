/*
 * liblimpet: block images, disks of virtual machines and the like, on objects of a pool.
 *
 *     struct limpet_image *image;
 *     struct limpet_image_options options = {.features = LIMPET_IMAGE_FEATURES_DEFAULT};
 *     limpet_image_create(pool, "disk", size, &options);
 *     limpet_image_open(pool, "disk", NULL, 0, &image);
 *     limpet_image_write(image, data, len, offset, 0);
 *     limpet_image_snap_create(image, "before the update");
 *     limpet_image_close(image);
 * * What limpet.h says of errors, threads and memory holds here, too; but a callback must not call
 * what waits, limpet_image_aio_ functions only: nothing that they wait for happens meanwhile. An
 * image belongs to the pool and the namespace that the pool's handle has when it is opened or made;
 * the handle may be closed afterwards, the cluster must outlive the image. Names are UTF-8 of 1 to
 * LIMPET_IMAGE_NAME_MAX bytes without '/' and '@': -EINVAL, -ENAMETOOLONG.
 *
 * Durability. A write that has ended is durable. limpet_image_flush() is therefore a barrier only:
 * it ends when all that was submitted to the handle before has ended. A handle that was opened with
 * LIMPET_IMAGE_WRITE_BACK while the option rbd_cache is set is otherwise: as long as it has the
 * exclusive lock, a write without LIMPET_IMAGE_FUA may end before it is durable, and a flush makes
 * all before it durable, or tells the error of one that is not; so does limpet_image_close().
 *
 * Order. Requests on a handle that overlap and are under way together are executed in any order,
 * each of them atomic only within one object, as requests to a disk are.
 *
 * Who may write. Who writes holds a lease on the image's header: an exclusive one if the image has
 * the feature exclusive-lock, taken with the first write and handed over when somebody else wants
 * it; else a shared one. Whoever has lost it, because it hung or its network did, is blocked by who
 * comes next before that one writes, and its requests end with -ESHUTDOWN.
 *
 * Errors that many functions have, and that are not repeated: -ENOENT: there is no such image,
 * snapshot, group; -EROFS: the image was opened to be read, or at a snapshot, or another client
 * holds the exclusive lock and keeps it; -ESHUTDOWN: this client was blocked; -ENOEXEC: the image
 * was made by a newer version, with something that this one does not know.
 */
#ifndef LIMPET_IMAGE_H
#define LIMPET_IMAGE_H

#include <sys/uio.h>

#include "../limpet.h"

#ifdef __cplusplus
extern "C" {
#endif

struct limpet_image; /* An open image, at its head or at a snapshot. */

#define LIMPET_IMAGE_NAME_MAX       255 /* Also of snapshots and groups. */
#define LIMPET_IMAGE_ID_MAX         32
#define LIMPET_IMAGE_SIZE_MAX       INT64_MAX
#define LIMPET_IMAGE_OBJECTS_MAX    (UINT64_C(1) << 40)
#define LIMPET_IMAGE_SNAPS_MAX      500
#define LIMPET_IMAGE_DEPTH_MAX      64 /* Of clones of clones. */
#define LIMPET_IMAGE_ORDER_MIN      12 /* Objects of 4 KiB. */
#define LIMPET_IMAGE_ORDER_MAX      25 /* 32 MiB. */
#define LIMPET_IMAGE_ORDER_DEFAULT  22 /* 4 MiB. */
#define LIMPET_IMAGE_META_KEY_MAX   1024
#define LIMPET_IMAGE_META_VALUE_MAX 65536

/* Numbers as rbd has them. */
enum limpet_image_feature {
    LIMPET_IMAGE_LAYERING = 1 << 0,
    LIMPET_IMAGE_STRIPING = 1 << 1, /* Set when the stripe unit is not the object's size. */
    LIMPET_IMAGE_EXCLUSIVE_LOCK = 1 << 2,
    LIMPET_IMAGE_OBJECT_MAP = 1 << 3, /* Needs exclusive-lock. */
    LIMPET_IMAGE_FAST_DIFF = 1 << 4,  /* Needs object-map. */
    LIMPET_IMAGE_DEEP_FLATTEN = 1 << 5,
    LIMPET_IMAGE_DATA_POOL = 1 << 7,  /* Set when there is one. */
    LIMPET_IMAGE_OPERATIONS = 1 << 8, /* Set by the library: op_features is not 0. */
};
#define LIMPET_IMAGE_FEATURES_DEFAULT 61 /* All but striping, data-pool and operations. */
/* Those that limpet_image_set_features() changes. */
#define LIMPET_IMAGE_FEATURES_MUTABLE 60
/* Those that limpet_image_create() takes. */
#define LIMPET_IMAGE_FEATURES_ALL 191
/* Of clones and copies: those of the parent, or of what is copied. */
#define LIMPET_IMAGE_FEATURES_SOURCE UINT64_MAX

enum limpet_image_op_feature {
    LIMPET_IMAGE_OP_CLONE_PARENT = 1 << 0, /* It has, or had, clones of version 2. */
    LIMPET_IMAGE_OP_CLONE_CHILD = 1 << 1,
    LIMPET_IMAGE_OP_GROUP = 1 << 2,
    LIMPET_IMAGE_OP_SNAP_TRASH = 1 << 3,
};

enum limpet_image_flag {
    LIMPET_IMAGE_OBJECT_MAP_INVALID = 1 << 0, /* limpet_image_rebuild_object_map() helps. */
    LIMPET_IMAGE_FAST_DIFF_INVALID = 1 << 1,
};

/* "layering", ...; NULL: there is no such bit. Static memory. */
LIMPET_API const char *limpet_image_feature_name(unsigned bit);

/*
 * Told of how far something is: done of total, whose unit does not matter. Not 0: it stops, and
 * this is its result. Made on the calling thread.
 */
typedef int (*limpet_image_progress)(uint64_t done, uint64_t total, void *arg);

/* ---- Images of a pool ---- */

struct limpet_image_options {
    uint64_t features;     /* Bits that are not in LIMPET_IMAGE_FEATURES_ALL: -ENOSYS. */
    unsigned order;        /* 0: the default. */
    uint64_t stripe_unit;  /* Bytes; both 0: as large as objects, and 1. It divides their size. */
    uint64_t stripe_count; /* Objects that are filled together. */
    const char *data_pool; /* NULL: objects lie in the image's pool. -ENOENT. */
    unsigned clone_format; /* Of clones; 1: of protected snapshots only; 2; 0: 2. */
};

/*
 * Thin: a new image is all zeroes and needs no space. -EEXIST; -EDOM: no such order; -EINVAL: no
 * such striping, or a feature without one that it needs; -EFBIG: too large, or too many objects.
 * When the client dies meanwhile, the name may stay; limpet_image_remove() removes it then.
 */
LIMPET_API int limpet_image_create(struct limpet_pool *pool, const char *name, uint64_t size,
                                   const struct limpet_image_options *options);

/*
 * -ENOTEMPTY: it has snapshots; -EBUSY: somebody has it open; -EMLINK: a group has it. When it was
 * interrupted, it cannot be opened any more, and another call goes on.
 */
LIMPET_API int limpet_image_remove(struct limpet_pool *pool, const char *name,
                                   limpet_image_progress progress, void *arg);
/* At once; open handles go on. -EEXIST. */
LIMPET_API int limpet_image_rename(struct limpet_pool *pool, const char *name, const char *to);

struct limpet_image_entry {
    char id[LIMPET_IMAGE_ID_MAX + 1];
    char name[LIMPET_IMAGE_NAME_MAX + 1];
};
/* By name, without those in the trash. Release *out with limpet_free(). */
LIMPET_API int limpet_image_list(struct limpet_pool *pool, struct limpet_image_entry **out,
                                 size_t *n);
/* -ENOENT. id has LIMPET_IMAGE_ID_MAX + 1 bytes, name one more than LIMPET_IMAGE_NAME_MAX. */
LIMPET_API int limpet_image_id_of(struct limpet_pool *pool, const char *name, char *id);
LIMPET_API int limpet_image_name_of(struct limpet_pool *pool, const char *id, char *name);

/* ---- Opening ---- */

enum limpet_image_open_flag {
    LIMPET_IMAGE_READ_ONLY = 1,  /* No watch of the header: it sees the image as it was opened. */
    LIMPET_IMAGE_BY_ID = 2,      /* The name is an id; also of an image in the trash. */
    LIMPET_IMAGE_WRITE_BACK = 4, /* With the option rbd_cache, writes may be answered early. */
};

/* snap NULL: at its head. */
LIMPET_API int limpet_image_open(struct limpet_pool *pool, const char *name, const char *snap,
                                 unsigned flags, struct limpet_image **out);
/* Waits for what is under way; gives the lock back. NULL is allowed. */
LIMPET_API int limpet_image_close(struct limpet_image *image);

/* Of asynchronous calls: once, on a thread of the library, never from inside of the call. */
typedef void (*limpet_image_callback)(ssize_t result, void *arg);

/* *out is written before the callback. */
LIMPET_API int limpet_image_aio_open(struct limpet_pool *pool, const char *name, const char *snap,
                                     unsigned flags, struct limpet_image **out,
                                     limpet_image_callback callback, void *arg);
LIMPET_API int limpet_image_aio_close(struct limpet_image *image, limpet_image_callback callback,
                                      void *arg);

/* ---- What an image is ---- */

struct limpet_image_spec {
    uint64_t pool;
    char space[LIMPET_OBJECT_SPACE_MAX + 1];
    char id[LIMPET_IMAGE_ID_MAX + 1];
    char name[LIMPET_IMAGE_NAME_MAX + 1]; /* "": it is not known any more. */
    uint64_t snap;                        /* 0: the head. */
    char snap_name[LIMPET_IMAGE_NAME_MAX + 1];
    bool trash; /* The image is in the trash. */
};

struct limpet_image_info {
    uint64_t size; /* Of what the handle looks at. */
    unsigned order;
    uint64_t object_size;
    uint64_t objects; /* That it would have if it were full. */
    uint64_t stripe_unit, stripe_count;
    uint64_t features, op_features, flags;
    uint64_t snaps;
    uint64_t snap; /* That it looks at; 0: the head. */
    uint64_t pool, data_pool;
    uint64_t created_ns, accessed_ns, modified_ns; /* Since 1970 UTC. */
    uint64_t overlap;                              /* Bytes that it may share with its parent. */
    bool has_parent;
    bool snap_lost; /* The snapshot was removed, or the image is being removed. */
    bool read_only;
    char id[LIMPET_IMAGE_ID_MAX + 1];
    char name[LIMPET_IMAGE_NAME_MAX + 1];
    char prefix[64]; /* What names of its objects begin with. */
};

/* What the handle knows, without asking anybody. */
LIMPET_API int limpet_image_info(struct limpet_image *image, struct limpet_image_info *out);
/* -ENOENT: it has no parent. */
LIMPET_API int limpet_image_parent(struct limpet_image *image, struct limpet_image_spec *out);
/* Looks at another snapshot from now on; NULL: at the head. Nothing may be under way. */
LIMPET_API int limpet_image_set_snap(struct limpet_image *image, const char *snap);
LIMPET_API int limpet_image_set_snap_id(struct limpet_image *image, uint64_t snap);
/* Reads the header anew. Handles that watch it do so by themselves. */
LIMPET_API int limpet_image_refresh(struct limpet_image *image);

/*
 * -EINVAL: it becomes smaller, and allow_shrink is false. What lay beyond the end does not come
 * back when it grows again.
 */
LIMPET_API int limpet_image_resize(struct limpet_image *image, uint64_t size, bool allow_shrink,
                                   limpet_image_progress progress, void *arg);

/* ---- Reading and writing ---- */

/*
 * Lengths are cut off at the end of the image, offsets beyond it are -EINVAL; the result is the
 * number of bytes. What was never written is zeroes. flags are 0, or advice (enum
 * limpet_image_io_flag), which may be ignored.
 */
enum limpet_image_io_flag {
    LIMPET_IMAGE_FUA = 1,           /* Durable when it ends, also with LIMPET_IMAGE_WRITE_BACK. */
    LIMPET_IMAGE_ZEROES_WRITTEN = 2 /* Of write_zeroes: keep the space, do not give it back. */
};

LIMPET_API ssize_t limpet_image_read(struct limpet_image *image, void *data, size_t len,
                                     uint64_t offset, unsigned flags);
LIMPET_API ssize_t limpet_image_write(struct limpet_image *image, const void *data, size_t len,
                                      uint64_t offset, unsigned flags);
/* Becomes zeroes, and gives the space back where objects, or 64 KiB of one, are covered. */
LIMPET_API ssize_t limpet_image_discard(struct limpet_image *image, uint64_t len, uint64_t offset);
LIMPET_API ssize_t limpet_image_write_zeroes(struct limpet_image *image, uint64_t len,
                                             uint64_t offset, unsigned flags);
/* `len` bytes of data again and again. -EINVAL: total is not a multiple of len. */
LIMPET_API ssize_t limpet_image_write_same(struct limpet_image *image, const void *data, size_t len,
                                           uint64_t total, uint64_t offset, unsigned flags);
/*
 * Writes if there are these bytes, at once. -EILSEQ: there are not, *mismatch is where the first
 * other one is; -EINVAL: the range crosses a border of stripes.
 */
LIMPET_API ssize_t limpet_image_compare_and_write(struct limpet_image *image, const void *expected,
                                                  const void *data, size_t len, uint64_t offset,
                                                  uint64_t *mismatch);
LIMPET_API int limpet_image_flush(struct limpet_image *image);

/*
 * Return 0 when the request is under way. Memory to be read into, and *mismatch, stay valid until
 * the callback; what is to be written is copied, and so are the vectors.
 *
 * At most LIMPET_IMAGE_IOS_MAX requests of a handle are under way; more wait in the call, unless
 * it is made by a callback. A large one is executed in parts.
 */
#define LIMPET_IMAGE_IOS_MAX 1024

LIMPET_API int limpet_image_aio_read(struct limpet_image *image, void *data, size_t len,
                                     uint64_t offset, unsigned flags,
                                     limpet_image_callback callback, void *arg);
LIMPET_API int limpet_image_aio_write(struct limpet_image *image, const void *data, size_t len,
                                      uint64_t offset, unsigned flags,
                                      limpet_image_callback callback, void *arg);
LIMPET_API int limpet_image_aio_readv(struct limpet_image *image, const struct iovec *iov, int n,
                                      uint64_t offset, unsigned flags,
                                      limpet_image_callback callback, void *arg);
LIMPET_API int limpet_image_aio_writev(struct limpet_image *image, const struct iovec *iov, int n,
                                       uint64_t offset, unsigned flags,
                                       limpet_image_callback callback, void *arg);
LIMPET_API int limpet_image_aio_discard(struct limpet_image *image, uint64_t len, uint64_t offset,
                                        limpet_image_callback callback, void *arg);
LIMPET_API int limpet_image_aio_write_zeroes(struct limpet_image *image, uint64_t len,
                                             uint64_t offset, unsigned flags,
                                             limpet_image_callback callback, void *arg);
LIMPET_API int limpet_image_aio_write_same(struct limpet_image *image, const void *data, size_t len,
                                           uint64_t total, uint64_t offset, unsigned flags,
                                           limpet_image_callback callback, void *arg);
LIMPET_API int limpet_image_aio_compare_and_write(struct limpet_image *image, const void *expected,
                                                  const void *data, size_t len, uint64_t offset,
                                                  uint64_t *mismatch,
                                                  limpet_image_callback callback, void *arg);
/*
 * Before the first request: callbacks of limpet_image_aio_ requests of this handle may be made by
 * any thread that waits or polls (limpet_completion_call_by_waiters()), and also before the call
 * returns. Those of a handle that is decrypted stay with the library's thread, as they take long.
 */
LIMPET_API void limpet_image_call_by_waiters(struct limpet_image *image);
LIMPET_API int limpet_image_aio_flush(struct limpet_image *image, limpet_image_callback callback,
                                      void *arg);

/* ---- Snapshots ---- */

enum limpet_image_snap_kind {
    LIMPET_IMAGE_SNAP_USER = 0,
    LIMPET_IMAGE_SNAP_GROUP = 1, /* Of a group's snapshot. */
    LIMPET_IMAGE_SNAP_TRASH = 2, /* Removed, but clones need it. */
};

struct limpet_image_snap {
    uint64_t id;
    uint64_t size;
    uint64_t created_ns;
    enum limpet_image_snap_kind kind;
    bool is_protected;
    char name[LIMPET_IMAGE_NAME_MAX + 1];
    char original[LIMPET_IMAGE_NAME_MAX + 1]; /* Its name before it went to the trash. */
};

/* What was acknowledged before the call is in it. -EEXIST; -EDQUOT: more than the limit. */
LIMPET_API int limpet_image_snap_create(struct limpet_image *image, const char *name);
/* -EBUSY: it is protected. With clones of version 2 it goes to the trash until they are gone. */
LIMPET_API int limpet_image_snap_remove(struct limpet_image *image, const char *name,
                                        limpet_image_progress progress, void *arg);
LIMPET_API int limpet_image_snap_remove_id(struct limpet_image *image, uint64_t snap);
LIMPET_API int limpet_image_snap_rename(struct limpet_image *image, const char *name,
                                        const char *to);
/* The image, its size included, becomes what it was. -EROFS: another client has its lock. */
LIMPET_API int limpet_image_snap_rollback(struct limpet_image *image, const char *name,
                                          limpet_image_progress progress, void *arg);
/* -EBUSY: it is already; of unprotect: it has clones of version 1; -EINVAL: it is not. */
LIMPET_API int limpet_image_snap_protect(struct limpet_image *image, const char *name);
LIMPET_API int limpet_image_snap_unprotect(struct limpet_image *image, const char *name);
/* The oldest first, all kinds. Release *out with limpet_free(). */
LIMPET_API int limpet_image_snap_list(struct limpet_image *image, struct limpet_image_snap **out,
                                      size_t *n);
/* UINT64_MAX: none but LIMPET_IMAGE_SNAPS_MAX. -ERANGE: there are more. */
LIMPET_API int limpet_image_snap_limit(struct limpet_image *image, uint64_t *limit);
LIMPET_API int limpet_image_snap_set_limit(struct limpet_image *image, uint64_t limit);

/* ---- The exclusive lock ---- */

/*
 * Takes it and keeps it until it is released: others do not get it by asking. -EBUSY: somebody
 * else keeps it; -EINVAL: the image has not got the feature.
 */
LIMPET_API int limpet_image_lock_acquire(struct limpet_image *image);
LIMPET_API int limpet_image_lock_release(struct limpet_image *image);
LIMPET_API int limpet_image_lock_is_owner(struct limpet_image *image, bool *owner);

struct limpet_image_owner {
    uint64_t instance; /* Of its process. */
    uint64_t cookie;
    char address[64];
};
/* -ENOENT: nobody has it. */
LIMPET_API int limpet_image_lock_owner(struct limpet_image *image, struct limpet_image_owner *out);
/* Blocks the owner, and so ends its lock. -ENOENT: it is not this one. */
LIMPET_API int limpet_image_lock_break(struct limpet_image *image, uint64_t instance);

/* ---- Watching ---- */

/* Everybody who has the image open to write. Release *out with limpet_free(). */
struct limpet_watcher;
LIMPET_API int limpet_image_watchers(struct limpet_image *image, struct limpet_watcher **out,
                                     size_t *n);
/*
 * Told, on a thread of the library, after the handle has read a changed header (size, snapshots,
 * name ...). One at a time: *cookie is for unwatching, after which no call begins.
 */
LIMPET_API int limpet_image_watch(struct limpet_image *image, void (*changed)(void *arg), void *arg,
                                  uint64_t *cookie);
LIMPET_API int limpet_image_unwatch(struct limpet_image *image, uint64_t cookie);

/* ---- Clones ---- */

/*
 * A new image that begins as a snapshot, and shares its data as long as they are not changed.
 * options as of limpet_image_create(); an order of 0 is the parent's, and so are then the stripes,
 * unless they are given. -EINVAL: the snapshot is not
 * protected (clone_format 1); -EXDEV: it is of another namespace (clone_format 1); -ENOSYS: the
 * parent, or the clone, has no layering.
 */
LIMPET_API int limpet_image_clone(struct limpet_pool *parent_pool, const char *parent,
                                  const char *snap, struct limpet_pool *pool, const char *name,
                                  const struct limpet_image_options *options);
/* Copies what it shares with its parent, and forgets that. -EINVAL: it has none. */
LIMPET_API int limpet_image_flatten(struct limpet_image *image, limpet_image_progress progress,
                                    void *arg);
/* Of the snapshot that the handle looks at, or of all. Release *out with limpet_free(). */
LIMPET_API int limpet_image_children(struct limpet_image *image, struct limpet_image_spec **out,
                                     size_t *n);

/* ---- What is used, and what has changed ---- */

/*
 * Extents of the image, as the handle looks at it, that were changed since a snapshot (NULL: since
 * it was made), in order: exists false: they are zeroes now. whole_object: extents are as large as
 * objects, which is told from the object map alone, if there is one. Not 0 from the function
 * ends it.
 */
typedef int (*limpet_image_extent)(uint64_t offset, uint64_t len, bool exists, void *arg);
LIMPET_API int limpet_image_diff(struct limpet_image *image, const char *from, uint64_t offset,
                                 uint64_t len, bool include_parent, bool whole_object,
                                 limpet_image_extent extent, void *arg);

/* Bytes in objects of what the handle looks at, since a snapshot (NULL: all). */
LIMPET_API int limpet_image_used(struct limpet_image *image, const char *from, uint64_t *bytes);
/* Makes it from what there is. */
LIMPET_API int limpet_image_rebuild_object_map(struct limpet_image *image,
                                               limpet_image_progress progress, void *arg);
/* The same without changing it: -EILSEQ, and it is marked as invalid, if they differ. */
LIMPET_API int limpet_image_check_object_map(struct limpet_image *image,
                                             limpet_image_progress progress, void *arg);
/* Gives back space that holds zeroes, in units of a power of two of at least 4 KiB: -EINVAL. */
LIMPET_API int limpet_image_sparsify(struct limpet_image *image, uint64_t unit,
                                     limpet_image_progress progress, void *arg);

/* ---- Copies ---- */

/*
 * What the handle looks at becomes a new image, without snapshots. An order of 0 is that of the
 * image; so are then the stripes, unless they are given.
 */
LIMPET_API int limpet_image_copy(struct limpet_image *image, struct limpet_pool *pool,
                                 const char *name, const struct limpet_image_options *options,
                                 limpet_image_progress progress, void *arg);
/* With all its snapshots, and its parent unless `flatten`. */
LIMPET_API int limpet_image_deep_copy(struct limpet_image *image, struct limpet_pool *pool,
                                      const char *name, const struct limpet_image_options *options,
                                      bool flatten, limpet_image_progress progress, void *arg);

/*
 * Streams, in rbd's format of diffs ("rbd diff v1"; v2 is read, too). write returns 0 or an error,
 * which ends the call; read the number of bytes, 0 at the end.
 */
struct limpet_image_sink {
    int (*write)(void *arg, const void *data, size_t len);
    void *arg;
};
struct limpet_image_source {
    ssize_t (*read)(void *arg, void *data, size_t len);
    void *arg;
};

/* From a snapshot (NULL: from nothing) to what the handle looks at. */
LIMPET_API int limpet_image_export_diff(struct limpet_image *image, const char *from,
                                        bool whole_object, const struct limpet_image_sink *sink,
                                        limpet_image_progress progress, void *arg);
/*
 * Applies one, and makes the snapshot at which it ends. -EINVAL: the image has not the snapshot at
 * which it begins; -EEXIST: it has the other one; -EBADMSG: the stream is cut off or no stream.
 */
LIMPET_API int limpet_image_import_diff(struct limpet_image *image,
                                        const struct limpet_image_source *source,
                                        limpet_image_progress progress, void *arg);
/*
 * The image with its snapshots, its metadata and what it is made of, in rbd's export format 2; also
 * of a handle that is decrypted or looks at a snapshot. -EBADMSG as of import_diff.
 */
LIMPET_API int limpet_image_export(struct limpet_image *image, const struct limpet_image_sink *sink,
                                   limpet_image_progress progress, void *arg);
/*
 * Makes an image of one. Options that are 0, or LIMPET_IMAGE_FEATURES_SOURCE, are those of the
 * stream. Nothing is left when it fails.
 */
LIMPET_API int limpet_image_import(struct limpet_pool *pool, const char *name,
                                   const struct limpet_image_options *options,
                                   const struct limpet_image_source *source,
                                   limpet_image_progress progress, void *arg);
/* One stream from two that follow each other: -EINVAL when they do not. */
LIMPET_API int limpet_image_merge_diff(const struct limpet_image_source *first,
                                       const struct limpet_image_source *second,
                                       const struct limpet_image_sink *sink);

/* ---- Metadata, features ---- */

/* -EINVAL, -ENAMETOOLONG, -EFBIG. */
LIMPET_API int limpet_image_meta_set(struct limpet_image *image, const char *key, const void *value,
                                     size_t len);
/* Release *value with limpet_free(). A zero follows it. */
LIMPET_API int limpet_image_meta_get(struct limpet_image *image, const char *key, char **value,
                                     size_t *len);
LIMPET_API int limpet_image_meta_remove(struct limpet_image *image, const char *key);
struct limpet_pairs;
/* At most max, after a key (NULL: from the beginning). Release *out with limpet_pairs_destroy(). */
LIMPET_API int limpet_image_meta_list(struct limpet_image *image, const char *after, uint64_t max,
                                      struct limpet_pairs **out);
/* The same of a pool (its namespace). */
LIMPET_API int limpet_pool_meta_set(struct limpet_pool *pool, const char *key, const void *value,
                                    size_t len);
LIMPET_API int limpet_pool_meta_get(struct limpet_pool *pool, const char *key, char **value,
                                    size_t *len);
LIMPET_API int limpet_pool_meta_remove(struct limpet_pool *pool, const char *key);
LIMPET_API int limpet_pool_meta_list(struct limpet_pool *pool, const char *after, uint64_t max,
                                     struct limpet_pairs **out);

/*
 * Object-map and fast-diff come and go together. -EINVAL: not mutable, or one needs another, or all
 * of them are already as they shall be.
 */
LIMPET_API int limpet_image_set_features(struct limpet_image *image, uint64_t features,
                                         bool enabled);

/* ---- Quality of service ---- */

/*
 * Of the requests of this handle; 0: no limit. Burst: what may come at once after a rest; 0: of
 * reads and writes what is said of all, of all a tenth of a second's. A handle begins with what the
 * image's metadata say ("conf_rbd_qos_iops_limit" ...), or else its pool's, and follows the
 * image's, until this is called.
 */
struct limpet_image_qos {
    uint64_t iops, read_iops, write_iops;
    uint64_t bytes, read_bytes, write_bytes; /* A second. */
    uint64_t iops_burst, read_iops_burst, write_iops_burst;
    uint64_t bytes_burst, read_bytes_burst, write_bytes_burst;
};
LIMPET_API int limpet_image_set_qos(struct limpet_image *image, const struct limpet_image_qos *qos);

/* ---- Encryption ---- */

/*
 * LUKS, with AES-XTS in sectors of 512 (1) and 4096 bytes (2). Its header is at the beginning of
 * the image, up to where an object begins. A handle that was decrypted shows what comes after it:
 * sizes that are read are less, offsets count from there; sizes that limpet_image_resize() is given
 * are those of the whole image. Sectors that were never written, or discarded, are zeroes. Each
 * sector is written at once, by reading it before where it is written in part; requests that are
 * not of whole sectors therefore take longer.
 */
enum limpet_image_encryption { LIMPET_IMAGE_LUKS1 = 0, LIMPET_IMAGE_LUKS2 = 1 };

/*
 * Makes a new LUKS image of it, with a new key of 128 or 256 bits, and decrypts it: what it had is
 * lost, though not overwritten. -ENOSPC: the header is larger than the image; -EOPNOTSUPP: it has a
 * parent; -EINVAL: its stripes are smaller than sectors. Takes about two seconds: so long does it
 * take to try a passphrase, unless rbd_encryption_iter_time says otherwise.
 */
LIMPET_API int limpet_image_encrypt(struct limpet_image *image, enum limpet_image_encryption format,
                                    unsigned key_bits, const void *passphrase, size_t len);
/*
 * From now on the handle is the decrypted image. -EPERM: it is another passphrase; -EINVAL: it is
 * no image of this format; -EOPNOTSUPP: of another cipher; -EEXIST: it is decrypted already.
 */
LIMPET_API int limpet_image_decrypt(struct limpet_image *image, enum limpet_image_encryption format,
                                    const void *passphrase, size_t len);

/* ---- The trash ---- */

struct limpet_image_trash {
    char id[LIMPET_IMAGE_ID_MAX + 1];
    char name[LIMPET_IMAGE_NAME_MAX + 1];
    uint64_t deleted_ns;
    uint64_t deferred_until_ns;
};
/* For delay_s seconds it is not removed without force. -EBUSY: it is open. */
LIMPET_API int limpet_image_trash_move(struct limpet_pool *pool, const char *name,
                                       uint64_t delay_s);
/* Release *out with limpet_free(). */
LIMPET_API int limpet_image_trash_list(struct limpet_pool *pool, struct limpet_image_trash **out,
                                       size_t *n);
LIMPET_API int limpet_image_trash_get(struct limpet_pool *pool, const char *id,
                                      struct limpet_image_trash *out);
/* name NULL: the one it had. -EEXIST. */
LIMPET_API int limpet_image_trash_restore(struct limpet_pool *pool, const char *id,
                                          const char *name);
/* -EPERM: its time has not come. */
LIMPET_API int limpet_image_trash_remove(struct limpet_pool *pool, const char *id, bool force,
                                         limpet_image_progress progress, void *arg);
/*
 * All whose time has come before `until_ns`. -ENOTEMPTY, -EBUSY, -EMLINK: one has snapshots, is
 * open, is in a group; the others are removed.
 */
LIMPET_API int limpet_image_trash_purge(struct limpet_pool *pool, uint64_t until_ns);

/* ---- Groups: images whose snapshots are taken together ---- */

LIMPET_API int limpet_group_create(struct limpet_pool *pool, const char *name);
LIMPET_API int limpet_group_remove(struct limpet_pool *pool, const char *name);
LIMPET_API int limpet_group_rename(struct limpet_pool *pool, const char *name, const char *to);
/* Names, each in an entry of a list like that of images. Release *out with limpet_free(). */
LIMPET_API int limpet_group_list(struct limpet_pool *pool, struct limpet_image_entry **out,
                                 size_t *n);
/* Also one that is in it already. -EEXIST: it is in another group; an image is in one at most. */
LIMPET_API int limpet_group_add(struct limpet_pool *pool, const char *group,
                                struct limpet_pool *image_pool, const char *image);
LIMPET_API int limpet_group_take_out(struct limpet_pool *pool, const char *group,
                                     struct limpet_pool *image_pool, const char *image);
/* By its id; also one that cannot be opened, or is gone. */
LIMPET_API int limpet_group_take_out_id(struct limpet_pool *pool, const char *group,
                                        struct limpet_pool *image_pool, const char *id);
/* Release *out with limpet_free(). */
LIMPET_API int limpet_group_images(struct limpet_pool *pool, const char *group,
                                   struct limpet_image_spec **out, size_t *n);
/* The image's group: pool, name, id. -ENOENT. */
LIMPET_API int limpet_image_group(struct limpet_image *image, struct limpet_image_spec *out);

struct limpet_group_snap {
    char id[LIMPET_IMAGE_ID_MAX + 1];
    char name[LIMPET_IMAGE_NAME_MAX + 1];
    bool complete; /* Otherwise it was interrupted, and can only be removed. */
};
/* All its images stand still meanwhile, but those without exclusive lock, which others may go on
 * writing to. -EEXIST; -EBUSY: an image's lock was not to be had. */
LIMPET_API int limpet_group_snap_create(struct limpet_pool *pool, const char *group,
                                        const char *snap);
LIMPET_API int limpet_group_snap_remove(struct limpet_pool *pool, const char *group,
                                        const char *snap);
LIMPET_API int limpet_group_snap_rename(struct limpet_pool *pool, const char *group,
                                        const char *snap, const char *to);
LIMPET_API int limpet_group_snap_rollback(struct limpet_pool *pool, const char *group,
                                          const char *snap, limpet_image_progress progress,
                                          void *arg);
/* Release *out with limpet_free(). */
LIMPET_API int limpet_group_snap_list(struct limpet_pool *pool, const char *group,
                                      struct limpet_group_snap **out, size_t *n);

/* ---- Namespaces ---- */

/* Names under which a pool's images stand apart. -EEXIST; of remove: -EBUSY: it has images. */
LIMPET_API int limpet_image_space_create(struct limpet_pool *pool, const char *space);
LIMPET_API int limpet_image_space_remove(struct limpet_pool *pool, const char *space);
LIMPET_API int limpet_image_space_exists(struct limpet_pool *pool, const char *space, bool *exists);
/* The names, then NULL. Release *names with limpet_free(). */
LIMPET_API int limpet_image_space_list(struct limpet_pool *pool, char ***names);

#ifdef __cplusplus
}
#endif

#endif
