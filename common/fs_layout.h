/*
 * Everything durable of file systems, and what clients and OSDs say to each other about it: names
 * of objects, keys of their maps, records, requests and answers of the methods "fs.*". It stands
 * here since both sides read it; client/fs/README.md has the whole, tests/golden/fs_records.hex the
 * bytes.
 *
 * A record is u8 version, u8 oldest version that may read it, u32 bytes that follow, fields
 * (little-endian). A reader skips what a newer version has added at the end, and refuses (-ENOEXEC)
 * a record whose oldest reader is newer than itself. Requests and answers are records, too.
 */
#ifndef LIMPET_COMMON_FS_LAYOUT_H
#define LIMPET_COMMON_FS_LAYOUT_H

#include "common/codec.h"

enum {
    FS_RECORD_VERSION = 6,
    FS_NAME_BYTES_MAX = 255,
    FS_TARGET_MAX = 4095,
    FS_XATTR_VALUE_MAX = 65536,
    FS_XATTRS_LIST_MAX = 65536, /* Bytes of the names of one inode's attributes. */
    FS_LINKS_MAX = 65000,
    FS_RANGES_MAX = 8, /* Of an inode: where its data may be. */
    FS_ORDER_MIN = 12, /* Bits of the size of data objects, and of stripe units. */
    FS_ORDER_MAX = 26,
    FS_STRIPES_MAX = 256,
    FS_RELAID_MAX = 65535,
    FS_INDEX_BITS = 24,
    FS_HOME_BITS = 40,
    FS_INDEX_DIR = 1, /* The inode of the directory whose entries the shard holds. */
    FS_INDEX_FIRST = 2,
    FS_KEY_MAX = 1 + 8 + FS_NAME_BYTES_MAX,
    FS_OBJECT_NAME_MAX = 64,
    FS_COOKIE_FIRST = 3, /* Of entries; 1 and 2 are those of "." and "..". */
    FS_PAGE_BYTES_MAX = 1 << 20,
    FS_PARTS_BITS = 4,
    FS_PARTS = 1 << FS_PARTS_BITS, /* Of a directory that was split. */
    FS_COOKIE_BITS = 60,
    FS_SPLIT_AT = 16384, /* Entries, unless the file system says something else. */
};

#define FS_ROOT     UINT64_C(1)
#define FS_SIZE_MAX ((UINT64_C(1) << 63) - 1)
/* In listings, entries of parts have places after those of the first shard. */
#define FS_COOKIE_PARTS (UINT64_C(1) << FS_COOKIE_BITS)

/* Errors of methods that clients do not show to programs. */
#define FS_MOVING  EUCLEAN  /* An operation over two objects is under way: wait, or complete it. */
#define FS_LEASED  EREMCHG  /* Somebody else has a lease that does not allow it. */
#define FS_CHANGED ERESTART /* Something is not as the request expected: look again. */
#define FS_SPLIT   EXFULL   /* The directory has parts, and this shard of it has no such name. */

/* ---- Numbers ---- */

static inline uint64_t fs_home(uint64_t ino)
{
    return ino >> FS_INDEX_BITS;
}

static inline uint32_t fs_index(uint64_t ino)
{
    return (uint32_t)(ino & ((1u << FS_INDEX_BITS) - 1));
}

static inline uint64_t fs_ino(uint64_t home, uint32_t index)
{
    return home << FS_INDEX_BITS | index;
}

/* The shard of a directory has the directory's own inode under one index. */
static inline bool fs_is_dir(uint64_t ino)
{
    return fs_index(ino) == FS_INDEX_DIR;
}

/* Where an entry stands in its shard: FS_COOKIE_BITS, at least FS_COOKIE_FIRST. */
uint64_t fs_cookie(const void *name, size_t len);

