#include "client/ublk/control.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEVICES_FOLDER "/sys/class/ublk-char"

enum { COMMANDS = 4, NO_NUMBER = -1 };

int ublk_control_open(struct ublk_control *c)
{
    *c = (struct ublk_control){.fd = open(UBLK_CONTROL_PATH, O_RDWR | O_CLOEXEC)};
    if (c->fd < 0)
        return errno == ENODEV || errno == ENXIO ? -ENOENT : -errno;
    int rc = io_uring_queue_init(COMMANDS, &c->ring, IORING_SETUP_SQE128);
    if (rc != 0) {
        close(c->fd);
        return rc == -ENOSYS ? -EPERM : rc == -EINVAL ? -EOPNOTSUPP : rc;
    }
    rc = ublk_control_do(c, UBLK_OP_GET_FEATURES, (uint32_t)NO_NUMBER, 0, &c->features,
                         sizeof c->features);
    if (rc == 0 && (c->features & UBLK_HAS_CMD_IOCTL_ENCODE) != 0)
        return 0;
    ublk_control_close(c);
    return rc == -EPERM || rc == -EACCES ? -EPERM : -EOPNOTSUPP;
}

void ublk_control_close(struct ublk_control *c)
{
    io_uring_queue_exit(&c->ring);
    close(c->fd);
}

int ublk_control_begin(struct ublk_control *c, unsigned op, uint32_t number, uint64_t data,
                       void *addr, uint16_t len)
{
    const struct ublksrv_ctrl_cmd command = {.dev_id = number,
                                             .queue_id = UINT16_MAX,
                                             .len = len,
                                             .addr = (uintptr_t)addr,
                                             .data = {data}};
    struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);
    if (sqe == NULL)
        return -EBUSY;
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, c->fd, NULL, 0, 0);
    sqe->cmd_op = op;
    memcpy(sqe->cmd, &command, sizeof command);
    int rc = io_uring_submit(&c->ring);
    return rc < 0 ? rc : 0;
}

int ublk_control_wait(struct ublk_control *c)
{
    struct io_uring_cqe *cqe;
    int rc;
    do
        rc = io_uring_wait_cqe(&c->ring, &cqe);
    while (rc == -EINTR);
    if (rc != 0)
        return rc;
    rc = cqe->res;
    io_uring_cqe_seen(&c->ring, cqe);
    return rc;
}

int ublk_control_do(struct ublk_control *c, unsigned op, uint32_t number, uint64_t data, void *addr,
                    uint16_t len)
{
    int rc = ublk_control_begin(c, op, number, data, addr, len);
    return rc != 0 ? rc : ublk_control_wait(c);
}

int ublk_control_info(struct ublk_control *c, uint32_t number, struct ublksrv_ctrl_dev_info *out)
{
    return ublk_control_do(c, UBLK_OP_GET_DEV_INFO, number, 0, out, sizeof *out);
}

bool ublk_number_of(const char *name, const char *prefix, uint32_t *out)
{
    size_t skip = strlen(prefix);
    if (strncmp(name, prefix, skip) != 0 || name[skip] < '0' || name[skip] > '9')
        return false;
    char *end;
    unsigned long number = strtoul(name + skip, &end, 10);
    *out = (uint32_t)number;
    return *end == 0 && number < UINT32_MAX;
}

int ublk_control_find(struct ublk_control *c, uint64_t mark, struct ublksrv_ctrl_dev_info *out)
{
    DIR *dir = opendir(DEVICES_FOLDER);
    const struct dirent *e;
    bool found = false;
    while (dir != NULL && !found && (e = readdir(dir)) != NULL) {
        uint32_t number;
        found = ublk_number_of(e->d_name, "ublkc", &number) &&
                ublk_control_info(c, number, out) == 0 && out->ublksrv_flags == mark;
    }
    if (dir != NULL)
        closedir(dir);
    return found ? 0 : -ENOENT;
}

int ublk_control_stop(struct ublk_control *c, uint32_t number)
{
    return ublk_control_do(c, UBLK_OP_STOP_DEV, number, 0, NULL, 0);
}

int ublk_control_delete(struct ublk_control *c, uint32_t number)
{
    int rc = ublk_control_do(c, UBLK_OP_DEL_DEV_ASYNC, number, 0, NULL, 0);
    return rc == -EOPNOTSUPP || rc == -ENOTSUP || rc == -EINVAL
               ? ublk_control_do(c, UBLK_OP_DEL_DEV, number, 0, NULL, 0)
               : rc;
}
