/*
 * What a request waits for, in words for people: the health report and the log name it when the
 * wait is long.
 */
#include "osd/pg/pg_impl.h"

#include <stdio.h>
#include <string.h>

bool pg_request_notifies(const struct pg_request *request)
{
    return request->place == REQUEST_NOTIFYING;
}

/* Appends " osd.N"; behind the first one with a comma. */
static void add_osd(char out[PG_WAITS_MAX], int32_t osd, bool *first)
{
    size_t len = strlen(out);
    (void)snprintf(out + len, PG_WAITS_MAX - len, "%s osd.%d", *first ? "" : ",", osd);
    *first = false;
}

/* Copies that have not told that they have the entry. */
static void say_copies(const struct pg *pg, uint64_t sequence, char out[PG_WAITS_MAX])
{
    bool first = true;
    (void)snprintf(out, PG_WAITS_MAX, "for the copy on");
    if (pg->durable < sequence)
        add_osd(out, pg->world->self, &first);
    for (uint8_t i = 0; i < pg->n_peers; i++)
        if (pg->peers[i].acked < sequence)
            add_osd(out, pg->peers[i].osd, &first);
    if (first)
        (void)snprintf(out, PG_WAITS_MAX, "for a copy that is being added");
}

static void say_leases(const struct pg *pg, char out[PG_WAITS_MAX])
{
    uint64_t now = env_clock(pg->world->env);
    bool first = true;
    (void)snprintf(out, PG_WAITS_MAX, "for a lease of");
    for (uint8_t i = 0; i < pg->n_peers; i++)
        if (pg->world->ops->lease_until(pg->world->ctx, pg->peers[i].osd) <= now)
            add_osd(out, pg->peers[i].osd, &first);
    if (first)
        (void)snprintf(out, PG_WAITS_MAX, "for leases of other OSDs");
}

const char *pg_request_waits(const struct pg_request *request, char out[PG_WAITS_MAX])
{
    const struct pg *pg = request->pg;
    const char *why = "to be executed";
    switch ((enum request_place)request->place) {
    case REQUEST_HELD:
        why = pg->serving && pg->view.active ? NULL : pg_why_waiting(pg);
        if (!why)
            why = "writes before it fill the log";
        break;
    case REQUEST_QUEUED:
        why = "for its turn on its object";
        break;
    case REQUEST_RUNNING:
        why = request->ops.list ? "for the disk to be read" : pg_run_why(request);
        break;
    case REQUEST_UNLEASED:
        say_leases(pg, out);
        return out;
    case REQUEST_WRITING:
        say_copies(pg, ((const struct pg_write *)request->operation)->sequence, out);
        return out;
    case REQUEST_WAITING:
        say_copies(pg, request->wait_sequence, out);
        return out;
    case REQUEST_NOTIFYING:
        why = "for watchers";
        break;
    case REQUEST_NOWHERE:
        break;
    }
    (void)snprintf(out, PG_WAITS_MAX, "%s%s", request->place == REQUEST_HELD ? "held: " : "", why);
    return out;
}
