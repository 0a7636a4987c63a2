// A layer's router on each row of the op table, the maps that are sent through it, and what a row of softmax
// scores must give, in double precision from its f32 logits: order, exclusion and weights.
#pragma once

#include "tests/kernels/ops/op_rows.h"

namespace eep::test {

struct Routed {
  std::vector<int32_t> expert;  // [rows, slots]
  Floats weight, logits;        // [rows, slots], [rows, experts]
  RouterCounts counts;

  Floats flat() const {  // for comparing bits
    Floats all(expert.begin(), expert.end());
    all.insert(all.end(), weight.begin(), weight.end());
    all.insert(all.end(), logits.begin(), logits.end());
    all.push_back(static_cast<float>(counts.tiny_sums));
    all.push_back(static_cast<float>(counts.negative_sums));
    return all;
  }
  Floats slots() const {  // experts and weights, slot by slot
    Floats all;
    for (size_t slot = 0; slot < expert.size(); ++slot) {
      all.push_back(static_cast<float>(expert[slot]));
      all.push_back(weight[slot]);
    }
    return all;
  }
};

// Rows of x and the maps that they take.
struct RouterLayer {
  int64_t rows, hidden;
  int32_t experts, slots;
  Floats x;
  Floats bias, selection_bias;  // [experts], or empty
  std::vector<RouterMap> maps;
  std::vector<int32_t> map_of_row;
  bool renormalise = true, hf_rounding = false;
  RouterScore score = RouterScore::kSoftmax;
  float scale = 1;
  int32_t groups = 1, top_groups = 1;

  RouterLayer(int64_t rows_, int32_t experts_, int64_t hidden_, int32_t slots_, Floats x_)
      : rows(rows_), hidden(hidden_), experts(experts_), slots(slots_), x(std::move(x_)) {}

  const RouterMap& map_of(int64_t row) const {
    return maps[map_of_row.empty() ? 0 : static_cast<size_t>(map_of_row[static_cast<size_t>(row)])];
  }
  // Rows [first, first + count) through a gate of the row of the op table.
  template <class Row>
  Routed run(const PackedMatrix& gate, int64_t first, int64_t count, const Device& device) const {
    const Input<Row, float> in(x, first * hidden, count * hidden), bias_in(bias),
        selection_in(selection_bias);
    const Output<Row, int32_t> expert(count * slots, 99);
    const Output<Row, float> weight(count * slots, 99), logits(count * experts, 99);
    const Output<Row, RouterCounts> counts(1);
    RouterArgs args;
    args.x = in.data();
    args.rows = count;
    args.gate = gate;
    args.bias = bias.empty() ? nullptr : bias_in.data();
    args.maps = maps.data();
    args.map_of_row = map_of_row.empty() ? nullptr : map_of_row.data() + first;
    args.slots = slots;
    args.renormalise = renormalise;
    args.hf_rounding = hf_rounding;
    args.score = score;
    args.selection_bias = selection_bias.empty() ? nullptr : selection_in.data();
    args.scale = scale;
    args.groups = groups;
    args.top_groups = top_groups;
    args.expert = expert.data();
    args.weight = weight.data();
    args.logits = logits.data();
    args.counts = counts.data();
    call(Row(), args, device);
    return {expert.values(), weight.values(), logits.values(), counts.values()[0]};
  }
};

// The same with its gate on a row of the op table, and on the CPU, whose bits are every row's.
template <class Row>
struct Layer : RouterLayer {
  Matrix<Row> gate;
  Weights on_cpu;

  Layer(int64_t rows_, int32_t experts_, int64_t hidden_, int32_t slots_, Floats x_, const Floats& gate_,
        DType dtype)
      : RouterLayer(rows_, experts_, hidden_, slots_, std::move(x_)),
        gate(gate_, experts_, hidden_, dtype),
        on_cpu(gate_, experts_, hidden_, dtype) {}
  Layer(int64_t rows_, int32_t experts_, int64_t hidden_, int32_t slots_, Data& data,
        DType dtype = DType::kBF16)
      : RouterLayer(rows_, experts_, hidden_, slots_, data.floats(rows_ * hidden_)),
        gate(data.floats(experts_ * hidden_), experts_, hidden_, dtype),
        on_cpu(gate.values, experts_, hidden_, dtype) {}
  // Of a case, in bf16 and f16 by turns.
  Layer(const RouterCase& c, int32_t slots_, Data& data)
      : Layer(c.rows, c.experts, c.hidden, slots_, data, c.seed % 2 ? DType::kBF16 : DType::kF16) {}

