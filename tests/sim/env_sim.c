/*
 * Time, chance, processes and logs of the simulated world.
 *
 *  W1  An event is one turn of at most one process. The clock stands still during it.
 *  W2  Events happen in the order of (time, order of arming); nothing else orders anything.
 *  W3  Random numbers come from streams that the seed starts: one for the owner of the world, one
 *      for the world, one for each process. So what one process asks for does not change the luck
 *      of the others.
 *  W4  Pointers, addresses and uninitialized memory decide nothing. The hash shows it.
 */
#include "tests/sim/env_sim.h"

#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"
#include "tests/sim/env_sim_private.h"

/* 2026-01-01, so that wall clocks look like wall clocks. */
#define WALL_START_NS (UINT64_C(1767225600) * SEC_NS)

enum { LOG_LINE_BYTES = 1280, PPM = 1000000 };

void *sim_must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

/* ---- libsodium's random numbers: keys and nonces are the seed's, too ---- */

/* The library's generator is global, so there is one world at a time. */
static struct sim *current;
static struct random_stream sodium_stream;

static const char *sodium_name(void)
{
    return "limpet-sim";
}

static uint32_t sodium_u32(void)
{
    return (uint32_t)(random_next(&sodium_stream) >> 32);
}

static void sodium_buf(void *const out, const size_t len)
{
    random_fill(&sodium_stream, out, len);
}

static void sodium_start(uint64_t seed)
{
    static randombytes_implementation implementation = {
        .implementation_name = sodium_name,
        .random = sodium_u32,
        .buf = sodium_buf,
    };
    randombytes_set_implementation(&implementation);
    if (sodium_init() < 0)
        abort();
    /* Afterwards: the first call of sodium_init() in a process takes some for itself. */
    random_seed(&sodium_stream, ~seed);
}

/* ---- The world ---- */

struct sim *sim_create(const struct sim_options *options)
{
    assert(!current);
    struct sim *sim = calloc(1, sizeof *sim);
    if (!sim)
        return NULL;
    current = sim;
    sodium_start(options->seed);
    sim->options = *options;
    random_seed(&sim->random, options->seed);
    random_seed(&sim->chance, random_next(&sim->random));
    timer_heap_init(&sim->queue);
    TAILQ_INIT(&sim->links);
    STAILQ_INIT(&sim->dead_endpoints);
    return sim;
}

static void node_destroy(struct sim_node *node)
{
    assert(!node->process);
    sim_files_fini(&node->files);
    free(node);
}

void sim_destroy(struct sim *sim)
{
    assert(current == sim);
    current = NULL;
    for (uint32_t i = 0; i < sim->n_nodes; i++)
        node_destroy(sim->nodes[i]);
    sim_net_reap(sim);
    assert(TAILQ_EMPTY(&sim->links));
    timer_heap_fini(&sim->queue);
    for (size_t i = 0; i < SIM_LOG_LINES; i++)
        free(sim->lines[i]);
    free(sim);
}

uint64_t sim_now(const struct sim *sim)
{
    return sim->now;
}

uint64_t sim_hash(const struct sim *sim)
{
    return sim->hash;
}

uint64_t sim_events(const struct sim *sim)
{
    return sim->events;
}

void sim_hash_mix(struct sim *sim, uint64_t value)
{
    uint64_t state = sim->hash ^ value;
    sim->hash = random_split(&state);
}

void sim_note(struct sim *sim, uint64_t value)
{
    sim_hash_mix(sim, value);
}

uint64_t sim_random(struct sim *sim)
{
    return random_next(&sim->random);
}

uint64_t sim_below(struct sim *sim, uint64_t n)
{
    return random_below(&sim->random, n);
}

bool sim_chance(struct sim *sim, uint64_t n)
{
    return random_below(&sim->random, n) == 0;
}

void sim_timer_arm(struct sim *sim, struct env_timer *timer, uint64_t at_ns)
{
    timer_heap_arm(&sim->queue, timer, at_ns);
}

void sim_timer_stop(struct sim *sim, struct env_timer *timer)
{
    timer_heap_stop(&sim->queue, timer);
}

bool sim_step(struct sim *sim, uint64_t until_ns)
{
    struct env_timer *event = timer_heap_first(&sim->queue);
    if (!event || event->deadline_ns > until_ns) {
        if (sim->now < until_ns)
            sim->now = until_ns;
        return false;
    }
    timer_heap_stop(&sim->queue, event);
    if (event->deadline_ns > sim->now)
        sim->now = event->deadline_ns;
    sim->events++;
    sim_hash_mix(sim, sim->now);
    event->fire(event);
    sim_net_reap(sim);
    return true;
}

