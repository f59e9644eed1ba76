// The kernels that were linked in, by operation and element type.
#ifndef TENSORFLOW_CORE_FRAMEWORK_REGISTRY_H_
#define TENSORFLOW_CORE_FRAMEWORK_REGISTRY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tensorflow/core/framework/types.h"

namespace tensorflow {

// c[i] = a[i] op b[i], n elements.
using BinaryKernel = void (*)(const void* a, const void* b, void* c, int64_t n);
// b[i] = op(a[i]), n elements.
using UnaryKernel = void (*)(const void* a, void* b, int64_t n);
// b[i] = op over the n elements of row i, of `rows` rows.
using ReductionKernel = void (*)(const void* a, void* b, int64_t rows, int64_t n);
// c (m, n) = a (m, k) b (k, n), all row-major.
using MatMulKernel = void (*)(const void* a, const void* b, void* c, int64_t m, int64_t k, int64_t n);

enum class Kind { kUnary, kBinary, kReduction, kMatMul };

struct Kernel {
  std::string op;
  DType type;
  Kind kind;
  void (*function)();
};

class Registrar {
 public:
  Registrar(const char* op, DType type, UnaryKernel kernel);
  Registrar(const char* op, DType type, BinaryKernel kernel);
  Registrar(const char* op, DType type, ReductionKernel kernel);
  Registrar(const char* op, DType type, MatMulKernel kernel);
};

// Null where no kernel of that name, type and kind was linked in.
const Kernel* FindKernel(const std::string& op, DType type, Kind kind);
const std::vector<Kernel>& AllKernels();

}  // namespace tensorflow

#define TF_STRING_(text) #text
#define TF_STRING(text) TF_STRING_(text)

#endif  // TENSORFLOW_CORE_FRAMEWORK_REGISTRY_H_
