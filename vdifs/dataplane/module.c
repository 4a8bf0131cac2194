/* The Python face of the data plane: the type Plane. See _core.pyi for what its methods promise. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>

#include "plane.h"

typedef struct {
    PyObject_HEAD
    struct plane plane;
    bool begun;
} Plane;

enum { MOST_ARRAYS = 6 };

/* What keeps the memory of a region. */
struct keep {
    Py_buffer buffers[MOST_ARRAYS];
    int count;
    struct frame *frame;
};

/* What a region takes besides the contents of its arrays: itself, what keeps them, an object for each. */
enum { REGION_COST = sizeof(struct region) + sizeof(struct keep) + MOST_ARRAYS * 112 };

static void release_keep(struct keep *keep)
{
    while (keep->count)
        PyBuffer_Release(keep->buffers + --keep->count);
    PyMem_Free(keep->frame);
    PyMem_Free(keep);
}

static void release_regions(struct region *dropped)
{
    while (dropped) {
        struct region *next = dropped->dropped;
        release_keep(dropped->keep);
        PyMem_Free(dropped);
        dropped = next;
    }
}

static PyObject *os_error(int error)
{
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static bool usable(Plane *self)
{
    if (!self->begun)
        PyErr_SetString(PyExc_ValueError, "the plane has not begun");
    return self->begun;
}

static int plane_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"device", "socket", "most", "serves", NULL};
    Plane *self = (Plane *)object;
    int device, socket, serves;
    Py_ssize_t most;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iinp:Plane", names, &device, &socket, &most, &serves))
        return -1;
    if (self->begun || most < 0) {
        PyErr_SetString(PyExc_ValueError, self->begun ? "the plane has begun already" : "most is negative");
        return -1;
    }
    int error = plane_begin(&self->plane, device, socket, (size_t)most, serves);
    if (error) {
        os_error(error);
        return -1;
    }
    self->begun = true;
    return 0;
}

static void plane_dealloc(PyObject *object)
{
    Plane *self = (Plane *)object;
    if (self->begun) {
        Py_BEGIN_ALLOW_THREADS
        plane_stop(&self->plane);
        Py_END_ALLOW_THREADS
        while (self->plane.index.source_count)
            release_regions(index_withdraw(&self->plane.index, self->plane.index.sources[0]->key));
        plane_end(&self->plane);
    }
    Py_TYPE(object)->tp_free(object);
}

static PyObject *plane_start_method(PyObject *object, PyObject *Py_UNUSED(none))
{
    Plane *self = (Plane *)object;
    if (!usable(self))
        return NULL;
    int error = plane_start(&self->plane);
    if (error)
        return os_error(error);
    Py_RETURN_NONE;
}

static PyObject *plane_stop_method(PyObject *object, PyObject *Py_UNUSED(none))
{
    Plane *self = (Plane *)object;
    if (!usable(self))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    plane_stop(&self->plane);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* Returns the stamps in a sequence of (fd, size, mtime_ns, ctime_ns), NULL with an exception set. */
static struct stamp *stamps_of(PyObject *sequence, size_t *count)
{
    PyObject *fast = PySequence_Fast(sequence, "stamps: a sequence of tuples was expected");
    if (!fast)
        return NULL;
    Py_ssize_t length = PySequence_Fast_GET_SIZE(fast);
    struct stamp *stamps = PyMem_Calloc(length ? (size_t)length : 1, sizeof *stamps);
    for (Py_ssize_t i = 0; stamps && i < length; i++) {
        int fd;
        long long size;
        unsigned long long mtime, ctime; /* modulo 2**64, as plane.c has them */
        if (!PyArg_ParseTuple(PySequence_Fast_GET_ITEM(fast, i), "iLKK", &fd, &size, &mtime, &ctime)) {
            PyMem_Free(stamps);
            Py_DECREF(fast);
            return NULL;
        }
        stamps[i] = (struct stamp){.fd = fd, .size = size, .mtime_ns = (int64_t)mtime, .ctime_ns = (int64_t)ctime};
    }
    Py_DECREF(fast);
    if (!stamps)
        PyErr_NoMemory();
    *count = (size_t)length;
    return stamps;
}

static PyObject *add_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long key;
    long long size;
    PyObject *sequence;
    Py_ssize_t data_files;
    int has_holes = 0;
    size_t count;
    if (!PyArg_ParseTuple(args, "KLOn|p:add", &key, &size, &sequence, &data_files, &has_holes) || !usable(self))
        return NULL;
    struct stamp *stamps = stamps_of(sequence, &count);
    if (!stamps)
        return NULL;
    bool sound = size >= 0 && data_files >= 0 && (size_t)data_files <= count;
    int failed = !sound || index_add(&self->plane.index, key, size, stamps, count, (size_t)data_files, has_holes);
    PyMem_Free(stamps);
    if (failed) {
        PyErr_SetString(PyExc_ValueError, "the source is there already, or its size or its files are none");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *restamp_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long key;
    PyObject *sequence;
    size_t count;
    if (!PyArg_ParseTuple(args, "KO:restamp", &key, &sequence) || !usable(self))
        return NULL;
    struct stamp *stamps = stamps_of(sequence, &count);
    if (!stamps)
        return NULL;
    int failed = index_restamp(&self->plane.index, key, stamps, count);
    PyMem_Free(stamps);
    return PyBool_FromLong(!failed);
}

static PyObject *withdraw_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long key;
    struct region *dropped;
    if (!PyArg_ParseTuple(args, "K:withdraw", &key) || !usable(self))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    dropped = index_withdraw(&self->plane.index, key);
    Py_END_ALLOW_THREADS
    release_regions(dropped);
    Py_RETURN_NONE;
}

