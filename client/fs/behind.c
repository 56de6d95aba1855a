/*
 * Writes that are acknowledged before their bytes have arrived: of files whose shard is delegated,
 * so that nobody else can look. What stat(2) tells of such a file is ahead of its record: `ahead`.
 *
 *   written --room is durable--> sent --arrived--> noted in the record --batch--> durable
 *
 * W1  Bytes are sent after the record that makes room for them is durable (B3), and the record's
 *     size covers only bytes that have arrived, or were there before a write that is on its way. So
 *     after a death the size never covers bytes that are not there, and what was synced is.
 *
 * W2  Writes of a file are sent in their order, by one thread at a time (`sending`); the client
 *     library keeps the order per object. A read of this client is asked for after the writes
 *     before it were sent, or finds them in the cache. One that follows the last one that is not
 *     sent, in the same object, becomes part of it: the larger, the less it costs the OSDs. So one
 *     that may grow waits while SENT_MIN others are on their way, unless somebody waits for it;
 *     when one of them arrives, the thread looks again (it only: a callback is not to wait for
 *     other requests).
 *
 * W3  Memory of writes on their way is bounded, by what they cost and not by their bytes: of many
 *     small ones the rest is hundreds of times as much. A write beyond that is answered when there
 *     is room.
 *
 * W4  What has failed is told once, by the next write or fsync, and by each close before; of a
 *     file that is closed, to whoever opens it next.
 *
 * W5  Before a lease is given back, all writes under it have arrived and are noted.
 *
 * W6  When a lease may be over in LOST_BEFORE_NS, nothing is sent under it any more, and what is on
 *     its way is revoked, with the sessions that it was sent over. Its file is told of it (W4),
 *     also of what has arrived nevertheless. The lease is given back when nothing of it can be
 *     executed any more (C7 of client/core). One that ends by its time-out is revoked as well,
 *     before its end is told (C6).
 *
 * Room is made for many files at a time: a file waits for it until it is urgent (somebody waits for
 * the file's writes, or they are many) or ROOM_DELAY_MS have passed. It is asked for when the first
 * write that is not sent has none, or the last: before it is missed, as SENT_BYTES_MAX keep the one
 * away from the other.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "client/fs/cond.h"
#include "client/fs/lease.h"
#include "client/object/inside.h"
#include "common/planted.h"
#include "common/witness.h"

enum {
    NOTE_MS = 1000,           /* What has arrived is noted so often. */
    ROOM_AHEAD_MAX = 16,      /* Data objects for which room is made at a time. */
    ROOM_DELAY_MS = 2000,     /* So long nobody makes room for what nobody waits for, */
    ROOM_BYTES_MAX = 1 << 20, /* unless a file has so much to be sent. */
    LOOK_MS = 250,            /* So often somebody looks whether a lease is lost. */
    REVOKE_AT_ONCE = 64,
    PIECES_MAX = 64, /* Of one write. */
    SENT_MIN = 2,
    /* Of a file: OSDs work on so much at a time, and more would be in the way of others. */
    SENT_BYTES_MAX = 32 << 20,
};

/* Less than what is left of a lease when a connection breaks, most of which are there again soon.
 */
#define LOST_BEFORE_NS UINT64_C(1000000000)

/* One, or several that follow each other and are sent together. */
struct fs_write {
    TAILQ_ENTRY(fs_write) link;
    TAILQ_ENTRY(fs_write) unsent_link;
    struct fs_file *file;
    struct limpet_fs *fs;
    uint64_t number; /* Of the first one. */
    uint64_t offset, len;
    uint64_t later_end;                       /* How far those after it reach that have arrived. */
    struct limpet_buffer *pieces[PIECES_MAX]; /* Until they are sent. */
    unsigned n_pieces;
    size_t cost; /* In memory, until it has ended. */
    bool sent;
    _Atomic unsigned pending;
    _Atomic int error;
};

struct fs_part {
    LIST_ENTRY(fs_part) link; /* Of those that have not come. */
    struct fs_write *write;
    struct limpet_op *op;
    struct limpet_completion *completion;
};

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/*
 * The time of a write, as file systems of the kernel have it: it changes every few ms, so that not
 * every fsync has a time to make durable; but after somebody has looked, it is another one.
 */
static int64_t time_of_write(struct fs_file *file, const struct fs_inode *inode)
{
    int64_t coarse = clock_ns(CLOCK_REALTIME_COARSE), last_ns = inode->mtime_ns;
    bool seen = file->mtime_seen;
    file->mtime_seen = false;
    if (coarse > last_ns && coarse > inode->ctime_ns)
        return coarse;
    /* One in the future was set by somebody. What was changed beside the contents has a finer time.
     */
    bool recent = last_ns <= clock_ns(CLOCK_REALTIME) && last_ns >= inode->ctime_ns;
    return recent && !seen ? last_ns : clock_ns(CLOCK_REALTIME);
}

/* ---- What is ahead of the record ---- */

/* The record was read a moment ago: what was ahead of it may stand in it by now. */
static void take_noted(struct limpet_fs *fs, struct fs_inode *inode)
{
    struct fs_inode record;
    if (!S_ISREG(inode->mode) || !lease_inode(fs, inode->ino, &record) ||
        record.change <= inode->change)
        return;
    inode->size = record.size;
    inode->mtime_ns = record.mtime_ns;
    inode->ctime_ns = record.ctime_ns;
}

void behind_merge(struct limpet_fs *fs, struct fs_inode *inode)
{
    take_noted(fs, inode);
    const struct fs_file *file = file_find(fs, inode->ino, false);
    if (file == NULL || !file->ahead)
        return;
    if (file->ahead_size > inode->size)
        inode->size = file->ahead_size;
    if (file->ahead_mtime_ns != 0)
        inode->mtime_ns = file->ahead_mtime_ns;
    if (file->ahead_mtime_ns > inode->ctime_ns)
        inode->ctime_ns = file->ahead_mtime_ns;
}

