/* limpet rbd: specs of images, what they name, and how things are shown. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/rbd.h"

#define DEFAULT_POOL "rbd"

/* ---- Specs ---- */

static void take(char *to, size_t size, const char *text, size_t len, const char *spec)
{
    if (len >= size)
        fail(ENAMETOOLONG, "'%s': a name of more than %zu bytes", spec, size - 1);
    memcpy(to, text, len);
    to[len] = 0;
}

#define TAKE(to, text, len, spec) take(to, sizeof(to), text, len, spec)

_Noreturn static void invalid(const char *text)
{
    fail(EINVAL, "invalid spec '%s'; it is [POOL/[NAMESPACE/]]IMAGE[@SNAP]", text);
}

static void parse(const char *text, struct rbd_spec *out)
{
    const char *at = strchr(text, '@'), *end = at != NULL ? at : text + strlen(text);
    const char *first = memchr(text, '/', (size_t)(end - text));
    const char *second = first != NULL ? memchr(first + 1, '/', (size_t)(end - first - 1)) : NULL;
    if (second != NULL && memchr(second + 1, '/', (size_t)(end - second - 1)) != NULL)
        invalid(text);
    if (at != NULL && (strchr(at + 1, '@') != NULL || strchr(at, '/') != NULL))
        invalid(text);
    const char *name = second != NULL ? second + 1 : first != NULL ? first + 1 : text;
    if (first != NULL)
        TAKE(out->pool, text, (size_t)(first - text), text);
    if (second != NULL)
        TAKE(out->space, first + 1, (size_t)(second - first - 1), text);
    TAKE(out->name, name, (size_t)(end - name), text);
    if (at != NULL)
        TAKE(out->snap, at + 1, strlen(at + 1), text);
    if (out->name[0] == 0 || (first != NULL && out->pool[0] == 0) ||
        (second != NULL && out->space[0] == 0) || (at != NULL && out->snap[0] == 0))
        invalid(text);
}

/* An option fills what the spec left open. */
static void fill(struct cli *cli, const char *option, char *to, size_t size)
{
    const char *text = cli_text(cli, option, NULL);
    if (text != NULL && to[0] == 0)
        take(to, size, text, strlen(text), text);
}

#define FILL(cli, option, to) fill(cli, option, to, sizeof(to))

static const struct side {
    const char *what, *name, *pool, *space, *snap;
    const char *pool_of_all, *space_of_all; /* Where it has none of its own; NULL: no option. */
} sides[] = {
    [RBD_SOURCE] = {"image", "image", "pool", "namespace", "snap", NULL, NULL},
    [RBD_DEST] = {"destination image", "dest", "dest-pool", "dest-namespace", "dest-snap", NULL,
                  NULL},
    [RBD_GROUP] = {"group", "group", "group-pool", "group-namespace", "snap", "pool", "namespace"},
    [RBD_DEST_GROUP] = {"destination group", "dest-group", "dest-pool", "dest-namespace",
                        "dest-snap", NULL, NULL},
    [RBD_GROUP_IMAGE] = {"image", "image", "image-pool", "image-namespace", "snap", "pool",
                         "namespace"},
};

/* --image and --dest may be specs themselves: what they name counts where nothing was named yet. */
static void fill_spec(struct cli *cli, const char *option, struct rbd_spec *out)
{
    const char *text = cli_text(cli, option, NULL);
    struct rbd_spec spec = {0};
    if (text == NULL || out->name[0] != 0)
        return;
    if (text[0] != 0)
        parse(text, &spec);
    memcpy(out->name, spec.name, sizeof out->name);
    if (out->pool[0] == 0 && spec.pool[0] != 0) {
        memcpy(out->pool, spec.pool, sizeof out->pool);
        memcpy(out->space, spec.space, sizeof out->space);
    }
    memcpy(out->snap, spec.snap, sizeof out->snap);
}

static void check_snap(const char *name)
{
    if (strpbrk(name, "/@") != NULL)
        fail(EINVAL, "invalid snap name '%s': it has '/' or '@' in it", name);
}

