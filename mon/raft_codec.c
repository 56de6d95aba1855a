#include "mon/raft_codec.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/codec.h"
#include "common/limpet.pb-c.h"

enum { RAFT_CONFIGURATION_FORMAT = 1 };

/* ---- Configurations ---- */

int raft_codec_configuration(const void *data, size_t len, struct raft_configuration *out)
{
    struct decoder d;

    raft_configuration_init(out);
    decoder_init(&d, data, len);
    uint8_t format = decode_u8(&d);
    uint64_t n = decode_u64(&d);
    if (d.failed || format != RAFT_CONFIGURATION_FORMAT || n == 0 || n > RAFT_CODEC_SERVERS_MAX)
        return -EBADMSG;
    int rc = 0;
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        uint64_t id = decode_u64(&d);
        const char *address = (const char *)d.data + d.at;
        size_t address_len = strnlen(address, decoder_left(&d));
        const void *bytes = decode_bytes(&d, address_len + 1);
        uint8_t role = decode_u8(&d);
        if (d.failed || bytes == NULL || address_len > RAFT_CODEC_ADDRESS_MAX || id == 0 ||
            role > RAFT_SPARE) {
            rc = -EBADMSG;
            break;
        }
        int error = raft_configuration_add(out, id, address, role);
        rc = error == 0 ? 0 : error == RAFT_NOMEM ? -ENOMEM : -EBADMSG;
    }
    if (rc != 0)
        raft_configuration_close(out);
    return rc;
}

static bool configuration_readable(const void *data, size_t len)
{
    struct raft_configuration configuration;

    if (raft_codec_configuration(data, len, &configuration) != 0)
        return false;
    raft_configuration_close(&configuration);
    return true;
}

/* ---- Encoding ---- */

static void encode_flag(Limpet__Wire__RaftMessage *wire, bool flag)
{
    wire->has_flag = true;
    wire->flag = flag;
}

static void encode_index(Limpet__Wire__RaftMessage *wire, uint64_t index, uint64_t term)
{
    wire->has_index = true;
    wire->index = index;
    wire->has_index_term = true;
    wire->index_term = term;
}

/* How many entries fit into one message, and how long their data are together. */
static unsigned entries_fit(const struct raft_append_entries *args, uint64_t *len)
{
    unsigned n = 0;

    *len = 0;
    while (n < args->n_entries && n < RAFT_CODEC_ENTRIES_MAX) {
        if (n > 0 && *len + args->entries[n].buf.len > RAFT_CODEC_DATA_MAX)
            break;
        *len += args->entries[n].buf.len;
        n++;
    }
    return n;
}

/* Packs an AppendEntries with as many entries as fit; `wire` has all other fields. */
static struct message *encode_entries(const struct raft_append_entries *args,
                                      Limpet__Wire__RaftMessage *wire)
{
    uint64_t len;
    unsigned n = entries_fit(args, &len);
    Limpet__Wire__RaftEntry *entries = calloc(n + 1, sizeof *entries);
    Limpet__Wire__RaftEntry **pointers = calloc(n + 1, sizeof *pointers);
    struct buf_slice payload = BUF_SLICE_EMPTY;
    struct message *message = NULL;

    if (entries == NULL || pointers == NULL)
        goto out;
    if (len > 0 && buf_slice_alloc(len, &payload) != 0)
        goto out;
    uint64_t at = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct raft_entry *entry = &args->entries[i];
        limpet__wire__raft_entry__init(&entries[i]);
        entries[i].term = entry->term;
        entries[i].type = entry->type;
        entries[i].len = entry->buf.len;
        pointers[i] = &entries[i];
        if (entry->buf.len > 0) {
            assert(payload.data != NULL && at + entry->buf.len <= len);
            memcpy(payload.data + at, entry->buf.base, entry->buf.len);
        }
        at += entry->buf.len;
    }
    wire->n_entries = n;
    wire->entries = pointers;
    message = message_pack(MSG_RAFT, &wire->base);
    if (message != NULL) {
        message->payload = payload;
        payload = BUF_SLICE_EMPTY;
    }
out:
    wire->n_entries = 0;
    wire->entries = NULL;
    buf_slice_drop(&payload);
    free(entries);
    free(pointers);
    return message;
}

static struct message *encode_snapshot(const struct raft_install_snapshot *args,
                                       Limpet__Wire__RaftMessage *wire)
{
    Limpet__Wire__RaftServer servers[RAFT_CODEC_SERVERS_MAX];
    Limpet__Wire__RaftServer *pointers[RAFT_CODEC_SERVERS_MAX];

    assert(args->conf.n <= RAFT_CODEC_SERVERS_MAX);
    for (unsigned i = 0; i < args->conf.n; i++) {
        limpet__wire__raft_server__init(&servers[i]);
        servers[i].id = args->conf.servers[i].id;
        servers[i].address = args->conf.servers[i].address;
        servers[i].role = (uint32_t)args->conf.servers[i].role;
        pointers[i] = &servers[i];
    }
    wire->n_servers = args->conf.n;
    wire->servers = pointers;
    wire->has_servers_index = true;
    wire->servers_index = args->conf_index;
    struct message *message = message_pack(MSG_RAFT, &wire->base);
    wire->n_servers = 0;
    wire->servers = NULL;
    if (message != NULL &&
        buf_slice_copy(args->data.base, args->data.len, &message->payload) != 0) {
        message_unref(message);
        message = NULL;
    }
    return message;
}

