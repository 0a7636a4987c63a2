// Sizes from the config and the request; the chunk, the block and the merge buffer shrink until they fit.
#include "engine/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/merge_buffer.h"
#include "engine/weights.h"
#include "kernels/common/error.h"
#include "kernels/gpu/tile_schedule.h"

namespace eep {
namespace {

// Merged experts that a block typically holds: the width of the table in which equal slots are found.
constexpr int64_t kMergedPerBlock = 64;

// Bytes that a GPU's memory moves in the time in which the link to the host moves one (H100: 3 TB/s, 50
// GB/s).
constexpr double kLinkBytes = 60;

int64_t sparse_layers(const ModelConfig& config, const MemoryRequest& request) {
  return request.sparse_layers > 0 ? request.sparse_layers : config.sparse_layers();
}

class Planner {
 public:
  Planner(const ModelConfig& config, const Ops& ops, const MemoryRequest& request)
      : config_(config), ops_(ops), request_(request) {
    block_ = ops.block_rows(config.num_experts, config.top_k);
    if (request.most_block_rows > 0) block_ = std::min(block_, request.most_block_rows);
    smallest_chunk_ = std::max<int64_t>(request.largest_tree, 1);
    merged_expert_ = MergeBuffer::slot_bytes(config, ops);
    plan_.device = ops.name;
    plan_.budget = request.budget;
    plan_.layers = request.weights;
    plan_.weights = request.weights.device_bytes();
    plan_.beside = request.beside;
  }

  // Where layers pass through the device again with every chunk, chunks are as large as can be.
  bool find() {
    return ops_.host_memory && request_.weights.streamed_layers() == 0 ? find_for_caches()
                                                                       : find_least_traffic();
  }
  // The smallest plan, whether it fits or not.
  void least() { fill(smallest_chunk_, 1, smallest_chunk_, request_.dense_experts); }
  const MemoryPlan& plan() const { return plan_; }

 private:
  // Makes a plan of these numbers; whether it fits.
  bool fill(int64_t chunk, int64_t candidates, int64_t block, int64_t merged) {
    if (request_.merged_slots > 0) merged = request_.merged_slots;
    // The residual stream before and after a split; keys and values of a block's rows.
    const size_t row_residual = 2 * static_cast<size_t>(config_.hidden_size) * sizeof(float);
    const size_t row_keys = 2 * static_cast<size_t>(config_.num_kv_heads * config_.head_dim) * sizeof(float);
    plan_.chunk_rows = chunk;
    plan_.candidates = static_cast<int32_t>(candidates);
    plan_.block_rows = std::max(chunk, std::min(block, chunk * candidates));
    plan_.merged_experts = merged;
    plan_.merged_at_once =
        request_.dense_experts == 0
            ? 0
            : static_cast<int32_t>(std::clamp<int64_t>(merged / request_.dense_experts, 1, candidates));
    plan_.limits = {plan_.block_rows, request_.slots, request_.positions, config_.num_experts + merged,
                    request_.candidates > 1 ? plan_.block_rows * (config_.num_experts + kMergedPerBlock) : 0};
    plan_.limits.rows_16bit = ops_.round_rows != nullptr;
    plan_.activations = row_residual * static_cast<size_t>(chunk) * static_cast<size_t>(candidates);
    plan_.scratch = row_keys * static_cast<size_t>(plan_.block_rows) + logits_bytes(config_) +
                    layer_scratch_bytes(config_, plan_.limits);
    plan_.merge_buffer = merged_expert_ * static_cast<size_t>(merged);
    return request_.budget == 0 || plan_.total() <= request_.budget;
  }

  // Slots of merged experts for which the plan just filled leaves room, beside its own.
  int64_t more_merged() const {
    const size_t left = request_.budget - plan_.total();
    const size_t group = sizeof(int32_t);  // of the table that grows by one for each, in whole lines
    const size_t usable = left > Buffer::kAlignment ? left - Buffer::kAlignment : 0;
    return static_cast<int64_t>(usable / (merged_expert_ + group));
  }

  // Merged experts of all layers of so many candidates.
  int64_t every_merged(int64_t candidates) const {
    return int64_t{request_.dense_experts} * sparse_layers(config_, request_) * candidates;
  }

