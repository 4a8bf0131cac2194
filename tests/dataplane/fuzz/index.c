/* Fuzzes the index: sound and unsound regions, handles, reads, all held against a naive model. One input is one call.
 *
 * The model keeps the same regions in a plain list and looks up each byte by itself. The byte at `host` of file `fd` is
 * made up from both; a plan is carried out with such bytes. All buffers have just the size that is asked for. */
#include <string.h>

#include "common.h"
#include "index.h"

enum { KEYS = 3, HANDLES = 4, FILES = 3, MOST_SIZE = 20000, MOST_REGIONS = 64, MOST_COST = 6000, DATA = 2, PACKED = 3, ONES = 0xFF };

struct known { /* a region as the model has it */
    struct region *region;
    uint64_t key, used;
};

static struct index tested;
static uint64_t state, number, clock_now;
static struct known known[MOST_REGIONS];
static size_t known_count;
static int64_t sizes[KEYS]; /* -1: the source is not there */
static uint64_t handle_keys[HANDLES]; /* KEYS: not open */
static struct plan plan;

static char stored(int fd, int64_t host)
{
    return (char)((host % 251 * 7 + fd * 31) % 251 + 1);
}

static void free_region(struct region *region)
{
    free((void *)region->pieces.out);
    free((void *)region->pieces.stop);
    free((void *)region->pieces.host);
    free((void *)region->pieces.kind);
    free((void *)region->pieces.file);
    free((void *)region->data);
    free(region);
}

static void *copy(const void *from, size_t size)
{
    void *made = malloc(size ? size : 1);
    CHECK(made, number);
    return memcpy(made, from, size);
}

/* Gives a region pieces in order; now and then one thing about them is unsound. */
static void give_pieces(struct region *region)
{
    static int64_t out[1200], stop[1200], host[1200];
    static uint8_t kind[1200];
    static int16_t file[1200];
    int64_t at = 0, length = region->stop - region->start;
    size_t count = 0, most = below(&state, 8) ? below(&state, 20) : below(&state, 1200);
    int64_t step = most ? 2 * length / (int64_t)most + 2 : 2;
    while (count < most) {
        out[count] = at + (below(&state, 2) ? 0 : (int64_t)below(&state, (uint64_t)step));
        stop[count] = out[count] + 1 + (int64_t)below(&state, (uint64_t)step);
        if (stop[count] > length)
            break;
        at = stop[count];
        bool goes_on = count && !below(&state, 3) && kind[count - 1] == DATA && host[count - 1] < INT64_MAX / 2;
        file[count] = goes_on ? file[count - 1] : (int16_t)below(&state, FILES - 1);
        host[count] = goes_on ? host[count - 1] + (out[count] - out[count - 1]) : (int64_t)below(&state, 1 << 20);
        if (!goes_on && !below(&state, 50))
            host[count] = INT64_MAX - (stop[count] - out[count]) - (int64_t)below(&state, 2);
        kind[count] = !below(&state, 200) ? PACKED : below(&state, 12) ? DATA : ONES;
        count++;
    }
    if (count && !below(&state, 8)) {
        int64_t value = (int64_t)hostile(&state);
        size_t place = below(&state, count);
        switch (below(&state, 4)) {
        case 0: out[place] = value; break;
        case 1: stop[place] = value; break;
        case 2: host[place] = value; break;
        default: file[place] = (int16_t)value;
        }
    }
    region->pieces = (struct pieces){copy(out, 8 * count),  copy(stop, 8 * count), copy(host, 8 * count),
                                     copy(kind, count),     copy(file, 2 * count), count, NULL};
}

static bool is_sound(const struct region *region, int64_t size)
{
    const struct pieces *each = &region->pieces;
    if (region->stop > size || region->cost > MOST_COST / 2)
        return false;
    for (size_t i = 0; !region->data && i < each->count; i++) {
        if (each->out[i] < (i ? each->stop[i - 1] : 0) || each->stop[i] <= each->out[i] ||
            each->stop[i] > region->stop - region->start)
            return false;
        if (each->kind[i] == DATA && (each->file[i] < 0 || each->file[i] >= FILES - 1 || each->host[i] < 0 ||
                                      (uint64_t)each->host[i] + (uint64_t)(each->stop[i] - each->out[i]) > INT64_MAX))
            return false;
    }
    return true;
}

static size_t cost_known(void)
{
    size_t cost = 0;
    for (size_t i = 0; i < known_count; i++)
        cost += known[i].region->cost;
    return cost;
}

/* Forgets one of the model's regions, which must be among those that were handed back. */
static void forget(size_t place, struct region **dropped)
{
    struct region **link = dropped;
    while (*link && *link != known[place].region)
        link = &(*link)->dropped;
    CHECK(*link, number);
    struct region *gone = *link;
    *link = gone->dropped;
    free_region(gone);
    known[place] = known[--known_count];
}

