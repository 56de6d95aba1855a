#include "tests/sim/fibers.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    STACK_BYTES = 512 * 1024,
    YIELD_ONE_IN = 12, /* Locks before which a fiber gives way. */
    LONG_ONE_IN = 60,  /* Of the times that one waits for its turn: for long. */
    KEYS_MAX = 2,
};
#define TURN_NS (20 * UINT64_C(1000))
#define LONG_NS (5 * MSEC_NS)
#define TICK_NS (4 * MSEC_NS) /* Of the coarse clock. */

struct fiber {
    struct fibers *fibers;
    TAILQ_ENTRY(fiber) link;
    const void *key; /* What it waits for; NULL: nothing. */
    struct env_timer turn;
    pthread_t number;
    const void *own[KEYS_MAX];
    void *(*run)(void *arg);
    void *arg;
    bool ended;
    ucontext_t context;
    uint8_t *stack;
    void *fake_stack; /* Of AddressSanitizer. */
};
TAILQ_HEAD(fiber_list, fiber);

struct fibers {
    struct sim *sim;
    struct sim_node *node;
    struct env *env;
    struct fiber_list list;
    uint32_t n;
    uint32_t hang_at; /* 0: it does not. */
    uint64_t hang_ns;
    LIST_ENTRY(fibers) link;
};

/* Those of all processes; there is one world at a time. */
static LIST_HEAD(, fibers) all = LIST_HEAD_INITIALIZER(all);
static struct fiber *current;
static pthread_t last_number;
static pthread_key_t n_keys;
static ucontext_t world;
static const void *world_stack;
static size_t world_stack_len;

/* ---- Switching ---- */

static void before_switch(void **fake_stack, const void *stack, size_t len)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(fake_stack, stack, len);
#else
    (void)fake_stack;
    (void)stack;
    (void)len;
#endif
}

static void after_switch(void *fake_stack, const void **stack, size_t *len)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack, stack, len);
#else
    (void)fake_stack;
    (void)stack;
    (void)len;
#endif
}

/* Back to the world; returns when the fiber has its next turn. */
static void give_way(void)
{
    struct fiber *me = current;
    current = NULL;
    before_switch(me->ended ? NULL : &me->fake_stack, world_stack, world_stack_len);
    if (swapcontext(&me->context, &world) < 0)
        abort();
    after_switch(me->fake_stack, NULL, NULL);
}

static void fiber_main(void)
{
    after_switch(NULL, &world_stack, &world_stack_len);
    current->run(current->arg);
    current->ended = true;
    fiber_wake(current, true);
    give_way();
}

static void fiber_free(struct fiber *fiber)
{
    env_timer_stop(fiber->fibers->env, &fiber->turn);
    TAILQ_REMOVE(&fiber->fibers->list, fiber, link);
    fiber->fibers->n--;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(fiber->stack, STACK_BYTES);
#endif
    munmap(fiber->stack, STACK_BYTES);
    free(fiber);
}

static void turn_fire(struct env_timer *timer)
{
    struct fiber *fiber = container_of(timer, struct fiber, turn);
    void *fake_stack = NULL;
    assert(current == NULL);
    current = fiber;
    before_switch(&fake_stack, fiber->stack, STACK_BYTES);
    if (swapcontext(&world, &fiber->context) < 0)
        abort();
    after_switch(fake_stack, NULL, NULL);
    assert(current == NULL);
    if (fiber->ended)
        fiber_free(fiber);
}

/* It gets its turn soon, in any order with others. */
static void make_ready(struct fiber *fiber)
{
    struct sim *sim = fiber->fibers->sim;
    uint64_t most = sim_chance(sim, LONG_ONE_IN) ? LONG_NS : TURN_NS;
    fiber->key = NULL;
    env_timer_after(fiber->fibers->env, &fiber->turn, sim_below(sim, most));
}

/* ---- Fibers ---- */

struct fibers *fibers_create(struct sim *sim, struct sim_node *node)
{
    struct fibers *fibers = calloc(1, sizeof *fibers);
    if (!fibers)
        abort();
    fibers->sim = sim;
    fibers->node = node;
    fibers->env = sim_process(node);
    TAILQ_INIT(&fibers->list);
    LIST_INSERT_HEAD(&all, fibers, link);
    return fibers;
}

