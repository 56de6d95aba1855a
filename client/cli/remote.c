/*
 * Commands that the monitors execute: built from the table and the command line, answered by the
 * monitors in the format that was asked for.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/cli.h"
#include "common/config_private.h"

static json_t *typed(const struct cli *cli, const char *what, enum cli_type type, const char *text)
{
    char *end;
    switch (type) {
    case CLI_FLAG:
        return json_true();
    case CLI_NUMBER:
        return json_integer((json_int_t)cli_parse_number(cli, what, text, false, 0, INT64_MAX));
    case CLI_SIZE:
        return json_integer((json_int_t)cli_parse_number(cli, what, text, true, 0, INT64_MAX));
    case CLI_REAL: {
        double value = strtod(text, &end);
        if (end == text || *end != 0 || !(value >= 0))
            fail(EINVAL, "%s: '%s' is not a number", what, text);
        return json_real(value);
    }
    default:
        break;
    }
    json_t *string = json_string(text);
    if (string == NULL)
        fail(EILSEQ, "%s: '%s' is not UTF-8", what, text);
    return string;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t len = strlen(text);
    for (const char *at = choices; at != NULL; at = strchr(at, '|'), at += at != NULL) {
        if (strncmp(at, text, len) == 0 && (at[len] == 0 || at[len] == '|'))
            return true;
    }
    return false;
}

static void add_words(const struct cli *cli, json_t *command)
{
    int at = 0;
    for (const struct cli_param *p = cli->command->params; p != NULL && p->name != NULL; p++) {
        json_t *list = p->many ? json_array() : NULL;
        while (at < cli->n_words) {
            const char *word = cli->words[at++];
            if (p->choices != NULL && !is_choice(p->choices, word))
                fail(EINVAL, "'%s' is none of %s", word, p->choices);
            /* An OSD is "3" to the monitors, and may be "osd.3" to people. */
            if (p->complete == CLI_COMPLETE_OSD && strncmp(word, "osd.", 4) == 0)
                word += 4;
            json_t *value = typed(cli, p->name, p->type, word);
            if (list == NULL) {
                json_object_set_new(command, p->name, value);
                break;
            }
            json_array_append_new(list, value);
        }
        if (list != NULL && json_array_size(list) > 0)
            json_object_set_new(command, p->name, list);
        else
            json_decref(list);
    }
}

/* --pg-num 8 is "pg_num": 8. */
static void add_options(const struct cli *cli, json_t *command)
{
    for (int i = 0; i < cli->n_values; i++) {
        const struct cli_value *value = &cli->values[i];
        const struct cli_option *known = cli->command->options;
        while (known != NULL && known->name != NULL && known != value->option)
            known++;
        if (known == NULL || known->name == NULL || known->local)
            continue;
        char key[64], what[72];
        snprintf(what, sizeof what, "--%s", known->name);
        snprintf(key, sizeof key, "%s", known->name);
        for (char *c = key; *c != 0; c++) {
            if (*c == '-')
                *c = '_';
        }
        json_object_set_new(command, key, typed(cli, what, known->type, value->text));
    }
}

static uint64_t option_ns(struct cli *cli, const char *option)
{
    char text[64];
    uint64_t ns;
    if (limpet_cluster_config_get(cli->cluster, option, text, sizeof text) != 0 ||
        config_parse_duration(text, &ns) != 0)
        return 0;
    return ns;
}

