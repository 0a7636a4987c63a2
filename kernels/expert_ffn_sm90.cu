// expert_ffn_sm90.cu - expert_ffn for Hopper: wgmma, fed by a producer warpgroup. Not confirmed on a GPU yet,
// and so never chosen by itself. Same contract as expert_ffn.cu.
//
// A block of three warpgroups has a tile of 128 rows x 256 weight rows, in steps of 64, four stages deep:
//   producer, one    A gathered as f32, one step ahead in registers, rounded into shared memory; B by TMA,
//                    two boxes of 128 weight rows a stage, which one thread asks for.
//   consumers, two   64 rows each, wgmma m64n256k16 from shared memory, and the epilogue of expert_ffn.cu
// mbarriers between them: full (the producer's 128 threads and the bytes of B) and empty (the consumers' 8
// warps) of each stage. Of gate and up a tile takes the same 128 rows, first gate's, then up's: the thread
// that holds column c of gate in d[c / 8] holds that of up in d[16 + c / 8]. Groups of every size take this
// one tile: wgmma need not add in the order of mma.sync, and a row's bits must not depend on the size of its
// group.
#include <type_traits>
#include <vector>

#include "kernels/expert_ffn_groups.h"
#include "kernels/gpu.h"
#include "kernels/mma_tile.h"
#include "kernels/ptx_sm90.h"
#include "kernels/tensor_map.h"
#include "kernels/tile_schedule.h"

namespace eep {
namespace EEP_GPU_NS {

struct HopperTile {
  static constexpr int kRows = 128, kColumns = 256, kDepth = 64, kStages = 4;
  static constexpr int kAElements = kRows * kDepth, kBElements = kColumns * kDepth;
  static constexpr int kBoxRows = kColumns / 2;  // of weights, a TMA instruction
  static constexpr int kProducers = 128, kThreads = 384;
  static EEP_HOST_DEVICE constexpr bool takes(int) { return true; }
};

namespace {

constexpr size_t kStageBytes = size_t{2} * (HopperTile::kAElements + HopperTile::kBElements);
// Stages start at multiples of 1024 bytes, as the swizzle of wgmma counts from there; then the barriers.
constexpr size_t kSharedBytes = 1024 + HopperTile::kStages * kStageBytes + 2 * HopperTile::kStages * 8;

// Where a group's matrices are in the tensors of all groups.
struct GroupPlanes {
  int32_t gate, up;  // of gate_up
  int32_t down;      // of down
};

struct HopperArgs {
  FfnArgs ffn;
  const GroupPlanes* planes;  // [groups]
  TensorMap weights;          // of gates and ups [planes, intermediate, hidden], or of downs
};

// kGateUp: h = silu(gate) * up from x; else down: y from h.
template <bool kGateUp>
struct Product {
  static __device__ int columns(const FfnArgs& args) { return kGateUp ? args.intermediate : args.hidden; }
  static __device__ int depth(const FfnArgs& args) { return kGateUp ? args.hidden : args.intermediate; }
  static constexpr int kColumns =
      kGateUp ? HopperTile::kColumns / 2 : HopperTile::kColumns;  // of out, a tile

  static __device__ const float* a_row(const FfnArgs& args, const GroupTile& tile, int row) {
    const int position = tile.begin + row;
    if (position >= tile.end) return nullptr;
    if (!kGateUp) return args.activation + static_cast<int64_t>(position) * args.intermediate;
    const int slot = args.order != nullptr ? args.order[position] : position;
    return args.x + static_cast<int64_t>(slot / args.slots) * args.hidden;
  }
};

#ifdef EEP_SM90A

struct Stages {
  uint16_t* tiles;  // [kStages] of A [128, 64] and B [256, 64], swizzled
  uint64_t* full;   // [kStages]
  uint64_t* empty;  // [kStages]

