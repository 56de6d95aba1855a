#include "mon/state.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/witness.h"
#include "mon/mon.pb-c.h"

enum { STATE_FORMAT = 2, IDENTITY_FORMAT = 1 };

int mon_state_init(struct mon_state *state)
{
    memset(state, 0, sizeof *state);
    keyring_init(&state->auth);
    state->map = map_create();
    return state->map != NULL ? 0 : -ENOMEM;
}

void mon_state_fini(struct mon_state *state)
{
    map_destroy(state->map);
    keyring_fini(&state->auth);
    executed_fini(&state->executed);
    sodium_memzero(state, sizeof *state);
}

/* ---- Building entries ---- */

void mon_entry_init(struct mon_entry_builder *entry)
{
    memset(entry, 0, sizeof *entry);
    encoder_init(&entry->increment);
}

void mon_entry_fini(struct mon_entry_builder *entry)
{
    if (entry->auth != NULL)
        sodium_memzero(entry->auth, entry->n_auth * sizeof *entry->auth);
    free(entry->auth);
    executed_fini(&entry->executed);
    encoder_fini(&entry->increment);
    sodium_memzero(entry, sizeof *entry);
}

bool mon_entry_empty(const struct mon_entry_builder *entry)
{
    return entry->n_auth == 0 && entry->n_keys == 0 && entry->executed.n == 0 &&
           entry->increment.len == 0;
}

int mon_entry_set_auth(struct mon_entry_builder *entry, const struct keyring_entry *value)
{
    for (uint32_t i = 0; i < entry->n_auth; i++) {
        if (entity_equal(&entry->auth[i].name, &value->name)) {
            entry->auth[i] = *value;
            return 0;
        }
    }
    if (entry->n_auth == entry->auth_capacity) {
        uint32_t capacity = entry->auth_capacity != 0 ? entry->auth_capacity * 2 : 4;
        struct keyring_entry *auth = realloc(entry->auth, capacity * sizeof *auth);
        if (auth == NULL)
            return -ENOMEM;
        entry->auth = auth;
        entry->auth_capacity = capacity;
    }
    entry->auth[entry->n_auth++] = *value;
    return 0;
}

/* ---- Records of entities and keys ---- */

/* Protobuf structs that point into keyring entries; valid as long as those. */
struct packed_auth {
    Limpet__Mon__AuthRecord *records;
    Limpet__Mon__AuthRecord **pointers;
    char (*names)[ENTITY_TEXT_MAX];
};

static void auth_packed_fini(struct packed_auth *packed)
{
    free(packed->records);
    free(packed->pointers);
    free(packed->names);
}

static int auth_pack(const struct keyring_entry *entries, uint32_t n, struct packed_auth *packed)
{
    packed->records = calloc(n + 1, sizeof *packed->records);
    packed->pointers = calloc(n + 1, sizeof *packed->pointers);
    packed->names = calloc(n + 1, sizeof *packed->names);
    if (packed->records == NULL || packed->pointers == NULL || packed->names == NULL) {
        auth_packed_fini(packed);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        Limpet__Mon__AuthRecord *record = &packed->records[i];
        limpet__mon__auth_record__init(record);
        entity_format(&entries[i].name, packed->names[i]);
        record->entity = packed->names[i];
        if (entries[i].secret.len > 0) {
            record->has_secret = true;
            record->secret.len = entries[i].secret.len;
            record->secret.data = (uint8_t *)(uintptr_t)entries[i].secret.bytes;
            record->mon_caps = (char *)(uintptr_t)entries[i].mon_caps;
            record->osd_caps = (char *)(uintptr_t)entries[i].osd_caps;
        }
        packed->pointers[i] = record;
    }
    return 0;
}

static int caps_take(const char *text, char out[AUTH_CAPS_TEXT_MAX])
{
    struct caps caps;

    if (text == NULL)
        text = "";
    if (strlen(text) >= AUTH_CAPS_TEXT_MAX || caps_parse(text, &caps) != 0)
        return -EBADMSG;
    snprintf(out, AUTH_CAPS_TEXT_MAX, "%s", text);
    return 0;
}

