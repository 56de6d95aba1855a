/*
 * Sessions that others opened: clients with requests, and OSDs that are primaries of groups of
 * ours.
 *
 * What clients have under way is bounded: above the limit of a session, or of all together, reading
 * from clients stops, and TCP makes them wait. The limit of all stops only those that have more
 * than their share: requests that cannot be answered now must not keep others' from being read.
 * OSDs are never stopped like that, since others wait for what they have to say; what they may have
 * under way is bounded by their own clients.
 *
 * Replies are bounded too: how much is read for all requests at a time, and how much waits for
 * clients that do not take it in. See osd_may_read().
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "osd/osd_impl.h"

/* ---- Sessions ---- */

static bool is_osd(const struct net_session *session);
static void guest_free(struct osd *osd, struct osd_guest *guest);

/* Of an OSD, also those that an earlier process of it has left. */
static bool is_same_peer(const struct net_session *a, const struct net_session *b)
{
    return entity_equal(&a->peer.name, &b->peer.name) &&
           (is_osd(a) || a->peer.instance == b->peer.instance);
}

/*
 * A peer opens another session only when it has given up the one before, of which something may
 * still be under way, or be held. That is as good as lost, and must not come between what is said
 * now: a watch would be connected to the session that is not there any more.
 */
static void close_older(struct osd *osd, const struct net_session *session)
{
    struct osd_guest *guest, *next;
    for (guest = TAILQ_FIRST(&osd->guests); guest; guest = next) {
        struct net_session *older = guest->session;
        next = TAILQ_NEXT(guest, link);
        if (older == session || !is_same_peer(older, session))
            continue;
        guest_free(osd, guest);
        net_close(osd->env, older);
    }
}

void osd_guest_opened(struct osd *osd, struct net_session *session)
{
    close_older(osd, session);
    struct osd_guest *guest = calloc(1, sizeof *guest);
    if (!guest) {
        net_close(osd->env, session);
        return;
    }
    guest->kind = SESSION_OF_GUEST;
    guest->session = session;
    net_address_format(&session->peer.address, guest->address);
    TAILQ_INIT(&guest->requests);
    TAILQ_INSERT_TAIL(&osd->guests, guest, link);
    osd->n_guests++;
    session->user = guest;
}

static bool is_osd(const struct net_session *session)
{
    return session->peer.name.type == ENTITY_OSD;
}

/* The last first: with one that is let go those behind it would run, and overtake it for ever. */
static void orphan_requests(struct osd *osd, struct osd_guest *guest)
{
    struct osd_request *request;
    while ((request = planted(PLANTED_ORPHANS_OVERTAKE)
                          ? TAILQ_FIRST(&guest->requests)
                          : TAILQ_LAST(&guest->requests, osd_request_list))) {
        if (request->waits_for_map)
            osd_request_done(osd, &request->pg, NULL);
        else
            pg_request_orphan(&request->pg);
    }
}

static void guest_free(struct osd *osd, struct osd_guest *guest)
{
    struct osd_pg *entry, *next;
    /* Groups first, so that nothing is sent to the session any more. */
    HASH_ITER(hh, osd->pgs, entry, next)
    {
        pg_session_closed(entry->pg, guest->session);
    }
    osd_held_drop(osd, guest->session);
    orphan_requests(osd, guest);
    TAILQ_REMOVE(&osd->guests, guest, link);
    osd->n_guests--;
    assert(guest->bytes == 0);
    free(guest);
}

void osd_guest_closed(struct osd *osd, struct net_session *session)
{
    if (session->user)
        guest_free(osd, session->user);
}

void osd_guests_close(struct osd *osd, bool close)
{
    struct osd_guest *guest;
    while ((guest = TAILQ_FIRST(&osd->guests))) {
        struct net_session *session = guest->session;
        guest_free(osd, guest);
        if (close)
            net_close(osd->env, session);
    }
}

