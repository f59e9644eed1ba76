// The layers that there are.
#ifndef TENSORFLOW_CORE_NN_LAYERS_H_
#define TENSORFLOW_CORE_NN_LAYERS_H_

#include "tensorflow/core/nn/layer.h"

namespace tensorflow {

// Convolution with stride 1 and no padding, then optionally relu.
class Conv2D : public Layer {
 public:
  Conv2D(Shape in, int64_t filters, int64_t kernel, bool relu, Random& random);
  Shape out() const override { return out_; }
  bool reads_input() const override { return true; }
  bool reads_output() const override { return relu_ && !masked_by_next_; }
  // The next layer's gradient is zero where the output is: relu needs no mask of its own, nor the output kept.
  bool LeaveMask() { return masked_by_next_ = relu_; }
  void Forward(const float* x, float* y, int64_t first, int64_t n, bool training, Random& random) override;
  void Backward(const float* x, const float* y, float* dy, float* dx, int64_t first, int64_t n) override;
  std::vector<Parameter*> parameters() override { return {&weights_, &bias_}; }

 private:
  Shape in_, out_;
  int64_t kernel_;
  bool relu_, masked_by_next_ = false;
  Parameter weights_, bias_;
};

// The largest of each square. With `mask`, a square without a positive element has no gradient.
class MaxPool : public Layer {
 public:
  MaxPool(Shape in, int64_t size, bool mask);
  Shape out() const override { return out_; }
  void Reserve(int64_t samples) override { winner_.Resize(samples * out_.size()); }
  void Forward(const float* x, float* y, int64_t first, int64_t n, bool training, Random& random) override;
  void Backward(const float* x, const float* y, float* dy, float* dx, int64_t first, int64_t n) override;

 private:
  Shape in_, out_;
  int64_t size_;
  bool mask_;
  Buffer winner_;  // which of the square's elements it was, as a float: 0, 1, 2 …, or -1 for none
};

class Dropout : public Layer {
 public:
  Dropout(Shape in, float rate) : in_(in), rate_(rate) {}
  Shape out() const override { return in_; }
  void Reserve(int64_t samples) override { mask_.Resize(samples * in_.size()); }
  void Forward(const float* x, float* y, int64_t first, int64_t n, bool training, Random& random) override;
  void Backward(const float* x, const float* y, float* dy, float* dx, int64_t first, int64_t n) override;

 private:
  Shape in_;
  float rate_;
  Buffer mask_;
};

// All to all, then optionally relu.
class Dense : public Layer {
 public:
  Dense(Shape in, int64_t units, bool relu, Random& random);
  Shape out() const override { return {1, 1, units_}; }
  bool by_sample() const override { return false; }
  bool reads_input() const override { return true; }
  bool reads_output() const override { return relu_; }
  void Forward(const float* x, float* y, int64_t first, int64_t n, bool training, Random& random) override;
  void Backward(const float* x, const float* y, float* dy, float* dx, int64_t first, int64_t n) override;
  std::vector<Parameter*> parameters() override { return {&weights_, &bias_}; }

 private:
  int64_t in_, units_;
  bool relu_;
  Parameter weights_, bias_;
};

}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_NN_LAYERS_H_
