// One layer over a block of rows; families differ by the flags of ModelConfig alone.
#include "engine/layer_pass.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace eep {
namespace {

class Cutter {
 public:
  explicit Cutter(uint8_t* base) : base_(base) {}
  template <typename T>
  T* cut(int64_t count) {
    T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (static_cast<size_t>(count) * sizeof(T) + Buffer::kAlignment - 1) / Buffer::kAlignment *
             Buffer::kAlignment;
    return piece;
  }
  size_t used() const { return used_; }

 private:
  uint8_t* base_;
  size_t used_ = 0;
};

// With a null base only the size counts.
size_t cut_scratch(const ModelConfig& config, const LayerLimits& limits, uint8_t* base, LayerScratch* at) {
  const int64_t rows = limits.block_rows, slots = limits.slots, hidden = config.hidden_size;
  const int64_t q_width = config.num_heads * config.head_dim;
  const size_t activation_bytes =
      std::max({expert_ffn_scratch_bytes(rows * slots, config.expert_intermediate_size),
                expert_ffn_scratch_bytes(rows, config.dense_intermediate_size),
                expert_ffn_scratch_bytes(rows, config.shared_intermediate_size)});
  Cutter cutter(base);
  at->normed = cutter.cut<float>(rows * hidden);
  if (limits.rows_16bit)
    at->rounded = cutter.cut<uint16_t>(rows * row_stride_16bit(std::max(hidden, q_width)));
  at->q = cutter.cut<float>(rows * q_width);
  at->attended = cutter.cut<float>(rows * q_width);
  at->router_logits = cutter.cut<float>(rows * std::max<int64_t>(config.num_experts, 1));
  at->weight = cutter.cut<float>(rows * slots);
  at->expert = cutter.cut<int32_t>(rows * slots);
  at->order = cutter.cut<int32_t>(rows * slots);
  at->slot_row = cutter.cut<int32_t>(rows * slots);
  at->activation = cutter.cut<float>(static_cast<int64_t>(activation_bytes + 3) / 4);
  at->slot_out = cutter.cut<float>(rows * slots * hidden);
  at->shared_out = cutter.cut<float>(rows * hidden);
  at->shared_gate = cutter.cut<float>(rows);
  at->cosine = cutter.cut<float>(limits.positions * (config.rotary() / 2));
  at->sine = cutter.cut<float>(limits.positions * (config.rotary() / 2));
  at->offset = cutter.cut<int32_t>(limits.groups + 1);
  at->first_slot = cutter.cut<int32_t>(limits.first_slots);
  at->all_rows = cutter.cut<int32_t>(2);
  at->counts = cutter.cut<RouterCounts>(1);
  at->scores = cutter.cut<TokenScore>(rows);
  return cutter.used();
}

// The base experts, shared by every candidate, then the merged rows of a block, each once.
struct DispatchGroups {
  std::vector<ExpertMatrices> experts;  // [groups]
  std::vector<int32_t> group_of;        // [variants, stride] of each kept row, -1 beyond them
  std::vector<RouterMap> maps;          // [variants]
  int32_t stride, slots;                // the most kept rows, the most active ones
};

DispatchGroups dispatch_groups(const LayerWeights& weights, int64_t layer, const MixtureBlock& block,
                               int32_t experts, MergeBuffer& merged) {
  DispatchGroups all{weights.experts, {}, {}, 1, 1};
  auto& [groups, group_of, maps, stride, slots] = all;
  std::vector<MergedRow> merged_rows;
  std::unordered_map<int32_t, int32_t> group_of_id;
  for (const LayerVariant* variant : block.variants) {
    stride = std::max(stride, variant->map.kept);
    slots = std::max(slots, variant->map.top_k);
  }
  group_of.assign(block.variants.size() * static_cast<size_t>(stride), -1);
  for (size_t index = 0; index < block.variants.size(); ++index) {
    const LayerVariant& variant = *block.variants[index];
    maps.push_back(variant.map);
    for (int32_t row = 0; row < variant.map.kept; ++row) {
      int32_t group = variant.base_expert[static_cast<size_t>(row)];
      if (group < 0) {
        const int32_t id = variant.merged_id[static_cast<size_t>(row)];
        const auto [entry, inserted] =
            group_of_id.try_emplace(id, experts + static_cast<int32_t>(merged_rows.size()));
        if (inserted) merged_rows.push_back({id, variant.merging + int64_t{row} * experts});
        group = entry->second;
      }
      group_of[index * static_cast<size_t>(stride) + static_cast<size_t>(row)] = group;
    }
  }
  if (!merged_rows.empty()) {
    const std::vector<ExpertMatrices> fresh = merged.merge(layer, merged_rows);
    groups.insert(groups.end(), fresh.begin(), fresh.end());
  }
  return all;
}

}  // namespace

