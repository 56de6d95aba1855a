/*
 * limpet fs mount: the kernel's requests. One thread takes them, or one of each processor
 * (fs_ring.c), and makes each a request of the file system; what has ended is answered by the
 * thread that ended it. So there are as many under way as the kernel has, and none of them waits
 * for another. Listings are in fs_list.c.
 *
 * Without leases nothing may be kept by the kernel without asking: entries and attributes are good
 * for no time at all, and pages as long as size and time of change stay what they were. What the
 * file system says may be kept is kept for good, and dropped when it says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>

#include "client/cli/fs_fuse.h"
#include "client/cli/fuse_uring.h"
#include "common/posix_acl.h"

enum {
    REQUESTS_MAX = 256, /* Of the kernel, in the background. */
    BLOCK = 4096,
    WRITE_MAX = 1 << 20,
    READ_AHEAD_KIB = 4096,
    RECEIVE_BYTES =
        WRITE_MAX + BLOCK,     /* The largest request: libfuse counts a page for its head. */
    HAND_OVER_MIN = 256 << 10, /* Smaller contents are copied out of what was received. */
    MADE_MAX = 64,             /* Callers whose files were just made. */
    MADE_MS = 20,              /* The kernel asks at once, or not at all. */
};

/* Of the kernel's interface, newer than libfuse. */
enum {
    NOTIFY_INC_EPOCH = 8, /* All names are to be asked for again; from minor version 44 on. */
    NOTIFY_INC_EPOCH_MINOR = 44,
    SETXATTR_EXT_MINOR = 33,
    INIT_EXT_FLAG = 1 << 30,
    INIT_DIRECT_IO_ALLOW_MMAP = 1 << (36 - 32), /* In the second word of flags, */
    INIT_FLAGS2_AT = 16,                        /* which is here in what INIT asks. */
};

/*
 * A file that was just made by open(2), whose attributes the kernel may not keep: it asks for them
 * at once, still in the same call, to see whether the caller may open it. That first question of
 * this thread is answered by what was told of the file when it was made.
 */
struct just_made {
    pid_t caller; /* 0: none. */
    fuse_ino_t ino;
    int64_t when_ns;
    struct stat attr;
};

struct mount {
    pthread_mutex_t making; /* Of: */
    struct just_made made[MADE_MAX];
    _Atomic(struct limpet_fs *) fs;
    uint64_t id;             /* Of the file system, whichever client works on it. */
    pthread_rwlock_t taking; /* While a request is taken, `fs` stays what it is. */
    struct fs_recovery *recovery;
    struct fuse_session *session;
    struct limpet_buffer *incoming; /* Where a request is received. */
    bool keeps_names, may_keep_names;
    unsigned max_read;         /* Of the options; 0: as the kernel wants. */
    bool tells_more_of_xattrs; /* FUSE_SETXATTR_EXT */
    bool answered_init;
    const char *path;
    bool follows, rings; /* As of fs_fuse_serve(). */
    bool ring_offered;   /* By the kernel. */
    struct fs_ring *ring;
};

/* A process serves one. */
static struct mount the_mount = {.taking = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP,
                                 .making = PTHREAD_MUTEX_INITIALIZER};

/* The request that this thread takes has come by io_uring. */
static _Thread_local bool takes_of_ring;

/* Of files without names, in the kernel's requests. */
#define NO_NAME "/"

/* Among the flags of setxattr(2). */
enum { SETXATTR_KILL_GROUP = 1 << 30 };

/* libfuse has no argument for its own messages. */
static char fuse_message[256];

struct request {
    fuse_req_t fuse;
    size_t size; /* Of an answer; of a list of attributes: what the caller has room for. */
    off_t offset;
    fuse_ino_t ino;
    uint64_t began; /* As fs_mapped_now() had it. */
    struct fuse_file_info info;
    /* Of one that waits for a lock: who may still want this memory. */
    _Atomic int holds;
    _Atomic bool interrupted;
    char name[]; /* Of a file that is made. */
};

static struct mount *mount_of(fuse_req_t fuse)
{
    return fuse_req_userdata(fuse);
}

struct limpet_fs *fs_fuse_fs(fuse_req_t fuse)
{
    return mount_of(fuse)->fs;
}

static struct request *request_with_name(fuse_req_t fuse, fuse_ino_t ino, const char *name)
{
    size_t size = strlen(name) + 1;
    struct request *r = calloc(1, sizeof *r + size);
    if (r == NULL) {
        fuse_reply_err(fuse, ENOMEM);
        return NULL;
    }
    r->fuse = fuse;
    r->ino = ino;
    r->began = fs_mapped_now();
    memcpy(r->name, name, size);
    return r;
}

static struct request *request_create(fuse_req_t fuse, fuse_ino_t ino)
{
    return request_with_name(fuse, ino, "");
}

static void submit(fuse_req_t fuse, struct limpet_fs_request *rq, limpet_fs_callback done)
{
    struct request *r = request_create(fuse, rq->ino);
    if (r == NULL)
        return;
    r->size = rq->len;
    r->offset = (off_t)rq->offset;
    limpet_fs_submit(fs_fuse_fs(fuse), rq, done, r);
}

bool fs_fuse_keeps_names(void)
{
    return the_mount.keeps_names;
}

int fs_fuse_error(ssize_t rc)
{
    return rc < 0 && rc > -512 && rc != -ESHUTDOWN ? (int)-rc : EIO;
}

/* ---- Answers ---- */

static struct timespec time_of(int64_t ns)
{
    int64_t seconds = ns / 1000000000, rest = ns % 1000000000;
    if (rest < 0) {
        rest += 1000000000;
        seconds--;
    }
    return (struct timespec){.tv_sec = seconds, .tv_nsec = rest};
}

