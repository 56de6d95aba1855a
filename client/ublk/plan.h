/*
 * What a request of ublk means for an image, and what the kernel is answered: pure, for tests.
 */
#ifndef LIMPET_CLIENT_UBLK_PLAN_H
#define LIMPET_CLIENT_UBLK_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/ublk/kernel.h"

enum { UBLK_SECTOR = 512 };

enum ublk_action {
    UBLK_READS,
    UBLK_WRITES,
    UBLK_FLUSHES,
    UBLK_DISCARDS,
    UBLK_ZEROES,        /* Space may be given back. */
    UBLK_ZEROES_WRITTEN /* It has to be kept. */
};

struct ublk_plan {
    enum ublk_action action;
    uint64_t offset, len; /* Bytes; a flush has none. */
};

/*
 * The description is copied by the caller, since the kernel's memory may change. room: bytes of the
 * request's buffer. 0, or a negative errno, which is the answer to the kernel.
 */
int ublk_plan(const struct ublksrv_io_desc *desc, bool read_only, size_t room,
              struct ublk_plan *out);

/* result: what the image has answered. What is committed: bytes, or a negative errno. */
int32_t ublk_result(const struct ublk_plan *plan, ssize_t result);

/* How many objects are asked, of `unit` bytes of the image each, and at most `most`. */
unsigned ublk_pieces(const struct ublk_plan *plan, uint64_t unit, unsigned most);

#endif
