/*
 * Watches and notifies, on objects of their own: who is told what, what the notifier learns, and
 * that a watch ends with its object. Watchers answer at once, with what says which they are; a deaf
 * one never does. What comes by callbacks is waited for, so that lines do not depend on time.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/compat/sequence.h"

enum { WATCHED = 2, WATCHES = 6, PATIENCE_S = 30, DEAF_MS = 1000 };

struct watch {
    struct run *run;
    unsigned number, client, object;
    bool used; /* rados_unwatch2() is still to be called. */
    bool deaf;
    uint64_t cookie;
    /* By callbacks, under the lock: */
    unsigned told;
    size_t len;
    char data[128]; /* What it was told last. */
    int lost;       /* The error; 0: it lives. */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct watch watches[WATCHES];
static rados_ioctx_t contexts[CLIENTS]; /* Of their own: callbacks use them, too. */

static const char *const names[WATCHED] = {"watched-0", "watched-1"};

static void told(void *arg, uint64_t id, uint64_t handle, uint64_t notifier, void *data, size_t len)
{
    struct watch *watch = arg;
    char answer[32];
    (void)notifier;
    pthread_mutex_lock(&lock);
    watch->told++;
    watch->len = len < sizeof watch->data ? len : sizeof watch->data;
    if (watch->len > 0)
        memcpy(watch->data, data, watch->len);
    bool deaf = watch->deaf;
    pthread_mutex_unlock(&lock);
    int n = snprintf(answer, sizeof answer, "%u heard %zu", watch->number, len);
    if (!deaf)
        rados_notify_ack(contexts[watch->client], names[watch->object], id, handle, answer, n);
}

static void lost(void *arg, uint64_t handle, int error)
{
    struct watch *watch = arg;
    (void)handle;
    pthread_mutex_lock(&lock);
    watch->lost = error;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void begin(struct run *r)
{
    for (int i = 0; i < CLIENTS; i++) {
        if (contexts[i] == NULL &&
            rados_ioctx_create2(r->cluster[i], rados_ioctx_get_id(r->io[i]), &contexts[i]) != 0)
            abort();
        rados_ioctx_set_namespace(contexts[i], space_of(r, "watch"));
    }
}

/* ---- Watching ---- */

static void watch(struct run *r, struct watch *w, unsigned object)
{
    unsigned client = (unsigned)below(CLIENTS);
    bool deaf = chance(4);
    uint32_t seconds = (uint32_t)below(3) * 60;
    *w = (struct watch){.run = r,
                        .number = (unsigned)(w - watches),
                        .client = client,
                        .object = object,
                        .deaf = deaf};
    int rc = rados_watch3(contexts[client], names[object], &w->cookie, told, lost, seconds, w);
    w->used = rc == 0;
    say("watch %u of %u by client%u -> %d", w->number, object, client, rc);
}

static int end_watch(struct watch *w)
{
    int rc = rados_unwatch2(contexts[w->client], w->cookie);
    w->used = false;
    rados_watch_flush(w->run->cluster[w->client]);
    return rc;
}

static void unwatch(struct watch *w)
{
    bool was_lost = w->lost != 0;
    int rc = end_watch(w);
    if (was_lost)
        say("unwatch %u, which was lost", w->number);
    else
        say("unwatch %u -> %d", w->number, rc);
}

static void check(const struct watch *w)
{
    int rc = rados_watch_check(contexts[w->client], w->cookie);
    say("check %u -> %d", w->number, rc < 0 ? rc : 0);
}

/* ---- Notifying ---- */

static struct watch *watch_of(uint64_t client, uint64_t cookie)
{
    for (unsigned i = 0; i < WATCHES; i++) {
        struct watch *w = &watches[i];
        if (w->used && w->cookie == cookie &&
            rados_get_instance_id(w->run->cluster[w->client]) == client)
            return w;
    }
    return NULL;
}

/* In the order of watches, not of answers. */
static void say_reply(char *reply, size_t len)
{
    struct notify_ack_t *acks = NULL, *ack_of[WATCHES] = {NULL};
    struct notify_timeout_t *missed = NULL;
    size_t n_acks = 0, n_missed = 0;
    bool is_missed[WATCHES] = {false};
    int rc = rados_decode_notify_response(reply, len, &acks, &n_acks, &missed, &n_missed);
    say(" reply %d: %zu and %zu;", rc, n_acks, n_missed);
    if (rc != 0)
        return;
    for (size_t i = 0; i < n_acks; i++) {
        struct watch *w = watch_of(acks[i].notifier_id, acks[i].cookie);
        if (w != NULL)
            ack_of[w->number] = &acks[i];
    }
    for (size_t i = 0; i < n_missed; i++) {
        struct watch *w = watch_of(missed[i].notifier_id, missed[i].cookie);
        if (w != NULL)
            is_missed[w->number] = true;
    }
    for (unsigned i = 0; i < WATCHES; i++) {
        if (ack_of[i] != NULL)
            say(" \"%.*s\"", (int)ack_of[i]->payload_len, ack_of[i]->payload);
        if (is_missed[i])
            say(" %u missed", i);
    }
    rados_free_notify_response(acks, n_acks, missed);
}

static void say_told(void)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < WATCHES; i++) {
        struct watch *w = &watches[i];
        if (w->told > 0) {
            say(" %u told %u", i, w->told);
            say_data(w->data, w->len);
        }
        w->told = 0;
    }
    pthread_mutex_unlock(&lock);
}

