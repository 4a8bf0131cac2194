/* Threads read through a plane while others publish, withdraw, restamp, open, close, answer what Python would, and have
 * libfuse answer; then all of it ends while they read. One input is one read. For the thread sanitizer. */
#include <pthread.h>

#include "wired.h"

enum { KEYS = 3, READERS = 3, ROUNDS = 8, MOST_READ_HERE = 3000, DATA_FROM = 3, HOLE_FROM = 4 };

static struct wired wired;
static struct stamp stamp;
static atomic_ullong sent, answered;
static atomic_bool over;
static uint64_t in_round;

/* The unique says which bytes are asked for, so that any thread can tell whether an answer is right. */
static uint64_t unique_of(uint64_t count, uint64_t offset, uint64_t size)
{
    return count << 32 | offset << 12 | size;
}

static bool send_read(uint64_t *state)
{
    char packet[FUZZ_HEADER + 40];
    bool seeks = !below(state, 20); /* by a whence that is no size of a read */
    uint64_t size = seeks ? DATA_FROM + below(state, 2) : HOLE_FROM + 1 + below(state, MOST_READ_HERE - HOLE_FROM);
    uint64_t body[5] = {1 + below(state, KEYS), below(state, FUZZ_FILE), size};
    uint64_t unique = unique_of(1 + atomic_fetch_add(&sent, 1), body[1], body[2]);
    size_t length = write_request(packet, seeks ? FUZZ_LSEEK : FUZZ_READ, unique, body, 5);
    if (!below(state, 30)) { /* of the read before, perhaps */
        uint64_t target = unique_of(atomic_load(&sent), body[1], body[2]);
        char interrupt[FUZZ_HEADER + 8];
        send(wired.kernel, interrupt, write_request(interrupt, FUZZ_INTERRUPT, unique, &target, 1), MSG_NOSIGNAL);
    }
    return send(wired.kernel, packet, length, MSG_NOSIGNAL) == (ssize_t)length;
}

/* Returns whether it is an answer, not a notification. */
static bool check_answer(const char *packet, size_t length)
{
    int32_t error;
    uint64_t unique;
    CHECK(length >= 16, length);
    memcpy(&error, packet + 4, 4);
    memcpy(&unique, packet + 8, 8);
    if (!unique)
        return false;
    uint64_t offset = unique >> 12 & 0xfffff, size = unique & 0xfff;
    if (size <= HOLE_FROM)
        return true;
    CHECK(error || length - 16 == (offset + size > FUZZ_FILE ? FUZZ_FILE - offset : size), unique);
    for (size_t i = 16; i < length; i++)
        CHECK(packet[i] == byte_at((int64_t)(offset + i - 16)), unique);
    return true;
}

/* Sends a read, and takes any answer, its own or another reader's. */
static void *reading(void *argument)
{
    uint64_t state = *(uint64_t *)argument;
    char packet[16 + MOST_READ_HERE];
    bool idle = false; /* a socket that is full of notifications may lose an answer */
    while (!atomic_load(&over) && atomic_load(&answered) < in_round) {
        struct pollfd answer = {wired.kernel, POLLIN, 0};
        if ((idle || atomic_load(&sent) - atomic_load(&answered) < 2 * READERS) && !send_read(&state))
            break;
        idle = poll(&answer, 1, 100) < 1;
        ssize_t length = recv(wired.kernel, packet, sizeof packet, MSG_DONTWAIT);
        if (length > 0 && check_answer(packet, (size_t)length))
            atomic_fetch_add(&answered, 1);
    }
    return NULL;
}

static void free_all(struct region *dropped)
{
    for (struct region *next; dropped; dropped = next) {
        next = dropped->dropped;
        free(dropped);
    }
}

