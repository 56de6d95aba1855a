/*
 * Contents that are kept, in pages of 4 KiB, under leases: what was read in small pieces, and what
 * was written and may be read soon. Files that are read in large pieces are the kernel's to keep.
 *
 * The kernel does not keep pages of files that are open for writing, since it locks them while a
 * write waits; these here wait for nothing, and are forgotten at once when a lease is given back.
 * Direct reads are served from them, too: under a lease nobody else can have changed the file.
 *
 * The memory is bounded together with that of writes on their way: pages make room for those.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/fs.h"

enum { PAGE = FS_CACHE_PAGE, BUCKETS_MIN = 1024 };

struct page {
    TAILQ_ENTRY(page) link; /* In the order of use. */
    LIST_ENTRY(page) file_link;
    struct page *next; /* In its bucket. */
    struct cached_file *file;
    uint64_t number;
    uint8_t data[PAGE];
};
TAILQ_HEAD(page_list, page);
LIST_HEAD(file_pages, page);

struct cached_file {
    uint64_t ino;
    struct file_pages pages;
    UT_hash_handle hh;
};

struct fs_cache {
    uint64_t bytes_max, bytes, reserved;
    size_t n_buckets;
    struct page **buckets;
    struct page_list used; /* The latest first. */
    struct cached_file *files;
};

int cache_create(uint64_t bytes_max, struct fs_cache **out)
{
    struct fs_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return -ENOMEM;
    TAILQ_INIT(&cache->used);
    cache->bytes_max = bytes_max;
    cache->n_buckets = BUCKETS_MIN;
    while (cache->n_buckets < bytes_max / PAGE)
        cache->n_buckets *= 2;
    cache->buckets = calloc(cache->n_buckets, sizeof cache->buckets[0]);
    if (cache->buckets == NULL) {
        free(cache);
        return -ENOMEM;
    }
    *out = cache;
    return 0;
}

static struct page **bucket_of(struct fs_cache *cache, uint64_t ino, uint64_t number)
{
    uint64_t hash = (ino * UINT64_C(0x9e3779b97f4a7c15) + number) * UINT64_C(0xd6e8feb86659fd93);
    return &cache->buckets[(hash >> 32) & (cache->n_buckets - 1)];
}

static struct page *find(struct fs_cache *cache, uint64_t ino, uint64_t number)
{
    struct page *page = *bucket_of(cache, ino, number);
    while (page != NULL && (page->number != number || page->file->ino != ino))
        page = page->next;
    return page;
}

static void drop(struct fs_cache *cache, struct page *page)
{
    struct cached_file *file = page->file;
    struct page **at = bucket_of(cache, file->ino, page->number);
    while (*at != page)
        at = &(*at)->next;
    *at = page->next;
    TAILQ_REMOVE(&cache->used, page, link);
    LIST_REMOVE(page, file_link);
    cache->bytes -= sizeof *page;
    free(page);
    if (LIST_EMPTY(&file->pages)) {
        HASH_DEL(cache->files, file);
        free(file);
    }
}

static void make_room(struct fs_cache *cache, uint64_t bytes)
{
    while (!TAILQ_EMPTY(&cache->used) && cache->bytes + cache->reserved + bytes > cache->bytes_max)
        drop(cache, TAILQ_LAST(&cache->used, page_list));
}

static struct cached_file *file_of(struct fs_cache *cache, uint64_t ino)
{
    struct cached_file *file;
    HASH_FIND(hh, cache->files, &ino, sizeof ino, file);
    if (file != NULL)
        return file;
    file = calloc(1, sizeof *file);
    if (file != NULL) {
        file->ino = ino;
        HASH_ADD(hh, cache->files, ino, sizeof file->ino, file);
    }
    return file;
}

/* A page that is not there yet; its contents are the caller's to give. */
static struct page *add(struct fs_cache *cache, uint64_t ino, uint64_t number)
{
    make_room(cache, sizeof(struct page));
    if (cache->bytes + cache->reserved + sizeof(struct page) > cache->bytes_max)
        return NULL;
    struct page *page = malloc(sizeof *page);
    struct cached_file *file = page != NULL ? file_of(cache, ino) : NULL;
    if (file == NULL) {
        free(page);
        return NULL;
    }
    struct page **bucket = bucket_of(cache, ino, number);
    page->file = file;
    page->number = number;
    page->next = *bucket;
    *bucket = page;
    LIST_INSERT_HEAD(&file->pages, page, file_link);
    TAILQ_INSERT_HEAD(&cache->used, page, link);
    cache->bytes += sizeof *page;
    return page;
}

