/*
 * Where operations go: placement groups, and sessions with the OSDs that serve them.
 *
 * A group is ready when the map gives it a primary that may serve, no refusal keeps it waiting and
 * there is (or can be opened) a session with that OSD. Whatever makes a group unready marks all of
 * its operations unsent (C1); whatever may make groups ready again - a map, a ticket, a timer -
 * asks for target_kick(), which sends what can be sent.
 */
#include "client/core/private.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/planted.h"

/* ---- The group's list ---- */

static void pg_activate(struct client_pg *pg)
{
    if (pg->active)
        return;
    pg->active = true;
    TAILQ_INSERT_TAIL(&pg->client->active, pg, link);
}

static void pg_deactivate(struct client_pg *pg)
{
    if (!pg->active)
        return;
    pg->active = false;
    TAILQ_REMOVE(&pg->client->active, pg, link);
    env_timer_stop(pg->client->env, &pg->retry);
    pg->wait_epoch = 0;
}

static void pg_mark_unsent(struct client_pg *pg)
{
    struct client_op *op;
    TAILQ_FOREACH(op, &pg->ops, link)
    {
        if (op->state != CLIENT_OP_SENT)
            break;
        op->state = CLIENT_OP_UNSENT;
        op->attempt++;
        pg->client->counters.ops_resent++;
    }
    pg->unsent = TAILQ_FIRST(&pg->ops);
    pg->osd = NULL;
}

void target_remove(struct client *c, struct client_op *op)
{
    (void)c;
    struct client_pg *pg = op->pg;
    if (pg == NULL)
        return;
    if (pg->unsent == op)
        pg->unsent = TAILQ_NEXT(op, link);
    TAILQ_REMOVE(&pg->ops, op, link);
    if (op->write)
        TAILQ_REMOVE(&pg->writes, op, write_link);
    op->pg = NULL;
    if (TAILQ_EMPTY(&pg->ops))
        pg_deactivate(pg);
}

/* ---- What the map says about a group ---- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash ^= value + UINT64_C(0x9e3779b97f4a7c15) + (hash << 6) + (hash >> 2);
    return hash * UINT64_C(0xff51afd7ed558ccd) ^ (hash >> 33);
}

/*
 * Names the membership of the group and the processes behind it; the configuration number as well,
 * since maps that we never saw may have changed the rest there and back. (It also changes with
 * nothing else, now and then; what is sent again for that is answered as a repetition.) A primary
 * refuses what was sent before its first number, so whatever it refuses we send again before we
 * send it anything else: C1.
 */
static uint64_t interval_of(const struct cluster_map *map, const struct pg_view *view)
{
    uint64_t hash = mix(mix(view->active, view->n_members), view->config);
    for (uint8_t i = 0; i < view->n_members; i++) {
        const struct map_osd *osd = map_osd(map, view->members[i]);
        hash = mix(hash, (uint64_t)(int64_t)view->members[i]);
        hash = mix(hash, osd != NULL && osd->up ? osd->instance : 0);
        hash = mix(hash, osd != NULL ? osd->up_from : 0);
    }
    return hash;
}

uint64_t target_interval(const struct client *c, uint64_t pool, uint32_t seed)
{
    struct pg_view view;
    struct pg_id id = {.pool = pool, .seed = seed};
    return map_pg_view(c->map, id, &view) == 0 ? interval_of(c->map, &view) : 0;
}

/* -ENOENT: the pool or the group is gone. */
static int pg_follow_map(struct client_pg *pg)
{
    struct client *c = pg->client;
    if (pg->epoch == c->map->epoch)
        return 0;
    struct pg_view view;
    struct pg_id id = {.pool = pg->key.pool, .seed = (uint32_t)pg->key.seed};
    int rc = map_pg_view(c->map, id, &view);
    if (rc != 0)
        return rc;
    uint64_t interval = interval_of(c->map, &view);
    bool serves = view.active && (c->map->flags & MAP_PAUSE) == 0;
    pg->primary = serves ? view.primary : -1;
    if (interval != pg->interval || !serves) {
        pg->interval = interval;
        pg->refusals = 0;
        env_timer_stop(c->env, &pg->retry);
        pg_mark_unsent(pg);
    }
    /* The map that the primary asked for: now it is its turn to know it. */
    if (pg->wait_epoch != 0 && c->map->epoch >= pg->wait_epoch) {
        pg->wait_epoch = 0;
        env_timer_stop(c->env, &pg->retry);
    }
    pg->epoch = c->map->epoch;
    return 0;
}

