#include "common/ini_text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct reader {
    const char *at;
    const char *end;
    unsigned line;
    char section[INI_SECTION_MAX + 1];
    char name[INI_NAME_MAX + 1];
    char value[INI_VALUE_MAX + 1];
    ini_text_fn each;
    void *ctx;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool is_separator(char c)
{
    return is_blank(c) || c == '_' || c == '-';
}

static bool at_line_end(const struct reader *r)
{
    return r->at == r->end || *r->at == '\n';
}

static bool at_comment(const struct reader *r)
{
    return *r->at == '#' || *r->at == ';';
}

static void skip_blanks(struct reader *r)
{
    while (!at_line_end(r) && is_blank(*r->at))
        r->at++;
}

static void skip_line(struct reader *r)
{
    while (!at_line_end(r))
        r->at++;
}

/* After a header or a closing quote, only a comment may stand. */
static int expect_rest_empty(struct reader *r, char why[INI_WHY_MAX])
{
    skip_blanks(r);
    if (!at_line_end(r) && !at_comment(r)) {
        snprintf(why, INI_WHY_MAX, "unexpected text at the end of the line");
        return -EINVAL;
    }
    skip_line(r);
    return 0;
}

int ini_text_name(const char *text, size_t len, char out[INI_NAME_MAX + 1])
{
    size_t n = 0;
    while (len > 0 && is_blank(text[len - 1]))
        len--;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (is_separator(c)) {
            if (n > 0 && out[n - 1] == '_')
                continue;
            c = '_';
        } else if (!isalnum((unsigned char)c) && c != '.' && c != '/' && c != ':') {
            return -EINVAL;
        }
        if (n == INI_NAME_MAX)
            return -EINVAL;
        out[n++] = c;
    }
    out[n] = '\0';
    return n > 0 ? 0 : -EINVAL;
}

static int read_header(struct reader *r, char why[INI_WHY_MAX])
{
    const char *first = ++r->at;
    while (!at_line_end(r) && *r->at != ']')
        r->at++;
    if (at_line_end(r)) {
        snprintf(why, INI_WHY_MAX, "a section header lacks its ']'");
        return -EINVAL;
    }
    const char *last = r->at++;
    while (first < last && is_blank(*first))
        first++;
    while (first < last && is_blank(last[-1]))
        last--;
    size_t len = (size_t)(last - first);
    if (len == 0 || len > INI_SECTION_MAX) {
        snprintf(why, INI_WHY_MAX, "a section name is empty or too long");
        return -EINVAL;
    }
    memcpy(r->section, first, len);
    r->section[len] = '\0';
    int rc = expect_rest_empty(r, why);
    return rc != 0 ? rc : r->each(r->ctx, r->section, NULL, NULL, why);
}

static int value_add(struct reader *r, size_t *len, char c, char why[INI_WHY_MAX])
{
    if (*len == INI_VALUE_MAX) {
        snprintf(why, INI_WHY_MAX, "the value of %.64s is longer than %d bytes", r->name,
                 INI_VALUE_MAX);
        return -EINVAL;
    }
    r->value[(*len)++] = c;
    return 0;
}

static int read_quoted(struct reader *r, char why[INI_WHY_MAX])
{
    size_t len = 0;
    char quote = *r->at++;
    while (!at_line_end(r) && *r->at != quote) {
        if (*r->at == '\\' && r->at + 1 < r->end && r->at[1] != '\n')
            r->at++;
        int rc = value_add(r, &len, *r->at++, why);
        if (rc != 0)
            return rc;
    }
    if (at_line_end(r)) {
        snprintf(why, INI_WHY_MAX, "the value of %.64s lacks its closing quote", r->name);
        return -EINVAL;
    }
    r->at++;
    r->value[len] = '\0';
    return expect_rest_empty(r, why);
}

/* A value goes to the end of the line or a comment; a backslash keeps the next character, and
 * before the end of a line it joins the next one. */
