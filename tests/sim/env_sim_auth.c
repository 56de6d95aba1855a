/*
 * What the handshake of the real world finds out, without its bytes and its cryptography: whether
 * the acceptor is whom the initiator expects, and whether both come to the same secret.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/env_sim_private.h"

/* Whether the process is whom the initiator expects: 0, or why not. */
static int check_identity(const struct sim_process *from, const struct sim_process *to,
                          const struct net_expect *expect)
{
    const struct entity_name *name = &expect->name, *entity = &to->node->entity;
    bool same = name->type == ENTITY_NONE || (name->id[0] == '\0' && name->type == entity->type) ||
                entity_equal(name, entity);
    if (!same || from == to)
        return -ELIMPET_RESET;
    if (expect->instance != 0 && expect->instance != to->env.instance)
        return -ELIMPET_RESET;
    return 0;
}

/* What the acceptor finds out from a ticket. */
static int check_ticket(struct sim_process *from, struct sim_process *acceptor,
                        const struct auth_ticket *ticket, struct auth_secret *secret,
                        char caps[AUTH_CAPS_TEXT_MAX])
{
    const struct auth_provider *provider = acceptor->auth;
    struct auth_ticket_contents contents;
    uint64_t key_id;
    uint8_t key[32];
    uint64_t wall_s = env_wall(&acceptor->env) / SEC_NS;
    if (!provider->service_key || auth_ticket_key_id(ticket->blob, ticket->len, &key_id) < 0)
        return -EACCES;
    if (provider->service_key(provider->ctx, key_id, key) < 0)
        return -EKEYEXPIRED;
    int rc = auth_ticket_open(ticket->blob, ticket->len, key, wall_s, &contents);
    if (rc < 0)
        return rc == -ETIME ? -EKEYEXPIRED : -EACCES;
    if (!entity_equal(&contents.holder, &from->node->entity))
        return -EACCES;
    *secret = contents.secret;
    memcpy(caps, contents.caps, AUTH_CAPS_TEXT_MAX);
    return 0;
}

static int compare_secrets(struct sim_process *from, struct sim_process *to,
                           const struct net_expect *expect, struct caps *caps)
{
    const struct auth_provider *initiator = from->auth, *acceptor = to->auth;
    struct auth_ticket credential = {0};
    struct auth_secret secret = {0};
    char text[AUTH_CAPS_TEXT_MAX] = "";
    int rc = initiator->credential(initiator->ctx, &expect->name, &credential);
    if (rc < 0)
        return -ENOENT;
    if (credential.len > 0)
        rc = check_ticket(from, to, &credential, &secret, text);
    else if (acceptor->entity_secret)
        rc = acceptor->entity_secret(acceptor->ctx, &from->node->entity, &secret, text);
    else
        rc = -EACCES;
    if (rc == -EKEYEXPIRED && initiator->ticket_refused)
        initiator->ticket_refused(initiator->ctx, &expect->name);
    if (rc < 0)
        return rc == -EKEYEXPIRED ? rc : -EACCES;
    if (secret.len != credential.secret.len ||
        memcmp(secret.bytes, credential.secret.bytes, secret.len) != 0)
        return -EACCES;
    if (caps_parse_at(acceptor->self.type, text, caps) < 0)
        *caps = (struct caps){0};
    return 0;
}

int sim_authenticate(struct sim_process *from, struct sim_process *to,
                     const struct net_expect *expect, struct caps *caps)
{
    int rc = 0;
    *caps = (struct caps){.n_grants = 1, .grants = {{.allow = CAP_ALL}}};
    if (from->auth && to->auth)
        rc = compare_secrets(from, to, expect, caps);
    return rc < 0 ? rc : check_identity(from, to, expect);
}
