/*
 * Who speaks: names of monitors, OSDs and clients, their network addresses, and what they may do.
 */
#ifndef LIMPET_COMMON_ENTITY_H
#define LIMPET_COMMON_ENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

enum entity_type { ENTITY_NONE = 0, ENTITY_MON = 1, ENTITY_OSD = 2, ENTITY_CLIENT = 3 };

enum { ENTITY_ID_MAX = 47, ENTITY_TEXT_MAX = 64, NET_ADDRESS_TEXT_MAX = 64, UUID_TEXT_MAX = 37 };

/* "mon.a", "osd.3", "client.admin". The bare "mon." names the key that monitors share. */
struct entity_name {
    uint8_t type;
    char id[ENTITY_ID_MAX + 1];
};

/*
 * -EINVAL unless text is TYPE.ID with a known type and an ID of printable, unspaced characters that
 * have no meaning in configuration files and file names.
 */
int entity_parse(const char *text, struct entity_name *out) MUST_CHECK;
/* Writes at most ENTITY_TEXT_MAX bytes, terminated; returns text. */
const char *entity_format(const struct entity_name *name, char text[ENTITY_TEXT_MAX]);
/* Whether it is a name that entity_parse() could have made: for names that came from elsewhere. */
bool entity_valid(const struct entity_name *name);
bool entity_equal(const struct entity_name *a, const struct entity_name *b);
struct entity_name entity_osd(int32_t id);
/* The OSD number of osd.N, or -EINVAL for any other name. */
int32_t entity_osd_id(const struct entity_name *name) MUST_CHECK;

/* An IPv4 (family 4) or IPv6 (family 6) address with its port; all zero means none. */
struct net_address {
    uint8_t family;
    uint8_t ip[16]; /* Network order; IPv4 uses the first four. */
    uint16_t port;  /* Host order. */
};

/*
 * Reads "1.2.3.4:5", "[::1]:5", with Ceph's "v2:" prefix and "/nonce" suffix allowed and ignored.
 * -EINVAL otherwise. Host names are not resolved here.
 */
int net_address_parse(const char *text, struct net_address *out) MUST_CHECK;
const char *net_address_format(const struct net_address *address, char text[NET_ADDRESS_TEXT_MAX]);
bool net_address_equal(const struct net_address *a, const struct net_address *b);

struct uuid {
    uint8_t bytes[16];
};
int uuid_parse(const char *text, struct uuid *out) MUST_CHECK;
const char *uuid_format(const struct uuid *uuid, char text[UUID_TEXT_MAX]);
bool uuid_equal(const struct uuid *a, const struct uuid *b);
bool uuid_is_zero(const struct uuid *uuid);

/*
 * Capabilities of an entity at one service, from Ceph's syntax: "allow r", "allow rw pool=x",
 * "allow *", "profile osd". Several grants are separated by commas.
 */
enum { CAP_READ = 1, CAP_WRITE = 2, CAP_EXECUTE = 4, CAP_ALL = 7 };
enum { CAPS_GRANTS_MAX = 8, CAPS_POOL_MAX = 63 };
struct caps_grant {
    uint8_t allow;
    char pool[CAPS_POOL_MAX + 1]; /* Empty: every pool. */
};
struct caps {
    uint8_t n_grants;
    struct caps_grant grants[CAPS_GRANTS_MAX];
};
/*
 * -EINVAL for text outside the syntax. Empty text grants nothing. The profiles mean what they mean
 * at OSDs.
 */
int caps_parse(const char *text, struct caps *out) MUST_CHECK;
/* The same at the service that answers: some profiles allow less at a monitor than at an OSD. */
int caps_parse_at(uint8_t service, const char *text, struct caps *out) MUST_CHECK;
/* True when all of `want` is allowed on the pool; pool NULL: on everything. */
bool caps_allow(const struct caps *caps, uint8_t want, const char *pool);

#endif
