#include "index.h"

#include <stdlib.h>
#include <string.h>

enum { DATA = 2, ONES = 0xFF }; /* Kind.DATA of vdifs/extents.py; ONES of vdifs/output/window.py: bytes of FF, of no file */
enum { MOST_FRAME = 1 << 30, SECTOR = 512 };

int index_begin(struct index *index, size_t most)
{
    memset(index, 0, sizeof *index);
    index->most = most;
    if (pthread_mutex_init(&index->lock, NULL))
        return -1;
    if (pthread_cond_init(&index->idle, NULL)) {
        pthread_mutex_destroy(&index->lock);
        return -1;
    }
    return 0;
}

void index_end(struct index *index)
{
    free(index->handles);
    free(index->sources);
    pthread_cond_destroy(&index->idle);
    pthread_mutex_destroy(&index->lock);
}

/* Makes room for one more of `size` bytes in an array. */
static int grow(void **array, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return 0;
    size_t more = *room ? 2 * *room : 8;
    void *grown = realloc(*array, more * size);
    if (!grown)
        return -1;
    *array = grown;
    *room = more;
    return 0;
}

static struct source *source_of(struct index *index, uint64_t key)
{
    for (size_t i = 0; i < index->source_count; i++)
        if (index->sources[i]->key == key)
            return index->sources[i];
    return NULL;
}

