#include "common/config.h"

#include <assert.h>
#include <bsd/sys/queue.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/codec.h"
#include "common/config_private.h"
#include "common/ini_text.h"

enum {
    SETTINGS_MAX = 4096,
    EXPANDED_MAX = 2 * INI_VALUE_MAX,
    CLUSTER_NAME_MAX = 63,
};

/* A section name that no file can have. */
#define SECTION_OVERRIDE "]"

/* One assignment, or (section empty) the last expansion that was handed out for an option. */
struct setting {
    SLIST_ENTRY(setting) link;
    char *section;
    char *name;
    char *value;
};

/* Files have some dozens of settings, so lists are as good as anything. */
SLIST_HEAD(setting_list, setting);

struct config {
    struct entity_name self;
    char cluster[CLUSTER_NAME_MAX + 1];
    char *path;
    struct setting_list settings;
    uint32_t n_settings;
    struct setting_list expansions;
};

static const char *const default_paths[] = {"/etc/limpet/limpet.conf", "./limpet.conf"};

struct config *config_create(const struct entity_name *self)
{
    struct config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return NULL;
    config->self = *self;
    snprintf(config->cluster, sizeof config->cluster, "limpet");
    return config;
}

static void free_setting(struct setting *setting)
{
    if (setting == NULL)
        return;
    free(setting->section);
    free(setting->name);
    free(setting->value);
    free(setting);
}

static void free_list(struct setting_list *list)
{
    while (!SLIST_EMPTY(list)) {
        struct setting *setting = SLIST_FIRST(list);
        SLIST_REMOVE_HEAD(list, link);
        free_setting(setting);
    }
}

void config_destroy(struct config *config)
{
    if (config == NULL)
        return;
    free_list(&config->settings);
    free_list(&config->expansions);
    free(config->path);
    free(config);
}

const char *config_path(const struct config *config)
{
    return config->path;
}

/* ---- Settings ---- */

static struct setting *find(const struct setting_list *list, const char *section, const char *name)
{
    struct setting *setting;
    SLIST_FOREACH(setting, list, link)
    {
        if (strcmp(setting->name, name) == 0 && strcmp(setting->section, section) == 0)
            return setting;
    }
    return NULL;
}

/* A new setting, which takes over value; NULL (and value freed) when memory is short. */
static struct setting *add(struct setting_list *list, const char *section, const char *name,
                           char *value)
{
    struct setting *setting = calloc(1, sizeof *setting);
    if (setting == NULL) {
        free(value);
        return NULL;
    }
    setting->value = value;
    setting->section = strdup(section);
    setting->name = strdup(name);
    if (setting->section == NULL || setting->name == NULL) {
        free_setting(setting);
        return NULL;
    }
    SLIST_INSERT_HEAD(list, setting, link);
    return setting;
}

static const char *lookup(const struct config *config, const char *section, const char *name)
{
    const struct setting *setting = find(&config->settings, section, name);
    return setting != NULL ? setting->value : NULL;
}

/* name is normalized; Ceph's names for our options become ours. */
static int store(struct config *config, const char *section, const char *name, const char *value)
{
    const struct option_info *option = option_find(name);
    if (option != NULL)
        name = option->name;
    char *copy = strdup(value);
    if (copy == NULL)
        return -ENOMEM;
    struct setting *setting = find(&config->settings, section, name);
    if (setting != NULL) {
        free(setting->value);
        setting->value = copy;
        return 0;
    }
    if (config->n_settings == SETTINGS_MAX) {
        free(copy);
        return -E2BIG;
    }
    if (add(&config->settings, section, name, copy) == NULL)
        return -ENOMEM;
    config->n_settings++;
    return 0;
}

int config_set(struct config *config, const char *name, const char *value)
{
    char normal[INI_NAME_MAX + 1];
    if (ini_text_name(name, strlen(name), normal) != 0 || strlen(value) > INI_VALUE_MAX)
        return -EINVAL;
    return store(config, SECTION_OVERRIDE, normal, value);
}

/* ---- Files ---- */

