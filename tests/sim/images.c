#include "tests/sim/images_impl.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/client_loop.h"
#include "tests/sim/snaps.h"

#define POOL "pool0"

void images_fail(struct images *images, const struct image_model *image, const char *format, ...)
{
    char text[CLUSTER_WHY_MAX - 64];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cluster_fail(images->cluster, "image %s: %s", image ? image->name : "(none)", text);
}

/* ---- Handles ---- */

static struct image_handle *handle_of(struct image_client *client, const struct image_model *image)
{
    return &client->handles[image - client->images->models];
}

static void close_handle(struct image_client *client, struct image_handle *handle)
{
    struct limpet_image *image = handle->image;
    handle->opening = true;
    const struct image_model *model = &client->images->models[handle - client->handles];
    uint64_t life = handle->life;
    bool cached = handle->cached;
    int rc = limpet_image_close(image);
    bool blocked = cached && rc == -ESHUTDOWN;
    if (rc != 0 && !blocked)
        images_fail(client->images, NULL, "closing fails with %d", rc);
    if (rc == 0 && cached && model->life == life)
        image_early_end(client, model, images_now(client->images), true);
    *handle = (struct image_handle){0};
    fiber_wake(handle, true);
    if (blocked)
        image_client_blocked(client);
}

void image_handles_close(struct image_client *client, bool all)
{
    for (uint32_t i = 0; i < IMAGES_MAX; i++) {
        struct image_handle *handle = &client->handles[i];
        const struct image_model *model = &client->images->models[i];
        if (handle->life != 0 && handle->refs == 0 && !handle->opening &&
            (all || model->close || model->life != handle->life))
            close_handle(client, handle);
    }
}

struct limpet_image *image_handle_take(struct image_client *client, struct image_model *image,
                                       int *error)
{
    struct image_handle *handle = handle_of(client, image);
    *error = 0;
    for (;;) {
        if (handle->opening)
            fiber_wait(handle);
        else if (handle->life != 0 && handle->life != image->life && handle->refs == 0)
            close_handle(client, handle);
        else
            break;
    }
    if (handle->life == 0) {
        handle->opening = true;
        *error = limpet_image_open(client->pool, image->name, NULL, 0, &handle->image);
        if (*error == 0 && image->encrypted > 0)
            image_decrypt_inside(handle->image, image->encrypted, image_hidden(image));
        handle->cached = *error == 0 && image->exclusive && client->images->cached > 0 &&
                         images_below(client->images, 100) < client->images->cached;
        if (handle->cached)
            image_cache_inside(handle->image);
        handle->opening = false;
        handle->life = *error == 0 ? image->life : 0;
        fiber_wake(handle, true);
    }
    assert(*error != 0 || handle->life == image->life);
    if (*error != 0)
        return NULL;
    handle->refs++;
    return handle->image;
}

bool image_handle_is_cached(const struct image_client *client, const struct image_model *image)
{
    return client->handles[image - client->images->models].cached;
}

void image_handle_give(struct image_client *client, struct image_model *image)
{
    struct image_handle *handle = handle_of(client, image);
    assert(handle->refs > 0);
    handle->refs--;
    /* Now and then it is opened anew. */
    if (handle->refs == 0 && !handle->opening && images_below(client->images, 30) == 0)
        close_handle(client, handle);
}

/* ---- Processes ---- */

static void *worker_main(void *arg)
{
    struct image_client *client = arg;
    struct images *images = client->images;
    while (!images->stopping) {
        fiber_sleep(1 + images_below(images, 2 * images->think_ns));
        if (!images->started || images->stopping)
            continue;
        image_handles_close(client, false);
        image_op_run(client);
    }
    /* The last one closes what is open. */
    if (--client->workers == 0)
        image_handles_close(client, true);
    fiber_wake(&client->workers, true);
    return NULL;
}

