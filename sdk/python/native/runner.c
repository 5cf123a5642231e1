/* Runs the attempts of an executor that are of the common kind, one after the other. Its twin is Executor._attempt in
 * executor/_loop.py, to which every other attempt and every failure is left. */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "native.h"

enum { kDoneMax = 64, kSlowUs = 200, kFlushAfterNs = 1000000 };
/* Attempt{attempt, app, task, instance, function, arguments, timeout_ms, …} */
enum { kAttempt = 0, kFunction = 4, kArguments = 5, kTimeout = 6, kFields = 7 };

typedef struct {
  PyObject_HEAD PyObject* executor;
  PyObject* queue;     /* deque of messages */
  PyObject* functions; /* id → LoadedFunction */
  PyObject* cancelled; /* set */
  PyObject* runtime;   /* the module shoal._runtime */
  PyObject* streams;   /* StandardStreams */
  PyObject* handlers;  /* [(signal, handler)] */
  PyObject* getsignal;
  PyObject* pack_result;
  PyObject* home; /* bytes: the working directory */
  Py_ssize_t inline_max;
  int64_t begin; /* of the newest attempt */
} Runner;

/* Interned once: names of attributes and methods. */
static PyObject *name_done, *name_armed, *name_forked, *name_interruptible, *name_running, *name_first_done,
    *name_last_us, *name_simple, *name_call, *name_attempt, *name_current, *name_objects, *name_flush, *name_popleft,
    *name_end_forked, *name_end_nested, *name_go_home, *name_settle_signals, *name_settle_streams,
    *name_settle_thoroughly;

int init_runner(void) {
  const struct {
    PyObject** name;
    const char* text;
  } kTable[] = {{&name_done, "_done"},
                {&name_armed, "_armed"},
                {&name_forked, "_forked"},
                {&name_interruptible, "_interruptible"},
                {&name_running, "_running"},
                {&name_first_done, "_first_done_ns"},
                {&name_last_us, "last_us"},
                {&name_simple, "simple"},
                {&name_call, "call"},
                {&name_attempt, "attempt"},
                {&name_current, "current"},
                {&name_objects, "_objects"},
                {&name_flush, "flush"},
                {&name_popleft, "popleft"},
                {&name_end_forked, "_end_forked"},
                {&name_end_nested, "_end_nested"},
                {&name_go_home, "_go_home"},
                {&name_settle_signals, "_settle_signals"},
                {&name_settle_streams, "_settle_streams"},
                {&name_settle_thoroughly, "_settle_streams_thoroughly"}};
  for (size_t i = 0; i < sizeof kTable / sizeof *kTable; ++i) {
    *kTable[i].name = PyUnicode_InternFromString(kTable[i].text);
    if (*kTable[i].name == NULL) return -1;
  }
  return 0;
}

/* 1, 0, or -1 with an exception. */
static int truth_of(PyObject* object, PyObject* name) {
  PyObject* value = PyObject_GetAttr(object, name);
  const int truth = value == NULL ? -1 : PyObject_IsTrue(value);
  Py_XDECREF(value);
  return truth;
}

static int call_method(PyObject* object, PyObject* name) {
  PyObject* result = PyObject_CallMethodObjArgs(object, name, NULL);
  Py_XDECREF(result);
  return result == NULL ? -1 : 0;
}

/* Results that wait are not kept waiting by a function that may take long. 1: run it, 0: leave it to Python. */
static int may_follow(const Runner* self, PyObject* function, Py_ssize_t waiting) {
  if (waiting == 0) return 1;
  const int armed = truth_of(self->executor, name_armed);
  if (armed <= 0) return armed;
  PyObject* last = PyObject_GetAttr(function, name_last_us);
  if (last == NULL) return -1;
  const long long us = PyLong_AsLongLong(last);
  Py_DECREF(last);
  if (us == -1 && PyErr_Occurred()) return -1;
  return us >= 0 && us <= kSlowUs;
}

/* The function of a message of the common kind (new reference). NULL without an exception for one of another. */
static PyObject* common_function(const Runner* self, PyObject* message) {
  if (!PyList_CheckExact(message) || PyList_Size(message) < kFields) return NULL;
  PyObject* timeout = PyList_GetItem(message, kTimeout);
  if (!PyLong_CheckExact(timeout) || PyLong_AsLong(timeout) != 0 ||
      !PyList_CheckExact(PyList_GetItem(message, kArguments)))
    return NULL;
  PyObject* function = PyDict_GetItemWithError(self->functions, PyList_GetItem(message, kFunction));
  if (function == NULL) return NULL;
  const int simple = truth_of(function, name_simple);
  return simple > 0 ? Py_NewRef(function) : NULL;
}

static int set_running(const Runner* self, PyObject* message, PyObject* interruptible) {
  if (PyObject_SetAttr(self->executor, name_running, message) < 0) return -1;
  if (PyObject_SetAttr(self->runtime, name_attempt, message) < 0) return -1;
  return PyObject_SetAttr(self->executor, name_interruptible, interruptible);
}

