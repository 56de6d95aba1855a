/* Looking at an object through a view: the store's state under the changes of this run. */
#include <assert.h>
#include <string.h>

#include "osd/ops/view_impl.h"

/* ---- Data ---- */

/* The part of the range that the store has, and that nothing removed. */
static uint64_t base_len(const struct object_view *view, uint64_t offset, uint64_t len)
{
    if (!view_shows_base(view) || offset >= view->base.size)
        return 0;
    uint64_t left = view->base.size - offset;
    return len < left ? len : left;
}

static int want_range(struct object_view *view, enum view_need_kind kind, uint64_t offset,
                      uint64_t len)
{
    struct view_need need = {.kind = kind, .offset = offset, .len = len};
    return view_want(view, &need);
}

static void apply_write(const struct view_change *change, uint8_t *out, uint64_t offset,
                        uint64_t len)
{
    uint64_t from = change->offset > offset ? change->offset : offset;
    uint64_t end = change->offset + change->len;
    if (end > offset + len)
        end = offset + len;
    for (uint64_t at = from; at < end;) {
        uint64_t in_pattern = (at - change->offset) % change->value.len;
        uint64_t n = change->value.len - in_pattern;
        if (n > end - at)
            n = end - at;
        memcpy(out + (at - offset), change->value.data + in_pattern, n);
        at += n;
    }
}

static void apply_zero(uint64_t from, uint64_t end, uint8_t *out, uint64_t offset, uint64_t len)
{
    if (from < offset)
        from = offset;
    if (end > offset + len)
        end = offset + len;
    if (from < end)
        memset(out + (from - offset), 0, end - from);
}

static void apply_changes(const struct object_view *view, uint8_t *out, uint64_t offset,
                          uint64_t len)
{
    for (uint32_t i = 0; i < view->n_changes; i++) {
        const struct view_change *change = &view->changes[i];
        switch (change->kind) {
        case CHANGE_WRITE:
            apply_write(change, out, offset, len);
            break;
        case CHANGE_ZERO:
            apply_zero(change->offset, change->offset + change->len, out, offset, len);
            break;
        case CHANGE_TRUNCATE:
            apply_zero(change->offset, UINT64_MAX, out, offset, len);
            break;
        case CHANGE_REMOVE:
            apply_zero(0, UINT64_MAX, out, offset, len);
            break;
        default:
            break;
        }
    }
}

static uint64_t clip(const struct object_view *view, uint64_t offset, uint64_t len)
{
    if (offset >= view->state.size)
        return 0;
    uint64_t left = view->state.size - offset;
    return len < left ? len : left;
}

int view_read(struct object_view *view, uint64_t offset, uint64_t len, struct buf_slice *out)
{
    *out = BUF_SLICE_EMPTY;
    len = clip(view, offset, len);
    if (len == 0)
        return 0;
    uint64_t stored = base_len(view, offset, len);
    const struct view_piece *piece = NULL;
    if (stored > 0) {
        piece = view_piece_of(view, VIEW_NEEDS_DATA, offset, stored);
        if (!piece)
            return want_range(view, VIEW_NEEDS_DATA, offset, stored);
    }
    if (!view->data_changed) {
        assert(piece && stored == len);
        *out = buf_slice_sub(piece->data, offset - piece->offset, len);
        return 0;
    }
    if (buf_slice_alloc(len, out))
        return -ENOMEM;
    if (stored > 0)
        memcpy(out->data, piece->data.data + (offset - piece->offset), stored);
    memset(out->data + stored, 0, len - stored);
    apply_changes(view, out->data, offset, len);
    return 0;
}

