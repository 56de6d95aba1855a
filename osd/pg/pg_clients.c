#include "osd/pg/pg_clients.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"

enum { RESULTS_FIRST = 4, CLIENT_CLOCK_SHARE = 16 /* By which clocks may differ in speed. */ };

/* So long a copy of a request may be under way. */
#define CLIENT_LATE_NS (UINT64_C(5) * 1000000000)
/* No client repeats a request for so long, nor is anything remembered. */
#define CLIENT_AGE_LIMIT_NS (4 * PG_CLIENT_AGE_NS)

static_assert(PG_CLIENT_RESULTS_MAX <= UINT16_MAX, "n_results");

void pg_clients_init(struct pg_clients *clients)
{
    memset(clients, 0, sizeof *clients);
    clients->limit = PG_CLIENTS_MAX;
    TAILQ_INIT(&clients->kept);
    TAILQ_INIT(&clients->changed);
}

static uint16_t units_of(const struct pg_result *result)
{
    return (uint16_t)(1 + pg_answer_units(result->head.answer_len));
}

/* The first n. */
static void drop_results(struct pg_client *client, uint16_t n)
{
    if (n == 0)
        return;
    assert(client->results && n <= client->n_results);
    for (uint16_t i = 0; i < n; i++) {
        client->units = (uint16_t)(client->units - units_of(&client->results[i]));
        free(client->results[i].answer);
    }
    client->n_results = (uint16_t)(client->n_results - n);
    memmove(client->results, client->results + n, client->n_results * sizeof client->results[0]);
}

static void client_free(struct pg_clients *clients, struct pg_client *client)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.*): the analyzer does not follow uthash. */
    HASH_DELETE(hh, clients->by_id, client);
    drop_results(client, client->n_results);
    free(client->results);
    free(client);
}

void pg_clients_fini(struct pg_clients *clients)
{
    struct pg_client *client, *next;
    HASH_ITER(hh, clients->by_id, client, next)
    {
        client_free(clients, client);
    }
    pg_clients_init(clients);
}

struct pg_client *pg_clients_find(const struct pg_clients *clients, uint64_t client)
{
    struct pg_client *found;
    HASH_FIND(hh, clients->by_id, &client, sizeof client, found);
    return found;
}

static struct pg_client *find_or_create(struct pg_clients *clients, uint64_t id)
{
    struct pg_client *client = pg_clients_find(clients, id);
    if (client)
        return client;
    client = calloc(1, sizeof *client);
    if (!client)
        return NULL;
    client->client = id;
    HASH_ADD(hh, clients->by_id, client, sizeof client->client, client);
    return client;
}

static void free_if_unused(struct pg_clients *clients, struct pg_client *client)
{
    if (client->entries == 0 && !client->kept && !client->changed)
        client_free(clients, client);
}

/* ---- Results ---- */

/* Index of the first result that is not below tid. */
static uint16_t place_of(const struct pg_client *client, uint64_t tid)
{
    uint16_t low = 0, high = client->n_results;
    while (low < high) {
        uint16_t middle = (uint16_t)((low + high) / 2);
        if (client->results[middle].head.tid < tid)
            low = (uint16_t)(middle + 1);
        else
            high = middle;
    }
    return low;
}

const struct pg_result *pg_client_result(const struct pg_client *client, uint64_t tid)
{
    uint16_t at = place_of(client, tid);
    return at < client->n_results && client->results[at].head.tid == tid ? &client->results[at]
                                                                         : NULL;
}

static void mark_changed(struct pg_clients *clients, struct pg_client *client)
{
    if (client->changed)
        return;
    client->changed = true;
    TAILQ_INSERT_TAIL(&clients->changed, client, changed_link);
}

static void raise_oldest(struct pg_clients *clients, struct pg_client *client, uint64_t oldest)
{
    if (oldest <= client->oldest)
        return;
    client->oldest = oldest;
    if (client->known < oldest)
        client->known = oldest;
    clients->n_units -= client->units;
    drop_results(client, place_of(client, oldest));
    clients->n_units += client->units;
}

/* In its place, or in place of the one with its number. */
static void put_result(struct pg_clients *clients, struct pg_client *client,
                       const struct pg_entry_layout *entry, uint8_t *answer)
{
    uint16_t at = place_of(client, entry->tid);
    struct pg_result *result = &client->results[at];
    clients->n_units -= client->units;
    if (at < client->n_results && result->head.tid == entry->tid) {
        client->units = (uint16_t)(client->units - units_of(result));
        free(result->answer);
    } else {
        memmove(result + 1, result, (size_t)(client->n_results - at) * sizeof *result);
        client->n_results++;
    }
    result->head = (struct pg_result_layout){
        .tid = entry->tid,
        .version = entry->version,
        .result = entry->result,
        .failed_step = entry->failed_step,
        .answer_len = entry->answer_len,
    };
    result->answer = answer;
    client->units = (uint16_t)(client->units + units_of(result));
    clients->n_units += client->units;
}