void behind_show(struct limpet_fs *fs, struct fs_inode *inode)
{
    struct fs_file *file = file_find(fs, inode->ino, false);
    if (file != NULL)
        file->mtime_seen = true;
    behind_merge(fs, inode);
}

static bool is_ahead(const struct limpet_fs *fs, const void *raw, size_t len)
{
    struct fs_listed found;
    struct decoder d;
    decoder_init(&d, raw, len);
    (void)fs_list_head_decode(&d);
    while (!LIST_EMPTY(&fs->ahead) && fs_listed_skim(&d, &found) == 0) {
        const struct fs_file *file =
            found.has_inode ? file_find((struct limpet_fs *)fs, found.ino, false) : NULL;
        if (file != NULL && file->ahead)
            return true;
    }
    return false;
}

bool behind_merge_list(struct limpet_fs *fs, const void *raw, size_t len, bool touched,
                       struct encoder *out)
{
    struct fs_listed found;
    struct decoder d;
    pthread_mutex_lock(&fs->lock);
    /* What was ahead when it was listed may have been noted since. */
    bool ahead = touched || is_ahead(fs, raw, len);
    if (ahead) {
        decoder_init(&d, raw, len);
        fs_list_head_put(out, fs_list_head_decode(&d));
        while (fs_listed_next(&d, &found) == 0) {
            if (found.has_inode)
                behind_show(fs, &found.inode);
            fs_listed_encode(out, &found);
        }
    }
    pthread_mutex_unlock(&fs->lock);
    return ahead && !out->failed;
}

void behind_set_mtime(struct limpet_fs *fs, uint64_t ino)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, ino, false);
    if (file != NULL)
        file->ahead_mtime_ns = 0;
    pthread_mutex_unlock(&fs->lock);
}

static void forget_ahead(struct limpet_fs *fs, struct fs_file *file)
{
    if (!file->ahead)
        return;
    file->ahead = false;
    LIST_REMOVE(file, ahead_link);
    if (fs->stopping && LIST_EMPTY(&fs->ahead)) {
        pthread_cond_signal(&fs->behind_wanted);
        pthread_cond_signal(&fs->behind_begun);
    }
}

/* What the record says by it now is to be cleared like what the dead have left (M4). */
static void leave_behind(struct fs_file *file)
{
    file->behind_tx = (struct fs_txid){0, 0};
}

bool behind_needs(struct limpet_fs *fs, uint64_t ino, struct fs_txid busy)
{
    const struct fs_file *file = file_find(fs, ino, false);
    return file != NULL &&
           (!TAILQ_EMPTY(&file->writes) || (file->ahead && fs_txid_equal(file->behind_tx, busy)));
}

static void get_ahead(struct limpet_fs *fs, struct fs_file *file, const struct fs_inode *inode,
                      uint64_t end)
{
    if (!file->ahead) {
        file->ahead = true;
        file->ahead_size = inode->size;
        file->arrived_end = file->settled_end = 0;
        if (file->behind_tx.instance == 0)
            file->behind_tx = (struct fs_txid){fs->instance, ++fs->sequence};
        if (LIST_EMPTY(&fs->ahead)) {
            pthread_cond_signal(&fs->behind_wanted);
            pthread_cond_signal(&fs->behind_begun);
        }
        LIST_INSERT_HEAD(&fs->ahead, file, ahead_link);
    }
    file->ahead_size = end > file->ahead_size ? end : file->ahead_size;
    file->ahead_mtime_ns = time_of_write(file, inode);
}

/* ---- The end of a write ---- */

/* Those that wait for writes that have ended; they go on with their records. */
static void take_syncs(struct fs_file *file, struct fs_calls *out)
{
    const struct fs_write *first = TAILQ_FIRST(&file->writes);
    struct fs_call *call;
    while ((call = STAILQ_FIRST(&file->syncs)) != NULL &&
           (first == NULL || first->number > call->until_write)) {
        STAILQ_REMOVE_HEAD(&file->syncs, link);
        STAILQ_INSERT_TAIL(out, call, link);
    }
}

static void write_free(struct fs_write *write)
{
    for (unsigned i = 0; i < write->n_pieces; i++)
        limpet_buffer_destroy(write->pieces[i]);
    free(write);
}

/*
 * What has arrived with all that was written before it is the file's, whatever of its bytes a later
 * write is about to change: whoever has synced it counts on its size.
 */
static void settle_end(struct fs_write *write, uint64_t end)
{
    struct fs_write *before = TAILQ_PREV(write, fs_writes, link);
    uint64_t *settled = before != NULL ? &before->later_end : &write->file->settled_end;
    end = write->later_end > end ? write->later_end : end;
    *settled = end > *settled ? end : *settled;
}

/* With the lock. */
static void write_over(struct fs_write *write, int error, struct fs_calls *syncs)
{
    struct limpet_fs *fs = write->fs;
    struct fs_file *file = write->file;
    uint64_t end = write->offset + write->len;
    settle_end(write, error == 0 ? end : 0);
    TAILQ_REMOVE(&file->writes, write, link);
    if (write->sent) {
        file->n_sent--;
        file->sent_bytes -= write->len;
    }
    fs->behind_bytes -= write->cost;
    if (fs->stopping && fs->behind_bytes == 0)
        pthread_cond_signal(&fs->behind_begun);
    cache_release(fs->cache, write->cost);
    if (error != 0) {
        fs->losses++;
        file->error = file->error != 0 ? file->error : error;
        file->changes = ++fs->contents_changed;
        cache_forget(fs->cache, file->ino, write->offset, write->len);
        witness_file(fs, file->ino);
    } else if (end > file->arrived_end) {
        file->arrived_end = end;
    }
    take_syncs(file, syncs);
    pthread_cond_broadcast(&fs->behind_changed);
}

static void resume(struct limpet_fs *fs);
static void drain_soon(struct limpet_fs *fs, struct fs_file *file);

