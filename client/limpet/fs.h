/*
 * liblimpet: file systems. Part of the public interface; limpet.h says what holds for errors,
 * threads and memory.
 *
 *     struct limpet_fs *fs;
 *     limpet_fs_open(pool, "home", &fs);
 *     struct limpet_fs_request request = {.verb = LIMPET_FS_LOOKUP, .ino = LIMPET_FS_ROOT,
 *                                         .name = "file"};
 *     struct limpet_fs_result *result;
 *     ssize_t rc = limpet_fs_do(fs, &request, &result);   -- or limpet_fs_submit()
 *     limpet_fs_result_destroy(result);
 *     limpet_fs_close(fs);
 *
 * A file system lives in a pool, its data perhaps in another one. Everything is done by inode
 * number and one of the verbs; limpet_fs_resolve() makes a number of a path. What a request has
 * changed is durable when it ends. Permissions are not checked: that is the caller's business, as
 * the kernel's for a mount.
 */
#ifndef LIMPET_FS_H
#define LIMPET_FS_H

#include <sys/stat.h>

#include "../limpet.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LIMPET_FS_ROOT     UINT64_C(1)
#define LIMPET_FS_NAME_MAX 255
#define LIMPET_FS_ORDER    22 /* Bits of the size of data objects, unless something is said. */
#define LIMPET_FS_COOKIE_SELF                                                                      \
    1 /* Places in a directory: ".", "..", and of entries what is above. */
#define LIMPET_FS_COOKIE_UP 2

#define LIMPET_FS_SPLIT_MAX 1000000

#define LIMPET_FS_MEMORY     (UINT64_C(256) << 20)
#define LIMPET_FS_MEMORY_MIN (UINT64_C(16) << 20)

struct limpet_fs;

/* ---- File systems of a pool ---- */

struct limpet_fs_info {
    char name[LIMPET_FS_NAME_MAX + 1];
    uint64_t id;
    uint64_t data_pool; /* 0: the same. */
    uint32_t order;
    int64_t created_ns;
};

/*
 * Makes an empty file system; root belongs to root. order 0: LIMPET_FS_ORDER; 12 to 26. split_at: a
 * directory with so many entries gets more shards; 0: as is best. -EEXIST; -EINVAL: the name is
 * empty, or has '/' in it, or a number is out of range; -EILSEQ: it is not UTF-8; -ENAMETOOLONG.
 */
LIMPET_API int limpet_fs_create(struct limpet_pool *pool, const char *name, uint64_t data_pool,
                                unsigned order, unsigned split_at);
/* By name. Release *out with limpet_free(). */
LIMPET_API int limpet_fs_list(struct limpet_pool *pool, struct limpet_fs_info **out, size_t *n);
/* With all that is in it. -ENOENT; -EBUSY: somebody has it open for more than the 3 s that are
 * waited for that, and `force` is false. */
LIMPET_API int limpet_fs_remove(struct limpet_pool *pool, const char *name, bool force);
/* -ENOENT. The pool's cluster must outlive it. */
LIMPET_API int limpet_fs_open(struct limpet_pool *pool, const char *name, struct limpet_fs **out);
/* Waits until all requests have ended. NULL is allowed. */
LIMPET_API void limpet_fs_close(struct limpet_fs *fs);
/*
 * What is open in `old`, which was lost, is open in fs from now on; before the first request of fs.
 * Locks are not kept, and a file without a name may be gone. -ENOMEM.
 */
LIMPET_API int limpet_fs_adopt(struct limpet_fs *fs, struct limpet_fs *old);
LIMPET_API void limpet_fs_info(const struct limpet_fs *fs, struct limpet_fs_info *out);

struct limpet_fs_client {
    uint64_t instance;
    char address[64];
};
/* Who has it open. Release *out with limpet_free(). */
LIMPET_API int limpet_fs_clients(struct limpet_fs *fs, struct limpet_fs_client **out, size_t *n);

