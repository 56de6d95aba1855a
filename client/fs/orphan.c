/*
 * Open files, and files without names. A file that has lost its last name lives until nobody has it
 * open any more: whoever took the name asks all clients (a notify of the object "super"); those who
 * have it open remember that it is theirs to ask about again when they close it. If nobody has, its
 * data go, and then its inode. The record of an orphan in its shard stands until then, for those
 * who come after a crash.
 *
 *  O1  An inode without links cannot be opened by a client that has not got it open. So the answers
 *      to a notify stay true. Of a file that is made without a name its number is not known before
 *      the answer: meanwhile all files that are not known are said to be open.
 *  O2  A client that dies leaves its orphans in the list of their shard. Another mount takes over
 *      what it answered for (registry.c); and who lists the directory is told that there are some,
 *      and asks all clients about them.
 *  O3  A file that is made and opened is open before anybody can have been told that it is not: who
 *      makes it looks whether it still has its name, if there was any question about a file that is
 *      not open here between the request and the note that it is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/fs/cond.h"
#include "client/fs/fs.h"
#include "common/planted.h"

enum {
    ORPHANS_AT_ONCE = 512,
    GATHER_MS = 1000, /* Unless there are so many: a question to all clients is for all of them. */
    NOTIFY_MS = 5000,
    MET_AGAIN_S = 10,
    TICK_S = 2
};

struct fs_orphan {
    STAILQ_ENTRY(fs_orphan) link;
    uint64_t ino;
};

/* ---- Files ---- */

struct fs_file *file_find(struct limpet_fs *fs, uint64_t ino, bool make)
{
    unsigned bucket = (unsigned)((ino ^ ino >> 24) % FS_OPEN_BUCKETS);
    struct fs_file *file = LIST_FIRST(&fs->files[bucket]);
    while (file != NULL && file->ino != ino)
        file = LIST_NEXT(file, link);
    if (file != NULL)
        return file;
    file = make ? calloc(1, sizeof *file) : NULL;
    if (file == NULL)
        return NULL;
    file->ino = ino;
    file->changes = ++fs->contents_changed;
    file->mtime_seen = true;
    STAILQ_INIT(&file->told_next);
    TAILQ_INIT(&file->writes);
    TAILQ_INIT(&file->unsent);
    STAILQ_INIT(&file->syncs);
    LIST_INSERT_HEAD(&fs->files[bucket], file, link);
    return file;
}

/* With the lock. Whoever opens it next is told what was lost of it, if nobody was. */
static bool stays_untold(struct limpet_fs *fs, struct fs_file *file)
{
    bool lost = file->error != 0 && !file->close_told && !planted(PLANTED_FS_LOSS_UNTOLD);
    bool stays = lost && (file->untold || fs->n_untold < FS_UNTOLD_MAX);
    if (lost && !stays)
        write_back_note_error(fs, fs_home(file->ino), file->error);
    if (stays && !file->untold)
        fs->n_untold++;
    else if (!stays && file->untold)
        fs->n_untold--;
    file->untold = stays;
    return stays;
}

void file_drop(struct limpet_fs *fs, struct fs_file *file)
{
    if (file->opens > 0 || file->holds > 0 || file->telling || !STAILQ_EMPTY(&file->told_next) ||
        file->ahead || file->sending || file->wants_room || file->wants_drain ||
        !TAILQ_EMPTY(&file->writes))
        return;
    if (stays_untold(fs, file))
        return;
    LIST_REMOVE(file, link);
    free(file);
}

void file_lost(struct limpet_fs *fs, uint64_t ino, int error)
{
    struct fs_file *file = file_find(fs, ino, true);
    if (file == NULL)
        return; /* Its folder is told. */
    if (file->error == 0)
        file->error = error;
    file_drop(fs, file);
}

/* Answers may come in another order than changes were made. */
static void see_file(struct fs_file *file, const struct fs_inode *inode)
{
    if (file->known && inode->change < file->inode.change)
        return;
    file->inode = *inode;
    file->inode.target = (struct fs_bytes){NULL, 0};
    file->known = true;
}

void file_saw(struct limpet_fs *fs, const struct fs_inode *inode, uint64_t grant)
{
    pthread_mutex_lock(&fs->lock);
    lease_saw(fs, inode, grant);
    struct fs_file *file = file_find(fs, inode->ino, false);
    if (file != NULL)
        see_file(file, inode);
    pthread_mutex_unlock(&fs->lock);
}

