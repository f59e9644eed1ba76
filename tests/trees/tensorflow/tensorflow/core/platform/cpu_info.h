// The instructions that this CPU and its operating system let a program use.
#ifndef TENSORFLOW_CORE_PLATFORM_CPU_INFO_H_
#define TENSORFLOW_CORE_PLATFORM_CPU_INFO_H_

#include <cstddef>

namespace tensorflow {

struct CpuFeature {
  const char* name;  // "AVX512F"
  bool compiled;     // the compiler was allowed to use it in every file of this library
  bool (*present)();
};

extern const CpuFeature kCpuFeatures[];
extern const std::size_t kCpuFeatureCount;

}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_PLATFORM_CPU_INFO_H_