static int auth_unpack(const Limpet__Mon__AuthRecord *record, struct keyring_entry *out)
{
    memset(out, 0, sizeof *out);
    if (entity_parse(record->entity, &out->name) != 0)
        return -EBADMSG;
    if (!record->has_secret)
        return 0;
    if (record->secret.len == 0 || record->secret.len > AUTH_SECRET_MAX)
        return -EBADMSG;
    out->secret.len = (uint8_t)record->secret.len;
    memcpy(out->secret.bytes, record->secret.data, record->secret.len);
    int rc = caps_take(record->mon_caps, out->mon_caps);
    return rc == 0 ? caps_take(record->osd_caps, out->osd_caps) : rc;
}

static void keys_pack(const struct service_key *keys, uint32_t n,
                      Limpet__Mon__ServiceKeyRecord *records,
                      Limpet__Mon__ServiceKeyRecord **pointers)
{
    for (uint32_t i = 0; i < n; i++) {
        limpet__mon__service_key_record__init(&records[i]);
        records[i].service = ENTITY_OSD;
        records[i].id = keys[i].id;
        records[i].key.len = sizeof keys[i].key;
        records[i].key.data = (uint8_t *)(uintptr_t)keys[i].key;
        pointers[i] = &records[i];
    }
}

static int keys_unpack(Limpet__Mon__ServiceKeyRecord *const *records, size_t n,
                       struct service_key *keys)
{
    if (n > STATE_SERVICE_KEYS_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < n; i++) {
        if (records[i]->service != ENTITY_OSD || records[i]->key.len != sizeof keys[i].key)
            return -EBADMSG;
        keys[i].id = records[i]->id;
        memcpy(keys[i].key, records[i]->key.data, sizeof keys[i].key);
    }
    return 0;
}

/* As of entities: protobuf structs that point into what is packed. */
struct packed_executed {
    Limpet__Mon__Executed *records;
    Limpet__Mon__Executed **pointers;
    char (*names)[ENTITY_TEXT_MAX];
};

static void executed_packed_fini(struct packed_executed *packed)
{
    free(packed->records);
    free(packed->pointers);
    free(packed->names);
}

static int executed_pack(const struct executed *executed, struct packed_executed *packed)
{
    packed->records = calloc(executed->n + 1, sizeof *packed->records);
    packed->pointers = calloc(executed->n + 1, sizeof *packed->pointers);
    packed->names = calloc(executed->n + 1, sizeof *packed->names);
    if (packed->records == NULL || packed->pointers == NULL || packed->names == NULL) {
        executed_packed_fini(packed);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < executed->n; i++) {
        const struct executed_command *command = &executed->list[i];
        Limpet__Mon__Executed *record = &packed->records[i];
        limpet__mon__executed__init(record);
        entity_format(&command->sender, packed->names[i]);
        record->entity = packed->names[i];
        record->instance = command->instance;
        record->tid = command->tid;
        record->has_oldest = command->oldest > 0;
        record->oldest = command->oldest;
        record->result = command->result;
        record->status = command->status;
        record->has_output = command->output_len > 0;
        record->output.len = command->output_len;
        record->output.data = command->output;
        packed->pointers[i] = record;
    }
    return 0;
}

static int executed_unpack(Limpet__Mon__Executed *const *records, size_t n, struct executed *out)
{
    int rc = n <= EXECUTED_MAX ? 0 : -EBADMSG;

    for (size_t i = 0; i < n && rc == 0; i++) {
        const Limpet__Mon__Executed *record = records[i];
        struct executed_command command = {.instance = record->instance,
                                           .tid = record->tid,
                                           .oldest = record->oldest,
                                           .result = record->result,
                                           .status = record->status,
                                           .output_len = record->output.len,
                                           .output = record->output.data};
        if (entity_parse(record->entity, &command.sender) != 0 ||
            (record->status != NULL && strlen(record->status) >= EXECUTED_STATUS_MAX) ||
            record->output.len > EXECUTED_OUTPUT_MAX)
            return -EBADMSG;
        rc = executed_add(out, &command);
    }
    return rc;
}

/* Packs a message into an encoder. */
static int pack_into(const ProtobufCMessage *message, struct encoder *out)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *room = encode_reserve(out, len);

    if (room == NULL)
        return -ENOMEM;
    protobuf_c_message_pack(message, room);
    return 0;
}

