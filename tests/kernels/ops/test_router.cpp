// router: selection exact where it must be, weights within the bound, maps of all kinds in one call. A GPU's
// bits are the CPU's.
#include <limits>
#include <numeric>

#include "tests/kernels/ops/router_problem.h"

using namespace eep;
using namespace eep::test;

namespace {

template <class Row>
void check_layer(const Layer<Row>& layer) {
  const Routed out = layer.run_everywhere();
  check_bounded(out.logits,
                gemm(layer.x, layer.gate.values, layer.rows, layer.experts, layer.hidden, layer.bias));
  check_rows(layer, out);
  same_bits_in_batches(out.slots(), layer.rows, 2 * layer.slots,
                       [&](int64_t first, int64_t rows) { return layer.run(first, rows).slots(); });
}

}  // namespace

EVERY_ROW("router: one-hot, dense and duplicate rows, both spaces, mixed in one call") {
  for (const RouterCase& c : kRouterCases) {
    for (bool renormalise : {true, false}) {
      CAPTURE(c.seed);
      CAPTURE(renormalise);
      Data data(c.seed);
      Layer<Row> layer(c, std::min(kMaxTopK, c.top_k + 1), data);
      layer.renormalise = renormalise;
      const MixedMaps maps(c, data, layer);
      check_layer(layer);
    }
  }
}

EVERY_ROW("router: a bias belongs to the logits, before the map and the softmax") {
  for (const RouterCase& c : kRouterCases) {
    for (bool renormalise : {true, false}) {
      CAPTURE(c.seed);
      CAPTURE(renormalise);
      Data data(c.seed + 3);
      Layer<Row> layer(c, c.top_k, data);
      layer.bias = data.floats(c.experts, 2.0f);
      layer.renormalise = renormalise;
      const MixedMaps maps(c, data, layer);
      check_layer(layer);
    }
  }
}

EVERY_ROW("router: experts far below the first are skipped, the rest shares their weight") {
  for (const RouterCase& c : kRouterCases) {
    for (bool renormalise : {true, false}) {
      for (float skip_below : Row::kHost ? Floats{0.3f, 0.9f, 1.0f} : Floats{0.5f}) {
        CAPTURE(c.seed);
        CAPTURE(renormalise);
        CAPTURE(skip_below);
        Data data(c.seed + 2);
        Layer<Row> layer(c, c.top_k, data);
        layer.renormalise = renormalise;
        const MixedMaps maps(c, data, layer, skip_below);
        check_layer(layer);
      }
    }
  }
  // Two experts with the weights 2/3 and 1/3, that of bf16 for ln 2: the second stays at 0.49, not at 0.51.
  Layer<Row> layer(1, 2, 1, 2, {1.0f}, {std::log(2.0f), 0.0f}, DType::kBF16);
  const std::vector<int32_t> kept = {0, 1};
  for (const RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
    layer.maps = {{kept.data(), nullptr, 2, 2, space, 0.49f}};
    CHECK(layer.run(0, 1).expert == std::vector<int32_t>{0, 1});
    layer.maps[0].skip_below = 0.51f;
    const Routed out = layer.run(0, 1);
    CHECK(out.expert == std::vector<int32_t>{0, -1});
    CHECK(out.weight == Floats{1.0f, 0.0f});
  }
}

EVERY_ROW("router: rounded as transformers does, logits and weights") {
  for (const RouterCase& c : kRouterCases) {
    CAPTURE(c.seed);
    Data data(c.seed + 1);
    Layer<Row> layer(c, c.top_k, data);
    const std::vector<int32_t> kept = some_experts(c, data);
    const Floats dense = dense_map(c, data);
    const DType dtype = layer.on_cpu.packed.dtype;
    for (RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
      for (const bool is_dense : {false, true}) {
        layer.maps = {{kept.data(), nullptr, c.kept, c.top_k, space}};
        if (is_dense) layer.maps = {{nullptr, dense.data(), c.kept, c.top_k, space}};
        layer.hf_rounding = false;
        const Routed exact = layer.run_everywhere();
        layer.hf_rounding = true;
        const Routed out = layer.run_everywhere();
        CHECK(same_bits(out.logits, rounded(exact.logits, dtype)));
        CHECK(same_bits(out.weight, rounded(out.weight, dtype)));
        if (is_dense && c.top_k > 1) CHECK(!same_bits(out.weight, exact.weight));
        if (!is_dense) check_rows(layer, out, dtype);
      }
    }
  }
}

