/*
 * The store's engine against power cuts and failing disks, in the simulated world.
 *
 *     limpet-store-sim --seeds 1-1000 [--jobs 2] [--flips 10] [--planted NAME] [--covering]
 * [--trace]
 *
 * A seed decides a sequence of transactions on a small disk, and what goes wrong: points at which
 * the power fails (while it works, closes or mounts), the disk then keeping any part of what was
 * not flushed and the index what it flushed last; requests that fail, fall short or take long; a
 * disk that is full. After each cut the store is mounted again and compared with a model: it must
 * hold exactly the first k transactions, k being at least the number acknowledged, and every byte
 * must be right.
 *
 * With --flips a seed also damages its disk that many times by one bit each: reads and the deep
 * check must find it, unless nothing uses the bit. As often it mounts the undamaged disk while that
 * returns a wrong bit now and then, and the right one afterwards.
 *
 * With --rot a seed damages, while the store works, a block of the journal's ring that is not in
 * place yet: it must be found, and put nowhere.
 *
 * With --covering all seeds write large pieces and small ones over them at once, and rest before
 * the power fails: the journal's last groups then name data that have newer content already.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/planted.h"
#include "tests/sim/store_run.h"

enum { JOBS_MAX = 64 };

struct arguments {
    uint64_t first, last;
    uint32_t cuts, flips, jobs;
    bool covering;
    bool rot;
    bool trace;
};

/* ---- Power cuts, with and without a disk that fails ---- */

static void choose_faults(struct run *r)
{
    uint32_t n = 20 + (uint32_t)random_below(&r->random, 400);
    bool slow = random_below(&r->random, 2) || r->shape.deferring;
    r->faults = (struct disk_sim_faults){.slow = slow ? 4 : 0};
    r->may_fail = r->may_refuse = false;
    uint64_t kind = random_below(&r->random, 12);
    /* A flush that lost something does harm when it is one of the last before a cut. */
    bool flushes_fail = planted(PLANTED_STORE_IGNORE_FLUSH_ERROR);
    if (flushes_fail)
        kind = 2;
    switch (kind) {
    case 0:
        r->faults.fail_writes = n;
        break;
    case 1:
        r->faults.short_writes = n;
        break;
    case 2:
        r->faults.fail_flushes = flushes_fail ? 3 : n / 4 + 1;
        break;
    case 3:
        r->faults.fail_reads = n;
        r->may_refuse = true;
        return;
    default:
        return;
    }
    r->may_fail = true;
}

/* Ends the store in one of the ways that there are. */
static bool end_life(struct run *r)
{
    uint64_t how = r->store_failed ? 1000 : random_below(&r->random, 10);
    if (how == 0 && !r->may_fail)
        return run_close(r);
    if (r->shape.covering && !r->store_failed)
        how = 2;
    if (how == 1) {
        run_close_and_cut(r);
        return !r->wrong;
    }
    /* The moment in which the journal has forgotten something. */
    if (!r->store_failed && how > 2 && (how == 3 || r->shape.deferring)) {
        bool ok = run_to_checkpoint(r, r->next + 400);
        run_cut(r);
        return ok;
    }
    /* Everything at rest, except what the store does by itself. */
    if (how == 2) {
        bool ok = run_settle(r);
        /* What only memory has is read and listed, too, and some of it reaches the index by that.
         */
        if (ok && !r->may_fail && !r->may_refuse)
            ok = run_compare(r);
        uint64_t deadline = sim_now(r->sim) + SEC_NS;
        for (uint64_t n = random_below(&r->random, 60); n > 0; n--)
            sim_step(r->sim, deadline);
        run_cut(r);
        return ok;
    }
    run_cut(r);
    return !r->wrong;
}

static bool mount_again(struct run *r)
{
    /* Sometimes the power fails while it mounts, more than once. */
    while (random_below(&r->random, 3) == 0) {
        r->faults.sync_left = 1 + (uint32_t)random_below(&r->random, 60);
        if (run_open(r, true)) {
            run_cut(r);
            r->faults.sync_left = 0;
        } else {
            r->totals->cuts++;
        }
    }
    r->faults.sync_left = 0;
    if (random_below(&r->random, 4) == 0 && !run_check(r, false, NULL))
        return false;
    return run_open(r, false) && run_compare(r);
}