/* The part that an entry belongs to, of FS_PARTS. */
static inline unsigned fs_part_of(uint64_t cookie)
{
    return cookie >> (FS_COOKIE_BITS - FS_PARTS_BITS) & (FS_PARTS - 1);
}

/* ---- Keys; lengths are returned ---- */

enum fs_key {
    FS_KEY_SHARD = 's',
    FS_KEY_ENTRY = 'e',  /* u64 cookie, big-endian; name */
    FS_KEY_INODE = 'i',  /* u24 index, big-endian */
    FS_KEY_ORPHAN = 'o', /* u24 index */
    FS_KEY_LOCKS = 'l',  /* u24 index */
    FS_KEY_XATTR = 'x',  /* u24 index; name */
    FS_KEY_INTENT = 't', /* u64 instance, u64 sequence, big-endian */
    FS_KEY_MARK = 'm',   /* The same: its part here is done. */
};

size_t fs_entry_key(uint8_t out[FS_KEY_MAX], const void *name, size_t len);
size_t fs_cookie_key(uint8_t out[FS_KEY_MAX], uint64_t cookie);
size_t fs_index_key(uint8_t out[FS_KEY_MAX], enum fs_key kind, uint32_t index);
/* -EBADMSG: it is not of this kind. */
int fs_index_key_decode(const void *key, size_t len, enum fs_key kind, uint32_t *out) MUST_CHECK;
size_t fs_xattr_key(uint8_t out[FS_KEY_MAX], uint32_t index, const void *name, size_t len);

/* An operation over several objects: of which client, and its number there. 0, 0: none. */
struct fs_txid {
    uint64_t instance, sequence;
};

static inline bool fs_txid_equal(struct fs_txid a, struct fs_txid b)
{
    return a.instance == b.instance && a.sequence == b.sequence;
}

size_t fs_txid_key(uint8_t out[FS_KEY_MAX], enum fs_key kind, struct fs_txid tx);
/* -EBADMSG */
int fs_txid_key_decode(const void *key, size_t len, struct fs_txid *out) MUST_CHECK;

/* ---- Records ---- */

struct fs_bytes {
    const uint8_t *data;
    uint16_t len;
};

/* Data objects [first, last] of a file may exist. */
struct fs_range {
    uint64_t first, last;
};

/* Extended attributes that an inode may have: what is not said here is not there. */
enum fs_attributes {
    FS_ATTRIBUTES_ANY = 1,
    FS_ATTRIBUTES_ACCESS = 2,  /* A list of who may do what: common/posix_acl.h. */
    FS_ATTRIBUTES_DEFAULT = 4, /* Of a directory: the one that is inherited. */
    FS_ATTRIBUTES_END = 8,
};

/*
 * How a file is cut into objects: units of 2^unit_order bytes go to `stripes` objects in turn,
 * until these are full: a set. Then the next set begins. With one stripe, units say nothing. That
 * is the layout of Ceph's files (stripe_unit, stripe_count, object_size).
 */
struct fs_layout {
    uint8_t order; /* Bits of the size of objects. */
    uint8_t unit_order;
    uint16_t stripes;
    uint64_t pool; /* 0: the file system's. */
};

static inline struct fs_layout fs_layout_plain(uint8_t order, uint64_t pool)
{
    return (struct fs_layout){.order = order, .unit_order = order, .stripes = 1, .pool = pool};
}

bool fs_layout_is_sane(const struct fs_layout *layout);

/* Where a byte of a file is: of which object, and how many more follow it there. */
struct fs_place {
    uint64_t number, offset, len;
};

struct fs_place fs_place_of(const struct fs_layout *layout, uint64_t at);
/* Bytes of a set of objects. */
uint64_t fs_set_bytes(const struct fs_layout *layout);
/* The objects [*first, *last] hold `len` bytes from `offset` on, and perhaps others. */
void fs_objects_of(const struct fs_layout *layout, uint64_t offset, uint64_t len, uint64_t *first,
                   uint64_t *last);
