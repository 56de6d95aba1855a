/*
 * One TCP connection: made or accepted, its handshake, its end.
 *
 * Invariants:
 *  1. Until the handshake is done, bytes go nowhere but to auth_handshake_feed(), and an inbound
 *     connection has at most MESSENGER_HANDSHAKE_NS for it.
 *  2. A connection is freed only by libuv's close callback, which runs when none of the messenger's
 *     functions is on the stack; after connection_close() it is only looked at for its state.
 */
#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/messenger_private.h"

enum { HANDSHAKE_READ_BYTES = 4096, DISCARD_BYTES = 65536 };

static void on_poll(uv_poll_t *handle, int status, int events);
static void timer_fire(struct env_timer *timer);

static int connection_create(struct messenger *m, int fd, struct connection **out)
{
    struct connection *c = aligned_alloc(alignof(struct connection), sizeof *c);
    if (c == NULL)
        return -ENOMEM;
    memset(c, 0, sizeof *c);
    int rc = uv_poll_init(m->loop, &c->poll, fd);
    if (rc < 0) {
        free(c);
        return rc;
    }
    c->m = m;
    c->fd = fd;
    c->poll.data = c;
    c->timer.fire = timer_fire;
    c->since_ns = env_now(m->env);
    frame_reader_init(&c->reader, &c->receive_key);
    TAILQ_INSERT_TAIL(&m->connections, c, link);
    *out = c;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    if (c->dirty)
        TAILQ_REMOVE(&c->m->dirty, c, dirty_link);
    TAILQ_REMOVE(&c->m->connections, c, link);
    free(c);
}

static void drop_handshake(struct connection *c)
{
    if (c->handshake == NULL)
        return;
    auth_handshake_fini(c->handshake);
    free(c->handshake);
    c->handshake = NULL;
}

static void proven(struct connection *c)
{
    if (!c->unproven)
        return;
    TAILQ_REMOVE(&c->m->unproven, c, unproven_link);
    c->unproven = false;
    c->m->n_unproven--;
}

void connection_close(struct connection *c)
{
    if (c->state == CONNECTION_CLOSED)
        return;
    /* What a session has sent over it is sent again over the next one, or never. */
    if (c->state == CONNECTION_OPEN || c->state == CONNECTION_LEAVING)
        socket_forget(c->fd);
    c->state = CONNECTION_CLOSED;
    if (c->session != NULL) {
        c->session->connection = NULL;
        c->session = NULL;
    }
    proven(c);
    if (c->starved) {
        TAILQ_REMOVE(&c->m->starved, c, starved_link);
        c->starved = false;
    }
    env_timer_stop(c->m->env, &c->timer);
    drop_handshake(c);
    batch_release(c);
    connection_reader_release(c);
    frame_key_fini(&c->send_key);
    frame_key_fini(&c->receive_key);
    uv_close((uv_handle_t *)&c->poll, on_closed);
    close(c->fd);
    c->fd = -1;
}

void connection_broken(struct connection *c, int error)
{
    struct session *s = c->session;
    bool steady =
        c->state == CONNECTION_OPEN && env_now(c->m->env) - c->since_ns >= MESSENGER_STEADY_NS;
    connection_close(c);
    if (s == NULL)
        return;
    if (steady)
        s->retries = 0;
    session_disconnected(s, error);
}

static void set_state(struct connection *c, enum connection_state state)
{
    c->state = state;
    c->since_ns = env_now(c->m->env);
}

void connection_update_poll(struct connection *c)
{
    int events = 0;
    switch (c->state) {
    case CONNECTION_CONNECTING:
        events = UV_WRITABLE;
        break;
    case CONNECTION_HANDSHAKE:
    case CONNECTION_LINGERING:
        events = UV_READABLE;
        break;
    case CONNECTION_OPEN:
        /* While it is not read, nothing else would tell that the peer's process has died. */
        events = c->session->paused || c->starved ? UV_DISCONNECT : UV_READABLE;
        if (c->blocked)
            events |= UV_WRITABLE;
        break;
    case CONNECTION_LEAVING:
        if (c->blocked)
            events = UV_WRITABLE;
        break;
    case CONNECTION_CLOSED:
        return;
    }
    if (events == c->poll_events)
        return;
    c->poll_events = events;
    int rc = events == 0 ? uv_poll_stop(&c->poll) : uv_poll_start(&c->poll, events, on_poll);
    assert(rc == 0);
}

/* ---- Beginning ---- */

int connection_connect(struct session *s)
{
    struct messenger *m = s->m;
    const struct net_address *to = &s->pub.peer.address;
    struct sockaddr_storage address;
    socklen_t address_len = socket_address(to, &address);
    struct connection *c;
    int fd = socket_open(to);
    if (fd < 0)
        return fd;
    socket_tune(fd);
    if (connect(fd, (struct sockaddr *)&address, address_len) < 0 && errno != EINPROGRESS) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    int rc = connection_create(m, fd, &c);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    c->remote = *to;
    c->session = s;
    s->connection = c;
    set_state(c, CONNECTION_CONNECTING);
    connection_update_poll(c);
    return 0;
}

