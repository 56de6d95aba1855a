#include "placement/hash.h"

#include <assert.h>

/* One round of Jenkins' 1996 mix: every bit of the three words affects every other. */
#define MIX(a, b, c)                                                                               \
    do {                                                                                           \
        (a) = ((a) - (b) - (c)) ^ ((c) >> 13);                                                     \
        (b) = ((b) - (c) - (a)) ^ ((a) << 8);                                                      \
        (c) = ((c) - (a) - (b)) ^ ((b) >> 13);                                                     \
        (a) = ((a) - (b) - (c)) ^ ((c) >> 12);                                                     \
        (b) = ((b) - (c) - (a)) ^ ((a) << 16);                                                     \
        (c) = ((c) - (a) - (b)) ^ ((b) >> 5);                                                      \
        (a) = ((a) - (b) - (c)) ^ ((c) >> 3);                                                      \
        (b) = ((b) - (c) - (a)) ^ ((a) << 10);                                                     \
        (c) = ((c) - (a) - (b)) ^ ((b) >> 15);                                                     \
    } while (0)

#define GOLDEN_RATIO 0x9e3779b9u
#define HASH32_SEED  1315423911u
#define HASH32_X     231232u
#define HASH32_Y     1232u

enum { NAMESPACE_SEPARATOR = 0x1f, BLOCK_BYTES = 12 };

/* The string hash as a stream, so that namespace and name need not be copied together. */
struct string_hash {
    uint32_t a, b, c;
    uint32_t total;
    uint32_t fill;
    uint8_t block[BLOCK_BYTES];
};

static uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void string_hash_init(struct string_hash *h)
{
    *h = (struct string_hash){.a = GOLDEN_RATIO, .b = GOLDEN_RATIO};
}

static void string_hash_block(struct string_hash *h, const uint8_t *p)
{
    uint32_t a = h->a + load32(p);
    uint32_t b = h->b + load32(p + 4);
    uint32_t c = h->c + load32(p + 8);
    MIX(a, b, c);
    h->a = a;
    h->b = b;
    h->c = c;
}

static void string_hash_add(struct string_hash *h, const void *data, size_t len)
{
    const uint8_t *p = data;
    h->total += (uint32_t)len;
    while (len > 0) {
        if (h->fill == 0 && len >= BLOCK_BYTES) {
            string_hash_block(h, p);
            p += BLOCK_BYTES;
            len -= BLOCK_BYTES;
            continue;
        }
        h->block[h->fill++] = *p++;
        len--;
        if (h->fill == BLOCK_BYTES) {
            string_hash_block(h, h->block);
            h->fill = 0;
        }
    }
}

/* The rest is mixed like a block, except that the lowest byte of c is kept for the length. */
static uint32_t string_hash_end(struct string_hash *h)
{
    uint8_t rest[BLOCK_BYTES + 1] = {0};
    for (uint32_t i = 0; i < h->fill; i++) {
        rest[i < 8 ? i : i + 1] = h->block[i];
    }
    uint32_t a = h->a + load32(rest);
    uint32_t b = h->b + load32(rest + 4);
    uint32_t c = h->c + load32(rest + 8) + h->total;
    MIX(a, b, c);
    return c;
}

uint32_t hash_string(const void *data, size_t len)
{
    struct string_hash h;
    string_hash_init(&h);
    string_hash_add(&h, data, len);
    return string_hash_end(&h);
}

uint32_t hash_object(const void *space, size_t space_len, const void *name, size_t name_len)
{
    if (space_len == 0) {
        return hash_string(name, name_len);
    }
    const uint8_t separator = NAMESPACE_SEPARATOR;
    struct string_hash h;
    string_hash_init(&h);
    string_hash_add(&h, space, space_len);
    string_hash_add(&h, &separator, 1);
    string_hash_add(&h, name, name_len);
    return string_hash_end(&h);
}

uint32_t hash_object_id(const struct object_id *id)
{
    if (id->locator_len > 0)
        return hash_object(id->space, id->space_len, id->locator, id->locator_len);
    return hash_object(id->space, id->space_len, id->name, id->name_len);
}

