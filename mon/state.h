/*
 * What the monitors agree on: the cluster map, who may do what (keys and capabilities), the keys
 * that seal tickets, and which commands were executed. Changed only by entries of the consensus
 * log, alike on every monitor.
 */
#ifndef LIMPET_MON_STATE_H
#define LIMPET_MON_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/auth.h"
#include "common/codec.h"
#include "common/error.h"
#include "mon/executed.h"
#include "placement/map.h"

enum { STATE_SERVICE_KEYS_MAX = 4 };

struct service_key {
    uint64_t id;
    uint8_t key[32];
};

struct mon_state {
    struct cluster_map *map;
    struct keyring auth;
    uint32_t n_keys; /* Of OSDs; the newest first. Seals tickets; older ones still open them. */
    struct service_key keys[STATE_SERVICE_KEYS_MAX];
    struct executed executed;
};

int mon_state_init(struct mon_state *state) MUST_CHECK;
void mon_state_fini(struct mon_state *state);

/* A change of one entity; removed when the secret's length is 0. */
struct mon_entry_builder {
    uint32_t n_auth;
    uint32_t auth_capacity;
    struct keyring_entry *auth;
    uint32_t n_keys; /* 0: unchanged */
    struct service_key keys[STATE_SERVICE_KEYS_MAX];
    struct executed executed;
    struct encoder increment; /* Empty: none. */
};

void mon_entry_init(struct mon_entry_builder *entry);
void mon_entry_fini(struct mon_entry_builder *entry);
bool mon_entry_empty(const struct mon_entry_builder *entry);
/* A later value for the same entity replaces the earlier. */
int mon_entry_set_auth(struct mon_entry_builder *entry,
                       const struct keyring_entry *value) MUST_CHECK;
int mon_entry_encode(const struct mon_entry_builder *entry, struct encoder *out) MUST_CHECK;

/*
 * Applies an entry. *increment and *len point at the map's increment inside `data`'s unpacked copy,
 * which *unpacked holds: free it with mon_entry_release(). -EBADMSG: it cannot be applied; the
 * state is then unchanged.
 */
struct mon_applied {
    const void *increment; /* NULL: the map did not change. */
    size_t increment_len;
    void *unpacked;
};
int mon_state_apply(struct mon_state *state, const void *data, size_t len,
                    struct mon_applied *out) MUST_CHECK;
void mon_entry_release(struct mon_applied *applied);

/* Snapshots. -EBADMSG leaves the state as it was. */
int mon_state_encode(const struct mon_state *state, struct encoder *out) MUST_CHECK;
int mon_state_restore(struct mon_state *state, const void *data, size_t len) MUST_CHECK;

/* ---- Identity: the file that --mkfs writes ---- */

struct mon_identity {
    struct uuid fsid;
    char name[ENTITY_ID_MAX + 1];
    uint32_t n_mons;
    struct map_mon mons[MAP_MONS_MAX];
    struct keyring keyring;
};

void mon_identity_fini(struct mon_identity *identity);
int mon_identity_encode(const struct mon_identity *identity, struct encoder *out) MUST_CHECK;
int mon_identity_decode(const void *data, size_t len, struct mon_identity *out) MUST_CHECK;

#endif