static int connect_cluster(struct image_client *client)
{
    struct cluster_client *member = client->client;
    struct client_options options;
    cluster_client_options(member, &options);
    options.max_bytes_in_flight = UINT64_C(64) << 20;
    options.max_ops_in_flight = 512;
    return client_loop_connect(&options, &client->cluster);
}

static void *client_main(void *arg)
{
    struct image_client *client = arg;
    struct images *images = client->images;
    struct limpet_pool *pool = NULL;
    int rc = connect_cluster(client);
    while (rc == 0 && !images->started)
        fiber_sleep(100 * MSEC_NS);
    if (rc == 0)
        rc = limpet_pool_open(client->cluster, POOL, &pool);
    if (rc != 0) {
        images_fail(images, NULL, "a client does not connect: %d", rc);
        return NULL;
    }
    client->pool = pool;
    client->workers = images->n_workers;
    for (uint32_t i = 0; i < images->n_workers; i++)
        (void)fiber_start(client->fibers, worker_main, client);
    while (client->workers > 0)
        fiber_wait(&client->workers);
    /* The first client looks at what is left, when the others have ended. */
    while (client->number == 1 && !images->finished) {
        fiber_sleep(100 * MSEC_NS);
        if (images->finishing)
            images->finished = images_remove_all(client);
    }
    return NULL;
}

static void client_start(struct member *member)
{
    struct cluster_client *c = container_of(member, struct cluster_client, member);
    struct image_client *client = c->images_user;
    c->incarnation++;
    client->blocked = false;
    client->fibers = fibers_create(member->cluster->sim, member->node);
    c->fibers = client->fibers;
    (void)fiber_start(client->fibers, client_main, client);
}

static void client_abandon(struct member *member)
{
    struct cluster_client *c = container_of(member, struct cluster_client, member);
    struct image_client *client = c->images_user;
    struct images *images = client->images;
    struct image_op *op, *next;
    sim_timer_stop(member->cluster->sim, &client->again);
    /* What it cancels lies on the fibers' stacks. */
    if (client->cluster)
        client_loop_abandon(client->cluster);
    fibers_destroy(client->fibers);
    client->fibers = c->fibers = NULL;
    for (op = TAILQ_FIRST(&images->ops); op; op = next) {
        next = TAILQ_NEXT(op, link);
        if (op->client == client)
            image_op_lost(op);
    }
    image_early_end(client, NULL, UINT64_MAX, false);
    images_leavings_lost(client);
    /* Its memory goes with the process. */
    client->cluster = NULL;
    client->pool = NULL;
    client->workers = 0;
    memset(client->handles, 0, sizeof client->handles);
    for (uint32_t i = 0; i < IMAGES_MAX; i++)
        images->models[i].entered[client->number] = 0;
}

static const struct cluster_map *client_map_of(struct member *member)
{
    struct cluster_client *c = container_of(member, struct cluster_client, member);
    const struct image_client *client = c->images_user;
    return client->cluster ? client_loop_map(client->cluster) : NULL;
}

static void again_fire(struct env_timer *timer)
{
    struct image_client *client = container_of(timer, struct image_client, again);
    member_end(&client->client->member, SIM_EXIT, images_now(client->images) + SEC_NS / 10);
}

void image_client_blocked(struct image_client *client)
{
    struct images *images = client->images;
    if (!client->blocked)
        sim_log(images->cluster->sim, sim_node_name(client->client->member.node), "is blocked");
    client->blocked = true;
    sim_timer_arm(images->cluster->sim, &client->again, images_now(images));
    /* Nothing wakes it. */
    fiber_wait(&client->blocked);
}

/* ---- Who writes ---- */

static struct image_model *model_by_id(struct images *images, const char *id)
{
    for (uint32_t i = 0; i < images->n_images; i++) {
        if (images->models[i].id_known && strcmp(images->models[i].id, id) == 0)
            return &images->models[i];
    }
    return NULL;
}

