/*
 * The health report: what is wrong, where, and what to do next. Codes are Ceph's where Ceph has
 * one. HEALTH_OK means: every monitor takes part, every OSD is up, and every placement group is
 * active and clean.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mon/command.h"
#include "mon/summary.h"

/* As many as Ceph's mon_osd_warn_num_repaired. */
enum { OSD_REPAIRS_MANY = 10 };

const char *health_text(enum health_severity severity)
{
    return severity == HEALTH_OK     ? "HEALTH_OK"
           : severity == HEALTH_WARN ? "HEALTH_WARN"
                                     : "HEALTH_ERR";
}

static struct health_check *check_add(struct health *health, const char *code,
                                      enum health_severity severity, uint64_t count)
{
    const struct health_code *about = health_code_find(code);

    assert(health->n < HEALTH_CHECKS_MAX && about != NULL);
    struct health_check *check = &health->checks[health->n++];
    *check = (struct health_check){
        .code = code, .severity = severity, .count = count, .next = about->next};
    if (severity > health->severity)
        health->severity = severity;
    return check;
}

static void __attribute__((format(printf, 2, 3)))
check_detail(struct health_check *check, const char *format, ...)
{
    char line[256];
    va_list args;

    if (check->n_details == HEALTH_DETAILS_MAX)
        return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    char *copy = strdup(line);
    if (copy != NULL)
        check->details[check->n_details++] = copy;
}

static void check_mons(const struct mon *mon, struct health *health)
{
    uint64_t mask = leader_quorum(mon->leader);
    uint32_t down = 0;
    char names[160] = "";

    for (uint32_t i = 0; i < mon->identity.n_mons; i++) {
        if (((mask >> i) & 1) == 0) {
            down++;
            continue;
        }
        size_t len = strlen(names);
        snprintf(names + len, sizeof names - len, "%s%s", len > 0 ? "," : "",
                 mon->identity.mons[i].name);
    }
    if (down == 0)
        return;
    struct health_check *check = check_add(health, "MON_DOWN", HEALTH_WARN, down);
    snprintf(check->summary, sizeof check->summary, "%u/%u mons down, quorum %.96s", down,
             mon->identity.n_mons, names);
    for (uint32_t i = 0; i < mon->identity.n_mons; i++) {
        char address[NET_ADDRESS_TEXT_MAX];
        if (((mask >> i) & 1) == 0)
            check_detail(check, "mon.%s (%s) is out of quorum", mon->identity.mons[i].name,
                         net_address_format(&mon->identity.mons[i].address, address));
    }
}

static void check_osds(const struct mon *mon, const struct summary *summary, struct health *health)
{
    const struct cluster_map *map = mon->state.map;
    struct health_check *check;

    if (summary->n_osds == 0) {
        check = check_add(health, "TOO_FEW_OSDS", HEALTH_WARN, 0);
        snprintf(check->summary, sizeof check->summary, "there is no OSD: nothing can be stored");
    }
    if (summary->n_up == summary->n_osds)
        return;
    uint32_t down = summary->n_osds - summary->n_up;
    check = check_add(health, "OSD_DOWN", HEALTH_WARN, down);
    snprintf(check->summary, sizeof check->summary, "%u osds down", down);
    for (int32_t id = 0; id < map->max_osd; id++) {
        const struct map_osd *osd = map_osd(map, id);
        if (osd != NULL && !osd->up)
            check_detail(check, "osd.%d (host %s) is down", id, osd->host);
    }
}

/* OSDs that were marked down wrongly, and are held down for it or soon would be. */
static void check_flapping(const struct mon *mon, struct health *health)
{
    const struct leader *leader = mon->leader;
    uint64_t now_ns = env_now(mon->env);
    struct health_check *check = NULL;

    for (int32_t id = 0; id < leader->n_watched; id++) {
        const struct osd_watch *watch = &leader->watched[id];
        bool held = watch->held_until_ns > now_ns;
        bool recent = watch->wrong >= mon->options.flap_count &&
                      now_ns - watch->wrong_ns <= mon->options.flap_window_ms * MSEC_NS;
        if (map_osd(mon->state.map, id) == NULL || (!held && !recent))
            continue;
        if (check == NULL)
            check = check_add(health, "OSD_FLAPPING", HEALTH_WARN, 0);
        check->count++;
        char held_text[64] = "";
        if (held && !map_osd_up(mon->state.map, id))
            snprintf(held_text, sizeof held_text, "; held down for %" PRIu64 " s more",
                     (watch->held_until_ns - now_ns) / SEC_NS + 1);
        check_detail(check, "osd.%d was marked down though it lives (%u times of late; last: %s)%s",
                     id, watch->wrong, watch->why, held_text);
    }
    if (check != NULL)
        snprintf(check->summary, sizeof check->summary,
                 "%" PRIu64 " osd(s) were marked down again and again though they live",
                 check->count);
}

