/*
 * Sessions: making and resuming them, and their ends.
 *
 * Invariants:
 *  1. A session has a connection exactly in the phases CONNECTING (outbound only), UP and LEAVING.
 *  2. A session is freed only by session_attend(), at the end of a turn, so that its pointer stays
 *     valid in whatever called the user.
 *  3. closed() is called once, or not at all when the user closed the session before.
 *  4. An inbound session stands in the hash table until it ends: then its peer gets a reset.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/messenger_private.h"

static void timer_fire(struct env_timer *timer);

struct session *session_create(struct messenger *m, bool outbound)
{
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->lane = receive_lane_create(m->memory);
    if (s->lane == NULL) {
        free(s);
        return NULL;
    }
    s->m = m;
    s->phase = SESSION_WAITING;
    s->pub.outbound = outbound;
    s->timer.fire = timer_fire;
    s->last_error = -ETIMEDOUT;
    session_init(&s->state);
    TAILQ_INSERT_TAIL(&m->sessions, s, link);
    return s;
}

static void destroy(struct session *s)
{
    struct messenger *m = s->m;
    assert(s->phase == SESSION_DEAD && s->connection == NULL && !s->due && !s->hashed);
    assert(!s->owing && !s->timer.armed);
    TAILQ_REMOVE(&m->sessions, s, link);
    session_fini(&s->state);
    receive_lane_unref(s->lane);
    free(s);
}

static void owing_stop(struct session *s)
{
    if (s->owing) {
        TAILQ_REMOVE(&s->m->owing, s, owing_link);
        s->owing = false;
    }
}

/* Out of every list that could give it something to do. */
static void forget(struct session *s)
{
    struct messenger *m = s->m;
    env_timer_stop(m->env, &s->timer);
    owing_stop(s);
    if (s->hashed) {
        HASH_DEL(m->inbound, s);
        s->hashed = false;
        m->n_inbound--;
    }
}

void session_dead(struct session *s)
{
    assert(s->phase != SESSION_DEAD && s->connection == NULL);
    forget(s);
    s->phase = SESSION_DEAD;
    messenger_due(s);
}

void session_end(struct session *s, int error)
{
    if (s->phase >= SESSION_ENDED)
        return;
    if (s->connection != NULL)
        connection_close(s->connection);
    forget(s);
    s->phase = SESSION_ENDED;
    s->end_error = error;
    messenger_due(s);
}

void session_leave(struct session *s)
{
    switch (s->phase) {
    case SESSION_WAITING:
    case SESSION_CONNECTING:
    case SESSION_ENDED:
        if (s->connection != NULL)
            connection_close(s->connection);
        session_dead(s);
        break;
    case SESSION_UP:
        forget(s);
        s->phase = SESSION_LEAVING;
        connection_leave(s->connection);
        break;
    case SESSION_LEAVING:
    case SESSION_DEAD:
        break;
    }
}

void session_drop(struct session *s)
{
    if (s->phase != SESSION_UP) {
        session_leave(s);
        return;
    }
    connection_close(s->connection);
    session_dead(s);
}

/* ---- Outbound: connecting ---- */

/* Half of it is random, so that peers of a process that restarts do not come all at once. */
static uint64_t retry_delay(struct session *s)
{
    uint64_t delay_ns = MESSENGER_RETRY_MAX_NS;
    if (s->retries < 5)
        delay_ns = MESSENGER_RETRY_MIN_NS << s->retries;
    if (delay_ns > MESSENGER_RETRY_MAX_NS)
        delay_ns = MESSENGER_RETRY_MAX_NS;
    s->retries++;
    return delay_ns / 2 + env_random_u64(s->m->env) % (delay_ns / 2);
}

static void retry_later(struct session *s, int error, uint64_t delay_ns)
{
    struct env *env = s->m->env;
    uint64_t now_ns = env_now(env);
    s->phase = SESSION_WAITING;
    s->last_error = error;
    if (now_ns >= s->give_up_ns) {
        session_end(s, error);
        return;
    }
    uint64_t at_ns = now_ns + delay_ns;
    env_timer_arm(env, &s->timer, at_ns < s->give_up_ns ? at_ns : s->give_up_ns);
}

static void try_connect(struct session *s)
{
    assert(s->phase == SESSION_WAITING && s->pub.outbound && s->connection == NULL);
    s->phase = SESSION_CONNECTING;
    s->attempt++;
    int rc = connection_connect(s);
    if (rc == 0)
        env_timer_arm(s->m->env, &s->timer, s->give_up_ns);
    else
        session_disconnected(s, rc);
}

static void timer_fire(struct env_timer *timer)
{
    struct session *s = container_of(timer, struct session, timer);
    assert(s->phase == SESSION_WAITING || s->phase == SESSION_CONNECTING);
    if (!s->pub.outbound)
        session_end(s, -ETIMEDOUT);
    else if (env_now(s->m->env) >= s->give_up_ns)
        session_end(s, s->last_error);
    else if (s->phase == SESSION_WAITING)
        try_connect(s);
    else
        env_timer_arm(s->m->env, &s->timer, s->give_up_ns);
}

