#include "client/nbd/quit.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PLACES_MAX = 16, LOOK_MS = 50, QUIT_PATIENCE_MS = 1000 };

/* Where nbdkit listens: its clients' sockets have the same address. */
struct place {
    struct sockaddr_storage address;
    socklen_t len;
};

static const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP};
enum { SIGNALS = sizeof signals / sizeof signals[0] };

static struct {
    struct place places[PLACES_MAX];
    size_t n_places;
    struct sigaction before[SIGNALS];
    int told; /* An eventfd. */
    atomic_bool ended;
    bool begun;
    pthread_t thread;
} quit;

static void on_signal(int number)
{
    const uint64_t one = 1;
    int error = errno;
    ssize_t n = write(quit.told, &one, sizeof one);
    (void)n; /* It was told before. */
    for (int i = 0; i < SIGNALS; i++) {
        void (*handler)(int) = quit.before[i].sa_handler;
        if (signals[i] == number && handler != SIG_DFL && handler != SIG_IGN)
            handler(number);
    }
    errno = error;
}

/* ---- Sockets ---- */

static bool listens(int fd)
{
    int value = 0;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) == 0 && value != 0;
}

static bool place_of(int fd, struct place *out)
{
    memset(out, 0, sizeof *out);
    out->len = sizeof out->address;
    return getsockname(fd, (struct sockaddr *)&out->address, &out->len) == 0;
}

static void note_place(int fd, int how)
{
    (void)how;
    if (quit.n_places < PLACES_MAX && listens(fd) && place_of(fd, &quit.places[quit.n_places]))
        quit.n_places++;
}

/* A client's address may be any of ours when it listens to all of them: the port tells then. */
static bool same_place(const struct place *a, const struct place *b)
{
    const size_t port = sizeof a->address.ss_family; /* In sockaddr_in and sockaddr_in6. */
    if (a->address.ss_family != b->address.ss_family)
        return false;
    if (a->address.ss_family == AF_UNIX)
        return a->len == b->len && memcmp(&a->address, &b->address, a->len) == 0;
    return memcmp((const char *)&a->address + port, (const char *)&b->address + port, 2) == 0;
}

static void end_client(int fd, int how)
{
    struct place place;
    if (listens(fd) || !place_of(fd, &place))
        return;
    for (size_t i = 0; i < quit.n_places; i++) {
        if (same_place(&place, &quit.places[i]))
            shutdown(fd, how);
    }
}

static int for_each_fd(void (*call)(int fd, int how), int how)
{
    const struct dirent *entry;
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL)
        return -errno;
    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] != '.')
            call((int)strtol(entry->d_name, NULL, 10), how);
    }
    closedir(folder);
    return 0;
}

/* ---- The thread ---- */

/* A connection may be accepted just now: it looks again until nbdkit has ended all. */
static void *wait_and_end(void *arg)
{
    struct pollfd told = {.fd = quit.told, .events = POLLIN};
    (void)arg;
    while (poll(&told, 1, -1) < 0)
        continue;
    for (int ms = 0; !atomic_load(&quit.ended); ms += LOOK_MS) {
        int rc = for_each_fd(end_client, ms < QUIT_PATIENCE_MS ? SHUT_RD : SHUT_RDWR);
        (void)rc; /* It tries again. */
        poll(NULL, 0, LOOK_MS);
    }
    return NULL;
}

int quit_begin(void)
{
    sigset_t all, before;
    int rc = for_each_fd(note_place, 0);
    if (rc != 0 || quit.n_places == 0)
        return rc;
    quit.told = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (quit.told < 0)
        return -errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = -pthread_create(&quit.thread, NULL, wait_and_end, NULL);
    quit.begun = rc == 0;
    for (int i = 0; i < SIGNALS && rc == 0; i++) {
        struct sigaction action;
        sigaction(signals[i], NULL, &quit.before[i]);
        action = quit.before[i];
        action.sa_handler = on_signal;
        if ((quit.before[i].sa_flags & SA_SIGINFO) == 0)
            sigaction(signals[i], &action, NULL);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

void quit_end(void)
{
    const uint64_t one = 1;
    if (!quit.begun)
        return;
    for (int i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &quit.before[i], NULL);
    atomic_store(&quit.ended, true);
    ssize_t n = write(quit.told, &one, sizeof one);
    (void)n; /* It was told before. */
    pthread_join(quit.thread, NULL);
    close(quit.told);
    quit.begun = false;
}
