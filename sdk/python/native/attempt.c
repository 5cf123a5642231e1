/* The common attempt: from its arguments to its packed outputs (docs/client-protocol.md, sections 4 to 6). Its twin is
 * in executor/_attempt.py. */
#include "blob.h"
#include "native.h"

enum { kDirectionIn = 0, kAccessDatum = 1, kArgumentsMax = 16 };

/* References of the module, made once in init. */
static PyObject* text_current;
static PyTypeObject* coroutine_type;
static PyTypeObject* generator_type;

int init_attempts(void) {
  PyObject* types = PyImport_ImportModule("types");
  if (types == NULL) return -1;
  coroutine_type = (PyTypeObject*)PyObject_GetAttrString(types, "CoroutineType");
  generator_type = (PyTypeObject*)PyObject_GetAttrString(types, "GeneratorType");
  Py_DECREF(types);
  text_current = PyUnicode_InternFromString("current");
  return coroutine_type == NULL || generator_type == NULL || text_current == NULL ? -1 : 0;
}

/* True when the argument has this name. */
static int is_named(PyObject* argument, const char* name) {
  if (!PyList_CheckExact(argument) || PyList_Size(argument) < 5) return 0;
  PyObject* text = PyList_GetItem(argument, 4);
  return PyUnicode_CheckExact(text) && PyUnicode_CompareWithASCIIString(text, name) == 0;
}

/* The (args, kwargs) of a call record that writes nothing. 1: found (new references), 0: not simple, -1: exception. */
static int load_record(PyObject* argument, PyObject** args, PyObject** kwargs) {
  PyObject* blob = inline_blob(PyList_GetItem(argument, 2));
  if (blob == NULL) return 0;
  PyObject* record = load_blob(blob);
  if (record == NULL) return -1;
  int done = 0;
  if (PyTuple_CheckExact(record) && PyTuple_Size(record) == 3) {
    PyObject* writes = PyTuple_GetItem(record, 2);
    const int writing = PyObject_IsTrue(writes);
    if (writing < 0) done = -1;
    if (writing == 0) {
      *args = PySequence_Tuple(PyTuple_GetItem(record, 0));
      *kwargs = Py_NewRef(PyTuple_GetItem(record, 1));
      done = *args != NULL && PyDict_Check(*kwargs) ? 1 : -1;
      if (done < 0 && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "the call record is damaged");
    }
  }
  Py_DECREF(record);
  return done;
}

static PyObject* pack_result(PyObject* result, int wanted, Py_ssize_t inline_max, PyObject* runtime,
                             PyObject* general) {
  PyObject* nested = PyObject_GetAttr(runtime, text_current);
  if (nested == NULL) return NULL;
  const int simple = nested == Py_None && Py_TYPE(result) != coroutine_type && Py_TYPE(result) != generator_type;
  Py_DECREF(nested);
  if (simple && !wanted) return PyBytes_FromStringAndSize("\x90", 1);
  if (simple) {
    Buffer blob;
    buffer_init(&blob);
    int done = put_blob(&blob, result);
    PyObject* packed = NULL;
    if (done > 0 && (Py_ssize_t)blob.size <= inline_max) {
      Buffer b;
      buffer_init(&b);
      if (put(&b, "\x91\x92\x01\x91", 4) == 0 && put_bin_header(&b, blob.size) == 0 &&
          put(&b, blob.data, blob.size) == 0)
        packed = to_bytes(&b);
      buffer_free(&b);
      if (packed == NULL) done = -1;
    }
    buffer_free(&blob);
    if (done < 0 || packed != NULL) return packed;
  }
  PyObject* flag = PyBool_FromLong(wanted);
  PyObject* packed = PyObject_CallFunctionObjArgs(general, result, flag, NULL);
  Py_XDECREF(flag);
  return packed;
}

/* An argument by itself, read only and inline: its value. NULL without an exception when it is of another kind. */
static PyObject* load_argument(PyObject* argument) {
  if (!PyList_CheckExact(argument) || PyList_Size(argument) < 5) return NULL;
  PyObject* direction = PyList_GetItem(argument, 0);
  PyObject* kind = PyList_GetItem(argument, 1);
  if (!PyLong_CheckExact(direction) || PyLong_AsLong(direction) != kDirectionIn) return NULL;
  if (!PyLong_CheckExact(kind) || PyLong_AsLong(kind) > kAccessDatum) return NULL;
  PyObject* blob = inline_blob(PyList_GetItem(argument, 2));
  PyObject* value = blob == NULL ? NULL : load_blob(blob);
  if (value == Py_NotImplemented) Py_CLEAR(value);
  return value;
}