/* ---- Opening ---- */

/* One user less. */
static void close_one(struct limpet_fs *fs, uint64_t ino)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, ino, false);
    bool orphan = false;
    if (file != NULL && file->opens > 0) {
        orphan = --file->opens == 0 && file->orphan;
        file_drop(fs, file);
    }
    pthread_mutex_unlock(&fs->lock);
    if (orphan)
        orphan_add(fs, ino);
}

static void opened(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                   size_t len)
{
    struct limpet_fs *fs = call->fs;
    (void)raw, (void)len;
    if (rc == 0 && answer->inode.links == 0) {
        pthread_mutex_lock(&fs->lock);
        const struct fs_file *file = file_find(fs, call->rq.ino, false);
        if (file == NULL || file->opens < 2)
            rc = -ENOENT;
        pthread_mutex_unlock(&fs->lock);
    }
    if (rc != 0)
        close_one(fs, call->rq.ino);
    else
        call_give_inode(call, &answer->inode);
    call_end(call, rc);
}

void orphan_open(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_request rq = {.ino = call->rq.ino};
    struct fs_inode inode;
    uint64_t grant = lease_grant(fs, fs_home(rq.ino));
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, call->rq.ino, true);
    if (file != NULL)
        file->opens++;
    /* Under a lease nobody else takes its last name away meanwhile. */
    bool known = lease_inode(fs, rq.ino, &inode) && inode.links > 0;
    pthread_mutex_unlock(&fs->lock);
    if (file != NULL && known) {
        call->grant = grant;
        call_give_inode(call, &inode);
    }
    if (file == NULL || known)
        call_end(call, file == NULL ? -ENOMEM : 0);
    else
        fs_ask(call, fs_home(rq.ino), "fs.getattr", &rq, NULL, 0, opened);
}

/* One that had this number before may have been lost. */
static void open_new(struct fs_file *file)
{
    if (file->opens++ == 0)
        file->error = 0;
}

void orphan_open_made(struct fs_call *call, const struct fs_inode *inode)
{
    struct limpet_fs *fs = call->fs;
    pthread_mutex_lock(&fs->lock);
    bool unasked = fs->questions == call->questions;
    struct fs_file *file = unasked ? file_find(fs, call->rq.ino, true) : NULL;
    if (file != NULL)
        open_new(file);
    if (file != NULL && inode != NULL)
        see_file(file, inode);
    pthread_mutex_unlock(&fs->lock);
    if (!unasked)
        orphan_open(call);
    else
        call_end(call, file != NULL ? 0 : -ENOMEM);
}

void orphan_release(struct fs_call *call)
{
    close_one(call->fs, call->rq.ino);
    call_end(call, 0);
}

/* ---- Files that are made without a name ---- */

static bool is_nameless(const struct fs_call *call)
{
    return call->rq.verb == LIMPET_FS_CREATE && call->rq.flags & LIMPET_FS_NAMELESS;
}

static void count_nameless(struct fs_call *call, unsigned more)
{
    if (!is_nameless(call))
        return;
    pthread_mutex_lock(&call->fs->lock);
    call->fs->nameless += more;
    pthread_mutex_unlock(&call->fs->lock);
}

void orphan_expect(struct fs_call *call)
{
    count_nameless(call, 1);
    pthread_mutex_lock(&call->fs->lock);
    call->questions = call->fs->questions;
    pthread_mutex_unlock(&call->fs->lock);
}

void orphan_over(struct fs_call *call)
{
    count_nameless(call, 0u - 1);
}

void orphan_made(struct fs_call *call)
{
    pthread_mutex_lock(&call->fs->lock);
    struct fs_file *file = file_find(call->fs, call->rq.ino, true);
    if (file != NULL) {
        open_new(file);
        file->orphan = true;
        registry_note(call->fs, fs_home(call->rq.ino));
    }
    pthread_mutex_unlock(&call->fs->lock);
    registry_send(call->fs);
    call_end(call, file != NULL ? 0 : -ENOMEM);
}

/* ---- From a client that is lost ---- */