size_t layer_scratch_bytes(const ModelConfig& config, const LayerLimits& limits) {
  LayerScratch unused;
  return cut_scratch(config, limits, nullptr, &unused);
}

size_t logits_bytes(const ModelConfig& config) {
  return static_cast<size_t>(kLogitRows * config.vocab_size) * sizeof(float);
}

LayerPass::LayerPass(const Weights& weights, const LayerLimits& limits)
    : weights_(weights),
      config_(weights.config()),
      ops_(weights.ops()),
      device_(weights.device()),
      limits_(limits) {
  storage_ = DeviceBuffer(weights.backend(), layer_scratch_bytes(config_, limits_));
  cut_scratch(config_, limits_, storage_.as<uint8_t>(), &at_);
  const RopeTable table =
      rope_table(limits.positions, config_.rotary(), config_.rope_theta, config_.rope_scaling);
  ops_.upload(at_.cosine, table.cosine.data(), table.cosine.size() * sizeof(float), device_);
  ops_.upload(at_.sine, table.sine.data(), table.sine.size() * sizeof(float), device_);
  ops_.clear(at_.counts, sizeof(RouterCounts), device_);
}

RouterCounts LayerPass::take_counts() {
  RouterCounts counts;
  ops_.download(&counts, at_.counts, sizeof counts, device_);
  ops_.clear(at_.counts, sizeof counts, device_);
  return counts;
}

const int32_t* LayerPass::offset_of_all(int64_t rows) {
  if (rows != offset_rows_) {
    const int32_t offset[2] = {0, static_cast<int32_t>(rows)};
    ops_.upload(at_.all_rows, offset, sizeof offset, device_);
    offset_rows_ = rows;
  }
  return at_.all_rows;
}

void LayerPass::round(int64_t layer, const float* x, int64_t rows, int64_t width) {
  if (!limits_.rows_16bit) return;
  rounded_from_ = x;
  rounded_dtype_ = weights_.layer(layer).q.dtype;
  ops_.round_rows({x, rows, width, rounded_dtype_, at_.rounded}, device_);
}

void LayerPass::normalise(int64_t layer, const float* residual, int64_t rows, const float* weight,
                          bool in_f32) {
  RmsNormArgs args{residual, rows, config_.hidden_size, weight, config_.rms_norm_eps, at_.normed};
  if (limits_.rows_16bit) {
    rounded_from_ = at_.normed;
    args.dtype16 = rounded_dtype_ = weights_.layer(layer).q.dtype;
    args.out16 = at_.rounded;
    if (!in_f32) args.out = nullptr;
  }
  ops_.rmsnorm(args, device_);
}

const uint16_t* LayerPass::rounded(const float* x, DType dtype) const {
  return limits_.rows_16bit && x == rounded_from_ && dtype == rounded_dtype_ ? at_.rounded : nullptr;
}

void LayerPass::gemm(const PackedMatrix& w, const float* bias, const float* x, const int32_t* x_index,
                     int64_t rows, float* out, bool accumulate) {
  GemmArgs args;
  args.x = x;
  args.x16 = rounded(x, w.dtype);
  args.x_index = x_index;
  args.rows = rows;
  args.w = w;
  args.bias = bias;
  args.out = out;
  args.out_stride = w.n;
  args.accumulate = accumulate;
  ops_.gemm(args, device_);
}

