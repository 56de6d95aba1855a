/* limpet rbd device: loop devices on the file that a mapper shows. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/cli/rbd_device.h"

/* Whoever else takes a free device at the same time is as likely to get it. */
enum { ATTEMPTS_MAX = 64 };

/* -EBUSY: the device has just been taken. */
static int configure(int control, int file, const struct device_options *options,
                     char device[DEVICE_NAME_MAX])
{
    struct loop_config config = {.fd = (uint32_t)file, .block_size = options->block_size};
    config.info.lo_flags = LO_FLAGS_DIRECT_IO | LO_FLAGS_PARTSCAN;
    if (options->read_only)
        config.info.lo_flags |= LO_FLAGS_READ_ONLY;
    int number = ioctl(control, LOOP_CTL_GET_FREE);
    if (number < 0)
        return -errno;
    snprintf(device, DEVICE_NAME_MAX, "/dev/loop%d", number);
    int fd = open(device, (options->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = ioctl(fd, LOOP_CONFIGURE, &config) == 0 ? 0 : -errno;
    close(fd);
    return rc;
}

int loop_attach(const char *path, const struct device_options *options,
                char device[DEVICE_NAME_MAX])
{
    int rc = -EBUSY;
    snprintf(device, DEVICE_NAME_MAX, "/dev/loop-control");
    int control = open(device, O_RDWR | O_CLOEXEC);
    if (control < 0)
        return -errno;
    int file = open(path, (options->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (file < 0)
        rc = -errno;
    for (int i = 0; file >= 0 && rc == -EBUSY && i < ATTEMPTS_MAX; i++)
        rc = configure(control, file, options, device);
    if (file >= 0)
        close(file);
    close(control);
    return rc;
}

int loop_set_capacity(const char *device)
{
    int fd = open(device, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = ioctl(fd, LOOP_SET_CAPACITY) == 0 ? 0 : -errno;
    close(fd);
    return rc;
}

/* As the kernel knows the file, also when its mount has gone. */
static bool lies_on(const char *device, const char *path)
{
    char name[DEVICE_PATH_MAX], text[2 * DEVICE_PATH_MAX] = "";
    const char *slash = strrchr(device, '/');
    snprintf(name, sizeof name, "/sys/block/%s/loop/backing_file",
             slash != NULL ? slash + 1 : device);
    FILE *file = fopen(name, "re");
    if (file == NULL)
        return false;
    if (fgets(text, sizeof text, file) == NULL)
        text[0] = 0;
    fclose(file);
    text[strcspn(text, "\n")] = 0;
    return strcmp(text, path) == 0;
}

/* O_EXCL: nobody has it mounted, nobody can mount it meanwhile. */
int loop_detach(const char *device, const char *path, bool lazily)
{
    if (!lies_on(device, path))
        return 0;
    int fd = open(device, O_RDONLY | O_CLOEXEC | (lazily ? 0 : O_EXCL));
    if (fd < 0)
        return -errno;
    int rc = ioctl(fd, LOOP_CLR_FD) == 0 || errno == ENXIO ? 0 : -errno;
    close(fd);
    return rc;
}

void loop_detach_all(const char *path)
{
    DIR *dir = opendir("/sys/block");
    const struct dirent *e;
    while (dir != NULL && (e = readdir(dir)) != NULL) {
        char device[DEVICE_NAME_MAX];
        if (strncmp(e->d_name, "loop", 4) != 0)
            continue;
        snprintf(device, sizeof device, "/dev/%.32s", e->d_name);
        /* It is nobody's any more: what cannot be detached now is no reason to stop. */
        int rc = loop_detach(device, path, true);
        if (rc != 0)
            complain(rc, "%s is left from a mapper that died: %s", device, error_phrase(rc));
    }
    if (dir != NULL)
        closedir(dir);
}
