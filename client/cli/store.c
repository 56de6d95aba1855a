/*
 * Tools on a store of this machine. They belong to the OSD's program, which knows the store; this
 * hands the command line on to the limpet-osd that was installed beside us, or to that of $PATH.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"

enum { ARGUMENTS_MAX = 2 * CLI_OPTIONS_MAX + 8 };

static void add(char **argv, int *argc, const char *text)
{
    if (*argc < ARGUMENTS_MAX - 1)
        argv[(*argc)++] = (char *)(uintptr_t)text;
}

int run_store(struct cli *cli)
{
    char program[PATH_MAX] = "";
    char *argv[ARGUMENTS_MAX] = {0};
    char names[CLI_OPTIONS_MAX][40];
    int argc = 0;
    add(argv, &argc, "limpet-osd");
    add(argv, &argc, "store");
    add(argv, &argc, strrchr(cli->command->path, ' ') + 1);
    for (int i = 0; i < cli->n_values; i++) {
        const struct cli_value *value = &cli->values[i];
        snprintf(names[i], sizeof names[i], "--%s", value->option->name);
        add(argv, &argc, names[i]);
        if (value->option->type != CLI_FLAG)
            add(argv, &argc, value->text);
    }
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 16);
    char *slash = len > 0 ? memrchr(program, '/', (size_t)len) : NULL;
    if (slash) {
        strcpy(slash + 1, "limpet-osd");
        execv(program, argv);
    }
    execvp("limpet-osd", argv);
    fail(-errno, "limpet-osd, whose store this looks at, cannot be run: %s", strerror(errno));
}
