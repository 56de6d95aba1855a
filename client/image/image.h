/*
 * An open image, and what the files of this folder share.
 *
 *  S1  image->lock protects everything below it in struct limpet_image. Nobody waits for the
 *      network while holding it, and no callback is made.
 *
 *  S2  Completions of requests run on the library's thread, which never waits for anything here.
 *      What must wait (taking the lock, opening a parent) is a task: a thread that does it and
 *      ends.
 *
 *  S3  A request is under way (image->passed; writes: image->writes, too) from when it passed the
 *      gate until its callback is due. A write passes only while the lease is held and valid and
 *      nobody has shut the gate (L1).
 *
 *  S4  Who changes the whole image (resize, rollback, flatten ...) holds the lease (image->holds),
 *      so that it is not given away, and shuts the gate where no write may come between.
 *
 *  S5  What requests rely on (snapshots, size, overlap) changes only while none is under way: a new
 *      header that differs in these waits for that (image->next), and requests wait for it. So a
 *      write has one snapshot context from the object map to the last object, and when a notify is
 *      answered, no write goes on that knows less than the header.
 */
#ifndef LIMPET_CLIENT_IMAGE_IMAGE_H
#define LIMPET_CLIENT_IMAGE_IMAGE_H

#include <bsd/sys/queue.h>
#include <pthread.h>

#include "client/image/header.h"
#include "client/image/stripe.h"

enum {
    IMAGE_LEASE_MS = 10000,
    /* A holder that is alive and deaf loses its lease after two of its time-outs. */
    IMAGE_PATIENCE_MS = 30000,
    IMAGE_NOTIFY_MS = 25000,
    /* So long a process that may hold back requests is blocked: a week. */
    IMAGE_BLOCK_S = 7 * 24 * 3600,
    IMAGE_PIECES_MAX = 64,   /* Of one request, under way. */
    IMAGE_SIDE_BY_SIDE = 32, /* Objects that long operations treat at a time. */
};

struct io;
struct object_map;
struct crypt;
TAILQ_HEAD(io_list, io);
TAILQ_HEAD(copyup_list, copyup);

/*
 *     NONE --> TAKING --> HELD --> LEAVING --> NONE
 *      | ^        |         |         |
 *      v |        +-> NONE  +--lost---+--> MENDING --> NONE
 *     MENDING
 *
 * In all but NONE and HELD there is a task, which alone uses the watch.
 */
enum lease_state { LEASE_NONE, LEASE_TAKING, LEASE_HELD, LEASE_LEAVING, LEASE_MENDING };

/* Limits of requests (qos.c): all, reads, writes a second; then the same of their bytes. */
enum { QOS_BUCKETS = 6 };
struct image_bucket {
    uint64_t rate; /* 0: no limit. */
    double cap, tokens;
};
/* What options say: those that are set, as bits. */
struct image_qos_options {
    struct limpet_image_qos limits;
    unsigned set;
};
struct image_qos {
    struct image_qos_options of_pool, of_image;
    struct limpet_image_qos limits; /* As they are. */
    bool limited;
    bool pacing; /* There is a thread that lets them go on. */
    bool own;    /* Set by the handle's user: options do not count. */
    uint64_t filled_ns;
    struct image_bucket buckets[QOS_BUCKETS];
    struct io_list line;
};

/* Writes that were answered early (early.c). */
struct image_early {
    bool allowed, on; /* It is, and has begun. */
    uint64_t max, bytes;
    unsigned n;
    struct io_list writes;  /* Under way, by number. */
    struct io_list waiting; /* Requests that overlap them. */
    int error;              /* Of the first of those that failed and no flush has told, and */
    uint64_t error_number, error_last; /* its number; that of the last of them. */
};

struct pending_ack {
    struct limpet_watch *watch; /* That was notified. */
    uint64_t notifier, id;
    struct pending_ack *next;
};

