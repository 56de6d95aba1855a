/* Pools, commands, and what is asked of a cluster as a whole. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compat/misuse/misuse.h"

static void pools(rados_t cluster, const char *pool)
{
    char text[256];
    int64_t id = rados_pool_lookup(cluster, pool), base;
    rados_ioctx_t io;
    say(rados_pool_lookup(cluster, "none"), "pool_lookup of none");
    say(rados_pool_reverse_lookup(cluster, 4711, text, sizeof text), "pool_reverse_lookup of none");
    say(rados_pool_reverse_lookup(cluster, -1, text, sizeof text), "pool_reverse_lookup of -1");
    say(rados_pool_reverse_lookup(cluster, id, text, 2), "pool_reverse_lookup to 2 bytes");
    say(rados_pool_reverse_lookup(cluster, id, text, strlen(pool)),
        "pool_reverse_lookup without the zero");
    say(rados_pool_reverse_lookup(cluster, id, text, sizeof text) == (int)strlen(pool),
        "pool_reverse_lookup");
    say(rados_pool_list(cluster, NULL, 0) > 0, "pool_list to nothing");
    say(rados_pool_list(cluster, text, 1) > 1, "pool_list to 1 byte");
    say(rados_ioctx_create(cluster, "none", &io), "ioctx_create of none");
    say(rados_ioctx_create2(cluster, 4711, &io), "ioctx_create2 of none");
    say(rados_pool_create(cluster, pool), "pool_create of one there is");
    say(rados_pool_create(cluster, ""), "pool_create without a name");
    say(rados_pool_create_with_crush_rule(cluster, "other", 99), "pool_create with rule 99");
    say(rados_pool_create_with_crush_rule(cluster, "other", 0), "pool_create with rule 0");
    say(rados_pool_get_base_tier(cluster, rados_pool_lookup(cluster, "other"), &base),
        "pool_get_base_tier");
    say(rados_pool_get_base_tier(cluster, 4711, &base), "pool_get_base_tier of none");
    say(rados_ioctx_create(cluster, "other", &io), "ioctx_create");
    say(rados_pool_delete(cluster, "other"), "pool_delete");
    say(rados_pool_delete(cluster, "other"), "pool_delete again");
    say(rados_write_full(io, "a", "x", 1), "write_full in a pool that is gone");
    say(rados_read(io, "a", text, 1, 0), "read in a pool that is gone");
    say(rados_ioctx_snap_create(io, "s"), "snap_create in a pool that is gone");
    say(rados_application_enable(io, "app", 0), "application_enable in a pool that is gone");
    rados_ioctx_destroy(io);
}

void misuse_cluster(rados_t cluster, const char *pool)
{
    char text[256], *addrs = NULL;
    pools(cluster, pool);
    say(rados_cluster_fsid(cluster, text, 36), "cluster_fsid to 36 bytes");
    say(rados_cluster_fsid(cluster, text, 37), "cluster_fsid to 37 bytes");
    say(rados_blocklist_add(cluster, "no address", 1), "blocklist_add of no address");
    say(rados_blocklist_add(cluster, "", 1), "blocklist_add of nothing");
    say(rados_blocklist_add(cluster, "127.0.0.1:0/4711", 1), "blocklist_add");
    say(rados_getaddrs(cluster, &addrs), "getaddrs");
    say(addrs != NULL && strchr(addrs, '/') != NULL, "getaddrs gives a number");
    rados_buffer_free(addrs);
    say(rados_inconsistent_pg_list(cluster, rados_pool_lookup(cluster, pool), text, sizeof text),
        "inconsistent_pg_list");
    say(rados_inconsistent_pg_list(cluster, 4711, text, sizeof text),
        "inconsistent_pg_list of no pool");
    say(rados_service_register(cluster, "client", "a", ""), "service_register as client");
    say(rados_service_update_status(cluster, ""), "service_update_status before");
    say(rados_service_register(cluster, "limpet-test", "a", ""), "service_register");
    say(rados_service_register(cluster, "limpet-test", "a", ""), "service_register again");
    say(rados_service_update_status(cluster, "key\0value\0"), "service_update_status");
    say(rados_monitor_log(cluster, "loud", NULL, NULL), "monitor_log, no such level");
    say(rados_monitor_log(cluster, "info", NULL, NULL), "monitor_log, to nobody");
    say(rados_monitor_log2(cluster, "loud", NULL, NULL), "monitor_log2, no such level");
    say(rados_monitor_log2(cluster, "info", NULL, NULL), "monitor_log2, to nobody");
}

/* ---- Commands ---- */

