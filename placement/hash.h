/*
 * Hashes of placement, equal bit for bit to Ceph's: Robert Jenkins' 1996 string hash ("rjenkins")
 * for object names, his 32-bit integer mixes for CRUSH, and stable modulo for PGs.
 */
#ifndef LIMPET_PLACEMENT_HASH_H
#define LIMPET_PLACEMENT_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "common/object.h"

/* Ceph's ceph_str_hash_rjenkins. */
uint32_t hash_string(const void *data, size_t len);

/* The hash of an object: its name alone, or namespace, 0x1f, name; as Ceph's pg_pool_t::hash_key.
 */
uint32_t hash_object(const void *space, size_t space_len, const void *name, size_t name_len);
/* The same of an object's locator, if it has one; else of its name. */
uint32_t hash_object_id(const struct object_id *id);

/* crush_hash32 .. crush_hash32_5 with the rjenkins1 type. */
uint32_t hash32(uint32_t a);
uint32_t hash32_2(uint32_t a, uint32_t b);
uint32_t hash32_3(uint32_t a, uint32_t b, uint32_t c);
uint32_t hash32_4(uint32_t a, uint32_t b, uint32_t c, uint32_t d);
uint32_t hash32_5(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e);

/* hash32_3(a, b[i], c) for each item at once; equal to it, several times as fast. */
enum { HASH32_ITEMS = 4 };
void hash32_3_items(uint32_t a, const int32_t b[HASH32_ITEMS], uint32_t c,
                    uint32_t out[HASH32_ITEMS]);

/* x folded into 0 .. n-1 so that growing n splits one value at a time (Ceph's ceph_stable_mod). */
uint32_t stable_mod(uint32_t x, uint32_t n);

/*
 * The reversed hashes of a PG's objects, both inclusive: they are one range even when pg_num is no
 * power of two.
 */
void pg_hash_range(uint32_t seed, uint32_t pg_num, uint32_t *first, uint32_t *last);

#endif
