/* Entries of a directory, and inodes that are born with them. */
#include "common/fs_method.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/posix_acl.h"

enum {
    PROBES_MAX = 64,          /* For a free number, once all have been used. */
    LIST_TOGETHER_MAX = 8192, /* Pairs that are loaded at a time: all of a page, usually. */
    LISTED_BYTES = 32,        /* A short entry of a listing; with its inode: */
    LISTED_PLUS_BYTES = 160,
    NUMBERS = 1 << FS_INDEX_BITS,
};

static const struct fs_bytes no_name = {NULL, 0};

static bool is_dir_type(uint8_t type)
{
    return type == S_IFDIR >> 12;
}

/* An entry that may be changed now: -ENODATA, -FS_MOVING. */
static int look_settled(struct fs_job *job, struct fs_bytes name, struct fs_entry *out)
{
    int error = fs_look_entry(job, name, out);
    return error ? error : out->moving.instance != 0 ? -FS_MOVING : 0;
}

/* The directory, and an entry of it, at once. -FS_SPLIT: it may be in another shard. */
static int look_both(struct fs_job *job, struct fs_bytes name, struct fs_entry *entry, int *found)
{
    int error = fs_look_dir(job);
    *found = look_settled(job, name, entry);
    if (error && error != FS_MISS)
        return error;
    if (error == FS_MISS || *found == FS_MISS)
        return FS_MISS;
    if (*found == -ENODATA && job->dir.parts != 0)
        return -FS_SPLIT;
    return *found == -ENODATA ? 0 : *found;
}

/* ---- Shards and numbers ---- */

/* The data: the default list of the parent, which is inherited. */
int fs_method_init(struct fs_method_call *call)
{
    struct fs_job job;
    int error = fs_begin(call, &job);
    if (error)
        return error;
    if (!S_ISDIR(job.rq.inode.mode) || !fs_is_dir(job.rq.ino) ||
        (job.data.len > 0 && posix_acl_check(job.data.data, job.data.len) != 0))
        return -EINVAL;
    error = fs_look_dir(&job);
    if (error != -ENOENT)
        return error ? error : -EEXIST;
    job.dir = job.rq.inode;
    job.dir.ino = job.rq.ino;
    job.dir.attributes = 0;
    job.dir.nameless = 0;
    job.dir.parts = 0;
    job.dir.relaid = 0;
    job.dir.links = 2;
    job.dir.atime_ns = job.dir.btime_ns = job.now_ns;
    job.shard = (struct fs_shard){.births = FS_INDEX_FIRST};
    fs_inherit(&job, job.data, job.rq.full_mode, &job.dir);
    fs_put_shard(&job);
    fs_put_dir(&job);
    return fs_end_with(&job, &job.dir);
}

/* The directory has parts from now on, `offset` is the home of the first one; it takes no new names
 * any more. -FS_CHANGED: it is going, or has some. */
int fs_method_split(struct fs_method_call *call)
{
    struct fs_job job;
    int error = fs_begin(call, &job);
    if (!error && (job.rq.offset == 0 || job.rq.offset >> FS_HOME_BITS != 0))
        error = -EINVAL;
    if (!error)
        error = fs_look_dir(&job);
    if (error)
        return error;
    if (job.dir.dying || job.dir.parts != 0 || job.dir.part != 0)
        return -FS_CHANGED;
    job.dir.parts = job.rq.offset;
    job.dir.change++;
    fs_put_inode(&job, FS_INDEX_DIR, &job.dir);
    return fs_end_with(&job, &job.dir);
}

/* Numbers of shards: `len` of them, from the answer's offset. */
int fs_method_reserve(struct fs_method_call *call)
{
    static const uint8_t key[] = "next";
    struct fs_job job;
    struct fs_span value;
    struct decoder d;
    uint64_t next = 1;
    int error = fs_begin(call, &job);
    if (error)
        return error;
    if (job.rq.len == 0 || job.rq.len > UINT32_MAX)
        return -EINVAL;
    error = fs_look(job.call, key, sizeof key - 1, &value);
    if (error && error != -ENODATA)
        return error;
    if (!error) {
        decoder_init(&d, value.data, value.len);
        next = decode_u64(&d);
        if (decoder_end(&d) != 0)
            return -EIO;
    }
    if (next + job.rq.len > UINT64_C(1) << FS_HOME_BITS)
        return -ENOSPC;
    uint64_t *after = fs_alloc(job.call, sizeof *after);
    if (!after)
        return -ENOMEM;
    *after = next + job.rq.len;
    fs_set(job.call, key, sizeof key - 1, after, sizeof *after);
    job.answer.offset = next;
    return fs_end(&job);
}

