// expert_ffn_sm90.cu - expert_ffn for Hopper: the tile of wgmma_tile.h over the groups' rows. The contract of
// expert_ffn.cu, with 16-bit rows between the products.
//
// x is rounded once into 16-bit rows, which gate_up gathers through `order`; h lies as 16-bit rows too, as
// down would round it. Of gate and up a tile takes the same 128 rows, first gate's, then up's: the thread
// that holds column c of gate in d[c / 8] holds that of up in d[16 + c / 8]. Groups of every size take this
// one tile: wgmma need not add in the order of mma.sync, and a row's bits must not depend on the size of its
// group.
#include <vector>

#include "kernels/expert_ffn_groups.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/mma_tile.h"
#include "kernels/gpu/tensor_map.h"
#include "kernels/gpu/tile_schedule.h"
#include "kernels/gpu/wgmma_tile.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

// Where a group's matrices are in the two tensors of all groups (AddressHalves).
struct GroupPlanes {
  int32_t gate, up;  // of gate_up
  int32_t down;      // of down
};

struct WgmmaFfnArgs {
  FfnArgs ffn;
  const uint16_t* x;          // [rows, row_stride_16bit(hidden)]
  uint16_t* h;                // [total, row_stride_16bit(intermediate)], sorted order
  const GroupPlanes* planes;  // [groups]
  TensorMap weights[2];       // of gates and ups [planes, intermediate, hidden], or of downs
};

// kGateUp: h = silu(gate) * up from x; else down: y from h.
template <bool kGateUp>
struct Product {
  static __device__ int columns(const FfnArgs& args) { return kGateUp ? args.intermediate : args.hidden; }
  static __device__ int depth(const FfnArgs& args) { return kGateUp ? args.hidden : args.intermediate; }
  static constexpr int kColumns = kGateUp ? WgmmaTile::kColumns / 2 : WgmmaTile::kColumns;  // of out, a tile
};

template <bool kGateUp>
struct FfnSource {
  const WgmmaFfnArgs& args;
  GroupTile tile;
  GroupPlanes planes;

  __device__ const uint16_t* a_row(int row) const {
    const FfnArgs& ffn = args.ffn;
    const int position = tile.begin + row;
    if (position >= tile.end) return nullptr;
    if (!kGateUp) return args.h + position * row_stride_16bit(ffn.intermediate);
    const int slot = ffn.order != nullptr ? ffn.order[position] : position;
    return args.x + slot / ffn.slots * row_stride_16bit(ffn.hidden);
  }
  __device__ const uint16_t* any_a() const { return kGateUp ? args.x : args.h; }
#ifdef EEP_SM90A
  __device__ void copy_b(uint16_t* b, int at, uint64_t* full) const {
    const int column = tile.column * Product<kGateUp>::kColumns;
    copy_box(b, at, column, kGateUp ? planes.gate : planes.down, full);
    copy_box(b + WgmmaTile::kBElements / 2, at, kGateUp ? column : column + WgmmaTile::kBoxRows,
             kGateUp ? planes.up : planes.down, full);
  }
  __device__ void copy_box(uint16_t* b, int at, int column, int32_t place, uint64_t* full) const {
    cp_async_bulk_tensor_3d(b, &args.weights[place % 2], at, column, place / 2, full);
  }
#endif
};

#ifdef EEP_SM90A

// Eight columns of h a lane: the lanes of a quad exchange their pairs of four blocks of columns.
template <class Half, bool kOther>
__device__ void store_h(const WgmmaFfnArgs& args, const GroupTile& tile,
                        const WgmmaConsumer<WgmmaTile, Half>& product) {
  const int first_column = tile.column * Product<true>::kColumns;
#pragma unroll
  for (int j = 0; j < 16; j += 4) {
    const int column = first_column + 8 * (j + threadIdx.x % 4);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int position = tile.begin + product.row() + 8 * half;
      uint32_t word[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if constexpr (kOther) __syncwarp();  // else all biases are loaded at once, and registers spill
        const float *gate = &product.d[j + c][2 * half], *up = &product.d[j + c + 16][2 * half];
        const int pair = first_column + 8 * (j + c) + threadIdx.x % 4 * 2;
        word[c] = unit_pair<Half, kOther>(args.ffn, tile.group, pair, gate, up);
      }
      const uint4 eight = transpose_quad(word[0], word[1], word[2], word[3]);
      if (position < tile.end && column < args.ffn.intermediate)
        st_global_v4(args.h + position * row_stride_16bit(args.ffn.intermediate) + column, eight);
    }
  }
}

template <class Half, bool kOther>
__device__ void store_y(const FfnArgs& args, const GroupTile& tile,
                        const WgmmaConsumer<WgmmaTile, Half>& product) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int position = tile.begin + product.row() + 8 * half;
    if (position >= tile.end) continue;
    const int column = tile.column * Product<false>::kColumns + threadIdx.x % 4 * 2;
    const int slot = args.order != nullptr ? args.order[position] : position;
    float* const y = args.out + static_cast<int64_t>(slot) * args.hidden;
#pragma unroll
    for (int j = 0; j < 32; ++j) {
      const float2 d = out_pair<Half, kOther>(args, tile.group, column + 8 * j, &product.d[j][2 * half]);
      store_pair(y, column + 8 * j, args.hidden, args.pairs, d.x, d.y);
    }
  }
}

