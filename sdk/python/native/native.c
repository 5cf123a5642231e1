/* sdk/python/native/native.c
 *
 * The hot path of the Python SDK: calls of plain values packed into a message, small values to blobs and back, and the
 * common attempt from its arguments to its packed outputs. Every function here has a twin in pure Python (shoal/_codec.py,
 * _serialize.py, executor/_attempt.py) and says None, or calls the fallback it was given, for whatever is not simple.
 * What the bytes mean: docs/client-protocol.md, sections 3 to 6.
 *
 * Written against the stable ABI of CPython 3.11, so that one file serves all later interpreters. It links nothing.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { kRaw = 0, kPickle = 1, kMsgpack = 2, kHeaderBytes = 16 };
enum { kValueNothing = 0, kValueInline = 1 };

static const unsigned char kMagic[4] = {'S', 'H', 'L', '1'};

/* References of the module, made once in init. */
static PyObject *pickle_loads;
static PyObject *text_current;
static PyTypeObject *coroutine_type;
static PyTypeObject *generator_type;

/* ---- a growing byte string ---- */

typedef struct {
  unsigned char *data;
  size_t size;
  size_t capacity;
  unsigned char small[1024]; /* most messages end here, without an allocation */
} Buffer;

static void buffer_init(Buffer *b) {
  b->data = b->small;
  b->size = 0;
  b->capacity = sizeof b->small;
}

static void buffer_free(Buffer *b) {
  if (b->data != b->small) PyMem_Free(b->data);
}

static int reserve(Buffer *b, size_t more) {
  if (b->size + more <= b->capacity) return 0;
  size_t capacity = b->capacity * 2;
  while (capacity < b->size + more) capacity *= 2;
  unsigned char *data = PyMem_Malloc(capacity);
  if (data == NULL) {
    PyErr_NoMemory();
    return -1;
  }
  memcpy(data, b->data, b->size);
  buffer_free(b);
  b->data = data;
  b->capacity = capacity;
  return 0;
}

static int put(Buffer *b, const void *bytes, size_t size) {
  if (reserve(b, size) < 0) return -1;
  memcpy(b->data + b->size, bytes, size);
  b->size += size;
  return 0;
}

static int put_byte(Buffer *b, unsigned value) {
  const unsigned char byte = (unsigned char)value;
  return put(b, &byte, 1);
}

/* `tag`, then the low `bytes` bytes of `value`, most significant first. */
static int put_tagged(Buffer *b, unsigned tag, uint64_t value, int bytes) {
  unsigned char out[9];
  out[0] = (unsigned char)tag;
  for (int i = 0; i < bytes; ++i) out[1 + i] = (unsigned char)(value >> (8 * (bytes - 1 - i)));
  return put(b, out, (size_t)bytes + 1);
}

static int put_little(Buffer *b, uint64_t value, int bytes) {
  unsigned char out[8];
  for (int i = 0; i < bytes; ++i) out[i] = (unsigned char)(value >> (8 * i));
  return put(b, out, (size_t)bytes);
}

static PyObject *to_bytes(const Buffer *b) { return PyBytes_FromStringAndSize((const char *)b->data, (Py_ssize_t)b->size); }

/* ---- msgpack ---- */

static int put_bin_header(Buffer *b, size_t size) {
  if (size < 1u << 8) return put_tagged(b, 0xc4, size, 1);
  if (size < 1u << 16) return put_tagged(b, 0xc5, size, 2);
  return put_tagged(b, 0xc6, size, 4);
}

static int put_array_header(Buffer *b, size_t items) {
  if (items < 16) return put_byte(b, 0x90u | (unsigned)items);
  if (items < 1u << 16) return put_tagged(b, 0xdc, items, 2);
  return put_tagged(b, 0xdd, items, 4);
}

