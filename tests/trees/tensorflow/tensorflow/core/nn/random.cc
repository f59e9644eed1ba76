#include "tensorflow/core/nn/random.h"

#include <cstring>

namespace tensorflow {
namespace {

// The compiler makes as many registers of these as the sixteen lanes need.
typedef uint32_t Lanes __attribute__((vector_size(64)));
typedef int32_t SignedLanes __attribute__((vector_size(64)));
typedef float FloatLanes __attribute__((vector_size(64)));

inline void Step(Lanes& x) {
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
}

}  // namespace

Random::Random(uint64_t seed) {
  // SplitMix64 (Steele, Lea, Flood 2014) keeps near seeds apart
  for (uint32_t& lane : state_) {
    seed += 0x9e3779b97f4a7c15ULL;
    uint64_t mixed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    lane = static_cast<uint32_t>(mixed ^ (mixed >> 31)) | 1;
  }
}

void Random::Fill(uint32_t* out, int64_t n) {
  Lanes state;
  std::memcpy(&state, state_, sizeof(state));
  for (int64_t i = 0; i < n; i += kLanes) {
    Step(state);
    std::memcpy(out + i, &state, sizeof(state));
  }
  std::memcpy(state_, &state, sizeof(state));
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
  const int32_t bound = static_cast<int32_t>(rate * 2147483648.0f);
  const FloatLanes kept = FloatLanes{} + 1.0f / (1.0f - rate);
  Lanes state;
  std::memcpy(&state, state_, sizeof(state));
  for (int64_t i = 0; i < n; i += kLanes) {
    Step(state);
    const SignedLanes keep = (SignedLanes)(state >> 1) >= bound;  // all bits set, or none
    const FloatLanes factor = (FloatLanes)(keep & (SignedLanes)kept);
    FloatLanes values{};
    const std::size_t bytes = static_cast<std::size_t>(n - i < kLanes ? n - i : kLanes) * sizeof(float);
    if (bytes == sizeof(values)) {
      std::memcpy(&values, in + i, sizeof(values));
      values *= factor;
      std::memcpy(out + i, &values, sizeof(values));
      std::memcpy(mask + i, &factor, sizeof(factor));
    } else {
      std::memcpy(&values, in + i, bytes);
      values *= factor;
      std::memcpy(out + i, &values, bytes);
      std::memcpy(mask + i, &factor, bytes);
    }
  }
  std::memcpy(state_, &state, sizeof(state));
}

}  // namespace tensorflow