static void write_ended(struct fs_write *write)
{
    struct limpet_fs *fs = write->fs;
    struct fs_calls syncs = STAILQ_HEAD_INITIALIZER(syncs);
    struct fs_call *call;
    pthread_mutex_lock(&fs->lock);
    write_over(write, write->error, &syncs);
    drain_soon(fs, write->file);
    file_drop(fs, write->file);
    pthread_mutex_unlock(&fs->lock);
    write_free(write);
    while ((call = STAILQ_FIRST(&syncs)) != NULL) {
        STAILQ_REMOVE_HEAD(&syncs, link);
        behind_sync(call);
    }
    resume(fs);
}

static void part_over(struct fs_write *write, int rc)
{
    int none = 0;
    if (rc < 0)
        atomic_compare_exchange_strong(&write->error, &none, rc);
    if (atomic_fetch_sub(&write->pending, 1) == 1)
        write_ended(write);
}

static void forget_part(struct fs_part *part)
{
    struct limpet_fs *fs = part->write->fs;
    pthread_mutex_lock(&fs->lock);
    LIST_REMOVE(part, link);
    pthread_mutex_unlock(&fs->lock);
}

static void part_came(struct limpet_completion *completion, void *arg)
{
    struct fs_part *part = arg;
    struct fs_write *write = part->write;
    int rc = (int)limpet_completion_result(completion);
    forget_part(part);
    limpet_completion_release(completion);
    limpet_op_destroy(part->op);
    free(part);
    part_over(write, rc);
}

/* ---- Sending ---- */

/* With the lock. Others may soon have the lease, or have it: it is to be as if we had died. */
static bool is_lost(struct limpet_fs *fs, uint64_t home)
{
    return lease_valid_ns(fs, home) < LOST_BEFORE_NS;
}

static int part_send(struct fs_write *write, const struct fs_inode *inode, uint64_t at, size_t from,
                     size_t len)
{
    char name[FS_OBJECT_NAME_MAX];
    struct fs_place place = fs_place_of(&inode->layout, at);
    struct fs_part *part = calloc(1, sizeof *part);
    if (part == NULL)
        return -ENOMEM;
    struct limpet_fs *fs = write->fs;
    part->write = write;
    part->op = limpet_op_create();
    int rc =
        part->op != NULL ? limpet_completion_create(part_came, part, &part->completion) : -ENOMEM;
    if (rc == 0 && len == write->len) {
        rc = limpet_op_write_buffer(part->op, write->pieces[0], place.offset);
        write->n_pieces = 0;
    } else if (rc == 0) {
        const uint8_t *data = limpet_buffer_data(write->pieces[0]);
        rc = limpet_op_write(part->op, data + from, len, place.offset);
    }
    fs_data_object(inode->ino, fs_contents_of(inode), place.number, name);
    if (rc == 0) {
        pthread_mutex_lock(&fs->lock);
        LIST_INSERT_HEAD(&fs->parts, part, link);
        if (is_lost(fs, fs_home(inode->ino)))
            rc = -EIO;
        pthread_mutex_unlock(&fs->lock);
        if (rc == 0)
            rc = limpet_aio_operate(data_pool(fs, inode), name, part->completion, part->op);
        if (rc == 0)
            return 0;
        forget_part(part);
    }
    if (part->completion != NULL)
        limpet_completion_release(part->completion);
    if (part->op != NULL)
        limpet_op_destroy(part->op);
    free(part);
    return rc;
}

/* Its pieces become one, of which the network makes no copy. */
static int join_pieces(struct fs_write *write)
{
    if (write->n_pieces == 1)
        return 0;
    struct limpet_buffer *all = limpet_buffer_create(write->len);
    if (all == NULL)
        return -ENOMEM;
    uint8_t *to = limpet_buffer_data(all);
    for (unsigned i = 0; i < write->n_pieces; i++) {
        size_t len = limpet_buffer_len(write->pieces[i]);
        memcpy(to, limpet_buffer_data(write->pieces[i]), len);
        to += len;
        limpet_buffer_destroy(write->pieces[i]);
    }
    write->pieces[0] = all;
    write->n_pieces = 1;
    return 0;
}

/* Without the lock. The write may have ended, and be gone, afterwards. */
static void write_send(struct fs_write *write, const struct fs_inode *inode)
{
    uint64_t at = write->offset, left = write->len;
    write->pending = 1;
    int joined = join_pieces(write);
    while (joined == 0 && left > 0) {
        uint64_t room = fs_place_of(&inode->layout, at).len;
        size_t len = (size_t)(left < room ? left : room);
        atomic_fetch_add(&write->pending, 1);
        int rc = part_send(write, inode, at, (size_t)(at - write->offset), len);
        if (rc != 0)
            part_over(write, rc);
        at += len;
        left -= len;
    }
    part_over(write, joined);
}

/* B3, W6. With the lock: whether objects may be made there now. */
static bool has_room(struct limpet_fs *fs, const struct fs_file *file, const struct fs_write *write)
{
    return file->durable_grant != 0 &&
           file->durable_grant == lease_current(fs, fs_home(file->ino)) &&
           !is_lost(fs, fs_home(file->ino)) &&
           data_covers(&file->durable, write->offset, write->len) &&
           (write->offset + write->len <= file->durable.size ||
            fs_txid_equal(file->durable.busy, file->behind_tx));
}

void behind_has_room(struct fs_file *file, const struct fs_inode *inode, uint64_t grant,
                     uint64_t rooms_lost)
{
    if (rooms_lost != file->rooms_lost)
        return;
    file->durable = *inode;
    file->durable_grant = grant;
}

void behind_lose_room(struct fs_file *file)
{
    file->durable_grant = 0;
    file->rooms_lost++;
}

/* ---- Who waits for room ---- */

static bool is_half_full(const struct limpet_fs *fs)
{
    return fs->behind_bytes > fs->behind_max / 2 || !STAILQ_EMPTY(&fs->throttled);
}

/* With the lock. */
static bool is_urgent(const struct limpet_fs *fs, const struct fs_file *file)
{
    return file->waiters > 0 || !STAILQ_EMPTY(&file->syncs) ||
           file->unsent_bytes >= ROOM_BYTES_MAX || is_half_full(fs);
}

