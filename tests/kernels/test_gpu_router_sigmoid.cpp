// The router with sigmoid scores: the CPU against the definition in double precision, and the GPU's bits,
// which are the CPU's. Selection bias, groups, scaling, maps of all kinds in both spaces.
#include <algorithm>
#include <numeric>

#include "kernels/router.h"
#include "tests/kernels/gpu_matrices.h"
#include "tests/kernels/router_reference.h"

using namespace eep;
using namespace eep::test;

namespace {

struct SigmoidLayer {
  RouterCase c;
  Floats x, bias;
  DeviceWeights gate;
  Weights on_cpu;
  std::vector<RouterMap> maps;
  std::vector<int32_t> map_of_row;
  bool renormalise = true, biased = true;
  int32_t groups = 1, top_groups = 1, slots;

  SigmoidLayer(const RouterCase& c_, Data& data)
      : c(c_),
        x(data.floats(c.rows * c.hidden)),
        bias(data.floats(c.experts, 0.3f)),
        gate(data.floats(c.experts * c.hidden), c.experts, c.hidden, DType::kBF16),
        on_cpu(gate.values, c.experts, c.hidden, DType::kBF16),
        slots(std::min(kMaxTopK, c.top_k + 1)) {}

  RouterArgs args() const {
    RouterArgs args;
    args.rows = c.rows;
    args.maps = maps.data();
    args.map_of_row = map_of_row.empty() ? nullptr : map_of_row.data();
    args.slots = slots;
    args.renormalise = renormalise;
    args.score = RouterScore::kSigmoid;
    args.scale = 2.5f;
    args.groups = groups;
    args.top_groups = top_groups;
    return args;
  }

  Routed run_cpu(const Device& device) const {
    Routed out{std::vector<int32_t>(static_cast<size_t>(c.rows * slots)),
               Floats(static_cast<size_t>(c.rows * slots)),
               Floats(static_cast<size_t>(c.rows * c.experts)),
               {}};
    RouterArgs args = this->args();
    args.x = x.data();
    args.gate = on_cpu.packed;
    args.selection_bias = biased ? bias.data() : nullptr;
    args.expert = out.expert.data();
    args.weight = out.weight.data();
    args.logits = out.logits.data();
    args.counts = &out.counts;
    router_cpu(args, device);
    return out;
  }

  Routed run_gpu() const {
    const OnDevice<float> in(x), on_device(bias);
    const OnDevice<int32_t> expert(c.rows * slots, 99);
    const OnDevice<float> weight(c.rows * slots, 99), logits(c.rows * c.experts, 99);
    const OnDevice<RouterCounts> counts(1);
    RouterArgs args = this->args();
    args.x = in.data();
    args.gate = gate.packed;
    args.selection_bias = biased ? on_device.data() : nullptr;
    args.expert = expert.data();
    args.weight = weight.data();
    args.logits = logits.data();
    args.counts = counts.data();
    GPU_ROW(router)(args, gpu_device());
    return {expert.values(), weight.values(), logits.values(), counts[0]};
  }

  // Scores of the kept rows, and what the choice goes by.
  void reference(const RouterMap& map, const float* logits, std::vector<double>& score,
                 std::vector<double>& choice) const {
    const auto sigmoid = [](double z) { return 1 / (1 + std::exp(-z)); };
    const auto mapped = [&](const auto& source, int32_t r) {
      if (map.kept_experts != nullptr) return source(map.kept_experts[r]);
      double sum = 0;
      for (int32_t e = 0; e < c.experts; ++e)
        sum += static_cast<double>(map.matrix[r * c.experts + e]) * source(e);
      return sum;
    };
    const bool probabilities = map.space == RouterSpace::kProbabilities;
    for (int32_t r = 0; r < map.kept; ++r) {
      const double value = mapped(
          [&](int32_t e) {
            const double z = static_cast<double>(logits[e]);
            return probabilities ? sigmoid(z) : z;
          },
          r);
      score.push_back(probabilities ? value : sigmoid(value));
      const double b =
          mapped([&](int32_t e) { return static_cast<double>(bias[static_cast<size_t>(e)]); }, r);
      choice.push_back(score.back() + (biased ? b : 0));
    }
    if (groups == 1) return;
    const int32_t size = map.kept / groups;
    std::vector<std::pair<double, int32_t>> sums;
    for (int32_t group = 0; group < groups; ++group) {
      std::vector<double> part(choice.begin() + group * size, choice.begin() + (group + 1) * size);
      std::sort(part.rbegin(), part.rend());
      sums.emplace_back(part[0] + (size > 1 ? part[1] : 0), group);
    }
    std::stable_sort(sums.begin(), sums.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    for (size_t i = static_cast<size_t>(top_groups); i < sums.size(); ++i) {
      std::fill_n(choice.begin() + sums[i].second * size, size, -INFINITY);
    }
  }

  // Of the chosen, those that stay reach to the last one whose score is not below the threshold.
  static void check_skipped(const RouterMap& map, const std::vector<double>& score,
                            const std::vector<double>& choice, const int32_t* expert, int32_t active,
                            double close) {
    const auto score_of = [&](int32_t row) { return score[static_cast<size_t>(row)]; };
    const auto choice_of = [&](int32_t row) { return choice[static_cast<size_t>(row)]; };
    const double least = static_cast<double>(map.skip_below) * score_of(expert[0]);
    if (active > 1) CHECK(score_of(expert[active - 1]) >= least - close);
    std::vector<int32_t> order(choice.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return choice_of(a) > choice_of(b); });
    for (int32_t slot = active; slot < map.top_k; ++slot) {
      const double own = choice_of(order[static_cast<size_t>(slot)]);
      const auto unclear = [&](int32_t row) {
        return row != order[static_cast<size_t>(slot)] && std::fabs(choice_of(row) - own) <= close;
      };
      if (std::none_of(order.begin(), order.end(), unclear))
        CHECK(score_of(order[static_cast<size_t>(slot)]) <= least + close);
    }
  }