void rbd_spec_read(struct cli *cli, int word, enum rbd_side side, enum rbd_spec_kind kind,
                   struct rbd_spec *out)
{
    const struct side *s = &sides[side];
    *out = (struct rbd_spec){0};
    if (word >= 0 && word < cli->n_words)
        parse(cli->words[word], out);
    fill_spec(cli, s->name, out);
    FILL(cli, s->pool, out->pool);
    FILL(cli, s->space, out->space);
    if (s->pool_of_all != NULL) {
        FILL(cli, s->pool_of_all, out->pool);
        FILL(cli, s->space_of_all, out->space);
    }
    if (kind != RBD_IMAGE)
        FILL(cli, s->snap, out->snap);
    check_snap(out->snap);
    /* A copy lies beside what it is of, as rbd has it: in the default pool. */
    if (out->pool[0] == 0)
        TAKE(out->pool, DEFAULT_POOL, strlen(DEFAULT_POOL), DEFAULT_POOL);
    if (out->name[0] == 0)
        fail(EINVAL, "%s name was not specified", s->what);
    if (kind == RBD_IMAGE && out->snap[0] != 0)
        fail(EINVAL, "snapshot name specified for a command that doesn't use it");
    if (kind == RBD_SNAP && out->snap[0] == 0)
        fail(EINVAL, "snapshot name was not specified; write %s@SNAP", out->name);
}

void rbd_pool_spec_read(struct cli *cli, int word, struct rbd_spec *out)
{
    *out = (struct rbd_spec){0};
    if (word >= 0 && word < cli->n_words) {
        const char *text = cli->words[word], *slash = strchr(text, '/');
        size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
        if (len == 0 || strchr(text, '@') != NULL ||
            (slash != NULL && (slash[1] == 0 || strchr(slash + 1, '/') != NULL)))
            fail(EINVAL, "invalid spec '%s'; it is POOL[/NAMESPACE]", text);
        TAKE(out->pool, text, len, text);
        if (slash != NULL)
            TAKE(out->space, slash + 1, strlen(slash + 1), text);
    }
    FILL(cli, "pool", out->pool);
    FILL(cli, "namespace", out->space);
    if (out->pool[0] == 0)
        TAKE(out->pool, DEFAULT_POOL, strlen(DEFAULT_POOL), DEFAULT_POOL);
}

const char *rbd_spec_text(const struct rbd_spec *s)
{
    static char
        text[LIMPET_POOL_NAME_MAX + LIMPET_OBJECT_SPACE_MAX + 2 * LIMPET_IMAGE_NAME_MAX + 8];
    snprintf(text, sizeof text, "%s/%s%s%s%s%s", s->pool, s->space, s->space[0] != 0 ? "/" : "",
             s->name, s->snap[0] != 0 ? "@" : "", s->snap);
    return text;
}

const char *rbd_phrase(int rc)
{
    static char text[512];
    const char *advice = "";
    if (rc == -EROFS)
        advice =
            "; another client keeps the image's exclusive lock: 'rbd lock ls' shows which, 'rbd "
            "lock rm' takes one of 'rbd lock add' away";
    else if (rc == -ENAMETOOLONG)
        advice = "; names have 255 bytes at most";
    snprintf(text, sizeof text, "%s%s", error_phrase(rc), advice);
    return text;
}

const char *rbd_making_phrase(int rc, const struct limpet_image_options *options)
{
    static char text[512];
    const char *advice = NULL;
    if (rc == -EINVAL)
        advice = options->stripe_unit != 0 || options->stripe_count != 0
                     ? "a stripe unit divides the size of objects, and is a multiple of 512 bytes"
                     : "names are UTF-8, without '/' and '@'";
    else if (rc == -EFBIG)
        advice = "an image has 2^40 objects at most, or 2^63 bytes: larger objects (--object-size) "
                 "allow more";
    else if (rc == -ENOSYS)
        advice = "there is no journaling, and clones and their parents need the feature layering";
    else if (rc == -EDOM)
        advice = "objects have 4 KiB to 32 MiB";
    if (advice == NULL)
        return rbd_phrase(rc);
    snprintf(text, sizeof text, "%s; %s", error_phrase(rc), advice);
    return text;
}

/* ---- What they name ---- */

struct limpet_pool *rbd_pool(struct cli *cli, const struct rbd_spec *spec)
{
    struct limpet_pool *pool;
    cli_connect(cli);
    int rc = limpet_pool_open(cli->cluster, spec->pool, &pool);
    if (rc != 0)
        fail(rc, "error opening pool '%s': %s%s", spec->pool, error_phrase(rc),
             rc == -ENOENT ? "; 'limpet pool ls' lists the pools" : "");
    if (spec->space[0] == 0)
        return pool;
    bool exists;
    rc = limpet_image_space_exists(pool, spec->space, &exists);
    if (rc == 0 && !exists)
        fail(ENOENT, "namespace '%s' does not exist; 'limpet rbd namespace ls %s' lists them",
             spec->space, spec->pool);
    if (rc == 0)
        rc = limpet_pool_set_namespace(pool, spec->space);
    if (rc != 0)
        fail(rc, "namespace '%s': %s", spec->space, error_phrase(rc));
    return pool;
}