/* Reports of silence that have not led to anything, since the OSD answers us. */
static void check_links(const struct mon *mon, struct health *health)
{
    const struct leader *leader = mon->leader;
    struct health_check *check = NULL;

    for (uint32_t i = 0; i < leader->n_reports; i++) {
        const struct failure_report *report = &leader->reports[i];
        uint64_t age_ns = env_now(mon->env) - report->first_ns;
        if (age_ns < SEC_NS)
            continue;
        if (check == NULL)
            check = check_add(health, "OSD_UNREACHABLE", HEALTH_WARN, 0);
        check->count++;
        check_detail(check, "osd.%d has not heard of osd.%d for %" PRIu64 " s", report->reporter,
                     report->target, age_ns / SEC_NS + 2);
    }
    if (check != NULL)
        snprintf(check->summary, sizeof check->summary,
                 "%" PRIu64 " pair(s) of osds cannot talk to each other", check->count);
}

static void check_full(const struct mon *mon, struct health *health)
{
    const struct cluster_map *map = mon->state.map;
    struct health_check *check = NULL;

    for (int level = 1; level >= 0; level--) {
        double ratio = level == 1 ? mon->options.full_ratio : mon->options.nearfull_ratio;
        check = NULL;
        for (int32_t id = 0; id < map->max_osd; id++) {
            const struct osd_stat *stat = stats_osd(mon->stats, map, id);
            if (stat == NULL || stat->bytes_total == 0)
                continue;
            double used = (double)stat->bytes_used / (double)stat->bytes_total;
            if (used < ratio || (level == 0 && used >= mon->options.full_ratio))
                continue;
            if (check == NULL)
                check = level == 1 ? check_add(health, "OSD_FULL", HEALTH_ERR, 0)
                                   : check_add(health, "OSD_NEARFULL", HEALTH_WARN, 0);
            check->count++;
            check_detail(check, "osd.%d is %.0f%% full", id, used * 100);
        }
        if (check != NULL)
            snprintf(check->summary, sizeof check->summary,
                     level == 1 ? "%" PRIu64 " full osd(s)" : "%" PRIu64 " nearfull osd(s)",
                     check->count);
    }
}

static void check_flags(const struct mon *mon, struct health *health)
{
    char text[128] = "";
    uint32_t n = 0;

    for (size_t i = 0; command_flags[i].name != NULL; i++) {
        if ((mon->state.map->flags & command_flags[i].flag) == 0)
            continue;
        size_t len = strlen(text);
        snprintf(text + len, sizeof text - len, "%s%s", n > 0 ? "," : "", command_flags[i].name);
        n++;
    }
    if (n == 0)
        return;
    struct health_check *check = check_add(health, "OSDMAP_FLAGS", HEALTH_WARN, n);
    snprintf(check->summary, sizeof check->summary, "%s flag(s) set", text);
}

/* Who holds a lease and dies can be replaced only as long as there is room to block it. */
static void check_blocklist(const struct mon *mon, struct health *health)
{
    uint32_t n = mon->state.map->n_blocked;

    if (n < MAP_BLOCKED_MAX * 3 / 4)
        return;
    struct health_check *check = check_add(health, "BLOCKLIST_FULL", HEALTH_WARN, n);
    snprintf(check->summary, sizeof check->summary, "%u of %u places of the blocklist are taken", n,
             MAP_BLOCKED_MAX);
}

/* Lists the groups that `wanted` picks. */
static void pg_details(const struct mon *mon, struct health_check *check,
                       bool (*wanted)(const struct pg_condition *pg))
{
    const struct cluster_map *map = mon->state.map;

    for (uint32_t i = 0; i < map->n_pools; i++) {
        const struct map_pool *pool = &map->pools[i];
        for (uint32_t seed = 0; seed < pool->pg_num; seed++) {
            struct pg_condition pg;
            char id[PG_ID_TEXT_MAX];
            if (check->n_details == HEALTH_DETAILS_MAX)
                return;
            summary_pg(mon, pool, seed, &pg);
            if (!wanted(&pg))
                continue;
            const char *why = pg.stat != NULL && pg.stat->waiting != NULL ? pg.stat->waiting : "";
            check_detail(check, "pg %s is %s%s%s",
                         pg_id_format((struct pg_id){.pool = pool->id, .seed = seed}, id), pg.state,
                         why[0] != '\0' ? ": " : "", why);
        }
    }
}

