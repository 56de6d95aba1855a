/*
 * Whatever a client or an OSD may send to a monitor that leads: commands above all. The first byte
 * says what it is: a command whose JSON is the rest (with it as input, too), or another message
 * with the rest as its body, from a client or from an OSD. The monitor always answers a command,
 * once.
 */
#include <assert.h>
#include <stdio.h>

#include "common/limpet.pb-c.h"
#include "mon/mon.h"
#include "tests/fuzz/memory_world.h"

enum { RUNS_OF_A_MONITOR = 200 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct memory_world world;
static struct mon *mon;
static unsigned replies;
static unsigned runs;

static void sent(struct message *message)
{
    if (message->type == MSG_MON_COMMAND_REPLY)
        replies++;
}

static void fatal(void *ctx, int error, const char *why)
{
    (void)ctx;
    fprintf(stderr, "the monitor failed: %d %s\n", error, why);
    abort();
}

static void make_monitor(void)
{
    struct map_mon info = {.id = 1, .name = "a", .address = {.family = 4, .port = 3300}};
    struct keyring_entry shared = {.name = {.type = ENTITY_MON}, .secret = {.len = 32}};
    struct keyring keyring;
    struct mon_mkfs_options mkfs = {
        .fsid = {.bytes = {1}}, .name = "a", .n_mons = 1, .mons = &info, .keyring = &keyring};
    struct mon_options options = {.name = "a", .snapshot_entries = 100000, .fatal = fatal};
    char why[256];

    memory_world_init(&world);
    world.sent = sent;
    keyring_init(&keyring);
    int rc = keyring_set(&keyring, &shared);
    assert(rc == 0);
    rc = mon_mkfs(&world.env, &mkfs, why);
    assert(rc == 0);
    rc = mon_create(&world.env, &options, &mon, why);
    assert(rc == 0);
    memory_world_run(&world, 1000);
    assert(mon_is_leader(mon) && mon_map(mon)->epoch == 1);
    keyring_fini(&keyring);
}

static struct message *make_command(const uint8_t *data, size_t size)
{
    Limpet__Wire__MonCommand command = LIMPET__WIRE__MON_COMMAND__INIT;
    char *json = malloc(size + 1);

    assert(json != NULL);
    if (size > 0)
        memcpy(json, data, size);
    json[size] = '\0';
    command.tid = 1;
    command.json = json;
    struct message *message = message_pack(MSG_MON_COMMAND, &command.base);
    if (message != NULL && size > 0) {
        int rc = buf_slice_copy(data, size, &message->payload);
        assert(rc == 0);
    }
    free(json);
    return message;
}

static struct message *make_other(uint8_t choice, const uint8_t *data, size_t size)
{
    static const uint16_t types[] = {
        MSG_MON_SUBSCRIBE, MSG_MON_GET_TICKET, MSG_OSD_BOOT,    MSG_OSD_FAILURE, MSG_OSD_STATS,
        MSG_PG_ADD_MEMBER, MSG_PING,           MSG_MON_COMMAND, MSG_FORWARD,     MSG_RAFT};
    struct message *message =
        message_create(types[choice % (sizeof types / sizeof types[0])], size);

    if (message != NULL && size > 0)
        memcpy(message->body, data, size);
    return message;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct net_session session = {.open = true};

    if (size < 1)
        return 0;
    /* What the inputs make adds up; the monitor starts afresh now and then. */
    if (mon != NULL && ++runs % RUNS_OF_A_MONITOR == 0) {
        mon_abandon(mon);
        memory_world_fini(&world);
        mon = NULL;
    }
    if (mon == NULL)
        make_monitor();
    bool command = (data[0] & 1) != 0;
    bool osd = (data[0] & 2) != 0;
    session.peer.instance = 7;
    session.peer.name =
        osd ? entity_osd(3) : (struct entity_name){.type = ENTITY_CLIENT, .id = "x"};
    session.peer.caps = (struct caps){.n_grants = 1, .grants = {{.allow = CAP_ALL}}};
    world.handlers->opened(world.handlers_ctx, &session);
    struct message *message =
        command ? make_command(data + 1, size - 1) : make_other(data[0] >> 2, data + 1, size - 1);
    if (message != NULL) {
        replies = 0;
        world.handlers->received(world.handlers_ctx, &session, message);
        memory_world_run(&world, 1000);
        if (command && replies != 1)
            abort();
        message_unref(message);
    }
    world.handlers->closed(world.handlers_ctx, &session, -ECONNRESET);
    memory_world_run(&world, 1000);
    return 0;
}
