/* A plane without a kernel: one pair of sockets stands for /dev/fuse, another for what libfuse has. */
#ifndef VDIFS_FUZZ_WIRED_H
#define VDIFS_FUZZ_WIRED_H

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "plane.h"

enum { FUZZ_HEADER = 40, FUZZ_READ = 15, FUZZ_LSEEK = 46, FUZZ_INTERRUPT = 36, FUZZ_FILE = 1 << 16 };

struct wired {
    struct plane plane;
    int kernel, libfuse; /* the other ends */
};

static inline char byte_at(int64_t at)
{
    return (char)(at % 251 + 1);
}

static inline void begin_wired(struct wired *wired, size_t most)
{
    int device[2], socket[2];
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, device), 0);
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socket), 0);
    CHECK(!plane_begin(&wired->plane, device[0], socket[0], most, true), 0);
    wired->kernel = device[1];
    wired->libfuse = socket[1];
    CHECK(!plane_start(&wired->plane), 0);
}

/* Ends it; the regions of these keys are freed: what is in them the caller owns. */
static inline void end_wired(struct wired *wired, uint64_t first_key, uint64_t keys)
{
    plane_stop(&wired->plane);
    for (uint64_t key = first_key; key < first_key + keys; key++)
        for (struct region *each = index_withdraw(&wired->plane.index, key), *next; each; each = next) {
            next = each->dropped;
            free(each);
        }
    plane_end(&wired->plane);
    close(wired->kernel);
    close(wired->libfuse);
}

/* Returns a file of FUZZ_FILE bytes in the page cache, each of them `byte_at` its place, and its stamp. */
static inline struct stamp make_file(void)
{
    char name[] = "vdifs-fuzz-XXXXXX";
    static char data[FUZZ_FILE];
    int fd = mkstemp(name);
    CHECK(fd >= 0, 0);
    unlink(name);
    for (int i = 0; i < FUZZ_FILE; i++)
        data[i] = byte_at(i);
    CHECK(write(fd, data, FUZZ_FILE) == FUZZ_FILE, 0);
    struct stat now;
    CHECK(!fstat(fd, &now), 0);
    return (struct stamp){fd, now.st_size, (int64_t)now.st_mtim.tv_sec * 1000000000 + now.st_mtim.tv_nsec,
                          (int64_t)now.st_ctim.tv_sec * 1000000000 + now.st_ctim.tv_nsec};
}

/* Returns a region of one piece: [start, stop) of the source is what the file has from there on. */
static inline struct region *plain_region(int64_t start, int64_t stop)
{
    struct numbers {
        struct region region; /* first: freed as a whole */
        int64_t out, stop, host;
        int16_t file;
        uint8_t kind;
    } *made = calloc(1, sizeof *made);
    CHECK(made, 0);
    made->stop = stop - start;
    made->host = start;
    made->kind = 2;
    made->region = (struct region){.start = start, .stop = stop, .cost = 100};
    made->region.pieces = (struct pieces){&made->out, &made->stop, &made->host, &made->kind, &made->file, 1, NULL};
    return &made->region;
}

/* Writes a request with a body of up to five numbers; returns its length. */
static inline size_t write_request(char *packet, uint32_t opcode, uint64_t unique, const uint64_t *body, size_t numbers)
{
    uint32_t length = (uint32_t)(FUZZ_HEADER + 8 * numbers);
    memset(packet, 0, FUZZ_HEADER);
    memcpy(packet, &length, 4);
    memcpy(packet + 4, &opcode, 4);
    memcpy(packet + 8, &unique, 8);
    if (numbers)
        memcpy(packet + FUZZ_HEADER, body, 8 * numbers);
    return length;
}

#endif