static int take_line(void *ctx, const char *section, const char *name, const char *value,
                     char why[INI_WHY_MAX])
{
    (void)why;
    if (name == NULL)
        return 0;
    return store(ctx, section[0] != '\0' ? section : "global", name, value);
}

/* Ceph's $cluster: the file's name without ".conf". */
static void name_cluster(struct config *config, const char *path)
{
    static const char suffix[] = ".conf";
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    size_t len = strlen(base);
    size_t suffix_len = sizeof suffix - 1;
    if (len <= suffix_len || strcmp(base + len - suffix_len, suffix) != 0)
        return;
    len -= suffix_len;
    if (len <= CLUSTER_NAME_MAX) {
        memcpy(config->cluster, base, len);
        config->cluster[len] = '\0';
    }
}

static int load_file(struct config *config, const char *path, char why[256])
{
    char *text;
    size_t len;
    int rc = ini_text_read_file(path, INI_TEXT_MAX, &text, &len);
    if (rc != 0) {
        snprintf(why, 256, "%.160s: %s", path, error_text(rc));
        return rc;
    }
    char reason[INI_WHY_MAX];
    rc = ini_text_parse(text, len, take_line, config, reason);
    free(text);
    if (rc != 0) {
        snprintf(why, 256, "%.100s: %.150s", path, reason);
        return rc;
    }
    char *copy = strdup(path);
    if (copy == NULL)
        return -ENOMEM;
    free(config->path);
    config->path = copy;
    name_cluster(config, path);
    return 0;
}

int config_load(struct config *config, const char *path, char why[256])
{
    why[0] = '\0';
    if (path == NULL)
        path = getenv("LIMPET_CONF");
    if (path == NULL || path[0] == '\0')
        path = getenv("CEPH_CONF");
    if (path != NULL && path[0] != '\0')
        return load_file(config, path, why);
    for (size_t i = 0; i < sizeof default_paths / sizeof default_paths[0]; i++) {
        int rc = load_file(config, default_paths[i], why);
        if (rc != -ENOENT)
            return rc;
    }
    snprintf(why, 256,
             "no configuration file: name one with --conf or LIMPET_CONF (looked for %s, %s)",
             default_paths[0], default_paths[1]);
    return -ENOENT;
}

/* ---- Values ---- */

/* The assignment that counts, before variables are expanded. NULL: none, and no default. */
static const char *raw_value(const struct config *config, const char *name)
{
    static const char *const types[] = {"", "mon", "osd", "client"};
    char own[ENTITY_TEXT_MAX];
    const char *const sections[] = {
        SECTION_OVERRIDE,
        entity_format(&config->self, own),
        types[config->self.type <= ENTITY_CLIENT ? config->self.type : 0],
        "global",
    };
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        const char *value = lookup(config, sections[i], name);
        if (value != NULL)
            return value;
    }
    const struct option_info *option = option_find(name);
    return option != NULL ? option->default_value : NULL;
}

/* Appends the value of a variable; false when there is none of that name. */
static bool append_variable(const struct config *config, struct encoder *e, const char *name,
                            size_t len)
{
    char text[256];
    const char *value = text;
    static const char *const known[] = {"name", "type", "id", "cluster", "host", "pid", "fsid"};
    size_t which = 0;
    while (which < 7 && (strlen(known[which]) != len || memcmp(known[which], name, len) != 0))
        which++;
    switch (which) {
    case 0:
        entity_format(&config->self, text);
        break;
    case 1:
        entity_format(&config->self, text);
        *strchrnul(text, '.') = '\0';
        break;
    case 2:
        value = config->self.id;
        break;
    case 3:
        value = config->cluster;
        break;
    case 4:
        if (gethostname(text, sizeof text) != 0)
            snprintf(text, sizeof text, "localhost");
        text[sizeof text - 1] = '\0';
        *strchrnul(text, '.') = '\0';
        break;
    case 5:
        snprintf(text, sizeof text, "%ld", (long)getpid());
        break;
    case 6:
        value = raw_value(config, "fsid");
        if (value == NULL)
            return false;
        break;
    default:
        return false;
    }
    encode_bytes(e, value, strlen(value));
    return true;
}

