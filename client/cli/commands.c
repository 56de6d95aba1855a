/*
 * The command table: what help, shell completions and man pages are made from, and what the command
 * line is parsed by.
 */
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

const struct cli_option cli_global_options[] = {
    {.name = "conf",
     .letter = 'c',
     .type = CLI_TEXT,
     .value = "FILE",
     .complete = CLI_COMPLETE_FILE,
     .help = "configuration file (default: $LIMPET_CONF, /etc/limpet/limpet.conf)"},
    {.name = "name",
     .letter = 'n',
     .type = CLI_TEXT,
     .value = "NAME",
     .help = "who to be (default: $LIMPET_NAME, client.admin)"},
    {.name = "id", .type = CLI_TEXT, .value = "ID", .help = "the same as --name client.ID"},
    {.name = "keyring",
     .letter = 'k',
     .type = CLI_TEXT,
     .value = "FILE",
     .complete = CLI_COMPLETE_FILE,
     .help = "file with the key"},
    {.name = "mon-host",
     .letter = 'm',
     .type = CLI_TEXT,
     .value = "ADDRESSES",
     .help = "monitors, instead of those of the configuration"},
    {.name = "connect-timeout",
     .type = CLI_SECONDS,
     .value = "SECONDS",
     .help = "how long to look for a monitor, and to wait for its answers (default: 30)"},
    {.name = "format",
     .letter = 'f',
     .type = CLI_TEXT,
     .value = "FORMAT",
     .choices = "plain|json|json-pretty",
     .help = "plain, json or json-pretty"},
    {.name = "help", .letter = 'h', .type = CLI_FLAG, .help = "what a command does"},
    {.name = "version", .letter = 'v', .type = CLI_FLAG, .help = "the version of this program"},
    {.name = "status", .letter = 's', .type = CLI_FLAG, .hidden = true, .help = "limpet status"},
    {.name = "cluster",
     .type = CLI_TEXT,
     .value = "NAME",
     .hidden = true,
     .help = "accepted for old scripts"},
    END,
};

/* ---- What several commands share ---- */

static const struct cli_param osds_param[] = {
    {.name = "ids", .type = CLI_TEXT, .many = true, .complete = CLI_COMPLETE_OSD, .shown = "OSD"},
    END};

static const struct cli_param object_param[] = {
    {.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT}, END};

