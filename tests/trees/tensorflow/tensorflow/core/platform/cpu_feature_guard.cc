#include "tensorflow/core/platform/cpu_feature_guard.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "tensorflow/core/platform/cpu_info.h"

namespace tensorflow {
namespace {

// Before any other code of this library, which may hold the instructions that are missing.
__attribute__((constructor(101))) void CheckCompiledFeatures() {
  for (std::size_t i = 0; i < kCpuFeatureCount; ++i) {
    const CpuFeature& feature = kCpuFeatures[i];
    if (feature.compiled && !feature.present()) {
      std::fprintf(stderr,
                   "The TensorFlow library was compiled to use %s instructions, but these aren't available on your "
                   "machine.\n",
                   feature.name);
      std::abort();
    }
  }
}

}  // namespace

void InfoAboutUnusedCpuFeatures() {
  static bool told = false;
  const char* level = std::getenv("TF_CPP_MIN_LOG_LEVEL");
  if (told || (level && std::atoi(level) > 0)) return;
  told = true;
  char missing[256] = "";
  int length = 0;
  for (std::size_t i = 0; i < kCpuFeatureCount; ++i) {
    const CpuFeature& feature = kCpuFeatures[i];
    if (!feature.compiled && feature.present()) {
      length += std::snprintf(missing + length, sizeof(missing) - length, " %s", feature.name);
    }
  }
  if (!length) return;
  char when[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", std::localtime(&now));
  std::fprintf(stderr,
               "%s: I tensorflow/core/platform/cpu_feature_guard.cc] This TensorFlow binary is optimized to use "
               "available CPU instructions in performance-critical operations.\n"
               "To enable the following instructions:%s, in other operations, rebuild TensorFlow with the appropriate "
               "compiler flags.\n",
               when, missing);
}

}  // namespace tensorflow
