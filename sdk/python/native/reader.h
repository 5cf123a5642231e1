/* msgpack to Python: as msgpack.unpackb gives it, bin as bytes and str as str. Every length is checked against the
 * bytes there are, so that a small message cannot claim a large one. */
#ifndef SHOAL_NATIVE_READER_H
#define SHOAL_NATIVE_READER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

typedef struct {
  const unsigned char* at;
  const unsigned char* end;
} Reader;

static inline uint64_t big(const unsigned char* bytes, int count) {
  uint64_t value = 0;
  for (int i = 0; i < count; ++i) value = value << 8 | bytes[i];
  return value;
}

/* The next value (new reference). ValueError for bytes that are no msgpack, or an extension type. */
PyObject* read_value(Reader* reader);

/* What follows is an array, a non-negative integer, text, binary: its items, value, bytes. 0: it is something else or
 * cut short, and nothing was taken. Never an exception. */
int take_array(Reader* reader, uint64_t* items);
int take_unsigned(Reader* reader, uint64_t* value);
int take_text(Reader* reader, const unsigned char** bytes, uint64_t* size);
int take_binary(Reader* reader, const unsigned char** bytes, uint64_t* size);

#endif
