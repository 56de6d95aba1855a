/*
 * Fixed structs of the wire: the frame header and the messages of the data path.
 *
 * All integers are little-endian; structs are packed, sized by static assertions and covered by
 * golden-bytes tests. Everything off the data path is protobuf: common/limpet.proto.
 */
#ifndef LIMPET_COMMON_WIRE_LAYOUT_H
#define LIMPET_COMMON_WIRE_LAYOUT_H

#include <assert.h>
#include <endian.h>
#include <stdint.h>

#define WIRE_PACKED __attribute__((packed))

static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "the wire structs are read in place");

/* ---- Frames ---- */

#define WIRE_FRAME_MAGIC UINT32_C(0x3146504c) /* "LPF1" */
#define WIRE_TAG_BYTES   16

/*
 * Followed by the tag of WIRE_TAG_BYTES (encrypted: a second one before it, of the payload),
 * body_len bytes of body and payload_len of payload. See common/frame.h.
 */
struct WIRE_PACKED wire_frame {
    uint32_t magic;
    uint16_t type; /* enum message_type, or a control frame of the messenger. */
    uint16_t flags;
    uint32_t body_len;
    uint32_t payload_len;
    uint64_t sequence;   /* Of the session; 0 for control frames. */
    uint64_t received;   /* Highest sequence that the sender of this frame has taken in. */
    uint32_t reserved;   /* Zero. */
    uint32_t header_crc; /* crc32c of the bytes before it: catches a damaged length early. */
};
static_assert(sizeof(struct wire_frame) == 40, "wire_frame");

/* ---- Pings ---- */

struct WIRE_PACKED wire_ping {
    uint64_t stamp_ns; /* The sender's clock; the reply returns it. */
    uint64_t epoch;    /* Map epoch of the sender of this message. */
    /* Reply of an OSD to an OSD: the lease that it grants, from the stamp on; 0: none. */
    uint64_t lease_ns;
};
static_assert(sizeof(struct wire_ping) == 24, "wire_ping");

/* ---- Client operations ---- */

/* Versions only grow: configuration number first, then position in the PG's log. */
struct WIRE_PACKED wire_version {
    uint64_t config;
    uint64_t sequence;
};
static_assert(sizeof(struct wire_version) == 16, "wire_version");

enum wire_osd_op_flags {
    WIRE_OP_WRITE = 1, /* Some operation changes the object (or the PG). */
    WIRE_OP_PG = 2,    /* Addresses a placement group, not an object: list. */
    /*
     * Keeps account of who looks at an object or of what is being removed: OSDs that are full take
     * it from their reserve, as far as it is small and makes no object, nor one longer.
     */
    WIRE_OP_FULL_TRY = 4,
};

/*
 * Followed in the body by the encoded object_id (encode_object_id; for WIRE_OP_PG only the pool and
 * hash are meaningful), by n_ops wire_op, and by n_snaps u64. The write data of all ops is the
 * payload.
 */
struct WIRE_PACKED wire_osd_op {
    uint64_t client; /* Instance of the client process: with tid it names the request. */
    uint64_t tid;
    /*
     * Of a write: the client waits for no write to this placement group with a smaller tid, and
     * never sends one again. 0: it does not say.
     */
    uint64_t oldest;
    uint64_t epoch; /* The client's map. */
    uint64_t pool;
    uint32_t pg_seed;
    uint32_t flags;
    uint32_t attempt; /* 0 first, counts resends. */
    uint16_t n_ops;
    uint16_t n_snaps; /* Of a write: the snapshots of its context, newest first. */
    uint64_t age_ns;  /* So long ago it was sent for the first time; 0: it has not been. */
    /* Of a write: what the object's time of change shall be; 0: the primary's clock. */
    uint64_t mtime_ns;
    /*
     * Of a read: the snapshot that it looks at; 0: the object itself. Of a write: the newest
     * snapshot that the client knows of; 0: none. Pools with snapshots of their own have that in
     * the map.
     */
    uint64_t snap;
};
static_assert(sizeof(struct wire_osd_op) == 80, "wire_osd_op");

enum { WIRE_OPS_MAX = 64, WIRE_SNAPS_MAX = 512 };

/*
 * What a step does, with its parameters, `-> ` what it returns. "data" is what of the payload
 * belongs to it. Strings inside data are preceded by their length: string16 by a u16, string32 by a
 * u32. Numbers are the wire's: never reuse one. osd/ops/README.md tells what they mean.
 */