/* A person waits no longer for a leader than for a monitor, unless he says so. 0: the library's. */
static uint32_t patience_ms(struct cli *cli)
{
    if (option_ns(cli, "rados_mon_op_timeout") > 0)
        return 0;
    uint64_t ms = option_ns(cli, "connect_timeout") / 1000000;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

/* Sends it; prints what the monitors say. Returns the exit status. */
static int execute(struct cli *cli, const json_t *command)
{
    char *json = json_dumps(command, JSON_COMPACT);
    if (json == NULL)
        fail(ENOMEM, "out of memory");
    char *output = NULL, *status = NULL;
    size_t len = 0;
    int rc = limpet_command(cli->cluster, json, NULL, 0, patience_ms(cli), &output, &len, &status);
    free(json);
    if (len > 0) {
        fwrite(output, 1, len, stdout);
        if (output[len - 1] != '\n')
            putchar('\n');
    } else if (rc == 0 && status != NULL && status[0] != 0 && cli->format == FORMAT_PLAIN) {
        fprintf(stderr, "%s\n", status);
    }
    int code = 0;
    if (rc != 0)
        code = complain(rc, "%s", limpet_cluster_error(cli->cluster));
    limpet_free(output);
    limpet_free(status);
    return code;
}

static const char *format_name(const struct cli *cli)
{
    return cli->format == FORMAT_PLAIN  ? "plain"
           : cli->format == FORMAT_JSON ? "json"
                                        : "json-pretty";
}

static volatile sig_atomic_t watch_over;

static void end_watch(int number)
{
    (void)number;
    watch_over = 1;
}

/* The same again every few seconds, as watch(1) does it, until interrupted. */
static int watch(struct cli *cli, const json_t *command)
{
    double interval = cli_real(cli, "watch", 2);
    if (interval < 0.1)
        fail(EINVAL, "--watch: at least 0.1 seconds");
    struct sigaction action = {.sa_handler = end_watch, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    int code = 0;
    while (!watch_over && code == 0) {
        printf("\033[H\033[2J");
        code = execute(cli, command);
        fflush(stdout);
        struct timespec pause = {.tv_sec = (time_t)interval,
                                 .tv_nsec = (long)((interval - (double)(time_t)interval) * 1e9)};
        if (!watch_over && code == 0)
            nanosleep(&pause, NULL);
    }
    return code;
}

int remote_run(struct cli *cli)
{
    json_t *command =
        json_pack("{s:s, s:s}", "prefix", cli->command->prefix, "format", format_name(cli));
    if (command == NULL)
        fail(ENOMEM, "out of memory");
    add_words(cli, command);
    add_options(cli, command);
    cli_connect(cli);
    int code = cli_has(cli, "watch") ? watch(cli, command) : execute(cli, command);
    json_decref(command);
    return code;
}

json_t *remote_call(struct cli *cli, const char *prefix, json_t *arguments)
{
    json_t *command = arguments != NULL ? arguments : json_object();
    json_object_set_new(command, "prefix", json_string(prefix));
    json_object_set_new(command, "format", json_string("json"));
    char *json = json_dumps(command, JSON_COMPACT);
    json_decref(command);
    if (json == NULL)
        fail(ENOMEM, "out of memory");
    char *output = NULL;
    size_t len = 0;
    int rc = limpet_command(cli->cluster, json, NULL, 0, patience_ms(cli), &output, &len, NULL);
    free(json);
    if (rc != 0)
        fail(rc, "%s", limpet_cluster_error(cli->cluster));
    /* What only changes something has nothing to say but its status. */
    json_t *answer = len == 0 ? json_object() : json_loadb(output, len, 0, NULL);
    limpet_free(output);
    if (answer == NULL)
        fail(EPROTO, "'%s': the monitors' answer is no JSON", prefix);
    return answer;
}

/* Deleting a pool cannot be taken back: without the flag nothing is sent. */
int run_pool_rm(struct cli *cli)
{
    const char *name = cli->words[0];
    if (!cli_has(cli, "yes-i-really-really-mean-it"))
        return complain(EPERM,
                        "this deletes pool %s with all its objects for ever; if that is meant: "
                        "limpet pool rm %s --yes-i-really-really-mean-it",
                        name, name);
    /* To the monitors it is no error: a command may reach them twice. A person should know. */
    cli_connect(cli);
    limpet_pool_close(cli_open_pool(cli, name));
    /* They want the name twice; for us the flag is enough. */
    static const char *twice[3];
    twice[0] = name;
    twice[1] = cli->n_words > 1 ? cli->words[1] : name;
    const char **words = cli->words;
    cli->words = twice;
    cli->n_words = 2;
    int code = remote_run(cli);
    cli->words = words;
    return code;
}

/* For tests and for commands that this program does not know: any JSON. */
int run_raw_command(struct cli *cli)
{
    json_error_t error;
    json_t *command = json_loads(cli->words[0], 0, &error);
    if (!json_is_object(command))
        fail(EINVAL, "'%s' is no JSON object such as {\"prefix\": \"status\"}", cli->words[0]);
    if (json_object_get(command, "format") == NULL)
        json_object_set_new(command, "format", json_string(format_name(cli)));
    cli_connect(cli);
    int code = execute(cli, command);
    json_decref(command);
    return code;
}

int run_fsid(struct cli *cli)
{
    char fsid[37];
    cli_connect(cli);
    int rc = limpet_cluster_fsid(cli->cluster, fsid);
    if (rc != 0)
        fail(rc, "fsid: %s", error_phrase(rc));
    if (cli->format == FORMAT_PLAIN) {
        printf("%s\n", fsid);
        return 0;
    }
    json_t *json = json_pack("{s:s}", "fsid", fsid);
    cli_print_json(cli, json);
    json_decref(json);
    return 0;
}
