/*
 * Advisory locks: named, each an attribute "lock.NAME" of its object. Whoever holds one is known by
 * the instance of its process and a cookie of its choice. A lock is shared by those who give the
 * same tag, or exclusive; it may end by itself at a time that its holder chose.
 *
 * Nothing but these methods looks at locks: who wants to be stopped by one asserts it in the same
 * operation (lock.assert_locked).
 *
 * Inputs and outputs (strings as string16 unless told, times in nanoseconds):
 *
 *   lock.lock           name, u8 type, cookie, tag, description, u64 duration (0: for ever),
 *                       u8 flags (enum lock_flags)
 *   lock.unlock         name, cookie
 *   lock.break_lock     name, u64 instance, cookie
 *   lock.set_cookie     name, u8 type, cookie, tag, new cookie
 *   lock.assert_locked  name, u8 type, cookie, tag
 *   lock.get_info       name -> u8 type, tag, u32 n, n times holder
 *   lock.list_locks     -> u32 n, n names
 *   holder              u64 instance, cookie, u64 ends (0: never), address, description
 */
#include <string.h>

#include "common/planted.h"
#include "osd/ops/attr.h"
#include "osd/ops/method.h"

/* Attributes of locks begin so. */
static const uint8_t lock_attr[] = {'l', 'o', 'c', 'k', '.'};

enum {
    LOCK_VERSION = 1,
    LOCK_NAME_MAX = OPS_ATTR_NAME_MAX - (int)sizeof lock_attr,
    LOCK_HOLDERS_MAX = 1024,
};

enum lock_type { LOCK_NONE = 0, LOCK_EXCLUSIVE = 1, LOCK_SHARED = 2, LOCK_TYPES_END };

enum lock_flags {
    LOCK_MAY_RENEW = 1,  /* Who holds it already, with this cookie, holds it anew. */
    LOCK_MUST_RENEW = 2, /* And nobody else gets it. */
};

struct holder {
    uint64_t instance;
    struct view_bytes cookie;
    uint64_t ends_ns;
    struct view_bytes address, description;
};

struct lock {
    enum lock_type type;
    struct view_bytes tag;
    uint32_t n;
    struct holder *holders; /* Memory of the view; room for one more. */
};

/* ---- Reading and writing ---- */

static struct view_bytes take(struct decoder *d)
{
    uint16_t len;
    const void *bytes = decode_string16(d, &len);
    return view_bytes_of(bytes, len);
}

static bool same(struct view_bytes a, struct view_bytes b)
{
    return view_compare(a.data, a.len, b.data, b.len) == 0;
}

static int attr_name(struct method_call *call, struct view_bytes name, struct view_bytes *out)
{
    size_t prefix = sizeof lock_attr;
    if (name.len == 0)
        return -EINVAL;
    if (name.len > LOCK_NAME_MAX)
        return -ENAMETOOLONG;
    uint8_t *memory = view_alloc(call->view, prefix + name.len);
    if (!memory)
        return -ENOMEM;
    memcpy(memory, lock_attr, prefix);
    memcpy(memory + prefix, name.data, name.len);
    *out = view_bytes_of(memory, prefix + name.len);
    return 0;
}

static void encode_holder(struct encoder *e, const struct holder *holder)
{
    encode_u64(e, holder->instance);
    encode_string16(e, holder->cookie.data, holder->cookie.len);
    encode_u64(e, holder->ends_ns);
    encode_string16(e, holder->address.data, holder->address.len);
    encode_string16(e, holder->description.data, holder->description.len);
}

static void encode_lock(struct encoder *e, const struct lock *lock)
{
    encode_u8(e, (uint8_t)lock->type);
    encode_string16(e, lock->tag.data, lock->tag.len);
    encode_u32(e, lock->n);
    for (uint32_t i = 0; i < lock->n; i++)
        encode_holder(e, &lock->holders[i]);
}

