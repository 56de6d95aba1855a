/*
 * Steps on watchers: what of watches and leases is durable, and replicated like any change.
 *
 * Who is connected, and since when nobody was heard, is in the primary's memory only
 * (osd/pg/pg_watch.c): after a run it looks at what the steps saw or left of the list.
 */
#include <string.h>

#include "osd/ops/attr.h"
#include "osd/ops/run.h"
#include "osd/ops/watch.h"

/* ---- The list ---- */

int watchers_decode(struct view_bytes value, struct watchers *out)
{
    struct decoder d;
    out->n = 0;
    if (value.len == 0)
        return 0;
    decoder_init(&d, value.data, value.len);
    if (decode_u8(&d) != WATCH_LAYOUT_VERSION)
        return -EIO;
    uint32_t n = decode_u32(&d);
    if (n > WATCHERS_MAX)
        return -EIO;
    for (uint32_t i = 0; i < n; i++) {
        struct watcher *watcher = &out->list[i];
        const void *head = decode_bytes(&d, sizeof watcher->head);
        if (!head)
            return -EIO;
        memcpy(&watcher->head, head, sizeof watcher->head);
        watcher->address = decode_bytes(&d, watcher->head.address_len);
        if (watcher->head.mode > WIRE_LEASE_FENCED || watcher->head.address_len > WATCH_ADDRESS_MAX)
            return -EIO;
    }
    if (decoder_end(&d))
        return -EIO;
    out->n = n;
    return 0;
}

void watchers_encode(const struct watchers *watchers, struct encoder *out)
{
    encode_u8(out, WATCH_LAYOUT_VERSION);
    encode_u32(out, watchers->n);
    for (uint32_t i = 0; i < watchers->n; i++) {
        const struct watcher *watcher = &watchers->list[i];
        encode_bytes(out, &watcher->head, sizeof watcher->head);
        if (watcher->head.address_len > 0)
            encode_bytes(out, watcher->address, watcher->head.address_len);
    }
}

uint32_t watchers_find(const struct watchers *watchers, uint64_t instance, uint64_t cookie)
{
    for (uint32_t i = 0; i < watchers->n; i++) {
        const struct watcher_layout *head = &watchers->list[i].head;
        if (head->instance == instance && head->cookie == cookie)
            return i;
    }
    return WATCHERS_MAX;
}

static const char attr[] = WATCH_ATTR;

static int load(struct ops_run *run, struct watchers **out)
{
    struct view_bytes value = view_bytes_of(NULL, 0);
    *out = view_alloc(&run->view, sizeof **out);
    if (!*out)
        return -ENOMEM;
    int error = view_attr(&run->view, attr, sizeof attr - 1, &value);
    if (error && error != -ENODATA)
        return error;
    run->saw_watchers = true;
    run->watchers = value;
    return watchers_decode(value, *out);
}

static int save(struct ops_run *run, const struct watchers *watchers)
{
    struct encoder e;
    struct object_view *view = &run->view;
    if (watchers->n == 0) {
        view_attr_remove(view, attr, sizeof attr - 1);
        run->watchers = view_bytes_of(NULL, 0);
        return 0;
    }
    encoder_init(&e);
    watchers_encode(watchers, &e);
    void *memory = e.failed ? NULL : view_alloc(view, e.len);
    int error = memory ? 0 : -ENOMEM;
    if (!error) {
        memcpy(memory, e.data, e.len);
        error = view_attr_room(view, attr, sizeof attr - 1, (uint32_t)e.len);
    }
    if (!error) {
        view_attr_set(view, attr, sizeof attr - 1, memory, (uint32_t)e.len);
        run->watchers = view_bytes_of(memory, e.len);
    }
    encoder_fini(&e);
    return error;
}

bool watchers_after(struct ops_run *run, struct view_bytes *out)
{
    struct object_view *view = &run->view;
    *out = view_bytes_of(NULL, 0);
    if (!view->state.exists)
        return view->base.exists;
    /* It was removed and made again: nothing of the store shines through. */
    if (view->renewed)
        return view_attr(view, attr, sizeof attr - 1, out) == 0 || view->base.exists;
    *out = run->watchers;
    return run->saw_watchers;
}

/* ---- Watching ---- */

int check_watch(const struct wire_op *step, const uint8_t *data)
{
    struct wire_watch watch;
    if (step->data_len != sizeof watch)
        return -EINVAL;
    memcpy(&watch, data, sizeof watch);
    return watch.mode <= WIRE_LEASE_FENCED ? 0 : -EINVAL;
}

static uint32_t between(uint32_t value, uint32_t low, uint32_t high)
{
    return value < low ? low : value > high ? high : value;
}

static bool may_hold(const struct watchers *watchers, uint32_t ours, unsigned mode)
{
    for (uint32_t i = 0; i < watchers->n; i++)
        if (i != ours && !leases_agree(watchers->list[i].head.mode, mode))
            return false;
    return true;
}

