/*
 * How the tables of commands are written: commands.c, commands_rados.c, commands_tools.c.
 */
#ifndef LIMPET_CLIENT_CLI_COMMANDS_H
#define LIMPET_CLIENT_CLI_COMMANDS_H

#include <stddef.h>

#include "client/cli/cli.h"

#define END                                                                                        \
    {                                                                                              \
        .name = NULL                                                                               \
    }
#define PARAMS(...)                                                                                \
    (const struct cli_param[])                                                                     \
    {                                                                                              \
        __VA_ARGS__, END                                                                           \
    }
#define OPTIONS(...)                                                                               \
    (const struct cli_option[])                                                                    \
    {                                                                                              \
        __VA_ARGS__, END                                                                           \
    }
#define EXAMPLES(...)                                                                              \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

extern const struct cli_command cli_commands_rados[];
extern const struct cli_command cli_commands_snap[];
extern const struct cli_command cli_commands_rbd[];
extern const struct cli_command cli_commands_fs[];
extern const struct cli_command cli_commands_tools[];

#endif