/* ---- Replies ---- */

static void resume_reads(struct osd *osd, uint64_t delay_ns)
{
    bool sooner =
        !osd->reads_timer.armed || osd->reads_timer.deadline_ns > env_now(osd->env) + delay_ns;
    if (pg_reads_wait(&osd->world) && !osd->closing && sooner)
        env_timer_after(osd->env, &osd->reads_timer, delay_ns);
}

void osd_reads_fire(struct env_timer *timer)
{
    struct osd *osd = container_of(timer, struct osd, reads_timer);
    if (osd->closing || osd->failed)
        return;
    pg_reads_resume(&osd->world);
    resume_reads(osd, OSD_READS_NS);
}

static void count_replies(struct osd *osd)
{
    uint64_t now = env_now(osd->env);
    const struct osd_guest *guest;
    if (now - osd->replies_counted_ns < OSD_REPLIES_COUNT_NS)
        return;
    osd->replies_counted_ns = now;
    osd->replies_bytes = 0;
    TAILQ_FOREACH(guest, &osd->guests, link)
    osd->replies_bytes += guest->session->queued_bytes;
}

static bool has_room(struct osd *osd, const struct osd_guest *guest, uint64_t bytes)
{
    size_t queued = guest->session->queued_bytes;
    if (osd->reading_bytes >= OSD_READING_BYTES_MAX || queued >= OSD_REPLIES_SESSION_MAX)
        return false;
    if (osd->replies_bytes >= OSD_REPLIES_BYTES_MAX)
        count_replies(osd);
    return osd->replies_bytes < OSD_REPLIES_BYTES_MAX ||
           (queued <= OSD_REPLY_SMALL && bytes <= OSD_REPLY_SMALL);
}

/*
 * A request that holds pieces gives them back when it has all of them: if all such waited for one
 * another, none would end. One at a time may go beyond the limit, by a message at most.
 */
static bool may_go_on(struct osd *osd, struct osd_request *request)
{
    if (osd->reading_bytes < OSD_READING_BYTES_MAX)
        return true;
    if (!osd->overdraws)
        osd->overdraws = request;
    return osd->overdraws == request;
}

bool osd_may_read(void *ctx, struct pg_request *pg_request, uint64_t bytes)
{
    struct osd *osd = ctx;
    struct osd_request *request = container_of(pg_request, struct osd_request, pg);
    if (!(request->reading_bytes > 0 ? may_go_on(osd, request)
                                     : has_room(osd, request->guest, bytes))) {
        if (!osd->reads_timer.armed && !osd->closing)
            env_timer_after(osd->env, &osd->reads_timer, OSD_READS_NS);
        return false;
    }
    request->reading_bytes += bytes;
    osd->reading_bytes += bytes;
    return true;
}

/* ---- Back-pressure ---- */

/* Of what all may have under way: nobody is stopped below it. */
static size_t share(const struct osd *osd)
{
    return OSD_CLIENT_BYTES_MAX / (osd->n_guests > 0 ? osd->n_guests : 1);
}

static bool is_over(const struct osd *osd, const struct osd_guest *guest)
{
    return guest->bytes > OSD_SESSION_BYTES_MAX ||
           (osd->client_bytes > OSD_CLIENT_BYTES_MAX && guest->bytes > share(osd)) ||
           guest->session->queued_bytes > NET_QUEUE_LIMIT;
}

static bool is_under(const struct osd *osd, const struct osd_guest *guest)
{
    return guest->bytes <= OSD_SESSION_BYTES_MAX / 2 &&
           (osd->client_bytes <= OSD_CLIENT_BYTES_MAX / 2 || guest->bytes <= share(osd) / 2) &&
           guest->session->queued_bytes <= NET_QUEUE_LIMIT;
}

static void set_paused(struct osd *osd, struct osd_guest *guest, bool paused)
{
    guest->paused = paused;
    net_pause(osd->env, guest->session, paused);
}

