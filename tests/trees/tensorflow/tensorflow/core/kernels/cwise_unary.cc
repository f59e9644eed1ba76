// One element-wise operation of one argument (TF_OP) for one element type (TF_TYPE).
#include "tensorflow/core/framework/registry.h"

namespace tensorflow {
namespace {

using A = ConstFlat<TF_TYPE>;

struct Ops {
  static auto exp(const A& a) { return a.exp(); }
  static auto log(const A& a) { return a.log(); }
  static auto sqrt(const A& a) { return a.sqrt(); }
  static auto tanh(const A& a) { return a.tanh(); }
  static auto sigmoid(const A& a) { return TF_TYPE(1) / (TF_TYPE(1) + (-a).exp()); }
};

void Run(const void* a, void* b, int64_t n) {
  const A x(static_cast<const TF_TYPE*>(a), n);
  Flat<TF_TYPE>(static_cast<TF_TYPE*>(b), n) = Ops::TF_OP(x);
}

const Registrar registrar(TF_STRING(TF_OP), TypeOf<TF_TYPE>::value, static_cast<UnaryKernel>(Run));

}  // namespace
}  // namespace tensorflow
