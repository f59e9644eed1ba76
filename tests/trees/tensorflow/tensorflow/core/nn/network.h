// A network of layers in a row, a softmax at its end, and its training.
#ifndef TENSORFLOW_CORE_NN_NETWORK_H_
#define TENSORFLOW_CORE_NN_NETWORK_H_

#include <functional>

#include "tensorflow/core/nn/adam.h"
#include "tensorflow/core/nn/layer.h"
#include "tensorflow/core/nn/softmax_xent.h"

namespace tensorflow {

class Network {
 public:
  Network(Shape in, uint64_t seed) : in_(in), shape_(in), random_(seed) {}

  void Conv2D(int64_t filters, int64_t kernel, bool relu);
  void MaxPool(int64_t size);
  void Dropout(float rate);
  void Dense(int64_t units, bool relu);

  Shape in() const { return in_; }
  // Of the last layer that was added.
  Shape out() const { return shape_; }
  std::vector<Parameter*> parameters();
  Adam& optimizer() { return optimizer_; }

  // One pass over n samples, shuffled, in batches. `pause` is called after each batch, and ends it where it is false.
  Score Train(const float* images, const int32_t* labels, int64_t n, int64_t batch, const std::function<bool()>& pause);
  // Chances (n, classes).
  void Predict(const float* images, float* chances, int64_t n);

 private:
  // Layers that a batch passes together: one that takes all samples at once, or several that take one after another.
  struct Stage {
    std::size_t first, last;  // of layers_
    bool by_sample;
  };

  void Add(LayerPointer layer);
  void Reserve(int64_t batch);
  // The scores of `n` samples of images; every stage's output is kept for Backward.
  const float* Forward(const float* images, int64_t n, bool training);
  void ForwardStage(const Stage& stage, const float* x, float* y, int64_t n, bool training);
  void Backward(const float* images, int64_t n);
  void BackwardStage(const Stage& stage, const float* x, const float* y, float* dy, float* dx, int64_t n);

  Shape in_, shape_;
  Random random_;
  Adam optimizer_;
  std::vector<LayerPointer> layers_;
  std::vector<Stage> stages_;
  std::vector<Buffer> outputs_;        // of each stage, for a batch
  std::vector<Buffer> slopes_;         // of each stage's output
  std::vector<Buffer> samples_;        // of each layer, for one sample
  std::vector<Buffer> sample_slopes_;  // likewise
  Buffer batch_, chances_;
};

}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_NN_NETWORK_H_
