/*
 * Requests of clients that take too long: how many, since when, and what the oldest waits for. The
 * monitors hear of them with the statistics (SLOW_OPS), the log when they begin, now and then while
 * there are some, and when they are over.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "osd/osd_impl.h"

/*
 * Of each session the first ones are the oldest. A notification does not count: watchers have a
 * time of their own to acknowledge it.
 */
static const struct osd_request *find_slow(const struct osd *osd, uint64_t now, uint32_t *n)
{
    const struct osd_request *oldest = NULL, *request;
    const struct osd_guest *guest;
    *n = 0;
    TAILQ_FOREACH(guest, &osd->guests, link)
    {
        TAILQ_FOREACH(request, &guest->requests, guest_link)
        {
            if (now - request->came_ns < osd->complaint_ns)
                break;
            if (pg_request_notifies(&request->pg))
                continue;
            ++*n;
            if (!oldest || request->came_ns < oldest->came_ns)
                oldest = request;
        }
    }
    return oldest;
}

static void say_why(const struct osd *osd, const struct osd_request *request,
                    char out[OSD_WAITS_MAX])
{
    char why[PG_WAITS_MAX];
    if (request->waits_for_map) {
        snprintf(out, OSD_WAITS_MAX, "%s",
                 osd->map->flags & MAP_PAUSE ? "for the flag 'pause' to be unset"
                                             : "for a newer map of the cluster");
        return;
    }
    struct pg_id pg = {.pool = request->pg.ops.head.pool, .seed = request->pg.ops.head.pg_seed};
    char text[PG_ID_TEXT_MAX];
    snprintf(out, OSD_WAITS_MAX, "in pg %s %s", pg_id_format(pg, text),
             pg_request_waits(&request->pg, why));
}

void osd_slow_look(struct osd *osd)
{
    struct osd_slow *slow = &osd->slow;
    uint64_t now = env_now(osd->env);
    bool were = slow->n > 0;
    const struct osd_request *oldest = find_slow(osd, now, &slow->n);
    if (!oldest) {
        if (were)
            log_info(osd->env, "no slow requests any more", "osd=%d", osd->options.id);
        osd->slow_told_ns = 0;
        return;
    }
    slow->oldest_ns = now - oldest->came_ns;
    say_why(osd, oldest, slow->waits);
    if (osd->slow_told_ns != 0 && now - osd->slow_told_ns < osd->complaint_ns)
        return;
    osd->slow_told_ns = now;
    log_warn(osd->env, "slow requests",
             "osd=%d n=%" PRIu32 " oldest_s=%" PRIu64 " client=%s waits=\"%s\"", osd->options.id,
             slow->n, slow->oldest_ns / SEC_NS, oldest->guest->address, slow->waits);
}
