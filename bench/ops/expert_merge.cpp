// expert_merge: merged experts from base experts, in one read for all candidates. B1: with coefficients that
// are one-hot, sparse and dense; C: dense.
#include <fmt/format.h>

#include <vector>

#include "bench/ops/ops.h"
#include "tests/kernels/cases.h"

namespace eep::bench {
namespace {

struct MergeShape {
  int32_t experts, rows;
  int64_t elements;
  DType dtype = DType::kBF16;
};

// Coefficients [rows, experts] of which `percent` are not zero; 0: one-hot rows.
std::vector<float> coefficients(const MergeShape& shape, int percent) {
  std::vector<float> values(static_cast<size_t>(shape.rows) * static_cast<size_t>(shape.experts));
  for (int32_t row = 0; row < shape.rows; ++row) {
    for (int32_t expert = 0; expert < shape.experts; ++expert) {
      const auto word = philox({static_cast<uint32_t>(row), static_cast<uint32_t>(expert), 0, 0}, 21);
      const bool there = static_cast<int>(word[1] % 100) < percent || expert == row % shape.experts;
      values[static_cast<size_t>(row * shape.experts + expert)] = !there         ? 0.0f
                                                                  : percent == 0 ? 1.0f
                                                                                 : philox_uniform(word[0]);
    }
  }
  return values;
}

void merge_case(Bench& bench, OpCase c, const MergeShape& shape, int percent) {
  const DType dtype = bench.weights(shape.dtype);
  const auto size = static_cast<int64_t>(dtype_size(dtype));
  const DeviceBuffer base = bench.random(shape.experts * shape.elements, dtype);
  const DeviceBuffer merged = bench.empty(shape.rows * shape.elements * size);
  const std::vector<float> coefficient = coefficients(shape, percent);
  std::vector<const void*> from;
  std::vector<void*> to;
  for (int32_t i = 0; i < shape.experts; ++i) from.push_back(base.as<char>() + i * shape.elements * size);
  for (int32_t i = 0; i < shape.rows; ++i) to.push_back(merged.as<char>() + i * shape.elements * size);
  ExpertMergeArgs args;
  args.base = from.data();
  args.experts = shape.experts;
  args.elements = shape.elements;
  args.dtype = dtype;
  args.coefficient = coefficient.data();
  args.rows = shape.rows;
  args.merged = to.data();
  double products = 0;
  for (float value : coefficient) products += value != 0;
  c.flops = 2 * products * static_cast<double>(shape.elements);
  c.bytes = static_cast<double>(base.bytes() + merged.bytes());
  c.out = &merged;
  c.run = [&] { bench.ops().expert_merge(args, bench.device()); };
  bench.run(c);
}

void released_models(Bench& bench) {
  const struct {
    int model;
    int32_t experts, kept, candidates;
  } cases[] = {{0, 8, 4, 1},   {0, 8, 4, 8},   {0, 8, 2, 8},    {1, 8, 4, 1},
               {2, 60, 30, 1}, {2, 60, 30, 8}, {3, 128, 64, 1}, {3, 128, 64, 8}};
  for (const auto& merge : cases) {
    if (skips(bench, merge.model)) continue;
    const ModelShape model = shape_of(bench, merge.model);
    const int64_t elements = bench.tiny() ? 520 : 3 * model.hidden * model.intermediate;
    for (int percent : {0, 25, 100}) {
      const std::string name = fmt::format(
          "{} {} to {}, {} candidates, {}", model.name, merge.experts, merge.kept, merge.candidates,
          percent == 0 ? "one-hot" : fmt::format("{} % of coefficients", percent));
      bench.attempt("B1", "expert_merge", name, [&](OpCase c) {
        c.target = "2600 GB/s";
        merge_case(bench, std::move(c), {merge.experts, merge.kept * merge.candidates, elements}, percent);
      });
    }
  }
}

void small_shapes(Bench& bench) {
  for (const test::MergeCase& merge : test::kMergeShapes) {
    const MergeShape shape{merge.experts, static_cast<int32_t>(bench.extent(merge.rows, 4)),
                           bench.extent(merge.elements, 520), merge.dtype};
    bench.attempt(
        "C", "expert_merge",
        fmt::format("{}->{} of {} {}", shape.experts, shape.rows, shape.elements, dtype_name(shape.dtype)),
        [&](OpCase c) { merge_case(bench, std::move(c), shape, 100); });
  }
}

}  // namespace

void bench_expert_merge(Bench& bench) {
  released_models(bench);
  small_shapes(bench);
}

}  // namespace eep::bench
