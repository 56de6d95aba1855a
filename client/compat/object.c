/* Contexts of pools, and objects, waiting for the result. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "client/compat/compat.h"

/* ---- Contexts ---- */

static int make_ioctx(struct compat_cluster *c, struct limpet_pool *pool, void **out)
{
    struct compat_ioctx *io = calloc(1, sizeof *io);
    if (io == NULL) {
        limpet_pool_close(pool);
        return -ENOMEM;
    }
    io->refs = 1;
    io->cluster = c;
    io->pool = pool;
    pthread_mutex_init(&io->lock, NULL);
    pthread_cond_init(&io->flushed, NULL);
    TAILQ_INIT(&io->writes);
    *out = io;
    return 0;
}

EXPORT int rados_ioctx_create(void *cluster, const char *name, void **out)
{
    struct compat_cluster *c = cluster;
    struct limpet_pool *pool;
    int rc = limpet_pool_open(c->cluster, name, &pool);
    return rc == 0 ? make_ioctx(c, pool, out) : rc;
}

EXPORT int rados_ioctx_create2(void *cluster, int64_t id, void **out)
{
    struct compat_cluster *c = cluster;
    struct limpet_pool *pool;
    int rc = limpet_pool_open_id(c->cluster, (uint64_t)id, &pool);
    return rc == 0 ? make_ioctx(c, pool, out) : rc;
}

void ioctx_unref(struct compat_ioctx *io)
{
    if (atomic_fetch_sub(&io->refs, 1) > 1)
        return;
    limpet_pool_close(io->pool);
    pthread_mutex_destroy(&io->lock);
    pthread_cond_destroy(&io->flushed);
    free(io);
}

EXPORT void rados_ioctx_destroy(void *ioctx)
{
    if (ioctx != NULL)
        ioctx_unref(ioctx);
}

EXPORT void *rados_ioctx_get_cluster(void *ioctx)
{
    return ((struct compat_ioctx *)ioctx)->cluster;
}

EXPORT int64_t rados_ioctx_get_id(void *ioctx)
{
    return (int64_t)limpet_pool_id(((struct compat_ioctx *)ioctx)->pool);
}

EXPORT int rados_ioctx_get_pool_name(void *ioctx, char *buf, unsigned max)
{
    const char *name = limpet_pool_name(((struct compat_ioctx *)ioctx)->pool);
    size_t len = strlen(name);
    if (len >= max)
        return -ERANGE;
    memcpy(buf, name, len + 1);
    return (int)len;
}

EXPORT void rados_ioctx_set_namespace(void *ioctx, const char *space)
{
    struct compat_ioctx *io = ioctx;
    const char *name = space != NULL ? space : "";
    io->all_namespaces = strcmp(name, ALL_NAMESPACES) == 0;
    io->space_error = limpet_pool_set_namespace(io->pool, io->all_namespaces ? "" : name);
}

EXPORT int rados_ioctx_get_namespace(void *ioctx, char *buf, unsigned max)
{
    struct compat_ioctx *io = ioctx;
    const char *name = io->all_namespaces ? ALL_NAMESPACES : limpet_pool_namespace(io->pool);
    size_t len = strlen(name);
    if (len >= max)
        return -ERANGE;
    memcpy(buf, name, len + 1);
    return (int)len;
}

/* As of the cluster. */
EXPORT void *rados_ioctx_cct(void *ioctx)
{
    (void)ioctx;
    return NULL;
}

EXPORT void rados_ioctx_locator_set_key(void *ioctx, const char *key)
{
    struct compat_ioctx *io = ioctx;
    io->locator_error = limpet_pool_set_locator(io->pool, key);
}

EXPORT uint64_t rados_get_last_version(void *ioctx)
{
    return ((struct compat_ioctx *)ioctx)->last_version;
}

struct rados_pool_stat_t {
    uint64_t num_bytes, num_kb, num_objects, num_object_clones, num_object_copies;
    uint64_t num_objects_missing_on_primary, num_objects_unfound, num_objects_degraded;
    uint64_t num_rd, num_rd_kb, num_wr, num_wr_kb;
    uint64_t num_user_bytes, compressed_bytes_orig, compressed_bytes, compressed_bytes_alloc;
};

