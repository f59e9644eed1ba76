#ifndef TENSORFLOW_CORE_NN_SOFTMAX_XENT_H_
#define TENSORFLOW_CORE_NN_SOFTMAX_XENT_H_

#include <cstdint>

namespace tensorflow {

// Chances (n, classes) of scores (n, classes); in place where both are the same.
void Softmax(const float* scores, float* chances, int64_t n, int64_t classes);

struct Score {
  double loss = 0;  // summed over the samples
  int64_t right = 0;
};

// The cross-entropy of chances against labels (n,); where `slope` is not null, its gradient to the scores, for the mean
// over `batch` samples. Labels are in [0, classes).
Score CrossEntropy(const float* chances, const int32_t* labels, float* slope, int64_t n, int64_t classes, int64_t batch);

}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_NN_SOFTMAX_XENT_H_
