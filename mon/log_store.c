#include "mon/log_store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <isa-l.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "mon/log_layout.h"

#define META_FILE     "raft.meta"
#define LOG_FILE      "raft.log"
#define SNAPSHOT_FILE "raft.snapshot"
#define NEW_SUFFIX    ".new"

enum {
    /*
     * The file grows by this much at a time, written with zeroes: a flush of an append inside it
     * has no metadata of the file system to write.
     */
    LOG_GROWTH_BYTES = 256 * 1024,
    LOG_FILE_BYTES_MAX = 1024 * 1024 * 1024,
};

#define SNAPSHOT_BYTES_MAX (UINT64_C(1) << 30)

struct log_slot {
    uint64_t term;
    uint64_t offset;
    uint32_t len;
    uint16_t type;
};

struct log_store {
    struct env *env;
    int failed; /* The first error of a write: L5. */
    uint64_t flushes;

    struct env_file *meta;
    uint64_t meta_sequence;
    uint64_t term;
    uint64_t vote;

    struct env_file *log;
    uint32_t salt;
    uint64_t first;
    uint64_t end;     /* Where the next record goes; includes queued ones. */
    uint64_t durable; /* Everything before it is. */
    uint64_t size;    /* Of the file. */
    size_t n_slots;
    size_t slots_capacity;
    struct log_slot *slots;

    uint8_t *queue; /* Records from offset `durable` that were not written yet. */
    size_t queue_len;
    size_t queue_capacity;

    bool has_snapshot;
    uint64_t snapshot_index;
    uint64_t snapshot_term;
};

static uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    assert(len <= INT32_MAX);
    return crc32_iscsi((unsigned char *)(uintptr_t)data, (int)len, crc);
}

static uint64_t record_span(size_t data_len)
{
    uint64_t span = sizeof(struct log_record) + data_len;
    return (span + LOG_RECORD_ALIGNMENT - 1) & ~(uint64_t)(LOG_RECORD_ALIGNMENT - 1);
}

static int fail(struct log_store *store, int error)
{
    if (error != 0 && store->failed == 0)
        store->failed = error;
    return error;
}

/* ---- Term and vote ---- */

static void meta_encode(struct log_meta_slot *slot, uint64_t sequence, uint64_t term, uint64_t vote)
{
    *slot = (struct log_meta_slot){
        .magic = LOG_META_MAGIC, .sequence = sequence, .term = term, .vote = vote};
    slot->crc = crc32c(0, &slot->sequence, sizeof *slot - 8);
}

static bool meta_valid(const struct log_meta_slot *slot)
{
    return slot->magic == LOG_META_MAGIC &&
           slot->crc == crc32c(0, &slot->sequence, sizeof *slot - 8);
}

static int meta_write(struct log_store *store, uint64_t term, uint64_t vote)
{
    struct log_meta_slot slot;
    uint64_t sequence = store->meta_sequence + 1;

    if (store->failed != 0)
        return store->failed;
    meta_encode(&slot, sequence, term, vote);
    if (planted(PLANTED_VOTE_NOT_DURABLE)) {
        store->term = term;
        store->vote = vote;
        return 0;
    }
    int rc = env_file_write(store->env, store->meta, &slot, sizeof slot,
                            (sequence % 2) * LOG_META_SLOT_BYTES);
    if (rc == 0)
        rc = env_file_sync(store->env, store->meta);
    if (rc != 0)
        return fail(store, rc);
    store->flushes++;
    store->meta_sequence = sequence;
    store->term = term;
    store->vote = vote;
    return 0;
}

int log_store_set_term(struct log_store *store, uint64_t term)
{
    assert(term >= store->term);
    return meta_write(store, term, 0);
}

int log_store_set_vote(struct log_store *store, uint64_t vote)
{
    return meta_write(store, store->term, vote);
}

