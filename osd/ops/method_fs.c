/* What the methods of file systems share: records of a shard, read and written. */
#include "osd/ops/method_fs.h"

#include <string.h>

#include "osd/ops/attr.h"
#include "osd/ops/watch.h"

/* ---- Requests and answers ---- */

int fs_begin_unseen(struct method_call *call, struct fs_job *job)
{
    memset(job, 0, sizeof *job);
    job->call = call;
    job->view = call->view;
    job->now_ns = (int64_t)call->run->wall_ns;
    uint32_t len;
    const void *request = decode_string32(&call->input, &len);
    if (call->input.failed || fs_request_decode(request, len, &job->rq) != 0)
        return -EINVAL;
    size_t left = decoder_left(&call->input);
    job->data = view_bytes_of(decode_bytes(&call->input, left), left);
    job->home = fs_home(job->rq.ino);
    return 0;
}

static int check_leases(struct fs_job *job)
{
    static const char name[] = WATCH_ATTR;
    const struct ops_run *run = job->call->run;
    unsigned wanted = run->request->write ? WIRE_LEASE_EXCLUSIVE : WIRE_LEASE_SHARED;
    struct view_bytes value;
    int error = view_attr(job->view, name, sizeof name - 1, &value);
    if (error)
        return error == -ENODATA ? 0 : error;
    struct watchers *watchers = view_alloc(job->view, sizeof *watchers);
    if (!watchers)
        return -ENOMEM;
    error = watchers_decode(value, watchers);
    for (uint32_t i = 0; !error && i < watchers->n; i++) {
        const struct watcher_layout *head = &watchers->list[i].head;
        if (head->instance != run->caller.instance && !leases_agree(head->mode, wanted))
            error = -FS_LEASED;
    }
    return error;
}

int fs_begin(struct method_call *call, struct fs_job *job)
{
    int error = fs_begin_unseen(call, job);
    return error ? error : check_leases(job);
}

int fs_end(struct fs_job *job)
{
    /* A link's target is not told by what changes it: such answers are small. */
    if (job->call->run->request->write)
        job->answer.inode.target = (struct fs_bytes){NULL, 0};
    fs_answer_encode(&job->call->output, &job->answer);
    return job->call->output.failed ? -ENOMEM : 0;
}

/* ---- Looking ---- */

static int look(struct fs_job *job, const uint8_t *key, size_t len, struct view_bytes *out)
{
    return view_omap(job->view, key, (uint16_t)len, out);
}

