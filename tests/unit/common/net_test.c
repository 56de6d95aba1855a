#include "tests/unit/common/net_test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- Sides ---- */

static int entity_secret(void *ctx, const struct entity_name *name, struct auth_secret *secret,
                         char caps[AUTH_CAPS_TEXT_MAX])
{
    struct side *side = ctx;
    if (strcmp(name->id, "nobody") == 0)
        return -ENOENT;
    *secret = side->knows;
    snprintf(caps, AUTH_CAPS_TEXT_MAX, "allow rw pool=x");
    return 0;
}

static int credential(void *ctx, const struct entity_name *peer, struct auth_ticket *out)
{
    struct side *side = ctx;
    (void)peer;
    if (side->no_credential)
        return -ENOENT;
    memset(out, 0, sizeof *out);
    out->secret = side->secret;
    return 0;
}

static void opened(void *ctx, struct net_session *session)
{
    struct side *side = ctx;
    side->opened++;
    assert_true(session->open);
    if (!session->outbound)
        side->session = session;
    if (side->on_opened != NULL)
        side->on_opened(side, session);
}

void side_digest(uint64_t *digest, const struct message *message)
{
    uint64_t d = *digest * 31 + message->type;
    for (size_t i = 0; i < message->body_len; i++)
        d = d * 31 + message->body[i];
    /* Of large payloads a sample: each page's first byte, and the end. */
    size_t step = message->payload.len > 65536 ? 4096 : 1;
    for (size_t i = 0; i < message->payload.len; i += step)
        d = d * 31 + message->payload.data[i];
    if (message->payload.len > 0)
        d = d * 31 + message->payload.data[message->payload.len - 1];
    *digest = d * 31 + message->payload.len;
}

static void received(void *ctx, struct net_session *session, struct message *message)
{
    struct side *side = ctx;
    side->received++;
    side->payload_bytes += message->payload.len;
    side_digest(&side->digest, message);
    if (side->on_received != NULL)
        side->on_received(side, session, message);
    else if (message->type == NET_TEST_ECHO && !session->outbound)
        net_send(side->env, session, message_ref(message));
}

static struct buf_slice place(void *ctx, struct net_session *session,
                              const struct net_arrival *arrival)
{
    struct side *side = ctx;
    (void)session;
    return side->on_place != NULL ? side->on_place(side, arrival) : BUF_SLICE_EMPTY;
}

static void disconnected(void *ctx, struct net_session *session)
{
    struct side *side = ctx;
    side->disconnected++;
    side->hung_up = session->hung_up_ns != 0;
    if (side->on_disconnected != NULL)
        side->on_disconnected(side, session);
}

static void drained(void *ctx, struct net_session *session)
{
    struct side *side = ctx;
    side->drained++;
    if (side->on_drained != NULL)
        side->on_drained(side, session);
}

static void closed(void *ctx, struct net_session *session, int error)
{
    struct side *side = ctx;
    side->closed++;
    side->error = error;
    if (side->session == session)
        side->session = NULL;
    if (side->on_closed != NULL)
        side->on_closed(side, session, error);
}

static void create(struct side *side, const char *name, const struct env_real_options *options)
{
    static const struct net_handlers handlers = {.opened = opened,
                                                 .received = received,
                                                 .place = place,
                                                 .disconnected = disconnected,
                                                 .closed = closed,
                                                 .drained = drained};
    static const struct env_real_options defaults = {.mode = NET_MODE_INTEGRITY};
    memset(side, 0, sizeof *side);
    side->secret = (struct auth_secret){.len = 16, .bytes = "sixteen bytes :)"};
    side->knows = side->secret;
    side->provider.ctx = side;
    side->provider.entity_secret = entity_secret;
    side->provider.credential = credential;
    assert_int_equal(entity_parse(name, &side->provider.self), 0);
    assert_int_equal(env_real_create(options != NULL ? options : &defaults, &side->env), 0);
    side->env->log_mask = 0;
    env_real_set_auth(side->env, &side->provider);
    net_handlers_set(side->env, &handlers, side);
}