static bool run_lives(struct run *r, uint32_t cuts)
{
    bool ok = run_open(r, false);
    for (uint32_t cut = 0; ok && cut < cuts; cut++) {
        uint64_t most = r->shape.covering ? 40 : 300;
        ok = run_work(r, r->next + random_below(&r->random, most)) && end_life(r);
        choose_faults(r);
        bool may_fail = r->may_fail;
        r->may_fail = false;
        ok = ok && mount_again(r);
        r->may_fail = may_fail;
    }
    if (!ok)
        return false;
    if (r->may_fail) { /* The last life has work too. */
        ok = run_work(r, r->next + 100);
        run_cut(r);
        r->faults = (struct disk_sim_faults){0};
        r->may_fail = r->may_refuse = false;
        ok = ok && run_open(r, false) && run_compare(r);
    }
    return ok && run_close(r) && run_check(r, false, NULL);
}

/* ---- A full disk ---- */

static bool remove_all(struct run *r)
{
    for (uint32_t n = 0; n < r->shape.objects; n++) {
        struct model_txn txn = {.n_steps = 1, .steps = {{.code = STEP_REMOVE, .object = n}}};
        run_submit_txn(r, &txn);
    }
    return run_settle(r);
}

static bool write_whole(struct run *r, uint32_t objects)
{
    for (uint32_t n = 0; n < objects; n++) {
        struct model_txn txn = {
            .n_steps = 1,
            .steps = {{.code = STEP_WRITE, .object = n, .len = r->shape.object_bytes, .fill = n}}};
        run_submit_txn(r, &txn);
    }
    return run_settle(r);
}

/* One step, by itself. Whether it was done; false with r->wrong when it should not have been. */
static bool one_step(struct run *r, struct model_step step, bool uses_reserve)
{
    struct model_txn txn = {.n_steps = 1, .steps = {step}, .uses_reserve = uses_reserve};
    uint64_t refused = r->totals->refused;
    run_submit_txn(r, &txn);
    return run_settle(r) && r->totals->refused == refused;
}

static bool must_pass(struct run *r, struct model_step step, bool uses_reserve, const char *what)
{
    if (one_step(r, step, uses_reserve))
        return true;
    fprintf(stderr, "a full store refuses %s\n", what);
    return false;
}

/* Writes in pieces until nothing more fits. Returns how many did. */
static uint32_t fill_up(struct run *r)
{
    enum { PIECE = 256 * 1024 };
    uint32_t pieces = 0;
    for (uint32_t n = 0; n < r->shape.objects; n++)
        for (uint32_t at = 0; at + PIECE <= r->shape.object_bytes; at += PIECE) {
            struct model_step step = {
                .code = STEP_WRITE, .object = n, .offset = at, .len = PIECE, .fill = at + n};
            if (!one_step(r, step, false))
                return pieces;
            pieces++;
        }
    return pieces;
}

/*
 * What a full store must still do: overwrite in large and small pieces, take what recovery writes,
 * drop clones, cut objects off. And it must go on refusing growth.
 */
