/* What pools are used for: the monitors keep it in the map. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "client/limpet/object.h"
#include "client/object/private.h"

static_assert(sizeof(struct limpet_app_line) == sizeof(struct app_line), "one value");
static_assert((int)LIMPET_APP_TEXT_MAX == (int)APPS_TEXT_MAX, "one limit");

int limpet_app_list(struct limpet_pool *pool, struct limpet_app_line **out, size_t *n)
{
    struct limpet_cluster *c = pool->cluster;
    *out = NULL;
    *n = 0;
    cluster_lock(c);
    int rc = c->client != NULL ? 0 : -ENOTCONN;
    const struct map_pool *found = rc == 0 ? map_pool(client_map(c->client), pool->id) : NULL;
    if (rc == 0)
        rc = found != NULL ? 0 : -ENOENT;
    if (rc == 0) {
        *n = found->apps != NULL ? found->apps->n : 0;
        *out = calloc(*n + 1, sizeof **out);
        rc = *out != NULL ? 0 : -ENOMEM;
    }
    if (rc == 0 && *n > 0)
        memcpy(*out, found->apps->lines, *n * sizeof **out);
    cluster_unlock(c);
    return rc;
}

/* Takes over the command. */
static int run_command(struct limpet_pool *pool, json_t *command)
{
    char *json = command != NULL ? json_dumps(command, JSON_COMPACT) : NULL;
    int rc = json != NULL ? limpet_command(pool->cluster, json, NULL, 0, 0, NULL, NULL, NULL)
                          : -EINVAL; /* Not UTF-8. */
    free(json);
    json_decref(command);
    return rc;
}

int limpet_app_enable(struct limpet_pool *pool, const char *app, bool force)
{
    return run_command(pool,
                       json_pack("{s:s, s:s, s:s, s:b}", "prefix", "osd pool application enable",
                                 "pool", pool->name, "app", app, "yes_i_really_mean_it", force));
}

int limpet_app_set(struct limpet_pool *pool, const char *app, const char *key, const char *value)
{
    return run_command(pool,
                       json_pack("{s:s, s:s, s:s, s:s, s:s}", "prefix", "osd pool application set",
                                 "pool", pool->name, "app", app, "key", key, "value", value));
}

int limpet_app_remove(struct limpet_pool *pool, const char *app, const char *key)
{
    return run_command(pool, json_pack("{s:s, s:s, s:s, s:s}", "prefix", "osd pool application rm",
                                       "pool", pool->name, "app", app, "key", key));
}
