/*
 * The kernel's interface to ublk: what linux/ublk_cmd.h of Debian 12 has, and what came later. The
 * structures are the same; commands have the numbers of ioctls since Linux 6.4, and only these are
 * used. Source: Documentation/block/ublk.rst and include/uapi/linux/ublk_cmd.h of Linux 6.12 and
 * 6.16.
 */
#ifndef LIMPET_CLIENT_UBLK_KERNEL_H
#define LIMPET_CLIENT_UBLK_KERNEL_H

#include <linux/ublk_cmd.h>
#include <sys/ioctl.h>

#define UBLK_OP_GET_FEATURES        _IOR('u', 0x13, struct ublksrv_ctrl_cmd)
#define UBLK_OP_GET_DEV_INFO        _IOR('u', 0x02, struct ublksrv_ctrl_cmd)
#define UBLK_OP_ADD_DEV             _IOWR('u', 0x04, struct ublksrv_ctrl_cmd)
#define UBLK_OP_DEL_DEV             _IOWR('u', 0x05, struct ublksrv_ctrl_cmd)
#define UBLK_OP_START_DEV           _IOWR('u', 0x06, struct ublksrv_ctrl_cmd)
#define UBLK_OP_STOP_DEV            _IOWR('u', 0x07, struct ublksrv_ctrl_cmd)
#define UBLK_OP_SET_PARAMS          _IOWR('u', 0x08, struct ublksrv_ctrl_cmd)
#define UBLK_OP_START_USER_RECOVERY _IOWR('u', 0x10, struct ublksrv_ctrl_cmd)
#define UBLK_OP_END_USER_RECOVERY   _IOWR('u', 0x11, struct ublksrv_ctrl_cmd)
/* Linux 6.9: does not wait until nobody has the device open any more. */
#define UBLK_OP_DEL_DEV_ASYNC _IOR('u', 0x14, struct ublksrv_ctrl_cmd)
/* Linux 6.16: data[0] is the size in sectors. */
#define UBLK_OP_UPDATE_SIZE _IOWR('u', 0x15, struct ublksrv_ctrl_cmd)

#define UBLK_OP_FETCH_REQ            _IOWR('u', 0x20, struct ublksrv_io_cmd)
#define UBLK_OP_COMMIT_AND_FETCH_REQ _IOWR('u', 0x21, struct ublksrv_io_cmd)

#define UBLK_HAS_USER_RECOVERY         (1ULL << 3)
#define UBLK_HAS_USER_RECOVERY_REISSUE (1ULL << 4)
#define UBLK_HAS_CMD_IOCTL_ENCODE      (1ULL << 6)
#define UBLK_HAS_UPDATE_SIZE           (1ULL << 10)

#endif
