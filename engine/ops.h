// Ops: the backend seam. A table of functions over the argument structs of kernels/, one row a backend; the
// engine is written once over it.
#pragma once

#include <functional>
#include <string>

#include "kernels/attention.h"
#include "kernels/clamp.h"
#include "kernels/combine.h"
#include "kernels/common/device.h"
#include "kernels/common/timer.h"
#include "kernels/dispatch.h"
#include "kernels/embed.h"
#include "kernels/expert_ffn.h"
#include "kernels/expert_merge.h"
#include "kernels/expert_stats.h"
#include "kernels/gemm.h"
#include "kernels/gemm_bf16.h"
#include "kernels/gpu/gpu_beside.h"
#include "kernels/gpu/gpu_memory.h"
#include "kernels/gpu/gpu_range.h"
#include "kernels/kv_scatter.h"
#include "kernels/noise.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/round_rows.h"
#include "kernels/router.h"
#include "kernels/score.h"

namespace eep {

// Of the CPU's matrix products: f32, or bf16 with f32 sums (gemm_bf16.h). A GPU has the one that its weights'
// dtype says.
enum class Precision : uint8_t { kF32, kBf16 };

struct Ops {
  const char* name;
  bool host_memory;  // the device's memory is the host's: mapped files need no copy

  // Memory of the device, where activations, weights, keys and values lie. Lists that the engine makes
  // (tokens, positions, indices, plans) are host memory; each op's header says which argument is which.
  void* (*allocate)(size_t bytes, const Device&);
  void (*release)(void* memory, const Device&);
  void (*upload)(void* to, const void* from, size_t bytes, const Device&);
  void (*download)(void* to, const void* from, size_t bytes, const Device&);
  void (*copy)(void* to, const void* from, size_t bytes, const Device&);  // within the device
  void (*clear)(void* memory, size_t bytes, const Device&);
  DeviceMemory (*memory)(const Device&);  // zeros: the host's
  // Rows that an op should see at once where memory allows it (memory_plan.h): on the CPU what its caches
  // hold, on a GPU so many that weights are read, and merged, for as many rows as can be.
  int64_t (*block_rows)(int64_t experts, int64_t top_k);

  // Weights that do not fit the device wait in such host memory and are copied while earlier layers compute
  // (gpu_memory.h); null where the device's memory is the host's.
  void* (*allocate_host)(size_t bytes, const Device&);
  void (*release_host)(void* memory, const Device&);
  void (*upload_ahead)(void* to, const void* from, size_t bytes, int slot, const Device&);
  void (*await_upload)(int slot, const Device&);

  // Work beside other work of the device (gpu_beside.h); null where there is nothing to overlap.
  Device (*fork_beside)(const Device&);
  void (*join_beside)(const Device&);

  // Names over what is asked of the device, for profilers (gpu_range.h); null where none would show them.
  void (*begin_range)(const char* name, const Device&);
  void (*end_range)(const Device&);

  // Weights in the backend's layout, and the dtype that a checkpoint's becomes.
  DType (*weight_dtype)(DType dtype);
  size_t (*packed_bytes)(int64_t n, int64_t k, DType dtype);
  PackedMatrix (*pack)(const void* source, int64_t n, int64_t k, int64_t row_stride, int64_t column_stride,
                       DType dtype, void* destination, const Device&);
  // A router's matrix, where its layout is not that of the others; else null.
  size_t (*router_bytes)(int64_t n, int64_t k, DType dtype);
  PackedMatrix (*pack_router)(const void* source, int64_t n, int64_t k, int64_t row_stride,
                              int64_t column_stride, DType dtype, void* destination, const Device&);
  // The same layout in memory of allocate_host.
  PackedMatrix (*pack_host)(const void* source, int64_t n, int64_t k, int64_t row_stride,
                            int64_t column_stride, DType dtype, void* destination);

  // Rows as products read them, where these want 16 bits (GemmArgs::x16); else null.
  void (*round_rows)(const RoundRowsArgs&, const Device&);
  void (*embed)(const EmbedArgs&, const Device&);
  void (*rmsnorm)(const RmsNormArgs&, const Device&);
  void (*gemm)(const GemmArgs&, const Device&);
  void (*rope)(const RopeArgs&, const Device&);
  void (*clamp)(const ClampArgs&, const Device&);
  void (*kv_scatter)(const KvScatterArgs&, const Device&);
  void (*attention)(const AttentionArgs&, const Device&);
  void (*router)(const RouterArgs&, const Device&);
  void (*dispatch)(const DispatchArgs&, const Device&);
  void (*expert_merge)(const ExpertMergeArgs&, const Device&);
  void (*expert_ffn)(const ExpertFfnArgs&, const Device&);
  void (*combine)(const CombineArgs&, const Device&);
  void (*score)(const ScoreArgs&, const Device&);
  void (*expert_stats)(const ExpertStatsArgs&, const Device&);

  // For benchmarks: synthetic weights, and the device's time for the work that is given to it.
  void (*noise)(const NoiseArgs&, const Device&);
  double (*seconds)(const std::function<void()>& work, const Device&);
};

// A row of ops and where it runs. Weights own one: what a backend has packed, no other computes with.
struct Backend {
  Backend(const Ops& row, const Device& where = {})
      : ops(&row), device(where) {}  // NOLINT: a row alone is one, too

  const Ops* ops;
  Device device;
};

// The CPU, with products of a precision: two rows that differ in them, in how weights are packed, and so in
// bits.
const Ops& cpu_ops(Precision precision = Precision::kF32);
// The kernels of the CUDA row, run on the host by kernels/simt: for tests, not for speed.
const Ops& simt_ops();
// Throws Error(kRuntime) where this build has no CUDA backend.
const Ops& cuda_ops();
bool cuda_built();

// CUDA devices that this build can use here, and their names; opening one takes its stream and staging
// memory, which live as long as the process.
int cuda_device_count();
std::string cuda_device_text(int index);
Device open_device_cuda(int index);

}  // namespace eep
