// router.cu - logits z = W_gate x, softmax, per-candidate map W_RM, top-k and weights:
//   kLogits: g = softmax(W_RM z),  kProbabilities: g = W_RM softmax(z);  (expert, weight) = top-k of g
//   without those below skip_below times the first (router.h).
//
// Two kernels: the product (gate_logits.h), then a warp a row, which finishes it in shared memory with the
// reductions of the CPU (gpu_math.h). The tables of dense maps lie transposed, so that lanes, which have a
// kept row each, read neighbours.
#include <algorithm>
#include <climits>
#include <map>
#include <string>
#include <vector>

#include "kernels/common/expected.h"
#include "kernels/gate_logits.h"
#include "kernels/gpu/gpu_math.h"
#include "kernels/gpu/mma_tile.h"
#include "kernels/router.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

// ---- logits

// block: kThreads of the tile; grid: row tiles, column tiles.
template <class Tile, DType kDType>
__global__ void __launch_bounds__(GateTileSize<Tile>::kThreads, Tile::kBlocks)
    gate_logits(const __grid_constant__ LogitArgs args) {
  GateTile<Tile, kDType>(args).run();
}

template <class Tile>
int64_t gate_cycles(const LogitArgs& args, int64_t multiprocessors) {
  const int64_t blocks = ceil_div(args.rows, Tile::kRows) * ceil_div(args.experts, Tile::kColumns);
  return ceil_div(blocks, multiprocessors) * Tile::kCycles;
}

template <class Tile>
void launch_gate(const Device& device, const LogitArgs& args, DType dtype) {
  launch(device,
         {.op = "router",
          .blocks = dim3(static_cast<unsigned>(ceil_div(args.rows, Tile::kRows)),
                         static_cast<unsigned>(ceil_div(args.experts, Tile::kColumns))),
          .threads = GateTileSize<Tile>::kThreads,
          .shared_bytes = GateTileSize<Tile>::kSharedBytes,
          .shapes = {{"rows", args.rows}, {"experts", args.experts}, {"hidden", args.hidden}}},
         dtype == DType::kBF16 ? gate_logits<Tile, DType::kBF16> : gate_logits<Tile, DType::kF16>, args);
}

// With the tile that takes least time by the cycles of its blocks: they share a multiprocessor evenly.
void compute_gate_logits(const Device& device, const LogitArgs& args, DType dtype) {
  const int64_t count = multiprocessors(device);
  const int64_t wide = gate_cycles<WideGate>(args, count), square = gate_cycles<SquareGate>(args, count),
                few = gate_cycles<FewGate>(args, count), narrow = gate_cycles<NarrowGate>(args, count);
  const int64_t least = std::min({wide, square, few, narrow});
  if (least == few || !args.vectors) return launch_gate<FewGate>(device, args, dtype);
  if (least == wide) return launch_gate<WideGate>(device, args, dtype);
  if (least == square) return launch_gate<SquareGate>(device, args, dtype);
  launch_gate<NarrowGate>(device, args, dtype);
}

// ---- one row, by one warp; `values` and `mapped` are its own shared memory

constexpr int kThreads = 256, kWarps = kThreads / 32;

struct RouteArgs {
  const RouterMap* maps;      // [map_count], pointing to device memory, matrices [experts, kept]
  const int32_t* map_of_row;  // [rows] or null
  int32_t* expert;            // [rows, slots]
  float* weight;              // [rows, slots]
  const float* logits;        // [rows, experts]
  RouterCounts* counts;       // or null
  int64_t rows;
  int32_t experts, slots;
  int32_t width;  // floats of a row's scratch: the largest of experts and kept
  bool renormalise, hf_rounding;
  const float* selection_bias;  // [experts] or null; this and what follows for sigmoid scores
  float scale;
  int32_t groups, top_groups;
};

// values[i] = exp(values[i] - their maximum); the sum over 16 virtual lanes, in every lane.
__device__ float exponentials(float* values, int count) {
  const int lane = threadIdx.x % 32;
  float highest = -kInfinity;
  for (int i = lane; i < count; i += 32) highest = fmaxf(values[i], highest);
  highest = max_virtual_lanes(fmaxf(highest, __shfl_xor_sync(~0u, highest, 16)));
  for (int i = lane; i < count; i += 32) values[i] = exponential(values[i] - highest);
  __syncwarp();
  float sum = 0;
  for (int i = lane % kVirtualLanes; i < count; i += kVirtualLanes) sum += values[i];
  return sum_virtual_lanes(sum);
}

