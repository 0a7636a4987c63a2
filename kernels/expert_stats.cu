// expert_stats.cu - per-expert sums over a routed pass (expert_stats.h). Three kernels over blocks of rows:
// softmax of the logits; |f|^2 and max |f| of each slot's output; then the f64 sums, each by one thread in
// ascending row order, so no atomics and the CPU's bits. Bound by memory: slot_out is read once.
#include <algorithm>

#include "kernels/expert_stats.h"
#include "kernels/gpu/gpu_math.h"
#include "kernels/router.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 128, kHalves = kThreads / kVirtualLanes;

struct StatsArgs {
  ExpertStatsArgs stats;  // of a block of rows
  float* probability;     // [rows, experts]
  float* squared;         // [rows, slots]
  float* largest;         // [rows, slots]
};

// Half a warp a row.
__global__ void __launch_bounds__(kThreads) softmax_rows(const __grid_constant__ StatsArgs args) {
  const int lane = threadIdx.x % kVirtualLanes;
  const int64_t row = int64_t{blockIdx.x} * kHalves + threadIdx.x / kVirtualLanes;
  const int experts = row < args.stats.rows ? args.stats.experts : 0;
  const float* const logits = args.stats.logits + row * args.stats.experts;
  float* const probability = args.probability + row * args.stats.experts;
  float highest = -kInfinity;
  for (int e = lane; e < experts; e += kVirtualLanes) highest = fmaxf(logits[e], highest);
  highest = max_virtual_lanes(highest);
  float sum = 0;
  for (int e = lane; e < experts; e += kVirtualLanes) {
    probability[e] = exponential(logits[e] - highest);
    sum += probability[e];
  }
  sum = sum_virtual_lanes(sum);
  for (int e = lane; e < experts; e += kVirtualLanes) probability[e] /= sum;
}

// An element a thread.
__global__ void __launch_bounds__(kThreads) sigmoid_rows(const __grid_constant__ StatsArgs args) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < args.stats.rows * args.stats.experts) args.probability[i] = sigmoid(args.stats.logits[i]);
}

// Half a warp a slot.
__global__ void __launch_bounds__(kThreads) output_norms(const __grid_constant__ StatsArgs args) {
  const int lane = threadIdx.x % kVirtualLanes;
  const int64_t slot = int64_t{blockIdx.x} * kHalves + threadIdx.x / kVirtualLanes;
  const bool used = slot < args.stats.rows * args.stats.slots && args.stats.expert[slot] >= 0;
  const int64_t hidden = used ? args.stats.hidden : 0;
  const float* const out = args.stats.slot_out + slot * args.stats.hidden;
  float squares = 0, largest = 0;
#pragma unroll 8
  for (int64_t i = lane; i < hidden; i += kVirtualLanes) {
    squares = fmaf(out[i], out[i], squares);
    largest = fmaxf(fabsf(out[i]), largest);
  }
  squares = sum_virtual_lanes(squares);
  largest = max_virtual_lanes(largest);
  if (used && lane == 0) {
    args.squared[slot] = squares;
    args.largest[slot] = largest;
  }
}

// A thread an expert: neighbours read neighbouring probabilities.
__global__ void __launch_bounds__(kThreads) add_probabilities(const __grid_constant__ StatsArgs args) {
  const int e = blockIdx.x * kThreads + threadIdx.x;
  if (e >= args.stats.experts) return;
  double sum = args.stats.sums.probability[e];
  for (int64_t row = 0; row < args.stats.rows; ++row)
    sum += static_cast<double>(args.probability[row * args.stats.experts + e]);
  args.stats.sums.probability[e] = sum;
}

// A warp an expert: its lanes look for the expert's slots, 32 at a time, then each adds to its own sum.
__global__ void __launch_bounds__(32) add_slots(const __grid_constant__ StatsArgs args) {
  const ExpertStatsArgs& stats = args.stats;
  const ExpertSums& sums = stats.sums;
  const int lane = threadIdx.x, e = blockIdx.x;
  double* const fields[9] = {
      sums.count,         sums.gate,      sums.selected_probability, sums.norm,
      sums.squared_norm,  sums.gate_norm, sums.probability_norm,     sums.gate_squared_norm,
      sums.max_activation};
  double* mine = nullptr;
#pragma unroll
  for (int field = 0; field < 9; ++field) {
    if (lane == field) mine = fields[field] + e;
  }
  double sum = mine != nullptr ? *mine : 0;
  const int64_t slots = stats.rows * stats.slots;
  for (int64_t base = 0; base < slots; base += 32) {
    const bool found = base + lane < slots && stats.expert[base + lane] == e;
    for (unsigned rest = __ballot_sync(~0u, found); rest != 0; rest &= rest - 1) {
      const int64_t slot = base + __ffs(static_cast<int>(rest)) - 1;
      const double g = static_cast<double>(stats.weight[slot]);
      const double p = static_cast<double>(args.probability[slot / stats.slots * stats.experts + e]);
      const double squared = static_cast<double>(args.squared[slot]), norm = sqrt(squared);
      const double largest = static_cast<double>(args.largest[slot]);
      switch (lane) {
        case 0:
          sum += 1;
          break;
        case 1:
          sum += g;
          break;
        case 2:
          sum += p;
          break;
        case 3:
          sum += norm;
          break;
        case 4:
          sum += squared;
          break;
        case 5:
          sum += g * norm;
          break;
        case 6:
          sum += p * norm;
          break;
        case 7:
          sum += g * squared;
          break;
        default:
          if (largest > sum) sum = largest;
      }
    }
  }
  if (mine != nullptr) *mine = sum;
}

void add_block(const ExpertStatsArgs& args, const Device& device) {
  Staging staging(device);
  StatsArgs block;
  block.stats = args;
  block.probability = staging.scratch<float>(args.rows * args.experts);
  block.squared = staging.scratch<float>(args.rows * args.slots);
  block.largest = staging.scratch<float>(args.rows * args.slots);
  const auto start = [&](void (*kernel)(StatsArgs), int64_t blocks, unsigned threads) {
    launch(device,
           {.op = "expert_stats",
            .blocks = static_cast<unsigned>(blocks),
            .threads = threads,
            .shapes = {{"rows", args.rows},
                       {"slots", args.slots},
                       {"experts", args.experts},
                       {"hidden", args.hidden}}},
           kernel, block);
  };
  if (args.sigmoids) {
    start(sigmoid_rows, blocks_for(args.rows * args.experts, kThreads), kThreads);
  } else {
    start(softmax_rows, blocks_for(args.rows, kHalves), kThreads);
  }
  start(output_norms, blocks_for(args.rows * args.slots, kHalves), kThreads);
  start(add_probabilities, blocks_for(args.experts, kThreads), kThreads);
  start(add_slots, args.experts, 32);
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(expert_stats)(const ExpertStatsArgs& args, const Device& device) {
  check(args);
  // As many rows at a time as the scratch holds; the cut does not show in the sums.
  const int64_t most = static_cast<int64_t>(gpu::kScratchBytes / 4) / std::max(args.experts, args.slots);
  for (int64_t row = 0; row < args.rows; row += most) {
    ExpertStatsArgs block = args;
    block.rows = std::min(most, args.rows - row);
    block.logits += row * args.experts;
    block.expert += row * args.slots;
    block.weight += row * args.slots;
    block.slot_out += row * args.slots * args.hidden;
    gpu::add_block(block, device);
  }
}

}  // namespace eep
