/*
 * limpet rbd device: a device of the kernel's NBD client. 'limpet rbd nbd' serves the image on a
 * socket, and is the mapper; nbd-client makes the kernel connect to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/cli/rbd_device.h"

enum { NBD_DEVICES_MAX = 1024, CONNECTIONS = 16, FIRST_PASSED = 3, ARGUMENTS_MAX = 40 };

static bool is_installed(const char *program)
{
    static const char *const places[] = {"/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"};
    char path[DEVICE_PATH_MAX];
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", places[i], program);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

bool nbd_is_there(void)
{
    return access("/dev/nbd0", F_OK) == 0 && is_installed("nbd-client");
}

/* Of the process that has connected the device; 0: it is not connected. */
static unsigned connector(const char *device)
{
    char path[DEVICE_PATH_MAX], text[32] = "";
    snprintf(path, sizeof path, "/sys/block/%s/pid", strrchr(device, '/') + 1);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    if (fgets(text, sizeof text, file) == NULL)
        text[0] = 0;
    fclose(file);
    return (unsigned)strtoul(text, NULL, 10);
}

/* Of a mapper that has died: what is mounted keeps the device. */
static bool is_held(const char *device)
{
    int fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd < 0 && errno == EBUSY;
}

/* The first that is not connected; with the lock of the entries. */
static void choose_device(char device[DEVICE_NAME_MAX])
{
    for (unsigned i = 0; i < NBD_DEVICES_MAX; i++) {
        snprintf(device, DEVICE_NAME_MAX, "/dev/nbd%u", i);
        if (access(device, F_OK) != 0)
            break;
        if (connector(device) == 0 && !is_held(device))
            return;
    }
    fail(EBUSY, "map failed: all devices of NBD are in use; 'modprobe nbd nbds_max=N' makes more");
}

/* Runs nbd-client, and says nothing of what it says: 0, or its exit status. */
static int run_client(char *const *arguments)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execvp(arguments[0], arguments);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        fail(ENAMETOOLONG, "map failed: %s: too long a name for a socket", path);
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, CONNECTIONS) != 0)
        fail(errno, "map failed: %s: %s", path, error_phrase(errno));
    return fd;
}

/* ---- The server ---- */

struct arguments {
    int n;
    char *list[ARGUMENTS_MAX + 1];
};

static void add(struct arguments *a, const char *option, const char *value)
{
    if (value != NULL && value[0] == 0)
        return;
    if (a->n + 2 > ARGUMENTS_MAX)
        fail(E2BIG, "map failed: too many arguments");
    a->list[a->n++] = (char *)(uintptr_t)option;
    if (value != NULL)
        a->list[a->n++] = (char *)(uintptr_t)value;
}

static void add_given(struct cli *cli, struct arguments *a, const char *option, const char *name)
{
    const char *value = cli_text(cli, name, NULL);
    if (value != NULL)
        add(a, option, value);
}

static void set_arguments(struct cli *cli, const struct rbd_spec *spec,
                          const struct device_options *options, struct arguments *a)
{
    add(a, "limpet", NULL);
    add_given(cli, a, "--conf", "conf");
    add_given(cli, a, "--name", "name");
    add_given(cli, a, "--id", "id");
    add_given(cli, a, "--keyring", "keyring");
    add_given(cli, a, "--mon-host", "mon-host");
    add(a, "rbd", NULL);
    add(a, "nbd", NULL);
    add(a, "--pool", spec->pool);
    add(a, "--namespace", spec->space);
    add(a, "--image", spec->name);
    add(a, "--snap", spec->snap);
    if (options->read_only)
        add(a, "--read-only", NULL);
    if (options->exclusive)
        add(a, "--exclusive", NULL);
    if (options->encryption.format != NULL) {
        add(a, "--encryption-format", options->encryption.format);
        add(a, "--encryption-passphrase-file", options->encryption.path);
    }
}