/* A number and a generation that no inode of this shard has had. */
static int new_number(struct fs_job *job, uint32_t *index, uint32_t *generation)
{
    for (int i = 0; i < PROBES_MAX; i++) {
        uint64_t birth = job->shard.births++;
        struct fs_inode other;
        *generation = (uint32_t)(birth / NUMBERS);
        *index = (uint32_t)(birth % NUMBERS);
        if (birth < NUMBERS)
            return 0;
        /* Each generation goes through all numbers, in another order, so that gaps are found. */
        *index = (uint32_t)(birth * 0x9e3779b1u % NUMBERS);
        if (*index < FS_INDEX_FIRST)
            continue;
        int error = fs_look_inode(job, fs_ino(job->home, *index), &other);
        if (error == -ESTALE)
            return 0;
        if (error)
            return error;
    }
    return -ENOSPC;
}

/* ---- Looking ---- */

static int answer_entry(struct fs_job *job, const struct fs_entry *entry)
{
    job->answer.ino = entry->ino;
    job->answer.type = entry->type;
    if (!fs_is_local(job, entry->ino))
        return 0;
    int error = fs_look_inode(job, entry->ino, &job->answer.inode);
    job->answer.flags |= FS_HAS_INODE;
    return error == -ESTALE ? -EIO : error;
}

int fs_method_lookup(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_entry entry;
    int error = fs_begin(call, &job);
    if (!error)
        error = look_settled(&job, job.rq.name, &entry);
    if (error == -ENODATA) {
        error = fs_look_dir(&job);
        return error ? error : job.dir.parts != 0 ? -FS_SPLIT : -ENOENT;
    }
    if (error)
        return error;
    error = answer_entry(&job, &entry);
    return error ? error : fs_end(&job);
}

static int list_name(const struct fs_listed *listed, struct encoder *out)
{
    fs_listed_encode(out, listed);
    return 0;
}

/* As the record stands; but listings do not tell where links lead. */
static int list_inode(struct fs_job *job, struct fs_listed *listed, struct encoder *out)
{
    struct fs_span record;
    if (listed->type != S_IFLNK >> 12) {
        int error = fs_look_inode_record(job, listed->ino, &record);
        if (error == -ESTALE)
            return list_name(listed, out);
        if (!error)
            fs_listed_encode_record(out, listed, record.data, record.len);
        return error;
    }
    int error = fs_look_inode(job, listed->ino, &listed->inode);
    if (error && error != -ESTALE)
        return error;
    listed->has_inode = !error;
    listed->inode.target = (struct fs_bytes){NULL, 0};
    return list_name(listed, out);
}

static int list_entry(struct fs_job *job, struct fs_span key, struct fs_span value,
                      struct encoder *out)
{
    struct fs_entry entry;
    struct fs_listed listed = {0};
    if (key.len < 10 || fs_entry_decode(value.data, value.len, &entry) != 0)
        return -EIO;
    for (int i = 1; i < 9; i++)
        listed.cookie = listed.cookie << 8 | key.data[i];
    if (job->dir.part != 0)
        listed.cookie |= FS_COOKIE_PARTS;
    listed.name = (struct fs_bytes){key.data + 9, (uint16_t)(key.len - 9)};
    listed.ino = entry.ino;
    listed.type = entry.type;
    bool plus = job->rq.flags & FS_PLUS && fs_is_local(job, entry.ino);
    return plus ? list_inode(job, &listed, out) : list_name(&listed, out);
}

/* Entries after the cookie `offset`, about `len` bytes of them; those that share a cookie are not
 * parted. */