int step_watch(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    struct watchers *watchers;
    struct wire_watch wire;
    memcpy(&wire, data, sizeof wire);
    if (!run->view.state.exists)
        return -ENOENT;
    int error = load(run, &watchers);
    if (error)
        return error;
    uint32_t at = watchers_find(watchers, run->caller.instance, step->length);
    if (!may_hold(watchers, at, wire.mode))
        return -EBUSY;
    /* A fenced one is ended, and nothing else becomes of it. */
    if (at != WATCHERS_MAX && wire.mode != watchers->list[at].head.mode &&
        (wire.mode == WIRE_LEASE_FENCED || watchers->list[at].head.mode == WIRE_LEASE_FENCED))
        return -EINVAL;
    if (at == WATCHERS_MAX && watchers->n == WATCHERS_MAX)
        return -EUSERS;
    size_t address_len = strlen(run->caller.address);
    if (at == WATCHERS_MAX)
        at = watchers->n++;
    watchers->list[at].head = (struct watcher_layout){
        .instance = run->caller.instance,
        .cookie = step->length,
        .timeout_ms = between(wire.timeout_ms ? wire.timeout_ms : WIRE_WATCH_TIMEOUT_MS,
                              WIRE_WATCH_TIMEOUT_MIN_MS, WIRE_WATCH_TIMEOUT_MAX_MS),
        .mode = (uint8_t)wire.mode,
        .address_len = (uint8_t)between((uint32_t)address_len, 0, WATCH_ADDRESS_MAX),
    };
    watchers->list[at].address = (const uint8_t *)run->caller.address;
    return save(run, watchers);
}

/* One that is not there is no error: librados has it so. */
static int end_watch(struct ops_run *run, uint64_t instance, uint64_t cookie)
{
    struct watchers *watchers;
    if (!run->view.state.exists)
        return -ENOENT;
    int error = load(run, &watchers);
    if (error)
        return error;
    uint32_t at = watchers_find(watchers, instance, cookie);
    if (at == WATCHERS_MAX)
        return 0;
    run->ended_fenced |= watchers->list[at].head.mode == WIRE_LEASE_FENCED;
    watchers->n--;
    memmove(&watchers->list[at], &watchers->list[at + 1],
            (watchers->n - at) * sizeof watchers->list[0]);
    /* What is left is less than what was there: a full cluster does not stop it. */
    bool grows = run->view.grows;
    error = save(run, watchers);
    run->view.grows = grows;
    return error;
}

int step_unwatch(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    return end_watch(run, run->caller.instance, step->length);
}

/* Only a primary may say so, who is nobody's client. */
int step_watch_evict(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    if (run->caller.instance != 0)
        return -EPERM;
    return end_watch(run, step->offset, step->length);
}

/* ---- Looking ---- */

static int find_ours(struct ops_run *run, uint64_t cookie, struct watcher_layout *out)
{
    struct watchers *watchers;
    if (!run->view.state.exists)
        return -ENOENT;
    int error = load(run, &watchers);
    if (error)
        return error;
    uint32_t at = watchers_find(watchers, run->caller.instance, cookie);
    if (at == WATCHERS_MAX)
        return -ENOTCONN;
    *out = watchers->list[at].head;
    return 0;
}

/* Whether there is such a watch; the group then connects it to the session of the request. */
int step_watch_connect(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    struct watcher_layout ours;
    struct buf_slice out = BUF_SLICE_EMPTY;
    int error = find_ours(run, step->length, &ours);
    if (!error)
        error = buf_slice_copy(&run->caller.life, sizeof run->caller.life, &out);
    return error ? error : run_give(run, out);
}

int step_watch_assert(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    struct watcher_layout ours;
    int error = find_ours(run, step->length, &ours);
    if (!error && ours.mode < step->offset)
        error = -ENOTCONN;
    return error;
}

int step_watch_list(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)step;
    (void)data;
    struct watchers *watchers;
    struct encoder e;
    int error = load(run, &watchers);
    if (error)
        return error;
    encoder_init(&e);
    encode_u32(&e, watchers->n);
    for (uint32_t i = 0; i < watchers->n; i++) {
        const struct watcher *watcher = &watchers->list[i];
        encode_bytes(&e, &watcher->head, sizeof watcher->head);
        if (watcher->head.address_len > 0)
            encode_bytes(&e, watcher->address, watcher->head.address_len);
    }
    return run_give_encoded(run, &e);
}

/* ---- Telling ---- */

int check_notify(const struct wire_op *step, const uint8_t *data)
{
    struct wire_recall recall;
    if (step->offset == WIRE_NOTIFY)
        return step->data_len <= WIRE_NOTIFY_BYTES_MAX ? 0 : -EINVAL;
    if (step->offset != WIRE_RECALL || step->data_len != sizeof recall)
        return -EINVAL;
    memcpy(&recall, data, sizeof recall);
    bool is_lease = recall.mode >= WIRE_LEASE_SHARED && recall.mode <= WIRE_LEASE_FENCED;
    return is_lease ? 0 : -EINVAL;
}

int check_notify_ack(const struct wire_op *step, const uint8_t *data)
{
    (void)data;
    return step->data_len >= sizeof(struct wire_notify_ack) &&
                   step->data_len - sizeof(struct wire_notify_ack) <= WIRE_NOTIFY_ANSWER_MAX
               ? 0
               : -EINVAL;
}

/* Whom it concerns. The group tells them, and answers (pg_watch.c). */
int step_notify(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)step;
    (void)data;
    struct watchers *watchers;
    return load(run, &watchers);
}

/* The group takes it. An object that is gone has nobody who waits for answers. */
int step_notify_ack(struct ops_run *run, const struct wire_op *step, const uint8_t *data)
{
    (void)run;
    (void)step;
    (void)data;
    return 0;
}
