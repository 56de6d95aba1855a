/*
 * Random operations on block images through librbd's C interface: what the files of this program
 * share. As tests/compat/sequence.h, an operation's parameters depend on the seed, the round and
 * its place; only whether an image has to be made first depends on what was given before.
 */
#ifndef LIMPET_TESTS_COMPAT_IMAGES_H
#define LIMPET_TESTS_COMPAT_IMAGES_H

#include <rados/librados.h>
#include <rbd/librbd.h>

#include "tests/compat/lines.h"

enum {
    CLIENTS = 2,
    SPACES = 2,
    IMAGES = 6,
    SIZE_MAX_BYTES = 4 << 20, /* No image is larger, unless it cannot be made. */
    PATH_LEN = 512
};

/* An image that operations are on. */
struct target {
    const char *name;
    unsigned space; /* Of spaces. */
};
extern const struct target targets[IMAGES];
extern const char *const spaces[SPACES];

struct run {
    rados_t cluster[CLIENTS];
    rados_ioctx_t io[CLIENTS][SPACES];
    rbd_image_t open[CLIENTS][IMAGES]; /* NULL: it is not. */
    const char *pool;
    bool copied; /* In this round: copies have no objects of zeroes here. */
};

/* ---- images.c ---- */

/* Mostly the first one. */
unsigned draw_client(void);
unsigned draw_image(void);
rados_ioctx_t io_of(struct run *r, unsigned client, unsigned image);
/*
 * The open image. It is opened, and made before if there is none, which the line tells; NULL: then
 * the operation is over.
 */
rbd_image_t use(struct run *r, unsigned client, unsigned image);
/* Closes it, for both clients. */
void leave(struct run *r, unsigned image);
/* Ceph calls what it is given without a look. */
int no_progress(uint64_t done, uint64_t total, void *arg);
/* Tells a name and what a call gave. */
void say_rc(const char *what, long rc);
/* Size and a sum of all bytes. */
void say_contents(rbd_image_t image);

/* ---- images_manage.c ---- */

/* Makes it with random options, and tells how. */
int make_image(struct run *r, unsigned client, unsigned image, bool valid);
/* Of an image; the second a list of all images of the namespace. */
void op_create(struct run *r);
void op_look(struct run *r);
void op_list(struct run *r);
void op_resize(struct run *r);
void op_remove(struct run *r);
void op_rename(struct run *r);
void op_clone(struct run *r);
void op_flatten(struct run *r);
void op_copy(struct run *r);
void op_features(struct run *r);
void op_bad_input(struct run *r);
void op_close(struct run *r);

/* ---- images_io.c ---- */

void op_write(struct run *r);
void op_read(struct run *r);
void op_diff(struct run *r);
void op_sparsify(struct run *r);

/* ---- images_snap.c ---- */

const char *draw_snap(void);
void say_snaps(rbd_image_t image);
void op_snap(struct run *r);
void op_snap_more(struct run *r);
void op_snap_look(struct run *r);
void op_children(struct run *r);

/* ---- images_pool.c ---- */

void op_group(struct run *r);
void op_trash(struct run *r);
void op_meta(struct run *r);
void op_lock(struct run *r);
void op_space(struct run *r);
/* Removes all groups of a namespace, and what the trash of it has. */
void empty_groups(rados_ioctx_t io);
void empty_trash(rados_ioctx_t io);
/* Of the pool's namespace; namespaces of the pool but that of images. */
void empty_meta(rados_ioctx_t io);
void empty_spaces(rados_ioctx_t io);

#endif
