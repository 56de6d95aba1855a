/*
 * Capabilities in Ceph's syntax.
 *
 *     caps  = [ grant { ("," | ";") grant } ]
 *     grant = ("allow" ("*" | letters of "rwx") | ["allow"] "profile" name) [ "pool=" name ]
 *
 * Anything else is refused rather than skipped: a restriction that is not understood must not turn
 * into a grant without it.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "common/entity.h"

/* What a profile allows, by the service that answers. */
static const struct {
    const char *name;
    uint8_t at_mon;
    uint8_t at_osd;
} profiles[] = {
    /* What only OSDs may tell the monitors hangs on being one, and needs no capability. */
    {"osd", CAP_READ, CAP_ALL},
    {"mon", CAP_ALL, CAP_ALL},
    /* A user of images reads the map at the monitors, and shall not be able to delete pools. */
    {"rbd", CAP_READ, CAP_ALL},
    {"rbd-read-only", CAP_READ, CAP_READ | CAP_EXECUTE},
    {"simple-rados-client", CAP_READ, 0},
};

struct scanner {
    const char *at;
};

struct word {
    const char *text;
    size_t len;
};

static void skip_spaces(struct scanner *s)
{
    while (isspace((unsigned char)*s->at))
        s->at++;
}

static bool at_separator(const struct scanner *s)
{
    return *s->at == ',' || *s->at == ';';
}

/* The next word of the same grant; empty at its end. */
static struct word next_word(struct scanner *s)
{
    skip_spaces(s);
    struct word word = {.text = s->at};
    while (*s->at != '\0' && !at_separator(s) && !isspace((unsigned char)*s->at))
        s->at++;
    word.len = (size_t)(s->at - word.text);
    return word;
}

static bool word_is(struct word word, const char *text)
{
    return strlen(text) == word.len && memcmp(word.text, text, word.len) == 0;
}

static int parse_letters(struct word word, uint8_t *allow)
{
    if (word_is(word, "*") || word_is(word, "all")) {
        *allow = CAP_ALL;
        return 0;
    }
    *allow = 0;
    for (size_t i = 0; i < word.len; i++) {
        switch (word.text[i]) {
        case 'r':
            *allow |= CAP_READ;
            break;
        case 'w':
            *allow |= CAP_WRITE;
            break;
        case 'x':
            *allow |= CAP_EXECUTE;
            break;
        default:
            return -EINVAL;
        }
    }
    return word.len > 0 ? 0 : -EINVAL;
}

static int parse_profile(uint8_t service, struct word word, uint8_t *allow)
{
    for (size_t i = 0; i < sizeof profiles / sizeof profiles[0]; i++) {
        if (word_is(word, profiles[i].name)) {
            *allow = service == ENTITY_MON ? profiles[i].at_mon : profiles[i].at_osd;
            return 0;
        }
    }
    return -EINVAL;
}

static int parse_pool(struct word word, struct caps_grant *grant)
{
    static const char prefix[] = "pool=";
    size_t prefix_len = sizeof prefix - 1;
    if (word.len <= prefix_len || memcmp(word.text, prefix, prefix_len) != 0)
        return -EINVAL;
    size_t len = word.len - prefix_len;
    if (len > CAPS_POOL_MAX)
        return -EINVAL;
    memcpy(grant->pool, word.text + prefix_len, len);
    return 0;
}

static int parse_grant(struct scanner *s, uint8_t service, struct caps_grant *grant)
{
    *grant = (struct caps_grant){0};
    struct word word = next_word(s);
    bool allow = word_is(word, "allow");
    if (allow)
        word = next_word(s);
    int rc = -EINVAL;
    if (word_is(word, "profile"))
        rc = parse_profile(service, next_word(s), &grant->allow);
    else if (allow)
        rc = parse_letters(word, &grant->allow);
    if (rc != 0)
        return rc;
    word = next_word(s);
    if (word.len > 0) {
        rc = parse_pool(word, grant);
        if (rc != 0)
            return rc;
        word = next_word(s);
    }
    return word.len == 0 ? 0 : -EINVAL;
}

int caps_parse_at(uint8_t service, const char *text, struct caps *out)
{
    struct caps caps = {0};
    struct scanner s = {.at = text};
    *out = caps;
    skip_spaces(&s);
    while (*s.at != '\0') {
        if (caps.n_grants == CAPS_GRANTS_MAX)
            return -EINVAL;
        int rc = parse_grant(&s, service, &caps.grants[caps.n_grants]);
        if (rc != 0)
            return rc;
        caps.n_grants++;
        if (at_separator(&s)) {
            s.at++;
            skip_spaces(&s);
            if (*s.at == '\0')
                return -EINVAL;
        }
    }
    *out = caps;
    return 0;
}

int caps_parse(const char *text, struct caps *out)
{
    return caps_parse_at(ENTITY_OSD, text, out);
}

bool caps_allow(const struct caps *caps, uint8_t want, const char *pool)
{
    uint8_t have = 0;
    for (uint8_t i = 0; i < caps->n_grants; i++) {
        const struct caps_grant *grant = &caps->grants[i];
        if (grant->pool[0] == '\0' || (pool != NULL && strcmp(grant->pool, pool) == 0))
            have |= grant->allow;
    }
    return (have & want) == want;
}
