/*
 * Results of listings. Entries point to strings and info blobs in a chain of blocks, so that
 * nothing moves while the listing grows.
 */
#include "osd/store/list.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 16384, ENTRIES_FIRST = 16 };
static_assert(OBJECT_STRINGS_MAX + STORE_INFO_MAX <= BLOCK_BYTES, "every entry fits into a block");

struct block {
    struct block *next;
    size_t used;
    uint8_t bytes[BLOCK_BYTES];
};

/* Behind list->memory; list->entries is an array of its own. */
struct list_memory {
    struct block *blocks;
    uint32_t capacity;
};

void list_begin(struct store_list *list)
{
    assert(list->max >= 1 && list->max <= STORE_LIST_MAX);
    list->error = 0;
    list->n = 0;
    list->end = false;
    list->entries = NULL;
    list->memory = NULL;
}

void list_fini(struct store_list *list)
{
    struct list_memory *memory = list->memory;
    if (memory) {
        for (struct block *block = memory->blocks, *next; block; block = next) {
            next = block->next;
            free(block);
        }
        free(memory);
    }
    free(list->entries);
    list->memory = NULL;
    list->entries = NULL;
    list->n = 0;
}

static int make_room(struct store_list *list)
{
    struct list_memory *memory = list->memory;
    if (!memory) {
        memory = calloc(1, sizeof *memory);
        if (!memory)
            return -ENOMEM;
        list->memory = memory;
    }
    if (list->n < memory->capacity)
        return 0;
    uint32_t capacity = memory->capacity ? 2 * memory->capacity : ENTRIES_FIRST;
    struct store_list_entry *entries = reallocarray(list->entries, capacity, sizeof *entries);
    if (!entries)
        return -ENOMEM;
    list->entries = entries;
    memory->capacity = capacity;
    return 0;
}

static uint8_t *take_bytes(struct list_memory *memory, size_t len)
{
    struct block *block = memory->blocks;
    if (!block || len > BLOCK_BYTES - block->used) {
        block = malloc(sizeof *block);
        if (!block)
            return NULL;
        block->next = memory->blocks;
        block->used = 0;
        memory->blocks = block;
    }
    uint8_t *bytes = block->bytes + block->used;
    block->used += len;
    return bytes;
}

/* Returns where the copy is; *at is behind it. */
static const uint8_t *put(uint8_t **at, const void *from, size_t len)
{
    uint8_t *copy = *at;
    if (len > 0)
        memcpy(copy, from, len);
    *at += len;
    return copy;
}

int list_add(struct store_list *list, const struct object_id *id, uint64_t size, const void *info,
             uint16_t info_len)
{
    assert(list->n < list->max);
    assert(info_len <= STORE_INFO_MAX);
    int rc = make_room(list);
    if (rc < 0)
        return rc;
    size_t len = (size_t)id->space_len + id->locator_len + id->name_len + info_len;
    uint8_t *bytes = take_bytes(list->memory, len);
    if (!bytes)
        return -ENOMEM;
    struct store_list_entry *entry = &list->entries[list->n++];
    entry->id = *id;
    entry->size = size;
    entry->info_len = info_len;
    entry->id.space = put(&bytes, id->space, id->space_len);
    entry->id.locator = put(&bytes, id->locator, id->locator_len);
    entry->id.name = put(&bytes, id->name, id->name_len);
    entry->info = put(&bytes, info, info_len);
    return 0;
}
