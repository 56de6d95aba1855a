/*
 * Locks: the exclusive lock of an image, and advisory ones, which keep nobody from anything but
 * taking them. The exclusive lock is listed among the advisory ones, as Ceph's is: by the cookie
 * "auto N".
 */
#include "client/compat/librbd/librbd.h"

#include <inttypes.h>
#include <stdio.h>

#define LOCK_NAME "rbd_lock"
#define AUTO_TAG  "internal" /* Of the exclusive lock. */

enum { RBD_LOCK_MODE_EXCLUSIVE = 0 };

/* ---- The exclusive lock ---- */

EXPORT int rbd_is_exclusive_lock_owner(void *image, int *is_owner)
{
    struct rbd_handle *h = image;
    bool owner = false;
    if (h == NULL || is_owner == NULL)
        return -EINVAL;
    int rc = limpet_image_lock_is_owner(h->image, &owner);
    *is_owner = owner;
    return rc;
}

EXPORT int rbd_lock_acquire(void *image, int mode)
{
    struct rbd_handle *h = image;
    if (h == NULL)
        return -EINVAL;
    int rc = mode == RBD_LOCK_MODE_EXCLUSIVE ? limpet_image_lock_acquire(h->image) : -EOPNOTSUPP;
    /* Of another that keeps it, and of a handle that cannot write: the numbers are librbd's. */
    return rc == -EBUSY ? -EROFS : rc == -EROFS ? -EINVAL : rc;
}

EXPORT int rbd_lock_release(void *image)
{
    struct rbd_handle *h = image;
    int rc = h != NULL ? limpet_image_lock_release(h->image) : -EINVAL;
    return rc == -ENOENT ? -EINVAL : rc; /* It is not its owner. */
}

/* -EINVAL: the image has no exclusive lock that could have an owner. */
static int lock_owner(struct rbd_handle *h, struct limpet_image_owner *owner)
{
    struct limpet_image_info info;
    int rc = limpet_image_info(h->image, &info);
    if (rc == 0 && (info.features & LIMPET_IMAGE_EXCLUSIVE_LOCK) == 0)
        rc = -EINVAL;
    return rc == 0 ? limpet_image_lock_owner(h->image, owner) : rc;
}

EXPORT int rbd_lock_get_owners(void *image, int *mode, char **owners, size_t *max)
{
    struct rbd_handle *h = image;
    struct limpet_image_owner owner;
    if (h == NULL || mode == NULL || owners == NULL || max == NULL)
        return -EINVAL;
    size_t room = *max;
    for (size_t i = 0; i < room; i++)
        owners[i] = NULL; /* Python gives them all to the cleanup, also after an error. */
    int rc = lock_owner(h, &owner);
    if (rc != 0)
        return rc;
    *max = 1;
    *mode = RBD_LOCK_MODE_EXCLUSIVE;
    if (room < 1)
        return -ERANGE;
    owners[0] = strdup(owner.address);
    return owners[0] != NULL ? 0 : -ENOMEM;
}

EXPORT void rbd_lock_get_owners_cleanup(char **owners, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(owners[i]);
        owners[i] = NULL;
    }
}

/* The owner's address; -EBUSY: it is another one. */
EXPORT int rbd_lock_break(void *image, int mode, const char *address)
{
    struct rbd_handle *h = image;
    struct limpet_image_owner owner;
    if (h == NULL || address == NULL)
        return -EINVAL;
    if (mode != RBD_LOCK_MODE_EXCLUSIVE)
        return -EOPNOTSUPP;
    int rc = lock_owner(h, &owner);
    if (rc == 0 && strcmp(owner.address, address) != 0)
        rc = -EBUSY;
    return rc == 0 ? limpet_image_lock_break(h->image, owner.instance) : rc;
}

/* ---- Advisory locks ---- */

static int take_lock(struct rbd_handle *h, enum limpet_lock_type type, const char *cookie,
                     const char *tag)
{
    char header[64];
    if (h == NULL || cookie == NULL || tag == NULL)
        return -EINVAL;
    int rc = rbd_header_name(h, header);
    return rc == 0 ? limpet_lock(h->pool, header, LOCK_NAME, type, cookie, tag, "", 0, 0) : rc;
}

EXPORT int rbd_lock_exclusive(void *image, const char *cookie)
{
    return take_lock(image, LIMPET_LOCK_EXCLUSIVE, cookie, "");
}

EXPORT int rbd_lock_shared(void *image, const char *cookie, const char *tag)
{
    return take_lock(image, LIMPET_LOCK_SHARED, cookie, tag);
}

EXPORT int rbd_unlock(void *image, const char *cookie)
{
    struct rbd_handle *h = image;
    char header[64];
    int rc = h != NULL && cookie != NULL ? rbd_header_name(h, header) : -EINVAL;
    return rc == 0 ? limpet_unlock(h->pool, header, LOCK_NAME, cookie) : rc;
}

/* "client.4123" */
static bool parse_client(const char *text, uint64_t *instance)
{
    char *end;
    if (strncmp(text, "client.", 7) != 0 || text[7] < '0' || text[7] > '9')
        return false;
    *instance = strtoull(text + 7, &end, 10);
    return *end == 0;
}

