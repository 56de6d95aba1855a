#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/ini_text.h"

/* What was read, as "[section]" and "section|name|value" lines. */
static char seen[4096];

static int note(void *ctx, const char *section, const char *name, const char *value,
                char why[INI_WHY_MAX])
{
    (void)ctx;
    (void)why;
    size_t len = strlen(seen);
    if (name == NULL)
        snprintf(seen + len, sizeof seen - len, "[%s]\n", section);
    else
        snprintf(seen + len, sizeof seen - len, "%s|%s|%s\n", section, name, value);
    return 0;
}

static void expect(const char *text, const char *expected)
{
    char why[INI_WHY_MAX];
    seen[0] = '\0';
    assert_int_equal(ini_text_parse(text, strlen(text), note, NULL, why), 0);
    assert_string_equal(seen, expected);
    assert_string_equal(why, "");
}

static void expect_error(const char *text, const char *reason)
{
    char why[INI_WHY_MAX];
    seen[0] = '\0';
    assert_int_equal(ini_text_parse(text, strlen(text), note, NULL, why), -EINVAL);
    assert_string_equal(why, reason);
}

static void reads_sections_and_values(void **state)
{
    (void)state;
    expect("", "");
    expect("a = 1\n[global]\nfsid=x\n\n[ mon.a ]  # first\n\tmon data = /d ; here\n",
           "|a|1\n[global]\nglobal|fsid|x\n[mon.a]\nmon.a|mon_data|/d\n");
    expect("[s]\r\na = b\r\n", "[s]\ns|a|b\n");
    expect("[s]\nlast = no newline", "[s]\ns|last|no newline\n");
    expect("[s]\nempty =\n", "[s]\ns|empty|\n");
}

static void names_have_one_spelling(void **state)
{
    (void)state;
    expect("mon host = 1\nmon_host = 2\nmon-host = 3\nmon  _ host=4\n  mon host=5\n",
           "|mon_host|1\n|mon_host|2\n|mon_host|3\n|mon_host|4\n|mon_host|5\n");
}

static void indented_lines_are_lines(void **state)
{
    (void)state;
    expect("[client.a]\n\tkey = AQ==\n\tcaps mon = \"allow *\"\n",
           "[client.a]\nclient.a|key|AQ==\nclient.a|caps_mon|allow *\n");
}

static void quotes_keep_what_is_inside(void **state)
{
    (void)state;
    expect("a = \" x # y ; z \" # comment\n", "|a| x # y ; z \n");
    expect("a = 'it \"is\"'\n", "|a|it \"is\"\n");
    expect("a = \"say \\\"x\\\" \\\\\"\n", "|a|say \"x\" \\\n");
    expect("a = b \"c\"\n", "|a|b \"c\"\n");
}

static void backslashes_escape_and_continue(void **state)
{
    (void)state;
    expect("a = one, \\\n    two\nb = c\n", "|a|one, two\n|b|c\n");
    expect("a = 1\\\r\n2\n", "|a|12\n");
    expect("a = x\\#y \\; z\n", "|a|x#y ; z\n");
    expect("a = end \\", "|a|end \\\n");
}

static void errors_name_the_line(void **state)
{
    (void)state;
    expect_error("\n\nnonsense\n", "line 3: expected NAME = VALUE or [SECTION]");
    expect_error("[open\n", "line 1: a section header lacks its ']'");
    expect_error("[]\n", "line 1: a section name is empty or too long");
    expect_error("[a] b\n", "line 1: unexpected text at the end of the line");
    expect_error("a = \\\n b\n= 1\n", "line 3: the name before '=' is not one");
    expect_error("a\x01 = 1\n", "line 1: the name before '=' is not one");
    expect_error("a = \"open\n", "line 1: the value of a lacks its closing quote");
    expect_error("a = \"x\" y\n", "line 1: unexpected text at the end of the line");
}

static void everything_is_bounded(void **state)
{
    (void)state;
    static char text[INI_VALUE_MAX + 100];
    char why[INI_WHY_MAX];
    int n = snprintf(text, sizeof text, "a = %0*d\n", INI_VALUE_MAX, 0);
    seen[0] = '\0';
    assert_int_equal(ini_text_parse(text, (size_t)n, note, NULL, why), 0);
    n = snprintf(text, sizeof text, "a = %0*d\n", INI_VALUE_MAX + 1, 0);
    assert_int_equal(ini_text_parse(text, (size_t)n, note, NULL, why), -EINVAL);
    n = snprintf(text, sizeof text, "%0*d = 1\n", INI_NAME_MAX + 1, 0);
    assert_int_equal(ini_text_parse(text, (size_t)n, note, NULL, why), -EINVAL);
    n = snprintf(text, sizeof text, "[%0*d]\n", INI_SECTION_MAX + 1, 0);
    assert_int_equal(ini_text_parse(text, (size_t)n, note, NULL, why), -EINVAL);
    assert_int_equal(ini_text_parse("a = \0b\n", 7, note, NULL, why), -EINVAL);
    assert_int_equal(ini_text_parse(text, INI_TEXT_MAX + 1, note, NULL, why), -EINVAL);
    assert_int_equal(ini_text_parse(NULL, 0, note, NULL, why), 0);
}

static int refuse(void *ctx, const char *section, const char *name, const char *value,
                  char why[INI_WHY_MAX])
{
    (void)section;
    (void)value;
    if (name == NULL)
        return 0;
    if (ctx != NULL)
        snprintf(why, INI_WHY_MAX, "not %s", name);
    return -EPERM;
}

static void the_callers_refusal_ends_the_reading(void **state)
{
    (void)state;
    char why[INI_WHY_MAX];
    const char *text = "[s]\nx = 1\ny = 2\n";
    assert_int_equal(ini_text_parse(text, strlen(text), refuse, why, why), -EPERM);
    assert_string_equal(why, "line 2: not x");
    assert_int_equal(ini_text_parse(text, strlen(text), refuse, NULL, why), -EPERM);
    assert_string_equal(why, "line 2: Operation not permitted");
}

static void reads_files_up_to_a_size(void **state)
{
    (void)state;
    const char *folder = test_folder_create();
    char path[300];
    char *text;
    size_t len;
    snprintf(path, sizeof path, "%s/f", folder);
    assert_int_equal(ini_text_read_file(path, 10, &text, &len), -ENOENT);
    assert_int_equal(ini_text_read_file(folder, 10, &text, &len), -EISDIR);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("0123456789", file);
    fclose(file);
    assert_int_equal(ini_text_read_file(path, 10, &text, &len), 0);
    assert_int_equal(len, 10);
    assert_string_equal(text, "0123456789");
    free(text);
    assert_int_equal(ini_text_read_file(path, 9, &text, &len), -EFBIG);
    assert_int_equal(ini_text_read_file("/dev/zero", 1000, &text, &len), -EFBIG);
    assert_int_equal(ini_text_read_file("/dev/null", 1000, &text, &len), 0);
    assert_int_equal(len, 0);
    free(text);
    test_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_sections_and_values),
        cmocka_unit_test(names_have_one_spelling),
        cmocka_unit_test(indented_lines_are_lines),
        cmocka_unit_test(quotes_keep_what_is_inside),
        cmocka_unit_test(backslashes_escape_and_continue),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(everything_is_bounded),
        cmocka_unit_test(the_callers_refusal_ends_the_reading),
        cmocka_unit_test(reads_files_up_to_a_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