static void pg_retry_fired(struct env_timer *timer)
{
    struct client_pg *pg = container_of(timer, struct client_pg, retry);
    /* Whether or not the map came: an OSD may have been wrong about its number. */
    pg->wait_epoch = 0;
    client_schedule(pg->client, true);
}

static struct client_pg *pg_get(struct client *c, uint64_t pool, uint32_t seed)
{
    struct pg_key key = {.pool = pool, .seed = seed};
    struct client_pg *pg;
    /* NOLINTNEXTLINE(clang-analyzer-core.*): the analyzer does not follow uthash. */
    HASH_FIND(hh, c->pgs, &key, sizeof key, pg);
    if (pg != NULL)
        return pg;
    pg = calloc(1, sizeof *pg);
    if (pg == NULL)
        return NULL;
    pg->client = c;
    pg->key = key;
    pg->primary = -1;
    pg->retry.fire = pg_retry_fired;
    TAILQ_INIT(&pg->ops);
    TAILQ_INIT(&pg->writes);
    HASH_ADD(hh, c->pgs, key, sizeof pg->key, pg);
    return pg;
}

static void pg_free(struct client *c, struct client_pg *pg)
{
    assert(!pg->active && TAILQ_EMPTY(&pg->ops));
    env_timer_stop(c->env, &pg->retry);
    /* NOLINTNEXTLINE(clang-analyzer-core.*): the analyzer does not follow uthash. */
    HASH_DELETE(hh, c->pgs, pg);
    free(pg);
}

/* ---- Sessions with OSDs ---- */

static void osd_retry_fired(struct env_timer *timer)
{
    struct osd_link *osd = container_of(timer, struct osd_link, retry);
    client_schedule(osd->client, true);
}

static void osd_mark_unsent(struct osd_link *osd)
{
    struct client_pg *pg;
    TAILQ_FOREACH(pg, &osd->client->active, link)
    {
        if (pg->osd == osd)
            pg_mark_unsent(pg);
    }
}

/*
 * Also one that is to be sent again, since the group has other members or does not serve: its
 * primary may still be the one that it was, and takes what is under way to it.
 */
bool op_is_carried(const struct client_op *op)
{
    return (op->state == CLIENT_OP_SENT || op->state == CLIENT_OP_UNSENT) && op->carrier != NULL &&
           op->carrier->session != NULL && op->carrier->n_sessions == op->carried;
}

static bool owes_write(const struct osd_link *osd)
{
    const struct client_pg *pg;
    const struct client_op *op;
    TAILQ_FOREACH(pg, &osd->client->active, link)
    {
        TAILQ_FOREACH(op, &pg->writes, write_link)
        {
            if (op->carrier == osd && op_is_carried(op))
                return true;
        }
    }
    return false;
}

static void set_late(struct osd_link *osd, bool late)
{
    struct client *c = osd->client;
    if (osd->late == late)
        return;
    osd->late = late;
    c->n_late += late ? 1 : -1u;
    if (c->n_late == 0) {
        env_timer_stop(c->env, &c->late);
        client_schedule(c, false); /* watch_end_fenced() */
    } else if (!c->late.armed) {
        env_timer_after(c->env, &c->late, OSD_RETRY_MIN_NS);
    }
}

static void session_lost(struct osd_link *osd)
{
    if ((osd->revoked || owes_write(osd)) && !osd->client->closing)
        set_late(osd, true);
    osd->session = NULL;
    osd->revoked = false;
    env_timer_stop(osd->client->env, &osd->watch);
    watch_cut(osd->client, osd);
    osd->n_sessions++;
    osd->client->watch_links_lost = true;
    client_schedule(osd->client, false);
}