int limpet_fs_adopt(struct limpet_fs *fs, struct limpet_fs *old)
{
    int rc = 0;
    pthread_mutex_lock(&old->lock);
    pthread_mutex_lock(&fs->lock);
    fs->last_grant = old->last_grant;
    write_back_abandon(old, fs);
    for (unsigned i = 0; i < FS_OPEN_BUCKETS; i++) {
        const struct fs_file *file;
        for (file = LIST_FIRST(&old->files[i]); file != NULL; file = LIST_NEXT(file, link)) {
            bool told = file->opens == 0 && file->error == 0 && !file->ahead;
            struct fs_file *mine = told ? NULL : file_find(fs, file->ino, true);
            if (mine != NULL) {
                mine->opens = file->opens;
                mine->orphan = file->orphan;
                if (mine->orphan)
                    registry_note(fs, fs_home(mine->ino));
                /* Writes that may not have arrived, or that no size covers. */
                if (mine->error == 0)
                    mine->error = file->error == 0 && file->ahead ? -EIO : file->error;
                file_drop(fs, mine);
            } else if (file->opens > 0) {
                rc = -ENOMEM;
            }
        }
    }
    pthread_mutex_unlock(&fs->lock);
    pthread_mutex_unlock(&old->lock);
    registry_send(fs);
    return rc;
}

/* ---- Collecting ---- */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* With the lock. */
static void enqueue(struct fs_orphans *queue, uint64_t ino)
{
    struct fs_orphan *orphan = calloc(1, sizeof *orphan);
    if (orphan == NULL)
        return; /* Its record stays, for whoever meets it. */
    orphan->ino = ino;
    STAILQ_INSERT_TAIL(queue, orphan, link);
}

static void orphan_queue(struct limpet_fs *fs, uint64_t ino)
{
    bool first = STAILQ_EMPTY(&fs->orphans);
    enqueue(&fs->orphans, ino);
    fs->n_orphans++;
    if (first)
        fs->orphaned_ns = now_ns();
    if (first || fs->n_orphans == ORPHANS_AT_ONCE)
        pthread_cond_signal(&fs->orphaned);
}

/* It could not be done now. Without the lock. */
static void try_later(struct limpet_fs *fs, uint64_t ino)
{
    pthread_mutex_lock(&fs->lock);
    enqueue(&fs->orphans_later, ino);
    pthread_mutex_unlock(&fs->lock);
}

bool orphan_waits(const struct limpet_fs *fs, uint64_t home)
{
    const struct fs_orphan *orphan = STAILQ_FIRST(&fs->orphans_later);
    while (orphan != NULL && fs_home(orphan->ino) != home)
        orphan = STAILQ_NEXT(orphan, link);
    return orphan != NULL;
}

/* limpet_fs_close() waits for it. */
static void purge_end(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    free(call);
    pthread_mutex_lock(&fs->lock);
    if (--fs->calls == 0)
        pthread_cond_broadcast(&fs->idle);
    pthread_mutex_unlock(&fs->lock);
}

static void vanished(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                     size_t len)
{
    (void)rc, (void)answer, (void)raw, (void)len;
    purge_end(call);
}

static void purged(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                   size_t len)
{
    struct limpet_fs *fs = call->fs;
    struct fs_request dir = {.ino = fs_ino(fs_home(call->rq.ino), FS_INDEX_DIR)};
    (void)raw, (void)len;
    if (rc == 0 && answer->flags & FS_EXISTED) {
        fs_ask(call, fs_home(dir.ino), "fs.vanish", &dir, NULL, 0, vanished);
        return;
    }
    if (rc != 0) {
        pthread_mutex_lock(&fs->lock);
        orphan_queue(fs, call->rq.ino);
        pthread_mutex_unlock(&fs->lock);
    }
    purge_end(call);
}

/* With the lock. Nobody has it open, here or elsewhere: what was not sent of it stays here. */
static void forget_contents(struct limpet_fs *fs, uint64_t ino)
{
    struct fs_file *file = file_find(fs, ino, false);
    if (file == NULL || file->opens > 0)
        return;
    behind_cancel(fs, file, 0);
    file->error = 0;
    file_drop(fs, file);
}

void orphan_add(struct limpet_fs *fs, uint64_t ino)
{
    struct fs_request rq = {.ino = ino};
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, ino, false);
    bool open = file != NULL && file->opens > 0;
    /* What was never written back is ours alone, and has no data (B3). */
    bool at_once = !open && !fs->stopping && !shard_inode_stored(fs, ino);
    struct fs_call *call = at_once ? calloc(1, sizeof *call) : NULL;
    if (call != NULL) {
        fs->calls++;
        forget_contents(fs, ino);
    } else {
        if (open)
            file->orphan = true;
        else
            orphan_queue(fs, ino);
        registry_note(fs, fs_home(ino));
    }
    pthread_mutex_unlock(&fs->lock);
    if (call == NULL) {
        registry_send(fs);
        return;
    }
    call->fs = fs;
    call->rq.ino = ino;
    fs_ask(call, fs_home(ino), "fs.purge", &rq, NULL, 0, purged);
}

