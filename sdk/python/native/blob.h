/* Small values to blobs and back (docs/client-protocol.md, section 3), and call records. */
#ifndef SHOAL_NATIVE_BLOB_H
#define SHOAL_NATIVE_BLOB_H

#include "pack.h"

enum { kBlobHeaderBytes = 16 };

/* To be called once, when the module is made. -1: exception. */
int init_blobs(void);

/* Appends `value` as msgpack. 1: appended, 0: `value` is no small scalar, -1: exception. */
int put_scalar(Buffer* b, PyObject* value);

/* Appends `value` as a blob. 1: done, 0: not a scalar and not bytes, -1: exception. */
int put_blob(Buffer* b, PyObject* value);

/* Appends the pickle of the call record (args, {}, ()). Results as for put_blob. */
int put_record(Buffer* b, PyObject* args);

/* Appends the blob of a pickle. */
int put_pickled_blob(Buffer* b, const unsigned char* pickle, size_t size);

/* The value of a small blob; Py_NotImplemented (new reference) when the general reader has to look at it. */
PyObject* load_bytes(const unsigned char* bytes, size_t size);
PyObject* load_blob(PyObject* blob);

/* The blob of a client::Value that is inline; NULL without an exception otherwise. Borrowed. */
PyObject* inline_blob(PyObject* value);

#endif
