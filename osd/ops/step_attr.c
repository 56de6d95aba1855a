/*
 * Steps on attributes. What clients call NAME is kept as "_NAME", so that attributes of our own can
 * stand beside it.
 */
#include "osd/ops/run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "osd/ops/attr.h"

static int name_error(uint64_t len)
{
    return len > OPS_ATTR_NAME_MAX ? -ENAMETOOLONG : 0;
}

/* The name, which is the first `length` bytes of the data, is inside them. */
int check_attr_named(const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    return step->length <= step->data_len ? 0 : -EINVAL;
}

uint16_t attr_stored_name(const void *name, size_t len, uint8_t out[STORE_ATTR_NAME_MAX])
{
    out[0] = OPS_ATTR_PREFIX;
    if (len > 0)
        memcpy(out + 1, name, len);
    return (uint16_t)(len + 1);
}

int attr_get(struct object_view *view, const void *name, size_t len, struct view_bytes *out)
{
    uint8_t stored[STORE_ATTR_NAME_MAX];
    if (len > OPS_ATTR_NAME_MAX)
        return -ENODATA;
    return view_attr(view, stored, attr_stored_name(name, len, stored), out);
}

int attr_set(struct object_view *view, const void *name, size_t len, const void *value,
             size_t value_len)
{
    if (name_error(len))
        return name_error(len);
    if (value_len > STORE_ATTR_VALUE_MAX)
        return -EFBIG;
    uint8_t *stored = view_alloc(view, len + 1);
    if (!stored)
        return -ENOMEM;
    uint16_t stored_len = attr_stored_name(name, len, stored);
    int error = view_attr_room(view, stored, stored_len, (uint32_t)value_len);
    if (!error)
        view_attr_set(view, stored, stored_len, value, (uint32_t)value_len);
    return error;
}

int attr_remove(struct object_view *view, const void *name, size_t len)
{
    if (name_error(len))
        return name_error(len);
    uint8_t *stored = view_alloc(view, len + 1);
    if (!stored)
        return -ENOMEM;
    view_attr_remove(view, stored, attr_stored_name(name, len, stored));
    return 0;
}

/* ---- Steps ---- */

int step_attr_get(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    struct view_bytes value;
    struct buf_slice out = BUF_SLICE_EMPTY;
    int error = attr_get(&run->view, data, step->data_len, &value);
    if (!error && value.len > 0)
        error = buf_slice_copy(value.data, value.len, &out);
    return error ? error : run_give(run, out);
}

/* Name and value of each, but for those of our own. */
static int list(struct object_view *view, struct encoder *out)
{
    struct view_bytes name = view_bytes_of(NULL, 0), value;
    uint32_t n = 0;
    int error;
    encode_u32(out, 0);
    while ((error = view_attr_next(view, name, &name, &value)) == 0) {
        if (name.data[0] != OPS_ATTR_PREFIX)
            continue;
        encode_string16(out, name.data + 1, name.len - 1);
        encode_string32(out, value.data, value.len);
        n++;
    }
    if (error == -ENODATA && !out->failed)
        memcpy(out->data, &n, sizeof n);
    return error == -ENODATA ? 0 : error;
}

int step_attr_list(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)step;
    (void)data;
    struct encoder out;
    encoder_init(&out);
    int error = list(&run->view, &out);
    if (!error)
        return run_give_encoded(run, &out);
    encoder_fini(&out);
    return error;
}

static bool holds(int order, unsigned comparison)
{
    switch (comparison) {
    case WIRE_COMPARE_EQUAL:
        return order == 0;
    case WIRE_COMPARE_NOT_EQUAL:
        return order != 0;
    case WIRE_COMPARE_GREATER:
        return order > 0;
    case WIRE_COMPARE_GREATER_EQUAL:
        return order >= 0;
    case WIRE_COMPARE_LESS:
        return order < 0;
    default:
        return order <= 0;
    }
}

bool compare_is_known(uint64_t comparison)
{
    return comparison >= WIRE_COMPARE_EQUAL && comparison <= WIRE_COMPARE_LESS_EQUAL;
}

bool compare_bytes(unsigned comparison, struct view_bytes a, struct view_bytes b)
{
    return holds(view_compare(a.data, a.len, b.data, b.len), comparison);
}

/* Decimal digits, as far as there are any. */
static uint64_t number_of(struct view_bytes text)
{
    char digits[24] = {0};
    memcpy(digits, text.data, text.len < sizeof digits ? text.len : sizeof digits - 1);
    return strtoull(digits, NULL, 10);
}

int step_attr_compare(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    struct view_bytes ours = {0};
    struct view_bytes given = view_bytes_of(data + step->length, step->data_len - step->length);
    bool numbers = step->offset & WIRE_COMPARE_NUMBERS;
    uint64_t comparison = step->offset & ~(uint64_t)WIRE_COMPARE_NUMBERS;
    if (!run->view.state.exists)
        return -ENOENT;
    int error = attr_get(&run->view, data, step->length, &ours);
    if (error && error != -ENODATA)
        return error;
    if (error)
        ours.len = 0;
    if (!compare_is_known(comparison) || (numbers && given.len != sizeof(uint64_t)))
        return -EINVAL;
    if (!numbers)
        return compare_bytes((unsigned)comparison, given, ours) ? 0 : -ECANCELED;
    uint64_t a, b = ours.len > 0 ? number_of(ours) : 0;
    memcpy(&a, given.data, sizeof a);
    return holds((a > b) - (a < b), (unsigned)comparison) ? 0 : -ECANCELED;
}

int step_attr_set(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    return attr_set(&run->view, data, step->length, data + step->length,
                    step->data_len - step->length);
}

/* One that is not there is no error: librados has it so. */
int step_attr_remove(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    if (!run->view.state.exists)
        return -ENOENT;
    return attr_remove(&run->view, data, step->data_len);
}