EXPORT int rados_ioctx_pool_stat(void *ioctx, struct rados_pool_stat_t *out)
{
    struct limpet_pool_stat stat;
    int rc = limpet_pool_stat(((struct compat_ioctx *)ioctx)->pool, &stat);
    if (rc == 0)
        *out = (struct rados_pool_stat_t){.num_bytes = stat.bytes_used,
                                          .num_kb = (stat.bytes_used + 1023) / 1024,
                                          .num_objects = stat.objects,
                                          .num_object_clones = stat.clones,
                                          .num_object_copies = stat.copies,
                                          .num_objects_degraded = stat.degraded,
                                          .num_rd = stat.reads,
                                          .num_rd_kb = stat.bytes_read / 1024,
                                          .num_wr = stat.writes,
                                          .num_wr_kb = stat.bytes_written / 1024,
                                          .num_user_bytes = stat.bytes};
    return rc;
}

/* As it was before Ceph 14.2: older programs have no memory for what is behind that. */
enum { POOL_STAT_OLD_BYTES = offsetof(struct rados_pool_stat_t, num_user_bytes) };

EXPORT int compat_pool_stat_old(void *ioctx, void *out)
{
    struct rados_pool_stat_t stat;
    int rc = rados_ioctx_pool_stat(ioctx, &stat);
    if (rc == 0)
        memcpy(out, &stat, POOL_STAT_OLD_BYTES);
    return rc;
}
__asm__(".symver compat_pool_stat_old, rados_ioctx_pool_stat@, remove");

/* Objects of any length can be appended to. */
EXPORT int rados_ioctx_pool_requires_alignment2(void *ioctx, int *requires)
{
    (void)ioctx;
    *requires = 0;
    return 0;
}

EXPORT int rados_ioctx_pool_required_alignment2(void *ioctx, uint64_t *alignment)
{
    (void)ioctx;
    *alignment = 0;
    return 0;
}

EXPORT int rados_ioctx_pool_requires_alignment(void *ioctx)
{
    (void)ioctx;
    return 0;
}

EXPORT uint64_t rados_ioctx_pool_required_alignment(void *ioctx)
{
    (void)ioctx;
    return 0;
}

/* Pools have no owners, in Ceph neither. */
EXPORT int rados_ioctx_pool_get_auid(void *ioctx, uint64_t *auid)
{
    (void)ioctx;
    (void)auid;
    return -EOPNOTSUPP;
}

EXPORT int rados_ioctx_pool_set_auid(void *ioctx, uint64_t auid)
{
    (void)ioctx;
    (void)auid;
    return -EOPNOTSUPP;
}

/* ---- Operations of one step ---- */

int compat_run(struct compat_ioctx *io, const char *object, struct limpet_op *op, int error)
{
    struct limpet_object_version version = {0};
    int rc = ioctx_error(io);
    if (rc == 0)
        rc = error == 0 && op == NULL ? -ENOMEM : error;
    if (rc == 0)
        rc = limpet_operate(io->pool, object, op, &version);
    limpet_op_destroy(op);
    if (version.sequence != 0)
        io->last_version = version.sequence;
    return rc;
}

/* One that is NULL gives -ENOMEM in compat_run(). */
#define RUN(io, object, step)                                                                      \
    do {                                                                                           \
        struct limpet_op *op = limpet_op_create();                                                 \
        return compat_run(io, object, op, op != NULL ? (step) : 0);                                \
    } while (0)

EXPORT int rados_write(void *io, const char *object, const char *buf, size_t len, uint64_t offset)
{
    if (is_too_long(len))
        return -E2BIG;
    RUN(io, object, limpet_op_write(op, buf, len, offset));
}

EXPORT int rados_write_full(void *io, const char *object, const char *buf, size_t len)
{
    if (is_too_long(len))
        return -E2BIG;
    RUN(io, object, limpet_op_write_full(op, buf, len));
}

