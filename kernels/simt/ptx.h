// simt/ptx.h - host twins of the instructions in kernels/gpu/ptx.h, in the register layouts described there.
#pragma once
#include "kernels/simt/cuda.h"

namespace simt {

inline void require_aligned(const void* p, int bytes, const char* what, const Where& where) {
  if (reinterpret_cast<uintptr_t>(p) % bytes == 0) return;
  fail(std::string(what) + " needs " + std::to_string(bytes) + "-byte alignment at " + where.text());
}

inline void perform(const AsyncCopy& c) {
  std::memcpy(c.to, c.from, c.valid);
  std::memset(static_cast<char*>(c.to) + c.valid, 0, static_cast<size_t>(c.bytes - c.valid));
}
// Whether a copy is performed when it is issued, or only when it is waited for: both ends of what may happen.
inline bool lands_at_once() { return schedule.order == Order::kReverse; }

// Lane 8m + r brings the address of row r of the 8x8 matrix m; every lane reads its own elements.
template <bool kTranspose>
void load_matrices(uint32_t (&out)[4], const void* row, const Where& where) {
  const auto rows = gather(~0u, row, where);
  for (int m = 0; m < 4; ++m) {
    uint16_t pair[2];
    for (int h = 0; h < 2; ++h) {
      const int i = lane() / 4, j = 2 * (lane() % 4) + h, r = kTranspose ? j : i, c = kTranspose ? i : j;
      require_aligned(rows.value[8 * m + r], 16, "ldmatrix", where);
      pair[h] = static_cast<const uint16_t*>(rows.value[8 * m + r])[c];
    }
    out[m] = pair[0] | uint32_t{pair[1]} << 16;
  }
}

// D[16,8] += A[16,16] B[16,8]; every lane widens the elements it brings and computes the four that it owns.
struct MmaOperands {
  float a[4][2], b[2][2];  // [register][half]
};
// Much of the host executor's time is here, so it goes without checks of indices, which the lane bounds.
#define SIMT_UNCHECKED __attribute__((no_sanitize("thread", "address", "bounds")))
SIMT_UNCHECKED inline void accumulate(float (&d)[4], const MmaOperands (&of)[kWarp], int lane) {
  const int g = lane / 4, q = lane % 4;
  for (int i = 0; i < 4; ++i) {  // A's rows g and g + 8, B's columns 2q and 2q + 1
    float sum = d[i];
    for (int k = 0; k < 16; ++k) {
      const int r = k / 8, l = k % 8 / 2, h = k % 2;
      sum += of[4 * g + l].a[i / 2 + 2 * r][h] * of[4 * (2 * q + i % 2) + l].b[r][h];
    }
    d[i] = sum;
  }
}
template <class Widen>
void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Widen widen,
              const Where& where) {
  MmaOperands mine;
  for (int h = 0; h < 2; ++h) {
    for (int r = 0; r < 4; ++r) mine.a[r][h] = widen(static_cast<uint16_t>(a[r] >> 16 * h));
    for (int r = 0; r < 2; ++r) mine.b[r][h] = widen(static_cast<uint16_t>(b[r] >> 16 * h));
  }
  accumulate(d, gather(~0u, mine, where).value, lane());
}

template <int kBytes>
void copy_async(void* shared, const void* global, int valid, const Where& where) {
  require_aligned(shared, kBytes, "cp.async", where);
  require_aligned(global, kBytes, "cp.async", where);
  if (valid < 0 || valid > kBytes) fail("cp.async of " + text(valid) + " bytes at " + where.text());
  const AsyncCopy copy{shared, global, valid, kBytes, self().copy_groups};
  if (lands_at_once())
    perform(copy);
  else
    self().copies.push_back(copy);
}

}  // namespace simt

namespace eep {

inline void cp_async_16(void* shared, const void* global, int valid = 16, SIMT_CALLER) {
  simt::copy_async<16>(shared, global, valid, where);
}
inline void cp_async_8(void* shared, const void* global, int valid = 8, SIMT_CALLER) {
  simt::copy_async<8>(shared, global, valid, where);
}
inline void cp_async_4(void* shared, const void* global, int valid = 4, SIMT_CALLER) {
  simt::copy_async<4>(shared, global, valid, where);
}
inline void cp_async_commit() { ++simt::self().copy_groups; }
template <int kPending>
void cp_async_wait() {
  simt::Thread& t = simt::self();
  auto copy = t.copies.begin();
  for (; copy != t.copies.end() && copy->group + kPending < t.copy_groups; ++copy) simt::perform(*copy);
  t.copies.erase(t.copies.begin(), copy);
}

inline void st_shared_v4(void* shared, const uint4& v, SIMT_CALLER) {
  simt::require_aligned(shared, 16, "st.shared.v4", where);
  std::memcpy(shared, &v, sizeof v);
}
inline void st_global_v4(void* global, const uint4& v, SIMT_CALLER) {
  simt::require_aligned(global, 16, "st.global.v4", where);
  std::memcpy(global, &v, sizeof v);
}

inline void bar_sync(int id, int threads, SIMT_CALLER) { simt::named_barrier(id, threads, true, where); }
inline void bar_arrive(int id, int threads, SIMT_CALLER) { simt::named_barrier(id, threads, false, where); }

inline void ldmatrix_x4(uint32_t (&out)[4], const void* row, SIMT_CALLER) {
  simt::load_matrices<false>(out, row, where);
}
inline void ldmatrix_x4_trans(uint32_t (&out)[4], const void* row, SIMT_CALLER) {
  simt::load_matrices<true>(out, row, where);
}
inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_CALLER) {
  simt::multiply(d, a, b, bf16_to_f32, where);
}
inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_CALLER) {
  simt::multiply(d, a, b, f16_to_f32, where);
}

}  // namespace eep
