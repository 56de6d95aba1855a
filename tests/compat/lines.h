/*
 * For programs that apply random operations to two clusters and print a line for each: their
 * numbers, and the line that is being made. Numbers depend on what lines_begin() was given and on
 * how many were drawn, never on what operations gave; so the same operations run on each cluster.
 */
#ifndef LIMPET_TESTS_COMPAT_LINES_H
#define LIMPET_TESTS_COMPAT_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Begins the line of an operation, and its numbers. */
void lines_begin(uint64_t seed, uint64_t round, uint64_t place);
/* Prints it. */
void lines_end(uint64_t round, uint64_t place);

/* ---- Numbers ---- */

uint64_t draw(void);
/* 0 to n - 1. */
uint64_t below(uint64_t n);
bool chance(unsigned percent);
#define PICK(array) ((array)[below(sizeof(array) / sizeof *(array))])

/* ---- The line ---- */

__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
/* Their number and a sum of them. */
void say_data(const char *data, size_t len);
void say_text(const char *text);

#endif
