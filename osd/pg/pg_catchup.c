/*
 * Catching up by the log: what is noted while members are absent, and what a learner lacks by that.
 *
 * A copy that was whole at an entry of our log lacks exactly what later entries name. The log in
 * memory is short; pg_dirty.h remembers the objects and blocks further back. So a learner that
 * returns needs no comparison if it was whole at an entry that this reaches.
 */
#include "osd/pg/pg_impl.h"

#include <string.h>

#include "common/planted.h"

struct pg_entry *pg_entry_add(struct pg *pg, const void *data, size_t len)
{
    struct pg_entry *entry = pg_log_append(&pg->log, data, len);
    if (entry)
        pg_dirty_note(&pg->dirty, &entry->head);
    return entry;
}

/* From an entry that the log has, or that is its base. */
static void track_from(struct pg *pg, uint64_t sequence)
{
    struct wire_version start;
    if (sequence < pg->log.base.sequence)
        sequence = pg->log.base.sequence;
    if (!pg_log_version(&pg->log, sequence, &start))
        return;
    pg_dirty_start(&pg->dirty, start);
    uint64_t head = pg_log_head(&pg->log).sequence;
    while (sequence < head && pg->dirty.tracking)
        pg_dirty_note(&pg->dirty, &pg_log_get(&pg->log, ++sequence)->head);
}

void pg_dirty_follow(struct pg *pg, bool first_map)
{
    bool absent = !pg->gone && (!pg->view.clean || pg->view.n_learners > 0) &&
                  pg_is_member(pg, pg->world->self);
    if (!absent)
        pg_dirty_stop(&pg->dirty);
    else if (!pg->dirty.tracking && pg->complete)
        /* Whoever was lost had everything that was committed before. After a restart it is not
         * known when that was. */
        track_from(pg, first_map ? 0 : pg->committed);
}

/* ---- Whether it can be ---- */

static bool is_ours(const struct pg *pg, struct wire_version version)
{
    struct wire_version ours;
    if (pg_log_version(&pg->log, version.sequence, &ours))
        return version_equal(ours, version);
    return pg_dirty_reaches(&pg->dirty, version);
}

/* Its newest entry that is ours, too. Zero: none. */
static struct wire_version find_common(const struct pg *pg, const Limpet__Wire__PgInfo *info)
{
    struct pg_entry_layout head;
    struct wire_version tail = {.config = info->tail->config, .sequence = info->tail->sequence};
    for (size_t i = info->n_entries; i-- > 0;) {
        memcpy(&head, info->entries[i].data, sizeof head);
        if (is_ours(pg, head.version) || planted(PLANTED_CATCH_UP_UNCOMMON))
            return head.version;
    }
    if (info->head->sequence - info->n_entries == tail.sequence && is_ours(pg, tail))
        return tail;
    return (struct wire_version){0};
}

bool pg_catchup_from(struct pg *pg, const Limpet__Wire__PgInfo *info, struct wire_version *from,
                     uint64_t *common)
{
    if (pg_info_check(pg, info))
        return false;
    struct wire_version parted = find_common(pg, info);
    *common = parted.sequence;
    *from = parted;
    if (!info->complete) {
        if (!info->fill_from || info->fill_from->sequence > parted.sequence)
            return false;
        from->config = info->fill_from->config;
        from->sequence = info->fill_from->sequence;
    }
    if (from->sequence == 0)
        return false;
    if (planted(PLANTED_CATCH_UP_UNCOMMON))
        return pg->dirty.tracking;
    /* The log may reach further back than what was noted, as when a clean group is moved. */
    if (!pg_dirty_reaches(&pg->dirty, *from) && is_ours(pg, *from)) {
        pg_dirty_stop(&pg->dirty);
        track_from(pg, from->sequence);
    }
    return pg_dirty_reaches(&pg->dirty, *from);
}

/* ---- What changed ---- */

static bool names(const struct pg_entry *entry, const uint8_t *id, uint16_t len)
{
    return entry->head.object_len == len && memcmp(&entry->head + 1, id, len) == 0;
}

const struct pg_dirty_object *pg_changes_since(struct pg *pg, struct wire_version from,
                                               const uint8_t *id, uint16_t len,
                                               struct pg_dirty *memory)
{
    struct wire_version ours;
    if (from.sequence == 0 || !pg_dirty_reaches(&pg->dirty, from))
        return NULL;
    const struct pg_dirty_object *object = pg_dirty_find(&pg->dirty, id, len);
    if (!object || object->first > from.sequence || !pg_log_version(&pg->log, from.sequence, &ours))
        return object;
    pg_dirty_start(memory, from);
    uint64_t head = pg_log_head(&pg->log).sequence;
    for (uint64_t sequence = from.sequence + 1; sequence <= head && memory->tracking; sequence++) {
        const struct pg_entry *entry = pg_log_get(&pg->log, sequence);
        if (!names(entry, id, len))
            continue;
        memory->upto = sequence - 1;
        pg_dirty_note(memory, &entry->head);
    }
    return memory->tracking ? pg_dirty_find(memory, id, len) : object;
}
