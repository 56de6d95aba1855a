/*
 * Who may write: the lease of the header (L1 to L3 in README.md), and the gate before writes.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/image/image.h"
#include "client/object/inside.h"
#include "common/planted.h"
#include "common/witness.h"

static uint64_t boot_clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool is_exclusive(const struct limpet_image *image)
{
    return (image->header.core.features & LIMPET_IMAGE_EXCLUSIVE_LOCK) != 0;
}

/* ---- The watch ---- */

static void mend_task(void *arg);
static void leave_task(void *arg);
static void take_task(void *arg);
static int remove_entry(struct limpet_image *image);
static void wait_for_writes(struct limpet_image *image);
static void wait_for_requests(struct limpet_image *image);

/* With the lock. A thread that cannot be made is tried for again with the next request. */
static void begin_task(struct limpet_image *image, enum lease_state state, void (*run)(void *arg))
{
    enum lease_state before = image->lease;
    image->lease = state;
    if (task_run(image, run, image) != 0)
        image->lease = before;
}

static void on_notified(struct limpet_watch *watch, void *arg, uint64_t notifier, uint64_t id,
                        const void *data, size_t len)
{
    struct limpet_image *image = arg;
    struct pending_ack *ack = malloc(sizeof *ack);
    if (ack == NULL)
        return;
    *ack = (struct pending_ack){.watch = watch, .notifier = notifier, .id = id};
    pthread_mutex_lock(&image->lock);
    if (image->watch_begins)
        image->watch = watch;
    if (len > 0 && len < sizeof image->name) {
        memcpy(image->name, data, len);
        image->name[len] = 0;
    }
    ack->next = image->acks;
    image->acks = ack;
    image_refresh_later(image);
    pthread_mutex_unlock(&image->lock);
}

static void on_recalled(struct limpet_watch *watch, void *arg, unsigned mode)
{
    struct limpet_image *image = arg;
    (void)watch;
    (void)mode;
    pthread_mutex_lock(&image->lock);
    if (!image->kept) {
        image->recalled = true;
        if (image->lease == LEASE_HELD && image->holds == 0)
            begin_task(image, LEASE_LEAVING, leave_task);
    }
    pthread_mutex_unlock(&image->lock);
}

/* With the lock. Not before limpet_watch() has returned: the watch is not ours to end before. */
static void mend_if_lost(struct limpet_image *image)
{
    if (image->lost && image->dead == 0 && !image->watch_begins &&
        (image->lease == LEASE_NONE || image->lease == LEASE_HELD))
        begin_task(image, LEASE_MENDING, mend_task);
}

static void on_lost(struct limpet_watch *watch, void *arg, int error)
{
    struct limpet_image *image = arg;
    pthread_mutex_lock(&image->lock);
    if (image->watch_begins)
        image->watch = watch;
    image->lost = true;
    image->lease_until_ns = 0;
    if (error == -ESHUTDOWN || error == -ENOENT)
        image->dead = error;
    int dead = image->dead;
    mend_if_lost(image);
    pthread_cond_broadcast(&image->changed);
    pthread_mutex_unlock(&image->lock);
    if (dead != 0)
        io_release(image, dead);
}

const struct limpet_watch_calls image_watch_calls = {
    .notified = on_notified,
    .recalled = on_recalled,
    .lost = on_lost,
};

int image_watch_begin(struct limpet_image *image)
{
    struct limpet_watch *watch;
    pthread_mutex_lock(&image->lock);
    image->lost = false;
    image->watch_begins = true;
    pthread_mutex_unlock(&image->lock);
    int rc = limpet_watch(image->meta, image->header_name, IMAGE_LEASE_MS, &image_watch_calls,
                          image, &watch);
    pthread_mutex_lock(&image->lock);
    image->watch_begins = false;
    image->watch = rc == 0 ? watch : NULL;
    if (rc == 0)
        mend_if_lost(image);
    pthread_mutex_unlock(&image->lock);
    return rc;
}

/* Only the task, or who closes the image, calls it. */
static void unwatch(struct limpet_image *image)
{
    pthread_mutex_lock(&image->lock);
    struct limpet_watch *watch = image->watch;
    image->watch = NULL;
    image->lease_until_ns = 0;
    pthread_mutex_unlock(&image->lock);
    /* An error says that the OSD forgets it by itself. */
    if (watch != NULL && limpet_unwatch(watch) != 0)
        return;
}

/*
 * A new watch in place of one that was lost; what was told meanwhile is read. The entry of the old
 * one goes when what was sent under it has ended, so that nobody has a reason to block us; and the
 * object map, which all of that is noted in.
 */