struct limpet_image {
    struct limpet_cluster *cluster;
    struct limpet_pool *meta; /* Of the header. */
    struct limpet_pool *data; /* Writes know the snapshots; reads see the head. */
    struct limpet_pool *bare; /* Writes know no snapshots. */
    struct limpet_pool *view; /* Reads see what the handle looks at. */
    char id[LIMPET_IMAGE_ID_MAX + 1];
    char header_name[IMAGE_OBJECT_NAME_MAX];
    char prefix[64];
    struct stripe stripe;
    bool read_only;
    bool making; /* It is not whole, and nobody else can open it. */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* Of everything that somebody waits for. */
    char name[LIMPET_IMAGE_NAME_MAX + 1];
    struct header header;
    uint64_t snap; /* That it looks at; 0: the head. */
    bool snap_lost;
    uint64_t size, overlap; /* Of what it looks at. */
    struct limpet_image *parent;
    int dead; /* Why nothing works any more. */
    unsigned tasks;

    /* Requests. */
    bool call_by_waiters;    /* Whose callbacks threads that wait may make. */
    unsigned ios;            /* All of them. */
    unsigned passed;         /* The gate: under way. */
    unsigned writes;         /* Of these. */
    unsigned shut;           /* Who keeps the gate shut. */
    struct io_list waiting;  /* Before the gate. */
    struct io_list flushing; /* Flushes, in order. */
    uint64_t submitted;      /* Writes so far: each has a number. */
    struct io_list running;  /* Writes by number, also waiting ones. */
    struct copyup_list copyups;
    struct image_qos qos;
    struct image_early early;

    /* The lease (lock.c). */
    struct limpet_watch *watch; /* NULL: read-only, or it is being made anew. */
    bool watch_begins;          /* Callbacks are those of one that is not in `watch` yet. */
    enum lease_state lease;
    uint64_t entry;          /* The cookie of our entry in the header; 0: there is none. */
    uint64_t lease_until_ns; /* CLOCK_BOOTTIME: it is good until then for certain. */
    unsigned holds;
    unsigned held;   /* Requests of long operations that are under way. */
    uint64_t taken;  /* Counts how often it was taken. */
    bool lost;       /* The watch. */
    bool kept;       /* By its user: others do not get it. */
    bool recalled;   /* Somebody waits for it. */
    int lease_error; /* Of the last attempt. */

    /* Refreshing (open.c). */
    struct header next; /* Taken when nothing is under way; core_bytes NULL: there is none. */
    bool refreshing, refresh_again;
    struct pending_ack *acks;     /* Notifies to be answered after the next refresh. */
    struct pending_ack *acks_now; /* After this one; or when `next` is taken. */

    /* The watcher of its user. */
    void (*user_changed)(void *arg);
    void *user_arg;
    uint64_t user_cookie;
    unsigned user_calls; /* Under way. */

    struct object_map *map; /* NULL: there is none, or we do not own the image. */
    struct crypt *crypt;    /* NULL: it is not decrypted. Set once or replaced, never taken away. */
};

/* ---- tasks.c ---- */

/*
 * Runs it on a thread of its own. Of an image: with its lock held, and closing waits for it.
 */
int task_run(struct limpet_image *image, void (*run)(void *arg), void *arg) MUST_CHECK;

/* ---- open.c ---- */

/* By id. snap 0: the head. */
int image_open_id(struct limpet_cluster *cluster, uint64_t pool, const char *space, const char *id,
                  uint64_t snap, bool read_only, struct limpet_image **out) MUST_CHECK;
/* Of one that is IMAGE_CREATING, to write it. */
int image_open_unfinished(struct limpet_pool *pool, const char *id,
                          struct limpet_image **out) MUST_CHECK;
/* A handle of the same pool and namespace. */
int pool_again(struct limpet_pool *pool, struct limpet_pool **out) MUST_CHECK;
int pool_of_link(struct limpet_cluster *cluster, const struct image_link *link,
                 struct limpet_pool **out) MUST_CHECK;
