/* The records of a shard are the map of its object; leases of it are among its watchers. */
#include "osd/ops/method_fs.h"

#include "common/fs_method.h"
#include "osd/ops/attr.h"
#include "osd/ops/watch.h"

static_assert(FS_MISS == VIEW_MISS, "methods pass it on");

static struct method_call *outer(struct fs_method_call *call)
{
    return call->shard;
}

static int may(struct fs_method_call *call, bool unseen)
{
    static const char name[] = WATCH_ATTR;
    struct object_view *view = outer(call)->view;
    unsigned wanted = call->writes && !unseen ? WIRE_LEASE_EXCLUSIVE : WIRE_LEASE_SHARED;
    struct view_bytes value;
    int error = view_attr(view, name, sizeof name - 1, &value);
    if (error)
        return error == -ENODATA ? 0 : error;
    struct watchers *watchers = view_alloc(view, sizeof *watchers);
    if (!watchers)
        return -ENOMEM;
    error = watchers_decode(value, watchers);
    for (uint32_t i = 0; !error && i < watchers->n; i++) {
        const struct watcher_layout *head = &watchers->list[i].head;
        if (head->instance != call->caller && !leases_agree(head->mode, wanted))
            error = -FS_LEASED;
    }
    return error;
}

static int look(struct fs_method_call *call, const void *key, size_t len, struct fs_span *out)
{
    struct view_bytes value = {0};
    int error = view_omap(outer(call)->view, key, (uint16_t)len, &value);
    *out = fs_span_of(value.data, value.len);
    return error;
}

static int next(struct fs_method_call *call, const void *from, size_t len, uint32_t max,
                struct fs_span *key, struct fs_span *value)
{
    struct view_bytes found = {0}, bytes = {0};
    int error = view_omap_next(outer(call)->view, from, (uint16_t)len, max, &found, &bytes);
    *key = fs_span_of(found.data, found.len);
    *value = fs_span_of(bytes.data, bytes.len);
    return error;
}

static void set(struct fs_method_call *call, const void *key, size_t key_len, const void *value,
                size_t len)
{
    view_omap_set(outer(call)->view, key, (uint16_t)key_len, value, (uint32_t)len);
}

static void drop(struct fs_method_call *call, const void *from, size_t from_len, const void *to,
                 size_t to_len)
{
    view_omap_remove(outer(call)->view, from, (uint16_t)from_len, to, (uint16_t)to_len);
}

static void drop_all(struct fs_method_call *call)
{
    view_remove(outer(call)->view);
}

static void *alloc(struct fs_method_call *call, size_t len)
{
    return view_alloc(outer(call)->view, len);
}

static int run(struct method_call *call, fs_method_run method)
{
    static const struct fs_records records = {may, look, next, set, drop, drop_all, alloc};
    struct fs_method_call inner = {
        .records = &records,
        .shard = call,
        .caller = call->run->caller.instance,
        .now_ns = (int64_t)call->run->wall_ns,
        .writes = call->run->request->write,
        .exists = call->view->state.exists,
        .input = call->input,
        .output = call->output,
    };
    bool grows = call->view->grows;
    int error = method(&inner);
    call->output = inner.output;
    call->view->grows = grows || inner.grows;
    if (inner.failed)
        call->view->failed = inner.failed;
    return error;
}

int method_fs_apply(struct method_call *call)
{
    return run(call, fs_method_apply);
}

int method_fs_create(struct method_call *call)
{
    return run(call, fs_method_create);
}

int method_fs_dying(struct method_call *call)
{
    return run(call, fs_method_dying);
}

int method_fs_enter(struct method_call *call)
{
    return run(call, fs_method_enter);
}

int method_fs_getattr(struct method_call *call)
{
    return run(call, fs_method_getattr);
}

int method_fs_keeplocks(struct method_call *call)
{
    return run(call, fs_method_keeplocks);
}

int method_fs_getlock(struct method_call *call)
{
    return run(call, fs_method_getlock);
}

int method_fs_init(struct method_call *call)
{
    return run(call, fs_method_init);
}

int method_fs_leave(struct method_call *call)
{
    return run(call, fs_method_leave);
}

int method_fs_links(struct method_call *call)
{
    return run(call, fs_method_links);
}

int method_fs_list(struct method_call *call)
{
    return run(call, fs_method_list);
}

int method_fs_lock(struct method_call *call)
{
    return run(call, fs_method_lock);
}

int method_fs_lookup(struct method_call *call)
{
    return run(call, fs_method_lookup);
}

int method_fs_moved(struct method_call *call)
{
    return run(call, fs_method_moved);
}

int method_fs_purge(struct method_call *call)
{
    return run(call, fs_method_purge);
}

int method_fs_reap(struct method_call *call)
{
    return run(call, fs_method_reap);
}

int method_fs_rename(struct method_call *call)
{
    return run(call, fs_method_rename);
}

int method_fs_reserve(struct method_call *call)
{
    return run(call, fs_method_reserve);
}

int method_fs_setattr(struct method_call *call)
{
    return run(call, fs_method_setattr);
}

int method_fs_settle(struct method_call *call)
{
    return run(call, fs_method_settle);
}

int method_fs_layout(struct method_call *call)
{
    return run(call, fs_method_layout);
}

int method_fs_split(struct method_call *call)
{
    return run(call, fs_method_split);
}

int method_fs_unlink(struct method_call *call)
{
    return run(call, fs_method_unlink);
}

int method_fs_vanish(struct method_call *call)
{
    return run(call, fs_method_vanish);
}

int method_fs_wrote(struct method_call *call)
{
    return run(call, fs_method_wrote);
}

int method_fs_xget(struct method_call *call)
{
    return run(call, fs_method_xget);
}

int method_fs_xlist(struct method_call *call)
{
    return run(call, fs_method_xlist);
}

int method_fs_xremove(struct method_call *call)
{
    return run(call, fs_method_xremove);
}

int method_fs_xset(struct method_call *call)
{
    return run(call, fs_method_xset);
}
