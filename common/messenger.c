/* The messenger's calls, and the work at the end of a turn. See messenger_private.h for the map. */
#include "common/messenger.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

#include "common/log.h"
#include "common/messenger_private.h"

static void trim_fire(struct env_timer *timer)
{
    struct messenger *m = container_of(timer, struct messenger, trim_timer);
    receive_memory_trim(m->memory);
    buf_trim();
}

int messenger_create(struct env *env, uv_loop_t *loop, const struct messenger_options *options,
                     struct messenger **out)
{
    if (sodium_init() < 0)
        return -ENOSYS;
    struct messenger *m = calloc(1, sizeof *m);
    if (m == NULL)
        return -ENOMEM;
    m->memory = receive_memory_create(options->receive_limit);
    if (m->memory == NULL) {
        free(m);
        return -ENOMEM;
    }
    m->env = env;
    m->loop = loop;
    m->mode = options->mode;
    m->owing_timer.fire = session_owing_fire;
    m->trim_timer.fire = trim_fire;
    TAILQ_INIT(&m->sessions);
    TAILQ_INIT(&m->due);
    TAILQ_INIT(&m->owing);
    TAILQ_INIT(&m->connections);
    TAILQ_INIT(&m->dirty);
    TAILQ_INIT(&m->unproven);
    TAILQ_INIT(&m->starved);
    SLIST_INIT(&m->listeners);
    *out = m;
    return 0;
}

void messenger_set_auth(struct messenger *m, const struct auth_provider *provider)
{
    m->provider = provider;
}

void messenger_set_handlers(struct messenger *m, const struct net_handlers *handlers, void *ctx)
{
    m->handlers = handlers;
    m->ctx = ctx;
}

void messenger_due(struct session *s)
{
    if (s->due)
        return;
    s->due = true;
    TAILQ_INSERT_TAIL(&s->m->due, s, due_link);
}

void messenger_dirty(struct connection *c)
{
    if (c->dirty || c->state == CONNECTION_CLOSED)
        return;
    c->dirty = true;
    TAILQ_INSERT_TAIL(&c->m->dirty, c, dirty_link);
}

void messenger_log_refusal(struct messenger *m, const struct net_address *remote, int error)
{
    uint64_t now_ns = env_now(m->env);
    m->refusals++;
    if (m->refusals_logged_ns != 0 && now_ns - m->refusals_logged_ns < SEC_NS)
        return;
    char text[NET_ADDRESS_TEXT_MAX];
    log_warn(m->env, "connection refused", "from=%s error=\"%s\" refused=%u",
             net_address_format(remote, text), auth_error_text(error), m->refusals);
    m->refusals = 0;
    m->refusals_logged_ns = now_ns;
}

/* ---- Calls of the user ---- */

int messenger_open(struct messenger *m, const struct net_address *to,
                   const struct net_expect *expect, void *user, struct net_session **out)
{
    if ((to->family != 4 && to->family != 6) || to->port == 0)
        return -EINVAL;
    struct session *s = session_create(m, true);
    if (s == NULL)
        return -ENOMEM;
    s->pub.user = user;
    s->pub.peer.address = *to;
    s->pub.peer.name = expect->name;
    s->pub.peer.instance = expect->instance;
    s->expect = *expect;
    s->key.id = env_random_u64(m->env);
    s->give_up_ns = env_now(m->env) + MESSENGER_GIVE_UP_NS;
    messenger_due(s);
    *out = &s->pub;
    return 0;
}

void messenger_send(struct messenger *m, struct net_session *session, struct message *message)
{
    struct session *s = container_of(session, struct session, pub);
    assert(s->m == m && message->type < FRAME_CONTROL_FIRST);
    assert(message->body_len <= MESSAGE_BODY_MAX && message->payload.len <= MESSAGE_PAYLOAD_MAX);
    if (s->phase >= SESSION_ENDED) {
        message_unref(message);
        return;
    }
    int rc = session_queue(&s->state, message);
    if (rc < 0) {
        message_unref(message);
        char name[ENTITY_TEXT_MAX];
        log_warn(m->env, "session given up", "peer=%s queued_bytes=%zu error=\"%s\"",
                 entity_format(&session->peer.name, name), s->state.queued_bytes, error_text(rc));
        session_end(s, -ETIMEDOUT);
        return;
    }
    if (message->payload.buf != NULL)
        receive_lane_returned(s->lane, message->payload.buf);
    session->queued_bytes = s->state.queued_bytes;
    if (session->queued_bytes >= NET_QUEUE_LIMIT / 2)
        s->half_full = true;
    if (s->phase == SESSION_UP)
        messenger_dirty(s->connection);
}

void messenger_close(struct messenger *m, struct net_session *session)
{
    struct session *s = container_of(session, struct session, pub);
    assert(s->m == m);
    session_leave(s);
}

