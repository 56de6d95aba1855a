/*
 * Completions: a small script for each shell, which asks the program itself what may stand in the
 * place of the word at the cursor (limpet __complete WORD...). So the table is the only place that
 * knows. The names rados and ceph are completed where they are links to the program.
 */
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"

static const char bash_script[] =
    "_limpet() {\n"
    "    local line\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        case $line in\n"
    "        @file) compopt -o default; COMPREPLY=(); return ;;\n"
    "        *) COMPREPLY+=(\"${line%%$'\\t'*}\") ;;\n"
    "        esac\n"
    "    done < <(\"${COMP_WORDS[0]}\" __complete -- "
    "\"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
    "}\n"
    "complete -F _limpet limpet\n"
    "for _limpet_name in rados rbd ceph; do\n"
    "    [[ $(readlink -f \"$(type -P \"$_limpet_name\")\") == */limpet ]] &&\n"
    "        complete -F _limpet \"$_limpet_name\"\n"
    "done\n"
    "unset _limpet_name\n";

static const char zsh_script[] =
    "#compdef limpet\n"
    "_limpet() {\n"
    "    local -a choices\n"
    "    local line\n"
    "    while IFS= read -r line; do\n"
    "        if [[ $line == @file ]]; then _files; return; fi\n"
    "        choices+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\")\n"
    "    done < <($words[1] __complete -- \"${(@)words[2,$CURRENT]}\" 2>/dev/null)\n"
    "    _describe limpet choices\n"
    "}\n"
    "compdef _limpet limpet\n"
    "[[ ${commands[rados]:A:t} == limpet ]] && compdef _limpet rados\n"
    "[[ ${commands[rbd]:A:t} == limpet ]] && compdef _limpet rbd\n"
    "[[ ${commands[ceph]:A:t} == limpet ]] && compdef _limpet ceph\n"
    "true\n";

static const char fish_script[] =
    "function __limpet_complete\n"
    "    set -l words (commandline -opc)\n"
    "    for line in ($words[1] __complete -- $words[2..-1] (commandline -ct) 2>/dev/null)\n"
    "        if test \"$line\" = @file\n"
    "            __fish_complete_path (commandline -ct)\n"
    "        else\n"
    "            echo $line\n"
    "        end\n"
    "    end\n"
    "end\n"
    "complete -c limpet -f -a '(__limpet_complete)'\n"
    "for name in rados rbd ceph\n"
    "    if string match -q '*/limpet' -- (realpath (command -s $name) 2>/dev/null)\n"
    "        complete -c $name -f -a '(__limpet_complete)'\n"
    "    end\n"
    "end\n";

int run_completion(struct cli *cli)
{
    const char *shell = cli->words[0];
    if (strcmp(shell, "bash") == 0)
        fputs(bash_script, stdout);
    else if (strcmp(shell, "zsh") == 0)
        fputs(zsh_script, stdout);
    else if (strcmp(shell, "fish") == 0)
        fputs(fish_script, stdout);
    else
        fail(22, "'%s' is none of bash, zsh and fish", shell);
    return 0;
}

/* ---- What may stand there ---- */

/* A choice with its explanation, if it begins with what was typed. */
static void offer(const char *typed, const char *choice, const char *explanation)
{
    if (strncmp(choice, typed, strlen(typed)) == 0)
        printf("%s\t%s\n", choice, explanation != NULL ? explanation : "");
}

static void offer_choices(const char *typed, const char *choices)
{
    char text[256];
    snprintf(text, sizeof text, "%s", choices);
    char *save = NULL;
    for (char *one = strtok_r(text, "|", &save); one != NULL; one = strtok_r(NULL, "|", &save))
        offer(typed, one, "");
}

static void offer_options(const char *typed, const struct cli_option *options)
{
    for (const struct cli_option *o = options; o != NULL && o->name != NULL; o++) {
        char text[80];
        snprintf(text, sizeof text, "--%s", o->name);
        if (!o->hidden)
            offer(typed, text, o->help);
    }
}

/* What comes from the cluster is asked for only when it answers soon. */
static bool connects(struct cli *cli)
{
    return limpet_cluster_create(&cli->cluster, NULL) == 0 &&
           limpet_cluster_config_file(cli->cluster, NULL) == 0 &&
           limpet_cluster_config_set(cli->cluster, "connect_timeout", "1s") == 0 &&
           limpet_cluster_config_set(cli->cluster, "rados_osd_op_timeout", "2s") == 0 &&
           limpet_cluster_connect(cli->cluster) == 0;
}

static void offer_pools(struct cli *cli, const char *typed)
{
    struct limpet_pool_entry *pools;
    size_t n;
    if (!connects(cli) || limpet_pool_list(cli->cluster, &pools, &n) != 0)
        return;
    for (size_t i = 0; i < n; i++)
        offer(typed, pools[i].name, "pool");
    limpet_free(pools);
}

static bool is_printable(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            return false;
    }
    return true;
}

