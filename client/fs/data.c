/*
 * Contents. A file's bytes lie in objects of 2^order bytes, one after the other; one that is not
 * there, or ends early, reads as zeroes.
 *
 * D1  Every data object lies in the ranges of its inode: they grow before an object is made, and
 *     shrink after it is gone.
 * D2  What lies beyond the size is gone before the file grows again: the inode is busy meanwhile.
 * D3  A write ends when the size and the ranges have covered it after its bytes had arrived: under
 * a lease by themselves, otherwise somebody may have cut the file, and it is written once more.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/fs/fs.h"
#include "common/planted.h"

struct limpet_pool *data_pool(struct limpet_fs *fs, const struct fs_inode *inode)
{
    /* Files of other pools than the file system's come with layouts that say so. */
    return inode->layout.pool == fs->super.data_pool ? fs->data : fs->pool;
}

void data_changes(struct limpet_fs *fs, uint64_t ino, uint64_t offset, uint64_t len)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, ino, false);
    if (file != NULL)
        file->changes = ++fs->contents_changed;
    cache_forget(fs->cache, ino, offset, len);
    pthread_mutex_unlock(&fs->lock);
}

/* ---- Pieces: one object each ---- */

struct piece {
    struct fs_call *call;
    struct limpet_op *op;
    struct limpet_completion *completion;
    uint8_t *data; /* Of a read: where it goes, and how much there was. */
    size_t len, got;
};

static bool objects_covered(const struct fs_inode *inode, uint64_t first, uint64_t last)
{
    for (uint16_t i = 0; i < inode->n_ranges; i++) {
        if (inode->ranges[i].first <= first && last <= inode->ranges[i].last)
            return true;
    }
    return false;
}

bool data_covers(const struct fs_inode *inode, uint64_t offset, uint64_t len)
{
    uint64_t first, last;
    if (inode->n_ranges == 0)
        return false; /* Also one that nothing is known of. */
    fs_objects_of(&inode->layout, offset, len, &first, &last);
    return objects_covered(inode, first, last);
}

static void write_end(struct fs_call *call, ssize_t rc)
{
    data_changes(call->fs, call->rq.ino, call->rq.offset, call->rq.len);
    call_end(call, rc);
}

static void verified(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                     size_t len)
{
    uint64_t end = call->rq.offset + call->rq.len;
    (void)raw, (void)len;
    if (rc == 0 && (answer->inode.size < end || answer->inode.busy.instance != 0 ||
                    answer->inode.relaid != call->relaid ||
                    !data_covers(&answer->inode, call->rq.offset, call->rq.len)))
        call_work(call);
    else
        write_end(call, rc == -ENOENT ? -ESTALE : rc != 0 ? rc : (ssize_t)call->rq.len);
}

/* D3: what was cut off while its bytes were on their way is written once more. */
static void verify(struct fs_call *call)
{
    struct fs_request rq = {.ino = call->rq.ino};
    fs_ask(call, fs_home(rq.ino), "fs.getattr", &rq, NULL, 0, verified);
}

static bool must_verify(const struct fs_call *call)
{
    return call->rq.verb == LIMPET_FS_WRITE &&
           (call->verify || !lease_held(call->fs, fs_home(call->rq.ino), call->grant));
}

/* What was read is kept, unless it was changed meanwhile; what was asked for is given. */
static void read_ended(struct fs_call *call, int error)
{
    struct limpet_fs *fs = call->fs;
    uint8_t *data = call->result.data;
    if (error != 0) {
        call_end(call, error);
        return;
    }
    if (call->keeps) {
        pthread_mutex_lock(&fs->lock);
        const struct fs_file *file = file_find(fs, call->rq.ino, false);
        if (file != NULL && file->changes == call->seen_changes &&
            lease_current(fs, fs_home(call->rq.ino)) == call->grant)
            cache_keep(fs->cache, call->rq.ino, call->span_offset, data, call->span_len,
                       call->to_end);
        pthread_mutex_unlock(&fs->lock);
    }
    if (call->rq.offset != call->span_offset)
        memmove(data, data + (call->rq.offset - call->span_offset), call->rq.len);
    call->result.len = call->rq.len;
    call_end(call, (ssize_t)call->rq.len);
}

