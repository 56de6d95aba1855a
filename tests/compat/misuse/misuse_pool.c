/* What is a pool's: applications, snapshots; watches. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compat/misuse/misuse.h"

/* ---- Applications ---- */

static void give_application(rados_ioctx_t io, const char *name, int force)
{
    say(rados_application_enable(io, name, force), "application_enable %s %d", name, force);
}

void misuse_applications(rados_ioctx_t io)
{
    char keys[256], values[256];
    size_t keys_len = sizeof keys, values_len = sizeof values;
    say(rados_application_list(io, values, &values_len), "application_list of none");
    say((long long)values_len, "bytes");
    say(rados_application_metadata_set(io, "one", "k", "v"), "application_metadata_set without it");
    give_application(io, "one", 0);
    give_application(io, "one", 0);
    give_application(io, "two", 0);
    give_application(io, "two", 1);
    give_application(io, "three", 1);
    give_application(io, "four", 1);
    give_application(io, "five", 1);
    say(rados_application_enable(io, "", 1), "application_enable without a name");
    say(rados_application_enable(io, letters(129), 1), "application_enable of 129 bytes");
    values_len = 3;
    say(rados_application_list(io, values, &values_len), "application_list to 3 bytes");
    say((long long)values_len, "bytes");
    values_len = sizeof values;
    say(rados_application_list(io, values, &values_len), "application_list");
    say((long long)values_len, "bytes");
    say(rados_application_metadata_set(io, "none", "k", "v"), "metadata_set of none");
    say(rados_application_metadata_set(io, "one", "k", "value"), "metadata_set");
    say(rados_application_metadata_set(io, "one", "", "v"), "metadata_set without a key");
    say(rados_application_metadata_set(io, "one", letters(129), "v"), "metadata_set of 129 bytes");
    say(rados_application_metadata_set(io, "one", "l", letters(129)), "metadata_set to 129 bytes");
    say(rados_application_metadata_set(io, "one", "e", ""), "metadata_set to nothing");
    values_len = 3;
    say(rados_application_metadata_get(io, "one", "k", values, &values_len),
        "metadata_get to 3 bytes");
    say((long long)values_len, "bytes");
    values_len = sizeof values;
    say(rados_application_metadata_get(io, "one", "k", values, &values_len), "metadata_get");
    say((long long)values_len, "bytes");
    say(rados_application_metadata_get(io, "one", "none", values, &values_len),
        "metadata_get of no key");
    say(rados_application_metadata_get(io, "none", "k", values, &values_len),
        "metadata_get of none");
    keys_len = values_len = 2;
    say(rados_application_metadata_list(io, "one", keys, &keys_len, values, &values_len),
        "metadata_list to 2 bytes");
    say((long long)keys_len, "bytes of keys");
    say((long long)values_len, "bytes of values");
    keys_len = values_len = sizeof keys;
    say(rados_application_metadata_list(io, "one", keys, &keys_len, values, &values_len),
        "metadata_list");
    say((long long)keys_len, "bytes of keys");
    say((long long)values_len, "bytes of values");
    say(rados_application_metadata_list(io, "none", keys, &keys_len, values, &values_len),
        "metadata_list of none");
    say(rados_application_metadata_remove(io, "one", "none"), "metadata_remove of no key");
    say(rados_application_metadata_remove(io, "none", "k"), "metadata_remove of none");
    say(rados_application_metadata_remove(io, "one", "k"), "metadata_remove");
}

/* ---- Snapshots ---- */

static void looking_back(rados_ioctx_t io, rados_snap_t snap)
{
    char text[64];
    uint64_t cookie = 0;
    rados_ioctx_snap_set_read(io, snap);
    say(rados_read(io, "s", text, sizeof text, 0), "read at a snapshot");
    say(rados_write_full(io, "s", "x", 1), "write_full at a snapshot");
    say(rados_remove(io, "s"), "remove at a snapshot");
    say(rados_setxattr(io, "s", "k", "v", 1), "setxattr at a snapshot");
    say(rados_lock_exclusive(io, "s", "l", "c", "", NULL, 0), "lock_exclusive at a snapshot");
    say(rados_ioctx_snap_rollback(io, "s", "one"), "snap_rollback at a snapshot");
    say(rados_watch3(io, "s", &cookie, NULL, NULL, 30, NULL), "watch3 at a snapshot");
    say(rados_notify2(io, "s", "x", 1, 1000, NULL, NULL), "notify2 at a snapshot");
    rados_ioctx_snap_set_read(io, LIBRADOS_SNAP_HEAD);
    if (cookie != 0)
        say(rados_unwatch2(io, cookie), "unwatch2");
    rados_ioctx_snap_set_read(io, 4711);
    say(rados_read(io, "s", text, sizeof text, 0), "read at no snapshot");
    say(rados_stat(io, "none", NULL, NULL), "stat of none at no snapshot");
    rados_ioctx_snap_set_read(io, LIBRADOS_SNAP_HEAD);
    say(rados_write_full(io, "s", "xy", 2), "write_full after looking at snapshots");
}

