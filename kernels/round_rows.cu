// round_rows.cu - eight elements a thread, 16 bytes out. Bound by memory: 6 bytes an element.
#include "kernels/gpu/gpu_math.h"
#include "kernels/gpu/half_pair.h"
#include "kernels/gpu/tile_schedule.h"
#include "kernels/round_rows.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 256;

// block: kThreads; grid: all pieces of all rows.
template <class Half>
__global__ void __launch_bounds__(kThreads)
    round_pieces(const __grid_constant__ RoundRowsArgs args, bool vectors) {
  const int64_t pieces = row_stride_16bit(args.width) / 8;
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= args.rows * pieces) return;
  const float* const row = args.x + at / pieces * args.width;
  float v[8];
  load_eight(row, static_cast<int>(at % pieces * 8), static_cast<int>(args.width), vectors, v);
  st_global_v4(args.out + 8 * at, {Half::pack(v[0], v[1]), Half::pack(v[2], v[3]), Half::pack(v[4], v[5]),
                                   Half::pack(v[6], v[7])});
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(round_rows)(const RoundRowsArgs& args, const Device& device) {
  check(args);
  const int64_t pieces = args.rows * row_stride_16bit(args.width) / 8;
  if (pieces == 0) return;
  const bool vectors = reinterpret_cast<uintptr_t>(args.x) % 16 == 0 && args.width % 4 == 0;
  gpu::launch(device,
              {.op = "round_rows",
               .blocks = gpu::blocks_for(pieces, gpu::kThreads),
               .threads = gpu::kThreads,
               .shapes = {{"rows", args.rows}, {"width", args.width}}},
              args.dtype == DType::kBF16 ? gpu::round_pieces<gpu::Bf16> : gpu::round_pieces<gpu::F16>, args,
              vectors);
}

}  // namespace eep
