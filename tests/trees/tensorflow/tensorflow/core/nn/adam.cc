#include "tensorflow/core/nn/adam.h"

#include <cmath>

#include "tensorflow/core/framework/types.h"

namespace tensorflow {

void Adam::Begin() {
  ++steps;
  const double count = static_cast<double>(steps);
  rate_ = static_cast<float>(learning_rate * std::sqrt(1 - std::pow(0.999, count)) / (1 - std::pow(0.9, count)));
}

void Adam::Apply(float* value, float* gradient, float* mean, float* square, int64_t n) const {
  using Eigen::internal::padd;
  using Eigen::internal::pdiv;
  using Eigen::internal::ploadu;
  using Eigen::internal::pmadd;
  using Eigen::internal::pmul;
  using Eigen::internal::pset1;
  using Eigen::internal::psqrt;
  using Eigen::internal::pstoreu;
  using Eigen::internal::psub;
  using Packet = Eigen::internal::packet_traits<float>::type;
  constexpr int kWidth = Eigen::internal::packet_traits<float>::size;
  const Packet keep_mean = pset1<Packet>(0.9f), keep_square = pset1<Packet>(0.999f), zero = pset1<Packet>(0.0f);
  const Packet add_mean = pset1<Packet>(0.1f), add_square = pset1<Packet>(0.001f);
  const Packet rate = pset1<Packet>(rate_), epsilon = pset1<Packet>(1e-7f);
  int64_t i = 0;
  // one pass: the parameters of all layers are larger than the caches that are near
  for (; i + kWidth <= n; i += kWidth) {
    const Packet g = ploadu<Packet>(gradient + i);
    const Packet m = pmadd(keep_mean, ploadu<Packet>(mean + i), pmul(add_mean, g));
    const Packet s = pmadd(keep_square, ploadu<Packet>(square + i), pmul(add_square, pmul(g, g)));
    const Packet step = pdiv(pmul(rate, m), padd(psqrt(s), epsilon));
    pstoreu(mean + i, m);
    pstoreu(square + i, s);
    pstoreu(value + i, psub(ploadu<Packet>(value + i), step));
    pstoreu(gradient + i, zero);
  }
  for (; i < n; ++i) {
    mean[i] = 0.9f * mean[i] + 0.1f * gradient[i];
    square[i] = 0.999f * square[i] + 0.001f * gradient[i] * gradient[i];
    value[i] -= rate_ * mean[i] / (std::sqrt(square[i]) + 1e-7f);
    gradient[i] = 0;
  }
}

}  // namespace tensorflow