void LayerPass::rotate(float* x, int64_t rows, int64_t heads, const int32_t* position, const float* norm) {
  const int64_t width = heads * config_.head_dim;
  if (config_.qk_norm == QkNorm::kWhole) {
    ops_.rmsnorm({x, rows, width, norm, config_.rms_norm_eps, x}, device_);
    norm = nullptr;
  }
  clip(x, rows * width);
  ops_.rope({x, rows, heads, config_.head_dim, position, at_.cosine, at_.sine, norm, config_.rms_norm_eps,
             config_.rotary()},
            device_);
}

void LayerPass::clip(float* x, int64_t count) {
  if (config_.clip_qkv > 0) ops_.clamp({x, count, config_.clip_qkv}, device_);
}

void LayerPass::keys_values(int64_t layer, const float* residual, int64_t rows, const int32_t* position,
                            float* k, float* v) {
  const LayerWeights& weights = weights_.layer(layer);
  const int64_t heads = config_.num_kv_heads, head_dim = config_.head_dim;
  const bool one_dtype = weights.q.dtype == weights.k.dtype && weights.q.dtype == weights.v.dtype;
  normalise(layer, residual, rows, weights.input_norm, /*in_f32=*/taps_ != nullptr || !one_dtype);
  gemm(weights.k, weights.k_bias, at_.normed, nullptr, rows, k);
  gemm(weights.v, weights.v_bias, at_.normed, nullptr, rows, v);
  rotate(k, rows, heads, position, weights.k_norm);
  clip(v, rows * heads * head_dim);
  tap("attention.input", layer, at_.normed, rows, config_.hidden_size);
  tap("attention.keys", layer, k, rows, heads * head_dim);
  tap("attention.values", layer, v, rows, heads * head_dim);
}

void LayerPass::attend(int64_t layer, const int32_t* wanted, int64_t rows, const int32_t* position,
                       std::span<const AttentionRun> runs, std::span<const KvSpan> spans, float* residual) {
  const LayerWeights& weights = weights_.layer(layer);
  const int64_t heads = config_.num_heads, head_dim = config_.head_dim;
  gemm(weights.q, weights.q_bias, at_.normed, wanted, rows, at_.q);
  rotate(at_.q, rows, heads, position, weights.q_norm);
  AttentionArgs args;
  args.q = at_.q;
  args.runs = runs.data();
  args.run_count = static_cast<int64_t>(runs.size());
  args.spans = spans.data();
  args.heads = heads;
  args.kv_heads = config_.num_kv_heads;
  args.head_dim = head_dim;
  args.window = config_.window_of(layer);
  args.sinks = weights.sinks;
  args.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  args.out = at_.attended;
  ops_.attention(args, device_);
  round(layer, at_.attended, rows, heads * head_dim);
  tap("attention.queries", layer, at_.q, rows, heads * head_dim);
  tap("attention.output", layer, at_.attended, rows, heads * head_dim);
  gemm(weights.o, weights.o_bias, at_.attended, nullptr, rows, residual, /*accumulate=*/true);
  tap("attention.residual", layer, residual, rows, config_.hidden_size);
}

void LayerPass::shared_expert(const LayerWeights& weights, int64_t rows) {
  ExpertFfnArgs args;
  args.x = at_.normed;
  args.x16 = rounded(at_.normed, weights.shared.gate.dtype);
  args.offset = offset_of_all(rows);
  args.groups = 1;
  args.experts = &weights.shared;
  args.hidden = config_.hidden_size;
  args.intermediate = config_.shared_intermediate_size;
  args.activation = at_.activation;
  args.out = at_.shared_out;
  ops_.expert_ffn(args, device_);
  if (config_.shared_gated) gemm(weights.shared_gate, nullptr, at_.normed, nullptr, rows, at_.shared_gate);
}

