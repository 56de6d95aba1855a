/*
 * LUKS headers, by libcryptsetup, which wants a file: it is given one in memory, with what the
 * image has at its beginning. What it makes or finds there becomes the key of the layer in crypt.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libcryptsetup.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/image/crypt.h"
#include "client/object/inside.h"

enum {
    HEADER_PIECE = 4 << 20, /* Bytes of an image's beginning that are read at a time. */
    HEADER_MAX = 256 << 20, /* No header is larger. */
    KEY_MAX = 64,
    LUKS1_SECTOR = 512,
    LUKS2_SECTOR = 4096,
    LUKS_UNIT = 512, /* In which offsets are counted. */
    NS_PER_MS = 1000000,
};

/* The file, and libcryptsetup's handle of it. */
struct luks {
    int fd;
    struct crypt_device *device;
    uint8_t *buffer; /* HEADER_PIECE */
    uint64_t size;   /* Of the image. */
};

static const char *type_of(enum limpet_image_encryption format)
{
    return format == LIMPET_IMAGE_LUKS1 ? CRYPT_LUKS1 : CRYPT_LUKS2;
}

/* What is wrong is told by error numbers. */
static void be_quiet(int level, const char *message, void *arg)
{
    (void)level;
    (void)message;
    (void)arg;
}

static void luks_end(struct luks *l)
{
    crypt_free(l->device);
    if (l->fd >= 0)
        close(l->fd);
    free(l->buffer);
}

static int luks_begin(struct limpet_image *image, struct luks *l)
{
    char path[64];
    *l = (struct luks){.fd = memfd_create("luks", MFD_CLOEXEC), .buffer = malloc(HEADER_PIECE)};
    pthread_mutex_lock(&image->lock);
    l->size = image->size;
    pthread_mutex_unlock(&image->lock);
    if (l->fd < 0 || l->buffer == NULL)
        return l->fd < 0 ? -errno : -ENOMEM;
    if (ftruncate(l->fd, (off_t)l->size) != 0)
        return -errno;
    snprintf(path, sizeof path, "/proc/self/fd/%d", l->fd);
    int rc = crypt_init(&l->device, path);
    if (rc == 0)
        crypt_set_log_callback(l->device, be_quiet, NULL);
    return rc;
}

/* ---- Between the image and the file ---- */

static int put(struct luks *l, uint64_t offset, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = pwrite(l->fd, l->buffer + at, len - at, (off_t)(offset + at));
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += (size_t)n;
    }
    return 0;
}

static int get(struct luks *l, uint64_t offset, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = pread(l->fd, l->buffer + at, len - at, (off_t)(offset + at));
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += (size_t)n;
    }
    return 0;
}

/* Bytes [from, to), at most those that the image has. */
static int copy_in(struct limpet_image *image, struct luks *l, uint64_t from, uint64_t to)
{
    int rc = 0;
    to = to < l->size ? to : l->size;
    while (from < to && rc == 0) {
        size_t n = to - from < HEADER_PIECE ? (size_t)(to - from) : HEADER_PIECE;
        ssize_t got = raw_read_and_wait(image, l->buffer, n, from);
        rc = got < 0 ? (int)got : put(l, from, (size_t)got);
        from += n;
    }
    return rc;
}

static int copy_out(struct limpet_image *image, struct luks *l, uint64_t to)
{
    int rc = 0;
    for (uint64_t at = 0; at < to && rc == 0;) {
        size_t n = to - at < HEADER_PIECE ? (size_t)(to - at) : HEADER_PIECE;
        rc = get(l, at, n);
        ssize_t done = rc == 0 ? raw_write_and_wait(image, l->buffer, n, at) : rc;
        if (rc == 0 && done != (ssize_t)n)
            rc = done < 0 ? (int)done : -EIO;
        at += n;
    }
    return rc;
}

/* ---- Taking a key ---- */

static int check_place(const struct limpet_image *image, const struct luks *l)
{
    uint64_t offset = crypt_get_data_offset(l->device) * LUKS_UNIT;
    int sector = crypt_get_sector_size(l->device);
    if (sector < LUKS1_SECTOR || sector > LUKS2_SECTOR || offset == 0 || offset > HEADER_MAX)
        return -EINVAL;
    return offset % (unsigned)sector != 0 || image->stripe.unit % (unsigned)sector != 0 ? -EINVAL
                                                                                        : 0;
}