static bool use_full(struct run *r)
{
    uint32_t last = r->shape.objects - 1, recovered = r->shape.object_bytes / 4;
    struct model_step overwrite = {.code = STEP_WRITE, .len = 1 << 20, .offset = 4096, .fill = 3};
    struct model_step small = {.code = STEP_WRITE, .len = 9000, .offset = 4100, .fill = 5};
    struct model_step grow = {
        .code = STEP_WRITE, .object = last, .offset = 3 << 20, .len = 1 << 20, .fill = 7};
    struct model_step recover = {.code = STEP_WRITE, .object = last, .len = recovered, .fill = 9};
    struct model_step clone = {.code = STEP_CLONE, .object = 2, .other = 3};
    struct model_step cut = {.code = STEP_TRUNCATE, .object = 3, .offset = 70001};
    struct model_step drop = {.code = STEP_REMOVE, .object = 3};
    for (uint32_t i = 0; i < 8; i++, overwrite.fill += 2) {
        overwrite.offset += 128 * 1024;
        if (!must_pass(r, overwrite, false, "to overwrite 1 MiB") ||
            !must_pass(r, small, false, "to overwrite 9 KB"))
            return false;
    }
    if (one_step(r, grow, false) || !must_pass(r, recover, true, "recovery") ||
        one_step(r, grow, false)) {
        fprintf(stderr, "a full store lets an object grow, or does not recover one\n");
        return false;
    }
    /* Recovery may take nearly all; then an overwrite has no new place to go to. */
    for (recover.object--, recover.len = 256 * 1024; one_step(r, recover, true);
         recover.fill += 2) {
        recover.offset += recover.len;
        if (recover.offset + recover.len > r->shape.object_bytes) {
            recover.object--;
            recover.offset = 0;
        }
    }
    overwrite.len = r->journal_bytes > 4 << 20 ? 250 * 4096 : 100 * 4096;
    if (!must_pass(r, overwrite, false, "to overwrite when the reserve is used up"))
        return false;
    return must_pass(r, clone, false, "a clone") && must_pass(r, cut, false, "to truncate it") &&
           must_pass(r, drop, false, "to remove it");
}

/* Filled, used and emptied again and again, the same fits each time. */
static bool run_cycles(struct run *r)
{
    struct store_statfs fs;
    uint32_t first = 0;
    for (uint32_t cycle = 0; cycle < 3; cycle++) {
        uint32_t pieces = fill_up(r);
        first = cycle == 0 ? pieces : first;
        if (r->wrong || pieces == 0 || pieces != first) {
            fprintf(stderr, "%u pieces fit, then %u\n", first, pieces);
            return false;
        }
        if (!use_full(r) || !remove_all(r))
            return false;
        r->store->ops->statfs(r->store, &fs);
        if (fs.bytes_used > 0 || fs.bytes_available != fs.bytes_total) {
            fprintf(stderr, "%llu bytes are in use although there is no object\n",
                    (unsigned long long)fs.bytes_used);
            return false;
        }
    }
    return true;
}

static bool run_full(struct run *r)
{
    struct store_statfs fs;
    bool ok = run_open(r, false);
    r->may_refuse = true;
    ok = ok && run_cycles(r) && write_whole(r, r->shape.objects);
    for (uint32_t life = 0; ok && life < 3; life++) {
        ok = run_work(r, r->next + 60) && run_settle(r);
        if (ok && r->totals->refused == 0) {
            fprintf(stderr, "the disk was never full\n");
            return false;
        }
        run_cut(r);
        ok = ok && run_open(r, false) && run_compare(r);
    }
    ok = ok && remove_all(r) && run_close(r) && run_open(r, false) && run_compare(r);
    if (!ok)
        return false;
    r->store->ops->statfs(r->store, &fs);
    if (fs.bytes_used > 0 || fs.bytes_available != fs.bytes_total) {
        fprintf(stderr, "%llu bytes are in use although there is no object\n",
                (unsigned long long)fs.bytes_used);
        return false;
    }
    r->may_refuse = false; /* There is room again. */
    return write_whole(r, 4) && run_close(r) && run_check(r, false, NULL);
}

/* ---- Flipped bits ---- */

/* A byte of a superblock, of the journal, or of the data: one that is not zero, if there is. */
static uint64_t choose_byte(struct run *r)
{
    const uint8_t *bytes = disk_image_bytes(r->image);
    uint64_t data = JOURNAL_OFFSET + r->journal_bytes;
    uint64_t kind = random_below(&r->random, 4);
    uint64_t first = kind == 0 ? 0 : kind == 1 ? JOURNAL_OFFSET : data;
    uint64_t last = kind == 0 ? SUPER_COPIES * BLOCK_BYTES : kind == 1 ? data : r->disk_bytes;
    uint64_t at = first;
    for (uint32_t tries = 0; tries < 2000; tries++) {
        at = first + random_below(&r->random, last - first);
        if (bytes[at] != 0)
            break;
    }
    return at;
}

