#include "client/ublk/plan.h"

#include <errno.h>

static int action_of(const struct ublksrv_io_desc *desc, enum ublk_action *out)
{
    switch (ublksrv_get_op(desc)) {
    case UBLK_IO_OP_READ:
        *out = UBLK_READS;
        return 0;
    case UBLK_IO_OP_WRITE:
        *out = UBLK_WRITES;
        return 0;
    case UBLK_IO_OP_FLUSH:
        *out = UBLK_FLUSHES;
        return 0;
    case UBLK_IO_OP_DISCARD:
        *out = UBLK_DISCARDS;
        return 0;
    case UBLK_IO_OP_WRITE_ZEROES:
        *out = desc->op_flags & UBLK_IO_F_NOUNMAP ? UBLK_ZEROES_WRITTEN : UBLK_ZEROES;
        return 0;
    default:
        return -EOPNOTSUPP;
    }
}

static bool moves(enum ublk_action action)
{
    return action == UBLK_READS || action == UBLK_WRITES;
}

int ublk_plan(const struct ublksrv_io_desc *desc, bool read_only, size_t room,
              struct ublk_plan *out)
{
    *out = (struct ublk_plan){0};
    int rc = action_of(desc, &out->action);
    if (rc != 0 || out->action == UBLK_FLUSHES)
        return rc;
    if (desc->start_sector > (uint64_t)INT64_MAX / UBLK_SECTOR - desc->nr_sectors)
        return -EINVAL;
    out->offset = desc->start_sector * UBLK_SECTOR;
    out->len = (uint64_t)desc->nr_sectors * UBLK_SECTOR;
    if (moves(out->action) && (out->len == 0 || out->len > room))
        return -EINVAL;
    return read_only && out->action != UBLK_READS ? -EROFS : 0;
}

int32_t ublk_result(const struct ublk_plan *plan, ssize_t result)
{
    if (result == -ENOSPC || result == -EDQUOT)
        return -ENOSPC;
    if (result < 0)
        return result == -ENOMEM || result == -EOPNOTSUPP ? (int32_t)result : -EIO;
    if (!moves(plan->action))
        return 0;
    /* The image has become smaller meanwhile. */
    return (uint64_t)result == plan->len ? (int32_t)plan->len : -EIO;
}

unsigned ublk_pieces(const struct ublk_plan *plan, uint64_t unit, unsigned most)
{
    if (plan->len == 0)
        return 1;
    uint64_t n = (plan->offset + plan->len - 1) / unit - plan->offset / unit + 1;
    return n < most ? (unsigned)n : most;
}
