#include "tensorflow/core/platform/cpu_info.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tensorflow {
#if defined(__x86_64__)
namespace {

enum Register { kEax, kEbx, kEcx, kEdx };

bool Bit(unsigned leaf, unsigned subleaf, Register at, unsigned bit) {
  unsigned found[4] = {0, 0, 0, 0};
  if (!__get_cpuid_count(leaf, subleaf, &found[0], &found[1], &found[2], &found[3])) return false;
  return found[at] >> bit & 1;
}

// Whether the operating system saves these registers (bits of XCR0) when it switches tasks.
bool Saved(unsigned mask) {
  if (!Bit(1, 0, kEcx, 27)) return false;
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & mask) == mask;
}

bool Ymm() { return Saved(0x6); }
bool Zmm() { return Saved(0xe6); }
bool Tiles() { return Saved(0x60000); }

bool Sse() { return Bit(1, 0, kEdx, 25); }
bool Sse2() { return Bit(1, 0, kEdx, 26); }
bool Sse3() { return Bit(1, 0, kEcx, 0); }
bool Sse41() { return Bit(1, 0, kEcx, 19); }
bool Sse42() { return Bit(1, 0, kEcx, 20); }
bool Avx() { return Bit(1, 0, kEcx, 28) && Ymm(); }
bool Avx2() { return Bit(7, 0, kEbx, 5) && Ymm(); }
bool Avx512f() { return Bit(7, 0, kEbx, 16) && Zmm(); }
bool Avx512Vnni() { return Bit(7, 0, kEcx, 11) && Zmm(); }
bool Avx512Bf16() { return Bit(7, 1, kEax, 5) && Zmm(); }
bool Avx512Fp16() { return Bit(7, 0, kEdx, 23) && Zmm(); }
bool AvxVnni() { return Bit(7, 1, kEax, 4) && Ymm(); }
bool AmxTile() { return Bit(7, 0, kEdx, 24) && Tiles(); }
bool AmxInt8() { return Bit(7, 0, kEdx, 25) && Tiles(); }
bool AmxBf16() { return Bit(7, 0, kEdx, 22) && Tiles(); }
bool Fma() { return Bit(1, 0, kEcx, 12) && Ymm(); }

}  // namespace

#define TF_COMPILED(macro) (sizeof(TF_TEXT(macro)) != sizeof(#macro))
#define TF_TEXT(macro) #macro

const CpuFeature kCpuFeatures[] = {
    {"SSE", TF_COMPILED(__SSE__), Sse},
    {"SSE2", TF_COMPILED(__SSE2__), Sse2},
    {"SSE3", TF_COMPILED(__SSE3__), Sse3},
    {"SSE4.1", TF_COMPILED(__SSE4_1__), Sse41},
    {"SSE4.2", TF_COMPILED(__SSE4_2__), Sse42},
    {"AVX", TF_COMPILED(__AVX__), Avx},
    {"AVX2", TF_COMPILED(__AVX2__), Avx2},
    {"AVX512F", TF_COMPILED(__AVX512F__), Avx512f},
    {"AVX512_VNNI", TF_COMPILED(__AVX512VNNI__), Avx512Vnni},
    {"AVX512_BF16", TF_COMPILED(__AVX512BF16__), Avx512Bf16},
    {"AVX512_FP16", TF_COMPILED(__AVX512FP16__), Avx512Fp16},
    {"AVX_VNNI", TF_COMPILED(__AVXVNNI__), AvxVnni},
    {"AMX_TILE", TF_COMPILED(__AMX_TILE__), AmxTile},
    {"AMX_INT8", TF_COMPILED(__AMX_INT8__), AmxInt8},
    {"AMX_BF16", TF_COMPILED(__AMX_BF16__), AmxBf16},
    {"FMA", TF_COMPILED(__FMA__), Fma},
};
const std::size_t kCpuFeatureCount = sizeof(kCpuFeatures) / sizeof(kCpuFeatures[0]);
#else
const CpuFeature kCpuFeatures[] = {{"", false, nullptr}};
const std::size_t kCpuFeatureCount = 0;
#endif

}  // namespace tensorflow
