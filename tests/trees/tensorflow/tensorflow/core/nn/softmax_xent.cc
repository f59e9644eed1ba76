#include "tensorflow/core/nn/softmax_xent.h"

#include <algorithm>
#include <cmath>

#include "tensorflow/core/framework/types.h"

namespace tensorflow {

void Softmax(const float* scores, float* chances, int64_t n, int64_t classes) {
  for (int64_t sample = 0; sample < n; ++sample) {
    const ConstFlat<float> from(scores + sample * classes, classes);
    Flat<float> to(chances + sample * classes, classes);
    to = from - from.maxCoeff();
  }
  Flat<float> all(chances, n * classes);
  all = all.exp();
  for (int64_t sample = 0; sample < n; ++sample) {
    Flat<float> to(chances + sample * classes, classes);
    to /= to.sum();
  }
}

Score CrossEntropy(const float* chances, const int32_t* labels, float* slope, int64_t n, int64_t classes,
                   int64_t batch) {
  Score score;
  for (int64_t sample = 0; sample < n; ++sample) {
    const float* row = chances + sample * classes;
    const int32_t label = labels[sample];
    score.loss -= std::log(std::max(row[label], 1e-7f));
    score.right += std::max_element(row, row + classes) - row == label;
    if (!slope) continue;
    for (int64_t i = 0; i < classes; ++i) slope[sample * classes + i] = (row[i] - (i == label)) / batch;
  }
  return score;
}

}  // namespace tensorflow
