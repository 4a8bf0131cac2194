/* The limit of what reading through FUSE can be: a server that shows one ordinary file and only preads it.
 *
 *     cc -O2 -o flat flat.c $(pkg-config --cflags --libs fuse3)
 *     flat FILE FOLDER THREADS
 *
 * FOLDER/disk then reads as FILE, until SIGTERM. With one thread, requests are answered in a single loop: best where they
 * come one after the other. With more, each has a device of its own: best where several wait, and each is large.
 */
#define FUSE_USE_VERSION 35
#define _FILE_OFFSET_BITS 64

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

enum { DISK = FUSE_ROOT_ID + 1 };

static const char NAME[] = "disk";
static const double FOR_EVER = 1e9; /* seconds that the kernel may keep names and attributes: nothing here changes */

static int file;
static struct stat shown[DISK + 1]; /* by inode number */

/* What takes no time to answer: names, attributes, and that the kernel keeps the pages that it has. */

static void answer_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    if (parent == FUSE_ROOT_ID && strcmp(name, NAME) == 0) {
        const struct fuse_entry_param found = {
            .ino = DISK, .attr = shown[DISK], .attr_timeout = FOR_EVER, .entry_timeout = FOR_EVER};
        fuse_reply_entry(request, &found);
    } else {
        fuse_reply_err(request, ENOENT);
    }
}

static void answer_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *handle)
{
    (void)handle;
    fuse_reply_attr(request, &shown[inode], FOR_EVER);
}

static void answer_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *handle)
{
    (void)inode;
    handle->keep_cache = 1;
    fuse_reply_open(request, handle);
}

/* What is measured. The buffer of a thread grows to the largest request that it has met. */

static void answer_read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *handle)
{
    static _Thread_local char *buffer;
    static _Thread_local size_t room;
    (void)inode, (void)handle;

    if (size > room) {
        char *larger = realloc(buffer, size);
        if (!larger) {
            fuse_reply_err(request, ENOMEM);
            return;
        }
        buffer = larger;
        room = size;
    }
    size_t filled = 0;
    while (filled < size) {
        ssize_t count = pread(file, buffer + filled, size - filled, offset + (off_t)filled);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            fuse_reply_err(request, errno);
            return;
        }
        if (count == 0)
            break;
        filled += (size_t)count;
    }
    fuse_reply_buf(request, buffer, filled);
}

/* Replies are copied to the device anyway, so requests need no pipe either. */
static void begin(void *unused, struct fuse_conn_info *connection)
{
    (void)unused;
    connection->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

static const struct fuse_lowlevel_ops ANSWERS = {
    .init = begin,
    .lookup = answer_lookup,
    .getattr = answer_getattr,
    .open = answer_open,
    .read = answer_read,
};

static int serve(struct fuse_session *session, const char *folder, unsigned threads)
{
    int status = 1;
    if (fuse_set_signal_handlers(session) == 0) {
        if (fuse_session_mount(session, folder) == 0) {
            struct fuse_loop_config several = {.clone_fd = 1, .max_idle_threads = threads};
            int ended = threads > 1 ? fuse_session_loop_mt(session, &several) : fuse_session_loop(session);
            status = ended < 0; /* a signal that ends it is a positive number */
            fuse_session_unmount(session);
        }
        fuse_remove_signal_handlers(session);
    }
    return status;
}

int main(int count, char **words)
{
    if (count != 4) {
        fprintf(stderr, "flat: FILE FOLDER THREADS were expected\n");
        return 2;
    }
    file = open(words[1], O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &shown[DISK]) != 0) {
        perror(words[1]);
        return 1;
    }
    shown[DISK].st_ino = DISK;
    shown[DISK].st_mode = S_IFREG | 0444;
    shown[FUSE_ROOT_ID].st_ino = FUSE_ROOT_ID;
    shown[FUSE_ROOT_ID].st_mode = S_IFDIR | 0555;
    shown[FUSE_ROOT_ID].st_nlink = 2;
    shown[FUSE_ROOT_ID].st_uid = getuid();
    shown[FUSE_ROOT_ID].st_gid = getgid();

    char *options[] = {words[0], "-o", "ro,fsname=flat", NULL};
    struct fuse_args arguments = FUSE_ARGS_INIT(3, options);
    struct fuse_session *session = fuse_session_new(&arguments, &ANSWERS, sizeof ANSWERS, NULL);
    if (!session)
        return 1;
    int status = serve(session, words[2], (unsigned)strtoul(words[3], NULL, 10));
    fuse_session_destroy(session);
    return status;
}
