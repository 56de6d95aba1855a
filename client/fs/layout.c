/*
 * Layouts, as the attributes "limpet.layout" of files and directories, and "limpet.layout.FIELD":
 * how contents are cut into objects. A file has the one of its directory when it is made, and can
 * be given another one as long as it is empty; a directory, that of its own.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/fs/fs.h"

#define PREFIX "limpet.layout"

enum field { ALL, OBJECT_SIZE, STRIPE_UNIT, STRIPE_COUNT, POOL, FIELDS_END };
enum { TEXT_MAX = 512 };

static const char *const fields[FIELDS_END] = {
    [ALL] = "",
    [OBJECT_SIZE] = "object_size",
    [STRIPE_UNIT] = "stripe_unit",
    [STRIPE_COUNT] = "stripe_count",
    [POOL] = "pool",
};

struct fs_layout layout_default(const struct limpet_fs *fs)
{
    return fs_layout_plain(fs->super.order, fs->super.data_pool);
}

static enum field field_of(const char *name, size_t len)
{
    for (int i = ALL + 1; i < FIELDS_END; i++) {
        if (strlen(fields[i]) == len && memcmp(fields[i], name, len) == 0)
            return (enum field)i;
    }
    return FIELDS_END;
}

/* Of an attribute; FIELDS_END: there is none of this name. */
static enum field field_of_xattr(const char *name)
{
    const char *rest = name + sizeof PREFIX - 1;
    if (*rest == 0)
        return ALL;
    return *rest == '.' ? field_of(rest + 1, strlen(rest + 1)) : FIELDS_END;
}

/* ---- Telling ---- */

static uint64_t unit_of(const struct fs_layout *layout)
{
    return UINT64_C(1) << (layout->stripes > 1 ? layout->unit_order : layout->order);
}

static int format(const struct limpet_fs *fs, const struct fs_layout *layout, enum field field,
                  char *out)
{
    uint64_t object = UINT64_C(1) << layout->order;
    const char *pool = limpet_pool_name(layout->pool == fs->super.data_pool ? fs->data : fs->pool);
    switch (field) {
    case OBJECT_SIZE:
        return snprintf(out, TEXT_MAX, "%" PRIu64, object);
    case STRIPE_UNIT:
        return snprintf(out, TEXT_MAX, "%" PRIu64, unit_of(layout));
    case STRIPE_COUNT:
        return snprintf(out, TEXT_MAX, "%u", layout->stripes);
    case POOL:
        return snprintf(out, TEXT_MAX, "%s", pool);
    default:
        return snprintf(out, TEXT_MAX,
                        "stripe_unit=%" PRIu64 " stripe_count=%u object_size=%" PRIu64 " pool=%s",
                        unit_of(layout), layout->stripes, object, pool);
    }
}

static bool has_layout(const struct fs_inode *inode)
{
    return S_ISREG(inode->mode) || S_ISDIR(inode->mode);
}

static void tell(struct fs_call *call, const struct fs_inode *inode)
{
    char text[TEXT_MAX];
    int len = has_layout(inode) ? format(call->fs, &inode->layout, field_of_xattr(call->name), text)
                                : -ENODATA;
    if (len >= TEXT_MAX)
        len = -ERANGE;
    call->result.data = len > 0 ? malloc((size_t)len) : NULL;
    if (len > 0 && call->result.data == NULL)
        len = -ENOMEM;
    if (len > 0) {
        memcpy(call->result.data, text, (size_t)len);
        call->result.len = (size_t)len;
    }
    call_end(call, len);
}

static void known(struct fs_call *call, int rc, const struct fs_answer *answer, const void *raw,
                  size_t len)
{
    (void)raw, (void)len;
    if (rc != 0)
        call_end(call, rc == -ENOENT ? -ESTALE : rc);
    else
        tell(call, &answer->inode);
}

bool layout_xattr(struct fs_call *call)
{
    struct fs_request rq = {.ino = call->rq.ino};
    struct fs_inode inode;
    bool gets = call->rq.verb == LIMPET_FS_XATTR_GET;
    if (call->rq.verb == LIMPET_FS_XATTR_LIST ||
        strncmp(call->name, PREFIX, sizeof PREFIX - 1) != 0)
        return false;
    if (field_of_xattr(call->name) == FIELDS_END)
        call_end(call, gets ? -ENODATA : -EINVAL);
    else if (!gets)
        call_work(call);
    else if (lease_known(call, &inode))
        tell(call, &inode);
    else
        fs_ask(call, fs_home(rq.ino), "fs.getattr", &rq, NULL, 0, known);
    return true;
}

/* ---- Setting ---- */

/* What is asked for: 0 is nothing. */
struct wish {
    uint64_t values[FIELDS_END];
    uint64_t pool;
};