/* Processes that are gone leave their memory: LeakSanitizer has nothing to say about it. */
static bool leaves_memory;
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return leaves_memory;
}

void fibers_destroy(struct fibers *fibers)
{
    struct fiber *fiber;
    leaves_memory = true;
    assert(current == NULL);
    while ((fiber = TAILQ_FIRST(&fibers->list)))
        fiber_free(fiber);
    LIST_REMOVE(fibers, link);
    free(fibers);
}

void fibers_hang(struct fibers *fibers, uint32_t n, uint64_t ns)
{
    fibers->hang_at = n;
    fibers->hang_ns = ns;
}

uint32_t fibers_count(const struct fibers *fibers)
{
    return fibers->n;
}

struct fiber *fiber_start(struct fibers *fibers, void *(*run)(void *arg), void *arg)
{
    struct fiber *fiber = calloc(1, sizeof *fiber);
    if (!fiber || getcontext(&fiber->context) < 0)
        abort();
    fiber->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fiber->stack == MAP_FAILED)
        abort();
    fiber->fibers = fibers;
    fiber->number = ++last_number;
    fiber->run = run;
    fiber->arg = arg;
    fiber->turn.fire = turn_fire;
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber->context, fiber_main, 0);
    TAILQ_INSERT_TAIL(&fibers->list, fiber, link);
    fibers->n++;
    make_ready(fiber);
    return fiber;
}

struct fiber *fiber_current(void)
{
    return current;
}

pthread_t fiber_self(void)
{
    return current != NULL ? current->number : 0;
}

struct env *fiber_env(void)
{
    assert(current != NULL);
    return current->fibers->env;
}

struct sim_node *fiber_node(void)
{
    assert(current != NULL);
    return current->fibers->node;
}

void fiber_wait(const void *key)
{
    assert(current != NULL && key != NULL);
    current->key = key;
    give_way();
}

void fiber_wake(const void *key, bool everybody)
{
    struct fibers *fibers;
    struct fiber *fiber;
    LIST_FOREACH(fibers, &all, link)
    {
        TAILQ_FOREACH(fiber, &fibers->list, link)
        {
            if (fiber->key != key)
                continue;
            make_ready(fiber);
            if (!everybody)
                return;
        }
    }
}

void fiber_sleep(uint64_t ns)
{
    assert(current != NULL);
    env_timer_after(current->fibers->env, &current->turn, ns);
    give_way();
}

/* ---- Threads ---- */

int fiber_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    (void)attr;
    assert(current != NULL);
    *thread = fiber_start(current->fibers, run, arg)->number;
    return 0;
}

static struct fiber *by_number(const struct fibers *fibers, pthread_t number)
{
    struct fiber *fiber = TAILQ_FIRST(&fibers->list);
    while (fiber != NULL && fiber->number != number)
        fiber = TAILQ_NEXT(fiber, link);
    return fiber;
}

int fiber_join(pthread_t thread, void **out)
{
    const struct fiber *fiber;
    assert(current != NULL && out == NULL);
    (void)out;
    const struct fibers *fibers = current->fibers;
    while ((fiber = by_number(fibers, thread)) != NULL)
        fiber_wait(fiber);
    return 0;
}

int fiber_key_create(pthread_key_t *key, void (*destroy)(void *))
{
    assert(n_keys < KEYS_MAX && destroy == NULL);
    (void)destroy;
    *key = n_keys++;
    return 0;
}

void *fiber_getspecific(pthread_key_t key)
{
    assert(key < n_keys);
    return current != NULL ? (void *)current->own[key] : NULL;
}

int fiber_setspecific(pthread_key_t key, const void *value)
{
    assert(current != NULL && key < n_keys);
    current->own[key] = value;
    return 0;
}

/* ---- Locks: a mutex's memory names its owner ---- */

_Static_assert(sizeof(pthread_mutex_t) >= sizeof(struct fiber *), "there is room for it");

