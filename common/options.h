/*
 * Every option that Limpet knows: one table, from which values are checked and documentation is
 * printed. Values are read through common/config.h.
 */
#ifndef LIMPET_COMMON_OPTIONS_H
#define LIMPET_COMMON_OPTIONS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_type {
    OPTION_TEXT,
    OPTION_UUID,
    OPTION_NUMBER,
    OPTION_SIZE, /* Bytes, with K, M, G, T, P: binary. */
    OPTION_DURATION,
    OPTION_BOOL,
    OPTION_RATIO,
    OPTION_CHOICE,
};

struct option_info {
    const char *name; /* Words joined by '_'. */
    enum option_type type;
    const char *default_value; /* NULL: none. */
    uint64_t min;              /* Of numbers and sizes; of durations in ns. */
    uint64_t max;              /* 0: no limit */
    const char *choices;       /* Of OPTION_CHOICE: "one|other". */
    const char *description;   /* One sentence. */
};

/* The option of that name or one of its aliases, in any spelling of separators. NULL: unknown. */
const struct option_info *option_find(const char *name);
/* All, in the order of the documentation. */
const struct option_info *options_all(size_t *n);
/* "text", "size" ... */
const char *option_type_name(enum option_type type);

/* The documentation as a Markdown table. */
void options_print(FILE *out);

#endif
