#include "tensorflow/core/nn/adam.h"

#include <algorithm>
#include <cmath>

#include "tensorflow/core/framework/types.h"

namespace tensorflow {

void Adam::Begin() {
  ++steps;
  const double count = static_cast<double>(steps);
  rate_ = static_cast<float>(learning_rate * std::sqrt(1 - std::pow(0.999, count)) / (1 - std::pow(0.9, count)));
}

void Adam::Apply(float* value, float* gradient, float* mean, float* square, int64_t n) const {
  constexpr int64_t kChunk = 2048;  // four arrays of it lie in the first-level cache
  for (int64_t at = 0; at < n; at += kChunk) {
    const int64_t size = std::min(kChunk, n - at);
    Flat<float> v(value + at, size), g(gradient + at, size), m(mean + at, size), s(square + at, size);
    m = 0.9f * m + 0.1f * g;
    s = 0.999f * s + 0.001f * g.square();
    v -= rate_ * m / (s.sqrt() + 1e-7f);
    g.setZero();
  }
}

}  // namespace tensorflow
