#include "client/image/header.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* Owners and snapshots are bounded; this is beyond both. */
enum { READ_MAX = 2048, CHANGES_MAX = 1000 };

/* ---- Small things ---- */

void header_object(const char *id, char out[IMAGE_OBJECT_NAME_MAX])
{
    snprintf(out, IMAGE_OBJECT_NAME_MAX, IMAGE_HEADER_PREFIX "%.32s", id);
}

void image_new_id(char out[LIMPET_IMAGE_ID_MAX + 1])
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        abort();
    snprintf(out, LIMPET_IMAGE_ID_MAX + 1, "%016llx", (unsigned long long)random);
}

uint64_t image_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void header_fini(struct header *header)
{
    free(header->core_bytes);
    free(header->snaps);
    free(header->owners);
    memset(header, 0, sizeof *header);
}

static void *copy_of(const void *data, size_t len)
{
    void *copy = malloc(len + 1);
    if (copy != NULL && len > 0)
        memcpy(copy, data, len);
    return copy;
}

int header_copy(const struct header *from, struct header *out)
{
    *out = *from;
    out->core_bytes = copy_of(from->core_bytes, from->core_len);
    out->snaps = copy_of(from->snaps, from->n_snaps * sizeof *from->snaps);
    out->owners = copy_of(from->owners, from->n_owners * sizeof *from->owners);
    if (out->core_bytes != NULL && out->snaps != NULL && out->owners != NULL)
        return 0;
    header_fini(out);
    return -ENOMEM;
}

size_t header_snap(const struct header *header, uint64_t id)
{
    size_t i = 0;
    while (i < header->n_snaps && header->snaps[i].id != id)
        i++;
    return i;
}

size_t header_snap_named(const struct header *header, const char *name)
{
    size_t i = 0;
    while (i < header->n_snaps && strcmp(header->snaps[i].name, name) != 0)
        i++;
    return i;
}

struct image_snap *header_snap_add(struct header *next)
{
    struct image_snap *snaps = realloc(next->snaps, (next->n_snaps + 1) * sizeof *snaps);
    if (snaps == NULL)
        return NULL;
    next->snaps = snaps;
    memset(&snaps[next->n_snaps], 0, sizeof *snaps);
    return &snaps[next->n_snaps++];
}

void header_snap_remove(struct header *next, size_t at)
{
    next->n_snaps--;
    memmove(&next->snaps[at], &next->snaps[at + 1], (next->n_snaps - at) * sizeof *next->snaps);
}

/* ---- Reading ---- */

static struct limpet_pair pair_of(const char *key, const void *value, size_t len)
{
    return (struct limpet_pair){
        .key = key, .key_len = strlen(key), .value = value, .value_len = len};
}

int header_reading_steps(struct limpet_op *op, struct header_reading *reading)
{
    struct limpet_pair core = pair_of(IMAGE_KEY_CORE, NULL, 0);
    memset(reading, 0, sizeof *reading);
    int rc = limpet_op_omap_get(op, &core, 1, &reading->core, NULL);
    if (rc == 0)
        rc = limpet_op_omap_list(op, NULL, 0, IMAGE_KEY_SNAP, 2, READ_MAX, &reading->snaps, NULL,
                                 NULL);
    if (rc == 0)
        rc = limpet_op_omap_list(op, NULL, 0, IMAGE_KEY_OWNER, 2, READ_MAX, &reading->owners, NULL,
                                 NULL);
    return rc;
}

static int take_core(struct limpet_pairs *pairs, struct header *out)
{
    struct limpet_pair pair;
    if (pairs == NULL || limpet_pairs_next(pairs, &pair) != 0)
        return -ENOENT;
    out->core_len = pair.value_len;
    out->core_bytes = copy_of(pair.value, pair.value_len);
    if (out->core_bytes == NULL)
        return -ENOMEM;
    return image_core_decode(pair.value, pair.value_len, &out->core);
}

