/*
 * The session with one monitor, found by hunting over all that are known: for the map, tickets, and
 * everything that we report. What matters is repeated until the map shows it. A monitor that is
 * silent, or lives but does not move while we wait for something, is left for the next one.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "osd/osd_impl.h"

/* ---- Candidates: those of the map, then those of the configuration ---- */

static bool in_map(const struct osd *osd, const struct net_address *address)
{
    for (uint32_t i = 0; i < osd->map->n_mons; i++)
        if (net_address_equal(&osd->map->mons[i].address, address))
            return true;
    return false;
}

/* The candidate with this number; false when there are not as many. */
static bool candidate(const struct osd *osd, uint32_t number, struct net_address *address,
                      struct net_expect *expect)
{
    memset(expect, 0, sizeof *expect);
    expect->name.type = ENTITY_MON;
    if (number < osd->map->n_mons) {
        *address = osd->map->mons[number].address;
        memcpy(expect->name.id, osd->map->mons[number].name, sizeof expect->name.id);
        return true;
    }
    number -= osd->map->n_mons;
    for (uint32_t i = 0; i < osd->options.n_mons; i++) {
        if (in_map(osd, &osd->options.mons[i]))
            continue;
        if (number-- == 0) {
            *address = osd->options.mons[i];
            return true;
        }
    }
    return false;
}

static uint32_t count_candidates(const struct osd *osd)
{
    struct net_address address;
    struct net_expect expect;
    uint32_t n = 0;
    while (candidate(osd, n, &address, &expect))
        n++;
    return n;
}

/* ---- Hunting ---- */

static void attempt(struct osd *osd);

static void next_candidate(struct osd *osd)
{
    struct osd_mon *mon = &osd->mon;
    mon->current++;
    mon->tried++;
    if (mon->tried < count_candidates(osd)) {
        attempt(osd);
        return;
    }
    uint64_t pause = OSD_MON_PAUSE_NS << (mon->rounds < 4 ? mon->rounds : 4);
    mon->rounds++;
    mon->tried = 0;
    env_timer_after(osd->env, &mon->timer,
                    pause < OSD_MON_PAUSE_MAX_NS ? pause : OSD_MON_PAUSE_MAX_NS);
}

static void attempt(struct osd *osd)
{
    struct osd_mon *mon = &osd->mon;
    struct net_address address;
    struct net_expect expect;
    uint32_t n = count_candidates(osd);
    if (n == 0) {
        osd_fatal(osd, -EINVAL, "no monitor is configured");
        return;
    }
    mon->current %= n;
    if (!candidate(osd, mon->current, &address, &expect) ||
        net_open(osd->env, &address, &expect, mon, &mon->session)) {
        mon->session = NULL;
        next_candidate(osd);
        return;
    }
    env_timer_after(osd->env, &mon->timer, OSD_MON_ATTEMPT_NS);
}

static void leave(struct osd *osd)
{
    struct osd_mon *mon = &osd->mon;
    if (mon->session)
        net_close(osd->env, mon->session);
    mon->session = NULL;
    mon->live = false;
}

void osd_mon_hunt(struct osd *osd)
{
    if (osd->closing)
        return;
    leave(osd);
    osd->mon.tried = 0;
    osd->mon.current++;
    attempt(osd);
}

static void timer_fired(struct env_timer *timer)
{
    struct osd *osd = container_of(timer, struct osd, mon.timer);
    struct osd_mon *mon = &osd->mon;
    if (mon->live)
        return;
    if (mon->session) {
        leave(osd);
        next_candidate(osd);
    } else {
        attempt(osd);
    }
}

void osd_mon_init(struct osd *osd)
{
    osd->mon.kind = SESSION_OF_MON;
    osd->mon.timer.fire = timer_fired;
    osd->mon.current = (uint32_t)(env_random_u64(osd->env) % 64);
}

void osd_mon_fini(struct osd *osd)
{
    env_timer_stop(osd->env, &osd->mon.timer);
    leave(osd);
}

/*
 * Monitors that refuse us will do so tomorrow, too: a wrong key, or another cluster. But one that
 * lags behind may not know our key yet, so they get some time.
 */
static void note_refusal(struct osd *osd, int error)
{
    struct osd_mon *mon = &osd->mon;
    uint64_t now = env_now(osd->env);
    if (error != -EACCES && error != -EXDEV) {
        return;
    }
    if (mon->refused_since_ns == 0) {
        mon->refused_since_ns = now;
        log_warn(osd->env, "monitor refuses us", "osd=%d error=\"%s\"", osd->options.id,
                 auth_error_text(error));
    } else if (osd->map->epoch == 0 && now - mon->refused_since_ns >= OSD_REFUSED_PATIENCE_NS) {
        osd_fatal(osd, error,
                  error == -EXDEV ? "the monitors belong to another cluster"
                                  : "the monitors do not accept our key");
    }
}