enum whom { MON, MON_TARGET, MGR, MGR_TARGET, OSD, PG };

static void command(rados_t cluster, enum whom whom, const char *target, const char *json,
                    const char *what)
{
    static const char *const names[] = {"mon_command",        "mon_command_target", "mgr_command",
                                        "mgr_command_target", "osd_command",        "pg_command"};
    char *out = NULL, *status = NULL;
    size_t out_len = 0, status_len = 0;
    int rc = 0;
    switch (whom) {
    case MON:
        rc = rados_mon_command(cluster, &json, 1, "", 0, &out, &out_len, &status, &status_len);
        break;
    case MON_TARGET:
        rc = rados_mon_command_target(cluster, target, &json, 1, "", 0, &out, &out_len, &status,
                                      &status_len);
        break;
    case MGR:
        rc = rados_mgr_command(cluster, &json, 1, "", 0, &out, &out_len, &status, &status_len);
        break;
    case MGR_TARGET:
        rc = rados_mgr_command_target(cluster, target, &json, 1, "", 0, &out, &out_len, &status,
                                      &status_len);
        break;
    case OSD:
        rc = rados_osd_command(cluster, atoi(target), &json, 1, "", 0, &out, &out_len, &status,
                               &status_len);
        break;
    case PG:
        rc = rados_pg_command(cluster, target, &json, 1, "", 0, &out, &out_len, &status,
                              &status_len);
        break;
    }
    say(rc, "%s %s %s", names[whom], target != NULL ? target : "", what);
    rados_buffer_free(out);
    rados_buffer_free(status);
}

void misuse_commands(rados_t cluster)
{
    static const char fsid[] = "{\"prefix\": \"fsid\"}", none[] = "{\"prefix\": \"no such\"}";
    static const char version[] = "{\"prefix\": \"version\"}", query[] = "{\"prefix\": \"query\"}";
    const char *two[] = {fsid, fsid};
    char *out = NULL;
    size_t len = 0;
    command(cluster, MON, NULL, fsid, "fsid");
    command(cluster, MON, NULL, none, "of none");
    command(cluster, MON, NULL, "", "of nothing");
    command(cluster, MON, NULL, "{", "of no JSON");
    command(cluster, MON, NULL, "[]", "of an array");
    command(cluster, MON, NULL, "{\"format\": \"json\"}", "without a prefix");
    command(cluster, MON, NULL,
            "{\"prefix\": \"osd pool get\", \"pool\": \"none\", \"var\": "
            "\"size\"}",
            "osd pool get of none");
    command(cluster, MON, NULL, "{\"prefix\": \"osd pool create\"}", "osd pool create of nothing");
    say(rados_mon_command(cluster, (const char **)two, 1, NULL, 0, NULL, NULL, NULL, NULL),
        "mon_command to nowhere");
    say(rados_mon_command(cluster, (const char **)two, 1, NULL, 0, &out, &len, NULL, NULL),
        "mon_command without status");
    say((long long)len, "bytes");
    rados_buffer_free(out);
    command(cluster, MON_TARGET, "a", fsid, "fsid");
    command(cluster, MON_TARGET, "none", fsid, "fsid");
    command(cluster, MON_TARGET, "0", fsid, "fsid");
    command(cluster, MON_TARGET, "9", fsid, "fsid");
    command(cluster, MGR, NULL, "{\"prefix\": \"pg stat\"}", "pg stat");
    command(cluster, MGR, NULL, none, "of none");
    command(cluster, MGR_TARGET, "x", "{\"prefix\": \"pg stat\"}", "pg stat");
    command(cluster, OSD, "0", version, "version");
    command(cluster, OSD, "0", none, "of none");
    command(cluster, OSD, "99", version, "version");
    command(cluster, PG, "no group", query, "query");
    command(cluster, PG, "4711.0", query, "query");
    command(cluster, PG, "1.0", query, "query");
    say(rados_ping_monitor(cluster, "none", &out, &len), "ping_monitor of none");
    say(rados_ping_monitor(cluster, "a", &out, &len), "ping_monitor");
    say(len > 0, "ping_monitor says something");
    rados_buffer_free(out);
}
