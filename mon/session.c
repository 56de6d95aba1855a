/* Who is connected to a monitor, and which of their messages goes where. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/version.h"
#include "common/wire_layout.h"
#include "mon/leader.h"
#include "mon/mon_private.h"

/* Small messages of consensus are worth nothing once they are late. */
enum { PEER_QUEUE_SMALL_BYTES = 256 * 1024, SMALL_MESSAGE_BYTES = 4096 };

/* ---- Sending ---- */

void session_send(struct mon *mon, struct mon_session *session, uint16_t type,
                  const ProtobufCMessage *body, struct buf_slice payload)
{
    struct message *message = message_pack(type, body);

    if (message == NULL) {
        buf_slice_drop(&payload);
        log_error(mon->env, "message not sent", "type=%u", type);
        return;
    }
    message->payload = payload;
    net_send(mon->env, session->net, message);
}

void session_deliver(struct mon *mon, struct mon_session *session, uint16_t type, const void *body,
                     size_t len, struct buf_slice payload)
{
    struct message *message = message_create(type, len);

    if (message == NULL) {
        buf_slice_drop(&payload);
        return;
    }
    if (len > 0)
        memcpy(message->body, body, len);
    message->payload = payload;
    net_send(mon->env, session->net, message);
}

void session_reply(struct mon *mon, struct mon_session *session, uint64_t tid, int result,
                   const char *status, uint64_t epoch, struct buf_slice payload)
{
    Limpet__Wire__MonCommandReply reply = LIMPET__WIRE__MON_COMMAND_REPLY__INIT;

    reply.tid = tid;
    reply.result = result;
    reply.status = (char *)(uintptr_t)status;
    reply.has_epoch = true;
    reply.epoch = epoch;
    session_send(mon, session, MSG_MON_COMMAND_REPLY, &reply.base, payload);
}

/* ---- Other monitors ---- */

struct mon_peer *session_peer(struct mon *mon, uint64_t id)
{
    for (uint32_t i = 0; i < mon->n_peers; i++) {
        if (mon->peers[i].info.id == id)
            return &mon->peers[i];
    }
    return NULL;
}

static void peer_connect(struct mon_peer *peer)
{
    struct net_expect expect = {.name = {.type = ENTITY_MON}};

    if (peer->out != NULL || peer->mon->stopping)
        return;
    env_timer_stop(peer->mon->env, &peer->retry);
    memcpy(expect.name.id, peer->info.name, sizeof expect.name.id);
    peer->broken = false;
    if (net_open(peer->mon->env, &peer->info.address, &expect, &peer->endpoint, &peer->out) != 0)
        env_timer_after(peer->mon->env, &peer->retry, MON_PEER_RETRY_MS * MSEC_NS);
}

static void peer_retry(struct env_timer *timer)
{
    peer_connect(container_of(timer, struct mon_peer, retry));
}

void session_connect_peers(struct mon *mon)
{
    for (uint32_t i = 0; i < mon->n_peers; i++) {
        mon->peers[i].retry.fire = peer_retry;
        peer_connect(&mon->peers[i]);
    }
}

void session_send_peer(struct mon *mon, uint64_t id, struct message *message)
{
    struct mon_peer *peer = session_peer(mon, id);
    size_t len = message->body_len + message->payload.len;

    if (peer == NULL || peer->out == NULL || peer->broken ||
        peer->out->queued_bytes + len > NET_QUEUE_LIMIT ||
        (len < SMALL_MESSAGE_BYTES && peer->out->queued_bytes > PEER_QUEUE_SMALL_BYTES)) {
        message_unref(message);
        return;
    }
    net_send(mon->env, peer->out, message);
}

/* Newer sessions come first. */
const char *session_version(const struct mon *mon, uint64_t id)
{
    const struct mon_session *session;

    LIST_FOREACH(session, &mon->sessions, link)
    {
        if (session->mon_id == id && session->version[0] != '\0')
            return session->version;
    }
    return NULL;
}

/* ---- Orders to OSDs ---- */

/* Of an OSD that restarted, an old session may not be over yet: each gets the order. */
static void order_own(struct mon *mon, int32_t osd, struct message *order)
{
    struct mon_session *session;

    LIST_FOREACH(session, &mon->sessions, link)
    {
        if (session->osd == osd)
            net_send(mon->env, session->net, message_ref(order));
    }
}