  __device__ uint16_t* a(int stage) const {
    return tiles + stage * (HopperTile::kAElements + HopperTile::kBElements);
  }
  __device__ uint16_t* b(int stage) const { return a(stage) + HopperTile::kAElements; }
};

template <class Half>
__device__ void wgmma(float (&d)[32][4], uint64_t a, uint64_t b, bool add) {
  if constexpr (std::is_same_v<Half, Bf16>) {
    wgmma_bf16(d, a, b, add);
  } else {
    wgmma_f16(d, a, b, add);
  }
}

template <bool kGateUp, class Half>
__device__ void produce(const HopperArgs& hopper, const Stages& stages) {
  using P = Product<kGateUp>;
  const FfnArgs& args = hopper.ffn;
  constexpr int kRowStep = HopperTile::kProducers / 8;
  constexpr int kShare = HopperTile::kRows / kRowStep;
  const int piece = threadIdx.x % 8, first_row = threadIdx.x / 8;  // rows first_row + kRowStep i
  const int k = P::depth(args);
  const int steps = static_cast<int>(ceil_div(k, HopperTile::kDepth));
  GroupWalk<HopperTile> walk{args, static_cast<int>(ceil_div(P::columns(args), P::kColumns))};
  int turn = 0;  // steps of all tiles so far
  for (int number = blockIdx.x;; number += gridDim.x) {
    const GroupTile tile = walk.find(number);
    if (tile.group < 0) break;
    const GroupPlanes planes = hopper.planes[tile.group];
    const int column = tile.column * P::kColumns;
    const float* a[kShare];
    for (int i = 0; i < kShare; ++i) a[i] = P::a_row(args, tile, first_row + kRowStep * i);
    float values[kShare][8];
    for (int i = 0; i < kShare; ++i) load_eight(a[i], 8 * piece, k, args.vectors, values[i]);

    for (int step = 0; step < steps; ++step, ++turn) {
      const int stage = turn % HopperTile::kStages;
      mbarrier_wait(stages.empty + stage, (turn / HopperTile::kStages + 1) % 2);
      if (threadIdx.x == 0) {
        uint64_t* const full = stages.full + stage;
        uint16_t* const b = stages.b(stage);
        const int at = step * HopperTile::kDepth;
        mbarrier_expect_tx(full, 2 * HopperTile::kBElements);
        cp_async_bulk_tensor_3d(b, &hopper.weights, at, column, kGateUp ? planes.gate : planes.down, full);
        cp_async_bulk_tensor_3d(b + HopperTile::kBElements / 2, &hopper.weights, at,
                                kGateUp ? column : column + HopperTile::kBoxRows,
                                kGateUp ? planes.up : planes.down, full);
      }
      const int next = (step + 1) * HopperTile::kDepth + 8 * piece;
#pragma unroll
      for (int i = 0; i < kShare; ++i) {
        const float(&v)[8] = values[i];
        st_shared_v4(
            stages.a(stage) + 8 * swizzled_piece<64>(first_row + kRowStep * i, piece),
            {Half::pack(v[0], v[1]), Half::pack(v[2], v[3]), Half::pack(v[4], v[5]), Half::pack(v[6], v[7])});
      }
      fence_proxy_async();
      mbarrier_arrive(stages.full + stage);
      // Behind the fence, which waits for loads that are under way as well.
#pragma unroll
      for (int i = 0; i < kShare; ++i) load_eight(a[i], next, k, args.vectors, values[i]);
    }
  }
}

template <bool kGateUp, class Half>
__device__ void consume(const FfnArgs& args, const Stages& stages) {
  using P = Product<kGateUp>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  const int warpgroup_row = (threadIdx.x - HopperTile::kProducers) / 128 * 64;
  const int columns = P::columns(args);
  const int steps = static_cast<int>(ceil_div(P::depth(args), HopperTile::kDepth));
  GroupWalk<HopperTile> walk{args, static_cast<int>(ceil_div(columns, P::kColumns))};
  int turn = 0;
  for (int number = blockIdx.x;; number += gridDim.x) {
    const GroupTile tile = walk.find(number);
    if (tile.group < 0) break;
    float d[32][4];
    for (int step = 0; step < steps; ++step, ++turn) {
      const int stage = turn % HopperTile::kStages;
      mbarrier_wait(stages.full + stage, turn / HopperTile::kStages % 2);
      const uint64_t a = wgmma_descriptor(stages.a(stage) + warpgroup_row * HopperTile::kDepth);
      const uint64_t b = wgmma_descriptor(stages.b(stage));
      wgmma_fence();
#pragma unroll
      for (int part = 0; part < HopperTile::kDepth / 16; ++part) {  // 32 bytes further each
        wgmma<Half>(d, a + 2 * part, b + 2 * part, step > 0 || part > 0);
      }
      wgmma_commit();
      if (step > 0) {  // the step before this one is read
        wgmma_wait<1>();
        if (lane == 0) mbarrier_arrive(stages.empty + (turn - 1) % HopperTile::kStages);
      }
    }
    wgmma_wait<0>();
    if (lane == 0) mbarrier_arrive(stages.empty + (turn - 1) % HopperTile::kStages);

#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int position = tile.begin + warpgroup_row + 16 * warp + lane / 4 + 8 * half;
      if (position >= tile.end) continue;
      const int column = tile.column * P::kColumns + lane % 4 * 2;
      if constexpr (kGateUp) {
        float* const h = args.activation + static_cast<int64_t>(position) * args.intermediate;
#pragma unroll
        for (int j = 0; j < 16; ++j) {
          const float *gate = &d[j][2 * half], *up = &d[j + 16][2 * half];
          const uint32_t pair = Half::pack(silu(gate[0]) * up[0], silu(gate[1]) * up[1]);
          store_pair(h, column + 8 * j, columns, args.pairs, Half::low(pair), Half::high(pair));
        }
      } else {
        const int slot = args.order != nullptr ? args.order[position] : position;
        float* const y = args.out + static_cast<int64_t>(slot) * args.hidden;
#pragma unroll
        for (int j = 0; j < 32; ++j) {
          store_pair(y, column + 8 * j, columns, args.pairs, d[j][2 * half], d[j][2 * half + 1]);
        }
      }
    }
  }
}

#endif

// block: HopperTile::kThreads; grid: any number of blocks, one a multiprocessor at a time.
template <bool kGateUp, class Half>
__global__ void __launch_bounds__(HopperTile::kThreads, 1) hopper(const __grid_constant__ HopperArgs args) {
#ifdef EEP_SM90A
  char* const shared = dynamic_shared<char>();
  const uint32_t misaligned = shared_address(shared) % 1024;
  char* const aligned = shared + (misaligned == 0 ? 0 : 1024 - misaligned);
  Stages stages;
  stages.tiles = reinterpret_cast<uint16_t*>(aligned);
  stages.full = reinterpret_cast<uint64_t*>(aligned + HopperTile::kStages * kStageBytes);
  stages.empty = stages.full + HopperTile::kStages;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < HopperTile::kStages; ++stage) {
      mbarrier_init(stages.full + stage, HopperTile::kProducers);
      mbarrier_init(stages.empty + stage, (HopperTile::kThreads - HopperTile::kProducers) / 32);
    }
    fence_proxy_async();
  }
  __syncthreads();
  // No setmaxnreg: both roles fit the 168 registers that a launch of 384 threads leaves each of them.
  if (threadIdx.x < HopperTile::kProducers) {
    produce<kGateUp, Half>(args, stages);
  } else {
    consume<kGateUp, Half>(args.ffn, stages);
  }
#else
  __trap();
#endif
}