EXPORT int rados_append(void *io, const char *object, const char *buf, size_t len)
{
    if (is_too_long(len))
        return -E2BIG;
    RUN(io, object, limpet_op_append(op, buf, len));
}

EXPORT int rados_writesame(void *io, const char *object, const char *buf, size_t data_len,
                           size_t len, uint64_t offset)
{
    if (is_too_long(data_len) || is_too_long(len))
        return -E2BIG;
    RUN(io, object, limpet_op_write_same(op, buf, data_len, len, offset));
}

EXPORT int rados_trunc(void *io, const char *object, uint64_t size)
{
    RUN(io, object, limpet_op_truncate(op, size));
}

EXPORT int rados_remove(void *io, const char *object)
{
    RUN(io, object, limpet_op_remove(op));
}

EXPORT int rados_cmpext(void *io, const char *object, const char *buf, size_t len, uint64_t offset)
{
    RUN(io, object, limpet_op_compare(op, buf, len, offset, NULL));
}

EXPORT int rados_set_alloc_hint2(void *io, const char *object, uint64_t size, uint64_t write_size,
                                 uint32_t flags)
{
    (void)flags; /* Of how it will be used, which changes nothing. */
    RUN(io, object, limpet_op_hint(op, size, write_size));
}

EXPORT int rados_set_alloc_hint(void *io, const char *object, uint64_t size, uint64_t write_size)
{
    return rados_set_alloc_hint2(io, object, size, write_size, 0);
}

/* There are no caches before pools, where an object could be kept. */
EXPORT int rados_cache_pin(void *io, const char *object)
{
    (void)io;
    (void)object;
    return -EINVAL;
}

EXPORT int rados_cache_unpin(void *io, const char *object)
{
    return rados_cache_pin(io, object);
}

EXPORT int rados_read(void *io, const char *object, char *buf, size_t len, uint64_t offset)
{
    size_t got = 0;
    if (is_too_long(len))
        return -EDOM;
    struct limpet_op *op = limpet_op_create();
    int rc = 0;
    if (op != NULL)
        rc = len > 0 ? limpet_op_read(op, buf, len, offset, &got, NULL)
                     : limpet_op_assert_exists(op);
    rc = compat_run(io, object, op, rc);
    return rc == 0 ? (int)got : rc;
}

EXPORT int rados_stat(void *io, const char *object, uint64_t *size, time_t *mtime)
{
    struct limpet_stat stat = {0};
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_stat(op, &stat, NULL) : 0;
    rc = compat_run(io, object, op, rc);
    if (rc == 0 && size != NULL)
        *size = stat.size;
    if (rc == 0 && mtime != NULL)
        *mtime = (time_t)(stat.mtime_ns / 1000000000);
    return rc;
}

/* Copies what fits; -ERANGE when it does not. Releases it. */
static int give_copy(void *data, size_t len, char *buf, size_t size)
{
    int rc = len > size ? -ERANGE : (int)len;
    if (rc > 0)
        memcpy(buf, data, len);
    limpet_free(data);
    return rc;
}

int compat_checksum_begin(int type, const char *init, size_t len, uint64_t *value)
{
    size_t bytes = type == LIMPET_XXHASH64 ? sizeof(uint64_t) : sizeof(uint32_t);
    if (type < LIMPET_XXHASH32 || type > LIMPET_CRC32C || len < bytes)
        return -EINVAL;
    *value = 0;
    for (size_t i = 0; i < bytes; i++)
        *value |= (uint64_t)(unsigned char)init[i] << (8 * i);
    return 0;
}

EXPORT int rados_checksum(void *io, const char *object, int type, const char *init, size_t init_len,
                          size_t len, uint64_t offset, size_t chunk, char *buf, size_t size)
{
    void *sums = NULL;
    size_t sums_len = 0;
    uint64_t value;
    int rc = compat_checksum_begin(type, init, init_len, &value);
    if (rc != 0 || chunk > UINT32_MAX)
        return -EINVAL;
    struct limpet_op *op = limpet_op_create();
    if (op != NULL)
        rc = limpet_op_checksum(op, (enum limpet_checksum)type, value, offset, len, (uint32_t)chunk,
                                &sums, &sums_len, NULL);
    rc = compat_run(io, object, op, rc);
    if (rc == 0)
        rc = give_copy(sums, sums_len, buf, size);
    return rc < 0 ? rc : 0;
}

