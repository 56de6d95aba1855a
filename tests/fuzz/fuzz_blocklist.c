/*
 * Blocklists: what the input says is set in order, sent as an increment, and asked in the map that
 * it is applied to; whatever is blocked is what a look at one after the other finds. Then a byte of
 * the encoding, or several, become others: it is refused, or the map that comes of it can be asked
 * and encoded as well.
 *
 * The input: the number of entries, those, four bytes each; then pairs of a place and a byte.
 */
#include <stdlib.h>
#include <string.h>

#include "placement/map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ENTRY_BYTES = 4, ENTRIES_MAX = 32, FEW = 8 };

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* Few instances and hosts, so that many are the same. */
static struct map_blocked entry_of(const uint8_t *bytes)
{
    struct map_blocked one = {.instance = bytes[0] % FEW, .until_ns = bytes[3]};
    one.address.family = bytes[1] % 3 == 0 ? 0 : bytes[1] % 3 == 1 ? 4 : 6;
    if (one.address.family != 0)
        one.address.ip[one.address.family == 4 ? 3 : 15] = bytes[2] % FEW;
    if (one.instance == 0 && one.address.family == 0)
        one.instance = 1;
    return one;
}

static int in_order(const void *a, const void *b)
{
    return map_blocked_compare(a, b);
}

static bool same_host(const struct net_address *a, const struct net_address *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, a->family == 4 ? 4 : 16) == 0;
}

static bool blocks(const struct cluster_map *map, uint64_t instance, const struct net_address *at)
{
    for (uint32_t i = 0; i < map->n_blocked; i++) {
        const struct map_blocked *one = &map->blocked[i];
        if (one->instance != 0 ? one->instance == instance : at && same_host(&one->address, at))
            return true;
    }
    return false;
}

static void ask(const struct cluster_map *map)
{
    for (uint32_t i = 1; i < map->n_blocked; i++)
        must(map_blocked_compare(&map->blocked[i - 1], &map->blocked[i]) < 0);
    for (uint32_t instance = 0; instance <= FEW; instance++) {
        must(map_blocks(map, instance, NULL) == blocks(map, instance, NULL));
        for (uint32_t host = 0; host < 2 * FEW; host++) {
            struct net_address at = {.family = host < FEW ? 4 : 6, .port = 6789};
            at.ip[host < FEW ? 3 : 15] = (uint8_t)(host % FEW);
            must(map_blocks(map, instance, &at) == blocks(map, instance, &at));
        }
    }
    for (uint32_t i = 0; i < map->n_blocked; i++)
        must(map_blocks(map, map->blocked[i].instance, &map->blocked[i].address));
}

/* A map as it would be read again. */
static void ask_again(const struct cluster_map *map)
{
    struct encoder e;
    struct cluster_map *again;
    encoder_init(&e);
    must(map_encode(map, &e) == 0);
    must(map_decode(e.data, e.len, &again) == 0);
    must(again->n_blocked == map->n_blocked);
    ask(again);
    map_destroy(again);
    encoder_fini(&e);
}

/* To an empty map. */
static void apply(const uint8_t *data, size_t len)
{
    struct map_increment *inc;
    struct cluster_map *next = map_create();
    must(next != NULL);
    if (map_increment_decode(data, len, &inc) == 0) {
        if (map_apply(next, inc) != 0)
            must(next->epoch == 0 && next->n_blocked == 0);
        ask(next);
        ask_again(next);
        map_increment_destroy(inc);
    }
    map_destroy(next);
}

static uint32_t read_entries(const uint8_t **data, size_t *size,
                             struct map_blocked out[ENTRIES_MAX])
{
    uint32_t n = (*data)[0] % (ENTRIES_MAX + 1), kept = 0;
    (*data)++;
    (*size)--;
    n = n < *size / ENTRY_BYTES ? n : (uint32_t)(*size / ENTRY_BYTES);
    for (uint32_t i = 0; i < n; i++)
        out[i] = entry_of(*data + (size_t)i * ENTRY_BYTES);
    *data += (size_t)n * ENTRY_BYTES;
    *size -= (size_t)n * ENTRY_BYTES;
    qsort(out, n, sizeof *out, in_order);
    for (uint32_t i = 0; i < n; i++)
        if (kept == 0 || map_blocked_compare(&out[kept - 1], &out[i]) != 0)
            out[kept++] = out[i];
    return kept;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct map_blocked list[ENTRIES_MAX];
    struct encoder e;
    if (size < 1)
        return 0;
    uint32_t n = read_entries(&data, &size, list);
    struct cluster_map *map = map_create();
    struct map_increment *inc = map_increment_create(1);
    must(map != NULL && inc != NULL && map_increment_set_blocked(inc, list, n) == 0);
    encoder_init(&e);
    must(map_increment_encode(inc, &e) == 0);
    must(map_apply(map, inc) == 0 && map->n_blocked == n);
    ask(map);
    ask_again(map);
    map_increment_destroy(inc);
    for (size_t i = 0; i + 1 < size; i += 2)
        if (e.len > 0)
            e.data[data[i] % e.len] = data[i + 1];
    apply(e.data, e.len);
    encoder_fini(&e);
    map_destroy(map);
    return 0;
}
