/*
 * Commands to /dev/ublk-control, which makes, stops and removes devices. They travel as commands of
 * io_uring, and the kernel runs them on a thread of its own: so one that waits for a device's
 * requests may be begun by the process that serves them.
 */
#ifndef LIMPET_CLIENT_UBLK_CONTROL_H
#define LIMPET_CLIENT_UBLK_CONTROL_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/ublk/kernel.h"
#include "common/error.h"

#define UBLK_CONTROL_PATH "/dev/ublk-control"

struct ublk_control {
    int fd;
    struct io_uring ring; /* Its descriptor is ready when a command that was begun is over. */
    uint64_t features;
};

/*
 * -ENOENT: the kernel has no ublk, or its module is not loaded; -EPERM: it is not for us, or
 * io_uring is switched off; -EOPNOTSUPP: it is older than Linux 6.5.
 */
int ublk_control_open(struct ublk_control *control) MUST_CHECK;
void ublk_control_close(struct ublk_control *control);

/* One at a time: begin, then wait for its result, or do both. `data` goes along; addr is a buffer.
 */
int ublk_control_begin(struct ublk_control *control, unsigned op, uint32_t number, uint64_t data,
                       void *addr, uint16_t len) MUST_CHECK;
int ublk_control_wait(struct ublk_control *control) MUST_CHECK;
int ublk_control_do(struct ublk_control *control, unsigned op, uint32_t number, uint64_t data,
                    void *addr, uint16_t len) MUST_CHECK;

int ublk_control_info(struct ublk_control *control, uint32_t number,
                      struct ublksrv_ctrl_dev_info *out) MUST_CHECK;
/* The number at the end of a device's name, after `prefix`: of "/dev/ublkb7", 7. false: it is no
 * such name. */
bool ublk_number_of(const char *name, const char *prefix, uint32_t *out);
/* The device that was made with this mark: -ENOENT: there is none. */
int ublk_control_find(struct ublk_control *control, uint64_t mark,
                      struct ublksrv_ctrl_dev_info *out) MUST_CHECK;
/*
 * Ends a device: what its server has is waited for, if it lives, and fails, if it does not. The
 * server goes on to remove it.
 */
int ublk_control_stop(struct ublk_control *control, uint32_t number) MUST_CHECK;
/* Removes a device that was stopped, or never begun. */
int ublk_control_delete(struct ublk_control *control, uint32_t number) MUST_CHECK;

#endif
