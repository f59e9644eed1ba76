#include <algorithm>
#include <cstring>
#include <numeric>

#include "tensorflow/core/nn/network.h"

namespace tensorflow {

void Network::BackwardStage(const Stage& stage, const float* x, const float* y, float* dy, float* dx, int64_t n) {
  if (!stage.by_sample) {
    layers_[stage.first]->Backward(x, y, dy, dx, 0, n);
    return;
  }
  const int64_t x_size = stage.first ? layers_[stage.first - 1]->out().size() : in_.size();
  const int64_t y_size = layers_[stage.last]->out().size();
  for (int64_t sample = 0; sample < n; ++sample) {
    float* slope = dy + sample * y_size;
    for (std::size_t i = stage.last + 1; i-- > stage.first;) {
      const float* input = i == stage.first ? x + sample * x_size : nullptr;
      const float* output = i == stage.last ? y + sample * y_size : nullptr;
      float* back = i == stage.first ? (dx ? dx + sample * x_size : nullptr) : sample_slopes_[i - 1].data();
      // nothing before the network's first layer learns
      if (back || layers_[i]->reads_input()) layers_[i]->Backward(input, output, slope, back, sample, 1);
      slope = back;
    }
  }
}

void Network::Backward(const float* images, int64_t n) {
  for (std::size_t i = stages_.size(); i-- > 0;) {
    const float* x = i ? outputs_[i - 1].data() : images;
    BackwardStage(stages_[i], x, outputs_[i].data(), slopes_[i].data(), i ? slopes_[i - 1].data() : nullptr, n);
  }
}

Score Network::Train(const float* images, const int32_t* labels, int64_t n, int64_t batch,
                     const std::function<bool()>& pause) {
  Reserve(batch);
  const int64_t in = in_.size(), classes = shape_.size();
  float* gathered = batch_.Resize(batch * in);
  float* chances = chances_.Resize(batch * classes);
  std::vector<int32_t> order(n), answers(batch);
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = n - 1; i > 0; --i) std::swap(order[i], order[random_.Below(static_cast<uint32_t>(i) + 1)]);
  Score total;
  for (int64_t at = 0; at < n; at += batch) {
    const int64_t size = std::min(batch, n - at);
    for (int64_t i = 0; i < size; ++i) {
      std::memcpy(gathered + i * in, images + order[at + i] * in, in * sizeof(float));
      answers[i] = labels[order[at + i]];
    }
    Softmax(Forward(gathered, size, true), chances, size, classes);
    const Score score = CrossEntropy(chances, answers.data(), slopes_.back().data(), size, classes, size);
    total.loss += score.loss;
    total.right += score.right;
    Backward(gathered, size);
    optimizer_.Begin();
    for (Parameter* one : parameters()) {
      optimizer_.Apply(one->value.data(), one->gradient.data(), one->mean.data(), one->square.data(),
                       one->value.size());
    }
    if (!pause()) break;
  }
  return total;
}

}  // namespace tensorflow