static int add_result(struct pg_clients *clients, struct pg_client *client,
                      const struct pg_entry_layout *entry)
{
    if (entry->tid < client->oldest || planted(PLANTED_DUP_FORGOTTEN_AT_TRIM))
        return 0;
    if (client->n_results == client->capacity) {
        uint16_t capacity = (uint16_t)(client->capacity ? client->capacity * 2 : RESULTS_FIRST);
        struct pg_result *more = realloc(client->results, capacity * sizeof client->results[0]);
        if (!more)
            return -ENOMEM;
        client->results = more;
        client->capacity = capacity;
    }
    uint8_t *answer = NULL;
    if (entry->answer_len > 0) {
        answer = malloc(entry->answer_len);
        if (!answer)
            return -ENOMEM;
        memcpy(answer, pg_entry_answer(entry, entry), entry->answer_len);
    }
    put_result(clients, client, entry, answer);
    return 0;
}

/* ---- The limits ---- */

/* D3. */
static void drop_oldest_result(struct pg_clients *clients, struct pg_client *client)
{
    raise_oldest(clients, client, client->results[0].head.tid + 1);
    mark_changed(clients, client);
    clients->dropped++;
}

static void forget(struct pg_clients *clients, struct pg_client *client)
{
    TAILQ_REMOVE(&clients->kept, client, kept_link);
    clients->n_kept--;
    clients->n_units -= client->units;
    drop_results(client, client->n_results);
    client->oldest = 0;
    client->kept = false;
    mark_changed(clients, client);
}

static void keep_limits(struct pg_clients *clients, struct pg_client *newest)
{
    struct pg_client *client;
    while (newest->units > PG_CLIENT_RESULTS_MAX)
        drop_oldest_result(clients, newest);
    while ((client = TAILQ_FIRST(&clients->kept)) != NULL &&
           clients->stamp_ns - client->stamp_ns > PG_CLIENT_AGE_NS)
        forget(clients, client);
    if (clients->n_kept > clients->limit) {
        client = TAILQ_FIRST(&clients->kept);
        if (clients->forgotten_ns <= client->stamp_ns)
            clients->forgotten_ns = client->stamp_ns + 1;
        forget(clients, client);
        clients->dropped++;
    }
    TAILQ_FOREACH(client, &clients->kept, kept_link)
    {
        while (clients->n_units > PG_RESULTS_MAX && client->n_results > 0)
            drop_oldest_result(clients, client);
        if (clients->n_units <= PG_RESULTS_MAX)
            return;
    }
}

/* ---- Entries ---- */

int pg_clients_add(struct pg_clients *clients, const struct pg_entry_layout *entry)
{
    if (entry->client == 0)
        return 0;
    struct pg_client *client = find_or_create(clients, entry->client);
    if (!client)
        return -ENOMEM;
    client->entries++;
    if (client->known < entry->oldest)
        client->known = entry->oldest;
    return 0;
}

static struct pg_client *entry_leaves(struct pg_clients *clients,
                                      const struct pg_entry_layout *entry)
{
    if (entry->client == 0)
        return NULL;
    struct pg_client *client = pg_clients_find(clients, entry->client);
    assert(client && client->entries > 0);
    client->entries--;
    return client;
}

void pg_clients_take_back(struct pg_clients *clients, const struct pg_entry_layout *entry)
{
    struct pg_client *client = entry_leaves(clients, entry);
    /* What it said of other requests stays true, whatever becomes of this one. */
    if (client)
        free_if_unused(clients, client);
}

bool pg_clients_may_lack(const struct pg_clients *clients, uint64_t now_ns, uint32_t attempt,
                         uint64_t age_ns)
{
    if (attempt == 0)
        return false;
    if (age_ns > CLIENT_AGE_LIMIT_NS)
        age_ns = CLIENT_AGE_LIMIT_NS;
    age_ns += age_ns / CLIENT_CLOCK_SHARE + CLIENT_LATE_NS;
    return clients->forgotten_ns > 0 && !planted(PLANTED_DUP_FORGOTTEN_CLIENT) &&
           (age_ns > now_ns || now_ns - age_ns < clients->forgotten_ns);
}

