// The extension module: the functions of kernels and networks, and what the library was compiled with.
#include "tensorflow/python/pywrap_module.h"

#include <vector>

#include "tensorflow/core/platform/cpu_info.h"

namespace tensorflow {
namespace {

PyObject* CompiledFeatures(PyObject*, PyObject*) {
  PyObject* list = PyList_New(0);
  for (std::size_t i = 0; i < kCpuFeatureCount; ++i) {
    if (!kCpuFeatures[i].compiled) continue;
    PyObject* name = PyUnicode_FromString(kCpuFeatures[i].name);
    PyList_Append(list, name);
    Py_XDECREF(name);
  }
  return list;
}

PyMethodDef kModuleMethods[] = {
    {"compiled_features", CompiledFeatures, METH_NOARGS, "names of the instructions that every file may use"},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_pywrap_tensorflow_internal", nullptr, -1, kModuleMethods,
                      nullptr,               nullptr,                       nullptr, nullptr};

}  // namespace
}  // namespace tensorflow

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__pywrap_tensorflow_internal() {
  PyObject* made = PyModule_Create(&tensorflow::module);
  if (!made) return nullptr;
#if defined(__clang__)
  const char* compiler = "Clang " __clang_version__;
#else
  const char* compiler = "GCC " __VERSION__;
#endif
  if (PyModule_AddFunctions(made, tensorflow::kKernelMethods) || PyModule_AddFunctions(made, tensorflow::kNetworkMethods) ||
      PyModule_AddStringConstant(made, "compiler_version", compiler)) {
    Py_DECREF(made);
    return nullptr;
  }
  return made;
}