struct limpet_image *rbd_image(struct limpet_pool *pool, const struct rbd_spec *spec, bool write)
{
    struct limpet_image *image;
    char id[LIMPET_IMAGE_ID_MAX + 1];
    int rc = limpet_image_open(pool, spec->name, spec->snap[0] != 0 ? spec->snap : NULL,
                               write ? 0 : LIMPET_IMAGE_READ_ONLY, &image);
    if (rc == -ENOENT && spec->snap[0] != 0)
        fail(rc, "error opening image %s at snapshot %s: %s", spec->name, spec->snap,
             error_phrase(rc));
    if (rc == -ENOENT && limpet_image_id_of(pool, spec->name, id) == 0)
        fail(rc,
             "error opening image %s: it is being made or removed; when nobody does that any more, "
             "'rbd rm' removes what is left",
             spec->name);
    if (rc != 0)
        fail(rc, "error opening image %s: %s", spec->name, rbd_phrase(rc));
    return image;
}

/* By its number, whatever it is called. */
static void begin_by_id(struct cli *cli, enum rbd_spec_kind kind, bool write, struct rbd_run *run)
{
    const char *id = cli_text(cli, "image-id", "");
    const unsigned flags = LIMPET_IMAGE_BY_ID | (write ? 0 : LIMPET_IMAGE_READ_ONLY);
    if (cli->n_words > 0 || cli_has(cli, "image"))
        fail(EINVAL, "trying to access image using both name and id; leave one of them out");
    rbd_pool_spec_read(cli, -1, &run->spec);
    if (kind != RBD_IMAGE)
        FILL(cli, "snap", run->spec.snap);
    check_snap(run->spec.snap);
    if (kind == RBD_SNAP && run->spec.snap[0] == 0)
        fail(EINVAL, "snapshot name was not specified; --snap names it");
    run->pool = rbd_pool(cli, &run->spec);
    const char *snap = run->spec.snap[0] != 0 && !write ? run->spec.snap : NULL;
    int rc = limpet_image_open(run->pool, id, snap, flags, &run->image);
    if (rc != 0)
        fail(rc, "error opening image with id %s%s%s: %s", id, snap != NULL ? " at snapshot " : "",
             snap != NULL ? snap : "", rbd_phrase(rc));
    struct limpet_image_info info;
    rbd_info(run->image, &info);
    snprintf(run->spec.name, sizeof run->spec.name, "%s", info.name);
}

void rbd_begin(struct cli *cli, enum rbd_spec_kind kind, bool write, struct rbd_run *run)
{
    if (cli_has(cli, "image-id")) {
        begin_by_id(cli, kind, write, run);
        return;
    }
    rbd_spec_read(cli, 0, RBD_SOURCE, kind, &run->spec);
    run->pool = rbd_pool(cli, &run->spec);
    struct rbd_spec at = run->spec;
    /* Who writes works on the image, and names the snapshot. */
    if (write)
        at.snap[0] = 0;
    run->image = rbd_image(run->pool, &at, write);
}

int rbd_end(struct rbd_run *run, int code)
{
    int rc = limpet_image_close(run->image);
    limpet_pool_close(run->pool);
    if (rc != 0 && code == 0)
        code = complain(rc, "error closing image %s: %s", run->spec.name, error_phrase(rc));
    return code;
}

void rbd_info(struct limpet_image *image, struct limpet_image_info *out)
{
    int rc = limpet_image_info(image, out);
    if (rc != 0)
        fail(rc, "error reading the image's header: %s", error_phrase(rc));
}

int rbd_check_shown(struct limpet_image *image)
{
    struct limpet_image_info info;
    int rc = limpet_image_refresh(image);
    rbd_info(image, &info);
    return rc == 0 && info.snap_lost ? -ENOENT : rc;
}

static bool has_snap(struct limpet_image *image, const char *name)
{
    struct limpet_image_snap *snaps = NULL;
    size_t n = 0;
    bool has = limpet_image_snap_list(image, &snaps, &n) != 0;
    for (size_t i = 0; i < n && !has; i++)
        has = strcmp(snaps[i].name, name) == 0;
    limpet_free(snaps);
    return has;
}