static int meta_load(struct log_store *store, char why[LOG_STORE_WHY_MAX])
{
    struct log_meta_slot slots[2];
    int best = -1;

    int rc = env_file_open(store->env, META_FILE, O_RDWR, &store->meta);
    if (rc != 0) {
        snprintf(why, LOG_STORE_WHY_MAX, "cannot open %s: %s", META_FILE, error_text(rc));
        return rc;
    }
    for (int i = 0; i < 2; i++) {
        memset(&slots[i], 0, sizeof slots[i]);
        ssize_t got = env_file_read(store->env, store->meta, &slots[i], sizeof slots[i],
                                    (uint64_t)i * LOG_META_SLOT_BYTES);
        if (got < 0) {
            snprintf(why, LOG_STORE_WHY_MAX, "cannot read %s: %s", META_FILE, error_text((int)got));
            return (int)got;
        }
        if (meta_valid(&slots[i]) && (best < 0 || slots[i].sequence > slots[best].sequence))
            best = i;
    }
    if (best < 0) {
        snprintf(why, LOG_STORE_WHY_MAX,
                 "%s is damaged: both copies of term and vote fail their checksum. Move the data "
                 "folder away and make this monitor anew with --mkfs: it copies from the others",
                 META_FILE);
        return -ELIMPET_CORRUPT;
    }
    store->meta_sequence = slots[best].sequence;
    store->term = slots[best].term;
    store->vote = slots[best].vote;
    return 0;
}

/* ---- Records ---- */

static int slot_add(struct log_store *store, const struct log_slot *slot)
{
    if (store->n_slots == store->slots_capacity) {
        size_t capacity = store->slots_capacity ? store->slots_capacity * 2 : 128;
        struct log_slot *slots = realloc(store->slots, capacity * sizeof *slots);
        if (slots == NULL)
            return -ENOMEM;
        store->slots = slots;
        store->slots_capacity = capacity;
    }
    store->slots[store->n_slots++] = *slot;
    return 0;
}

/* Writes a whole record, header, data and filling, to out. */
static void record_encode(uint8_t *out, uint32_t salt, uint64_t index, const struct log_slot *slot,
                          uint64_t durable, const void *data)
{
    struct log_record record = {.magic = LOG_RECORD_MAGIC,
                                .data_len = slot->len,
                                .type = slot->type,
                                .term = slot->term,
                                .index = index,
                                .durable = durable};
    uint64_t span = record_span(slot->len);

    record.crc = crc32c(salt, &record.data_len, sizeof record - 8);
    record.crc = crc32c(record.crc, data, slot->len);
    memcpy(out, &record, sizeof record);
    if (slot->len > 0)
        memcpy(out + sizeof record, data, slot->len);
    memset(out + sizeof record + slot->len, 0, span - sizeof record - slot->len);
}

/* Whether a whole record with a good checksum stands at the offset. */
static bool record_decode(const uint8_t *data, uint64_t size, uint64_t offset, uint32_t salt,
                          struct log_record *record)
{
    if (size - offset < sizeof *record)
        return false;
    memcpy(record, data + offset, sizeof *record);
    if (record->magic != LOG_RECORD_MAGIC || record->data_len > LOG_RECORD_DATA_MAX ||
        record_span(record->data_len) > size - offset)
        return false;
    uint32_t crc = crc32c(salt, &record->data_len, sizeof *record - 8);
    crc = crc32c(crc, data + offset + sizeof *record, record->data_len);
    return crc == record->crc;
}

static void file_header_encode(struct log_file_header *header, uint64_t first, uint64_t durable,
                               uint32_t salt)
{
    *header = (struct log_file_header){
        .magic = LOG_FILE_MAGIC, .first_index = first, .durable = durable, .salt = salt};
    header->crc = crc32c(0, &header->first_index, sizeof *header - 8);
}

/* ---- New files that replace others ---- */

static int replace_file(struct env *env, const char *name, const void *data, size_t len)
{
    char path[64];
    struct env_file *file;

    snprintf(path, sizeof path, "%s%s", name, NEW_SUFFIX);
    int rc = env_file_open(env, path, O_RDWR | O_CREAT | O_TRUNC, &file);
    if (rc != 0)
        return rc;
    rc = env_file_write(env, file, data, len, 0);
    bool syncs = !planted(PLANTED_SNAPSHOT_NOT_DURABLE) || strcmp(name, SNAPSHOT_FILE) != 0;
    if (rc == 0 && syncs)
        rc = env_file_sync(env, file);
    env_file_close(env, file);
    if (rc == 0)
        rc = env_file_rename(env, path, name);
    if (rc == 0)
        rc = env_dir_sync(env, ".");
    return rc;
}

/*
 * Writes the log anew with n entries from `first`, whose slots and data are given. Returns with
 * `slots` holding their new offsets and *end the offset after the last.
 */