enum wire_op_code {
    WIRE_OP_CODE_READ = 1,       /* offset, length (0: to the end) -> data */
    WIRE_OP_CODE_STAT = 2,       /* -> wire_stat */
    WIRE_OP_CODE_WRITE_AT = 3,   /* offset, data */
    WIRE_OP_CODE_WRITE_FULL = 4, /* data replaces the object */
    WIRE_OP_CODE_APPEND = 5,     /* data */
    WIRE_OP_CODE_TRUNCATE = 6,   /* offset: the new size */
    WIRE_OP_CODE_REMOVE = 7,
    WIRE_OP_CODE_CREATE = 8, /* length 1: exclusive */
    WIRE_OP_CODE_LIST = 9,   /* offset: enum wire_list, length: entries at most; data: string16
                                 namespace if asked for, encoded object_id to start after */
    /*
     * What scrubs of the placement group found: as LIST; the result is a packed PgInconsistentList.
     * -ENODATA: the primary does not know, since it was not the primary at the last scrub.
     */
    WIRE_OP_CODE_INCONSISTENT = 10,
    WIRE_OP_CODE_ZERO = 11,        /* offset, length */
    WIRE_OP_CODE_SPARSE_READ = 12, /* offset, length -> u32 n, n times u64 offset, length; data */
    WIRE_OP_CODE_CHECKSUM = 13,    /* offset, length; data: wire_checksum -> u32 n, n values */
    WIRE_OP_CODE_COMPARE_EXTENT = 14, /* offset, data */
    WIRE_OP_CODE_ASSERT_EXISTS = 15,
    WIRE_OP_CODE_ASSERT_VERSION = 16, /* offset: the sequence of the version */
    WIRE_OP_CODE_HINT = 17,           /* offset: expected size; length: expected size of writes */
    WIRE_OP_CODE_WRITE_SAME = 18,     /* offset, length; data: the pattern */
    /* Where it may have anything but zeroes: offset, length -> u32 n, n times u64 offset, length */
    WIRE_OP_CODE_EXTENTS = 19,
    WIRE_OP_CODE_ATTR_GET = 20,        /* data: name -> value */
    WIRE_OP_CODE_ATTR_LIST = 21,       /* -> u32 n, n times string16 name, string32 value */
    WIRE_OP_CODE_ATTR_COMPARE = 22,    /* offset: enum wire_compare, length: of the name; data:
                                           name, then the value (of numbers: a u64) */
    WIRE_OP_CODE_ATTR_SET = 23,        /* length: of the name; data: name, then the value */
    WIRE_OP_CODE_ATTR_REMOVE = 24,     /* data: name */
    WIRE_OP_CODE_OMAP_LIST = 30,       /* offset: enum wire_omap_list, length: pairs at most; data:
                                           string16 after, string16 prefix -> u8 more, pairs */
    WIRE_OP_CODE_OMAP_GET = 31,        /* data: string16 key ... -> those pairs that there are */
    WIRE_OP_CODE_OMAP_GET_HEADER = 32, /* -> header */
    WIRE_OP_CODE_OMAP_COMPARE = 33,    /* data: string16 key, u8 enum wire_compare, string32 value
                                           ... */
    WIRE_OP_CODE_OMAP_SET = 34,        /* data: string16 key, string32 value ... */
    WIRE_OP_CODE_OMAP_SET_HEADER = 35, /* data */
    WIRE_OP_CODE_OMAP_REMOVE = 36,     /* data: string16 key ... */
    WIRE_OP_CODE_OMAP_REMOVE_RANGE = 37, /* data: string16 from, string16 to (not included) */
    WIRE_OP_CODE_OMAP_CLEAR = 38,
    WIRE_OP_CODE_CALL = 40,     /* data: string16 method, then its input -> its output */
    WIRE_OP_CODE_ROLLBACK = 45, /* offset: the snapshot; the last step of its request */
    /*
     * Of the head, or one that was removed and has clones -> u64 snap_seq, u8 whether the head
     * exists, u64 its size, u32 n, n times (ascending): u64 clone, u64 size, u32 m, m times u64
     * snap (descending), u32 k, k times u64 offset, u64 length: what it shares with the next.
     */
    WIRE_OP_CODE_LIST_SNAPS = 46,
    /* Of the caller's instance and a cookie; osd/ops/README.md, "Watches, notifies, leases". */
    WIRE_OP_CODE_WATCH = 50,         /* length: cookie; data: wire_watch */
    WIRE_OP_CODE_UNWATCH = 51,       /* length: cookie */
    WIRE_OP_CODE_WATCH_CONNECT = 52, /* length: cookie -> u64 life of the group's service */
    WIRE_OP_CODE_WATCH_LIST = 53,    /* -> u32 n, n watchers (osd/ops/watch.h) */
    /*
     * Stands alone. offset: enum wire_notify, length: milliseconds; data: what is told, or of a
     * recall wire_recall -> u32 n, n times u64 instance, cookie, string32 answer; u32 n, n times
     * u64 instance, cookie of those that did not answer.
     */
    WIRE_OP_CODE_NOTIFY = 54,
    WIRE_OP_CODE_NOTIFY_ACK = 55, /* data: wire_notify_ack, then the answer */
    /* Of the group: all watches of this session live -> u64 life of the group's service. */
    WIRE_OP_CODE_WATCH_PING = 56,
    /* length: cookie; offset: enum wire_lease that is held at least, or NONE: a watch. */
    WIRE_OP_CODE_WATCH_ASSERT = 57,
    /* Of a primary to itself. offset: instance, length: cookie */
    WIRE_OP_CODE_WATCH_EVICT = 58,
};

