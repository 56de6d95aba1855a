#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "common/options.h"

/* ---- Finding commands ---- */

const struct cli_command *cli_command_next(const struct cli_command *after)
{
    const struct cli_command *next = after == NULL ? cli_commands : after + 1;
    while (next != NULL && next->path == NULL)
        next = next->next_table;
    return next;
}

const struct cli_command *cli_command_find(const char *path)
{
    for (const struct cli_command *c = cli_command_next(NULL); c != NULL; c = cli_command_next(c)) {
        if (strcmp(c->path, path) == 0 || (c->alias != NULL && strcmp(c->alias, path) == 0))
            return c;
    }
    return NULL;
}

bool cli_command_is_group(const struct cli_command *command)
{
    return command->run == NULL && command->prefix == NULL;
}

/* The longest command at the beginning of the words; *used tells how many of them it has. */
static const struct cli_command *match(const char *const *words, int n, int *used)
{
    const struct cli_command *best = NULL;
    char path[256] = "";
    size_t at = 0;
    *used = 0;
    for (int i = 0; i < n && i < CLI_PATH_WORDS_MAX; i++) {
        int len = snprintf(path + at, sizeof path - at, "%s%s", i > 0 ? " " : "", words[i]);
        if (len < 0 || (size_t)len >= sizeof path - at)
            break;
        at += (size_t)len;
        const struct cli_command *found = cli_command_find(path);
        if (found != NULL) {
            best = found;
            *used = i + 1;
        }
    }
    return best;
}

static bool starts_with_words(const char *path, const char *words, size_t len)
{
    return path != NULL && strncmp(path, words, len) == 0 && path[len] == ' ';
}

/* Whether some command begins with these words. */
static bool is_prefix(const char *words)
{
    size_t len = strlen(words);
    for (const struct cli_command *c = cli_command_next(NULL); c != NULL; c = cli_command_next(c)) {
        if (starts_with_words(c->path, words, len) || starts_with_words(c->alias, words, len))
            return true;
    }
    return false;
}

/* ---- Suggestions ---- */

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein's distance, of words up to 63 characters. */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], n = strlen(b), m = strlen(a);
    if (n >= 64 || m >= 64)
        return 64;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t above = row[j];
            row[j] = smallest(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[n];
}

const char *cli_nearest(const char *word, const char *const *candidates)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) / 5 + 2;
    for (; *candidates != NULL; candidates++) {
        size_t d = distance(word, *candidates);
        if (d < best_distance) {
            best_distance = d;
            best = *candidates;
        }
    }
    return best;
}

/* Named like a group of commands, the program has its verbs only. */
static bool is_named_like_group(const struct cli *cli)
{
    return strcmp(cli->program, "rados") == 0 || strcmp(cli->program, "rbd") == 0;
}

/* What the user has typed of these words, behind the program's name: "", or " WORDS". */
static const char *behind_program(const struct cli *cli, const char *words, char out[256])
{
    size_t skip = is_named_like_group(cli) ? strcspn(words, " ") : 0;
    snprintf(out, 256, "%s%s", skip == 0 && words[0] != 0 ? " " : "", words + skip);
    return out;
}

_Noreturn static void unknown_command(const struct cli *cli)
{
    char known[256] = "", tried[256] = "", typed[256];
    size_t n = 0;
    const char *candidates[512];
    /* What of the words makes sense, and one more. */
    for (int i = 0; i < cli->n_words && i < CLI_PATH_WORDS_MAX; i++) {
        snprintf(tried, sizeof tried, "%s%s%.100s", known, i > 0 ? " " : "", cli->words[i]);
        if (!is_prefix(tried))
            break;
        snprintf(known, sizeof known, "%s", tried);
    }
    for (const struct cli_command *c = cli_command_next(NULL); c != NULL && n < 510;
         c = cli_command_next(c)) {
        if (c->hidden || c->run == run_help)
            continue;
        candidates[n++] = c->path;
        if (c->alias != NULL)
            candidates[n++] = c->alias;
    }
    candidates[n] = NULL;
    const char *nearest = cli_nearest(tried, candidates);
    if (strcmp(known, tried) == 0)
        fail(EINVAL, "'%s' is not complete; '%s help%s' lists what can follow", known, cli->program,
             behind_program(cli, known, typed));
    if (nearest != NULL)
        fail(EINVAL, "unknown command '%s'; did you mean '%s'? '%s help' lists all", tried, nearest,
             cli->program);
    fail(EINVAL, "unknown command '%s'; '%s help' lists all", tried, cli->program);
}

