// Calibration: an observer of the mixture layers while the unchanged model (the identity plan) runs over the
// calibration rows.
#include "engine/calibration.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/calibration_details.h"
#include "engine/observe.h"
#include "engine/subset_errors.h"
#include "kernels/common/interrupt.h"
#include "kernels/common/rows.h"
#include "kernels/common/subsets.h"

namespace eep {
namespace {

// Rows of one layer wait here until a batch is full, so that batches do not depend on how the pass was cut
// into blocks.
struct PendingRows {
  std::vector<float> x;       // [rows, hidden]
  std::vector<float> logits;  // [rows, experts]
  int64_t taken = 0;          // rows so far, full batches included
};

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
    if (relay_ != nullptr && seen_[static_cast<size_t>(slot)] == 0) {
      if (const std::string before = relay_->take(slot); !before.empty()) set_layer_sums(slot, before);
    }
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
    int64_t& seen = seen_[static_cast<size_t>(slot)];
    seen += view.rows;
    if (relay_ != nullptr && seen == part_rows_) relay_->give(slot, [&] { return layer_sums(slot); });
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

  // The next rows that are observed are a part of so many; null: this process alone has them all.
  void begin_part(int64_t rows, SumsRelay* relay) {
    relay_ = relay;
    part_rows_ = rows;
    seen_.assign(statistics_.layers.size(), 0);
  }

  CalibrationState state(int64_t rows) const {
    CalibrationState state{rows, {}};
    for (size_t slot = 0; slot < pending_.size(); ++slot)
      state.layers.push_back(layer_sums(static_cast<int32_t>(slot)));
    return state;
  }

  void go_on_from(const CalibrationState& state) {
    observed_ = state.rows * static_cast<int64_t>(statistics_.layers.size());
    for (size_t slot = 0; slot < state.layers.size(); ++slot)
      set_layer_sums(static_cast<int32_t>(slot), state.layers.at(slot));
  }

  // Everything that a layer has been added to, as bytes: tokens, rows taken and waiting, dense rows; the
  // sums; the rows that wait.
  std::string layer_sums(int32_t slot) const {
    const auto at = static_cast<size_t>(slot);
    const PendingRows& pending = pending_[at];
    std::vector<double> numbers{static_cast<double>(statistics_.tokens), static_cast<double>(pending.taken),
                                static_cast<double>(pending.x.size()),
                                details_ ? static_cast<double>(details_->dense_rows(at)) : 0.0};
    const int64_t routed = kFields * config_.num_experts;
    const std::vector<double> values = downloaded(sums_.as<double>() + slot * routed, routed);
    const auto add = [&](const std::vector<double>& sum) {
      numbers.insert(numbers.end(), sum.begin(), sum.end());
    };
    add(values);
    for (const SubsetErrors& errors : statistics_.layers[at].subset_errors) {
      numbers.push_back(errors.norm);
      add(errors.error);
    }
    if (details_) details_->for_sums(at, add);
    return bytes_of(std::span<const double>(numbers)) + bytes_of(std::span<const float>(pending.x)) +
           bytes_of(std::span<const float>(pending.logits));
  }

  // Of the same model, options and layer; throws Error(kRuntime) if the sizes are others.
  void set_layer_sums(int32_t slot, std::string_view bytes) {
    const auto at = static_cast<size_t>(slot);
    const auto next = [&](size_t count) {
      if (count > bytes.size()) refuse_sums();
      const std::string_view front = bytes.substr(0, count);
      bytes.remove_prefix(count);
      return front;
    };
    const auto fill = [&](std::vector<double>& sum) {
      sum = values_of<double>(next(sum.size() * sizeof(double)));
    };
    std::vector<double> counts(4), routed(static_cast<size_t>(kFields * config_.num_experts)), norm(1);
    fill(counts);
    if (slot == 0) statistics_.tokens = static_cast<int64_t>(counts[0]);
    fill(routed);
    ops_.upload(sums_.as<double>() + slot * static_cast<int64_t>(routed.size()), routed.data(),
                routed.size() * sizeof(double), device_);
    for (SubsetErrors& errors : statistics_.layers[at].subset_errors) {
      fill(norm);
      errors.norm = norm[0];
      fill(errors.error);
    }
    if (details_) {
      details_->dense_rows(at) = static_cast<int64_t>(counts[3]);
      details_->for_sums(at, fill);
    }
    PendingRows& pending = pending_[at];
    pending.taken = static_cast<int64_t>(counts[1]);
    const auto waiting = static_cast<size_t>(counts[2]);
    pending.x = values_of<float>(next(waiting * sizeof(float)));
    pending.logits = values_of<float>(bytes);
    if (pending.logits.size() * static_cast<size_t>(config_.hidden_size) !=
        waiting * static_cast<size_t>(config_.num_experts))
      refuse_sums();
  }

