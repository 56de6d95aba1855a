/*
 * Which of an image's objects there are, by a walk over the pool: of a large image that has little
 * in it, and no map that would tell, asking one object after the other could take for ever.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/image.h"

enum {
    FEW = 4096,     /* Objects that are asked each. */
    AT_A_PRICE = 8, /* So many are listed in the time that it takes to ask one. */
    DIGITS = 16,
};

bool exist_is_cheaper(struct limpet_pool *data, uint64_t n)
{
    struct limpet_pool_stat stat;
    return n > FEW && limpet_pool_stat(data, &stat) == 0 && stat.objects / AT_A_PRICE < n;
}

/* The number at the end of an object's name; false: it is none of the image's. */
static bool number_of(const struct limpet_list_entry *entry, const char *prefix, uint64_t *number)
{
    size_t len = strlen(prefix);
    if (entry->name_len != len + 1 + DIGITS || entry->locator_len != 0 ||
        memcmp(entry->name, prefix, len) != 0 || entry->name[len] != '.')
        return false;
    *number = 0;
    for (const char *at = entry->name + len + 1; *at != 0; at++) {
        const char *digits = "0123456789abcdef", *digit = strchr(digits, *at);
        if (digit == NULL)
            return false;
        *number = *number << 4 | (uint64_t)(digit - digits);
    }
    return true;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

int exist_add(struct exist *e, uint64_t object)
{
    if (e->n > 0 && e->list[e->n - 1] == object)
        return 0;
    if (e->n == e->room) {
        size_t room = e->room > 0 ? 2 * e->room : 256;
        uint64_t *more = realloc(e->list, room * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        e->list = more;
        e->room = room;
    }
    e->list[e->n++] = object;
    return 0;
}

int exist_list(struct limpet_pool *data, const char *prefix, uint64_t first, uint64_t end,
               bool kept, struct exist *e)
{
    struct limpet_list *list;
    struct limpet_list_entry entry;
    uint64_t object;
    *e = (struct exist){.known = true};
    int rc = limpet_list_open(data, false, &list);
    if (rc != 0)
        return rc;
    if (kept)
        limpet_list_kept(list);
    while (rc == 0 && (rc = limpet_list_next(list, &entry)) == 0) {
        if (number_of(&entry, prefix, &object) && object >= first && object < end)
            rc = exist_add(e, object);
    }
    limpet_list_close(list);
    if (rc != -ENOENT) {
        exist_fini(e);
        return rc;
    }
    if (e->n > 1)
        qsort(e->list, e->n, sizeof *e->list, by_number);
    return 0;
}

size_t exist_at(const struct exist *e, uint64_t object)
{
    size_t low = 0, high = e->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (e->list[middle] < object)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool exist_has(const struct exist *e, uint64_t object)
{
    size_t at = exist_at(e, object);
    return at < e->n && e->list[at] == object;
}

void exist_fini(struct exist *e)
{
    free(e->list);
    *e = (struct exist){0};
}
