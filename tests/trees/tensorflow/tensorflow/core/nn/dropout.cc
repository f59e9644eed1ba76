#include <cstring>

#include "tensorflow/core/nn/layers.h"

namespace tensorflow {

void Dropout::Forward(const float* x, float* y, int64_t first, int64_t n, bool training, Random& random) {
  const int64_t size = n * in_.size();
  if (training) {
    random.Dropout(x, y, mask_.data() + first * in_.size(), size, rate_);
  } else {
    std::memcpy(y, x, size * sizeof(float));
  }
}

void Dropout::Backward(const float*, const float*, float* dy, float* dx, int64_t first, int64_t n) {
  const int64_t size = n * in_.size();
  Flat<float>(dx, size) = ConstFlat<float>(dy, size) * ConstFlat<float>(mask_.data() + first * in_.size(), size);
}

}  // namespace tensorflow
