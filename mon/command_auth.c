/* Commands about entities, their keys and capabilities. */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "mon/command.h"

/* ---- Output, in the format of keyring files ---- */

static int print_keyring(struct command_call *call, const struct keyring_entry *entries, uint32_t n)
{
    struct keyring keyring;
    int rc = 0;

    keyring_init(&keyring);
    for (uint32_t i = 0; i < n && rc == 0; i++)
        rc = keyring_set(&keyring, &entries[i]);
    char *text = rc == 0 ? keyring_format(&keyring) : NULL;
    if (text != NULL) {
        encode_bytes(&call->request->output, text, strlen(text));
        sodium_memzero(text, strlen(text));
        free(text);
    } else if (rc == 0) {
        rc = -ENOMEM;
    }
    keyring_fini(&keyring);
    return rc;
}

static json_t *entry_json(const struct keyring_entry *entry)
{
    char name[ENTITY_TEXT_MAX];
    char key[96];
    json_t *caps = json_object();

    auth_secret_format(&entry->secret, key);
    if (entry->mon_caps[0] != '\0')
        json_object_set_new(caps, "mon", json_string(entry->mon_caps));
    if (entry->osd_caps[0] != '\0')
        json_object_set_new(caps, "osd", json_string(entry->osd_caps));
    json_t *value = json_pack("{s:s, s:s, s:o}", "entity", entity_format(&entry->name, name), "key",
                              key, "caps", caps);
    sodium_memzero(key, sizeof key);
    return value;
}

static int print_entry(struct command_call *call, const struct keyring_entry *entry)
{
    if (!call->json)
        return print_keyring(call, entry, 1);
    json_t *list = json_array();
    json_array_append_new(list, entry_json(entry));
    return call_json(call, list);
}

/* ---- Arguments ---- */

static int take_entity(struct command_call *call, struct entity_name *out)
{
    const char *text = call_need(call, "entity");

    if (text == NULL)
        return -EINVAL;
    if (entity_parse(text, out) != 0 || out->type == ENTITY_MON || out->id[0] == '\0')
        return call_say(call, -EINVAL, "'%.64s' is no client or OSD: as in client.admin, osd.0",
                        text);
    return 0;
}

/* caps: ["mon", "allow r", "osd", "allow rw pool=x"] */
static int take_caps(struct command_call *call, struct keyring_entry *entry, bool *given)
{
    const json_t *list = json_object_get(call->args, "caps");
    struct caps caps;

    *given = json_array_size(list) > 0;
    entry->mon_caps[0] = '\0';
    entry->osd_caps[0] = '\0';
    if (json_array_size(list) % 2 != 0)
        return call_say(call, -EINVAL, "capabilities are pairs: mon 'allow r' osd 'allow rw'");
    for (size_t i = 0; i + 1 < json_array_size(list); i += 2) {
        const char *service = json_string_value(json_array_get(list, i));
        const char *text = json_string_value(json_array_get(list, i + 1));
        if (service == NULL || text == NULL || strlen(text) >= AUTH_CAPS_TEXT_MAX ||
            caps_parse(text, &caps) != 0)
            return call_say(call, -EINVAL, "capabilities cannot be read: %.64s '%.128s'",
                            service != NULL ? service : "?", text != NULL ? text : "?");
        if (strcmp(service, "mon") == 0)
            strcpy(entry->mon_caps, text);
        else if (strcmp(service, "osd") == 0)
            strcpy(entry->osd_caps, text);
        else if (strcmp(service, "mgr") != 0 && strcmp(service, "mds") != 0)
            return call_say(call, -EINVAL, "there is no service '%.32s': mon or osd", service);
    }
    return 0;
}

/* The entity as it will be after what is staged already. */
static const struct keyring_entry *find(const struct command_call *call,
                                        const struct entity_name *name)
{
    const struct mon_entry_builder *entry = call->batch != NULL ? &call->batch->entry : NULL;

    for (uint32_t i = 0; entry != NULL && i < entry->n_auth; i++) {
        if (entity_equal(&entry->auth[i].name, name))
            return entry->auth[i].secret.len > 0 ? &entry->auth[i] : NULL;
    }
    return access_find(call->mon, name);
}

/* ---- Reading ---- */

static int run_get(struct command_call *call)
{
    struct entity_name name;
    int rc = take_entity(call, &name);

    if (rc != 0)
        return rc;
    const struct keyring_entry *entry = find(call, &name);
    if (entry == NULL)
        return call_say(call, -ENOENT, "there is no entity %s: see limpet auth ls",
                        call_text(call, "entity"));
    return print_entry(call, entry);
}

static int run_print_key(struct command_call *call)
{
    struct entity_name name;
    char key[96];
    int rc = take_entity(call, &name);

    if (rc != 0)
        return rc;
    const struct keyring_entry *entry = find(call, &name);
    if (entry == NULL)
        return call_say(call, -ENOENT, "there is no entity %s: see limpet auth ls",
                        call_text(call, "entity"));
    auth_secret_format(&entry->secret, key);
    if (call->json)
        rc = call_json(call, json_pack("{s:s}", "key", key));
    else
        call_print(call, "%s\n", key);
    sodium_memzero(key, sizeof key);
    return rc;
}