 private:
  [[noreturn]] static void refuse_sums() {
    throw Error(ExitCode::kRuntime, "calibration", "the sums of a layer have another size");
  }

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
      const float *x_row = rows_of(x, hidden)[row], *logits_row = rows_of(logits, experts)[row];
      pending.x.insert(pending.x.end(), x_row, x_row + hidden);
      pending.logits.insert(pending.logits.end(), logits_row, logits_row + experts);
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
    if (!options_.subset_kept.empty()) {
      const bool sigmoids = config_.router_score == RouterScore::kSigmoid;
      SubsetBatch batch{outputs, pending.logits, {}, rows};
      if (sigmoids)
        batch.router_bias = downloaded(weights_.layer(layer.layer).router_bias, config_.num_experts);
      add_subset_errors(batch, config_, device_.threads, layer);
    }
    pending.x.clear();
    pending.logits.clear();
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
  SumsRelay* relay_ = nullptr;
  int64_t part_rows_ = 0;
  std::vector<int64_t> seen_;  // [sparse layers] rows of the part
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

PromptSource once(const Prompts& prompts) {
  return [&prompts, given = false](Prompts& next) mutable {
    if (given) return false;
    next = prompts;
    return given = true;
  };
}

class CalibrationPass::Impl : public Calibrator {
 public:
  using Calibrator::Calibrator;
  int under_way = 0;  // chunks that the last stage has not seen
};

CalibrationPass::CalibrationPass(const Weights& weights, size_t memory_budget,
                                 const CalibrationOptions& options)
    : weights_(weights),
      memory_(memory_budget),
      options_(options),
      impl_(std::make_unique<Impl>(weights, options_)) {}

CalibrationPass::~CalibrationPass() = default;

int64_t CalibrationPass::begin() {
  if (!options_.begin || weights_.link() != nullptr) return 0;
  CalibrationState state;
  options_.begin(&state);
  impl_->go_on_from(state);
  return state.rows;
}

void CalibrationPass::run(const Prompts& prompts, int64_t first_row) {
  impl_->begin_part(prompts.rows() - first_row, nullptr);
  observe_mixtures(weights_, memory_, prompts, *impl_, first_row, [&](int64_t rows) { keep(rows); });
}

void CalibrationPass::run_part(const Prompts& prompts, SumsRelay& relay) {
  impl_->begin_part(prompts.rows(), &relay);
  observe_mixtures(weights_, memory_, prompts, *impl_, 0, {}, nullptr, &impl_->under_way);
}

void CalibrationPass::await_stages() { await_observed(weights_, &impl_->under_way); }

void CalibrationPass::keep(int64_t rows) {
  if (options_.keep && weights_.link() == nullptr) options_.keep([&] { return impl_->state(rows); });
}

void CalibrationPass::set_sums(int32_t layer, std::string_view bytes) { impl_->set_layer_sums(layer, bytes); }

int64_t CalibrationPass::chunk_rows(const Prompts& prompts) const {
  return observed_chunk_rows(weights_, memory_, prompts, *impl_);
}

ExpertStatistics CalibrationPass::finish() {
  await_stages();
  ExpertStatistics statistics = impl_->finish();
  StageLink* const link = weights_.link();
  if (link != nullptr) gather(weights_, &statistics);
  if (link == nullptr || link->first()) require_finite(statistics);
  return statistics;
}

ExpertStatistics calibrate(const Weights& weights, size_t memory_budget, const PromptSource& next,
                           const CalibrationOptions& options) {
  CalibrationPass pass(weights, memory_budget, options);
  int64_t first_row = pass.begin();
  for (Prompts prompts; next(prompts); first_row = 0) pass.run(prompts, first_row);
  return pass.finish();
}

ExpertStatistics calibrate(const Weights& weights, size_t memory_budget, const Prompts& prompts,
                           const CalibrationOptions& options) {
  if (weights.link() != nullptr && weights.link()->first())
    weights.link()->announce({StageCall::Kind::kCalibrate, {}, &prompts, &options});
  return calibrate(weights, memory_budget, once(prompts), options);
}

}  // namespace eep
