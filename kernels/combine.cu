// combine.cu - residual[row] += sum_j weight[row, j] slot_out[row slots + j] (+ the shared expert), a block a
// row, a thread four elements, or one where rows do not start at 16 bytes: one chain of fused multiply-adds
// an element in slot order, so no atomics and the CPU's bits. Bound by memory: (slots + 2) reads and a write
// of hidden floats a row.
#include <algorithm>

#include "kernels/combine.h"
#include "kernels/gpu/gpu_math.h"
#include "kernels/gpu/half_pair.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 256;
constexpr int kAhead = 8;  // slots whose rows are read together

__device__ void add_scaled(float scale, float value, float& sum) { sum = fmaf(scale, value, sum); }
__device__ void add_scaled(float scale, const float4& value, float4& sum) {
  sum.x = fmaf(scale, value.x, sum.x), sum.y = fmaf(scale, value.y, sum.y);
  sum.z = fmaf(scale, value.z, sum.z), sum.w = fmaf(scale, value.w, sum.w);
}
__device__ float sum_of(float a, float b) { return a + b; }
__device__ float4 sum_of(const float4& a, const float4& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

// Adds the slots first, first + 1, ... of a row at element i of hidden; all loads are under way before the
// first sum.
template <class Vector>
__device__ void add_slots(const CombineArgs& args, int64_t row, int first, int64_t i, Vector& sum) {
  bool used[kAhead];
  float weight[kAhead];
  Vector value[kAhead];
#pragma unroll
  for (int j = 0; j < kAhead; ++j) {
    const int64_t slot = row * args.slots + first + j;
    used[j] = first + j < args.slots && args.expert[slot] >= 0;
    if (!used[j]) continue;
    const int64_t source = args.slot_row != nullptr ? args.slot_row[slot] : slot;
    weight[j] = args.weight[slot];
    value[j] = load_vector<Vector>(args.slot_out + source * args.hidden + i);
  }
#pragma unroll
  for (int j = 0; j < kAhead; ++j) {
    if (used[j]) add_scaled(weight[j], value[j], sum);
  }
}

template <class Vector>
__global__ void __launch_bounds__(kThreads) combine_rows(const __grid_constant__ CombineArgs args) {
  constexpr int kWidth = sizeof(Vector) / sizeof(float);
  const int64_t row = blockIdx.x;
  const float gate = args.shared_gate != nullptr ? sigmoid(args.shared_gate[row]) : 1.0f;
  for (int64_t i = kWidth * threadIdx.x; i < args.hidden; i += kWidth * blockDim.x) {
    const int64_t at = row * args.hidden + i;
    const Vector residual = load_vector<Vector>(args.residual + at);
    Vector sum{};
    for (int first = 0; first < args.slots; first += kAhead) add_slots(args, row, first, i, sum);
    if (args.shared_out != nullptr) add_scaled(gate, load_vector<Vector>(args.shared_out + at), sum);
    store_vector(args.residual + at, sum_of(residual, sum));
  }
}

bool vectors(const CombineArgs& args) {  // rows start at 16 bytes
  bool aligned = args.hidden % 4 == 0;
  for (const float* rows : {args.slot_out, args.shared_out, static_cast<const float*>(args.residual)})
    aligned = aligned && reinterpret_cast<uintptr_t>(rows) % 16 == 0;
  return aligned;
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(combine)(const CombineArgs& args, const Device& device) {
  check(args);
  if (args.rows == 0) return;
  const bool vectors = gpu::vectors(args);
  const int64_t warps = (args.hidden / (vectors ? 4 : 1) + 31) / 32;
  gpu::launch(device,
              {.op = "combine",
               .blocks = gpu::blocks_for(args.rows, 1),
               .threads = static_cast<unsigned>(32 * std::clamp<int64_t>(warps, 1, gpu::kThreads / 32)),
               .shapes = {{"rows", args.rows}, {"slots", args.slots}, {"hidden", args.hidden}}},
              vectors ? gpu::combine_rows<float4> : gpu::combine_rows<float>, args);
}

}  // namespace eep