static struct auth_handshake_params make_params(const struct messenger *m)
{
    assert(m->provider != NULL);
    return (struct auth_handshake_params){
        .provider = m->provider,
        .mode = m->mode,
        .instance = m->env->instance,
        .now_wall_s = env_wall(m->env) / SEC_NS,
    };
}

int connection_accepted(struct messenger *m, int fd, const struct net_address *remote)
{
    struct connection *c;
    int rc = connection_create(m, fd, &c);
    if (rc < 0)
        return rc;
    socket_tune(fd);
    c->remote = *remote;
    c->inbound = true;
    set_state(c, CONNECTION_HANDSHAKE);
    if (m->n_unproven >= MESSENGER_UNPROVEN_MAX)
        connection_close(TAILQ_FIRST(&m->unproven));
    c->unproven = true;
    m->n_unproven++;
    TAILQ_INSERT_TAIL(&m->unproven, c, unproven_link);
    env_timer_after(m->env, &c->timer, MESSENGER_HANDSHAKE_NS);
    c->handshake = calloc(1, sizeof *c->handshake);
    struct auth_handshake_params params = make_params(m);
    if (c->handshake == NULL || auth_handshake_respond(c->handshake, &params) < 0) {
        connection_close(c);
        return 0;
    }
    connection_update_poll(c);
    return 0;
}

/*
 * A handshake message always fits an empty socket buffer, and both sides speak in turn: whoever
 * makes it not fit does not follow the protocol.
 */
static int send_handshake(struct connection *c)
{
    struct auth_handshake *h = c->handshake;
    if (h->out_len == 0)
        return 0;
    ssize_t n = send(c->fd, h->out, h->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return -errno;
    if ((size_t)n < h->out_len)
        return -EPROTO;
    h->out_len = 0;
    return 0;
}

static void handshake_failed(struct connection *c, int error, bool is_hint)
{
    struct session *s = c->session;
    (void)send_handshake(c); /* A refusal, if any. */
    if (s == NULL) {
        messenger_log_refusal(c->m, &c->remote, error);
        drop_handshake(c);
        connection_linger(c);
        return;
    }
    connection_close(c);
    session_refused(s, error, is_hint);
}

static void begin_handshake(struct connection *c)
{
    struct session *s = c->session;
    struct session_offer offer = {
        .id = s->key.id,
        .attempt = s->attempt,
        .received = s->state.received,
        .flags = s->pub.open ? SESSION_OFFER_RESUME : 0,
    };
    struct auth_handshake_params params = make_params(c->m);
    params.expect = s->expect.name;
    params.blob = &offer;
    params.blob_len = sizeof offer;
    c->handshake = calloc(1, sizeof *c->handshake);
    if (c->handshake == NULL) {
        connection_broken(c, -ENOMEM);
        return;
    }
    int rc = auth_handshake_initiate(c->handshake, &params);
    if (rc < 0) {
        handshake_failed(c, rc, false);
        return;
    }
    rc = send_handshake(c);
    if (rc < 0) {
        connection_broken(c, rc);
        return;
    }
    set_state(c, CONNECTION_HANDSHAKE);
    connection_update_poll(c);
}

/* What has happened to it: 0, or a negative errno. */
static int socket_error(int fd)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    return -error;
}

static void connected(struct connection *c)
{
    int error = socket_error(c->fd);
    if (error == 0 && socket_is_own_peer(c->fd))
        error = -ECONNREFUSED;
    if (error != 0)
        connection_broken(c, error);
    else
        begin_handshake(c);
}

/* ---- Handshake ---- */

static void take_keys(struct connection *c)
{
    const struct auth_handshake *h = c->handshake;
    frame_key_init(&c->send_key, h->cipher, h->mode, h->send_key);
    frame_key_init(&c->receive_key, h->cipher, h->mode, h->receive_key);
    env_timer_stop(c->m->env, &c->timer);
    set_state(c, CONNECTION_OPEN);
}

static void open_outbound(struct connection *c)
{
    struct auth_handshake *h = c->handshake;
    c->handshake = NULL;
    session_outbound_up(c->session, h);
    auth_handshake_fini(h);
    free(h);
}

/* The peer has proven itself and said what it wants. Leaves the connection open, or closed. */
static void answer_inbound(struct connection *c)
{
    struct session_answer answer;
    int rc = session_inbound(c, c->handshake, &answer);
    if (rc < 0) {
        connection_close(c);
        return;
    }
    auth_handshake_accept(c->handshake, &answer, sizeof answer);
    rc = send_handshake(c);
    if (c->session == NULL) {
        connection_linger(c);
        return;
    }
    take_keys(c);
    drop_handshake(c);
    proven(c);
    session_inbound_up(c->session);
    if (rc < 0 && c->state == CONNECTION_OPEN)
        connection_broken(c, rc);
}

