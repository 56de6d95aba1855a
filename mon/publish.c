/* Maps and increments for those who subscribe. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/log.h"
#include "mon/mon_private.h"

enum {
    /* Increments of one message; its body has a limit. A larger one is sent as a full map. */
    PUBLISH_BODY_BYTES = 128 * 1024,
    PUBLISH_QUEUE_BYTES = 16 * 1024 * 1024,
};

static void kept_pop(struct mon *mon)
{
    struct kept_increment *oldest = &mon->kept[mon->kept_first];

    mon->kept_bytes -= oldest->bytes.len;
    buf_slice_drop(&oldest->bytes);
    mon->kept_first = (mon->kept_first + 1) % MON_INCREMENTS_KEPT;
    mon->n_kept--;
}

static void kept_clear(struct mon *mon)
{
    while (mon->n_kept > 0)
        kept_pop(mon);
}

const struct buf_slice *publish_kept(const struct mon *mon, uint64_t epoch)
{
    if (mon->n_kept == 0)
        return NULL;
    uint64_t first = mon->kept[mon->kept_first].epoch;
    if (epoch < first || epoch - first >= mon->n_kept)
        return NULL;
    return &mon->kept[(mon->kept_first + (epoch - first)) % MON_INCREMENTS_KEPT].bytes;
}

static void kept_add(struct mon *mon, uint64_t epoch, const void *data, size_t len)
{
    struct kept_increment next = {.epoch = epoch};

    if (mon->n_kept == MON_INCREMENTS_KEPT)
        kept_pop(mon);
    while (mon->n_kept > 0 && mon->kept_bytes + len > MON_INCREMENTS_KEPT_BYTES)
        kept_pop(mon);
    if (buf_slice_copy(data, len, &next.bytes) != 0) {
        kept_clear(mon); /* A gap must not be: whoever needs it gets a full map. */
        return;
    }
    mon->kept[(mon->kept_first + mon->n_kept) % MON_INCREMENTS_KEPT] = next;
    mon->n_kept++;
    mon->kept_bytes += len;
}

int publish_full(struct mon *mon, struct buf_slice *out)
{
    if (mon->full_epoch != mon->state.map->epoch || mon->full.len == 0) {
        struct encoder e;
        buf_slice_drop(&mon->full);
        encoder_init(&e);
        int rc = map_encode(mon->state.map, &e);
        if (rc == 0 && e.failed)
            rc = -ENOMEM;
        if (rc == 0)
            rc = buf_slice_copy(e.data, e.len, &mon->full);
        encoder_fini(&e);
        if (rc != 0)
            return rc;
        mon->full_epoch = mon->state.map->epoch;
    }
    *out = buf_slice_ref(mon->full);
    return 0;
}

static struct message *pack_full(struct mon *mon)
{
    Limpet__Wire__MonMap body = LIMPET__WIRE__MON_MAP__INIT;
    struct buf_slice payload;

    if (publish_full(mon, &payload) != 0)
        return NULL;
    body.fsid.data = mon->identity.fsid.bytes;
    body.fsid.len = sizeof mon->identity.fsid.bytes;
    body.first_epoch = mon->state.map->epoch;
    body.last_epoch = mon->state.map->epoch;
    body.has_full = true;
    body.full = true;
    struct message *message = message_pack(MSG_MON_MAP, &body.base);
    if (message == NULL)
        buf_slice_drop(&payload);
    else
        message->payload = payload;
    return message;
}

/* The increments after `have`, as many as fit; *last is the epoch they lead to. NULL: none kept. */
static struct message *pack_increments(struct mon *mon, uint64_t have, uint64_t *last)
{
    Limpet__Wire__MonMap body = LIMPET__WIRE__MON_MAP__INIT;
    ProtobufCBinaryData increments[MON_INCREMENTS_KEPT];
    size_t bytes = 0;

    for (uint64_t epoch = have + 1; epoch <= mon->state.map->epoch; epoch++) {
        const struct buf_slice *slice = publish_kept(mon, epoch);
        if (slice == NULL || slice->len > PUBLISH_BODY_BYTES)
            return NULL;
        if (bytes + slice->len > PUBLISH_BODY_BYTES)
            break;
        bytes += slice->len;
        increments[body.n_increments++] =
            (ProtobufCBinaryData){.len = slice->len, .data = slice->data};
    }
    assert(body.n_increments > 0);
    *last = have + body.n_increments;
    body.fsid.data = mon->identity.fsid.bytes;
    body.fsid.len = sizeof mon->identity.fsid.bytes;
    body.first_epoch = have + 1;
    body.last_epoch = *last;
    body.increments = increments;
    return message_pack(MSG_MON_MAP, &body.base);
}

/* What brings a reader from `have` to a newer map; *last is where. */
static struct message *pack_after(struct mon *mon, uint64_t have, uint64_t *last)
{
    struct message *message = have != 0 ? pack_increments(mon, have, last) : NULL;

    if (message == NULL) {
        message = pack_full(mon);
        *last = mon->state.map->epoch;
    }
    return message;
}

void publish_catch_up(struct mon *mon, struct mon_session *session)
{
    uint64_t epoch = mon->state.map->epoch;

    session->lagging = false;
    while (session->subscribed && session->sent < epoch) {
        if (session->net->queued_bytes > PUBLISH_QUEUE_BYTES) {
            session->lagging = true;
            return;
        }
        uint64_t last;
        struct message *message = pack_after(mon, session->sent, &last);
        if (message == NULL) {
            log_error(mon->env, "map not sent", "epoch=%" PRIu64, epoch);
            return;
        }
        session->sent = last;
        net_send(mon->env, session->net, message);
    }
}

void publish_subscribe(struct mon *mon, struct mon_session *session, uint64_t have)
{
    session->subscribed = true;
    session->sent = have;
    publish_catch_up(mon, session);
}

/* Almost all subscribers are at the same epoch: they share one message. */
static void publish_all(struct mon *mon)
{
    struct mon_session *session;
    struct message *shared = NULL;
    uint64_t shared_from = 0;
    uint64_t shared_to = 0;

    LIST_FOREACH(session, &mon->sessions, link)
    {
        if (!session->subscribed || session->lagging || session->sent >= mon->state.map->epoch)
            continue;
        if (shared == NULL || shared_from != session->sent) {
            if (shared != NULL)
                message_unref(shared);
            shared_from = session->sent;
            shared = pack_after(mon, shared_from, &shared_to);
            if (shared == NULL)
                continue;
        }
        session->sent = shared_to;
        net_send(mon->env, session->net, message_ref(shared));
        publish_catch_up(mon, session);
    }
    if (shared != NULL)
        message_unref(shared);
}

void publish_increment(struct mon *mon, const void *increment, size_t len)
{
    kept_add(mon, mon->state.map->epoch, increment, len);
    publish_all(mon);
}

void publish_reset(struct mon *mon)
{
    kept_clear(mon);
    publish_all(mon);
}

void publish_fini(struct mon *mon)
{
    kept_clear(mon);
    buf_slice_drop(&mon->full);
}