/* ---- Requests ---- */

enum limpet_fs_verb {
    LIMPET_FS_LOOKUP = 1, /* name in ino: attr */
    LIMPET_FS_GETATTR,    /* attr; of a symbolic link, data is where it leads */
    LIMPET_FS_SETATTR,    /* set, attr: attr */
    LIMPET_FS_CREATE,     /* name in ino, attr: mode, uid, gid, rdev; data: where a link leads */
    LIMPET_FS_LINK,       /* ino, as to_name in to_ino: attr */
    LIMPET_FS_UNLINK,     /* name in ino */
    LIMPET_FS_RMDIR,
    LIMPET_FS_RENAME,   /* name in ino, to_name in to_ino, flags: RENAME_NOREPLACE, _EXCHANGE */
    LIMPET_FS_LIST,     /* of ino, after offset: data, for limpet_fs_entry_next() */
    LIMPET_FS_OPEN,     /* attr. From now on the file stays, also without a name: */
    LIMPET_FS_RELEASE,  /* until it was released as often as it was opened. */
    LIMPET_FS_READ,     /* offset, len: data */
    LIMPET_FS_WRITE,    /* offset, data, len */
    LIMPET_FS_ALLOCATE, /* offset, len, flags: FALLOC_FL_... of fallocate(2) */
    LIMPET_FS_SEEK,     /* offset, flags: SEEK_DATA, SEEK_HOLE */
    /* name: data. "limpet.layout": how contents are cut into objects, docs/files.md has the fields;
     * set while a file is empty, -ENOTEMPTY, and of a directory for what is made in it. */
    LIMPET_FS_XATTR_GET,
    LIMPET_FS_XATTR_SET,    /* name, data, len, flags: XATTR_CREATE, XATTR_REPLACE, below */
    LIMPET_FS_XATTR_REMOVE, /* name */
    LIMPET_FS_XATTR_LIST,   /* data: names, each with a zero after it */
    /*
     * Locks of fcntl(2), or with LIMPET_FS_WHOLE of flock(2): offset, len (0: to the end), owner,
     * pid. One of LIMPET_FS_LOCK_..., with neither it is given back. -EAGAIN; LIMPET_FS_WAITS: not
     * before limpet_fs_cancel(): -EINTR. Locks of a client that dies end with it.
     */
    LIMPET_FS_LOCK,
    LIMPET_FS_LOCK_GET, /* Whose is in the way: lock; -ENOENT: nobody's. */
    /* What the owner has, if anything. Without LIMPET_FS_WHOLE it is a close, which tells the error
     * of a write, but not with LIMPET_FS_READER. */
    LIMPET_FS_UNLOCK_ALL,
    /* ino: it, its names and all that they depend on are durable; 0: everything. -EIO: something
     * that was answered before is lost. */
    LIMPET_FS_SYNC,
    /* offset, len of ino, to to_offset of to_ino: so many bytes; 0: ino ends there. -EINVAL: the
     * two overlap. */
    LIMPET_FS_COPY,
    LIMPET_FS_VERBS_END
};

enum limpet_fs_set {
    LIMPET_FS_SET_MODE = 1,
    LIMPET_FS_SET_UID = 2,
    LIMPET_FS_SET_GID = 4,
    LIMPET_FS_SET_SIZE = 8,
    LIMPET_FS_SET_ATIME = 16,
    LIMPET_FS_SET_MTIME = 32,
    LIMPET_FS_SET_CTIME = 64,
    LIMPET_FS_SET_ATIME_NOW = 128,
    LIMPET_FS_SET_MTIME_NOW = 256,
};