static void want_room(struct limpet_fs *fs, struct fs_file *file)
{
    if (TAILQ_EMPTY(&fs->want_room)) {
        fs->room_due_ns = clock_ns(CLOCK_MONOTONIC) + ROOM_DELAY_MS * INT64_C(1000000);
        pthread_cond_signal(&fs->behind_wanted);
    }
    file->wants_room = true;
    TAILQ_INSERT_TAIL(&fs->want_room, file, room_link);
}

/* With the lock: if the file has become urgent, it is the next. */
static void hurry(struct limpet_fs *fs, struct fs_file *file)
{
    if (!file->wants_room || !is_urgent(fs, file))
        return;
    TAILQ_REMOVE(&fs->want_room, file, room_link);
    TAILQ_INSERT_HEAD(&fs->want_room, file, room_link);
    pthread_cond_signal(&fs->behind_wanted);
}

/* With the lock. Whether the first one that is not sent, which has room, is sent now. */
static bool goes_now(const struct fs_file *file)
{
    const struct fs_write *write = TAILQ_FIRST(&file->unsent);
    bool grows = TAILQ_NEXT(write, unsent_link) == NULL && write->n_pieces < PIECES_MAX &&
                 (write->n_pieces > 1 || write->offset == file->sent_end) &&
                 write->len < fs_place_of(&file->durable.layout, write->offset).len;
    if (file->waiters > 0 || file->n_sent < SENT_MIN)
        return true;
    return file->sent_bytes < SENT_BYTES_MAX && (!grows || !STAILQ_EMPTY(&file->syncs));
}

/* With the lock. */
static bool may_send(struct limpet_fs *fs, const struct fs_file *file)
{
    const struct fs_write *write = TAILQ_FIRST(&file->unsent);
    return write != NULL && !file->sending && has_room(fs, file, write) && goes_now(file);
}

/* With the lock. What is to be sent, and has no room; NULL: all has. */
static const struct fs_write *find_roomless(struct limpet_fs *fs, const struct fs_file *file)
{
    const struct fs_write *first = TAILQ_FIRST(&file->unsent);
    const struct fs_write *last = TAILQ_LAST(&file->unsent, fs_unsent);
    if (first != NULL && !has_room(fs, file, first))
        return first;
    return last != NULL && !has_room(fs, file, last) ? last : NULL;
}

/* With the lock, which is released for a while. Sends what may be sent. */
static void drain(struct limpet_fs *fs, struct fs_file *file)
{
    if (file->sending)
        return;
    while (may_send(fs, file)) {
        struct fs_write *write = TAILQ_FIRST(&file->unsent);
        struct fs_inode inode = file->durable;
        TAILQ_REMOVE(&file->unsent, write, unsent_link);
        file->unsent_bytes -= write->len;
        write->sent = true;
        file->n_sent++;
        file->sent_bytes += write->len;
        file->sent_end = write->offset + write->len;
        file->sending = true;
        pthread_mutex_unlock(&fs->lock);
        write_send(write, &inode);
        pthread_mutex_lock(&fs->lock);
        file->sending = false;
    }
    if (!file->wants_room && find_roomless(fs, file) != NULL)
        want_room(fs, file);
    hurry(fs, file);
    pthread_cond_broadcast(&fs->behind_changed);
    file_drop(fs, file);
}

/* With the lock. The thread does so. */
static void drain_soon(struct limpet_fs *fs, struct fs_file *file)
{
    if (file->wants_drain || !may_send(fs, file))
        return;
    if (TAILQ_EMPTY(&fs->want_drain))
        pthread_cond_signal(&fs->behind_wanted);
    file->wants_drain = true;
    TAILQ_INSERT_TAIL(&fs->want_drain, file, drain_link);
}

/* ---- What it costs ---- */

/* W3: so much of them are on their way; its memory is asked for when it is sent. */
static size_t cost_of_write(void)
{
    return sizeof(struct fs_write) + sizeof(struct fs_part) + write_memory();
}

/* At most: what follows a write that is not sent costs its bytes only. */
static size_t cost_of(const struct fs_call *call)
{
    return cost_of_write() + buffer_memory(call->buffer);
}

/* With the lock. */
static void charge(struct limpet_fs *fs, struct fs_write *write, size_t cost)
{
    write->cost += cost;
    fs->behind_bytes += cost;
    cache_reserve(fs->cache, cost);
}

static bool is_full(const struct limpet_fs *fs, const struct fs_call *call)
{
    return fs->behind_bytes > 0 && fs->behind_bytes + cost_of(call) > fs->behind_max;
}

/* ---- Writing ---- */

/* With the lock. */
static bool is_possible(struct limpet_fs *fs, const struct fs_call *call, struct fs_file *file,
                        struct fs_inode *inode)
{
    return file != NULL && file->opens > 0 && shard_delegated(fs, fs_home(call->rq.ino)) &&
           lease_inode(fs, call->rq.ino, inode) && S_ISREG(inode->mode) &&
           (inode->busy.instance == 0 || fs_txid_equal(inode->busy, file->behind_tx)) &&
           !(call->rq.flags & LIMPET_FS_KILL_PRIV && inode->mode & (S_ISUID | S_ISGID));
}

/* With the lock. Whether these bytes have become part of the last write that is not sent. */
static bool extend(struct limpet_fs *fs, struct fs_file *file, const struct fs_inode *inode,
                   uint64_t at, struct limpet_buffer *buffer)
{
    struct fs_write *last = TAILQ_LAST(&file->unsent, fs_unsent);
    size_t len = limpet_buffer_len(buffer);
    if (last == NULL || last->n_pieces == PIECES_MAX || at != last->offset + last->len ||
        last->len + len > fs_place_of(&inode->layout, last->offset).len)
        return false;
    last->pieces[last->n_pieces++] = buffer;
    last->len += len;
    charge(fs, last, buffer_memory(buffer));
    return true;
}