void session_order_scrub(struct mon *mon, struct pg_id pg, int32_t osd, bool deep)
{
    Limpet__Wire__PgScrubOrder body = LIMPET__WIRE__PG_SCRUB_ORDER__INIT;

    body.pool = pg.pool;
    body.seed = pg.seed;
    body.deep = deep;
    body.osd = osd;
    struct message *order = message_pack(MSG_PG_SCRUB_ORDER, &body.base);
    if (order == NULL)
        return;
    order_own(mon, osd, order);
    for (uint32_t i = 0; i < mon->n_peers; i++)
        session_send_peer(mon, mon->peers[i].info.id, message_ref(order));
    message_unref(order);
}

/* From the leader: it is ours to hand over when the OSD talks to us. */
static void pass_order(struct mon *mon, struct message *message)
{
    Limpet__Wire__PgScrubOrder *order = (Limpet__Wire__PgScrubOrder *)message_unpack(
        message, &limpet__wire__pg_scrub_order__descriptor);

    if (order == NULL)
        return;
    order_own(mon, order->osd, message);
    limpet__wire__pg_scrub_order__free_unpacked(order, NULL);
}

/* ---- Sessions to other monitors ---- */

static void tell_about(struct mon_peer *peer)
{
    Limpet__Wire__MonAbout about = LIMPET__WIRE__MON_ABOUT__INIT;

    about.version = (char *)(uintptr_t)limpet_version_text();
    struct message *message = message_pack(MSG_MON_ABOUT, &about.base);
    if (message != NULL)
        session_send_peer(peer->mon, peer->info.id, message);
}

static void peer_opened(struct mon_peer *peer)
{
    log_debug(peer->mon->env, "monitor reached", "mon=%s", peer->info.name);
    peer->refused = false;
    tell_about(peer);
    consensus_peer_found(peer->mon->consensus, peer->info.id);
    forward_dispatch(peer->mon);
}

static void peer_closed(struct mon_peer *peer, int error)
{
    struct mon *mon = peer->mon;

    peer->out = NULL;
    if (mon->stopping)
        return;
    log_debug(mon->env, "monitor session ended", "mon=%s error=%d", peer->info.name, error);
    if (error == -EACCES && !peer->refused) {
        peer->refused = true;
        log_warn(mon->env, "no authentication between monitors", "mon=%s hint=\"%s\"",
                 peer->info.name, "both need the same key of mon. in their keyrings");
    }
    forward_restart(mon);
    if (error == -ECONNREFUSED || error == -ELIMPET_RESET)
        consensus_peer_dead(mon->consensus, peer->info.id);
    if (error == -ELIMPET_RESET)
        peer_connect(peer);
    else
        env_timer_after(mon->env, &peer->retry, MON_PEER_RETRY_MS * MSEC_NS);
}

/* ---- Probing OSDs ---- */

static void probe_free(struct probe *probe)
{
    env_timer_stop(probe->mon->env, &probe->timer);
    LIST_REMOVE(probe, link);
    free(probe);
}

/* As if an OSD had told the leader, which checks the instance. */
static void report_refused(struct mon *mon, const struct probe *probe)
{
    Limpet__Wire__OsdFailure failure = LIMPET__WIRE__OSD_FAILURE__INIT;

    failure.id = probe->osd;
    failure.instance = probe->instance;
    failure.kind = LIMPET__WIRE__OSD_FAILURE__KIND__REFUSED;
    failure.epoch = mon->state.map->epoch;
    struct message *message = message_pack(MSG_OSD_FAILURE, &failure.base);
    if (message != NULL) {
        forward_submit(mon, NULL, message, true);
        message_unref(message);
    }
}

static void probe_end(struct probe *probe, enum probe_result result)
{
    struct mon *mon = probe->mon;
    int32_t osd = probe->osd;
    uint64_t instance = probe->instance;

    /* Also to ourselves: we may lead, and not be ready to listen yet. */
    if (result == PROBE_REFUSED)
        report_refused(mon, probe);
    probe_free(probe);
    if (consensus_leading(mon->consensus))
        leader_probed(mon->leader, osd, instance, result);
}

