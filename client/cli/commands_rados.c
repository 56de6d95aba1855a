/* The command table, second part: the verbs of rados. */
#include "client/cli/commands.h"
#include "client/cli/rados.h"

static const struct cli_param object_param[] = {
    {.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT}, END};

static const struct cli_param object_file_params[] = {
    {.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
    {.name = "file", .type = CLI_TEXT, .complete = CLI_COMPLETE_FILE},
    END};

static const struct cli_param object_attr_params[] = {
    {.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
    {.name = "attribute", .type = CLI_TEXT},
    END};

static const struct cli_param object_lock_params[] = {
    {.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
    {.name = "lock", .type = CLI_TEXT},
    END};

/* The key may come from a file. */
static const struct cli_param object_key_params[] = {
    {.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
    {.name = "key", .type = CLI_TEXT, .optional = true},
    END};

/*
 * What the verbs of rados share. The group has them all, since options may stand before the verb.
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
#define LOCATOR_OPTION                                                                             \
    {                                                                                              \
        .name = "object-locator", .type = CLI_TEXT, .value = "KEY",                                \
        .help = "what the objects are placed by, instead of their names"                           \
    }
#define SNAP_OPTIONS                                                                               \
    {.name = "snap",                                                                               \
     .letter = 's',                                                                                \
     .type = CLI_TEXT,                                                                             \
     .value = "SNAP",                                                                              \
     .help = "look at the objects as they were at this snapshot of the pool"},                     \
    {                                                                                              \
        .name = "snapid", .letter = 'S', .type = CLI_NUMBER, .value = "ID",                        \
        .help = "the same, by number"                                                              \
    }
#define PGID_OPTION                                                                                \
    {                                                                                              \
        .name = "pgid", .type = CLI_TEXT, .value = "PG",                                           \
        .help = "instead of --pool: the pool of this placement group; ls lists its objects alone"  \
    }
#define CREATE_OPTION                                                                              \
    {                                                                                              \
        .name = "create", .type = CLI_FLAG, .help = "make the pool first, unless there is one"     \
    }
#define OBJECT_OPTIONS                                                                             \
    POOL_OPTION, PGID_OPTION, CREATE_OPTION, NAMESPACE_OPTION, LOCATOR_OPTION, SNAP_OPTIONS
#define BLOCK_SIZE_OPTION                                                                          \
    {                                                                                              \
        .name = "block-size", .letter = 'b', .type = CLI_SIZE, .value = "SIZE",                    \
        .help = "bytes in one request of get (default: 4M), or of bench; put sends one request"    \
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
#define WATCH_TIMEOUT_OPTION                                                                       \
    {                                                                                              \
        .name = "timeout", .type = CLI_NUMBER, .value = "SECONDS",                                 \
        .help = "watch: the watch ends when it is not heard of for so long (default: 30); "        \
                "notify: answers are waited for so long (default: 10)"                             \
    }
#define FORCE_FULL_OPTION                                                                          \
    {                                                                                              \
        .name = "force-full", .type = CLI_FLAG,                                                    \
        .help = "rm: changes nothing, since a full cluster lets objects be removed"                \
    }
#define INPUT_FILE_OPTION                                                                          \
    {                                                                                              \
        .name = "input-file", .type = CLI_TEXT, .value = "FILE", .complete = CLI_COMPLETE_FILE,    \
        .help = "take the value from there"                                                        \
    }
#define KEY_FILE_OPTION                                                                            \
    {                                                                                              \
        .name = "omap-key-file", .type = CLI_TEXT, .value = "FILE", .complete = CLI_COMPLETE_FILE, \
        .help = "take the key of the map from there"                                               \
    }
#define LOCK_COOKIE_OPTION                                                                         \
    {                                                                                              \
        .name = "lock-cookie", .type = CLI_TEXT, .value = "COOKIE",                                \
        .help = "tells locks of one process apart (default: none)"                                 \
    }
#define LOCK_OPTIONS                                                                               \
    {.name = "lock-tag",                                                                           \
     .type = CLI_TEXT,                                                                             \
     .value = "TAG",                                                                               \
     .help = "lock get: who shares a lock must give the same"},                                    \
        {.name = "lock-description",                                                               \
         .type = CLI_TEXT,                                                                         \
         .value = "TEXT",                                                                          \
         .help = "lock get: what others are shown"},                                               \
        {.name = "lock-duration",                                                                  \
         .type = CLI_NUMBER,                                                                       \
         .value = "SECONDS",                                                                       \
         .help = "lock get: when it ends by itself (default: 0, never)"},                          \
        {.name = "lock-type",                                                                      \
         .type = CLI_TEXT,                                                                         \
         .value = "TYPE",                                                                          \
         .choices = "exclusive|shared",                                                            \
         .help = "lock get: exclusive (default) or shared"},                                       \
        LOCK_COOKIE_OPTION
#define TARGET_OPTIONS                                                                             \
    {.name = "target-pool",                                                                        \
     .type = CLI_TEXT,                                                                             \
     .value = "POOL",                                                                              \
     .complete = CLI_COMPLETE_POOL,                                                                \
     .help = "cp: the pool of the copy (default: the object's)"},                                  \
        {.name = "target-nspace",                                                                  \
         .type = CLI_TEXT,                                                                         \
         .value = "NAME",                                                                          \
         .help = "cp: the namespace of the copy (default: the one without a name)"},               \
    {                                                                                              \
        .name = "target-locator", .type = CLI_TEXT, .value = "KEY",                                \
        .help = "cp: what the copy is placed by (default: its name)"                               \
    }
#define IMPORT_OPTIONS                                                                             \
    {.name = "dry-run", .type = CLI_FLAG, .help = "import: read all, and change nothing"},         \
    {                                                                                              \
        .name = "no-overwrite", .type = CLI_FLAG, .help = "import: leave objects that there are"   \
    }
#define RUN_NAME_OPTION                                                                            \
    {                                                                                              \
        .name = "run-name", .type = CLI_TEXT, .value = "NAME",                                     \
        .help = "of a benchmark; seq, rand and cleanup find its objects by it"                     \
    }
#define PREFIX_OPTION                                                                              \
    {                                                                                              \
        .name = "prefix", .type = CLI_TEXT, .value = "TEXT",                                       \
        .help = "cleanup: all objects whose names begin with it"                                   \
    }
#define BENCH_OPTIONS                                                                              \
    {.name = "concurrent-ios",                                                                     \
     .letter = 't',                                                                                \
     .type = CLI_NUMBER,                                                                           \
     .value = "N",                                                                                 \
     .help = "bench: requests at a time (default: 16)"},                                           \
        {.name = "object-size",                                                                    \
         .letter = 'O',                                                                            \
         .type = CLI_SIZE,                                                                         \
         .value = "SIZE",                                                                          \
         .help = "bench: bytes of an object (default: one request)"},                              \
        {.name = "max-objects",                                                                    \
         .type = CLI_NUMBER,                                                                       \
         .value = "N",                                                                             \
         .help = "bench: so many objects at most (default: 0, any number)"},                       \
        {.name = "no-cleanup", .type = CLI_FLAG, .help = "bench write: leave the objects there"},  \
        {.name = "no-verify",                                                                      \
         .type = CLI_FLAG,                                                                         \
         .help = "bench seq, rand: do not look at what was read"},                                 \
        {.name = "show-time", .type = CLI_FLAG, .help = "bench: date and time before each line"},  \
    {                                                                                              \
        .name = "no-hints", .type = CLI_FLAG, .help = "bench: accepted; there are none"            \
    }
#define REALLY_OPTION                                                                              \
    {                                                                                              \
        .name = "yes-i-really-really-mean-it", .type = CLI_FLAG,                                   \
        .help = "purge: although the objects will be lost"                                         \
    }

static const struct cli_option rados_options[] = {
    OBJECT_OPTIONS,    BLOCK_SIZE_OPTION, LIST_OPTIONS,  OFFSET_OPTION,  FORCE_FULL_OPTION,
    INPUT_FILE_OPTION, KEY_FILE_OPTION,   LOCK_OPTIONS,  TARGET_OPTIONS, IMPORT_OPTIONS,
    BENCH_OPTIONS,     RUN_NAME_OPTION,   PREFIX_OPTION, REALLY_OPTION,  END};

static const struct cli_option rados_object_options[] = {OBJECT_OPTIONS, END};

static const struct cli_option lock_group_options[] = {OBJECT_OPTIONS, LOCK_OPTIONS, END};

const struct cli_command cli_commands_rados[] = {
    {.path = "rados", .options = rados_options, .summary = "objects, with the verbs of rados"},
    {.path = "rados put",
     .run = rados_put,
     .options = OPTIONS(OBJECT_OPTIONS, BLOCK_SIZE_OPTION, OFFSET_OPTION),
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
     .run = rados_get,
     .options = OPTIONS(OBJECT_OPTIONS, BLOCK_SIZE_OPTION),
     .params = object_file_params,
     .summary = "fetch an object into a file, or to standard output ('-')",
     .details = "The file gets its name when it is complete: a failure leaves the file that was "
                "there before.\n",
     .examples = EXAMPLES("limpet rados -p data get notes notes.txt",
                          "limpet rados -p data get notes - | less")},
    {.path = "rados append",
     .run = rados_append,
     .options = rados_object_options,
     .params = object_file_params,
     .summary = "add a file, or standard input, to an object's end"},
    {.path = "rados truncate",
     .run = rados_truncate,
     .options = rados_object_options,
     .summary = "cut an object, or extend it with zeroes",
     .details = "As with Ceph, an object that does not exist is not made, and that is no error.\n",
     .params = PARAMS({.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
                      {.name = "size", .type = CLI_SIZE})},
    {.path = "rados rm",
     .run = rados_rm,
     .options = OPTIONS(OBJECT_OPTIONS, FORCE_FULL_OPTION),
     .summary = "remove objects",
     .params = PARAMS(
         {.name = "object", .type = CLI_TEXT, .many = true, .complete = CLI_COMPLETE_OBJECT})},
    {.path = "rados stat",
     .run = rados_stat,
     .options = rados_object_options,
     .params = object_param,
     .summary = "when an object changed last, and its size"},
    {.path = "rados stat2",
     .run = rados_stat2,
     .options = rados_object_options,
     .params = object_param,
     .summary = "the same, with fractions of a second"},
    {.path = "rados touch",
     .run = rados_touch,
     .options = rados_object_options,
     .summary = "set an object's time of change, to now or to seconds since 1970; makes the object",
     .params = PARAMS({.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
                      {.name = "timestamp", .type = CLI_TEXT, .optional = true})},
    {.path = "rados create",
     .run = rados_create,
     .options = rados_object_options,
     .params = object_param,
     .summary = "make an empty object; it is an error if there is one"},
    {.path = "rados cp",
     .run = rados_cp,
     .options = OPTIONS(OBJECT_OPTIONS, TARGET_OPTIONS),
     .summary = "copy an object, with its attributes and its map",
     .details =
         "The copy is that of one version of the object, and replaces an object of that name. It "
         "is "
         "written as a whole, unless the map is larger than 1 MiB: then readers may see a part of "
         "the map.\n",
     .examples = EXAMPLES("limpet rados -p data cp notes notes.old",
                          "limpet rados -p data cp notes --target-pool archive"),
     .params = PARAMS({.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
                      {.name = "target", .type = CLI_TEXT, .optional = true})},
    {.path = "rados ls",
     .run = rados_ls,
     .options = OPTIONS(POOL_OPTION, PGID_OPTION, NAMESPACE_OPTION, LIST_OPTIONS),
     .summary = "the names of the objects, to standard output or a file",
     .params = PARAMS(
         {.name = "file", .type = CLI_TEXT, .optional = true, .complete = CLI_COMPLETE_FILE})},
    {.path = "rados setxattr",
     .run = rados_setxattr,
     .options = OPTIONS(OBJECT_OPTIONS, INPUT_FILE_OPTION),
     .summary = "set an attribute, to a value or to what standard input holds",
     .params = PARAMS({.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
                      {.name = "attribute", .type = CLI_TEXT},
                      {.name = "value", .type = CLI_TEXT, .optional = true})},
    {.path = "rados getxattr",
     .run = rados_getxattr,
     .options = rados_object_options,
     .params = object_attr_params,
     .summary = "the value of an attribute, as it is"},
    {.path = "rados listxattr",
     .run = rados_listxattr,
     .options = rados_object_options,
     .params = object_param,
     .summary = "the names of an object's attributes"},
    {.path = "rados rmxattr",
     .run = rados_rmxattr,
     .options = rados_object_options,
     .params = object_attr_params,
     .summary = "remove an attribute"},
    {.path = "rados listomapkeys",
     .run = rados_listomapkeys,
     .options = rados_object_options,
     .params = object_param,
     .summary = "the keys of an object's map"},
    {.path = "rados listomapvals",
     .run = rados_listomapvals,
     .options = rados_object_options,
     .params = object_param,
     .summary = "the keys and values of an object's map"},
    {.path = "rados getomapval",
     .run = rados_getomapval,
     .options = OPTIONS(OBJECT_OPTIONS, KEY_FILE_OPTION),
     .summary = "a value of an object's map, shown or written to a file",
     .params = PARAMS(
         {.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
         {.name = "key", .type = CLI_TEXT, .optional = true},
         {.name = "file", .type = CLI_TEXT, .optional = true, .complete = CLI_COMPLETE_FILE})},
    {.path = "rados setomapval",
     .run = rados_setomapval,
     .options = OPTIONS(OBJECT_OPTIONS, KEY_FILE_OPTION, INPUT_FILE_OPTION),
     .summary = "set a value of an object's map, to what is given, a file or standard input",
     .params = PARAMS({.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
                      {.name = "key", .type = CLI_TEXT, .optional = true},
                      {.name = "value", .type = CLI_TEXT, .optional = true})},
    {.path = "rados rmomapkey",
     .run = rados_rmomapkey,
     .options = OPTIONS(OBJECT_OPTIONS, KEY_FILE_OPTION),
     .params = object_key_params,
     .summary = "remove a key of an object's map"},
    {.path = "rados clearomap",
     .run = rados_clearomap,
     .options = rados_object_options,
     .summary = "remove all of the maps of objects, and their headers",
     .params = PARAMS(
         {.name = "object", .type = CLI_TEXT, .many = true, .complete = CLI_COMPLETE_OBJECT})},
    {.path = "rados getomapheader",
     .run = rados_getomapheader,
     .options = rados_object_options,
     .summary = "the header of an object's map, shown or written to a file",
     .params = PARAMS(
         {.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
         {.name = "file", .type = CLI_TEXT, .optional = true, .complete = CLI_COMPLETE_FILE})},
    {.path = "rados setomapheader",
     .run = rados_setomapheader,
     .options = rados_object_options,
     .summary = "set the header of an object's map",
     .params = PARAMS({.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
                      {.name = "value", .type = CLI_TEXT})},
    {.path = "rados set-alloc-hint",
     .run = rados_set_alloc_hint,
     .options = rados_object_options,
     .summary = "say how large an object will be, and its writes; makes the object",
     .params = PARAMS({.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
                      {.name = "expected-object-size", .type = CLI_SIZE},
                      {.name = "expected-write-size", .type = CLI_SIZE})},
    {.path = "rados lock", .options = lock_group_options, .summary = "advisory locks of objects"},
    {.path = "rados lock get",
     .run = rados_lock_get,
     .options = OPTIONS(OBJECT_OPTIONS, LOCK_OPTIONS),
     .params = object_lock_params,
     .summary = "take a lock",
     .details = "The lock belongs to this process, which ends at once: others get it when its time "
                "is over, or by 'lock break'.\n"},
    {.path = "rados lock list",
     .run = rados_lock_list,
     .options = rados_object_options,
     .params = object_param,
     .summary = "the locks of an object, as JSON"},
    {.path = "rados lock info",
     .run = rados_lock_info,
     .options = rados_object_options,
     .params = object_lock_params,
     .summary = "who holds a lock, as JSON"},
    {.path = "rados lock break",
     .run = rados_lock_break,
     .options = OPTIONS(OBJECT_OPTIONS, LOCK_COOKIE_OPTION),
     .summary = "take a lock away from its holder",
     .examples = EXAMPLES("limpet rados -p data lock break image l1 client.3871263"),
     .params = PARAMS({.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
                      {.name = "lock", .type = CLI_TEXT},
                      {.name = "locker", .type = CLI_TEXT, .shown = "client.ID"})},
    {.path = "rados export",
     .run = rados_export,
     .options = OPTIONS(POOL_OPTION),
     .summary = "all objects of a pool, of all namespaces, into a file or to standard output",
     .details = "Each object is that of one moment, all of them are not. docs/export.md tells the "
                "format.\n",
     .examples = EXAMPLES("limpet rados -p data export data.export",
                          "limpet rados -p data export - | zstd > data.export.zst"),
     .params = PARAMS(
         {.name = "file", .type = CLI_TEXT, .optional = true, .complete = CLI_COMPLETE_FILE})},
    {.path = "rados import",
     .run = rados_import,
     .options = OPTIONS(POOL_OPTION, IMPORT_OPTIONS),
     .summary = "objects that 'export' has written, into a pool",
     .examples = EXAMPLES("limpet rados -p restored import data.export",
                          "zstd -dc data.export.zst | limpet rados -p restored import -"),
     .params = PARAMS({.name = "file", .type = CLI_TEXT, .complete = CLI_COMPLETE_FILE})},
    {.path = "rados cppool",
     .run = rados_cppool,
     .options = OPTIONS(POOL_OPTION),
     .summary = "copy all objects of a pool, of all namespaces, into another pool",
     .params = PARAMS({.name = "pool", .type = CLI_TEXT, .complete = CLI_COMPLETE_POOL},
                      {.name = "target", .type = CLI_TEXT, .complete = CLI_COMPLETE_POOL})},
    {.path = "rados purge",
     .run = rados_purge,
     .options = OPTIONS(POOL_OPTION, REALLY_OPTION),
     .summary = "remove all objects of a pool, of all namespaces",
     .params = PARAMS({.name = "pool", .type = CLI_TEXT, .complete = CLI_COMPLETE_POOL})},
    {.path = "rados bench",
     .run = rados_bench,
     .options =
         OPTIONS(POOL_OPTION, NAMESPACE_OPTION, BLOCK_SIZE_OPTION, BENCH_OPTIONS, RUN_NAME_OPTION),
     .summary = "how fast objects are written or read, as rados bench measures it",
     .details =
         "write makes new objects, and removes them at the end unless --no-cleanup is given; seq "
         "and rand read those that an earlier write has left, in order or at random.\n"
         "'limpet bench object' has more operations, and tells percentiles.\n",
     .examples =
         EXAMPLES("limpet rados -p data bench 10 write -b 4K -t 32 --no-cleanup",
                  "limpet rados -p data bench 10 rand -t 32", "limpet rados -p data cleanup"),
     .params = PARAMS({.name = "seconds", .type = CLI_NUMBER},
                      {.name = "mode", .type = CLI_TEXT, .choices = "write|seq|rand"})},
    {.path = "rados cleanup",
     .run = rados_cleanup,
     .options = OPTIONS(POOL_OPTION, NAMESPACE_OPTION, RUN_NAME_OPTION, PREFIX_OPTION,
                        {.name = "concurrent-ios",
                         .letter = 't',
                         .type = CLI_NUMBER,
                         .value = "N",
                         .help = "requests at a time (default: 16)"}),
     .summary = "remove what bench has left"},
    {.path = "rados watch",
     .run = run_watch,
     .options = OPTIONS(POOL_OPTION, NAMESPACE_OPTION, WATCH_TIMEOUT_OPTION),
     .summary = "print notifies of an object, until enter is pressed",
     .params = object_param},
    {.path = "rados notify",
     .run = run_notify,
     .options = OPTIONS(POOL_OPTION, NAMESPACE_OPTION, WATCH_TIMEOUT_OPTION),
     .summary = "tell an object's watchers something, and print their answers",
     .params = PARAMS({.name = "object", .type = CLI_TEXT, .complete = CLI_COMPLETE_OBJECT},
                      {.name = "message", .type = CLI_TEXT})},
    {.path = "rados listwatchers",
     .run = run_listwatchers,
     .options = rados_object_options,
     .summary = "who watches an object, or holds a lease of it",
     .params = object_param},
    {.path = "rados df",
     .run = rados_df,
     .options = OPTIONS(POOL_OPTION),
     .summary = "objects and space of the pools, or of one"},
    {.path = "rados lspools",
     .run = rados_lspools,
     .options = OPTIONS(POOL_OPTION),
     .summary = "the names of the pools"},
    {.path = "rados list-inconsistent-pg",
     .run = run_list_inconsistent_pg,
     .options = OPTIONS(POOL_OPTION),
     .summary = "the placement groups of a pool that have inconsistent objects, as JSON",
     .params = PARAMS({.name = "pool", .type = CLI_TEXT, .complete = CLI_COMPLETE_POOL})},
    {.path = "rados list-inconsistent-obj",
     .run = run_list_inconsistent_obj,
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
    {.path = "rados list-inconsistent-snapset",
     .run = run_list_inconsistent_snapset,
     .options = OPTIONS(POOL_OPTION),
     .summary = "what is kept for snapshots of a placement group's objects, and not by all copies",
     .details = "Tells of what the last scrub found and could not repair; 'list-inconsistent-obj' "
                "tells more of it.\n",
     .params = PARAMS({.name = "pgid", .type = CLI_TEXT})},
    {.path = NULL, .next_table = cli_commands_snap},
};