// Of the normed rows: experts, weights and logits.
void LayerPass::route(int64_t layer, const MixtureBlock& block, std::span<const RouterMap> maps,
                      int32_t slots) {
  const LayerWeights& weights = weights_.layer(layer);
  RouterArgs router;
  router.x = at_.normed;
  router.rows = block.rows;
  router.gate = weights.router;
  router.maps = maps.data();
  router.map_of_row = block.variant_of_row;
  router.slots = slots;
  router.renormalise = config_.norm_topk_prob;
  router.hf_rounding = config_.parity != Parity::kNone;
  router.score = config_.router_score;
  const bool in_choice = config_.router_score == RouterScore::kSigmoid;  // else in the logits
  (in_choice ? router.selection_bias : router.bias) = weights.router_bias;
  router.scale = config_.router_scale;
  router.groups = static_cast<int32_t>(config_.router_groups);
  router.top_groups = static_cast<int32_t>(config_.router_top_groups);
  router.expert = at_.expert;
  router.weight = at_.weight;
  router.logits = at_.router_logits;
  router.counts = at_.counts;
  ops_.router(router, device_);
  tap("router.input", layer, at_.normed, block.rows, config_.hidden_size);
  tap("router.logits", layer, at_.router_logits, block.rows, config_.num_experts);
  tap("router.expert", layer, at_.expert, block.rows, slots);
  tap("router.weight", layer, at_.weight, block.rows, slots);
}

void LayerPass::mixture(int64_t layer, const MixtureBlock& block, MergeBuffer& merged,
                        MixtureObserver* observer) {
  const LayerWeights& weights = weights_.layer(layer);
  const int64_t hidden = config_.hidden_size;
  const int32_t experts = static_cast<int32_t>(config_.num_experts);

  const DispatchGroups all = dispatch_groups(weights, layer, block, experts, merged);
  const std::vector<ExpertMatrices>& groups = all.experts;
  const std::vector<int32_t>& group_of = all.group_of;
  const int32_t stride = all.stride, slots = all.slots;

  std::vector<uint8_t> reachable(groups.size(), 0);
  for (int32_t group : group_of) {
    if (group >= 0) reachable[static_cast<size_t>(group)] = 1;
  }
  expert_bytes_ += std::count(reachable.begin(), reachable.end(), 1) *
                   static_cast<int64_t>(MergeBuffer::slot_bytes(config_, ops_));

  normalise(layer, block.residual, block.rows, weights.post_norm, /*in_f32=*/true);

  route(layer, block, all.maps, slots);

  DispatchArgs dispatch;
  dispatch.expert = at_.expert;
  dispatch.rows = block.rows;
  dispatch.slots = slots;
  dispatch.map_of_row = block.variant_of_row;
  dispatch.group_of = group_of.data();
  dispatch.group_stride = stride;
  dispatch.groups = static_cast<int32_t>(groups.size());
  dispatch.offset = at_.offset;
  dispatch.order = at_.order;
  if (block.source_row != nullptr) {
    dispatch.source_row = block.source_row;
    dispatch.sources = block.sources;
    dispatch.slot_row = at_.slot_row;
    dispatch.first_slot = at_.first_slot;
  }
  ops_.dispatch(dispatch, device_);

  ExpertFfnArgs ffn;
  ffn.x = at_.normed;
  ffn.x16 = rounded(at_.normed, groups[0].gate.dtype);
  ffn.slots = slots;
  ffn.order = at_.order;
  ffn.offset = at_.offset;
  ffn.groups = static_cast<int32_t>(groups.size());
  ffn.experts = groups.data();
  ffn.hidden = hidden;
  ffn.intermediate = config_.expert_intermediate_size;
  ffn.limit = config_.expert_limit;
  ffn.alpha = config_.expert_alpha;
  ffn.activation = at_.activation;
  ffn.out = at_.slot_out;
  ops_.expert_ffn(ffn, device_);

  if (observer != nullptr) {
    observer->observe({layer, block.rows, at_.normed, at_.router_logits, at_.expert, at_.weight, at_.slot_out,
                       slots, block.residual});
  }

  CombineArgs combine;
  combine.slot_out = at_.slot_out;
  combine.weight = at_.weight;
  combine.expert = at_.expert;
  combine.slot_row = block.source_row != nullptr ? at_.slot_row : nullptr;
  combine.rows = block.rows;
  combine.slots = slots;
  combine.hidden = hidden;
  if (weights.shared.gate) {
    shared_expert(weights, block.rows);
    combine.shared_out = at_.shared_out;
    if (config_.shared_gated) combine.shared_gate = at_.shared_gate;
  }
  combine.residual = block.residual;
  ops_.combine(combine, device_);
  tap("mixture.residual", layer, block.residual, block.rows, hidden);
}