/*
 * In the child: 'limpet rbd nbd', with the socket as descriptor 3, as systemd passes it; the lock
 * stays open, too. By another exec, so that nothing else of ours does.
 */
_Noreturn static void become_server(struct cli *cli, const struct device_entry *entry,
                                    const struct device_options *options, int socket_fd, int lock)
{
    char pid[16], self[DEVICE_PATH_MAX] = "";
    struct arguments a = {0};
    int log = open(device_entry_path(entry, "log"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    int null = open("/dev/null", O_RDWR);
    int held = fcntl(lock, F_DUPFD, FIRST_PASSED + 1);
    if (log < 0 || null < 0 || held < 0 || readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        fail(errno, "map failed: %s: %s", entry->folder, error_phrase(errno));
    set_arguments(cli, &entry->spec, options, &a);
    setsid();
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    if (socket_fd == FIRST_PASSED)
        fcntl(socket_fd, F_SETFD, 0);
    else
        dup2(socket_fd, FIRST_PASSED);
    snprintf(pid, sizeof pid, "%d", getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "1", 1);
    execv(self, a.list);
    fail(errno, "map failed: %s: %s", self, error_phrase(errno));
}

/* What the server said before it ended. */
_Noreturn static void fail_with_log(const struct device_entry *entry, int status)
{
    char text[DEVICE_TEXT_MAX] = "";
    FILE *file = fopen(device_entry_path(entry, "log"), "re");
    while (file != NULL && fgets(text, sizeof text, file) != NULL)
        continue;
    if (file != NULL)
        fclose(file);
    text[strcspn(text, "\n")] = 0;
    kill(entry->pid, SIGTERM);
    device_entry_wait(entry, -1);
    device_entry_remove(entry);
    fail(EIO, "map failed: %s%snbd-client ended with status %d", text, text[0] != 0 ? "; " : "",
         status);
}

/* Returns its number. It is nobody's child once this process, which is about to end, has. */
static pid_t start_server(struct cli *cli, const struct device_entry *entry,
                          const struct device_options *options, int socket_fd, int lock)
{
    pid_t server = fork();
    if (server == 0)
        become_server(cli, entry, options, socket_fd, lock);
    if (server < 0)
        fail(EAGAIN, "map failed: %s", error_phrase(EAGAIN));
    return server;
}

void nbd_attach(struct cli *cli, struct device_entry *entry, const struct device_options *options,
                int lock)
{
    char block_size[16], path[DEVICE_PATH_MAX];
    choose_device(entry->device);
    snprintf(path, sizeof path, "%s", device_entry_path(entry, "socket"));
    int fd = listen_at(path);
    entry->pid = start_server(cli, entry, options, fd, lock);
    close(fd);
    snprintf(block_size, sizeof block_size, "%u", options->block_size);
    char *const arguments[] = {"nbd-client", "-unix", path, entry->device, "-b", block_size, NULL};
    int status = run_client(arguments);
    if (status != 0)
        fail_with_log(entry, status);
    entry->connector = connector(entry->device);
}

/* Another one may have it by now. */
static bool is_ours(const struct device_entry *entry)
{
    return entry->connector != 0 && connector(entry->device) == entry->connector;
}

void nbd_disconnect(const struct device_entry *entry)
{
    char device[DEVICE_NAME_MAX];
    snprintf(device, sizeof device, "%s", entry->device);
    char *const arguments[] = {"nbd-client", "-d", device, NULL};
    if (is_ours(entry))
        (void)!run_client(arguments);
}

/* O_EXCL: nobody has it mounted. */
int nbd_detach(const struct device_entry *entry, bool force)
{
    int fd = open(entry->device, O_RDONLY | O_CLOEXEC | (force ? 0 : O_EXCL));
    if (fd < 0)
        return -errno;
    close(fd);
    nbd_disconnect(entry);
    kill(entry->pid, SIGTERM);
    return 0;
}