/* Where the first byte of an object stands in the file. */
uint64_t fs_object_start(const struct fs_layout *layout, uint64_t number);
/* How much of an object the first `size` bytes of the file take: all before that, nothing after. */
uint64_t fs_object_bytes(const struct fs_layout *layout, uint64_t number, uint64_t size);
/* The number after that of the last object with something of the first `size` bytes. */
uint64_t fs_objects_end(const struct fs_layout *layout, uint64_t size);

struct fs_inode {
    uint64_t ino; /* Not in the record, but in answers. */
    uint32_t mode, uid, gid, links;
    uint32_t rdev; /* As the kernel's interface has it: 12 bits major, 20 bits minor. */
    uint32_t generation;
    uint64_t size;
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
    uint64_t change;         /* One more with each change. */
    struct fs_layout layout; /* Of a directory: of what is made in it. */
    uint16_t relaid;         /* So often the layout of the file was changed, while it was empty. */
    uint8_t dying;           /* Of a directory that is being removed: no entries any more. */
    uint8_t attributes;      /* enum fs_attributes */
    uint8_t nameless;        /* It was made without a name: a link may give it its first one. */
    uint64_t parent;         /* Of a directory; of a part, the directory that it is of. */
    uint64_t parts;          /* Of a directory that was split: the home of the first part. */
    uint8_t part;            /* It is no directory, but the part of one: its number + 1. */
    uint64_t realm; /* The directory whose quota and snapshots count here; 0: none. Not used yet. */
    struct fs_txid busy; /* A truncation, or a removal: who works on it. */
    uint16_t n_ranges;
    struct fs_range ranges[FS_RANGES_MAX]; /* Ascending, apart. */
    struct fs_bytes target;                /* Of a symbolic link. */
};

struct fs_entry {
    uint64_t ino;
    uint8_t type; /* As in a mode: S_IFMT >> 12. */
    struct fs_txid moving;
};

struct fs_shard {
    uint64_t births; /* Inodes that were made here, ever. */
};

enum fs_intent_kind {
    /* The entry `name` goes, and `to`, if it is there, takes its place; before, the inode `ino`,
     * elsewhere, has one link less. */
    FS_INTENT_DROP = 1,
    FS_INTENT_LINK = 2, /* The inode, here, has one link more: the entry is to be made elsewhere. */
    FS_INTENT_MOVE = 3, /* The entry is to move elsewhere. */
    FS_INTENT_SWAP = 4, /* The same, against the one that is there. */
    FS_INTENTS_END,
};

struct fs_intent {
    uint8_t kind;
    uint8_t type; /* Of what ino is. */
    uint64_t ino;
    uint64_t to_dir, to_ino; /* Another directory, and what it has under that name. */
    uint8_t to_type;
    struct fs_bytes name, to;
};

enum fs_lock_type { FS_LOCK_SHARED = 1, FS_LOCK_EXCLUSIVE = 2 };

/* Bytes [start, end] of a file; owners are the client's business. */
struct fs_lock {
    uint64_t instance, owner;
    uint32_t pid;
    bool exclusive, whole;
    uint64_t start, end;
};

enum { FS_LOCKS_MAX = 4096 };

/* Of one inode. */
struct fs_locks {
    bool waited_for;
    uint32_t n;
    struct fs_lock list[FS_LOCKS_MAX];
};

/* Encoders that are asked for too much fail as all encoders do. */
void fs_inode_encode(struct encoder *e, const struct fs_inode *inode);
void fs_entry_encode(struct encoder *e, const struct fs_entry *entry);
void fs_shard_encode(struct encoder *e, const struct fs_shard *shard);
void fs_intent_encode(struct encoder *e, const struct fs_intent *intent);
void fs_locks_encode(struct encoder *e, const struct fs_locks *locks);

/*
 * -EBADMSG: it is none, or makes no sense; -ENOEXEC: it is of a newer version. Strings point into
 * what is decoded.
 */