static int mend(struct limpet_image *image)
{
    pthread_mutex_lock(&image->lock);
    if (!planted(PLANTED_IMAGE_ENTRY_EARLY))
        wait_for_requests(image);
    pthread_mutex_unlock(&image->lock);
    map_drop(image);
    unwatch(image);
    /* A callback of the old one that runs is not one of the new one. */
    (void)limpet_watch_flush(image->cluster);
    int rc = image_watch_begin(image);
    if (rc == 0)
        rc = image_refresh(image);
    return rc == 0 && image->entry != 0 ? remove_entry(image) : rc;
}

/* ---- Taking ---- */

/* Not us, and our process is not there anymore when a handle of it is not. */
static bool is_me(const struct limpet_image *image, const struct image_owner *owner)
{
    return owner->instance == limpet_cluster_instance(image->cluster) &&
           owner->cookie == limpet_watch_cookie(image->watch);
}

static bool is_alive(const struct image_owner *owner, const struct limpet_watcher *watchers,
                     size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (watchers[i].instance == owner->instance && watchers[i].cookie == owner->cookie)
            return watchers[i].mode != LIMPET_LEASE_NONE;
    }
    return false;
}

/* Whether somebody has the lease and keeps it. */
static int find_keeper(struct limpet_image *image, bool *kept)
{
    struct header header;
    struct limpet_watcher *watchers = NULL;
    size_t n = 0;
    int rc = header_read(image->meta, image->id, &header);
    *kept = false;
    if (rc != 0)
        return rc;
    rc = limpet_watchers(image->meta, image->header_name, &watchers, &n);
    for (size_t i = 0; i < header.n_owners && rc == 0; i++) {
        const struct image_owner *owner = &header.owners[i];
        if (owner->kept && !is_me(image, owner) && is_alive(owner, watchers, n))
            *kept = true;
    }
    limpet_free(watchers);
    header_fini(&header);
    return rc;
}

/* -EROFS: somebody keeps it; -ENOTCONN and the like: the watch was lost. */
static int take_lease(struct limpet_image *image)
{
    enum limpet_lease_mode mode =
        is_exclusive(image) ? LIMPET_LEASE_EXCLUSIVE : LIMPET_LEASE_SHARED;
    bool kept = false;
    int rc = limpet_lease_change(image->watch, mode, 0);
    while (rc == -EBUSY) {
        rc = find_keeper(image, &kept);
        if (rc == 0 && kept)
            return -EROFS;
        if (rc == 0)
            rc = limpet_lease_change(image->watch, mode, IMAGE_PATIENCE_MS);
    }
    return rc;
}

/* Our entry, in a operation that nobody without the lease can do. */
static int add_entry(struct limpet_image *image, struct limpet_op *op, enum limpet_lease_mode mode,
                     bool kept)
{
    struct image_owner owner = {.mode = (uint8_t)mode, .kept = kept};
    char key[IMAGE_KEY_MAX];
    struct encoder e;
    encoder_init(&e);
    image_owner_encode(&e, &owner);
    size_t len = image_owner_key(key, limpet_cluster_instance(image->cluster),
                                 limpet_watch_cookie(image->watch));
    struct limpet_pair pair = {.key = key, .key_len = len, .value = e.data, .value_len = e.len};
    int rc = e.failed ? -ENOMEM : limpet_op_assert_lease(op, image->watch, mode);
    if (rc == 0)
        rc = limpet_op_omap_set(op, &pair, 1);
    encoder_fini(&e);
    return rc;
}

static int add_removal(struct limpet_op *op, const struct image_owner *owner)
{
    char key[IMAGE_KEY_MAX];
    size_t len = image_owner_key(key, owner->instance, owner->cookie);
    struct limpet_pair pair = {.key = key, .key_len = len};
    return limpet_op_omap_remove(op, &pair, 1);
}

/* Monitors that cannot answer are waited for, as OSDs are, unless the user has set a limit. */
int image_block(struct limpet_cluster *cluster, uint64_t instance)
{
    return limpet_block(cluster, instance, IMAGE_BLOCK_S);
}

