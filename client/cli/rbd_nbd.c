/*
 * limpet rbd nbd: an image for NBD clients; client/nbd/ is the server. It listens when the image is
 * open, so whoever can connect is served.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/cli/rbd.h"
#include "client/nbd/server.h"

struct places {
    const char *path; /* Of a socket of ours; NULL: there is none. */
    int n;
    int fds[NBD_LISTENERS_MAX];
};

/* ---- Places ---- */

/* Of a server that was killed the socket stays, and would be in the way of the next one. */
static void clear_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    if (strlen(path) >= sizeof address.sun_path)
        fail(ENAMETOOLONG, "--socket: %s: the path of a socket has at most %zu bytes", path,
             sizeof address.sun_path - 1);
    if (lstat(path, &st) != 0)
        return;
    if (!S_ISSOCK(st.st_mode))
        fail(EEXIST, "--socket: %s is there, and is no socket: name another one", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail(errno, "--socket: %s", error_phrase(errno));
    bool refused =
        connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno == ECONNREFUSED;
    close(fd);
    if (!refused)
        fail(EADDRINUSE, "--socket: a server listens on %s: end it, or name another one", path);
    if (unlink(path) != 0)
        fail(errno, "--socket: %s is of a server that is gone, and stays: %s", path,
             error_phrase(errno));
}

static bool names_place(const struct cli *cli)
{
    return cli_has(cli, "socket") || cli_has(cli, "port") || cli_has(cli, "address");
}

/* What can be said before the cluster is asked. */
static void check_places(struct cli *cli)
{
    if (cli_has(cli, "socket") && (cli_has(cli, "port") || cli_has(cli, "address")))
        fail(EINVAL, "--socket, or --port and --address: not both");
    if (cli_has(cli, "socket"))
        clear_socket(cli_text(cli, "socket", NULL));
}

static void listen_at_port(struct cli *cli, struct places *places)
{
    const char *host = cli_text(cli, "address", "127.0.0.1"), *why = "";
    uint16_t port = (uint16_t)cli_number(cli, "port", 10809, 1, 65535);
    places->n = nbd_listen_tcp(host, port, places->fds, &why);
    if (places->n < 0)
        fail(places->n, "cannot listen at %s, port %u: %s", host, (unsigned)port, why);
}

/* On one machine, unless an address is given; or on what was passed to us, as systemd does. */
static void listen_somewhere(struct cli *cli, struct places *places)
{
    *places = (struct places){0};
    if (!names_place(cli)) {
        places->n = nbd_listen_passed(places->fds);
        if (places->n < 0)
            fail(places->n, "LISTEN_FDS: a socket was not passed: %s", error_phrase(places->n));
        if (places->n > 0)
            return;
    }
    const char *path = cli_text(cli, "socket", NULL);
    if (path == NULL) {
        listen_at_port(cli, places);
        return;
    }
    places->fds[0] = nbd_listen_unix(path);
    if (places->fds[0] < 0)
        fail(places->fds[0], "--socket: %s: %s", path, error_phrase(places->fds[0]));
    places->path = path;
    places->n = 1;
}

/* ---- TLS ---- */

static struct nbd_tls *load_tls(struct cli *cli)
{
    const char *folder = cli_text(cli, "tls-certificates", NULL);
    const char *psk = cli_text(cli, "tls-psk", NULL);
    bool verify = cli_has(cli, "tls-verify-peer");
    struct nbd_tls *tls = NULL;
    char *why;
    if (folder != NULL && psk != NULL)
        fail(EINVAL, "--tls-certificates or --tls-psk: not both");
    if (verify && folder == NULL)
        fail(EINVAL, "--tls-verify-peer needs --tls-certificates");
    if (folder == NULL && psk == NULL)
        return NULL;
    if (access(folder != NULL ? folder : psk, R_OK) != 0)
        fail(errno, "%s: %s", folder != NULL ? folder : psk, error_phrase(errno));
    int rc = nbd_tls_create(folder, psk, verify, &tls, &why);
    if (rc != 0)
        fail(rc, "%s", why != NULL ? why : error_phrase(rc));
    return tls;
}

/* ---- Serving ---- */

/* Before the first thread: the server takes signals when it looks for them. */
static void block_signals(void)
{
    const int numbers[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP};
    sigset_t signals;
    sigemptyset(&signals);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaddset(&signals, numbers[i]);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
}

static void unblock_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
}

static void open_image(struct cli *cli, const struct rbd_spec *spec, bool reads,
                       struct rbd_run *run)
{
    run->spec = *spec;
    run->pool = rbd_pool(cli, spec);
    run->image = rbd_image(run->pool, spec, !reads);
    rbd_decrypt(cli, run->image);
    int rc = cli_has(cli, "exclusive") && !reads ? limpet_image_lock_acquire(run->image) : 0;
    if (rc != 0)
        fail(rc, "the exclusive lock: %s", error_phrase(rc));
}

static int serve(struct cli *cli, const struct rbd_run *run, bool reads, struct nbd_tls *tls,
                 struct places *places)
{
    const struct rbd_spec *spec = &run->spec;
    char name[NBD_EXPORT_NAME_MAX] = "";
    static struct nbd_server *server;
    if (spec->snap[0] != 0)
        snprintf(name, sizeof name, "%.250s@%.250s", spec->name, spec->snap);
    const struct nbd_server_options options = {
        .cluster = cli->cluster,
        .image = run->image,
        .name = spec->name,
        .other_name = name,
        .read_only = reads,
        .follows = reads && spec->snap[0] == 0,
        .requests_max =
            (unsigned)cli_number(cli, "threads", NBD_REQUESTS_DEFAULT, 1, NBD_REQUESTS_MAX),
        .tls = tls,
        .tls_required = tls != NULL,
    };
    int rc = nbd_server_create(&options, &server);
    if (rc != 0)
        fail(rc, "cannot begin to serve: %s", error_phrase(rc));
    listen_somewhere(cli, places);
    for (int i = 0; i < places->n && rc == 0; i++)
        rc = nbd_server_listen(server, places->fds[i]);
    if (rc == 0)
        rc = nbd_server_run(server);
    /* After a failure requests may be under way, which use its memory until the image is closed. */
    if (rc == 0)
        nbd_server_destroy(server);
    return rc;
}

int rbd_nbd(struct cli *cli)
{
    struct rbd_encryption encryption;
    struct rbd_run run;
    struct places places = {0};
    struct rbd_spec spec;
    rbd_encryption_options(cli, &encryption);
    rbd_spec_read(cli, 0, RBD_SOURCE, RBD_IMAGE_OR_SNAP, &spec);
    bool reads = cli_has(cli, "read-only") || spec.snap[0] != 0;
    check_places(cli);
    struct nbd_tls *tls = load_tls(cli);
    block_signals();
    open_image(cli, &spec, reads, &run);
    int rc = serve(cli, &run, reads, tls, &places);
    if (places.path != NULL)
        unlink(places.path);
    nbd_tls_destroy(tls);
    /* What takes long now may be interrupted. */
    unblock_signals();
    int code = rc == 0 ? 0 : complain(rc, "serving %s: %s", spec.name, error_phrase(rc));
    return rbd_end(&run, code);
}
