// Gradients of the convolution, in registers as in conv2d.cc.
#include "tensorflow/core/nn/layers.h"

namespace tensorflow {
namespace {

using Eigen::internal::padd;
using Eigen::internal::ploadu;
using Eigen::internal::pmadd;
using Eigen::internal::pset1;
using Eigen::internal::pstoreu;
using Packet = Eigen::internal::packet_traits<float>::type;
constexpr int kWidth = Eigen::internal::packet_traits<float>::size;

struct Problem {
  const float* x;
  const float* dy;
  int64_t height, width, filters, row_step, channels;
};

// Adds to the gradients of `kTaps` neighbouring taps times `kPackets` vectors of filters.
template <int kTaps, int kPackets>
void Block(const Problem& p, int64_t offset, float* gradient, int64_t filter) {
  Packet sums[kTaps][kPackets];
  TF_UNROLL for (int i = 0; i < kTaps; ++i) {
    TF_UNROLL for (int j = 0; j < kPackets; ++j) sums[i][j] = pset1<Packet>(0.0f);
  }
  const float* dy = p.dy + filter;
  for (int64_t row = 0; row < p.height; ++row) {
    const float* x = p.x + offset + row * p.row_step;
    for (int64_t column = 0; column < p.width; ++column, dy += p.filters, x += p.channels) {
      Packet d[kPackets];
      TF_UNROLL for (int j = 0; j < kPackets; ++j) d[j] = ploadu<Packet>(dy + j * kWidth);
      TF_UNROLL for (int i = 0; i < kTaps; ++i) {
        const Packet pixel = pset1<Packet>(x[i]);
        TF_UNROLL for (int j = 0; j < kPackets; ++j) sums[i][j] = pmadd(pixel, d[j], sums[i][j]);
      }
    }
  }
  TF_UNROLL for (int i = 0; i < kTaps; ++i) {
    TF_UNROLL for (int j = 0; j < kPackets; ++j) {
      float* to = gradient + i * p.filters + filter + j * kWidth;
      pstoreu(to, padd(ploadu<Packet>(to), sums[i][j]));
    }
  }
}

template <int kTaps>
void Taps(const Problem& p, int64_t offset, float* gradient) {
  int64_t filter = 0;
  for (; filter + 2 * kWidth <= p.filters; filter += 2 * kWidth) Block<kTaps, 2>(p, offset, gradient, filter);
  for (; filter + kWidth <= p.filters; filter += kWidth) Block<kTaps, 1>(p, offset, gradient, filter);
  for (; filter < p.filters; ++filter) {
    for (int i = 0; i < kTaps; ++i) {
      float sum = 0;
      for (int64_t row = 0; row < p.height; ++row) {
        for (int64_t column = 0; column < p.width; ++column) {
          sum += p.x[offset + i + row * p.row_step + column * p.channels] *
                 p.dy[(row * p.width + column) * p.filters + filter];
        }
      }
      gradient[i * p.filters + filter] += sum;
    }
  }
}

}  // namespace

void Conv2D::Backward(const float* x, const float* y, float* dy, float* dx, int64_t, int64_t n) {
  const int64_t positions = out_.height * out_.width, filters = out_.channels;
  const int64_t row_taps = kernel_ * in_.channels, row_step = in_.width * in_.channels;
  constexpr int kTaps = 5;
  for (int64_t sample = 0; sample < n; ++sample) {
    float* slope = dy + sample * out_.size();
    if (reads_output()) {
      const ConstFlat<float> result(y + sample * out_.size(), out_.size());
      Flat<float> masked(slope, out_.size());
      masked *= (result > 0.0f).cast<float>();
    }
    bias_.gradient.matrix() += ConstMatrix<float>(slope, filters, positions).rowwise().sum();
    const Problem problem{x + sample * in_.size(), slope, out_.height, out_.width, filters, row_step, in_.channels};
    for (int64_t row = 0; row < kernel_; ++row) {
      float* gradient = weights_.gradient.data() + row * row_taps * filters;
      int64_t tap = 0;
      for (; tap + kTaps <= row_taps; tap += kTaps) {
        Taps<kTaps>(problem, row * row_step + tap, gradient + tap * filters);
      }
      for (; tap < row_taps; ++tap) Taps<1>(problem, row * row_step + tap, gradient + tap * filters);
    }
    if (!dx) continue;
    // each patch's gradient is added where the patch lay
    float* back = dx + sample * in_.size();
    Flat<float>(back, in_.size()).setZero();
    const Eigen::MatrixXf patches = ConstMatrix<float>(weights_.value.data(), filters, kernel_ * row_taps).transpose() *
                                    ConstMatrix<float>(slope, filters, positions);
    for (int64_t row = 0; row < out_.height; ++row) {
      for (int64_t column = 0; column < out_.width; ++column) {
        const float* patch = patches.data() + (row * out_.width + column) * kernel_ * row_taps;
        for (int64_t line = 0; line < kernel_; ++line) {
          Flat<float>(back + (row + line) * row_step + column * in_.channels, row_taps) +=
              ConstFlat<float>(patch + line * row_taps, row_taps);
        }
      }
    }
  }
}

}  // namespace tensorflow
