/* Private to images.c, which has the clients, and image_ops.c, which has what they do. */
#ifndef LIMPET_TESTS_SIM_IMAGES_IMPL_H
#define LIMPET_TESTS_SIM_IMAGES_IMPL_H

#include "client/limpet/image.h"
#include "client/limpet/object.h"
#include "common/witness.h"
#include "tests/sim/fibers.h"
#include "tests/sim/image_model.h"
#include "tests/sim/images.h"

enum {
    IMAGES_MAX = 4,
    IMAGES_WORKERS_MAX = 4,
    GRANULE = 1024, /* Contents are written in pieces of so many bytes, all of one number. */
    GRANULES_MAX = 64,
    IMAGE_SNAPS_MAX = 12,
    IMAGE_BREAKERS_MAX = 16,
    IMAGE_NAME_BYTES = 24,
    IMAGE_POOL_BYTES = 16,
    IMAGE_LEAVINGS_MAX = 64,
};

/* What a snapshot shows, when it was read first: it must not change any more. */
struct image_snap_model {
    char name[IMAGE_NAME_BYTES];
    bool used;
    bool known; /* It is there for certain. */
    bool read;  /* `values` are what it shows. */
    bool going; /* It may have been removed. */
    bool seen;  /* By the last look at the list. */
    uint64_t call, end;
    uint32_t n; /* Granules. */
    uint64_t values[GRANULES_MAX];
};

enum image_state {
    IMAGE_NOT_THERE,
    IMAGE_THERE,
    IMAGE_HALF, /* Whoever made, removed or renamed it is dead: it is one or the other. */
};

struct image_model {
    enum image_state state;
    char name[IMAGE_NAME_BYTES];
    char other[IMAGE_NAME_BYTES]; /* It may have this name instead. "": it has not. */
    char id[LIMPET_IMAGE_ID_MAX + 1];
    bool id_known;
    uint64_t life;   /* Counts those that had this place. */
    bool busy;       /* Somebody makes, removes or renames it. */
    bool close;      /* Nobody keeps it open. */
    bool maintained; /* Somebody resizes it, takes a snapshot, ... */
    uint32_t users;  /* Operations under way. */
    uint32_t n_breakers;
    uint64_t breakers[IMAGE_BREAKERS_MAX]; /* Processes that may have left it half made. */
    bool exclusive, has_map;
    bool trashed;       /* It may be in the trash. */
    unsigned encrypted; /* In sectors of so many bytes; 0: it is not. */
    unsigned order;
    uint64_t unit, count;
    int parent; /* Its place; -1: none. */
    uint32_t n_children;
    struct cell size; /* In granules. */
    struct cell cells[GRANULES_MAX];
    struct image_snap_model snaps[IMAGE_SNAPS_MAX];
    uint64_t entered[CLUSTER_CLIENTS_MAX + 1]; /* When a client's process took the lease last. */
    int writer;                                /* Who sent the last write; -1: nobody. */
    uint64_t written;                          /* When. */
};

enum image_op_kind {
    IMAGE_OP_READ,
    IMAGE_OP_WRITE,
    IMAGE_OP_ZERO,
    IMAGE_OP_SAME,
    IMAGE_OP_COMPARE,
    IMAGE_OP_FLUSH,
    IMAGE_OP_SNAP,
    IMAGE_OP_SNAP_REMOVE,
    IMAGE_OP_SNAP_READ,
    IMAGE_OP_ROLLBACK,
    IMAGE_OP_RESIZE,
    IMAGE_OP_FLATTEN,
    IMAGE_OP_DIFF,
    IMAGE_OP_CHECK,
    IMAGE_OP_STREAM, /* A difference, or all of it, becomes another image. */
    IMAGE_OP_GROUP,  /* Of several images at once. */
    IMAGE_OP_CREATE,
    IMAGE_OP_REMOVE,
    IMAGE_OP_CLONE,
    IMAGE_OP_RENAME,
    IMAGE_OP_TRASH, /* And back. */
    IMAGE_OP_MEND,  /* Of one that is half made. */
    IMAGE_OPS_END
};

