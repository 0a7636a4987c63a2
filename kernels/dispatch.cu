// dispatch.cu - a stable counting sort of token slots by expert group, over chunks of slots, a block each:
//   count[group, chunk]; first[group, chunk] = slots of earlier chunks; offset[group] = slots of lower
//   groups; place.
//
// A warp places a contiguous share of its chunk, 32 slots at a time, with the next free place of every group
// in a table of its own in shared memory; lanes of equal group find each other by ballots, a bit of the group
// each, so a slot's place is the next free one plus the number of lower lanes in its group. Integers only, no
// order of arrival. Bytes: 12 a slot, and 4 again from L1; a thousandth of the experts' own.
#include <algorithm>
#include <bit>
#include <climits>

#include "kernels/dispatch.h"
#include "kernels/gpu/gpu_math.h"

namespace eep {
namespace EEP_GPU_NS {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kAhead = 4;  // slots of a thread whose groups are read together
constexpr int64_t kMinChunk = 512, kMaxChunks = 2048;
constexpr int64_t kTableInts = (48 << 10) / sizeof(int32_t);  // of a block, in shared memory

struct SortArgs {
  DispatchArgs dispatch;  // with its tables in device memory
  unsigned slots;         // of all rows
  unsigned chunk;         // slots of a chunk, a multiple of 32 for each warp that places them
  int32_t chunks;
  int32_t group_bits;  // that tell all groups and -1 apart
  int32_t* first;      // [groups, chunks] counts, then slots of earlier chunks in the group
};

// The group of a slot, -1 if it has none.
__device__ int group_of_slot(const DispatchArgs& args, unsigned slot) {
  const int expert = args.expert[slot];
  if (expert < 0) return -1;
  const int32_t* group_of = args.group_of;
  if (args.map_of_row != nullptr)
    group_of +=
        static_cast<int64_t>(args.map_of_row[slot / static_cast<unsigned>(args.slots)]) * args.group_stride;
  return group_of[expert];
}

__device__ int32_t& first_of_source(const DispatchArgs& args, unsigned slot, int group) {
  const int64_t source = args.source_row[slot / static_cast<unsigned>(args.slots)];
  return args.first_slot[source * args.groups + group];
}

// first_slot[source, group] = none
__global__ void clear_sources(const __grid_constant__ SortArgs args) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < static_cast<int64_t>(args.dispatch.sources) * args.dispatch.groups)
    args.dispatch.first_slot[i] = INT_MAX;
}
// ... = its lowest slot
__global__ void find_sources(const __grid_constant__ SortArgs args) {
  const unsigned slot = blockIdx.x * blockDim.x + threadIdx.x;
  if (slot >= args.slots) return;
  const int group = group_of_slot(args.dispatch, slot);
  if (group >= 0) atomicMin(&first_of_source(args.dispatch, slot, group), static_cast<int>(slot));
}
__global__ void share_sources(const __grid_constant__ SortArgs args) {
  const unsigned slot = blockIdx.x * blockDim.x + threadIdx.x;
  if (slot >= args.slots) return;
  const int group = group_of_slot(args.dispatch, slot);
  if (group >= 0) args.dispatch.slot_row[slot] = first_of_source(args.dispatch, slot, group);
}

// The groups of slots first, first + step, ..., -1 for those that order does not list: none, or it shares an
// earlier one's.
__device__ void listed_groups(const SortArgs& args, unsigned first, unsigned step, unsigned end,
                              int (&group)[kAhead]) {
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const unsigned slot = first + i * step;
    group[i] = slot < end ? group_of_slot(args.dispatch, slot) : -1;
    if (group[i] >= 0 && args.dispatch.source_row != nullptr &&
        args.dispatch.slot_row[slot] != static_cast<int>(slot))
      group[i] = -1;
  }
}

// counts[group stride] += slots of a range in the group, by `threads` threads of which this is `thread`.
__device__ void count_slots(const SortArgs& args, unsigned begin, unsigned end, unsigned thread,
                            unsigned threads, int32_t* counts, int64_t stride) {
  for (unsigned slot = begin + thread; slot < end; slot += kAhead * threads) {
    int group[kAhead];
    listed_groups(args, slot, threads, end, group);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (group[i] >= 0) atomicAdd(&counts[group[i] * stride], 1);
    }
  }
}

