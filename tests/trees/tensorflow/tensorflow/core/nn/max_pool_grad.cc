#include "tensorflow/core/nn/layers.h"

namespace tensorflow {

void MaxPool::Backward(const float*, const float*, float* dy, float* dx, int64_t first, int64_t n) {
  using Eigen::internal::pand;
  using Eigen::internal::pcmp_eq;
  using Eigen::internal::ploadu;
  using Eigen::internal::pset1;
  using Eigen::internal::pstoreu;
  using Packet = Eigen::internal::packet_traits<float>::type;
  constexpr int kWidth = Eigen::internal::packet_traits<float>::size;
  const float* winner = winner_.data() + first * out_.size();
  const int64_t channels = in_.channels, step = in_.width * channels;
  const bool whole = in_.height == out_.height * size_ && in_.width == out_.width * size_;
  if (!whole) Flat<float>(dx, n * in_.size()).setZero();
  for (int64_t sample = 0; sample < n; ++sample, dx += in_.size()) {
    for (int64_t row = 0; row < out_.height; ++row) {
      for (int64_t column = 0; column < out_.width; ++column, dy += channels, winner += channels) {
        float* to = dx + row * size_ * step + column * size_ * channels;
        for (int64_t i = 0; i < size_ * size_; ++i) {
          float* place = to + i / size_ * step + i % size_ * channels;
          const float index = static_cast<float>(i);
          int64_t channel = 0;
          for (; channel + kWidth <= channels; channel += kWidth) {
            const Packet won = pcmp_eq(ploadu<Packet>(winner + channel), pset1<Packet>(index));
            pstoreu(place + channel, pand(won, ploadu<Packet>(dy + channel)));
          }
          for (; channel < channels; ++channel) place[channel] = winner[channel] == index ? dy[channel] : 0;
        }
      }
    }
  }
}

}  // namespace tensorflow
