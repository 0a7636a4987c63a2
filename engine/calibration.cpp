// Calibration: an observer of the mixture layers while the unchanged model (the identity plan) runs over the
// calibration rows.
#include "engine/calibration.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "engine/calibration_details.h"
#include "engine/observe.h"
#include "kernels/common/interrupt.h"
#include "kernels/common/scalar_math.h"
#include "kernels/common/subsets.h"

namespace eep {
namespace {

struct Choice {
  int32_t expert;
  double weight;
};

// The router of the model restricted to `experts` (ascending): softmax over them, top-k, renormalised as the
// family does.
void route(const float* logits, const std::vector<int32_t>& experts, int32_t top_k, bool renormalise,
           std::vector<Choice>* chosen) {
  double largest = -INFINITY;
  for (int32_t expert : experts) largest = std::max(largest, static_cast<double>(logits[expert]));
  double sum = 0;
  chosen->clear();
  for (int32_t expert : experts) {
    const double below = static_cast<double>(logits[expert]) - largest;
    const double value = below > -700 ? exponential_double(below) : 0.0;
    sum += value;
    chosen->push_back({expert, value});
  }
  const size_t keep = std::min(chosen->size(), static_cast<size_t>(top_k));
  std::stable_sort(chosen->begin(), chosen->end(),
                   [&](const Choice& a, const Choice& b) { return logits[a.expert] > logits[b.expert]; });
  chosen->resize(keep);
  if (renormalise) {
    sum = 0;
    for (const Choice& choice : *chosen) sum += choice.weight;
  }
  for (Choice& choice : *chosen) choice.weight /= sum;
}

// The same with sigmoid scores, which know no other expert; groups play no part among a few of them.
void route_sigmoid(const float* logits, const std::vector<float>& bias, const std::vector<int32_t>& experts,
                   const ModelConfig& config, std::vector<Choice>* chosen) {
  chosen->clear();
  for (int32_t expert : experts)
    chosen->push_back({expert, sigmoid_double(static_cast<double>(logits[expert]))});
  const auto rank = [&](const Choice& choice) {
    return choice.weight + static_cast<double>(bias[static_cast<size_t>(choice.expert)]);
  };
  std::stable_sort(chosen->begin(), chosen->end(),
                   [&](const Choice& a, const Choice& b) { return rank(a) > rank(b); });
  chosen->resize(std::min(chosen->size(), static_cast<size_t>(config.top_k)));
  double sum = 0;
  for (const Choice& choice : *chosen) sum += choice.weight;
  for (Choice& choice : *chosen) {
    if (config.norm_topk_prob) choice.weight /= sum;
    choice.weight *= static_cast<double>(config.router_scale);
  }
}

class Calibrator : public MixtureObserver {
 public:
  Calibrator(const Weights& weights, const CalibrationOptions& options)
      : weights_(weights),
        config_(weights.config()),
        ops_(weights.ops()),
        device_(weights.device()),
        options_(options) {
    statistics_.experts = static_cast<int32_t>(config_.num_experts);
    statistics_.top_k = static_cast<int32_t>(config_.top_k);
    slot_of_layer_.assign(static_cast<size_t>(config_.num_layers), -1);
    for (size_t layer = 0; layer < config_.sparse.size(); ++layer) {
      if (config_.sparse[layer] == 0) continue;
      slot_of_layer_[layer] = static_cast<int32_t>(statistics_.layers.size());
      statistics_.layers.push_back(empty_layer(static_cast<int32_t>(layer)));
    }
    pending_.resize(statistics_.layers.size());
    const size_t bytes =
        statistics_.layers.size() * kFields * static_cast<size_t>(config_.num_experts) * sizeof(double);
    sums_ = DeviceBuffer(weights_.backend(), bytes);
    ops_.clear(sums_.data(), bytes, device_);
    if (options_.details || options_.every_expert) {
      details_ = std::make_unique<CalibrationDetails>(
          statistics_.layers.size(), statistics_.experts, config_.hidden_size,
          config_.router_score == RouterScore::kSigmoid, options_.every_expert, device_.threads);
    }
    if (!runs_every_expert()) return;
    const int64_t batch = options_.subset_batch, slots = batch * config_.num_experts;
    const auto take = [&](int64_t elements) {
      return DeviceBuffer(weights_.backend(), static_cast<size_t>(elements) * sizeof(float));
    };
    batch_x_ = take(batch * config_.hidden_size);
    if (ops_.round_rows != nullptr) batch_x16_ = take(batch * row_stride_16bit(config_.hidden_size) / 2);
    batch_order_ = take(slots);
    batch_offset_ = take(config_.num_experts + 1);
    batch_activation_ =
        DeviceBuffer(weights_.backend(), expert_ffn_scratch_bytes(slots, config_.expert_intermediate_size));
    batch_out_ = take(slots * config_.hidden_size);
  }