static int log_file_make(struct env *env, uint64_t first, struct log_slot *slots, size_t n,
                         const uint8_t *const *data, uint32_t salt, uint64_t *end, uint64_t *size)
{
    uint64_t need = sizeof(struct log_file_header);

    for (size_t i = 0; i < n; i++)
        need += record_span(slots[i].len);
    *end = need;
    *size = (need / LOG_GROWTH_BYTES + 1) * LOG_GROWTH_BYTES;
    uint8_t *image = calloc(1, *size);
    if (image == NULL)
        return -ENOMEM;
    file_header_encode((struct log_file_header *)image, first, need, salt);
    uint64_t at = sizeof(struct log_file_header);
    for (size_t i = 0; i < n; i++) {
        record_encode(image + at, salt, first + i, &slots[i], sizeof(struct log_file_header),
                      data[i]);
        slots[i].offset = at;
        at += record_span(slots[i].len);
    }
    assert(at == need);
    int rc = replace_file(env, LOG_FILE, image, *size);
    free(image);
    return rc;
}

/* Replaces the log by its entries first .. last, which exist, unless last is first - 1. L2. */
static int log_rewrite(struct log_store *store, uint64_t first, uint64_t last)
{
    size_t n = (size_t)(last + 1 - first);
    struct log_slot *slots = calloc(n + 1, sizeof *slots);
    uint8_t **data = calloc(n + 1, sizeof *data);
    uint32_t salt = (uint32_t)env_random_u64(store->env);
    int rc = slots != NULL && data != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; i < n && rc == 0; i++) {
        slots[i] = store->slots[first + i - store->first];
        data[i] = malloc(slots[i].len + 1);
        rc = data[i] != NULL ? log_store_read(store, first + i, data[i]) : -ENOMEM;
    }
    uint64_t end = 0;
    uint64_t size = 0;
    struct env_file *file = NULL;
    if (rc == 0)
        rc = log_file_make(store->env, first, slots, n, (const uint8_t *const *)data, salt, &end,
                           &size);
    if (rc == 0)
        rc = env_file_open(store->env, LOG_FILE, O_RDWR, &file);
    if (rc == 0) {
        env_file_close(store->env, store->log);
        free(store->slots);
        store->log = file;
        store->slots = slots;
        store->n_slots = n;
        store->slots_capacity = n + 1;
        store->salt = salt;
        store->first = first;
        store->end = end;
        store->durable = end;
        store->size = size;
        store->queue_len = 0;
        store->flushes++;
        slots = NULL;
    }
    for (size_t i = 0; data != NULL && i < n; i++)
        free(data[i]);
    free(data);
    free(slots);
    return fail(store, rc);
}

/* ---- Opening ---- */

static int damaged(char why[LOG_STORE_WHY_MAX], const char *what, uint64_t offset)
{
    snprintf(why, LOG_STORE_WHY_MAX,
             "%s is damaged at byte %" PRIu64 ": %s. Move the data folder away and make this "
             "monitor anew with --mkfs: it copies from the others",
             LOG_FILE, offset, what);
    return -ELIMPET_CORRUPT;
}

/*
 * Looks behind the last good record, which ends at `end`: up to where was the file durable at
 * least, as later records tell, and does anything but zeroes follow?
 */
static uint64_t log_probe_tail(const uint8_t *data, uint64_t size, uint64_t end, uint32_t salt,
                               bool *dirty)
{
    uint64_t durable = 0;
    uint64_t zero = 0;

    *dirty = false;
    for (uint64_t at = end; at < size; at += LOG_RECORD_ALIGNMENT) {
        uint64_t step = size - at < LOG_RECORD_ALIGNMENT ? size - at : LOG_RECORD_ALIGNMENT;
        struct log_record record;
        if (memcmp(data + at, &zero, step) == 0)
            continue;
        *dirty = true;
        if (step == LOG_RECORD_ALIGNMENT && record_decode(data, size, at, salt, &record) &&
            record.durable > durable)
            durable = record.durable;
    }
    return durable;
}

static int log_scan(struct log_store *store, const uint8_t *data, bool *dirty,
                    char why[LOG_STORE_WHY_MAX])
{
    struct log_file_header header;
    struct log_record record;

    if (store->size < sizeof header)
        return damaged(why, "it is too short", 0);
    memcpy(&header, data, sizeof header);
    if (header.magic != LOG_FILE_MAGIC ||
        header.crc != crc32c(0, &header.first_index, sizeof header - 8) || header.first_index == 0)
        return damaged(why, "its header fails its checksum", 0);
    store->salt = header.salt;
    store->first = header.first_index;
    uint64_t at = sizeof header;
    uint64_t term = 1;
    while (record_decode(data, store->size, at, store->salt, &record)) {
        uint64_t index = store->first + store->n_slots;
        if (record.index != index || record.term < term || record.durable > at)
            return damaged(why, "an entry stands where another belongs", at);
        struct log_slot slot = {
            .term = record.term, .offset = at, .len = record.data_len, .type = record.type};
        int rc = slot_add(store, &slot);
        if (rc != 0)
            return rc;
        term = record.term;
        at += record_span(record.data_len);
    }
    uint64_t durable = log_probe_tail(data, store->size, at, store->salt, dirty);
    if (durable < header.durable)
        durable = header.durable;
    if (at < durable)
        return damaged(why, "an entry that was durable fails its checksum", at);
    store->end = at;
    store->durable = at;
    return 0;
}

