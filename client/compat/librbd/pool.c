/* Of pools: namespaces, the trash, statistics. */
#include "client/compat/librbd/librbd.h"

/* ---- Namespaces ---- */

EXPORT int rbd_namespace_create(void *ioctx, const char *space)
{
    struct limpet_pool *pool;
    int rc = space != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_image_space_create(pool, space) : rc;
}

EXPORT int rbd_namespace_remove(void *ioctx, const char *space)
{
    struct limpet_pool *pool;
    int rc = space != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_image_space_remove(pool, space) : rc;
}

EXPORT int rbd_namespace_exists(void *ioctx, const char *space, bool *exists)
{
    struct limpet_pool *pool;
    int rc = space != NULL && exists != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_image_space_exists(pool, space, exists) : rc;
}

EXPORT int rbd_namespace_list(void *ioctx, char *names, size_t *size)
{
    struct limpet_pool *pool;
    char **spaces;
    size_t needed = 0;
    int rc = size != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    if (rc == 0)
        rc = limpet_image_space_list(pool, &spaces);
    if (rc != 0)
        return rc;
    for (size_t i = 0; spaces[i] != NULL; i++)
        needed += strlen(spaces[i]) + 1;
    bool fits = *size >= needed && (names != NULL || needed == 0);
    for (size_t i = 0; fits && names != NULL && spaces[i] != NULL; i++)
        names = stpcpy(names, spaces[i]) + 1;
    *size = needed;
    limpet_free(spaces);
    return fits ? (int)needed : -ERANGE;
}

/* Pools are ready as they are made. */
EXPORT int rbd_pool_init(void *ioctx, bool force)
{
    struct limpet_pool *pool;
    (void)force;
    return rbd_pool_of(ioctx, &pool);
}

/* ---- The trash ---- */

EXPORT int rbd_trash_move(void *ioctx, const char *name, uint64_t delay_s)
{
    struct limpet_pool *pool;
    int rc = name != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_image_trash_move(pool, name, delay_s) : rc;
}

EXPORT void rbd_trash_get_cleanup(rbd_trash_image_info_t *info)
{
    free(info->id);
    free(info->name);
    *info = (rbd_trash_image_info_t){0};
}

static int give_trash(const struct limpet_image_trash *entry, rbd_trash_image_info_t *out)
{
    *out = (rbd_trash_image_info_t){.id = strdup(entry->id),
                                    .name = strdup(entry->name),
                                    .deletion_time = (time_t)(entry->deleted_ns / 1000000000),
                                    .deferment_end_time =
                                        (time_t)(entry->deferred_until_ns / 1000000000)};
    if (out->id != NULL && out->name != NULL)
        return 0;
    rbd_trash_get_cleanup(out);
    return -ENOMEM;
}

EXPORT int rbd_trash_get(void *ioctx, const char *id, rbd_trash_image_info_t *out)
{
    struct limpet_pool *pool;
    struct limpet_image_trash entry;
    int rc = id != NULL && out != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    if (rc == 0)
        rc = limpet_image_trash_get(pool, id, &entry);
    return rc == 0 ? give_trash(&entry, out) : rc;
}

EXPORT void rbd_trash_list_cleanup(rbd_trash_image_info_t *entries, size_t n)
{
    for (size_t i = 0; i < n; i++)
        rbd_trash_get_cleanup(&entries[i]);
}

EXPORT int rbd_trash_list(void *ioctx, rbd_trash_image_info_t *out, size_t *max)
{
    struct limpet_pool *pool;
    struct limpet_image_trash *entries;
    size_t n;
    int rc = max != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    if (rc == 0)
        rc = limpet_image_trash_list(pool, &entries, &n);
    if (rc != 0)
        return rc;
    rc = *max >= n && (out != NULL || n == 0) ? 0 : -ERANGE;
    *max = n;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = give_trash(&entries[i], &out[i]);
        if (rc != 0)
            rbd_trash_list_cleanup(out, i);
    }
    limpet_free(entries);
    return rc == 0 ? (int)n : rc;
}

/* How full the pool is: what it has of what it can have. */
static int is_above(struct limpet_pool *pool, float threshold, bool *is)
{
    struct limpet_pool_stat stat;
    int rc = limpet_pool_stat(pool, &stat);
    double total = (double)stat.bytes + (double)stat.bytes_available;
    *is = rc == 0 && total > 0 && (double)stat.bytes / total > (double)threshold;
    return rc;
}

