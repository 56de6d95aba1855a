/* `limpet store dump`: names of any length and with any byte in them come out as they went in. */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/env_real.h"
#include "osd/store_tool.h"
#include "placement/hash.h"
#include "tests/lib/test.h"
#include "tests/unit/osd/store_fixture.h"

enum { OUTPUT_MAX = 1 << 20 };

/* What the tool writes to its standard output, as a string. */
static char *dump(const struct store_fixture *f)
{
    char store[300], out[300];
    (void)snprintf(store, sizeof store, "%s/store", f->path);
    (void)snprintf(out, sizeof out, "%s/out", f->path);
    char *argv[] = {"limpet-osd", "store", "dump", "--data", store, NULL};
    (void)fflush(stdout);
    int kept = dup(STDOUT_FILENO), file = open(out, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(kept >= 0 && file >= 0 && dup2(file, STDOUT_FILENO) >= 0);
    int status = store_tool_main(5, argv);
    (void)fflush(stdout);
    assert_true(dup2(kept, STDOUT_FILENO) >= 0);
    (void)close(kept);
    assert_int_equal(status, 0);
    char *text = calloc(1, OUTPUT_MAX);
    assert_non_null(text);
    assert_true(pread(file, text, OUTPUT_MAX - 1, 0) >= 0);
    (void)close(file);
    return text;
}

/* Undoes the escapes of one field, which ends at a space. Returns the number of bytes. */
static size_t parse_field(const char *at, uint8_t *out, size_t capacity)
{
    size_t n = 0;
    while (*at && *at != ' ' && *at != '\n') {
        assert_true(isprint((unsigned char)*at) && n < capacity);
        if (*at != '\\') {
            out[n++] = (uint8_t)*at++;
            continue;
        }
        assert_true(at[1] == 'x' && isxdigit(at[2]) && isxdigit(at[3]));
        const char digits[] = {at[2], at[3], 0};
        out[n++] = (uint8_t)strtoul(digits, NULL, 16);
        at += 4;
    }
    return n;
}

/* Exactly one line of the text is of this object. */
static void assert_dumped(const char *text, const struct object_id *id, size_t size)
{
    uint32_t found = 0;
    char tail[64], snap[32];
    (void)snprintf(tail, sizeof tail, " size=%zu ", size);
    (void)snprintf(snap, sizeof snap, " snap=%llu ", (unsigned long long)id->snap);
    for (const char *line = text; line && *line; line = strchr(line, '\n') + 1) {
        uint8_t space[OBJECT_NAMESPACE_MAX], name[OBJECT_NAME_MAX];
        const char *end = strchr(line, '\n');
        assert_non_null(end); /* No name breaks a line. */
        if (strncmp(line, "object ", 7) != 0)
            continue;
        const char *space_at = strstr(line, " namespace="), *name_at = strstr(line, " name=");
        assert_true(space_at && name_at && name_at < end);
        if (parse_field(space_at + 11, space, sizeof space) != id->space_len ||
            memcmp(space, id->space, id->space_len) != 0 ||
            parse_field(name_at + 6, name, sizeof name) != id->name_len ||
            memcmp(name, id->name, id->name_len) != 0)
            continue;
        const char *snap_at = strstr(name_at + 6, snap);
        bool is_head = !strstr(name_at + 6, " snap=") || strstr(name_at + 6, " snap=") > end;
        if (id->snap == OBJECT_HEAD ? !is_head : !snap_at || snap_at > end)
            continue;
        const char *size_at = strstr(name_at + 6, tail);
        assert_true(size_at && size_at < end);
        found++;
    }
    assert_int_equal(found, 1);
}

static struct object_id named(const uint8_t *space, size_t space_len, const uint8_t *name,
                              size_t name_len, uint64_t snap)
{
    return (struct object_id){.pool = 3,
                              .hash = hash_object(space, space_len, name, name_len),
                              .space = space,
                              .space_len = (uint16_t)space_len,
                              .name = name,
                              .name_len = (uint16_t)name_len,
                              .snap = snap};
}

static void dump_shows_any_name(void **state)
{
    struct store_fixture *f = *state;
    static uint8_t longest[OBJECT_NAME_MAX], any[OBJECT_NAME_MAX], space[OBJECT_NAMESPACE_MAX];
    memset(longest, 'n', sizeof longest);
    for (size_t i = 0; i < sizeof any; i++)
        any[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < sizeof space; i++)
        space[i] = (uint8_t)(0xff - i);
    static const uint8_t none[1], line[] = "two\nlines object name=x size=1 \\x41 \\",
                                  zero[1] = {0};
    const struct object_id ids[] = {
        named(none, 0, longest, sizeof longest, OBJECT_HEAD),
        named(none, 0, longest, sizeof longest - 1, OBJECT_HEAD),
        named(space, sizeof space, any, sizeof any, OBJECT_HEAD),
        named(space, sizeof space, any, sizeof any, 5),
        named(space, 1, any, 256, OBJECT_HEAD),
        named(none, 0, line, sizeof line - 1, OBJECT_HEAD),
        named(none, 0, zero, sizeof zero, OBJECT_HEAD),
    };
    const size_t n = sizeof ids / sizeof ids[0];
    for (size_t i = 0; i < n; i++)
        write_object(f, &ids[i], 0, longest, i + 1);
    fixture_close(f);
    env_real_turn(f->env, false); /* The disk's handle goes with the next turn. */
    char *text = dump(f);
    for (size_t i = 0; i < n; i++)
        assert_dumped(text, &ids[i], i + 1);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(dump_shows_any_name, fixture_engine, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
