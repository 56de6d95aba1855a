/*
 * What only the leader can do, from its arrival to its answer.
 *
 * Every such message of a session becomes a pending record here. It is handed to the leader (this
 * monitor or another one) as soon as one is known, and handed out again when the leader changes,
 * cannot be reached any more, or declines, until it was answered. A leader that loses leadership
 * declines what it has: it may be leader again before anybody sees another one. So a command may
 * reach leaders twice: it is executed once (executed.h). Messages without an answer are forgotten
 * once handed over; OSDs repeat them until the map shows their effect.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "mon/leader.h"
#include "mon/mon_private.h"

static void pending_free(struct mon *mon, struct pending *pending)
{
    TAILQ_REMOVE(&mon->pendings, pending, link);
    mon->n_pendings--;
    if (pending->session != NULL)
        pending->session->pendings--;
    message_unref(pending->message);
    free(pending);
}

static void refuse_command(struct mon *mon, struct mon_session *session,
                           const struct message *message, int error, const char *why)
{
    Limpet__Wire__MonCommand *command =
        (Limpet__Wire__MonCommand *)message_unpack(message, &limpet__wire__mon_command__descriptor);

    if (command == NULL)
        return;
    session_reply(mon, session, command->tid, error, why, mon->state.map->epoch, BUF_SLICE_EMPTY);
    limpet__wire__mon_command__free_unpacked(command, NULL);
}

void forward_submit(struct mon *mon, struct mon_session *session, struct message *message,
                    bool one_way)
{
    struct pending *pending;

    /* Who was silent may be back when there is a leader: the OSD asks again if it is not. */
    if (message->type == MSG_OSD_FENCE && consensus_leader(mon->consensus) == 0)
        return;
    if (mon->n_pendings >= MON_PENDING_MAX ||
        (session != NULL && session->pendings >= MON_PENDING_SESSION_MAX)) {
        if (!one_way && session != NULL)
            refuse_command(mon, session, message, -EBUSY,
                           "too many commands wait for a quorum of monitors");
        return;
    }
    pending = calloc(1, sizeof *pending);
    if (pending == NULL)
        return;
    pending->token = mon->next_token++;
    pending->session = session;
    pending->message = message_ref(message);
    pending->one_way = one_way;
    if (session != NULL) {
        session->pendings++;
        if (message->type == MSG_OSD_BOOT)
            session->boot_token = pending->token;
    }
    TAILQ_INSERT_TAIL(&mon->pendings, pending, link);
    mon->n_pendings++;
    forward_dispatch(mon);
}

static void origin_fill(struct mon *mon, const struct pending *pending,
                        struct request_origin *origin)
{
    memset(origin, 0, sizeof *origin);
    origin->token = pending->token;
    if (pending->session != NULL) {
        origin->sender = pending->session->net->peer.name;
        origin->instance = pending->session->net->peer.instance;
        origin->caps = pending->session->net->peer.caps;
    } else {
        /* Something that we found out ourselves. */
        origin->sender.type = ENTITY_MON;
        memcpy(origin->sender.id, mon->self.name, sizeof origin->sender.id);
        origin->instance = mon->env->instance;
    }
}

/* Capabilities as text that caps_parse() reads. */
static void caps_text(const struct caps *caps, char *out, size_t size)
{
    size_t at = 0;

    out[0] = '\0';
    for (uint8_t i = 0; i < caps->n_grants && at < size; i++) {
        const struct caps_grant *grant = &caps->grants[i];
        char allow[4];
        size_t n = 0;
        if ((grant->allow & CAP_READ) != 0)
            allow[n++] = 'r';
        if ((grant->allow & CAP_WRITE) != 0)
            allow[n++] = 'w';
        if ((grant->allow & CAP_EXECUTE) != 0)
            allow[n++] = 'x';
        allow[n] = '\0';
        if (n == 0)
            continue;
        int written = snprintf(out + at, size - at, "%sallow %s%s%s", at > 0 ? ", " : "", allow,
                               grant->pool[0] != '\0' ? " pool=" : "", grant->pool);
        at += written > 0 ? (size_t)written : 0;
    }
}

