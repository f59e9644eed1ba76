// The convolution as a product of matrices, the columns of which are never written out: patches of the image are read
// where they lie, and a block of results stays in registers until all its taps are added up.
#include <cmath>

#include "tensorflow/core/nn/layers.h"

namespace tensorflow {
namespace {

using Eigen::internal::padd;
using Eigen::internal::pload1;
using Eigen::internal::ploadu;
using Eigen::internal::pmadd;
using Eigen::internal::pmax;
using Eigen::internal::pset1;
using Eigen::internal::pstoreu;
using Packet = Eigen::internal::packet_traits<float>::type;
constexpr int kWidth = Eigen::internal::packet_traits<float>::size;

struct Problem {
  const float* weights;  // (taps, filters)
  const float* bias;
  int64_t filters, rows, row_taps, row_step, channels;
  bool relu;
};

// `kPositions` neighbours times `kPackets` vectors of filters, from filter `filter` on.
template <int kPositions, int kPackets>
void Block(const Problem& p, const float* x, float* y, int64_t filter) {
  Packet sums[kPositions][kPackets];
  TF_UNROLL for (int i = 0; i < kPositions; ++i) {
    TF_UNROLL for (int j = 0; j < kPackets; ++j) sums[i][j] = ploadu<Packet>(p.bias + filter + j * kWidth);
  }
  const float* weights = p.weights + filter;
  for (int64_t row = 0; row < p.rows; ++row, x += p.row_step) {
    for (int64_t tap = 0; tap < p.row_taps; ++tap, weights += p.filters) {
      Packet w[kPackets];
      TF_UNROLL for (int j = 0; j < kPackets; ++j) w[j] = ploadu<Packet>(weights + j * kWidth);
      TF_UNROLL for (int i = 0; i < kPositions; ++i) {
        const Packet pixel = pset1<Packet>(x[tap + i * p.channels]);
        TF_UNROLL for (int j = 0; j < kPackets; ++j) sums[i][j] = pmadd(pixel, w[j], sums[i][j]);
      }
    }
  }
  const Packet zero = pset1<Packet>(0.0f);
  TF_UNROLL for (int i = 0; i < kPositions; ++i) {
    TF_UNROLL for (int j = 0; j < kPackets; ++j) {
      const Packet sum = p.relu ? pmax(sums[i][j], zero) : sums[i][j];
      pstoreu(y + i * p.filters + filter + j * kWidth, sum);
    }
  }
}

template <int kPositions>
void Positions(const Problem& p, const float* x, float* y) {
  int64_t filter = 0;
  for (; filter + 2 * kWidth <= p.filters; filter += 2 * kWidth) Block<kPositions, 2>(p, x, y, filter);
  for (; filter + kWidth <= p.filters; filter += kWidth) Block<kPositions, 1>(p, x, y, filter);
  for (; filter < p.filters; ++filter) {
    for (int i = 0; i < kPositions; ++i) {
      float sum = p.bias[filter];
      for (int64_t row = 0; row < p.rows; ++row) {
        for (int64_t tap = 0; tap < p.row_taps; ++tap) {
          sum += x[row * p.row_step + tap + i * p.channels] * p.weights[(row * p.row_taps + tap) * p.filters + filter];
        }
      }
      y[i * p.filters + filter] = p.relu && sum < 0 ? 0 : sum;
    }
  }
}

}  // namespace

Conv2D::Conv2D(Shape in, int64_t filters, int64_t kernel, bool relu, Random& random)
    : in_(in), out_{in.height - kernel + 1, in.width - kernel + 1, filters}, kernel_(kernel), relu_(relu) {
  weights_.Resize("kernel", {kernel, kernel, in.channels, filters});
  bias_.Resize("bias", {filters});
  const int64_t area = kernel * kernel;
  random.Uniform(weights_.value.data(), weights_.value.size(), std::sqrt(6.0f / (area * (in.channels + filters))));
}

void Conv2D::Forward(const float* x, float* y, int64_t, int64_t n, bool, Random&) {
  const Problem problem{weights_.value.data(), bias_.value.data(), out_.channels, kernel_, kernel_ * in_.channels,
                        in_.width * in_.channels, in_.channels, relu_};
  constexpr int kPositions = 6;
  for (int64_t sample = 0; sample < n; ++sample, x += in_.size()) {
    for (int64_t row = 0; row < out_.height; ++row) {
      const float* from = x + row * problem.row_step;
      int64_t column = 0;
      for (; column + kPositions <= out_.width; column += kPositions) {
        Positions<kPositions>(problem, from + column * in_.channels, y);
        y += kPositions * out_.channels;
      }
      for (; column < out_.width; ++column, y += out_.channels) {
        Positions<1>(problem, from + column * in_.channels, y);
      }
    }
  }
}

}  // namespace tensorflow