static bool is_inactive(const struct pg_condition *pg)
{
    return !pg->active;
}

static bool is_undersized(const struct pg_condition *pg)
{
    return pg->undersized;
}

static bool is_moving(const struct pg_condition *pg)
{
    return pg->active && !pg->clean && !pg->undersized;
}

static bool is_unplaced(const struct pg_condition *pg)
{
    return pg->unplaced;
}

static bool is_inconsistent(const struct pg_condition *pg)
{
    return pg->stat != NULL && pg->stat->inconsistent > 0;
}

static void check_inconsistent(const struct mon *mon, const struct summary *summary,
                               struct health *health)
{
    if (summary->n_inconsistent == 0)
        return;
    struct health_check *check =
        check_add(health, "PG_INCONSISTENT", HEALTH_ERR, summary->n_inconsistent);
    snprintf(check->summary, sizeof check->summary,
             "%" PRIu64 " pgs inconsistent: copies of %" PRIu64 " objects differ, %" PRIu64
             " of them without a copy that is known to be good",
             summary->n_inconsistent, summary->objects_inconsistent, summary->objects_unrepairable);
    pg_details(mon, check, is_inconsistent);
}

/* Repairs that a disk needed: one may happen, more tell that it is failing. */
static void check_repairs(const struct mon *mon, struct health *health)
{
    const struct cluster_map *map = mon->state.map;
    struct health_check *check = NULL;

    for (int32_t id = 0; id < map->max_osd; id++) {
        const struct osd_stat *stat = stats_osd(mon->stats, map, id);
        if (stat == NULL ||
            (stat->repaired < OSD_REPAIRS_MANY && stat->read_errors < OSD_REPAIRS_MANY))
            continue;
        if (check == NULL)
            check = check_add(health, "OSD_TOO_MANY_REPAIRS", HEALTH_WARN, 0);
        check->count++;
        check_detail(check,
                     "osd.%d repaired %" PRIu64 " objects and met %" PRIu64
                     " read errors since it started",
                     id, stat->repaired, stat->read_errors);
    }
    if (check != NULL)
        snprintf(check->summary, sizeof check->summary,
                 "%" PRIu64 " osd(s) had to repair many objects", check->count);
}

/* Clients that wait: the first that people ask about. */
static void check_slow(const struct mon *mon, struct health *health)
{
    const struct cluster_map *map = mon->state.map;
    struct health_check *check = NULL;
    uint64_t oldest_ms = 0;

    for (int32_t id = 0; id < map->max_osd; id++) {
        const struct osd_stat *stat = stats_osd(mon->stats, map, id);
        if (stat == NULL || stat->slow_ops == 0 || !map_osd_up(map, id))
            continue;
        if (check == NULL)
            check = check_add(health, "SLOW_OPS", HEALTH_WARN, 0);
        check->count += stat->slow_ops;
        if (stat->slowest_ms > oldest_ms)
            oldest_ms = stat->slowest_ms;
        check_detail(check, "osd.%d has %u slow requests, the oldest waits for %" PRIu64 " s, %s",
                     id, stat->slow_ops, stat->slowest_ms / 1000, stat->slowest_waits);
    }
    if (check != NULL)
        snprintf(check->summary, sizeof check->summary,
                 "%" PRIu64 " slow ops, oldest one blocked for %" PRIu64 " s", check->count,
                 oldest_ms / 1000);
}

static void check_pgs(const struct mon *mon, const struct summary *summary, struct health *health)
{
    struct health_check *check;

    if (summary->n_inactive > 0) {
        check = check_add(health, "PG_AVAILABILITY", summary->n_down > 0 ? HEALTH_ERR : HEALTH_WARN,
                          summary->n_inactive);
        snprintf(check->summary, sizeof check->summary,
                 "Reduced data availability: %" PRIu64 " pgs inactive", summary->n_inactive);
        pg_details(mon, check, is_inactive);
    }
    if (summary->n_undersized > 0) {
        check = check_add(health, "PG_DEGRADED", HEALTH_WARN, summary->n_undersized);
        double percent =
            summary->copies > 0 ? 100.0 * (double)summary->degraded / (double)summary->copies : 0;
        snprintf(check->summary, sizeof check->summary,
                 "Degraded data redundancy: %" PRIu64 "/%" PRIu64
                 " objects degraded (%.3f%%), %" PRIu64 " pgs degraded, %" PRIu64 " pgs undersized",
                 summary->degraded, summary->copies, percent, summary->n_undersized,
                 summary->n_undersized);
        pg_details(mon, check, is_undersized);
    }
    uint64_t moving = summary->n_unclean - summary->n_inactive -
                      (summary->n_undersized < summary->n_unclean - summary->n_inactive
                           ? summary->n_undersized
                           : summary->n_unclean - summary->n_inactive);
    if (moving > 0) {
        check = check_add(health, "OBJECT_MISPLACED", HEALTH_WARN, moving);
        snprintf(check->summary, sizeof check->summary,
                 "%" PRIu64 " pgs are being moved, %" PRIu64 "/%" PRIu64 " objects misplaced",
                 moving, summary->misplaced, summary->copies);
        pg_details(mon, check, is_moving);
    }
    if (summary->n_unplaced > 0) {
        check = check_add(health, "PG_UNPLACED", HEALTH_WARN, summary->n_unplaced);
        snprintf(check->summary, sizeof check->summary,
                 "%" PRIu64 " pgs find fewer places than their pool asks for", summary->n_unplaced);
        pg_details(mon, check, is_unplaced);
    }
}

