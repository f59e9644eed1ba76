// One reduction (TF_OP) over rows for one element type (TF_TYPE).
#include "tensorflow/core/framework/registry.h"

namespace tensorflow {
namespace {

using A = ConstFlat<TF_TYPE>;

struct Ops {
  static TF_TYPE sum(const A& a) { return a.sum(); }
  static TF_TYPE max(const A& a) { return a.maxCoeff(); }
};

void Run(const void* a, void* b, int64_t rows, int64_t n) {
  for (int64_t row = 0; row < rows; ++row) {
    static_cast<TF_TYPE*>(b)[row] = Ops::TF_OP(A(static_cast<const TF_TYPE*>(a) + row * n, n));
  }
}

const Registrar registrar(TF_STRING(TF_OP), TypeOf<TF_TYPE>::value, static_cast<ReductionKernel>(Run));

}  // namespace
}  // namespace tensorflow
