#include "osd/ops/view_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES_MIN = 4096 };

int view_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
    size_t len = a_len < b_len ? a_len : b_len;
    int order = len > 0 ? memcmp(a, b, len) : 0;
    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

/* ---- Life ---- */

void view_init(struct object_view *view, const struct object_state *state, struct store_txn *txn,
               struct buf_slice payload)
{
    memset(view, 0, sizeof *view);
    view->base = view->state = *state;
    view->txn = txn;
    view->payload = payload;
}

static void drop_blocks(struct object_view *view)
{
    struct view_block *block;
    while ((block = view->blocks)) {
        view->blocks = block->next;
        free(block);
    }
    view->blocks_bytes = 0;
}

void view_restart(struct object_view *view)
{
    view->state = view->base;
    view->renewed = view->data_changed = view->writes_data = view->grows = false;
    view->n_changes = 0;
    view->n_needs = 0;
    view->failed = 0;
    if (view->more.data)
        encoder_reset(&view->more);
    drop_blocks(view);
}

static void drop_pieces(struct object_view *view)
{
    struct view_piece *piece;
    while ((piece = view->pieces)) {
        view->pieces = piece->next;
        buf_slice_drop(&piece->data);
        encoder_fini(&piece->extents);
        free(piece);
    }
    for (uint32_t i = 0; i < view->n_pairs; i++) {
        free(view->pairs[i].memory);
        free(view->pairs[i].index);
        encoder_fini(&view->pairs[i].pairs);
    }
    free(view->pairs);
    free(view->attrs_index);
    encoder_fini(&view->attrs);
    encoder_fini(&view->header);
}

void view_fini(struct object_view *view)
{
    drop_pieces(view);
    drop_blocks(view);
    encoder_fini(&view->more);
    free(view->needs);
    free(view->changes);
}

void *view_alloc(struct object_view *view, size_t len)
{
    struct view_block *block = view->blocks;
    if (!block || block->size - block->used < len) {
        size_t size = len > BLOCK_BYTES_MIN ? len : BLOCK_BYTES_MIN;
        block = malloc(sizeof *block + size);
        if (!block) {
            view->failed = -ENOMEM;
            return NULL;
        }
        block->next = view->blocks;
        block->used = 0;
        block->size = size;
        view->blocks = block;
        view->blocks_bytes += size;
    }
    void *memory = block->bytes + block->used;
    /* Aligned, since anything may be put there. */
    block->used += (len + 15) & ~(size_t)15;
    if (block->used > block->size)
        block->used = block->size;
    return memory;
}

/* ---- What is lacking ---- */

int view_want(struct object_view *view, const struct view_need *need)
{
    if (view->n_needs == VIEW_NEEDS_MAX)
        return view->failed = -E2BIG;
    if (view->n_needs == view->needs_capacity) {
        uint32_t capacity = view->needs_capacity ? 2 * view->needs_capacity : 4;
        struct view_need *needs = reallocarray(view->needs, capacity, sizeof *needs);
        if (!needs)
            return view->failed = -ENOMEM;
        view->needs = needs;
        view->needs_capacity = capacity;
    }
    view->needs[view->n_needs++] = *need;
    return VIEW_MISS;
}

/* ---- Data ---- */

const struct view_piece *view_piece_of(const struct object_view *view, enum view_need_kind kind,
                                       uint64_t offset, uint64_t len)
{
    for (const struct view_piece *piece = view->pieces; piece; piece = piece->next) {
        if (piece->kind == kind && piece->offset <= offset &&
            offset + len <= piece->offset + piece->len)
            return piece;
    }
    return NULL;
}

static struct view_piece *add_piece(struct object_view *view, enum view_need_kind kind,
                                    uint64_t offset, uint64_t len)
{
    struct view_piece *piece = calloc(1, sizeof *piece);
    if (!piece)
        return NULL;
    piece->kind = kind;
    piece->offset = offset;
    piece->len = len;
    piece->next = view->pieces;
    view->pieces = piece;
    return piece;
}

int view_give_data(struct object_view *view, uint64_t offset, uint64_t len, struct buf_slice data)
{
    /* What was asked for lies inside the object, so that it must all be there. */
    struct view_piece *piece =
        data.len == len ? add_piece(view, VIEW_NEEDS_DATA, offset, len) : NULL;
    if (!piece) {
        int error = data.len == len ? -ENOMEM : -EIO;
        buf_slice_drop(&data);
        return error;
    }
    piece->data = data;
    view->loaded_bytes += data.len;
    return 0;
}

int view_give_extents(struct object_view *view, const struct view_need *need,
                      struct encoder *extents)
{
    struct view_piece *piece = add_piece(view, need->kind, need->offset, need->len);
    if (!piece) {
        encoder_fini(extents);
        return -ENOMEM;
    }
    piece->clone = need->clone;
    if (need->kind == VIEW_NEEDS_SAME && extents->len > VIEW_SAME_BYTES) {
        /* The first ones will do: what is not named may be the same all the same. */
        encode_bytes(&piece->extents, extents->data, VIEW_SAME_BYTES);
        encoder_fini(extents);
    } else {
        piece->extents = *extents;
    }
    memset(extents, 0, sizeof *extents);
    view->loaded_bytes += piece->extents.len;
    return piece->extents.failed ? -ENOMEM : 0;
}

