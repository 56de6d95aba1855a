/* Applications of pools: the events of machine.h that are about them. */
#include <errno.h>

#include "mon/machine.h"
#include "mon/machine_private.h"

/* Takes over the reference. */
static int stage_apps(struct change *change, const struct map_pool *known,
                      const struct map_apps *apps)
{
    struct map_pool pool = *known;

    pool.apps = apps;
    int rc = stage_pool(change, &pool);
    apps_unref(apps);
    return rc == 0 ? change_flush(change) : rc;
}

int machine_app_set(struct change *change, uint64_t id, const char *app, const char *key,
                    const char *value)
{
    const struct map_pool *pool = map_pool(change->map, id);
    const struct map_apps *apps;

    if (pool == NULL)
        return -ENOENT;
    int rc = apps_set(pool->apps, app, key, value, &apps);
    return rc == 0 ? stage_apps(change, pool, apps) : rc;
}

int machine_app_remove(struct change *change, uint64_t id, const char *app, const char *key)
{
    const struct map_pool *pool = map_pool(change->map, id);
    const struct map_apps *apps;

    if (pool == NULL)
        return -ENOENT;
    int rc = apps_remove(pool->apps, app, key, &apps);
    return rc == 0 ? stage_apps(change, pool, apps) : rc;
}
