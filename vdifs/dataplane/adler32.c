/* Two sums modulo 65521: of the bytes, and of what that sum is after each of them.
 *
 *     a' = a + b0 + b1 + ... + b31
 *     b' = b + 32 a + 32 b0 + 31 b1 + ... + 1 b31        so 32 bytes take some multiplications, and no loop over them
 */
#include "adler32.h"

#include <stdbool.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { PRIME = 65521, MOST_BYTES = 5536, STEP = 32 }; /* of more bytes the sums would not fit into 32 bits */

static void add_bytes(uint32_t *a, uint32_t *b, const unsigned char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        *a += bytes[i];
        *b += *a;
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t total_of(__m256i lanes)
{
    uint64_t each[4];
    _mm256_storeu_si256((__m256i *)each, lanes);
    return each[0] + each[1] + each[2] + each[3];
}

/* Adds `length` bytes, a multiple of STEP. */
__attribute__((target("avx2"))) static void add_steps(uint32_t *a, uint32_t *b, const unsigned char *bytes, size_t length)
{
    const __m256i weights = _mm256_setr_epi8(32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13,
                                             12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1);
    const __m256i ones = _mm256_set1_epi16(1), zero = _mm256_setzero_si256();
    __m256i sums = zero, before = zero, weighted = zero; /* before: of `sums` before each step */
    for (size_t at = 0; at < length; at += STEP) {
        __m256i step = _mm256_loadu_si256((const __m256i *)(bytes + at));
        before = _mm256_add_epi64(before, sums);
        sums = _mm256_add_epi64(sums, _mm256_sad_epu8(step, zero));
        weighted = _mm256_add_epi32(weighted, _mm256_madd_epi16(_mm256_maddubs_epi16(step, weights), ones));
    }
    __m256i wide = _mm256_add_epi64(_mm256_unpacklo_epi32(weighted, zero), _mm256_unpackhi_epi32(weighted, zero));
    *b = (uint32_t)((*b + (uint64_t)*a * length + STEP * total_of(before) + total_of(wide)) % PRIME);
    *a = (uint32_t)((*a + total_of(sums)) % PRIME);
}

static bool has_steps(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
static void add_steps(uint32_t *a, uint32_t *b, const unsigned char *bytes, size_t length)
{
    add_bytes(a, b, bytes, length);
}

static bool has_steps(void)
{
    return false;
}
#endif

uint32_t adler32_add(uint32_t sum, const char *bytes, size_t length)
{
    const unsigned char *at = (const unsigned char *)bytes;
    uint32_t a = sum & 0xffff, b = sum >> 16;
    bool steps = has_steps();
    while (length) {
        size_t count = length < MOST_BYTES ? length : MOST_BYTES, stepped = steps ? count / STEP * STEP : 0;
        add_steps(&a, &b, at, stepped);
        add_bytes(&a, &b, at + stepped, count - stepped);
        a %= PRIME;
        b %= PRIME;
        at += count;
        length -= count;
    }
    return b << 16 | a;
}
