/* The connection to the agent as the interpreter sees it: whole frames in, decoded. shoal/_transport.py has the rules
 * of who reads; this only reads. Its twin is _codec.FrameReader with socket.recv and select.poll. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#include "native.h"
#include "reader.h"

enum { kLengthBytes = 4, kBufferBytes = 64 << 10 };
enum { kAwakeNs = 50000 };
enum { kReadable = 1, kOtherReadable = 2 };

typedef struct {
  PyObject_HEAD int fd;
  size_t frame_max;
  unsigned long raw_kind; /* the second field of such messages stays packed */
  int busy;               /* decoding may run destructors, and with them the handler of a signal that reads */
  int64_t received_ns;    /* when something was received last */
  unsigned char* data;
  size_t size;
  size_t capacity;
} Channel;

static PyObject* channel_new(PyTypeObject* type, PyObject* args, PyObject* Py_UNUSED(kwargs)) {
  int fd = -1;
  Py_ssize_t frame_max = 0;
  unsigned long raw_kind = 0;
  if (!PyArg_ParseTuple(args, "ink", &fd, &frame_max, &raw_kind)) return NULL;
  Channel* self = (Channel*)PyType_GenericAlloc(type, 0);
  if (self == NULL) return NULL;
  self->fd = fd;
  self->frame_max = (size_t)frame_max;
  self->raw_kind = raw_kind;
  self->data = PyMem_Malloc(kBufferBytes);
  self->capacity = kBufferBytes;
  if (self->data == NULL) {
    Py_DECREF(self);
    return PyErr_NoMemory();
  }
  return (PyObject*)self;
}

static void channel_dealloc(PyObject* object) {
  PyTypeObject* type = Py_TYPE(object);
  PyMem_Free(((Channel*)object)->data);
  PyObject_Free(object);
  Py_DECREF(type);
}

static size_t frame_size(const unsigned char* bytes) {
  return (size_t)bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
}

/* [kind, message] of one frame. A message of the raw kind is [its first field, the rest as bytes]. */
static PyObject* decode(const Channel* self, const unsigned char* frame, size_t size) {
  Reader reader = {frame, frame + size};
  Reader ahead = reader;
  uint64_t items = 0;
  uint64_t kind = 0;
  uint64_t first = 0;
  if (take_array(&ahead, &items) && items == 2 && take_unsigned(&ahead, &kind) && kind == self->raw_kind &&
      take_array(&ahead, &items) && items == 2 && take_unsigned(&ahead, &first)) {
    return Py_BuildValue("[K[Ky#]]", (unsigned long long)kind, (unsigned long long)first, (const char*)ahead.at,
                         (Py_ssize_t)(ahead.end - ahead.at));
  }
  PyObject* message = read_value(&reader);
  if (message != NULL && (reader.at != reader.end || !PyList_CheckExact(message) || PyList_Size(message) != 2)) {
    Py_DECREF(message);
    return PyErr_Format(PyExc_ValueError, "a frame is not a pair of a kind and its fields");
  }
  return message;
}