/* With the lock. 0, or an error. */
static int write_new(struct limpet_fs *fs, struct fs_file *file, uint64_t at,
                     struct limpet_buffer *buffer)
{
    struct fs_write *write = calloc(1, sizeof *write);
    if (write == NULL)
        return -ENOMEM;
    write->file = file;
    write->fs = fs;
    write->number = file->last_write + 1;
    write->offset = at;
    write->len = limpet_buffer_len(buffer);
    write->pieces[write->n_pieces++] = buffer;
    charge(fs, write, cost_of_write() + buffer_memory(buffer));
    TAILQ_INSERT_TAIL(&file->writes, write, link);
    TAILQ_INSERT_TAIL(&file->unsent, write, unsent_link);
    return 0;
}

/* With the lock, which is released for a while. Returns an error, or 0: it is on its way. */
static int accept(struct fs_call *call, struct fs_file *file, const struct fs_inode *inode)
{
    struct limpet_fs *fs = call->fs;
    struct fs_inode now = *inode;
    behind_merge(fs, &now);
    uint64_t at = call->rq.flags & LIMPET_FS_APPEND ? now.size : call->rq.offset;
    if (call->rq.len > FS_SIZE_MAX - at)
        return -EFBIG;
    size_t len = call->rq.len;
    limpet_buffer_trim(call->buffer, len);
    int rc = extend(fs, file, &now, at, call->buffer) ? 0 : write_new(fs, file, at, call->buffer);
    if (rc != 0)
        return rc;
    file->last_write++;
    file->changes = ++fs->contents_changed;
    if (len <= FS_CACHED_READ_MAX)
        cache_write(fs->cache, file->ino, at, limpet_buffer_data(call->buffer), len, now.size);
    else
        cache_forget(fs->cache, file->ino, at, len);
    call->buffer = NULL;
    call->result.offset = at;
    file->unsent_bytes += len;
    get_ahead(fs, file, &now, at + len);
    return 0;
}

static int error_of(const struct fs_file *file)
{
    int error = file->error;
    return error == -ENOSPC || error == -EDQUOT || error == -EFBIG || error == 0 ? error : -EIO;
}

int behind_take_error(struct fs_file *file)
{
    int error = error_of(file);
    file->error = 0;
    file->close_told = false;
    return error;
}

bool behind_write(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_inode inode;
    size_t len = call->rq.len;
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, call->rq.ino, false);
    if (!is_possible(fs, call, file, &inode)) {
        pthread_mutex_unlock(&fs->lock);
        return false;
    }
    if (!call->resumed && (is_full(fs, call) || !STAILQ_EMPTY(&fs->throttled))) {
        STAILQ_INSERT_TAIL(&fs->throttled, call, link);
        pthread_cond_signal(&fs->behind_wanted);
        pthread_mutex_unlock(&fs->lock);
        return true;
    }
    int rc = behind_take_error(file);
    if (rc == 0)
        rc = accept(call, file, &inode);
    bool waits = rc == 0 && call->rq.flags & LIMPET_FS_DURABLE;
    if (waits) {
        call->rq.verb = LIMPET_FS_SYNC;
        call->written = len;
    }
    file->holds++;
    pthread_mutex_unlock(&fs->lock);
    if (!waits)
        call_end(call, rc != 0 ? rc : (ssize_t)len);
    pthread_mutex_lock(&fs->lock);
    file->holds--;
    drain(fs, file);
    pthread_mutex_unlock(&fs->lock);
    if (waits)
        behind_sync(call);
    return true;
}

/* W3: those that waited for room, as long as there is some. */
static void resume(struct limpet_fs *fs)
{
    for (;;) {
        pthread_mutex_lock(&fs->lock);
        struct fs_call *call = STAILQ_FIRST(&fs->throttled);
        if (call != NULL && is_full(fs, call))
            call = NULL;
        if (call != NULL)
            STAILQ_REMOVE_HEAD(&fs->throttled, link);
        pthread_mutex_unlock(&fs->lock);
        if (call == NULL)
            return;
        call->resumed = true;
        data_write(call);
    }
}

/* ---- Noting what has arrived ---- */

/* With the lock: a method on records that are here; -FS_REMOTE: they are not. */
static int run_here(struct limpet_fs *fs, const char *method, const struct fs_request *rq)
{
    struct encoder input, answer;
    struct fs_lease *lease;
    uint64_t home = fs_home(rq->ino);
    enum lease_route route = lease_route(fs, home, true, &lease);
    if (route == LEASE_AT_OSD)
        lease_returned(fs, home);
    if (route != LEASE_LOCAL)
        return -FS_REMOTE;
    encoder_init(&answer);
    int rc = call_encode(&input, rq, NULL, 0);
    if (rc == 0)
        rc = lease_run(lease, method, &input, &answer);
    encoder_fini(&input);
    encoder_fini(&answer);
    return rc;
}

/* How far the record's size may go: before the first byte that is on its way and may be new. */
static uint64_t arrived_size(const struct fs_file *file)
{
    const struct fs_write *write;
    uint64_t size = file->arrived_end;
    if (planted(PLANTED_FS_SIZE_EARLY))
        return file->ahead_size;
    TAILQ_FOREACH(write, &file->writes, link)
    {
        /* cppcheck-suppress uninitvar */
        size = write->offset < size ? write->offset : size;
    }
    return size < file->settled_end && !planted(PLANTED_FS_SIZE_LATE) ? file->settled_end : size;
}

/*
 * With the lock. The record says what has arrived; final: and if that is all, that nothing lies
 * beyond the size. 0, or an error, which the file remembers.
 */