int view_extents(struct object_view *view, uint64_t offset, uint64_t len, struct encoder *out)
{
    len = clip(view, offset, len);
    if (len == 0)
        return 0;
    if (view->data_changed) {
        encode_u64(out, offset);
        encode_u64(out, len);
        return out->failed ? -ENOMEM : 0;
    }
    const struct view_piece *piece = view_piece_of(view, VIEW_NEEDS_EXTENTS, offset, len);
    if (!piece)
        return want_range(view, VIEW_NEEDS_EXTENTS, offset, len);
    struct decoder d;
    decoder_init(&d, piece->extents.data, piece->extents.len);
    while (decoder_left(&d) > 0) {
        uint64_t from = decode_u64(&d), end = from + decode_u64(&d);
        if (d.failed || end < from)
            return -EIO;
        if (from < offset)
            from = offset;
        if (end > offset + len)
            end = offset + len;
        if (from >= end)
            continue;
        encode_u64(out, from);
        encode_u64(out, end - from);
    }
    return out->failed ? -ENOMEM : 0;
}

int view_same(struct object_view *view, uint64_t clone, uint64_t other, uint64_t len,
              struct view_bytes *out)
{
    struct view_need need = {.kind = VIEW_NEEDS_SAME, .len = len, .clone = clone, .other = other};
    for (const struct view_piece *piece = view->pieces; piece; piece = piece->next) {
        if (piece->kind != VIEW_NEEDS_SAME || piece->clone != clone)
            continue;
        *out = view_bytes(piece->extents.data, piece->extents.len);
        return 0;
    }
    return view_want(view, &need);
}

/* ---- Changes of names ---- */

static int may_look(struct object_view *view)
{
    return view->n_changes > VIEW_CHANGES_SEEN_MAX ? -E2BIG : 0;
}

static bool in_range(struct view_bytes key, const struct view_change *change)
{
    return view_bytes_compare(key, change->name) >= 0 &&
           (change->value.len == 0 || view_bytes_compare(key, change->value) < 0);
}

enum fate { FATE_UNTOUCHED, FATE_SET, FATE_GONE };

/* What this run has done to an attribute or a pair. */
static enum fate fate_of(const struct object_view *view, bool pair, struct view_bytes name,
                         struct view_bytes *value)
{
    for (uint32_t i = view->n_changes; i-- > 0;) {
        const struct view_change *change = &view->changes[i];
        if (change->kind == CHANGE_REMOVE)
            return FATE_GONE;
        if (change->kind == (pair ? CHANGE_PAIR : CHANGE_ATTR) &&
            view_bytes_compare(change->name, name) == 0) {
            *value = change->value;
            return FATE_SET;
        }
        if (pair ? change->kind == CHANGE_PAIRS_GONE && in_range(name, change)
                 : change->kind == CHANGE_ATTR_GONE && view_bytes_compare(change->name, name) == 0)
            return FATE_GONE;
    }
    return FATE_UNTOUCHED;
}

/* The smallest name, not less than `from`, that this run has set; false: none. */
static bool next_set(const struct object_view *view, bool pair, struct view_bytes from,
                     struct view_bytes *name)
{
    bool found = false;
    for (uint32_t i = 0; i < view->n_changes; i++) {
        const struct view_change *change = &view->changes[i];
        if (change->kind != (pair ? CHANGE_PAIR : CHANGE_ATTR) ||
            view_bytes_compare(change->name, from) < 0)
            continue;
        if (!found || view_bytes_compare(change->name, *name) < 0)
            *name = change->name;
        found = true;
    }
    return found;
}

/* ---- Attributes ---- */

static int load_attrs(struct object_view *view)
{
    if (view->has_attrs || !view_shows_base(view))
        return 0;
    struct view_need need = {.kind = VIEW_NEEDS_ATTRS};
    return view_want(view, &need);
}

static int find_attr(const struct object_view *view, struct view_bytes name,
                     struct view_bytes *value)
{
    uint32_t at = view_index_find(view->attrs_index, view->n_attrs, name);
    if (at == view->n_attrs || view_bytes_compare(view->attrs_index[at].name, name) != 0)
        return -ENODATA;
    *value = view->attrs_index[at].value;
    return 0;
}

static int base_attr(const struct object_view *view, struct view_bytes name,
                     struct view_bytes *value)
{
    return view_shows_base(view) ? find_attr(view, name, value) : -ENODATA;
}

