/* What is asked of a cluster as a whole: commands to its parts, blocked clients, services. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "client/compat/compat.h"

/* ---- Commands ---- */

json_t *compat_ask(struct compat_cluster *c, json_t *command, int *error)
{
    char *text = command != NULL ? json_dumps(command, JSON_COMPACT) : NULL, *output = NULL;
    size_t len = 0;
    *error =
        text != NULL ? limpet_command(c->cluster, text, NULL, 0, 0, &output, &len, NULL) : -ENOMEM;
    json_t *answer = *error == 0 ? json_loadb(output, len, 0, NULL) : NULL;
    if (*error == 0 && answer == NULL)
        *error = -EPROTO;
    limpet_free(output);
    free(text);
    json_decref(command);
    return answer;
}

static int run(struct compat_cluster *c, const char *command, const char *input, size_t input_len,
               char **out, size_t *out_len, char **status, size_t *status_len)
{
    char *text = NULL;
    int rc = limpet_command(c->cluster, command, input, input_len, 0, out, out_len, &text);
    if (status_len != NULL)
        *status_len = text != NULL ? strlen(text) : 0;
    if (status != NULL)
        *status = text;
    else
        limpet_free(text);
    return rc;
}

static int say_nothing(int rc, char **out, size_t *out_len, char **status, size_t *status_len)
{
    if (out != NULL)
        *out = NULL;
    if (out_len != NULL)
        *out_len = 0;
    if (status != NULL)
        *status = NULL;
    if (status_len != NULL)
        *status_len = 0;
    return rc;
}

EXPORT int rados_mon_command(void *cluster, const char **cmd, size_t cmd_len, const char *input,
                             size_t input_len, char **out, size_t *out_len, char **status,
                             size_t *status_len)
{
    if (cmd == NULL || cmd_len != 1 || cmd[0] == NULL)
        return say_nothing(-EINVAL, out, out_len, status, status_len);
    return run(cluster, cmd[0], input, input_len, out, out_len, status, status_len);
}

/* By name or rank. -ENOENT: there is no such monitor. */
static int find_mon(struct compat_cluster *c, const char *name)
{
    int rc;
    char *end;
    size_t i;
    json_t *mon,
        *map = compat_ask(c, json_pack("{s:s, s:s}", "prefix", "mon dump", "format", "json"), &rc);
    if (map == NULL)
        return rc;
    unsigned long rank = strtoul(name, &end, 10);
    bool is_rank = end != name && *end == 0;
    rc = -ENOENT;
    json_array_foreach(json_object_get(map, "mons"), i, mon)
    {
        const char *its = json_string_value(json_object_get(mon, "name"));
        if ((is_rank && rank == i) || (its != NULL && strcmp(its, name) == 0))
            rc = 0;
    }
    json_decref(map);
    return rc;
}

/* Each monitor answers, and what they say is the same. */
EXPORT int rados_mon_command_target(void *cluster, const char *name, const char **cmd,
                                    size_t cmd_len, const char *input, size_t input_len, char **out,
                                    size_t *out_len, char **status, size_t *status_len)
{
    int rc = name != NULL ? find_mon(cluster, name) : 0;
    if (rc != 0)
        return say_nothing(rc, out, out_len, status, status_len);
    return rados_mon_command(cluster, cmd, cmd_len, input, input_len, out, out_len, status,
                             status_len);
}

/* The monitors do what a manager would do. */
EXPORT int rados_mgr_command(void *cluster, const char **cmd, size_t cmd_len, const char *input,
                             size_t input_len, char **out, size_t *out_len, char **status,
                             size_t *status_len)
{
    return rados_mon_command(cluster, cmd, cmd_len, input, input_len, out, out_len, status,
                             status_len);
}

EXPORT int rados_mgr_command_target(void *cluster, const char *name, const char **cmd,
                                    size_t cmd_len, const char *input, size_t input_len, char **out,
                                    size_t *out_len, char **status, size_t *status_len)
{
    (void)name;
    return rados_mon_command(cluster, cmd, cmd_len, input, input_len, out, out_len, status,
                             status_len);
}