enum limpet_fs_flags {
    LIMPET_FS_EXCLUSIVE = 1 << 16, /* create: -EEXIST when there is one. */
    LIMPET_FS_OPENED = 1 << 17,    /* create: and open. */
    LIMPET_FS_APPEND = 1 << 18,    /* write: at the end, wherever that is now. */
    LIMPET_FS_LOCK_SHARED = 1 << 20,
    LIMPET_FS_LOCK_EXCLUSIVE = 1 << 21,
    LIMPET_FS_WHOLE = 1 << 22,
    LIMPET_FS_WAITS = 1 << 23,
    LIMPET_FS_DURABLE = 1 << 27,    /* write: as if an fsync of the file came with it. */
    LIMPET_FS_DATA_ONLY = 1 << 28,  /* sync: as fdatasync(2), without the time of a write. */
    LIMPET_FS_KILL_PRIV = 1 << 24,  /* write: set-user-id and set-group-id go. */
    LIMPET_FS_READER = 1 << 29,     /* unlock_all: of who could not write. */
    LIMPET_FS_ATTRS = 1 << 19,      /* list: with attributes of those that are at hand. */
    LIMPET_FS_KILL_GROUP = 1 << 25, /* xattr_set, of an access ACL: set-group-id goes. */
    LIMPET_FS_NAMELESS = 1 << 26,   /* create and open, without a name; link may give it one. */
};

struct limpet_fs_attr {
    uint64_t ino;
    uint32_t mode, uid, gid, links, rdev, generation;
    uint64_t size, blocks; /* Bytes; at most so many blocks of 512. */
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
    uint64_t change;
};

struct limpet_fs_request {
    enum limpet_fs_verb verb;
    uint64_t ino, to_ino;
    const char *name, *to_name;
    unsigned flags;
    unsigned set; /* enum limpet_fs_set */
    struct limpet_fs_attr attr;
    /* create: the mode before a umask, which counts in a folder with a default ACL; 0: attr.mode */
    uint32_t full_mode;
    const void *data;
    struct limpet_buffer *buffer; /* write: instead of data; handed over in any case. */
    size_t len;
    uint64_t offset, to_offset;
    uint64_t owner;
    uint32_t pid;
};

struct limpet_fs_lock {
    uint64_t start, len; /* 0: to the end. */
    bool exclusive;
    uint32_t pid;
};

struct limpet_fs_result {
    struct limpet_fs_attr attr;
    struct limpet_fs_lock lock;
    bool existed; /* create: there was one. */
    /* With limpet_fs_cache(): the name (or that there is none), the attributes, or the contents
     * that were read, may be kept. */
    bool keep_name, keep_attr;
    /* Attributes for a second only: times and links of a directory of several shards. */
    bool brief;
    uint64_t grant;
    uint64_t shard; /* list: what limpet_fs_keep_begin() wants. */
    uint64_t touched;
    uint64_t offset; /* list: the cookie of the last entry; 0: there is none. */
    bool more;       /* list: there are others, after that. */
    void *data;
    size_t len;
};

/*
 * What may be kept, of results that say so, until it is to be dropped: all names of the file
 * system, and attributes, listings and contents of these inodes. Made on a thread of its own, which
 * may wait for the kernel, but not for a request of this file system.
 */
struct limpet_fs_cache_calls {
    void (*drop)(void *arg, const uint64_t *inos, size_t n);
    /* The cluster has given up this client: open another one, and let it adopt what is open. */
    void (*lost)(void *arg);
    /* Changes in this directory, or of what was made in it, are lost: fsync tells it, too. */
    void (*failed)(void *arg, uint64_t dir, int error);
};
/* Grows with each loss of what had not become durable, whoever is told of it. */
LIMPET_API uint64_t limpet_fs_losses(struct limpet_fs *fs);

/*
 * How much memory contents may take, of files that are read and written: LIMPET_FS_MEMORY, unless
 * something is said before the first request. -EINVAL: less than LIMPET_FS_MEMORY_MIN.
 */
LIMPET_API int limpet_fs_memory(struct limpet_fs *fs, uint64_t bytes);
/* Before the first request. */
LIMPET_API void limpet_fs_cache(struct limpet_fs *fs, const struct limpet_fs_cache_calls *calls,
                                void *arg);
