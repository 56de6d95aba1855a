/*
 * What <linux/fuse.h> has from version 7.42 on (Linux 6.14): requests of FUSE by io_uring. The
 * facts are those of the kernel's Documentation/filesystems/fuse-io-uring.rst and of its interface.
 *
 * Each possible processor has a queue. An entry of a queue is a header and a payload in our memory;
 * it is registered once, and comes back with a request. The answer is written to the same place and
 * committed, which asks for the next request.
 */
#ifndef LIMPET_CLIENT_CLI_FUSE_URING_H
#define LIMPET_CLIENT_CLI_FUSE_URING_H

#include <stdint.h>

enum {
    URING_INIT_FLAG = 1 << (41 - 32), /* In the second word of the flags of INIT, both ways. */
    URING_REGISTER = 1,               /* Commands. */
    URING_COMMIT_AND_FETCH = 2,
    URING_HEAD_BYTES = 128,
    URING_OPERATION_BYTES = 128,
    URING_COMMAND_AT = 48, /* In an SQE of 128 bytes. */
};

struct uring_header {
    uint8_t head[URING_HEAD_BYTES]; /* struct fuse_in_header; of the answer, fuse_out_header. */
    uint8_t operation[URING_OPERATION_BYTES]; /* What comes after it, but not in answers. */
    uint64_t flags;
    uint64_t commit_id; /* Of the request, for its answer. */
    uint32_t payload_bytes;
    uint32_t padding;
    uint64_t reserved;
};

struct uring_command {
    uint64_t flags;
    uint64_t commit_id;
    uint16_t queue;
    uint8_t padding[6];
};

_Static_assert(sizeof(struct uring_header) == 288, "as the kernel has it");
_Static_assert(sizeof(struct uring_command) == 24, "as the kernel has it");

#endif