/* The standard streams are flushed and whole; a task that broke them failed. */
static int settle_streams(const Runner* self, long long run_us) {
  static const char* const kNames[2] = {"stdout", "stderr"};
  PyObject* objects = PyObject_GetAttr(self->streams, name_objects);
  if (objects == NULL) return -1;
  int whole = run_us <= kSlowUs && fcntl(1, F_GETFD) >= 0 && fcntl(2, F_GETFD) >= 0;
  for (int i = 0; whole && i < 2; ++i) {
    PyObject* stream = PyTuple_GetItem(objects, i);
    whole = stream != NULL && PySys_GetObject(kNames[i]) == stream;
    if (whole && call_method(stream, name_flush) < 0) whole = 0;
  }
  Py_DECREF(objects);
  if (whole) return 0;
  PyErr_Clear();
  return call_method(self->executor, run_us > kSlowUs ? name_settle_thoroughly : name_settle_streams);
}

/* The working directory and the signal handlers are as they were. */
static int settle_process(const Runner* self) {
  char directory[PATH_MAX];
  const char* home = PyBytes_AsString(self->home);
  if (home == NULL) return -1;
  if (getcwd(directory, sizeof directory) == NULL || strcmp(directory, home) != 0) {
    if (call_method(self->executor, name_go_home) < 0) return -1;
  }
  const Py_ssize_t count = PyList_Size(self->handlers);
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* pair = PyList_GetItem(self->handlers, i);
    PyObject* handler = PyObject_CallFunctionObjArgs(self->getsignal, PyTuple_GetItem(pair, 0), NULL);
    if (handler == NULL) return -1;
    const int same = handler == PyTuple_GetItem(pair, 1);
    Py_DECREF(handler);
    if (!same) return call_method(self->executor, name_settle_signals);
  }
  return 0;
}

/* After the function returned: what is reported. */
static PyObject* finish_one(const Runner* self, PyObject* message, PyObject* function, PyObject* outputs,
                            int64_t begin) {
  const int forked = truth_of(self->executor, name_forked);
  if (forked > 0) call_method(self->executor, name_end_forked); /* does not return: this is a child of the task */
  const int nested = forked != 0 ? -1 : truth_of(self->runtime, name_current);
  if (nested < 0 || (nested > 0 && call_method(self->executor, name_end_nested) < 0)) return NULL;
  if (PyObject_SetAttr(self->executor, name_interruptible, Py_False) < 0) return NULL;
  const long long run_us = (monotonic_ns() - begin) / 1000;
  if (settle_streams(self, run_us) < 0) return NULL;
  const unsigned long long number = PyLong_AsUnsignedLongLong(PyList_GetItem(message, kAttempt));
  char* bytes = NULL;
  Py_ssize_t size = 0;
  if (PyErr_Occurred() || PyBytes_AsStringAndSize(outputs, &bytes, &size) < 0) return NULL;
  PyObject* last = PyLong_FromLongLong(run_us);
  const int kept = last == NULL ? -1 : PyObject_SetAttr(function, name_last_us, last);
  Py_XDECREF(last);
  return kept < 0 ? NULL : pack_done(number, bytes, size, (unsigned long long)run_us);
}

/* Runs one attempt and packs its report. None, before anything was called, when it is of another kind. */
static PyObject* run_one(Runner* self, PyObject* message, PyObject* function) {
  PyObject* call = PyObject_GetAttr(function, name_call);
  PyObject* packed = NULL;
  if (call != NULL && set_running(self, message, Py_True) == 0) {
    self->begin = monotonic_ns();
    PyObject* arguments = PyList_GetItem(message, kArguments);
    PyObject* outputs = run_simple(call, arguments, self->inline_max, self->runtime, self->pack_result);
    packed = outputs == NULL || outputs == Py_None ? Py_XNewRef(outputs)
                                                   : finish_one(self, message, function, outputs, self->begin);
    Py_XDECREF(outputs);
  }
  Py_XDECREF(call);
  return packed;
}

static int report(const Runner* self, PyObject* packed) {
  PyObject* done = PyObject_GetAttr(self->executor, name_done); /* the flusher may have put a new list there */
  if (done == NULL) return -1;
  int failed = 0;
  if (PyList_Size(done) == 0) {
    PyObject* now = PyLong_FromLongLong(monotonic_ns());
    failed = now == NULL ? -1 : PyObject_SetAttr(self->executor, name_first_done, now);
    Py_XDECREF(now);
  }
  if (failed == 0) failed = PyList_Append(done, packed);
  Py_DECREF(done);
  return failed;
}

/* 1 while more attempts may run before the results so far are sent. */
static int may_go_on(const Runner* self, Py_ssize_t* waiting) {
  PyObject* done = PyObject_GetAttr(self->executor, name_done);
  *waiting = done == NULL ? -1 : PyList_Size(done);
  Py_XDECREF(done);
  if (*waiting <= 0) return *waiting == 0 ? 1 : -1;
  PyObject* first = PyObject_GetAttr(self->executor, name_first_done);
  const int64_t since = first == NULL ? -1 : PyLong_AsLongLong(first);
  Py_XDECREF(first);
  if (PyErr_Occurred()) return -1;
  return *waiting < kDoneMax && monotonic_ns() - since <= kFlushAfterNs;
}

