/* The state that monitors agree on: entries, snapshots, the identity of a monitor. */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mon/machine.h"
#include "mon/state.h"

static struct keyring_entry entity(const char *name, uint8_t fill, const char *mon_caps,
                                   const char *osd_caps)
{
    struct keyring_entry entry = {.secret = {.len = 32}};

    assert_int_equal(entity_parse(name, &entry.name), 0);
    memset(entry.secret.bytes, fill, 32);
    snprintf(entry.mon_caps, sizeof entry.mon_caps, "%s", mon_caps);
    snprintf(entry.osd_caps, sizeof entry.osd_caps, "%s", osd_caps);
    return entry;
}

/* An entry with everything: a first map, two entities, a key. */
static void make_entry(struct encoder *out)
{
    struct map_mon mon = {
        .id = 1, .name = "a", .address = {.family = 4, .ip = {10, 0, 0, 1}, .port = 3300}};
    struct machine_initial initial = {.n_mons = 1, .mons = &mon, .chooseleaf_type = 1};
    struct keyring_entry admin = entity("client.admin", 1, "allow *", "allow *");
    struct keyring_entry osd = entity("osd.0", 2, "profile osd", "allow *");
    struct machine *machine = machine_create();
    struct cluster_map *map = map_create();
    struct mon_entry_builder entry;
    struct change *change;

    memset(initial.fsid.bytes, 0x5a, sizeof initial.fsid.bytes);
    mon_entry_init(&entry);
    assert_int_equal(change_begin(machine, map, 1700000000000000000, &change), 0);
    assert_int_equal(machine_initial(change, &initial), 0);
    assert_int_equal(change_encode(change, &entry.increment), 0);
    assert_int_equal(mon_entry_set_auth(&entry, &admin), 0);
    assert_int_equal(mon_entry_set_auth(&entry, &osd), 0);
    entry.n_keys = 1;
    entry.keys[0].id = 1;
    memset(entry.keys[0].key, 7, sizeof entry.keys[0].key);
    const struct executed_command command = {.sender = admin.name,
                                             .instance = 0x1122334455667788,
                                             .tid = 9,
                                             .oldest = 8,
                                             .result = -2,
                                             .status = "status",
                                             .output_len = 6,
                                             .output = (uint8_t *)(uintptr_t) "output"};
    assert_int_equal(executed_add(&entry.executed, &command), 0);
    assert_int_equal(mon_entry_encode(&entry, out), 0);
    change_end(change);
    mon_entry_fini(&entry);
    machine_destroy(machine);
    map_destroy(map);
}

static void apply(struct mon_state *state, const struct encoder *e)
{
    struct mon_applied applied;

    assert_int_equal(mon_state_apply(state, e->data, e->len, &applied), 0);
    mon_entry_release(&applied);
}

static void entries_are_applied(void **unused)
{
    struct mon_state state;
    struct encoder e;
    struct entity_name name;

    (void)unused;
    encoder_init(&e);
    make_entry(&e);
    assert_int_equal(mon_state_init(&state), 0);
    apply(&state, &e);
    assert_int_equal(state.map->epoch, 1);
    assert_int_equal(state.n_keys, 1);
    assert_int_equal(state.auth.n, 2);
    assert_int_equal(state.executed.n, 1);
    /* The same once more does not fit, and changes nothing. */
    struct mon_applied applied;
    assert_int_equal(mon_state_apply(&state, e.data, e.len, &applied), -ESTALE);
    assert_int_equal(state.map->epoch, 1);
    /* One entity changes, one goes. */
    struct mon_entry_builder entry;
    struct keyring_entry change = entity("client.admin", 9, "allow r", "");
    struct keyring_entry gone = entity("osd.0", 0, "", "");
    gone.secret.len = 0;
    mon_entry_init(&entry);
    assert_true(mon_entry_empty(&entry));
    assert_int_equal(mon_entry_set_auth(&entry, &change), 0);
    assert_int_equal(mon_entry_set_auth(&entry, &gone), 0);
    encoder_reset(&e);
    assert_int_equal(mon_entry_encode(&entry, &e), 0);
    apply(&state, &e);
    assert_int_equal(state.auth.n, 1);
    assert_int_equal(entity_parse("client.admin", &name), 0);
    assert_string_equal(keyring_find(&state.auth, &name)->mon_caps, "allow r");
    assert_int_equal(keyring_find(&state.auth, &name)->secret.bytes[0], 9);
    assert_int_equal(state.n_keys, 1);
    mon_entry_fini(&entry);
    mon_state_fini(&state);
    encoder_fini(&e);
}

