/*
 * limpet fs umount. The kernel is done with a mount before its process is, which writes back then
 * what it still has. So that process has a socket that is named after the mount's device; who
 * unmounts connects, and is accepted when nothing is mounted any more, and hears EINPROGRESS. Then
 * it hears 0, as nothing was lost when the rest was written back, or the error by which something
 * was; and the connection ends with the process.
 *
 * The kernel gives the number of a device again as soon as nothing is mounted, when the process of
 * the mount before may not have noticed yet, or be dead and not have ended. So a name has a number,
 * too: a new mount takes the one above all that are taken, and the highest is the one that counts.
 * A process gives its name up when it has noticed.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/cli/fs.h"

enum {
    WAITERS_MAX = 64,
    BACKLOG = 4096, /* Each umount that found the mount busy leaves connections, too. */
    LOOK_MS = 1000,
    LOOKS = 3, /* Whoever has just begun a mount namespace may be about to unmount this, too. */
    NAMES_MAX = 16, /* Mounts that have ended one after the other while their processes have not. */
};

static bool is_octal(char c)
{
    return c >= '0' && c <= '7';
}

/* As proc_pid_mountinfo(5) has it: blanks, line ends and backslashes by three octal digits. */
static void decode(char *text)
{
    char *to = text;
    for (const char *from = text; *from != 0; to++) {
        if (*from == '\\' && is_octal(from[1]) && is_octal(from[2]) && is_octal(from[3])) {
            *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = 0;
}

/* Of a line: ID, parent's ID, device, root, mount point. */
static bool is_at(char *line, const char *path, char device[FS_DEVICE_MAX])
{
    enum { DEVICE = 2, POINT = 4, FIELDS };
    char *fields[FIELDS], *rest = NULL;
    for (int i = 0; i < FIELDS; i++) {
        fields[i] = strtok_r(i == 0 ? line : NULL, " ", &rest);
        if (fields[i] == NULL)
            return false;
    }
    decode(fields[POINT]);
    if (strcmp(fields[POINT], path) != 0 || strlen(fields[DEVICE]) >= FS_DEVICE_MAX)
        return false;
    strcpy(device, fields[DEVICE]);
    return true;
}

bool fs_device(const char *path, char device[FS_DEVICE_MAX])
{
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    /* The last one is above the others. */
    while (file != NULL && getline(&line, &capacity, file) > 0)
        found |= is_at(line, path, device);
    if (file != NULL)
        fclose(file);
    free(line);
    return found;
}

/* An abstract name: it goes with the process. */
static socklen_t name_socket(const char *device, int number, struct sockaddr_un *out)
{
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    int len = snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "limpet-fs-mount-%s-%d", device,
                       number);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
}

/* Anybody may take a name. */
static bool is_trusted(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

/* A connection to the mount that has the highest name, whose number is set; -1: none has one. */
static int connect_highest(const char *device, int *number)
{
    struct sockaddr_un address;
    for (*number = NAMES_MAX - 1; *number >= 0; --*number) {
        socklen_t len = name_socket(device, *number, &address);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&address, len) == 0 && is_trusted(fd))
            return fd;
        if (fd >= 0)
            close(fd);
    }
    return -1;
}

/* Its number, or one above; -1. */
static int listen_from(const char *device, int number)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    for (; fd >= 0 && number < NAMES_MAX; number++) {
        socklen_t len = name_socket(device, number, &address);
        if (bind(fd, (struct sockaddr *)&address, len) == 0 && listen(fd, BACKLOG) == 0)
            return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

static int waiters = -1; /* The socket for them. */
static int waiting[WAITERS_MAX];
static int n_waiting; /* Those that it had when nothing was mounted any more. */

void fs_umount_expect(const char *path)
{
    char device[FS_DEVICE_MAX];
    int number;
    if (!fs_device(path, device))
        return;
    int before = connect_highest(device, &number);
    if (before >= 0)
        close(before);
    /* Without it nobody waits, as umount(8) does not. */
    waiters = listen_from(device, number + 1);
}

static bool has_hung_up(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLRDHUP};
    return poll(&poller, 1, 0) > 0;
}

void fs_umount_over(void)
{
    const int over = EINPROGRESS;
    int fd = -1;
    while (waiters >= 0 && n_waiting < WAITERS_MAX &&
           (fd = accept4(waiters, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        if (has_hung_up(fd)) {
            close(fd);
            continue;
        }
        (void)!send(fd, &over, sizeof over, MSG_NOSIGNAL);
        waiting[n_waiting++] = fd;
    }
    if (waiters >= 0)
        close(waiters);
    waiters = -1;
}

void fs_umount_tell(int error)
{
    fs_umount_over();
    /* They stay open until the process ends. */
    for (int i = 0; i < n_waiting; i++)
        (void)!send(waiting[i], &error, sizeof error, MSG_NOSIGNAL);
}

/* Without links, but its last part is left alone: the mount itself is not asked. */
static bool resolve(const char *path, char out[2 * PATH_MAX])
{
    char folder[PATH_MAX], whole[PATH_MAX];
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len == 0 || len >= sizeof folder)
        return false;
    memcpy(folder, path, len);
    folder[len] = 0;
    const char *slash = memrchr(folder, '/', len);
    size_t last = slash != NULL ? (size_t)(slash - folder) + 1 : 0;
    char name[PATH_MAX];
    memcpy(name, folder + last, len - last + 1);
    folder[last] = 0;
    if (realpath(last > 0 ? folder : ".", whole) == NULL)
        return false;
    snprintf(out, 2 * PATH_MAX, "%s/%s", strcmp(whole, "/") != 0 ? whole : "", name);
    return true;
}

/* A connection to the process that serves the mount, or -1; and its device. */
static int find_server(const char *path, char device[FS_DEVICE_MAX])
{
    char real[2 * PATH_MAX];
    int number;
    return resolve(path, real) && fs_device(real, device) ? connect_highest(device, &number) : -1;
}

/* Whether the first thread of who is at the other end has ended, though others have not. */
static bool is_dead(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    char path[64], line[512];
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0 || peer.pid == 0)
        return false;
    snprintf(path, sizeof path, "/proc/%d/stat", peer.pid);
    FILE *file = fopen(path, "re");
    const char *name_end =
        file != NULL && fgets(line, sizeof line, file) != NULL ? strrchr(line, ')') : NULL;
    bool dead = name_end != NULL && strncmp(name_end, ") Z", 3) == 0;
    if (file != NULL)
        fclose(file);
    return dead;
}

