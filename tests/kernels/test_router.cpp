// router: selection exact where it must be, weights within the bound, maps of all kinds in one call.
#include <limits>

#include "kernels/router.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/router_reference.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

namespace {

struct Layer {
  int64_t rows, hidden;
  int32_t experts;
  Floats x;
  Weights gate;
  Floats bias;  // [experts] of the logits, or empty
  std::vector<RouterMap> maps;
  std::vector<int32_t> map_of_row;
  int32_t slots;
  bool renormalise = true, hf_rounding = false;

  Layer(int64_t rows_, int32_t experts_, int64_t hidden_, Data& data, int32_t slots_)
      : rows(rows_),
        hidden(hidden_),
        experts(experts_),
        x(data.floats(rows_ * hidden_)),
        gate(data.floats(experts_ * hidden_), experts_, hidden_, DType::kBF16),
        slots(slots_) {}

  Routed run(int64_t first, int64_t count, const Device& device) const {
    Routed out;
    out.expert.assign(static_cast<size_t>(count * slots), 99);
    out.weight.assign(static_cast<size_t>(count * slots), 99);
    out.logits.assign(static_cast<size_t>(count * experts), 99);
    RouterArgs args;
    args.x = x.data() + first * hidden;
    args.rows = count;
    args.gate = gate.packed;
    args.bias = bias.empty() ? nullptr : bias.data();
    args.maps = maps.data();
    args.map_of_row = map_of_row.empty() ? nullptr : map_of_row.data() + first;
    args.slots = slots;
    args.renormalise = renormalise;
    args.hf_rounding = hf_rounding;
    args.expert = out.expert.data();
    args.weight = out.weight.data();
    args.logits = out.logits.data();
    args.counts = &out.counts;
    router_cpu(args, device);
    return out;
  }

  // Weights and experts in one vector, for comparing bits.
  Floats bits(int64_t first, int64_t count, const Device& device) const {
    const Routed out = run(first, count, device);
    Floats all;
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t slot = row * slots; slot < (row + 1) * slots; ++slot) {
        all.push_back(static_cast<float>(out.expert[static_cast<size_t>(slot)]));
        all.push_back(out.weight[static_cast<size_t>(slot)]);
      }
    }
    return all;
  }
};

void check_layer(const Layer& layer) {
  const Routed out = layer.run(0, layer.rows, cpu(1));
  check_bounded(out.logits,
                gemm(layer.x, layer.gate.values, layer.rows, layer.experts, layer.hidden, layer.bias));
  check_rows(layer, out);
  const Floats bits =
      same_bits_everywhere([&](const Device& device) { return layer.bits(0, layer.rows, device); });
  same_bits_in_batches(bits, layer.rows, 2 * layer.slots,
                       [&](int64_t first, int64_t rows) { return layer.bits(first, rows, cpu(1)); });
}

void check_hf_rounding(Layer& layer) {
  layer.hf_rounding = false;
  const Routed exact = layer.run(0, layer.rows, cpu(1));
  layer.hf_rounding = true;
  const Routed out = layer.run(0, layer.rows, cpu(1));
  CHECK(same_bits(out.logits, Typed(exact.logits, DType::kBF16).values));
  CHECK(same_bits(out.weight, Typed(out.weight, DType::kBF16).values));
  check_rows(layer, out, DType::kBF16);
  same_bits_everywhere([&](const Device& device) { return layer.bits(0, layer.rows, device); });
}

}  // namespace

TEST_CASE("router: one-hot, dense and duplicate rows, both spaces, mixed in one call") {
  for (const RouterCase& c : kRouterCases) {
    for (bool renormalise : {true, false}) {
      CAPTURE(c.seed);
      CAPTURE(renormalise);
      Data data(c.seed);
      Layer layer(c.rows, c.experts, c.hidden, data, std::min(kMaxTopK, c.top_k + 1));
      layer.renormalise = renormalise;
      const MixedMaps maps(c, data, layer);
      check_layer(layer);
    }
  }
}

TEST_CASE("router: a bias belongs to the logits, before the map and the softmax") {
  for (const RouterCase& c : kRouterCases) {
    for (bool renormalise : {true, false}) {
      CAPTURE(c.seed);
      CAPTURE(renormalise);
      Data data(c.seed + 3);
      Layer layer(c.rows, c.experts, c.hidden, data, c.top_k);
      layer.bias = data.floats(c.experts, 2.0f);
      layer.renormalise = renormalise;
      const MixedMaps maps(c, data, layer);
      check_layer(layer);
    }
  }
}

