/* All kinds of steps in one table. */
#include "osd/ops/run.h"

enum {
    READS = STEP_READS,
    LOOKS = STEP_READS | STEP_LOOKS,
    LOOKS_FOR = STEP_READS | STEP_LOOKS | STEP_DATA,
    WRITES = STEP_WRITES,
    WRITES_DATA = STEP_WRITES | STEP_DATA,
};

static const struct step_kind kinds[] = {
    [WIRE_OP_CODE_READ] = {"read", LOOKS, NULL, step_read},
    [WIRE_OP_CODE_STAT] = {"stat", READS, NULL, step_stat},
    [WIRE_OP_CODE_WRITE_AT] = {"write", WRITES_DATA, NULL, step_write},
    [WIRE_OP_CODE_WRITE_FULL] = {"write_full", WRITES_DATA, NULL, step_write_full},
    [WIRE_OP_CODE_APPEND] = {"append", WRITES_DATA, NULL, step_append},
    [WIRE_OP_CODE_TRUNCATE] = {"truncate", WRITES, NULL, step_truncate},
    [WIRE_OP_CODE_REMOVE] = {"remove", WRITES, NULL, step_remove},
    [WIRE_OP_CODE_CREATE] = {"create", WRITES, NULL, step_create},
    [WIRE_OP_CODE_WRITE_SAME] = {"write_same", WRITES_DATA, check_write_same, step_write_same},
    [WIRE_OP_CODE_ZERO] = {"zero", WRITES, NULL, step_zero},
    [WIRE_OP_CODE_SPARSE_READ] = {"sparse_read", LOOKS, NULL, step_sparse_read},
    [WIRE_OP_CODE_EXTENTS] = {"extents", LOOKS, NULL, step_extents},
    [WIRE_OP_CODE_CHECKSUM] = {"checksum", LOOKS_FOR, check_checksum, step_checksum},
    [WIRE_OP_CODE_COMPARE_EXTENT] = {"compare_extent", LOOKS_FOR, NULL, step_compare_extent},
    [WIRE_OP_CODE_ASSERT_EXISTS] = {"assert_exists", READS, NULL, step_assert_exists},
    [WIRE_OP_CODE_ASSERT_VERSION] = {"assert_version", READS, NULL, step_assert_version},
    [WIRE_OP_CODE_HINT] = {"hint", WRITES, NULL, step_hint},
    [WIRE_OP_CODE_ATTR_GET] = {"attr_get", LOOKS_FOR, NULL, step_attr_get},
    [WIRE_OP_CODE_ATTR_LIST] = {"attr_list", LOOKS, NULL, step_attr_list},
    [WIRE_OP_CODE_ATTR_COMPARE] = {"attr_compare", LOOKS_FOR, check_attr_named, step_attr_compare},
    /* Looks at the other attributes when they may become too many. */
    [WIRE_OP_CODE_ATTR_SET] = {"attr_set", WRITES_DATA | STEP_LOOKS, check_attr_named,
                               step_attr_set},
    [WIRE_OP_CODE_ATTR_REMOVE] = {"attr_remove", WRITES_DATA, NULL, step_attr_remove},
    [WIRE_OP_CODE_OMAP_LIST] = {"omap_list", LOOKS_FOR, check_omap_list, step_omap_list},
    [WIRE_OP_CODE_OMAP_GET] = {"omap_get", LOOKS_FOR, check_omap_keys, step_omap_get},
    [WIRE_OP_CODE_OMAP_GET_HEADER] = {"omap_get_header", LOOKS, NULL, step_omap_get_header},
    [WIRE_OP_CODE_OMAP_COMPARE] = {"omap_compare", LOOKS_FOR, check_omap_compare,
                                   step_omap_compare},
    [WIRE_OP_CODE_OMAP_SET] = {"omap_set", WRITES_DATA, check_omap_pairs, step_omap_set},
    [WIRE_OP_CODE_OMAP_SET_HEADER] = {"omap_set_header", WRITES_DATA, NULL, step_omap_set_header},
    [WIRE_OP_CODE_OMAP_REMOVE] = {"omap_remove", WRITES_DATA, check_omap_keys, step_omap_remove},
    [WIRE_OP_CODE_OMAP_REMOVE_RANGE] = {"omap_remove_range", WRITES_DATA, check_omap_range,
                                        step_omap_remove_range},
    [WIRE_OP_CODE_OMAP_CLEAR] = {"omap_clear", WRITES, NULL, step_omap_clear},
    [WIRE_OP_CODE_ROLLBACK] = {"rollback", WRITES | STEP_LOOKS, NULL, step_rollback},
    [WIRE_OP_CODE_LIST_SNAPS] = {"list_snaps", LOOKS, NULL, step_list_snaps},
    [WIRE_OP_CODE_CALL] = {"call", LOOKS_FOR, check_call, step_call},
    [WIRE_OP_CODE_WATCH] = {"watch", WRITES_DATA | STEP_LOOKS, check_watch, step_watch},
    [WIRE_OP_CODE_UNWATCH] = {"unwatch", WRITES | STEP_LOOKS, NULL, step_unwatch},
    [WIRE_OP_CODE_WATCH_CONNECT] = {"watch_connect", LOOKS | STEP_ONLY_READS, NULL,
                                    step_watch_connect},
    [WIRE_OP_CODE_WATCH_LIST] = {"watch_list", LOOKS | STEP_ONLY_READS, NULL, step_watch_list},
    [WIRE_OP_CODE_NOTIFY] = {"notify", LOOKS_FOR | STEP_ONLY_READS | STEP_ALONE, check_notify,
                             step_notify},
    [WIRE_OP_CODE_NOTIFY_ACK] = {"notify_ack", LOOKS_FOR | STEP_ONLY_READS | STEP_ALONE,
                                 check_notify_ack, step_notify_ack},
    [WIRE_OP_CODE_WATCH_ASSERT] = {"watch_assert", LOOKS, NULL, step_watch_assert},
    [WIRE_OP_CODE_WATCH_EVICT] = {"watch_evict", WRITES | STEP_LOOKS, NULL, step_watch_evict},
};

const struct step_kind *step_kind(uint16_t code)
{
    if (code >= sizeof kinds / sizeof kinds[0] || !kinds[code].run)
        return NULL;
    return &kinds[code];
}
