/*
 * What NBD's clients and servers say to each other, as the project's document proto.md defines it
 * (github.com/NetworkBlockDevice/nbd): numbers, and what has a fixed length. All is big-endian.
 */
#ifndef LIMPET_CLIENT_NBD_LAYOUT_H
#define LIMPET_CLIENT_NBD_LAYOUT_H

#include <assert.h>
#include <stdint.h>

#define NBD_MAGIC         UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC  UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPTION_REPLY  UINT64_C(0x0003e889045565a9)
#define NBD_REQUEST_MAGIC UINT32_C(0x25609513)
#define NBD_SIMPLE_REPLY  UINT32_C(0x67446698)
#define NBD_CHUNK         UINT32_C(0x668e33ef)

/* Of the handshake; the client answers with the same bits. */
enum { NBD_FIXED_NEWSTYLE = 1 << 0, NBD_NO_ZEROES = 1 << 1 };

enum nbd_option {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
};

enum nbd_option_reply {
    NBD_REP_ACK = 1,
    NBD_REP_SERVER = 2,
    NBD_REP_INFO = 3,
    NBD_REP_META_CONTEXT = 4,
};
/* Bit 31 is set in replies that are errors. */
#define NBD_REP_ERR_UNSUP    UINT32_C(0x80000001)
#define NBD_REP_ERR_INVALID  UINT32_C(0x80000003)
#define NBD_REP_ERR_TLS_REQD UINT32_C(0x80000005)
#define NBD_REP_ERR_UNKNOWN  UINT32_C(0x80000006)

enum nbd_info { NBD_INFO_EXPORT = 0, NBD_INFO_NAME = 1, NBD_INFO_BLOCK_SIZE = 3 };

enum nbd_export_flag {
    NBD_FLAG_HAS_FLAGS = 1 << 0,
    NBD_FLAG_READ_ONLY = 1 << 1,
    NBD_FLAG_SEND_FLUSH = 1 << 2,
    NBD_FLAG_SEND_FUA = 1 << 3,
    NBD_FLAG_SEND_TRIM = 1 << 5,
    NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7,
    NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
    NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

enum nbd_command {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
};

enum nbd_command_flag {
    NBD_CMD_FLAG_FUA = 1 << 0,
    NBD_CMD_FLAG_NO_HOLE = 1 << 1,
    NBD_CMD_FLAG_DF = 1 << 2,
    NBD_CMD_FLAG_REQ_ONE = 1 << 3,
    NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
};

enum { NBD_CHUNK_DONE = 1 };
enum nbd_chunk {
    NBD_CHUNK_NONE = 0,
    NBD_CHUNK_OFFSET_DATA = 1,
    NBD_CHUNK_BLOCK_STATUS = 5,
    NBD_CHUNK_ERROR = (1 << 15) + 1,
};

/* States of base:allocation. */
enum { NBD_STATE_HOLE = 1 << 0, NBD_STATE_ZERO = 1 << 1 };

enum nbd_error {
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

struct nbd_greeting {
    uint64_t magic, option_magic;
    uint16_t flags;
} __attribute__((packed));
static_assert(sizeof(struct nbd_greeting) == 18, "as it is sent");

struct nbd_option_head {
    uint64_t magic;
    uint32_t option, len;
} __attribute__((packed));
static_assert(sizeof(struct nbd_option_head) == 16, "as it is sent");

struct nbd_option_reply_head {
    uint64_t magic;
    uint32_t option, reply, len;
} __attribute__((packed));
static_assert(sizeof(struct nbd_option_reply_head) == 20, "as it is sent");

struct nbd_request_head {
    uint32_t magic;
    uint16_t flags, command;
    uint64_t cookie, offset;
    uint32_t len;
} __attribute__((packed));
static_assert(sizeof(struct nbd_request_head) == 28, "as it is sent");

struct nbd_simple_reply {
    uint32_t magic, error;
    uint64_t cookie;
} __attribute__((packed));
static_assert(sizeof(struct nbd_simple_reply) == 16, "as it is sent");

struct nbd_chunk_head {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t cookie;
    uint32_t len;
} __attribute__((packed));
static_assert(sizeof(struct nbd_chunk_head) == 20, "as it is sent");

struct nbd_extent {
    uint32_t len, state;
} __attribute__((packed));
static_assert(sizeof(struct nbd_extent) == 8, "as it is sent");

#endif