/* One part of the call has ended; with the last one, the call. */
static void part_ended(struct fs_call *call, int rc)
{
    int none = 0;
    if (rc < 0)
        atomic_compare_exchange_strong(&call->error, &none, rc);
    if (atomic_fetch_sub(&call->pending, 1) != 1)
        return;
    int error = call->error;
    if (call->rq.verb == LIMPET_FS_READ)
        read_ended(call, error);
    else if (error == -FS_MOVING)
        call_work(call);
    else if (error == 0 && must_verify(call))
        verify(call);
    else
        write_end(call, error != 0 ? error : (ssize_t)call->rq.len);
}

static void piece_ended(struct limpet_completion *completion, void *arg)
{
    struct piece *piece = arg;
    struct fs_call *call = piece->call;
    ssize_t rc = limpet_completion_result(completion);
    if (call->rq.verb == LIMPET_FS_READ) {
        /* What is not there, or ends early. */
        if (rc == -ENOENT)
            rc = 0;
        if (piece->got < piece->len)
            memset(piece->data + piece->got, 0, piece->len - piece->got);
    }
    limpet_completion_release(completion);
    limpet_op_destroy(piece->op);
    free(piece);
    part_ended(call, (int)rc);
}

static int piece_submit(struct fs_call *call, const struct fs_inode *inode, uint64_t at,
                        uint8_t *data, size_t len)
{
    char name[FS_OBJECT_NAME_MAX];
    struct fs_place place = fs_place_of(&inode->layout, at);
    struct piece *piece = calloc(1, sizeof *piece);
    if (piece == NULL)
        return -ENOMEM;
    *piece = (struct piece){.call = call, .data = data, .len = len};
    piece->op = limpet_op_create();
    int rc = piece->op != NULL ? limpet_completion_create(piece_ended, piece, &piece->completion)
                               : -ENOMEM;
    if (rc == 0)
        rc = call->rq.verb == LIMPET_FS_READ
                 ? limpet_op_read(piece->op, data, len, place.offset, &piece->got, NULL)
                 : limpet_op_write(piece->op, data, len, place.offset);
    fs_data_object(inode->ino, fs_contents_of(inode), place.number, name);
    if (rc == 0)
        rc = limpet_aio_operate(data_pool(call->fs, inode), name, piece->completion, piece->op);
    if (rc == 0)
        return 0;
    if (piece->completion != NULL)
        limpet_completion_release(piece->completion);
    if (piece->op != NULL)
        limpet_op_destroy(piece->op);
    free(piece);
    return rc;
}

static unsigned count_pieces(const struct fs_inode *inode, uint64_t offset, size_t len)
{
    unsigned n = 1;
    uint64_t piece = fs_place_of(&inode->layout, offset).len, done = piece;
    for (; done < len; n++)
        done += fs_place_of(&inode->layout, offset + done).len;
    return n;
}

/* All pieces of a call whose `pending` has been set; parts that cannot be submitted have ended. */
static void pieces_submit(struct fs_call *call, const struct fs_inode *inode, uint64_t at,
                          uint8_t *data, size_t left)
{
    while (left > 0) {
        uint64_t room = fs_place_of(&inode->layout, at).len;
        size_t len = left < room ? left : (size_t)room;
        bool last = len == left;
        int rc = piece_submit(call, inode, at, data, len);
        if (rc != 0)
            part_ended(call, rc);
        if (last)
            return; /* The call may have ended. */
        at += len;
        data += len;
        left -= len;
    }
}

/* ---- Reading ---- */

/* With the lock. What is kept is read in pages, and as long as there is room, with what is near. */
static void widen(struct fs_call *call, const struct fs_inode *inode)
{
    struct limpet_fs *fs = call->fs;
    const struct fs_file *file = file_find(fs, call->rq.ino, false);
    call->keeps = file != NULL && call->grant != 0 && call->rq.len <= FS_CACHED_READ_MAX;
    if (!call->keeps)
        return;
    call->seen_changes = file->changes;
    uint64_t unit = cache_has_room(fs->cache, inode->size) ? FS_CACHED_READ_MAX : FS_CACHE_PAGE;
    uint64_t end = call->rq.offset + call->rq.len;
    call->span_offset = call->rq.offset & ~(unit - 1);
    end = (end + unit - 1) & ~(unit - 1);
    call->to_end = end >= inode->size;
    call->span_len = (size_t)((call->to_end ? inode->size : end) - call->span_offset);
}