static void probe_closed(struct probe *probe, int error)
{
    bool dead = error == -ECONNREFUSED || error == -ELIMPET_RESET;
    /* Somebody answers who does not believe us: no proof that it is not the OSD. */
    bool lives = error == -EACCES;

    probe->net = NULL;
    probe_end(probe, dead ? PROBE_REFUSED : lives ? PROBE_LIVES : PROBE_SILENT);
}

static void probe_fire(struct env_timer *timer)
{
    struct probe *probe = container_of(timer, struct probe, timer);
    struct env *env = probe->mon->env;

    /* We were stopped ourselves, perhaps: the answer may be waiting to be read. */
    if (!probe->extended && env_now(env) > timer->deadline_ns + MON_PROBE_LATE_MS * MSEC_NS) {
        probe->extended = true;
        env_timer_after(env, timer, MON_PROBE_LATE_MS * MSEC_NS);
        return;
    }
    net_close(env, probe->net);
    probe_end(probe, PROBE_SILENT);
}

static struct probe *probe_find(struct mon *mon, int32_t osd, uint64_t instance)
{
    struct probe *probe;

    LIST_FOREACH(probe, &mon->probes, link)
    {
        if (probe->osd == osd && probe->instance == instance)
            return probe;
    }
    return NULL;
}

void session_probe(struct mon *mon, int32_t osd, uint64_t timeout_ms)
{
    const struct map_osd *known = map_osd(mon->state.map, osd);
    uint64_t deadline_ns = env_now(mon->env) + timeout_ms * MSEC_NS;

    if (mon->stopping || known == NULL || !known->up)
        return;
    struct probe *probe = probe_find(mon, osd, known->instance);
    if (probe != NULL) {
        if (deadline_ns < probe->timer.deadline_ns)
            env_timer_arm(mon->env, &probe->timer, deadline_ns);
        return;
    }
    probe = calloc(1, sizeof *probe);
    if (probe == NULL)
        return;
    probe->endpoint.kind = ENDPOINT_PROBE;
    probe->mon = mon;
    probe->osd = osd;
    probe->instance = known->instance;
    probe->timer.fire = probe_fire;
    struct net_expect expect = {.name = entity_osd(osd), .instance = known->instance};
    LIST_INSERT_HEAD(&mon->probes, probe, link);
    if (net_open(mon->env, &known->address, &expect, &probe->endpoint, &probe->net) != 0)
        probe_free(probe);
    else
        env_timer_arm(mon->env, &probe->timer, deadline_ns);
}

/* ---- Sessions that others opened ---- */

static void session_accept(struct mon *mon, struct net_session *net)
{
    struct mon_session *session =
        mon->n_sessions < MON_SESSIONS_MAX ? calloc(1, sizeof *session) : NULL;

    if (session == NULL) {
        log_warn(mon->env, "session refused", "sessions=%u", mon->n_sessions);
        net_close(mon->env, net);
        return;
    }
    session->endpoint.kind = ENDPOINT_SESSION;
    session->net = net;
    session->osd = -1;
    net->user = &session->endpoint;
    if (net->peer.name.type == ENTITY_OSD)
        session->osd = entity_osd_id(&net->peer.name);
    for (uint32_t i = 0; net->peer.name.type == ENTITY_MON && i < mon->n_peers; i++) {
        if (strcmp(mon->peers[i].info.name, net->peer.name.id) == 0)
            session->mon_id = mon->peers[i].info.id;
    }
    LIST_INSERT_HEAD(&mon->sessions, session, link);
    mon->n_sessions++;
    /* A monitor that reaches us can be reached: do not wait for the timer. */
    if (session->mon_id != 0)
        peer_connect(session_peer(mon, session->mon_id));
}

static void session_end(struct mon *mon, struct mon_session *session)
{
    forward_session_gone(mon, session);
    leader_session_gone(mon->leader, session);
    if (session->ticket_request != NULL)
        message_unref(session->ticket_request);
    LIST_REMOVE(session, link);
    mon->n_sessions--;
    free(session);
}