void side_server(struct side *side, const char *name, const struct env_real_options *options)
{
    create(side, name, options);
    struct net_address want = {.family = 4, .ip = {127, 0, 0, 1}};
    assert_int_equal(net_listen(side->env, &want, &side->address), 0);
}

void side_client(struct side *side, const char *name, const struct env_real_options *options)
{
    create(side, name, options);
}

void side_destroy(struct side *side)
{
    env_real_destroy(side->env);
    side->env = NULL;
}

void side_open(struct side *side, const struct net_address *to)
{
    struct net_expect expect = {.name = {.type = ENTITY_MON}};
    assert_int_equal(net_open(side->env, to, &expect, side, &side->session), 0);
}

void side_connect(struct side *client, struct side *server)
{
    unsigned before = server->opened;
    side_open(client, &server->address);
    SIDES_UNTIL(client->session->open && server->opened > before, client, server);
}

void side_send(struct side *side, uint16_t type, unsigned number, size_t body_len,
               size_t payload_len)
{
    struct message *m = message_create(type, body_len);
    assert_non_null(m);
    for (size_t i = 0; i < body_len; i++)
        m->body[i] = (uint8_t)(number + i);
    if (payload_len > 0) {
        assert_int_equal(buf_slice_alloc(payload_len, &m->payload), 0);
        for (size_t i = 0; i < payload_len; i++)
            m->payload.data[i] = (uint8_t)(number * 7 + i + (i >> 12));
    }
    net_send(side->env, side->session, m);
}

void sides_turn(struct side *const *sides, size_t n)
{
    struct pollfd fds[8];
    assert_true(n <= 8);
    for (size_t i = 0; i < n; i++) {
        env_real_turn(sides[i]->env, false);
        fds[i] =
            (struct pollfd){.fd = uv_backend_fd(env_real_loop(sides[i]->env)), .events = POLLIN};
    }
    int wait_ms = 2;
    for (size_t i = 0; i < n; i++) {
        if (uv_backend_timeout(env_real_loop(sides[i]->env)) == 0)
            wait_ms = 0;
    }
    poll(fds, (nfds_t)n, wait_ms);
}

void sides_for(unsigned milliseconds, struct side *const *sides, size_t n)
{
    uint64_t until_ns = uv_hrtime() + milliseconds * MSEC_NS;
    while (uv_hrtime() < until_ns)
        sides_turn(sides, n);
}

int stranger_connect(const struct net_address *to)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(to->port)};
    memcpy(&in.sin_addr, to->ip, 4);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    struct timeval second = {.tv_sec = 1};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
    return fd;
}

/* ---- The proxy ---- */

enum { LINKS_MAX = 8, CHUNK = 16384 };

struct proxy_link {
    int fds[2]; /* The one that connected, and the target. */
    size_t left;
};

struct proxy {
    pthread_t thread;
    pthread_mutex_t lock; /* Protects target. */
    struct net_address target;
    int listen_fd;
    atomic_bool stop, cut;
    atomic_size_t about;
    atomic_uint faults;
    unsigned random;
    struct proxy_link links[LINKS_MAX];
    unsigned n;
};

static size_t pick_budget(struct proxy *p)
{
    size_t about = atomic_load(&p->about);
    if (about == 0)
        return SIZE_MAX;
    return about / 10 + (size_t)rand_r(&p->random) % (2 * about);
}

static void link_close(struct proxy *p, unsigned i, bool hard)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    for (int side = 0; side < 2; side++) {
        if (hard)
            setsockopt(p->links[i].fds[side], SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close(p->links[i].fds[side]);
    }
    p->links[i] = p->links[--p->n];
}

static void link_accept(struct proxy *p)
{
    int fd = accept(p->listen_fd, NULL, NULL);
    if (fd < 0)
        return;
    pthread_mutex_lock(&p->lock);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(p->target.port)};
    memcpy(&in.sin_addr, p->target.ip, 4);
    pthread_mutex_unlock(&p->lock);
    int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (p->n == LINKS_MAX || connect(out, (struct sockaddr *)&in, sizeof in) < 0) {
        close(out);
        close(fd);
        return;
    }
    p->links[p->n++] = (struct proxy_link){.fds = {fd, out}, .left = pick_budget(p)};
}

