/*
 * Descriptors 0 to 2. A program can be started with some of them closed; the next file or
 * connection that it opens then takes their place, and what it prints ends up in there. The first
 * thing in each main() is therefore to fill the gaps.
 */
#ifndef LIMPET_COMMON_STANDARD_FILES_H
#define LIMPET_COMMON_STANDARD_FILES_H

/*
 * Opens those of the descriptors 0 to 2 that are closed, so that to read or write them is EBADF, as
 * if they still were. Ends the program when not even /dev/null can be opened.
 */
void standard_files_fill(void);

#endif