int fs_inode_decode(const void *data, size_t len, struct fs_inode *out) MUST_CHECK;
int fs_entry_decode(const void *data, size_t len, struct fs_entry *out) MUST_CHECK;
int fs_shard_decode(const void *data, size_t len, struct fs_shard *out) MUST_CHECK;
int fs_intent_decode(const void *data, size_t len, struct fs_intent *out) MUST_CHECK;
int fs_locks_decode(const void *data, size_t len, struct fs_locks *out) MUST_CHECK;

/* The file system itself: a pair of the object FS_DIRECTORY, under its name. */
#define FS_DIRECTORY "limpet_fs"
#define FS_SUPER     "super"

struct fs_super {
    uint64_t id;        /* Its objects are in the namespace "fs." and this, in hexadecimal. */
    uint64_t data_pool; /* 0: the same pool. */
    uint8_t order;
    uint32_t split_at; /* Entries of a directory's first shard; then it is split. */
    int64_t created_ns;
    bool removing;
};

void fs_super_encode(struct encoder *e, const struct fs_super *super);
int fs_super_decode(const void *data, size_t len, struct fs_super *out) MUST_CHECK;

void fs_shard_object(uint64_t home, char out[FS_OBJECT_NAME_MAX]);
/*
 * `contents` tells those of one life, and one layout, of an inode from all others: what was on its
 * way to a file whose layout was changed never is taken for something else.
 */
void fs_data_object(uint64_t ino, uint64_t contents, uint64_t number, char out[FS_OBJECT_NAME_MAX]);

static inline uint64_t fs_contents_of(const struct fs_inode *inode)
{
    return (uint64_t)inode->relaid << 32 | inode->generation;
}

/* Adds objects to those where data may be; returns whether that changed anything. */
bool fs_ranges_add(struct fs_inode *inode, uint64_t first, uint64_t last);
/* Only objects before `end` are left. */
void fs_ranges_cut(struct fs_inode *inode, uint64_t end);

/* ---- Requests and answers of methods ---- */

/* Inodes of one request to reap. */
enum { FS_REAP_MAX = 64 };

enum fs_request_flags {
    FS_EXCLUSIVE = 1,      /* create, attribute: -EEXIST when it is there. */
    FS_DIRECTORY_IS = 2,   /* unlink: it is one, or must be one. */
    FS_NO_REPLACE = 4,     /* rename, enter */
    FS_SWAP = 8,           /* rename: exchange */
    FS_UNDO = 16,          /* dying, moved, links: take it back. */
    FS_APPEND = 32,        /* wrote: at the end. */
    FS_PLUS = 64,          /* list: with inodes. */
    FS_INTENT = 128,       /* links: write the intent instead of the mark. */
    FS_REPLACE = 256,      /* attribute: -ENODATA when it is not there. */
    FS_COUNT = 512,        /* enter: the inode is here, and has a link more. */
    FS_UNNAMED = 1024,     /* create: an orphan, without an entry. */
    FS_WHOLE = 8192,       /* lock: of the whole file, as flock(2) has them. */
    FS_WAITS = 4096,       /* lock: it will be asked for again. */
    FS_KILL_PRIV = 16384,  /* wrote: set-user-id and set-group-id go. */
    FS_WRITES = 2048,      /* create: its first data object may come at once. */
    FS_KILL_GROUP = 32768, /* xset, of an access list: set-group-id goes. */
    FS_BEHIND = 65536,     /* wrote: contents may lie beyond the size as long as `tx` is busy. */
    FS_EMPTIED = 131072,   /* reap: their contents are gone. */
    FS_FLAGS_END = 262144,
};

