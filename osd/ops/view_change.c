/* Changing an object through a view: into the transaction, and into what later steps see. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "osd/ops/view_impl.h"

static void record(struct object_view *view, struct view_change change)
{
    if (!view->records || view->failed)
        return;
    if (view->n_changes == view->changes_capacity) {
        uint32_t capacity = view->changes_capacity ? 2 * view->changes_capacity : 16;
        struct view_change *changes =
            capacity <= VIEW_CHANGES_MAX
                ? reallocarray(view->changes, capacity, sizeof *view->changes)
                : NULL;
        if (!changes) {
            view->failed = capacity <= VIEW_CHANGES_MAX ? -ENOMEM : -E2BIG;
            return;
        }
        view->changes = changes;
        view->changes_capacity = capacity;
    }
    view->changes[view->n_changes++] = change;
}

static void exists(struct object_view *view)
{
    view->state.exists = true;
}

/* ---- Data ---- */

void view_touch(struct object_view *view)
{
    txn_touch(view->txn);
    exists(view);
}

static void grow(struct object_view *view, uint64_t end)
{
    exists(view);
    if (end > view->state.size)
        view->state.size = end;
    view->data_changed = true;
}

void view_write(struct object_view *view, uint64_t offset, uint64_t len, uint64_t data_offset)
{
    assert(len > 0 && data_offset <= view->payload.len && len <= view->payload.len - data_offset);
    txn_write(view->txn, offset, len, data_offset);
    view->writes_data = true;
    record(view, (struct view_change){
                     .kind = CHANGE_WRITE,
                     .offset = offset,
                     .len = len,
                     .value = view_bytes(view->payload.data + data_offset, len),
                 });
    grow(view, offset + len);
}

/* Whole patterns, VIEW_PATTERN_BYTES of them or a little more, behind the payload. */
static bool put_pattern(struct object_view *view, const void *pattern, uint64_t pattern_len,
                        uint64_t len, uint64_t *data_offset, uint64_t *unit)
{
    uint64_t times = (VIEW_PATTERN_BYTES + pattern_len - 1) / pattern_len;
    if (times > (len + pattern_len - 1) / pattern_len)
        times = (len + pattern_len - 1) / pattern_len;
    if (!view->more.data)
        encoder_init(&view->more);
    *data_offset = view->payload.len + view->more.len;
    for (uint64_t i = 0; i < times; i++)
        encode_bytes(&view->more, pattern, pattern_len);
    if (view->more.failed)
        view->failed = -ENOMEM;
    *unit = times * pattern_len;
    return !view->more.failed;
}

void view_write_same(struct object_view *view, uint64_t offset, uint64_t len, const void *pattern,
                     uint64_t pattern_len)
{
    uint64_t data_offset, unit;
    assert(len > 0 && pattern_len > 0);
    if (!put_pattern(view, pattern, pattern_len, len, &data_offset, &unit))
        return;
    for (uint64_t at = 0; at < len; at += unit)
        txn_write(view->txn, offset + at, len - at < unit ? len - at : unit, data_offset);
    view->writes_data = true;
    record(view, (struct view_change){
                     .kind = CHANGE_WRITE,
                     .offset = offset,
                     .len = len,
                     .value = view_bytes(pattern, pattern_len),
                 });
    grow(view, offset + len);
}

void view_zero(struct object_view *view, uint64_t offset, uint64_t len)
{
    txn_zero(view->txn, offset, len);
    record(view, (struct view_change){.kind = CHANGE_ZERO, .offset = offset, .len = len});
    grow(view, offset + len);
}

void view_truncate(struct object_view *view, uint64_t size)
{
    txn_truncate(view->txn, size);
    record(view, (struct view_change){.kind = CHANGE_TRUNCATE, .offset = size});
    exists(view);
    view->state.size = size;
    view->data_changed = true;
}

void view_remove(struct object_view *view)
{
    txn_remove(view->txn);
    record(view, (struct view_change){.kind = CHANGE_REMOVE});
    view->renewed = true;
    view->data_changed = true;
    view->state.exists = false;
    view->state.size = 0;
    view->state.attrs_bytes = 0;
}

void view_copy(struct object_view *view, const struct object_id *from, const struct object_id *to,
               uint64_t size)
{
    txn_object(view->txn, from);
    txn_clone(view->txn, to);
    txn_object(view->txn, to);
    view->renewed = view->data_changed = true;
    exists(view);
    view->state.size = size;
    /* How much they are is not known: the next one who sets one looks. */
    view->state.attrs_bytes = OBJECT_ATTRS_BYTES_MAX;
}

int view_take_data(struct object_view *view, struct buf_slice *out)
{
    *out = BUF_SLICE_EMPTY;
    if (!view->writes_data)
        return 0;
    if (view->more.len == 0) {
        *out = buf_slice_ref(view->payload);
        return 0;
    }
    int error = buf_slice_alloc(view->payload.len + view->more.len, out);
    if (error)
        return error;
    if (view->payload.len > 0)
        memcpy(out->data, view->payload.data, view->payload.len);
    memcpy(out->data + view->payload.len, view->more.data, view->more.len);
    return 0;
}

/* ---- Attributes ---- */

void view_attr_set(struct object_view *view, const void *name, uint16_t name_len, const void *value,
                   uint32_t len)
{
    txn_set_attr(view->txn, name, name_len, value, len);
    record(view, (struct view_change){
                     .kind = CHANGE_ATTR,
                     .name = view_bytes(name, name_len),
                     .value = view_bytes(value, len),
                 });
    exists(view);
    view->grows = true;
    view->state.attrs_bytes += name_len + len;
}

void view_attr_remove(struct object_view *view, const void *name, uint16_t name_len)
{
    txn_remove_attr(view->txn, name, name_len);
    record(view, (struct view_change){
                     .kind = CHANGE_ATTR_GONE,
                     .name = view_bytes(name, name_len),
                 });
}

/* ---- The map ---- */

void view_omap_set(struct object_view *view, const void *key, uint16_t key_len, const void *value,
                   uint32_t len)
{
    txn_omap_set(view->txn, key, key_len, value, len);
    record(view, (struct view_change){
                     .kind = CHANGE_PAIR,
                     .name = view_bytes(key, key_len),
                     .value = view_bytes(value, len),
                 });
    exists(view);
    view->grows = true;
}

void view_omap_remove(struct object_view *view, const void *from, uint16_t from_len, const void *to,
                      uint16_t to_len)
{
    txn_omap_remove_range(view->txn, from, from_len, to, to_len);
    record(view, (struct view_change){
                     .kind = CHANGE_PAIRS_GONE,
                     .name = view_bytes(from, from_len),
                     .value = view_bytes(to, to_len),
                 });
}

void view_omap_set_header(struct object_view *view, const void *value, uint32_t len)
{
    txn_omap_header(view->txn, value, len);
    record(view, (struct view_change){.kind = CHANGE_HEADER, .value = view_bytes(value, len)});
    exists(view);
    view->grows |= len > 0;
}