  size_t memory() const override {
    size_t bytes = sums_.bytes() + (details_ ? details_->bytes() : 0);
    for (const DeviceBuffer* buffer :
         {&batch_x_, &batch_x16_, &batch_order_, &batch_offset_, &batch_activation_, &batch_out_}) {
      bytes += buffer->bytes();
    }
    return bytes;
  }

  void observe(const View& view) override {
    const int32_t slot = slot_of_layer_[static_cast<size_t>(view.layer)];
    const int64_t experts = config_.num_experts;
    ExpertStatsArgs args;
    args.logits = view.logits;
    args.expert = view.expert;
    args.weight = view.weight;
    args.slot_out = view.slot_out;
    args.rows = view.rows;
    args.slots = view.slots;
    args.experts = statistics_.experts;
    args.hidden = config_.hidden_size;
    args.sigmoids = config_.router_score == RouterScore::kSigmoid;
    double* const sums = sums_.as<double>() + slot * kFields * experts;
    const auto field = [&](int64_t index) { return sums + index * experts; };
    args.sums = {field(0), field(1), field(2), field(3), field(4),
                 field(5), field(6), field(7), field(8), field(9)};
    ops_.expert_stats(args, device_);
    if (slot == 0) statistics_.tokens += view.rows;
    if (details_) add_details(slot, view);
    if (runs_every_expert()) collect(slot, view);
    observed_ += view.rows;
    if (options_.progress) options_.progress(observed_ / static_cast<int64_t>(statistics_.layers.size()));
  }

  ExpertStatistics finish() {
    for (size_t slot = 0; slot < pending_.size(); ++slot) {
      if (runs_every_expert()) measure_batch(static_cast<int32_t>(slot));
    }
    download_sums(&statistics_);
    for (size_t slot = 0; slot < pending_.size(); ++slot) {
      if (details_) details_->finish(slot, statistics_.layers[slot]);
    }
    return std::move(statistics_);
  }

  CalibrationState state(int64_t rows) const {
    CalibrationState state{rows, statistics_, pending_};
    download_sums(&state.statistics);
    return state;
  }

  void go_on_from(CalibrationState state) {
    observed_ = state.rows * static_cast<int64_t>(state.statistics.layers.size());
    statistics_ = std::move(state.statistics);
    pending_ = std::move(state.pending);
    double* sums = sums_.as<double>();
    for (const LayerStatistics& layer : statistics_.layers) {
      for (size_t sum = 0; sum < kRoutedSums; ++sum, sums += config_.num_experts)
        ops_.upload(sums, layer.sums[sum].data(), layer.sums[sum].size() * sizeof(double), device_);
    }
  }

 private:
  void download_sums(ExpertStatistics* statistics) const {
    const double* sums = sums_.as<double>();
    for (LayerStatistics& layer : statistics->layers) {
      for (size_t sum = 0; sum < kRoutedSums; ++sum, sums += config_.num_experts)
        ops_.download(layer.sums[sum].data(), sums, layer.sums[sum].size() * sizeof(double), device_);
    }
  }

  LayerStatistics empty_layer(int32_t index) const {
    const std::vector<double> zero(static_cast<size_t>(config_.num_experts), 0.0);
    LayerStatistics layer;
    layer.layer = index;
    std::fill_n(layer.sums.begin(), kRoutedSums, zero);
    for (int32_t kept : options_.subset_kept) {
      SubsetErrors errors;
      errors.kept = kept;
      const int32_t experts = static_cast<int32_t>(config_.num_experts);
      errors.exhaustive = binomial(experts, kept) <= options_.max_exhaustive;
      errors.subsets = errors.exhaustive ? all_subsets(experts, kept) : options_.sample_subsets(index, kept);
      errors.error.assign(errors.subsets.size(), 0.0);
      layer.subset_errors.push_back(std::move(errors));
    }
    return layer;
  }

  bool runs_every_expert() const { return !options_.subset_kept.empty() || options_.every_expert; }

  void add_details(int32_t slot, const View& view) {
    const int64_t slots = view.rows * view.slots;
    const std::vector<float> residual = downloaded(view.residual, view.rows * config_.hidden_size),
                             logits = downloaded(view.logits, view.rows * config_.num_experts),
                             weight = downloaded(view.weight, slots),
                             slot_out = downloaded(view.slot_out, slots * config_.hidden_size);
    const std::vector<int32_t> expert = downloaded(view.expert, slots);
    details_->add(static_cast<size_t>(slot), {view.rows, view.slots, residual.data(), logits.data(),
                                              expert.data(), weight.data(), slot_out.data()});
  }

