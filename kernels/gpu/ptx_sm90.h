// ptx_sm90.h - inline PTX that only sm_90a has, one function an instruction: mbarriers, tensor copies (TMA),
// wgmma; simt/ptx_sm90.h has the same for the host. EEP_SM90A: they are there.
// Kernels that use them have a sibling on mma.sync with the same contract.
#pragma once

#include <cstdint>

#include "kernels/gpu/ptx.h"

#if !defined(__CUDACC__)
#include "kernels/simt/ptx_sm90.h"
#define EEP_SM90A
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define EEP_SM90A
#endif

// Describes rows of 128 bytes whose 16-byte pieces lie at piece ^ row % 8 (swizzled_piece<64>), from a
// multiple of 1024 bytes on; 32 bytes further for the next 16 columns.
#ifdef EEP_SM90A
namespace eep {
__device__ inline uint64_t wgmma_descriptor(const void* rows) {
  constexpr uint64_t kEightRows = uint64_t{1024 >> 4} << 32, kPieces = uint64_t{1} << 16;
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  return (shared_address(rows) & 0x3ffff) >> 4 | kPieces | kEightRows | kSwizzle128;
}
}  // namespace eep
#endif

#if defined(__CUDACC__) && defined(EEP_SM90A)
namespace eep {

__device__ inline void mbarrier_init(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
}
__device__ inline void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// The phase under way is not over before `bytes` more have been copied.
__device__ inline void mbarrier_expect_tx(uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}
// Until the phase of this parity is over.
__device__ inline void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  uint32_t over = 0;
  while (over == 0) {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(over)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  }
}

// The box at (x, y, z), innermost first, to a multiple of 1024 bytes of shared memory, swizzled by
// 128 bytes, of the tensor that a map (tensor_map.h) describes; what lies outside the tensor as zeros; the
// barrier counts the whole box's bytes.
__device__ inline void cp_async_bulk_tensor_3d(void* shared, const void* map, int x, int y, int z,
                                               uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(shared)),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(barrier))
      : "memory");
}

// What this thread wrote to shared memory, mbarriers included, for asynchronous reads and copies.
__device__ inline void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>  // until at most kPending groups are under way
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// d[64, n] (+)= a[64, 16] b[n, 16]^T of a warpgroup, n = 256 or 64. Lane l of warp w has in d[j][e], with
// g = l / 4 and q = l % 4, row 16 w + g + 8 (e / 2), column 8 j + 2 q + e % 2. add: 0 starts from zero.
// clang-format off
#define EEP_D4(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define EEP_D16(j) EEP_D4(j), EEP_D4(j + 1), EEP_D4(j + 2), EEP_D4(j + 3)
#define EEP_WGMMA_N256(name, type) \
  __device__ inline void name(float (&d)[32][4], uint64_t a, uint64_t b, int add) { \
    asm volatile( \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n" \
        "wgmma.mma_async.sync.aligned.m64n256k16.f32." type "." type " {" \
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127" \
        "}, %128, %129, p, 1, 1, 0, 0;\n}" \
        : EEP_D16(0), EEP_D16(4), EEP_D16(8), EEP_D16(12), EEP_D16(16), EEP_D16(20), EEP_D16(24), EEP_D16(28) \
        : "l"(a), "l"(b), "r"(add)); \
  }
#define EEP_WGMMA_N64(name, type) \
  __device__ inline void name(float (&d)[8][4], uint64_t a, uint64_t b, int add) { \
    asm volatile( \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n" \
        "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" \
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
        "}, %32, %33, p, 1, 1, 0, 0;\n}" \
        : EEP_D16(0), EEP_D16(4) \
        : "l"(a), "l"(b), "r"(add)); \
  }
// clang-format on
EEP_WGMMA_N256(wgmma_bf16, "bf16")
EEP_WGMMA_N256(wgmma_f16, "f16")
EEP_WGMMA_N64(wgmma_bf16, "bf16")
EEP_WGMMA_N64(wgmma_f16, "f16")
#undef EEP_WGMMA_N64
#undef EEP_WGMMA_N256
#undef EEP_D16
#undef EEP_D4

}  // namespace eep
#endif
