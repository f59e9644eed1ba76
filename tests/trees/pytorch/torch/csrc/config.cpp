#include "dot.h"

namespace torch {

const char* Compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "GCC " __VERSION__;
#endif
}

// What every file was compiled for: this tree has no kernels that are chosen at run time.
const char* Capability() {
#if defined(__AVX512F__)
  return "AVX512";
#elif defined(__AVX2__)
  return "AVX2";
#else
  return "DEFAULT";
#endif
}

}  // namespace torch
