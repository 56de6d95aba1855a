/*
 * Reads the CRUSH maps of tests/golden/crush: crushtool's text, as far as those files use it.
 */
#ifndef LIMPET_TESTS_UNIT_PLACEMENT_CRUSH_TEXT_H
#define LIMPET_TESTS_UNIT_PLACEMENT_CRUSH_TEXT_H

#include "placement/crush.h"

enum { CRUSH_TEXT_CASES_MAX = 32, CRUSH_TEXT_DEVICES_MAX = 2048 };

/* What crushtool was asked, from a "# case" line. */
struct crush_text_case {
    uint32_t rule;
    uint32_t size;
    char arguments[2048]; /* The weights, as crushtool's options. */
    uint32_t weights[CRUSH_TEXT_DEVICES_MAX];
};

struct crush_text {
    struct crush_map *map;
    uint32_t n_cases;
    struct crush_text_case cases[CRUSH_TEXT_CASES_MAX];
};

/* Fails the running test on a text that it does not understand. The caller frees. */
struct crush_text *crush_text_read(const char *path);
void crush_text_free(struct crush_text *text);

#endif