static void stat_of(const struct limpet_fs_attr *attr, struct stat *st)
{
    memset(st, 0, sizeof *st);
    st->st_ino = attr->ino;
    st->st_mode = attr->mode;
    st->st_nlink = attr->links;
    st->st_uid = attr->uid;
    st->st_gid = attr->gid;
    st->st_rdev = attr->rdev;
    st->st_size = (off_t)attr->size;
    st->st_blocks = (blkcnt_t)attr->blocks;
    st->st_blksize = BLOCK;
    st->st_atim = time_of(attr->atime_ns);
    st->st_mtim = time_of(attr->mtime_ns);
    st->st_ctim = time_of(attr->ctime_ns);
}

/* Seconds for which the kernel may keep the attributes. */
static double attr_time(const struct limpet_fs_result *result)
{
    return !result->keep_attr ? 0 : result->brief ? 1 : FS_KEEP_SECONDS;
}

static uint32_t first_generation(void)
{
    return (uint32_t)(the_mount.id ^ the_mount.id >> 32);
}

void fs_fuse_entry(const struct limpet_fs_attr *attr, bool keep_name, double keep_attr,
                   struct fuse_entry_param *entry)
{
    memset(entry, 0, sizeof *entry);
    entry->ino = attr->ino;
    /* A handle of another file system, which had this name and these numbers, finds nothing here.
     */
    if (attr->ino != LIMPET_FS_ROOT)
        entry->generation = first_generation() + attr->generation;
    entry->entry_timeout = keep_name ? FS_KEEP_SECONDS : 0;
    entry->attr_timeout = keep_attr;
    stat_of(attr, &entry->attr);
}

static void ended(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    (void)result;
    fuse_reply_err(r->fuse, rc < 0 ? fs_fuse_error(rc) : 0);
    free(r);
}

static void got_entry(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    struct fuse_entry_param entry;
    bool keep_name = result->keep_name && mount_of(r->fuse)->keeps_names;
    if (rc < 0 && !(rc == -ENOENT && keep_name)) {
        ended(rc, result, r);
        return;
    }
    /* Number 0: there is no such name. */
    fs_fuse_entry(&result->attr, keep_name, attr_time(result), &entry);
    if (rc < 0)
        entry.ino = 0;
    if (rc == 0)
        fs_dirs_tell(&result->attr);
    if (fuse_reply_entry(r->fuse, &entry) != 0 && rc == 0)
        fs_dirs_forget(result->attr.ino, 1);
    free(r);
}

static void got_attr(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    struct stat st;
    struct limpet_fs_attr attr = result->attr;
    bool removed = rc == -ESTALE && fs_dirs_removed(r->ino, &attr);
    if (rc < 0 && !removed) {
        ended(rc, result, r);
        return;
    }
    if (!removed)
        fs_dirs_see(&attr);
    if (!removed && attr_time(result) > 0)
        fs_refresh_asked(attr.ino);
    stat_of(&attr, &st);
    fuse_reply_attr(r->fuse, &st, removed ? 0 : attr_time(result));
    free(r);
}

static void got_target(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    char *target = rc < 0 ? NULL : strndup(result->data != NULL ? result->data : "", result->len);
    if (target == NULL) {
        ended(rc < 0 ? rc : -ENOMEM, result, r);
        return;
    }
    fuse_reply_readlink(r->fuse, target);
    free(target);
    free(r);
}

static void got_data(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    if (rc < 0) {
        ended(rc, result, r);
        return;
    }
    fuse_reply_buf(r->fuse, result->data, (size_t)rc);
    free(r);
}

/* Whole pages may be for the kernel's memory, from where programs map them. */
static void got_contents(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    const struct request *r = arg;
    fuse_ino_t ino = r->ino;
    uint64_t began = r->began;
    bool loose = rc > 0 && !result->keep_attr && r->size % BLOCK == 0 && r->offset % BLOCK == 0;
    got_data(rc, result, arg);
    if (loose)
        fs_mapped_read(ino, began);
}

static void written(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    if (rc < 0) {
        ended(rc, result, r);
        return;
    }
    fs_refresh_wrote(r->ino);
    fuse_reply_write(r->fuse, (size_t)rc);
    free(r);
}

/*
 * Who writes does so without the kernel's pages: a write that waits for another mount's lease must
 * not have pages locked that this mount has to drop.
 */
static void prepare_open(struct fuse_file_info *info, const struct limpet_fs_result *result)
{
    bool reader = (info->flags & O_ACCMODE) == O_RDONLY;
    info->fh = reader ? LIMPET_FS_READER : 0;
    info->direct_io = !reader;
    info->keep_cache = result->keep_attr;
}

static void opened(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    if (rc < 0) {
        ended(rc, result, r);
        return;
    }
    prepare_open(&r->info, result);
    fuse_reply_open(r->fuse, &r->info);
    free(r);
}

/* ---- Files that were just made ---- */

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* With the lock. */
static struct just_made *made_of(struct mount *mount, pid_t caller)
{
    return &mount->made[(unsigned)caller % MADE_MAX];
}

/* Before the kernel is told of it. */
static void note_made(fuse_req_t fuse, const struct limpet_fs_attr *attr)
{
    struct mount *mount = mount_of(fuse);
    pid_t caller = fuse_req_ctx(fuse)->pid;
    if (caller == 0)
        return; /* Nobody that has a number here. */
    pthread_mutex_lock(&mount->making);
    struct just_made *made = made_of(mount, caller);
    made->caller = caller;
    made->ino = attr->ino;
    made->when_ns = clock_ns();
    stat_of(attr, &made->attr);
    pthread_mutex_unlock(&mount->making);
}

/* A request has come: whatever else than that question this caller may ask comes too late for it.
 */
static void check_made(struct mount *mount, const struct fuse_buf *buffer)
{
    struct fuse_in_header header;
    memcpy(&header, buffer->mem, sizeof header);
    pthread_mutex_lock(&mount->making);
    struct just_made *made = made_of(mount, (pid_t)header.pid);
    if (made->caller == (pid_t)header.pid &&
        (header.opcode != FUSE_GETATTR || header.nodeid != made->ino ||
         clock_ns() - made->when_ns > MADE_MS * INT64_C(1000000)))
        made->caller = 0;
    pthread_mutex_unlock(&mount->making);
}

