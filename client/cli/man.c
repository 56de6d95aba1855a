/* Man pages from the command table, as roff: limpet(1), and limpet-COMMAND(1) of each group. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"

/* Text in which a leading dot, a backslash and a hyphen mean nothing to roff. */
static void roff(const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
    for (; *text != 0; text++) {
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else
            putchar(*text);
    }
}

static void sentence(const char *text)
{
    putchar(toupper((unsigned char)text[0]));
    roff(text + 1);
    fputs(".\n", stdout);
}

static void man_options(const struct cli_option *options)
{
    for (const struct cli_option *o = options; o != NULL && o->name != NULL; o++) {
        if (o->hidden)
            continue;
        fputs(".TP\n\\fB", stdout);
        if (o->letter != 0)
            printf("\\-%c\\fR, \\fB", o->letter);
        fputs("\\-\\-", stdout);
        roff(o->name);
        fputs("\\fR", stdout);
        if (o->value != NULL)
            printf(" \\fI%s\\fR", o->value);
        putchar('\n');
        sentence(o->help);
    }
}

static void man_paragraphs(const char *text)
{
    while (text != NULL && *text != 0) {
        size_t len = strcspn(text, "\n");
        char line[1024];
        snprintf(line, sizeof line, "%.*s", (int)len, text);
        fputs(".PP\n", stdout);
        roff(line);
        putchar('\n');
        text += len + (text[len] == '\n');
    }
}

static void man_command(const struct cli_command *c, bool options)
{
    char usage[512];
    usage_line(c, usage, sizeof usage);
    fputs(".SS \"", stdout);
    roff(usage);
    fputs("\"\n", stdout);
    sentence(c->summary);
    man_paragraphs(c->details);
    if (options)
        man_options(c->options);
    if (c->examples == NULL)
        return;
    fputs(".PP\nExamples:\n.PP\n.nf\n", stdout);
    for (size_t i = 0; c->examples[i] != NULL; i++) {
        fputs("    ", stdout);
        roff(c->examples[i]);
        putchar('\n');
    }
    fputs(".fi\n", stdout);
}

static void man_head(const char *title, const char *summary, const char *usage)
{
    printf(".TH \"%s\" \"1\" \"\" \"limpet %s\" \"Limpet\"\n.SH NAME\n", title, limpet_version());
    roff(title);
    fputs(" \\- ", stdout);
    roff(summary);
    fputs("\n.SH SYNOPSIS\n", stdout);
    roff(usage);
    putchar('\n');
}

static void man_environment(void)
{
    fputs(".SH EXIT STATUS\n0, or the errno of what failed; one line on standard error says "
          "more.\n"
          ".SH ENVIRONMENT\n.TP\n.B LIMPET_CONF\nThe configuration file.\n"
          ".TP\n.B LIMPET_NAME\nWho to be, unless \\-\\-name is given.\n"
          ".TP\n.B LIMPET_LOG\ninfo or debug: what the library does, on standard error.\n"
          ".SH FILES\n.TP\n.I /etc/limpet/limpet.conf\nThe configuration, where nothing else is "
          "named.\n",
          stdout);
}

static void man_program(void)
{
    man_head("limpet", "command-line program of the Limpet storage cluster",
             "limpet COMMAND [arguments] [options]");
    fputs(
        ".SH DESCRIPTION\nShows and changes a cluster, stores and fetches objects, and measures "
        "how fast that is.\nCalled by the name rados or rbd, it takes their verbs at once; by the "
        "name ceph, those of "
        "ceph that it knows.\n"
        ".SH COMMANDS\n",
        stdout);
    for (const struct cli_command *c = cli_command_next(NULL); c != NULL; c = cli_command_next(c)) {
        if (c->hidden || cli_command_is_group(c))
            continue;
        char usage[512];
        usage_line(c, usage, sizeof usage);
        fputs(".TP\n", stdout);
        roff(usage);
        putchar('\n');
        sentence(c->summary);
    }
    fputs(".SH OPTIONS\nOf all commands:\n", stdout);
    man_options(cli_global_options);
    man_environment();
}

/* A group with its commands, or a command alone. */
static void man_page(const struct cli_command *wanted)
{
    char title[128], usage[512];
    snprintf(title, sizeof title, "limpet-%s", wanted->path);
    for (char *at = title; *at != 0; at++)
        *at = *at == ' ' ? '-' : *at;
    usage_line(wanted, usage, sizeof usage);
    man_head(title, wanted->summary, usage);
    fputs(".SH DESCRIPTION\n", stdout);
    size_t len = strlen(wanted->path);
    if (!cli_command_is_group(wanted)) {
        man_command(wanted, true);
    } else {
        for (const struct cli_command *c = cli_command_next(NULL); c != NULL;
             c = cli_command_next(c)) {
            if (!c->hidden && !cli_command_is_group(c) &&
                strncmp(c->path, wanted->path, len) == 0 && c->path[len] == ' ')
                man_command(c, wanted->options == NULL);
        }
        if (wanted->options != NULL) {
            fputs(".SH OPTIONS\n", stdout);
            man_options(wanted->options);
        }
    }
    man_environment();
    fputs(".SH SEE ALSO\nlimpet(1)\n", stdout);
}

int run_man(struct cli *cli)
{
    char path[256] = "";
    for (int i = 0; i < cli->n_words; i++)
        snprintf(path + strlen(path), sizeof path - strlen(path), "%s%s", i > 0 ? " " : "",
                 cli->words[i]);
    const struct cli_command *wanted = path[0] != 0 ? cli_command_find(path) : NULL;
    if (wanted == NULL && path[0] != 0)
        fail(EINVAL, "unknown command '%s'; 'limpet help' lists all", path);
    if (wanted != NULL)
        man_page(wanted);
    else
        man_program();
    return 0;
}
