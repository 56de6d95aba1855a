/*
 * What our copy holds: digests of a range of objects, or of one. The primary asks members for it
 * and itself, and compares.
 *
 * Nothing is held meanwhile, so an object may change while it is read; then it has an error here,
 * or another version than elsewhere. The primary takes that for a reason to look at the object
 * again while no write of it runs, and for nothing more.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <isa-l.h>
#include <stdlib.h>
#include <string.h>

/* ---- Life ---- */

static void survey_free(struct pg_survey *survey)
{
    struct pg_world *world = survey->pg->world;
    world->n_surveys--;
    if (survey->counted)
        pg_throttle_job_end(&world->turns.throttle, false, env_now(world->env));
    list_fini(&survey->list);
    buf_slice_drop(&survey->read.data);
    encoder_fini(&survey->read.attrs);
    encoder_fini(&survey->omap.pairs);
    encoder_fini(&survey->omap.header);
    scrub_map_fini(&survey->map);
    free(survey->after);
    free(survey->last);
    free(survey->omap_from);
    free(survey);
}

static void survey_drop(struct pg_async *async)
{
    survey_free(container_of(async, struct pg_survey, async));
}

static void leave_pg(struct pg_survey *survey)
{
    if (survey->listed)
        TAILQ_REMOVE(&survey->pg->surveys, survey, link);
    survey->listed = false;
}

void pg_survey_cancel(struct pg_survey *survey)
{
    survey->cancelled = true;
    leave_pg(survey);
}

void pg_surveys_stop(struct pg *pg)
{
    struct pg_survey *survey;
    while ((survey = TAILQ_FIRST(&pg->surveys)))
        pg_survey_cancel(survey);
}

static void survey_end(struct pg_survey *survey, int error)
{
    leave_pg(survey);
    if (!survey->cancelled)
        survey->done(survey, error);
    survey_free(survey);
}

struct pg_survey *pg_survey_create(struct pg *pg, bool deep)
{
    struct pg_survey *survey =
        pg->world->n_surveys < PG_SURVEYS_MAX ? calloc(1, sizeof *survey) : NULL;
    if (!survey)
        return NULL;
    survey->pg = pg;
    survey->deep = deep;
    survey->listed = true;
    pg->world->n_surveys++;
    TAILQ_INSERT_TAIL(&pg->surveys, survey, link);
    return survey;
}

/* ---- One object after the other ---- */

static void next_object(struct pg_survey *survey);
static void read_piece(struct pg_survey *survey);
static void read_omap(struct pg_survey *survey);

static struct scrub_entry *current(struct pg_survey *survey)
{
    return &survey->map.entries[survey->map.n - 1];
}

/* This object is done with, for better or worse. */
static void object_done(struct pg_survey *survey, int error)
{
    struct pg_world *world = survey->pg->world;
    struct scrub_entry *entry = current(survey);
    bool unreadable = error == -EIO || error == -ELIMPET_CORRUPT || error == -EBADMSG;
    if (error == -ENOENT)
        scrub_map_drop_last(&survey->map);
    else if (error)
        entry->error = unreadable ? -EIO : -EAGAIN;
    if (unreadable)
        world->read_errors++;
    encoder_fini(&survey->omap.pairs);
    encoder_fini(&survey->omap.header);
    memset(&survey->omap, 0, sizeof survey->omap);
    free(survey->omap_from);
    survey->omap_from = NULL;
    next_object(survey);
}

static uint32_t digest(uint32_t crc, const void *data, size_t len)
{
    return len > 0 ? crc32_iscsi((unsigned char *)(uintptr_t)data, (int)len, crc) : crc;
}