/* Length of the variable's name at `at` (after the '$'), and of all of it with its braces. */
static size_t variable_name(const char *at, const char **name, size_t *whole)
{
    bool braces = *at == '{';
    *name = braces ? at + 1 : at;
    size_t len = strspn(*name, "abcdefghijklmnopqrstuvwxyz_");
    if (braces && (*name)[len] != '}')
        len = 0;
    *whole = len + (braces && len > 0 ? 2 : 0);
    return len;
}

/* malloc'd. A '$' before anything that is no variable stays as it is. */
static char *expand(const struct config *config, const char *raw)
{
    char buffer[EXPANDED_MAX];
    struct encoder e;
    encoder_init_fixed(&e, buffer, sizeof buffer - 1);
    while (*raw != '\0' && !e.failed) {
        const char *name;
        size_t whole;
        size_t len = *raw == '$' ? variable_name(raw + 1, &name, &whole) : 0;
        if (len > 0 && append_variable(config, &e, name, len)) {
            raw += 1 + whole;
            continue;
        }
        encode_u8(&e, (uint8_t)*raw++);
    }
    if (e.failed)
        return NULL;
    return strndup(buffer, e.len);
}

const char *config_get(struct config *config, const char *name)
{
    char normal[INI_NAME_MAX + 1];
    if (ini_text_name(name, strlen(name), normal) != 0)
        return NULL;
    const struct option_info *option = option_find(normal);
    const char *key = option != NULL ? option->name : normal;
    const char *raw = raw_value(config, key);
    char *value = raw != NULL ? expand(config, raw) : NULL;
    if (value == NULL)
        return NULL;
    struct setting *last = find(&config->expansions, "", key);
    if (last == NULL) {
        last = add(&config->expansions, "", key, value);
    } else if (strcmp(last->value, value) == 0) {
        /* What was handed out before stays valid. */
        free(value);
    } else {
        free(last->value);
        last->value = value;
    }
    return last != NULL ? last->value : NULL;
}

/* The checked text of a known option; -ENOENT when it has none. */
static int checked_value(struct config *config, const char *name, enum option_type type,
                         const char **out, char why[256])
{
    const struct option_info *option = option_find(name);
    assert(option != NULL);
    assert(option->type == type || (type == OPTION_SIZE && option->type == OPTION_NUMBER));
    *out = config_get(config, name);
    if (*out == NULL) {
        snprintf(why, 256, "the option %s is not set", option->name);
        return -ENOENT;
    }
    return config_check_value(option, *out, why);
}

int config_get_u64(struct config *config, const char *name, uint64_t *out, char why[256])
{
    const char *text;
    int rc = checked_value(config, name, OPTION_SIZE, &text, why);
    return rc != 0 ? rc : config_parse_size(text, out);
}

int config_get_bool(struct config *config, const char *name, bool *out, char why[256])
{
    const char *text;
    int rc = checked_value(config, name, OPTION_BOOL, &text, why);
    return rc != 0 ? rc : config_parse_bool(text, out);
}

int config_get_duration(struct config *config, const char *name, uint64_t *out, char why[256])
{
    const char *text;
    int rc = checked_value(config, name, OPTION_DURATION, &text, why);
    return rc != 0 ? rc : config_parse_duration(text, out);
}

int config_get_ratio(struct config *config, const char *name, double *out, char why[256])
{
    const char *text;
    int rc = checked_value(config, name, OPTION_RATIO, &text, why);
    return rc != 0 ? rc : config_parse_ratio(text, out);
}

int config_get_uuid(struct config *config, const char *name, struct uuid *out, char why[256])
{
    const char *text;
    int rc = checked_value(config, name, OPTION_UUID, &text, why);
    return rc != 0 ? rc : uuid_parse(text, out);
}

int config_check(struct config *config, char why[256])
{
    size_t n;
    const struct option_info *options = options_all(&n);
    for (size_t i = 0; i < n; i++) {
        const char *text = config_get(config, options[i].name);
        int rc = text != NULL ? config_check_value(&options[i], text, why) : 0;
        if (rc != 0)
            return rc;
    }
    why[0] = '\0';
    return 0;
}
