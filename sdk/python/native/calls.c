/* Values and calls of the main program: what it submits and what it waits for. */
#include "blob.h"
#include "native.h"
#include "reader.h"

enum { kValueNothing = 0, kValueInline = 1 };

const char dumps_doc[] =
    "dumps(value) -> bytes | None\n\n"
    "The blob of a scalar or bytes; None for any other value.";

PyObject* py_dumps(PyObject* Py_UNUSED(module), PyObject* value) {
  Buffer b;
  buffer_init(&b);
  const int done = put_blob(&b, value);
  PyObject* result = done > 0 ? to_bytes(&b) : done == 0 ? Py_NewRef(Py_None) : NULL;
  buffer_free(&b);
  return result;
}

const char loads_doc[] =
    "loads(blob) -> value | NotImplemented\n\n"
    "The value of a small blob; NotImplemented when the general reader has to look at it.";

PyObject* py_loads(PyObject* Py_UNUSED(module), PyObject* blob) {
  return load_blob(blob);
}

const char unpack_doc[] =
    "unpack(body) -> value\n\n"
    "One msgpack value, and nothing after it. ValueError.";

PyObject* py_unpack(PyObject* Py_UNUSED(module), PyObject* body) {
  char* data = NULL;
  Py_ssize_t size = 0;
  if (PyBytes_AsStringAndSize(body, &data, &size) < 0) return NULL;
  Reader reader = {(const unsigned char*)data, (const unsigned char*)data + size};
  PyObject* value = read_value(&reader);
  if (value != NULL && reader.at != reader.end) {
    Py_CLEAR(value);
    PyErr_SetString(PyExc_ValueError, "bytes follow the message");
  }
  return value;
}

/* The value of a ValueResult that came whole and small; NULL without an exception, and nothing taken, for any other. */
static PyObject* take_small_result(Reader* reader) {
  Reader ahead = *reader;
  uint64_t items = 0;
  uint64_t number = 0;
  const unsigned char* text = NULL;
  const unsigned char* blob = NULL;
  uint64_t text_size = 0;
  uint64_t blob_size = 0;
  /* ValueResult{datum, code, message, [variant, [blob]], error, path} */
  if (!take_array(&ahead, &items) || items != 6 || !take_unsigned(&ahead, &number) || !take_unsigned(&ahead, &number) ||
      number != 0 || !take_text(&ahead, &text, &text_size) || !take_array(&ahead, &items) || items != 2 ||
      !take_unsigned(&ahead, &number) || number != kValueInline || !take_array(&ahead, &items) || items != 1 ||
      !take_binary(&ahead, &blob, &blob_size) || !take_binary(&ahead, &text, &text_size) ||
      !take_text(&ahead, &text, &text_size))
    return NULL;
  PyObject* value = load_bytes(blob, (size_t)blob_size);
  if (value == Py_NotImplemented) Py_CLEAR(value);
  if (value != NULL) *reader = ahead;
  return value;
}

const char values_doc[] =
    "values(results, general) -> list\n\n"
    "The values of a packed list of ValueResults. general(result) is called for those that failed or are not small.";

PyObject* py_values(PyObject* Py_UNUSED(module), PyObject* args) {
  const char* results = NULL;
  Py_ssize_t size = 0;
  PyObject* general = NULL;
  if (!PyArg_ParseTuple(args, "y#O", &results, &size, &general)) return NULL;
  Reader reader = {(const unsigned char*)results, (const unsigned char*)results + size};
  uint64_t count = 0;
  if (!take_array(&reader, &count)) return PyErr_Format(PyExc_ValueError, "results are not an array");
  PyObject* out = PyList_New(0);
  for (uint64_t i = 0; out != NULL && i < count; ++i) {
    PyObject* value = take_small_result(&reader);
    if (value == NULL && !PyErr_Occurred()) {
      PyObject* result = read_value(&reader);
      if (result != NULL) value = PyObject_CallFunctionObjArgs(general, result, NULL);
      Py_XDECREF(result);
    }
    const int failed = value == NULL || PyList_Append(out, value) < 0;
    Py_XDECREF(value);
    if (failed) Py_CLEAR(out);
  }
  return out;
}

const char pack_call_doc[] =
    "pack_call(task, function, args, datum, inline_max, future_type, session) -> bytes | None\n\n"
    "A packed TaskCall: `function` is its packed function id, `args` a tuple of plain values and futures of `session`, "
    "`datum`\n"
    "its result or 0. None when an argument is of another kind or larger than inline_max.";

/* Access{direction, kind, datum, value, path, items, name}: a value that is in the call. */
static int put_literal(Buffer* b, const Buffer* blob, const char* name_and_rest, size_t size) {
  static const unsigned char kHead[] = {0x97, 0, 0, 0, 0x92, kValueInline, 0x91};
  if (put(b, kHead, sizeof kHead) < 0 || put_bin_header(b, blob->size) < 0 || put(b, blob->data, blob->size) < 0)
    return -1;
  return put(b, name_and_rest, size);
}