/* The first piece tells what the object is; later ones must be of the same. */
static int take_stat(struct pg_survey *survey, const struct store_read *read)
{
    struct scrub_entry *entry = current(survey);
    struct object_info_layout info;
    if (!read->stat.exists || object_info_parse(read->stat.info, read->stat.info_len, &info))
        return -EIO;
    if (survey->offset > 0)
        return version_equal(info.version, entry->version) && read->stat.size == entry->size
                   ? 0
                   : -EAGAIN;
    entry->version = info.version;
    entry->size = read->stat.size;
    entry->meta_digest = digest(~UINT32_C(0), read->stat.info, read->stat.info_len);
    entry->meta_digest = digest(entry->meta_digest, read->attrs.data, read->attrs.len);
    entry->data_digest = survey->deep ? ~UINT32_C(0) : 0;
    return 0;
}

static void piece_done(struct store_read *read)
{
    struct pg_survey *survey = container_of(read, struct pg_survey, read);
    pg_async_end(&survey->async);
    if (survey->cancelled) {
        survey_free(survey);
        return;
    }
    int error = take_stat(survey, read);
    if (read->error)
        error = read->error;
    struct scrub_entry *entry = current(survey);
    if (!error && survey->deep) {
        entry->data_digest = digest(entry->data_digest, read->data.data, read->data.len);
        survey->offset += read->data.len;
        survey->bytes += read->data.len;
        if (read->data.len == 0 && survey->offset < entry->size)
            error = -EAGAIN;
    }
    buf_slice_drop(&read->data);
    encoder_fini(&read->attrs);
    memset(read, 0, sizeof *read);
    if (error)
        object_done(survey, error);
    else if (survey->deep && survey->offset < entry->size)
        read_piece(survey);
    else
        read_omap(survey);
}

static void read_piece(struct pg_survey *survey)
{
    survey->read.object = current(survey)->id;
    survey->read.offset = survey->offset;
    survey->read.len = survey->deep ? SCRUB_PIECE : 0;
    survey->read.want_attrs = survey->offset == 0;
    survey->read.done = piece_done;
    pg_async_begin(survey->pg, &survey->async, survey_drop);
    store_read(survey->pg->world->store, &survey->read);
}

/* The key after the last one of a page: itself and a zero byte. */
static int continue_after(struct pg_survey *survey)
{
    struct decoder d;
    const void *key = NULL;
    uint16_t key_len = 0;
    uint32_t value_len;
    decoder_init(&d, survey->omap.pairs.data, survey->omap.pairs.len);
    while (decoder_left(&d) > 0 && !d.failed) {
        key = decode_string16(&d, &key_len);
        decode_string32(&d, &value_len);
    }
    if (d.failed || !key)
        return -EIO;
    uint8_t *from = calloc(1, (size_t)key_len + 1);
    if (!from)
        return -ENOMEM;
    memcpy(from, key, key_len);
    free(survey->omap_from);
    survey->omap_from = from;
    survey->omap_from_len = (uint16_t)(key_len + 1);
    return 0;
}

static void omap_done(struct store_omap_read *omap)
{
    struct pg_survey *survey = container_of(omap, struct pg_survey, omap);
    pg_async_end(&survey->async);
    if (survey->cancelled) {
        survey_free(survey);
        return;
    }
    int error = omap->error;
    struct scrub_entry *entry = current(survey);
    if (!error) {
        entry->omap_digest = digest(entry->omap_digest, omap->header.data, omap->header.len);
        entry->omap_digest = digest(entry->omap_digest, omap->pairs.data, omap->pairs.len);
        survey->bytes += omap->pairs.len;
    }
    bool end = error || omap->end;
    if (!end)
        error = continue_after(survey);
    encoder_fini(&omap->pairs);
    encoder_fini(&omap->header);
    memset(omap, 0, sizeof *omap);
    if (end || error)
        object_done(survey, error);
    else
        read_omap(survey);
}

static void read_omap(struct pg_survey *survey)
{
    struct store_omap_read *omap = &survey->omap;
    omap->object = current(survey)->id;
    omap->from = survey->omap_from;
    omap->from_len = survey->omap_from ? survey->omap_from_len : 0;
    omap->max = SCRUB_OMAP_PAIRS;
    omap->max_bytes = SCRUB_OMAP_BYTES;
    omap->want_header = !survey->omap_from;
    omap->done = omap_done;
    pg_async_begin(survey->pg, &survey->async, survey_drop);
    store_omap_read(survey->pg->world->store, omap);
}

