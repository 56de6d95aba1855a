/*
 * Locks of fcntl(2) that wait for each other, of any clients: the one that closes the circle is
 * refused, as on one machine. Whoever has to wait stands in its client's list, and then follows the
 * chain: who has the lock that is in the way is asked of the shard, what that one waits for of its
 * client (a notify of the object "super").
 *
 * E1  Who waits is in the list before it follows the chain. So of those that wait in a circle, the
 *     last one sees all of it.
 * E2  A circle counts when it was seen twice, with the same requests: then all of them waited at
 *     the same time.
 * E3  Who could not see the whole chain, since a client or an OSD did not answer, looks again when
 *     it asks for its lock the next time: nobody else may.
 *
 * E4  A lock that its owner has given back, and the OSD still has (K2), is no part of a circle: of
 *     its owners a client tells nothing meanwhile, and E3 holds.
 *
 * Locks of flock(2) are not followed, as in the kernel.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/fs.h"

enum { STEPS_MAX = 16, NOTIFY_MS = 2000, PASSES = 2 };

struct party {
    uint64_t instance, owner;
};

/* A request that waits, of a party. */
struct wait {
    uint64_t ino, start, len, number;
    uint8_t type;
};

static bool same_party(struct party a, struct party b)
{
    return a.instance == b.instance && a.owner == b.owner;
}

/* Who has the lock that the party waits for; instance 0: nobody any more. */
static int holder_of(struct limpet_fs *fs, struct party party, const struct wait *wait,
                     struct party *out)
{
    const struct fs_request rq = {.ino = wait->ino,
                                  .offset = wait->start,
                                  .len = wait->len,
                                  .type = wait->type,
                                  .expect = party.owner,
                                  .tx = {party.instance, 1}};
    struct fs_lock holder;
    int rc = lock_holder(fs, &rq, &holder);
    *out = (struct party){holder.instance, holder.owner};
    return rc;
}

/* With the lock. Of this client's: NULL, the owner does not wait. */
static struct fs_call *find_waiting(struct limpet_fs *fs, uint64_t owner)
{
    struct fs_call *call;
    for (call = TAILQ_FIRST(&fs->locks); call != NULL; call = TAILQ_NEXT(call, lock_link)) {
        if (call->blocked != 0 && call->rq.owner == owner && !(call->rq.flags & LIMPET_FS_WHOLE))
            break;
    }
    return call;
}

static void encode_wait(struct encoder *e, const struct fs_call *call)
{
    encode_u64(e, call->rq.ino);
    encode_u64(e, call->rq.offset);
    encode_u64(e, call->rq.len);
    encode_u64(e, call->blocked);
    encode_u8(e, call->rq.flags & LIMPET_FS_LOCK_EXCLUSIVE ? FS_LOCK_EXCLUSIVE : FS_LOCK_SHARED);
}

/* A wait of no type. */
static void encode_unknown(struct encoder *e)
{
    for (int i = 0; i < 4; i++)
        encode_u64(e, 0);
    encode_u8(e, 0);
}

/* -EAGAIN: it is not known. */
static int decode_wait(const void *data, size_t len, struct wait *out)
{
    struct decoder d;
    decoder_init(&d, data, len);
    out->ino = decode_u64(&d);
    out->start = decode_u64(&d);
    out->len = decode_u64(&d);
    out->number = decode_u64(&d);
    out->type = decode_u8(&d);
    int rc = decoder_end(&d);
    return rc == 0 && out->type == 0 ? -EAGAIN : rc;
}

void deadlock_asked(struct limpet_fs *fs, struct decoder *question, struct encoder *answer)
{
    uint64_t instance = decode_u64(question), owner = decode_u64(question);
    if (question->failed || instance != fs->instance)
        return;
    pthread_mutex_lock(&fs->lock);
    const struct fs_call *call = find_waiting(fs, owner);
    if (lock_is_uncertain(fs))
        encode_unknown(answer);
    else if (call != NULL)
        encode_wait(answer, call);
    pthread_mutex_unlock(&fs->lock);
}