static int note(struct limpet_fs *fs, struct fs_file *file, bool final)
{
    struct fs_inode record;
    uint64_t size = arrived_size(file);
    int rc = 0;
    if (!file->ahead)
        return 0;
    bool there = lease_record(fs, file->ino, &record);
    if (!there) {
        rc = shard_buffers(fs, fs_home(file->ino)) ? 0 : -EIO; /* It was removed meanwhile. */
        record = (struct fs_inode){.size = size};
    }
    int64_t mtime_ns = file->ahead_mtime_ns != 0 ? file->ahead_mtime_ns : record.mtime_ns;
    bool busy = rc == 0 && there && fs_txid_equal(record.busy, file->behind_tx);
    bool over = final && TAILQ_EMPTY(&file->writes);
    if (there && (size > record.size || mtime_ns != record.mtime_ns || (busy && over))) {
        struct fs_request rq = {.ino = file->ino,
                                .set = FS_SET_SIZE | FS_SET_MTIME,
                                .flags = FS_BEHIND,
                                .tx = file->behind_tx,
                                .expect_to = !busy || over,
                                .len = size > record.size ? size : record.size,
                                .inode = {.layout = record.layout,
                                          .mtime_ns = mtime_ns,
                                          .ctime_ns = file->ahead_mtime_ns > record.ctime_ns
                                                          ? file->ahead_mtime_ns
                                                          : record.ctime_ns}};
        rc = run_here(fs, "fs.wrote", &rq);
        if (!busy || over) {
            file->durable.busy = (struct fs_txid){0, 0};
            file->rooms_lost++;
        }
    }
    if (rc == -ESTALE || rc == -ENOENT)
        rc = 0;
    if (rc != 0)
        behind_cancel(fs, file, rc);
    else if (TAILQ_EMPTY(&file->writes) && (over || !busy))
        forget_ahead(fs, file);
    return rc;
}

/* W6. With the lock. Nothing more of this file arrives; NULL: of all those that are lost. */
static void revoke(struct limpet_fs *fs, const struct fs_file *only)
{
    struct limpet_completion *list[REVOKE_AT_ONCE];
    const struct fs_file *last = NULL;
    const struct fs_part *part;
    bool lost = false;
    size_t n = 0;
    LIST_FOREACH(part, &fs->parts, link)
    {
        /* cppcheck-suppress uninitvar */
        struct fs_file *file = part->write->file;
        if (file != last)
            lost = only != NULL ? file == only : is_lost(fs, fs_home(file->ino));
        last = file;
        if (!lost)
            continue;
        /* Also when it arrives nevertheless: the record's size does not follow any more. */
        if (file->error == 0)
            file->error = -EIO;
        list[n++] = part->completion;
        if (n == REVOKE_AT_ONCE) {
            completions_revoke(list, n);
            n = 0;
        }
    }
    completions_revoke(list, n);
}

/* With the lock. Nothing more of the file arrives. */
static void give_up(struct limpet_fs *fs, struct fs_file *file)
{
    revoke(fs, file);
    behind_cancel(fs, file, -EIO);
}

void behind_lost(struct limpet_fs *fs)
{
    struct fs_file *file, *next;
    if (planted(PLANTED_FS_WRITES_LATE))
        return;
    revoke(fs, NULL);
    for (file = LIST_FIRST(&fs->ahead); file != NULL; file = next) {
        next = LIST_NEXT(file, ahead_link);
        if (!TAILQ_EMPTY(&file->writes) && is_lost(fs, fs_home(file->ino)))
            behind_cancel(fs, file, -EIO);
    }
}

/*
 * With the lock, which is released for a while. Until all that was written before has arrived, or
 * the lease is lost.
 */
static void wait_for_writes(struct limpet_fs *fs, struct fs_file *file)
{
    uint64_t number = file->last_write;
    const struct fs_write *first;
    file->waiters++;
    drain(fs, file);
    if (!TAILQ_EMPTY(&file->writes) && is_lost(fs, fs_home(file->ino)))
        give_up(fs, file);
    while ((first = TAILQ_FIRST(&file->writes)) != NULL && first->number <= number)
        pthread_cond_wait(&fs->behind_changed, &fs->lock);
    file->waiters--;
}

int behind_settle(struct limpet_fs *fs, uint64_t ino, bool final)
{
    int rc = 0;
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, ino, false);
    /* What has failed is ahead no more, and may still be on its way. */
    if (file != NULL && (file->ahead || !TAILQ_EMPTY(&file->writes))) {
        file->holds++;
        wait_for_writes(fs, file);
        rc = note(fs, file, final);
        file->holds--;
        file_drop(fs, file);
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

void behind_wait_sent(struct limpet_fs *fs, uint64_t ino)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, ino, false);
    if (file != NULL) {
        file->holds++;
        file->waiters++;
        drain(fs, file);
        while (!TAILQ_EMPTY(&file->unsent) || file->sending)
            pthread_cond_wait(&fs->behind_changed, &fs->lock);
        file->waiters--;
        file->holds--;
        file_drop(fs, file);
    }
    pthread_mutex_unlock(&fs->lock);
}

bool behind_has_unsent(const struct fs_file *file)
{
    return !TAILQ_EMPTY(&file->unsent) || file->sending;
}

/*
 * With the lock. What was not sent never will be, and what was is not noted any more: also if it
 * arrives, the record's size does not follow.
 */
void behind_cancel(struct limpet_fs *fs, struct fs_file *file, int error)
{
    struct fs_calls syncs = STAILQ_HEAD_INITIALIZER(syncs);
    struct fs_write *write;
    if (error != 0 && (file->ahead || !TAILQ_EMPTY(&file->writes))) {
        fs->losses++;
        file->error = file->error != 0 ? file->error : error;
        witness_file(fs, file->ino);
    }
    while ((write = TAILQ_FIRST(&file->unsent)) != NULL) {
        TAILQ_REMOVE(&file->unsent, write, unsent_link);
        file->unsent_bytes -= write->len;
        write_over(write, error, &syncs);
        write_free(write);
    }
    forget_ahead(fs, file);
    leave_behind(file);
    STAILQ_CONCAT(&fs->work, &syncs);
    pthread_cond_broadcast(&fs->changed);
}

/* With the lock. Those whose records are behind now, held; NULL: memory is short. */
static struct fs_file **hold_ahead(struct limpet_fs *fs, uint64_t home, size_t *n)
{
    struct fs_file *file, **files;
    size_t count = 0;
    LIST_FOREACH(file, &fs->ahead, ahead_link)
    {
        count++;
    }
    files = malloc((count + 1) * sizeof(struct fs_file *));
    *n = 0;
    LIST_FOREACH(file, &fs->ahead, ahead_link)
    {
        /* cppcheck-suppress uninitvar */
        if (files != NULL && (home == 0 || fs_home(file->ino) == home)) {
            file->holds++;
            files[(*n)++] = file;
        }
    }
    return files;
}

