// simt/ptx_sm90.h - host twins of the instructions in kernels/gpu/ptx_sm90.h: mbarriers, tensor copies,
// wgmma.
//
// Copies and products are asynchronous: performed at once (schedule kReverse), or as late as they may: a copy
// when somebody waits for its mbarrier, a product when its thread waits for it.
#pragma once
#include "kernels/simt/ptx.h"

namespace simt {

// ---- mbarriers ---------------------------------------------------------------------------------------
// Eight bytes of shared memory, as on the device. TSan's edges are two of them, one a parity.
struct Mbarrier {
  uint16_t phase_and_count;  // parity of the phase under way in the top bit; arrivals that complete one
  uint16_t missing;          // arrivals
  int32_t bytes;             // announced and not yet copied; below 0 while copies are ahead
};
static_assert(sizeof(Mbarrier) == sizeof(uint64_t));

SIMT_UNSEEN inline Mbarrier& mbarrier_at(uint64_t* at, const Where& where) {
  require_aligned(at, 8, "an mbarrier", where);
  Mbarrier& barrier = *reinterpret_cast<Mbarrier*>(at);
  if ((barrier.phase_and_count & 0x7fff) == 0 || (barrier.phase_and_count & 0x7fff) > kMaxThreads)
    fail("an mbarrier that was not initialised at " + where.text());
  return barrier;
}
SIMT_UNSEEN inline uint32_t parity_of(const Mbarrier& barrier) { return barrier.phase_and_count >> 15; }
inline void* phase_edge(uint64_t* at, uint32_t parity) { return reinterpret_cast<char*>(at) + parity; }

SIMT_UNSEEN inline void finish_phase(uint64_t* at, Mbarrier& barrier) {
  if (barrier.missing > 0 || barrier.bytes != 0) return;
  barrier.phase_and_count ^= 0x8000;
  barrier.missing = barrier.phase_and_count & 0x7fff;
  for (int i = 0; i < block->threads; ++i)
    if (thread[i].wait == Wait::kPhase && thread[i].phase_of == at) thread[i].wait = Wait::kNothing;
}

SIMT_UNSEEN inline void init_mbarrier(uint64_t* at, int arrivals, const Where& where) {
  require_aligned(at, 8, "an mbarrier", where);
  if (arrivals < 1 || arrivals > kMaxThreads) fail("an mbarrier of " + text(arrivals) + " arrivals");
  *reinterpret_cast<Mbarrier*>(at) = {static_cast<uint16_t>(arrivals), static_cast<uint16_t>(arrivals), 0};
}

SIMT_UNSEEN inline void arrive(uint64_t* at, const Where& where) {
  Mbarrier& barrier = mbarrier_at(at, where);
  if (barrier.missing == 0) fail("one arrival too many at the mbarrier at " + where.text());
  publish(phase_edge(at, parity_of(barrier)));
  --barrier.missing;
  finish_phase(at, barrier);
}

SIMT_UNSEEN inline void count_bytes(uint64_t* at, int bytes, const Where& where) {
  Mbarrier& barrier = mbarrier_at(at, where);
  barrier.bytes += bytes;
  finish_phase(at, barrier);
}

// ---- tensor copies -----------------------------------------------------------------------------------
// Offset in shared memory, from which the swizzle counts; on the device the shared window's addresses.
SIMT_UNSEEN inline uint32_t offset_in_shared(const void* p) {
  return static_cast<uint32_t>(static_cast<const char*>(p) - block->shared);
}
// Where swizzling by 128 bytes puts the byte at `offset`.
inline uint32_t swizzled_128(uint32_t offset) { return offset ^ (offset >> 7 & 7) << 4; }

inline void perform(const TensorCopy& copy, const Where& where) {
  const TensorMap& map = copy.map;
  const uint32_t begin = offset_in_shared(copy.to), row_bytes = 2 * map.box[0];
  for (uint32_t row = 0; row < map.box[1]; ++row)
    for (uint32_t i = 0; i < map.box[0]; ++i) {
      const int64_t x = copy.at[0] + int64_t{i}, y = copy.at[1] + int64_t{row}, z = copy.at[2];
      const bool inside = x >= 0 && x < static_cast<int64_t>(map.extent[0]) && y >= 0 &&
                          y < static_cast<int64_t>(map.extent[1]) && z >= 0 &&
                          z < static_cast<int64_t>(map.extent[2]);
      uint16_t value = 0;
      if (inside)
        value = *reinterpret_cast<const uint16_t*>(map.base + static_cast<uint64_t>(z) * map.stride[1] +
                                                   static_cast<uint64_t>(y) * map.stride[0] + 2 * x);
      *reinterpret_cast<uint16_t*>(block->shared + swizzled_128(begin + row * row_bytes + 2 * i)) = value;
    }
  count_bytes(copy.barrier, -static_cast<int>(map.box[1] * row_bytes), where);
}

// Performs the copies that this mbarrier counts.
SIMT_UNSEEN inline void land(uint64_t* barrier, const Where& where) {
  int kept = 0;
  for (int i = 0; i < block->tensor_copy_count; ++i) {
    const TensorCopy copy = block->tensor_copies[i];
    if (copy.barrier == barrier) {
      const Unrecorded not_by_this_thread;
      perform(copy, where);
    } else {
      block->tensor_copies[kept++] = copy;
    }
  }
  block->tensor_copy_count = kept;
}

SIMT_UNSEEN inline void issue(const TensorCopy& copy, const Where& where) {
  if (offset_in_shared(copy.to) % 1024 != 0)
    fail("a swizzled tensor copy needs 1024-byte alignment at " + where.text());
  mbarrier_at(copy.barrier, where);
  if (lands_at_once()) return perform(copy, where);
  if (block->tensor_copy_count == kTensorCopies) fail("too many tensor copies at " + where.text());
  block->tensor_copies[block->tensor_copy_count++] = copy;
  for (int i = 0; i < block->threads; ++i)
    if (thread[i].wait == Wait::kPhase && thread[i].phase_of == copy.barrier)
      return land(copy.barrier, where);
}

SIMT_UNSEEN inline void wait_phase(uint64_t* at, uint32_t parity, const Where& where) {
  Mbarrier& barrier = mbarrier_at(at, where);
  if (parity_of(barrier) == parity) land(at, where);
  while (parity_of(barrier) == parity) {
    self().phase_of = at;
    suspend(Wait::kPhase, where);
  }
  observe(phase_edge(at, parity));
}

// ---- wgmma -------------------------------------------------------------------------------------------
// Row `row`, 16 elements, of the operand that a descriptor of swizzled 128-byte rows names.
template <float kWiden(uint16_t)>
void load_row(uint64_t descriptor, int row, float (&values)[16]) {
  const uint32_t start = static_cast<uint32_t>(descriptor & 0x3fff) << 4;
  const uint32_t eight_rows = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  const uint32_t offset =
      start + static_cast<uint32_t>(row / 8) * eight_rows + static_cast<uint32_t>(row % 8 * 128);
  for (uint32_t piece = 0; piece < 2; ++piece) {
    uint16_t bits[8];
    std::memcpy(bits, block->shared + swizzled_128(offset + 16 * piece), sizeof bits);
    for (uint32_t i = 0; i < 8; ++i) values[8 * piece + i] = kWiden(bits[i]);
  }
}

template <float kWiden(uint16_t), int kBlocks>
void multiply_rows(const TensorProduct& product) {
  const int warp_row = block->current / kWarp % 4 * 16, g = lane() / 4, q = lane() % 4;
  float row[2][16], column[16];
  for (int h = 0; h < 2; ++h) load_row<kWiden>(product.a, warp_row + g + 8 * h, row[h]);
  for (int j = 0; j < kBlocks; ++j)
    for (int c = 0; c < 2; ++c) {
      load_row<kWiden>(product.b, 8 * j + 2 * q + c, column);
      for (int h = 0; h < 2; ++h) {
        float sum = product.add ? product.d[j][2 * h + c] : 0;
        for (int k = 0; k < 16; ++k) sum += row[h][k] * column[k];
        product.d[j][2 * h + c] = sum;
      }
    }
}

inline void issue(float (*d)[4], uint64_t a, uint64_t b, bool add, void (*perform)(const TensorProduct&),
                  const Where& where) {
  for (const uint64_t descriptor : {a, b})
    if (descriptor >> 62 != 1) fail("a wgmma descriptor without 128-byte swizzle at " + where.text());
  Thread& t = self();
  const TensorProduct product{d, a, b, add, perform, t.product_groups};
  if (lands_at_once())
    perform(product);
  else
    t.products.push_back(product);
}

}  // namespace simt