int fs_method_list(struct fs_method_call *call)
{
    struct fs_job job;
    uint8_t from[FS_KEY_MAX + 1];
    struct encoder *out = &call->output;
    int error = fs_begin(call, &job);
    if (!error)
        error = fs_look_dir(&job);
    if (error)
        return error;
    uint64_t max = job.rq.len < FS_PAGE_BYTES_MAX ? job.rq.len : FS_PAGE_BYTES_MAX;
    uint64_t after = job.rq.offset & (FS_COOKIE_PARTS - 1);
    uint64_t together = max / (job.rq.flags & FS_PLUS ? LISTED_PLUS_BYTES : LISTED_BYTES) + 1;
    uint32_t load = together < LIST_TOGETHER_MAX ? (uint32_t)together : LIST_TOGETHER_MAX;
    struct fs_span key = {from, (uint32_t)fs_cookie_key(from, after + 1)}, value;
    uint8_t last[9] = {0};
    int nameless = after < FS_COOKIE_FIRST ? fs_look_any(&job, FS_KEY_ORPHAN, 0) : -ENODATA;
    bool missed = nameless == FS_MISS, more = false;
    fs_list_head_put(out, (struct fs_list_head){0});
    for (;;) {
        error = fs_next(job.call, key.data, (uint16_t)key.len, load, &key, &value);
        if (error || key.data[0] != FS_KEY_ENTRY || key.len < sizeof last || key.len >= sizeof from)
            break;
        more = out->len >= max && memcmp(key.data, last, sizeof last) != 0;
        if (more)
            break;
        memcpy(last, key.data, sizeof last);
        error = list_entry(&job, key, value, out);
        missed |= error == FS_MISS;
        if (error && error != FS_MISS)
            return error;
        if (error == FS_MISS) /* As large as it will be. */
            (void)encode_reserve(out, 256);
        memmove(from, key.data, key.len);
        from[key.len] = 0;
        key = fs_span_of(from, key.len + 1);
    }
    if (missed || (error && error != -ENODATA))
        return missed ? FS_MISS : error;
    if (!out->failed)
        fs_list_head_put(out, (struct fs_list_head){(more ? FS_LIST_MORE : 0) |
                                                        (nameless == 0 ? FS_LIST_NAMELESS : 0),
                                                    job.dir.parts});
    return 0;
}

/* ---- Making ---- */

static bool can_be_created(const struct fs_inode *inode)
{
    switch (inode->mode & S_IFMT) {
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
    case S_IFCHR:
    case S_IFBLK:
        return true;
    case S_IFLNK:
        return inode->target.len > 0;
    default:
        return false; /* Directories have shards: init. */
    }
}

static void born(struct fs_job *job, struct fs_inode *inode, uint32_t index, uint32_t generation)
{
    *inode = job->rq.inode;
    inode->ino = fs_ino(job->home, index);
    inode->generation = generation;
    inode->nameless = job->rq.flags & FS_UNNAMED ? 1 : 0;
    inode->links = 1u - inode->nameless;
    inode->parent = inode->parts = 0;
    inode->relaid = 0;
    if (job->dir.part == 0)
        inode->layout = job->dir.layout;
    inode->dying = inode->part = 0;
    inode->attributes = 0;
    inode->busy = (struct fs_txid){0, 0};
    inode->n_ranges = S_ISREG(inode->mode) && job->rq.flags & FS_WRITES ? 1 : 0;
    inode->ranges[0] = (struct fs_range){0, 0};
    inode->size = S_ISLNK(inode->mode) ? inode->target.len : 0;
    inode->atime_ns = inode->mtime_ns = inode->ctime_ns = inode->btime_ns = job->now_ns;
    inode->change = 1;
    if (job->dir.mode & S_ISGID)
        inode->gid = job->dir.gid;
}

/* A part does not know what its directory lets inherit (nor its layout): who makes something there
 * does. */
static int look_inherited(struct fs_job *job, struct fs_span *out)
{
    *out = job->data;
    if (job->dir.part == 0)
        return fs_look_default(job, out);
    return out->len > 0 && posix_acl_check(out->data, out->len) != 0 ? -EINVAL : 0;
}

int fs_method_create(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_entry entry;
    struct fs_inode inode;
    struct fs_span list;
    uint32_t index, generation;
    int found = 0, error = fs_begin(call, &job);
    if (error)
        return error;
    bool named = !(job.rq.flags & FS_UNNAMED);
    if (job.rq.inode.layout.order == 0 || !can_be_created(&job.rq.inode) ||
        named != (job.rq.name.len > 0))
        return -EINVAL;
    error = named ? look_both(&job, job.rq.name, &entry, &found) : fs_look_dir(&job);
    if (!error)
        error = look_inherited(&job, &list);
    if (error)
        return error;
    if (job.dir.dying)
        return -ENOENT;
    if (named && found == 0) {
        if (job.rq.flags & FS_EXCLUSIVE)
            return -EEXIST;
        job.answer.flags = FS_EXISTED;
        error = answer_entry(&job, &entry);
        return error ? error : fs_end(&job);
    }
    error = new_number(&job, &index, &generation);
    if (error)
        return error;
    born(&job, &inode, index, generation);
    fs_inherit(&job, list, job.rq.full_mode, &inode);
    entry = (struct fs_entry){.ino = inode.ino, .type = (uint8_t)(inode.mode >> 12 & 15)};
    fs_put_shard(&job);
    fs_put_inode(&job, index, &inode);
    if (named) {
        fs_put_entry(&job, job.rq.name, &entry);
        fs_put_dir(&job);
    } else {
        fs_put_key(&job, FS_KEY_ORPHAN, index);
    }
    job.answer.ino = inode.ino;
    job.answer.type = entry.type;
    job.answer.flags = FS_HAS_INODE;
    job.answer.inode = inode;
    return fs_end(&job);
}

