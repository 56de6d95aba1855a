/*
 * Reads text in Ceph's INI syntax: configuration files and keyrings.
 *
 * Not libinih: as Debian builds it, an indented line continues the value of the line before, but
 * Ceph's keyrings indent every line; it cuts lines at 200 bytes, and knows neither quotes nor
 * Ceph's continuation by a backslash at the end of a line.
 */
#ifndef LIMPET_COMMON_INI_TEXT_H
#define LIMPET_COMMON_INI_TEXT_H

#include <stddef.h>

#include "common/error.h"

enum {
    INI_TEXT_MAX = 4 * 1024 * 1024,
    INI_SECTION_MAX = 127,
    INI_NAME_MAX = 127,
    INI_VALUE_MAX = 8191,
    INI_WHY_MAX = 256,
};

/*
 * Called for each section header (name NULL), and for each NAME = VALUE with its section, which is
 * empty before the first header. In names, runs of spaces, '-' and '_' have become one '_'. Values
 * have lost comments, quotes and outer spaces. A result other than 0 ends the reading; `why` may
 * then hold a reason, to which the line number is added.
 */
typedef int (*ini_text_fn)(void *ctx, const char *section, const char *name, const char *value,
                           char why[INI_WHY_MAX]);

/* Returns 0, -EINVAL with "line N: ..." in why, or the callback's result. */
int ini_text_parse(const char *text, size_t len, ini_text_fn each, void *ctx,
                   char why[INI_WHY_MAX]) MUST_CHECK;

/*
 * Normalizes a name as above into out. -EINVAL when it is empty, too long or has other characters
 * than letters, digits and the separators.
 */
int ini_text_name(const char *text, size_t len, char out[INI_NAME_MAX + 1]) MUST_CHECK;

/*
 * Reads a whole file of at most max bytes; *text is malloc'd and terminated. -EFBIG when it is
 * longer, -EISDIR and the like from the system.
 */
int ini_text_read_file(const char *path, size_t max, char **text, size_t *len) MUST_CHECK;

#endif