static void read_clipped(struct fs_call *call, const struct fs_inode *record)
{
    struct limpet_fs *fs = call->fs;
    struct fs_inode own = *record, *inode = &own;
    if (!S_ISREG(inode->mode)) {
        call_end(call, S_ISDIR(inode->mode) ? -EISDIR : -EINVAL);
        return;
    }
    pthread_mutex_lock(&fs->lock);
    behind_merge(fs, inode);
    pthread_mutex_unlock(&fs->lock);
    uint64_t left = call->rq.offset < inode->size ? inode->size - call->rq.offset : 0;
    if (call->rq.len > left)
        call->rq.len = (size_t)left;
    if (call->rq.len == 0) {
        call_end(call, 0);
        return;
    }
    call->span_offset = call->rq.offset;
    call->span_len = call->rq.len;
    pthread_mutex_lock(&fs->lock);
    widen(call, inode);
    call->result.data = malloc(call->span_len);
    bool kept =
        call->keeps && call->result.data != NULL &&
        lease_current(fs, fs_home(call->rq.ino)) == call->grant &&
        cache_read(fs->cache, call->rq.ino, call->rq.offset, call->rq.len, call->result.data);
    const struct fs_file *file = file_find(fs, call->rq.ino, false);
    bool early = !kept && file != NULL && behind_has_unsent(file);
    pthread_mutex_unlock(&fs->lock);
    call->result.len = call->rq.len;
    if (call->result.data == NULL || kept) {
        call_end(call, kept ? (ssize_t)call->rq.len : -ENOMEM);
        return;
    }
    if (early) {
        free(call->result.data);
        call->result.data = NULL;
        call_work(call);
        return;
    }
    call->pending = count_pieces(inode, call->span_offset, call->span_len);
    pieces_submit(call, inode, call->span_offset, call->result.data, call->span_len);
}

static void read_known(struct fs_call *call, int rc, const struct fs_answer *answer,
                       const void *raw, size_t len)
{
    (void)raw, (void)len;
    if (rc != 0)
        call_end(call, rc == -ENOENT ? -ESTALE : rc);
    else
        read_clipped(call, &answer->inode);
}

void data_read_slowly(struct fs_call *call)
{
    behind_wait_sent(call->fs, call->rq.ino);
    data_read(call);
}

void data_read(struct fs_call *call)
{
    struct fs_inode inode;
    struct fs_request rq = {.ino = call->rq.ino};
    if (call->rq.offset > FS_SIZE_MAX || call->rq.len > FS_SIZE_MAX - call->rq.offset)
        call_end(call, -EINVAL);
    else if (lease_known(call, &inode))
        read_clipped(call, &inode);
    else
        fs_ask(call, fs_home(rq.ino), "fs.getattr", &rq, NULL, 0, read_known);
}

/* ---- Writing ---- */

static void tell_next(struct limpet_fs *fs, struct fs_file *file);

static void told(struct fs_call *carrier, int rc, const struct fs_answer *answer, const void *raw,
                 size_t len)
{
    struct fs_tell *tell = (struct fs_tell *)carrier;
    struct fs_file *file = tell->file;
    struct limpet_fs *fs = carrier->fs;
    struct fs_call *call;
    (void)raw, (void)len;
    while ((call = STAILQ_FIRST(&tell->calls)) != NULL) {
        STAILQ_REMOVE_HEAD(&tell->calls, link);
        /* Its contents have gone by another layout: once more. */
        if (rc == 0 && answer->inode.relaid != call->relaid)
            rc = -FS_MOVING;
        part_ended(call, rc == -ENOENT ? -ESTALE : rc);
    }
    pthread_mutex_lock(&fs->lock);
    file->telling = false;
    file->holds++;
    tell_next(fs, file);
    file->holds--;
    file_drop(fs, file);
    pthread_mutex_unlock(&fs->lock);
}

/* With the lock, which is released for a while. */
static void tell_next(struct limpet_fs *fs, struct fs_file *file)
{
    uint64_t from = UINT64_MAX, end = 0;
    uint32_t flags = 0;
    if (file->telling || STAILQ_EMPTY(&file->told_next))
        return;
    struct fs_tell *tell = &file->tell;
    tell->carrier.fs = fs;
    tell->file = file;
    STAILQ_INIT(&tell->calls);
    STAILQ_CONCAT(&tell->calls, &file->told_next);
    file->telling = true;
    const struct fs_call *call = STAILQ_FIRST(&tell->calls);
    for (; call != NULL; call = STAILQ_NEXT(call, link)) {
        from = call->rq.offset < from ? call->rq.offset : from;
        flags |= call->rq.flags & LIMPET_FS_KILL_PRIV ? FS_KILL_PRIV : 0;
        end = call->rq.offset + call->rq.len > end ? call->rq.offset + call->rq.len : end;
    }
    struct fs_request rq = {
        .ino = file->ino, .flags = flags, .set = FS_SET_SIZE, .offset = from, .len = end - from};
    pthread_mutex_unlock(&fs->lock);
    fs_ask(&tell->carrier, fs_home(rq.ino), "fs.wrote", &rq, NULL, 0, told);
    pthread_mutex_lock(&fs->lock);
}

