#ifndef TENSORFLOW_PYTHON_PYWRAP_MODULE_H_
#define TENSORFLOW_PYTHON_PYWRAP_MODULE_H_

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace tensorflow {

// A contiguous array that Python lent, given back at the end of the scope.
class Array {
 public:
  Array() { view_.obj = nullptr; }
  ~Array() { PyBuffer_Release(&view_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  // For PyArg_ParseTuple's "y*" and "w*".
  Py_buffer* view() { return &view_; }
  template <typename T>
  T* data() const {
    return static_cast<T*>(view_.buf);
  }
  template <typename T>
  bool holds(Py_ssize_t elements) const {
    return view_.len == elements * static_cast<Py_ssize_t>(sizeof(T));
  }
  Py_ssize_t bytes() const { return view_.len; }

 private:
  Py_buffer view_;
};

extern PyMethodDef kKernelMethods[];
extern PyMethodDef kNetworkMethods[];

}  // namespace tensorflow

#endif  // TENSORFLOW_PYTHON_PYWRAP_MODULE_H_
