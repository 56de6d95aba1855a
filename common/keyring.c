/*
 * Keyrings: files of keys and capabilities in Ceph's format.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auth.h"
#include "common/codec.h"
#include "common/ini_text.h"

enum { SECRET_TEXT_SIZE = 96 };

void keyring_init(struct keyring *keyring)
{
    *keyring = (struct keyring){0};
}

void keyring_fini(struct keyring *keyring)
{
    if (keyring->entries != NULL)
        sodium_memzero(keyring->entries, keyring->capacity * sizeof *keyring->entries);
    free(keyring->entries);
    keyring_init(keyring);
}

static struct keyring_entry *find(const struct keyring *keyring, const struct entity_name *name)
{
    for (uint32_t i = 0; i < keyring->n; i++) {
        if (entity_equal(&keyring->entries[i].name, name))
            return &keyring->entries[i];
    }
    return NULL;
}

const struct keyring_entry *keyring_find(const struct keyring *keyring,
                                         const struct entity_name *name)
{
    return find(keyring, name);
}

/* realloc() would leave a copy of the secrets behind. */
static int grow(struct keyring *keyring)
{
    if (keyring->n >= KEYRING_ENTRIES_MAX)
        return -E2BIG;
    uint32_t capacity = keyring->capacity > 0 ? keyring->capacity * 2 : 4;
    struct keyring_entry *entries = calloc(capacity, sizeof *entries);
    if (entries == NULL)
        return -ENOMEM;
    if (keyring->entries != NULL) {
        memcpy(entries, keyring->entries, keyring->n * sizeof *entries);
        sodium_memzero(keyring->entries, keyring->capacity * sizeof *entries);
    }
    free(keyring->entries);
    keyring->entries = entries;
    keyring->capacity = capacity;
    return 0;
}

static struct keyring_entry *find_or_add(struct keyring *keyring, const struct entity_name *name,
                                         int *rc)
{
    *rc = 0;
    struct keyring_entry *entry = find(keyring, name);
    if (entry != NULL)
        return entry;
    if (keyring->n == keyring->capacity)
        *rc = grow(keyring);
    if (*rc != 0)
        return NULL;
    assert(keyring->entries != NULL && keyring->n < keyring->capacity);
    entry = &keyring->entries[keyring->n++];
    entry->name = *name;
    return entry;
}

int keyring_set(struct keyring *keyring, const struct keyring_entry *entry)
{
    int rc;
    struct keyring_entry *slot = find_or_add(keyring, &entry->name, &rc);
    if (slot != NULL)
        *slot = *entry;
    return rc;
}

/* ---- Reading ---- */

struct parse {
    struct keyring *keyring;
    struct keyring_entry *entry; /* Of the current section. */
    bool skipped;                /* The section is about something that only Ceph has. */
};

static bool only_ceph_has(const char *section)
{
    return strncmp(section, "mgr.", 4) == 0 || strncmp(section, "mds.", 4) == 0;
}

static int take_section(struct parse *parse, const char *section, char why[INI_WHY_MAX])
{
    struct entity_name name;
    parse->entry = NULL;
    parse->skipped = only_ceph_has(section);
    if (parse->skipped)
        return 0;
    if (entity_parse(section, &name) != 0) {
        snprintf(why, INI_WHY_MAX, "[%.80s] is not the name of an entity (such as client.admin)",
                 section);
        return -EINVAL;
    }
    int rc;
    parse->entry = find_or_add(parse->keyring, &name, &rc);
    if (rc == -E2BIG)
        snprintf(why, INI_WHY_MAX, "more than %d keys", KEYRING_ENTRIES_MAX);
    return rc;
}

/*
 * The text is kept as it is: a client reads its key from a keyring whose capabilities may use more
 * of Ceph's syntax than ours, and only monitors give them a meaning.
 */
static int take_caps(struct parse *parse, const char *service, const char *value,
                     char why[INI_WHY_MAX])
{
    char *text;
    if (strcmp(service, "mon") == 0)
        text = parse->entry->mon_caps;
    else if (strcmp(service, "osd") == 0)
        text = parse->entry->osd_caps;
    else
        return 0; /* Of a service that only Ceph has. */
    if (strlen(value) >= AUTH_CAPS_TEXT_MAX) {
        snprintf(why, INI_WHY_MAX, "capabilities longer than %d bytes", AUTH_CAPS_TEXT_MAX - 1);
        return -EINVAL;
    }
    memset(text, 0, AUTH_CAPS_TEXT_MAX);
    memcpy(text, value, strlen(value) + 1);
    return 0;
}

static int take_line(void *ctx, const char *section, const char *name, const char *value,
                     char why[INI_WHY_MAX])
{
    struct parse *parse = ctx;
    if (name == NULL)
        return take_section(parse, section, why);
    if (parse->skipped)
        return 0;
    if (parse->entry == NULL) {
        snprintf(why, INI_WHY_MAX, "expected [NAME] before the first key");
        return -EINVAL;
    }
    if (strcmp(name, "key") == 0) {
        if (auth_secret_parse(value, &parse->entry->secret) != 0) {
            snprintf(why, INI_WHY_MAX, "the key of %.80s is damaged", section);
            return -EINVAL;
        }
        return 0;
    }
    if (strncmp(name, "caps_", 5) == 0)
        return take_caps(parse, name + 5, value, why);
    return 0; /* Such as auid, which older Ceph wrote. */
}