  void collect(int32_t slot, const View& view) {
    PendingRows& pending = pending_[static_cast<size_t>(slot)];
    const int64_t hidden = config_.hidden_size, experts = config_.num_experts;
    const int64_t rows = std::min(view.rows, options_.subset_tokens - pending.taken);
    if (rows <= 0) return;
    const std::vector<float> x = downloaded(view.x, rows * hidden),
                             logits = downloaded(view.logits, rows * experts);
    for (int64_t row = 0; row < rows; ++row, ++pending.taken) {
      pending.x.insert(pending.x.end(), x.begin() + row * hidden, x.begin() + (row + 1) * hidden);
      pending.logits.insert(pending.logits.end(), logits.begin() + row * experts,
                            logits.begin() + (row + 1) * experts);
      if (static_cast<int64_t>(pending.x.size()) == options_.subset_batch * hidden) measure_batch(slot);
    }
  }

  template <typename T>
  std::vector<T> downloaded(const T* values, int64_t count) const {
    std::vector<T> out(static_cast<size_t>(count));
    ops_.download(out.data(), values, out.size() * sizeof(T), device_);
    return out;
  }
  template <typename T>
  void upload(const DeviceBuffer& to, const std::vector<T>& values) const {
    ops_.upload(to.data(), values.data(), values.size() * sizeof(T), device_);
  }

  // f_j(x) of every expert on every row of the batch: [rows, experts, hidden].
  std::vector<float> every_expert(int32_t layer, const std::vector<float>& x, int64_t rows) const {
    const int32_t experts = statistics_.experts;
    const int64_t hidden = config_.hidden_size;
    std::vector<int32_t> order, offset{0};
    for (int32_t expert = 0; expert < experts; ++expert) {
      for (int64_t row = 0; row < rows; ++row) order.push_back(static_cast<int32_t>(row) * experts + expert);
      offset.push_back(static_cast<int32_t>(order.size()));
    }
    upload(batch_x_, x);
    upload(batch_order_, order);
    upload(batch_offset_, offset);
    ExpertFfnArgs args;
    args.x = batch_x_.as<float>();
    if (ops_.round_rows != nullptr) {
      args.x16 = batch_x16_.as<uint16_t>();
      const DType dtype = weights_.layer(layer).experts[0].gate.dtype;
      ops_.round_rows({args.x, rows, hidden, dtype, batch_x16_.as<uint16_t>()}, device_);
    }
    args.slots = experts;
    args.order = batch_order_.as<int32_t>();
    args.offset = batch_offset_.as<int32_t>();
    args.groups = experts;
    args.experts = weights_.layer(layer).experts.data();
    args.hidden = hidden;
    args.intermediate = config_.expert_intermediate_size;
    args.limit = config_.expert_limit;
    args.alpha = config_.expert_alpha;
    args.activation = batch_activation_.as<float>();
    args.out = batch_out_.as<float>();
    ops_.expert_ffn(args, device_);
    return downloaded(batch_out_.as<float>(), static_cast<int64_t>(order.size()) * hidden);
  }

  void measure_batch(int32_t slot) {
    PendingRows& pending = pending_[static_cast<size_t>(slot)];
    LayerStatistics& layer = statistics_.layers[static_cast<size_t>(slot)];
    const int64_t rows = static_cast<int64_t>(pending.x.size()) / config_.hidden_size;
    if (rows == 0) return;
    check_interrupted();
    const std::vector<float> outputs = every_expert(layer.layer, pending.x, rows);
    if (options_.every_expert) {
      details_->add_every_expert(static_cast<size_t>(slot), outputs, pending.logits.data(), rows);
    }
    if (!options_.subset_kept.empty()) measure_subsets(layer, outputs, pending.logits, rows);
    pending.x.clear();
    pending.logits.clear();
  }

