// B3: grouped SwiGLU products over the experts of each model, many rows and few, even and uneven.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "bench/gpu/expert_layer.h"

namespace eep::bench {
namespace {

const char* spread_name(Spread spread) {
  switch (spread) {
    case Spread::kUniform:
      return "uniform";
    case Spread::kZipf:
      return "Zipf 1.0";
    case Spread::kOneEmpty:
      return "one empty";
    default:
      return "one giant";
  }
}

// Slot p of the sorted list belongs to row stride * p mod rows: every gathered row is far from the one
// before.
std::vector<int32_t> scattered(int64_t total) {
  int64_t stride = total / 2 + 7;
  while (std::gcd(stride, total) != 1) ++stride;
  std::vector<int32_t> order;
  for (int64_t p = 0; p < total; ++p) order.push_back(static_cast<int32_t>(p * stride % total));
  return order;
}

void experts_case(DeviceBench& bench, OpCase c, const ModelShape& model, int32_t groups, int64_t total,
                  Spread spread) {
  const std::vector<int64_t> sizes = group_sizes(total, groups, spread);
  std::vector<int32_t> offset{0};
  for (int64_t size : sizes) offset.push_back(offset.back() + static_cast<int32_t>(size));
  const int32_t slots = total % model.top_k == 0 ? model.top_k : 1;
  const ExpertLayer layer(bench, model, groups);
  const DeviceBuffer x = bench.random(total / slots * model.hidden, DType::kF32);
  const DeviceBuffer order = bench.upload(scattered(total)), offsets = bench.upload(offset);
  const DeviceBuffer activation = bench.empty(
                         static_cast<int64_t>(expert_ffn_scratch_bytes(total, model.intermediate))),
                     out = bench.empty(total * model.hidden * 4);
  ExpertFfnArgs args;
  args.x = x.as<float>();
  const DeviceBuffer x16 = bench.rounded(x, total / slots, model.hidden);
  args.x16 = x16.as<uint16_t>();
  args.slots = slots;
  args.order = order.as<int32_t>();
  args.offset = offsets.as<int32_t>();
  args.groups = groups;
  args.experts = layer.matrices.data();
  args.hidden = model.hidden;
  args.intermediate = model.intermediate;
  args.activation = activation.as<float>();
  args.out = out.as<float>();
  const auto used = static_cast<double>(groups - std::count(sizes.begin(), sizes.end(), 0));
  const auto matrix = static_cast<double>(model.hidden * model.intermediate),
             rows = static_cast<double>(total);
  c.flops = 6 * rows * matrix;
  c.bytes = 6 * used * matrix + 4 * rows * static_cast<double>(model.hidden) * (1 + 1.0 / slots) +
            8 * rows * static_cast<double>(model.intermediate);
  if (model.grouped_target > 0) c.target = fmt::format("{} TFLOP/s (700 with wgmma)", model.grouped_target);
  c.out = &out;
  c.run = [&] { bench.ops().expert_ffn(args, bench.device()); };
  bench.run(c);
}

}  // namespace

void bench_experts(DeviceBench& bench) {
  const struct {
    int model;
    int32_t groups;
    int64_t rows;  // of a group
  } cases[] = {{0, 4, 16384}, {1, 4, 16384}, {2, 30, 4369},  {3, 64, 4096},
               {3, 128, 20},  {3, 128, 192}, {3, 128, 1024}, {3, 128, 4096}};
  for (const auto& [number, all_groups, all_rows] : cases) {
    if (bench.skips(number) || (bench.tiny() && all_rows > 192 && all_groups == 128)) continue;
    const ModelShape model = shape_of(kModels[number], bench.tiny());
    const int32_t groups = bench.tiny() ? std::min(all_groups, 5) : all_groups;
    const int64_t rows = bench.tiny() ? std::min<int64_t>(all_rows, 20) : all_rows;
    for (Spread spread : {Spread::kUniform, Spread::kZipf, Spread::kOneEmpty, Spread::kOneGiant}) {
      bench.attempt(
          "B3", "expert_ffn",
          fmt::format("{} {} x {} rows, {}", model.name, groups, rows, spread_name(spread)),
          [&](OpCase c) { experts_case(bench, std::move(c), model, groups, groups * rows, spread); });
    }
  }
}

}  // namespace eep::bench
