// One layer over a block of rows (formats: Mixtral, Qwen2-MoE and Qwen3-MoE differ by the flags of
// ModelConfig alone).
#include "engine/layer_pass.h"

#include <algorithm>
#include <cmath>
#include <string>
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

}  // namespace

LayerPass::LayerPass(const Weights& weights, const Ops& ops, const Device& device, int64_t block_rows,
                     int32_t slots, int64_t positions)
    : weights_(weights), config_(weights.config()), ops_(ops), device_(device) {
  const int64_t hidden = config_.hidden_size, q_width = config_.num_heads * config_.head_dim;
  const int64_t width = std::max({slots * config_.expert_intermediate_size, config_.dense_intermediate_size,
                                  config_.shared_intermediate_size});
  const auto cut_all = [&](uint8_t* base) {
    Cutter cutter(base);
    normed_ = cutter.cut<float>(block_rows * hidden);
    q_ = cutter.cut<float>(block_rows * q_width);
    attended_ = cutter.cut<float>(block_rows * q_width);
    logits_ = cutter.cut<float>(block_rows * std::max<int64_t>(config_.num_experts, 1));
    weight_ = cutter.cut<float>(block_rows * slots);
    expert_ = cutter.cut<int32_t>(block_rows * slots);
    order_ = cutter.cut<int32_t>(block_rows * slots);
    slot_row_ = cutter.cut<int32_t>(block_rows * slots);
    activation_ = cutter.cut<float>(block_rows * width);
    slot_out_ = cutter.cut<float>(block_rows * slots * hidden);
    shared_out_ = cutter.cut<float>(block_rows * hidden);
    shared_gate_ = cutter.cut<float>(block_rows);
    return cutter.used();
  };
  storage_ = DeviceBuffer(ops_, device_, cut_all(nullptr));
  cut_all(storage_.as<uint8_t>());
  const RopeTable table = rope_table(positions, config_.head_dim, config_.rope_theta, config_.rope_scaling);
  const size_t bytes = table.cosine.size() * sizeof(float);
  cosine_ = DeviceBuffer(ops_, device_, bytes);
  sine_ = DeviceBuffer(ops_, device_, bytes);
  ops_.upload(cosine_.data(), table.cosine.data(), bytes, device_);
  ops_.upload(sine_.data(), table.sine.data(), bytes, device_);
  counts_ = DeviceBuffer(ops_, device_, sizeof(RouterCounts));
  ops_.clear(counts_.data(), sizeof(RouterCounts), device_);
  all_rows_ = DeviceBuffer(ops_, device_, 2 * sizeof(int32_t));
}

RouterCounts LayerPass::take_counts() {
  RouterCounts counts;
  ops_.download(&counts, counts_.data(), sizeof counts, device_);
  ops_.clear(counts_.data(), sizeof counts, device_);
  return counts;
}

const int32_t* LayerPass::offset_of_all(int64_t rows) {
  if (rows != offset_rows_) {
    const int32_t offset[2] = {0, static_cast<int32_t>(rows)};
    ops_.upload(all_rows_.data(), offset, sizeof offset, device_);
    offset_rows_ = rows;
  }
  return all_rows_.as<int32_t>();
}

void LayerPass::gemm(const PackedMatrix& w, const float* bias, const float* x, const int32_t* x_index,
                     int64_t rows, float* out, bool accumulate) {
  GemmArgs args;
  args.x = x;
  args.x_index = x_index;
  args.rows = rows;
  args.w = w;
  args.bias = bias;
  args.out = out;
  args.out_stride = w.n;
  args.accumulate = accumulate;
  ops_.gemm(args, device_);
}

void LayerPass::keys_values(int64_t layer, const float* residual, int64_t rows, const int32_t* position,
                            float* k, float* v) {
  const LayerWeights& weights = weights_.layer(layer);
  const int64_t heads = config_.num_kv_heads, head_dim = config_.head_dim;
  ops_.rmsnorm({residual, rows, config_.hidden_size, weights.input_norm, config_.rms_norm_eps, normed_},
               device_);
  gemm(weights.k, weights.k_bias, normed_, nullptr, rows, k);
  gemm(weights.v, weights.v_bias, normed_, nullptr, rows, v);
  if (weights.k_norm != nullptr) {
    ops_.rmsnorm({k, rows * heads, head_dim, weights.k_norm, config_.rms_norm_eps, k}, device_);
  }
  ops_.rope({k, rows, heads, head_dim, position, cosine_.as<float>(), sine_.as<float>()}, device_);
}