static int log_load(struct log_store *store, bool *dirty, char why[LOG_STORE_WHY_MAX])
{
    int rc = env_file_open(store->env, LOG_FILE, O_RDWR, &store->log);
    int64_t size = rc == 0 ? env_file_size(store->env, store->log) : rc;

    if (size < 0) {
        snprintf(why, LOG_STORE_WHY_MAX, "cannot open %s: %s", LOG_FILE, error_text((int)size));
        return (int)size;
    }
    if (size > LOG_FILE_BYTES_MAX)
        return damaged(why, "it is larger than any log gets", (uint64_t)size);
    store->size = (uint64_t)size;
    uint8_t *data = malloc((size_t)size + 1);
    if (data == NULL)
        return -ENOMEM;
    ssize_t got = env_file_read(store->env, store->log, data, (size_t)size, 0);
    if (got < 0 || got != size) {
        rc = got < 0 ? (int)got : -EIO;
        snprintf(why, LOG_STORE_WHY_MAX, "cannot read %s: %s", LOG_FILE, error_text(rc));
    } else {
        rc = log_scan(store, data, dirty, why);
    }
    free(data);
    return rc;
}

/*
 * Brings log and snapshot together: a crash between the two renames of log_store_put_snapshot()
 * leaves a new snapshot beside an old log.
 */
static int log_reconcile(struct log_store *store, bool dirty, char why[LOG_STORE_WHY_MAX])
{
    struct log_entry entry;
    uint64_t index = store->snapshot_index;

    if (!store->has_snapshot) {
        if (store->first != 1 || store->n_slots == 0)
            return damaged(why, "its beginning is missing, and there is no snapshot", 0);
        return dirty ? log_rewrite(store, store->first, log_store_last(store)) : 0;
    }
    if (store->first > index + 1)
        return damaged(why, "entries between the snapshot and its first are missing", 0);
    bool old = log_store_last(store) < index;
    if (log_store_entry(store, index, &entry) == 0 && entry.term != store->snapshot_term)
        old = true;
    if (old)
        return log_rewrite(store, index + 1, index);
    return dirty ? log_rewrite(store, store->first, log_store_last(store)) : 0;
}

static int snapshot_load(struct log_store *store, char why[LOG_STORE_WHY_MAX])
{
    struct log_snapshot snapshot;
    void *memory = NULL;

    store->has_snapshot = true;
    int rc = log_store_get_snapshot(store, &snapshot, &memory);
    free(memory);
    if (rc == -ENOENT) {
        store->has_snapshot = false;
        return 0;
    }
    if (rc != 0) {
        store->has_snapshot = false;
        snprintf(why, LOG_STORE_WHY_MAX,
                 "%s: %s. Move the data folder away and make this monitor anew with --mkfs: it "
                 "copies from the others",
                 SNAPSHOT_FILE, error_text(rc));
        return rc;
    }
    store->snapshot_index = snapshot.index;
    store->snapshot_term = snapshot.term;
    return 0;
}

int log_store_open(struct env *env, struct log_store **out, char why[LOG_STORE_WHY_MAX])
{
    struct log_store *store = calloc(1, sizeof *store);
    bool dirty = false;

    *out = NULL;
    if (store == NULL)
        return -ENOMEM;
    store->env = env;
    int rc = meta_load(store, why);
    if (rc == 0)
        rc = snapshot_load(store, why);
    if (rc == 0)
        rc = log_load(store, &dirty, why);
    if (rc == 0)
        rc = log_reconcile(store, dirty, why);
    if (rc != 0) {
        log_store_close(store);
        return rc;
    }
    *out = store;
    return 0;
}

void log_store_close(struct log_store *store)
{
    if (store == NULL)
        return;
    if (store->meta != NULL)
        env_file_close(store->env, store->meta);
    if (store->log != NULL)
        env_file_close(store->env, store->log);
    free(store->slots);
    free(store->queue);
    free(store);
}