/* Listings are in no order that would help: of large pools only some objects are offered. */
static void offer_objects(struct cli *cli, const char *typed, const char *pool_name)
{
    enum { SEEN_MAX = 10000, OFFERED_MAX = 200 };
    struct limpet_pool *pool;
    struct limpet_list *list;
    struct limpet_list_entry entry;
    size_t seen = 0, offered = 0, len = strlen(typed);
    if (pool_name == NULL || !connects(cli) ||
        limpet_pool_open(cli->cluster, pool_name, &pool) != 0)
        return;
    if (limpet_list_open(pool, false, &list) == 0) {
        while (seen++ < SEEN_MAX && offered < OFFERED_MAX && limpet_list_next(list, &entry) == 0) {
            if (strncmp(entry.name, typed, len) != 0 || !is_printable(entry.name, entry.name_len))
                continue;
            offer(typed, entry.name, "object");
            offered++;
        }
        limpet_list_close(list);
    }
    limpet_pool_close(pool);
}

static void offer_value(struct cli *cli, const char *typed, enum cli_complete complete,
                        const char *choices, const char *pool)
{
    if (choices != NULL)
        offer_choices(typed, choices);
    else if (complete == CLI_COMPLETE_FILE)
        printf("@file\n");
    else if (complete == CLI_COMPLETE_POOL)
        offer_pools(cli, typed);
    else if (complete == CLI_COMPLETE_OBJECT)
        offer_objects(cli, typed, pool);
}

static const struct cli_option *find(const struct cli_option *options, const char *word)
{
    for (const struct cli_option *o = options; o != NULL && o->name != NULL; o++) {
        if (strncmp(word, "--", 2) == 0 ? strcmp(word + 2, o->name) == 0
                                        : word[1] == o->letter && word[2] == 0)
            return o;
    }
    return NULL;
}

/* The words of a command that stand before the cursor, without options. */
struct context {
    char path[128];
    const struct cli_command *command;
    int n_arguments;
    const struct cli_option
        *awaits;      /* An option that the last word was, and whose value is next. */
    const char *pool; /* Of --pool. */
};

static void add_word(struct context *context, const char *word)
{
    char longer[256];
    snprintf(longer, sizeof longer, "%s%s%.100s", context->path, context->path[0] ? " " : "", word);
    const struct cli_command *found = cli_command_find(longer);
    if (found != NULL && context->n_arguments == 0) {
        context->command = found;
        snprintf(context->path, sizeof context->path, "%.127s", longer);
    } else {
        context->n_arguments++;
    }
}

static void read_context(const struct cli *cli, struct context *context)
{
    for (int i = 0; i + 1 < cli->n_words; i++) {
        const char *word = cli->words[i];
        if (context->awaits != NULL) {
            if (context->awaits->complete == CLI_COMPLETE_POOL && context->awaits->letter == 'p')
                context->pool = word;
            context->awaits = NULL;
            continue;
        }
        if (word[0] != '-' || word[1] == 0) {
            add_word(context, word);
            continue;
        }
        const struct cli_option *option =
            find(context->command != NULL ? context->command->options : NULL, word);
        if (option == NULL)
            option = find(cli_global_options, word);
        context->awaits = option != NULL && option->type != CLI_FLAG ? option : NULL;
    }
}

static void offer_commands(const char *typed, const char *path)
{
    size_t len = strlen(path);
    const char *last = "";
    size_t last_len = 0;
    for (const struct cli_command *c = cli_command_next(NULL); c != NULL; c = cli_command_next(c)) {
        bool below = len == 0 || (strncmp(c->path, path, len) == 0 && c->path[len] == ' ');
        if (c->hidden || !below)
            continue;
        const char *word = c->path + len + (len > 0);
        size_t word_len = strcspn(word, " ");
        /* Commands of a group stand together; its first word is offered once. */
        if (word_len == last_len && strncmp(word, last, word_len) == 0)
            continue;
        char text[64];
        snprintf(text, sizeof text, "%.*s", (int)word_len, word);
        offer(typed, text, c->summary);
        last = word;
        last_len = word_len;
    }
}

static void offer_argument(struct cli *cli, const char *typed, const struct context *context)
{
    int at = 0;
    for (const struct cli_param *p = context->command->params; p != NULL && p->name != NULL; p++) {
        if (at++ == context->n_arguments || p->many) {
            offer_value(cli, typed, p->complete, p->choices, context->pool);
            return;
        }
    }
}

int run_complete(struct cli *cli)
{
    struct context context = {0};
    const char *typed = cli->n_words > 0 ? cli->words[cli->n_words - 1] : "";
    /* By that name the verbs stand at once. */
    if (strcmp(cli->program, "rados") == 0 || strcmp(cli->program, "rbd") == 0)
        add_word(&context, cli->program);
    read_context(cli, &context);
    if (context.awaits != NULL) {
        offer_value(cli, typed, context.awaits->complete, context.awaits->choices, NULL);
    } else if (typed[0] == '-') {
        if (context.command != NULL)
            offer_options(typed, context.command->options);
        offer_options(typed, cli_global_options);
    } else if (context.command == NULL || cli_command_is_group(context.command)) {
        offer_commands(typed, context.path);
    } else {
        offer_argument(cli, typed, &context);
    }
    return 0;
}
