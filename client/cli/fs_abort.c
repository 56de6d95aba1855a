/*
 * limpet fs mount: the end of a mount whose process is killed.
 *
 * The kernel gives up a mount, and ends the connections to the cluster, for which others wait, when
 * the last thread of the process has ended. Two things hold that up:
 *
 * - A thread may tell the kernel to drop pages, and wait for one that is being read, by a request
 *   that nobody answers now. So reader and thread would wait for each other for good. What ends
 *   this is a word to the kernel's control file of the connection (fusectl).
 *
 * - The thread that takes requests may have the policy SCHED_IDLE (fs_receive.c). On a processor
 *   that others use it gets to its end after seconds, and who would make it an ordinary thread is
 *   dead.
 *
 * A process beside the mount sees to both. It waits for nothing but the end of the thread that has
 * made it, which does nothing else, and so ends at once: a signal comes then, whatever the rest
 * does. By that time the mount is over in any case; and the control file of a connection that is
 * gone does nothing, even when another has got its number. When both processes were killed, who
 * unmounts ends the connection.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
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

/* All its threads end as others do, and not when nobody else wants to run. */
static void make_ordinary(pid_t server)
{
    const struct sched_param param = {.sched_priority = 0};
    const struct dirent *entry;
    char path[64];
    cpu_set_t all;
    memset(&all, 0xff, sizeof all);
    snprintf(path, sizeof path, "/proc/%d/task", server);
    DIR *threads = opendir(path);
    while (threads != NULL && (entry = readdir(threads)) != NULL) {
        pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
        /* Those that have ended meanwhile need it no more. */
        if (tid > 0 && sched_setscheduler(tid, SCHED_OTHER, &param) == 0)
            (void)sched_setaffinity(tid, sizeof all, &all);
    }
    if (threads != NULL)
        closedir(threads);
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
    if (send(socket, "", 1, MSG_NOSIGNAL) != 1)
        _exit(EXIT_FAILURE);
    while (sigwaitinfo(&ends, NULL) < 0)
        continue;
    make_ordinary(server);
    _exit(control < 0 || write(control, "1", 1) == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
}

struct beginning {
    int socket;
    sem_t begun;
};

static void *make_watcher(void *arg)
{
    struct beginning *beginning = arg;
    pid_t server = getpid(), pid = fork();
    if (pid == 0)
        watch(server, beginning->socket);
    watcher = pid;
    sem_post(&beginning->begun);
    for (;;)
        pause();
    return NULL;
}

void fs_abort_begin(void)
{
    int sockets[2];
    struct beginning beginning;
    pthread_t thread;
    sigset_t all, before;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        return;
    beginning.socket = sockets[0];
    watcher_socket = sockets[1];
    sem_init(&beginning.begun, 0, 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, make_watcher, &beginning) == 0) {
        pthread_detach(thread);
        while (sem_wait(&beginning.begun) != 0)
            continue;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sem_destroy(&beginning.begun);
    close(sockets[0]);
}

/* A process that leaves a core waits for all of its threads before that, and none of them ends. */
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
    if (watcher <= 0)
        return;
    if (fs_device(path, device) && send(watcher_socket, device, strlen(device), MSG_NOSIGNAL) > 0 &&
        recv(watcher_socket, &ready, 1, 0) == 1)
        tell_of_faults();
    close(watcher_socket);
}