/* Those whose time is over are not among the holders any more. */
static int decode_lock(struct method_call *call, struct view_bytes value, struct lock *out)
{
    struct decoder d;
    decoder_init(&d, value.data, value.len);
    if (decode_u8(&d) != LOCK_VERSION)
        return -EIO;
    out->type = (enum lock_type)decode_u8(&d);
    out->tag = take(&d);
    uint32_t n = decode_u32(&d);
    if (n > LOCK_HOLDERS_MAX)
        return -EIO;
    out->holders = view_alloc(call->view, (n + 1) * sizeof *out->holders);
    if (!out->holders)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        struct holder *holder = &out->holders[out->n];
        holder->instance = decode_u64(&d);
        holder->cookie = take(&d);
        holder->ends_ns = decode_u64(&d);
        holder->address = take(&d);
        holder->description = take(&d);
        if (holder->ends_ns == 0 || holder->ends_ns > call->run->wall_ns ||
            planted(PLANTED_LOCK_OUTLIVES))
            out->n++;
    }
    return decoder_end(&d) ? -EIO : 0;
}

static int load(struct method_call *call, struct view_bytes attr, struct lock *out)
{
    struct view_bytes value;
    memset(out, 0, sizeof *out);
    int error = attr_get(call->view, attr.data, attr.len, &value);
    if (!error)
        return decode_lock(call, value, out);
    if (error != -ENODATA)
        return error;
    out->holders = view_alloc(call->view, sizeof *out->holders);
    return out->holders ? 0 : -ENOMEM;
}

static int save(struct method_call *call, struct view_bytes attr, const struct lock *lock)
{
    struct encoder e;
    encoder_init(&e);
    encode_u8(&e, LOCK_VERSION);
    encode_lock(&e, lock);
    void *memory = e.failed ? NULL : view_alloc(call->view, e.len);
    int error = memory ? 0 : -ENOMEM;
    if (memory) {
        memcpy(memory, e.data, e.len);
        error = attr_set(call->view, attr.data, attr.len, memory, e.len);
    }
    encoder_fini(&e);
    return error;
}

/* A lock without holders leaves nothing behind. */
static int save_or_remove(struct method_call *call, struct view_bytes attr, const struct lock *lock)
{
    return lock->n > 0 ? save(call, attr, lock) : attr_remove(call->view, attr.data, attr.len);
}

static struct holder *find(struct lock *lock, uint64_t instance, struct view_bytes cookie)
{
    for (uint32_t i = 0; i < lock->n; i++) {
        if (lock->holders[i].instance == instance && same(lock->holders[i].cookie, cookie))
            return &lock->holders[i];
    }
    return NULL;
}

static void drop(struct lock *lock, struct holder *holder)
{
    *holder = lock->holders[--lock->n];
}

/* ---- Methods ---- */

struct lock_request {
    struct view_bytes attr; /* Of the lock. */
    enum lock_type type;
    struct view_bytes cookie, tag;
};

/* What most of them begin with; the type LOCK_NONE where none is told. */
static int take_name(struct method_call *call, struct lock_request *out)
{
    memset(out, 0, sizeof *out);
    struct view_bytes name = take(&call->input);
    return call->input.failed ? -EINVAL : attr_name(call, name, &out->attr);
}

static int take_request(struct method_call *call, struct lock_request *out)
{
    int error = take_name(call, out);
    if (error)
        return error;
    uint8_t type = decode_u8(&call->input);
    out->type = (enum lock_type)type;
    out->cookie = take(&call->input);
    out->tag = take(&call->input);
    return call->input.failed || type == LOCK_NONE || type >= LOCK_TYPES_END ? -EINVAL : 0;
}

/* Whether it may be had, by somebody who does not hold it, or not any more. */
static int may_lock(const struct lock *lock, const struct lock_request *request)
{
    if (lock->n == 0 || (lock->type == LOCK_SHARED && planted(PLANTED_LOCK_OF_TWO)))
        return 0;
    if (request->type == LOCK_EXCLUSIVE || lock->type != request->type)
        return -EBUSY;
    return lock->n < LOCK_HOLDERS_MAX ? 0 : -EBUSY;
}

