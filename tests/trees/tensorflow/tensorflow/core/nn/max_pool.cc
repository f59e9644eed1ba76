#include "tensorflow/core/nn/layers.h"

namespace tensorflow {

MaxPool::MaxPool(Shape in, int64_t size, bool mask)
    : in_(in), out_{in.height / size, in.width / size, in.channels}, size_(size), mask_(mask) {}

void MaxPool::Forward(const float* x, float* y, int64_t first, int64_t n, bool training, Random&) {
  using Eigen::internal::pcmp_lt;
  using Eigen::internal::ploadu;
  using Eigen::internal::pselect;
  using Eigen::internal::pset1;
  using Eigen::internal::pstoreu;
  using Packet = Eigen::internal::packet_traits<float>::type;
  constexpr int kWidth = Eigen::internal::packet_traits<float>::size;
  const Packet zero = pset1<Packet>(0.0f), none = pset1<Packet>(-1.0f);
  float* winner = winner_.data() + first * out_.size();
  const int64_t channels = in_.channels, step = in_.width * channels;
  for (int64_t sample = 0; sample < n; ++sample, x += in_.size()) {
    for (int64_t row = 0; row < out_.height; ++row) {
      for (int64_t column = 0; column < out_.width; ++column, y += channels, winner += training ? channels : 0) {
        const float* from = x + row * size_ * step + column * size_ * channels;
        int64_t channel = 0;
        for (; channel + kWidth <= channels; channel += kWidth) {
          Packet best = ploadu<Packet>(from + channel), which = pset1<Packet>(0.0f);
          for (int64_t i = 1; i < size_ * size_; ++i) {
            const Packet other = ploadu<Packet>(from + i / size_ * step + i % size_ * channels + channel);
            const Packet larger = pcmp_lt(best, other);
            best = pselect(larger, other, best);
            which = pselect(larger, pset1<Packet>(static_cast<float>(i)), which);
          }
          pstoreu(y + channel, best);
          if (mask_) which = pselect(pcmp_lt(zero, best), which, none);
          if (training) pstoreu(winner + channel, which);
        }
        for (; channel < channels; ++channel) {
          float best = from[channel], which = 0;
          for (int64_t i = 1; i < size_ * size_; ++i) {
            const float other = from[i / size_ * step + i % size_ * channels + channel];
            if (best < other) best = other, which = static_cast<float>(i);
          }
          y[channel] = best;
          if (training) winner[channel] = mask_ && best <= 0 ? -1 : which;
        }
      }
    }
  }
}

}  // namespace tensorflow