  // What is left keeps merged experts for the next chunk.
  void keep_merged(int64_t chunk, int64_t candidates) {
    if (request_.dense_experts == 0) return;
    const int64_t every = every_merged(request_.candidates);
    const int64_t room = request_.budget == 0 ? every : request_.dense_experts + more_merged();
    fill(chunk, candidates, block_, std::min(every, room));
  }

  bool find_for_caches() {
    // A block holds several streams of a population, so that streams that part in a layer still share its
    // experts' work.
    const int64_t streams_per_block = std::clamp<int64_t>(request_.candidates, 1, 8);
    const int64_t wanted_chunk =
        std::max(smallest_chunk_, std::min(request_.rows, block_ / streams_per_block));
    // Most valuable first: keep the population together, keep merged experts between chunks, then give up the
    // merged ones, then shrink the chunk, then the population.
    if (fill(wanted_chunk, request_.candidates, block_, every_merged(request_.candidates))) return true;
    for (int64_t chunk : {wanted_chunk, smallest_chunk_}) {
      for (int64_t candidates = request_.candidates; candidates >= 1;
           candidates = candidates == 1 ? 0 : (candidates + 1) / 2) {
        if (!fill(chunk, candidates, block_, request_.dense_experts)) continue;
        keep_merged(chunk, candidates);
        return true;
      }
    }
    return false;
  }

  double cost() const {
    const WeightTraffic traffic = weight_traffic(config_, ops_, request_, plan_);
    return static_cast<double>(traffic.merging + traffic.experts) +
           kLinkBytes * static_cast<double>(traffic.copied);
  }

  // Of equally good plans the one with the most candidates together, which share what they agree on, then
  // with the largest block.
  bool find_least_traffic() {
    double least = -1;
    MemoryPlan best;
    const auto keep_better = [&](int64_t chunk, int64_t candidates, int64_t block, int64_t merged) {
      if (!fill(chunk, candidates, block, merged)) return;
      const double bytes = cost();
      if (least >= 0 && bytes >= least) return;
      least = bytes;
      best = plan_;
    };
    for_halves(request_.candidates, 1, [&](int64_t candidates) {
      for_halves(std::max(block_, smallest_chunk_), smallest_chunk_, [&](int64_t block) {
        for_halves(
            std::min(std::max(request_.rows, smallest_chunk_), block), smallest_chunk_, [&](int64_t chunk) {
              if (!fill(chunk, candidates, block, request_.dense_experts)) return;
              const int64_t room =
                  request_.budget == 0 ? every_merged(candidates) : request_.dense_experts + more_merged();
              // all layers' for the next chunk, else one layer's
              if (room >= every_merged(candidates) && chunk < request_.rows)
                return keep_better(chunk, candidates, block, every_merged(candidates));
              keep_better(chunk, candidates, block,
                          std::min(room, int64_t{request_.dense_experts} * candidates));
            });
      });
    });
    if (least >= 0) plan_ = best;
    return least >= 0;
  }

  // most, its half, ... and last the least.
  template <typename Body>
  static void for_halves(int64_t most, int64_t least, const Body& body) {
    for (int64_t value = most; value > least; value = (value + 1) / 2) body(value);
    body(least);
  }

