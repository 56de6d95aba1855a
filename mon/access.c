/* Who may do what: the world's authentication, and tickets for OSDs. */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "mon/mon_private.h"

enum { TICKET_VALID_S = 12 * 3600, SEALED_MAX = 72 };

static const struct entity_name shared_name = {.type = ENTITY_MON};

const struct keyring_entry *access_find(const struct mon *mon, const struct entity_name *name)
{
    /* Before the first map there are only the entities of the new cluster. */
    if (mon->state.map->epoch == 0)
        return keyring_find(&mon->identity.keyring, name);
    return keyring_find(&mon->state.auth, name);
}

static bool is_monitor(const struct mon *mon, const struct entity_name *name)
{
    for (uint32_t i = 0; i < mon->identity.n_mons; i++) {
        if (strcmp(mon->identity.mons[i].name, name->id) == 0)
            return true;
    }
    return false;
}

static int entity_secret(void *ctx, const struct entity_name *name, struct auth_secret *secret,
                         char caps[AUTH_CAPS_TEXT_MAX])
{
    const struct mon *mon = ctx;
    const struct keyring_entry *entry;

    if (name->type == ENTITY_MON) {
        entry = keyring_find(&mon->identity.keyring, &shared_name);
        if (entry == NULL || !is_monitor(mon, name))
            return -ENOENT;
        *secret = entry->secret;
        strcpy(caps, "allow *");
        return 0;
    }
    entry = access_find(mon, name);
    if (entry == NULL)
        return -ENOENT;
    *secret = entry->secret;
    memcpy(caps, entry->mon_caps, AUTH_CAPS_TEXT_MAX);
    return 0;
}

static uint64_t expiry(struct mon *mon)
{
    return env_wall(mon->env) / SEC_NS + TICKET_VALID_S;
}

/* Towards a monitor the shared key; towards an OSD a ticket that we give ourselves. */
static int credential(void *ctx, const struct entity_name *peer, struct auth_ticket *out)
{
    struct mon *mon = ctx;
    struct entity_name self = {.type = ENTITY_MON};

    memset(out, 0, sizeof *out);
    if (peer->type == ENTITY_MON) {
        const struct keyring_entry *entry = keyring_find(&mon->identity.keyring, &shared_name);
        if (entry == NULL)
            return -ENOENT;
        out->secret = entry->secret;
        return 0;
    }
    if (mon->state.n_keys == 0)
        return -ENOENT;
    memcpy(self.id, mon->self.name, sizeof self.id);
    return auth_ticket_seal(mon->state.keys[0].id, mon->state.keys[0].key, &self, "allow r",
                            expiry(mon), out);
}

void access_init(struct mon *mon)
{
    mon->auth = (struct auth_provider){.self = {.type = ENTITY_MON},
                                       .ctx = mon,
                                       .fsid = &mon->identity.fsid,
                                       .entity_secret = entity_secret,
                                       .credential = credential};
    memcpy(mon->auth.self.id, mon->self.name, sizeof mon->auth.self.id);
}

/* ---- Tickets ---- */

static void ticket_refuse(struct mon *mon, struct mon_session *session, uint64_t tid, int error)
{
    Limpet__Wire__MonTicket reply = LIMPET__WIRE__MON_TICKET__INIT;

    reply.tid = tid;
    reply.result = error;
    session_send(mon, session, MSG_MON_TICKET, &reply.base, BUF_SLICE_EMPTY);
}

/* Fills the service keys, each sealed for the receiver. Returns how many. */
static size_t seal_keys(const struct mon *mon, const struct keyring_entry *entry,
                        Limpet__Wire__ServiceKey *keys, Limpet__Wire__ServiceKey **pointers,
                        uint8_t sealed[][SEALED_MAX])
{
    size_t n = 0;

    for (uint32_t i = 0; i < mon->state.n_keys; i++) {
        const struct service_key *key = &mon->state.keys[i];
        int len = auth_seal(&entry->secret, key->key, sizeof key->key, sealed[n], SEALED_MAX);
        if (len <= 0)
            continue;
        limpet__wire__service_key__init(&keys[n]);
        keys[n].id = key->id;
        keys[n].sealed.len = (size_t)len;
        keys[n].sealed.data = sealed[n];
        pointers[n] = &keys[n];
        n++;
    }
    return n;
}

static void ticket_answer(struct mon *mon, struct mon_session *session,
                          const Limpet__Wire__MonGetTicket *get)
{
    Limpet__Wire__MonTicket reply = LIMPET__WIRE__MON_TICKET__INIT;
    Limpet__Wire__ServiceKey keys[STATE_SERVICE_KEYS_MAX];
    Limpet__Wire__ServiceKey *pointers[STATE_SERVICE_KEYS_MAX];
    uint8_t sealed_keys[STATE_SERVICE_KEYS_MAX][SEALED_MAX];
    uint8_t sealed_secret[SEALED_MAX];
    struct auth_ticket ticket;
    const struct keyring_entry *entry = access_find(mon, &session->net->peer.name);

    if (entry == NULL || entry->osd_caps[0] == '\0') {
        ticket_refuse(mon, session, get->tid, -EACCES);
        return;
    }
    if (get->service != ENTITY_OSD || mon->state.n_keys == 0) {
        ticket_refuse(mon, session, get->tid, -EINVAL);
        return;
    }
    int rc = auth_ticket_seal(mon->state.keys[0].id, mon->state.keys[0].key, &entry->name,
                              entry->osd_caps, expiry(mon), &ticket);
    int len = rc == 0 ? auth_seal(&entry->secret, ticket.secret.bytes, ticket.secret.len,
                                  sealed_secret, sizeof sealed_secret)
                      : rc;
    if (len <= 0) {
        log_error(mon->env, "ticket not made", "error=%d", len);
        ticket_refuse(mon, session, get->tid, -EIO);
        return;
    }
    reply.tid = get->tid;
    reply.has_service = reply.has_ticket = reply.has_sealed_secret = reply.has_valid_seconds = true;
    reply.service = ENTITY_OSD;
    reply.ticket.len = ticket.len;
    reply.ticket.data = ticket.blob;
    reply.sealed_secret.len = (size_t)len;
    reply.sealed_secret.data = sealed_secret;
    reply.valid_seconds = TICKET_VALID_S;
    if (get->want_service_keys && entry->name.type == ENTITY_OSD) {
        reply.n_service_keys = seal_keys(mon, entry, keys, pointers, sealed_keys);
        reply.service_keys = pointers;
    }
    session_send(mon, session, MSG_MON_TICKET, &reply.base, BUF_SLICE_EMPTY);
    sodium_memzero(&ticket, sizeof ticket);
}

void access_ticket(struct mon *mon, struct mon_session *session, struct message *message)
{
    Limpet__Wire__MonGetTicket *get = (Limpet__Wire__MonGetTicket *)message_unpack(
        message, &limpet__wire__mon_get_ticket__descriptor);

    if (get == NULL)
        return;
    if (mon->state.map->epoch == 0) {
        /* There are no service keys yet; it is answered with the first map. */
        if (session->ticket_request != NULL)
            message_unref(session->ticket_request);
        session->ticket_request = message_ref(message);
    } else {
        ticket_answer(mon, session, get);
    }
    limpet__wire__mon_get_ticket__free_unpacked(get, NULL);
}

void access_answer_waiting(struct mon *mon)
{
    struct mon_session *session;

    LIST_FOREACH(session, &mon->sessions, link)
    {
        struct message *message = session->ticket_request;
        if (message == NULL)
            continue;
        session->ticket_request = NULL;
        access_ticket(mon, session, message);
        message_unref(message);
    }
}
