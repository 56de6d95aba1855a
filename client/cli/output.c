#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "common/error.h"

/* ---- Messages ---- */

static const char *cleanup_path;

void cli_cleanup_set(const char *path)
{
    cleanup_path = path;
}

const char *error_phrase(int error)
{
    static char text[160];
    snprintf(text, sizeof text, "(%d) %s", error_exit_code(error), error_text(error));
    return text;
}

enum { MESSAGE_MAX = 4096 };

/* One line, whatever names of files and objects hold. */
static int say(int error, char text[MESSAGE_MAX])
{
    for (char *at = text; *at != 0; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?';
    }
    fflush(stdout);
    fprintf(stderr, "limpet: %s\n", text);
    int code = error_exit_code(error);
    return code != 0 ? code : 1;
}

int complain(int error, const char *format, ...)
{
    char text[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return say(error, text);
}

void fail(int error, const char *format, ...)
{
    char text[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int code = say(error, text);
    if (cleanup_path != NULL)
        unlink(cleanup_path);
    /* Threads of the library and open connections end with the process. */
    fflush(stdout);
    _exit(code);
}

/* ---- Output ---- */

void cli_flush(struct cli *cli)
{
    (void)cli;
    bool written = fflush(stdout) == 0 && !ferror(stdout);
    /* A reader that has seen enough is nobody's mistake. */
    if (!written && errno == EPIPE)
        _exit(EPIPE);
    if (!written)
        fail(errno != 0 ? errno : EIO, "standard output: %s",
             error_phrase(errno != 0 ? errno : EIO));
}

void cli_print_json(struct cli *cli, const json_t *value)
{
    size_t flags = JSON_ENCODE_ANY | (cli->format == FORMAT_JSON ? JSON_COMPACT : JSON_INDENT(4));
    json_dumpf(value, stdout, flags);
    putchar('\n');
}

const char *size_text(uint64_t bytes)
{
    static char texts[4][32];
    static unsigned next;
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    char *text = texts[next++ % 4];
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit < 6) {
        value /= 1024;
        unit++;
    }
    if (unit == 0 || value >= 100)
        snprintf(text, 32, "%.0f %s", value, units[unit]);
    else
        snprintf(text, 32, "%.3g %s", value, units[unit]);
    return text;
}

/* ---- Tables ---- */

enum { TABLE_COLUMNS_MAX = 24 };

struct table {
    const char *alignment;
    size_t columns;
    size_t widths[TABLE_COLUMNS_MAX];
    char **cells; /* Row by row. */
    size_t n;
    size_t capacity;
};

struct table *table_create(const char *alignment)
{
    struct table *t = calloc(1, sizeof *t);
    if (t == NULL)
        fail(ENOMEM, "out of memory");
    t->alignment = alignment;
    t->columns = strlen(alignment);
    assert(t->columns <= TABLE_COLUMNS_MAX);
    return t;
}

void table_cell(struct table *t, const char *format, ...)
{
    if (t->n == t->capacity) {
        t->capacity = t->capacity == 0 ? 64 : t->capacity * 2;
        char **cells = realloc(t->cells, t->capacity * sizeof *cells);
        if (cells == NULL)
            fail(ENOMEM, "out of memory");
        t->cells = cells;
    }
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0)
        fail(ENOMEM, "out of memory");
    size_t column = t->n % t->columns;
    if ((size_t)len > t->widths[column])
        t->widths[column] = (size_t)len;
    t->cells[t->n++] = text;
}

void table_end_row(struct table *t)
{
    while (t->n % t->columns != 0)
        table_cell(t, "%s", "");
}

void table_print(struct table *t, const char *indent)
{
    assert(t->n % t->columns == 0);
    for (size_t i = 0; i < t->n; i++) {
        size_t column = i % t->columns;
        int width = (int)t->widths[column];
        bool last = column == t->columns - 1;
        if (column == 0)
            fputs(indent, stdout);
        if (t->alignment[column] == 'r')
            printf("%*s", width, t->cells[i]);
        else if (last)
            printf("%s", t->cells[i]);
        else
            printf("%-*s", width, t->cells[i]);
        fputs(last ? "\n" : "  ", stdout);
    }
}

void table_print_titled(struct table *t)
{
    assert(t->n % t->columns == 0);
    for (size_t i = 0; i < t->n; i++) {
        size_t column = i % t->columns;
        bool right = t->alignment[column] == 'r' && i >= t->columns;
        printf(right ? "%*s" : "%-*s", (int)t->widths[column], t->cells[i]);
        fputs(column == t->columns - 1 ? "\n" : "  ", stdout);
    }
}

void table_destroy(struct table *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->cells[i]);
    free(t->cells);
    free(t);
}

/* ---- Progress ---- */

double monotonic_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void progress_begin(struct progress *p, const char *verb, const char *what, uint64_t total)
{
    *p = (struct progress){.verb = verb, .what = what, .total = total};
    p->enabled = isatty(STDERR_FILENO) == 1;
    p->begun = p->last_shown = monotonic_seconds();
}

void progress_update(struct progress *p, uint64_t bytes)
{
    double now = p->enabled ? monotonic_seconds() : 0;
    /* Short transfers say nothing; others not more often than one can read. */
    if (!p->enabled || now - p->begun < 0.5 || now - p->last_shown < 0.1)
        return;
    p->last_shown = now;
    p->shown = true;
    double rate = (double)bytes / (now - p->begun);
    fprintf(stderr, "\r\033[K%s %.40s: %s", p->verb, p->what, size_text(bytes));
    if (p->total > 0)
        fprintf(stderr, " of %s, %.0f %%", size_text(p->total),
                100.0 * (double)bytes / (double)p->total);
    fprintf(stderr, ", %s/s", size_text((uint64_t)rate));
    if (p->total > bytes && rate > 1)
        fprintf(stderr, ", %.0f s left", (double)(p->total - bytes) / rate);
    fflush(stderr);
}

void progress_end(struct progress *p)
{
    if (p->shown)
        fprintf(stderr, "\r\033[K");
    p->shown = false;
}

/* ---- JSON ---- */

const char *json_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

uint64_t json_number(const json_t *object, const char *key)
{
    double value = json_fraction(object, key);
    const json_t *integer = json_object_get(object, key);
    if (json_is_integer(integer))
        return (uint64_t)json_integer_value(integer);
    return value > 0 ? (uint64_t)value : 0;
}

double json_fraction(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}
