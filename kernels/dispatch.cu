// dispatch.cu - a stable counting sort of token slots by expert group, in three passes over chunks of slots:
//   count[chunk, group]; first[chunk, group] = slots of lower groups + those of earlier chunks; place.
//
// A chunk belongs to one warp, which walks it 32 slots at a time; lanes of equal group find each other by
// match_any, so a slot's place is the chunk's next free one plus the number of lower lanes in its group.
// Integers only, no order of arrival. Its bytes, about 12 a slot, are a thousandth of the experts' own.
#include <algorithm>
#include <climits>

#include "kernels/dispatch.h"
#include "kernels/gpu_math.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kScanThreads = 256;
constexpr int64_t kMinChunk = 256, kMaxChunks = 512;

struct SortArgs {
  DispatchArgs dispatch;  // with its tables in device memory
  int64_t chunk;          // slots of a chunk, a multiple of 32
  int32_t chunks;
  int32_t* first;  // [chunks, groups] counts, then the next free position
};

// The group of a slot, -1 if it has none.
__device__ int group_of_slot(const DispatchArgs& args, int64_t slot) {
  const int expert = args.expert[slot];
  if (expert < 0) return -1;
  const int64_t map = args.map_of_row != nullptr ? args.map_of_row[slot / args.slots] : 0;
  return args.group_of[map * args.group_stride + expert];
}

__device__ int32_t& first_of_source(const DispatchArgs& args, int64_t slot, int group) {
  return args.first_slot[static_cast<int64_t>(args.source_row[slot / args.slots]) * args.groups + group];
}

// first_slot[source, group] = none
__global__ void clear_sources(const __grid_constant__ SortArgs args) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < static_cast<int64_t>(args.dispatch.sources) * args.dispatch.groups)
    args.dispatch.first_slot[i] = INT_MAX;
}
// ... = its lowest slot
__global__ void find_sources(const __grid_constant__ SortArgs args) {
  const int64_t slot = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (slot >= args.dispatch.rows * args.dispatch.slots) return;
  const int group = group_of_slot(args.dispatch, slot);
  if (group >= 0) atomicMin(&first_of_source(args.dispatch, slot, group), static_cast<int>(slot));
}
__global__ void share_sources(const __grid_constant__ SortArgs args) {
  const int64_t slot = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (slot >= args.dispatch.rows * args.dispatch.slots) return;
  const int group = group_of_slot(args.dispatch, slot);
  if (group >= 0) args.dispatch.slot_row[slot] = first_of_source(args.dispatch, slot, group);
}

// Counts the slots of each chunk by group, or gives them their places. block: a warp; grid: chunks.
template <bool kPlace>
__global__ void __launch_bounds__(32) sort_chunks(const __grid_constant__ SortArgs args) {
  const DispatchArgs& dispatch = args.dispatch;
  const int lane = threadIdx.x;
  int32_t* const next = args.first + int64_t{blockIdx.x} * dispatch.groups;
  if (!kPlace) {
    for (int group = lane; group < dispatch.groups; group += 32) next[group] = 0;
    __syncwarp();
  }
  const int64_t begin = blockIdx.x * args.chunk,
                end = min(begin + args.chunk, dispatch.rows * dispatch.slots);
  for (int64_t base = begin; base < end; base += 32) {
    const int64_t slot = base + lane;
    int group = slot < end ? group_of_slot(dispatch, slot) : -1;
    if (group >= 0 && dispatch.source_row != nullptr && dispatch.slot_row[slot] != slot)
      group = -1;  // shares another's
    const unsigned peers = __match_any_sync(~0u, group);
    const int before = __popc(peers & ((1u << lane) - 1));
    if (kPlace && group >= 0) dispatch.order[next[group] + before] = static_cast<int32_t>(slot);
    __syncwarp();  // all have read `next` before the first of each group moves it on
    if (group >= 0 && before == 0) next[group] += __popc(peers);
    __syncwarp();
  }
}

// offset and first from the counts. One block: groups are few; every thread sums a contiguous range of
// groups, the ranges are scanned in shared memory.
__global__ void __launch_bounds__(kScanThreads) scan_groups(const __grid_constant__ SortArgs args) {
  const int groups = args.dispatch.groups, t = threadIdx.x;
  const int share = (groups + kScanThreads - 1) / kScanThreads;
  const int begin = min(groups, t * share), end = min(groups, begin + share);
  int total = 0;
  for (int group = begin; group < end; ++group) {
    for (int chunk = 0; chunk < args.chunks; ++chunk)
      total += args.first[static_cast<int64_t>(chunk) * groups + group];
  }
  int* const totals = gpu::dynamic_shared<int>();  // [kScanThreads]
  totals[t] = total;
  __syncthreads();
  for (int distance = 1; distance < kScanThreads; distance *= 2) {
    const int earlier = t >= distance ? totals[t - distance] : 0;
    __syncthreads();  // all have read before any writes
    totals[t] += earlier;
    __syncthreads();
  }
  int position = totals[t] - total;
  for (int group = begin; group < end; ++group) {
    args.dispatch.offset[group] = position;
    for (int chunk = 0; chunk < args.chunks; ++chunk) {
      int32_t& first = args.first[static_cast<int64_t>(chunk) * groups + group];
      const int count = first;
      first = position;
      position += count;
    }
  }
  if (t == kScanThreads - 1) args.dispatch.offset[groups] = position;
}

void sort(const DispatchArgs& args, const Device& device) {
  const int64_t slots = args.rows * args.slots, groups = std::max(args.groups, 1);
  const int64_t table = static_cast<int64_t>(kScratchBytes / sizeof(int32_t)) / groups;
  const int64_t chunks =
      std::clamp<int64_t>(slots / kMinChunk, 1, std::max<int64_t>(1, std::min(kMaxChunks, table)));
  Staging staging(device);
  SortArgs sorted;
  sorted.dispatch = args;
  sorted.dispatch.map_of_row = staging.put(args.map_of_row, args.rows);
  sorted.dispatch.source_row = staging.put(args.source_row, args.rows);
  int64_t maps = 1;
  if (args.map_of_row != nullptr && args.rows > 0)
    maps = *std::max_element(args.map_of_row, args.map_of_row + args.rows) + int64_t{1};
  sorted.dispatch.group_of = staging.put(args.group_of, maps * args.group_stride);
  sorted.chunk = ((slots + chunks - 1) / chunks + 31) / 32 * 32;
  sorted.chunks = static_cast<int32_t>(chunks);
  sorted.first = staging.scratch<int32_t>(chunks * groups);
  const auto start = [&](void (*kernel)(SortArgs), unsigned blocks, unsigned threads, size_t shared_bytes) {
    launch(device,
           {.op = "dispatch",
            .blocks = blocks,
            .threads = threads,
            .shared_bytes = shared_bytes,
            .shapes = {{"rows", args.rows}, {"slots", args.slots}, {"groups", args.groups}}},
           kernel, sorted);
  };
  if (args.source_row != nullptr && slots > 0) {
    start(clear_sources, blocks_for(args.sources * groups, 256), 256, 0);
    start(find_sources, blocks_for(slots, 256), 256, 0);
    start(share_sources, blocks_for(slots, 256), 256, 0);
  }
  start(sort_chunks<false>, static_cast<unsigned>(chunks), 32, 0);
  start(scan_groups, 1, kScanThreads, kScanThreads * sizeof(int));
  start(sort_chunks<true>, static_cast<unsigned>(chunks), 32, 0);
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(dispatch)(const DispatchArgs& args, const Device& device) { gpu::sort(args, device); }

}  // namespace eep
