/*
 * Other OSDs: one session of ours to each that we work with, and watching them.
 *
 * A peer is one process, the one that the map names. When it refuses connections it is dead, and is
 * reported at once; when it is silent, after the grace period. Reports are repeated until the map
 * shows them, or the peer is heard of.
 *
 * When a session ends although the peer may live, a new one is opened after a short while, and the
 * placement groups repeat what the old one left without an answer. In between nothing is sent.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "osd/osd_impl.h"

/* ---- Sessions ---- */

static void open_session(struct osd_peer *peer)
{
    struct osd *osd = peer->osd;
    struct net_expect expect = {.name = entity_osd(peer->id), .instance = peer->instance};
    peer->lost = false;
    peer->opened = false;
    if (net_open(osd->env, &peer->address, &expect, peer, &peer->session)) {
        peer->session = NULL;
        peer->lost = true;
        env_timer_after(osd->env, &peer->retry, OSD_PEER_RETRY_MAX_NS);
    }
}

/* Opens a session in the place of one that ended. */
static void retry_fired(struct env_timer *timer)
{
    struct osd_peer *peer = container_of(timer, struct osd_peer, retry);
    struct osd *osd = peer->osd;
    if (osd->closing || peer->session)
        return;
    open_session(peer);
    if (!peer->session)
        return;
    struct osd_pg *entry, *next;
    HASH_ITER(hh, osd->pgs, entry, next)
    {
        pg_peer_reset(entry->pg, peer->id);
    }
}

static struct osd_peer *peer_create(struct osd *osd, int32_t id, const struct map_osd *info)
{
    struct osd_peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        return NULL;
    peer->kind = SESSION_OF_PEER;
    peer->osd = osd;
    peer->id = id;
    peer->instance = info->instance;
    peer->address = info->address;
    peer->heard_ns = env_now(osd->env);
    peer->retry.fire = retry_fired;
    HASH_ADD_INT(osd->peers, id, peer);
    return peer;
}

static void peer_destroy(struct osd_peer *peer, bool close)
{
    struct osd *osd = peer->osd;
    env_timer_stop(osd->env, &peer->retry);
    if (peer->session)
        osd_held_drop(osd, peer->session);
    if (peer->session && close)
        net_close(osd->env, peer->session);
    HASH_DEL(osd->peers, peer);
    free(peer);
}

/* The peer that the map names; made when it is up and not known yet. */
static struct osd_peer *peer_get(struct osd *osd, int32_t id)
{
    struct osd_peer *peer;
    HASH_FIND_INT(osd->peers, &id, peer);
    if (peer)
        return peer;
    const struct map_osd *info = map_osd(osd->map, id);
    if (!info || !info->up || id == osd->options.id)
        return NULL;
    return peer_create(osd, id, info);
}

void osd_peer_send(struct osd *osd, int32_t id, struct message *message)
{
    struct osd_peer *peer = osd->closing ? NULL : peer_get(osd, id);
    if (peer && !peer->session && !peer->lost)
        open_session(peer);
    if (peer && peer->session)
        net_send(osd->env, peer->session, message);
    else
        message_unref(message);
}

/* ---- Failures ---- */

static void report(struct osd_peer *peer, Limpet__Wire__OsdFailure__Kind kind)
{
    struct osd *osd = peer->osd;
    uint64_t now = env_now(osd->env);
    if (!osd_is_up(osd) || osd->stopping)
        return;
    if (peer->report == 0)
        log_info(osd->env, "peer failed", "osd=%d peer=%d why=%s", osd->options.id, peer->id,
                 kind == LIMPET__WIRE__OSD_FAILURE__KIND__REFUSED ? "refused" : "silent");
    peer->report = kind;
    peer->reported_ns = now;
    osd_mon_failure(osd, peer->id, peer->instance, kind,
                    kind == LIMPET__WIRE__OSD_FAILURE__KIND__SILENT ? now - peer->heard_ns : 0);
}

static void heard(struct osd_peer *peer)
{
    peer->heard_ns = env_now(peer->osd->env);
    peer->report = 0;
}

void osd_peer_closed(struct osd_peer *peer, int error)
{
    struct osd *osd = peer->osd;
    /* What waits for a map must not outlive the session that it came on. */
    osd_held_drop(osd, peer->session);
    peer->session = NULL;
    peer->opened = false;
    if (osd->closing || osd->failed)
        return;
    log_debug(osd->env, "peer session ended", "osd=%d peer=%d error=\"%s\"", osd->options.id,
              peer->id, error_text(error));
    peer->lost = true;
    uint64_t delay = OSD_PEER_RETRY_NS << (peer->failures < 4 ? peer->failures : 4);
    peer->failures++;
    env_timer_after(osd->env, &peer->retry,
                    delay < OSD_PEER_RETRY_MAX_NS ? delay : OSD_PEER_RETRY_MAX_NS);
    if (error == -ECONNREFUSED)
        report(peer, LIMPET__WIRE__OSD_FAILURE__KIND__REFUSED);
}