int method_lock_lock(struct method_call *call)
{
    struct lock_request request;
    struct lock lock;
    const struct ops_caller *caller = &call->run->caller;
    int error = take_request(call, &request);
    if (error)
        return error;
    struct view_bytes description = take(&call->input);
    uint64_t duration_ns = decode_u64(&call->input);
    unsigned flags = decode_u8(&call->input);
    if (decoder_end(&call->input) || flags > LOCK_MUST_RENEW)
        return -EINVAL;
    error = load(call, request.attr, &lock);
    if (error)
        return error;
    if (lock.n > 0 && !same(lock.tag, request.tag))
        return -EBUSY;
    struct holder *ours = find(&lock, caller->instance, request.cookie);
    if (!ours && flags & LOCK_MUST_RENEW)
        return -ENOENT;
    if (ours && !(flags & (LOCK_MAY_RENEW | LOCK_MUST_RENEW)))
        return -EEXIST;
    if (ours)
        drop(&lock, ours);
    error = may_lock(&lock, &request);
    if (error)
        return error;
    lock.type = request.type;
    lock.tag = request.tag;
    lock.holders[lock.n++] = (struct holder){
        .instance = caller->instance,
        .cookie = request.cookie,
        .ends_ns = duration_ns > 0 ? call->run->wall_ns + duration_ns : 0,
        .address = view_bytes_of(caller->address, strlen(caller->address)),
        .description = description,
    };
    return save(call, request.attr, &lock);
}

static int end_lock(struct method_call *call, const struct lock_request *request, uint64_t instance)
{
    struct lock lock;
    int error = decoder_end(&call->input) ? -EINVAL : load(call, request->attr, &lock);
    if (error)
        return error;
    struct holder *holder = find(&lock, instance, request->cookie);
    if (!holder)
        return -ENOENT;
    drop(&lock, holder);
    /* What is left is less than what was there: a full cluster does not stop it. */
    bool grows = call->view->grows;
    error = save_or_remove(call, request->attr, &lock);
    call->view->grows = grows;
    return error;
}

int method_lock_unlock(struct method_call *call)
{
    struct lock_request request;
    int error = take_name(call, &request);
    if (error)
        return error;
    request.cookie = take(&call->input);
    return end_lock(call, &request, call->run->caller.instance);
}

int method_lock_break(struct method_call *call)
{
    struct lock_request request;
    int error = take_name(call, &request);
    if (error)
        return error;
    uint64_t instance = decode_u64(&call->input);
    request.cookie = take(&call->input);
    return end_lock(call, &request, instance);
}

/* -EBUSY unless the caller holds it in just this way. */
static int find_held(struct method_call *call, const struct lock_request *request,
                     struct lock *lock, struct holder **out)
{
    int error = load(call, request->attr, lock);
    if (error)
        return error;
    *out = find(lock, call->run->caller.instance, request->cookie);
    if (!*out || lock->type != request->type || !same(lock->tag, request->tag))
        return -EBUSY;
    return 0;
}

int method_lock_assert(struct method_call *call)
{
    struct lock_request request;
    struct lock lock;
    struct holder *holder;
    int error = take_request(call, &request);
    if (!error && decoder_end(&call->input))
        error = -EINVAL;
    return error ? error : find_held(call, &request, &lock, &holder);
}

int method_lock_set_cookie(struct method_call *call)
{
    struct lock_request request;
    struct lock lock;
    struct holder *holder;
    int error = take_request(call, &request);
    struct view_bytes cookie = take(&call->input);
    if (!error && decoder_end(&call->input))
        error = -EINVAL;
    if (!error)
        error = find_held(call, &request, &lock, &holder);
    if (error)
        return error;
    if (find(&lock, call->run->caller.instance, cookie))
        return -EBUSY;
    holder->cookie = cookie;
    return save(call, request.attr, &lock);
}

int method_lock_info(struct method_call *call)
{
    struct lock_request request;
    struct lock lock;
    int error = take_name(call, &request);
    if (!error && decoder_end(&call->input))
        error = -EINVAL;
    if (!error)
        error = load(call, request.attr, &lock);
    if (!error)
        encode_lock(&call->output, &lock);
    return error;
}

int method_lock_list(struct method_call *call)
{
    uint8_t first[STORE_ATTR_NAME_MAX];
    size_t prefix = attr_stored_name(lock_attr, sizeof lock_attr, first);
    struct view_bytes name = view_bytes_of(first, prefix), value;
    uint32_t n = 0;
    int error;
    encode_u32(&call->output, 0);
    while ((error = view_attr_next(call->view, name, &name, &value)) == 0 && name.len > prefix &&
           memcmp(name.data, first, prefix) == 0) {
        encode_string16(&call->output, name.data + prefix, name.len - prefix);
        n++;
    }
    if (error && error != -ENODATA)
        return error;
    if (!call->output.failed)
        memcpy(call->output.data, &n, sizeof n);
    return 0;
}
