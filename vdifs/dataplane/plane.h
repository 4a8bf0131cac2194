/* The threads between the kernel and libfuse.
 *
 *     /dev/fuse ==> serving thread ==> READ that is at hand: answered here
 *                     |      |
 *                     |      `------> other READ, LSEEK: a queue, from which Python takes, and answers past libfuse
 *                     `-------------> all else: the socket that libfuse takes for /dev/fuse
 *     /dev/fuse <== carrying thread <== what libfuse writes to the socket
 *
 * A second serving thread takes part while large reads wait. Nothing here knows of Python.
 */
#ifndef VDIFS_PLANE_H
#define VDIFS_PLANE_H

#include <pthread.h>
#include <stdatomic.h>

#include "index.h"
#include "wire.h"

struct ask {
    uint64_t unique, inode, handle, offset;
    uint32_t size;
    bool seek, taken;
};

struct packet {
    struct packet *next;
    uint64_t unique;
    size_t length;
    char bytes[];
};

struct plane {
    struct index index;
    int device, socket; /* /dev/fuse, not blocking; our end of the pair */
    int asked;          /* eventfd: there is something to take, or the end */
    int stop;           /* eventfd: end */
    bool serves;        /* whether reads are answered here at all */
    atomic_bool stopping, ended;
    atomic_ullong served, served_bytes;
    atomic_ullong init; /* the unique of INIT */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t help;
    bool helping;
    unsigned device_users; /* threads of Python that write to the device now; who leaves last closes it at the end */
    bool device_over;
    struct ask *asks; /* those that were not answered yet, in order */
    size_t ask_count, ask_room;

    struct packet *waiting, **last_waiting; /* for room in the socket; only of the serving threads, with `pass_lock` */
    pthread_mutex_t pass_lock;

    pthread_mutex_t thread_lock; /* of what follows; held while they are waited for */
    pthread_t threads[3];
    size_t thread_count;
};

/* Takes over device and socket, which `plane_end` closes. Returns an errno, 0 for success. Starts no thread. */
int plane_begin(struct plane *plane, int device, int socket, size_t most, bool serves);
/* Returns EALREADY where it has started, ENODEV where it has ended. */
int plane_start(struct plane *plane);
/* Ends the threads; those that read get ENOTCONN once the device is closed. */
void plane_stop(struct plane *plane);
void plane_end(struct plane *plane);

/* Copies up to `most` requests that were not taken yet and returns how many. */
size_t plane_take(struct plane *plane, struct ask *taken, size_t most);
/* Answers a request that was taken, by data or by an errno. Returns an errno of the answer itself. */
int plane_answer(struct plane *plane, uint64_t unique, int error, const void *data, size_t length);
/* Has the kernel drop the pages of an inode, and waits for that. Returns an errno. */
int plane_invalidate(struct plane *plane, uint64_t inode);

#endif
