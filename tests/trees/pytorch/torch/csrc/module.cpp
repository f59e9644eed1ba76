#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <vector>

#include "dot.h"

namespace {

bool Numbers(PyObject* list, std::vector<double>* out) {
  for (Py_ssize_t i = 0; i < PyList_Size(list); ++i) {
    out->push_back(PyFloat_AsDouble(PyList_GetItem(list, i)));
    if (PyErr_Occurred()) return false;
  }
  return true;
}

PyObject* Dot(PyObject*, PyObject* arguments) {
  PyObject *x, *y;
  if (!PyArg_ParseTuple(arguments, "O!O!", &PyList_Type, &x, &PyList_Type, &y)) return nullptr;
  std::vector<double> a, b;
  if (!Numbers(x, &a) || !Numbers(y, &b)) return nullptr;
  if (a.size() != b.size()) return PyErr_Format(PyExc_ValueError, "the sequences differ in length");
  return PyFloat_FromDouble(torch::Dot(a.data(), b.data(), a.size()));
}

PyObject* Compiler(PyObject*, PyObject*) { return PyUnicode_FromString(torch::Compiler()); }
PyObject* Capability(PyObject*, PyObject*) { return PyUnicode_FromString(torch::Capability()); }

PyMethodDef methods[] = {{"dot", Dot, METH_VARARGS, "dot(x, y)"},
                         {"compiler", Compiler, METH_NOARGS, "its name and version"},
                         {"capability", Capability, METH_NOARGS, "DEFAULT, AVX2 or AVX512"},
                         {nullptr, nullptr, 0, nullptr}};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&module); }
