/*
 * How this OSD proves who it is, and how others prove themselves to it: by tickets that are sealed
 * under service keys, which the monitors give to OSDs together with a ticket of their own.
 */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "osd/osd_impl.h"

static int credential(void *ctx, const struct entity_name *peer, struct auth_ticket *out)
{
    struct osd *osd = ctx;
    memset(out, 0, sizeof *out);
    if (peer->type == ENTITY_MON) {
        out->secret = osd->options.secret;
        return 0;
    }
    if (osd->ticket.len == 0)
        return -ENOENT;
    *out = osd->ticket;
    return 0;
}

static int service_key(void *ctx, uint64_t key_id, uint8_t key[32])
{
    struct osd *osd = ctx;
    for (uint32_t i = 0; i < osd->n_keys; i++) {
        if (osd->keys[i].id == key_id) {
            memcpy(key, osd->keys[i].key, sizeof osd->keys[i].key);
            return 0;
        }
    }
    /* It may be newer than ours. */
    osd->keys_wanted = true;
    return -ENOENT;
}

static void ticket_refused(void *ctx, const struct entity_name *peer)
{
    struct osd *osd = ctx;
    if (peer->type != ENTITY_OSD)
        return;
    osd->ticket_renew_ns = 0;
    osd->keys_wanted = true;
}

void osd_auth_init(struct osd *osd)
{
    osd->auth = (struct auth_provider){
        .self = entity_osd(osd->options.id),
        .ctx = osd,
        .fsid = uuid_is_zero(&osd->options.fsid) ? NULL : &osd->options.fsid,
        .service_key = service_key,
        .credential = credential,
        .ticket_refused = ticket_refused,
    };
    osd->keys_wanted = true;
}

void osd_auth_fini(struct osd *osd)
{
    sodium_memzero(&osd->ticket, sizeof osd->ticket);
    sodium_memzero(osd->keys, sizeof osd->keys);
    sodium_memzero(&osd->options.secret, sizeof osd->options.secret);
}

bool osd_auth_ready(const struct osd *osd)
{
    return osd->ticket.len > 0 && osd->n_keys > 0;
}

void osd_auth_refresh(struct osd *osd)
{
    uint64_t now = env_now(osd->env);
    bool due = osd->keys_wanted || !osd_auth_ready(osd) || now >= osd->ticket_renew_ns;
    if (!osd->mon.live || !due)
        return;
    if (osd->ticket_asked_ns != 0 && now - osd->ticket_asked_ns < OSD_REPEAT_NS)
        return;
    Limpet__Wire__MonGetTicket get = LIMPET__WIRE__MON_GET_TICKET__INIT;
    osd->ticket_asked_ns = now;
    osd->ticket_tid = ++osd->next_tid;
    get.tid = osd->ticket_tid;
    get.service = ENTITY_OSD;
    get.has_want_service_keys = true;
    get.want_service_keys = true;
    osd_mon_send(osd, MSG_MON_GET_TICKET, &get.base);
}

static int take_ticket(struct osd *osd, const Limpet__Wire__MonTicket *answer)
{
    struct auth_ticket ticket = {0};
    if (answer->ticket.len == 0 || answer->ticket.len > AUTH_TICKET_MAX)
        return -EBADMSG;
    int len =
        auth_unseal(&osd->options.secret, answer->sealed_secret.data, answer->sealed_secret.len,
                    ticket.secret.bytes, sizeof ticket.secret.bytes);
    if (len <= 0)
        return -EBADMSG;
    ticket.secret.len = (uint8_t)len;
    ticket.len = (uint16_t)answer->ticket.len;
    memcpy(ticket.blob, answer->ticket.data, answer->ticket.len);
    osd->ticket = ticket;
    sodium_memzero(&ticket, sizeof ticket);
    return 0;
}

static int take_keys(struct osd *osd, const Limpet__Wire__MonTicket *answer)
{
    struct osd_service_key keys[OSD_SERVICE_KEYS_MAX] = {0};
    uint32_t n = 0;
    for (size_t i = 0; i < answer->n_service_keys && n < OSD_SERVICE_KEYS_MAX; i++) {
        const Limpet__Wire__ServiceKey *from = answer->service_keys[i];
        keys[n].id = from->id;
        if (auth_unseal(&osd->options.secret, from->sealed.data, from->sealed.len, keys[n].key,
                        sizeof keys[n].key) != (int)sizeof keys[n].key)
            return -EBADMSG;
        n++;
    }
    if (n == 0)
        return -ENOENT;
    memcpy(osd->keys, keys, sizeof keys);
    osd->n_keys = n;
    sodium_memzero(keys, sizeof keys);
    return 0;
}

static void answered(struct osd *osd, const Limpet__Wire__MonTicket *answer)
{
    int error = answer->result < 0 ? answer->result : 0;
    if (!error)
        error = take_ticket(osd, answer);
    if (!error)
        error = take_keys(osd, answer);
    if (error) {
        log_warn(osd->env, "no ticket", "osd=%d error=\"%s\"", osd->options.id, error_text(error));
        return;
    }
    uint64_t valid_s = answer->valid_seconds < 4 ? 4 : answer->valid_seconds;
    if (valid_s > 86400)
        valid_s = 86400;
    osd->ticket_renew_ns = env_now(osd->env) + valid_s / 2 * SEC_NS;
    osd->keys_wanted = false;
    osd_mon_boot(osd);
}

void osd_auth_answered(struct osd *osd, const struct message *message)
{
    Limpet__Wire__MonTicket *answer =
        (Limpet__Wire__MonTicket *)message_unpack(message, &limpet__wire__mon_ticket__descriptor);
    if (!answer)
        return;
    if (osd->ticket_tid != 0 && answer->tid == osd->ticket_tid) {
        osd->ticket_tid = 0;
        answered(osd, answer);
    }
    protobuf_c_message_free_unpacked(&answer->base, NULL);
}
