/* What the methods of file systems share: records of a shard, read and written. */
#include "common/fs_method.h"

#include <errno.h>
#include <string.h>

/* ---- By name ---- */

fs_method_run fs_method_find(const char *name)
{
    static const struct {
        const char *name;
        fs_method_run run;
    } methods[] = {
        {"fs.apply", fs_method_apply},     {"fs.create", fs_method_create},
        {"fs.dying", fs_method_dying},     {"fs.enter", fs_method_enter},
        {"fs.getattr", fs_method_getattr}, {"fs.getlock", fs_method_getlock},
        {"fs.init", fs_method_init},       {"fs.keeplocks", fs_method_keeplocks},
        {"fs.layout", fs_method_layout},   {"fs.leave", fs_method_leave},
        {"fs.links", fs_method_links},     {"fs.list", fs_method_list},
        {"fs.lock", fs_method_lock},       {"fs.lookup", fs_method_lookup},
        {"fs.moved", fs_method_moved},     {"fs.purge", fs_method_purge},
        {"fs.reap", fs_method_reap},       {"fs.rename", fs_method_rename},
        {"fs.reserve", fs_method_reserve}, {"fs.setattr", fs_method_setattr},
        {"fs.settle", fs_method_settle},   {"fs.split", fs_method_split},
        {"fs.unlink", fs_method_unlink},   {"fs.vanish", fs_method_vanish},
        {"fs.wrote", fs_method_wrote},     {"fs.xget", fs_method_xget},
        {"fs.xlist", fs_method_xlist},     {"fs.xremove", fs_method_xremove},
        {"fs.xset", fs_method_xset},
    };
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strcmp(methods[i].name, name) == 0)
            return methods[i].run;
    }
    return NULL;
}

/* ---- Requests and answers ---- */

static int begin(struct fs_method_call *call, struct fs_job *job)
{
    memset(job, 0, sizeof *job);
    job->call = call;
    job->now_ns = call->now_ns;
    uint32_t len;
    const void *request = decode_string32(&call->input, &len);
    if (call->input.failed || fs_request_decode(request, len, &job->rq) != 0)
        return -EINVAL;
    size_t left = decoder_left(&call->input);
    job->data = fs_span_of(decode_bytes(&call->input, left), left);
    job->home = fs_home(job->rq.ino);
    return 0;
}

int fs_begin_unseen(struct fs_method_call *call, struct fs_job *job)
{
    int error = begin(call, job);
    return error ? error : call->records->may(call, true);
}

int fs_begin(struct fs_method_call *call, struct fs_job *job)
{
    int error = begin(call, job);
    return error ? error : call->records->may(call, false);
}

int fs_end(struct fs_job *job)
{
    /* A link's target is not told by what changes it: such answers are small. */
    if (job->call->writes)
        job->answer.inode.target = (struct fs_bytes){NULL, 0};
    fs_answer_encode(&job->call->output, &job->answer);
    return job->call->output.failed ? -ENOMEM : 0;
}

int fs_end_with(struct fs_job *job, const struct fs_inode *inode)
{
    job->answer.flags |= FS_HAS_INODE;
    job->answer.inode = *inode;
    return fs_end(job);
}

/* ---- Looking ---- */