// block: kThreads, grid: chunks. kTable: the counts are in shared memory first.
template <bool kTable>
__global__ void __launch_bounds__(kThreads) count_chunks(const __grid_constant__ SortArgs args) {
  const int groups = args.dispatch.groups;
  int32_t* const column = args.first + blockIdx.x;
  int32_t* const counts = kTable ? gpu::dynamic_shared<int32_t>() : column;
  const int64_t stride = kTable ? 1 : args.chunks;
  for (int group = threadIdx.x; group < groups; group += kThreads) counts[group * stride] = 0;
  __syncthreads();  // all counts are zero
  const unsigned begin = blockIdx.x * args.chunk, end = min(begin + args.chunk, args.slots);
  count_slots(args, begin, end, threadIdx.x, kThreads, counts, stride);
  if (!kTable) return;
  __syncthreads();  // all slots are counted
  for (int group = threadIdx.x; group < groups; group += kThreads)
    column[static_cast<int64_t>(group) * args.chunks] = counts[group];
}

// Every count of a row becomes the sum of those before it; the sum of all is returned. A block of kThreads:
// every thread has a contiguous range.
__device__ int scan_row(int32_t* row, int count) {
  int* const sums = gpu::dynamic_shared<int>();  // [kWarps]
  const int share = (count + kThreads - 1) / kThreads, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int begin = min(count, static_cast<int>(threadIdx.x) * share), end = min(count, begin + share);
  int own = 0;
  for (int i = begin; i < end; ++i) own += row[i];
  int until = own;
  for (int distance = 1; distance < 32; distance *= 2) {
    const int earlier = __shfl_up_sync(~0u, until, distance);
    if (lane >= distance) until += earlier;
  }
  if (lane == 31) sums[warp] = until;
  __syncthreads();  // the sums of all warps
  int total = 0, position = until - own;
  for (int i = 0; i < kWarps; ++i) {
    if (i < warp) position += sums[i];
    total += sums[i];
  }
  for (int i = begin; i < end; ++i) {
    const int here = row[i];
    row[i] = position;
    position += here;
  }
  return total;
}

// grid: groups; offset[group] = slots of the group
__global__ void __launch_bounds__(kThreads) scan_chunks(const __grid_constant__ SortArgs args) {
  const int total = scan_row(args.first + int64_t{blockIdx.x} * args.chunks, args.chunks);
  if (threadIdx.x == 0) args.dispatch.offset[blockIdx.x] = total;
}
// ... = slots of the groups before it
__global__ void __launch_bounds__(kThreads) scan_groups(const __grid_constant__ SortArgs args) {
  const int total = scan_row(args.dispatch.offset, args.dispatch.groups);
  if (threadIdx.x == 0) args.dispatch.offset[args.dispatch.groups] = total;
}

// The lanes whose group is this lane's.
__device__ unsigned lanes_of_group(int group, int bits) {
  unsigned peers = ~0u;
  for (int bit = 0; bit < bits; ++bit) {
    const bool set = (group >> bit & 1) != 0;
    const unsigned with = __ballot_sync(~0u, set);
    peers &= set ? with : ~with;
  }
  return peers;
}

// Slots of a range to their places, by a warp: next[group stride] is the group's next free one.
__device__ void place_slots(const SortArgs& args, unsigned begin, unsigned end, int32_t* next,
                            int64_t stride) {
  const unsigned lane = threadIdx.x % 32;
  for (unsigned base = begin; base < end; base += 32 * kAhead) {
    int groups[kAhead];
    listed_groups(args, base + lane, 32, end, groups);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int group = groups[i];
      const unsigned peers = lanes_of_group(group, args.group_bits);
      const int before = __popc(peers & ((1u << lane) - 1));
      if (group >= 0)
        args.dispatch.order[next[group * stride] + before] = static_cast<int32_t>(base + 32 * i + lane);
      __syncwarp();  // all have read `next` before the first of each group moves it on
      if (group >= 0 && before == 0) next[group * stride] += __popc(peers);
      __syncwarp();
    }
  }
}

