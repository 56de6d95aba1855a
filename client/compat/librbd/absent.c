/*
 * Functions of librbd that there are for programs to be loaded: mirroring and migration, which
 * Limpet has not got. Each says -EOPNOTSUPP; those that release do nothing.
 */
#include "client/compat/librbd/librbd.h"

/* Without parameters: what callers pass is not looked at. */
#define DEFINE(type, name, result)                                                                 \
    EXPORT type name(void);                                                                        \
    EXPORT type name(void)                                                                         \
    {                                                                                              \
        return result;                                                                             \
    }
#define ABSENT(name)  DEFINE(int, name, -EOPNOTSUPP)
#define NOTHING(name) DEFINE(void, name, )

ABSENT(rbd_aio_mirror_image_create_snapshot)
ABSENT(rbd_aio_mirror_image_get_info)
ABSENT(rbd_aio_mirror_image_get_mode)
ABSENT(rbd_get_migration_source_spec)
ABSENT(rbd_migration_abort_with_progress)
ABSENT(rbd_migration_commit_with_progress)
ABSENT(rbd_migration_execute_with_progress)
ABSENT(rbd_migration_prepare)
ABSENT(rbd_migration_prepare_import)
ABSENT(rbd_migration_status)
ABSENT(rbd_mirror_image_create_snapshot2)
ABSENT(rbd_mirror_image_demote)
ABSENT(rbd_mirror_image_disable)
ABSENT(rbd_mirror_image_enable2)
ABSENT(rbd_mirror_image_get_global_status)
ABSENT(rbd_mirror_image_get_info)
ABSENT(rbd_mirror_image_get_instance_id)
ABSENT(rbd_mirror_image_get_mode)
ABSENT(rbd_mirror_image_global_status_list)
ABSENT(rbd_mirror_image_info_list)
ABSENT(rbd_mirror_image_instance_id_list)
ABSENT(rbd_mirror_image_promote)
ABSENT(rbd_mirror_image_resync)
ABSENT(rbd_mirror_image_status_summary)
ABSENT(rbd_mirror_mode_get)
ABSENT(rbd_mirror_mode_set)
ABSENT(rbd_mirror_peer_bootstrap_create)
ABSENT(rbd_mirror_peer_bootstrap_import)
ABSENT(rbd_mirror_peer_site_add)
ABSENT(rbd_mirror_peer_site_get_attributes)
ABSENT(rbd_mirror_peer_site_list)
ABSENT(rbd_mirror_peer_site_remove)
ABSENT(rbd_mirror_peer_site_set_attributes)
ABSENT(rbd_mirror_peer_site_set_client_name)
ABSENT(rbd_mirror_peer_site_set_name)
ABSENT(rbd_mirror_site_name_get)
ABSENT(rbd_mirror_site_name_set)
ABSENT(rbd_mirror_uuid_get)
ABSENT(rbd_snap_get_mirror_namespace)
ABSENT(rbd_snap_mirror_namespace_cleanup)

NOTHING(rbd_migration_status_cleanup)
NOTHING(rbd_mirror_image_get_info_cleanup)
NOTHING(rbd_mirror_image_global_status_cleanup)
NOTHING(rbd_mirror_image_global_status_list_cleanup)
NOTHING(rbd_mirror_image_info_list_cleanup)
NOTHING(rbd_mirror_image_instance_id_list_cleanup)
NOTHING(rbd_mirror_peer_site_list_cleanup)