/* B3, D1. With the lock: whether objects may be made there now. */
static bool room_is_durable(struct limpet_fs *fs, const struct fs_file *file, uint64_t offset,
                            uint64_t len)
{
    uint64_t home = fs_home(file->ino);
    return !shard_buffers(fs, home) || (file->durable_grant == lease_current(fs, home) &&
                                        data_covers(&file->durable, offset, len));
}

/* The record was read when rooms had been lost so often. */
static int make_room_durable(struct limpet_fs *fs, const struct fs_inode *inode, uint64_t offset,
                             uint64_t len, uint64_t rooms_lost)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, inode->ino, false);
    bool durable = file != NULL ? room_is_durable(fs, file, offset, len)
                                : !shard_buffers(fs, fs_home(inode->ino));
    uint64_t grant = lease_current(fs, fs_home(inode->ino));
    if (file != NULL)
        file->holds++;
    pthread_mutex_unlock(&fs->lock);
    int rc = durable ? 0 : shard_write_back(fs, fs_home(inode->ino));
    pthread_mutex_lock(&fs->lock);
    if (file != NULL) {
        if (rc == 0 && !durable)
            behind_has_room(file, inode, grant, rooms_lost);
        file->holds--;
        file_drop(fs, file);
    }
    pthread_mutex_unlock(&fs->lock);
    return rc;
}

static uint64_t count_rooms_lost(struct limpet_fs *fs, uint64_t ino)
{
    pthread_mutex_lock(&fs->lock);
    const struct fs_file *file = file_find(fs, ino, false);
    uint64_t lost = file != NULL ? file->rooms_lost : 0;
    pthread_mutex_unlock(&fs->lock);
    return lost;
}

void data_forget_room(struct limpet_fs *fs, uint64_t ino)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, ino, false);
    if (file != NULL)
        behind_lose_room(file);
    pthread_mutex_unlock(&fs->lock);
}

/* Where objects may be already, contents and size go at once. */
void data_write(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_inode inode;
    if (call->rq.len == 0) {
        call_end(call, 0);
        return;
    }
    if (call->rq.offset > FS_SIZE_MAX || call->rq.len > FS_SIZE_MAX - call->rq.offset) {
        call_end(call, -EFBIG);
        return;
    }
    if (behind_write(call))
        return;
    data_changes(fs, call->rq.ino, call->rq.offset, call->rq.len);
    pthread_mutex_lock(&fs->lock);
    struct fs_file *file = file_find(fs, call->rq.ino, false);
    /* Behind what is on its way, if anything is: in its order, and with a later time. */
    bool fast = file != NULL && file->opens > 0 && !file->ahead &&
                !(call->rq.flags & LIMPET_FS_APPEND) && lease_inode(fs, call->rq.ino, &inode) &&
                S_ISREG(inode.mode) && inode.busy.instance == 0 &&
                data_covers(&inode, call->rq.offset, call->rq.len) &&
                room_is_durable(fs, file, call->rq.offset, call->rq.len);
    if (!fast) {
        pthread_mutex_unlock(&fs->lock);
        call_work(call);
        return;
    }
    call->grant = lease_current(fs, fs_home(call->rq.ino));
    call->relaid = inode.relaid;
    call->pending = count_pieces(&inode, call->rq.offset, call->rq.len) + 2;
    STAILQ_INSERT_TAIL(&file->told_next, call, link);
    tell_next(fs, file);
    pthread_mutex_unlock(&fs->lock);
    pieces_submit(call, &inode, call->rq.offset, limpet_buffer_data(call->buffer), call->rq.len);
    part_ended(call, 0);
}

