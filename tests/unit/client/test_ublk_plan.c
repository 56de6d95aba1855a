#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "client/ublk/plan.h"

enum { ROOM = 512 << 10 };

static struct ublk_plan plan;

static int ask(unsigned op, uint64_t sector, uint32_t sectors, bool read_only)
{
    const struct ublksrv_io_desc desc = {
        .op_flags = op, .start_sector = sector, .nr_sectors = sectors};
    return ublk_plan(&desc, read_only, ROOM, &plan);
}

static void sectors_become_bytes(void **state)
{
    (void)state;
    assert_int_equal(ask(UBLK_IO_OP_READ, 3, 8, false), 0);
    assert_int_equal(plan.action, UBLK_READS);
    assert_int_equal(plan.offset, 3 * 512);
    assert_int_equal(plan.len, 4096);
    /* Beyond 4 GiB, and beyond 2 TiB. */
    assert_int_equal(ask(UBLK_IO_OP_WRITE, 1ULL << 33, 1, false), 0);
    assert_int_equal(plan.action, UBLK_WRITES);
    assert_true(plan.offset == 1ULL << 42);
    assert_int_equal(plan.len, 512);
}

static void flags_are_no_part_of_the_operation(void **state)
{
    (void)state;
    assert_int_equal(
        ask(UBLK_IO_OP_WRITE | UBLK_IO_F_FUA | UBLK_IO_F_META | UBLK_IO_F_SWAP, 0, 1, false), 0);
    assert_int_equal(plan.action, UBLK_WRITES);
    assert_int_equal(ask(UBLK_IO_OP_FLUSH, 0, 0, true), 0);
    assert_int_equal(plan.action, UBLK_FLUSHES);
    assert_int_equal(plan.len, 0);
}

static void zeroes_keep_their_space_when_told(void **state)
{
    (void)state;
    assert_int_equal(ask(UBLK_IO_OP_WRITE_ZEROES, 8, 65536, false), 0);
    assert_int_equal(plan.action, UBLK_ZEROES);
    assert_int_equal(plan.len, 32 << 20);
    assert_int_equal(ask(UBLK_IO_OP_WRITE_ZEROES | UBLK_IO_F_NOUNMAP, 8, 65536, false), 0);
    assert_int_equal(plan.action, UBLK_ZEROES_WRITTEN);
    assert_int_equal(ask(UBLK_IO_OP_DISCARD | UBLK_IO_F_NOUNMAP, 8, 65536, false), 0);
    assert_int_equal(plan.action, UBLK_DISCARDS);
}

static void refuses_what_changes_a_device_that_is_only_read(void **state)
{
    (void)state;
    assert_int_equal(ask(UBLK_IO_OP_WRITE, 0, 1, true), -EROFS);
    assert_int_equal(ask(UBLK_IO_OP_DISCARD, 0, 1, true), -EROFS);
    assert_int_equal(ask(UBLK_IO_OP_WRITE_ZEROES, 0, 1, true), -EROFS);
    assert_int_equal(ask(UBLK_IO_OP_READ, 0, 1, true), 0);
}

static void refuses_what_it_does_not_know(void **state)
{
    (void)state;
    assert_int_equal(ask(UBLK_IO_OP_WRITE_SAME, 0, 1, false), -EOPNOTSUPP);
    assert_int_equal(ask(0x7f, 0, 1, false), -EOPNOTSUPP);
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    assert_int_equal(ask(UBLK_IO_OP_READ, 0, ROOM / 512, false), 0);
    assert_int_equal(ask(UBLK_IO_OP_READ, 0, ROOM / 512 + 1, false), -EINVAL);
    assert_int_equal(ask(UBLK_IO_OP_WRITE, 0, UINT32_MAX, false), -EINVAL);
    assert_int_equal(ask(UBLK_IO_OP_WRITE, 0, 0, false), -EINVAL);
    assert_int_equal(ask(UBLK_IO_OP_READ, UINT64_MAX, 1, false), -EINVAL);
    assert_int_equal(ask(UBLK_IO_OP_DISCARD, UINT64_MAX / 512, UINT32_MAX, false), -EINVAL);
    assert_int_equal(ask(UBLK_IO_OP_DISCARD, INT64_MAX / 512, 1, false), -EINVAL);
    assert_int_equal(ask(UBLK_IO_OP_DISCARD, INT64_MAX / 512 - 1, 1, false), 0);
}

static void results_are_bytes_or_errors_of_a_disk(void **state)
{
    (void)state;
    assert_int_equal(ask(UBLK_IO_OP_READ, 0, 8, false), 0);
    assert_int_equal(ublk_result(&plan, 4096), 4096);
    /* The image has become smaller. */
    assert_int_equal(ublk_result(&plan, 512), -EIO);
    assert_int_equal(ublk_result(&plan, 0), -EIO);
    assert_int_equal(ublk_result(&plan, -ENOENT), -EIO);
    assert_int_equal(ublk_result(&plan, -ENOMEM), -ENOMEM);
    assert_int_equal(ublk_result(&plan, -EROFS), -EIO);
    assert_int_equal(ask(UBLK_IO_OP_WRITE, 0, 8, false), 0);
    assert_int_equal(ublk_result(&plan, -EDQUOT), -ENOSPC);
    assert_int_equal(ublk_result(&plan, -ENOSPC), -ENOSPC);
    assert_int_equal(ask(UBLK_IO_OP_DISCARD, 0, 8, false), 0);
    assert_int_equal(ublk_result(&plan, 0), 0);
    assert_int_equal(ublk_result(&plan, 4096), 0);
    assert_int_equal(ublk_result(&plan, -EOPNOTSUPP), -EOPNOTSUPP);
}

static void pieces_are_objects_touched(void **state)
{
    const uint64_t unit = 4 << 20;
    (void)state;
    assert_int_equal(ask(UBLK_IO_OP_FLUSH, 0, 0, false), 0);
    assert_int_equal(ublk_pieces(&plan, unit, 64), 1);
    assert_int_equal(ask(UBLK_IO_OP_READ, 8191, 1, false), 0);
    assert_int_equal(ublk_pieces(&plan, unit, 64), 1);
    assert_int_equal(ask(UBLK_IO_OP_READ, 8191, 2, false), 0);
    assert_int_equal(ublk_pieces(&plan, unit, 64), 2);
    assert_int_equal(ask(UBLK_IO_OP_DISCARD, 1, 65536, false), 0);
    assert_int_equal(ublk_pieces(&plan, unit, 64), 9);
    assert_int_equal(ublk_pieces(&plan, 4096, 64), 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sectors_become_bytes),
        cmocka_unit_test(flags_are_no_part_of_the_operation),
        cmocka_unit_test(zeroes_keep_their_space_when_told),
        cmocka_unit_test(refuses_what_changes_a_device_that_is_only_read),
        cmocka_unit_test(refuses_what_it_does_not_know),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(results_are_bytes_or_errors_of_a_disk),
        cmocka_unit_test(pieces_are_objects_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
