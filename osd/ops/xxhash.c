#include "osd/ops/xxhash.h"

#include <string.h>

/* ---- 32 bits ---- */

#define P32_1 UINT32_C(2654435761)
#define P32_2 UINT32_C(2246822519)
#define P32_3 UINT32_C(3266489917)
#define P32_4 UINT32_C(668265263)
#define P32_5 UINT32_C(374761393)

static uint32_t rotate32(uint32_t x, int bits)
{
    return x << bits | x >> (32 - bits);
}

static uint32_t load32(const uint8_t *at)
{
    uint32_t x;
    memcpy(&x, at, sizeof x);
    return x;
}

static uint32_t round32(uint32_t lane, uint32_t input)
{
    return rotate32(lane + input * P32_2, 13) * P32_1;
}

uint32_t xxhash32(const void *data, size_t len, uint32_t seed)
{
    const uint8_t *at = data, *end = at + len;
    uint32_t sum = seed + P32_5;
    if (len >= 16) {
        uint32_t lanes[4] = {seed + P32_1 + P32_2, seed + P32_2, seed, seed - P32_1};
        for (; end - at >= 16; at += 16)
            for (int i = 0; i < 4; i++)
                lanes[i] = round32(lanes[i], load32(at + 4 * i));
        sum = rotate32(lanes[0], 1) + rotate32(lanes[1], 7) + rotate32(lanes[2], 12) +
              rotate32(lanes[3], 18);
    }
    sum += (uint32_t)len;
    for (; end - at >= 4; at += 4)
        sum = rotate32(sum + load32(at) * P32_3, 17) * P32_4;
    for (; at < end; at++)
        sum = rotate32(sum + *at * P32_5, 11) * P32_1;
    sum = (sum ^ sum >> 15) * P32_2;
    sum = (sum ^ sum >> 13) * P32_3;
    return sum ^ sum >> 16;
}

/* ---- 64 bits ---- */

#define P64_1 UINT64_C(11400714785074694791)
#define P64_2 UINT64_C(14029467366897019727)
#define P64_3 UINT64_C(1609587929392839161)
#define P64_4 UINT64_C(9650029242287828579)
#define P64_5 UINT64_C(2870177450012600261)

static uint64_t rotate64(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static uint64_t load64(const uint8_t *at)
{
    uint64_t x;
    memcpy(&x, at, sizeof x);
    return x;
}

static uint64_t round64(uint64_t lane, uint64_t input)
{
    return rotate64(lane + input * P64_2, 31) * P64_1;
}

static uint64_t merge64(uint64_t sum, uint64_t lane)
{
    return (sum ^ round64(0, lane)) * P64_1 + P64_4;
}

uint64_t xxhash64(const void *data, size_t len, uint64_t seed)
{
    const uint8_t *at = data, *end = at + len;
    uint64_t sum = seed + P64_5;
    if (len >= 32) {
        uint64_t lanes[4] = {seed + P64_1 + P64_2, seed + P64_2, seed, seed - P64_1};
        for (; end - at >= 32; at += 32)
            for (int i = 0; i < 4; i++)
                lanes[i] = round64(lanes[i], load64(at + 8 * i));
        sum = rotate64(lanes[0], 1) + rotate64(lanes[1], 7) + rotate64(lanes[2], 12) +
              rotate64(lanes[3], 18);
        for (int i = 0; i < 4; i++)
            sum = merge64(sum, lanes[i]);
    }
    sum += len;
    for (; end - at >= 8; at += 8)
        sum = rotate64(sum ^ round64(0, load64(at)), 27) * P64_1 + P64_4;
    if (end - at >= 4) {
        sum = rotate64(sum ^ load32(at) * P64_1, 23) * P64_2 + P64_3;
        at += 4;
    }
    for (; at < end; at++)
        sum = rotate64(sum ^ *at * P64_5, 11) * P64_1;
    sum = (sum ^ sum >> 33) * P64_2;
    sum = (sum ^ sum >> 29) * P64_3;
    return sum ^ sum >> 32;
}