int log_store_mkfs(struct env *env, uint16_t type, const void *conf, size_t conf_len)
{
    uint8_t meta[2 * LOG_META_SLOT_BYTES] = {0};
    struct log_slot slot = {.term = 1, .len = (uint32_t)conf_len, .type = type};
    const uint8_t *data = conf;
    uint64_t end;
    uint64_t size;

    assert(conf_len > 0 && conf_len <= LOG_RECORD_DATA_MAX);
    meta_encode((struct log_meta_slot *)meta, 0, 1, 0);
    int rc = env_file_remove(env, SNAPSHOT_FILE);
    if (rc != 0 && rc != -ENOENT)
        return rc;
    rc = replace_file(env, META_FILE, meta, sizeof meta);
    if (rc != 0)
        return rc;
    return log_file_make(env, 1, &slot, 1, &data, (uint32_t)env_random_u64(env), &end, &size);
}

/* ---- Reading ---- */

uint64_t log_store_term(const struct log_store *store)
{
    return store->term;
}

uint64_t log_store_vote(const struct log_store *store)
{
    return store->vote;
}

uint64_t log_store_first(const struct log_store *store)
{
    return store->first;
}

uint64_t log_store_last(const struct log_store *store)
{
    return store->first + store->n_slots - 1;
}

uint64_t log_store_flushes(const struct log_store *store)
{
    return store->flushes;
}

static const struct log_slot *slot_find(const struct log_store *store, uint64_t index)
{
    if (index < store->first || index - store->first >= store->n_slots)
        return NULL;
    return &store->slots[index - store->first];
}

int log_store_entry(const struct log_store *store, uint64_t index, struct log_entry *out)
{
    const struct log_slot *slot = slot_find(store, index);

    if (slot == NULL)
        return -ENOENT;
    *out = (struct log_entry){.term = slot->term, .type = slot->type, .len = slot->len};
    return 0;
}

int log_store_read(struct log_store *store, uint64_t index, void *data)
{
    const struct log_slot *slot = slot_find(store, index);

    if (slot == NULL)
        return -ENOENT;
    uint64_t offset = slot->offset + sizeof(struct log_record);
    if (slot->offset >= store->durable) {
        assert(offset - store->durable + slot->len <= store->queue_len);
        memcpy(data, store->queue + (offset - store->durable), slot->len);
        return 0;
    }
    ssize_t got = env_file_read(store->env, store->log, data, slot->len, offset);
    if (got < 0)
        return (int)got;
    return (size_t)got == slot->len ? 0 : -EIO;
}

/* ---- Writing ---- */

int log_store_append(struct log_store *store, uint64_t term, uint16_t type, const void *data,
                     size_t len)
{
    uint64_t span = record_span(len);

    if (store->failed != 0)
        return store->failed;
    if (len > LOG_RECORD_DATA_MAX || store->end + span > LOG_FILE_BYTES_MAX)
        return -EMSGSIZE;
    assert(store->end == store->durable + store->queue_len);
    if (store->queue_len + span > store->queue_capacity) {
        size_t capacity = (store->queue_len + span) * 2;
        uint8_t *queue = realloc(store->queue, capacity);
        if (queue == NULL)
            return -ENOMEM;
        store->queue = queue;
        store->queue_capacity = capacity;
    }
    struct log_slot slot = {.term = term, .offset = store->end, .len = (uint32_t)len, .type = type};
    int rc = slot_add(store, &slot);
    if (rc != 0)
        return rc;
    record_encode(store->queue + store->queue_len, store->salt, log_store_last(store), &slot,
                  store->durable, data);
    store->queue_len += span;
    store->end += span;
    return 0;
}

/* Makes room in the file for what is queued. */
static int log_grow(struct log_store *store)
{
    static const uint8_t zeroes[LOG_GROWTH_BYTES];

    while (store->size < store->end) {
        int rc = env_file_write(store->env, store->log, zeroes, sizeof zeroes, store->size);
        if (rc != 0)
            return rc;
        store->size += sizeof zeroes;
    }
    return 0;
}

int log_store_flush(struct log_store *store)
{
    enum { QUEUE_KEPT_BYTES = 64 * 1024 };

    if (store->failed != 0)
        return store->failed;
    if (store->queue_len == 0)
        return 0;
    int rc = log_grow(store);
    if (rc == 0)
        rc = env_file_write(store->env, store->log, store->queue, store->queue_len, store->durable);
    if (rc == 0 && !planted(PLANTED_APPEND_NOT_DURABLE))
        rc = env_file_sync(store->env, store->log);
    if (rc != 0)
        return fail(store, rc);
    store->flushes++;
    store->durable = store->end;
    store->queue_len = 0;
    if (store->queue_capacity > QUEUE_KEPT_BYTES) {
        free(store->queue);
        store->queue = NULL;
        store->queue_capacity = 0;
    }
    return 0;
}

