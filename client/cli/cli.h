/*
 * The command-line program: what its parts share.
 *
 *   main.c      from argv to a command
 *   parse.c     words and options, by the command table
 *   commands.c, commands_rados.c, commands_snap.c, commands_rbd.c, commands_tools.c ...   the
 * table: the single source of help, completions and man pages; commands.h help.c, completion.c,
 * man.c   what is generated from it remote.c    commands that the monitors execute drain.c waiting
 * until OSDs are empty rados.c, transfer.c   objects: names, contents, listings rados_meta.c their
 * attributes and maps rados_lock.c   their locks rados_snap.c   snapshots rados_copy.c,
 * rados_image.c, rados_stream.c   copies of objects and pools, export, import rados_bench.c  rados
 * bench and cleanup rados.h     what these share rbd.h       block images: rbd_*.c watch.c their
 * watchers, and notifies inconsistent.c   what scrubs found bench.c     measuring keyring.c keyring
 * files store.c     tools of the OSD's program
 *
 * Every failure is one line on standard error, by fail(), and an exit status that is an errno.
 */
#ifndef LIMPET_CLIENT_CLI_CLI_H
#define LIMPET_CLIENT_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/limpet.h"

enum {
    CLI_OPTIONS_MAX = 64,
    CLI_PARAMS_MAX = 6,
    CLI_PATH_WORDS_MAX = 4,
};

/* ---- The command table ---- */

enum cli_type {
    CLI_FLAG, /* An option without a value. */
    CLI_TEXT,
    CLI_NUMBER, /* Unsigned. */
    CLI_SIZE,   /* Bytes, with K, M, G, T (binary). */
    CLI_REAL,
    CLI_SECONDS, /* With ms, s, m, h, d. */
    CLI_PAIR,    /* Two values: --cap SERVICE CAPS. */
};

/* What completion offers for a value. */
enum cli_complete {
    CLI_COMPLETE_NONE,
    CLI_COMPLETE_FILE,
    CLI_COMPLETE_POOL,
    CLI_COMPLETE_OSD,
    CLI_COMPLETE_OBJECT,
    CLI_COMPLETE_ENTITY,
};

struct cli_option {
    const char *name; /* Without "--". */
    char letter;      /* 0: none */
    enum cli_type type;
    const char *value; /* How help names its value. */
    const char *help;
    const char *choices; /* "plain|json": what CLI_TEXT may be; NULL: anything. */
    enum cli_complete complete;
    bool hidden; /* Accepted for old scripts. */
    bool many;   /* May be given again. */
    bool local;  /* Not part of the command to the monitors. */
    bool config; /* An option of the configuration, overridden on the command line. */
};

struct cli_param {
    const char *name; /* The key in the command to the monitors; help shows it in capitals. */
    enum cli_type type;
    bool optional;
    bool many; /* The last one: all further words. */
    const char *choices;
    enum cli_complete complete;
    const char *shown; /* In help, instead of the name. */
};

struct cli;
struct cli_command;

typedef int (*cli_run)(struct cli *cli);

struct cli_command {
    const char *path;  /* "pool create" */
    const char *alias; /* Another path, for those who know Ceph; NULL: none. */
    const char *summary;
    const char *details; /* Further text of help and man page; paragraphs end with newlines. */
    const char *const *examples;    /* Ends with NULL; or NULL. */
    const struct cli_param *params; /* Ends with a name of NULL. */
    const struct cli_option *options;
    cli_run run;        /* NULL: a group, or a command for the monitors. */
    const char *prefix; /* The monitors' name of the command; NULL: it is none of theirs. */
    bool hidden;
    const struct cli_command *next_table; /* Of the end of a table, which has no path. */
};

extern const struct cli_command cli_commands[];
extern const struct cli_option cli_global_options[];

/* The first after NULL; NULL after the last. */
const struct cli_command *cli_command_next(const struct cli_command *after);
const struct cli_command *cli_command_find(const char *path);
/* A group has no command of its own, but other commands begin with its words. */
bool cli_command_is_group(const struct cli_command *command);

/* ---- A run of the program ---- */

enum cli_format { FORMAT_PLAIN, FORMAT_JSON, FORMAT_JSON_PRETTY };

struct cli_value {
    const struct cli_option *option;
    const char *text;
    const char *second; /* Of CLI_PAIR. */
};

struct cli {
    const char *program; /* For messages: "limpet". */
    const struct cli_command *command;
    int n_words; /* Arguments of the command, without its own words. */
    const char **words;
    int n_values;
    struct cli_value values[CLI_OPTIONS_MAX];
    enum cli_format format;
    struct limpet_cluster *cluster; /* NULL until cli_connect(). */
};

/* argv, after the name of the program, into words, options and the command. Exits on mistakes. */
void cli_parse(struct cli *cli, int argc, char **argv);

/* Whether the option was given; its last value; its value or the default when it was not. */
bool cli_has(const struct cli *cli, const char *option);
const char *cli_text(const struct cli *cli, const char *option, const char *otherwise);
/* Exit with a message when the value is not of its type, or out of range. */
uint64_t cli_number(const struct cli *cli, const char *option, uint64_t otherwise, uint64_t min,
                    uint64_t max);