EXPORT int rados_exec(void *io, const char *object, const char *class, const char *method,
                      const char *input, size_t input_len, char *buf, size_t size)
{
    char name[256];
    void *out = NULL;
    size_t len = 0;
    int n = snprintf(name, sizeof name, "%s.%s", class, method);
    if (n < 0 || (size_t)n >= sizeof name)
        return strlen(class) >= sizeof name ? -EPERM : -EOPNOTSUPP;
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_call(op, name, input, input_len, &out, &len, NULL) : 0;
    rc = compat_run(io, object, op, rc);
    return rc == 0 ? give_copy(out, len, buf, size) : rc;
}

/* What librados.h does not declare any more, and Ceph's library still has, to say so. */
EXPORT int rados_tmap_put(void *io, const char *object, const char *buf, size_t len);
EXPORT int rados_tmap_put(void *io, const char *object, const char *buf, size_t len)
{
    (void)io;
    (void)object;
    (void)buf;
    (void)len;
    return -EOPNOTSUPP;
}

EXPORT int rados_tmap_update(void *io, const char *object, const char *buf, size_t len);
EXPORT int rados_tmap_update(void *io, const char *object, const char *buf, size_t len)
{
    return rados_tmap_put(io, object, buf, len);
}

EXPORT int rados_tmap_get(void *io, const char *object, const char *buf, size_t len);
EXPORT int rados_tmap_get(void *io, const char *object, const char *buf, size_t len)
{
    return rados_tmap_put(io, object, buf, len);
}

/* ---- Attributes ---- */

EXPORT int rados_setxattr(void *io, const char *object, const char *name, const char *buf,
                          size_t len)
{
    RUN(io, object, limpet_op_attr_set(op, name, buf, len));
}

EXPORT int rados_rmxattr(void *io, const char *object, const char *name)
{
    RUN(io, object, limpet_op_attr_remove(op, name));
}

EXPORT int rados_getxattr(void *io, const char *object, const char *name, char *buf, size_t size)
{
    void *value = NULL;
    size_t len = 0;
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_attr_get(op, name, &value, &len, NULL) : 0;
    rc = compat_run(io, object, op, rc);
    return rc == 0 ? give_copy(value, len, buf, size) : rc;
}

EXPORT int rados_getxattrs(void *io, const char *object, void **out)
{
    struct compat_attr_iter *iter = calloc(1, sizeof *iter);
    struct limpet_op *op = iter != NULL ? limpet_op_create() : NULL;
    int rc = op != NULL ? limpet_op_attr_list(op, &iter->pairs, NULL) : 0;
    rc = compat_run(io, object, op, rc);
    if (rc != 0)
        free(iter);
    else
        *out = iter;
    return rc;
}

EXPORT int rados_getxattrs_next(void *iterator, const char **name, const char **value, size_t *len)
{
    struct compat_attr_iter *iter = iterator;
    struct limpet_pair pair;
    *name = *value = NULL;
    *len = 0;
    if (iter->pairs == NULL || limpet_pairs_next(iter->pairs, &pair) != 0)
        return 0;
    if (pair.key_len >= sizeof iter->name)
        return -EIO;
    memcpy(iter->name, pair.key, pair.key_len);
    iter->name[pair.key_len] = 0;
    *name = iter->name;
    *value = pair.value;
    *len = pair.value_len;
    return 0;
}

EXPORT void rados_getxattrs_end(void *iterator)
{
    struct compat_attr_iter *iter = iterator;
    limpet_pairs_destroy(iter->pairs);
    free(iter);
}

/* ---- Locks ---- */

