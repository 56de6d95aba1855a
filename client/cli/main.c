/*
 * limpet: from argv to a command. Called by the name `rados` or `rbd` it takes their verbs at once,
 * called `ceph` it is what it always is: the commands have Ceph's names.
 */
#include <errno.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "common/standard_files.h"

/* ---- The connection ---- */

static void configure_file(struct cli *cli)
{
    const char *path = cli_text(cli, "conf", NULL);
    int rc = limpet_cluster_config_file(cli->cluster, path);
    /* Addresses on the command line are enough to do without a file that nobody named. */
    bool named = path != NULL || getenv("LIMPET_CONF") != NULL || getenv("CEPH_CONF") != NULL;
    if (rc == -ENOENT && !named && cli_has(cli, "mon-host"))
        return;
    if (rc != 0)
        fail(rc, "%s", limpet_cluster_error(cli->cluster));
}

static void set_option(struct cli *cli, const char *option, const char *config)
{
    const char *value = cli_text(cli, option, NULL);
    if (value == NULL)
        return;
    int rc = limpet_cluster_config_set(cli->cluster, config, value);
    if (rc != 0)
        fail(rc, "--%s: %s", option, limpet_cluster_error(cli->cluster));
}

static void create_cluster(struct cli *cli)
{
    char name[256];
    const char *id = cli_text(cli, "id", NULL);
    const char *full = cli_text(cli, "name", NULL);
    if (id != NULL && full == NULL) {
        snprintf(name, sizeof name, "client.%s", id);
        full = name;
    }
    int rc = limpet_cluster_create(&cli->cluster, full);
    if (rc == -EINVAL)
        fail(rc, "--name: '%s' is no name such as client.admin",
             full != NULL ? full : getenv("LIMPET_NAME"));
    if (rc != 0)
        fail(rc, "%s", error_phrase(rc));
}

int cli_try_connect(struct cli *cli)
{
    create_cluster(cli);
    configure_file(cli);
    set_option(cli, "keyring", "keyring");
    set_option(cli, "mon-host", "mon_host");
    set_option(cli, "connect-timeout", "connect_timeout");
    for (int i = 0; i < cli->n_values; i++) {
        if (cli->values[i].option->config)
            set_option(cli, cli->values[i].option->name, cli->values[i].option->name);
    }
    return limpet_cluster_connect(cli->cluster);
}

void cli_connect(struct cli *cli)
{
    int rc = cli->cluster == NULL ? cli_try_connect(cli) : 0;
    if (rc != 0)
        fail(rc, "%s", limpet_cluster_error(cli->cluster));
}

struct limpet_pool *cli_open_pool(struct cli *cli, const char *name)
{
    struct limpet_pool *pool;
    int rc = limpet_pool_open(cli->cluster, name, &pool);
    if (rc == -ENOENT)
        fail(rc, "error opening pool %s: %s; 'limpet pool ls' lists the pools", name,
             error_phrase(rc));
    if (rc != 0)
        fail(rc, "error opening pool %s: %s", name, error_phrase(rc));
    return pool;
}

void cli_disconnect(struct cli *cli)
{
    limpet_cluster_destroy(cli->cluster);
    cli->cluster = NULL;
}

/* ---- The program ---- */

int main(int argc, char **argv)
{
    static struct cli cli;
    standard_files_fill();
    char *name = argc > 0 ? basename(argv[0]) : NULL;
    cli.program = name != NULL && (strcmp(name, "rados") == 0 || strcmp(name, "rbd") == 0 ||
                                   strcmp(name, "ceph") == 0)
                      ? name
                      : "limpet";
    /* Writing to a closed pipe is an error like others, not a reason to vanish. */
    signal(SIGPIPE, SIG_IGN);
    cli_parse(&cli, argc > 1 ? argc - 1 : 0, argv + 1);
    const struct cli_command *command = cli.command;
    int code;
    if (cli_has(&cli, "version")) {
        code = run_version(&cli);
    } else if (command == NULL || cli_has(&cli, "help") || cli_command_is_group(command)) {
        code = run_help(&cli);
    } else {
        code = command->run != NULL ? command->run(&cli) : remote_run(&cli);
    }
    cli_flush(&cli);
    cli_disconnect(&cli);
    return code;
}