static int look(struct fs_job *job, const uint8_t *key, size_t len, struct fs_span *out)
{
    return fs_look(job->call, key, (uint16_t)len, out);
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
    struct fs_span value;
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

int fs_look_inode_record(struct fs_job *job, uint64_t ino, struct fs_span *out)
{
    uint8_t key[FS_KEY_MAX];
    int error = look(job, key, fs_index_key(key, FS_KEY_INODE, fs_index(ino)), out);
    return error == -ENODATA ? -ESTALE : error;
}

int fs_look_dir(struct fs_job *job)
{
    uint8_t key[FS_KEY_MAX] = {FS_KEY_SHARD};
    struct fs_span value;
    int error = look(job, key, 1, &value);
    int other = look_inode(job, FS_INDEX_DIR, &job->dir);
    if (error == FS_MISS || other == FS_MISS)
        return FS_MISS;
    if (error == -ENODATA || other == -ENODATA)
        return -ENOENT;
    if (!error && fs_shard_decode(value.data, value.len, &job->shard) != 0)
        return -EIO;
    return error ? error : other;
}

int fs_look_entry(struct fs_job *job, struct fs_bytes name, struct fs_entry *out)
{
    uint8_t key[FS_KEY_MAX];
    struct fs_span value;
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
    struct fs_span value;
    int error = look(job, key, fs_txid_key(key, FS_KEY_INTENT, tx), &value);
    if (error)
        return error;
    return fs_intent_decode(value.data, value.len, out) ? -EIO : 0;
}

int fs_look_mark(struct fs_job *job, struct fs_txid tx)
{
    uint8_t key[FS_KEY_MAX];
    struct fs_span value;
    return look(job, key, fs_txid_key(key, FS_KEY_MARK, tx), &value);
}

int fs_look_any(struct fs_job *job, enum fs_key kind, uint32_t from)
{
    uint8_t key[FS_KEY_MAX];
    struct fs_span found, value;
    size_t len = fs_index_key(key, kind, from);
    int error = fs_next(job->call, key, (uint16_t)(from > 0 ? len : 1), 1, &found, &value);
    if (error)
        return error;
    return found.data[0] == kind ? 0 : -ENODATA;
}

/* ---- Changing ---- */

static const void *keep(struct fs_job *job, const void *data, size_t len)
{
    void *memory = fs_alloc(job->call, len);
    if (memory)
        memcpy(memory, data, len);
    return memory;
}

/* What fs_alloc() could not give makes the run fail, whatever is returned here. */
static void put(struct fs_job *job, const uint8_t *key, size_t key_len, struct encoder *value)
{
    const void *kept = keep(job, key, key_len);
    const void *bytes = value->failed ? NULL : keep(job, value->data, value->len);
    if (value->failed)
        job->call->failed = -ENOMEM;
    else if (kept && bytes)
        fs_set(job->call, kept, (uint16_t)key_len, bytes, (uint32_t)value->len);
    encoder_fini(value);
}

void fs_remove_key(struct fs_job *job, const void *key, size_t len)
{
    uint8_t *kept = fs_alloc(job->call, len + 1);
    if (!kept)
        return;
    memcpy(kept, key, len);
    kept[len] = 0;
    fs_remove(job->call, kept, (uint16_t)len, kept, (uint16_t)(len + 1));
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

void fs_put_moving(struct fs_job *job, struct fs_bytes name, const struct fs_entry *entry)
{
    struct fs_entry moving = *entry;
    moving.moving = job->rq.tx;
    fs_put_entry(job, name, &moving);
}

void fs_remove_entry(struct fs_job *job, struct fs_bytes name)
{
    uint8_t key[FS_KEY_MAX] = {0};
    fs_remove_key(job, key, fs_entry_key(key, name.data, name.len));
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
        fs_remove_key(job, key, len);
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
    fs_remove_key(job, key, fs_txid_key(key, kind, tx));
}

void fs_remove_index(struct fs_job *job, enum fs_key kind, uint32_t index)
{
    uint8_t key[FS_KEY_MAX] = {0};
    fs_remove_key(job, key, fs_index_key(key, kind, index));
}

int fs_may_link(const struct fs_inode *inode)
{
    if (inode->links == 0 && !inode->nameless)
        return -ENOENT;
    return inode->links >= FS_LINKS_MAX ? -EMLINK : 0;
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
    job->answer.dir_change = job->dir.change;
    job->answer.dir_mtime_ns = job->now_ns;
    job->answer.dir_links = job->dir.links;
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

bool fs_is_elsewhere(const struct fs_victim *victim)
{
    return !victim->local && !fs_is_dir(victim->entry.ino);
}

void fs_drop_victim(struct fs_job *job, struct fs_victim *victim, struct fs_bytes name,
                    struct fs_bytes to)
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
        struct fs_intent intent = {.kind = FS_INTENT_DROP,
                                   .type = victim->entry.type,
                                   .ino = victim->entry.ino,
                                   .name = name,
                                   .to = to};
        fs_put_intent(job, job->rq.tx, &intent);
        job->answer.flags |= FS_DROPPED;
        job->answer.ino = victim->entry.ino;
    }
}