bool cache_read(struct fs_cache *cache, uint64_t ino, uint64_t offset, size_t len, uint8_t *out)
{
    uint64_t first = offset / PAGE, last = (offset + len - 1) / PAGE;
    for (uint64_t number = first; number <= last; number++) {
        if (find(cache, ino, number) == NULL)
            return false;
    }
    while (len > 0) {
        struct page *page = find(cache, ino, offset / PAGE);
        size_t within = offset % PAGE, part = PAGE - within < len ? PAGE - within : len;
        memcpy(out, page->data + within, part);
        if (page != TAILQ_FIRST(&cache->used)) {
            TAILQ_REMOVE(&cache->used, page, link);
            TAILQ_INSERT_HEAD(&cache->used, page, link);
        }
        out += part;
        offset += part;
        len -= part;
    }
    return true;
}

void cache_keep(struct fs_cache *cache, uint64_t ino, uint64_t offset, const uint8_t *data,
                size_t len, bool to_end)
{
    if (offset % PAGE != 0)
        return;
    for (; len > 0; offset += PAGE) {
        size_t part = len < PAGE ? len : PAGE;
        if (part < PAGE && !to_end)
            return;
        struct page *page = find(cache, ino, offset / PAGE);
        if (page == NULL) {
            page = add(cache, ino, offset / PAGE);
            if (page == NULL)
                return;
            memcpy(page->data, data, part);
            memset(page->data + part, 0, PAGE - part);
        }
        data += part;
        len -= part;
    }
}

void cache_write(struct fs_cache *cache, uint64_t ino, uint64_t offset, const uint8_t *data,
                 size_t len, uint64_t size)
{
    while (len > 0) {
        size_t within = offset % PAGE, part = PAGE - within < len ? PAGE - within : len;
        struct page *page = find(cache, ino, offset / PAGE);
        /* What is not written of it is known where the file ended before. */
        bool whole = (within == 0 || size <= offset - within) &&
                     (within + part == PAGE || offset + part >= size);
        if (page == NULL && whole && (page = add(cache, ino, offset / PAGE)) != NULL)
            memset(page->data, 0, PAGE);
        if (page != NULL)
            memcpy(page->data + within, data, part);
        data += part;
        offset += part;
        len -= part;
    }
}

void cache_forget(struct fs_cache *cache, uint64_t ino, uint64_t offset, uint64_t len)
{
    struct cached_file *file;
    struct page *page, *next;
    HASH_FIND(hh, cache->files, &ino, sizeof ino, file);
    if (file == NULL || len == 0)
        return;
    uint64_t first = offset / PAGE, last = (offset + len - 1) / PAGE;
    if (last - first < 512) {
        for (uint64_t number = first; number <= last; number++) {
            page = find(cache, ino, number);
            if (page != NULL)
                drop(cache, page);
        }
        return;
    }
    for (page = LIST_FIRST(&file->pages); page != NULL; page = next) {
        next = LIST_NEXT(page, file_link);
        if (page->number >= first && page->number <= last)
            drop(cache, page); /* With the last one the file goes, too. */
    }
}

void cache_forget_home(struct fs_cache *cache, uint64_t home)
{
    struct cached_file *file, *next;
    HASH_ITER(hh, cache->files, file, next)
    {
        if (fs_home(file->ino) == home)
            cache_forget(cache, file->ino, 0, FS_SIZE_MAX);
    }
}

bool cache_has_room(const struct fs_cache *cache, uint64_t size)
{
    uint64_t taken =
        cache->bytes + cache->reserved + FS_CACHED_READ_MAX / PAGE * sizeof(struct page);
    return size <= cache->bytes_max / 2 || taken <= cache->bytes_max;
}

void cache_reserve(struct fs_cache *cache, uint64_t bytes)
{
    cache->reserved += bytes;
    make_room(cache, 0);
}

void cache_release(struct fs_cache *cache, uint64_t bytes)
{
    cache->reserved -= bytes;
}

void cache_destroy(struct fs_cache *cache)
{
    if (cache == NULL)
        return;
    while (!TAILQ_EMPTY(&cache->used))
        drop(cache, TAILQ_FIRST(&cache->used));
    free(cache->buckets);
    free(cache);
}