/* ---- The range ---- */

static int note_last(struct pg_survey *survey, const struct object_id *id)
{
    free(survey->last);
    survey->last = object_id_copy(id);
    return survey->last ? 0 : -ENOMEM;
}

/* What was listed, in case that it cannot be read. */
static struct scrub_entry *add_listed(struct pg_survey *survey,
                                      const struct store_list_entry *listed)
{
    uint8_t memory[PG_OBJECT_ID_MAX];
    struct encoder e;
    struct object_info_layout info;
    pg_encode_id(&listed->id, &e, memory);
    struct scrub_entry *entry = scrub_map_add(&survey->map, memory, e.len);
    if (!entry)
        return NULL;
    entry->size = listed->size;
    if (object_info_parse(listed->info, listed->info_len, &info) == 0)
        entry->version = info.version;
    return entry;
}

static bool is_full(const struct pg_survey *survey)
{
    return survey->map.n == SCRUB_OBJECTS || survey->bytes >= SCRUB_BYTES;
}

static void next_object(struct pg_survey *survey)
{
    survey->offset = 0;
    while (!survey->only && survey->next < survey->list.n && !is_full(survey)) {
        const struct store_list_entry *listed = &survey->list.entries[survey->next++];
        if (note_last(survey, &listed->id)) {
            survey_end(survey, -ENOMEM);
            return;
        }
        if (pg_is_temporary(&listed->id))
            continue;
        if (!add_listed(survey, listed)) {
            survey_end(survey, -ENOMEM);
            return;
        }
        read_piece(survey);
        return;
    }
    bool ends = survey->only || (survey->list.end && survey->next == survey->list.n);
    if (!ends) {
        survey->map.upto = survey->last;
        survey->last = NULL;
    }
    survey_end(survey, 0);
}

static void list_done(struct store_list *list)
{
    struct pg_survey *survey = container_of(list, struct pg_survey, list);
    pg_async_end(&survey->async);
    if (survey->cancelled)
        survey_free(survey);
    else if (list->error)
        survey_end(survey, list->error);
    else
        next_object(survey);
}

void pg_survey_range(struct pg_survey *survey)
{
    struct pg *pg = survey->pg;
    survey->list.pool = pg->id.pool;
    survey->list.first = pg->hash_first;
    survey->list.last = pg->hash_last;
    survey->list.after = survey->after;
    survey->list.max = SCRUB_OBJECTS;
    survey->list.done = list_done;
    pg_async_begin(pg, &survey->async, survey_drop);
    store_list(pg->world->store, &survey->list);
}

int pg_survey_object(struct pg_survey *survey, const void *bytes, size_t len)
{
    survey->only = true;
    if (!scrub_map_add(&survey->map, bytes, len)) {
        pg_survey_discard(survey);
        return -ENOMEM;
    }
    read_piece(survey);
    return 0;
}

void pg_survey_discard(struct pg_survey *survey)
{
    leave_pg(survey);
    survey_free(survey);
}

/* ---- Answering the primary ---- */

static int fill_objects(struct scrub_map *map, Limpet__Wire__PgScrubObject *objects,
                        Limpet__Wire__Version *versions, Limpet__Wire__PgScrubObject **pointers,
                        bool deep)
{
    for (uint32_t i = 0; i < map->n; i++) {
        const struct scrub_entry *entry = &map->entries[i];
        limpet__wire__version__init(&versions[i]);
        versions[i].config = entry->version.config;
        versions[i].sequence = entry->version.sequence;
        limpet__wire__pg_scrub_object__init(&objects[i]);
        objects[i].id = (ProtobufCBinaryData){entry->len, entry->bytes};
        objects[i].version = &versions[i];
        objects[i].size = entry->size;
        objects[i].meta_digest = entry->meta_digest;
        objects[i].omap_digest = entry->omap_digest;
        objects[i].has_data_digest = deep;
        objects[i].data_digest = entry->data_digest;
        objects[i].has_error = entry->error != 0;
        objects[i].error = entry->error;
        pointers[i] = &objects[i];
    }
    return (int)map->n;
}

