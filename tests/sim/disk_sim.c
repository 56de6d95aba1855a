/* The simulated disk: see disk_sim.h. */
#include "tests/sim/disk_sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    SECTOR = 512,
    SLOW_FROM = 1 << 20, /* Superblocks are never slow: they may overtake all else. */
};

/* A write that has taken effect for readers and may be lost; its number is 0 when an earlier disk
 * on the image completed it. */
struct unflushed {
    STAILQ_ENTRY(unflushed) link;
    uint64_t offset, len;
    uint64_t completed; /* Number in the order of completions; UINT64_MAX while under way. */
    uint8_t data[];
};

struct disk_image {
    uint64_t size;
    uint8_t *now;
    uint8_t *durable;
    STAILQ_HEAD(, unflushed) unflushed;
};

struct request {
    struct env_timer timer;
    struct disk_io *io;
    struct disk_sim *disk;
    struct unflushed *write;
    uint64_t covers; /* Of a flush: completions before it was submitted. */
    LIST_ENTRY(request) link;
};

struct disk_sim {
    struct disk disk;
    struct env *env;
    struct disk_image *image;
    uint64_t latency_ns;
    uint64_t completions;
    struct disk_sim_faults faults;
    LIST_HEAD(, request) requests;
};

struct disk_image *disk_image_create(uint64_t size)
{
    struct disk_image *image = calloc(1, sizeof *image);
    assert(image && size % DISK_BLOCK == 0);
    image->size = size;
    image->now = calloc(1, size);
    image->durable = calloc(1, size);
    assert(image->now && image->durable);
    STAILQ_INIT(&image->unflushed);
    return image;
}

static void forget_unflushed(struct disk_image *image)
{
    while (!STAILQ_EMPTY(&image->unflushed)) {
        struct unflushed *u = STAILQ_FIRST(&image->unflushed);
        STAILQ_REMOVE_HEAD(&image->unflushed, link);
        free(u);
    }
}

void disk_image_destroy(struct disk_image *image)
{
    forget_unflushed(image);
    free(image->now);
    free(image->durable);
    free(image);
}

uint8_t *disk_image_bytes(struct disk_image *image)
{
    return image->durable;
}

struct disk_image *disk_image_copy(const struct disk_image *image)
{
    static const uint8_t zeroes[DISK_BLOCK];
    struct disk_image *copy = disk_image_create(image->size);
    for (uint64_t at = 0; at < image->size; at += DISK_BLOCK) {
        if (memcmp(image->durable + at, zeroes, DISK_BLOCK) == 0)
            continue; /* Memory that stays unused. */
        memcpy(copy->durable + at, image->durable + at, DISK_BLOCK);
        memcpy(copy->now + at, image->durable + at, DISK_BLOCK);
    }
    return copy;
}

void disk_image_flip(struct disk_image *image, uint64_t byte, uint32_t bit)
{
    assert(byte < image->size && bit < 8);
    image->durable[byte] ^= (uint8_t)(1u << bit);
    image->now[byte] = image->durable[byte];
}

static bool strikes(struct disk_sim *d, uint32_t one_in)
{
    return one_in > 0 && env_random_u64(d->env) % one_in == 0;
}

static void flush(struct disk_image *image, uint64_t covers)
{
    struct unflushed *u, *next;
    STAILQ_FOREACH_SAFE(u, &image->unflushed, link, next)
    {
        if (u->completed >= covers)
            continue;
        memcpy(image->durable + u->offset, u->data, u->len);
        STAILQ_REMOVE(&image->unflushed, u, unflushed, link);
        free(u);
    }
}

static void finish_write(struct disk_sim *d, struct request *r)
{
    struct unflushed *u = r->write;
    if (strikes(d, d->faults.fail_writes) || strikes(d, d->faults.short_writes)) {
        r->io->error = -EIO;
        u->len = u->len / 2 / SECTOR * SECTOR;
    }
    memcpy(d->image->now + u->offset, u->data, u->len);
    u->completed = d->completions++;
}

