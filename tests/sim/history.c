#include "tests/sim/history.h"

#include <inttypes.h>
#include <isa-l.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/random.h"

const char history_greeting[] = "Hello, world!";

static uint64_t serial_word(uint64_t start, uint64_t i)
{
    uint64_t word = (start + i) * UINT64_C(0xd6e8feb86659fd93);
    return (word ^ (word >> 32)) * UINT64_C(0xd6e8feb86659fd93);
}

void serial_fill(uint64_t serial, uint64_t at, uint8_t *out, size_t len)
{
    if (serial == 0) {
        memset(out, 0, len);
        return;
    }
    if (serial == SERIAL_GREETING) {
        for (size_t k = 0; k < len; k++)
            out[k] = (uint8_t)history_greeting[(at + k) % strlen(history_greeting)];
        return;
    }
    uint64_t start = random_split(&serial), i = at / sizeof i;
    size_t skip = at % sizeof i;
    if (skip > 0 && len > 0) {
        uint64_t word = serial_word(start, i++);
        size_t part = sizeof word - skip < len ? sizeof word - skip : len;
        memcpy(out, (const uint8_t *)&word + skip, part);
        out += part;
        len -= part;
    }
    for (; len >= sizeof i; len -= sizeof i, out += sizeof i) {
        uint64_t word = serial_word(start, i++);
        memcpy(out, &word, sizeof word);
    }
    if (len > 0) {
        uint64_t word = serial_word(start, i);
        memcpy(out, &word, len);
    }
}

uint64_t content_hash(const void *data, size_t len)
{
    return len > 0 ? crc64_ecma_refl(len, data, len) : 0;
}

uint32_t content_crc32c(const void *data, size_t len)
{
    return crc32_iscsi((uint8_t *)(uintptr_t)data, (int)len, UINT32_MAX);
}

bool history_reads(enum history_kind kind)
{
    switch (kind) {
    case HISTORY_READ:
    case HISTORY_STAT:
    case HISTORY_LOOK:
    case HISTORY_READ_SNAP:
    case HISTORY_CHECKSUM:
    case HISTORY_KEYS_LIST:
    case HISTORY_HOLDER:
    case HISTORY_SAY:
    case HISTORY_HELD:
    case HISTORY_TEAM:
        return true;
    default:
        return false;
    }
}

uint64_t history_member_hash(uint64_t instance, uint64_t cookie)
{
    uint64_t seed = instance + cookie;
    return random_split(&seed) | 1;
}

uint64_t history_keys_range(uint64_t first, uint64_t n)
{
    uint64_t from = first < HISTORY_KEYS ? UINT64_MAX << first : 0;
    uint64_t end = first < HISTORY_KEYS && n < HISTORY_KEYS - first ? first + n : HISTORY_KEYS;
    return end < HISTORY_KEYS ? from & ~(UINT64_MAX << end) : from;
}

uint64_t history_keys_group(uint64_t group)
{
    return group < HISTORY_KEY_GROUPS
               ? history_keys_range(group * HISTORY_KEYS_OF_GROUP, HISTORY_KEYS_OF_GROUP)
               : UINT64_MAX;
}

uint32_t history_call(struct history *history, const struct history_op *op)
{
    if (history->n == history->capacity) {
        history->capacity = history->capacity ? 2 * history->capacity : 1024;
        history->ops = reallocarray(history->ops, history->capacity, sizeof *history->ops);
        if (!history->ops)
            abort();
    }
    history->ops[history->n] = *op;
    history->ops[history->n].returned = HISTORY_NEVER;
    return history->n++;
}

void history_fini(struct history *history)
{
    free(history->ops);
    memset(history, 0, sizeof *history);
}

const char *const history_kind_names[HISTORY_KINDS_END] = {
    [HISTORY_READ] = "read",
    [HISTORY_STAT] = "stat",
    [HISTORY_WRITE_FULL] = "write_full",
    [HISTORY_WRITE_AT] = "write_at",
    [HISTORY_APPEND] = "append",
    [HISTORY_TRUNCATE] = "truncate",
    [HISTORY_REMOVE] = "remove",
    [HISTORY_CREATE] = "create",
    [HISTORY_EXCHANGE] = "exchange",
    [HISTORY_EXCHANGE_IF] = "exchange_if",
    [HISTORY_LOOK] = "look",
    [HISTORY_READ_SNAP] = "read_snap",
    [HISTORY_ROLLBACK] = "rollback",
    [HISTORY_ZERO] = "zero",
    [HISTORY_WRITE_SAME] = "write_same",
    [HISTORY_WRITE_IF] = "write_if",
    [HISTORY_CHECKSUM] = "checksum",
    [HISTORY_HINT] = "hint",
    [HISTORY_KEYS_SET] = "keys_set",
    [HISTORY_KEYS_CUT] = "keys_cut",
    [HISTORY_KEYS_LIST] = "keys_list",
    [HISTORY_LOCK] = "lock",
    [HISTORY_UNLOCK] = "unlock",
    [HISTORY_BREAK_LOCK] = "break_lock",
    [HISTORY_HOLDER] = "holder",
    [HISTORY_GREET] = "greet",
    [HISTORY_SAY] = "say",
    [HISTORY_SHARE] = "share",
    [HISTORY_SEIZE] = "seize",
    [HISTORY_LEAVE] = "leave",
    [HISTORY_EVICT] = "evict",
    [HISTORY_RENAME] = "rename",
    [HISTORY_HELD] = "held",
    [HISTORY_TEAM] = "team",
};

void history_format(const struct history_op *op, char *text, size_t size)
{
    char returned[32] = "never";
    if (op->returned != HISTORY_NEVER)
        snprintf(returned, sizeof returned, "%.6f", (double)op->returned / 1e9);
    snprintf(text, size,
             "%.6f..%s client=%u %s serial=%" PRIu64 " offset=%" PRIu64 " len=%" PRIu64
             " result=%d size=%" PRIu64 " hash=%" PRIx64 " version=%" PRIu64 ".%" PRIu64
             " snap=%" PRIu64 " period=%" PRIu64 " expected=%" PRIu64 "+%" PRIu64,
             (double)op->called / 1e9, returned, op->client, history_kind_names[op->kind],
             op->serial, op->offset, op->len, op->result, op->size, op->hash, op->version.config,
             op->version.sequence, op->snap, op->period, op->expected, op->expected_from);
}
