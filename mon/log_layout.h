/*
 * What a monitor's log store keeps on disk. See log_store.h for the rules.
 *
 * All integers are little-endian; structs are packed, sized by static assertions and covered by
 * golden-bytes tests.
 *
 *     raft.meta      two slots of LOG_META_SLOT_BYTES, each a log_meta_slot; written in turn
 *     raft.log       log_file_header, then records one after the other, then zeroes
 *     raft.snapshot  log_snapshot_header, the configuration, the state
 *     *.new          being written; renamed over its target once it is durable, else ignored
 */
#ifndef LIMPET_MON_LOG_LAYOUT_H
#define LIMPET_MON_LOG_LAYOUT_H

#include <assert.h>
#include <endian.h>
#include <stdint.h>

#define LOG_PACKED __attribute__((packed))

static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "the structs of the log are read in place");

#define LOG_META_MAGIC     UINT32_C(0x314d4c4c) /* "LLM1" */
#define LOG_FILE_MAGIC     UINT32_C(0x31464c4c) /* "LLF1" */
#define LOG_RECORD_MAGIC   UINT32_C(0x31524c4c) /* "LLR1" */
#define LOG_SNAPSHOT_MAGIC UINT32_C(0x31534c4c) /* "LLS1" */

enum {
    LOG_META_SLOT_BYTES = 4096,
    LOG_RECORD_ALIGNMENT = 8,
    LOG_RECORD_DATA_MAX = 64 * 1024 * 1024,
};

/* The valid slot with the higher sequence counts. */
struct LOG_PACKED log_meta_slot {
    uint32_t magic;
    uint32_t crc; /* crc32c of what follows. */
    uint64_t sequence;
    uint64_t term;
    uint64_t vote; /* Whom this monitor voted for in the term; 0: nobody. */
};
static_assert(sizeof(struct log_meta_slot) == 32, "log_meta_slot");

struct LOG_PACKED log_file_header {
    uint32_t magic;
    uint32_t crc; /* crc32c of what follows. */
    uint64_t first_index;
    /* The file got its name only after everything before this offset was durable. */
    uint64_t durable;
    uint32_t salt; /* Random; starts the checksum of every record of this file. */
    uint32_t reserved;
};
static_assert(sizeof(struct log_file_header) == 32, "log_file_header");

/* Followed by data_len bytes of data and zeroes up to the next multiple of LOG_RECORD_ALIGNMENT. */
struct LOG_PACKED log_record {
    uint32_t magic;
    uint32_t crc; /* crc32c, started with the file's salt, of what follows and of the data. */
    uint32_t data_len;
    uint16_t type; /* RAFT_COMMAND, RAFT_BARRIER, RAFT_CHANGE */
    uint16_t reserved;
    uint64_t term;
    uint64_t index;
    uint64_t durable; /* Everything before this offset was durable before this was written. */
};
static_assert(sizeof(struct log_record) == 40, "log_record");

struct LOG_PACKED log_snapshot_header {
    uint32_t magic;
    uint32_t crc; /* crc32c of what follows, of the configuration and of the state. */
    uint64_t index;
    uint64_t term;
    uint64_t conf_index;
    uint64_t data_len;
    uint32_t conf_len;
    uint32_t reserved;
};
static_assert(sizeof(struct log_snapshot_header) == 48, "log_snapshot_header");

#endif
