/* Fuzzes `parse_request` and what goes with it: packets of any length and content, each in memory of just that size. What comes out is held
 * against what the offsets of the protocol say, without the kernel's structures. */
#include <string.h>

#include "common.h"
#include "wire.h"

enum { HEADER = 40, OP_READ = 15, OP_GETXATTR = 22, OP_INIT = 26, OP_READDIR = 28, OP_INTERRUPT = 36, OP_FORGETS = 42, OP_READDIRPLUS = 44,
       OP_LSEEK = 46 };

static uint32_t word(const unsigned char *packet, size_t at)
{
    uint32_t value;
    memcpy(&value, packet + at, sizeof value);
    return value;
}

static uint64_t long_word(const unsigned char *packet, size_t at)
{
    uint64_t value;
    memcpy(&value, packet + at, sizeof value);
    return value;
}

static size_t any_length(uint64_t *state)
{
    switch (below(state, 8)) {
    case 0:
        return below(state, HEADER + 1);
    case 1:
        return HEADER + below(state, 200);
    case 2:
        return below(state, 64) ? HEADER + below(state, 5000) : below(state, below(state, 8) ? 100000 : MOST_REQUEST + 1);
    default:
        return HEADER + 8 * below(state, 9);
    }
}

/* Names of attributes: any, ours, and cut off at both ends of ours. */
static void fill_name(uint64_t *state, unsigned char *packet, size_t length)
{
    static const char ours[] = "user.vdifs.etag";
    size_t room = length - HEADER - 8, size = below(state, sizeof ours + 1);
    if (below(state, 4))
        memcpy(packet + HEADER + 8, ours, size < room ? size : room);
    if (below(state, 4))
        packet[length - 1] = 0;
}

static void fill(uint64_t *state, unsigned char *packet, size_t length)
{
    static const uint32_t opcodes[] = {OP_READ,    OP_GETXATTR,    OP_INIT, OP_READDIR, OP_INTERRUPT,
                                         OP_FORGETS, OP_READDIRPLUS, OP_LSEEK};
    for (size_t at = 0; at < length; at += 8) {
        uint64_t value = hostile(state);
        memcpy(packet + at, &value, length - at < 8 ? length - at : 8);
    }
    if (length < HEADER)
        return;
    uint32_t stated = (uint32_t)length, opcode = opcodes[below(state, sizeof opcodes / sizeof *opcodes)];
    if (below(state, 8))
        memcpy(packet, &stated, sizeof stated);
    if (below(state, 8))
        memcpy(packet + 4, &opcode, sizeof opcode);
    if (length > HEADER + 8 && opcode == OP_GETXATTR)
        fill_name(state, packet, length);
    if (length >= HEADER + 8 && opcode == OP_FORGETS && below(state, 4)) {
        stated = (uint32_t)((length - HEADER - 8) / 16);
        memcpy(packet + HEADER, &stated, sizeof stated);
    }
}

/* Returns whether a name is there, ends within the packet and is none of ours. */
static int is_absent(const unsigned char *packet, size_t length)
{
    static const char ours[] = "user.vdifs.";
    if (length <= HEADER + 8 || packet[length - 1])
        return 0;
    for (size_t i = 0; ours[i]; i++)
        if (packet[HEADER + 8 + i] != ours[i]) /* so behind a NUL nothing is looked at */
            return 1;
    return 0;
}

static enum request_kind wanted_kind(const unsigned char *packet, size_t length)
{
    if (length < HEADER || word(packet, 0) != length)
        return MALFORMED;
    switch (word(packet, 4)) {
    case OP_READ:
        return length < HEADER + 40 ? MALFORMED : READ;
    case OP_LSEEK:
        return length < HEADER + 24 ? MALFORMED : SEEK;
    case OP_INTERRUPT:
        return length < HEADER + 8 ? MALFORMED : INTERRUPT;
    case OP_INIT:
        return INIT;
    case OP_GETXATTR:
        return is_absent(packet, length) ? ABSENT : PASS;
    case OP_FORGETS:
        return length > MOST_FORGETS ? FORGETS : PASS;
    default:
        return PASS;
    }
}