/* With a threshold: nothing, unless the pool is fuller than that. */
EXPORT int rbd_trash_purge_with_progress(void *ioctx, time_t expire, float threshold,
                                         librbd_progress_fn_t progress, void *arg)
{
    struct limpet_pool *pool;
    bool is = true;
    int rc = rbd_pool_of(ioctx, &pool);
    if (rc == 0 && threshold != -1 && !(threshold >= 0 && threshold <= 1))
        rc = -EINVAL;
    if (rc == 0 && threshold != -1)
        rc = is_above(pool, threshold, &is);
    if (rc != 0 || !is)
        return rc;
    uint64_t seconds = expire > 0 ? (uint64_t)expire : (uint64_t)time(NULL) + 1;
    rc = limpet_image_trash_purge(pool, seconds * 1000000000);
    if (rc == 0 && progress != NULL)
        progress(1, 1, arg);
    return rc;
}

EXPORT int rbd_trash_purge(void *ioctx, time_t expire, float threshold)
{
    return rbd_trash_purge_with_progress(ioctx, expire, threshold, NULL, NULL);
}

EXPORT int rbd_trash_remove_with_progress(void *ioctx, const char *id, bool force,
                                          librbd_progress_fn_t progress, void *arg)
{
    struct limpet_pool *pool;
    int rc = id != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_image_trash_remove(pool, id, force, progress, arg) : rc;
}

EXPORT int rbd_trash_remove(void *ioctx, const char *id, bool force)
{
    return rbd_trash_remove_with_progress(ioctx, id, force, NULL, NULL);
}

EXPORT int rbd_trash_restore(void *ioctx, const char *id, const char *name)
{
    struct limpet_pool *pool;
    int rc = id != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    if (rc == 0)
        rc = limpet_image_trash_restore(pool, id, name != NULL && *name != 0 ? name : NULL);
    return rc;
}

/* ---- Statistics ---- */

enum { STAT_IMAGES, STAT_PROVISIONED, STAT_MAX_PROVISIONED, STAT_SNAPSHOTS, STATS_OF_A_KIND };
enum { STATS = 2 * STATS_OF_A_KIND }; /* Of images, then of those in the trash. */

struct rbd_stats {
    uint64_t *told[STATS]; /* The user's; NULL: it is not wanted. */
};

EXPORT void rbd_pool_stats_create(void **stats)
{
    *stats = calloc(1, sizeof(struct rbd_stats));
}

EXPORT void rbd_pool_stats_destroy(void *stats)
{
    free(stats);
}

EXPORT int rbd_pool_stats_option_add_uint64(void *stats, int option, uint64_t *value)
{
    struct rbd_stats *s = stats;
    if (s == NULL || value == NULL || option < 0 || option >= STATS)
        return -ENOENT;
    s->told[option] = value;
    return 0;
}

static int add_image(struct limpet_pool *pool, const char *id, uint64_t sums[STATS_OF_A_KIND])
{
    struct limpet_image *image;
    struct limpet_image_info info;
    struct limpet_image_snap *snaps = NULL;
    size_t n = 0;
    int rc = limpet_image_open(pool, id, NULL, LIMPET_IMAGE_BY_ID | LIMPET_IMAGE_READ_ONLY, &image);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    rc = limpet_image_info(image, &info);
    if (rc == 0)
        rc = limpet_image_snap_list(image, &snaps, &n);
    if (rc == 0) {
        uint64_t largest = info.size;
        for (size_t i = 0; i < n; i++)
            largest = snaps[i].size > largest ? snaps[i].size : largest;
        sums[STAT_IMAGES]++;
        sums[STAT_PROVISIONED] += info.size;
        sums[STAT_MAX_PROVISIONED] += largest;
        sums[STAT_SNAPSHOTS] += n;
    }
    limpet_free(snaps);
    limpet_image_close(image);
    return rc;
}

EXPORT int rbd_pool_stats_get(void *ioctx, void *stats)
{
    struct rbd_stats *s = stats;
    struct limpet_pool *pool;
    struct limpet_image_entry *entries = NULL;
    struct limpet_image_trash *trash = NULL;
    uint64_t sums[STATS] = {0};
    size_t n_entries = 0, n_trash = 0;
    int rc = s != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    if (rc == 0)
        rc = limpet_image_list(pool, &entries, &n_entries);
    if (rc == 0)
        rc = limpet_image_trash_list(pool, &trash, &n_trash);
    for (size_t i = 0; rc == 0 && i < n_entries; i++)
        rc = add_image(pool, entries[i].id, sums);
    for (size_t i = 0; rc == 0 && i < n_trash; i++)
        rc = add_image(pool, trash[i].id, sums + STATS_OF_A_KIND);
    limpet_free(entries);
    limpet_free(trash);
    for (int i = 0; rc == 0 && i < STATS; i++) {
        if (s->told[i] != NULL)
            *s->told[i] = sums[i];
    }
    return rc;
}