void sim_run(struct sim *sim, uint64_t until_ns)
{
    while (sim_step(sim, until_ns))
        ;
}

void sim_calm(struct sim *sim)
{
    sim->calm = true;
}

/* ---- Nodes ---- */

struct sim_node *sim_node_create(struct sim *sim, const char *name,
                                 const struct entity_name *entity)
{
    assert(sim->n_nodes < SIM_NODES_MAX);
    struct sim_node *node = calloc(1, sizeof *node);
    if (!node)
        return NULL;
    node->sim = sim;
    node->index = sim->n_nodes;
    snprintf(node->name, sizeof node->name, "%s", name);
    node->entity = *entity;
    node->powered = true;
    node->next_port = 6800;
    sim_files_init(&node->files);
    sim->nodes[sim->n_nodes++] = node;
    return node;
}

const char *sim_node_name(const struct sim_node *node)
{
    return node->name;
}

struct net_address sim_node_address(const struct sim_node *node, uint16_t port)
{
    struct net_address address = {.family = 4, .port = port};
    address.ip[0] = 10;
    address.ip[3] = (uint8_t)(node->index + 1);
    return address;
}

void sim_node_disk(struct sim_node *node, uint64_t sync_ns)
{
    node->sync_ns = sync_ns;
}

/* ---- Local time ---- */

/* a * b / c. Divisions of 128 bits are slow, and nearly all of ours are of small numbers. */
static uint64_t scale(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t product;
    if (!__builtin_mul_overflow(a, b, &product))
        return product / c;
    return (uint64_t)((unsigned __int128)a * b / c);
}

static uint64_t local_time(const struct sim_process *process, uint64_t virtual_ns)
{
    int64_t ppm = process->drift_ppm;
    uint64_t steady = process->clock_offset + virtual_ns;
    return ppm < 0 ? steady - scale(virtual_ns, (uint64_t)-ppm, PPM)
                   : steady + scale(virtual_ns, (uint64_t)ppm, PPM);
}

/* The first virtual time at which the process's clock shows at least local_ns. */
static uint64_t virtual_time(const struct sim_process *process, uint64_t local_ns)
{
    if (local_ns <= process->clock_offset)
        return 0;
    /* Right but for rounding. */
    uint64_t guess =
        scale(local_ns - process->clock_offset, PPM, (uint64_t)(PPM + process->drift_ppm));
    while (guess > 0 && local_time(process, guess - 1) >= local_ns)
        guess--;
    while (local_time(process, guess) < local_ns)
        guess++;
    return guess;
}

static uint64_t process_now(struct env *env)
{
    const struct sim_process *process = process_of(env);
    return local_time(process, process->sim->now);
}

static uint64_t process_wall(struct env *env)
{
    return WALL_START_NS + process_of(env)->sim->now;
}

static void process_random(struct env *env, void *out, size_t len)
{
    random_fill(&process_of(env)->random, out, len);
}

uint64_t sim_process_time(const struct sim_process *process)
{
    uint64_t now = process->sim->now;
    return process->busy_until > now ? process->busy_until : now;
}

bool sim_turn_begin(struct sim_process *process, struct env_timer *event)
{
    assert(!process->frozen);
    if (process->busy_until > process->sim->now) {
        sim_timer_arm(process->sim, event, process->busy_until);
        return false;
    }
    sim_hash_mix(process->sim, process->node->index);
    return true;
}

/* ---- Timers ---- */

/* Keeps the event in the world's queue in step with the first of the process's timers. */
static void update_wake(struct sim_process *process)
{
    struct env_timer *first = timer_heap_first(&process->timers);
    if (!first || process->frozen) {
        sim_timer_stop(process->sim, &process->wake);
        return;
    }
    uint64_t at = virtual_time(process, first->deadline_ns);
    if (at < process->sim->now)
        at = process->sim->now;
    if (!process->wake.armed || process->wake.deadline_ns != at)
        sim_timer_arm(process->sim, &process->wake, at);
}

/* The clock goes on from where it is. */
void sim_process_drift(struct sim_node *node, int32_t drift_ppm)
{
    struct sim_process *process = node->process;
    if (!process || process->frozen)
        return;
    uint64_t local = process_now(&process->env);
    process->drift_ppm = drift_ppm;
    uint64_t without_offset = process_now(&process->env) - process->clock_offset;
    if (local > without_offset)
        process->clock_offset = local - without_offset;
    update_wake(process);
}