static void forget_oldest(const struct region *spared, struct region **dropped)
{
    size_t oldest = known_count;
    for (size_t i = 0; i < known_count; i++)
        if (known[i].region != spared && (oldest == known_count || known[i].used < known[oldest].used))
            oldest = i;
    CHECK(oldest < known_count, number);
    forget(oldest, dropped);
}

static void publish(uint64_t key)
{
    struct region *region = calloc(1, sizeof *region);
    CHECK(region, number);
    int64_t size = sizes[key] > 0 ? sizes[key] : MOST_SIZE;
    region->start = (int64_t)below(&state, (uint64_t)size);
    region->stop = region->start + 1 + (int64_t)below(&state, (uint64_t)(size - region->start) + 3);
    region->cost = 100 + (below(&state, 30) ? below(&state, 1000) : below(&state, MOST_COST));
    if (below(&state, 4))
        give_pieces(region);
    else {
        char *data = malloc((size_t)(region->stop - region->start));
        CHECK(data, number);
        memset(data, (int)(1 + number % 250), (size_t)(region->stop - region->start));
        region->data = data;
    }
    bool sound = sizes[key] >= 0 && is_sound(region, sizes[key]);
    struct region *dropped = index_publish(&tested, key, region);
    if (!sound) {
        CHECK(dropped == region && !dropped->dropped, number);
        free_region(region);
        return;
    }
    for (size_t i = known_count; i-- > 0;)
        if (known[i].key == key && known[i].region->start < region->stop && region->start < known[i].region->stop)
            forget(i, &dropped);
    CHECK(known_count < MOST_REGIONS, number);
    known[known_count++] = (struct known){region, key, ++clock_now};
    while (cost_known() > MOST_COST)
        forget_oldest(region, &dropped);
    CHECK(!dropped && tested.cost == cost_known(), number);
}

static struct known *known_at(uint64_t key, int64_t at)
{
    for (size_t i = 0; i < known_count; i++)
        if (known[i].key == key && known[i].region->start <= at && at < known[i].region->stop)
            return known + i;
    return NULL;
}

/* Returns the byte of a region, -1 where it is no plain data; counts a piece when the last byte was of another one. */
static int byte_of(const struct region *region, int64_t at, const void **last, size_t *pieces)
{
    if (region->data)
        return (unsigned char)region->data[at - region->start];
    at -= region->start;
    for (size_t i = 0; i < region->pieces.count && region->pieces.out[i] <= at; i++)
        if (at < region->pieces.stop[i]) {
            *pieces += *last != region->pieces.out + i;
            *last = region->pieces.out + i;
            if (region->pieces.kind[i] == ONES)
                return 0xFF;
            if (region->pieces.kind[i] != DATA)
                return -1;
            return (unsigned char)stored(10 + region->pieces.file[i], region->pieces.host[i] + (at - region->pieces.out[i]));
        }
    return 0;
}

static void carry_out(char *buffer, size_t size)
{
    for (size_t i = 0; i < plan.part_count; i++) {
        const struct part *part = plan.parts + i;
        CHECK(part->length && part->length <= size && part->at <= size - part->length, number);
        CHECK(part->host >= 0 && plan.stamps[part->stamp].fd == part->fd, number);
        for (size_t j = 0; j < part->length; j++)
            buffer[part->at + j] = stored(part->fd, part->host + (int64_t)j);
    }
}

/* Compares what a plan gives with the model; has the model note the same use. */
static void compare(uint64_t key, uint64_t offset, size_t size, bool planned, const char *buffer)
{
    size_t length = offset >= (uint64_t)sizes[key] ? 0 : (uint64_t)sizes[key] - offset < size ? (size_t)((uint64_t)sizes[key] - offset) : size;
    size_t pieces = 0;
    const void *last = NULL;
    struct region *before = NULL;
    bool possible = true;
    CHECK(!planned || plan.length == length, number);
    for (size_t i = 0; possible && i < length; i++) {
        struct known *at = known_at(key, (int64_t)offset + (int64_t)i);
        int byte = at ? byte_of(at->region, (int64_t)offset + (int64_t)i, &last, &pieces) : -1;
        possible = byte >= 0 && (planned || pieces <= MOST_PARTS);
        CHECK(!possible || !planned || byte == (unsigned char)buffer[i], number);
        if (before && (!at || at->region != before))
            known_at(key, (int64_t)offset + (int64_t)i - 1)->used = ++clock_now; /* the index has been through that one */
        before = at ? at->region : NULL;
    }
    if (possible && before)
        known_at(key, (int64_t)(offset + length) - 1)->used = ++clock_now;
    CHECK(planned == possible, number);
}