static bool write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

/* Returns false when the link is gone. */
static bool link_forward(struct proxy *p, unsigned i, int from)
{
    struct proxy_link *l = &p->links[i];
    char chunk[CHUNK];
    ssize_t n = recv(l->fds[from], chunk, sizeof chunk, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0) {
        link_close(p, i, false);
        return false;
    }
    size_t len = (size_t)n;
    bool ends = false, hard = false;
    if (len >= l->left) {
        atomic_fetch_add(&p->faults, 1);
        switch (rand_r(&p->random) % 3) {
        case 0:
            chunk[l->left == 0 ? 0 : l->left - 1] ^= 0x10;
            l->left = pick_budget(p) + len;
            break;
        case 1:
            hard = true;
            ends = true;
            break;
        default:
            len = l->left;
            ends = true;
            break;
        }
    }
    l->left -= l->left == SIZE_MAX ? 0 : len;
    if (!write_all(l->fds[1 - from], chunk, len))
        ends = true;
    if (ends)
        link_close(p, i, hard);
    return !ends;
}

static void *proxy_main(void *arg)
{
    struct proxy *p = arg;
    while (!atomic_load(&p->stop)) {
        struct pollfd fds[1 + 2 * LINKS_MAX] = {{.fd = p->listen_fd, .events = POLLIN}};
        for (unsigned i = 0; i < p->n; i++) {
            fds[1 + 2 * i] = (struct pollfd){.fd = p->links[i].fds[0], .events = POLLIN};
            fds[2 + 2 * i] = (struct pollfd){.fd = p->links[i].fds[1], .events = POLLIN};
        }
        unsigned n = p->n;
        poll(fds, 1 + 2 * n, 5);
        if (atomic_exchange(&p->cut, false)) {
            while (p->n > 0)
                link_close(p, 0, false);
            continue;
        }
        /* From the last, because a link that goes is replaced by the last. */
        for (unsigned i = n; i-- > 0;) {
            if (fds[1 + 2 * i].revents != 0 && !link_forward(p, i, 0))
                continue;
            if (fds[2 + 2 * i].revents != 0)
                link_forward(p, i, 1);
        }
        if (fds[0].revents != 0)
            link_accept(p);
    }
    while (p->n > 0)
        link_close(p, 0, false);
    return NULL;
}

struct proxy *proxy_create(const struct net_address *target, struct net_address *address)
{
    struct proxy *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->random = 42;
    p->target = *target;
    pthread_mutex_init(&p->lock, NULL);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof in;
    p->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(p->listen_fd >= 0);
    assert_int_equal(bind(p->listen_fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(p->listen_fd, 16), 0);
    assert_int_equal(getsockname(p->listen_fd, (struct sockaddr *)&in, &len), 0);
    *address = (struct net_address){.family = 4, .ip = {127, 0, 0, 1}, .port = ntohs(in.sin_port)};
    assert_int_equal(pthread_create(&p->thread, NULL, proxy_main, p), 0);
    return p;
}

void proxy_destroy(struct proxy *proxy)
{
    atomic_store(&proxy->stop, true);
    pthread_join(proxy->thread, NULL);
    close(proxy->listen_fd);
    pthread_mutex_destroy(&proxy->lock);
    free(proxy);
}

void proxy_target(struct proxy *proxy, const struct net_address *target)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->target = *target;
    pthread_mutex_unlock(&proxy->lock);
}

void proxy_faults(struct proxy *proxy, size_t about_bytes)
{
    atomic_store(&proxy->about, about_bytes);
    if (about_bytes > 0)
        proxy_cut(proxy);
}

void proxy_cut(struct proxy *proxy)
{
    atomic_store(&proxy->cut, true);
}

unsigned proxy_faults_made(struct proxy *proxy)
{
    return atomic_load(&proxy->faults);
}
