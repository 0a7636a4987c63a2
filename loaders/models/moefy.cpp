#include "loaders/models/moefy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "engine/coded_matrix.h"
#include "engine/observe.h"
#include "engine/weights.h"
#include "kernels/common/expected.h"
#include "kernels/common/float16.h"
#include "kernels/common/interrupt.h"
#include "loaders/models/export_tensors.h"

namespace eep {

namespace {

constexpr double kRidge = 1e-3;
constexpr float kLogitSpread =
    0.05f;  // standard deviation of the router's logits over experts: near equal weights

// The inputs of every layer's FFN, all rows.
class Inputs : public MixtureObserver {
 public:
  Inputs(int64_t layers, int64_t hidden) : x_(static_cast<size_t>(layers)), hidden_(hidden) {}
  void observe(const View& view) override {
    std::vector<float>& x = x_[static_cast<size_t>(view.layer)];
    x.insert(x.end(), view.x, view.x + view.rows * hidden_);
  }
  std::vector<float> take(int64_t layer) { return std::move(x_[static_cast<size_t>(layer)]); }

 private:
  std::vector<std::vector<float>> x_;  // [layers][rows * hidden]
  int64_t hidden_;
};

std::vector<float> product(const PackedMatrix& w, const std::vector<float>& x, int64_t rows, const Ops& ops,
                           const Device& device) {
  std::vector<float> out(static_cast<size_t>(rows * w.n));
  GemmArgs args;
  args.x = x.data();
  args.rows = rows;
  args.w = w;
  args.out = out.data();
  args.out_stride = w.n;
  ops.gemm(args, device);
  return out;
}

void append(std::vector<uint8_t>& bytes, float value, DType dtype) {
  uint8_t stored[4];
  if (dtype == DType::kF32) {
    std::memcpy(stored, &value, 4);
  } else {
    const uint16_t bits = dtype == DType::kBF16 ? f32_to_bf16(value) : f32_to_f16(value);
    std::memcpy(stored, &bits, 2);
  }
  bytes.insert(bytes.end(), stored, stored + dtype_size(dtype));
}

// [rows, experts] logarithm of each group's contribution, the mean of a row removed (a softmax does not see
// it). The contribution of a neuron is measured by its activation times the length of its column of down.
std::vector<float> contributions(const std::vector<float>& activation, const std::vector<double>& length,
                                 const std::vector<int32_t>& owner, int64_t rows, int32_t experts) {
  const size_t width = owner.size(), count = static_cast<size_t>(experts);
  std::vector<float> targets;
  std::vector<double> sums(count);
  for (int64_t row = 0; row < rows; ++row) {
    std::fill(sums.begin(), sums.end(), 1e-12);
    for (size_t neuron = 0; neuron < width; ++neuron) {
      const double value = activation[static_cast<size_t>(row) * width + neuron] * length[neuron];
      sums[static_cast<size_t>(owner[neuron])] += value * value;
    }
    double mean = 0;
    for (double& sum : sums) mean += sum = 0.5 * std::log(sum);
    for (double sum : sums) targets.push_back(static_cast<float>(sum - mean / static_cast<double>(experts)));
  }
  return targets;
}

void flatten(std::vector<float>& router, const std::vector<float>& targets) {
  double squares = 0;
  for (float target : targets) squares += double{target} * double{target};
  const double spread = std::sqrt(squares / static_cast<double>(targets.size()));
  for (float& weight : router) weight *= spread > 0 ? static_cast<float>(kLogitSpread / spread) : 0.0f;
}

std::vector<int32_t> sorted_by_owner(const std::vector<int32_t>& owner) {
  std::vector<int32_t> neurons(owner.size());
  std::iota(neurons.begin(), neurons.end(), 0);
  std::stable_sort(neurons.begin(), neurons.end(), [&](int32_t a, int32_t b) {
    return owner[static_cast<size_t>(a)] < owner[static_cast<size_t>(b)];
  });
  return neurons;
}

MoefyLayer split_layer(const LayerWeights& weights, const RawMatrix& down, std::vector<float> x,
                       const ModelConfig& config, const Ops& ops, const MoefyOptions& options) {
  const int64_t width = config.expert_intermediate_size, hidden = config.hidden_size;
  const int64_t rows = static_cast<int64_t>(x.size()) / hidden;
  std::vector<float> activation = product(weights.experts[0].gate, x, rows, ops, options.device);
  const std::vector<float> up = product(weights.experts[0].up, x, rows, ops, options.device);
  for (size_t i = 0; i < activation.size(); ++i) {
    const float gate = activation[i];
    activation[i] = std::fabs(gate / (1 + std::exp(-gate)) * up[i]);
  }
  const std::vector<int32_t> owner = balanced_clusters(activation, rows, width, options.experts);
  MoefyLayer layer;
  layer.neurons = sorted_by_owner(owner);
  layer.router.assign(static_cast<size_t>(options.experts * hidden), 0.0f);
  if (options.top_k == options.experts) return layer;
  std::vector<double> length(static_cast<size_t>(width), 0.0);
  for (int64_t row = 0; row < hidden; ++row) {
    for (int64_t neuron = 0; neuron < width; ++neuron) {
      const double value = element_of(down, row, neuron);
      length[static_cast<size_t>(neuron)] += value * value;
    }
  }
  for (double& value : length) value = std::sqrt(value);
  const std::vector<float> targets = contributions(activation, length, owner, rows, options.experts);
  layer.router = ridge_regression(x, targets, rows, hidden, options.experts, kRidge);
  flatten(layer.router, targets);
  return layer;
}

void check(const ModelConfig& config, bool text, const MoefyOptions& options) {
  if (options.experts < 1 || config.expert_intermediate_size % options.experts != 0) {
    throw Error(
        ExitCode::kUsage, "--moefy",
        "does not divide the width of the FFN" +
            expected_got(fmt::format("a divisor of {}", config.expert_intermediate_size), options.experts));
  }
  if (options.top_k < 1 || options.top_k > options.experts || options.top_k > kMaxTopK) {
    throw Error(
        ExitCode::kUsage, "--top-k",
        "out of range" +
            expected_got(fmt::format("1..{}", std::min<int32_t>(options.experts, kMaxTopK)), options.top_k));
  }
  if (!text && options.top_k < options.experts) {
    throw Error(ExitCode::kUsage, "--calibration", "missing: a router cannot be fitted without text");
  }
}

}  // namespace

std::vector<MoefyLayer> split_neurons(const RawModel& dense, const Ops& ops,
                                      const std::vector<std::vector<int32_t>>& sequences,
                                      const MoefyOptions& options) {
  const ModelConfig& config = dense.config;
  check(config, !sequences.empty(), options);
  std::vector<MoefyLayer> layers;
  if (sequences.empty()) {
    MoefyLayer runs;
    runs.neurons.resize(static_cast<size_t>(config.expert_intermediate_size));
    std::iota(runs.neurons.begin(), runs.neurons.end(), 0);
    runs.router.assign(static_cast<size_t>(options.experts * config.hidden_size), 0.0f);
    layers.assign(static_cast<size_t>(config.num_layers), runs);
    return layers;
  }
  const Weights weights(dense, ops);
  PromptBuilder builder;
  for (const std::vector<int32_t>& tokens : sequences) {
    builder.add(tokens, static_cast<int32_t>(tokens.size()), /*predict_next=*/true);
  }
  std::vector<PromptBuilder::Sequence> places;
  Inputs inputs(config.num_layers, config.hidden_size);
  observe_mixtures(weights, options.memory, builder.build(&places), inputs);
  for (int64_t index = 0; index < config.num_layers; ++index) {
    check_interrupted();
    const RawLayer& raw = dense.layers[static_cast<size_t>(index)];
    layers.push_back(
        split_layer(weights.layer(index), raw.experts[0].down, inputs.take(index), config, ops, options));
    if (options.progress) options.progress(index + 1, config.num_layers);
  }
  return layers;
}

std::vector<StreamedTensor> moefy_tensors(const RawModel& dense, const std::vector<MoefyLayer>& layers,
                                          const MoefyOptions& options) {
  ExpertPlan plan = identity_plan(dense.config.sparse, 1, 1);
  std::vector<StreamedTensor> tensors;
  const DType dtype = dense.config.dtype;
  const int64_t hidden = dense.config.hidden_size;
  const int64_t size = dense.config.expert_intermediate_size / options.experts;
  for (StreamedTensor& tensor : export_tensors(dense, plan, ExportFormat::kHf, options.device)) {
    const std::string& name = tensor.spec.name;
    if (name.find(".block_sparse_moe.experts.") != std::string::npos) continue;
    const size_t gate = name.find(".block_sparse_moe.gate.weight");
    if (gate == std::string::npos) {
      tensors.push_back(std::move(tensor));
      continue;
    }
    const std::string prefix = name.substr(0, gate + std::string(".block_sparse_moe.").size());
    const size_t index = std::stoul(name.substr(std::string("model.layers.").size()));
    const MoefyLayer& layer = layers[index];
    const RawFfn& ffn = dense.layers[index].experts[0];
    tensors.push_back({{name, dtype, {options.experts, hidden}}, [&layer, dtype](const ByteSink& sink) {
                         std::vector<uint8_t> bytes;
                         for (float weight : layer.router) append(bytes, weight, dtype);
                         sink(bytes.data(), bytes.size());
                       }});
    for (int32_t expert = 0; expert < options.experts; ++expert) {
      const std::string own = prefix + "experts." + std::to_string(expert) + ".";
      const int32_t* neurons = layer.neurons.data() + expert * size;
      for (const auto& [part, matrix] : {std::pair{"w1.weight", &ffn.gate}, {"w3.weight", &ffn.up}}) {
        tensors.push_back({{own + part, dtype, {size, hidden}}, [=, matrix = matrix](const ByteSink& sink) {
                             std::vector<uint8_t> bytes;
                             for (int64_t i = 0; i < size; ++i) {
                               for (int64_t j = 0; j < hidden; ++j)
                                 append(bytes, element_of(*matrix, neurons[i], j), dtype);
                             }
                             sink(bytes.data(), bytes.size());
                           }});
      }
      const float scale = static_cast<float>(options.top_k);
      tensors.push_back({{own + "w2.weight", dtype, {hidden, size}}, [=, &ffn](const ByteSink& sink) {
                           std::vector<uint8_t> bytes;
                           for (int64_t i = 0; i < hidden; ++i) {
                             for (int64_t j = 0; j < size; ++j) {
                               append(bytes, scale * element_of(ffn.down, i, neurons[j]), dtype);
                             }
                           }
                           sink(bytes.data(), bytes.size());
                         }});
    }
  }
  return tensors;
}

}  // namespace eep
