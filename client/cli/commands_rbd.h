/* What the tables of rbd's verbs share: commands_rbd.c, commands_rbd_more.c. */
#ifndef LIMPET_CLIENT_CLI_COMMANDS_RBD_H
#define LIMPET_CLIENT_CLI_COMMANDS_RBD_H

#include "client/cli/commands.h"
#include "client/cli/rbd.h"

#define RBD_POOL                                                                                   \
    {                                                                                              \
        .name = "pool", .letter = 'p', .type = CLI_TEXT, .value = "POOL",                          \
        .complete = CLI_COMPLETE_POOL, .help = "the pool, where a spec names none (default: rbd)"  \
    }
#define RBD_SPACE                                                                                  \
    {                                                                                              \
        .name = "namespace", .type = CLI_TEXT, .value = "NAME",                                    \
        .help = "the namespace, where a spec names none"                                           \
    }
#define RBD_NAME                                                                                   \
    {                                                                                              \
        .name = "image", .type = CLI_TEXT, .value = "NAME", .help = "the image, instead of a spec" \
    }
#define RBD_SNAP_NAME                                                                              \
    {                                                                                              \
        .name = "snap", .type = CLI_TEXT, .value = "SNAP",                                         \
        .help = "the snapshot, where the spec names none"                                          \
    }
#define RBD_IMAGE_ID                                                                               \
    {                                                                                              \
        .name = "image-id", .type = CLI_TEXT, .value = "ID", .help = "instead of a name"           \
    }
#define RBD_SNAP_ID                                                                                \
    {                                                                                              \
        .name = "snap-id", .type = CLI_NUMBER, .value = "ID",                                      \
        .help = "the snapshot, by its number"                                                      \
    }
/* Of images' journals, which there are none of: as there, they change nothing then. */
#define RBD_JOURNAL_OPTIONS                                                                        \
    {.name = "journal-splay-width", .type = CLI_TEXT, .hidden = true, .help = "accepted"},         \
        {.name = "journal-object-size", .type = CLI_TEXT, .hidden = true, .help = "accepted"},     \
    {                                                                                              \
        .name = "journal-pool", .type = CLI_TEXT, .hidden = true, .help = "accepted"               \
    }
#define RBD_QUIET                                                                                  \
    {                                                                                              \
        .name = "no-progress", .type = CLI_FLAG, .help = "do not show how far it is"               \
    }
#define RBD_PRETTY                                                                                 \
    {                                                                                              \
        .name = "pretty-format", .type = CLI_FLAG, .help = "with -f json: on many lines"           \
    }
#define RBD_ALL(text)                                                                              \
    {                                                                                              \
        .name = "all", .letter = 'a', .type = CLI_FLAG, .help = (text)                             \
    }
#define RBD_LONG                                                                                   \
    {                                                                                              \
        .name = "long", .letter = 'l', .type = CLI_FLAG, .help = "a table with more of each"       \
    }
#define RBD_FORCE(text)                                                                            \
    {                                                                                              \
        .name = "force", .type = CLI_FLAG, .help = (text)                                          \
    }
#define RBD_WHERE      RBD_POOL, RBD_SPACE
#define RBD_IMAGE_SPEC RBD_WHERE, RBD_NAME
#define RBD_SNAP_SPEC  RBD_IMAGE_SPEC, RBD_SNAP_NAME
#define RBD_IMAGE_PARAM                                                                            \
    {                                                                                              \
        .name = "image-spec", .type = CLI_TEXT, .optional = true, .shown = "[POOL/]IMAGE"          \
    }
#define RBD_AT_PARAM                                                                               \
    {                                                                                              \
        .name = "image-or-snap-spec", .type = CLI_TEXT, .optional = true,                          \
        .shown = "[POOL/]IMAGE[@SNAP]"                                                             \
    }
#define RBD_SNAP_PARAM                                                                             \
    {                                                                                              \
        .name = "snap-spec", .type = CLI_TEXT, .optional = true, .shown = "[POOL/]IMAGE@SNAP"      \
    }
#define RBD_POOL_PARAM                                                                             \
    {                                                                                              \
        .name = "pool-spec", .type = CLI_TEXT, .optional = true, .shown = "POOL[/NAMESPACE]"       \
    }

extern const struct cli_command cli_commands_rbd_more[];

#endif