static void wake_fire(struct env_timer *event)
{
    struct sim_process *process = container_of(event, struct sim_process, wake);
    if (!sim_turn_begin(process, event))
        return;
    struct env_timer *timer;
    uint64_t limit = process->timers.next_order;
    while ((timer = timer_heap_pop(&process->timers, process_now(&process->env), limit)))
        timer->fire(timer);
    update_wake(process);
}

static void process_timer_arm(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    struct sim_process *process = process_of(env);
    timer_heap_arm(&process->timers, timer, deadline_ns);
    update_wake(process);
}

static void process_timer_stop(struct env *env, struct env_timer *timer)
{
    struct sim_process *process = process_of(env);
    if (!timer->armed)
        return;
    timer_heap_stop(&process->timers, timer);
    update_wake(process);
}

/* ---- Deferred tasks and helper threads ---- */

static void tasks_fire(struct env_timer *event)
{
    struct sim_process *process = container_of(event, struct sim_process, tasks_turn);
    if (!sim_turn_begin(process, event))
        return;
    /* Those that are queued meanwhile have their own turn. */
    STAILQ_HEAD(, env_task) tasks = STAILQ_HEAD_INITIALIZER(tasks);
    STAILQ_CONCAT(&tasks, &process->tasks);
    struct env_task *task;
    while ((task = STAILQ_FIRST(&tasks))) {
        STAILQ_REMOVE_HEAD(&tasks, link);
        task->queued = false;
        task->run(task);
    }
}

static void process_defer(struct env *env, struct env_task *task)
{
    struct sim_process *process = process_of(env);
    if (task->queued || process->frozen)
        return;
    task->queued = true;
    STAILQ_INSERT_TAIL(&process->tasks, task, link);
    if (!process->tasks_turn.armed)
        sim_timer_arm(process->sim, &process->tasks_turn, sim_process_time(process));
}

static void work_free(struct sim_work *work)
{
    TAILQ_REMOVE(&work->process->works, work, link);
    sim_timer_stop(work->process->sim, &work->timer);
    free(work);
}

static void work_fire(struct env_timer *event)
{
    struct sim_work *work = container_of(event, struct sim_work, timer);
    struct sim_process *process = work->process;
    if (!work->has_run) {
        /* A helper thread does not wait for the loop. */
        work->has_run = true;
        work->work->run(work->work);
        sim_timer_arm(process->sim, event,
                      process->sim->now + random_below(&process->sim->chance, MSEC_NS));
        return;
    }
    if (!sim_turn_begin(process, event))
        return;
    struct env_work *done = work->work;
    work_free(work);
    done->done(done);
}

static void process_work(struct env *env, struct env_work *work)
{
    struct sim_process *process = process_of(env);
    if (process->frozen)
        return;
    struct sim_work *entry = sim_must(calloc(1, sizeof *entry));
    entry->process = process;
    entry->work = work;
    entry->timer.fire = work_fire;
    TAILQ_INSERT_TAIL(&process->works, entry, link);
    sim_timer_arm(process->sim, &entry->timer,
                  process->sim->now + random_below(&process->sim->chance, 5 * MSEC_NS));
}

/* ---- Processes ---- */

static void process_log(struct env *env, int level, const char *line);

static const struct env_ops sim_env_ops = {
    .now_ns = process_now,
    .clock_ns = process_now,
    .wall_ns = process_wall,
    .random = process_random,
    .timer_arm = process_timer_arm,
    .timer_stop = process_timer_stop,
    .defer = process_defer,
    .work = process_work,
    .net_handlers = sim_net_handlers,
    .net_listen = sim_net_listen,
    .net_open = sim_net_open,
    .net_send = sim_net_send,
    .net_close = sim_net_close,
    .net_drop = sim_net_drop,
    .net_pause = sim_net_pause,
    .net_heard_ns = sim_net_heard_ns,
    .file_open = sim_file_open,
    .file_close = sim_file_close,
    .file_read = sim_file_read,
    .file_write = sim_file_write,
    .file_truncate = sim_file_truncate,
    .file_sync = sim_file_sync,
    .file_size = sim_file_size,
    .file_rename = sim_file_rename,
    .file_remove = sim_file_remove,
    .dir_sync = sim_dir_sync,
    .log = process_log,
};