static void read_some(uint64_t handle)
{
    uint64_t key = handle_keys[handle];
    int64_t end = key < KEYS ? sizes[key] : MOST_SIZE;
    uint64_t offset = below(&state, 20) ? below(&state, (uint64_t)end + 10) : hostile(&state);
    size_t size = below(&state, 4) ? 1 + below(&state, 600) : below(&state, MOST_SIZE);
    char *buffer = malloc(size ? size : 1);
    CHECK(buffer, number);
    memset(buffer, 0x5a, size);
    struct handle before = {0}, after = {0};
    index_look(&tested, handle, &before);
    bool planned = index_plan(&tested, handle, offset, size, buffer, &plan);
    CHECK(!planned || key < KEYS, number);
    if (planned)
        carry_out(buffer, size);
    if (key < KEYS)
        compare(key, offset, size, planned, buffer);
    if (planned) {
        bool served = below(&state, 2);
        index_done(&tested, &plan, handle, offset, served);
        index_look(&tested, handle, &after);
        CHECK(after.reads == before.reads + served && after.bytes == before.bytes + (served ? plan.length : 0), number);
    }
    free(buffer);
}

/* Whether a byte is in a piece; -1 where that is not known. */
static int is_stored(uint64_t key, int64_t at)
{
    struct known *there = known_at(key, at);
    if (!there || there->region->data)
        return -1;
    const struct pieces *pieces = &there->region->pieces;
    at -= there->region->start;
    for (size_t i = 0; i < pieces->count && pieces->out[i] <= at; i++)
        if (at < pieces->stop[i])
            return 1;
    return 0;
}

static void seek_some(uint64_t handle)
{
    uint64_t key = handle_keys[handle];
    int64_t end = key < KEYS ? sizes[key] : MOST_SIZE, found = -1, at;
    uint64_t offset = below(&state, 20) ? below(&state, (uint64_t)end + 10) : hostile(&state);
    bool hole = below(&state, 2), known = key < KEYS && key != 0 && offset < (uint64_t)end; /* source 0 has no holes */
    for (at = (int64_t)offset; known && at < end; at++) {
        int stored_here = is_stored(key, at);
        known = stored_here >= 0;
        if (stored_here == !hole)
            break;
    }
    known = known && (hole || at < end);
    CHECK(index_seek(&tested, handle, offset, hole, &plan, &found) == known, number);
    if (known) {
        CHECK(found == at && plan.part_count == 0 && plan.stamp_count == FILES, number);
        index_done(&tested, &plan, handle, offset, false);
    }
}

static void change_source(uint64_t key)
{
    struct stamp stamps[FILES];
    for (int i = 0; i < FILES; i++)
        stamps[i] = (struct stamp){.fd = 10 + i, .size = (int64_t)next_random(&state)};
    if (sizes[key] < 0) {
        sizes[key] = (int64_t)below(&state, MOST_SIZE);
        CHECK(!index_add(&tested, key, sizes[key], stamps, FILES, FILES - 1, key != 0), number);
        CHECK(index_add(&tested, key, sizes[key], stamps, FILES, FILES - 1, key != 0), number);
        return;
    }
    if (below(&state, 4)) {
        CHECK(!index_restamp(&tested, key, stamps, FILES) && index_restamp(&tested, key, stamps, FILES - 1), number);
        return;
    }
    struct region *dropped = index_withdraw(&tested, key);
    for (size_t i = known_count; i-- > 0;)
        if (known[i].key == key)
            forget(i, &dropped);
    CHECK(!dropped && tested.cost == cost_known(), number);
    sizes[key] = -1;
    for (size_t i = 0; i < HANDLES; i++)
        if (handle_keys[i] == key)
            handle_keys[i] = KEYS;
}

static void change_handle(uint64_t handle, uint64_t key)
{
    struct handle last;
    bool is_open = handle_keys[handle] < KEYS;
    if (below(&state, 3)) {
        bool may = sizes[key] >= 0 && !is_open;
        CHECK(!index_open(&tested, handle, key) == may, number);
        if (may)
            handle_keys[handle] = key;
    } else {
        CHECK(!index_close(&tested, handle, &last) == is_open, number);
        handle_keys[handle] = KEYS;
    }
}

static void look(uint64_t key)
{
    int64_t start = (int64_t)below(&state, MOST_SIZE), stop = start + (int64_t)below(&state, 3000), at = start;
    while (at < stop && known_at(key, at))
        at++;
    CHECK(index_covers(&tested, key, start, stop) == (sizes[key] >= 0 && at == stop), number);
}

int main(int count, char **words)
{
    take_arguments(count, words);
    state = seed;
    for (uint64_t key = 0; key < KEYS; key++)
        sizes[key] = -1;
    for (uint64_t handle = 0; handle < HANDLES; handle++)
        handle_keys[handle] = KEYS;
    CHECK(!index_begin(&tested, MOST_COST), 0);
    for (; number < inputs; number++) {
        uint64_t key = below(&state, KEYS), handle = below(&state, HANDLES), what = below(&state, 100);
        if (what < 3)
            change_source(key);
        else if (what < 10)
            change_handle(handle, key);
        else if (what < 35)
            publish(key);
        else if (what < 40)
            look(key);
        else if (what < 50)
            seek_some(handle);
        else
            read_some(handle);
    }
    for (uint64_t key = 0; key < KEYS; key++)
        for (struct region *each = index_withdraw(&tested, key), *next; each; each = next) {
            next = each->dropped;
            free_region(each);
        }
    index_end(&tested);
    printf("index: %llu calls\n", (unsigned long long)inputs);
}