static bool take_made(fuse_req_t fuse, fuse_ino_t ino, struct stat *out)
{
    struct mount *mount = mount_of(fuse);
    pid_t caller = fuse_req_ctx(fuse)->pid;
    pthread_mutex_lock(&mount->making);
    struct just_made *made = made_of(mount, caller);
    bool taken = caller != 0 && made->caller == caller && made->ino == ino;
    if (taken) {
        *out = made->attr;
        made->caller = 0;
    }
    pthread_mutex_unlock(&mount->making);
    return taken;
}

static void made(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    struct fuse_entry_param entry;
    if (rc < 0) {
        ended(rc, result, r);
        return;
    }
    fs_fuse_entry(&result->attr, result->keep_name && mount_of(r->fuse)->keeps_names,
                  attr_time(result), &entry);
    prepare_open(&r->info, result);
    if (attr_time(result) == 0 && !result->existed)
        note_made(r->fuse, &result->attr);
    if (attr_time(result) > 0 && entry.entry_timeout > 0)
        fs_refresh_made(r->ino, r->name, result->attr.ino);
    fuse_reply_create(r->fuse, &entry, &r->info);
    free(r);
}

static void sought(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    if (rc < 0) {
        ended(rc, result, r);
        return;
    }
    fuse_reply_lseek(r->fuse, (off_t)result->offset);
    free(r);
}

/* size 0: how long it is. */
static void reply_xattr(const struct request *r, const void *data, size_t len)
{
    if (r->size == 0)
        fuse_reply_xattr(r->fuse, len);
    else if (len > r->size)
        fuse_reply_err(r->fuse, ERANGE);
    else
        fuse_reply_buf(r->fuse, data, len);
}

static void got_xattr(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    if (rc < 0)
        fuse_reply_err(r->fuse, fs_fuse_error(rc));
    else
        reply_xattr(r, result->data, (size_t)rc);
    free(r);
}

/* Those that xattr(7) hides from all but privileged processes are left out; returns the rest's
 * length. */
static size_t without_trusted(const char *names, size_t len, char *out)
{
    size_t kept = 0;
    for (size_t at = 0, size; at < len; at += size) {
        size = strnlen(names + at, len - at - 1) + 1;
        if (strncmp(names + at, "trusted.", 8) == 0)
            continue;
        memcpy(out + kept, names + at, size);
        kept += size;
    }
    return kept;
}

static void got_xattr_names(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    if (rc <= 0 || fuse_req_ctx(r->fuse)->uid == 0) {
        got_xattr(rc, result, arg);
        return;
    }
    char *names = malloc((size_t)rc);
    if (names != NULL)
        reply_xattr(r, names, without_trusted(result->data, (size_t)rc, names));
    else
        fuse_reply_err(r->fuse, ENOMEM);
    free(names);
    free(r);
}

/* ---- Names ---- */

static void do_lookup(fuse_req_t fuse, fuse_ino_t parent, const char *name)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_LOOKUP, .ino = parent, .name = name};
    submit(fuse, &rq, got_entry);
}

static void drop_told(void *arg, const uint64_t *inos, size_t n);

static void forget(struct mount *mount, fuse_ino_t ino, uint64_t times)
{
    if (fs_listed_end(ino, drop_told, mount))
        return;
    fs_dirs_forget(ino, times);
    fs_refresh_forget(ino);
}

static void do_forget(fuse_req_t fuse, fuse_ino_t ino, uint64_t times)
{
    forget(mount_of(fuse), ino, times);
    fuse_reply_none(fuse);
}

static void do_forget_multi(fuse_req_t fuse, size_t n, struct fuse_forget_data *forgotten)
{
    for (size_t i = 0; i < n; i++)
        forget(mount_of(fuse), forgotten[i].ino, forgotten[i].nlookup);
    fuse_reply_none(fuse);
}

static struct limpet_fs_request create_request(fuse_req_t fuse, fuse_ino_t parent, const char *name,
                                               mode_t mode)
{
    const struct fuse_ctx *context = fuse_req_ctx(fuse);
    return (struct limpet_fs_request){
        .verb = LIMPET_FS_CREATE,
        .ino = parent,
        .name = name,
        .flags = LIMPET_FS_EXCLUSIVE,
        .full_mode = mode,
        .attr = {.mode = mode & ~context->umask, .uid = context->uid, .gid = context->gid}};
}

static void do_mknod(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    struct limpet_fs_request rq = create_request(fuse, parent, name, mode);
    rq.attr.rdev = (uint32_t)rdev;
    submit(fuse, &rq, got_entry);
}

static void do_mkdir(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct limpet_fs_request rq = create_request(fuse, parent, name, S_IFDIR | mode);
    submit(fuse, &rq, got_entry);
}

static void do_symlink(fuse_req_t fuse, const char *target, fuse_ino_t parent, const char *name)
{
    struct limpet_fs_request rq = create_request(fuse, parent, name, S_IFLNK | 0777);
    rq.data = target;
    rq.len = strlen(target);
    submit(fuse, &rq, got_entry);
}

static void do_create(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *info)
{
    struct limpet_fs_request rq = create_request(fuse, parent, name, S_IFREG | (mode & 07777));
    struct request *r = request_with_name(fuse, parent, name);
    if (r == NULL)
        return;
    rq.flags = LIMPET_FS_OPENED | (info->flags & O_EXCL ? LIMPET_FS_EXCLUSIVE : 0);
    if (strcmp(name, NO_NAME) == 0) {
        rq.name = NULL;
        rq.flags = LIMPET_FS_OPENED | LIMPET_FS_NAMELESS;
    }
    r->info = *info;
    limpet_fs_submit(fs_fuse_fs(fuse), &rq, made, r);
}

