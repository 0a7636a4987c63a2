// The GPU's router on the host executor: selection and weights within the bounds of the definition, the CPU's
// bits, maps of all kinds in one launch.
#include <limits>

#include "kernels/router.h"
#include "tests/kernels/gpu_matrices.h"
#include "tests/kernels/router_reference.h"

using namespace eep;
using namespace eep::test;

namespace {

struct GpuLayer {
  int64_t rows, hidden;
  int32_t experts, slots;
  Floats x;
  DeviceWeights gate;
  Weights on_cpu;
  Floats bias;  // [experts] of the logits, or empty
  std::vector<RouterMap> maps;
  std::vector<int32_t> map_of_row;
  bool renormalise = true, hf_rounding = false;

  GpuLayer(int64_t rows_, int32_t experts_, int64_t hidden_, int32_t slots_, Floats x_, const Floats& gate_,
           DType dtype)
      : rows(rows_),
        hidden(hidden_),
        experts(experts_),
        slots(slots_),
        x(std::move(x_)),
        gate(gate_, experts_, hidden_, dtype),
        on_cpu(gate_, experts_, hidden_, dtype) {}
  GpuLayer(int64_t rows_, int32_t experts_, int64_t hidden_, int32_t slots_, Data& data,
           DType dtype = DType::kBF16)
      : GpuLayer(rows_, experts_, hidden_, slots_, data.floats(rows_ * hidden_),
                 data.floats(experts_ * hidden_), dtype) {}

  RouterArgs args(int64_t first, int64_t count) const {
    RouterArgs args;
    args.rows = count;
    args.maps = maps.data();
    args.map_of_row = map_of_row.empty() ? nullptr : map_of_row.data() + first;
    args.slots = slots;
    args.renormalise = renormalise;
    args.hf_rounding = hf_rounding;
    return args;
  }

  Routed run(int64_t first, int64_t count) const {
    const OnDevice<float> in(Floats(x.begin() + first * hidden, x.begin() + (first + count) * hidden));
    const OnDevice<int32_t> expert(count * slots, 99);
    const OnDevice<float> weight(count * slots, 99), logits(count * experts, 99);
    const OnDevice<RouterCounts> counts(1);
    const OnDevice<float> bias_there(bias);
    RouterArgs args = this->args(first, count);
    args.x = in.data();
    args.bias = bias.empty() ? nullptr : bias_there.data();
    args.gate = gate.packed;
    args.expert = expert.data();
    args.weight = weight.data();
    args.logits = logits.data();
    args.counts = counts.data();
    GPU_ROW(router)(args, gpu_device());
    return {expert.values(), weight.values(), logits.values(), counts[0]};
  }

  Routed run_cpu() const {
    Routed out{std::vector<int32_t>(static_cast<size_t>(rows * slots)),
               Floats(static_cast<size_t>(rows * slots)),
               Floats(static_cast<size_t>(rows * experts)),
               {}};
    RouterArgs args = this->args(0, rows);
    args.x = x.data();
    args.bias = bias.empty() ? nullptr : bias.data();
    args.gate = on_cpu.packed;
    args.expert = out.expert.data();
    args.weight = out.weight.data();
    args.logits = out.logits.data();
    args.counts = &out.counts;
    router_cpu(args, cpu(1));
    return out;
  }
};

void check_layer(const GpuLayer& layer) {
  const Routed out = layer.run(0, layer.rows);
  check_bounded(out.logits,
                gemm(layer.x, layer.gate.values, layer.rows, layer.experts, layer.hidden, layer.bias));
  check_rows(layer, out);
  CHECK(same_bits(same_bits_in_schedules([&] { return layer.run(0, layer.rows).flat(); }),
                  layer.run_cpu().flat()));
  same_bits_in_batches(out.weight, layer.rows, layer.slots,
                       [&](int64_t first, int64_t rows) { return layer.run(first, rows).weight; });
}

}  // namespace

// 128 experts of Qwen3 over its width, dense maps among them, in more rows than a launch has blocks of.
TEST_CASE("gpu router: full width") {
#ifdef EEP_TEST_CUDA
  const RouterCase c{16000, 128, 64, 8, 2048, 69};  // in tiles of 128 rows
#else
  const RouterCase c{40, 128, 64, 8, 2048, 69};
#endif
  Data data(c.seed);
  GpuLayer layer(c.rows, c.experts, c.hidden, c.top_k, data);
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
      GpuLayer layer(e.rows, e.experts, e.hidden, 2, data, dtype);
      if (biased) layer.bias = data.floats(e.experts);
      std::vector<int32_t> kept(static_cast<size_t>(e.experts));
      for (int32_t r = 0; r < e.experts; ++r) kept[static_cast<size_t>(r)] = r;
      layer.maps = {{kept.data(), nullptr, e.experts, 2, RouterSpace::kLogits}};
      CHECK(same_bits(same_bits_in_schedules([&] { return layer.run(0, layer.rows).flat(); }),
                      layer.run_cpu().flat()));
    }
  }
}

TEST_CASE("gpu router: experts far below the first are skipped, with the CPU's bits") {
  for (const RouterCase& c : kRouterCases) {
    for (bool renormalise : {true, false}) {
      CAPTURE(c.seed);
      CAPTURE(renormalise);
      Data data(c.seed + 2);
      GpuLayer layer(c.rows, c.experts, c.hidden, c.top_k, data, c.seed % 2 ? DType::kBF16 : DType::kF16);
      layer.renormalise = renormalise;
      const MixedMaps maps(c, data, layer, 0.5f);
      check_layer(layer);
    }
  }
}