  void measure_subsets(LayerStatistics& layer, const std::vector<float>& outputs,
                       const std::vector<float>& logits, int64_t rows) const {
    const int64_t hidden = config_.hidden_size;
    const int32_t experts = statistics_.experts;
    // Z - Z_S is a combination of at most 2k expert outputs, so its norm follows from their inner products.
    const size_t gram_size = static_cast<size_t>(experts) * static_cast<size_t>(experts);
    std::vector<double> gram(static_cast<size_t>(rows) * gram_size);
    for (int64_t row = 0; row < rows; ++row) {
      for (int32_t a = 0; a < experts; ++a) {
        for (int32_t b = a; b < experts; ++b) {
          const float* fa = outputs.data() + (row * experts + a) * hidden;
          const float* fb = outputs.data() + (row * experts + b) * hidden;
          double sum = 0;
          for (int64_t i = 0; i < hidden; ++i) sum += static_cast<double>(fa[i]) * static_cast<double>(fb[i]);
          double* matrix = gram.data() + static_cast<size_t>(row) * gram_size;
          matrix[a * experts + b] = matrix[b * experts + a] = sum;
        }
      }
    }
    std::vector<int32_t> all(static_cast<size_t>(experts));
    std::iota(all.begin(), all.end(), 0);
    const bool sigmoids = config_.router_score == RouterScore::kSigmoid;
    const std::vector<float> bias =
        sigmoids ? downloaded(weights_.layer(layer.layer).router_bias, experts) : std::vector<float>{};
    const auto route_among = [&](const float* row, const std::vector<int32_t>& some,
                                 std::vector<Choice>* to) {
      if (sigmoids) return route_sigmoid(row, bias, some, config_, to);
      route(row, some, statistics_.top_k, config_.norm_topk_prob, to);
    };
    std::vector<std::vector<Choice>> full(static_cast<size_t>(rows));
    for (int64_t row = 0; row < rows; ++row)
      route_among(logits.data() + row * experts, all, &full[static_cast<size_t>(row)]);
    double all_squares = 0;
    std::vector<double> whole(static_cast<size_t>(experts));
    for (int64_t row = 0; row < rows; ++row) {
      std::fill(whole.begin(), whole.end(), 0.0);
      for (const Choice& choice : full[static_cast<size_t>(row)])
        whole[static_cast<size_t>(choice.expert)] = choice.weight;
      all_squares += quadratic(gram.data() + static_cast<size_t>(row) * gram_size, whole);
    }
    for (SubsetErrors& errors : layer.subset_errors) {
      errors.norm += std::sqrt(std::max(all_squares, 0.0));
      const int64_t subsets = static_cast<int64_t>(errors.subsets.size());
#pragma omp parallel for num_threads(device_.threads) schedule(static)
      for (int64_t subset = 0; subset < subsets; ++subset) {
        std::vector<Choice> chosen;
        std::vector<double> difference(static_cast<size_t>(experts));
        double squares = 0;
        for (int64_t row = 0; row < rows; ++row) {
          route_among(logits.data() + row * experts, errors.subsets[static_cast<size_t>(subset)], &chosen);
          std::fill(difference.begin(), difference.end(), 0.0);
          for (const Choice& choice : full[static_cast<size_t>(row)])
            difference[static_cast<size_t>(choice.expert)] += choice.weight;
          for (const Choice& choice : chosen) difference[static_cast<size_t>(choice.expert)] -= choice.weight;
          squares += quadratic(gram.data() + static_cast<size_t>(row) * gram_size, difference);
        }
        errors.error[static_cast<size_t>(subset)] += std::sqrt(std::max(squares, 0.0));
      }
    }
  }

  static double quadratic(const double* gram, const std::vector<double>& difference) {
    const size_t experts = difference.size();
    double sum = 0;
    for (size_t a = 0; a < experts; ++a) {
      if (difference[a] == 0) continue;
      for (size_t b = 0; b < experts; ++b) {
        if (difference[b] != 0) sum += difference[a] * difference[b] * gram[a * experts + b];
      }
    }
    return sum;
  }

