#include "wire.h"

#include <linux/fuse.h>
#include <stdbool.h>
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

/* Returns whether GETXATTR asks for a name that does not begin as those of vdifs.mount.view.xattrs. `ls -l` asks for two
 * such of each file. */
static bool asks_for_absent(const char *packet, size_t length)
{
    static const char ours[] = "user.vdifs.";
    size_t fixed = sizeof(struct fuse_in_header) + sizeof(struct fuse_getxattr_in);
    if (length <= fixed || packet[length - 1])
        return false;
    return strncmp(packet + fixed, ours, sizeof ours - 1) != 0;
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

size_t forgets_part(const char *packet, size_t length, size_t *at, char *part)
{
    struct fuse_in_header header;
    struct fuse_batch_forget_in batch;
    size_t fixed = sizeof header + sizeof batch, each = sizeof(struct fuse_forget_one);
    if (length < fixed)
        return 0;
    memcpy(&header, packet, sizeof header);
    memcpy(&batch, packet + sizeof header, sizeof batch);
    size_t there = (length - fixed) / each, most = (MOST_FORGETS - fixed) / each;
    size_t left = (batch.count < there ? batch.count : there) - *at;
    size_t count = left < most ? left : most;
    if (!count)
        return 0;
    header.len = (uint32_t)(fixed + count * each);
    batch.count = (uint32_t)count;
    memcpy(part, &header, sizeof header);
    memcpy(part + sizeof header, &batch, sizeof batch);
    memcpy(part + fixed, packet + fixed + *at * each, count * each);
    *at += count;
    return header.len;
}

void change_init_answer(char *packet, size_t length, size_t page)
{
    struct fuse_init_out init;
    size_t known = length - sizeof(struct fuse_out_header);
    if (length < sizeof(struct fuse_out_header) + offsetof(struct fuse_init_out, time_gran))
        return;
    if (known > sizeof init)
        known = sizeof init;
    memset(&init, 0, sizeof init);
    memcpy(&init, packet + sizeof(struct fuse_out_header), known);
    if (init.max_write > MOST_READ)
        init.max_write = MOST_READ;
    if (init.max_pages > MOST_READ / page)
        init.max_pages = (uint16_t)(MOST_READ / page);
    memcpy(packet + sizeof(struct fuse_out_header), &init, known);
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
        found.kind = INIT;
        return found;
    case FUSE_GETXATTR:
        if (asks_for_absent(packet, length)) {
            found.kind = ABSENT;
            return found;
        }
        break;
    case FUSE_BATCH_FORGET:
        if (length > MOST_FORGETS) {
            found.kind = FORGETS;
            return found;
        }
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