EXPORT int rbd_break_lock(void *image, const char *client, const char *cookie)
{
    struct rbd_handle *h = image;
    char header[64];
    uint64_t instance;
    if (h == NULL || client == NULL || cookie == NULL)
        return -EINVAL;
    if (!parse_client(client, &instance))
        return -EINVAL;
    if (strncmp(cookie, "auto ", 5) == 0)
        return limpet_image_lock_break(h->image, instance);
    int rc = rbd_header_name(h, header);
    return rc == 0 ? limpet_lock_break(h->pool, header, LOCK_NAME, instance, cookie) : rc;
}

/* ---- Who holds them ---- */

/* Names that follow one another, each with a zero, in a buffer that may be too small for them. */
struct packed {
    char *at;
    size_t room, needed;
};

static void pack(struct packed *p, const char *text)
{
    size_t len = strlen(text) + 1;
    p->needed += len;
    if (p->at == NULL || p->needed > p->room)
        return;
    memcpy(p->at, text, len);
    p->at += len;
}

struct lockers {
    struct packed clients, cookies, addresses;
    ssize_t n;
};

static void add_locker(struct lockers *l, uint64_t instance, const char *cookie,
                       const char *address)
{
    char client[64];
    snprintf(client, sizeof client, "client.%" PRIu64, instance);
    pack(&l->clients, client);
    pack(&l->cookies, cookie);
    pack(&l->addresses, address);
    l->n++;
}

static int find_lockers(struct rbd_handle *h, struct lockers *l, int *exclusive, struct packed *tag)
{
    struct limpet_lock_info *info = NULL;
    struct limpet_image_owner owner;
    char header[64];
    int rc = rbd_header_name(h, header);
    if (rc == 0)
        rc = limpet_lock_info(h->pool, header, LOCK_NAME, &info);
    if (rc != 0)
        return rc;
    *exclusive = info->n_holders == 0 || info->type == LIMPET_LOCK_EXCLUSIVE;
    for (size_t i = 0; i < info->n_holders; i++)
        add_locker(l, info->holders[i].instance, info->holders[i].cookie, info->holders[i].address);
    bool none = info->n_holders == 0;
    if (!none)
        pack(tag, info->tag);
    limpet_free(info);
    if (none && limpet_image_lock_owner(h->image, &owner) == 0) {
        char cookie[64];
        snprintf(cookie, sizeof cookie, "auto %" PRIu64, owner.cookie);
        add_locker(l, owner.instance, cookie, owner.address);
        pack(tag, AUTO_TAG);
    } else if (none) {
        pack(tag, "");
    }
    return 0;
}

EXPORT ssize_t rbd_list_lockers(void *image, int *exclusive, char *tag, size_t *tag_len,
                                char *clients, size_t *clients_len, char *cookies,
                                size_t *cookies_len, char *addrs, size_t *addrs_len)
{
    struct rbd_handle *h = image;
    int is_exclusive = 0;
    if (h == NULL || tag_len == NULL || clients_len == NULL || cookies_len == NULL ||
        addrs_len == NULL)
        return -EINVAL;
    struct packed packed_tag = {.at = tag, .room = *tag_len};
    struct lockers l = {.clients = {.at = clients, .room = *clients_len},
                        .cookies = {.at = cookies, .room = *cookies_len},
                        .addresses = {.at = addrs, .room = *addrs_len}};
    int rc = find_lockers(h, &l, &is_exclusive, &packed_tag);
    if (rc != 0)
        return rc;
    bool fits = packed_tag.needed <= *tag_len && l.clients.needed <= *clients_len &&
                l.cookies.needed <= *cookies_len && l.addresses.needed <= *addrs_len;
    *tag_len = packed_tag.needed;
    *clients_len = l.clients.needed;
    *cookies_len = l.cookies.needed;
    *addrs_len = l.addresses.needed;
    if (exclusive != NULL)
        *exclusive = is_exclusive;
    return fits ? l.n : -ERANGE;
}

/* ---- Watchers ---- */

EXPORT int rbd_watchers_list(void *image, rbd_image_watcher_t *out, size_t *max)
{
    struct rbd_handle *h = image;
    struct limpet_watcher *watchers;
    size_t n;
    if (h == NULL || max == NULL)
        return -EINVAL;
    int rc = limpet_image_watchers(h->image, &watchers, &n);
    if (rc != 0)
        return rc;
    rc = *max >= n && (out != NULL || n == 0) ? 0 : -ERANGE;
    *max = n;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        out[i] = (rbd_image_watcher_t){strdup(watchers[i].address), (int64_t)watchers[i].instance,
                                       watchers[i].cookie};
        rc = out[i].addr != NULL ? 0 : -ENOMEM;
        for (size_t j = 0; rc != 0 && j < i; j++)
            free(out[j].addr);
    }
    limpet_free(watchers);
    return rc;
}

EXPORT void rbd_watchers_list_cleanup(rbd_image_watcher_t *watchers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(watchers[i].addr);
        watchers[i].addr = NULL;
    }
}

EXPORT int rbd_update_watch(void *image, uint64_t *handle, void (*changed)(void *arg), void *arg)
{
    struct rbd_handle *h = image;
    if (h == NULL || handle == NULL || changed == NULL)
        return -EINVAL;
    return limpet_image_watch(h->image, changed, arg, handle);
}

EXPORT int rbd_update_unwatch(void *image, uint64_t handle)
{
    struct rbd_handle *h = image;
    return h != NULL ? limpet_image_unwatch(h->image, handle) : -EINVAL;
}
