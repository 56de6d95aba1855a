/*
 * Values of options: text to numbers, and the checks that the option table asks for.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/config_private.h"

enum { FRACTION_DIGITS_MAX = 9 };

/* Decimal digits at *text, moved past. */
static int parse_digits(const char **text, uint64_t *out)
{
    uint64_t value = 0;
    const char *at = *text;
    if (!isdigit((unsigned char)*at))
        return -EINVAL;
    for (; isdigit((unsigned char)*at); at++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return -EINVAL;
    }
    *text = at;
    *out = value;
    return 0;
}

/* A fraction ".5" at *text, if there is one, as a number of billionths. */
static int parse_fraction(const char **text, uint64_t *billionths)
{
    *billionths = 0;
    if (**text != '.')
        return 0;
    const char *at = *text + 1;
    uint64_t unit = UINT64_C(100000000);
    int digits = 0;
    for (; isdigit((unsigned char)*at); at++, digits++) {
        if (digits == FRACTION_DIGITS_MAX)
            return -EINVAL;
        *billionths += (uint64_t)(*at - '0') * unit;
        unit /= 10;
    }
    *text = at;
    return digits > 0 ? 0 : -EINVAL;
}

int config_parse_number(const char *text, uint64_t *out)
{
    uint64_t value;
    if (parse_digits(&text, &value) != 0 || *text != '\0')
        return -EINVAL;
    *out = value;
    return 0;
}

int config_parse_size(const char *text, uint64_t *out)
{
    static const char letters[] = "KMGTPE";
    uint64_t value;
    if (parse_digits(&text, &value) != 0)
        return -EINVAL;
    while (*text == ' ')
        text++;
    const char *letter = *text != '\0' ? strchr(letters, toupper((unsigned char)*text)) : NULL;
    if (letter != NULL) {
        unsigned shift = 10 * (unsigned)(letter - letters + 1);
        if (value > UINT64_MAX >> shift)
            return -EINVAL;
        value <<= shift;
        text++;
        if (*text == 'i')
            text++;
    }
    if (*text == 'B')
        text++;
    if (*text != '\0')
        return -EINVAL;
    *out = value;
    return 0;
}

int config_parse_duration(const char *text, uint64_t *out_ns)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {
        {"", UINT64_C(1000000000)},
        {"ns", 1},
        {"us", 1000},
        {"ms", 1000000},
        {"s", UINT64_C(1000000000)},
        {"sec", UINT64_C(1000000000)},
        {"m", UINT64_C(60000000000)},
        {"min", UINT64_C(60000000000)},
        {"h", UINT64_C(3600000000000)},
        {"d", UINT64_C(86400000000000)},
    };
    uint64_t whole;
    uint64_t billionths;
    if (parse_digits(&text, &whole) != 0 || parse_fraction(&text, &billionths) != 0)
        return -EINVAL;
    while (*text == ' ')
        text++;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(text, units[i].name) != 0)
            continue;
        /* A day in billionths of billionths does not fit 64 bits, hence the wide product. */
        unsigned __int128 ns = (unsigned __int128)whole * units[i].ns +
                               (unsigned __int128)billionths * units[i].ns / 1000000000;
        if (ns > INT64_MAX)
            return -EINVAL;
        *out_ns = (uint64_t)ns;
        return 0;
    }
    return -EINVAL;
}

int config_parse_ratio(const char *text, double *out)
{
    uint64_t whole;
    uint64_t billionths;
    if (parse_digits(&text, &whole) != 0 || parse_fraction(&text, &billionths) != 0 ||
        *text != '\0' || whole > 1 || (whole == 1 && billionths > 0))
        return -EINVAL;
    *out = (double)whole + (double)billionths / 1e9;
    return 0;
}

int config_parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < 4; i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *out = strcasecmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return -EINVAL;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t len = strlen(text);
    while (*choices != '\0') {
        size_t n = strcspn(choices, "|");
        if (n == len && memcmp(choices, text, n) == 0)
            return true;
        choices += n + (choices[n] == '|' ? 1 : 0);
    }
    return false;
}

static int check_range(const struct option_info *option, const char *text, uint64_t value,
                       char why[256])
{
    if (value >= option->min && (option->max == 0 || value <= option->max))
        return 0;
    uint64_t unit = option->type == OPTION_DURATION ? 1000000 : 1;
    const char *unit_name = option->type == OPTION_DURATION ? " ms" : "";
    if (option->max == 0)
        snprintf(why, 256, "%s: %.64s is too small: at least %" PRIu64 "%s", option->name, text,
                 option->min / unit, unit_name);
    else
        snprintf(why, 256, "%s: %.64s is out of range: %" PRIu64 " to %" PRIu64 "%s", option->name,
                 text, option->min / unit, option->max / unit, unit_name);
    return -EINVAL;
}

int config_check_value(const struct option_info *option, const char *text, char why[256])
{
    uint64_t number = 0;
    double ratio;
    bool truth;
    struct uuid uuid;
    const char *wanted = "";
    int rc = 0;
    why[0] = '\0';
    switch (option->type) {
    case OPTION_TEXT:
        break;
    case OPTION_UUID:
        rc = uuid_parse(text, &uuid);
        wanted = "a UUID";
        break;
    case OPTION_NUMBER:
        rc = config_parse_number(text, &number);
        wanted = "a whole number";
        break;
    case OPTION_SIZE:
        rc = config_parse_size(text, &number);
        wanted = "a size (such as 4096, 512M or 10G)";
        break;
    case OPTION_DURATION:
        rc = config_parse_duration(text, &number);
        wanted = "a duration (such as 30, 1.5s, 500ms or 10m)";
        break;
    case OPTION_BOOL:
        rc = config_parse_bool(text, &truth);
        wanted = "true or false";
        break;
    case OPTION_RATIO:
        rc = config_parse_ratio(text, &ratio);
        wanted = "a number from 0 to 1";
        break;
    case OPTION_CHOICE:
        rc = is_choice(option->choices, text) ? 0 : -EINVAL;
        wanted = option->choices;
        break;
    }
    if (rc != 0) {
        snprintf(why, 256, "%s: \"%.64s\" is not %s%s", option->name, text,
                 option->type == OPTION_CHOICE ? "one of " : "", wanted);
        return rc;
    }
    return check_range(option, text, number, why);
}
