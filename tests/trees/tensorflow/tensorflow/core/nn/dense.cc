#include <cmath>

#include "tensorflow/core/nn/layers.h"

namespace tensorflow {

Dense::Dense(Shape in, int64_t units, bool relu, Random& random) : in_(in.size()), units_(units), relu_(relu) {
  weights_.Resize("kernel", {in_, units});
  bias_.Resize("bias", {units});
  random.Uniform(weights_.value.data(), weights_.value.size(), std::sqrt(6.0f / (in_ + units)));
}

void Dense::Forward(const float* x, float* y, int64_t, int64_t n, bool, Random&) {
  Matrix<float> result(y, units_, n);
  result.noalias() = ConstMatrix<float>(weights_.value.data(), units_, in_) * ConstMatrix<float>(x, in_, n);
  result.colwise() += bias_.value.matrix();
  if (relu_) result = result.cwiseMax(0.0f);
}

}  // namespace tensorflow
