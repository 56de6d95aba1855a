/*
 * NBD's protocol without its sockets: what a client's bytes mean, and the bytes of answers. Pure,
 * for tests and fuzzing.
 *
 * The negotiation is a state machine that is fed with whole or partial input:
 *
 *     CLIENT_FLAGS --4 bytes--> OPTIONS --GO, EXPORT_NAME--> TRANSMISSION
 *                               |    ^
 *                      STARTTLS |    | nbd_tls_begun(): all is forgotten that was said in clear
 *                               v    |
 *                              HANDSHAKE
 *
 * From each of them ENDED, when the client says so or something that it must not.
 */
#ifndef LIMPET_CLIENT_NBD_PROTO_H
#define LIMPET_CLIENT_NBD_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/nbd/layout.h"

enum {
    NBD_PAYLOAD_MAX = 32 << 20, /* Bytes of a read or a write. */
    NBD_OPTION_LEN_MAX = 8192,  /* Of an option's data; names have at most 4096. */
    NBD_OPTIONS_MAX = 128,      /* Of a connection. */
    NBD_QUERIES_MAX = 64,       /* Of an option about contexts. */
    NBD_TALK_MAX = 16384,       /* Answers to one option are shorter. */
    NBD_EXPORT_NAME_MAX = 512,  /* Of ours. */
    NBD_EXTENTS_MAX = 8192,     /* Of an answer about block status. */
    NBD_BLOCK_PREFERRED = 4096,
    NBD_CONTEXT = 1, /* The number of base:allocation. */
    NBD_REPLY_HEAD_MAX = 28,
};

/* What is served. The default name, "", means it, too. */
struct nbd_export {
    char name[NBD_EXPORT_NAME_MAX];
    char other_name[NBD_EXPORT_NAME_MAX]; /* "" or another one for the same. */
    bool read_only;
    uint64_t size; /* As it is told to who asks now. */
};

enum nbd_phase {
    NBD_CLIENT_FLAGS,
    NBD_OPTIONS,
    NBD_HANDSHAKE, /* Of TLS: the answer to STARTTLS is in clear, what follows is not. */
    NBD_TRANSMISSION,
    NBD_ENDED,
};

struct nbd_peer {
    enum nbd_phase phase;
    bool tls_required, tls_possible, tls; /* tls: it is in use. */
    bool no_zeroes;
    bool structured; /* Replies in chunks were agreed upon, */
    bool contexts;   /* and so was base:allocation. */
    unsigned options;
    uint64_t size; /* That the client was told. */
};

/* Answers to options. The caller makes room: NBD_TALK_MAX more bytes than `len`. */
struct nbd_talk {
    uint8_t *data;
    size_t len, room;
};

void nbd_peer_init(struct nbd_peer *peer, bool tls_required, bool tls_possible);
/* What the server says first; to `talk`. */
void nbd_greet(struct nbd_talk *talk);
/*
 * One step of the negotiation. Returns how many bytes of the input it has taken; 0: it needs more,
 * or the phase is none of the negotiation any more. At most 16 + NBD_OPTION_LEN_MAX bytes are
 * needed. Answers are appended to `talk`.
 */
size_t nbd_negotiate(struct nbd_peer *peer, const struct nbd_export *export, const uint8_t *data,
                     size_t len, struct nbd_talk *talk);
void nbd_tls_begun(struct nbd_peer *peer);

/* A request, in the machine's order of bytes. */
struct nbd_request_line {
    uint16_t flags, command;
    uint64_t cookie, offset;
    uint32_t len;
};

enum nbd_verdict {
    NBD_REFUSED, /* `error` is the answer; a write's payload follows all the same. */
    NBD_ACCEPTED,
    NBD_NONSENSE, /* What follows cannot be understood: the connection ends. */
};

/* From sizeof(struct nbd_request_head) bytes. */
enum nbd_verdict nbd_read_request(const struct nbd_peer *peer, const struct nbd_export *export,
                                  const uint8_t *data, struct nbd_request_line *out,
                                  enum nbd_error *error);

/* What the errno of a request, negative, is for a client. */
enum nbd_error nbd_error_of(int error);

/*
 * What comes before `payload` bytes of an answer, of what was read or, of block status, of
 * extents; error 0: it went well. Returns its length.
 */
size_t nbd_reply_head(const struct nbd_peer *peer, const struct nbd_request_line *line,
                      uint32_t error, size_t payload, uint8_t out[NBD_REPLY_HEAD_MAX]);

#endif
