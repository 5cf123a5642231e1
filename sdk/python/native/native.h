/* What the files of the module share. */
#ifndef SHOAL_NATIVE_NATIVE_H
#define SHOAL_NATIVE_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <time.h>

static inline int64_t monotonic_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

extern PyType_Spec channel_spec; /* channel.c */
extern PyType_Spec runner_spec;  /* runner.c */

/* attempt.c. To be called once, when the module is made. -1: exception. */
int init_attempts(void);

/* runner.c. The same. */
int init_runner(void);

/* The packed outputs of the common attempt; None (new reference), before anything was called, for one of another kind.
 */
PyObject* run_simple(PyObject* call, PyObject* arguments, Py_ssize_t inline_max, PyObject* runtime, PyObject* general);

/* The packed AttemptResult of an attempt that returned. */
PyObject* pack_done(unsigned long long attempt, const char* outputs, Py_ssize_t size, unsigned long long run_us);

/* Methods of the module. */
extern const char dumps_doc[], loads_doc[], values_doc[], pack_call_doc[], run_doc[], pack_done_doc[], unpack_doc[];
PyObject* py_dumps(PyObject* module, PyObject* value);
PyObject* py_loads(PyObject* module, PyObject* blob);
PyObject* py_values(PyObject* module, PyObject* args);
PyObject* py_unpack(PyObject* module, PyObject* body);
PyObject* py_pack_call(PyObject* module, PyObject* args);
PyObject* py_run(PyObject* module, PyObject* args);
PyObject* py_pack_done(PyObject* module, PyObject* args);

#endif