void LayerPass::dense(int64_t layer, float* residual, int64_t rows) {
  const LayerWeights& weights = weights_.layer(layer);
  normalise(layer, residual, rows, weights.post_norm, /*in_f32=*/true);
  ExpertFfnArgs args;
  args.x = at_.normed;
  args.x16 = rounded(at_.normed, weights.dense.gate.dtype);
  args.offset = offset_of_all(rows);
  args.groups = 1;
  args.experts = &weights.dense;
  args.hidden = config_.hidden_size;
  args.intermediate = config_.dense_intermediate_size;
  args.activation = at_.activation;
  args.out = at_.shared_out;
  ops_.expert_ffn(args, device_);
  CombineArgs combine;  // no slots: the dense output is the whole term
  combine.rows = rows;
  combine.hidden = config_.hidden_size;
  combine.shared_out = at_.shared_out;
  combine.residual = residual;
  ops_.combine(combine, device_);
  tap("dense.residual", layer, residual, rows, config_.hidden_size);
}

// The final norm's rows are rounded where the CPU's score reads them so. A GPU's score reads f32, and so do
// the full logits.
void LayerPass::score(const float* residual, std::span<const int32_t> row_of_score,
                      std::span<const int32_t> target, TokenScore* out) {
  rounded_from_ = nullptr;
  ScoreArgs args;
  args.x = at_.normed;
  args.vocabulary = weights_.vocabulary();
  args.out = at_.scores;
  std::vector<int32_t> index;
  for (size_t begin = 0; begin < row_of_score.size();) {
    // As many scores and rows as fit.
    const int32_t first = row_of_score[begin];
    index.clear();
    size_t end = begin;
    for (; end < row_of_score.size() && end - begin < static_cast<size_t>(limits_.block_rows); ++end) {
      if (row_of_score[end] - first >= limits_.block_rows) break;
      index.push_back(row_of_score[end] - first);
    }
    RmsNormArgs norm{residual + first * config_.hidden_size,
                     index.back() + 1,
                     config_.hidden_size,
                     weights_.final_norm(),
                     config_.rms_norm_eps,
                     at_.normed};
    if (ops_.host_memory && limits_.rows_16bit) {
      args.x16 = norm.out16 = at_.rounded;
      norm.dtype16 = args.vocabulary.dtype;
    }
    ops_.rmsnorm(norm, device_);
    args.x_index = index.data();
    args.target = target.data() + begin;
    args.count = static_cast<int64_t>(end - begin);
    ops_.score(args, device_);
    ops_.download(out + begin, at_.scores, (end - begin) * sizeof(TokenScore), device_);
    begin = end;
  }
}

void LayerPass::logits(const float* residual, int64_t rows, float* out) {
  logits_.reserve(weights_.backend(), logits_bytes(config_));
  rounded_from_ = nullptr;
  ops_.rmsnorm({residual, rows, config_.hidden_size, weights_.final_norm(), config_.rms_norm_eps, at_.normed},
               device_);
  tap("final.norm", -1, at_.normed, rows, config_.hidden_size);
  for (int64_t begin = 0; begin < rows; begin += kLogitRows) {
    const int64_t count = std::min(rows - begin, kLogitRows);
    gemm(weights_.vocabulary(), nullptr, at_.normed + begin * config_.hidden_size, nullptr, count,
         logits_.as<float>());
    tap("logits", -1, logits_.as<float>(), count, config_.vocab_size);
    ops_.download(out + begin * config_.vocab_size, logits_.data(),
                  static_cast<size_t>(count * config_.vocab_size) * sizeof(float), device_);
  }
}

}  // namespace eep
