/* The simulated world, tested with small toy processes. */
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/env_sim.h"

enum { TOY_PORT = 3300, RECEIVED_MAX = 4096 };

/* A process that counts what happens to it, and answers every message if it is told to. */
struct toy {
    struct sim_node *node;
    struct env *env;
    struct net_session *out; /* The session it opened; NULL once closed. */
    struct net_session *in;  /* The latest inbound session. */
    bool echo;
    uint32_t opened, disconnected, closed, drained;
    int error;
    uint32_t n_received;
    uint64_t received[RECEIVED_MAX];
    uint64_t received_at[RECEIVED_MAX];
};

struct world {
    struct sim *sim;
    struct toy toys[3];
};

static struct message *number_message(uint64_t number)
{
    struct message *m = message_create(MSG_PING, sizeof number);
    assert_non_null(m);
    memcpy(m->body, &number, sizeof number);
    return m;
}

static void toy_opened(void *ctx, struct net_session *session)
{
    struct toy *toy = ctx;
    toy->opened++;
    if (!session->outbound)
        toy->in = session;
}

static void toy_received(void *ctx, struct net_session *session, struct message *m)
{
    struct toy *toy = ctx;
    uint64_t number;
    assert_true(session->open);
    assert_int_equal(m->body_len, sizeof number);
    memcpy(&number, m->body, sizeof number);
    assert_true(toy->n_received < RECEIVED_MAX);
    toy->received_at[toy->n_received] = env_now(toy->env);
    toy->received[toy->n_received++] = number;
    if (toy->echo)
        net_send(toy->env, session, number_message(number));
}

static void toy_disconnected(void *ctx, struct net_session *session)
{
    struct toy *toy = ctx;
    assert_true(session->open);
    toy->disconnected++;
}

static void toy_closed(void *ctx, struct net_session *session, int error)
{
    struct toy *toy = ctx;
    toy->closed++;
    toy->error = error;
    if (toy->out == session)
        toy->out = NULL;
    if (toy->in == session)
        toy->in = NULL;
}

static void toy_drained(void *ctx, struct net_session *session)
{
    (void)session;
    ((struct toy *)ctx)->drained++;
}

static const struct net_handlers toy_handlers = {
    .opened = toy_opened,
    .received = toy_received,
    .disconnected = toy_disconnected,
    .closed = toy_closed,
    .drained = toy_drained,
};

static void toy_start(struct toy *toy, bool listens)
{
    struct net_address address = sim_node_address(toy->node, TOY_PORT);
    toy->env = sim_process_start(toy->node);
    assert_non_null(toy->env);
    net_handlers_set(toy->env, &toy_handlers, toy);
    if (listens)
        assert_int_equal(net_listen(toy->env, &address, NULL), 0);
}

static void toy_end(struct toy *toy, enum sim_end how)
{
    sim_process_freeze(toy->node);
    sim_process_end(toy->node, how);
    toy->env = NULL;
    toy->in = toy->out = NULL;
}

static void toy_open(struct toy *toy, struct toy *to, uint64_t instance)
{
    struct net_address address = sim_node_address(to->node, TOY_PORT);
    struct net_expect expect = {.instance = instance};
    assert_int_equal(net_open(toy->env, &address, &expect, NULL, &toy->out), 0);
}

static struct world *world_create(const struct sim_options *options)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->sim = sim_create(options);
    assert_non_null(w->sim);
    for (uint32_t i = 0; i < 3; i++) {
        char name[16];
        struct entity_name entity = entity_osd((int32_t)i);
        snprintf(name, sizeof name, "osd.%u", i);
        w->toys[i].node = sim_node_create(w->sim, name, &entity);
        assert_non_null(w->toys[i].node);
        toy_start(&w->toys[i], true);
    }
    return w;
}

static struct world *world_seeded(uint64_t seed)
{
    return world_create(&(struct sim_options){.seed = seed});
}

static void world_destroy(struct world *w)
{
    for (uint32_t i = 0; i < 3; i++) {
        if (w->toys[i].env)
            toy_end(&w->toys[i], SIM_EXIT);
    }
    sim_destroy(w->sim);
    free(w);
}

static void run_for(struct world *w, uint64_t ns)
{
    sim_run(w->sim, sim_now(w->sim) + ns);
}