/*
 * Takes a header that was read, or written, unless it knows a newer one; takes it over. Waits for
 * what is under way: image_wait_header(), which callbacks must not.
 */
void image_take_header(struct limpet_image *image, struct header *header);
void image_wait_header(struct limpet_image *image);
/* With the lock, and nothing is under way: takes `next`, if there is one. */
void image_take_next(struct limpet_image *image);
int image_refresh(struct limpet_image *image) MUST_CHECK;
/* With the lock: reads it, and then answers `acks`. Does not wait. */
void image_refresh_later(struct limpet_image *image);
/* header_change(), then everybody who has the image open is told. */
int image_change(struct limpet_image *image, header_changer change, void *arg) MUST_CHECK;
/* H2, of an image that need not be open. renamed: its new name, or NULL. */
int image_tell(struct limpet_pool *meta, const char *id, const char *renamed) MUST_CHECK;
/* Writers that have an entry and no lease are blocked: what they may have sent knows less (H2). */
int image_block_lost(struct limpet_pool *meta, const char *id) MUST_CHECK;
void image_data_name(const struct limpet_image *image, uint64_t object,
                     char out[IMAGE_OBJECT_NAME_MAX]);
void object_name(const char *prefix, uint64_t object, char out[IMAGE_OBJECT_NAME_MAX]);

/* ---- lock.c ---- */

extern const struct limpet_watch_calls image_watch_calls;
/* With the lock: whether the lease is good right now. */
bool image_lease_is_valid(struct limpet_image *image);
/* With the lock: whether a write may pass. Starts to take the lease if that is what it lacks. */
bool image_gate_open(struct limpet_image *image);
/* With the lock: the gate may have opened, or requests before it must fail. */
void image_gate_changed(struct limpet_image *image);
/* Takes the lease and keeps it from being given away until image_unhold(). */
int image_hold(struct limpet_image *image) MUST_CHECK;
void image_unhold(struct limpet_image *image);
/* The same, and the lease is given back for certain: it is taken by other rules from now on. */
void image_give_back(struct limpet_image *image);
/*
 * In a long operation, between two steps of which each can be the last: lets others have it, and
 * takes it anew when it was lost.
 */
int image_breathe(struct limpet_image *image) MUST_CHECK;
/* What a long operation goes by: nobody has changed it since, if both are as they were. */
struct image_view {
    uint64_t taken, generation;
};
/* With the lock. */
struct image_view image_view(const struct limpet_image *image);
/*
 * A long operation has requests under way: until the end of that our entry stands, also when the
 * lease is lost (L2). -EAGAIN: it is, or was, since that view.
 */
int image_held_begin(struct limpet_image *image, const struct image_view *view) MUST_CHECK;
void image_held_end(struct limpet_image *image);
bool image_is_recalled(struct limpet_image *image);
/* No write is under way, and none begins, until it is opened. */
void image_shut_gate(struct limpet_image *image);
void image_open_gate(struct limpet_image *image);
/* From now on no OSD that executes a request of ours executes one of that process. */
int image_block(struct limpet_cluster *cluster, uint64_t instance) MUST_CHECK;
/* Beginning to watch the header, and at closing, when nothing is under way, the end. */
int image_watch_begin(struct limpet_image *image) MUST_CHECK;
void image_watch_end(struct limpet_image *image);

/* ---- io.c ---- */

enum io_kind {
    IO_READ,
    IO_WRITE,
    IO_DISCARD,
    IO_WRITE_SAME,
    IO_COMPARE_AND_WRITE,
    IO_FLUSH,
};

