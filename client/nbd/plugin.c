/*
 * A block image for nbdkit, which serves it to NBD clients: protocol, sockets, threads, TLS are
 * nbdkit's, requests are calls of limpet/image.h. 'limpet rbd nbd' starts nbdkit with it.
 *
 *     nbdkit build/lib/nbdkit-limpet-plugin.so pool=rbd image=disk
 *
 * All connections share one open image: one watch, one lock, and what one connection was told is
 * written is seen by all others, so that clients may use several (NBD_FLAG_CAN_MULTI_CONN). A
 * request occupies one of nbdkit's threads until it is answered.
 *
 * A write that has ended is durable. So FUA costs nothing, and a flush is a barrier.
 *
 * nbdkit would not end while a client is connected and silent: quit.c.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/passphrase.h"
#include "client/limpet.h"
#include "client/limpet/image.h"
#include "client/nbd/quit.h"

/* A request that is larger is cut into parts by nbdkit's clients: 32 MiB is what qemu sends. */
enum { BLOCK_MIN = 1, BLOCK_PREFERRED = 4096, BLOCK_MAX = 32 << 20 };

/* What the command line says; owned by nbdkit's argv, which stays. */
static struct {
    const char *conf, *name, *keyring, *mon_host, *pool, *space, *image, *snap;
    const char *encryption, *passphrase_file;
    bool exclusive, read_only;
} options;

static struct limpet_cluster *cluster;
static struct limpet_pool *pool;
static struct limpet_image *image;

/* Sets errno for nbdkit, which tells the client; what it is in words goes to the log. */
static int failed(const char *what, ssize_t rc)
{
    const char *why = cluster != NULL ? limpet_error_text((int)rc) : "";
    nbdkit_error("%s: %s", what, why);
    nbdkit_set_error(rc == -ENOSPC || rc == -EDQUOT ? ENOSPC
                     : rc == -EROFS                 ? EPERM
                     : rc == -EINVAL                ? EINVAL
                     : rc == -ENOMEM                ? ENOMEM
                     : rc == -ESHUTDOWN             ? ESHUTDOWN
                                                    : EIO);
    return -1;
}

/* ---- Configuration ---- */

static int set_flag(bool *flag, const char *value)
{
    int on = nbdkit_parse_bool(value);
    *flag = on == 1;
    return on < 0 ? -1 : 0;
}

static int plugin_config(const char *key, const char *value)
{
    const struct {
        const char *key, **to;
    } texts[] = {
        {"conf", &options.conf},
        {"name", &options.name},
        {"keyring", &options.keyring},
        {"pool", &options.pool},
        {"namespace", &options.space},
        {"image", &options.image},
        {"snap", &options.snap},
        {"mon-host", &options.mon_host},
        {"encryption-format", &options.encryption},
        {"encryption-passphrase-file", &options.passphrase_file},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(key, texts[i].key) == 0) {
            *texts[i].to = value;
            return 0;
        }
    }
    if (strcmp(key, "exclusive") == 0)
        return set_flag(&options.exclusive, value);
    if (strcmp(key, "readonly") == 0)
        return set_flag(&options.read_only, value);
    nbdkit_error("unknown parameter '%s'; --help lists them", key);
    return -1;
}

static int plugin_config_complete(void)
{
    if (options.pool == NULL || options.image == NULL) {
        nbdkit_error("name the image: pool=POOL image=NAME");
        return -1;
    }
    if ((options.encryption == NULL) != (options.passphrase_file == NULL)) {
        nbdkit_error("encryption-format and encryption-passphrase-file: both or neither");
        return -1;
    }
    if (options.encryption != NULL && strcmp(options.encryption, "luks1") != 0 &&
        strcmp(options.encryption, "luks2") != 0) {
        nbdkit_error("encryption-format: luks1 or luks2, not '%s'", options.encryption);
        return -1;
    }
    return 0;
}

/* ---- The image ---- */

static int connect_cluster(void)
{
    int rc = limpet_cluster_create(&cluster, options.name);
    if (rc == 0)
        rc = limpet_cluster_config_file(cluster, options.conf);
    if (rc == 0 && options.keyring != NULL)
        rc = limpet_cluster_config_set(cluster, "keyring", options.keyring);
    if (rc == 0 && options.mon_host != NULL)
        rc = limpet_cluster_config_set(cluster, "mon_host", options.mon_host);
    if (rc == 0)
        rc = limpet_cluster_connect(cluster);
    if (rc != 0)
        nbdkit_error("%s", cluster != NULL ? limpet_cluster_error(cluster) : "out of memory");
    return rc;
}

