#include "tests/sim/history_file.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static bool history_kind_named(const char *name, enum history_kind *kind)
{
    for (size_t i = 0; i < HISTORY_KINDS_END; i++) {
        if (strcmp(history_kind_names[i], name) == 0) {
            *kind = (enum history_kind)i;
            return true;
        }
    }
    return false;
}

/* Takes a word off the text; words are set apart by one space. NULL at the end. */
static char *take_word(char **text)
{
    return strsep(text, " ");
}

static bool take_number(char **text, int base, uint64_t max, uint64_t *number)
{
    const char *word = take_word(text);
    if (!word || !isxdigit((unsigned char)word[0]))
        return false;
    char *end = NULL;
    errno = 0;
    *number = strtoull(word, &end, base);
    return errno == 0 && !*end && *number <= max;
}

static bool take_result(char **text, int *result)
{
    bool negative = *text && **text == '-';
    uint64_t number = 0;
    if (negative)
        (*text)++;
    if (!take_number(text, 10, INT_MAX, &number))
        return false;
    *result = negative ? -(int)number : (int)number;
    return true;
}

/* None at the end of the text. */
static bool take_version(char **text, struct wire_version *version)
{
    uint64_t config = 0;
    uint64_t sequence = 0;
    if (!*text)
        return true;
    if (!take_number(text, 10, UINT64_MAX, &config) ||
        !take_number(text, 10, UINT64_MAX, &sequence))
        return false;
    version->config = config;
    version->sequence = sequence;
    return true;
}

static bool read_call(char *text, struct history *history)
{
    struct history_op op = {0};
    uint64_t id = 0;
    uint64_t client = 0;
    uint64_t object = 0;
    if (!take_number(&text, 10, HISTORY_FILE_MAX_OPS - 1, &id) || id != history->n ||
        !take_number(&text, 10, UINT32_MAX, &client) ||
        !take_number(&text, 10, UINT32_MAX, &object))
        return false;
    const char *kind = take_word(&text);
    if (!kind || !history_kind_named(kind, &op.kind) ||
        !take_number(&text, 10, UINT64_MAX, &op.serial) ||
        !take_number(&text, 10, UINT64_MAX, &op.offset) ||
        !take_number(&text, 10, UINT64_MAX, &op.len) ||
        !take_number(&text, 10, UINT64_MAX, &op.called) || text)
        return false;
    op.client = (uint32_t)client;
    op.object = (uint32_t)object;
    history_call(history, &op);
    return true;
}

static bool read_return(char *text, struct history *history)
{
    uint64_t id = 0;
    int result = 0;
    uint64_t size = 0;
    uint64_t hash = 0;
    uint64_t returned = 0;
    struct wire_version version = {0};
    if (!take_number(&text, 10, HISTORY_FILE_MAX_OPS - 1, &id) || id >= history->n ||
        !take_result(&text, &result) || !take_number(&text, 10, UINT64_MAX, &size) ||
        !take_number(&text, 16, UINT64_MAX, &hash) ||
        !take_number(&text, 10, HISTORY_NEVER - 1, &returned) || !take_version(&text, &version) ||
        text)
        return false;
    struct history_op *op = &history->ops[id];
    if (op->returned != HISTORY_NEVER || returned < op->called)
        return false;
    op->result = result;
    op->size = size;
    op->hash = hash;
    op->returned = returned;
    op->version = version;
    return true;
}

static bool read_event(char *text, struct history *history)
{
    const char *event = take_word(&text);
    if (strcmp(event, "call") == 0)
        return read_call(text, history);
    return strcmp(event, "return") == 0 && read_return(text, history);
}

int history_read(FILE *file, struct history *history, uint64_t *line)
{
    char text[256];
    for (*line = 1; fgets(text, sizeof text, file); (*line)++) {
        /* A line without its end was cut off, and its last number with it. */
        char *end = strchr(text, '\n');
        if (!end)
            return -EINVAL;
        *end = '\0';
        if (!read_event(text, history))
            return -EINVAL;
    }
    return ferror(file) ? -EINVAL : 0;
}
