/*
 * Extended attributes. Two of them are access control lists (common/posix_acl.h), which go with the
 * mode: each change of one changes the other in the same operation, and a list that says what the
 * mode says is not kept. The inode says what attributes there may be, so that who knows it need not
 * ask for them.
 */
#include "common/fs_method.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/posix_acl.h"

/* enum fs_attributes, of a name. */
static uint8_t kind_of(struct fs_bytes name)
{
    static const char access[] = POSIX_ACL_ACCESS, inherited[] = POSIX_ACL_DEFAULT;
    if (name.len == sizeof access - 1 && memcmp(name.data, access, name.len) == 0)
        return FS_ATTRIBUTES_ACCESS;
    if (name.len == sizeof inherited - 1 && memcmp(name.data, inherited, name.len) == 0)
        return FS_ATTRIBUTES_DEFAULT;
    return 0;
}

uint8_t fs_attributes_of(const void *name, size_t len)
{
    return FS_ATTRIBUTES_ANY | kind_of((struct fs_bytes){name, (uint16_t)len});
}

static struct fs_bytes name_of(uint8_t kind)
{
    const char *name = kind == FS_ATTRIBUTES_ACCESS ? POSIX_ACL_ACCESS : POSIX_ACL_DEFAULT;
    return (struct fs_bytes){(const uint8_t *)name, (uint16_t)strlen(name)};
}

static const uint8_t *key_of(struct fs_job *job, uint32_t index, struct fs_bytes name,
                             uint16_t *len)
{
    uint8_t *key = fs_alloc(job->call, FS_KEY_MAX + 1);
    if (!key)
        return NULL;
    *len = (uint16_t)fs_xattr_key(key, index, name.data, name.len);
    key[*len] = 0;
    return key;
}

/* ---- Lists ---- */

static int look_list(struct fs_job *job, uint32_t index, uint8_t kind, struct fs_span *out)
{
    uint16_t len;
    const uint8_t *key = key_of(job, index, name_of(kind), &len);
    *out = fs_span_of(NULL, 0);
    int error = key ? fs_look(job->call, key, len, out) : -ENOMEM;
    if (error)
        return error == -ENODATA ? 0 : error;
    return posix_acl_check(out->data, out->len) ? -EIO : 0;
}

static void put_list(struct fs_job *job, struct fs_inode *inode, uint8_t kind, const void *list,
                     uint32_t list_len)
{
    uint16_t len;
    const uint8_t *key = key_of(job, fs_index(inode->ino), name_of(kind), &len);
    if (!key)
        return;
    fs_set(job->call, key, len, list, list_len);
    inode->attributes |= kind | FS_ATTRIBUTES_ANY;
}

static void *copy_of(struct fs_job *job, struct fs_span list)
{
    void *copy = fs_alloc(job->call, list.len);
    if (copy)
        memcpy(copy, list.data, list.len);
    return copy;
}

int fs_look_default(struct fs_job *job, struct fs_span *out)
{
    *out = fs_span_of(NULL, 0);
    return job->dir.attributes & FS_ATTRIBUTES_DEFAULT
               ? look_list(job, FS_INDEX_DIR, FS_ATTRIBUTES_DEFAULT, out)
               : 0;
}

void fs_inherit(struct fs_job *job, struct fs_span list, uint32_t full_mode, struct fs_inode *inode)
{
    void *copy = list.len > 0 && !S_ISLNK(inode->mode) ? copy_of(job, list) : NULL;
    if (!copy)
        return;
    if (S_ISDIR(inode->mode))
        put_list(job, inode, FS_ATTRIBUTES_DEFAULT, list.data, list.len);
    uint32_t mode = posix_acl_inherit(copy, list.len, full_mode != 0 ? full_mode : inode->mode);
    inode->mode = (inode->mode & ~(uint32_t)0777) | (mode & 0777);
    if (!posix_acl_is_mode(copy, list.len))
        put_list(job, inode, FS_ATTRIBUTES_ACCESS, copy, list.len);
}

int fs_follow_mode(struct fs_job *job, const struct fs_inode *inode)
{
    struct fs_span list;
    struct fs_inode changed = *inode;
    if (!(inode->attributes & FS_ATTRIBUTES_ACCESS))
        return 0;
    int error = look_list(job, fs_index(inode->ino), FS_ATTRIBUTES_ACCESS, &list);
    void *copy = !error && list.len > 0 ? copy_of(job, list) : NULL;
    if (!copy)
        return error;
    posix_acl_from_mode(copy, list.len, inode->mode);
    put_list(job, &changed, FS_ATTRIBUTES_ACCESS, copy, list.len);
    return 0;
}

/* The inode follows a list that is set. *keep: it says more than the mode. */
static int follow_list(const struct fs_job *job, uint8_t kind, struct fs_inode *inode, bool *keep)
{
    struct fs_span list = job->data;
    *keep = true;
    if (kind == 0)
        return 0;
    if (posix_acl_check(list.data, list.len) != 0)
        return -EINVAL;
    if (S_ISLNK(inode->mode))
        return -EOPNOTSUPP;
    if (kind == FS_ATTRIBUTES_DEFAULT)
        return S_ISDIR(inode->mode) ? 0 : -EACCES;
    inode->mode = posix_acl_to_mode(list.data, list.len, inode->mode);
    if (job->rq.flags & FS_KILL_GROUP)
        inode->mode &= ~(unsigned)S_ISGID;
    *keep = !posix_acl_is_mode(list.data, list.len);
    return 0;
}