/* First the inode, so that D1 and D2 hold; 1 when the call goes on by itself. */
int data_write_slowly(struct fs_call *call)
{
    struct fs_request rq = {.ino = call->rq.ino,
                            .offset = call->rq.offset,
                            .len = call->rq.len,
                            .flags = (call->rq.flags & LIMPET_FS_APPEND ? FS_APPEND : 0) |
                                     (call->rq.flags & LIMPET_FS_KILL_PRIV ? FS_KILL_PRIV : 0)};
    struct fs_answer answer;
    uint64_t rooms_lost = count_rooms_lost(call->fs, rq.ino);
    /* What is ahead of the record goes first: the shard is being given back. */
    int rc = behind_settle(call->fs, rq.ino, true);
    if (rc == 0)
        rc = fs_method(call->fs, fs_home(rq.ino), "fs.wrote", &rq, &answer);
    if (rc != 0)
        return rc == -ENOENT ? -ESTALE : rc;
    /* Somebody cuts it, or has died before the size covered what he wrote: D3 would not end. */
    if (answer.inode.busy.instance != 0)
        return -FS_MOVING;
    call->rq.offset = call->result.offset = answer.offset;
    rc = call->rq.len > 0
             ? make_room_durable(call->fs, &answer.inode, call->rq.offset, call->rq.len, rooms_lost)
             : 0;
    if (rc != 0)
        return rc;
    call->verify = true;
    call->relaid = answer.inode.relaid;
    /* Another beginning puts the bytes where this one has made room for them. */
    call->rq.flags &= ~(unsigned)LIMPET_FS_APPEND;
    data_changes(call->fs, call->rq.ino, call->rq.offset, call->rq.len);
    call->error = 0;
    call->pending = count_pieces(&answer.inode, call->rq.offset, call->rq.len);
    pieces_submit(call, &answer.inode, call->rq.offset, limpet_buffer_data(call->buffer),
                  call->rq.len);
    return 1;
}

/* ---- Many objects ---- */

enum {
    SWEPT_MAX = 1 << 20, /* Names that are tried, before it is looked which there are. */
    LAZY_PIECES = 2,     /* Instead of FS_PIECES_MAX, while programs want something. */
};

struct sweep {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    unsigned pending;
    int error;
    bool lazy; /* Requests of programs go first. */
};

static void swept(struct limpet_completion *completion, void *arg)
{
    struct sweep *sweep = arg;
    int rc = (int)limpet_completion_result(completion);
    limpet_completion_release(completion);
    pthread_mutex_lock(&sweep->lock);
    if (rc != 0 && rc != -ENOENT && sweep->error == 0)
        sweep->error = rc;
    sweep->pending--;
    pthread_cond_signal(&sweep->ended);
    pthread_mutex_unlock(&sweep->lock);
}

static int sweep_wait(struct sweep *sweep, unsigned max)
{
    pthread_mutex_lock(&sweep->lock);
    while (sweep->pending > max)
        pthread_cond_wait(&sweep->ended, &sweep->lock);
    int error = sweep->error;
    pthread_mutex_unlock(&sweep->lock);
    return error;
}

static bool is_used(struct limpet_fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    bool used = fs->calls > 0 && !fs->stopping;
    pthread_mutex_unlock(&fs->lock);
    return used;
}

static int remove_object(struct limpet_fs *fs, const struct fs_inode *inode, uint64_t number,
                         struct sweep *sweep)
{
    char name[FS_OBJECT_NAME_MAX];
    struct limpet_completion *completion;
    int rc = sweep_wait(sweep, (sweep->lazy && is_used(fs) ? LAZY_PIECES : FS_PIECES_MAX) - 1);
    if (rc == 0)
        rc = limpet_completion_create(swept, sweep, &completion);
    if (rc != 0)
        return rc;
    fs_data_object(inode->ino, fs_contents_of(inode), number, name);
    pthread_mutex_lock(&sweep->lock);
    sweep->pending++;
    pthread_mutex_unlock(&sweep->lock);
    rc = limpet_aio_remove(data_pool(fs, inode), name, completion);
    if (rc != 0) {
        limpet_completion_release(completion);
        pthread_mutex_lock(&sweep->lock);
        sweep->pending--;
        pthread_mutex_unlock(&sweep->lock);
    }
    return rc;
}

static uint64_t count_range(const struct fs_inode *inode, uint64_t first, uint64_t end)
{
    uint64_t n = 0;
    for (uint16_t i = 0; i < inode->n_ranges; i++) {
        uint64_t at = inode->ranges[i].first > first ? inode->ranges[i].first : first;
        uint64_t stop = inode->ranges[i].last + 1 < end ? inode->ranges[i].last + 1 : end;
        n += at < stop ? stop - at : 0;
    }
    return n;
}