/* The parts of a batch of forgets together are those of the batch that are there, each in a sound packet. */
static void check_forgets(const unsigned char *packet, size_t length, uint64_t number)
{
    size_t at = 0, there = (length - HEADER - 8) / 16, stated = word(packet, HEADER), seen = 0;
    char *part = malloc(MOST_FORGETS);
    CHECK(part, number);
    for (size_t size; (size = forgets_part((const char *)packet, length, &at, part));) {
        const unsigned char *bytes = (const unsigned char *)part;
        size_t count = word(bytes, HEADER);
        CHECK(size <= MOST_FORGETS && word(bytes, 0) == size && size == HEADER + 8 + 16 * count && count, number);
        CHECK(!memcmp(part + 4, packet + 4, HEADER - 4), number);
        CHECK(!memcmp(part + HEADER + 8, packet + HEADER + 8 + 16 * seen, 16 * count), number);
        seen += count;
    }
    CHECK(seen == (stated < there ? stated : there), number);
    free(part);
}

/* No answer to INIT allows more than the plane reads, and nothing else of it changes. */
static void check_init_answer(const unsigned char *packet, size_t length, uint64_t number)
{
    if (length < 16) /* the plane has looked at its head */
        return;
    unsigned char *answer = malloc(length);
    CHECK(answer, number);
    memcpy(answer, packet, length);
    change_init_answer((char *)answer, length, 4096);
    for (size_t at = 0; at < length; at++)
        CHECK((at >= 36 && at < 40) || at == 44 || at == 45 || answer[at] == packet[at], number);
    CHECK(length < 40 || word(answer, 36) <= MOST_READ, number);
    CHECK(length < 46 || answer[44] + 256 * answer[45] <= 256, number);
    free(answer);
}

/* Changes `packet` as it is to be passed on. */
static void change(unsigned char *packet, size_t length)
{
    uint32_t opcode = word(packet, 4), most = MOST_LISTING;
    if (opcode == OP_INIT && length >= HEADER + 16) {
        packet[HEADER + 12] &= 0x7f; /* FUSE_SPLICE_WRITE */
        packet[HEADER + 13] &= 0xfc; /* FUSE_SPLICE_MOVE, FUSE_SPLICE_READ */
        if (length > HEADER + 17)
            packet[HEADER + 17] &= 0xfd; /* FUSE_OVER_IO_URING */
    }
    if ((opcode == OP_READDIR || opcode == OP_READDIRPLUS) && length >= HEADER + 40 && word(packet, HEADER + 16) > most)
        memcpy(packet + HEADER + 16, &most, sizeof most);
}

static void check(const struct request *found, const unsigned char *packet, size_t length, uint64_t number)
{
    enum request_kind kind = wanted_kind(packet, length);
    CHECK(found->kind == kind, number);
    CHECK(found->unique == (length < HEADER ? 0 : long_word(packet, 8)), number);
    CHECK(length < HEADER || found->inode == long_word(packet, 16), number);
    if (kind == READ || kind == SEEK) {
        CHECK(found->handle == long_word(packet, HEADER), number);
        CHECK(found->offset == long_word(packet, HEADER + 8), number);
        CHECK(found->size == word(packet, HEADER + 16), number);
    }
    if (kind == INTERRUPT)
        CHECK(found->target == long_word(packet, HEADER), number);
}

int main(int count, char **words)
{
    take_arguments(count, words);
    uint64_t state = seed;
    for (uint64_t number = 0; number < inputs; number++) {
        size_t length = any_length(&state);
        unsigned char *packet = malloc(length ? length : 1), *before = malloc(length ? length : 1);
        CHECK(packet && before, number);
        fill(&state, packet, length);
        memcpy(before, packet, length);
        struct request found = parse_request((char *)packet, length);
        check(&found, before, length, number);
        if (found.kind == PASS || found.kind == INIT)
            change(before, length);
        CHECK(!memcmp(packet, before, length), number);
        if (found.kind == FORGETS)
            check_forgets(before, length, number);
        check_init_answer(before, length < 200 ? length : 200, number);
        free(packet);
        free(before);
    }
    printf("parser: %llu packets\n", (unsigned long long)inputs);
}