int view_attr(struct object_view *view, const void *name, uint16_t name_len, struct view_bytes *out)
{
    int error = may_look(view);
    if (error)
        return error;
    switch (fate_of(view, false, view_bytes(name, name_len), out)) {
    case FATE_SET:
        return 0;
    case FATE_GONE:
        return -ENODATA;
    case FATE_UNTOUCHED:
        break;
    }
    error = load_attrs(view);
    return error ? error : base_attr(view, view_bytes(name, name_len), out);
}

int view_base_attr(struct object_view *view, const void *name, uint16_t name_len,
                   struct view_bytes *out)
{
    if (!view->has_attrs) {
        struct view_need need = {.kind = VIEW_NEEDS_ATTRS};
        return view_want(view, &need);
    }
    return find_attr(view, view_bytes(name, name_len), out);
}

/* The same name and a zero byte: the smallest that is greater. NULL when memory is short. */
static bool successor(struct object_view *view, struct view_bytes name, struct view_bytes *out)
{
    uint8_t *memory = view_alloc(view, (size_t)name.len + 1);
    if (!memory)
        return false;
    if (name.len > 0)
        memcpy(memory, name.data, name.len);
    memory[name.len] = 0;
    *out = view_bytes(memory, (size_t)name.len + 1);
    return true;
}

/* Of the store's, the first whose name is greater than `after`. */
static bool base_attr_after(const struct object_view *view, struct view_bytes after,
                            struct view_bytes *name)
{
    if (!view_shows_base(view))
        return false;
    uint32_t at = view_index_find(view->attrs_index, view->n_attrs, after);
    if (at < view->n_attrs && view_bytes_compare(view->attrs_index[at].name, after) == 0)
        at++;
    if (at == view->n_attrs)
        return false;
    *name = view->attrs_index[at].name;
    return true;
}

int view_attr_next(struct object_view *view, struct view_bytes after, struct view_bytes *name,
                   struct view_bytes *value)
{
    int error = may_look(view);
    if (!error)
        error = load_attrs(view);
    if (error)
        return error;
    for (;;) {
        struct view_bytes from, ours, base;
        bool has_ours = false, has_base = base_attr_after(view, after, &base);
        if (view->n_changes > 0) {
            if (!successor(view, after, &from))
                return -ENOMEM;
            has_ours = next_set(view, false, from, &ours);
        }
        if (!has_ours && !has_base)
            return -ENODATA;
        bool take_ours = has_ours && (!has_base || view_bytes_compare(ours, base) < 0);
        *name = take_ours ? ours : base;
        error = view_attr(view, name->data, (uint16_t)name->len, value);
        if (error != -ENODATA)
            return error;
        after = *name;
    }
}

int view_attr_room(struct object_view *view, const void *name, uint16_t name_len, uint32_t len)
{
    uint64_t more = (uint64_t)name_len + len;
    if (more > OBJECT_ATTRS_BYTES_MAX)
        return -E2BIG;
    if (view->state.attrs_bytes + more <= OBJECT_ATTRS_BYTES_MAX)
        return 0;
    /* The sum that we know is too high when values were replaced: now it is made exact. */
    struct view_bytes at = {0}, value;
    uint64_t sum = more;
    int error;
    while ((error = view_attr_next(view, at, &at, &value)) == 0) {
        if (view_compare(at.data, at.len, name, name_len) != 0)
            sum += at.len + value.len;
    }
    if (error != -ENODATA)
        return error;
    if (sum > OBJECT_ATTRS_BYTES_MAX)
        return -E2BIG;
    view->state.attrs_bytes = (uint32_t)(sum - more);
    return 0;
}

/* ---- The map ---- */