static int read_plain(struct reader *r, char why[INI_WHY_MAX])
{
    size_t len = 0;
    size_t kept = 0; /* Blanks after this many bytes are at the end, so far. */
    while (!at_line_end(r) && !at_comment(r)) {
        char c = *r->at++;
        bool escaped = c == '\\' && r->at < r->end;
        if (escaped) {
            c = *r->at++;
            if (c == '\r' && r->at < r->end && *r->at == '\n')
                c = *r->at++;
            if (c == '\n') {
                r->line++;
                skip_blanks(r);
                continue;
            }
        }
        int rc = value_add(r, &len, c, why);
        if (rc != 0)
            return rc;
        if (escaped || !is_blank(c))
            kept = len;
    }
    skip_line(r);
    r->value[kept] = '\0';
    return 0;
}

static int read_assignment(struct reader *r, char why[INI_WHY_MAX])
{
    const char *first = r->at;
    while (!at_line_end(r) && *r->at != '=')
        r->at++;
    if (at_line_end(r)) {
        snprintf(why, INI_WHY_MAX, "expected NAME = VALUE or [SECTION]");
        return -EINVAL;
    }
    if (ini_text_name(first, (size_t)(r->at - first), r->name) != 0) {
        snprintf(why, INI_WHY_MAX, "the name before '=' is not one");
        return -EINVAL;
    }
    r->at++;
    skip_blanks(r);
    bool quoted = !at_line_end(r) && (*r->at == '"' || *r->at == '\'');
    int rc = quoted ? read_quoted(r, why) : read_plain(r, why);
    return rc != 0 ? rc : r->each(r->ctx, r->section, r->name, r->value, why);
}

static int read_line(struct reader *r, char why[INI_WHY_MAX])
{
    skip_blanks(r);
    if (at_line_end(r))
        return 0;
    if (at_comment(r)) {
        skip_line(r);
        return 0;
    }
    return *r->at == '[' ? read_header(r, why) : read_assignment(r, why);
}

int ini_text_parse(const char *text, size_t len, ini_text_fn each, void *ctx, char why[INI_WHY_MAX])
{
    why[0] = '\0';
    if (len > INI_TEXT_MAX || (len > 0 && memchr(text, '\0', len) != NULL)) {
        snprintf(why, INI_WHY_MAX, "this is not a text file, or it is longer than %d bytes",
                 INI_TEXT_MAX);
        return -EINVAL;
    }
    if (len == 0)
        return 0;
    struct reader *r = malloc(sizeof *r);
    if (r == NULL)
        return -ENOMEM;
    *r = (struct reader){.at = text, .end = text + len, .line = 1, .each = each, .ctx = ctx};
    int rc = 0;
    while (rc == 0 && r->at < r->end) {
        unsigned line = r->line;
        char reason[INI_WHY_MAX] = "";
        rc = read_line(r, reason);
        if (rc != 0)
            snprintf(why, INI_WHY_MAX, "line %u: %.200s", line,
                     reason[0] != '\0' ? reason : error_text(rc));
        if (r->at < r->end) {
            r->at++;
            r->line++;
        }
    }
    /* It may have held a key. */
    sodium_memzero(r, sizeof *r);
    free(r);
    return rc;
}

static int read_all(int fd, char *text, size_t size, size_t *len)
{
    *len = 0;
    while (*len < size) {
        ssize_t n = read(fd, text + *len, size - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        *len += (size_t)n;
    }
    return -EFBIG;
}

int ini_text_read_file(const char *path, size_t max, char **text, size_t *len)
{
    /* O_NONBLOCK so that a FIFO put in its place does not hang the start. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    struct stat st;
    size_t size = 0;
    char *memory = NULL;
    int rc = fstat(fd, &st) == 0 ? 0 : -errno;
    if (rc == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size > max)
        rc = -EFBIG;
    if (rc == 0) {
        /* Not everything that can be read knows its size beforehand (/dev/stdin, /proc). */
        size = (S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size : max) + 1;
        memory = malloc(size + 1);
        rc = memory == NULL ? -ENOMEM : read_all(fd, memory, size, len);
    }
    close(fd);
    if (rc == 0) {
        memory[*len] = '\0';
        *text = memory;
        return 0;
    }
    if (memory != NULL)
        sodium_memzero(memory, size);
    free(memory);
    return rc;
}