static struct message *forward_pack(const struct request_origin *origin, struct message *wrapped)
{
    Limpet__Wire__Forward body = LIMPET__WIRE__FORWARD__INIT;
    struct entity_name sender = origin->sender;
    char caps[CAPS_GRANTS_MAX * (CAPS_POOL_MAX + 24)];

    caps_text(&origin->caps, caps, sizeof caps);
    body.token = origin->token;
    body.type = wrapped->type;
    body.body.len = wrapped->body_len;
    body.body.data = wrapped->body;
    body.sender_type = sender.type;
    body.sender_id = sender.id;
    body.sender_instance = origin->instance;
    body.sender_caps = caps;
    struct message *message = message_pack(MSG_FORWARD, &body.base);
    if (message != NULL && wrapped->payload.len > 0)
        message->payload = buf_slice_ref(wrapped->payload);
    return message;
}

/* True when it was handed over. */
static bool pending_hand(struct mon *mon, struct pending *pending, uint64_t leader)
{
    struct request_origin origin;

    origin_fill(mon, pending, &origin);
    if (leader == mon->self.id) {
        if (leader_submit(mon->leader, pending->message, &origin) != 0)
            return false;
    } else {
        const struct mon_peer *peer = session_peer(mon, leader);
        if (peer == NULL || peer->out == NULL || !peer->out->open || peer->broken ||
            peer->out->queued_bytes > NET_QUEUE_LIMIT / 2)
            return false;
        struct message *message = forward_pack(&origin, pending->message);
        if (message == NULL)
            return false;
        net_send(mon->env, peer->out, message);
    }
    pending->sent_to = leader;
    return true;
}

void forward_dispatch(struct mon *mon)
{
    uint64_t leader = consensus_leader(mon->consensus);
    struct pending *pending;
    struct pending *next;

    if (leader == 0)
        return;
    TAILQ_FOREACH_SAFE(pending, &mon->pendings, link, next)
    {
        if (pending->sent_to != 0)
            continue;
        if (!pending_hand(mon, pending, leader)) {
            if (!mon->forward_timer.armed)
                env_timer_after(mon->env, &mon->forward_timer, MON_FORWARD_RETRY_MS * MSEC_NS);
            return;
        }
        if (pending->one_way)
            pending_free(mon, pending);
    }
}

void forward_restart(struct mon *mon)
{
    struct pending *pending;

    TAILQ_FOREACH(pending, &mon->pendings, link)
    pending->sent_to = 0;
    forward_dispatch(mon);
}

void forward_session_gone(struct mon *mon, struct mon_session *session)
{
    struct pending *pending;
    struct pending *next;

    TAILQ_FOREACH_SAFE(pending, &mon->pendings, link, next)
    {
        if (pending->session == session)
            pending_free(mon, pending);
    }
}

static struct pending *pending_find(struct mon *mon, uint64_t token)
{
    struct pending *pending;

    TAILQ_FOREACH(pending, &mon->pendings, link)
    {
        if (pending->token == token)
            return pending;
    }
    return NULL;
}

void forward_answer(struct mon *mon, uint64_t token, uint16_t type, const void *body, size_t len,
                    struct buf_slice payload)
{
    struct pending *pending = pending_find(mon, token);
    struct mon_session *session = pending != NULL ? pending->session : NULL;

    if (pending != NULL && type == MSG_NONE) {
        pending->sent_to = 0;
        buf_slice_drop(&payload);
        if (!mon->forward_timer.armed)
            env_timer_after(mon->env, &mon->forward_timer, MON_FORWARD_RETRY_MS * MSEC_NS);
        return;
    }
    if (pending == NULL) {
        /* A boot has no answer but a refusal. */
        LIST_FOREACH(session, &mon->sessions, link)
        {
            if (session->boot_token == token)
                break;
        }
    }
    if (session != NULL && type != MSG_NONE)
        session_deliver(mon, session, type, body, len, payload);
    else
        buf_slice_drop(&payload);
    if (pending != NULL)
        pending_free(mon, pending);
}

