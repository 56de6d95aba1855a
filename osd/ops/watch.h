/*
 * Watchers of an object: who is to be told of notifies, and who holds leases. They are an attribute
 * of the object, so that whoever becomes the primary knows them; README.md tells the protocol.
 */
#ifndef LIMPET_OSD_OPS_WATCH_H
#define LIMPET_OSD_OPS_WATCH_H

#include "osd/ops/view.h"

enum {
    WATCH_LAYOUT_VERSION = 1,
    WATCHERS_MAX = 512,     /* Of an object: their attribute has room for them. */
    WATCH_ADDRESS_MAX = 63, /* Bytes of a watcher's address. */
};

/* In the store: no name that a client can give (attr.h). */
#define WATCH_ATTR "watchers"

/* The attribute: u8 version, u32 n, n times this, each followed by the address. */
struct __attribute__((packed)) watcher_layout {
    uint64_t instance; /* Of the client's process. */
    uint64_t cookie;
    uint32_t timeout_ms;
    uint8_t mode; /* enum wire_lease */
    uint8_t address_len;
    uint16_t reserved;
};
static_assert(sizeof(struct watcher_layout) == 24, "watcher_layout");

struct watcher {
    struct watcher_layout head;
    const uint8_t *address;
};

/* A decoded list; points into the attribute. */
struct watchers {
    uint32_t n;
    struct watcher list[WATCHERS_MAX];
};

/* No bytes at all are nobody. -EIO: malformed. */
int watchers_decode(struct view_bytes value, struct watchers *out) MUST_CHECK;
void watchers_encode(const struct watchers *watchers, struct encoder *out);
/* WATCHERS_MAX: not among them. */
uint32_t watchers_find(const struct watchers *watchers, uint64_t instance, uint64_t cookie);

struct ops_run;
/* Of a writing request that has run: false when it left the watchers as they were. */
bool watchers_after(struct ops_run *run, struct view_bytes *out);

/* Whether both can be held at the same time. */
static inline bool leases_agree(unsigned a, unsigned b)
{
    return a == WIRE_LEASE_NONE || b == WIRE_LEASE_NONE ||
           (a == WIRE_LEASE_SHARED && b == WIRE_LEASE_SHARED);
}

#endif