/*
 * An inode has FS_RANGES_MAX ranges; a file with more pieces far apart from each other has ranges
 * with wide gaps in them. Of such a one, all objects of the pool are looked through.
 */
static int remove_listed(struct limpet_fs *fs, const struct fs_inode *inode, uint64_t first,
                         uint64_t end, struct sweep *sweep)
{
    char prefix[FS_OBJECT_NAME_MAX];
    struct limpet_list *list;
    struct limpet_list_entry entry;
    fs_data_object(inode->ino, fs_contents_of(inode), 0, prefix);
    size_t len = (size_t)(strrchr(prefix, '.') + 1 - prefix);
    int rc = limpet_list_open(data_pool(fs, inode), false, &list);
    if (rc != 0)
        return rc;
    while ((rc = limpet_list_next(list, &entry)) == 0) {
        if (strncmp(entry.name, prefix, len) != 0)
            continue;
        uint64_t number = strtoull(entry.name + len, NULL, 16);
        if (number >= first && number < end)
            rc = remove_object(fs, inode, number, sweep);
        if (rc != 0)
            break;
    }
    limpet_list_close(list);
    return rc == -ENOENT ? 0 : rc;
}

/* Some may be under way still when it returns: sweep_wait(). */
static int sweep_range(struct limpet_fs *fs, const struct fs_inode *inode, uint64_t first,
                       uint64_t end, struct sweep *sweep)
{
    int rc = 0;
    if (count_range(inode, first, end) > SWEPT_MAX)
        return remove_listed(fs, inode, first, end, sweep);
    for (uint16_t i = 0; i < inode->n_ranges; i++) {
        uint64_t at = inode->ranges[i].first > first ? inode->ranges[i].first : first;
        uint64_t stop = inode->ranges[i].last + 1 < end ? inode->ranges[i].last + 1 : end;
        for (; rc == 0 && at < stop; at++)
            rc = remove_object(fs, inode, at, sweep);
    }
    return rc;
}

/* Objects [first, end) that may be there. */
static int remove_range(struct limpet_fs *fs, const struct fs_inode *inode, uint64_t first,
                        uint64_t end)
{
    struct sweep sweep = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    int rc = sweep_range(fs, inode, first, end, &sweep);
    int last = sweep_wait(&sweep, 0);
    return rc != 0 ? rc : last;
}

int data_remove(struct limpet_fs *fs, const struct fs_inode *inodes, size_t n)
{
    struct sweep sweep = {
        .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER, .lazy = true};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = sweep_range(fs, &inodes[i], 0, UINT64_MAX, &sweep);
    int last = sweep_wait(&sweep, 0);
    return rc != 0 ? rc : last;
}

/* Bytes [from, end) of an object become zeroes. */
static int zero_object(struct limpet_fs *fs, const struct fs_inode *inode, uint64_t number,
                       uint64_t from, uint64_t end)
{
    char name[FS_OBJECT_NAME_MAX];
    struct limpet_op *op;
    if (!objects_covered(inode, number, number))
        return 0;
    fs_data_object(inode->ino, fs_contents_of(inode), number, name);
    op = limpet_op_create();
    int rc = op != NULL ? limpet_op_assert_exists(op) : -ENOMEM;
    /* It makes nothing longer, and cuts off what reaches to the end. */
    if (rc == 0)
        rc = limpet_op_zero(op, from, end - from);
    if (rc == 0)
        rc = limpet_operate(data_pool(fs, inode), name, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    return rc == -ENOENT ? 0 : rc;
}

/* What bytes [offset, end) of the file take of the objects of one set; whole ones go. */
static int zero_set(struct limpet_fs *fs, const struct fs_inode *inode, uint64_t set,
                    uint64_t offset, uint64_t end)
{
    const struct fs_layout *layout = &inode->layout;
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < layout->stripes; i++) {
        uint64_t number = set * layout->stripes + i;
        uint64_t from = fs_object_bytes(layout, number, offset);
        uint64_t to = fs_object_bytes(layout, number, end);
        if (from == 0 && to == UINT64_C(1) << layout->order)
            rc = remove_range(fs, inode, number, number + 1);
        else if (from < to)
            rc = zero_object(fs, inode, number, from, to);
    }
    return rc;
}

