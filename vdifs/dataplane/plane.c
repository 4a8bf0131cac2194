#define _GNU_SOURCE
#include "plane.h"

#include "adler32.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    LARGE = 128 << 10,  /* a read from that size on is worth a second thread */
    SPIN_NS = 25000,    /* so long a thread looks for the next request before it sleeps, while they come that fast */
    PROMPT_NS = 100000, /* one that came that soon after a thread fell asleep shows that they do */
    MOST_ASKS = 1 << 16,
    MOST_AT_ONCE = 64, /* parts of a file that are read by one system call */
};

/* What a serving thread has of its own. */
struct server {
    char request[MOST_REQUEST];
    char answer[MOST_READ + MOST_SUMMED];
    struct plan plan;
    bool reads; /* whether the last request was one that a thread of its kind answers */
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void signal_event(int descriptor)
{
    uint64_t one = 1;
    while (write(descriptor, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

/* Says that the kernel has ended the connection. */
static void note_end(struct plane *plane)
{
    if (!atomic_exchange(&plane->ended, true)) {
        signal_event(plane->asked);
        signal_event(plane->stop);
        pthread_mutex_lock(&plane->lock);
        pthread_cond_broadcast(&plane->help);
        pthread_mutex_unlock(&plane->lock);
    }
}

/* Writes an answer or a notification to the kernel. Returns an errno: ENOENT where nothing waits for it any more. */
static int send_to_kernel(struct plane *plane, int32_t error, uint64_t unique, const void *data, size_t length)
{
    struct fuse_out_header header = {.len = (uint32_t)(sizeof header + length), .error = error, .unique = unique};
    struct iovec parts[2] = {{&header, sizeof header}, {(void *)data, length}};
    while (writev(plane->device, parts, length ? 2 : 1) < 0) {
        if (errno == EINTR)
            continue;
        if (errno == ENODEV)
            note_end(plane);
        return errno;
    }
    return 0;
}

/* Answers a request that cannot be handed on. */
static void refuse(struct plane *plane, uint64_t unique)
{
    if (unique)
        send_to_kernel(plane, -EIO, unique, NULL, 0);
}

/* Keeps the device open for a thread of Python; returns false once it is to be closed. */
static bool hold_device(struct plane *plane)
{
    pthread_mutex_lock(&plane->lock);
    bool held = !plane->device_over;
    plane->device_users += held;
    pthread_mutex_unlock(&plane->lock);
    return held;
}

static void let_go_of_device(struct plane *plane)
{
    pthread_mutex_lock(&plane->lock);
    if (!--plane->device_users && plane->device_over)
        close(plane->device);
    pthread_mutex_unlock(&plane->lock);
}

static void close_device(struct plane *plane)
{
    pthread_mutex_lock(&plane->lock);
    if (!plane->device_over && !plane->device_users)
        close(plane->device);
    plane->device_over = true;
    pthread_mutex_unlock(&plane->lock);
}

int plane_invalidate(struct plane *plane, uint64_t inode)
{
    struct fuse_notify_inval_inode_out told = {.ino = inode, .off = 0, .len = 0};
    if (!hold_device(plane))
        return ENODEV;
    int error = send_to_kernel(plane, FUSE_NOTIFY_INVAL_INODE, 0, &told, sizeof told);
    let_go_of_device(plane);
    return error;
}

/* Asks Python. */
static void ask(struct plane *plane, const struct request *request)
{
    bool first = false, failed = false;
    pthread_mutex_lock(&plane->lock);
    if (plane->ask_count == plane->ask_room) {
        size_t room = plane->ask_room ? 2 * plane->ask_room : 64;
        struct ask *more = room > MOST_ASKS ? NULL : realloc(plane->asks, room * sizeof *more);
        if (more) {
            plane->asks = more;
            plane->ask_room = room;
        }
        failed = !more;
    }
    if (!failed) {
        first = true;
        for (size_t i = plane->ask_count; first && i-- > 0;)
            first = plane->asks[i].taken;
        plane->asks[plane->ask_count++] = (struct ask){.unique = request->unique,
                                                       .inode = request->inode,
                                                       .handle = request->handle,
                                                       .offset = request->offset,
                                                       .size = request->size,
                                                       .seek = request->kind == SEEK};
    }
    pthread_mutex_unlock(&plane->lock);
    if (failed)
        send_to_kernel(plane, -ENOMEM, request->unique, NULL, 0);
    else if (first)
        signal_event(plane->asked);
}

size_t plane_take(struct plane *plane, struct ask *taken, size_t most)
{
    uint64_t events;
    while (read(plane->asked, &events, sizeof events) < 0 && errno == EINTR)
        ;
    size_t count = 0;
    bool more = false;
    pthread_mutex_lock(&plane->lock);
    for (size_t i = 0; i < plane->ask_count; i++) {
        if (plane->asks[i].taken)
            continue;
        more = count == most;
        if (more)
            break;
        plane->asks[i].taken = true;
        taken[count++] = plane->asks[i];
    }
    pthread_mutex_unlock(&plane->lock);
    if (more || atomic_load(&plane->ended))
        signal_event(plane->asked);
    return count;
}

/* Forgets a request; returns whether it was there. only_waiting: unless Python has it already. */
static bool forget(struct plane *plane, uint64_t unique, bool only_waiting, bool *known)
{
    bool found = false;
    *known = false;
    pthread_mutex_lock(&plane->lock);
    for (size_t i = 0; i < plane->ask_count; i++) {
        if (plane->asks[i].unique != unique)
            continue;
        *known = true;
        found = !(only_waiting && plane->asks[i].taken);
        if (found) {
            memmove(plane->asks + i, plane->asks + i + 1, (plane->ask_count - i - 1) * sizeof *plane->asks);
            plane->ask_count--;
        }
        break;
    }
    pthread_mutex_unlock(&plane->lock);
    return found;
}

int plane_answer(struct plane *plane, uint64_t unique, int error, const void *data, size_t length)
{
    bool known;
    if (!hold_device(plane))
        return ENODEV;
    int failed = ENOENT;
    if (forget(plane, unique, false, &known))
        failed = send_to_kernel(plane, -error, unique, data, error ? 0 : length);
    let_go_of_device(plane);
    return failed;
}

/* Answers or drops an INTERRUPT; returns false for one about a request that libfuse has. */
static bool interrupt(struct plane *plane, const struct request *request)
{
    bool known;
    if (forget(plane, request->target, true, &known))
        send_to_kernel(plane, -EINTR, request->target, NULL, 0);
    return known;
}

/* Returns nanoseconds modulo 2**64: a file system may have years that they do not reach. */
static int64_t in_ns(const struct timespec *time)
{
    return (int64_t)((uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec);
}

static bool is_as_stamped(const struct stamp *stamp)
{
    struct stat now;
    return !fstat(stamp->fd, &now) && now.st_size == stamp->size &&
           in_ns(&now.st_mtim) == stamp->mtime_ns && in_ns(&now.st_ctim) == stamp->ctime_ns;
}

/* Reads parts of a plan, from the one of that index on, that lie in one file, one behind the other, however they lie in the
 * buffer. Returns how many, 0 where Python has to do it. */
static size_t read_parts(const struct plan *plan, size_t first, char *buffer)
{
    struct iovec to[MOST_AT_ONCE];
    const struct part *parts = plan->parts + first;
    int64_t length = 0;
    size_t count = 0;
    while (count < MOST_AT_ONCE && first + count < plan->part_count && parts[count].stamp == parts->stamp &&
           parts[count].host - parts->host == length) {
        to[count] = (struct iovec){buffer + parts[count].at, parts[count].length};
        length += (int64_t)parts[count++].length;
    }
    ssize_t done = preadv2(parts->fd, to, (int)count, parts->host, RWF_NOWAIT);
    if (done < 0)
        return 0;
    int64_t there = plan->stamps[parts->stamp].size - parts->host;
    if (done < length && (there >= length || done != (there < 0 ? 0 : there)))
        return 0;
    for (size_t i = 0; i < count; i++) { /* zeros follow the end of a file */
        size_t filled = (size_t)done < to[i].iov_len ? (size_t)done : to[i].iov_len;
        memset((char *)to[i].iov_base + filled, 0, to[i].iov_len - filled);
        done -= (ssize_t)filled;
    }
    return count;
}

/* Works out the sums of a plan whose parts are read. */
static void add_up(const struct plan *plan, char *buffer)
{
    for (size_t i = 0; i < plan->sum_count; i++) {
        const struct sum *sum = plan->sums + i;
        uint32_t value = 1;
        for (size_t j = 0; j < sum->span_count; j++)
            value = adler32_add(value, buffer + sum->span_at[j], sum->span_length[j]);
        for (size_t j = 0; j < sum->length; j++)
            buffer[sum->at + j] = (char)(value >> 8 * (3 - j));
    }
}

/* Reads the parts of a plan as far as they are in the page cache, and looks behind them whether the files are the same.
 * Returns false where Python has to do it. */
static bool carry_out(const struct plan *plan, char *buffer)
{
    for (size_t i = 0, count; i < plan->part_count; i += count) {
        count = read_parts(plan, i, buffer);
        if (!count)
            return false;
    }
    for (size_t i = 0; i < plan->stamp_count; i++)
        if (!is_as_stamped(plan->stamps + i))
            return false;
    add_up(plan, buffer);
    return true;
}

/* Wakes the second thread if more requests wait. */
static void call_for_help(struct plane *plane)
{
    struct pollfd device = {plane->device, POLLIN, 0};
    if (poll(&device, 1, 0) < 1)
        return;
    pthread_mutex_lock(&plane->lock);
    if (!plane->helping) {
        plane->helping = true;
        pthread_cond_signal(&plane->help);
    }
    pthread_mutex_unlock(&plane->lock);
}

static void serve(struct plane *plane, struct server *own, const struct request *request)
{
    if (!plane->serves || request->size > MOST_READ ||
        !index_plan(&plane->index, request->handle, request->offset, request->size, own->answer, &own->plan)) {
        ask(plane, request);
        return;
    }
    if (request->size >= LARGE)
        call_for_help(plane);
    bool served = carry_out(&own->plan, own->answer);
    size_t length = own->plan.length;
    if (served) /* counted before it is answered, so that who has read it finds it counted */
        atomic_fetch_add(&plane->served, 1), atomic_fetch_add(&plane->served_bytes, length);
    index_done(&plane->index, &own->plan, request->handle, request->offset, served);
    if (served)
        send_to_kernel(plane, 0, request->unique, own->answer + own->plan.lead, length);
    else
        ask(plane, request);
}

/* Sends a packet to libfuse. Returns an errno: EAGAIN where there is no room for it yet. */
static int send_to_libfuse(struct plane *plane, const char *packet, size_t length)
{
    if (send(plane->socket, packet, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return 0;
    return errno == EINTR || errno == ENOBUFS ? EAGAIN : errno;
}

static void seek(struct plane *plane, struct server *own, const struct request *request)
{
    struct fuse_lseek_out found = {0};
    int64_t at;
    bool hole = request->size == SEEK_HOLE;
    if (!plane->serves || (request->size != SEEK_DATA && !hole) ||
        !index_seek(&plane->index, request->handle, request->offset, hole, &own->plan, &at)) {
        ask(plane, request);
        return;
    }
    bool stands = carry_out(&own->plan, own->answer);
    index_done(&plane->index, &own->plan, request->handle, request->offset, false);
    found.offset = (uint64_t)at;
    if (stands)
        send_to_kernel(plane, 0, request->unique, &found, sizeof found);
    else
        ask(plane, request);
}

/* Hands packets on to libfuse that wait for room; with `pass_lock`. Returns false where there is none yet. */
static bool pass_waiting(struct plane *plane)
{
    while (plane->waiting) {
        struct packet *first = plane->waiting;
        int failed = send_to_libfuse(plane, first->bytes, first->length);
        if (failed == EAGAIN)
            return false;
        if (failed)
            refuse(plane, first->unique);
        plane->waiting = first->next;
        if (!plane->waiting)
            plane->last_waiting = &plane->waiting;
        free(first);
    }
    return true;
}

/* Hands a packet on to libfuse, in order; where its socket is full, later. */
static void pass(struct plane *plane, const char *packet, size_t length, uint64_t unique)
{
    pthread_mutex_lock(&plane->pass_lock);
    int failed = pass_waiting(plane) ? send_to_libfuse(plane, packet, length) : EAGAIN;
    if (failed == EAGAIN) {
        struct packet *kept = malloc(sizeof *kept + length);
        if (kept) {
            failed = 0;
            kept->next = NULL;
            kept->unique = unique;
            kept->length = length;
            memcpy(kept->bytes, packet, length);
            *plane->last_waiting = kept;
            plane->last_waiting = &kept->next;
        }
    }
    pthread_mutex_unlock(&plane->pass_lock);
    if (failed)
        refuse(plane, unique);
}

static void pass_in_parts(struct plane *plane, const char *packet, size_t length, uint64_t unique)
{
    char part[MOST_FORGETS];
    for (size_t at = 0, size; (size = forgets_part(packet, length, &at, part));)
        pass(plane, part, size, unique);
}

static void handle_packet(struct plane *plane, struct server *own, size_t length)
{
    struct request request = parse_request(own->request, length);
    own->reads = request.kind == READ || request.kind == SEEK;
    switch (request.kind) {
    case READ:
        serve(plane, own, &request);
        break;
    case SEEK:
        seek(plane, own, &request);
        break;
    case INTERRUPT:
        if (!interrupt(plane, &request))
            pass(plane, own->request, length, request.unique);
        break;
    case INIT:
        atomic_store(&plane->init, request.unique);
        pass(plane, own->request, length, request.unique);
        break;
    case PASS:
        pass(plane, own->request, length, request.unique);
        break;
    case ABSENT:
        if (plane->serves)
            send_to_kernel(plane, -ENODATA, request.unique, NULL, 0);
        else
            pass(plane, own->request, length, request.unique);
        break;
    case FORGETS:
        pass_in_parts(plane, own->request, length, request.unique);
        break;
    case MALFORMED:
        refuse(plane, request.unique);
        break;
    }
}

static bool is_over(struct plane *plane)
{
    return atomic_load(&plane->stopping) || atomic_load(&plane->ended);
}

/* Takes one request if there is any, and answers it or hands it on. Returns 0 where there is none. */
static bool take_one(struct plane *plane, struct server *own)
{
    ssize_t length = read(plane->device, own->request, sizeof own->request);
    if (length > 0) {
        handle_packet(plane, own, (size_t)length);
        return true;
    }
    if (length == 0 || errno == ENODEV || errno == EBADF)
        note_end(plane);
    return length < 0 && (errno == ENOENT || errno == EINTR); /* ENOENT: it was withdrawn; the next may be there */
}

/* Sleeps until a request comes, or libfuse has room for those that wait for it, or the end. */
static void sleep_until_asked(struct plane *plane)
{
    pthread_mutex_lock(&plane->pass_lock);
    bool full = plane->waiting != NULL;
    pthread_mutex_unlock(&plane->pass_lock);
    struct pollfd events[3] = {{plane->device, POLLIN, 0}, {plane->stop, POLLIN, 0}, {plane->socket, POLLOUT, 0}};
    if (poll(events, full ? 3 : 2, -1) < 0)
        return;
    if (events[0].revents & (POLLERR | POLLHUP | POLLNVAL)) /* the connection is gone */
        note_end(plane);
    if (full && events[2].revents) {
        pthread_mutex_lock(&plane->pass_lock);
        pass_waiting(plane);
        pthread_mutex_unlock(&plane->pass_lock);
    }
}

static void *serving(void *argument)
{
    struct plane *plane = argument;
    struct server *own = malloc(sizeof *own);
    bool prompt = false;
    int64_t asleep = 0;
    if (!own)
        note_end(plane);
    while (!is_over(plane)) {
        if (take_one(plane, own)) {
            if (asleep || !own->reads) /* for what Python answers it needs the processor */
                prompt = own->reads && now_ns() - asleep < PROMPT_NS;
            asleep = 0;
            continue;
        }
        int64_t begun = now_ns();
        bool came = false;
        while (prompt && !came && now_ns() - begun < SPIN_NS)
            came = take_one(plane, own);
        if (came || is_over(plane))
            continue;
        asleep = now_ns();
        sleep_until_asked(plane);
    }
    free(own);
    return NULL;
}

static void *helping(void *argument)
{
    struct plane *plane = argument;
    struct server *own = malloc(sizeof *own);
    while (own && !is_over(plane)) {
        pthread_mutex_lock(&plane->lock);
        while (!plane->helping && !is_over(plane))
            pthread_cond_wait(&plane->help, &plane->lock);
        pthread_mutex_unlock(&plane->lock);
        while (!is_over(plane) && take_one(plane, own))
            continue;
        pthread_mutex_lock(&plane->lock);
        plane->helping = false;
        pthread_mutex_unlock(&plane->lock);
    }
    free(own);
    return NULL;
}

static bool answers_init(struct plane *plane, const char *packet, size_t length)
{
    struct fuse_out_header header = {0};
    if (length >= sizeof header)
        memcpy(&header, packet, sizeof header);
    return header.unique && !header.error && header.unique == atomic_load(&plane->init);
}

static void *carrying(void *argument)
{
    struct plane *plane = argument;
    char *packet = malloc(MOST_REQUEST);
    while (packet && !atomic_load(&plane->stopping)) {
        struct pollfd events[2] = {{plane->socket, POLLIN, 0}, {plane->stop, POLLIN, 0}};
        ssize_t length = recv(plane->socket, packet, MOST_REQUEST, MSG_DONTWAIT);
        if (length < 0 && errno == EAGAIN) {
            poll(events, 2, -1);
            if (!events[0].revents && atomic_load(&plane->ended))
                break;
            continue;
        }
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0)
            break;
        if (answers_init(plane, packet, (size_t)length))
            change_init_answer(packet, (size_t)length, (size_t)sysconf(_SC_PAGESIZE));
        while (write(plane->device, packet, (size_t)length) < 0)
            if (errno == ENODEV) {
                note_end(plane);
                break;
            } else if (errno != EINTR)
                break; /* ENOENT: nothing waits for it any more */
    }
    free(packet);
    if (!atomic_load(&plane->stopping))
        note_end(plane);
    return NULL;
}

int plane_begin(struct plane *plane, int device, int socket, size_t most, bool serves)
{
    memset(plane, 0, sizeof *plane);
    plane->device = device;
    plane->socket = socket;
    plane->serves = serves;
    plane->last_waiting = &plane->waiting;
    plane->asked = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    plane->stop = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (plane->asked < 0 || plane->stop < 0 || index_begin(&plane->index, most) ||
        pthread_mutex_init(&plane->lock, NULL) || pthread_mutex_init(&plane->pass_lock, NULL) ||
        pthread_mutex_init(&plane->thread_lock, NULL) ||
        pthread_cond_init(&plane->help, NULL))
        return errno ? errno : ENOMEM;
    return 0;
}

int plane_start(struct plane *plane)
{
    static void *(*const tasks[])(void *) = {serving, helping, carrying};
    sigset_t all, before;
    pthread_mutex_lock(&plane->thread_lock);
    int failed = plane->thread_count ? EALREADY : atomic_load(&plane->stopping) ? ENODEV : 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are Python's */
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks && !failed; i++) {
        failed = pthread_create(plane->threads + i, NULL, tasks[i], plane);
        plane->thread_count += !failed;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_mutex_unlock(&plane->thread_lock);
    return failed;
}

void plane_stop(struct plane *plane)
{
    if (!atomic_exchange(&plane->stopping, true)) {
        signal_event(plane->stop);
        pthread_mutex_lock(&plane->lock);
        pthread_cond_broadcast(&plane->help);
        pthread_mutex_unlock(&plane->lock);
    }
    pthread_mutex_lock(&plane->thread_lock);
    while (plane->thread_count)
        pthread_join(plane->threads[--plane->thread_count], NULL);
    pthread_mutex_unlock(&plane->thread_lock);
    close_device(plane);
}

void plane_end(struct plane *plane)
{
    plane_stop(plane);
    close(plane->socket);
    close(plane->asked);
    close(plane->stop);
    while (plane->waiting) {
        struct packet *next = plane->waiting->next;
        free(plane->waiting);
        plane->waiting = next;
    }
    free(plane->asks);
    index_end(&plane->index);
    pthread_mutex_destroy(&plane->lock);
    pthread_mutex_destroy(&plane->pass_lock);
    pthread_mutex_destroy(&plane->thread_lock);
    pthread_cond_destroy(&plane->help);
}