/* A request. */
struct io {
    struct limpet_image *image;
    enum io_kind kind;
    uint64_t offset, len; /* Inside the image. */
    uint64_t size;        /* Of the image, and */
    uint64_t overlap;     /* bytes that the parent shows, when the request began to run. */
    int n_iov;
    struct iovec *iov; /* What is written, or read into; of the caller, unless `owned`. */
    struct iovec one;
    struct iovec *vectors; /* A copy of the caller's. */
    void *owned;           /* A copy of what is written. */
    size_t pattern;        /* Of IO_WRITE_SAME: bytes that are repeated. */
    const void *expected;  /* Of IO_COMPARE_AND_WRITE. */
    bool if_zero;          /* Of IO_DISCARD: only where there are zeroes, and objects. */
    uint64_t *mismatch;
    limpet_image_callback callback;
    void *arg;
    bool inside;  /* The library's own. */
    bool waited;  /* By a thread that may make callbacks of its pieces. */
    bool through; /* It is not answered before its end; else it may be: */
    bool early;
    uint64_t dirty; /* Its bytes, then. */
    TAILQ_ENTRY(io) early_link;
    uint64_t number;
    uint64_t after;           /* The last write before it. */
    TAILQ_ENTRY(io) link;     /* Of waiting or flushing. */
    TAILQ_ENTRY(io) run_link; /* Of running. */
    /* Under the image's lock while it runs. */
    bool splitting;
    unsigned pieces; /* Under way. */
    uint64_t at;     /* Bytes that pieces were made of. */
    ssize_t error;
};

/*
 * Of the library's own: no limit; the callback is made on the library's thread. `waited`: or on one
 * that waits for what it serves, also before the call returns.
 */
int image_read_inside(struct limpet_image *image, void *data, uint64_t len, uint64_t offset,
                      bool waited, limpet_image_callback callback, void *arg) MUST_CHECK;
/* Discards what is zeroes, piece by piece; other pieces stay as they are. Waits. */
ssize_t image_discard_zeroes(struct limpet_image *image, uint64_t offset, uint64_t len) MUST_CHECK;
/* Lets those go on that stand before the gate; `error`: makes them fail. Without the lock. */
void io_release(struct limpet_image *image, int error);
/* A piece has ended. On the library's thread, or inside of io_run(). */
void io_piece_ended(struct io *io, ssize_t error);
bool io_writes(const struct io *io);
/* It has stood in line. Without the lock. */
void io_admitted(struct io *io);

/* ---- early.c ---- */

/* Reads the options. Of a handle that may answer writes early; others never do. */
int early_load(struct limpet_image *image) MUST_CHECK;
/*
 * With the lock, of a request that has passed and is numbered: what will answer it early, for
 * early_begin(), or NULL: its end does.
 */
struct io *early_answer(struct limpet_image *image, struct io *io);
void early_begin(struct io *io, struct io *answer);
/* With the lock: it has ended. */
void early_end(struct io *io);
/* With the lock: whether it has to wait for one that was answered (B2). */
bool early_overlaps(const struct io *io);
/* With the lock: one that waits no more, or NULL. */
struct io *early_take_due(struct limpet_image *image);
/* With the lock: what a flush behind that write tells. */
int early_error(struct limpet_image *image, uint64_t number);
/* With the lock: it has told that. What failed behind that write is still to be told. */
void early_told(struct limpet_image *image, uint64_t number);
/* Waits for those that were answered so far: before what looks at objects. Not in callbacks. */
void early_settle(struct limpet_image *image);

/* ---- qos.c ---- */

/* With the lock: whether no limit stops it; then it has been counted. */
bool qos_admit(struct limpet_image *image, const struct io *io);
/* Reads the pool's options, once; the image's were read with its header. */
int qos_load_pool(struct limpet_image *image) MUST_CHECK;
/* A step that reads the image's options, and what takes them over, with the lock; destroys them. */
int qos_reading_step(struct limpet_op *op, struct limpet_pairs **options) MUST_CHECK;
void qos_take_options(struct limpet_image *image, struct limpet_pairs *options);
/* Metadata that is to be set: -EINVAL if it is an option, and the value none for it. */
int qos_check_option(const char *key, const void *value, size_t len) MUST_CHECK;
/* With the lock: io_admitted() follows. false: there is no thread for that. */
bool qos_line_up(struct limpet_image *image, struct io *io);

/* ---- copyup.c ---- */