/* OSDs take no commands themselves. What is of their version the monitors know. */
EXPORT int rados_osd_command(void *cluster, int osd, const char **cmd, size_t cmd_len,
                             const char *input, size_t input_len, char **out, size_t *out_len,
                             char **status, size_t *status_len)
{
    int rc;
    size_t i;
    json_t *id, *all, *command = NULL;
    bool there = false;
    all = compat_ask(cluster, json_pack("{s:s, s:s}", "prefix", "osd ls", "format", "json"), &rc);
    json_array_foreach(all, i, id)
    {
        there |= json_integer_value(id) == osd;
    }
    json_decref(all);
    if (rc == 0 && !there)
        rc = -ENOENT;
    if (rc == 0 && (cmd == NULL || cmd_len != 1 || cmd[0] == NULL))
        rc = -EINVAL;
    if (rc == 0)
        command = json_loads(cmd[0], 0, NULL);
    const char *prefix = json_string_value(json_object_get(command, "prefix"));
    if (rc == 0 && (prefix == NULL || strcmp(prefix, "version") != 0))
        rc = -EINVAL;
    json_decref(command);
    if (rc != 0)
        return say_nothing(rc, out, out_len, status, status_len);
    return run(cluster, cmd[0], input, input_len, out, out_len, status, status_len);
}

/* "POOL.SEED" of a pool that there is. */
static int check_group(struct compat_cluster *c, const char *text)
{
    struct limpet_pool *handle;
    char *dot, *end;
    if (text == NULL)
        return -EINVAL;
    uint64_t pool = strtoull(text, &dot, 10);
    if (dot == text || *dot != '.')
        return -EINVAL;
    uint64_t seed = strtoull(dot + 1, &end, 16);
    if (end == dot + 1 || *end != 0 || seed > UINT32_MAX)
        return -EINVAL;
    int rc = limpet_pool_open_id(c->cluster, pool, &handle);
    if (rc == 0)
        limpet_pool_close(handle);
    return rc;
}

/* {"prefix": "scrub"} to a group is the monitors' "pg scrub" of it. */
EXPORT int rados_pg_command(void *cluster, const char *group, const char **cmd, size_t cmd_len,
                            const char *input, size_t input_len, char **out, size_t *out_len,
                            char **status, size_t *status_len)
{
    char prefix[128], *text = NULL;
    int rc = check_group(cluster, group);
    if (rc == 0 && (cmd == NULL || cmd_len != 1 || cmd[0] == NULL))
        rc = -EINVAL;
    json_t *command = rc == 0 ? json_loads(cmd[0], JSON_REJECT_DUPLICATES, NULL) : NULL;
    const char *verb = json_string_value(json_object_get(command, "cmd"));
    if (verb == NULL)
        verb = json_string_value(json_object_get(command, "prefix"));
    if (rc == 0 && (verb == NULL || strlen(verb) >= sizeof prefix - 3))
        rc = -EINVAL;
    if (rc == 0) {
        snprintf(prefix, sizeof prefix, "pg %s", strcmp(verb, "query") == 0 ? "map" : verb);
        json_object_set_new(command, "prefix", json_string(prefix));
        json_object_set_new(command, "pgid", json_string(group));
        text = json_dumps(command, JSON_COMPACT);
        rc = text != NULL ? 0 : -ENOMEM;
    }
    json_decref(command);
    if (rc != 0)
        return say_nothing(rc, out, out_len, status, status_len);
    rc = run(cluster, text, input, input_len, out, out_len, status, status_len);
    free(text);
    return rc;
}

/* What the monitors say of the cluster, in the place of what one says of itself. */
EXPORT int rados_ping_monitor(void *cluster, const char *id, char **out, size_t *out_len)
{
    int rc = id != NULL ? find_mon(cluster, id) : -EINVAL;
    json_t *health = NULL, *quorum = NULL;
    if (rc == 0)
        health =
            compat_ask(cluster, json_pack("{s:s, s:s}", "prefix", "health", "format", "json"), &rc);
    if (rc == 0)
        quorum = compat_ask(
            cluster, json_pack("{s:s, s:s}", "prefix", "quorum_status", "format", "json"), &rc);
    if (rc == 0)
        json_object_set_new(quorum, "name", json_string(id));
    json_t *both = json_pack("{s:o*, s:o*}", "health", health, "mon_status", quorum);
    char *text = rc == 0 ? json_dumps(both, JSON_INDENT(4)) : NULL;
    json_decref(both);
    if (rc == 0 && text == NULL)
        rc = -ENOMEM;
    if (out_len != NULL)
        *out_len = text != NULL ? strlen(text) : 0;
    if (out != NULL)
        *out = text;
    else
        free(text);
    return rc;
}

