#include "tensorflow/core/nn/random.h"

namespace tensorflow {

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
  for (int64_t i = 0; i < n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      uint32_t x = state_[lane];
      x ^= x << 13;
      x ^= x >> 17;
      x ^= x << 5;
      state_[lane] = x;
      out[i + lane] = x;
    }
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
  const int32_t bound = static_cast<int32_t>(rate * 2147483648.0f);
  const float kept = 1.0f / (1.0f - rate);
  alignas(64) uint32_t found[kLanes];
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Fill(found, kLanes);
    for (int lane = 0; lane < kLanes; ++lane) {
      mask[i + lane] = static_cast<int32_t>(found[lane] >> 1) < bound ? 0.0f : kept;
    }
    for (int lane = 0; lane < kLanes; ++lane) out[i + lane] = in[i + lane] * mask[i + lane];
  }
  Fill(found, kLanes);
  for (int lane = 0; i < n; ++i, ++lane) {
    mask[i] = static_cast<int32_t>(found[lane] >> 1) < bound ? 0.0f : kept;
    out[i] = in[i] * mask[i];
  }
}

}  // namespace tensorflow