TEST_CASE("router: experts far below the first are skipped, the rest shares their weight") {
  for (const RouterCase& c : kRouterCases) {
    for (bool renormalise : {true, false}) {
      for (float skip_below : {0.3f, 0.9f, 1.0f}) {
        CAPTURE(c.seed);
        CAPTURE(renormalise);
        CAPTURE(skip_below);
        Data data(c.seed + 2);
        Layer layer(c.rows, c.experts, c.hidden, data, c.top_k);
        layer.renormalise = renormalise;
        const MixedMaps maps(c, data, layer, skip_below);
        check_layer(layer);
      }
    }
  }
  // Two experts with the weights 2/3 and 1/3: the second stays at one half, not above.
  Data data(78);
  Layer layer(1, 2, 1, data, 2);
  layer.x = {1.0f};
  layer.gate = Weights({std::log(2.0f), 0.0f}, 2, 1, DType::kF32);
  const std::vector<int32_t> kept = {0, 1};
  for (const RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
    layer.maps = {{kept.data(), nullptr, 2, 2, space, 0.49f}};
    CHECK(layer.run(0, 1, cpu(1)).expert == std::vector<int32_t>{0, 1});
    layer.maps[0].skip_below = 0.51f;
    const Routed out = layer.run(0, 1, cpu(1));
    CHECK(out.expert == std::vector<int32_t>{0, -1});
    CHECK(out.weight == Floats{1.0f, 0.0f});
  }
}

TEST_CASE("router: rounded as transformers does, logits and weights") {
  for (const RouterCase& c : kRouterCases) {
    Data data(c.seed + 1);
    Layer layer(c.rows, c.experts, c.hidden, data, c.top_k);
    const std::vector<int32_t> kept = some_experts(c, data);
    for (RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
      CAPTURE(c.seed);
      layer.maps = {{kept.data(), nullptr, c.kept, c.top_k, space}};
      check_hf_rounding(layer);
    }
  }
}

TEST_CASE("router: exact ties go to the lower row of the plan") {
  Data data(70);
  Layer layer(5, 6, 16, data, 3);
  const std::vector<int32_t> kept = {4, 2, 4, 2, 4};
  layer.maps = {{kept.data(), nullptr, 5, 3, RouterSpace::kLogits}};
  const Routed out = layer.run(0, 5, cpu(1));
  for (int64_t row = 0; row < 5; ++row) {
    const float four = out.logits[static_cast<size_t>(row * 6 + 4)],
                two = out.logits[static_cast<size_t>(row * 6 + 2)];
    const std::vector<int32_t> expected =
        four > two ? std::vector<int32_t>{0, 2, 4} : std::vector<int32_t>{1, 3, 0};
    CHECK(std::vector<int32_t>(out.expert.begin() + row * 3, out.expert.begin() + row * 3 + 3) == expected);
  }
}

TEST_CASE("router: logits are compared, not exponentials that round to ties") {
  // Two tiny logits one ulp apart: exp(1e-9 - 5) is the same f32 for both.
  Data data(71);
  Layer layer(1, 3, 1, data, 2);
  layer.x = {1.0f};
  const Floats gate = {std::nextafter(1e-9f, 0.0f), 1e-9f, 5.0f};
  layer.gate = Weights(gate, 3, 1, DType::kF32);
  const std::vector<int32_t> kept = {0, 1, 2};
  layer.maps = {{kept.data(), nullptr, 3, 2, RouterSpace::kLogits}};
  const Routed out = layer.run(0, 1, cpu(1));
  CHECK(out.expert == std::vector<int32_t>{2, 1});
}

TEST_CASE("router: sums near zero and negative sums are counted and defined") {
  Data data(72);
  Layer layer(40, 4, 8, data, 2);
  const DegenerateMaps maps(layer);
  check_layer(layer);
  for (int threads : {1, 3}) DegenerateMaps::check(layer.run(0, 40, cpu(threads)));
}

TEST_CASE("router: non-finite logits are the lowest and crash nothing") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  Data data(73);
  Layer layer(4, 3, 3, data, 2);
  layer.gate = Weights({1, 0, 0, 0, 1, 0, 0, 0, 1}, 3, 3, DType::kF32);
  // 0 * NaN poisons every logit, so rows of NaN are all NaN; infinity times 0 likewise.
  layer.x = {nan, nan, nan, 1, 2, 3, inf, inf, inf, -inf, 0, 0};
  const std::vector<int32_t> kept = {2, 0, 1};
  const Floats dense = {1, 1, 1, nan, 0, 0, 0, 0, 2};
  for (RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
    for (int dense_map = 0; dense_map < 2; ++dense_map) {
      layer.maps = {dense_map ? RouterMap{nullptr, dense.data(), 3, 2, space}
                              : RouterMap{kept.data(), nullptr, 3, 2, space}};
      for (const std::string& target : cpu_targets()) {
        set_cpu_target(target);
        const Routed out = layer.run(0, 4, cpu(1));
        CHECK(out.expert[0] == 0);  // all NaN: the lower rows
        CHECK(out.expert[1] == 1);
        if (dense_map) {
          CHECK(out.expert[2] != 1);  // the NaN row is never before a number
          CHECK(out.expert[3] != 1);
        } else {
          CHECK(out.expert[2] == 0);  // expert 2 has the largest logit
          CHECK(out.expert[3] == 2);
        }
      }
      set_cpu_target("auto");
    }
  }
}
