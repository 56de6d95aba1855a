/*
 * Everything durable of block images: names of objects, keys of their maps, records. Disks of users
 * consist of this: README.md has the whole, tests/golden/image_*.hex the bytes.
 *
 * A record is u8 version, u8 oldest version that may read it, u32 bytes that follow, fields
 * (little-endian; strings as string16). A reader skips what a newer version has added at the end,
 * and refuses (-ENOEXEC) a record whose oldest reader is newer than itself.
 */
#ifndef LIMPET_CLIENT_IMAGE_LAYOUT_H
#define LIMPET_CLIENT_IMAGE_LAYOUT_H

#include "client/limpet/image.h"
#include "common/codec.h"

enum {
    IMAGE_CORE_VERSION = 1,
    IMAGE_SNAP_VERSION = 1,
    IMAGE_OWNER_VERSION = 1,
    IMAGE_TRASH_VERSION = 1,
    IMAGE_GROUP_SNAP_VERSION = 1,
    IMAGE_GROUP_IMAGES_MAX = 1024,
    IMAGE_STRIPES_MAX = 65536, /* Objects that are filled together. */
    IMAGE_OBJECT_NAME_MAX = 96,
    IMAGE_KEY_MAX = LIMPET_OBJECT_SPACE_MAX + LIMPET_IMAGE_NAME_MAX + 96,
};

/* ---- Names of objects, and keys ---- */

#define IMAGE_DIRECTORY       "rbd_directory"
#define IMAGE_TRASH           "rbd_trash"
#define IMAGE_SPACES          "rbd_namespace"
#define IMAGE_POOL_INFO       "rbd_info"
#define IMAGE_GROUP_DIRECTORY "rbd_group_directory"
#define IMAGE_HEADER_PREFIX   "rbd_header."
#define IMAGE_GROUP_PREFIX    "rbd_group_header."
#define IMAGE_MAP_PREFIX      "rbd_object_map."
#define IMAGE_DATA_PREFIX     "rbd_data."

/* Keys of a header; those that end with '/' are prefixes. */
#define IMAGE_KEY_CORE     "core"
#define IMAGE_KEY_SNAP     "s/"
#define IMAGE_KEY_DEAD     "d/"
#define IMAGE_KEY_CHILD    "c/"
#define IMAGE_KEY_OWNER    "o/"
#define IMAGE_KEY_META     "m/"
#define IMAGE_KEY_META_END "m0"
/* Of a directory, of groups too. */
#define IMAGE_KEY_NAME "n/"
#define IMAGE_KEY_ID   "i/"

/* "", or what comes before the number in names of data objects. */
void image_data_prefix(const char *id, bool has_data_pool, uint64_t pool, char out[64]);

/* ---- Names ---- */

/* -EINVAL: it is empty, has '/' or '@', or is no UTF-8; -ENAMETOOLONG. */
int image_check_name(const char *name) MUST_CHECK;
/* 1 to LIMPET_IMAGE_ID_MAX characters that can stand in the name of an object. */
bool image_is_id(const char *id);

/* ---- Records ---- */

enum image_state {
    IMAGE_READY = 0,
    /* A clone that its parent may not know; a copy or an import that is not whole. */
    IMAGE_CREATING = 1,
    IMAGE_REMOVING = 2,
    IMAGE_STATES_END,
};

struct image_link {
    uint64_t pool;
    char space[LIMPET_OBJECT_SPACE_MAX + 1];
    char id[LIMPET_IMAGE_ID_MAX + 1];
};

struct image_core {
    uint64_t generation; /* One more with each change. */
    uint8_t state;       /* enum image_state */
    uint8_t order;
    uint8_t clone_format; /* Of this clone; 0: it is none. */
    uint64_t size;
    uint64_t extent; /* Objects beyond the size may exist up to here; never less than the size. */
    uint64_t stripe_unit, stripe_count;
    uint64_t features, op_features, flags;
    bool has_data_pool;
    uint64_t data_pool;
    uint64_t created_ns, accessed_ns, modified_ns;
    uint64_t snap_seq;     /* The newest snapshot that it ever had. */
    uint32_t snap_ordinal; /* How many it ever had. */
    uint64_t snap_limit;   /* UINT64_MAX: none. */
    bool has_parent;
    struct image_link parent;
    uint64_t parent_snap;
    uint64_t overlap; /* Bytes of the head that the parent shows through. */
    bool has_group;
    struct image_link group;
};

struct image_snap {
    uint64_t id;
    uint32_t ordinal; /* The image's first one is 1. */
    uint8_t kind;     /* enum limpet_image_snap_kind */
    bool is_protected;
    uint64_t size;
    uint64_t overlap;
    uint64_t created_ns;
    uint64_t flags; /* enum limpet_image_flag, as it was; without a map it is invalid. */
    char name[LIMPET_IMAGE_NAME_MAX + 1];
    char original[LIMPET_IMAGE_NAME_MAX + 1];
    /* Of a group's: which, and the group's snapshot. */
    struct image_link group;
    char group_snap[LIMPET_IMAGE_ID_MAX + 1];
};

struct image_owner {
    uint64_t instance, cookie; /* In the key. */
    uint8_t mode;              /* enum limpet_lease_mode */
    bool kept;                 /* It does not give it away when it is asked to. */
};

struct image_trash {
    char name[LIMPET_IMAGE_NAME_MAX + 1];
    uint64_t deleted_ns, deferred_until_ns;
};

/* A group's snapshot: of which images, and their snapshots. */
struct image_group_snap {
    char name[LIMPET_IMAGE_NAME_MAX + 1];
    bool complete;
    uint32_t n;
    struct image_link *images;
    uint64_t *snaps;
};

void image_core_encode(struct encoder *e, const struct image_core *core);
void image_snap_encode(struct encoder *e, const struct image_snap *snap);
void image_owner_encode(struct encoder *e, const struct image_owner *owner);
void image_trash_encode(struct encoder *e, const struct image_trash *trash);

void image_group_snap_encode(struct encoder *e, const struct image_group_snap *snap);

/* -EBADMSG: it is none, or makes no sense; -ENOEXEC: it is of a newer version. */
int image_core_decode(const void *data, size_t len, struct image_core *out) MUST_CHECK;
/* All but the id, which stands in the key; the same of an owner's instance and cookie. */
int image_snap_decode(const void *data, size_t len, struct image_snap *out) MUST_CHECK;
int image_owner_decode(const void *data, size_t len, struct image_owner *out) MUST_CHECK;
int image_trash_decode(const void *data, size_t len, struct image_trash *out) MUST_CHECK;

/* -ENOMEM; image_group_snap_fini() after success. */
int image_group_snap_decode(const void *data, size_t len, struct image_group_snap *out) MUST_CHECK;
void image_group_snap_fini(struct image_group_snap *snap);

/* ---- Keys ---- */

/* "s/" and the number in 16 digits, so that keys are in order of numbers. Lengths are returned. */
size_t image_snap_key(char out[IMAGE_KEY_MAX], const char *prefix, uint64_t snap);
size_t image_owner_key(char out[IMAGE_KEY_MAX], uint64_t instance, uint64_t cookie);
size_t image_child_key(char out[IMAGE_KEY_MAX], uint64_t snap, const struct image_link *child);
/* -EBADMSG */
int image_snap_key_decode(const void *key, size_t len, uint64_t *snap) MUST_CHECK;
int image_owner_key_decode(const void *key, size_t len, struct image_owner *out) MUST_CHECK;
int image_child_key_decode(const void *key, size_t len, uint64_t *snap,
                           struct image_link *out) MUST_CHECK;

#endif
