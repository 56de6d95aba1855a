/*
 * Maps for the tests of placement.
 */
#ifndef LIMPET_TESTS_UNIT_PLACEMENT_MADE_MAP_H
#define LIMPET_TESTS_UNIT_PLACEMENT_MADE_MAP_H

#include "placement/map.h"

/* root "default" with hosts "host0" ... of osds_per_host OSDs each, in racks of 30 hosts when there
 * are more than that; rule 0 spreads over hosts. */
struct crush_map *made_crush(uint32_t hosts, uint32_t osds_per_host);

/* The value of an OSD that is up and in, different for each number. */
struct map_osd made_osd(int32_t id);

struct map_pool made_pool(uint64_t id, const char *name, uint32_t pg_num);

/* Epoch 1: three monitors, all OSDs up and in, one pool "data" with number 1, size 3, min_size 2.
 */
struct cluster_map *made_map(uint32_t hosts, uint32_t osds_per_host, uint32_t pg_num);

/* The increment for the map's next epoch. */
struct map_increment *made_increment(const struct cluster_map *map);

/* Applies and destroys it; fails the test when that does not work. */
void apply(struct cluster_map *map, struct map_increment *inc);

/* The two are the same, byte for byte in their encoding. */
void assert_maps_equal(const struct cluster_map *a, const struct cluster_map *b);

#endif
