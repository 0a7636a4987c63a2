// expert_ffn_groups.h - what the kernels of expert_ffn share: arguments on the device, and the walk over the
// tiles of groups whose sizes only the device knows.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "kernels/common/error.h"
#include "kernels/expert_ffn.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/half_pair.h"
#include "kernels/gpu/tile_schedule.h"

namespace eep::EEP_GPU_NS {

struct GroupMatrices {
  const uint16_t* gate;       // [intermediate, row_stride_16bit(hidden)]
  const uint16_t* up;         // [intermediate, row_stride_16bit(hidden)]
  const uint16_t* down;       // [hidden, row_stride_16bit(intermediate)]
  const uint16_t* gate_bias;  // [intermediate, row_stride_16bit(1)] or null, as the other two
  const uint16_t* up_bias;    // [intermediate, row_stride_16bit(1)]
  const uint16_t* down_bias;  // [hidden, row_stride_16bit(1)]
};

struct FfnArgs {
  const float* x;               // [rows, hidden]
  const int32_t* order;         // [total] or null
  const int32_t* offset;        // [groups + 1]
  const GroupMatrices* groups;  // [group_count]
  float* activation;            // [total, intermediate]
  float* out;                   // [rows * slots, hidden]
  int32_t slots, group_count, hidden, intermediate;
  float limit, alpha, shift;  // of h: without a limit infinity, 1 and 0
  bool vectors;               // rows that this product reads start at 16 bytes
  bool pairs;                 // rows that it writes start at 8 bytes
};

// Within 9 u of itself: 2 ulp of the exponential, one rounding of the sum, 2 ulp of the quotient; below about
// -87, where the divisor leaves the range of __fdividef, 0.
__device__ inline float silu(float g) { return __fdividef(g, 1.0f + expf(-g)); }

// An element of a bias, 0 where there is none.
template <class Half>
__device__ float bias_at(const uint16_t* bias, int at) {
  return bias == nullptr ? 0.0f : Half::low(bias[at * row_stride_16bit(1)]);
}

__device__ inline float clamped_unit(const FfnArgs& args, float gate, float up) {
  gate = gate > args.limit ? args.limit : gate;  // NaN stays
  up = up > args.limit ? args.limit : up < -args.limit ? -args.limit : up;
  return (up + args.shift) * __fdividef(gate, 1.0f + expf(-args.alpha * gate));
}

// Columns `column` and the next of h, in 16 bits. kOther: with biases or a limit; a kernel of its own, so
// that the plain one keeps its registers.
template <class Half, bool kOther>
__device__ uint32_t unit_pair(const FfnArgs& args, int group, int column, const float* gate,
                              const float* up) {
  if constexpr (!kOther) return Half::pack(silu(gate[0]) * up[0], silu(gate[1]) * up[1]);
  const GroupMatrices& matrices = args.groups[group];
  float h[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int at = min(column + i, args.intermediate - 1);
    const float g = gate[i] + bias_at<Half>(matrices.gate_bias, at);
    const float u = up[i] + bias_at<Half>(matrices.up_bias, at);
    h[i] = clamped_unit(args, g, u);
  }
  return Half::pack(h[0], h[1]);
}

// The same columns of y.
template <class Half, bool kOther>
__device__ float2 out_pair(const FfnArgs& args, int group, int column, const float* d) {
  if constexpr (!kOther) return {d[0], d[1]};
  const uint16_t* const bias = args.groups[group].down_bias;
  return {d[0] + bias_at<Half>(bias, min(column, args.hidden - 1)),
          d[1] + bias_at<Half>(bias, min(column + 1, args.hidden - 1))};
}

inline bool is_plain(const ExpertFfnArgs& args) {
  return args.limit == 0.0f && args.experts[0].gate_bias.data == nullptr;
}

struct GroupTile {
  int group;       // -1: no tile is left
  int begin, end;  // positions of the tile's rows, at most kRows
  int column;      // in tiles
};

// Walks the tiles of all groups that belong to a shape, in ascending order of their number. Every warp keeps
// the same state and takes 32 groups at a time.
template <class Tile>
struct GroupWalk {
  const FfnArgs& args;
  int column_tiles;
  int window = 0;  // first of the 32 groups in view
  int passed = 0;  // tiles before the window