/* ---- Between monitors ---- */

void forward_decline(struct mon *mon, struct mon_session *via, uint64_t token)
{
    Limpet__Wire__ForwardReply reply = LIMPET__WIRE__FORWARD_REPLY__INIT;

    if (via == NULL) {
        forward_answer(mon, token, MSG_NONE, NULL, 0, BUF_SLICE_EMPTY);
        return;
    }
    reply.token = token;
    reply.type = MSG_NONE;
    session_send(mon, via, MSG_FORWARD_REPLY, &reply.base, BUF_SLICE_EMPTY);
}

static struct message *forward_unwrap(const Limpet__Wire__Forward *forward,
                                      const struct message *message, struct request_origin *origin)
{
    switch (forward->type) {
    case MSG_MON_COMMAND:
    case MSG_OSD_BOOT:
    case MSG_OSD_FAILURE:
    case MSG_OSD_STATS:
    case MSG_PG_ADD_MEMBER:
    case MSG_OSD_FENCE:
        break;
    default:
        return NULL;
    }
    if (forward->sender_type > ENTITY_CLIENT || strlen(forward->sender_id) > ENTITY_ID_MAX ||
        caps_parse(forward->sender_caps, &origin->caps) != 0)
        return NULL;
    origin->token = forward->token;
    origin->sender.type = (uint8_t)forward->sender_type;
    strcpy(origin->sender.id, forward->sender_id);
    origin->instance = forward->sender_instance;
    struct message *wrapped = message_create((uint16_t)forward->type, forward->body.len);
    if (wrapped == NULL)
        return NULL;
    if (forward->body.len > 0)
        memcpy(wrapped->body, forward->body.data, forward->body.len);
    if (message->payload.len > 0)
        wrapped->payload = buf_slice_ref(message->payload);
    return wrapped;
}

void forward_received(struct mon *mon, struct mon_session *via, const struct message *message)
{
    Limpet__Wire__Forward *forward =
        (Limpet__Wire__Forward *)message_unpack(message, &limpet__wire__forward__descriptor);
    struct request_origin origin = {.via = via};

    if (forward == NULL)
        return;
    struct message *wrapped = forward_unwrap(forward, message, &origin);
    if (wrapped == NULL) {
        log_warn(mon->env, "forwarded message refused", "type=%u", forward->type);
    } else {
        if (leader_submit(mon->leader, wrapped, &origin) != 0)
            forward_decline(mon, via, forward->token);
        message_unref(wrapped);
    }
    limpet__wire__forward__free_unpacked(forward, NULL);
}

void forward_reply_received(struct mon *mon, const struct message *message)
{
    Limpet__Wire__ForwardReply *reply = (Limpet__Wire__ForwardReply *)message_unpack(
        message, &limpet__wire__forward_reply__descriptor);

    if (reply == NULL)
        return;
    if (reply->type == MSG_NONE || reply->type == MSG_MON_COMMAND_REPLY) {
        struct buf_slice payload =
            message->payload.len > 0 ? buf_slice_ref(message->payload) : BUF_SLICE_EMPTY;
        forward_answer(mon, reply->token, (uint16_t)reply->type, reply->body.data, reply->body.len,
                       payload);
    }
    limpet__wire__forward_reply__free_unpacked(reply, NULL);
}

/* ---- Life ---- */

static void retry_fire(struct env_timer *timer)
{
    forward_dispatch(container_of(timer, struct mon, forward_timer));
}

void forward_init(struct mon *mon)
{
    TAILQ_INIT(&mon->pendings);
    mon->next_token = 1;
    mon->forward_timer.fire = retry_fire;
}

void forward_fini(struct mon *mon)
{
    struct pending *pending;

    env_timer_stop(mon->env, &mon->forward_timer);
    while ((pending = TAILQ_FIRST(&mon->pendings)) != NULL)
        pending_free(mon, pending);
}
