#include "tests/sim/image_model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void cell_fini(struct cell *cell)
{
    free(cell->writes);
    memset(cell, 0, sizeof *cell);
}

static struct cell_write *add(struct cell *cell)
{
    if (cell->n == cell->room) {
        cell->room = cell->room ? 2 * cell->room : 4;
        cell->writes = reallocarray(cell->writes, cell->room, sizeof *cell->writes);
        if (!cell->writes)
            abort();
    }
    struct cell_write *write = &cell->writes[cell->n++];
    *write = (struct cell_write){.until = CELL_NEVER, .gone = CELL_NEVER};
    return write;
}

static void drop(struct cell *cell, struct cell_write *write)
{
    size_t after = (size_t)(cell->writes + cell->n - (write + 1));
    memmove(write, write + 1, after * sizeof *write);
    cell->n--;
}

void cell_reset(struct cell *cell, uint64_t value, uint64_t now)
{
    cell->n = 0;
    *add(cell) = (struct cell_write){
        .value = value, .call = now, .first = now, .last = now, .until = now, .gone = CELL_NEVER};
}

void cell_begin(struct cell *cell, uint64_t serial, uint64_t value, uint32_t client, uint64_t now)
{
    *add(cell) = (struct cell_write){.serial = serial,
                                     .value = value,
                                     .call = now,
                                     .first = CELL_NEVER,
                                     .last = now,
                                     .until = CELL_NEVER,
                                     .gone = CELL_NEVER,
                                     .passed = CELL_NEVER,
                                     .client = client,
                                     .under_way = true};
}

void cell_passed(struct cell *cell, uint64_t serial, uint64_t now)
{
    for (uint32_t i = 0; i < cell->n; i++) {
        if (cell->writes[i].serial == serial)
            cell->writes[i].passed = now;
    }
}

void cell_done(struct cell *cell, uint64_t serial, uint64_t now)
{
    for (uint32_t i = 0; i < cell->n; i++) {
        struct cell_write *write = &cell->writes[i];
        if (write->serial != serial)
            continue;
        write->under_way = false;
        write->first = earliest(write->first, now);
    }
}

void cell_cancel(struct cell *cell, uint64_t serial)
{
    for (uint32_t i = cell->n; i > 0; i--) {
        if (cell->writes[i - 1].serial == serial)
            drop(cell, &cell->writes[i - 1]);
    }
}

void cell_lost(struct cell *cell, uint64_t serial, uint64_t now)
{
    for (uint32_t i = 0; i < cell->n; i++) {
        struct cell_write *write = &cell->writes[i];
        if (write->serial != serial)
            continue;
        write->under_way = false;
        if (write->passed == CELL_NEVER)
            write->passed = now;
    }
}

void cell_taken_over(struct cell *cell, uint32_t client, uint64_t entered, bool same, uint64_t now)
{
    for (uint32_t i = 0; i < cell->n; i++) {
        struct cell_write *write = &cell->writes[i];
        if (write->client == client || write->passed >= entered)
            continue;
        if (write->until > now)
            write->until = now;
        if (same && write->gone > now)
            write->gone = now;
    }
}

static bool contradict(const struct cell_write *a, const struct cell_write *b)
{
    return a->first < b->last && b->first < a->last;
}

/* Whether a read can have seen this write; *as is what is known of it then. */
static bool explains(const struct cell *cell, uint32_t i, uint64_t call, uint64_t now,
                     struct cell_write *as)
{
    *as = cell->writes[i];
    if (call > as->gone)
        return false;
    as->first = earliest(as->first, earliest(as->until, now));
    if (as->last < call)
        as->last = call;
    for (uint32_t j = 0; j < cell->n; j++) {
        if (j != i && contradict(as, &cell->writes[j]))
            return false;
    }
    return true;
}

bool cell_read(struct cell *cell, uint64_t value, uint64_t call, uint64_t now)
{
    struct cell_write as, only;
    uint32_t n = 0, at = 0;
    memset(&only, 0, sizeof only);
    for (uint32_t i = 0; i < cell->n; i++) {
        if (cell->writes[i].value != value || cell->writes[i].call > now ||
            !explains(cell, i, call, now, &as))
            continue;
        only = as;
        at = i;
        n++;
    }
    if (n == 1)
        cell->writes[at] = only;
    return n > 0;
}

static bool is_past(const struct cell *cell, const struct cell_write *write, uint64_t from)
{
    if (write->under_way)
        return false;
    uint64_t first = earliest(write->first, write->until);
    if (write->gone < from)
        return true;
    for (uint32_t i = 0; i < cell->n; i++) {
        const struct cell_write *other = &cell->writes[i];
        if (other != write && first < other->last && other->first < from)
            return true;
    }
    return false;
}

void cell_prune(struct cell *cell, uint64_t from)
{
    for (uint32_t i = 0; i < cell->n;) {
        if (is_past(cell, &cell->writes[i], from))
            drop(cell, &cell->writes[i]);
        else
            i++;
    }
}

uint64_t cell_guess(const struct cell *cell)
{
    assert(cell->n > 0);
    const struct cell_write *guess = &cell->writes[0];
    for (uint32_t i = 1; i < cell->n; i++) {
        if (cell->writes[i].first != CELL_NEVER && cell->writes[i].last >= guess->last)
            guess = &cell->writes[i];
    }
    return guess->value;
}
