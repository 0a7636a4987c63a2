// router.cu - logits z = W_gate x, softmax, per-candidate map W_RM, top-k and weights, in one kernel:
//   kLogits: g = softmax(W_RM z),  kProbabilities: g = W_RM softmax(z);  (expert, weight) = top-k of g
//   (router.h).
//
// A block takes kRows rows. First all its threads compute the logits on CUDA cores, in f32 and in ascending
// k, one fused multiply-add a step: a tensor core would round x, and near-ties in the logits decide which
// experts run. Then each warp finishes one row after another in shared memory, with the reductions of the CPU
// (gpu_math.h). FLOPs: 2 rows experts hidden; bytes: x once a column tile of kColumns experts, the gate once
// a block.
#include <algorithm>
#include <climits>
#include <map>
#include <string>
#include <vector>

#include "kernels/gpu_math.h"
#include "kernels/half_pair.h"
#include "kernels/router.h"
#include "kernels/tile_schedule.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kRows = 32, kColumns = 64, kDepth = 32;
constexpr int kPitch = kDepth + 1;  // in floats: neighbouring rows lie in different banks
constexpr size_t kTileBytes = sizeof(float) * (kRows + kColumns) * kPitch;

struct RouteArgs {
  const float* x;             // [rows, hidden]
  const uint16_t* gate;       // [experts, row_stride_16bit(hidden)]
  const RouterMap* maps;      // [map_count], pointing to device memory
  const int32_t* map_of_row;  // [rows] or null
  int32_t* expert;            // [rows, slots]
  float* weight;              // [rows, slots]
  float* logits;              // [rows, experts]
  RouterCounts* counts;       // or null
  int64_t rows, hidden;
  int32_t experts, slots;
  int32_t width;  // floats of a row's scratch: the largest of experts and kept
  bool renormalise, hf_rounding;
};

template <DType kDType>
__device__ float widen_bits(uint16_t bits) {
  if (kDType == DType::kBF16) return __uint_as_float(static_cast<uint32_t>(bits) << 16);
  return __half2float(__ushort_as_half(bits));
}

// To the gate's dtype and back (hf_rounding).
template <DType kDType>
__device__ float rounded(float value) {
  if (kDType == DType::kBF16) return Bf16::low(Bf16::pack(value, 0.0f));
  return F16::low(F16::pack(value, 0.0f));
}

// logits[first, first + kRows) of the block, columns by tiles. Thread t owns rows 2 (t / 16) and the next of
// the tile and columns t % 16 + 16 j: eight chains.
template <DType kDType>
__device__ void gate_logits(const RouteArgs& args, int64_t first) {
  float* const x_tile = gpu::dynamic_shared<float>();  // [kRows, kPitch]
  float* const gate_tile = x_tile + kRows * kPitch;    // [kColumns, kPitch]
  const int t = threadIdx.x, row = t / 16 * 2, column = t % 16;
  const int64_t stride = row_stride_16bit(args.hidden);
  for (int32_t c0 = 0; c0 < args.experts; c0 += kColumns) {
    float sum[2][4] = {};
    for (int64_t k0 = 0; k0 < args.hidden; k0 += kDepth) {
      const int depth = static_cast<int>(min(int64_t{kDepth}, args.hidden - k0));
      __syncthreads();  // nobody reads the tiles of the last step any more
      for (int i = t; i < kRows * kDepth; i += kThreads) {
        const int r = i / kDepth, k = i % kDepth;
        const bool inside = first + r < args.rows && k < depth;
        x_tile[r * kPitch + k] = inside ? args.x[(first + r) * args.hidden + k0 + k] : 0.0f;
      }
      for (int i = t; i < kColumns * kDepth; i += kThreads) {
        const int c = i / kDepth, k = i % kDepth;
        const bool inside = c0 + c < args.experts && k < depth;
        gate_tile[c * kPitch + k] = inside ? widen_bits<kDType>(args.gate[(c0 + c) * stride + k0 + k]) : 0.0f;
      }
      __syncthreads();
      for (int k = 0; k < depth; ++k) {
        const float x0 = x_tile[row * kPitch + k], x1 = x_tile[(row + 1) * kPitch + k];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float w = gate_tile[(column + 16 * j) * kPitch + k];
          sum[0][j] = fmaf(x0, w, sum[0][j]);
          sum[1][j] = fmaf(x1, w, sum[1][j]);
        }
      }
    }
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int c = c0 + column + 16 * j;
        if (first + row + i < args.rows && c < args.experts) {
          const float logit = args.hf_rounding ? rounded<kDType>(sum[i][j]) : sum[i][j];
          args.logits[(first + row + i) * args.experts + c] = logit;
        }
      }
    }
  }
}

// ---- one row, by one warp; `values` and `mapped` are its own shared memory

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
    const float* const coefficient = map.matrix + static_cast<int64_t>(r) * experts;
    float sum = 0;
    for (int e = 0; e < experts; ++e) sum = fmaf(coefficient[e], values[e], sum);
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