void LayerPass::attend(int64_t layer, const int32_t* wanted, int64_t rows, const int32_t* position,
                       std::span<const AttentionRun> runs, std::span<const KvSpan> spans, float* residual) {
  const LayerWeights& weights = weights_.layer(layer);
  const int64_t heads = config_.num_heads, head_dim = config_.head_dim;
  gemm(weights.q, weights.q_bias, normed_, wanted, rows, q_);
  if (weights.q_norm != nullptr) {
    ops_.rmsnorm({q_, rows * heads, head_dim, weights.q_norm, config_.rms_norm_eps, q_}, device_);
  }
  ops_.rope({q_, rows, heads, head_dim, position, cosine_.as<float>(), sine_.as<float>()}, device_);
  AttentionArgs args;
  args.q = q_;
  args.runs = runs.data();
  args.run_count = static_cast<int64_t>(runs.size());
  args.spans = spans.data();
  args.heads = heads;
  args.kv_heads = config_.num_kv_heads;
  args.head_dim = head_dim;
  args.window = config_.sliding_window;
  args.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  args.out = attended_;
  ops_.attention(args, device_);
  gemm(weights.o, nullptr, attended_, nullptr, rows, residual, /*accumulate=*/true);
}

void LayerPass::shared_expert(const LayerWeights& weights, int64_t rows) {
  ExpertFfnArgs args;
  args.x = normed_;
  args.offset = offset_of_all(rows);
  args.groups = 1;
  args.experts = &weights.shared;
  args.hidden = config_.hidden_size;
  args.intermediate = config_.shared_intermediate_size;
  args.activation = activation_;
  args.out = shared_out_;
  ops_.expert_ffn(args, device_);
  gemm(weights.shared_gate, nullptr, normed_, nullptr, rows, shared_gate_);
}

void LayerPass::mixture(int64_t layer, const MixtureBlock& block, MergeBuffer& merged,
                        MixtureObserver* observer) {
  const LayerWeights& weights = weights_.layer(layer);
  const int64_t hidden = config_.hidden_size;
  const int32_t experts = static_cast<int32_t>(config_.num_experts);

  // Groups of the dispatch: the base experts, shared by every candidate, then the merged rows of this block,
  // each once.
  std::vector<ExpertMatrices> groups = weights.experts;
  std::vector<const float*> merged_rows;
  std::unordered_map<std::string, int32_t> group_of_row;
  int32_t stride = 1, slots = 1;
  for (const LayerVariant* variant : block.variants) {
    stride = std::max(stride, variant->map.kept);
    slots = std::max(slots, variant->map.top_k);
  }
  std::vector<int32_t> group_of(block.variants.size() * static_cast<size_t>(stride), -1);
  std::vector<RouterMap> maps;
  for (size_t index = 0; index < block.variants.size(); ++index) {
    const LayerVariant& variant = *block.variants[index];
    maps.push_back(variant.map);
    for (int32_t row = 0; row < variant.map.kept; ++row) {
      int32_t group = variant.base_expert[static_cast<size_t>(row)];
      if (group < 0) {
        const float* coefficients = variant.merging + static_cast<int64_t>(row) * experts;
        const std::string key(reinterpret_cast<const char*>(coefficients),
                              static_cast<size_t>(experts) * sizeof(float));
        const auto [entry, inserted] =
            group_of_row.try_emplace(key, experts + static_cast<int32_t>(merged_rows.size()));
        if (inserted) merged_rows.push_back(coefficients);
        group = entry->second;
      }
      group_of[index * static_cast<size_t>(stride) + static_cast<size_t>(row)] = group;
    }
  }
  if (!merged_rows.empty()) {
    const std::vector<ExpertMatrices> fresh = merged.merge(layer, merged_rows);
    groups.insert(groups.end(), fresh.begin(), fresh.end());
  }

  ops_.rmsnorm({block.residual, block.rows, hidden, weights.post_norm, config_.rms_norm_eps, normed_},
               device_);

  RouterArgs router;
  router.x = normed_;
  router.rows = block.rows;
  router.gate = weights.router;
  router.maps = maps.data();
  router.map_of_row = block.variant_of_row;
  router.slots = slots;
  router.renormalise = config_.norm_topk_prob;
  router.expert = expert_;
  router.weight = weight_;
  router.logits = logits_;
  router.counts = counts_.as<RouterCounts>();
  ops_.router(router, device_);

  offset_.reserve(ops_, device_, (groups.size() + 1) * sizeof(int32_t));
  DispatchArgs dispatch;
  dispatch.expert = expert_;
  dispatch.rows = block.rows;
  dispatch.slots = slots;
  dispatch.map_of_row = block.variant_of_row;
  dispatch.group_of = group_of.data();
  dispatch.group_stride = stride;
  dispatch.groups = static_cast<int32_t>(groups.size());
  dispatch.offset = offset_.as<int32_t>();
  dispatch.order = order_;
  if (block.source_row != nullptr) {
    first_slot_.reserve(ops_, device_, static_cast<size_t>(block.sources) * groups.size() * sizeof(int32_t));
    dispatch.source_row = block.source_row;
    dispatch.sources = block.sources;
    dispatch.slot_row = slot_row_;
    dispatch.first_slot = first_slot_.as<int32_t>();
  }
  ops_.dispatch(dispatch, device_);

  ExpertFfnArgs ffn;
  ffn.x = normed_;
  ffn.slots = slots;
  ffn.order = order_;
  ffn.offset = offset_.as<int32_t>();
  ffn.groups = static_cast<int32_t>(groups.size());
  ffn.experts = groups.data();
  ffn.hidden = hidden;
  ffn.intermediate = config_.expert_intermediate_size;
  ffn.activation = activation_;
  ffn.out = slot_out_;
  ops_.expert_ffn(ffn, device_);

  if (observer != nullptr) {
    observer->observe({layer, block.rows, normed_, logits_, expert_, weight_, slot_out_, slots});
  }

  CombineArgs combine;
  combine.slot_out = slot_out_;
  combine.weight = weight_;
  combine.expert = expert_;
  combine.slot_row = block.source_row != nullptr ? slot_row_ : nullptr;
  combine.rows = block.rows;
  combine.slots = slots;
  combine.hidden = hidden;
  if (weights.shared.gate) {
    shared_expert(weights, block.rows);
    combine.shared_out = shared_out_;
    combine.shared_gate = shared_gate_;
  }
  combine.residual = block.residual;
  ops_.combine(combine, device_);
}

