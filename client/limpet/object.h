/*
 * liblimpet: all that can be done to an object, as steps of a struct limpet_op. Part of limpet.h,
 * which says what holds for errors, order, threads and memory, and has the steps on contents.
 *
 *     struct limpet_op *op = limpet_op_create();
 *     limpet_op_attr_compare(op, "owner", LIMPET_EQUAL, "me", 2);
 *     limpet_op_omap_set(op, pairs, n);
 *     rc = limpet_operate(pool, "name", op, &version);     -- or limpet_aio_operate()
 *     limpet_op_destroy(op);
 *
 * An operation is executed as a whole or not at all. One with a step that writes is a write, and
 * may hold steps of every kind; each step sees what the steps before it have done. A write gives at
 * most 1,024 bytes for all of its steps, results included: -EOVERFLOW. A reading operation on an
 * object that does not exist fails with -ENOENT.
 *
 * All functions that add a step return 0, -E2BIG beyond LIMPET_OP_STEPS_MAX, -ENOMEM, or what is
 * said. Names, keys and values that are given are copied. Places for results stay valid until the
 * operation's end; they are written to when the step succeeds, and `result` in any case, and may be
 * NULL.
 */
#ifndef LIMPET_OBJECT_H
#define LIMPET_OBJECT_H

#include "../limpet.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes: what can be a name and a value of an attribute, a key and a value of the map. */
#define LIMPET_ATTR_NAME_MAX  254
#define LIMPET_ATTR_VALUE_MAX 65536
#define LIMPET_OMAP_KEY_MAX   4096
#define LIMPET_OMAP_VALUE_MAX 1048576

/*
 * limpet_op_compare() found another byte at `at` of its data: the result is
 * -LIMPET_MISMATCH - at.
 */
#define LIMPET_MISMATCH 4095

/* The error of the step that was added last is told in its result, and the operation goes on. */
LIMPET_API int limpet_op_allow_failure(struct limpet_op *op);

/* ---- Contents and existence ---- */

/* `total` bytes at offset, of `len` bytes of data again and again: -EINVAL if they do not fit. */
LIMPET_API int limpet_op_write_same(struct limpet_op *op, const void *data, size_t len,
                                    uint64_t total, uint64_t offset);
/* Never makes an object larger; what reaches to its end is cut off. */
LIMPET_API int limpet_op_zero(struct limpet_op *op, uint64_t offset, uint64_t len);
/* What size is expected. It makes the object. */
LIMPET_API int limpet_op_hint(struct limpet_op *op, uint64_t size, uint64_t write_size);
/* -ENOENT. */
LIMPET_API int limpet_op_assert_exists(struct limpet_op *op);
/* By sequence: -ERANGE if the object is newer, -EOVERFLOW if it is older, -EINVAL for 0. */
LIMPET_API int limpet_op_assert_version(struct limpet_op *op, uint64_t sequence);
/* The object has these bytes there; behind its end there are zeroes. LIMPET_MISMATCH. */
LIMPET_API int limpet_op_compare(struct limpet_op *op, const void *data, size_t len,
                                 uint64_t offset, int *result);

enum limpet_checksum { LIMPET_XXHASH32 = 0, LIMPET_XXHASH64 = 1, LIMPET_CRC32C = 2 };
/*
 * Sums of len bytes, one for each `chunk` of them (0: one for all), each begun with `init`; as a
 * u32 of their number, then u32 or u64 numbers. -EINVAL: the object has not got so many bytes, or
 * they are no multiple of chunk. -E2BIG: more than 262,144 sums, or the steps of a request sum more
 * bytes than the largest object has. Release *out with limpet_free().
 */
LIMPET_API int limpet_op_checksum(struct limpet_op *op, enum limpet_checksum type, uint64_t init,
                                  uint64_t offset, uint64_t len, uint32_t chunk, void **out,
                                  size_t *out_len, int *result);

/* ---- Attributes ---- */

enum limpet_compare {
    LIMPET_EQUAL = 1,
    LIMPET_NOT_EQUAL = 2,
    LIMPET_GREATER = 3,
    LIMPET_GREATER_EQUAL = 4,
    LIMPET_LESS = 5,
    LIMPET_LESS_EQUAL = 6,
};

/* -ENAMETOOLONG, -EFBIG; -E2BIG: all attributes of the object together are too large. */
LIMPET_API int limpet_op_attr_set(struct limpet_op *op, const char *name, const void *value,
                                  size_t len);
/* One that is not there is no error. */
LIMPET_API int limpet_op_attr_remove(struct limpet_op *op, const char *name);
/* What is given is equal to (greater than, ...) what there is: -ECANCELED. */
LIMPET_API int limpet_op_attr_compare(struct limpet_op *op, const char *name,
                                      enum limpet_compare comparison, const void *value,
                                      size_t len);
/* -ENODATA. Release *out with limpet_free(). */
LIMPET_API int limpet_op_attr_get(struct limpet_op *op, const char *name, void **out,
                                  size_t *out_len, int *result);

/* ---- Lists of pairs ---- */