static void assert_counts_up(const struct toy *toy, uint32_t n)
{
    assert_int_equal(toy->n_received, n);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(toy->received[i], i);
}

/* ---- Sessions ---- */

static void delivers_in_order_and_calls_nothing_at_once(void **state)
{
    (void)state;
    struct world *w = world_seeded(1);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    b->echo = true;
    toy_open(a, b, 0);
    for (uint64_t i = 0; i < 1000; i++)
        net_send(a->env, a->out, number_message(i));
    assert_int_equal(a->opened + b->opened + b->n_received, 0);
    assert_true(a->out->queued_bytes > 0);
    run_for(w, 10 * SEC_NS);
    assert_int_equal(a->opened, 1);
    assert_int_equal(b->opened, 1);
    assert_counts_up(b, 1000);
    assert_counts_up(a, 1000);
    assert_int_equal(a->out->queued_bytes, 0);
    assert_true(a->out->peer.instance == b->env->instance);
    assert_true(b->in->peer.instance == a->env->instance);
    assert_true(entity_osd_id(&b->in->peer.name) == 0);
    assert_true(caps_allow(&b->in->peer.caps, CAP_ALL, NULL));
    world_destroy(w);
}

static void sessions_overtake_each_other(void **state)
{
    (void)state;
    struct world *w = world_seeded(2);
    struct toy *a = &w->toys[0], *b = &w->toys[1], *c = &w->toys[2];
    toy_open(a, c, 0);
    toy_open(b, c, 0);
    run_for(w, SEC_NS);
    for (uint64_t i = 0; i < 500; i++) {
        net_send(a->env, a->out, number_message(2 * i));
        net_send(b->env, b->out, number_message(2 * i + 1));
        run_for(w, MSEC_NS / 10);
    }
    run_for(w, SEC_NS);
    uint32_t overtaken = 0;
    assert_int_equal(c->n_received, 1000);
    for (uint32_t i = 1; i < 1000; i++)
        overtaken += c->received[i] < c->received[i - 1];
    assert_true(overtaken > 20);
    world_destroy(w);
}

static void loses_nothing_when_connections_break(void **state)
{
    (void)state;
    struct world *w = world_create(&(struct sim_options){.seed = 3, .breaks_per_h = 3600});
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    b->echo = true;
    toy_open(a, b, 0);
    for (uint64_t i = 0; i < 2000; i++) {
        net_send(a->env, a->out, number_message(i));
        run_for(w, 20 * MSEC_NS);
    }
    sim_calm(w->sim);
    run_for(w, 20 * SEC_NS);
    assert_true(a->disconnected > 5);
    assert_true(b->disconnected > 5);
    assert_int_equal(a->closed + b->closed, 0);
    assert_int_equal(a->opened, 1);
    assert_counts_up(b, 2000);
    assert_counts_up(a, 2000);
    world_destroy(w);
}

static void delivers_a_prefix_when_sessions_end(void **state)
{
    (void)state;
    uint32_t partial = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *w = world_create(&(struct sim_options){.seed = seed, .ends_per_h = 3600});
        struct toy *a = &w->toys[0], *b = &w->toys[1];
        toy_open(a, b, 0);
        uint64_t sent = 0;
        while (a->out && sent < RECEIVED_MAX) {
            net_send(a->env, a->out, number_message(sent++));
            run_for(w, MSEC_NS);
        }
        assert_null(a->out);
        assert_int_equal(a->error, -ETIMEDOUT);
        sim_calm(w->sim);
        run_for(w, 20 * SEC_NS);
        assert_int_equal(b->closed, 1);
        assert_int_equal(b->error, -ETIMEDOUT);
        assert_counts_up(b, b->n_received);
        partial += b->n_received < sent;
        world_destroy(w);
    }
    assert_true(partial > 0);
}

static void refuses_where_nobody_listens(void **state)
{
    (void)state;
    struct world *w = world_seeded(4);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    toy_end(b, SIM_CRASH);
    toy_open(a, b, 0);
    net_send(a->env, a->out, number_message(0));
    run_for(w, SEC_NS);
    assert_int_equal(a->closed, 1);
    assert_int_equal(a->error, -ECONNREFUSED);
    assert_int_equal(a->opened, 0);
    world_destroy(w);
}

