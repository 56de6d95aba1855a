#include "common/daemon.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/daemon_private.h"
#include "common/log.h"
#include "common/options.h"
#include "common/version.h"

enum { ARGUMENTS_MAX = 256 };

/* An option of the command line; value NULL for those that have none. */
struct argument {
    const char *name;
    const char *value;
};

struct arguments {
    size_t n;
    struct argument list[ARGUMENTS_MAX];
    char *copies[ARGUMENTS_MAX]; /* Of arguments that were cut at their '='. */
    size_t n_copies;
};

static const struct {
    const char *short_name;
    const char *name;
    bool has_value;
    const char *value_name;
    const char *meaning;
} plain_options[] = {
    {"-c", "conf", true, "FILE", "configuration file (default: LIMPET_CONF, /etc/limpet/...)"},
    {"-i", "id", true, "ID", "which one: a, b ... of monitors; 0, 1 ... of OSDs"},
    {"-n", "name", true, "TYPE.ID", "the same with its type"},
    {NULL, "data", true, "DIR", "data folder (option mon_data, osd_data)"},
    {NULL, "mkfs", false, "", "make the data folder's contents and exit"},
    {NULL, "daemonize", false, "", "go to the background; returns when the daemon serves"},
    {"-f", "foreground", false, "", "stay in the foreground (the default)"},
    {"-h", "help", false, "", "this text"},
    {NULL, "options", false, "", "print all options of the configuration, as a table"},
    {"-V", "version", false, "", "print the version"},
};
enum { N_PLAIN_OPTIONS = sizeof plain_options / sizeof plain_options[0] };

/* ---- Command line ---- */

static _Noreturn void print_help(const struct daemon_program *program)
{
    printf("usage: %s --id ID [--conf FILE] [OPTIONS]\n\n%s\n\n", program->name,
           program->description);
    for (size_t i = 0; i < N_PLAIN_OPTIONS; i++) {
        const char *short_name = plain_options[i].short_name;
        printf("  %2s%s --%s %-*s %s\n", short_name != NULL ? short_name : "",
               short_name != NULL ? "," : " ", plain_options[i].name,
               (int)(16 - strlen(plain_options[i].name)), plain_options[i].value_name,
               plain_options[i].meaning);
    }
    printf("\nEvery option of the configuration file can be given as --NAME VALUE, such as\n"
           "--keyring FILE, --pid-file FILE, --log-file FILE.\n");
    exit(0);
}

static _Noreturn void die_usage(const char *what, const char *argument)
{
    die_because(EINVAL, "%s %s; --help lists the options", what, argument);
}

/* The index among plain_options of "-c", "--conf" or "conf"; N_PLAIN_OPTIONS: none. */
static size_t find_plain(const char *text)
{
    size_t i = 0;
    for (; i < N_PLAIN_OPTIONS; i++) {
        const char *short_name = plain_options[i].short_name;
        if (short_name != NULL && strcmp(text, short_name) == 0)
            break;
        if (strncmp(text, "--", 2) == 0 && strcmp(text + 2, plain_options[i].name) == 0)
            break;
    }
    return i;
}

/* One argument, whose value may be inside it ("--conf=x") or the next one. */
static int take_argument(struct arguments *args, char **argv, int left)
{
    char *text = argv[0];
    char *equals = strncmp(text, "--", 2) == 0 ? strchr(text, '=') : NULL;
    const char *value = NULL;
    if (args->n == ARGUMENTS_MAX)
        die(E2BIG, "too many options");
    if (equals != NULL) {
        text = strndup(text, (size_t)(equals - text));
        if (text == NULL)
            die(ENOMEM, "the command line");
        args->copies[args->n_copies++] = text;
        value = equals + 1;
    }
    size_t plain = find_plain(text);
    bool known = plain < N_PLAIN_OPTIONS;
    if (!known && (strncmp(text, "--", 2) != 0 || option_find(text + 2) == NULL))
        die_usage("unknown option", argv[0]);
    bool wants_value = !known || plain_options[plain].has_value;
    if (!wants_value && value != NULL)
        die_usage("no value belongs to", text);
    int used = 1;
    if (wants_value && value == NULL) {
        if (left < 2)
            die_usage("a value is missing after", text);
        value = argv[1];
        used = 2;
    }
    args->list[args->n++] = (struct argument){
        .name = known ? plain_options[plain].name : text + 2,
        .value = value,
    };
    return used;
}