/* Looks at one session, and at all when all together were over the limit. */
static void check_resume(struct osd *osd, struct osd_guest *guest, bool all)
{
    if (guest->paused && is_under(osd, guest))
        set_paused(osd, guest, false);
    if (!all || osd->client_bytes > OSD_CLIENT_BYTES_MAX / 2)
        return;
    struct osd_guest *other;
    TAILQ_FOREACH(other, &osd->guests, link)
    {
        if (other->paused && is_under(osd, other))
            set_paused(osd, other, false);
    }
}

void osd_guest_drained(struct osd *osd, struct net_session *session)
{
    struct osd_guest *guest = session->user;
    if (guest && guest->paused && is_under(osd, guest))
        set_paused(osd, guest, false);
    resume_reads(osd, 0);
}

/* ---- Requests ---- */

static struct osd_request *request_alloc(struct osd *osd)
{
    struct osd_request *request = SLIST_FIRST(&osd->free_requests);
    if (!request)
        return calloc(1, sizeof *request);
    SLIST_REMOVE_HEAD(&osd->free_requests, free_link);
    osd->n_free_requests--;
    memset(request, 0, sizeof *request);
    return request;
}

static void request_free(struct osd *osd, struct osd_request *request)
{
    if (osd->n_free_requests >= OSD_FREE_REQUESTS) {
        free(request);
        return;
    }
    SLIST_INSERT_HEAD(&osd->free_requests, request, free_link);
    osd->n_free_requests++;
}

void osd_request_done(void *ctx, struct pg_request *pg_request, struct message *reply)
{
    struct osd *osd = ctx;
    struct osd_request *request = container_of(pg_request, struct osd_request, pg);
    struct osd_guest *guest = request->guest;
    if (reply && !osd->closing) {
        osd->replies_bytes += reply->payload.len;
        net_send(osd->env, guest->session, reply);
    } else {
        message_unref(reply);
    }
    if (request->waits_for_map)
        TAILQ_REMOVE(&osd->waiting, request, waiting_link);
    TAILQ_REMOVE(&guest->requests, request, guest_link);
    bool was_over = osd->client_bytes > OSD_CLIENT_BYTES_MAX / 2;
    guest->bytes -= request->bytes;
    osd->client_bytes -= request->bytes;
    osd->reading_bytes -= request->reading_bytes;
    if (osd->overdraws == request)
        osd->overdraws = NULL;
    if (!osd->closing) {
        check_resume(osd, guest, was_over);
        if (request->reading_bytes > 0)
            resume_reads(osd, 0);
    }
    message_unref(pg_request->message);
    request_free(osd, request);
}

static void answer(struct osd *osd, struct osd_request *request, int error)
{
    struct ops_result result = {.epoch = osd->map->epoch, .result = error};
    struct message *reply = ops_reply(&request->pg.ops.head, &result, NULL, BUF_SLICE_EMPTY);
    osd_request_done(osd, &request->pg, reply);
}

static void wait_for_map(struct osd *osd, struct osd_request *request)
{
    request->waits_for_map = true;
    TAILQ_INSERT_TAIL(&osd->waiting, request, waiting_link);
}

/* What the map and the client's capabilities say: 0, or the error to answer. */
static int check_request(const struct osd *osd, const struct osd_request *request, struct pg **out)
{
    const struct ops_request *ops = &request->pg.ops;
    const struct map_pool *pool = map_pool(osd->map, ops->head.pool);
    struct pg_id id = {.pool = ops->head.pool, .seed = ops->head.pg_seed};
    if (!pool)
        return -ELIMPET_NOT_PRIMARY; /* The client's newer map will tell it so, too. */
    uint8_t want = ops->write ? CAP_WRITE : CAP_READ;
    if (!caps_allow(&request->guest->session->peer.caps, want, pool->name))
        return -EACCES;
    if (id.seed >= pool->pg_num ||
        (!ops->list && map_object_pg(pool, ops->object.hash).seed != id.seed))
        return ops->head.epoch < osd->map->epoch ? -ELIMPET_NOT_PRIMARY : -EINVAL;
    struct osd_pg *entry = osd_pg_find(osd, id);
    if (!entry || !pg_is_primary(entry->pg) || !osd_is_up(osd))
        return -ELIMPET_NOT_PRIMARY;
    *out = entry->pg;
    return 0;
}