static void check_pools(const struct mon *mon, struct health *health)
{
    const struct cluster_map *map = mon->state.map;
    struct health_check *check = NULL;

    for (uint32_t i = 0; i < map->n_pools; i++) {
        if (map->pools[i].size > 1)
            continue;
        if (check == NULL)
            check = check_add(health, "POOL_NO_REDUNDANCY", HEALTH_WARN, 0);
        check->count++;
        check_detail(check, "pool '%s' keeps one copy of its objects", map->pools[i].name);
    }
    if (check != NULL)
        snprintf(check->summary, sizeof check->summary,
                 "%" PRIu64 " pool(s) have no replicas configured", check->count);
}

struct health *health_make(const struct mon *mon, const struct summary *summary)
{
    struct health *health = calloc(1, sizeof *health);

    if (health == NULL)
        return NULL;
    check_mons(mon, health);
    check_osds(mon, summary, health);
    check_flapping(mon, health);
    check_links(mon, health);
    check_full(mon, health);
    check_flags(mon, health);
    check_blocklist(mon, health);
    check_pgs(mon, summary, health);
    check_inconsistent(mon, summary, health);
    check_repairs(mon, health);
    check_slow(mon, health);
    check_pools(mon, health);
    return health;
}

void health_free(struct health *health)
{
    if (health == NULL)
        return;
    for (uint32_t i = 0; i < health->n; i++) {
        for (uint32_t k = 0; k < health->checks[i].n_details; k++)
            free(health->checks[i].details[k]);
    }
    free(health);
}

json_t *health_json(const struct health *health, bool detail)
{
    json_t *checks = json_object();

    for (uint32_t i = 0; i < health->n; i++) {
        const struct health_check *check = &health->checks[i];
        json_t *value =
            json_pack("{s:s, s:{s:s, s:I}, s:s, s:b}", "severity", health_text(check->severity),
                      "summary", "message", check->summary, "count", (json_int_t)check->count,
                      "next", check->next, "muted", 0);
        if (detail) {
            json_t *lines = json_array();
            for (uint32_t k = 0; k < check->n_details; k++)
                json_array_append_new(lines, json_pack("{s:s}", "message", check->details[k]));
            json_object_set_new(value, "detail", lines);
        }
        json_object_set_new(checks, check->code, value);
    }
    return json_pack("{s:s, s:o, s:[]}", "status", health_text(health->severity), "checks", checks,
                     "mutes");
}

static int run_health(struct command_call *call)
{
    struct summary summary;
    bool detail = call_flag(call, "detail");

    summary_make(call->mon, &summary);
    struct health *health = health_make(call->mon, &summary);
    if (health == NULL)
        return -ENOMEM;
    int rc = 0;
    if (call->json) {
        rc = call_json(call, health_json(health, detail));
    } else {
        call_print(call, "%s", health_text(health->severity));
        for (uint32_t i = 0; i < health->n; i++)
            call_print(call, "%s%s", i == 0 ? " " : "; ", health->checks[i].summary);
        call_print(call, "\n");
        for (uint32_t i = 0; detail && i < health->n; i++) {
            const struct health_check *check = &health->checks[i];
            call_print(call, "[%s] %s: %s\n", check->severity == HEALTH_ERR ? "ERR" : "WRN",
                       check->code, check->summary);
            for (uint32_t k = 0; k < check->n_details; k++)
                call_print(call, "    %s\n", check->details[k]);
            call_print(call, "    next: %s\n", check->next);
        }
    }
    health_free(health);
    return rc;
}

const struct command commands_health[] = {
    {"health", CAP_READ, false, run_health, "[detail]", "what is wrong, and what to do"},
    {0},
};