static void crash_disconnects_then_refuses(void **state)
{
    (void)state;
    struct world *w = world_seeded(5);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    toy_open(a, b, 0);
    run_for(w, SEC_NS);
    toy_end(b, SIM_CRASH);
    run_for(w, SEC_NS);
    assert_int_equal(a->disconnected, 1);
    assert_int_equal(a->closed, 1);
    assert_int_equal(a->error, -ECONNREFUSED);
    world_destroy(w);
}

static void restart_resets(void **state)
{
    (void)state;
    struct world *w = world_seeded(6);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    toy_open(a, b, 0);
    run_for(w, SEC_NS);
    uint64_t old_instance = b->env->instance;
    toy_end(b, SIM_CRASH);
    toy_start(b, true);
    run_for(w, SEC_NS);
    assert_int_equal(a->error, -ELIMPET_RESET);
    toy_open(a, b, old_instance);
    run_for(w, SEC_NS);
    assert_int_equal(a->closed, 2);
    assert_int_equal(a->error, -ELIMPET_RESET);
    assert_int_equal(a->opened, 1);
    toy_open(a, b, b->env->instance);
    run_for(w, SEC_NS);
    assert_int_equal(a->opened, 2);
    world_destroy(w);
}

static void initiator_crash_disconnects_then_times_out(void **state)
{
    (void)state;
    struct world *w = world_seeded(7);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    toy_open(a, b, 0);
    run_for(w, SEC_NS);
    toy_end(a, SIM_CRASH);
    run_for(w, 20 * MSEC_NS);
    assert_int_equal(b->disconnected, 1);
    run_for(w, 30 * SEC_NS);
    assert_int_equal(b->closed, 1);
    assert_int_equal(b->error, -ETIMEDOUT);
    world_destroy(w);
}

static void power_cut_is_silent(void **state)
{
    (void)state;
    struct world *w = world_seeded(8);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    toy_open(a, b, 0);
    run_for(w, SEC_NS);
    toy_end(b, SIM_POWER_CUT);
    run_for(w, 3 * SEC_NS);
    assert_int_equal(a->disconnected + a->closed, 0);
    run_for(w, 60 * SEC_NS);
    assert_int_equal(a->closed, 1);
    assert_int_equal(a->error, -ETIMEDOUT);
    world_destroy(w);
}

static void close_arrives_after_what_was_sent(void **state)
{
    (void)state;
    struct world *w = world_seeded(9);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    toy_open(a, b, 0);
    run_for(w, SEC_NS);
    for (uint64_t i = 0; i < 50; i++)
        net_send(a->env, a->out, number_message(i));
    net_close(a->env, a->out);
    a->out = NULL;
    run_for(w, SEC_NS);
    assert_counts_up(b, 50);
    assert_int_equal(b->closed, 1);
    assert_int_equal(b->error, -ECONNRESET);
    assert_int_equal(a->closed, 0);
    world_destroy(w);
}

static void expects_the_right_entity(void **state)
{
    (void)state;
    struct world *w = world_seeded(10);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    struct net_address address = sim_node_address(b->node, TOY_PORT);
    struct net_expect expect = {.name = entity_osd(2)};
    assert_int_equal(net_open(a->env, &address, &expect, NULL, &a->out), 0);
    run_for(w, SEC_NS);
    assert_int_equal(a->error, -ELIMPET_RESET);
    world_destroy(w);
}

static void partition_delays_then_ends(void **state)
{
    (void)state;
    struct world *w = world_seeded(11);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    toy_open(a, b, 0);
    run_for(w, SEC_NS);
    sim_partition(w->sim, a->node, b->node, true);
    net_send(a->env, a->out, number_message(0));
    run_for(w, 4 * SEC_NS);
    assert_int_equal(b->n_received, 0);
    sim_heal(w->sim);
    run_for(w, SEC_NS);
    assert_counts_up(b, 1);
    assert_int_equal(a->disconnected, 0);
    sim_partition(w->sim, a->node, b->node, true);
    net_send(a->env, a->out, number_message(1));
    run_for(w, 60 * SEC_NS);
    assert_int_equal(a->error, -ETIMEDOUT);
    assert_int_equal(b->error, -ETIMEDOUT);
    assert_int_equal(b->n_received, 1);
    world_destroy(w);
}