enum wire_lease {
    WIRE_LEASE_NONE = 0, /* A watch. */
    WIRE_LEASE_SHARED = 1,
    WIRE_LEASE_EXCLUSIVE = 2,
    /* As exclusive, and nobody gets it from a process that does not end it before that is blocked.
     */
    WIRE_LEASE_FENCED = 3,
};

/* Time-outs of watches: of who does not say, and what others are made fit to. */
#define WIRE_WATCH_TIMEOUT_MS     30000u
#define WIRE_WATCH_TIMEOUT_MIN_MS 1000u
/* How long a watch lasts whose owner's system has ended the connection, if none comes again. */
#define WIRE_WATCH_HUNG_UP_MS     2000u
#define WIRE_WATCH_TIMEOUT_MAX_MS 600000u
/* So long has the owner of a fenced lease that lives to give it back, at least. */
#define WIRE_FENCE_PATIENCE_MS 60000u
/* Of notifies, likewise. */
#define WIRE_NOTIFY_TIMEOUT_MS     10000u
#define WIRE_NOTIFY_TIMEOUT_MAX_MS 600000u
#define WIRE_NOTIFY_BYTES_MAX      (1024u * 1024) /* What is told. */
#define WIRE_NOTIFY_ANSWER_MAX     (64u * 1024)   /* What one watcher answers. */

struct WIRE_PACKED wire_watch {
    uint32_t timeout_ms; /* 0: the default. */
    uint32_t mode;       /* enum wire_lease */
};
static_assert(sizeof(struct wire_watch) == 8, "wire_watch");

enum wire_notify {
    WIRE_NOTIFY = 0, /* To all watchers, leases among them. */
    WIRE_RECALL = 1, /* To whose leases are in the way. */
};

struct WIRE_PACKED wire_recall {
    uint64_t cookie; /* Of who wants the lease. */
    uint32_t mode;   /* enum wire_lease */
    uint32_t reserved;
};
static_assert(sizeof(struct wire_recall) == 16, "wire_recall");

/* A notify is named by its sender's instance and the tid of its request. */
struct WIRE_PACKED wire_notify_ack {
    uint64_t notifier;
    uint64_t notify_id;
    uint64_t cookie; /* Of the watch that answers. */
};
static_assert(sizeof(struct wire_notify_ack) == 24, "wire_notify_ack");

enum wire_watch_event_kind {
    WIRE_WATCH_NOTIFIED = 1, /* The payload is what is told. */
    WIRE_WATCH_RECALLED = 2, /* mode: what somebody else wants. */
    /* The watch may be gone: whoever has it connects again, and learns what is true. */
    WIRE_WATCH_DOUBTFUL = 3,
};

/* MSG_WATCH_EVENT: a primary to whom a watch is connected. */
struct WIRE_PACKED wire_watch_event {
    uint64_t cookie;
    uint64_t notifier;
    uint64_t notify_id;
    uint32_t kind; /* enum wire_watch_event_kind */
    uint32_t mode; /* enum wire_lease */
};
static_assert(sizeof(struct wire_watch_event) == 32, "wire_watch_event");

enum wire_op_step_flags {
    WIRE_STEP_FAIL_OK = 1, /* An error of this step is told, and the operation goes on. */
};

/*
 * Of attributes: whether what is given is (equal to, greater than, ...) what the object has. Of a
 * map the other way round, as librados has it: whether what the object has is ... what is given.
 */
enum wire_compare {
    WIRE_COMPARE_EQUAL = 1,
    WIRE_COMPARE_NOT_EQUAL = 2,
    WIRE_COMPARE_GREATER = 3,
    WIRE_COMPARE_GREATER_EQUAL = 4,
    WIRE_COMPARE_LESS = 5,
    WIRE_COMPARE_LESS_EQUAL = 6,
    WIRE_COMPARE_NUMBERS = 256, /* Added: a u64 with an attribute of decimal digits. */
};

enum wire_list {
    WIRE_LIST_ONE_SPACE = 1, /* Objects of one namespace alone. */
    WIRE_LIST_KEPT = 2,      /* Such too that are gone, and that snapshots still show. */
};

enum wire_omap_list {
    WIRE_OMAP_KEYS_ONLY = 1, /* Keys without values. */
};