static int take_lock(struct compat_ioctx *io, const char *object, const char *name,
                     enum limpet_lock_type type, const char *cookie, const char *tag,
                     const char *description, const struct timeval *duration, uint8_t flags)
{
    uint64_t ns = duration != NULL
                      ? (uint64_t)duration->tv_sec * 1000000000 + (uint64_t)duration->tv_usec * 1000
                      : 0;
    if (ioctx_error(io) != 0)
        return ioctx_error(io);
    return limpet_lock(io->pool, object, name, type, cookie, tag, description, ns, flags);
}

EXPORT int rados_lock_exclusive(void *io, const char *object, const char *name, const char *cookie,
                                const char *description, struct timeval *duration, uint8_t flags)
{
    return take_lock(io, object, name, LIMPET_LOCK_EXCLUSIVE, cookie, "", description, duration,
                     flags);
}

EXPORT int rados_lock_shared(void *io, const char *object, const char *name, const char *cookie,
                             const char *tag, const char *description, struct timeval *duration,
                             uint8_t flags)
{
    return take_lock(io, object, name, LIMPET_LOCK_SHARED, cookie, tag, description, duration,
                     flags);
}

EXPORT int rados_unlock(void *ioctx, const char *object, const char *name, const char *cookie)
{
    struct compat_ioctx *io = ioctx;
    int rc = ioctx_error(io);
    return rc != 0 ? rc : limpet_unlock(io->pool, object, name, cookie);
}

/* Others know a client by the number of its instance. */
#define CLIENT_PREFIX "client."

EXPORT int rados_break_lock(void *ioctx, const char *object, const char *name, const char *client,
                            const char *cookie)
{
    struct compat_ioctx *io = ioctx;
    size_t len = strlen(CLIENT_PREFIX);
    char *end;
    if (ioctx_error(io) != 0)
        return ioctx_error(io);
    if (strncmp(client, CLIENT_PREFIX, len) != 0)
        return -EINVAL;
    uint64_t instance = strtoull(client + len, &end, 10);
    if (end == client + len || *end != 0)
        return -EINVAL;
    return limpet_lock_break(io->pool, object, name, instance, cookie);
}

/* Texts one after the other, each with its zero: counts also what has no room. */
struct texts {
    char *buf;
    size_t room, needed;
};

static void add_text(struct texts *texts, const char *text)
{
    size_t len = strlen(text) + 1;
    if (texts->needed + len <= texts->room)
        memcpy(texts->buf + texts->needed, text, len);
    texts->needed += len;
}

EXPORT ssize_t rados_list_lockers(void *ioctx, const char *object, const char *name, int *exclusive,
                                  char *tag, size_t *tag_len, char *clients, size_t *clients_len,
                                  char *cookies, size_t *cookies_len, char *addresses,
                                  size_t *addresses_len)
{
    struct compat_ioctx *io = ioctx;
    struct limpet_lock_info *info;
    struct texts of_tag = {tag, *tag_len, 0}, of_clients = {clients, *clients_len, 0},
                 of_cookies = {cookies, *cookies_len, 0},
                 of_addresses = {addresses, *addresses_len, 0};
    int rc = ioctx_error(io);
    if (rc == 0)
        rc = limpet_lock_info(io->pool, object, name, &info);
    if (rc != 0)
        return rc;
    add_text(&of_tag, info->tag);
    for (size_t i = 0; i < info->n_holders; i++) {
        const struct limpet_lock_holder *holder = &info->holders[i];
        char client[32];
        snprintf(client, sizeof client, CLIENT_PREFIX "%llu", (unsigned long long)holder->instance);
        add_text(&of_clients, client);
        add_text(&of_cookies, holder->cookie);
        add_text(&of_addresses, holder->address);
    }
    bool fits = of_tag.needed <= of_tag.room && of_clients.needed <= of_clients.room &&
                of_cookies.needed <= of_cookies.room && of_addresses.needed <= of_addresses.room;
    *exclusive = info->type == LIMPET_LOCK_EXCLUSIVE;
    *tag_len = of_tag.needed;
    *clients_len = of_clients.needed;
    *cookies_len = of_cookies.needed;
    *addresses_len = of_addresses.needed;
    ssize_t n = fits ? (ssize_t)info->n_holders : -ERANGE;
    limpet_free(info);
    return n;
}