static void do_unlink(fuse_req_t fuse, fuse_ino_t parent, const char *name)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_UNLINK, .ino = parent, .name = name};
    submit(fuse, &rq, ended);
}

static void do_rmdir(fuse_req_t fuse, fuse_ino_t parent, const char *name)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_RMDIR, .ino = parent, .name = name};
    submit(fuse, &rq, ended);
}

static void do_rename(fuse_req_t fuse, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
                      const char *to_name, unsigned flags)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_RENAME,
                                   .ino = parent,
                                   .name = name,
                                   .to_ino = to_parent,
                                   .to_name = to_name,
                                   .flags = flags};
    submit(fuse, &rq, ended);
}

static void do_link(fuse_req_t fuse, fuse_ino_t ino, fuse_ino_t to_parent, const char *to_name)
{
    struct limpet_fs_request rq = {
        .verb = LIMPET_FS_LINK, .ino = ino, .to_ino = to_parent, .to_name = to_name};
    submit(fuse, &rq, got_entry);
}

/* ---- Attributes ---- */

static void do_getattr(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info)
{
    (void)info;
    struct limpet_fs_request rq = {.verb = LIMPET_FS_GETATTR, .ino = ino};
    struct stat made;
    if (take_made(fuse, ino, &made))
        fuse_reply_attr(fuse, &made, 0);
    else
        submit(fuse, &rq, got_attr);
}

static void do_readlink(fuse_req_t fuse, fuse_ino_t ino)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_GETATTR, .ino = ino};
    submit(fuse, &rq, got_target);
}

static int64_t ns_of(struct timespec time)
{
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void do_setattr(fuse_req_t fuse, fuse_ino_t ino, struct stat *st, int to_set,
                       struct fuse_file_info *info)
{
    static const struct {
        int fuse;
        unsigned set;
    } sets[] = {
        {FUSE_SET_ATTR_MODE, LIMPET_FS_SET_MODE},
        {FUSE_SET_ATTR_UID, LIMPET_FS_SET_UID},
        {FUSE_SET_ATTR_GID, LIMPET_FS_SET_GID},
        {FUSE_SET_ATTR_SIZE, LIMPET_FS_SET_SIZE},
        {FUSE_SET_ATTR_ATIME, LIMPET_FS_SET_ATIME},
        {FUSE_SET_ATTR_MTIME, LIMPET_FS_SET_MTIME},
        {FUSE_SET_ATTR_ATIME_NOW, LIMPET_FS_SET_ATIME_NOW},
        {FUSE_SET_ATTR_MTIME_NOW, LIMPET_FS_SET_MTIME_NOW},
        {FUSE_SET_ATTR_CTIME, LIMPET_FS_SET_CTIME},
    };
    (void)info;
    struct limpet_fs_request rq = {.verb = LIMPET_FS_SETATTR,
                                   .ino = ino,
                                   .attr = {.mode = st->st_mode,
                                            .uid = st->st_uid,
                                            .gid = st->st_gid,
                                            .size = (uint64_t)st->st_size,
                                            .atime_ns = ns_of(st->st_atim),
                                            .mtime_ns = ns_of(st->st_mtim)}};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        rq.set |= to_set & sets[i].fuse ? sets[i].set : 0;
    submit(fuse, &rq, got_attr);
}

static void do_statfs(fuse_req_t fuse, fuse_ino_t ino)
{
    struct limpet_fs_space space;
    (void)ino;
    int rc = limpet_fs_space(fs_fuse_fs(fuse), &space);
    if (rc != 0) {
        fuse_reply_err(fuse, fs_fuse_error(rc));
        return;
    }
    struct statvfs st = {.f_bsize = BLOCK,
                         .f_frsize = BLOCK,
                         .f_blocks = space.bytes / BLOCK,
                         .f_bfree = space.bytes_free / BLOCK,
                         .f_bavail = space.bytes_free / BLOCK,
                         .f_namemax = LIMPET_FS_NAME_MAX};
    fuse_reply_statfs(fuse, &st);
}

/* ---- Extended attributes ---- */

/* 0, or why there cannot be an attribute of this name: those of other file systems' own. */
static int check_xattr_name(const char *name)
{
    static const char *const spaces[] = {"user.", "trusted.", "security."};
    if (strcmp(name, POSIX_ACL_ACCESS) == 0 || strcmp(name, POSIX_ACL_DEFAULT) == 0)
        return 0;
    for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++) {
        size_t len = strlen(spaces[i]);
        if (strncmp(name, spaces[i], len) == 0)
            return name[len] != 0 ? 0 : EINVAL;
    }
    return strncmp(name, "limpet.layout", strlen("limpet.layout")) == 0 ? 0 : EOPNOTSUPP;
}

static bool refuse_xattr(fuse_req_t fuse, const char *name)
{
    int error = check_xattr_name(name);
    if (error != 0)
        fuse_reply_err(fuse, error);
    return error != 0;
}

static void do_getxattr(fuse_req_t fuse, fuse_ino_t ino, const char *name, size_t size)
{
    struct limpet_fs_request rq = {
        .verb = LIMPET_FS_XATTR_GET, .ino = ino, .name = name, .len = size};
    if (refuse_xattr(fuse, name))
        return;
    submit(fuse, &rq, got_xattr);
}

static void do_listxattr(fuse_req_t fuse, fuse_ino_t ino, size_t size)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_XATTR_LIST, .ino = ino, .len = size};
    submit(fuse, &rq, got_xattr_names);
}

static void do_setxattr(fuse_req_t fuse, fuse_ino_t ino, const char *name, const char *value,
                        size_t size, int flags)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_XATTR_SET,
                                   .ino = ino,
                                   .name = name,
                                   .data = value,
                                   .len = size,
                                   .flags = (unsigned)flags & ~(unsigned)SETXATTR_KILL_GROUP};
    if (flags & SETXATTR_KILL_GROUP)
        rq.flags |= LIMPET_FS_KILL_GROUP;
    if (refuse_xattr(fuse, name))
        return;
    submit(fuse, &rq, ended);
}