void misuse_own_snapshots(rados_ioctx_t io)
{
    rados_snap_t ids[4], id = 0;
    time_t stamp;
    char text[64];
    say(rados_write_full(io, "s", "content", 7), "write_full");
    say(rados_ioctx_snap_list(io, ids, 4), "snap_list of none");
    say(rados_ioctx_snap_create(io, "one"), "snap_create");
    say(rados_ioctx_snap_create(io, "one"), "snap_create again");
    say(rados_ioctx_snap_create(io, ""), "snap_create without a name");
    say(rados_ioctx_snap_create(io, "two"), "snap_create two");
    say(rados_ioctx_selfmanaged_snap_create(io, &id), "selfmanaged_snap_create");
    say(rados_ioctx_snap_list(io, ids, 1), "snap_list to 1");
    say(rados_ioctx_snap_list(io, ids, 4), "snap_list");
    say(rados_ioctx_snap_lookup(io, "none", &id), "snap_lookup of none");
    say(rados_ioctx_snap_lookup(io, "one", &id), "snap_lookup");
    say(rados_ioctx_snap_get_name(io, id, text, 3), "snap_get_name to 3 bytes");
    say(rados_ioctx_snap_get_name(io, id, text, 4), "snap_get_name to 4 bytes");
    say(rados_ioctx_snap_get_name(io, 4711, text, sizeof text), "snap_get_name of none");
    say(rados_ioctx_snap_get_stamp(io, 4711, &stamp), "snap_get_stamp of none");
    say(rados_ioctx_snap_get_stamp(io, id, &stamp), "snap_get_stamp");
    say(rados_ioctx_snap_rollback(io, "s", "none"), "snap_rollback to none");
    say(rados_ioctx_snap_rollback(io, "none", "one"), "snap_rollback of none");
    say(rados_write_full(io, "s", "new", 3), "write_full");
    looking_back(io, id);
    say(rados_ioctx_snap_rollback(io, "s", "one"), "snap_rollback");
    say(rados_read(io, "s", text, sizeof text, 0), "read");
    say(rados_ioctx_snap_remove(io, "none"), "snap_remove of none");
    say(rados_ioctx_snap_remove(io, "one"), "snap_remove");
    say(rados_ioctx_snap_remove(io, "one"), "snap_remove again");
    say(rados_ioctx_snap_rollback(io, "s", "one"), "snap_rollback to one that was removed");
}

static void context(rados_ioctx_t io, const char *what, rados_snap_t seq, rados_snap_t *snaps,
                    int n)
{
    say(rados_ioctx_selfmanaged_snap_set_write_ctx(io, seq, snaps, n), "set_write_ctx %s", what);
}

