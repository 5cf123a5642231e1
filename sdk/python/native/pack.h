/* A growing byte string, and msgpack values appended to it. */
#ifndef SHOAL_NATIVE_PACK_H
#define SHOAL_NATIVE_PACK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* ---- a growing byte string ---- */

typedef struct {
  unsigned char* data;
  size_t size;
  size_t capacity;
  unsigned char small[1024]; /* most messages end here, without an allocation */
} Buffer;

static inline void buffer_init(Buffer* b) {
  b->data = b->small;
  b->size = 0;
  b->capacity = sizeof b->small;
}

static inline void buffer_free(Buffer* b) {
  if (b->data != b->small) PyMem_Free(b->data);
}

static inline int reserve(Buffer* b, size_t more) {
  if (b->size + more <= b->capacity) return 0;
  size_t capacity = b->capacity * 2;
  while (capacity < b->size + more) capacity *= 2;
  unsigned char* data = PyMem_Malloc(capacity);
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

static inline int put(Buffer* b, const void* bytes, size_t size) {
  if (reserve(b, size) < 0) return -1;
  memcpy(b->data + b->size, bytes, size);
  b->size += size;
  return 0;
}

static inline int put_byte(Buffer* b, unsigned value) {
  const unsigned char byte = (unsigned char)value;
  return put(b, &byte, 1);
}

/* `tag`, then the low `bytes` bytes of `value`, most significant first. */
static inline int put_tagged(Buffer* b, unsigned tag, uint64_t value, int bytes) {
  unsigned char out[9];
  out[0] = (unsigned char)tag;
  for (int i = 0; i < bytes; ++i) out[1 + i] = (unsigned char)(value >> (8 * (bytes - 1 - i)));
  return put(b, out, (size_t)bytes + 1);
}

static inline int put_little(Buffer* b, uint64_t value, int bytes) {
  unsigned char out[8];
  for (int i = 0; i < bytes; ++i) out[i] = (unsigned char)(value >> (8 * i));
  return put(b, out, (size_t)bytes);
}

static inline PyObject* to_bytes(const Buffer* b) {
  return PyBytes_FromStringAndSize((const char*)b->data, (Py_ssize_t)b->size);
}

/* ---- msgpack ---- */

static inline int put_bin_header(Buffer* b, size_t size) {
  if (size < 1u << 8) return put_tagged(b, 0xc4, size, 1);
  if (size < 1u << 16) return put_tagged(b, 0xc5, size, 2);
  return put_tagged(b, 0xc6, size, 4);
}

static inline int put_array_header(Buffer* b, size_t items) {
  if (items < 16) return put_byte(b, 0x90u | (unsigned)items);
  if (items < 1u << 16) return put_tagged(b, 0xdc, items, 2);
  return put_tagged(b, 0xdd, items, 4);
}

static inline int put_integer(Buffer* b, long long value) {
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

static inline int put_float(Buffer* b, unsigned tag, double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return put_tagged(b, tag, bits, 8);
}

static inline int put_text(Buffer* b, const char* text, size_t size) {
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

#endif