const char *rbd_reading_phrase(const struct rbd_run *run, const char *from, int rc)
{
    static char text[2 * LIMPET_IMAGE_NAME_MAX + 256];
    struct limpet_image_info before, now;
    rbd_info(run->image, &before);
    int refreshed = limpet_image_refresh(run->image);
    rbd_info(run->image, &now);
    if (rc == -ENOENT && (refreshed == -ENOENT || (now.snap_lost && now.snap == 0)))
        snprintf(text, sizeof text, "%s; the image was removed meanwhile", error_phrase(rc));
    else if (rc == -ENOENT && now.snap_lost)
        snprintf(text, sizeof text,
                 "%s; the snapshot '%s' was removed meanwhile, so what was read of it may be "
                 "zeroes: 'rbd snap ls' lists those that there are",
                 error_phrase(rc), run->spec.snap);
    else if (rc == -ENOENT && from != NULL && !has_snap(run->image, from))
        snprintf(text, sizeof text, "%s; there is no snapshot '%s': 'rbd snap ls' lists them",
                 error_phrase(rc), from);
    else if ((rc == -EIO || rc == -EINVAL) && now.size < before.size)
        snprintf(text, sizeof text, "%s; the image was made smaller meanwhile", error_phrase(rc));
    else
        return rbd_phrase(rc);
    return text;
}

char *rbd_pool_text(struct cli *cli, uint64_t id)
{
    struct limpet_pool *pool;
    char *name = NULL;
    if (limpet_pool_open_id(cli->cluster, id, &pool) == 0) {
        name = strdup(limpet_pool_name(pool));
        limpet_pool_close(pool);
    } else {
        name = strdup("<missing>");
    }
    if (name == NULL)
        fail(ENOMEM, "out of memory");
    return name;
}

/* ---- Values ---- */

static uint64_t factor_of(char suffix)
{
    static const char suffixes[] = "BKMGTPE";
    const char *at = suffix != 0 ? strchr(suffixes, toupper((unsigned char)suffix)) : NULL;
    return at != NULL ? UINT64_C(1) << 10 * (at - suffixes) : 0;
}

uint64_t rbd_size(const char *option, const char *text, uint64_t unit)
{
    char *end;
    uint64_t factor = unit, bytes;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    bool ok = isdigit((unsigned char)text[0]) && errno == 0;
    if (ok && *end != 0) {
        factor = factor_of(*end);
        end++;
        if (strcmp(end, "iB") == 0 || (strcmp(end, "B") == 0 && end[-1] != 'B'))
            end += strlen(end);
    }
    if (!ok || factor == 0 || *end != 0)
        fail(EINVAL, "--%s: '%s' is no size such as 512M, 10G or 1T", option, text);
    if (__builtin_mul_overflow(value, factor, &bytes) || bytes > LIMPET_IMAGE_SIZE_MAX)
        fail(EFBIG, "--%s: '%s' is more than an image can have", option, text);
    return bytes;
}

uint64_t rbd_size_option(struct cli *cli)
{
    const char *text = cli_text(cli, "size", NULL);
    if (text == NULL)
        fail(EINVAL, "must specify --size <M/G/T>");
    return rbd_size("size", text, 1 << 20);
}

uint64_t rbd_features(const char *text)
{
    uint64_t features = 0;
    for (const char *at = text; at != NULL; at = strchr(at, ','), at += at != NULL) {
        size_t len = strcspn(at, ",");
        unsigned bit = 0;
        const char *name;
        while (bit < 64) {
            name = limpet_image_feature_name(bit);
            if (name != NULL && strlen(name) == len && strncmp(name, at, len) == 0)
                break;
            bit++;
        }
        if (bit == 64)
            fail(EINVAL,
                 "'%.*s' is no feature; there are layering, exclusive-lock, object-map, fast-diff "
                 "and deep-flatten",
                 (int)len, at);
        features |= UINT64_C(1) << bit;
    }
    return features;
}

/* Objects are powers of two. */
static unsigned order_of(uint64_t size)
{
    unsigned order = LIMPET_IMAGE_ORDER_MIN;
    while (order <= LIMPET_IMAGE_ORDER_MAX && UINT64_C(1) << order < size)
        order++;
    if (order > LIMPET_IMAGE_ORDER_MAX || size < UINT64_C(1) << LIMPET_IMAGE_ORDER_MIN)
        fail(EDOM, "object size must be between 4K and 32M");
    return order;
}

/* What needs the others comes with them: rbd --image-feature fast-diff. */
static uint64_t complete_features(uint64_t features)
{
    if (features & LIMPET_IMAGE_FAST_DIFF)
        features |= LIMPET_IMAGE_OBJECT_MAP;
    if (features & LIMPET_IMAGE_OBJECT_MAP)
        features |= LIMPET_IMAGE_FAST_DIFF | LIMPET_IMAGE_EXCLUSIVE_LOCK;
    return features;
}

