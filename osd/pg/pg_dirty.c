#include "osd/pg/pg_dirty.h"

#include <stdlib.h>
#include <string.h>

#include "common/planted.h"

void pg_dirty_init(struct pg_dirty *dirty, size_t *total)
{
    memset(dirty, 0, sizeof *dirty);
    dirty->total = total;
}

void pg_dirty_start(struct pg_dirty *dirty, struct wire_version start)
{
    assert(!dirty->tracking);
    dirty->tracking = true;
    dirty->start = start;
    dirty->upto = start.sequence;
}

void pg_dirty_stop(struct pg_dirty *dirty)
{
    struct pg_dirty_object *object, *next;
    HASH_ITER(hh, dirty->objects, object, next)
    {
        HASH_DEL(dirty->objects, object);
        free(object->words);
        free(object);
    }
    assert(*dirty->total >= dirty->bytes);
    *dirty->total -= dirty->bytes;
    pg_dirty_init(dirty, dirty->total);
}

static bool take_room(struct pg_dirty *dirty, size_t bytes)
{
    if (*dirty->total + bytes > PG_DIRTY_BYTES_MAX)
        return false;
    *dirty->total += bytes;
    dirty->bytes += bytes;
    return true;
}

static struct pg_dirty_object *object_add(struct pg_dirty *dirty, const uint8_t *id, uint16_t len)
{
    struct pg_dirty_object *object;
    /* With what the hash table needs for it. */
    if (!take_room(dirty, sizeof *object + len + 32))
        return NULL;
    object = calloc(1, sizeof *object + len);
    if (!object)
        return NULL;
    object->tail = PG_BLOCKS_MAX;
    object->len = len;
    memcpy(object->bytes, id, len);
    HASH_ADD(hh, dirty->objects, bytes, len, object);
    return object;
}

static bool grow(struct pg_dirty *dirty, struct pg_dirty_object *object, uint32_t n_words)
{
    if (n_words <= object->n_words)
        return true;
    if (!take_room(dirty, (n_words - object->n_words) * sizeof(uint64_t)))
        return false;
    uint64_t *words = realloc(object->words, n_words * sizeof(uint64_t));
    if (!words)
        return false;
    memset(words + object->n_words, 0, (n_words - object->n_words) * sizeof(uint64_t));
    object->words = words;
    object->n_words = (uint16_t)n_words;
    return true;
}

static bool object_mark(struct pg_dirty *dirty, struct pg_dirty_object *object,
                        struct pg_extent_layout extent)
{
    if (planted(PLANTED_FORGET_EXTENT) && extent.first % 4 == 1)
        return true;
    if (extent.end == PG_BLOCKS_MAX) {
        if (extent.first < object->tail)
            object->tail = extent.first;
        return true;
    }
    if (!grow(dirty, object, (extent.end + 63u) / 64))
        return false;
    assert(object->words);
    for (uint32_t block = extent.first; block < extent.end; block++)
        object->words[block / 64] |= UINT64_C(1) << (block % 64);
    return true;
}

static bool note_config(struct pg_dirty *dirty, struct wire_version version)
{
    uint32_t n = dirty->n_configs;
    if (n > 0 && dirty->configs[n - 1].config == version.config)
        return true;
    if (n == PG_DIRTY_CONFIGS_MAX)
        return false;
    dirty->configs[dirty->n_configs++] = version;
    return true;
}

static struct pg_dirty_object *touch_object(struct pg_dirty *dirty, const uint8_t *id, uint16_t len,
                                            uint64_t sequence)
{
    struct pg_dirty_object *object;
    HASH_FIND(hh, dirty->objects, id, len, object);
    if (!object)
        object = object_add(dirty, id, len);
    if (!object)
        return NULL;
    if (object->first == 0)
        object->first = sequence;
    object->last = sequence;
    return object;
}

/* A clone comes or goes as a whole. */
static bool note_clone(struct pg_dirty *dirty, const struct pg_entry_layout *head,
                       const uint8_t *id)
{
    uint8_t clone[PG_OBJECT_ID_MAX];
    if (head->clone == 0 || planted(PLANTED_CLONE_NOT_SENT))
        return true;
    pg_id_with_snap(id, head->object_len, head->clone, clone);
    struct pg_dirty_object *object =
        touch_object(dirty, clone, head->object_len, head->version.sequence);
    if (object)
        object->whole = true;
    return object;
}

static bool note_object(struct pg_dirty *dirty, const struct pg_entry_layout *head,
                        const uint8_t *entry)
{
    const uint8_t *id = entry + sizeof *head;
    struct pg_extent_layout extents[PG_EXTENTS_MAX];
    struct pg_dirty_object *object =
        touch_object(dirty, id, head->object_len, head->version.sequence);
    if (!object || !note_clone(dirty, head, id))
        return false;
    if (head->n_extents == PG_EXTENTS_WHOLE)
        object->whole = true;
    if (object->whole)
        return true;
    uint8_t n = pg_entry_extents(head, entry, extents);
    for (uint8_t i = 0; i < n; i++)
        if (!object_mark(dirty, object, extents[i]))
            return false;
    return true;
}

void pg_dirty_note(struct pg_dirty *dirty, const void *entry)
{
    struct pg_entry_layout head;
    if (!dirty->tracking)
        return;
    memcpy(&head, entry, sizeof head);
    bool fits = head.version.sequence == dirty->upto + 1 && note_config(dirty, head.version);
    if (fits && head.kind != PG_ENTRY_FAILED)
        fits = note_object(dirty, &head, entry);
    if (fits)
        dirty->upto++;
    else
        pg_dirty_stop(dirty);
}

void pg_dirty_cut(struct pg_dirty *dirty, uint64_t sequence)
{
    if (!dirty->tracking || sequence >= dirty->upto)
        return;
    if (sequence < dirty->start.sequence) {
        pg_dirty_stop(dirty);
        return;
    }
    dirty->upto = sequence;
    while (dirty->n_configs > 0 && dirty->configs[dirty->n_configs - 1].sequence > sequence)
        dirty->n_configs--;
}

bool pg_dirty_reaches(const struct pg_dirty *dirty, struct wire_version version)
{
    if (!dirty->tracking || version.sequence > dirty->upto)
        return false;
    if (version.sequence <= dirty->start.sequence)
        return version_equal(version, dirty->start);
    uint32_t i = dirty->n_configs;
    while (i > 0 && dirty->configs[i - 1].sequence > version.sequence)
        i--;
    return i > 0 && dirty->configs[i - 1].config == version.config;
}

const struct pg_dirty_object *pg_dirty_find(const struct pg_dirty *dirty, const void *id,
                                            uint16_t len)
{
    struct pg_dirty_object *object;
    HASH_FIND(hh, dirty->objects, id, len, object);
    return object;
}

uint64_t pg_dirty_bytes(const struct pg_dirty_object *object)
{
    uint64_t blocks = 0;
    for (uint32_t i = 0; i < object->n_words; i++)
        blocks += (uint64_t)__builtin_popcountll(object->words[i]);
    return blocks * PG_BLOCK;
}

static bool is_dirty(const struct pg_dirty_object *object, uint32_t block)
{
    if (object->whole || block >= object->tail)
        return true;
    return block / 64 < object->n_words && object->words[block / 64] >> (block % 64) & 1;
}

bool pg_dirty_next(const struct pg_dirty_object *object, uint32_t from, uint32_t limit,
                   uint32_t *first, uint32_t *end)
{
    while (from < limit && !is_dirty(object, from))
        from++;
    *first = from;
    while (from < limit && is_dirty(object, from))
        from++;
    *end = from;
    return *first < *end;
}