static int put_integer(Buffer *b, long long value) {
  const uint64_t bits = (uint64_t)value;
  if (value >= 0) {
    if (value < 128) return put_byte(b, (unsigned)value);
    if (value < 1LL << 8) return put_tagged(b, 0xcc, bits, 1);
    if (value < 1LL << 16) return put_tagged(b, 0xcd, bits, 2);
    if (value < 1LL << 32) return put_tagged(b, 0xce, bits, 4);
    return put_tagged(b, 0xcf, bits, 8);
  }
  if (value >= -32) return put_byte(b, (unsigned)(bits & 0xff));
  if (value >= -(1LL << 7)) return put_tagged(b, 0xd0, bits, 1);
  if (value >= -(1LL << 15)) return put_tagged(b, 0xd1, bits, 2);
  if (value >= -(1LL << 31)) return put_tagged(b, 0xd2, bits, 4);
  return put_tagged(b, 0xd3, bits, 8);
}

static int put_float(Buffer *b, unsigned tag, double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return put_tagged(b, tag, bits, 8);
}

static int put_text(Buffer *b, const char *text, size_t size) {
  int failed;
  if (size < 32) {
    failed = put_byte(b, 0xa0u | (unsigned)size);
  } else if (size < 1u << 8) {
    failed = put_tagged(b, 0xd9, size, 1);
  } else if (size < 1u << 16) {
    failed = put_tagged(b, 0xda, size, 2);
  } else {
    failed = put_tagged(b, 0xdb, size, 4);
  }
  return failed < 0 ? -1 : put(b, text, size);
}

/* UTF-8 of a str; NULL without an exception for text that has none (lone surrogates), which pickle carries. */
static const char *utf8(PyObject *text, Py_ssize_t *size) {
  const char *bytes = PyUnicode_AsUTF8AndSize(text, size);
  if (bytes == NULL && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) PyErr_Clear();
  return bytes;
}

/* 1: appended, 0: `value` is no small scalar, -1: exception. */
static int put_scalar(Buffer *b, PyObject *value) {
  if (value == Py_None) return put_byte(b, 0xc0) < 0 ? -1 : 1;
  if (value == Py_True) return put_byte(b, 0xc3) < 0 ? -1 : 1;
  if (value == Py_False) return put_byte(b, 0xc2) < 0 ? -1 : 1;
  if (PyLong_CheckExact(value)) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0) return 0;
    return put_integer(b, number) < 0 ? -1 : 1;
  }
  if (PyFloat_CheckExact(value)) return put_float(b, 0xcb, PyFloat_AsDouble(value)) < 0 ? -1 : 1;
  if (PyUnicode_CheckExact(value)) {
    Py_ssize_t size = 0;
    const char *text = utf8(value, &size);
    if (text == NULL) return PyErr_Occurred() ? -1 : 0;
    return put_text(b, text, (size_t)size) < 0 ? -1 : 1;
  }
  return 0;
}

static int put_blob_header(Buffer *b, unsigned codec, uint64_t body) {
  if (put(b, kMagic, sizeof kMagic) < 0 || put_little(b, codec, 4) < 0) return -1;
  return put_little(b, body, 8);
}

static void set_blob_body(Buffer *b, size_t header, uint64_t body) {
  for (int i = 0; i < 8; ++i) b->data[header + 8 + (size_t)i] = (unsigned char)(body >> (8 * i));
}

/* Appends `value` as a blob. 1: done, 0: not a scalar and not bytes, -1: exception. */
static int put_blob(Buffer *b, PyObject *value) {
  if (PyBytes_CheckExact(value)) {
    char *bytes = NULL;
    Py_ssize_t size = 0;
    if (PyBytes_AsStringAndSize(value, &bytes, &size) < 0) return -1;
    return put_blob_header(b, kRaw, (uint64_t)size) < 0 || put(b, bytes, (size_t)size) < 0 ? -1 : 1;
  }
  const size_t header = b->size;
  if (put_blob_header(b, kMsgpack, 0) < 0) return -1;
  const int put_it = put_scalar(b, value);
  if (put_it <= 0) {
    b->size = header;
    return put_it;
  }
  set_blob_body(b, header, b->size - header - kHeaderBytes);
  return 1;
}