static void the_newest_commands_are_remembered(void **unused)
{
    struct executed executed = {0};
    struct executed_command command = {.instance = 5, .status = "done"};
    struct entity_name other;
    const struct executed_command *found = NULL;

    (void)unused;
    assert_int_equal(entity_parse("client.admin", &command.sender), 0);
    assert_int_equal(entity_parse("client.other", &other), 0);
    for (uint64_t tid = 1; tid <= EXECUTED_MAX + 2; tid++) {
        command.tid = tid * 10;
        command.oldest = tid == 4 ? 35 : 1;
        command.result = -(int32_t)tid;
        assert_int_equal(executed_add(&executed, &command), 0);
    }
    assert_int_equal(executed.n, EXECUTED_MAX);
    /* The first two have given way. */
    assert_int_equal(executed_find(&executed, &command.sender, 5, 30, &found), EXECUTED_BEFORE);
    assert_int_equal(found->result, -3);
    assert_string_equal(found->status, "done");
    assert_int_equal(executed_find(&executed, &command.sender, 5, 34, &found), EXECUTED_GIVEN_UP);
    assert_int_equal(executed_find(&executed, &command.sender, 5, 35, &found), EXECUTED_NOT);
    /* Another process, and another entity. */
    assert_int_equal(executed_find(&executed, &command.sender, 6, 30, &found), EXECUTED_NOT);
    assert_int_equal(executed_find(&executed, &other, 5, 30, &found), EXECUTED_NOT);
    executed_fini(&executed);
}

static void snapshots_hold_everything(void **unused)
{
    struct mon_state state;
    struct mon_state other;
    struct encoder e;
    struct encoder snapshot;
    struct encoder again;

    (void)unused;
    encoder_init(&e);
    encoder_init(&snapshot);
    encoder_init(&again);
    make_entry(&e);
    assert_int_equal(mon_state_init(&state), 0);
    assert_int_equal(mon_state_init(&other), 0);
    apply(&state, &e);
    assert_int_equal(mon_state_encode(&state, &snapshot), 0);
    assert_int_equal(mon_state_restore(&other, snapshot.data, snapshot.len), 0);
    assert_int_equal(mon_state_encode(&other, &again), 0);
    assert_int_equal(snapshot.len, again.len);
    assert_memory_equal(snapshot.data, again.data, again.len);
    /* A damaged one is refused and changes nothing. */
    for (size_t len = 0; len + 1 < snapshot.len; len += 7) {
        if (mon_state_restore(&other, snapshot.data, len) == 0)
            continue; /* A shorter list of entities is still a state. */
        assert_int_equal(other.map->epoch, 1);
    }
    encoder_fini(&e);
    encoder_fini(&snapshot);
    encoder_fini(&again);
    mon_state_fini(&state);
    mon_state_fini(&other);
}

static void formats_have_the_documented_bytes(void **unused)
{
    struct mon_state state;
    struct encoder e;

    (void)unused;
    encoder_init(&e);
    make_entry(&e);
    test_golden("mon_entry.hex", e.data, e.len);
    assert_int_equal(mon_state_init(&state), 0);
    apply(&state, &e);
    encoder_reset(&e);
    assert_int_equal(mon_state_encode(&state, &e), 0);
    test_golden("mon_state.hex", e.data, e.len);
    mon_state_fini(&state);
    struct mon_identity identity = {.name = "a", .n_mons = 2};
    struct keyring_entry shared = {.name = {.type = ENTITY_MON}, .secret = {.len = 32}};
    memset(identity.fsid.bytes, 0x5a, sizeof identity.fsid.bytes);
    identity.mons[0] = (struct map_mon){
        .id = 1, .name = "a", .address = {.family = 4, .ip = {10, 0, 0, 1}, .port = 3300}};
    identity.mons[1] = (struct map_mon){
        .id = 2, .name = "b", .address = {.family = 6, .ip = {0xfd, 1}, .port = 3301}};
    memset(shared.secret.bytes, 3, 32);
    snprintf(shared.mon_caps, sizeof shared.mon_caps, "allow *");
    keyring_init(&identity.keyring);
    assert_int_equal(keyring_set(&identity.keyring, &shared), 0);
    encoder_reset(&e);
    assert_int_equal(mon_identity_encode(&identity, &e), 0);
    test_golden("mon_identity.hex", e.data, e.len);
    struct mon_identity again;
    assert_int_equal(mon_identity_decode(e.data, e.len, &again), 0);
    assert_string_equal(again.name, "a");
    assert_int_equal(again.n_mons, 2);
    assert_true(net_address_equal(&again.mons[1].address, &identity.mons[1].address));
    assert_non_null(keyring_find(&again.keyring, &shared.name));
    mon_identity_fini(&again);
    mon_identity_fini(&identity);
    for (size_t len = 0; len < e.len; len++) {
        if (mon_identity_decode(e.data, len, &again) == 0)
            mon_identity_fini(&again);
    }
    encoder_fini(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_applied),
        cmocka_unit_test(the_newest_commands_are_remembered),
        cmocka_unit_test(snapshots_hold_everything),
        cmocka_unit_test(formats_have_the_documented_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
