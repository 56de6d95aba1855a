/* limpet rbd device: who uses a block device, for messages. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "client/cli/rbd_device.h"

enum { PARTITIONS_MAX = 256 };

/* The device and its partitions. */
struct devices {
    size_t n;
    dev_t numbers[PARTITIONS_MAX + 1];
};

static const char *base_name(const char *device)
{
    const char *slash = strrchr(device, '/');
    return slash != NULL ? slash + 1 : device;
}

/* "7:3" */
static dev_t parse_number(const char *text)
{
    char *end;
    unsigned long upper = strtoul(text, &end, 10);
    return makedev((unsigned)upper, *end == ':' ? (unsigned)strtoul(end + 1, NULL, 10) : 0);
}

static void add_number(struct devices *d, const char *path)
{
    char text[32];
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    if (d->n <= PARTITIONS_MAX && fgets(text, sizeof text, file) != NULL)
        d->numbers[d->n++] = parse_number(text);
    fclose(file);
}

static void find_devices(const char *device, struct devices *d)
{
    char folder[DEVICE_PATH_MAX], path[2 * DEVICE_PATH_MAX];
    const char *name = base_name(device);
    const struct dirent *e;
    d->n = 0;
    snprintf(folder, sizeof folder, "/sys/block/%s", name);
    snprintf(path, sizeof path, "%s/dev", folder);
    add_number(d, path);
    DIR *dir = opendir(folder);
    while (dir != NULL && (e = readdir(dir)) != NULL) {
        if (strncmp(e->d_name, name, strlen(name)) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s/dev", folder, e->d_name);
        add_number(d, path);
    }
    if (dir != NULL)
        closedir(dir);
}

static bool is_among(const struct devices *d, dev_t number)
{
    for (size_t i = 0; i < d->n; i++) {
        if (d->numbers[i] == number)
            return true;
    }
    return false;
}

/* "/dev/loop3", or a partition of it: file systems of several devices have no number of theirs. */
static bool is_named(const char *source, const char *device)
{
    size_t len = strlen(device);
    return strncmp(source, device, len) == 0 &&
           (source[len] == 0 || (source[len] == 'p' && isdigit((unsigned char)source[len + 1])));
}

static bool mounted(const char *device, const struct devices *d, char text[DEVICE_TEXT_MAX])
{
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (file != NULL && !found && getline(&line, &size, file) > 0) {
        char number[32], where[600], source[256] = "";
        if (sscanf(line, "%*s %*s %31s %*s %599s", number, where) != 2)
            continue;
        const char *rest = strstr(line, " - ");
        if (rest != NULL && sscanf(rest, " - %*s %255s", source) != 1)
            source[0] = 0;
        found = is_among(d, parse_number(number)) || is_named(source, device);
        if (found)
            snprintf(text, DEVICE_TEXT_MAX, "is mounted on %s: unmount that first", where);
    }
    free(line);
    if (file != NULL)
        fclose(file);
    return found;
}

static bool swapped(const char *device, char text[DEVICE_TEXT_MAX])
{
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    FILE *file = fopen("/proc/swaps", "re");
    while (file != NULL && !found && getline(&line, &size, file) > 0) {
        char name[256];
        found = sscanf(line, "%255s", name) == 1 && is_named(name, device);
    }
    if (found)
        snprintf(text, DEVICE_TEXT_MAX, "is swap space: 'swapoff' ends that");
    free(line);
    if (file != NULL)
        fclose(file);
    return found;
}

/* Devices on top of it: those of LVM, dm-crypt, md. */
static bool held(const char *device, char text[DEVICE_TEXT_MAX])
{
    char folder[DEVICE_PATH_MAX];
    const struct dirent *e;
    bool found = false;
    snprintf(folder, sizeof folder, "/sys/block/%s/holders", base_name(device));
    DIR *dir = opendir(folder);
    while (dir != NULL && !found && (e = readdir(dir)) != NULL) {
        found = e->d_name[0] != '.';
        if (found)
            snprintf(text, DEVICE_TEXT_MAX, "is part of /dev/%s: take that down first", e->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

/* One that only names a file (O_PATH) keeps nobody from anything. */
static bool is_open(const char *pid, const char *fd)
{
    static const char key[] = "flags:";
    char path[2 * DEVICE_PATH_MAX], line[128];
    bool open = false;
    snprintf(path, sizeof path, "/proc/%s/fdinfo/%s", pid, fd);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, sizeof key - 1) == 0)
            open = (strtoul(line + sizeof key - 1, NULL, 8) & O_PATH) == 0;
    }
    if (file != NULL)
        fclose(file);
    return open;
}

/* Without asking a server for attributes, who may be dead: the file may be of any file system. */
static bool is_device(const char *path, const struct devices *d)
{
    struct statx st;
    return statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE, &st) == 0 &&
           S_ISBLK(st.stx_mode) && is_among(d, makedev(st.stx_rdev_major, st.stx_rdev_minor));
}

static bool process_has(const char *pid, const struct devices *d)
{
    char folder[DEVICE_PATH_MAX], path[2 * DEVICE_PATH_MAX];
    const struct dirent *e;
    bool found = false;
    snprintf(folder, sizeof folder, "/proc/%s/fd", pid);
    DIR *dir = opendir(folder);
    while (dir != NULL && !found && (e = readdir(dir)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        found = e->d_name[0] != '.' && is_device(path, d) && is_open(pid, e->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

static void describe_process(const char *pid, char text[DEVICE_TEXT_MAX])
{
    char path[DEVICE_PATH_MAX], name[64] = "?";
    snprintf(path, sizeof path, "/proc/%s/comm", pid);
    FILE *file = fopen(path, "re");
    if (file != NULL && fscanf(file, "%63[^\n]", name) != 1)
        name[0] = 0;
    if (file != NULL)
        fclose(file);
    snprintf(text, DEVICE_TEXT_MAX, "is open in process %s (%s): end that first", pid, name);
}

static bool opened(const struct devices *d, char text[DEVICE_TEXT_MAX])
{
    const struct dirent *e;
    char self[16];
    bool found = false;
    snprintf(self, sizeof self, "%d", getpid());
    DIR *dir = opendir("/proc");
    while (dir != NULL && !found && (e = readdir(dir)) != NULL) {
        if (!isdigit((unsigned char)e->d_name[0]) || strcmp(e->d_name, self) == 0)
            continue;
        found = process_has(e->d_name, d);
        if (found)
            describe_process(e->d_name, text);
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

bool device_used(const char *device, char text[DEVICE_TEXT_MAX])
{
    struct devices d;
    find_devices(device, &d);
    return mounted(device, &d, text) || swapped(device, text) || held(device, text) ||
           opened(&d, text);
}
