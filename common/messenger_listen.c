#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/log.h"
#include "common/messenger_private.h"

static void on_poll(uv_poll_t *handle, int status, int events);

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/*
 * Out of descriptors or memory: the connection stays in the kernel's queue, so that watching the
 * socket would turn the loop without end. Try again a little later.
 */
static void pause_listening(struct listener *l, int error)
{
    log_warn(l->m->env, "cannot accept connections", "error=\"%s\"", error_text(error));
    uv_poll_stop(&l->poll);
    env_timer_after(l->m->env, &l->timer, MESSENGER_LISTEN_NS);
}

static void timer_fire(struct env_timer *timer)
{
    struct listener *l = container_of(timer, struct listener, timer);
    int rc = uv_poll_start(&l->poll, UV_READABLE, on_poll);
    if (rc < 0)
        pause_listening(l, rc);
}

static bool is_shortage(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM;
}

/* Returns false when there is nothing more to accept now. */
static bool accept_one(struct listener *l)
{
    struct sockaddr_storage from;
    socklen_t from_len = sizeof from;
    int fd = accept4(l->fd, (struct sockaddr *)&from, &from_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (is_shortage(-errno))
            pause_listening(l, -errno);
        /* Anything else concerns one connection, which is gone already, or there is none. */
        return errno != EAGAIN && errno != EWOULDBLOCK && !is_shortage(-errno);
    }
    struct net_address remote;
    socket_address_read(&from, &remote);
    int rc = connection_accepted(l->m, fd, &remote);
    if (rc < 0)
        close(fd);
    return true;
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    struct listener *l = handle->data;
    for (int i = 0; i < MESSENGER_ACCEPTS && accept_one(l); i++)
        ;
}

static int bind_and_listen(int fd, const struct net_address *want)
{
    struct sockaddr_storage address;
    socklen_t len = socket_address(want, &address);
    int one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
        return -errno;
    if (want->family == 6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, SOMAXCONN) < 0)
        return -errno;
    return 0;
}

static int read_bound(int fd, struct net_address *bound)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return -errno;
    socket_address_read(&address, bound);
    return 0;
}

int messenger_listen(struct messenger *m, const struct net_address *want, struct net_address *bound)
{
    if (want->family != 4 && want->family != 6)
        return -EINVAL;
    struct net_address got;
    struct listener *l = calloc(1, sizeof *l);
    if (l == NULL)
        return -ENOMEM;
    l->m = m;
    l->fd = socket_open(want);
    int rc = l->fd < 0 ? l->fd : bind_and_listen(l->fd, want);
    if (rc == 0)
        rc = read_bound(l->fd, &got);
    if (rc == 0)
        rc = uv_poll_init(m->loop, &l->poll, l->fd);
    if (rc < 0) {
        if (l->fd >= 0)
            close(l->fd);
        free(l);
        return rc;
    }
    l->poll.data = l;
    l->timer.fire = timer_fire;
    SLIST_INSERT_HEAD(&m->listeners, l, link);
    rc = uv_poll_start(&l->poll, UV_READABLE, on_poll);
    if (rc < 0)
        return rc; /* It stays in the list, and is freed with the messenger. */
    if (bound != NULL)
        *bound = got;
    return 0;
}

void listener_close_all(struct messenger *m)
{
    while (!SLIST_EMPTY(&m->listeners)) {
        struct listener *l = SLIST_FIRST(&m->listeners);
        SLIST_REMOVE_HEAD(&m->listeners, link);
        env_timer_stop(m->env, &l->timer);
        uv_close((uv_handle_t *)&l->poll, on_closed);
        close(l->fd);
    }
}