/* With the lock. Of files that are ahead no more, since something of them has failed. */
static bool is_any_on_its_way(const struct limpet_fs *fs, uint64_t home)
{
    const struct fs_file *file;
    for (unsigned bucket = 0; bucket < FS_OPEN_BUCKETS; bucket++) {
        for (file = LIST_FIRST(&fs->files[bucket]); file != NULL; file = LIST_NEXT(file, link)) {
            if (!file->ahead && !TAILQ_EMPTY(&file->writes) &&
                (home == 0 || fs_home(file->ino) == home))
                return true;
        }
    }
    return false;
}

/* With the lock, which is released for a while when it waits for what is on its way. */
static int note_all(struct limpet_fs *fs, uint64_t home, bool wait)
{
    size_t n;
    struct fs_file **files = hold_ahead(fs, home, &n);
    int rc = 0;
    if (files == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        if (wait)
            wait_for_writes(fs, files[i]);
        int noted = note(fs, files[i], true);
        rc = rc != 0 ? rc : noted;
        files[i]->holds--;
        file_drop(fs, files[i]);
    }
    free(files);
    while (wait && is_any_on_its_way(fs, home))
        pthread_cond_wait(&fs->behind_changed, &fs->lock);
    return rc;
}

int behind_write_back(struct limpet_fs *fs, uint64_t home)
{
    pthread_mutex_lock(&fs->lock);
    int rc = note_all(fs, home, true);
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

/* ---- fsync and close ---- */

/* With the lock. What the record has to be told: its size, or but its time. */
enum to_note { NOTE_NOTHING, NOTE_TIME, NOTE_SIZE };

static enum to_note to_note(struct limpet_fs *fs, const struct fs_file *file, unsigned flags)
{
    struct fs_inode record;
    if (!file->ahead || !lease_record(fs, file->ino, &record))
        return NOTE_NOTHING;
    if (file->ahead_size > record.size)
        return NOTE_SIZE;
    bool time = file->ahead_mtime_ns != 0 && file->ahead_mtime_ns != record.mtime_ns;
    return time && !(flags & LIMPET_FS_DATA_ONLY) ? NOTE_TIME : NOTE_NOTHING;
}

/*
 * With the lock, which is released for a while. The call goes on when the file's writes have
 * arrived. A time needs not wait for them: record and contents become durable side by side.
 */
static void sync_waits(struct fs_call *call, struct fs_file *file)
{
    struct limpet_fs *fs = call->fs;
    bool early = to_note(fs, file, call->rq.flags) == NOTE_TIME;
    if (early) {
        int noted = note(fs, file, false);
        (void)noted; /* The file remembers it. */
    }
    call->until_write = file->last_write;
    STAILQ_INSERT_TAIL(&file->syncs, call, link);
    drain(fs, file);
    if (early)
        write_back_all(fs);
}

void behind_sync(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    if (call->rq.ino == 0) {
        call_work(call);
        return;
    }
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, call->rq.ino, false);
    int error = 0;
    bool works = false;
    if (file != NULL && !TAILQ_EMPTY(&file->writes) && call->until_write == 0) {
        sync_waits(call, file);
        pthread_mutex_unlock(&fs->lock);
        return;
    }
    if (file != NULL) {
        error = behind_take_error(file);
        works = error == 0 && to_note(fs, file, call->rq.flags) != NOTE_NOTHING;
    }
    if (works && TAILQ_EMPTY(&file->writes)) {
        file->holds++;
        error = note(fs, file, false) != 0 ? behind_take_error(file) : 0;
        file->holds--;
        file_drop(fs, file);
        works = false;
    } else if (file != NULL) {
        file_drop(fs, file);
    }
    pthread_mutex_unlock(&fs->lock);
    if (error != 0)
        call_end(call, error);
    else if (works)
        call_work(call);
    else
        sync_begin(call);
}

void behind_sync_slowly(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    int rc = call->rq.ino == 0 ? behind_write_back(fs, 0) : behind_settle(fs, call->rq.ino, false);
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, call->rq.ino, false);
    if (file != NULL && file->error != 0) {
        rc = behind_take_error(file);
        file_drop(fs, file);
    }
    pthread_mutex_unlock(&fs->lock);
    if (rc != 0)
        call_end(call, rc);
    else
        sync_begin(call);
}

int behind_error(struct limpet_fs *fs, uint64_t ino)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, ino, false);
    /* Not taken: who closes may be a child that knows nothing of the file, and fsync comes later.
     */
    int error = file != NULL ? error_of(file) : 0;
    if (error != 0)
        file->close_told = true;
    pthread_mutex_unlock(&fs->lock);
    return error;
}

/* ---- The thread: makes room, sends what waited for others, and notes ---- */

/* The record has room for a write of the file, durably or not yet. */
static int ask_for_room(struct limpet_fs *fs, const struct fs_file *file,
                        const struct fs_inode *inode, const struct fs_write *write)
{
    uint64_t unit = fs_set_bytes(&inode->layout), ahead = ROOM_AHEAD_MAX / inode->layout.stripes;
    uint64_t first = write->offset / unit, last = (write->offset + write->len - 1) / unit;
    /* A file that has grown is likely to grow on. */
    uint64_t more = first < ahead ? first : ahead;
    struct fs_request rq = {.ino = inode->ino,
                            .offset = first * unit,
                            .len = (last - first + 1 + more) * unit,
                            .flags = FS_BEHIND,
                            .tx = file->behind_tx,
                            .expect = 1};
    if (rq.offset + rq.len > FS_SIZE_MAX)
        rq.len = FS_SIZE_MAX - rq.offset;
    return run_here(fs, "fs.wrote", &rq);
}