void fs_abort_if_dead(const char *path)
{
    char device[FS_DEVICE_MAX], now[FS_DEVICE_MAX];
    int server = find_server(path, device);
    if (server < 0)
        return;
    if (is_dead(server) && fs_device(path, now) && strcmp(device, now) == 0)
        (void)fs_abort(device);
    close(server);
}

/*
 * Whether a process sees this device among its mounts. Its number may be another file system's by
 * now: those of other kinds, such as the sysfs of a network namespace, come and go all the time.
 */
static bool sees(const char *pid, const char *device)
{
    char path[64], *line = NULL, number[FS_DEVICE_MAX];
    size_t capacity = 0;
    bool found = false;
    snprintf(path, sizeof path, "/proc/%.20s/mountinfo", pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && !found && getline(&line, &capacity, file) > 0)
        found = sscanf(line, "%*s %*s %31s", number) == 1 && strcmp(number, device) == 0 &&
                strstr(line, " - fuse") != NULL;
    if (file != NULL)
        fclose(file);
    free(line);
    return found;
}

/* A process in another mount namespace where it is still mounted; 0: none that can be seen. */
static int find_holder(const char *device)
{
    int holder = 0;
    DIR *processes = opendir("/proc");
    const struct dirent *entry;
    while (processes != NULL && holder == 0 && (entry = readdir(processes)) != NULL) {
        if (isdigit((unsigned char)entry->d_name[0]) && sees(entry->d_name, device))
            holder = (int)strtol(entry->d_name, NULL, 10);
    }
    if (processes != NULL)
        closedir(processes);
    return holder;
}

/*
 * 0: all is durable. Containers, and whoever else has begun a mount namespace meanwhile, have a
 * mount of their own, for which the server goes on: nobody knows for how long, or what it has not
 * written back yet.
 */
static int wait_for_end(int fd, const char *path, const char *device)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    bool over = false, told = false, ended = false;
    int holder = 0, looks = 0, error = 0;
    while (!ended && looks < LOOKS) {
        int rc = poll(&poller, 1, LOOK_MS);
        bool tells = rc > 0 && recv(fd, &error, sizeof error, MSG_DONTWAIT) == sizeof error;
        over |= tells;
        told |= tells && error != EINPROGRESS;
        ended = rc > 0 && !tells;
        /* Once it is over, the device's number may be another mount's. */
        if (rc != 0 || over)
            continue;
        holder = find_holder(device);
        looks = holder != 0 ? looks + 1 : 0;
    }
    if (!ended)
        return complain(
            EINPROGRESS,
            "%s is unmounted here, and still mounted in another mount namespace (of process %d): "
            "it is served there, and what was written last and not synced may not be durable yet",
            path, holder);
    if (!told)
        return complain(EIO,
                        "%s is unmounted, but its process died before it had written all back: "
                        "look whether what was written last and not synced is there",
                        path);
    if (error != 0)
        return complain(error,
                        "%s is unmounted, but something that was not synced is lost: %s; look "
                        "whether what was written last is there",
                        path, error_phrase(error));
    return 0;
}

/* For users other than root. */
static int run_fusermount(const char *path, bool lazy)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        execlp("fusermount3", "fusermount3", lazy ? "-uz" : "-u", path, (char *)NULL);
        fail(errno, "fusermount3: %s; the package fuse3 has it", error_phrase(errno));
    }
    if (pid < 0)
        fail(errno, "%s: %s", path, error_phrase(errno));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

int fs_umount(struct cli *cli)
{
    const char *path = cli->words[0];
    bool lazy = cli_has(cli, "lazy");
    char device[FS_DEVICE_MAX];
    fs_abort_if_dead(path);
    int server = lazy ? -1 : find_server(path, device), rc = 0;
    if (umount2(path, lazy ? MNT_DETACH : 0) != 0) {
        if (errno == EBUSY)
            fail(EBUSY, "%s is in use; --lazy takes it away as soon as it is not", path);
        if (errno == EINVAL)
            fail(EINVAL, "%s: nothing is mounted there", path);
        if (errno != EPERM)
            fail(errno, "%s: %s", path, error_phrase(errno));
        rc = run_fusermount(path, lazy);
    }
    if (rc == 0 && server >= 0)
        rc = wait_for_end(server, path, device);
    return rc;
}
