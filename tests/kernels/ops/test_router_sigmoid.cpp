// The router with sigmoid scores against the definition in double precision: selection bias, groups, scaling,
// maps of all kinds in both spaces. A GPU's bits are the CPU's.
#include <numeric>

#include "tests/kernels/ops/router_problem.h"

using namespace eep;
using namespace eep::test;

namespace {

template <class Row>
struct SigmoidLayer : Layer<Row> {
  SigmoidLayer(const RouterCase& c, Data& data, bool biased = true)
      : Layer<Row>(c.rows, c.experts, c.hidden, std::min(kMaxTopK, c.top_k + 1), data) {
    const Floats values = data.floats(c.experts, 0.3f);
    if (biased) this->selection_bias = values;
    this->score = RouterScore::kSigmoid;
    this->scale = 2.5f;
  }
};

// Scores of the kept rows, and what the choice goes by.
void reference(const RouterLayer& layer, const RouterMap& map, const float* logits,
               std::vector<double>& score, std::vector<double>& choice) {
  const auto sigmoid = [](double z) { return 1 / (1 + std::exp(-z)); };
  const auto mapped = [&](const auto& source, int32_t r) {
    if (map.kept_experts != nullptr) return source(map.kept_experts[r]);
    double sum = 0;
    for (int32_t e = 0; e < layer.experts; ++e)
      sum += static_cast<double>(map.matrix[r * layer.experts + e]) * source(e);
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
    choice.push_back(score.back());
    if (!layer.selection_bias.empty())
      choice.back() += mapped(
          [&](int32_t e) { return static_cast<double>(layer.selection_bias[static_cast<size_t>(e)]); }, r);
  }
  if (layer.groups == 1) return;
  const int32_t size = map.kept / layer.groups;
  std::vector<std::pair<double, int32_t>> sums;
  for (int32_t group = 0; group < layer.groups; ++group) {
    std::vector<double> part(choice.begin() + group * size, choice.begin() + (group + 1) * size);
    std::sort(part.rbegin(), part.rend());
    sums.emplace_back(part[0] + (size > 1 ? part[1] : 0), group);
  }
  std::stable_sort(sums.begin(), sums.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  for (size_t i = static_cast<size_t>(layer.top_groups); i < sums.size(); ++i) {
    std::fill_n(choice.begin() + sums[i].second * size, size, -INFINITY);
  }
}

// Of the chosen, those that stay reach to the last one whose score is not below the threshold.
void check_sigmoid_skipped(const RouterMap& map, const std::vector<double>& score,
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

// f32 sums of as many terms as there are experts and the sigmoid's few ulp; a choice closer than that may
// fall either way.
void check(const RouterLayer& layer, const Routed& out) {
  const double close = 1e-4;
  for (int64_t row = 0; row < layer.rows; ++row) {
    CAPTURE(row);
    const RouterMap& map = layer.map_of(row);
    std::vector<double> score, choice;
    reference(layer, map, &out.logits[static_cast<size_t>(row * layer.experts)], score, choice);
    const int32_t* expert = &out.expert[static_cast<size_t>(row * layer.slots)];
    const float* weight = &out.weight[static_cast<size_t>(row * layer.slots)];
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
    if (map.skip_below > 0) check_sigmoid_skipped(map, score, choice, expert, active, close);
    for (int32_t slot = active; slot < layer.slots; ++slot) {
      CHECK(expert[slot] == -1);
      CHECK(weight[slot] == 0.0f);
    }
    if (std::fabs(sum) < 0.05) continue;  // what cancels has no digits left
    for (int32_t slot = 0; slot < active; ++slot) {
      const double expected = static_cast<double>(layer.scale) * score[static_cast<size_t>(expert[slot])] /
                              (layer.renormalise ? sum : 1);
      CHECK(std::fabs(static_cast<double>(weight[slot]) - expected) <= close * (1 + std::fabs(expected)));
    }
  }
}

template <class Row>
void check_layer(const Layer<Row>& layer) {
  check(layer, layer.run_everywhere());
}

}  // namespace

EVERY_ROW("router: sigmoid scores with a bias, maps of all kinds, the CPU's bits") {
  for (const RouterCase& c : kRouterCases) {
    for (const bool renormalise : {true, false}) {
      CAPTURE(c.seed);
      CAPTURE(renormalise);
      Data data(c.seed);
      SigmoidLayer<Row> layer(c, data, c.seed % 3 != 0);
      layer.renormalise = renormalise;
      const MixedMaps maps(c, data, layer);
      check_layer(layer);
    }
  }
}

EVERY_ROW("router: sigmoid scores far below the first's are skipped, the CPU's bits") {
  for (const RouterCase& c : kRouterCases) {
    for (const bool renormalise : {true, false}) {
      CAPTURE(c.seed);
      CAPTURE(renormalise);
      Data data(c.seed + 5);
      SigmoidLayer<Row> layer(c, data, c.seed % 3 != 0);
      layer.renormalise = renormalise;
      const MixedMaps maps(c, data, layer, c.seed % 2 == 0 ? 0.9f : 0.6f);
      check_layer(layer);
    }
  }
}

EVERY_ROW("router: groups of sigmoid scores, of which some are chosen from") {
  for (const auto& [groups, top_groups] : {std::pair{2, 1}, {4, 2}, {8, 3}, {16, 16}}) {
    const RouterCase c{37, 32, 16, 2, 40, 71};
    Data data(c.seed + static_cast<uint64_t>(groups));
    SigmoidLayer<Row> layer(c, data);
    layer.groups = groups;
    layer.top_groups = top_groups;
    std::vector<int32_t> different(16);
    std::iota(different.begin(), different.end(), 9);
    for (RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
      layer.maps = {{different.data(), nullptr, 16, 2, space}};
      check_layer(layer);
    }
  }
}
