/*
 * Mounting: superblock, journal replay, and what is derived from the index.
 *
 * Replay reads groups from the tail on, and stops at the first that is not whole. That is the torn
 * end of the journal if no later group says that this one was durable; otherwise acknowledged data
 * are damaged, and the mount is refused. Payload of every record is put in place again; index
 * changes are applied from the first record that the index lacks.
 *
 * The journal may be larger than all memory that the store may use, so it is read through a window.
 * What is put in place is known only at the end of the journal (forget_images()): until then
 * payload is remembered by its place in the ring, and then it is read once more.
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

enum {
    WINDOW_STEP = MOUNT_IO_BLOCKS * BLOCK_BYTES,
    /* The largest group. */
    WINDOW_BYTES = 2 * GROUP_META_MAX + GROUP_PAYLOAD_MAX * BLOCK_BYTES,
    PLACE_BLOCKS = 2048, /* So many are read, sorted and put in place together. */
};

/* A block to put in place. */
struct place {
    uint32_t block;
    const uint8_t *data;
};

struct replay {
    struct engine *e;
    struct mount_io *io;
    uint8_t *window;    /* A part of the journal; takes memory as far as it was ever filled. */
    uint64_t window_at; /* Its place in the ring. */
    uint64_t window_len;
    int error; /* The journal could not be read. */
    uint64_t position;
    uint64_t sequence; /* Expected next. */
    uint64_t record;
    uint64_t flushed; /* Highest that any valid group vouches for. */
    uint64_t index_record;
    struct cblock_image {
        UT_hash_handle hh;
        uint32_t block;
        uint32_t crc;
        uint64_t at; /* Its place in the ring. */
    } * images;
    uint64_t groups, records;
};

/*
 * A part of the ring, which ends within the ring and has a place on a block's border. It is valid
 * until the next call. NULL: it cannot be read.
 */
static const uint8_t *ring_part(struct replay *r, uint64_t at, uint64_t len)
{
    uint64_t bytes = r->e->journal.bytes;
    assert(len <= WINDOW_BYTES && at % BLOCK_BYTES == 0 && at + len <= bytes);
    if (at >= r->window_at && at + len <= r->window_at + r->window_len)
        return r->window + (at - r->window_at);
    if (len < WINDOW_STEP)
        len = bytes - at < WINDOW_STEP ? bytes - at : WINDOW_STEP;
    r->window_at = at;
    r->window_len = 0;
    while (r->window_len < len) {
        uint64_t n = len - r->window_len < WINDOW_STEP ? len - r->window_len : WINDOW_STEP;
        r->error = mount_read(r->io, JOURNAL_OFFSET + at + r->window_len, n);
        if (r->error < 0)
            return NULL;
        memcpy(r->window + r->window_len, r->io->data, n);
        r->window_len += n;
    }
    return r->window;
}

static uint64_t meta_size(const struct group_layout *g)
{
    return (g->meta_bytes + (uint64_t)BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
}

static uint64_t group_size(const struct group_layout *g)
{
    return meta_size(g) + (uint64_t)g->n_payload * BLOCK_BYTES;
}

/*
 * The group at this place in the ring if header and metadata are whole; its payload, if it is asked
 * for, is looked at separately. NULL also when the journal cannot be read (r->error).
 */
static const struct group_layout *group_at(struct replay *r, uint64_t at, bool payload)
{
    struct group_layout header;
    const uint8_t *part = ring_part(r, at, BLOCK_BYTES);
    if (!part)
        return NULL;
    memcpy(&header, part, sizeof header);
    if (header.magic != GROUP_MAGIC || header.salt != r->e->super.salt ||
        header.meta_bytes < sizeof header || header.meta_bytes > 2 * GROUP_META_MAX ||
        header.n_payload > GROUP_PAYLOAD_MAX || at + group_size(&header) > r->e->journal.bytes)
        return NULL;
    part = ring_part(r, at, payload ? group_size(&header) : meta_size(&header));
    /* A disk need not return the same bytes twice: the limits must be those of the header here. */
    if (!part || memcmp(part, &header, sizeof header) != 0)
        return NULL;
    uint32_t whole = header.crc;
    header.crc = 0;
    uint32_t crc = crc32_iscsi((unsigned char *)&header, sizeof header, ~UINT32_C(0));
    crc = ~crc32_iscsi((unsigned char *)(uintptr_t)(part + sizeof header),
                       (int)(header.meta_bytes - sizeof header), crc);
    return crc == whole ? (const struct group_layout *)part : NULL;
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
        uint32_t run = RUN_CRC_FIRST;
        if (direct.block < r->e->allocator.first || direct.block >= r->e->allocator.n_blocks ||
            direct.count > r->e->allocator.n_blocks - direct.block)
            return false;
        for (uint32_t at = 0; at < direct.count; at += MOUNT_IO_BLOCKS) {
            uint32_t n = direct.count - at < MOUNT_IO_BLOCKS ? direct.count - at : MOUNT_IO_BLOCKS;
            if (mount_read(r->io, (uint64_t)(direct.block + at) << BLOCK_SHIFT,
                           (size_t)n * BLOCK_BYTES) < 0)
                return false;
            for (uint32_t k = 0; k < n; k++)
                run = run_crc_add(run, block_crc(r->io->data + (size_t)k * BLOCK_BYTES));
        }
        if (run_crc_end(run) != direct.crc)
            return false;
    }
    return true;
}

