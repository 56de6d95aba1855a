/*
 * What every unit test needs: cmocka with the includes that it wants first, golden files and
 * temporary folders.
 *
 * A test program has one main() that ends with
 *
 *     return cmocka_run_group_tests(tests, NULL, NULL);
 *
 * Names of test functions state behaviour: refuses_stale_configuration.
 */
#ifndef LIMPET_TESTS_LIB_TEST_H
#define LIMPET_TESTS_LIB_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/*
 * Compares bytes with tests/golden/NAME, a text file of hex digits in which white space and the
 * rest of a line after '#' mean nothing. Fails the running test at the first difference and says
 * where. With LIMPET_GOLDEN_WRITE=1 in the environment it writes the file instead: for formats that
 * are new, never to make a failing test pass.
 */
void test_golden(const char *name, const void *data, size_t len);

/* The bytes of tests/golden/NAME; the caller frees them. Fails the test when it cannot be read. */
uint8_t *test_golden_read(const char *name, size_t *len);

/* The whole of a file; one more byte, a terminating 0, follows it. The caller frees. */
char *test_file_read(const char *path, size_t *len);

/* Makes a new folder under $TMPDIR or /tmp; static memory, valid until the next call. */
const char *test_folder_create(void);
/* Removes the folder and all in it. */
void test_folder_remove(const char *path);

#endif
