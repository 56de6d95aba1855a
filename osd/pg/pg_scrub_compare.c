#include "osd/pg/pg_scrub.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "osd/pg/pg_layout.h"

void scrub_map_fini(struct scrub_map *map)
{
    while (map->n > 0)
        scrub_map_drop_last(map);
    free(map->upto);
    map->upto = NULL;
}

struct scrub_entry *scrub_map_add(struct scrub_map *map, const void *bytes, size_t len)
{
    uint8_t *copy = map->n < SCRUB_OBJECTS ? malloc(len) : NULL;
    if (!copy)
        return NULL;
    struct scrub_entry *entry = &map->entries[map->n++];
    memset(entry, 0, sizeof *entry);
    memcpy(copy, bytes, len);
    entry->bytes = copy;
    entry->len = (uint16_t)len;
    struct decoder d;
    decoder_init(&d, copy, len);
    decode_object_id(&d, &entry->id);
    assert(decoder_end(&d) == 0);
    return entry;
}

void scrub_map_drop_last(struct scrub_map *map)
{
    assert(map->n > 0);
    free(map->entries[--map->n].bytes);
}

struct scrub_entry *scrub_map_find(struct scrub_map *map, const struct object_id *id)
{
    for (uint32_t i = 0; i < map->n; i++)
        if (object_compare(&map->entries[i].id, id) == 0)
            return &map->entries[i];
    return NULL;
}

/* Bits in which two copies that exist differ. */
static uint32_t differences(const struct scrub_entry *a, const struct scrub_entry *b)
{
    uint32_t errors = 0;
    if (!version_equal(a->version, b->version))
        errors |= SCRUB_VERSION;
    if (a->size != b->size)
        errors |= SCRUB_SIZE;
    if (a->meta_digest != b->meta_digest)
        errors |= SCRUB_META;
    if (a->omap_digest != b->omap_digest)
        errors |= SCRUB_OMAP;
    if (a->data_digest != b->data_digest)
        errors |= SCRUB_DATA;
    if (planted(PLANTED_SCRUB_IGNORE_DATA))
        errors &= ~(uint32_t)(SCRUB_SIZE | SCRUB_DATA);
    return errors;
}

bool scrub_same(const struct scrub_entry *a, const struct scrub_entry *b)
{
    if (planted(PLANTED_SCRUB_IGNORE_MISSING) && (!a || !b))
        return true;
    if (!a || !b)
        return a == b;
    return !a->error && !b->error && differences(a, b) == 0;
}

/* How many say the same as copy i, itself included. */
static uint32_t agreeing(const struct scrub_entry *const copies[], uint32_t n, uint32_t i)
{
    uint32_t count = 0;
    for (uint32_t j = 0; j < n; j++)
        count += scrub_same(copies[i], copies[j]);
    return count;
}

static bool is_eligible(const struct scrub_entry *copy, enum scrub_log log,
                        struct wire_version version)
{
    if (log == SCRUB_LOG_REMOVED)
        return !copy;
    if (log == SCRUB_LOG_EXISTS)
        return copy && !copy->error && version_equal(copy->version, version);
    return !copy || !copy->error;
}

/* Of copies that as many agree with: whether a is to be believed rather than b. */
static bool is_newer(const struct scrub_entry *a, const struct scrub_entry *b)
{
    if (!a || !b)
        return a != NULL;
    return version_compare(a->version, b->version) > 0;
}

int scrub_choose(const struct scrub_entry *const copies[], uint32_t n, enum scrub_log log,
                 struct wire_version version)
{
    int best = -1;
    uint32_t best_count = 0, missing = 0, unreadable = 0;
    for (uint32_t i = 0; i < n; i++) {
        missing += copies[i] == NULL;
        unreadable += copies[i] && copies[i]->error;
        if (!is_eligible(copies[i], log, version))
            continue;
        uint32_t count = agreeing(copies, n, i);
        if (planted(PLANTED_REPAIR_FROM_BAD))
            count = n - count + 1;
        if (best < 0 || count > best_count ||
            (count == best_count && is_newer(copies[i], copies[best]))) {
            best = (int)i;
            best_count = count;
        }
    }
    /* A copy that exists and cannot be read says at least that the object is there. */
    if (best >= 0 && !copies[best] && log == SCRUB_LOG_SILENT && unreadable >= missing)
        return -1;
    return best;
}

uint32_t scrub_errors(const struct scrub_entry *good, const struct scrub_entry *copy)
{
    if (!copy)
        return good ? SCRUB_MISSING : 0;
    if (!good)
        return SCRUB_UNEXPECTED;
    /* What could not be read may say anything. */
    return copy->error ? SCRUB_READ : differences(good, copy);
}