/* ---- pickle, protocol 5, of a call record ---- */

static int put_pickled(Buffer *b, PyObject *value) {
  if (value == Py_None) return put_byte(b, 'N') < 0 ? -1 : 1;
  if (value == Py_True) return put_byte(b, 0x88) < 0 ? -1 : 1;
  if (value == Py_False) return put_byte(b, 0x89) < 0 ? -1 : 1;
  if (PyLong_CheckExact(value)) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0) return 0;
    if (number >= 0 && number < 256) return put_byte(b, 'K') < 0 || put_little(b, (uint64_t)number, 1) < 0 ? -1 : 1;
    if (number >= 0 && number < 65536) return put_byte(b, 'M') < 0 || put_little(b, (uint64_t)number, 2) < 0 ? -1 : 1;
    if (number >= INT32_MIN && number <= INT32_MAX)
      return put_byte(b, 'J') < 0 || put_little(b, (uint64_t)number, 4) < 0 ? -1 : 1;
    return put(b, "\x8a\x08", 2) < 0 || put_little(b, (uint64_t)number, 8) < 0 ? -1 : 1;
  }
  if (PyFloat_CheckExact(value)) return put_float(b, 'G', PyFloat_AsDouble(value)) < 0 ? -1 : 1;
  char *bytes = NULL;
  Py_ssize_t size = 0;
  unsigned small = 0x8c;
  unsigned large = 'X';
  if (PyUnicode_CheckExact(value)) {
    bytes = (char *)utf8(value, &size);
    if (bytes == NULL) return PyErr_Occurred() ? -1 : 0;
  } else if (PyBytes_CheckExact(value)) {
    if (PyBytes_AsStringAndSize(value, &bytes, &size) < 0) return -1;
    small = 'C';
    large = 'B';
  } else {
    return 0;
  }
  if (size > INT32_MAX) return 0;
  if (put_byte(b, size < 256 ? small : large) < 0 || put_little(b, (uint64_t)size, size < 256 ? 1 : 4) < 0) return -1;
  return put(b, bytes, (size_t)size) < 0 ? -1 : 1;
}

/* The pickle of (args, {}, ()). Results as for put_scalar. */
static int put_record(Buffer *b, PyObject *args) {
  const Py_ssize_t count = PyTuple_Size(args);
  if (put(b, "\x80\x05", 2) < 0) return -1;
  if (count > 3 && put_byte(b, '(') < 0) return -1;
  for (Py_ssize_t i = 0; i < count; ++i) {
    const int done = put_pickled(b, PyTuple_GetItem(args, i));
    if (done <= 0) return done;
  }
  static const unsigned char kTuple[4] = {')', 0x85, 0x86, 0x87};
  if (put_byte(b, count > 3 ? 't' : kTuple[count]) < 0) return -1;
  return put(b, "})\x87.", 4) < 0 ? -1 : 1;
}

/* ---- blobs to values ---- */

static uint64_t big(const unsigned char *bytes, int count) {
  uint64_t value = 0;
  for (int i = 0; i < count; ++i) value = value << 8 | bytes[i];
  return value;
}