double cli_real(const struct cli *cli, const char *option, double otherwise);
/* Of a word: `what` names it in the message. */
uint64_t cli_parse_number(const struct cli *cli, const char *what, const char *text, bool size,
                          uint64_t min, uint64_t max);

/* Exits with a message on failure. */
void cli_connect(struct cli *cli);
/* The same, but returns when the cluster cannot be reached. */
int cli_try_connect(struct cli *cli);
struct limpet_pool *cli_open_pool(struct cli *cli, const char *name);
/* Connects, and opens the pool of a group, "3.1f", by its number; exits with a message. */
struct limpet_pool *cli_open_pool_of(struct cli *cli, uint64_t number, const char *pgid);
/* "3.1f": the pool's number, and the group's in hexadecimal; exits with a message. */
void cli_parse_pgid(const char *text, uint64_t *pool, uint32_t *group);
/* Ends the connection; safe to call at any time. */
void cli_disconnect(struct cli *cli);

/* ---- Messages ---- */

/*
 * One line on standard error, "limpet: " and the text; exits with the errno's status. Files that
 * are half written are removed before (cli_cleanup_set).
 */
_Noreturn void fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same without leaving. Returns the exit status. */
int complain(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "(2) No such file or directory": static memory. */
const char *error_phrase(int error);
/* A file to be removed when the program ends by fail() or a signal; NULL: none any more. */
void cli_cleanup_set(const char *path);

/* The nearest of the candidates to a mistyped word, or NULL. Candidates end with NULL. */
const char *cli_nearest(const char *word, const char *const *candidates);

/* ---- Output ---- */

/* Standard output was written in full; otherwise exits with a message. */
void cli_flush(struct cli *cli);
void cli_print_json(struct cli *cli, const json_t *value);
/* "10 MiB", "1.5 GiB"; static memory, four in turn. */
const char *size_text(uint64_t bytes);

struct table;
/* Columns are as wide as their widest cell; right: letters l or r, one a column. */
struct table *table_create(const char *alignment);
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_end_row(struct table *table);
void table_print(struct table *table, const char *indent);
/* As Ceph's programs do: the first row is titles, to the left; cells are filled with spaces. */
void table_print_titled(struct table *table);
void table_destroy(struct table *table);

/* Progress of a long transfer, on standard error when it is a terminal. */
struct progress {
    const char *verb;
    const char *what;
    uint64_t total; /* 0: unknown */
    bool enabled;
    bool shown;
    double begun;
    double last_shown;
};
void progress_begin(struct progress *progress, const char *verb, const char *what, uint64_t total);
void progress_update(struct progress *progress, uint64_t bytes);
void progress_end(struct progress *progress);
double monotonic_seconds(void);

/* ---- Commands to the monitors (remote.c) ---- */

/* The command as the table and the command line say. */
int remote_run(struct cli *cli);
/* Runs any command with format json; exits on failure. The caller decrefs. */
json_t *remote_call(struct cli *cli, const char *prefix, json_t *arguments);

/* Names may hold any byte, JSON may not: other names are given in hexadecimal. */
json_t *name_json(const char *name, size_t len);

/* Accessors that take anything for an answer. */
const char *json_text(const json_t *object, const char *key);
uint64_t json_number(const json_t *object, const char *key);
double json_fraction(const json_t *object, const char *key);

/* ---- Commands ---- */

int run_help(struct cli *cli);
int run_version(struct cli *cli);
int run_completion(struct cli *cli);
int run_complete(struct cli *cli);
int run_man(struct cli *cli);
int run_fsid(struct cli *cli);
int run_raw_command(struct cli *cli);
int run_pool_rm(struct cli *cli);
int run_osd_drain(struct cli *cli);
int run_keyring_create(struct cli *cli);
int run_keyring_list(struct cli *cli);
int run_watch(struct cli *cli);
int run_notify(struct cli *cli);
int run_listwatchers(struct cli *cli);
int run_list_inconsistent_obj(struct cli *cli);
int run_list_inconsistent_snapset(struct cli *cli);
int run_list_inconsistent_pg(struct cli *cli);
int run_store(struct cli *cli);
int run_bench_object(struct cli *cli);

/* For help of one command or group, and of everything. */
void help_command(const struct cli_command *command);
void help_overview(void);
/* "limpet pool create POOL [PG_NUM] [options]" */
void usage_line(const struct cli_command *command, char *text, size_t size);

/* Objects between files and the cluster (transfer.c). */
int transfer_put(struct cli *cli, struct limpet_pool *pool, const char *object, const char *path,
                 bool has_offset, uint64_t offset);
int transfer_append(struct cli *cli, struct limpet_pool *pool, const char *object,
                    const char *path);
int transfer_get(struct cli *cli, struct limpet_pool *pool, const char *object, const char *path,
                 uint64_t block_size);

#endif