static void answer(struct pg *pg, uint64_t tid, int result, struct scrub_map *map, bool deep)
{
    Limpet__Wire__PgScrubReply reply = LIMPET__WIRE__PG_SCRUB_REPLY__INIT;
    Limpet__Wire__PgScrubObject objects[SCRUB_OBJECTS], *pointers[SCRUB_OBJECTS];
    Limpet__Wire__Version versions[SCRUB_OBJECTS];
    uint8_t upto[PG_OBJECT_ID_MAX];
    struct encoder e;
    reply.pool = pg->id.pool;
    reply.seed = pg->id.seed;
    reply.config = pg->upstream_config;
    reply.tid = tid;
    reply.result = result;
    if (map) {
        reply.n_objects = (size_t)fill_objects(map, objects, versions, pointers, deep);
        reply.objects = pointers;
    }
    if (map && map->upto) {
        pg_encode_id(map->upto, &e, upto);
        reply.has_upto = true;
        reply.upto = (ProtobufCBinaryData){e.len, upto};
    }
    pg_answer_proto(pg, MSG_PG_SCRUB_REPLY, &reply.base);
}

static void asked_done(struct pg_survey *survey, int error)
{
    answer(survey->pg, survey->tid, error, error ? NULL : &survey->map, survey->deep);
}

/* It was scrubbed: remembered, in case that we are primary one day. */
static void note_stamps(struct pg *pg, const Limpet__Wire__PgScrub *scrub)
{
    if (scrub->has_scrub_stamp_ns)
        pg->scrub_stamp_ns = scrub->scrub_stamp_ns;
    if (scrub->has_deep_stamp_ns)
        pg->deep_stamp_ns = scrub->deep_stamp_ns;
    pg_scrub_save(pg);
}

static int start_asked(struct pg *pg, struct pg_survey *survey, const Limpet__Wire__PgScrub *scrub)
{
    struct object_id id;
    struct decoder d;
    if (scrub->has_object) {
        if (pg_decode_id(pg, scrub->object.data, scrub->object.len, &id)) {
            pg_survey_discard(survey);
            return -EBADMSG;
        }
        return pg_survey_object(survey, scrub->object.data, scrub->object.len);
    }
    if (scrub->has_after) {
        decoder_init(&d, scrub->after.data, scrub->after.len);
        decode_object_id(&d, &id);
        bool bad = decoder_end(&d) || id.pool != pg->id.pool;
        survey->after = bad ? NULL : object_id_copy(&id);
        if (!survey->after) {
            pg_survey_discard(survey);
            return bad ? -EBADMSG : -ENOMEM;
        }
    }
    pg_survey_range(survey);
    return 0;
}

void pg_scrub_asked(struct pg *pg, const Limpet__Wire__PgScrub *scrub)
{
    bool stamps = scrub->has_scrub_stamp_ns || scrub->has_deep_stamp_ns;
    if (stamps && pg->state == PG_STATE_REPLICA_ACTIVE)
        note_stamps(pg, scrub);
    if (stamps)
        return;
    struct pg_survey *survey =
        pg->state == PG_STATE_REPLICA_ACTIVE ? pg_survey_create(pg, scrub->deep) : NULL;
    int error = survey ? 0 : -EAGAIN;
    if (survey) {
        struct pg_world *world = pg->world;
        survey->tid = scrub->tid;
        survey->done = asked_done;
        survey->counted = true;
        pg_throttle_job_begin(&world->turns.throttle, false, env_now(world->env));
        error = start_asked(pg, survey, scrub);
    }
    if (error)
        answer(pg, scrub->tid, error, NULL, false);
}