  Routed run(int64_t first, int64_t count, const Device& device = Row::device()) const {
    return RouterLayer::run<Row>(gate.packed, first, count, device);
  }
  Routed run_cpu() const { return RouterLayer::run<Cpu>(on_cpu.packed, 0, rows, cpu(1)); }
  // The same bits everywhere, the CPU's.
  Routed run_everywhere() const {
    const Routed out = run_cpu();
    const auto bits = [&](const Device& device) { return run(0, rows, device).flat(); };
    CHECK(same_bits(Row::same_bits(bits), out.flat()));
    return out;
  }
};

// Mapped values of one row in double, from the f32 logits, with bounds.
inline std::vector<Bounded> mapped_values(const RouterMap& map, const float* logits, int32_t experts) {
  std::vector<Bounded> source;
  if (map.space == RouterSpace::kLogits) {
    for (int32_t e = 0; e < experts; ++e) source.push_back({static_cast<double>(logits[e]), 0});
  } else {
    const std::vector<double> p = softmax(std::vector<double>(logits, logits + experts));
    for (double value : p) source.push_back({value, value * gamma_n(experts / 16.0 + 16)});
  }
  std::vector<Bounded> mapped;
  for (int32_t r = 0; r < map.kept; ++r) {
    if (map.kept_experts != nullptr) {
      mapped.push_back(source[static_cast<size_t>(map.kept_experts[r])]);
      continue;
    }
    Bounded sum;
    double magnitude = 0;
    for (int32_t e = 0; e < experts; ++e) {
      const double w = static_cast<double>(map.matrix[r * experts + e]);
      sum.expected += w * source[static_cast<size_t>(e)].expected;
      sum.bound += std::fabs(w) * source[static_cast<size_t>(e)].bound;
      magnitude += std::fabs(w * source[static_cast<size_t>(e)].expected);
    }
    sum.bound += gamma_n(experts) * magnitude + kTiny;
    mapped.push_back(sum);
  }
  return mapped;
}

// The most by which one rounding to the dtype moves a value, f16 below its normal numbers included.
inline double rounding_error(DType dtype, double value) {
  if (dtype == DType::kBF16) return 0x1p-8 * std::fabs(value);
  return dtype == DType::kF16 ? 0x1p-11 * std::fabs(value) + 0x1p-25 : 0;
}

// The last expert that stays is not below the threshold, the best of those left out is.
template <class BoundOf>
void check_skipped(const RouterMap& map, const std::vector<double>& g, const BoundOf& bound_of,
                   const std::vector<bool>& chosen, const int32_t* expert, int32_t active) {
  const double threshold = static_cast<double>(map.skip_below);
  const size_t first = static_cast<size_t>(expert[0]), last = static_cast<size_t>(expert[active - 1]);
  const double least = threshold * g[first], error = threshold * bound_of(first) + kUnit * std::fabs(least);
  if (active > 1) CHECK(g[last] >= least - error - bound_of(last));
  if (active == map.top_k) return;
  double best = -HUGE_VAL, own = 0;
  for (size_t r = 0; r < g.size(); ++r) {
    if (!chosen[r] && g[r] > best) best = g[r], own = bound_of(r);
  }
  CHECK(best <= least + error + own);
}

// One row against the definition: order, exclusion, weights, these rounded once to `dtype`.
inline void check_row(const RouterMap& map, bool renormalise, const float* logits, int32_t experts,
                      int32_t slots, const int32_t* expert, const float* weight, DType dtype = DType::kF32) {
  const std::vector<Bounded> mapped = mapped_values(map, logits, experts);
  std::vector<bool> chosen(mapped.size());
  int32_t active = map.top_k;
  if (map.skip_below > 0)
    active = static_cast<int32_t>(std::find(expert + 1, expert + map.top_k, -1) - expert);
  for (int32_t slot = 0; slot < active; ++slot) {
    const size_t r = static_cast<size_t>(expert[slot]);
    REQUIRE(r < mapped.size());
    REQUIRE(!chosen[r]);
    chosen[r] = true;
    if (slot == 0) continue;
    const Bounded& before = mapped[static_cast<size_t>(expert[slot - 1])];
    CHECK(before.expected >= mapped[r].expected - before.bound - mapped[r].bound);
    const bool exact =
        map.kept_experts != nullptr;  // equal sources are equal values: the lower row goes first
    if (exact && map.kept_experts[expert[slot - 1]] == map.kept_experts[r])
      CHECK(expert[slot - 1] < expert[slot]);
  }
  const Bounded& last = mapped[static_cast<size_t>(expert[active - 1])];
  for (size_t r = 0; r < mapped.size(); ++r) {
    if (!chosen[r]) CHECK(last.expected >= mapped[r].expected - last.bound - mapped[r].bound);
  }
  std::vector<double> g;
  double relative = 0;
  if (map.space == RouterSpace::kLogits) {
    std::vector<double> values;
    double worst = 0, spread = 0;
    for (const Bounded& m : mapped) {
      values.push_back(m.expected);
      worst = std::max(worst, m.bound);
      spread = std::max(spread, std::fabs(m.expected - mapped[static_cast<size_t>(expert[0])].expected));
    }
    g = softmax(values);
    relative = 2 * (2 * worst + 8 * kUnit + kUnit * spread) + gamma_n(map.kept / 16.0 + 16);
  } else {
    for (const Bounded& m : mapped) g.push_back(m.expected);
  }
  const auto bound_of = [&](size_t r) {
    return map.space == RouterSpace::kLogits ? relative * g[r]
                                             : mapped[r].bound + kUnit * 4 * std::fabs(g[r]);
  };
  if (map.skip_below > 0) check_skipped(map, g, bound_of, chosen, expert, active);
  double sum = 0, sum_bound = 0;
  for (int32_t slot = 0; slot < active; ++slot) {
    const size_t r = static_cast<size_t>(expert[slot]);
    sum += g[r];
    sum_bound += bound_of(r);
  }
  for (int32_t slot = 0; slot < active; ++slot) {
    const size_t r = static_cast<size_t>(expert[slot]);
    double own = map.space == RouterSpace::kLogits ? relative * g[r] : mapped[r].bound;
    double expected = g[r], bound = own + kTiny;
    if (renormalise && std::fabs(sum) < static_cast<double>(kRouterTinySum)) {
      expected = 1.0 / active;
      bound = kUnit;
    } else if (renormalise) {
      expected = g[r] / sum;
      // the exponential ends at e^-87, below which it is 0
      own += map.space == RouterSpace::kLogits ? std::exp(-87.0) : 0;
      const double divisor = std::fabs(sum) - sum_bound;
      REQUIRE(divisor > 0);
      bound = (own + std::fabs(expected) * sum_bound) / divisor + 2 * kUnit * std::fabs(expected) + kTiny;
    }
    CAPTURE(slot);
    bound += rounding_error(dtype, std::fabs(expected) + bound);
    CHECK(std::fabs(static_cast<double>(weight[slot]) - expected) <= bound);
  }
  for (int32_t slot = active; slot < slots; ++slot) {
    CHECK(expert[slot] == -1);
    CHECK(weight[slot] == 0.0f);
  }
}

// A layer's rows against the definition. dtype: as for check_row.
inline void check_rows(const RouterLayer& layer, const Routed& out, DType dtype = DType::kF32) {
  for (int64_t row = 0; row < layer.rows; ++row) {
    CAPTURE(row);
    check_row(layer.map_of(row), layer.renormalise, &out.logits[static_cast<size_t>(row * layer.experts)],
              layer.experts, layer.slots, &out.expert[static_cast<size_t>(row * layer.slots)],
              &out.weight[static_cast<size_t>(row * layer.slots)], dtype);
  }
}

// Kept rows, one expert each.
inline std::vector<int32_t> some_experts(const RouterCase& c, Data& data) {
  std::vector<int32_t> kept(static_cast<size_t>(c.kept));
  for (int32_t& expert : kept) expert = static_cast<int32_t>(data.below(c.experts));
  return kept;
}
// A dense map, each of whose rows has one large coefficient.
inline Floats dense_map(const RouterCase& c, Data& data) {
  Floats dense = data.floats(c.kept * c.experts);
  for (int32_t r = 0; r < c.kept; ++r) dense[static_cast<size_t>(r * c.experts + r % c.experts)] += 3;
  return dense;
}

// One-hot, duplicate and dense maps in both spaces, dealt to the rows of a layer that must not outlive them.
struct MixedMaps {
  std::vector<int32_t> kept, twice;
  Floats dense;

