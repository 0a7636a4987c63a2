// B4: the block of a layer from router to combine; B5: routing alone, for 64 candidates at once.
#include <fmt/format.h>

#include <algorithm>

#include "bench/gpu/expert_layer.h"
#ifdef EEP_CUDA_TWINS
#include "bench/gpu/cuda/twins.h"
#endif

namespace eep::bench {
namespace {

// Router and dispatch of `rows` rows for candidates that keep `kept` experts each.
struct Routing {
  DeviceBench& bench;
  int64_t rows;
  ModelShape model;
  int32_t candidates;
  std::vector<int32_t> kept, map_of_row, group_of;
  std::vector<RouterMap> maps;
  DeviceBuffer x, gate, expert, weight, logits, offset, order;

  Routing(DeviceBench& bench_, const ModelShape& model_, int64_t rows_, int32_t kept_count,
          int32_t candidates_)
      : bench(bench_), rows(rows_), model(model_), candidates(candidates_) {
    for (int32_t candidate = 0; candidate < candidates; ++candidate) {
      for (int32_t i = 0; i < kept_count; ++i) {  // windows of experts, a different one for each candidate
        kept.push_back((candidate + i * (model.experts / kept_count)) % model.experts);
      }
      std::sort(kept.end() - kept_count, kept.end());
    }
    group_of = kept;
    for (int32_t candidate = 0; candidate < candidates; ++candidate) {
      RouterMap map;
      map.kept_experts = kept.data() + candidate * kept_count;
      map.kept = kept_count;
      map.top_k = std::min(model.top_k, kept_count);
      maps.push_back(map);
    }
    if (candidates > 1) {
      for (int64_t row = 0; row < rows; ++row)
        map_of_row.push_back(static_cast<int32_t>(row * candidates / rows));
    }
    const int64_t slots = rows * model.top_k;
    x = bench.random(rows * model.hidden, DType::kF32);
    gate = bench.random_matrix(model.experts, model.hidden, 0.03f);
    expert = bench.empty(slots * 4);
    weight = bench.empty(slots * 4);
    logits = bench.empty(rows * model.experts * 4);
    offset = bench.empty((model.experts + 1) * 4);
    order = bench.empty(slots * 4);
  }

