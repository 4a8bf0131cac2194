/* Fuzzes a whole plane: malformed packets, unknown handles, reads that it answers and reads that it does not.
 *
 * Each request gets a number of its own, and after each batch every one of them must have been answered once, or have
 * come out for libfuse once. One input is one packet. */
#include "wired.h"

enum { BATCH = 16, SIZE = 4000, KEY = 1, HANDLE = 7, MOST_PACKET = 4096 };

enum end { NOT_SENT, ANSWER, DATA_ANSWER, PASSED, EITHER, NOTHING };

static struct wired wired;
static uint64_t state, number;
static enum end wanted[BATCH];
static uint64_t offsets[BATCH], lengths[BATCH], first;
static bool last_passed; /* what is sent behind each batch has come out: so has all before it */
static struct stamp stamp;

static uint64_t read_length(uint64_t offset, uint64_t size)
{
    return offset >= SIZE ? 0 : SIZE - offset < size ? SIZE - offset : size;
}

/* Writes one packet, and notes what must become of it. Returns its length. */
static size_t make_packet(size_t place, char *packet)
{
    static const uint32_t passed[] = {1, 2, 3, 14, 18, 26, 28, 38, 42, 44, 77, 4096};
    uint64_t body[5] = {HANDLE, below(&state, SIZE + 100), 1 + below(&state, SIZE), 0, 0};
    uint64_t unique = first + place;
    wanted[place] = ANSWER;
    size_t length;
    switch (below(&state, 8)) {
    case 0: /* any handle and place */
        body[0] = hostile(&state);
        body[1] = hostile(&state);
        return write_request(packet, FUZZ_READ, unique, body, 5);
    case 1:
        return write_request(packet, FUZZ_LSEEK, unique, body, 3);
    case 2: /* of something in this batch, or of nothing */
        body[0] = below(&state, 2) ? first + below(&state, BATCH) : hostile(&state);
        wanted[place] = EITHER;
        return write_request(packet, FUZZ_INTERRUPT, unique, body, 1);
    case 3:
        wanted[place] = PASSED;
        length = write_request(packet, passed[below(&state, sizeof passed / sizeof *passed)], unique, NULL, 0);
        for (size_t end = length + 8 * below(&state, 100), value; length < end; length += 8) {
            value = hostile(&state);
            memcpy(packet + length, &value, 8);
        }
        memcpy(packet, &(uint32_t){(uint32_t)length}, 4);
        return length;
    case 4: /* cut off, or of another length than it says */
        length = write_request(packet, (uint32_t)below(&state, 60), unique, body, below(&state, 6));
        if (below(&state, 2)) {
            wanted[place] = NOTHING;
            return 1 + below(&state, FUZZ_HEADER - 1);
        }
        memcpy(packet, &(uint32_t){(uint32_t)length + 1 + (uint32_t)below(&state, 1 << 20)}, 4);
        return length;
    default:
        wanted[place] = DATA_ANSWER;
        offsets[place] = body[1];
        lengths[place] = read_length(body[1], body[2]);
        return write_request(packet, FUZZ_READ, unique, body, 5);
    }
}

static bool awaits(void)
{
    for (size_t i = 0; i < BATCH; i++)
        if (wanted[i] == ANSWER || wanted[i] == DATA_ANSWER || wanted[i] == PASSED)
            return true;
    return !last_passed;
}

static size_t place_of(uint64_t unique)
{
    CHECK(unique >= first && unique - first < BATCH, number);
    return unique - first;
}

/* What the plane has written to the kernel. */
static void take_answers(void)
{
    static char packet[2 * MOST_READ];
    uint32_t stated;
    int32_t error;
    uint64_t unique;
    for (ssize_t length; (length = recv(wired.kernel, packet, sizeof packet, MSG_DONTWAIT)) > 0;) {
        if (length < 16)
            continue; /* of libfuse, see below */
        memcpy(&stated, packet, 4);
        memcpy(&error, packet + 4, 4);
        memcpy(&unique, packet + 8, 8);
        CHECK(stated == length && error <= 0, number);
        size_t place = place_of(unique);
        CHECK(wanted[place] == ANSWER || wanted[place] == DATA_ANSWER, number);
        if (wanted[place] == DATA_ANSWER && !error) {
            CHECK((uint64_t)length == 16 + lengths[place], number);
            for (uint64_t i = 0; i < lengths[place]; i++)
                CHECK(packet[16 + i] == byte_at((int64_t)(offsets[place] + i)), number);
        }
        wanted[place] = NOT_SENT;
    }
}

static void take_passed(void)
{
    static char packet[MOST_PACKET];
    uint64_t unique;
    for (ssize_t length; (length = recv(wired.libfuse, packet, sizeof packet, MSG_DONTWAIT)) > 0;) {
        CHECK(length >= FUZZ_HEADER, number);
        memcpy(&unique, packet + 8, 8);
        if (unique == UINT64_MAX) {
            last_passed = true;
            continue;
        }
        size_t place = place_of(unique);
        CHECK(wanted[place] == PASSED || wanted[place] == EITHER, number);
        wanted[place] = NOT_SENT;
    }
}

/* What Python would do. */
static void take_asked(void)
{
    struct ask taken[BATCH];
    char data[SIZE];
    size_t count = plane_take(&wired.plane, taken, 1 + below(&state, BATCH));
    for (size_t i = 0; i < count; i++) {
        size_t place = place_of(taken[i].unique);
        size_t length = wanted[place] == DATA_ANSWER ? lengths[place] : 1;
        CHECK(taken[i].taken && length <= sizeof data, number);
        CHECK(pread(stamp.fd, data, sizeof data, 0) == sizeof data, number); /* so that the next is in the page cache */
        for (size_t j = 0; j < length; j++)
            data[j] = byte_at((int64_t)(offsets[place] + j));
        int failed = plane_answer(&wired.plane, taken[i].unique, below(&state, 2) ? 0 : EIO, data, length);
        CHECK(!failed, number);
        CHECK(plane_answer(&wired.plane, taken[i].unique, 0, data, length) == ENOENT, number);
    }
}

static void try_batch(void)
{
    static char packet[MOST_PACKET];
    first = number + 1;
    memset(wanted, NOT_SENT, sizeof wanted);
    for (size_t i = 0; i < BATCH; i++, number++) {
        size_t length = make_packet(i, packet);
        CHECK(send(wired.kernel, packet, length, 0) == (ssize_t)length, number);
        if (!below(&state, 64)) /* something of libfuse that answers nothing */
            CHECK(send(wired.libfuse, packet, 1 + below(&state, 15), 0) > 0, number);
    }
    size_t length = write_request(packet, 1, UINT64_MAX, NULL, 0);
    CHECK(send(wired.kernel, packet, length, 0) == (ssize_t)length, number);
    last_passed = false;
    while (awaits()) {
        take_answers();
        take_passed();
        take_asked();
    }
}

int main(int count, char **words)
{
    take_arguments(count, words);
    state = seed;
    stamp = make_file();
    begin_wired(&wired, 10000);
    CHECK(!index_add(&wired.plane.index, KEY, SIZE, &stamp, 1, 1, true), 0);
    CHECK(!index_open(&wired.plane.index, HANDLE, KEY), 0);
    CHECK(!index_publish(&wired.plane.index, KEY, plain_region(0, SIZE)), 0);
    while (number < inputs)
        try_batch();
    unsigned long long served = atomic_load(&wired.plane.served);
    end_wired(&wired, KEY, 1);
    close(stamp.fd);
    CHECK(served || number < 1000, number);
    printf("plane: %llu packets, %llu reads answered\n", (unsigned long long)number, served);
}
