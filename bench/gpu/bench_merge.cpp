// B1: merged experts of several candidates in one read of the base experts.
#include <fmt/format.h>

#include <vector>

#include "bench/gpu/device_bench.h"

namespace eep::bench {
namespace {

struct MergeShape {
  int32_t experts, kept, candidates;
};

// Coefficients [rows, experts] of which `percent` are not zero; 0: one-hot rows.
std::vector<float> coefficients(const MergeShape& shape, int percent) {
  const int32_t rows = shape.kept * shape.candidates;
  std::vector<float> values(static_cast<size_t>(rows) * static_cast<size_t>(shape.experts));
  for (int32_t row = 0; row < rows; ++row) {
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

void merge_case(DeviceBench& bench, OpCase c, const ModelShape& model, const MergeShape& shape, int percent) {
  const int64_t elements = bench.tiny() ? 520 : 3 * model.hidden * model.intermediate;
  const int32_t rows = shape.kept * shape.candidates;
  const DeviceBuffer base = bench.random(shape.experts * elements, bench.weights());
  const DeviceBuffer merged = bench.empty(rows * elements * 2);
  const std::vector<float> coefficient = coefficients(shape, percent);
  std::vector<const void*> from;
  std::vector<void*> to;
  for (int32_t i = 0; i < shape.experts; ++i) from.push_back(base.as<uint16_t>() + i * elements);
  for (int32_t i = 0; i < rows; ++i) to.push_back(merged.as<uint16_t>() + i * elements);
  ExpertMergeArgs args;
  args.base = from.data();
  args.experts = shape.experts;
  args.elements = elements;
  args.dtype = bench.weights();
  args.coefficient = coefficient.data();
  args.rows = rows;
  args.merged = to.data();
  double products = 0;
  for (float value : coefficient) products += value != 0;
  c.flops = 2 * products * static_cast<double>(elements);
  c.bytes = 2.0 * static_cast<double>(elements) * (shape.experts + rows);
  c.target = "2600 GB/s";
  c.out = &merged;
  c.run = [&] { bench.ops().expert_merge(args, bench.device()); };
  bench.run(c);
}

}  // namespace

void bench_merge(DeviceBench& bench) {
  const struct {
    int model;
    MergeShape shape;
  } cases[] = {{0, {8, 4, 1}},   {0, {8, 4, 8}},   {0, {8, 2, 8}},    {1, {8, 4, 1}},
               {2, {60, 30, 1}}, {2, {60, 30, 8}}, {3, {128, 64, 1}}, {3, {128, 64, 8}}};
  for (const auto& merge : cases) {
    if (bench.skips(merge.model)) continue;
    const ModelShape model = shape_of(kModels[merge.model], bench.tiny());
    const MergeShape& shape = merge.shape;
    for (int percent : {0, 25, 100}) {
      const std::string name = fmt::format(
          "{} {} to {}, {} candidates, {}", model.name, shape.experts, shape.kept, shape.candidates,
          percent == 0 ? "one-hot" : fmt::format("{} % of coefficients", percent));
      bench.attempt("B1", "expert_merge", name,
                    [&](OpCase c) { merge_case(bench, std::move(c), model, shape, percent); });
    }
  }
}

}  // namespace eep::bench