/* Adds the buffer of an object to `keep`; returns its items, NULL with an exception set. formats: those that it may have,
 * as the module struct has them, all of one size. */
static const void *buffer_of(struct keep *keep, PyObject *object, const char *formats, size_t item, size_t *count)
{
    Py_buffer *buffer = keep->buffers + keep->count;
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return NULL;
    keep->count++;
    *count = (size_t)buffer->len / item;
    const char *format = buffer->format ? buffer->format : "B";
    if ((size_t)buffer->itemsize != item || !*format || format[1] || !strchr(formats, *format)) {
        PyErr_Format(PyExc_ValueError, "an array of '%s' was given: '%s' was expected", format, formats);
        return NULL;
    }
    return buffer->buf;
}

/* Fills the pieces of a region from arrays that `keep` gets, of which the last may be NULL; returns whether that went well. */
static bool pieces_of(struct keep *keep, PyObject *const arrays[MOST_ARRAYS], struct pieces *pieces)
{
    size_t counts[MOST_ARRAYS];
    const void *items[MOST_ARRAYS] = {NULL};
    static const size_t sizes[MOST_ARRAYS] = {8, 8, 8, 1, 2, 8};
    static const char *const formats[MOST_ARRAYS] = {"lq", "lq", "lq", "B", "h", "lq"};
    for (int i = 0; i < MOST_ARRAYS && arrays[i]; i++) {
        items[i] = buffer_of(keep, arrays[i], formats[i], sizes[i], counts + i);
        if (!items[i])
            return false;
        if (counts[i] != counts[0]) {
            PyErr_SetString(PyExc_ValueError, "the arrays are not of one length");
            return false;
        }
    }
    *pieces = (struct pieces){items[0], items[1], items[2], items[3], items[4], counts[0], items[5]};
    return true;
}

static PyObject *publish(Plane *self, unsigned long long key, struct region *region)
{
    struct region *dropped;
    Py_BEGIN_ALLOW_THREADS
    dropped = index_publish(&self->plane.index, key, region);
    Py_END_ALLOW_THREADS
    bool published = true;
    for (struct region *each = dropped; each; each = each->dropped)
        published = published && each != region;
    release_regions(dropped);
    return PyBool_FromLong(published);
}

/* Returns a region that keeps nothing yet, NULL with an exception set. */
static struct region *new_region(long long start, long long stop)
{
    if (start < 0 || stop <= start) {
        PyErr_SetString(PyExc_ValueError, "a region starts at 0 or more, is not empty, and ends below 2**63");
        return NULL;
    }
    struct region *region = PyMem_Calloc(1, sizeof *region);
    struct keep *keep = PyMem_Calloc(1, sizeof *keep);
    if (!region || !keep) {
        PyMem_Free(region);
        PyMem_Free(keep);
        PyErr_NoMemory();
        return NULL;
    }
    region->start = start;
    region->stop = stop;
    region->keep = keep;
    return region;
}

static PyObject *publish_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long key;
    long long start, stop;
    Py_ssize_t cost;
    PyObject *arrays[MOST_ARRAYS] = {NULL};
    if (!PyArg_ParseTuple(args, "KLL(OOOOO)n:publish", &key, &start, &stop, arrays, arrays + 1, arrays + 2, arrays + 3,
                          arrays + 4, &cost) ||
        !usable(self))
        return NULL;
    struct region *region = new_region(start, stop);
    if (!region)
        return NULL;
    region->cost = REGION_COST + (cost > 0 ? (size_t)cost : 0);
    if (!pieces_of(region->keep, arrays, &region->pieces)) {
        region->dropped = NULL;
        release_regions(region);
        return NULL;
    }
    return publish(self, key, region);
}