static int run_ls(struct command_call *call)
{
    const struct keyring *auth = &call->mon->state.auth;

    if (!call->json)
        return print_keyring(call, auth->entries, auth->n);
    json_t *list = json_array();
    for (uint32_t i = 0; i < auth->n; i++)
        json_array_append_new(list, entry_json(&auth->entries[i]));
    return call_json(call, json_pack("{s:o}", "auth_dump", list));
}

/* ---- Changing ---- */

static int stage_entry(struct command_call *call, const struct keyring_entry *entry)
{
    int rc = mon_entry_set_auth(&call->batch->entry, entry);

    return rc == 0 ? print_entry(call, entry) : rc;
}

static bool room_left(const struct command_call *call)
{
    return call->mon->state.auth.n + call->batch->entry.n_auth < KEYRING_ENTRIES_MAX;
}

/* Takes a key from the input, which is a keyring; else makes one. */
static int new_secret(struct command_call *call, struct keyring_entry *entry)
{
    const struct buf_slice *input = &call->request->message->payload;
    struct keyring keyring;
    char why[256];

    if (input->len == 0)
        return auth_secret_generate(&entry->secret);
    keyring_init(&keyring);
    int rc = keyring_parse(&keyring, (const char *)input->data, input->len, why);
    const struct keyring_entry *given = rc == 0 ? keyring_find(&keyring, &entry->name) : NULL;
    if (rc != 0)
        rc = call_say(call, -EINVAL, "the keyring cannot be read: %.200s", why);
    else if (given == NULL)
        rc = call_say(call, -EINVAL, "the keyring has no key of %s", call_text(call, "entity"));
    else
        entry->secret = given->secret;
    keyring_fini(&keyring);
    return rc;
}

static int add_entity(struct command_call *call, bool get_or_create)
{
    struct keyring_entry entry = {0};
    bool given;
    int rc = take_entity(call, &entry.name);

    if (rc == 0)
        rc = take_caps(call, &entry, &given);
    if (rc != 0)
        return rc;
    const struct keyring_entry *known = find(call, &entry.name);
    if (known != NULL) {
        bool same = strcmp(known->mon_caps, entry.mon_caps) == 0 &&
                    strcmp(known->osd_caps, entry.osd_caps) == 0;
        if (given && !same)
            return call_say(call, -EINVAL,
                            "%s exists with other capabilities: change them with limpet auth caps",
                            call_text(call, "entity"));
        return get_or_create ? print_entry(call, known)
                             : call_say(call, 0, "%s exists already", call_text(call, "entity"));
    }
    if (!room_left(call))
        return call_say(call, -ENOSPC, "there are %d entities: no more fit", KEYRING_ENTRIES_MAX);
    rc = new_secret(call, &entry);
    if (rc == 0)
        rc = stage_entry(call, &entry);
    if (rc == 0 && !get_or_create)
        call_say(call, 0, "added key for %s", call_text(call, "entity"));
    sodium_memzero(&entry, sizeof entry);
    return rc;
}

static int run_get_or_create(struct command_call *call)
{
    return add_entity(call, true);
}

static int run_add(struct command_call *call)
{
    return add_entity(call, false);
}

static int run_caps(struct command_call *call)
{
    struct keyring_entry entry = {0};
    bool given;
    int rc = take_entity(call, &entry.name);

    if (rc == 0)
        rc = take_caps(call, &entry, &given);
    if (rc != 0)
        return rc;
    const struct keyring_entry *known = find(call, &entry.name);
    if (known == NULL)
        return call_say(call, -ENOENT, "there is no entity %s: see limpet auth ls",
                        call_text(call, "entity"));
    entry.secret = known->secret;
    rc = mon_entry_set_auth(&call->batch->entry, &entry);
    sodium_memzero(&entry, sizeof entry);
    return rc == 0 ? call_say(call, 0, "updated caps for %s", call_text(call, "entity")) : rc;
}

static int run_remove(struct command_call *call)
{
    struct keyring_entry gone = {0};
    int rc = take_entity(call, &gone.name);

    if (rc != 0)
        return rc;
    if (find(call, &gone.name) == NULL)
        return call_say(call, 0, "entity %s does not exist", call_text(call, "entity"));
    rc = mon_entry_set_auth(&call->batch->entry, &gone);
    return rc == 0 ? call_say(call, 0, "removed %s", call_text(call, "entity")) : rc;
}

const struct command commands_auth[] = {
    {"auth ls", CAP_ALL, false, run_ls, "", "all entities, keys and capabilities"},
    {"auth list", CAP_ALL, false, run_ls, "", "the same as auth ls"},
    {"auth get", CAP_ALL, false, run_get, "entity", "an entity as a keyring"},
    {"auth get-key", CAP_ALL, false, run_print_key, "entity", "an entity's key"},
    {"auth print-key", CAP_ALL, false, run_print_key, "entity", "the same as auth get-key"},
    {"auth get-or-create", CAP_ALL, true, run_get_or_create, "entity [caps]",
     "an entity as a keyring, made if it does not exist"},
    {"auth add", CAP_ALL, true, run_add, "entity [caps]",
     "add an entity, with the key of the keyring given as input"},
    {"auth caps", CAP_ALL, true, run_caps, "entity caps", "replace an entity's capabilities"},
    {"auth rm", CAP_ALL, true, run_remove, "entity", "remove an entity"},
    {"auth del", CAP_ALL, true, run_remove, "entity", "the same as auth rm"},
    {0},
};