template <bool kGateUp, class Half>
void launch_hopper(const Device& device, const HopperArgs& args) {
  const FfnArgs& ffn = args.ffn;
  launch(device,
         {"expert_ffn",
          static_cast<unsigned>(multiprocessors(device)),
          HopperTile::kThreads,
          kSharedBytes,
          {{"groups", ffn.group_count}, {"hidden", ffn.hidden}, {"intermediate", ffn.intermediate}}},
         hopper<kGateUp, Half>, args);
}

template <class Half>
void expert_ffn_hopper(const ExpertFfnArgs& args, const Device& device) {
  std::vector<const uint16_t*> gates_and_ups, downs;
  for (int32_t group = 0; group < args.groups; ++group) {
    const ExpertMatrices& expert = args.experts[group];
    gates_and_ups.push_back(static_cast<const uint16_t*>(expert.gate.data));
    gates_and_ups.push_back(static_cast<const uint16_t*>(expert.up.data));
    downs.push_back(static_cast<const uint16_t*>(expert.down.data));
  }
  const AddressSteps into_h = address_steps(
      gates_and_ups, 2 * static_cast<uint64_t>(args.intermediate * row_stride_16bit(args.hidden)));
  const AddressSteps out_of_h =
      address_steps(downs, 2 * static_cast<uint64_t>(args.hidden * row_stride_16bit(args.intermediate)));
  std::vector<GroupPlanes> planes;
  for (size_t group = 0; group < downs.size(); ++group) {
    planes.push_back({into_h.plane(gates_and_ups[2 * group]), into_h.plane(gates_and_ups[2 * group + 1]),
                      out_of_h.plane(downs[group])});
  }

  Staging staging(device);
  HopperArgs hopper{stage_groups(args, staging), staging.put(planes.data(), args.groups),
                    tensor_map(into_h, args.intermediate, args.hidden, HopperTile::kBoxRows)};
  hopper.ffn.vectors = rows_aligned(args.x, args.hidden, 16);
  hopper.ffn.pairs = rows_aligned(args.activation, args.intermediate, 8);
  launch_hopper<true, Half>(device, hopper);
  hopper.weights = tensor_map(out_of_h, args.hidden, args.intermediate, HopperTile::kBoxRows);
  hopper.ffn.vectors = rows_aligned(args.activation, args.intermediate, 16);
  hopper.ffn.pairs = rows_aligned(args.out, args.hidden, 8);
  launch_hopper<false, Half>(device, hopper);
}

}  // namespace
}  // namespace EEP_GPU_NS

bool GPU_OP(expert_ffn_sm90_supported)([[maybe_unused]] const Device& device) {
#ifdef __CUDACC__
  int major = 0;
  gpu::check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index), "device");
  return major == 9;
#else
  return true;
#endif
}

void GPU_OP(expert_ffn_sm90)(const ExpertFfnArgs& args, const Device& device) {
  if (!GPU_OP(expert_ffn_sm90_supported)(device)) {
    throw Error(ExitCode::kRuntime, "expert_ffn", "wgmma needs a device of compute capability 9.0");
  }
  if (args.groups == 0) return;
  if (args.experts[0].gate.dtype == DType::kBF16) {
    gpu::expert_ffn_hopper<gpu::Bf16>(args, device);
  } else {
    gpu::expert_ffn_hopper<gpu::F16>(args, device);
  }
}

}  // namespace eep