/* ---- Replacing ---- */

/* Whether an entry of type `type` may stand where `old` stands; expect: what that must be. */
static int may_replace(uint8_t type, const struct fs_entry *old, uint64_t expect)
{
    if (is_dir_type(type) && !is_dir_type(old->type))
        return -ENOTDIR;
    if (!is_dir_type(type) && is_dir_type(old->type))
        return -EISDIR;
    /* A directory must have been emptied for good by whoever replaces it. */
    if (expect != 0 || is_dir_type(old->type))
        return old->ino == expect ? 0 : -FS_CHANGED;
    return 0;
}

static int count_dir(struct fs_job *job, uint8_t type, int more)
{
    if (!is_dir_type(type))
        return 0;
    if (more > 0 && job->dir.links >= FS_LINKS_MAX)
        return -EMLINK;
    if (more > 0 || job->dir.links > 2)
        job->dir.links = (uint32_t)((int)job->dir.links + more);
    return 0;
}

/* The entry `name` becomes what the request's intent says. */
static int enter_swapped(struct fs_job *job, const struct fs_entry *old, int found)
{
    if (found || old->ino != job->rq.expect)
        return found ? -ENOENT : -FS_CHANGED;
    int error = count_dir(job, old->type, -1);
    return error ? error : count_dir(job, job->rq.intent.type, 1);
}

static int enter_replacing(struct fs_job *job, const struct fs_entry *old, int found,
                           struct fs_victim *victim)
{
    int error = 0;
    if (found && job->rq.expect != 0)
        return -FS_CHANGED;
    if (!found && job->rq.flags & FS_NO_REPLACE)
        return -EEXIST;
    /* A link to what moves here was made meanwhile: then nothing is to be moved. */
    if (!found && old->ino == job->rq.intent.ino)
        return -FS_CHANGED;
    if (!found)
        error = may_replace(job->rq.intent.type, old, job->rq.expect);
    if (!error && !found)
        error = fs_look_victim(job, old, victim);
    return error ? error : count_dir(job, job->rq.intent.type, 1);
}

static int look_counted(struct fs_job *job, struct fs_inode *inode)
{
    if (!(job->rq.flags & FS_COUNT))
        return 0;
    int error = fs_look_inode(job, job->rq.intent.ino, inode);
    if (error)
        return error;
    return fs_may_link(inode);
}

int fs_method_enter(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_entry old;
    struct fs_victim victim;
    struct fs_inode inode = {0};
    int found = 0, error = fs_begin(call, &job);
    if (error)
        return error;
    const struct fs_intent *intent = &job.rq.intent;
    if (intent->kind == 0 || job.rq.name.len == 0)
        return -EINVAL;
    bool marked = job.rq.tx.instance != 0, swap = job.rq.flags & FS_SWAP;
    error = marked ? fs_look_mark(&job, job.rq.tx) : -ENODATA;
    if (error != -ENODATA) {
        job.answer.flags = FS_EXISTED; /* It was done before. */
        return error ? error : fs_end(&job);
    }
    error = look_both(&job, job.rq.name, &old, &found);
    if (error)
        return error;
    if (job.dir.dying)
        return -ENOENT;
    error = look_counted(&job, &inode);
    if (!error)
        error =
            swap ? enter_swapped(&job, &old, found) : enter_replacing(&job, &old, found, &victim);
    if (error)
        return error;
    struct fs_entry entry = {.ino = intent->ino, .type = intent->type};
    bool replaces = !swap && !found;
    if (replaces && fs_is_elsewhere(&victim))
        fs_put_moving(&job, job.rq.name, &entry);
    else
        fs_put_entry(&job, job.rq.name, &entry);
    if (replaces)
        fs_drop_victim(&job, &victim, job.rq.name, no_name);
    if (job.rq.flags & FS_COUNT) {
        if (inode.links++ == 0)
            fs_remove_index(&job, FS_KEY_ORPHAN, fs_index(inode.ino));
        inode.nameless = 0;
        fs_touch(&job, &inode);
        fs_put_inode(&job, fs_index(inode.ino), &inode);
        job.answer.flags |= FS_HAS_INODE;
        job.answer.inode = inode;
    }
    if (marked)
        fs_put_mark(&job, job.rq.tx);
    fs_put_dir(&job);
    return fs_end(&job);
}