struct flip_state {
    struct disk_image *image;
    struct index_memory_disk *index_disk;
    struct model want;
    struct model older; /* Without the last group. */
    uint64_t number;
    uint64_t sequence;
};

static void use_copies(struct run *r, const struct flip_state *s, uint64_t byte, uint32_t bit)
{
    disk_image_destroy(r->image);
    index_memory_disk_destroy(r->index_disk);
    r->image = disk_image_copy(s->image);
    r->index_disk = index_memory_disk_copy(s->index_disk);
    assert(r->index_disk);
    if (byte != UINT64_MAX)
        disk_image_flip(r->image, byte, bit);
}

/*
 * A store that holds less than was acknowledged. Damage of a group that was under way when the
 * newest one was written looks like a write that was cut off. A header of padding may stand before
 * one of them.
 */
static bool judge_older(struct run *r, struct flip_state *s, uint64_t number)
{
    if (r->sequence + JOURNAL_UNDER_WAY + 1 < s->sequence) {
        fprintf(stderr, "acknowledged transactions are lost: %llu of %llu\n",
                (unsigned long long)number, (unsigned long long)s->number);
        return false;
    }
    run_model_at(r, number, &s->older);
    return run_read_all(r, &s->older, false) == EQUAL;
}

/* What a mounted store with one damaged bit holds. */
static bool judge_mounted(struct run *r, struct flip_state *s, bool fsck_found)
{
    struct store_totals *t = r->totals;
    uint64_t number;
    if (!run_number(r, &number))
        return false;
    if (number < s->number) {
        t->flips_last_group++;
        return judge_older(r, s, number);
    }
    enum verdict verdict = run_read_all(r, &s->want, false);
    if (verdict == DIFFERENT)
        return false;
    if (verdict == UNREADABLE && !fsck_found) {
        fprintf(stderr, "the deep check does not find what a read finds\n");
        return false;
    }
    if (verdict == UNREADABLE)
        t->flips_read++;
    else if (fsck_found)
        t->flips_fsck++;
    else
        t->flips_harmless++;
    return true;
}

static bool flip_once(struct run *r, struct flip_state *s)
{
    use_copies(r, s, UINT64_MAX, 0);
    uint64_t byte = choose_byte(r);
    uint32_t bit = (uint32_t)random_below(&r->random, 8);
    int64_t errors;
    disk_image_flip(r->image, byte, bit);
    (void)run_check(r, true, &errors);
    use_copies(r, s, byte, bit);
    r->totals->flips++;
    bool ok;
    if (!run_open(r, true)) {
        r->totals->flips_mount++;
        ok = errors != 0; /* The check must say so as well. */
    } else {
        ok = judge_mounted(r, s, errors != 0);
        run_cut(r);
        r->totals->cuts--;
    }
    if (!ok)
        fprintf(stderr, "bit %u of byte %llu (block %llu)\n", bit, (unsigned long long)byte,
                (unsigned long long)byte / BLOCK_BYTES);
    return ok;
}

/*
 * Mounts while the disk now and then returns a wrong bit that is right when it is read again. The
 * mount may be refused, and has done no harm then; or everything is right.
 */
static bool unsteady_once(struct run *r, struct flip_state *s)
{
    uint64_t number;
    use_copies(r, s, UINT64_MAX, 0);
    r->totals->unsteady++;
    r->faults.unsteady = 1 + (uint32_t)random_below(&r->random, 20);
    bool mounted = run_open(r, true);
    bool refused = !mounted;
    r->faults.unsteady = 0;
    if (refused)
        mounted = run_open(r, false);
    if (!mounted)
        return false;
    r->totals->unsteady_refused += refused;
    bool ok = run_number(r, &number);
    if (ok && number < s->number && !refused)
        ok = judge_older(r, s, number);
    else
        ok = ok && number == s->number && run_read_all(r, &s->want, false) == EQUAL;
    if (!ok)
        fprintf(stderr, "a disk that returns different bytes has done harm%s\n",
                refused ? " though the mount was refused" : "");
    run_cut(r);
    r->totals->cuts--;
    return ok;
}

