#include "client/nbd/proto.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* ---- Numbers ---- */

static uint16_t get16(const uint8_t *data)
{
    uint16_t value;
    memcpy(&value, data, sizeof value);
    return be16toh(value);
}

static uint32_t get32(const uint8_t *data)
{
    uint32_t value;
    memcpy(&value, data, sizeof value);
    return be32toh(value);
}

static void put(struct nbd_talk *talk, const void *data, size_t len)
{
    assert(talk->len + len <= talk->room);
    memcpy(talk->data + talk->len, data, len);
    talk->len += len;
}

static void put16(struct nbd_talk *talk, uint16_t value)
{
    value = htobe16(value);
    put(talk, &value, sizeof value);
}

static void put32(struct nbd_talk *talk, uint32_t value)
{
    value = htobe32(value);
    put(talk, &value, sizeof value);
}

static void put64(struct nbd_talk *talk, uint64_t value)
{
    value = htobe64(value);
    put(talk, &value, sizeof value);
}

/* ---- Negotiation ---- */

static const char context_name[] = "base:allocation";
enum { CONTEXT_LEN = sizeof context_name - 1, BASE_LEN = 5, ZEROES = 124 };

void nbd_peer_init(struct nbd_peer *peer, bool tls_required, bool tls_possible)
{
    *peer = (struct nbd_peer){.phase = NBD_CLIENT_FLAGS,
                              .tls_required = tls_required,
                              .tls_possible = tls_possible || tls_required};
}

void nbd_greet(struct nbd_talk *talk)
{
    const struct nbd_greeting greeting = {
        .magic = htobe64(NBD_MAGIC),
        .option_magic = htobe64(NBD_OPTION_MAGIC),
        .flags = htobe16(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES),
    };
    put(talk, &greeting, sizeof greeting);
}

void nbd_tls_begun(struct nbd_peer *peer)
{
    assert(peer->phase == NBD_HANDSHAKE);
    peer->phase = NBD_OPTIONS;
    peer->tls = true;
    peer->structured = peer->contexts = false;
}

/* One option, as far as it is known; `data` is what follows its head. */
struct asked {
    uint32_t option;
    const uint8_t *data;
    size_t len;
};

static void answer(struct nbd_talk *talk, const struct asked *asked, uint32_t reply, size_t len)
{
    const struct nbd_option_reply_head head = {
        .magic = htobe64(NBD_OPTION_REPLY),
        .option = htobe32(asked->option),
        .reply = htobe32(reply),
        .len = htobe32((uint32_t)len),
    };
    put(talk, &head, sizeof head);
}

static void refuse(struct nbd_talk *talk, const struct asked *asked, uint32_t reply,
                   const char *why)
{
    answer(talk, asked, reply, strlen(why));
    put(talk, why, strlen(why));
}

static uint16_t flags_of(const struct nbd_peer *peer, const struct nbd_export *export)
{
    unsigned flags =
        NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN;
    flags |= export->read_only
                 ? NBD_FLAG_READ_ONLY
                 : NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    if (peer->structured)
        flags |= NBD_FLAG_SEND_DF;
    return (uint16_t)flags;
}

static bool is_name_of(const struct nbd_export *export, const uint8_t *name, size_t len)
{
    if (len == 0)
        return true;
    return (len == strlen(export->name) && memcmp(name, export->name, len) == 0) ||
           (len == strlen(export->other_name) && memcmp(name, export->other_name, len) == 0);
}

/* The oldest way to begin: no answer but what it is, or the end. */
static void export_name(struct nbd_peer *peer, const struct nbd_export *export,
                        const struct asked *asked, struct nbd_talk *talk)
{
    static const uint8_t zeroes[ZEROES];
    if ((peer->tls_required && !peer->tls) || !is_name_of(export, asked->data, asked->len)) {
        peer->phase = NBD_ENDED;
        return;
    }
    peer->size = export->size;
    put64(talk, export->size);
    put16(talk, flags_of(peer, export));
    if (!peer->no_zeroes)
        put(talk, zeroes, sizeof zeroes);
    peer->phase = NBD_TRANSMISSION;
}

static void list(const struct nbd_export *export, const struct asked *asked, struct nbd_talk *talk)
{
    size_t len = strlen(export->name);
    if (asked->len > 0) {
        refuse(talk, asked, NBD_REP_ERR_INVALID, "a list is asked for without data");
        return;
    }
    answer(talk, asked, NBD_REP_SERVER, sizeof(uint32_t) + len);
    put32(talk, (uint32_t)len);
    put(talk, export->name, len);
    answer(talk, asked, NBD_REP_ACK, 0);
}

