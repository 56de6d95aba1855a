#include "tests/lib/test.h"

#include <ctype.h>
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void golden_path(const char *name, char path[PATH_MAX])
{
    int n = snprintf(path, PATH_MAX, "%s/golden/%s", LIMPET_TESTS_DIR, name);
    assert_true(n > 0 && n < PATH_MAX);
}

char *test_file_read(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("%s: %s", path, strerror(errno));
    size_t size = 0, room = 65536;
    char *data = malloc(room + 1);
    assert_non_null(data);
    for (;;) {
        size_t n = fread(data + size, 1, room - size, file);
        size += n;
        if (size < room)
            break;
        room *= 2;
        data = realloc(data, room + 1);
        assert_non_null(data);
    }
    assert_int_equal(ferror(file), 0);
    fclose(file);
    data[size] = 0;
    *len = size;
    return data;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

uint8_t *test_golden_read(const char *name, size_t *len)
{
    char path[PATH_MAX];
    golden_path(name, path);
    size_t text_len;
    char *text = test_file_read(path, &text_len);
    uint8_t *bytes = malloc(text_len / 2 + 1);
    assert_non_null(bytes);
    size_t digits = 0;
    bool comment = false;
    for (size_t i = 0; i < text_len; i++) {
        char c = text[i];
        if (c == '#')
            comment = true;
        if (c == '\n')
            comment = false;
        if (comment || isspace((unsigned char)c))
            continue;
        int digit = hex_digit(c);
        if (digit < 0)
            fail_msg("%s: '%c' at byte %zu is not a hex digit", path, c, i);
        if (digits % 2 == 0)
            bytes[digits / 2] = (uint8_t)(digit << 4);
        else
            bytes[digits / 2] |= (uint8_t)digit;
        digits++;
    }
    if (digits % 2 != 0)
        fail_msg("%s: an odd number of hex digits", path);
    free(text);
    *len = digits / 2;
    return bytes;
}

static void golden_write(const char *name, const uint8_t *data, size_t len)
{
    char path[PATH_MAX];
    golden_path(name, path);
    FILE *file = fopen(path, "wb");
    if (file == NULL)
        fail_msg("%s: %s", path, strerror(errno));
    for (size_t i = 0; i < len; i++)
        fprintf(file, "%02x%s", data[i], i % 32 == 31 || i + 1 == len ? "\n" : "");
    assert_int_equal(fclose(file), 0);
}

void test_golden(const char *name, const void *data, size_t len)
{
    const uint8_t *actual = data;
    const char *write = getenv("LIMPET_GOLDEN_WRITE");
    if (write != NULL && strcmp(write, "1") == 0) {
        golden_write(name, actual, len);
        return;
    }
    size_t expected_len;
    uint8_t *expected = test_golden_read(name, &expected_len);
    size_t common = len < expected_len ? len : expected_len;
    for (size_t i = 0; i < common; i++) {
        if (actual[i] != expected[i])
            fail_msg("golden/%s: byte %zu is %02x, not %02x", name, i, actual[i], expected[i]);
    }
    if (len != expected_len)
        fail_msg("golden/%s: %zu bytes, not %zu", name, len, expected_len);
    free(expected);
}

const char *test_folder_create(void)
{
    static char path[PATH_MAX];
    const char *parent = getenv("TMPDIR");
    int n = snprintf(path, sizeof path, "%s/limpet-test-XXXXXX", parent ? parent : "/tmp");
    assert_true(n > 0 && (size_t)n < sizeof path);
    if (mkdtemp(path) == NULL)
        fail_msg("%s: %s", path, strerror(errno));
    return path;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info;
    (void)type;
    (void)place;
    return remove(path);
}

void test_folder_remove(const char *path)
{
    assert_int_equal(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}
