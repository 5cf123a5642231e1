/* Small values to blobs and back. The general reader and writer is shoal/_serialize.py. */
#include "blob.h"

#include "reader.h"

enum { kRaw = 0, kPickle = 1, kMsgpack = 2 };
enum { kValueInline = 1 };

static const unsigned char kMagic[4] = {'S', 'H', 'L', '1'};

static PyObject* pickle_loads; /* made once in init */

int init_blobs(void) {
  PyObject* pickle = PyImport_ImportModule("pickle");
  if (pickle == NULL) return -1;
  pickle_loads = PyObject_GetAttrString(pickle, "loads");
  Py_DECREF(pickle);
  return pickle_loads == NULL ? -1 : 0;
}

/* UTF-8 of a str; NULL without an exception for text that has none (lone surrogates), which pickle carries. */
static const char* utf8(PyObject* text, Py_ssize_t* size) {
  const char* bytes = PyUnicode_AsUTF8AndSize(text, size);
  if (bytes == NULL && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) PyErr_Clear();
  return bytes;
}

int put_scalar(Buffer* b, PyObject* value) {
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
    const char* text = utf8(value, &size);
    if (text == NULL) return PyErr_Occurred() ? -1 : 0;
    return put_text(b, text, (size_t)size) < 0 ? -1 : 1;
  }
  return 0;
}

static int put_blob_header(Buffer* b, unsigned codec, uint64_t body) {
  if (put(b, kMagic, sizeof kMagic) < 0 || put_little(b, codec, 4) < 0) return -1;
  return put_little(b, body, 8);
}

static void set_blob_body(Buffer* b, size_t header, uint64_t body) {
  for (int i = 0; i < 8; ++i) b->data[header + 8 + (size_t)i] = (unsigned char)(body >> (8 * i));
}

int put_blob(Buffer* b, PyObject* value) {
  if (PyBytes_CheckExact(value)) {
    char* bytes = NULL;
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
  set_blob_body(b, header, b->size - header - kBlobHeaderBytes);
  return 1;
}

/* ---- pickle, protocol 5, of a call record ---- */

static int put_pickled(Buffer* b, PyObject* value) {
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
  char* bytes = NULL;
  Py_ssize_t size = 0;
  unsigned small = 0x8c;
  unsigned large = 'X';
  if (PyUnicode_CheckExact(value)) {
    bytes = (char*)utf8(value, &size);
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

int put_record(Buffer* b, PyObject* args) {
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

int put_pickled_blob(Buffer* b, const unsigned char* pickle, size_t size) {
  return put_blob_header(b, kPickle, size) < 0 ? -1 : put(b, pickle, size);
}

/* ---- blobs to values ---- */

static uint64_t little(const unsigned char* bytes, int count) {
  uint64_t value = 0;
  for (int i = count; i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

/* The scalar that `size` bytes of msgpack are; Py_NotImplemented (new reference) for anything else. */
static PyObject* scalar(const unsigned char* body, uint64_t size) {
  if (size == 0) Py_RETURN_NOTIMPLEMENTED;
  const unsigned tag = body[0];
  const unsigned char* rest = body + 1;
  const uint64_t left = size - 1;
  if (left == 0) {
    if (tag < 0x80) return PyLong_FromLong((long)tag);
    if (tag >= 0xe0) return PyLong_FromLong((long)tag - 256);
    if (tag == 0xc0) Py_RETURN_NONE;
    if (tag == 0xc2) Py_RETURN_FALSE;
    if (tag == 0xc3) Py_RETURN_TRUE;
  }
  if (tag >= 0xa0 && tag < 0xc0 && left == (tag & 31u)) return PyUnicode_FromStringAndSize((const char*)rest, tag & 31);
  if (tag == 0xcb && left == 8) {
    const uint64_t bits = big(rest, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return PyFloat_FromDouble(value);
  }
  if (tag >= 0xcc && tag <= 0xcf && left == 1u << (tag - 0xcc))
    return PyLong_FromUnsignedLongLong(big(rest, (int)left));
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
      return PyUnicode_FromStringAndSize((const char*)rest + bytes, (Py_ssize_t)(left - bytes));
    }
  }
  Py_RETURN_NOTIMPLEMENTED;
}

PyObject* load_bytes(const unsigned char* bytes, size_t size) {
  if (size < kBlobHeaderBytes || memcmp(bytes, kMagic, sizeof kMagic) != 0) Py_RETURN_NOTIMPLEMENTED;
  if (bytes[5] != 0 || bytes[6] != 0 || bytes[7] != 0) Py_RETURN_NOTIMPLEMENTED; /* flags, buffers */
  const uint64_t body = little(bytes + 8, 8);
  if (body > size - kBlobHeaderBytes) Py_RETURN_NOTIMPLEMENTED; /* cut short: the general reader says so */
  if (bytes[4] == kMsgpack) return scalar(bytes + kBlobHeaderBytes, body);
  if (bytes[4] == kRaw) return PyBytes_FromStringAndSize((const char*)bytes + kBlobHeaderBytes, (Py_ssize_t)body);
  if (bytes[4] != kPickle) Py_RETURN_NOTIMPLEMENTED;
  PyObject* view = PyMemoryView_FromMemory((char*)bytes + kBlobHeaderBytes, (Py_ssize_t)body, PyBUF_READ);
  if (view == NULL) return NULL;
  PyObject* value = PyObject_CallFunctionObjArgs(pickle_loads, view, NULL);
  Py_DECREF(view);
  return value;
}

PyObject* load_blob(PyObject* blob) {
  char* data = NULL;
  Py_ssize_t size = 0;
  if (!PyBytes_CheckExact(blob)) Py_RETURN_NOTIMPLEMENTED;
  if (PyBytes_AsStringAndSize(blob, &data, &size) < 0) return NULL;
  return load_bytes((const unsigned char*)data, (size_t)size);
}

PyObject* inline_blob(PyObject* value) {
  if (!PyList_CheckExact(value) || PyList_Size(value) < 2) return NULL;
  PyObject* index = PyList_GetItem(value, 0);
  if (!PyLong_CheckExact(index) || PyLong_AsLong(index) != kValueInline) return NULL;
  PyObject* fields = PyList_GetItem(value, 1);
  return PyList_CheckExact(fields) && PyList_Size(fields) >= 1 ? PyList_GetItem(fields, 0) : NULL;
}