static void ping(struct osd_peer *peer)
{
    struct osd *osd = peer->osd;
    struct message *message = message_create(MSG_PING, sizeof(struct wire_ping));
    if (!message)
        return;
    struct wire_ping body = {.stamp_ns = env_clock(osd->env), .epoch = osd->map->epoch};
    memcpy(message->body, &body, sizeof body);
    net_send(osd->env, peer->session, message);
}

void osd_peer_opened(struct osd_peer *peer)
{
    peer->opened = true;
    peer->failures = 0;
    heard(peer);
    /* Reads may wait for its lease. */
    if (osd_is_up(peer->osd))
        ping(peer);
}

static void watch(struct osd_peer *peer, uint64_t now)
{
    struct osd *osd = peer->osd;
    if (!peer->session && !peer->lost)
        open_session(peer);
    /* One that does not take what was sent before needs no more of it. */
    if (peer->session && peer->session->queued_bytes < NET_QUEUE_LIMIT)
        ping(peer);
    if (now - peer->heard_ns > osd->grace_ns && peer->report == 0)
        report(peer, LIMPET__WIRE__OSD_FAILURE__KIND__SILENT);
    else if (peer->report != 0 && now - peer->reported_ns >= OSD_REPEAT_NS)
        report(peer, (Limpet__Wire__OsdFailure__Kind)peer->report);
}

void osd_peers_tick(struct osd *osd, bool slept)
{
    uint64_t now = env_now(osd->env);
    struct osd_peer *peer, *next;
    if (!osd_is_up(osd))
        return;
    HASH_ITER(hh, osd->peers, peer, next)
    {
        /* We could not hear anybody: that is no sign against them. */
        if (slept)
            peer->heard_ns = now;
        watch(peer, now);
    }
}

void osd_peer_received(struct osd_peer *peer, struct message *message)
{
    struct osd *osd = peer->osd;
    struct wire_ping ping_reply;
    heard(peer);
    switch (message->type) {
    case MSG_PING_REPLY:
        if (message->body_len == sizeof ping_reply) {
            memcpy(&ping_reply, message->body, sizeof ping_reply);
            osd_want_map(osd, ping_reply.epoch);
            osd_lease_taken(peer, &ping_reply);
        }
        break;
    case MSG_REP_ACK:
    case MSG_PG_INFO:
    case MSG_PG_SCAN_REPLY:
    case MSG_PG_PUSH_REPLY:
    case MSG_PG_SCRUB_REPLY:
    case MSG_PG_PULL_REPLY:
        osd_group_message(osd, peer->session, peer->id, message);
        break;
    default:
        break;
    }
}

/* ---- The map ---- */

void osd_peers_follow_map(struct osd *osd)
{
    struct osd_peer *peer, *next;
    HASH_ITER(hh, osd->peers, peer, next)
    {
        const struct map_osd *info = map_osd(osd->map, peer->id);
        if (!info || !info->up || info->instance != peer->instance ||
            !net_address_equal(&info->address, &peer->address))
            peer_destroy(peer, true);
    }
}

static void want(struct osd *osd, int32_t id, uint32_t *n)
{
    struct osd_peer *peer = peer_get(osd, id);
    if (!peer || peer->wanted)
        return;
    peer->wanted = true;
    (*n)++;
}

void osd_peers_choose(struct osd *osd)
{
    struct osd_peer *peer, *next_peer;
    struct osd_pg *entry, *next_entry;
    int32_t partners[PG_PARTNERS_MAX];
    uint32_t n = 0;
    HASH_ITER(hh, osd->peers, peer, next_peer)
    {
        peer->wanted = false;
    }
    HASH_ITER(hh, osd->pgs, entry, next_entry)
    {
        uint32_t n_partners = pg_partners(entry->pg, partners);
        for (uint32_t i = 0; i < n_partners; i++)
            want(osd, partners[i], &n);
    }
    /* The next ones by number, round the ring, so that everybody is watched by somebody. */
    for (int32_t i = 1; i < osd->map->max_osd && n < OSD_HEARTBEATS_MIN; i++)
        want(osd, (osd->options.id + i) % osd->map->max_osd, &n);
    HASH_ITER(hh, osd->peers, peer, next_peer)
    {
        if (!peer->wanted)
            peer_destroy(peer, true);
    }
}

void osd_peers_fini(struct osd *osd, bool close)
{
    struct osd_peer *peer, *next;
    HASH_ITER(hh, osd->peers, peer, next)
    {
        peer_destroy(peer, close);
    }
}
