/*
 * limpet fs mount: what the kernel has of a mount whose process was killed.
 *
 * The kernel gives up a mount when nobody has its /dev/fuse open any more. A process that is killed
 * closes that when all of its threads have ended, and one of them may not end: it tells the kernel
 * to drop pages, and waits for one that is being read, by a request that nobody answers now. So
 * reader and thread would wait for each other for good, and the connections of the dead to the
 * cluster would stay, and others wait for its leases. What ends this is a word to the kernel's
 * control file of the connection (fusectl). A process beside the mount says it, which waits for
 * nothing but the end of the first thread of the other: a signal comes then, whatever the rest
 * does. By that time the mount is over in any case, and the file of one that is gone does nothing,
 * even when another has got its number. When both were killed, who unmounts says it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/cli/fs.h"

enum { STANDARD_FILES = 3 };

#define CONNECTIONS "/sys/fs/fuse/connections"

static const char title[] = "limpet-fs-abort";

static int watcher_socket = -1;
static pid_t watcher;

/* Nobody else sends this one, and the kernel sends it for us. */
static int signal_of_end(void)
{
    return SIGRTMAX;
}

/* The folder of connections, mounted for this process alone. */
static int mount_connections(void)
{
    int context = fsopen("fusectl", FSOPEN_CLOEXEC), folder = -1;
    if (context >= 0 && fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        folder = fsmount(context, FSMOUNT_CLOEXEC, 0);
    if (context >= 0)
        close(context);
    return folder;
}

static int open_control_in(int folder, const char *minor)
{
    char name[FS_DEVICE_MAX + sizeof "/abort"];
    snprintf(name, sizeof name, "%s/abort", minor);
    int control = folder >= 0 ? openat(folder, name, O_WRONLY | O_CLOEXEC) : -1;
    if (folder >= 0)
        close(folder);
    return control;
}

/* The control file of a mount, by its device; -1: there is none, or not for us. */
static int open_control(const char *device)
{
    const char *minor = strchr(device, ':');
    if (minor == NULL)
        return -1;
    int control = open_control_in(open(CONNECTIONS, O_PATH | O_DIRECTORY | O_CLOEXEC), minor + 1);
    return control >= 0 ? control : open_control_in(mount_connections(), minor + 1);
}

bool fs_abort(const char *device)
{
    int control = open_control(device);
    bool done = control >= 0 && write(control, "1", 1) == 1;
    if (control >= 0)
        close(control);
    return done;
}

/* ---- The process beside the mount ---- */

/* So that nobody takes it for the one that serves. */
static void change_title(void)
{
    char text[512];
    size_t len = 0;
    ssize_t n;
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && (n = read(fd, text, sizeof text)) > 0)
        len += (size_t)n;
    if (fd >= 0)
        close(fd);
    if (len >= sizeof title) {
        memset(program_invocation_name, 0, len);
        memcpy(program_invocation_name, title, sizeof title);
    }
    prctl(PR_SET_NAME, title);
}

/* It keeps nothing open, and in use, that is the other's. */
static void leave_files(int *socket)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null >= 0 && fd < STANDARD_FILES; fd++)
        dup2(null, fd);
    *socket = dup2(*socket, STANDARD_FILES);
    close_range(STANDARD_FILES + 1, ~0U, 0);
}

static _Noreturn void watch(pid_t server, int socket)
{
    char device[FS_DEVICE_MAX];
    sigset_t ends;
    change_title();
    leave_files(&socket);
    sigemptyset(&ends);
    sigaddset(&ends, signal_of_end());
    if (setsid() < 0 || chdir("/") != 0 || prctl(PR_SET_PDEATHSIG, signal_of_end()) != 0 ||
        getppid() != server)
        _exit(EXIT_FAILURE);
    ssize_t n = recv(socket, device, sizeof device - 1, 0);
    if (n <= 0)
        _exit(EXIT_SUCCESS); /* It was not mounted. */
    device[n] = 0;
    int control = open_control(device);
    if (control < 0 || send(socket, "", 1, MSG_NOSIGNAL) != 1)
        _exit(EXIT_FAILURE);
    while (sigwaitinfo(&ends, NULL) < 0)
        continue;
    _exit(write(control, "1", 1) == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
}

void fs_abort_begin(void)
{
    int sockets[2];
    sigset_t all, before;
    pid_t server = getpid();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        return;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        watch(server, sockets[0]);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(sockets[0]);
    if (pid > 0) {
        watcher = pid;
        watcher_socket = sockets[1];
    } else {
        close(sockets[1]);
    }
}

/*
 * A process that leaves a core waits for all of its threads before that, and its first one does
 * not end.
 */
static void say_that_we_die(int number)
{
    kill(watcher, signal_of_end());
    raise(number); /* It ends the process when this function has returned. */
}

static void tell_of_faults(void)
{
    static const int faults[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction now;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        if (sigaction(faults[i], NULL, &now) != 0 || now.sa_handler != SIG_DFL)
            continue;
        now = (struct sigaction){.sa_handler = say_that_we_die, .sa_flags = (int)SA_RESETHAND};
        sigaction(faults[i], &now, NULL);
    }
}

void fs_abort_mounted(const char *path)
{
    char device[FS_DEVICE_MAX], ready;
    if (watcher == 0)
        return;
    bool watched = fs_device(path, device) &&
                   send(watcher_socket, device, strlen(device), MSG_NOSIGNAL) > 0 &&
                   recv(watcher_socket, &ready, 1, 0) == 1;
    close(watcher_socket);
    if (watched)
        tell_of_faults();
    else
        while (waitpid(watcher, NULL, 0) < 0 && errno == EINTR)
            continue;
}