/* A notify: enum fs_notify, numbers of inodes. The answer: a byte for each, 1: it is open here. */
void orphan_notified(struct limpet_watch *watch, void *arg, uint64_t notifier, uint64_t id,
                     const void *data, size_t len)
{
    struct limpet_fs *fs = arg;
    uint8_t open[ORPHANS_AT_ONCE] = {0};
    struct decoder d;
    struct encoder waits;
    decoder_init(&d, data, len);
    uint8_t about = decode_u8(&d);
    size_t n = decoder_left(&d) / sizeof(uint64_t);
    if (n > ORPHANS_AT_ONCE)
        n = ORPHANS_AT_ONCE;
    encoder_init(&waits);
    if (about == FS_NOTIFY_WAITS) {
        deadlock_asked(fs, &d, &waits);
        n = 0;
    } else if (about == FS_NOTIFY_UNLOCKED && n == 1) {
        lock_unlocked(fs, decode_u64(&d));
        n = 0;
    } else if (about == FS_NOTIFY_LEFT && n == 1) {
        pthread_mutex_lock(&fs->lock);
        move_met(fs, decode_u64(&d));
        pthread_mutex_unlock(&fs->lock);
        n = 0;
    }
    pthread_mutex_lock(&fs->lock);
    for (size_t i = 0; i < n; i++) {
        struct fs_file *file = file_find(fs, decode_u64(&d), false);
        bool known = file != NULL && !file->untold;
        open[i] = (file != NULL && file->opens > 0) || (!known && fs->nameless > 0);
        fs->questions += open[i] == 0;
        if (file != NULL && open[i]) {
            file->orphan = true;
            registry_note(fs, fs_home(file->ino));
        }
    }
    pthread_mutex_unlock(&fs->lock);
    registry_send(fs);
    bool tells = about == FS_NOTIFY_WAITS && !waits.failed;
    int rc = tells ? limpet_notify_ack(watch, notifier, id, waits.data, waits.len)
                   : limpet_notify_ack(watch, notifier, id, open, n);
    encoder_fini(&waits);
    (void)rc; /* Who asks takes it for an open file, then. */
}

/* What somebody has open is no longer ours: its number becomes 0. Who does not answer may have,
 * too: then it is asked for again. */
static int ask_all(struct limpet_fs *fs, uint64_t *inos, size_t n)
{
    struct encoder e;
    struct limpet_answers *answers = NULL;
    struct limpet_answer answer;
    encoder_init(&e);
    encode_u8(&e, FS_NOTIFY_OPEN);
    for (size_t i = 0; i < n; i++)
        encode_u64(&e, inos[i]);
    int rc =
        e.failed ? -ENOMEM : limpet_notify(fs->pool, FS_SUPER, e.data, e.len, NOTIFY_MS, &answers);
    encoder_fini(&e);
    if (rc == -ETIMEDOUT)
        rc = 0;
    while (rc == 0 && answers != NULL && limpet_answers_next(answers, &answer) == 0) {
        const uint8_t *open = answer.data;
        bool answered = !answer.missed && answer.len == n;
        for (size_t i = 0; i < n; i++) {
            if (!answered && inos[i] != 0)
                try_later(fs, inos[i]);
            if (!answered || open[i] != 0)
                inos[i] = 0;
        }
    }
    limpet_answers_destroy(answers);
    return rc;
}

/* Inodes of one shard. */
struct reaped {
    uint64_t home;
    size_t n;
    uint64_t inos[FS_REAP_MAX];
};

/* Their records go, but for those that have contents: which ones, by their places. */
static int reap(struct limpet_fs *fs, const struct reaped *list, uint32_t flags, uint64_t *stay)
{
    struct fs_request rq = {.ino = fs_ino(list->home, FS_INDEX_DIR), .flags = flags};
    struct fs_request dir = {.ino = rq.ino};
    uint32_t indexes[FS_REAP_MAX];
    struct fs_answer answer = {0};
    struct fs_order order;
    void *raw = NULL;
    size_t len = 0;
    *stay = 0;
    if (list->n == 0)
        return 0;
    for (size_t i = 0; i < list->n; i++)
        indexes[i] = fs_index(list->inos[i]);
    order_begin(fs, &order, false);
    int rc = fs_method_raw(fs, list->home, "fs.reap", &rq, indexes, list->n * sizeof indexes[0],
                           &raw, &len);
    if (rc == 0 && fs_answer_decode(raw, len, &answer) != 0)
        rc = -EIO;
    /* The directory was removed before, and waited for these. */
    if (rc == 0 && answer.flags & FS_EXISTED)
        fs_method_hopefully(fs, list->home, "fs.vanish", &dir);
    order_end(fs);
    limpet_free(raw);
    *stay = answer.offset;
    return rc;
}

