/* The little of the FUSE protocol that the data plane knows: READ, LSEEK, INIT, which extended attributes
 * there are, and what the others need to pass. */
#ifndef VDIFS_WIRE_H
#define VDIFS_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum { MOST_READ = 1 << 20, MOST_REQUEST = MOST_READ + 4096, MOST_LISTING = 64 << 10, MOST_FORGETS = 64 << 10 };

enum request_kind {
    PASS,      /* is passed on, changed perhaps */
    INIT,      /* is passed on, changed */
    READ,      /* handle, offset, size */
    SEEK,      /* handle, offset, size: the whence */
    INTERRUPT, /* target: the request that nobody waits for any more */
    ABSENT,    /* asks for an extended attribute that no file of a mount has */
    FORGETS,   /* is passed on in parts, see `forgets_part` */
    MALFORMED, /* has no unique that could be answered, or is answered by an error */
};

struct request {
    enum request_kind kind;
    uint64_t unique, inode, handle, offset, target;
    uint32_t size;
};

/* Returns what a packet of `length` bytes from the kernel says, and changes it where it is passed on in another form:
 * INIT without the flags that no socket can keep, a listing of no more than fits into a packet. */
struct request parse_request(char *packet, size_t length);
/* Writes the next part of a packet of FORGETS, MOST_FORGETS bytes at most, and returns its length, 0 behind the last.
 * at: where it begins, at first 0. The kernel sends as many at once as fit into what it is given, a socket takes less. */
size_t forgets_part(const char *packet, size_t length, size_t *at, char *part);
/* Changes what libfuse has answered to INIT: no request may be larger than what is read here at once. */
void change_init_answer(char *packet, size_t length, size_t page);

#endif
