/*
 * Looking for an answer before sleeping for it (L9). A processor that nobody uses sleeps, and to
 * wake it takes some 5 us, or 50 on a virtual machine: as long as the answer itself takes.
 *
 * How long to look is learnt, as kernels do it for virtual machines that halt: it doubles when the
 * answer came soon enough to be looked for and later than was looked, and halves when it came too
 * late. So a program that waits for writes, or for a slow OSD, sleeps at once. Others come first:
 * who is interrupted looks no more, until answers have come soon enough again.
 *
 * Between two looks the processor is offered to others: who is to answer may be waiting for this
 * very one, and the kernel may leave it to whoever looks until he sleeps. When it does not come
 * back soon, it was taken for other work: then it is not offered for a while.
 */
#include "client/object/private.h"

#include <sched.h>
#include <time.h>

/* Interrupts of a virtual machine take up to 100 us; others are given a processor for longer. */
enum { FIRST_NS = 10 * 1000, INTERRUPTED_NS = 250 * 1000, ALONE_MIN = 8, KEPT_WAITS = 512 };

static int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void busy_poll_init(struct busy_poll *busy, uint64_t max_ns)
{
    cpu_set_t processors;
    bool alone =
        sched_getaffinity(0, sizeof processors, &processors) == 0 && CPU_COUNT(&processors) == 1;
    /* On a single processor whoever looks keeps others from answering. */
    *busy = (struct busy_poll){.max_ns = alone ? 0 : (int64_t)max_ns};
}

void busy_poll_submitted(struct busy_poll *busy, uint64_t under_way)
{
    if (under_way > 1)
        atomic_store_explicit(&busy->waits_alone, 0, memory_order_relaxed);
}

/* For one answer at a time, or for none yet: who is told of one submits the next request soon. */
static bool is_alone(const struct busy_poll *busy)
{
    return atomic_load_explicit(&busy->waits_alone, memory_order_relaxed) >= ALONE_MIN;
}

static void learn(struct busy_poll *busy, int64_t waited_ns)
{
    if (waited_ns > busy->max_ns)
        busy->ns = busy->ns / 2 < FIRST_NS ? 0 : busy->ns / 2;
    else if (waited_ns > busy->ns)
        busy->ns = busy->ns * 2 < FIRST_NS ? FIRST_NS : busy->ns * 2;
    if (busy->ns > busy->max_ns)
        busy->ns = busy->max_ns;
}

int busy_poll(struct busy_poll *busy, struct pollfd *fds, nfds_t n, int timeout_ms)
{
    int ready = 0;
    if (timeout_ms == 0 || busy->max_ns == 0)
        return poll(fds, n, timeout_ms);
    int64_t begun_ns = monotonic_ns(), now_ns = begun_ns;
    busy->waits_kept -= busy->waits_kept > 0 ? 1 : 0;
    while (ready == 0 && now_ns - begun_ns < busy->ns && is_alone(busy)) {
        int64_t last_ns = now_ns;
        ready = poll(fds, n, 0);
        if (ready == 0 && busy->waits_kept == 0)
            sched_yield();
        now_ns = monotonic_ns();
        if (now_ns - last_ns > INTERRUPTED_NS) {
            busy->ns = 0;
            busy->waits_kept = KEPT_WAITS;
        }
    }
    if (ready == 0)
        ready = poll(fds, n, timeout_ms);
    learn(busy, monotonic_ns() - begun_ns);
    atomic_fetch_add_explicit(&busy->waits_alone, 1, memory_order_relaxed);
    return ready;
}
