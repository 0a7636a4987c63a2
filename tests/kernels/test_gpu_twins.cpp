// The ops that the CUDA toolkit has too, on a GPU: cuRAND's integers, CUB's sort, cuBLAS's product. On the
// host there is none of them, and nothing to compare.
#ifdef EEP_TEST_CUDA
#include "bench/gpu/cuda/twins.h"
#include "bench/gpu/yardsticks.h"
#include "kernels/dispatch.h"
#include "kernels/noise.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/gpu_matrices.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("gpu twins: the host's Philox has cuRAND's integers") {
  const int64_t blocks = 5000;
  const uint64_t seed = 0x123456789abcdefu;
  const OnDevice<uint32_t> words(4 * blocks);
  bench::curand_words_cuda(words.data(), blocks, seed, 7, gpu_device());
  const std::vector<uint32_t> got = words.values();
  for (int64_t i = 0; i < blocks; ++i) {
    const auto expected = philox({static_cast<uint32_t>(i), 0, 7, 0}, seed);
    for (size_t w = 0; w < 4; ++w) REQUIRE(got[4 * static_cast<size_t>(i) + w] == expected[w]);
  }
}

TEST_CASE("gpu twins: dispatch has the order of CUB's stable sort") {
  for (int64_t rows : {1, 33, 1000, 20000}) {
    for (int32_t groups : {1, 8, 60, 128}) {
      CAPTURE(rows);
      CAPTURE(groups);
      Data data(static_cast<uint64_t>(rows + groups));
      const int32_t slots = 2;
      std::vector<int32_t> expert, identity;
      for (int64_t slot = 0; slot < rows * slots; ++slot)
        expert.push_back(static_cast<int32_t>(data.below(groups)));
      for (int32_t group = 0; group < groups; ++group) identity.push_back(group);
      const OnDevice<int32_t> keys(expert), offset(groups + 1), order(rows * slots), expected(rows * slots);
      const OnDevice<char> scratch(static_cast<int64_t>(bench::cub_order_bytes(rows * slots)));
      DispatchArgs args;
      args.expert = keys.data();
      args.rows = rows;
      args.slots = slots;
      args.group_of = identity.data();
      args.group_stride = args.groups = groups;
      args.offset = offset.data();
      args.order = order.data();
      dispatch_cuda(args, gpu_device());
      bench::cub_order_cuda(keys.data(), rows * slots, groups, expected.data(), scratch.data(), gpu_device());
      CHECK(order.values() == expected.values());
    }
  }
}

TEST_CASE("gpu twins: gemm is within its bound of cuBLAS") {
  if (!bench::cublas_here(gpu_device())) return;
  for (const GemmCase& c :
       {GemmCase{33, 48, 512, DType::kBF16, 7}, GemmCase{200, 136, 264, DType::kBF16, 8}}) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const Floats x = rounded(data.floats(c.rows * c.k), DType::kBF16);
    const DeviceWeights w(data.floats(c.n * c.k), c.n, c.k, DType::kBF16);
    std::vector<uint16_t> bits;
    for (float value : x) bits.push_back(narrow(value, DType::kBF16));
    const OnDevice<float> rows(x), ours(c.rows * c.n), theirs(c.rows * c.n);
    const OnDevice<uint16_t> rows16(bits);
    GemmArgs args;
    args.x = rows.data();
    args.rows = c.rows;
    args.w = w.packed;
    args.out = ours.data();
    args.out_stride = c.n;
    gemm_cuda(args, gpu_device());
    bench::cublas_product(rows16.data(), w.memory.data(), theirs.data(), c.rows, c.n, c.k, gpu_device());
    const Floats a = ours.values(), b = theirs.values();
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int64_t i = 0; i < c.n; ++i) {
        // both are within the bound of the exact product
        const Bounded exact =
            mma_dot(&x[static_cast<size_t>(row * c.k)], &w.values[static_cast<size_t>(i * c.k)], c.k);
        const size_t at = static_cast<size_t>(row * c.n + i);
        CHECK(std::fabs(static_cast<double>(a[at]) - static_cast<double>(b[at])) <= 2 * exact.bound);
      }
    }
  }
}
#endif
