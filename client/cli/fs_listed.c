/*
 * limpet fs mount: listings on their way into the kernel.
 *
 * An answer to READDIRPLUS is taken in by the thread that has asked, some time after it was handed
 * over, and the kernel counts its names as told when they are taken in, not when they were asked
 * for; attributes of inodes that it did not know are not compared with anything. So what is dropped
 * in between would be kept all the same. The kernel says when it is done: it gives up, by FORGET,
 * what it cannot take in, after all that came before. So the last entry that such an answer
 * has attributes of gets a number of ours there, with a type that no file has; the program sees its
 * name, and asks for its attributes should it want them.
 *
 * T1  Whoever drops something waits first until what was handed over before is taken in. Nothing
 *     more of that is handed over then: its lease is on its way back.
 * T2  Nobody waits long: the thread may itself wait for a request that waits for the lease. What
 *     was waited for in vain is dropped once more when it is taken in: names and attributes, by
 *     whoever takes requests, who must not wait for pages.
 * T3  Few are on their way; when they are not (a kernel that does not say when it is done), nothing
 *     is told that may be kept.
 */
#include <bsd/sys/queue.h>
#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/fs.h"
#include "client/fs/cond.h"

enum {
    LISTED_MAX = 256, /* On their way. */
    WAIT_MS = 200,
    NUMBER_BITS = 24,
};

/* No inode has such a number: directories never become so many. */
#define NUMBERS (~UINT64_C(0) << NUMBER_BITS)

struct listed {
    LIST_ENTRY(listed) link;
    uint64_t number;
    uint64_t order; /* They were handed over in this one. */
    bool late;
    size_t n;
    uint64_t inos[];
};

static struct {
    pthread_mutex_t lock; /* Of all of it. */
    pthread_cond_t taken;
    LIST_HEAD(, listed) list;
    unsigned n;
    uint64_t order;
} on_way = {.lock = PTHREAD_MUTEX_INITIALIZER, .taken = PTHREAD_COND_INITIALIZER};

/* The next one that has attributes, from *at on, which goes behind it. */
static struct fuse_direntplus *next_entry(uint8_t *data, size_t len, size_t *at)
{
    while (*at + FUSE_NAME_OFFSET_DIRENTPLUS <= len) {
        struct fuse_direntplus *entry = (struct fuse_direntplus *)(void *)(data + *at);
        *at += FUSE_DIRENTPLUS_SIZE(entry);
        if (entry->entry_out.nodeid != 0)
            return entry;
    }
    return NULL;
}

static struct listed *listed_create(uint8_t *data, size_t len, size_t n)
{
    struct listed *listed = malloc(sizeof *listed + n * sizeof listed->inos[0]);
    const struct fuse_direntplus *entry;
    size_t at = 0;
    if (listed == NULL)
        return NULL;
    *listed = (struct listed){.n = 0};
    while (listed->n < n && (entry = next_entry(data, len, &at)) != NULL)
        listed->inos[listed->n++] = entry->entry_out.nodeid;
    return listed;
}

/* Nothing is told but names. */
static void take_attributes_away(uint8_t *data, size_t len)
{
    struct fuse_direntplus *entry;
    for (size_t at = 0; (entry = next_entry(data, len, &at)) != NULL;)
        memset(&entry->entry_out, 0, sizeof entry->entry_out);
}

uint64_t fs_listed_begin(void *data, size_t len)
{
    struct fuse_direntplus *entry, *last = NULL;
    uint64_t number = 0;
    size_t n = 0;
    for (size_t at = 0; (entry = next_entry(data, len, &at)) != NULL; n++)
        last = entry;
    if (last == NULL)
        return 0;
    struct listed *listed = listed_create(data, len, n);
    pthread_mutex_lock(&on_way.lock);
    if (listed != NULL && on_way.n < LISTED_MAX) {
        listed->order = ++on_way.order;
        number = listed->number = NUMBERS | (listed->order & ~NUMBERS);
        LIST_INSERT_HEAD(&on_way.list, listed, link);
        on_way.n++;
    }
    pthread_mutex_unlock(&on_way.lock);
    if (number == 0) {
        free(listed);
        take_attributes_away(data, len);
        return 0;
    }
    memset(&last->entry_out, 0, sizeof last->entry_out);
    last->entry_out.nodeid = number;
    return number;
}

static struct listed *find(uint64_t number)
{
    struct listed *listed = LIST_FIRST(&on_way.list);
    while (listed != NULL && listed->number != number)
        listed = LIST_NEXT(listed, link);
    return listed;
}

bool fs_listed_end(uint64_t number, fs_listed_drop drop, void *arg)
{
    if ((number & NUMBERS) != NUMBERS)
        return false;
    pthread_mutex_lock(&on_way.lock);
    struct listed *listed = find(number);
    if (listed != NULL) {
        LIST_REMOVE(listed, link);
        on_way.n--;
        pthread_cond_broadcast(&on_way.taken);
    }
    pthread_mutex_unlock(&on_way.lock);
    if (listed != NULL && listed->late && drop != NULL)
        drop(arg, listed->inos, listed->n);
    free(listed);
    return true;
}

/* With the lock. */
static bool is_waited_for(uint64_t order)
{
    const struct listed *listed = LIST_FIRST(&on_way.list);
    while (listed != NULL && (listed->order > order || listed->late))
        listed = LIST_NEXT(listed, link);
    return listed != NULL;
}

void fs_listed_wait(void)
{
    struct listed *listed;
    const uint64_t until_ns = cond_now_ns() + WAIT_MS * UINT64_C(1000000);
    pthread_mutex_lock(&on_way.lock);
    const uint64_t order = on_way.order;
    int rc = 0;
    while (rc != ETIMEDOUT && is_waited_for(order))
        rc = cond_wait_until(&on_way.taken, &on_way.lock, until_ns);
    LIST_FOREACH(listed, &on_way.list, link)
    {
        if (listed->order <= order)
            listed->late = true;
    }
    pthread_mutex_unlock(&on_way.lock);
}