/* With the lock: 0, -ESTALE, or another error. *inode: where room will be, or is. */
static int make_room(struct limpet_fs *fs, const struct fs_file *file, struct fs_inode *inode)
{
    const struct fs_write *write = find_roomless(fs, file);
    if (write == NULL)
        return 0;
    if (!lease_record(fs, file->ino, inode))
        return -ESTALE;
    bool grows = write->offset + write->len > inode->size;
    if (data_covers(inode, write->offset, write->len) &&
        (!grows || fs_txid_equal(inode->busy, file->behind_tx)))
        return 0;
    int rc = ask_for_room(fs, file, inode, write);
    return rc == 0 && !lease_record(fs, file->ino, inode) ? -ESTALE : rc;
}

struct roomy {
    struct fs_file *file;
    struct fs_inode inode; /* Its number is 0: nothing needs room any more. */
    uint64_t grant, rooms_lost;
    int rc;
};

/* With the lock, which is released for a while: a round for all files that want room. */
static void make_rooms(struct limpet_fs *fs)
{
    struct roomy rooms[FS_ROOMS_AT_ONCE];
    size_t n = 0;
    struct fs_file *file;
    while (n < FS_ROOMS_AT_ONCE && (file = TAILQ_FIRST(&fs->want_room)) != NULL) {
        TAILQ_REMOVE(&fs->want_room, file, room_link);
        file->wants_room = false;
        file->holds++;
        struct roomy *room = &rooms[n++];
        *room = (struct roomy){.file = file,
                               .grant = lease_current(fs, fs_home(file->ino)),
                               .rooms_lost = file->rooms_lost};
        bool lost = room->grant == 0 || is_lost(fs, fs_home(file->ino));
        room->rc = lost ? -EIO : make_room(fs, file, &room->inode);
    }
    pthread_mutex_unlock(&fs->lock);
    for (size_t i = 0; i < n; i++) {
        /* Those of one shard become durable together: the later calls have nothing to do. */
        if (rooms[i].rc == 0 && rooms[i].inode.ino != 0 && !planted(PLANTED_FS_ROOM_LATE))
            rooms[i].rc = shard_write_back(fs, fs_home(rooms[i].file->ino));
    }
    pthread_mutex_lock(&fs->lock);
    for (size_t i = 0; i < n; i++) {
        file = rooms[i].file;
        if (rooms[i].rc != 0)
            behind_cancel(fs, file, rooms[i].rc == -ESTALE ? 0 : rooms[i].rc);
        else if (rooms[i].inode.ino != 0)
            behind_has_room(file, &rooms[i].inode, rooms[i].grant, rooms[i].rooms_lost);
        file->holds--;
        drain(fs, file);
    }
}

/* With the lock, which is released for a while. */
static void drain_first(struct limpet_fs *fs)
{
    struct fs_file *file = TAILQ_FIRST(&fs->want_drain);
    TAILQ_REMOVE(&fs->want_drain, file, drain_link);
    file->wants_drain = false;
    drain(fs, file);
}

/* With the lock. */
static bool room_is_due(const struct limpet_fs *fs, int64_t now_ns)
{
    const struct fs_file *first = TAILQ_FIRST(&fs->want_room);
    return first != NULL && (fs->stopping || now_ns >= fs->room_due_ns || is_urgent(fs, first));
}

/* With the lock, which is released for a while: until something may be due. */
static void wait_until(struct limpet_fs *fs, int64_t note_ns)
{
    int64_t until_ns = LIST_EMPTY(&fs->ahead) ? INT64_MAX : note_ns;
    if (!TAILQ_EMPTY(&fs->want_room) && fs->room_due_ns < until_ns)
        until_ns = fs->room_due_ns;
    if (until_ns == INT64_MAX) {
        pthread_cond_wait(&fs->behind_wanted, &fs->lock);
        return;
    }
    (void)cond_wait_until(&fs->behind_wanted, &fs->lock, (uint64_t)until_ns);
}

void *behind_thread(void *arg)
{
    struct limpet_fs *fs = arg;
    int64_t note_ns = 0;
    pthread_mutex_lock(&fs->lock);
    while (!fs->stopping || !LIST_EMPTY(&fs->ahead) || !TAILQ_EMPTY(&fs->want_room) ||
           !TAILQ_EMPTY(&fs->want_drain)) {
        int64_t now_ns = clock_ns(CLOCK_MONOTONIC);
        if (!TAILQ_EMPTY(&fs->want_drain)) {
            drain_first(fs);
        } else if (room_is_due(fs, now_ns)) {
            make_rooms(fs);
        } else if (!LIST_EMPTY(&fs->ahead) &&
                   (fs->stopping || (note_ns != 0 && now_ns >= note_ns))) {
            int noted = note_all(fs, 0, false);
            (void)noted; /* The file remembers it for its fsync. */
            note_ns = 0;
            if (fs->stopping && !LIST_EMPTY(&fs->ahead))
                wait_until(fs, now_ns + NOTE_MS * INT64_C(1000000));
        } else {
            if (note_ns == 0 || LIST_EMPTY(&fs->ahead))
                note_ns = now_ns + NOTE_MS * INT64_C(1000000);
            wait_until(fs, note_ns);
        }
    }
    pthread_mutex_unlock(&fs->lock);
    return NULL;
}

/* ---- The other one: waits for nothing but time, whatever becomes of OSDs (W6) ---- */

void *behind_guard(void *arg)
{
    struct limpet_fs *fs = arg;
    pthread_mutex_lock(&fs->lock);
    while (!fs->stopping || !LIST_EMPTY(&fs->ahead) || fs->behind_bytes > 0) {
        if (LIST_EMPTY(&fs->ahead) && fs->behind_bytes == 0) {
            pthread_cond_wait(&fs->behind_begun, &fs->lock);
            continue;
        }
        (void)cond_wait_until(&fs->behind_begun, &fs->lock,
                              cond_now_ns() + LOOK_MS * UINT64_C(1000000));
        behind_lost(fs);
    }
    pthread_mutex_unlock(&fs->lock);
    return NULL;
}
