/* What the data plane knows of open files: where their bytes come from, as far as Python has published it.
 *
 *     handle   what the kernel calls an open file              many may be of one source
 *     source   one synthetic file: its length, its files       as long as Python has it open
 *     region   a range of it that is resolved                  least recently used out first, bounded in bytes
 *
 * The index is guarded by one mutex. A plan copies what a read needs, so nothing of a region is used without it; the
 * descriptors stay open as long as a source is busy, for which `index_withdraw` waits.
 */
#ifndef VDIFS_INDEX_H
#define VDIFS_INDEX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOST_PARTS = 512, MOST_STAMPS = 512, MOST_RUNS = 2, MOST_LITERALS = 4, MOST_LITERAL = 512, MOST_SUMS = 64 };
/* Bytes of a frame with a sum, at most: so much may have to be read before what is asked for. */
enum { MOST_SUMMED = 128 << 10 };

/* A file as it was when the image was opened: a read counts only while fstat(2) says the same behind it. */
struct stamp {
    int fd;
    int64_t size, mtime_ns, ctime_ns;
};

/* Parallel arrays, sorted and apart, at offsets from the start of the region; what lies between is zeros. */
struct pieces {
    const int64_t *out, *stop, *host;
    const uint8_t *kind;
    const int16_t *file;
    size_t count;
    const int64_t *guest; /* where on the disk a piece begins; only where there are frames */
};

struct run {
    int64_t start, stop;
};

struct literal {
    int64_t at;
    size_t length;
    char bytes[MOST_LITERAL];
};

/* How what the pieces make up stands in a file: cut into parts of `payload` bytes, each in a frame of `size` bytes.
 *
 *     pieces   [ payload 0 | payload 1 | ...
 *     region   [ literal | run 0 | literal | run 1 | sum | zeros ][ the same of payload 1 ] ...
 *
 * The last frame may be cut short. A frame without pieces is not known here. */
struct frame {
    int64_t size, payload;
    struct run runs[MOST_RUNS]; /* sorted, apart: where in a frame its payload lies */
    size_t run_count;
    struct literal literals[MOST_LITERALS]; /* outside of the runs */
    size_t literal_count;
    int64_t number_at; /* of a little-endian u64, the sector of the disk at which the payload begins; -1: none */
    int64_t sum_at;    /* of a big-endian u32, the Adler-32 of the payload, behind it; -1: none */
};

struct region {
    int64_t start, stop;
    struct pieces pieces; /* or, where `data` is not NULL, the bytes themselves */
    const char *data;
    const struct frame *frame; /* NULL where the pieces are the region */
    size_t cost; /* bytes of memory */
    void *keep;  /* what holds that memory; handed back when the region is dropped */
    uint64_t used;
    struct source *source;
    struct region *dropped; /* the next of those that are handed back */
};

struct source {
    uint64_t key;
    int64_t size;
    struct stamp *stamps; /* those of the files that pieces have indices of, then all others of the chain */
    size_t stamp_count, data_files;
    struct region **regions; /* sorted by start, apart */
    size_t count, room;
    unsigned busy;
    bool has_holes; /* what is in no piece is a hole; else the whole file is data */
};

struct handle {
    uint64_t number;
    struct source *source;
    uint64_t reads, bytes;
    int64_t position;
};

struct index {
    pthread_mutex_t lock;
    pthread_cond_t idle;
    struct handle *handles; /* sorted by number */
    size_t handle_count, handle_room;
    struct source **sources;
    size_t source_count, source_room;
    size_t cost, most;
    uint64_t clock;
};

struct part {
    size_t at, length;
    int64_t host;
    int fd, stamp;
};

/* An Adler-32 to be worked out once the parts are read: of what lies in spans of the buffer. */
struct sum {
    size_t at, length; /* where it goes; the first bytes of it, where the read ends amid them */
    size_t span_at[MOST_RUNS], span_length[MOST_RUNS], span_count;
};

/* How to answer one read. The parts that are zeros, or were at hand as bytes, are in the buffer already. */
struct plan {
    struct source *source;
    size_t lead;    /* bytes of the buffer that are only there for sums, before the answer */
    size_t length;  /* of the answer */
    size_t reading; /* bytes that come from files */
    size_t part_count, stamp_count, sum_count;
    struct part parts[MOST_PARTS];
    struct sum sums[MOST_SUMS];
    struct stamp stamps[MOST_STAMPS];
};

int index_begin(struct index *index, size_t most);
void index_end(struct index *index);

/* Returns -1 without memory. The key must be new; `stamps` is copied. */
int index_add(struct index *index, uint64_t key, int64_t size, const struct stamp *stamps, size_t count,
              size_t data_files, bool has_holes);
/* Gives a source other stamps of the same files. Returns -1 for an unknown key or another number of files. */
int index_restamp(struct index *index, uint64_t key, const struct stamp *stamps, size_t count);
/* Forgets a source and its handles, once no read is under way in it. Returns its regions, to be handed back. */
struct region *index_withdraw(struct index *index, uint64_t key);
/* Takes over `region`, and returns those that make room for it, it itself where it is of no use. */
struct region *index_publish(struct index *index, uint64_t key, struct region *region);
/* Tells whether [start, stop) of a source is known wholly. */
bool index_covers(struct index *index, uint64_t key, int64_t start, int64_t stop);
int index_open(struct index *index, uint64_t number, uint64_t key);
/* Forgets a handle; `last` gets its counters. Returns -1 for an unknown one. */
int index_close(struct index *index, uint64_t number, struct handle *last);
int index_look(struct index *index, uint64_t number, struct handle *found);

/* Makes a plan and takes the source for busy until `index_done`; returns false where Python has to answer.
 * buffer: of `size` and MOST_SUMMED bytes. */
bool index_plan(struct index *index, uint64_t number, uint64_t offset, size_t size, char *buffer, struct plan *plan);
/* Finds where data, or a hole, begin at or behind `offset`, and makes a plan that reads nothing; false as above. */
bool index_seek(struct index *index, uint64_t number, uint64_t offset, bool hole, struct plan *plan, int64_t *found);
/* Ends what `index_plan` or `index_seek` began. served: counted for the handle. */
void index_done(struct index *index, struct plan *plan, uint64_t number, uint64_t offset, bool served);

/* Tells whether pieces are sorted, apart, within [0, length), and name files below `data_files`. */
bool pieces_are_sound(const struct pieces *pieces, int64_t length, size_t data_files);
/* Tells whether a frame is as it is described above, and no number in it is too large. */
bool frame_is_sound(const struct frame *frame);

#endif