// The index of the j-th largest value in lane j < k, largest first, ties to the lower index.
__device__ int select_top(const float* values, int count, int k) {
  const int lane = threadIdx.x % 32;
  unsigned taken = 0;  // bit i: index lane + 32 i is chosen already
  static_assert(kMaxExperts <= 32 * 32, "a bit for each index of a lane");
  int chosen = -1;
  for (int j = 0; j < k; ++j) {
    int best = INT_MIN, index = INT_MAX;
    for (int i = 0; lane + 32 * i < count; ++i) {
      const int key = order_key(values[lane + 32 * i]);
      if ((taken >> i & 1) == 0 && (index == INT_MAX || key > best)) best = key, index = lane + 32 * i;
    }
    const int highest = __reduce_max_sync(~0u, best);
    const int lowest = __reduce_min_sync(~0u, best == highest ? index : INT_MAX);
    if (lowest % 32 == lane) taken |= 1u << lowest / 32;
    if (j == lane) chosen = lowest;
  }
  return chosen;
}

template <DType kDType>
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
  const int chosen = select_top(mapped, map.kept, map.top_k);
  __syncwarp();  // mapped is read to the end before it becomes exponentials
  float sum = 0;
  if (!probabilities) sum = exponentials(mapped, map.kept);
  __syncwarp();
  float weight = lane < map.top_k ? mapped[chosen] : 0.0f;
  if (probabilities || args.renormalise) {
    sum = 0;
    for (int slot = 0; slot < map.top_k; ++slot) sum += __shfl_sync(~0u, weight, slot);
  }
  if (!probabilities) {
    weight /= sum;
  } else if (args.renormalise) {
    const bool tiny = fabsf(sum) < kRouterTinySum;
    weight = (tiny ? 1.0f : weight) / (tiny ? static_cast<float>(map.top_k) : sum);
    if (lane == 0 && args.counts != nullptr) {  // integers: their order does not show
      if (tiny) atomicAdd(reinterpret_cast<unsigned long long*>(&args.counts->tiny_sums), 1ull);
      if (!tiny && sum < 0)
        atomicAdd(reinterpret_cast<unsigned long long*>(&args.counts->negative_sums), 1ull);
    }
  }
  if (args.hf_rounding) weight = rounded<kDType>(weight);
  if (lane < args.slots) {
    args.expert[row * args.slots + lane] = lane < map.top_k ? chosen : -1;
    args.weight[row * args.slots + lane] = lane < map.top_k ? weight : 0.0f;
  }
  __syncwarp();  // the next row uses the same scratch
}

// block: kThreads; grid: rows / kRows, rounded up.
template <DType kDType>
__global__ void __launch_bounds__(kThreads) route_rows(const __grid_constant__ RouteArgs args) {
  const int64_t first = int64_t{blockIdx.x} * kRows;
  gate_logits<kDType>(args, first);
  __syncthreads();  // the block's logits are written, and its tiles become scratch
  const int warp = threadIdx.x / 32;
  float* const values = gpu::dynamic_shared<float>() + 2 * warp * args.width;
  for (int r = warp; r < kRows && first + r < args.rows; r += kWarps) {
    finish_row<kDType>(args, first + r, values, values + args.width);
  }
}

// The maps in device memory; equal tables go there once.
const RouterMap* stage_maps(const RouterArgs& args, int64_t count, Staging& staging) {
  std::map<const void*, const void*> staged;
  const auto once = [&](const auto* values, int64_t n) {
    if (values == nullptr) return values;
    const void*& place = staged[values];
    if (place == nullptr) place = staging.put(values, n);
    return static_cast<decltype(values)>(place);
  };
  std::vector<RouterMap> maps(args.maps, args.maps + count);
  for (RouterMap& map : maps) {
    map.kept_experts = once(map.kept_experts, map.kept);
    map.matrix = once(map.matrix, map.kept * args.gate.n);
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
    throw Error(ExitCode::kData, "router",
                "too many experts or slots (expected at most " + std::to_string(kMaxExperts) + " and " +
                    std::to_string(kMaxTopK) + ", got " + std::to_string(width) + " and " +
                    std::to_string(args.slots) + ")");
  }
  Staging staging(device);
  RouteArgs staged;
  staged.x = args.x;
  staged.gate = static_cast<const uint16_t*>(args.gate.data);
  staged.maps = stage_maps(args, map_count, staging);
  staged.map_of_row = staging.put(args.map_of_row, args.rows);
  staged.expert = args.expert;
  staged.weight = args.weight;
  staged.logits = args.logits;
  staged.counts = args.counts;
  staged.rows = args.rows;
  staged.hidden = args.gate.k;
  staged.experts = static_cast<int32_t>(args.gate.n);
  staged.slots = args.slots;
  staged.width = static_cast<int32_t>(width);
  staged.renormalise = args.renormalise;
  staged.hf_rounding = args.hf_rounding;
  launch(device,
         {.op = "router",
          .blocks = blocks_for(args.rows, kRows),
          .threads = kThreads,
          .shared_bytes = std::max(kTileBytes, sizeof(float) * 2 * kWarps * static_cast<size_t>(width)),
          .shapes = {{"rows", args.rows}, {"experts", args.gate.n}, {"hidden", args.gate.k}}},
         args.gate.dtype == DType::kBF16 ? route_rows<DType::kBF16> : route_rows<DType::kF16>, staged);
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(router)(const RouterArgs& args, const Device& device) {
  if (args.rows > 0) gpu::route(args, device);
}

}  // namespace eep
