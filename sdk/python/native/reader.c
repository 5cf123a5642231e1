#include "reader.h"

#include <string.h>

enum { kDepthMax = 64 };

static PyObject* cut_short(void) {
  PyErr_SetString(PyExc_ValueError, "the message ends too early");
  return NULL;
}

static uint64_t left_of(const Reader* reader) {
  return (uint64_t)(reader->end - reader->at);
}

/* The number of `bytes` bytes after the tag; 0 when they are not there. */
static int length_after_tag(const Reader* reader, int bytes, uint64_t* value) {
  if (left_of(reader) < (uint64_t)bytes + 1) return 0;
  *value = big(reader->at + 1, bytes);
  return 1;
}

int take_array(Reader* reader, uint64_t* items) {
  if (left_of(reader) == 0) return 0;
  const unsigned tag = *reader->at;
  int bytes = 0;
  if (tag >= 0x90 && tag < 0xa0) {
    *items = tag & 15;
  } else if (tag == 0xdc || tag == 0xdd) {
    bytes = tag == 0xdc ? 2 : 4;
    if (!length_after_tag(reader, bytes, items)) return 0;
  } else {
    return 0;
  }
  if (*items > left_of(reader) - 1 - (uint64_t)bytes) return 0;
  reader->at += 1 + bytes;
  return 1;
}

int take_unsigned(Reader* reader, uint64_t* value) {
  if (left_of(reader) == 0) return 0;
  const unsigned tag = *reader->at;
  int bytes = 0;
  if (tag < 0x80) {
    *value = tag;
  } else if (tag >= 0xcc && tag <= 0xcf) {
    bytes = 1 << (tag - 0xcc);
    if (!length_after_tag(reader, bytes, value)) return 0;
  } else {
    return 0;
  }
  reader->at += 1 + bytes;
  return 1;
}

/* `size` bytes after a header of `header` bytes. */
static int take_bytes(Reader* reader, int header, uint64_t size, const unsigned char** bytes, uint64_t* out) {
  if (size > left_of(reader) - (uint64_t)header) return 0;
  *bytes = reader->at + header;
  *out = size;
  reader->at += (uint64_t)header + size;
  return 1;
}

int take_text(Reader* reader, const unsigned char** bytes, uint64_t* size) {
  if (left_of(reader) == 0) return 0;
  const unsigned tag = *reader->at;
  if (tag >= 0xa0 && tag < 0xc0) return take_bytes(reader, 1, tag & 31, bytes, size);
  if (tag < 0xd9 || tag > 0xdb) return 0;
  const int header = 1 << (tag - 0xd9);
  uint64_t length = 0;
  return length_after_tag(reader, header, &length) && take_bytes(reader, 1 + header, length, bytes, size);
}

int take_binary(Reader* reader, const unsigned char** bytes, uint64_t* size) {
  if (left_of(reader) == 0) return 0;
  const unsigned tag = *reader->at;
  if (tag < 0xc4 || tag > 0xc6) return 0;
  const int header = 1 << (tag - 0xc4);
  uint64_t length = 0;
  return length_after_tag(reader, header, &length) && take_bytes(reader, 1 + header, length, bytes, size);
}

static PyObject* read_at(Reader* reader, int depth);

static PyObject* read_items(Reader* reader, uint64_t items, int depth) {
  PyObject* list = PyList_New((Py_ssize_t)items);
  for (uint64_t i = 0; list != NULL && i < items; ++i) {
    PyObject* item = read_at(reader, depth - 1);
    if (item == NULL || PyList_SetItem(list, (Py_ssize_t)i, item) < 0) Py_CLEAR(list);
  }
  return list;
}

static PyObject* read_map(Reader* reader, uint64_t pairs, int depth) {
  if (pairs > left_of(reader) / 2) return cut_short();
  PyObject* map = PyDict_New();
  for (uint64_t i = 0; map != NULL && i < pairs; ++i) {
    PyObject* key = read_at(reader, depth - 1);
    PyObject* value = key == NULL ? NULL : read_at(reader, depth - 1);
    if (value == NULL || PyDict_SetItem(map, key, value) < 0) Py_CLEAR(map);
    Py_XDECREF(key);
    Py_XDECREF(value);
  }
  return map;
}

static PyObject* read_float(Reader* reader, int bytes) {
  uint64_t bits = 0;
  if (!length_after_tag(reader, bytes, &bits)) return cut_short();
  reader->at += 1 + bytes;
  if (bytes == 4) {
    const uint32_t low = (uint32_t)bits;
    float value;
    memcpy(&value, &low, sizeof value);
    return PyFloat_FromDouble((double)value);
  }
  double value;
  memcpy(&value, &bits, sizeof value);
  return PyFloat_FromDouble(value);
}

static PyObject* read_signed(Reader* reader, int bytes) {
  uint64_t bits = 0;
  if (!length_after_tag(reader, bytes, &bits)) return cut_short();
  reader->at += 1 + bytes;
  const unsigned unused = 64 - 8 * (unsigned)bytes;
  int64_t value;
  bits <<= unused;
  memcpy(&value, &bits, sizeof value);
  return PyLong_FromLongLong(value / ((int64_t)1 << unused));
}

static PyObject* read_at(Reader* reader, int depth) {
  if (depth <= 0) return PyErr_Format(PyExc_ValueError, "the message is nested deeper than %d", kDepthMax);
  if (left_of(reader) == 0) return cut_short();
  const unsigned tag = *reader->at;
  uint64_t number = 0;
  const unsigned char* bytes = NULL;
  if (take_unsigned(reader, &number)) return PyLong_FromUnsignedLongLong(number);
  if (take_array(reader, &number)) return read_items(reader, number, depth);
  if (take_text(reader, &bytes, &number)) return PyUnicode_DecodeUTF8((const char*)bytes, (Py_ssize_t)number, NULL);
  if (take_binary(reader, &bytes, &number)) return PyBytes_FromStringAndSize((const char*)bytes, (Py_ssize_t)number);
  if (tag >= 0x80 && tag < 0x90) {
    ++reader->at;
    return read_map(reader, tag & 15, depth);
  }
  if (tag == 0xde || tag == 0xdf) {
    const int header = tag == 0xde ? 2 : 4;
    if (!length_after_tag(reader, header, &number)) return cut_short();
    reader->at += 1 + header;
    return read_map(reader, number, depth);
  }
  if (tag == 0xca) return read_float(reader, 4);
  if (tag == 0xcb) return read_float(reader, 8);
  if (tag >= 0xd0 && tag <= 0xd3) return read_signed(reader, 1 << (tag - 0xd0));
  if (tag >= 0xe0) {
    ++reader->at;
    return PyLong_FromLong((long)tag - 256);
  }
  if (tag == 0xc0 || tag == 0xc2 || tag == 0xc3) {
    ++reader->at;
    return Py_NewRef(tag == 0xc0 ? Py_None : tag == 0xc3 ? Py_True : Py_False);
  }
  if (tag == 0xc1 || tag == 0xc7 || tag == 0xc8 || tag == 0xc9 || (tag >= 0xd4 && tag <= 0xd8))
    return PyErr_Format(PyExc_ValueError, "the message has a value of a type that is not used (tag 0x%x)", tag);
  return cut_short(); /* a header whose length or contents are not there */
}

PyObject* read_value(Reader* reader) {
  return read_at(reader, kDepthMax);
}