int keyring_parse(struct keyring *keyring, const char *text, size_t len, char why[256])
{
    struct parse parse = {.keyring = keyring};
    int rc = ini_text_parse(text, len, take_line, &parse, why);
    for (uint32_t i = 0; rc == 0 && i < keyring->n; i++) {
        if (keyring->entries[i].secret.len == 0) {
            char name[ENTITY_TEXT_MAX];
            snprintf(why, INI_WHY_MAX, "%s has no key",
                     entity_format(&keyring->entries[i].name, name));
            rc = -EINVAL;
        }
    }
    return rc;
}

static int load_file(struct keyring *keyring, const char *path, char why[256])
{
    char *text;
    size_t len;
    int rc = ini_text_read_file(path, INI_TEXT_MAX, &text, &len);
    if (rc != 0) {
        snprintf(why, 256, "%.160s: %s", path, error_text(rc));
        return rc;
    }
    char reason[INI_WHY_MAX];
    rc = keyring_parse(keyring, text, len, reason);
    if (rc != 0)
        snprintf(why, 256, "%.100s: %.150s", path, reason);
    sodium_memzero(text, len);
    free(text);
    return rc;
}

int keyring_load(struct keyring *keyring, const char *paths, char why[256])
{
    why[0] = '\0';
    const char *at = paths;
    while (*at != '\0') {
        size_t len = strcspn(at, ",; \t");
        if (len > 0) {
            char path[4096];
            if (len >= sizeof path) {
                snprintf(why, 256, "the name of a keyring file is too long");
                return -ENAMETOOLONG;
            }
            memcpy(path, at, len);
            path[len] = '\0';
            int rc = load_file(keyring, path, why);
            if (rc != -ENOENT)
                return rc;
        }
        at += len;
        at += strspn(at, ",; \t");
    }
    snprintf(why, 256, "no keyring found; looked for %.200s",
             paths[0] != '\0' ? paths : "nothing: the option keyring is empty");
    return -ENOENT;
}

int keyring_check_caps(const struct keyring *keyring, char why[256])
{
    why[0] = '\0';
    for (uint32_t i = 0; i < keyring->n; i++) {
        const struct keyring_entry *entry = &keyring->entries[i];
        struct caps caps;
        const char *bad = NULL;
        if (caps_parse_at(ENTITY_MON, entry->mon_caps, &caps) != 0)
            bad = entry->mon_caps;
        else if (caps_parse_at(ENTITY_OSD, entry->osd_caps, &caps) != 0)
            bad = entry->osd_caps;
        if (bad != NULL) {
            char name[ENTITY_TEXT_MAX];
            snprintf(why, 256, "%s: capabilities not understood: \"%.120s\"",
                     entity_format(&entry->name, name), bad);
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- Writing ---- */

static void append(struct encoder *e, const char *text)
{
    encode_bytes(e, text, strlen(text));
}

/* Growing by copying would leave keys behind in freed memory: one allocation of the bound. */
enum { ENTRY_TEXT_MAX = ENTITY_TEXT_MAX + SECRET_TEXT_SIZE + 4 * AUTH_CAPS_TEXT_MAX + 64 };

static void append_caps(struct encoder *e, const char *service, const char *caps)
{
    if (caps[0] == '\0')
        return;
    append(e, "\tcaps ");
    append(e, service);
    append(e, " = \"");
    for (; *caps != '\0'; caps++) {
        if (*caps == '"' || *caps == '\\')
            encode_u8(e, '\\');
        encode_u8(e, (uint8_t)*caps);
    }
    append(e, "\"\n");
}

char *keyring_format(const struct keyring *keyring)
{
    size_t capacity = (size_t)keyring->n * ENTRY_TEXT_MAX + 1;
    char *text = malloc(capacity);
    if (text == NULL)
        return NULL;
    struct encoder e;
    encoder_init_fixed(&e, text, capacity);
    for (uint32_t i = 0; i < keyring->n; i++) {
        const struct keyring_entry *entry = &keyring->entries[i];
        char name[ENTITY_TEXT_MAX];
        char secret[SECRET_TEXT_SIZE];
        append(&e, "[");
        append(&e, entity_format(&entry->name, name));
        append(&e, "]\n\tkey = ");
        auth_secret_format(&entry->secret, secret);
        append(&e, secret);
        sodium_memzero(secret, sizeof secret);
        append(&e, "\n");
        append_caps(&e, "mon", entry->mon_caps);
        append_caps(&e, "osd", entry->osd_caps);
    }
    encode_u8(&e, '\0');
    assert(!e.failed);
    return text;
}
