/*
 * Tools on a store that no OSD is using: `limpet-osd --fsck`, `limpet-osd store bench|dump`.
 */
#ifndef LIMPET_OSD_STORE_TOOL_H
#define LIMPET_OSD_STORE_TOOL_H

#include <stdbool.h>
#include <stdint.h>

/* Whether the command line asks for a tool instead of a daemon. */
bool store_tool_wanted(int argc, char **argv);

/* Runs it; returns the exit status. */
int store_tool_main(int argc, char **argv);

/* `store bench`, from its own arguments on. */
int store_bench_main(int argc, char **argv);

#endif