static void do_removexattr(fuse_req_t fuse, fuse_ino_t ino, const char *name)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_XATTR_REMOVE, .ino = ino, .name = name};
    if (refuse_xattr(fuse, name))
        return;
    submit(fuse, &rq, ended);
}

/* ---- Contents ---- */

static void do_open(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_OPEN, .ino = ino};
    struct request *r = request_create(fuse, ino);
    if (r == NULL)
        return;
    r->info = *info;
    limpet_fs_submit(fs_fuse_fs(fuse), &rq, opened, r);
}

static void nothing_ended(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    (void)rc, (void)result, (void)arg;
}

static void do_release(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct limpet_fs_request unlock = {.verb = LIMPET_FS_UNLOCK_ALL,
                                       .ino = ino,
                                       .owner = info->lock_owner,
                                       .flags = LIMPET_FS_WHOLE};
    if (info->flock_release)
        limpet_fs_submit(fs_fuse_fs(fuse), &unlock, nothing_ended, NULL);
    fs_mapped_released(ino);
    struct limpet_fs_request rq = {.verb = LIMPET_FS_RELEASE, .ino = ino};
    submit(fuse, &rq, ended);
}

static void do_read(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    (void)info;
    struct limpet_fs_request rq = {
        .verb = LIMPET_FS_READ, .ino = ino, .len = size, .offset = (uint64_t)offset};
    submit(fuse, &rq, got_contents);
}

/* The memory into which these bytes were received, or NULL: it is too much for them, or another's.
 */
static struct limpet_buffer *take_incoming(struct mount *mount, const char *data, size_t size)
{
    struct limpet_buffer *buffer = mount->incoming;
    if (size < HAND_OVER_MIN || takes_of_ring)
        return NULL;
    limpet_buffer_skip(buffer, (size_t)(data - (const char *)limpet_buffer_data(buffer)));
    limpet_buffer_trim(buffer, size);
    mount->incoming = NULL;
    return buffer;
}

static void do_write(fuse_req_t fuse, fuse_ino_t ino, const char *data, size_t size, off_t offset,
                     struct fuse_file_info *info)
{
    bool appends = info->flags & O_APPEND && !info->writepage;
    bool kills = fuse_req_ctx(fuse)->uid != 0 && !info->writepage;
    struct limpet_fs_request rq = {.verb = LIMPET_FS_WRITE,
                                   .ino = ino,
                                   .data = data,
                                   .buffer = take_incoming(mount_of(fuse), data, size),
                                   .len = size,
                                   .offset = (uint64_t)offset,
                                   .flags = (appends ? LIMPET_FS_APPEND : 0) |
                                            (info->flags & O_DSYNC ? LIMPET_FS_DURABLE : 0) |
                                            (kills ? LIMPET_FS_KILL_PRIV : 0)};
    submit(fuse, &rq, written);
}

static void do_fsync(fuse_req_t fuse, fuse_ino_t ino, int datasync, struct fuse_file_info *info)
{
    struct limpet_fs_request rq = {
        .verb = LIMPET_FS_SYNC, .ino = ino, .flags = datasync ? LIMPET_FS_DATA_ONLY : 0};
    (void)info;
    submit(fuse, &rq, ended);
}

/* ---- Locks ---- */

/* A close: what was written is durable, but the locks of this process end. */
static void do_flush(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_UNLOCK_ALL,
                                   .ino = ino,
                                   .owner = info->lock_owner,
                                   .flags = (unsigned)info->fh};
    submit(fuse, &rq, ended);
}

static void let_go(struct request *r)
{
    if (atomic_fetch_sub(&r->holds, 1) == 1)
        free(r);
}

static void lock_ended(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    (void)result;
    fuse_reply_err(r->fuse, rc < 0 ? fs_fuse_error(rc) : 0);
    let_go(r);
}

/* The answer, and with it the end of the request, waits until this has returned. */
static void interrupted(fuse_req_t fuse, void *data)
{
    struct request *r = data;
    r->interrupted = true;
    limpet_fs_cancel(fs_fuse_fs(fuse), r);
}

/*
 * Whether a thread has a signal that it has not taken. A request that goes to a ring is not said to
 * be interrupted by one that came before it was there (Linux 6.18), and libfuse may lose one that
 * came before the request was taken: whoever waits without an end has to look.
 */
static bool has_signal(pid_t tid)
{
    char path[64], line[128];
    unsigned long long own = 0, shared = 0, blocked = 0;
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "SigPnd:", 7) == 0)
            own = strtoull(line + 7, NULL, 16);
        else if (strncmp(line, "ShdPnd:", 7) == 0)
            shared = strtoull(line + 7, NULL, 16);
        else if (strncmp(line, "SigBlk:", 7) == 0)
            blocked = strtoull(line + 7, NULL, 16);
    }
    fclose(file);
    return ((own | shared) & ~blocked) != 0;
}

/* An interrupt comes to another thread, also before there is anything to cancel. */
static void submit_lock(fuse_req_t fuse, struct limpet_fs_request *rq, bool waits)
{
    struct limpet_fs *fs = fs_fuse_fs(fuse);
    struct request *r = request_create(fuse, rq->ino);
    if (r == NULL)
        return;
    rq->verb = LIMPET_FS_LOCK;
    r->holds = 2;
    if (waits) {
        rq->flags |= LIMPET_FS_WAITS;
        fuse_req_interrupt_func(fuse, interrupted, r);
        if (takes_of_ring && has_signal(fuse_req_ctx(fuse)->pid))
            r->interrupted = true;
    }
    limpet_fs_submit(fs, rq, lock_ended, r);
    if (r->interrupted)
        limpet_fs_cancel(fs, r);
    let_go(r);
}