static void dispatch(struct osd *osd, struct osd_request *request)
{
    struct pg *pg;
    if (request->pg.ops.head.epoch > osd->map->epoch) {
        wait_for_map(osd, request);
        osd_want_map(osd, request->pg.ops.head.epoch);
        return;
    }
    if (osd->map->flags & MAP_PAUSE) {
        wait_for_map(osd, request);
        return;
    }
    int error = check_request(osd, request, &pg);
    if (error)
        answer(osd, request, error);
    else
        pg_request(pg, &request->pg);
}

static void receive_request(struct osd *osd, struct osd_guest *guest, struct message *message)
{
    struct osd_request *request = osd->stopping ? NULL : request_alloc(osd);
    if (!request)
        return;
    int error = ops_decode(message, &request->pg.ops);
    if (error == -EBADMSG) {
        log_warn(osd->env, "malformed request", "osd=%d", osd->options.id);
        request_free(osd, request);
        struct net_session *session = guest->session;
        guest_free(osd, guest);
        net_close(osd->env, session);
        return;
    }
    /* A request in another's name could pass for one that the other is about to send. */
    if (!error && request->pg.ops.head.client != guest->session->peer.instance)
        error = -EPERM;
    request->guest = guest;
    request->came_ns = env_now(osd->env);
    request->pg.caller = (struct ops_caller){.instance = guest->session->peer.instance,
                                             .address = guest->address,
                                             .peer = &guest->session->peer.address};
    request->pg.session = guest->session;
    request->pg.message = message_ref(message);
    request->bytes = OSD_REQUEST_BYTES_MIN + message->body_len + message->payload.len;
    guest->bytes += request->bytes;
    osd->client_bytes += request->bytes;
    TAILQ_INSERT_TAIL(&guest->requests, request, guest_link);
    if (is_over(osd, guest) && !guest->paused)
        set_paused(osd, guest, true);
    if (error)
        answer(osd, request, error);
    else
        dispatch(osd, request);
}

void osd_requests_retry(struct osd *osd)
{
    struct osd_request_list waiting;
    struct osd_request *request;
    TAILQ_INIT(&waiting);
    TAILQ_CONCAT(&waiting, &osd->waiting, waiting_link);
    while ((request = TAILQ_FIRST(&waiting))) {
        TAILQ_REMOVE(&waiting, request, waiting_link);
        request->waits_for_map = false;
        dispatch(osd, request);
    }
}

/* ---- Messages about placement groups ---- */

static void hold(struct osd *osd, struct net_session *session, int32_t from,
                 struct message *message)
{
    size_t bytes = message->body_len + message->payload.len;
    uint32_t most = osd->options.held > 0 ? osd->options.held : OSD_HELD_MAX;
    struct osd_held *held = NULL;
    /* What is dropped is a gap to the group, which refuses what follows and is made equal again. */
    if (osd->n_held < most && osd->held_bytes + bytes <= OSD_HELD_BYTES_MAX)
        held = calloc(1, sizeof *held);
    if (!held) {
        log_warn(osd->env, "message dropped",
                 "osd=%d from=%d type=%u why=\"too many wait for a map\"", osd->options.id, from,
                 message->type);
        return;
    }
    held->session = session;
    held->from = from;
    held->message = message_ref(message);
    osd->n_held++;
    osd->held_bytes += bytes;
    TAILQ_INSERT_TAIL(&osd->held, held, link);
}

