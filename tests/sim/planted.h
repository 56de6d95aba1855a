/* Names of the planted bugs (common/planted.h), for the command line. */
#ifndef LIMPET_TESTS_SIM_PLANTED_H
#define LIMPET_TESTS_SIM_PLANTED_H

#include "common/planted.h"

const char *planted_name(enum planted_bug bug);
const char *planted_meaning(enum planted_bug bug);
/* PLANTED_END when there is none of that name. */
enum planted_bug planted_by_name(const char *name);

#endif