static void tell_name(const struct nbd_export *export, const struct asked *asked,
                      struct nbd_talk *talk)
{
    size_t len = strlen(export->name);
    answer(talk, asked, NBD_REP_INFO, sizeof(uint16_t) + len);
    put16(talk, NBD_INFO_NAME);
    put(talk, export->name, len);
}

static void tell_block_size(const struct asked *asked, struct nbd_talk *talk)
{
    answer(talk, asked, NBD_REP_INFO, sizeof(uint16_t) + 3 * sizeof(uint32_t));
    put16(talk, NBD_INFO_BLOCK_SIZE);
    put32(talk, 1);
    put32(talk, NBD_BLOCK_PREFERRED);
    put32(talk, NBD_PAYLOAD_MAX);
}

/* A name of 4 bytes' length; false: there is none. */
static bool take_name(const uint8_t **data, size_t *len, const uint8_t **name, size_t *name_len)
{
    if (*len < sizeof(uint32_t))
        return false;
    *name_len = get32(*data);
    if (*name_len > *len - sizeof(uint32_t))
        return false;
    *name = *data + sizeof(uint32_t);
    *data = *name + *name_len;
    *len -= sizeof(uint32_t) + *name_len;
    return true;
}

/* INFO, and GO, which begins. */
static void info(struct nbd_peer *peer, const struct nbd_export *export, const struct asked *asked,
                 struct nbd_talk *talk)
{
    const uint8_t *data = asked->data, *name;
    size_t len = asked->len, name_len;
    bool named = false;
    if (!take_name(&data, &len, &name, &name_len) || len < sizeof(uint16_t) ||
        len - sizeof(uint16_t) != (size_t)get16(data) * sizeof(uint16_t)) {
        refuse(talk, asked, NBD_REP_ERR_INVALID, "lengths do not agree");
        return;
    }
    if (!is_name_of(export, name, name_len)) {
        refuse(talk, asked, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
        return;
    }
    answer(talk, asked, NBD_REP_INFO, 2 * sizeof(uint16_t) + sizeof(uint64_t));
    put16(talk, NBD_INFO_EXPORT);
    put64(talk, export->size);
    put16(talk, flags_of(peer, export));
    tell_block_size(asked, talk);
    for (size_t at = sizeof(uint16_t); at < len; at += sizeof(uint16_t)) {
        if (get16(data + at) == NBD_INFO_NAME && !named) {
            named = true;
            tell_name(export, asked, talk);
        }
    }
    answer(talk, asked, NBD_REP_ACK, 0);
    if (asked->option == NBD_OPT_GO) {
        peer->size = export->size;
        peer->phase = NBD_TRANSMISSION;
    }
}

static void structured_reply(struct nbd_peer *peer, const struct asked *asked,
                             struct nbd_talk *talk)
{
    if (asked->len > 0) {
        refuse(talk, asked, NBD_REP_ERR_INVALID, "structured replies are asked for without data");
        return;
    }
    peer->structured = true;
    answer(talk, asked, NBD_REP_ACK, 0);
}

static bool is_query_for_it(const uint8_t *query, size_t len, bool lists)
{
    if (lists && len == BASE_LEN && memcmp(query, context_name, BASE_LEN) == 0)
        return true;
    return len == CONTEXT_LEN && memcmp(query, context_name, CONTEXT_LEN) == 0;
}

/* Whether the queries are well formed, and want base:allocation. */
static bool read_queries(const uint8_t *data, size_t len, bool lists, bool *wanted)
{
    if (len < sizeof(uint32_t))
        return false;
    uint32_t n = get32(data);
    data += sizeof(uint32_t);
    len -= sizeof(uint32_t);
    *wanted = lists && n == 0;
    if (n > NBD_QUERIES_MAX)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *query;
        size_t query_len;
        if (!take_name(&data, &len, &query, &query_len))
            return false;
        *wanted = *wanted || is_query_for_it(query, query_len, lists);
    }
    return len == 0;
}