/* One way is enough: what arrives cannot be acknowledged, or is not asked for. */
static void a_cut_path_shows_no_sign_of_life(void **state)
{
    (void)state;
    struct world *w = world_seeded(11);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    toy_open(a, b, 0);
    run_for(w, SEC_NS);
    net_pause(b->env, b->in, true);
    assert_int_equal(net_heard_ns(a->env, a->out), env_now(a->env));
    sim_block(w->sim, b->node, a->node, true);
    assert_int_equal(net_heard_ns(a->env, a->out), 0);
    assert_int_equal(net_heard_ns(b->env, b->in), 0);
    sim_heal(w->sim);
    assert_int_equal(net_heard_ns(a->env, a->out), env_now(a->env));
    world_destroy(w);
}

static void pause_of_a_session_holds_messages(void **state)
{
    (void)state;
    struct world *w = world_seeded(12);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    toy_open(a, b, 0);
    run_for(w, SEC_NS);
    net_pause(b->env, b->in, true);
    for (uint64_t i = 0; i < 10; i++)
        net_send(a->env, a->out, number_message(i));
    run_for(w, SEC_NS);
    assert_int_equal(b->n_received, 0);
    assert_true(a->out->queued_bytes > 0);
    net_pause(b->env, b->in, false);
    run_for(w, SEC_NS);
    assert_counts_up(b, 10);
    world_destroy(w);
}

static void drains_after_the_queue_was_full(void **state)
{
    (void)state;
    struct world *w = world_seeded(13);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    struct buf_slice payload;
    assert_int_equal(buf_slice_alloc(NET_QUEUE_LIMIT / 4, &payload), 0);
    memset(payload.data, 1, payload.len);
    toy_open(a, b, 0);
    for (uint64_t i = 0; i < 5; i++) {
        struct message *m = number_message(i);
        m->payload = buf_slice_ref(payload);
        net_send(a->env, a->out, m);
    }
    buf_slice_drop(&payload);
    assert_true(a->out->queued_bytes > NET_QUEUE_LIMIT);
    run_for(w, 10 * SEC_NS);
    assert_counts_up(b, 5);
    assert_int_equal(a->drained, 1);
    world_destroy(w);
}

static void paused_process_sleeps(void **state)
{
    (void)state;
    struct world *w = world_seeded(14);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    toy_open(a, b, 0);
    run_for(w, SEC_NS);
    sim_process_pause(b->node, sim_now(w->sim) + 5 * SEC_NS);
    net_send(a->env, a->out, number_message(0));
    run_for(w, 4 * SEC_NS);
    assert_int_equal(b->n_received, 0);
    run_for(w, 2 * SEC_NS);
    assert_counts_up(b, 1);
    world_destroy(w);
}

/* ---- Timers, tasks, work ---- */

struct ticking {
    struct env_timer timer;
    struct env_task task;
    struct env_work work;
    struct env *env;
    uint64_t fired_at;
    uint32_t tasks, runs, dones;
};

static void tick_fire(struct env_timer *timer)
{
    struct ticking *t = container_of(timer, struct ticking, timer);
    t->fired_at = env_now(t->env);
}

static void tick_task(struct env_task *task)
{
    container_of(task, struct ticking, task)->tasks++;
}

static void tick_run(struct env_work *work)
{
    container_of(work, struct ticking, work)->runs++;
}

static void tick_done(struct env_work *work)
{
    struct ticking *t = container_of(work, struct ticking, work);
    assert_int_equal(t->runs, t->dones + 1);
    t->dones++;
}

static void timers_never_fire_early_by_the_local_clock(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct world *w = world_create(&(struct sim_options){.seed = seed, .drift_ppm = 5000});
        struct ticking t = {.timer.fire = tick_fire, .env = w->toys[0].env};
        for (uint64_t delay = 1; delay < 100 * SEC_NS; delay = delay * 7 + seed) {
            uint64_t before = env_now(t.env), virtual_before = sim_now(w->sim);
            env_timer_after(t.env, &t.timer, delay);
            while (t.timer.armed)
                assert_true(sim_step(w->sim, UINT64_MAX - 1));
            assert_true(t.fired_at - before >= delay);
            assert_true(t.fired_at - before <= delay + 2);
            uint64_t passed = sim_now(w->sim) - virtual_before;
            assert_true(passed >= delay - delay / 150 && passed <= delay + delay / 150 + 2);
        }
        world_destroy(w);
    }
}