/* L3: whoever left without giving back is blocked, and its entry goes with the next operation. */
static int block_dead(struct limpet_image *image, const struct header *header, struct limpet_op *op)
{
    struct limpet_watcher *watchers = NULL;
    size_t n = 0;
    int rc = 0;
    for (size_t i = 0; i < header->n_owners && rc == 0; i++) {
        const struct image_owner *owner = &header->owners[i];
        if (is_me(image, owner))
            continue;
        if (watchers == NULL)
            rc = limpet_watchers(image->meta, image->header_name, &watchers, &n);
        if (rc != 0 || is_alive(owner, watchers, n))
            continue;
        /* What an earlier handle of this process has sent comes before what we send. */
        if (owner->instance != limpet_cluster_instance(image->cluster) &&
            !planted(PLANTED_IMAGE_NOT_BLOCKED))
            rc = image_block(image->cluster, owner->instance);
        if (rc == 0)
            rc = add_removal(op, owner);
    }
    limpet_free(watchers);
    return rc;
}

static int enter(struct limpet_image *image, enum limpet_lease_mode mode)
{
    struct header header;
    int rc = header_read(image->meta, image->id, &header);
    if (rc != 0)
        return rc;
    struct limpet_op *op = limpet_op_create();
    rc = op != NULL ? block_dead(image, &header, op) : -ENOMEM;
    if (rc == 0)
        rc = add_entry(image, op, mode, image->kept);
    if (op != NULL)
        limpet_op_full_try(op);
    if (rc == 0)
        rc = limpet_operate(image->meta, image->header_name, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    if (rc == 0) {
        image->entry = limpet_watch_cookie(image->watch);
        witness_image(image->id, IMAGE_MOMENT_ENTERS, NULL);
        image_take_header(image, &header);
        image_wait_header(image);
    } else {
        header_fini(&header);
    }
    return rc;
}

static int take(struct limpet_image *image)
{
    int rc;
    do {
        rc = 0;
        pthread_mutex_lock(&image->lock);
        bool lost = image->lost || image->watch == NULL;
        int dead = image->dead;
        pthread_mutex_unlock(&image->lock);
        if (dead != 0)
            return dead;
        if (lost)
            rc = mend(image);
        if (rc == 0)
            rc = take_lease(image);
        if (rc == 0)
            rc = enter(image, is_exclusive(image) ? LIMPET_LEASE_EXCLUSIVE : LIMPET_LEASE_SHARED);
        if (rc == 0 && is_exclusive(image))
            rc = map_load(image);
    } while (rc == -ENOTCONN);
    return rc;
}

bool image_lease_is_valid(struct limpet_image *image)
{
    if (planted(PLANTED_IMAGE_LEASE_IGNORED) && image->lease == LEASE_HELD)
        return true;
    uint64_t now = boot_clock_ns();
    if (now < image->lease_until_ns)
        return true;
    if (image->lost || image->watch == NULL)
        return false;
    image->lease_until_ns = now + limpet_lease_valid(image->watch);
    return now < image->lease_until_ns;
}

static void take_task(void *arg)
{
    struct limpet_image *image = arg;
    int rc = take(image);
    pthread_mutex_lock(&image->lock);
    image->lease = rc == 0 ? LEASE_HELD : LEASE_NONE;
    image->taken += rc == 0;
    image->lease_error = rc;
    image->recalled = false;
    if (image->dead != 0)
        rc = image->dead;
    else if (image->lost)
        begin_task(image, LEASE_MENDING, mend_task);
    pthread_cond_broadcast(&image->changed);
    pthread_mutex_unlock(&image->lock);
    io_release(image, rc);
}

static void mend_task(void *arg)
{
    struct limpet_image *image = arg;
    int rc = mend(image);
    pthread_mutex_lock(&image->lock);
    image->lease = LEASE_NONE;
    image->recalled = false;
    if (rc == -ENOENT || rc == -ESHUTDOWN)
        image->dead = rc;
    int dead = image->dead;
    if (rc == 0 && dead == 0 && image->lost)
        begin_task(image, LEASE_MENDING, mend_task);
    pthread_cond_broadcast(&image->changed);
    pthread_mutex_unlock(&image->lock);
    /* Those who wait want the lease again. */
    io_release(image, dead);
}

/* ---- Giving back ---- */

/* All that was sent under it has ended. */
static int remove_entry(struct limpet_image *image)
{
    struct image_owner me = {.instance = limpet_cluster_instance(image->cluster),
                             .cookie = image->entry};
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? add_removal(op, &me) : -ENOMEM;
    if (op != NULL)
        limpet_op_full_try(op);
    if (rc == 0)
        rc = limpet_operate(image->meta, image->header_name, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    if (rc == 0)
        image->entry = 0;
    return rc;
}

static int leave(struct limpet_image *image)
{
    int rc = remove_entry(image);
    if (rc == 0)
        rc = limpet_lease_change(image->watch, LIMPET_LEASE_NONE, 0);
    return rc;
}

/* With the lock. */
static void wait_for_writes(struct limpet_image *image)
{
    while (image->writes > 0)
        pthread_cond_wait(&image->changed, &image->lock);
}

/* With the lock: also for those of long operations. */
static void wait_for_requests(struct limpet_image *image)
{
    while (image->writes > 0 || image->held > 0)
        pthread_cond_wait(&image->changed, &image->lock);
}

static void leave_task(void *arg)
{
    struct limpet_image *image = arg;
    pthread_mutex_lock(&image->lock);
    wait_for_requests(image);
    pthread_mutex_unlock(&image->lock);
    map_drop(image);
    int rc = leave(image);
    pthread_mutex_lock(&image->lock);
    image->lease = LEASE_NONE;
    image->lease_until_ns = 0;
    image->recalled = false;
    int dead = image->dead;
    if (dead == 0 && (rc != 0 || image->lost))
        begin_task(image, LEASE_MENDING, mend_task);
    pthread_cond_broadcast(&image->changed);
    pthread_mutex_unlock(&image->lock);
    io_release(image, dead);
}

/* ---- The gate ---- */

bool image_gate_open(struct limpet_image *image)
{
    if (image->dead != 0)
        return false;
    if (image->lease == LEASE_NONE)
        begin_task(image, LEASE_TAKING, take_task);
    return image->lease == LEASE_HELD && image->shut == 0 && image->next.core_bytes == NULL &&
           image_lease_is_valid(image);
}

void image_shut_gate(struct limpet_image *image)
{
    pthread_mutex_lock(&image->lock);
    image->shut++;
    wait_for_writes(image);
    pthread_mutex_unlock(&image->lock);
}

void image_open_gate(struct limpet_image *image)
{
    pthread_mutex_lock(&image->lock);
    assert(image->shut > 0);
    image->shut--;
    int dead = image->dead;
    pthread_mutex_unlock(&image->lock);
    io_release(image, dead);
}

/* With the lock. */
static int hold(struct limpet_image *image)
{
    bool tried = false;
    for (;;) {
        if (image->dead != 0)
            return image->dead;
        if (image->lease == LEASE_HELD && !image->lost && (!image->recalled || image->holds > 0))
            break;
        if (image->lease == LEASE_NONE) {
            if (tried && image->lease_error != 0)
                return image->lease_error;
            tried = true;
            begin_task(image, LEASE_TAKING, take_task);
        }
        pthread_cond_wait(&image->changed, &image->lock);
    }
    image->holds++;
    return 0;
}

int image_hold(struct limpet_image *image)
{
    if (image->read_only || image->snap != 0)
        return -EROFS;
    if (cluster_calls_back(image->cluster))
        return -EDEADLK;
    pthread_mutex_lock(&image->lock);
    int rc = hold(image);
    pthread_mutex_unlock(&image->lock);
    return rc;
}

/* With the lock. */
static void unhold(struct limpet_image *image)
{
    assert(image->holds > 0);
    image->holds--;
    if (image->holds == 0 && image->recalled && image->lease == LEASE_HELD)
        begin_task(image, LEASE_LEAVING, leave_task);
    pthread_cond_broadcast(&image->changed);
}

void image_unhold(struct limpet_image *image)
{
    pthread_mutex_lock(&image->lock);
    unhold(image);
    pthread_mutex_unlock(&image->lock);
}

void image_give_back(struct limpet_image *image)
{
    pthread_mutex_lock(&image->lock);
    image->recalled = true;
    unhold(image);
    while (image->lease == LEASE_LEAVING || (image->lease == LEASE_HELD && image->recalled))
        pthread_cond_wait(&image->changed, &image->lock);
    pthread_mutex_unlock(&image->lock);
}

int image_breathe(struct limpet_image *image)
{
    int rc = 0;
    pthread_mutex_lock(&image->lock);
    bool gone = image->lost || image->lease != LEASE_HELD;
    if (gone || (image->holds == 1 && image->recalled)) {
        unhold(image);
        rc = hold(image);
        /* The caller gives back once more than it has. */
        if (rc != 0)
            image->holds++;
    }
    if (rc == 0)
        rc = image->dead;
    pthread_mutex_unlock(&image->lock);
    /* Whoever goes by a header goes by the newest that is known. */
    if (rc == 0)
        image_wait_header(image);
    return rc;
}

struct image_view image_view(const struct limpet_image *image)
{
    return (struct image_view){.taken = image->taken, .generation = image->header.core.generation};
}

int image_held_begin(struct limpet_image *image, const struct image_view *view)
{
    pthread_mutex_lock(&image->lock);
    bool gone = image->lost || image->lease != LEASE_HELD || image->taken != view->taken;
    gone = gone && !planted(PLANTED_IMAGE_HOLD_BLINDLY);
    int rc = image->dead != 0 ? image->dead : gone ? -EAGAIN : 0;
    image->held += rc == 0;
    pthread_mutex_unlock(&image->lock);
    return rc;
}

void image_held_end(struct limpet_image *image)
{
    pthread_mutex_lock(&image->lock);
    assert(image->held > 0);
    image->held--;
    if (image->held == 0)
        pthread_cond_broadcast(&image->changed);
    pthread_mutex_unlock(&image->lock);
}

bool image_is_recalled(struct limpet_image *image)
{
    pthread_mutex_lock(&image->lock);
    bool recalled = (image->recalled && image->holds == 1) || image->lost ||
                    image->lease != LEASE_HELD || image->dead != 0;
    pthread_mutex_unlock(&image->lock);
    return recalled;
}

void image_watch_end(struct limpet_image *image)
{
    pthread_mutex_lock(&image->lock);
    while (image->tasks > 0 || image->refreshing)
        pthread_cond_wait(&image->changed, &image->lock);
    bool entered = image->entry != 0 && image->dead == 0;
    image->lease = LEASE_LEAVING;
    pthread_mutex_unlock(&image->lock);
    map_drop(image);
    /* Whoever finds the entry without a lease blocks us; the lease goes with the watch. */
    if (entered)
        (void)remove_entry(image);
    unwatch(image);
    /* A callback that runs still needs the image. */
    if (!image->read_only)
        (void)limpet_watch_flush(image->cluster);
    pthread_mutex_lock(&image->lock);
    while (image->tasks > 0 || image->refreshing)
        pthread_cond_wait(&image->changed, &image->lock);
    pthread_mutex_unlock(&image->lock);
}

/* ---- The interface ---- */

static int set_kept(struct limpet_image *image, bool kept)
{
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? add_entry(image, op, LIMPET_LEASE_EXCLUSIVE, kept) : -ENOMEM;
    if (op != NULL)
        limpet_op_full_try(op);
    if (rc == 0)
        rc = limpet_operate(image->meta, image->header_name, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    if (rc == 0) {
        pthread_mutex_lock(&image->lock);
        image->kept = kept;
        pthread_mutex_unlock(&image->lock);
    }
    return rc;
}

int limpet_image_lock_acquire(struct limpet_image *image)
{
    if (!is_exclusive(image))
        return -EINVAL;
    int rc = image_hold(image);
    if (rc != 0)
        return rc == -EROFS && !image->read_only && image->snap == 0 ? -EBUSY : rc;
    rc = set_kept(image, true);
    image_unhold(image);
    return rc;
}

int limpet_image_lock_release(struct limpet_image *image)
{
    if (!is_exclusive(image))
        return -EINVAL;
    pthread_mutex_lock(&image->lock);
    image->kept = false;
    bool held = image->lease == LEASE_HELD;
    if (held)
        image->holds++;
    pthread_mutex_unlock(&image->lock);
    /* The entry goes, and with it that it is kept. */
    if (held)
        image_give_back(image);
    return held ? 0 : -ENOENT;
}

int limpet_image_lock_is_owner(struct limpet_image *image, bool *owner)
{
    pthread_mutex_lock(&image->lock);
    *owner = is_exclusive(image) && image->lease == LEASE_HELD && image_lease_is_valid(image);
    pthread_mutex_unlock(&image->lock);
    return 0;
}

int limpet_image_lock_owner(struct limpet_image *image, struct limpet_image_owner *out)
{
    struct limpet_watcher *watchers = NULL;
    size_t n = 0;
    int rc = limpet_watchers(image->meta, image->header_name, &watchers, &n);
    bool found = false;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (watchers[i].mode != LIMPET_LEASE_EXCLUSIVE)
            continue;
        found = true;
        *out = (struct limpet_image_owner){.instance = watchers[i].instance,
                                           .cookie = watchers[i].cookie};
        memcpy(out->address, watchers[i].address, sizeof out->address);
    }
    limpet_free(watchers);
    return rc == 0 && !found ? -ENOENT : rc;
}

int limpet_image_lock_break(struct limpet_image *image, uint64_t instance)
{
    struct limpet_image_owner owner;
    int rc = limpet_image_lock_owner(image, &owner);
    if (rc == 0 && owner.instance != instance)
        rc = -ENOENT;
    return rc == 0 ? image_block(image->cluster, instance) : rc;
}

int limpet_image_watchers(struct limpet_image *image, struct limpet_watcher **out, size_t *n)
{
    return limpet_watchers(image->meta, image->header_name, out, n);
}