  void run() const {
    RouterArgs router;
    router.x = x.as<float>();
    router.rows = rows;
    router.gate = {gate.data(), bench.weights(), model.experts, model.hidden};
    router.maps = maps.data();
    router.map_of_row = map_of_row.empty() ? nullptr : map_of_row.data();
    router.slots = model.top_k;
    router.expert = expert.as<int32_t>();
    router.weight = weight.as<float>();
    router.logits = logits.as<float>();
    bench.ops().router(router, bench.device());
    DispatchArgs dispatch;
    dispatch.expert = expert.as<int32_t>();
    dispatch.rows = rows;
    dispatch.slots = model.top_k;
    dispatch.map_of_row = router.map_of_row;
    dispatch.group_of = group_of.data();
    dispatch.group_stride = maps[0].kept;
    dispatch.groups = model.experts;
    dispatch.offset = offset.as<int32_t>();
    dispatch.order = order.as<int32_t>();
    bench.ops().dispatch(dispatch, bench.device());
  }
  double flops() const { return 2.0 * static_cast<double>(rows * model.experts * model.hidden); }
  double bytes() const {
    return 4.0 * static_cast<double>(rows) *
           static_cast<double>(model.hidden + 2 * model.experts + 4 * model.top_k);
  }
};

void routing_case(DeviceBench& bench, OpCase c, const ModelShape& model, int64_t rows, int32_t candidates) {
  const Routing routing(bench, model, rows, model.experts / 2, candidates);
  c.flops = routing.flops();
  c.bytes = routing.bytes();
  c.out = &routing.order;
  c.run = [&] { routing.run(); };
  bench.run(c);
}

// Dispatch alone, beside CUB's stable sort of the same slots.
void dispatch_case(DeviceBench& bench, OpCase c, const ModelShape& model, int64_t rows) {
  const int64_t count = rows * model.top_k;
  std::vector<int32_t> group, identity;
  for (int64_t slot = 0; slot < count; ++slot) {
    const auto word = philox({static_cast<uint32_t>(slot), static_cast<uint32_t>(slot >> 32), 0, 5}, 22);
    group.push_back(static_cast<int32_t>(word[0] % static_cast<uint32_t>(model.experts)));
  }
  for (int32_t expert = 0; expert < model.experts; ++expert) identity.push_back(expert);
  const DeviceBuffer expert = bench.upload(group), order = bench.empty(count * 4);
  const DeviceBuffer offset = bench.empty((model.experts + 1) * 4);
  DispatchArgs args;
  args.expert = expert.as<int32_t>();
  args.rows = rows;
  args.slots = model.top_k;
  args.group_of = identity.data();
  args.group_stride = args.groups = model.experts;
  args.offset = offset.as<int32_t>();
  args.order = order.as<int32_t>();
  c.bytes = 8.0 * static_cast<double>(count);
  c.out = &order;
  c.run = [&] { bench.ops().dispatch(args, bench.device()); };
#ifdef EEP_CUDA_TWINS
  DeviceBuffer scratch, other;
  if (bench.device().kind == DeviceKind::kCuda) {
    scratch = bench.empty(static_cast<int64_t>(cub_order_bytes(count)));
    other = bench.empty(count * 4);
    c.baseline = [&] {
      cub_order_cuda(args.expert, count, args.groups, other.as<int32_t>(), scratch.data(), bench.device());
    };
  }
#endif
  bench.run(c);
}

void mixture_case(DeviceBench& bench, OpCase c, const ModelShape& model, int64_t rows, int32_t kept) {
  const Routing routing(bench, model, rows, kept, 1);
  const ExpertLayer layer(bench, model, model.experts);
  const int64_t slots = rows * model.top_k;
  const DeviceBuffer activation = bench.empty(
                         static_cast<int64_t>(expert_ffn_scratch_bytes(slots, model.intermediate))),
                     out = bench.empty(slots * model.hidden * 4);
  const DeviceBuffer residual = bench.random(rows * model.hidden, DType::kF32);
  ExpertFfnArgs ffn;
  ffn.x = routing.x.as<float>();
  const DeviceBuffer x16 = bench.rounded(routing.x, rows, model.hidden);
  ffn.x16 = x16.as<uint16_t>();
  ffn.slots = model.top_k;
  ffn.order = routing.order.as<int32_t>();
  ffn.offset = routing.offset.as<int32_t>();
  ffn.groups = model.experts;
  ffn.experts = layer.matrices.data();
  ffn.hidden = model.hidden;
  ffn.intermediate = model.intermediate;
  ffn.activation = activation.as<float>();
  ffn.out = out.as<float>();
  CombineArgs combine;
  combine.slot_out = out.as<float>();
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
  c.out = &out;
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

void bench_mixture(DeviceBench& bench) {
  for (int number = 0; number < kModelCount; ++number) {
    if (bench.skips(number)) continue;
    const ModelShape model = shape_of(kModels[number], bench.tiny());
    for (int64_t tokens : {512, 4096, 32768}) {
      if (bench.tiny() && tokens > 512) break;
      const int64_t rows = bench.tiny() ? 9 : tokens;
      for (int32_t kept : {model.experts, model.experts / 2}) {
        bench.attempt("B4", "mixture",
                      fmt::format("{} {} tokens, {} of {} experts", model.name, tokens, kept, model.experts),
                      [&](OpCase c) { mixture_case(bench, std::move(c), model, rows, kept); });
      }
    }
  }
}

void bench_routing(DeviceBench& bench) {
  for (int number : {0, 2, 3}) {
    if (bench.skips(number)) continue;
    const ModelShape model = shape_of(kModels[number], bench.tiny());
    for (int64_t tokens : {32768, 524288, 2097152}) {
      if (bench.tiny() && tokens > 32768) break;
      const int64_t rows = bench.tiny() ? 130 : tokens;
      bench.attempt("B5", "dispatch",
                    fmt::format("{} experts, top {}, {} tokens", model.experts, model.top_k, tokens),
                    [&](OpCase c) { dispatch_case(bench, std::move(c), model, rows); });
      bench.attempt("B5", "router + dispatch",
                    fmt::format("{} experts, {} tokens of 64 candidates", model.experts, tokens),
                    [&](OpCase c) { routing_case(bench, std::move(c), model, rows, bench.tiny() ? 3 : 64); });
    }
  }
}

}  // namespace eep::bench