static void all_later(struct limpet_fs *fs, const struct reaped *list)
{
    for (size_t i = 0; i < list->n; i++)
        try_later(fs, list->inos[i]);
}

/* Of those with these places: which have none any more. Some may be gone after an error, too. */
static void remove_contents(struct limpet_fs *fs, const struct reaped *list, uint64_t stay,
                            struct reaped *emptied)
{
    struct fs_inode inodes[FS_REAP_MAX];
    struct fs_order order;
    for (size_t i = 0; i < list->n; i++) {
        if (!(stay >> i & 1))
            continue;
        int rc = name_getinode(fs, list->inos[i], &inodes[emptied->n]);
        if (rc == 0 && inodes[emptied->n].links == 0)
            emptied->inos[emptied->n++] = list->inos[i];
        else if (rc != 0 && rc != -ESTALE)
            try_later(fs, list->inos[i]);
    }
    order_begin(fs, &order, false);
    int rc = data_remove(fs, inodes, emptied->n);
    order_end(fs);
    if (rc != 0) {
        all_later(fs, emptied);
        emptied->n = 0;
    }
}

/* Files of one shard that nobody has open: those without contents at once, the others afterwards.
 */
static void collect(struct limpet_fs *fs, const struct reaped *list)
{
    struct reaped emptied = {.home = list->home};
    uint64_t stay;
    pthread_mutex_lock(&fs->lock);
    for (size_t i = 0; i < list->n; i++)
        forget_contents(fs, list->inos[i]);
    pthread_mutex_unlock(&fs->lock);
    if (reap(fs, list, 0, &stay) != 0) {
        all_later(fs, list);
        return;
    }
    if (stay != 0)
        remove_contents(fs, list, stay, &emptied);
    if (reap(fs, &emptied, FS_EMPTIED, &stay) != 0)
        all_later(fs, &emptied);
}

/* Those of the list that are of the same shard as the first one, which are taken out of it. */
static void take_shard(uint64_t *inos, size_t n, struct reaped *out)
{
    out->n = 0;
    for (size_t i = 0; i < n && out->n < FS_REAP_MAX; i++) {
        if (inos[i] == 0 || (out->n > 0 && fs_home(inos[i]) != out->home))
            continue;
        out->home = fs_home(inos[i]);
        out->inos[out->n++] = inos[i];
        inos[i] = 0;
    }
}

/* B3: data go after it is durable that nothing leads to them. */
static void forget_unwritten(struct limpet_fs *fs, uint64_t *inos, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (inos[i] != 0 && shard_write_back(fs, fs_home(inos[i])) != 0)
            inos[i] = 0;
    }
}

/* ---- What the dead have left ---- */

/* With the lock. */
static bool met_lately(struct limpet_fs *fs, uint64_t dir)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (unsigned i = 0; i < FS_MET_MAX; i++) {
        if (fs->met[i].dir == dir && now.tv_sec - fs->met[i].when_s < MET_AGAIN_S)
            return true;
    }
    fs->met[fs->next_met++ % FS_MET_MAX] = (struct fs_met){dir, now.tv_sec};
    return false;
}

void orphan_met(struct limpet_fs *fs, uint64_t dir)
{
    pthread_mutex_lock(&fs->lock);
    if (!met_lately(fs, dir))
        orphan_queue(fs, dir);
    pthread_mutex_unlock(&fs->lock);
}

void orphan_look(struct limpet_fs *fs, uint64_t home)
{
    pthread_mutex_lock(&fs->lock);
    orphan_queue(fs, fs_ino(home, FS_INDEX_DIR));
    pthread_mutex_unlock(&fs->lock);
}

struct nameless {
    uint64_t dir, *inos;
    size_t n, capacity;
};