static struct limpet_fs_request lock_request(fuse_ino_t ino, const struct fuse_file_info *info,
                                             const struct flock *lock)
{
    return (struct limpet_fs_request){.ino = ino,
                                      .owner = info->lock_owner,
                                      .pid = (uint32_t)lock->l_pid,
                                      .offset = (uint64_t)lock->l_start,
                                      .len = (size_t)lock->l_len,
                                      .flags = lock->l_type == F_WRLCK   ? LIMPET_FS_LOCK_EXCLUSIVE
                                               : lock->l_type == F_RDLCK ? LIMPET_FS_LOCK_SHARED
                                                                         : 0};
}

static void do_setlk(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info,
                     struct flock *lock, int sleeps)
{
    struct limpet_fs_request rq = lock_request(ino, info, lock);
    submit_lock(fuse, &rq, sleeps != 0 && rq.flags != 0);
}

static void do_flock(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info, int op)
{
    unsigned type = op & LOCK_EX ? LIMPET_FS_LOCK_EXCLUSIVE : LIMPET_FS_LOCK_SHARED;
    struct limpet_fs_request rq = {.ino = ino,
                                   .owner = info->lock_owner,
                                   .flags = LIMPET_FS_WHOLE | (op & LOCK_UN ? 0 : type)};
    submit_lock(fuse, &rq, !(op & (LOCK_NB | LOCK_UN)));
}

static void got_lock(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct request *r = arg;
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    if (rc < 0 && rc != -ENOENT) {
        ended(rc, result, r);
        return;
    }
    if (rc == 0) {
        lock.l_type = result->lock.exclusive ? F_WRLCK : F_RDLCK;
        lock.l_start = (off_t)result->lock.start;
        lock.l_len = (off_t)result->lock.len;
        lock.l_pid = (pid_t)result->lock.pid;
    }
    fuse_reply_lock(r->fuse, &lock);
    free(r);
}

static void do_getlk(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info,
                     struct flock *lock)
{
    struct limpet_fs_request rq = lock_request(ino, info, lock);
    rq.verb = LIMPET_FS_LOCK_GET;
    submit(fuse, &rq, got_lock);
}

/* ---- Space ---- */

static void do_fallocate(fuse_req_t fuse, fuse_ino_t ino, int mode, off_t offset, off_t len,
                         struct fuse_file_info *info)
{
    (void)info;
    struct limpet_fs_request rq = {.verb = LIMPET_FS_ALLOCATE,
                                   .ino = ino,
                                   .offset = (uint64_t)offset,
                                   .len = (size_t)len,
                                   .flags = (unsigned)mode};
    submit(fuse, &rq, ended);
}

static void do_lseek(fuse_req_t fuse, fuse_ino_t ino, off_t offset, int whence,
                     struct fuse_file_info *info)
{
    (void)info;
    struct limpet_fs_request rq = {
        .verb = LIMPET_FS_SEEK, .ino = ino, .offset = (uint64_t)offset, .flags = (unsigned)whence};
    submit(fuse, &rq, sought);
}

static void do_copy(fuse_req_t fuse, fuse_ino_t ino, off_t offset, struct fuse_file_info *info,
                    fuse_ino_t to, off_t to_offset, struct fuse_file_info *to_info, size_t len,
                    int flags)
{
    (void)info, (void)to_info, (void)flags; /* There are none. */
    struct limpet_fs_request rq = {.verb = LIMPET_FS_COPY,
                                   .ino = ino,
                                   .offset = (uint64_t)offset,
                                   .to_ino = to,
                                   .to_offset = (uint64_t)to_offset,
                                   .len = len};
    submit(fuse, &rq, written);
}

/* ---- The session ---- */

static void do_init(void *userdata, struct fuse_conn_info *connection)
{
    struct mount *mount = userdata;
    mount->keeps_names = mount->may_keep_names && connection->proto_minor >= NOTIFY_INC_EPOCH_MINOR;
    connection->max_readahead = READ_AHEAD_KIB << 10;
    connection->max_background = connection->congestion_threshold = REQUESTS_MAX;
    connection->max_write = WRITE_MAX;
    /* As the options said: libfuse ends a session where the two differ. */
    connection->max_read = mount->max_read;
    /* The kernel sends what these would have us do by ourselves. */
    connection->want &= ~(unsigned)(FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_ATOMIC_O_TRUNC);
    /* With lists of who may do what, a umask is for those who make things: a default list goes
     * first. */
    const unsigned lists = FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;
    if ((connection->capable & lists) == lists)
        connection->want |= lists;
    mount->tells_more_of_xattrs = connection->proto_minor >= SETXATTR_EXT_MINOR;
}

/* ---- What the kernel keeps ---- */

/* All names at once: the kernel's call for a single one waits for requests of its directory. */
static void drop_names(struct mount *mount)
{
    struct fuse_out_header header = {.len = sizeof header, .error = NOTIFY_INC_EPOCH};
    if (mount->keeps_names &&
        write(fuse_session_fd(mount->session), &header, sizeof header) != (ssize_t)sizeof header)
        complain(errno, "mount: names cannot be dropped");
}

static void drop(void *arg, const uint64_t *inos, size_t n)
{
    struct mount *mount = arg;
    drop_names(mount);
    for (size_t i = 0; i < n; i++)
        fuse_lowlevel_notify_inval_inode(mount->session, inos[i], 0, 0);
}

/*
 * What a listing has told, no pages: this is the thread that takes requests, and the kernel's call
 * for pages waits for those that are being read, whose requests it may not have taken yet.
 */
static void drop_told(void *arg, const uint64_t *inos, size_t n)
{
    struct mount *mount = arg;
    drop_names(mount);
    for (size_t i = 0; i < n; i++)
        fuse_lowlevel_notify_inval_inode(mount->session, inos[i], -1, 0);
}

static void recalled(void *arg, const uint64_t *inos, size_t n)
{
    fs_listed_wait();
    drop(arg, inos, n);
}

static void look_seen(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    uint64_t *ino = arg;
    fs_mapped_saw(*ino, rc, result);
    free(ino);
}