EVERY_ROW("router: exact ties go to the lower row of the plan") {
  Data data(70);
  Layer<Row> layer(5, 6, 16, 3, data);
  const std::vector<int32_t> kept = {4, 2, 4, 2, 4};
  layer.maps = {{kept.data(), nullptr, 5, 3, RouterSpace::kLogits}};
  const Routed out = layer.run(0, 5);
  for (int64_t row = 0; row < 5; ++row) {
    const float four = out.logits[static_cast<size_t>(row * 6 + 4)],
                two = out.logits[static_cast<size_t>(row * 6 + 2)];
    const std::vector<int32_t> expected =
        four > two ? std::vector<int32_t>{0, 2, 4} : std::vector<int32_t>{1, 3, 0};
    CHECK(slice(out.expert, row * 3, 3) == expected);
  }
}

EVERY_ROW("router: logits are compared, not exponentials that round to ties") {
  // Two tiny logits one ulp apart: exp(1e-9 - 5) is the same f32 for both.
  const float tiny = 1e-9f, ulp = std::nextafter(tiny, 1.0f) - tiny;
  Layer<Row> layer(1, 3, 3, 2, {tiny, ulp, 5.0f}, {1, 0, 0, 1, 1, 0, 0, 0, 1}, DType::kBF16);
  const std::vector<int32_t> kept = {0, 1, 2};
  layer.maps = {{kept.data(), nullptr, 3, 2, RouterSpace::kLogits}};
  CHECK(layer.run(0, 1).expert == std::vector<int32_t>{2, 1});
}

EVERY_ROW("router: sums near zero and negative sums are counted and defined") {
  Data data(72);
  Layer<Row> layer(40, 4, 8, 2, data);
  const DegenerateMaps maps(layer);
  check_layer(layer);
  Row::same_bits([&](const Device& device) {
    const Routed out = layer.run(0, 40, device);
    DegenerateMaps::check(out);
    return out.flat();
  });
}

EVERY_ROW("router: non-finite logits are the lowest and crash nothing") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  // 0 * NaN poisons every logit, so rows of NaN are all NaN; infinity times 0 likewise.
  const Floats x = {nan, nan, nan, 1, 2, 3, inf, inf, inf, -inf, 0, 0};
  Layer<Row> layer(4, 3, 3, 2, x, {1, 0, 0, 0, 1, 0, 0, 0, 1}, DType::kF16);
  const std::vector<int32_t> kept = {2, 0, 1};
  const Floats dense = {1, 1, 1, nan, 0, 0, 0, 0, 2};
  for (RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
    for (bool is_dense : {false, true}) {
      layer.maps = {is_dense ? RouterMap{nullptr, dense.data(), 3, 2, space}
                             : RouterMap{kept.data(), nullptr, 3, 2, space}};
      Row::same_bits([&](const Device& device) {
        const Routed out = layer.run(0, 4, device);
        CHECK(out.expert[0] == 0);  // all NaN: the lower rows
        CHECK(out.expert[1] == 1);
        if (is_dense) {
          CHECK(out.expert[2] != 1);  // the NaN row is never before a number
          CHECK(out.expert[3] != 1);
        } else {
          CHECK(out.expert[2] == 0);  // expert 2 has the largest logit
          CHECK(out.expert[3] == 2);
        }
        return out.expert;
      });
      CHECK(layer.run(0, 4).expert == layer.run_cpu().expert);
    }
  }
}