static struct image_client *client_here(struct images *images)
{
    for (uint32_t i = 1; i <= images->cluster->options.n_clients; i++) {
        if (images->clients[i].fibers && images->clients[i].client->member.node == fiber_node())
            return &images->clients[i];
    }
    abort();
}

static void write_passes(struct images *images, struct image_op *op)
{
    struct image_model *image = op->image;
    op->passed = images_now(images);
    op->entered = image->entered[op->client->number];
    for (uint32_t i = op->first; i < op->first + op->n && i < GRANULES_MAX; i++)
        cell_passed(&image->cells[i], op->serial, op->passed);
    /* Who is not the one that wrote last must have taken the lease since. */
    if (image->exclusive && image->writer >= 0 && image->writer != (int)op->client->number &&
        op->entered < image->written)
        images_fail(images, image, "image-alone: client %u sends a write, and client %d has it",
                    op->client->number, image->writer);
    image->writer = (int)op->client->number;
    image->written = op->passed;
}

/* struct witness has no room for a pointer to this. */
static struct images *looking;

static void look_at_image(struct witness *w, const char *id, enum image_moment moment, void *arg)
{
    struct images *images = looking;
    (void)w;
    if (moment == IMAGE_MOMENT_PASSES) {
        struct image_op *op;
        TAILQ_FOREACH(op, &images->ops, link)
        {
            if (op == arg)
                write_passes(images, op);
        }
        return;
    }
    struct image_model *image = model_by_id(images, id);
    const struct image_client *client = client_here(images);
    if (!image)
        return;
    sim_log(images->cluster->sim, sim_node_name(client->client->member.node), "has %s now",
            image->name);
    image->entered[client->number] = images_now(images);
}

/* ---- All of them ---- */

static uint64_t choose(struct images *images, const struct scenario_value *value)
{
    return scenario_choose(value, images->cluster->sim);
}

static void set_mix(struct images *images)
{
    const struct scenario_images *plan = &images->scenario->images;
    const struct scenario_value *mix[] = {
        [IMAGE_OP_READ] = &plan->read,           [IMAGE_OP_WRITE] = &plan->write,
        [IMAGE_OP_ZERO] = &plan->zero,           [IMAGE_OP_SAME] = &plan->same,
        [IMAGE_OP_COMPARE] = &plan->compare,     [IMAGE_OP_FLUSH] = &plan->flush,
        [IMAGE_OP_SNAP] = &plan->snap,           [IMAGE_OP_SNAP_REMOVE] = &plan->snap_remove,
        [IMAGE_OP_SNAP_READ] = &plan->snap_read, [IMAGE_OP_ROLLBACK] = &plan->rollback,
        [IMAGE_OP_RESIZE] = &plan->resize,       [IMAGE_OP_FLATTEN] = &plan->flatten,
        [IMAGE_OP_DIFF] = &plan->diff,           [IMAGE_OP_CHECK] = &plan->check,
        [IMAGE_OP_CREATE] = &plan->create,       [IMAGE_OP_REMOVE] = &plan->remove,
        [IMAGE_OP_CLONE] = &plan->clone,         [IMAGE_OP_RENAME] = &plan->rename,
        [IMAGE_OP_STREAM] = &plan->stream,       [IMAGE_OP_GROUP] = &plan->group,
        [IMAGE_OP_TRASH] = &plan->trash,
    };
    for (int i = 0; i < IMAGE_OP_MEND; i++) {
        images->mix[i] = (uint32_t)choose(images, mix[i]);
        images->mix_sum += images->mix[i];
    }
    images->encrypted = choose(images, &plan->encrypted);
    images->cached = scenario_most(&plan->cached) > 0 ? choose(images, &plan->cached) : 0;
}

