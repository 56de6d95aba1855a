/* Clusters: configuration, connection, pools, commands. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "client/compat/compat.h"

/* librados 3.0.0 is that of Ceph 16. */
enum { VERSION_MAJOR = 3, VERSION_MINOR = 0, VERSION_EXTRA = 0, RELEASE = 16 };

EXPORT void rados_version(int *major, int *minor, int *extra)
{
    if (major != NULL)
        *major = VERSION_MAJOR;
    if (minor != NULL)
        *minor = VERSION_MINOR;
    if (extra != NULL)
        *extra = VERSION_EXTRA;
}

/* ---- Handles ---- */

EXPORT int rados_create2(void **out, const char *cluster, const char *name, uint64_t flags)
{
    (void)cluster;
    (void)flags;
    struct compat_cluster *c = calloc(1, sizeof *c);
    if (c == NULL)
        return -ENOMEM;
    int rc = limpet_cluster_create(&c->cluster, name);
    if (rc != 0) {
        free(c);
        return rc;
    }
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->idle, NULL);
    *out = c;
    return 0;
}

EXPORT int rados_create(void **out, const char *id)
{
    char name[256];
    int n = snprintf(name, sizeof name, "client.%s", id != NULL ? id : "admin");
    if (n < 0 || (size_t)n >= sizeof name)
        return -EINVAL;
    return rados_create2(out, NULL, name, 0);
}

/* There is no context of another library that a handle could be made from. */
EXPORT int rados_create_with_context(void **out, void *context)
{
    (void)out;
    (void)context;
    return -EOPNOTSUPP;
}

EXPORT int rados_connect(void *cluster)
{
    struct compat_cluster *c = cluster;
    if (c->connected)
        return -EISCONN;
    int rc = limpet_cluster_connect(c->cluster);
    c->connected = rc == 0;
    return rc;
}

EXPORT void rados_shutdown(void *cluster)
{
    struct compat_cluster *c = cluster;
    if (c == NULL)
        return;
    compat_tasks_wait(c);
    struct compat_watch *watches = compat_watches_take(c);
    limpet_cluster_destroy(c->cluster);
    compat_watches_release(watches);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->idle);
    free(c);
}

/* There is no context of another library that a program could use. */
EXPORT void *rados_cct(void *cluster)
{
    (void)cluster;
    return NULL;
}

EXPORT uint64_t rados_get_instance_id(void *cluster)
{
    return limpet_cluster_instance(((struct compat_cluster *)cluster)->cluster);
}

/* ---- Configuration ---- */

EXPORT int rados_conf_read_file(void *cluster, const char *path)
{
    return limpet_cluster_config_file(((struct compat_cluster *)cluster)->cluster, path);
}

/*
 * What programs say about things that are never otherwise here: 0 if it is so, -EINVAL if they ask
 * for something else, -ENOENT: it is another option.
 */
static int check_fixed(const char *option, const char *value)
{
    static const struct {
        const char *option, *value;
    } fixed[] = {
        {"auth_supported", "cephx"},        {"auth_client_required", "cephx"},
        {"auth_service_required", "cephx"}, {"auth_cluster_required", "cephx"},
        {"rbd_default_format", "2"},
    };
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        if (strcmp(option, fixed[i].option) == 0)
            return strstr(value, fixed[i].value) != NULL ? 0 : -EINVAL;
    }
    return -ENOENT;
}

EXPORT int rados_conf_set(void *cluster, const char *option, const char *value)
{
    int rc = check_fixed(option, value);
    if (rc != -ENOENT)
        return rc;
    return limpet_cluster_config_set(((struct compat_cluster *)cluster)->cluster, option, value);
}

EXPORT int rados_conf_get(void *cluster, const char *option, char *value, size_t len)
{
    int rc =
        limpet_cluster_config_get(((struct compat_cluster *)cluster)->cluster, option, value, len);
    return rc == -ERANGE ? -ENAMETOOLONG : rc;
}

/*
 * --option=value or --option value, and -m, -k: of options that there are. Returns how many words
 * it has used.
 */