/* ---- Removing and renaming ---- */

int fs_method_unlink(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_entry entry;
    struct fs_victim victim;
    int found = 0, error = fs_begin(call, &job);
    if (!error)
        error = look_both(&job, job.rq.name, &entry, &found);
    if (error || found)
        return error ? error : -ENOENT;
    bool dir = job.rq.flags & FS_DIRECTORY_IS;
    if (dir != is_dir_type(entry.type))
        return dir ? -ENOTDIR : -EISDIR;
    if ((dir || job.rq.expect != 0) && entry.ino != job.rq.expect)
        return -FS_CHANGED;
    error = fs_look_victim(&job, &entry, &victim);
    if (error)
        return error;
    /* What is left is less than what was there: a full cluster does not stop it. */
    bool grows = job.call->grows;
    bool elsewhere = fs_is_elsewhere(&victim);
    if (elsewhere)
        fs_put_moving(&job, job.rq.name, &entry);
    else
        fs_remove_entry(&job, job.rq.name);
    fs_drop_victim(&job, &victim, job.rq.name, no_name);
    if (!elsewhere)
        fs_put_dir(&job);
    job.call->grows = grows;
    return fs_end(&job);
}

static void put_touched(struct fs_job *job, struct fs_inode *inode, int error)
{
    if (error)
        return;
    fs_touch(job, inode);
    fs_put_inode(job, fs_index(inode->ino), inode);
}

static int look_local(struct fs_job *job, uint64_t ino, struct fs_inode *out)
{
    return fs_is_local(job, ino) ? fs_look_inode(job, ino, out) : -ENODATA;
}

static int rename_swap(struct fs_job *job, const struct fs_entry *a, const struct fs_entry *b)
{
    struct fs_inode first, second;
    int error = look_local(job, a->ino, &first), other = look_local(job, b->ino, &second);
    if (error == FS_MISS || other == FS_MISS)
        return FS_MISS;
    if (a->ino == b->ino)
        return fs_end(job);
    fs_put_entry(job, job->rq.name, b);
    fs_put_entry(job, job->rq.to, a);
    put_touched(job, &first, error);
    put_touched(job, &second, other);
    fs_put_dir(job);
    return fs_end(job);
}

static int rename_over(struct fs_job *job, const struct fs_entry *a, const struct fs_entry *b,
                       bool replaces)
{
    struct fs_victim victim;
    struct fs_inode inode;
    int error = 0;
    if (!replaces && job->rq.expect_to != 0)
        return -FS_CHANGED;
    if (replaces && job->rq.flags & FS_NO_REPLACE)
        return -EEXIST;
    if (replaces && a->ino == b->ino)
        return fs_end(job); /* Two links to one file: nothing happens. */
    if (replaces)
        error = may_replace(a->type, b, job->rq.expect_to);
    if (!error && replaces)
        error = fs_look_victim(job, b, &victim);
    if (error)
        return error;
    error = look_local(job, a->ino, &inode);
    if (error && error != -ENODATA)
        return error;
    if (replaces && fs_is_elsewhere(&victim)) {
        fs_put_moving(job, job->rq.name, a);
        fs_put_moving(job, job->rq.to, b);
        fs_drop_victim(job, &victim, job->rq.to, job->rq.name);
        return fs_end(job);
    }
    fs_remove_entry(job, job->rq.name);
    fs_put_entry(job, job->rq.to, a);
    put_touched(job, &inode, error);
    if (replaces)
        fs_drop_victim(job, &victim, job->rq.to, no_name);
    fs_put_dir(job);
    return fs_end(job);
}

int fs_method_rename(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_entry a, b;
    int found, other, error = fs_begin(call, &job);
    if (error)
        return error;
    error = look_both(&job, job.rq.name, &a, &found);
    other = look_settled(&job, job.rq.to, &b);
    if (error == FS_MISS || other == FS_MISS)
        return FS_MISS;
    if (error || found)
        return error ? error : -ENOENT;
    if (other && other != -ENODATA)
        return other;
    if (job.rq.expect != 0 && a.ino != job.rq.expect)
        return -FS_CHANGED;
    if (fs_bytes_equal(job.rq.name, job.rq.to))
        return job.rq.flags & FS_NO_REPLACE ? -EEXIST : fs_end(&job);
    job.answer.ino = a.ino;
    job.answer.type = a.type;
    if (job.rq.flags & FS_SWAP)
        return other ? -ENOENT : rename_swap(&job, &a, &b);
    return rename_over(&job, &a, &b, other == 0);
}
