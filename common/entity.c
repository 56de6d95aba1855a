#include "common/entity.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const type_names[] = {
    [ENTITY_MON] = "mon",
    [ENTITY_OSD] = "osd",
    [ENTITY_CLIENT] = "client",
};

/* Names end up in section headers, file names and log lines: what has a meaning there is refused.
 */
static bool id_char_ok(char c)
{
    return c > ' ' && c < 0x7f && strchr("[]\"'\\/#;,=$", c) == NULL;
}

int entity_parse(const char *text, struct entity_name *out)
{
    const char *dot = strchr(text, '.');
    if (dot == NULL)
        return -EINVAL;
    struct entity_name name = {0};
    size_t type_len = (size_t)(dot - text);
    for (int type = ENTITY_MON; type <= ENTITY_CLIENT; type++) {
        if (strlen(type_names[type]) == type_len && memcmp(text, type_names[type], type_len) == 0)
            name.type = (uint8_t)type;
    }
    const char *id = dot + 1;
    size_t len = strnlen(id, ENTITY_ID_MAX + 1);
    if (len > ENTITY_ID_MAX)
        return -EINVAL;
    memcpy(name.id, id, len);
    if (!entity_valid(&name))
        return -EINVAL;
    *out = name;
    return 0;
}

const char *entity_format(const struct entity_name *name, char text[ENTITY_TEXT_MAX])
{
    bool known = name->type >= ENTITY_MON && name->type <= ENTITY_CLIENT;
    snprintf(text, ENTITY_TEXT_MAX, "%s.%.*s", known ? type_names[name->type] : "unknown",
             ENTITY_ID_MAX, name->id);
    return text;
}

bool entity_valid(const struct entity_name *name)
{
    size_t len = strnlen(name->id, sizeof name->id);
    /* Only "mon." goes without an ID: it is the key that the monitors share. */
    if (name->type < ENTITY_MON || name->type > ENTITY_CLIENT || len > ENTITY_ID_MAX ||
        (len == 0 && name->type != ENTITY_MON))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!id_char_ok(name->id[i]))
            return false;
    }
    return true;
}

bool entity_equal(const struct entity_name *a, const struct entity_name *b)
{
    return a->type == b->type && strncmp(a->id, b->id, sizeof a->id) == 0;
}

struct entity_name entity_osd(int32_t id)
{
    assert(id >= 0);
    struct entity_name name = {.type = ENTITY_OSD};
    snprintf(name.id, sizeof name.id, "%" PRId32, id);
    return name;
}

int32_t entity_osd_id(const struct entity_name *name)
{
    if (name->type != ENTITY_OSD)
        return -EINVAL;
    /* "osd.07" would be a second name for osd.7, with a key of its own: only the plain form counts.
     */
    const char *digits = name->id;
    if (!isdigit((unsigned char)digits[0]) || (digits[0] == '0' && digits[1] != '\0'))
        return -EINVAL;
    int64_t id = 0;
    for (; isdigit((unsigned char)*digits); digits++) {
        id = id * 10 + (*digits - '0');
        if (id > INT32_MAX)
            return -EINVAL;
    }
    return *digits == '\0' ? (int32_t)id : -EINVAL;
}

/* A decimal number up to max that fills [text, end). */
static int parse_decimal(const char *text, const char *end, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    if (text == end)
        return -EINVAL;
    for (; text < end; text++) {
        if (!isdigit((unsigned char)*text))
            return -EINVAL;
        value = value * 10 + (uint64_t)(*text - '0');
        if (value > max)
            return -EINVAL;
    }
    *out = (uint32_t)value;
    return 0;
}

/* Splits "HOST:PORT" or "[HOST]:PORT" into its host range, and reads the port. */
static int split_host(const char *text, const char *end, bool *bracketed, const char **host_end,
                      uint32_t *port)
{
    const char *colon;
    *bracketed = *text == '[';
    if (*bracketed) {
        const char *close = memchr(text, ']', (size_t)(end - text));
        if (close == NULL || close + 1 >= end || close[1] != ':')
            return -EINVAL;
        *host_end = close;
        colon = close + 1;
    } else {
        colon = memchr(text, ':', (size_t)(end - text));
        if (colon == NULL)
            return -EINVAL;
        *host_end = colon;
    }
    return parse_decimal(colon + 1, end, UINT16_MAX, port);
}

int net_address_parse(const char *text, struct net_address *out)
{
    if (strncmp(text, "v2:", 3) == 0)
        text += 3;
    const char *end = text + strlen(text);
    const char *slash = strchr(text, '/');
    if (slash != NULL) {
        uint32_t nonce;
        if (parse_decimal(slash + 1, end, UINT32_MAX, &nonce) != 0)
            return -EINVAL;
        end = slash;
    }
    if (text == end)
        return -EINVAL;
    bool bracketed;
    const char *host_end;
    uint32_t port;
    if (split_host(text, end, &bracketed, &host_end, &port) != 0)
        return -EINVAL;
    const char *host = text + (bracketed ? 1 : 0);
    size_t host_len = (size_t)(host_end - host);
    char host_text[INET6_ADDRSTRLEN];
    if (host_len == 0 || host_len >= sizeof host_text)
        return -EINVAL;
    memcpy(host_text, host, host_len);
    host_text[host_len] = '\0';
    struct net_address address = {.family = bracketed ? 6 : 4, .port = (uint16_t)port};
    if (inet_pton(bracketed ? AF_INET6 : AF_INET, host_text, address.ip) != 1)
        return -EINVAL;
    *out = address;
    return 0;
}

const char *net_address_format(const struct net_address *address, char text[NET_ADDRESS_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN];
    if (address->family == 4 && inet_ntop(AF_INET, address->ip, host, sizeof host) != NULL)
        snprintf(text, NET_ADDRESS_TEXT_MAX, "%s:%u", host, address->port);
    else if (address->family == 6 && inet_ntop(AF_INET6, address->ip, host, sizeof host) != NULL)
        snprintf(text, NET_ADDRESS_TEXT_MAX, "[%s]:%u", host, address->port);
    else
        snprintf(text, NET_ADDRESS_TEXT_MAX, "-");
    return text;
}

bool net_address_equal(const struct net_address *a, const struct net_address *b)
{
    if (a->family != b->family || a->port != b->port)
        return false;
    size_t len = a->family == 4 ? 4 : a->family == 6 ? 16 : 0;
    return memcmp(a->ip, b->ip, len) == 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool uuid_dash_before(size_t byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

int uuid_parse(const char *text, struct uuid *out)
{
    struct uuid uuid;
    for (size_t i = 0; i < sizeof uuid.bytes; i++) {
        if (uuid_dash_before(i) && *text++ != '-')
            return -EINVAL;
        int high = hex_digit(text[0]);
        int low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0)
            return -EINVAL;
        uuid.bytes[i] = (uint8_t)(high * 16 + low);
        text += 2;
    }
    if (*text != '\0')
        return -EINVAL;
    *out = uuid;
    return 0;
}

const char *uuid_format(const struct uuid *uuid, char text[UUID_TEXT_MAX])
{
    static const char digits[] = "0123456789abcdef";
    char *at = text;
    for (size_t i = 0; i < sizeof uuid->bytes; i++) {
        if (uuid_dash_before(i))
            *at++ = '-';
        *at++ = digits[uuid->bytes[i] >> 4];
        *at++ = digits[uuid->bytes[i] & 15];
    }
    *at = '\0';
    return text;
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

bool uuid_is_zero(const struct uuid *uuid)
{
    static const struct uuid zero;
    return uuid_equal(uuid, &zero);
}