static const char *argument_value(const struct arguments *args, const char *name)
{
    const char *value = NULL;
    for (size_t i = 0; i < args->n; i++) {
        if (strcmp(args->list[i].name, name) == 0)
            value = args->list[i].value != NULL ? args->list[i].value : "";
    }
    return value;
}

static void parse_arguments(struct arguments *args, const struct daemon_program *program, int argc,
                            char **argv)
{
    for (int i = 1; i < argc;)
        i += take_argument(args, argv + i, argc - i);
    if (argument_value(args, "help") != NULL)
        print_help(program);
    if (argument_value(args, "options") != NULL) {
        options_print(stdout);
        exit(0);
    }
    if (argument_value(args, "version") != NULL) {
        printf("%s %s\n", program->name, limpet_version_text());
        exit(0);
    }
}

static void free_arguments(struct arguments *args)
{
    for (size_t i = 0; i < args->n_copies; i++)
        free(args->copies[i]);
}

/* ---- Who we are, and what we are told ---- */

static void find_self(struct daemon *daemon, const struct arguments *args)
{
    const struct daemon_program *program = daemon->program;
    const char *type = program->type == ENTITY_MON ? "mon" : "osd";
    char text[ENTITY_TEXT_MAX];
    const char *id = argument_value(args, "id");
    const char *name = argument_value(args, "name");
    if (id == NULL && name == NULL)
        die_because(EINVAL, "--id is missing: say which one this is, such as --id %s",
                    program->type == ENTITY_MON ? "a" : "0");
    if (id != NULL) {
        int n = snprintf(text, sizeof text, "%s.%s", type, id);
        name = n > 0 && (size_t)n < sizeof text ? text : "";
    }
    if (entity_parse(name, &daemon->self) != 0 || daemon->self.type != program->type ||
        daemon->self.id[0] == '\0')
        die_because(EINVAL, "\"%s\" does not name %s", id != NULL ? id : name,
                    program->type == ENTITY_MON ? "a monitor" : "an OSD");
    if (program->type == ENTITY_OSD && entity_osd_id(&daemon->self) < 0)
        die_because(EINVAL, "the ID of an OSD is a number, not \"%s\"", daemon->self.id);
}

static void load_config(struct daemon *daemon, const struct arguments *args)
{
    char why[256];
    daemon->config = config_create(&daemon->self);
    if (daemon->config == NULL)
        die(ENOMEM, "the configuration");
    int rc = config_load(daemon->config, argument_value(args, "conf"), why);
    if (rc != 0)
        die_because(rc, "%s", why);
    for (size_t i = 0; i < args->n; i++) {
        const char *name = args->list[i].name;
        if (strcmp(name, "data") == 0)
            name = daemon->program->data_option;
        if (option_find(name) == NULL || args->list[i].value == NULL)
            continue;
        rc = config_set(daemon->config, name, args->list[i].value);
        if (rc != 0)
            die(rc, "--%s", name);
    }
    rc = config_check(daemon->config, why);
    if (rc != 0)
        die_because(rc, "%s", why);
}

/* A running OSD and a new monitor need keys; a monitor that runs has them in its data. */
static void load_keyring(struct daemon *daemon)
{
    char why[256];
    bool osd = daemon->program->type == ENTITY_OSD;
    bool needed = osd ? !daemon->mkfs : daemon->mkfs;
    const char *paths = config_get(daemon->config, "keyring");
    keyring_init(&daemon->keyring);
    int rc = keyring_load(&daemon->keyring, paths != NULL ? paths : "", why);
    if (rc == -ENOENT && !needed)
        return;
    if (rc != 0)
        die_because(rc, "%s", why);
    struct entity_name name = daemon->self;
    if (!osd)
        memset(name.id, 0, sizeof name.id);
    char text[ENTITY_TEXT_MAX];
    if (needed && keyring_find(&daemon->keyring, &name) == NULL)
        die_because(ENOENT, "the keyring %.200s has no key for %s", paths,
                    entity_format(&name, text));
}

