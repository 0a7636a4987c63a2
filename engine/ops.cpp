// The rows of the backend table.
#include "engine/ops.h"

#include <algorithm>

#include "engine/kernel_path.h"
#include "kernels/common/error.h"
#include "kernels/cpu/cpu_memory.h"
#include "kernels/gpu/gpu_memory.h"
#include "kernels/gpu/gpu_pack.h"

namespace eep {
namespace {

PackedMatrix pack_cpu(const void* source, int64_t n, int64_t k, int64_t row_stride, int64_t column_stride,
                      DType dtype, void* destination, const Device&) {
  return gemm_pack_cpu(source, n, k, row_stride, column_stride, dtype, destination);
}

// A matrix whose rows of x come in 16 bits goes to the one, another (of another dtype than the layers') to
// the other: always the same for a matrix.
template <typename Args, void (*kFrom16Bit)(const Args&, const Device&),
          void (*kFromF32)(const Args&, const Device&)>
void by_rows_16bit(const Args& args, const Device& device) {
  (args.x16 != nullptr ? kFrom16Bit : kFromF32)(args, device);
}

// Rows that fill the expert GEMMs (about 64 a base expert) without pushing the block's intermediates out of
// the caches.
int64_t block_rows_cpu(int64_t experts, int64_t top_k) {
  return std::clamp<int64_t>(64 * std::max<int64_t>(experts, 1) / std::max<int64_t>(top_k, 1), 2048, 4096);
}

// Every block reads all experts and every chunk merges all experts again: at 32768 rows Qwen3-30B-A3B
// multiplies for 2048 rows an expert, fifty times as long as an H100 reads it.
int64_t block_rows_gpu(int64_t, int64_t) { return 32768; }

}  // namespace

namespace {

const Ops& cpu_f32_ops() {
  static const Ops ops{
      .name = "cpu",
      .host_memory = true,
      .allocate = allocate_cpu,
      .release = release_cpu,
      .upload = upload_cpu,
      .download = download_cpu,
      .copy = copy_cpu,
      .clear = clear_cpu,
      .memory = [](const Device&) { return DeviceMemory{}; },
      .block_rows = block_rows_cpu,
      .allocate_host = nullptr,
      .release_host = nullptr,
      .upload_ahead = nullptr,
      .await_upload = nullptr,
      .fork_beside = nullptr,
      .join_beside = nullptr,
      .begin_range = nullptr,
      .end_range = nullptr,
      .weight_dtype = [](DType dtype) { return dtype; },
      .packed_bytes = gemm_packed_bytes,
      .pack = pack_cpu,
      .router_bytes = nullptr,
      .pack_router = nullptr,
      .pack_host = nullptr,
      .round_rows = nullptr,
      .embed = embed_cpu,
      .rmsnorm = rmsnorm_cpu,
      .gemm = gemm_cpu,
      .rope = rope_cpu,
      .clamp = clamp_cpu,
      .kv_scatter = kv_scatter_cpu,
      .attention = attention_cpu,
      .router = router_cpu,
      .dispatch = dispatch_cpu,
      .expert_merge = expert_merge_cpu,
      .expert_ffn = expert_ffn_cpu,
      .combine = combine_cpu,
      .score = score_cpu,
      .expert_stats = expert_stats_cpu,
      .noise = noise_cpu,
      .seconds = seconds_cpu,
  };
  return ops;
}

// Products of bf16 rows and weights. A router's stays f32 over the checkpoint's own values: near-ties decide
// which experts run.
const Ops& cpu_bf16_ops() {
  static const Ops ops = [] {
    Ops row = cpu_f32_ops();
    row.weight_dtype = [](DType) { return DType::kBF16; };
    row.packed_bytes = gemm_bf16_packed_bytes;
    row.pack = [](const void* source, int64_t n, int64_t k, int64_t row_stride, int64_t column_stride,
                  DType dtype, void* destination, const Device&) {
      return gemm_bf16_pack_cpu(source, n, k, row_stride, column_stride, dtype, destination);
    };
    row.router_bytes = gemm_packed_bytes;
    row.pack_router = pack_cpu;
    row.round_rows = round_rows_cpu;
    row.gemm = gemm_bf16_cpu;
    row.expert_ffn = expert_ffn_bf16_cpu;
    row.score = score_bf16_cpu;
    return row;
  }();
  return ops;
}

}  // namespace

const Ops& cpu_ops(Precision precision) {
  return precision == Precision::kBf16 ? cpu_bf16_ops() : cpu_f32_ops();
}

// One row for each of the two builds of the kernel files.
#define EEP_GPU_ROW(row)                                                                                    \
  {                                                                                                         \
    .name = #row, .host_memory = false, .allocate = allocate_##row, .release = release_##row,               \
    .upload = upload_##row, .download = download_##row, .copy = copy_##row, .clear = clear_##row,           \
    .memory = memory_##row, .block_rows = block_rows_gpu, .allocate_host = allocate_host_##row,             \
    .release_host = release_host_##row, .upload_ahead = upload_ahead_##row,                                 \
    .await_upload = await_upload_##row, .fork_beside = fork_beside_##row, .join_beside = join_beside_##row, \
    .begin_range = begin_range_##row, .end_range = end_range_##row, .weight_dtype = gpu_weight_dtype,       \
    .packed_bytes = gpu_packed_bytes, .pack = pack_##row, .router_bytes = nullptr, .pack_router = nullptr,  \
    .pack_host = gpu_pack_host, .round_rows = nullptr, .embed = embed_##row, .rmsnorm = rmsnorm_##row,      \
    .gemm = gemm_##row, .rope = rope_##row, .clamp = clamp_##row, .kv_scatter = kv_scatter_##row,           \
    .attention = attention_##row, .router = router_##row, .dispatch = dispatch_##row,                       \
    .expert_merge = expert_merge_##row, .expert_ffn = expert_ffn_##row, .combine = combine_##row,           \
    .score = score_##row, .expert_stats = expert_stats_##row, .noise = noise_##row,                         \
    .seconds = seconds_##row,                                                                               \
  }

const Ops& simt_ops() {
  static const Ops ops = [] {
    Ops row EEP_GPU_ROW(simt);
    if (wgmma_chosen(/*supported=*/true, /*automatic=*/false)) {
      row.round_rows = round_rows_simt;
      row.expert_ffn = by_rows_16bit<ExpertFfnArgs, expert_ffn_sm90_simt, expert_ffn_simt>;
      row.gemm = by_rows_16bit<GemmArgs, gemm_sm90_simt, gemm_simt>;
    }
    return row;
  }();
  return ops;
}

#ifdef EEP_HAVE_CUDA
bool cuda_built() { return true; }
int cuda_device_count() { return device_count_cuda(); }
std::string cuda_device_text(int index) { return device_text_cuda(index); }
Device open_device_cuda(int index) { return open_cuda(index); }
const Ops& cuda_ops() {
  static const Ops ops = [] {
    Ops row EEP_GPU_ROW(cuda);
    if (wgmma_chosen(wgmma_supported_cuda(), /*automatic=*/true)) {
      row.round_rows = round_rows_cuda;
      row.expert_ffn = by_rows_16bit<ExpertFfnArgs, expert_ffn_sm90_cuda, expert_ffn_cuda>;
      row.gemm = by_rows_16bit<GemmArgs, gemm_sm90_cuda, gemm_cuda>;
    }
    return row;
  }();
  return ops;
}
#else
bool cuda_built() { return false; }
int cuda_device_count() { return 0; }
std::string cuda_device_text(int) { return ""; }
Device open_device_cuda(int) {
  cuda_ops();  // throws
  return {};
}
const Ops& cuda_ops() {
  throw Error(ExitCode::kRuntime, "--device cuda", "this build has no CUDA backend", "use --device cpu");
}
#endif
#undef EEP_GPU_ROW

}  // namespace eep