enum wire_checksum_type {
    WIRE_CHECKSUM_XXHASH32 = 0,
    WIRE_CHECKSUM_XXHASH64 = 1,
    WIRE_CHECKSUM_CRC32C = 2,
};

struct WIRE_PACKED wire_checksum {
    uint32_t type;
    uint32_t chunk; /* One value for each so many bytes; 0: for all. */
    uint64_t init;
};
static_assert(sizeof(struct wire_checksum) == 16, "wire_checksum");

/*
 * The result of a COMPARE_EXTENT that found another byte at `at` of its data: -WIRE_MISMATCH - at,
 * which no error number comes near. Callers of the library see -4095 - at, as librados has it.
 */
#define WIRE_MISMATCH (1 << 30)

/* data_len bytes of the payload belong to this op; ops take theirs in turn. */
struct WIRE_PACKED wire_op {
    uint16_t code;  /* enum wire_op_code */
    uint16_t flags; /* enum wire_op_step_flags */
    uint32_t data_len;
    uint64_t offset;
    uint64_t length;
};
static_assert(sizeof(struct wire_op) == 24, "wire_op");

/*
 * Followed in the body by n_ops wire_op_result. The read data of all ops is the payload.
 * result -ELIMPET_NEWER_MAP or -ELIMPET_NOT_PRIMARY: follow the map to `epoch` and send again.
 */
struct WIRE_PACKED wire_osd_op_reply {
    uint64_t tid;
    uint64_t epoch; /* The OSD's map. */
    struct wire_version version;
    int32_t result; /* 0 or the negative errno of the first op that failed. */
    uint16_t n_ops;
    uint16_t flags; /* WIRE_REPLY_* */
};
static_assert(sizeof(struct wire_osd_op_reply) == 40, "wire_osd_op_reply");

enum {
    /*
     * Somebody was blocked since the map of the request: whoever relies on the answer sends nothing
     * before he knows the map `epoch`, so that no OSD that he asks executes what comes late of who
     * was blocked.
     */
    WIRE_REPLY_FENCED = 1,
};

struct WIRE_PACKED wire_op_result {
    int32_t result;
    uint32_t data_len;
};
static_assert(sizeof(struct wire_op_result) == 8, "wire_op_result");

struct WIRE_PACKED wire_stat {
    uint64_t size;
    uint64_t mtime_ns; /* Wall clock of the primary at the last change. */
};
static_assert(sizeof(struct wire_stat) == 16, "wire_stat");

/*
 * The data of a LIST result: u32 count, then for each object its encoded object_id; then u8 end: 1
 * when nothing follows in the group; else the encoded object_id behind which to go on. There may be
 * no objects, and more behind. common/object_page.h reads it.
 */

/* ---- Replication ---- */

enum wire_rep_flags {
    WIRE_REP_LOG_ONLY = 1, /* A learner that has not reached the object yet gets the entry alone. */
    /* The operations, too many for a body, are the last txn_len bytes of the payload. */
    WIRE_REP_OPS_IN_PAYLOAD = 2,
};

/*
 * Primary to member. Followed in the body by log_len bytes: the log entry (osd/pg), then by txn_len
 * bytes (see the flags): the store transaction's operations (osd/store/txn_layout.h), whose data is
 * the payload.
 */
struct WIRE_PACKED wire_rep_txn {
    uint64_t pool;
    uint32_t pg_seed;
    uint32_t flags;
    uint64_t config; /* The configuration number under which the primary acts. */
    struct wire_version version;
    uint64_t epoch;     /* The primary's map. */
    uint64_t committed; /* All entries up to this sequence are durable on every member. */
    uint32_t log_len;
    uint32_t txn_len;
};
static_assert(sizeof(struct wire_rep_txn) == 64, "wire_rep_txn");

/* Member to primary: everything up to `sequence` is durable here; or a refusal by result. */
struct WIRE_PACKED wire_rep_ack {
    uint64_t pool;
    uint32_t pg_seed;
    int32_t result; /* 0, -ELIMPET_STALE_CONFIG, ... */
    uint64_t config;
    uint64_t sequence;
    uint64_t epoch; /* The member's map. */
    uint32_t flags; /* enum wire_rep_ack_flags */
    uint32_t reserved;
    /*
     * The entry with this sequence changed a part of something that the member's disk cannot read:
     * its copy of that object is damaged. 0: none did.
     */
    uint64_t damaged;
};
static_assert(sizeof(struct wire_rep_ack) == 56, "wire_rep_ack");

enum wire_rep_ack_flags {
    WIRE_REP_ACK_FULL = 1,    /* The member's store is so full that nothing should grow. */
    WIRE_REP_ACK_NO_ROOM = 2, /* It has nothing left but its reserve. */
    WIRE_REP_ACK_NO_TRY = 4,  /* And not enough of that for WIRE_OP_FULL_TRY. */
};

#endif