/* The attempt has ended and is reported. */
static int end_one(const Runner* self, PyObject* packed) {
  if (set_running(self, Py_None, Py_False) < 0 || settle_process(self) < 0) return -1;
  return report(self, packed);
}

PyDoc_STRVAR(
    runner_run_doc,
    "run() -> message | None\n\n"
    "Runs queued attempts of the common kind. Ends with the first message of another kind, taken from the queue and\n"
    "not begun, or with None when the queue is empty or results have waited long enough. Raises what a function\n"
    "raised: its attempt is then `executor._running` and began at begun().");

static PyObject* runner_run(PyObject* object, PyObject* Py_UNUSED(ignored)) {
  Runner* self = (Runner*)object;
  for (;;) {
    const Py_ssize_t queued = PyObject_Size(self->queue);
    Py_ssize_t waiting = 0;
    const int go_on = queued < 0 ? -1 : may_go_on(self, &waiting);
    if (go_on < 0) return NULL;
    if (queued == 0 || go_on == 0) Py_RETURN_NONE;
    PyObject* message = PyObject_CallMethodObjArgs(self->queue, name_popleft, NULL);
    if (message == NULL) return NULL;
    PyObject* function = PySet_Size(self->cancelled) > 0 ? NULL : common_function(self, message);
    if (function == NULL && !PyErr_Occurred()) return message;
    const int follows = function == NULL ? -1 : may_follow(self, function, waiting);
    PyObject* packed = follows > 0 ? run_one(self, message, function) : follows == 0 ? Py_NewRef(Py_None) : NULL;
    Py_XDECREF(function);
    if (packed == Py_None) {
      Py_DECREF(packed);
      return message;
    }
    Py_DECREF(message);
    const int failed = packed == NULL ? -1 : end_one(self, packed);
    Py_XDECREF(packed);
    if (failed < 0) return NULL;
  }
}

PyDoc_STRVAR(begun_doc, "begun() -> int\n\nWhen the newest attempt began, in nanoseconds of the monotonic clock.");

static PyObject* runner_begun(PyObject* object, PyObject* Py_UNUSED(ignored)) {
  return PyLong_FromLongLong(((Runner*)object)->begin);
}

static PyObject* runner_new(PyTypeObject* type, PyObject* args, PyObject* Py_UNUSED(kwargs)) {
  Runner given;
  memset(&given, 0, sizeof given);
  if (!PyArg_ParseTuple(args, "OOO!O!OOO!OOSn", &given.executor, &given.queue, &PyDict_Type, &given.functions,
                        &PySet_Type, &given.cancelled, &given.runtime, &given.streams, &PyList_Type, &given.handlers,
                        &given.getsignal, &given.pack_result, &given.home, &given.inline_max))
    return NULL;
  Runner* self = (Runner*)PyType_GenericAlloc(type, 0);
  if (self == NULL) return NULL;
  self->executor = Py_NewRef(given.executor);
  self->queue = Py_NewRef(given.queue);
  self->functions = Py_NewRef(given.functions);
  self->cancelled = Py_NewRef(given.cancelled);
  self->runtime = Py_NewRef(given.runtime);
  self->streams = Py_NewRef(given.streams);
  self->handlers = Py_NewRef(given.handlers);
  self->getsignal = Py_NewRef(given.getsignal);
  self->pack_result = Py_NewRef(given.pack_result);
  self->home = Py_NewRef(given.home);
  self->inline_max = given.inline_max;
  return (PyObject*)self;
}

static void runner_dealloc(PyObject* object) {
  Runner* self = (Runner*)object;
  PyTypeObject* type = Py_TYPE(object);
  PyObject* references[] = {self->executor, self->queue,    self->functions, self->cancelled,   self->runtime,
                            self->streams,  self->handlers, self->getsignal, self->pack_result, self->home};
  for (size_t i = 0; i < sizeof references / sizeof *references; ++i) Py_XDECREF(references[i]);
  PyObject_Free(object);
  Py_DECREF(type);
}

static PyMethodDef kMethods[] = {{"run", runner_run, METH_NOARGS, runner_run_doc},
                                 {"begun", runner_begun, METH_NOARGS, begun_doc},
                                 {NULL, NULL, 0, NULL}};

PyDoc_STRVAR(
    runner_doc,
    "Runner(executor, queue, functions, cancelled, runtime, streams, handlers, getsignal, pack_result, home, "
    "inline_max)\n\n"
    "Runs the attempts of an executor. Not collected while its executor holds it: both live as long as the process.");

static PyType_Slot kSlots[] = {{Py_tp_new, runner_new},
                               {Py_tp_dealloc, runner_dealloc},
                               {Py_tp_methods, kMethods},
                               {Py_tp_doc, (void*)runner_doc},
                               {0, NULL}};

PyType_Spec runner_spec = {"_shoal_native.Runner", sizeof(Runner), 0, Py_TPFLAGS_DEFAULT, kSlots};
