/*
 * Random numbers that a seed decides: xoshiro256** (D. Blackman and S. Vigna, 2018), whose state is
 * filled by splitmix64 as its authors advise.
 */
#ifndef LIMPET_TESTS_SIM_RANDOM_H
#define LIMPET_TESTS_SIM_RANDOM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct random_stream {
    uint64_t s[4];
};

/* Advances *state; also a good mixer of a counter into a number. */
static inline uint64_t random_split(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline void random_seed(struct random_stream *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = random_split(&seed);
}

static inline uint64_t random_rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static inline uint64_t random_next(struct random_stream *r)
{
    uint64_t *s = r->s;
    uint64_t result = random_rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = random_rotate(s[3], 45);
    return result;
}

/* 0 .. n - 1. The bias of the multiplication is far below what a simulation could notice. */
static inline uint64_t random_below(struct random_stream *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)random_next(r) * n) >> 64);
}

static inline void random_fill(struct random_stream *r, void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        uint64_t value = random_next(r);
        size_t part = len < sizeof value ? len : sizeof value;
        memcpy(at, &value, part);
        at += part;
        len -= part;
    }
}

#endif