/* ---- Attributes and pairs ---- */

static int compare_entries(const void *a, const void *b)
{
    const struct view_attr *x = a, *y = b;
    return view_bytes_compare(x->name, y->name);
}

/* Of string16 name, string32 value ... -EIO when it is not that. */
static int make_index(const struct encoder *from, struct view_attr **out, uint32_t *n)
{
    struct decoder d;
    uint16_t name_len;
    uint32_t value_len, count = 0;
    bool sorted = true;
    *n = 0;
    *out = NULL;
    decoder_init(&d, from->data, from->len);
    for (; decoder_left(&d) > 0 && !d.failed; count++) {
        decode_string16(&d, &name_len);
        decode_string32(&d, &value_len);
    }
    if (d.failed)
        return -EIO;
    struct view_attr *index = calloc(count + 1, sizeof *index);
    if (!index)
        return -ENOMEM;
    decoder_init(&d, from->data, from->len);
    for (uint32_t i = 0; i < count; i++) {
        index[i].name.data = decode_string16(&d, &name_len);
        index[i].name.len = name_len;
        index[i].value.data = decode_string32(&d, &index[i].value.len);
        sorted = sorted && (i == 0 || compare_entries(&index[i - 1], &index[i]) < 0);
    }
    if (!sorted)
        qsort(index, count, sizeof *index, compare_entries);
    *out = index;
    *n = count;
    return 0;
}

uint32_t view_index_find(const struct view_attr *index, uint32_t n, struct view_bytes key)
{
    uint32_t low = 0, high = n;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (view_bytes_compare(index[middle].name, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int view_give_attrs(struct object_view *view, struct encoder *attrs)
{
    assert(!view->has_attrs);
    view->attrs = *attrs;
    memset(attrs, 0, sizeof *attrs);
    int error = make_index(&view->attrs, &view->attrs_index, &view->n_attrs);
    view->has_attrs = !error;
    view->loaded_bytes += view->attrs.len;
    view->base.attrs_bytes = 0;
    for (uint32_t i = 0; i < view->n_attrs; i++)
        view->base.attrs_bytes += view->attrs_index[i].name.len + view->attrs_index[i].value.len;
    return error;
}

const struct view_pairs *view_pairs_of(const struct object_view *view, struct view_bytes key)
{
    uint32_t low = 0, high = view->n_pairs;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (view_bytes_compare(view->pairs[middle].from, key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    /* Ranges may overlap: an earlier one may reach further. */
    while (low-- > 0) {
        const struct view_pairs *pairs = &view->pairs[low];
        if (pairs->unbounded || view_bytes_compare(key, pairs->to) < 0)
            return pairs;
    }
    return NULL;
}

/* Where the range ends of which everything was loaded. */
static int bound(struct view_pairs *pairs, const struct view_need *need, bool end)
{
    struct view_bytes last = {0};
    if (pairs->n > 0)
        last = pairs->index[pairs->n - 1].name;
    pairs->memory = malloc((size_t)need->from_len + need->to_len + last.len + 1);
    if (!pairs->memory)
        return -ENOMEM;
    uint8_t *at = pairs->memory;
    if (need->from_len > 0)
        memcpy(at, need->from, need->from_len);
    pairs->from = view_bytes(at, need->from_len);
    at += need->from_len;
    if (end || pairs->n == 0) {
        pairs->unbounded = need->to_len == 0;
        if (need->to_len > 0)
            memcpy(at, need->to, need->to_len);
        pairs->to = view_bytes(at, need->to_len);
        return 0;
    }
    /* The key after the last one: itself and a zero byte. */
    memcpy(at, last.data, last.len);
    at[last.len] = 0;
    pairs->to = view_bytes(at, (size_t)last.len + 1);
    return 0;
}

static int add_pairs(struct object_view *view, const struct view_pairs *pairs)
{
    if (view->n_pairs == view->pairs_capacity) {
        uint32_t capacity = view->pairs_capacity ? 2 * view->pairs_capacity : 4;
        struct view_pairs *more = reallocarray(view->pairs, capacity, sizeof *more);
        if (!more)
            return -ENOMEM;
        view->pairs = more;
        view->pairs_capacity = capacity;
    }
    uint32_t at = view->n_pairs++;
    for (; at > 0 && view_bytes_compare(view->pairs[at - 1].from, pairs->from) > 0; at--)
        view->pairs[at] = view->pairs[at - 1];
    view->pairs[at] = *pairs;
    return 0;
}

int view_give_omap(struct object_view *view, const struct view_need *need, struct encoder *pairs,
                   bool end, struct encoder *header)
{
    if (need->header && !view->has_header) {
        view->header = *header;
        view->has_header = true;
        view->loaded_bytes += header->len;
        memset(header, 0, sizeof *header);
    }
    if (need->max == 0)
        return 0;
    struct view_pairs given = {.pairs = *pairs};
    memset(pairs, 0, sizeof *pairs);
    view->loaded_bytes += given.pairs.len;
    int error = make_index(&given.pairs, &given.index, &given.n);
    if (!error)
        error = bound(&given, need, end);
    if (!error)
        error = add_pairs(view, &given);
    if (error) {
        free(given.index);
        free(given.memory);
        encoder_fini(&given.pairs);
    }
    return error;
}