void LayerPass::dense(int64_t layer, float* residual, int64_t rows) {
  const LayerWeights& weights = weights_.layer(layer);
  ops_.rmsnorm({residual, rows, config_.hidden_size, weights.post_norm, config_.rms_norm_eps, normed_},
               device_);
  ExpertFfnArgs args;
  args.x = normed_;
  args.offset = offset_of_all(rows);
  args.groups = 1;
  args.experts = &weights.dense;
  args.hidden = config_.hidden_size;
  args.intermediate = config_.dense_intermediate_size;
  args.activation = activation_;
  args.out = shared_out_;
  ops_.expert_ffn(args, device_);
  CombineArgs combine;  // no slots: the dense output is the whole term
  combine.rows = rows;
  combine.hidden = config_.hidden_size;
  combine.shared_out = shared_out_;
  combine.residual = residual;
  ops_.combine(combine, device_);
}

void LayerPass::score(const float* residual, int64_t rows, std::span<const int32_t> row_of_score,
                      std::span<const int32_t> target, TokenScore* out) {
  ops_.rmsnorm({residual, rows, config_.hidden_size, weights_.final_norm(), config_.rms_norm_eps, normed_},
               device_);
  ScoreArgs args;
  args.x = normed_;
  args.x_index = row_of_score.data();
  args.target = target.data();
  args.count = static_cast<int64_t>(row_of_score.size());
  args.vocabulary = weights_.vocabulary();
  const size_t bytes = row_of_score.size() * sizeof(TokenScore);
  results_.reserve(ops_, device_, bytes);
  args.out = results_.as<TokenScore>();
  ops_.score(args, device_);
  ops_.download(out, results_.data(), bytes, device_);
}

void LayerPass::logits(const float* residual, int64_t rows, float* out) {
  ops_.rmsnorm({residual, rows, config_.hidden_size, weights_.final_norm(), config_.rms_norm_eps, normed_},
               device_);
  const size_t bytes = static_cast<size_t>(rows * weights_.vocabulary().n) * sizeof(float);
  results_.reserve(ops_, device_, bytes);
  gemm(weights_.vocabulary(), nullptr, normed_, nullptr, rows, results_.as<float>());
  ops_.download(out, results_.data(), bytes, device_);
}

}  // namespace eep