/* Who waits until an object is there that has what the parent showed (if that was not zeroes). */
struct copyup_waiter {
    void (*done)(struct copyup_waiter *waiter, int error);
    TAILQ_ENTRY(copyup_waiter) link;
};
/* done() on the library's thread, or at once when it cannot begin. */
void copyup(struct limpet_image *image, uint64_t object, struct copyup_waiter *waiter);
int copyup_and_wait(struct limpet_image *image, uint64_t object) MUST_CHECK;

/* ---- map.c ---- */

/*
 * The object map of an image whose owner we are. Without one all is as it is for objects of which
 * nothing is known.
 */
int map_load(struct limpet_image *image) MUST_CHECK;
void map_drop(struct limpet_image *image);
/* With the lock: the image has another size. */
void map_resize(struct limpet_image *image);

enum map_answer { MAP_UNKNOWN, MAP_ABSENT, MAP_EXISTS };
enum map_answer map_ask(struct limpet_image *image, uint64_t object);

/* Whether it may have been since a snapshot; what is not known may have been. */
bool map_changed_since(struct limpet_image *image, uint64_t object, uint32_t ordinal);

struct map_waiter {
    void (*done)(struct map_waiter *waiter, int error);
    TAILQ_ENTRY(map_waiter) link;
};
/*
 * An object is going to be written. false: the map says so already; true: done() is called when it
 * does, on the library's thread or at once.
 */
bool map_note(struct limpet_image *image, uint64_t object, struct map_waiter *waiter);
/*
 * The same when it was removed by a request (NULL: while no request is under way). false: it may
 * have been made again meanwhile.
 */
bool map_note_removed(struct limpet_image *image, uint64_t object, const struct io *io,
                      struct map_waiter *waiter);

/*
 * What the map says of all objects of an image, also of one whose owner we are not: at a snapshot,
 * or 0. -EOPNOTSUPP: it has none, or it is not valid. Release *entries with free().
 */
enum { MAP_REMOVED = 1 };
/* It is kept of images of at most so many objects. */
bool map_reaches(uint64_t objects);
/* Of a header whose extent is new: what is written beyond that is in no map, for good. */
void map_outgrown(struct image_core *core);
int map_read(struct limpet_pool *data, const char *id, uint64_t snap, uint64_t first, uint64_t end,
             uint32_t **entries) MUST_CHECK;
/* Of the owner, while the gate is shut: all entries. */
int map_write(struct limpet_image *image, const uint32_t *entries, uint64_t objects) MUST_CHECK;
int map_remove(struct limpet_pool *data, const char *id, uint64_t objects) MUST_CHECK;

/* ---- diff.c ---- */

/* The clone of an object that shows a snapshot, their number: the head; or that it was not there.
 */
enum { OBJECT_NO_VERSION = -1 };
ptrdiff_t object_version_at(const struct limpet_snapset *set, uint64_t snap);

/* As limpet_image_diff(), of an image's parent as it is now. -ENOENT: its snapshot is gone. */
int image_diff_parent(struct limpet_image *image, uint64_t offset, uint64_t len, bool whole_object,
                      limpet_image_extent extent, void *arg) MUST_CHECK;
/*
 * When its parent could not be asked: whether it shows less of it than it did, for what it showed
 * is in its own objects.
 */
bool image_was_flattened(struct limpet_image *image, uint64_t overlap);
/* Before it is named: whether its name is not another one's now. -ENOENT. */
int image_check_same(struct limpet_image *image, const struct image_snap *snap) MUST_CHECK;
/*
 * After reading: whether the image, the snapshot that the handle looks at, and another one (0:
 * none), are still there, so that what was read is not zeroes in the place of what they had.
 * -ENOENT.
 */
int image_check_shown(struct limpet_image *image, uint64_t snap) MUST_CHECK;
/*
 * What of a range must be discarded: all of a short one, of a long one what there is. As
 * limpet_image_diff().
 */
int image_discard_extents(struct limpet_image *image, uint64_t offset, uint64_t len,
                          limpet_image_extent extent, void *arg) MUST_CHECK;

