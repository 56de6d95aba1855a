/*
 * What a client has changed in a shard by itself, under its exclusive lease, arrives: some records
 * set, some removed, at once. The same operation asserts the lease (client/fs/write_back.c).
 */
#include "common/fs_method.h"

#include <errno.h>
#include <string.h>

static int apply_changes(struct fs_job *job)
{
    struct decoder d;
    struct fs_change change;
    int error;
    decoder_init(&d, job->data.data, job->data.len);
    while ((error = fs_change_next(&d, &change)) == 0)
        continue;
    if (error != -ENOENT)
        return -EINVAL;
    /* What is left may be less than what was there: a full cluster does not stop it. */
    bool grows = job->call->grows;
    decoder_init(&d, job->data.data, job->data.len);
    while (fs_change_next(&d, &change) == 0) {
        grows |= change.grows;
        if (change.removed)
            fs_remove_key(job, change.key, change.key_len);
        else
            fs_set(job->call, change.key, change.key_len, change.value, change.len);
    }
    job->call->grows = grows;
    return 0;
}

/* FS_EXCLUSIVE: the shard is born with this: -EEXIST. FS_UNNAMED: it goes. */
int fs_method_apply(struct fs_method_call *call)
{
    struct fs_job job;
    int error = fs_begin(call, &job);
    if (error)
        return error;
    bool born = job.rq.flags & FS_EXCLUSIVE, gone = job.rq.flags & FS_UNNAMED;
    if (born && gone)
        return -EINVAL;
    if (born == call->exists)
        return born ? -EEXIST : -ENOENT;
    if (gone)
        call->records->remove_all(call);
    else
        error = apply_changes(&job);
    return error ? error : fs_end(&job);
}