/* Takes whole frames out of the buffer; makes room for the rest of one that is cut. */
static int take_frames(Channel* self, PyObject* frames) {
  size_t at = 0;
  size_t wanted = kBufferBytes;
  while (self->size - at >= kLengthBytes) {
    const size_t size = frame_size(self->data + at);
    if (size > self->frame_max) {
      PyErr_Format(PyExc_ValueError, "the agent sent a frame of %zu bytes; the maximum is %zu", size, self->frame_max);
      return -1;
    }
    wanted = size + kLengthBytes;
    if (self->size - at < wanted) break;
    PyObject* message = decode(self, self->data + at + kLengthBytes, size);
    const int failed = message == NULL || PyList_Append(frames, message) < 0;
    Py_XDECREF(message);
    if (failed) return -1;
    at += wanted;
    wanted = kBufferBytes;
  }
  self->size -= at;
  if (at > 0 && self->size > 0) memmove(self->data, self->data + at, self->size);
  if (wanted < kBufferBytes) wanted = kBufferBytes;
  if (wanted <= self->capacity && (self->size > 0 || self->capacity == kBufferBytes)) return 0;
  unsigned char* data = PyMem_Realloc(self->data, wanted); /* larger for a large frame, small again after it */
  if (data == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  self->data = data;
  self->capacity = wanted;
  return 0;
}

PyDoc_STRVAR(
    receive_doc,
    "receive() -> list\n\n"
    "Reads once what is there: the frames it completes, each [kind, message]. EOFError at the end of the stream,\n"
    "ValueError when it is not ours, OSError.");

static PyObject* channel_receive(PyObject* object, PyObject* Py_UNUSED(ignored)) {
  Channel* self = (Channel*)object;
  PyObject* frames = PyList_New(0);
  if (frames == NULL || self->busy) return frames;
  const ssize_t got = recv(self->fd, self->data + self->size, self->capacity - self->size, MSG_DONTWAIT);
  if (got > 0) {
    self->size += (size_t)got;
    self->received_ns = monotonic_ns();
    self->busy = 1;
    const int failed = take_frames(self, frames);
    self->busy = 0;
    if (!failed) return frames;
  } else if (got == 0) {
    PyErr_SetString(PyExc_EOFError, "it closed the connection");
  } else if (errno == EAGAIN || errno == EINTR) {
    return frames;
  } else {
    PyErr_SetFromErrno(PyExc_OSError);
  }
  Py_DECREF(frames);
  return NULL;
}

/* Polls without sleeping for a short while after something was received: what follows it is often close behind, and to be
 * woken takes longer. Others that are ready to run go first. */
static int poll_awake(const Channel* self, struct pollfd* polled, nfds_t count) {
  const int64_t until = self->received_ns + kAwakeNs;
  int ready = 0;
  while ((ready = poll(polled, count, 0)) == 0 && monotonic_ns() < until) sched_yield();
  return ready;
}

PyDoc_STRVAR(
    wait_doc,
    "wait(timeout_ms, other) -> int\n\n"
    "Waits without the GIL until there is something to read: 1 on the channel, 2 on the descriptor `other` (-1:\n"
    "none), 3 on both; 0 when `timeout_ms` (-1: none) passed or a signal came, whose handler has run.");

static PyObject* channel_wait(PyObject* object, PyObject* args) {
  int timeout = -1;
  int other = -1;
  if (!PyArg_ParseTuple(args, "ii", &timeout, &other)) return NULL;
  struct pollfd polled[2] = {{((Channel*)object)->fd, POLLIN, 0}, {other, POLLIN, 0}};
  int ready = 0;
  int reason = 0;
  const nfds_t count = other < 0 ? 1 : 2;
  PyThreadState* const thread = PyEval_SaveThread();
  ready = poll_awake((Channel*)object, polled, count);
  if (ready == 0) ready = poll(polled, count, timeout);
  reason = errno;
  PyEval_RestoreThread(thread);
  if (ready < 0) {
    errno = reason;
    if (reason != EINTR) return PyErr_SetFromErrno(PyExc_OSError);
    return PyErr_CheckSignals() < 0 ? NULL : PyLong_FromLong(0);
  }
  return PyLong_FromLong((polled[0].revents != 0 ? kReadable : 0) |
                         (other >= 0 && polled[1].revents != 0 ? kOtherReadable : 0));
}

static PyMethodDef kMethods[] = {{"receive", channel_receive, METH_NOARGS, receive_doc},
                                 {"wait", channel_wait, METH_VARARGS, wait_doc},
                                 {NULL, NULL, 0, NULL}};

PyDoc_STRVAR(channel_doc,
             "Channel(fd, frame_max, raw_kind)\n\n"
             "Frames from a socket, which stays the caller's. Messages of `raw_kind` are [first field, packed rest].");

static PyType_Slot kSlots[] = {{Py_tp_new, channel_new},
                               {Py_tp_dealloc, channel_dealloc},
                               {Py_tp_methods, kMethods},
                               {Py_tp_doc, (void*)channel_doc},
                               {0, NULL}};

PyType_Spec channel_spec = {"_shoal_native.Channel", sizeof(Channel), 0, Py_TPFLAGS_DEFAULT, kSlots};
