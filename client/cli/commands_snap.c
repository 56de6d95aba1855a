/* The command table: verbs of rados about snapshots. */
#include "client/cli/commands.h"
#include "client/cli/rados.h"

static const struct cli_option snap_options[] = {
    {.name = "pool",
     .letter = 'p',
     .type = CLI_TEXT,
     .value = "POOL",
     .complete = CLI_COMPLETE_POOL,
     .help = "the pool"},
    {.name = "namespace",
     .letter = 'N',
     .type = CLI_TEXT,
     .value = "NAME",
     .help = "the namespace of the objects (default: the one without a name)"},
    END};

static const struct cli_param snap_param[] = {{.name = "snap", .type = CLI_TEXT}, END};

const struct cli_command cli_commands_snap[] = {
    {.path = "rados mksnap",
     .run = rados_mksnap,
     .options = snap_options,
     .params = snap_param,
     .summary = "take a snapshot of a pool",
     .details =
         "What objects are now can be read with --snap, and rolled back to. It costs no space "
         "until they change.\n",
     .examples = EXAMPLES("limpet rados -p data mksnap monday",
                          "limpet rados -p data -s monday get notes -")},
    {.path = "rados rmsnap",
     .run = rados_rmsnap,
     .options = snap_options,
     .params = snap_param,
     .summary = "remove a snapshot of a pool; its space comes back in the background"},
    {.path = "rados lssnap",
     .run = rados_lssnap,
     .options = snap_options,
     .summary = "the snapshots of a pool"},
    {.path = "rados rollback",
     .run = rados_rollback,
     .options = snap_options,
     .params = PARAMS({.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
                      {.name = "snap", .type = CLI_TEXT}),
     .summary = "make an object what it was at a snapshot"},
    {.path = "rados listsnaps",
     .run = rados_listsnaps,
     .options = snap_options,
     .params = PARAMS({.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT}),
     .summary = "what is kept of an object for snapshots"},
    {.path = NULL, .next_table = cli_commands_fs},
};
