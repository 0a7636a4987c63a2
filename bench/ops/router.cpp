// router: gate logits, one-hot and dense maps, top-k. B5: with dispatch, for 64 candidates at once. C: alone,
// for one candidate of the demo models and of larger ones.
#include <fmt/format.h>

#include "bench/ops/routing.h"
#include "tests/kernels/cases.h"

namespace eep::bench {
namespace {

void routing_case(Bench& bench, OpCase c, const ModelShape& model, int64_t rows, int32_t candidates) {
  const Routing routing(bench, model, rows, model.experts / 2, candidates);
  c.flops = routing.flops();
  c.bytes = routing.bytes();
  c.out = &routing.order;
  c.run = [&] { routing.run(); };
  bench.run(c);
}

void router_case(Bench& bench, OpCase c, const test::RouterCase& shape, bool dense) {
  const DeviceBuffer x = bench.random(shape.rows * shape.hidden, DType::kF32);
  const DeviceBuffer gate = bench.random_matrix(shape.experts, shape.hidden);
  const DeviceBuffer expert = bench.empty(shape.rows * shape.top_k * 4),
                     weight = bench.empty(shape.rows * shape.top_k * 4),
                     logits = bench.empty(shape.rows * shape.experts * 4);
  std::vector<int32_t> kept;
  for (int32_t row = 0; row < shape.kept; ++row) kept.push_back(row * (shape.experts / shape.kept));
  std::vector<float> matrix;
  for (int32_t i = 0; i < shape.kept * shape.experts; ++i)
    matrix.push_back(2 * philox_uniform(philox({static_cast<uint32_t>(i), 0, 0, 4}, 25)[0]) - 1);
  RouterMap map;
  map.kept_experts = dense ? nullptr : kept.data();
  map.matrix = dense ? matrix.data() : nullptr;
  map.kept = shape.kept;
  map.top_k = shape.top_k;
  map.space = dense ? RouterSpace::kProbabilities : RouterSpace::kLogits;
  RouterArgs args;
  args.x = x.as<float>();
  args.rows = shape.rows;
  args.gate = bench.packed(gate, shape.experts, shape.hidden);
  args.maps = &map;
  args.slots = shape.top_k;
  args.expert = expert.as<int32_t>();
  args.weight = weight.as<float>();
  args.logits = logits.as<float>();
  c.flops = 2.0 * static_cast<double>(shape.rows) *
            static_cast<double>(shape.experts * shape.hidden + dense * shape.kept * shape.experts);
  c.bytes = 4.0 * static_cast<double>(shape.rows) * static_cast<double>(shape.hidden + shape.experts);
  c.out = &weight;
  c.run = [&] { bench.ops().router(args, bench.device()); };
  bench.run(c);
}

}  // namespace

void bench_router(Bench& bench) {
  for_routed_models(bench, [&](const ModelShape& model, int64_t tokens, int64_t rows) {
    bench.attempt("B5", "router + dispatch",
                  fmt::format("{} experts, {} tokens of 64 candidates", model.experts, tokens),
                  [&](OpCase c) { routing_case(bench, std::move(c), model, rows, bench.tiny() ? 3 : 64); });
  });
  for (test::RouterCase shape : test::kRouterShapes) {
    shape.rows = bench.extent(shape.rows, 70);
    shape.hidden = bench.extent(shape.hidden, 64);
    for (const bool dense : {false, true}) {
      bench.attempt("C", "router",
                    fmt::format("{}x{} {}->{} top {} {}", shape.rows, shape.hidden, shape.experts, shape.kept,
                                shape.top_k, dense ? "dense" : "one-hot"),
                    [&](OpCase c) { router_case(bench, std::move(c), shape, dense); });
    }
  }
}

}  // namespace eep::bench
