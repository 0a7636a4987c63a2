// B4: the block of a layer from router to combine.
#include <fmt/format.h>

#include <algorithm>

#include "bench/ops/expert_layer.h"
#include "bench/ops/routing.h"

namespace eep::bench {
namespace {

void mixture_case(Bench& bench, OpCase c, const ModelShape& model, int64_t rows, int32_t kept) {
  const Routing routing(bench, model, rows, kept, 1);
  const ExpertLayer layer(bench, model.hidden, model.intermediate, model.experts);
  const int64_t slots = rows * model.top_k;
  GroupedProducts products(bench, layer, slots, model.top_k);
  const DeviceBuffer residual = bench.random(rows * model.hidden, DType::kF32);
  const DeviceBuffer x16 = bench.rounded(routing.x, rows, model.hidden);
  ExpertFfnArgs& ffn = products.args;
  ffn.x = routing.x.as<float>();
  ffn.x16 = x16.as<uint16_t>();
  ffn.order = routing.order.as<int32_t>();
  ffn.offset = routing.offset.as<int32_t>();
  CombineArgs combine;
  combine.slot_out = ffn.out;
  combine.weight = routing.weight.as<float>();
  combine.expert = routing.expert.as<int32_t>();
  combine.rows = rows;
  combine.slots = model.top_k;
  combine.hidden = model.hidden;
  combine.residual = residual.as<float>();
  const auto matrix = static_cast<double>(model.hidden * model.intermediate);
  c.flops = 6 * static_cast<double>(slots) * matrix + routing.flops();
  c.bytes = 6 * matrix * static_cast<double>(std::min<int64_t>(kept, slots)) + routing.bytes() +
            static_cast<double>(slots) * static_cast<double>(8 * model.hidden + 8 * model.intermediate);
  if (model.block_target > 0 && rows == 32768) c.target = fmt::format("{} TFLOP/s", model.block_target);
  c.out = &products.out;
  c.run = [&] {
    routing.run();
    if (x16.data() != nullptr) {
      bench.ops().round_rows({ffn.x, rows, model.hidden, bench.weights(), x16.as<uint16_t>()},
                             bench.device());
    }
    bench.ops().expert_ffn(ffn, bench.device());
    bench.ops().combine(combine, bench.device());
  };
  bench.run(c);
}

}  // namespace

void bench_mixture(Bench& bench) {
  for (int number = 0; number < kModelCount; ++number) {
    if (skips(bench, number)) continue;
    const ModelShape model = shape_of(bench, number);
    for (int64_t tokens : {512, 4096, 32768}) {
      if (bench.tiny() && tokens > 512) break;
      const int64_t rows = bench.extent(tokens, 9);
      for (int32_t kept : {model.experts, model.experts / 2}) {
        bench.attempt("B4", "mixture",
                      fmt::format("{} {} tokens, {} of {} experts", model.name, tokens, kept, model.experts),
                      [&](OpCase c) { mixture_case(bench, std::move(c), model, rows, kept); });
      }
    }
  }
}

}  // namespace eep::bench
