#include "tests/compat/lines.h"

#include <stdarg.h>
#include <stdio.h>

static uint64_t state;   /* Of the numbers. */
static char line[16384]; /* What the operation gave. */
static size_t line_len;

void lines_begin(uint64_t seed, uint64_t round, uint64_t place)
{
    state = seed << 48 ^ round << 24 ^ place;
    line_len = 0;
    line[0] = 0;
}

void lines_end(uint64_t round, uint64_t place)
{
    printf("%llu.%llu %s\n", (unsigned long long)round, (unsigned long long)place, line);
}

/* ---- Numbers ---- */

uint64_t draw(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

uint64_t below(uint64_t n)
{
    return draw() % n;
}

bool chance(unsigned percent)
{
    return below(100) < percent;
}

/* ---- The line ---- */

void say(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    size_t room = sizeof line - line_len;
    int n = vsnprintf(line + line_len, room, format, list);
    va_end(list);
    if (n > 0)
        line_len += (size_t)n < room ? (size_t)n : room - 1;
}

void say_data(const char *data, size_t len)
{
    uint64_t sum = 0xcbf29ce484222325;
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ (unsigned char)data[i]) * 0x100000001b3;
    say(" %zu:%08x", len, (unsigned)(sum ^ sum >> 32));
}

/* What could not be seen on a line is written as numbers. */
void say_text(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at != 0; at++) {
        if (*at > ' ' && *at < 127)
            say("%c", *at);
        else
            say("\\%02x", *at);
    }
}