// grid: chunks. kTable: a table a warp in shared memory, [warps, groups]; else one warp, its table in
// `first`.
template <bool kTable>
__global__ void __launch_bounds__(kThreads) place_chunks(const __grid_constant__ SortArgs args) {
  const int groups = args.dispatch.groups, warps = blockDim.x / 32, warp = threadIdx.x / 32;
  const unsigned share = args.chunk / warps, chunk_begin = blockIdx.x * args.chunk;
  const unsigned begin = min(chunk_begin + warp * share, args.slots), end = min(begin + share, args.slots);
  int32_t* const column = args.first + blockIdx.x;
  if (!kTable) {
    for (int group = threadIdx.x; group < groups; group += 32)
      column[static_cast<int64_t>(group) * args.chunks] += args.dispatch.offset[group];
    __syncwarp();
    return place_slots(args, begin, end, column, args.chunks);
  }
  int32_t* const tables = gpu::dynamic_shared<int32_t>();
  int32_t* const own = tables + warp * groups;
  for (int group = threadIdx.x % 32; group < groups; group += 32) own[group] = 0;
  __syncwarp();  // its counts are zero
  count_slots(args, begin, end, threadIdx.x % 32, 32, own, 1);
  __syncthreads();  // all warps have counted
  for (int group = threadIdx.x; group < groups; group += blockDim.x) {
    int position = args.dispatch.offset[group] + column[static_cast<int64_t>(group) * args.chunks];
    for (int i = 0; i < warps; ++i) {
      const int count = tables[i * groups + group];
      tables[i * groups + group] = position;
      position += count;
    }
  }
  __syncthreads();  // the first places of all warps
  place_slots(args, begin, end, own, 1);
}

void sort(const DispatchArgs& args, const Device& device) {
  const int64_t slots = args.rows * args.slots, groups = std::max(args.groups, 1);
  const int64_t warps = std::clamp<int64_t>(kTableInts / groups, 1, kWarps);
  const bool table = groups <= kTableInts;
  const int64_t scratch = static_cast<int64_t>(kScratchBytes / sizeof(int32_t)) / groups;
  const int64_t most_chunks = std::clamp<int64_t>(slots / std::max(kMinChunk, groups), 1,
                                                  std::max<int64_t>(1, std::min(kMaxChunks, scratch)));
  Staging staging(device);
  SortArgs sorted;
  sorted.dispatch = args;
  sorted.dispatch.map_of_row = staging.put(args.map_of_row, args.rows);
  sorted.dispatch.source_row = staging.put(args.source_row, args.rows);
  int64_t maps = 1;
  if (args.map_of_row != nullptr && args.rows > 0)
    maps = *std::max_element(args.map_of_row, args.map_of_row + args.rows) + int64_t{1};
  sorted.dispatch.group_of = staging.put(args.group_of, maps * args.group_stride);
  const int64_t unit = 32 * warps,
                chunk = std::max(unit, ((slots + most_chunks - 1) / most_chunks + unit - 1) / unit * unit);
  const int64_t chunks = std::max<int64_t>(1, (slots + chunk - 1) / chunk);
  sorted.slots = static_cast<unsigned>(slots);
  sorted.chunk = static_cast<unsigned>(chunk);
  sorted.chunks = static_cast<int32_t>(chunks);
  sorted.group_bits = std::bit_width(static_cast<unsigned>(groups));
  sorted.first = staging.scratch<int32_t>(chunks * groups);
  const auto start = [&](void (*kernel)(SortArgs), int64_t blocks, int64_t threads, size_t shared_ints) {
    launch(device,
           {.op = "dispatch",
            .blocks = static_cast<unsigned>(blocks),
            .threads = static_cast<unsigned>(threads),
            .shared_bytes = shared_ints * sizeof(int32_t),
            .shapes = {{"rows", args.rows}, {"slots", args.slots}, {"groups", args.groups}}},
           kernel, sorted);
  };
  if (args.source_row != nullptr && slots > 0) {
    start(clear_sources, blocks_for(args.sources * groups, kThreads), kThreads, 0);
    start(find_sources, blocks_for(slots, kThreads), kThreads, 0);
    start(share_sources, blocks_for(slots, kThreads), kThreads, 0);
  }
  start(table ? count_chunks<true> : count_chunks<false>, chunks, kThreads, table ? args.groups : 0);
  if (args.groups > 0) start(scan_chunks, args.groups, kThreads, kWarps);
  start(scan_groups, 1, kThreads, kWarps);
  if (table) {
    start(place_chunks<true>, chunks, 32 * warps, warps * args.groups);
  } else {
    start(place_chunks<false>, chunks, 32, 0);
  }
}

}  // namespace
}  // namespace EEP_GPU_NS

void GPU_OP(dispatch)(const DispatchArgs& args, const Device& device) {
  check(args);
  gpu::sort(args, device);
}

}  // namespace eep