static void look_at(uint64_t ino)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_GETATTR, .ino = ino};
    uint64_t *which = malloc(sizeof *which);
    if (which == NULL) {
        fs_mapped_saw(ino, -ENOMEM, NULL);
        return;
    }
    *which = ino;
    pthread_rwlock_rdlock(&the_mount.taking);
    limpet_fs_submit(the_mount.fs, &rq, look_seen, which);
    pthread_rwlock_unlock(&the_mount.taking);
}

static void drop_pages(uint64_t ino)
{
    fuse_lowlevel_notify_inval_inode(the_mount.session, ino, 0, 0);
}

static const struct fs_mapped_calls mapped_calls = {.look = look_at, .drop = drop_pages};

static void lost(void *arg)
{
    const struct mount *mount = arg;
    fs_recovery_needed(mount->recovery);
}

static void failed(void *arg, uint64_t dir, int error)
{
    (void)arg;
    complain(-error, "mount: changes in folder number %llu are lost", (unsigned long long)dir);
}

static const struct limpet_fs_cache_calls cache_calls = {
    .drop = recalled, .lost = lost, .failed = failed};

int fs_fuse_switch(struct limpet_fs *fs)
{
    limpet_fs_cache(fs, &cache_calls, &the_mount);
    pthread_rwlock_wrlock(&the_mount.taking);
    int rc = limpet_fs_adopt(fs, the_mount.fs);
    if (rc == 0)
        the_mount.fs = fs;
    pthread_rwlock_unlock(&the_mount.taking);
    return rc;
}

/* ---- Taking requests ---- */

static void process(struct mount *mount, const struct fuse_buf *request)
{
    check_made(mount, request);
    pthread_rwlock_rdlock(&mount->taking);
    fuse_session_process_buf(mount->session, request);
    pthread_rwlock_unlock(&mount->taking);
}

/* ---- What libfuse does not know ---- */

/*
 * Requests that are new become those that libfuse knows. A file without a name is created under one
 * that no other file can have; of the longer form of a new attribute, a bit among the flags is
 * left.
 */
static size_t translate(const struct mount *mount, uint8_t *buffer, size_t len)
{
    enum { SHORTER = sizeof(struct fuse_setxattr_in) - FUSE_COMPAT_SETXATTR_IN_SIZE };
    struct fuse_in_header header;
    struct fuse_setxattr_in set;
    size_t at = sizeof header, short_end = at + FUSE_COMPAT_SETXATTR_IN_SIZE;
    if (len < sizeof header)
        return len;
    memcpy(&header, buffer, sizeof header);
    if (header.opcode == FUSE_TMPFILE)
        header.opcode = FUSE_CREATE;
    if (header.opcode == FUSE_SETXATTR && mount->tells_more_of_xattrs && len >= at + sizeof set) {
        memcpy(&set, buffer + at, sizeof set);
        if (set.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
            set.flags |= SETXATTR_KILL_GROUP;
        memcpy(buffer + at, &set, FUSE_COMPAT_SETXATTR_IN_SIZE);
        memmove(buffer + short_end, buffer + short_end + SHORTER, len - short_end - SHORTER);
        len -= SHORTER;
        header.len = (uint32_t)len;
    }
    memcpy(buffer, &header, sizeof header);
    return len;
}

static void take_offers(struct mount *mount, const uint8_t *buffer, size_t len)
{
    struct fuse_in_header header;
    uint32_t flags2;
    size_t at = sizeof header + INIT_FLAGS2_AT;
    if (len < at + sizeof flags2)
        return;
    memcpy(&header, buffer, sizeof header);
    memcpy(&flags2, buffer + at, sizeof flags2);
    if (header.opcode == FUSE_INIT)
        mount->ring_offered = flags2 & URING_INIT_FLAG;
}

static ssize_t read_request(int fd, void *buffer, size_t len, void *userdata)
{
    struct mount *mount = userdata;
    ssize_t got = read(fd, buffer, len);
    if (got < 0)
        return got;
    if (!mount->answered_init)
        take_offers(mount, buffer, (size_t)got);
    return (ssize_t)translate(mount, buffer, (size_t)got);
}

static void take_of_ring(void *arg, struct fuse_buf *request)
{
    struct mount *mount = arg;
    request->size = translate(mount, request->mem, request->size);
    takes_of_ring = true;
    process(mount, request);
}

/* Who has said so in the answer to INIT has to take requests that way. */
static bool prepare_ring(struct mount *mount)
{
    if (!mount->rings || !mount->ring_offered)
        return false;
    int rc = fs_ring_create(mount->session, mount->path, mount->follows, take_of_ring, mount,
                            &mount->ring);
    if (rc != 0)
        complain(-rc, "mount: requests come by /dev/fuse, not by io_uring: %s", error_phrase(-rc));
    return rc == 0;
}

/* The first answer: shared mappings also of files that bypass the kernel's pages. */
static ssize_t answer_init(struct mount *mount, int fd, const struct iovec *iov, int count)
{
    mount->answered_init = true;
    if (count != 2 || iov[1].iov_len < offsetof(struct fuse_init_out, unused))
        return writev(fd, iov, count);
    struct fuse_init_out *init = iov[1].iov_base;
    init->flags |= INIT_EXT_FLAG | (mount->tells_more_of_xattrs ? FUSE_SETXATTR_EXT : 0);
    init->flags2 |= INIT_DIRECT_IO_ALLOW_MMAP | (prepare_ring(mount) ? URING_INIT_FLAG : 0);
    ssize_t n = writev(fd, iov, count);
    if (n > 0 && mount->ring != NULL)
        fs_ring_begin(mount->ring);
    return n;
}

static ssize_t write_answer(int fd, struct iovec *iov, int count, void *userdata)
{
    struct mount *mount = userdata;
    ssize_t n;
    if (!mount->answered_init)
        return answer_init(mount, fd, iov, count);
    if (mount->ring != NULL && fs_ring_answer(mount->ring, iov, count, &n))
        return n;
    return writev(fd, iov, count);
}

static const struct fuse_custom_io custom_io = {.read = read_request, .writev = write_answer};

static const struct fuse_lowlevel_ops operations = {
    .init = do_init,
    .lookup = do_lookup,
    .forget = do_forget,
    .forget_multi = do_forget_multi,
    .getattr = do_getattr,
    .setattr = do_setattr,
    .readlink = do_readlink,
    .mknod = do_mknod,
    .mkdir = do_mkdir,
    .symlink = do_symlink,
    .create = do_create,
    .unlink = do_unlink,
    .rmdir = do_rmdir,
    .rename = do_rename,
    .link = do_link,
    .open = do_open,
    .release = do_release,
    .read = do_read,
    .write = do_write,
    .fsync = do_fsync,
    .fsyncdir = do_fsync,
    .flush = do_flush,
    .getlk = do_getlk,
    .setlk = do_setlk,
    .flock = do_flock,
    .opendir = fs_list_opendir,
    .readdir = fs_list_readdir,
    .readdirplus = fs_list_readdirplus,
    .releasedir = fs_list_releasedir,
    .statfs = do_statfs,
    .getxattr = do_getxattr,
    .setxattr = do_setxattr,
    .listxattr = do_listxattr,
    .removexattr = do_removexattr,
    .fallocate = do_fallocate,
    .lseek = do_lseek,
    .copy_file_range = do_copy,
};

static void take_fuse_message(enum fuse_log_level level, const char *format, va_list args)
{
    (void)level;
    size_t len = strlen(fuse_message);
    if (len > 0 && fuse_message[len - 1] == '\n')
        len = 0;
    vsnprintf(fuse_message + len, sizeof fuse_message - len, format, args);
}

/* The last thing it said, which may have come in pieces: a line. */
static const char *fuse_said(void)
{
    fuse_message[strcspn(fuse_message, "\n")] = 0;
    return fuse_message[0] != 0 ? fuse_message : "no FUSE mount";
}

/* How far the kernel reads ahead is the administrator's to say, who is who mounts, often. */
static void set_read_ahead(const char *path)
{
    char name[96], device[FS_DEVICE_MAX];
    if (!fs_device(path, device))
        return;
    snprintf(name, sizeof name, "/sys/class/bdi/%s/read_ahead_kb", device);
    FILE *file = fopen(name, "we");
    if (file == NULL)
        return;
    fprintf(file, "%d\n", READ_AHEAD_KIB);
    fclose(file);
}

struct fuse_session *fs_fuse_mount(struct limpet_fs *fs, struct fs_recovery *recovery,
                                   const char *path, const char *options, unsigned max_read,
                                   bool keeps_names)
{
    struct mount *mount = &the_mount;
    mount->may_keep_names = keeps_names;
    mount->max_read = max_read;
    char *arguments[] = {"limpet", "-o", (char *)options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, arguments);
    mount->recovery = recovery;
    fuse_set_log_func(take_fuse_message);
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof operations, mount);
    if (session == NULL)
        fail(EINVAL, "mount failed: %s; 'limpet help fs mount' tells which there are", fuse_said());
    if (fuse_session_mount(session, path) != 0)
        fail(ENODEV, "mount failed: %s", fuse_said());
    mount->session = session;
    if (fuse_session_custom_io(session, &custom_io, fuse_session_fd(session)) != 0)
        fail(ENOMEM, "mount failed: %s", error_phrase(ENOMEM));
    limpet_fs_cache(fs, &cache_calls, mount);
    mount->fs = fs;
    struct limpet_fs_info info;
    limpet_fs_info(fs, &info);
    mount->id = info.id;
    fuse_opt_free_args(&args);
    return session;
}

