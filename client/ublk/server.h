/*
 * The server of one ublk device: an image as /dev/ublkbN. One thread takes the kernel's requests,
 * makes them requests of the image and drives the cluster's network (limpet_cluster_poll()).
 * README.md has the invariants and the limits.
 *
 *     ublk_server_create(&options, &server);
 *     ublk_server_watch(server, fd, ready, arg);      -- a few others
 *     ublk_server_run(server);                        -- until the device is stopped
 *     ublk_server_destroy(server);                    -- which removes it
 */
#ifndef LIMPET_CLIENT_UBLK_SERVER_H
#define LIMPET_CLIENT_UBLK_SERVER_H

#include "client/limpet/image.h"
#include "client/ublk/control.h"
#include "common/error.h"

struct ublk_server;

enum { UBLK_WATCHES_MAX = 4 };

struct ublk_server_options {
    struct limpet_cluster *cluster;
    struct limpet_image *image; /* Stays the caller's. */
    bool read_only;
    unsigned block_size;
    uint64_t mark; /* Of a new device: who finds it, knows that it is this one. */
    bool reissues; /* What a dead server had is given to the next one again; else it fails. */
    bool recovers; /* No new device: the one with the mark, whose server has died. */
    /* The device is there, as /dev/ublkb`number`; or not, and the server ends. */
    void (*started)(void *arg, int rc, unsigned number);
    void *arg;
};

int ublk_server_create(const struct ublk_server_options *options,
                       struct ublk_server **out) MUST_CHECK;
/* ready() is called by run() as long as the descriptor is readable. */
void ublk_server_watch(struct ublk_server *server, int fd, void (*ready)(void *arg), void *arg);
void ublk_server_unwatch(struct ublk_server *server, int fd);
unsigned ublk_server_number(const struct ublk_server *server);
/*
 * Serves until the device is stopped, whoever does that, and all that was under way is over. A
 * negative errno: it could not begin, or cannot go on.
 */
int ublk_server_run(struct ublk_server *server) MUST_CHECK;
/* From run(): the device gets this size, soon. -EOPNOTSUPP: the kernel is older than Linux 6.16. */
int ublk_server_resize(struct ublk_server *server, uint64_t size) MUST_CHECK;
/* The device goes, too; but one that was recovered and never got going stays as it was. */
void ublk_server_destroy(struct ublk_server *server);

#endif
