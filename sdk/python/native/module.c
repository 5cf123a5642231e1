/* The hot path of the Python SDK. Every function here has a twin in pure Python and leaves to it whatever is not
 * simple.
 *
 * Written against the stable ABI of CPython 3.11, so that one build serves all later interpreters. It links nothing.
 */
#include "blob.h"
#include "native.h"

enum { kRevision = 2 }; /* of what Python calls here; shoal/_native.py wants the same */

static PyMethodDef kMethods[] = {{"dumps", py_dumps, METH_O, dumps_doc},
                                 {"loads", py_loads, METH_O, loads_doc},
                                 {"unpack", py_unpack, METH_O, unpack_doc},
                                 {"values", py_values, METH_VARARGS, values_doc},
                                 {"pack_call", py_pack_call, METH_VARARGS, pack_call_doc},
                                 {"run", py_run, METH_VARARGS, run_doc},
                                 {"pack_done", py_pack_done, METH_VARARGS, pack_done_doc},
                                 {NULL, NULL, 0, NULL}};

static struct PyModuleDef kModule = {
    PyModuleDef_HEAD_INIT, "_shoal_native", "The hot path of the SDK in C.", -1, kMethods, NULL, NULL, NULL, NULL};

static int add_type(PyObject* module, PyType_Spec* spec) {
  PyObject* type = PyType_FromSpec(spec);
  const int failed = type == NULL || PyModule_AddType(module, (PyTypeObject*)type) < 0;
  Py_XDECREF(type);
  return failed ? -1 : 0;
}

PyMODINIT_FUNC PyInit__shoal_native(void) {
  if (init_blobs() < 0 || init_attempts() < 0 || init_runner() < 0) return NULL;
  PyObject* module = PyModule_Create(&kModule);
  if (module != NULL && (add_type(module, &channel_spec) < 0 || add_type(module, &runner_spec) < 0)) Py_CLEAR(module);
  if (module != NULL && PyModule_AddIntConstant(module, "REVISION", kRevision) < 0) Py_CLEAR(module);
  return module;
}
