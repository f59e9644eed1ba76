// Pseudo-random numbers: xorshift generators side by side, so many that the widest registers need not wait for the last.
#ifndef TENSORFLOW_CORE_NN_RANDOM_H_
#define TENSORFLOW_CORE_NN_RANDOM_H_

#include <cstdint>

namespace tensorflow {

class Random {
 public:
  static constexpr int kLanes = 64;

  explicit Random(uint64_t seed);

  // n numbers of 32 bits (Marsaglia 2003, xorshift with 13, 17, 5). n is rounded up to a multiple of kLanes.
  void Fill(uint32_t* out, int64_t n);
  // In [0, bound).
  uint32_t Below(uint32_t bound);
  // In [-limit, limit).
  void Uniform(float* out, int64_t n, float limit);
  // out[i] = in[i] / (1 - rate) with chance 1 - rate, else 0; mask[i] is the factor taken.
  void Dropout(const float* in, float* out, float* mask, int64_t n, float rate);

 private:
  alignas(64) int32_t state_[kLanes];
};

}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_NN_RANDOM_H_
