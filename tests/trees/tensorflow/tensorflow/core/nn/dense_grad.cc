#include "tensorflow/core/nn/layers.h"

namespace tensorflow {

void Dense::Backward(const float* x, const float* y, float* dy, float* dx, int64_t, int64_t n) {
  if (relu_) {
    Flat<float> masked(dy, units_ * n);
    masked *= (ConstFlat<float>(y, units_ * n) > 0.0f).cast<float>();
  }
  const ConstMatrix<float> slope(dy, units_, n), input(x, in_, n);
  Matrix<float>(weights_.gradient.data(), units_, in_).noalias() += slope * input.transpose();
  bias_.gradient.matrix() += slope.rowwise().sum();
  if (!dx) return;
  Matrix<float>(dx, in_, n).noalias() = ConstMatrix<float>(weights_.value.data(), units_, in_).transpose() * slope;
}

}  // namespace tensorflow
