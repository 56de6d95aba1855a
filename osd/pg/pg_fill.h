/*
 * The inside of a filling, the primary's side: shared by pg_fill*.c, private to them.
 *
 * pg_fill.c has its life and its end, pg_fill_start.c the beginning, pg_fill_compare.c finds out
 * what a copy lacks, and pg_fill_push.c sends that.
 */
#ifndef LIMPET_OSD_PG_PG_FILL_H
#define LIMPET_OSD_PG_PG_FILL_H

#include "osd/pg/pg_impl.h"

/* ---- pg_fill.c ---- */

/* Begins when it is its turn. */
void fill_run(struct pg_fill *fill);
/* Gives the turn to whoever waits. */
void fill_rest(struct pg_fill *fill);
/* Something went wrong: from the beginning, later. */
void fill_back_off(struct pg_fill *fill, const char *why);
/* A flag of the map says that this is not to be done: an operator's name of it, or NULL. */
const char *fill_paused_by(const struct pg_fill *fill, bool by_log);
/* Stops until the map has no such flag. */
void fill_pause(struct pg_fill *fill);
/* Everything was pushed: the copy is told that it is complete. */
void fill_finish(struct pg_fill *fill);

/* ---- pg_fill_start.c ---- */

void fill_begin(struct pg_fill *fill);
void fill_init_activate(struct pg_fill *fill, Limpet__Wire__PgActivate *activate);
/* The next part of the log. */
void fill_send_log(struct pg_fill *fill);
/* The copy has told what it has. */
void fill_told(struct pg_fill *fill, const Limpet__Wire__PgInfo *info);

/* ---- pg_fill_compare.c ---- */

/* The next batch of ours. */
void fill_list_batch(struct pg_fill *fill);
/* Nobody waits for the listing that runs. */
void fill_forget_listing(struct pg_fill *fill);

/* ---- pg_fill_push.c ---- */

struct fill_object *fill_pending_find(struct pg_fill *fill, const uint8_t *bytes, uint16_t len);
/* NULL: there are too many, and the filling is spoiled. */
struct fill_object *fill_pending_add(struct pg_fill *fill, const uint8_t *bytes, uint16_t len,
                                     uint64_t size);
void fill_pending_remove(struct pg_fill *fill, struct fill_object *object);
bool fill_is_after(const struct object_id *id, const struct object_id *limit);
/* After the batch, whose end is known. */
/* What the copy must get, since it does not apply a write: as far as it is not of a later batch. */
void fill_note_write(struct pg_fill *fill, const struct pg_object *object, uint64_t clone);
bool fill_is_beyond_batch(const struct pg_fill *fill, const struct object_id *id);
void fill_clear_batch(struct pg_fill *fill);
/* Pushes what is pending, as many as may be; the batch ends when nothing is left. */
void fill_push_next(struct pg_fill *fill);
/* By log: what was noted is the only batch. */
void fill_push_noted(struct pg_fill *fill);

#endif