static void osd_disconnect(struct osd_link *osd)
{
    if (osd->session == NULL)
        return;
    net_drop(osd->client->env, osd->session);
    session_lost(osd);
    osd_mark_unsent(osd);
}

bool client_is_late(const struct client *c)
{
    return c->n_late > 0;
}

/* Several are revoked before this is done, and what is left goes over one new session. */
void target_revoke(struct client *c, const struct client_op *op)
{
    op->carrier->revoked = true;
    set_late(op->carrier, true);
    client_schedule(c, true);
}

void target_drop_revoked(struct client *c)
{
    struct osd_link *osd, *next;
    HASH_ITER(hh, c->osds, osd, next)
    {
        if (osd->revoked)
            osd_disconnect(osd);
    }
}

/*
 * A path that is cut says nothing: no reset comes, and the kernel goes on trying for long. So an
 * OSD that owes us an answer and sends no message for a while is pinged. If its machine, too, shows
 * no sign of life, then the session is dropped, and all goes again over a new one; whatever arrives
 * twice is answered from the group's log. An OSD that is slow, or works off what we have sent it,
 * is not silent: it answers pings, or its kernel does.
 */
static bool osd_owes(const struct osd_link *osd)
{
    const struct client_pg *pg;
    TAILQ_FOREACH(pg, &osd->client->active, link)
    {
        if (pg->osd == osd && TAILQ_FIRST(&pg->ops)->state == CLIENT_OP_SENT)
            return true;
    }
    return false;
}

static void osd_ping(struct osd_link *osd)
{
    struct client *c = osd->client;
    struct message *m = message_create(MSG_PING, sizeof(struct wire_ping));
    if (m == NULL)
        return;
    struct wire_ping body = {.stamp_ns = env_now(c->env), .epoch = c->map->epoch};
    memcpy(m->body, &body, sizeof body);
    osd->asked_ns = body.stamp_ns;
    net_send(c->env, osd->session, m);
}

static void osd_watch_fired(struct env_timer *timer)
{
    struct osd_link *osd = container_of(timer, struct osd_link, watch);
    struct client *c = osd->client;
    uint64_t now = env_now(c->env);
    if (osd->session == NULL || !osd_owes(osd))
        return;
    /* One that is not open yet is given up by the env when that takes too long. */
    if (!osd->session->open || now - osd->heard_ns < OSD_SILENCE_NS) {
        uint64_t from_ns = osd->session->open ? osd->heard_ns : now;
        env_timer_arm(c->env, &osd->watch, from_ns + OSD_SILENCE_NS);
        return;
    }
    if (osd->asked_ns > osd->heard_ns && net_heard_ns(c->env, osd->session) + OSD_DEAF_NS < now) {
        log_info(c->env, "OSD is silent", "osd=%d ms=%" PRIu64, osd->id,
                 (now - osd->heard_ns) / MSEC_NS);
        c->counters.osds_silent++;
        osd_disconnect(osd);
        mon_link_busy(c);
        client_schedule(c, true);
        return;
    }
    osd_ping(osd);
    env_timer_after(c->env, &osd->watch, OSD_SILENCE_NS);
}

static void osd_watch(struct osd_link *osd)
{
    if (osd->watch.armed)
        return;
    osd->heard_ns = env_now(osd->client->env);
    env_timer_after(osd->client->env, &osd->watch, OSD_SILENCE_NS);
}

void osd_link_received(struct osd_link *osd)
{
    if (!osd->revoked)
        set_late(osd, false);
    osd->heard_ns = env_now(osd->client->env);
}

static bool osd_matches_map(const struct osd_link *osd, const struct map_osd *info)
{
    return info != NULL && info->up && info->instance == osd->instance &&
           net_address_equal(&info->address, &osd->address);
}

static struct osd_link *osd_get(struct client *c, int32_t id)
{
    struct osd_link *osd;
    HASH_FIND(hh, c->osds, &id, sizeof id, osd);
    if (osd != NULL)
        return osd;
    osd = calloc(1, sizeof *osd);
    if (osd == NULL)
        return NULL;
    osd->client = c;
    osd->id = id;
    osd->retry.fire = osd_retry_fired;
    osd->watch.fire = osd_watch_fired;
    HASH_ADD(hh, c->osds, id, sizeof osd->id, osd);
    return osd;
}

