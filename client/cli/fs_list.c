/*
 * limpet fs mount: the kernel's requests of open directories. What a piece of a listing may tell to
 * be kept is on its way into the kernel until the kernel says so (fs_listed.c); a listing by our
 * own thread has only what was just written (fs_refresh.c).
 *
 * What was asked for before a request of the kernel is told by its answer only if this mount has
 * changed nothing there since: the kernel believes what it gets, also of what it has removed or
 * changed meanwhile. While others change something, this mount has no lease, and nothing may be
 * kept.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/cli/fs_fuse.h"

enum { LIST_BYTES = 512 << 10 };

/* It ends with the cookie `result.offset`. */
struct piece {
    struct limpet_fs_result result; /* No data: there is none. */
    uint64_t begin;                 /* It begins after this one. */
};

/*
 * An open directory: a piece of its listing, and the next one, which is asked for while the kernel
 * takes the first. The kernel has one request at a time of an open directory, so only the next
 * piece is shared, with who brings it.
 */
struct listing {
    struct piece now;
    bool disturbed; /* Something was changed while it was told: little is asked for at a time. */
    /* Where the kernel will go on: what comes after this cookie lies there in the piece. */
    uint64_t told;
    size_t place;

    pthread_mutex_t lock; /* Of: */
    struct piece next;
    uint64_t asked_after;
    bool asked, unwanted, closed; /* The next one is under way; not any more; for nobody. */
    struct list_request *waits;   /* For the next one. */
};

struct list_request {
    fuse_req_t fuse;
    fuse_ino_t ino;
    size_t size;
    uint64_t after;
    bool plus;
    struct listing *listing;
};

static struct listing *listing_of(const struct fuse_file_info *info)
{
    return (struct listing *)(uintptr_t)info->fh; /* NOLINT(performance-no-int-to-ptr) */
}

struct out {
    char *data;
    size_t at, size;
};

static bool add_entry(struct list_request *r, struct out *out, const struct limpet_fs_entry *entry,
                      bool keep)
{
    size_t len;
    struct fuse_entry_param param;
    const struct stat st = {.st_ino = entry->ino, .st_mode = (mode_t)entry->type << 12};
    char *at = out->data + out->at;
    size_t room = out->size - out->at;
    if (!r->plus) {
        len = fuse_add_direntry(r->fuse, at, room, entry->name, &st, (off_t)entry->cookie);
    } else {
        /* Number 0 in what is told: nothing is known but what stands in the entry. */
        memset(&param, 0, sizeof param);
        param.attr = st;
        if (entry->has_attr)
            fs_fuse_entry(&entry->attr, keep && fs_fuse_keeps_names(), keep ? FS_KEEP_SECONDS : 0,
                          &param);
        len = fuse_add_direntry_plus(r->fuse, at, room, entry->name, &param, (off_t)entry->cookie);
    }
    if (len > room)
        return false;
    out->at += len;
    return true;
}

static bool add_own(struct list_request *r, struct out *out, const char *name, uint64_t cookie)
{
    struct limpet_fs_entry entry = {.cookie = cookie, .ino = r->ino, .type = S_IFDIR >> 12};
    strcpy(entry.name, name);
    return r->after >= cookie || add_entry(r, out, &entry, false);
}

/*
 * Those that share a cookie are not parted: a later request could not say where it goes on. -EIO:
 * the rest cannot be read.
 */
static int fill(struct list_request *r, struct out *out, bool keep)
{
    int rc = 0;
    struct listing *listing = r->listing;
    const struct limpet_fs_result *piece = &listing->now.result;
    struct limpet_fs_entry entry;
    /* A group: entries of one cookie, that begins here in what is told and in the piece. */
    struct {
        size_t out, piece;
        uint64_t told;
    } group = {0};
    uint64_t last = 0;
    size_t from = listing->told == r->after ? listing->place : 0, next = from;
    bool room =
        add_own(r, out, ".", LIMPET_FS_COOKIE_SELF) && add_own(r, out, "..", LIMPET_FS_COOKIE_UP);
    while (room && (rc = limpet_fs_entry_next(piece->data, piece->len, &next, &entry, NULL)) == 0) {
        if (entry.cookie > r->after) {
            if (entry.cookie != last) {
                group.out = out->at;
                group.piece = from;
                group.told = last;
            }
            room = add_entry(r, out, &entry, keep);
            if (!room && entry.cookie == last && group.out > 0) {
                out->at = group.out;
                from = group.piece;
                last = group.told;
            }
            if (!room)
                break;
            last = entry.cookie;
        }
        from = next;
    }
    listing->place = from;
    listing->told = last;
    return rc == -ENOENT ? 0 : rc;
}