void osd_mon_closed(struct osd *osd, int error)
{
    struct osd_mon *mon = &osd->mon;
    bool was_live = mon->live;
    mon->session = NULL;
    mon->live = false;
    note_refusal(osd, error);
    if (osd->closing || osd->failed)
        return;
    if (was_live)
        osd_mon_hunt(osd);
    else
        next_candidate(osd);
}

/* ---- What we tell ---- */

void osd_mon_send(struct osd *osd, uint16_t type, const ProtobufCMessage *proto)
{
    if (!osd->mon.live)
        return;
    struct message *message = message_pack(type, proto);
    if (message)
        net_send(osd->env, osd->mon.session, message);
}

static void subscribe(struct osd *osd)
{
    Limpet__Wire__MonSubscribe subscribe = LIMPET__WIRE__MON_SUBSCRIBE__INIT;
    osd->mon.subscribed_ns = env_now(osd->env);
    subscribe.have_epoch = osd->mon.want_full ? 0 : osd->map->epoch;
    if (!uuid_is_zero(&osd->options.fsid)) {
        subscribe.has_fsid = true;
        subscribe.fsid =
            (ProtobufCBinaryData){sizeof osd->options.fsid.bytes, osd->options.fsid.bytes};
    }
    osd_mon_send(osd, MSG_MON_SUBSCRIBE, &subscribe.base);
}

void osd_mon_boot(struct osd *osd)
{
    struct osd_mon *mon = &osd->mon;
    Limpet__Wire__OsdBoot boot = LIMPET__WIRE__OSD_BOOT__INIT;
    Limpet__Wire__Address address = LIMPET__WIRE__ADDRESS__INIT;
    struct store_statfs space;
    bool may = osd->loaded && osd_auth_ready(osd) && osd->map->epoch > 0 && !osd->stopping;
    if (!mon->live || !may || osd_is_up(osd))
        return;
    mon->booted_ns = env_now(osd->env);
    if (mon->boot_since_ns == 0)
        mon->boot_since_ns = mon->booted_ns;
    address.family = osd->address.family;
    address.ip = (ProtobufCBinaryData){osd->address.family == 4 ? 4 : 16, osd->address.ip};
    address.port = osd->address.port;
    osd->store->ops->statfs(osd->store, &space);
    boot.id = osd->options.id;
    boot.uuid = (ProtobufCBinaryData){sizeof osd->options.uuid.bytes, osd->options.uuid.bytes};
    boot.address = &address;
    boot.instance = osd->env->instance;
    boot.epoch = osd->map->epoch;
    boot.has_bytes_total = true;
    boot.bytes_total = space.bytes_total;
    boot.host = osd->options.host;
    osd_mon_send(osd, MSG_OSD_BOOT, &boot.base);
}

void osd_mon_failure(struct osd *osd, int32_t id, uint64_t instance,
                     Limpet__Wire__OsdFailure__Kind kind, uint64_t silent_ns)
{
    Limpet__Wire__OsdFailure failure = LIMPET__WIRE__OSD_FAILURE__INIT;
    failure.id = id;
    failure.instance = instance;
    failure.kind = kind;
    failure.epoch = osd->map->epoch;
    failure.has_silent_ms = silent_ns > 0;
    failure.silent_ms = silent_ns / MSEC_NS;
    osd_mon_send(osd, MSG_OSD_FAILURE, &failure.base);
}

void osd_want_map(struct osd *osd, uint64_t epoch)
{
    uint64_t now = env_now(osd->env);
    if (epoch <= osd->map->epoch)
        return;
    if (now >= osd->wanted_again_ns) {
        if (osd->wanted_epoch <= osd->map->epoch) {
            osd->wanted_since_ns = now;
            osd->wanted_tries = 0;
        }
        if (epoch > osd->wanted_epoch)
            osd->wanted_epoch = epoch;
    }
    /* We are subscribed: the map is on its way, unless our monitor lags behind. */
    if (osd->mon.live && now - osd->mon.subscribed_ns >= OSD_REPEAT_NS)
        subscribe(osd);
}

void osd_mon_opened(struct osd *osd)
{
    struct osd_mon *mon = &osd->mon;
    mon->live = true;
    mon->tried = 0;
    mon->rounds = 0;
    mon->heard_ns = env_now(osd->env);
    mon->refused_since_ns = 0;
    env_timer_stop(osd->env, &mon->timer);
    subscribe(osd);
    osd->ticket_asked_ns = 0;
    osd_auth_refresh(osd);
    osd_mon_boot(osd);
    osd_stats_complete(osd);
}

static void ping(struct osd *osd)
{
    struct message *message = message_create(MSG_PING, sizeof(struct wire_ping));
    if (!message)
        return;
    struct wire_ping body = {.stamp_ns = env_now(osd->env), .epoch = osd->map->epoch};
    memcpy(message->body, &body, sizeof body);
    osd->mon.pinged_ns = body.stamp_ns;
    net_send(osd->env, osd->mon.session, message);
}

