// What a layer of a network is. Activations are float32, samples first, channels last.
#ifndef TENSORFLOW_CORE_NN_LAYER_H_
#define TENSORFLOW_CORE_NN_LAYER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/nn/random.h"

// Loops over registers: unless they are unrolled, what should stay in registers goes through memory at -O2.
#define TF_UNROLL _Pragma("GCC unroll 16")

namespace tensorflow {

struct Shape {
  int64_t height = 1, width = 1, channels = 1;
  int64_t size() const { return height * width * channels; }
};

// Aligned as the widest registers like it.
class Buffer {
 public:
  float* Resize(int64_t n) {
    if (data_.size() < n) data_.resize(n);
    return data_.data();
  }
  float* data() { return data_.data(); }
  const float* data() const { return data_.data(); }
  int64_t size() const { return data_.size(); }

 private:
  Eigen::ArrayXf data_;
};

struct Parameter {
  std::string name;
  std::vector<int64_t> shape;  // as Keras shows it: (height, width, in, out), (in, out), (out,)
  Eigen::ArrayXf value, gradient, mean, square;

  void Resize(std::string called, std::vector<int64_t> dimensions);
};

class Layer {
 public:
  virtual ~Layer() = default;

  virtual Shape out() const = 0;
  // Whether a batch may pass sample by sample: what lies between two layers then stays in the cache.
  virtual bool by_sample() const { return true; }
  // Whether Backward reads x, and y: what it does not read is not kept for a whole batch.
  virtual bool reads_input() const { return false; }
  virtual bool reads_output() const { return false; }
  // Room for what Backward needs of `samples` samples.
  virtual void Reserve(int64_t samples) {}
  // y (n, out) of x (n, in); the samples are those from `first` on in the batch.
  virtual void Forward(const float* x, float* y, int64_t first, int64_t n, bool training, Random& random) = 0;
  // dx (n, in) of dy (n, out), after Forward of the same samples; dx may be null. Gradients are added to. x, y: as in
  // Forward, null where they are not read. dy may be overwritten.
  virtual void Backward(const float* x, const float* y, float* dy, float* dx, int64_t first, int64_t n) = 0;
  virtual std::vector<Parameter*> parameters() { return {}; }
};

using LayerPointer = std::unique_ptr<Layer>;

inline void Parameter::Resize(std::string called, std::vector<int64_t> dimensions) {
  int64_t size = 1;
  for (int64_t dimension : dimensions) size *= dimension;
  name = std::move(called);
  shape = std::move(dimensions);
  for (Eigen::ArrayXf* one : {&value, &gradient, &mean, &square}) *one = Eigen::ArrayXf::Zero(size);
}

}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_NN_LAYER_H_
