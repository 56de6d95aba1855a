/*
 * limpet rbd nbd: an image for NBD clients. It becomes nbdkit, with the plugin client/nbd/plugin.c,
 * after a look whether the image is there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/cli/rbd.h"

#define PLUGIN "nbdkit-limpet-plugin.so"

enum { ARGUMENTS_MAX = 32, TEXT_MAX = 4096 };

struct arguments {
    int n;
    char *list[ARGUMENTS_MAX + 1];
};

static void add(struct arguments *a, const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL || a->n == ARGUMENTS_MAX)
        fail(ENOMEM, "out of memory");
    a->list[a->n++] = copy;
}

/* "key=value", unless there is none. */
static void add_parameter(struct arguments *a, const char *key, const char *value)
{
    char text[TEXT_MAX];
    if (value == NULL || value[0] == 0)
        return;
    if ((size_t)snprintf(text, sizeof text, "%s=%s", key, value) >= sizeof text)
        fail(ENAMETOOLONG, "%s is too long", key);
    add(a, text);
}

/* Beside this program, as it was built or installed. */
static void add_plugin(struct arguments *a)
{
    static const char *const places[] = {"../lib/" PLUGIN, "../lib/limpet/" PLUGIN};
    char self[TEXT_MAX / 2], path[TEXT_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len < 0)
        fail(errno, "/proc/self/exe: %s", error_phrase(errno));
    self[len] = 0;
    char *slash = strrchr(self, '/');
    if (slash != NULL)
        *slash = 0;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", self, places[i]);
        if (access(path, R_OK) == 0) {
            add(a, path);
            return;
        }
    }
    fail(ENOENT, "%s is not beside this program (%s): it is built and installed with it", PLUGIN,
         self);
}

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

/* On one machine, unless an address is given. */
static void add_place(struct cli *cli, struct arguments *a)
{
    const char *path = cli_text(cli, "socket", NULL);
    char port[16];
    if (path != NULL && (cli_has(cli, "port") || cli_has(cli, "address")))
        fail(EINVAL, "--socket, or --port and --address: not both");
    if (path != NULL) {
        clear_socket(path);
        add(a, "-U");
        add(a, path);
        return;
    }
    snprintf(port, sizeof port, "%u", (unsigned)cli_number(cli, "port", 10809, 1, 65535));
    add(a, "-i");
    add(a, cli_text(cli, "address", "127.0.0.1"));
    add(a, "-p");
    add(a, port);
}

static void add_certificates(struct cli *cli, struct arguments *a)
{
    const char *folder = cli_text(cli, "tls-certificates", NULL);
    if (folder == NULL)
        return;
    if (access(folder, R_OK) != 0)
        fail(errno, "%s: %s", folder, error_phrase(errno));
    add(a, "--tls=require");
    add_parameter(a, "--tls-certificates", folder);
}

static void add_name(struct cli *cli, struct arguments *a)
{
    const char *name = cli_text(cli, "name", NULL), *id = cli_text(cli, "id", NULL);
    char full[TEXT_MAX / 2];
    if (name == NULL && id != NULL) {
        snprintf(full, sizeof full, "client.%s", id);
        name = full;
    }
    add_parameter(a, "name", name);
}

static void add_image(struct cli *cli, struct arguments *a, const struct rbd_spec *spec)
{
    add_plugin(a);
    add_parameter(a, "conf", cli_text(cli, "conf", NULL));
    add_name(cli, a);
    add_parameter(a, "keyring", cli_text(cli, "keyring", NULL));
    add_parameter(a, "mon-host", cli_text(cli, "mon-host", NULL));
    add_parameter(a, "pool", spec->pool);
    add_parameter(a, "namespace", spec->space);
    add_parameter(a, "image", spec->name);
    add_parameter(a, "snap", spec->snap);
}

_Noreturn void rbd_nbd_serve(struct cli *cli, const struct rbd_spec *spec,
                             const struct rbd_nbd_options *options)
{
    struct arguments a = {0};
    char threads[16];
    snprintf(threads, sizeof threads, "%u", (unsigned)cli_number(cli, "threads", 32, 1, 512));
    add(&a, "nbdkit");
    add(&a, "-f");
    add(&a, "-t");
    add(&a, threads);
    if (options->listens) {
        add_place(cli, &a);
        add_certificates(cli, &a);
    }
    add_image(cli, &a, spec);
    add_parameter(&a, "encryption-format", options->encryption->format);
    add_parameter(&a, "encryption-passphrase-file", options->encryption->path);
    if (options->read_only)
        add(&a, "readonly=true");
    if (options->exclusive)
        add(&a, "exclusive=true");
    execvp(a.list[0], a.list);
    fail(errno, "nbdkit: %s; it serves the image: install the package nbdkit", error_phrase(errno));
}

int rbd_nbd(struct cli *cli)
{
    struct rbd_run run;
    struct rbd_encryption encryption;
    rbd_encryption_options(cli, &encryption);
    rbd_begin(cli, RBD_IMAGE_OR_SNAP, false, &run);
    struct rbd_spec spec = run.spec;
    rbd_end(&run, 0);
    const struct rbd_nbd_options options = {.read_only = cli_has(cli, "read-only"),
                                            .exclusive = cli_has(cli, "exclusive"),
                                            .listens = true,
                                            .encryption = &encryption};
    rbd_nbd_serve(cli, &spec, &options);
}
