/* The checksum of zlib streams, RFC 1950. */
#ifndef VDIFS_ADLER32_H
#define VDIFS_ADLER32_H

#include <stddef.h>
#include <stdint.h>

/* Returns the sum of what `sum` is the sum of, 1 of nothing, and of `length` bytes behind that. */
uint32_t adler32_add(uint32_t sum, const char *bytes, size_t length);

#endif