static int take_number(const char *text, size_t len, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || *out > UINT32_MAX)
            return -EINVAL;
        *out = *out * 10 + (uint64_t)(text[i] - '0');
    }
    return *out > 0 ? 0 : -EINVAL;
}

/* Contents lie in the file system's two pools only. */
static int take_pool(const struct limpet_fs *fs, const char *text, size_t len, uint64_t *out)
{
    const char *data = limpet_pool_name(fs->data), *own = limpet_pool_name(fs->pool);
    if (strlen(data) == len && memcmp(data, text, len) == 0)
        *out = fs->super.data_pool;
    else if (strlen(own) == len && memcmp(own, text, len) == 0)
        *out = 0;
    else
        return -ENOENT;
    return 0;
}

static int take_field(const struct limpet_fs *fs, enum field field, const char *text, size_t len,
                      struct wish *wish)
{
    if (field == ALL || field == FIELDS_END || len == 0 || wish->values[field] != 0)
        return -EINVAL;
    if (field != POOL)
        return take_number(text, len, &wish->values[field]);
    wish->values[field] = 1;
    return take_pool(fs, text, len, &wish->pool);
}

/* "FIELD=VALUE FIELD=VALUE ..." */
static int take_all(const struct limpet_fs *fs, const char *text, size_t len, struct wish *wish)
{
    const char *end = text + len;
    int rc = len > 0 ? 0 : -EINVAL;
    while (rc == 0 && text < end) {
        const char *space = memchr(text, ' ', (size_t)(end - text));
        const char *stop = space != NULL ? space : end;
        const char *equals = memchr(text, '=', (size_t)(stop - text));
        if (equals == NULL)
            return -EINVAL;
        rc = take_field(fs, field_of(text, (size_t)(equals - text)), equals + 1,
                        (size_t)(stop - equals - 1), wish);
        text = space != NULL ? space + 1 : end;
    }
    return rc;
}

/* -EINVAL: no power of two, or out of range. */
static int take_order(uint64_t bytes, uint8_t *out)
{
    if (bytes < UINT64_C(1) << FS_ORDER_MIN || bytes > UINT64_C(1) << FS_ORDER_MAX ||
        (bytes & (bytes - 1)) != 0)
        return -EINVAL;
    *out = (uint8_t)__builtin_ctzll(bytes);
    return 0;
}

/* What was not asked for stays, but for units, which fill smaller objects. */
static int apply(const struct wish *wish, struct fs_layout *layout)
{
    int rc = 0;
    if (layout->stripes == 1)
        layout->unit_order = layout->order;
    if (wish->values[OBJECT_SIZE] != 0)
        rc = take_order(wish->values[OBJECT_SIZE], &layout->order);
    if (rc == 0 && wish->values[STRIPE_UNIT] != 0)
        rc = take_order(wish->values[STRIPE_UNIT], &layout->unit_order);
    else if (layout->unit_order > layout->order)
        layout->unit_order = layout->order;
    if (wish->values[STRIPE_COUNT] > FS_STRIPES_MAX)
        return -EINVAL;
    if (wish->values[STRIPE_COUNT] != 0)
        layout->stripes = (uint16_t)wish->values[STRIPE_COUNT];
    if (wish->values[POOL] != 0)
        layout->pool = wish->pool;
    return rc == 0 && !fs_layout_is_sane(layout) ? -EINVAL : rc;
}

static int read_wish(const struct fs_call *call, struct wish *wish)
{
    enum field field = field_of_xattr(call->name);
    const char *text = call->rq.data;
    size_t len = text != NULL ? call->rq.len : 0;
    return field == ALL ? take_all(call->fs, text, len, wish)
                        : take_field(call->fs, field, text, len, wish);
}

int layout_change(struct fs_call *call)
{
    struct limpet_fs *fs = call->fs;
    struct fs_request rq = {.ino = call->rq.ino};
    struct fs_inode inode;
    struct wish wish = {0};
    bool removes = call->rq.verb == LIMPET_FS_XATTR_REMOVE;
    int rc = removes ? 0 : read_wish(call, &wish);
    if (rc == 0)
        rc = behind_settle(fs, rq.ino, true);
    if (rc == 0)
        rc = name_getinode(fs, rq.ino, &inode);
    if (rc == 0 && (!has_layout(&inode) || (removes && !S_ISDIR(inode.mode))))
        rc = -EINVAL;
    if (rc != 0)
        return rc;
    rq.inode.layout = removes ? layout_default(fs) : inode.layout;
    rc = apply(&wish, &rq.inode.layout);
    if (rc == 0)
        rc = fs_method(fs, fs_home(rq.ino), "fs.layout", &rq, NULL);
    data_forget_room(fs, rq.ino);
    return rc;
}
