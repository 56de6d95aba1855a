/*
 * What crush.c, crush_build.c and the map's codec share.
 */
#ifndef LIMPET_PLACEMENT_CRUSH_PRIVATE_H
#define LIMPET_PLACEMENT_CRUSH_PRIVATE_H

#include "placement/crush.h"

/* 2^44 * log2(x + 1) in the fixed point of straw2, for x of 0 .. 0xffff; at most 2^48. */
uint64_t crush_ln(uint32_t x);

/* A bucket with room for n items, weights all 0. NULL when memory is short. */
struct crush_bucket *crush_bucket_create(uint32_t n) MUST_CHECK;
void crush_bucket_destroy(struct crush_bucket *bucket);

/* Arrays with room for n empty elements, which later insertions may grow. */
struct crush_bucket **crush_bucket_slots_create(uint32_t n) MUST_CHECK;
struct crush_rule *crush_rules_create(uint32_t n) MUST_CHECK;

/* Letters, digits and "-_.~", at least one and at most CRUSH_NAME_MAX of them. */
bool crush_name_valid(const char *name);

#endif