/* Returns the index of the first handle whose number is not below `number`. */
static size_t handle_place(const struct index *index, uint64_t number)
{
    size_t low = 0, high = index->handle_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (index->handles[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct handle *handle_of(struct index *index, uint64_t number)
{
    size_t place = handle_place(index, number);
    return place < index->handle_count && index->handles[place].number == number ? index->handles + place : NULL;
}

/* Returns the index of the first region that ends behind `at`. */
static size_t region_place(const struct source *source, int64_t at)
{
    size_t low = 0, high = source->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (source->regions[middle]->stop <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t piece_place(const struct pieces *pieces, int64_t at)
{
    size_t low = 0, high = pieces->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (pieces->stop[middle] <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool pieces_are_sound(const struct pieces *pieces, int64_t length, size_t data_files)
{
    int64_t before = 0;
    for (size_t i = 0; i < pieces->count; i++) {
        int64_t out = pieces->out[i], stop = pieces->stop[i];
        if (out < before || stop <= out || stop > length)
            return false;
        before = stop;
        if (pieces->kind[i] != DATA)
            continue;
        if (pieces->file[i] < 0 || (size_t)pieces->file[i] >= data_files || pieces->host[i] < 0 ||
            pieces->host[i] > INT64_MAX - (stop - out))
            return false;
    }
    return true;
}

bool frame_is_sound(const struct frame *frame)
{
    int64_t before = 0, payload = 0;
    for (size_t i = 0; i < frame->run_count; i++) {
        const struct run *run = frame->runs + i;
        if (run->start < before || run->stop <= run->start || run->stop > frame->size)
            return false;
        payload += run->stop - run->start;
        before = run->stop;
    }
    for (size_t i = 0; i < frame->literal_count; i++) {
        const struct literal *literal = frame->literals + i;
        if (literal->at < 0 || literal->at > frame->size - (int64_t)literal->length)
            return false;
        for (size_t j = 0; j < frame->run_count; j++)
            if (literal->at < frame->runs[j].stop && frame->runs[j].start < literal->at + (int64_t)literal->length)
                return false;
    }
    return frame->size <= MOST_FRAME && payload && payload == frame->payload &&
           (frame->number_at == -1 || (frame->number_at >= 0 && frame->number_at <= frame->runs[0].start - 8)) &&
           (frame->sum_at == -1 ||
            (frame->sum_at >= before && frame->sum_at <= frame->size - 4 && frame->size <= MOST_SUMMED));
}

/* Returns how many bytes the pieces of a region may make up. */
static int64_t pieces_end(const struct region *region)
{
    int64_t length = region->stop - region->start;
    if (!region->frame)
        return length;
    return length > INT64_MAX - MOST_FRAME ? 0 : ((length - 1) / region->frame->size + 1) * region->frame->payload;
}

int index_add(struct index *index, uint64_t key, int64_t size, const struct stamp *stamps, size_t count,
              size_t data_files, bool has_holes)
{
    struct source *source = calloc(1, sizeof *source);
    struct stamp *copy = malloc((count ? count : 1) * sizeof *copy);
    if (!source || !copy) {
        free(source);
        free(copy);
        return -1;
    }
    memcpy(copy, stamps, count * sizeof *copy);
    *source = (struct source){.key = key, .size = size, .stamps = copy, .stamp_count = count,
                              .data_files = data_files, .has_holes = has_holes};
    pthread_mutex_lock(&index->lock);
    int failed = source_of(index, key) ||
                 grow((void **)&index->sources, index->source_count, &index->source_room, sizeof *index->sources);
    if (!failed)
        index->sources[index->source_count++] = source;
    pthread_mutex_unlock(&index->lock);
    if (failed) {
        free(copy);
        free(source);
        return -1;
    }
    return 0;
}

int index_restamp(struct index *index, uint64_t key, const struct stamp *stamps, size_t count)
{
    pthread_mutex_lock(&index->lock);
    struct source *source = source_of(index, key);
    bool fits = source && source->stamp_count == count;
    if (fits)
        memcpy(source->stamps, stamps, count * sizeof *stamps);
    pthread_mutex_unlock(&index->lock);
    return fits ? 0 : -1;
}

struct region *index_withdraw(struct index *index, uint64_t key)
{
    struct region *dropped = NULL;
    pthread_mutex_lock(&index->lock);
    struct source *source = source_of(index, key);
    if (source) {
        size_t kept = 0;
        for (size_t i = 0; i < index->handle_count; i++)
            if (index->handles[i].source != source)
                index->handles[kept++] = index->handles[i];
        index->handle_count = kept;
        kept = 0;
        for (size_t i = 0; i < index->source_count; i++)
            if (index->sources[i] != source)
                index->sources[kept++] = index->sources[i];
        index->source_count = kept;
        while (source->busy)
            pthread_cond_wait(&index->idle, &index->lock);
        for (size_t i = 0; i < source->count; i++) {
            source->regions[i]->dropped = dropped;
            dropped = source->regions[i];
            index->cost -= dropped->cost;
        }
        free(source->regions);
        free(source->stamps);
        free(source);
    }
    pthread_mutex_unlock(&index->lock);
    return dropped;
}

static void take_out(struct source *source, size_t place)
{
    memmove(source->regions + place, source->regions + place + 1, (source->count - place - 1) * sizeof *source->regions);
    source->count--;
}

/* Drops the region of the whole index that was used longest ago, but not `spared`. */
static struct region *drop_oldest(struct index *index, const struct region *spared)
{
    struct source *from = NULL;
    size_t place = 0;
    for (size_t i = 0; i < index->source_count; i++)
        for (size_t j = 0; j < index->sources[i]->count; j++) {
            struct region *each = index->sources[i]->regions[j];
            if (each != spared && (!from || each->used < from->regions[place]->used)) {
                from = index->sources[i];
                place = j;
            }
        }
    if (!from)
        return NULL;
    struct region *oldest = from->regions[place];
    take_out(from, place);
    index->cost -= oldest->cost;
    return oldest;
}

struct region *index_publish(struct index *index, uint64_t key, struct region *region)
{
    struct region *dropped = NULL;
    pthread_mutex_lock(&index->lock);
    struct source *source = source_of(index, key);
    if (!source || region->cost > index->most / 2 || region->stop > source->size ||
        (!region->data && !pieces_are_sound(&region->pieces, pieces_end(region), source->data_files)) ||
        grow((void **)&source->regions, source->count, &source->room, sizeof *source->regions)) {
        pthread_mutex_unlock(&index->lock);
        region->dropped = NULL;
        return region;
    }
    size_t place = region_place(source, region->start);
    while (place < source->count && source->regions[place]->start < region->stop) { /* what it takes the place of */
        struct region *old = source->regions[place];
        take_out(source, place);
        index->cost -= old->cost;
        old->dropped = dropped;
        dropped = old;
    }
    memmove(source->regions + place + 1, source->regions + place, (source->count - place) * sizeof *source->regions);
    source->regions[place] = region;
    source->count++;
    region->source = source;
    region->used = ++index->clock;
    index->cost += region->cost;
    while (index->cost > index->most) {
        struct region *oldest = drop_oldest(index, region);
        if (!oldest)
            break;
        oldest->dropped = dropped;
        dropped = oldest;
    }
    pthread_mutex_unlock(&index->lock);
    return dropped;
}

bool index_covers(struct index *index, uint64_t key, int64_t start, int64_t stop)
{
    pthread_mutex_lock(&index->lock);
    struct source *source = source_of(index, key);
    bool covered = source != NULL;
    while (covered && start < stop) {
        size_t place = region_place(source, start);
        covered = place < source->count && source->regions[place]->start <= start;
        if (covered)
            start = source->regions[place]->stop;
    }
    pthread_mutex_unlock(&index->lock);
    return covered;
}

int index_open(struct index *index, uint64_t number, uint64_t key)
{
    int failed = -1;
    pthread_mutex_lock(&index->lock);
    struct source *source = source_of(index, key);
    if (source && !handle_of(index, number) &&
        !grow((void **)&index->handles, index->handle_count, &index->handle_room, sizeof *index->handles)) {
        size_t place = handle_place(index, number);
        memmove(index->handles + place + 1, index->handles + place,
                (index->handle_count - place) * sizeof *index->handles);
        index->handles[place] = (struct handle){.number = number, .source = source};
        index->handle_count++;
        failed = 0;
    }
    pthread_mutex_unlock(&index->lock);
    return failed;
}

int index_close(struct index *index, uint64_t number, struct handle *last)
{
    pthread_mutex_lock(&index->lock);
    struct handle *handle = handle_of(index, number);
    if (handle) {
        *last = *handle;
        size_t place = (size_t)(handle - index->handles);
        memmove(handle, handle + 1, (index->handle_count - place - 1) * sizeof *handle);
        index->handle_count--;
    }
    pthread_mutex_unlock(&index->lock);
    return handle ? 0 : -1;
}

int index_look(struct index *index, uint64_t number, struct handle *found)
{
    pthread_mutex_lock(&index->lock);
    struct handle *handle = handle_of(index, number);
    if (handle)
        *found = *handle;
    pthread_mutex_unlock(&index->lock);
    return handle ? 0 : -1;
}

/* Returns the index in the plan of a copy of a stamp, -1 where there is no room. */
static int stamped(struct plan *plan, const struct stamp *stamp)
{
    for (size_t i = 0; i < plan->stamp_count; i++)
        if (plan->stamps[i].fd == stamp->fd)
            return (int)i;
    if (plan->stamp_count == MOST_STAMPS)
        return -1;
    plan->stamps[plan->stamp_count] = *stamp;
    return (int)plan->stamp_count++;
}

static bool stamp_all(struct plan *plan, const struct source *source)
{
    for (size_t i = 0; i < source->stamp_count; i++)
        if (stamped(plan, source->stamps + i) < 0)
            return false;
    return true;
}

/* Adds a piece to a plan, to the last part where it goes on there. */
static bool add_part(struct plan *plan, const struct source *source, int16_t file, int64_t host, size_t at, size_t length)
{
    int stamp = stamped(plan, source->stamps + file);
    if (stamp < 0)
        return false;
    plan->reading += length;
    if (plan->part_count) {
        struct part *last = plan->parts + plan->part_count - 1;
        if (last->stamp == stamp && last->host + (int64_t)last->length == host && last->at + last->length == at) {
            last->length += length;
            return true;
        }
    }
    if (plan->part_count == MOST_PARTS)
        return false;
    plan->parts[plan->part_count++] =
        (struct part){.at = at, .length = length, .host = host, .fd = source->stamps[file].fd, .stamp = stamp};
    return true;
}

/* Plans [filled, stop) of what the pieces of a region make up; its bytes go to `done` of the buffer. */
static bool plan_pieces(struct plan *plan, const struct region *region, int64_t filled, int64_t stop, char *buffer, size_t done)
{
    const struct pieces *pieces = &region->pieces;
    size_t place = piece_place(pieces, filled);
    while (filled < stop && place < pieces->count && pieces->out[place] < stop) {
        int64_t low = pieces->out[place] > filled ? pieces->out[place] : filled;
        int64_t high = pieces->stop[place] < stop ? pieces->stop[place] : stop;
        size_t length = (size_t)(high - low);
        memset(buffer + done, 0, (size_t)(low - filled));
        done += (size_t)(low - filled);
        if (pieces->kind[place] == ONES) {
            memset(buffer + done, 0xFF, length);
        } else {
            int64_t host = pieces->host[place] + (low - pieces->out[place]);
            if (pieces->kind[place] != DATA ||
                !add_part(plan, region->source, pieces->file[place], host, done, length))
                return false;
        }
        done += length;
        filled = high;
        place++;
    }
    if (filled < stop)
        memset(buffer + done, 0, (size_t)(stop - filled));
    return true;
}

/* Copies what lies in [low, high) of `length` bytes that stand at `at` of a frame; to: where byte `low` goes. */
static void copy_within(char *to, int64_t low, int64_t high, int64_t at, const char *bytes, int64_t length)
{
    int64_t from = at > low ? at : low, stop = at + length < high ? at + length : high;
    if (from < stop)
        memcpy(to + (from - low), bytes + (from - at), (size_t)(stop - from));
}

/* Puts the number of frame `index` where it stands; returns false where nothing tells it. */
static bool plan_number(const struct region *region, int64_t index, int64_t low, int64_t high, char *to)
{
    const struct pieces *pieces = &region->pieces;
    int64_t carried = index * region->frame->payload;
    size_t place = piece_place(pieces, carried);
    if (place == pieces->count || pieces->out[place] >= carried + region->frame->payload)
        return false;
    uint64_t sector = ((uint64_t)pieces->guest[place] + (uint64_t)carried - (uint64_t)pieces->out[place]) / SECTOR;
    char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(sector >> 8 * i);
    copy_within(to, low, high, region->frame->number_at, bytes, 8);
    return true;
}

/* Takes note of the sum of a frame of which [low, high) is planned; returns false where its payload is not in that. */
static bool plan_sum(struct plan *plan, const struct frame *frame, int64_t low, int64_t high, size_t done)
{
    if (low > frame->runs[0].start || plan->sum_count == MOST_SUMS)
        return false;
    struct sum *sum = plan->sums + plan->sum_count++;
    sum->at = done + (size_t)(frame->sum_at - low);
    sum->length = high - frame->sum_at < 4 ? (size_t)(high - frame->sum_at) : 4;
    sum->span_count = frame->run_count;
    for (size_t i = 0; i < frame->run_count; i++) {
        sum->span_at[i] = done + (size_t)(frame->runs[i].start - low);
        sum->span_length[i] = (size_t)(frame->runs[i].stop - frame->runs[i].start);
    }
    return true;
}

/* Plans [low, high) of frame `index` of a region. */
static bool plan_frame(struct plan *plan, const struct region *region, int64_t index, int64_t low, int64_t high, char *buffer,
                       size_t done)
{
    const struct frame *frame = region->frame;
    int64_t filled = low, carried = index * frame->payload;
    char *to = buffer + done;
    for (size_t i = 0; i < frame->run_count; i++) {
        const struct run *run = frame->runs + i;
        int64_t from = run->start > low ? run->start : low, stop = run->stop < high ? run->stop : high;
        if (from < stop) {
            memset(to + (filled - low), 0, (size_t)(from - filled));
            if (!plan_pieces(plan, region, carried + from - run->start, carried + stop - run->start, buffer,
                             done + (size_t)(from - low)))
                return false;
            filled = stop;
        }
        carried += run->stop - run->start;
    }
    memset(to + (filled - low), 0, (size_t)(high - filled));
    for (size_t i = 0; i < frame->literal_count; i++)
        copy_within(to, low, high, frame->literals[i].at, frame->literals[i].bytes, (int64_t)frame->literals[i].length);
    if (frame->number_at >= 0 && low < frame->number_at + 8 && high > frame->number_at &&
        !plan_number(region, index, low, high, to))
        return false;
    return frame->sum_at < 0 || low >= frame->sum_at + 4 || high <= frame->sum_at || plan_sum(plan, frame, low, high, done);
}

/* Plans [at, end) of one region, all within it; buffer: what is at hand goes to `done` of it. */
static bool plan_region(struct plan *plan, struct region *region, int64_t at, int64_t end, char *buffer, size_t done)
{
    const struct source *source = region->source;
    size_t before = plan->reading;
    if (region->data) {
        memcpy(buffer + done, region->data + (at - region->start), (size_t)(end - at));
        return stamp_all(plan, source);
    }
    if (!region->frame && !plan_pieces(plan, region, at - region->start, end - region->start, buffer, done))
        return false;
    while (region->frame && at < end) {
        int64_t size = region->frame->size, index = (at - region->start) / size, low = (at - region->start) % size;
        int64_t high = end - at < size - low ? low + (end - at) : size;
        if (!plan_frame(plan, region, index, low, high, buffer, done))
            return false;
        done += (size_t)(high - low);
        at += high - low;
    }
    return plan->reading > before || stamp_all(plan, source);
}

/* Returns from where on a region has to be read for [at, end) of it: a sum takes what it is of. */
static int64_t reading_from(const struct region *region, int64_t at, int64_t end)
{
    const struct frame *frame = region->frame;
    if (!frame || frame->sum_at < 0)
        return at;
    int64_t low = (at - region->start) % frame->size, first = frame->runs[0].start;
    return low > first && low < frame->sum_at + 4 && end - at > frame->sum_at - low ? at - (low - first) : at;
}

static bool plan_read(struct index *index, struct plan *plan, struct source *source, uint64_t offset, size_t size, char *buffer)
{
    plan->source = source;
    plan->lead = plan->length = plan->reading = plan->part_count = plan->stamp_count = plan->sum_count = 0;
    if (offset >= (uint64_t)source->size)
        return stamp_all(plan, source);
    int64_t begin = (int64_t)offset, left = source->size - begin, at = begin;
    plan->length = (uint64_t)left < size ? (size_t)left : size;
    int64_t end = at + (int64_t)plan->length;
    while (at < end) {
        size_t place = region_place(source, at);
        if (place == source->count || source->regions[place]->start > at)
            return false;
        struct region *region = source->regions[place];
        int64_t stop = region->stop < end ? region->stop : end;
        if (at == begin) {
            begin = at = reading_from(region, at, stop);
            plan->lead = (size_t)((int64_t)offset - begin);
        }
        if (!plan_region(plan, region, at, stop, buffer, (size_t)(at - begin)))
            return false;
        region->used = ++index->clock;
        at = stop;
    }
    return true;
}

bool index_plan(struct index *index, uint64_t number, uint64_t offset, size_t size, char *buffer, struct plan *plan)
{
    pthread_mutex_lock(&index->lock);
    struct handle *handle = handle_of(index, number);
    bool planned = handle && plan_read(index, plan, handle->source, offset, size, buffer);
    if (planned)
        handle->source->busy++;
    pthread_mutex_unlock(&index->lock);
    return planned;
}

/* Returns where data, or a hole, begin in a region at or behind `at`, which lies in it; its end if none do. */
static int64_t seek_region(const struct region *region, int64_t at, bool hole)
{
    const struct pieces *pieces = &region->pieces;
    int64_t place = at - region->start;
    size_t next = piece_place(pieces, place);
    if (!hole)
        return next == pieces->count            ? region->stop
               : pieces->out[next] > place ? region->start + pieces->out[next]
                                           : at;
    while (next < pieces->count && pieces->out[next] <= place)
        place = pieces->stop[next++];
    return region->start + place;
}

static bool seek_in(struct source *source, int64_t at, bool hole, int64_t *found)
{
    while (at < source->size) {
        size_t place = region_place(source, at);
        if (place == source->count || source->regions[place]->start > at || source->regions[place]->data ||
            source->regions[place]->frame)
            return false;
        const struct region *region = source->regions[place];
        at = seek_region(region, at, hole);
        if (at < region->stop)
            break;
    }
    *found = at;
    return hole || at < source->size; /* that nothing follows, Python says */
}

bool index_seek(struct index *index, uint64_t number, uint64_t offset, bool hole, struct plan *plan, int64_t *found)
{
    pthread_mutex_lock(&index->lock);
    struct handle *handle = handle_of(index, number);
    struct source *source = handle ? handle->source : NULL;
    plan->lead = plan->length = plan->reading = plan->part_count = plan->stamp_count = plan->sum_count = 0;
    plan->source = source;
    bool known = source && source->has_holes && offset < (uint64_t)source->size &&
                 seek_in(source, (int64_t)offset, hole, found) && stamp_all(plan, source);
    if (known)
        source->busy++;
    pthread_mutex_unlock(&index->lock);
    return known;
}

void index_done(struct index *index, struct plan *plan, uint64_t number, uint64_t offset, bool served)
{
    pthread_mutex_lock(&index->lock);
    struct handle *handle = handle_of(index, number);
    if (handle && handle->source == plan->source && served) {
        handle->reads++;
        handle->bytes += plan->length;
        handle->position = (int64_t)(offset + plan->length);
    }
    if (!--plan->source->busy)
        pthread_cond_broadcast(&index->idle);
    pthread_mutex_unlock(&index->lock);
}
