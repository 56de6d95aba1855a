/*
 * xxHash, 32 and 64 bits wide, after its specification (xxhash_spec.md of Cyan4973/xxHash). For
 * checksums that clients ask for; our own are crc32c.
 */
#ifndef LIMPET_OSD_OPS_XXHASH_H
#define LIMPET_OSD_OPS_XXHASH_H

#include <stddef.h>
#include <stdint.h>

uint32_t xxhash32(const void *data, size_t len, uint32_t seed);
uint64_t xxhash64(const void *data, size_t len, uint64_t seed);

#endif
