// One element-wise operation of two arguments (TF_OP) for one element type (TF_TYPE).
#include "tensorflow/core/framework/registry.h"

namespace tensorflow {
namespace {

using A = ConstFlat<TF_TYPE>;

struct Ops {
  static auto add(const A& a, const A& b) { return a + b; }
  static auto sub(const A& a, const A& b) { return a - b; }
  static auto mul(const A& a, const A& b) { return a * b; }
  static auto div(const A& a, const A& b) { return a / b; }
  static auto maximum(const A& a, const A& b) { return a.max(b); }
};

void Run(const void* a, const void* b, void* c, int64_t n) {
  const A x(static_cast<const TF_TYPE*>(a), n), y(static_cast<const TF_TYPE*>(b), n);
  Flat<TF_TYPE>(static_cast<TF_TYPE*>(c), n) = Ops::TF_OP(x, y);
}

const Registrar registrar(TF_STRING(TF_OP), TypeOf<TF_TYPE>::value, static_cast<BinaryKernel>(Run));

}  // namespace
}  // namespace tensorflow