struct message *raft_codec_encode(const struct raft_message *message, uint64_t from,
                                  const struct uuid *fsid)
{
    Limpet__Wire__RaftMessage wire;
    struct uuid id = *fsid;

    limpet__wire__raft_message__init(&wire);
    wire.type = message->type;
    wire.from = from;
    wire.fsid = (ProtobufCBinaryData){.len = sizeof id.bytes, .data = id.bytes};
    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES:
        wire.term = message->append_entries.term;
        encode_index(&wire, message->append_entries.prev_log_index,
                     message->append_entries.prev_log_term);
        wire.has_commit = true;
        wire.commit = message->append_entries.leader_commit;
        return encode_entries(&message->append_entries, &wire);
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        wire.term = message->append_entries_result.term;
        encode_index(&wire, message->append_entries_result.last_log_index, 0);
        wire.has_rejected = true;
        wire.rejected = message->append_entries_result.rejected;
        break;
    case RAFT_IO_REQUEST_VOTE:
        wire.term = message->request_vote.term;
        encode_index(&wire, message->request_vote.last_log_index,
                     message->request_vote.last_log_term);
        encode_flag(&wire, message->request_vote.disrupt_leader);
        wire.has_pre_vote = true;
        wire.pre_vote = message->request_vote.pre_vote;
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        wire.term = message->request_vote_result.term;
        encode_flag(&wire, message->request_vote_result.vote_granted);
        wire.has_pre_vote = true;
        wire.pre_vote = (uint32_t)message->request_vote_result.pre_vote;
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        wire.term = message->install_snapshot.term;
        encode_index(&wire, message->install_snapshot.last_index,
                     message->install_snapshot.last_term);
        return encode_snapshot(&message->install_snapshot, &wire);
    case RAFT_IO_TIMEOUT_NOW:
        wire.term = message->timeout_now.term;
        encode_index(&wire, message->timeout_now.last_log_index,
                     message->timeout_now.last_log_term);
        break;
    default:
        assert(false);
    }
    return message_pack(MSG_RAFT, &wire.base);
}

/* ---- Decoding ---- */

/* data: of this entry, when it has any; left: how many bytes there are from it on. */
static int decode_entry(const Limpet__Wire__RaftEntry *wire, uint64_t term_min, uint64_t term_max,
                        const uint8_t *data, uint64_t left)
{
    if (wire->term < term_min || wire->term > term_max || wire->len > left)
        return -EBADMSG;
    if (wire->type != RAFT_COMMAND && wire->type != RAFT_BARRIER && wire->type != RAFT_CHANGE)
        return -EBADMSG;
    if (wire->type == RAFT_CHANGE && (wire->len == 0 || !configuration_readable(data, wire->len)))
        return -EBADMSG;
    return 0;
}

static int decode_entries(const Limpet__Wire__RaftMessage *wire, const struct buf_slice *payload,
                          struct raft_append_entries *out)
{
    uint64_t total = 0;
    uint64_t term = out->prev_log_term > 0 ? out->prev_log_term : 1;

    out->entries = NULL;
    out->n_entries = 0;
    if (wire->n_entries > RAFT_CODEC_ENTRIES_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < wire->n_entries; i++) {
        const uint8_t *data = payload->len > 0 ? payload->data + total : NULL;
        int rc = decode_entry(wire->entries[i], term, wire->term, data, payload->len - total);
        if (rc != 0)
            return rc;
        term = wire->entries[i]->term;
        total += wire->entries[i]->len;
    }
    if (total != payload->len)
        return -EBADMSG;
    if (wire->n_entries == 0)
        return 0;
    uint8_t *batch = raft_malloc(total + 1);
    out->entries = raft_calloc(wire->n_entries, sizeof *out->entries);
    if (batch == NULL || out->entries == NULL) {
        raft_free(batch);
        raft_free(out->entries);
        out->entries = NULL;
        return -ENOMEM;
    }
    if (total > 0)
        memcpy(batch, payload->data, total);
    uint64_t at = 0;
    for (size_t i = 0; i < wire->n_entries; i++) {
        struct raft_entry *entry = &out->entries[i];
        entry->term = wire->entries[i]->term;
        entry->type = (unsigned short)wire->entries[i]->type;
        entry->buf.base = batch + at;
        entry->buf.len = wire->entries[i]->len;
        entry->batch = batch;
        at += wire->entries[i]->len;
    }
    out->n_entries = (unsigned)wire->n_entries;
    return 0;
}

static int decode_append_entries(const Limpet__Wire__RaftMessage *wire,
                                 const struct buf_slice *payload, struct raft_append_entries *out)
{
    out->term = wire->term;
    out->prev_log_index = wire->index;
    out->prev_log_term = wire->index_term;
    out->leader_commit = wire->commit;
    /* The term of a position is 0 exactly where there is no entry. */
    if ((out->prev_log_index == 0) != (out->prev_log_term == 0) || out->prev_log_term > out->term)
        return -EBADMSG;
    return decode_entries(wire, payload, out);
}

