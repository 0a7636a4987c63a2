// The host executor: what sm_90a adds. mbarriers, tensor copies (TMA), wgmma, and the maps that TMA copies
// by.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/common/float16.h"
#include "kernels/gpu/ptx_sm90.h"
#include "kernels/gpu/tensor_map.h"
#include "tests/kernels/data.h"
#include "tests/kernels/simt_support.h"

using namespace eep;
using namespace eep::test;

namespace {

// ---- mbarriers ---------------------------------------------------------------------------------------
enum Fault { kNone, kNoArrival, kNotInitialised, kWrongParity };

// Warp 0 hands 6 values to warp 1 through two stages.
template <Fault kFault>
__global__ void hand_over(int* out) {
  struct Shared {
    uint64_t full[2], empty[2];
    int value[2][32];
  };
  Shared& s = *gpu::dynamic_shared<Shared>();
  const int lane = threadIdx.x % 32;
  if (threadIdx.x == 0 && kFault != kNotInitialised) {
    for (int stage = 0; stage < 2; ++stage) {
      mbarrier_init(s.full + stage, 32);
      mbarrier_init(s.empty + stage, 1);
    }
  }
  __syncthreads();
  for (int turn = 0; turn < 6; ++turn) {
    const int stage = turn % 2;
    if (threadIdx.x < 32) {
      mbarrier_wait(s.empty + stage, (turn / 2 + (kFault == kWrongParity ? 0 : 1)) % 2);
      s.value[stage][lane] = 100 * turn + lane;
      if (kFault != kNoArrival || turn != 3 || lane != 7) mbarrier_arrive(s.full + stage);
    } else {
      mbarrier_wait(s.full + stage, turn / 2 % 2);
      out[turn * 32 + lane] = s.value[stage][31 - lane];
      __syncwarp();
      if (lane == 0) mbarrier_arrive(s.empty + stage);
    }
  }
}
template <Fault kFault>
void hand_over_values(OnDevice<int>& out) {
  run(hand_over<kFault>, {1, 64, 32 + 256}, out.data());
}
SIMT_CASE("simt: mbarriers between a producer and a consumer") {
  OnDevice<int> out(6 * 32);
  hand_over_values<kNone>(out);
  for (int i = 0; i < 6 * 32; ++i) CHECK(out[i] == 100 * (i / 32) + 31 - i % 32);
  CHECK(throws_with([&] { hand_over_values<kNoArrival>(out); }, "at mbarrier test_simt_sm90.cpp"));
  CHECK(throws_with([&] { hand_over_values<kNotInitialised>(out); }, "an mbarrier that was not initialised"));
  CHECK(throws_with([&] { hand_over_values<kWrongParity>(out); }, "at mbarrier test_simt_sm90.cpp"));
}

// ---- tensor copies -----------------------------------------------------------------------------------
constexpr int kBoxRows = 16, kBoxElements = kBoxRows * 64;
enum CopyFault { kCopied, kNotExpected, kNobodyWaits, kOddPlace };

struct Box {
  int x, y, z;
};
template <CopyFault kFault>
__global__ void copy_box(const gpu::TensorMap map, Box box, uint16_t* out) {
  uint16_t* const tile = gpu::dynamic_shared<uint16_t>();
  uint64_t* const full = reinterpret_cast<uint64_t*>(tile + kBoxElements + (kFault == kOddPlace ? 64 : 0));
  if (threadIdx.x == 0) mbarrier_init(full, 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    if (kFault != kNotExpected) mbarrier_expect_tx(full, 2 * kBoxElements);
    cp_async_bulk_tensor_3d(kFault == kOddPlace ? tile + 64 : tile, &map, box.x, box.y, box.z, full);
    mbarrier_arrive(full);
  }
  if (kFault == kNobodyWaits) return;
  mbarrier_wait(full, 0);
  for (int i = threadIdx.x; i < kBoxElements; i += 64)
    out[i] = tile[8 * swizzled_piece<64>(i / 64, i % 64 / 8) + i % 8];
}
template <CopyFault kFault>
void copied_box(const gpu::TensorMap& map, const Box& box, OnDevice<uint16_t>& out) {
  run(copy_box<kFault>, {1, 64, 2 * kBoxElements + 128 + 8}, map, box, out.data());
}
SIMT_CASE("simt: a tensor copy is swizzled, and zero outside the tensor") {
  const int n = 21, k = 70, stride = static_cast<int>(row_stride_16bit(k)), planes = 3;
  OnDevice<uint16_t> all(planes * n * stride), out(kBoxElements);
  for (int64_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i + 1);
  std::vector<const uint16_t*> matrices;
  for (int plane = 0; plane < planes; ++plane) matrices.push_back(all.data() + plane * n * stride);
  const gpu::AddressSteps steps = gpu::address_steps(matrices, 0);
  const gpu::TensorMap map = gpu::tensor_map(steps, n, k, kBoxRows);
  for (const Box& box :
       {Box{0, 0, 0}, Box{64, 0, 1}, Box{0, 16, 2}, Box{64, 16, 0}, Box{128, 0, 0}, Box{0, 0, 3}}) {
    copied_box<kCopied>(map, box, out);
    for (int i = 0; i < kBoxElements; ++i) {
      const int x = box.x + i % 64, y = box.y + i / 64;
      const bool inside = x < k && y < n && box.z < planes;
      REQUIRE(out[i] == (inside ? all[(box.z * n + y) * stride + x] : 0));
    }
  }
  CHECK(throws_with([&] { copied_box<kOddPlace>(map, {0, 0, 0}, out); }, "needs 1024-byte alignment"));
  if (simt::schedule.order != simt::Order::kReverse) {
    CHECK(throws_with(
        [&] {
          copied_box<kNobodyWaits>(map, {0, 0, 0}, out);
        },
        "tensor copies that nobody waited for"));
  }
  // the phase ends without the copy, or never
  CHECK_THROWS_AS(copied_box<kNotExpected>(map, {0, 0, 0}, out), simt::Error);
}

TEST_CASE("tensor maps: matrices at any addresses are planes of one tensor") {
  const auto at = [](uintptr_t address) { return reinterpret_cast<const uint16_t*>(address); };
  const gpu::AddressSteps one = gpu::address_steps({at(4096), at(4096)}, 640);
  CHECK(one.step == 640);
  CHECK(one.count == 1);
  CHECK(one.plane(at(4096)) == 0);
  const gpu::AddressSteps many = gpu::address_steps({at(0x9000), at(0x1000), at(0x4000), at(0x1000)}, 640);
  CHECK(many.first == 0x1000);
  CHECK(many.step == 0x1000);
  CHECK(many.count == 9);
  CHECK(many.plane(at(0x9000)) == 8);
  CHECK(many.plane(at(0x4000)) == 3);
  CHECK(throws_with(
      [&] {
        gpu::address_steps({at(16), at(32), at(uintptr_t{1} << 44)}, 640);
      },
      "weights lie too far apart for one tensor map"));
}

TEST_CASE("tensor maps: matrices of two allocations, however far apart, are planes of two tensors") {
  const auto at = [](uintptr_t address) { return reinterpret_cast<const uint16_t*>(address); };
  const uintptr_t far = uintptr_t{0x7f} << 40;
  const gpu::AddressHalves two =
      gpu::address_halves({at(far + 0x80), at(0x3000), at(0x1000), at(far + 0x40), at(0x2000)}, 640);
  CHECK(two.half[0].first == 0x1000);
  CHECK(two.half[0].step == 0x1000);
  CHECK(two.half[1].first == far + 0x40);
  CHECK(two.half[1].step == 0x40);
  CHECK(two.place(at(0x3000)) == 4);  // plane 2 of the first
  CHECK(two.place(at(far + 0x40)) == 1);
  CHECK(two.place(at(far + 0x80)) == 3);
  const gpu::AddressHalves same = gpu::address_halves({at(4096), at(4096)}, 640);
  CHECK(same.place(at(4096)) == 0);
  CHECK(same.half[1].count == 1);
}

// ---- wgmma -------------------------------------------------------------------------------------------
constexpr int kM = 64, kN = 256, kK = 64;
enum ProductFault { kMultiplied, kNotAwaited, kNotCommitted, kOperandsReplaced };

template <ProductFault kFault>
__global__ void multiply(const uint16_t* a, const uint16_t* b,
                         float* out) {  // [64, 64], [256, 64]; [64, 256]
  uint16_t* const a_tile = gpu::dynamic_shared<uint16_t>();
  uint16_t* const b_tile = a_tile + kM * kK;
  const int t = threadIdx.x, warp = t / 32, lane = t % 32;
  for (int i = t; i < kM * kK; i += 128) a_tile[8 * swizzled_piece<64>(i / kK, i % kK / 8) + i % 8] = a[i];
  for (int i = t; i < kN * kK; i += 128) b_tile[8 * swizzled_piece<64>(i / kK, i % kK / 8) + i % 8] = b[i];
  fence_proxy_async();
  __syncthreads();
  float d[32][4];
  wgmma_fence();
  for (int part = 0; part < kK / 16; ++part)
    wgmma_bf16(d, wgmma_descriptor(a_tile) + 2 * part, wgmma_descriptor(b_tile) + 2 * part, part > 0);
  if (kFault != kNotCommitted) wgmma_commit();
  if (kFault == kOperandsReplaced) {
    __syncthreads();
    for (int i = t; i < kM * kK; i += 128) a_tile[i] = 0;
    __syncthreads();
  }
  if (kFault != kNotAwaited) wgmma_wait<0>();
  for (int j = 0; j < 32; ++j)
    for (int e = 0; e < 4; ++e)
      out[(16 * warp + lane / 4 + 8 * (e / 2)) * kN + 8 * j + 2 * (lane % 4) + e % 2] = d[j][e];
}
template <ProductFault kFault>
bool multiplies() {
  Data data(11);
  const Floats a = data.floats(kM * kK), b = data.floats(kN * kK);
  OnDevice<uint16_t> a_bits(kM * kK), b_bits(kN * kK);
  for (int i = 0; i < kM * kK; ++i) a_bits[i] = f32_to_bf16(a[static_cast<size_t>(i)]);
  for (int i = 0; i < kN * kK; ++i) b_bits[i] = f32_to_bf16(b[static_cast<size_t>(i)]);
  OnDevice<float> out(kM * kN);
  run(multiply<kFault>, {1, 128, 2 * (kM + kN) * kK}, a_bits.data(), b_bits.data(), out.data());
  for (int row = 0; row < kM; ++row)
    for (int column = 0; column < kN; ++column) {
      float sum = 0;  // the twin's order
      for (int k = 0; k < kK; ++k)
        sum += bf16_to_f32(a_bits[row * kK + k]) * bf16_to_f32(b_bits[column * kK + k]);
      if (out[row * kN + column] != sum) return false;
    }
  return true;
}
SIMT_CASE("simt: wgmma, and what it reads until it is waited for") {
  CHECK(multiplies<kMultiplied>());
  const bool late = simt::schedule.order != simt::Order::kReverse;
  if (late) {
    CHECK(throws_with(multiplies<kNotAwaited>, "a wgmma that it did not wait for"));
    CHECK(throws_with(multiplies<kNotCommitted>, "a wgmma that it did not wait for"));
  }
  if (!kRacesStop) CHECK(multiplies<kOperandsReplaced>() == !late);
}

}  // namespace