static int zero_range(struct limpet_fs *fs, const struct fs_inode *inode, uint64_t offset,
                      uint64_t len)
{
    uint64_t bytes = fs_set_bytes(&inode->layout), end = offset + len;
    uint64_t first = offset / bytes, last = end / bytes;
    int rc = 0;
    if (first == last)
        return zero_set(fs, inode, first, offset, end);
    if (offset % bytes != 0)
        rc = zero_set(fs, inode, first++, offset, end);
    if (rc == 0 && end % bytes != 0)
        rc = zero_set(fs, inode, last, offset, end);
    return rc == 0 ? remove_range(fs, inode, first * inode->layout.stripes,
                                  last * inode->layout.stripes)
                   : rc;
}

int data_trim(struct limpet_fs *fs, const struct fs_inode *inode)
{
    struct fs_request rq = {.ino = inode->ino, .set = FS_SET_TRIMMED, .tx = inode->busy};
    int rc = 0;
    uint64_t bytes = fs_set_bytes(&inode->layout), set = inode->size / bytes;
    /* B3: what is cut off is durably said to be. */
    rc = shard_write_back(fs, fs_home(inode->ino));
    data_forget_room(fs, inode->ino);
    bool cuts = rc == 0 && !planted(PLANTED_FS_CUT_LOST);
    if (cuts && inode->size % bytes != 0) {
        rc = zero_set(fs, inode, set, inode->size, (set + 1) * bytes);
        set++;
    }
    if (cuts && rc == 0)
        rc = remove_range(fs, inode, set * inode->layout.stripes, UINT64_MAX);
    data_changes(fs, inode->ino, inode->size, FS_SIZE_MAX);
    return rc == 0 ? fs_method(fs, fs_home(inode->ino), "fs.setattr", &rq, NULL) : rc;
}

int data_setsize(struct fs_call *call, const struct fs_request *rq, struct fs_answer *out)
{
    struct fs_request own = *rq;
    own.tx = fs_new_tx(call->fs);
    int rc = behind_settle(call->fs, rq->ino, true);
    if (rc == 0)
        rc = fs_method(call->fs, fs_home(rq->ino), "fs.setattr", &own, out);
    if (rc == 0 && fs_txid_equal(out->inode.busy, own.tx))
        rc = data_trim(call->fs, &out->inode);
    else
        data_changes(call->fs, rq->ino, 0, FS_SIZE_MAX);
    return rc;
}

int data_allocate(struct fs_call *call)
{
    unsigned mode = call->rq.flags;
    bool keep = mode & FALLOC_FL_KEEP_SIZE, punch = mode & FALLOC_FL_PUNCH_HOLE;
    bool zero = mode & FALLOC_FL_ZERO_RANGE;
    struct fs_request rq = {.ino = call->rq.ino,
                            .offset = call->rq.offset,
                            .len = call->rq.len,
                            .set = FS_SET_SIZE,
                            .expect = keep};
    struct fs_inode inode;
    if (mode & ~(unsigned)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) ||
        (punch && (zero || !keep)))
        return -EOPNOTSUPP;
    if (call->rq.len == 0)
        return -EINVAL;
    if (rq.offset > FS_SIZE_MAX || rq.len > FS_SIZE_MAX - rq.offset)
        return -EFBIG;
    int rc = behind_settle(call->fs, rq.ino, true);
    if (rc == 0)
        rc = name_getinode(call->fs, rq.ino, &inode);
    if (rc == 0 && !S_ISREG(inode.mode))
        rc = -ENODEV;
    if (rc == 0 && (punch || zero)) {
        data_changes(call->fs, rq.ino, rq.offset, rq.len);
        rc = zero_range(call->fs, &inode, rq.offset, rq.len);
        data_changes(call->fs, rq.ino, rq.offset, rq.len);
    }
    return rc == 0 ? fs_method(call->fs, fs_home(rq.ino), "fs.wrote", &rq, NULL) : rc;
}

/* ---- Holes ---- */

/* What is known of the objects of one set. */
struct seek {
    struct limpet_fs *fs;
    const struct fs_inode *inode;
    uint64_t set;
    struct limpet_extents *extents[FS_STRIPES_MAX]; /* NULL: it was not asked, or is not there. */
    bool asked[FS_STRIPES_MAX];
};

static void seek_forget(struct seek *seek)
{
    for (uint16_t i = 0; i < seek->inode->layout.stripes; i++) {
        limpet_free(seek->extents[i]);
        seek->extents[i] = NULL;
        seek->asked[i] = false;
    }
}

