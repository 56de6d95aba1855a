#include "common/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A small buf and its memory are one block; or the memory is lent. */
static void release_small(struct buf *buf)
{
    free(buf);
}

/* ---- Large memory ---- */

/*
 * Fresh memory from the kernel costs a page fault for every 4 KiB, more than copying into it. So
 * the process keeps some blocks that were released last, while it uses them (buf_trim). Not where a
 * sanitizer watches: it must see the end of each. Nobody waits for another thread: after a
 * fork() it may be gone.
 */
enum { KEPT_BLOCKS = 16, KEPT_LEN_MIN = 128 * 1024, KEPT_BYTES_MAX = 64 * 1024 * 1024 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool keeps = false;
#else
static const bool keeps = true;
#endif

static struct {
    atomic_flag busy; /* Somebody uses what follows; who meets him does without. */
    bool used;        /* Since buf_trim() looked. */
    unsigned n;
    _Atomic size_t bytes;
    struct kept_block {
        void *memory;
        size_t len;
    } blocks[KEPT_BLOCKS]; /* Oldest first. */
} kept = {.busy = ATOMIC_FLAG_INIT};

static bool begin_kept(void)
{
    return !atomic_flag_test_and_set_explicit(&kept.busy, memory_order_acquire);
}

static void end_kept(void)
{
    atomic_flag_clear_explicit(&kept.busy, memory_order_release);
}

static struct kept_block take_kept_at(unsigned i)
{
    struct kept_block block = kept.blocks[i];
    kept.bytes -= block.len;
    kept.n--;
    memmove(&kept.blocks[i], &kept.blocks[i + 1], (kept.n - i) * sizeof block);
    return block;
}

/* A block of at least *len bytes, and not much more; *len becomes its length. */
static void *take_kept(size_t *len)
{
    void *memory = NULL;
    if (!begin_kept())
        return NULL;
    for (unsigned i = kept.n; i > 0 && memory == NULL; i--) {
        size_t have = kept.blocks[i - 1].len;
        if (have >= *len && have - *len <= *len / 4) {
            memory = take_kept_at(i - 1).memory;
            kept.used = true;
            *len = have;
        }
    }
    end_kept();
    return memory;
}

static void keep(void *memory, size_t len)
{
    void *dropped[KEPT_BLOCKS];
    unsigned n = 0;
    if (!begin_kept()) {
        free(memory);
        return;
    }
    while (kept.n > 0 && (kept.n == KEPT_BLOCKS || kept.bytes + len > KEPT_BYTES_MAX))
        dropped[n++] = take_kept_at(0).memory;
    kept.blocks[kept.n++] = (struct kept_block){memory, len};
    kept.bytes += len;
    end_kept();
    while (n > 0)
        free(dropped[--n]);
}

size_t buf_kept(void)
{
    return atomic_load_explicit(&kept.bytes, memory_order_relaxed);
}

void buf_trim(void)
{
    void *dropped[KEPT_BLOCKS];
    unsigned n = 0;
    if (!begin_kept())
        return;
    while (kept.n > 0 && !kept.used)
        dropped[n++] = take_kept_at(0).memory;
    kept.used = false;
    end_kept();
    while (n > 0)
        free(dropped[--n]);
}

static bool is_kept_len(size_t len)
{
    return keeps && len >= KEPT_LEN_MIN && len <= KEPT_BYTES_MAX;
}

/* *len becomes the length of the block. NULL when memory is short. */
static void *large_memory(size_t *len)
{
    void *memory = is_kept_len(*len) ? take_kept(len) : NULL;
    if (memory == NULL && posix_memalign(&memory, BUF_ALIGNMENT, *len) != 0)
        return NULL;
    return memory;
}

static void release_large(struct buf *buf)
{
    if (is_kept_len(buf->capacity))
        keep(buf->data, buf->capacity);
    else
        free(buf->data);
    free(buf);
}

/* ---- Bufs ---- */

/* What is only sent needs no alignment, which costs more than the copy until about here. */
enum { SENT_INSIDE_MAX = 32 * 1024 };

/* With `inside` bytes of memory behind it. */
static struct buf *new_buf(size_t inside)
{
    struct buf *buf = malloc(sizeof *buf + inside);
    if (buf == NULL)
        return NULL;
    buf->refs = 1;
    buf->capacity = inside;
    buf->revoked = false;
    buf->seal = NULL;
    buf->data = (uint8_t *)(buf + 1);
    buf->release = release_small;
    return buf;
}

struct buf *buf_create(size_t len)
{
    bool large = len >= BUF_ALIGNMENT;
    struct buf *buf = new_buf(large ? 0 : len);
    if (buf == NULL || !large)
        return buf;
    buf->capacity = len;
    buf->data = large_memory(&buf->capacity);
    if (buf->data == NULL) {
        free(buf);
        return NULL;
    }
    buf->release = release_large;
    return buf;
}

int buf_slice_alloc(size_t len, struct buf_slice *out)
{
    struct buf *buf = buf_create(len);
    if (buf == NULL)
        return -ENOMEM;
    *out = (struct buf_slice){.buf = buf, .data = buf->data, .len = len};
    return 0;
}

int buf_slice_lend(void *data, size_t len, struct buf_slice *out)
{
    struct buf *buf = malloc(sizeof *buf);
    if (buf == NULL)
        return -ENOMEM;
    *buf = (struct buf){.refs = 1, .capacity = len, .data = data, .release = release_small};
    *out = (struct buf_slice){.buf = buf, .data = buf->data, .len = len};
    return 0;
}

int buf_slice_copy_to_send(const void *data, size_t len, struct buf_slice *out)
{
    if (len > SENT_INSIDE_MAX)
        return buf_slice_copy(data, len, out);
    struct buf *buf = new_buf(len);
    if (buf == NULL)
        return -ENOMEM;
    *out = (struct buf_slice){.buf = buf, .data = buf->data, .len = len};
    if (len > 0)
        memcpy(out->data, data, len);
    return 0;
}

int buf_slice_copy(const void *data, size_t len, struct buf_slice *out)
{
    int rc = buf_slice_alloc(len, out);
    if (rc == 0 && len > 0)
        memcpy(out->data, data, len);
    return rc;
}

struct buf *buf_ref(struct buf *buf)
{
    assert(buf->refs > 0 && buf->refs < UINT32_MAX);
    buf->refs++;
    return buf;
}

void buf_unref(struct buf *buf)
{
    if (buf == NULL)
        return;
    assert(buf->refs > 0);
    if (--buf->refs > 0)
        return;
    free(buf->seal);
    buf->seal = NULL;
    buf->release(buf);
}

void buf_set_seal(struct buf *buf, const struct buf_seal *seal)
{
    assert(buf->seal == NULL);
    buf->seal = malloc(sizeof *seal);
    if (buf->seal != NULL)
        *buf->seal = *seal;
}

const struct buf_seal *buf_slice_seal(const struct buf_slice *slice)
{
    const struct buf_seal *seal = slice->buf != NULL ? slice->buf->seal : NULL;
    return seal != NULL && seal->data == slice->data && seal->len == slice->len ? seal : NULL;
}

struct buf_slice buf_slice_ref(struct buf_slice slice)
{
    if (slice.buf != NULL)
        buf_ref(slice.buf);
    return slice;
}

struct buf_slice buf_slice_sub(struct buf_slice slice, size_t offset, size_t len)
{
    assert(offset <= slice.len && len <= slice.len - offset);
    if (slice.buf == NULL)
        return BUF_SLICE_EMPTY;
    return (struct buf_slice){.buf = buf_ref(slice.buf), .data = slice.data + offset, .len = len};
}

void buf_slice_drop(struct buf_slice *slice)
{
    buf_unref(slice->buf);
    *slice = BUF_SLICE_EMPTY;
}