struct limpet_pair {
    const void *key; /* An attribute's name. */
    size_t key_len;
    const void *value;
    size_t value_len;
};

struct limpet_pairs; /* What an operation has given, in order of keys. */
/* The next one, valid as long as the list; -ENOENT at the end. */
LIMPET_API int limpet_pairs_next(struct limpet_pairs *pairs, struct limpet_pair *out);
/* NULL is allowed. */
LIMPET_API void limpet_pairs_destroy(struct limpet_pairs *pairs);

/* All attributes. */
LIMPET_API int limpet_op_attr_list(struct limpet_op *op, struct limpet_pairs **out, int *result);

/* ---- The map: ordered pairs that an object has beside its contents, and a header ---- */

/* Keys of 1 to LIMPET_OMAP_KEY_MAX bytes: -EINVAL, -ENAMETOOLONG; -EFBIG: a value is too large. */
LIMPET_API int limpet_op_omap_set(struct limpet_op *op, const struct limpet_pair *pairs, size_t n);
LIMPET_API int limpet_op_omap_set_header(struct limpet_op *op, const void *value, size_t len);
/* Of the pairs only the keys count. Keys that are not there are no error. */
LIMPET_API int limpet_op_omap_remove(struct limpet_op *op, const struct limpet_pair *keys,
                                     size_t n);
/* Keys from `from` up to, not including, `to`. */
LIMPET_API int limpet_op_omap_remove_range(struct limpet_op *op, const void *from, size_t from_len,
                                           const void *to, size_t to_len);
/* All pairs, and the header. */
LIMPET_API int limpet_op_omap_clear(struct limpet_op *op);
/* What there is is equal to, greater or less than what is given: -ECANCELED. */
LIMPET_API int limpet_op_omap_compare(struct limpet_op *op, const struct limpet_pair *pair,
                                      enum limpet_compare comparison);
/*
 * At most max pairs after a key (NULL: from the beginning) whose keys begin with a prefix. *more:
 * there are others.
 */
LIMPET_API int limpet_op_omap_list(struct limpet_op *op, const void *after, size_t after_len,
                                   const void *prefix, size_t prefix_len, uint64_t max,
                                   struct limpet_pairs **out, bool *more, int *result);
/* Those of the keys that there are. */
LIMPET_API int limpet_op_omap_get(struct limpet_op *op, const struct limpet_pair *keys, size_t n,
                                  struct limpet_pairs **out, int *result);
/* Release *out with limpet_free(). */
LIMPET_API int limpet_op_omap_get_header(struct limpet_op *op, void **out, size_t *out_len,
                                         int *result);

/* ---- Built-in methods ---- */

/*
 * Runs a method of the object's OSD as a step: "class.method". -EOPNOTSUPP: there is none. Its
 * result is the step's. Release *out with limpet_free().
 */
LIMPET_API int limpet_op_call(struct limpet_op *op, const char *method, const void *input,
                              size_t len, void **out, size_t *out_len, int *result);

/* ---- Advisory locks ---- */

enum limpet_lock_type { LIMPET_LOCK_EXCLUSIVE = 1, LIMPET_LOCK_SHARED = 2 };
enum limpet_lock_flags {
    LIMPET_LOCK_MAY_RENEW = 1,  /* Who holds it already, holds it anew. */
    LIMPET_LOCK_MUST_RENEW = 2, /* And nobody else gets it: -ENOENT. */
};

/*
 * Takes a lock for this process and a cookie of its choice, for so long (0: for ever). Shared locks
 * are shared by those who give the same tag. Makes the object. -EBUSY: somebody else has it;
 * -EEXIST: this process has it, with this cookie.
 */
LIMPET_API int limpet_lock(struct limpet_pool *pool, const char *name, const char *lock,
                           enum limpet_lock_type type, const char *cookie, const char *tag,
                           const char *description, uint64_t duration_ns, unsigned flags);
/* -ENOENT: it is not held. */
LIMPET_API int limpet_unlock(struct limpet_pool *pool, const char *name, const char *lock,
                             const char *cookie);
/* Somebody else's, by the instance of its process. */
LIMPET_API int limpet_lock_break(struct limpet_pool *pool, const char *name, const char *lock,
                                 uint64_t instance, const char *cookie);

struct limpet_lock_holder {
    uint64_t instance; /* Of its process. */
    const char *cookie;
    uint64_t ends_ns; /* When it ends by itself, since 1970 UTC; 0: never. */
    const char *address;
    const char *description;
};

struct limpet_lock_info {
    int type; /* enum limpet_lock_type; 0: there is no such lock, or nobody has ever held it. */
    const char *tag;
    size_t n_holders;
    struct limpet_lock_holder holders[];
};

/* Release *out with limpet_free(). -ENOENT: there is no such object. */
LIMPET_API int limpet_lock_info(struct limpet_pool *pool, const char *name, const char *lock,
                                struct limpet_lock_info **out);
/* The names of an object's locks, then NULL. Release *names with limpet_free(). */
LIMPET_API int limpet_lock_list(struct limpet_pool *pool, const char *name, char ***names);

#ifdef __cplusplus
}
#endif

#endif
