/* Fuzzes framed regions: frames of any form, sound or not, and reads of them held against a naive model, byte by byte.
 *
 * One input is one region, and some reads. A byte that the model does not know, as it comes from packed data, or from a
 * frame without pieces, must be left to Python; all others must not. Buffers have just the size that they need. */
#include <string.h>

#include "adler32.h"
#include "common.h"
#include "index.h"

enum { MOST_SIZE = 3000, MOST_FRAMES = 6, MOST_PIECES = 40, DATA = 2, PACKED = 3, KEY = 1, HANDLE = 1, FD = 10 };

static struct index tested;
static uint64_t state, number;
static struct plan plan;
static struct frame frame;
static int payload[MOST_FRAMES * MOST_SIZE], model[MOST_FRAMES * MOST_SIZE]; /* -1: not known */
static int64_t out[MOST_PIECES], stop[MOST_PIECES], host[MOST_PIECES], guest[MOST_PIECES];
static uint8_t kind[MOST_PIECES];
static int16_t file[MOST_PIECES];
static size_t count;

static int stored(int64_t at)
{
    return (int)(at % 251 + 1);
}

/* Makes up a frame that is sound. */
static void give_frame(void)
{
    int64_t at = (int64_t)below(&state, 40), gap;
    memset(&frame, 0, sizeof frame);
    frame.number_at = at >= 8 && below(&state, 2) ? (int64_t)below(&state, (uint64_t)at - 7) : -1;
    frame.run_count = 1 + below(&state, 2);
    for (size_t i = 0; i < frame.run_count; i++) {
        frame.runs[i] = (struct run){at, at + 1 + (int64_t)below(&state, below(&state, 2) ? 1000 : 3)};
        frame.payload += frame.runs[i].stop - frame.runs[i].start;
        gap = (int64_t)below(&state, 9);
        at = frame.runs[i].stop + gap;
        if (gap && frame.literal_count < 2) {
            struct literal *literal = frame.literals + frame.literal_count++;
            *literal = (struct literal){.at = frame.runs[i].stop, .length = 1 + below(&state, (uint64_t)gap)};
            memset(literal->bytes, 'a', literal->length);
        }
    }
    frame.sum_at = below(&state, 3) ? at : -1;
    frame.size = at + (frame.sum_at >= 0 ? 4 : 0) + (int64_t)below(&state, 30);
}

/* Breaks one thing about it, as likely as not. */
static void break_frame(void)
{
    int64_t value = (int64_t)hostile(&state);
    switch (below(&state, 20)) {
    case 0: frame.size = value; break;
    case 1: frame.payload = value; break;
    case 2: frame.runs[0].start = value; break;
    case 3: frame.runs[frame.run_count - 1].stop = value; break;
    case 4: frame.number_at = value; break;
    case 5: frame.sum_at = value; break;
    case 6: frame.literals[0].at = value; break;
    default: break;
    }
}

static void give_pieces(int64_t length)
{
    int64_t at = 0;
    count = 0;
    while (count < MOST_PIECES) {
        out[count] = at + (below(&state, 3) ? 0 : (int64_t)below(&state, 300));
        stop[count] = out[count] + 1 + (int64_t)below(&state, 700);
        if (stop[count] > length)
            break;
        at = stop[count];
        host[count] = (int64_t)below(&state, 1 << 20);
        guest[count] = (int64_t)below(&state, 1 << 30);
        kind[count] = below(&state, 40) ? DATA : PACKED;
        count++;
    }
    memset(payload, 0, sizeof payload);
    for (size_t i = 0; i < count; i++)
        for (int64_t j = out[i]; j < stop[i]; j++)
            payload[j] = kind[i] == DATA ? stored(host[i] + (j - out[i])) : -1;
}

static void model_number(int64_t carried, int *one)
{
    size_t first = 0;
    while (first < count && stop[first] <= carried)
        first++;
    bool is_known = first < count && out[first] < carried + frame.payload;
    uint64_t sector = is_known ? (uint64_t)(guest[first] + carried - out[first]) / 512 : 0;
    for (int i = 0; i < 8; i++)
        one[frame.number_at + i] = is_known ? (int)(sector >> 8 * i & 0xff) : -1;
}

static void model_sum(int64_t carried, int *one)
{
    uint32_t a = 1, b = 0;
    bool is_known = true;
    for (int64_t i = 0; i < frame.payload; i++) {
        is_known = is_known && payload[carried + i] >= 0;
        a = (a + (uint32_t)payload[carried + i]) % 65521;
        b = (b + a) % 65521;
    }
    for (int i = 0; i < 4; i++)
        one[frame.sum_at + i] = is_known ? (int)((b << 16 | a) >> 8 * (3 - i) & 0xff) : -1;
}

