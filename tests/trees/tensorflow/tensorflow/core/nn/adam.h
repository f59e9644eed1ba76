#ifndef TENSORFLOW_CORE_NN_ADAM_H_
#define TENSORFLOW_CORE_NN_ADAM_H_

#include <cstdint>

namespace tensorflow {

// Kingma, Ba 2015, with Keras's defaults (0.9, 0.999, 1e-7).
struct Adam {
  float learning_rate = 0.001f;
  int64_t steps = 0;

  // Counts a step: before the parameters of that step.
  void Begin();
  // All of n elements; the gradient is set to zero.
  void Apply(float* value, float* gradient, float* mean, float* square, int64_t n) const;

 private:
  float rate_ = 0;
};

}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_NN_ADAM_H_
