// The product of two matrices for one element type (TF_TYPE).
#include "tensorflow/core/framework/registry.h"

namespace tensorflow {
namespace {

void Run(const void* a, const void* b, void* c, int64_t m, int64_t k, int64_t n) {
  // row-major (m, k) is column-major (k, m): c' = b' a'
  const ConstMatrix<TF_TYPE> x(static_cast<const TF_TYPE*>(a), k, m), y(static_cast<const TF_TYPE*>(b), n, k);
  Matrix<TF_TYPE>(static_cast<TF_TYPE*>(c), n, m).noalias() = y * x;
}

const Registrar registrar(TF_STRING(TF_OP), TypeOf<TF_TYPE>::value, static_cast<MatMulKernel>(Run));

}  // namespace
}  // namespace tensorflow