struct images *images_create(struct cluster *cluster, const struct scenario *scenario)
{
    if (scenario_most(&scenario->images.number) == 0)
        return NULL;
    struct images *images = calloc(1, sizeof *images);
    if (!images)
        abort();
    images->cluster = cluster;
    images->scenario = scenario;
    TAILQ_INIT(&images->ops);
    TAILQ_INIT(&images->early);
    images->n_images = (uint32_t)choose(images, &scenario->images.number);
    images->n_workers = (uint32_t)choose(images, &scenario->images.workers);
    images->think_ns = choose(images, &scenario->images.think);
    set_mix(images);
    for (uint32_t i = 0; i < IMAGES_MAX; i++) {
        struct image_model *model = &images->models[i];
        snprintf(model->name, sizeof model->name, "image%u", i);
        model->writer = model->parent = -1;
    }
    for (uint32_t i = 1; i <= cluster->options.n_clients; i++) {
        struct image_client *client = &images->clients[i];
        client->images = images;
        client->number = i;
        client->client = &cluster->clients[i];
        client->again.fire = again_fire;
        client->client->images_user = client;
        client->client->member.start = client_start;
        client->client->member.abandon = client_abandon;
        client->client->member.map = client_map_of;
    }
    looking = images;
    witness->image = look_at_image;
    return images;
}

void images_start(struct images *images)
{
    images->started = true;
}

static bool all_stopped(void *ctx)
{
    const struct images *images = ctx;
    for (uint32_t i = 1; i <= images->cluster->options.n_clients; i++) {
        if (!images->clients[i].pool || images->clients[i].workers > 0)
            return false;
    }
    return true;
}

static bool is_finished(void *ctx)
{
    return ((struct images *)ctx)->finished;
}

static bool is_ours(const struct object_id *id)
{
    static const char *const prefixes[] = {"rbd_header.", "rbd_data.", "rbd_object_map."};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        size_t len = strlen(prefixes[i]);
        if (id->name_len > len && memcmp(id->name, prefixes[i], len) == 0)
            return true;
    }
    return false;
}

static void visit_object(void *ctx, const struct store_memory_object *object)
{
    struct images *images = ctx;
    if (is_ours(object->id))
        images_fail(images, NULL, "image-leaves-nothing: there is %.*s", object->id->name_len,
                    (const char *)object->id->name);
}

/* All images are gone, and so are their objects, and clones of them. */
static bool nothing_left(struct images *images, uint64_t deadline)
{
    struct cluster *cluster = images->cluster;
    const struct cluster_map *map = cluster_map_newest(cluster);
    struct snaps rest = {.pool = map->pools[0].id};
    if (!snaps_remove_all(&rest, cluster, deadline))
        return false;
    for (uint32_t k = 0; k < cluster->options.n_osds; k++)
        store_memory_visit_objects(cluster->osds[k].disk, map->pools[0].id, 0, UINT32_MAX,
                                   visit_object, images);
    return !cluster->failed;
}

bool images_finish(struct images *images, uint64_t ns)
{
    struct cluster *cluster = images->cluster;
    images->stopping = true;
    if (!cluster_run_until(cluster, all_stopped, images, images_now(images) + ns,
                           "operations of images do not end"))
        return false;
    images->finishing = true;
    return cluster_run_until(cluster, is_finished, images, images_now(images) + ns,
                             "images are not removed") &&
           nothing_left(images, images_now(images) + ns);
}

void images_destroy(struct images *images)
{
    for (uint32_t i = 1; i <= images->cluster->options.n_clients; i++) {
        struct member *member = &images->clients[i].client->member;
        member_end(member, SIM_CRASH, UINT64_MAX);
        images->clients[i].client->images_user = NULL;
    }
    looking = NULL;
    if (witness)
        witness->image = NULL;
    for (uint32_t i = 0; i < IMAGES_MAX; i++) {
        cell_fini(&images->models[i].size);
        for (uint32_t j = 0; j < GRANULES_MAX; j++)
            cell_fini(&images->models[i].cells[j]);
    }
    free(images);
}

uint32_t images_count(const struct images *images)
{
    return images->n_done;
}
