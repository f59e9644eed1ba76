#include "tensorflow/core/framework/registry.h"

namespace tensorflow {
namespace {

std::vector<Kernel>& Kernels() {
  static std::vector<Kernel> kernels;
  return kernels;
}

template <typename Function>
void Add(const char* op, DType type, Kind kind, Function function) {
  Kernels().push_back({op, type, kind, reinterpret_cast<void (*)()>(function)});
}

}  // namespace

Registrar::Registrar(const char* op, DType type, UnaryKernel kernel) { Add(op, type, Kind::kUnary, kernel); }
Registrar::Registrar(const char* op, DType type, BinaryKernel kernel) { Add(op, type, Kind::kBinary, kernel); }
Registrar::Registrar(const char* op, DType type, ReductionKernel kernel) { Add(op, type, Kind::kReduction, kernel); }
Registrar::Registrar(const char* op, DType type, MatMulKernel kernel) { Add(op, type, Kind::kMatMul, kernel); }

const Kernel* FindKernel(const std::string& op, DType type, Kind kind) {
  for (const Kernel& kernel : Kernels()) {
    if (kernel.op == op && kernel.type == type && kernel.kind == kind) return &kernel;
  }
  return nullptr;
}

const std::vector<Kernel>& AllKernels() { return Kernels(); }

}  // namespace tensorflow