/* ---- Attributes ---- */

static int begin_xattr(struct fs_method_call *call, struct fs_job *job, struct fs_inode *inode)
{
    int error = fs_begin(call, job);
    if (!error && (job->rq.name.len == 0 || fs_index(job->rq.ino) == 0))
        error = -EINVAL;
    return error ? error : fs_look_inode(job, job->rq.ino, inode);
}

static const uint8_t *xattr_key(struct fs_job *job, uint16_t *len)
{
    return key_of(job, fs_index(job->rq.ino), job->rq.name, len);
}

int fs_method_xget(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_inode inode;
    struct fs_span value;
    uint16_t len;
    int error = begin_xattr(call, &job, &inode);
    if (error)
        return error;
    const uint8_t *key = xattr_key(&job, &len);
    error = key ? fs_look(job.call, key, len, &value) : -ENOMEM;
    if (!error && value.len > 0)
        encode_bytes(&call->output, value.data, value.len);
    return error;
}

/* Calls for each name; returns how many bytes a list of them needs, or an error. */
static int64_t list_names(struct fs_job *job, struct encoder *out)
{
    uint8_t prefix[FS_KEY_MAX];
    size_t len = fs_xattr_key(prefix, fs_index(job->rq.ino), NULL, 0);
    struct fs_span key = fs_span_of(prefix, len), value;
    int64_t total = 0;
    int error;
    while ((error = fs_next(job->call, key.data, (uint16_t)key.len, 64, &key, &value)) == 0 &&
           key.len > len && memcmp(key.data, prefix, len) == 0) {
        total += (int64_t)(key.len - len) + 1;
        if (out) {
            encode_bytes(out, key.data + len, key.len - len);
            encode_u8(out, 0);
        }
        uint8_t *after = fs_alloc(job->call, key.len + 1);
        if (!after)
            return -ENOMEM;
        memcpy(after, key.data, key.len);
        after[key.len] = 0;
        key = fs_span_of(after, key.len + 1);
    }
    return error && error != -ENODATA ? error : total;
}

int fs_method_xset(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_inode inode;
    struct fs_span old;
    uint16_t len;
    bool keep = true;
    int error = begin_xattr(call, &job, &inode);
    if (error)
        return error;
    uint8_t kind = kind_of(job.rq.name);
    if (job.data.len > FS_XATTR_VALUE_MAX)
        return -E2BIG;
    const uint8_t *key = xattr_key(&job, &len);
    error = key ? fs_look(job.call, key, len, &old) : -ENOMEM;
    if (error && error != -ENODATA)
        return error;
    if (!error && job.rq.flags & FS_EXCLUSIVE)
        return -EEXIST;
    if (error && job.rq.flags & FS_REPLACE)
        return -ENODATA;
    /* As ext4 has it: a value that is there already is no change. */
    if (!error && kind == 0 && fs_span_equal(old, job.data))
        return fs_end_with(&job, &inode);
    int64_t bytes = error ? list_names(&job, NULL) : 0;
    if (bytes < 0)
        return (int)bytes;
    if (bytes + job.rq.name.len + 1 > FS_XATTRS_LIST_MAX)
        return -ENOSPC;
    error = follow_list(&job, kind, &inode, &keep);
    if (error)
        return error;
    if (keep) {
        fs_set(job.call, key, len, job.data.data, job.data.len);
        inode.attributes |= kind | FS_ATTRIBUTES_ANY;
    } else {
        fs_remove(job.call, key, len, key, (uint16_t)(len + 1));
        inode.attributes &= (uint8_t)~kind;
    }
    fs_touch(&job, &inode);
    fs_put_inode(&job, fs_index(inode.ino), &inode);
    return fs_end_with(&job, &inode);
}

int fs_method_xremove(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_inode inode;
    struct fs_span old;
    uint16_t len;
    int error = begin_xattr(call, &job, &inode);
    if (error)
        return error;
    const uint8_t *key = xattr_key(&job, &len);
    error = key ? fs_look(job.call, key, len, &old) : -ENOMEM;
    uint8_t kind = kind_of(job.rq.name);
    /* As ext4 has it: a list may be removed that is not there. */
    if (error)
        return error == -ENODATA && kind != 0 ? fs_end_with(&job, &inode) : error;
    bool grows = call->grows;
    inode.attributes &= (uint8_t)~kind;
    fs_remove(job.call, key, len, key, (uint16_t)(len + 1));
    fs_touch(&job, &inode);
    fs_put_inode(&job, fs_index(inode.ino), &inode);
    call->grows = grows;
    return fs_end_with(&job, &inode);
}

int fs_method_xlist(struct fs_method_call *call)
{
    struct fs_job job;
    struct fs_inode inode;
    int error = fs_begin(call, &job);
    if (!error && fs_index(job.rq.ino) == 0)
        error = -EINVAL;
    if (!error)
        error = fs_look_inode(&job, job.rq.ino, &inode);
    if (error)
        return error;
    int64_t bytes = list_names(&job, &call->output);
    return bytes < 0 ? (int)bytes : 0;
}