/* A datum that is read (direction 0) or written as the result (1). */
static int put_datum(Buffer* b, int direction, unsigned long long datum, const char* name, size_t size) {
  static const unsigned char kTail[] = {0x92, kValueNothing, 0x91, 0, 0xa0, 0x90};
  if (put_byte(b, 0x97) < 0 || put_byte(b, (unsigned)direction) < 0 || put_byte(b, 1) < 0) return -1;
  if (put_tagged(b, 0xcf, datum, 8) < 0 || put(b, kTail, sizeof kTail) < 0) return -1;
  return put(b, name, size);
}

/* What a call is made with: the parameters of pack_call that its parts need. */
typedef struct {
  PyObject* args;
  PyObject* future_type;
  PyObject* session;
  Py_ssize_t inline_max;
} Call;

/* All arguments in one record. 1: done, 0: not plain or too large, -1: exception. */
static int put_in_record(Buffer* b, const Call* call) {
  Buffer pickle;
  Buffer blob;
  buffer_init(&pickle);
  buffer_init(&blob);
  int done = put_record(&pickle, call->args);
  if (done > 0 && (Py_ssize_t)pickle.size + kBlobHeaderBytes > call->inline_max) done = 0;
  if (done > 0 &&
      (put_pickled_blob(&blob, pickle.data, pickle.size) < 0 || put_literal(b, &blob, "\xa0\x90\xa1*", 4) < 0))
    done = -1;
  buffer_free(&blob);
  buffer_free(&pickle);
  return done;
}

static int put_future(Buffer* b, const Call* call, PyObject* future) {
  PyObject* session = PyObject_GetAttrString(future, "_session");
  PyObject* datum = session == NULL ? NULL : PyObject_GetAttrString(future, "_datum");
  int done = datum == NULL ? -1 : session == call->session;
  if (done > 0) {
    const unsigned long long number = PyLong_AsUnsignedLongLong(datum);
    if (PyErr_Occurred() || put_datum(b, 0, number, "\xa0", 1) < 0) done = -1;
  }
  Py_XDECREF(session);
  Py_XDECREF(datum);
  return done;
}

/* One access per argument: with futures among them that is cheaper than a record. Results as for put_in_record. */
static int put_each(Buffer* b, const Call* call) {
  const Py_ssize_t count = PyTuple_Size(call->args);
  int done = 1;
  for (Py_ssize_t i = 0; done > 0 && i < count; ++i) {
    PyObject* arg = PyTuple_GetItem(call->args, i);
    if ((PyObject*)Py_TYPE(arg) == call->future_type) {
      done = put_future(b, call, arg);
      continue;
    }
    Buffer blob;
    buffer_init(&blob);
    done = put_blob(&blob, arg);
    if (done > 0 && (Py_ssize_t)blob.size > call->inline_max) done = 0;
    if (done > 0 && put_literal(b, &blob, "\xa0\x90\xa0", 3) < 0) done = -1;
    buffer_free(&blob);
  }
  return done;
}

static int put_call(Buffer* b, unsigned long long task, const char* function, Py_ssize_t function_size,
                    const Call* call, unsigned long long datum) {
  const Py_ssize_t count = PyTuple_Size(call->args);
  int futures = 0;
  for (Py_ssize_t i = 0; i < count; ++i)
    futures |= (PyObject*)Py_TYPE(PyTuple_GetItem(call->args, i)) == call->future_type;
  const size_t accesses = (futures ? (size_t)count : count > 0) + (datum != 0);
  if (put_byte(b, 0x94) < 0 || put_tagged(b, 0xcf, task, 8) < 0 || put(b, function, (size_t)function_size) < 0 ||
      put_array_header(b, accesses) < 0)
    return -1;
  const int done = futures ? put_each(b, call) : count > 0 ? put_in_record(b, call) : 1;
  if (done <= 0) return done;
  if (datum != 0 && put_datum(b, 1, datum, "\xa2$0", 3) < 0) return -1;
  return put_byte(b, 0xc0) < 0 ? -1 : 1;
}

PyObject* py_pack_call(PyObject* Py_UNUSED(module), PyObject* parameters) {
  unsigned long long task = 0;
  unsigned long long datum = 0;
  const char* function = NULL;
  Py_ssize_t function_size = 0;
  Call call = {NULL, NULL, NULL, 0};
  if (!PyArg_ParseTuple(parameters, "Ky#O!KnOO", &task, &function, &function_size, &PyTuple_Type, &call.args, &datum,
                        &call.inline_max, &call.future_type, &call.session))
    return NULL;
  Buffer b;
  buffer_init(&b);
  const int done = put_call(&b, task, function, function_size, &call, datum);
  PyObject* result = done > 0 ? to_bytes(&b) : done == 0 ? Py_NewRef(Py_None) : NULL;
  buffer_free(&b);
  return result;
}