struct image_client;

/* An operation under way; what is known of it when its client dies. */
struct image_op {
    TAILQ_ENTRY(image_op) link;
    struct images *images;
    struct image_client *client;
    enum image_op_kind kind;
    struct image_model *image;
    struct image_model *other; /* Of a clone: what it is made of. */
    struct image_snap_model *snap;
    uint64_t serial, call, end;
    uint64_t passed, entered; /* The gate, and when the lease had been taken; 0: it has not. */
    uint32_t first, n;        /* Granules that it reads or writes. */
    uint64_t value, expected;
    bool done;
    bool owner;  /* Its client has the exclusive lock at the end. */
    bool cached; /* Through a handle that may answer writes early. */
    ssize_t result;
    uint64_t mismatch;
    uint8_t *data;
};
TAILQ_HEAD(image_op_list, image_op);

/* A write that may have been answered early: until a flush, or the end of its handle, it is under
 * way. */
struct image_early {
    TAILQ_ENTRY(image_early) link;
    struct image_client *client;
    struct image_model *image;
    uint64_t life, serial, end;
    uint32_t first, n;
};
TAILQ_HEAD(image_early_list, image_early);

/* A group, or another image, that somebody makes and takes away again. */
struct image_leaving {
    char name[IMAGE_NAME_BYTES];
    bool used, is_group;
    uint64_t breaker;            /* The process that has made it, */
    struct image_client *client; /* NULL: which is gone. */
};

/* An open image of a process. */
struct image_handle {
    struct limpet_image *image;
    uint64_t life; /* Of what it has open; 0: nothing. */
    uint32_t refs;
    bool opening;
    bool cached; /* Writes may be answered early. */
};

/* A client's process, and those that come after it. */
struct image_client {
    struct images *images;
    struct cluster_client *client;
    uint32_t number;
    struct fibers *fibers; /* NULL: no process. */
    struct limpet_cluster *cluster;
    struct limpet_pool *pool; /* NULL: it is not connected. */
    struct image_handle handles[IMAGES_MAX];
    uint32_t workers; /* That have not ended. */
    bool blocked;
    struct env_timer again; /* A blocked process ends. */
};

struct images {
    struct cluster *cluster;
    const struct scenario *scenario;
    struct witness *witness;
    uint32_t n_images, n_workers;
    uint64_t think_ns;
    uint32_t mix[IMAGE_OPS_END];
    uint64_t mix_sum;
    uint64_t encrypted; /* Percent of the images. */
    uint64_t cached;    /* Percent of the handles. */
    bool started, stopping, finishing, finished;
    uint64_t serials, lives;
    uint32_t n_done;
    struct image_op_list ops;
    struct image_early_list early;
    struct image_leaving leavings[IMAGE_LEAVINGS_MAX];
    struct image_model models[IMAGES_MAX];
    struct image_client clients[CLUSTER_CLIENTS_MAX + 1];
};

static inline uint64_t images_now(const struct images *images)
{
    return sim_now(images->cluster->sim);
}

static inline uint64_t images_below(struct images *images, uint64_t n)
{
    return sim_below(images->cluster->sim, n);
}

/* ---- images.c ---- */