/* Whether everything that the group names is there. */
static bool group_whole(struct replay *r, const struct group_layout *g, bool vouched)
{
    struct decoder d;
    struct record_view v;
    uint64_t payload_at = meta_size(g);
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

static int remember_image(struct replay *r, const struct deferred_layout *d, uint64_t at)
{
    struct cblock_image *image;
    uint32_t block = d->block;
    HASH_FIND(hh, r->images, &block, sizeof block, image);
    if (!image) {
        image = calloc(1, sizeof *image);
        if (!image)
            return -ENOMEM;
        image->block = block;
        HASH_ADD(hh, r->images, block, sizeof image->block, image);
        if (!TABLE_TOOK(image)) {
            free(image);
            return -ENOMEM;
        }
    }
    image->crc = d->crc;
    image->at = at;
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
    uint64_t payload = r->position % r->e->journal.bytes + meta_size(g);
    decoder_init(&d, g + 1, g->meta_bytes - sizeof *g);
    for (uint32_t i = 0; i < g->n_records; i++) {
        bool fits = record_next(&d, &v);
        assert(fits);
        forget_images(r, &v);
        for (uint32_t n = 0; n < v.head.n_deferred; n++, payload += BLOCK_BYTES)
            if (remember_image(r, &v.deferred[n], payload) < 0)
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
static int find_flushed(struct replay *r)
{
    for (uint64_t at = 0; at < r->e->journal.bytes; at += BLOCK_BYTES) {
        const struct group_layout *g = group_at(r, at, false);
        if (r->error < 0)
            return r->error;
        if (g && g->flushed > r->flushed)
            r->flushed = g->flushed;
    }
    return 0;
}

static int walk(struct replay *r, char why[256])
{
    for (;;) {
        const struct group_layout *g = group_at(r, r->position % r->e->journal.bytes, true);
        if (r->error < 0)
            return r->error;
        bool vouched = r->sequence <= r->flushed;
        bool whole = g && g->sequence == r->sequence &&
                     ((g->flags & GROUP_PAD) ||
                      (g->first_record == r->record && group_whole(r, g, vouched)));
        if (!whole && vouched) {
            snprintf(why, 256,
                     "the journal is damaged at group %llu, which held acknowledged writes: have "
                     "this OSD's data made anew from the others' (limpet osd rm, then limpet-osd "
                     "--mkfs in an empty folder)",
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

static int order_by_place(const struct cblock_image *a, const struct cblock_image *b)
{
    return a->at < b->at ? -1 : a->at > b->at;
}

static int order_by_block(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->block < y->block ? -1 : x->block > y->block;
}

/* Neighbours are written together. */
static int place_blocks(struct replay *r, struct place *places, uint32_t n)
{
    qsort(places, n, sizeof *places, order_by_block);
    for (uint32_t i = 0, run; i < n; i += run) {
        for (run = 0;
             run < MOUNT_IO_BLOCKS && i + run < n && places[i + run].block == places[i].block + run;
             run++)
            memcpy(r->io->data + (size_t)run * BLOCK_BYTES, places[i + run].data, BLOCK_BYTES);
        int error = mount_write(r->io, (uint64_t)places[i].block << BLOCK_SHIFT, r->io->data,
                                (size_t)run * BLOCK_BYTES);
        if (error < 0)
            return error;
    }
    return 0;
}

/* Reads them in the order of the ring and writes them, some at a time, in that of the disk. */
static int place_images(struct replay *r)
{
    struct cblock_image *image;
    struct place *places = malloc(PLACE_BLOCKS * sizeof *places);
    uint8_t *data = malloc((size_t)PLACE_BLOCKS * BLOCK_BYTES);
    int error = places && data ? 0 : -ENOMEM;
    uint32_t n = 0;
    HASH_SORT(r->images, order_by_place);
    for (image = r->images; error == 0 && image; image = image->hh.next) {
        const uint8_t *payload = ring_part(r, image->at, BLOCK_BYTES);
        if (!payload) {
            error = r->error;
            break;
        }
        uint8_t *copy = data + (size_t)n * BLOCK_BYTES;
        memcpy(copy, payload, BLOCK_BYTES);
        if (block_crc(copy) != image->crc && !planted(PLANTED_STORE_TRUST_SECOND_READ)) {
            error = -ELIMPET_CORRUPT; /* It was right a moment ago (E6), and may be next time. */
            break;
        }
        places[n++] = (struct place){.block = image->block, .data = copy};
        if (n == PLACE_BLOCKS || !image->hh.next) {
            error = place_blocks(r, places, n);
            n = 0;
        }
    }
    free(places);
    free(data);
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

static int replay_journal(struct replay *r, char why[256])
{
    r->window = aligned_alloc(BLOCK_BYTES, WINDOW_BYTES);
    if (!r->window)
        return -ENOMEM;
    int error = find_flushed(r);
    if (error == 0)
        error = walk(r, why);
    if (r->error < 0)
        snprintf(why, 256, "the journal cannot be read: %s", error_text(r->error));
    if (error < 0 || planted(PLANTED_STORE_SKIP_REPLAY_PLACE))
        return error;
    error = place_images(r);
    if (error < 0)
        snprintf(why, 256, "replayed data cannot be put in place: %s", error_text(error));
    return error;
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
    if (!(e->super.flags & SUPER_CLEAN))
        error = replay_journal(&r, why);
    struct cblock_image *image, *next;
    HASH_ITER(hh, r.images, image, next)
    {
        HASH_DEL(r.images, image);
        free(image);
    }
    free(r.window);
    if (error < 0)
        return error;
    if (r.index_record >= r.record) {
        snprintf(
            why, 256,
            "the index knows record %llu but the journal ends before %llu, so acknowledged writes "
            "are missing: have this OSD's data made anew from the others' (limpet osd rm, then "
            "limpet-osd --mkfs in an empty folder)",
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
