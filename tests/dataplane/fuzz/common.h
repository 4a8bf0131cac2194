/* What the fuzzers share: numbers that a seed decides, and a way to fail. Each is run as PROGRAM INPUTS SEED. */
#ifndef VDIFS_FUZZ_COMMON_H
#define VDIFS_FUZZ_COMMON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t inputs = 100000, seed = 1;

static inline void take_arguments(int count, char **words)
{
    if (count > 1)
        inputs = strtoull(words[1], NULL, 0);
    if (count > 2)
        seed = strtoull(words[2], NULL, 0);
}

/* Fails with the source's line; `number` says which input it was. */
#define CHECK(holds, number)                                                                                           \
    do {                                                                                                               \
        if (!(holds)) {                                                                                                \
            fprintf(stderr, "%s:%d: not so: %s (seed %llu, input %llu)\n", __FILE__, __LINE__, #holds,                 \
                    (unsigned long long)seed, (unsigned long long)(number));                                           \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* splitmix64 */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

static inline uint64_t below(uint64_t *state, uint64_t bound)
{
    return next_random(state) % bound;
}

/* Returns a number as hostile input has them: small, at a border, or any. */
static inline uint64_t hostile(uint64_t *state)
{
    static const uint64_t borders[] = {0, 1, 511, 4095, 4096, 1 << 20, (1 << 20) + 1, INT32_MAX, UINT32_MAX,
                                       INT64_MAX, UINT64_MAX};
    switch (below(state, 3)) {
    case 0:
        return below(state, 70000);
    case 1:
        return borders[below(state, sizeof borders / sizeof *borders)] + below(state, 3) - 1;
    default:
        return next_random(state);
    }
}

#endif