int log_store_truncate(struct log_store *store, uint64_t index)
{
    if (store->failed != 0)
        return store->failed;
    if (index > log_store_last(store))
        return log_store_flush(store);
    assert(index >= store->first);
    return log_rewrite(store, store->first, index - 1);
}

int log_store_put_snapshot(struct log_store *store, const struct log_snapshot *snapshot,
                           unsigned trailing)
{
    uint64_t len = sizeof(struct log_snapshot_header) + snapshot->conf_len + snapshot->data_len;
    struct log_snapshot_header header = {.magic = LOG_SNAPSHOT_MAGIC,
                                         .index = snapshot->index,
                                         .term = snapshot->term,
                                         .conf_index = snapshot->conf_index,
                                         .data_len = snapshot->data_len,
                                         .conf_len = (uint32_t)snapshot->conf_len};

    if (store->failed != 0)
        return store->failed;
    if (len > SNAPSHOT_BYTES_MAX || snapshot->conf_len > UINT32_MAX)
        return -EMSGSIZE;
    uint8_t *image = malloc(len);
    if (image == NULL)
        return -ENOMEM;
    header.crc = crc32c(0, &header.index, sizeof header - 8);
    header.crc = crc32c(header.crc, snapshot->conf, snapshot->conf_len);
    header.crc = crc32c(header.crc, snapshot->data, snapshot->data_len);
    memcpy(image, &header, sizeof header);
    memcpy(image + sizeof header, snapshot->conf, snapshot->conf_len);
    memcpy(image + sizeof header + snapshot->conf_len, snapshot->data, snapshot->data_len);
    int rc = replace_file(store->env, SNAPSHOT_FILE, image, len);
    free(image);
    if (rc != 0)
        return fail(store, rc);
    store->has_snapshot = true;
    store->snapshot_index = snapshot->index;
    store->snapshot_term = snapshot->term;
    if (trailing == 0)
        return log_rewrite(store, snapshot->index + 1, snapshot->index);
    assert(snapshot->index <= log_store_last(store));
    uint64_t first = snapshot->index >= trailing ? snapshot->index - trailing + 1 : 1;
    if (first <= store->first)
        return log_store_flush(store);
    return log_rewrite(store, first, log_store_last(store));
}

int log_store_get_snapshot(struct log_store *store, struct log_snapshot *out, void **memory)
{
    struct env_file *file;
    struct log_snapshot_header header;

    *memory = NULL;
    int rc = env_file_open(store->env, SNAPSHOT_FILE, O_RDONLY, &file);
    if (rc != 0)
        return rc;
    int64_t size = env_file_size(store->env, file);
    rc = size < 0 ? (int)size : 0;
    if (rc == 0 && (size < (int64_t)sizeof header || (uint64_t)size > SNAPSHOT_BYTES_MAX))
        rc = -ELIMPET_CORRUPT;
    uint8_t *image = rc == 0 ? malloc((size_t)size) : NULL;
    if (rc == 0 && image == NULL)
        rc = -ENOMEM;
    if (rc == 0) {
        ssize_t got = env_file_read(store->env, file, image, (size_t)size, 0);
        rc = got < 0 ? (int)got : got == size ? 0 : -EIO;
    }
    env_file_close(store->env, file);
    if (rc == 0) {
        memcpy(&header, image, sizeof header);
        if (header.magic != LOG_SNAPSHOT_MAGIC || header.data_len > SNAPSHOT_BYTES_MAX ||
            sizeof header + header.conf_len + header.data_len != (uint64_t)size ||
            header.crc != crc32c(0, image + 8, (size_t)size - 8) || header.index == 0 ||
            header.term == 0)
            rc = -ELIMPET_CORRUPT;
    }
    if (rc != 0) {
        free(image);
        return rc;
    }
    *out = (struct log_snapshot){.index = header.index,
                                 .term = header.term,
                                 .conf_index = header.conf_index,
                                 .conf_len = header.conf_len,
                                 .data_len = header.data_len,
                                 .conf = image + sizeof header,
                                 .data = image + sizeof header + header.conf_len};
    *memory = image;
    return 0;
}
