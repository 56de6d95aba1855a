/*
 * What a piece of a disk may read as: a register with a history.
 *
 * A cell is one granule of an image's contents, or its size. Each write of it is kept as long as it
 * matters, with what is known of when it happened: not before `call`, which is when it was asked
 * for; by `first`, the earliest end of itself or of a read that saw it; and still to be seen at
 * `last`, the latest begin of these. Two writes contradict each other when each must have been
 * seen after the other one was: a.first < b.last and b.first < a.last. A read is allowed when it
 * can be put down to a write of its value without such a contradiction; for values that are written
 * once that is exactly what linearizability means (Gibbons and Korach, 1997). When several writes
 * of the same value would do, it proves nothing, and is put down to none.
 */
#ifndef LIMPET_TESTS_SIM_IMAGE_MODEL_H
#define LIMPET_TESTS_SIM_IMAGE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define CELL_NEVER UINT64_MAX

struct cell_write {
    uint64_t serial; /* Of the operation. */
    uint64_t value;
    uint64_t call, first, last;
    uint64_t until;  /* If it has happened at all, it had by then. */
    uint64_t gone;   /* It is certain that nobody sees it who asks later. */
    uint64_t passed; /* When it was sent; CELL_NEVER: it was not. */
    uint32_t client; /* That writes it. */
    bool under_way;
};

struct cell {
    uint32_t n, room;
    struct cell_write *writes;
};

void cell_fini(struct cell *cell);
/* Nothing but this value, which was there before everything. */
void cell_reset(struct cell *cell, uint64_t value, uint64_t now);

/* Twice: it may be done twice, with other things between. */
void cell_begin(struct cell *cell, uint64_t serial, uint64_t value, uint32_t client, uint64_t now);
void cell_passed(struct cell *cell, uint64_t serial, uint64_t now);
/* It was done, by then. */
void cell_done(struct cell *cell, uint64_t serial, uint64_t now);
/* It was not, and will not be. */
void cell_cancel(struct cell *cell, uint64_t serial);
/* Nobody knows: whoever asked for it is gone. What it has sent it had sent by now. */
void cell_lost(struct cell *cell, uint64_t serial, uint64_t now);

/*
 * Another client, which took the lock at `entered`, has written to the same object, and was
 * answered now: what others had sent before has happened, or will not. `same`: to this very cell.
 */
void cell_taken_over(struct cell *cell, uint32_t client, uint64_t entered, bool same, uint64_t now);

/* False: no order of things explains it. */
bool cell_read(struct cell *cell, uint64_t value, uint64_t call, uint64_t now);
/* Forgets what can be seen by none that asks at `from` or later. */
void cell_prune(struct cell *cell, uint64_t from);
/* A value that it had lately, for who wants to compare. */
uint64_t cell_guess(const struct cell *cell);

#endif