static bool run_flips(struct run *r, uint32_t flips)
{
    struct flip_state s = {0};
    bool ok = run_open(r, false) && run_work(r, r->next + 100 + random_below(&r->random, 300));
    if (!ok)
        return false;
    if (random_below(&r->random, 2) == 0) {
        ok = run_settle(r) && run_close(r);
    } else {
        run_cut(r);
    }
    s.image = disk_image_copy(r->image);
    s.index_disk = index_memory_disk_copy(r->index_disk);
    assert(s.index_disk);
    model_init(&s.want, &r->shape);
    model_init(&s.older, &r->shape);
    ok = ok && run_open(r, false) && run_number(r, &s.number) && s.number >= r->acknowledged;
    if (ok) {
        s.sequence = r->sequence;
        run_model_at(r, s.number, &s.want);
        ok = run_read_all(r, &s.want, false) == EQUAL;
        run_cut(r);
    }
    for (uint32_t i = 0; ok && i < flips; i++)
        ok = flip_once(r, &s);
    for (uint32_t i = 0; ok && i < flips; i++)
        ok = unsteady_once(r, &s);
    disk_image_destroy(s.image);
    index_memory_disk_destroy(s.index_disk);
    model_fini(&s.want);
    model_fini(&s.older);
    return ok;
}

/* ---- A ring that rots ---- */

/* One of the blocks that only the ring has; false: there is none. */
static bool choose_slot(struct run *r, uint32_t *slot)
{
    const struct ring *ring = &engine_of(r->store)->ring;
    uint32_t first = (uint32_t)random_below(&r->random, ring->n_slots);
    for (uint32_t i = 0; i < ring->n_slots; i++) {
        *slot = (first + i) % ring->n_slots;
        uint32_t block = ring->slots[*slot].block;
        if (block != BLOCK_NONE && !cache_look(engine_of(r->store), block))
            return true;
    }
    return false;
}

/*
 * After the damage: blocks are overwritten in part or whole, read, put in place. What a read
 * returns is right, or it fails, and the store has said so.
 */
static bool rot_once(struct run *r, struct model *want)
{
    const struct engine *e = engine_of(r->store);
    uint8_t rotten[BLOCK_BYTES];
    uint32_t slot;
    uint64_t number;
    if (!choose_slot(r, &slot))
        return true;
    uint32_t block = e->ring.slots[slot].block;
    uint64_t told = e->counters.checksum_errors;
    disk_image_flip(r->image, ring_offset(slot) + random_below(&r->random, BLOCK_BYTES),
                    (uint32_t)random_below(&r->random, 8));
    memcpy(rotten, disk_image_bytes(r->image) + ring_offset(slot), BLOCK_BYTES);
    r->totals->rotten++;
    r->unreadable = r->rotten = true;
    for (uint32_t i = 0; i < r->n_plans; i++)
        r->plans[i]->reads_fail = true; /* Those behind it may leave damage. */
    if (random_below(&r->random, 2))
        run_rest(r, random_below(&r->random, 2000) * MSEC_NS);
    uint64_t n = random_below(&r->random, 2) ? random_below(&r->random, 100) : 0;
    if (!run_work(r, r->next + n) || !run_settle(r) || !run_number(r, &number))
        return false;
    run_model_at(r, number, want);
    enum verdict verdict = run_read_all(r, want, false);
    if (verdict == DIFFERENT)
        return false;
    if (verdict == UNREADABLE && e->counters.checksum_errors == told) {
        fprintf(stderr, "damage of the ring is not told\n");
        return false;
    }
    r->totals->rotten_told += e->counters.checksum_errors > told;
    r->totals->rotten_healed += verdict == EQUAL;
    const uint8_t *place = disk_image_bytes(r->image) + ((uint64_t)block << BLOCK_SHIFT);
    if (memcmp(rotten, place, BLOCK_BYTES) == 0) {
        fprintf(stderr, "damaged content of the ring is put in place\n");
        return false;
    }
    return true;
}