static int decrypt(void)
{
    char passphrase[PASSPHRASE_MAX];
    size_t len;
    int rc = passphrase_read(options.passphrase_file, passphrase, &len);
    if (rc != 0) {
        nbdkit_error("passphrase file %s: %s", options.passphrase_file, passphrase_error(rc));
        return -1;
    }
    rc = limpet_image_decrypt(
        image, strcmp(options.encryption, "luks1") == 0 ? LIMPET_IMAGE_LUKS1 : LIMPET_IMAGE_LUKS2,
        passphrase, len);
    explicit_bzero(passphrase, sizeof passphrase);
    if (rc == -EPERM)
        nbdkit_error("encryption: the passphrase in %s is wrong", options.passphrase_file);
    else if (rc == -EINVAL)
        nbdkit_error("encryption: the image is not encrypted in format %s", options.encryption);
    else if (rc != 0)
        nbdkit_error("encryption: %s", limpet_error_text(rc));
    return rc;
}

/* After the fork of a server that goes to the background: threads do not survive it. */
static int plugin_after_fork(void)
{
    bool reads = options.read_only || options.snap != NULL;
    if (connect_cluster() != 0)
        return -1;
    int rc = limpet_pool_open(cluster, options.pool, &pool);
    if (rc == 0)
        rc = limpet_pool_set_namespace(pool, options.space != NULL ? options.space : "");
    if (rc != 0)
        return failed(options.pool, rc);
    rc = limpet_image_open(pool, options.image, options.snap, reads ? LIMPET_IMAGE_READ_ONLY : 0,
                           &image);
    if (rc != 0)
        return failed(options.image, rc);
    if (options.encryption != NULL && decrypt() != 0)
        return -1;
    if (options.exclusive && !reads)
        rc = limpet_image_lock_acquire(image);
    if (rc != 0)
        return failed("the exclusive lock", rc);
    rc = quit_begin();
    return rc != 0 ? failed("waiting for signals", rc) : 0;
}

static void plugin_cleanup(void)
{
    quit_end();
    if (image != NULL)
        limpet_image_close(image);
    if (pool != NULL)
        limpet_pool_close(pool);
    if (cluster != NULL)
        limpet_cluster_destroy(cluster);
}

static void *plugin_open(int readonly)
{
    (void)readonly;
    return NBDKIT_HANDLE_NOT_NEEDED;
}

/*
 * As it is now: a client that connects again sees what a resize has done. Who is connected does
 * not: NBD has no message for it, and nbdkit asks once for each connection. Images that are opened
 * to be read follow nobody.
 */
static int64_t plugin_get_size(void *handle)
{
    struct limpet_image_info info;
    (void)handle;
    int rc = options.read_only && options.snap == NULL ? limpet_image_refresh(image) : 0;
    if (rc == 0)
        rc = limpet_image_info(image, &info);
    return rc == 0 ? (int64_t)info.size : failed("the size", rc);
}

static int plugin_can_write(void *handle)
{
    (void)handle;
    return !options.read_only && options.snap == NULL;
}

static int plugin_yes(void *handle)
{
    (void)handle;
    return 1;
}

static int plugin_can_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

static int plugin_is_rotational(void *handle)
{
    (void)handle;
    return 0;
}

static int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                             uint32_t *maximum)
{
    (void)handle;
    *minimum = BLOCK_MIN;
    *preferred = BLOCK_PREFERRED;
    *maximum = BLOCK_MAX;
    return 0;
}

/* ---- Requests ---- */

static int plugin_pread(void *handle, void *data, uint32_t len, uint64_t offset, uint32_t flags)
{
    (void)handle, (void)flags;
    ssize_t rc = limpet_image_read(image, data, len, offset, 0);
    return rc == (ssize_t)len ? 0 : failed("read", rc < 0 ? rc : -EIO);
}

static int plugin_pwrite(void *handle, const void *data, uint32_t len, uint64_t offset,
                         uint32_t flags)
{
    (void)handle, (void)flags;
    ssize_t rc = limpet_image_write(image, data, len, offset, 0);
    return rc == (ssize_t)len ? 0 : failed("write", rc < 0 ? rc : -EIO);
}

