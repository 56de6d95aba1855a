/*
 * A server of NBD for one block image. One thread does all that does not block: it polls the
 * cluster's network and the clients' sockets together (limpet_cluster_poll()), so that a request at
 * depth 1 takes no other thread. README.md has the states and the limits.
 *
 *     nbd_server_create(&options, &server);
 *     nbd_server_listen(server, fd);      -- as often as there are places
 *     nbd_server_run(server);             -- until a signal
 *     nbd_server_destroy(server);
 */
#ifndef LIMPET_CLIENT_NBD_SERVER_H
#define LIMPET_CLIENT_NBD_SERVER_H

#include "client/limpet/image.h"
#include "client/nbd/proto.h"
#include "common/error.h"

struct nbd_server;
struct nbd_tls;

enum {
    NBD_LISTENERS_MAX = 16,
    NBD_CLIENTS_MAX = 512,
    NBD_REQUESTS_MAX = 512, /* Under way at a time, of all clients. */
    NBD_REQUESTS_DEFAULT = 128,
};

struct nbd_server_options {
    struct limpet_cluster *cluster;
    struct limpet_image *image; /* Stays the caller's. */
    const char *name;           /* Of the export. */
    const char *other_name;     /* Another one for it, or "". */
    bool read_only;
    bool follows; /* The handle does not follow the header: its size is read for each client. */
    unsigned requests_max; /* Of a client, at a time; at most NBD_REQUESTS_MAX. */
    struct nbd_tls *tls;   /* NULL: none. Stays the caller's. */
    bool tls_required;
};

int nbd_server_create(const struct nbd_server_options *options, struct nbd_server **out) MUST_CHECK;
/* A socket that listens; taken over. -ENOSPC: there are too many. */
int nbd_server_listen(struct nbd_server *server, int fd) MUST_CHECK;
/*
 * Serves until SIGTERM, SIGINT, SIGQUIT or SIGHUP comes, which the caller has blocked in all
 * threads; then ends what is under way, waits a moment for clients that take their answers, and
 * returns 0. A second signal ends the program at once. A negative errno: it cannot go on, and is
 * not to be destroyed before the image is closed, as requests may be under way.
 */
int nbd_server_run(struct nbd_server *server) MUST_CHECK;
void nbd_server_destroy(struct nbd_server *server);

/* ---- Places to listen (listen.c) ---- */

/* Each gives sockets that listen; -1, and `why` says it in words of static memory. */
int nbd_listen_unix(const char *path) MUST_CHECK;
/* One for each address of the host: how many; a negative errno, and *why in words. */
int nbd_listen_tcp(const char *host, uint16_t port, int fds[NBD_LISTENERS_MAX],
                   const char **why) MUST_CHECK;
/* Sockets that systemd, or whoever has started us, has passed: how many, from descriptor 3 on. */
int nbd_listen_passed(int fds[NBD_LISTENERS_MAX]) MUST_CHECK;

/* ---- TLS (tls.c) ---- */

/*
 * certificates: a folder with ca-cert.pem, server-cert.pem, server-key.pem and perhaps ca-crl.pem;
 * psk: a file of lines USER:KEY; one of the two is NULL. verify: clients show certificates of the
 * same authority. -EINVAL: *why says what is wrong, in memory to be freed.
 */
int nbd_tls_create(const char *certificates, const char *psk, bool verify, struct nbd_tls **out,
                   char **why) MUST_CHECK;
void nbd_tls_destroy(struct nbd_tls *tls);

#endif