/*
 * What a listing has given with keep_attr may be told later, and kept, between these two: if the
 * first one says so. `shard` and `grant` are the result's.
 */
LIMPET_API bool limpet_fs_keep_begin(struct limpet_fs *fs, uint64_t shard, uint64_t grant);
/*
 * Whether nothing was changed by this file system, since then, in the shard that a listing is of.
 * What was listed before a change, and is told after it, would undo it for who keeps it.
 */
LIMPET_API bool limpet_fs_untouched(struct limpet_fs *fs, const struct limpet_fs_result *listed);
LIMPET_API void limpet_fs_keep_end(struct limpet_fs *fs, uint64_t shard);
/* For limpet_fs_keep_begin() of a directory, as it is now; 0: nothing of it may be kept. */
LIMPET_API uint64_t limpet_fs_grant(struct limpet_fs *fs, uint64_t dir);
/* Between those two: what a lookup of the name would say, if that is known without asking anybody;
 * it may be kept, too. */
LIMPET_API bool limpet_fs_known(struct limpet_fs *fs, uint64_t dir, const char *name,
                                struct limpet_fs_attr *out);

/*
 * On the library's thread or on one of the file system's own. rc: 0, a number of bytes, or an
 * error. The result is valid until the callback returns.
 */
typedef void (*limpet_fs_callback)(ssize_t rc, const struct limpet_fs_result *result, void *arg);

/* What the request points to may be reused at once. The callback is made in any case. */
LIMPET_API void limpet_fs_submit(struct limpet_fs *fs, const struct limpet_fs_request *request,
                                 limpet_fs_callback done, void *arg);
/* Ends a lock that waits, by the arg of its request; nothing when there is none. */
LIMPET_API void limpet_fs_cancel(struct limpet_fs *fs, void *arg);
/* Waits. out may be NULL; else it is given also with an error. Not to be called by a callback. */
LIMPET_API ssize_t limpet_fs_do(struct limpet_fs *fs, const struct limpet_fs_request *request,
                                struct limpet_fs_result **out);
LIMPET_API void limpet_fs_result_destroy(struct limpet_fs_result *result);

/* A path from the root; symbolic links in its middle are followed. -ENOENT, -ENOTDIR, -ELOOP. */
LIMPET_API int limpet_fs_resolve(struct limpet_fs *fs, const char *path, uint64_t *ino);

struct limpet_fs_entry {
    uint64_t cookie; /* Where it stands: a later list goes on after it. */
    uint64_t ino;
    unsigned type; /* Of the mode: S_IFMT >> 12. */
    bool has_attr;
    struct limpet_fs_attr attr;
    char name[LIMPET_FS_NAME_MAX + 1];
};
/*
 * Entries of a listing's data; *at begins as 0. -ENOENT: no more here; *more: but in the directory.
 * "." and ".." are not among them.
 */
LIMPET_API int limpet_fs_entry_next(const void *data, size_t len, size_t *at,
                                    struct limpet_fs_entry *out, bool *more);

struct limpet_fs_space {
    uint64_t bytes, bytes_free; /* Of data, one copy. */
};
LIMPET_API int limpet_fs_space(struct limpet_fs *fs, struct limpet_fs_space *out);

/* ---- Checking ---- */

enum limpet_fs_damage {
    /* What a client that died has left; whoever meets it completes it. */
    LIMPET_FS_INTENT = 1, /* An operation over two directories. */
    LIMPET_FS_MARK,       /* What one that is over has left in `ino`. */
    LIMPET_FS_ORPHAN,     /* A file without a name that nobody has open. */
    LIMPET_FS_BUSY,       /* A truncation, or the removal of a directory. */
    LIMPET_FS_UNNAMED,    /* A directory that was about to get its name, and is empty. */

