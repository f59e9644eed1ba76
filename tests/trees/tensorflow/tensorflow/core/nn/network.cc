#include "tensorflow/core/nn/network.h"

#include <algorithm>

#include "tensorflow/core/nn/layers.h"

namespace tensorflow {

void Network::Add(LayerPointer layer) {
  shape_ = layer->out();
  layers_.push_back(std::move(layer));
  stages_.clear();
}

void Network::Conv2D(int64_t filters, int64_t kernel, bool relu) {
  Add(LayerPointer(new tensorflow::Conv2D(shape_, filters, kernel, relu, random_)));
}

void Network::MaxPool(int64_t size) {
  auto* before = layers_.empty() ? nullptr : dynamic_cast<tensorflow::Conv2D*>(layers_.back().get());
  const bool mask = before && before->LeaveMask();
  Add(LayerPointer(new tensorflow::MaxPool(shape_, size, mask)));
}

void Network::Dropout(float rate) { Add(LayerPointer(new tensorflow::Dropout(shape_, rate))); }

void Network::Dense(int64_t units, bool relu) {
  Add(LayerPointer(new tensorflow::Dense(shape_, units, relu, random_)));
}

std::vector<Parameter*> Network::parameters() {
  std::vector<Parameter*> found;
  for (const LayerPointer& layer : layers_) {
    for (Parameter* parameter : layer->parameters()) found.push_back(parameter);
  }
  return found;
}

void Network::Reserve(int64_t batch) {
  if (stages_.empty()) {
    bool open = false;  // whether the next layer may join the last stage
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const Layer& layer = *layers_[i];
      if (open && layer.by_sample() && !layer.reads_input()) {
        stages_.back().last = i;
      } else {
        stages_.push_back({i, i, layer.by_sample()});
      }
      open = layer.by_sample() && !layer.reads_output();
    }
  }
  outputs_.resize(stages_.size());
  slopes_.resize(stages_.size());
  samples_.resize(layers_.size());
  sample_slopes_.resize(layers_.size());
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const int64_t size = layers_[stages_[i].last]->out().size();
    outputs_[i].Resize(batch * size);
    slopes_[i].Resize(batch * size);
  }
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    layers_[i]->Reserve(batch);
    if (!layers_[i]->by_sample()) continue;
    samples_[i].Resize(layers_[i]->out().size());
    sample_slopes_[i].Resize(layers_[i]->out().size());
  }
}

void Network::ForwardStage(const Stage& stage, const float* x, float* y, int64_t n, bool training) {
  if (!stage.by_sample) {
    layers_[stage.first]->Forward(x, y, 0, n, training, random_);
    return;
  }
  const int64_t x_size = stage.first ? layers_[stage.first - 1]->out().size() : in_.size();
  const int64_t y_size = layers_[stage.last]->out().size();
  for (int64_t sample = 0; sample < n; ++sample) {
    const float* from = x + sample * x_size;
    for (std::size_t i = stage.first; i <= stage.last; ++i) {
      float* to = i == stage.last ? y + sample * y_size : samples_[i].data();
      layers_[i]->Forward(from, to, sample, 1, training, random_);
      from = to;
    }
  }
}

const float* Network::Forward(const float* images, int64_t n, bool training) {
  const float* from = images;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    ForwardStage(stages_[i], from, outputs_[i].data(), n, training);
    from = outputs_[i].data();
  }
  return from;
}

void Network::Predict(const float* images, float* chances, int64_t n) {
  constexpr int64_t kBatch = 128;
  Reserve(std::min(n, kBatch));
  for (int64_t at = 0; at < n; at += kBatch) {
    const int64_t size = std::min(kBatch, n - at);
    Softmax(Forward(images + at * in_.size(), size, false), chances + at * shape_.size(), size, shape_.size());
  }
}

}  // namespace tensorflow