static uint64_t little(const unsigned char *bytes, int count) {
  uint64_t value = 0;
  for (int i = count; i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

/* The scalar that `size` bytes of msgpack are; Py_NotImplemented (new reference) for anything else. */
static PyObject *scalar(const unsigned char *body, uint64_t size) {
  if (size == 0) Py_RETURN_NOTIMPLEMENTED;
  const unsigned tag = body[0];
  const unsigned char *rest = body + 1;
  const uint64_t left = size - 1;
  if (left == 0) {
    if (tag < 0x80) return PyLong_FromLong((long)tag);
    if (tag >= 0xe0) return PyLong_FromLong((long)tag - 256);
    if (tag == 0xc0) Py_RETURN_NONE;
    if (tag == 0xc2) Py_RETURN_FALSE;
    if (tag == 0xc3) Py_RETURN_TRUE;
  }
  if (tag >= 0xa0 && tag < 0xc0 && left == (tag & 31u)) return PyUnicode_FromStringAndSize((const char *)rest, tag & 31);
  if (tag == 0xcb && left == 8) {
    const uint64_t bits = big(rest, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return PyFloat_FromDouble(value);
  }
  if (tag >= 0xcc && tag <= 0xcf && left == 1u << (tag - 0xcc)) return PyLong_FromUnsignedLongLong(big(rest, (int)left));
  if (tag >= 0xd0 && tag <= 0xd3 && left == 1u << (tag - 0xd0)) {
    const unsigned unused = 64 - 8 * (unsigned)left;
    const uint64_t bits = big(rest, (int)left) << unused;
    int64_t value;
    memcpy(&value, &bits, sizeof value);
    return PyLong_FromLongLong(value / ((int64_t)1 << unused));
  }
  if (tag >= 0xd9 && tag <= 0xdb) {
    const uint64_t bytes = 1u << (tag - 0xd9);
    if (left >= bytes && left - bytes == big(rest, (int)bytes)) {
      return PyUnicode_FromStringAndSize((const char *)rest + bytes, (Py_ssize_t)(left - bytes));
    }
  }
  Py_RETURN_NOTIMPLEMENTED;
}

/* The value of a small blob; Py_NotImplemented when the general reader has to look at it. */
static PyObject *load(PyObject *blob) {
  char *data = NULL;
  Py_ssize_t size = 0;
  if (!PyBytes_CheckExact(blob)) Py_RETURN_NOTIMPLEMENTED;
  if (PyBytes_AsStringAndSize(blob, &data, &size) < 0) return NULL;
  const unsigned char *bytes = (const unsigned char *)data;
  if (size < kHeaderBytes || memcmp(bytes, kMagic, sizeof kMagic) != 0) Py_RETURN_NOTIMPLEMENTED;
  if (bytes[5] != 0 || bytes[6] != 0 || bytes[7] != 0) Py_RETURN_NOTIMPLEMENTED; /* flags, buffers */
  const uint64_t body = little(bytes + 8, 8);
  if (body > (uint64_t)size - kHeaderBytes) Py_RETURN_NOTIMPLEMENTED; /* cut short: the general reader says so */
  if (bytes[4] == kMsgpack) return scalar(bytes + kHeaderBytes, body);
  if (bytes[4] == kRaw) return PyBytes_FromStringAndSize(data + kHeaderBytes, (Py_ssize_t)body);
  if (bytes[4] != kPickle) Py_RETURN_NOTIMPLEMENTED;
  PyObject *view = PyMemoryView_FromMemory(data + kHeaderBytes, (Py_ssize_t)body, PyBUF_READ);
  if (view == NULL) return NULL;
  PyObject *value = PyObject_CallFunctionObjArgs(pickle_loads, view, NULL);
  Py_DECREF(view);
  return value;
}

/* The blob of a client::Value that is inline; NULL without an exception otherwise. Borrowed. */
static PyObject *inline_blob(PyObject *value) {
  if (!PyList_CheckExact(value) || PyList_Size(value) < 2) return NULL;
  PyObject *index = PyList_GetItem(value, 0);
  if (!PyLong_CheckExact(index) || PyLong_AsLong(index) != kValueInline) return NULL;
  PyObject *fields = PyList_GetItem(value, 1);
  return PyList_CheckExact(fields) && PyList_Size(fields) >= 1 ? PyList_GetItem(fields, 0) : NULL;
}

/* ---- what Python calls ---- */

PyDoc_STRVAR(dumps_doc,
             "dumps(value) -> bytes | None\n\n"
             "The blob of a scalar or bytes; None for any other value.");

static PyObject *py_dumps(PyObject *Py_UNUSED(module), PyObject *value) {
  Buffer b;
  buffer_init(&b);
  const int done = put_blob(&b, value);
  PyObject *result = done > 0 ? to_bytes(&b) : done == 0 ? Py_NewRef(Py_None) : NULL;
  buffer_free(&b);
  return result;
}

PyDoc_STRVAR(loads_doc,
             "loads(blob) -> value | NotImplemented\n\n"
             "The value of a small blob; NotImplemented when the general reader has to look at it.");

static PyObject *py_loads(PyObject *Py_UNUSED(module), PyObject *blob) { return load(blob); }

PyDoc_STRVAR(values_doc,
             "values(results, general) -> list\n\n"
             "The values of a list of ValueResults. general(result) is called for those that failed or are not small.");

static PyObject *py_values(PyObject *Py_UNUSED(module), PyObject *args) {
  PyObject *results = NULL;
  PyObject *general = NULL;
  if (!PyArg_ParseTuple(args, "OO", &results, &general)) return NULL;
  if (!PyList_Check(results)) return PyErr_Format(PyExc_TypeError, "results must be a list");
  const Py_ssize_t count = PyList_Size(results);
  PyObject *out = PyList_New(0);
  for (Py_ssize_t i = 0; out != NULL && i < count; ++i) {
    PyObject *result = PyList_GetItem(results, i);
    if (result == NULL) break;
    Py_INCREF(result);
    PyObject *value = NULL;
    if (PyList_CheckExact(result) && PyList_Size(result) >= 4) {
      PyObject *code = PyList_GetItem(result, 1);
      PyObject *blob = inline_blob(PyList_GetItem(result, 3));
      if (blob != NULL && PyLong_CheckExact(code) && PyLong_AsLong(code) == 0) value = load(blob);
    }
    if (value == Py_NotImplemented) Py_CLEAR(value);
    if (value == NULL && !PyErr_Occurred()) value = PyObject_CallFunctionObjArgs(general, result, NULL);
    Py_DECREF(result);
    const int failed = value == NULL || PyList_Append(out, value) < 0;
    Py_XDECREF(value);
    if (failed) Py_CLEAR(out);
  }
  return out;
}

PyDoc_STRVAR(pack_call_doc,
             "pack_call(task, function, args, datum, inline_max) -> bytes | None\n\n"
             "A packed TaskCall: `function` is its packed function id, `args` a tuple of plain values, `datum` its result or 0.\n"
             "None when an argument is not plain or the record is larger than inline_max.");

static int put_call(Buffer *b, unsigned long long task, const char *function, Py_ssize_t function_size, PyObject *args,
                    unsigned long long datum, Py_ssize_t inline_max) {
  const Py_ssize_t count = PyTuple_Size(args);
  Buffer record;
  buffer_init(&record);
  int done = count > 0 ? put_record(&record, args) : 1;
  if (done > 0 && (Py_ssize_t)record.size + kHeaderBytes > inline_max) done = 0;
  if (done > 0) {
    /* Access{direction, kind, datum, value, path, items, name} */
    static const unsigned char kRecordHead[] = {0x97, 0, 0, 0, 0x92, kValueInline, 0x91};
    static const unsigned char kRecordTail[] = {0xa0, 0x90, 0xa1, '*'};
    static const unsigned char kResultTail[] = {0x92, kValueNothing, 0x91, 0, 0xa0, 0x90, 0xa2, '$', '0'};
    int bad = put_byte(b, 0x94) < 0 || put_tagged(b, 0xcf, task, 8) < 0 || put(b, function, (size_t)function_size) < 0 ||
              put_array_header(b, (count > 0 ? 1u : 0u) + (datum != 0 ? 1u : 0u)) < 0;
    if (!bad && count > 0) {
      bad = put(b, kRecordHead, sizeof kRecordHead) < 0 || put_bin_header(b, record.size + kHeaderBytes) < 0 ||
            put_blob_header(b, kPickle, record.size) < 0 || put(b, record.data, record.size) < 0 ||
            put(b, kRecordTail, sizeof kRecordTail) < 0;
    }
    if (!bad && datum != 0) {
      bad = put(b, "\x97\x01\x01", 3) < 0 || put_tagged(b, 0xcf, datum, 8) < 0 ||
            put(b, kResultTail, sizeof kResultTail) < 0;
    }
    if (bad || put_byte(b, 0xc0) < 0) done = -1;
  }
  buffer_free(&record);
  return done;
}

static PyObject *py_pack_call(PyObject *Py_UNUSED(module), PyObject *parameters) {
  unsigned long long task = 0;
  unsigned long long datum = 0;
  const char *function = NULL;
  Py_ssize_t function_size = 0;
  Py_ssize_t inline_max = 0;
  PyObject *args = NULL;
  if (!PyArg_ParseTuple(parameters, "Ky#O!Kn", &task, &function, &function_size, &PyTuple_Type, &args, &datum, &inline_max))
    return NULL;
  Buffer b;
  buffer_init(&b);
  const int done = put_call(&b, task, function, function_size, args, datum, inline_max);
  PyObject *result = done > 0 ? to_bytes(&b) : done == 0 ? Py_NewRef(Py_None) : NULL;
  buffer_free(&b);
  return result;
}

/* ---- the common attempt ---- */

/* True when the argument has this name. */
static int is_named(PyObject *argument, const char *name) {
  if (!PyList_CheckExact(argument) || PyList_Size(argument) < 5) return 0;
  PyObject *text = PyList_GetItem(argument, 4);
  return PyUnicode_CheckExact(text) && PyUnicode_CompareWithASCIIString(text, name) == 0;
}

/* The (args, kwargs) of a call record that writes nothing. 1: found (new references), 0: not simple, -1: exception. */
static int load_record(PyObject *argument, PyObject **args, PyObject **kwargs) {
  PyObject *blob = inline_blob(PyList_GetItem(argument, 2));
  if (blob == NULL) return 0;
  PyObject *record = load(blob);
  if (record == NULL) return -1;
  int done = 0;
  if (PyTuple_CheckExact(record) && PyTuple_Size(record) == 3) {
    PyObject *writes = PyTuple_GetItem(record, 2);
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

PyDoc_STRVAR(run_doc,
             "run(call, arguments, inline_max, runtime, general) -> bytes | None\n\n"
             "Calls `call` with the record in `arguments` and packs its outputs: the common attempt, with inline arguments that\n"
             "are not tracked and at most one result. None, before anything was called, for an attempt of another kind.\n"
             "general(result, wanted) packs a result that is not small, was made with nested tasks (`runtime.current`), or is a\n"
             "coroutine or generator. Raises what the function raises.");

static PyObject *pack_result(PyObject *result, int wanted, Py_ssize_t inline_max, PyObject *runtime, PyObject *general) {
  PyObject *nested = PyObject_GetAttr(runtime, text_current);
  if (nested == NULL) return NULL;
  const int simple = nested == Py_None && Py_TYPE(result) != coroutine_type && Py_TYPE(result) != generator_type;
  Py_DECREF(nested);
  if (simple && !wanted) return PyBytes_FromStringAndSize("\x90", 1);
  if (simple) {
    Buffer blob;
    buffer_init(&blob);
    int done = put_blob(&blob, result);
    PyObject *packed = NULL;
    if (done > 0 && (Py_ssize_t)blob.size <= inline_max) {
      Buffer b;
      buffer_init(&b);
      if (put(&b, "\x91\x92\x01\x91", 4) == 0 && put_bin_header(&b, blob.size) == 0 && put(&b, blob.data, blob.size) == 0)
        packed = to_bytes(&b);
      buffer_free(&b);
      if (packed == NULL) done = -1;
    }
    buffer_free(&blob);
    if (done < 0 || packed != NULL) return packed;
  }
  PyObject *flag = PyBool_FromLong(wanted);
  PyObject *packed = PyObject_CallFunctionObjArgs(general, result, flag, NULL);
  Py_XDECREF(flag);
  return packed;
}

static PyObject *py_run(PyObject *Py_UNUSED(module), PyObject *parameters) {
  PyObject *call = NULL;
  PyObject *arguments = NULL;
  PyObject *runtime = NULL;
  PyObject *general = NULL;
  Py_ssize_t inline_max = 0;
  if (!PyArg_ParseTuple(parameters, "OO!nOO", &call, &PyList_Type, &arguments, &inline_max, &runtime, &general)) return NULL;
  const Py_ssize_t count = PyList_Size(arguments);
  if (count > 2) Py_RETURN_NONE;
  const int recorded = count > 0 && is_named(PyList_GetItem(arguments, 0), "*");
  const int wanted = count - recorded;
  if (wanted > 1 || (wanted == 1 && !is_named(PyList_GetItem(arguments, count - 1), "$0"))) Py_RETURN_NONE;
  PyObject *args = NULL;
  PyObject *kwargs = NULL;
  const int found = recorded ? load_record(PyList_GetItem(arguments, 0), &args, &kwargs) : 1;
  PyObject *packed = NULL;
  if (found == 0) {
    packed = Py_NewRef(Py_None);
  } else if (found > 0) {
    if (args == NULL) args = PyTuple_New(0);
    PyObject *result = args != NULL ? PyObject_Call(call, args, kwargs) : NULL;
    if (result != NULL) packed = pack_result(result, wanted, inline_max, runtime, general);
    Py_XDECREF(result);
  }
  Py_XDECREF(args);
  Py_XDECREF(kwargs);
  return packed;
}

PyDoc_STRVAR(pack_done_doc,
             "pack_done(attempt, outputs, run_us) -> bytes\n\n"
             "The packed AttemptResult of an attempt that returned; `outputs` are packed already.");

static PyObject *py_pack_done(PyObject *Py_UNUSED(module), PyObject *args) {
  unsigned long long attempt = 0;
  unsigned long long run_us = 0;
  const char *outputs = NULL;
  Py_ssize_t size = 0;
  if (!PyArg_ParseTuple(args, "Ky#K", &attempt, &outputs, &size, &run_us)) return NULL;
  Buffer b;
  buffer_init(&b);
  /* AttemptResult{attempt, outcome, message, error, outputs, run_us}: done, no message, no error */
  const int bad = put_byte(&b, 0x96) < 0 || put_tagged(&b, 0xcf, attempt, 8) < 0 || put(&b, "\0\xa0\xc4\0", 4) < 0 ||
                  put(&b, outputs, (size_t)size) < 0 || put_tagged(&b, 0xcf, run_us, 8) < 0;
  PyObject *result = bad ? NULL : to_bytes(&b);
  buffer_free(&b);
  return result;
}

static PyMethodDef kMethods[] = {{"dumps", py_dumps, METH_O, dumps_doc},
                                 {"loads", py_loads, METH_O, loads_doc},
                                 {"values", py_values, METH_VARARGS, values_doc},
                                 {"pack_call", py_pack_call, METH_VARARGS, pack_call_doc},
                                 {"run", py_run, METH_VARARGS, run_doc},
                                 {"pack_done", py_pack_done, METH_VARARGS, pack_done_doc},
                                 {NULL, NULL, 0, NULL}};

static struct PyModuleDef kModule = {PyModuleDef_HEAD_INIT, "_shoal_native", "The hot path of the SDK in C.", -1, kMethods,
                                     NULL,                  NULL,            NULL,                            NULL};

static PyObject *attribute(const char *module_name, const char *name) {
  PyObject *module = PyImport_ImportModule(module_name);
  if (module == NULL) return NULL;
  PyObject *found = PyObject_GetAttrString(module, name);
  Py_DECREF(module);
  return found;
}

PyMODINIT_FUNC PyInit__shoal_native(void) {
  pickle_loads = attribute("pickle", "loads");
  coroutine_type = (PyTypeObject *)attribute("types", "CoroutineType");
  generator_type = (PyTypeObject *)attribute("types", "GeneratorType");
  text_current = PyUnicode_InternFromString("current");
  if (pickle_loads == NULL || coroutine_type == NULL || generator_type == NULL || text_current == NULL) return NULL;
  return PyModule_Create(&kModule);
}