void session_refused(struct session *s, int error, bool is_hint)
{
    bool was_open = s->pub.open;
    bool final = false;
    switch (error) {
    case -ELIMPET_RESET:
        final = true;
        break;
    case -EACCES:
        /* A session that once was open had the right key: bytes were damaged, or the other side
         * does not know its keys yet. */
        final = !was_open;
        break;
    case -EXDEV:
    case -EPROTONOSUPPORT:
        final = !was_open || !is_hint;
        break;
    case -EKEYEXPIRED: /* The provider has been told, and may have another ticket soon. */
        error = -EACCES;
        break;
    case -EPROTO:
    case -EBADMSG:
        error = -EPROTO;
        break;
    default: /* -ENOENT: no credential yet. */
        error = -ETIMEDOUT;
        break;
    }
    if (final)
        session_end(s, error);
    else
        retry_later(s, error, retry_delay(s));
}

/* ---- Up and down ---- */

static void count_damage(struct session *s, int error)
{
    if (error == -EPROTO || error == -EBADMSG)
        s->damaged++;
}

/* Not by silence, and not by us. */
static bool was_ended_by_peer(int error)
{
    return error == -ECONNRESET || error == -EPIPE;
}

static void lost_connection(struct session *s, int error)
{
    struct messenger *m = s->m;
    owing_stop(s);
    s->phase = SESSION_WAITING;
    if (!s->pub.outbound && was_ended_by_peer(error))
        s->pub.hung_up_ns = env_clock(m->env);
    count_damage(s, error);
    log_debug(m->env, "connection lost", "error=\"%s\" outbound=%d", error_text(error),
              s->pub.outbound);
    if (s->damaged > MESSENGER_DAMAGED_MAX) {
        session_end(s, -EPROTO);
        return;
    }
    if (s->pub.outbound) {
        s->give_up_ns = env_now(m->env) + MESSENGER_GIVE_UP_NS;
        retry_later(s, -ETIMEDOUT, s->retries == 0 ? 0 : retry_delay(s));
    } else {
        env_timer_after(m->env, &s->timer, MESSENGER_GRACE_NS);
    }
    if (s->phase == SESSION_WAITING && m->handlers != NULL && m->handlers->disconnected != NULL) {
        m->calls++;
        m->handlers->disconnected(m->ctx, &s->pub);
    }
}

void session_disconnected(struct session *s, int error)
{
    assert(s->connection == NULL);
    switch (s->phase) {
    case SESSION_CONNECTING:
        if (error == -ECONNREFUSED)
            session_end(s, -ECONNREFUSED);
        else
            retry_later(s, -ETIMEDOUT, retry_delay(s));
        break;
    case SESSION_UP:
        lost_connection(s, error);
        break;
    case SESSION_LEAVING:
        session_dead(s);
        break;
    case SESSION_WAITING:
    case SESSION_ENDED:
    case SESSION_DEAD:
        break;
    }
}

static void come_up(struct session *s)
{
    struct messenger *m = s->m;
    struct connection *c = s->connection;
    env_timer_stop(m->env, &s->timer);
    s->phase = SESSION_UP;
    s->pub.hung_up_ns = 0;
    /* Counts until the first good frame, or a life of some length, shows that it works. */
    s->retries++;
    messenger_dirty(c);
    if (!s->pub.open) {
        s->pub.open = true;
        if (m->handlers != NULL) {
            m->calls++;
            m->handlers->opened(m->ctx, &s->pub);
        }
    }
    if (s->phase == SESSION_UP)
        session_check_drained(s);
}

void session_outbound_up(struct session *s, const struct auth_handshake *h)
{
    assert(s->phase == SESSION_CONNECTING && s->connection != NULL);
    struct session_answer answer;
    uint64_t expected = s->pub.open ? s->pub.peer.instance : s->expect.instance;
    int rc = session_answer_parse(h->peer_blob, h->peer_blob_len, &answer);
    if (rc == 0 && expected != 0 && h->peer_instance != expected)
        rc = -ELIMPET_RESET;
    if (rc == 0)
        rc = answer.result;
    if (rc == 0)
        rc = session_resume(&s->state, answer.received);
    if (rc == -ELIMPET_RESET) {
        session_end(s, rc);
    } else if (rc < 0) {
        connection_broken(s->connection, rc);
    } else {
        s->pub.peer.name = h->peer;
        s->pub.peer.instance = h->peer_instance;
        come_up(s);
    }
}

/* ---- Inbound ---- */

static void make_key(struct session_key *key, const struct auth_handshake *h, uint64_t id)
{
    memset(key, 0, sizeof *key);
    key->name.type = h->peer.type;
    snprintf(key->name.id, sizeof key->name.id, "%s", h->peer.id);
    key->instance = h->peer_instance;
    key->id = id;
}

