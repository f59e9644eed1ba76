// Python's way to networks: a capsule, and functions on it.
#include <string>

#include "tensorflow/core/nn/network.h"
#include "tensorflow/core/platform/cpu_feature_guard.h"
#include "tensorflow/python/pywrap_module.h"

namespace tensorflow {
namespace {

constexpr char kCapsule[] = "tensorflow.Network";

Network* Get(PyObject* capsule) { return static_cast<Network*>(PyCapsule_GetPointer(capsule, kCapsule)); }

void Delete(PyObject* capsule) { delete Get(capsule); }

PyObject* New(PyObject*, PyObject* arguments) {
  Shape in;
  unsigned long long seed;
  static_assert(sizeof(long) == sizeof(int64_t), "format l is int64_t");
  if (!PyArg_ParseTuple(arguments, "(lll)K", &in.height, &in.width, &in.channels, &seed)) return nullptr;
  InfoAboutUnusedCpuFeatures();
  if (in.height < 1 || in.width < 1 || in.channels < 1) {
    PyErr_SetString(PyExc_ValueError, "an input needs a height, a width and channels of 1 or more");
    return nullptr;
  }
  return PyCapsule_New(new Network(in, seed), kCapsule, Delete);
}

PyObject* Add(PyObject*, PyObject* arguments) {
  PyObject* capsule;
  const char* kind;
  long first = 0, second = 0;
  float rate = 0;
  int relu = 0;
  if (!PyArg_ParseTuple(arguments, "Osllfp", &capsule, &kind, &first, &second, &rate, &relu)) return nullptr;
  Network* network = Get(capsule);
  if (!network) return nullptr;
  const std::string name = kind;
  const Shape shape = network->out();
  if (name == "dropout" && rate >= 0 && rate < 1) {
    network->Dropout(rate);
  } else if (name == "dense" && first > 0) {
    network->Dense(first, relu);
  } else if (name == "conv2d" && first > 0 && second > 0 && second <= shape.height && second <= shape.width) {
    network->Conv2D(first, second, relu);
  } else if (name == "max_pool" && first > 0 && first <= shape.height && first <= shape.width) {
    network->MaxPool(first);
  } else {
    return PyErr_Format(PyExc_ValueError, "no layer %s of this size on an input of (%lld, %lld, %lld)", kind,
                        static_cast<long long>(shape.height), static_cast<long long>(shape.width),
                        static_cast<long long>(shape.channels));
  }
  const Shape out = network->out();
  return Py_BuildValue("lll", out.height, out.width, out.channels);
}

PyObject* LearningRate(PyObject*, PyObject* arguments) {
  PyObject* capsule;
  float rate;
  if (!PyArg_ParseTuple(arguments, "Of", &capsule, &rate)) return nullptr;
  Network* network = Get(capsule);
  if (!network) return nullptr;
  network->optimizer().learning_rate = rate;
  Py_RETURN_NONE;
}

bool Fits(Network* network, const Array& images, const Array& labels, Py_ssize_t n) {
  const int64_t classes = network->out().size();
  bool fits = n > 0 && images.holds<float>(n * network->in().size()) && labels.holds<int32_t>(n);
  for (Py_ssize_t i = 0; fits && i < n; ++i) fits = labels.data<int32_t>()[i] >= 0 && labels.data<int32_t>()[i] < classes;
  if (!fits) PyErr_SetString(PyExc_ValueError, "the images are not float32 of the input's shape, or a label is no class");
  return fits;
}

PyObject* Train(PyObject*, PyObject* arguments) {
  PyObject* capsule;
  Array images, labels;
  Py_ssize_t n, batch;
  if (!PyArg_ParseTuple(arguments, "Oy*y*nn", &capsule, images.view(), labels.view(), &n, &batch)) return nullptr;
  Network* network = Get(capsule);
  if (!network || !Fits(network, images, labels, n)) return nullptr;
  if (batch < 1) return PyErr_Format(PyExc_ValueError, "a batch has at least one sample");
  // Ctrl-C ends the epoch
  const Score score = network->Train(images.data<float>(), labels.data<int32_t>(), n, batch,
                                     [] { return PyErr_CheckSignals() == 0; });
  if (PyErr_Occurred()) return nullptr;
  return Py_BuildValue("dd", score.loss / n, static_cast<double>(score.right) / n);
}

PyObject* Evaluate(PyObject*, PyObject* arguments) {
  PyObject* capsule;
  Array images, labels;
  Py_ssize_t n;
  if (!PyArg_ParseTuple(arguments, "Oy*y*n", &capsule, images.view(), labels.view(), &n)) return nullptr;
  Network* network = Get(capsule);
  if (!network || !Fits(network, images, labels, n)) return nullptr;
  const int64_t classes = network->out().size();
  Buffer chances;
  network->Predict(images.data<float>(), chances.Resize(n * classes), n);
  const Score score = CrossEntropy(chances.data(), labels.data<int32_t>(), nullptr, n, classes, n);
  return Py_BuildValue("dd", score.loss / n, static_cast<double>(score.right) / n);
}

PyObject* Predict(PyObject*, PyObject* arguments) {
  PyObject* capsule;
  Array images, chances;
  Py_ssize_t n;
  if (!PyArg_ParseTuple(arguments, "Oy*w*n", &capsule, images.view(), chances.view(), &n)) return nullptr;
  Network* network = Get(capsule);
  if (!network) return nullptr;
  if (n < 1 || !images.holds<float>(n * network->in().size()) || !chances.holds<float>(n * network->out().size())) {
    return PyErr_Format(PyExc_ValueError, "the arrays' sizes do not fit the network");
  }
  network->Predict(images.data<float>(), chances.data<float>(), n);
  Py_RETURN_NONE;
}

// [(name, shape, bytes of float32), …], copied.
PyObject* Weights(PyObject*, PyObject* arguments) {
  PyObject* capsule;
  if (!PyArg_ParseTuple(arguments, "O", &capsule)) return nullptr;
  Network* network = Get(capsule);
  if (!network) return nullptr;
  PyObject* list = PyList_New(0);
  for (Parameter* one : network->parameters()) {
    PyObject* shape = PyTuple_New(one->shape.size());
    for (std::size_t i = 0; i < one->shape.size(); ++i) PyTuple_SetItem(shape, i, PyLong_FromLongLong(one->shape[i]));
    const Py_ssize_t bytes = one->value.size() * sizeof(float);
    PyObject* row = Py_BuildValue("sNy#", one->name.c_str(), shape, reinterpret_cast<char*>(one->value.data()), bytes);
    PyList_Append(list, row);
    Py_XDECREF(row);
  }
  return list;
}

}  // namespace

PyMethodDef kNetworkMethods[] = {
    {"network", New, METH_VARARGS, "network((height, width, channels), seed): a network without layers"},
    {"add", Add, METH_VARARGS, "add(network, kind, first, second, rate, relu): the output's shape"},
    {"learning_rate", LearningRate, METH_VARARGS, "learning_rate(network, rate)"},
    {"train", Train, METH_VARARGS, "train(network, images, labels, n, batch): loss, accuracy of an epoch"},
    {"evaluate", Evaluate, METH_VARARGS, "evaluate(network, images, labels, n): loss, accuracy"},
    {"predict", Predict, METH_VARARGS, "predict(network, images, chances, n)"},
    {"weights", Weights, METH_VARARGS, "weights(network): [(name, shape, bytes)]"},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace tensorflow