  const ModelConfig& config_;
  const Ops& ops_;
  const MemoryRequest& request_;
  MemoryPlan plan_;
  int64_t block_, smallest_chunk_;
  size_t merged_expert_;
};

}  // namespace

MemoryRequest request_for(const Weights& weights, size_t budget) {
  MemoryRequest request;
  request.budget = budget;
  request.weights = weights.plan();
  const StageLink* const link = weights.link();
  if (link == nullptr) return request;
  request.budget = link->least_room();
  request.weights = {};
  for (const LayerRange& layers : link->layers()) {
    const auto begin = weights.config().sparse.begin();
    request.sparse_layers = std::max<int64_t>(
        request.sparse_layers, std::count(begin + layers.begin, begin + layers.end, uint8_t{1}));
  }
  return request;
}

WeightTraffic weight_traffic(const ModelConfig& config, const Ops& ops, const MemoryRequest& request,
                             const MemoryPlan& plan) {
  const int64_t expert = static_cast<int64_t>(MergeBuffer::slot_bytes(config, ops));
  const int64_t base = expert * config.num_experts, layers = sparse_layers(config, request);
  const int64_t dense = request.dense_experts, together = plan.candidates;
  const int64_t chunks = ceil_div(request.rows, plan.chunk_rows);
  const int64_t batches = ceil_div(int64_t{request.candidates}, together);
  const int64_t blocks = ceil_div(together, std::max<int64_t>(1, plan.block_rows / plan.chunk_rows));
  WeightTraffic traffic;
  traffic.experts = layers * chunks * (batches * blocks * base + request.candidates * dense * expert);
  traffic.copied = batches * chunks * static_cast<int64_t>(request.weights.host);
  if (dense > 0) {
    const bool kept = plan.merged_experts >= dense * layers * together;
    const int64_t reads = batches * ceil_div(together, int64_t{plan.merged_at_once});
    traffic.merging = layers * (kept ? 1 : chunks) * (reads * base + request.candidates * dense * expert);
  }
  return traffic;
}

std::optional<MemoryPlan> fitting_plan(const ModelConfig& config, const Ops& ops,
                                       const MemoryRequest& request) {
  Planner planner(config, ops, request);
  return planner.find() ? std::optional(planner.plan()) : std::nullopt;
}

MemoryPlan plan_memory(const ModelConfig& config, const Ops& ops, const MemoryRequest& request) {
  if (std::optional<MemoryPlan> plan = fitting_plan(config, ops, request)) return *plan;
  Planner planner(config, ops, request);
  planner.least();
  const MemoryPlan& plan = planner.plan();
  throw Error(
      ExitCode::kRuntime, "memory",
      fmt::format(
          "the budget is too small (expected at least {} bytes: {} weights, {} activations, {} scratch, "
          "{} merged experts; got {})",
          plan.total(), plan.weights, plan.activations, plan.scratch + plan.beside, plan.merge_buffer,
          request.budget),
      "raise --memory");
}

MemoryPlan plan_memory(const Weights& weights, MemoryRequest request) {
  const ModelConfig& config = weights.config();
  const Ops& ops = weights.ops();
  if (std::optional<MemoryPlan> plan = fitting_plan(config, ops, request)) return *plan;
  if (weights.link() != nullptr) return plan_memory(config, ops, request);  // refuses
  Planner planner(config, ops, request);
  planner.least();
  if (weights.make_room(request.budget, planner.plan().total() - planner.plan().weights)) {
    request.weights = weights.plan();
  } else {  // the least that would do
    const WeightPlan streamed = stream_every_layer(config, ops, weights.layers());
    if (streamed.device_bytes() < request.weights.device_bytes()) request.weights = streamed;
  }
  return plan_memory(config, ops, request);
}

std::string describe(const MemoryPlan& plan) {
  const auto megabytes = [](size_t bytes) { return static_cast<double>(bytes) / 1e6; };
  const int64_t streamed = plan.layers.streamed_layers();
  return fmt::format(
      "memory ({}): {:.1f} MB{} = weights {:.1f}{} + activations {:.1f} ({} candidates x {} rows) + scratch "
      "{:.1f} (blocks of {} rows) + merged experts {:.1f} ({}{})",
      plan.device, megabytes(plan.total()),
      plan.budget == 0 ? "" : fmt::format(" of {:.1f}", megabytes(plan.budget)), megabytes(plan.weights),
      streamed == 0 ? ""
                    : fmt::format(" ({} of {} layers streamed from {:.1f} MB of host memory)", streamed,
                                  plan.layers.streamed.size(), megabytes(plan.layers.host)),
      megabytes(plan.activations), plan.candidates, plan.chunk_rows, megabytes(plan.scratch + plan.beside),
      plan.block_rows, megabytes(plan.merge_buffer), plan.merged_experts,
      plan.merged_at_once == 0 ? "" : fmt::format(", of {} candidates in one read", plan.merged_at_once));
}

}  // namespace eep
