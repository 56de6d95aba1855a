/*
 * Functions of librados that there are for programs to be loaded, and that do nothing yet: each
 * says -EOPNOTSUPP. README.md has the list.
 */
#include <errno.h>

#include "client/compat/compat.h"

/* Without parameters: what callers pass is not looked at. */
#define ABSENT(name)                                                                               \
    EXPORT int name(void);                                                                         \
    EXPORT int name(void)                                                                          \
    {                                                                                              \
        return -EOPNOTSUPP;                                                                        \
    }
#define NOTHING(name)                                                                              \
    EXPORT void name(void);                                                                        \
    EXPORT void name(void) {}

ABSENT(rados_aio_notify)
ABSENT(rados_application_enable)
ABSENT(rados_application_list)
ABSENT(rados_application_metadata_get)
ABSENT(rados_application_metadata_list)
ABSENT(rados_application_metadata_remove)
ABSENT(rados_application_metadata_set)
ABSENT(rados_blocklist_add)
ABSENT(rados_decode_notify_response)
NOTHING(rados_free_notify_response)
ABSENT(rados_getaddrs)
ABSENT(rados_inconsistent_pg_list)
ABSENT(rados_ioctx_selfmanaged_snap_create)
ABSENT(rados_ioctx_selfmanaged_snap_remove)
ABSENT(rados_ioctx_selfmanaged_snap_rollback)
ABSENT(rados_ioctx_selfmanaged_snap_set_write_ctx)
ABSENT(rados_ioctx_snap_create)
ABSENT(rados_ioctx_snap_get_name)
ABSENT(rados_ioctx_snap_get_stamp)
ABSENT(rados_ioctx_snap_list)
ABSENT(rados_ioctx_snap_lookup)
ABSENT(rados_ioctx_snap_remove)
ABSENT(rados_ioctx_snap_rollback)
NOTHING(rados_ioctx_snap_set_read)
ABSENT(rados_mgr_command_target)
ABSENT(rados_monitor_log)
ABSENT(rados_monitor_log2)
ABSENT(rados_notify2)
ABSENT(rados_notify_ack)
ABSENT(rados_osd_command)
ABSENT(rados_pg_command)
ABSENT(rados_ping_monitor)
ABSENT(rados_service_register)
ABSENT(rados_service_update_status)
/* Removing works on a full cluster, whatever was said. */
NOTHING(rados_set_pool_full_try)
NOTHING(rados_unset_pool_full_try)
ABSENT(rados_unwatch2)
ABSENT(rados_watch3)
ABSENT(rados_watch_check)
ABSENT(rados_watch_flush)