/*
 * What a header of version 2 may ask for and the layer in crypt.c does not do: several segments, as
 * while it is encrypted anew, one that ends somewhere, sectors that are numbered from somewhere
 * else or have tags.
 */
static int check_segment(struct crypt_device *device)
{
    const char *text, *type = NULL, *tweak = NULL, *size = NULL;
    if (crypt_dump_json(device, &text, 0) != 0)
        return -EINVAL;
    json_t *root = json_loads(text, 0, NULL);
    const json_t *segments = json_object_get(root, "segments");
    const json_t *demands = json_object_get(
        json_object_get(json_object_get(root, "config"), "requirements"), "mandatory");
    json_t *segment = json_object_get(segments, "0");
    bool good = json_object_size(segments) == 1 && json_array_size(demands) == 0 &&
                json_object_get(segment, "integrity") == NULL &&
                json_unpack(segment, "{s:s, s:s, s:s}", "type", &type, "iv_tweak", &tweak, "size",
                            &size) == 0 &&
                strcmp(type, "crypt") == 0 && strcmp(tweak, "0") == 0 &&
                strcmp(size, "dynamic") == 0;
    json_decref(root);
    return good ? 0 : -EOPNOTSUPP;
}

static int check_kind(struct luks *l, enum limpet_image_encryption format)
{
    const char *cipher = crypt_get_cipher(l->device), *mode = crypt_get_cipher_mode(l->device);
    if (cipher == NULL || mode == NULL || strcmp(cipher, "aes") != 0 ||
        strcmp(mode, "xts-plain64") != 0 || crypt_get_volume_key_size(l->device) > KEY_MAX)
        return -EOPNOTSUPP;
    return format == LIMPET_IMAGE_LUKS2 ? check_segment(l->device) : 0;
}

static int use_key(struct limpet_image *image, struct luks *l, const uint8_t *key, size_t key_len)
{
    struct sector_cipher *cipher;
    struct crypt *crypt;
    unsigned sector = (unsigned)crypt_get_sector_size(l->device);
    int rc = cipher_create(key, key_len, sector, &cipher);
    if (rc != 0)
        return rc;
    rc = crypt_create(cipher, sector, crypt_get_data_offset(l->device) * LUKS_UNIT, &crypt);
    if (rc != 0)
        cipher_destroy(cipher);
    else
        crypt_set(image, crypt);
    return rc;
}

static int unlock(struct limpet_image *image, struct luks *l, const void *passphrase, size_t len)
{
    uint8_t key[KEY_MAX];
    size_t key_len = sizeof key;
    int rc =
        crypt_volume_key_get(l->device, CRYPT_ANY_SLOT, (char *)key, &key_len, passphrase, len);
    if (rc >= 0)
        rc = use_key(image, l, key, key_len);
    explicit_bzero(key, sizeof key);
    return rc;
}

/* ---- A new header ---- */

/*
 * How long a derivation of a key takes is measured, which takes longer; without that, the least
 * that a format has.
 */
static int set_derivation(struct limpet_image *image, struct luks *l,
                          enum limpet_image_encryption format)
{
    static const struct crypt_pbkdf_type least_luks1 = {.type = CRYPT_KDF_PBKDF2,
                                                        .hash = "sha256",
                                                        .iterations = 1000,
                                                        .flags = CRYPT_PBKDF_NO_BENCHMARK};
    static const struct crypt_pbkdf_type least_luks2 = {.type = CRYPT_KDF_ARGON2ID,
                                                        .hash = "sha256",
                                                        .iterations = 4,
                                                        .max_memory_kb = 32,
                                                        .parallel_threads = 1,
                                                        .flags = CRYPT_PBKDF_NO_BENCHMARK};
    uint64_t ns;
    int rc = cluster_duration(image->cluster, "rbd_encryption_iter_time", &ns);
    if (rc != 0)
        return rc;
    if (ns == 0)
        return crypt_set_pbkdf_type(l->device,
                                    format == LIMPET_IMAGE_LUKS1 ? &least_luks1 : &least_luks2);
    crypt_set_iteration_time(l->device, ns < NS_PER_MS ? 1 : ns / NS_PER_MS);
    return 0;
}