static void list_answer(struct list_request *r)
{
    struct limpet_fs *fs = fs_fuse_fs(r->fuse);
    struct out out = {.data = malloc(r->size), .size = r->size};
    if (out.data == NULL) {
        fuse_reply_err(r->fuse, ENOMEM);
        free(r);
        return;
    }
    uint64_t grant = r->listing->now.result.grant, shard = r->listing->now.result.shard;
    bool keep = r->plus && grant != 0 && limpet_fs_keep_begin(fs, shard, grant);
    int rc = fill(r, &out, keep);
    uint64_t number = keep ? fs_listed_begin(out.data, out.at) : 0;
    if (rc != 0 && out.at == 0)
        fuse_reply_err(r->fuse, fs_fuse_error(rc));
    else if (fuse_reply_buf(r->fuse, out.data, out.at) != 0)
        fs_listed_end(number, NULL, NULL);
    if (keep)
        limpet_fs_keep_end(fs, shard);
    free(out.data);
    free(r);
}

/* Whether the piece has what comes after `after`; the end of the directory counts. */
static bool piece_has(const struct piece *piece, uint64_t after)
{
    if (piece->result.data == NULL || after < piece->begin)
        return false;
    return !piece->result.more || after < piece->result.offset;
}

/* Names alone may be old ones: a program that reads them can tell no difference. */
static bool is_current(const struct list_request *r, const struct piece *piece)
{
    return !r->plus || limpet_fs_untouched(fs_fuse_fs(r->fuse), &piece->result);
}

static void piece_drop(struct piece *piece)
{
    free(piece->result.data);
    *piece = (struct piece){.result.data = NULL};
}

/* A copy of what has come; without data when there is nothing, or no memory. */
static struct piece piece_of(const struct limpet_fs_result *result, ssize_t rc, uint64_t begin)
{
    struct piece piece = {.result = *result, .begin = begin};
    piece.result.data = rc > 0 ? malloc(result->len) : NULL;
    if (piece.result.data != NULL)
        memcpy(piece.result.data, result->data, result->len);
    return piece;
}

static void show(struct listing *listing, struct piece piece)
{
    piece_drop(&listing->now);
    listing->now = piece;
    listing->told = 0;
    listing->place = 0;
}

static void listing_free(struct listing *listing)
{
    piece_drop(&listing->now);
    piece_drop(&listing->next);
    pthread_mutex_destroy(&listing->lock);
    free(listing);
}

static void ask_piece(struct limpet_fs *fs, fuse_ino_t ino, uint64_t after, size_t len,
                      limpet_fs_callback came, void *arg)
{
    struct limpet_fs_request rq = {
        .verb = LIMPET_FS_LIST, .ino = ino, .len = len, .offset = after, .flags = LIMPET_FS_ATTRS};
    limpet_fs_submit(fs, &rq, came, arg);
}

static void piece_came(ssize_t rc, const struct limpet_fs_result *result, void *arg);

/* With the lock: the next piece becomes the one at hand, if it has what is asked for. */
static bool take_next(const struct list_request *r)
{
    struct listing *listing = r->listing;
    if (!piece_has(&listing->next, r->after))
        return false;
    if (!is_current(r, &listing->next)) {
        listing->disturbed = true;
        piece_drop(&listing->next);
        return false;
    }
    show(listing, listing->next);
    listing->next = (struct piece){.result.data = NULL};
    return true;
}

static void answer_and_ask(struct list_request *r);

static void next_came(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct listing *listing = arg;
    pthread_mutex_lock(&listing->lock);
    struct piece piece = piece_of(result, rc, listing->asked_after);
    bool closed = listing->closed, unwanted = listing->unwanted;
    listing->asked = listing->unwanted = false;
    if (unwanted || closed)
        piece_drop(&piece);
    listing->next = piece;
    struct list_request *r = listing->waits;
    listing->waits = NULL;
    bool taken = r != NULL && take_next(r);
    pthread_mutex_unlock(&listing->lock);
    if (closed)
        listing_free(listing);
    else if (taken)
        answer_and_ask(r);
    else if (r != NULL) /* An error, which it will meet again; or it was changed since. */
        ask_piece(fs_fuse_fs(r->fuse), r->ino, r->after, r->size, piece_came, r);
}

/* Before the answer: after it the directory may be closed. */
static void answer_and_ask(struct list_request *r)
{
    struct listing *listing = r->listing;
    pthread_mutex_lock(&listing->lock);
    const struct limpet_fs_result *now = &listing->now.result;
    bool ask =
        now->more && !listing->disturbed && !listing->asked && listing->next.result.data == NULL;
    if (ask) {
        listing->asked = true;
        listing->asked_after = now->offset;
    }
    pthread_mutex_unlock(&listing->lock);
    if (ask)
        ask_piece(fs_fuse_fs(r->fuse), r->ino, now->offset, LIST_BYTES, next_came, listing);
    list_answer(r);
}