struct env *sim_process_start(struct sim_node *node)
{
    struct sim *sim = node->sim;
    assert(!node->process);
    struct sim_process *process = calloc(1, sizeof *process);
    if (!process)
        return NULL;
    process->env.ops = &sim_env_ops;
    process->env.log_mask = sim->options.log_mask ? sim->options.log_mask : LOG_MASK_DEFAULT;
    process->node = node;
    process->sim = sim;
    random_seed(&process->random, random_next(&sim->chance));
    process->env.instance = random_next(&sim->chance) | 1;
    process->clock_offset = random_below(&sim->chance, UINT64_C(1) << 50);
    if (sim->options.drift_ppm > 0) {
        uint64_t ppm = random_below(&sim->chance, 2 * (uint64_t)sim->options.drift_ppm + 1);
        process->drift_ppm = (int64_t)ppm - (int64_t)sim->options.drift_ppm;
    }
    timer_heap_init(&process->timers);
    process->wake.fire = wake_fire;
    process->tasks_turn.fire = tasks_fire;
    STAILQ_INIT(&process->tasks);
    TAILQ_INIT(&process->works);
    TAILQ_INIT(&process->endpoints);
    LIST_INIT(&process->open_files);
    node->process = process;
    if (!node->powered) {
        node->powered = true;
        sim_net_node_back(node);
    }
    sim_log(sim, node->name, "process starts instance=%" PRIx64, process->env.instance);
    return &process->env;
}

struct env *sim_process(const struct sim_node *node)
{
    return node->process ? &node->process->env : NULL;
}

void sim_process_auth(struct sim_node *node, const struct auth_provider *provider)
{
    node->process->auth = provider;
}

void sim_process_freeze(struct sim_node *node)
{
    struct sim_process *process = node->process;
    assert(process);
    process->frozen = true;
    sim_timer_stop(node->sim, &process->wake);
    sim_timer_stop(node->sim, &process->tasks_turn);
    struct sim_work *work;
    TAILQ_FOREACH(work, &process->works, link)
    sim_timer_stop(node->sim, &work->timer);
}

void sim_process_end(struct sim_node *node, enum sim_end how)
{
    static const char *const words[] = {"exits", "crashes", "loses power"};
    struct sim_process *process = node->process;
    sim_process_freeze(node);
    sim_log(node->sim, node->name, "process %s", words[how]);
    sim_net_process_gone(process, how);
    sim_files_process_gone(process);
    if (how == SIM_POWER_CUT) {
        sim_files_power_cut(&node->files, &node->sim->chance);
        node->powered = false;
    }
    struct sim_work *work;
    while ((work = TAILQ_FIRST(&process->works)))
        work_free(work);
    /* The memory of timers that were armed may be gone with their owners. */
    free(process->timers.timers);
    node->process = NULL;
    free(process);
}

void sim_process_pause(struct sim_node *node, uint64_t until_ns)
{
    if (node->process && node->process->busy_until < until_ns)
        node->process->busy_until = until_ns;
}

/* ---- Logs ---- */

static void keep_line(struct sim *sim, const char *line)
{
    char **slot = &sim->lines[sim->n_lines++ % SIM_LOG_LINES];
    free(*slot);
    *slot = sim_must(strdup(line));
    if (sim->options.trace)
        puts(line);
}

static void write_line(struct sim *sim, const char *who, const char *level, const char *text)
{
    char line[LOG_LINE_BYTES];
    snprintf(line, sizeof line, "%5" PRIu64 ".%06" PRIu64 " %-9s %s%s", sim->now / SEC_NS,
             sim->now % SEC_NS / 1000, who, level, text);
    keep_line(sim, line);
}

static void process_log(struct env *env, int level, const char *line)
{
    static const char *const words[] = {"ERROR ", "WARN ", "", ""};
    struct sim_process *process = process_of(env);
    write_line(process->sim, process->node->name, words[level & 3], line);
}

void sim_log(struct sim *sim, const char *who, const char *format, ...)
{
    char text[LOG_LINE_BYTES - 64];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    write_line(sim, who, "* ", text);
}

void sim_log_dump(const struct sim *sim)
{
    if (sim->options.trace)
        return; /* Printed already. */
    uint64_t first = sim->n_lines > SIM_LOG_LINES ? sim->n_lines - SIM_LOG_LINES : 0;
    for (uint64_t i = first; i < sim->n_lines; i++)
        fprintf(stderr, "%s\n", sim->lines[i % SIM_LOG_LINES]);
}
