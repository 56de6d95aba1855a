#include "client/nbd/server.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client/nbd/server_private.h"

enum { ACCEPTS_MAX = 32, PAUSE_MS = 1000 };

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void server_complain(struct nbd_server *s, const char *what, ssize_t error)
{
    if (s->complaints == COMPLAINTS_MAX)
        return;
    s->complaints++;
    fprintf(stderr, "limpet: %s: %s%s\n", what, limpet_error_text((int)error),
            s->complaints == COMPLAINTS_MAX ? "; further failures are not shown" : "");
}

void server_wake(struct nbd_server *s)
{
    const uint64_t one = 1;
    ssize_t n = write(s->fds[FD_WAKE].fd, &one, sizeof one);
    (void)n; /* It was woken before. */
}

void server_look_at(struct nbd_client *c)
{
    if (!c->queued)
        STAILQ_INSERT_TAIL(&c->server->dirty, c, dirty_link);
    c->queued = true;
}

void server_poll_for(struct nbd_client *c, short events)
{
    struct pollfd *fd = &c->server->fds[FD_CLIENTS + c->slot];
    fd->fd = c->fd;
    fd->events = events;
}

/* ---- Sizes ---- */

static void read_size(struct nbd_job *job)
{
    struct nbd_server *s =
        (struct nbd_server *)((char *)job - offsetof(struct nbd_server, refresh));
    s->refresh_error = limpet_image_refresh(s->options.image);
}

static int own_size(struct nbd_server *s, uint64_t *size)
{
    struct limpet_image_info info;
    int rc = limpet_image_info(s->options.image, &info);
    *size = rc == 0 ? info.size : 0;
    return rc;
}

static void begin_waiting(struct nbd_server *s, uint64_t upto, int error)
{
    uint64_t size = 0;
    if (error == 0)
        error = own_size(s, &size);
    if (error != 0)
        server_complain(s, "the size", error);
    for (unsigned i = 0; i < s->n_clients; i++) {
        struct nbd_client *c = s->clients[i];
        if (c->fd < 0 || !c->waits_for_size || c->number > upto)
            continue;
        if (error == 0 && !c->ending)
            client_begin(c, size);
        else
            client_close(c);
    }
}

static void want_size(struct nbd_server *s);

static void size_was_read(struct nbd_job *job)
{
    struct nbd_server *s =
        (struct nbd_server *)((char *)job - offsetof(struct nbd_server, refresh));
    s->refreshing = false;
    begin_waiting(s, s->refresh_upto, s->refresh_error);
    if (s->numbers > s->refresh_upto)
        want_size(s);
}

/* For all who have come so far. */
static void want_size(struct nbd_server *s)
{
    if (!s->options.follows) {
        begin_waiting(s, s->numbers, 0);
        return;
    }
    if (s->refreshing)
        return;
    s->refresh_upto = s->numbers;
    s->refreshing = true;
    s->refresh.run = read_size;
    s->refresh.ended = size_was_read;
    int rc = workers_run(s, &s->refresh);
    if (rc != 0) {
        s->refreshing = false;
        begin_waiting(s, s->numbers, rc);
    }
}

/* ---- Clients come and go ---- */

static void listen_to(struct nbd_server *s, bool listens)
{
    s->paused = !listens;
    for (unsigned i = 0; i < s->n_listeners; i++)
        s->fds[FD_LISTENERS + i].events = listens ? POLLIN : 0;
}

/* Those that are closed and have nothing under way. */
static void bury(struct nbd_server *s)
{
    for (unsigned i = s->n_clients; i-- > 0 && s->n_closed > 0;) {
        struct nbd_client *c = s->clients[i];
        if (c->fd >= 0 || c->requests > 0 || c->queued)
            continue;
        unsigned last = --s->n_clients;
        s->clients[i] = s->clients[last];
        s->clients[i]->slot = i;
        s->fds[FD_CLIENTS + i] = s->fds[FD_CLIENTS + last];
        s->n_closed--;
        client_destroy(c);
        if (s->paused && !s->ending)
            listen_to(s, true);
    }
}

/* The oldest that has agreed upon nothing yet gives way. */
static bool make_room(struct nbd_server *s)
{
    struct nbd_client *oldest = NULL;
    for (unsigned i = 0; i < s->n_clients; i++) {
        struct nbd_client *c = s->clients[i];
        if (c->fd >= 0 && c->peer.phase != NBD_TRANSMISSION &&
            (oldest == NULL || c->number < oldest->number))
            oldest = c;
    }
    if (oldest == NULL)
        return false;
    client_close(oldest);
    return true;
}