// mapped[r] = sum_e matrix[r, e] values[e], or values[kept_experts[r]]
__device__ void apply_map(const RouterMap& map, int experts, const float* values, float* mapped) {
  for (int r = threadIdx.x % 32; r < map.kept; r += 32) {
    if (map.matrix == nullptr) {
      mapped[r] = values[map.kept_experts[r]];
      continue;
    }
    float sum = 0;
#pragma unroll 8
    for (int e = 0; e < experts; ++e) sum = fmaf(map.matrix[e * map.kept + r], values[e], sum);
    mapped[r] = sum;
  }
  __syncwarp();
}

// Integers in the order of the floats: NaN lowest, the two zeros equal.
__device__ int order_key(float value) {
  if (isnan(value)) return INT_MIN;
  const int bits = __float_as_int(value + 0.0f);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

// The index of the j-th largest value in lane j < k, largest first, ties to the lower index. Of at most 32
// kPerLane values; a lane has indices lane + 32 i.
template <int kPerLane>
__device__ int select_top_of(const float* values, int count, int k) {
  const int lane = threadIdx.x % 32;
  int key[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    key[i] = lane + 32 * i < count ? order_key(values[lane + 32 * i]) : INT_MIN;
  unsigned taken = 0;  // bit i: index lane + 32 i is chosen already
  static_assert(kPerLane <= 32, "a bit for each index of a lane");
  int chosen = -1;
  for (int j = 0; j < k; ++j) {
    int best = INT_MIN, index = INT_MAX;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const bool open = lane + 32 * i < count && (taken >> i & 1) == 0;
      if (open && (index == INT_MAX || key[i] > best)) best = key[i], index = lane + 32 * i;
    }
    const int highest = __reduce_max_sync(~0u, best);
    const int lowest = __reduce_min_sync(~0u, best == highest ? index : INT_MAX);
    if (lowest % 32 == lane) taken |= 1u << lowest / 32;
    if (j == lane) chosen = lowest;
  }
  return chosen;
}

// kPerLane: enough for the launch's largest count.
template <int kPerLane>
__device__ int select_top(const float* values, int count, int k) {
  if (count <= 32) return select_top_of<1>(values, count, k);
  if (count <= 128) return select_top_of<4>(values, count, k);
  return select_top_of<kPerLane>(values, count, k);
}

// How many of the chosen stay (router.h), in every lane; weight: of the slot of each lane below top_k.
__device__ int unskipped(const RouterMap& map, float weight) {
  if (!(map.skip_below > 0)) return map.top_k;  // all lanes alike
  const int lane = threadIdx.x % 32;
  const float least = map.skip_below * __shfl_sync(~0u, weight, 0);
  const unsigned stays = __ballot_sync(~0u, lane == 0 || (lane < map.top_k && !(weight < least)));
  return 32 - __clz(static_cast<int>(stays));
}

// A slot's weight over the sum of its row's; what a sum cannot do is counted (router.h).
__device__ float over_sum(const RouteArgs& args, float weight, float sum, int32_t active) {
  const bool tiny = fabsf(sum) < kRouterTinySum;
  const float share = (tiny ? 1.0f : weight) / (tiny ? static_cast<float>(active) : sum);
  if (threadIdx.x % 32 == 0 && args.counts != nullptr) {  // integers: their order does not show
    if (tiny) atomicAdd(reinterpret_cast<unsigned long long*>(&args.counts->tiny_sums), 1ull);
    if (!tiny && sum < 0) atomicAdd(reinterpret_cast<unsigned long long*>(&args.counts->negative_sums), 1ull);
  }
  return share;
}

template <DType kDType, int kPerLane>
__device__ void finish_row(const RouteArgs& args, int64_t row, float* values, float* mapped) {
  const int lane = threadIdx.x % 32;
  const RouterMap& map = args.maps[args.map_of_row != nullptr ? args.map_of_row[row] : 0];
  const bool probabilities = map.space == RouterSpace::kProbabilities;
  for (int e = lane; e < args.experts; e += 32) values[e] = args.logits[row * args.experts + e];
  __syncwarp();
  if (probabilities) {
    const float total = exponentials(values, args.experts);
    __syncwarp();
    for (int e = lane; e < args.experts; e += 32) values[e] /= total;
    __syncwarp();
  }
  apply_map(map, args.experts, values, mapped);
  const int chosen = select_top<kPerLane>(mapped, map.kept, map.top_k);
  __syncwarp();  // mapped is read to the end before it becomes exponentials
  float sum = 0;
  if (!probabilities) sum = exponentials(mapped, map.kept);
  __syncwarp();
  float weight = lane < map.top_k ? mapped[chosen] : 0.0f;
  const int active = unskipped(map, weight);
  if (probabilities || args.renormalise) {
    sum = 0;
    for (int slot = 0; slot < active; ++slot) sum += __shfl_sync(~0u, weight, slot);
  }
  if (!probabilities) {
    weight /= sum;
  } else if (args.renormalise) {
    weight = over_sum(args, weight, sum, active);
  }
  if (args.hf_rounding) weight = rounded_to<kDType>(weight);
  if (lane < args.slots) {
    args.expert[row * args.slots + lane] = lane < active ? chosen : -1;
    args.weight[row * args.slots + lane] = lane < active ? weight : 0.0f;
  }
}

// block: kThreads, a row a warp; grid: rows / kWarps, rounded up; shared: two rows of scratch a warp.
// The bound of blocks is for the largest models alone: without it ptxas spills them on sm_80.
template <DType kDType, int kPerLane>
__global__ void __launch_bounds__(kThreads, kPerLane > 16 ? 2 : 0)
    finish_rows(const __grid_constant__ RouteArgs args) {
  const int warp = threadIdx.x / 32;
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp;
  float* const values = gpu::dynamic_shared<float>() + 2 * warp * args.width;
  if (row < args.rows) finish_row<kDType, kPerLane>(args, row, values, values + args.width);
}

// Minus infinity for every row outside the top groups; `sums` is scratch of at least `groups` floats.
template <int kPerLane>
__device__ void mask_groups(const RouteArgs& args, float* choice, int kept, float* sums) {
  const int lane = threadIdx.x % 32, size = kept / args.groups;
  for (int group = lane; group < args.groups; group += 32) {
    float best = -kInfinity, second = -kInfinity;
    for (int i = group * size; i < (group + 1) * size; ++i) {
      const bool first = choice[i] > best;
      second = first ? best : choice[i] > second ? choice[i] : second;
      best = first ? choice[i] : best;
    }
    sums[group] = size > 1 ? best + second : best;
  }
  __syncwarp();
  const int top = select_top<kPerLane>(sums, args.groups, args.top_groups);
  for (int group = 0; group < args.groups; ++group) {
    if (__any_sync(~0u, lane < args.top_groups && top == group)) continue;
    for (int i = lane; i < size; i += 32) choice[group * size + i] = -kInfinity;
  }
  __syncwarp();
}

template <int kPerLane>
__device__ void finish_sigmoid_row(const RouteArgs& args, int64_t row, float* values, float* mapped,
                                   float* choice) {
  const int lane = threadIdx.x % 32;
  const RouterMap& map = args.maps[args.map_of_row != nullptr ? args.map_of_row[row] : 0];
  const bool probabilities = map.space == RouterSpace::kProbabilities;
  for (int e = lane; e < args.experts; e += 32) {
    const float z = args.logits[row * args.experts + e];
    values[e] = probabilities ? sigmoid(z) : z;
  }
  __syncwarp();
  apply_map(map, args.experts, values, mapped);
  if (args.selection_bias != nullptr) apply_map(map, args.experts, args.selection_bias, choice);
  for (int r = lane; r < map.kept; r += 32) {
    if (!probabilities) mapped[r] = sigmoid(mapped[r]);
    choice[r] = args.selection_bias != nullptr ? choice[r] + mapped[r] : mapped[r];
  }
  __syncwarp();
  if (args.groups > 1) mask_groups<kPerLane>(args, choice, map.kept, values);
  const int chosen = select_top<kPerLane>(choice, map.kept, map.top_k);
  float weight = lane < map.top_k ? mapped[chosen] : 0.0f;
  const int active = unskipped(map, weight);
  if (args.renormalise) {
    float sum = 0;
    for (int slot = 0; slot < active; ++slot) sum += __shfl_sync(~0u, weight, slot);
    weight = over_sum(args, weight, sum, active);
  }
  if (lane < args.slots) {
    args.expert[row * args.slots + lane] = lane < active ? chosen : -1;
    args.weight[row * args.slots + lane] = lane < active ? weight * args.scale : 0.0f;
  }
}

// block: kThreads, a row a warp; grid: rows / kWarps, rounded up; shared: three rows of scratch a warp.
template <int kPerLane>
__global__ void __launch_bounds__(kThreads) finish_sigmoid_rows(const __grid_constant__ RouteArgs args) {
  const int warp = threadIdx.x / 32;
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp;
  float* const values = gpu::dynamic_shared<float>() + 3 * warp * args.width;
  if (row < args.rows)
    finish_sigmoid_row<kPerLane>(args, row, values, values + args.width, values + 2 * args.width);
}

// The transposed of matrix [kept, experts], a square of 16 at a time: both sides stay in the first cache.
std::vector<float> transposed(const float* matrix, int64_t kept, int64_t experts) {
  constexpr int64_t kSide = 16;
  std::vector<float> out(static_cast<size_t>(kept * experts));
  for (int64_t r0 = 0; r0 < kept; r0 += kSide) {
    for (int64_t e0 = 0; e0 < experts; e0 += kSide) {
      for (int64_t e = e0; e < std::min(e0 + kSide, experts); ++e) {
        for (int64_t r = r0; r < std::min(r0 + kSide, kept); ++r)
          out[static_cast<size_t>(e * kept + r)] = matrix[r * experts + e];
      }
    }
  }
  return out;
}

// The maps in device memory; equal tables go there once.
const RouterMap* stage_maps(const RouterArgs& args, int64_t count, Staging& staging) {
  std::map<const int32_t*, const int32_t*> lists;
  std::map<const float*, const float*> matrices;
  std::vector<RouterMap> maps(args.maps, args.maps + count);
  for (RouterMap& map : maps) {
    if (map.kept_experts != nullptr) {
      const int32_t*& list = lists[map.kept_experts];
      if (list == nullptr) list = staging.put(map.kept_experts, map.kept);
      map.kept_experts = list;
    }
    if (map.matrix != nullptr) {
      const float*& matrix = matrices[map.matrix];
      if (matrix == nullptr)
        matrix = staging.put(transposed(map.matrix, map.kept, args.gate.n).data(), map.kept * args.gate.n);
      map.matrix = matrix;
    }
  }
  return staging.put(maps.data(), count);
}

void route(const RouterArgs& args, const Device& device) {
  int64_t map_count = 1;
  if (args.map_of_row != nullptr)
    map_count = *std::max_element(args.map_of_row, args.map_of_row + args.rows) + int64_t{1};
  int64_t width = args.gate.n;
  for (int64_t map = 0; map < map_count; ++map) width = std::max<int64_t>(width, args.maps[map].kept);
  if (width > kMaxExperts || args.slots > kMaxTopK) {
    throw Error(
        ExitCode::kData, "router",
        "too many experts or slots" +
            expected_got("at most " + std::to_string(kMaxExperts) + " and " + std::to_string(kMaxTopK),
                         std::to_string(width) + " and " + std::to_string(args.slots)));
  }
  LogitArgs logits;
  logits.x = args.x;
  logits.gate = static_cast<const uint16_t*>(args.gate.data);
  logits.bias = args.bias;
  logits.logits = args.logits;
  logits.rows = args.rows;
  logits.hidden = static_cast<int32_t>(args.gate.k);
  logits.experts = static_cast<int32_t>(args.gate.n);
  logits.vectors = rows_aligned(args.x, args.gate.k, 16);
  const bool sigmoids = args.score == RouterScore::kSigmoid;
  logits.hf_rounding = args.hf_rounding && !sigmoids;
  compute_gate_logits(device, logits, args.gate.dtype);

  Staging staging(device);
  RouteArgs staged;
  staged.maps = stage_maps(args, map_count, staging);
  staged.map_of_row = staging.put(args.map_of_row, args.rows);
  staged.expert = args.expert;
  staged.weight = args.weight;
  staged.logits = args.logits;
  staged.counts = args.counts;
  staged.rows = args.rows;
  staged.experts = logits.experts;
  staged.slots = args.slots;
  staged.width = static_cast<int32_t>(width);
  staged.renormalise = args.renormalise;
  staged.hf_rounding = logits.hf_rounding;
  staged.selection_bias = args.selection_bias;
  staged.scale = args.scale;
  staged.groups = args.groups;
  staged.top_groups = args.top_groups;
  // Few registers, unless the largest models ask for more.
  const auto finish = [&]<int kPerLane>() {
    if (sigmoids) return finish_sigmoid_rows<kPerLane>;
    return args.gate.dtype == DType::kBF16 ? finish_rows<DType::kBF16, kPerLane>
                                           : finish_rows<DType::kF16, kPerLane>;
  };
  const size_t scratch_rows = sigmoids ? 3 : 2;  // of each warp
  launch(device,
         {.op = "router",
          .blocks = blocks_for(args.rows, kWarps),
          .threads = kThreads,
          .shared_bytes = sizeof(float) * scratch_rows * kWarps * static_cast<size_t>(width),
          .shapes = {{"rows", args.rows}, {"experts", args.gate.n}, {"hidden", args.gate.k}}},
         width <= 512 ? finish.operator()<16>() : finish.operator()<kMaxExperts / 32>(), staged);
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(router)(const RouterArgs& args, const Device& device) {
  check(args);
  if (args.rows > 0) gpu::route(args, device);
}

}  // namespace eep