int pg_clients_retire(struct pg_clients *clients, const struct pg_entry_layout *entry)
{
    struct pg_client *client = entry_leaves(clients, entry);
    if (!client)
        return 0;
    if (clients->stamp_ns < entry->stamp_ns)
        clients->stamp_ns = entry->stamp_ns;
    if (client->kept)
        TAILQ_REMOVE(&clients->kept, client, kept_link);
    else
        clients->n_kept++;
    TAILQ_INSERT_TAIL(&clients->kept, client, kept_link);
    client->kept = true;
    client->stamp_ns = clients->stamp_ns;
    client->sequence = entry->version.sequence;
    mark_changed(clients, client);
    raise_oldest(clients, client, entry->oldest);
    int error = add_result(clients, client, entry);
    if (!error)
        keep_limits(clients, client);
    return error;
}

/* ---- Records ---- */

void pg_client_encode(const struct pg_client *client, struct encoder *e)
{
    struct pg_client_layout head = {
        .layout = PG_LAYOUT_VERSION,
        .n_results = client->n_results,
        .client = client->client,
        .oldest = client->oldest,
        .stamp_ns = client->stamp_ns,
        .sequence = client->sequence,
    };
    static const uint8_t zeroes[PG_RESULT_UNIT];
    encode_bytes(e, &head, sizeof head);
    for (uint16_t i = 0; i < client->n_results; i++)
        encode_bytes(e, &client->results[i].head, sizeof client->results[i].head);
    for (uint16_t i = 0; i < client->n_results; i++) {
        uint16_t len = client->results[i].head.answer_len;
        if (len == 0)
            continue;
        encode_bytes(e, client->results[i].answer, len);
        encode_bytes(e, zeroes, (size_t)pg_answer_units(len) * PG_RESULT_UNIT - len);
    }
}

/* In the order of sequences; those of another copy come in it, those of the store do not. */
static void insert_kept(struct pg_clients *clients, struct pg_client *client)
{
    struct pg_client *before = TAILQ_LAST(&clients->kept, pg_client_list);
    while (before && before->sequence > client->sequence)
        before = TAILQ_PREV(before, pg_client_list, kept_link);
    if (before)
        TAILQ_INSERT_AFTER(&clients->kept, before, client, kept_link);
    else
        TAILQ_INSERT_HEAD(&clients->kept, client, kept_link);
    client->kept = true;
    clients->n_kept++;
    clients->n_units += client->units;
}

/* The results of a record. Returns how many it took over: fewer when memory is short. */
static uint16_t load_results(struct pg_result *out, uint16_t n, const uint8_t *data)
{
    const uint8_t *answer = data + n * sizeof out->head;
    for (uint16_t i = 0; i < n; i++) {
        memcpy(&out[i].head, data + i * sizeof out->head, sizeof out->head);
        out[i].answer = NULL;
        uint16_t len = out[i].head.answer_len;
        if (len == 0)
            continue;
        out[i].answer = malloc(len);
        if (!out[i].answer)
            return i;
        memcpy(out[i].answer, answer, len);
        answer += (size_t)pg_answer_units(len) * PG_RESULT_UNIT;
    }
    return n;
}

int pg_clients_load(struct pg_clients *clients, const void *data, size_t len)
{
    struct pg_client_layout head;
    memcpy(&head, data, sizeof head);
    assert(len >= sizeof head + head.n_results * sizeof(struct pg_result_layout));
    struct pg_client *client = find_or_create(clients, head.client);
    if (!client)
        return -ENOMEM;
    if (client->kept)
        forget(clients, client);
    assert(client->n_results == 0 && client->units == 0);
    if (client->capacity < head.n_results) {
        struct pg_result *results = reallocarray(client->results, head.n_results, sizeof *results);
        if (!results) {
            free_if_unused(clients, client);
            return -ENOMEM;
        }
        client->results = results;
        client->capacity = head.n_results;
    }
    client->n_results =
        load_results(client->results, head.n_results, (const uint8_t *)data + sizeof head);
    assert(client->results || client->n_results == 0);
    for (uint16_t i = 0; i < client->n_results; i++)
        client->units = (uint16_t)(client->units + units_of(&client->results[i]));
    if (client->n_results < head.n_results) {
        drop_results(client, client->n_results);
        free_if_unused(clients, client);
        return -ENOMEM;
    }
    client->oldest = head.oldest;
    if (client->known < head.oldest)
        client->known = head.oldest;
    client->stamp_ns = head.stamp_ns;
    client->sequence = head.sequence;
    if (clients->stamp_ns < head.stamp_ns)
        clients->stamp_ns = head.stamp_ns;
    insert_kept(clients, client);
    return 0;
}

struct pg_client *pg_clients_changed(const struct pg_clients *clients)
{
    return TAILQ_FIRST(&clients->changed);
}

void pg_client_stored(struct pg_clients *clients, struct pg_client *client)
{
    assert(client->changed);
    client->changed = false;
    TAILQ_REMOVE(&clients->changed, client, changed_link);
    free_if_unused(clients, client);
}