uint32_t hash32(uint32_t a)
{
    uint32_t hash = HASH32_SEED ^ a, b = a, x = HASH32_X, y = HASH32_Y;
    MIX(b, x, hash);
    MIX(y, a, hash);
    return hash;
}

uint32_t hash32_2(uint32_t a, uint32_t b)
{
    uint32_t hash = HASH32_SEED ^ a ^ b, x = HASH32_X, y = HASH32_Y;
    MIX(a, b, hash);
    MIX(x, a, hash);
    MIX(b, y, hash);
    return hash;
}

uint32_t hash32_3(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t hash = HASH32_SEED ^ a ^ b ^ c, x = HASH32_X, y = HASH32_Y;
    MIX(a, b, hash);
    MIX(c, x, hash);
    MIX(y, a, hash);
    MIX(b, x, hash);
    MIX(y, c, hash);
    return hash;
}

void hash32_3_items(uint32_t a, const int32_t b[HASH32_ITEMS], uint32_t c,
                    uint32_t out[HASH32_ITEMS])
{
    /* The same arithmetic on a vector of items: compilers turn the operators into SIMD. */
    typedef uint32_t lanes __attribute__((vector_size(HASH32_ITEMS * sizeof(uint32_t))));
    lanes vb, va = {0}, vc = {0}, x = {0}, y = {0};
    for (int i = 0; i < HASH32_ITEMS; i++) {
        vb[i] = (uint32_t)b[i];
    }
    va += a;
    vc += c;
    x += HASH32_X;
    y += HASH32_Y;
    lanes hash = va ^ vb ^ vc ^ HASH32_SEED;
    MIX(va, vb, hash);
    MIX(vc, x, hash);
    MIX(y, va, hash);
    MIX(vb, x, hash);
    MIX(y, vc, hash);
    for (int i = 0; i < HASH32_ITEMS; i++) {
        out[i] = hash[i];
    }
}

uint32_t hash32_4(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    uint32_t hash = HASH32_SEED ^ a ^ b ^ c ^ d, x = HASH32_X, y = HASH32_Y;
    MIX(a, b, hash);
    MIX(c, d, hash);
    MIX(a, x, hash);
    MIX(y, b, hash);
    MIX(c, x, hash);
    MIX(y, d, hash);
    return hash;
}

uint32_t hash32_5(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e)
{
    uint32_t hash = HASH32_SEED ^ a ^ b ^ c ^ d ^ e, x = HASH32_X, y = HASH32_Y;
    MIX(a, b, hash);
    MIX(c, d, hash);
    MIX(e, x, hash);
    MIX(y, a, hash);
    MIX(b, x, hash);
    MIX(y, c, hash);
    MIX(d, x, hash);
    MIX(y, e, hash);
    return hash;
}

/* The smallest 2^k - 1 that is at least n - 1. */
static uint32_t mask_for(uint32_t n)
{
    return n <= 1 ? 0 : UINT32_MAX >> __builtin_clz(n - 1);
}

uint32_t stable_mod(uint32_t x, uint32_t n)
{
    assert(n > 0);
    uint32_t mask = mask_for(n);
    uint32_t folded = x & mask;
    return folded < n ? folded : x & (mask >> 1);
}

/*
 * In reversed order the low bits of the hash, which select the PG, come first. A seed whose partner
 * seed + (mask + 1) / 2 does not exist yet takes the partner's hashes too: then one bit fewer
 * selects it, and the two ranges lie side by side.
 */
void pg_hash_range(uint32_t seed, uint32_t pg_num, uint32_t *first, uint32_t *last)
{
    assert(seed < pg_num);
    uint32_t mask = mask_for(pg_num);
    uint32_t half = mask >> 1;
    uint32_t selecting = seed <= half && (seed | (mask ^ half)) >= pg_num ? half : mask;
    *first = object_hash_reverse(seed);
    *last = *first | object_hash_reverse(~selecting);
}