static struct fiber *owner_of(const pthread_mutex_t *mutex)
{
    struct fiber *owner;
    memcpy(&owner, mutex, sizeof owner);
    return owner;
}

static void set_owner(pthread_mutex_t *mutex, struct fiber *owner)
{
    memcpy(mutex, &owner, sizeof owner);
}

int fiber_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
    (void)attr;
    memset(mutex, 0, sizeof *mutex);
    return 0;
}

int fiber_mutex_destroy(pthread_mutex_t *mutex)
{
    assert(owner_of(mutex) == NULL);
    return 0;
}

bool fiber_mutex_is_free(const pthread_mutex_t *mutex)
{
    return owner_of(mutex) == NULL;
}

/* What may come between a thread and its lock. */
static void meet_fate(void)
{
    struct fibers *fibers = current->fibers;
    bool hangs = fibers->hang_at > 0 && --fibers->hang_at == 0;
    if (!hangs && !sim_chance(fibers->sim, YIELD_ONE_IN))
        return;
    if (hangs) {
        sim_log(fibers->sim, "fault", "%s hangs before a lock", sim_node_name(fibers->node));
        sim_process_pause(fibers->node, sim_now(fibers->sim) + fibers->hang_ns);
    }
    make_ready(current);
    give_way();
}

int fiber_mutex_lock(pthread_mutex_t *mutex)
{
    assert(current != NULL && owner_of(mutex) != current);
    meet_fate();
    while (owner_of(mutex) != NULL)
        fiber_wait(mutex);
    set_owner(mutex, current);
    return 0;
}

int fiber_mutex_unlock(pthread_mutex_t *mutex)
{
    assert(current != NULL && owner_of(mutex) == current);
    set_owner(mutex, NULL);
    fiber_wake(mutex, false);
    return 0;
}

/* ---- Conditions ---- */

int fiber_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr)
{
    (void)attr;
    memset(cond, 0, sizeof *cond);
    return 0;
}

int fiber_cond_destroy(pthread_cond_t *cond)
{
    (void)cond;
    return 0;
}

int fiber_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    (void)fiber_mutex_unlock(mutex);
    fiber_wait(cond);
    return fiber_mutex_lock(mutex);
}

int fiber_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                         const struct timespec *until)
{
    struct env *env = fiber_env();
    assert(clock == CLOCK_MONOTONIC);
    uint64_t until_ns = (uint64_t)until->tv_sec * SEC_NS + (uint64_t)until->tv_nsec;
    uint64_t now_ns = env_clock(env);
    (void)fiber_mutex_unlock(mutex);
    struct fiber *me = current;
    me->key = cond;
    env_timer_after(env, &me->turn, until_ns > now_ns ? until_ns - now_ns : 0);
    give_way();
    /* Whoever wakes it takes the key. */
    bool timed_out = me->key != NULL;
    me->key = NULL;
    (void)fiber_mutex_lock(mutex);
    return timed_out ? ETIMEDOUT : 0;
}

int fiber_cond_signal(pthread_cond_t *cond)
{
    fiber_wake(cond, false);
    return 0;
}

int fiber_cond_broadcast(pthread_cond_t *cond)
{
    fiber_wake(cond, true);
    return 0;
}

/* ---- The system ---- */

int fiber_clock_gettime(clockid_t clock, struct timespec *out)
{
    struct env *env = fiber_env();
    bool is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    uint64_t ns = is_wall ? env_wall(env) : env_clock(env);
    if (clock == CLOCK_REALTIME_COARSE)
        ns -= ns % TICK_NS;
    *out = (struct timespec){.tv_sec = (time_t)(ns / SEC_NS), .tv_nsec = (long)(ns % SEC_NS)};
    return 0;
}

int fiber_nanosleep(const struct timespec *ts, struct timespec *left)
{
    (void)left;
    fiber_sleep((uint64_t)ts->tv_sec * SEC_NS + (uint64_t)ts->tv_nsec);
    return 0;
}

ssize_t fiber_getrandom(void *out, size_t len, unsigned flags)
{
    (void)flags;
    env_random(fiber_env(), out, len);
    return (ssize_t)len;
}
