#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"

static void upper(const char *text, char *out, size_t size)
{
    size_t i = 0;
    for (; text[i] != 0 && i + 1 < size; i++)
        out[i] = (char)toupper((unsigned char)text[i]);
    out[i] = 0;
}

static void append(char *text, size_t size, const char *format, const char *word)
{
    size_t len = strlen(text);
    if (len < size)
        snprintf(text + len, size - len, format, word);
}

/* Of a verb of rados: it does not name its pools otherwise. */
static bool needs_pool(const char *verb)
{
    static const char *const others[] = {
        "lspools", "df", "cppool", "purge", "list-inconsistent-pg", "list-inconsistent-obj"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strcmp(verb, others[i]) == 0)
            return false;
    }
    return true;
}

void usage_line(const struct cli_command *c, char *text, size_t size)
{
    snprintf(text, size, "limpet %s", c->path);
    if (strncmp(c->path, "rados ", 6) == 0 && needs_pool(c->path + 6))
        snprintf(text, size, "limpet rados -p POOL %s", c->path + 6);
    if (cli_command_is_group(c))
        append(text, size, "%s", " COMMAND");
    for (const struct cli_param *p = c->params; p != NULL && p->name != NULL; p++) {
        char name[64];
        if (p->choices != NULL && strchr(p->choices, '|') == NULL)
            snprintf(name, sizeof name, "%s", p->choices);
        else if (p->shown != NULL)
            snprintf(name, sizeof name, "%s", p->shown);
        else
            upper(p->name, name, sizeof name);
        append(text, size, p->optional ? " [%s" : " %s", name);
        append(text, size, "%s", p->many ? "..." : "");
        append(text, size, "%s", p->optional ? "]" : "");
    }
    if (c->options != NULL)
        append(text, size, "%s", " [options]");
}

static void print_options(const struct cli_option *options)
{
    for (const struct cli_option *o = options; o != NULL && o->name != NULL; o++) {
        char left[64];
        if (o->hidden)
            continue;
        if (o->letter != 0)
            snprintf(left, sizeof left, "-%c, --%s", o->letter, o->name);
        else
            snprintf(left, sizeof left, "    --%s", o->name);
        if (o->value != NULL)
            append(left, sizeof left, " %s", o->value);
        if (strlen(left) > 28)
            printf("  %s\n  %-28s  %s\n", left, "", o->help);
        else
            printf("  %-28s  %s\n", left, o->help);
    }
}

/* Text in lines of 80 columns. */
static void print_wrapped(const char *text)
{
    size_t column = 0;
    while (*text != 0) {
        size_t len = strcspn(text, " \n");
        if (column > 0 && column + 1 + len > 80) {
            putchar('\n');
            column = 0;
        }
        column += (size_t)printf("%s%.*s", column > 0 ? " " : "", (int)len, text);
        text += len;
        if (*text == '\n') {
            putchar('\n');
            column = 0;
        }
        text += *text != 0;
    }
    if (column > 0)
        putchar('\n');
}

/* Commands whose path begins with a group's word, or those that belong to no group. */
static void print_commands(const char *group)
{
    size_t len = group != NULL ? strlen(group) : 0;
    for (const struct cli_command *c = cli_command_next(NULL); c != NULL; c = cli_command_next(c)) {
        bool in_group = group != NULL && strncmp(c->path, group, len) == 0 && c->path[len] == ' ';
        bool alone = group == NULL && strchr(c->path, ' ') == NULL && !cli_command_is_group(c);
        if (c->hidden || cli_command_is_group(c) || (!in_group && !alone))
            continue;
        printf("  %-28s  %s\n", c->path, c->summary);
    }
}

void help_overview(void)
{
    printf("usage: limpet COMMAND [arguments] [options]\n\n");
    print_commands(NULL);
    for (const struct cli_command *c = cli_command_next(NULL); c != NULL; c = cli_command_next(c)) {
        /* Groups inside of one are told with it. */
        if (!cli_command_is_group(c) || c->hidden || strchr(c->path, ' ') != NULL)
            continue;
        printf("\n%s:\n", c->summary);
        print_commands(c->path);
    }
    printf("\noptions of all commands:\n");
    print_options(cli_global_options);
    printf("  %-28s  %s\n", "    --OPTION VALUE", "any option of the configuration");
    printf("\n'limpet help COMMAND' or 'limpet COMMAND --help' tells more of one.\n");
}

void help_command(const struct cli_command *c)
{
    char usage[512];
    usage_line(c, usage, sizeof usage);
    printf("usage: %s\n\n", usage);
    if (cli_command_is_group(c)) {
        printf("%s:\n", c->summary);
        print_commands(c->path);
    } else {
        printf("%c%s.\n", toupper((unsigned char)c->summary[0]), c->summary + 1);
    }
    if (c->details != NULL) {
        putchar('\n');
        print_wrapped(c->details);
    }
    if (c->alias != NULL)
        printf("\nAlso: limpet %s\n", c->alias);
    if (c->options != NULL) {
        printf("\noptions:\n");
        print_options(c->options);
    }
    if (c->examples != NULL)
        printf("\nexamples:\n");
    for (size_t i = 0; c->examples != NULL && c->examples[i] != NULL; i++)
        printf("  %s\n", c->examples[i]);
    printf("\n'limpet help' lists the options of all commands.\n");
}

static void join_words(const struct cli *cli, char *path, size_t size)
{
    path[0] = 0;
    for (int i = 0; i < cli->n_words; i++) {
        append(path, size, i > 0 ? " %s" : "%s", cli->words[i]);
    }
}

int run_help(struct cli *cli)
{
    char path[256];
    const struct cli_command *wanted = cli->command;
    if (wanted != NULL && wanted->run == run_help) {
        if (!cli_has(cli, "help"))
            join_words(cli, path, sizeof path);
        else
            path[0] = 0;
        wanted = path[0] != 0 ? cli_command_find(path) : NULL;
        if (wanted == NULL && path[0] != 0)
            fail(EINVAL, "unknown command '%s'; 'limpet help' lists all", path);
    }
    if (wanted != NULL)
        help_command(wanted);
    else
        help_overview();
    /* Nothing to do is a mistake, but one that deserves the list. */
    bool none = cli->command == NULL || cli_command_is_group(cli->command);
    if (cli->n_words == 0 && none && !cli_has(cli, "help"))
        return complain(EINVAL, "no command was given");
    return 0;
}

int run_version(struct cli *cli)
{
    if (cli->format == FORMAT_PLAIN) {
        printf("limpet version %s\n", limpet_version());
        return 0;
    }
    json_t *json = json_pack("{s:s}", "version", limpet_version());
    cli_print_json(cli, json);
    json_decref(json);
    return 0;
}