/* Adds a run, or a literal, to a frame for each item of a tuple; returns whether that went well. */
static bool runs_of(struct frame *frame, PyObject *runs)
{
    Py_ssize_t count = PyTuple_GET_SIZE(runs);
    for (Py_ssize_t i = 0; i < count && i < MOST_RUNS; i++) {
        long long start, stop;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(runs, i), "LL;a run is its start and its stop", &start, &stop))
            return false;
        frame->runs[frame->run_count++] = (struct run){start, stop};
    }
    return count <= MOST_RUNS;
}

static bool literals_of(struct frame *frame, PyObject *literals)
{
    Py_ssize_t count = PyTuple_GET_SIZE(literals);
    for (Py_ssize_t i = 0; i < count && i < MOST_LITERALS; i++) {
        struct literal *literal = frame->literals + frame->literal_count;
        long long at;
        const char *bytes;
        Py_ssize_t length;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(literals, i), "Ly#;a literal is its place and bytes", &at, &bytes, &length))
            return false;
        if (length > MOST_LITERAL)
            return false;
        literal->at = at;
        literal->length = (size_t)length;
        memcpy(literal->bytes, bytes, (size_t)length);
        frame->literal_count++;
    }
    return count <= MOST_LITERALS;
}

/* Returns a frame from what Frame of vdifs/output/frame.py holds, NULL with an exception set. */
static struct frame *frame_of(PyObject *tuple)
{
    long long size, payload, number_at, sum_at;
    PyObject *runs, *literals;
    if (!PyArg_ParseTuple(tuple, "LLO!O!LL;a frame was expected", &size, &payload, &PyTuple_Type, &runs, &PyTuple_Type,
                          &literals, &number_at, &sum_at))
        return NULL;
    struct frame *frame = PyMem_Calloc(1, sizeof *frame);
    if (!frame) {
        PyErr_NoMemory();
        return NULL;
    }
    frame->size = size;
    frame->payload = payload;
    frame->number_at = number_at;
    frame->sum_at = sum_at;
    if (runs_of(frame, runs) && literals_of(frame, literals) && frame_is_sound(frame))
        return frame;
    PyMem_Free(frame);
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "the parts of the frame do not fit one another, or are too many");
    return NULL;
}

static PyObject *publish_framed_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long key;
    long long start, stop;
    Py_ssize_t cost;
    PyObject *arrays[MOST_ARRAYS], *tuple;
    if (!PyArg_ParseTuple(args, "KLL(OOOOOO)O!n:publish_framed", &key, &start, &stop, arrays, arrays + 1, arrays + 2,
                          arrays + 3, arrays + 4, arrays + 5, &PyTuple_Type, &tuple, &cost) ||
        !usable(self))
        return NULL;
    struct region *region = new_region(start, stop);
    if (!region)
        return NULL;
    struct keep *keep = region->keep;
    region->cost = REGION_COST + sizeof(struct frame) + (cost > 0 ? (size_t)cost : 0);
    region->frame = keep->frame = frame_of(tuple);
    if (!region->frame || !pieces_of(keep, arrays, &region->pieces)) {
        region->dropped = NULL;
        release_regions(region);
        return NULL;
    }
    return publish(self, key, region);
}

static PyObject *publish_bytes_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long key;
    long long start;
    PyObject *data;
    if (!PyArg_ParseTuple(args, "KLO:publish_bytes", &key, &start, &data) || !usable(self))
        return NULL;
    Py_ssize_t length = PyObject_Size(data);
    if (length < 0)
        return NULL;
    struct region *region = new_region(start, start < 0 || length > INT64_MAX - start ? 0 : start + length);
    if (!region)
        return NULL;
    size_t count;
    region->data = buffer_of(region->keep, data, "B", 1, &count);
    if (!region->data || count != (size_t)length) {
        region->dropped = NULL;
        release_regions(region);
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "bytes were expected");
        return NULL;
    }
    region->cost = REGION_COST + count;
    return publish(self, key, region);
}

static PyObject *covers_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long key;
    long long start, stop;
    if (!PyArg_ParseTuple(args, "KLL:covers", &key, &start, &stop) || !usable(self))
        return NULL;
    return PyBool_FromLong(index_covers(&self->plane.index, key, start, stop));
}

static PyObject *open_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long number, key;
    if (!PyArg_ParseTuple(args, "KK:open", &number, &key) || !usable(self))
        return NULL;
    return PyBool_FromLong(!index_open(&self->plane.index, number, key));
}

static PyObject *counts(const struct handle *handle)
{
    return Py_BuildValue("(KKL)", (unsigned long long)handle->reads, (unsigned long long)handle->bytes,
                         (long long)handle->position);
}

static PyObject *close_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long number;
    struct handle last = {0};
    if (!PyArg_ParseTuple(args, "K:close", &number) || !usable(self))
        return NULL;
    index_close(&self->plane.index, number, &last);
    return counts(&last);
}

