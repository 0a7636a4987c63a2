// dispatch: the counting sort of slots by expert. B5: of many tokens, beside CUB's stable sort of the same
// slots. C: of a layer of the demo models.
#include <fmt/format.h>

#include "bench/ops/routing.h"
#include "tests/kernels/cases.h"
#ifdef EEP_CUDA_TWINS
#include "bench/gpu/cuda/twins.h"
#endif

namespace eep::bench {
namespace {

void dispatch_case(Bench& bench, OpCase c, int64_t rows, int32_t slots, int32_t experts) {
  const int64_t count = rows * slots;
  std::vector<int32_t> group, identity;
  for (int64_t slot = 0; slot < count; ++slot) {
    const auto word = philox({static_cast<uint32_t>(slot), static_cast<uint32_t>(slot >> 32), 0, 5}, 22);
    group.push_back(static_cast<int32_t>(word[0] % static_cast<uint32_t>(experts)));
  }
  for (int32_t expert = 0; expert < experts; ++expert) identity.push_back(expert);
  const DeviceBuffer expert = bench.upload(group), order = bench.empty(count * 4);
  const DeviceBuffer offset = bench.empty((experts + 1) * 4);
  DispatchArgs args;
  args.expert = expert.as<int32_t>();
  args.rows = rows;
  args.slots = slots;
  args.group_of = identity.data();
  args.group_stride = args.groups = experts;
  args.offset = offset.as<int32_t>();
  args.order = order.as<int32_t>();
  c.out = &order;
  c.run = [&] { bench.ops().dispatch(args, bench.device()); };
#ifdef EEP_CUDA_TWINS
  DeviceBuffer scratch, other;
  if (bench.device().kind == DeviceKind::kCuda) {
    scratch = bench.empty(static_cast<int64_t>(cub_order_bytes(count)));
    other = bench.empty(count * 4);
    c.library = "CUB";
    c.baseline = [&] {
      cub_order_cuda(args.expert, count, args.groups, other.as<int32_t>(), scratch.data(), bench.device());
    };
  }
#endif
  bench.run(c);
}

}  // namespace

void bench_dispatch(Bench& bench) {
  for_routed_models(bench, [&](const ModelShape& model, int64_t tokens, int64_t rows) {
    bench.attempt("B5", "dispatch",
                  fmt::format("{} experts, top {}, {} tokens", model.experts, model.top_k, tokens),
                  [&](OpCase c) {
                    c.bytes = 8.0 * static_cast<double>(rows * model.top_k);
                    dispatch_case(bench, std::move(c), rows, model.top_k, model.experts);
                  });
  });
  for (const test::ExpertCase& shape : test::kExpertShapes) {
    const int64_t rows = bench.extent(shape.rows, 130);
    bench.attempt("C", "dispatch", fmt::format("{}x{} experts {}", rows, shape.slots, shape.experts),
                  [&](OpCase c) {
                    c.bytes = 12.0 * static_cast<double>(rows * shape.slots);  // read twice, written once
                    dispatch_case(bench, std::move(c), rows, shape.slots, shape.experts);
                  });
  }
}

}  // namespace eep::bench
