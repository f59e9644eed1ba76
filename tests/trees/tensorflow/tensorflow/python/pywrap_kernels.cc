// Python's way to the registered kernels. Arrays are contiguous, of the type whose name is given.
#include <string>

#include "tensorflow/core/framework/registry.h"
#include "tensorflow/core/platform/cpu_feature_guard.h"
#include "tensorflow/python/pywrap_module.h"

namespace tensorflow {
namespace {

const struct {
  const char* name;
  DType type;
  Py_ssize_t size;
} kTypes[] = {{"float32", DType::kFloat, 4}, {"float64", DType::kDouble, 8}, {"int32", DType::kInt32, 4},
              {"int64", DType::kInt64, 8}};

// The kernel's function and the size of an element; null and a Python error where there is none.
template <typename Function>
Function Find(const char* op, const char* type, Kind kind, Py_ssize_t* size) {
  InfoAboutUnusedCpuFeatures();
  for (const auto& known : kTypes) {
    const Kernel* kernel = type == std::string(known.name) ? FindKernel(op, known.type, kind) : nullptr;
    *size = known.size;
    if (kernel) return reinterpret_cast<Function>(kernel->function);
  }
  PyErr_Format(PyExc_TypeError, "no kernel registered for operation %s on %s", op, type);
  return nullptr;
}

PyObject* Refuse() {
  PyErr_SetString(PyExc_ValueError, "the arrays' sizes do not fit together");
  return nullptr;
}

PyObject* Unary(PyObject*, PyObject* arguments) {
  const char *op, *type;
  Array a, b;
  if (!PyArg_ParseTuple(arguments, "ssy*w*", &op, &type, a.view(), b.view())) return nullptr;
  Py_ssize_t size;
  auto* kernel = Find<UnaryKernel>(op, type, Kind::kUnary, &size);
  if (!kernel) return nullptr;
  if (a.bytes() != b.bytes()) return Refuse();
  kernel(a.data<void>(), b.data<void>(), a.bytes() / size);
  Py_RETURN_NONE;
}

PyObject* Binary(PyObject*, PyObject* arguments) {
  const char *op, *type;
  Array a, b, c;
  if (!PyArg_ParseTuple(arguments, "ssy*y*w*", &op, &type, a.view(), b.view(), c.view())) return nullptr;
  Py_ssize_t size;
  auto* kernel = Find<BinaryKernel>(op, type, Kind::kBinary, &size);
  if (!kernel) return nullptr;
  if (a.bytes() != b.bytes() || a.bytes() != c.bytes()) return Refuse();
  kernel(a.data<void>(), b.data<void>(), c.data<void>(), a.bytes() / size);
  Py_RETURN_NONE;
}

PyObject* Reduce(PyObject*, PyObject* arguments) {
  const char *op, *type;
  Array a, b;
  if (!PyArg_ParseTuple(arguments, "ssy*w*", &op, &type, a.view(), b.view())) return nullptr;
  Py_ssize_t size;
  auto* kernel = Find<ReductionKernel>(op, type, Kind::kReduction, &size);
  if (!kernel) return nullptr;
  const Py_ssize_t rows = b.bytes() / size;
  if (!rows || !a.bytes() || a.bytes() % b.bytes()) return Refuse();
  kernel(a.data<void>(), b.data<void>(), rows, a.bytes() / b.bytes());
  Py_RETURN_NONE;
}

PyObject* MatMul(PyObject*, PyObject* arguments) {
  const char* type;
  Array a, b, c;
  Py_ssize_t m, k, n, size;
  if (!PyArg_ParseTuple(arguments, "sy*y*w*nnn", &type, a.view(), b.view(), c.view(), &m, &k, &n)) return nullptr;
  auto* kernel = Find<MatMulKernel>("matmul", type, Kind::kMatMul, &size);
  if (!kernel) return nullptr;
  if (a.bytes() != m * k * size || b.bytes() != k * n * size || c.bytes() != m * n * size) return Refuse();
  kernel(a.data<void>(), b.data<void>(), c.data<void>(), m, k, n);
  Py_RETURN_NONE;
}

}  // namespace

PyMethodDef kKernelMethods[] = {
    {"unary", Unary, METH_VARARGS, "unary(op, type, a, b): b = op(a)"},
    {"binary", Binary, METH_VARARGS, "binary(op, type, a, b, c): c = a op b"},
    {"reduce", Reduce, METH_VARARGS, "reduce(op, type, a, b): b[i] = op of row i of a"},
    {"matmul", MatMul, METH_VARARGS, "matmul(type, a, b, c, m, k, n): c (m, n) = a (m, k) b (k, n)"},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace tensorflow