void images_fail(struct images *images, const struct image_model *image, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The process was blocked: another one takes its place. Whoever calls it ends. */
void image_client_blocked(struct image_client *client);
/* The handle of an image that is there; NULL, and an error. Give it back. */
struct limpet_image *image_handle_take(struct image_client *client, struct image_model *image,
                                       int *error);
void image_handle_give(struct image_client *client, struct image_model *image);
/* Whether its open handle may answer writes early. */
bool image_handle_is_cached(const struct image_client *client, const struct image_model *image);
/* Closes what this process has open and must not. */
void image_handles_close(struct image_client *client, bool all);

/* ---- image_ops.c ---- */

/* One of an image that is free for it, if there is one. */
void image_op_run(struct image_client *client);
/* The client has died, or was blocked: nobody knows what became of it. Frees it. */
void image_op_lost(struct image_op *op);
/* What a client's writes were that were answered by `upto`: done, or, of one that is gone, lost. Of
 * one image, or of all (NULL). */
void image_early_end(struct image_client *client, const struct image_model *image, uint64_t upto,
                     bool done);
/* Checks and removes everything; false: not yet. */
bool images_remove_all(struct image_client *client);

/* An operation is noted; it has ended; it has failed, by an error that it does not explain itself.
 */
struct image_op *image_op_begin(struct image_client *client, enum image_op_kind kind,
                                struct image_model *image);
void image_op_end(struct image_op *op, int64_t result);
void image_op_failed(struct image_op *op, int64_t error);
/* Its image, open; NULL: the operation has ended. */
struct limpet_image *image_op_handle(struct image_op *op);
struct image_snap_model *image_snap_choose(struct images *images, struct image_model *image,
                                           bool (*fits)(const struct image_snap_model *snap));
bool image_snap_is_read(const struct image_snap_model *snap);
int image_snap_open(struct image_op *op, const struct image_snap_model *snap,
                    struct limpet_image **out);
/* What a granule holds; false: no one value. */
bool image_value_of(const uint8_t *data, uint64_t *value);
/* A granule, or the size, was read between two moments. */
void image_judge(struct images *images, struct image_model *image, uint32_t at, const uint8_t *data,
                 uint64_t call, uint64_t end, const char *what);
void image_judge_size(struct images *images, struct image_model *image, uint64_t n, uint64_t call,
                      uint64_t end, const char *what);
/* Of a change of what there is: its process may die in it; everybody closes it; it is there. */
void image_note_breaker(struct image_client *client, struct image_model *image);
void image_have_closed(struct image_op *op);
int image_is_there(struct image_client *client, struct image_model *image);

/* ---- image_groups.c ---- */

/* To the trash, and back; after a death in between. */
int image_trash(struct image_op *op);
int image_trash_mend(struct image_op *op);
/* A group of all images that are free, with a snapshot. */
void image_group_run(struct image_client *client);
/* Removes something that a dead client has left, if there is something; `all`: whoever it is. */
bool images_mend_leavings(struct image_client *client, bool all);
bool images_have_groups(const struct images *images);
/* The client is gone. */
void images_leavings_lost(struct image_client *client);
/* Neither groups nor the trash have anything. */
void images_check_rest(struct image_client *client);
/* Remembers what may be left; NULL: there is too much already. */
struct image_leaving *images_leave(struct image_client *client, bool is_group, uint64_t serial);

/* ---- image_streams.c ---- */

int image_stream(struct image_op *op);

/* Bytes before the contents of an encrypted image. */
static inline uint64_t image_hidden(const struct image_model *image)
{
    return image->encrypted > 0 ? image->count << image->order : 0;
}

/* Sizes are of whole sectors. */
static inline uint32_t image_rounded(const struct image_model *image, uint32_t n)
{
    uint32_t sector = image->encrypted > GRANULE ? image->encrypted / GRANULE : 1;
    return (n + sector - 1) / sector * sector;
}

/* image_inside.c: as a handle is after limpet_image_decrypt(), with a key that all have. */
void image_decrypt_inside(struct limpet_image *handle, unsigned sector, uint64_t hidden);
/* As one that was opened to write back, with rbd_cache, and flushed once. */
void image_cache_inside(struct limpet_image *handle);
/* The same file: as snapshots of groups do it, whoever has the lock gives it away. */
int roll_back_all_the_same(struct limpet_image *handle, const char *name);

#endif