static void refuse_cluster(struct mon *mon, struct mon_session *session)
{
    char status[MON_STATUS_MAX];
    char fsid[UUID_TEXT_MAX];

    snprintf(status, sizeof status, "this monitor belongs to cluster %s, not to yours",
             uuid_format(&mon->identity.fsid, fsid));
    session_reply(mon, session, 0, -EXDEV, status, 0, BUF_SLICE_EMPTY);
}

static void handle_subscribe(struct mon *mon, struct mon_session *session,
                             const struct message *message)
{
    Limpet__Wire__MonSubscribe *subscribe = (Limpet__Wire__MonSubscribe *)message_unpack(
        message, &limpet__wire__mon_subscribe__descriptor);

    if (subscribe == NULL)
        return;
    if (subscribe->has_fsid &&
        (subscribe->fsid.len != sizeof mon->identity.fsid.bytes ||
         memcmp(subscribe->fsid.data, mon->identity.fsid.bytes, subscribe->fsid.len) != 0))
        refuse_cluster(mon, session);
    else
        publish_subscribe(mon, session, subscribe->have_epoch);
    limpet__wire__mon_subscribe__free_unpacked(subscribe, NULL);
}

static void handle_ping(struct mon *mon, struct mon_session *session, const struct message *message)
{
    struct wire_ping ping;

    if (message->body_len != sizeof ping)
        return;
    memcpy(&ping, message->body, sizeof ping);
    ping.epoch = mon->state.map->epoch;
    session_deliver(mon, session, MSG_PING_REPLY, &ping, sizeof ping, BUF_SLICE_EMPTY);
}

/* An OSD's report, kept here too in case that we must tell another leader. */
static void handle_stats(struct mon *mon, struct mon_session *session, struct message *message)
{
    Limpet__Wire__OsdStats *report =
        (Limpet__Wire__OsdStats *)message_unpack(message, &limpet__wire__osd_stats__descriptor);

    if (report == NULL)
        return;
    if (report->id == session->osd && !consensus_leading(mon->consensus))
        stats_report(mon->stats, mon->state.map, report, env_now(mon->env));
    limpet__wire__osd_stats__free_unpacked(report, NULL);
    forward_submit(mon, session, message, true);
}

static void handle_about(struct mon_session *session, const struct message *message)
{
    Limpet__Wire__MonAbout *about =
        (Limpet__Wire__MonAbout *)message_unpack(message, &limpet__wire__mon_about__descriptor);

    if (about == NULL)
        return;
    snprintf(session->version, sizeof session->version, "%s", about->version);
    limpet__wire__mon_about__free_unpacked(about, NULL);
}

static void receive_from_mon(struct mon *mon, struct mon_session *session, struct message *message)
{
    if (message->type == MSG_RAFT)
        consensus_receive(mon->consensus, session->mon_id, message);
    else if (message->type == MSG_FORWARD)
        forward_received(mon, session, message);
    else if (message->type == MSG_PG_SCRUB_ORDER)
        pass_order(mon, message);
    else if (message->type == MSG_MON_ABOUT)
        handle_about(session, message);
}

static void receive_from_osd(struct mon *mon, struct mon_session *session, struct message *message)
{
    switch (message->type) {
    case MSG_OSD_STATS:
        handle_stats(mon, session, message);
        break;
    case MSG_OSD_BOOT:
    case MSG_OSD_FAILURE:
    case MSG_PG_ADD_MEMBER:
    case MSG_OSD_FENCE:
        forward_submit(mon, session, message, true);
        break;
    default:
        break;
    }
}

static void session_receive(struct mon *mon, struct mon_session *session, struct message *message)
{
    bool may_read = caps_allow(&session->net->peer.caps, CAP_READ, NULL);

    switch (message->type) {
    case MSG_PING:
        handle_ping(mon, session, message);
        break;
    case MSG_RAFT:
    case MSG_FORWARD:
    case MSG_PG_SCRUB_ORDER:
    case MSG_MON_ABOUT:
        if (session->mon_id != 0)
            receive_from_mon(mon, session, message);
        break;
    case MSG_MON_GET_TICKET:
        access_ticket(mon, session, message);
        break;
    case MSG_MON_SUBSCRIBE:
        if (may_read)
            handle_subscribe(mon, session, message);
        else
            session_reply(mon, session, 0, -EACCES, "your key gives no access to the monitors", 0,
                          BUF_SLICE_EMPTY);
        break;
    case MSG_MON_COMMAND:
        forward_submit(mon, session, message, false);
        break;
    default:
        if (session->osd >= 0)
            receive_from_osd(mon, session, message);
        break;
    }
}