/* The operator's wish: the flags of the map do not stop it. Another primary gets its own. */
static void scrub_ordered(struct osd *osd, const struct message *message)
{
    Limpet__Wire__PgScrubOrder *order = (Limpet__Wire__PgScrubOrder *)message_unpack(
        message, &limpet__wire__pg_scrub_order__descriptor);
    if (!order)
        return;
    struct pg_id id = {.pool = order->pool, .seed = order->seed};
    struct osd_pg *entry = osd_pg_find(osd, id);
    if (entry && pg_is_primary(entry->pg))
        pg_scrub_order(entry->pg, order->deep);
    limpet__wire__pg_scrub_order__free_unpacked(order, NULL);
}

/* Somebody who leads no more may say so, too: once is not enough. */
static void number_denied(struct osd *osd)
{
    uint64_t now = env_now(osd->env);
    if (osd->mon.denied_since_ns == 0)
        osd->mon.denied_since_ns = now;
    if (now - osd->mon.denied_since_ns >= OSD_DENIED_NS)
        osd_fatal(osd, -EEXIST,
                  "the monitors know another store by this number: if that one is lost, remove it "
                  "with 'limpet osd rm', else choose another number");
}

static void boot_answered(struct osd *osd, const struct message *message)
{
    Limpet__Wire__MonCommandReply *reply = (Limpet__Wire__MonCommandReply *)message_unpack(
        message, &limpet__wire__mon_command_reply__descriptor);
    if (!reply)
        return;
    if (reply->result != 0 && !osd_is_up(osd))
        log_warn(osd->env, "boot refused", "osd=%d why=\"%s\"", osd->options.id,
                 reply->status ? reply->status : "");
    if (reply->result != -EEXIST)
        osd->mon.denied_since_ns = 0;
    else if (!osd_is_up(osd))
        number_denied(osd);
    limpet__wire__mon_command_reply__free_unpacked(reply, NULL);
}

void osd_mon_received(struct osd *osd, struct message *message)
{
    struct wire_ping ping_reply;
    osd->mon.heard_ns = env_now(osd->env);
    switch (message->type) {
    case MSG_MON_MAP:
        osd_map_received(osd, message);
        break;
    case MSG_MON_TICKET:
        osd_auth_answered(osd, message);
        break;
    case MSG_MON_COMMAND_REPLY:
        boot_answered(osd, message);
        break;
    case MSG_PG_SCRUB_ORDER:
        scrub_ordered(osd, message);
        break;
    case MSG_PING_REPLY:
        if (message->body_len == sizeof ping_reply) {
            memcpy(&ping_reply, message->body, sizeof ping_reply);
            osd_want_map(osd, ping_reply.epoch);
        }
        break;
    default:
        break;
    }
}

static bool lags(const struct osd *osd, uint64_t now)
{
    return osd->wanted_epoch > osd->map->epoch && now - osd->wanted_since_ns > OSD_MON_LAG_NS;
}

/*
 * A monitor is left because it lags. When none has the map, there is no such map: clients can say
 * what they like, and one that lies must not keep us from staying with a monitor.
 */
static void note_lag(struct osd *osd, uint64_t now)
{
    if (++osd->wanted_tries < osd->options.n_mons)
        return;
    osd->wanted_epoch = 0;
    osd->wanted_again_ns = now + OSD_MON_VAIN_NS;
}

/* Something that we wait for does not come; another monitor may do better. */
static bool waits_in_vain(const struct osd *osd, uint64_t now)
{
    const struct osd_mon *mon = &osd->mon;
    if (now - mon->heard_ns > OSD_MON_SILENCE_NS)
        return true;
    if (mon->boot_since_ns != 0 && now - mon->boot_since_ns > OSD_MON_PATIENCE_NS)
        return true;
    return lags(osd, now);
}

void osd_mon_tick(struct osd *osd)
{
    struct osd_mon *mon = &osd->mon;
    uint64_t now = env_now(osd->env);
    if (!mon->live)
        return;
    if (waits_in_vain(osd, now)) {
        log_info(osd->env, "monitor left",
                 "osd=%d epoch=%" PRIu64 " wanted=%" PRIu64 " silent_ms=%" PRIu64, osd->options.id,
                 osd->map->epoch, osd->wanted_epoch, (now - mon->heard_ns) / MSEC_NS);
        mon->boot_since_ns = 0;
        if (lags(osd, now))
            note_lag(osd, now);
        osd->wanted_since_ns = now;
        osd_mon_hunt(osd);
        return;
    }
    if (now - mon->pinged_ns >= OSD_REPEAT_NS)
        ping(osd);
    osd_auth_refresh(osd);
    if (now - mon->booted_ns >= OSD_REPEAT_NS)
        osd_mon_boot(osd);
}
