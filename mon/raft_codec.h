/*
 * libraft's messages and configurations as bytes: MSG_RAFT with a RaftMessage
 * (common/limpet.proto).
 *
 * A decoded message is sound: bounded, its entries in order of term, its configurations readable.
 * Its memory is allocated as libraft wants it: the entries and their data by raft_malloc(), the
 * data of all entries in one batch.
 */
#ifndef LIMPET_MON_RAFT_CODEC_H
#define LIMPET_MON_RAFT_CODEC_H

#include <raft.h>
#include <stddef.h>
#include <stdint.h>

#include "common/entity.h"
#include "common/error.h"
#include "common/message.h"

enum {
    RAFT_CODEC_ENTRIES_MAX = 4096,
    RAFT_CODEC_SERVERS_MAX = 31,
    RAFT_CODEC_ADDRESS_MAX = 63,
};

/* Entries whose data are longer than this together are sent in several messages. */
#define RAFT_CODEC_DATA_MAX (UINT64_C(64) * 1024 * 1024)

/* A message to send; NULL when memory is short. Entries that do not fit are left out at the end. */
struct message *raft_codec_encode(const struct raft_message *message, uint64_t from,
                                  const struct uuid *fsid) MUST_CHECK;

/*
 * Reads a message that a monitor of cluster `fsid` with raft id `from` sent. server_address is left
 * NULL. -EBADMSG: it is none; -EXDEV: it belongs to another cluster; -ENOMEM.
 */
int raft_codec_decode(const struct message *in, uint64_t from, const struct uuid *fsid,
                      struct raft_message *out) MUST_CHECK;

/* Frees what a decoded message holds and libraft has not taken over. */
void raft_codec_free(struct raft_message *message);

/* Reads what raft_configuration_encode() wrote. -EBADMSG, -ENOMEM. */
int raft_codec_configuration(const void *data, size_t len,
                             struct raft_configuration *out) MUST_CHECK;

#endif