namespace eep {

inline uint32_t shared_address(const void* p) { return simt::offset_in_shared(p); }

inline void mbarrier_init(uint64_t* barrier, int arrivals, SIMT_CALLER) {
  simt::init_mbarrier(barrier, arrivals, where);
}
inline void mbarrier_arrive(uint64_t* barrier, SIMT_CALLER) { simt::arrive(barrier, where); }
inline void mbarrier_expect_tx(uint64_t* barrier, int bytes, SIMT_CALLER) {
  simt::count_bytes(barrier, bytes, where);
}
inline void mbarrier_wait(uint64_t* barrier, uint32_t parity, SIMT_CALLER) {
  simt::wait_phase(barrier, parity, where);
}
inline void fence_proxy_async() {}  // one OS thread sees its accesses in order

inline void cp_async_bulk_tensor_3d(void* shared, const void* map, int x, int y, int z, uint64_t* barrier,
                                    SIMT_CALLER) {
  simt::require_aligned(map, 64, "a tensor map", where);
  simt::issue({*static_cast<const simt::TensorMap*>(map), shared, {x, y, z}, barrier}, where);
}

inline void wgmma_fence() {}
inline void wgmma_commit() { ++simt::self().product_groups; }
// The warp's lanes wait together: what one of them says afterwards, all have read.
template <int kPending>
void wgmma_wait(SIMT_CALLER) {
  simt::Thread& t = simt::self();
  auto product = t.products.begin();
  for (; product != t.products.end() && product->group + kPending < t.product_groups; ++product)
    product->perform(*product);
  t.products.erase(t.products.begin(), product);
  simt::gather(~0u, char{}, where, /*orders_memory=*/true);
}
template <int kBlocks>  // of 8 columns
void wgmma_bf16(float (&d)[kBlocks][4], uint64_t a, uint64_t b, int add, SIMT_CALLER) {
  simt::issue(d, a, b, add != 0, simt::multiply_rows<bf16_to_f32, kBlocks>, where);
}
template <int kBlocks>
void wgmma_f16(float (&d)[kBlocks][4], uint64_t a, uint64_t b, int add, SIMT_CALLER) {
  simt::issue(d, a, b, add != 0, simt::multiply_rows<f16_to_f32, kBlocks>, where);
}

}  // namespace eep