static void give_model(int64_t frames)
{
    memset(model, 0, sizeof model);
    for (int64_t index = 0; index < frames; index++) {
        int *one = model + index * frame.size;
        int64_t carried = index * frame.payload;
        for (size_t i = 0; i < frame.literal_count; i++)
            for (size_t j = 0; j < frame.literals[i].length; j++)
                one[frame.literals[i].at + (int64_t)j] = 'a';
        for (size_t i = 0, at = 0; i < frame.run_count; i++)
            for (int64_t j = frame.runs[i].start; j < frame.runs[i].stop; j++)
                one[j] = payload[carried + (int64_t)at++];
        if (frame.number_at >= 0)
            model_number(carried, one);
        if (frame.sum_at >= 0)
            model_sum(carried, one);
    }
}

static void carry_out(char *buffer, size_t size)
{
    for (size_t i = 0; i < plan.part_count; i++) {
        const struct part *part = plan.parts + i;
        CHECK(part->fd == FD && part->length <= size && part->at <= size - part->length, number);
        for (size_t j = 0; j < part->length; j++)
            buffer[part->at + j] = (char)stored(part->host + (int64_t)j);
    }
    for (size_t i = 0; i < plan.sum_count; i++) {
        const struct sum *sum = plan.sums + i;
        uint32_t value = 1;
        for (size_t j = 0; j < sum->span_count; j++) {
            CHECK(sum->span_length[j] <= size && sum->span_at[j] <= size - sum->span_length[j], number);
            value = adler32_add(value, buffer + sum->span_at[j], sum->span_length[j]);
        }
        for (size_t j = 0; j < sum->length; j++)
            buffer[sum->at + j] = (char)(value >> 8 * (3 - j));
    }
}

static void read_some(int64_t start, int64_t length)
{
    int64_t at = (int64_t)below(&state, (uint64_t)length), size = 1 + (int64_t)below(&state, below(&state, 2) ? 20 : 4000);
    int64_t end = at + size < length ? at + size : length;
    size_t room = (size_t)(size + (frame.sum_at < 0 ? 0 : frame.size));
    char *buffer = malloc(room);
    CHECK(buffer, number);
    memset(buffer, 0x5a, room);
    bool possible = true, planned = index_plan(&tested, HANDLE, (uint64_t)(start + at), (size_t)size, buffer, &plan);
    for (int64_t i = at; i < end; i++)
        possible = possible && model[i] >= 0;
    CHECK(planned == possible, number);
    if (planned) {
        CHECK(plan.length == (size_t)(end - at) && plan.lead + plan.length <= room, number);
        carry_out(buffer, plan.lead + plan.length);
        for (int64_t i = at; i < end; i++)
            CHECK(model[i] == (unsigned char)buffer[(int64_t)plan.lead + i - at], number);
        index_done(&tested, &plan, HANDLE, (uint64_t)(start + at), true);
    }
    free(buffer);
}

int main(int argument_count, char **words)
{
    struct stamp stamp = {.fd = FD, .size = INT64_MAX};
    take_arguments(argument_count, words);
    state = seed;
    CHECK(!index_begin(&tested, 1 << 20), 0);
    for (; number < inputs; number++) {
        give_frame();
        CHECK(frame_is_sound(&frame), number);
        struct frame sound = frame;
        break_frame();
        frame_is_sound(&frame); /* whatever it says */
        frame = sound;
        int64_t frames = 1 + (int64_t)below(&state, MOST_FRAMES), start = (int64_t)below(&state, 5000);
        int64_t length = frames * frame.size - (int64_t)below(&state, (uint64_t)frame.size);
        give_pieces(frames * frame.payload);
        give_model(frames);
        struct region region = {.start = start, .stop = start + length, .cost = 1, .frame = &frame,
                                .pieces = {out, stop, host, kind, file, count, guest}};
        CHECK(!index_add(&tested, KEY, start + length, &stamp, 1, 1, true), number);
        CHECK(!index_publish(&tested, KEY, &region) && !index_open(&tested, HANDLE, KEY), number);
        for (int i = 0; i < 3; i++)
            read_some(start, length);
        int64_t found;
        CHECK(!index_seek(&tested, HANDLE, (uint64_t)start, false, &plan, &found), number);
        CHECK(index_withdraw(&tested, KEY) == &region, number);
    }
    index_end(&tested);
    printf("frames: %llu regions\n", (unsigned long long)inputs);
}
