/*
 * Mounting: superblock, journal replay, and what is derived from the index.
 *
 * Replay reads groups from the tail on, and stops at the first that is not whole. That is the torn
 * end of the journal if no later group says that this one was durable; otherwise acknowledged data
 * are damaged, and the mount is refused. Payload of every record is put in place again; index
 * changes are applied from the first record that the index lacks.
 */
#include <assert.h>
#include <errno.h>
#include <isa-l.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/planted.h"
#include "osd/store/engine.h"
#include "osd/store/engine_mount.h"

struct replay {
    struct engine *e;
    struct mount_io *io;
    uint8_t *ring; /* The whole journal. */
    uint64_t position;
    uint64_t sequence; /* Expected next. */
    uint64_t record;
    uint64_t flushed; /* Highest that any valid group vouches for. */
    uint64_t index_record;
    struct cblock_image {
        UT_hash_handle hh;
        uint32_t block;
        const uint8_t *data;
    } * images;
    uint64_t groups, records;
};

static const struct group_layout *group_at(const struct replay *r, uint64_t position)
{
    return (const struct group_layout *)(r->ring + position % r->e->journal.bytes);
}

/* Whether header and metadata are whole; payload is looked at separately. */
static bool group_valid(const struct replay *r, uint64_t position)
{
    uint64_t bytes = r->e->journal.bytes;
    const struct group_layout *g = group_at(r, position);
    struct group_layout header;
    if (g->magic != GROUP_MAGIC || g->mount != r->e->super.mount || g->meta_bytes < sizeof *g ||
        g->meta_bytes > 2 * GROUP_META_MAX || g->n_payload > GROUP_PAYLOAD_MAX)
        return false;
    uint64_t size = (g->meta_bytes + (uint64_t)BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES +
                    (uint64_t)g->n_payload * BLOCK_BYTES;
    if (position % bytes + size > bytes)
        return false;
    header = *g;
    header.crc = 0;
    uint32_t crc =
        crc32_iscsi((unsigned char *)&header, sizeof header, group_crc_seed(&r->e->super));
    crc = ~crc32_iscsi((unsigned char *)(uintptr_t)(g + 1), (int)(g->meta_bytes - sizeof *g), crc);
    return crc == g->crc;
}

static uint64_t group_size(const struct group_layout *g)
{
    return (g->meta_bytes + (uint64_t)BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES +
           (uint64_t)g->n_payload * BLOCK_BYTES;
}

/* One record's parts; false when they do not fit the metadata. */
struct record_view {
    struct record_layout head;
    const struct deferred_layout *deferred;
    const struct direct_layout *direct;
    const uint8_t *batch;
};

static bool record_next(struct decoder *d, struct record_view *v)
{
    const void *head = decode_bytes(d, sizeof v->head);
    if (!head)
        return false;
    memcpy(&v->head, head, sizeof v->head);
    if (v->head.magic != RECORD_MAGIC || v->head.n_deferred > GROUP_PAYLOAD_MAX ||
        v->head.n_direct > MESSAGE_PAYLOAD_MAX / BLOCK_BYTES)
        return false;
    v->deferred = decode_bytes(d, v->head.n_deferred * sizeof *v->deferred);
    v->direct = decode_bytes(d, v->head.n_direct * sizeof *v->direct);
    v->batch = decode_bytes(d, v->head.batch_bytes);
    return !d->failed;
}

/* Whether the data writes of a record reached the disk. */
static bool direct_arrived(struct replay *r, const struct record_view *v)
{
    for (uint32_t i = 0; i < v->head.n_direct; i++) {
        struct direct_layout direct;
        memcpy(&direct, &v->direct[i], sizeof direct);
        uint32_t crc = ~UINT32_C(0);
        if (direct.block < r->e->allocator.first || direct.block >= r->e->allocator.n_blocks ||
            direct.count > r->e->allocator.n_blocks - direct.block)
            return false;
        for (uint32_t at = 0; at < direct.count; at += MOUNT_IO_BLOCKS) {
            uint32_t n = direct.count - at < MOUNT_IO_BLOCKS ? direct.count - at : MOUNT_IO_BLOCKS;
            if (mount_read(r->io, (uint64_t)(direct.block + at) << BLOCK_SHIFT,
                           (size_t)n * BLOCK_BYTES) < 0)
                return false;
            crc = crc32_iscsi(r->io->data, (int)((size_t)n * BLOCK_BYTES), crc);
        }
        if (~crc != direct.crc)
            return false;
    }
    return true;
}

/* Whether everything that the group names is there. */
static bool group_whole(struct replay *r, const struct group_layout *g, bool vouched)
{
    struct decoder d;
    struct record_view v;
    uint64_t payload_at = (g->meta_bytes + (uint64_t)BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    uint32_t payload = 0;
    decoder_init(&d, g + 1, g->meta_bytes - sizeof *g);
    for (uint32_t i = 0; i < g->n_records; i++) {
        if (!record_next(&d, &v) || v.head.record != g->first_record + i ||
            payload + v.head.n_deferred > g->n_payload)
            return false;
        for (uint32_t n = 0; n < v.head.n_deferred; n++, payload++) {
            const uint8_t *data = (const uint8_t *)g + payload_at + (uint64_t)payload * BLOCK_BYTES;
            if (block_crc(data) != v.deferred[n].crc ||
                v.deferred[n].block < r->e->allocator.first ||
                v.deferred[n].block >= r->e->allocator.n_blocks)
                return false;
        }
        if (!vouched && !planted(PLANTED_STORE_TRUST_DIRECT) && !direct_arrived(r, &v))
            return false;
    }
    return decoder_end(&d) == 0 && payload == g->n_payload;
}

static int remember_image(struct replay *r, uint32_t block, const uint8_t *data)
{
    struct cblock_image *image;
    HASH_FIND(hh, r->images, &block, sizeof block, image);
    if (!image) {
        image = calloc(1, sizeof *image);
        if (!image)
            return -ENOMEM;
        image->block = block;
        HASH_ADD(hh, r->images, block, sizeof image->block, image);
    }
    image->data = data;
    return 0;
}

/*
 * What an earlier record put there was freed before the block was written anew. Replay from the
 * superblock that counts never sees such a pair (E5); from the older one, when that is damaged, it
 * does.
 */
static void forget_images(struct replay *r, const struct record_view *v)
{
    for (uint32_t i = 0; r->images && i < v->head.n_direct; i++)
        for (uint32_t n = 0; n < v->direct[i].count; n++) {
            uint32_t block = v->direct[i].block + n;
            struct cblock_image *image;
            HASH_FIND(hh, r->images, &block, sizeof block, image);
            if (image) {
                HASH_DEL(r->images, image);
                free(image);
            }
        }
}

static int apply_group(struct replay *r, const struct group_layout *g)
{
    struct decoder d;
    struct record_view v;
    const uint8_t *payload =
        (const uint8_t *)g + (g->meta_bytes + (size_t)BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    decoder_init(&d, g + 1, g->meta_bytes - sizeof *g);
    for (uint32_t i = 0; i < g->n_records; i++) {
        bool fits = record_next(&d, &v);
        assert(fits);
        forget_images(r, &v);
        for (uint32_t n = 0; n < v.head.n_deferred; n++, payload += BLOCK_BYTES)
            if (remember_image(r, v.deferred[n].block, payload) < 0)
                return -ENOMEM;
        if (v.head.record <= r->index_record)
            continue;
        struct encoder batch = {.data = (uint8_t *)(uintptr_t)v.batch, .len = v.head.batch_bytes};
        int error = index_apply(r->e->index, &batch);
        if (error < 0)
            return error;
        r->records++;
    }
    return 0;
}

/* The highest group that some whole header in the ring calls durable. */
static void find_flushed(struct replay *r)
{
    for (uint64_t at = 0; at < r->e->journal.bytes; at += BLOCK_BYTES) {
        const struct group_layout *g = group_at(r, at);
        if (g->magic == GROUP_MAGIC && g->mount == r->e->super.mount && group_valid(r, at) &&
            g->flushed > r->flushed)
            r->flushed = g->flushed;
    }
}

static int walk(struct replay *r, char why[256])
{
    for (;;) {
        const struct group_layout *g = group_at(r, r->position);
        bool vouched = r->sequence <= r->flushed;
        bool whole = group_valid(r, r->position) && g->sequence == r->sequence &&
                     ((g->flags & GROUP_PAD) ||
                      (g->first_record == r->record && group_whole(r, g, vouched)));
        if (!whole && vouched) {
            snprintf(why, 256,
                     "the journal is damaged at group %llu, which held acknowledged writes; "
                     "replace this OSD's disk and let the cluster recover it",
                     (unsigned long long)r->sequence);
            return -ELIMPET_CORRUPT;
        }
        if (!whole)
            return 0;
        if (g->flags & GROUP_PAD) {
            r->position += r->e->journal.bytes - r->position % r->e->journal.bytes;
            r->sequence++;
            continue;
        }
        int error = apply_group(r, g);
        if (error < 0) {
            snprintf(why, 256, "journal record %llu could not be applied to the index: %s",
                     (unsigned long long)r->record, error_text(error));
            return error;
        }
        r->position += group_size(g);
        r->record += g->n_records;
        r->sequence++;
        r->groups++;
    }
}

static int image_order(const struct cblock_image *a, const struct cblock_image *b)
{
    return a->block < b->block ? -1 : a->block > b->block;
}

static int place_images(struct replay *r)
{
    struct cblock_image *image, *next;
    int error = 0;
    HASH_SORT(r->images, image_order);
    HASH_ITER(hh, r->images, image, next)
    {
        if (error == 0)
            error =
                mount_write(r->io, (uint64_t)image->block << BLOCK_SHIFT, image->data, BLOCK_BYTES);
        HASH_DEL(r->images, image);
        free(image);
    }
    return error;
}

static int read_state(struct engine *e, struct state_layout *out)
{
    struct encoder value;
    uint8_t key = KEY_STATE;
    encoder_init(&value);
    int found = index_get(e->index, &key, 1, &value, true);
    if (found > 0 && value.len == sizeof *out)
        memcpy(out, value.data, sizeof *out);
    else if (found >= 0)
        found = -ELIMPET_CORRUPT;
    encoder_fini(&value);
    return found < 0 ? found : 0;
}

static int read_ring(struct replay *r)
{
    uint64_t bytes = r->e->journal.bytes;
    r->ring = aligned_alloc(BLOCK_BYTES, bytes);
    if (!r->ring)
        return -ENOMEM;
    for (uint64_t at = 0; at < bytes; at += MOUNT_IO_BLOCKS * BLOCK_BYTES) {
        uint64_t n =
            bytes - at < MOUNT_IO_BLOCKS * BLOCK_BYTES ? bytes - at : MOUNT_IO_BLOCKS * BLOCK_BYTES;
        int error = mount_read(r->io, JOURNAL_OFFSET + at, n);
        if (error < 0)
            return error;
        memcpy(r->ring + at, r->io->data, n);
    }
    return 0;
}

int engine_replay(struct engine *e, struct mount_io *io, char why[256])
{
    struct state_layout state;
    struct replay r = {.e = e, .io = io};
    int error = read_state(e, &state);
    if (error < 0) {
        snprintf(why, 256, "the index has no valid state record: %s", error_text(error));
        return error;
    }
    r.index_record = state.record;
    r.position = e->super.tail_offset;
    r.sequence = e->super.tail_sequence;
    r.record = e->super.tail_record;
    if (!(e->super.flags & SUPER_CLEAN)) {
        error = read_ring(&r);
        if (error < 0) {
            snprintf(why, 256, "the journal cannot be read: %s", error_text(error));
            free(r.ring);
            return error;
        }
        find_flushed(&r);
        error = walk(&r, why);
        if (error == 0 && !planted(PLANTED_STORE_SKIP_REPLAY_PLACE)) {
            error = place_images(&r);
            if (error < 0)
                snprintf(why, 256, "replayed data cannot be written: %s", error_text(error));
        }
    }
    struct cblock_image *image, *next;
    HASH_ITER(hh, r.images, image, next)
    {
        HASH_DEL(r.images, image);
        free(image);
    }
    free(r.ring);
    if (error < 0)
        return error;
    if (r.index_record >= r.record) {
        snprintf(
            why, 256,
            "the index knows record %llu but the journal ends before %llu: acknowledged writes "
            "are missing; replace this OSD's disk and let the cluster recover it",
            (unsigned long long)r.index_record, (unsigned long long)r.record);
        return -ELIMPET_CORRUPT;
    }
    error = read_state(e, &state);
    if (error < 0)
        return error;
    e->record = r.record;
    e->replayed_to = r.position;
    e->applied = r.record - 1;
    e->next_nid = state.next_nid;
    e->journal.sequence = r.sequence;
    e->journal.flushed = r.sequence - 1;
    if (r.groups > 0)
        log_info(e->env, "journal replayed", "groups=%llu records=%llu",
                 (unsigned long long)r.groups, (unsigned long long)r.records);
    return 0;
}
