#include "tests/unit/placement/crush_text.h"

#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* crushtool multiplies single-precision numbers. */
static uint32_t fixed_point(const char *text)
{
    return (uint32_t)(int)(strtof(text, NULL) * 65536.0f);
}

static int32_t item_id(const struct crush_map *map, const char *name)
{
    if (strncmp(name, "osd.", 4) == 0) {
        return atoi(name + 4);
    }
    const struct crush_bucket *bucket = crush_bucket_by_name(map, name);
    assert_non_null(bucket);
    return bucket->id;
}

static void read_case(struct crush_text *text, char *line)
{
    assert_true(text->n_cases < CRUSH_TEXT_CASES_MAX);
    struct crush_text_case *c = &text->cases[text->n_cases++];
    int at = 0;
    assert_int_equal(sscanf(line, "# case rule=%u size=%u%n", &c->rule, &c->size, &at), 2);
    for (char *option = strstr(line + at, "weight="); option != NULL;
         option = strstr(option + 1, "weight=")) {
        int osd;
        char weight[32];
        assert_int_equal(sscanf(option, "weight=%d:%31s", &osd, weight), 2);
        c->weights[osd] = fixed_point(weight) | 1u << 31;
        size_t len = strlen(c->arguments);
        int more =
            snprintf(c->arguments + len, sizeof c->arguments - len, " --weight %d %s", osd, weight);
        assert_true(more > 0 && (size_t)more < sizeof c->arguments - len);
    }
}

static void read_tunable(struct crush_map *map, const char *name, int value)
{
    if (strcmp(name, "choose_total_tries") == 0) {
        map->choose_total_tries = (uint32_t)value;
    } else if (strcmp(name, "chooseleaf_descend_once") == 0) {
        map->chooseleaf_descend_once = (uint8_t)value;
    } else if (strcmp(name, "chooseleaf_vary_r") == 0) {
        map->chooseleaf_vary_r = (uint8_t)value;
    } else if (strcmp(name, "chooseleaf_stable") == 0) {
        map->chooseleaf_stable = (uint8_t)value;
    }
}

static void read_step(struct crush_map *map, struct crush_rule *rule, const char *line)
{
    char word[32], mode[32], type[32];
    int n = 0;
    struct crush_step step = {0};
    assert_int_equal(sscanf(line, " step %31s", word), 1);
    if (strcmp(word, "take") == 0) {
        assert_int_equal(sscanf(line, " step take %31s", mode), 1);
        step = (struct crush_step){CRUSH_TAKE, item_id(map, mode), 0};
    } else if (strcmp(word, "emit") == 0) {
        step.op = CRUSH_EMIT;
    } else if (strncmp(word, "set_", 4) == 0) {
        assert_int_equal(sscanf(line, " step %*s %d", &n), 1);
        step.op = strcmp(word, "set_choose_tries") == 0        ? CRUSH_SET_CHOOSE_TRIES
                  : strcmp(word, "set_chooseleaf_tries") == 0  ? CRUSH_SET_CHOOSELEAF_TRIES
                  : strcmp(word, "set_chooseleaf_vary_r") == 0 ? CRUSH_SET_CHOOSELEAF_VARY_R
                                                               : CRUSH_SET_CHOOSELEAF_STABLE;
        step.arg1 = n;
    } else {
        assert_int_equal(sscanf(line, " step %*s %31s %d type %31s", mode, &n, type), 3);
        bool leaf = strcmp(word, "chooseleaf") == 0, firstn = strcmp(mode, "firstn") == 0;
        step.op = leaf ? (firstn ? CRUSH_CHOOSELEAF_FIRSTN : CRUSH_CHOOSELEAF_INDEP)
                       : (firstn ? CRUSH_CHOOSE_FIRSTN : CRUSH_CHOOSE_INDEP);
        step.arg1 = n;
        step.arg2 = crush_type_by_name(map, type);
    }
    assert_true(rule->n_steps < CRUSH_STEPS_MAX);
    rule->steps[rule->n_steps++] = step;
}

static void read_item(struct crush_map *map, int32_t bucket, const char *line)
{
    char name[64], weight[32];
    assert_int_equal(sscanf(line, " item %63s weight %31s", name, weight), 2);
    assert_int_equal(crush_insert(map, bucket, item_id(map, name), fixed_point(weight)), 0);
}

static struct crush_rule *add_rule(struct crush_map *map, const char *name)
{
    map->rules = realloc(map->rules, (map->n_rules + 1) * sizeof *map->rules);
    assert_non_null(map->rules);
    struct crush_rule *rule = &map->rules[map->n_rules];
    *rule = (struct crush_rule){.id = map->n_rules++};
    (void)snprintf(rule->name, sizeof rule->name, "%s", name);
    return rule;
}

/* Weights of crushtool's test: 1 for a device that is in some bucket, 0 for any other number. */
static void finish_cases(struct crush_text *text)
{
    for (uint32_t i = 0; i < text->n_cases; i++) {
        for (int32_t osd = 0; osd < text->map->max_devices; osd++) {
            uint32_t *weight = &text->cases[i].weights[osd];
            bool given = (*weight & 1u << 31) != 0;
            *weight = given                                  ? *weight & ~(1u << 31)
                      : crush_parent(text->map, osd) != NULL ? 0x10000
                                                             : 0;
        }
    }
}

struct crush_text *crush_text_read(const char *path)
{
    struct crush_text *text = calloc(1, sizeof *text);
    assert_non_null(text);
    text->map = crush_create();
    assert_non_null(text->map);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char line[4096], word[32], name[64];
    int32_t bucket = 0, value;
    struct crush_rule *rule = NULL;
    while (fgets(line, sizeof line, file) != NULL) {
        int n = sscanf(line, " %31s %63s", word, name);
        if (strncmp(line, "# case", 6) == 0) {
            read_case(text, line);
        } else if (n == 2 && strcmp(word, "tunable") == 0) {
            assert_int_equal(sscanf(line, "tunable %*s %d", &value), 1);
            read_tunable(text->map, name, value);
        } else if (n == 2 && strcmp(word, "rule") == 0) {
            rule = add_rule(text->map, name);
        } else if (n == 2 && strcmp(word, "step") == 0) {
            assert_non_null(rule);
            read_step(text->map, rule, line);
        } else if (n == 2 && strcmp(word, "item") == 0) {
            read_item(text->map, bucket, line);
        } else if (n == 2 && line[0] != '\t' && strchr(line, '{') != NULL) {
            int type = crush_type_by_name(text->map, word);
            assert_true(type > 0);
            assert_int_equal(crush_add_bucket(text->map, (uint16_t)type, name, &bucket), 0);
        }
    }
    (void)fclose(file);
    finish_cases(text);
    return text;
}

void crush_text_free(struct crush_text *text)
{
    crush_destroy(text->map);
    free(text);
}