/* A link with a session to the process that the map names; NULL when that is impossible now. */
static struct osd_link *osd_connect(struct client *c, int32_t id)
{
    const struct map_osd *info = map_osd(c->map, id);
    if (info == NULL || !info->up)
        return NULL;
    struct osd_link *osd = osd_get(c, id);
    if (osd == NULL || (osd->session != NULL && osd_matches_map(osd, info)))
        return osd;
    osd_disconnect(osd);
    if (!osd_matches_map(osd, info)) {
        osd->failures = 0;
        env_timer_stop(c->env, &osd->retry);
    }
    if (osd->retry.armed || !ticket_ready(c))
        return NULL;
    osd->instance = info->instance;
    osd->address = info->address;
    struct net_expect expect = {.name = entity_osd(id), .instance = info->instance};
    if (net_open(c->env, &osd->address, &expect, osd, &osd->session) != 0) {
        osd->session = NULL;
        env_timer_after(c->env, &osd->retry, OSD_RETRY_MIN_NS);
        return NULL;
    }
    c->counters.osd_sessions++;
    return osd;
}

void osd_link_opened(struct osd_link *osd)
{
    osd->opened_ns = env_now(osd->client->env);
}

/*
 * A session that worked is replaced at once; an OSD that cannot be reached is tried again after a
 * while, or as soon as a new map says something else about it.
 */
void osd_link_closed(struct osd_link *osd, int error)
{
    struct client *c = osd->client;
    bool worked = osd->session != NULL && osd->session->open &&
                  env_now(c->env) - osd->opened_ns > OSD_RETRY_MIN_NS;
    log_debug(c->env, "session with an OSD lost", "osd=%d error=%d", osd->id, error);
    session_lost(osd);
    if (!planted(PLANTED_CLIENT_NO_RESEND))
        osd_mark_unsent(osd);
    if (error == -EACCES || error == -EKEYEXPIRED)
        ticket_drop(c);
    if (worked) {
        osd->failures = 0;
    } else {
        uint64_t delay = OSD_RETRY_MIN_NS << (osd->failures < 4 ? osd->failures : 4);
        osd->failures++;
        env_timer_after(c->env, &osd->retry, delay < OSD_RETRY_MAX_NS ? delay : OSD_RETRY_MAX_NS);
        mon_link_busy(c);
    }
    client_schedule(c, true);
}

/* C7 */
void target_ask_late(struct env_timer *timer)
{
    struct client *c = container_of(timer, struct client, late);
    struct osd_link *osd, *next;
    HASH_ITER(hh, c->osds, osd, next)
    {
        if (osd->late && osd_connect(c, osd->id) == osd && osd->session->open)
            osd_ping(osd);
    }
    env_timer_after(c->env, &c->late, OSD_RETRY_MIN_NS);
}

/* ---- Sending ---- */

static void pg_send(struct client_pg *pg)
{
    struct client *c = pg->client;
    if (pg->unsent == NULL || pg->primary < 0 || pg->wait_epoch != 0 || pg->retry.armed ||
        (c->map->epoch < c->fenced_epoch && !planted(PLANTED_WATCH_MAP_IGNORED)))
        return;
    struct osd_link *osd = osd_connect(c, pg->primary);
    if (osd == NULL)
        return;
    assert(pg->osd == NULL || pg->osd == osd);
    pg->osd = osd;
    while (pg->unsent != NULL && osd->session->queued_bytes <= NET_QUEUE_LIMIT) {
        struct message *m = op_message(c, pg->unsent);
        if (m == NULL) {
            env_timer_after(c->env, &pg->retry, PG_RETRY_MAX_NS);
            return;
        }
        net_send(c->env, osd->session, m);
        if (pg->unsent->sent_ns == 0)
            pg->unsent->sent_ns = env_now(c->env);
        pg->unsent->state = CLIENT_OP_SENT;
        pg->unsent->carrier = osd;
        pg->unsent->carried = osd->n_sessions;
        pg->unsent = TAILQ_NEXT(pg->unsent, link);
        osd_watch(osd);
    }
}