template <bool kGateUp, class Half>
__device__ void produce(const WgmmaFfnArgs& args, const WgmmaStages<WgmmaTile>& stages) {
  using P = Product<kGateUp>;
  GroupWalk<WgmmaTile> walk{args.ffn, static_cast<int>(ceil_div(P::columns(args.ffn), P::kColumns))};
  WgmmaProducer<WgmmaTile> producer(stages);
  for (int number = blockIdx.x;; number += gridDim.x) {
    const GroupTile tile = walk.find(number);
    if (tile.group < 0) break;
    producer.feed(FfnSource<kGateUp>{args, tile, args.planes[tile.group]}, P::depth(args.ffn));
  }
  producer.finish();
}

template <bool kGateUp, class Half, bool kOther>
__device__ void consume(const WgmmaFfnArgs& args, const WgmmaStages<WgmmaTile>& stages) {
  using P = Product<kGateUp>;
  GroupWalk<WgmmaTile> walk{args.ffn, static_cast<int>(ceil_div(P::columns(args.ffn), P::kColumns))};
  WgmmaConsumer<WgmmaTile, Half> product(stages);
  for (int number = blockIdx.x;; number += gridDim.x) {
    const GroupTile tile = walk.find(number);
    if (tile.group < 0) break;
    product.multiply(P::depth(args.ffn));
    if constexpr (kGateUp) {
      store_h<Half, kOther>(args, tile, product);
    } else {
      store_y<Half, kOther>(args.ffn, tile, product);
    }
  }
}

#endif

// block: WgmmaTile::kThreads; grid: any number of blocks, one a multiprocessor at a time.
template <bool kGateUp, class Half, bool kOther>
__global__ void __launch_bounds__(WgmmaTile::kThreads, 1)
    ffn_wgmma(const __grid_constant__ WgmmaFfnArgs args) {
#ifdef EEP_SM90A
  const WgmmaStages<WgmmaTile> stages = wgmma_stages<WgmmaTile>();
  if (threadIdx.x < WgmmaTile::kProducers) {
    produce<kGateUp, Half>(args, stages);
  } else {
    consume<kGateUp, Half, kOther>(args, stages);
  }
#else
  __trap();
#endif
}

template <bool kGateUp, class Half, bool kOther>
void launch_ffn(const Device& device, const WgmmaFfnArgs& args) {
  const FfnArgs& ffn = args.ffn;
  launch(device,
         {"expert_ffn",
          static_cast<unsigned>(multiprocessors(device)),
          WgmmaTile::kThreads,
          WgmmaTile::kSharedBytes,
          {{"groups", ffn.group_count}, {"hidden", ffn.hidden}, {"intermediate", ffn.intermediate}}},
         ffn_wgmma<kGateUp, Half, kOther>, args);
}

template <class Half, bool kOther>
void expert_ffn_wgmma(const ExpertFfnArgs& args, const Device& device) {
  std::vector<const uint16_t*> gates_and_ups, downs;
  for (int32_t group = 0; group < args.groups; ++group) {
    const ExpertMatrices& expert = args.experts[group];
    gates_and_ups.push_back(static_cast<const uint16_t*>(expert.gate.data));
    gates_and_ups.push_back(static_cast<const uint16_t*>(expert.up.data));
    downs.push_back(static_cast<const uint16_t*>(expert.down.data));
  }
  const AddressHalves into_h = address_halves(
      gates_and_ups, 2 * static_cast<uint64_t>(args.intermediate * row_stride_16bit(args.hidden)));
  const AddressHalves out_of_h =
      address_halves(downs, 2 * static_cast<uint64_t>(args.hidden * row_stride_16bit(args.intermediate)));
  std::vector<GroupPlanes> planes;
  for (size_t group = 0; group < downs.size(); ++group) {
    planes.push_back({into_h.place(gates_and_ups[2 * group]), into_h.place(gates_and_ups[2 * group + 1]),
                      out_of_h.place(downs[group])});
  }

  Staging staging(device);
  WgmmaFfnArgs wgmma{};
  wgmma.ffn = stage_groups(args, staging);
  wgmma.planes = staging.put(planes.data(), args.groups);
  wgmma.h = reinterpret_cast<uint16_t*>(args.activation);
  wgmma.x = args.x16;
  for (int half : {0, 1})
    wgmma.weights[half] = tensor_map(into_h.half[half], args.intermediate, args.hidden, WgmmaTile::kBoxRows);
  launch_ffn<true, Half, kOther>(device, wgmma);
  for (int half : {0, 1})
    wgmma.weights[half] =
        tensor_map(out_of_h.half[half], args.hidden, args.intermediate, WgmmaTile::kBoxRows);
  wgmma.ffn.pairs = rows_aligned(args.out, args.hidden, 8);
  launch_ffn<false, Half, kOther>(device, wgmma);
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(expert_ffn_sm90)(const ExpertFfnArgs& args, const Device& device) {
  check(args);
  if (args.groups == 0) return;
  const bool bf16 = args.experts[0].gate.dtype == DType::kBF16;
  if (gpu::is_plain(args)) {
    (bf16 ? gpu::expert_ffn_wgmma<gpu::Bf16, false> : gpu::expert_ffn_wgmma<gpu::F16, false>)(args, device);
  } else {
    (bf16 ? gpu::expert_ffn_wgmma<gpu::Bf16, true> : gpu::expert_ffn_wgmma<gpu::F16, true>)(args, device);
  }
}

}  // namespace eep