/* Contents begin where an object does: their sectors are then those of whole objects. */
static int make_header(struct limpet_image *image, struct luks *l,
                       enum limpet_image_encryption format, const uint8_t *key, size_t key_len,
                       const void *passphrase, size_t len)
{
    size_t alignment = (size_t)((image->stripe.count << image->stripe.order) / LUKS_UNIT);
    struct crypt_params_luks1 luks1 = {.data_alignment = alignment};
    struct crypt_params_luks2 luks2 = {.data_alignment = alignment, .sector_size = LUKS2_SECTOR};
    void *params = format == LIMPET_IMAGE_LUKS1 ? (void *)&luks1 : (void *)&luks2;
    int rc = crypt_format(l->device, type_of(format), "aes", "xts-plain64", NULL, (const char *)key,
                          key_len, params);
    if (rc == 0)
        rc = crypt_keyslot_add_by_volume_key(l->device, CRYPT_ANY_SLOT, NULL, 0, passphrase, len);
    return rc < 0 ? rc : 0;
}

int limpet_image_encrypt(struct limpet_image *image, enum limpet_image_encryption format,
                         unsigned key_bits, const void *passphrase, size_t len)
{
    struct luks l;
    uint8_t key[KEY_MAX];
    size_t key_len = key_bits / 4; /* Of XTS: two keys. */
    pthread_mutex_lock(&image->lock);
    int rc = image->read_only || image->snap != 0 ? -EROFS
             : image->header.core.has_parent      ? -EOPNOTSUPP
                                                  : 0;
    pthread_mutex_unlock(&image->lock);
    if (rc == 0 &&
        (passphrase == NULL || (format != LIMPET_IMAGE_LUKS1 && format != LIMPET_IMAGE_LUKS2) ||
         (key_bits != 128 && key_bits != 256)))
        rc = -EINVAL;
    if (rc != 0)
        return rc;
    rc = luks_begin(image, &l);
    /* Made in a file that is large enough for any, to see how much it is. */
    if (rc == 0 && l.size < HEADER_MAX && ftruncate(l.fd, HEADER_MAX) != 0)
        rc = -errno;
    if (rc == 0 && RAND_priv_bytes(key, (int)key_len) != 1)
        rc = -EIO;
    if (rc == 0)
        rc = set_derivation(image, &l, format);
    if (rc == 0)
        rc = make_header(image, &l, format, key, key_len, passphrase, len);
    if (rc == 0)
        rc = check_place(image, &l);
    uint64_t offset = rc == 0 ? crypt_get_data_offset(l.device) * LUKS_UNIT : 0;
    if (rc == 0 && offset >= l.size)
        rc = -ENOSPC;
    if (rc == 0)
        rc = copy_out(image, &l, offset);
    if (rc == 0)
        rc = use_key(image, &l, key, key_len);
    explicit_bzero(key, sizeof key);
    luks_end(&l);
    return rc;
}

/* ---- One that is there ---- */

int limpet_image_decrypt(struct limpet_image *image, enum limpet_image_encryption format,
                         const void *passphrase, size_t len)
{
    struct luks l;
    if (image->crypt != NULL)
        return -EEXIST;
    if (passphrase == NULL || (format != LIMPET_IMAGE_LUKS1 && format != LIMPET_IMAGE_LUKS2))
        return -EINVAL;
    int rc = luks_begin(image, &l);
    if (rc == 0)
        rc = copy_in(image, &l, 0, HEADER_PIECE);
    if (rc == 0)
        rc = crypt_load(l.device, type_of(format), NULL);
    if (rc == 0)
        rc = check_place(image, &l);
    if (rc == 0)
        rc = check_kind(&l, format);
    if (rc == 0)
        rc = copy_in(image, &l, HEADER_PIECE, crypt_get_data_offset(l.device) * LUKS_UNIT);
    if (rc == 0)
        rc = unlock(image, &l, passphrase, len);
    luks_end(&l);
    return rc;
}