/* ---- Entries ---- */

int mon_entry_encode(const struct mon_entry_builder *entry, struct encoder *out)
{
    Limpet__Mon__Entry wire;
    Limpet__Mon__ServiceKeyRecord keys[STATE_SERVICE_KEYS_MAX];
    Limpet__Mon__ServiceKeyRecord *key_pointers[STATE_SERVICE_KEYS_MAX];
    struct packed_auth auth;
    struct packed_executed executed;

    int rc = auth_pack(entry->auth, entry->n_auth, &auth);
    if (rc != 0)
        return rc;
    rc = executed_pack(&entry->executed, &executed);
    if (rc != 0) {
        auth_packed_fini(&auth);
        return rc;
    }
    limpet__mon__entry__init(&wire);
    wire.n_executed = entry->executed.n;
    wire.executed = executed.pointers;
    keys_pack(entry->keys, entry->n_keys, keys, key_pointers);
    wire.n_auth = entry->n_auth;
    wire.auth = auth.pointers;
    wire.n_keys = entry->n_keys;
    wire.keys = key_pointers;
    if (entry->increment.len > 0) {
        wire.has_increment = true;
        wire.increment.len = entry->increment.len;
        wire.increment.data = entry->increment.data;
    }
    rc = pack_into(&wire.base, out);
    auth_packed_fini(&auth);
    executed_packed_fini(&executed);
    return rc;
}

static int keyring_remove(struct keyring *keyring, const struct entity_name *name)
{
    for (uint32_t i = 0; i < keyring->n; i++) {
        if (entity_equal(&keyring->entries[i].name, name)) {
            struct keyring_entry *last = &keyring->entries[keyring->n - 1];
            memmove(&keyring->entries[i], &keyring->entries[i + 1],
                    (keyring->n - i - 1) * sizeof *last);
            sodium_memzero(last, sizeof *last);
            keyring->n--;
            return 0;
        }
    }
    return -ENOENT;
}

/* Everything that an entry says, checked, before anything of it is applied. */
struct decoded_entry {
    uint32_t n_auth;
    struct keyring_entry *auth;
    uint32_t n_keys;
    struct service_key keys[STATE_SERVICE_KEYS_MAX];
    struct map_increment *increment;
    struct executed executed;
};

static void decoded_fini(struct decoded_entry *decoded)
{
    if (decoded->auth != NULL)
        sodium_memzero(decoded->auth, decoded->n_auth * sizeof *decoded->auth);
    free(decoded->auth);
    executed_fini(&decoded->executed);
    map_increment_destroy(decoded->increment);
    sodium_memzero(decoded, sizeof *decoded);
}

static int entry_decode(const Limpet__Mon__Entry *wire, struct decoded_entry *out)
{
    memset(out, 0, sizeof *out);
    if (wire->n_auth > KEYRING_ENTRIES_MAX)
        return -EBADMSG;
    out->auth = calloc(wire->n_auth + 1, sizeof *out->auth);
    if (out->auth == NULL)
        return -ENOMEM;
    int rc = 0;
    for (size_t i = 0; i < wire->n_auth && rc == 0; i++)
        rc = auth_unpack(wire->auth[i], &out->auth[i]);
    out->n_auth = (uint32_t)wire->n_auth;
    if (rc == 0)
        rc = keys_unpack(wire->keys, wire->n_keys, out->keys);
    out->n_keys = rc == 0 ? (uint32_t)wire->n_keys : 0;
    if (rc == 0)
        rc = executed_unpack(wire->executed, wire->n_executed, &out->executed);
    if (rc == 0 && wire->has_increment)
        rc = map_increment_decode(wire->increment.data, wire->increment.len, &out->increment);
    return rc;
}

