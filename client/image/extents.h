/*
 * Lists of extents, and a window on a source that may have any number of them: a difference of a
 * clone, a copy and an export need the extents of a part at a time, and no more memory than for
 * these.
 */
#ifndef LIMPET_CLIENT_IMAGE_EXTENTS_H
#define LIMPET_CLIENT_IMAGE_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct extent {
    uint64_t offset, len;
    bool exists;
};

struct extents {
    struct extent *list;
    size_t n, room;
};

/* 0, -ENOMEM. */
int extents_add(struct extents *extents, uint64_t offset, uint64_t len, bool exists);
void extents_sort(struct extents *extents);
/* Of a list in order: the first that ends beyond an offset; n: none does. */
size_t extents_at(const struct extents *extents, uint64_t offset);
void extents_fini(struct extents *extents);

/* Of a window; unless the least that it must show has more. */
enum { WINDOW_EXTENTS_MAX = 1 << 18 };

/*
 * Tells the extents of a part of the source, in order and apart; what is not 0 from `take` ends it
 * and is its result.
 */
typedef int (*window_take)(uint64_t offset, uint64_t len, bool exists, void *arg);
typedef int (*window_source)(uint64_t offset, uint64_t len, window_take take, void *take_arg,
                             void *arg);

struct window {
    window_source source;
    void *arg;
    uint64_t limit;         /* The end of the source. */
    uint64_t begin, end;    /* What is shown; */
    struct extents extents; /* all that the source has there. */
    uint64_t span;          /* What the next move asks for; 0: all. */
};

/*
 * Shows what lies from an offset on, `least` bytes of it or more: as much as there is memory for.
 * The first move asks for everything, later ones for what is likely to fit: to begin in the middle
 * costs a source about what it costs to pass over what it is asked for. 0, -ENOMEM, what the
 * source returns.
 */
int window_move(struct window *w, uint64_t offset, uint64_t least);
void window_fini(struct window *w);

#endif