/* ---- The world's calls ---- */

static void on_opened(void *ctx, struct net_session *net)
{
    struct mon *mon = ctx;
    struct endpoint *endpoint = net->user;

    if (endpoint == NULL) {
        session_accept(mon, net);
    } else if (endpoint->kind == ENDPOINT_PEER) {
        peer_opened(container_of(endpoint, struct mon_peer, endpoint));
    } else if (endpoint->kind == ENDPOINT_PROBE) {
        /* It lives: its session here only has to come back. */
        net_close(mon->env, net);
        probe_end(container_of(endpoint, struct probe, endpoint), PROBE_LIVES);
    }
}

static void on_received(void *ctx, struct net_session *net, struct message *message)
{
    struct mon *mon = ctx;
    struct endpoint *endpoint = net->user;

    if (endpoint == NULL || mon->stopping || mon->failed)
        return;
    if (endpoint->kind == ENDPOINT_SESSION)
        session_receive(mon, container_of(endpoint, struct mon_session, endpoint), message);
    else if (endpoint->kind == ENDPOINT_PEER && message->type == MSG_FORWARD_REPLY)
        forward_reply_received(mon, message);
    else if (endpoint->kind == ENDPOINT_PEER)
        container_of(endpoint, struct mon_peer, endpoint)->broken = false;
}

static void on_disconnected(void *ctx, struct net_session *net)
{
    struct mon *mon = ctx;
    struct endpoint *endpoint = net->user;

    if (endpoint != NULL && endpoint->kind == ENDPOINT_SESSION) {
        const struct mon_session *session = container_of(endpoint, struct mon_session, endpoint);
        if (session->osd >= 0)
            session_probe(mon, session->osd, MON_OSD_LOST_PROBE_MS);
    }
}

static void on_closed(void *ctx, struct net_session *net, int error)
{
    struct mon *mon = ctx;
    struct endpoint *endpoint = net->user;

    if (endpoint == NULL)
        return;
    if (endpoint->kind == ENDPOINT_PEER) {
        peer_closed(container_of(endpoint, struct mon_peer, endpoint), error);
    } else if (endpoint->kind == ENDPOINT_PROBE) {
        probe_closed(container_of(endpoint, struct probe, endpoint), error);
    } else {
        struct mon_session *session = container_of(endpoint, struct mon_session, endpoint);
        int32_t osd = session->osd;
        session_end(mon, session);
        if (osd >= 0)
            session_probe(mon, osd, MON_OSD_LOST_PROBE_MS);
    }
}

static void on_drained(void *ctx, struct net_session *net)
{
    struct endpoint *endpoint = net->user;

    if (endpoint != NULL && endpoint->kind == ENDPOINT_SESSION)
        publish_catch_up(ctx, container_of(endpoint, struct mon_session, endpoint));
}

const struct net_handlers session_handlers = {
    .opened = on_opened,
    .received = on_received,
    .disconnected = on_disconnected,
    .closed = on_closed,
    .drained = on_drained,
};

void session_close_all(struct mon *mon, bool quietly)
{
    struct mon_session *session;
    struct probe *probe;

    for (uint32_t i = 0; i < mon->n_peers; i++) {
        struct mon_peer *peer = &mon->peers[i];
        env_timer_stop(mon->env, &peer->retry);
        if (peer->out != NULL && !quietly)
            net_close(mon->env, peer->out);
        peer->out = NULL;
    }
    while ((probe = LIST_FIRST(&mon->probes)) != NULL) {
        if (probe->net != NULL && !quietly)
            net_close(mon->env, probe->net);
        probe_free(probe);
    }
    while ((session = LIST_FIRST(&mon->sessions)) != NULL) {
        if (!quietly)
            net_close(mon->env, session->net);
        session_end(mon, session);
    }
}