void misuse_self_snapshots(rados_ioctx_t io)
{
    rados_snap_t a = 0, b = 0;
    char text[64];
    say(rados_write_full(io, "s", "one", 3), "write_full");
    say(rados_ioctx_selfmanaged_snap_create(io, &a), "selfmanaged_snap_create");
    say(rados_ioctx_selfmanaged_snap_create(io, &b), "selfmanaged_snap_create");
    say(b > a, "newer");
    say(rados_ioctx_snap_create(io, "own"), "snap_create");
    rados_snap_t good[] = {b, a}, wrong[] = {a, b}, twice[] = {b, b}, none[] = {0};
    context(io, "in the wrong order", b, wrong, 2);
    context(io, "with one twice", b, twice, 2);
    context(io, "newer than its newest", a, good, 2);
    context(io, "with snapshot 0", b, none, 1);
    context(io, "of nothing", 0, NULL, 0);
    context(io, "", b, good, 2);
    say(rados_write_full(io, "s", "three", 5), "write_full");
    context(io, "that is old", a, &good[1], 1);
    say(rados_write_full(io, "s", "four", 4), "write_full with an old context");
    rados_ioctx_snap_set_read(io, a);
    say(rados_read(io, "s", text, sizeof text, 0), "read at the first");
    rados_ioctx_snap_set_read(io, LIBRADOS_SNAP_HEAD);
    say(rados_ioctx_selfmanaged_snap_rollback(io, "s", 0), "selfmanaged_snap_rollback to 0");
    say(rados_ioctx_selfmanaged_snap_rollback(io, "none", a), "selfmanaged_snap_rollback of none");
    say(rados_ioctx_selfmanaged_snap_rollback(io, "s", a), "selfmanaged_snap_rollback");
    say(rados_read(io, "s", text, sizeof text, 0), "read");
    say(rados_ioctx_selfmanaged_snap_remove(io, 4711), "selfmanaged_snap_remove of none");
    say(rados_ioctx_selfmanaged_snap_remove(io, a), "selfmanaged_snap_remove");
    say(rados_ioctx_selfmanaged_snap_remove(io, a), "selfmanaged_snap_remove again");
}

/* ---- Watches ---- */

struct heard {
    rados_ioctx_t io;
    int notifies, errors;
    bool answers;
};

static void on_notify(void *arg, uint64_t notify_id, uint64_t handle, uint64_t notifier, void *data,
                      size_t len)
{
    struct heard *heard = arg;
    (void)notifier;
    (void)data;
    (void)len;
    heard->notifies++;
    if (heard->answers)
        rados_notify_ack(heard->io, "w", notify_id, handle, "answer", 6);
}

static void on_error(void *arg, uint64_t cookie, int error)
{
    (void)cookie;
    (void)error;
    ((struct heard *)arg)->errors++;
}

static void notifying(rados_ioctx_t io, const char *what, int timeout_ms)
{
    char *reply = NULL;
    size_t len = 0, acks_len = 0, timeouts_len = 0;
    struct notify_ack_t *acks = NULL;
    struct notify_timeout_t *timeouts = NULL;
    say(rados_notify2(io, "w", "data", 4, (uint64_t)timeout_ms, &reply, &len), "notify2 %s", what);
    say((long long)len, "bytes");
    say(rados_decode_notify_response(reply, len, &acks, &acks_len, &timeouts, &timeouts_len),
        "decode_notify_response");
    say((long long)acks_len, "answers");
    say(acks_len > 0 ? (long long)acks[0].payload_len : -1, "bytes of an answer");
    say((long long)timeouts_len, "that have not answered");
    rados_free_notify_response(acks, acks_len, timeouts);
    rados_buffer_free(reply);
}

void misuse_watches(rados_t cluster, rados_ioctx_t io)
{
    struct heard heard = {.io = io, .answers = true};
    uint64_t cookie, other;
    char *reply;
    size_t len;
    say(rados_watch3(io, "none", &cookie, on_notify, on_error, 30, &heard), "watch3 of none");
    say(rados_notify2(io, "none", "x", 1, 1000, &reply, &len), "notify2 of none");
    say((long long)len, "bytes");
    say(rados_write_full(io, "w", "", 0), "write_full");
    notifying(io, "without watchers", 1000);
    say(rados_watch3(io, "w", &cookie, on_notify, on_error, 30, &heard), "watch3");
    say(rados_watch_check(io, cookie) >= 0, "watch_check");
    notifying(io, "with one", 5000);
    heard.answers = false;
    notifying(io, "with one that says nothing", 1000);
    heard.answers = true;
    say(rados_watch3(io, "w", &other, on_notify, on_error, 0, &heard), "watch3 for a default time");
    say(other != cookie, "another cookie");
    notifying(io, "with two", 5000);
    say(rados_notify_ack(io, "w", 4711, cookie, NULL, 0), "notify_ack of none");
    say(rados_unwatch2(io, other), "unwatch2");
    say(rados_watch_flush(cluster), "watch_flush");
    say(rados_remove(io, "w"), "remove of an object that is watched");
    say(rados_unwatch2(io, cookie), "unwatch2 of an object that is gone");
    say(rados_watch_flush(cluster), "watch_flush");
    say(heard.notifies, "notifies heard");
}