/* ---- Groups that a scrub found to be inconsistent ---- */

EXPORT int rados_inconsistent_pg_list(void *cluster, int64_t pool, char *buf, size_t len)
{
    struct compat_cluster *c = cluster;
    struct limpet_pool *handle;
    size_t needed = 1, i;
    char *at = buf;
    json_t *group;
    int rc = limpet_pool_open_id(c->cluster, (uint64_t)pool, &handle);
    if (rc != 0)
        return rc;
    json_t *answer =
        compat_ask(c,
                   json_pack("{s:s, s:s, s:s, s:[s]}", "prefix", "pg ls", "format", "json", "pool",
                             limpet_pool_name(handle), "states", "inconsistent"),
                   &rc);
    limpet_pool_close(handle);
    if (rc != 0)
        return rc;
    if (buf != NULL)
        memset(buf, 0, len);
    json_array_foreach(json_object_get(answer, "pg_stats"), i, group)
    {
        const char *name = json_string_value(json_object_get(group, "pgid"));
        size_t bytes = name != NULL ? strlen(name) + 1 : 0;
        needed += bytes;
        if (buf != NULL && bytes > 0 && needed <= len) {
            memcpy(at, name, bytes);
            at += bytes;
        }
    }
    json_decref(answer);
    return (int)needed;
}

/* ---- Clients that are blocked ---- */

EXPORT int rados_getaddrs(void *cluster, char **addresses)
{
    char text[80];
    int rc = limpet_cluster_address(((struct compat_cluster *)cluster)->cluster, text);
    if (rc != 0)
        return rc;
    *addresses = strdup(text);
    return *addresses != NULL ? 0 : -ENOMEM;
}

EXPORT int rados_blocklist_add(void *cluster, char *address, uint32_t seconds)
{
    return limpet_block_address(((struct compat_cluster *)cluster)->cluster, address, seconds);
}

/* Its former name. */
EXPORT int rados_blacklist_add(void *cluster, char *address, uint32_t seconds);
EXPORT int rados_blacklist_add(void *cluster, char *address, uint32_t seconds)
{
    return rados_blocklist_add(cluster, address, seconds);
}

/* ---- Services, and the cluster's log ---- */

/* The names of Ceph's own daemons are taken. Nothing lists services here: it is noted, no more. */
EXPORT int rados_service_register(void *cluster, const char *service, const char *daemon,
                                  const char *metadata)
{
    static const char *const taken[] = {"osd", "mds", "client", "mon", "mgr"};
    struct compat_cluster *c = cluster;
    (void)metadata;
    if (service == NULL || daemon == NULL)
        return -EINVAL;
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (strcmp(service, taken[i]) == 0)
            return -EINVAL;
    return atomic_exchange(&c->is_service, true) ? -EEXIST : 0;
}

EXPORT int rados_service_update_status(void *cluster, const char *status)
{
    (void)status;
    return ((struct compat_cluster *)cluster)->connected ? 0 : -ENOTCONN;
}

/* Monitors have no log that could be followed: to listen cannot be; not to listen is done. */
EXPORT int rados_monitor_log(void *cluster, const char *level, void *callback, void *arg)
{
    (void)cluster;
    (void)level;
    (void)arg;
    return callback != NULL ? -EOPNOTSUPP : 0;
}

EXPORT int rados_monitor_log2(void *cluster, const char *level, void *callback, void *arg)
{
    return rados_monitor_log(cluster, level, callback, arg);
}

/* ---- A full cluster ---- */

/* Removing works, and writing fails at once, whatever was said. */
EXPORT void rados_set_pool_full_try(void *ioctx)
{
    (void)ioctx;
}

EXPORT void rados_unset_pool_full_try(void *ioctx)
{
    (void)ioctx;
}

/* Their former names. */
EXPORT void rados_set_osdmap_full_try(void *ioctx)
{
    rados_set_pool_full_try(ioctx);
}

EXPORT void rados_unset_osdmap_full_try(void *ioctx)
{
    rados_unset_pool_full_try(ioctx);
}