/* ---- Options ---- */

static const struct cli_option *option_in(const struct cli_option *options, const char *name,
                                          size_t len, char letter)
{
    for (const struct cli_option *o = options; o != NULL && o->name != NULL; o++) {
        if (letter != 0 ? o->letter == letter
                        : strlen(o->name) == len && strncmp(o->name, name, len) == 0)
            return o;
    }
    return NULL;
}

/* An option of the command that the words so far make up, of its group, or of all. */
static const struct cli_option *find_option(const struct cli *cli, const char *name, size_t len,
                                            char letter)
{
    const struct cli_option *found = NULL;
    int used;
    for (int n = cli->n_words < CLI_PATH_WORDS_MAX ? cli->n_words : CLI_PATH_WORDS_MAX;
         n > 0 && found == NULL; n--) {
        const struct cli_command *command = match(cli->words, n, &used);
        if (command != NULL)
            found = option_in(command->options, name, len, letter);
    }
    return found != NULL ? found : option_in(cli_global_options, name, len, letter);
}

_Noreturn static void unknown_option(const struct cli *cli, const char *text)
{
    int used;
    const struct cli_command *command = match(cli->words, cli->n_words, &used);
    const char *candidates[CLI_OPTIONS_MAX];
    size_t n = 0;
    const struct cli_option *lists[] = {command != NULL ? command->options : NULL,
                                        cli_global_options};
    for (size_t i = 0; i < 2; i++) {
        for (const struct cli_option *o = lists[i]; o != NULL && o->name != NULL; o++) {
            if (!o->hidden && n < CLI_OPTIONS_MAX - 1)
                candidates[n++] = o->name;
        }
    }
    candidates[n] = NULL;
    const char *nearest = strncmp(text, "--", 2) == 0 ? cli_nearest(text + 2, candidates) : NULL;
    char typed[256];
    if (nearest != NULL)
        fail(EINVAL, "unknown option '%s'; did you mean '--%s'?", text, nearest);
    fail(EINVAL, "unknown option '%s'; '%s help%s' lists them", text, cli->program,
         behind_program(cli, command != NULL ? command->path : "", typed));
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

static void add_value(struct cli *cli, const struct cli_option *option, const char *text,
                      const char *second)
{
    if (option->choices != NULL && !is_choice(option->choices, text))
        fail(EINVAL, "--%s: '%s' is none of %s", option->name, text, option->choices);
    if (cli->n_values == CLI_OPTIONS_MAX)
        fail(EINVAL, "too many options");
    cli->values[cli->n_values++] =
        (struct cli_value){.option = option, .text = text, .second = second};
}

/* --osd-data DIR: every option of the configuration can stand on a command line. */
static const struct cli_option *config_option(const char *name, size_t len)
{
    char text[64];
    if (len >= sizeof text)
        return NULL;
    snprintf(text, sizeof text, "%.*s", (int)len, name);
    const struct option_info *info = option_find(text);
    struct cli_option *option = info != NULL ? calloc(1, sizeof *option) : NULL;
    if (option != NULL)
        *option = (struct cli_option){
            .name = info->name, .type = CLI_TEXT, .hidden = true, .local = true, .config = true};
    return option;
}

/* Reads the option at argv[i]; returns the index of the last word that it used. */
static int take_option(struct cli *cli, int argc, char **argv, int i)
{
    const char *word = argv[i];
    bool is_long = word[1] == '-';
    const char *equals = is_long ? strchr(word, '=') : NULL;
    size_t len = equals != NULL ? (size_t)(equals - word) - 2 : strlen(word) - 2;
    const struct cli_option *option =
        find_option(cli, word + 2, is_long ? len : 0, is_long ? 0 : word[1]);
    if (option == NULL && is_long)
        option = config_option(word + 2, len);
    if (option == NULL)
        unknown_option(cli, word);
    const char *attached = NULL;
    if (equals != NULL)
        attached = equals + 1;
    else if (!is_long && word[2] != 0)
        attached = word[2] == '=' ? word + 3 : word + 2;
    if (option->type == CLI_FLAG) {
        if (attached != NULL)
            fail(EINVAL, "option '%s' takes no value", word);
        add_value(cli, option, "", NULL);
        return i;
    }
    int needed = (attached == NULL) + (option->type == CLI_PAIR);
    if (i + needed >= argc)
        fail(EINVAL, "option '%s' needs %s", word,
             option->type == CLI_PAIR ? "two values" : "a value");
    const char *first = attached != NULL ? attached : argv[++i];
    const char *second = option->type == CLI_PAIR ? argv[++i] : NULL;
    add_value(cli, option, first, second);
    return i;
}

/* ---- Parsing ---- */

static void check_words(struct cli *cli)
{
    int required = 0, allowed = 0;
    for (const struct cli_param *p = cli->command->params; p != NULL && p->name != NULL; p++) {
        required += !p->optional;
        allowed = p->many ? CLI_OPTIONS_MAX * 1000000 : allowed + 1;
    }
    if (cli->n_words >= required && cli->n_words <= allowed)
        return;
    char usage[512];
    usage_line(cli->command, usage, sizeof usage);
    if (cli->n_words > allowed)
        fail(EINVAL, "'%s' is one argument too many; usage: %s", cli->words[allowed], usage);
    fail(EINVAL, "an argument is missing; usage: %s", usage);
}

/* Options may stand before the command's last words, where only its group is known. */
static void check_options(const struct cli *cli)
{
    char typed[256];
    for (int i = 0; i < cli->n_values; i++) {
        const struct cli_option *o = cli->values[i].option;
        size_t len = strlen(o->name);
        if (!o->config && option_in(cli->command->options, o->name, len, 0) == NULL &&
            option_in(cli_global_options, o->name, len, 0) == NULL)
            fail(EINVAL, "'%s' has no option '--%s'; '%s help%s' lists them", cli->command->path,
                 o->name, cli->program, behind_program(cli, cli->command->path, typed));
    }
}

/* "rbd snap help create" means "help rbd snap create". */
static void move_help_first(struct cli *cli)
{
    int used;
    for (int i = 1; i < cli->n_words && i < CLI_PATH_WORDS_MAX; i++) {
        const struct cli_command *group = match(cli->words, i, &used);
        if (group == NULL || used < i || !cli_command_is_group(group))
            return;
        if (strcmp(cli->words[i], "help") != 0)
            continue;
        const char *help = cli->words[i];
        memmove(cli->words + 1, cli->words, (size_t)i * sizeof *cli->words);
        cli->words[0] = help;
        return;
    }
}

static void find_command(struct cli *cli)
{
    int used;
    move_help_first(cli);
    cli->command = match(cli->words, cli->n_words, &used);
    if (cli_has(cli, "help") || cli->n_words == 0) {
        cli->command = cli_has(cli, "version") ? cli_command_find("version") : cli->command;
        return;
    }
    bool only_program = is_named_like_group(cli) && cli->n_words == 1;
    if (only_program && cli->command != NULL && cli_command_is_group(cli->command)) {
        cli->n_words = 0;
        return;
    }
    if (cli->command == NULL || (cli_command_is_group(cli->command)))
        unknown_command(cli);
    cli->words += used;
    cli->n_words -= used;
    check_options(cli);
    check_words(cli);
}

void cli_parse(struct cli *cli, int argc, char **argv)
{
    cli->words = calloc((size_t)argc + 2, sizeof *cli->words);
    if (cli->words == NULL)
        fail(ENOMEM, "out of memory");
    bool completes = argc > 0 && strcmp(argv[0], "__complete") == 0;
    if (is_named_like_group(cli) && !completes)
        cli->words[cli->n_words++] = cli->program;
    bool options_end = false;
    for (int i = 0; i < argc; i++) {
        if (!options_end && strcmp(argv[i], "--") == 0)
            options_end = true;
        else if (!options_end && argv[i][0] == '-' && argv[i][1] != 0)
            i = take_option(cli, argc, argv, i);
        else
            cli->words[cli->n_words++] = argv[i];
    }
    /* As Ceph's users write it: ceph -s. */
    if (cli_has(cli, "status") && cli->n_words == 0)
        cli->words[cli->n_words++] = "status";
    find_command(cli);
    const char *format = cli_text(cli, "format", "plain");
    cli->format = strcmp(format, "json") == 0          ? FORMAT_JSON
                  : strcmp(format, "json-pretty") == 0 ? FORMAT_JSON_PRETTY
                                                       : FORMAT_PLAIN;
}

/* ---- Values ---- */

static const struct cli_value *last_value(const struct cli *cli, const char *option)
{
    for (int i = cli->n_values; i > 0; i--) {
        if (strcmp(cli->values[i - 1].option->name, option) == 0)
            return &cli->values[i - 1];
    }
    return NULL;
}

bool cli_has(const struct cli *cli, const char *option)
{
    return last_value(cli, option) != NULL;
}

const char *cli_text(const struct cli *cli, const char *option, const char *otherwise)
{
    const struct cli_value *value = last_value(cli, option);
    return value != NULL ? value->text : otherwise;
}

static uint64_t multiplier(char suffix)
{
    switch (toupper((unsigned char)suffix)) {
    case 'K':
        return UINT64_C(1) << 10;
    case 'M':
        return UINT64_C(1) << 20;
    case 'G':
        return UINT64_C(1) << 30;
    case 'T':
        return UINT64_C(1) << 40;
    default:
        return 0;
    }
}

/* "4096", and with `size` also "4K", "4KiB", "4KB" (all binary). */
static bool read_number(const char *text, bool size, uint64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    uint64_t factor = 1;
    if (size && *end != 0) {
        factor = multiplier(*end++);
        if (factor == 0)
            return false;
        if (strcmp(end, "iB") == 0 || strcmp(end, "i") == 0 || strcmp(end, "B") == 0)
            end += strlen(end);
    }
    return *end == 0 && !__builtin_mul_overflow((uint64_t)value, factor, out);
}

uint64_t cli_parse_number(const struct cli *cli, const char *what, const char *text, bool size,
                          uint64_t min, uint64_t max)
{
    uint64_t value;
    (void)cli;
    if (!read_number(text, size, &value))
        fail(EINVAL, "%s: '%s' is not a %s", what, text,
             size ? "size in bytes (4096, 4K, 4M ...)" : "number");
    if (value < min || value > max)
        fail(EINVAL, "%s: %s is not within %llu and %llu", what, text, (unsigned long long)min,
             (unsigned long long)max);
    return value;
}

uint64_t cli_number(const struct cli *cli, const char *option, uint64_t otherwise, uint64_t min,
                    uint64_t max)
{
    const struct cli_value *value = last_value(cli, option);
    if (value == NULL)
        return otherwise;
    char what[80];
    snprintf(what, sizeof what, "--%s", option);
    return cli_parse_number(cli, what, value->text, value->option->type == CLI_SIZE, min, max);
}

double cli_real(const struct cli *cli, const char *option, double otherwise)
{
    const struct cli_value *value = last_value(cli, option);
    if (value == NULL)
        return otherwise;
    char *end;
    double number = strtod(value->text, &end);
    if (end == value->text || *end != 0 || !(number >= 0) || number > 1e15)
        fail(EINVAL, "--%s: '%s' is not a number", option, value->text);
    return number;
}