bool fs_bytes_equal(struct fs_bytes a, struct fs_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool fs_is_local(const struct fs_job *job, uint64_t ino)
{
    return fs_home(ino) == job->home && !fs_is_dir(ino);
}

static int look_inode(struct fs_job *job, uint32_t index, struct fs_inode *out)
{
    uint8_t key[FS_KEY_MAX];
    struct view_bytes value;
    int error = look(job, key, fs_index_key(key, FS_KEY_INODE, index), &value);
    if (error)
        return error;
    error = fs_inode_decode(value.data, value.len, out) ? -EIO : 0;
    out->ino = fs_ino(job->home, index);
    return error;
}

int fs_look_inode(struct fs_job *job, uint64_t ino, struct fs_inode *out)
{
    if (fs_home(ino) != job->home)
        return -EINVAL;
    int error = look_inode(job, fs_index(ino), out);
    return error == -ENODATA ? -ESTALE : error;
}

int fs_look_dir(struct fs_job *job)
{
    uint8_t key[FS_KEY_MAX] = {FS_KEY_SHARD};
    struct view_bytes value;
    int error = look(job, key, 1, &value);
    int other = look_inode(job, FS_INDEX_DIR, &job->dir);
    if (error == VIEW_MISS || other == VIEW_MISS)
        return VIEW_MISS;
    if (error == -ENODATA || other == -ENODATA)
        return -ENOENT;
    if (!error && fs_shard_decode(value.data, value.len, &job->shard) != 0)
        return -EIO;
    return error ? error : other;
}

int fs_look_entry(struct fs_job *job, struct fs_bytes name, struct fs_entry *out)
{
    uint8_t key[FS_KEY_MAX];
    struct view_bytes value;
    memset(out, 0, sizeof *out);
    if (name.len == 0)
        return -EINVAL;
    int error = look(job, key, fs_entry_key(key, name.data, name.len), &value);
    if (error)
        return error;
    return fs_entry_decode(value.data, value.len, out) ? -EIO : 0;
}

int fs_look_intent(struct fs_job *job, struct fs_txid tx, struct fs_intent *out)
{
    uint8_t key[FS_KEY_MAX];
    struct view_bytes value;
    int error = look(job, key, fs_txid_key(key, FS_KEY_INTENT, tx), &value);
    if (error)
        return error;
    return fs_intent_decode(value.data, value.len, out) ? -EIO : 0;
}

int fs_look_mark(struct fs_job *job, struct fs_txid tx)
{
    uint8_t key[FS_KEY_MAX];
    struct view_bytes value;
    return look(job, key, fs_txid_key(key, FS_KEY_MARK, tx), &value);
}

int fs_look_any(struct fs_job *job, enum fs_key kind, uint32_t from)
{
    uint8_t key[FS_KEY_MAX];
    struct view_bytes found, value;
    size_t len = fs_index_key(key, kind, from);
    int error = view_omap_next(job->view, key, (uint16_t)(from > 0 ? len : 1), 1, &found, &value);
    if (error)
        return error;
    return found.data[0] == kind ? 0 : -ENODATA;
}

/* ---- Changing ---- */

static const void *keep(struct fs_job *job, const void *data, size_t len)
{
    void *memory = view_alloc(job->view, len);
    if (memory)
        memcpy(memory, data, len);
    return memory;
}

/* What view_alloc() could not give makes the run fail, whatever is returned here. */
static void put(struct fs_job *job, const uint8_t *key, size_t key_len, struct encoder *value)
{
    const void *kept = keep(job, key, key_len);
    const void *bytes = value->failed ? NULL : keep(job, value->data, value->len);
    if (value->failed)
        job->view->failed = -ENOMEM;
    else if (kept && bytes)
        view_omap_set(job->view, kept, (uint16_t)key_len, bytes, (uint32_t)value->len);
    encoder_fini(value);
}

static void remove_key(struct fs_job *job, const uint8_t *key, size_t len)
{
    uint8_t *kept = view_alloc(job->view, len + 1);
    if (!kept)
        return;
    memcpy(kept, key, len);
    kept[len] = 0;
    view_omap_remove(job->view, kept, (uint16_t)len, kept, (uint16_t)(len + 1));
}

void fs_put_shard(struct fs_job *job)
{
    uint8_t key[FS_KEY_MAX] = {FS_KEY_SHARD};
    struct encoder e;
    encoder_init(&e);
    fs_shard_encode(&e, &job->shard);
    put(job, key, 1, &e);
}

void fs_put_entry(struct fs_job *job, struct fs_bytes name, const struct fs_entry *entry)
{
    uint8_t key[FS_KEY_MAX];
    struct encoder e;
    encoder_init(&e);
    fs_entry_encode(&e, entry);
    put(job, key, fs_entry_key(key, name.data, name.len), &e);
}

void fs_remove_entry(struct fs_job *job, struct fs_bytes name)
{
    uint8_t key[FS_KEY_MAX] = {0};
    remove_key(job, key, fs_entry_key(key, name.data, name.len));
}

void fs_put_inode(struct fs_job *job, uint32_t index, const struct fs_inode *inode)
{
    uint8_t key[FS_KEY_MAX];
    struct encoder e;
    encoder_init(&e);
    fs_inode_encode(&e, inode);
    put(job, key, fs_index_key(key, FS_KEY_INODE, index), &e);
}

void fs_put_intent(struct fs_job *job, struct fs_txid tx, const struct fs_intent *intent)
{
    uint8_t key[FS_KEY_MAX];
    struct encoder e;
    encoder_init(&e);
    fs_intent_encode(&e, intent);
    put(job, key, fs_txid_key(key, FS_KEY_INTENT, tx), &e);
}

void fs_put_locks(struct fs_job *job, const struct fs_locks *locks)
{
    uint8_t key[FS_KEY_MAX] = {0};
    struct encoder e;
    size_t len = fs_index_key(key, FS_KEY_LOCKS, fs_index(job->rq.ino));
    if (locks->n == 0) {
        remove_key(job, key, len);
        return;
    }
    encoder_init(&e);
    fs_locks_encode(&e, locks);
    put(job, key, len, &e);
}

void fs_put_mark(struct fs_job *job, struct fs_txid tx)
{
    uint8_t key[FS_KEY_MAX];
    struct encoder e;
    encoder_init(&e);
    encode_u64(&e, (uint64_t)job->now_ns);
    put(job, key, fs_txid_key(key, FS_KEY_MARK, tx), &e);
}

void fs_put_key(struct fs_job *job, enum fs_key kind, uint32_t index)
{
    uint8_t key[FS_KEY_MAX];
    struct encoder e;
    encoder_init(&e);
    encode_u64(&e, (uint64_t)job->now_ns);
    put(job, key, fs_index_key(key, kind, index), &e);
}

void fs_remove_tx(struct fs_job *job, enum fs_key kind, struct fs_txid tx)
{
    uint8_t key[FS_KEY_MAX] = {0};
    remove_key(job, key, fs_txid_key(key, kind, tx));
}

void fs_remove_index(struct fs_job *job, enum fs_key kind, uint32_t index)
{
    uint8_t key[FS_KEY_MAX] = {0};
    remove_key(job, key, fs_index_key(key, kind, index));
}

void fs_touch(struct fs_job *job, struct fs_inode *inode)
{
    inode->ctime_ns = job->now_ns;
    inode->change++;
}

void fs_put_dir(struct fs_job *job)
{
    fs_touch(job, &job->dir);
    job->dir.mtime_ns = job->now_ns;
    fs_put_inode(job, FS_INDEX_DIR, &job->dir);
}

/* ---- Entries that go ---- */

int fs_look_victim(struct fs_job *job, const struct fs_entry *entry, struct fs_victim *out)
{
    memset(out, 0, sizeof *out);
    out->entry = *entry;
    out->local = fs_is_local(job, entry->ino);
    if (out->local)
        return fs_look_inode(job, entry->ino, &out->inode);
    /* Its inode is elsewhere: the intent needs a name. */
    if (!fs_is_dir(entry->ino) && job->rq.tx.instance == 0)
        return -EINVAL;
    return 0;
}

void fs_drop_victim(struct fs_job *job, struct fs_victim *victim)
{
    struct fs_inode *inode = &victim->inode;
    if (fs_is_dir(victim->entry.ino)) {
        if (job->dir.links > 2)
            job->dir.links--;
    } else if (victim->local) {
        if (inode->links > 0)
            inode->links--;
        fs_touch(job, inode);
        fs_put_inode(job, fs_index(inode->ino), inode);
        if (inode->links == 0) {
            fs_put_key(job, FS_KEY_ORPHAN, fs_index(inode->ino));
            job->answer.flags |= FS_ORPHANED;
        }
        job->answer.flags |= FS_HAS_INODE;
        job->answer.inode = *inode;
    } else {
        struct fs_intent intent = {
            .kind = FS_INTENT_DROP, .type = victim->entry.type, .ino = victim->entry.ino};
        fs_put_intent(job, job->rq.tx, &intent);
        job->answer.flags |= FS_DROPPED;
        job->answer.ino = victim->entry.ino;
    }
}