static void add_client(struct nbd_server *s, int fd)
{
    const int yes = 1;
    struct nbd_client *c;
    /* Not of Unix sockets. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
    if (client_create(s, fd, &c) != 0)
        return;
    c->slot = s->n_clients;
    c->number = ++s->numbers;
    s->clients[s->n_clients++] = c;
    client_poll(c);
    want_size(s);
}

static void take_clients(struct nbd_server *s, int listener)
{
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        if (s->n_clients == NBD_CLIENTS_MAX) {
            if (!make_room(s))
                listen_to(s, false);
            return;
        }
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            add_client(s, fd);
            continue;
        }
        if ((errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) &&
            !make_room(s))
            listen_to(s, false);
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

/* ---- A round ---- */

static void answer_done(struct nbd_server *s)
{
    struct nbd_request *request;
    while ((request = STAILQ_FIRST(&s->done)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->done, link);
        if (request->client->fd >= 0)
            client_answer(request->client, request);
        else
            request_destroy(request);
    }
}

static void send_dirty(struct nbd_server *s)
{
    struct nbd_client *c;
    while ((c = STAILQ_FIRST(&s->dirty)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->dirty, dirty_link);
        c->queued = false;
        client_send(c);
    }
}

static void resume_stalled(struct nbd_server *s)
{
    unsigned n = s->n_clients;
    for (unsigned i = 0; i < n && s->n_stalled > 0; i++) {
        struct nbd_client *c = s->clients[(s->turn + i) % n];
        if (c->stalled)
            client_resume(c);
    }
    s->turn = n > 0 ? (s->turn + 1) % n : 0;
}

static bool has_more(const struct nbd_server *s)
{
    return !STAILQ_EMPTY(&s->done) || !STAILQ_EMPTY(&s->dirty);
}

static void go_round(struct nbd_server *s)
{
    unsigned passes = 0;
    requests_gather(s);
    workers_gather(s);
    /* A client whose requests are over at once could go on for ever. */
    do {
        answer_done(s);
        send_dirty(s);
        resume_stalled(s);
    } while (has_more(s) && ++passes < PASSES_MAX);
    if (s->n_closed > 0)
        bury(s);
}

static void look_at_client(struct nbd_server *s, unsigned i)
{
    struct nbd_client *c = s->clients[i];
    short events = s->fds[FD_CLIENTS + i].revents;
    s->fds[FD_CLIENTS + i].revents = 0;
    if (c->fd < 0 || events == 0)
        return;
    if (events & POLLOUT)
        c->writable = true;
    /* Before the handshake of TLS itself the answer to the wish for it leaves. */
    if (events & POLLOUT && (c->peer.phase != NBD_HANDSHAKE || c->tls == NULL))
        server_look_at(c);
    /* Of a socket that is not read, the end is told all the same. */
    bool reads = (s->fds[FD_CLIENTS + i].events & POLLIN) != 0;
    if (events & (POLLERR | POLLNVAL) || (events & POLLHUP && !reads))
        client_close(c);
    else if (events & (POLLIN | POLLHUP) || c->peer.phase == NBD_HANDSHAKE)
        client_receive(c);
}

/* ---- The end ---- */

static void begin_end(struct nbd_server *s)
{
    s->ending = true;
    s->end_ms = now_ms() + PATIENCE_MS;
    for (unsigned i = 0; i < s->n_listeners; i++) {
        close(s->fds[FD_LISTENERS + i].fd);
        s->fds[FD_LISTENERS + i].fd = -1;
    }
    s->n_listeners = 0;
    for (unsigned i = 0; i < s->n_clients; i++) {
        if (s->clients[i]->waits_for_size || s->clients[i]->peer.phase != NBD_TRANSMISSION)
            client_close(s->clients[i]);
        else
            client_end(s->clients[i]);
    }
}

/* Who does not take its answers is not waited for any longer; requests under way are. */
static void end_patience(struct nbd_server *s)
{
    for (unsigned i = 0; i < s->n_clients; i++) {
        struct nbd_client *c = s->clients[i];
        if (c->fd >= 0 && c->requests == c->answered)
            client_close(c);
    }
}

static void take_signal(struct nbd_server *s)
{
    struct signalfd_siginfo info;
    if (read(s->fds[FD_SIGNALS].fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    if (s->ending)
        _exit(128 + (int)info.ssi_signo);
    begin_end(s);
}

static bool is_over(struct nbd_server *s)
{
    if (!s->ending)
        return false;
    if (now_ms() >= s->end_ms) {
        end_patience(s);
        bury(s);
    }
    return s->n_clients == 0 && s->workers.under_way == 0;
}

static int timeout_of(const struct nbd_server *s)
{
    if (has_more(s))
        return 0;
    if (!s->ending)
        return s->paused ? PAUSE_MS : -1;
    int64_t left = s->end_ms - now_ms();
    return left > 0 ? (int)left : PAUSE_MS;
}

int nbd_server_run(struct nbd_server *s)
{
    int rc = 0;
    s->thread = pthread_self();
    for (go_round(s); !is_over(s); go_round(s)) {
        int n = limpet_cluster_poll(s->options.cluster, s->fds, FD_CLIENTS + s->n_clients,
                                    timeout_of(s));
        if (n < 0 && n != -EINTR) {
            rc = n;
            break;
        }
        if (s->paused && !s->ending)
            listen_to(s, true);
        if (n <= 0)
            continue;
        uint64_t times;
        if (s->fds[FD_WAKE].revents & POLLIN &&
            read(s->fds[FD_WAKE].fd, &times, sizeof times) < 0 && errno != EAGAIN)
            rc = -errno;
        if (s->fds[FD_SIGNALS].revents & POLLIN)
            take_signal(s);
        for (unsigned i = s->n_clients; i-- > 0;)
            look_at_client(s, i);
        for (unsigned i = 0; i < s->n_listeners; i++) {
            if (s->fds[FD_LISTENERS + i].revents != 0)
                take_clients(s, s->fds[FD_LISTENERS + i].fd);
        }
    }
    limpet_cluster_poll_end(s->options.cluster);
    return rc;
}

/* ---- Beginning ---- */

/* A descriptor for each client. */
static void raise_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int open_events(struct nbd_server *s)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGQUIT);
    sigaddset(&signals, SIGHUP);
    s->fds[FD_SIGNALS].fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    if (s->fds[FD_SIGNALS].fd < 0)
        return -errno;
    s->fds[FD_WAKE].fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->fds[FD_WAKE].fd < 0)
        return -errno;
    s->fds[FD_SIGNALS].events = s->fds[FD_WAKE].events = POLLIN;
    return 0;
}