static int take_snaps(struct limpet_pairs *pairs, struct header *out)
{
    struct limpet_pair pair;
    while (pairs != NULL && limpet_pairs_next(pairs, &pair) == 0) {
        struct image_snap *snap = header_snap_add(out);
        if (snap == NULL)
            return -ENOMEM;
        int rc = image_snap_decode(pair.value, pair.value_len, snap);
        if (rc == 0)
            rc = image_snap_key_decode(pair.key, pair.key_len, &snap->id);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int take_owners(struct limpet_pairs *pairs, struct header *out)
{
    struct limpet_pair pair;
    while (pairs != NULL && limpet_pairs_next(pairs, &pair) == 0) {
        struct image_owner owner = {0};
        struct image_owner *more = realloc(out->owners, (out->n_owners + 1) * sizeof *out->owners);
        if (more == NULL)
            return -ENOMEM;
        out->owners = more;
        int rc = image_owner_decode(pair.value, pair.value_len, &owner);
        if (rc == 0)
            rc = image_owner_key_decode(pair.key, pair.key_len, &owner);
        if (rc != 0)
            return rc;
        out->owners[out->n_owners++] = owner;
    }
    return 0;
}

int header_reading_end(struct header_reading *reading, struct header *out)
{
    memset(out, 0, sizeof *out);
    int rc = take_core(reading->core, out);
    if (rc == 0)
        rc = take_snaps(reading->snaps, out);
    if (rc == 0)
        rc = take_owners(reading->owners, out);
    limpet_pairs_destroy(reading->core);
    limpet_pairs_destroy(reading->snaps);
    limpet_pairs_destroy(reading->owners);
    if (rc != 0)
        header_fini(out);
    return rc;
}

int header_read(struct limpet_pool *pool, const char *id, struct header *out)
{
    char object[IMAGE_OBJECT_NAME_MAX];
    struct header_reading reading = {0};
    header_object(id, object);
    memset(out, 0, sizeof *out);
    struct limpet_op *op = limpet_op_create();
    int rc = op == NULL ? -ENOMEM : header_reading_steps(op, &reading);
    if (rc == 0)
        rc = limpet_operate(pool, object, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    return rc == 0 ? header_reading_end(&reading, out) : rc;
}

/* ---- Changing ---- */

static int add_snap_set(struct limpet_op *op, const struct image_snap *snap)
{
    char key[IMAGE_KEY_MAX];
    struct encoder e;
    encoder_init(&e);
    image_snap_encode(&e, snap);
    image_snap_key(key, IMAGE_KEY_SNAP, snap->id);
    struct limpet_pair pair = pair_of(key, e.data, e.len);
    int rc = e.failed ? -ENOMEM : limpet_op_omap_set(op, &pair, 1);
    encoder_fini(&e);
    return rc;
}

static int add_snap_remove(struct limpet_op *op, uint64_t snap)
{
    char key[IMAGE_KEY_MAX];
    image_snap_key(key, IMAGE_KEY_SNAP, snap);
    struct limpet_pair pair = pair_of(key, NULL, 0);
    return limpet_op_omap_remove(op, &pair, 1);
}

/* What of a snapshot may change. */
static bool same_snap(const struct image_snap *a, const struct image_snap *b)
{
    return a->ordinal == b->ordinal && a->kind == b->kind && a->is_protected == b->is_protected &&
           a->size == b->size && a->overlap == b->overlap && a->created_ns == b->created_ns &&
           a->flags == b->flags && strcmp(a->name, b->name) == 0 &&
           strcmp(a->original, b->original) == 0 && a->group.pool == b->group.pool &&
           strcmp(a->group.space, b->group.space) == 0 && strcmp(a->group.id, b->group.id) == 0 &&
           strcmp(a->group_snap, b->group_snap) == 0;
}

/* What is different between two lists of snapshots. */
static int add_snaps(struct limpet_op *op, const struct header *old, const struct header *next)
{
    int rc = 0;
    for (size_t i = 0; i < old->n_snaps && rc == 0; i++) {
        if (header_snap(next, old->snaps[i].id) == next->n_snaps)
            rc = add_snap_remove(op, old->snaps[i].id);
    }
    for (size_t i = 0; i < next->n_snaps && rc == 0; i++) {
        size_t at = header_snap(old, next->snaps[i].id);
        if (at == old->n_snaps || !same_snap(&old->snaps[at], &next->snaps[i]))
            rc = add_snap_set(op, &next->snaps[i]);
    }
    return rc;
}

static int add_core(struct limpet_op *op, struct header *next)
{
    struct encoder e;
    encoder_init(&e);
    next->core.generation++;
    image_core_encode(&e, &next->core);
    struct limpet_pair pair = pair_of(IMAGE_KEY_CORE, e.data, e.len);
    int rc = e.failed ? -ENOMEM : limpet_op_omap_set(op, &pair, 1);
    if (rc != 0) {
        encoder_fini(&e);
        return rc;
    }
    free(next->core_bytes);
    next->core_bytes = encoder_take(&e, &next->core_len);
    return next->core_bytes != NULL ? 0 : -ENOMEM;
}

/* *decided: the changer has ended it, by what it was given. */
static int run_change(struct limpet_pool *pool, const char *object, const struct header *old,
                      struct header *next, header_changer change, void *arg, bool *decided)
{
    struct limpet_op *op = limpet_op_create();
    struct limpet_pair core = pair_of(IMAGE_KEY_CORE, old->core_bytes, old->core_len);
    if (op == NULL)
        return -ENOMEM;
    int rc = limpet_op_omap_compare(op, &core, LIMPET_EQUAL, NULL);
    if (rc == 0)
        rc = change(next, op, arg);
    *decided = rc != 0;
    if (rc == 0)
        rc = add_snaps(op, old, next);
    if (rc == 0)
        rc = add_core(op, next);
    limpet_op_full_try(op);
    if (rc == 0)
        rc = limpet_operate(pool, object, op, NULL);
    limpet_op_destroy(op);
    return rc;
}

int header_change(struct limpet_pool *pool, const char *id, struct header *header,
                  header_changer change, void *arg)
{
    char object[IMAGE_OBJECT_NAME_MAX];
    int rc = -ECANCELED;
    header_object(id, object);
    for (int i = 0; i < CHANGES_MAX && rc == -ECANCELED; i++) {
        struct header next;
        bool decided = false, known = i == 0 && header->core_bytes != NULL;
        /* What is known may be old: then it is read, once each time that somebody was faster. */
        if (!known) {
            header_fini(header);
            rc = header_read(pool, id, header);
            if (rc != 0)
                return rc;
        }
        rc = header_copy(header, &next);
        if (rc != 0)
            return rc;
        rc = run_change(pool, object, header, &next, change, arg, &decided);
        /* Nothing was compared: that there is nothing to do, or an error, may be old, too. */
        if (decided && known)
            rc = -ECANCELED;
        if (rc == 0) {
            header_fini(header);
            *header = next;
        } else {
            header_fini(&next);
        }
    }
    return rc == HEADER_SAME ? 0 : rc;
}