static int plugin_flush(void *handle, uint32_t flags)
{
    (void)handle, (void)flags;
    int rc = limpet_image_flush(image);
    return rc == 0 ? 0 : failed("flush", rc);
}

static int plugin_trim(void *handle, uint32_t len, uint64_t offset, uint32_t flags)
{
    (void)handle, (void)flags;
    ssize_t rc = limpet_image_discard(image, len, offset);
    return rc >= 0 ? 0 : failed("trim", rc);
}

static int plugin_zero(void *handle, uint32_t len, uint64_t offset, uint32_t flags)
{
    (void)handle;
    unsigned keep = flags & NBDKIT_FLAG_MAY_TRIM ? 0 : LIMPET_IMAGE_ZEROES_WRITTEN;
    ssize_t rc = limpet_image_write_zeroes(image, len, offset, keep);
    return rc >= 0 ? 0 : failed("write zeroes", rc);
}

/* ---- Block status ---- */

/* Diffs name what there is; the holes lie between. */
struct status {
    struct nbdkit_extents *extents;
    uint64_t offset; /* Up to which it is told. */
    bool one;        /* One extent is enough. */
    bool full;
};

static int add(struct status *status, uint64_t upto, uint32_t type)
{
    if (upto <= status->offset)
        return 0;
    uint64_t from = status->offset;
    status->offset = upto;
    return nbdkit_add_extent(status->extents, from, upto - from, type) == 0 ? 0 : -ENOMEM;
}

static int take_extent(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    struct status *status = arg;
    const uint32_t hole = NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;
    int rc = add(status, offset, hole);
    if (rc == 0)
        rc = add(status, offset + len, exists ? 0 : hole);
    status->full = status->one;
    /* Anything ends the walk. */
    return rc != 0 ? rc : status->full ? 1 : 0;
}

static int plugin_extents(void *handle, uint32_t len, uint64_t offset, uint32_t flags,
                          struct nbdkit_extents *extents)
{
    (void)handle;
    struct status status = {
        .extents = extents, .offset = offset, .one = (flags & NBDKIT_FLAG_REQ_ONE) != 0};
    int rc = limpet_image_diff(image, NULL, offset, len, true, true, take_extent, &status);
    if (rc < 0)
        return failed("block status", rc);
    rc = status.full ? 0 : add(&status, offset + len, NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO);
    return rc == 0 ? 0 : failed("block status", rc);
}

#define HELP                                                                                       \
    "pool=POOL        (required) the pool of the image\n"                                          \
    "image=NAME       (required) its name\n"                                                       \
    "namespace=NAME   its namespace\n"                                                             \
    "snap=NAME        a snapshot of it, which can only be read\n"                                  \
    "readonly=true    only reads\n"                                                                \
    "encryption-format=luks1|luks2\n"                                                              \
    "                 what is in an encrypted image\n"                                             \
    "encryption-passphrase-file=FILE\n"                                                            \
    "                 its passphrase\n"                                                            \
    "exclusive=true   takes the image's lock at once, and keeps it\n"                              \
    "conf=FILE        the cluster's configuration\n"                                               \
    "name=NAME        who to be, such as client.admin\n"                                           \
    "keyring=FILE     its key\n"                                                                   \
    "mon-host=HOSTS   the monitors' addresses, instead of those of the configuration"

static struct nbdkit_plugin plugin = {
    .name = "limpet",
    .longname = "Limpet block images",
    .version = "0.1.0",
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .config_help = HELP,
    .magic_config_key = "image",
    .after_fork = plugin_after_fork,
    .cleanup = plugin_cleanup,
    .open = plugin_open,
    .get_size = plugin_get_size,
    .can_write = plugin_can_write,
    .can_flush = plugin_yes,
    .can_trim = plugin_yes,
    .can_zero = plugin_yes,
    .can_fua = plugin_can_fua,
    .can_multi_conn = plugin_yes,
    .can_extents = plugin_yes,
    .is_rotational = plugin_is_rotational,
    .block_size = plugin_block_size,
    .pread = plugin_pread,
    .pwrite = plugin_pwrite,
    .flush = plugin_flush,
    .trim = plugin_trim,
    .zero = plugin_zero,
    .extents = plugin_extents,
};

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
NBDKIT_REGISTER_PLUGIN(plugin)