  __device__ GroupTile find(int number) {
    const int lane = threadIdx.x % 32;
    for (; window < args.group_count; window += 32) {
      const int group = window + lane;
      const int begin = group < args.group_count ? args.offset[group] : 0;
      const int end = group < args.group_count ? args.offset[group + 1] : 0;
      const int tiles =
          Tile::takes(end - begin) ? static_cast<int>(ceil_div(end - begin, Tile::kRows)) * column_tiles : 0;
      int until = tiles;  // tiles of this group and the window's earlier ones
      for (int delta = 1; delta < 32; delta *= 2) {
        const int below = __shfl_up_sync(~0u, until, delta);
        if (lane >= delta) until += below;
      }
      const unsigned past = __ballot_sync(~0u, passed + until > number);
      if (past == 0) {
        passed += __shfl_sync(~0u, until, 31);
        continue;
      }
      const int found = __ffs(static_cast<int>(past)) - 1;
      const int first = passed + __shfl_sync(~0u, until - tiles, found);
      const int rows_begin = __shfl_sync(~0u, begin, found), rows_end = __shfl_sync(~0u, end, found);
      const int row_tiles = static_cast<int>(ceil_div(rows_end - rows_begin, Tile::kRows));
      const TileAt at = tile_at(number - first, row_tiles, column_tiles);
      const int from = rows_begin + at.row * Tile::kRows;
      return {window + found, from, min(from + Tile::kRows, rows_end), at.column};
    }
    return {-1, 0, 0, 0};
  }
};

// The arguments on the device, after a check of the weights' dtypes. vectors and pairs are left to the
// launcher.
inline FfnArgs stage_groups(const ExpertFfnArgs& args, Staging& staging) {
  std::vector<GroupMatrices> groups;
  const DType dtype = args.experts[0].gate.dtype;
  for (int32_t group = 0; group < args.groups; ++group) {
    const ExpertMatrices& expert = args.experts[group];
    for (const PackedMatrix* matrix :
         {&expert.gate, &expert.up, &expert.down, &expert.gate_bias, &expert.up_bias, &expert.down_bias}) {
      if (*matrix && (matrix->dtype != dtype || dtype_size(dtype) != 2)) {
        throw Error(ExitCode::kData, "expert_ffn",
                    "weights of group " + std::to_string(group) + " are " + dtype_name(matrix->dtype) +
                        " (expected one 16-bit dtype for all groups)");
      }
    }
    groups.push_back(
        {static_cast<const uint16_t*>(expert.gate.data), static_cast<const uint16_t*>(expert.up.data),
         static_cast<const uint16_t*>(expert.down.data), static_cast<const uint16_t*>(expert.gate_bias.data),
         static_cast<const uint16_t*>(expert.up_bias.data),
         static_cast<const uint16_t*>(expert.down_bias.data)});
  }
  FfnArgs ffn{};
  ffn.x = args.x;
  ffn.order = args.order;
  ffn.offset = args.offset;
  ffn.groups = staging.put(groups.data(), args.groups);
  ffn.activation = args.activation;
  ffn.out = args.out;
  ffn.slots = args.slots;
  ffn.group_count = args.groups;
  ffn.hidden = static_cast<int32_t>(args.hidden);
  ffn.intermediate = static_cast<int32_t>(args.intermediate);
  const bool limited = args.limit > 0;
  ffn.limit = limited ? args.limit : INFINITY;
  ffn.alpha = limited ? args.alpha : 1.0f;
  ffn.shift = limited ? 1.0f : 0.0f;
  return ffn;
}

}  // namespace eep::EEP_GPU_NS
