/*
 * Taking in maps from the monitors, and what follows from a new one.
 */
#include "client/core/private.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/limpet.pb-c.h"
#include "common/log.h"

static int take_full(struct client *c, const struct message *message)
{
    struct cluster_map *map = NULL;
    int rc = map_decode(message->payload.data, message->payload.len, &map);
    if (rc != 0)
        return rc;
    /* The monitor may have started to send it before it knew what we have. */
    if (c->map != NULL && map->epoch <= c->map->epoch) {
        map_destroy(map);
        return 0;
    }
    map_destroy(c->map);
    c->map = map;
    return 0;
}

static int take_increment(struct client *c, const ProtobufCBinaryData *bytes)
{
    struct map_increment *inc = NULL;
    int rc = map_increment_decode(bytes->data, bytes->len, &inc);
    if (rc != 0)
        return rc;
    if (map_increment_epoch(inc) > c->map->epoch)
        rc = map_apply(c->map, inc);
    map_increment_destroy(inc);
    return rc;
}

static int take_increments(struct client *c, const Limpet__Wire__MonMap *answer)
{
    if (c->map == NULL)
        return answer->n_increments == 0 ? 0 : -EBADMSG;
    for (size_t i = 0; i < answer->n_increments; i++) {
        int rc = take_increment(c, &answer->increments[i]);
        if (rc == -ESTALE) {
            /* A gap: ask again from what we have. */
            mon_link_subscribe(c);
            return 0;
        }
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int check_fsid(struct client *c, const ProtobufCBinaryData *fsid)
{
    struct uuid theirs;
    if (fsid->len != sizeof theirs.bytes)
        return -EBADMSG;
    memcpy(theirs.bytes, fsid->data, sizeof theirs.bytes);
    if (uuid_is_zero(&c->fsid)) {
        c->fsid = theirs;
        c->auth.fsid = &c->fsid;
    }
    return uuid_equal(&c->fsid, &theirs) ? 0 : -EXDEV;
}

static void map_changed(struct client *c)
{
    c->counters.map_changes++;
    log_debug(c->env, "new map", "epoch=%" PRIu64, c->map->epoch);
    target_map_changed(c);
    watch_map_changed(c);
    doubt_map_changed(c);
    target_kick(c);
    op_admit(c);
    command_map_changed(c);
    /* The task looks at who waits for this epoch. */
    client_schedule(c, false);
}

int client_map_received(struct client *c, struct message *message)
{
    Limpet__Wire__MonMap *answer =
        (Limpet__Wire__MonMap *)message_unpack(message, &limpet__wire__mon_map__descriptor);
    if (answer == NULL)
        return -EBADMSG;
    uint64_t before = c->map != NULL ? c->map->epoch : 0;
    int rc = check_fsid(c, &answer->fsid);
    if (rc == 0)
        rc = answer->full ? take_full(c, message) : take_increments(c, answer);
    protobuf_c_message_free_unpacked(&answer->base, NULL);
    /* Increments before the one that failed have been applied: what follows from them holds. */
    if (c->map != NULL && c->map->epoch != before)
        map_changed(c);
    if (rc == 0 && c->map != NULL && c->map->epoch > 0) {
        mon_link_live(c);
        client_connected(c, 0);
    }
    return rc;
}