static int resume_inbound(struct session *s, struct connection *c,
                          const struct session_offer *offer, struct session_answer *answer)
{
    if (offer->attempt <= s->attempt)
        return -EALREADY;
    /* The peer gave the old connection up: this side may not have noticed. */
    if (s->connection != NULL)
        connection_broken(s->connection, -ECONNRESET);
    if (s->phase != SESSION_WAITING)
        return -EALREADY; /* The user closed it when it heard of the break. */
    if (session_resume(&s->state, offer->received) < 0) {
        session_end(s, -ELIMPET_RESET);
        answer->result = -ELIMPET_RESET;
        return 0;
    }
    s->attempt = offer->attempt;
    answer->received = s->state.received;
    s->connection = c;
    c->session = s;
    return 0;
}

static void remember_inbound(struct session *s)
{
    HASH_ADD(hh, s->m->inbound, key, sizeof s->key, s);
    s->hashed = true;
    s->m->n_inbound++;
}

static int create_inbound(struct connection *c, const struct auth_handshake *h,
                          const struct session_key *key, const struct session_offer *offer,
                          struct session_answer *answer)
{
    struct messenger *m = c->m;
    if ((offer->flags & SESSION_OFFER_RESUME) != 0) {
        answer->result = -ELIMPET_RESET;
        return 0;
    }
    if (offer->received != 0)
        return -EPROTO;
    if (m->n_inbound >= MESSENGER_INBOUND_MAX) {
        answer->result = -EBUSY;
        return 0;
    }
    struct session *s = session_create(m, false);
    if (s == NULL)
        return -ENOMEM;
    s->key = *key;
    s->attempt = offer->attempt;
    s->pub.peer = (struct net_peer){
        .name = h->peer, .instance = h->peer_instance, .address = c->remote, .caps = h->peer_caps};
    remember_inbound(s);
    s->connection = c;
    c->session = s;
    return 0;
}

int session_inbound(struct connection *c, const struct auth_handshake *h,
                    struct session_answer *answer)
{
    struct messenger *m = c->m;
    struct session_offer offer;
    struct session_key key;
    struct session *s;
    *answer = (struct session_answer){0};
    int rc = session_offer_parse(h->peer_blob, h->peer_blob_len, &offer);
    if (rc < 0)
        return rc;
    make_key(&key, h, offer.id);
    HASH_FIND(hh, m->inbound, &key, sizeof key, s);
    if (s != NULL)
        return resume_inbound(s, c, &offer, answer);
    return create_inbound(c, h, &key, &offer, answer);
}

void session_inbound_up(struct session *s)
{
    assert(s->phase == SESSION_WAITING && s->connection != NULL);
    come_up(s);
}

/* ---- At a turn's end ---- */

void session_attend(struct session *s)
{
    struct messenger *m = s->m;
    switch (s->phase) {
    case SESSION_WAITING:
        if (s->pub.outbound && !s->timer.armed)
            try_connect(s);
        break;
    case SESSION_UP:
        connection_resume(s->connection);
        break;
    case SESSION_ENDED:
        s->phase = SESSION_DEAD;
        if (m->handlers != NULL) {
            m->calls++;
            m->handlers->closed(m->ctx, &s->pub, s->end_error);
        }
        destroy(s);
        break;
    case SESSION_DEAD:
        destroy(s);
        break;
    case SESSION_CONNECTING:
    case SESSION_LEAVING:
        break;
    }
}

void session_check_drained(struct session *s)
{
    struct messenger *m = s->m;
    s->pub.queued_bytes = s->state.queued_bytes;
    if (!s->half_full || s->pub.queued_bytes >= NET_QUEUE_LIMIT / 2)
        return;
    s->half_full = false;
    if (m->handlers != NULL && m->handlers->drained != NULL) {
        m->calls++;
        m->handlers->drained(m->ctx, &s->pub);
    }
}

/*
 * Nearly always the next message acknowledges what came, so this waits rather long, and its timer
 * is left armed when the debt is paid: at most one needless wake-up a second of traffic.
 */
void session_check_owing(struct session *s)
{
    struct messenger *m = s->m;
    if (s->phase != SESSION_UP || !session_owes(&s->state)) {
        owing_stop(s);
        return;
    }
    if (s->owing)
        return;
    s->owing = true;
    s->owing_until_ns = env_now(m->env) + MESSENGER_ACK_NS;
    TAILQ_INSERT_TAIL(&m->owing, s, owing_link);
    if (!m->owing_timer.armed)
        env_timer_arm(m->env, &m->owing_timer, s->owing_until_ns);
}

void session_owing_fire(struct env_timer *timer)
{
    struct messenger *m = container_of(timer, struct messenger, owing_timer);
    uint64_t now_ns = env_now(m->env);
    struct session *s;
    while ((s = TAILQ_FIRST(&m->owing)) != NULL && s->owing_until_ns <= now_ns) {
        owing_stop(s);
        s->ack_now = true;
        messenger_dirty(s->connection);
    }
    if (s != NULL)
        env_timer_arm(m->env, timer, s->owing_until_ns);
}