int mon_state_apply(struct mon_state *state, const void *data, size_t len, struct mon_applied *out)
{
    struct decoded_entry decoded;

    memset(out, 0, sizeof *out);
    Limpet__Mon__Entry *wire = limpet__mon__entry__unpack(NULL, len, data);
    if (wire == NULL)
        return -EBADMSG;
    int rc = entry_decode(wire, &decoded);
    if (rc == 0 && decoded.increment != NULL)
        rc = map_apply(state->map, decoded.increment);
    if (rc == 0 && decoded.increment != NULL)
        witness_map(state->map, decoded.increment);
    for (uint32_t i = 0; i < decoded.n_auth && rc == 0; i++) {
        if (decoded.auth[i].secret.len == 0)
            (void)keyring_remove(&state->auth, &decoded.auth[i].name);
        else
            rc = keyring_set(&state->auth, &decoded.auth[i]);
    }
    if (rc == 0 && decoded.n_keys > 0) {
        state->n_keys = decoded.n_keys;
        memcpy(state->keys, decoded.keys, sizeof state->keys);
    }
    for (uint32_t i = 0; i < decoded.executed.n && rc == 0; i++)
        rc = executed_add(&state->executed, &decoded.executed.list[i]);
    if (rc == 0 && wire->has_increment) {
        out->increment = wire->increment.data;
        out->increment_len = wire->increment.len;
    }
    decoded_fini(&decoded);
    if (rc != 0)
        limpet__mon__entry__free_unpacked(wire, NULL);
    else
        out->unpacked = wire;
    return rc;
}

void mon_entry_release(struct mon_applied *applied)
{
    if (applied->unpacked != NULL)
        limpet__mon__entry__free_unpacked(applied->unpacked, NULL);
    memset(applied, 0, sizeof *applied);
}

/* ---- Snapshots ---- */

int mon_state_encode(const struct mon_state *state, struct encoder *out)
{
    Limpet__Mon__State wire;
    Limpet__Mon__ServiceKeyRecord keys[STATE_SERVICE_KEYS_MAX];
    Limpet__Mon__ServiceKeyRecord *key_pointers[STATE_SERVICE_KEYS_MAX];
    struct packed_auth auth;
    struct packed_executed executed;
    struct encoder map;

    int rc = auth_pack(state->auth.entries, state->auth.n, &auth);
    if (rc != 0)
        return rc;
    rc = executed_pack(&state->executed, &executed);
    if (rc != 0) {
        auth_packed_fini(&auth);
        return rc;
    }
    encoder_init(&map);
    rc = map_encode(state->map, &map);
    if (rc == 0 && map.failed)
        rc = -ENOMEM;
    if (rc == 0) {
        limpet__mon__state__init(&wire);
        keys_pack(state->keys, state->n_keys, keys, key_pointers);
        wire.format = STATE_FORMAT;
        wire.map.len = map.len;
        wire.map.data = map.data;
        wire.n_auth = state->auth.n;
        wire.auth = auth.pointers;
        wire.n_keys = state->n_keys;
        wire.keys = key_pointers;
        wire.n_executed = state->executed.n;
        wire.executed = executed.pointers;
        rc = pack_into(&wire.base, out);
    }
    encoder_fini(&map);
    auth_packed_fini(&auth);
    executed_packed_fini(&executed);
    return rc;
}

static int state_decode(const Limpet__Mon__State *wire, struct mon_state *out)
{
    if (wire->format != STATE_FORMAT || wire->n_auth > KEYRING_ENTRIES_MAX)
        return -EBADMSG;
    int rc = 0;
    for (size_t i = 0; i < wire->n_auth && rc == 0; i++) {
        struct keyring_entry entry;
        rc = auth_unpack(wire->auth[i], &entry);
        if (rc == 0)
            rc = entry.secret.len > 0 ? keyring_set(&out->auth, &entry) : -EBADMSG;
    }
    if (rc == 0)
        rc = keys_unpack(wire->keys, wire->n_keys, out->keys);
    if (rc == 0) {
        out->n_keys = (uint32_t)wire->n_keys;
        rc = executed_unpack(wire->executed, wire->n_executed, &out->executed);
    }
    if (rc == 0) {
        rc = map_decode(wire->map.data, wire->map.len, &out->map);
    }
    return rc;
}

int mon_state_restore(struct mon_state *state, const void *data, size_t len)
{
    struct mon_state next = {0};

    Limpet__Mon__State *wire = limpet__mon__state__unpack(NULL, len, data);
    if (wire == NULL)
        return -EBADMSG;
    keyring_init(&next.auth);
    int rc = state_decode(wire, &next);
    limpet__mon__state__free_unpacked(wire, NULL);
    if (rc != 0) {
        mon_state_fini(&next);
        return rc;
    }
    mon_state_fini(state);
    *state = next;
    return 0;
}