  // skip_below: of all maps
  MixedMaps(const RouterCase& c, Data& data, RouterLayer& layer, float skip_below = 0)
      : kept(some_experts(c, data)), dense(dense_map(c, data)) {
    for (int32_t r = 0; r < c.kept; ++r) twice.push_back(kept[static_cast<size_t>(r / 2)]);
    for (RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
      layer.maps.push_back({kept.data(), nullptr, c.kept, c.top_k, space});
      layer.maps.push_back({twice.data(), nullptr, c.kept, 1, space});
      layer.maps.push_back({nullptr, dense.data(), c.kept, c.top_k, space});
    }
    for (RouterMap& map : layer.maps) map.skip_below = skip_below;
    for (int64_t row = 0; row < c.rows; ++row)
      layer.map_of_row.push_back(static_cast<int32_t>(data.below(6)));
  }
};

// Of 40 rows of 4 experts every fourth has selected values that sum to nothing, the others' sums are
// negative.
struct DegenerateMaps {
  Floats cancel = {0, 0, 0, 0, 0, 0, 0, 0}, negative = {-1, -2, -1, -1, -3, -1, -1, -1};

  explicit DegenerateMaps(RouterLayer& layer) {
    layer.maps = {{nullptr, cancel.data(), 2, 2, RouterSpace::kProbabilities},
                  {nullptr, negative.data(), 2, 2, RouterSpace::kProbabilities}};
    for (int32_t row = 0; row < 40; ++row) layer.map_of_row.push_back(row % 4 == 0 ? 0 : 1);
  }
  static void check(const Routed& out) {
    CHECK(out.counts.tiny_sums == 10);
    CHECK(out.counts.negative_sums == 30);
    CHECK(out.weight[0] == 0.5f);
    CHECK(out.expert[0] == 0);
  }
};

}  // namespace eep::test