/* ---- Paths ---- */

/* Absolute, so that they mean the same after leaving the current folder. Empty stays empty. */
static void absolute_path(const char *path, char out[DAEMON_PATH_MAX])
{
    out[0] = '\0';
    if (path == NULL || path[0] == '\0')
        return;
    char folder[DAEMON_PATH_MAX] = "";
    if (path[0] != '/' && getcwd(folder, sizeof folder) == NULL)
        die(errno, "the current folder");
    int n = snprintf(out, DAEMON_PATH_MAX, "%s%s%s", folder, path[0] != '/' ? "/" : "", path);
    if (n < 0 || n >= DAEMON_PATH_MAX)
        die(ENAMETOOLONG, "%.200s...", path);
}

static void find_paths(struct daemon *daemon)
{
    const char *data = config_get(daemon->config, daemon->program->data_option);
    absolute_path(data, daemon->data_dir);
    absolute_path(config_get(daemon->config, "log_file"), daemon->log_file);
    absolute_path(config_get(daemon->config, "pid_file"), daemon->pid_file);
    if (daemon->data_dir[0] == '\0')
        die_because(EINVAL, "the option %s is empty", daemon->program->data_option);
    if (daemon->mkfs && mkdir(daemon->data_dir, 0700) != 0 && errno != EEXIST)
        die(errno, "%s", daemon->data_dir);
    struct stat st;
    if (stat(daemon->data_dir, &st) != 0) {
        if (errno == ENOENT)
            die_because(ENOENT, "the data folder %s does not exist; --mkfs makes one",
                        daemon->data_dir);
        die(errno, "%s", daemon->data_dir);
    }
    if (!S_ISDIR(st.st_mode))
        die(ENOTDIR, "%s", daemon->data_dir);
}

void daemon_env_options(struct daemon *daemon, struct env_real_options *out)
{
    char why[256];
    *out = (struct env_real_options){.data_dir = daemon->data_dir, .mode = NET_MODE_INTEGRITY};
    const char *mode = config_get(daemon->config, "ms_mode");
    if (mode != NULL && strcmp(mode, "encrypted") == 0)
        out->mode = NET_MODE_ENCRYPTED;
    int rc = config_get_u64(daemon->config, "ms_receive_limit", &out->receive_limit, why);
    if (rc != 0)
        die_because(rc, "%s", why);
}

void daemon_start(struct daemon *daemon, const struct daemon_program *program, int argc,
                  char **argv)
{
    static struct arguments args;
    *daemon = (struct daemon){.program = program, .ready_fd = -1, .data_lock_fd = -1};
    args = (struct arguments){0};
    daemon_process_name(program->name);
    signal(SIGPIPE, SIG_IGN);
    umask(027);
    if (sodium_init() < 0)
        die_because(EIO, "the cryptography of libsodium cannot be initialized");
    parse_arguments(&args, program, argc, argv);
    daemon->mkfs = argument_value(&args, "mkfs") != NULL;
    daemon->daemonize = argument_value(&args, "daemonize") != NULL;
    if (daemon->mkfs && daemon->daemonize)
        die_because(EINVAL, "--mkfs and --daemonize exclude each other");
    find_self(daemon, &args);
    load_config(daemon, &args);
    free_arguments(&args);
    load_keyring(daemon);
    find_paths(daemon);
    char name[ENTITY_TEXT_MAX];
    log_set_name(entity_format(&daemon->self, name));
    daemon_process_raise_limits();
    if (daemon->daemonize)
        daemon_process_fork(daemon);
    /* Of the process that stays, hence after the fork. */
    daemon_process_lock_data(daemon);
    daemon_process_open_log(daemon);
    if (!daemon->mkfs)
        daemon_process_write_pid(daemon);
}