/* ---- Identity ---- */

void mon_identity_fini(struct mon_identity *identity)
{
    keyring_fini(&identity->keyring);
}

int mon_identity_encode(const struct mon_identity *identity, struct encoder *out)
{
    Limpet__Mon__Identity wire;
    Limpet__Mon__InitialMon mons[MAP_MONS_MAX];
    Limpet__Mon__InitialMon *pointers[MAP_MONS_MAX];
    struct packed_auth auth;

    int rc = auth_pack(identity->keyring.entries, identity->keyring.n, &auth);
    if (rc != 0)
        return rc;
    limpet__mon__identity__init(&wire);
    wire.format = IDENTITY_FORMAT;
    wire.fsid.len = sizeof identity->fsid.bytes;
    wire.fsid.data = (uint8_t *)(uintptr_t)identity->fsid.bytes;
    wire.name = (char *)(uintptr_t)identity->name;
    for (uint32_t i = 0; i < identity->n_mons; i++) {
        const struct map_mon *mon = &identity->mons[i];
        limpet__mon__initial_mon__init(&mons[i]);
        mons[i].id = mon->id;
        mons[i].name = (char *)(uintptr_t)mon->name;
        mons[i].family = mon->address.family;
        mons[i].ip.len = mon->address.family == 4 ? 4 : 16;
        mons[i].ip.data = (uint8_t *)(uintptr_t)mon->address.ip;
        mons[i].port = mon->address.port;
        pointers[i] = &mons[i];
    }
    wire.n_mons = identity->n_mons;
    wire.mons = pointers;
    wire.n_auth = identity->keyring.n;
    wire.auth = auth.pointers;
    rc = pack_into(&wire.base, out);
    auth_packed_fini(&auth);
    return rc;
}

static int mon_unpack(const Limpet__Mon__InitialMon *wire, struct map_mon *out)
{
    if (wire->id == 0 || strlen(wire->name) == 0 || strlen(wire->name) > ENTITY_ID_MAX ||
        wire->port == 0 || wire->port > UINT16_MAX ||
        !((wire->family == 4 && wire->ip.len == 4) || (wire->family == 6 && wire->ip.len == 16)))
        return -EBADMSG;
    out->id = wire->id;
    snprintf(out->name, sizeof out->name, "%s", wire->name);
    out->address.family = (uint8_t)wire->family;
    memcpy(out->address.ip, wire->ip.data, wire->ip.len);
    out->address.port = (uint16_t)wire->port;
    return 0;
}

int mon_identity_decode(const void *data, size_t len, struct mon_identity *out)
{
    memset(out, 0, sizeof *out);
    keyring_init(&out->keyring);
    Limpet__Mon__Identity *wire = limpet__mon__identity__unpack(NULL, len, data);
    if (wire == NULL)
        return -EBADMSG;
    int rc = 0;
    if (wire->format != IDENTITY_FORMAT || wire->fsid.len != sizeof out->fsid.bytes ||
        strlen(wire->name) > ENTITY_ID_MAX || wire->n_mons == 0 || wire->n_mons > MAP_MONS_MAX ||
        wire->n_auth > KEYRING_ENTRIES_MAX)
        rc = -EBADMSG;
    for (size_t i = 0; rc == 0 && i < wire->n_mons; i++)
        rc = mon_unpack(wire->mons[i], &out->mons[i]);
    for (size_t i = 0; rc == 0 && i < wire->n_auth; i++) {
        struct keyring_entry entry;
        rc = auth_unpack(wire->auth[i], &entry);
        if (rc == 0)
            rc = entry.secret.len > 0 ? keyring_set(&out->keyring, &entry) : -EBADMSG;
    }
    if (rc == 0) {
        memcpy(out->fsid.bytes, wire->fsid.data, sizeof out->fsid.bytes);
        snprintf(out->name, sizeof out->name, "%s", wire->name);
        out->n_mons = (uint32_t)wire->n_mons;
    }
    limpet__mon__identity__free_unpacked(wire, NULL);
    if (rc != 0)
        mon_identity_fini(out);
    return rc;
}