static int decode_snapshot(const Limpet__Wire__RaftMessage *wire, const struct buf_slice *payload,
                           struct raft_install_snapshot *out)
{
    *out = (struct raft_install_snapshot){.term = wire->term,
                                          .last_index = wire->index,
                                          .last_term = wire->index_term,
                                          .conf_index = wire->servers_index};
    raft_configuration_init(&out->conf);
    if (out->last_index == 0 || out->last_term == 0 || out->last_term > out->term ||
        out->conf_index == 0 || out->conf_index > out->last_index || wire->n_servers == 0 ||
        wire->n_servers > RAFT_CODEC_SERVERS_MAX || payload->len == 0)
        return -EBADMSG;
    int rc = 0;
    for (size_t i = 0; i < wire->n_servers && rc == 0; i++) {
        const Limpet__Wire__RaftServer *server = wire->servers[i];
        if (server->id == 0 || server->role > RAFT_SPARE ||
            strlen(server->address) > RAFT_CODEC_ADDRESS_MAX) {
            rc = -EBADMSG;
            break;
        }
        int error =
            raft_configuration_add(&out->conf, server->id, server->address, (int)server->role);
        rc = error == 0 ? 0 : error == RAFT_NOMEM ? -ENOMEM : -EBADMSG;
    }
    if (rc == 0) {
        out->data.base = raft_malloc(payload->len);
        out->data.len = payload->len;
        if (out->data.base == NULL)
            rc = -ENOMEM;
        else
            memcpy(out->data.base, payload->data, payload->len);
    }
    if (rc != 0)
        raft_configuration_close(&out->conf);
    return rc;
}

static int decode_body(const Limpet__Wire__RaftMessage *wire, const struct buf_slice *payload,
                       struct raft_message *out)
{
    if (wire->type != RAFT_IO_APPEND_ENTRIES && wire->type != RAFT_IO_INSTALL_SNAPSHOT &&
        payload->len != 0)
        return -EBADMSG;
    switch (wire->type) {
    case RAFT_IO_APPEND_ENTRIES:
        return decode_append_entries(wire, payload, &out->append_entries);
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        out->append_entries_result = (struct raft_append_entries_result){
            .term = wire->term, .rejected = wire->rejected, .last_log_index = wire->index};
        return 0;
    case RAFT_IO_REQUEST_VOTE:
        out->request_vote = (struct raft_request_vote){.term = wire->term,
                                                       .candidate_id = wire->from,
                                                       .last_log_index = wire->index,
                                                       .last_log_term = wire->index_term,
                                                       .disrupt_leader = wire->flag,
                                                       .pre_vote = wire->pre_vote != 0};
        return 0;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        if (wire->pre_vote > raft_tribool_false)
            return -EBADMSG;
        out->request_vote_result = (struct raft_request_vote_result){
            .term = wire->term, .vote_granted = wire->flag, .pre_vote = wire->pre_vote};
        return 0;
    case RAFT_IO_INSTALL_SNAPSHOT:
        return decode_snapshot(wire, payload, &out->install_snapshot);
    case RAFT_IO_TIMEOUT_NOW:
        out->timeout_now = (struct raft_timeout_now){
            .term = wire->term, .last_log_index = wire->index, .last_log_term = wire->index_term};
        return 0;
    default:
        return -EBADMSG;
    }
}

int raft_codec_decode(const struct message *in, uint64_t from, const struct uuid *fsid,
                      struct raft_message *out)
{
    memset(out, 0, sizeof *out);
    if (in->type != MSG_RAFT)
        return -EBADMSG;
    ProtobufCMessage *base = message_unpack(in, &limpet__wire__raft_message__descriptor);
    if (base == NULL)
        return -EBADMSG;
    const Limpet__Wire__RaftMessage *wire = (const Limpet__Wire__RaftMessage *)base;
    int rc = 0;
    if (wire->fsid.len != sizeof fsid->bytes)
        rc = -EBADMSG;
    else if (memcmp(wire->fsid.data, fsid->bytes, sizeof fsid->bytes) != 0)
        rc = -EXDEV;
    else if (wire->from != from || wire->term == 0)
        rc = -EBADMSG;
    if (rc == 0) {
        out->type = (unsigned short)wire->type;
        out->server_id = wire->from;
        rc = decode_body(wire, &in->payload, out);
    }
    protobuf_c_message_free_unpacked(base, NULL);
    return rc;
}

void raft_codec_free(struct raft_message *message)
{
    if (message->type == RAFT_IO_APPEND_ENTRIES && message->append_entries.n_entries > 0) {
        raft_free(message->append_entries.entries[0].batch);
        raft_free(message->append_entries.entries);
    } else if (message->type == RAFT_IO_INSTALL_SNAPSHOT) {
        raft_configuration_close(&message->install_snapshot.conf);
        raft_free(message->install_snapshot.data.base);
    }
}