static PyObject *counts_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long number;
    struct handle found = {0};
    if (!PyArg_ParseTuple(args, "K:counts", &number) || !usable(self))
        return NULL;
    index_look(&self->plane.index, number, &found);
    return counts(&found);
}

static PyObject *take_method(PyObject *object, PyObject *Py_UNUSED(none))
{
    Plane *self = (Plane *)object;
    struct ask taken[256];
    if (!usable(self))
        return NULL;
    size_t count = plane_take(&self->plane, taken, sizeof taken / sizeof *taken);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list && i < count; i++) {
        const struct ask *each = taken + i;
        PyObject *item = Py_BuildValue("(KNKKKI)", (unsigned long long)each->unique, PyBool_FromLong(each->seek),
                                       (unsigned long long)each->inode, (unsigned long long)each->handle,
                                       (unsigned long long)each->offset, (unsigned)each->size);
        if (!item) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

static PyObject *answer_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long unique;
    Py_buffer data;
    int error;
    if (!PyArg_ParseTuple(args, "Ky*:answer", &unique, &data))
        return NULL;
    if (!usable(self)) {
        PyBuffer_Release(&data);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    error = plane_answer(&self->plane, unique, 0, data.buf, (size_t)data.len);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    return PyBool_FromLong(!error);
}

static PyObject *fail_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long unique;
    int error;
    if (!PyArg_ParseTuple(args, "Ki:fail", &unique, &error) || !usable(self))
        return NULL;
    if (error <= 0 || error >= 512)
        error = EIO;
    return PyBool_FromLong(!plane_answer(&self->plane, unique, error, NULL, 0));
}

static PyObject *invalidate_method(PyObject *object, PyObject *args)
{
    Plane *self = (Plane *)object;
    unsigned long long inode;
    int error;
    if (!PyArg_ParseTuple(args, "K:invalidate", &inode) || !usable(self))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    error = plane_invalidate(&self->plane, inode);
    Py_END_ALLOW_THREADS
    return error ? os_error(error) : Py_NewRef(Py_None);
}

static PyObject *get_asked(PyObject *object, void *Py_UNUSED(closure))
{
    Plane *self = (Plane *)object;
    return usable(self) ? PyLong_FromLong(self->plane.asked) : NULL;
}

static PyObject *get_ended(PyObject *object, void *Py_UNUSED(closure))
{
    Plane *self = (Plane *)object;
    return usable(self) ? PyBool_FromLong(atomic_load(&self->plane.ended)) : NULL;
}

static PyObject *get_served(PyObject *object, void *Py_UNUSED(closure))
{
    Plane *self = (Plane *)object;
    if (!usable(self))
        return NULL;
    return Py_BuildValue("(KK)", (unsigned long long)atomic_load(&self->plane.served),
                         (unsigned long long)atomic_load(&self->plane.served_bytes));
}

static PyMethodDef methods[] = {
    {"start", plane_start_method, METH_NOARGS, NULL},
    {"stop", plane_stop_method, METH_NOARGS, NULL},
    {"add", add_method, METH_VARARGS, NULL},
    {"restamp", restamp_method, METH_VARARGS, NULL},
    {"withdraw", withdraw_method, METH_VARARGS, NULL},
    {"publish", publish_method, METH_VARARGS, NULL},
    {"publish_framed", publish_framed_method, METH_VARARGS, NULL},
    {"publish_bytes", publish_bytes_method, METH_VARARGS, NULL},
    {"covers", covers_method, METH_VARARGS, NULL},
    {"open", open_method, METH_VARARGS, NULL},
    {"close", close_method, METH_VARARGS, NULL},
    {"counts", counts_method, METH_VARARGS, NULL},
    {"take", take_method, METH_NOARGS, NULL},
    {"answer", answer_method, METH_VARARGS, NULL},
    {"fail", fail_method, METH_VARARGS, NULL},
    {"invalidate", invalidate_method, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"asked", get_asked, NULL, NULL, NULL},
    {"ended", get_ended, NULL, NULL, NULL},
    {"served", get_served, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject plane_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "vdifs.dataplane._core.Plane",
    .tp_basicsize = sizeof(Plane),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = plane_init,
    .tp_dealloc = plane_dealloc,
    .tp_methods = methods,
    .tp_getset = properties,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_core", .m_size = -1};

PyMODINIT_FUNC PyInit__core(void)
{
    PyObject *created = PyType_Ready(&plane_type) < 0 ? NULL : PyModule_Create(&module);
    if (created && PyModule_AddObjectRef(created, "Plane", (PyObject *)&plane_type) < 0)
        Py_CLEAR(created);
    return created;
}