static bool run_rotten(struct run *r)
{
    struct model want;
    r->cache_bytes = 1; /* The ring has it all. */
    bool ok = run_open(r, false);
    model_init(&want, &r->shape);
    ok = ok && run_work(r, r->next + 100 + random_below(&r->random, 200)) && run_settle(r);
    for (uint32_t i = 0; ok && i < 4; i++)
        ok = run_work(r, r->next + 50) && run_settle(r) && rot_once(r, &want);
    run_cut(r);
    uint64_t number;
    if (ok && !run_open(r, true)) {
        r->totals->rotten_mount++; /* It was acknowledged, and is not there: refused. */
        ok = r->totals->rotten > 0;
    } else if (ok) {
        ok = run_number(r, &number) && number == r->acknowledged;
        if (ok)
            run_model_at(r, number, &want);
        ok = ok && run_read_all(r, &want, false) != DIFFERENT;
        run_cut(r);
    }
    model_fini(&want);
    return ok;
}

/* ---- Seeds ---- */

static bool run_seed(uint64_t seed, const struct arguments *a, struct store_totals *totals)
{
    struct run r;
    bool full = a->flips == 0 && !a->covering && !a->rot && seed % 10 == 0;
    enum run_kind kind = full ? RUN_FULL : a->covering ? RUN_COVERING : RUN_ANY;
    run_init(&r, seed, kind, a->trace, totals);
    bool ok = a->rot         ? run_rotten(&r)
              : a->flips > 0 ? run_flips(&r, a->flips)
              : full         ? run_full(&r)
                             : run_lives(&r, a->cuts);
    totals->seeds++;
    if (ok) {
        run_fini(&r);
        return true;
    }
    totals->failed++;
    if (!planted_bug)
        sim_log_dump(r.sim);
    fprintf(stderr,
            "seed %llu FAILED; repeat: limpet-store-sim --seeds %llu --cuts %u --flips %u%s\n",
            (unsigned long long)seed, (unsigned long long)seed, a->cuts, a->flips,
            a->covering ? " --covering"
            : a->rot    ? " --rot"
                        : "");
    return false;
}

/* A seed whose process still runs. */
struct running {
    pid_t pid;
    uint64_t seed;
};

/* One seed in a process of its own: its totals go through the pipe. */
static pid_t start_seed(const struct arguments *a, uint64_t seed, const int ends[2])
{
    fflush(stdout);
    pid_t pid = fork();
    assert(pid >= 0);
    if (pid > 0)
        return pid;
    struct store_totals totals = {0};
    (void)run_seed(seed, a, &totals);
    _exit(write(ends[1], &totals, sizeof totals) != (ssize_t)sizeof totals);
}

static void add(struct store_totals *sum, const struct store_totals *more)
{
    const uint64_t *from = (const uint64_t *)more;
    uint64_t *to = (uint64_t *)sum;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++)
        to[i] += from[i];
}

/* Waits for one of the processes; a seed whose process died counts as failed. */
static void await_seed(struct store_totals *sum, struct running *running, uint32_t n, int pipe_fd)
{
    struct store_totals totals;
    int status;
    uint32_t at = 0;
    pid_t pid = wait(&status);
    assert(pid > 0);
    while (at + 1 < n && running[at].pid != pid)
        at++;
    uint64_t seed = running[at].seed;
    running[at] = running[n - 1];
    if (status == 0 && read(pipe_fd, &totals, sizeof totals) == (ssize_t)sizeof totals) {
        add(sum, &totals);
        return;
    }
    fprintf(stderr, "the process of seed %llu ended: %s\n", (unsigned long long)seed,
            WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "with an error");
    sum->seeds++;
    sum->failed++;
}