static void close_events(struct nbd_server *s)
{
    for (unsigned i = 0; i < FD_CLIENTS; i++) {
        if (s->fds[i].fd >= 0)
            close(s->fds[i].fd);
    }
}

int nbd_server_create(const struct nbd_server_options *options, struct nbd_server **out)
{
    if (strlen(options->name) >= NBD_EXPORT_NAME_MAX ||
        strlen(options->other_name) >= NBD_EXPORT_NAME_MAX)
        return -ENAMETOOLONG;
    struct nbd_server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return -ENOMEM;
    struct limpet_image_info info;
    int rc = limpet_image_info(options->image, &info);
    if (rc != 0) {
        free(s);
        return rc;
    }
    s->unit = info.stripe_unit;
    s->options = *options;
    strcpy(s->export.name, options->name);
    strcpy(s->export.other_name, options->other_name);
    s->export.read_only = options->read_only;
    STAILQ_INIT(&s->done);
    STAILQ_INIT(&s->dirty);
    STAILQ_INIT(&s->elsewhere);
    for (unsigned i = 0; i < FD_CLIENTS + NBD_CLIENTS_MAX; i++)
        s->fds[i].fd = -1;
    raise_limit();
    rc = -pthread_mutex_init(&s->lock, NULL);
    if (rc != 0)
        goto fail;
    rc = workers_init(&s->workers);
    if (rc != 0)
        goto fail_workers;
    rc = open_events(s);
    if (rc != 0)
        goto fail_events;
    limpet_image_call_by_waiters(options->image);
    *out = s;
    return 0;
fail_events:
    close_events(s);
    workers_fini(&s->workers);
fail_workers:
    pthread_mutex_destroy(&s->lock);
fail:
    free(s);
    return rc;
}

int nbd_server_listen(struct nbd_server *s, int fd)
{
    if (s->n_listeners == NBD_LISTENERS_MAX) {
        close(fd);
        return -ENOSPC;
    }
    s->fds[FD_LISTENERS + s->n_listeners++] = (struct pollfd){.fd = fd, .events = POLLIN};
    return 0;
}

void nbd_server_destroy(struct nbd_server *s)
{
    workers_fini(&s->workers);
    close_events(s);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