static void tasks_and_work_run_later_and_once(void **state)
{
    (void)state;
    struct world *w = world_seeded(15);
    struct ticking t = {
        .task.run = tick_task,
        .work = {.run = tick_run, .done = tick_done},
        .env = w->toys[0].env,
    };
    env_defer(t.env, &t.task);
    env_defer(t.env, &t.task);
    env_work(t.env, &t.work);
    assert_int_equal(t.tasks + t.runs + t.dones, 0);
    run_for(w, SEC_NS);
    assert_int_equal(t.tasks, 1);
    assert_int_equal(t.runs, 1);
    assert_int_equal(t.dones, 1);
    world_destroy(w);
}

/* ---- Files ---- */

static struct env_file *must_open(struct env *env, const char *path, int flags)
{
    struct env_file *file = NULL;
    assert_int_equal(env_file_open(env, path, flags, &file), 0);
    return file;
}

static void assert_content(struct env *env, const char *path, const char *want)
{
    char data[64] = "";
    struct env_file *file = must_open(env, path, O_RDONLY);
    assert_int_equal(env_file_read(env, file, data, sizeof data, 0), (int)strlen(want));
    assert_memory_equal(data, want, strlen(want));
    env_file_close(env, file);
}

static void files_survive_a_crash_but_not_all_of_a_power_cut(void **state)
{
    (void)state;
    uint32_t lost = 0, kept = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct world *w = world_seeded(seed);
        struct toy *a = &w->toys[0];
        struct env_file *file = must_open(a->env, "log", O_RDWR | O_CREAT);
        assert_int_equal(env_file_write(a->env, file, "durable", 7, 0), 0);
        assert_int_equal(env_file_sync(a->env, file), 0);
        assert_int_equal(env_dir_sync(a->env, "."), 0);
        assert_int_equal(env_file_write(a->env, file, "perhaps", 7, 7), 0);
        toy_end(a, SIM_CRASH);
        toy_start(a, true);
        assert_content(a->env, "log", "durableperhaps");
        toy_end(a, SIM_POWER_CUT);
        toy_start(a, true);
        file = must_open(a->env, "log", O_RDONLY);
        int64_t size = env_file_size(a->env, file);
        env_file_close(a->env, file);
        assert_true(size == 7 || size == 14);
        assert_content(a->env, "log", size == 7 ? "durable" : "durableperhaps");
        lost += size == 7;
        kept += size == 14;
        world_destroy(w);
    }
    assert_true(lost > 0);
    assert_true(kept > 0);
}

static void names_need_their_folder_synced(void **state)
{
    (void)state;
    uint32_t old = 0, new = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct world *w = world_seeded(seed);
        struct toy *a = &w->toys[0];
        struct env_file *file = must_open(a->env, "state", O_RDWR | O_CREAT);
        assert_int_equal(env_file_write(a->env, file, "old", 3, 0), 0);
        assert_int_equal(env_file_sync(a->env, file), 0);
        env_file_close(a->env, file);
        assert_int_equal(env_dir_sync(a->env, "."), 0);
        file = must_open(a->env, "state.new", O_RDWR | O_CREAT | O_EXCL);
        assert_int_equal(env_file_write(a->env, file, "new!", 4, 0), 0);
        assert_int_equal(env_file_sync(a->env, file), 0);
        env_file_close(a->env, file);
        assert_int_equal(env_file_rename(a->env, "state.new", "state"), 0);
        assert_content(a->env, "state", "new!");
        toy_end(a, SIM_POWER_CUT);
        toy_start(a, true);
        file = must_open(a->env, "state", O_RDONLY);
        bool is_new = env_file_size(a->env, file) == 4;
        env_file_close(a->env, file);
        assert_content(a->env, "state", is_new ? "new!" : "old");
        old += !is_new;
        new += is_new;
        world_destroy(w);
    }
    assert_true(old > 0);
    assert_true(new > 0);
}

