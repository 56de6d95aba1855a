#include "client/image/stripe.h"

#include <assert.h>

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t units_an_object(const struct stripe *s)
{
    return (UINT64_C(1) << s->order) / s->unit;
}

struct stripe_piece stripe_first(const struct stripe *s, uint64_t offset, uint64_t len)
{
    assert(len > 0 && s->unit > 0 && s->count > 0);
    uint64_t unit = offset / s->unit, in_unit = offset % s->unit;
    uint64_t row = unit / s->count, column = unit % s->count;
    uint64_t set = row / units_an_object(s), row_in_object = row % units_an_object(s);
    return (struct stripe_piece){
        .object = set * s->count + column,
        .offset = row_in_object * s->unit + in_unit,
        .len = min64(len, s->unit - in_unit),
    };
}

uint64_t stripe_image_offset(const struct stripe *s, uint64_t object, uint64_t offset,
                             uint64_t *run)
{
    uint64_t set = object / s->count, column = object % s->count;
    uint64_t row = set * units_an_object(s) + offset / s->unit;
    uint64_t in_unit = offset % s->unit;
    *run = s->count == 1 ? (UINT64_C(1) << s->order) - offset : s->unit - in_unit;
    return (row * s->count + column) * s->unit + in_unit;
}

uint64_t stripe_objects(const struct stripe *s, uint64_t size)
{
    uint64_t period = s->count << s->order;
    uint64_t rest = size % period;
    uint64_t units = rest / s->unit + (rest % s->unit != 0);
    return size / period * s->count + min64(units, s->count);
}

uint64_t stripe_object_bytes(const struct stripe *s, uint64_t object, uint64_t size)
{
    uint64_t period = s->count << s->order, object_size = UINT64_C(1) << s->order;
    uint64_t set = object / s->count, column = object % s->count;
    if (set < size / period)
        return object_size;
    if (set > size / period)
        return 0;
    uint64_t row_bytes = s->unit * s->count, rest = size % period;
    uint64_t rows = rest / row_bytes, in_row = rest % row_bytes, before = column * s->unit;
    uint64_t last = in_row <= before ? 0 : min64(in_row - before, s->unit);
    return rows * s->unit + last;
}