/* Each request is received in memory that a write may take away. */
static void serve(struct mount *mount, struct fs_receiver *receiver)
{
    struct fuse_session *session = mount->session;
    while (!fuse_session_exited(session)) {
        if (mount->incoming == NULL)
            mount->incoming = limpet_buffer_create(RECEIVE_BYTES);
        if (mount->incoming == NULL) {
            complain(ENOMEM, "mount: no memory for requests");
            break;
        }
        struct fuse_buf buffer = {.mem = limpet_buffer_data(mount->incoming)};
        int n = fs_receive(receiver, &buffer);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            break;
        process(mount, &buffer);
    }
    limpet_buffer_destroy(mount->incoming);
    mount->incoming = NULL;
    fuse_session_reset(session);
}

/*
 * Contents come and go in blocks of up to 1 MiB, which are to come from memory that was used
 * before, not from the kernel, page by page.
 */
static void keep_memory(void)
{
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, 8 * WRITE_MAX);
    mallopt(M_TRIM_THRESHOLD, 16 * WRITE_MAX);
}

void fs_fuse_serve(struct fuse_session *session, const char *path, bool follows, bool rings)
{
    struct fs_receiver *receiver;
    the_mount.path = path;
    the_mount.follows = follows;
    the_mount.rings = rings;
    if (the_mount.may_keep_names)
        fs_refresh_begin(path, first_generation());
    set_read_ahead(path);
    keep_memory();
    int rc = fs_receiver_create(session, follows, -1, &receiver);
    if (rc == 0 && (rc = fs_mapped_begin(&mapped_calls)) == 0) {
        serve(&the_mount, receiver);
        fs_mapped_end();
        fs_receiver_destroy(receiver);
    } else {
        complain(-rc, "mount: requests cannot be taken: %s", error_phrase(-rc));
    }
    if (the_mount.ring != NULL)
        fs_ring_stop(the_mount.ring);
    fuse_session_unmount(session);
    fs_umount_over();
}

void fs_fuse_end(void)
{
    if (the_mount.ring != NULL)
        fs_ring_destroy(the_mount.ring);
    the_mount.ring = NULL;
    /* Its thread may wait for an answer of ours: it gets an error now that nothing holds the
     * device. */
    fs_refresh_end();
}