static bool handshake_waits(const struct auth_handshake *h)
{
    return h->state == AUTH_HANDSHAKE_WAIT_REPLY || h->state == AUTH_HANDSHAKE_WAIT_ACCEPT ||
           h->state == AUTH_HANDSHAKE_WAIT_HELLO || h->state == AUTH_HANDSHAKE_WAIT_CONFIRM;
}

/* Feeds what was read; what is left of it afterwards are frames. */
static void handshake_take(struct connection *c, const uint8_t *data, size_t len)
{
    struct auth_handshake *h = c->handshake;
    while (len > 0 && handshake_waits(h)) {
        size_t used = 0;
        int rc = auth_handshake_feed(h, data, len, &used);
        assert(used <= len);
        if (rc < 0) {
            handshake_failed(c, rc, h->error_is_hint);
            return;
        }
        data += used;
        len -= used;
        rc = send_handshake(c);
        if (rc < 0) {
            connection_broken(c, rc);
            return;
        }
    }
    if (handshake_waits(h))
        return;
    if (h->state == AUTH_HANDSHAKE_PROVEN) {
        answer_inbound(c);
    } else {
        assert(h->state == AUTH_HANDSHAKE_DONE);
        take_keys(c);
        open_outbound(c);
    }
    if (c->state != CONNECTION_OPEN)
        return;
    int rc = len == 0 ? 0 : connection_reader_put(c, data, len);
    if (rc < 0)
        connection_broken(c, rc);
    else
        connection_resume(c);
}

static void handshake_read(struct connection *c)
{
    uint8_t data[HANDSHAKE_READ_BYTES];
    ssize_t n = recv(c->fd, data, sizeof data, MSG_DONTWAIT);
    if (n > 0)
        handshake_take(c, data, (size_t)n);
    else if (n == 0)
        connection_broken(c, -ECONNRESET);
    else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        connection_broken(c, -errno);
}

/* ---- End ---- */

void connection_leave(struct connection *c)
{
    assert(c->state == CONNECTION_OPEN);
    set_state(c, CONNECTION_LEAVING);
    env_timer_after(c->m->env, &c->timer, MESSENGER_LEAVE_NS);
    connection_update_poll(c);
    messenger_dirty(c);
}

/*
 * Closing a socket that still holds unread bytes resets the connection, which could destroy what
 * was sent last. So the peer closes first, or has had its time.
 */
void connection_linger(struct connection *c)
{
    struct session *s = c->session;
    if (s != NULL) {
        s->connection = NULL;
        c->session = NULL;
        session_dead(s);
    }
    set_state(c, CONNECTION_LINGERING);
    env_timer_after(c->m->env, &c->timer, MESSENGER_LINGER_NS);
    if (shutdown(c->fd, SHUT_WR) < 0)
        connection_close(c);
    else
        connection_update_poll(c);
}

static void discard(struct connection *c)
{
    char sink[DISCARD_BYTES];
    ssize_t n = recv(c->fd, sink, sizeof sink, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        connection_close(c);
}

static void timer_fire(struct env_timer *timer)
{
    struct connection *c = container_of(timer, struct connection, timer);
    switch (c->state) {
    case CONNECTION_HANDSHAKE:
        messenger_log_refusal(c->m, &c->remote, -ETIMEDOUT);
        connection_broken(c, -ETIMEDOUT);
        break;
    case CONNECTION_OPEN:
        connection_timer_stalled(c);
        break;
    case CONNECTION_LEAVING:
    case CONNECTION_LINGERING:
        connection_broken(c, -ETIMEDOUT);
        break;
    case CONNECTION_CONNECTING:
    case CONNECTION_CLOSED:
        break;
    }
}

/* libuv reports errors of the socket as a status, after which it watches no more: any use of the
 * socket then tells the error itself. */
static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct connection *c = handle->data;
    if (status < 0)
        c->poll_events = 0;
    switch (c->state) {
    case CONNECTION_CONNECTING:
        connected(c);
        return;
    case CONNECTION_HANDSHAKE:
        handshake_read(c);
        break;
    case CONNECTION_LINGERING:
        discard(c);
        break;
    case CONNECTION_OPEN:
        if (status < 0 || (events & UV_READABLE) != 0)
            connection_read(c);
        else if ((events & UV_DISCONNECT) != 0)
            connection_broken(c, -ECONNRESET);
        break;
    case CONNECTION_LEAVING:
    case CONNECTION_CLOSED:
        break;
    }
    if (c->state == CONNECTION_CLOSED)
        return;
    if (status < 0) {
        int error = status == UV_EBADF ? socket_error(c->fd) : status;
        connection_broken(c, error != 0 ? error : -ETIMEDOUT);
    } else if ((events & UV_WRITABLE) != 0) {
        c->blocked = false;
        messenger_dirty(c);
    }
}