static void held_free(struct osd *osd, struct osd_held *held)
{
    osd->n_held--;
    osd->held_bytes -= held->message->body_len + held->message->payload.len;
    message_unref(held->message);
    free(held);
}

void osd_held_drop(struct osd *osd, const struct net_session *session)
{
    struct osd_held *held, *next;
    for (held = TAILQ_FIRST(&osd->held); held; held = next) {
        next = TAILQ_NEXT(held, link);
        if (session && held->session != session)
            continue;
        TAILQ_REMOVE(&osd->held, held, link);
        held_free(osd, held);
    }
}

void osd_held_retry(struct osd *osd)
{
    struct osd_held_list list;
    struct osd_held *held;
    TAILQ_INIT(&list);
    TAILQ_CONCAT(&list, &osd->held, link);
    while ((held = TAILQ_FIRST(&list))) {
        TAILQ_REMOVE(&list, held, link);
        struct message *message = message_ref(held->message);
        struct net_session *session = held->session;
        int32_t from = held->from;
        held_free(osd, held);
        osd_group_message(osd, session, from, message);
        message_unref(message);
    }
}

static void refuse_unknown(struct osd *osd, struct net_session *session,
                           const struct pg_incoming *in)
{
    struct message *refusal = session->outbound ? NULL : pg_refusal(in, osd->map->epoch);
    if (refusal)
        net_send(osd->env, session, refusal);
}

void osd_group_message(struct osd *osd, struct net_session *session, int32_t from,
                       struct message *message)
{
    struct pg_incoming in;
    if (pg_incoming_decode(message, &in)) {
        log_error(osd->env, "malformed message", "osd=%d from=%d type=%u", osd->options.id, from,
                  message->type);
        pg_incoming_fini(&in);
        return;
    }
    struct osd_pg *entry = osd_pg_find(osd, in.pg);
    enum pg_verdict verdict = PG_TAKEN;
    if (entry)
        verdict = pg_receive(entry->pg, session, from, &in);
    else if (in.epoch > osd->map->epoch || in.config > osd->map->epoch)
        verdict = PG_HOLD;
    else
        refuse_unknown(osd, session, &in);
    if (verdict == PG_HOLD && !osd->stopping) {
        osd_want_map(osd, in.epoch > in.config ? in.epoch : in.config);
        hold(osd, session, from, message);
    }
    pg_incoming_fini(&in);
}

/* ---- Everything that comes on such a session ---- */

static void answer_ping(struct osd *osd, struct net_session *session, const struct message *message)
{
    struct wire_ping ping;
    if (message->body_len != sizeof ping)
        return;
    memcpy(&ping, message->body, sizeof ping);
    if (is_osd(session))
        osd_want_map(osd, ping.epoch);
    struct message *reply = message_create(MSG_PING_REPLY, sizeof ping);
    if (!reply)
        return;
    ping.epoch = osd->map->epoch;
    ping.lease_ns = is_osd(session) ? osd_lease_grant(osd, session) : 0;
    memcpy(reply->body, &ping, sizeof ping);
    net_send(osd->env, session, reply);
}

void osd_guest_received(struct osd *osd, struct net_session *session, struct message *message)
{
    struct osd_guest *guest = session->user;
    if (!guest)
        return;
    switch (message->type) {
    case MSG_PING:
        answer_ping(osd, session, message);
        break;
    case MSG_OSD_OP:
        receive_request(osd, guest, message);
        break;
    case MSG_REP_TXN:
    case MSG_PG_ACTIVATE:
    case MSG_PG_SCAN:
    case MSG_PG_PUSH:
    case MSG_PG_SCRUB:
    case MSG_PG_PULL: {
        int32_t from = is_osd(session) ? entity_osd_id(&session->peer.name) : -1;
        if (from >= 0)
            osd_group_message(osd, session, from, message);
        break;
    }
    default:
        break;
    }
}
