#include "client/image/extents.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* ---- Lists ---- */

int extents_add(struct extents *extents, uint64_t offset, uint64_t len, bool exists)
{
    if (extents->n == extents->room) {
        size_t room = extents->room > 0 ? 2 * extents->room : 16;
        struct extent *more = realloc(extents->list, room * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        extents->list = more;
        extents->room = room;
    }
    extents->list[extents->n++] = (struct extent){offset, len, exists};
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

void extents_sort(struct extents *extents)
{
    if (extents->n > 1)
        qsort(extents->list, extents->n, sizeof *extents->list, by_offset);
}

size_t extents_at(const struct extents *extents, uint64_t offset)
{
    size_t low = 0, high = extents->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct extent *extent = &extents->list[middle];
        if (extent->offset + extent->len <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void extents_fini(struct extents *extents)
{
    free(extents->list);
    *extents = (struct extents){0};
}

/* ---- The window ---- */

enum { WINDOW_FULL = 1 };

static int take(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    struct window *w = arg;
    /* `end` is how far it must reach while it is filled. */
    if (w->extents.n >= WINDOW_EXTENTS_MAX && offset >= w->end) {
        w->end = offset;
        return WINDOW_FULL;
    }
    return extents_add(&w->extents, offset, len, exists);
}

int window_move(struct window *w, uint64_t offset, uint64_t least)
{
    uint64_t rest = w->limit - offset;
    assert(offset < w->limit);
    least = least < rest ? least : rest;
    uint64_t asked = w->span == 0 ? rest : w->span > least ? w->span : least;
    asked = asked < rest ? asked : rest;
    w->extents.n = 0;
    w->begin = offset;
    w->end = offset + least;
    int rc = w->source(offset, asked, take, w, w->arg);
    if (rc == WINDOW_FULL) {
        /* As dense as it was, twice as much as fits is asked for. */
        w->span = 2 * (w->end - offset);
        return 0;
    }
    w->end = offset + asked;
    if (w->extents.n < WINDOW_EXTENTS_MAX / 2)
        w->span = asked < rest / 2 ? 2 * asked : 0;
    if (rc != 0)
        w->end = offset;
    return rc;
}

void window_fini(struct window *w)
{
    extents_fini(&w->extents);
}