static int take_argument(struct limpet_cluster *c, const char *word, const char *next)
{
    char option[64];
    const char *value = next;
    if (strcmp(word, "-m") == 0 || strcmp(word, "-k") == 0) {
        snprintf(option, sizeof option, "%s", word[1] == 'm' ? "mon_host" : "keyring");
    } else if (strncmp(word, "--", 2) == 0) {
        const char *equals = strchr(word, '=');
        size_t len = equals != NULL ? (size_t)(equals - word) - 2 : strlen(word) - 2;
        if (len == 0 || len >= sizeof option)
            return 0;
        snprintf(option, sizeof option, "%.*s", (int)len, word + 2);
        if (equals != NULL)
            value = equals + 1;
        for (char *at = option; *at != 0; at++)
            *at = *at == '-' ? '_' : *at;
    } else {
        return 0;
    }
    if (value == NULL || limpet_cluster_config_set(c, option, value) != 0)
        return 0;
    return value == next ? 2 : 1;
}

EXPORT int rados_conf_parse_argv_remainder(void *cluster, int argc, const char **argv,
                                           const char **rest)
{
    struct compat_cluster *c = cluster;
    int n = 0;
    for (int i = 0; i < argc;) {
        int used = take_argument(c->cluster, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
        if (used == 0)
            rest[n++] = argv[i++];
        else
            i += used;
    }
    for (; n < argc; n++)
        rest[n] = NULL;
    return 0;
}

EXPORT int rados_conf_parse_argv(void *cluster, int argc, const char **argv)
{
    struct compat_cluster *c = cluster;
    for (int i = 0; i < argc;) {
        int used = take_argument(c->cluster, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
        i += used > 0 ? used : 1;
    }
    return 0;
}

EXPORT int rados_conf_parse_env(void *cluster, const char *variable)
{
    struct compat_cluster *c = cluster;
    const char *text = getenv(variable != NULL ? variable : "CEPH_ARGS");
    char *copy = text != NULL ? strdup(text) : NULL, *save = NULL;
    if (text != NULL && copy == NULL)
        return -ENOMEM;
    char *word = copy != NULL ? strtok_r(copy, " \t", &save) : NULL;
    while (word != NULL) {
        char *next = strtok_r(NULL, " \t", &save);
        int used = take_argument(c->cluster, word, next);
        word = used == 2 ? strtok_r(NULL, " \t", &save) : next;
    }
    free(copy);
    return 0;
}

/* ---- What a cluster says of itself ---- */

EXPORT int rados_cluster_fsid(void *cluster, char *buf, size_t len)
{
    char text[37];
    int rc = limpet_cluster_fsid(((struct compat_cluster *)cluster)->cluster, text);
    if (rc != 0)
        return rc;
    if (len < sizeof text)
        return -ERANGE;
    memcpy(buf, text, sizeof text);
    return (int)sizeof text - 1;
}

/* All clients and OSDs are of the release whose functions these are. */
EXPORT int rados_get_min_compatible_client(void *cluster, int8_t *min, int8_t *required)
{
    if (!((struct compat_cluster *)cluster)->connected)
        return -ENOTCONN;
    *min = *required = RELEASE;
    return 0;
}

EXPORT int rados_get_min_compatible_osd(void *cluster, int8_t *required)
{
    if (!((struct compat_cluster *)cluster)->connected)
        return -ENOTCONN;
    *required = RELEASE;
    return 0;
}

struct rados_cluster_stat_t {
    uint64_t kb, kb_used, kb_avail, num_objects;
};

EXPORT int rados_cluster_stat(void *cluster, struct rados_cluster_stat_t *out)
{
    struct limpet_cluster_stat stat;
    int rc = limpet_cluster_stat(((struct compat_cluster *)cluster)->cluster, &stat);
    if (rc == 0)
        *out = (struct rados_cluster_stat_t){stat.bytes_total / 1024, stat.bytes_used / 1024,
                                             stat.bytes_available / 1024, stat.objects};
    return rc;
}

EXPORT int rados_wait_for_latest_osdmap(void *cluster)
{
    /* Whoever does not know a pool asks the monitors; opening none asks them, too. */
    struct limpet_pool *none;
    int rc = limpet_pool_open(((struct compat_cluster *)cluster)->cluster, "", &none);
    return rc == -ENOENT ? 0 : rc;
}

/* ---- Commands ---- */

EXPORT void rados_buffer_free(char *buf)
{
    limpet_free(buf);
}

/* ---- Pools ---- */

EXPORT int rados_pool_list(void *cluster, char *buf, size_t len)
{
    struct limpet_pool_entry *pools;
    size_t n, needed = 1;
    int rc = limpet_pool_list(((struct compat_cluster *)cluster)->cluster, &pools, &n);
    if (rc != 0)
        return rc;
    if (buf != NULL)
        memset(buf, 0, len);
    char *at = buf;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = strlen(pools[i].name) + 1;
        needed += bytes;
        /* Names that fit, and an empty one after them. */
        if (buf != NULL && needed <= len) {
            memcpy(at, pools[i].name, bytes);
            at += bytes;
        }
    }
    limpet_free(pools);
    return (int)needed;
}

static int64_t lookup(struct compat_cluster *c, const char *name)
{
    struct limpet_pool *pool;
    int rc = limpet_pool_open(c->cluster, name, &pool);
    if (rc != 0)
        return rc;
    int64_t id = (int64_t)limpet_pool_id(pool);
    limpet_pool_close(pool);
    return id;
}

EXPORT int64_t rados_pool_lookup(void *cluster, const char *name)
{
    return lookup(cluster, name);
}

EXPORT int rados_pool_reverse_lookup(void *cluster, int64_t id, char *buf, size_t len)
{
    struct limpet_pool *pool;
    struct compat_cluster *c = cluster;
    int rc = limpet_pool_open_id(c->cluster, (uint64_t)id, &pool);
    if (rc != 0)
        return rc;
    size_t bytes = strlen(limpet_pool_name(pool));
    if (bytes >= len)
        rc = -ERANGE;
    else
        memcpy(buf, limpet_pool_name(pool), bytes + 1);
    limpet_pool_close(pool);
    return rc != 0 ? rc : (int)bytes;
}

static int pool_command(struct compat_cluster *c, json_t *json)
{
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    int rc =
        text != NULL ? limpet_command(c->cluster, text, NULL, 0, 0, NULL, NULL, NULL) : -ENOMEM;
    free(text);
    json_decref(json);
    return rc;
}

EXPORT int rados_pool_create(void *cluster, const char *name)
{
    struct compat_cluster *c = cluster;
    int64_t id = lookup(c, name);
    if (id >= 0)
        return -EEXIST;
    if (id != -ENOENT)
        return (int)id;
    return pool_command(c, json_pack("{s:s, s:s}", "prefix", "osd pool create", "pool", name));
}

EXPORT int rados_pool_create_with_auid(void *cluster, const char *name, uint64_t auid)
{
    (void)auid;
    return rados_pool_create(cluster, name);
}

/* Rules are chosen by name here. -ENOENT: none has the number. */
static int find_rule(struct compat_cluster *c, uint8_t rule, char **name)
{
    int rc;
    size_t i;
    json_t *found,
        *rules = compat_ask(
            c, json_pack("{s:s, s:s}", "prefix", "osd crush rule dump", "format", "json"), &rc);
    *name = NULL;
    json_array_foreach(rules, i, found)
    {
        const char *its = json_string_value(json_object_get(found, "rule_name"));
        if (*name == NULL && its != NULL &&
            json_integer_value(json_object_get(found, "rule_id")) == rule)
            *name = strdup(its);
    }
    json_decref(rules);
    return rc != 0 ? rc : *name != NULL ? 0 : -ENOENT;
}

EXPORT int rados_pool_create_with_crush_rule(void *cluster, const char *name, uint8_t rule)
{
    struct compat_cluster *c = cluster;
    char *rule_name;
    int64_t id = lookup(c, name);
    if (id >= 0)
        return -EEXIST;
    if (id != -ENOENT)
        return (int)id;
    int rc = find_rule(c, rule, &rule_name);
    if (rc == 0)
        rc = pool_command(c, json_pack("{s:s, s:s, s:s}", "prefix", "osd pool create", "pool", name,
                                       "rule", rule_name));
    free(rule_name);
    return rc;
}

EXPORT int rados_pool_create_with_all(void *cluster, const char *name, uint64_t auid, uint8_t rule)
{
    (void)auid;
    return rados_pool_create_with_crush_rule(cluster, name, rule);
}

EXPORT int rados_pool_delete(void *cluster, const char *name)
{
    struct compat_cluster *c = cluster;
    int64_t id = lookup(c, name);
    if (id < 0)
        return (int)id;
    return pool_command(c, json_pack("{s:s, s:s, s:s, s:b}", "prefix", "osd pool rm", "pool", name,
                                     "pool2", name, "yes_i_really_really_mean_it", 1));
}

/* There are no tiers: a pool is its own base. */
EXPORT int rados_pool_get_base_tier(void *cluster, int64_t pool, int64_t *base)
{
    struct compat_cluster *c = cluster;
    struct limpet_pool *handle;
    int rc = limpet_pool_open_id(c->cluster, (uint64_t)pool, &handle);
    if (rc != 0)
        return rc;
    limpet_pool_close(handle);
    *base = pool;
    return 0;
}