void rbd_image_options(struct cli *cli, struct limpet_image_options *out)
{
    *out = (struct limpet_image_options){.features = LIMPET_IMAGE_FEATURES_DEFAULT};
    if (cli_number(cli, "image-format", 2, 1, 2) == 1)
        fail(EINVAL, "--image-format: images have format 2");
    if (cli_has(cli, "mirror-image-mode"))
        fail(ENOENT, "--mirror-image-mode: there is no mirroring; leave it out");
    if (cli_has(cli, "image-feature")) {
        out->features = 0;
        for (int i = 0; i < cli->n_values; i++) {
            if (strcmp(cli->values[i].option->name, "image-feature") == 0)
                out->features |= rbd_features(cli->values[i].text);
        }
        out->features = complete_features(out->features);
    }
    if (cli_has(cli, "image-shared"))
        out->features &= LIMPET_IMAGE_LAYERING | LIMPET_IMAGE_STRIPING | LIMPET_IMAGE_DEEP_FLATTEN;
    const char *text = cli_text(cli, "object-size", NULL);
    if (text != NULL)
        out->order = order_of(rbd_size("object-size", text, 1));
    else
        out->order =
            (unsigned)cli_number(cli, "order", 0, LIMPET_IMAGE_ORDER_MIN, LIMPET_IMAGE_ORDER_MAX);
    text = cli_text(cli, "stripe-unit", NULL);
    if ((text != NULL) != cli_has(cli, "stripe-count"))
        fail(EINVAL, "must specify both (or neither) of stripe-unit and stripe-count");
    if (text != NULL)
        out->stripe_unit = rbd_size("stripe-unit", text, 1);
    out->stripe_count = cli_number(cli, "stripe-count", 0, 1, UINT32_MAX);
    out->data_pool = cli_text(cli, "data-pool", NULL);
    out->clone_format = (unsigned)cli_number(cli, "rbd-default-clone-format", 0, 1, 2);
}

/* ---- Output ---- */

void rbd_time(uint64_t ns, char text[RBD_TIME_MAX])
{
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm tm;
    localtime_r(&seconds, &tm);
    if (strftime(text, RBD_TIME_MAX, "%a %b %e %H:%M:%S %Y", &tm) == 0)
        text[0] = 0;
}

json_t *rbd_time_json(uint64_t ns)
{
    char text[RBD_TIME_MAX];
    rbd_time(ns, text);
    return json_string(text);
}

const char *rbd_size_text(uint64_t bytes)
{
    static char texts[4][32];
    static unsigned next;
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    char *text = texts[next++ % 4];
    unsigned unit = 0;
    while (unit < 6 && bytes >> 10 * (unit + 1) != 0)
        unit++;
    uint64_t whole = UINT64_C(1) << 10 * unit;
    if (bytes % whole == 0) {
        snprintf(text, 32, "%llu %s", (unsigned long long)(bytes / whole), units[unit]);
        return text;
    }
    /* As many digits as fit into seven characters. */
    for (int precision = 2; precision >= 0; precision--) {
        int n =
            snprintf(text, 32, "%.*f %s", precision, (double)bytes / (double)whole, units[unit]);
        if (n <= 7)
            break;
    }
    return text;
}

bool rbd_wants_json(struct cli *cli)
{
    return cli->format != FORMAT_PLAIN;
}

void rbd_print_json(struct cli *cli, json_t *value)
{
    if (value == NULL)
        fail(ENOMEM, "out of memory");
    if (cli_has(cli, "pretty-format"))
        cli->format = FORMAT_JSON_PRETTY;
    cli_print_json(cli, value);
    json_decref(value);
}

/* ---- Progress ---- */

struct rbd_progress rbd_progress_begin(struct cli *cli, const char *what)
{
    return (struct rbd_progress){what, cli_has(cli, "no-progress"), -1};
}

int rbd_progress_step(uint64_t done, uint64_t total, void *arg)
{
    struct rbd_progress *p = arg;
    int percents = total > 0 ? (int)((double)done * 100 / (double)total) : 0;
    if (!p->quiet && percents != p->shown)
        fprintf(stderr, "\r%s: %d%% complete...", p->what, percents);
    p->shown = percents;
    return 0;
}

void rbd_progress_end(struct rbd_progress *p, int rc)
{
    if (p->quiet)
        return;
    if (rc == 0)
        fprintf(stderr, "\r%s: 100%% complete...done.\n", p->what);
    else
        fprintf(stderr, "\r%s: %d%% complete...failed.\n", p->what, p->shown > 0 ? p->shown : 0);
}