  // f32 sums of c.experts terms and the sigmoid's few ulp; a choice closer than that may fall either way.
  void check(const Routed& out) const {
    const double close = 1e-4;
    for (int64_t row = 0; row < c.rows; ++row) {
      CAPTURE(row);
      const RouterMap& map =
          maps[map_of_row.empty() ? 0 : static_cast<size_t>(map_of_row[static_cast<size_t>(row)])];
      std::vector<double> score, choice;
      reference(map, &out.logits[static_cast<size_t>(row * c.experts)], score, choice);
      const int32_t* expert = &out.expert[static_cast<size_t>(row * slots)];
      const float* weight = &out.weight[static_cast<size_t>(row * slots)];
      std::vector<double> sorted = choice;
      std::sort(sorted.rbegin(), sorted.rend());
      int32_t active = map.top_k;
      if (map.skip_below > 0)
        active = static_cast<int32_t>(std::find(expert + 1, expert + map.top_k, -1) - expert);
      double sum = 0;
      for (int32_t slot = 0; slot < active; ++slot) {
        REQUIRE(expert[slot] >= 0);
        REQUIRE(expert[slot] < map.kept);
        CHECK(std::count(expert, expert + active, expert[slot]) == 1);
        CHECK(choice[static_cast<size_t>(expert[slot])] >= sorted[static_cast<size_t>(slot)] - close);
        sum += score[static_cast<size_t>(expert[slot])];
      }
      if (map.skip_below > 0) check_skipped(map, score, choice, expert, active, close);
      for (int32_t slot = active; slot < slots; ++slot) {
        CHECK(expert[slot] == -1);
        CHECK(weight[slot] == 0.0f);
      }
      if (std::fabs(sum) < 0.05) continue;  // what cancels has no digits left
      for (int32_t slot = 0; slot < active; ++slot) {
        const double expected = 2.5 * score[static_cast<size_t>(expert[slot])] / (renormalise ? sum : 1);
        CHECK(std::fabs(static_cast<double>(weight[slot]) - expected) <= close * (1 + std::fabs(expected)));
      }
    }
  }
};

void check_layer(const SigmoidLayer& layer) {
  const Routed out = layer.run_cpu(cpu(1));
  layer.check(out);
  same_bits_everywhere([&](const Device& device) { return layer.run_cpu(device).flat(); });
  CHECK(same_bits(same_bits_in_schedules([&] { return layer.run_gpu().flat(); }), out.flat()));
}

}  // namespace

TEST_CASE("gpu router: sigmoid scores with a bias, maps of all kinds, the CPU's bits") {
  for (const RouterCase& c : kRouterCases) {
    for (const bool renormalise : {true, false}) {
      CAPTURE(c.seed);
      Data data(c.seed);
      SigmoidLayer layer(c, data);
      layer.renormalise = renormalise;
      layer.biased = c.seed % 3 != 0;
      const MixedMaps maps(c, data, layer);
      check_layer(layer);
    }
  }
}

TEST_CASE("gpu router: sigmoid scores far below the first's are skipped, with the CPU's bits") {
  for (const RouterCase& c : kRouterCases) {
    for (const bool renormalise : {true, false}) {
      CAPTURE(c.seed);
      CAPTURE(renormalise);
      Data data(c.seed + 5);
      SigmoidLayer layer(c, data);
      layer.renormalise = renormalise;
      layer.biased = c.seed % 3 != 0;
      const MixedMaps maps(c, data, layer, c.seed % 2 == 0 ? 0.9f : 0.6f);
      check_layer(layer);
    }
  }
}

TEST_CASE("gpu router: groups of sigmoid scores, of which some are chosen from") {
  for (const auto& [groups, top_groups] : {std::pair{2, 1}, {4, 2}, {8, 3}, {16, 16}}) {
    const RouterCase c{37, 32, 16, 2, 40, 71};
    Data data(c.seed + static_cast<uint64_t>(groups));
    SigmoidLayer layer(c, data);
    layer.groups = groups;
    layer.top_groups = top_groups;
    const std::vector<int32_t> kept = some_experts(c, data);
    std::vector<int32_t> different(16);
    std::iota(different.begin(), different.end(), 9);
    layer.maps = {{different.data(), nullptr, 16, 2, RouterSpace::kLogits}};
    check_layer(layer);
    layer.maps[0].space = RouterSpace::kProbabilities;
    check_layer(layer);
  }
}