TEST_CASE("gpu router: one-hot, dense and duplicate rows, both spaces, mixed in one launch") {
  for (const RouterCase& c : kRouterCases) {
    for (bool renormalise : {true, false}) {
      CAPTURE(c.seed);
      CAPTURE(renormalise);
      Data data(c.seed);
      GpuLayer layer(c.rows, c.experts, c.hidden, std::min(kMaxTopK, c.top_k + 1), data,
                     c.seed % 2 ? DType::kBF16 : DType::kF16);
      layer.renormalise = renormalise;
      const MixedMaps maps(c, data, layer);
      check_layer(layer);
    }
  }
}

TEST_CASE("gpu router: rounded as transformers does, with the CPU's bits") {
  for (const RouterCase& c : kRouterCases) {
    CAPTURE(c.seed);
    Data data(c.seed + 2);
    GpuLayer layer(c.rows, c.experts, c.hidden, c.top_k, data, c.seed % 2 ? DType::kBF16 : DType::kF16);
    layer.hf_rounding = true;
    const Floats dense = dense_map(c, data);
    layer.maps = {{nullptr, dense.data(), c.kept, c.top_k, RouterSpace::kLogits},
                  {nullptr, dense.data(), c.kept, c.top_k, RouterSpace::kProbabilities}};
    for (int64_t row = 0; row < c.rows; ++row) layer.map_of_row.push_back(static_cast<int32_t>(row % 2));
    const Routed out = layer.run(0, layer.rows);
    CHECK(same_bits(out.flat(), layer.run_cpu().flat()));
    layer.hf_rounding = false;
    const Routed exact = layer.run(0, layer.rows);
    CHECK(same_bits(out.logits, rounded(exact.logits, layer.on_cpu.packed.dtype)));
    if (c.top_k > 1) CHECK(!same_bits(out.weight, exact.weight));
  }
}

TEST_CASE("gpu router: the largest sizes, more kept rows than experts, ties to the lower row") {
  Data data(74);
  std::vector<int32_t> kept(kMaxExperts), same(kMaxExperts, 5);
  for (const int32_t most : {512, 513, kMaxExperts}) {
    CAPTURE(most);
    GpuLayer layer(3, most, 9, kMaxTopK, data);
    for (int32_t r = 0; r < most; ++r) kept[static_cast<size_t>(r)] = most - 1 - r;
    layer.maps = {{kept.data(), nullptr, most, kMaxTopK, RouterSpace::kLogits},
                  {same.data(), nullptr, most, kMaxTopK, RouterSpace::kProbabilities}};
    layer.map_of_row = {0, 1, 0};
    check_layer(layer);
    const Routed out = layer.run(0, 3);
    for (int32_t slot = 0; slot < kMaxTopK; ++slot)
      CHECK(out.expert[static_cast<size_t>(kMaxTopK + slot)] == slot);
  }

  GpuLayer few(2, 4, 9, 2, data);
  few.maps = {{kept.data() + kMaxExperts - 4, nullptr, 4, 2, RouterSpace::kLogits}};
  check_layer(few);
  few.maps[0] = {same.data(), nullptr, 40, 2, RouterSpace::kProbabilities};
  std::fill(same.begin(), same.end(), 3);
  check_layer(few);

  GpuLayer beyond(1, kMaxExperts + 1, 2, 1, data);
  beyond.maps = {{kept.data(), nullptr, 4, 1, RouterSpace::kLogits}};
  CHECK(throws_with([&] { beyond.run(0, 1); },
                    "router: too many experts or slots (expected at most 1024 and 32"));
}

TEST_CASE("gpu router: logits are compared, not exponentials that round to ties") {
  // Two tiny logits one ulp apart: exp(1e-9 - 5) is the same f32 for both.
  const float tiny = 1e-9f, ulp = std::nextafter(tiny, 1.0f) - tiny;
  GpuLayer layer(1, 3, 3, 2, {tiny, ulp, 5.0f}, {1, 0, 0, 1, 1, 0, 0, 0, 1}, DType::kBF16);
  const std::vector<int32_t> kept = {0, 1, 2};
  layer.maps = {{kept.data(), nullptr, 3, 2, RouterSpace::kLogits}};
  CHECK(layer.run(0, 1).expert == std::vector<int32_t>{2, 1});
}

TEST_CASE("gpu router: sums near zero and negative sums are counted and defined") {
  Data data(72);
  GpuLayer layer(40, 4, 8, 2, data);
  const DegenerateMaps maps(layer);
  check_layer(layer);
  DegenerateMaps::check(layer.run(0, 40));
}

TEST_CASE("gpu router: non-finite logits are the lowest and crash nothing") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  GpuLayer layer(4, 3, 3, 2, {nan, nan, nan, 1, 2, 3, inf, inf, inf, -inf, 0, 0}, {1, 0, 0, 0, 1, 0, 0, 0, 1},
                 DType::kF16);
  const std::vector<int32_t> kept = {2, 0, 1};
  const Floats dense = {1, 1, 1, nan, 0, 0, 0, 0, 2};
  for (RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
    for (bool dense_map : {false, true}) {
      layer.maps = {dense_map ? RouterMap{nullptr, dense.data(), 3, 2, space}
                              : RouterMap{kept.data(), nullptr, 3, 2, space}};
      CHECK(layer.run(0, 4).expert == layer.run_cpu().expert);
    }
  }
}