static bool take_nameless(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
    struct nameless *found = arg;
    const uint8_t *bytes = key;
    (void)value, (void)len;
    if (found->n == found->capacity) {
        size_t capacity = 2 * found->capacity + ORPHANS_AT_ONCE;
        uint64_t *inos = realloc(found->inos, capacity * sizeof *inos);
        if (inos == NULL)
            return false; /* The others another time. */
        found->inos = inos;
        found->capacity = capacity;
    }
    if (key_len == 4)
        found->inos[found->n++] = fs_ino(
            fs_home(found->dir), (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3]);
    return true;
}

/* The files without names of a shard become ours to ask about. */
static void read_list(struct limpet_fs *fs, uint64_t dir)
{
    struct nameless found = {.dir = dir};
    int rc = shard_list(fs, fs_home(dir), FS_KEY_ORPHAN, take_nameless, &found);
    for (size_t i = 0; rc == 0 && i < found.n; i++)
        orphan_add(fs, found.inos[i]);
    if (rc != 0 && rc != -ENOENT)
        try_later(fs, dir);
    free(found.inos);
}

/* With the lock. */
static size_t take_orphans(struct limpet_fs *fs, uint64_t *inos)
{
    size_t n = 0;
    struct fs_orphan *orphan;
    while (n < ORPHANS_AT_ONCE && (orphan = STAILQ_FIRST(&fs->orphans)) != NULL) {
        STAILQ_REMOVE_HEAD(&fs->orphans, link);
        inos[n++] = orphan->ino;
        free(orphan);
    }
    fs->n_orphans -= n < fs->n_orphans ? n : fs->n_orphans;
    return n;
}

/* Without the lock: of files and directories that were queued. */
static void work_on(struct limpet_fs *fs, uint64_t *inos, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (fs_is_dir(inos[i])) {
            read_list(fs, inos[i]);
            inos[i] = 0;
        }
    }
    if (ask_all(fs, inos, n) != 0) {
        for (size_t i = 0; i < n; i++) {
            if (inos[i] != 0)
                try_later(fs, inos[i]);
        }
        return;
    }
    forget_unwritten(fs, inos, n);
    struct reaped list;
    for (take_shard(inos, n, &list); list.n > 0; take_shard(inos, n, &list))
        collect(fs, &list);
}

/* With the lock, which is released for a while. */
static void wait_ms(struct limpet_fs *fs, uint64_t ms)
{
    (void)cond_wait_until(&fs->orphaned, &fs->lock, cond_now_ns() + ms * 1000000);
}

/* With the lock, which is released for a while: until something comes, or a tick. */
static void wait_tick(struct limpet_fs *fs)
{
    wait_ms(fs, TICK_S * 1000);
    if (STAILQ_EMPTY(&fs->orphans))
        fs->orphaned_ns = 0; /* These have waited. */
    STAILQ_CONCAT(&fs->orphans, &fs->orphans_later);
}

/* With the lock, which is released for a while: for more orphans, a moment. */
static void gather(struct limpet_fs *fs)
{
    uint64_t due_ns = fs->orphaned_ns + GATHER_MS * UINT64_C(1000000), now;
    while (!STAILQ_EMPTY(&fs->orphans) && fs->n_orphans < ORPHANS_AT_ONCE && !fs->stopping &&
           fs->n_left == 0 && (now = now_ns()) < due_ns)
        wait_ms(fs, (due_ns - now) / 1000000 + 1);
}

void orphan_free_all(struct limpet_fs *fs)
{
    struct fs_orphan *orphan;
    STAILQ_CONCAT(&fs->orphans, &fs->orphans_later);
    while ((orphan = STAILQ_FIRST(&fs->orphans)) != NULL) {
        STAILQ_REMOVE_HEAD(&fs->orphans, link);
        free(orphan);
    }
}

void *orphan_thread(void *arg)
{
    struct limpet_fs *fs = arg;
    uint64_t inos[ORPHANS_AT_ONCE];
    pthread_mutex_lock(&fs->lock);
    for (;;) {
        move_clear_met(fs);
        gather(fs);
        size_t n = take_orphans(fs, inos);
        if (n > 0) {
            pthread_mutex_unlock(&fs->lock);
            work_on(fs, inos, n);
            pthread_mutex_lock(&fs->lock);
        } else if (!registry_look(fs) && !registry_tidy(fs)) {
            if (fs->stopping && !fs->registering)
                break;
            wait_tick(fs);
        }
    }
    pthread_mutex_unlock(&fs->lock);
    return NULL;
}