static void piece_came(ssize_t rc, const struct limpet_fs_result *result, void *arg)
{
    struct list_request *r = arg;
    show(r->listing, piece_of(result, rc, r->after));
    if (r->listing->now.result.data == NULL) {
        /* A directory that was removed has no shard any more. */
        fuse_reply_err(r->fuse, rc == -ESTALE ? ENOENT : rc < 0 ? fs_fuse_error(rc) : ENOMEM);
        free(r);
        return;
    }
    answer_and_ask(r);
}

/* From the beginning: as the directory is now. Somewhere else: what is asked for is of no use. */
static void list_anew(struct list_request *r)
{
    struct listing *listing = r->listing;
    pthread_mutex_lock(&listing->lock);
    listing->unwanted = listing->asked;
    piece_drop(&listing->next);
    if (listing->now.result.data != NULL)
        listing->disturbed = !is_current(r, &listing->now);
    size_t len = listing->disturbed ? r->size : LIST_BYTES;
    pthread_mutex_unlock(&listing->lock);
    ask_piece(fs_fuse_fs(r->fuse), r->ino, r->after, len, piece_came, r);
}

/* The piece at hand ends here: whether the next one comes, or is here now. */
static bool go_on(struct list_request *r)
{
    struct listing *listing = r->listing;
    pthread_mutex_lock(&listing->lock);
    bool waits = listing->asked && !listing->unwanted && listing->now.result.data != NULL &&
                 r->after == listing->asked_after;
    bool taken = !waits && take_next(r);
    if (waits)
        listing->waits = r;
    pthread_mutex_unlock(&listing->lock);
    if (taken)
        answer_and_ask(r);
    return waits || taken;
}

/* What the kernel shall have of files that were written; it need not be what is in the folder. */
static void list_written(fuse_req_t fuse, fuse_ino_t ino, size_t size)
{
    struct limpet_fs *fs = fs_fuse_fs(fuse);
    char name[LIMPET_FS_NAME_MAX + 1];
    struct limpet_fs_attr attr;
    struct fuse_entry_param param;
    uint64_t file, grant = limpet_fs_grant(fs, ino);
    struct out out = {.data = malloc(size), .size = size};
    if (out.data == NULL || grant == 0 || !limpet_fs_keep_begin(fs, ino, grant)) {
        fuse_reply_buf(fuse, NULL, 0);
        free(out.data);
        return;
    }
    while (fs_refresh_next(ino, name, &file)) {
        if (!limpet_fs_known(fs, ino, name, &attr) || attr.ino != file)
            continue;
        fs_fuse_entry(&attr, true, FS_KEEP_SECONDS, &param);
        size_t len = fuse_add_direntry_plus(fuse, out.data + out.at, size - out.at, name, &param,
                                            (off_t)out.at + 1);
        if (len > size - out.at) {
            fs_refresh_wrote(file);
            break;
        }
        out.at += len;
    }
    uint64_t number = fs_listed_begin(out.data, out.at);
    if (fuse_reply_buf(fuse, out.data, out.at) != 0)
        fs_listed_end(number, NULL, NULL);
    limpet_fs_keep_end(fs, ino);
    free(out.data);
}

static void do_list(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset,
                    const struct fuse_file_info *info, bool plus)
{
    if (fs_refresh_lists(fuse_req_ctx(fuse)->pid)) {
        list_written(fuse, ino, plus ? size : 0);
        return;
    }
    struct list_request *r = calloc(1, sizeof *r);
    if (r == NULL) {
        fuse_reply_err(fuse, ENOMEM);
        return;
    }
    *r = (struct list_request){.fuse = fuse,
                               .ino = ino,
                               .size = size,
                               .after = (uint64_t)offset,
                               .plus = plus,
                               .listing = listing_of(info)};
    if (offset != 0 && piece_has(&r->listing->now, r->after) && is_current(r, &r->listing->now))
        list_answer(r);
    else if (offset == 0 || !go_on(r))
        list_anew(r);
}

void fs_list_readdir(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset,
                     struct fuse_file_info *info)
{
    do_list(fuse, ino, size, offset, info, false);
}

void fs_list_readdirplus(fuse_req_t fuse, fuse_ino_t ino, size_t size, off_t offset,
                         struct fuse_file_info *info)
{
    do_list(fuse, ino, size, offset, info, true);
}

/* The kernel has one request at a time of an open directory. */
void fs_list_opendir(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct listing *listing = calloc(1, sizeof *listing);
    (void)ino;
    if (listing == NULL) {
        fuse_reply_err(fuse, ENOMEM);
        return;
    }
    pthread_mutex_init(&listing->lock, NULL);
    info->fh = (uintptr_t)listing;
    if (fuse_reply_open(fuse, info) != 0)
        listing_free(listing);
}

void fs_list_releasedir(fuse_req_t fuse, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct listing *listing = listing_of(info);
    (void)ino;
    pthread_mutex_lock(&listing->lock);
    bool asked = listing->closed = listing->asked;
    pthread_mutex_unlock(&listing->lock);
    if (!asked)
        listing_free(listing);
    fuse_reply_err(fuse, 0);
}