static const struct cli_param object_file_params[] = {
    {.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
    {.name = "file", .type = CLI_TEXT, .complete = CLI_COMPLETE_FILE},
    END};

static const struct cli_param flag_param[] = {
    {.name = "key",
     .type = CLI_TEXT,
     .choices = "noout|noin|noup|nodown|nobackfill|norecover|noscrub|nodeep-scrub|pause|full",
     .shown = "FLAG"},
    END};

static const struct cli_param entity_param[] = {
    {.name = "entity", .type = CLI_TEXT, .complete = CLI_COMPLETE_ENTITY}, END};

static const struct cli_param entity_caps_params[] = {
    {.name = "entity", .type = CLI_TEXT, .complete = CLI_COMPLETE_ENTITY},
    {.name = "caps", .type = CLI_TEXT, .optional = true, .many = true, .shown = "SERVICE CAPS"},
    END};

/* What the verbs of rados share. The group has them all, since options may stand before the verb.
 */
#define POOL_OPTION                                                                                \
    {                                                                                              \
        .name = "pool", .letter = 'p', .type = CLI_TEXT, .value = "POOL",                          \
        .complete = CLI_COMPLETE_POOL, .help = "the pool of the objects"                           \
    }
#define NAMESPACE_OPTION                                                                           \
    {                                                                                              \
        .name = "namespace", .letter = 'N', .type = CLI_TEXT, .value = "NAME",                     \
        .help = "the namespace of the objects (default: the one without a name)"                   \
    }
#define BLOCK_SIZE_OPTION                                                                          \
    {                                                                                              \
        .name = "block-size", .letter = 'b', .type = CLI_SIZE, .value = "SIZE",                    \
        .help = "bytes in one request of get (default: 4M); put sends one request"                 \
    }
#define OFFSET_OPTION                                                                              \
    {                                                                                              \
        .name = "offset", .type = CLI_SIZE, .value = "BYTES",                                      \
        .help = "put: write into the object from there, instead of replacing it"                   \
    }
#define LIST_OPTIONS                                                                               \
    {.name = "all", .type = CLI_FLAG, .help = "ls: objects of all namespaces"},                    \
    {                                                                                              \
        .name = "default", .type = CLI_FLAG,                                                       \
        .help = "ls: objects of one namespace, although --all is given"                            \
    }
#define FORCE_FULL_OPTION                                                                          \
    {                                                                                              \
        .name = "force-full", .type = CLI_FLAG,                                                    \
        .help = "rm: changes nothing, since a full cluster lets objects be removed"                \
    }

static const struct cli_option rados_options[] = {POOL_OPTION,  NAMESPACE_OPTION, BLOCK_SIZE_OPTION,
                                                  LIST_OPTIONS, OFFSET_OPTION,    FORCE_FULL_OPTION,
                                                  END};

static const struct cli_option rados_object_options[] = {POOL_OPTION, NAMESPACE_OPTION, END};

static const struct cli_option watch_option[] = {
    {.name = "watch",
     .letter = 'w',
     .type = CLI_SECONDS,
     .value = "SECONDS",
     .local = true,
     .help = "again every so many seconds, until interrupted"},
    END};

static const struct cli_option force_option[] = {
    {.name = "dry-run", .type = CLI_FLAG, .help = "change nothing; tell what would be moved"},
    {.name = "yes-i-really-mean-it", .type = CLI_FLAG, .help = "although data may be lost"},
    {.name = "force", .type = CLI_FLAG, .help = "the same"},
    END};

static const struct cli_option move_options[] = {
    {.name = "dry-run",
     .type = CLI_FLAG,
     .help = "change nothing; tell how much would be moved, how long that takes, and the risk"},
    {.name = "force", .type = CLI_FLAG, .help = "also when OSDs become too full by it"},
    END};

static const struct cli_option drain_options[] = {
    {.name = "wait",
     .type = CLI_FLAG,
     .local = true,
     .help = "until no placement group counts on them any more; tells how far it is"},
    {.name = "dry-run",
     .type = CLI_FLAG,
     .help = "change nothing; tell how much would be moved, how long that takes, and the risk"},
    {.name = "force", .type = CLI_FLAG, .help = "also when OSDs become too full by it"},
    END};

static const struct cli_param place_param[] = {
    {.name = "name", .type = CLI_TEXT, .complete = CLI_COMPLETE_NONE, .shown = "OSD|BUCKET"},
    {.name = "args", .type = CLI_TEXT, .many = true, .shown = "TYPE=NAME"},
    END};

static const struct cli_param crush_set_params[] = {
    {.name = "id", .type = CLI_TEXT, .complete = CLI_COMPLETE_OSD, .shown = "OSD"},
    {.name = "weight", .type = CLI_REAL},
    {.name = "args", .type = CLI_TEXT, .many = true, .shown = "TYPE=NAME"},
    END};

/* ---- The table ---- */

const struct cli_command cli_commands[] = {
    {.path = "status",
     .options = watch_option,
     .prefix = "status",
     .summary = "health, daemons, data and work of the cluster at a glance"},
    {.path = "health",
     .prefix = "health",
     .params = PARAMS({.name = "detail", .type = CLI_TEXT, .optional = true, .choices = "detail"}),
     .summary = "whether all is well; with 'detail', what is not"},
    {.path = "health explain",
     .prefix = "health explain",
     .params = PARAMS({.name = "code", .type = CLI_TEXT, .optional = true}),
     .summary = "cause and impact of a health code, and what to do about it",
     .examples = EXAMPLES("limpet health explain", "limpet health explain PG_DEGRADED")},
    {.path = "df",
     .prefix = "df",
     .summary = "space: of the cluster, and of each pool",
     .params = PARAMS({.name = "detail", .type = CLI_TEXT, .optional = true, .choices = "detail"})},
    {.path = "fsid", .run = run_fsid, .summary = "the cluster's UUID"},
    {.path = "quorum_status",
     .alias = "quorum-status",
     .prefix = "quorum_status",
     .summary = "which monitors agree, and who leads them"},
    {.path = "version", .run = run_version, .summary = "the version of this program"},

    {.path = "mon", .summary = "monitors"},
    {.path = "mon dump", .prefix = "mon dump", .summary = "the monitors and their addresses"},
    {.path = "mon stat", .prefix = "mon stat", .summary = "the monitors in one line"},

    {.path = "osd", .summary = "OSDs"},
    {.path = "osd tree",
     .prefix = "osd tree",
     .summary = "the OSDs in the hierarchy of hosts, with weights and states"},
    {.path = "osd stat", .prefix = "osd stat", .summary = "how many OSDs are up and in"},
    {.path = "osd ls", .prefix = "osd ls", .summary = "the numbers of the OSDs"},
    {.path = "osd df", .prefix = "osd df", .summary = "how full each OSD is"},
    {.path = "osd dump", .prefix = "osd dump", .summary = "the cluster map"},
    {.path = "osd out",
     .prefix = "osd out",
     .params = osds_param,
     .options = move_options,
     .summary = "take OSDs out: their data move to others",
     .details = "The OSDs go on serving until all they have is elsewhere. What has no other place "
                "stays with them.\n",
     .examples = EXAMPLES("limpet osd out 3 --dry-run", "limpet osd out osd.3 osd.4")},
    {.path = "osd drain",
     .prefix = "osd drain",
     .run = run_osd_drain,
     .params = osds_param,
     .options = drain_options,
     .summary = "take OSDs out, and wait until their data are elsewhere",
     .details = "The same as out; with --wait it ends when they can be destroyed.\n",
     .examples = EXAMPLES("limpet osd drain 3 --dry-run", "limpet osd drain 3 --wait")},
    {.path = "osd ok-to-stop",
     .prefix = "osd ok-to-stop",
     .params = osds_param,
     .summary = "whether all placement groups go on when these OSDs are stopped",
     .details = "The exit status is 0 when they do.\n"},
    {.path = "osd safe-to-destroy",
     .prefix = "osd safe-to-destroy",
     .params = osds_param,
     .summary = "whether no placement group counts on the data of these OSDs any more",
     .details = "The exit status is 0 when none does.\n"},
    {.path = "osd in",
     .prefix = "osd in",
     .params = osds_param,
     .options = move_options,
     .summary = "let OSDs have data again"},
    {.path = "osd down",
     .prefix = "osd down",
     .params = osds_param,
     .summary = "mark OSDs down; those that live come up again by themselves"},
    {.path = "osd reweight",
     .prefix = "osd reweight",
     .options = move_options,
     .summary = "give an OSD less than its share of data",
     .params =
         PARAMS({.name = "id", .type = CLI_TEXT, .complete = CLI_COMPLETE_OSD, .shown = "OSD"},
                {.name = "weight", .type = CLI_REAL})},
    {.path = "osd rm",
     .alias = "osd purge",
     .prefix = "osd rm",
     .params = osds_param,
     .options = force_option,
     .summary = "remove OSDs that are down from the cluster"},
    {.path = "osd crush", .summary = "the hierarchy of places, and rules over it"},
    {.path = "osd crush rule", .summary = "rules of placement"},
    {.path = "osd crush rule ls",
     .prefix = "osd crush rule ls",
     .summary = "the names of the rules of placement"},
    {.path = "osd crush rule dump",
     .prefix = "osd crush rule dump",
     .params = PARAMS({.name = "name", .type = CLI_TEXT, .optional = true}),
     .summary = "the steps of the rules, or of one"},
    {.path = "osd crush rule create-replicated",
     .prefix = "osd crush rule create-replicated",
     .params = PARAMS({.name = "name", .type = CLI_TEXT}, {.name = "root", .type = CLI_TEXT},
                      {.name = "type", .type = CLI_TEXT, .shown = "FAILURE_DOMAIN"},
                      {.name = "class", .type = CLI_TEXT, .optional = true}),
     .summary = "make a rule: copies below a bucket, each in another host, rack ...",
     .examples = EXAMPLES("limpet osd crush rule create-replicated by_rack default rack")},
    {.path = "osd crush rule rm",
     .prefix = "osd crush rule rm",
     .params = PARAMS({.name = "name", .type = CLI_TEXT}),
     .summary = "remove a rule that no pool uses"},
    {.path = "osd crush reweight",
     .prefix = "osd crush reweight",
     .params = PARAMS({.name = "name", .type = CLI_TEXT, .shown = "OSD"},
                      {.name = "weight", .type = CLI_REAL}),
     .options = move_options,
     .summary = "change how much of the data an OSD gets, in TiB"},
    {.path = "osd crush set",
     .alias = "osd crush add",
     .prefix = "osd crush set",
     .params = crush_set_params,
     .options = move_options,
     .summary = "put an OSD below a bucket, with a weight",
     .examples = EXAMPLES("limpet osd crush set osd.3 1.8 host=h2")},
    {.path = "osd crush move",
     .prefix = "osd crush move",
     .params = place_param,
     .options = move_options,
     .summary = "put an OSD, or a bucket with all that it holds, elsewhere",
     .examples = EXAMPLES("limpet osd crush move h2 rack=r1")},
    {.path = "osd crush add-bucket",
     .prefix = "osd crush add-bucket",
     .params = PARAMS(
         {.name = "name", .type = CLI_TEXT}, {.name = "type", .type = CLI_TEXT},
         {.name = "args", .type = CLI_TEXT, .optional = true, .many = true, .shown = "TYPE=NAME"}),
     .summary = "make a bucket, such as a rack"},
    {.path = "osd crush rm",
     .alias = "osd crush remove",
     .prefix = "osd crush rm",
     .params = PARAMS({.name = "name", .type = CLI_TEXT, .shown = "OSD|BUCKET"}),
     .options = move_options,
     .summary = "take an OSD, or a bucket that is empty, out of the hierarchy"},
    {.path = "osd set",
     .prefix = "osd set",
     .params = flag_param,
     .summary = "set a flag of the cluster, such as noout"},
    {.path = "osd unset",
     .prefix = "osd unset",
     .params = flag_param,
     .summary = "clear a flag of the cluster"},

    {.path = "pool", .alias = "osd pool", .summary = "pools"},
    {.path = "pool create",
     .alias = "osd pool create",
     .prefix = "osd pool create",
     .summary = "make a pool",
     .details = "The number of placement groups is the system's business; whoever gives one "
                "knows better.\nA pool that exists stays as it is.\n",
     .examples = EXAMPLES("limpet pool create data", "limpet pool create archive --size 2"),
     .params = PARAMS({.name = "pool", .type = CLI_TEXT},
                      {.name = "pg_num", .type = CLI_NUMBER, .optional = true}),
     .options =
         OPTIONS({.name = "size",
                  .type = CLI_NUMBER,
                  .value = "N",
                  .help = "copies of each object (default: 3)"},
                 {.name = "min-size",
                  .type = CLI_NUMBER,
                  .value = "N",
                  .help = "copies without which nothing is written (default: 2)"},
                 {.name = "pg-num", .type = CLI_NUMBER, .value = "N", .help = "placement groups"},
                 {.name = "rule", .type = CLI_TEXT, .value = "NAME", .help = "CRUSH rule"})},
    {.path = "pool ls",
     .alias = "osd pool ls",
     .prefix = "osd pool ls",
     .summary = "the names of the pools; with 'detail', all about them",
     .params = PARAMS({.name = "detail", .type = CLI_TEXT, .optional = true, .choices = "detail"})},
    {.path = "pool rm",
     .alias = "osd pool rm",
     .prefix = "osd pool rm",
     .run = run_pool_rm,
     .summary = "delete a pool with all its objects",
     .params = PARAMS({.name = "pool", .type = CLI_TEXT, .complete = CLI_COMPLETE_POOL},
                      {.name = "pool2",
                       .type = CLI_TEXT,
                       .optional = true,
                       .complete = CLI_COMPLETE_POOL,
                       .shown = "POOL"}),
     .options = OPTIONS({.name = "yes-i-really-really-mean-it",
                         .type = CLI_FLAG,
                         .help = "without this nothing is deleted"}),
     .examples = EXAMPLES("limpet pool rm old --yes-i-really-really-mean-it")},
    {.path = "pool get",
     .alias = "osd pool get",
     .prefix = "osd pool get",
     .summary = "a setting of a pool",
     .params = PARAMS({.name = "pool", .type = CLI_TEXT, .complete = CLI_COMPLETE_POOL},
                      {.name = "var", .type = CLI_TEXT, .shown = "SETTING"})},
    {.path = "pool set",
     .alias = "osd pool set",
     .prefix = "osd pool set",
     .options = move_options,
     .summary = "change a setting of a pool: size, min_size, crush_rule",
     .params = PARAMS({.name = "pool", .type = CLI_TEXT, .complete = CLI_COMPLETE_POOL},
                      {.name = "var", .type = CLI_TEXT, .shown = "SETTING"},
                      {.name = "val", .type = CLI_TEXT, .shown = "VALUE"})},
    {.path = "pool rename",
     .alias = "osd pool rename",
     .prefix = "osd pool rename",
     .summary = "give a pool another name",
     .params = PARAMS(
         {.name = "srcpool", .type = CLI_TEXT, .complete = CLI_COMPLETE_POOL, .shown = "POOL"},
         {.name = "destpool", .type = CLI_TEXT, .shown = "NAME"})},

    {.path = "pg", .summary = "placement groups"},
    {.path = "pg stat", .prefix = "pg stat", .summary = "how many groups are in which state"},
    {.path = "pg ls",
     .prefix = "pg ls",
     .summary = "the groups, their states, their OSDs, and what is left to be copied",
     .details =
         "Without states, all groups; with some, those that have all of them. A word may also "
         "be the name of a pool.\n",
     .examples = EXAMPLES("limpet pg ls degraded", "limpet pg ls --pool data inactive -f json"),
     .params = PARAMS({.name = "states",
                       .type = CLI_TEXT,
                       .optional = true,
                       .many = true,
                       .complete = CLI_COMPLETE_POOL,
                       .shown = "STATE"}),
     .options = OPTIONS({.name = "pool",
                         .type = CLI_TEXT,
                         .value = "POOL",
                         .complete = CLI_COMPLETE_POOL,
                         .help = "groups of this pool"})},
    {.path = "pg dump", .prefix = "pg dump", .summary = "all about the groups"},
    {.path = "pg map",
     .prefix = "pg map",
     .summary = "which OSDs a group is on",
     .params = PARAMS({.name = "pgid", .type = CLI_TEXT, .shown = "PG"})},
    {.path = "pg scrub",
     .prefix = "pg scrub",
     .params = PARAMS({.name = "pgid", .type = CLI_TEXT, .shown = "PG"}),
     .summary = "compare sizes, attributes and versions of a group's copies; repair what differs",
     .examples = EXAMPLES("limpet pg scrub 1.2f")},
    {.path = "pg deep-scrub",
     .prefix = "pg deep-scrub",
     .params = PARAMS({.name = "pgid", .type = CLI_TEXT, .shown = "PG"}),
     .summary = "read and compare all data of a group's copies; repair what differs",
     .examples = EXAMPLES("limpet pg deep-scrub 1.2f")},
    {.path = "pg repair",
     .prefix = "pg repair",
     .params = PARAMS({.name = "pgid", .type = CLI_TEXT, .shown = "PG"}),
     .summary = "the same as deep-scrub, which repairs",
     .examples = EXAMPLES("limpet pg repair 1.2f")},
    {.path = "pg force-activate",
     .prefix = "pg force-activate",
     .params = PARAMS({.name = "pgid", .type = CLI_TEXT, .shown = "PG"}),
     .options = force_option,
     .summary = "go on without a group's members that are down, though too few are left",
     .examples = EXAMPLES("limpet pg force-activate 1.2f --yes-i-really-mean-it")},

    {.path = "auth", .summary = "entities, their keys and capabilities"},
    {.path = "auth ls",
     .alias = "auth list",
     .prefix = "auth ls",
     .summary = "all entities and their capabilities"},
    {.path = "auth get",
     .prefix = "auth get",
     .params = entity_param,
     .summary = "an entity's key and capabilities, as a keyring"},
    {.path = "auth get-key",
     .alias = "auth print-key",
     .prefix = "auth get-key",
     .params = entity_param,
     .summary = "an entity's key"},
    {.path = "auth get-or-create",
     .prefix = "auth get-or-create",
     .params = entity_caps_params,
     .summary = "the same as get, for an entity that need not exist before",
     .examples = EXAMPLES("limpet auth get-or-create client.backup mon 'allow r' osd 'allow r'")},
    {.path = "auth add",
     .prefix = "auth add",
     .params = entity_caps_params,
     .summary = "add an entity"},
    {.path = "auth caps",
     .prefix = "auth caps",
     .params = entity_caps_params,
     .summary = "replace an entity's capabilities"},
    {.path = "auth rm",
     .alias = "auth del",
     .prefix = "auth rm",
     .params = entity_param,
     .summary = "remove an entity: its key opens nothing any more"},

    {.path = "rados", .options = rados_options, .summary = "objects, with the verbs of rados"},
    {.path = "rados put",
     .run = run_rados,
     .options = OPTIONS(POOL_OPTION, NAMESPACE_OPTION, BLOCK_SIZE_OPTION, OFFSET_OPTION),
     .params = object_file_params,
     .summary = "store a file, or standard input ('-'), as an object",
     .details =
         "The file is read as a whole before anything is sent, and sent as one write: whoever "
         "reads the object sees it as it was before, or all of the new one.\n"
         "An object may have 128 MiB at most; larger input is refused before anything is "
         "written.\n",
     .examples = EXAMPLES("limpet rados -p data put notes notes.txt",
                          "tar c dir | limpet rados -p data put dir.tar -")},
    {.path = "rados get",
     .run = run_rados,
     .options = OPTIONS(POOL_OPTION, NAMESPACE_OPTION, BLOCK_SIZE_OPTION),
     .params = object_file_params,
     .summary = "fetch an object into a file, or to standard output ('-')",
     .details = "The file gets its name when it is complete: a failure leaves the file that was "
                "there before.\n",
     .examples = EXAMPLES("limpet rados -p data get notes notes.txt",
                          "limpet rados -p data get notes - | less")},
    {.path = "rados append",
     .run = run_rados,
     .options = rados_object_options,
     .params = object_file_params,
     .summary = "add a file, or standard input, to an object's end"},
    {.path = "rados truncate",
     .run = run_rados,
     .options = rados_object_options,
     .summary = "cut an object, or extend it with zeroes",
     .details = "As with Ceph, an object that does not exist is not made, and that is no error.\n",
     .params = PARAMS({.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
                      {.name = "size", .type = CLI_SIZE})},
    {.path = "rados rm",
     .run = run_rados,
     .options = OPTIONS(POOL_OPTION, NAMESPACE_OPTION, FORCE_FULL_OPTION),
     .summary = "remove objects",
     .params = PARAMS(
         {.name = "object", .type = CLI_TEXT, .many = true, .complete = CLI_COMPLETE_OBJECT})},
    {.path = "rados stat",
     .run = run_rados,
     .options = rados_object_options,
     .params = object_param,
     .summary = "when an object changed last, and its size"},
    {.path = "rados ls",
     .run = run_rados,
     .options = OPTIONS(POOL_OPTION, NAMESPACE_OPTION, LIST_OPTIONS),
     .summary = "the names of the objects, to standard output or a file",
     .params = PARAMS(
         {.name = "file", .type = CLI_TEXT, .optional = true, .complete = CLI_COMPLETE_FILE})},
    {.path = "rados df",
     .run = run_rados,
     .options = OPTIONS(POOL_OPTION),
     .summary = "objects and space of the pools, or of one"},
    {.path = "rados lspools",
     .run = run_rados,
     .options = OPTIONS(POOL_OPTION),
     .summary = "the names of the pools"},
    {.path = "rados list-inconsistent-pg",
     .run = run_rados,
     .options = OPTIONS(POOL_OPTION),
     .summary = "the placement groups of a pool that have inconsistent objects, as JSON",
     .params = PARAMS({.name = "pool", .type = CLI_TEXT, .complete = CLI_COMPLETE_POOL})},
    {.path = "rados list-inconsistent-obj",
     .run = run_rados,
     .options = OPTIONS(
         POOL_OPTION,
         {.name = "repaired", .type = CLI_FLAG, .help = "also objects that were repaired since"}),
     .summary = "the objects of a placement group whose copies differ, as JSON",
     .details =
         "Tells what the last scrub found and could not repair: of each object in what its copies "
         "differ, and what is wrong with each. The primary keeps it in memory: after a restart, or "
         "with another primary, a new scrub is needed.\n",
     .examples = EXAMPLES("limpet rados list-inconsistent-pg data",
                          "limpet rados list-inconsistent-obj 1.a -f json-pretty"),
     .params = PARAMS({.name = "pgid", .type = CLI_TEXT})},

    {.path = "store", .summary = "the store of an OSD that does not run"},
    {.path = "store bench",
     .run = run_store,
     .summary = "how fast a store is, without network and replicas",
     .details =
         "Measures the engine alone, in a folder that it makes if it is not there: operations, "
         "CPU, bytes written for each byte stored, flushes, peak memory.\n",
     .examples = EXAMPLES("limpet store bench --data /tmp/bench --op overwrite --depth 32",
                          "limpet store bench --data /tmp/bench --op read --no-fill -f json"),
     .options = OPTIONS(
         {.name = "data",
          .type = CLI_TEXT,
          .value = "DIR",
          .complete = CLI_COMPLETE_FILE,
          .help = "folder of the store"},
         {.name = "op",
          .type = CLI_TEXT,
          .value = "OPERATION",
          .choices = "write|overwrite|read|omap|omap-list",
          .help = "write (new objects), overwrite (default), read, omap (map entries), omap-list"},
         {.name = "block-size",
          .type = CLI_SIZE,
          .value = "BYTES",
          .help = "of one operation (default: 4K)"},
         {.name = "object-size",
          .type = CLI_SIZE,
          .value = "BYTES",
          .help = "of an object to overwrite or read (default: 4M)"},
         {.name = "objects",
          .type = CLI_NUMBER,
          .value = "N",
          .help = "objects to overwrite or read (default: 256)"},
         {.name = "depth",
          .type = CLI_NUMBER,
          .value = "N",
          .help = "operations under way (default: 32)"},
         {.name = "seconds",
          .type = CLI_REAL,
          .value = "S",
          .help = "length of the run (default: 10)"},
         {.name = "count",
          .type = CLI_NUMBER,
          .value = "N",
          .help = "number of operations, instead of a time"},
         {.name = "ramp",
          .type = CLI_REAL,
          .value = "S",
          .help = "as many seconds of it before that are not measured (default: 0)"},
         {.name = "size",
          .type = CLI_SIZE,
          .value = "BYTES",
          .help = "of a new store's disk (default: 4G)"},
         {.name = "memory",
          .type = CLI_SIZE,
          .value = "BYTES",
          .help = "memory target (default: 256M)"},
         {.name = "sparse",
          .type = CLI_FLAG,
          .help = "the space of a new store's disk is taken as it is needed"},
         {.name = "no-fill", .type = CLI_FLAG, .help = "the objects are there from an earlier run"},
         {.name = "warm", .type = CLI_FLAG, .help = "read all objects once before measuring"},
         {.name = "verify",
          .type = CLI_TEXT,
          .value = "FILE",
          .complete = CLI_COMPLETE_FILE,
          .help = "note in FILE what was acknowledged, after checking what an earlier run noted "
                  "there"})},
    {.path = "store dump",
     .run = run_store,
     .summary = "what the index of a store holds",
     .options = OPTIONS({.name = "data",
                         .type = CLI_TEXT,
                         .value = "DIR",
                         .complete = CLI_COMPLETE_FILE,
                         .help = "data folder of the OSD"})},

    {.path = "bench", .summary = "measuring"},
    {.path = "bench object",
     .run = run_bench_object,
     .summary = "how fast objects are written and read",
     .details =
         "Operations: write makes new objects (or, with --objects, the same ones again in turn), "
         "overwrite replaces existing ones at random, read reads objects in turn, randread at "
         "random.\nThe objects that it makes are removed at the end, also after an "
         "interruption.\n",
     .examples = EXAMPLES("limpet bench object -p data --size 4K --depth 16",
                          "limpet bench object -p data --op randread --seconds 5 -f json"),
     .options = OPTIONS(
         {.name = "pool",
          .letter = 'p',
          .type = CLI_TEXT,
          .value = "POOL",
          .complete = CLI_COMPLETE_POOL,
          .help = "the pool to use"},
         {.name = "op",
          .type = CLI_TEXT,
          .value = "OPERATION",
          .choices = "write|overwrite|read|randread",
          .help = "write (default), overwrite, read or randread"},
         {.name = "size",
          .letter = 'b',
          .type = CLI_SIZE,
          .value = "SIZE",
          .help = "bytes of each object (default: 4096)"},
         {.name = "depth",
          .letter = 't',
          .type = CLI_NUMBER,
          .value = "N",
          .help = "requests at a time (default: 16)"},
         {.name = "seconds", .type = CLI_REAL, .value = "N", .help = "how long (default: 10)"},
         {.name = "objects",
          .type = CLI_NUMBER,
          .value = "N",
          .help = "how many different objects"},
         {.name = "no-cleanup", .type = CLI_FLAG, .help = "leave the objects there"})},

    {.path = "keyring", .summary = "keyring files; no cluster is needed"},
    {.path = "keyring create",
     .run = run_keyring_create,
     .summary = "add an entity to a keyring file, or change it",
     .examples = EXAMPLES(
         "limpet keyring create --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' "
         "keyring"),
     .params = PARAMS({.name = "file", .type = CLI_TEXT, .complete = CLI_COMPLETE_FILE}),
     .options =
         OPTIONS({.name = "gen-key", .type = CLI_FLAG, .help = "make a new key"},
                 {.name = "add-key", .type = CLI_TEXT, .value = "KEY", .help = "use this key"},
                 {.name = "cap",
                  .type = CLI_PAIR,
                  .value = "SERVICE CAPS",
                  .many = true,
                  .help = "what the entity may do at mon or osd"})},
    {.path = "keyring ls",
     .run = run_keyring_list,
     .summary = "the entities of a keyring file, without their keys",
     .params = PARAMS({.name = "file", .type = CLI_TEXT, .complete = CLI_COMPLETE_FILE})},

    {.path = "help",
     .run = run_help,
     .summary = "this list, or more on one command",
     .params = PARAMS({.name = "command", .type = CLI_TEXT, .optional = true, .many = true})},
    {.path = "completion",
     .run = run_completion,
     .summary = "a script that completes commands in a shell",
     .examples = EXAMPLES("source <(limpet completion bash)"),
     .params = PARAMS({.name = "shell", .type = CLI_TEXT, .choices = "bash|zsh|fish"})},
    {.path = "man",
     .run = run_man,
     .hidden = true,
     .summary = "the man page of this program, or of one of its commands, as roff",
     .params = PARAMS({.name = "command", .type = CLI_TEXT, .optional = true, .many = true})},
    {.path = "command",
     .run = run_raw_command,
     .hidden = true,
     .summary = "send JSON to the monitors as it is",
     .params = PARAMS({.name = "json"})},
    {.path = "__complete",
     .run = run_complete,
     .hidden = true,
     .summary = "what may stand in the place of the last word",
     .params = PARAMS({.name = "word", .type = CLI_TEXT, .optional = true, .many = true})},
    {.path = NULL},
};