static void meta_context(struct nbd_peer *peer, const struct nbd_export *export,
                         const struct asked *asked, struct nbd_talk *talk)
{
    const uint8_t *data = asked->data, *name;
    size_t len = asked->len, name_len;
    bool lists = asked->option == NBD_OPT_LIST_META_CONTEXT, wanted;
    if (!lists)
        peer->contexts = false;
    if (!peer->structured) {
        refuse(talk, asked, NBD_REP_ERR_INVALID, "structured replies come first");
        return;
    }
    if (!take_name(&data, &len, &name, &name_len) || !read_queries(data, len, lists, &wanted)) {
        refuse(talk, asked, NBD_REP_ERR_INVALID, "lengths do not agree");
        return;
    }
    if (!is_name_of(export, name, name_len)) {
        refuse(talk, asked, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
        return;
    }
    if (wanted) {
        answer(talk, asked, NBD_REP_META_CONTEXT, sizeof(uint32_t) + CONTEXT_LEN);
        put32(talk, lists ? 0 : NBD_CONTEXT);
        put(talk, context_name, CONTEXT_LEN);
    }
    if (!lists)
        peer->contexts = wanted;
    answer(talk, asked, NBD_REP_ACK, 0);
}

static void start_tls(struct nbd_peer *peer, const struct asked *asked, struct nbd_talk *talk)
{
    if (asked->len > 0 || peer->tls) {
        refuse(talk, asked, NBD_REP_ERR_INVALID, "it is in use, or data was sent along");
    } else if (!peer->tls_possible) {
        refuse(talk, asked, NBD_REP_ERR_UNSUP, "this server has no TLS");
    } else {
        answer(talk, asked, NBD_REP_ACK, 0);
        peer->phase = NBD_HANDSHAKE;
    }
}

static void take_option(struct nbd_peer *peer, const struct nbd_export *export,
                        const struct asked *asked, struct nbd_talk *talk)
{
    if (peer->tls_required && !peer->tls && asked->option != NBD_OPT_STARTTLS &&
        asked->option != NBD_OPT_ABORT && asked->option != NBD_OPT_EXPORT_NAME) {
        refuse(talk, asked, NBD_REP_ERR_TLS_REQD, "TLS comes first");
        return;
    }
    switch (asked->option) {
    case NBD_OPT_EXPORT_NAME:
        export_name(peer, export, asked, talk);
        break;
    case NBD_OPT_ABORT:
        answer(talk, asked, NBD_REP_ACK, 0);
        peer->phase = NBD_ENDED;
        break;
    case NBD_OPT_LIST:
        list(export, asked, talk);
        break;
    case NBD_OPT_STARTTLS:
        start_tls(peer, asked, talk);
        break;
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        info(peer, export, asked, talk);
        break;
    case NBD_OPT_STRUCTURED_REPLY:
        structured_reply(peer, asked, talk);
        break;
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        meta_context(peer, export, asked, talk);
        break;
    default:
        refuse(talk, asked, NBD_REP_ERR_UNSUP, "this server does not know the option");
        break;
    }
}

static size_t client_flags(struct nbd_peer *peer, const uint8_t *data, size_t len)
{
    if (len < sizeof(uint32_t))
        return 0;
    uint32_t flags = get32(data);
    peer->no_zeroes = (flags & NBD_NO_ZEROES) != 0;
    bool known = (flags & ~(uint32_t)(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES)) == 0;
    peer->phase = known ? NBD_OPTIONS : NBD_ENDED;
    return sizeof(uint32_t);
}

size_t nbd_negotiate(struct nbd_peer *peer, const struct nbd_export *export, const uint8_t *data,
                     size_t len, struct nbd_talk *talk)
{
    struct nbd_option_head head;
    assert(talk->room - talk->len >= NBD_TALK_MAX);
    if (peer->phase == NBD_CLIENT_FLAGS)
        return client_flags(peer, data, len);
    if (peer->phase != NBD_OPTIONS || len < sizeof head)
        return 0;
    memcpy(&head, data, sizeof head);
    const struct asked asked = {
        .option = be32toh(head.option), .data = data + sizeof head, .len = be32toh(head.len)};
    if (be64toh(head.magic) != NBD_OPTION_MAGIC || asked.len > NBD_OPTION_LEN_MAX ||
        peer->options == NBD_OPTIONS_MAX) {
        peer->phase = NBD_ENDED;
        return sizeof head;
    }
    if (len - sizeof head < asked.len)
        return 0;
    peer->options++;
    take_option(peer, export, &asked, talk);
    return sizeof head + asked.len;
}

/* ---- Requests ---- */

enum nbd_error nbd_error_of(int error)
{
    switch (error) {
    case -ENOSPC:
    case -EDQUOT:
        return NBD_ENOSPC;
    case -EROFS:
        return NBD_EPERM;
    case -EINVAL:
        return NBD_EINVAL;
    case -ENOMEM:
        return NBD_ENOMEM;
    case -ESHUTDOWN:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}

/* Which flags a command may have. */
static unsigned flags_allowed(const struct nbd_peer *peer, uint16_t command)
{
    switch (command) {
    case NBD_CMD_READ:
        return peer->structured ? NBD_CMD_FLAG_DF | NBD_CMD_FLAG_FUA : NBD_CMD_FLAG_FUA;
    case NBD_CMD_WRITE_ZEROES:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    case NBD_CMD_BLOCK_STATUS:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
    default:
        return NBD_CMD_FLAG_FUA;
    }
}

static bool is_change(uint16_t command)
{
    return command == NBD_CMD_WRITE || command == NBD_CMD_TRIM || command == NBD_CMD_WRITE_ZEROES;
}

static bool is_known(const struct nbd_peer *peer, uint16_t command)
{
    if (command == NBD_CMD_BLOCK_STATUS)
        return peer->contexts;
    return command == NBD_CMD_READ || command == NBD_CMD_FLUSH || is_change(command);
}

/* Of one that is known. */
static bool is_allowed(const struct nbd_peer *peer, const struct nbd_export *export,
                       const struct nbd_request_line *line, enum nbd_error *error)
{
    bool moves = line->command == NBD_CMD_READ || line->command == NBD_CMD_WRITE;
    *error = NBD_EINVAL;
    if ((line->flags & ~flags_allowed(peer, line->command)) != 0)
        return false;
    if (line->command == NBD_CMD_FLUSH)
        return true;
    if (line->len == 0 || (moves && line->len > NBD_PAYLOAD_MAX))
        return false;
    *error = NBD_EPERM;
    if (export->read_only && is_change(line->command))
        return false;
    bool fills = line->command == NBD_CMD_WRITE || line->command == NBD_CMD_WRITE_ZEROES;
    *error = fills ? NBD_ENOSPC : NBD_EINVAL;
    if (line->offset > peer->size || line->len > peer->size - line->offset)
        return false;
    /* What keeps its space is written. */
    *error = NBD_ENOTSUP;
    return (line->flags & NBD_CMD_FLAG_FAST_ZERO) == 0 || (line->flags & NBD_CMD_FLAG_NO_HOLE) == 0;
}

enum nbd_verdict nbd_read_request(const struct nbd_peer *peer, const struct nbd_export *export,
                                  const uint8_t *data, struct nbd_request_line *out,
                                  enum nbd_error *error)
{
    struct nbd_request_head head;
    memcpy(&head, data, sizeof head);
    *out = (struct nbd_request_line){
        .flags = be16toh(head.flags),
        .command = be16toh(head.command),
        .cookie = head.cookie, /* Only ever given back. */
        .offset = be64toh(head.offset),
        .len = be32toh(head.len),
    };
    if (be32toh(head.magic) != NBD_REQUEST_MAGIC)
        return NBD_NONSENSE;
    if (out->command == NBD_CMD_DISC)
        return NBD_ACCEPTED;
    /* So much would have to be skipped. */
    if (out->command == NBD_CMD_WRITE && out->len > NBD_PAYLOAD_MAX)
        return NBD_NONSENSE;
    *error = NBD_EINVAL;
    if (!is_known(peer, out->command))
        return NBD_REFUSED;
    return is_allowed(peer, export, out, error) ? NBD_ACCEPTED : NBD_REFUSED;
}

/* ---- Replies ---- */

static size_t put_head(uint8_t *out, const void *head, size_t len, size_t at)
{
    memcpy(out + at, head, len);
    return at + len;
}

size_t nbd_reply_head(const struct nbd_peer *peer, const struct nbd_request_line *line,
                      uint32_t error, size_t payload, uint8_t out[NBD_REPLY_HEAD_MAX])
{
    bool reads = line->command == NBD_CMD_READ, tells = line->command == NBD_CMD_BLOCK_STATUS;
    if (!peer->structured || (!reads && !tells)) {
        const struct nbd_simple_reply simple = {
            .magic = htobe32(NBD_SIMPLE_REPLY), .error = htobe32(error), .cookie = line->cookie};
        return put_head(out, &simple, sizeof simple, 0);
    }
    const uint64_t offset = htobe64(line->offset);
    const uint32_t context = htobe32(NBD_CONTEXT), code = htobe32(error);
    const uint16_t no_message = 0;
    uint32_t own = error != 0 ? sizeof code + sizeof no_message
                   : reads    ? sizeof offset
                              : sizeof context;
    uint16_t type = error != 0 ? NBD_CHUNK_ERROR
                    : reads    ? NBD_CHUNK_OFFSET_DATA
                               : NBD_CHUNK_BLOCK_STATUS;
    const struct nbd_chunk_head head = {
        .magic = htobe32(NBD_CHUNK),
        .flags = htobe16(NBD_CHUNK_DONE),
        .type = htobe16(type),
        .cookie = line->cookie,
        .len = htobe32(own + (uint32_t)payload),
    };
    size_t at = put_head(out, &head, sizeof head, 0);
    if (error != 0) {
        assert(payload == 0);
        at = put_head(out, &code, sizeof code, at);
        return put_head(out, &no_message, sizeof no_message, at);
    }
    return reads ? put_head(out, &offset, sizeof offset, at)
                 : put_head(out, &context, sizeof context, at);
}