  const Weights& weights_;
  const ModelConfig& config_;
  const Ops& ops_;
  Device device_;
  const CalibrationOptions& options_;
  static constexpr int64_t kFields = kRoutedSums;
  static_assert(sizeof(ExpertSums) == kRoutedSums * sizeof(double*));
  DeviceBuffer sums_;  // [layers, kFields, experts]
  // Of every_expert, for subset_batch rows; slots are (row, expert).
  DeviceBuffer batch_x_;           // [batch, hidden]
  DeviceBuffer batch_order_;       // [batch * experts]
  DeviceBuffer batch_offset_;      // [experts + 1]
  DeviceBuffer batch_x16_;         // [batch, row_stride_16bit(hidden)], where products read 16 bits
  DeviceBuffer batch_activation_;  // [batch * experts, intermediate]
  DeviceBuffer batch_out_;         // [batch * experts, hidden]
  std::unique_ptr<CalibrationDetails> details_;
  ExpertStatistics statistics_;
  std::vector<int32_t> slot_of_layer_;
  std::vector<PendingRows> pending_;
  int64_t observed_ = 0;  // rows, once a layer
};

// What a layer's statistics hold, in one order.
template <typename Layer, typename Visit>
void for_values(Layer& layer, const Visit& visit) {
  for (auto& sum : layer.sums) visit(sum);
  for (auto& matrix : layer.matrices) visit(matrix);
  for (auto& errors : layer.subset_errors) visit(errors.error);
}

// The first stage takes the layers that the others have measured (stages.h).
void gather(const Weights& weights, ExpertStatistics* statistics) {
  StageLink& link = *weights.link();
  std::vector<double> numbers;  // tokens; of each layer its norms of errors, then lengths and values
  for (const LayerStatistics& layer : statistics->layers) {
    if (link.first() || !weights.layers().has(layer.layer)) continue;
    for (const SubsetErrors& errors : layer.subset_errors) numbers.push_back(errors.norm);
    for_values(layer, [&](const std::vector<double>& values) {
      numbers.push_back(static_cast<double>(values.size()));
      numbers.insert(numbers.end(), values.begin(), values.end());
    });
  }
  if (!link.first()) {
    numbers.insert(numbers.begin(), static_cast<double>(statistics->tokens));
    return link.send(0, bytes_of(std::span<const double>(numbers)));
  }
  for (int stage = 1; stage < link.stages(); ++stage) {
    numbers = values_of<double>(link.receive(stage));
    size_t at = 0;
    const auto next = [&] { return numbers.at(at++); };
    statistics->tokens = std::max(statistics->tokens, static_cast<int64_t>(next()));
    for (LayerStatistics& layer : statistics->layers) {
      if (!link.layers()[static_cast<size_t>(stage)].has(layer.layer)) continue;
      for (SubsetErrors& errors : layer.subset_errors) errors.norm = next();
      for_values(layer, [&](std::vector<double>& values) {
        values.resize(static_cast<size_t>(next()));
        for (double& value : values) value = next();
      });
    }
  }
}

// Values beyond what floats hold become infinities and no numbers in the sums, which no criterion can use.
void require_finite(const ExpertStatistics& statistics) {
  const auto all = [](const std::vector<double>& values) {
    return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
  };
  for (const LayerStatistics& layer : statistics.layers) {
    const auto refuse = [&](const std::string& what) {
      throw Error(ExitCode::kData, "calibration: layer " + std::to_string(layer.layer),
                  what + " is no number: values inside the model exceed what floats hold",
                  "the weights are damaged or badly scaled: eep verify MODEL");
    };
    for (size_t sum = 0; sum < kExpertSums; ++sum) {
      const std::vector<double>& values = layer.sums[sum];
      for (size_t expert = 0; expert < values.size(); ++expert) {
        if (!std::isfinite(values[expert]))
          refuse("expert " + std::to_string(expert) + ": " + std::string(kExpertSumNames[sum]));
      }
    }
    for (size_t matrix = 0; matrix < kExpertMatrices; ++matrix) {
      if (!all(layer.matrices[matrix])) refuse(std::string(kExpertMatrixNames[matrix]));
    }
    for (const SubsetErrors& errors : layer.subset_errors) {
      if (!all(errors.error)) refuse("the error of " + std::to_string(errors.kept) + " kept experts");
    }
  }
}

}  // namespace

ExpertStatistics calibrate(const Weights& weights, size_t memory_budget, const PromptSource& next,
                           const CalibrationOptions& options) {
  Calibrator calibrator(weights, options);
  int64_t first_row = 0;
  StageLink* const link = weights.link();
  if (options.begin && link == nullptr) {
    CalibrationState state = calibrator.state(0);
    options.begin(&state);
    first_row = state.rows;
    calibrator.go_on_from(std::move(state));
  }
  for (Prompts prompts; next(prompts);) {
    observe_mixtures(weights, memory_budget, prompts, calibrator, first_row, [&](int64_t rows) {
      if (options.keep && link == nullptr) options.keep([&] { return calibrator.state(rows); });
    });
  }
  ExpertStatistics statistics = calibrator.finish();
  if (link != nullptr) gather(weights, &statistics);
  if (link == nullptr || link->first()) require_finite(statistics);
  return statistics;
}

ExpertStatistics calibrate(const Weights& weights, size_t memory_budget, const Prompts& prompts,
                           const CalibrationOptions& options) {
  if (weights.link() != nullptr && weights.link()->first())
    weights.link()->announce({StageCall::Kind::kCalibrate, {}, &prompts, &options});
  bool given = false;
  const auto once = [&](Prompts& next) {
    if (given) return false;
    next = prompts;
    return given = true;
  };
  return calibrate(weights, memory_budget, PromptSource(once), options);
}

}  // namespace eep