enum fs_set {
    FS_SET_MODE = 1,
    FS_SET_UID = 2,
    FS_SET_GID = 4,
    FS_SET_SIZE = 8,
    FS_SET_ATIME = 16,
    FS_SET_MTIME = 32,
    FS_SET_CTIME = 64,
    FS_SET_ATIME_NOW = 128,
    FS_SET_MTIME_NOW = 256,
    FS_SET_PARENT = 512,
    FS_SET_TRIMMED = 1024, /* The truncation of `tx` is over. */
    FS_SET_END = 2048,
};

/* One form for all of them; what a method does not use is 0. */
struct fs_request {
    uint32_t flags; /* enum fs_request_flags */
    uint32_t set;   /* enum fs_set */
    uint64_t ino;
    uint8_t type;
    uint64_t expect;    /* What `name` is; 0: anything. */
    uint64_t expect_to; /* What `to` is; 0: nothing, or what may be replaced without more ado. */
    uint64_t offset, len;
    uint32_t full_mode; /* create: the mode where the directory's default list has the say. */
    struct fs_txid tx;
    struct fs_bytes name, to;
    struct fs_inode inode;
    struct fs_intent intent;
};

struct fs_answer {
    uint32_t flags; /* enum fs_answer_flags */
    uint64_t ino;
    uint8_t type;
    uint64_t offset;
    /* Of the shard's directory, if the method has changed that; else 0. */
    uint64_t dir_change;
    int64_t dir_mtime_ns;
    uint32_t dir_links;
    struct fs_inode inode; /* With FS_HAS_INODE. */
};

enum fs_answer_flags {
    FS_HAS_INODE = 1,
    FS_EXISTED = 2,  /* create: there was one. */
    FS_ORPHANED = 4, /* `inode` has no links any more. */
    FS_DROPPED = 8,  /* An intent to take a link from `ino`, elsewhere, stands. */
};

void fs_request_encode(struct encoder *e, const struct fs_request *request);
void fs_answer_encode(struct encoder *e, const struct fs_answer *answer);
int fs_request_decode(const void *data, size_t len, struct fs_request *out) MUST_CHECK;
int fs_answer_decode(const void *data, size_t len, struct fs_answer *out) MUST_CHECK;

/* A listing: u8 of these flags, u64 home of the first part if there are any, records of fs_listed.
 */
enum fs_list_flags {
    FS_LIST_MORE = 1,
    FS_LIST_NAMELESS = 2, /* From the beginning: the shard has inodes without a name. */
};

enum { FS_LIST_HEAD = 1 + 8 };

struct fs_list_head {
    uint8_t flags;
    uint64_t parts;
};

/* At the beginning of what was made for it, also later. */
void fs_list_head_put(struct encoder *e, struct fs_list_head head);
struct fs_list_head fs_list_head_decode(struct decoder *d);

struct fs_listed {
    uint64_t cookie;
    uint64_t ino;
    uint8_t type;
    bool has_inode;
    struct fs_inode inode;
    struct fs_bytes name;
};

/* A change of one record, as "fs.apply" takes them, one after the other. */
struct fs_change {
    bool removed;
    bool grows; /* It needs room: of a full cluster it is refused. */
    const uint8_t *key, *value;
    uint16_t key_len;
    uint32_t len;
};

void fs_change_encode(struct encoder *e, const struct fs_change *change);
/* The next one of a decoder; -ENOENT: there are no more; -EBADMSG. */
int fs_change_next(struct decoder *d, struct fs_change *out) MUST_CHECK;

void fs_listed_encode(struct encoder *e, const struct fs_listed *listed);
/* The same with an inode's record as it is stored. */
void fs_listed_encode_record(struct encoder *e, const struct fs_listed *listed, const void *record,
                             size_t len);
/* The next one of a decoder; -ENOENT: there are no more. */
int fs_listed_next(struct decoder *d, struct fs_listed *out) MUST_CHECK;
/* The same, without what its inode says: `inode` is not touched, and may be anything. */
int fs_listed_skim(struct decoder *d, struct fs_listed *out) MUST_CHECK;

#endif