    /* What should never be. */
    LIMPET_FS_DAMAGES,
    LIMPET_FS_NO_ROOT = LIMPET_FS_DAMAGES,
    LIMPET_FS_NO_SUPER,        /* The object that gives numbers to directories is gone, or wrong. */
    LIMPET_FS_BAD_RECORD,      /* A record of the shard of `ino` cannot be read. */
    LIMPET_FS_NO_SHARD,        /* A shard has no record of itself. */
    LIMPET_FS_NO_DIRECTORY,    /* A shard has no inode of its directory. */
    LIMPET_FS_NUMBER_REUSED,   /* A shard would give a number again. */
    LIMPET_FS_ENTRY_DANGLING,  /* An entry names an inode that is not there. */
    LIMPET_FS_ENTRY_TYPE,      /* An entry says something else of its inode's type. */
    LIMPET_FS_ENTRY_MISPLACED, /* An entry is not found by its name. */
    LIMPET_FS_ENTRY_SECOND,    /* A directory has another entry. */
    LIMPET_FS_ENTRY_MOVING,    /* An entry waits for an operation that is none. */
    LIMPET_FS_PARENT,          /* A directory leads up to another one than it is in. */
    LIMPET_FS_LINKS,           /* The number of links is wrong. */
    LIMPET_FS_UNREACHABLE,     /* An inode has no entry. */
    LIMPET_FS_LOOP,            /* A directory is inside of itself. */
    LIMPET_FS_ORPHAN_WRONG, /* Something is said to have no name, but has one, or is not there. */
    LIMPET_FS_ATTRIBUTE,    /* Extended attributes of no inode. */
    LIMPET_FS_DYING,        /* A directory that is in use lets nothing be made in it. */
    LIMPET_FS_ATTRIBUTES,   /* An inode says that it has none of those that are there. */
    LIMPET_FS_NO_PART,      /* A part of a directory is not there. */
    LIMPET_FS_PART_UNKNOWN, /* A part of a directory has entries, and the directory knows no parts.
                             */
    LIMPET_FS_PART_LOST,    /* One has, and its directory is gone, or has others. */
    LIMPET_FS_DATA_LOST,    /* Data of a file whose inode is gone. */
    LIMPET_FS_DATA_OLD,     /* Data of a file that had the number before. */
    LIMPET_FS_DATA_BEYOND,  /* Data beyond the end of a file. */
    LIMPET_FS_DATA_HIDDEN,  /* Data where the inode says that there are none. */
    LIMPET_FS_DAMAGES_END
};

struct limpet_fs_finding {
    enum limpet_fs_damage damage;
    uint64_t ino;                      /* What it is about. */
    uint64_t dir;                      /* Of an entry: */
    char name[LIMPET_FS_NAME_MAX + 1]; /* "": none. */
    uint64_t number, other;            /* As the damage needs them. */
    int error; /* Of its repair; 0: it was repaired, or nothing was tried. */
};

struct limpet_fs_check_report {
    uint64_t directories, files, entries, data_objects;
    uint64_t unfinished, damaged; /* Findings, of all passes. */
    uint64_t left;                /* That were not repaired. */
    uint64_t clients;             /* That have it open. */
    unsigned passes;
};

struct limpet_fs_check_calls {
    void (*found)(const struct limpet_fs_finding *finding, void *arg);
    /* total 0: unknown. */
    void (*progress)(const char *what, uint64_t done, uint64_t total, void *arg);
};

/*
 * Reads all of a file system's records, and finds what does not fit together; `repair`: and repairs
 * it. What has lost its name gets one in the folder lost+found. While others have it open, only
 * what is found twice counts, and it cannot be repaired: -EBUSY. Waits; not to be called by a
 * callback.
 */
LIMPET_API int limpet_fs_check(struct limpet_fs *fs, bool repair,
                               const struct limpet_fs_check_calls *calls, void *arg,
                               struct limpet_fs_check_report *out);
/* A word for it, with hyphens: "entry-dangling". */
LIMPET_API const char *limpet_fs_damage_name(enum limpet_fs_damage damage);

#ifdef __cplusplus
}
#endif

#endif
