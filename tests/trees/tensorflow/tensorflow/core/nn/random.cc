#include "tensorflow/core/nn/random.h"

#include <algorithm>
#include <cstring>

#include "Eigen/Core"

namespace tensorflow {
namespace {

using Ints = Eigen::internal::packet_traits<int32_t>::type;
using Floats = Eigen::internal::packet_traits<float>::type;
constexpr int kInts = Eigen::internal::packet_traits<int32_t>::size;
constexpr int kFloats = Eigen::internal::packet_traits<float>::size;

// The next number of each lane, which is its state too.
inline void Step(int32_t* state) {
  using namespace Eigen::internal;
  for (int i = 0; i < Random::kLanes; i += kInts) {
    Ints x = pload<Ints>(state + i);
    x = pxor(x, plogical_shift_left<13>(x));
    x = pxor(x, plogical_shift_right<17>(x));
    x = pxor(x, plogical_shift_left<5>(x));
    pstore(state + i, x);
  }
}

}  // namespace

Random::Random(uint64_t seed) {
  // SplitMix64 (Steele, Lea, Flood 2014) keeps near seeds apart
  for (int32_t& lane : state_) {
    seed += 0x9e3779b97f4a7c15ULL;
    uint64_t mixed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    lane = static_cast<int32_t>(mixed ^ (mixed >> 31)) | 1;
  }
}

void Random::Fill(uint32_t* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    Step(state_);
    std::memcpy(out + i, state_, sizeof(state_));
  }
}

uint32_t Random::Below(uint32_t bound) {
  uint32_t found[kLanes];
  Fill(found, kLanes);
  return static_cast<uint32_t>((static_cast<uint64_t>(found[0]) * bound) >> 32);
}

void Random::Uniform(float* out, int64_t n, float limit) {
  uint32_t found[kLanes];
  for (int64_t i = 0; i < n; i += kLanes) {
    Fill(found, kLanes);
    for (int64_t j = 0; j < kLanes && i + j < n; ++j) {
      out[i + j] = (static_cast<float>(found[j] >> 8) / 8388608.0f - 1.0f) * limit;
    }
  }
}

void Random::Dropout(const float* in, float* out, float* mask, int64_t n, float rate) {
  using namespace Eigen::internal;
  const Floats bound = pset1<Floats>(1.0f + rate), kept = pset1<Floats>(1.0f / (1.0f - rate));
  const Ints one = pset1<Ints>(0x3f800000);
  alignas(64) int32_t bits[kLanes];
  alignas(64) float values[kLanes], factors[kLanes];
  for (int64_t i = 0; i < n; i += kLanes) {
    Step(state_);
    // 23 random bits behind the exponent of 1: a float in [1, 2)
    for (int j = 0; j < kLanes; j += kInts) {
      pstore(bits + j, por(plogical_shift_right<9>(pload<Ints>(state_ + j)), one));
    }
    const bool whole = i + kLanes <= n;
    const float* from = whole ? in + i : values;
    float *to = whole ? out + i : values, *factor = whole ? mask + i : factors;
    if (!whole) std::copy(in + i, in + n, values);
    for (int j = 0; j < kLanes; j += kFloats) {
      const Floats number = pload<Floats>(reinterpret_cast<const float*>(bits) + j);
      const Floats chosen = pand(pcmp_le(bound, number), kept);
      pstoreu(factor + j, chosen);
      pstoreu(to + j, pmul(ploadu<Floats>(from + j), chosen));
    }
    if (!whole) std::copy(values, values + (n - i), out + i), std::copy(factors, factors + (n - i), mask + i);
  }
}

}  // namespace tensorflow
