#include "common/posix_acl.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

enum { VERSION = 2, HEAD_BYTES = 4, PERMISSIONS = 7 };

enum tag { OWNER = 1, USER = 2, OWNING_GROUP = 4, GROUP = 8, MASK = 16, OTHERS = 32 };

struct entry {
    uint16_t tag, permissions;
    uint32_t id;
};

_Static_assert(sizeof(struct entry) == 8, "as it lies in the attribute");

static size_t count(size_t len)
{
    return (len - HEAD_BYTES) / sizeof(struct entry);
}

static struct entry entry_at(const void *acl, size_t i)
{
    struct entry entry;
    memcpy(&entry, (const uint8_t *)acl + HEAD_BYTES + i * sizeof entry, sizeof entry);
    return (struct entry){le16toh(entry.tag), le16toh(entry.permissions), le32toh(entry.id)};
}

static void allow(void *acl, size_t i, uint32_t permissions)
{
    uint16_t value = htole16((uint16_t)(permissions & PERMISSIONS));
    memcpy((uint8_t *)acl + HEAD_BYTES + i * sizeof(struct entry) +
               offsetof(struct entry, permissions),
           &value, sizeof value);
}

int posix_acl_check(const void *acl, size_t len)
{
    uint32_t version, seen = 0;
    uint16_t last = 0;
    if (len <= HEAD_BYTES || (len - HEAD_BYTES) % sizeof(struct entry) != 0)
        return -EINVAL;
    memcpy(&version, acl, sizeof version);
    if (le32toh(version) != VERSION)
        return -EINVAL;
    for (size_t i = 0; i < count(len); i++) {
        struct entry entry = entry_at(acl, i);
        bool several = entry.tag == USER || entry.tag == GROUP;
        bool known = entry.tag != 0 && entry.tag <= OTHERS && (entry.tag & (entry.tag - 1)) == 0;
        if (!known || entry.permissions > PERMISSIONS || entry.tag < last ||
            (entry.tag == last && !several))
            return -EINVAL;
        last = entry.tag;
        seen |= entry.tag;
    }
    const uint32_t needed = OWNER | OWNING_GROUP | OTHERS;
    bool masked = !(seen & (USER | GROUP)) || seen & MASK;
    return (seen & needed) == needed && masked ? 0 : -EINVAL;
}

bool posix_acl_is_mode(const void *acl, size_t len)
{
    (void)acl;
    return count(len) == 3; /* Of which none can be missing. */
}

/* Where the mode's bits for the group stand. */
static uint16_t group_tag(const void *acl, size_t len)
{
    for (size_t i = 0; i < count(len); i++) {
        if (entry_at(acl, i).tag == MASK)
            return MASK;
    }
    return OWNING_GROUP;
}

/* By how much the bits of an entry are shifted in the mode; -1: they are not there. */
static int shift_of(uint16_t tag, uint16_t group)
{
    if (tag == OWNER)
        return 6;
    if (tag == OTHERS)
        return 0;
    return tag == group ? 3 : -1;
}

uint32_t posix_acl_to_mode(const void *acl, size_t len, uint32_t mode)
{
    uint16_t group = group_tag(acl, len);
    mode &= ~(uint32_t)0777;
    for (size_t i = 0; i < count(len); i++) {
        struct entry entry = entry_at(acl, i);
        int shift = shift_of(entry.tag, group);
        if (shift >= 0)
            mode |= (uint32_t)entry.permissions << shift;
    }
    return mode;
}

void posix_acl_from_mode(void *acl, size_t len, uint32_t mode)
{
    uint16_t group = group_tag(acl, len);
    for (size_t i = 0; i < count(len); i++) {
        int shift = shift_of(entry_at(acl, i).tag, group);
        if (shift >= 0)
            allow(acl, i, mode >> shift);
    }
}

uint32_t posix_acl_inherit(void *acl, size_t len, uint32_t mode)
{
    mode &= posix_acl_to_mode(acl, len, ~(uint32_t)0);
    posix_acl_from_mode(acl, len, mode);
    return mode;
}