static bool has_deaf(unsigned object)
{
    for (unsigned i = 0; i < WATCHES; i++)
        if (watches[i].used && watches[i].deaf && watches[i].object == object &&
            watches[i].lost == 0)
            return true;
    return false;
}

static void notify(unsigned object)
{
    unsigned client = (unsigned)below(CLIENTS);
    bool aio = chance(40);
    size_t len = draw_len() % 5000;
    const char *data = draw_data(len);
    uint64_t patience = has_deaf(object) ? DEAF_MS : (uint64_t)PATIENCE_S * 1000;
    char *reply = NULL;
    size_t reply_len = 0;
    rados_completion_t c = aio ? make_completion() : NULL;
    int rc = aio ? await(c, rados_aio_notify(contexts[client], names[object], c, data, (int)len,
                                             patience, &reply, &reply_len))
                 : rados_notify2(contexts[client], names[object], data, (int)len, patience, &reply,
                                 &reply_len);
    say("notify %u of %zu by client%u -> %d", object, len, client, rc);
    if (reply != NULL)
        say_reply(reply, reply_len);
    say_told();
    rados_buffer_free(reply);
}

/* ---- The objects ---- */

static void make(unsigned object)
{
    say("make %u -> %d", object, rados_write_full(contexts[0], names[object], "text", 4));
}

/* Whoever watches it is told. */
static void drop(unsigned object)
{
    struct timespec until;
    bool live[WATCHES];
    for (unsigned i = 0; i < WATCHES; i++)
        live[i] = watches[i].used && watches[i].object == object && watches[i].lost == 0;
    int rc = rados_remove(contexts[0], names[object]);
    say("drop %u -> %d", object, rc);
    if (rc != 0)
        return;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < WATCHES; i++) {
        struct watch *w = &watches[i];
        while (live[i] && w->lost == 0 && pthread_cond_timedwait(&changed, &lock, &until) == 0)
            ;
        if (live[i])
            say(" %u lost %d", i, w->lost);
    }
    pthread_mutex_unlock(&lock);
}

void op_watch(struct run *r)
{
    unsigned object = (unsigned)below(WATCHED);
    struct watch *w = &watches[below(WATCHES)];
    begin(r);
    revive(r, contexts[0], names[object]);
    say("watching ");
    switch (below(16)) {
    case 0:
        drop(object);
        return;
    case 1:
    case 2:
    case 3:
        make(object);
        return;
    case 4:
    case 5:
    case 6:
    case 7:
        notify(object);
        return;
    default:
        break;
    }
    if (!w->used)
        watch(r, w, object);
    else if (chance(30))
        unwatch(w);
    else if (chance(40))
        check(w);
    else
        notify(w->object);
}

void watches_reset(struct run *r)
{
    if (contexts[0] == NULL)
        return;
    for (unsigned i = 0; i < WATCHES; i++) {
        if (watches[i].used)
            (void)end_watch(&watches[i]);
        watches[i] = (struct watch){.run = r, .number = i};
    }
}

void watches_end(void)
{
    for (int i = 0; i < CLIENTS && contexts[i] != NULL; i++)
        rados_ioctx_destroy(contexts[i]);
}
