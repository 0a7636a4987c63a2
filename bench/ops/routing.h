// Router and dispatch of a layer of a released model, for candidates that keep as many experts each.
#pragma once

#include <algorithm>
#include <vector>

#include "bench/ops/ops.h"

namespace eep::bench {

struct Routing {
  Bench& bench;
  int64_t rows;
  ModelShape model;
  int32_t candidates;
  std::vector<int32_t> kept, map_of_row, group_of;
  std::vector<RouterMap> maps;
  DeviceBuffer x, gate, expert, weight, logits, offset, order;

  Routing(Bench& bench_, const ModelShape& model_, int64_t rows_, int32_t kept_count, int32_t candidates_)
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
    gate = bench.random_matrix(model.experts, model.hidden, DType::kBF16, 0.03f);
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
    router.gate = bench.packed(gate, model.experts, model.hidden);
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

// B5: the models, tokens as they are named and as --tiny has them.
template <typename Case>
void for_routed_models(const Bench& bench, Case one) {
  for (int number : {0, 2, 3}) {
    if (skips(bench, number)) continue;
    for (int64_t tokens : {32768, 524288, 2097152}) {
      if (bench.tiny() && tokens > 32768) break;
      one(shape_of(bench, number), tokens, bench.extent(tokens, 130));
    }
  }
}

}  // namespace eep::bench