/* At the end, except when groups were merged (C5). */
static void put_in_line(struct client_pg *pg, struct client_op *op)
{
    struct client_op *before = TAILQ_LAST(&pg->ops, client_op_list);
    if (before != NULL && before->tid > op->tid)
        pg_mark_unsent(pg);
    while (before != NULL && before->tid > op->tid)
        before = TAILQ_PREV(before, client_op_list, link);
    if (before != NULL)
        TAILQ_INSERT_AFTER(&pg->ops, before, op, link);
    else
        TAILQ_INSERT_HEAD(&pg->ops, op, link);
    if (!op->write)
        return;
    before = TAILQ_LAST(&pg->writes, client_op_list);
    while (before != NULL && before->tid > op->tid)
        before = TAILQ_PREV(before, client_op_list, write_link);
    if (before != NULL)
        TAILQ_INSERT_AFTER(&pg->writes, before, op, write_link);
    else
        TAILQ_INSERT_HEAD(&pg->writes, op, write_link);
}

int target_add(struct client *c, struct client_op *op)
{
    const struct map_pool *pool = map_pool(c->map, op->object.pool);
    if (pool == NULL)
        return -ENOENT;
    uint32_t seed = op->pg_op ? op->pg_seed : map_object_pg(pool, op->object.hash).seed;
    struct client_pg *pg = pg_get(c, pool->id, seed);
    if (pg == NULL)
        return -ENOMEM;
    int rc = pg_follow_map(pg);
    if (rc != 0)
        return rc;
    op->pg = pg;
    put_in_line(pg, op);
    pg_activate(pg);
    if (pg->unsent == NULL || pg->unsent->tid > op->tid)
        pg->unsent = op;
    pg_send(pg);
    if (pg->osd == NULL)
        mon_link_busy(c);
    return 0;
}

void target_kick(struct client *c)
{
    struct client_pg *pg;
    TAILQ_FOREACH(pg, &c->active, link)
    pg_send(pg);
}

/* ---- Answers ---- */

void target_answered(struct client_pg *pg)
{
    pg->refusals = 0;
}

/*
 * The OSD knows a newer map than ours, in which the group is not its own; or it has yet to learn
 * what we know. All of the group waits for that map, or for a moment, and then goes again.
 */
void target_refused(struct client *c, struct client_op *op, uint64_t epoch)
{
    struct client_pg *pg = op->pg;
    log_debug(c->env, "request refused", "osd=%d tid=%" PRIu64 " epoch=%" PRIu64, pg->osd->id,
              op->tid, epoch);
    pg_mark_unsent(pg);
    uint64_t delay = PG_RETRY_MIN_NS << (pg->refusals < 7 ? pg->refusals : 7);
    pg->refusals++;
    if (epoch > c->map->epoch) {
        pg->wait_epoch = epoch;
        delay = PG_RETRY_MAX_NS;
        mon_link_busy(c);
    }
    env_timer_after(c->env, &pg->retry, delay < PG_RETRY_MAX_NS ? delay : PG_RETRY_MAX_NS);
}

void target_fenced(struct client *c, uint64_t epoch)
{
    if (epoch <= c->fenced_epoch)
        return;
    c->fenced_epoch = epoch;
    if (epoch > c->map->epoch)
        mon_link_busy(c);
}

void target_no_ticket(struct client *c, int error)
{
    struct client_pg *pg, *next_pg;
    for (pg = TAILQ_FIRST(&c->active); pg != NULL; pg = next_pg) {
        next_pg = TAILQ_NEXT(pg, link);
        struct client_op *op, *next;
        for (op = pg->unsent; op != NULL; op = next) {
            next = TAILQ_NEXT(op, link);
            op_finish_later(c, op, error);
        }
    }
}

/* ---- New maps ---- */

/* The pool has another number of groups than before, or is gone: find each operation's place anew.
 */
