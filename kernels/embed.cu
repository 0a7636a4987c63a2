// embed.cu - out[row, :] = table[token[row], :], widened to f32; a block a row. The table's rows are as the
// checkpoint has them, not padded.
#include "kernels/embed.h"
#include "kernels/gpu/gpu_math.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 128;

__device__ float widen(float value) { return value; }
__device__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ float widen(__half value) { return __half2float(value); }

template <typename T>
__global__ void __launch_bounds__(kThreads) embed_rows(const T* table,        // [vocab, hidden]
                                                       const int32_t* token,  // [rows]
                                                       int64_t hidden,
                                                       float* out) {  // [rows, hidden]
  const T* const source = table + token[blockIdx.x] * hidden;
  float* const row = out + blockIdx.x * hidden;
  for (int64_t i = threadIdx.x; i < hidden; i += kThreads) row[i] = widen(source[i]);
}

template <typename T>
void embed_as(const EmbedArgs& args, const Device& device) {
  const int64_t hidden = args.table.dim(1);
  Staging staging(device);
  launch(device,
         {.op = "embed",
          .blocks = blocks_for(args.rows, 1),
          .threads = kThreads,
          .shapes = {{"rows", args.rows}, {"hidden", hidden}}},
         embed_rows<T>, args.table.as<const T>(), staging.put(args.token, args.rows), hidden, args.out);
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(embed)(const EmbedArgs& args, const Device& device) {
  check(args);
  if (args.rows == 0) return;
  switch (args.table.dtype) {
    case DType::kBF16:
      return gpu::embed_as<__nv_bfloat16>(args, device);
    case DType::kF16:
      return gpu::embed_as<__half>(args, device);
    default:
      return gpu::embed_as<float>(args, device);
  }
}

}  // namespace eep