static void tears_writes_at_sectors(void **state)
{
    (void)state;
    uint32_t torn = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct world *w = world_seeded(seed);
        struct toy *a = &w->toys[0];
        uint8_t data[4096];
        memset(data, 'x', sizeof data);
        struct env_file *file = must_open(a->env, "log", O_RDWR | O_CREAT);
        assert_int_equal(env_file_truncate(a->env, file, sizeof data), 0);
        assert_int_equal(env_file_sync(a->env, file), 0);
        assert_int_equal(env_dir_sync(a->env, "."), 0);
        assert_int_equal(env_file_write(a->env, file, data, sizeof data, 0), 0);
        toy_end(a, SIM_POWER_CUT);
        toy_start(a, true);
        file = must_open(a->env, "log", O_RDONLY);
        assert_int_equal(env_file_read(a->env, file, data, sizeof data, 0), sizeof data);
        env_file_close(a->env, file);
        uint32_t there = 0;
        for (size_t at = 0; at < sizeof data; at += 512) {
            for (size_t i = 1; i < 512; i++)
                assert_int_equal(data[at], data[at + i]);
            there += data[at] == 'x';
        }
        torn += there > 0 && there < sizeof data / 512;
        world_destroy(w);
    }
    assert_true(torn > 5);
}

static void a_sync_takes_the_process_time(void **state)
{
    (void)state;
    struct world *w = world_seeded(16);
    struct toy *a = &w->toys[0], *b = &w->toys[1];
    sim_node_disk(a->node, 100 * MSEC_NS);
    toy_open(a, b, 0);
    run_for(w, SEC_NS);
    uint64_t before = env_now(b->env);
    struct env_file *file = must_open(a->env, "log", O_RDWR | O_CREAT);
    assert_int_equal(env_file_write(a->env, file, "x", 1, 0), 0);
    assert_int_equal(env_file_sync(a->env, file), 0);
    net_send(a->env, a->out, number_message(0));
    run_for(w, SEC_NS);
    assert_counts_up(b, 1);
    assert_true(b->received_at[0] - before >= 50 * MSEC_NS);
    world_destroy(w);
}

/* ---- The same seed gives the same run ---- */

static uint64_t busy_run(uint64_t seed)
{
    struct world *w = world_create(&(struct sim_options){
        .seed = seed, .drift_ppm = 500, .breaks_per_h = 600, .ends_per_h = 300});
    for (uint32_t i = 0; i < 3; i++)
        w->toys[i].echo = i != 0;
    for (uint64_t turn = 0; turn < 200; turn++) {
        struct toy *a = &w->toys[0], *b = &w->toys[1 + sim_below(w->sim, 2)];
        if (!a->out)
            toy_open(a, b, 0);
        net_send(a->env, a->out, number_message(turn));
        if (sim_chance(w->sim, 50)) {
            toy_end(b, sim_chance(w->sim, 2) ? SIM_CRASH : SIM_POWER_CUT);
            toy_start(b, true);
        }
        run_for(w, sim_below(w->sim, SEC_NS));
    }
    uint64_t hash = sim_hash(w->sim);
    world_destroy(w);
    return hash;
}

static void the_same_seed_gives_the_same_run(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        uint64_t hash = busy_run(seed);
        assert_true(hash == busy_run(seed));
        assert_true(hash != last);
        last = hash;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delivers_in_order_and_calls_nothing_at_once),
        cmocka_unit_test(sessions_overtake_each_other),
        cmocka_unit_test(loses_nothing_when_connections_break),
        cmocka_unit_test(delivers_a_prefix_when_sessions_end),
        cmocka_unit_test(refuses_where_nobody_listens),
        cmocka_unit_test(crash_disconnects_then_refuses),
        cmocka_unit_test(restart_resets),
        cmocka_unit_test(initiator_crash_disconnects_then_times_out),
        cmocka_unit_test(power_cut_is_silent),
        cmocka_unit_test(close_arrives_after_what_was_sent),
        cmocka_unit_test(expects_the_right_entity),
        cmocka_unit_test(partition_delays_then_ends),
        cmocka_unit_test(a_cut_path_shows_no_sign_of_life),
        cmocka_unit_test(pause_of_a_session_holds_messages),
        cmocka_unit_test(drains_after_the_queue_was_full),
        cmocka_unit_test(paused_process_sleeps),
        cmocka_unit_test(timers_never_fire_early_by_the_local_clock),
        cmocka_unit_test(tasks_and_work_run_later_and_once),
        cmocka_unit_test(files_survive_a_crash_but_not_all_of_a_power_cut),
        cmocka_unit_test(names_need_their_folder_synced),
        cmocka_unit_test(tears_writes_at_sectors),
        cmocka_unit_test(a_sync_takes_the_process_time),
        cmocka_unit_test(the_same_seed_gives_the_same_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