static void finish_durable(struct disk_sim *d, struct request *r)
{
    struct unflushed *u = r->write;
    finish_write(d, r);
    if (r->io->error)
        return;
    memcpy(d->image->durable + u->offset, u->data, u->len);
    STAILQ_REMOVE(&d->image->unflushed, u, unflushed, link);
    free(u);
}

static void finish_read(struct disk_sim *d, struct request *r)
{
    uint64_t at = r->io->offset;
    if (strikes(d, d->faults.fail_reads)) {
        r->io->error = -EIO;
        return;
    }
    for (uint32_t i = 0; i < r->io->n_iov; i++) {
        memcpy(r->io->iov[i].iov_base, d->image->now + at, r->io->iov[i].iov_len);
        at += r->io->iov[i].iov_len;
    }
    /* What a system remembers of a block may be what an earlier owner wrote there. */
    enum { STALE_ONE_IN = 3 };
    if (r->io->remembered && (at / DISK_BLOCK + d->completions) % STALE_ONE_IN == 0)
        memset(r->io->iov[0].iov_base, (int)(at / DISK_BLOCK % 251), DISK_BLOCK);
}

/* As real systems do: what the flush covered is partly lost, and no later flush knows of it. */
static void fail_flush(struct disk_sim *d, struct request *r)
{
    struct unflushed *u, *next;
    r->io->error = -EIO;
    STAILQ_FOREACH_SAFE(u, &d->image->unflushed, link, next)
    {
        if (u->completed >= r->covers || strikes(d, 2))
            continue;
        STAILQ_REMOVE(&d->image->unflushed, u, unflushed, link);
        free(u);
    }
}

static void request_done(struct env_timer *timer)
{
    struct request *r = container_of(timer, struct request, timer);
    struct disk_sim *d = r->disk;
    struct disk_io *io = r->io;
    io->error = 0;
    if (io->op == DISK_WRITE)
        finish_write(d, r);
    else if (io->op == DISK_WRITE_DURABLE)
        finish_durable(d, r);
    else if (io->op == DISK_READ)
        finish_read(d, r);
    else if (strikes(d, d->faults.fail_flushes))
        fail_flush(d, r);
    else
        flush(d->image, r->covers);
    LIST_REMOVE(r, link);
    free(r);
    io->done(io);
}

static void sim_submit(struct disk *disk, struct disk_io *io)
{
    struct disk_sim *d = container_of(disk, struct disk_sim, disk);
    struct request *r = calloc(1, sizeof *r);
    uint64_t len = 0;
    for (uint32_t i = 0; i < io->n_iov; i++) {
        assert((uintptr_t)io->iov[i].iov_base % DISK_BLOCK == 0);
        assert(io->iov[i].iov_len % DISK_BLOCK == 0);
        len += io->iov[i].iov_len;
    }
    assert(r && len == io->len && io->offset % DISK_BLOCK == 0);
    assert(io->offset + io->len <= d->image->size);
    r->io = io;
    r->disk = d;
    r->covers = d->completions;
    r->timer.fire = request_done;
    if (io->op == DISK_WRITE || io->op == DISK_WRITE_DURABLE) {
        /* The memory must stay the same until done; the copy shows a sender who does not obey. */
        struct unflushed *u = malloc(sizeof *u + len);
        uint64_t at = 0;
        assert(u);
        u->offset = io->offset;
        u->len = len;
        u->completed = UINT64_MAX;
        for (uint32_t i = 0; i < io->n_iov; i++) {
            memcpy(u->data + at, io->iov[i].iov_base, io->iov[i].iov_len);
            at += io->iov[i].iov_len;
        }
        STAILQ_INSERT_TAIL(&d->image->unflushed, u, link);
        r->write = u;
        disk->bytes_written += len;
    } else if (io->op == DISK_READ) {
        disk->bytes_read += len;
    } else {
        disk->flushes++;
    }
    LIST_INSERT_HEAD(&d->requests, r, link);
    bool may_be_slow = io->op != DISK_FLUSH && io->offset >= SLOW_FROM;
    uint64_t factor = may_be_slow && strikes(d, d->faults.slow) ? 200 : 2;
    env_timer_after(d->env, &r->timer, 1 + env_random_u64(d->env) % (factor * d->latency_ns));
}