int view_omap_header(struct object_view *view, struct view_bytes *out)
{
    int error = may_look(view);
    if (error)
        return error;
    *out = view_bytes(NULL, 0);
    for (uint32_t i = view->n_changes; i-- > 0;) {
        const struct view_change *change = &view->changes[i];
        if (change->kind == CHANGE_REMOVE)
            return 0;
        if (change->kind == CHANGE_HEADER) {
            *out = change->value;
            return 0;
        }
    }
    if (!view_shows_base(view))
        return 0;
    if (!view->has_header) {
        struct view_need need = {.kind = VIEW_NEEDS_OMAP, .header = true};
        return view_want(view, &need);
    }
    *out = view_bytes(view->header.data, view->header.len);
    return 0;
}

static int want_pairs(struct object_view *view, struct view_bytes from, struct view_bytes to,
                      uint32_t max)
{
    struct view_need need = {.kind = VIEW_NEEDS_OMAP, .max = max};
    uint8_t *memory = view_alloc(view, (size_t)from.len + to.len);
    if (!memory)
        return -ENOMEM;
    if (from.len > 0)
        memcpy(memory, from.data, from.len);
    if (to.len > 0)
        memcpy(memory + from.len, to.data, to.len);
    need.from = memory;
    need.from_len = (uint16_t)from.len;
    need.to = memory + from.len;
    need.to_len = (uint16_t)to.len;
    return view_want(view, &need);
}

static int base_pair(struct object_view *view, struct view_bytes key, struct view_bytes *value)
{
    if (!view_shows_base(view))
        return -ENODATA;
    const struct view_pairs *pairs = view_pairs_of(view, key);
    if (!pairs) {
        struct view_bytes to;
        return successor(view, key, &to) ? want_pairs(view, key, to, 1) : -ENOMEM;
    }
    uint32_t at = view_index_find(pairs->index, pairs->n, key);
    if (at == pairs->n || view_bytes_compare(pairs->index[at].name, key) != 0)
        return -ENODATA;
    *value = pairs->index[at].value;
    return 0;
}

int view_omap(struct object_view *view, const void *key, uint16_t key_len, struct view_bytes *out)
{
    int error = may_look(view);
    if (error)
        return error;
    switch (fate_of(view, true, view_bytes(key, key_len), out)) {
    case FATE_SET:
        return 0;
    case FATE_GONE:
        return -ENODATA;
    case FATE_UNTOUCHED:
        break;
    }
    return base_pair(view, view_bytes(key, key_len), out);
}

/* Of the store's, the first whose key is not less than `from`. */
static int base_next(struct object_view *view, struct view_bytes from, uint32_t max,
                     const struct view_attr **out)
{
    *out = NULL;
    if (!view_shows_base(view))
        return 0;
    for (;;) {
        const struct view_pairs *pairs = view_pairs_of(view, from);
        if (!pairs)
            return want_pairs(view, from, view_bytes(NULL, 0), max);
        uint32_t at = view_index_find(pairs->index, pairs->n, from);
        if (at < pairs->n) {
            *out = &pairs->index[at];
            return 0;
        }
        if (pairs->unbounded)
            return 0;
        from = pairs->to;
    }
}

int view_omap_next(struct object_view *view, const void *from, uint16_t from_len, uint32_t max,
                   struct view_bytes *key, struct view_bytes *value)
{
    struct view_bytes at = view_bytes(from, from_len);
    int error = may_look(view);
    while (!error) {
        const struct view_attr *base;
        error = base_next(view, at, max, &base);
        if (error)
            return error;
        if (view->n_changes == 0) {
            if (!base)
                return -ENODATA;
            *key = base->name;
            *value = base->value;
            return 0;
        }
        struct view_bytes ours;
        bool has_ours = next_set(view, true, at, &ours);
        if (!base && !has_ours)
            return -ENODATA;
        bool take_ours = has_ours && (!base || view_bytes_compare(ours, base->name) < 0);
        *key = take_ours ? ours : base->name;
        error = view_omap(view, key->data, (uint16_t)key->len, value);
        if (error != -ENODATA)
            return error;
        error = successor(view, *key, &at) ? 0 : -ENOMEM;
    }
    return error;
}