// 128 experts of Qwen3 over its width, dense maps among them, in more rows than a launch has blocks of.
EVERY_ROW("router: full width") {
#ifdef EEP_TEST_CUDA
  const RouterCase c{16000, 128, 64, 8, 2048, 69};  // in tiles of 128 rows
#else
  const RouterCase c{40, 128, 64, 8, 2048, 69};
#endif
  Data data(c.seed);
  Layer<Row> layer(c, c.top_k, data);
  const MixedMaps maps(c, data, layer);
  const Routed out = layer.run(0, layer.rows);
  check_rows(layer, out);
  CHECK(same_bits(out.flat(), layer.run_cpu().flat()));
  CHECK(
      same_bits(layer.run(c.rows - 1, 1).weight.data(), out.weight.data() + (c.rows - 1) * c.top_k, c.top_k));
}

// One multiprocessor takes the wide, the square, the narrow and the few-rows tile in turn (gate_logits.h);
// extents that do not come out even, and rows of x that do not start at 16 bytes.
TEST_CASE("gpu router: in every tile of the product, with a bias and without, the logits are the CPU's") {
  struct Extents {
    int64_t rows;
    int32_t experts;
    int64_t hidden;
  };
  for (const Extents& e : {Extents{100, 100, 72},
                           {130, 129, 36},
                           {60, 60, 132},
                           {60, 8, 300},
                           {150, 5, 128},
                           {20, 20, 200},
                           {100, 100, 33}}) {
    CAPTURE(e.hidden);
    for (const bool biased : {false, true}) {
      const DType dtype = biased == (e.hidden % 8 == 0) ? DType::kBF16 : DType::kF16;
      Data data(75);
      Layer<Gpu> layer(e.rows, e.experts, e.hidden, 2, data, dtype);
      if (biased) layer.bias = data.floats(e.experts);
      std::vector<int32_t> kept(static_cast<size_t>(e.experts));
      std::iota(kept.begin(), kept.end(), 0);
      layer.maps = {{kept.data(), nullptr, e.experts, 2, RouterSpace::kLogits}};
      layer.run_everywhere();
    }
  }
}

EVERY_ROW("router: the largest sizes, more kept rows than experts, ties to the lower row") {
  Data data(74);
  std::vector<int32_t> kept(kMaxExperts), same(kMaxExperts, 5);
  for (const int32_t most : {512, 513, kMaxExperts}) {
    CAPTURE(most);
    Layer<Row> layer(3, most, 9, kMaxTopK, data);
    for (int32_t r = 0; r < most; ++r) kept[static_cast<size_t>(r)] = most - 1 - r;
    layer.maps = {{kept.data(), nullptr, most, kMaxTopK, RouterSpace::kLogits},
                  {same.data(), nullptr, most, kMaxTopK, RouterSpace::kProbabilities}};
    layer.map_of_row = {0, 1, 0};
    check_layer(layer);
    const Routed out = layer.run(0, 3);
    for (int32_t slot = 0; slot < kMaxTopK; ++slot)
      CHECK(out.expert[static_cast<size_t>(kMaxTopK + slot)] == slot);
  }

  Layer<Row> few(2, 4, 9, 2, data);
  few.maps = {{kept.data() + kMaxExperts - 4, nullptr, 4, 2, RouterSpace::kLogits}};
  check_layer(few);
  few.maps[0] = {same.data(), nullptr, 40, 2, RouterSpace::kProbabilities};
  std::fill(same.begin(), same.end(), 3);
  check_layer(few);

  Layer<Row> beyond(1, kMaxExperts + 1, 2, 1, data);
  beyond.maps = {{kept.data(), nullptr, 4, 1, RouterSpace::kLogits}};
  CHECK(throws_with([&] { beyond.run(0, 1); },
                    "router: too many experts or slots (expected at most 1024 and 32"));
}