static int sim_sync_io(struct disk *disk, enum disk_op op, uint64_t offset, void *data, size_t len)
{
    struct disk_sim *d = container_of(disk, struct disk_sim, disk);
    struct disk_image *image = d->image;
    if (d->faults.sync_left > 0 && --d->faults.sync_left == 0) {
        d->faults.sync_left = 1; /* From now on. */
        return -EIO;
    }
    if (op == DISK_FLUSH) {
        flush(image, UINT64_MAX);
        return 0;
    }
    if (offset + len > image->size)
        return -EIO;
    if (op == DISK_READ) {
        memcpy(data, image->now + offset, len);
        if (strikes(d, d->faults.unsteady))
            ((uint8_t *)data)[env_random_u64(d->env) % len] ^=
                (uint8_t)(1u << env_random_u64(d->env) % 8);
        return 0;
    }
    struct unflushed *u = malloc(sizeof *u + len);
    assert(u);
    u->offset = offset;
    u->len = len;
    u->completed = d->completions++;
    memcpy(u->data, data, len);
    memcpy(image->now + offset, data, len);
    STAILQ_INSERT_TAIL(&image->unflushed, u, link);
    return 0;
}

static void drop_requests(struct disk_sim *d)
{
    while (!LIST_EMPTY(&d->requests)) {
        struct request *r = LIST_FIRST(&d->requests);
        env_timer_stop(d->env, &r->timer);
        LIST_REMOVE(r, link);
        free(r);
    }
}

static void sim_close(struct disk *disk)
{
    struct disk_sim *d = container_of(disk, struct disk_sim, disk);
    struct unflushed *u;
    assert(LIST_EMPTY(&d->requests));
    /* What was not flushed may still be lost, later; the next flush covers it. */
    STAILQ_FOREACH(u, &d->image->unflushed, link)
    u->completed = 0;
    free(d);
}

static const struct disk_ops sim_ops = {
    .submit = sim_submit,
    .sync_io = sim_sync_io,
    .close = sim_close,
};

int disk_sim_open(struct env *env, struct disk_image *image, uint64_t latency_ns, struct disk **out)
{
    struct disk_sim *d = calloc(1, sizeof *d);
    assert(d && latency_ns > 0);
    d->disk.ops = &sim_ops;
    d->disk.size = image->size;
    d->env = env;
    d->image = image;
    d->latency_ns = latency_ns;
    d->completions = 1;
    LIST_INIT(&d->requests);
    *out = &d->disk;
    return 0;
}

void disk_sim_faults(struct disk *disk, const struct disk_sim_faults *faults)
{
    container_of(disk, struct disk_sim, disk)->faults = *faults;
}

void disk_sim_power_cut(struct disk *disk, struct random_stream *random)
{
    struct disk_sim *d = container_of(disk, struct disk_sim, disk);
    struct disk_image *image = d->image;
    struct unflushed *u;
    /* Sometimes nothing unflushed survives, sometimes all of it, mostly a part. */
    uint64_t keep = random_below(random, 5);
    drop_requests(d);
    STAILQ_FOREACH(u, &image->unflushed, link)
    {
        bool torn = random_below(random, 4) == 0;
        bool whole = random_below(random, 4) < keep;
        for (uint64_t at = 0; at < u->len; at += SECTOR)
            if (torn ? random_below(random, 4) < keep : whole)
                memcpy(image->durable + u->offset + at, u->data + at, SECTOR);
    }
    STAILQ_FOREACH(u, &image->unflushed, link)
    memcpy(image->now + u->offset, image->durable + u->offset, u->len);
    forget_unflushed(image);
    free(d);
}