void messenger_abandon(struct messenger *m, struct net_session *session)
{
    struct session *s = container_of(session, struct session, pub);
    assert(s->m == m);
    session_drop(s);
}

void messenger_pause(struct messenger *m, struct net_session *session, bool paused)
{
    struct session *s = container_of(session, struct session, pub);
    assert(s->m == m);
    if (s->paused == paused)
        return;
    s->paused = paused;
    if (s->phase != SESSION_UP)
        return;
    if (paused)
        connection_update_poll(s->connection);
    else
        messenger_due(s);
}

uint64_t messenger_heard_ns(struct messenger *m, const struct net_session *session)
{
    const struct session *s = container_of(session, const struct session, pub);
    assert(s->m == m);
    if (s->phase != SESSION_UP)
        return 0;
    uint64_t now_ns = env_now(m->env);
    /* Whoever does not listen cannot say that nothing was said. */
    if (s->paused || s->connection->starved)
        return now_ns;
    uint64_t silent_ns = socket_silent_ns(s->connection->fd);
    return silent_ns < now_ns ? now_ns - silent_ns : 1;
}

/* ---- A turn's end ---- */

/* Each waiting connection tries once; those that must go on waiting line up again. */
static void feed_starved(struct messenger *m)
{
    if (!m->memory->freed)
        return;
    m->memory->freed = m->memory->wanted = false;
    uint32_t n = 0;
    struct connection *c;
    TAILQ_FOREACH(c, &m->starved, starved_link)
    n++;
    for (; n > 0 && (c = TAILQ_FIRST(&m->starved)) != NULL; n--)
        connection_resume(c);
}

static void attend_due(struct messenger *m)
{
    struct session_list now;
    TAILQ_INIT(&now);
    TAILQ_CONCAT(&now, &m->due, due_link);
    struct session *s;
    while ((s = TAILQ_FIRST(&now)) != NULL) {
        TAILQ_REMOVE(&now, s, due_link);
        s->due = false;
        session_attend(s);
    }
}

static void flush_dirty(struct messenger *m)
{
    struct connection_list now;
    TAILQ_INIT(&now);
    TAILQ_CONCAT(&now, &m->dirty, dirty_link);
    struct connection *c;
    while ((c = TAILQ_FIRST(&now)) != NULL) {
        TAILQ_REMOVE(&now, c, dirty_link);
        c->dirty = false;
        connection_flush(c);
    }
}

void messenger_turn(struct messenger *m)
{
    m->more = false;
    feed_starved(m);
    if (!TAILQ_EMPTY(&m->due))
        attend_due(m);
    flush_dirty(m);
    if ((m->memory->cached_bytes > 0 || buf_kept() > 0) && !m->trim_timer.armed)
        env_timer_after(m->env, &m->trim_timer, MESSENGER_TRIM_NS);
}

uint64_t messenger_calls(const struct messenger *m)
{
    return m->calls;
}

bool messenger_wants_turn(const struct messenger *m)
{
    return m->more || m->memory->freed || !TAILQ_EMPTY(&m->due) || !TAILQ_EMPTY(&m->dirty);
}

/* ---- The end ---- */

void messenger_stop(struct messenger *m)
{
    m->handlers = NULL;
    m->stopped = true;
    listener_close_all(m);
    struct session *s, *next;
    for (s = TAILQ_FIRST(&m->sessions); s != NULL; s = next) {
        next = TAILQ_NEXT(s, link);
        session_leave(s);
    }
    struct connection *c;
    TAILQ_FOREACH(c, &m->connections, link)
    {
        if (c->session == NULL && c->state == CONNECTION_HANDSHAKE)
            connection_close(c);
    }
}

bool messenger_quiet(const struct messenger *m)
{
    const struct connection *c;
    TAILQ_FOREACH(c, &m->connections, link)
    {
        if (c->state != CONNECTION_CLOSED)
            return false;
    }
    return true;
}

void messenger_drop(struct messenger *m)
{
    assert(m->stopped);
    struct connection *c;
    TAILQ_FOREACH(c, &m->connections, link)
    connection_broken(c, -ECONNRESET);
    env_timer_stop(m->env, &m->owing_timer);
    env_timer_stop(m->env, &m->trim_timer);
    attend_due(m);
    assert(TAILQ_EMPTY(&m->sessions));
}

void messenger_destroy(struct messenger *m)
{
    assert(TAILQ_EMPTY(&m->sessions) && TAILQ_EMPTY(&m->connections));
    for (uint32_t i = 0; i < m->n_spare_buffers; i++)
        free(m->spare_buffers[i]);
    for (uint32_t i = 0; i < m->n_spare_batches; i++)
        batch_destroy(m->spare_batches[i]);
    receive_memory_unref(m->memory);
    free(m);
}