static void run_seeds(const struct arguments *a, struct store_totals *sum)
{
    int ends[2];
    struct running running[JOBS_MAX];
    uint32_t n = 0;
    int error = pipe(ends);
    assert(error == 0);
    for (uint64_t seed = a->first; seed <= a->last; seed++) {
        if (planted_bug && sum->failed > 0)
            break;
        running[n++] = (struct running){.pid = start_seed(a, seed, ends), .seed = seed};
        if (n == a->jobs)
            await_seed(sum, running, n--, ends[0]);
    }
    for (; n > 0; n--)
        await_seed(sum, running, n, ends[0]);
}

static const char usage[] =
    "usage: limpet-store-sim [--seeds A-B] [--cuts N] [--flips N] [--jobs N] [--planted NAME]\n"
    "                        [--covering | --rot] [--trace]\n";

static void parse(int argc, char **argv, struct arguments *a)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--trace") == 0) {
            a->trace = true;
            continue;
        }
        if (strcmp(argv[i], "--rot") == 0) {
            a->rot = true;
            continue;
        }
        if (strcmp(argv[i], "--covering") == 0) {
            a->covering = true;
            continue;
        }
        if (!value) {
            fputs(usage, stderr);
            exit(EINVAL);
        }
        i++;
        if (strcmp(argv[i - 1], "--seeds") == 0) {
            char *end;
            a->first = a->last = strtoull(value, &end, 10);
            if (*end == '-')
                a->last = strtoull(end + 1, NULL, 10);
        } else if (strcmp(argv[i - 1], "--cuts") == 0) {
            a->cuts = (uint32_t)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--flips") == 0) {
            a->flips = (uint32_t)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--jobs") == 0) {
            a->jobs = (uint32_t)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--planted") == 0) {
            planted_bug = planted_by_name(value);
        } else {
            a->jobs = 0;
        }
    }
    if (a->jobs < 1 || a->jobs > JOBS_MAX || a->first > a->last || planted_bug == PLANTED_END) {
        fputs(usage, stderr);
        exit(EINVAL);
    }
}

int main(int argc, char **argv)
{
    struct arguments a = {.first = 1, .last = 20, .cuts = 5, .jobs = 1};
    struct store_totals sum = {0};
    parse(argc, argv, &a);
    run_seeds(&a, &sum);
    bool ok = sum.failed == 0;
    printf("%llu transactions, %llu power cuts, %llu refused, %llu failures of the store\n",
           (unsigned long long)sum.transactions, (unsigned long long)sum.cuts,
           (unsigned long long)sum.refused, (unsigned long long)sum.failures);
    printf("%llu reads beside them, %llu blocks read from the ring, %llu put in place\n",
           (unsigned long long)sum.reads, (unsigned long long)sum.ring_reads,
           (unsigned long long)sum.placed);
    if (a.rot)
        printf("%llu blocks of the ring damaged: %llu told, %llu overwritten or never needed, %llu "
               "mounts refused\n",
               (unsigned long long)sum.rotten, (unsigned long long)sum.rotten_told,
               (unsigned long long)sum.rotten_healed, (unsigned long long)sum.rotten_mount);
    if (a.flips > 0)
        printf(
            "%llu bits flipped: %llu found by reads and deep check, %llu by the check only, %llu "
            "by mounting, %llu in unused places, %llu in the journal's last group\n",
            (unsigned long long)sum.flips, (unsigned long long)sum.flips_read,
            (unsigned long long)sum.flips_fsck, (unsigned long long)sum.flips_mount,
            (unsigned long long)sum.flips_harmless, (unsigned long long)sum.flips_last_group);
    if (a.flips > 0)
        printf("%llu mounts from a disk that returns different bytes, %llu of them refused\n",
               (unsigned long long)sum.unsteady, (unsigned long long)sum.unsteady_refused);
    printf("%llu seeds passed, %llu failed\n", (unsigned long long)(sum.seeds - sum.failed),
           (unsigned long long)sum.failed);
    if (planted_bug) {
        printf("planted bug %s: %s\n", planted_name(planted_bug), ok ? "NOT FOUND" : "found");
        return ok;
    }
    return !ok;
}
