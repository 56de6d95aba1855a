/*
 * Removing a copy that the map does not need, in steps of bounded size. It says first that it is no
 * longer complete (G6), so that it can be stopped at any step and be filled again.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "common/planted.h"
#include "common/witness.h"

struct removal {
    struct pg_async async;
    struct store_list list;
    uint64_t number;
};

static void removal_free(struct removal *work)
{
    list_fini(&work->list);
    free(work);
}

static void removal_drop(struct pg_async *async)
{
    removal_free(container_of(async, struct removal, async));
}

static bool goes_on(const struct pg *pg, uint64_t number)
{
    return pg->state == PG_STATE_REMOVING && pg->removal == number;
}

static void list_next(struct pg *pg);

static void objects_removed(struct pg_step *step)
{
    if (goes_on(step->async.pg, step->tid))
        list_next(step->async.pg);
}

static void all_removed(struct pg_step *step)
{
    struct pg *pg = step->async.pg;
    if (!goes_on(pg, step->tid))
        return;
    log_info(pg->world->env, "pg removed", "pg=%s epoch=%" PRIu64, pg_text(pg), pg_epoch(pg));
    pg_log_reset(&pg->log, (struct wire_version){0}, (struct pg_totals){0});
    pg_dirty_stop(&pg->dirty);
    pg->generation++;
    pg->durable = pg->committed = 0;
    pg->persisted = pg->recorded = false;
    pg->complete = true;
    pg_set_state(pg, PG_STATE_STRAY);
}

static void listed(struct store_list *list)
{
    struct removal *work = container_of(list, struct removal, list);
    struct pg *pg = work->async.pg;
    pg_async_end(&work->async);
    struct pg_step *step = NULL;
    if (goes_on(pg, work->number) && !list->error)
        step = pg_step_create(pg);
    if (!step) {
        removal_free(work);
        return;
    }
    step->tid = work->number;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < list->n && (i == 0 || bytes <= PG_REMOVE_BYTES); i++) {
        bytes += list->entries[i].size;
        txn_object(&step->txn, &list->entries[i].id);
        txn_remove(&step->txn);
    }
    step->done = objects_removed;
    if (list->end && list->n == 0) {
        const uint8_t end = 0xff;
        txn_pg_remove_range(&step->txn, pg->id, "", 0, &end, sizeof end);
        step->done = all_removed;
    }
    pg_step_submit(step);
    removal_free(work);
}

/* Of a pool that is gone and whose group's range we never learned, everything may go. */
static void list_next(struct pg *pg)
{
    struct removal *work = calloc(1, sizeof *work);
    if (!work)
        return;
    bool whole_pool = pg->gone && !pg->range_known;
    work->number = pg->removal;
    work->list.pool = pg->id.pool;
    work->list.first = whole_pool ? 0 : pg->hash_first;
    work->list.last = whole_pool ? UINT32_MAX : pg->hash_last;
    work->list.max = PG_REMOVE_OBJECTS;
    work->list.done = listed;
    pg_async_begin(pg, &work->async, removal_drop);
    store_list(pg->world->store, &work->list);
}

void pg_remove_start(struct pg *pg)
{
    assert(pg->state == PG_STATE_REMOVING);
    assert(pg->gone || !pg_is_member(pg, pg->world->self) || planted(PLANTED_REMOVE_EARLY));
    struct pg_step *step = pg_step_create(pg);
    if (!step)
        return;
    witness_pg(pg, PG_MOMENT_REMOVES, &(struct pg_testimony){0});
    pg->removal++;
    pg->complete = false;
    pg->fill_from = (struct wire_version){0};
    pg_log_remove_all(pg, &step->txn);
    pg_log_reset(&pg->log, (struct wire_version){0}, (struct pg_totals){0});
    pg_dirty_stop(&pg->dirty);
    pg->generation++;
    pg->durable = pg->committed = 0;
    pg_put_state(pg, &step->txn);
    /* Transactions commit in order: when this one is durable, a listing shows all there is. */
    step->tid = pg->removal;
    step->done = objects_removed;
    pg_step_submit(step);
}