static void regroup(struct client *c, struct client_op_list *moved)
{
    for (struct client_op *op; (op = TAILQ_FIRST(moved)) != NULL;) {
        TAILQ_REMOVE(moved, op, link);
        int rc = target_add(c, op);
        if (rc != 0)
            op_finish_later(c, op, rc);
    }
}

static bool pg_still_right(const struct client_pg *pg)
{
    const struct map_pool *pool = map_pool(pg->client->map, pg->key.pool);
    if (pool == NULL || pg->key.seed >= pool->pg_num)
        return false;
    struct client_op *op;
    TAILQ_FOREACH(op, &pg->ops, link)
    {
        if (!op->pg_op && map_object_pg(pool, op->object.hash).seed != pg->key.seed)
            return false;
    }
    return true;
}

static void take_moved(struct client_pg *pg, struct client_op_list *moved)
{
    pg_mark_unsent(pg);
    for (struct client_op *op; (op = TAILQ_FIRST(&pg->ops)) != NULL;) {
        target_remove(pg->client, op);
        TAILQ_INSERT_TAIL(moved, op, link);
    }
}

void target_map_changed(struct client *c)
{
    struct osd_link *osd, *tmp;
    HASH_ITER(hh, c->osds, osd, tmp)
    {
        if (!osd_matches_map(osd, map_osd(c->map, osd->id))) {
            osd_disconnect(osd);
            set_late(osd, false);
            osd->failures = 0;
            env_timer_stop(c->env, &osd->retry);
        }
    }
    struct client_op_list moved = TAILQ_HEAD_INITIALIZER(moved);
    struct client_pg *pg, *next;
    for (pg = TAILQ_FIRST(&c->active); pg != NULL; pg = next) {
        next = TAILQ_NEXT(pg, link);
        if (!pg_still_right(pg) || pg_follow_map(pg) != 0)
            take_moved(pg, &moved);
    }
    regroup(c, &moved);
    if (HASH_COUNT(c->pgs) <= CLIENT_PGS_CACHED_MAX)
        return;
    HASH_ITER(hh, c->pgs, pg, next)
    {
        if (!pg->active)
            pg_free(c, pg);
    }
}

void target_end_old_writes(struct client *c)
{
    uint64_t now = env_now(c->env);
    struct client_pg *pg, *next_pg;
    for (pg = TAILQ_FIRST(&c->active); pg != NULL; pg = next_pg) {
        next_pg = TAILQ_NEXT(pg, link);
        struct client_op *op, *next;
        /* They were sent in this order, so the first young one ends the search. */
        for (op = TAILQ_FIRST(&pg->writes); op != NULL; op = next) {
            next = TAILQ_NEXT(op, write_link);
            if (op->sent_ns == 0 || now - op->sent_ns < CLIENT_WRITE_LIMIT_NS)
                break;
            log_warn(c->env, "a write has no answer",
                     "pool=%" PRIu64 " pg=%" PRIu64 " tid=%" PRIu64, pg->key.pool, pg->key.seed,
                     op->tid);
            op_give_up(c, op);
        }
    }
}

bool target_stalled(const struct client *c)
{
    uint64_t now = env_now(c->env);
    const struct client_pg *pg;
    TAILQ_FOREACH(pg, &c->active, link)
    {
        const struct client_op *op = TAILQ_FIRST(&pg->ops);
        while (op != NULL && op->patient)
            op = TAILQ_NEXT(op, link);
        if (op != NULL && now - op->submitted_ns > MON_PING_BUSY_NS)
            return true;
    }
    return false;
}

void target_fini(struct client *c)
{
    struct client_pg *pg, *next_pg;
    HASH_ITER(hh, c->pgs, pg, next_pg)
    {
        pg_free(c, pg);
    }
    struct osd_link *osd, *next_osd;
    HASH_ITER(hh, c->osds, osd, next_osd)
    {
        if (osd->session != NULL)
            net_close(c->env, osd->session);
        osd->session = NULL;
        env_timer_stop(c->env, &osd->retry);
        env_timer_stop(c->env, &osd->watch);
        /* NOLINTNEXTLINE(clang-analyzer-core.*): the analyzer does not follow uthash. */
        HASH_DELETE(hh, c->osds, osd);
        free(osd);
    }
}