static int seek_ask(struct seek *seek, uint64_t number, struct limpet_extents **out)
{
    char name[FS_OBJECT_NAME_MAX];
    const struct fs_inode *inode = seek->inode;
    struct limpet_op *op = limpet_op_create();
    fs_data_object(inode->ino, fs_contents_of(inode), number, name);
    int rc = op != NULL ? limpet_op_extents(op, 0, 0, out, NULL) : -ENOMEM;
    if (rc == 0)
        rc = limpet_operate(data_pool(seek->fs, inode), name, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    return rc == -ENOENT ? 0 : rc;
}

static int seek_extents(struct seek *seek, uint64_t number, const struct limpet_extents **out)
{
    uint64_t set = number / seek->inode->layout.stripes;
    uint64_t i = number % seek->inode->layout.stripes;
    if (set != seek->set)
        seek_forget(seek);
    seek->set = set;
    int rc = seek->asked[i] ? 0 : seek_ask(seek, number, &seek->extents[i]);
    seek->asked[i] = rc == 0;
    *out = seek->extents[i];
    return rc;
}

/* The first place from `at` on, of what follows it in its object, that has data, or has none;
 * -ENXIO: there is no such place. */
static int seek_inside(struct seek *seek, uint64_t at, bool data, uint64_t *out)
{
    struct fs_place place = fs_place_of(&seek->inode->layout, at);
    uint64_t within = place.offset, stop = place.offset + place.len;
    const struct limpet_extents *extents;
    bool found = false;
    int rc = seek_extents(seek, place.number, &extents);
    if (rc != 0)
        return rc;
    for (size_t i = 0; extents != NULL && i < extents->n && !found; i++) {
        uint64_t from = extents->extents[i].offset, end = from + extents->extents[i].len;
        if (end <= within)
            continue;
        if (from > within && !data)
            break;
        found = data;
        within = !data ? end : from > within ? from : within;
    }
    *out = at + (within - place.offset);
    return within < stop && found == data ? 0 : -ENXIO;
}

static int seek_range(struct seek *seek, uint64_t at, uint64_t end, bool data, uint64_t *out)
{
    int rc = -ENXIO;
    while (rc == -ENXIO && at < end) {
        rc = seek_inside(seek, at, data, out);
        at += fs_place_of(&seek->inode->layout, at).len;
    }
    return rc;
}

static int seek_file(struct seek *seek, uint64_t at, bool data, uint64_t *out)
{
    const struct fs_inode *inode = seek->inode;
    uint64_t bytes = fs_set_bytes(&inode->layout);
    for (uint16_t i = 0; i < inode->n_ranges; i++) {
        uint64_t first = inode->ranges[i].first / inode->layout.stripes * bytes;
        uint64_t end = (inode->ranges[i].last / inode->layout.stripes + 1) * bytes;
        end = end < inode->size ? end : inode->size;
        if (end <= at)
            continue;
        if (first > at && !data)
            break; /* A hole, here. */
        at = first > at ? first : at;
        int rc = seek_range(seek, at, end, data, out);
        if (rc != -ENXIO)
            return rc == 0 && data && *out >= inode->size ? -ENXIO : rc;
        at = end;
    }
    *out = at;
    return data ? -ENXIO : 0;
}

int data_seek(struct fs_call *call, uint64_t *out)
{
    struct fs_inode inode;
    bool data = call->rq.flags == SEEK_DATA;
    if (!data && call->rq.flags != SEEK_HOLE)
        return -EINVAL;
    int rc = behind_settle(call->fs, call->rq.ino, true);
    if (rc == 0)
        rc = name_getinode(call->fs, call->rq.ino, &inode);
    if (rc != 0)
        return rc;
    if (call->rq.offset >= inode.size)
        return -ENXIO;
    struct seek *seek = calloc(1, sizeof *seek);
    if (seek == NULL)
        return -ENOMEM;
    seek->fs = call->fs;
    seek->inode = &inode;
    rc = seek_file(seek, call->rq.offset, data, out);
    if (rc == 0 && *out > inode.size)
        *out = inode.size;
    seek_forget(seek);
    free(seek);
    return rc;
}

void data_close(struct fs_call *call)
{
    if (!(call->rq.flags & (LIMPET_FS_WHOLE | LIMPET_FS_READER)))
        call->close_error = behind_error(call->fs, call->rq.ino);
    lock_unset_all(call);
}
