// Tells what the binary was compiled for, against what this CPU has.
#ifndef TENSORFLOW_CORE_PLATFORM_CPU_FEATURE_GUARD_H_
#define TENSORFLOW_CORE_PLATFORM_CPU_FEATURE_GUARD_H_

namespace tensorflow {

// Once a process, on stderr, unless TF_CPP_MIN_LOG_LEVEL is above 0: what this CPU has and the binary does not use.
void InfoAboutUnusedCpuFeatures();

}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_PLATFORM_CPU_FEATURE_GUARD_H_
