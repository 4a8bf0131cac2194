#include "wire.h"

#include <linux/fuse.h>
#include <string.h>

enum {
    SPLICING = FUSE_SPLICE_READ | FUSE_SPLICE_WRITE | FUSE_SPLICE_MOVE,
    OVER_IO_URING = 1 << (41 - 32), /* FUSE_OVER_IO_URING, in flags2: newer than the headers that are built with */
};

/* Returns whether the packet has a body of that many bytes, and copies it. */
static int body(const char *packet, size_t length, void *to, size_t size)
{
    if (length < sizeof(struct fuse_in_header) + size)
        return 0;
    memcpy(to, packet + sizeof(struct fuse_in_header), size);
    return 1;
}

static void change_init(char *packet, size_t length)
{
    struct fuse_init_in init;
    size_t known = length - sizeof(struct fuse_in_header);
    memset(&init, 0, sizeof init);
    if (known > sizeof init)
        known = sizeof init;
    if (known < offsetof(struct fuse_init_in, flags2)) /* of a kernel that knows no splicing in this form */
        return;
    memcpy(&init, packet + sizeof(struct fuse_in_header), known);
    init.flags &= ~(uint32_t)SPLICING;
    init.flags2 &= ~(uint32_t)OVER_IO_URING;
    memcpy(packet + sizeof(struct fuse_in_header), &init, known);
}

static void change_listing(char *packet, size_t length)
{
    struct fuse_read_in listing;
    if (!body(packet, length, &listing, sizeof listing) || listing.size <= MOST_LISTING)
        return;
    listing.size = MOST_LISTING;
    memcpy(packet + sizeof(struct fuse_in_header), &listing, sizeof listing);
}

struct request parse_request(char *packet, size_t length)
{
    struct request found = {.kind = MALFORMED};
    struct fuse_in_header header;
    struct fuse_read_in read;
    struct fuse_lseek_in seek;
    struct fuse_interrupt_in interrupt;
    if (length < sizeof header)
        return found;
    memcpy(&header, packet, sizeof header);
    found.unique = header.unique;
    found.inode = header.nodeid;
    if (header.len != length)
        return found;
    switch (header.opcode) {
    case FUSE_READ:
        if (!body(packet, length, &read, sizeof read))
            return found;
        found.handle = read.fh;
        found.offset = read.offset;
        found.size = read.size;
        found.kind = READ;
        return found;
    case FUSE_LSEEK:
        if (!body(packet, length, &seek, sizeof seek))
            return found;
        found.handle = seek.fh;
        found.offset = seek.offset;
        found.size = seek.whence;
        found.kind = SEEK;
        return found;
    case FUSE_INTERRUPT:
        if (!body(packet, length, &interrupt, sizeof interrupt))
            return found;
        found.target = interrupt.unique;
        found.kind = INTERRUPT;
        return found;
    case FUSE_INIT:
        change_init(packet, length);
        break;
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
        change_listing(packet, length);
        break;
    default:
        break;
    }
    found.kind = PASS;
    return found;
}
