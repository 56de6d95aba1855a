/*
 * Leases between OSD processes. They ride on the pings: the reply grants the sender of the ping a
 * lease, under the epoch that the reply names. What groups make of them stands in pg/pg_lease.c.
 *
 *  - We grant only to the process that our map shows as up. Until when is noted by our clock, from
 *    when we answer on; the grantee counts from when it sent the ping, and OSD_LEASE_MARGIN less,
 *    which is what clocks may differ in speed.
 *  - A lease that was granted under a newer map than ours does not count until we have that map:
 *    it may take somebody else for the primary, who does not wait for this lease.
 *  - The length is the same for all and for ever: a process that starts must know what the one
 *    before it may have granted.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/planted.h"
#include "osd/osd_impl.h"

/* ---- Granted ---- */

uint64_t osd_lease_grant(struct osd *osd, const struct net_session *session)
{
    int32_t id = entity_osd_id(&session->peer.name);
    const struct map_osd *info = map_osd(osd->map, id);
    struct osd_grant *grant;
    if (!info || !info->up || info->instance != session->peer.instance || osd->stopping)
        return 0;
    HASH_FIND_INT(osd->grants, &id, grant);
    if (!grant) {
        grant = calloc(1, sizeof *grant);
        if (!grant)
            return 0;
        grant->id = id;
        HASH_ADD_INT(osd->grants, id, grant);
    }
    grant->instance = info->instance;
    grant->until_ns = env_clock(osd->env) + OSD_LEASE_NS;
    return OSD_LEASE_NS;
}

uint64_t osd_granted_until(void *ctx, int32_t id, uint64_t instance)
{
    const struct osd *osd = ctx;
    struct osd_grant *grant;
    HASH_FIND_INT(osd->grants, &id, grant);
    /* What another process of that OSD had ended with it. */
    return grant && grant->instance == instance ? grant->until_ns : 0;
}

static void forget_grants(struct osd *osd, uint64_t before_ns)
{
    struct osd_grant *grant, *next;
    HASH_ITER(hh, osd->grants, grant, next)
    {
        if (grant->until_ns > before_ns)
            continue;
        HASH_DEL(osd->grants, grant);
        free(grant);
    }
}

void osd_leases_tick(struct osd *osd)
{
    forget_grants(osd, env_clock(osd->env));
}

void osd_leases_fini(struct osd *osd)
{
    forget_grants(osd, UINT64_MAX);
}

/* ---- Taken ---- */

/* Those of a newer map count once we have it. */
static void count_newer(struct osd_peer *peer, uint64_t epoch)
{
    if (peer->newer_epoch > epoch && !planted(PLANTED_LEASE_OF_NEWER_MAP))
        return;
    if (peer->newer_until_ns > peer->lease_until_ns)
        peer->lease_until_ns = peer->newer_until_ns;
    peer->newer_until_ns = 0;
}

uint64_t osd_lease_until(void *ctx, int32_t id)
{
    struct osd *osd = ctx;
    struct osd_peer *peer;
    HASH_FIND_INT(osd->peers, &id, peer);
    if (!peer)
        return 0;
    count_newer(peer, osd->map->epoch);
    return peer->lease_until_ns;
}

void osd_leases_renewed(struct osd *osd)
{
    struct osd_pg *entry, *next;
    if (osd->world.n_unleased == 0 || osd->closing)
        return;
    HASH_ITER(hh, osd->pgs, entry, next)
    {
        pg_lease_renewed(entry->pg);
    }
}

void osd_lease_taken(struct osd_peer *peer, const struct wire_ping *reply)
{
    struct osd *osd = peer->osd;
    uint64_t now = env_clock(osd->env);
    /* Nobody can answer what we have not said yet, nor grant more than all do. */
    if (reply->lease_ns == 0 || reply->lease_ns > OSD_LEASE_NS || reply->stamp_ns > now)
        return;
    uint64_t until = reply->stamp_ns + reply->lease_ns - reply->lease_ns / OSD_LEASE_MARGIN;
    count_newer(peer, osd->map->epoch);
    if (until > peer->newer_until_ns) {
        peer->newer_epoch = reply->epoch;
        peer->newer_until_ns = until;
    }
    count_newer(peer, osd->map->epoch);
    osd_leases_renewed(osd);
}