/* ---- exist.c ---- */

/* Numbers of objects, ascending. */
struct exist {
    bool known; /* These are all that there are. */
    uint64_t *list;
    size_t n, room;
};
/* Whether a walk over the pool costs less than asking n objects. */
bool exist_is_cheaper(struct limpet_pool *data, uint64_t n);
/*
 * Of the image with this prefix, those from `first` and below `end`; kept: also such that are gone,
 * and that snapshots still show. exist_fini() *e, also after an error. Memory: 8 to 16 bytes each.
 */
int exist_list(struct limpet_pool *data, const char *prefix, uint64_t first, uint64_t end,
               bool kept, struct exist *e) MUST_CHECK;
/* One that is not below the last one. */
int exist_add(struct exist *e, uint64_t object) MUST_CHECK;
/* Where it stands, or would stand. */
size_t exist_at(const struct exist *e, uint64_t object);
bool exist_has(const struct exist *e, uint64_t object);
void exist_fini(struct exist *e);

/* ---- sweep.c ---- */

/* One object of a sweep. */
struct swept {
    struct sweeping *sweeping;
    uint64_t object;
    /* For whoever treats it. */
    void *arg;
    struct limpet_op *op; /* Destroyed at its end. */
    void *memory;         /* Freed then. */
    struct copyup_waiter copyup;
    struct map_waiter map;
};

/*
 * Does something with each of many objects, IMAGE_SIDE_BY_SIDE at a time, and waits. start()
 * returns 0 when swept_end() will be called, SWEEP_SKIP when there is nothing to do, or an error.
 */
#define SWEEP_SKIP 1
struct sweep {
    /* NULL, or whose lease is held: -EAGAIN when others may have changed it since `view`. */
    struct limpet_image *image;
    struct image_view view;
    bool breathes; /* It is lent to others meanwhile. */
    uint64_t first, end;
    /* NULL, or not all of them: first and end are places in this list. */
    const uint64_t *list;
    int (*start)(struct swept *swept);
    /* NULL is allowed: of requests, on the library's thread. */
    void (*ended)(struct swept *swept, int result);
    void *arg;
    limpet_image_progress progress;
    void *progress_arg;
};
int sweep(const struct sweep *sweep) MUST_CHECK;
/*
 * Of the image's objects only those that are there, where no map tells, and there are many; kept:
 * or that snapshots show. exist_fini() *exist after the sweep.
 */
int sweep_what_exists(struct sweep *sweep, bool kept, struct exist *exist) MUST_CHECK;
void swept_end(struct swept *swept, int result);
/* A completion that ends it; that there is no such object is no error of the sweep. */
int swept_completion(struct swept *swept, struct limpet_completion **out) MUST_CHECK;
/* Of that completion's request: it was not submitted, which is passed on, or is under way. */
int swept_submitted(struct limpet_completion *completion, int rc) MUST_CHECK;

/* ---- resize.c ---- */

/* Removes objects beyond the end. The lease is held. */
int image_trim(struct limpet_image *image) MUST_CHECK;
/* Of an image that nobody has open. */
int image_remove_objects(struct limpet_pool *meta, const char *id, const struct image_core *core,
                         limpet_image_progress progress, void *arg) MUST_CHECK;

/* ---- clone.c ---- */

/* Its name, as far as it is known. */
void image_describe(struct limpet_cluster *cluster, const struct image_link *link,
                    struct limpet_image_spec *out);
void image_link_of(const struct limpet_image *image, struct image_link *out);
/* The entry of a clone at its parent. Neither needs to be there. */
int image_forget_child(struct limpet_cluster *cluster, const struct image_core *core,
                       const struct image_link *child) MUST_CHECK;

/* ---- piece.c ---- */

/* One piece of a request: len bytes at io_offset of it. Ends with io_piece_ended(). */
void piece_start(struct io *io, struct stripe_piece where, uint64_t io_offset);

#endif