/* What a party of another client waits for: -ENOENT, nothing; else it is not known. */
static int ask_client(struct limpet_fs *fs, struct party party, struct wait *out)
{
    struct encoder e;
    struct limpet_answers *answers = NULL;
    struct limpet_answer answer;
    int found = -ENOENT;
    encoder_init(&e);
    encode_u8(&e, FS_NOTIFY_WAITS);
    encode_u64(&e, party.instance);
    encode_u64(&e, party.owner);
    int rc =
        e.failed ? -ENOMEM : limpet_notify(fs->pool, FS_SUPER, e.data, e.len, NOTIFY_MS, &answers);
    encoder_fini(&e);
    while ((rc == 0 || rc == -ETIMEDOUT) && answers != NULL &&
           limpet_answers_next(answers, &answer) == 0) {
        if (answer.missed && found != 0)
            found = -ETIMEDOUT;
        int told =
            answer.missed || answer.len == 0 ? -ENOENT : decode_wait(answer.data, answer.len, out);
        if (told == 0 || (told == -EAGAIN && found != 0))
            found = told;
    }
    limpet_answers_destroy(answers);
    return rc != 0 && found == -ENOENT ? rc : found;
}

static int wait_of(struct limpet_fs *fs, struct party party, struct wait *out)
{
    struct encoder e;
    if (party.instance != fs->instance)
        return ask_client(fs, party, out);
    encoder_init(&e);
    pthread_mutex_lock(&fs->lock);
    const struct fs_call *call = find_waiting(fs, party.owner);
    bool unknown = lock_is_uncertain(fs);
    if (call != NULL)
        encode_wait(&e, call);
    pthread_mutex_unlock(&fs->lock);
    int rc = unknown        ? -EAGAIN
             : call == NULL ? -ENOENT
             : e.failed     ? -ENOMEM
                            : decode_wait(e.data, e.len, out);
    encoder_fini(&e);
    return rc;
}

/* 1: the chain leads back; *numbers: a sum over the requests of the circle. 0: it does not. */
static int leads_back(struct limpet_fs *fs, struct party self, uint64_t *numbers)
{
    struct party party = self;
    *numbers = 0;
    for (int step = 0; step < STEPS_MAX; step++) {
        struct wait wait;
        int rc = wait_of(fs, party, &wait);
        if (rc == 0)
            rc = holder_of(fs, party, &wait, &party);
        /* Nobody waits, or the file is gone. */
        if (rc != 0)
            return rc == -ENOENT || rc == -ESTALE ? 0 : rc;
        if (party.instance == 0)
            return 0;
        *numbers = *numbers * 31 + wait.number;
        if (same_party(party, self))
            return 1;
    }
    return 0;
}

/* E3 */
static void look_again(struct fs_call *call)
{
    pthread_mutex_lock(&call->fs->lock);
    call->blocker_instance = 0;
    pthread_mutex_unlock(&call->fs->lock);
}

bool deadlock_found(struct fs_call *call, uint64_t instance, uint64_t owner)
{
    struct limpet_fs *fs = call->fs;
    const struct party self = {fs->instance, call->rq.owner}, holder = {instance, owner};
    uint64_t numbers[PASSES];
    if (call->rq.flags & LIMPET_FS_WHOLE)
        return false;
    pthread_mutex_lock(&fs->lock);
    bool known =
        call->blocked != 0 && call->blocker_instance == instance && call->blocker_owner == owner;
    if (call->blocked == 0)
        call->blocked = ++fs->last_blocked;
    call->blocker_instance = instance;
    call->blocker_owner = owner;
    pthread_mutex_unlock(&fs->lock);
    /* Nothing new: whoever has come to wait since has looked. */
    if (known || same_party(self, holder))
        return false;
    for (int i = 0; i < PASSES; i++) {
        int back = leads_back(fs, self, &numbers[i]);
        if (back < 0)
            look_again(call);
        if (back <= 0)
            return false;
    }
    return numbers[0] == numbers[1];
}