/* The first `count` arguments as a tuple. Results as for load_record. */
static int load_each(PyObject* arguments, Py_ssize_t count, PyObject** args) {
  PyObject* loaded = PyTuple_New(count);
  for (Py_ssize_t i = 0; loaded != NULL && i < count; ++i) {
    PyObject* value = load_argument(PyList_GetItem(arguments, i));
    if (value == NULL || PyTuple_SetItem(loaded, i, value) < 0) Py_CLEAR(loaded);
  }
  *args = loaded;
  return loaded != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
}

PyObject* run_simple(PyObject* call, PyObject* arguments, Py_ssize_t inline_max, PyObject* runtime, PyObject* general) {
  const Py_ssize_t count = PyList_Size(arguments);
  if (count > kArgumentsMax) Py_RETURN_NONE;
  const int recorded = count > 0 && is_named(PyList_GetItem(arguments, 0), "*");
  const int wanted = count > recorded && is_named(PyList_GetItem(arguments, count - 1), "$0");
  if (recorded && count > 1 + wanted) Py_RETURN_NONE;
  PyObject* args = NULL;
  PyObject* kwargs = NULL;
  const int found = recorded ? load_record(PyList_GetItem(arguments, 0), &args, &kwargs)
                             : load_each(arguments, count - wanted, &args);
  PyObject* packed = NULL;
  if (found == 0) {
    packed = Py_NewRef(Py_None);
  } else if (found > 0) {
    PyObject* result = PyObject_Call(call, args, kwargs);
    if (result != NULL) packed = pack_result(result, wanted, inline_max, runtime, general);
    Py_XDECREF(result);
  }
  Py_XDECREF(args);
  Py_XDECREF(kwargs);
  return packed;
}

const char run_doc[] =
    "run(call, arguments, inline_max, runtime, general) -> bytes | None\n\n"
    "Calls `call` with what is in `arguments` and packs its outputs: the common attempt, with inline arguments that it "
    "only\n"
    "reads, in a record or each by itself, and at most one result. None, before anything was called, for an attempt of "
    "another kind.\n"
    "general(result, wanted) packs a result that is not small, was made with nested tasks (`runtime.current`), or is "
    "a\n"
    "coroutine or generator. Raises what the function raises.";

PyObject* py_run(PyObject* Py_UNUSED(module), PyObject* parameters) {
  PyObject* call = NULL;
  PyObject* arguments = NULL;
  PyObject* runtime = NULL;
  PyObject* general = NULL;
  Py_ssize_t inline_max = 0;
  if (!PyArg_ParseTuple(parameters, "OO!nOO", &call, &PyList_Type, &arguments, &inline_max, &runtime, &general))
    return NULL;
  return run_simple(call, arguments, inline_max, runtime, general);
}

PyObject* pack_done(unsigned long long attempt, const char* outputs, Py_ssize_t size, unsigned long long run_us) {
  Buffer b;
  buffer_init(&b);
  /* AttemptResult{attempt, outcome, message, error, outputs, run_us}: done, no message, no error */
  const int bad = put_byte(&b, 0x96) < 0 || put_tagged(&b, 0xcf, attempt, 8) < 0 || put(&b, "\0\xa0\xc4\0", 4) < 0 ||
                  put(&b, outputs, (size_t)size) < 0 || put_tagged(&b, 0xcf, run_us, 8) < 0;
  PyObject* result = bad ? NULL : to_bytes(&b);
  buffer_free(&b);
  return result;
}

const char pack_done_doc[] =
    "pack_done(attempt, outputs, run_us) -> bytes\n\n"
    "The packed AttemptResult of an attempt that returned; `outputs` are packed already.";

PyObject* py_pack_done(PyObject* Py_UNUSED(module), PyObject* args) {
  unsigned long long attempt = 0;
  unsigned long long run_us = 0;
  const char* outputs = NULL;
  Py_ssize_t size = 0;
  if (!PyArg_ParseTuple(args, "Ky#K", &attempt, &outputs, &size, &run_us)) return NULL;
  return pack_done(attempt, outputs, size, run_us);
}
