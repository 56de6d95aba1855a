/* limpet rbd bench: how fast an image is read and written, as rbd bench measures it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/rbd.h"

enum { IO_SIZE = 4096, IO_THREADS = 16, MIX_READS = 50 };

struct bench {
    uint64_t size; /* Of the image. */
    uint64_t io_size, threads, total;
    const char *type;
    bool is_random;
    unsigned read_percents;
    uint64_t state; /* Of the random numbers: xorshift. */
};

static uint64_t next_random(struct bench *b)
{
    b->state ^= b->state << 13;
    b->state ^= b->state >> 7;
    b->state ^= b->state << 17;
    return b->state;
}

static void read_options(struct cli *cli, struct bench *b)
{
    const char *type = cli_text(cli, "io-type", NULL);
    const char *pattern = cli_text(cli, "io-pattern", "seq");
    if (type == NULL)
        fail(EINVAL, "--io-type must be specified: read, write or readwrite");
    b->type = strcmp(type, "rw") == 0 ? "readwrite" : type;
    b->io_size = rbd_size("io-size", cli_text(cli, "io-size", "4096"), 1);
    b->total = rbd_size("io-total", cli_text(cli, "io-total", "1G"), 1);
    b->threads = cli_number(cli, "io-threads", IO_THREADS, 1, LIMPET_IMAGE_IOS_MAX);
    b->is_random = strcmp(pattern, "rand") == 0;
    b->read_percents = strcmp(type, "read") == 0 ? 100 : 0;
    if (strcmp(b->type, "readwrite") == 0)
        b->read_percents = (unsigned)cli_number(cli, "rw-mix-read", MIX_READS, 0, 100);
    b->state = UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t next_offset(struct bench *b, uint64_t number)
{
    uint64_t blocks = b->size / b->io_size;
    return (b->is_random ? next_random(b) % blocks : number % blocks) * b->io_size;
}

static void show(double seconds, uint64_t ops, uint64_t bytes)
{
    printf("%5d  %8" PRIu64 "  %8.6g  %s/s\n", (int)seconds, ops, (double)ops / seconds,
           rbd_size_text((uint64_t)((double)bytes / seconds)));
    fflush(stdout);
}

static int measure(struct bench *b, struct limpet_image *image, double *seconds, uint64_t *ended)
{
    uint64_t requests = b->total / b->io_size;
    struct rbd_queue *q = rbd_queue_create(image, (unsigned)b->threads, b->io_size);
    double begun = monotonic_seconds(), shown = begun;
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < requests; i++) {
        struct rbd_slot *slot = rbd_queue_free_slot(q);
        if (slot == NULL)
            break;
        uint64_t offset = next_offset(b, i);
        bool reads = next_random(b) % 100 < b->read_percents;
        if (!reads)
            memset(slot->data, (int)(i & 0xff), b->io_size);
        rc = reads ? rbd_slot_read(slot, offset, b->io_size)
                   : rbd_slot_write(slot, offset, b->io_size);
        double now = monotonic_seconds();
        if (now - shown >= 1) {
            uint64_t n = rbd_queue_ended(q);
            shown = now;
            show(now - begun, n, n * b->io_size);
        }
    }
    int failed = rbd_queue_destroy(q);
    rc = rc != 0 ? rc : failed;
    if (rc == 0)
        rc = limpet_image_flush(image);
    *seconds = monotonic_seconds() - begun;
    *ended = requests;
    return rc;
}

int rbd_bench(struct cli *cli)
{
    struct rbd_run run;
    struct limpet_image_info info;
    struct bench b;
    double seconds;
    uint64_t ops;
    read_options(cli, &b);
    rbd_begin(cli, RBD_IMAGE, true, &run);
    rbd_decrypt(cli, run.image);
    rbd_info(run.image, &info);
    b.size = info.size;
    if (strcmp(b.type, "read") != 0 && rbd_check_unlocked(&run) != 0)
        return rbd_end(&run, complain(EROFS, "bench failed: %s", rbd_phrase(-EROFS)));
    if (b.io_size == 0 || b.io_size > info.size || b.total < b.io_size)
        return rbd_end(&run, complain(EINVAL,
                                      "--io-size: %" PRIu64 " bytes do not fit into the "
                                      "image, or into --io-total",
                                      b.io_size));
    printf("bench  type %s io_size %" PRIu64 " io_threads %" PRIu64 " bytes %" PRIu64
           " pattern %s\n  SEC       OPS   OPS/SEC   BYTES/SEC\n",
           b.type, b.io_size, b.threads, b.total, b.is_random ? "random" : "sequential");
    fflush(stdout);
    int rc = measure(&b, run.image, &seconds, &ops);
    if (rc != 0)
        return rbd_end(&run, complain(rc, "bench failed: %s", rbd_phrase(rc)));
    printf("elapsed: %d   ops: %" PRIu64 "   ops/sec: %.6g   bytes/sec: %s/s\n", (int)seconds, ops,
           (double)ops / seconds, rbd_size_text((uint64_t)((double)(ops * b.io_size) / seconds)));
    return rbd_end(&run, 0);
}
