/* limpet keyring: files with keys, made and shown without a cluster. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "client/cli/cli.h"
#include "common/auth.h"

static void load_if_there(struct keyring *keyring, const char *path)
{
    char why[256] = "";
    int rc = keyring_load(keyring, path, why);
    if (rc != 0 && rc != -ENOENT)
        fail(rc, "%s", why);
}

static void set_caps(const struct cli *cli, struct keyring_entry *entry)
{
    for (int i = 0; i < cli->n_values; i++) {
        const struct cli_value *value = &cli->values[i];
        if (strcmp(value->option->name, "cap") != 0)
            continue;
        char *caps = strcmp(value->text, "mon") == 0   ? entry->mon_caps
                     : strcmp(value->text, "osd") == 0 ? entry->osd_caps
                                                       : NULL;
        struct caps parsed;
        if (caps == NULL)
            fail(EINVAL, "--cap: there is no service '%s', only mon and osd", value->text);
        if (strlen(value->second) >= AUTH_CAPS_TEXT_MAX || caps_parse(value->second, &parsed) != 0)
            fail(EINVAL, "--cap %s: '%s' is no capability, such as 'allow rw pool=x' or 'allow *'",
                 value->text, value->second);
        snprintf(caps, AUTH_CAPS_TEXT_MAX, "%s", value->second);
    }
}

static void set_key(const struct cli *cli, struct keyring_entry *entry, const char *name)
{
    const char *key = cli_text(cli, "add-key", NULL);
    int rc = 0;
    if (key != NULL)
        rc = auth_secret_parse(key, &entry->secret);
    else if (cli_has(cli, "gen-key"))
        rc = auth_secret_generate(&entry->secret);
    else if (entry->secret.len == 0)
        fail(EINVAL, "%s has no key yet: give --gen-key or --add-key KEY", name);
    if (rc != 0)
        fail(rc, "key of %s: %s", name, key != NULL ? "it is no key" : error_phrase(rc));
}

static void sync_folder(const char *path)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        slash[slash == folder ? 1 : 0] = 0;
    int fd = open(slash != NULL ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

/* Readers see the old file or the new one; nobody else may read it. */
static void write_keyring(const struct keyring *keyring, const char *path)
{
    char temporary[4096];
    char *text = keyring_format(keyring);
    if (text == NULL)
        fail(ENOMEM, "out of memory");
    size_t len = strlen(text);
    int n = snprintf(temporary, sizeof temporary, "%s.limpet-XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof temporary)
        fail(ENAMETOOLONG, "%s: %s", path, error_phrase(ENAMETOOLONG));
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        fail(errno, "%s: %s", path, error_phrase(errno));
    cli_cleanup_set(temporary);
    ssize_t written = write(fd, text, len);
    if (written != (ssize_t)len || fsync(fd) != 0 || close(fd) != 0)
        fail(written >= 0 && written != (ssize_t)len ? ENOSPC : errno, "%s: %s", path,
             error_phrase(written >= 0 && written != (ssize_t)len ? ENOSPC : errno));
    if (rename(temporary, path) != 0)
        fail(errno, "%s: %s", path, error_phrase(errno));
    cli_cleanup_set(NULL);
    sync_folder(path);
    sodium_memzero(text, len);
    free(text);
}

int run_keyring_create(struct cli *cli)
{
    const char *path = cli->words[0];
    const char *name = cli_text(cli, "name", "client.admin");
    struct keyring_entry entry = {0};
    struct keyring keyring;
    if (entity_parse(name, &entry.name) != 0)
        fail(EINVAL, "--name: '%s' is no name such as client.admin, osd.0 or mon.", name);
    keyring_init(&keyring);
    load_if_there(&keyring, path);
    const struct keyring_entry *before = keyring_find(&keyring, &entry.name);
    if (before != NULL)
        entry = *before;
    set_key(cli, &entry, name);
    set_caps(cli, &entry);
    int rc = keyring_set(&keyring, &entry);
    if (rc != 0)
        fail(rc, "%s: %s", path, error_phrase(rc));
    write_keyring(&keyring, path);
    keyring_fini(&keyring);
    sodium_memzero(&entry, sizeof entry);
    if (cli->format == FORMAT_PLAIN)
        printf("%s: %s %s\n", path, before != NULL ? "changed" : "added", name);
    return 0;
}

int run_keyring_list(struct cli *cli)
{
    char why[256] = "", text[ENTITY_TEXT_MAX];
    struct keyring keyring;
    keyring_init(&keyring);
    int rc = keyring_load(&keyring, cli->words[0], why);
    if (rc != 0)
        fail(rc, "%s", why[0] != 0 ? why : error_phrase(rc));
    json_t *all = json_array();
    struct table *t = table_create("lll");
    for (uint32_t i = 0; i < keyring.n; i++) {
        const struct keyring_entry *entry = &keyring.entries[i];
        entity_format(&entry->name, text);
        table_cell(t, "%s", text);
        table_cell(t, "mon '%s'", entry->mon_caps);
        table_cell(t, "osd '%s'", entry->osd_caps);
        json_array_append_new(all, json_pack("{s:s, s:{s:s, s:s}}", "entity", text, "caps", "mon",
                                             entry->mon_caps, "osd", entry->osd_caps));
    }
    if (cli->format == FORMAT_PLAIN)
        table_print(t, "");
    else
        cli_print_json(cli, all);
    table_destroy(t);
    json_decref(all);
    keyring_fini(&keyring);
    return 0;
}