static void *publishing(void *argument)
{
    uint64_t state = *(uint64_t *)argument;
    struct index *index = &wired.plane.index;
    struct handle last;
    while (!atomic_load(&over)) {
        uint64_t key = 1 + below(&state, KEYS);
        int64_t start = 4096 * (int64_t)below(&state, FUZZ_FILE / 4096);
        struct stamp changed = stamp;
        changed.mtime_ns += !below(&state, 4);
        switch (below(&state, 16)) {
        case 0:
            free_all(index_withdraw(index, key));
            break;
        case 1:
        case 2:
            index_add(index, key, FUZZ_FILE, &stamp, 1, 1, true);
            index_open(index, key, key);
            break;
        case 3:
            index_restamp(index, key, &changed, 1);
            break;
        case 4:
            index_close(index, key, &last);
            break;
        case 5:
            index_covers(index, key, start, start + 10000);
            index_look(index, key, &last);
            if (!below(&state, 64))
                plane_invalidate(&wired.plane, key);
            break;
        default:
            free_all(index_publish(index, key, plain_region(start, start + 4096 * (1 + (int64_t)below(&state, 16)))));
        }
    }
    return NULL;
}

/* Answers what Python would; one thread or more. */
static void *answering(void *argument)
{
    struct ask taken[4];
    char data[MOST_READ_HERE];
    struct pollfd asked = {wired.plane.asked, POLLIN, 0};
    (void)argument;
    while (!atomic_load(&over)) {
        if (poll(&asked, 1, 10) < 1)
            continue;
        for (size_t i = 0, count = plane_take(&wired.plane, taken, 4); i < count; i++) {
            uint64_t offset = taken[i].unique >> 12 & 0xfffff, size = taken[i].unique & 0xfff;
            ssize_t length = pread(stamp.fd, data, size, (off_t)offset);
            CHECK(length >= 0, taken[i].unique);
            plane_answer(&wired.plane, taken[i].unique, 0, data, (size_t)length);
        }
    }
    return NULL;
}

/* Takes what is passed to libfuse. */
static void *passing(void *argument)
{
    char packet[4096];
    (void)argument;
    while (!atomic_load(&over)) {
        struct pollfd came = {wired.libfuse, POLLIN, 0};
        if (poll(&came, 1, 10) > 0 && recv(wired.libfuse, packet, sizeof packet, MSG_DONTWAIT) == 0)
            break;
    }
    return NULL;
}

int main(int count, char **words)
{
    static void *(*const tasks[])(void *) = {reading, reading, reading, publishing, publishing, answering, answering, passing};
    enum { TASKS = sizeof tasks / sizeof *tasks };
    bool at_rest;
    unsigned long long served = 0;
    take_arguments(count, words);
    in_round = inputs / ROUNDS + 1;
    stamp = make_file();
    for (uint64_t round = 0; round < ROUNDS; round++) {
        pthread_t threads[TASKS];
        uint64_t seeds[TASKS];
        atomic_store(&over, false);
        atomic_store(&sent, 0);
        atomic_store(&answered, 0);
        begin_wired(&wired, 3000);
        for (size_t i = 0; i < TASKS; i++) {
            seeds[i] = seed * 1000 + round * TASKS + i;
            CHECK(!pthread_create(threads + i, NULL, tasks[i], seeds + i), round);
        }
        at_rest = round % 2; /* else it ends while they read */
        for (size_t i = 0; i < READERS && at_rest; i++)
            pthread_join(threads[i], NULL);
        while (!at_rest && atomic_load(&answered) < in_round / 2)
            usleep(1000);
        plane_stop(&wired.plane);
        served += atomic_load(&wired.plane.served);
        atomic_store(&over, true);
        for (size_t i = at_rest ? READERS : 0; i < TASKS; i++)
            pthread_join(threads[i], NULL);
        end_wired(&wired, 1, KEYS);
    }
    close(stamp.fd);
    printf("threads: %llu reads in %d rounds, %llu answered by the plane\n", (unsigned long long)inputs, ROUNDS, served);
}
